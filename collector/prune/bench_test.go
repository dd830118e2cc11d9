package prune

import (
	"fmt"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// BenchmarkSummarize summarizes 3,000 images and 1,000 containers, as every scrape does.
func BenchmarkSummarize(b *testing.B) {
	var images []model.Image
	for i := range 3000 {
		images = append(images, model.Image{
			ID: fmt.Sprintf("sha256:%064x", i), Parent: fmt.Sprintf("sha256:%064x", i/2),
			Tags: []string{fmt.Sprint("app:", i)}, HasDigest: model.Known(false), Size: model.Known(int64(i)),
		})
	}
	var containers []model.Container
	for i := range 1000 {
		containers = append(containers, model.Container{ID: fmt.Sprintf("%064x", i), ImageID: images[i].ID, State: model.Exited, StoppedAt: model.Known(time.Now())})
	}
	contents := make(map[string]model.Content)
	for i, image := range images {
		content := model.Content{}
		for _, layer := range []int{0, i / 40, i / 8, 2 * i, 2*i + 1} {
			content.DiffIDs = append(content.DiffIDs, fmt.Sprint("sha256:", len(content.DiffIDs), layer))
			content.History = append(content.History, model.Step{Size: int64(layer)})
		}
		contents[image.ID] = content
	}
	snapshot := model.Snapshot{
		At: time.Now(), Engine: model.Known(overlay2("1.51")), Images: model.Known(images),
		Contents: contents, Containers: model.Known(containers), Volumes: model.Known([]model.Volume{}), BuildCache: model.Known([]model.CacheRecord{}),
	}
	for b.Loop() {
		Summarize(snapshot, 0)
	}
}
