package prune

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// setBlobs sets the sizes of images from those of blobs by diff ID. The first two layers of
// each image are shared.
func (f *fixture) setBlobs(images []model.Image, manifest int64, blobs map[string]int64) {
	for i := range images {
		var size, shared, unpacked int64
		for depth, diff := range f.contents[images[i].ID].DiffIDs {
			var bytes int64
			fmt.Sscan(diff, &bytes)
			unpacked += bytes
			size += bytes + blobs[diff]
			if depth < 2 {
				shared += bytes + blobs[diff]
			}
		}
		images[i].Size, images[i].SharedSize, images[i].Unpacked = model.Known(size+manifest), model.Known(shared), model.Known(unpacked)
	}
}

// The sizes of an image list determine the sizes of groups of blobs.
func TestInferBlobSizes(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("base", "", tag("base:1"), "1000")
	f.image("a", "", tag("a:1"), "1000", "200", "30")
	f.image("b", "", tag("b:1"), "1000", "200", "40")
	const manifest = 1
	images, _ := f.snapshot.Images.Get()
	f.setBlobs(images, manifest, map[string]int64{"1000": 500, "200": 60, "30": 7, "40": 8})
	expect := func(want map[Command]Reclaimable) {
		t.Helper()
		f.snapshot.Contents, f.snapshot.ListedImages = f.contents, images
		got := reclaimable(f.snapshot)
		for command, frees := range want {
			if got[command] != frees {
				t.Errorf("%s: %+v, want %+v", command, got[command], frees)
			}
		}
	}
	all := Reclaimable{1000 + 200 + 30 + 40 + 500 + 60 + 7 + 8 + 3*manifest, true}
	expect(map[Command]Reclaimable{ImagePrune: {0, true}, ImagePruneAll: all, SystemPruneAll: all})
	if got := Summarize(f.snapshot, 0).DiskUsage[model.Images]; got != all.Bytes {
		t.Errorf("images take %d, want %d", got, all.Bytes)
	}

	// The sizes of blobs determine the layers of records that were taken from images: 1000
	// and 200. Layers 1000 and 40 would fit without them.
	f.record(model.CacheRecord{ID: "base", ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](500)})
	f.record(model.CacheRecord{ID: "on it", Parents: tag("base"), ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](60)})
	expect(map[Command]Reclaimable{ImagePruneAll: {all.Bytes - 1000 - 200 - 500 - 60, false}})
	f.snapshot.BuildCache = model.Known([]model.CacheRecord{})

	// A container protects the name of its image. The other images are removed without the
	// layers and blobs that they share with it.
	f.container("a", model.Running, 0)
	containers, _ := f.snapshot.Containers.Get()
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "a:1"})
	expect(map[Command]Reclaimable{ImagePruneAll: {40 + 8 + 2*manifest, true}})
	// A container whose image has lost the name holds the unpacked layers, but not the blobs.
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "other:1"})
	expect(map[Command]Reclaimable{ImagePruneAll: {40 + 500 + 60 + 7 + 8 + 3*manifest, true}})

	// Before Engine 29.5, SharedSize excludes blobs: their sizes are unknown.
	images[1].SharedSize, images[2].SharedSize, images[0].SharedSize = model.Known[int64](1200), model.Known[int64](1200), model.Known[int64](1000)
	expect(map[Command]Reclaimable{ImagePruneAll: {40, false}})
}

// Sums are subtracted from the sums that include them, and from no others.
func TestReduce(t *testing.T) {
	for _, test := range []struct {
		name       string
		sums, want []classSum
		consistent bool
	}{
		{"a sum in another one", []classSum{{[]int32{1, 2}, 12}, {[]int32{1}, 5}}, []classSum{{[]int32{2}, 7}, {[]int32{1}, 5}}, true},
		{"sums that overlap", []classSum{{[]int32{1, 2}, 12}, {[]int32{1, 3}, 9}}, []classSum{{[]int32{1, 2}, 12}, {[]int32{1, 3}, 9}}, true},
		{"a chain of sums", []classSum{{[]int32{1, 2, 3}, 20}, {[]int32{1, 2}, 12}, {[]int32{1}, 5}}, []classSum{{[]int32{3}, 8}, {[]int32{2}, 7}, {[]int32{1}, 5}}, true},
		{
			"a sum that shrinks after it was subtracted", []classSum{{[]int32{1, 2}, 12}, {[]int32{2, 3}, 9}, {[]int32{1, 2, 3}, 14}},
			[]classSum{{[]int32{1}, 5}, {[]int32{2}, 7}, {[]int32{3}, 2}}, true,
		},
		{"equal sums", []classSum{{[]int32{1}, 5}, {[]int32{1}, 5}}, []classSum{{[]int32{1}, 5}}, true},
		{"contradicting sums", []classSum{{[]int32{1}, 5}, {[]int32{1}, 6}}, nil, false},
		{"a part that is larger than the whole", []classSum{{[]int32{1, 2}, 4}, {[]int32{1}, 5}}, nil, false},
	} {
		got, consistent := reduce(test.sums)
		if consistent != test.consistent || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, consistent: %v; want %v", test.name, got, consistent, test.want)
		}
	}
}

