package prune

import (
	"cmp"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// The Engine API reports no sizes of blobs, but the bytes of each image of a list, and how
// many of them other images share (SharedSize, with blobs since Engine 29.5).

// blobs is what the sizes of an image list say about blobs.
type blobs struct {
	tree    *layerTree
	sizes   []int64 // most likely, of each diff
	weights []int64 // unpacked size of each diff
	classOf []int32 // of each diff, or none
	classes []blobClass
	own     map[string]int32 // class of what only one image has, by image ID

	layerUsers []int // number of images of the list that have each layer
	isComplete bool  // the layers of all images of the list are known
}

// blobClass is the blobs that the same images of a list have. What only one image has also
// includes its manifest, configuration and index.
type blobClass struct {
	diffs   []int32
	users   int
	bytes   int64
	certain int64 // bytes if they are proven
	isSized bool
}

// newBlobs sizes the blobs of an image list. known are sizes of diffs that are known
// otherwise.
//
// Example: base = layer 1000, A = layers 1000+30, B = layers 1000+40. A has 1538 bytes, of
// which it shares 1500: its own blobs have 1538-1500-30 = 8 bytes, the blob of base 500.
func newBlobs(t *layerTree, list []model.Image, known map[int32]int64) *blobs {
	b := &blobs{tree: t, sizes: make([]int64, t.diffs), weights: make([]int64, t.diffs), classOf: slices.Repeat([]int32{none}, t.diffs),
		own: make(map[string]int32), layerUsers: make([]int, len(t.layers)), isComplete: true}
	for _, l := range t.layers {
		b.weights[l.diff] = max(1, l.size)
	}
	for diff, bytes := range known {
		b.sizes[diff] = bytes
	}
	b.classify(list)
	var sums []sharedSum
	for _, image := range list {
		sums = append(sums, b.split(image))
	}
	slices.SortStableFunc(sums, func(x, y sharedSum) int { return cmp.Compare(len(x.classes), len(y.classes)) })
	for again := true; again; {
		again = false
		for _, s := range sums {
			if rest, unsized := b.rest(s); s.isProven && len(unsized) == 1 {
				b.size(unsized[0], rest, rest >= 0)
				again = true
			}
		}
	}
	for _, s := range sums {
		rest, unsized := b.rest(s)
		var weight int64
		for _, class := range unsized {
			weight += b.weigh(b.classes[class].diffs)
		}
		for _, class := range unsized {
			b.size(class, scale(max(0, rest), b.weigh(b.classes[class].diffs), weight), false)
		}
	}
	return b
}

// classify divides diffs into classes: two diffs are in one class if the same images of the
// list have them.
//
// Example: image A = diffs x, y, z and image B = diffs x, y have the classes {x, y} and {z},
// and a class without diffs for what only B has.
func (b *blobs) classify(list []model.Image) {
	classOf, users := make([]int32, b.tree.diffs), make([]int, b.tree.diffs)
	next := int32(1)
	for _, image := range list {
		top, inspected := b.tree.tops[image.ID]
		b.isComplete = b.isComplete && inspected
		refined, seen := make(map[int32]int32), make(map[int32]bool)
		for at := top; inspected && at != none; at = b.tree.layers[at].parent {
			b.layerUsers[at]++
			diff := b.tree.layers[at].diff
			if seen[diff] {
				continue
			}
			seen[diff] = true
			users[diff]++
			class, exists := refined[classOf[diff]]
			if !exists {
				class = next
				next++
				refined[classOf[diff]] = class
			}
			classOf[diff] = class
		}
	}
	index := make(map[int32]int32)
	for diff, class := range classOf {
		if users[diff] == 0 {
			continue
		}
		i, exists := index[class]
		if !exists {
			i = int32(len(b.classes))
			index[class] = i
			b.classes = append(b.classes, blobClass{users: users[diff]})
		}
		b.classOf[diff] = i
		b.classes[i].diffs = append(b.classes[i].diffs, int32(diff))
	}
}

// sharedSum is the size of all blobs of an image that other images have, too.
type sharedSum struct {
	classes  []int32
	bytes    int64
	isProven bool
}

// split sizes what only one image has, and returns the rest. Without SharedSize, blobs are in
// proportion to unpacked layers.
func (b *blobs) split(image model.Image) (s sharedSum) {
	var chain, sharedLayers, weight, sharedWeight int64
	own, seen := int32(none), make(map[int32]bool)
	s.isProven = b.isComplete && !image.SeveralPlatforms
	top, inspected := b.tree.tops[image.ID]
	for at := top; inspected && at != none; at = b.tree.layers[at].parent {
		l := b.tree.layers[at]
		chain += l.size
		class := b.classOf[l.diff]
		if b.layerUsers[at] > 1 {
			sharedLayers += l.size
		}
		weight += b.weights[l.diff]
		s.isProven = s.isProven && l.isExact && !seen[l.diff] // Size counts a repeated blob twice
		switch seen[l.diff] = true; {
		case b.classes[class].users == 1:
			own = class
			continue
		case !slices.Contains(s.classes, class):
			s.classes = append(s.classes, class)
		}
		sharedWeight += b.weights[l.diff]
	}
	if own == none {
		own = int32(len(b.classes))
		b.classes = append(b.classes, blobClass{users: 1})
	}
	b.own[image.ID] = own
	size, sizeKnown := image.Size.Get()
	shared, sharedKnown := image.SharedSize.Get()
	unpacked := sizeOr(image.Unpacked, chain)
	s.bytes = shared - sharedLayers
	isCounted := sharedKnown && s.bytes >= 0 && (s.bytes > 0 || sharedWeight == 0) // before Engine 29.5 without blobs
	s.isProven = s.isProven && sizeKnown && isCounted && image.Unpacked.IsKnown() && size-unpacked >= s.bytes
	if !isCounted {
		s.bytes = scale(max(0, size-unpacked), sharedWeight, max(1, weight))
	}
	b.size(own, max(0, size-unpacked-s.bytes)+image.IndexSize, s.isProven)
	return s
}

// rest returns the classes of a sum that are not sized, and their size.
func (b *blobs) rest(s sharedSum) (bytes int64, unsized []int32) {
	bytes = s.bytes
	for _, class := range s.classes {
		if b.classes[class].isSized {
			bytes -= b.classes[class].bytes
		} else {
			unsized = append(unsized, class)
		}
	}
	return bytes, unsized
}

// size sets the size of a class, and divides it among the blobs whose sizes are not known: in
// proportion to the unpacked layers.
//
// Example: blobs of 60 bytes together, of layers of 100 and 200 bytes: 20 and 40.
func (b *blobs) size(class int32, bytes int64, isProven bool) {
	c := &b.classes[class]
	c.bytes, c.isSized = max(0, bytes), true
	if isProven {
		c.certain = c.bytes
	}
	rest, unknown := c.bytes, []int32(nil)
	if c.users == 1 {
		rest = max(0, rest-metadataSize)
	}
	for _, diff := range c.diffs {
		if b.sizes[diff] == 0 {
			unknown = append(unknown, diff)
		}
		rest -= b.sizes[diff]
	}
	weight := b.weigh(unknown)
	for _, diff := range unknown {
		part := scale(max(0, rest), b.weights[diff], weight)
		rest, weight = rest-part, weight-b.weights[diff]
		b.sizes[diff] = part
	}
}

// metadataSize is the usual size of a manifest and a configuration in bytes.
const metadataSize = 2500

// weigh returns the unpacked size of diffs.
func (b *blobs) weigh(diffs []int32) (bytes int64) {
	for _, diff := range diffs {
		bytes += b.weights[diff]
	}
	return bytes
}

// scale returns a part of bytes.
func scale(bytes, part, whole int64) int64 {
	if whole <= 0 {
		return 0
	}
	return int64(float64(bytes) * (float64(part) / float64(whole)))
}

// metadata returns what an image has besides blobs of layers. Of an image that is newer than
// the list, these are all bytes that the list does not know.
func (b *blobs) metadata(image model.Image) piece {
	p := piece{parent: none, isOpen: true}
	if class, listed := b.own[image.ID]; listed {
		c := b.classes[class]
		p.likely, p.isOpen = c.bytes, c.certain != c.bytes
		for _, diff := range c.diffs {
			p.likely -= b.sizes[diff]
		}
	} else if top, inspected := b.tree.tops[image.ID]; inspected {
		size, _ := image.Size.Get()
		p.likely = size - sizeOr(image.Unpacked, b.tree.chain(top)) + image.IndexSize
		for at := top; at != none; at = b.tree.layers[at].parent {
			p.likely -= b.sizes[b.tree.layers[at].diff]
		}
	}
	p.likely = max(0, p.likely)
	return p
}
