package prune

import (
	"maps"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// layerTree holds the layers of images, each once. Engines share a layer if it has the same
// content and lies on the same layers (OCI image specification: chain ID), so layers form
// trees. A layerTree does not change.
type layerTree struct {
	layers    []layer          // parents come before their children
	tops      map[string]int32 // by image ID
	blobs     *contentStore    // nil if the sizes of blobs are unknown
	failed    map[string]bool  // IDs of images whose inspection failed
	diffCount int
}

// layer is one layer on top of its parent.
type layer struct {
	parent int32 // or noLayer
	diff   int32 // content: the same diff may lie on several parents
	size   model.Optional[int64]

	// isAmbiguous says that the history permits another size for this layer, or for layers
	// of the same image both below and above it.
	isAmbiguous bool
}

const noLayer = -1 // the parent of a bottom layer; the top of an image without layers

// emptyDiff is the diff ID of a layer without files: a tar archive of two empty blocks.
const emptyDiff = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// buildLayerTree returns the layers of inspected images, by image ID. The list is of the
// containerd store and of a time at which it had these images only: the sizes of blobs are
// inferred from it. failed are the IDs of images whose inspection failed.
//
// Example: image A = diffs x, y and image B = diffs x, z have three layers: x, y on x and
// z on x.
func buildLayerTree(contents map[string]model.Content, list []model.Image, failed map[string]bool) *layerTree {
	t := &layerTree{tops: make(map[string]int32, len(contents)), failed: failed}
	diffs := make(map[string]int32, len(contents))
	paths := make(map[uint64]int32, len(contents)) // layers by parent and diff
	chains := make([]chain, 0, len(contents))
	for _, id := range slices.Sorted(maps.Keys(contents)) {
		content := contents[id]
		top := int32(noLayer)
		layers := make([]int32, 0, len(content.DiffIDs))
		for _, diffID := range content.DiffIDs {
			diff, exists := diffs[diffID]
			if !exists {
				diff = int32(len(diffs))
				diffs[diffID] = diff
			}
			path := uint64(uint32(top))<<32 | uint64(diff)
			next, exists := paths[path]
			if !exists {
				next = int32(len(t.layers))
				paths[path] = next
				added := layer{parent: top, diff: diff}
				if diffID == emptyDiff {
					added.size = model.Known[int64](0)
				}
				t.layers = append(t.layers, added)
			}
			top = next
			layers = append(layers, top)
		}
		t.tops[id] = top
		chains = append(chains, newChain(layers, content.History))
	}
	t.diffCount = len(diffs)
	t.assignSizes(chains)
	t.blobs = inferBlobSizes(t, list)
	return t
}

// topLayer returns the top layer of an image, and whether the image is inspected.
func (t *layerTree) topLayer(imageID string) (top int32, inspected bool) {
	top, inspected = t.tops[imageID]
	if !inspected {
		return noLayer, false
	}
	return top, true
}

// count returns the number of layers of images, each once. Images whose inspection failed
// are left out. Unknown if another image is not inspected.
func (t *layerTree) count(images []model.Image) model.Optional[int] {
	if t.hasPending(images) {
		return model.Optional[int]{}
	}
	n := 0
	for _, isMarked := range t.mark(images) {
		if isMarked {
			n++
		}
	}
	return model.Known(n)
}

// hasPending reports whether one of the images is not inspected yet.
func (t *layerTree) hasPending(images []model.Image) bool {
	return slices.ContainsFunc(images, func(image model.Image) bool {
		_, inspected := t.topLayer(image.ID)
		return !inspected && !t.failed[image.ID]
	})
}

// mark marks the layers of inspected images.
func (t *layerTree) mark(images []model.Image) []bool {
	marks := make([]bool, len(t.layers))
	for _, image := range images {
		top, _ := t.topLayer(image.ID)
		t.markAncestors(marks, top)
	}
	return marks
}

// markAncestors marks a layer and all layers below it.
func (t *layerTree) markAncestors(marks []bool, top int32) {
	for at := top; at != noLayer && !marks[at]; at = t.layers[at].parent {
		marks[at] = true
	}
}

// diffs marks the diffs of inspected images.
func (t *layerTree) diffs(images []model.Image) []bool {
	marks := make([]bool, t.diffCount)
	for at, isMarked := range t.mark(images) {
		if isMarked {
			marks[t.layers[at].diff] = true
		}
	}
	return marks
}

// chainBytes returns the sum of the known sizes of a layer and all layers below it.
func (t *layerTree) chainBytes(top int32) (bytes int64) {
	for at := top; at != noLayer; at = t.layers[at].parent {
		size, _ := t.layers[at].size.Get()
		bytes += size
	}
	return bytes
}

// sum returns the sum of the sizes of marked layers. It is exact if all of them are known.
func (t *layerTree) sum(marks []bool) Reclaimable {
	sum := Reclaimable{Exact: true}
	for at, isMarked := range marks {
		if isMarked {
			sum = sum.addSize(t.layers[at].size)
		}
	}
	return sum
}

// ambiguousBytes returns how many bytes of marked layers may belong to other layers. This
// is 0 as long as no two ambiguous layers on each other are separated: one marked, the
// other not; or both marked, and the lower one shared by several ambiguous layers.
//
// Example: layers x, y and z of an image have the steps 10, 0, 20, 0, so y is 0 or 20
// bytes. If x, y and z are marked, their sum is 30 either way. If z alone is marked, its
// size may belong to y.
func (t *layerTree) ambiguousBytes(marks []bool) (bytes int64) {
	isSeparated, hasAmbiguousChild := false, make([]bool, len(t.layers))
	for at, layer := range t.layers {
		if !layer.isAmbiguous {
			continue
		}
		if parent := layer.parent; parent != noLayer && t.layers[parent].isAmbiguous {
			isSeparated = isSeparated || marks[at] != marks[parent] || marks[at] && hasAmbiguousChild[parent]
			hasAmbiguousChild[parent] = true
		}
		if marks[at] {
			size, _ := layer.size.Get()
			bytes += size
		}
	}
	if !isSeparated {
		return 0
	}
	return bytes
}
