package docker

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestSocketInClosedDirectory checks that a socket in a directory that is closed to this process
// counts as none if another one can be used, like that of podman-docker, a link to the one of root's
// Podman. Else it is the cause.
func TestSocketInClosedDirectory(t *testing.T) {
	dir, err := os.MkdirTemp("", "sockets")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	closed := filepath.Join(dir, "closed")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(closed, 0o700)); err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Join(dir, "docker.sock"), filepath.Join(dir, "second.sock")
	if err := errors.Join(os.Symlink(filepath.Join(closed, "podman.sock"), first), os.Chmod(closed, 0)); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", second)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := os.Chmod(second, 0o666); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // whose user changes, and which ends with this test
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	_, err = dialFirst([]string{unixPrefix + first, unixPrefix + filepath.Join(dir, "none.sock")})(t.Context(), "", "")
	if failed := (dialError{}); !errors.Is(err, fs.ErrPermission) || !errors.As(err, &failed) || failed.hosts != unixPrefix+first {
		t.Errorf("got the error %v while there is no other socket, want that the first is closed", err)
	}
	conn, err := dialFirst([]string{unixPrefix + first, unixPrefix + second})(t.Context(), "", "")
	if err != nil {
		t.Fatalf("got the error %v, want a connection to the second socket", err)
	}
	conn.Close()
}
