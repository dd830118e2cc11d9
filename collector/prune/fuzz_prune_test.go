package prune

import (
	"slices"

	"docker_buildup_exporter/collector/model"
)

// after returns the host after a command: it removes one object at a time.
func (h trueHost) after(spec pruneSpec) trueHost {
	containers, _ := h.Containers.Get()
	volumes, _ := h.Volumes.Get()
	if spec.containers != removeNone {
		containers = slices.DeleteFunc(slices.Clone(containers), func(c model.Container) bool {
			created, _ := c.Created.Get()
			isFresh := spec.hasUntil && h.At.Sub(created) < minAge
			return !isFresh && (c.State == model.Created || c.State == model.Exited || c.State == model.Dead)
		})
	}
	if spec.volumes != removeNone {
		volumes = slices.DeleteFunc(slices.Clone(volumes), func(v model.Volume) bool {
			isUsed := slices.ContainsFunc(containers, func(c model.Container) bool { return slices.Contains(c.Volumes, v.Name) })
			return !isUsed && (v.Anonymous || spec.volumes == removeAll)
		})
	}
	h.Containers, h.Volumes = model.Known(containers), model.Known(volumes)
	switch {
	case spec.images == removeNone:
	case h.isContainerd():
		h.Images = model.Known(h.afterNamePrune(spec.images, spec.hasUntil))
	default:
		h.Images = model.Known(h.afterImagePrune(spec.images, spec.hasUntil))
	}
	cache, _ := h.BuildCache.Get()
	h.BuildCache = model.Known(h.afterBuilderPrune(h.share(cache), spec.cache, spec.hasUntil))
	return h
}

func (h trueHost) isUsed(image model.Image) bool {
	containers, _ := h.Containers.Get()
	return slices.ContainsFunc(containers, func(c model.Container) bool { return c.ImageID == image.ID })
}

func (h trueHost) isFresh(image model.Image) bool {
	created, _ := image.CreatedAt().Get()
	return h.At.Sub(created) < minAge
}

func hasChild(images []model.Image, image model.Image) bool {
	return slices.ContainsFunc(images, func(i model.Image) bool { return i.Parent == image.ID })
}

// afterImagePrune returns the images that a graph driver leaves.
func (h trueHost) afterImagePrune(amount amount, hasUntil bool) []model.Image {
	images, _ := h.Images.Get()
	images = slices.Clone(images)
	var heads []model.Image // when the command starts
	for _, image := range images {
		if !hasChild(images, image) && len(image.Tags) == 0 && !h.isUsed(image) {
			heads = append(heads, image)
		}
	}
	if amount == removeDefault {
		for _, head := range heads {
			images = h.withoutImage(images, head)
		}
		return images
	}
	for again := true; again; {
		again = false
		for _, image := range images {
			if !h.isUsed(image) && !hasChild(images, image) && !(hasUntil && h.isFresh(image)) {
				images, again = h.withoutImage(images, image), true
				break
			}
		}
	}
	return images
}

// withoutImage removes an image, then its parent if nothing else refers to that.
func (h trueHost) withoutImage(images []model.Image, image model.Image) []model.Image {
	images = slices.DeleteFunc(slices.Clone(images), func(i model.Image) bool { return i.ID == image.ID })
	for _, parent := range images {
		digested, _ := parent.HasDigest.Get()
		if parent.ID == image.Parent && len(parent.Tags) == 0 && !digested && !h.isUsed(parent) && !hasChild(images, parent) {
			return h.withoutImage(images, parent)
		}
	}
	return images
}

// withoutUnused returns the host without the unused images of a repository, and without
// parents that nothing else refers to.
func (h trueHost) withoutUnused(repository string) trueHost {
	images, _ := h.Images.Get()
	left := slices.DeleteFunc(slices.Clone(images), func(image model.Image) bool {
		return slices.Contains(image.Repositories, repository) && !h.isUsed(image)
	})
	for _, image := range images {
		if slices.Contains(image.Repositories, repository) && !h.isUsed(image) {
			left = h.withoutImage(left, image)
		}
	}
	h.Images = model.Known(left)
	return h
}

// afterNamePrune returns the images that the containerd store leaves. It removes names; an
// image is removed with its last name.
func (h trueHost) afterNamePrune(amount amount, hasUntil bool) (left []model.Image) {
	images, _ := h.Images.Get()
	containers, _ := h.Containers.Get()
	for _, image := range images {
		digested, _ := image.HasDigest.Get()
		isDangling := len(image.Tags) == 0 && !digested
		names := len(image.Tags)
		if digested || isDangling {
			names++
		}
		if isDangling && !h.isUsed(image) || digested && amount == removeAll {
			names--
		}
		for _, tag := range image.Tags {
			isProtected := slices.ContainsFunc(containers, func(c model.Container) bool {
				from, _ := c.CreatedFrom.Get()
				return from.Tag == tag
			})
			if amount == removeAll && !isProtected {
				names--
			}
		}
		isPinned := slices.ContainsFunc(containers, func(c model.Container) bool {
			from, _ := c.CreatedFrom.Get()
			return from.Pinned && c.ImageID == image.ID
		})
		if names > 0 || isPinned || hasUntil && h.isNamedLately[image.ID] {
			left = append(left, image)
		}
	}
	return left
}

// afterBuilderPrune returns the records that a builder prune leaves.
func (h trueHost) afterBuilderPrune(cache []model.CacheRecord, amount amount, hasUntil bool) []model.CacheRecord {
	for again := amount != removeNone; again; {
		again = false
		for i, record := range cache {
			isParent := slices.ContainsFunc(cache, func(r model.CacheRecord) bool { return slices.Contains(r.Parents, record.ID) })
			isKept := record.Shared || record.Type == "internal" || record.Type == "frontend"
			used, known := record.LastUsedAt.Get()
			isFresh := hasUntil && known && h.At.Sub(used) < minAge
			if !record.InUse && !isFresh && !isParent && (amount == removeAll || !isKept) {
				cache, again = slices.Delete(slices.Clone(cache), i, i+1), true
				break
			}
		}
	}
	return cache
}
