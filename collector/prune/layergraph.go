package prune

import "docker_buildup_exporter/collector/model"

// newLayerGraph returns the graph of a graph driver, which stores each layer once, whether
// images or records of the build cache have it.
func newLayerGraph(h *host) *graph {
	b := &recordLayers{host: h, graph: newObjectGraph(h), places: make([]place, len(h.cache)),
		pieces: make(map[pieceKey]int32), siblings: make(map[siblingKey]int), chains: make(map[look]int32), first: make(map[look]int32),
		isWild: make(map[int64]bool)}
	for i := range h.cache {
		b.place(int32(i))
		if p := b.places[i]; p.isOwn && p.look.below == wild {
			b.isWild[p.look.size] = true
		}
	}
	for i := range h.cache {
		b.compare(i)
	}
	return b.graph
}

// recordLayers adds the records of the build cache to a graph.
type recordLayers struct {
	*host
	graph    *graph
	places   []place            // of each record
	pieces   map[pieceKey]int32 // layers that only records have
	siblings map[siblingKey]int // number of records that were made from one record, by size
	chains   map[look]int32
	first    map[look]int32 // the first record of each look
	isWild   map[int64]bool // sizes of records whose chain is unknown
}

type siblingKey struct {
	record int32
	size   int64
}

// place is where a record is in the graph.
type place struct {
	isDone bool
	piece  int32 // or none
	isOwn  bool  // the piece is a layer that no image has
	chain  int32 // identifies the sizes of the layers up to this one: a layer's index, more for records, or wild
	look   look
}

// pieceKey identifies a layer that records have: by the layer below it, its size, and its
// number among the records of this size that were made from one record.
type pieceKey struct {
	below  int32
	size   int64
	number int
}

// look is what two records of one layer have in common: the sizes of the layers below it, and
// its own.
type look struct {
	below int32 // chain, or wild if that is unknown
	size  int64
}

const wild = -2 // an unknown chain

// place adds a record, after the records that it was made from.
//
// Several records may be of one layer: a build without the cache repeats a step, or another
// build makes it on an image. BuildKit counts the layer for each record. A record of the size
// of another one, on the same layer, is most likely of the same layer; not if both were made
// from one record of a build, because then BuildKit would have used the cache.
//
// Example: records a = 10, b = 20 on a, c = 10, d = 20 on c: 10+20, not 60. A third record of
// 20 on a has other content: 10+20+20.
func (b *recordLayers) place(i int32) place {
	p := &b.places[i]
	if p.isDone {
		return *p
	}
	record := b.cache[i]
	*p = place{isDone: true, piece: none, chain: wild}
	holder, found := &b.graph.holders[b.recordHolder(int(i))], b.matches.found[i]
	size, known := record.Size.Get()
	if isNoLayer(record) {
		at := b.graph.addOwn(record.Size)
		if record.Rewritten { // the engine has measured it only once
			b.graph.pieces[at].certain, b.graph.pieces[at].isOpen = 0, true
		}
		holder.pieces = []int32{at}
		return *p
	}
	below, chain, builtOn := b.below(i, holder)
	if record.Shared || len(found) > 0 {
		p.piece = b.matches.likely[i]
		if p.piece != none {
			holder.pieces = append(holder.pieces, p.piece)
		}
		isSure := len(found) == 1 && record.Shared && !b.hasFailed && chain != wild && b.tree.layers[found[0]].isExact
		if isSure {
			p.chain = p.piece
			return *p
		}
		holder.isUnsure, holder.may, holder.mayAny = true, found, record.Shared && (len(found) == 0 || chain == wild)
		if !record.Shared {
			holder.pieces = append(holder.pieces, b.graph.addOwn(model.Optional[int64]{}))
		}
		return *p
	}
	known = known && !record.ExcludesSnapshot
	p.isOwn, p.look, p.chain = true, look{chain, size}, b.chainOf(look{chain, size})
	key := pieceKey{below: below, size: size}
	if builtOn != none {
		sibling := siblingKey{builtOn, size}
		key.number = b.siblings[sibling]
		b.siblings[sibling]++
	}
	at, exists := b.pieces[key]
	if !exists || !known {
		at = b.graph.add(piece{parent: below, likely: size, certain: size, isOpen: !known, isShared: true})
		b.pieces[key] = at
	}
	p.piece = at
	holder.pieces = append(holder.pieces, at)
	if !known { // it may be of any layer
		p.chain, p.isOwn, holder.mayAny, b.graph.pieces[at].certain = wild, false, true, 0
	}
	return *p
}

// below returns the piece below a record, its chain, and the record that it was made from if
// that was built. A record that was made from several ones holds all of them.
func (b *recordLayers) below(i int32, holder *holder) (at, chain, builtOn int32) {
	if len(b.cache[i].Parents) == 0 {
		return none, none, none
	}
	at, chain, builtOn = none, wild, none
	for _, parent := range b.matches.parents[i] {
		p := b.place(parent)
		switch {
		case len(b.cache[i].Parents) == 1:
			at, chain = p.piece, p.chain
			if !b.cache[parent].ExcludesSnapshot {
				builtOn = parent
			}
		case p.piece != none:
			holder.pieces = append(holder.pieces, p.piece)
		}
	}
	return at, chain, builtOn
}

// chainOf returns the number of the chain that a layer ends.
func (b *recordLayers) chainOf(l look) int32 {
	if l.below == wild {
		return wild
	}
	chain, exists := b.chains[l]
	if !exists {
		chain = int32(len(b.tree.layers) + len(b.chains))
		b.chains[l] = chain
	}
	return chain
}

// compare takes into account that records of the same look may be of one layer: then the
// minimum counts it once, and only if none of them remains.
func (b *recordLayers) compare(i int) {
	p := b.places[i]
	if !p.isOwn || p.look.size == 0 {
		return
	}
	if b.isWild[p.look.size] {
		p.look.below = wild
	}
	first, exists := b.first[p.look]
	if !exists {
		b.first[p.look] = int32(i)
		return
	}
	at := b.places[first].piece
	if p.piece != at {
		b.graph.pieces[p.piece].certain = 0
	}
	b.graph.pieces[at].isOpen = true
	for _, record := range []int{int(first), i} {
		holder := &b.graph.holders[b.recordHolder(record)]
		holder.isTwin, holder.may = true, append(holder.may, at)
	}
}
