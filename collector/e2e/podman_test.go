package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// TestPodman compares the metrics with what Podman's own commands print, before and after objects
// are removed. One image is in a read-only store, and a build that failed has left its container.
func TestPodman(t *testing.T) {
	t.Parallel()
	p, engine := startWithEngine(t, dockertest.Podman, "--docker.timeout=2m", "--collector.repositories=5")
	comparePodman(t, p, engine)
	populatePodman(t, engine)
	comparePodman(t, p, engine)
	if left := engine.Podman("ps", "--all", "--external", "--quiet"); len(strings.Fields(left)) != 7 {
		t.Errorf("got containers %q, want 6 and that of the build", left)
	}

	page := p.scrape()
	for _, absent := range []string{"docker_reclaimable_bytes{", "docker_reclaimable_exact{", "docker_reclaimable_min_bytes{", "docker_repository_", "docker_prunes_total{", "docker_pruned_bytes_total{", "docker_last_prune_timestamp_seconds{"} {
		if strings.Contains(page, absent) {
			t.Errorf("got %s, want no such series:\n%s", absent, page)
		}
	}
	engine.Podman("volume", "prune", "--force")
	engine.Podman("container", "prune", "--force")
	engine.Podman("image", "prune", "--force")
	comparePodman(t, p, engine)
	if strings.Contains(p.scrape(), "docker_prunes_total{") {
		t.Error("got prunes, want no such series")
	}
	for text, want := range map[string]int{"the engine is Podman": 1, "level=ERROR": 0, "level=WARN": 0} {
		if got := strings.Count(p.log.String(), text); got != want {
			t.Errorf("got %q %d times in the log, want %d:\n%s", text, got, want, p.log.String())
		}
	}
	status, err := exec.Command(binaryPath(), "status", "--warn=0", "--crit=0", "--docker.host="+engine.Host()).Output()
	if err != nil || strings.Count(string(status), "not reported for Podman") != 1 || strings.Contains(string(status), "unknown") || strings.Contains(string(status), "prune") {
		t.Errorf("status: %v\n%s", err, status)
	}
	if _, page := p.get("/"); strings.Count(page, "Not reported for Podman") != 1 || strings.Contains(page, "Reclaimable") {
		t.Errorf("the page:\n%s", page)
	}
}

// populatePodman makes images, containers and volumes of each kind.
func populatePodman(t *testing.T, engine *dockertest.Real) {
	engine.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\n", "-t", "app:1", "-t", "app:2", "-t", "shop/app:latest")
	engine.Build("FROM app:1\nLABEL step=1\nLABEL step=2\n", "-t", "moved:1")
	engine.Build("FROM app:1\nLABEL step=3\nLABEL step=4\n", "-t", "moved:1")
	archive := filepath.Join(engine.Dir, "archive.tar")
	write(t, filepath.Join(engine.Dir, "file"), strings.Repeat("content ", 100_000))
	if output, err := exec.Command("tar", "-C", engine.Dir, "-cf", archive, "file").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	engine.Podman("import", archive, "imported:1")
	engine.Podman("save", "--output", archive+".saved", "imported:1")
	engine.Podman("rmi", "imported:1")
	engine.Podman("load", "--input", archive+".saved")
	engine.Podman("import", archive)
	// The option keeps the additional store from being used as its own.
	engine.Podman("--root", engine.Dir+"/ro", "--storage-opt", "overlay.mountopt=nodev", "import", archive, "read-only:1")

	engine.Podman("volume", "create", "unused")
	engine.Podman("run", "--detach", "--name=web", "--volume=used:/data", "app:1")
	engine.Podman("run", "--detach", "--name=frozen", "moved:1")
	engine.Podman("pause", "frozen")
	engine.Podman("run", "--name=done", "app:1", "/file", "100000")
	engine.Podman("run", "--detach", "--name=failed", "app:1", "3")
	engine.Podman("create", "--name=never-run", "imported:1", "/idle")
	engine.Podman("pod", "create", "--name=pod", "--infra-image=app:2")
	write(t, filepath.Join(engine.Dir, "Failing"), "FROM moved:1\nRUN [\"/idle\", \"1\"]\n")
	build := exec.Command("podman", "build", "--network=none", "--force-rm=false", "--rm=false", "--file="+engine.Dir+"/Failing", engine.Dir+"/context")
	build.Env = append(os.Environ(), "CONTAINERS_CONF="+engine.Dir+"/containers.conf", "CONTAINERS_STORAGE_CONF="+engine.Dir+"/storage.conf")
	if output, err := build.CombinedOutput(); err == nil {
		t.Fatalf("the build succeeds:\n%s", output)
	}
}

// comparePodman compares the metrics with the output of Podman's commands.
func comparePodman(t *testing.T, p *program, engine *dockertest.Real) {
	t.Helper()
	lines := func(args ...string) map[string]int { // how often each line is printed
		count := make(map[string]int)
		for _, line := range strings.Split(engine.Podman(args...), "\n") {
			if line != "" {
				count[line]++
			}
		}
		return count
	}
	all := len(lines("images", "--all", "--no-trunc", "--quiet"))
	names := lines("images", "--all", "--format={{.Repository}}:{{.Tag}}")
	dangling := len(lines("images", "--no-trunc", "--quiet", "--filter=dangling=true"))
	untagged := names["<none>:<none>"]
	delete(names, "<none>:<none>")
	want := map[string]float64{
		"docker_up": 1, "docker_images_tagged": float64(all - untagged), "docker_images_untagged": float64(untagged),
		"docker_images_dangling": float64(dangling), "docker_images_intermediate": float64(untagged - dangling), "docker_image_tags": float64(len(names)),
		`docker_volumes{in_use="false"}`: float64(len(lines("volume", "ls", "--quiet", "--filter=dangling=true"))),
		`docker_volumes{in_use="true"}`:  float64(len(lines("volume", "ls", "--quiet", "--filter=dangling=false"))),
	}
	for _, state := range []string{"created", "running", "paused", "restarting", "removing", "exited", "dead"} {
		want[`docker_containers{state="`+state+`"}`] = 0
	}
	var containers []struct {
		State string
		Size  struct{ RwSize float64 }
	}
	if err := json.Unmarshal([]byte(engine.Podman("ps", "--all", "--size", "--format=json")), &containers); err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		want[`docker_containers{state="`+c.State+`"}`]++
		want[`docker_disk_usage_bytes{resource="containers"}`] += c.Size.RwSize
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(engine.Dir+"/data", &disk); err != nil {
		t.Fatal(err)
	}
	want[`docker_filesystem_size_bytes{path="`+engine.Dir+`/data"}`] = float64(disk.Blocks) * float64(disk.Bsize)
	p.shows(want)
}
