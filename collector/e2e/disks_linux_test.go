package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// mountDisk mounts a tmpfs of a size in MiB in the folder of an engine, which unmounts it.
func mountDisk(t *testing.T, dir string, size int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("requires root to mount file systems")
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=711,size=%dm", size)); err != nil {
		t.Fatal(err)
	}
}

// fill leaves 3 % of a file system free while a function runs.
func fill(t *testing.T, dir string, run func()) {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "filler")
	if err := os.WriteFile(file, make([]byte, int64(s.Bavail-s.Blocks*3/100)*int64(s.Bsize)), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	run()
}

// startContainerd starts a containerd for an engine, with its root on a disk of its own, and
// makes the engine use it.
func startContainerd(t *testing.T, engine *dockertest.Real) (root string) {
	t.Helper()
	root = filepath.Join(engine.Dir, "moved")
	mountDisk(t, root, 400)
	socket := filepath.Join(engine.Dir, "containerd.sock")
	config := filepath.Join(engine.Dir, "containerd.toml")
	write(t, config, fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n", root, filepath.Join(engine.Dir, "containerd-state"), socket))
	folder, err := exec.Command("../../.ci/build-engine29").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(folder))
	containerd := exec.Command(filepath.Join(dir, "containerd"), "--config", config)
	if err := os.Chmod(config, 0o644); err != nil { // as a package installs it
		t.Fatal(err)
	}
	containerd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	containerd.SysProcAttr = dockertest.Child()
	if err := containerd.Start(); err != nil {
		t.Fatal(err)
	}
	engine.Removed = func() {
		containerd.Process.Signal(syscall.SIGTERM)
		containerd.Wait()
	}
	eventually(t, "containerd", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	engine.Flags = append(engine.Flags, "--containerd="+socket)
	return root
}

// size returns the series of the size of a file system.
func size(path string) string { return fmt.Sprintf("docker_filesystem_size_bytes{path=%q}", path) }

// TestDisks checks that every disk of a host is measured: the root directory's, one that is
// mounted below it, and containerd's, which has been moved. A user who may only use the
// engine's socket cannot reach what is mounted below the root directory.
func TestDisks(t *testing.T) {
	folder := dockertest.Prepare(t, dockertest.Docker29Containerd)
	data := filepath.Join(folder.Dir, "data")
	mountDisk(t, data, 300)
	mountDisk(t, filepath.Join(data, "volumes"), 200)
	moved := startContainerd(t, folder)
	folder.Start()
	if err := os.Chmod(folder.Socket(), 0o666); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{data: 300 << 20, data + "/volumes": 200 << 20, moved: 400 << 20}
	for _, user := range []syscall.Credential{ownUser(), unprivileged()} {
		uid := user.Uid
		p := startAs(t, user, "--docker.host="+folder.Host())
		got := values(t, p.scrape())
		for path, bytes := range want {
			if isClosed := uid != 0 && path == data+"/volumes"; isClosed {
				bytes = 0
				p.logs("cannot measure the file system "+path, "permission denied", "run the exporter as root")
			}
			if got[size(path)] != bytes {
				t.Errorf("user %d: %s is %v, want %v", uid, size(path), got[size(path)], bytes)
			}
		}
		if success := got[`docker_scrape_collector_success{collector="filesystems"}`]; (success == 1) != (uid == 0) {
			t.Errorf("user %d: success %v: %s", uid, success, p.log.String())
		}
	}
	for path := range want {
		fill(t, path, func() {
			if code, output, _ := status(t, "--docker.host="+folder.Host(), "--timeout=15s"); code != 2 || !strings.Contains(output, path+" has 3") && !strings.Contains(output, path+" has 2") {
				t.Errorf("%s is full: exit code %d, %s", path, code, output)
			}
		})
	}
	// What was found stays when the engine goes away.
	p := start(t, "--docker.host="+folder.Host())
	p.scrape()
	folder.Signal(syscall.SIGKILL)
	folder.Wait()
	if got := values(t, p.scrape()); got["docker_up"] != 0 || got[size(moved)] != want[moved] {
		t.Errorf("without the engine: docker_up %v, %s is %v", got["docker_up"], size(moved), got[size(moved)])
	}
}

// TestOtherDisks checks that no disk is measured that is not the engine's.
func TestOtherDisks(t *testing.T) {
	engine := dockertest.Prepare(t, dockertest.Docker20)
	data := filepath.Join(engine.Dir, "data")
	dockertest.Need(t, "unshare")
	engine.Wrapper = []string{"unshare", "--mount", "sh", "-euc", `mkdir -p "$0"; mount -t tmpfs tmpfs "$0"; exec "$@"`, data}
	engine.Start()
	p := start(t, "--docker.host="+engine.Host())
	if got, found := values(t, p.scrape())[size(data)]; found {
		t.Errorf("in another mount namespace: %s is %v", size(data), got)
	}
	p.logs("cannot measure the file system "+data, "sees no directory")

	// A process that forwards to the engine is not the engine.
	forwarded := filepath.Join(engine.Dir, "forwarded.sock")
	listener, err := net.Listen("unix", forwarded)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go forward(listener, engine.Socket())
	p = start(t, "--docker.host=unix://"+forwarded)
	got := values(t, p.scrape())
	if _, found := got[size(data)]; found || got["docker_up"] != 1 || got[`docker_scrape_collector_success{collector="filesystems"}`] != 0 {
		t.Errorf("behind another process: %v", got)
	}
	p.logs("cannot measure the file system "+data, "nothing shows that the engine runs on this machine")
	if code, output, _ := status(t, "--docker.host=unix://"+forwarded); code != 3 || !strings.Contains(output, data+" could not be measured") {
		t.Errorf("exit code %d, %s", code, output)
	}
}

// forward connects everything that a listener accepts to a Unix socket.
func forward(listener net.Listener, socket string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		engine, err := net.Dial("unix", socket)
		if err != nil {
			conn.Close()
			continue
		}
		go func() { io.Copy(engine, conn); engine.Close() }()
		go func() { io.Copy(conn, engine); conn.Close() }()
	}
}

