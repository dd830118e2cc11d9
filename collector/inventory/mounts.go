package inventory

import "slices"

// mounted marks the layers of images that containers mount. Whether or not a prune then
// removes the image, which differs between stores and with how it is called, a mount
// holds its layers until the container goes.
//
// Nothing tells which image a name was that has moved on since. So what is mounted by a
// name can hold what any of the images has that are removed, and held is that at most.
// It is unknown if the name is no image's any more, for then its image may be gone; unseen
// says that so may be one that a container held which goes.
func (h *host) mounted(f fate, isGone func(Container) bool) (held Optional[int64], unseen bool) {
	byName, known := 0, true
	var isListed map[string]bool
	for _, container := range h.containers {
		for _, name := range container.MountedImages {
			if isListed == nil {
				isListed = h.names()
			}
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
				known = known && isListed[name]
				byName++
			}
		}
	}
	if !known {
		return Optional[int64]{}, unseen
	}
	var most []int64
	for i, removed := range f.removed {
		if removed && byName > 0 {
			most = append(most, h.layers.bytesDown(h.tops[i]))
		}
	}
	slices.Sort(most)
	sum := Reclaimable{}
	for _, bytes := range most[max(0, len(most)-byName):] {
		sum = sum.plus(Reclaimable{Bytes: bytes})
	}
	return Known(sum.Bytes), unseen
}

// names are all IDs and tags of images.
func (h *host) names() map[string]bool {
	names := make(map[string]bool, len(h.images))
	for _, image := range h.images {
		names[image.ID] = true
		for _, tag := range image.Tags {
			names[tag] = true
		}
	}
	return names
}
