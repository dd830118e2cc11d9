package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"

	bolt "go.etcd.io/bbolt"
)

// testRoot is the root directory of an engine.
type testRoot struct {
	testing.TB
	dir string
}

func newTestRoot(t testing.TB) testRoot {
	r := testRoot{t, t.TempDir()}
	r.mkdir("image/overlay2/layerdb")
	r.snapshots(nil)
	r.used()
	return r
}

func (r testRoot) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r testRoot) mkdir(dir string) { r.must(os.MkdirAll(filepath.Join(r.dir, dir), 0o755)) }

func (r testRoot) write(name, content string) {
	r.mkdir(filepath.Dir(name))
	r.must(os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o644))
}

// chain returns a chain ID that is easy to recognize.
func chain(name string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(name))) }

const testLayerDB = "image/overlay2/layerdb/"

func (r testRoot) layer(name, parent, size string) {
	dir := testLayerDB + strings.Replace(chain(name), ":", "/", 1) + "/"
	r.write(dir+"size", size)
	r.write(dir+"cache-id", name)
	if parent != "" {
		r.write(dir+"parent", chain(parent))
	}
}

func (r testRoot) mount(container, parent string) {
	r.write(testLayerDB+"mounts/"+container+"/mount-id", container)
	if parent != "" {
		r.write(testLayerDB+"mounts/"+container+"/parent", chain(parent))
	}
}

// update changes a database in one transaction.
func (r testRoot) update(file string, change func(*bolt.Tx) error) {
	r.Helper()
	r.mkdir(filepath.Dir(file))
	db, err := bolt.Open(filepath.Join(r.dir, file), 0o600, nil)
	r.must(err)
	r.must(db.Update(change))
	r.must(db.Close())
}

