package prune

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

var storeTime = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// storeFixture is a host whose containerd is read. Sizes are powers of two, so that a sum shows
// what is in it.
type storeFixture struct {
	model.Snapshot
	store model.ContentStore
}

// newStoreFixture returns a host with the image app:1 (blobs 1 and 2, snapshots 4 and 8), the
// dangling image "old" (blob 16, snapshot 32, on snapshot 4), the stopped container "c" of app:1
// (snapshots 64 and 128, log not kept) and the record "r" of the build cache (blob 256, snapshot
// 512).
func newStoreFixture() *storeFixture {
	f := &storeFixture{Snapshot: newFixture(model.Containerd, "1.51").snapshot}
	f.At = storeTime
	f.blob("app", 1, "content/layer", "snapshot/top")
	f.blob("layer", 2)
	f.snapshot("base", "", 4)
	f.snapshot("top", "base", 8)
	f.name("app:1", "app")
	f.blob("old", 16, "snapshot/old")
	f.snapshot("old", "base", 32)
	f.name("moby-dangling@old", "old")
	f.Images = model.Known([]model.Image{{ID: "app", Tags: tag("app:1"), HasDigest: model.Known(false)}, {ID: "old", HasDigest: model.Known(false)}})
	f.snapshot("c-init", "top", 64)
	f.store.Objects = append(f.store.Objects, model.StoredObject{Key: "snapshot/c", Parent: "snapshot/c-init"})
	f.lease("c", "snapshot/c", "snapshot/c-init")
	f.Containers = model.Known([]model.Container{{
		ID: "c", ImageID: "app", State: model.Exited, Created: model.Known(storeTime), Size: model.Known[int64](128), KeepsLog: model.Known(false),
		CreatedFrom: model.Known(model.Reference{Tag: "app:1"}),
	}})
	f.blob("recorded", 256, "content/app")
	f.snapshot("r", "", 512)
	f.lease("r", "content/recorded", "snapshot/r").IsFlat = true
	f.BuildCache = model.Known([]model.CacheRecord{{ID: "r", Type: "regular", Size: model.Known[int64](768)}})
	return f
}

func (f *storeFixture) blob(digest string, size int64, references ...string) *model.StoredObject {
	f.store.Objects = append(f.store.Objects, model.StoredObject{Key: model.BlobKey(digest), Size: model.Known(size), References: references})
	return &f.store.Objects[len(f.store.Objects)-1]
}

func (f *storeFixture) snapshot(name, parent string, size int64) {
	o := model.StoredObject{Key: model.SnapshotKey(name), Size: model.Known(size)}
	if parent != "" {
		o.Parent = model.SnapshotKey(parent)
	}
	f.store.Objects = append(f.store.Objects, o)
}

func (f *storeFixture) name(name, target string) *model.StoredImage {
	f.store.Images = append(f.store.Images, model.StoredImage{Name: name, Target: target, Created: storeTime.Add(-time.Hour)})
	return &f.store.Images[len(f.store.Images)-1]
}

func (f *storeFixture) lease(id string, resources ...string) *model.StoredLease {
	f.store.Leases = append(f.store.Leases, model.StoredLease{ID: id, Resources: resources})
	return &f.store.Leases[len(f.store.Leases)-1]
}

func (f *storeFixture) summarize() Summary {
	f.Store = model.Known(f.store)
	return Summarize(f.Snapshot, 3)
}

// expect checks what commands free, exactly.
func (f *storeFixture) expect(t *testing.T, name string, want map[Command]int64) {
	t.Helper()
	got := f.summarize().Reclaimable
	for command, bytes := range want {
		if r, known := got[command]; !known || r != (Reclaimable{bytes, bytes, true}) {
			t.Errorf("%s: %s: got %+v, want exactly %d", name, command, r, bytes)
		}
	}
}

