package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
)

// layerReader reads the layer store of one data root (moby: layer.fileMetadataStore), and keeps what
// cannot change.
type layerReader struct {
	dir, driver string

	last      layerState                   // that was read completely
	layers    map[string]model.StoredLayer // by chain ID
	mounts    map[string]string
	snapshots cacheSnapshots
	sizes     map[string]folderSize // by folder of the driver
	walked    walk
	store     *model.LayerStore // the last answer; nil once something has changed
}

// cacheSnapshots are the records of BuildKit's snapshotter, at a transaction.
type cacheSnapshots struct {
	transaction uint64
	all         map[string]cacheSnapshot // nil: not read
}

// cacheSnapshot is a record of BuildKit's snapshotter (moby: builder-next/adapters/snapshot).
type cacheSnapshot struct {
	chainID     string // of the layer that it has become
	folder      string // of its files
	isCommitted bool   // its files do not change any more
	isMoved     bool   // it has been committed as another record
	hasParent   bool
	size        model.Optional[int64]
}

// walk is the last time that the folders were measured whose files can change.
type walk struct {
	transaction uint64 // of BuildKit's metadata, which has one for each use of a record
	ended       time.Time
	took        time.Duration
}

type folderSize struct {
	bytes      model.Optional[int64]
	measuredAt time.Time
}

const readAttempts = 3

var (
	errChanging = errors.New("the engine's root directory changes while it is read")
	chainID     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	folderName  = regexp.MustCompile(`^[0-9a-z]{1,128}$`)
)

