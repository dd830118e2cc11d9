package prune

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"docker_buildup_exporter/collector/model"
)

// A Command is a cleanup command, as a person types it with a CLI that speaks the
// engine's version of the API.
type Command string

const (
	ContainerPrune        Command = "docker container prune"
	ImagePrune            Command = "docker image prune"
	ImagePruneAll         Command = "docker image prune --all"
	VolumePrune           Command = "docker volume prune"
	VolumePruneAll        Command = "docker volume prune --all"
	BuilderPrune          Command = "docker builder prune"
	BuilderPruneAll       Command = "docker builder prune --all"
	SystemPrune           Command = "docker system prune"
	SystemPruneAll        Command = "docker system prune --all"
	SystemPruneAllVolumes Command = "docker system prune --all --volumes"
)

// A scope is how much of one resource a command removes.
type scope int

const (
	nothing scope = iota
	some          // what the command takes by default
	all           // also what --all adds to that
)

// A cleanup is what a command removes, in this order: what goes first no longer
// holds what comes later (docker/cli: runPrune of system prune).
type cleanup struct {
	containers, volumes, images, cache scope
}

// cleanups are the commands that there are at this version of the API.
func cleanups(api string) map[Command]cleanup {
	commands := map[Command]cleanup{
		ContainerPrune:        {containers: all},
		ImagePrune:            {images: some},
		ImagePruneAll:         {images: all},
		VolumePrune:           {volumes: some},
		VolumePruneAll:        {volumes: all},
		BuilderPrune:          {cache: some},
		BuilderPruneAll:       {cache: all},
		SystemPrune:           {containers: all, images: some, cache: some},
		SystemPruneAll:        {containers: all, images: all, cache: all},
		SystemPruneAllVolumes: {containers: all, volumes: some, images: all, cache: all},
	}
	if !hasAnonymousVolumes(api) {
		delete(commands, VolumePruneAll)
		for command, cleanup := range commands {
			if cleanup.volumes == some {
				cleanup.volumes = all
				commands[command] = cleanup
			}
		}
	}
	return commands
}

// hasAnonymousVolumes tells whether a volume prune leaves named volumes alone unless
// it is told otherwise: from API 1.42 on.
func hasAnonymousVolumes(api string) bool {
	minor, err := strconv.Atoi(strings.TrimPrefix(api, "1."))
	return err == nil && minor >= 42
}

// A Reclaimable is how many bytes the disk would get back, in the engine's own units.
type Reclaimable struct {
	Bytes int64
	Exact bool // else it is a lower bound
}

func (r Reclaimable) plus(other Reclaimable) Reclaimable {
	if other.Bytes > math.MaxInt64-r.Bytes {
		return Reclaimable{Bytes: math.MaxInt64}
	}
	return Reclaimable{r.Bytes + other.Bytes, r.Exact && other.Exact}
}

// plusOptional leaves out what is unknown.
func (r Reclaimable) plusOptional(size model.Optional[int64]) Reclaimable {
	bytes, known := size.Get()
	return r.plus(Reclaimable{bytes, known})
}

// without takes off bytes of which only some may have been counted.
func (r Reclaimable) without(bytes int64) Reclaimable {
	if bytes == 0 || r.Bytes == 0 {
		return r
	}
	return Reclaimable{Bytes: max(0, r.Bytes-bytes)}
}

// reclaim returns what each command would free if it were run alone and now. Commands
// overlap. A command without even a lower bound is left out.
func reclaim(s model.Snapshot, layers *Layers) map[Command]Reclaimable {
	reclaimable := make(map[Command]Reclaimable)
	engine, known := s.Engine.Get()
	if !known {
		return reclaimable
	}
	h := newHost(s, layers, engine.ImageStore)
	h.untouched = h.fateOf(cleanup{}, func(model.Container) bool { return false })
	for command, cleanup := range cleanups(engine.APIVersion) {
		if frees, known := h.frees(cleanup).Get(); known {
			reclaimable[command] = frees
		}
	}
	return reclaimable
}

