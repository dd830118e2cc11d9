package prune

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// A yard is a host in few words.
type yard struct {
	snapshot model.Snapshot
	contents map[string]model.Content
}

func newYard(store model.ImageStore, api string) *yard {
	return &yard{
		snapshot: model.Snapshot{
			Engine: model.Known(model.Engine{ImageStore: store, APIVersion: api}), Images: model.Known([]model.Image{}), Containers: model.Known([]model.Container{}),
			Volumes: model.Known([]model.Volume{}), BuildCache: model.Known([]model.CacheRecord{}),
		},
		contents: make(map[string]model.Content),
	}
}

// image adds one of layers whose names are their sizes, bottom first: "10 20b".
func (y *yard) image(id, parent string, tags []string, layers ...string) {
	images, _ := y.snapshot.Images.Get()
	content := model.Content{}
	var size int64
	for _, layer := range layers {
		var bytes int64
		fmt.Sscan(layer, &bytes)
		content.DiffIDs = append(content.DiffIDs, layer)
		content.History = append(content.History, model.Step{Size: bytes})
		size += bytes
	}
	y.contents[id] = content
	y.snapshot.Images = model.Known(append(images, model.Image{ID: id, Parent: parent, Tags: tags, HasDigest: model.Known(false), Size: model.Known(size)}))
}

func (y *yard) container(imageID string, state model.State, bytes int64, volumes ...string) {
	containers, _ := y.snapshot.Containers.Get()
	y.snapshot.Containers = model.Known(append(containers, model.Container{
		ID: fmt.Sprint("container ", len(containers)), ImageID: imageID, State: state, Size: model.Known(bytes), Volumes: volumes,
		CreatedFrom: model.Known(model.Reference{Tag: "of " + imageID}), ImageSize: model.Known[int64](0),
	}))
}

func (y *yard) volume(name string, anonymous, local bool, bytes int64) {
	volumes, _ := y.snapshot.Volumes.Get()
	y.snapshot.Volumes = model.Known(append(volumes, model.Volume{Name: name, Anonymous: anonymous, Local: local, Size: model.Known(bytes)}))
}

func (y *yard) record(r model.CacheRecord) {
	cache, _ := y.snapshot.BuildCache.Get()
	y.snapshot.BuildCache = model.Known(append(cache, r))
}

func (y *yard) reclaim() map[Command]Reclaimable {
	y.snapshot.Contents, y.snapshot.ListedImages = y.contents, nil
	return reclaimable(y.snapshot)
}

// frees tells that a command frees exactly so much; a negative number, that it is not known.
func (y *yard) frees(t *testing.T, command Command, want int64) {
	t.Helper()
	got, known := y.reclaim()[command]
	if known != (want >= 0) || known && got != (Reclaimable{want, true}) {
		t.Errorf("%s: %+v, known: %v; want %d", command, got, known, want)
	}
}

// atLeast tells that a command frees so much, and that it may be more.
func (y *yard) atLeast(t *testing.T, command Command, want int64) {
	t.Helper()
	if got, known := y.reclaim()[command]; !known || got != (Reclaimable{want, false}) {
		t.Errorf("%s: %+v, known: %v; want %d at least", command, got, known, want)
	}
}

func tag(names ...string) []string { return names }

func TestContainerPrune(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.image("a", "", tag("a:1"), "1000")
	for i, state := range model.States() {
		y.container("a", state, 1<<i)
	}
	y.frees(t, ContainerPrune, 1<<0+1<<5+1<<6) // created, exited, dead
	y.frees(t, SystemPrune, 1<<0+1<<5+1<<6)
	y.frees(t, ImagePruneAll, 0)

	y = newYard(model.GraphDriver, "1.51")
	y.image("a", "", tag("a:1"), "1000")
	y.container("a", model.Exited, 5)
	y.snapshot.Containers = model.Known([]model.Container{{ID: "1", ImageID: "a", State: model.Exited}})
	y.frees(t, ContainerPrune, 0-1) // its size is unknown: not even a lower bound
}

