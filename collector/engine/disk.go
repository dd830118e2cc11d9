package engine

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"docker_buildup_exporter/collector/model"

	"github.com/docker/docker/api/types/system"
	"github.com/prometheus/procfs"
)

// A Place is where a file system under the engine can be measured.
type Place struct {
	Path string // the engine's root directory, as its host names it
	Here string // the same file system, as this process sees it
}

// ParsePlace reads HOSTPATH or HOSTPATH=MOUNTPOINT.
func ParsePlace(text string) (Place, error) {
	path, here, found := strings.Cut(text, "=")
	if !found {
		here = path
	}
	if !filepath.IsAbs(path) || !filepath.IsAbs(here) || !utf8.ValidString(path) {
		return Place{}, fmt.Errorf("file system %q: give HOSTPATH or HOSTPATH=MOUNTPOINT, absolute paths both", text)
	}
	return Place{filepath.Clean(path), filepath.Clean(here)}, nil
}

// Where engines keep their data unless told otherwise.
const (
	defaultDockerRoot     = "/var/lib/docker"
	defaultContainerdRoot = "/var/lib/containerd"
)

// systemContainerd is where the containerd listens that is not started by the engine.
const systemContainerd = "/run/containerd/containerd.sock" // also seen as /var/run/…

// A disk is the file system, or the two, that hold an engine's data. What it has
// learned of them it keeps when the engine goes away: a full disk is a common
// reason for that.
type disk struct {
	places  []Place // given, so that nothing is to be found out
	local   bool    // the engine is reached by a socket of this machine
	foreign bool    // but runs on another kernel, as in a VM
	roots   roots
}

// roots are the engine's root directories on its host.
type roots struct {
	docker     string
	containerd string // where containers have their file systems if the containerd store is in use
	store      model.ImageStore
}

// learn takes from /info where the engine keeps its data.
func (d *disk) learn(info system.Info) {
	d.foreign = info.KernelVersion != "" && info.KernelVersion != kernelRelease()
	d.roots = roots{docker: info.DockerRootDir, store: storeOf(info)}
	// An engine that starts a containerd of its own keeps that one's data below its own.
	if info.Containerd != nil && !strings.HasSuffix(info.Containerd.Address, systemContainerd) {
		d.roots.containerd = filepath.Join(info.DockerRootDir, "containerd", "daemon")
	}
}

// find tells where this process sees the roots. On the engine's host they are
// what they are. In a container they are usually out of sight; but if its own root
// is an overlay whose upper directory lies below one of them, then statfs("/")
// answers for the file system that holds that directory.
// It is empty where neither is certain: a wrong disk is worse than none.
func (r roots) find(mounts []*procfs.MountInfo) []Place {
	docker := cmp.Or(r.docker, defaultDockerRoot)
	containerd := cmp.Or(r.containerd, defaultContainerdRoot)
	upperDir, overlaid := overlaidRoot(mounts)
	if !overlaid {
		places := []Place{{docker, docker}}
		if r.store == model.Containerd {
			places = append(places, Place{containerd, containerd})
		}
		return places
	}
	var places []Place
	for _, root := range []string{docker, containerd} {
		isRoot := func(m *procfs.MountInfo) bool { return m.MountPoint == root }
		switch {
		case slices.ContainsFunc(mounts, isRoot): // mounted into this container under its own name
			places = append(places, Place{root, root})
		case strings.HasPrefix(upperDir, root+"/"):
			places = append(places, Place{root, "/"})
		}
	}
	return places
}

// overlaidRoot tells whether the root of this process is an overlay, and where
// on the host that overlay's upper directory is.
func overlaidRoot(mounts []*procfs.MountInfo) (upperDir string, overlaid bool) {
	for _, mount := range mounts { // a later mount hides an earlier one
		if mount.MountPoint == "/" {
			upperDir, overlaid = mount.SuperOptions["upperdir"], mount.FSType == "overlay"
		}
	}
	return upperDir, overlaid
}

// measured is what statfs(2) says of one file system.
type measured struct {
	model.Filesystem
	id    filesystemID
	isZFS bool
}

// A filesystemID tells file systems apart, also where one is seen through an overlay.
type filesystemID struct {
	fsid   [2]int32
	blocks uint64
}

// measure returns the file systems under the engine, each once, and the paths of those
// that could not be measured.
func (d *disk) measure(j *journal) (filesystems []model.Filesystem, failed []string) {
	places := d.places
	given := len(places) > 0
	if !given {
		if !d.local || d.foreign {
			return nil, nil
		}
		mounts, known := ask(j, question{act: "read the mounts of this process"}, procfs.GetMounts).Get()
		if !known {
			return nil, nil
		}
		places = d.roots.find(mounts)
	}

	var seen []filesystemID
	for _, place := range places {
		// A root that nobody gave and that is not there was only a guess.
		if _, err := os.Lstat(place.Here); !given && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		q := question{act: "measure the file system " + place.Path}
		m, known := ask(j, q, func() (measured, error) { return statfs(place.Here) }).Get()
		if !known {
			failed = append(failed, place.Path)
			continue
		}
		// The size of a ZFS dataset is what it holds and what the pool has left;
		// images lie in datasets of their own.
		if m.isZFS && !given || slices.Contains(seen, m.id) {
			continue
		}
		seen = append(seen, m.id)
		m.Path = place.Path
		filesystems = append(filesystems, m.Filesystem)
	}
	return filesystems, failed
}
