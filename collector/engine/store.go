package engine

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/containerd"
	"docker_buildup_exporter/collector/model"
)

// StoreReader reads what the containerd of an engine keeps. used are the times at which records
// of the build cache were last used; nil if no records are known.
type StoreReader func(ctx context.Context, e containerd.Engine, used map[string]time.Time) (containerd.Store, error)

// SizeReader connects to the containerd of an engine, and returns a function that measures the writable
// layer of a container in bytes.
type SizeReader func(ctx context.Context, e containerd.Engine) (measure func(ctx context.Context, container string) (int64, error), end func(), err error)

// store is what containerd reports, where it can be read. It takes the place of the image list
// and of the inspections of images.
type store struct {
	listUntil time.Time // containers are listed until then, not inspected

	content   *containerd.Store // nil: unknown
	version   int               // of the state when it was requested
	startedAt time.Time

	containers int // generation of the containers that it was proven with, or -1 before the first list
	named      int // version of the last event about an image, or of another change
	attempts   attempts
	mismatches int // in a row
}

// storeAnswer is what an images request has got from containerd.
type storeAnswer struct {
	content *containerd.Store // nil: the image list is of the Engine API
	err     error             // why it is, if containerd was tried; the state has it already as a part
}

// storeFailure is the value that says that containerd could not be read. The image list follows.
type storeFailure struct{ err error }

const (
	readStore = "read containerd's store"

	// storeTimeout is the deadline of a reading. It doubles with each failure, so that a store
	// that is merely large is read in the end: what was read is kept.
	storeTimeout    = 10 * time.Second
	maxStoreTimeout = 2 * time.Minute

	// storeWait is how long a snapshot waits for a reading that usually takes less.
	storeWait = 2 * time.Second
)