// A container goes on to hold the layers of an image that was removed by force.
func TestForceRemovedImage(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.image("a", "", tag("a:1"), "1000", "10a")
	y.contents["removed"] = model.Content{DiffIDs: tag("1000", "20b"), History: []model.Step{{Size: 1000}, {Size: 20}}}
	y.container("removed", model.Exited, 5)
	y.frees(t, ContainerPrune, 25) // the engine says 5
	y.frees(t, ImagePruneAll, 10)  // the container still has the other layer
	y.frees(t, SystemPruneAll, 1035)

	delete(y.contents, "removed") // it was removed before anybody looked
	y.atLeast(t, ContainerPrune, 5)
	containers, _ := y.snapshot.Containers.Get()
	containers[0].ImageSize = model.Known[int64](1020)
	y.atLeast(t, ImagePruneAll, 0)
	containers[0].ImageSize = model.Known[int64](300)
	y.atLeast(t, ImagePruneAll, 710)
	containers[0].ImageSize = model.Optional[int64]{}
	y.frees(t, ImagePruneAll, -1)
}

func TestImagePruneOfGraphDrivers(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.image("base", "", tag("base:1"), "1000")
	y.image("step", "", nil, "1000", "200")
	y.image("dangling", "step", nil, "1000", "200", "30")
	y.frees(t, ImagePrune, 230) // the step goes with its last child
	y.frees(t, ImagePruneAll, 1230)

	y.image("sibling", "step", tag("sibling:1"), "1000", "200", "4")
	y.frees(t, ImagePrune, 30) // the step has another child
	y.container("dangling", model.Exited, 7)
	y.frees(t, ImagePrune, 0) // refused: a stopped container holds it
	y.frees(t, SystemPrune, 37)
	y.frees(t, ImagePruneAll, 4)
	y.frees(t, SystemPruneAll, 1241)

	// Whether a step has a name decides whether it goes with its child.
	y = newYard(model.GraphDriver, "1.51")
	y.image("step", "", nil, "1000")
	y.image("dangling", "step", nil, "1000", "30")
	steps, _ := y.snapshot.Images.Get()
	steps[0].HasDigest = model.Optional[bool]{}
	y.atLeast(t, ImagePrune, 30)

	// What was pulled by digest and has no tag is removed, too.
	y = newYard(model.GraphDriver, "1.51")
	y.image("pulled", "", nil, "500")
	images, _ := y.snapshot.Images.Get()
	images[0].HasDigest = model.Known(true)
	y.frees(t, ImagePrune, 500)
}

func TestImagePruneOfContainerd(t *testing.T) {
	y := newYard(model.Containerd, "1.51")
	y.image("step", "", nil, "1000")
	y.image("child", "step", tag("child:1"), "1000", "200")
	y.image("pulled", "", nil, "30000")
	images, _ := y.snapshot.Images.Get()
	images[2].HasDigest = model.Known(true)
	removed := func(s scope) string {
		y.snapshot.Contents, y.snapshot.ListedImages = y.contents, nil
		h := newHost(y.snapshot, layersOf(y.snapshot), model.Containerd)
		goes, known := h.removeImages(s, func(model.Container) bool { return false })
		if !known {
			return "unknown"
		}
		names := ""
		for i, image := range h.images {
			if goes[i] {
				names += image.ID + " "
			}
		}
		return names
	}
	expect := func(what string, s scope, want string) {
		t.Helper()
		if got := removed(s); got != want {
			t.Errorf("%s: removed %q, want %q", what, got, want)
		}
	}
	expect("parents go, what was pulled by digest stays", some, "step ")
	expect("everything", all, "step child pulled ")
	y.container("child", model.Exited, 0)
	containers, _ := y.snapshot.Containers.Get()
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "child:1"})
	expect("a container protects the name that it was created from", all, "step pulled ")
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "moved:1"})
	expect("and only that, though its image is in use", all, "step child pulled ")
	containers[0].CreatedFrom = model.Known(model.Reference{Pinned: true})
	expect("one that was created from an ID protects its image", all, "step pulled ")
	containers[0].CreatedFrom = model.Optional[model.Reference]{}
	expect("a name that is not known can be any", all, "unknown")
	containers[0].ImageID = "step"
	expect("an image without a name stays while a container has it", some, "")
}

