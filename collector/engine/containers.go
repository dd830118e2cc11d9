package engine

import (
	"errors"
	"maps"
	"slices"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
)

// detail is what only an inspection of a container returns.
type detail struct {
	changed int // version of the last event

	stoppedAt   model.Optional[time.Time] // until it starts again
	keepsLog    model.Optional[bool]
	createdFrom model.Optional[model.Reference]
	inspection  attempts

	size     model.Optional[measuredSize]
	sizeFrom model.Container // as it was when it was measured
	sizeTook time.Duration   // of the last success
	sizing   attempts

	directory     model.Optional[int64]
	directoryFrom model.Container // as it was when its directory was read
}

type measuredSize = docker.ContainerSize

// attempts are the failures in a row of a request for one object.
type attempts struct {
	failures int
	retryAt  time.Time
	err      error
}

func (a *attempts) fail(now time.Time, err error) {
	a.failures++
	a.retryAt, a.err = now.Add(backoff(a.failures)), err
}

func (a *attempts) isDue(now time.Time) bool { return a.failures == 0 || !now.Before(a.retryAt) }

// detailOf returns the details of a container, which need not be known yet.
func (s *state) detailOf(id string) *detail {
	d := s.details[id]
	if d == nil {
		d = &detail{}
		s.details[id] = d
	}
	return d
}

// containerChanged takes that something has happened to a container. Of one that is not
// known there is nothing to discard.
func (s *state) containerChanged(id string) {
	if s.details[id] == nil && len(s.containers.get(id)) == 0 {
		return
	}
	d := s.detailOf(id)
	d.changed = s.version
	d.stoppedAt, d.size = model.Optional[time.Time]{}, model.Optional[measuredSize]{}
}

func (s *state) mergeContainers(r result, now time.Time) {
	s.health.measure("containers", r.err, r.took, now)
	s.health.record("containers", "list containers", r.err)
	if r.err != nil {
		s.containers.clear()
		return
	}
	list, _ := r.value.([]model.Container)
	inspected, _ := r.value.([]inspectedContainer)
	if len(r.task.ids) > 0 && inspected == nil {
		s.store.listUntil = now.Add(5 * time.Minute)
	}
	for _, answer := range inspected {
		list = append(list, answer.asListed())
	}
	s.containers.mergeList(list, r.task.version)
	for _, answer := range inspected {
		s.takeDetails(answer.container, r.task.version, now)
	}
	s.changed.drop(containers, s.schedules[containers].started)
	s.checkStore()
	list, _ = s.containers.all()
	for _, c := range list {
		if d := s.details[c.ID]; d != nil && !c.State.Stopped() {
			d.stoppedAt = model.Optional[time.Time]{}
		}
	}
	isGone := func(id string) bool { return len(s.containers.get(id)) == 0 }
	maps.DeleteFunc(s.details, func(id string, _ *detail) bool { return isGone(id) })
	maps.DeleteFunc(s.denied, func(id string, _ int) bool { return isGone(id) })
	s.recordContainers(inspectContainers)
	s.recordContainers(measureContainers)
}

// detailedList is a list of containers with what inspections have returned, at a revision.
type detailedList struct {
	revision   int
	containers []model.Container
}

// detailedContainers returns all containers with what inspections have returned, and whether
// they are known. The list must not be changed. It is made once a revision, because several
// steps of each scrape need it.
func (s *state) detailedContainers() (list []model.Container, known bool) {
	list, known = s.containers.all()
	if !known {
		return nil, false
	}
	if s.detailed.revision != s.revision {
		s.detailed = detailedList{s.revision, s.withDetails(list)}
	}
	return s.detailed.containers, true
}

func (s *state) withDetails(list []model.Container) []model.Container {
	list = slices.Clone(list)
	for i := range list {
		c := &list[i]
		d := s.details[c.ID]
		if d == nil {
			continue
		}
		c.Failed = d.inspection.failures > 0 || d.sizing.failures > 0
		if d.createdFrom.IsKnown() {
			c.CreatedFrom = d.createdFrom
		}
		if c.State.Stopped() {
			c.KeepsLog = d.keepsLog
			if d.stoppedAt.IsKnown() {
				c.StoppedAt = d.stoppedAt
			}
			if d.directoryFrom.State.Stopped() && isSameStop(d.directoryFrom, *c) {
				c.DirectorySize = d.directory
			}
		}
		if size, known := d.sizeOf(*c).Get(); known {
			c.Size, c.ImageSize = size.Writable, size.Image
		}
	}
	return list
}

