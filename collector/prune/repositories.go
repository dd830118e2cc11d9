package prune

import (
	"cmp"
	"maps"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// A Repository is the images that have a name in it, with a tag or a digest. An image
// with names in several is in each of them.
type Repository struct {
	Name   string
	Images int

	// Reclaimable is what removing those of its images that no container uses would
	// free, they alone and with all their names. Repositories share images and layers,
	// so these figures overlap.
	Reclaimable model.Optional[Reclaimable]
}

// largestRepositories returns the n repositories whose layers, each counted once within
// one of them, take most. Unknown until each image was looked at.
func largestRepositories(s model.Snapshot, layers *Layers, n int) model.Optional[[]Repository] {
	engine, known := s.Engine.Get()
	if !known || n == 0 {
		return model.Optional[[]Repository]{}
	}
	h := newHost(s, layers, engine.ImageStore)
	if !h.layersKnown {
		return model.Optional[[]Repository]{}
	}
	members := make(map[string][]int32) // images
	for i, image := range h.images {
		for _, name := range image.Repositories {
			members[name] = append(members[name], int32(i))
		}
	}
	holds := make(map[string]int64, len(members))
	for name, images := range members {
		holds[name] = h.layersBytes(images)
	}
	names := slices.SortedFunc(maps.Keys(members), func(a, b string) int {
		return cmp.Or(cmp.Compare(holds[b], holds[a]), cmp.Compare(a, b))
	})

	stays := func(model.Container) bool { return false }
	used := h.used(stays)
	var largest []Repository
	for _, name := range names[:min(n, len(names))] {
		goes := make([]bool, len(h.images))
		for _, image := range members[name] {
			goes[image] = !used[image]
		}
		if h.store != model.Containerd { // which goes by labels of one of the names, of which nothing tells
			goes = h.withParents(goes, used)
		}
		f := h.fateIf(goes, true, stays)
		largest = append(largest, Repository{name, len(members[name]), h.layersFreed(cleanup{images: all}, f)})
	}
	return model.Known(largest)
}

// layersBytes adds up the layers of images, each once, as far as their sizes are known.
func (h *host) layersBytes(images []int32) (bytes int64) {
	seen := make(map[int32]bool)
	for _, image := range images {
		for at := h.tops[image]; at != bottom && !seen[at]; at = h.layers.layers[at].under {
			seen[at] = true
			size, _ := h.layers.layers[at].size.Get()
			bytes += size
		}
	}
	return bytes
}
