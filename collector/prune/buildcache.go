package prune

import (
	"slices"
	"strings"

	"docker_buildup_exporter/collector/model"
)

// isNoLayer reports whether a record is not a layer of an image, but a source of builds,
// such as a build context, or a cache mount (BuildKit: client.UsageRecordType).
func isNoLayer(r model.CacheRecord) bool {
	return strings.HasPrefix(r.Type, "source.") || r.Type == "exec.cachemount"
}

// archiveOverhead is how much larger than its unpacked layer a blob may be, in bytes. A blob
// is compressed, or a tar archive that adds headers to files.
const archiveOverhead = 2048

// ownSnapshot returns the least that a record of the containerd store has unpacked for
// itself. Its size includes a blob that other records and images may have, too. A record
// that was taken from an image uses the image's snapshot.
//
// Example: a record of 3048 bytes has at most 2548 bytes of blob, so at least 500 bytes
// are its snapshot.
func ownSnapshot(r model.CacheRecord) Reclaimable {
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

// maxBlob returns the largest possible size of the blob of a record of the containerd store.
func maxBlob(r model.CacheRecord) model.Optional[int64] {
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

// remainingRecords returns the records that may remain after a plan and then a builder
// prune, which removes records that images shared before.
func (e *estimator) remainingRecords(records amount, p plan) []model.CacheRecord {
	cache, _ := e.cache.Get()
	removed := removedRecords(e.sharedAfter(p), records)
	return slices.DeleteFunc(slices.Clone(cache), func(record model.CacheRecord) bool { return removed[record.ID] })
}

// sharedAfter returns all records as they are after a plan: a record whose layer is
// certainly freed is not shared with an image any more.
func (e *estimator) sharedAfter(p plan) []model.CacheRecord {
	cache, _ := e.cache.Get()
	records := slices.Clone(cache)
	for i, record := range records {
		candidates := e.candidates[record.ID]
		mayStay := len(candidates) == 0 || slices.ContainsFunc(candidates, func(at int32) bool { return !p.freedLayers[at] })
		records[i].Shared = record.Shared && mayStay
	}
	return records
}

// cacheFreed returns the sizes of the removed records that no image shares. The layers of
// shared records are part of layersFreed.
//
// Example with a graph driver: records R = 20 bytes and S = 30 bytes, which an image
// shares: removing both frees 20 bytes.
func (e *estimator) cacheFreed(spec pruneSpec, p plan) model.Optional[Reclaimable] {
	cache, known := e.cache.Get()
	if !known {
		return model.Optional[Reclaimable]{}
	}
	// A container may hold the layer of a record, if its image was removed by force.
	isHeld := func(record model.CacheRecord) bool {
		return p.known && slices.ContainsFunc(e.candidates[record.ID], func(at int32) bool { return p.keptLayers[at] })
	}
	removed := removedRecords(cache, spec.cache)
	freed := Reclaimable{Exact: true}
	var own, kept []model.CacheRecord // records that are a layer of a graph driver
	ownKnown := true
	for _, record := range cache {
		switch {
		case !removed[record.ID]:
			if !record.Shared && !isNoLayer(record) {
				kept = append(kept, record)
			}
		case e.store == model.Containerd:
			freed = freed.add(ownSnapshot(record))
		case record.Shared:
		case isNoLayer(record):
			freed = freed.addSize(e.layerSize(record))
		case isHeld(record):
			ownKnown = false
		default:
			own = append(own, record)
		}
	}
	layers := e.exclusiveLayers(own, kept, p.nameMounts)
	layers.Exact = layers.Exact && ownKnown
	pinned, pinnedKnown := p.pinnedBytes.Get()
	if !pinnedKnown && layers.Bytes > 0 {
		return model.Optional[Reclaimable]{}
	}
	freed = freed.add(layers.lessUncertain(pinned))
	freed.Exact = freed.Exact && (spec.images == removeNone || e.isComplete(cache, removed, spec))
	return model.Known(freed)
}

// isComplete reports whether no further record can be removed after the images that share
// it, or that share a record made from it. With graph drivers a shared record is a layer,
// which layersFreed includes.
func (e *estimator) isComplete(cache []model.CacheRecord, removed map[string]bool, spec pruneSpec) bool {
	unshared := slices.Clone(cache)
	for i := range unshared {
		unshared[i].Shared = false
	}
	removable := removedRecords(unshared, spec.cache)
	return !slices.ContainsFunc(cache, func(record model.CacheRecord) bool {
		isCounted := removed[record.ID] || record.Shared && e.store != model.Containerd
		return removable[record.ID] && !isCounted
	})
}

// lessCachedBlobs subtracts the blobs that remaining records hold. A record may hold the
// blob of any layer, unless all layers that it may be of remain.
func (e *estimator) lessCachedBlobs(freed Reclaimable, p plan, remaining []model.CacheRecord) Reclaimable {
	if freed.Bytes == 0 || len(remaining) == 0 {
		return freed
	}
	var kept []model.Image
	for i, image := range e.images {
		if !p.removed[i] {
			kept = append(kept, image)
		}
	}
	stays := e.layers.diffs(kept)
	for _, record := range remaining {
		candidates := e.candidates[record.ID]
		if len(candidates) > 0 && !slices.ContainsFunc(candidates, func(at int32) bool { return !stays[e.layers.layers[at].diff] }) {
			continue
		}
		bytes, known := maxBlob(record).Get()
		if !known {
			return Reclaimable{}
		}
		freed = freed.lessUncertain(bytes)
	}
	return freed
}

// cachePins is what the build cache holds of the layers of images and containers.
type cachePins struct {
	certain, possible []bool // layers
	uncertain         []model.CacheRecord
	isSurvivalKnown   bool // whether a record remains does not depend on which layer it is of
}

// pinsOf returns the layers that records hold after a plan. A record holds its layer and all
// layers below it. Records that only layersFreed accounts for are included even if the
// builder prune removes them, because cacheFreed counts their layers.
func (e *estimator) pinsOf(p plan, remaining []model.CacheRecord) cachePins {
	cache, _ := e.cache.Get()
	pins := cachePins{certain: make([]bool, len(e.layers.layers)), possible: make([]bool, len(e.layers.layers)), isSurvivalKnown: true}
	remains := make(map[string]bool, len(remaining))
	hasTakenChild := make(map[string]bool) // a record made from it was taken from an image that is removed
	for _, record := range remaining {
		remains[record.ID] = true
		for _, parent := range record.Parents {
			hasTakenChild[parent] = hasTakenChild[parent] || record.ExcludesSnapshot && !record.Shared
		}
	}
	isFreed := func(at int32) bool { return p.freedLayers[at] }
	isNotFreed := func(at int32) bool { return !p.freedLayers[at] }
	for _, record := range cache {
		candidates := e.candidates[record.ID]
		if record.Shared && remains[record.ID] && slices.ContainsFunc(candidates, isFreed) && slices.ContainsFunc(candidates, isNotFreed) {
			pins.isSurvivalKnown = false
		}
		switch {
		case !remains[record.ID] && (record.Shared || e.store == model.Containerd): // removed with the images
		case e.store == model.Containerd && !record.ExcludesSnapshot: // has a snapshot of its own
		case e.store == model.Containerd && !record.Shared: // its image is removed, but layers below may remain
			copy(pins.possible, p.freedLayers)
			if !hasTakenChild[record.ID] { // the child holds the same layers and more
				pins.uncertain = append(pins.uncertain, record)
			}
		case record.Shared && len(candidates) == 1:
			e.layers.markAncestors(pins.certain, candidates[0])
		case record.Shared && len(candidates) == 0: // contradicts the images: may be of any layer
			copy(pins.possible, p.freedLayers)
			pins.uncertain = append(pins.uncertain, record)
		default:
			for _, at := range candidates {
				e.layers.markAncestors(pins.possible, at)
			}
			pins.uncertain = append(pins.uncertain, record)
		}
	}
	return pins
}

// lessCachedLayers subtracts the freed layers that build cache records still hold, or that
// cacheFreed counts.
//
// Example: image A = layers 10+20 is removed, and a record of 20 bytes with a parent of 10
// bytes remains: nothing is freed. If image B = layers 10+20, too, is removed, and the
// record may be of either layer of 20 bytes, at least 50−30 = 20 bytes are freed.
func (e *estimator) lessCachedLayers(freed Reclaimable, p plan, remaining []model.CacheRecord) Reclaimable {
	if cache, _ := e.cache.Get(); len(cache) == 0 {
		return freed
	}
	pins := e.pinsOf(p, remaining)
	var certain, possible, ambiguous int64 // bytes of freed layers
	isAmbiguous := false
	chainPossible := make([]int64, len(e.layers.layers)) // possible bytes of each layer and those below it
	for at, layer := range e.layers.layers {
		if layer.parent != noLayer {
			chainPossible[at] = chainPossible[layer.parent]
		}
		if !p.freedLayers[at] {
			continue
		}
		size, _ := layer.size.Get()
		if layer.isAmbiguous {
			isAmbiguous = isAmbiguous || pins.certain[at] || pins.possible[at]
			if !pins.certain[at] {
				ambiguous += size
			}
		}
		switch {
		case pins.certain[at]:
			certain += size
		case pins.possible[at]:
			possible += size
			chainPossible[at] += size
		}
	}
	uncertain := min(possible, e.mostHeld(pins.uncertain, chainPossible, possible))
	freed.Bytes = max(0, freed.Bytes-certain-uncertain)
	freed.Exact = freed.Exact && uncertain == 0 && pins.isSurvivalKnown
	if isAmbiguous {
		return freed.lessUncertain(ambiguous)
	}
	return freed
}

// mostHeld returns the most that records of uncertain layers hold together: each the
// largest of the chains that it may be of.
func (e *estimator) mostHeld(records []model.CacheRecord, chainPossible []int64, possible int64) (sum int64) {
	largest := int64(0)
	for _, bytes := range chainPossible {
		largest = max(largest, bytes)
	}
	for _, record := range records {
		candidates := e.candidates[record.ID]
		most := int64(0)
		for _, at := range candidates {
			most = max(most, chainPossible[at])
		}
		switch {
		case e.store == model.Containerd && !record.Shared:
			most = largest
		case len(candidates) == 0 && record.Shared:
			most = possible
		}
		sum += most
	}
	return sum
}
