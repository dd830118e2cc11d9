package host

import (
	"context"
	"math"
	"net"
	"os"
	"path/filepath"
	"testing"

	"docker_buildup_exporter/collector/model"

	"golang.org/x/sys/unix"
)

// TestFromStatfs checks numbers that a file system does not know.
func TestFromStatfs(t *testing.T) {
	const none = math.MaxUint64
	tests := []struct {
		name                         string
		blocks, bavail, files, ffree uint64
		isMeasured, hasFiles         bool
	}{
		{"a disk", 100, 50, 10, 5, true, true},
		{"a full disk", 100, 0, 10, 0, true, true},
		{"no fixed number of inodes", 100, 50, 0, 0, true, false},
		{"an unknown number of free inodes", 100, 50, 10, none, true, false},
		{"an unknown number of inodes", 100, 50, none, none, true, false},
		{"no size", 0, 0, 0, 0, false, false},
		{"an unknown size", none, none, 10, 5, false, false},
		{"more available than there is", 100, none, 10, 5, false, false},
	}
	for _, test := range tests {
		got, err := fromStatfs(&unix.Statfs_t{Frsize: 4096, Blocks: test.blocks, Bavail: test.bavail, Files: test.files, Ffree: test.ffree})
		if (err == nil) != test.isMeasured || got.Files.IsKnown() != test.hasFiles || got.FilesFree.IsKnown() != test.hasFiles ||
			err == nil && (got.Size != int64(test.blocks)*4096 || got.Avail != int64(test.bavail)*4096) {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
		if test.hasFiles && got.FilesFree != model.Known(int64(test.ffree)) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

func TestPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	peer := peerOf(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) })
	if pid, err := peer(t.Context()); err != nil || pid != os.Getpid() {
		t.Errorf("got %d, %v, want %d", pid, err, os.Getpid())
	}
	listener.Close()
	if pid, err := peer(t.Context()); err == nil {
		t.Errorf("got %d of a closed socket, want an error", pid)
	}
}

// Of file systems that compress files or share their blocks, and of unknown ones, the type is
// unknown.
func TestTypeName(t *testing.T) {
	for magic, want := range map[int64]string{
		unix.EXT4_SUPER_MAGIC: "extfs", unix.TMPFS_MAGIC: "tmpfs", unix.BTRFS_SUPER_MAGIC: "", unix.XFS_SUPER_MAGIC: "",
		unix.OVERLAYFS_SUPER_MAGIC: "", zfsMagic: "", 0: "",
	} {
		if got := typeName(magic); got != want {
			t.Errorf("%#x: %q, want %q", magic, got, want)
		}
	}
}
