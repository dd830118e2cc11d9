package prune

import (
	"cmp"
	"maps"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// The containerd store keeps, beside the unpacked layers, the blobs that they were
// unpacked from: a compressed copy of each diff, and each image's manifest and
// configuration. The API tells the size of no blob, but of each image all bytes, and
// the bytes that it shares with any other image (SharedSize, from Engine 29.5 on).
// From these follows what some of the blobs weigh together.

// Blobs are what is known of the blobs of the images of one list.
type blobs struct {
	own     map[string]lump // by image ID: what no other image had
	shared  []lump          // what several images had, the largest first
	weights []float64       // by diff: if bytes of unpacked and compressed layers are proportional
	lumps   [][]lump        // by diff: those that hold it
}

// A lump is diffs whose blobs weigh so many bytes together. The own lump of an image
// holds its manifest and configuration, too.
type lump struct {
	diffs  []int32
	bytes  int64
	rather bool // or rather more
	owner  bool // or rather less, by a manifest and a configuration
}

// weigh finds what a list's sizes say of blobs. It is nil if they say nothing, or
// contradict each other, as with blobs of other platforms, which no inspection shows.
func weigh(l *Layers, list []model.Image) *blobs {
	if len(list) == 0 {
		return nil
	}
	layerUsers, diffUsers := make([]int, len(l.layers)), make([]int, l.diffCount)
	sets := make([]int32, l.diffCount) // diffs of one set are those that the same images have
	next := int32(1)
	held := make([][]int32, len(list))
	repeated := make([]int64, len(list)) // what the blobs weigh at most that an image has twice
	for i, image := range list {
		top, known := l.top(image.ID)
		if !known {
			return nil
		}
		split := make(map[int32]int32) // each set so far is now two: with this image and without
		seen := make(map[int32]bool)
		for at := top; at != bottom; at = l.layers[at].under {
			layerUsers[at]++
			diff := l.layers[at].diff
			if seen[diff] {
				size, _ := l.layers[at].size.Get()
				repeated[i] += size + archiveOverhead
				continue
			}
			seen[diff] = true
			held[i] = append(held[i], diff)
			diffUsers[diff]++
			set, known := split[sets[diff]]
			if !known {
				set = next
				next++
				split[sets[diff]] = set
			}
			sets[diff] = set
		}
	}

	b := &blobs{own: make(map[string]lump, len(list))}
	members := make(map[int32][]int32) // of each set
	var sums []sum
	sharesDiffs, sharesBlobs := false, false
	for i, image := range list {
		var sharedUnpacked int64
		top, _ := l.top(image.ID)
		for at := top; at != bottom; at = l.layers[at].under {
			size, known := l.layers[at].size.Get()
			if !known || layerUsers[at] > 1 && l.layers[at].guessed {
				return nil
			}
			if layerUsers[at] > 1 {
				sharedUnpacked += size
			}
		}
		size, sizeKnown := image.Size.Get()
		shared, sharedKnown := image.SharedSize.Get()
		unpacked, unpackedKnown := image.Unpacked.Get()
		own, common := lump{bytes: size - unpacked - shared + sharedUnpacked, owner: true}, sum{bytes: shared - sharedUnpacked}
		if !sizeKnown || !sharedKnown || !unpackedKnown || common.bytes < 0 || own.bytes < 0 {
			return nil
		}
		own.bytes += image.IndexSize
		if repeated[i] > 0 { // an image's size counts such a blob twice
			own.bytes, own.rather = max(0, own.bytes-repeated[i]), true
		}
		for _, diff := range held[i] {
			set := sets[diff]
			switch {
			case diffUsers[diff] == 1:
				own.diffs = append(own.diffs, diff)
			case !slices.Contains(common.sets, set):
				common.sets = append(common.sets, set)
				fallthrough
			default:
				if !slices.Contains(members[set], diff) {
					members[set] = append(members[set], diff)
				}
			}
		}
		b.own[image.ID] = own
		sums = append(sums, common)
		sharesDiffs = sharesDiffs || len(common.sets) > 0
		sharesBlobs = sharesBlobs || common.bytes > 0
	}
	if sharesDiffs && !sharesBlobs {
		return nil // before Engine 29.5 it counts unpacked layers only
	}
	sums, consistent := reduce(sums)
	if !consistent {
		return nil
	}
	for _, sum := range sums {
		shared := lump{bytes: sum.bytes}
		for _, set := range sum.sets {
			shared.diffs = append(shared.diffs, members[set]...)
		}
		b.shared = append(b.shared, shared)
	}
	slices.SortFunc(b.shared, func(x, y lump) int {
		return cmp.Or(cmp.Compare(y.bytes, x.bytes), slices.Compare(x.diffs, y.diffs))
	})
	b.apportion(l)
	b.lumps = make([][]lump, l.diffCount)
	for _, lump := range slices.AppendSeq(slices.Clone(b.shared), maps.Values(b.own)) {
		for _, diff := range lump.diffs {
			b.lumps[diff] = append(b.lumps[diff], lump)
		}
	}
	return b
}

// contradict tells whether records cannot be of a layer and of those under it, one
// each: the sizes of such records are those of blobs.
func (b *blobs) contradict(l *Layers, top int32, records []model.CacheRecord) bool {
	if b == nil {
		return false
	}
	bytes := make(map[int32]int64) // by diff
	for i, at := len(records)-1, top; i >= 0; i, at = i-1, l.layers[at].under {
		size, known := records[i].Size.Get()
		diff := l.layers[at].diff
		if _, again := bytes[diff]; again || !known {
			return false
		}
		bytes[diff] = size
	}
	for diff := range bytes {
		for _, lump := range b.lumps[diff] {
			var sum int64
			whole := true
			for _, other := range lump.diffs {
				size, there := bytes[other]
				sum += size
				whole = whole && there
			}
			if !lump.rather && (sum > lump.bytes || whole && !lump.owner && sum != lump.bytes) {
				return true
			}
		}
	}
	return false
}

// A sum says that some sets of diffs weigh so many bytes together.
type sum struct {
	sets  []int32 // ascending
	bytes int64
}

// reduce takes from each sum those that are part of it, until no sum is part of
// another. Sums that cannot all be true are not consistent.
func reduce(sums []sum) (reduced []sum, consistent bool) {
	with := make(map[int32][]int) // sums by the sets in them
	for i := range sums {
		slices.Sort(sums[i].sets)
		for _, set := range sums[i].sets {
			with[set] = append(with[set], i)
		}
	}
	var work []int
	for i := range sums {
		work = append(work, i)
	}
	slices.SortStableFunc(work, func(i, j int) int { return len(sums[i].sets) - len(sums[j].sets) })
	for len(work) > 0 {
		i := work[0]
		work = work[1:]
		part := sums[i]
		if len(part.sets) == 0 {
			if part.bytes != 0 {
				return nil, false
			}
			continue
		}
		for _, j := range with[part.sets[0]] {
			whole := &sums[j]
			if i == j || len(whole.sets) < len(part.sets) {
				continue
			}
			left := slices.DeleteFunc(slices.Clone(whole.sets), func(set int32) bool { return slices.Contains(part.sets, set) })
			if len(left) != len(whole.sets)-len(part.sets) {
				continue
			}
			whole.sets, whole.bytes = left, whole.bytes-part.bytes
			if whole.bytes < 0 {
				return nil, false
			}
			work = append(work, j)
		}
	}
	return slices.DeleteFunc(sums, func(s sum) bool { return len(s.sets) == 0 }), true
}

// apportion shares the bytes of each lump out to its diffs.
func (b *blobs) apportion(l *Layers) {
	unpacked := make([]float64, l.diffCount)
	for _, layer := range l.layers {
		if size, known := layer.size.Get(); known {
			unpacked[layer.diff] = max(1, float64(size))
		}
	}
	b.weights = make([]float64, l.diffCount)
	done := make([]bool, l.diffCount)
	share := func(lump lump) {
		bytes, whole := float64(lump.bytes), 0.0
		for _, diff := range lump.diffs {
			if done[diff] {
				bytes -= b.weights[diff]
			} else {
				whole += unpacked[diff]
			}
		}
		for _, diff := range lump.diffs {
			if !done[diff] {
				b.weights[diff] = max(0, bytes) * unpacked[diff] / whole
				done[diff] = true
			}
		}
	}
	for _, lump := range b.own {
		share(lump)
	}
	fewest := slices.Clone(b.shared)
	slices.SortStableFunc(fewest, func(x, y lump) int { return cmp.Compare(len(x.diffs), len(y.diffs)) })
	for _, lump := range fewest {
		share(lump)
	}
}

// freed is what blobs weigh that go with some images while others stay. It is a lower
// bound, exact if all of them are known.
func (b *blobs) freed(l *Layers, images []model.Image, isRemoved []bool) Reclaimable {
	if !slices.Contains(isRemoved, true) {
		return Reclaimable{Exact: true}
	}
	if b == nil {
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
	gone, stays := l.diffs(removed), l.diffs(kept)
	goes := func(diff int32) bool { return gone[diff] && !stays[diff] }
	freed := Reclaimable{Exact: true}
	counted := make([]bool, len(b.weights))
	count := func(lump lump) {
		freed = freed.plus(Reclaimable{lump.bytes, !lump.rather})
		for _, diff := range lump.diffs {
			counted[diff] = true
		}
	}
	for _, image := range removed {
		own, known := b.own[image.ID]
		if known && !slices.ContainsFunc(own.diffs, func(diff int32) bool { return stays[diff] }) {
			count(own)
		} else {
			freed.Exact = false // what is new since the list, or is shared since then
		}
	}
	for _, lump := range b.shared {
		if !slices.ContainsFunc(lump.diffs, func(diff int32) bool { return !goes(diff) || counted[diff] }) {
			count(lump)
		}
	}
	for diff := range gone {
		freed.Exact = freed.Exact && (counted[diff] || stays[diff] || !gone[diff])
	}
	return freed
}

// usage estimates what the blobs of images weigh.
func (b *blobs) usage(l *Layers, images []model.Image) model.Optional[int64] {
	if b == nil {
		return model.Optional[int64]{}
	}
	var sum float64
	for diff, held := range l.diffs(images) {
		if held {
			sum += b.weights[diff]
		}
	}
	for _, image := range images {
		if own, known := b.own[image.ID]; known {
			if len(own.diffs) == 0 {
				sum += float64(own.bytes)
			}
			continue
		}
		// It is new since the list: all that is not accounted for is its own.
		size, known := image.Size.Get()
		unpacked, unpackedKnown := image.Unpacked.Get()
		if !known || !unpackedKnown {
			return model.Optional[int64]{}
		}
		left := float64(size - unpacked + image.IndexSize)
		top, _ := l.top(image.ID)
		for at := top; at != bottom; at = l.layers[at].under {
			left -= b.weights[l.layers[at].diff]
		}
		sum += max(0, left)
	}
	return model.Known(int64(sum))
}

// diffs tells which diffs images hold.
func (l *Layers) diffs(images []model.Image) []bool {
	marks, _ := l.mark(images)
	held := make([]bool, l.diffCount)
	for i, marked := range marks {
		if marked {
			held[l.layers[i].diff] = true
		}
	}
	return held
}
