package prune

import "docker_buildup_exporter/collector/model"

// Several records of the build cache may be of one layer: a build without the cache repeats
// a step, or another build makes it on an image. BuildKit counts the layer for each record;
// a graph driver stores it once.
//
// The Engine API does not report which records are of one layer. But two records of one
// layer have the same size, and the layers below them have the same sizes.

// A chain number identifies the sizes of all layers below a record. Numbers above
// rootChain are those of chainKeys.keys.
const (
	unknownChain = int32(iota)
	rootChain    // no layer
)

// chainKey identifies a layer by the chain below it and its size.
type chainKey struct {
	chain int32
	size  int64
}

// chainKeys holds the chains of the records of the build cache.
type chainKeys struct {
	below map[string]int32 // the chain below each record, by record ID
	keys  []chainKey       // the top layer of each chain, by chain number
}

// chainsOf returns the chains of records.
//
// Example: records R = 10 bytes, S = 20 bytes made from R, T = 10 bytes, U = 20 bytes made
// from T. R and T are on the root chain, S and U on the same chain of 10 bytes.
func (e *estimator) chainsOf(cache []model.CacheRecord) chainKeys {
	byID := make(map[string]model.CacheRecord, len(cache))
	for _, record := range cache {
		byID[record.ID] = record
	}
	c := chainKeys{below: make(map[string]int32, len(cache)), keys: make([]chainKey, rootChain+1)}
	numbers := make(map[chainKey]int32)
	var below func(record model.CacheRecord) int32
	below = func(record model.CacheRecord) int32 {
		if chain, known := c.below[record.ID]; known {
			return chain
		}
		chain := unknownChain
		c.below[record.ID] = chain // for records that are their own ancestors
		switch parents := record.Parents; {
		case len(parents) == 0:
			chain = rootChain
		case len(parents) == 1 && byID[parents[0]].ID != "":
			parent := byID[parents[0]]
			parentChain := below(parent)
			if size, known := e.layerSize(parent).Get(); known && parentChain != unknownChain {
				key := chainKey{parentChain, size}
				if numbers[key] == 0 {
					numbers[key] = int32(len(c.keys))
					c.keys = append(c.keys, key)
				}
				chain = numbers[key]
			}
		}
		c.below[record.ID] = chain
		return chain
	}
	for _, record := range cache {
		below(record)
	}
	return c
}

// layerSize returns the size of what a graph driver stores for a record. It is unknown if
// the record's own size is not that of its layer.
func (e *estimator) layerSize(record model.CacheRecord) model.Optional[int64] {
	switch candidates := e.candidates[record.ID]; {
	case !record.ExcludesSnapshot && !record.Rewritten:
		return record.Size
	case record.Shared && len(candidates) == 1 && !e.hasFailed && !e.layers.layers[candidates[0]].isAmbiguous:
		return e.layers.layers[candidates[0]].size
	default:
		return model.Optional[int64]{}
	}
}

// sizeClass is the removed records of one size that are layers.
type sizeClass struct {
	records   int
	chains    map[int32]bool // below these records, unless unknown
	kept      map[int32]bool // chains below kept records of the size: their layers are kept
	anyChains int            // kept records on unknown chains: each may keep a layer on any chain
}

// layers returns the least number of layers that only the removed records have. A removed
// record on an unknown chain may be of a layer that is counted or kept.
//
// Example: three records of the size on two chains, and a kept one on one of them: 1.
func (c *sizeClass) layers() int {
	if len(c.chains)+len(c.kept)+c.anyChains == 0 {
		return 1
	}
	n := -c.anyChains
	for chain := range c.chains {
		if !c.kept[chain] {
			n++
		}
	}
	return max(0, n)
}

// exclusiveLayers returns the sizes of the layers that a graph driver stores for the removed
// records only: neither for kept records nor for so many mounts of unidentified images.
//
// Example: two removed records of 20 bytes without parents are counted as one layer: at
// least 20 bytes.
func (e *estimator) exclusiveLayers(removed, kept []model.CacheRecord, nameMounts int) Reclaimable {
	classes, isKnown := e.sizeClasses(removed)
	unsized := e.addKept(classes, kept)
	sum := Reclaimable{Exact: isKnown}
	var sizes []int64
	for size, class := range classes {
		layers := class.layers()
		for range layers {
			sizes = append(sizes, size)
			sum = sum.add(Reclaimable{size, true})
		}
		sum.Exact = sum.Exact && layers == class.records
	}
	sum = sum.lessUncertain(sumLargest(sizes, unsized))
	if nameMounts > 0 {
		sum = sum.lessUncertain(e.chains.largest(classes, nameMounts))
	}
	return sum
}

// sizeClasses returns the classes of removed records by size, and whether all sizes are
// known.
func (e *estimator) sizeClasses(removed []model.CacheRecord) (classes map[int64]*sizeClass, isKnown bool) {
	classes, isKnown = make(map[int64]*sizeClass), true
	for _, record := range removed {
		size, known := e.layerSize(record).Get()
		isKnown = isKnown && known
		if size == 0 {
			continue
		}
		if classes[size] == nil {
			classes[size] = &sizeClass{chains: make(map[int32]bool), kept: make(map[int32]bool)}
		}
		classes[size].records++
		if chain := e.chains.below[record.ID]; chain != unknownChain {
			classes[size].chains[chain] = true
		}
	}
	return classes, isKnown
}

// addKept adds kept records to classes. It returns the number of kept records of unknown
// size: each may keep a layer of any size.
func (e *estimator) addKept(classes map[int64]*sizeClass, kept []model.CacheRecord) (unsized int) {
	for _, record := range kept {
		size, known := e.layerSize(record).Get()
		chain, class := e.chains.below[record.ID], classes[size]
		switch {
		case !known:
			unsized++
		case class == nil: // no removed record has this size
		case chain == unknownChain:
			class.anyChains++
		default:
			class.kept[chain] = true
		}
	}
	return unsized
}

// largest returns the most that so many mounts, each of one layer and all layers below it,
// hold of the layers of removed records. A record on an unknown chain may be in any of them.
func (c chainKeys) largest(classes map[int64]*sizeClass, mounts int) (bytes int64) {
	chainBytes := func(key chainKey, below int64) int64 {
		if class := classes[key.size]; class != nil && class.chains[key.chain] && !class.kept[key.chain] {
			return below + key.size
		}
		return below
	}
	below := make([]int64, len(c.keys)) // by chain number; a chain comes after the one below it
	for chain := rootChain + 1; chain < int32(len(c.keys)); chain++ {
		key := c.keys[chain]
		below[chain] = chainBytes(key, below[key.chain])
	}
	var chains []int64
	for size, class := range classes {
		if len(class.chains) == 0 {
			bytes += size * int64(class.layers())
		}
		for chain := range class.chains {
			chains = append(chains, chainBytes(chainKey{chain, size}, below[chain]))
		}
	}
	return bytes + sumLargest(chains, mounts)
}
