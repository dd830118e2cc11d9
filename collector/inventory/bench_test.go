package inventory

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkAssess is what every scrape pays for counting on a host that holds much.
func BenchmarkAssess(b *testing.B) {
	var images []Image
	for i := range 3000 {
		images = append(images, Image{
			ID: fmt.Sprintf("sha256:%064x", i), Parent: fmt.Sprintf("sha256:%064x", i/2),
			Tags: []string{fmt.Sprint("app:", i)}, Digested: Known(false), Size: Known(int64(i)),
		})
	}
	var containers []Container
	for i := range 1000 {
		containers = append(containers, Container{ID: fmt.Sprintf("%064x", i), ImageID: images[i].ID, State: Exited, StoppedAt: Known(time.Now())})
	}
	contents := make(map[string]Content)
	for i, image := range images {
		content := Content{}
		for _, layer := range []int{0, i / 40, i / 8, 2 * i, 2*i + 1} {
			content.DiffIDs = append(content.DiffIDs, fmt.Sprint("sha256:", len(content.DiffIDs), layer))
			content.History = append(content.History, Step{Size: int64(layer)})
		}
		contents[image.ID] = content
	}
	inventory := Inventory{
		At: time.Now(), Engine: Known(Engine{APIVersion: "1.51", ImageStore: GraphDriver}), Images: Known(images),
		Layers: LayOut(contents, nil), Containers: Known(containers), Volumes: Known([]Volume{}), Cache: Known([]CacheRecord{}),
	}
	for b.Loop() {
		Assess(inventory)
	}
}
