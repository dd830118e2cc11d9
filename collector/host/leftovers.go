package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
)

// Leftovers is what is in an engine's root directory that no object of the engine accounts for.
type Leftovers struct {
	model.LeftoverSizes
	Err error // why something is left out
}

const (
	// minLeftoverAge is how old something must be that may belong to a pull or a build, unless it
	// is older than the engine's process.
	minLeftoverAge = time.Hour

	// minTemporaryAge is the same for the context of a classic build, which the engine unpacks
	// into a temporary directory and then only reads.
	minTemporaryAge = 24 * time.Hour

	// maxWalked bounds the entries that one search visits.
	maxWalked = 2_000_000

	// maxSnapshots bounds the size of BuildKit's database.
	maxSnapshots = 256 << 20
)

// Leftovers searches for leftovers. containerIDs are all containers that the engine lists.
func (f *Filesystems) Leftovers(ctx context.Context, engine Engine, containerIDs []string) (Leftovers, error) {
	seen, err := f.directories(ctx, engine, engine.Docker)
	if err != nil {
		return Leftovers{}, noAccess(err)
	}
	return read(ctx, f, "leftovers", func() (found Leftovers, err error) {
		for _, at := range seen {
			s := search{ctx: ctx, sighting: at, engine: engine, listed: containerIDs, now: time.Now()}
			if found, err = s.run(); err == nil {
				break
			}
		}
		return found, withHint(err)
	})
}

// search is one search for leftovers below a root directory. What may belong to a pull, a build or a
// container that is made or removed meanwhile has changed a short while ago.
type search struct {
	sighting // of the root directory
	ctx      context.Context
	engine   Engine
	listed   []string // containers
	now      time.Time

	walked int
	found  Leftovers
}

func (s *search) run() (Leftovers, error) {
	containers, err := s.names("containers")
	if err != nil {
		return Leftovers{}, err
	}
	listed := make(map[string]bool, len(s.listed))
	for _, id := range s.listed {
		listed[id] = true
	}
	isListed := func(id string) bool { return listed[id] }
	if !slices.ContainsFunc(containers, isListed) && (len(s.listed) > 0 || !s.isProven) {
		return Leftovers{}, fmt.Errorf("%s has none of the engine's containers: %w", s.path, fs.ErrNotExist)
	}
	for _, id := range containers {
		if isObjectID(id) && !isListed(id) {
			s.add(&s.found.Containers, minLeftoverAge, "containers/"+id)
		}
	}
	drivers, err := s.names("image")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Leftovers{}, err
	}
	for _, driver := range drivers {
		if err := s.searchDriver(driver); err != nil {
			return Leftovers{}, err
		}
		s.addAll(&s.found.Temporary, minLeftoverAge, layerDB(driver, "tmp"))
	}
	s.addAll(&s.found.Temporary, minTemporaryAge, "tmp")
	return s.found, s.ctx.Err()
}

// layerDB returns a directory of the layer database of a graph driver (moby: layer.fileMetadataStore).
func layerDB(driver string, names ...string) string {
	return filepath.Join(append([]string{"image", driver, "layerdb"}, names...)...)
}

// searchDriver searches the folders of a graph driver that keeps one for each layer. Those of another driver than the engine's,
// and all of them with the containerd store, are of an image store that is not used any more: its
// database has the sizes of the layers. Folders that no database names are what is left of pulls
// and builds that died. The folders are listed first: what is made later is in a database, too.
func (s *search) searchDriver(driver string) error {
	if driver != "overlay2" && driver != "fuse-overlayfs" {
		return nil
	}
	isUsed := s.engine.ImageStore == model.GraphDriver && s.engine.StorageDriver == driver
	folders, err := s.names(driver)
	if err != nil {
		return ignoreMissing(err)
	}
	layers, err := s.layerSizes(driver)
	if err != nil {
		return err
	}
	mounts, err := s.mountFolders(driver)
	if err != nil {
		return err
	}
	unnamed := slices.DeleteFunc(folders, func(folder string) bool {
		size, isLayer := layers[folder]
		if isLayer && !isUsed {
			s.found.OtherStore += size
		}
		return isLayer || isUsed && mounts[strings.TrimSuffix(folder, "-init")] || folder == "l" // links to the others
	})
	if isUsed {
		if unnamed, err = s.withoutSnapshots(unnamed); err != nil {
			return err
		}
	}
	for _, folder := range unnamed {
		if isUsed {
			s.add(&s.found.Layers, minLeftoverAge, driver+"/"+folder)
		} else {
			s.add(&s.found.OtherStore, 0, driver+"/"+folder)
		}
	}
	return nil
}

