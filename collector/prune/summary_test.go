package prune

import (
	"docker_buildup_exporter/collector/model"
	"testing"
)

func TestSummarizeUnknown(t *testing.T) {
	someImages := model.Known([]model.Image{{ID: "a", HasDigest: model.Known(false), Size: model.Known(int64(1))}})
	someContainers := model.Known([]model.Container{{ID: "1", ImageID: "a", State: model.Running}})
	tests := []struct {
		name                             string
		snapshot                         model.Snapshot
		imageCount, imageUse, containers bool
	}{
		{"nothing known", model.Snapshot{}, false, false, false},
		{"only images", model.Snapshot{Images: someImages}, true, false, false},
		{"only containers", model.Snapshot{Containers: someContainers}, false, false, true},
		{"both", model.Snapshot{Images: someImages, Containers: someContainers}, true, true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := Summarize(test.snapshot, 0)
			_, imageCount := a.ImageCount.Get()
			_, imageUse := a.ImageUse.Get()
			_, containers := a.ContainerCount.Get()
			if imageCount != test.imageCount || imageUse != test.imageUse || containers != test.containers {
				t.Errorf("known: image count %v, image use %v, container count %v; want %v, %v, %v",
					imageCount, imageUse, containers, test.imageCount, test.imageUse, test.containers)
			}
		})
	}
}

// reclaimable returns what each command frees.
func reclaimable(s model.Snapshot) map[Command]Reclaimable { return Summarize(s, 0).Reclaimable }

// repositoriesOf returns the n largest repositories.
func repositoriesOf(s model.Snapshot, n int) model.Optional[[]Repository] {
	return Summarize(s, n).Repositories
}
