package prune

import (
	"math"
	"slices"
	"strings"

	"docker_buildup_exporter/collector/model"
)

// The Engine API does not report which layer a record of the build cache is of. It reports
// the record's size, its parents, and whether an image shares it.

// isNoLayer reports whether a record is not a layer of an image, but a source of builds, such
// as a build context, or a cache mount (BuildKit: client.UsageRecordType).
func isNoLayer(r model.CacheRecord) bool {
	return r.Rewritten || strings.HasPrefix(r.Type, "source.") || r.Type == "exec.cachemount"
}

// archiveOverhead is how much larger than its unpacked layer a blob may be, in bytes. A blob
// is compressed, or a tar archive that adds headers to files.
const archiveOverhead = 2048

// blockSize is what the size of an unpacked layer of the containerd store is a multiple of, in
// bytes. That of a blob hardly ever is.
const blockSize = 4096

// matches are the layers of images that records are of. Records are indexes.
type matches struct {
	*host
	parents  [][]int32 // listed ones
	children [][]int32 // records whose only parent is the record
	layersOn [][]int32 // layers on each layer, shifted by one
	isTop    []bool    // layers that are the top of an image
	perByte  []float64 // bytes of the blob for each byte of a layer, about; containerd store only
	likely   []int32   // the most likely layer, or none; of a diskGraph the piece of the record's layer
	isTaken  []bool    // layers that are the most likely ones of a record
	places   map[place][]int32
}

// newMatches returns the records by what they were made from, without any layers.
func newMatches(h *host) *matches {
	n := len(h.cache)
	m := &matches{host: h, parents: make([][]int32, n), children: make([][]int32, n), likely: slices.Repeat([]int32{none}, n)}
	index := make(map[string]int32, n)
	for i := range h.cache {
		index[h.cache[i].ID] = int32(i)
	}
	for i, record := range h.cache {
		for _, id := range record.Parents {
			if parent, exists := index[id]; exists {
				m.parents[i] = append(m.parents[i], parent)
			}
		}
		if len(record.Parents) == 1 && len(m.parents[i]) == 1 {
			m.children[m.parents[i][0]] = append(m.children[m.parents[i][0]], int32(i))
		}
	}
	return m
}

// match finds the most likely layer of each record.
func (m *matches) match() {
	n := len(m.tree.layers)
	m.places = make(map[place][]int32)
	m.layersOn, m.isTop, m.isTaken, m.perByte = make([][]int32, n+1), make([]bool, n), make([]bool, n), make([]float64, n)
	depths := make([]int, n) // number of layers below each
	for at, l := range m.tree.layers {
		m.layersOn[l.parent+1] = append(m.layersOn[l.parent+1], int32(at))
		if l.parent != none {
			depths[at] = depths[l.parent] + 1
		}
		if !l.isExact {
			l.size = none
		}
		for _, depth := range []int{depths[at], none} {
			for _, size := range []int64{l.size, anySize} {
				m.places[place{depth, size}] = append(m.places[place{depth, size}], int32(at))
			}
		}
	}
	for i, top := range m.tops {
		if top != none {
			m.isTop[top] = true
		}
		unpacked := max(1, float64(sizeOr(m.images[i].StoreSizes().Unpacked, 0)))
		for at := top; at != none; at = m.tree.layers[at].parent {
			m.perByte[at] = float64(sizeOr(m.images[i].Size, 0))/unpacked - 1
		}
	}
	for i, record := range m.cache {
		switch {
		case isNoLayer(record) || len(record.Parents) == 1 && len(m.parents[i]) == 1:
		case len(record.Parents) == 0:
			m.choose(int32(i), m.layersOn[0])
		case !m.isContainerd(): // a merge, or made from a record that is not listed
			layers, _ := m.candidates(int32(i))
			m.choose(int32(i), layers)
		}
	}
}

// choose sets the most likely layer of a record, and of all records made from it: the one of the
// largest score; of those, one that no other record is of; of those, the one that most images
// have, because builds start from it.
//
// Example: image A = layers 10a+20, image B = layers 10b+30. A record of 10 bytes from which one
// of 30 bytes was made is of the layer 10b.
func (m *matches) choose(i int32, layers []int32) {
	best, bestScore, bestUsers := int32(none), 0.0, 0
	for _, at := range layers {
		score, users := m.score(i, at), m.tree.layers[at].users
		if m.isTaken[at] {
			users = 0
		}
		if score > bestScore || score == bestScore && score > 0 && users > bestUsers {
			best, bestScore, bestUsers = at, score, users
		}
	}
	var above []int32
	if best != none {
		m.likely[i], m.isTaken[best] = best, true
		above = m.layersOn[best+1]
	}
	for _, child := range m.children[i] {
		m.choose(child, above)
	}
}

