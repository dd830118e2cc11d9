package inventory

// CountVolumes counts volumes by whether a container has them, in whatever state.
func CountVolumes(volumes []Volume, containers []Container) map[bool]int {
	used := usedVolumes(containers, func(Container) bool { return false })
	count := map[bool]int{false: 0, true: 0}
	for _, volume := range volumes {
		count[used[volume.Name]]++
	}
	return count
}

// CountCache counts records of the build cache by whether a build uses them now.
func CountCache(cache []CacheRecord) map[bool]int {
	count := map[bool]int{false: 0, true: 0}
	for _, record := range cache {
		count[record.InUse]++
	}
	return count
}

// DiskUsage is what each resource takes on disk in bytes. With overlay2 nothing is
// in two of them. A resource of which a part is unknown is left out.
func DiskUsage(inventory Inventory) map[Resource]int64 {
	usage := make(map[Resource]int64)
	put := func(resource Resource, sum Reclaimable) {
		if sum.Exact {
			usage[resource] = sum.Bytes
		}
	}
	if images, known := imageUsage(inventory).Get(); known {
		usage[Images] = images
	}
	if containers, known := inventory.Containers.Get(); known {
		sum := Reclaimable{Exact: true}
		for _, container := range containers {
			sum = sum.plusOptional(container.Size)
		}
		put(Containers, sum)
	}
	if volumes, known := inventory.Volumes.Get(); known {
		sum := Reclaimable{Exact: true}
		for _, volume := range volumes {
			if volume.Local {
				sum = sum.plusOptional(volume.Size)
			}
		}
		put(Volumes, sum)
	}
	if cache, known := inventory.Cache.Get(); known {
		sum := Reclaimable{Exact: true}
		for _, record := range cache {
			if !record.Shared {
				sum = sum.plusOptional(record.Size)
			}
		}
		put(BuildCache, sum)
	}
	return usage
}

// imageUsage counts every layer once and, with the containerd store, the blobs.
func imageUsage(inventory Inventory) Optional[int64] {
	records, known := inventory.Images.Get()
	layers := inventory.Layers
	engine, engineKnown := inventory.Engine.Get()
	if !known || !engineKnown || layers == nil {
		return Optional[int64]{}
	}
	images := distinct(records)
	marks, looked := layers.mark(images)
	unpacked := layers.sum(marks)
	if !looked || !unpacked.Exact || layers.gap(marks) > 0 {
		return Optional[int64]{}
	}
	if engine.ImageStore != Containerd {
		return Known(unpacked.Bytes)
	}
	blobs, known := layers.blobs.usage(layers, images).Get()
	if !known {
		return Optional[int64]{}
	}
	return Known(unpacked.Bytes + blobs)
}
