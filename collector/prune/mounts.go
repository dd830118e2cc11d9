package prune

import "slices"

// markMounts adds the layers of images that containers mount to a plan. A mount holds the
// layers until its container is removed, whether or not the image is removed before.
//
// A mount by tag does not identify the image if the tag has moved since. nameMounts counts
// the remaining mounts of this kind.
func (e *estimator) markMounts(p *plan, spec pruneSpec) {
	for _, container := range e.containers {
		isRemoved := spec.removesContainer(container)
		for _, name := range container.MountedImages {
			top, inspected := int32(noLayer), false
			if e.layersKnown {
				top, inspected = e.layers.topLayer(name)
			}
			switch {
			case inspected && isRemoved:
				e.layers.markAncestors(p.freedLayers, top)
			case inspected:
				e.layers.markAncestors(p.keptLayers, top)
			case isRemoved:
				p.hasUninspected = true
			default:
				p.nameMounts++
			}
		}
	}
}

// heldByNameMounts returns the most that mounts of unidentified images hold of the freed
// layers. Each of them holds one layer and all layers below it: at most the largest chain
// of freed layers.
//
// Example: the freed layers are 30 on 10, and 20. One mount holds at most 40, two hold at
// most 60.
func (e *estimator) heldByNameMounts(p plan) int64 {
	chains, isTop := make([]int64, len(e.layers.layers)), slices.Clone(p.freedLayers)
	for at, layer := range e.layers.layers { // parents come first
		if !p.freedLayers[at] {
			continue
		}
		chains[at], _ = layer.size.Get()
		if layer.parent != noLayer {
			chains[at] += chains[layer.parent]
			isTop[layer.parent] = false
		}
	}
	var tops []int64
	for at, bytes := range chains {
		if isTop[at] {
			tops = append(tops, bytes)
		}
	}
	return sumLargest(tops, p.nameMounts)
}
