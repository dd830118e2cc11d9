package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Logs is what the engine keeps of its containers in files, in bytes of allocated blocks.
type Logs struct {
	Sizes map[string]LogSize // by container ID; those whose directory could be read
	Err   error              // why that of another container could not be
}

// LogSize is the size of a container's directory.
type LogSize struct {
	Logs  int64 // log files
	Freed int64 // all that goes with the container, logs included
}

// maxLogEntries bounds the entries of a container's directory. A log driver rotates over some.
const maxLogEntries = 10_000

// Logs reads the directories of containers, by their IDs: one directory and its files for each.
func (f *Filesystems) Logs(ctx context.Context, engine Engine, ids []string) (Logs, error) {
	seen, err := f.directories(ctx, engine, filepath.Join(engine.Docker, "containers"))
	if err != nil {
		return Logs{}, noAccess(err)
	}
	return read(ctx, f, "container logs", func() (logs Logs, err error) {
		for _, at := range seen {
			if logs, err = readLogs(ctx, at.path, ids); err == nil {
				break
			}
		}
		return logs, withHint(err)
	})
}

// readLogs reads the directories of containers below a directory. It fails if that is not the
// engine's: then it has none of its containers.
func readLogs(ctx context.Context, path string, ids []string) (Logs, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSymlink {
		return Logs{}, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return Logs{}, err
	}
	defer root.Close()
	logs := Logs{Sizes: make(map[string]LogSize, len(ids))}
	listed := 0
	for _, id := range ids {
		if ctx.Err() != nil {
			return Logs{}, ctx.Err()
		}
		if !isObjectID(id) {
			continue
		}
		listed++
		size, err := readLog(root, id)
		switch {
		case err == nil:
			logs.Sizes[id] = size
		case errors.Is(err, fs.ErrNotExist):
		case logs.Err == nil:
			logs.Err = err
		}
	}
	switch {
	case listed == 0 || len(logs.Sizes) > 0:
		return logs, nil
	case logs.Err != nil:
		return Logs{}, logs.Err
	}
	return Logs{}, fmt.Errorf("%s has none of the engine's containers: %w", path, fs.ErrNotExist)
}

// readLog sizes the directory of a container. Its log is in ID-json.log (driver json-file), in
// local-logs/container.log (local), or in container-cached.log if the driver sends it elsewhere,
// each with rotated and compressed ones (moby: container.Container.StartLogger). A link to a log
// elsewhere is no log. Removing a file that has another name frees nothing. What is mounted
// below, as /dev/shm of a running container, is on another device.
func readLog(root *os.Root, id string) (size LogSize, err error) {
	entries := 0
	add := func(dir, entry fs.FileInfo) error {
		if entries++; entries > maxLogEntries {
			return fmt.Errorf("%s: %w", filepath.Join(root.Name(), id), errTooMany)
		}
		stat := statOf(entry)
		if name := entry.Name(); entry.Mode().IsRegular() &&
			(strings.HasPrefix(name, id+"-json.log") || strings.HasPrefix(name, "container-cached.log") || strings.HasPrefix(name, "container.log")) {
			size.Logs += stat.bytes
		}
		if stat.device == statOf(dir).device && (stat.links <= 1 || entry.IsDir()) {
			size.Freed += stat.bytes
		}
		return nil
	}
	dir, err := readDir(root, id, add)
	if err != nil {
		return LogSize{}, err
	}
	size.Freed += statOf(dir).bytes
	_, err = readDir(root, filepath.Join(id, "local-logs"), add)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		err = nil
	}
	return size, err
}
