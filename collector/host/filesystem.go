// Package host measures the file systems that hold an engine's data. It only reads.
package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"docker_buildup_exporter/collector/model"

	"github.com/prometheus/procfs"
)

// MountMapping is a directory of the engine's host, and where this process sees it.
type MountMapping struct {
	HostPath  string
	LocalPath string
}

// ParseMountMapping parses HOSTPATH or HOSTPATH=MOUNTPOINT.
func ParseMountMapping(text string) (MountMapping, error) {
	path, local, found := strings.Cut(text, "=")
	if !found {
		local = path
	}
	if !filepath.IsAbs(path) || !filepath.IsAbs(local) || !utf8.ValidString(path) {
		return MountMapping{}, fmt.Errorf("file system %q: use HOSTPATH or HOSTPATH=MOUNTPOINT with absolute paths", text)
	}
	return MountMapping{filepath.Clean(path), filepath.Clean(local)}, nil
}

// The default data directories.
const (
	defaultDockerRoot     = "/var/lib/docker"
	defaultContainerdRoot = "/var/lib/containerd"
)

// systemContainerd is the socket of a containerd that the engine did not start. The engine
// may report it as /var/run/….
const systemContainerd = "/run/containerd/containerd.sock"

// Roots are the data directories of an engine on its host, as far as they are known.
type Roots struct {
	Docker        string
	Containerd    string // of the containerd image store
	ImageStore    model.ImageStore
	KernelVersion string // empty: unknown
}

// ContainerdRoot returns the data directory of the containerd at an address. An engine that
// starts its own containerd keeps its data below the engine's. "" is the default directory.
func ContainerdRoot(dockerRoot, address string) string {
	if address == "" || strings.HasSuffix(address, systemContainerd) {
		return ""
	}
	return filepath.Join(dockerRoot, "containerd", "daemon")
}

// locate returns where this process sees the roots. In a container they are usually not
// visible; but if its own root is an overlay whose upper directory is below one of them, then
// statfs("/") measures the file system of that directory. The result is empty where neither
// is certain: a wrong disk is worse than none.
func (r Roots) locate(mounts []*procfs.MountInfo) []MountMapping {
	docker := cmp.Or(r.Docker, defaultDockerRoot)
	containerd := cmp.Or(r.Containerd, defaultContainerdRoot)
	upperDir, isOverlay := overlayRoot(mounts)
	if !isOverlay {
		mappings := []MountMapping{{docker, docker}}
		if r.ImageStore == model.Containerd {
			mappings = append(mappings, MountMapping{containerd, containerd})
		}
		return mappings
	}
	var mappings []MountMapping
	for _, root := range []string{docker, containerd} {
		isRoot := func(m *procfs.MountInfo) bool { return m.MountPoint == root }
		switch {
		case slices.ContainsFunc(mounts, isRoot): // mounted into this container at the same path
			mappings = append(mappings, MountMapping{root, root})
		case strings.HasPrefix(upperDir, root+"/"):
			mappings = append(mappings, MountMapping{root, "/"})
		}
	}
	return mappings
}

// overlayRoot returns whether the root of this process is an overlay, and its upper directory
// on the host.
func overlayRoot(mounts []*procfs.MountInfo) (upperDir string, isOverlay bool) {
	for _, mount := range mounts { // a later mount hides an earlier one
		if mount.MountPoint == "/" {
			upperDir, isOverlay = mount.SuperOptions["upperdir"], mount.FSType == "overlay"
		}
	}
	return upperDir, isOverlay
}

// Usage is the result of one measurement.
type Usage struct {
	Filesystems []model.Filesystem
	Failures    map[string]error // by host path: *model.Failure
}

// Filesystems measures the file systems of one engine. A statfs that hangs, as on a dead NFS
// mount, is not repeated until it returns.
type Filesystems struct {
	mappings []MountMapping // configured; empty: located
	isLocal  bool           // the engine is reached by a socket of this machine
	timeout  time.Duration
	statfs   func(path string) (statfsResult, error)

	mu    sync.Mutex
	calls map[string]*statfsCall // in progress, by local path
}

type statfsCall struct {
	done   chan struct{}
	result statfsResult
	err    error
	isLate bool // a measurement has given up on it
}

// New returns the file systems at the mappings or, if there are none, those that can be
// located with certainty: only if the engine is local.
func New(mappings []MountMapping, isLocal bool) *Filesystems {
	return &Filesystems{
		mappings: mappings, isLocal: isLocal, timeout: statfsTimeout, statfs: statfs, calls: make(map[string]*statfsCall),
	}
}

// statfsTimeout bounds one measurement. On a working disk statfs takes microseconds.
const statfsTimeout = time.Second

// Measure returns each file system once. An engine on another kernel, as in a virtual
// machine, has none here.
func (f *Filesystems) Measure(ctx context.Context, roots Roots) (Usage, error) {
	mappings := f.mappings
	if len(mappings) == 0 {
		isForeign := roots.KernelVersion != "" && roots.KernelVersion != kernelRelease()
		if !f.isLocal || isForeign {
			return Usage{}, nil
		}
		mounts, err := procfs.GetMounts()
		if err != nil {
			return Usage{}, failure(fmt.Errorf("cannot read the mounts of this process: %w", err))
		}
		mappings = roots.locate(mounts)
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	var calls []*statfsCall
	for _, mapping := range mappings { // all at once, so that one that hangs delays no other
		calls = append(calls, f.start(mapping.LocalPath))
	}
	usage := Usage{Failures: make(map[string]error)}
	var seen []filesystemID
	for i, mapping := range mappings {
		result, err := f.await(ctx, calls[i])
		switch isLocated := len(f.mappings) == 0; {
		case isLocated && errors.Is(err, fs.ErrNotExist): // a default directory that is not used
		case err != nil:
			usage.Failures[mapping.HostPath] = failure(err)
		case isLocated && result.isZFS:
			// The size of a ZFS dataset is its own data and what is free in the pool. Images
			// are in other datasets.
		case !slices.Contains(seen, result.id):
			seen = append(seen, result.id)
			result.Path = mapping.HostPath
			usage.Filesystems = append(usage.Filesystems, result.Filesystem)
		}
	}
	return usage, nil
}

func failure(err error) error {
	reason := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		reason = "no answer in time: the file system hangs"
	}
	return &model.Failure{Reason: reason, Hint: "set --filesystem.path=HOSTPATH=MOUNTPOINT to a directory on the engine's disk", Err: err}
}

// start returns the statfs of a path that is in progress, or starts one.
func (f *Filesystems) start(path string) *statfsCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	if call := f.calls[path]; call != nil {
		return call
	}
	call := &statfsCall{done: make(chan struct{})}
	f.calls[path] = call
	go func() {
		_, call.err = os.Lstat(path)
		if call.err == nil {
			call.result, call.err = f.statfs(path)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.calls, path)
		close(call.done)
	}()
	return call
}

// await returns the result of a call. It does not wait again for one that a measurement has
// given up on.
func (f *Filesystems) await(ctx context.Context, call *statfsCall) (statfsResult, error) {
	f.mu.Lock()
	if call.isLate {
		var cancel func()
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	f.mu.Unlock()
	select {
	case <-call.done:
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-call.done: // also if both had happened
		return call.result, call.err
	default:
		call.isLate = true
		return statfsResult{}, context.DeadlineExceeded
	}
}

// statfsResult is what statfs(2) returns of one file system.
type statfsResult struct {
	model.Filesystem
	id    filesystemID
	isZFS bool
}

// filesystemID identifies a file system, also if it is seen through an overlay.
type filesystemID struct {
	fsid   [2]int32
	blocks uint64
}
