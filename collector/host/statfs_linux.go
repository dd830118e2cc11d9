package host

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"syscall"
	"time"

	"docker_buildup_exporter/collector/model"

	"golang.org/x/sys/unix"
)

// zfsMagic is ZFS_SUPER_MAGIC of OpenZFS, which is not part of the kernel's headers.
const zfsMagic = 0x2fc12fc1

func statfs(path string) (statfsResult, error) {
	var s unix.Statfs_t
	err := unix.Statfs(path, &s)
	if err == nil {
		var m statfsResult
		if m, err = fromStatfs(&s); err == nil {
			return m, nil
		}
	}
	return statfsResult{}, fmt.Errorf("statfs %s: %w", path, err)
}

// fromStatfs converts what statfs(2) returns. Some file systems return all bits set for a number
// that they do not know.
func fromStatfs(s *unix.Statfs_t) (statfsResult, error) {
	unit := uint64(s.Frsize)
	if s.Blocks == 0 || s.Bavail > s.Blocks || unit == 0 || s.Blocks > math.MaxInt64/unit {
		return statfsResult{}, errors.New("the file system has no known size")
	}
	m := statfsResult{
		Filesystem: model.Filesystem{Type: typeName(int64(s.Type)), Size: int64(s.Blocks * unit), Avail: int64(s.Bavail * unit)},
		id:         filesystemID{s.Fsid.Val, s.Blocks},
		free:       s.Bfree,
		isZFS:      int64(s.Type) == zfsMagic,
	}
	if s.Bfree <= s.Blocks {
		m.Used = model.Known(int64((s.Blocks - s.Bfree) * unit))
	}
	switch int64(s.Type) { // an overlay has an ID of its own since Linux 6.6, and so has a subvolume
	case unix.OVERLAYFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
	default:
		m.hasID = s.Fsid.Val != [2]int32{}
	}
	// The number of inodes is 0 if they are created as needed, as by Btrfs.
	if s.Files > 0 && s.Files <= math.MaxInt64 && s.Ffree <= s.Files {
		m.Files = model.Known(int64(s.Files))
		m.FilesFree = model.Known(int64(s.Ffree))
	}
	return m, nil
}

func peerPID(socket *net.UnixConn) (int, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	if controlErr := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); controlErr != nil || err != nil {
		return 0, errors.Join(controlErr, err)
	}
	return int(peer.Pid), nil
}

// birth returns when a directory was created. Some file systems do not store that.
func birth(path string) (time.Time, error) {
	var s unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &s)
	if err == nil && s.Mask&unix.STATX_BTIME == 0 {
		err = errors.ErrUnsupported
	}
	return time.Unix(s.Btime.Sec, int64(s.Btime.Nsec)), err
}

func statOf(info fs.FileInfo) fileStat {
	stat, isUnix := info.Sys().(*syscall.Stat_t)
	if !isUnix {
		return fileStat{}
	}
	return fileStat{
		bytes: stat.Blocks * 512, device: uint64(stat.Dev), inode: stat.Ino, links: uint64(stat.Nlink),
		changed: time.Unix(stat.Ctim.Unix()),
	}
}

// timeOfTicks returns the time that is some ticks after the start of this machine, as /proc has it:
// a tick is 10 ms on all platforms of Go (Linux: USER_HZ).
func timeOfTicks(ticks uint64) time.Time {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(ticks)*10*time.Millisecond - time.Duration(boot.Nano()))
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
