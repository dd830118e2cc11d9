package prune

import (
	"math"

	"docker_buildup_exporter/collector/model"
)

// Reclaimable is the number of bytes that a command frees on the disk, in the units of the
// engine's image store.
type Reclaimable struct {
	Bytes int64
	Exact bool // false: Bytes is a minimum
}

// add returns the sum. It saturates.
func (r Reclaimable) add(other Reclaimable) Reclaimable {
	if other.Bytes > math.MaxInt64-r.Bytes {
		return Reclaimable{Bytes: math.MaxInt64}
	}
	return Reclaimable{r.Bytes + other.Bytes, r.Exact && other.Exact}
}

// addSize adds a size. An unknown size makes the sum a minimum.
func (r Reclaimable) addSize(size model.Optional[int64]) Reclaimable {
	bytes, known := size.Get()
	return r.add(Reclaimable{bytes, known})
}

// lessUncertain subtracts bytes that may or may not be part of r. The result is a minimum.
func (r Reclaimable) lessUncertain(bytes int64) Reclaimable {
	if bytes == 0 || r.Bytes == 0 {
		return r
	}
	return Reclaimable{Bytes: max(0, r.Bytes-bytes)}
}

// exactBytes returns the bytes if they are exact.
func (r Reclaimable) exactBytes() model.Optional[int64] {
	if !r.Exact {
		return model.Optional[int64]{}
	}
	return model.Known(r.Bytes)
}

// addSizes returns the sum of two sizes. It is unknown if one of them is.
func addSizes(a, b model.Optional[int64]) model.Optional[int64] {
	return Reclaimable{Exact: true}.addSize(a).addSize(b).exactBytes()
}

// reclaim returns what each command frees if it is run alone and now. Commands overlap. A
// command without a known minimum is absent.
func reclaim(s model.Snapshot, layers *layerTree) map[Command]Reclaimable {
	reclaimable := make(map[Command]Reclaimable)
	engine, known := s.Engine.Get()
	if !known {
		return reclaimable
	}
	e := newEstimator(s, layers, engine.ImageStore)
	e.baseline = e.planFor(pruneSpec{})
	for _, spec := range specs(engine.APIVersion) {
		if freed, known := e.estimate(spec).Get(); known {
			reclaimable[spec.command] = freed
		}
	}
	return reclaimable
}

// estimator computes what commands free on one host. It holds what the commands have in
// common. Images and layers are indexes.
type estimator struct {
	store      model.ImageStore
	images     []model.Image
	failed     []bool  // of each image: its inspection failed
	parents    []int32 // of each image, or noImage
	tops       []int32 // top layer of each image, noLayer if it failed
	layers     *layerTree
	containers []model.Container
	imageOf    []int32 // of each container, or noImage if the image is not listed
	volumes    model.Optional[[]model.Volume]
	cache      model.Optional[[]model.CacheRecord]
	baseline   plan               // of commands that remove neither containers nor images
	candidates map[string][]int32 // layers that a record of the build cache may be of, by record ID
	chains     chainKeys          // of records; graph drivers only

	// notUnpackedBytes is the size of layers that are not unpacked in every image that has
	// them. Containerd store only.
	notUnpackedBytes int64

	containersKnown bool
	digestsKnown    bool // whether each untagged image has a digest reference is known
	layersKnown     bool // containers, images and the layers of all images that have not failed are known
	hasFailed       bool // the inspection of an image failed
}

const noImage = -1

func newEstimator(s model.Snapshot, layers *layerTree, store model.ImageStore) *estimator {
	e := &estimator{store: store, layers: layers, volumes: s.Volumes, cache: s.BuildCache}
	if s.BuildCacheStale {
		e.cache = model.Optional[[]model.CacheRecord]{}
	}
	records, imagesKnown := s.Images.Get()
	e.images = model.Distinct(records)
	e.containers, e.containersKnown = s.Containers.Get()
	index := make(map[string]int32, len(e.images))
	for i, image := range e.images {
		index[image.ID] = int32(i)
	}
	find := func(id string) int32 {
		if i, exists := index[id]; exists {
			return i
		}
		return noImage
	}
	for _, container := range e.containers {
		e.imageOf = append(e.imageOf, find(container.ImageID))
	}
	e.layersKnown = imagesKnown && e.containersKnown && layers != nil && !layers.hasPending(e.images)
	if e.layersKnown {
		e.indexImages(find)
	}
	if cache, _ := e.cache.Get(); len(cache) > 0 {
		if e.layersKnown {
			e.candidates = e.matchLayers(cache)
		}
		if store != model.Containerd {
			e.chains = e.chainsOf(cache)
		}
	}
	return e
}

// indexImages fills in the fields that need the layers of all images.
func (e *estimator) indexImages(find func(id string) int32) {
	e.digestsKnown = true
	for _, image := range e.images {
		e.digestsKnown = e.digestsKnown && (image.HasDigest.IsKnown() || len(image.Tags) > 0)
		top, inspected := e.layers.topLayer(image.ID)
		e.failed = append(e.failed, !inspected)
		e.hasFailed = e.hasFailed || !inspected
		e.tops = append(e.tops, top)
		e.parents = append(e.parents, find(image.Parent))
		if unpacked, known := image.Unpacked.Get(); known && inspected {
			e.notUnpackedBytes += max(0, e.layers.chainBytes(top)-unpacked)
		}
	}
}

