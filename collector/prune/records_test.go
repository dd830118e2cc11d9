package prune

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// The estimate is that of the most likely layers, and the minimum is certain.
func TestEstimateOfCache(t *testing.T) {
	size := model.Known[int64]
	for _, test := range []struct {
		name    string
		images  []string // layers of each
		records []model.CacheRecord
		command Command
		want    Reclaimable
	}{
		{
			"a build context that was rewritten has the size that the engine reports", nil,
			[]model.CacheRecord{{ID: "context", Type: "source.local", Rewritten: true, Size: size(4000)}},
			BuilderPrune, Reclaimable{4000, 0, false},
		},
		{
			"a build without the cache repeats steps", nil,
			[]model.CacheRecord{{ID: "a", Size: size(10)}, {ID: "b", Parents: tag("a"), Size: size(20)}, {ID: "c", Size: size(10)}, {ID: "d", Parents: tag("c"), Size: size(20)}},
			BuilderPrune, Reclaimable{30, 30, false},
		},
		{
			"contents of one size made from one record differ", nil,
			[]model.CacheRecord{{ID: "a", Size: size(10)}, {ID: "b", Parents: tag("a"), Size: size(20)}, {ID: "c", Parents: tag("a"), Size: size(20)}},
			BuilderPrune, Reclaimable{50, 30, false},
		},
		{
			"also made from the base image, by a stage of each build", nil,
			[]model.CacheRecord{{ID: "from", Size: size(0), ExcludesSnapshot: true}, {ID: "b", Parents: tag("from"), Size: size(20)}, {ID: "c", Parents: tag("from"), Size: size(20)}},
			BuilderPrune, Reclaimable{40, 20, false},
		},
		{
			"a record of one size remains", nil,
			[]model.CacheRecord{{ID: "a", Size: size(20)}, {ID: "b", Size: size(20), InUse: true}, {ID: "c", Size: size(3)}},
			BuilderPrune, Reclaimable{3, 3, false},
		},
		{
			"an image has the layers of the cache", []string{"10 20", "10 30"},
			[]model.CacheRecord{{ID: "a", Shared: true, Size: size(10)}, {ID: "b", Shared: true, Parents: tag("a"), Size: size(20)}},
			ImagePrune, Reclaimable{30, 30, true},
		},
		{
			"two records of one size are of two layers", []string{"10 20a", "10 20b", "10 20c"},
			[]model.CacheRecord{
				{ID: "a", Shared: true, Size: size(10)}, {ID: "b", Shared: true, Parents: tag("a"), Size: size(20)},
				{ID: "c", Shared: true, Parents: tag("a"), Size: size(20)},
			},
			ImagePrune, Reclaimable{20, 0, false},
		},
		{
			"a record with a shared child is of the layer that has one", []string{"10a 20", "10b 30"},
			[]model.CacheRecord{{ID: "a", Shared: true, Size: size(10)}, {ID: "b", Shared: true, Parents: tag("a"), Size: size(20)}},
			ImagePrune, Reclaimable{40, 40, true},
		},
		{
			"a build starts from what more images were made from", []string{"10", "10 20", "10 30", "10 30 5"},
			[]model.CacheRecord{{ID: "a", Shared: true, ExcludesSnapshot: true, Size: size(0)}, {ID: "b", Shared: true, ExcludesSnapshot: true, Parents: tag("a"), Size: size(0)}},
			ImagePrune, Reclaimable{25, 5, false},
		},
		{
			"a merge may be of any layer of its size", []string{"10 20", "20b"},
			[]model.CacheRecord{{ID: "merged", Shared: true, Parents: tag("x", "y"), Size: size(20)}},
			ImagePrune, Reclaimable{20, 0, false},
		},
	} {
		f := newFixture(model.GraphDriver, "1.51")
		for _, layers := range test.images {
			f.image(layers, "", nil, strings.Fields(layers)...)
		}
		for _, record := range test.records {
			f.record(record)
		}
		if got := f.reclaim()[test.command]; got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

// setSizes sets the sizes of images of the containerd store: those of their blobs by diff, with
// 100 bytes of manifest and configuration.
func (f *fixture) setSizes(blobs map[string]int64) []model.Image {
	images, _ := f.snapshot.Images.Get()
	users := make(map[string]int)
	for _, image := range images {
		for _, diff := range f.contents[image.ID].DiffIDs {
			users[diff]++
		}
	}
	for i := range images {
		var unpacked, all, shared int64
		for _, diff := range f.contents[images[i].ID].DiffIDs {
			var bytes int64
			fmt.Sscan(diff, &bytes)
			unpacked, all = unpacked+bytes, all+bytes+blobs[diff]
			if users[diff] > 1 {
				shared += bytes + blobs[diff]
			}
		}
		images[i].Size, images[i].Sizes = model.Known(all+100), &model.StoreSizes{SharedSize: model.Known(shared), Unpacked: model.Known(unpacked)}
	}
	return images
}

// The sizes of blobs follow from what each image has and shares, and from records of the build
// cache.
func TestEstimateOfBlobs(t *testing.T) {
	blobs := map[string]int64{"1000": 500, "200": 60, "30": 7000, "40": 8000}
	fixtureOf := func(taggedBase bool) *fixture {
		f := newFixture(model.Containerd, "1.51")
		f.image("base", "", nil, "1000")
		f.image("a", "", nil, "1000", "200", "30")
		f.image("b", "", tag("b:1"), "1000", "200", "40")
		if taggedBase {
			images, _ := f.snapshot.Images.Get()
			images[0].Tags = tag("base:1")
		}
		return f
	}
	f := fixtureOf(true)
	f.snapshot.Contents, f.snapshot.ListedImages = f.contents, f.setSizes(blobs)
	for command, want := range map[Command]Reclaimable{
		ImagePrune:    {30 + 7000 + 100, 30 + 7000 + 100, true},
		ImagePruneAll: {1270 + 15560 + 300, 1270 + 15000 + 300, false},
	} {
		if got := reclaimable(f.snapshot)[command]; got != want {
			t.Errorf("%s: %+v, want %+v", command, got, want)
		}
	}
	if got := Summarize(f.snapshot, 0).DiskUsage[model.Images]; got != 1270+15560+300 {
		t.Errorf("images use %d bytes, want %d", got, 1270+15560+300)
	}
	// A record keeps its blob and, for the minimum, as many bytes of any other.
	f.record(model.CacheRecord{ID: "base", Shared: true, ExcludesSnapshot: true, Size: model.Known[int64](500)})
	if got := reclaimable(f.snapshot)[ImagePruneAll]; got != (Reclaimable{270 + 15060 + 300, 270 + 15000 + 300 - 500, false}) {
		t.Errorf("with a record of the base: %+v", got)
	}
	// The list is older than one of the images: blobs are in proportion to layers.
	f = fixtureOf(true)
	blobs = map[string]int64{"1000": 500_000, "200": 100_000, "30": 15_000, "40": 20_000}
	f.snapshot.Contents, f.snapshot.ListedImages = f.contents, f.setSizes(blobs)[:2]
	if got := reclaimable(f.snapshot)[ImagePrune]; got.Exact || got.Minimum != 30 || got.Estimate < 15_000 || got.Estimate > 19_000 {
		t.Errorf("after the list: %+v", got)
	}
}

// A record that BuildKit does not report as shared keeps the blob of an image, if it has one of that
// size, and no shared record is of the layer.
func TestMissedSharing(t *testing.T) {
	for _, test := range []struct {
		size     int64
		isShared bool // another record
		want     int64
	}{{200_000, false, 100_000}, {210_000, false, 200_000 + 100}, {200_000, true, 100_000}} {
		f := newFixture(model.Containerd, "1.51")
		f.image("a", "", tag("a:1"), "100000")
		f.record(model.CacheRecord{ID: "r", Type: "regular", Size: model.Known(test.size)})
		if test.isShared {
			f.record(model.CacheRecord{ID: "shared", Type: "regular", Shared: true, Size: model.Known[int64](200_001)})
		}
		f.snapshot.Contents, f.snapshot.ListedImages = f.contents, f.setSizes(map[string]int64{"100000": 100_000})
		estimates := reclaimable(f.snapshot)
		if got := estimates[ImagePruneAll].Estimate; got != test.want {
			t.Errorf("%+v: got an estimate of %d", test, got)
		}
		if got := estimates[BuilderPrune].Estimate; test.isShared && got != 200_000 {
			t.Errorf("%+v: got an estimate of %d for the record, want all of it", test, got)
		}
	}
}

// A record is of the layer on which the layers of all records made from it fit best.
func TestLayerOfBlobs(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("base", "", nil, "1000")
	f.image("a", "", nil, "1000", "200a", "3000000")
	f.image("b", "", nil, "1000", "200b", "4000000")
	f.image("c", "", nil, "1000", "200b", "5000000")
	f.setSizes(map[string]int64{"1000": 500, "200a": 60, "200b": 60, "3000000": 1_500_000, "4000000": 1_900_000, "5000000": 1_000_000})
	for _, record := range []model.CacheRecord{
		{ID: "base", ExcludesSnapshot: true, Size: model.Known[int64](500)}, {ID: "of b and c", Parents: tag("base"), Size: model.Known[int64](260)},
		{ID: "of b", Parents: tag("of b and c"), Size: model.Known[int64](5_900_000)}, {ID: "of c", Parents: tag("of b and c"), Size: model.Known[int64](6_000_000)},
	} {
		record.Shared = true
		f.record(record)
	}
	f.snapshot.Contents = f.contents
	h := newHost(f.snapshot, overlayfs("1.51"))
	for i, want := range []int64{1000, 4_000_000, 200, 5_000_000} {
		if at := h.matches.likely[i]; at == none || h.tree.layers[at].size != want {
			t.Errorf("%s: layer %d, want the one of %d bytes", h.cache[i].ID, at, want)
		}
	}
}

// A record of unknown size may be of any layer. One that may be of two layers, of which neither goes,
// remains.
func TestUnsureRecords(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "10a", "200b")
	f.image("b", "", tag("b:1"), "10b", "30c")
	f.image("c", "", nil, "4000d")
	f.record(model.CacheRecord{ID: "shared", Type: "regular", Shared: true, Size: model.Known[int64](10)})
	f.expectExact(t, SystemPrune, 4000)
	f.record(model.CacheRecord{ID: "known", Type: "regular", Size: model.Known[int64](50000)})
	f.expectExact(t, BuilderPrune, 50000)
	f.record(model.CacheRecord{ID: "unknown", Type: "regular"})
	f.expectBetween(t, BuilderPrune, 50000, 50000)
}

// A container protects the name that it was created from. With the containerd store, the until
// filter goes by when that was, which is unknown.
func TestUntil(t *testing.T) {
	now := time.Unix(1e9, 0)
	ago := func(age time.Duration) model.Optional[time.Time] { return model.Known(now.Add(-age)) }
	const week = 7 * 24 * time.Hour
	for store, imagePrune := range map[model.ImageStore]Reclaimable{
		model.GraphDriver: {100 + 20, 20, false}, model.Containerd: {100, 0, false}, // the date 0 may be none
	} {
		f := newFixture(store, "1.51")
		f.snapshot.At = now
		f.image("old", "", tag("old:1"), "100")
		f.image("just", "", nil, "20")
		f.image("young", "", tag("young:1"), "3000")
		images, _ := f.snapshot.Images.Get()
		images[0].Created, images[1].Created, images[2].Created = model.Known[int64](0), model.Known(now.Add(-week).Unix()), model.Known(now.Add(time.Second-week).Unix())
		for i, age := range []time.Duration{week, week - 1} {
			f.container("gone", model.Exited, int64(5+2*i))
			containers, _ := f.snapshot.Containers.Get()
			containers[i].Created, containers[i].StoppedAt = ago(age), ago(0)
		}
		f.contents["gone"] = model.Content{}
		f.record(model.CacheRecord{ID: "old", Type: "source.local", Size: model.Known[int64](1), LastUsedAt: ago(week)})
		f.record(model.CacheRecord{ID: "young", Type: "source.local", Size: model.Known[int64](10), LastUsedAt: ago(week - 1)})
		f.record(model.CacheRecord{ID: "never used", Type: "source.local", Size: model.Known[int64](100)})
		f.expectExact(t, ContainerPruneUntil, 5)
		f.expectExact(t, BuilderPruneUntil, 101)
		// Since API 1.42 a removed record that is older than the engine's start keeps the record that it was
		// made from.
		f.record(model.CacheRecord{ID: "parent", Type: "source.git.checkout", Size: model.Known[int64](1000), LastUsedAt: ago(week)})
		f.record(model.CacheRecord{ID: "child", Parents: tag("parent"), Type: "source.git.checkout", Size: model.Known[int64](5000), LastUsedAt: ago(week)})
		f.expectBetween(t, BuilderPruneUntil, 5101, 5101)
		f.snapshot.Engine = model.Known(engineOf(store, "1.41"))
		f.expectExact(t, BuilderPruneUntil, 6101)
		f.snapshot.Engine = model.Known(engineOf(store, "1.51"))
		f.snapshot.EngineStarted = ago(2 * week)
		f.expectBetween(t, BuilderPruneUntil, 5101, 5101)
		cache, _ := f.snapshot.BuildCache.Get()
		for i := range cache {
			cache[i].CreatedAt = ago(2 * week)
		}
		f.expectExact(t, BuilderPruneUntil, 6101)
		f.snapshot.EngineStarted = ago(2*week - 1)
		f.expectExact(t, BuilderPruneUntil, 5101)
		f.snapshot.Engine = model.Known(engineOf(store, "1.43"))
		f.expectBetween(t, BuilderPruneUntil, 5101, 5101)
		f.snapshot.Engine = model.Known(engineOf(store, "1.51"))
		if store == model.Containerd {
			for i := range images {
				images[i].Sizes = &model.StoreSizes{Unpacked: images[i].Size}
			}
		}
		if got := f.reclaim()[ImagePruneAllUntil]; got != imagePrune {
			t.Errorf("%s: %+v, want %+v", store, got, imagePrune)
		}
	}
}

// What a summarizer keeps is not used after an object has become older than the filter of a
// command, nor after anything has changed.
func TestSummarizer(t *testing.T) {
	now := time.Unix(1e9, 0)
	f := newFixture(model.GraphDriver, "1.51")
	f.snapshot.At, f.snapshot.ContentsVersion = now, 1
	f.contents["gone"] = model.Content{}
	f.container("gone", model.Exited, 5)
	containers, _ := f.snapshot.Containers.Get()
	containers[0].Created = model.Known(now.Add(time.Minute - minAge))
	f.snapshot.Contents = f.contents
	var z Summarizer
	expect := func(what string, at time.Time, want int64) {
		t.Helper()
		s := f.snapshot
		s.At = at
		if got := z.Summarize(s).Reclaimable[ContainerPruneUntil]; got != (Reclaimable{want, want, true}) {
			t.Errorf("%s: %+v, want %d", what, got, want)
		}
	}
	expect("at first", now, 0)
	first := z.last.start
	expect("a moment before", now.Add(time.Minute-1), 0)
	if z.last.start != first {
		t.Error("the figures were computed again although nothing has changed")
	}
	expect("a week after its creation", now.Add(time.Minute), 5)
	expect("with a clock that was set back", now, 0)
	f.snapshot.Containers = model.Known(slices.Clone(containers))
	containers, _ = f.snapshot.Containers.Get()
	containers[0].Created = model.Known(now.Add(-minAge))
	expect("after a change", now, 5)
	f.snapshot.ContentsVersion = 0
	expect("when changes are not known", now, 5)

	// Free space changes all the time.
	f.snapshot.Filesystems = []model.Filesystem{{Type: "extfs", Size: 10, Avail: 7}}
	if got := z.Summarize(f.snapshot).Reclaimable[ContainerPruneUntil]; got != (Reclaimable{Estimate: 3}) {
		t.Errorf("3 bytes are in use: %+v", got)
	}
}

// With the containerd store nothing is certain of images where classic builds left their steps.
func TestClassicBuildsInContainerd(t *testing.T) {
	for parent, want := range map[string]Reclaimable{"": {20, 20, false}, "step": {20, 0, false}} {
		f := newFixture(model.Containerd, "1.51")
		f.image("step", "", tag("step:1"), "1000")
		f.image("dangling", "", nil, "1000", "20")
		f.image("top", parent, tag("top:1"), "1000", "3")
		images, _ := f.snapshot.Images.Get()
		for i := range images {
			images[i].Sizes = &model.StoreSizes{Unpacked: images[i].Size}
		}
		if got := f.reclaim()[ImagePrune]; got != want {
			t.Errorf("parent %q: %+v, want %+v", parent, got, want)
		}
	}
}

// An image prune on the containerd store after a builder prune, on a host that was seen: records
// that remain have the blobs of the images. One without a blob is on the top of an image: that
// makes clear which of two layers of one size it is. For five minutes after a build, BuildKit keeps the
// images that the build starts from.
func TestImagePruneAfterBuilderPrune(t *testing.T) {
	size, now := model.Known[int64], time.Unix(1e9, 0)
	f := newFixture(model.Containerd, "1.51")
	f.image("base", "", tag("base:1"), "38416384")
	f.image("python", "", tag("python:1"), "38416384", "11030528n")
	f.image("running", "", tag("running:1"), "38416384", "11030528o", "6754304")
	f.image("ci", "", tag("project:ci"), "38416384", "8929280", "1880064")
	f.container("running", model.Running, 0)
	containers, _ := f.snapshot.Containers.Get()
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "running:1"})
	images := f.setSizes(map[string]int64{
		"38416384": 38404608, "11030528n": 11013642, "11030528o": 11013899, "6754304": 6742017, "8929280": 8911726, "1880064": 1855878,
	})
	for _, r := range []model.CacheRecord{
		{ID: "from", ExcludesSnapshot: true, Size: size(38404608)},
		{ID: "python", Parents: tag("from"), Size: size(11030528 + 11013642)},
		{ID: "build", Parents: tag("python"), Size: size(8925184)},
		{ID: "out", Parents: tag("from"), Size: size(8929280 + 8911726)},
		{ID: "assets", Parents: tag("out"), Size: size(1880064 + 1855878)},
	} {
		r.Shared = true
		f.record(r)
	}
	f.snapshot.Contents, f.snapshot.ListedImages, f.snapshot.At = f.contents, images, now
	cache, _ := f.snapshot.BuildCache.Get()
	const ofCI, ofPython, metadata = 8929280 + 1880064, 11030528, 100
	for minutes, want := range map[int]int64{6: ofCI + ofPython + metadata, 4: ofCI} {
		cache[2].LastUsedAt = model.Known(now.Add(-time.Duration(minutes) * time.Minute))
		if got := reclaimable(f.snapshot)[ImagePruneAll]; got != (Reclaimable{Estimate: want}) {
			t.Errorf("%d minutes after a build: %+v, want about %d", minutes, got, want)
		}
	}
	// A builder prune ends that.
	if got := reclaimable(f.snapshot)[SystemPruneAll]; got.Minimum < ofCI+ofPython {
		t.Errorf("with the build cache: %+v, want more than %d", got, ofCI+ofPython)
	}
	cache[2].LastUsedAt = model.Known(now.Add(-4 * time.Minute))
	f.snapshot.ContentsVersion = 1
	var z Summarizer
	before := z.Summarize(f.snapshot).Reclaimable[ImagePruneAll]
	f.snapshot.At = now.Add(time.Minute)
	if after := z.Summarize(f.snapshot).Reclaimable[ImagePruneAll]; after.Estimate-before.Estimate != ofPython+metadata {
		t.Errorf("%+v five minutes after the build, %+v before", after, before)
	}
}
