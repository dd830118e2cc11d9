package inventory

import (
	"maps"
	"slices"
	"strings"
)

// removable are the records that a builder prune removes. It goes from the youngest
// down: a record stays as long as one stays that was made from it. By default it
// leaves what images share, and what BuildKit keeps for itself.
func removable(cache []CacheRecord, s scope) map[string]bool {
	children := make(map[string]int)
	for _, record := range cache {
		for _, parent := range record.Parents {
			children[parent]++
		}
	}
	goes := make(map[string]bool)
	for again := s != nothing; again; {
		again = false
		for _, record := range cache {
			isOwn := record.Type == "internal" || record.Type == "frontend"
			if goes[record.ID] || record.InUse || children[record.ID] > 0 || s == some && (record.Shared || isOwn) {
				continue
			}
			goes[record.ID], again = true, true
			for _, parent := range record.Parents {
				children[parent]--
			}
		}
	}
	return goes
}

// surviving are the records that are left when images are gone, and then a builder
// prune was: it takes what it would else have left to the images.
func surviving(cache []CacheRecord, s scope) []CacheRecord {
	if s == nothing {
		return cache
	}
	goes := removable(unshared(cache), s)
	var left []CacheRecord
	for _, record := range cache {
		if !goes[record.ID] {
			left = append(left, record)
		}
	}
	return left
}

func unshared(cache []CacheRecord) []CacheRecord {
	var records []CacheRecord
	for _, record := range cache {
		record.Shared = false
		records = append(records, record)
	}
	return records
}

// cacheFreed is what a builder prune frees: the records that no image shares. What
// becomes of shared ones belongs to the images.
func (h *host) cacheFreed(c cleanup) Optional[Reclaimable] {
	cache, known := h.cache.Get()
	if !known {
		return Optional[Reclaimable]{}
	}
	goes := removable(cache, c.cache)
	freed := Reclaimable{Exact: true}
	for _, record := range cache {
		switch {
		case !goes[record.ID]:
		case h.store == Containerd:
			freed = freed.plus(record.unpacked())
		case !record.Shared:
			freed = freed.plusOptional(record.Size)
			freed.Exact = freed.Exact && !record.Uncounted
		}
	}
	if c.images != nothing {
		// Where the image goes that shares a record, so may the records under that.
		mayGo := removable(unshared(cache), c.cache)
		for _, record := range cache {
			freed.Exact = freed.Exact && (record.Shared || goes[record.ID] || !mayGo[record.ID])
		}
	}
	return Known(freed)
}

// A blob is compressed, or at least no larger than the blocks that its files take,
// but for what an archive adds to a file.
const archiveOverhead = 2048

// unpacked is what a record of the containerd store has unpacked for itself, at least.
// Its size counts a blob, too, which other records and images may have as well. What
// it took from an image is not unpacked once more.
func (r CacheRecord) unpacked() Reclaimable {
	size, known := r.Size.Get()
	switch {
	case r.hasNoBlob():
		return Reclaimable{size, known}
	case r.Uncounted:
		return Reclaimable{}
	default:
		return Reclaimable{Bytes: max(0, size-archiveOverhead) / 2}
	}
}

// blob is what the blob of a record of the containerd store weighs at most.
func (r CacheRecord) blob() (atMost Optional[int64]) {
	size, known := r.Size.Get()
	switch {
	case r.hasNoBlob():
		return Known[int64](0)
	case !known:
		return Optional[int64]{}
	case r.Uncounted:
		return Known(size)
	default:
		return Known((size + archiveOverhead) / 2)
	}
}

// hasNoBlob tells whether a record is a source of builds, such as their context, which
// is no layer of an image.
func (r CacheRecord) hasNoBlob() bool { return strings.HasPrefix(r.Type, "source.") }