func TestVolumePrune(t *testing.T) {
	for api, want := range map[string]map[Command]int64{
		"1.41": {VolumePrune: 11, VolumePruneAll: -1, SystemPruneAllVolumes: 1111, SystemPruneAll: 0},
		"1.42": {VolumePrune: 10, VolumePruneAll: 11, SystemPruneAllVolumes: 1010, SystemPruneAll: 0},
	} {
		y := newYard(model.GraphDriver, api)
		y.volume("named", false, true, 1)
		y.volume("anonymous", true, true, 10)
		y.volume("named, of a stopped container", false, true, 100)
		y.volume("anonymous, of a stopped container", true, true, 1000)
		y.volume("of a running container", true, true, 10000)
		y.volume("elsewhere", true, false, 100000)
		y.container("gone", model.Exited, 0, "named, of a stopped container", "anonymous, of a stopped container")
		y.container("gone", model.Running, 0, "of a running container")
		y.contents["gone"] = model.Content{}
		for command, bytes := range want {
			y.frees(t, command, bytes)
		}
	}
}

// What a container may have written to since it was measured is not counted.
func TestTouchedVolume(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.volume("a", true, true, 20)
	y.volume("b", true, true, 3)
	volumes, _ := y.snapshot.Volumes.Get()
	volumes[0].SizeStale = true
	y.atLeast(t, VolumePrune, 3)
	volumes[1].SizeStale = true
	y.frees(t, VolumePrune, -1)
	if got := Summarize(y.snapshot, 0).DiskUsage[model.Volumes]; got != 23 {
		t.Errorf("volumes take %d bytes, want 23 as they were measured", got)
	}
}

func TestBuilderPrune(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	record := func(id string, size int64, change func(*model.CacheRecord)) {
		r := model.CacheRecord{ID: id, Type: "regular", Size: model.Known(size)}
		if change != nil {
			change(&r)
		}
		y.record(r)
	}
	record("plain", 1, nil)
	record("internal", 10, func(r *model.CacheRecord) { r.Type = "internal" })
	record("frontend", 100, func(r *model.CacheRecord) { r.Type = "frontend" })
	record("shared", 1000, func(r *model.CacheRecord) { r.Shared = true })
	record("used", 10000, func(r *model.CacheRecord) { r.InUse = true })
	record("under the one in use", 100000, nil)
	cache, _ := y.snapshot.BuildCache.Get()
	cache[4].Parents = tag("under the one in use")
	y.frees(t, BuilderPrune, 1)
	y.frees(t, BuilderPruneAll, 111) // the engine says 1111, but an image has the shared one
}

// Records of the same size on layers of the same sizes may be of one layer: it counts
// once, and not at all if one of them stays.
func TestLayerOfSeveralRecords(t *testing.T) {
	for _, test := range []struct {
		records []model.CacheRecord
		want    Reclaimable
	}{
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](20)}}, Reclaimable{20, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](20), InUse: true}}, Reclaimable{0, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](3)}, {ID: "on b", Parents: tag("b"), Size: model.Known[int64](20)}}, Reclaimable{43, true}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "on a", Parents: tag("a"), Size: model.Known[int64](3)}, {ID: "b", Size: model.Known[int64](20)}, {ID: "on b", Parents: tag("b"), Size: model.Known[int64](3)}}, Reclaimable{23, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "merged", Parents: tag("b", "c"), Size: model.Known[int64](1), InUse: true}}, Reclaimable{20, true}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "merged", Parents: tag("b", "c"), Size: model.Known[int64](20), InUse: true}}, Reclaimable{0, false}},
		// A merge lies on whatever it was merged on.
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "merged", Parents: tag("a", "gone"), Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](3)}}, Reclaimable{23, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](7)}, {ID: "merged", Parents: tag("a", "gone"), Size: model.Known[int64](20)}}, Reclaimable{27, true}},
		// Contexts are no layers.
		{[]model.CacheRecord{{ID: "a", Type: "source.local", Size: model.Known[int64](20)}, {ID: "b", Type: "source.local", Size: model.Known[int64](20)}}, Reclaimable{40, true}},
		{[]model.CacheRecord{{ID: "a", Type: "source.local", Size: model.Known[int64](20), Rewritten: true}, {ID: "b", Type: "exec.cachemount", Size: model.Known[int64](20)}}, Reclaimable{20, false}},
	} {
		y := newYard(model.GraphDriver, "1.51")
		for _, record := range test.records {
			y.record(record)
		}
		if got := y.reclaim()[BuilderPrune]; got != test.want {
			t.Errorf("%+v: %+v, want %+v", test.records, got, test.want)
		}
	}

	y := newYard(model.Containerd, "1.51") // each has unpacked it for itself, and measured it anew
	for _, id := range []string{"a", "b"} {
		y.record(model.CacheRecord{ID: id, Type: "source.local", Size: model.Known[int64](20), Rewritten: true})
	}
	y.frees(t, BuilderPrune, 40)
}

