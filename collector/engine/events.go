package engine

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/model"
)

type stream struct {
	connected bool
	openedAt  time.Time // the last time
	hasGap    bool      // there may have been events since the last stream, or since the start
	heard     bool      // an event since then
	isBroken  bool      // the last one was accepted, but sent something else than events
	backoff   time.Duration
	retryAt   time.Time

	// since is the time, by the engine's clock, up to which all events are known: that of
	// the last event or, before the first one, when the first stream was requested. 0:
	// unknown. The next stream starts there, so events are not lost between two streams.
	since int64 // ns
}

const (
	minStreamBackoff = 500 * time.Millisecond
	maxStreamBackoff = time.Minute

	// shortStream is a stream that ends so soon that reconnecting at once is not worth it.
	shortStream = 10 * time.Second
)

// streamOpened is the value that says that the engine has accepted the event stream.
type streamOpened struct{}

func (s *state) mergeEvents(r result, now time.Time) {
	switch v := r.value.(type) {
	case streamOpened:
		s.openStream(now)
	case docker.Event:
		s.event(v, now)
	}
	if !r.part {
		s.endStream(r, now)
	}
}

// openStream takes that the engine sends its events from now on. After a gap anything may
// have changed; the engine remembers only its last events, and none from before it started.
func (s *state) openStream(now time.Time) {
	if s.stream.backoff < maxStreamBackoff && !s.stream.isBroken {
		s.health.record("", watchEvents, nil)
	}
	s.prunes.known = true
	if s.stream.hasGap || s.stream.since == 0 {
		for _, k := range []kind{images, containers, volumes, volumeSizes, buildCache, diskUsage, leftovers} {
			s.schedules[k].retryNow()
		}
		for id := range s.details {
			s.containerChanged(id)
		}
		list, _ := s.usage.volumes.Get()
		for _, v := range list {
			s.usage.changedVolumes[v.Name] = s.version
		}
		s.usage.cacheChanges++
	}
	s.stream.connected, s.stream.openedAt, s.stream.hasGap = true, now, true
}

const watchEvents = "watch events"

// endStream schedules the next stream. That a stream ends is normal, unless each one ends as
// soon as it begins.
func (s *state) endStream(r result, now time.Time) {
	s.checkStream(now)
	wasOpen, heard := s.stream.connected, s.stream.heard
	s.stream.connected, s.stream.heard, s.stream.hasGap = false, false, true
	err := r.err
	switch {
	case !docker.IsStreamEnd(err):
		if s.stream.isBroken = wasOpen && !heard; wasOpen {
			s.stream.since = 0 // not again from before the event that may have broken it
		}
	case s.stream.backoff == maxStreamBackoff:
		err = endsImmediately(r.err)
	default:
		err = nil
	}
	if err != nil {
		s.health.record("", watchEvents, err)
	}
	s.delayStream(now)
}

// works reports whether a stream had an event, or has lasted for some time: longer than what
// is no event takes to be noticed.
func (s *stream) works(now time.Time) bool {
	long := shortStream
	if s.isBroken {
		long = resyncInterval
	}
	return s.connected && (s.heard || now.Sub(s.openedAt) > long)
}

func (s *state) checkStream(now time.Time) {
	if s.stream.works(now) {
		s.stream.backoff, s.stream.isBroken = 0, false
		s.health.record("", watchEvents, nil)
	}
}

// delayStream schedules the next stream after a back-off.
func (s *state) delayStream(now time.Time) {
	s.stream.backoff = min(max(2*s.stream.backoff, minStreamBackoff), maxStreamBackoff)
	s.stream.retryAt = now.Add(s.stream.backoff)
}

func endsImmediately(err error) error {
	failure := model.AsFailure(err)
	return &model.Failure{
		Endpoint: failure.Endpoint, Reason: "the event stream ends immediately, each time", Err: failure.Err,
		Hint: "let " + failure.Endpoint + " through a proxy without a time limit; until then, metrics from slow lists may be stale",
	}
}

// firstSince returns where the first stream starts: the engine's clock when it was inspected,
// before anything was listed. 0 if the clock is outside the range of event times.
func firstSince(info docker.Info) int64 {
	at, err := time.Parse(time.RFC3339Nano, info.SystemTime)
	if err != nil || at.Year() < 1971 || at.Year() > 2261 {
		return 0
	}
	return at.UnixNano()
}

