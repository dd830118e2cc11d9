package prune

import (
	"math"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
)

// host is the objects of an engine, with what commands have in common. Images, layers and
// records are indexes.
type host struct {
	engine     model.Engine
	started    model.Optional[time.Time] // the engine
	images     []model.Image
	index      map[string]int32 // images by ID; see indexImages
	failed     []bool           // of each image: its inspection failed
	parents    []int32          // of each image, or none
	tops       []int32          // top layer of each image; none also if it failed
	containers []model.Container
	imageOf    []int32 // of each container, or none
	volumes    []model.Volume
	cache      []model.CacheRecord
	tree       *layerTree
	isListed   []bool // layers of images
	matches    *matches
	store      *model.LayerStore // what is on the disk; nil if that is not known
	graph      *graph
	content    *contentGraph       // nil: containerd cannot be read
	lookups    model.Optional[int] // holder of what builds have started from lately, if any; see storeGraph.addLookups

	listedLayers int // number of layers of images

	containersKnown, volumesKnown, cacheKnown bool

	isInspected bool // images are known, and the layers of all that have not failed
	imagesKnown bool // that, and containers are known
	hasFailed   bool // the layers of an image are unknown
	isStale     bool // the build cache or its relation to images has changed since it was listed
}

// newHost returns the objects of a snapshot.
func newHost(s model.Snapshot, engine model.Engine) *host {
	h := &host{engine: engine, started: s.EngineStarted}
	records, imagesKnown := s.Images.Get()
	h.images = model.Distinct(records)
	h.containers, h.containersKnown = s.Containers.Get()
	h.volumes, h.volumesKnown = s.Volumes.Get()
	cache, cacheKnown := s.BuildCache.Get()
	h.cache, h.cacheKnown, h.isStale = distinctRecords(cache), cacheKnown, s.BuildCacheStale
	h.indexImages()
	for _, container := range h.containers {
		h.imageOf = append(h.imageOf, h.find(container.ImageID))
	}
	isStored := s.Store.IsKnown()
	h.isInspected = imagesKnown && (s.Contents != nil || isStored)
	h.tree = newLayerTree(s.Contents, h.unpackedSizes(s.Contents), len(h.cache) > 0)
	h.isListed, h.failed = make([]bool, len(h.tree.layers)), make([]bool, 0, len(h.images))
	h.tops, h.parents = make([]int32, 0, len(h.images)), make([]int32, 0, len(h.images))
	for _, image := range h.images {
		top, inspected := h.tree.tops[image.ID]
		if !inspected {
			top = none
		}
		isFailed := !inspected && !isStored
		h.isInspected = h.isInspected && (!isFailed || s.FailedImages[image.ID])
		h.failed, h.hasFailed = append(h.failed, isFailed), h.hasFailed || isFailed
		h.tops, h.parents = append(h.tops, top), append(h.parents, h.find(image.Parent))
		for at := top; at != none && !h.isListed[at]; at = h.tree.layers[at].parent {
			h.isListed[at] = true
			h.listedLayers++
		}
	}
	h.imagesKnown = h.isInspected && h.containersKnown
	h.matches = newMatches(h)
	h.buildGraph(s)
	return h
}

// buildGraph chooses the best source of knowledge that a snapshot has.
func (h *host) buildGraph(s model.Snapshot) {
	if store, isStored := s.Store.Get(); isStored {
		h.content = newContentGraph(h, store, s.At)
		h.graph = h.content.graph
		return
	}
	if s.LayerStore != nil && !h.isContainerd() {
		if chains := h.tree.chainIDs(); h.isOf(s.LayerStore, chains) {
			h.store = s.LayerStore
			h.graph = newDiskGraph(h, chains)
			return
		}
	}
	h.matches.match()
	if h.isContainerd() {
		h.graph = newStoreGraph(h, s.ListedImages, s.At)
	} else {
		h.graph = newLayerGraph(h)
	}
	if h.engine.StorageDriver == "vfs" {
		h.graph.copyLayers()
	}
}

func (h *host) isContainerd() bool { return h.engine.ImageStore == model.Containerd }

// distinctRecords returns the records, each ID once: first those that images share, because each of them
// is of a layer of an image, then by ID.
func distinctRecords(cache []model.CacheRecord) []model.CacheRecord {
	cache = slices.Clone(cache)
	slices.SortStableFunc(cache, func(a, b model.CacheRecord) int { return strings.Compare(a.ID, b.ID) })
	cache = slices.CompactFunc(cache, func(a, b model.CacheRecord) bool { return a.ID == b.ID })
	slices.SortStableFunc(cache, func(a, b model.CacheRecord) int {
		switch {
		case a.Shared == b.Shared:
			return 0
		case a.Shared:
			return -1
		}
		return 1
	})
	return cache
}

