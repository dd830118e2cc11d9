package prune

import (
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
)

// contentGraph builds the graph of what containerd reports. It simulates containerd's garbage
// collector (metadata.gcContext): an object stays while a root reaches it. Piece i is object i.
type contentGraph struct {
	*host
	graph   *graph
	store   model.ContentStore
	at      time.Time
	index   map[string]int32 // objects by key
	leases  map[string]int   // by ID
	claimed []bool           // leases of known containers and records
	visited []int            // the last walk that visited each object
	walks   int

	isLayer map[string]bool // of images, by digest
	blobs   []string        // of each record: the digest of its own blob, or "" if it is no layer of an image
	garbage int             // holder of objects without a root
	pulls   []int           // holders of leases that image prunes delete
	sources []int           // holders of leases that builder prunes delete
	lost    []int           // holders of leases that never end, and belong to no known object
}

// newContentGraph returns the graph at a time. Images, containers, volumes and records have the
// usual holders. Each other lease and root has one, and so has what nothing keeps.
func newContentGraph(h *host, store model.ContentStore, at time.Time) *contentGraph {
	c := &contentGraph{host: h, store: store, at: at, index: make(map[string]int32, len(store.Objects)), leases: make(map[string]int, len(store.Leases)),
		claimed: make([]bool, len(store.Leases)), visited: make([]int, len(store.Objects)), isLayer: make(map[string]bool), blobs: make([]string, len(h.cache))}
	c.graph = &graph{pieces: make([]piece, 0, len(store.Objects)), holders: make([]holder, h.recordHolder(len(h.cache)))}
	for i, object := range store.Objects {
		c.index[object.Key] = int32(i)
	}
	for i, lease := range store.Leases {
		c.leases[lease.ID] = i
	}
	for _, manifests := range store.Layers {
		for _, digest := range slices.Concat(manifests...) {
			c.isLayer[digest] = true
		}
	}
	sizes := make(map[string]int, len(h.containers)) // containers by the key of what they write to
	for i, container := range h.containers {
		sizes[model.SnapshotKey(container.ID)] = i
	}
	for _, object := range store.Objects {
		at := c.graph.addOwn(object.Size)
		p := &c.graph.pieces[at]
		if parent, exists := c.index[object.Parent]; exists {
			p.parent = parent
		}
		if object.IsElsewhere {
			p.likely, p.certain = 0, 0
		}
		if i, isWritable := sizes[object.Key]; isWritable && !object.Size.IsKnown() {
			bytes, known := h.containers[i].Size.Get()
			p.likely, p.certain, p.isOpen = bytes, bytes, !known
		}
	}
	c.holdImages()
	for i := range h.containers {
		c.holdContainer(i)
	}
	h.holdVolumes(c.graph)
	for i, record := range h.cache {
		c.holdRecord(i, record)
	}
	c.holdRest()
	return c
}

// isOver reports whether something that expires has expired.
func (c *contentGraph) isOver(expires model.Optional[time.Time]) bool {
	end, known := expires.Get()
	return known && !end.After(c.at)
}

// holdImages makes each image hold what its names keep.
func (c *contentGraph) holdImages() {
	names := make(map[string]bool)
	for _, name := range c.store.Images {
		names[name.Target] = names[name.Target] || !c.isOver(name.Expires)
	}
	for i, image := range c.images {
		if names[image.ID] {
			c.hold(&c.graph.holders[i], []string{model.BlobKey(image.ID)}, false)
		}
	}
}

// holdContainer makes a container hold what its lease keeps (moby: daemon/containerd.createLayer).
func (c *contentGraph) holdContainer(i int) {
	container, holder := &c.containers[i], &c.graph.holders[c.containerHolder(i)]
	c.holdLease(holder, container.ID)
	c.hold(holder, []string{model.SnapshotKey(container.ID)}, true)
	keepsLog := container.State != model.Created && container.KeepsLog != model.Known(false)
	directory := c.graph.addOwn(container.DirectorySize)
	holder.pieces = append(holder.pieces, directory)
	c.graph.pieces[directory].isOpen = !container.DirectorySize.IsKnown() && keepsLog || len(container.MountedImages) > 0
}