// formatSince returns the since parameter of an event request.
func formatSince(nanos int64) string {
	if nanos <= 0 {
		return ""
	}
	return fmt.Sprintf("%d.%09d", nanos/1e9, nanos%1e9)
}

// maxAhead is how far an event may be ahead of the engine's clock when that was last read.
const maxAhead = time.Hour

// isBelievable reports whether an event can have happened at a time of the engine's clock. One
// from the far future would hide all others from the next stream.
func (s *state) isBelievable(nanos int64, now time.Time) bool {
	reported, _ := s.info.Get()
	clock := firstSince(reported)
	return clock == 0 || nanos <= clock+int64(now.Sub(s.schedules[info].answered)+maxAhead)
}

func (s *state) event(e docker.Event, now time.Time) {
	s.version++
	s.revision++
	isBelievable := s.isBelievable(e.TimeNano, now)
	if isBelievable && e.TimeNano > s.stream.since { // else it is repeated after a reconnection
		s.stream.heard, s.stream.since = true, e.TimeNano
	}
	switch e.Type {
	case docker.VolumeEvent:
		if e.Action != docker.UnmountAction {
			s.schedules[volumes].stale = true
		}
		if s.config.Volumes {
			s.schedules[s.usageKind(volumeSizes)].stale = true
			if s.usage.sizes.IsKnown() || s.schedules[s.usageKind(volumeSizes)].inFlight {
				s.usage.changedVolumes[e.ID] = s.version
			}
		}
	case docker.BuilderEvent:
		s.usage.cacheChanges++
		s.schedules[s.usageKind(buildCache)].stale = true
	}
	if e.Action == docker.PruneAction {
		if !s.isPodman { // it sends one for each pruned volume, and none for other prunes
			s.prunes.add(e, isBelievable)
		}
		return
	}
	switch e.Type {
	case docker.ContainerEvent:
		s.containerChanged(e.ID)
		s.objectChanged(objectKey{containers, e.ID}, now)
		if e.Action == docker.CommitAction {
			s.objectChanged(objectKey{images, e.Attributes["imageID"]}, now)
		}
	case docker.NetworkEvent:
		s.containerChanged(e.Attributes["container"])
		s.objectChanged(objectKey{containers, e.Attributes["container"]}, now)
	case docker.ImageEvent:
		s.objectChanged(objectKey{images, e.ID}, now)
		// A tag is moved away from another image without an event for that image.
		list, _ := s.images.all()
		for _, image := range list {
			if slices.Contains(image.Tags, e.Attributes["name"]) {
				s.objectChanged(objectKey{images, image.ID}, now)
			}
		}
	}
}

// pruneCounts counts the prunes that the engine has reported.
type pruneCounts struct {
	known  bool // there was an event stream: before, 0 would be a claim
	counts map[model.Resource]model.Prune
	last   map[model.Resource]int64 // time of the last event, which a reconnection repeats
}

func newPruneCounts() pruneCounts {
	return pruneCounts{counts: make(map[model.Resource]model.Prune), last: make(map[model.Resource]int64)}
}

// add takes a prune event, whose time may be known. The freed bytes are unknown without the
// attribute, and if they are more than a disk has.
func (p *pruneCounts) add(e docker.Event, isTimeKnown bool) {
	resource, known := map[string]model.Resource{
		docker.ImageEvent:     model.Images,
		docker.ContainerEvent: model.Containers,
		docker.VolumeEvent:    model.Volumes,
		docker.BuilderEvent:   model.BuildCache,
	}[e.Type]
	if !known || e.TimeNano == p.last[resource] {
		return
	}
	p.last[resource] = e.TimeNano
	count := p.counts[resource]
	count.Resource = resource
	count.Count++
	if freed, err := strconv.ParseInt(e.Attributes["reclaimed"], 10, 64); err == nil && freed > 0 && freed <= docker.MaxSize {
		count.Bytes += min(freed, math.MaxInt64-count.Bytes)
	}
	if isTimeKnown {
		count.Last = model.Known(time.Unix(0, e.TimeNano))
	}
	p.counts[resource] = count
}

// report returns the prunes of each resource. The containerd store reports no image prunes.
func (p *pruneCounts) report(store model.ImageStore) []model.Prune {
	if !p.known {
		return nil
	}
	var list []model.Prune
	for _, resource := range model.Resources() {
		if resource == model.Images && store != model.GraphDriver {
			continue
		}
		count := p.counts[resource]
		count.Resource = resource
		list = append(list, count)
	}
	return list
}
