package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"docker_buildup_exporter/collector/model"
)

// accessHint is how to let the exporter read the engine's root directory.
const accessHint = `for logs, leftovers, exact figures and disks mounted below it, use AmbientCapabilities=CAP_DAC_READ_SEARCH in a systemd drop-in, or user 0 and a read-only mount: see "Levels of access" in collector/README.md; else --no-collector.container-logs --no-collector.leftovers`

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

// sightings returns where this process may see a directory of the engine: what the mappings say,
// then where it is proven to be.
func (f *Filesystems) sightings(found view, path string) (seen []sighting) {
	longest := target{}
	for _, t := range f.configured {
		if isWithin(path, t.path) && len(t.path) > len(longest.path) {
			longest = t
		}
	}
	if longest.path != "" {
		seen = append(seen, sighting{path: filepath.Join(longest.views[0], strings.TrimPrefix(path, longest.path))})
	}
	if found.place != nil {
		for _, at := range found.local.paths(found.place(path)) {
			seen = append(seen, sighting{at, true, found.process.start})
		}
	}
	return seen
}

// directories returns the sightings of a directory of the engine that runs now.
func (f *Filesystems) directories(ctx context.Context, engine Engine, path string) ([]sighting, error) {
	found, err := f.locate(ctx, engine)
	if err == nil && !f.locator.isRunning(found.process) { // the engine has started again
		f.mu.Lock()
		f.located.at = f.located.at.Add(-searchInterval)
		f.mu.Unlock()
		found, err = f.locate(ctx, engine)
	}
	if seen := f.sightings(found, path); len(seen) > 0 {
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

// open opens a directory or a file below a root directory. It fails for a link, and does not wait
// for the writer of a pipe.
func open(root *os.Root, name string) (file *os.File, err error) {
	info, err := root.Lstat(name)
	switch {
	case err != nil:
	case info.Mode().Type() == fs.ModeSymlink:
		err = &fs.PathError{Err: syscall.ELOOP}
	default:
		file, err = root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if failure, ok := errors.AsType[*fs.PathError](err); ok {
		failure.Op, failure.Path = "open", filepath.Join(root.Name(), name)
	}
	return file, err
}

// maxEntries bounds the entries of a directory.
const maxEntries = 1 << 20

var errTooMany = errors.New("too many entries")

// eachEntry calls visit for each entry of an open directory. It never holds all of a large one.
func eachEntry(dir *os.File, visit func(fs.DirEntry) error) error {
	for {
		batch, err := dir.ReadDir(1024)
		for _, entry := range batch {
			if err := visit(entry); err != nil {
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

// readDir calls visit for each entry of a directory, except what vanishes, and returns the directory
// itself.
func readDir(root *os.Root, name string, visit func(dir, entry fs.FileInfo) error) (fs.FileInfo, error) {
	file, err := open(root, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	dir, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return dir, eachEntry(file, func(listed fs.DirEntry) error {
		entry, err := listed.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		return visit(dir, entry)
	})
}

// walkTree calls visit for a directory and for each entry below it, files with several names once. It
// leaves out other file systems and what vanishes. left is how many more entries it may read.
func walkTree(ctx context.Context, root *os.Root, dir string, left *int, visit func(fs.FileInfo)) error {
	seen := make(map[uint64]bool) // inodes of files with several names
	for folders := []string{dir}; len(folders) > 0; {
		folder := folders[len(folders)-1]
		folders = folders[:len(folders)-1]
		at, err := readDir(root, folder, func(at, entry fs.FileInfo) error {
			if *left--; *left < 0 {
				return fmt.Errorf("%s: %w", dir, errTooMany)
			}
			stat := statOf(entry)
			switch {
			case stat.device != statOf(at).device:
			case entry.IsDir():
				folders = append(folders, path.Join(folder, entry.Name()))
			case !seen[stat.inode]:
				if stat.links > 1 {
					seen[stat.inode] = true
				}
				visit(entry)
			}
			return ctx.Err()
		})
		switch {
		case err == nil:
			visit(at)
		case folder == dir || !errors.Is(err, fs.ErrNotExist): // else it was removed
			return err
		}
	}
	return ctx.Err()
}

// folderNames returns the names of the directories in a directory, sorted.
func folderNames(root *os.Root, dir string) (names []string, err error) {
	file, err := open(root, dir)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	left := maxEntries
	err = eachEntry(file, func(entry fs.DirEntry) error {
		if left--; left < 0 {
			return fmt.Errorf("%s: %w", file.Name(), errTooMany)
		}
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// readFile returns the content of a file, up to a number of bytes.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	file, err := open(root, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

func readText(root *os.Root, name string) (string, error) {
	content, err := readFile(root, name, 200)
	return string(bytes.TrimSpace(content)), err
}

// readSnapshots returns the content of BuildKit's database of snapshots. The engine has locked it and
// writes to it: what is read is whole if no transaction ended meanwhile.
func readSnapshots(root *os.Root) ([]byte, error) {
	const limit = 256 << 20
	content, err := readFile(root, snapshotsFile, limit+1)
	if len(content) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", snapshotsFile, limit)
	}
	return content, err
}

// isObjectID reports whether a text is an ID as the engine makes it, and so the name of a directory.
func isObjectID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// fileStat is what stat(2) returns of a file.
type fileStat struct {
	bytes                int64 // of allocated blocks
	device, inode, links uint64
	changed              time.Time // of its content, name, owner or mode
}
