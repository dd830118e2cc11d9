package status

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/inventory"
)

// examining is an inventory of images of which so many were not looked at.
func examining(images, unexamined int, questions ...inventory.Question) inventory.Inventory {
	var list []inventory.Image
	contents := make(map[string]inventory.Content)
	for i := range images {
		id := string(rune('a' + i))
		list = append(list, inventory.Image{ID: id})
		if i >= unexamined {
			contents[id] = inventory.Content{}
		}
	}
	return inventory.Inventory{Up: true, Images: inventory.Known(list), Layers: inventory.LayOut(contents, nil), Questions: questions}
}

func TestAwait(t *testing.T) {
	failed := inventory.Question{Kind: "layers"}
	tests := []struct {
		name  string
		takes []inventory.Inventory // the last one again and again
		want  int
	}{
		{"all is known at once", []inventory.Inventory{examining(3, 0)}, 1},
		{"layers come later", []inventory.Inventory{examining(3, 2), examining(3, 1), examining(3, 0)}, 3},
		{"layers never come", []inventory.Inventory{examining(3, 2)}, 30},
		{"layers are forbidden", []inventory.Inventory{examining(3, 2, failed)}, 1},
		{"the engine is down", []inventory.Inventory{{}}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				taken := 0
				Await(ctx, func(context.Context) inventory.Inventory {
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
