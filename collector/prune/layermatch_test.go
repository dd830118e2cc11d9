package prune

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// candidates returns the layers that each record may be of. A layer is named by its diffs,
// bottom first: "10/20".
func (f *fixture) candidates(store model.ImageStore) map[string][]string {
	f.snapshot.Contents = f.contents
	layers := layersOf(f.snapshot)
	names := make([]string, len(layers.layers))
	for id, content := range f.contents {
		at, _ := layers.topLayer(id)
		for depth := len(content.DiffIDs); depth > 0; depth-- {
			names[at] = strings.Join(content.DiffIDs[:depth], "/")
			at = layers.layers[at].parent
		}
	}
	candidates := make(map[string][]string)
	for record, found := range newEstimator(f.snapshot, layers, store).candidates {
		for _, at := range found {
			candidates[record] = append(candidates[record], names[at])
		}
		slices.Sort(candidates[record])
	}
	return candidates
}

// The size of a record, its parents, and whether an image shares it determine which layers
// it may be of.
func TestMatchLayers(t *testing.T) {
	unknown := model.Optional[int64]{}
	bytes := model.Known[int64]
	contents := map[string]model.Content{
		"ambiguous": {DiffIDs: tag("x", "y", "z"), History: []model.Step{{Size: 10}, {}, {Size: 20}, {}}}, // y is 0 or 20 bytes
		"unsized":   {DiffIDs: tag("u", "v"), History: []model.Step{{Size: 10}}},
	}
	tests := []struct {
		name    string
		store   model.ImageStore
		images  []string // layers of each image
		removed string   // layers of an image that only a container has
		records []model.CacheRecord
		want    string // layers of each record
	}{
		{
			"a shared record is of a layer of an image, another one is not", model.GraphDriver, []string{"10a 20a"}, "10b 30b",
			[]model.CacheRecord{{ID: "shared", Shared: true, Size: bytes(10)}, {ID: "own", Size: bytes(10)}, {ID: "on own", Parents: tag("own"), Size: bytes(30)}},
			"shared: 10a; own: 10b; on own: 10b/30b",
		},
		{
			"a record without parents is a bottom layer", model.GraphDriver, []string{"10 20", "20a"}, "",
			[]model.CacheRecord{{ID: "root", Shared: true, Size: bytes(20)}}, "root: 20a",
		},
		{
			"a record is on its parent", model.GraphDriver, []string{"10 20", "30 20b"}, "",
			[]model.CacheRecord{{ID: "root", Shared: true, Size: bytes(30)}, {ID: "top", Parents: tag("root"), Shared: true, Size: bytes(20)}},
			"root: 30; top: 30/20b",
		},
		{
			"a shared child excludes layers of its parent", model.GraphDriver, []string{"10a 20", "10b 30"}, "",
			[]model.CacheRecord{{ID: "root", Shared: true, Size: bytes(10)}, {ID: "top", Parents: tag("root"), Shared: true, Size: bytes(20)}},
			"root: 10a; top: 10a/20",
		},
		{
			"a child that is not shared excludes none", model.GraphDriver, []string{"10a 20", "10b 30"}, "",
			[]model.CacheRecord{{ID: "root", Shared: true, Size: bytes(10)}, {ID: "top", Parents: tag("root"), Size: bytes(20)}},
			"root: 10a 10b; top:",
		},
		{
			"children exclude layers of a record without a known parent, too", model.GraphDriver, []string{"1 10a 20", "1 10b 30"}, "",
			[]model.CacheRecord{{ID: "linked", Parents: tag("gone"), Shared: true, Size: bytes(10)}, {ID: "top", Parents: tag("linked"), Shared: true, Size: bytes(20)}},
			"linked: 1/10a; top: 1/10a/20",
		},
		{
			"a record with several parents may be of any layer of its size", model.GraphDriver, []string{"10 20a", "20b"}, "20c",
			[]model.CacheRecord{
				{ID: "root", Shared: true, Size: bytes(10)}, {ID: "merged", Parents: tag("root", "gone"), Shared: true, Size: bytes(20)},
				{ID: "same", Parents: tag("root", "gone"), Shared: true, Size: bytes(20)}, {ID: "own", Parents: tag("gone"), Size: bytes(20)},
			},
			"root: 10; merged: 10/20a 20b; same: 10/20a 20b; own: 20c",
		},
		{
			"a record of unknown size may be of any layer", model.GraphDriver, []string{"10 20", "30"}, "",
			[]model.CacheRecord{{ID: "root", Shared: true, Size: unknown}, {ID: "linked", Parents: tag("gone"), Shared: true, Size: unknown}},
			"root: 10 30; linked: 10 10/20 30",
		},
		{
			"the size of a record that was taken from an image is not that of the layer", model.GraphDriver, []string{"10 20", "30"}, "",
			[]model.CacheRecord{
				{ID: "root", Shared: true, ExcludesSnapshot: true, Size: bytes(0)},
				{ID: "linked", Parents: tag("gone"), Shared: true, ExcludesSnapshot: true, Size: bytes(0)},
				{ID: "not taken", Parents: tag("gone"), Shared: true, Size: bytes(0)},
			},
			"root: 10 30; linked: 10 10/20 30; not taken:",
		},
		{
			"an ambiguous layer may be of any size", model.GraphDriver, []string{"ambiguous", "20"}, "",
			[]model.CacheRecord{
				{ID: "root", Shared: true, Size: bytes(10)}, {ID: "on root", Parents: tag("root"), Shared: true, Size: bytes(20)},
				{ID: "linked", Parents: tag("gone"), Shared: true, Size: bytes(20)}, {ID: "definite", Parents: tag("gone"), Shared: true, Size: bytes(10)},
			},
			"root: x; on root: x/y; linked: 20 x/y x/y/z; definite: x x/y x/y/z",
		},
		{
			"a blob is hardly larger than its layer", model.Containerd, []string{"952", "951", "5000"}, "",
			[]model.CacheRecord{
				{ID: "root", Shared: true, ExcludesSnapshot: true, Size: bytes(3000)},
				{ID: "linked", Parents: tag("gone"), Shared: true, ExcludesSnapshot: true, Size: bytes(3000)},
				{ID: "own snapshot", Shared: true, Size: bytes(952)},
			},
			"root: 5000 952; linked: 5000 952; own snapshot:",
		},
		{
			"a layer of unknown size may have any blob, and a blob of unknown size any layer", model.Containerd, []string{"unsized", "951"}, "",
			[]model.CacheRecord{
				{ID: "root", Shared: true, ExcludesSnapshot: true, Size: bytes(3000)}, {ID: "unknown", Shared: true, ExcludesSnapshot: true},
			},
			"root: u; unknown: 951 u",
		},
		{
			"a layer of unknown size may be of any record", model.GraphDriver, []string{"unsized", "20"}, "",
			[]model.CacheRecord{{ID: "root", Shared: true, Size: bytes(10)}, {ID: "linked", Parents: tag("gone"), Shared: true, Size: bytes(20)}},
			"root: u; linked: 20 u u/v",
		},
	}
	for _, test := range tests {
		f := newFixture(test.store, "1.51")
		for _, layers := range test.images {
			f.image(layers, "", nil, strings.Fields(layers)...)
			if content, exists := contents[layers]; exists {
				f.contents[layers] = content
			}
		}
		images := f.snapshot.Images
		f.image("removed", "", nil, strings.Fields(test.removed)...)
		f.snapshot.Images = images
		var ids []string
		for _, record := range test.records {
			f.record(record)
			ids = append(ids, record.ID)
		}
		candidates := f.candidates(test.store)
		var got []string
		for _, id := range ids {
			got = append(got, strings.TrimSpace(fmt.Sprint(id, ": ", strings.Join(candidates[id], " "))))
		}
		if got := strings.Join(got, "; "); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, test.want)
		}
	}
}