// Which step of size 0 made a layer is not always told. What lies on it, and between such
// steps, has no place then, nor a size.
func TestGuessedSizes(t *testing.T) {
	history := []model.Step{{Size: 10}, {Size: 0}, {Size: 20}, {Size: 0}} // the first 0 made no layer
	record := func(id, parent string, size int64, isShared bool) model.CacheRecord {
		r := model.CacheRecord{ID: id, Shared: isShared, Size: model.Known(size)}
		if parent != "" {
			r.Parents = tag(parent)
		}
		return r
	}

	y := newYard(model.GraphDriver, "1.51")
	y.contents["a"] = model.Content{DiffIDs: tag("x", "y", "z"), History: history}
	y.snapshot.Images = model.Known([]model.Image{{ID: "a", Tags: tag("a:1"), HasDigest: model.Known(false), Size: model.Known[int64](30)}})
	y.record(record("x", "", 10, true))
	y.record(record("y", "x", 20, true))
	y.record(record("z", "y", 0, true))
	y.record(record("big", "z", 1000, false))
	for i, parent := range []string{"", "taken 0", "taken 1"} {
		taken := record(fmt.Sprint("taken ", i), parent, 0, true)
		taken.ExcludesSnapshot = true
		y.record(taken)
	}
	y.record(record("big too", "taken 2", 1000, false))
	y.atLeast(t, BuilderPrune, 1000)

	y = newYard(model.GraphDriver, "1.51")
	y.contents["removed"] = model.Content{DiffIDs: tag("x", "y", "z", "big"), History: append(history, model.Step{Size: 1000})}
	y.container("removed", model.Running, 0)
	y.record(record("x", "", 10, false))
	y.record(record("y", "x", 20, false))
	y.record(record("z", "y", 0, false))
	y.record(record("big", "z", 1000, false))
	y.atLeast(t, BuilderPrune, 0)

	y = newYard(model.GraphDriver, "1.51") // too few steps that seem to make layers
	history = []model.Step{{Size: 10}, {NoLayer: true}, {Size: 20}, {NoLayer: true}}
	y.contents["a"] = model.Content{DiffIDs: tag("x", "y", "z"), History: history}
	y.contents["b"] = model.Content{DiffIDs: tag("x", "y", "other"), History: history}
	y.snapshot.Images = model.Known([]model.Image{{ID: "a", HasDigest: model.Known(false)}, {ID: "b", Tags: tag("b:1"), HasDigest: model.Known(false)}})
	y.atLeast(t, ImagePrune, 0)
	if usage, known := Summarize(y.snapshot, 0).DiskUsage[model.Images]; known {
		t.Errorf("images take %d bytes, want it unknown", usage)
	}

	y = newYard(model.GraphDriver, "1.51") // one of the images settles it
	history = []model.Step{{Size: 10}, {}, {Size: 20}, {}}
	y.contents["a"] = model.Content{DiffIDs: tag("x", "y", "z"), History: history}
	y.contents["b"] = model.Content{DiffIDs: tag("x", "y"), History: []model.Step{{Size: 10}, {Size: 0}, {Size: 20}}}
	y.snapshot.Images = model.Known([]model.Image{{ID: "a", Tags: tag("a:1"), HasDigest: model.Known(false)}, {ID: "b", Tags: tag("b:1"), HasDigest: model.Known(false)}})
	y.frees(t, ImagePruneAll, 30)
}

