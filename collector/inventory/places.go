package inventory

// Several records of the build cache can be of one layer: it is made anew by a build
// without the cache, or on an image that another build has made. BuildKit counts it for
// each of them, but the disk of a graph driver has it once.
//
// A record does not say which layer it is. But two that are of one layer have the same
// size, and lie on layers of the same sizes.

// A spot is a size on a place.
type spot struct {
	place int32
	size  int64
}

// Places are what records of the cache lie on. Each but the first two is a spot, too.
type places struct {
	of    map[string]int32 // each record, by its ID
	spots []spot           // by place
}

const (
	anywhere = int32(iota) // it cannot be told
	ground                 // on nothing
)

func (h *host) placesOf(cache []CacheRecord) places {
	byID := make(map[string]CacheRecord, len(cache))
	for _, record := range cache {
		byID[record.ID] = record
	}
	p := places{of: make(map[string]int32, len(cache)), spots: make([]spot, ground+1)}
	numbers := make(map[spot]int32)
	var placeOf func(record CacheRecord) int32
	placeOf = func(record CacheRecord) int32 {
		if place, known := p.of[record.ID]; known {
			return place
		}
		place := anywhere
		p.of[record.ID] = place // if it lies on itself
		switch parents := record.Parents; {
		case len(parents) == 0:
			place = ground
		case len(parents) == 1 && byID[parents[0]].ID != "":
			parent := byID[parents[0]]
			under := placeOf(parent)
			if size, known := h.layerSize(parent).Get(); known && under != anywhere {
				at := spot{under, size}
				if numbers[at] == 0 {
					numbers[at] = int32(len(p.spots))
					p.spots = append(p.spots, at)
				}
				place = numbers[at]
			}
		}
		p.of[record.ID] = place
		return place
	}
	for _, record := range cache {
		placeOf(record)
	}
	return p
}

// layerSize is how large the layer of a record is, or what a graph driver keeps for it
// that is none, as far as that can be told.
func (h *host) layerSize(record CacheRecord) Optional[int64] {
	switch candidates := h.candidates[record.ID]; {
	case !record.Uncounted && !record.Rewritten:
		return record.Size
	case record.Shared && len(candidates) == 1:
		return h.layers.layers[candidates[0]].size
	default:
		return Optional[int64]{}
	}
}

// layersOf adds up the layers that a graph driver keeps for some records, and for no
// others, nor for any of so many mounts of images by a name.
func (h *host) layersOf(records, others []CacheRecord, byName int) Reclaimable {
	found, isFound := make(map[spot]bool), make(map[int64]bool) // at a place that can be told
	all := Reclaimable{Exact: true}
	several := 0
	for _, record := range records {
		size, known := h.layerSize(record).Get()
		all.Exact = all.Exact && known
		if size > 0 {
			at := spot{h.places.of[record.ID], size}
			found[at] = true
			isFound[size] = isFound[size] || at.place != anywhere
			several++
		}
	}
	unclear := 0 // others: each can be of any of these layers
	for _, record := range others {
		size, known := h.layerSize(record).Get()
		at := spot{h.places.of[record.ID], size}
		switch {
		case !known || size > 0 && at.place == anywhere:
			unclear++
		case size > 0:
			delete(found, at)
			isFound[size] = true
		}
	}
	var sizes, piles []int64
	var strewn int64 // which can be in any pile
	for at := range found {
		switch {
		case at.place != anywhere:
			piles = append(piles, h.places.pile(at, found))
		case isFound[at.size]: // it may be that one
			continue
		default:
			strewn += at.size
		}
		sizes = append(sizes, at.size)
		all = all.plus(Reclaimable{at.size, true})
	}
	all.Exact = all.Exact && len(sizes) == several
	all = all.without(largest(sizes, unclear))
	if byName == 0 {
		return all
	}
	return all.without(strewn + largest(piles, byName))
}

// pile adds up a spot and those under it, as far as they are among some.
func (p places) pile(at spot, some map[spot]bool) (bytes int64) {
	for {
		if some[at] {
			bytes += at.size
		}
		if at.place <= ground {
			return bytes
		}
		at = p.spots[at.place]
	}
}