// layerSizes returns the sizes of layers by their folders, also of those that are being removed.
func (s *search) layerSizes(driver string) (map[string]int64, error) {
	names, err := s.names(layerDB(driver, "sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sizes := make(map[string]int64, len(names))
	for _, name := range names {
		folder, err := s.text(layerDB(driver, "sha256", name, "cache-id"))
		if err != nil {
			return nil, err
		}
		text, err := s.text(layerDB(driver, "sha256", name, "size"))
		if err != nil {
			return nil, err
		}
		if sizes[folder], err = strconv.ParseInt(text, 10, 64); text != "" && (err != nil || sizes[folder] < 0) {
			sizes[folder], s.found.Err = 0, fmt.Errorf("the size of the layer %s is %.20q", name, text)
		}
	}
	return sizes, nil
}

// mountFolders returns the folders of writable layers.
func (s *search) mountFolders(driver string) (map[string]bool, error) {
	names, err := s.names(layerDB(driver, "mounts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	folders := make(map[string]bool, len(names))
	for _, name := range names {
		for _, file := range []string{"mount-id", "init-id"} {
			folder, err := s.text(layerDB(driver, "mounts", name, file))
			if err != nil {
				return nil, err
			}
			folders[strings.TrimSuffix(folder, "-init")] = true
		}
	}
	return folders, nil
}

// withoutSnapshots returns the folders that BuildKit's database does not name. The engine has locked
// the file and writes to it. The names are in it as they are: one that is only in a page that is
// not used any more counts as named.
func (s *search) withoutSnapshots(folders []string) ([]string, error) {
	if len(folders) == 0 {
		return nil, nil
	}
	file, err := openFile(filepath.Join(s.path, "buildkit/snapshots.db"))
	if err != nil {
		return folders, ignoreMissing(err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSnapshots+1))
	if err == nil && len(content) > maxSnapshots {
		err = fmt.Errorf("%s: %w", file.Name(), errTooMany)
	}
	return slices.DeleteFunc(folders, func(folder string) bool { return bytes.Contains(content, []byte(folder)) }), err
}

// names returns the directories in a directory.
func (s *search) names(dir string) (names []string, err error) {
	entries := 0
	_, err = readFolder(filepath.Join(s.path, dir), func(_, entry fs.FileInfo) error {
		if entries++; entries > maxWalked {
			return fmt.Errorf("%s: %w", dir, errTooMany)
		}
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
		return s.ctx.Err()
	})
	return names, err
}

// text returns the content of a small file, or "" if it does not exist.
func (s *search) text(name string) (string, error) {
	file, err := openFile(filepath.Join(s.path, name))
	if err != nil {
		return "", ignoreMissing(err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, 200))
	return string(bytes.TrimSpace(content)), err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// addAll adds each directory in a directory that is old enough.
func (s *search) addAll(sum *int64, minAge time.Duration, dir string) {
	names, err := s.names(dir)
	if ignoreMissing(err) != nil {
		s.found.Err = cmp.Or(s.found.Err, err)
	}
	for _, name := range names {
		s.add(sum, minAge, dir+"/"+name)
	}
}

// add adds the blocks of a directory and of all below it, if nothing of it has changed for some
// time. What cannot be walked is left out as a whole.
func (s *search) add(sum *int64, minAge time.Duration, dir string) {
	size, changed, err := s.walk(filepath.Join(s.path, dir), make(map[uint64]bool))
	if err != nil {
		if ignoreMissing(err) != nil && s.ctx.Err() == nil {
			s.found.Err = cmp.Or(s.found.Err, err)
		}
		return
	}
	if minAge == 0 || changed.Before(s.now.Add(-minAge)) || changed.Before(s.since) {
		*sum += size
	}
}

// walk returns the blocks of a directory tree, files with several names once, and when it last
// changed. It leaves out other file systems.
func (s *search) walk(path string, seen map[uint64]bool) (size int64, changed time.Time, err error) {
	var below []string
	visit := func(dir, entry fs.FileInfo) error {
		if s.walked++; s.walked > maxWalked {
			return fmt.Errorf("%s: %w", path, errTooMany)
		}
		from, stat := statOf(dir), statOf(entry)
		if stat.device != from.device || stat.links > 1 && !entry.IsDir() && seen[stat.inode] {
			return s.ctx.Err()
		}
		if entry.IsDir() {
			below = append(below, entry.Name())
			return s.ctx.Err()
		}
		seen[stat.inode] = stat.links > 1
		size, changed = size+stat.bytes, later(changed, stat.changed)
		return s.ctx.Err()
	}
	dir, err := readFolder(path, visit)
	if err != nil {
		return 0, changed, err
	}
	size, changed = size+statOf(dir).bytes, later(changed, statOf(dir).changed)
	for _, name := range below {
		more, at, err := s.walk(filepath.Join(path, name), seen)
		if ignoreMissing(err) != nil {
			return 0, changed, err
		}
		size, changed = size+more, later(changed, at)
	}
	return size, changed, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
