package prune

import (
	"slices"
	"strings"

	"docker_buildup_exporter/collector/model"
)

// removable are the records that a builder prune removes. It goes from the youngest
// down: a record stays as long as one stays that was made from it. By default it
// leaves what images share, and what BuildKit keeps for itself.
func removable(cache []model.CacheRecord, s scope) map[string]bool {
	children := make(map[string]int)
	for _, record := range cache {
		for _, parent := range record.Parents {
			children[parent]++
		}
	}
	goes := make(map[string]bool)
	byID := make(map[string]model.CacheRecord, len(cache))
	work := slices.Clone(cache)
	for _, record := range cache {
		byID[record.ID] = record
	}
	for s != nothing && len(work) > 0 {
		record := work[len(work)-1]
		work = work[:len(work)-1]
		isOwn := record.Type == "internal" || record.Type == "frontend"
		if goes[record.ID] || record.InUse || children[record.ID] > 0 || s == some && (record.Shared || isOwn) {
			continue
		}
		goes[record.ID] = true
		for _, id := range record.Parents {
			children[id]--
			if parent, there := byID[id]; there {
				work = append(work, parent)
			}
		}
	}
	return goes
}

// surviving are the records that may be left when images are gone, and then a builder
// prune was: it takes what it would else have left to the images.
func (h *host) surviving(s scope, f fate) []model.CacheRecord {
	cache, _ := h.cache.Get()
	goes := removable(h.unshared(f), s)
	return slices.DeleteFunc(slices.Clone(cache), func(record model.CacheRecord) bool { return goes[record.ID] })
}

// unshared are all records, as they are when images are gone: no image shares one any
// more whose layer certainly went.
func (h *host) unshared(f fate) []model.CacheRecord {
	cache, _ := h.cache.Get()
	records := slices.Clone(cache)
	for i, record := range records {
		candidates := h.candidates[record.ID]
		mayStay := len(candidates) == 0 || slices.ContainsFunc(candidates, func(at int32) bool { return !f.going[at] })
		records[i].Shared = record.Shared && mayStay
	}
	return records
}

// cacheFreed is what a builder prune frees: the records that no image shares. What
// becomes of shared ones belongs to the images.
func (h *host) cacheFreed(c cleanup, f fate) model.Optional[Reclaimable] {
	cache, known := h.cache.Get()
	if !known {
		return model.Optional[Reclaimable]{}
	}
	isHeld := func(record model.CacheRecord) bool { // by a container whose image was removed by force
		return f.known && slices.ContainsFunc(h.candidates[record.ID], func(at int32) bool { return f.staying[at] })
	}
	goes := removable(cache, c.cache)
	freed := Reclaimable{Exact: true}
	var own, others []model.CacheRecord // that hold layers; of which those stay
	ownKnown := true
	for _, record := range cache {
		switch {
		case !goes[record.ID]:
			if !record.Shared && !isNoLayer(record) {
				others = append(others, record)
			}
		case h.store == model.Containerd:
			freed = freed.plus(unpacked(record))
		case record.Shared:
		case isNoLayer(record):
			freed = freed.plusOptional(h.layerSize(record))
		case isHeld(record):
			ownKnown = false
		default:
			own = append(own, record)
		}
	}
	layers := h.layersOf(own, others, f.byName)
	layers.Exact = layers.Exact && ownKnown
	held, heldKnown := f.held.Get()
	if !heldKnown && layers.Bytes > 0 {
		return model.Optional[Reclaimable]{}
	}
	freed = freed.plus(layers.without(held))
	if c.images != nothing {
		// Where the image goes that shares a record, so may the record and those under it.
		mayGo := removable(withoutShared(cache), c.cache)
		for _, record := range cache {
			isCounted := goes[record.ID] || record.Shared && h.store != model.Containerd // there it is a layer
			freed.Exact = freed.Exact && (isCounted || !mayGo[record.ID])
		}
	}
	return model.Known(freed)
}

func withoutShared(cache []model.CacheRecord) []model.CacheRecord {
	records := slices.Clone(cache)
	for i := range records {
		records[i].Shared = false
	}
	return records
}

// A blob is compressed, or at least no larger than the blocks that its files take,
// but for what an archive adds to a file.
const archiveOverhead = 2048

// unpacked is what a record of the containerd store has unpacked for itself, at least.
// Its size counts a blob, too, which other records and images may have as well. What
// it took from an image is not unpacked once more.
func unpacked(r model.CacheRecord) Reclaimable {
	size, known := r.Size.Get()
	switch {
	case isNoLayer(r):
		return Reclaimable{size, known}
	case r.ExcludesSnapshot:
		return Reclaimable{}
	default:
		return Reclaimable{Bytes: max(0, size-archiveOverhead) / 2}
	}
}

