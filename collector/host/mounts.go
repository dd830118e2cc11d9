package host

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// mountTable is the mounts that one process sees (/proc/PID/mountinfo).
type mountTable []*procfs.MountInfo

// octal is how the kernel escapes spaces and other characters in mountinfo.
var octal = regexp.MustCompile(`\\[0-7]{3}`)

func unescape(text string) string {
	return octal.ReplaceAllStringFunc(text, func(code string) string {
		n, _ := strconv.ParseUint(code[1:], 8, 8)
		return string([]byte{byte(n)})
	})
}

// readMounts returns the mounts of a process, or of this one if pid is 0.
func readMounts(proc procfs.FS, pid int) (mountTable, error) {
	read := proc.GetMounts
	if pid > 0 {
		read = func() ([]*procfs.MountInfo, error) { return proc.GetProcMounts(pid) }
	}
	mounts, err := read()
	if err == nil && len(mounts) == 0 {
		err = fmt.Errorf("the process %d has no mounts", pid)
	}
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		m.MountPoint, m.Root = unescape(m.MountPoint), unescape(m.Root)
		m.SuperOptions["upperdir"] = unescape(m.SuperOptions["upperdir"])
	}
	return mounts, nil
}

// isWithin reports whether path is dir or below it.
func isWithin(path, dir string) bool {
	rest, found := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return found && (rest == "" || rest[0] == '/')
}

// holder returns the mount that a path is on, or nil. A mount can hide others: a lookup enters,
// of the mounts on the mount where it is, the one that comes first on its way.
func (t mountTable) holder(path string) (at *procfs.MountInfo) {
	for _, m := range t {
		if m.MountPoint == "/" && (at == nil || m.MountID == at.ParentID) {
			at = m
		}
	}
	for range t {
		var next *procfs.MountInfo
		for _, m := range t {
			isOn := at != nil && m != at && m.ParentID == at.MountID && isWithin(path, m.MountPoint)
			if isOn && (next == nil || len(m.MountPoint) < len(next.MountPoint)) {
				next = m
			}
		}
		if next == nil {
			break
		}
		at = next
	}
	return at
}

// place is a directory of a file system. Two processes whose mounts lead to the same place see
// the same directory: device numbers are the kernel's, not the mount namespace's.
type place struct{ device, path string }

func (t mountTable) place(path string) place {
	m := t.holder(path)
	if m == nil {
		return place{}
	}
	return place{m.MajorMinorVer, filepath.Join(m.Root, strings.TrimPrefix(path, m.MountPoint))}
}

func (t mountTable) paths(at place) (paths []string) {
	for _, m := range t {
		if m.MajorMinorVer != at.device || !isWithin(at.path, m.Root) {
			continue
		}
		path := filepath.Join(m.MountPoint, strings.TrimPrefix(at.path, m.Root))
		if t.place(path) == at && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// views returns paths on a device to measure it by, the best first: the path itself, because a
// quota of a directory shows only there, else a mount point, which can be reached if the path
// cannot.
func (t mountTable) views(device, path string) []string {
	var views []string
	if t.place(path).device == device {
		views = append(views, path)
	}
	for _, m := range t {
		if len(views) < 8 && m.MajorMinorVer == device && m.MountPoint != path && t.holder(m.MountPoint) == m {
			views = append(views, m.MountPoint)
		}
	}
	return views
}

// dataMounts returns root and the mount points below it that hold an engine's data. A mount of a
// container or a volume is deeper than two levels: overlay2/ID/merged, rootfs/overlayfs/ID,
// containers/ID/mounts/shm, volumes/NAME/_data. Builds and unpacking mount layers for a moment
// (BuildKit: snapshot.LocalMounter in the engine's TMPDIR; containerd: SetTempMountLocation).
func (t mountTable) dataMounts(root string) []string {
	paths := []string{root}
	for _, m := range t {
		below, found := strings.CutPrefix(m.MountPoint, root+"/")
		isPassing := strings.HasPrefix(below, "tmp/") || strings.HasPrefix(below, "tmpmounts/")
		isData := found && strings.Count(below, "/") < 2 && m.FSType != "nsfs" && !isPassing
		if isData && t.holder(m.MountPoint) == m {
			paths = append(paths, m.MountPoint)
		}
	}
	return paths
}

// snapshotterDir is what an upper directory has below containerd's root.
const snapshotterDir = "/io.containerd.snapshotter.v1."

// snapshotRoot returns the root of the containerd that made an overlay, or "".
func snapshotRoot(m *procfs.MountInfo) string {
	if m == nil || m.FSType != "overlay" {
		return ""
	}
	root, _, found := strings.Cut(m.SuperOptions["upperdir"], snapshotterDir)
	if !found {
		return ""
	}
	return root
}