// TestStoreReach checks what each command frees of a host whose containerd is read.
func TestStoreReach(t *testing.T) {
	in := func(d time.Duration) model.Optional[time.Time] { return model.Known(storeTime.Add(d)) }
	tests := []struct {
		name   string
		change func(f *storeFixture)
		want   map[Command]int64
	}{
		{"unchanged", func(*storeFixture) {}, map[Command]int64{
			ContainerPrune: 64 + 128, ImagePrune: 16 + 32, ImagePruneAll: 16 + 32, BuilderPrune: 256 + 512, BuilderPruneAll: 256 + 512,
			SystemPrune: 64 + 128 + 16 + 32 + 256 + 512, SystemPruneAll: 1023, SystemPruneAllVolumes: 1023, VolumePrune: 0,
			ContainerPruneUntil: 0, ImagePruneAllUntil: 0,
		}},
		{"a name older than the filter", func(f *storeFixture) { f.store.Images[1].Created = storeTime.Add(-200 * time.Hour) }, map[Command]int64{ImagePruneAllUntil: 48}},
		{"another name of the image", func(f *storeFixture) { f.name("app:2", "app") }, map[Command]int64{SystemPruneAll: 1023}},
		{"created from the ID", func(f *storeFixture) {
			f.Containers = model.Known([]model.Container{{ID: "c", ImageID: "app", State: model.Running, Size: model.Known[int64](128), CreatedFrom: model.Known(model.Reference{Pinned: true})}})
		}, map[Command]int64{ImagePruneAll: 48, ContainerPrune: 0}},
		{"the tag was moved", func(f *storeFixture) {
			f.Containers = model.Known([]model.Container{{ID: "c", ImageID: "app", State: model.Running, Size: model.Known[int64](128), CreatedFrom: model.Known(model.Reference{Tag: "moved:1"})}})
		}, map[Command]int64{ImagePruneAll: 1 + 2 + 48}}, // the container keeps the snapshots
		{"a record shares a blob", func(f *storeFixture) {
			f.store.Leases[1].Resources = append(f.store.Leases[1].Resources, "content/layer")
		}, map[Command]int64{BuilderPrune: 768, SystemPruneAll: 1023}},
		{"a record that an image shares", func(f *storeFixture) {
			f.BuildCache = model.Known([]model.CacheRecord{{ID: "r", Type: "regular", Shared: true, Size: model.Known[int64](768)}})
			f.store.Layers = map[string][][]string{"old": {{"recorded"}}}
			f.store.Leases[1].Resources = append(f.store.Leases[1].Resources, "content/old")
		}, map[Command]int64{BuilderPrune: 0, BuilderPruneAll: 768, ImagePrune: 32, SystemPrune: 192 + 48 + 768}},
		// BuildKit took the chain of the record before its blob existed, so it is that of another image.
		{"a record that only the engine knows to be shared", func(f *storeFixture) {
			f.BuildCache = model.Known([]model.CacheRecord{{ID: "r", Type: "regular", Shared: true, Size: model.Known[int64](768)}})
			f.store.Layers = map[string][][]string{"app": {{"other"}, {"recorded", "other"}}}
		}, map[Command]int64{BuilderPrune: 0, BuilderPruneAll: 768}},
		{"a record below a shared one of a removed image", func(f *storeFixture) {
			f.snapshot("p", "", 1024)
			f.lease("p", "snapshot/p").IsFlat = true
			f.BuildCache = model.Known([]model.CacheRecord{{ID: "p", Shared: true}, {ID: "r", Shared: true, Parents: []string{"p"}}})
			f.store.Layers = map[string][][]string{"old": {{"recorded"}}}
		}, map[Command]int64{BuilderPrune: 0, SystemPrune: 192 + 48 + 768 + 1024}},
		{"more leases of the record", func(f *storeFixture) {
			f.blob("variant", 1024, "content/deep")
			f.blob("deep", 2048)
			f.lease("r-variants", "content/variant")
		}, map[Command]int64{BuilderPrune: 768 + 1024 + 2048}},
		{"a flat lease follows no reference", func(f *storeFixture) {
			f.blob("index", 1024, "content/deep")
			f.blob("deep", 2048)
			f.lease("r-view", "content/index").IsFlat = true
		}, map[Command]int64{BuilderPrune: 768 + 1024 + 2048, ContainerPrune: 192 + 2048, ImagePrune: 48 + 2048}},
		{"another lease", func(f *storeFixture) { f.blob("kept", 1024); f.lease("other", "content/kept", "content/old") }, map[Command]int64{SystemPruneAll: 1023 - 48 - 4, BuilderPrune: 768}},
		{"an expired lease", func(f *storeFixture) {
			f.blob("kept", 1024)
			f.lease("other", "content/kept").Expires = in(-time.Second)
		}, map[Command]int64{
			BuilderPrune: 768 + 1024, ContainerPrune: 192 + 1024, ImagePrune: 48 + 1024, VolumePrune: 0, ContainerPruneUntil: 0,
		}},
		{"a lease that will expire", func(f *storeFixture) {
			f.blob("kept", 1024)
			f.lease("other", "content/kept").Expires = in(time.Second)
		}, map[Command]int64{BuilderPrune: 768}},
		{"the lease of a pull", func(f *storeFixture) { f.blob("kept", 1024); f.lease("other", "content/kept").IsOfPull = true }, map[Command]int64{ImagePrune: 48 + 1024, BuilderPrune: 768}},
		{"the lease of a lookup", func(f *storeFixture) { f.blob("kept", 1024); f.lease("other", "content/kept").IsOfSource = true }, map[Command]int64{ImagePrune: 48, BuilderPrune: 768 + 1024}},
		{"a record in use", func(f *storeFixture) {
			f.BuildCache = model.Known([]model.CacheRecord{{ID: "r", Type: "regular", InUse: true, Size: model.Known[int64](768)}})
		}, map[Command]int64{BuilderPrune: 0}},
		{"a root", func(f *storeFixture) { f.blob("kept", 1024, "content/old").IsRoot = true }, map[Command]int64{ImagePrune: 0, SystemPruneAll: 1023 - 48 - 4}},
		{"a blob of another namespace", func(f *storeFixture) { f.store.Objects[1].IsElsewhere = true }, map[Command]int64{SystemPruneAll: 1023 - 2}},
		{"an expired name", func(f *storeFixture) { f.store.Images[1].Expires = in(-time.Second) }, map[Command]int64{ImagePrune: 48, ContainerPrune: 192 + 48}},
		{"references in a circle, and to nothing", func(f *storeFixture) {
			f.store.Objects[1].References = []string{"content/app", "content/none", "snapshot/none"}
		}, map[Command]int64{SystemPruneAll: 1023}},
		{"an old record on a younger one", func(f *storeFixture) {
			f.snapshot("p", "", 1024)
			f.lease("p", "snapshot/p").IsFlat = true
			used := func(age time.Duration) model.Optional[time.Time] { return model.Known(storeTime.Add(-age)) }
			f.BuildCache = model.Known([]model.CacheRecord{{ID: "p", LastUsedAt: used(time.Hour)}, {ID: "r", Parents: []string{"p"}, LastUsedAt: used(2 * minAge)}})
		}, map[Command]int64{BuilderPruneUntil: 768, BuilderPrune: 768 + 1024}},
		{"an unknown build cache", func(f *storeFixture) { f.BuildCache = model.Optional[[]model.CacheRecord]{} }, map[Command]int64{ImagePruneAll: 48}},
	}
	for _, test := range tests {
		f := newStoreFixture()
		test.change(f)
		f.expect(t, test.name, test.want)
	}
}

