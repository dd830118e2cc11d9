package prune

import (
	"sync"

	"docker_buildup_exporter/collector/model"
)

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

// Summarizer makes summaries, and keeps the layers of the last one until they change.
type Summarizer struct {
	Repositories int // how many of the largest ones to include

	mu      sync.Mutex
	layers  *layerTree // never changed
	version int        // of the contents
}

// Summarize returns the summary of a snapshot.
func (z *Summarizer) Summarize(s model.Snapshot) Summary {
	return summarize(s, z.layersOf(s), z.Repositories)
}

func (z *Summarizer) layersOf(s model.Snapshot) *layerTree {
	z.mu.Lock()
	defer z.mu.Unlock()
	if s.Contents == nil || s.ContentsVersion == 0 {
		return layersOf(s)
	}
	if z.layers == nil || z.version != s.ContentsVersion {
		z.layers, z.version = layersOf(s), s.ContentsVersion
	}
	return z.layers
}

// Summarize returns the summary of a snapshot, with up to the given number of repositories.
func Summarize(s model.Snapshot, repositories int) Summary {
	return summarize(s, layersOf(s), repositories)
}

func summarize(s model.Snapshot, layers *layerTree, repositories int) Summary {
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
	if engine, _ := s.Engine.Get(); engine.Podman {
		sum = sum.withoutReclaimable()
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
