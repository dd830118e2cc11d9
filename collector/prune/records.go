package prune

import (
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

// matches are the layers of images that records may be of. Records are indexes.
type matches struct {
	*host
	parents  [][]int32 // listed ones
	children [][]int32 // records whose only parent is the record
	layersOn [][]int32 // layers on each layer, shifted by one
	found    [][]int32 // layers that each record may be of
	likely   []int32   // the most likely of them, or none; of a diskGraph the piece of the record's layer
	isTaken  []bool    // layers that are the most likely ones of a record
	bySize   map[int64][]int32
	unproven []int32 // layers whose size is not proven
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

// match finds the layers that each record may be of, and the most likely one. A
// record that an image shares is of a layer of an image. Any other one may be of a layer that
// only containers have.
//
// Example: image A = layers 10+20, image B = layers 10+30. A shared record of 20 bytes whose
// parent has 10 bytes is of the layer 20 of A. With image C = layers 10+20c, it may be of
// either; of two such records, one is most likely of each.
func (m *matches) match() {
	m.layersOn, m.found = make([][]int32, len(m.tree.layers)+1), make([][]int32, len(m.cache))
	m.isTaken, m.bySize = make([]bool, len(m.tree.layers)), make(map[int64][]int32)
	for at, l := range m.tree.layers {
		m.layersOn[l.parent+1] = append(m.layersOn[l.parent+1], int32(at))
		if l.isExact {
			m.bySize[l.size] = append(m.bySize[l.size], int32(at))
		} else {
			m.unproven = append(m.unproven, int32(at))
		}
	}
	for i, record := range m.cache {
		switch {
		case isNoLayer(record) || len(record.Parents) == 1 && len(m.parents[i]) == 1:
			continue
		case len(record.Parents) == 0:
			m.find(int32(i), m.layersOn[:1])
		default: // a merge, or a parent that is not listed
			m.find(int32(i), m.ofSize(int32(i)))
		}
		m.choose(int32(i), none)
	}
}

// ofSize returns the layers of the size of a record whose parent may be of any layer, or nil if
// the record itself may be of any.
func (m *matches) ofSize(i int32) [][]int32 {
	size, known := m.cache[i].Size.Get()
	if !known || m.cache[i].ExcludesSnapshot || m.isContainerd() {
		return nil
	}
	return [][]int32{m.bySize[size], m.unproven}
}

// find finds which of some layers a record may be of, and those of all records made from it.
// A layer must have a layer of each shared child on it.
//
// Example: image A = layers 10a+20, image B = layers 10b+30. A shared record of 10 bytes with a
// shared child of 20 bytes is of the layer 10a.
func (m *matches) find(i int32, layers [][]int32) {
	record := &m.cache[i]
	for _, some := range layers {
		for _, at := range some {
			if m.fits(record, at) {
				m.found[i] = append(m.found[i], at)
			}
		}
	}
	for _, child := range m.children[i] {
		on := [][]int32{}
		for _, at := range m.found[i] {
			on = append(on, m.layersOn[at+1])
		}
		if layers == nil {
			on = m.ofSize(child)
		}
		m.find(child, on)
		// With the containerd store, records that no image shares look shared, too.
		if !m.cache[child].Shared || !record.Shared || m.hasFailed || m.isContainerd() && len(m.found[child]) == 0 {
			continue
		}
		isParent := make(map[int32]bool, len(m.found[child]))
		for _, at := range m.found[child] {
			isParent[m.tree.layers[at].parent] = true
		}
		m.found[i] = slices.DeleteFunc(m.found[i], func(at int32) bool { return !isParent[at] })
	}
}

// fits reports whether a record may be of a layer, by its size.
func (m *matches) fits(record *model.CacheRecord, at int32) bool {
	l := &m.tree.layers[at]
	if record.Shared != m.isListed[at] && !(record.Shared && m.hasFailed) && !(m.isContainerd() && record.ExcludesSnapshot) {
		return false
	}
	size, known := record.Size.Get()
	switch {
	case !known || !l.isExact:
		return true
	case m.isContainerd() && record.ExcludesSnapshot: // the size is that of the blob
		return size <= l.size+archiveOverhead
	case m.isContainerd(): // a snapshot, and the blob that the image shares
		return size > l.size && size <= 2*l.size+archiveOverhead
	default:
		return record.ExcludesSnapshot || size == l.size
	}
}

// choose sets the most likely layer of a record and of all records made from it: on the layer
// of its parent, of no other record, and with as many layers on it as records were made from
// the record, as far as possible.
func (m *matches) choose(i, parent int32) {
	best, bestRank := int32(none), -1
	for _, at := range m.found[i] {
		rank := 0
		if parent == none || m.tree.layers[at].parent == parent {
			rank += 4
		}
		if !m.isTaken[at] {
			rank += 2
		}
		if len(m.layersOn[at+1]) == len(m.children[i]) {
			rank++
		}
		if rank > bestRank {
			best, bestRank = at, rank
		}
	}
	if best != none {
		m.likely[i], m.isTaken[best] = best, true
	}
	for _, child := range m.children[i] {
		m.choose(child, best)
	}
}
