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

	// Reclaimable is an estimate of the bytes that removing the unused images of the
	// repository frees, with all their names and nothing else. Figures overlap, because
	// repositories share images and layers. It is unknown while images would be removed and
	// the build cache, which may hold any layer, is unknown.
	Reclaimable model.Optional[int64]
}

// largestRepositories returns the n repositories with the most bytes of layers, each layer
// counted once in a repository. Unknown until all images are inspected.
func (h *host) largestRepositories(n int) model.Optional[[]Repository] {
	if n == 0 || !h.imagesKnown {
		return model.Optional[[]Repository]{}
	}
	members := make(map[string][]int32) // images
	for i, image := range h.images {
		for _, name := range image.Repositories {
			members[name] = append(members[name], int32(i))
		}
	}
	bytes := make(map[string]int64, len(members))
	for name, images := range members {
		bytes[name] = h.held(images)
	}
	names := slices.SortedFunc(maps.Keys(members), func(a, b string) int {
		return cmp.Or(cmp.Compare(bytes[b], bytes[a]), cmp.Compare(a, b))
	})
	var largest []Repository
	for _, name := range names[:min(n, len(names))] {
		repository := Repository{Name: name, Images: len(members[name])}
		if unused := h.unusedOf(members[name]); h.cacheKnown || h.content != nil || !slices.Contains(unused.likely, true) {
			repository.Reclaimable = model.Known(h.graph.freed(unused).Estimate)
		}
		largest = append(largest, repository)
	}
	return model.Known(largest)
}

// unusedOf returns the removal of the unused ones of some images.
func (h *host) unusedOf(images []int32) removal {
	used := h.usedImages(make([]bool, len(h.containers)))
	removed := make([]bool, len(h.images))
	for _, image := range images {
		removed[image] = !used[image]
	}
	// With the containerd store, whether a parent is removed depends on labels of one of the
	// names, which the Engine API does not report.
	if !h.isContainerd() {
		removed = h.withUntaggedParents(removed, used)
	}
	removed = append(removed, make([]bool, len(h.graph.holders)-len(removed))...)
	return removal{likely: removed, certain: removed}
}

// held returns the bytes that images hold, each layer and blob once.
func (h *host) held(images []int32) (bytes int64) {
	seen := make(map[int32]bool)
	for _, image := range images {
		for _, at := range h.graph.holders[image].pieces {
			for ; at != none && !seen[at]; at = h.graph.pieces[at].parent {
				seen[at] = true
				bytes = saturate(bytes, h.graph.pieces[at].likely)
			}
		}
	}
	return bytes
}
