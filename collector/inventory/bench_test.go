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
	inventory := Inventory{At: time.Now(), Images: Known(images), Containers: Known(containers)}
	for b.Loop() {
		Assess(inventory)
	}
}
