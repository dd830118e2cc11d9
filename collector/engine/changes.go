package engine

import (
	"slices"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/model"
)

// changeQueue holds the objects that events have named and that are to be inspected.
type changeQueue struct {
	pending map[objectKey]change
	checked time.Time
	named   int // how often an event has named an object
}

// change is when an object was named, since it was last inspected.
type change struct{ first, last time.Time }

const (
	// An event can arrive before its effect is visible, and rarely alone. An inspection
	// waits until nothing was heard for the debounce time, but no longer than maxDelay.
	debounce = 400 * time.Millisecond
	maxDelay = 800 * time.Millisecond
)

// maxPending bounds the queue. For more objects a list costs the engine less: inspecting an
// image costs the containerd store as much as ten images of a list, and inspecting a
// container next to nothing.
func maxPending(k kind) int {
	if k == images {
		return 50
	}
	return 1000
}

// add queues an object, and reports false if there are too many of its kind.
func (q *changeQueue) add(key objectKey, now time.Time) bool {
	c, there := q.pending[key]
	if !there {
		if q.count(key.kind) >= maxPending(key.kind) {
			return false
		}
		if q.pending == nil {
			q.pending = make(map[objectKey]change)
		}
		c.first = now
	}
	c.last = now
	q.pending[key] = c
	return true
}

func (q *changeQueue) count(k kind) (n int) {
	for key := range q.pending {
		if key.kind == k {
			n++
		}
	}
	return n
}

// drop removes the objects whose last event was settled when a list was requested.
func (q *changeQueue) drop(k kind, listed time.Time) {
	for key, c := range q.pending {
		if key.kind == k && listed.Sub(c.last) >= debounce {
			delete(q.pending, key)
		}
	}
}

// ready removes and returns the objects to inspect. One that has not settled stays queued.
func (q *changeQueue) ready(isWanted func(kind) bool, now time.Time) (ready []objectKey) {
	for key, c := range q.pending {
		switch {
		case !isWanted(key.kind):
		case now.Sub(c.last) >= debounce:
			ready = append(ready, key)
			delete(q.pending, key)
		case now.Sub(c.first) >= maxDelay:
			ready = append(ready, key)
			q.pending[key] = change{first: now, last: c.last}
		}
	}
	return ready
}

// needsInspections reports whether changes of a kind must be inspected: where a list is fast
// and answers, the next snapshot makes one anyway.
func (s *state) needsInspections(k kind, now time.Time) bool {
	if k == images && !s.images.known || k == containers && !s.containers.known {
		return false // there will be a list
	}
	sched := s.schedules[k]
	isStuck := sched.inFlight && now.Sub(sched.started) >= s.fastLimit(k)
	return isStuck || !sched.isFast(s.fastLimit(k))
}

// objectChanged queues an object for inspection, or marks the list stale if there are too many.
func (s *state) objectChanged(key objectKey, now time.Time) {
	s.changed.named++
	if key.kind == images {
		s.store.named = s.version
	}
	if key.kind == images && s.store.content != nil || key.id != "" && !s.changed.add(key, now) {
		s.schedules[key.kind].stale = true
	}
}

type inspectedImage struct {
	id    string
	image model.Image
	err   error
}

// mergeChanges takes the inspection of one changed object. If it fails, the list is stale.
func (s *state) mergeChanges(r result, now time.Time) {
	switch v := r.value.(type) {
	case inspectedContainer:
		if docker.IsGone(v.err) || v.err == nil {
			s.mergeContainer(v, r.task.version, now)
			return
		}
		s.schedules[containers].stale = true
	case inspectedImage:
		switch {
		case docker.IsGone(v.err):
			s.images.remove(v.id, r.task.version)
			delete(s.contents.failures, v.id)
			s.contents.version++
			s.health.record("layers", inspectImages, s.contents.firstFailure())
		case v.err != nil:
			s.schedules[images].stale = true
		default:
			s.mergeImage(v.image, r.task.version)
		}
	}
}

// mergeImage takes an inspected image. Its sizes never change; those of the list are better,
// because the containerd store includes more in them. Its tags may have been moved here from
// other images, for which there is no event.
func (s *state) mergeImage(inspected model.Image, version int) {
	if before := s.images.get(inspected.ID); len(before) == 1 {
		inspected.Size, inspected.Sizes = before[0].Size, before[0].Sizes
	}
	if !inspected.Size.IsKnown() {
		s.schedules[images].stale = true
	}
	s.images.update(inspected.ID, version, inspected)
	list, _ := s.images.all()
	for _, other := range list {
		isMoved := func(tag string) bool { return slices.Contains(inspected.Tags, tag) }
		if other.ID != inspected.ID && slices.ContainsFunc(other.Tags, isMoved) {
			other.Tags = slices.DeleteFunc(slices.Clone(other.Tags), isMoved)
			s.images.update(other.ID, version, other)
		}
	}
}
