package prune

import (
	"math"

	"docker_buildup_exporter/collector/model"
)

// Reclaimable is the number of bytes that a command frees on the disk, in the units of the
// engine's image store.
type Reclaimable struct {
	Estimate int64 // what is most likely
	Minimum  int64 // what is certain; at most Estimate
	Exact    bool  // the two are equal, and proven
}

// A graph is what lies on the disk, in pieces of bytes, and which objects hold which pieces.
// A piece is freed when nothing holds it any more. Each source of knowledge about a host has
// its own constructor: newContentGraph for what containerd reports and newDiskGraph for what a
// graph driver has on the disk; newLayerGraph for graph drivers and newStoreGraph for the containerd
// store, both from the Engine API.
type graph struct {
	pieces  []piece
	holders []holder
	may     map[int][]int32 // what a holder may hold besides or instead; few do
	marks   [5][]bool       // of freed, which is called often
}

// piece is bytes that are freed together.
type piece struct {
	parent  int32 // an object that holds a piece also holds its parent; or none
	isOpen  bool  // more bytes may be freed than likely
	likely  int64
	certain int64 // a lower bound

	// isShared says that it is a layer or a blob: objects may hold it besides its known holders.
	isShared bool
}

const none = -1 // no piece, no image

// holder is an image, a container, a volume or a record of the build cache.
type holder struct {
	pieces   []int32 // that it most likely holds
	isUnsure bool    // it may not hold its pieces
	isLoose  bool    // it may not be what keeps them
	unknown  int64   // bytes of layers and blobs that it may hold besides
}

// add adds a piece and returns its index.
func (g *graph) add(p piece) int32 {
	g.pieces = append(g.pieces, p)
	return int32(len(g.pieces) - 1)
}

// addOwn adds a piece that only one object holds. An unknown size is 0, and more may be freed.
func (g *graph) addOwn(size model.Optional[int64]) int32 {
	bytes, known := size.Get()
	return g.add(piece{parent: none, likely: bytes, certain: bytes, isOpen: !known})
}

// reach marks pieces and those below them.
func (g *graph) reach(marks []bool, pieces []int32) {
	for _, at := range pieces {
		for ; at != none && !marks[at]; at = g.pieces[at].parent {
			marks[at] = true
		}
	}
}

// ownBytes returns what each holder holds and no other one does.
func (g *graph) ownBytes() []int64 {
	first, isShared, visited := make([]int, len(g.pieces)), make([]bool, len(g.pieces)), make([]int, len(g.pieces))
	own := make([]int64, len(g.holders))
	for i := range g.holders {
		for _, at := range g.holders[i].pieces {
			for ; at != none && visited[at] != i+1; at = g.pieces[at].parent {
				isShared[at], visited[at] = visited[at] != 0, i+1
				if first[at] == 0 {
					first[at] = i + 1
				}
			}
		}
	}
	for at, i := range first {
		if i != 0 && !isShared[at] {
			own[i-1] = saturate(own[i-1], g.pieces[at].likely)
		}
	}
	return own
}

// removal is the set of holders that a command removes: most likely, and certainly.
type removal struct {
	likely, certain []bool
	isUnsure        bool // other objects may be removed, or remain
	isUnknown       bool // objects of one kind are removed, and the size of none of them is known
}

// freed returns what is freed when objects are removed: the pieces that one of them holds, and
// that none of the others holds. What an object may hold counts only against the minimum.
//
// Example: image A = layers 10+20 is removed, image B = layers 10+30 remains: 20. If a record
// of the build cache also remains that is of one of the layers of 20 and 30 bytes, the minimum
// is 0.
func (g *graph) freed(r removal) Reclaimable {
	for i := range g.marks {
		g.marks[i] = append(g.marks[i][:0], make([]bool, len(g.pieces))...)
	}
	goes, surely, kept, keptSurely, mayBeKept := g.marks[0], g.marks[1], g.marks[2], g.marks[3], g.marks[4]
	var unknown int64
	for i := range g.holders {
		h := &g.holders[i]
		if r.likely[i] {
			g.reach(goes, h.pieces)
		} else {
			g.reach(kept, h.pieces)
		}
		if r.likely[i] && !h.isUnsure {
			g.reach(surely, h.pieces)
		}
		if r.certain[i] {
			continue
		}
		g.reach(mayBeKept, h.pieces)
		g.reach(mayBeKept, g.may[i])
		if !h.isUnsure && !h.isLoose && !r.likely[i] {
			g.reach(keptSurely, h.pieces)
		}
		unknown = saturate(unknown, h.unknown)
	}
	freed := Reclaimable{Exact: !r.isUnsure}
	var own, shared int64
	for at, p := range g.pieces {
		if !goes[at] || keptSurely[at] {
			continue
		}
		freed.Exact = freed.Exact && !p.isOpen && !(mayBeKept[at] && p.likely > 0)
		if !kept[at] {
			freed.Estimate = saturate(freed.Estimate, p.likely)
		}
		switch {
		case mayBeKept[at], !surely[at]:
		case p.isShared:
			shared = saturate(shared, p.certain)
		default:
			own = saturate(own, p.certain)
		}
	}
	freed.Exact = freed.Exact && (unknown == 0 || shared == 0 && freed.Estimate == own)
	freed.Minimum = min(freed.Estimate, saturate(own, max(0, shared-unknown)))
	freed.Exact = freed.Exact && freed.Estimate == freed.Minimum
	return freed
}

// saturate returns the sum, or the largest number if it overflows.
func saturate(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}