// An image prune does not free a layer that the build cache holds as well; the builder
// prune after it does.
func TestSharedWithBuildCache(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.image("a", "", tag("a:1"), "1000", "20a", "3a")
	y.image("b", "", tag("b:1"), "1000", "20b")
	y.record(model.CacheRecord{ID: "base", Shared: true, Size: model.Known[int64](1000)})
	y.record(model.CacheRecord{ID: "a", Parents: tag("base"), Shared: true, Size: model.Known[int64](20)})
	y.record(model.CacheRecord{ID: "a's child", Parents: tag("a"), Shared: true, Size: model.Known[int64](3)})
	y.frees(t, ImagePruneAll, 20) // the child tells which of the two layers of 20 bytes it is
	y.frees(t, SystemPruneAll, 1043)

	y = newYard(model.GraphDriver, "1.51")
	y.image("a", "", tag("a:1"), "1000", "20a")
	y.image("b", "", tag("b:1"), "1000", "20b")
	y.container("b", model.Running, 0)
	y.record(model.CacheRecord{ID: "base", Shared: true, Size: model.Known[int64](1000)})
	y.record(model.CacheRecord{ID: "one of them", Parents: tag("base"), Shared: true, Size: model.Known[int64](20)})
	y.atLeast(t, ImagePruneAll, 0)

	y.snapshot.BuildCache = model.Optional[[]model.CacheRecord]{}
	y.frees(t, ImagePruneAll, -1) // who knows what it holds
}

// Nothing is said of images as long as one of them was not looked at.
func TestUninspected(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.image("a", "", tag("a:1"), "1000")
	y.image("b", "", tag("b:1"), "1000", "20")
	delete(y.contents, "b")
	y.volume("v", true, true, 5)
	y.frees(t, ImagePruneAll, -1)
	y.frees(t, VolumePrune, 5)
	a := Summarize(y.snapshot, 0)
	if uninspected, known := a.Counts.Images.Uninspected.Get(); !known || uninspected != 1 {
		t.Errorf("%d images to look at, known: %v; want 1", uninspected, known)
	}
	if _, known := a.Counts.Images.Layers.Get(); known {
		t.Error("the number of layers is known")
	}
	if _, known := a.DiskUsage[model.Images]; known {
		t.Error("the usage of images is known")
	}
}

