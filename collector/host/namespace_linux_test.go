package host

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// startEngine starts a process with the name of an engine, after a script that sees the directory
// $dir, and returns its ID.
func startEngine(t *testing.T, dir, script string) int {
	t.Helper()
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "dockerd")
	if err := os.WriteFile(name, program, 0o755); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("sh", "-euc", "dir=$1\n"+script+"\nexec ${prefix-} $0", name, dir)
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if !strings.Contains(script, "mount") {
		command.SysProcAttr.Cloneflags = 0
	}
	in, _ := command.StdinPipe()
	out, _ := command.StdoutPipe()
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); command.Wait() })
	fmt.Fprintln(in, "ready")
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" { // it runs, so it has its name
		t.Fatal(line, err)
	}
	return command.Process.Pid
}

// TestMountNamespaces checks what is measured of an engine whose mounts are made for real.
func TestMountNamespaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("requires root to mount file systems")
	}
	dockertest.Need(t, "mount")
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		t.Skip("this root cannot make mount namespaces: ", err)
	}
	const size = 16 << 20
	tests := []struct {
		name   string
		here   []string // below the root directory: disks in this mount namespace
		script string   // of the engine, in its own
		want   string   // sizes by path, in MiB
	}{
		{"a disk, and one below it", []string{"", "/volumes"}, "", "[/=16 /volumes=16]"},
		{"a disk below it in another mount namespace", []string{""}, "mount --make-rprivate /; mount -t tmpfs -o size=32m tmpfs $dir/volumes", "[/=16 /volumes=-]"},
		{"a disk in another mount namespace", nil, "mount --make-rprivate /; mount -t tmpfs tmpfs $dir", "[/=-]"},
		{"a disk that is elsewhere here", []string{"/image"}, "mount --make-rprivate /; mkdir $dir/image/sub; mount --bind $dir/image/sub $dir", "[/=16]"},
		{"an engine in a root file system of its own", []string{""}, `mount --make-rprivate /
			mkdir $dir/upper $dir/work $dir/new
			mount -t overlay -o lowerdir=/,upperdir=$dir/upper,workdir=$dir/work overlay $dir/new
			mount --bind /proc $dir/new/proc; prefix="chroot $dir/new"`, "[/=-]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, path := range test.here {
				path = dir + path
				if err := os.MkdirAll(path, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
			}
			if err := os.MkdirAll(dir+"/volumes", 0o755); err != nil {
				t.Fatal(err)
			}
			pid := startEngine(t, dir, test.script)
			f := New(nil, nil)
			f.locator.peer = func(context.Context) (int, error) { return pid, nil }
			usage := f.Measure(t.Context(), Engine{Roots: Roots{Docker: dir}})
			var got []string
			for _, fs := range usage.Filesystems {
				got = append(got, fmt.Sprintf("/%s=%d", strings.TrimPrefix(strings.TrimPrefix(fs.Path, dir), "/"), fs.Size>>20))
			}
			_, failed := usage.paths()
			for _, path := range failed {
				got = append(got, fmt.Sprintf("/%s=-", strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")))
			}
			if fmt.Sprint(got) != test.want {
				t.Errorf("got %v, want %s: %v", got, test.want, usage.Failures)
			}
		})
	}
}
