package prune

import (
	"slices"

	"docker_buildup_exporter/collector/model"
)

// newStoreGraph returns the graph of the containerd store. Beside the unpacked layers it keeps
// the blobs that they were unpacked from: a compressed copy of each diff, and the manifest and
// configuration of each image. A record of the build cache has an unpacked layer of its own,
// unless it was taken from an image, and may have a blob.
func newStoreGraph(h *host, list []model.Image) *graph {
	s := &storeGraph{host: h, graph: newObjectGraph(h), sizes: make([]int64, len(h.tree.sizeOf)), layerUsers: make([]int, len(h.tree.layers)),
		diffUsers: make([]int, len(h.tree.sizeOf)), ownOf: slices.Repeat([]int32{none}, len(h.tree.sizeOf))}
	for i := range h.cache {
		if at, blob := s.blobOf(i); blob > 0 {
			s.sizes[h.tree.layers[at].diff] = blob
		}
	}
	s.firstBlob = int32(len(s.graph.pieces))
	for range len(h.tree.sizeOf) {
		s.graph.add(piece{parent: none, kind: imageLayer})
	}
	own := s.sizeBlobs(hasSameIDs(h.images, list))
	for i := range h.images {
		holder := &s.graph.holders[i]
		holder.pieces = append(holder.pieces, own[i])
		for at := h.tops[i]; at != none; at = h.tree.layers[at].parent {
			s.holdBlob(holder, at)
		}
	}
	for i := range h.cache {
		holder := &s.graph.holders[h.recordHolder(i)]
		s.addRecord(holder, i)
		if at, blob := s.blobOf(i); blob > 0 { // most likely
			holder.isLoose = true
			s.holdBlob(holder, at)
		}
	}
	if slices.ContainsFunc(h.parents, func(parent int32) bool { return parent != none }) {
		s.doubtImages()
	}
	return s.graph
}

// doubtImages makes nothing of images certain. The containerd store was seen to keep layers of
// images that classic builds made, although no image of the list had them any more.
func (s *storeGraph) doubtImages() {
	for at := range s.graph.pieces {
		if p := &s.graph.pieces[at]; p.kind&imageLayer != 0 && p.likely > 0 {
			p.certain, p.isOpen = 0, true
		}
	}
}

// storeGraph sizes blobs. The Engine API reports no sizes of blobs, but the bytes of each image
// of a list, and how many of them other images share (SharedSize, with blobs since Engine
// 29.5).
type storeGraph struct {
	*host
	graph      *graph
	firstBlob  int32   // piece of the first diff's blob
	sizes      []int64 // of the blob of each diff, 0 if unknown
	ownOf      []int32 // piece of what only one image has, of each diff that only one image has, or none
	layerUsers []int   // number of images of the list that have each layer
	diffUsers  []int   // the same for each diff
}

// blobOf returns the layer that a record is most likely of, and the size of its blob: that of
// the record without its own unpacked layer, or 0 if it has no blob.
//
// Example: a record of 1400 bytes is of a layer of 1000 bytes: its blob has 400.
func (s *storeGraph) blobOf(record int) (at int32, blob int64) {
	at = s.matches.likely[record]
	blob, _ = s.cache[record].Size.Get()
	if at == none {
		return none, 0
	}
	if !s.cache[record].ExcludesSnapshot {
		blob -= s.tree.layers[at].size
	}
	return at, blob
}

// holdBlob makes an object hold the blob of a layer.
func (s *storeGraph) holdBlob(holder *holder, at int32) {
	diff := s.tree.layers[at].diff
	holder.pieces = append(holder.pieces, s.firstBlob+diff)
	if own := s.ownOf[diff]; own != none {
		holder.pieces = append(holder.pieces, own)
	}
}

// hasSameIDs reports whether the images of a list are those that there are.
func hasSameIDs(images, list []model.Image) bool {
	ids := make(map[string]bool, len(list))
	for _, image := range list {
		ids[image.ID] = true
	}
	return len(images) == len(ids) && !slices.ContainsFunc(images, func(image model.Image) bool { return !ids[image.ID] })
}

