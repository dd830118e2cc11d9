package prune

import (
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

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
	Holders      []Holder                     // of known size, the largest first
}

// Summarizer makes summaries. It keeps the figures of the last one until what they depend on
// changes, or an object becomes older than minAge.
type Summarizer struct {
	Repositories int // how many of the largest ones to include
	Holders      int // the same

	mu   sync.Mutex
	last figures
}

// figures are what is expensive to compute, as if sizes were bytes on the disk.
type figures struct {
	from         model.Snapshot
	start, end   time.Time // valid from start until before end, or always if end is zero
	layers       model.Optional[int]
	usage        map[model.Resource]int64
	reclaimable  map[Command]Reclaimable
	repositories model.Optional[[]Repository]
	holders      []Holder
	leftovers    model.Optional[int64] // in containerd; 0 where that is not read
}

// inputs returns what figures depend on, besides the time. Of layers and of the list it has the
// version only.
func inputs(s model.Snapshot) model.Snapshot {
	return model.Snapshot{
		Engine: s.Engine, Images: s.Images, Containers: s.Containers, Volumes: s.Volumes, BuildCache: s.BuildCache,
		FailedImages: s.FailedImages, BuildCacheStale: s.BuildCacheStale, ContentsVersion: s.ContentsVersion, StoreStale: s.StoreStale,
		LayerStore: s.LayerStore, EngineStarted: s.EngineStarted,
	}
}

// Summarize returns the summary of a snapshot. The age of objects is that at the time of the
// snapshot.
func (z *Summarizer) Summarize(s model.Snapshot) Summary {
	z.mu.Lock()
	defer z.mu.Unlock()
	isValid := s.ContentsVersion != 0 && !s.At.Before(z.last.start) && (z.last.end.IsZero() || s.At.Before(z.last.end))
	if !isValid || !reflect.DeepEqual(inputs(s), z.last.from) {
		z.last = figures{} // which has the lists before
		z.last = compute(s, z.Repositories, z.Holders)
	}
	return summarize(s, z.last)
}

// Summarize returns the summary of a snapshot, with up to the given number of repositories.
func Summarize(s model.Snapshot, repositories int) Summary {
	return (&Summarizer{Repositories: repositories}).Summarize(s)
}

// summarize adds figures to a snapshot, as far as sizes are bytes on its disks.
func summarize(s model.Snapshot, f figures) Summary {
	sum := Summary{Snapshot: s, Counts: model.CountObjects(s), Reclaimable: make(map[Command]Reclaimable, len(f.reclaimable))}
	sum.Counts.Images.Layers = f.layers
	sum.DiskUsage = maps.Clone(f.usage)
	if bytes, known := s.ContainerLogs.Get(); known {
		sum.DiskUsage[model.ContainerLogs] = bytes
	}
	stored, isComplete := f.leftovers.Get()
	if sizes, known := s.Leftovers.Get(); known && isComplete {
		sizes.Layers = saturate(sizes.Layers, stored)
		sum.Leftovers, sum.DiskUsage[model.Leftovers] = model.Known(sizes), sizes.Sum()
	}
	engine, _ := s.Engine.Get()
	limit := limitOf(s, engine)
	for command, r := range f.reclaimable {
		sum.Reclaimable[command] = limit(r)
	}
	if repositories, known := f.repositories.Get(); known {
		repositories = slices.Clone(repositories)
		for i := range repositories {
			if bytes, known := repositories[i].Reclaimable.Get(); known {
				repositories[i].Reclaimable = model.Known(limit(Reclaimable{Estimate: bytes}).Estimate)
			}
		}
		sum.Repositories = model.Known(repositories)
	}
	for _, holder := range f.holders {
		holder.Bytes = limit(Reclaimable{Estimate: holder.Bytes}).Estimate
		if frees, known := holder.Frees.Get(); known {
			holder.Frees = model.Known(limit(Reclaimable{Estimate: frees}).Estimate)
		}
		sum.Holders = append(sum.Holders, holder)
	}
	return sum
}

// compute returns the figures of a snapshot.
func compute(s model.Snapshot, repositories, holders int) figures {
	f := figures{from: inputs(s), start: s.At, end: nextAged(s)}
	engine, known := s.Engine.Get()
	h := newHost(s, engine)
	if h.isInspected {
		f.layers = model.Known(h.listedLayers)
	}
	f.usage, f.leftovers = h.diskUsage(s), model.Known[int64](0)
	switch {
	case h.content == nil:
	case s.BuildCacheStale: // leases may be of records that are not listed yet
		f.leftovers = model.Optional[int64]{}
	default:
		f.leftovers = h.content.leftovers()
	}
	if !known {
		delete(f.usage, model.Images)
		return f
	}
	if engine.Podman { // its API does not show the containers of builds, which hold images
		return f
	}
	f.reclaimable = h.reclaim(s)
	f.repositories = h.largestRepositories(repositories)
	f.holders = h.largestHolders(holders)
	return f
}

// nextAged returns when the next object becomes older than minAge, or zero if none does.
func nextAged(s model.Snapshot) (next time.Time) {
	consider := func(date model.Optional[time.Time]) {
		if at, known := date.Get(); known {
			if at = at.Add(minAge); at.After(s.At) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	images, _ := s.Images.Get()
	for i := range images {
		consider(images[i].CreatedAt())
	}
	containers, _ := s.Containers.Get()
	for i := range containers {
		consider(containers[i].Created)
	}
	cache, _ := s.BuildCache.Get()
	for i := range cache {
		consider(cache[i].LastUsedAt)
		if used, known := cache[i].LastUsedAt.Get(); known {
			consider(model.Known(used.Add(lookupLease - minAge)))
		}
	}
	store, _ := s.Store.Get()
	for i := range store.Images {
		consider(model.Known(store.Images[i].Created))
	}
	for i := range store.Leases {
		if at, known := store.Leases[i].Expires.Get(); known {
			consider(model.Known(at.Add(-minAge)))
		}
	}
	return next
}