// indexImages indexes the parents of images and the images of containers. With the containerd store,
// names refer to all images.
func (h *host) indexImages() {
	h.index = make(map[string]int32)
	for _, image := range h.images {
		if image.Parent != "" {
			h.index[image.Parent] = none
		}
	}
	for _, container := range h.containers {
		h.index[container.ImageID] = none
	}
	for i, image := range h.images {
		if _, isWanted := h.index[image.ID]; isWanted || h.isContainerd() {
			h.index[image.ID] = int32(i)
		}
	}
}

// find returns an image that is indexed, or none.
func (h *host) find(id string) int32 {
	if i, exists := h.index[id]; exists {
		return i
	}
	return none
}

// unpackedSizes returns the size of all layers of each inspected image, by image ID.
func (h *host) unpackedSizes(contents map[string]model.Content) map[string]int64 {
	sizes := make(map[string]int64, len(contents))
	for _, image := range h.images {
		if _, isInspected := contents[image.ID]; !isInspected {
			continue
		}
		size := image.Size
		if h.isContainerd() {
			size = image.StoreSizes().Unpacked
		}
		if bytes, known := size.Get(); known {
			sizes[image.ID] = bytes
		}
	}
	return sizes
}

// Holders are images, then containers, volumes and records.
func (h *host) containerHolder(i int) int { return len(h.images) + i }
func (h *host) volumeHolder(i int) int    { return len(h.images) + len(h.containers) + i }
func (h *host) recordHolder(i int) int    { return h.volumeHolder(len(h.volumes)) + i }

// newObjectGraph returns a graph of the layers, images, containers and volumes, which are the
// same for both stores. Piece i is layer i.
func newObjectGraph(h *host) *graph {
	holders := h.recordHolder(len(h.cache))
	g := &graph{pieces: make([]piece, 0, len(h.tree.layers)+holders), holders: make([]holder, holders), may: make(map[int][]int32)}
	for _, l := range h.tree.layers {
		p := piece{parent: l.parent, likely: l.size, isOpen: !l.isExact, isShared: true}
		if l.isExact {
			p.certain = l.size
		}
		g.pieces = append(g.pieces, p)
	}
	for i, image := range h.images {
		holder := &g.holders[i]
		if h.tops[i] != none {
			holder.pieces = []int32{h.tops[i]}
		}
		if h.failed[i] || image.StoreSizes().SeveralPlatforms {
			holder.unknown = sizeOr(image.Size, math.MaxInt64)
		}
		if h.failed[i] {
			holder.pieces = []int32{g.addOwn(model.Optional[int64]{})}
		}
	}
	for i := range h.containers {
		h.addContainer(g, i)
	}
	h.holdVolumes(g)
	return g
}

// holdVolumes makes each volume hold its files.
func (h *host) holdVolumes(g *graph) {
	for i, volume := range h.volumes {
		at := g.addOwn(volume.Size)
		if volume.SizeStale {
			g.pieces[at].certain, g.pieces[at].isOpen = 0, true
		}
		g.holders[h.volumeHolder(i)].pieces = []int32{at}
	}
}

// addContainer adds the writable layer of a container, and what the container holds: the
// layers of its image, also if that was removed by force, and of the images that it mounts.
func (h *host) addContainer(g *graph, i int) {
	container, holder := &h.containers[i], &g.holders[h.containerHolder(i)]
	at := g.addOwn(container.Size)
	writable := &g.pieces[at]
	holder.pieces = []int32{at}
	switch directory, known := container.DirectorySize.Get(); {
	case known:
		writable.likely, writable.certain = saturate(writable.likely, directory), saturate(writable.certain, directory)
	case container.State != model.Created && container.KeepsLog != model.Known(false):
		writable.isOpen = true
	}
	if h.store != nil { // see diskGraph.addMounts
		return
	}
	for n, id := range append([]string{container.ImageID}, container.MountedImages...) {
		top, inspected := h.tree.tops[id]
		switch isMount := n > 0; {
		case inspected && top != none:
			holder.pieces = append(holder.pieces, top)
		case inspected:
		case isMount: // a tag, which may have moved
			holder.unknown, writable.isOpen = math.MaxInt64, true
		case h.imageOf[i] == none:
			holder.unknown, writable.isOpen = sizeOr(container.ImageSize, math.MaxInt64), true
		case h.isContainerd(): // the image may be removed, although a container uses it
			holder.unknown = sizeOr(h.images[h.imageOf[i]].Size, math.MaxInt64)
		}
	}
	switch h.engine.StorageDriver {
	case "vfs": // two copies of the image: below the writable layer, and with mount points
		writable.likely = saturate(writable.likely, 2*min(maxUnknown, sizeOr(container.ImageSize, 0)))
	case "native": // SizeRw includes a copy of the image, and there is another one
		writable.likely *= 2
	}
}

// copyLayers takes into account that each layer of the vfs driver has all files of those below
// it.
func (g *graph) copyLayers() {
	for at := range g.pieces {
		if p := &g.pieces[at]; p.isShared && p.parent != none {
			p.likely = saturate(p.likely, g.pieces[p.parent].likely)
		}
	}
}

func sizeOr(size model.Optional[int64], otherwise int64) int64 {
	if bytes, known := size.Get(); known {
		return bytes
	}
	return otherwise
}