// TestStoreDoubts checks that nothing is exact where something may be wrong.
func TestStoreDoubts(t *testing.T) {
	tests := []struct {
		name    string
		change  func(f *storeFixture)
		command Command
		want    Reclaimable
	}{
		{"changed since", func(f *storeFixture) { f.StoreStale = true }, ImagePrune, Reclaimable{Estimate: 48}},
		{"a record without a lease", func(f *storeFixture) { f.store.Leases[1].ID = "other" }, BuilderPrune, Reclaimable{}},
		{"a container that is not measured", func(f *storeFixture) {
			list, _ := f.Containers.Get()
			list[0].Size, list[0].Failed = model.Optional[int64]{}, true
		}, ContainerPrune, Reclaimable{Estimate: 64, Minimum: 64}},
		{"an image is removed, and only the engine knows which shares a record", func(f *storeFixture) {
			f.BuildCache = model.Known([]model.CacheRecord{{ID: "r", Type: "regular", Shared: true, Size: model.Known[int64](768)}})
		}, SystemPrune, Reclaimable{Estimate: 192 + 48, Minimum: 192 + 48}},
		{"a record without its last blob has the layers of an image that remains", func(f *storeFixture) {
			f.lease("p", "content/layer").IsFlat = true
			f.BuildCache = model.Known([]model.CacheRecord{{ID: "p", Shared: true}, {ID: "r", Shared: true, Parents: []string{"p"}}})
			f.store.Layers = map[string][][]string{"app": {{"layer"}}, "old": {{"layer", "recorded"}}}
		}, SystemPrune, Reclaimable{Estimate: 192 + 48 + 768, Minimum: 192 + 48}},
		{"a log", func(f *storeFixture) {
			list, _ := f.Containers.Get()
			list[0].KeepsLog = model.Known(true)
		}, ContainerPrune, Reclaimable{Estimate: 192, Minimum: 192}},
		{"an unknown origin", func(f *storeFixture) {
			list, _ := f.Containers.Get()
			list[0].CreatedFrom = model.Optional[model.Reference]{}
		}, ImagePruneAll, Reclaimable{Estimate: 48, Minimum: 48}},
	}
	for _, test := range tests {
		f := newStoreFixture()
		test.change(f)
		if got := f.summarize().Reclaimable[test.command]; got != test.want {
			t.Errorf("%s: %s: got %+v, want %+v", test.name, test.command, got, test.want)
		}
	}
}

