package prune

import (
	"reflect"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// Holders are sorted by what they hold. What removing the unused objects frees excludes what
// others hold, too.
func TestLargestHolders(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("base", "", tag("base:1"), "1000")
	f.image("old", "", tag("shop/web:1"), "1000", "60")
	f.image("new", "", tag("shop/web:2", "localhost:5000/web:2"), "1000", "70")
	f.image("dangling", "", nil, "1000", "5")
	f.container("new", model.Running, 400, "data")
	f.container("gone", model.Exited, 30)
	f.volume("data", false, true, 500)
	f.volume("left", false, true, 300)
	f.volume("buildx_buildkit_ci20_state", false, true, 200)
	f.volume("empty", false, true, 0)
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	f.record(model.CacheRecord{ID: "a", Type: "regular", Size: model.Known[int64](40), LastUsedAt: model.Known(day)})
	f.record(model.CacheRecord{ID: "b", Type: "regular", Size: model.Known[int64](41), LastUsedAt: model.Known(day.Add(time.Hour))})
	f.record(model.CacheRecord{ID: "c", Type: "regular", Size: model.Known[int64](42), InUse: true})
	containers, _ := f.snapshot.Containers.Get()
	containers[0].Name, containers[0].Project = "web-1", "shop"
	containers[1].StoppedAt = model.Known(day)
	f.snapshot.Contents = f.contents

	want := []Holder{
		{Kind: RepositoryHolder, Name: "shop/web", Count: 2, Unused: 1, Bytes: 1130, Frees: model.Known[int64](60)},
		{Kind: RepositoryHolder, Name: "localhost:5000/web", Count: 1, Bytes: 1070},
		{Kind: RepositoryHolder, Name: "<none>", Count: 1, Unused: 1, Bytes: 1005, Frees: model.Known[int64](5)},
		{Kind: RepositoryHolder, Name: "base", Count: 1, Unused: 1, Bytes: 1000, Frees: model.Known[int64](0)},
		{Kind: VolumeHolder, Name: "data", State: "in use", Project: "shop", Count: 1, Bytes: 500, Frees: model.Known[int64](500)},
		{Kind: ContainerHolder, Name: "web-1", State: "running", Project: "shop", Count: 1, Bytes: 400, Frees: model.Known[int64](400)},
		{Kind: VolumeHolder, Name: "left", State: "unused", Count: 1, Unused: 1, Bytes: 300, Frees: model.Known[int64](300)},
		{Kind: VolumeHolder, Name: "buildx_buildkit_ci20_state", State: "unused", Builder: "ci2", Count: 1, Unused: 1, Bytes: 200, Frees: model.Known[int64](200)},
		{Kind: CacheHolder, Name: "regular", State: "unused", Since: model.Known(day.Add(time.Hour)), Count: 2, Unused: 2, Bytes: 81, Frees: model.Known[int64](81)},
		{Kind: ContainerHolder, Name: "container 1", State: "exited", Since: model.Known(day), Count: 1, Unused: 1, Bytes: 30, Frees: model.Known[int64](30)},
	}
	for n := range len(want) + 2 {
		got := (&Summarizer{Holders: n}).Summarize(f.snapshot).Holders
		if expected := want[:min(n, len(want))]; len(got) != len(expected) || n > 0 && !reflect.DeepEqual(got, expected) {
			t.Errorf("%d largest: got\n%+v\nwant\n%+v", n, got, expected)
		}
	}
}

// What holds bytes and is not known is left out.
func TestUnknownHolders(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.snapshot.Images = model.Optional[[]model.Image]{}
	f.volume("data", false, true, 500)
	if got := (&Summarizer{Holders: 9}).Summarize(f.snapshot).Holders; len(got) != 1 || got[0].Name != "data" {
		t.Errorf("got %+v", got)
	}
	f = newFixture(model.GraphDriver, "1.51") // the build cache may hold the layers of an unused image
	f.image("old", "", tag("web:1"), "60")
	f.snapshot.Contents, f.snapshot.BuildCache = f.contents, model.Optional[[]model.CacheRecord]{}
	if got := (&Summarizer{Holders: 9}).Summarize(f.snapshot).Holders; len(got) != 1 || got[0].Frees.IsKnown() {
		t.Errorf("without the build cache: got %+v", got)
	}
	if got := (&Summarizer{Holders: 9}).Summarize(model.Snapshot{}).Holders; got != nil {
		t.Errorf("got %+v without an engine", got)
	}
}
