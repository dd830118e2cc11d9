package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// directoryOf returns the directory that an engine keeps for a container, and which of its files
// are the log.
func directoryOf(t *testing.T, engine *dockertest.Real, id string) (dir string, logs []string) {
	t.Helper()
	dir = filepath.Join(engine.Dir, "data/containers", id)
	return dir, append(glob(t, dir, "*.log*"), glob(t, dir, "local-logs/*")...)
}

const (
	logUsage = `docker_disk_usage_bytes{resource="container_logs"}`
	logReads = `docker_scrape_collector_success{collector="container_logs"}`
)

func pruneSeries(figure, command string) string {
	return fmt.Sprintf("docker_reclaimable_%s{command=%q}", figure, command)
}

// TestContainerLogs checks that the logs of stopped containers are in what container prunes free,
// to the block, whichever driver keeps them, and that those of running ones are not. One has
// 100 MB, or 500 MB with DOCKER_BUILDUP_LARGE.
func TestContainerLogs(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		engine := dockertest.Start(t, kind)
		if err := os.Chmod(engine.Socket(), 0o666); err != nil {
			t.Fatal(err)
		}
		// Without containerd, so that the figures differ by the logs only.
		args := []string{"--docker.host=" + engine.Host(), "--containerd.address=none"}
		counts := start(t, args...)
		ignores := start(t, append(args, "--no-collector.container-logs")...)
		denied := startAs(t, unprivileged(), args...)
		importBase(t, engine)
		stopped, running := writeLogs(t, engine)
		var page map[string]float64
		var freed, used float64
		eventually(t, "the logs that du counts", func() bool { // rotated ones are compressed in the background
			freed, used = 0, 0
			for _, id := range slices.Concat([]string{running}, slices.Collect(maps.Values(stopped))) {
				dir, logs := directoryOf(t, engine, id)
				for _, file := range logs {
					used += float64(treeBytes(file, true))
				}
				if id != running {
					freed += float64(treeBytes(dir, true))
				}
			}
			page = values(t, counts.scrape())
			_, log := directoryOf(t, engine, running)
			return page[logUsage] == used && len(log) == 1 && strings.Count(readFile(t, log[0]), "\n") == logLines
		})
		for name, id := range stopped {
			dir, logs := directoryOf(t, engine, id)
			if (len(logs) == 0) != (name == "none") {
				t.Errorf("driver %s keeps %v in %s", name, logs, dir)
			}
		}
		t.Logf("the logs have %.0f bytes", used)
		if used < 100_000_000 || page[logReads] != 1 {
			t.Errorf("logs use %v bytes, success %v: %s", used, page[logReads], counts.log.String())
		}
		without, denials := values(t, ignores.scrape()), values(t, denied.scrape())
		compareLogFigures(t, page, without, denials, freed)
		if log := denied.log.String(); strings.Count(log, "root directory cannot be read") != 1 || !strings.Contains(log, "disks mounted below it") || strings.Contains(ignores.log.String(), "container logs\"") {
			t.Errorf("without access, the log is\n%s", log)
		}
		all := filepath.Join(engine.Dir, "data/containers")
		before := treeBytes(all, true)
		engine.Docker("container", "prune", "-f")
		if got := before - treeBytes(all, true); float64(got) != freed {
			t.Errorf("the prune freed %d bytes of %s, want %v", got, all, freed)
		}
		counts.shows(map[string]float64{pruneSeries("bytes", "docker container prune"): 0, pruneSeries("exact", "docker container prune"): 1})
		if left := values(t, counts.scrape())[logUsage]; left < 8_000_000 {
			t.Errorf("the log of the running container: %v bytes", left)
		}
	})
}

// isLarge reports whether tests write as much as the disk of a large host may have, which takes
// too long for each run.
func isLarge() bool { return os.Getenv("DOCKER_BUILDUP_LARGE") != "" }

// logLines is how many lines of about 1000 bytes most logs have.
const logLines = 8000

// writeLogs makes a container with a log for each driver that runs until its log is written, and one that goes
// on running. It returns the IDs of those that have stopped by driver.
func writeLogs(t *testing.T, engine *dockertest.Real) (stopped map[string]string, running string) {
	t.Helper()
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	stopped = make(map[string]string)
	for name, options := range map[string]string{
		"json-file":   "--log-driver=json-file",
		"rotated":     "--log-driver=json-file --log-opt=max-size=3m --log-opt=max-file=3 --log-opt=compress=true",
		"local":       "--log-driver=local --log-opt=max-size=3m",
		"dual":        "--log-driver=syslog --log-opt=syslog-address=udp://" + sink.LocalAddr().String(),
		"dual, plain": "--log-driver=gelf --log-opt=cache-compress=false --log-opt=gelf-address=udp://" + sink.LocalAddr().String(),
		"none":        "--log-driver=none",
	} {
		lines := logLines
		if name == "json-file" {
			lines = 100_000
			if isLarge() {
				lines = 500_000
			}
		}
		stopped[name] = writeLog(engine, lines, "true", strings.Fields(options)...)
	}
	for _, id := range stopped {
		engine.Docker("wait", id)
	}
	return stopped, writeLog(engine, logLines, "sleep 9999", "--log-driver=json-file")
}

