package engine

import (
	"slices"
	"time"

	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
)

// request is somebody who wants a snapshot.
type request struct {
	notBefore time.Time // when the oldest answer in the snapshot may have been requested
	reply     chan model.Snapshot
	now       bool // do not wait
}

// resyncInterval is how often the engine's own counts are compared with the known objects.
const resyncInterval = time.Minute

// leftoversInterval is how often leftovers are searched for, at most.
const leftoversInterval = 10 * time.Minute

// due returns the requests to make now, and marks them as in flight.
func (s *state) due(now time.Time) (tasks []task) {
	if len(s.waiting) > 0 {
		s.markStale()
	}
	for _, k := range kinds() {
		if s.schedules[k].inFlight || !s.isDue(k, now) {
			continue
		}
		if t, needed := s.prepare(k, now); needed {
			s.version++
			t.kind, t.epoch, t.version, t.api = k, s.epoch, s.version, s.api
			s.schedules[k].begin(now)
			tasks = append(tasks, t)
		} else {
			s.schedules[k].checked = now // once for each snapshot: it takes time by the number of objects
		}
	}
	return tasks
}

// isDue reports whether to make a request of a kind that is not in flight.
func (s *state) isDue(k kind, now time.Time) bool {
	switch k {
	case filesystems:
		return s.isWanted(k, now)
	case ping:
		return s.isWanted(k, now) || s.wantsStream(now) && !s.isFresh(ping)
	}
	if s.api == nil {
		return false
	}
	switch k {
	case info:
		return s.isInfoDue(now)
	case events:
		return s.wantsStream(now) && s.isFresh(ping) && s.isFresh(info) && !s.schedules[info].ended.IsZero()
	case changes:
		sched := s.schedules[changes]
		limit := s.config.BusyRatio.Changed
		isAllowed := limit >= 1 || sched.took.Seconds() <= limit*now.Sub(sched.ended).Seconds()
		return isAllowed && now.Sub(s.changed.checked) >= debounce/4
	case containers:
		if s.awaitsStore(now) {
			return false
		}
	case storeRetries:
		return s.store.attempts.failures > 0 && s.store.attempts.isDue(now) && !s.schedules[images].inFlight && s.isWanted(k, now)
	case contents, details: // once for each object; what fails has a back-off of its own
		return s.isWanted(k, now)
	case sizeRetries:
		return s.config.ContainerSizes && s.isWanted(k, now)
	}
	if !s.isEnabled(k) || !s.isWanted(k, now) {
		return false
	}
	if sched := s.schedules[leftovers]; k == leftovers && sched.known && sched.failures == 0 && !sched.stale && now.Sub(sched.ended) < leftoversInterval {
		return false
	}
	if k == containerSizes {
		_, isStale := s.unmeasured(false, now)
		s.schedules[k].stale, s.schedules[k].checked = s.schedules[k].stale || isStale, now
	}
	return s.schedules[k].isDue(now, s.fastLimit(k), s.config.BusyRatio)
}

// isWanted reports whether somebody needs a newer answer, and waits for none that it depends
// on. The last one whose time was over counts, too: a client with a timeout that is shorter
// than a ping takes would otherwise never get a list.
func (s *state) isWanted(k kind, now time.Time) bool {
	if s.isUnusable(k) {
		return false
	}
	started, checked := s.schedules[k].started, s.schedules[k].checked
	isWantedBy := func(r request) bool {
		isOlder := started.Before(r.notBefore) && checked.Before(r.notBefore) || started.IsZero() && checked.IsZero()
		return isOlder && !slices.ContainsFunc(s.dependencies(k), func(d kind) bool { return s.needs(r, d, now) })
	}
	return !s.unserved.notBefore.IsZero() && isWantedBy(s.unserved) || slices.ContainsFunc(s.waiting, isWantedBy)
}

// isUnusable reports whether a request would have nothing to start from.
func (s *state) isUnusable(k kind) bool {
	switch k {
	case ping, filesystems:
		return false
	case contents:
		return !s.images.known
	case details, containerSizes, sizeRetries, containerLogs, leftovers:
		return !s.containers.known
	}
	return s.schedules[info].ended.IsZero()
}