// TestDisksInContainer checks the command of the README: without a mount, the exporter measures
// the disk of the root directory and that of the images.
func TestDisksInContainer(t *testing.T) {
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		engine := dockertest.Prepare(t, kind)
		data := filepath.Join(engine.Dir, "data")
		mountDisk(t, data, 300)
		images := filepath.Join(data, "overlay2")
		switch kind {
		case dockertest.Docker29Containerd:
			images = startContainerd(t, engine)
		default:
			mountDisk(t, images, 200)
		}
		engine.Start()
		importProgram(t, engine)
		run := func() (int, string) { return runStatus(t, engine) }
		if code, output := run(); code != 0 || strings.Count(output, "\n"+engine.Dir+"/") != 2 {
			t.Errorf("exit code %d, want 0 and two disks:\n%s", code, output)
		}
		for _, path := range []string{data, images} {
			fill(t, path, func() {
				if code, output := run(); code != 2 || !strings.Contains(output, path+" has 3") && !strings.Contains(output, path+" has 2") {
					t.Errorf("%s is full: exit code %d, want 2:\n%s", path, code, output)
				}
			})
		}
	})
}

// TestBtrfsInContainer checks that a Btrfs file system is measured once, of which a container has
// a subvolume as its root file system.
func TestBtrfsInContainer(t *testing.T) {
	engine := dockertest.Prepare(t, dockertest.Docker20)
	if os.Getuid() != 0 {
		t.Skip("requires root to mount file systems")
	}
	data, image := filepath.Join(engine.Dir, "data"), filepath.Join(engine.Dir, "image")
	mkfs := exec.Command("sh", "-euc", `mkdir "$1"; truncate -s 600M "$0"; mkfs.btrfs -q "$0"; mount -o loop "$0" "$1"`, image, data)
	dockertest.Need(t, "mkfs.btrfs")
	if output, err := mkfs.CombinedOutput(); err != nil {
		t.Skipf("this machine mounts no Btrfs: %v\n%s", err, output)
	}
	engine.Flags = []string{"--storage-driver=btrfs"}
	engine.Start()
	importProgram(t, engine)
	if code, output := runStatus(t, engine); code != 0 || strings.Count(output, "\n"+engine.Dir+"/") != 1 || !strings.Contains(output, "OK - "+data+" has ") {
		t.Errorf("exit code %d, want 0 and one disk:\n%s", code, output)
	}
}

// runStatus runs the command status in a container, with the options of the README and others.
func runStatus(t *testing.T, engine *dockertest.Real, options ...string) (code int, output string) {
	t.Helper()
	socket := engine.Socket()
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("docker", slices.Concat([]string{
		"run", "--rm", "--network=host", "--read-only", "--cap-drop=ALL",
		"--group-add", fmt.Sprint(info.Sys().(*syscall.Stat_t).Gid), "-v", socket + ":/var/run/docker.sock",
	}, options, []string{"exporter", "status", "--timeout=15s"})...)
	command.Env = append(os.Environ(), "DOCKER_HOST="+engine.Host(), "DOCKER_CONFIG="+engine.Dir)
	combined, _ := command.CombinedOutput()
	return command.ProcessState.ExitCode(), string(combined)
}

// programArchive builds the program as in the Dockerfile, once, and returns an archive of it.
var programArchive = sync.OnceValues(func() ([]byte, error) {
	dir := filepath.Join(os.Getenv("E2E_BINARIES"), "image")
	build := exec.Command("go", "build", "-o", filepath.Join(dir, binary), root)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, output)
	}
	return exec.Command("tar", "-c", "-C", dir, binary).Output()
})

// importProgram makes the image "exporter" of the program, with the user of the Dockerfile.
func importProgram(t *testing.T, engine *dockertest.Real) {
	t.Helper()
	archive, err := programArchive()
	if err != nil {
		t.Fatal(err)
	}
	load := exec.Command("docker", "import", "--change", "USER 65534:65534", "--change", `ENTRYPOINT ["/`+binary+`"]`, "-", "exporter")
	load.Env = append(os.Environ(), "DOCKER_HOST="+engine.Host(), "DOCKER_CONFIG="+engine.Dir)
	load.Stdin = bytes.NewReader(archive)
	if output, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}