// A host is what commands work on. Every scrape asks for all of them, so what they
// have in common is looked up once; images and layers are numbers.
type host struct {
	store      model.ImageStore
	images     []model.Image
	parents    []int32 // of each image; none: -1
	tops       []int32 // the uppermost layer of each image
	layers     *Layers
	containers []model.Container
	imageOf    []int32 // of each container; not listed: -1
	volumes    model.Optional[[]model.Volume]
	cache      model.Optional[[]model.CacheRecord]
	untouched  fate               // of commands that leave images and containers alone
	candidates map[string][]int32 // the layers that a record of the cache can be of, by its ID
	places     places             // of records of the cache of graph drivers
	packed     int64              // bytes of layers that are not unpacked in all images that have them

	containersKnown bool
	namesKnown      bool // of each image without a tag, whether it has a digest reference
	layersKnown     bool // and images
}

const none = -1

func newHost(s model.Snapshot, layers *Layers, store model.ImageStore) *host {
	h := &host{store: store, layers: layers, volumes: s.Volumes, cache: s.BuildCache}
	if s.BuildCacheStale {
		h.cache = model.Optional[[]model.CacheRecord]{}
	}
	records, imagesKnown := s.Images.Get()
	h.images = model.Distinct(records)
	h.containers, h.containersKnown = s.Containers.Get()
	index := make(map[string]int32, len(h.images))
	for i, image := range h.images {
		index[image.ID] = int32(i)
	}
	find := func(id string) int32 {
		if i, there := index[id]; there {
			return i
		}
		return none
	}
	for _, container := range h.containers {
		h.imageOf = append(h.imageOf, find(container.ImageID))
	}
	h.layersKnown = imagesKnown && h.containersKnown && h.layers != nil && h.layers.uninspected(h.images) == 0
	if h.layersKnown {
		h.lookUp(find)
	}
	if cache, _ := h.cache.Get(); len(cache) > 0 {
		if h.layersKnown {
			h.candidates = h.match(cache)
		}
		if store != model.Containerd {
			h.places = h.placesOf(cache)
		}
	}
	return h
}

// lookUp finds what there is to know of images whose layers are known.
func (h *host) lookUp(find func(id string) int32) {
	h.namesKnown = true
	for _, image := range h.images {
		_, known := image.HasDigest.Get()
		h.namesKnown = h.namesKnown && (known || len(image.Tags) > 0)
		top, _ := h.layers.top(image.ID)
		h.tops = append(h.tops, top)
		if unpacked, known := image.Unpacked.Get(); known {
			h.packed += max(0, h.layers.bytesDown(top)-unpacked)
		}
		h.parents = append(h.parents, find(image.Parent))
	}
}

// frees adds up what each part of a cleanup frees. A part without a bound is left
// out of a sum that then is only a lower bound.
func (h *host) frees(c cleanup) model.Optional[Reclaimable] {
	sum, bounded, complete := Reclaimable{Exact: true}, false, true
	add := func(part model.Optional[Reclaimable]) {
		freed, known := part.Get()
		sum = sum.plus(freed)
		bounded = bounded || known
		complete = complete && known
	}
	isGone := func(container model.Container) bool { return c.containers != nothing && container.State.Stopped() }
	f := h.untouched
	if c.images != nothing || c.containers != nothing {
		f = h.fateOf(c, isGone)
	}
	if c.containers != nothing {
		add(h.writableLayers(isGone))
	}
	if c.volumes != nothing {
		add(h.volumesFreed(c.volumes, isGone))
	}
	if c.images != nothing || c.containers != nothing && bounded { // alone, the layers of removed images say too little
		add(h.layersFreed(c, f))
	}
	if c.cache != nothing {
		add(h.cacheFreed(c, f))
	}
	if !bounded {
		return model.Optional[Reclaimable]{}
	}
	sum.Exact = sum.Exact && complete
	return model.Known(sum)
}

// writableLayers are those of the containers that go.
func (h *host) writableLayers(isGone func(model.Container) bool) model.Optional[Reclaimable] {
	if !h.containersKnown {
		return model.Optional[Reclaimable]{}
	}
	var sizes []model.Optional[int64]
	for _, container := range h.containers {
		if isGone(container) {
			sizes = append(sizes, container.Size)
		}
	}
	return added(sizes)
}

// added adds up sizes as far as they are known. If none of them is, there is no bound.
func added(sizes []model.Optional[int64]) model.Optional[Reclaimable] {
	sum, bounded := Reclaimable{Exact: true}, len(sizes) == 0
	for _, size := range sizes {
		_, known := size.Get()
		bounded = bounded || known
		sum = sum.plusOptional(size)
	}
	if !bounded {
		return model.Optional[Reclaimable]{}
	}
	return model.Known(sum)
}

