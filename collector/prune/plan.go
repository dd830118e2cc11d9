package prune

import (
	"slices"

	"docker_buildup_exporter/collector/model"
)

// plan is what happens to images and layers when a command runs.
type plan struct {
	known                   bool   // whether removed, freedLayers and keptLayers are complete
	removed                 []bool // images
	freedLayers, keptLayers []bool // disjoint

	// pinnedBytes is the most that remaining containers and images hold of layers that are
	// not inspected. Unknown if one of their sizes is.
	pinnedBytes model.Optional[int64]

	// failedBytes is the most that objects hold whose requests failed, of layers and blobs:
	// remaining images, and images that remaining containers protect. removedFailedBytes is
	// the same of removed images. Unknown if one of the sizes is.
	failedBytes, removedFailedBytes model.Optional[int64]

	hasUninspected bool // the layers of a removed image or container are unknown
	nameMounts     int  // remaining mounts of images that cannot be identified
}

// planFor returns the plan of a command. Layers are freed with the images that it removes,
// and with containers whose image was removed by force before.
func (e *estimator) planFor(spec pruneSpec) plan {
	if spec.images == removeNone || !e.layersKnown {
		return e.planFromImages(make([]bool, len(e.images)), e.layersKnown, spec)
	}
	removed, known := e.removedImages(spec)
	p := e.planFromImages(removed, known, spec)
	p.hasUninspected = p.hasUninspected || !e.digestsKnown
	if n := e.unknownReferences(spec); n > 0 {
		p.hasUninspected = true
		p.failedBytes = addSizes(p.failedBytes, e.largestTagged(removed, n))
	}
	return p
}

// largestTagged returns the n largest sizes of the tagged ones of some images, added up.
func (e *estimator) largestTagged(images []bool, n int) model.Optional[int64] {
	var sizes []int64
	for i, image := range e.images {
		if !images[i] || len(image.Tags) == 0 {
			continue
		}
		size, known := image.Size.Get()
		if !known {
			return model.Optional[int64]{}
		}
		sizes = append(sizes, size+image.IndexSize)
	}
	return model.Known(sumLargest(sizes, n))
}

// sumLargest returns the sum of the n largest sizes.
func sumLargest(sizes []int64, n int) (bytes int64) {
	slices.Sort(sizes)
	for _, size := range sizes[max(0, len(sizes)-n):] {
		bytes += size
	}
	return bytes
}

// planFromImages returns the plan for a given set of removed images. known is whether the
// set is certain.
//
// Example: image A = layers 10+20 is removed, image B = layers 10+30 remains: the layer of
// 20 bytes is freed, those of 10 and 30 bytes are kept.
func (e *estimator) planFromImages(removed []bool, known bool, spec pruneSpec) plan {
	p := plan{known: known, removed: removed, failedBytes: model.Known[int64](0), removedFailedBytes: model.Known[int64](0)}
	if e.layersKnown {
		p.freedLayers, p.keptLayers = make([]bool, len(e.layers.layers)), make([]bool, len(e.layers.layers))
	}
	if e.containersKnown {
		p.pinnedBytes = model.Known[int64](0)
	}
	e.markMounts(&p, spec)
	e.markContainers(&p, spec)
	if p.known {
		e.markImages(&p, spec)
	}
	return p
}

// markContainers adds the layers of containers to a plan. The layers of a container whose
// image is listed but failed are those of the image.
func (e *estimator) markContainers(p *plan, spec pruneSpec) {
	for i, container := range e.containers {
		top, inspected := e.topOfContainer(i)
		isRemoved := spec.removesContainer(container)
		isListed := e.imageOf[i] != noImage
		switch {
		case inspected && isRemoved:
			e.layers.markAncestors(p.freedLayers, top)
		case inspected:
			e.layers.markAncestors(p.keptLayers, top)
		case isListed && e.layersKnown:
		case isRemoved:
			p.hasUninspected = true
		case !isListed:
			p.pinnedBytes = addSizes(p.pinnedBytes, container.ImageSize)
		}
	}
}

// topOfContainer returns the top layer under a container, and whether it is known.
func (e *estimator) topOfContainer(container int) (top int32, inspected bool) {
	switch image := e.imageOf[container]; {
	case !e.layersKnown:
		return noLayer, false
	case image != noImage:
		return e.tops[image], !e.failed[image]
	default:
		return e.layers.topLayer(e.containers[container].ImageID)
	}
}

// markImages adds the layers of images to a plan. Only one platform of an image is
// inspected: other platforms may hold any layer.
func (e *estimator) markImages(p *plan, spec pruneSpec) {
	used := e.usedImages(spec)
	for i, image := range e.images {
		switch {
		case e.failed[i] && p.removed[i] && !used[i]:
			p.hasUninspected = true
			p.removedFailedBytes = addSizes(p.removedFailedBytes, image.Size)
		case e.failed[i]:
			p.failedBytes = addSizes(p.failedBytes, image.Size)
		case p.removed[i]:
			e.layers.markAncestors(p.freedLayers, e.tops[i])
		default:
			e.layers.markAncestors(p.keptLayers, e.tops[i])
			if image.SeveralPlatforms {
				p.pinnedBytes = addSizes(p.pinnedBytes, image.Size)
			}
		}
	}
	for i := range p.freedLayers {
		p.freedLayers[i] = p.freedLayers[i] && !p.keptLayers[i]
	}
}
