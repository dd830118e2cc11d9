package host

import (
	"fmt"

	"docker_buildup_exporter/collector/model"

	"golang.org/x/sys/unix"
)

// zfsMagic is ZFS_SUPER_MAGIC of OpenZFS, which is not part of the kernel's headers.
const zfsMagic = 0x2fc12fc1

// statfs measures the file system of path.
func statfs(path string) (statfsResult, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return statfsResult{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	m := statfsResult{
		Filesystem: model.Filesystem{
			Type:  typeName(int64(s.Type)),
			Size:  int64(s.Blocks) * int64(s.Frsize), // its type differs between platforms
			Avail: int64(s.Bavail) * int64(s.Frsize),
		},
		// Without the type: through an overlay it is the overlay's, while everything else is
		// of the file system below.
		id:    filesystemID{s.Fsid.Val, s.Blocks},
		isZFS: int64(s.Type) == zfsMagic,
	}
	if s.Files > 0 { // 0 if inodes are created as needed, as by Btrfs
		m.Files = model.Known(int64(s.Files))
		m.FilesFree = model.Known(int64(s.Ffree))
	}
	return m, nil
}

// typeName returns the name of a file system that prune knows, as the engine names it (moby:
// graphdriver.FsNames), or "".
func typeName(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "extfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	}
	return ""
}

// kernelRelease returns the release of the running kernel, or "" if it is unknown.
func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}
