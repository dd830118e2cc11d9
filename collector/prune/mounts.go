package prune

import (
	"slices"

	"docker_buildup_exporter/collector/model"
)

// mounted marks the layers of images that containers mount. Whether or not a prune then
// removes the image, which differs between stores and with how it is called, a mount
// holds its layers until the container goes.
//
// Nothing tells which image a name was that has moved on since. byName is how many mounts
// that stay were made by a name; unseen says that one goes.
func (h *host) mounted(f fate, isGone func(model.Container) bool) (byName int, unseen bool) {
	for _, container := range h.containers {
		for _, name := range container.MountedImages {
			top, looked := int32(bottom), false
			if h.layersKnown {
				top, looked = h.layers.top(name)
			}
			switch {
			case looked && isGone(container):
				h.layers.markDown(f.going, top)
			case looked:
				h.layers.markDown(f.staying, top)
			case isGone(container):
				unseen = true
			default:
				byName++
			}
		}
	}
	return byName, unseen
}

// layersByName is how many bytes of the layers that go mounts by a name hold, at most.
// Each holds one layer with all under it, whatever image that was of: of layers that go
// and lie on each other, no more than the largest pile has.
func (h *host) layersByName(f fate) int64 {
	if f.byName == 0 {
		return 0
	}
	piles, isTop := make([]int64, len(h.layers.layers)), slices.Clone(f.going)
	for at, layer := range h.layers.layers { // each after the one under it
		if !f.going[at] {
			continue
		}
		piles[at], _ = layer.size.Get()
		if layer.under != bottom {
			piles[at] += piles[layer.under]
			isTop[layer.under] = false
		}
	}
	var tops []int64
	for at, bytes := range piles {
		if isTop[at] {
			tops = append(tops, bytes)
		}
	}
	return largest(tops, f.byName)
}

// largest adds up the n largest.
func largest(sizes []int64, n int) (bytes int64) {
	slices.Sort(sizes)
	for _, size := range sizes[max(0, len(sizes)-n):] {
		bytes += size
	}
	return bytes
}
