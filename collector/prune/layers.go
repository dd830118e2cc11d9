package prune

import (
	"cmp"
	"maps"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// layerTree is the layers of inspected images, each once. Engines share a layer if it has the
// same content and lies on the same layers (OCI image specification: chain ID).
type layerTree struct {
	layers []layer          // parents come before their children
	tops   map[string]int32 // by image ID
	sizeOf []int64          // unpacked size of each diff
	diffs  []string         // ID of each diff
}

// layer is one layer on top of its parent.
type layer struct {
	parent  int32 // or none
	diff    int32 // content: the same diff may lie on several parents
	users   int   // number of images
	size    int64 // unpacked
	isSized bool
	isExact bool // the size is proven
}

// emptyDiff is the diff ID of a layer without files: a tar archive of two empty blocks.
const emptyDiff = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// newLayerTree returns the layers of inspected images, by image ID. sizes are those of all
// layers of an image. isCached says that records of the build cache may hold any of them.
//
// Example: image A = diffs x, y and image B = diffs x, z have three layers: x, y on x and z on
// x.
func newLayerTree(contents map[string]model.Content, sizes map[string]int64, isCached bool) *layerTree {
	t := &layerTree{tops: make(map[string]int32, len(contents))}
	diffs := make(map[string]int32, len(contents))
	paths := make(map[[2]int32]int32, len(contents)) // layers by parent and diff
	type chain struct {
		id     string
		layers []int32 // bottom first
	}
	chains := make([]chain, 0, len(contents))
	for _, id := range slices.Sorted(maps.Keys(contents)) {
		c, top := chain{id: id, layers: make([]int32, 0, len(contents[id].DiffIDs))}, int32(none)
		for _, diffID := range contents[id].DiffIDs {
			diff, exists := diffs[diffID]
			if !exists {
				diff = int32(len(diffs))
				diffs[diffID] = diff
				t.diffs = append(t.diffs, diffID)
			}
			path := [2]int32{top, diff}
			at, exists := paths[path]
			if !exists {
				at = int32(len(t.layers))
				paths[path] = at
				t.layers = append(t.layers, layer{parent: top, diff: diff, isSized: diffID == emptyDiff, isExact: diffID == emptyDiff})
			}
			t.layers[at].users++
			top = at
			c.layers = append(c.layers, top)
		}
		t.tops[id] = top
		chains = append(chains, c)
	}
	slices.SortStableFunc(chains, func(a, b chain) int { return cmp.Compare(len(a.layers), len(b.layers)) })
	for i := range 2 * len(chains) { // the second time, all conflicts are known
		c := chains[i%len(chains)]
		total, known := sizes[c.id]
		if steps := stepsOf(contents[c.id].History, len(c.layers)); len(steps) == len(c.layers) && (!known || sum(steps) == total) {
			t.assign(c.layers, steps)
		}
	}
	for _, c := range chains {
		if total, known := sizes[c.id]; known {
			t.assignRest(c.layers, total, isCached)
		}
	}
	t.sizeOf = make([]int64, len(diffs))
	for _, l := range t.layers {
		t.sizeOf[l.diff] = max(t.sizeOf[l.diff], l.size)
	}
	return t
}

// stepsOf returns the sizes of the steps of a history that made the given number of layers, or
// another number of steps if it is not clear which ones did. The Engine API does not report
// which steps of size 0 made a layer (moby: image.History.EmptyLayer).
//
// Example: 2 layers, steps COPY 5, ENV 0, WORKDIR 0: the steps that can make a layer are 5, 0.
func stepsOf(history []model.Step, layers int) (steps []int64) {
	var nonZero []int64
	for _, step := range history {
		if step.Size > 0 {
			nonZero = append(nonZero, step.Size)
		}
		if step.Size > 0 || !step.NoLayer {
			steps = append(steps, step.Size)
		}
	}
	if len(nonZero) == layers {
		return nonZero
	}
	return steps
}

func sum(sizes []int64) (bytes int64) {
	for _, size := range sizes {
		bytes += size
	}
	return bytes
}

// assign sets the sizes of the layers of an image. No size of a history is proven that
// contradicts another one.
func (t *layerTree) assign(layers []int32, sizes []int64) {
	isConsistent := true
	for i, at := range layers {
		l := &t.layers[at]
		if !l.isSized {
			l.size, l.isSized, l.isExact = sizes[i], true, true
		}
		isConsistent = isConsistent && l.isExact && l.size == sizes[i]
	}
	for _, at := range layers {
		t.layers[at].isExact = t.layers[at].isExact && isConsistent
	}
}

// assignRest sizes the layers that no history sizes from the size of their image. The layers
// of the same images at the bottom get the rest, as one. It is proven if there are no others,
// and if nothing can hold a part of them.
//
// Example: base = layers w, x of 20 bytes, A = layers w, x, y of 23 bytes, both without
// history: w and x together are 20, y is 3. Without base, all three layers are 23 together.
func (t *layerTree) assignRest(layers []int32, total int64, isCached bool) {
	rest, isExact := total, true
	segment := int32(none)
	for _, at := range layers {
		l := &t.layers[at]
		switch {
		case l.isSized:
			rest -= l.size
			isExact = isExact && l.isExact
		case segment == none || t.layers[segment].users == l.users:
			isExact = isExact && (segment == none || !isCached)
			segment = at
		default:
			isExact = false
		}
	}
	if segment == none {
		return
	}
	isExact = isExact && rest >= 0
	for _, at := range layers {
		if l := &t.layers[at]; !l.isSized {
			l.isSized, l.isExact = true, isExact
		}
	}
	t.layers[segment].size = max(0, rest)
}

// chain returns the size of a layer and all layers below it.
func (t *layerTree) chain(top int32) (bytes int64) {
	for at := top; at != none; at = t.layers[at].parent {
		bytes += t.layers[at].size
	}
	return bytes
}
