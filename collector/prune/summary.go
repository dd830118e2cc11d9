package prune

import "docker_buildup_exporter/collector/model"

// Summary is a snapshot, its counts, and what cleanup commands would free. A figure is
// unknown as soon as one of its parts is.
type Summary struct {
	model.Snapshot
	ImageCount     model.Optional[model.ImageCount]
	ImageUse       model.Optional[map[model.Use]int]
	ContainerCount model.Optional[map[model.State]int]
	StoppedCount   model.Optional[map[model.StoppedFor]int]
	Uninspected    model.Optional[int] // images whose layers are not known yet
	LayerCount     model.Optional[int]
	VolumeCount    model.Optional[map[bool]int] // by whether a container references it
	CacheCount     model.Optional[map[bool]int] // by whether a build uses it
	DiskUsage      map[model.Resource]int64
	Reclaimable    map[Command]Reclaimable
	Repositories   model.Optional[[]Repository] // of the largest repositories
}

// Summarize returns the summary of a snapshot, with the given number of repositories.
func Summarize(s model.Snapshot, repositories int) Summary {
	sum := Summary{Snapshot: s}
	records, imagesKnown := s.Images.Get()
	images := model.Distinct(records)
	containers, containersKnown := s.Containers.Get()
	if imagesKnown {
		sum.ImageCount = model.Known(model.CountImages(images))
	}
	if containersKnown {
		sum.ContainerCount = model.Known(model.CountContainers(containers))
		sum.StoppedCount = model.CountStopped(containers, s.At)
	}
	if imagesKnown && containersKnown {
		sum.ImageUse = model.Known(model.CountUse(images, containers))
	}
	layers := layersOf(s)
	if imagesKnown && layers != nil {
		sum.LayerCount = layers.count(images)
		sum.Uninspected = model.Known(layers.uninspected(images))
	}
	if volumes, known := s.Volumes.Get(); known && containersKnown {
		sum.VolumeCount = model.Known(model.CountVolumes(volumes, containers))
	}
	if cache, known := s.BuildCache.Get(); known {
		sum.CacheCount = model.Known(model.CountCache(cache))
	}
	sum.DiskUsage = diskUsage(s, layers)
	sum.Reclaimable = reclaim(s, layers)
	sum.Repositories = largestRepositories(s, layers, repositories)
	return sum
}

// layersOf returns the layers of all inspected images, or nil if contents are not collected.
func layersOf(s model.Snapshot) *layerTree {
	if s.Contents == nil {
		return nil
	}
	return buildLayerTree(s.Contents, s.ListedImages, s.FailedImages)
}
