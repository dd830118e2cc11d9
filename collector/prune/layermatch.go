package prune

import (
	"slices"

	"docker_buildup_exporter/collector/model"
)

// The Engine API does not report which layer a record of the build cache is of. It reports
// the record's size, its parents, and whether an image shares it.

// layerMatcher finds the layers that records may be of.
type layerMatcher struct {
	*estimator
	isListed []bool    // layers of listed images
	children [][]int32 // layers on each layer, shifted by one: those of noLayer come first
	records  map[string][]model.CacheRecord
	found    map[string][]int32
}

// matchLayers returns the layers that each record may be of, by record ID. A record that an
// image shares is of a layer of an image. Any other record is of a layer that only
// containers have, or of none. If the inspection of an image failed, a shared record may
// instead be of a layer of that image, and lessFailed accounts for it.
//
// Example: image A = layers 10+20, image B = layers 10+30. A shared record of 20 bytes with
// a parent of 10 bytes is of the layer 20 of A.
func (e *estimator) matchLayers(cache []model.CacheRecord) map[string][]int32 {
	if e.store == model.Containerd { // other records have a snapshot of their own
		cache = slices.DeleteFunc(slices.Clone(cache), func(record model.CacheRecord) bool { return !record.ExcludesSnapshot })
	}
	m := &layerMatcher{
		estimator: e, isListed: e.layers.mark(e.images), children: make([][]int32, len(e.layers.layers)+1),
		records: make(map[string][]model.CacheRecord), found: make(map[string][]int32, len(cache)),
	}
	for at, layer := range e.layers.layers {
		m.children[layer.parent+1] = append(m.children[layer.parent+1], int32(at))
	}
	isRecord := make(map[string]bool, len(cache))
	for _, record := range cache {
		isRecord[record.ID] = true
	}
	var roots, unparented []model.CacheRecord
	for _, record := range cache {
		switch {
		case len(record.Parents) == 0:
			roots = append(roots, record)
		case len(record.Parents) == 1 && isRecord[record.Parents[0]]:
			m.records[record.Parents[0]] = append(m.records[record.Parents[0]], record)
		default: // several parents, or one that is not listed
			unparented = append(unparented, record)
		}
	}
	for _, record := range roots {
		var path []model.CacheRecord
		if e.store == model.Containerd {
			path = []model.CacheRecord{record}
		}
		m.visit(record, m.layersOn(record, []int32{noLayer}), path)
	}
	m.matchUnparented(unparented)
	return m.found
}

// visit sets the candidates of a record and of all records made from it. The path leads
// from a root to the record; it is empty if it is incomplete or not needed.
func (m *layerMatcher) visit(record model.CacheRecord, candidates []int32, path []model.CacheRecord) {
	if _, again := m.found[record.ID]; again {
		return
	}
	if len(path) > 0 {
		candidates = slices.DeleteFunc(candidates, func(at int32) bool { return m.layers.blobs.contradicts(m.layers, at, path) })
	}
	m.found[record.ID] = candidates
	for _, child := range m.records[record.ID] {
		var longer []model.CacheRecord
		if len(path) > 0 {
			longer = append(slices.Clip(path), child)
		}
		m.visit(child, m.layersOn(child, candidates), longer)
	}
	if record.Shared {
		m.found[record.ID] = m.filterByChildren(record)
	}
}

// fits reports whether a record may be of a layer, by its size. With the containerd store
// it is that of the layer's blob.
func (m *layerMatcher) fits(record model.CacheRecord, at int32) bool {
	size, sizeKnown := record.Size.Get()
	layer := m.layers.layers[at]
	layerSize, known := layer.size.Get()
	mayBeShared := m.isListed[at] || m.hasFailed
	switch {
	case record.Shared && !mayBeShared, !record.Shared && m.isListed[at]:
		return false
	case layer.isAmbiguous:
		return true
	case m.store == model.Containerd:
		return !known || !sizeKnown || size <= layerSize+archiveOverhead
	default:
		return !known || !sizeKnown || record.ExcludesSnapshot || size == layerSize
	}
}

// layersOn returns the layers on one of the parents that a record may be of.
func (m *layerMatcher) layersOn(record model.CacheRecord, parents []int32) (candidates []int32) {
	for _, parent := range parents {
		for _, at := range m.children[parent+1] {
			if m.fits(record, at) {
				candidates = append(candidates, at)
			}
		}
	}
	return candidates
}

// matchUnparented sets the candidates of records whose parent is unknown: all layers that
// they fit. Records with the same properties fit the same layers.
func (m *layerMatcher) matchUnparented(records []model.CacheRecord) {
	type matchKey struct {
		shared, excludesSnapshot bool
		size                     model.Optional[int64]
	}
	ofSize := make(map[int64][]int32)
	var all, unsized []int32
	for i, layer := range m.layers.layers {
		all = append(all, int32(i))
		if size, known := layer.size.Get(); known && !layer.isAmbiguous {
			ofSize[size] = append(ofSize[size], int32(i))
		} else {
			unsized = append(unsized, int32(i))
		}
	}
	matched := make(map[matchKey][]int32)
	for _, record := range records {
		key := matchKey{record.Shared, record.ExcludesSnapshot, record.Size}
		candidates, done := matched[key]
		if !done {
			possible := all
			if size, known := record.Size.Get(); known && !record.ExcludesSnapshot && m.store != model.Containerd {
				possible = slices.Concat(ofSize[size], unsized)
			}
			for _, at := range possible {
				if m.fits(record, at) {
					candidates = append(candidates, at)
				}
			}
			matched[key] = candidates
		}
		m.visit(record, candidates, nil)
	}
}

// filterByChildren returns the candidates of a record that have a candidate of each shared
// child of the record on them.
//
// Example: image A = layers 10a+20 and image B = layers 10b+30. A record of 10 bytes has a
// child of 20 bytes: it is of the layer 10a.
func (m *layerMatcher) filterByChildren(record model.CacheRecord) []int32 {
	left := m.found[record.ID]
	for _, child := range m.records[record.ID] {
		if !child.Shared {
			continue
		}
		isParent := make(map[int32]bool)
		for _, at := range m.found[child.ID] {
			isParent[m.layers.layers[at].parent] = true
		}
		left = slices.DeleteFunc(slices.Clone(left), func(at int32) bool { return !isParent[at] })
	}
	return left
}