// estimate returns the sum of what a command frees of each resource. A resource without a
// known minimum is left out, and the sum is a minimum then.
func (e *estimator) estimate(spec pruneSpec) model.Optional[Reclaimable] {
	sum, bounded := Reclaimable{Exact: true}, false
	add := func(part model.Optional[Reclaimable]) {
		freed, known := part.Get() // not exact if unknown
		sum = sum.add(freed)
		bounded = bounded || known
	}
	p := e.baseline
	if spec.images != removeNone || spec.containers != removeNone {
		p = e.planFor(spec)
	}
	if spec.containers != removeNone {
		add(e.writableLayersFreed(spec))
	}
	if spec.volumes != removeNone {
		add(e.volumesFreed(spec))
	}
	// The layers of force-removed images alone are not a useful minimum of a container prune.
	if spec.images != removeNone || spec.containers != removeNone && bounded {
		add(e.layersFreed(spec, p))
	}
	if spec.cache != removeNone {
		add(e.cacheFreed(spec, p))
	}
	if !bounded {
		return model.Optional[Reclaimable]{}
	}
	return model.Known(sum)
}

// writableLayersFreed returns the sizes of the removed containers. Containers whose size
// request failed are left out, and the sum is a minimum then.
func (e *estimator) writableLayersFreed(spec pruneSpec) model.Optional[Reclaimable] {
	if !e.containersKnown {
		return model.Optional[Reclaimable]{}
	}
	var sizes []model.Optional[int64]
	complete := true
	for _, container := range e.containers {
		switch {
		case !spec.removesContainer(container):
		case container.Failed && !container.Size.IsKnown():
			complete = false
		default:
			sizes = append(sizes, container.Size)
		}
	}
	return sumKnown(sizes, complete)
}

// sumKnown returns the sum of the known sizes. It is exact if the sizes are complete and
// known. It is unknown if there are sizes and none of them is known.
func sumKnown(sizes []model.Optional[int64], complete bool) model.Optional[Reclaimable] {
	sum, bounded := Reclaimable{Exact: complete}, len(sizes) == 0
	for _, size := range sizes {
		bounded = bounded || size.IsKnown()
		sum = sum.addSize(size)
	}
	if !bounded {
		return model.Optional[Reclaimable]{}
	}
	return model.Known(sum)
}

// volumesFreed returns the sizes of the removed volumes.
func (e *estimator) volumesFreed(spec pruneSpec) model.Optional[Reclaimable] {
	volumes, known := e.volumes.Get()
	if !known || !e.containersKnown {
		return model.Optional[Reclaimable]{}
	}
	used := model.UsedVolumes(e.containers, spec.removesContainer)
	var sizes []model.Optional[int64]
	for _, volume := range volumes {
		if used[volume.Name] || !isPrunedVolume(volume, spec.volumes) {
			continue
		}
		size := volume.Size
		if volume.SizeStale {
			size = model.Optional[int64]{}
		}
		sizes = append(sizes, size)
	}
	return sumKnown(sizes, true)
}

// layersFreed returns the sizes of the freed layers and, with the containerd store, of
// their blobs. Example with a graph driver: image A = layers 10+20, image B = layers 10+30,
// A is removed: 20.
func (e *estimator) layersFreed(spec pruneSpec, p plan) model.Optional[Reclaimable] {
	unknown := model.Optional[Reclaimable]{}
	if !p.known {
		return unknown
	}
	layers := e.layers.sum(p.freedLayers)
	layers.Exact = layers.Exact && !p.hasUninspected
	pinned, pinnedKnown := p.pinnedBytes.Get()
	if !pinnedKnown && layers.Bytes > 0 {
		return unknown
	}
	for _, bytes := range []int64{pinned, e.heldByNameMounts(p), e.notUnpackedBytes, e.layers.ambiguousBytes(p.freedLayers)} {
		layers = layers.lessUncertain(bytes)
	}
	blobs := Reclaimable{Exact: true}
	if e.store == model.Containerd {
		blobs = e.layers.blobs.freed(e.layers, e.images, p.removed)
	}
	if layers.Bytes == 0 && blobs.Bytes == 0 {
		return model.Known(layers.add(blobs))
	}
	if !e.cache.IsKnown() {
		return unknown // the build cache may hold all of them
	}
	remaining := e.remainingRecords(spec.cache, p)
	freed := e.lessCachedLayers(layers, p, remaining).add(e.lessCachedBlobs(blobs, p, remaining))
	return e.lessFailed(freed, p, len(remaining) > 0)
}

// lessFailed subtracts what images and containers may hold whose requests failed. The
// layers of a removed image remain if the build cache holds them.
//
// Example: image A = layers 10+20 is removed. The inspection of image B of 15 bytes failed,
// and B remains: it may hold any 15 of the 30 bytes, so at least 15 are freed.
func (e *estimator) lessFailed(freed Reclaimable, p plan, isCached bool) model.Optional[Reclaimable] {
	if !e.hasFailed && p.failedBytes == model.Known[int64](0) {
		return model.Known(freed)
	}
	held := p.failedBytes
	if isCached {
		held = addSizes(held, p.removedFailedBytes)
	}
	bytes, known := held.Get()
	if !known {
		return model.Optional[Reclaimable]{}
	}
	return model.Known(Reclaimable{Bytes: max(0, freed.Bytes-bytes)})
}
