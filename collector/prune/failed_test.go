package prune

import (
	"testing"

	"docker_buildup_exporter/collector/model"
)

// fail marks the inspection of an image as failed.
func (f *fixture) fail(imageID string) {
	if f.snapshot.FailedImages == nil {
		f.snapshot.FailedImages = make(map[string]bool)
	}
	f.snapshot.FailedImages[imageID] = true
	delete(f.contents, imageID)
}

// A remaining image whose inspection failed may hold up to its size of any layers.
func TestRemainingFailedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("dangling", "", nil, "1000", "20")
	f.image("failed", "", tag("failed:1"), "300")
	f.fail("failed")
	f.container("failed", model.Exited, 5)
	f.expectMinimum(t, ImagePrune, 720)
	f.expectExact(t, ContainerPrune, 5)
	f.expectExact(t, BuilderPrune, 0)

	images, _ := f.snapshot.Images.Get()
	images[1].Size = model.Optional[int64]{}
	f.expectBetween(t, ImagePrune, 0, 1020)
	f.expectExact(t, ContainerPrune, 5)
}

// A removed image whose inspection failed frees nothing that is known.
func TestRemovedFailedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000", "20")
	f.image("failed", "", nil, "300")
	f.fail("failed")
	f.expectMinimum(t, ImagePrune, 0)
	f.expectMinimum(t, ImagePruneAll, 1020)

	images, _ := f.snapshot.Images.Get()
	images[1].Size = model.Optional[int64]{}
	f.expectMinimum(t, ImagePruneAll, 1020)
}

// A failed image has no effect on counts and sums of others.
func TestCountsWithFailedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000", "20")
	f.image("failed", "", tag("failed:1"), "1000", "300")
	f.image("pending", "", tag("pending:1"), "7")
	f.fail("failed")
	pending := f.contents["pending"]
	delete(f.contents, "pending")
	f.snapshot.Contents = f.contents
	for _, uninspected := range []int{2, 1} {
		sum := Summarize(f.snapshot, 1)
		usage, usageKnown := sum.DiskUsage[model.Images]
		if sum.Counts.Images.Uninspected != model.Known(uninspected) {
			t.Errorf("%v images are uninspected, want %d", sum.Counts.Images.Uninspected, uninspected)
		}
		if uninspected == 2 && (usageKnown || sum.Counts.Images.Layers.IsKnown() || sum.Repositories.IsKnown()) {
			t.Errorf("%v layers of %d bytes are known before all images are inspected", sum.Counts.Images.Layers, usage)
		}
		if uninspected == 1 && (usage != 1027 || sum.Counts.Images.Layers != model.Known(3) || !sum.Repositories.IsKnown()) {
			t.Errorf("%v layers of %d bytes, want 3 of 1027", sum.Counts.Images.Layers, usage)
		}
		f.contents["pending"] = pending
	}
}

// The blobs of a failed image are unknown. Those of other images in the list are, too.
func TestFailedImageOfContainerd(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("a", "", tag("a:1"), "1000")
	f.image("failed", "", tag("failed:1"), "300")
	f.fail("failed")
	images, _ := f.snapshot.Images.Get()
	for i, unpacked := range []int64{1000, 300} {
		images[i].Size, images[i].Sizes = model.Known(unpacked+50), &model.StoreSizes{SharedSize: model.Known[int64](0), Unpacked: model.Known(unpacked)}
	}
	f.snapshot.Contents = f.contents
	for _, f.snapshot.ListedImages = range [][]model.Image{images, images[:1]} {
		sum := Summarize(f.snapshot, 0)
		if got := sum.Reclaimable[ImagePruneAll]; got != (Reclaimable{1100, 1000, false}) {
			t.Errorf("%d images listed: %+v, want at least 1000", len(f.snapshot.ListedImages), got)
		}
		if got := sum.DiskUsage[model.Images]; got != 1050 {
			t.Errorf("images use %d bytes, want 1050", got)
		}
	}
}

// The containerd store may remove the name of an image while a container still holds its
// layers.
func TestContainerOfFailedImage(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("a", "", tag("a:1"), "1000")
	f.image("failed", "", tag("failed:1"), "1000", "30")
	f.fail("failed")
	f.expectMinimum(t, ImagePruneAll, 1000)
	f.container("failed", model.Running, 0) // created from a name that no image has
	f.expectMinimum(t, ImagePruneAll, 0)
}