// LayerStore reads the layer store of an engine whose root directory this process sees; else it is nil. It
// returns the same pointer as long as nothing has changed. busy is how long it took without measuring
// folders whose files can change: it does that after a build, and for no more than a ratio of the time.
func (f *Filesystems) LayerStore(ctx context.Context, engine Engine, busyRatio float64) (store *model.LayerStore, busy time.Duration, err error) {
	started := time.Now()
	seen, err := f.directories(ctx, engine, engine.Docker)
	if err != nil {
		return nil, time.Since(started), nil
	}
	type answer struct {
		store  *model.LayerStore
		walked time.Duration
	}
	for _, at := range seen {
		var got answer
		reader := f.layerReader(at.path, engine.StorageDriver)
		got, err = read(ctx, f, "layer store of "+at.path, func() (answer, error) {
			store, walked, err := reader.read(ctx, busyRatio)
			return answer{store, walked}, err
		})
		if err == nil {
			return got.store, time.Since(started) - got.walked, nil
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, 0, noAccess(err)
	}
	return nil, 0, &model.Failure{Reason: err.Error(), Err: err}
}

func (f *Filesystems) layerReader(dir, driver string) *layerReader {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.layers == nil || f.layers.dir != dir || f.layers.driver != driver {
		f.layers = newLayerReader(dir, driver)
	}
	return f.layers
}

func newLayerReader(dir, driver string) *layerReader {
	return &layerReader{dir: dir, driver: driver, layers: make(map[string]model.StoredLayer), mounts: make(map[string]string), sizes: make(map[string]folderSize)}
}

// read returns the layer store at one moment: what it consists of is the same before and after.
func (r *layerReader) read(ctx context.Context, busyRatio float64) (*model.LayerStore, time.Duration, error) {
	root, err := os.OpenRoot(r.dir) // no link leads out of it
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	for range readAttempts {
		var before, after layerState
		if before, err = r.state(root); err != nil {
			return nil, 0, err
		}
		if r.store == nil || !before.equal(r.last) {
			r.last = layerState{}
			readErr := r.update(root, before)
			if after, err = r.state(root); err != nil {
				return nil, 0, err
			}
			if !before.equal(after) {
				err = errors.Join(errChanging, readErr)
				continue
			}
			if readErr != nil {
				return nil, 0, readErr
			}
			r.last = before
		}
		walked, isWalked, err := r.measure(ctx, root, before.metadata, busyRatio)
		if err != nil {
			return nil, walked, err
		}
		if r.store == nil || isWalked {
			r.store = r.snapshot()
		}
		return r.store, walked, nil
	}
	return nil, 0, err
}

// layerState is what changes with every change of the layer store.
type layerState struct {
	layers, mounts      []string // names of folders, sorted
	snapshots, metadata uint64   // transactions
}

func (s layerState) equal(other layerState) bool {
	return slices.Equal(s.layers, other.layers) && slices.Equal(s.mounts, other.mounts) && s.snapshots == other.snapshots && s.metadata == other.metadata
}

// layerDB returns a directory of the layer database of a graph driver (moby: layer.fileMetadataStore).
func layerDB(driver string, names ...string) string {
	return path.Join("image", driver, "layerdb", path.Join(names...))
}

const (
	snapshotsFile = "buildkit/snapshots.db"
	metadataFile  = "buildkit/metadata_v2.db"
)

func (r *layerReader) state(root *os.Root) (s layerState, err error) {
	if _, err := root.Stat(layerDB(r.driver)); err != nil {
		return s, err
	}
	// The engine makes a directory for its first entry, and ignores files (moby: fileMetadataStore.List).
	if s.layers, err = folderNames(root, layerDB(r.driver, "sha256")); ignoreMissing(err) != nil {
		return s, err
	}
	s.layers = slices.DeleteFunc(s.layers, func(name string) bool { return !isObjectID(name) }) // it is being removed
	if s.mounts, err = folderNames(root, layerDB(r.driver, "mounts")); ignoreMissing(err) != nil {
		return s, err
	}
	if s.snapshots, err = lastTransaction(root, snapshotsFile); err == nil {
		s.metadata, err = lastTransaction(root, metadataFile)
	}
	return s, err
}

func lastTransaction(root *os.Root, name string) (uint64, error) {
	file, err := open(root, name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	meta, err := readBoltMeta(file)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return meta.transaction, nil
}

// update reads what is new in a state, and drops what is gone.
func (r *layerReader) update(root *os.Root, s layerState) error {
	known := len(r.layers) + len(r.mounts)
	isListed := func(names []string, name string) bool {
		_, found := slices.BinarySearch(names, strings.TrimPrefix(name, "sha256:"))
		return found
	}
	maps.DeleteFunc(r.layers, func(id string, _ model.StoredLayer) bool { return !isListed(s.layers, id) })
	maps.DeleteFunc(r.mounts, func(id, _ string) bool { return !isListed(s.mounts, id) })
	if known != len(r.layers)+len(r.mounts) {
		r.store = nil
	}
	for _, name := range s.layers {
		if _, isKnown := r.layers["sha256:"+name]; !isKnown {
			layer, err := readLayer(root, layerDB(r.driver, "sha256", name))
			if err != nil {
				return err
			}
			r.layers["sha256:"+name], r.store = layer, nil
		}
	}
	for _, name := range s.mounts {
		if _, isKnown := r.mounts[name]; !isKnown {
			parent, err := readChainID(root, layerDB(r.driver, "mounts", name, "parent"))
			if err != nil {
				return err
			}
			r.mounts[name], r.store = parent, nil
		}
	}
	if r.snapshots.all == nil || r.snapshots.transaction != s.snapshots {
		data, err := readSnapshots(root)
		if err != nil {
			return err
		}
		all, err := parseSnapshots(data)
		if err != nil {
			return fmt.Errorf("%s: %w", snapshotsFile, err)
		}
		r.snapshots, r.store = cacheSnapshots{s.snapshots, all}, nil
	}
	return nil
}

func readLayer(root *os.Root, dir string) (layer model.StoredLayer, err error) {
	text, err := readText(root, dir+"/size")
	if err != nil {
		return layer, err
	}
	if layer.Size, err = strconv.ParseInt(text, 10, 64); err != nil || layer.Size < 0 {
		return layer, fmt.Errorf("%s/size: %q is no size", dir, text)
	}
	layer.Parent, err = readChainID(root, dir+"/parent")
	return layer, err
}

// readChainID returns the chain ID in a file, or "" if the file does not exist.
func readChainID(root *os.Root, file string) (string, error) {
	text, err := readText(root, file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && !chainID.MatchString(text) {
		return "", fmt.Errorf("%s: %q is no chain ID", file, text)
	}
	return text, err
}

// parseSnapshots returns the snapshots in a database: a bucket for each.
func parseSnapshots(data []byte) (map[string]cacheSnapshot, error) {
	meta, err := readBoltMeta(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	f := &boltFile{boltMeta: meta, data: data, left: 4 * int64(len(data))} // a bucket can be inside of an element
	all := make(map[string]cacheSnapshot)
	err = f.walk(meta.root, func(key, value []byte, isBucket bool) error {
		if !isBucket {
			return nil
		}
		id := string(key)
		s := cacheSnapshot{folder: id}
		err := f.walkBucket(value, func(key, value []byte, _ bool) error {
			switch string(key) {
			case "chainid":
				s.chainID = string(value)
			case "committed":
				s.folder, s.isCommitted = string(value), true
			case "iscommitted":
				s.isMoved = true
			case "parent":
				s.hasParent = len(value) > 0
			case "size":
				if bytes, err := strconv.ParseInt(string(value), 10, 64); err == nil && bytes >= 0 {
					s.size = model.Known(bytes)
				}
			}
			return nil
		})
		all[id] = s
		return err
	})
	return all, err
}

// measure measures the folders of snapshots that are no layers. One that is committed is measured once.
// The others are measured after each transaction of BuildKit's metadata, under the busy ratio.
func (r *layerReader) measure(ctx context.Context, root *os.Root, transaction uint64, busyRatio float64) (took time.Duration, isWalked bool, err error) {
	started := time.Now()
	isDue := r.walked.ended.IsZero() || r.walked.transaction != transaction && (busyRatio >= 1 || r.walked.took.Seconds() <= busyRatio*started.Sub(r.walked.ended).Seconds())
	isUsed := make(map[string]bool, len(r.sizes))
	for _, s := range r.snapshots.all {
		if s.chainID != "" || s.isMoved || s.isCommitted && s.size.IsKnown() || !folderName.MatchString(s.folder) {
			continue
		}
		isUsed[s.folder] = true
		if _, isKnown := r.sizes[s.folder]; isKnown && (s.isCommitted || !isDue) {
			continue
		}
		at := time.Now()
		bytes, err := int64(0), errors.ErrUnsupported
		if r.driver != btrfs || !r.snapshots.all[s.folder].hasParent { // whose files would be there, too
			bytes, err = treeSize(ctx, root, layerFolder(r.driver, s.folder))
		}
		if ctx.Err() != nil {
			return time.Since(started), true, ctx.Err()
		}
		r.sizes[s.folder], isWalked = folderSize{model.Of(bytes, err), at}, true
	}
	maps.DeleteFunc(r.sizes, func(folder string, _ folderSize) bool { return !isUsed[folder] })
	took = time.Since(started)
	if isDue {
		r.walked = walk{transaction, time.Now(), took}
	}
	return took, isWalked, nil
}

const btrfs = "btrfs"

// ReadsLayers reports whether LayerStore can read the layer store of a graph driver.
func ReadsLayers(driver string) bool { return driver == btrfs || hasDiffs(driver) }

// hasDiffs reports whether a graph driver keeps a folder for each layer with its own files only.
func hasDiffs(driver string) bool { return driver == "overlay2" || driver == "fuse-overlayfs" }

// layerFolder returns where a graph driver keeps the files of a layer (moby: graphdriver.Driver.Get).
func layerFolder(driver, name string) string {
	if driver == btrfs {
		return path.Join(driver, "subvolumes", name)
	}
	return path.Join(driver, name, "diff")
}

// treeSize returns the bytes of all files in a folder, with hard links once (moby: directory.Size).
func treeSize(ctx context.Context, root *os.Root, dir string) (bytes int64, err error) {
	left := maxEntries
	err = walkTree(ctx, root, dir, &left, func(entry fs.FileInfo) {
		if !entry.IsDir() {
			bytes += entry.Size()
		}
	})
	return bytes, err
}

func (r *layerReader) snapshot() *model.LayerStore {
	store := &model.LayerStore{Layers: maps.Clone(r.layers), Mounts: maps.Clone(r.mounts), Records: make(map[string]model.StoredRecord, len(r.snapshots.all))}
	for id, s := range r.snapshots.all {
		if s.isMoved {
			continue
		}
		record := model.StoredRecord{ChainID: s.chainID, Size: s.size}
		if s.chainID == "" && !(s.isCommitted && s.size.IsKnown()) {
			record.Size = r.sizes[s.folder].bytes
			if !s.isCommitted {
				record.MeasuredAt = r.sizes[s.folder].measuredAt
			}
		}
		store.Records[id] = record
	}
	return store
}