func TestLayOut(t *testing.T) {
	layer := func(size int64) model.Step { return model.Step{Size: size} }
	setting := model.Step{NoLayer: true}
	tests := []struct {
		name    string
		history map[string][]model.Step // by the diffs, which name the image
		want    map[string]int64        // by chain; absent: unknown
	}{
		{
			"settings make no layer", map[string][]model.Step{"a b": {layer(5), setting, layer(0)}},
			map[string]int64{"a": 5, "a b": 0},
		},
		{
			"a layer of any size comes from a step that could be none, if nothing else fits",
			map[string][]model.Step{"a b": {setting, layer(5)}},
			map[string]int64{"a": 0, "a b": 5},
		},
		{
			"what images share has one size, which the shorter tells",
			map[string][]model.Step{"a": {layer(0)}, "a b c": {layer(0), layer(7), layer(0), layer(0)}},
			map[string]int64{"a": 0, "a b": 7, "a b c": 0},
		},
		{
			"the same diff on another layer is another layer",
			map[string][]model.Step{"a": {layer(3)}, "b a": {layer(4), layer(3)}},
			map[string]int64{"a": 3, "b": 4, "b a": 3},
		},
		{"fewer steps than layers: unknown", map[string][]model.Step{"a b": {layer(3)}}, map[string]int64{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			contents := make(map[string]model.Content)
			for diffs, history := range test.history {
				contents[diffs] = model.Content{DiffIDs: splitWords(diffs), History: history}
			}
			l := LayOut(contents, nil)
			got := make(map[string]int64)
			for diffs := range contents {
				top, _ := l.top(diffs)
				words := splitWords(diffs)
				for at := top; at != bottom; at = l.layers[at].under {
					if size, known := l.layers[at].size.Get(); known {
						got[joinWords(words)] = size
					}
					words = words[:len(words)-1]
				}
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func splitWords(s string) (words []string) {
	for word := range slices.Values([]rune(s)) {
		if word != ' ' {
			words = append(words, string(word))
		}
	}
	return words
}

func joinWords(words []string) (s string) {
	for i, word := range words {
		if i > 0 {
			s += " "
		}
		s += word
	}
	return s
}

// The containerd store tells of blobs what images share, and no more.
func TestBlobs(t *testing.T) {
	y := newYard(model.Containerd, "1.51")
	y.image("base", "", tag("base:1"), "1000")
	y.image("a", "", tag("a:1"), "1000", "200", "30")
	y.image("b", "", tag("b:1"), "1000", "200", "40")
	weights := map[string]int64{"1000": 500, "200": 60, "30": 7, "40": 8} // of blobs
	const manifest = 1
	y.snapshot.Contents, y.snapshot.ListedImages = y.contents, nil
	images, _ := y.snapshot.Images.Get()
	for i := range images {
		var size, shared, unpacked int64
		for _, diff := range y.contents[images[i].ID].DiffIDs {
			var bytes int64
			fmt.Sscan(diff, &bytes)
			unpacked += bytes
			size += bytes + weights[diff]
			if diff == "1000" || diff == "200" {
				shared += bytes + weights[diff]
			}
		}
		images[i].Size, images[i].SharedSize, images[i].Unpacked = model.Known(size+manifest), model.Known(shared), model.Known(unpacked)
	}
	expect := func(want map[Command]Reclaimable) {
		t.Helper()
		y.snapshot.Contents, y.snapshot.ListedImages = y.contents, images
		got := reclaimable(y.snapshot)
		for command, frees := range want {
			if got[command] != frees {
				t.Errorf("%s: %+v, want %+v", command, got[command], frees)
			}
		}
	}
	all := Reclaimable{1000 + 200 + 30 + 40 + 500 + 60 + 7 + 8 + 3*manifest, true}
	expect(map[Command]Reclaimable{ImagePrune: {0, true}, ImagePruneAll: all, SystemPruneAll: all})
	if got := Summarize(y.snapshot, 0).DiskUsage[model.Images]; got != all.Bytes {
		t.Errorf("images take %d, want %d", got, all.Bytes)
	}

	// Records that builds took from the base, and the sizes of its blobs, tell which layers
	// they keep: 1000 and 200, not 1000 and 40, though that would be as many.
	y.record(model.CacheRecord{ID: "base", ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](500)})
	y.record(model.CacheRecord{ID: "on it", Parents: tag("base"), ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](60)})
	expect(map[Command]Reclaimable{ImagePruneAll: {all.Bytes - 1000 - 200 - 500 - 60, false}})
	y.snapshot.BuildCache = model.Known([]model.CacheRecord{})

	// A container of which the name is kept keeps its image; the others go without what they share with it.
	y.container("a", model.Running, 0)
	containers, _ := y.snapshot.Containers.Get()
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "a:1"})
	expect(map[Command]Reclaimable{ImagePruneAll: {40 + 8 + 2*manifest, true}})
	// One whose name is gone keeps the unpacked layers, but not the blobs.
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "other:1"})
	expect(map[Command]Reclaimable{ImagePruneAll: {40 + 500 + 60 + 7 + 8 + 3*manifest, true}})

	// Before Engine 29.5 no blob counts as shared: then nothing is known of any.
	for i := range images {
		shared, _ := images[i].SharedSize.Get()
		images[i].SharedSize = model.Known(shared - min(shared, 500))
	}
	images[1].SharedSize, images[2].SharedSize, images[0].SharedSize = model.Known[int64](1200), model.Known[int64](1200), model.Known[int64](1000)
	expect(map[Command]Reclaimable{ImagePruneAll: {40, false}})
}

// Two histories that cannot both be true make no figure that is too high.
func TestContradictingHistories(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.image("a", "", tag("a:1"), "x", "y")
	y.image("b", "", tag("b:1"), "x", "z")
	y.contents["a"] = model.Content{DiffIDs: tag("x", "y"), History: []model.Step{{}, {Size: 5}, {}}}
	y.contents["b"] = model.Content{DiffIDs: tag("x", "z"), History: []model.Step{{Size: 5}, {Size: 7}}}
	y.container("b", model.Running, 0)
	y.frees(t, ImagePruneAll, 0) // that b leaves no choice tells of a

	y.contents["b"] = model.Content{DiffIDs: tag("x", "z"), History: []model.Step{{Size: 4}, {Size: 7}, {}}}
	y.atLeast(t, ImagePruneAll, 0)
}

// A record that an image is said to share, and whose size is that of no layer, may
// hold any.
func TestRecordThatFitsNoLayer(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.image("a", "", tag("a:1"), "1000", "20")
	y.record(model.CacheRecord{ID: "strange", Shared: true, Size: model.Known[int64](7)})
	y.atLeast(t, ImagePruneAll, 0)
	y.frees(t, SystemPruneAll, 1020)
}

// A record under an image that stays is left, whatever image prune does.
func TestRecordOfAnImageThatStays(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.image("dangling", "", nil, "1000", "20")
	y.image("kept", "", tag("kept:1"), "7", "20")
	y.record(model.CacheRecord{ID: "linked", Parents: tag("gone"), Shared: true, Size: model.Known[int64](20)})
	y.atLeast(t, SystemPrune, 0) // it can be of either, and holds what is under it
	y.frees(t, SystemPruneAll, 1047)
}

