package prune

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// History sizes layers only where it adds up to the size of the image. Otherwise the size of
// the image does.
func TestLayerSizes(t *testing.T) {
	step := func(size int64) model.Step { return model.Step{Size: size} }
	setting := model.Step{NoLayer: true}
	type image struct {
		history []model.Step
		size    int64
	}
	for _, test := range []struct {
		name   string
		images map[string]image // by the diffs
		want   string           // sizes of all layers, with "?" if not proven
	}{
		{"settings make no layer", map[string]image{"a b": {[]model.Step{step(5), setting, step(0)}, 5}}, "a 5, a b 0"},
		{"a setting may have made a layer", map[string]image{"a b": {[]model.Step{setting, step(5), step(6)}, 11}}, "a 5, a b 6"},
		{"no history", map[string]image{"a b": {nil, 7}}, "a 0, a b 7"},
		{
			"the history of an image on one without history is of the wrong layers", map[string]image{
				"a b c d":   {nil, 20},
				"a b c d e": {[]model.Step{step(5), setting, setting}, 21},
			}, "a 0, a b 0, a b c 0, a b c d 20, a b c d e 1",
		},
		{
			"images on one that is gone, all without history", map[string]image{"a b": {nil, 21}, "a c": {nil, 22}},
			"a 21?, a b 0?, a c 1?",
		},
		{
			"each step of a classic build has an image", map[string]image{
				"a": {[]model.Step{step(3), step(0)}, 3}, "a b": {[]model.Step{step(3), step(0), step(0), step(4)}, 7},
				"a b c": {[]model.Step{step(3), step(0), step(0), step(4), step(0)}, 7},
			}, "a 3, a b 4, a b c 0",
		},
		{"a history that is larger than the image", map[string]image{"a": {[]model.Step{step(9)}, 5}}, "a 5"},
		{"two histories that contradict each other", map[string]image{
			"a b": {[]model.Step{step(4), step(5)}, 9}, "a c": {[]model.Step{step(3), step(6)}, 9}, "d": {[]model.Step{step(1)}, 1},
		}, "a 4?, a b 5?, a c 6?, d 1"},
		{"images that contradict each other", map[string]image{"a": {nil, 9}, "a b": {nil, 5}}, "a 9, a b 0?"},
	} {
		contents, sizes := make(map[string]model.Content), make(map[string]int64)
		for diffs, image := range test.images {
			contents[diffs], sizes[diffs] = model.Content{DiffIDs: strings.Fields(diffs), History: image.history}, image.size
		}
		tree := newLayerTree(contents, sizes, false)
		found := make(map[string]bool)
		for diffs := range contents {
			words := strings.Fields(diffs)
			for at := tree.tops[diffs]; at != none; at = tree.layers[at].parent {
				doubt := ""
				if !tree.layers[at].isExact {
					doubt = "?"
				}
				found[fmt.Sprint(strings.Join(words, " "), " ", tree.layers[at].size, doubt)] = true
				words = words[:len(words)-1]
			}
		}
		if got := strings.Join(slices.Sorted(maps.Keys(found)), ", "); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// What the build cache may hold a part of is not proven as a whole.
func TestLayersWithoutHistoryInCache(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", nil, "5a", "5b")
	content := f.contents["a"]
	content.History = nil
	f.contents["a"] = content
	f.expectExact(t, ImagePrune, 10)
	f.record(model.CacheRecord{ID: "context", Type: "source.local", Size: model.Known[int64](5)})
	f.expectBetween(t, ImagePrune, 0, 10)
}
