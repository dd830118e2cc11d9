package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// A storage is a storage driver on a file system.
type storage struct {
	kind    dockertest.Kind
	driver  string // "" for the one of the kind
	fs      string // ext4, xfs, btrfs or tmpfs
	options string // of the mount
}

func (s storage) String() string {
	return strings.Join(strings.Fields(fmt.Sprint(s.kind, " ", s.driver, " ", s.fs, " ", s.options)), "-")
}

// TestStorageDrivers checks the figures of cleanup commands with storage drivers and on file systems that
// compress, share or repeat data, with sparse files and with logs. Whatever the storage, a minimum is
// not above what is freed, an exact estimate is true, and no estimate is above what is in use.
func TestStorageDrivers(t *testing.T) {
	t.Parallel()
	const zstd = "compress-force=zstd"
	for _, s := range []storage{
		{dockertest.Docker20, "", "ext4", ""},
		{dockertest.Docker20, "", "xfs", ""},
		{dockertest.Docker20, "", "tmpfs", ""},
		{dockertest.Docker20, "overlay2", "btrfs", zstd},
		{dockertest.Docker20, "vfs", "ext4", ""},
		{dockertest.Docker20, "fuse-overlayfs", "ext4", ""},
		{dockertest.Docker20, "btrfs", "btrfs", ""},
		{dockertest.Docker20, "btrfs", "btrfs", zstd},
		{dockertest.Docker29Containerd, "", "ext4", ""},
		{dockertest.Docker29Containerd, "", "btrfs", zstd},
		{dockertest.Docker29Containerd, "native", "ext4", ""},
	} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			testStorage(t, s)
		})
	}
}

// testStorage is TestStorageDrivers for one storage.
func testStorage(t *testing.T, s storage) {
	dir := mountStorage(t, s)
	var flags []string
	if s.driver != "" {
		flags = []string{"--storage-driver=" + s.driver}
	}
	h := newPruneHost(t, dockertest.StartIn(t, s.kind, dir, flags...))
	h.diskUse = func() map[string]int64 { return map[string]int64{"file system": usedBytes(t, dir)} }
	random, zeros := h.bytes(4_000_000), make([]byte, 12_000_000)
	h.source("base", "base.tar", imageArchive(t, "base:1", time.Now(), true, baseLayer(t, append(random, zeros...))))
	h.source("app", "random", h.bytes(6_000_000))
	h.source("app", "zeros", zeros)

	h.populate()
	h.checkStorage("docker container prune")
	h.checkStorage("docker image prune")
	h.checkStorage("docker image prune --all")
	h.populate()
	h.checkStorage("docker builder prune")
	h.checkStorage("docker builder prune --all")
	h.populate()
	h.checkStorage("docker system prune --all")
	h.populate()
	h.run("truncate -s 900G /sparse; truncate -s 900G /named/sparse; truncate -s 900G /anonymous/sparse")
	h.checkStorage("docker container prune")
	h.checkStorage("docker volume prune")
	if h.hasCommand("docker volume prune --all") {
		h.checkStorage("docker volume prune --all")
	}
	h.run("yes | head -n 400000")
	h.checkStorage("docker container prune")
	h.run("truncate -s 900G /sparse; yes | head -n 100000")
	h.checkStorage("docker system prune --all --volumes")
}

// populate builds an image with BuildKit, twice so that the tag moves, and runs two containers
// until they exit.
func (h *pruneHost) populate() {
	if _, err := h.Try("image", "inspect", "base:1"); err != nil {
		h.Docker("load", "-q", "-i", filepath.Join(h.Dir, "base/base.tar"))
	}
	for range 2 {
		h.count++
		h.source("app", "changes", h.bytes(2_000_000))
		h.source("app", "Dockerfile", []byte("FROM base:1\nCOPY random /a/\nCOPY . /b\nRUN "+writes("/c", 3_000_000)+" && dd if=/dev/zero of=/d bs=64k count=100 2>/dev/null\n"))
		h.BuildKitIn(filepath.Join(h.Dir, "app"), "--network=none", "-t", "app:1")
		h.run(writes("/written", 3_000_000))
	}
}

// run runs a shell command in a container with volumes, until it exits.
func (h *pruneHost) run(command string) {
	if _, err := h.Try("image", "inspect", "app:1"); err != nil {
		h.populate()
	}
	h.count++
	h.Docker("run", "--network=none", "-v", fmt.Sprintf("named%d:/named", h.count), "-v", "/anonymous", "app:1", "sh", "-c", command)
}

// checkStorage runs a prune command, and checks the metrics before it.
func (h *pruneHost) checkStorage(command string) {
	h.t.Helper()
	used := usedBytes(h.t, h.Dir)
	for _, o := range h.measure(command) {
		h.checkOutcome(o, used)
	}
}

// checkOutcome checks the metrics before a prune command. used is what the file system had in use.
func (h *pruneHost) checkOutcome(o outcome, used int64) {
	h.t.Helper()
	result := fmt.Sprintf("%s, %s: estimate %d (exact: %v), minimum %d, freed %d of %d, printed %d", o.command, o.access, o.estimate, o.exact, o.minimum, o.freed, used, o.reported)
	h.t.Log(result)
	const slack = 1_500_000 // of some thirty objects, and the file system's own data
	if failure := o.failure(slack, 0); failure != "" {
		h.t.Errorf("%s: %s", result, failure)
	}
	if o.estimate > used+slack {
		h.t.Errorf("%s: got an estimate above what the file system has in use", result)
	}
}

// mountStorage mounts a new file system for a storage until the test ends, and returns a folder in it.
func mountStorage(t *testing.T, s storage) string {
	t.Helper()
	dockertest.SkipUnlessReal(t)
	dir, err := os.MkdirTemp("", "engine") // the path of a socket is limited to about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	must := func(name string, args ...string) {
		t.Helper()
		if output, err := exec.Command(dockertest.Need(t, name), args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, output)
		}
	}
	options := map[string]string{"tmpfs": "size=1G", "btrfs": "loop,commit=1"}[s.fs]
	if s.options != "" {
		options += "," + s.options
	}
	source := "tmpfs"
	if s.fs != "tmpfs" {
		source = filepath.Join(t.TempDir(), "image")
		must("truncate", "-s", "2G", source)
		must("mkfs."+s.fs, source)
	}
	must("mount", "-t", s.fs, "-o", cmp.Or(options, "loop"), source, dir)
	t.Cleanup(func() { must("umount", "--lazy", dir) }) // for a moment another test may have a copy of the mount
	engine := filepath.Join(dir, "engine")              // can be removed, unlike a mount point
	if err := os.Mkdir(engine, 0o755); err != nil {
		t.Fatal(err)
	}
	return engine
}

// usedBytes returns how many bytes a file system has in use, once everything is written and deleted.
func usedBytes(t *testing.T, dir string) int64 {
	t.Helper()
	const btrfs = 0x9123683e // magic number of the file system
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	commands := [][]string{{"sync", "-f", dir}}
	if int64(stat.Type) == btrfs { // deletes subvolumes in the background
		commands = append(commands, []string{"btrfs", "subvolume", "sync", dir}, commands[0])
	}
	for _, command := range commands {
		if output, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, output)
		}
	}
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	return int64(stat.Blocks-stat.Bfree) * int64(stat.Bsize)
}