// dependencies returns the requests whose answers come first, if they can be had soon: the
// ping and the engine's info before all others; the images before the build cache, so that
// both are of the same time; lists before the inspection of their objects.
func (s *state) dependencies(k kind) []kind {
	switch k {
	case images:
		if s.store.content != nil || s.store.mismatches == 1 { // it is compared with the containers
			return []kind{ping, info, containers}
		}
	case ping, filesystems:
		return nil
	case volumeSizes, buildCache, diskUsage, contents:
		return append(s.dependencies(images), images)
	case details, storeRetries:
		return []kind{ping, info, containers}
	case layerStore:
		return []kind{ping, info, images, containers}
	case containerSizes, sizeRetries, containerLogs, leftovers:
		return []kind{ping, info, containers, details}
	}
	return []kind{ping, info}
}

// isFresh reports whether the last request of a kind has ended and was sent since the event
// stream is to be opened. An older one may have reached the previous engine.
func (s *state) isFresh(k kind) bool {
	sched := s.schedules[k]
	return !sched.started.IsZero() && !sched.inFlight && !sched.started.Before(s.stream.retryAt)
}

func (s *state) wantsStream(now time.Time) bool {
	return s.config.Events && !s.schedules[events].inFlight && !now.Before(s.stream.retryAt)
}

// isInfoDue reports whether to get the engine's info: first of all, then from time to time, and
// for each snapshot while there is no event stream. Unless events are wanted, once is enough.
func (s *state) isInfoDue(now time.Time) bool {
	sched := s.schedules[info]
	switch {
	case sched.ended.IsZero():
		return true
	case sched.failures > 0:
		return now.Sub(sched.ended) >= backoff(sched.failures)
	}
	switch {
	case !s.config.Events:
		return false
	case !s.stream.connected && s.isWanted(info, now): // another engine may have taken its place
		return true
	}
	return now.Sub(sched.started) >= resyncInterval || s.wantsStream(now) && s.isFresh(ping) && !s.isFresh(info)
}

// isEnabled reports whether a kind is requested at all.
func (s *state) isEnabled(k kind) bool {
	canSplit := s.api.CanSplitDiskUsage()
	switch k {
	case volumes:
		return s.config.Volumes
	case volumeSizes:
		return s.config.Volumes && canSplit
	case buildCache:
		return s.config.BuildCache && canSplit
	case diskUsage:
		return (s.config.Volumes || s.config.BuildCache) && !canSplit
	case containerSizes:
		return s.config.ContainerSizes
	case containerLogs:
		return s.config.ContainerLogs && !s.isPodman
	case layerStore:
		return !s.isPodman && host.ReadsLayers(s.roots.StorageDriver) && s.roots.ImageStore == model.GraphDriver
	case leftovers:
		info, known := s.info.Get()
		list, _ := s.containers.all()
		return s.config.Leftovers && !s.isPodman && known && info.Containers <= len(list) // a proxy may hide some
	}
	return true
}

// prepare returns the task of a kind that is due, unless there is nothing to request.
func (s *state) prepare(k kind, now time.Time) (t task, needed bool) {
	sched := s.schedules[k]
	t.timeout = sched.timeout(0)
	switch k {
	case images:
		reported, _ := s.info.Get()
		t.store, t.images, t.count = reported.ImageStore, s.images.list, reported.Images
		if s.store.attempts.failures == 0 {
			s.prepareStore(&t)
		}
	case containers:
		t.ids = s.storedContainers(now)
	case storeRetries:
		s.prepareStore(&t)
		return t, t.storeTimeout > 0
	case volumeSizes, buildCache, diskUsage:
		t.timeout, t.asOf = sched.timeout(maxTimeout), s.cacheVersion() // the engine may walk many files
	case contents:
		list, _ := s.images.all()
		t.images = s.contents.uninspected(list, s.schedules[images].started, now)
		return t, len(t.images) > 0 || sched.ended.IsZero()
	case details:
		t.ids = s.uninspected(now)
		return t, len(t.ids) > 0
	case containerSizes:
		s.prepareSizes(&t, false, now)
	case sizeRetries:
		s.prepareSizes(&t, true, now)
		return t, len(t.containers) > 0
	case containerLogs, leftovers:
		t.containers, _ = s.detailedContainers()
		t.roots = s.roots
	case changes:
		s.changed.checked = now
		t.changed = s.changed.ready(func(k kind) bool { return s.needsInspections(k, now) }, now)
		reported, _ := s.info.Get()
		t.store = reported.ImageStore
		return t, len(t.changed) > 0
	case filesystems:
		t.roots = s.roots
	case layerStore:
		t.timeout, t.roots, t.objects = sched.timeout(maxTimeout), s.roots, s.objectsVersion()
	case events:
		if info, known := s.info.Get(); known && s.stream.since == 0 {
			s.stream.since = firstSince(info)
		}
		t.since = formatSince(s.stream.since)
	}
	return t, true
}