// score returns how well a record and those made from it fit a layer and those on it, or 0 if
// the record cannot be of the layer. With the containerd store, a shared record that no image
// has another layer on is the top of an image (BuildKit: cache.cacheRecord.layerDigestChain).
func (m *matches) score(i, at int32) (score float64) {
	if !m.fits(&m.cache[i], at) {
		return 0
	}
	for _, child := range m.children[i] {
		best := 0.0
		for _, above := range m.layersOn[at+1] {
			best = max(best, m.score(child, above))
		}
		score += best
	}
	if score == 0 && m.isTop[at] {
		score++
	}
	return score + 2 - m.difference(&m.cache[i], at)
}

// difference returns by how much the blob that a record would have of a layer differs from what
// the images suggest, as a ratio of at most 1. It is 0 with a graph driver, which has no blobs.
func (m *matches) difference(record *model.CacheRecord, at int32) float64 {
	if !m.isContainerd() {
		return 0
	}
	want := m.perByte[at] * float64(m.tree.layers[at].size)
	return min(1, math.Abs(float64(m.blobOf(record, at))-want)/(want+blockSize))
}

// blobOf returns the size of the blob of a record with the containerd store, if it is of a
// layer: the record without its own unpacked layer.
//
// Example: a record of 1400 bytes is of a layer of 1000 bytes: its blob has 400.
func (m *matches) blobOf(record *model.CacheRecord, at int32) int64 {
	size, _ := record.Size.Get()
	if record.ExcludesSnapshot {
		return size
	}
	return size - m.tree.layers[at].size
}

// sameBlob is up to which difference a blob is most likely that of a layer.
const sameBlob = 0.01

// fits reports whether a record may be of a layer, by its size. A record that an image shares
// is of a layer of an image. Any other one may be of a layer that only containers have. With the
// containerd store BuildKit may miss that an image shares a record: its blob has the right size, and no
// other record is of the layer.
func (m *matches) fits(record *model.CacheRecord, at int32) bool {
	l := &m.tree.layers[at]
	isMissed := m.isContainerd() && (record.ExcludesSnapshot || !record.Shared && !m.isTaken[at] && m.difference(record, at) < sameBlob)
	if record.Shared != m.isListed[at] && !(record.Shared && m.hasFailed) && !isMissed {
		return false
	}
	size, known := record.Size.Get()
	switch hasBlob := !m.isContainerd() || record.ExcludesSnapshot || size%blockSize != 0; {
	case !known || !l.isExact:
		return hasBlob || !known
	case m.isContainerd():
		blob := m.blobOf(record, at)
		return hasBlob && blob <= l.size+archiveOverhead && (blob > 0 || record.ExcludesSnapshot)
	default:
		return record.ExcludesSnapshot || size == l.size
	}
}

// place is where a layer is: on how many layers, and how large it is. The depth is none for all
// depths, and the size anySize for all sizes, or none if it is not proven.
type place struct {
	depth int
	size  int64
}

const anySize = -2

// candidates returns the layers that a record may be of: those of its size on as many layers as
// records are below it, with a layer for each record that was made from it and is shared. If that number is unknown, all layers of its size, and there may be more.
func (m *matches) candidates(i int32) (layers []int32, isAll bool) {
	depth, bottom := 0, i
	for ; len(m.cache[bottom].Parents) == 1 && len(m.parents[bottom]) == 1 && depth <= len(m.cache); depth++ {
		bottom = m.parents[bottom][0]
	}
	if isAll = len(m.cache[bottom].Parents) == 0; !isAll {
		depth = none
	}
	record := &m.cache[i]
	size, known := record.Size.Get()
	sizes := []int64{size, none}
	switch {
	case !m.isContainerd() && !record.ExcludesSnapshot && known:
	case isAll:
		sizes = []int64{anySize}
	default:
		return nil, false
	}
	for _, size := range sizes {
		for _, at := range m.places[place{depth, size}] {
			if m.fits(record, at) && m.fitsBelow(i, at) {
				layers = append(layers, at)
			}
		}
	}
	return layers, isAll
}

// fitsBelow reports whether a layer has one on it for each shared record that was made from a
// record. With the containerd store, records that no image shares look shared, too.
func (m *matches) fitsBelow(i, at int32) bool {
	return m.hasFailed || m.isContainerd() || !m.cache[i].Shared || !slices.ContainsFunc(m.children[i], func(child int32) bool {
		fits := func(above int32) bool { return m.fits(&m.cache[child], above) }
		return m.cache[child].Shared && !slices.ContainsFunc(m.layersOn[at+1], fits)
	})
}
