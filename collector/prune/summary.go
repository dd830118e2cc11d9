package prune

import "docker_buildup_exporter/collector/model"

// Summary is a snapshot with the figures that are computed from it. Every output
// (metrics, page, text, JSON) shows these. A figure is unknown as soon as one of its
// parts is.
type Summary struct {
	model.Snapshot
	Counts       model.ObjectCounts
	DiskUsage    map[model.Resource]int64     // bytes; without unknown ones
	Reclaimable  map[Command]Reclaimable      // without unknown ones
	Repositories model.Optional[[]Repository] // the largest ones
}

// Summarize returns the summary of a snapshot, with up to the given number of repositories.
func Summarize(s model.Snapshot, repositories int) Summary {
	layers := layersOf(s)
	sum := Summary{
		Snapshot:     s,
		Counts:       model.CountObjects(s),
		DiskUsage:    diskUsage(s, layers),
		Reclaimable:  reclaim(s, layers),
		Repositories: largestRepositories(s, layers, repositories),
	}
	if images, known := s.Images.Get(); known && layers != nil {
		sum.Counts.Images.Layers = layers.count(model.Distinct(images))
	}
	return sum
}

// layersOf returns the layers of all inspected images, or nil if images are not inspected.
func layersOf(s model.Snapshot) *layerTree {
	if s.Contents == nil {
		return nil
	}
	return buildLayerTree(s.Contents, s.ListedImages, s.FailedImages)
}
