package prune

import "docker_buildup_exporter/collector/model"

// diskUsage is what each resource takes on disk in bytes. With overlay2 nothing is
// in two of them. A resource of which a part is unknown is left out.
func diskUsage(s model.Snapshot, layers *Layers) map[model.Resource]int64 {
	usage := make(map[model.Resource]int64)
	put := func(resource model.Resource, sum Reclaimable) {
		if sum.Exact {
			usage[resource] = sum.Bytes
		}
	}
	if images, known := imageUsage(s, layers).Get(); known {
		usage[model.Images] = images
	}
	if containers, known := s.Containers.Get(); known {
		sum := Reclaimable{Exact: true}
		for _, container := range containers {
			sum = sum.plusOptional(container.Size)
		}
		put(model.Containers, sum)
	}
	if volumes, known := s.Volumes.Get(); known {
		sum := Reclaimable{Exact: true}
		for _, volume := range volumes {
			if volume.Local {
				sum = sum.plusOptional(volume.Size)
			}
		}
		put(model.Volumes, sum)
	}
	if cache, known := s.BuildCache.Get(); known {
		sum := Reclaimable{Exact: true}
		for _, record := range cache {
			if !record.Shared {
				sum = sum.plusOptional(record.Size)
			}
		}
		put(model.BuildCache, sum)
	}
	return usage
}

// imageUsage counts every layer once and, with the containerd store, the blobs.
func imageUsage(s model.Snapshot, layers *Layers) model.Optional[int64] {
	records, known := s.Images.Get()
	engine, engineKnown := s.Engine.Get()
	if !known || !engineKnown || layers == nil {
		return model.Optional[int64]{}
	}
	images := model.Distinct(records)
	marks, looked := layers.mark(images)
	unpacked := layers.sum(marks)
	if !looked || !unpacked.Exact || layers.gap(marks) > 0 {
		return model.Optional[int64]{}
	}
	if engine.ImageStore != model.Containerd {
		return model.Known(unpacked.Bytes)
	}
	blobs, known := layers.blobs.usage(layers, images).Get()
	if !known {
		return model.Optional[int64]{}
	}
	return model.Known(unpacked.Bytes + blobs)
}
