package prune

import (
	"testing"

	"docker_buildup_exporter/collector/model"
)

// What holds images on a host with Podman is not known, so no command has a figure. Counts do.
func TestPodman(t *testing.T) {
	s := model.Snapshot{
		Engine: model.Known(model.Engine{APIVersion: "1.41", ImageStore: model.GraphDriver, Podman: true}),
		Images: model.Known([]model.Image{
			{ID: "a", Tags: []string{"app:1"}, Repositories: []string{"app"}, HasDigest: model.Known(false), Size: model.Known(int64(7))},
		}),
		Contents:   map[string]model.Content{"a": {DiffIDs: []string{"layer"}, History: []model.Step{{Size: 7}}}},
		Containers: model.Known([]model.Container{}),
		Volumes:    model.Known([]model.Volume{}),
		BuildCache: model.Known([]model.CacheRecord{}),
	}
	summary := Summarize(s, 1)
	if len(summary.Reclaimable) > 0 {
		t.Errorf("reclaimable: %v", summary.Reclaimable)
	}
	if summary.Repositories.IsKnown() {
		t.Errorf("repositories: %+v", summary.Repositories)
	}
	if summary.Counts.Images.Tagged != model.Known(1) || summary.DiskUsage[model.Images] != 7 {
		t.Errorf("%+v, %v", summary.Counts.Images, summary.DiskUsage)
	}
}
