package prune

import (
	"math"
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"
)

// newStoreGraph returns the graph of the containerd store at a time. Beside the unpacked layers it
// keeps the blobs that they were unpacked from: a compressed copy of each diff, and the manifest and
// configuration of each image. A record of the build cache has an unpacked layer of its own,
// unless it was taken from an image, and may have a blob.
func newStoreGraph(h *host, list []model.Image, now time.Time) *graph {
	s := &storeGraph{host: h, graph: newObjectGraph(h), sizes: make([]int64, len(h.tree.sizeOf)), layerUsers: make([]int, len(h.tree.layers)),
		diffUsers: make([]int, len(h.tree.sizeOf)), ownOf: slices.Repeat([]int32{none}, len(h.tree.sizeOf))}
	for i := range h.cache {
		if at, blob := s.blobOf(i); blob > 0 {
			s.sizes[h.tree.layers[at].diff] = blob
		}
	}
	s.firstBlob = int32(len(s.graph.pieces))
	for range len(h.tree.sizeOf) {
		s.graph.add(piece{parent: none, isShared: true})
	}
	own := s.sizeBlobs(hasSameIDs(h.images, list))
	for i := range h.images {
		holder := &s.graph.holders[i]
		holder.pieces = append(holder.pieces, own[i])
		for at := h.tops[i]; at != none; at = h.tree.layers[at].parent {
			s.holdBlob(holder, h.tree.layers[at].diff)
		}
	}
	for i := range h.cache {
		s.addRecord(&s.graph.holders[h.recordHolder(i)], i)
	}
	s.addLookups(now)
	if slices.ContainsFunc(h.parents, func(parent int32) bool { return parent != none }) {
		s.doubtImages()
	}
	return s.graph
}

// lookupLease is for how long BuildKit keeps an image that a build starts from, unless the build
// reads its layers (BuildKit: source/containerimage.puller.CacheKey). A builder prune ends that.
const lookupLease = 5 * time.Minute

// addLookups adds what keeps the images that builds have started from lately: most likely those
// of whose top layer a record is that other records were made from. For the minimum, it may keep
// anything.
func (s *storeGraph) addLookups(now time.Time) {
	var work []int32
	isRecent := make([]bool, len(s.cache)) // or what a recent one was made from
	for i, record := range s.cache {
		used, known := record.LastUsedAt.Get()
		if record.InUse || known && used.Add(lookupLease).After(now) {
			work = append(work, int32(i))
		}
	}
	if len(work) == 0 {
		return
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		if !isRecent[i] {
			isRecent[i] = true
			work = append(work, s.matches.parents[i]...)
		}
	}
	keeps := make(map[int32]bool) // top layers
	for i, at := range s.matches.likely {
		keeps[at] = keeps[at] || isRecent[i] && len(s.matches.children[i]) > 0
	}
	lookups := holder{isLoose: true, unknown: math.MaxInt64}
	for i, top := range s.tops {
		if top != none && keeps[top] {
			lookups.pieces = append(lookups.pieces, s.graph.holders[i].pieces...)
		}
	}
	s.lookups = model.Known(len(s.graph.holders))
	s.graph.holders = append(s.graph.holders, lookups)
}

// doubtImages makes nothing of images certain. The containerd store was seen to keep layers of
// images that classic builds made, although no image of the list had them any more.
func (s *storeGraph) doubtImages() {
	for at := range s.graph.pieces {
		if p := &s.graph.pieces[at]; p.isShared && p.likely > 0 {
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

// blobOf returns the layer that a record is most likely of, or none, and the size of the blob that
// the record holds, or 0.
func (s *storeGraph) blobOf(record int) (at int32, blob int64) {
	if at = s.matches.likely[record]; at != none {
		blob = max(0, s.matches.blobOf(&s.cache[record], at))
	}
	return at, blob
}

// holdBlob makes an object hold the blob of a diff.
func (s *storeGraph) holdBlob(holder *holder, diff int32) {
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
		var own, others []int32
		for _, diff := range diffs[i] {
			if s.diffUsers[diff] == 1 {
				own = append(own, diff)
			} else {
				others = append(others, diff)
			}
		}
		blobs, shared, isCounted := s.blobs(i, diffs[i])
		index := s.images[i].StoreSizes().IndexSize
		rest := min(blobs, 2500) // usual size of a manifest and a configuration
		p := piece{parent: none, isShared: true, isOpen: !isCurrent || !isCounted || s.hasFailed}
		if isCurrent && isCounted {
			s.distribute(blobs-shared-rest, own)
			s.distribute(shared, others)
			rest = blobs - shared
			for _, diff := range own {
				rest -= s.sizes[diff]
			}
		} else {
			s.distribute(blobs-rest, diffs[i])
		}
		p.likely = max(0, rest+index)
		if !p.isOpen {
			p.certain = blobs - shared + index
		}
		pieces[i] = s.graph.add(p)
		for _, diff := range own {
			s.ownOf[diff] = pieces[i]
		}
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
// from, and its blob. For the minimum, its blob may be any blob of at most that size, and half of
// its size is its unpacked layer.
//
// Example: a record of 3048 bytes has at most 2548 bytes of blob, so at least 500 bytes are its
// unpacked layer.
func (s *storeGraph) addRecord(holder *holder, i int) {
	record := &s.cache[i]
	if isNoLayer(*record) {
		holder.pieces = []int32{s.graph.addOwn(record.Size)}
		return
	}
	size := sizeOr(record.Size, maxUnknown)
	at, blob := s.blobOf(i)
	if at != none {
		holder.isLoose = true
		s.holdBlob(holder, s.tree.layers[at].diff)
	}
	switch {
	case !record.ExcludesSnapshot:
		holder.unknown = size/2 + archiveOverhead/2
		own := piece{parent: none, isOpen: true}
		if record.Size.IsKnown() {
			own.likely, own.certain = max(0, size-blob), max(0, size-archiveOverhead)/2
		}
		holder.pieces = append(holder.pieces, s.graph.add(own))
	case at != none:
		layers, isAll := s.matches.candidates(int32(i))
		holder.isUnsure, holder.unknown, s.graph.may[s.recordHolder(i)] = true, size, layers
		if !record.Shared || !isAll {
			holder.unknown = math.MaxInt64
		}
		holder.pieces = append(holder.pieces, at)
		if !record.Shared { // perhaps it is another layer
			holder.pieces = append(holder.pieces, s.graph.addOwn(model.Optional[int64]{}))
		}
	default:
		holder.isUnsure, holder.unknown = true, math.MaxInt64
		holder.pieces = append(holder.pieces, s.graph.add(piece{parent: none, isOpen: true, likely: size}))
	}
}

// maxUnknown is more than any disk has.
const maxUnknown = 1 << 60
