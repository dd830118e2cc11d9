package prune

import (
	"math"
	"slices"
	"strings"

	"docker_buildup_exporter/collector/model"
)

// host is the objects of an engine, with what commands have in common. Images, layers and
// records are indexes.
type host struct {
	engine     model.Engine
	images     []model.Image
	failed     []bool  // of each image: its inspection failed
	parents    []int32 // of each image, or none
	tops       []int32 // top layer of each image; none also if it failed
	containers []model.Container
	imageOf    []int32 // of each container, or none
	volumes    []model.Volume
	cache      []model.CacheRecord
	tree       *layerTree
	isListed   []bool // layers of images
	matches    *matches
	graph      *graph

	containersKnown, volumesKnown, cacheKnown bool

	// imagesKnown says that images, their containers, and the layers of all images that have
	// not failed are known.
	imagesKnown bool
	hasFailed   bool // the layers of an image are unknown
}

// newHost returns the objects of a snapshot.
func newHost(s model.Snapshot, engine model.Engine) *host {
	h := &host{engine: engine}
	records, imagesKnown := s.Images.Get()
	h.images = model.Distinct(records)
	h.containers, h.containersKnown = s.Containers.Get()
	h.volumes, h.volumesKnown = s.Volumes.Get()
	if cache, known := s.BuildCache.Get(); known && !s.BuildCacheStale {
		h.cache, h.cacheKnown = distinctRecords(cache), true
	}
	index := make(map[string]int32, len(h.images))
	for i, image := range h.images {
		index[image.ID] = int32(i)
	}
	find := func(id string) int32 {
		if i, exists := index[id]; exists {
			return i
		}
		return none
	}
	for _, container := range h.containers {
		h.imageOf = append(h.imageOf, find(container.ImageID))
	}
	h.imagesKnown = imagesKnown && h.containersKnown && s.Contents != nil
	h.tree = newLayerTree(s.Contents, layerSums(h.images, h.isContainerd()), len(h.cache) > 0)
	h.isListed = make([]bool, len(h.tree.layers))
	for _, image := range h.images {
		top, inspected := h.tree.tops[image.ID]
		if !inspected {
			top = none
		}
		h.imagesKnown = h.imagesKnown && (inspected || s.FailedImages[image.ID])
		h.failed, h.hasFailed = append(h.failed, !inspected), h.hasFailed || !inspected
		h.tops, h.parents = append(h.tops, top), append(h.parents, find(image.Parent))
		for at := top; at != none && !h.isListed[at]; at = h.tree.layers[at].parent {
			h.isListed[at] = true
		}
	}
	h.matches = matchRecords(h)
	if h.isContainerd() {
		h.graph = newStoreGraph(h, s.ListedImages)
	} else {
		h.graph = newLayerGraph(h)
	}
	return h
}

func (h *host) isContainerd() bool { return h.engine.ImageStore == model.Containerd }

// distinctRecords returns the records in the order of their IDs, each ID once.
func distinctRecords(cache []model.CacheRecord) []model.CacheRecord {
	byID := func(a, b model.CacheRecord) int { return strings.Compare(a.ID, b.ID) }
	cache = slices.Clone(cache)
	slices.SortStableFunc(cache, byID)
	return slices.CompactFunc(cache, func(a, b model.CacheRecord) bool { return a.ID == b.ID })
}

// layerSums returns the size of all layers of each image, by image ID.
func layerSums(images []model.Image, isContainerd bool) map[string]int64 {
	sums := make(map[string]int64, len(images))
	for _, image := range images {
		size := image.Size
		if isContainerd {
			size = image.Unpacked
		}
		if bytes, known := size.Get(); known {
			sums[image.ID] = bytes
		}
	}
	return sums
}

// Holders are images, then containers, volumes and records.
func (h *host) containerHolder(i int) int { return len(h.images) + i }
func (h *host) volumeHolder(i int) int    { return len(h.images) + len(h.containers) + i }
func (h *host) recordHolder(i int) int    { return h.volumeHolder(len(h.volumes)) + i }

// newObjectGraph returns a graph of the layers, images, containers and volumes, which are the
// same for both stores. Piece i is layer i.
func newObjectGraph(h *host) *graph {
	g := &graph{pieces: make([]piece, 0, len(h.tree.layers)), holders: make([]holder, h.recordHolder(len(h.cache)))}
	copies := h.engine.StorageDriver == "vfs" // each layer has all files of those below it
	for at, l := range h.tree.layers {
		p := piece{parent: l.parent, likely: l.size, certain: l.size, isOpen: !l.isExact, isShared: true}
		if copies {
			p.likely = h.tree.chain(int32(at))
		}
		if !l.isExact {
			p.certain = 0
		}
		g.pieces = append(g.pieces, p)
	}
	for i, image := range h.images {
		holder := &g.holders[i]
		if h.tops[i] != none {
			holder.pieces = []int32{h.tops[i]}
		}
		if h.failed[i] || image.SeveralPlatforms {
			holder.unknown = sizeOr(image.Size, math.MaxInt64)
		}
		if h.failed[i] {
			holder.pieces = []int32{g.addOwn(model.Optional[int64]{})}
		}
	}
	for i, container := range h.containers {
		h.addContainer(g, &g.holders[h.containerHolder(i)], i, container)
	}
	for i, volume := range h.volumes {
		at := g.addOwn(volume.Size)
		if volume.SizeStale {
			g.pieces[at].certain, g.pieces[at].isOpen = 0, true
		}
		g.holders[h.volumeHolder(i)].pieces = []int32{at}
	}
	return g
}

// addContainer adds the writable layer of a container, and what the container holds: the
// layers of its image, also if that was removed by force, and of the images that it mounts.
func (h *host) addContainer(g *graph, holder *holder, i int, container model.Container) {
	writable := g.addOwn(container.Size)
	keepsLog := container.State != model.Created && container.KeepsLog != model.Known(false)
	g.pieces[writable].isOpen = g.pieces[writable].isOpen || keepsLog
	holder.pieces = []int32{writable}
	top, inspected := h.tree.tops[container.ImageID]
	switch image := h.imageOf[i]; {
	case inspected && top != none:
		holder.pieces = append(holder.pieces, top)
	case inspected:
	case image != none:
		if h.isContainerd() { // the image may be removed, although a container uses it
			holder.unknown = sizeOr(h.images[image].Size, math.MaxInt64)
		}
	default:
		holder.unknown = sizeOr(container.ImageSize, math.MaxInt64)
		g.pieces[writable].isOpen = true
	}
	switch bytes := &g.pieces[writable].likely; h.engine.StorageDriver {
	case "vfs": // two copies of the image: below the writable layer, and with mount points
		*bytes = saturate(*bytes, 2*sizeOr(container.ImageSize, h.tree.chain(topOrNone(top, inspected))))
	case "native": // SizeRw includes the image
		*bytes = saturate(*bytes, *bytes)
	}
	for _, name := range container.MountedImages {
		if top, inspected := h.tree.tops[name]; !inspected { // a tag, which may have moved
			holder.mayAny = true
			g.pieces[writable].isOpen = true
		} else if top != none {
			holder.pieces = append(holder.pieces, top)
		}
	}
}

func topOrNone(top int32, inspected bool) int32 {
	if inspected {
		return top
	}
	return none
}

func sizeOr(size model.Optional[int64], otherwise int64) int64 {
	if bytes, known := size.Get(); known {
		return bytes
	}
	return otherwise
}