// holdRecord makes a record of the build cache hold what its leases keep (BuildKit:
// cache.cacheRecord.remove). A record that has none may hold anything.
func (c *contentGraph) holdRecord(i int, record model.CacheRecord) {
	holder := &c.graph.holders[c.recordHolder(i)]
	lease, exists := c.leases[record.ID]
	if !exists {
		if !record.InUse {
			c.isStale = true
		}
		return
	}
	for _, key := range c.store.Leases[lease].Resources { // it may keep documents of its image, too
		if digest, isBlob := strings.CutPrefix(key, model.BlobKey("")); isBlob && c.isLayer[digest] {
			c.blobs[i] = digest
		}
	}
	for _, suffix := range []string{"", "-variants", "-view"} {
		c.holdLease(holder, record.ID+suffix)
	}
}

// holdLease makes an object hold what a lease keeps, if there is one.
func (c *contentGraph) holdLease(holder *holder, id string) {
	i, exists := c.leases[id]
	if !exists {
		return
	}
	c.claimed[i] = true
	if lease := c.store.Leases[i]; !c.isOver(lease.Expires) {
		c.hold(holder, lease.Resources, lease.IsFlat)
	}
}

// holdRest adds the holders of leases that belong to no known object, of roots, and of what
// nothing keeps.
func (c *contentGraph) holdRest() {
	addHolder := func(keys []string, isFlat bool) int {
		c.graph.holders = append(c.graph.holders, holder{})
		at := len(c.graph.holders) - 1
		c.hold(&c.graph.holders[at], keys, isFlat)
		return at
	}
	for i, lease := range c.store.Leases {
		if c.claimed[i] || c.isOver(lease.Expires) {
			continue
		}
		switch at := addHolder(lease.Resources, lease.IsFlat); {
		case lease.IsOfPull:
			c.pulls = append(c.pulls, at)
		case lease.IsOfSource:
			c.sources = append(c.sources, at)
		case !lease.Expires.IsKnown():
			c.lost = append(c.lost, at)
		}
	}
	var roots []string
	for _, object := range c.store.Objects {
		if object.IsRoot {
			roots = append(roots, object.Key)
		}
	}
	addHolder(roots, false)
	kept := make([]bool, len(c.graph.pieces))
	for _, holder := range c.graph.holders {
		c.graph.reach(kept, holder.pieces)
	}
	c.garbage = addHolder(nil, false)
	for at := range c.store.Objects {
		if !kept[at] {
			c.graph.holders[c.garbage].pieces = append(c.graph.holders[c.garbage].pieces, int32(at))
		}
	}
}

// hold makes an object hold what some keys reach. A flat lease follows no references.
func (c *contentGraph) hold(holder *holder, keys []string, isFlat bool) {
	c.walks++
	work := make([]int32, 0, len(keys))
	add := func(keys []string) {
		for _, key := range keys {
			if at, exists := c.index[key]; exists {
				holder.pieces, work = append(holder.pieces, at), append(work, at)
			}
		}
	}
	add(keys)
	for len(work) > 0 && !isFlat {
		at := work[len(work)-1]
		work = work[:len(work)-1]
		for ; at != none && c.visited[at] != c.walks; at = c.graph.pieces[at].parent {
			c.visited[at] = c.walks
			add(c.store.Objects[at].References)
		}
	}
}

// addRest adds to a removal what a command removes besides images, containers and records. An
// image prune deletes the leases of pulls. What is removed makes containerd collect garbage; a
// builder prune always does (BuildKit: cache.cacheManager.Prune).
func (c *contentGraph) addRest(spec pruneSpec, r *removal) {
	remove := func(holders ...int) {
		for _, at := range holders {
			r.likely[at], r.certain[at] = true, true
		}
	}
	if spec.images != removeNone {
		remove(c.pulls...)
	}
	if spec.cache != removeNone {
		remove(c.sources...)
		r.isUnsure = r.isUnsure || len(c.sources) > 0 && slices.ContainsFunc(c.cache, func(record model.CacheRecord) bool { return record.InUse })
	}
	isVolume := func(at int) bool { return at >= c.volumeHolder(0) && at < c.recordHolder(0) }
	for at, goes := range r.likely {
		if goes && !isVolume(at) || spec.cache != removeNone {
			remove(c.garbage)
			break
		}
	}
}