// sizeOf returns the size of a container if it was measured since the container has been in
// its state. Files of a stopped container do not change.
func (d *detail) sizeOf(c model.Container) model.Optional[measuredSize] {
	if d.sizeFrom.State.Stopped() != c.State.Stopped() || !isSameStop(d.sizeFrom, c) {
		return model.Optional[measuredSize]{}
	}
	return d.size
}

// isSameStop reports whether a container has not run between two moments in which it is not
// running, or was not known to have stopped in either.
func isSameStop(before, after model.Container) bool {
	then, thenKnown := before.StoppedAt.Get()
	now, nowKnown := after.StoppedAt.Get()
	return thenKnown == nowKnown && then.Equal(now)
}

// mergeLogs takes what the directories of containers hold. Those of running ones change, so only
// the sum of all logs includes them.
func (s *state) mergeLogs(r result, now time.Time) {
	answer, _ := r.value.(host.Logs)
	s.recordRead("container_logs", "find the container logs", r, now)
	s.logs = model.Optional[int64]{}
	if r.err == nil {
		s.health.record("container_logs", "read the container logs", answer.Err)
		var sum int64
		for _, size := range answer.Sizes {
			sum += size.Logs
		}
		s.logs = model.Known(sum)
	}
	for _, c := range r.task.containers {
		if !c.StoppedAt.IsKnown() || len(s.containers.get(c.ID)) == 0 {
			continue
		}
		d, size := s.detailOf(c.ID), model.Optional[int64]{}
		if answer, known := answer.Sizes[c.ID]; known && d.changed <= r.task.version {
			size = model.Known(answer.Freed)
		}
		d.directory, d.directoryFrom = size, c
	}
}

// errNoStopTime is a stopped container whose FinishedAt cannot be parsed.
var errNoStopTime = errors.New("FinishedAt is not a time")