// The sizes of blobs are unknown if that of a shared layer is ambiguous.
func TestBlobsOfAmbiguousLayers(t *testing.T) {
	history := []model.Step{{Size: 10}, {}, {Size: 20}, {}} // layers x, y, z: y and z are 0 and 20, or 20 and 0
	contents := map[string]model.Content{
		"a": {DiffIDs: []string{"x", "y", "z"}, History: history},
		"b": {DiffIDs: []string{"x", "y", "other"}, History: history},
		"c": {DiffIDs: []string{"x"}, History: []model.Step{{Size: 10}}},
	}
	image := func(id string, shared, unpacked int64) model.Image {
		return model.Image{ID: id, Size: model.Known(unpacked + 40), SharedSize: model.Known(shared), Unpacked: model.Known(unpacked)}
	}
	if blobs := buildLayerTree(contents, []model.Image{image("a", 37, 30), image("b", 37, 30)}, nil).blobs; blobs != nil {
		t.Errorf("%+v, want unknown", blobs)
	}
	delete(contents, "b") // then only x is shared, which is not ambiguous
	if blobs := buildLayerTree(contents, []model.Image{image("a", 12, 30), image("c", 12, 10)}, nil).blobs; blobs == nil {
		t.Error("unknown, although the shared layer is not ambiguous")
	}
}

// The blobs of an image that is newer than the list are what its size leaves.
func TestUsageOfNewImage(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("old", "", tag("old:1"), "1000")
	f.image("new", "", tag("new:1"), "1000", "200")
	images, _ := f.snapshot.Images.Get()
	images[0].Size, images[0].SharedSize, images[0].Unpacked = model.Known[int64](1500), model.Known[int64](0), model.Known[int64](1000)
	images[1].Size, images[1].Unpacked = model.Known[int64](1760), model.Known[int64](1200)
	f.snapshot.Contents, f.snapshot.ListedImages = f.contents, images[:1]
	if got, known := Summarize(f.snapshot, 0).DiskUsage[model.Images]; got != 1200+560 {
		t.Errorf("%d bytes, known: %v; want the unpacked layers and both blobs", got, known)
	}
	images[1].Size = model.Optional[int64]{}
	if got, known := Summarize(f.snapshot, 0).DiskUsage[model.Images]; known {
		t.Errorf("%d bytes, want unknown", got)
	}
}