// volumesFreed is what a volume prune frees: the local driver's volumes that were
// made without options and that no container has, running or not. By default only
// those that were made without a name.
func (h *host) volumesFreed(s scope, isGone func(model.Container) bool) model.Optional[Reclaimable] {
	volumes, known := h.volumes.Get()
	if !known || !h.containersKnown {
		return model.Optional[Reclaimable]{}
	}
	used := model.UsedVolumes(h.containers, isGone)
	var sizes []model.Optional[int64]
	for _, volume := range volumes {
		if volume.Local && (volume.Anonymous || s == all) && !used[volume.Name] {
			size := volume.Size
			if volume.SizeStale {
				size = model.Optional[int64]{}
			}
			sizes = append(sizes, size)
		}
	}
	return added(sizes)
}

// A fate is what becomes of images and layers when a command runs.
type fate struct {
	known          bool   // of the rest only held is, otherwise
	removed        []bool // images
	going, staying []bool // layers; no layer does both

	// held is what containers and images that stay hold of layers that nobody has looked
	// at, at most; unknown if one of them does not say. The other way round, unseen says
	// that a container goes whose layers nobody has looked at.
	held   model.Optional[int64]
	unseen bool
	byName int // mounts that stay, of images that nothing tells
}

// fateOf finds what a cleanup does to images, and with them, or with containers whose
// image was removed by force before, to the layers that nothing else has.
func (h *host) fateOf(c cleanup, isGone func(model.Container) bool) fate {
	if c.images == nothing || !h.layersKnown {
		return h.fateIf(make([]bool, len(h.images)), h.layersKnown, isGone)
	}
	removed, known := h.removeImages(c.images, isGone)
	f := h.fateIf(removed, known, isGone)
	f.unseen = f.unseen || !h.namesKnown
	return f
}

// fateIf is fateOf when it is known, or not, which images are removed.
func (h *host) fateIf(removed []bool, known bool, isGone func(model.Container) bool) fate {
	f := fate{known: known, removed: removed}
	if h.layersKnown {
		f.going, f.staying = make([]bool, len(h.layers.layers)), make([]bool, len(h.layers.layers))
	}
	held := Reclaimable{Exact: h.containersKnown}
	f.byName, f.unseen = h.mounted(f, isGone)
	for i, container := range h.containers {
		top, looked := h.topOf(i)
		switch {
		case looked && isGone(container):
			h.layers.markDown(f.going, top)
		case looked:
			h.layers.markDown(f.staying, top)
		case isGone(container):
			f.unseen = true
		case h.imageOf[i] == none:
			held = held.plusOptional(container.ImageSize)
		}
	}
	if f.known {
		for i, top := range h.tops {
			if f.removed[i] {
				h.layers.markDown(f.going, top)
				continue
			}
			h.layers.markDown(f.staying, top)
			if image := h.images[i]; image.SeveralPlatforms { // of which only one was looked at
				held = held.plusOptional(image.Size)
			}
		}
		for i := range f.going {
			f.going[i] = f.going[i] && !f.staying[i]
		}
	}
	if held.Exact {
		f.held = model.Known(held.Bytes)
	}
	return f
}

// topOf is the uppermost layer under a container, if it was looked at.
func (h *host) topOf(container int) (top int32, looked bool) {
	switch image := h.imageOf[container]; {
	case !h.layersKnown:
		return bottom, false
	case image != none:
		return h.tops[image], true
	default:
		return h.layers.top(h.containers[container].ImageID)
	}
}

// layersFreed is what the layers that go free, and with the containerd store their
// blobs.
func (h *host) layersFreed(c cleanup, f fate) model.Optional[Reclaimable] {
	unknown := model.Optional[Reclaimable]{}
	if !f.known {
		return unknown
	}
	freed := h.layers.sum(f.going)
	freed.Exact = freed.Exact && !f.unseen
	held, heldKnown := f.held.Get()
	if !heldKnown && freed.Bytes > 0 {
		return unknown
	}
	freed = freed.without(held).without(h.layersByName(f)).without(h.packed).without(h.layers.gap(f.going))
	blobs := Reclaimable{Exact: true}
	if h.store == model.Containerd {
		blobs = h.layers.blobs.freed(h.layers, h.images, f.removed)
	}
	if freed.Bytes == 0 && blobs.Bytes == 0 {
		return model.Known(freed.plus(blobs))
	}
	if _, known := h.cache.Get(); !known {
		return unknown // it may hold all of them
	}
	survivors := h.surviving(c.cache, f)
	return model.Known(h.withoutCached(freed, f, survivors).plus(h.withoutBlobs(blobs, f, survivors)))
}

