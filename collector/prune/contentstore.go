package prune

import (
	"cmp"
	"maps"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// The containerd store keeps, beside the unpacked layers, the blobs that they were unpacked
// from: a compressed copy of each diff, and the manifest and configuration of each image.
// The Engine API does not report the sizes of blobs. It reports the bytes of each image,
// and how many of them other images share (SharedSize, since Engine 29.5). They determine
// the sizes of groups of blobs.

// contentStore holds what is known of the sizes of the blobs of one image list.
type contentStore struct {
	exclusive map[string]blobGroup // blobs of one image only, by image ID
	shared    []blobGroup          // blobs of several images, the largest group first
	estimates []float64            // of each diff's blob, in proportion to the unpacked layer
	groups    [][]blobGroup        // of each diff: those that include its blob
}

// blobGroup is a set of blobs with a known sum of sizes.
type blobGroup struct {
	diffs            []int32
	bytes            int64
	isLowerBound     bool
	includesMetadata bool // bytes includes a manifest and a configuration
}

// inferBlobSizes returns what the sizes of an image list determine about blobs. It returns
// nil if that is nothing, or if sizes contradict each other, as with blobs of other
// platforms, which no inspection shows.
//
// Example: image A = layers 1000+30 and image B = layers 1000+40 share the layer of 1000
// bytes. A has 1538 bytes, of which 1500 are shared: the shared blob has 1500−1000 = 500
// bytes, and the exclusive blobs of A have 1538−1500−30 = 8 bytes.
func inferBlobSizes(t *layerTree, list []model.Image) *contentStore {
	classes := classifyDiffs(t, list)
	if len(list) == 0 || classes == nil {
		return nil
	}
	c := &contentStore{exclusive: make(map[string]blobGroup, len(list))}
	sums := make([]classSum, 0, len(list))
	sharesDiffs, sharesBlobs := false, false
	for i, image := range list {
		exclusive, shared, known := classes.split(t, i, image)
		if !known {
			return nil
		}
		c.exclusive[image.ID] = exclusive
		sums = append(sums, shared)
		sharesDiffs = sharesDiffs || len(shared.classes) > 0
		sharesBlobs = sharesBlobs || shared.bytes > 0
	}
	if sharesDiffs && !sharesBlobs {
		return nil // before Engine 29.5, SharedSize excludes blobs
	}
	sums, consistent := reduce(sums)
	if !consistent {
		return nil
	}
	for _, sum := range sums {
		shared := blobGroup{bytes: sum.bytes}
		for _, class := range sum.classes {
			shared.diffs = append(shared.diffs, classes.members[class]...)
		}
		c.shared = append(c.shared, shared)
	}
	slices.SortFunc(c.shared, func(x, y blobGroup) int {
		return cmp.Or(cmp.Compare(y.bytes, x.bytes), slices.Compare(x.diffs, y.diffs))
	})
	c.distribute(t)
	c.groups = make([][]blobGroup, t.diffCount)
	for _, group := range slices.AppendSeq(slices.Clone(c.shared), maps.Values(c.exclusive)) {
		for _, diff := range group.diffs {
			c.groups[diff] = append(c.groups[diff], group)
		}
	}
	return c
}

// diffClasses divides diffs into equivalence classes: two diffs are in one class if the
// same images of a list have them.
type diffClasses struct {
	classOf    []int32           // of each diff
	members    map[int32][]int32 // diffs of each class that several images have
	diffUsers  []int             // number of images that have each diff
	layerUsers []int             // number of images that have each layer
	diffsOf    [][]int32         // of each image, each once
	repeated   []int64           // upper bound of the blobs that each image has more than once, in bytes
}

// classifyDiffs returns the classes of the diffs of a list, or nil if one of its images is
// not inspected.
//
// Example: image A = diffs x, y, z and image B = diffs x, y have the classes {x, y} and {z}.
func classifyDiffs(t *layerTree, list []model.Image) *diffClasses {
	c := &diffClasses{
		classOf: make([]int32, t.diffCount), members: make(map[int32][]int32), diffUsers: make([]int, t.diffCount),
		layerUsers: make([]int, len(t.layers)), diffsOf: make([][]int32, len(list)), repeated: make([]int64, len(list)),
	}
	classes := int32(1)
	for i, image := range list {
		top, inspected := t.topLayer(image.ID)
		if !inspected {
			return nil
		}
		refined := make(map[int32]int32) // the part of each class that this image has
		seen := make(map[int32]bool)
		for at := top; at != noLayer; at = t.layers[at].parent {
			c.layerUsers[at]++
			diff := t.layers[at].diff
			if seen[diff] {
				size, _ := t.layers[at].size.Get()
				c.repeated[i] += size + archiveOverhead
				continue
			}
			seen[diff] = true
			c.diffsOf[i] = append(c.diffsOf[i], diff)
			c.diffUsers[diff]++
			class, exists := refined[c.classOf[diff]]
			if !exists {
				class = classes
				classes++
				refined[c.classOf[diff]] = class
			}
			c.classOf[diff] = class
		}
	}
	for diff, class := range c.classOf {
		if c.diffUsers[diff] > 1 {
			c.members[class] = append(c.members[class], int32(diff))
		}
	}
	return c
}

// split divides the blobs of an image into the exclusive and the shared ones. It is unknown
// if a size is unknown or impossible.
func (c *diffClasses) split(t *layerTree, i int, image model.Image) (exclusive blobGroup, shared classSum, known bool) {
	var sharedLayers int64 // unpacked
	top, _ := t.topLayer(image.ID)
	for at := top; at != noLayer; at = t.layers[at].parent {
		size, known := t.layers[at].size.Get()
		isShared := c.layerUsers[at] > 1
		if !known || isShared && t.layers[at].isAmbiguous {
			return blobGroup{}, classSum{}, false
		}
		if isShared {
			sharedLayers += size
		}
	}
	size, sizeKnown := image.Size.Get()
	sharedSize, sharedKnown := image.SharedSize.Get()
	unpacked, unpackedKnown := image.Unpacked.Get()
	shared.bytes = sharedSize - sharedLayers
	exclusive = blobGroup{bytes: size - unpacked - shared.bytes, includesMetadata: true}
	if !sizeKnown || !sharedKnown || !unpackedKnown || shared.bytes < 0 || exclusive.bytes < 0 {
		return blobGroup{}, classSum{}, false
	}
	exclusive.bytes += image.IndexSize
	if c.repeated[i] > 0 { // Size counts such a blob twice
		exclusive.bytes, exclusive.isLowerBound = max(0, exclusive.bytes-c.repeated[i]), true
	}
	for _, diff := range c.diffsOf[i] {
		class := c.classOf[diff]
		switch {
		case c.diffUsers[diff] == 1:
			exclusive.diffs = append(exclusive.diffs, diff)
		case !slices.Contains(shared.classes, class):
			shared.classes = append(shared.classes, class)
		}
	}
	slices.Sort(shared.classes)
	return exclusive, shared, true
}

// classSum is the sum of the sizes of all blobs of some classes.
type classSum struct {
	classes []int32 // ascending
	bytes   int64
}

// reduce subtracts sums from those that include them, until no sum includes another one. It
// is not consistent if the sums cannot all be true.
//
// Example: {x} = 5 and {x, y} = 12 become {x} = 5 and {y} = 7.
func reduce(sums []classSum) (reduced []classSum, consistent bool) {
	including := make(map[int32][]int) // sums by the classes in them
	var work []int
	for i := range sums {
		for _, class := range sums[i].classes {
			including[class] = append(including[class], i)
		}
		work = append(work, i)
	}
	slices.SortStableFunc(work, func(i, j int) int { return len(sums[i].classes) - len(sums[j].classes) })
	for len(work) > 0 {
		i := work[0]
		work = work[1:]
		part := sums[i]
		if len(part.classes) == 0 {
			if part.bytes != 0 {
				return nil, false
			}
			continue
		}
		for _, j := range including[part.classes[0]] {
			whole := &sums[j]
			if i == j || len(whole.classes) < len(part.classes) {
				continue
			}
			rest := slices.DeleteFunc(slices.Clone(whole.classes), func(class int32) bool { return slices.Contains(part.classes, class) })
			if len(rest) != len(whole.classes)-len(part.classes) { // not a subset
				continue
			}
			whole.classes, whole.bytes = rest, whole.bytes-part.bytes
			if whole.bytes < 0 {
				return nil, false
			}
			work = append(work, j)
		}
	}
	return slices.DeleteFunc(sums, func(s classSum) bool { return len(s.classes) == 0 }), true
}

// distribute estimates the size of each blob: those of a group are in proportion to the
// unpacked layers.
//
// Example: blobs of 60 bytes together, of layers of 100 and 200 bytes: 20 and 40.
func (c *contentStore) distribute(t *layerTree) {
	unpacked := make([]float64, t.diffCount)
	for _, layer := range t.layers {
		if size, known := layer.size.Get(); known {
			unpacked[layer.diff] = max(1, float64(size))
		}
	}
	c.estimates = make([]float64, t.diffCount)
	done := make([]bool, t.diffCount)
	share := func(group blobGroup) {
		bytes, whole := float64(group.bytes), 0.0
		for _, diff := range group.diffs {
			if done[diff] {
				bytes -= c.estimates[diff]
			} else {
				whole += unpacked[diff]
			}
		}
		for _, diff := range group.diffs {
			if !done[diff] {
				c.estimates[diff] = max(0, bytes) * unpacked[diff] / whole
				done[diff] = true
			}
		}
	}
	for _, group := range c.exclusive {
		share(group)
	}
	smallestFirst := slices.Clone(c.shared)
	slices.SortStableFunc(smallestFirst, func(x, y blobGroup) int { return cmp.Compare(len(x.diffs), len(y.diffs)) })
	for _, group := range smallestFirst {
		share(group)
	}
}

// freed returns the sizes of the blobs of removed images that no other image has. It is
// exact if each of them is in a group that is removed as a whole.
func (c *contentStore) freed(t *layerTree, images []model.Image, isRemoved []bool) Reclaimable {
	if !slices.Contains(isRemoved, true) {
		return Reclaimable{Exact: true}
	}
	if c == nil {
		return Reclaimable{}
	}
	var removed, kept []model.Image
	for i, image := range images {
		if isRemoved[i] {
			removed = append(removed, image)
		} else {
			kept = append(kept, image)
		}
	}
	isRemovedDiff, isKeptDiff := t.diffs(removed), t.diffs(kept)
	freed := Reclaimable{Exact: true}
	counted := make([]bool, t.diffCount)
	count := func(group blobGroup) {
		freed = freed.add(Reclaimable{group.bytes, !group.isLowerBound})
		for _, diff := range group.diffs {
			counted[diff] = true
		}
	}
	for _, image := range removed {
		group, known := c.exclusive[image.ID]
		if known && !slices.ContainsFunc(group.diffs, func(diff int32) bool { return isKeptDiff[diff] }) {
			count(group)
		} else {
			freed.Exact = false // the image, or another one that has its blobs, is newer than the list
		}
	}
	for _, group := range c.shared {
		if !slices.ContainsFunc(group.diffs, func(diff int32) bool { return !isRemovedDiff[diff] || isKeptDiff[diff] || counted[diff] }) {
			count(group)
		}
	}
	for diff := range isRemovedDiff {
		freed.Exact = freed.Exact && (counted[diff] || isKeptDiff[diff] || !isRemovedDiff[diff])
	}
	return freed
}

// usage estimates the sizes of the blobs of images.
func (c *contentStore) usage(t *layerTree, images []model.Image) model.Optional[int64] {
	if c == nil {
		return model.Optional[int64]{}
	}
	var sum float64
	for diff, isHeld := range t.diffs(images) {
		if isHeld {
			sum += c.estimates[diff]
		}
	}
	for _, image := range images {
		if group, listed := c.exclusive[image.ID]; listed {
			if len(group.diffs) == 0 {
				sum += float64(group.bytes)
			}
			continue
		}
		top, inspected := t.topLayer(image.ID)
		if !inspected {
			continue
		}
		// The image is newer than the list: bytes of other blobs are its own.
		size, sizeKnown := image.Size.Get()
		unpacked, unpackedKnown := image.Unpacked.Get()
		if !sizeKnown || !unpackedKnown {
			return model.Optional[int64]{}
		}
		rest := float64(size - unpacked + image.IndexSize)
		for at := top; at != noLayer; at = t.layers[at].parent {
			rest -= c.estimates[t.layers[at].diff]
		}
		sum += max(0, rest)
	}
	return model.Known(int64(sum))
}

// contradicts reports whether the sizes of records rule out that they are of a layer and
// the layers below it, one each. The sizes of such records are those of blobs.
//
// Example: the blobs of layers x and y have 60 bytes together. Records of 50 and 20 bytes
// cannot be of x and y.
func (c *contentStore) contradicts(t *layerTree, top int32, records []model.CacheRecord) bool {
	if c == nil {
		return false
	}
	blobs := make(map[int32]int64) // by diff
	for i, at := len(records)-1, top; i >= 0; i, at = i-1, t.layers[at].parent {
		size, known := records[i].Size.Get()
		diff := t.layers[at].diff
		if _, again := blobs[diff]; again || !known {
			return false
		}
		blobs[diff] = size
	}
	for diff := range blobs {
		for _, group := range c.groups[diff] {
			var sum int64
			isWhole := true
			for _, other := range group.diffs {
				size, exists := blobs[other]
				sum += size
				isWhole = isWhole && exists
			}
			if !group.isLowerBound && (sum > group.bytes || isWhole && !group.includesMetadata && sum != group.bytes) {
				return true
			}
		}
	}
	return false
}
