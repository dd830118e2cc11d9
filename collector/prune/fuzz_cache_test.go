package prune

import (
	"fmt"
	"slices"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// FuzzShared holds what commands free beside a build cache that has layers of images
// to what is true of every host. Its oracle knows which layer each record is of, which
// the figures must find out: none may be too high, and none that is said to be exact
// may be wrong.
func FuzzShared(f *testing.F) {
	f.Add([]byte("any bytes are the recipe of a host"))
	f.Add([]byte{3, 1, 0, 2, 5, 9, 1, 4, 0, 7, 7, 2, 1, 0, 3, 8, 6, 2, 4, 1, 1, 5, 0, 9, 250, 13, 4, 77, 1, 9})
	f.Fuzz(func(t *testing.T, raw []byte) {
		host := arbitraryCachedHost(raw)
		frees := reclaimable(host.Snapshot)
		for _, spec := range specs("1.51") {
			command := spec.command
			got, known := frees[command]
			if !known {
				t.Errorf("%s: nothing is known", command)
			}
			want := host.total() - host.after(spec).total()
			if got.Bytes > want || got.Exact && got.Bytes != want {
				t.Errorf("%s frees %+v, the simulated prune %d", command, got, want)
			}
		}
	})
}

// A cachedHost is one of which is known what its engine does not tell.
type cachedHost struct {
	model.Snapshot
	contents map[string]model.Content // with the true histories
	layers   *layerTree               // of these
	layerOf  map[string]int32         // of each record of the cache
	imageOf  map[string]string        // that each container mounts by a name, which may have moved on
}

// arbitraryCachedHost is an arbitrary host whose records of the cache are of layers.
func arbitraryCachedHost(raw []byte) cachedHost {
	host := cachedHost{Snapshot: arbitraryHost(raw), layerOf: make(map[string]int32), imageOf: make(map[string]string)}
	host.contents, host.layers = host.Contents, layersOf(host.Snapshot)
	contents := arbitraryContents(raw)
	for i := range 10 { // steps of which nothing tells that they made no layer
		if id := fmt.Sprint("image ", i); len(raw) > 0 && raw[(3*i+1)%len(raw)]%4 == 0 {
			content := contents[id]
			content.History = slices.Insert(content.History, int(raw[0])%(len(content.History)+1), model.Step{})
			contents[id] = content
		}
	}
	host.Contents = contents
	containers, _ := host.Containers.Get()
	for i := range containers {
		if at := int(raw[i%len(raw)]); at%3 == 0 {
			containers[i].MountedImages = []string{fmt.Sprint("tag ", at%10)}
			host.imageOf[containers[i].ID] = fmt.Sprint("image ", at/3%10)
		}
	}
	layers := host.layers.layers
	recordOf := make(map[int32]string)
	var cache []model.CacheRecord
	for i := range layers {
		at := 0
		if len(raw) > 0 {
			at = int(raw[(7*i+3)%len(raw)]) ^ i
		}
		under := layers[i].parent
		parent, there := recordOf[under]
		if at%3 == 0 || !there && under != noLayer { // a record keeps those it was made from
			continue
		}
		record := model.CacheRecord{ID: fmt.Sprint("record ", i), Type: "regular", Size: layers[i].size, InUse: at%11 == 0, ExcludesSnapshot: at%7 == 0}
		host.layerOf[record.ID] = int32(i)
		recordOf[int32(i)] = record.ID
		if there {
			record.Parents = []string{parent}
		}
		if there && at%5 == 0 { // a merge of several, as COPY --link makes one
			record.Parents = []string{parent, "another"}
		}
		if record.ExcludesSnapshot {
			record.Size = model.Known[int64](0)
		}
		cache = append(cache, record)
		if at%13 == 0 { // made anew, as without the cache
			record.ID = fmt.Sprint("twin ", i)
			host.layerOf[record.ID] = int32(i)
			record.ExcludesSnapshot, record.Size = false, layers[i].size
			cache = append(cache, record)
			if at%2 == 0 { // what comes next is made from it
				recordOf[int32(i)] = record.ID
			}
		}
	}
	host.BuildCache = model.Known(host.share(cache))
	return host
}

// share says of each record whether an image has its layer.
func (h cachedHost) share(cache []model.CacheRecord) []model.CacheRecord {
	images, _ := h.Images.Get()
	isListed := layersOf(h.Snapshot).mark(images)
	shared := slices.Clone(cache)
	for i, record := range shared {
		shared[i].Shared = isListed[h.layerOf[record.ID]]
	}
	return shared
}

// after removes the images, and then what the builder prune finds.
func (h cachedHost) after(spec pruneSpec) cachedHost {
	cache, _ := h.BuildCache.Get()
	h.Snapshot = simulate(h.Snapshot, pruneSpec{containers: spec.containers, volumes: spec.volumes, images: spec.images})
	records := h.share(cache)
	goes := removedRecords(records, spec.cache)
	h.BuildCache = model.Known(slices.DeleteFunc(records, func(record model.CacheRecord) bool { return goes[record.ID] }))
	return h
}

// total is what a host holds, each layer once, whoever has it.
func (h cachedHost) total() int64 {
	h.Contents = h.contents
	cache, _ := h.BuildCache.Get()
	images, _ := h.Images.Get()
	containers, _ := h.Containers.Get()
	marks := h.layers.mark(images)
	markAll := func(imageID string) {
		if top, inspected := h.layers.topLayer(imageID); inspected {
			h.layers.markAncestors(marks, top)
		}
	}
	for _, container := range containers {
		markAll(container.ImageID)
	}
	ofImages := h.layers.sum(marks).Bytes
	for _, container := range containers {
		markAll(h.imageOf[container.ID])
	}
	for _, record := range cache {
		h.layers.markAncestors(marks, h.layerOf[record.ID]) // a layer lies on others
	}
	ofAll := h.layers.sum(marks).Bytes
	h.BuildCache = model.Known([]model.CacheRecord{})
	return total(h.Snapshot) + ofAll - ofImages
}
