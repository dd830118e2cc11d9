package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/pace"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
)

const (
	// crossCheck is how often the engine's own counts are held against ours. Some
	// changes have no event: a BuildKit build on Engine 20.10, anything done in
	// containerd directly.
	crossCheck = time.Minute

	shortestBackoff = 500 * time.Millisecond
	longestBackoff  = time.Minute

	// shortStream is one that ends so soon that to open it was hardly worth it.
	shortStream = 10 * time.Second
)

// Watch keeps what is known up to date between the scrapes, until ctx ends.
// Without it everything is still told, but dear answers are older; nor is what they say
// of prunes trusted while the engine tells no events.
func (e *Engine) Watch(ctx context.Context) {
	e.listens.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { e.follow(ctx) })
	wg.Go(func() { e.look(ctx) })
	wg.Go(func() {
		for sleep(ctx, crossCheck) {
			e.compareCounts(ctx)
		}
	})
	wg.Wait()
	e.endQuestions()
}

// follow reads the engine's events, and reconnects whenever the stream ends: it
// does when the engine stops, and when a proxy finds it idle.
func (e *Engine) follow(ctx context.Context) {
	backoff := shortestBackoff
	stream := stream{watchedSince: time.Now()}
	for ctx.Err() == nil {
		err := e.reach(ctx)
		if err == nil {
			began, before := time.Now(), stream.last
			err = e.followOnce(ctx, &stream)
			if stream.last > before || time.Since(began) > shortStream {
				backoff = shortestBackoff
			}
			if isOver(err) && backoff == longestBackoff {
				err = errEventsEnd
			}
			if !isOver(err) && ctx.Err() == nil {
				e.journal.note(watchQuestion(), err, began, time.Now())
			}
		}
		if !sleep(ctx, backoff/2+rand.N(backoff)) {
			return
		}
		backoff = min(2*backoff, longestBackoff)
	}
}

// isOver tells whether a stream has merely come to its end, as it may at any time:
// that an engine is gone the scrape tells. But an engine that will not tell its
// events costs freshness, unseen.
func isOver(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errTooLarge) ||
		!errors.Is(err, context.DeadlineExceeded) && (errors.As(err, &network) || errors.As(err, new(transportError)))
}

func watchQuestion() question { return question{act: "watch events", endpoint: "/events"} }

// reach tells whether the engine answers. If it does not, whatever comes back at
// its address may be another one, and nothing that is known holds for it.
func (e *Engine) reach(ctx context.Context) error {
	pingCtx, cancel := context.WithTimeout(ctx, e.config.Timeout)
	defer cancel()
	version, err := e.connection.ping(pingCtx) // what fails here is for the next scrape to tell
	if err != nil && ctx.Err() == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.forget()
	}
	if err != nil || !e.negotiate(version) {
		return errUnanswered
	}
	e.askAbout(ctx)
	return nil
}

// A stream is how far the events were read.
type stream struct {
	watchedSince time.Time
	opened       bool  // at least once
	last         int64 // event, by the engine's clock, in nanoseconds
}

// since is the moment, by the engine's clock, from which on it is to tell its events
// once more: those since the last one or, at first, since somebody watches.
func (s *stream) since(now string) (nanos int64, known bool) {
	at, err := time.Parse(time.RFC3339Nano, now)
	switch {
	case s.last > 0:
		return s.last, true
	case s.opened || err != nil:
		return 0, false
	}
	return at.Add(-time.Since(s.watchedSince)).UnixNano(), true
}

