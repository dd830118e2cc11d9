package prune

import (
	"fmt"
	"runtime"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// Records of one size on layers of the same sizes may be of one layer: it counts once, and
// not at all if one of the records is kept.
func TestRecordsOfOneLayer(t *testing.T) {
	for _, test := range []struct {
		records []model.CacheRecord
		want    want
	}{
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](20)}}, want{20, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](20), InUse: true}}, want{0, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](3)}, {ID: "on b", Parents: tag("b"), Size: model.Known[int64](20)}}, want{23, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "on a", Parents: tag("a"), Size: model.Known[int64](3)}, {ID: "b", Size: model.Known[int64](20)}, {ID: "on b", Parents: tag("b"), Size: model.Known[int64](3)}}, want{23, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "merged", Parents: tag("b", "c"), Size: model.Known[int64](1), InUse: true}}, want{20, true}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "merged", Parents: tag("b", "c"), Size: model.Known[int64](20), InUse: true}}, want{0, false}},
		// A layer without files takes no bytes, however many records have it.
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](0)}, {ID: "b", Size: model.Known[int64](0)}, {ID: "c", Size: model.Known[int64](20)}}, want{20, true}},
		// The chain below a merge is unknown.
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "merged", Parents: tag("a", "gone"), Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](3)}}, want{23, false}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](7)}, {ID: "merged", Parents: tag("a", "gone"), Size: model.Known[int64](20)}}, want{27, true}},
		// A repository that builds clone is no layer. Its size may have changed since it was measured.
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "b", Size: model.Known[int64](3)}, {ID: "kept", Rewritten: true, InUse: true, Size: model.Known[int64](7)}}, want{23, true}},
		{[]model.CacheRecord{{ID: "a", Size: model.Known[int64](20)}, {ID: "b", Rewritten: true, Size: model.Known[int64](7)}}, want{20, false}},
		// Records that are made from each other are on unknown chains.
		{[]model.CacheRecord{{ID: "a", Parents: tag("b"), InUse: true, Size: model.Known[int64](20)}, {ID: "b", Parents: tag("a"), InUse: true, Size: model.Known[int64](20)}, {ID: "c", Size: model.Known[int64](3)}}, want{3, true}},
		// Build contexts are not layers.
		{[]model.CacheRecord{{ID: "a", Type: "source.local", Size: model.Known[int64](20)}, {ID: "b", Type: "source.local", Size: model.Known[int64](20)}}, want{40, true}},
		{[]model.CacheRecord{{ID: "a", Type: "source.local", Size: model.Known[int64](20), Rewritten: true}, {ID: "b", Type: "exec.cachemount", Size: model.Known[int64](20)}}, want{20, false}},
	} {
		f := newFixture(model.GraphDriver, "1.51")
		for _, record := range test.records {
			f.record(record)
		}
		if got := f.reclaim()[BuilderPrune]; got.Minimum != test.want.minimum || got.Exact != test.want.exact {
			t.Errorf("%+v: %+v, want %+v", test.records, got, test.want)
		}
	}

	f := newFixture(model.Containerd, "1.51") // each record has a snapshot of its own
	for _, id := range []string{"a", "b"} {
		f.record(model.CacheRecord{ID: id, Type: "source.local", Size: model.Known[int64](20), Rewritten: true})
	}
	f.expectExact(t, BuilderPrune, 40)
}

// An image prune does not free a layer that the build cache also holds. The builder prune
// after it does.
func TestLayerSharedWithBuildCache(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000", "20a", "3a")
	f.image("b", "", tag("b:1"), "1000", "20b")
	f.record(model.CacheRecord{ID: "base", Shared: true, Size: model.Known[int64](1000)})
	f.record(model.CacheRecord{ID: "a", Parents: tag("base"), Shared: true, Size: model.Known[int64](20)})
	f.record(model.CacheRecord{ID: "a's child", Parents: tag("a"), Shared: true, Size: model.Known[int64](3)})
	f.expectExact(t, ImagePruneAll, 20) // the child determines which of the two layers of 20 bytes it is
	f.expectExact(t, SystemPruneAll, 1043)

	f = newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000", "20a")
	f.image("b", "", tag("b:1"), "1000", "20b")
	f.container("b", model.Running, 0)
	f.record(model.CacheRecord{ID: "base", Shared: true, Size: model.Known[int64](1000)})
	f.record(model.CacheRecord{ID: "one of them", Parents: tag("base"), Shared: true, Size: model.Known[int64](20)})
	f.expectMinimum(t, ImagePruneAll, 0)

	f.snapshot.BuildCache = model.Optional[[]model.CacheRecord]{}
	f.expectUnknown(t, ImagePruneAll) // the build cache may hold all layers
}

// A shared record whose size is that of no layer may hold any layer.
func TestRecordThatFitsNoLayer(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000", "20")
	f.record(model.CacheRecord{ID: "strange", Shared: true, Size: model.Known[int64](7)})
	f.expectMinimum(t, ImagePruneAll, 0)
	f.expectExact(t, SystemPruneAll, 1020)
}

// A system prune removes the records of the images that it removes.
func TestRecordOfRemovedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("dangling", "", nil, "1000", "20")
	f.image("kept", "", tag("kept:1"), "7")
	f.record(model.CacheRecord{ID: "base", Shared: true, Size: model.Known[int64](1000)})
	f.record(model.CacheRecord{ID: "of kept", Shared: true, Size: model.Known[int64](7)})
	f.expectExact(t, ImagePrune, 20)
	f.expectBetween(t, SystemPrune, 20, 1020) // for the minimum, records that images share remain
}

