package prune

import (
	"cmp"
	"maps"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// Repository is the images that have a name in one repository, with a tag or a digest. An
// image with names in several repositories is in each of them.
type Repository struct {
	Name   string
	Images int

	// Reclaimable is what removing the unused images of the repository frees, with all
	// their names and nothing else. Figures overlap, because repositories share images and
	// layers.
	Reclaimable model.Optional[Reclaimable]
}

// largestRepositories returns the n repositories with the most bytes of layers, each layer
// counted once in a repository. Unknown until all images are inspected.
func largestRepositories(s model.Snapshot, layers *layerTree, n int) model.Optional[[]Repository] {
	engine, known := s.Engine.Get()
	if !known || n == 0 {
		return model.Optional[[]Repository]{}
	}
	e := newEstimator(s, layers, engine.ImageStore)
	if !e.layersKnown {
		return model.Optional[[]Repository]{}
	}
	members := make(map[string][]int32) // images
	for i, image := range e.images {
		for _, name := range image.Repositories {
			members[name] = append(members[name], int32(i))
		}
	}
	bytes := make(map[string]int64, len(members))
	for name, images := range members {
		bytes[name] = e.layersBytes(images)
	}
	names := slices.SortedFunc(maps.Keys(members), func(a, b string) int {
		return cmp.Or(cmp.Compare(bytes[b], bytes[a]), cmp.Compare(a, b))
	})
	var largest []Repository
	for _, name := range names[:min(n, len(names))] {
		largest = append(largest, Repository{name, len(members[name]), e.unusedFreed(members[name])})
	}
	return model.Known(largest)
}

// unusedFreed returns what removing the unused ones of some images frees.
func (e *estimator) unusedFreed(images []int32) model.Optional[Reclaimable] {
	spec := pruneSpec{images: removeAll}
	used := e.usedImages(spec)
	removed := make([]bool, len(e.images))
	for _, image := range images {
		removed[image] = !used[image]
	}
	// With the containerd store, whether a parent is removed depends on labels of one of the
	// names, which the Engine API does not report.
	if e.store != model.Containerd {
		removed = e.withUntaggedParents(removed, used)
	}
	return e.layersFreed(spec, e.planFromImages(removed, true, spec))
}

// layersBytes returns the sum of the known sizes of the layers of images, each once.
func (e *estimator) layersBytes(images []int32) (bytes int64) {
	seen := make(map[int32]bool)
	for _, image := range images {
		for at := e.tops[image]; at != noLayer && !seen[at]; at = e.layers.layers[at].parent {
			seen[at] = true
			size, _ := e.layers.layers[at].size.Get()
			bytes += size
		}
	}
	return bytes
}