// followOnce reads one stream of events to its end, which is an error.
func (e *Engine) followOnce(ctx context.Context, stream *stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options := events.ListOptions{Filters: filters.NewArgs()}
	for _, kind := range []events.Type{events.ContainerEventType, events.ImageEventType, events.VolumeEventType, events.BuilderEventType, events.NetworkEventType} {
		options.Filters.Add("type", string(kind))
	}
	// Named one by one, because health checks alone make three events at each probe.
	for _, action := range []events.Action{
		events.ActionCreate, events.ActionStart, events.ActionRestart, events.ActionStop, events.ActionDie, events.ActionPause,
		events.ActionUnPause, events.ActionDestroy, events.ActionExtractToDir, events.ActionArchivePath, events.ActionRemove, events.ActionCommit, events.ActionPull,
		events.ActionTag, events.ActionUnTag, events.ActionDelete, events.ActionImport, events.ActionLoad, events.ActionPrune,
		events.ActionUnmount,    // of a volume, by a container that may have written to it
		events.ActionDisconnect, // all that tells of a start that failed, and that may have made mount points
	} {
		options.Filters.Add("event", string(action))
	}
	info, _ := e.about.get().Get()
	since, sinceKnown := stream.since(info.SystemTime)
	if sinceKnown {
		options.Since = fmt.Sprintf("%d.%09d", since/1e9, since%1e9)
	}

	// The engine answers at once, though it may have nothing to tell.
	unanswered := time.AfterFunc(e.config.Timeout, cancel)
	var status int
	messages, errs := e.connection.current().Events(context.WithValue(ctx, statusKey{}, &status), options)
	if !unanswered.Stop() {
		return context.DeadlineExceeded
	}
	if status != http.StatusOK { // refused: the reason is on its way
		return <-errs
	}
	e.journal.note(watchQuestion(), nil, time.Now(), time.Now())
	e.prunes.watch()
	defer e.watching.Store(false)
	// What happened while nobody watched is not known; nor, since the engine answers
	// before it begins to tell, what happened just now. Only the first time it tells all
	// that has happened since there was somebody to ask for a list.
	if stream.opened || !sinceKnown {
		e.images.Change()
		e.containers.Change()
		e.stops.forgetAll()
		e.sizes.forgetAll()
		e.untouched.forgetAll()
		e.volumeSizes.Change()
		e.cachePrunes.Add(1)
		e.cache.Change()
	}
	e.watching.Store(true)
	stream.opened = true
	for {
		select {
		case event := <-messages:
			stream.last = max(stream.last, event.TimeNano)
			e.hear(event)
		case err := <-errs:
			return err
		}
	}
}

// hear makes hints of an event.
func (e *Engine) hear(event events.Message) {
	switch event.Type {
	case events.VolumeEventType:
		if event.Action != events.ActionUnmount {
			e.volumes.Change()
		}
		e.volumeSizes.Change()
		e.untouched.forget(event.Actor.ID)
	case events.BuilderEventType:
		e.cachePrunes.Add(1)
		e.cache.Change()
	}
	if event.Action == events.ActionPrune {
		e.prunes.add(event)
		return
	}
	var given []hint
	switch event.Type {
	case events.ContainerEventType, events.NetworkEventType:
		container := event.Actor.ID
		if event.Type == events.NetworkEventType {
			container = event.Actor.Attributes["container"]
		}
		e.stops.forget(container)
		e.sizes.forget(container)
		given = append(given, hint{kindContainers, container})
		if made := event.Actor.Attributes["imageID"]; event.Action == events.ActionCommit && made != "" {
			given = append(given, hint{kindImages, made})
		}
	case events.ImageEventType:
		given = append(given, hint{kindImages, event.Actor.ID})
		// A tag leaves where it was, and of that no event tells.
		tag := event.Actor.Attributes["name"]
		for _, holder := range e.images.find(func(i model.Image) bool { return slices.Contains(i.Tags, tag) }) {
			given = append(given, hint{kindImages, holder.ID})
		}
	}
	for _, hint := range given {
		// Where a list is cheap the next scrape asks anyway, unless the one under way
		// turns out dear.
		if list := e.list(hint.kind); list.IsCheap() || e.hints.add(hint) {
			list.Change()
		}
	}
}

// list is the question for the list of a kind.
func (e *Engine) list(kind string) *pace.Question {
	if kind == kindImages {
		return e.images.Question
	}
	return e.containers.Question
}

// look follows the hints: it looks at single things, which is cheaper than a dear list.
func (e *Engine) look(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.hints.some:
		}
		for more := true; more; {
			if !sleep(ctx, settled/4) {
				return
			}
			var ripe []hint
			ripe, more = e.hints.ripe()
			began := time.Now()
			for _, hint := range ripe {
				if err := e.lookAt(ctx, hint); err != nil {
					e.list(hint.kind).Change()
				}
			}
			// Looks may cost the engine no more of its time than lists may.
			took := time.Since(began)
			if !sleep(ctx, time.Duration(float64(took)/e.config.Pace.Change)-took) {
				return
			}
		}
	}
}

