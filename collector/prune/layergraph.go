package prune

import (
	"math"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// newLayerGraph returns the graph of a graph driver, which stores each layer once, whether
// images or records of the build cache have it.
func newLayerGraph(h *host) *graph {
	l := &layerGraph{host: h, graph: newObjectGraph(h), isPlaced: make([]bool, len(h.cache)), places: make([]int32, len(h.cache)),
		layers: make(map[layerKey]int32), siblings: make(map[[2]int64]int), first: make(map[int64]int32),
		listed: slices.DeleteFunc(slices.Clone(h.tops), func(top int32) bool { return top == none })}
	for i := range h.cache {
		l.place(int32(i))
	}
	return l.graph
}

// layerGraph adds the records of the build cache to a graph.
type layerGraph struct {
	*host
	graph    *graph
	isPlaced []bool
	places   []int32            // piece of each record, or none
	layers   map[layerKey]int32 // pieces that are layers of records only
	siblings map[[2]int64]int   // number of records by the one that they were made from, and size
	first    map[int64]int32    // the first record of each size
	listed   []int32            // top layers of images
}

// layerKey identifies a layer of records: by the layer below it, its size, and its number
// among the records of this size that were made from one record.
type layerKey struct {
	below  int32
	size   int64
	number int
}

// place adds a record, after the records that it was made from, and returns its piece, or
// none.
func (l *layerGraph) place(i int32) int32 {
	if l.isPlaced[i] {
		return l.places[i]
	}
	l.isPlaced[i], l.places[i] = true, none
	record, holder := &l.cache[i], &l.graph.holders[l.recordHolder(int(i))]
	if isNoLayer(*record) {
		at := l.graph.addOwn(record.Size)
		if record.Rewritten { // the engine has measured it only once
			l.graph.pieces[at].certain, l.graph.pieces[at].isOpen = 0, true
		}
		holder.pieces = []int32{at}
		return none
	}
	below, sure := int32(none), int32(none)       // the layer below, and the same if that is certain
	for _, parent := range l.matches.parents[i] { // records that remain as long as this one
		below = l.place(parent)
		if !l.graph.holders[l.recordHolder(int(parent))].isUnsure {
			sure = below
		}
	}
	if len(record.Parents) > 1 {
		below, sure = none, none
	}
	switch layers, isAll := l.matches.candidates(i); {
	case record.Shared || len(layers) > 0:
		holder.isUnsure = len(layers) != 1 || !isAll || !record.Shared || l.hasFailed || !l.tree.layers[layers[0]].isExact
		if len(layers) == 1 {
			l.matches.likely[i] = layers[0]
		}
		l.places[i] = l.matches.likely[i]
		if holder.isUnsure {
			l.graph.may[l.recordHolder(int(i))] = layers
		}
		if record.Shared && (len(layers) == 0 || !isAll) {
			l.graph.may[l.recordHolder(int(i))] = l.listed
		}
		if !record.Shared { // perhaps it is another layer
			holder.pieces = append(holder.pieces, l.graph.addOwn(model.Optional[int64]{}))
		}
	case record.ExcludesSnapshot || !record.Size.IsKnown(): // it may be of any layer
		l.places[i] = l.graph.add(piece{parent: sure, isOpen: true, isShared: true})
		holder.unknown = math.MaxInt64
	default:
		l.places[i] = l.addLayer(i, below, sure)
	}
	if l.places[i] != none {
		holder.pieces = append(holder.pieces, l.places[i])
	}
	return l.places[i]
}

// addLayer returns the piece of a record that is a layer that no image has.
//
// Several records may be of one layer: a build without the cache repeats a step, or another
// build makes it on an image. BuildKit counts the layer for each record. A record of the size
// of another one, on the same layer, is most likely of the same layer; not if both were made
// from one record, because then BuildKit would have used the cache. For the minimum, all
// records of one size are of one layer, which remains if one of them remains.
//
// Example: records a = 10, b = 20 on a, c = 10, d = 20 on c: 10+20, not 60. A third record of
// 20 on a has other content: 10+20+20. The minimum is 10+20.
func (l *layerGraph) addLayer(i, below, sure int32) int32 {
	size, _ := l.cache[i].Size.Get()
	key := layerKey{below: below, size: size}
	if parents := l.matches.parents[i]; len(parents) == 1 {
		sibling := [2]int64{int64(parents[0]), size}
		key.number = l.siblings[sibling]
		l.siblings[sibling]++
	}
	at, exists := l.layers[key]
	if !exists {
		at = l.graph.add(piece{parent: sure, likely: size, certain: size, isShared: true})
		l.layers[key] = at
	}
	first, exists := l.first[size]
	if !exists || size == 0 {
		l.first[size] = i
		return at
	}
	one := l.places[first]
	if at != one {
		l.graph.pieces[at].certain = 0
	}
	l.graph.pieces[one].isOpen = true
	for _, record := range []int32{first, i} {
		at := l.recordHolder(int(record))
		l.graph.holders[at].isLoose, l.graph.may[at] = true, append(l.graph.may[at], one)
	}
	return at
}