// uninspected returns the IDs of containers whose details are needed and not known: when they
// stopped and, with the containerd store, what they were created from.
func (s *state) uninspected(now time.Time) (ids []string) {
	list, _ := s.detailedContainers()
	needsReference := s.roots.ImageStore == model.Containerd
	for _, c := range list {
		isComplete := (!c.State.Stopped() || c.StoppedAt.IsKnown()) && (!needsReference || c.CreatedFrom.IsKnown())
		if d := s.details[c.ID]; !isComplete && (d == nil || d.inspection.isDue(now)) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// inspectedContainer is the value of an inspection.
type inspectedContainer struct {
	id        string
	container model.Container
	err       error
}

func (s *state) mergeDetails(r result, now time.Time) {
	inspected, _ := r.value.(inspectedContainer)
	if r.part {
		s.mergeContainer(inspected, r.task.version, now)
	}
	if !r.part || inspected.err != nil {
		s.recordContainers(inspectContainers)
	}
}

// isGone reports whether an error says that a container was removed since the list. If a later
// list has it, and the engine denies it again, that is a failure.
func (s *state) isGone(id string, err error) bool {
	if !docker.IsGone(err) {
		return false
	}
	listed, isDenied := s.denied[id]
	if !isDenied {
		s.denied[id] = s.containers.listed
	}
	return !isDenied || listed == s.containers.listed
}

// mergeContainer takes one inspection that was requested at a version.
func (s *state) mergeContainer(inspected inspectedContainer, version int, now time.Time) {
	if s.isGone(inspected.id, inspected.err) {
		s.containers.remove(inspected.id, version)
		delete(s.details, inspected.id)
		return
	}
	if inspected.err != nil {
		if len(s.containers.get(inspected.id)) > 0 { // else it was removed meanwhile
			s.detailOf(inspected.id).inspection.fail(now, inspected.err)
		}
		return
	}
	s.containers.update(inspected.id, version, inspected.asListed())
	s.takeDetails(inspected.container, version, now)
}

// asListed returns an inspected container without what is kept in its details, until an event.
func (c inspectedContainer) asListed() model.Container {
	record := c.container
	record.Failed = false
	if record.State != model.Created {
		record.StoppedAt = model.Optional[time.Time]{}
	}
	return record
}

func (s *state) takeDetails(c model.Container, version int, now time.Time) {
	if len(s.containers.get(c.ID)) == 0 {
		return // there is no list yet, or it was removed meanwhile
	}
	d := s.detailOf(c.ID)
	d.createdFrom, d.inspection = c.CreatedFrom, attempts{}
	if c.KeepsLog.IsKnown() {
		d.keepsLog = c.KeepsLog
	}
	if d.changed <= version {
		d.stoppedAt = c.StoppedAt
	}
	if c.Failed {
		d.inspection.fail(now, errNoStopTime)
	}
}

const (
	inspectContainers = "inspect containers"
	measureContainers = "measure containers"
)

// recordContainers records whether an operation fails for any container, and names the first.
func (s *state) recordContainers(operation string) {
	collector, attemptsOf := "containers", func(d *detail) attempts { return d.inspection }
	if operation == measureContainers {
		collector, attemptsOf = "container_sizes", func(d *detail) attempts { return d.sizing }
	}
	s.health.record(collector, operation, firstFailure("container", s.details, attemptsOf))
}

// unmeasured returns the containers to measure: those that run, and those that have stopped
// since they were measured; and whether the size of any of them is unknown. A stopped
// container is not measured before it is known when it stopped: nothing would say for how
// long the size is valid. Containers whose last measurement failed are a list of their own,
// because they may hang again.
func (s *state) unmeasured(hasFailed bool, now time.Time) (list []model.Container, isStale bool) {
	known, _ := s.detailedContainers()
	for _, c := range known {
		d := s.details[c.ID]
		isMeasured := d != nil && d.sizeOf(c).IsKnown()
		failures := d != nil && d.sizing.failures > 0
		switch {
		case c.State.Stopped() && (isMeasured || !c.StoppedAt.IsKnown()):
		case failures != hasFailed, failures && !d.sizing.isDue(now):
		default:
			isStale = isStale || !isMeasured
			list = append(list, c)
		}
	}
	return list, isStale
}

// prepareSizes adds to a task the containers to measure, and how. The timeout of each measurement is as
// for a list, but by what that of the container took.
func (s *state) prepareSizes(t *task, hasFailed bool, now time.Time) {
	t.containers, _ = s.unmeasured(hasFailed, now)
	t.timeouts = make(map[string]time.Duration, len(t.containers))
	for _, c := range t.containers {
		d := s.detailOf(c.ID)
		t.timeouts[c.ID] = min(max(minTimeout, 10*d.sizeTook)<<min(d.sizing.failures, 5), maxTimeout)
	}
	if s.store.content != nil && s.config.Measure != nil {
		s.prepareContainerd(t)
	}
}

// sizedContainer is the value of a measurement.
type sizedContainer struct {
	container model.Container
	size      measuredSize
	err       error
	took      time.Duration
}

func (s *state) mergeContainerSizes(r result, now time.Time) {
	if r.part {
		sized := r.value.(sizedContainer)
		if d := s.detailOf(sized.container.ID); s.isGone(sized.container.ID, sized.err) {
			d.size, d.sizing = model.Optional[measuredSize]{}, attempts{}
		} else {
			d.takeSize(sized, r.task.version, now)
		}
		if sized.err == nil {
			return
		}
	} else if r.task.kind == containerSizes {
		s.health.measure("container_sizes", r.err, r.took, now)
	}
	s.recordContainers(measureContainers)
}

// takeSize takes a measurement that was requested at a version, unless the container has
// changed since.
func (d *detail) takeSize(sized sizedContainer, version int, now time.Time) {
	if sized.err != nil {
		d.sizing.fail(now, sized.err)
		d.size = model.Optional[measuredSize]{}
		return
	}
	d.sizing, d.sizeTook = attempts{}, sized.took
	if d.changed <= version {
		d.size, d.sizeFrom = model.Optional[measuredSize]{}, sized.container
		if sized.size.Writable.IsKnown() {
			d.size = model.Known(sized.size)
		}
	}
}