// needs reports whether a request in flight is worth waiting for: its answer is newer than
// what somebody wants to have at least, and is expected soon.
func (s *state) needs(r request, k kind, now time.Time) bool {
	sched := s.schedules[k]
	return sched.inFlight && sched.answered.Before(r.notBefore) && now.Sub(sched.started) < s.maxWait(k)
}

// maxWait returns how long a snapshot waits for a request in flight.
func (s *state) maxWait(k kind) time.Duration {
	sched := s.schedules[k]
	switch k {
	case ping, filesystems:
		return time.Hour // their own timeouts are short
	case events, changes, sizeRetries:
		return 0
	case storeRetries:
		return fastRequest
	case contents, details:
		return fastRequest
	}
	switch {
	case sched.ended.IsZero() && k == images && s.readsStore() && s.store.attempts.failures == 0: // the containers follow
		return storeTimeout
	case sched.ended.IsZero(): // no answer yet
		return s.config.Timeout
	case k == images && s.store.content != nil && sched.took < storeWait:
		return storeWait
	case sched.took < s.fastLimit(k):
		return s.fastLimit(k)
	}
	return 0
}

// answer replies to the requests that have nothing to wait for.
func (s *state) answer(now time.Time) {
	if len(s.waiting) == 0 || s.schedules[ping].ended.IsZero() { // before the first ping nothing is known
		return
	}
	var snapshot *model.Snapshot
	s.waiting = slices.DeleteFunc(s.waiting, func(r request) bool {
		isPending := slices.ContainsFunc(kinds(), func(k kind) bool { return s.needs(r, k, now) })
		if isPending && !r.now {
			return false
		}
		if snapshot == nil {
			taken := s.snapshot(now)
			snapshot = &taken
		}
		r.reply <- *snapshot
		return true
	})
}

// request takes a request. One that must be answered now takes the place of the one before.
func (s *state) request(r request) {
	if !r.now {
		s.waiting = append(s.waiting, r)
		return
	}
	i := slices.IndexFunc(s.waiting, func(before request) bool { return before.reply == r.reply })
	if i >= 0 { // else it was answered meanwhile
		s.waiting[i], s.unserved = r, request{notBefore: r.notBefore}
	}
}

// wake returns when there is something to do if nothing happens before.
func (s *state) wake(now time.Time) time.Time {
	next := now.Add(time.Hour)
	at := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	if len(s.waiting) > 0 {
		for _, k := range kinds() {
			if sched := s.schedules[k]; sched.inFlight {
				at(sched.started.Add(s.maxWait(k)))
			}
		}
	}
	for _, k := range []kind{images, containers} {
		switch sched := s.schedules[k]; {
		case s.changed.count(k) == 0:
		case s.needsInspections(k, now):
			at(now.Add(debounce / 4))
		case sched.inFlight:
			at(sched.started.Add(s.fastLimit(k)))
		}
	}
	if s.config.Events {
		at(s.stream.retryAt)
		at(s.schedules[info].started.Add(resyncInterval))
		if failures := s.schedules[info].failures; failures > 0 {
			at(s.schedules[info].ended.Add(backoff(failures)))
		}
	}
	return next
}
