package prune

import (
	"reflect"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// A summary of what is known has a figure of every kind, and one of nothing has none.
func TestSummarize(t *testing.T) {
	snapshot := model.Snapshot{
		Engine:     model.Known(overlay2("1.51")),
		Images:     model.Known([]model.Image{{ID: "a", Repositories: []string{"app"}, HasDigest: model.Known(false), Size: model.Known(int64(7))}}),
		Contents:   map[string]model.Content{"a": {DiffIDs: []string{"layer"}, History: []model.Step{{Size: 7}}}},
		Containers: model.Known([]model.Container{}),
		Volumes:    model.Known([]model.Volume{}),
		BuildCache: model.Known([]model.CacheRecord{}),
	}
	got := Summarize(snapshot, 1)
	if layers, known := got.Counts.Images.Layers.Get(); !known || layers != 1 {
		t.Errorf("%d layers, known: %v; want 1", layers, known)
	}
	if tagged, known := got.Counts.Images.Tagged.Get(); !known || tagged != 0 {
		t.Errorf("%d tagged images, known: %v; want 0", tagged, known)
	}
	want := map[model.Resource]int64{model.Images: 7, model.Containers: 0, model.Volumes: 0, model.BuildCache: 0}
	if !reflect.DeepEqual(got.DiskUsage, want) {
		t.Errorf("disk usage %v, want %v", got.DiskUsage, want)
	}
	if len(got.Reclaimable) != len(Commands("1.51")) {
		t.Errorf("reclaimable: %v, want a figure for each command", got.Reclaimable)
	}
	if repositories, known := got.Repositories.Get(); !known || len(repositories) != 1 {
		t.Errorf("repositories: %v, known: %v; want 1", repositories, known)
	}

	got = Summarize(model.Snapshot{}, 1)
	if !reflect.DeepEqual(got.Counts, model.ObjectCounts{}) || len(got.DiskUsage)+len(got.Reclaimable) > 0 || got.Repositories.IsKnown() {
		t.Errorf("nothing is known, but the summary is %+v", got)
	}
}

// reclaimable returns what each command frees.
func reclaimable(s model.Snapshot) map[Command]Reclaimable { return Summarize(s, 0).Reclaimable }

// repositoriesOf returns the n largest repositories.
func repositoriesOf(s model.Snapshot, n int) model.Optional[[]Repository] {
	return Summarize(s, n).Repositories
}
