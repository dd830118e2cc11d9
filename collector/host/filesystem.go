// Package host measures the file systems that hold an engine's data. It only reads.
package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"docker_buildup_exporter/collector/model"
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

// Usage is the result of one measurement.
type Usage struct {
	Filesystems []model.Filesystem
	Failures    map[string]error // by host path: *model.Failure

	EngineStarted model.Optional[time.Time]
}

// Filesystems measures the file systems of one engine. A statfs that hangs, as on a dead NFS
// mount, is not repeated until it returns.
type Filesystems struct {
	configured []target
	locator    locator
	timeout    time.Duration
	statfs     func(path string) (statfsResult, error)

	mu      sync.Mutex
	located located
	calls   map[string]*call // in progress, by path
	layers  *layerReader     // used by one call at a time
}

// located is what was found for an engine.
type located struct {
	view
	roots Roots
	at    time.Time
}

// call is what may hang: a statfs or the search for file systems.
type call struct {
	done   chan struct{}
	result any
	err    error
	isLate bool // a measurement has given up on it
}

// New returns the file systems at the mappings or, if there are none, those that are proven to be
// the engine's. dial connects to its Unix socket; it is nil if there is none.
func New(mappings []MountMapping, dial func(context.Context) (net.Conn, error)) *Filesystems {
	f := &Filesystems{timeout: statfsTimeout, statfs: statfs, calls: make(map[string]*call)}
	for _, m := range mappings {
		f.configured = append(f.configured, target{path: m.HostPath, views: []string{m.LocalPath}})
	}
	if dial != nil {
		f.locator.peer = peerOf(dial)
	}
	return f
}

const (
	// statfsTimeout bounds one measurement. On a working disk statfs takes microseconds.
	statfsTimeout = time.Second

	// searchInterval is how often file systems are searched for: mounts can be added.
	searchInterval = time.Minute
)

// Measure returns each file system once. It is not called concurrently.
func (f *Filesystems) Measure(ctx context.Context, engine Engine) Usage {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	usage := Usage{Failures: make(map[string]error)}
	targets, found := f.configured, view{}
	if len(targets) == 0 {
		if engine.Roots == (Roots{}) { // it has not said yet where its data is
			return Usage{}
		}
		var err error
		if found, err = f.locate(ctx, engine); err != nil {
			usage.Failures[cmp.Or(engine.Docker, "DockerRootDir")] = failure(err)
			return usage
		}
		targets = found.targets
	}
	var calls []*call
	for _, t := range targets { // all at once, so that one that hangs delays no other
		calls = append(calls, f.startStatfs(t))
	}
	type measured struct {
		target
		statfsResult
	}
	var all []measured
	for i, t := range targets {
		result, err := f.awaitStatfs(ctx, calls[i])
		isSame := func(other measured) bool {
			return err == nil && f.isSame(ctx, t, other.target, result, other.statfsResult)
		}
		switch {
		case err != nil:
			usage.Failures[t.path] = failure(err)
		case slices.ContainsFunc(all, isSame):
		case t.isQuota:
			usage.Failures[t.path] = failure(errors.New("what is seen of it in this container may be a quota"))
		case len(f.configured) == 0 && result.isZFS:
			// The size of a ZFS dataset is its own data and what is free in the pool. Images
			// are in other datasets.
			usage.Failures[t.path] = failure(errors.New("it is a ZFS dataset, which does not show how full the pool is"))
		default:
			all = append(all, measured{t, result})
			result.Path = t.path
			usage.Filesystems = append(usage.Filesystems, result.Filesystem)
		}
	}
	usage.EngineStarted = f.engineStarted(ctx, f.sightings(found, engine.Docker))
	return usage
}

// engineStarted returns when the engine started, where its root directory can be read: it creates the
// folder for its runtimes again then (moby: daemon.initRuntimesDir).
func (f *Filesystems) engineStarted(ctx context.Context, roots []sighting) model.Optional[time.Time] {
	for _, at := range roots {
		path := filepath.Join(at.path, "runtimes")
		if born, err := read(ctx, f, "birth of "+path, func() (time.Time, error) { return birth(path) }); err == nil {
			return model.Known(born)
		}
	}
	return model.Optional[time.Time]{}
}