// Records of a layer and the layers below it have the sizes of their blobs, unless these
// contradict what is known of them.
func TestContradicts(t *testing.T) {
	tree := buildLayerTree(map[string]model.Content{
		"a": {DiffIDs: tag("x", "y"), History: []model.Step{{Size: 100}, {Size: 200}}},
		"b": {DiffIDs: tag("x", "x"), History: []model.Step{{Size: 100}, {Size: 100}}},
	}, nil, nil)
	store := func(group blobGroup) *contentStore {
		group.diffs = []int32{0, 1} // x and y
		return &contentStore{groups: [][]blobGroup{{group}, {group}}}
	}
	a, _ := tree.topLayer("a")
	b, _ := tree.topLayer("b")
	bottom, size := tree.layers[a].parent, model.Known[int64]
	unknown := model.Optional[int64]{}
	for _, test := range []struct {
		name  string
		store *contentStore
		top   int32
		sizes []model.Optional[int64] // of the records, bottom first
		want  bool
	}{
		{"nothing is known", nil, a, []model.Optional[int64]{size(50), size(20)}, false},
		{"the sum of all blobs", store(blobGroup{bytes: 60}), a, []model.Optional[int64]{size(40), size(20)}, false},
		{"more than all blobs", store(blobGroup{bytes: 60}), a, []model.Optional[int64]{size(50), size(20)}, true},
		{"less than all blobs", store(blobGroup{bytes: 60}), a, []model.Optional[int64]{size(30), size(20)}, true},
		{"less than all blobs, of one of them", store(blobGroup{bytes: 60}), bottom, []model.Optional[int64]{size(50)}, false},
		{"more than all blobs, of one of them", store(blobGroup{bytes: 60}), bottom, []model.Optional[int64]{size(61)}, true},
		{"less than all blobs with metadata", store(blobGroup{bytes: 60, includesMetadata: true}), a, []model.Optional[int64]{size(30), size(20)}, false},
		{"more than all blobs with metadata", store(blobGroup{bytes: 60, includesMetadata: true}), a, []model.Optional[int64]{size(50), size(20)}, true},
		{"more than a lower bound", store(blobGroup{bytes: 60, isLowerBound: true}), a, []model.Optional[int64]{size(50), size(20)}, false},
		{"less than a lower bound", store(blobGroup{bytes: 60, isLowerBound: true}), a, []model.Optional[int64]{size(30), size(20)}, false},
		{"an unknown size", store(blobGroup{bytes: 60}), a, []model.Optional[int64]{unknown, size(70)}, false},
		{"a blob that is in the image twice", store(blobGroup{bytes: 60}), b, []model.Optional[int64]{size(70), size(70)}, false},
	} {
		var records []model.CacheRecord
		for _, size := range test.sizes {
			records = append(records, model.CacheRecord{Size: size})
		}
		if got := test.store.contradicts(tree, test.top, records); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// A record may hold the blob of each layer that it may be of, and otherwise of any layer.
func TestBlobsOfCachedLayers(t *testing.T) {
	taken := func(size model.Optional[int64]) []model.CacheRecord {
		return []model.CacheRecord{{ID: "taken", ExcludesSnapshot: true, Shared: true, Size: size}}
	}
	for _, test := range []struct {
		name  string
		cache []model.CacheRecord
		want  Reclaimable // by removing the layer of 200 bytes and its blob of 6 bytes, with 3 bytes of metadata
	}{
		{"no record", nil, Reclaimable{209, true}},
		{"a blob of the image that remains", taken(model.Known[int64](50)), Reclaimable{209, true}},
		{"a blob of one of the images", taken(model.Known[int64](6)), Reclaimable{3, false}},
		{"a blob of none of the images", taken(model.Known[int64](60)), Reclaimable{0, false}},
		{"a blob of unknown size", taken(model.Optional[int64]{}), Reclaimable{0, false}},
		{"a snapshot, and perhaps a blob", []model.CacheRecord{{ID: "own", Size: model.Known[int64](0)}}, Reclaimable{200, false}},
		{"a build context", []model.CacheRecord{{ID: "context", Type: "source.local", Size: model.Known[int64](500)}}, Reclaimable{209, true}},
	} {
		f := newFixture(model.Containerd, "1.51")
		f.image("kept", "", tag("kept:1"), "3000")
		f.image("dangling", "", nil, "200")
		images, _ := f.snapshot.Images.Get()
		for i, unpacked := range []int64{3000, 200} {
			blob := []int64{50, 6}[i]
			images[i].Size, images[i].SharedSize, images[i].Unpacked = model.Known(unpacked+blob+1), model.Known[int64](0), model.Known(unpacked)
		}
		images[1].IndexSize = 2
		f.snapshot.BuildCache = model.Known(test.cache)
		f.snapshot.Contents, f.snapshot.ListedImages = f.contents, images
		if got := reclaimable(f.snapshot)[ImagePrune]; got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

// A record of a group's blob does not contradict the sum of the group.
func TestRecordOfSharedBlob(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("a", "", tag("a:1"), "1000", "200", "30")
	f.image("b", "", tag("b:1"), "1000", "200", "40")
	images, _ := f.snapshot.Images.Get()
	f.setBlobs(images, 1, map[string]int64{"1000": 500, "200": 60, "30": 7, "40": 8})
	f.record(model.CacheRecord{ID: "base", ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](500)})
	f.snapshot.Contents, f.snapshot.ListedImages = f.contents, images
	want := Reclaimable{200 + 30 + 40 + 60 + 7 + 8 + 2, false} // the record holds the layer of 1000 bytes and 500 bytes of blobs
	if got := reclaimable(f.snapshot)[ImagePruneAll]; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// The sizes of blobs that an image has twice are unknown: its own blobs have a lower bound.
func TestRepeatedBlob(t *testing.T) {
	for _, test := range []struct {
		layers []string
		blobs  int64 // with 1 byte of metadata; the image counts that of the repeated layer twice
		want   int64
	}{
		{tag("100", "100"), 20 + 1, 200},
		{tag("100", "100", "5000"), 20 + 4000 + 1, 5200 + (20 + 20 + 4000 + 1) - (100 + archiveOverhead)},
	} {
		f := newFixture(model.Containerd, "1.51")
		f.image("a", "", nil, test.layers...)
		images, _ := f.snapshot.Images.Get()
		unpacked, _ := images[0].Size.Get()
		images[0].Size, images[0].SharedSize, images[0].Unpacked = model.Known(unpacked+test.blobs+20), model.Known[int64](0), model.Known(unpacked)
		f.snapshot.Contents, f.snapshot.ListedImages = f.contents, images
		if got := reclaimable(f.snapshot)[ImagePrune]; got != (Reclaimable{test.want, false}) {
			t.Errorf("%v: %+v, want at least %d", test.layers, got, test.want)
		}
	}
}

// Of groups that overlap, the largest one counts.
func TestOverlappingGroups(t *testing.T) {
	blobs := map[string]int64{"1x": 500, "2y": 60, "3z": 7}
	for _, order := range [][]int{{0, 1, 2}, {1, 2, 0}, {2, 1, 0}} {
		f := newFixture(model.Containerd, "1.51")
		pairs := [][]string{{"1x", "2y"}, {"1x", "3z"}, {"2y", "3z"}} // each blob is in two images
		var unpacked int64 = 1 + 2 + 3 + 2 + 3
		for _, i := range order {
			f.image(fmt.Sprint("image ", i), "", nil, pairs[i]...)
		}
		images, _ := f.snapshot.Images.Get()
		for i, pair := range order {
			layers, _ := images[i].Size.Get()
			both := blobs[pairs[pair][0]] + blobs[pairs[pair][1]]
			shared := both
			if pairs[pair][0] == "1x" { // two images have this layer
				shared++
			}
			images[i].Size, images[i].SharedSize, images[i].Unpacked = model.Known(layers+both), model.Known(shared), model.Known(layers)
		}
		f.snapshot.Contents, f.snapshot.ListedImages = f.contents, images
		if got, want := reclaimable(f.snapshot)[ImagePrune], (Reclaimable{unpacked + 560, false}); got != want {
			t.Errorf("images %v: %+v, want %+v", order, got, want)
		}
		// Two of the images were removed after the list: their groups do not count.
		i := slices.Index(order, 1)
		f.snapshot.Images = model.Known(images[i : i+1])
		if got, want := reclaimable(f.snapshot)[ImagePrune], (Reclaimable{1 + 3 + 507, true}); got != want {
			t.Errorf("image %d of %v: %+v, want %+v", i, order, got, want)
		}
	}
}

// The size of a group is divided in proportion to the unpacked layers, small groups first.
func TestDistribute(t *testing.T) {
	tree := buildLayerTree(map[string]model.Content{
		"a": {DiffIDs: tag("x", "y", "z", "empty"), History: []model.Step{{Size: 100}, {Size: 200}, {Size: 300}, {Size: 0}}},
	}, nil, nil)
	const x, y, z, empty = 0, 1, 2, 3
	for _, test := range []struct {
		name   string
		groups []blobGroup
		want   []float64
	}{
		{"one group", []blobGroup{{diffs: []int32{x, y}, bytes: 60}}, []float64{20, 40, 0, 0}},
		{"a layer without files", []blobGroup{{diffs: []int32{empty}, bytes: 60}}, []float64{0, 0, 0, 60}},
		{"a layer without files has 1 byte", []blobGroup{{diffs: []int32{x, empty}, bytes: 202}}, []float64{200, 0, 0, 2}},
		{
			"a blob in two groups", []blobGroup{{diffs: []int32{x, y, z}, bytes: 90}, {diffs: []int32{x, y}, bytes: 60}},
			[]float64{20, 40, 30, 0},
		},
		{
			"a group smaller than what is left of it", []blobGroup{{diffs: []int32{x, y, z}, bytes: 50}, {diffs: []int32{x, y}, bytes: 60}},
			[]float64{20, 40, 0, 0},
		},
		{
			"all blobs of a group are in others", []blobGroup{{diffs: []int32{x}, bytes: 20}, {diffs: []int32{y}, bytes: 40}, {diffs: []int32{x, y}, bytes: 70}},
			[]float64{20, 40, 0, 0},
		},
	} {
		c := &contentStore{shared: test.groups}
		c.distribute(tree)
		if !reflect.DeepEqual(c.estimates, test.want) {
			t.Errorf("%s: %v, want %v", test.name, c.estimates, test.want)
		}
	}
}

// The blobs of an image that is newer than the list are unknown, even if it has no layers of
// its own.
func TestBlobsOfNewImage(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("listed", "", tag("a:1"), "1000")
	f.image("new", "", nil, "1000")
	images, _ := f.snapshot.Images.Get()
	images[0].Size, images[0].SharedSize, images[0].Unpacked = model.Known[int64](1500), model.Known[int64](0), model.Known[int64](1000)
	f.snapshot.Contents, f.snapshot.ListedImages = f.contents, images[:1]
	if got := reclaimable(f.snapshot)[ImagePrune]; got != (Reclaimable{0, false}) {
		t.Errorf("%+v, want an unknown part", got)
	}
}
