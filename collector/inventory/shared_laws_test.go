package inventory

import (
	"fmt"
	"slices"
	"testing"
)

// FuzzShared holds what commands free beside a build cache that has layers of images
// to what is true of every host. Its oracle knows which layer each record is of, which
// the figures must find out: none may be too high, and none that is said to be exact
// may be wrong.
func FuzzShared(f *testing.F) {
	f.Add([]byte("any bytes are the recipe of a host"))
	f.Add([]byte{3, 1, 0, 2, 5, 9, 1, 4, 0, 7, 7, 2, 1, 0, 3, 8, 6, 2, 4, 1, 1, 5, 0, 9, 250, 13, 4, 77, 1, 9})
	f.Fuzz(func(t *testing.T, raw []byte) {
		host, layerOf := arbitraryCachedHost(raw)
		frees := Reclaim(host)
		for command, c := range cleanups("1.51") {
			got, known := frees[command]
			if !known {
				t.Errorf("%s: nothing is known", command)
			}
			want := cachedTotal(host, layerOf) - cachedTotal(simulateCached(host, layerOf, c), layerOf)
			if got.Bytes > want || got.Exact && got.Bytes != want {
				t.Errorf("%s frees %+v, the simulated prune %d", command, got, want)
			}
		}
	})
}

// arbitraryCachedHost is an arbitrary host whose records of the cache are of layers.
func arbitraryCachedHost(raw []byte) (host Inventory, layerOf map[string]int32) {
	host, layerOf = arbitraryHost(raw), make(map[string]int32)
	layers := host.Layers.layers
	recordOf := make(map[int32]string)
	var cache []CacheRecord
	for i := range layers {
		at := 0
		if len(raw) > 0 {
			at = int(raw[(7*i+3)%len(raw)]) ^ i
		}
		under := layers[i].under
		parent, there := recordOf[under]
		if at%3 == 0 || !there && under != bottom { // a record keeps those it was made from
			continue
		}
		record := CacheRecord{ID: fmt.Sprint("record ", i), Type: "regular", Size: layers[i].size, InUse: at%11 == 0, Uncounted: at%7 == 0}
		layerOf[record.ID] = int32(i)
		recordOf[int32(i)] = record.ID
		if there {
			record.Parents = []string{parent}
		}
		if there && at%5 == 0 { // a merge of several, as COPY --link makes one
			record.Parents = []string{parent, "another"}
		}
		if record.Uncounted {
			record.Size = Known[int64](0)
		}
		cache = append(cache, record)
	}
	host.Cache = Known(share(host, layerOf, cache))
	return host, layerOf
}

// share says of each record whether an image has its layer.
func share(host Inventory, layerOf map[string]int32, cache []CacheRecord) []CacheRecord {
	images, _ := host.Images.Get()
	isListed, _ := host.Layers.mark(images)
	shared := slices.Clone(cache)
	for i, record := range shared {
		shared[i].Shared = isListed[layerOf[record.ID]]
	}
	return shared
}

// simulateCached removes the images, and then what the builder prune finds.
func simulateCached(host Inventory, layerOf map[string]int32, c cleanup) Inventory {
	cache, _ := host.Cache.Get()
	left := simulate(host, cleanup{c.containers, c.volumes, c.images, nothing})
	records := share(left, layerOf, cache)
	goes := removable(records, c.cache)
	left.Cache = Known(slices.DeleteFunc(records, func(record CacheRecord) bool { return goes[record.ID] }))
	return left
}

// cachedTotal is what a host holds, each layer once, whoever has it.
func cachedTotal(host Inventory, layerOf map[string]int32) int64 {
	cache, _ := host.Cache.Get()
	images, _ := host.Images.Get()
	containers, _ := host.Containers.Get()
	marks, _ := host.Layers.mark(images)
	for _, container := range containers {
		if top, looked := host.Layers.top(container.ImageID); looked {
			host.Layers.markDown(marks, top)
		}
	}
	withImages := host.Layers.sum(marks).Bytes
	for _, record := range cache {
		host.Layers.markDown(marks, layerOf[record.ID]) // a layer lies on others
	}
	withCache := host.Layers.sum(marks).Bytes
	host.Cache = Known([]CacheRecord{})
	return total(host) + withCache - withImages
}