// TestStoreUsage checks the disk usage, and the repositories.
func TestStoreUsage(t *testing.T) {
	f := newStoreFixture()
	images, _ := f.Images.Get()
	images[1].Repositories = []string{"old"}
	sum := f.summarize()
	want := map[model.Resource]int64{model.Images: 63, model.Containers: 192, model.BuildCache: 768, model.Volumes: 0}
	for resource, bytes := range want {
		if sum.DiskUsage[resource] != bytes {
			t.Errorf("%s: got %d, want %d", resource, sum.DiskUsage[resource], bytes)
		}
	}
	if repositories, _ := sum.Repositories.Get(); len(repositories) != 1 || repositories[0].Reclaimable != model.Known[int64](48) {
		t.Errorf("got the repositories %+v, want one that frees 48", repositories)
	}
}

// TestStoreLeftovers checks what no object accounts for.
func TestStoreLeftovers(t *testing.T) {
	tests := []struct {
		name   string
		change func(f *storeFixture)
		want   int64
	}{
		{"unchanged", func(*storeFixture) {}, 0},
		{"nothing keeps it", func(f *storeFixture) { f.blob("lost", 1024) }, 1024},
		{"a lease keeps it", func(f *storeFixture) { f.blob("lost", 1024); f.lease("other", "content/lost", "content/app") }, 1024},
		{"a pull keeps it", func(f *storeFixture) {
			f.blob("kept", 1024)
			f.lease("other", "content/kept").Expires = model.Known(storeTime.Add(time.Hour))
		}, 0},
		{"another namespace has it", func(f *storeFixture) { f.blob("kept", 1024).IsElsewhere = true }, 0},
		{"the container was removed", func(f *storeFixture) { f.Containers = model.Known([]model.Container{}) }, 64},
	}
	for _, test := range tests {
		f := newStoreFixture()
		f.Leftovers = model.Known(model.LeftoverSizes{Temporary: 5})
		test.change(f)
		if got := f.summarize(); got.DiskUsage[model.Leftovers] != test.want+5 {
			t.Errorf("%s: got %d, want %d", test.name, got.DiskUsage[model.Leftovers], test.want+5)
		}
	}
	for name, change := range map[string]func(f *storeFixture){
		"while a build runs": func(f *storeFixture) {
			records, _ := f.BuildCache.Get()
			records[0].InUse = true
		},
		"after a build that is not listed yet": func(f *storeFixture) { f.BuildCacheStale = true },
	} {
		f := newStoreFixture()
		f.Leftovers = model.Known(model.LeftoverSizes{})
		change(f)
		if bytes, known := f.summarize().DiskUsage[model.Leftovers]; known {
			t.Errorf("%s: got %d, want none", name, bytes)
		}
	}
}

// FuzzStore compares what commands free with a search for everything that is reached.
func FuzzStore(f *testing.F) {
	f.Add([]byte("any bytes are the recipe of a store"))
	f.Add([]byte{3, 1, 0, 2, 5, 9, 1, 4, 0, 7, 7, 2, 1, 0, 3, 8, 6, 2, 4, 1, 1, 5, 0, 9, 250, 13, 4, 77, 1, 9})
	f.Fuzz(func(t *testing.T, raw []byte) {
		fixture := arbitraryStore(raw)
		got := fixture.summarize().Reclaimable
		isAny := func(string) bool { return true }
		tests := []struct {
			command Command
			removes func(holder string) bool
			always  bool // collects garbage also if nothing is removed
		}{
			{ContainerPrune, func(h string) bool { return strings.HasPrefix(h, "lease c") }, false},
			{ImagePruneAll, func(h string) bool { return strings.HasPrefix(h, "name ") || strings.HasPrefix(h, "lease pull") }, false},
			{BuilderPruneAll, func(h string) bool { return strings.HasPrefix(h, "lease r") }, true},
			{SystemPruneAll, func(h string) bool {
				return isAny(h) && !strings.HasPrefix(h, "lease other") && !strings.HasPrefix(h, "root")
			}, true},
		}
		for _, test := range tests {
			want := fixture.freedBy(test.removes, test.always)
			if got[test.command] != (Reclaimable{want, want, true}) {
				t.Errorf("%s: got %+v, want exactly %d\n%+v", test.command, got[test.command], want, fixture.store)
			}
		}
	})
}

