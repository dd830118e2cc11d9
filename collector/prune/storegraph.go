package prune

import "docker_buildup_exporter/collector/model"

// newStoreGraph returns the graph of the containerd store. Beside the unpacked layers it keeps
// the blobs that they were unpacked from: a compressed copy of each diff, and the manifest and
// configuration of each image. A record of the build cache has an unpacked layer of its own,
// unless it was taken from an image, and may have a blob.
func newStoreGraph(h *host, list []model.Image) *graph {
	g := newObjectGraph(h)
	records := recordBlobs(h)
	known := make(map[int32]int64)
	for i, blob := range records {
		if blob > 0 {
			known[h.tree.layers[h.matches.likely[i]].diff] = blob
		}
	}
	b := newBlobs(h.tree, list, known)
	diffs := int32(len(g.pieces)) // piece of the first diff's blob
	for diff := range h.tree.diffs {
		g.add(piece{parent: none, likely: b.sizes[diff], isShared: true, isOpen: b.classOf[diff] == none})
	}
	classes := int32(len(g.pieces)) // what is certain of the blobs that the same images have
	for _, class := range b.classes {
		g.add(piece{parent: none, certain: class.certain, isShared: true})
	}
	hold := func(holder *holder, diff int32) {
		holder.pieces = append(holder.pieces, diffs+diff)
		if class := b.classOf[diff]; class != none {
			holder.pieces = append(holder.pieces, classes+class)
		}
	}
	for i := range h.images {
		holder := &g.holders[i]
		for at := h.tops[i]; at != none; at = h.tree.layers[at].parent {
			hold(holder, h.tree.layers[at].diff)
		}
		holder.pieces = append(holder.pieces, g.add(b.metadata(h.images[i])))
		if class, listed := b.own[h.images[i].ID]; listed {
			holder.pieces = append(holder.pieces, classes+class)
		}
	}
	for i, record := range h.cache {
		holder := &g.holders[h.recordHolder(i)]
		h.addStoreRecord(g, holder, i, records[i])
		if records[i] > 0 {
			hold(holder, h.tree.layers[h.matches.likely[i]].diff)
		}
		if len(record.Parents) > 1 {
			holder.mayAny = true
		}
	}
	return g
}

// recordBlobs returns the size of the blob of each record that is most likely of a layer of an
// image: the size of the record without its own unpacked layer.
//
// Example: a record of 1400 bytes is of a layer of 1000 bytes: its blob has 400.
func recordBlobs(h *host) []int64 {
	blobs := make([]int64, len(h.cache))
	for i, record := range h.cache {
		size, _ := record.Size.Get()
		switch at := h.matches.likely[i]; {
		case at == none:
		case record.ExcludesSnapshot:
			blobs[i] = size
		default:
			blobs[i] = size - h.tree.layers[at].size
		}
	}
	return blobs
}

// addStoreRecord adds a record: its own unpacked layer, or that of the image that it was taken
// from. In the minimum, its blob may be any blob of at most that size, and half of its size is
// its unpacked layer.
//
// Example: a record of 3048 bytes has at most 2548 bytes of blob, so at least 500 bytes are its
// unpacked layer.
func (h *host) addStoreRecord(g *graph, holder *holder, i int, blob int64) {
	record, found := h.cache[i], h.matches.found[i]
	size, known := record.Size.Get()
	switch {
	case isNoLayer(record):
		holder.pieces = []int32{g.addOwn(record.Size)}
	case record.ExcludesSnapshot:
		isSure := len(found) == 1 && !h.hasFailed && record.Shared
		holder.isUnsure, holder.may, holder.mayAny = !isSure, found, len(found) == 0 || !record.Shared
		holder.unknown = sizeOr(record.Size, maxUnknown)
		other := piece{parent: none, isOpen: true} // if it is of no layer that is known
		if at := h.matches.likely[i]; at != none {
			holder.pieces = append(holder.pieces, at)
		} else {
			other.likely = size
		}
		if !isSure {
			holder.pieces = append(holder.pieces, g.add(other))
		}
	default:
		holder.unknown = (size + archiveOverhead) / 2
		if !known {
			holder.unknown = maxUnknown
		}
		holder.pieces = []int32{g.add(piece{parent: none, likely: size - blob, certain: max(0, size-archiveOverhead) / 2, isOpen: true})}
	}
}

// maxUnknown is more than any disk has.
const maxUnknown = 1 << 60
