package report

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"
)

// examining is an inventory of images of which so many were not looked at.
func examining(images, uninspected int, questions ...model.Collector) model.Snapshot {
	var list []model.Image
	contents := make(map[string]model.Content)
	for i := range images {
		id := string(rune('a' + i))
		list = append(list, model.Image{ID: id})
		if i >= uninspected {
			contents[id] = model.Content{}
		}
	}
	return model.Snapshot{Up: true, Images: model.Known(list), Contents: contents, Collectors: questions}
}

func TestAwait(t *testing.T) {
	failed := model.Collector{Name: "layers"}
	tests := []struct {
		name  string
		takes []model.Snapshot // the last one again and again
		want  int
	}{
		{"all is known at once", []model.Snapshot{examining(3, 0)}, 1},
		{"layers come later", []model.Snapshot{examining(3, 2), examining(3, 1), examining(3, 0)}, 3},
		{"layers never come", []model.Snapshot{examining(3, 2)}, 30},
		{"layers are forbidden", []model.Snapshot{examining(3, 2, failed)}, 1},
		{"the engine is down", []model.Snapshot{{}}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				taken := 0
				Await(ctx, func(context.Context) model.Snapshot {
					taken++
					return test.takes[min(taken, len(test.takes))-1]
				})
				if taken != test.want || ctx.Err() != nil {
					t.Errorf("%d inventories were taken, want %d; %v", taken, test.want, ctx.Err())
				}
			})
		})
	}
}
