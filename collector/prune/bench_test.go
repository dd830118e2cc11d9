package prune

import (
	"fmt"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// benchmarkHost returns 3,000 images, 1,000 containers and 10,000 records of the build cache.
func benchmarkHost() model.Snapshot {
	var images []model.Image
	contents := make(map[string]model.Content)
	for i := range 3000 {
		content, size := model.Content{}, int64(0)
		for _, layer := range []int{0, i / 40, i / 8, 2 * i, 2*i + 1} {
			content.DiffIDs = append(content.DiffIDs, fmt.Sprint("sha256:", len(content.DiffIDs), layer))
			content.History = append(content.History, model.Step{Size: int64(layer)})
			size += int64(layer)
		}
		id := fmt.Sprintf("sha256:%064x", i)
		contents[id] = content
		images = append(images, model.Image{
			ID: id, Parent: fmt.Sprintf("sha256:%064x", i/2),
			Tags: []string{fmt.Sprint("app:", i)}, HasDigest: model.Known(false), Size: model.Known(size),
		})
	}
	var containers []model.Container
	for i := range 1000 {
		containers = append(containers, model.Container{ID: fmt.Sprintf("%064x", i), ImageID: images[i].ID, State: model.Exited, StoppedAt: model.Known(time.Now())})
	}
	var cache []model.CacheRecord
	for i := range 10_000 {
		record := model.CacheRecord{ID: fmt.Sprintf("%025d", i), Type: "regular", Size: model.Known(int64(i % 3000)), Shared: i%3 == 0}
		if i%10 > 0 {
			record.Parents = []string{fmt.Sprintf("%025d", i-1)}
		}
		cache = append(cache, record)
	}
	return model.Snapshot{
		At: time.Now(), Engine: model.Known(overlay2("1.51")), Images: model.Known(images), Contents: contents, ContentsVersion: 1,
		Containers: model.Known(containers), Volumes: model.Known([]model.Volume{}), BuildCache: model.Known(cache),
	}
}

// BenchmarkSummarize summarizes a host that has changed.
func BenchmarkSummarize(b *testing.B) {
	snapshot := benchmarkHost()
	for b.Loop() {
		Summarize(snapshot, 0)
	}
}

// BenchmarkUnchanged summarizes a host that has not changed, as most scrapes do.
func BenchmarkUnchanged(b *testing.B) {
	var z Summarizer
	snapshot := benchmarkHost()
	for b.Loop() {
		z.Summarize(snapshot)
	}
}
