package prune

import "docker_buildup_exporter/collector/model"

// diskUsage returns the disk usage of each resource in bytes. With overlay2 no bytes are
// counted twice. A resource is absent if a part of it is unknown, unless the request for
// that part failed: then the usage is that of the other parts.
func diskUsage(s model.Snapshot, layers *layerTree) map[model.Resource]int64 {
	usage := make(map[model.Resource]int64)
	put := func(resource model.Resource, size model.Optional[int64]) {
		if bytes, known := size.Get(); known {
			usage[resource] = bytes
		}
	}
	put(model.Images, imageUsage(s, layers))
	put(model.Containers, sumOf(s.Containers, func(c model.Container) (model.Optional[int64], bool) {
		return c.Size, !c.Failed || c.Size.IsKnown()
	}))
	put(model.Volumes, sumOf(s.Volumes, func(v model.Volume) (model.Optional[int64], bool) { return v.Size, v.Local }))
	put(model.BuildCache, sumOf(s.BuildCache, func(r model.CacheRecord) (model.Optional[int64], bool) { return r.Size, !r.Shared }))
	return usage
}

// sumOf returns the sum of the sizes of the objects that count. It is unknown if the list
// or one of the sizes is.
func sumOf[T any](list model.Optional[[]T], sizeOf func(T) (size model.Optional[int64], counts bool)) model.Optional[int64] {
	objects, known := list.Get()
	sum := Reclaimable{Exact: known}
	for _, object := range objects {
		if size, counts := sizeOf(object); counts {
			sum = sum.addSize(size)
		}
	}
	return sum.exactBytes()
}

// imageUsage returns the sizes of all layers, each once, and with the containerd store of
// the blobs. Images whose inspection failed are left out.
func imageUsage(s model.Snapshot, layers *layerTree) model.Optional[int64] {
	unknown := model.Optional[int64]{}
	records, known := s.Images.Get()
	engine, engineKnown := s.Engine.Get()
	if !known || !engineKnown || layers == nil {
		return unknown
	}
	images := model.Distinct(records)
	marks := layers.mark(images)
	unpacked := layers.sum(marks)
	if layers.hasPending(images) || !unpacked.Exact || layers.ambiguousBytes(marks) > 0 {
		return unknown
	}
	if engine.ImageStore != model.Containerd || len(images) == 0 {
		return model.Known(unpacked.Bytes)
	}
	return addSizes(model.Known(unpacked.Bytes), layers.blobs.usage(layers, images))
}