// snapshots sets keys of snapshots.
func (r testRoot) snapshots(all map[string]map[string]string) {
	r.update(snapshotsFile, func(tx *bolt.Tx) error {
		for id, keys := range all {
			bucket, err := tx.CreateBucketIfNotExists([]byte(id))
			for key, value := range keys {
				err = errors.Join(err, bucket.Put([]byte(key), []byte(value)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// used says that a build has used a record.
func (r testRoot) used() {
	r.update(metadataFile, func(*bolt.Tx) error { return nil })
}

func (r testRoot) reader() *layerReader { return newLayerReader(r.dir, "overlay2") }

func (r testRoot) read(reader *layerReader) *model.LayerStore {
	r.Helper()
	store, _, err := reader.read(r.Context(), 1)
	r.must(err)
	return store
}

func TestLayerStore(t *testing.T) {
	t.Parallel()
	r := newTestRoot(t)
	r.layer("base", "", "100")
	r.layer("app", "base", "20\n")
	r.write(testLayerDB+"sha256/"+strings.Repeat("0", 64)+"-123-removing/size", "7")
	r.mount("container", "app")
	r.mount("empty", "")
	r.write(testLayerDB+"mounts/file", "")
	r.snapshots(map[string]map[string]string{
		"layer":       {"committed": "moved", "chainid": chain("app"), "size": "1"},
		"moved":       {"iscommitted": "", "parent": "x"},
		"image":       {"chainid": chain("base")},
		"step":        {"committed": "moved2", "size": "33"},
		"measured":    {"committed": "moved3"},
		"context":     {"parent": "", "size": "1"},
		"gone":        {"parent": "", "size": "4"},
		"../../image": {"parent": ""},
	})
	r.write("overlay2/moved3/diff/file", "12345")
	r.write("overlay2/context/diff/a/b", "1234567")
	r.write(filepath.Join("overlay2/context", "work", "file"), "not counted")
	r.must(os.Link(filepath.Join(r.dir, "overlay2/context/diff/a/b"), filepath.Join(r.dir, "overlay2/context/diff/link")))
	r.must(os.Symlink("..", filepath.Join(r.dir, "overlay2/context/diff/a/up")))
	r.must(syscall.Mkfifo(filepath.Join(r.dir, "overlay2/context/diff/pipe"), 0o600))

	started := time.Now()
	store := r.read(r.reader())
	if len(store.Layers) != 2 || store.Layers[chain("base")] != (model.StoredLayer{Size: 100}) || store.Layers[chain("app")] != (model.StoredLayer{Parent: chain("base"), Size: 20}) {
		t.Errorf("layers: %v", store.Layers)
	}
	if len(store.Mounts) != 2 || store.Mounts["container"] != chain("app") || store.Mounts["empty"] != "" {
		t.Errorf("mounts: %v", store.Mounts)
	}
	for id, want := range map[string]model.StoredRecord{
		"layer":       {ChainID: chain("app"), Size: model.Known[int64](1)},
		"image":       {ChainID: chain("base")},
		"step":        {Size: model.Known[int64](33)},
		"measured":    {Size: model.Known[int64](5)},
		"context":     {Size: model.Known[int64](9)}, // 7, and a link of 2
		"gone":        {},
		"../../image": {},
	} {
		got := store.Records[id]
		if isRewritten := id == "context" || id == "gone"; isRewritten && (got.MeasuredAt.Before(started) || got.MeasuredAt.After(time.Now())) {
			t.Errorf("%s: measured at %v", id, got.MeasuredAt)
		}
		if got.MeasuredAt = (time.Time{}); got != want {
			t.Errorf("%s: got %+v, want %+v", id, got, want)
		}
	}
	if _, exists := store.Records["moved"]; exists || len(store.Records) != 7 {
		t.Errorf("records: %v", store.Records)
	}
}

// TestLayerStoreBtrfs checks that only folders are measured that have nothing of a layer below.
func TestLayerStoreBtrfs(t *testing.T) {
	t.Parallel()
	r := newTestRoot(t)
	r.mkdir("image/btrfs/layerdb")
	r.snapshots(map[string]map[string]string{
		"context": {"parent": ""},
		"step":    {"committed": "moved"},
		"moved":   {"iscommitted": "", "parent": "context"},
		"running": {"parent": "context"},
		"layer":   {"chainid": chain("app")},
	})
	for _, folder := range []string{"context", "moved", "running"} {
		r.write("btrfs/subvolumes/"+folder+"/file", "12345")
	}
	store := r.read(newLayerReader(r.dir, "btrfs"))
	for id, want := range map[string]model.Optional[int64]{"context": model.Known[int64](5), "step": {}, "running": {}, "layer": {}} {
		if got := store.Records[id].Size; got != want {
			t.Errorf("%s: got %v, want %v", id, got, want)
		}
	}
}

// TestLayerStoreChanges checks that an answer stays as long as nothing has changed, and what is read again.
func TestLayerStoreChanges(t *testing.T) {
	t.Parallel()
	r := newTestRoot(t)
	r.layer("base", "", "100")
	r.mount("container", "base")
	r.snapshots(map[string]map[string]string{"context": {"parent": ""}})
	r.write("overlay2/context/diff/file", "123")
	reader := r.reader()
	before := r.read(reader)
	size := func() int64 {
		bytes, _ := r.read(reader).Records["context"].Size.Get()
		return bytes
	}
	r.write("overlay2/context/diff/file", "12345")
	if r.read(reader) != before {
		t.Error("another answer, although no build has used the record")
	}
	if r.used(); size() != 5 {
		t.Errorf("after a build has used the record: %d bytes", size())
	}
	if r.layer("app", "base", "1"); r.read(reader).Layers[chain("app")].Size != 1 {
		t.Error("no new layer")
	}
	r.must(os.RemoveAll(filepath.Join(r.dir, testLayerDB, "mounts/container")))
	if _, exists := r.read(reader).Mounts["container"]; exists {
		t.Error("a mount that is gone")
	}
	if len(before.Mounts) != 1 || len(before.Layers) != 1 {
		t.Error("an earlier answer has changed")
	}
	r.snapshots(map[string]map[string]string{"context": {"chainid": chain("base")}})
	if got := r.read(reader).Records["context"].ChainID; got != chain("base") {
		t.Errorf("the record has become a layer: %q", got)
	}
}

// TestLayerStoreBusyRatio checks that folders whose files can change are not measured all the time.
func TestLayerStoreBusyRatio(t *testing.T) {
	t.Parallel()
	r := newTestRoot(t)
	r.snapshots(map[string]map[string]string{"context": {"parent": ""}})
	r.write("overlay2/context/diff/file", "123")
	reader := r.reader()
	before := r.read(reader)
	reader.walked.took = time.Hour
	r.write("overlay2/context/diff/file", "12345")
	r.used()
	read := func() *model.LayerStore {
		store, _, err := reader.read(t.Context(), 0.1)
		r.must(err)
		return store
	}
	if read() != before {
		t.Error("measured at once, although that takes an hour")
	}
	reader.walked.ended = time.Now().Add(-10 * time.Hour)
	if got := read().Records["context"]; got.Size != model.Known[int64](5) || !got.MeasuredAt.After(before.Records["context"].MeasuredAt) {
		t.Errorf("not measured after ten hours: %v", got)
	}
}

// TestLayerStoreErrors checks that nothing is returned for a directory that is not understood.
func TestLayerStoreErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]func(r testRoot){
		"no layer database":  func(r testRoot) { r.must(os.RemoveAll(filepath.Join(r.dir, "image"))) },
		"no snapshots":       func(r testRoot) { r.must(os.Remove(filepath.Join(r.dir, snapshotsFile))) },
		"no metadata":        func(r testRoot) { r.must(os.Remove(filepath.Join(r.dir, metadataFile))) },
		"no directory":       func(r testRoot) { r.must(os.RemoveAll(r.dir)) },
		"size is no number":  func(r testRoot) { r.layer("bad", "", "ten") },
		"size is negative":   func(r testRoot) { r.layer("bad", "", "-1") },
		"size is too large":  func(r testRoot) { r.layer("bad", "", "9223372036854775808") },
		"size is empty":      func(r testRoot) { r.layer("bad", "", "") },
		"size is missing":    func(r testRoot) { r.mkdir(testLayerDB + strings.Replace(chain("bad"), ":", "/", 1)) },
		"size is a folder":   func(r testRoot) { r.mkdir(testLayerDB + strings.Replace(chain("bad"), ":", "/", 1) + "/size") },
		"parent is hostile":  func(r testRoot) { r.write(testLayerDB+"mounts/c/parent", "../../../etc") },
		"link out of it":     func(r testRoot) { r.link(testLayerDB+"mounts", "/etc") },
		"link to itself":     func(r testRoot) { r.link(testLayerDB+"sha256", "sha256") },
		"snapshots is empty": func(r testRoot) { r.write(snapshotsFile, "") },
		"snapshots is text":  func(r testRoot) { r.write(snapshotsFile, strings.Repeat("text", 10_000)) },
		"snapshots is a pipe": func(r testRoot) {
			r.must(os.Remove(filepath.Join(r.dir, snapshotsFile)))
			r.must(syscall.Mkfifo(filepath.Join(r.dir, snapshotsFile), 0o600))
		},
		"snapshots is cut": func(r testRoot) {
			r.snapshots(map[string]map[string]string{"record": {"parent": ""}})
			r.must(os.Truncate(filepath.Join(r.dir, snapshotsFile), 2*4096))
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTestRoot(t)
			reader := r.reader()
			r.read(reader)
			change(r)
			for range 2 {
				if store, _, err := reader.read(t.Context(), 1); err == nil {
					t.Errorf("got %+v, want an error", store)
				}
			}
		})
	}
}

func (r testRoot) link(name, target string) {
	r.must(os.RemoveAll(filepath.Join(r.dir, name)))
	r.must(os.Symlink(target, filepath.Join(r.dir, name)))
}

// TestLayerStoreWhileChanging checks that an answer is of one moment.
func TestLayerStoreWhileChanging(t *testing.T) {
	t.Parallel()
	r := newTestRoot(t)
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { // a layer is of the container until the build cache has it
		defer close(stopped)
		for i := 0; ctx.Err() == nil; i++ {
			r.layer(fmt.Sprint(i), "", "1")
			r.snapshots(map[string]map[string]string{"record": {"chainid": chain(fmt.Sprint(i))}})
			os.RemoveAll(filepath.Join(r.dir, testLayerDB, strings.Replace(chain(fmt.Sprint(i-1)), ":", "/", 1)))
		}
	}()
	defer func() { stop(); <-stopped }()
	reader := r.reader()
	for range 50 {
		store, _, err := reader.read(ctx, 1)
		if err != nil {
			continue
		}
		if id := store.Records["record"].ChainID; id != "" && store.Layers[id].Size != 1 {
			t.Fatalf("the layer of the record is missing: %+v", store)
		}
	}
}

// TestLayerStoreFailures checks what is said of a directory that cannot be read, and that nothing is said
// where it is not visible.
func TestLayerStoreFailures(t *testing.T) {
	t.Parallel()
	r := newTestRoot(t)
	engine := Engine{Roots: Roots{Docker: "/var/lib/docker", StorageDriver: "overlay2"}}
	f := New([]MountMapping{{"/var/lib/docker", r.dir}}, nil)
	if store, _, err := f.LayerStore(t.Context(), engine, 1); store == nil || err != nil {
		t.Errorf("got %v, %v", store, err)
	}
	f = New([]MountMapping{{"/var/lib/docker", filepath.Join(r.dir, "image")}}, nil)
	failure := new(model.Failure)
	if _, _, err := f.LayerStore(t.Context(), engine, 1); !errors.As(err, &failure) || !errors.Is(err, fs.ErrNotExist) || failure.NoAccess {
		t.Errorf("another directory: got %v", err)
	}
	if store, _, err := New(nil, nil).LayerStore(t.Context(), engine, 1); store != nil || err != nil {
		t.Errorf("not visible: got %v, %v", store, err)
	}
}

// TestSnapshotsOfManyPages compares what is read of a large database with what was written.
func TestSnapshotsOfManyPages(t *testing.T) {
	t.Parallel()
	r := newTestRoot(t)
	all := make(map[string]map[string]string)
	for i := range 5000 {
		all[fmt.Sprintf("record%d", i)] = map[string]string{"size": fmt.Sprint(i), "description": strings.Repeat("x", i*7%3000)}
	}
	r.snapshots(all)
	data, err := os.ReadFile(filepath.Join(r.dir, snapshotsFile))
	r.must(err)
	got, err := parseSnapshots(data)
	if err != nil || len(got) != len(all) {
		t.Fatalf("%d snapshots, %v", len(got), err)
	}
	for id, keys := range all {
		if bytes, _ := got[id].size.Get(); fmt.Sprint(bytes) != keys["size"] {
			t.Errorf("%s: %d", id, bytes)
		}
	}
}

// FuzzParseSnapshots checks that a database of any content is an error or an answer.
func FuzzParseSnapshots(f *testing.F) {
	file := filepath.Join(f.TempDir(), "db")
	db, err := bolt.Open(file, 0o600, &bolt.Options{PageSize: 1024})
	if err != nil {
		f.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for i := range 40 {
			bucket, err := tx.CreateBucket(fmt.Appendf(nil, "record%d", i))
			err = errors.Join(err, bucket.Put([]byte("chainid"), []byte(chain("base"))), bucket.Put([]byte("size"), []byte(strings.Repeat("1", i*10))))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, uint16(0), uint64(0), uint16(0), uint64(0))
	f.Add(seed, uint16(2048), uint64(1<<40), uint16(16), uint64(0))
	f.Fuzz(func(_ *testing.T, data []byte, at uint16, value uint64, other uint16, otherValue uint64) {
		data = append([]byte(nil), data...)
		for place, value := range map[uint16]uint64{at: value, other: otherValue} { // what a fuzzer does not find by itself
			if value != 0 && int(place)+8 <= len(data) {
				copy(data[place:], fmt.Appendf(nil, "%c%c%c%c", byte(value), byte(value>>8), byte(value>>16), byte(value>>24)))
			}
		}
		parseSnapshots(data)
	})
}
