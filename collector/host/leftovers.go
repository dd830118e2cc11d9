package host

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
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

	root  *os.Root
	left  int // entries that may still be visited
	found Leftovers
}

func (s *search) run() (_ Leftovers, err error) {
	if s.root, err = os.OpenRoot(s.path); err != nil {
		return Leftovers{}, err
	}
	defer s.root.Close()
	s.left = maxWalked
	containers, err := folderNames(s.root, "containers")
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
	drivers, err := folderNames(s.root, "image")
	if ignoreMissing(err) != nil {
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

// searchDriver searches the folders of a graph driver that keeps one for each layer. Those of another
// driver than the engine's, and all of them with the containerd store, are of an image store that is
// not used any more: its database has the sizes of the layers. Folders that no database names are
// what is left of pulls and builds that died. The folders are listed first: what is made later is in
// a database, too.
func (s *search) searchDriver(driver string) error {
	if !hasDiffs(driver) {
		return nil
	}
	isUsed := s.engine.ImageStore == model.GraphDriver && s.engine.StorageDriver == driver
	folders, err := folderNames(s.root, driver)
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
	names, err := folderNames(s.root, layerDB(driver, "sha256"))
	if ignoreMissing(err) != nil {
		return nil, err
	}
	sizes := make(map[string]int64, len(names))
	for _, name := range names {
		folder, err := readText(s.root, layerDB(driver, "sha256", name, "cache-id"))
		if ignoreMissing(err) != nil {
			return nil, err
		}
		text, err := readText(s.root, layerDB(driver, "sha256", name, "size"))
		if ignoreMissing(err) != nil {
			return nil, err
		}
		if sizes[folder], err = strconv.ParseInt(text, 10, 64); text != "" && (err != nil || sizes[folder] < 0) {
			sizes[folder], s.found.Err = 0, fmt.Errorf("the size of the layer %s is %.20q", name, text)
		}
	}
	return sizes, nil
}

func (s *search) mountFolders(driver string) (map[string]bool, error) {
	names, err := folderNames(s.root, layerDB(driver, "mounts"))
	if ignoreMissing(err) != nil {
		return nil, err
	}
	folders := make(map[string]bool, len(names))
	for _, name := range names {
		for _, file := range []string{"mount-id", "init-id"} {
			folder, err := readText(s.root, layerDB(driver, "mounts", name, file))
			if ignoreMissing(err) != nil {
				return nil, err
			}
			folders[strings.TrimSuffix(folder, "-init")] = true
		}
	}
	return folders, nil
}

// withoutSnapshots returns the folders that BuildKit's database does not name. The names are in it as
// they are: one that is only in a page that is not used any more counts as named.
func (s *search) withoutSnapshots(folders []string) ([]string, error) {
	if len(folders) == 0 {
		return nil, nil
	}
	content, err := readSnapshots(s.root)
	return slices.DeleteFunc(folders, func(folder string) bool { return bytes.Contains(content, []byte(folder)) }), ignoreMissing(err)
}

// addAll adds each directory in a directory that is old enough.
func (s *search) addAll(sum *int64, minAge time.Duration, dir string) {
	names, err := folderNames(s.root, dir)
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
	var size int64
	var changed time.Time
	err := walkTree(s.ctx, s.root, dir, &s.left, func(entry fs.FileInfo) {
		stat := statOf(entry)
		size += stat.bytes
		if stat.changed.After(changed) {
			changed = stat.changed
		}
	})
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