// blob is what the blob of a record of the containerd store weighs at most.
func blob(r model.CacheRecord) (atMost model.Optional[int64]) {
	size, known := r.Size.Get()
	switch {
	case isNoLayer(r):
		return model.Known[int64](0)
	case !known:
		return model.Optional[int64]{}
	case r.ExcludesSnapshot:
		return model.Known(size)
	default:
		return model.Known((size + archiveOverhead) / 2)
	}
}

// isNoLayer tells whether a record is no layer of an image, but a source of builds, such
// as their context, or what a step keeps for its next run.
func isNoLayer(r model.CacheRecord) bool {
	return strings.HasPrefix(r.Type, "source.") || r.Type == "exec.cachemount"
}

// withoutBlobs takes off the blobs that the build cache goes on to hold: any record can
// have the blob of any image's layer, unless it is known to be of one that stays.
func (h *host) withoutBlobs(freed Reclaimable, f fate, surviving []model.CacheRecord) Reclaimable {
	if freed.Bytes == 0 || len(surviving) == 0 {
		return freed
	}
	var kept []model.Image
	for i, image := range h.images {
		if !f.removed[i] {
			kept = append(kept, image)
		}
	}
	stays := h.layers.diffs(kept)
	for _, record := range surviving {
		candidates := h.candidates[record.ID]
		if len(candidates) > 0 && !slices.ContainsFunc(candidates, func(at int32) bool { return !stays[h.layers.layers[at].diff] }) {
			continue
		}
		atMost, known := blob(record).Get()
		if !known {
			return Reclaimable{}
		}
		freed = freed.without(atMost)
	}
	return freed
}

// withoutCached takes off what the build cache goes on to hold of layers that nothing
// else has any more, or what counts as its own. A record is of one layer, and holds it
// and all under it. It does not say which layer it is, but has its size.
func (h *host) withoutCached(freed Reclaimable, f fate, surviving []model.CacheRecord) Reclaimable {
	cache, _ := h.cache.Get()
	if len(cache) == 0 {
		return freed
	}
	survives := make(map[string]bool, len(surviving))
	for _, record := range surviving {
		survives[record.ID] = true
	}
	hasTaken := make(map[string]bool) // a record on it that was taken from an image that has gone
	for _, record := range surviving {
		for _, parent := range record.Parents {
			hasTaken[parent] = hasTaken[parent] || record.ExcludesSnapshot && !record.Shared
		}
	}
	certain, possible := make([]bool, len(h.layers.layers)), make([]bool, len(h.layers.layers))
	var open []model.CacheRecord
	isClear := true // which records survive
	for _, record := range cache {
		candidates := h.candidates[record.ID]
		isGoing := func(at int32) bool { return f.going[at] }
		isStaying := func(at int32) bool { return !f.going[at] }
		if record.Shared && survives[record.ID] && slices.ContainsFunc(candidates, isGoing) && slices.ContainsFunc(candidates, isStaying) {
			isClear = false
		}
		switch {
		case !survives[record.ID] && (record.Shared || h.store == model.Containerd): // it goes with the images
		case h.store == model.Containerd && !record.ExcludesSnapshot: // it has unpacked one for itself
		case h.store == model.Containerd && !record.Shared: // its image has gone, what lay under it need not
			copy(possible, f.going)
			if !hasTaken[record.ID] { // else that one holds the same, and more
				open = append(open, record)
			}
		case record.Shared && len(candidates) == 1:
			h.layers.markDown(certain, candidates[0])
		case record.Shared && len(candidates) == 0: // it contradicts the images: any layer can be its
			copy(possible, f.going)
			open = append(open, record)
		default:
			for _, at := range candidates {
				h.layers.markDown(possible, at)
			}
			open = append(open, record)
		}
	}

	var atLeast, all int64
	var guessed int64                           // of those that are not certainly held
	isGuess := false                            // what is held
	down := make([]int64, len(h.layers.layers)) // of each layer and those under it, what may be held beside what certainly is
	for at, layer := range h.layers.layers {
		size, _ := layer.size.Get()
		if layer.under != bottom {
			down[at] = down[layer.under]
		}
		if f.going[at] && layer.guessed {
			isGuess = isGuess || certain[at] || possible[at]
			if !certain[at] {
				guessed += size
			}
		}
		switch {
		case !f.going[at]:
		case certain[at]:
			atLeast += size
		case possible[at]:
			all += size
			down[at] += size
		}
	}
	var sum int64
	for _, record := range open {
		most := int64(0)
		for _, at := range h.candidates[record.ID] {
			most = max(most, down[at])
		}
		switch {
		case h.store == model.Containerd && !record.Shared:
			for _, bytes := range down {
				most = max(most, bytes)
			}
		case len(h.candidates[record.ID]) == 0 && record.Shared:
			most = all
		}
		sum += most
	}
	atMost := min(sum, all)
	freed.Bytes = max(0, freed.Bytes-atLeast-atMost)
	freed.Exact = freed.Exact && atMost == 0 && isClear
	if isGuess {
		return freed.without(guessed)
	}
	return freed
}

