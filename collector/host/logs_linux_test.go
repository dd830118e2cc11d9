package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// writeFile writes a file of a size below a directory.
func writeFile(t testing.TB, path string, size int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, size), 0o640); err != nil {
		t.Fatal(err)
	}
}

// allocated returns the bytes that files take.
func allocated(t testing.TB, dir string, names ...string) (sum int64) {
	t.Helper()
	for _, name := range names {
		var stat syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(dir, name), &stat); err != nil {
			t.Fatal(err)
		}
		sum += stat.Blocks * 512
	}
	return sum
}

// mapped returns Filesystems that see the root directory of an engine in a directory.
func mapped(dir string) (*Filesystems, Engine) {
	return New([]MountMapping{{"/var/lib/docker", dir}}, nil), Engine{Roots: Roots{Docker: "/var/lib/docker"}}
}

// TestLogs checks which files of a container's directory are its log, and what goes with it.
func TestLogs(t *testing.T) {
	files := map[string]int{ // size by name; ID is that of the container
		"ID-json.log": 70_000, "ID-json.log.1": 30_000, "ID-json.log.2.gz": 9000,
		"container-cached.log": 5000, "container-cached.log.1": 5001,
		"local-logs/container.log": 20_000, "local-logs/container.log.1.gz": 6000,
	}
	var logs []string
	dir, elsewhere := t.TempDir(), t.TempDir()
	home := filepath.Join(dir, "containers", id)
	for name, size := range files {
		name = strings.ReplaceAll(name, "ID", id)
		writeFile(t, filepath.Join(home, name), size)
		logs = append(logs, name)
	}
	others := []string{".", "config.v2.json", "local-logs", "mounts", otherID + "-json.log"}
	writeFile(t, home+"/config.v2.json", 3000)
	writeFile(t, home+"/"+otherID+"-json.log", 8000)
	writeFile(t, home+"/mounts/shm/large", 500_000)
	writeFile(t, elsewhere+"/log", 900_000)
	for _, err := range []error{
		os.Symlink(elsewhere+"/log", home+"/"+id+"-json.log.3"),
		os.Symlink(elsewhere, home+"/checkpoints"),
		os.Symlink(home, dir+"/containers/"+strings.Repeat("1", 64)), // it is not followed
		syscall.Mkfifo(home+"/"+id+"-json.log.4", 0o600),
		os.Link(elsewhere+"/log", home+"/"+id+"-json.log.5"), // removing it frees nothing
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, engine := mapped(dir)
	got, err := f.Logs(t.Context(), engine, []string{id, otherID, "../" + filepath.Base(elsewhere), ""})
	want := LogSize{Logs: allocated(t, home, logs...) + allocated(t, elsewhere, "log")}
	want.Freed = allocated(t, home, logs...) + allocated(t, home, others...)
	if err != nil || got.Err != nil || len(got.Sizes) != 1 || got.Sizes[id] != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := f.Logs(t.Context(), engine, []string{id, strings.Repeat("1", 64)}); err != nil || got.Err == nil || len(got.Sizes) != 1 {
		t.Errorf("a link in the place of a directory: %+v, %v", got, err)
	}
	for i := range maxLogEntries {
		writeFile(t, fmt.Sprintf("%s/containers/%s/%d", dir, otherID, i), 0)
	}
	if got, err := f.Logs(t.Context(), engine, []string{id, otherID}); err != nil || got.Err != nil || len(got.Sizes) != 2 {
		t.Errorf("many files: %v, %v", got.Err, err)
	}
	writeFile(t, fmt.Sprintf("%s/containers/%s/more", dir, otherID), 0)
	if got, err := f.Logs(t.Context(), engine, []string{id, otherID}); err != nil || !errors.Is(got.Err, errTooMany) || len(got.Sizes) != 1 {
		t.Errorf("too many files: %+v, %v", got, err)
	}
}

// TestLogsNotFound checks that a directory without the engine's containers is not its.
func TestLogsNotFound(t *testing.T) {
	dir := t.TempDir()
	f, engine := mapped(dir)
	isLeftOut := func(err error) bool {
		failure := new(model.Failure)
		return errors.As(err, &failure) && failure.NoAccess && strings.Contains(failure.Hint, "--no-collector.container-logs")
	}
	if _, err := f.Logs(t.Context(), engine, nil); !isLeftOut(err) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	writeFile(t, dir+"/containers/"+otherID+"/hostname", 1)
	if _, err := f.Logs(t.Context(), engine, []string{id}); !isLeftOut(err) {
		t.Errorf("other containers: %v", err)
	}
	if got, err := f.Logs(t.Context(), engine, nil); err != nil || len(got.Sizes) != 0 {
		t.Errorf("an engine without containers: %v, %v", got, err)
	}
	if _, err := New(nil, nil).Logs(t.Context(), engine, []string{otherID}); !isLeftOut(err) || !errors.Is(err, errNotProven) {
		t.Errorf("an engine that is elsewhere: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Logs(ctx, engine, []string{otherID}); isLeftOut(err) || err == nil {
		t.Errorf("without time: %v", err)
	}
}

// TestDirectories checks where the directories of an engine are found.
func TestDirectories(t *testing.T) {
	inContainer := ownOverlay(overlay2Layer) + ownMounts
	tests := []struct{ name, local, engine, path, want string }{
		{"on the host", hostMounts, hostMounts, "/var/lib/docker/containers", "[/var/lib/docker/containers]"},
		{"a disk that is mounted below the root directory", hostMounts + "21 20 8:2 / /var/lib/docker/containers rw - ext4 /dev/sdb rw\n",
			hostMounts + "21 20 8:2 / /var/lib/docker/containers rw - ext4 /dev/sdb rw\n", "/var/lib/docker/containers", "[/var/lib/docker/containers]"},
		{"a disk that only the engine sees", hostMounts, hostMounts + "21 20 8:2 / /var/lib/docker/containers rw - ext4 /dev/sdb rw\n", "/var/lib/docker/containers", "[]"},
		{"an engine in a container", hostMounts, "30 1 0:40 / / rw - overlay overlay rw\n31 30 8:1 /volumes/a/_data /var/lib/docker rw - ext4 /dev/sda1 rw\n",
			"/var/lib/docker/image", "[/volumes/a/_data/image]"},
		{"a directory that another mount hides here", hostMounts + "21 20 8:2 / /var/lib/docker rw - ext4 /dev/sdb rw\n", hostMounts, "/var/lib/docker/containers", "[]"},
		{"in a container without it", inContainer, "", "/var/lib/docker/containers", "[]"},
		{"in a container that has it mounted", inContainer + "61 50 8:1 /var/lib/docker /root ro - ext4 /dev/sda1 rw\n", "", "/var/lib/docker/image", "[/root/image]"},
		{"in a container that has the containers mounted", inContainer + "61 50 8:1 /var/lib/docker/containers /logs ro - ext4 /dev/sda1 rw\n", "", "/var/lib/docker/containers", "[/logs]"},
		{"in a container that has the containers mounted, not the rest", inContainer + "61 50 8:1 /var/lib/docker/containers /logs ro - ext4 /dev/sda1 rw\n", "", "/var/lib/docker/image", "[]"},
		{"in a container with the same directory of another disk", inContainer + "61 50 8:9 /var/lib/docker /var/lib/docker ro - ext4 /dev/sda9 rw\n", "", "/var/lib/docker/containers", "[]"},
		{"in a container, beside the root directory", inContainer + "61 50 8:1 / /host ro - ext4 /dev/sda1 rw\n", "", "/etc", "[]"},
		{"in a container whose engine keeps its containers on a disk of their own", strings.ReplaceAll(inContainer, "8:1 /var/lib/docker/containers/", "8:5 /") +
			"61 50 8:5 / /var/lib/docker/containers ro - ext4 /dev/sdc rw\n", "", "/var/lib/docker/containers", "[/var/lib/docker/containers]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := New(nil, nil)
			f.timeout = time.Minute
			f.locator = newMachine(test.local, test.engine).locator(t)
			e := Engine{overlay2Engine(), func(_ context.Context, has string) (bool, error) { return has == id, nil }}
			seen, err := f.directories(t.Context(), e, test.path)
			var got []string
			for _, at := range seen {
				got = append(got, at.path)
			}
			if fmt.Sprint(got) != test.want || (err == nil) != (test.want != "[]") {
				t.Errorf("got %v, %v, want %s", got, err, test.want)
			}
		})
	}
}

// TestDirectoriesAfterRestart checks that the start of the engine is that of the process that runs now.
func TestDirectoriesAfterRestart(t *testing.T) {
	m := newMachine(hostMounts, hostMounts)
	f := New(nil, nil)
	f.timeout, f.locator = time.Minute, m.locator(t)
	e := Engine{overlay2Engine(), func(context.Context, string) (bool, error) { return false, nil }}
	starts := make(map[time.Time]bool)
	for _, pid := range []int{500, 500, 600} {
		if pid == 600 {
			if err := os.RemoveAll(f.locator.root + "/proc/500"); err != nil {
				t.Fatal(err)
			}
			m.process(pid, 1, "dockerd", "dockerd", hostMounts)
			stat := fmt.Sprintf("600 (dockerd) S 1 %s 360000 %s", strings.Repeat("0 ", 17), strings.Repeat("0 ", 40))
			for name, content := range m.files {
				if strings.HasPrefix(name, "/proc/600/") {
					if strings.HasSuffix(name, "/stat") {
						content = stat
					}
					writeFile(t, f.locator.root+name, 0)
					if err := os.WriteFile(f.locator.root+name, []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			m.peer = pid
			f.locator.peer = func(context.Context) (int, error) { return m.peer, nil }
		}
		seen, err := f.directories(t.Context(), e, "/var/lib/docker")
		if err != nil || len(seen) != 1 || !seen[0].isProven {
			t.Fatalf("%+v, %v", seen, err)
		}
		starts[seen[0].since] = true
	}
	if len(starts) != 2 {
		t.Errorf("the engine started at %v, want two times", starts)
	}
}

// BenchmarkLogs reads 1,000 containers with 8 log files each.
func BenchmarkLogs(b *testing.B) {
	dir := b.TempDir()
	var ids []string
	for i := range 1000 {
		id := fmt.Sprintf("%064x", i)
		ids = append(ids, id)
		for n := range 8 {
			writeFile(b, fmt.Sprintf("%s/containers/%s/%s-json.log.%d", dir, id, id, n), 1)
		}
	}
	f, engine := mapped(dir)
	for b.Loop() {
		if got, err := f.Logs(b.Context(), engine, ids); err != nil || len(got.Sizes) != len(ids) {
			b.Fatal(err)
		}
	}
}

// TestDirectoryIsLink checks that a directory that was moved and linked is left out, with a hint.
func TestDirectoryIsLink(t *testing.T) {
	dir := t.TempDir()
	f, engine := mapped(dir)
	writeFile(t, dir+"/moved/"+id+"/"+id+"-json.log", 5000)
	if err := os.Symlink("moved", dir+"/containers"); err != nil {
		t.Fatal(err)
	}
	_, err := f.Logs(t.Context(), engine, []string{id})
	failure := new(model.Failure)
	if !errors.As(err, &failure) || !failure.NoAccess || !strings.Contains(failure.Reason, "a link is not followed") {
		t.Errorf("logs: %v", err)
	}
	if _, err := f.Leftovers(t.Context(), engine, []string{id}); !errors.As(err, &failure) || !failure.NoAccess {
		t.Errorf("leftovers: %v", err)
	}
}
