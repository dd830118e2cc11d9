package engine

import (
	"fmt"

	"docker_buildup_exporter/collector/model"

	"golang.org/x/sys/unix"
)

// zfsMagic is ZFS_SUPER_MAGIC of OpenZFS, which the kernel's own headers do not have.
const zfsMagic = 0x2fc12fc1

// statfs measures the file system that holds path.
func statfs(path string) (measured, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return measured{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	m := measured{
		Filesystem: model.Filesystem{
			Size:  int64(s.Blocks) * int64(s.Frsize), // its type differs between platforms
			Avail: int64(s.Bavail) * int64(s.Frsize),
		},
		// The type is left out: through an overlay it is the overlay's,
		// while all the rest is that of the file system below.
		id:    filesystemID{s.Fsid.Val, s.Blocks},
		isZFS: int64(s.Type) == zfsMagic,
	}
	if s.Files > 0 { // Btrfs and others make inodes as they need them, and say 0
		m.Files = model.Known(int64(s.Files))
		m.FilesFree = model.Known(int64(s.Ffree))
	}
	return m, nil
}

// kernelRelease is the release of the kernel that this process runs on.
func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}
