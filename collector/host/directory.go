package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"docker_buildup_exporter/collector/model"
)

// accessHint is how to let the exporter read the engine's root directory.
const accessHint = `for logs, leftovers and exact figures, use AmbientCapabilities=CAP_DAC_READ_SEARCH in a systemd drop-in, or user 0 and a read-only mount: see "Levels of access" in collector/README.md; else --no-collector.container-logs --no-collector.leftovers`

// noAccess returns the failure to read the engine's root directory.
func noAccess(err error) error {
	isUnanswered := errors.As(err, new(unansweredError)) || errors.Is(err, context.DeadlineExceeded)
	return &model.Failure{Reason: err.Error(), Hint: accessHint, Err: err, NoAccess: !isUnanswered}
}

// withHint returns the failure of what is not there, is closed to this process, or is a link, which
// is not followed: a directory that was moved has to be mounted where it was.
func withHint(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		return noAccess(err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return noAccess(fmt.Errorf("%w (a link is not followed: mount the directory there)", err))
	}
	return err
}

// sighting is a path by which this process may see a directory of the engine.
type sighting struct {
	path     string
	isProven bool // else a mapping says so
	since    time.Time
}

// directories returns where this process may see a directory of the engine: what the mappings say,
// then where it is proven to be.
func (f *Filesystems) directories(ctx context.Context, engine Engine, path string) (seen []sighting, err error) {
	longest := target{}
	for _, t := range f.configured {
		if isWithin(path, t.path) && len(t.path) > len(longest.path) {
			longest = t
		}
	}
	if longest.path != "" {
		seen = append(seen, sighting{path: filepath.Join(longest.views[0], strings.TrimPrefix(path, longest.path))})
	}
	found, err := f.locate(ctx, engine)
	if err == nil && !f.locator.isRunning(found.process) { // the engine has started again
		f.mu.Lock()
		f.located.at = f.located.at.Add(-searchInterval)
		f.mu.Unlock()
		found, err = f.locate(ctx, engine)
	}
	if err == nil {
		for _, at := range found.local.paths(found.place(path)) {
			seen = append(seen, sighting{at, true, found.process.start})
		}
	}
	if len(seen) > 0 {
		return seen, nil
	}
	if err == nil {
		err = fmt.Errorf("this process does not see %s", path)
	}
	return nil, err
}

// read runs what reads directories of the engine, until ctx ends. One that hangs is not repeated
// until it returns.
func read[T any](ctx context.Context, f *Filesystems, name string, run func() (T, error)) (T, error) {
	type answer struct {
		at    time.Time
		value T
	}
	started := time.Now()
	c := f.start(name, func() (any, error) {
		value, err := run()
		return answer{started, value}, err
	})
	result, err := f.await(ctx, c)
	got, _ := result.(answer)
	if err == nil && got.at != started { // an earlier one, which hung
		err = context.DeadlineExceeded
	}
	return got.value, err
}

// fileStat is what stat(2) returns of a file.
type fileStat struct {
	bytes                int64 // of allocated blocks
	device, inode, links uint64
	changed              time.Time // of its content, name, owner or mode
}

// errTooMany is a directory with more entries than are read.
var errTooMany = errors.New("too many entries")

// readFolder calls visit for each entry of a directory, and returns the directory itself. It
// follows no link, and leaves out what vanishes.
func readFolder(path string, visit func(dir, entry fs.FileInfo) error) (fs.FileInfo, error) {
	file, err := openDirectory(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	dir, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return dir, readEntries(file, func(entry fs.FileInfo) error { return visit(dir, entry) })
}

// readEntries calls visit for each entry of an open directory, except what vanishes. It never holds all
// of a large one.
func readEntries(dir *os.File, visit func(fs.FileInfo) error) error {
	for {
		batch, err := dir.ReadDir(1024)
		for _, listed := range batch {
			entry, err := listed.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = visit(entry)
			}
			if err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
