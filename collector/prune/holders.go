package prune

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
)

// Holder is an object, or several of one name, that holds bytes on the disk.
type Holder struct {
	Kind  HolderKind                `json:"kind"`
	Name  string                    `json:"name"`
	State string                    `json:"state"` // of a container (model.State); "in use" or "unused"; empty for several
	Since model.Optional[time.Time] `json:"since"` // when a container stopped, or the youngest of several records was last used

	Project string `json:"project,omitempty"` // of Docker Compose
	Builder string `json:"builder,omitempty"` // of buildx, whose cache a volume is

	Count  int `json:"count"`  // objects
	Unused int `json:"unused"` // those of them that can be removed

	// Bytes are what the objects hold, and Frees what removing the unused ones frees. Bytes of
	// different holders overlap, because repositories share layers.
	Bytes int64                 `json:"bytes"`
	Frees model.Optional[int64] `json:"frees_bytes"`
}

// HolderKind is what a Holder is.
type HolderKind string

const (
	VolumeHolder     HolderKind = "volume"
	ContainerHolder  HolderKind = "container"
	RepositoryHolder HolderKind = "images"
	CacheHolder      HolderKind = "build cache"
)

// untagged is the name of dangling images, as "docker images" prints it.
const untagged = "<none>"

// builderVolume matches the volume in which a builder of buildx keeps its cache (buildx:
// driver/docker-container, confutil: name of the builder and number of the node).
var builderVolume = regexp.MustCompile(`^buildx_buildkit_(.+)\d_state$`)

// largestHolders returns the n holders with the most bytes.
func (h *host) largestHolders(n int) []Holder {
	if n == 0 {
		return nil
	}
	all := slices.Concat(h.largestVolumes(n), h.largestContainers(n), h.imagesByRepository(n), h.cacheByType())
	all = slices.DeleteFunc(all, func(o Holder) bool { return o.Bytes == 0 })
	sortHolders(all)
	return all[:min(n, len(all))]
}

// sortHolders sorts holders by what they hold, the largest first.
func sortHolders(holders []Holder) {
	slices.SortFunc(holders, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
}

// removalOf returns the removal of some holders of the graph, and of nothing else.
func (h *host) removalOf(holders ...int) removal {
	removed := make([]bool, len(h.graph.holders))
	for _, i := range holders {
		removed[i] = true
	}
	return removal{likely: removed, certain: removed}
}

func (h *host) largestVolumes(n int) []Holder {
	users := make(map[string]model.Container)
	for _, container := range h.containers {
		for _, name := range container.Volumes {
			if user, isUsed := users[name]; !isUsed || !user.State.Active() {
				users[name] = container
			}
		}
	}
	var volumes []Holder
	for _, volume := range h.volumes {
		holder := Holder{Kind: VolumeHolder, Name: volume.Name, State: "unused", Count: 1, Unused: 1, Bytes: sizeOr(volume.Size, 0)}
		if user, isUsed := users[volume.Name]; isUsed {
			holder.State, holder.Unused, holder.Project = "in use", 0, user.Project
		}
		if match := builderVolume.FindStringSubmatch(volume.Name); match != nil {
			holder.Builder = match[1]
		}
		holder.Frees = model.Known(holder.Bytes)
		volumes = append(volumes, holder)
	}
	sortHolders(volumes)
	return volumes[:min(n, len(volumes))]
}

// largestContainers returns the containers that hold most besides the layers of their images.
func (h *host) largestContainers(n int) []Holder {
	own := h.graph.ownBytes()
	var containers []Holder
	for i, container := range h.containers {
		name := cmp.Or(container.Name, container.ID[:min(12, len(container.ID))])
		holder := Holder{Kind: ContainerHolder, Name: name, State: string(container.State), Since: container.StoppedAt, Project: container.Project, Count: 1}
		if container.State.Stopped() {
			holder.Unused = 1
		}
		holder.Bytes = own[h.containerHolder(i)]
		holder.Frees = model.Known(holder.Bytes)
		containers = append(containers, holder)
	}
	sortHolders(containers)
	return containers[:min(n, len(containers))]
}

// imagesByRepository returns the repositories whose images hold most, and the dangling images.
func (h *host) imagesByRepository(n int) (repositories []Holder) {
	if !h.imagesKnown {
		return nil
	}
	members, used, isParent := make(map[string][]int32), h.usedImages(make([]bool, len(h.containers))), h.isParent()
	for i, image := range h.images {
		names := image.Repositories
		for _, tag := range image.Tags {
			if repository := tag[:max(0, strings.LastIndexByte(tag, ':'))]; !slices.Contains(names, repository) {
				names = append(slices.Clip(names), repository)
			}
		}
		if hasNoReference(image) && !isParent[i] {
			names = []string{untagged}
		}
		for _, name := range names {
			members[name] = append(members[name], int32(i))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		holder := Holder{Kind: RepositoryHolder, Name: name, Count: len(members[name]), Bytes: h.held(members[name])}
		for _, i := range members[name] {
			if !used[i] {
				holder.Unused++
			}
		}
		repositories = append(repositories, holder)
	}
	sortHolders(repositories)
	repositories = repositories[:min(n, len(repositories))]
	for i := range repositories {
		if r := &repositories[i]; r.Unused > 0 && (h.cacheKnown || h.content != nil) { // the build cache may hold any layer
			r.Frees = model.Known(h.graph.freed(h.unusedOf(members[r.Name])).Estimate)
		}
	}
	return repositories
}

// cacheByType returns the records of the build cache by their type. What images share is left out.
func (h *host) cacheByType() (types []Holder) {
	byType := make(map[string][]int)
	for i, record := range h.cache {
		if !record.InUse {
			byType[record.Type] = append(byType[record.Type], h.recordHolder(i))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byType)) {
		frees := h.graph.freed(h.removalOf(byType[name]...)).Estimate
		holder := Holder{Kind: CacheHolder, Name: name, State: "unused", Count: len(byType[name]), Unused: len(byType[name]), Bytes: frees, Frees: model.Known(frees)}
		for _, i := range byType[name] {
			used, known := h.cache[i-h.recordHolder(0)].LastUsedAt.Get()
			if last, _ := holder.Since.Get(); known && used.After(last) {
				holder.Since = model.Known(used)
			}
		}
		types = append(types, holder)
	}
	return types
}