// The build cache may hold layers of a failed image after it is removed, although a record
// seems to be of a layer of another image.
func TestCachedLayerOfFailedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000", "20")
	f.image("b", "", tag("b:1"), "500", "7b")
	f.image("failed", "", tag("failed:1"), "1000", "7f")
	f.fail("failed")
	f.record(model.CacheRecord{ID: "7f", Parents: tag("gone"), Shared: true, InUse: true, Size: model.Known[int64](7)})
	f.expectBetween(t, ImagePruneAll, 0, 1020) // the record most likely holds 507 of b, but may hold 1007 of the failed image
}

// A shared record may be of a layer of a failed image and of a container. A record made from
// it may then be of a layer of the container.
func TestHeldRecordOnLayerOfFailedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("failed", "", tag("failed:1"), "1000", "7")
	f.fail("failed")
	f.contents["removed"] = model.Content{DiffIDs: tag("1000", "20"), History: []model.Step{{Size: 1000}, {Size: 20}}}
	f.container("removed", model.Running, 0)
	f.record(model.CacheRecord{ID: "1000", Shared: true, Size: model.Known[int64](1000)})
	f.record(model.CacheRecord{ID: "20", Parents: tag("1000"), Size: model.Known[int64](20)})
	f.expectMinimum(t, BuilderPrune, 0)
}

// The size of a record that was taken from an image is unknown, because the image may be
// the failed one. Both records of 50 bytes may be of one layer.
func TestChainOnLayerOfFailedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000")
	f.image("failed", "", tag("failed:1"), "30")
	f.fail("failed")
	f.record(model.CacheRecord{ID: "taken", Shared: true, ExcludesSnapshot: true, Size: model.Known[int64](0)})
	f.record(model.CacheRecord{ID: "on taken", Parents: tag("taken"), Size: model.Known[int64](50)})
	f.record(model.CacheRecord{ID: "twin", Shared: true, Size: model.Known[int64](30)})
	f.record(model.CacheRecord{ID: "on twin", Parents: tag("twin"), Size: model.Known[int64](50)})
	f.expectBetween(t, BuilderPrune, 20, 100) // the failed image may hold 30 of them
}

// Containers whose size request failed are left out of sums.
func TestFailedContainer(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.container("gone", model.Exited, 5)
	f.container("gone", model.Exited, 70)
	f.contents["gone"] = model.Content{}
	containers, _ := f.snapshot.Containers.Get()
	containers[1].Failed = true
	f.expectExact(t, ContainerPrune, 75) // another request failed
	containers[1].Size = model.Optional[int64]{}
	f.expectMinimum(t, ContainerPrune, 5)
	f.expectMinimum(t, SystemPrune, 5)
	if got, known := Summarize(f.snapshot, 0).DiskUsage[model.Containers]; got != 5 {
		t.Errorf("containers use %d bytes, known: %v; want 5", got, known)
	}
	containers[0] = containers[1]
	f.expectMinimum(t, ContainerPrune, 0)
	containers[1].Failed = false
	f.expectUnknown(t, ContainerPrune)
	if got, known := Summarize(f.snapshot, 0).DiskUsage[model.Containers]; known {
		t.Errorf("containers use %d bytes, want unknown", got)
	}
}

// A container protects its image and at most one name, if the request for the reference
// that it was created from failed.
func TestUnknownReference(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("used", "", tag("used:1"), "100")
	f.image("a", "", tag("a:1"), "60")
	f.image("b", "", tag("b:1"), "7")
	f.image("dangling", "", nil, "3000")
	f.container("used", model.Running, 0)
	f.expectMinimum(t, ImagePruneAll, 3067)
	containers, _ := f.snapshot.Containers.Get()
	containers[0].CreatedFrom = model.Optional[model.Reference]{}
	for _, containers[0].Failed = range []bool{false, true} {
		f.expectBetween(t, ImagePruneAll, 3000, 3067)
	}
	f.expectMinimum(t, ImagePrune, 3000)
	containers[0].State = model.Exited
	f.expectMinimum(t, SystemPruneAll, 3167)
}
