package prune

import "docker_buildup_exporter/collector/model"

// diskUsage returns the disk usage of each resource in bytes. With overlay2 no bytes are
// counted twice. A resource is absent if a part of it is unknown, unless the request for
// that part failed: then the usage is that of the other parts.
func (h *host) diskUsage(s model.Snapshot) map[model.Resource]int64 {
	usage := make(map[model.Resource]int64)
	put := func(resource model.Resource, size model.Optional[int64]) {
		if bytes, known := size.Get(); known {
			usage[resource] = bytes
		}
	}
	if h.isInspected && h.content == nil {
		usage[model.Images] = h.imageUsage()
	}
	put(model.Containers, sumOf(s.Containers, func(c model.Container) (model.Optional[int64], bool) {
		return c.Size, !c.Failed || c.Size.IsKnown()
	}))
	put(model.Volumes, sumOf(s.Volumes, func(v model.Volume) (model.Optional[int64], bool) { return v.Size, v.Local }))
	if h.store != nil && h.cacheKnown {
		usage[model.BuildCache] = h.cacheUsage()
		return usage
	}
	put(model.BuildCache, sumOf(s.BuildCache, func(r model.CacheRecord) (model.Optional[int64], bool) { return r.Size, !r.Shared }))
	if h.content != nil {
		h.content.fillUsage(usage)
	}
	return usage
}

// sumOf returns the sum of the sizes of the objects that count. It is unknown if the list
// or one of the sizes is.
func sumOf[T any](list model.Optional[[]T], sizeOf func(T) (size model.Optional[int64], counts bool)) model.Optional[int64] {
	objects, known := list.Get()
	var sum int64
	for _, object := range objects {
		if size, counts := sizeOf(object); counts {
			bytes, sizeKnown := size.Get()
			sum, known = saturate(sum, bytes), known && sizeKnown
		}
	}
	if !known {
		return model.Optional[int64]{}
	}
	return model.Known(sum)
}

// cacheUsage returns what records have on the disk and no image has, each byte once.
func (h *host) cacheUsage() (bytes int64) {
	ofImages, ofRecords := make([]bool, len(h.graph.pieces)), make([]bool, len(h.graph.pieces))
	for i := range h.images {
		h.graph.reach(ofImages, h.graph.holders[i].pieces)
	}
	for i := range h.cache {
		h.graph.reach(ofRecords, h.graph.holders[h.recordHolder(i)].pieces)
	}
	for at, p := range h.graph.pieces {
		if ofRecords[at] && !ofImages[at] {
			bytes = saturate(bytes, p.likely)
		}
	}
	return bytes
}

// imageUsage returns the sizes of all layers, each once, and with the containerd store of the
// blobs. Images whose inspection failed are left out.
func (h *host) imageUsage() (bytes int64) {
	marks := make([]bool, len(h.graph.pieces))
	for i := range h.images {
		if !h.failed[i] {
			h.graph.reach(marks, h.graph.holders[i].pieces)
		}
	}
	for at, isMarked := range marks {
		if isMarked {
			bytes = saturate(bytes, h.graph.pieces[at].likely)
		}
	}
	return bytes
}