// compareLogFigures checks that a page differs from those without logs by what these free, and that only it has
// exact figures, and figures of logs.
func compareLogFigures(t *testing.T, page, without, denials map[string]float64, freed float64) {
	t.Helper()
	for _, command := range []string{"docker container prune", "docker system prune", "docker system prune --all", "docker system prune --all --volumes"} {
		for _, figure := range []string{"bytes", "min_bytes"} {
			series := pruneSeries(figure, command)
			if got := page[series] - without[series]; got != freed {
				t.Errorf("%s: %v more with logs, and du says %v", series, got, freed)
			}
			if denials[series] != without[series] {
				t.Errorf("%s: %v without access, want %v", series, denials[series], without[series])
			}
		}
	}
	exact := pruneSeries("exact", "docker container prune")
	if page[exact] != 1 || without[exact] != 0 || denials[exact] != 0 {
		t.Errorf("exact: %v with logs, %v without, %v without access", page[exact], without[exact], denials[exact])
	}
	for name, page := range map[string]map[string]float64{"switched off": without, "without access": denials} {
		_, isKnown := page[logUsage]
		if _, reads := page[logReads]; isKnown || reads {
			t.Errorf("%s: logs are known: %v, have a collector: %v", name, isKnown, reads)
		}
	}
}

// TestLogsInContainer checks the command of the README, and that logs need no capability: with the
// engine's root directory, or only that of the containers, mounted into its container.
func TestLogsInContainer(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		engine := dockertest.Start(t, kind)
		importProgram(t, engine)
		importBase(t, engine)
		id := writeLog(engine, 2000, "true", "--log-driver=json-file")
		engine.Docker("wait", id)
		data := filepath.Join(engine.Dir, "data")
		_, logs := directoryOf(t, engine, id)
		want := treeBytes(logs[0], true)
		user := []string{"--user=0:0"}
		for _, test := range []struct {
			options []string
			isKnown bool
		}{
			{nil, false},
			{user, false},
			{append(user, "--cap-add=DAC_READ_SEARCH", "-v="+data+":"+data+":ro"), true}, // as in the README
			{append(user, "-v="+data+":"+data+":ro"), true},
			{append(user, "-v="+data+"/containers:"+data+"/containers:ro"), true},
			{append(user, "-v="+data+":/elsewhere:ro"), true},
			{[]string{"-v=" + data + ":" + data + ":ro"}, false}, // its user may not
		} {
			_, output := runStatus(t, engine, test.options...)
			line := fmt.Sprintf("container logs %.4g MB", float64(want)/1e6)
			if got := strings.Contains(strings.Join(strings.Fields(output), " "), line); got != test.isKnown {
				t.Errorf("%v: %q is shown: %v, want %v:\n%s", test.options, line, got, test.isKnown, output)
			}
		}
	})
}

// TestDataRootCapability checks that the one capability of the systemd drop-in lets an unprivileged
// user read logs and leftovers, and that without it there are none.
func TestDataRootCapability(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("requires root to become another user")
	}
	const dacReadSearch = 2
	address, _ := serveFake(t, filepath.Join(engines, "29-overlay2"))
	var containers []struct{ ID string }
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(engines, "29-overlay2/containers.json"))), &containers); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, c := range containers {
		home := filepath.Join(dir, "containers", c.ID)
		if err := os.MkdirAll(home, 0o710); err != nil { // as the engine makes it
			t.Fatal(err)
		}
		write(t, filepath.Join(home, c.ID+"-json.log"), strings.Repeat("x", 8192))
	}
	for _, capabilities := range [][]uintptr{nil, {dacReadSearch}} {
		user := syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: capabilities}
		output := statusIn(t, user, nil, "--docker.host="+address, "--filesystem.path=/var/lib/docker="+dir)
		for _, line := range []string{"container logs  " + fmt.Sprintf("%.4g kB", float64(len(containers)*8192)/1e3), "leftovers       0 B"} {
			if got := strings.Contains(output, line); got != (capabilities != nil) {
				t.Errorf("with the capabilities %v, %q is shown: %v:\n%s", capabilities, line, got, output)
			}
		}
	}
}

// importBase makes the image "base", which has a shell.
func importBase(t *testing.T, engine *dockertest.Real) {
	t.Helper()
	archive := filepath.Join(engine.Dir, "base.tar")
	if err := os.WriteFile(archive, baseLayer(t, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	engine.Docker("import", archive, "base")
}

// writeLog starts a container that writes lines of 1000 characters to its log and then runs a
// command, and returns its ID.
func writeLog(engine *dockertest.Real, lines int, command string, options ...string) string {
	script := fmt.Sprintf("yes %s | head -n %d; %s", strings.Repeat("x", 999), lines, command)
	return engine.Docker(append(append([]string{"run", "-d", "--network=none"}, options...), "base", "/bin/sh", "-c", script)...)
}