// sizeBlobs sizes the blobs of images, those of small images first. It returns the piece of
// what only one image has, of each image: its size is certain as a whole. isCurrent says that
// SharedSize is about these images.
//
// Example: base = layer 1000, A = layers 1000+30, B = layers 1000+40. A has 1538 bytes, of
// which it shares 1500: its own blobs have 1538-1500-30 = 8 bytes, the blob of base 500.
func (s *storeGraph) sizeBlobs(isCurrent bool) []int32 {
	diffs, order := make([][]int32, len(s.images)), make([]int, len(s.images)) // diffs of each image, each once
	for i := range s.images {
		order[i] = i
		for at := s.tops[i]; at != none; at = s.tree.layers[at].parent {
			s.layerUsers[at]++
			if diff := s.tree.layers[at].diff; !slices.Contains(diffs[i], diff) {
				diffs[i] = append(diffs[i], diff)
				s.diffUsers[diff]++
			}
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return len(diffs[i]) - len(diffs[j]) })
	pieces := make([]int32, len(s.images))
	for _, i := range order {
		all := diffs[i]
		own := slices.DeleteFunc(slices.Clone(all), func(diff int32) bool { return s.diffUsers[diff] > 1 })
		blobs, shared, isCounted := s.blobs(i, all)
		p := piece{parent: none, kind: imageLayer, isOpen: !isCurrent || !isCounted || s.hasFailed}
		metadata := min(blobs, 2500) // usual size of a manifest and a configuration
		if isCurrent && isCounted {
			s.distribute(max(0, blobs-shared-metadata), own)
			s.distribute(shared, slices.DeleteFunc(slices.Clone(all), func(diff int32) bool { return s.diffUsers[diff] == 1 }))
			p.likely = blobs - shared
		} else {
			s.distribute(max(0, blobs-metadata), all)
			p.likely = metadata
			for _, diff := range own {
				p.likely += s.sizes[diff]
			}
		}
		p.likely += s.images[i].StoreSizes().IndexSize
		if !p.isOpen {
			p.certain = p.likely
		}
		pieces[i] = s.graph.add(p)
		for _, diff := range own {
			s.ownOf[diff] = pieces[i]
			s.graph.pieces[pieces[i]].likely -= s.sizes[diff]
		}
	}
	for at := range s.graph.pieces {
		s.graph.pieces[at].likely = max(0, s.graph.pieces[at].likely)
	}
	return pieces
}

// blobs returns the size of the blobs of an image, with its manifest and configuration, and of
// those that other images have, too, if the engine counts them.
func (s *storeGraph) blobs(i int, diffs []int32) (all, shared int64, isCounted bool) {
	image, layers, sharesDiffs := &s.images[i], 0, false
	sizes := image.StoreSizes()
	shared, isCounted = sizes.SharedSize.Get()
	for at := s.tops[i]; at != none; at = s.tree.layers[at].parent {
		l := &s.tree.layers[at]
		layers++
		isCounted = isCounted && l.isExact
		sharesDiffs = sharesDiffs || s.diffUsers[l.diff] > 1
		if s.layerUsers[at] > 1 {
			shared -= l.size
		}
	}
	all = max(0, sizeOr(image.Size, 0)-sizeOr(sizes.Unpacked, s.tree.chain(s.tops[i])))
	isCounted = isCounted && image.Size.IsKnown() && sizes.Unpacked.IsKnown() && !sizes.SeveralPlatforms &&
		layers == len(diffs) && // Size counts a repeated blob twice
		shared >= 0 && shared <= all && (shared > 0 || !sharesDiffs)
	return all, shared, isCounted
}

// distribute divides bytes among blobs, as far as their sizes are not known, in proportion to
// the unpacked layers.
//
// Example: blobs of 60 bytes together, of layers of 100 and 200 bytes: 20 and 40.
func (s *storeGraph) distribute(bytes int64, diffs []int32) {
	var weight float64
	for _, diff := range diffs {
		bytes -= s.sizes[diff]
		if s.sizes[diff] == 0 {
			weight += float64(max(1, s.tree.sizeOf[diff]))
		}
	}
	for _, diff := range diffs {
		if s.sizes[diff] == 0 {
			s.sizes[diff] = int64(float64(max(0, bytes)) * float64(max(1, s.tree.sizeOf[diff])) / weight)
		}
		s.graph.pieces[s.firstBlob+diff].likely = s.sizes[diff]
	}
}

// addRecord adds a record: its own unpacked layer, or that of the image that it was taken
// from. For the minimum, its blob may be any blob of at most that size, and half of its size is
// its unpacked layer.
//
// Example: a record of 3048 bytes has at most 2548 bytes of blob, so at least 500 bytes are its
// unpacked layer.
func (s *storeGraph) addRecord(holder *holder, i int) {
	record := &s.cache[i]
	size := sizeOr(record.Size, maxUnknown)
	at, blob := s.blobOf(i)
	other := piece{parent: none, isOpen: true}
	switch {
	case isNoLayer(*record):
		holder.pieces = []int32{s.graph.addOwn(record.Size)}
		return
	case !record.ExcludesSnapshot:
		holder.unknown = size/2 + archiveOverhead/2
		other.likely, other.certain = size-blob, max(0, size-archiveOverhead)/2
		if !record.Size.IsKnown() {
			other.likely, other.certain = 0, 0
		}
	case at != none:
		holder.isUnsure, s.graph.may[s.recordHolder(i)], holder.unknown = true, s.matches.found[i], size
		if !record.Shared || !s.isTaken(int32(i)) {
			holder.mayAny = imageLayer
		}
		holder.pieces = []int32{at}
	default:
		holder.isUnsure, holder.mayAny, other.likely = true, imageLayer, size
	}
	holder.pieces = append(holder.pieces, s.graph.add(other))
}

// isTaken reports whether a record and all that it was made from were taken from an image.
// Which layer another record is of is uncertain.
func (s *storeGraph) isTaken(i int32) bool {
	for range s.cache { // it may be its own ancestor
		record, parents := &s.cache[i], s.matches.parents[i]
		switch {
		case !record.ExcludesSnapshot || len(record.Parents) != len(parents) || len(parents) > 1:
			return false
		case len(parents) == 0:
			return true
		}
		i = parents[0]
	}
	return false
}

// maxUnknown is more than any disk has.
const maxUnknown = 1 << 60
