package prune

import (
	"testing"

	"docker_buildup_exporter/collector/model"
)

// A container holds the layers of its image after the image was removed by force.
func TestForceRemovedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000", "10a")
	f.contents["removed"] = model.Content{DiffIDs: tag("1000", "20b"), History: []model.Step{{Size: 1000}, {Size: 20}}}
	f.container("removed", model.Exited, 5)
	f.expectExact(t, ContainerPrune, 25) // the engine reports 5
	f.expectExact(t, ImagePruneAll, 10)  // the container still has the other layer
	f.expectExact(t, SystemPruneAll, 1035)

	delete(f.contents, "removed") // it was removed before it was inspected
	f.expectMinimum(t, ContainerPrune, 5)
	containers, _ := f.snapshot.Containers.Get()
	containers[0].ImageSize = model.Known[int64](1020)
	f.expectMinimum(t, ImagePruneAll, 0)
	containers[0].ImageSize = model.Known[int64](300)
	f.expectMinimum(t, ImagePruneAll, 710)
	containers[0].ImageSize = model.Optional[int64]{}
	f.expectBetween(t, ImagePruneAll, 0, 1010)
	f.image("a", "", tag("a:1"), "1")
	images, _ := f.snapshot.Images.Get()
	f.snapshot.Images = model.Known(images[1:])
	f.expectBetween(t, ImagePruneAll, 0, 1) // the container may hold the only byte
	f.snapshot.Images = model.Known([]model.Image{})
	f.expectExact(t, ImagePruneAll, 0)
}

// What a volume prune frees is unknown without the list of volumes, and without that of
// containers, which may use any volume.
func TestVolumePruneOfUnknownLists(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.volume("v", true, true, 20)
	f.expectExact(t, VolumePrune, 20)
	f.snapshot.Containers = model.Optional[[]model.Container]{}
	f.expectUnknown(t, VolumePrune)
	f.snapshot.Containers, f.snapshot.Volumes = model.Known([]model.Container{}), model.Optional[[]model.Volume]{}
	f.expectUnknown(t, VolumePrune)
}

// A volume that a container may have written to since it was measured is not counted.
func TestStaleVolumeSize(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.volume("a", true, true, 20)
	f.volume("b", true, true, 3)
	volumes, _ := f.snapshot.Volumes.Get()
	volumes[0].SizeStale = true
	f.expectMinimum(t, VolumePrune, 3)
	f.expectBetween(t, VolumePrune, 3, 23)
	volumes[1].SizeStale = true
	f.expectBetween(t, VolumePrune, 0, 23)
	volumes[0].Size, volumes[1].Size = model.Optional[int64]{}, model.Optional[int64]{}
	f.expectUnknown(t, VolumePrune)
	volumes[0].Size, volumes[1].Size = model.Known[int64](20), model.Known[int64](3)
	if got := Summarize(f.snapshot, 0).DiskUsage[model.Volumes]; got != 23 {
		t.Errorf("volumes take %d bytes, want 23 as they were measured", got)
	}
}

// Figures of images are absent until all images are inspected.
func TestPendingImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000")
	f.image("b", "", tag("b:1"), "1000", "20")
	delete(f.contents, "b")
	f.volume("v", true, true, 5)
	f.expectUnknown(t, ImagePruneAll)
	f.expectExact(t, VolumePrune, 5)
	a := Summarize(f.snapshot, 0)
	if uninspected, known := a.Counts.Images.Uninspected.Get(); !known || uninspected != 1 {
		t.Errorf("%d images are uninspected, known: %v; want 1", uninspected, known)
	}
	if _, known := a.Counts.Images.Layers.Get(); known {
		t.Error("the number of layers is known")
	}
	if _, known := a.DiskUsage[model.Images]; known {
		t.Error("the usage of images is known")
	}
}

// An image of several platforms has layers that are not inspected.
func TestSeveralPlatforms(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("dangling", "", nil, "1000", "20")
	f.image("kept", "", tag("kept:1"), "7")
	f.expectMinimum(t, ImagePrune, 1020) // the sizes of blobs are unknown
	images, _ := f.snapshot.Images.Get()
	images[1].Sizes, images[1].Size = &model.StoreSizes{SeveralPlatforms: true}, model.Known[int64](600)
	f.expectMinimum(t, ImagePrune, 420)
}