// A record remains if an image that shares it remains.
func TestRecordOfRemainingImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("dangling", "", nil, "1000", "20")
	f.image("kept", "", tag("kept:1"), "7", "20")
	f.record(model.CacheRecord{ID: "linked", Parents: tag("gone"), Shared: true, Size: model.Known[int64](20)})
	f.expectMinimum(t, SystemPrune, 0) // the record may be of either layer of 20 bytes
	f.expectExact(t, SystemPruneAll, 1047)
}

// A container holds the layers of its image after the image was removed by force, and with
// them the layers of build cache records.
func TestBuilderPruneWithForceRemovedImage(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.contents["removed"] = model.Content{DiffIDs: tag("1000", "20"), History: []model.Step{{Size: 1000}, {Size: 20}}}
	f.container("removed", model.Running, 0)
	f.record(model.CacheRecord{ID: "base", Size: model.Known[int64](1000)})
	f.record(model.CacheRecord{ID: "other", Size: model.Known[int64](3)})
	f.record(model.CacheRecord{ID: "context", Type: "source.local", Size: model.Known[int64](500)})
	f.expectMinimum(t, BuilderPrune, 503)

	delete(f.contents, "removed") // it was removed before it was inspected
	containers, _ := f.snapshot.Containers.Get()
	containers[0].ImageSize = model.Known[int64](1020)
	f.expectMinimum(t, BuilderPrune, 500)
	containers[0].ImageSize = model.Optional[int64]{}
	f.expectBetween(t, BuilderPrune, 500, 1503)
	f.snapshot.BuildCache = model.Known([]model.CacheRecord{{ID: "context", Type: "source.local", Size: model.Known[int64](500)}})
	f.expectExact(t, BuilderPrune, 500) // the container holds no build context
	f.record(model.CacheRecord{ID: "smallest", Size: model.Known[int64](1)})
	f.expectBetween(t, BuilderPrune, 500, 501)
}

// Which layers images share is not certain after an image was added, until the build cache is
// listed again.
func TestStaleBuildCache(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000", "20")
	f.record(model.CacheRecord{ID: "own", Size: model.Known[int64](7)})
	f.snapshot.BuildCacheStale = true
	f.expectBetween(t, ImagePruneAll, 0, 1020)
	f.expectBetween(t, BuilderPrune, 0, 7)
	f.expectBetween(t, SystemPruneAll, 0, 1027)
	f.expectExact(t, ImagePrune, 0)
}

// A record that is its own parent does not stop the estimate.
func TestRecordThatIsItsOwnParent(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "10", "10b", "7")
	f.record(model.CacheRecord{ID: "own parent", Parents: tag("own parent"), Shared: true, Size: model.Known[int64](10)})
	f.record(model.CacheRecord{ID: "a", Parents: tag("b"), Size: model.Known[int64](10)})
	f.record(model.CacheRecord{ID: "b", Parents: tag("a"), Size: model.Known[int64](10)})
	f.expectMinimum(t, ImagePruneAll, 0)
}

// A container prune frees the layers of an image that was removed by force, whatever blobs
// the build cache has.
func TestContainerPruneWithUnknownBlobs(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.contents["removed"] = model.Content{DiffIDs: tag("20"), History: []model.Step{{Size: 20}}}
	f.container("removed", model.Exited, 5)
	f.record(model.CacheRecord{ID: "own"})
	f.expectBetween(t, ContainerPrune, 5, 25)
}

// A record of the containerd store that was taken from an image holds the unpacked layers of an
// image: most likely of one of its size, for the minimum of any.
func TestRecordTakenFromImage(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("base", "", tag("base:1"), "1000", "20")
	f.image("other", "", tag("other:1"), "300")
	f.record(model.CacheRecord{ID: "top of base", Parents: tag("gone"), ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](5)})
	f.expectMinimum(t, ImagePruneAll, 0)
	f.expectMinimum(t, SystemPruneAll, 1320)

	f = newFixture(model.Containerd, "1.51")
	f.image("small", "", nil, "1000")
	f.image("large", "", tag("large:1"), "9000")
	f.record(model.CacheRecord{ID: "taken", ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](3048)})
	f.expectMinimum(t, ImagePrune, 0) // it may be of either
	f.snapshot.BuildCache = model.Known([]model.CacheRecord{{ID: "taken", ExcludesSnapshot: true, Shared: true, Size: model.Known[int64](30_000)}})
	f.expectBetween(t, ImagePrune, 0, 1000) // of neither
}

// The memory that an estimate needs stays in proportion to the number of records.
func TestManyRecords(t *testing.T) {
	for _, store := range []model.ImageStore{model.GraphDriver, model.Containerd} {
		f := newFixture(store, "1.51")
		for i := range 1000 {
			f.image(fmt.Sprint("image ", i), "", nil, "0", fmt.Sprint("0a", i), fmt.Sprint("0b", i))
		}
		for i := range 5000 {
			r := model.CacheRecord{ID: fmt.Sprint("record ", i), Shared: i%2 == 0, ExcludesSnapshot: true}
			switch i % 4 {
			case 0, 3: // may be of any layer, like many others
				r.Parents = tag("gone")
			case 1:
				r.Parents = tag(fmt.Sprint("record ", max(0, i-4)))
			}
			f.record(r)
		}
		f.snapshot.Contents, f.snapshot.ListedImages = f.contents, nil
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		reclaimable(f.snapshot)
		runtime.ReadMemStats(&after)
		if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 50 {
			t.Errorf("%s: %d MiB allocated", store, allocated)
		}
	}
}