func (e *Engine) lookAt(ctx context.Context, hint hint) error {
	ctx, cancel := context.WithTimeout(ctx, e.config.Timeout)
	defer cancel()
	if hint.kind == kindContainers {
		_, _, err := e.lookAtContainer(ctx, hint.id)
		return err
	}
	return e.lookAtImage(ctx, e.connection.current(), hint.id)
}

// lookAtImage looks at an image, and at those from which it has taken a tag:
// a tag that came here has left where it was, and of that no event tells.
func (e *Engine) lookAtImage(ctx context.Context, api *client.Client, id string) error {
	looked, err := e.inspectImage(ctx, api, id)
	if err != nil {
		return err
	}
	tookTagFrom := func(other model.Image) bool {
		isTaken := func(tag string) bool { return slices.Contains(looked.Tags, tag) }
		return other.ID != looked.ID && slices.ContainsFunc(other.Tags, isTaken)
	}
	for _, other := range e.images.find(tookTagFrom) {
		if _, err := e.inspectImage(ctx, api, other.ID); err != nil {
			return err
		}
	}
	return nil
}

// inspectImage looks at one image, which may be gone.
func (e *Engine) inspectImage(ctx context.Context, api *client.Client, id string) (model.Image, error) {
	inspected, err := api.ImageInspect(ctx, id)
	if cerrdefs.IsNotFound(err) {
		e.images.update(id)
		return model.Image{}, nil
	}
	if err == nil && inspected.ID == "" {
		err = errIncomplete
	}
	if err != nil {
		return model.Image{}, err
	}
	looked := translateInspectedImage(inspected)
	looked.Repositories = e.repositories(inspected.RepoTags, inspected.RepoDigests)
	before := e.images.get(inspected.ID)
	switch {
	case len(before) == 1: // what an image is made of does not change
		looked.Size, looked.SharedSize, looked.Unpacked, looked.IndexSize = before[0].Size, before[0].SharedSize, before[0].Unpacked, before[0].IndexSize
		looked.SeveralPlatforms = before[0].SeveralPlatforms
	case e.about.lastStore() == model.Known(model.GraphDriver):
		looked.Size = sizeOf(inspected.Size)
	case len(looked.Tags) > 0:
		// The containerd store counts more in a list than in an inspection.
		listed, err := findInList(ctx, api, inspected.ID, looked.Tags[0])
		if err != nil {
			return model.Image{}, err
		}
		looked.Size, looked.Unpacked, looked.IndexSize, looked.SeveralPlatforms = listed.Size, listed.Unpacked, listed.IndexSize, listed.SeveralPlatforms
	}
	if _, known := looked.Size.Get(); !known { // a list will tell
		e.images.Change()
	}
	e.images.update(inspected.ID, looked)
	return looked, nil
}

// findInList returns what a list of one tag says of an image; nothing if it does not
// name it.
func findInList(ctx context.Context, api *client.Client, id, tag string) (model.Image, error) {
	list, err := api.ImageList(ctx, image.ListOptions{
		All: true, Manifests: versions.GreaterThanOrEqualTo(api.ClientVersion(), "1.47"),
		Filters: filters.NewArgs(filters.Arg("reference", tag)),
	})
	if err != nil {
		return model.Image{}, err
	}
	for _, listed := range translateImages(list, model.Known(model.Containerd)) {
		if listed.ID == id {
			return listed, nil
		}
	}
	return model.Image{}, nil
}

// compareCounts holds the engine's own counts against ours.
func (e *Engine) compareCounts(ctx context.Context) {
	if !e.isUp.Load() {
		return
	}
	if !e.watching.Load() { // nobody tells that a container has run again since it stopped
		e.stops.forgetAll()
	}
	info, known := e.askAbout(ctx).Get()
	if !known || e.hints.waiting() {
		return
	}
	compare(e.images, info.Images)
	compare(e.containers, info.Containers)
}

// compare holds the engine's count of a list's things against ours. What counts
// differs between versions of the engine, so what matters is whether the two have
// moved apart since the list was made.
func compare[T any](l *list[T], theirs int) {
	ours, known := l.size()
	listed := l.Ended()
	if !known || listed.IsZero() {
		return
	}
	if !l.compared.Equal(listed) {
		l.compared, l.apart = listed, theirs-ours
	} else if theirs-ours != l.apart {
		l.Change()
	}
}

// sleep waits, and tells whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