// match finds the layers that each record can be of, by the record's ID. One that an
// image shares is of an image's layer; any other can be of one that only containers
// have, or of none.
func (h *host) match(cache []model.CacheRecord) map[string][]int32 {
	if h.store == model.Containerd { // the others have unpacked one for themselves
		cache = slices.DeleteFunc(slices.Clone(cache), func(record model.CacheRecord) bool { return !record.ExcludesSnapshot })
	}
	isListed, _ := h.layers.mark(h.images)
	onTop := make(map[int32][]int32) // of each layer
	for i, layer := range h.layers.layers {
		onTop[layer.under] = append(onTop[layer.under], int32(i))
	}
	isRecord := make(map[string]bool, len(cache))
	for _, record := range cache {
		isRecord[record.ID] = true
	}
	var roots, strays []model.CacheRecord // without a parent; with several, or with one that is not there
	children := make(map[string][]model.CacheRecord)
	for _, record := range cache {
		switch {
		case len(record.Parents) == 0:
			roots = append(roots, record)
		case len(record.Parents) == 1 && isRecord[record.Parents[0]]:
			children[record.Parents[0]] = append(children[record.Parents[0]], record)
		default:
			strays = append(strays, record)
		}
	}

	fits := func(record model.CacheRecord, at int32) bool {
		size, sizeKnown := record.Size.Get()
		layer := h.layers.layers[at]
		layerSize, known := layer.size.Get()
		switch {
		case isListed[at] != record.Shared:
			return false
		case layer.guessed:
			return true
		case h.store == model.Containerd: // its size is that of the layer's blob
			return !known || !sizeKnown || size <= layerSize+archiveOverhead
		default:
			return !known || !sizeKnown || record.ExcludesSnapshot || size == layerSize
		}
	}
	candidatesOn := func(record model.CacheRecord, below []int32) (candidates []int32) {
		for _, under := range below {
			for _, at := range onTop[under] {
				if fits(record, at) {
					candidates = append(candidates, at)
				}
			}
		}
		return candidates
	}
	found := make(map[string][]int32)
	// trail are the records from the lowest layer up, with the containerd store and if they
	// are all there.
	var descend func(record model.CacheRecord, candidates []int32, trail []model.CacheRecord)
	descend = func(record model.CacheRecord, candidates []int32, trail []model.CacheRecord) {
		if _, again := found[record.ID]; again {
			return
		}
		if len(trail) > 0 {
			candidates = slices.DeleteFunc(candidates, func(at int32) bool { return h.layers.blobs.contradict(h.layers, at, trail) })
		}
		found[record.ID] = candidates
		for _, child := range children[record.ID] {
			var longer []model.CacheRecord
			if len(trail) > 0 {
				longer = append(slices.Clip(trail), child)
			}
			descend(child, candidatesOn(child, candidates), longer)
		}
		if record.Shared {
			found[record.ID] = h.narrow(found, record, children[record.ID])
		}
	}
	for _, record := range roots {
		var trail []model.CacheRecord
		if h.store == model.Containerd {
			trail = []model.CacheRecord{record}
		}
		descend(record, candidatesOn(record, []int32{bottom}), trail)
	}
	type likeness struct { // of records that the same layers fit
		shared, uncounted bool
		size              model.Optional[int64]
	}
	ofSize := make(map[int64][]int32) // layers
	var all, unsettled []int32
	for i, layer := range h.layers.layers {
		all = append(all, int32(i))
		if size, known := layer.size.Get(); known && !layer.guessed {
			ofSize[size] = append(ofSize[size], int32(i))
		} else {
			unsettled = append(unsettled, int32(i))
		}
	}
	alike := make(map[likeness][]int32)
	for _, record := range strays {
		like := likeness{record.Shared, record.ExcludesSnapshot, record.Size}
		candidates, done := alike[like]
		if !done {
			among := all
			if size, known := record.Size.Get(); known && !record.ExcludesSnapshot && h.store != model.Containerd {
				among = slices.Concat(ofSize[size], unsettled)
			}
			for _, at := range among {
				if fits(record, at) {
					candidates = append(candidates, at)
				}
			}
			alike[like] = candidates
		}
		descend(record, candidates, nil)
	}
	return found
}

// narrow leaves those candidates of a record on which lies a candidate of each shared
// record that was made from it.
func (h *host) narrow(found map[string][]int32, record model.CacheRecord, children []model.CacheRecord) []int32 {
	left := found[record.ID]
	for _, child := range children {
		if !child.Shared {
			continue
		}
		under := make(map[int32]bool)
		for _, on := range found[child.ID] {
			under[h.layers.layers[on].under] = true
		}
		left = slices.DeleteFunc(slices.Clone(left), func(at int32) bool { return !under[at] })
	}
	return left
}