// withoutBlobs takes off the blobs that the build cache goes on to hold: any record can
// have the blob of any image's layer.
func withoutBlobs(freed Reclaimable, surviving []CacheRecord) Reclaimable {
	for _, record := range surviving {
		atMost, known := record.blob().Get()
		if !known {
			return Reclaimable{}
		}
		freed = freed.without(atMost)
	}
	return freed
}

// withoutCached takes off what the build cache goes on to hold of layers that nothing
// else has any more, or what counts as its own. A record is of one layer, and those
// it was made from are of the layers under that; it does not say which layer it is,
// but has its size.
func (h *host) withoutCached(freed Reclaimable, going []bool, cache, surviving []CacheRecord) Reclaimable {
	survives := make(map[string]bool, len(surviving))
	for _, record := range surviving {
		survives[record.ID] = true
	}
	var atLeast, largest, all int64
	counted := make(map[int32]bool)
	for _, record := range cache {
		switch {
		case record.Shared && !survives[record.ID]:
			continue // it goes with the images
		case h.store == Containerd && !record.Uncounted:
			continue // it has unpacked one for itself
		}
		var most int64
		for _, at := range h.candidates[record.ID] {
			if !going[at] {
				continue
			}
			size, _ := h.layers.layers[at].size.Get()
			most = max(most, size)
			if !counted[at] {
				counted[at] = true
				all += size
			}
			if record.Shared && len(h.candidates[record.ID]) == 1 {
				atLeast += size
			}
		}
		largest += most
	}
	atMost := min(largest, all)
	freed.Bytes = max(0, freed.Bytes-atMost)
	freed.Exact = freed.Exact && atLeast == atMost
	return freed
}

// match finds the layers that each record can be of, by the record's ID. One that an
// image shares is of an image's layer; any other can be of one that only containers
// have, or of none.
func (h *host) match(cache []CacheRecord) map[string][]int32 {
	isListed, _ := h.layers.mark(h.images)
	onTop := make(map[int32][]int32) // of each layer
	for i, layer := range h.layers.layers {
		onTop[layer.under] = append(onTop[layer.under], int32(i))
	}
	const root, anywhere = "", "?" // no parent; several, or one that is not there
	children := make(map[string][]CacheRecord)
	isRecord := make(map[string]bool, len(cache))
	for _, record := range cache {
		isRecord[record.ID] = true
	}
	for _, record := range cache {
		parent := anywhere
		switch {
		case len(record.Parents) == 0:
			parent = root
		case len(record.Parents) == 1 && isRecord[record.Parents[0]]:
			parent = record.Parents[0]
		}
		children[parent] = append(children[parent], record)
	}
	found := make(map[string][]int32)
	var descend func(parent string, under []int32)
	descend = func(parent string, under []int32) {
		for _, record := range children[parent] {
			if _, again := found[record.ID]; again {
				continue
			}
			found[record.ID] = nil
			size, sizeKnown := record.Size.Get()
			for _, below := range under {
				for _, at := range onTop[below] {
					layerSize, known := h.layers.layers[at].size.Get()
					fits := !known || !sizeKnown || record.Uncounted || size == layerSize || h.store == Containerd
					if fits && (isListed[at] == record.Shared) {
						found[record.ID] = append(found[record.ID], at)
					}
				}
			}
			descend(record.ID, found[record.ID])
			if record.Shared {
				found[record.ID] = h.narrow(found, record, children[record.ID])
			}
		}
	}
	descend(root, []int32{bottom})
	descend(anywhere, slices.Collect(maps.Keys(onTop)))
	return found
}

// narrow leaves those candidates of a record on which lies a candidate of each shared
// record that was made from it.
func (h *host) narrow(found map[string][]int32, record CacheRecord, children []CacheRecord) (left []int32) {
	for _, at := range found[record.ID] {
		fits := true
		for _, child := range children {
			if !child.Shared {
				continue
			}
			lies := false
			for _, on := range found[child.ID] {
				lies = lies || h.layers.layers[on].under == at
			}
			fits = fits && lies
		}
		if fits {
			left = append(left, at)
		}
	}
	return left
}
