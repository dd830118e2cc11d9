package engine

import (
	"slices"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/model"
)

type usage struct {
	volumes model.Optional[[]model.Volume] // without sizes

	sizes          model.Optional[map[string]int64] // of volumes, by name
	sizesVersion   int
	changedVolumes map[string]int // version of the last event, by name

	records      model.Optional[[]model.CacheRecord]
	recordsAsOf  cacheVersion
	recordsAt    time.Time // when they were requested
	cacheChanges int       // prunes, and gaps in the events
}

// cacheVersion identifies a time span in which the build cache and its relation to images
// have not changed, as far as is known.
type cacheVersion struct{ images, cache int }

func (s *state) cacheVersion() cacheVersion {
	return cacheVersion{s.images.generation, s.usage.cacheChanges}
}

func (s *state) mergeUsage(r result, now time.Time) {
	answer, _ := r.value.(docker.DiskUsage)
	switch k := r.task.kind; {
	case k == volumes:
		s.health.record("volumes", "list volumes", r.err)
		list, _ := r.value.([]model.Volume)
		s.usage.volumes = model.Of(list, r.err)
		return
	case s.config.Volumes && k != buildCache:
		s.takeVolumeSizes(r, answer.VolumeSizes, now)
	}
	if s.config.BuildCache && r.task.kind != volumeSizes {
		s.takeBuildCache(r, answer.BuildCache, now)
	}
}

func (s *state) takeVolumeSizes(r result, sizes map[string]int64, now time.Time) {
	s.health.measure("volumes", r.err, r.took, now)
	s.health.record("volumes", "measure volumes", r.err)
	s.usage.sizes, s.usage.sizesVersion = model.Of(sizes, r.err), r.task.version
	for name, changed := range s.usage.changedVolumes {
		if changed <= r.task.version {
			delete(s.usage.changedVolumes, name)
		}
	}
}

func (s *state) takeBuildCache(r result, records []model.CacheRecord, now time.Time) {
	s.health.measure("build_cache", r.err, r.took, now)
	s.health.record("build_cache", "list the build cache", r.err)
	before, _ := s.usage.records.Get()
	if s.store.startedAt.Before(s.usage.recordsAt) && !slices.EqualFunc(before, records, isSameRecord) {
		s.store.named = s.version // there is no event for it
	}
	s.usage.records, s.usage.recordsAsOf, s.usage.recordsAt = model.Of(records, r.err), r.task.asOf, now.Add(-r.took)
}

func isSameRecord(a, b model.CacheRecord) bool { return a.ID == b.ID }

// mayHaveMissedChanges reports whether an answer may be old without an event having said so.
func (s *state) mayHaveMissedChanges(k kind) bool {
	sched := s.schedules[k]
	return s.config.Events && !s.stream.connected && (sched.inFlight || !sched.isFast(s.fastLimit(k)))
}

// usageKind returns the kind of request that answers volumeSizes or buildCache.
func (s *state) usageKind(k kind) kind {
	if s.api != nil && !s.api.CanSplitDiskUsage() {
		return diskUsage
	}
	return k
}

func (s *state) fillUsage(snapshot *model.Snapshot) {
	if list, known := s.usage.volumes.Get(); known {
		sizes, _ := s.usage.sizes.Get()
		missed := s.mayHaveMissedChanges(s.usageKind(volumeSizes))
		volumes := make([]model.Volume, 0, len(list))
		for _, v := range list {
			if bytes, known := sizes[v.Name]; known {
				v.Size = model.Known(bytes)
				v.SizeStale = missed || s.usage.changedVolumes[v.Name] > s.usage.sizesVersion
			}
			volumes = append(volumes, v)
		}
		snapshot.Volumes = model.Known(volumes)
	}
	if records, known := s.usage.records.Get(); known {
		snapshot.BuildCache = model.Known(records)
		snapshot.BuildCacheStale = s.usage.recordsAsOf != s.cacheVersion() || s.mayHaveMissedChanges(s.usageKind(buildCache))
	}
}

// markStale marks answers that are known to be outdated or incomplete, unless others are on their way.
func (s *state) markStale() {
	mark := func(k kind, isStale bool) {
		if sched := s.schedules[k]; isStale && !sched.inFlight {
			sched.stale = true
		}
	}
	list, _ := s.usage.volumes.Get()
	sizes, _ := s.usage.sizes.Get()
	mark(images, s.store.content != nil && s.isStoreStale())
	mark(layerStore, s.layers.store != nil && s.layers.objects != s.objectsVersion())
	mark(s.usageKind(buildCache), s.usage.records.IsKnown() && s.usage.recordsAsOf != s.cacheVersion())
	mark(s.usageKind(volumeSizes), slices.ContainsFunc(list, func(v model.Volume) bool {
		_, known := sizes[v.Name]
		return v.Local && !known
	}))
}
