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
	return strings.HasPrefix(r.Type, "source.") || r.Type == "exec.cachemount"
}

// archiveOverhead is how much larger than its unpacked layer a blob may be, in bytes. A blob
// is compressed, or a tar archive that adds headers to files.
const archiveOverhead = 2048

// matcher finds the layers that records may be of.
type matcher struct {
	tree       *layerTree
	isListed   []bool // layers of listed images
	mayBeAny   bool   // the layers of some image are unknown
	containerd bool
	children   [][]int32          // layers on each layer, shifted by one
	records    map[string][]int32 // children of each record that has one parent, by its ID
	found      [][]int32          // layers that each record may be of
	isMatched  []bool
	likely     []int32 // the most likely of them, or none
	isChosen   []bool
	isTaken    []bool // layers that are the most likely ones of a record
}

// matchRecords returns the layers that each record may be of, and the most likely one. A
// record that an image shares is of a layer of an image. Any other one may be of a layer that
// only containers have.
//
// Example: image A = layers 10+20, image B = layers 10+30. A shared record of 20 bytes whose
// parent has 10 bytes is of the layer 20 of A. With image C = layers 10+20c, it may be of
// either; of two such records, one is most likely of each.
func matchRecords(cache []model.CacheRecord, tree *layerTree, isListed []bool, mayBeAny, containerd bool) *matcher {
	m := &matcher{
		tree: tree, isListed: isListed, mayBeAny: mayBeAny, containerd: containerd, children: make([][]int32, len(tree.layers)+1),
		records: make(map[string][]int32), found: make([][]int32, len(cache)), isMatched: make([]bool, len(cache)),
		likely: slices.Repeat([]int32{none}, len(cache)), isChosen: make([]bool, len(cache)), isTaken: make([]bool, len(tree.layers)),
	}
	bySize, unproven := make(map[int64][]int32), []int32(nil)
	for at, l := range tree.layers {
		m.children[l.parent+1] = append(m.children[l.parent+1], int32(at))
		if l.isExact {
			bySize[l.size] = append(bySize[l.size], int32(at))
		} else {
			unproven = append(unproven, int32(at))
		}
	}
	isRecord := make(map[string]bool, len(cache))
	for _, record := range cache {
		isRecord[record.ID] = true
	}
	var roots, others []int32
	for i, record := range cache {
		switch parents := record.Parents; {
		case isNoLayer(record):
		case len(parents) == 0:
			roots = append(roots, int32(i))
		case len(parents) == 1 && isRecord[parents[0]]:
			m.records[parents[0]] = append(m.records[parents[0]], int32(i))
		default: // several parents, or one that is not listed
			others = append(others, int32(i))
		}
	}
	for _, i := range roots {
		m.visit(cache, i, []int32{none})
		m.choose(cache, i, none)
	}
	for _, i := range others {
		if size, known := cache[i].Size.Get(); known && !cache[i].ExcludesSnapshot && !containerd {
			m.found[i] = m.filter(cache[i], slices.Concat(bySize[size], unproven))
		}
		m.isMatched[i] = true
		for _, child := range m.records[cache[i].ID] {
			m.visit(cache, child, m.found[i])
		}
		m.choose(cache, i, none)
	}
	return m
}

// visit finds the layers of a record and of all records made from it, given the layers that
// its parent may be of. A layer must have a layer of each shared child on it.
//
// Example: image A = layers 10a+20, image B = layers 10b+30. A shared record of 10 bytes with a
// shared child of 20 bytes is of the layer 10a.
func (m *matcher) visit(cache []model.CacheRecord, i int32, parents []int32) {
	if m.isMatched[i] {
		return // it is its own ancestor
	}
	m.isMatched[i] = true
	for _, parent := range parents {
		m.found[i] = append(m.found[i], m.filter(cache[i], m.children[parent+1])...)
	}
	for _, child := range m.records[cache[i].ID] {
		m.visit(cache, child, m.found[i])
		if !cache[child].Shared || !cache[i].Shared || m.containerd && len(m.found[child]) == 0 {
			continue
		}
		isParent := make(map[int32]bool, len(m.found[child]))
		for _, at := range m.found[child] {
			isParent[m.tree.layers[at].parent] = true
		}
		m.found[i] = slices.DeleteFunc(m.found[i], func(at int32) bool { return !isParent[at] })
	}
}

// filter returns the layers that a record may be of, by its size.
func (m *matcher) filter(record model.CacheRecord, layers []int32) (found []int32) {
	size, known := record.Size.Get()
	for _, at := range layers {
		l := m.tree.layers[at]
		fits := !known || !l.isExact
		switch {
		case m.containerd && record.ExcludesSnapshot: // the size is that of the blob
			fits = fits || size <= l.size+archiveOverhead
		case m.containerd: // a snapshot, and the blob that the image shares
			fits = fits || size > l.size && size <= 2*l.size+archiveOverhead
		default:
			fits = fits || record.ExcludesSnapshot || size == l.size
		}
		if fits && (record.Shared == m.isListed[at] || record.Shared && m.mayBeAny || m.containerd && record.ExcludesSnapshot) {
			found = append(found, at)
		}
	}
	return found
}

// choose sets the most likely layer of a record and of all records made from it: on the layer
// of its parent, and of no other record, as far as possible.
func (m *matcher) choose(cache []model.CacheRecord, i, parent int32) {
	if m.isChosen[i] {
		return // it is its own ancestor
	}
	m.isChosen[i] = true
	best, bestRank := int32(none), -1
	for _, at := range m.found[i] {
		rank := 0
		if parent == none || m.tree.layers[at].parent == parent {
			rank = 4
		}
		if !m.isTaken[at] {
			rank += 2
		}
		if len(m.children[at+1]) == len(m.records[cache[i].ID]) {
			rank++
		}
		if rank > bestRank {
			best, bestRank = at, rank
		}
	}
	if best != none {
		m.likely[i], m.isTaken[best] = best, true
	}
	for _, child := range m.records[cache[i].ID] {
		m.choose(cache, child, best)
	}
}
