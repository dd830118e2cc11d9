package prune

import (
	"slices"

	"docker_buildup_exporter/collector/model"
)

// The functions in this file select the objects that a command removes. Containers are
// selected by pruneSpec.removesContainer (moby: Daemon.ContainersPrune).

// isPrunedVolume reports whether a volume prune removes a volume that no container
// references (moby: volume/service.VolumesService.Prune). It removes volumes of the local
// driver without options; by default only anonymous ones.
func isPrunedVolume(volume model.Volume, volumes amount) bool {
	return volume.Local && (volume.Anonymous || volumes == removeAll)
}

// removedImages returns which images a command removes. The result is unknown if the name
// that a remaining container was created from is unknown and matters.
func (e *estimator) removedImages(spec pruneSpec) (removed []bool, known bool) {
	used := e.usedImages(spec)
	switch {
	case e.store == model.Containerd && spec.images == removeAll:
		return e.unprotectedImages(spec, used)
	case e.store == model.Containerd:
		return e.danglingRecords(used), true
	case spec.images == removeAll:
		return e.unusedTrees(used), true
	default:
		return e.untaggedHeads(used), true
	}
}

// usedImages returns which images the remaining containers were created from.
func (e *estimator) usedImages(spec pruneSpec) []bool {
	used := make([]bool, len(e.images))
	for i, container := range e.containers {
		if image := e.imageOf[i]; image != noImage && !spec.removesContainer(container) {
			used[image] = true
		}
	}
	return used
}

// hasNoReference reports whether neither a tag nor a digest reference points to an image,
// as far as that is known.
func hasNoReference(image model.Image) bool {
	return len(image.Tags) == 0 && image.HasDigest == model.Known(false)
}

// danglingRecords returns what the containerd store removes by default: images without a
// reference that no container uses, parents included (moby:
// daemon/containerd.ImageService.ImagesPrune with dangling=true).
func (e *estimator) danglingRecords(used []bool) (removed []bool) {
	removed = make([]bool, len(e.images))
	for i, image := range e.images {
		removed[i] = hasNoReference(image) && !used[i]
	}
	return removed
}

// unprotectedImages returns what the containerd store removes with --all (moby:
// daemon/containerd.ImageService.pruneUnused, filterImagesUsedByContainers). A container
// protects the name that it was created from, whatever image that name points to now. It
// protects its image only if the image has no name, or if the container was created from
// the ID or digest.
func (e *estimator) unprotectedImages(spec pruneSpec, used []bool) (removed []bool, known bool) {
	protected := make(map[string]bool) // names
	pinned := make([]bool, len(e.images))
	for i, container := range e.containers {
		if spec.removesContainer(container) {
			continue
		}
		from, known := container.CreatedFrom.Get()
		if !known && !container.Failed {
			return nil, false
		}
		protected[from.Tag] = true
		if image := e.imageOf[i]; image != noImage && (from.Pinned || !known) {
			pinned[image] = true
		}
	}
	removed = make([]bool, len(e.images))
	for i, image := range e.images {
		isProtected := slices.ContainsFunc(image.Tags, func(tag string) bool { return protected[tag] })
		mayBeDangling := len(image.Tags) == 0 && image.HasDigest != model.Known(true)
		removed[i] = !isProtected && !pinned[i] && !(mayBeDangling && used[i])
	}
	return removed, true
}

// unknownReferences returns the number of remaining containers that may each protect one
// more image than unprotectedImages has found, because the request for the name that they
// were created from failed.
func (e *estimator) unknownReferences(spec pruneSpec) (n int) {
	if e.store != model.Containerd || spec.images != removeAll {
		return 0
	}
	for _, container := range e.containers {
		if container.Failed && !container.CreatedFrom.IsKnown() && !spec.removesContainer(container) {
			n++
		}
	}
	return n
}

// unusedTrees returns what graph drivers remove with --all: images that neither a container
// uses nor an image that was built on them (moby: daemon/images.ImageService.ImagesPrune
// with dangling=false, checkImageDeleteConflict).
func (e *estimator) unusedTrees(used []bool) (removed []bool) {
	removed = make([]bool, len(e.images))
	for i := range removed {
		removed[i] = true
	}
	for i := range e.images {
		for at := int32(i); used[i] && at != noImage && removed[at]; at = e.parents[at] {
			removed[at] = false
		}
	}
	return removed
}

// untaggedHeads returns what graph drivers remove by default: unused images without a tag
// that no image was built on, and their untagged parents (moby:
// daemon/images.ImageService.ImagesPrune over image.Store.Heads).
func (e *estimator) untaggedHeads(used []bool) (removed []bool) {
	isParent := make([]bool, len(e.images))
	for _, parent := range e.parents {
		if parent != noImage {
			isParent[parent] = true
		}
	}
	heads := make([]bool, len(e.images))
	for i, image := range e.images {
		heads[i] = len(image.Tags) == 0 && !isParent[i] && !used[i]
	}
	return e.withUntaggedParents(heads, used)
}

// withUntaggedParents adds the unused parents without a reference whose children are all
// removed, and their parents (moby: daemon/images.ImageService.imageDeleteHelper with
// prune=true). None of the heads is used by a container.
func (e *estimator) withUntaggedParents(heads, used []bool) (removed []bool) {
	children := make([]int, len(e.images))
	for _, parent := range e.parents {
		if parent != noImage {
			children[parent]++
		}
	}
	removed = slices.Clone(heads)
	for i, isHead := range heads {
		if !isHead {
			continue
		}
		for at := e.parents[i]; at != noImage; at = e.parents[at] {
			children[at]--
			if children[at] > 0 || used[at] || heads[at] || !hasNoReference(e.images[at]) {
				break
			}
			removed[at] = true
		}
	}
	return removed
}

// removedRecords returns the IDs of the records that a builder prune removes (BuildKit:
// cache.cacheManager.Prune). It starts with records that no other record was made from. By
// default it keeps records that images share and BuildKit's own (types internal and
// frontend).
func removedRecords(cache []model.CacheRecord, records amount) map[string]bool {
	children := make(map[string]int)
	byID := make(map[string]model.CacheRecord, len(cache))
	for _, record := range cache {
		byID[record.ID] = record
		for _, parent := range record.Parents {
			children[parent]++
		}
	}
	removed := make(map[string]bool)
	work := slices.Clone(cache)
	for records != removeNone && len(work) > 0 {
		record := work[len(work)-1]
		work = work[:len(work)-1]
		isOwn := record.Type == "internal" || record.Type == "frontend"
		if removed[record.ID] || record.InUse || children[record.ID] > 0 || records == removeDefault && (record.Shared || isOwn) {
			continue
		}
		removed[record.ID] = true
		for _, id := range record.Parents {
			children[id]--
			if parent, exists := byID[id]; exists {
				work = append(work, parent)
			}
		}
	}
	return removed
}