// locate returns what was found a short while ago, or searches again. While the engine does not
// answer, what was found before holds.
func (f *Filesystems) locate(ctx context.Context, engine Engine) (view, error) {
	f.mu.Lock()
	before := f.located
	f.mu.Unlock()
	isKnown := before.roots == engine.Roots && !before.at.IsZero()
	if isKnown && time.Since(before.at) < searchInterval {
		return before.view, nil
	}
	search := f.start("", func() (any, error) {
		found, err := f.locator.locate(ctx, engine)
		return located{found, engine.Roots, time.Now()}, err
	})
	result, err := f.await(ctx, search)
	found, _ := result.(located)
	if err == nil && found.roots != engine.Roots { // an earlier search, which hung
		err = context.DeadlineExceeded
	}
	isUnanswered := errors.As(err, new(unansweredError)) || errors.Is(err, errNotStarted) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case err == nil:
	case isUnanswered && isKnown:
		return before.view, nil
	default:
		found = located{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.located = found
	return found.view, err
}

// isSame reports whether two results are of one file system. Without an ID, the numbers
// decide; they can change between two calls.
func (f *Filesystems) isSame(ctx context.Context, a, b target, first, second statfsResult) bool {
	for range 5 {
		switch {
		case first.id == second.id && first.hasID:
			return true
		case first.hasID && second.hasID || first.id.blocks != second.id.blocks:
			return false
		case first.Size == second.Size && first.free == second.free && first.FilesFree == second.FilesFree: // an overlay is of another type
			return true
		}
		var firstErr, secondErr error
		again, other := f.startStatfs(a), f.startStatfs(b)
		first, firstErr = f.awaitStatfs(ctx, again)
		second, secondErr = f.awaitStatfs(ctx, other)
		if firstErr != nil || secondErr != nil {
			break
		}
	}
	return false
}

func failure(err error) error {
	reason := err.Error()
	if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, new(unansweredError)) {
		reason = "no answer in time: the file system hangs"
	}
	hint := "set --filesystem.path=HOSTPATH=MOUNTPOINT for each disk of the engine, because no other is measured then"
	if errors.Is(err, fs.ErrPermission) {
		hint = "run the exporter as root or with CAP_DAC_READ_SEARCH, or " + hint
	}
	return &model.Failure{Reason: reason, Hint: hint, Err: err}
}

func (f *Filesystems) startStatfs(t target) *call {
	return f.start(t.path, func() (any, error) {
		err := t.err
		for _, path := range t.views {
			var result statfsResult
			if _, err = os.Lstat(path); err == nil {
				result, err = f.statfs(path)
			}
			if err == nil {
				return result, nil
			}
		}
		return nil, err
	})
}

func (f *Filesystems) awaitStatfs(ctx context.Context, c *call) (statfsResult, error) {
	result, err := f.await(ctx, c)
	measured, _ := result.(statfsResult)
	return measured, err
}

// start returns the call of a name that is in progress, or starts one.
func (f *Filesystems) start(name string, run func() (any, error)) *call {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.calls[name]; c != nil {
		return c
	}
	c := &call{done: make(chan struct{})}
	f.calls[name] = c
	go func() {
		c.result, c.err = run()
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.calls, name)
		close(c.done)
	}()
	return c
}

// await returns the result of a call. It does not wait again for one that a measurement has
// given up on.
func (f *Filesystems) await(ctx context.Context, c *call) (any, error) {
	f.mu.Lock()
	if c.isLate {
		var cancel func()
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	f.mu.Unlock()
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-c.done: // also if both had happened
		return c.result, c.err
	default:
		c.isLate = true
		return nil, context.DeadlineExceeded
	}
}

// statfsResult is what statfs(2) returns of one file system.
type statfsResult struct {
	model.Filesystem
	id    filesystemID
	free  uint64 // blocks, also those for root only
	hasID bool   // the ID identifies the file system
	isZFS bool
}

// filesystemID identifies a file system.
type filesystemID struct {
	fsid   [2]int32
	blocks uint64
}
