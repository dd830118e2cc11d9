package prune

import "docker_buildup_exporter/collector/model"

// Several records of the build cache can be of one layer: it is made anew by a build
// without the cache, or on an image that another build has made. BuildKit counts it for
// each of them, but the disk of a graph driver has it once.
//
// A record does not say which layer it is. But two that are of one layer have the same
// size, as far as it can be told, and lie on layers of the same sizes.

// A place is what a layer lies on, by the sizes of all layers under it.
const (
	anywhere = int32(iota) // it cannot be told
	ground                 // on nothing; other places have higher numbers
)

// A spot is where a layer is: on a place, as large as it is.
type spot struct {
	place int32
	size  int64
}

// Places are those of records of the build cache.
type places struct {
	of    map[string]int32 // by the record's ID
	spots []spot           // by place, above ground: the uppermost of the layers under it
}

func (h *host) placesOf(cache []model.CacheRecord) places {
	byID := make(map[string]model.CacheRecord, len(cache))
	for _, record := range cache {
		byID[record.ID] = record
	}
	p := places{of: make(map[string]int32, len(cache)), spots: make([]spot, ground+1)}
	numbers := make(map[spot]int32)
	var placeOf func(record model.CacheRecord) int32
	placeOf = func(record model.CacheRecord) int32 {
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
func (h *host) layerSize(record model.CacheRecord) model.Optional[int64] {
	switch candidates := h.candidates[record.ID]; {
	case !record.ExcludesSnapshot && !record.Rewritten:
		return record.Size
	case record.Shared && len(candidates) == 1 && !h.layers.layers[candidates[0]].guessed:
		return h.layers.layers[candidates[0]].size
	default:
		return model.Optional[int64]{}
	}
}

// A group are records of the cache of one size that hold layers.
type group struct {
	records int
	places  map[int32]bool // of these, but for those that can be anywhere
	taken   map[int32]bool // places of others, which keep their layers
	strays  int            // others that can be anywhere: each can have taken any place
}

// layers is how many layers go with the records for certain. Those that can be anywhere
// may be of one that is counted, or taken.
func (g *group) layers() int {
	if len(g.places)+len(g.taken)+g.strays == 0 {
		return 1
	}
	n := -g.strays
	for place := range g.places {
		if !g.taken[place] {
			n++
		}
	}
	return max(0, n)
}

// layersOf adds up the layers that a graph driver keeps for some records, and for no
// others, nor for any of so many mounts of images by a name.
func (h *host) layersOf(records, others []model.CacheRecord, byName int) Reclaimable {
	groups := make(map[int64]*group) // by size
	groupOf := func(size int64) *group {
		if groups[size] == nil {
			groups[size] = &group{places: make(map[int32]bool), taken: make(map[int32]bool)}
		}
		return groups[size]
	}
	sum := Reclaimable{Exact: true}
	for _, record := range records {
		size, known := h.layerSize(record).Get()
		sum.Exact = sum.Exact && known
		if size == 0 {
			continue
		}
		g := groupOf(size)
		g.records++
		if place := h.places.of[record.ID]; place != anywhere {
			g.places[place] = true
		}
	}
	unsized := 0
	for _, record := range others {
		size, known := h.layerSize(record).Get()
		place := h.places.of[record.ID]
		switch {
		case !known:
			unsized++
		case size == 0:
		case place == anywhere:
			groupOf(size).strays++
		default:
			groupOf(size).taken[place] = true
		}
	}
	var sizes []int64
	for size, g := range groups {
		layers := g.layers()
		for range layers {
			sizes = append(sizes, size)
			sum = sum.plus(Reclaimable{size, true})
		}
		sum.Exact = sum.Exact && layers == g.records
	}
	sum = sum.without(largest(sizes, unsized))
	if byName > 0 {
		sum = sum.without(h.places.largestPiles(groups, byName))
	}
	return sum
}

// largestPiles is how much so many mounts, each of one layer and all under it, can hold of
// the layers of records. One that can be anywhere may be in any pile.
func (p places) largestPiles(groups map[int64]*group, n int) (bytes int64) {
	isThere := func(at spot) bool {
		g := groups[at.size]
		return g != nil && g.places[at.place] && !g.taken[at.place]
	}
	pileOf := func(at spot, under int64) int64 {
		if isThere(at) {
			return under + at.size
		}
		return under
	}
	under := make([]int64, len(p.spots)) // by place, each after the one that it lies on
	for place := ground + 1; place < int32(len(p.spots)); place++ {
		at := p.spots[place]
		under[place] = pileOf(at, under[at.place])
	}
	var piles []int64
	for size, g := range groups {
		if len(g.places) == 0 {
			bytes += size * int64(g.layers())
		}
		for place := range g.places {
			piles = append(piles, pileOf(spot{place, size}, under[place]))
		}
	}
	return bytes + largest(piles, n)
}