// arbitraryStore derives a store of ten blobs and ten snapshots from bytes: three images that
// each have a name, and containers, records, a pull and a foreign lease. No container was made
// from an image that has its name.
func arbitraryStore(raw []byte) *storeFixture {
	f := &storeFixture{Snapshot: newFixture(model.Containerd, "1.51").snapshot}
	f.At = storeTime
	next := 0
	draw := func(n int) int {
		next++
		return int(byteAt(raw, next-1)) % n
	}
	key := func() string {
		return []string{model.BlobKey(fmt.Sprint("b", draw(10))), model.SnapshotKey(fmt.Sprint("s", draw(10)))}[draw(2)]
	}
	keys := func() (list []string) {
		for range draw(4) {
			list = append(list, key())
		}
		return list
	}
	for i := range 10 {
		f.blob(fmt.Sprint("b", i), int64(1)<<i, keys()...).IsElsewhere = draw(8) == 0
		f.store.Objects[len(f.store.Objects)-1].IsRoot = draw(12) == 0
		parent := ""
		if i > 0 && draw(3) > 0 {
			parent = fmt.Sprint("s", draw(i))
		}
		f.snapshot(fmt.Sprint("s", i), parent, int64(1)<<(10+i))
		f.store.Objects[len(f.store.Objects)-1].References = keys()
	}
	var images []model.Image
	for i := range 3 {
		id := fmt.Sprint("b", i)
		images = append(images, model.Image{ID: id, Tags: tag(id + ":1"), HasDigest: model.Known(false)})
		f.name(id+":1", id)
	}
	var containers []model.Container
	var records []model.CacheRecord
	for _, id := range []string{"c0", "c1", "r0", "r1", "pull", "other"} {
		lease := f.lease(id, keys()...)
		lease.IsFlat, lease.IsOfPull = id[0] == 'r' || draw(4) == 0, id == "pull"
		switch id[0] {
		case 'c':
			containers = append(containers, model.Container{ID: id, State: model.Exited, Size: model.Known[int64](0), KeepsLog: model.Known(false), CreatedFrom: model.Known(model.Reference{Tag: "gone:1"})})
		case 'r':
			records = append(records, model.CacheRecord{ID: id, Size: model.Known[int64](0)})
		}
	}
	f.Images, f.Containers, f.BuildCache = model.Known(images), model.Known(containers), model.Known(records)
	return f
}

// freedBy returns the bytes that are reached by no holder that remains, unless nothing is removed.
func (f *storeFixture) freedBy(removes func(holder string) bool, always bool) (bytes int64) {
	kept, removed := make(map[string]bool), always
	hold := func(holder string, isFlat bool, keys ...string) {
		if removes(holder) {
			removed = true
			return
		}
		for reached := f.closure(keys, isFlat); len(reached) > 0; reached = reached[1:] {
			kept[reached[0]] = true
		}
	}
	for _, name := range f.store.Images {
		hold("name "+name.Name, false, model.BlobKey(name.Target))
	}
	for _, lease := range f.store.Leases {
		hold("lease "+lease.ID, lease.IsFlat, lease.Resources...)
	}
	for _, o := range f.store.Objects {
		if o.IsRoot {
			hold("root", false, o.Key)
		}
	}
	for _, o := range f.store.Objects {
		if size, _ := o.Size.Get(); removed && !kept[o.Key] && !o.IsElsewhere {
			bytes += size
		}
	}
	return bytes
}

// closure adds what keys reach until nothing is new.
func (f *storeFixture) closure(keys []string, isFlat bool) []string {
	reached := slices.Clone(keys)
	for n := -1; n != len(reached); {
		n = len(reached)
		for _, o := range f.store.Objects {
			if !slices.Contains(reached, o.Key) {
				continue
			}
			below := []string{o.Parent}
			if !isFlat {
				below = append(below, o.References...)
			}
			for _, key := range below {
				if key != "" && !slices.Contains(reached, key) {
					reached = append(reached, key)
				}
			}
		}
	}
	return reached
}
