package prune

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// The history determines the sizes of layers.
func TestAssignSizes(t *testing.T) {
	layer := func(size int64) model.Step { return model.Step{Size: size} }
	setting := model.Step{NoLayer: true}
	tests := []struct {
		name    string
		history map[string][]model.Step // by the diffs, which are the image ID
		want    map[string]int64        // by chain; absent: unknown
	}{
		{
			"settings make no layer", map[string][]model.Step{"a b": {layer(5), setting, layer(0)}},
			map[string]int64{"a": 5, "a b": 0},
		},
		{
			"a layer without files comes after a setting", map[string][]model.Step{"a b": {setting, layer(5), layer(0)}},
			map[string]int64{"a": 5, "a b": 0},
		},
		{
			"a layer may come from a step that usually makes none",
			map[string][]model.Step{"a b": {setting, layer(5)}},
			map[string]int64{"a": 0, "a b": 5},
		},
		{
			"the shorter image determines the sizes of shared layers",
			map[string][]model.Step{"a": {layer(0)}, "a b c": {layer(0), layer(7), layer(0), layer(0)}},
			map[string]int64{"a": 0, "a b": 7, "a b c": 0},
		},
		{
			"the same diff on another layer is another layer",
			map[string][]model.Step{"a": {layer(3)}, "b a": {layer(4), layer(3)}},
			map[string]int64{"a": 3, "b": 4, "b a": 3},
		},
		{
			"a layer cannot be of two sizes: those of both images are unknown, and of a third one that shares it",
			map[string][]model.Step{"a b": {layer(0), layer(5), layer(0)}, "a c": {layer(4), layer(7), layer(0)}, "a d e": {layer(0), layer(3), layer(0), layer(0)}, "f": {layer(8)}, "g h": {layer(9), layer(0), layer(0)}},
			map[string]int64{"f": 8, "g": 9, "g h": 0},
		},
		{
			"the layers that only definite images have keep their sizes",
			map[string][]model.Step{"a b": {layer(4), layer(5)}, "a c": {layer(3), layer(7), layer(0)}, "a b d": {layer(4), layer(5), layer(6)}},
			map[string]int64{"a b": 5, "a b d": 6},
		},
		{"fewer steps than layers: unknown", map[string][]model.Step{"a b": {layer(3)}}, map[string]int64{}},
		{
			"a history that cannot be that of the image contradicts no other", map[string][]model.Step{"a": {layer(3)}, "a b": {layer(4)}, "a c": {layer(4), layer(5), layer(6)}},
			map[string]int64{"a": 3},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			contents := make(map[string]model.Content)
			for diffs, history := range test.history {
				contents[diffs] = model.Content{DiffIDs: strings.Fields(diffs), History: history}
			}
			l := buildLayerTree(contents, nil, nil)
			got := make(map[string]int64)
			for diffs := range contents {
				top, _ := l.topLayer(diffs)
				words := strings.Fields(diffs)
				for at := top; at != noLayer; at = l.layers[at].parent {
					if size, known := l.layers[at].size.Get(); known {
						got[strings.Join(words, " ")] = size
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

// A layer that one image determines may determine a layer of another image.
func TestResolveAll(t *testing.T) {
	contents := map[string]model.Content{
		"a": {DiffIDs: []string{"x", "y"}, History: []model.Step{{}, {Size: 5}, {}}}, // alone: y is 5 or 0
		"b": {DiffIDs: []string{"x", "u", "v"}, History: []model.Step{{}, {}, {Size: 3}, {Size: 4}}},
		"d": {DiffIDs: []string{"r", emptyDiff, "s"}, History: []model.Step{{Size: 10}, {}, {Size: 20}, {}}},
		"c": {DiffIDs: []string{"p", "q"}, History: []model.Step{{NoLayer: true}, {NoLayer: true}, {Size: 5}}}, // a setting made p
	}
	tree := buildLayerTree(contents, nil, nil)
	for _, image := range []string{"a", "b", "c", "d"} {
		for at, _ := tree.topLayer(image); at != noLayer; at = tree.layers[at].parent {
			if tree.layers[at].isAmbiguous {
				t.Errorf("%s: a layer of %v bytes is ambiguous", image, tree.layers[at].size)
			}
		}
	}
	delete(contents, "b")
	tree = buildLayerTree(contents, nil, nil)
	if top, _ := tree.topLayer("a"); !tree.layers[top].isAmbiguous {
		t.Error("without the other image, the layer is not ambiguous")
	}
}

// The history does not always determine which step of size 0 made a layer. The sizes of the
// layers between such steps are ambiguous then, and so are the chains of records on them.
func TestAmbiguousSizes(t *testing.T) {
	history := []model.Step{{Size: 10}, {Size: 0}, {Size: 20}, {Size: 0}} // the first 0 made no layer
	record := func(id, parent string, size int64, isShared bool) model.CacheRecord {
		r := model.CacheRecord{ID: id, Shared: isShared, Size: model.Known(size)}
		if parent != "" {
			r.Parents = tag(parent)
		}
		return r
	}

	f := newFixture(model.GraphDriver, "1.51")
	f.contents["a"] = model.Content{DiffIDs: tag("x", "y", "z"), History: history}
	f.snapshot.Images = model.Known([]model.Image{{ID: "a", Tags: tag("a:1"), HasDigest: model.Known(false), Size: model.Known[int64](30)}})
	f.record(record("x", "", 10, true))
	f.record(record("y", "x", 20, true))
	f.record(record("z", "y", 0, true))
	f.record(record("big", "z", 1000, false))
	for i, parent := range []string{"", "taken 0", "taken 1"} {
		taken := record(fmt.Sprint("taken ", i), parent, 0, true)
		taken.ExcludesSnapshot = true
		f.record(taken)
	}
	f.record(record("big too", "taken 2", 1000, false))
	f.expectMinimum(t, BuilderPrune, 1000)

	f = newFixture(model.GraphDriver, "1.51")
	f.contents["removed"] = model.Content{DiffIDs: tag("x", "y", "z", "big"), History: append(history, model.Step{Size: 1000})}
	f.container("removed", model.Running, 0)
	f.record(record("x", "", 10, false))
	f.record(record("y", "x", 20, false))
	f.record(record("z", "y", 0, false))
	f.record(record("big", "z", 1000, false))
	f.expectMinimum(t, BuilderPrune, 0)

	f = newFixture(model.GraphDriver, "1.51") // fewer likely steps than layers
	history = []model.Step{{Size: 10}, {NoLayer: true}, {Size: 20}, {NoLayer: true}}
	f.contents["a"] = model.Content{DiffIDs: tag("x", "y", "z"), History: history}
	f.contents["b"] = model.Content{DiffIDs: tag("x", "y", "other"), History: history}
	f.snapshot.Images = model.Known([]model.Image{{ID: "a", HasDigest: model.Known(false)}, {ID: "b", Tags: tag("b:1"), HasDigest: model.Known(false)}})
	f.expectMinimum(t, ImagePrune, 0)
	if usage, known := Summarize(f.snapshot, 0).DiskUsage[model.Images]; known {
		t.Errorf("images take %d bytes, want it unknown", usage)
	}
	f.expectMinimum(t, ImagePruneAll, 10) // 30 if y has 20 bytes, 50 if z and the other layer have

	f = newFixture(model.GraphDriver, "1.51") // one of the images is definite
	history = []model.Step{{Size: 10}, {}, {Size: 20}, {}}
	f.contents["a"] = model.Content{DiffIDs: tag("x", "y", "z"), History: history}
	f.contents["b"] = model.Content{DiffIDs: tag("x", "y"), History: []model.Step{{Size: 10}, {Size: 0}, {Size: 20}}}
	f.snapshot.Images = model.Known([]model.Image{{ID: "a", Tags: tag("a:1"), HasDigest: model.Known(false)}, {ID: "b", Tags: tag("b:1"), HasDigest: model.Known(false)}})
	f.expectExact(t, ImagePruneAll, 30)
}

// The sizes of layers are unknown if two histories contradict each other.
func TestContradictingHistories(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "x", "y")
	f.image("b", "", tag("b:1"), "x", "z")
	f.contents["a"] = model.Content{DiffIDs: tag("x", "y"), History: []model.Step{{}, {Size: 5}, {}}}
	f.contents["b"] = model.Content{DiffIDs: tag("x", "z"), History: []model.Step{{Size: 5}, {Size: 7}}}
	f.container("b", model.Running, 0)
	f.expectExact(t, ImagePruneAll, 0) // b is definite and determines the sizes of a

	f.contents["b"] = model.Content{DiffIDs: tag("x", "z"), History: []model.Step{{Size: 4}, {Size: 7}, {}}}
	f.expectMinimum(t, ImagePruneAll, 0)
}
