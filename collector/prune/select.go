package prune

import (
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"
)

// The functions in this file select the objects that a command removes. Each mirrors a
// function of moby or BuildKit. until is the time before which the commands with --filter until
// remove objects.

// removalBy returns what a command removes.
func (h *host) removalBy(spec pruneSpec, until time.Time) removal {
	r := removal{likely: make([]bool, len(h.graph.holders)), certain: make([]bool, len(h.graph.holders))}
	if !spec.hasUntil {
		until = time.Time{}
	}
	put := func(holder int, isUnsure bool) {
		r.likely[holder], r.certain[holder] = true, !isUnsure
		r.isUnsure = r.isUnsure || isUnsure
	}
	goes, sizes := make([]bool, len(h.containers)), make(map[bool]int) // sizes by whether they are known
	for i, container := range h.containers {
		var isUnsure bool
		if spec.containers != removeNone {
			goes[i], isUnsure = isPrunedContainer(container, until)
		}
		if goes[i] {
			put(h.containerHolder(i), isUnsure)
			if container.Size.IsKnown() || !container.Failed {
				sizes[container.Size.IsKnown()]++
			}
		}
		r.isUnsure = r.isUnsure || isUnsure
	}
	r.isUnknown = sizes[false] > 0 && sizes[true] == 0
	clear(sizes)
	used := make(map[string]bool)
	for i, container := range h.containers {
		for _, name := range container.Volumes {
			used[name] = used[name] || !goes[i]
		}
	}
	for i, volume := range h.volumes {
		if spec.volumes != removeNone && !used[volume.Name] && isPrunedVolume(volume, spec.volumes) {
			put(h.volumeHolder(i), false)
			sizes[volume.Size.IsKnown()]++
		}
	}
	r.isUnknown = r.isUnknown || sizes[false] > 0 && sizes[true] == 0
	if spec.images != removeNone && h.imagesKnown {
		likely, certain, isUnsure := h.removedImages(spec, goes, until)
		r.isUnsure = r.isUnsure || isUnsure
		for i := range h.images {
			if likely[i] {
				put(i, !certain[i])
			}
			r.isUnsure = r.isUnsure || h.content == nil && !h.images[i].HasDigest.IsKnown() && len(h.images[i].Tags) == 0
		}
	}
	if spec.cache != removeNone {
		if lookups, exist := h.lookups.Get(); exist {
			put(lookups, slices.ContainsFunc(h.cache, func(record model.CacheRecord) bool { return record.InUse }))
		}
		h.selectRecords(spec, &r, until)
	}
	if h.content != nil {
		h.content.addRest(spec, &r)
	}
	return r
}

// isPrunedContainer reports whether a container prune removes a container, and whether that is
// unsure (moby: daemon.Daemon.ContainerPrune). The filter goes by when it was created.
func isPrunedContainer(container model.Container, until time.Time) (is, isUnsure bool) {
	created, known := container.Created.Get()
	switch {
	case !container.State.Stopped():
		return false, false
	case until.IsZero():
		return true, false
	}
	return known && !created.After(until), !known
}

// isPrunedVolume reports whether a volume prune removes a volume that no container
// references (moby: volume/service.VolumesService.Prune). It removes volumes of the local
// driver without options; by default only anonymous ones.
func isPrunedVolume(volume model.Volume, volumes amount) bool {
	return volume.Local && (volume.Anonymous || volumes == removeAll)
}

// removedImages returns which images a command removes: most likely, and certainly; and whether
// it may remove others. goes are the containers that it removes before.
func (h *host) removedImages(spec pruneSpec, goes []bool, until time.Time) (likely, certain []bool, isUnsure bool) {
	used := h.usedImages(goes)
	switch {
	case h.isContainerd():
		likely, isUnsure = h.withoutNames(spec.images, used, goes, until)
	case spec.images == removeAll:
		likely = h.unusedTrees(used, until)
	default:
		likely = h.untaggedHeads(used)
	}
	certain = slices.Clone(likely)
	for i, image := range h.images {
		created, _ := image.CreatedAt().Get()
		switch {
		case h.content != nil:
		case h.isContainerd():
			certain[i] = certain[i] && until.IsZero() && (!isUnsure || len(image.Tags) == 0) && (spec.images == removeAll || image.HasDigest.IsKnown())
		case !until.IsZero(): // the filter keeps images without a date, whose date in the API is 0
			certain[i] = certain[i] && created.Unix() != 0
		}
	}
	return likely, certain, isUnsure || h.isContainerd() && h.content == nil && !until.IsZero()
}