// A container holds the layers of its image even when that was removed by force, and
// with them what a record of the build cache has.
func TestBuilderPruneBesideForceRemovedImage(t *testing.T) {
	y := newYard(model.GraphDriver, "1.51")
	y.contents["removed"] = model.Content{DiffIDs: tag("1000", "20"), History: []model.Step{{Size: 1000}, {Size: 20}}}
	y.container("removed", model.Running, 0)
	y.record(model.CacheRecord{ID: "base", Size: model.Known[int64](1000)})
	y.record(model.CacheRecord{ID: "other", Size: model.Known[int64](3)})
	y.record(model.CacheRecord{ID: "context", Type: "source.local", Size: model.Known[int64](500)})
	y.atLeast(t, BuilderPrune, 503)

	delete(y.contents, "removed") // before anybody looked
	containers, _ := y.snapshot.Containers.Get()
	containers[0].ImageSize = model.Known[int64](1020)
	y.atLeast(t, BuilderPrune, 500)
	containers[0].ImageSize = model.Optional[int64]{}
	y.frees(t, BuilderPrune, -1)
}

// An image of several platforms has layers that nobody has looked at.
func TestSeveralPlatforms(t *testing.T) {
	y := newYard(model.Containerd, "1.51")
	y.image("dangling", "", nil, "1000", "20")
	y.image("kept", "", tag("kept:1"), "7")
	y.atLeast(t, ImagePrune, 1020) // of blobs nothing is known
	images, _ := y.snapshot.Images.Get()
	images[1].SeveralPlatforms, images[1].Size = true, model.Known[int64](600)
	y.atLeast(t, ImagePrune, 420)
}

// A record of the containerd store that was taken from an image keeps all that this
// image has unpacked.
func TestRecordTakenFromAnImage(t *testing.T) {
	y := newYard(model.Containerd, "1.51")
	y.image("base", "", tag("base:1"), "1000", "20")
	y.image("other", "", tag("other:1"), "300")
	y.record(model.CacheRecord{ID: "top of base", Parents: tag("gone"), ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](5)})
	y.atLeast(t, ImagePruneAll, 300)
	y.atLeast(t, SystemPruneAll, 1320)
}

// So does one whose image has gone, of layers that others have.
func TestRecordTakenFromAnImageThatHasGone(t *testing.T) {
	y := newYard(model.Containerd, "1.51")
	y.image("a", "", tag("a:1"), "1000", "20")
	y.image("b", "", tag("b:1"), "1000", "300")
	y.image("c", "", tag("c:1"), "7")
	y.record(model.CacheRecord{ID: "bottom", Type: "regular", Shared: true, Size: model.Known[int64](1500)})
	y.record(model.CacheRecord{ID: "on it", Parents: tag("bottom"), ExcludesSnapshot: true, Size: model.Known[int64](5)})
	y.record(model.CacheRecord{ID: "top", Parents: tag("on it"), ExcludesSnapshot: true, Size: model.Known[int64](5)})
	y.atLeast(t, ImagePruneAll, 1327-1300)
	y.atLeast(t, SystemPruneAll, 1327)
}

// However many records there are, and however little they say, it stays cheap.
func TestManyRecords(t *testing.T) {
	for _, store := range []model.ImageStore{model.GraphDriver, model.Containerd} {
		y := newYard(store, "1.51")
		for i := range 1000 {
			y.image(fmt.Sprint("image ", i), "", nil, "0", fmt.Sprint("0a", i), fmt.Sprint("0b", i))
		}
		for i := range 5000 {
			r := model.CacheRecord{ID: fmt.Sprint("record ", i), Shared: i%2 == 0, ExcludesSnapshot: true}
			switch i % 3 {
			case 0:
				r.Parents = tag("gone")
			case 1:
				r.Parents = tag(fmt.Sprint("record ", max(0, i-3)))
			}
			y.record(r)
		}
		y.snapshot.Contents, y.snapshot.ListedImages = y.contents, nil
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		reclaimable(y.snapshot)
		runtime.ReadMemStats(&after)
		if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 100 {
			t.Errorf("%s: %d MiB allocated", store, allocated)
		}
	}
}
