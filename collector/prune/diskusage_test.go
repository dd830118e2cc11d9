package prune

import (
	"maps"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// The disk usage of a resource is absent if a part of it is unknown. No bytes count twice.
func TestDiskUsage(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*fixture)
		want   map[model.Resource]int64
	}{
		{"all is known", func(*fixture) {}, map[model.Resource]int64{model.Images: 1050, model.Containers: 7, model.Volumes: 3, model.BuildCache: 11}},
		{
			"the engine is unknown", func(f *fixture) { f.snapshot.Engine = model.Optional[model.Engine]{} },
			map[model.Resource]int64{model.Containers: 7, model.Volumes: 3, model.BuildCache: 11},
		},
		{
			"images are unknown", func(f *fixture) { f.snapshot.Images = model.Optional[[]model.Image]{} },
			map[model.Resource]int64{model.Containers: 7, model.Volumes: 3, model.BuildCache: 11},
		},
		{
			"no image is inspected", func(f *fixture) { f.contents = nil },
			map[model.Resource]int64{model.Containers: 7, model.Volumes: 3, model.BuildCache: 11},
		},
		{
			"other lists are unknown", func(f *fixture) {
				f.snapshot.Containers, f.snapshot.Volumes = model.Optional[[]model.Container]{}, model.Optional[[]model.Volume]{}
				f.snapshot.BuildCache = model.Optional[[]model.CacheRecord]{}
			},
			map[model.Resource]int64{model.Images: 1050},
		},
	} {
		f := newFixture(model.GraphDriver, "1.51")
		f.image("a", "", tag("a:1"), "1000", "20")
		f.image("b", "", tag("b:1"), "1000", "30")
		f.container("a", model.Running, 7)
		f.volume("local", false, true, 3)
		f.volume("elsewhere", false, false, 500)
		f.record(model.CacheRecord{ID: "shared", Shared: true, Size: model.Known[int64](1000)})
		f.record(model.CacheRecord{ID: "own", Size: model.Known[int64](11)})
		test.change(f)
		f.snapshot.Contents = f.contents
		if got := Summarize(f.snapshot, 0).DiskUsage; !maps.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