// usedImages returns which images containers were made from, without those that go.
func (h *host) usedImages(goes []bool) []bool {
	used := make([]bool, len(h.images))
	for i, image := range h.imageOf {
		if image != none && !goes[i] {
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

// names returns the names of the images in the containerd store. The Engine API does not report
// when an image got its name: as an estimate, that is when it was made.
func (h *host) names() (names []model.StoredImage) {
	if h.content != nil {
		return h.content.store.Images
	}
	for _, image := range h.images {
		created, known := image.CreatedAt().Get()
		if !known {
			created = time.Unix(1<<40, 0) // never old
		}
		all := image.Tags
		switch {
		case image.HasDigest == model.Known(true):
			all = append(slices.Clip(all), image.ID)
		case len(all) == 0:
			all = []string{model.DanglingName(image.ID)}
		}
		for _, name := range all {
			names = append(names, model.StoredImage{Name: name, Target: image.ID, Created: created})
		}
	}
	return names
}

// withoutNames returns which images of the containerd store lose all their names (moby:
// daemon/containerd.ImageService.pruneUnused, filterImagesUsedByContainers, setupFilters). A
// container protects the name that it was created from, whatever image that name points to now.
// It protects its image only if the image has no name, or if the container was created from the ID
// or digest. If that is unknown, it most likely protects its image. The until filter goes by when
// the name was created.
func (h *host) withoutNames(images amount, used, goes []bool, until time.Time) (removed []bool, isUnsure bool) {
	protected, pinned := make(map[string]bool), make([]bool, len(h.images))
	for i, container := range h.containers {
		if goes[i] {
			continue
		}
		from, known := container.CreatedFrom.Get()
		isUnsure = isUnsure || !known
		protected[from.Tag] = true
		if image := h.imageOf[i]; image != none && (from.Pinned || !known) {
			pinned[image] = true
		}
	}
	removed, kept := make([]bool, len(h.images)), make([]bool, len(h.images))
	for _, name := range h.names() {
		i, exists := h.index[name.Target]
		if !exists {
			continue
		}
		isOld := until.IsZero() || name.Created.Before(until)
		isCandidate := images == removeAll && !protected[name.Name] || name.IsDangling()
		kept[i] = kept[i] || !isOld || !isCandidate || pinned[i] || name.IsDangling() && used[i]
		removed[i] = !kept[i]
	}
	return removed, isUnsure && images == removeAll
}

// unusedTrees returns what graph drivers remove with --all: images that neither a container
// uses nor an image that was built on them (moby: daemon/images.ImageService.ImagePrune
// with dangling=false, checkImageDeleteConflict). The until filter keeps images that were
// created later, but not the untagged parents of those that are removed.
func (h *host) unusedTrees(used []bool, until time.Time) (removed []bool) {
	removed = slices.Repeat([]bool{true}, len(h.images))
	isParent := h.isParent()
	for i, image := range h.images {
		created, known := image.CreatedAt().Get()
		isFresh := !until.IsZero() && (!known || created.After(until))
		isKept := used[i] || isFresh && !(isParent[i] && hasNoReference(image))
		for at := int32(i); isKept && at != none && removed[at]; at = h.parents[at] {
			removed[at] = false
		}
	}
	return removed
}

// isParent returns which images others were built on.
func (h *host) isParent() []bool {
	isParent := make([]bool, len(h.images))
	for _, parent := range h.parents {
		if parent != none {
			isParent[parent] = true
		}
	}
	return isParent
}

// untaggedHeads returns what graph drivers remove by default: unused images without a tag
// that no image was built on, and their untagged parents (moby:
// daemon/images.ImageService.ImagePrune over image.Store.Heads).
func (h *host) untaggedHeads(used []bool) (removed []bool) {
	isParent := h.isParent()
	heads := make([]bool, len(h.images))
	for i, image := range h.images {
		heads[i] = len(image.Tags) == 0 && !isParent[i] && !used[i]
	}
	return h.withUntaggedParents(heads, used)
}

// withUntaggedParents adds the unused parents without a reference whose children are all
// removed, and their parents (moby: daemon/images.ImageService.imageDeleteHelper with
// prune=true). None of the heads is used by a container.
func (h *host) withUntaggedParents(heads, used []bool) (removed []bool) {
	children := make([]int, len(h.images))
	for _, parent := range h.parents {
		if parent != none {
			children[parent]++
		}
	}
	removed = slices.Clone(heads)
	for i, isHead := range heads {
		if !isHead {
			continue
		}
		for at := h.parents[i]; at != none; at = h.parents[at] {
			children[at]--
			if children[at] > 0 || used[at] || heads[at] || !hasNoReference(h.images[at]) {
				break
			}
			removed[at] = true
		}
	}
	return removed
}

// selectRecords selects the records that a builder prune removes after the images. A record
// is most likely not shared any more if no remaining image has its layer. For the minimum, it
// remains.
func (h *host) selectRecords(spec pruneSpec, r *removal, until time.Time) {
	kept := make([]bool, len(h.graph.pieces))
	for i := range h.images {
		if !r.likely[i] {
			h.graph.reach(kept, h.graph.holders[i].pieces)
		}
	}
	shared, stillShared := make([]bool, len(h.cache)), make([]bool, len(h.cache))
	if h.content != nil {
		var isUnsure bool
		stillShared, shared, isUnsure = h.content.sharedRecords(r.likely[:len(h.images)])
		r.isUnsure = r.isUnsure || isUnsure && spec.cache == removeDefault
	}
	for i, record := range h.cache {
		if h.content != nil {
			break
		}
		at := h.matches.likely[i]
		shared[i] = record.Shared
		holder, may := &h.graph.holders[h.recordHolder(i)], h.graph.may[h.recordHolder(i)]
		mayEnd := holder.unknown > 0 || slices.ContainsFunc(may, func(at int32) bool { return !kept[at] })
		r.isUnsure = r.isUnsure || spec.cache == removeDefault && record.Shared && holder.isUnsure && mayEnd && slices.Contains(r.likely[:len(h.images)], true)
		stillShared[i] = record.Shared && (at == none || kept[at])
		if h.store != nil {
			shared[i] = stillShared[i]
		}
	}
	first := h.recordHolder(0)
	keepsParents, isKnown := h.recordsThatKeepParents(until)
	likely := h.removedRecords(stillShared, spec.cache, until, keepsParents)
	copy(r.likely[first:], likely)
	copy(r.certain[first:], h.removedRecords(shared, spec.cache, until, keepsParents))
	if !isKnown {
		r.isUnsure = r.isUnsure || !slices.Equal(likely, h.removedRecords(stillShared, spec.cache, until, make([]bool, len(h.cache))))
	}
	r.isUnsure = r.isUnsure || h.store != nil && h.splitsLayer(likely, kept)
	for i := first; i < first+len(h.cache); i++ {
		r.isUnsure = r.isUnsure || r.likely[i] != r.certain[i]
		r.certain[i] = r.certain[i] && r.likely[i]
	}
}

// splitsLayer reports whether some records of a layer that no image has are removed, and others are
// not. Which of them keep the layer depends on whether the engine has been restarted since they were
// made (moby: builder-next/adapters/snapshot.snapshotter.remove).
func (h *host) splitsLayer(removed, kept []bool) bool {
	remains := make(map[int32]bool)
	for i, at := range h.matches.likely {
		remains[at] = remains[at] || !removed[i]
	}
	for i, at := range h.matches.likely {
		if at != none && removed[i] && remains[at] && !kept[at] {
			return true
		}
	}
	return false
}

// removedRecords returns the records that a builder prune removes (BuildKit:
// cache.cacheManager.pruneOnce). It starts with records that no other record was made from. By
// default it keeps records that images share and BuildKit's own (types internal and
// frontend). The until filter goes by when a record was last used; one that never was is
// removed.
func (h *host) removedRecords(isShared []bool, records amount, until time.Time, keepsParents []bool) (removed []bool) {
	children, work := make([]int32, len(h.cache)), make([]int32, 0, len(h.cache))
	for i := range h.cache {
		work = append(work, int32(i))
		for _, parent := range h.matches.parents[i] {
			children[parent]++
		}
	}
	removed = make([]bool, len(h.cache))
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		record := &h.cache[i]
		isOwn := record.Type == "internal" || record.Type == "frontend"
		used, known := record.LastUsedAt.Get()
		isFresh := !until.IsZero() && known && used.After(until)
		if removed[i] || record.InUse || isFresh || children[i] > 0 || records == removeDefault && (isShared[i] || isOwn) {
			continue
		}
		removed[i] = true
		for _, parent := range h.matches.parents[i] {
			if !keepsParents[i] {
				children[parent]--
				work = append(work, parent)
			}
		}
	}
	return removed
}

// recordsThatKeepParents returns the records whose removal counts as a use of the records that they
// were made from, so that the until filter keeps those. Since API 1.42 these are the records that
// BuildKit has loaded when the engine started (BuildKit: cache.cacheManager.parentsOf, which passes
// NoUpdateLastUsed on inside of a slice). Records of unknown age are among them.
func (h *host) recordsThatKeepParents(until time.Time) (keep []bool, isKnown bool) {
	keep, isKnown = make([]bool, len(h.cache)), true
	if until.IsZero() || apiMinor(h.engine.APIVersion) < 42 {
		return keep, true
	}
	started, isStartKnown := h.started.Get()
	isStartKnown = isStartKnown && apiMinor(h.engine.APIVersion) >= 44 // older engines may move it with a reload
	for i, record := range h.cache {
		created, known := record.CreatedAt.Get()
		keep[i] = !isStartKnown || !known || created.Before(started)
		isKnown = isKnown && isStartKnown && known
	}
	return keep, isKnown
}