// used tells which images containers use that stay.
func (h *host) used(isGone func(model.Container) bool) []bool {
	used := make([]bool, len(h.images))
	for i, container := range h.containers {
		if image := h.imageOf[i]; image != none && !isGone(container) {
			used[image] = true
		}
	}
	return used
}

// removeImages tells which images an image prune removes when some containers have
// gone. It is unknown if the name is by which one of the others was created.
func (h *host) removeImages(s scope, isGone func(model.Container) bool) (goes []bool, known bool) {
	used := h.used(isGone)
	switch {
	case h.store == model.Containerd && s == all:
		return h.unprotected(used, isGone)
	case h.store == model.Containerd:
		// Every record without a name that no container uses, parents too.
		goes = make([]bool, len(h.images))
		for i, image := range h.images {
			goes[i] = isNameless(image) && !used[i]
		}
		return goes, true
	case s == all:
		return h.withoutDescendantsIn(used), true
	default:
		return h.untaggedHeads(used), true
	}
}

// isNameless tells whether neither a tag nor a digest reference points to an image, as
// far as that is known.
func isNameless(image model.Image) bool {
	return len(image.Tags) == 0 && image.HasDigest == model.Known(false)
}

func isDigested(image model.Image) bool { return image.HasDigest == model.Known(true) }

// withoutDescendantsIn are the images that graph drivers remove with --all: those
// that no container uses, nor an image that was built on them.
func (h *host) withoutDescendantsIn(used []bool) (goes []bool) {
	stays := make([]bool, len(h.images))
	for i := range h.images {
		for at := int32(i); used[i] && at != none && !stays[at]; at = h.parents[at] {
			stays[at] = true
		}
	}
	for i := range stays {
		stays[i] = !stays[i]
	}
	return stays
}

// untaggedHeads are the images that graph drivers remove by default: those without a
// tag that nothing was built on, and what goes with them. None of them is used by a
// container.
func (h *host) untaggedHeads(used []bool) (goes []bool) {
	isParent := make([]bool, len(h.images))
	for _, parent := range h.parents {
		if parent != none {
			isParent[parent] = true
		}
	}
	isHead := make([]bool, len(h.images))
	for i, image := range h.images {
		isHead[i] = len(image.Tags) == 0 && !isParent[i] && !used[i]
	}
	return h.withParents(isHead, used)
}

// withParents adds to images that go the nameless ones that they alone were built on,
// and again those that these were. None of them is used by a container.
func (h *host) withParents(heads, used []bool) (goes []bool) {
	children := make([]int, len(h.images))
	for _, parent := range h.parents {
		if parent != none {
			children[parent]++
		}
	}
	goes = slices.Clone(heads)
	for i, isHead := range heads {
		if !isHead {
			continue
		}
		for at := h.parents[i]; at != none; at = h.parents[at] {
			children[at]--
			if children[at] > 0 || used[at] || heads[at] || !isNameless(h.images[at]) {
				break
			}
			goes[at] = true
		}
	}
	return goes
}

// unprotected are the images that the containerd store removes with --all. It goes by
// names: a container protects the name that it was created from, whatever that points
// to by now. It protects its image only where that has no name, or where it was
// created from its ID or digest.
func (h *host) unprotected(used []bool, isGone func(model.Container) bool) (goes []bool, known bool) {
	protected := make(map[string]bool) // names
	pinned := make([]bool, len(h.images))
	for i, container := range h.containers {
		if isGone(container) {
			continue
		}
		from, known := container.CreatedFrom.Get()
		if !known {
			return nil, false
		}
		protected[from.Tag] = true
		if image := h.imageOf[i]; image != none && from.Pinned {
			pinned[image] = true
		}
	}
	goes = make([]bool, len(h.images))
	for i, image := range h.images {
		isProtected := slices.ContainsFunc(image.Tags, func(tag string) bool { return protected[tag] })
		mayBeNameless := len(image.Tags) == 0 && !isDigested(image)
		goes[i] = !isProtected && !pinned[i] && !(mayBeNameless && used[i])
	}
	return goes, true
}