// fetchImages reads the images from containerd if the task says so. If not, or if that fails, it
// lists them with the Engine API. took excludes the time for a store that could not be read.
func (e *Engine) fetchImages(ctx context.Context, t task, part func(any)) (list []model.Image, answer storeAnswer, took time.Duration, err error) {
	started := time.Now()
	if t.storeTimeout > 0 {
		bounded, cancel := context.WithTimeout(ctx, t.storeTimeout)
		read, err := e.config.Store(bounded, t.containerd, t.used)
		cancel()
		if err == nil {
			return read.ImageList, storeAnswer{content: &read}, time.Since(started), nil
		}
		part(storeFailure{err})
		answer.err = err
		if t.kind == storeRetries {
			return nil, answer, time.Since(started), nil
		}
		started = time.Now()
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	list, err = t.api.Images(ctx, t.store, t.images, t.count)
	return list, answer, time.Since(started), err
}

// mergeStoreRetry takes a reading that was made without the image list. It takes the place of one.
func (s *state) mergeStoreRetry(r result, now time.Time) {
	if r.part || r.store.content != nil {
		s.mergeImages(r, now)
	}
	if sched := s.schedules[images]; s.store.content != nil && !sched.inFlight {
		sched.begin(s.schedules[storeRetries].started)
		sched.end(now, r.took, false, false)
	}
}

func (s *state) readsStore() bool {
	info, known := s.info.Get()
	return s.config.Store != nil && known && info.ImageStore == model.Containerd && !s.isPodman
}

// awaitsStore reports whether the store is about to be read for the first time. It has the IDs of
// containers, which can be inspected for a fraction of what the engine needs for a list.
func (s *state) awaitsStore(now time.Time) bool {
	sched := s.schedules[images]
	isEarly := !sched.inFlight || now.Sub(sched.started) < s.maxWait(images)
	return s.readsStore() && sched.ended.IsZero() && s.store.mismatches == 0 && s.store.attempts.failures == 0 && isEarly
}

// storedContainers returns the IDs of the containers that the store has, and of those that are known
// otherwise. It is nil if there is no store, and for some time after that was not enough: a container
// whose inspection hangs would make each attempt slow.
func (s *state) storedContainers(now time.Time) (ids []string) {
	if s.store.content == nil || now.Before(s.store.listUntil) {
		return nil
	}
	for _, object := range s.store.content.Objects {
		if id, isOfContainer := strings.CutSuffix(object.Key, "-init"); isOfContainer {
			ids = append(ids, strings.TrimPrefix(id, model.SnapshotKey("")))
		}
	}
	list, _ := s.containers.all()
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (s *state) prepareContainerd(t *task) {
	info, _ := s.info.Get()
	t.containerd = containerd.Engine{Address: info.ContainerdAddress, Namespace: info.ContainerdNamespace, Snapshotter: info.StorageDriver}
}

func (s *state) prepareStore(t *task) {
	if !s.readsStore() {
		return
	}
	s.prepareContainerd(t)
	t.storeTimeout = min(storeTimeout<<min(s.store.attempts.failures, 4), maxStoreTimeout)
	t.generation = s.containers.generation
	if !s.containers.known {
		t.generation = -1
	}
	records, known := s.usage.records.Get()
	if known {
		t.used = make(map[string]time.Time)
	}
	for _, record := range records {
		if used, known := record.LastUsedAt.Get(); known && !record.InUse {
			t.used[record.ID] = used
		}
	}
}

// mergeStore takes a store, and reports whether to take the images of the result. If the store is
// not the engine's, the images are requested again.
func (s *state) mergeStore(r result, now time.Time) bool {
	before, read := s.store.content, r.store.content
	if before != nil && read == nil && r.store.err == nil { // a retry has read it meanwhile
		s.schedules[images].took = s.schedules[storeRetries].took
		return false
	}
	s.store.content = nil
	if read == nil {
		return true
	}
	if !s.isOfEngine(read) {
		s.contents.version++
		if s.store.mismatches++; s.store.mismatches == 1 { // the counts and the containers may be old
			s.schedules[info].started = time.Time{}
			if sched := s.schedules[containers]; !sched.inFlight {
				sched.again()
				sched.stale = true
			}
		} else {
			s.failStore(errOtherStore, now)
		}
		if r.task.kind == images {
			s.requestImagesAgain()
		}
		return false
	}
	s.store.attempts, s.store.mismatches = attempts{}, 0
	s.health.measure("containerd", nil, r.took, now)
	s.health.record("containerd", readStore, nil)
	s.store.content, s.store.version, s.store.startedAt, s.store.containers = read, r.task.version, now.Add(-r.took), r.task.generation
	if r.task.generation < 0 && s.containers.known { // proven with the first list
		s.store.containers = s.containers.generation
	}
	if before == nil || !reflect.DeepEqual(before.ContentStore, read.ContentStore) {
		s.contents.version++
		if !maps.Equal(recordLeases(before), recordLeases(read)) { // a build that fails has no event
			s.usage.cacheChanges++
		}
	}
	for _, image := range read.ImageList {
		if content, exists := read.Contents[image.ID]; exists {
			s.contents.take(image, content)
		}
	}
	return true
}

// recordLeases returns the IDs of the leases that do not expire and are no container's: those of
// records of the build cache, and of what was left behind.
func recordLeases(store *containerd.Store) map[string]bool {
	ids := make(map[string]bool)
	if store == nil {
		return ids
	}
	for _, lease := range store.Leases {
		if !lease.Expires.IsKnown() {
			ids[lease.ID] = true
		}
	}
	for _, object := range store.Objects {
		if name, isOfContainer := strings.CutSuffix(object.Key, "-init"); isOfContainer {
			delete(ids, strings.TrimPrefix(name, model.SnapshotKey("")))
		}
	}
	return ids
}

func (s *state) failStore(err error, now time.Time) {
	s.store.attempts.fail(now, err)
	s.recordRead("containerd", readStore, result{err: err}, now)
}

// errOtherStore is a store that has nothing of the engine.
var errOtherStore = &model.Failure{
	Kind: "other store", Reason: "this containerd has other images and containers than the engine",
	Hint: "set --containerd.address to the socket of the engine's containerd (ADDRESS in the output of docker info --format '{{.Containerd}}'), or to none",
}

// isOfEngine reports whether a store is that of the engine: it has what a container writes to,
// or, if there are no containers or they are not known yet, the engine is reached by a socket of this
// machine and counts as many images.
func (s *state) isOfEngine(store *containerd.Store) bool {
	if list, _ := s.containers.all(); len(list) > 0 {
		ids := make(map[string]bool, len(list))
		for _, c := range list {
			ids[model.SnapshotKey(c.ID)] = true
		}
		for _, object := range store.Objects {
			if ids[object.Key] {
				return true
			}
		}
		return false
	}
	reported, _ := s.info.Get()
	return s.config.IsLocal && (reported.Images == len(store.ImageList) || reported.Images == len(store.Images))
}

// requestImagesAgain makes the snapshots that are waited for wait for another image list.
func (s *state) requestImagesAgain() {
	s.schedules[images].again()
	s.schedules[images].ended = time.Time{}
}

// checkStore compares the store with the first container list, which it was read before.
func (s *state) checkStore() {
	if s.store.content == nil || s.store.containers >= 0 {
		return
	}
	if s.store.containers = s.containers.generation; !s.isOfEngine(s.store.content) {
		s.images.clear()
		s.requestImagesAgain()
	}
}

// isStoreStale reports whether something has changed since the store was read, or may have.
func (s *state) isStoreStale() bool {
	if s.mayHaveMissedChanges(images) || s.store.named > s.store.version || s.store.containers != s.containers.generation || s.changed.count(containers) > 0 {
		return true
	}
	records, _ := s.usage.records.Get()
	for _, record := range records {
		if used, known := record.LastUsedAt.Get(); known && used.After(s.store.startedAt) {
			return true
		}
	}
	return false
}
