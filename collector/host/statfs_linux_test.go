package host

import (
	"testing"

	"golang.org/x/sys/unix"
)

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