// sharedRecords returns which records a builder prune takes as parts of the images that remain
// (BuildKit: cache.cacheManager.pruneOnce): likely ones, whose chain is all layers of an image, and for
// the minimum also those that may be. BuildKit may have taken the chain before all blobs of it existed,
// and keeps it until it is restarted. Then the engine reports a record as shared, and no chain explains
// it: it stays as long as no image goes. Or the chain without some blobs is that of another image.
//
// Example: a record has the layers 1 and 2, as the removed image has. Another image, with layer 1 only,
// remains: BuildKit keeps the record if it has listed it before blob 2 existed.
func (c *contentGraph) sharedRecords(removedImages []bool) (likely, may []bool, isUnsure bool) {
	before, after := make(map[string]bool), make(map[string]bool)
	var remaining [][]string
	for i, image := range c.images {
		for _, layers := range c.store.Layers[image.ID] {
			joined := strings.Join(layers, "")
			before[joined] = true
			if !removedImages[i] && joined != "" {
				after[joined], remaining = true, append(remaining, layers)
			}
		}
	}
	isBelowShared := make([]bool, len(c.cache)) // the engine reports all that is below a shared record as shared, too
	for i, record := range c.cache {
		for _, parent := range c.matches.parents[i] {
			isBelowShared[parent] = isBelowShared[parent] || record.Shared
		}
	}
	likely, may = make([]bool, len(c.cache)), make([]bool, len(c.cache))
	for i, record := range c.cache {
		if !record.Shared {
			continue
		}
		chain := c.chain(int32(i), 0)
		joined := strings.Join(chain, "")
		isUnexplained := !before[joined] && !isBelowShared[i]
		likely[i] = after[joined] || isUnexplained
		may[i] = likely[i] || slices.ContainsFunc(remaining, func(layers []string) bool { return isPart(layers, chain) })
		isUnsure = isUnsure || isUnexplained && slices.Contains(removedImages, true)
	}
	return likely, may, isUnsure
}

// isPart reports whether a chain without some of its layers is a list of layers.
func isPart(layers, chain []string) bool {
	for _, blob := range chain {
		if len(layers) > 0 && layers[0] == blob {
			layers = layers[1:]
		}
	}
	return len(layers) == 0
}

// fillUsage replaces the disk usage of what is in the store, as far as it is known, by what images,
// then records, then containers reach. Nothing is counted twice.
func (c *contentGraph) fillUsage(usage map[model.Resource]int64) {
	counted := make([]bool, len(c.graph.pieces))
	count := func(from, to int) (bytes int64) {
		reached := slices.Clone(counted)
		for _, holder := range c.graph.holders[from:to] {
			c.graph.reach(reached, holder.pieces)
		}
		for at, object := range c.store.Objects {
			if reached[at] && !counted[at] {
				bytes = saturate(bytes, sizeOr(object.Size, c.graph.pieces[at].likely))
			}
		}
		counted = reached
		return bytes
	}
	images, records := count(0, len(c.images)), count(c.recordHolder(0), c.recordHolder(len(c.cache)))
	containers := count(c.containerHolder(0), c.volumeHolder(0))
	if c.isInspected {
		usage[model.Images] = images
	}
	if _, known := usage[model.BuildCache]; known {
		usage[model.BuildCache] = records
	}
	if _, known := usage[model.Containers]; known {
		usage[model.Containers] = containers
	}
}

// leftovers returns the bytes of what only leases keep that belong to no known object, or nothing.
// It is unknown while a build runs, whose records and leases come and go.
func (c *contentGraph) leftovers() model.Optional[int64] {
	if !c.cacheKnown || !c.containersKnown || !c.isInspected || slices.ContainsFunc(c.cache, func(r model.CacheRecord) bool { return r.InUse }) {
		return model.Optional[int64]{}
	}
	kept := make([]bool, len(c.graph.pieces))
	for at, holder := range c.graph.holders {
		if at != c.garbage && !slices.Contains(c.lost, at) {
			c.graph.reach(kept, holder.pieces)
		}
	}
	var bytes int64
	for at, object := range c.store.Objects {
		if !kept[at] && !object.IsElsewhere {
			bytes = saturate(bytes, sizeOr(object.Size, 0))
		}
	}
	return model.Known(bytes)
}

// maxChain bounds the number of records on each other, in case a record is its own ancestor.
const maxChain = 1000

// chain returns the digests of the blobs of a record and of those below it (BuildKit:
// cache.cacheRecord.layerDigestChain). A record that has several parents and no blob is a merge
// of them.
func (c *contentGraph) chain(record int32, depth int) (digests []string) {
	parents := c.matches.parents[record]
	if depth < maxChain && (len(parents) == 1 || c.blobs[record] == "") {
		for _, parent := range parents {
			digests = append(digests, c.chain(parent, depth+1)...)
		}
	}
	return append(digests, c.blobs[record])
}
