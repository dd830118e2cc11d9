package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"

	"golang.org/x/sync/errgroup"
)

// fetch makes the request of a task and sends what it returns. It knows nothing of the state.
func (e *Engine) fetch(ctx context.Context, t task, send func(result)) {
	started := time.Now()
	part := func(value any) { send(result{task: t, part: true, value: value}) }
	var value any
	var store storeAnswer
	var err error
	took := time.Duration(-1) // all the time unless the fetcher knows better
	switch t.kind {
	case ping:
		value, err = e.ping(ctx)
	case filesystems:
		value = e.host.Measure(ctx, t.machine())
	case containerLogs:
		value, err = readRoot(ctx, t, e.host.Logs)
	case leftovers:
		value, err = readRoot(ctx, t, e.host.Leftovers)
	case layerStore:
		bounded, cancel := context.WithTimeout(ctx, t.timeout)
		defer cancel()
		value, took, err = e.host.LayerStore(bounded, t.machine(), e.config.BusyRatio.Changed)
	case contents:
		took = e.fetchContents(ctx, t, part)
	case details:
		_ = inspectAll(ctx, t, func(_ int, c inspectedContainer, _ time.Duration) error { // failures are in the parts
			part(c)
			return nil
		})
	case containerSizes, sizeRetries:
		err = e.fetchContainerSizes(ctx, t, part)
	case changes:
		fetchChanges(ctx, t, part)
	case images, storeRetries:
		value, store, took, err = e.fetchImages(ctx, t, part)
	case containers:
		value, took, err = fetchContainers(ctx, t)
	case events:
		err = t.api.Events(ctx, t.since, func() { part(streamOpened{}) }, func(e docker.Event) { part(e) })
	default:
		value, err = fetchList(ctx, t)
	}
	if took < 0 {
		took = time.Since(started)
	}
	send(result{task: t, value: value, err: err, took: took, store: store})
}

// machine returns what is known of the engine's machine.
func (t task) machine() host.Engine {
	return host.Engine{Roots: t.roots, HasContainer: func(ctx context.Context, id string) (bool, error) {
		return hasContainer(ctx, t.api, id)
	}}
}

func readRoot[T any](ctx context.Context, t task, read func(context.Context, host.Engine, []string) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	ids := make([]string, 0, len(t.containers))
	for _, c := range t.containers {
		ids = append(ids, c.ID)
	}
	return read(ctx, t.machine(), ids)
}

// hasContainer reports whether the engine has a container. api is nil while it is unreachable.
func hasContainer(ctx context.Context, api *docker.API, id string) (bool, error) {
	if api == nil {
		return false, errors.New("the engine is unreachable")
	}
	_, err := api.Container(ctx, id)
	if docker.IsGone(err) {
		return false, nil
	}
	return err == nil, err
}

func (e *Engine) ping(ctx context.Context) (pingAnswer, error) {
	version, err := e.client.Ping(ctx)
	if err != nil {
		return pingAnswer{}, err
	}
	api, err := e.client.At(version)
	return pingAnswer{version.API, api, err}, nil
}

func fetchList(ctx context.Context, t task) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	switch t.kind {
	case info:
		return t.api.Info(ctx)
	case volumes:
		return t.api.Volumes(ctx)
	default:
		return t.api.DiskUsage(ctx, t.kind != buildCache, t.kind != volumeSizes)
	}
}

// fetchContents inspects images one by one, and returns for how long the engine was busy.
// Once that is not fast any more, it pauses between two images, so that the engine is not
// busy for more than the configured ratio.
func (e *Engine) fetchContents(ctx context.Context, t task, part func(any)) (busy time.Duration) {
	limit := e.config.BusyRatio.Changed
	for _, image := range t.images {
		if ctx.Err() != nil {
			return busy
		}
		started := time.Now()
		content, err := t.api.Content(ctx, image.ID)
		took := time.Since(started)
		part(imageContent{image, content, err})
		if errors.Is(err, context.DeadlineExceeded) { // it says nothing of how busy the engine was
			continue
		}
		busy += took
		if busy >= fastRequest && limit < 1 && !sleep(ctx, time.Duration(float64(took)/limit)) {
			return busy
		}
	}
	return busy
}

// parallelInspections is how many containers are inspected at the same time. An inspection
// is fast on every engine, but there are many at the start, and one can hang.
const parallelInspections = 4

// inspectAll inspects the containers of a task, some at the same time, until take returns an error.
func inspectAll(ctx context.Context, t task, take func(i int, c inspectedContainer, took time.Duration) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelInspections)
	for i, id := range t.ids {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			started := time.Now()
			c, err := t.api.Container(ctx, id)
			return take(i, inspectedContainer{id, c, err}, time.Since(started))
		})
	}
	return group.Wait()
}

// fetchContainers returns all containers. Where their IDs are known, it inspects each: a list makes the
// containerd store resolve the image of each container, among all images. If the engine then counts
// others, or one cannot be inspected, they are listed. It also returns for how long the engine was busy with
// what it answered.
func fetchContainers(ctx context.Context, t task) (value any, busy time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if len(t.ids) > 0 {
		var inspected []inspectedContainer
		if inspected, busy, err = inspectListed(ctx, t); err == nil {
			reported, err := t.api.Info(ctx)
			if err == nil && reported.Containers == len(inspected) {
				return inspected, busy, nil
			}
		}
	}
	started := time.Now()
	value, err = t.api.Containers(ctx)
	return value, time.Since(started), err
}

// inspectListed inspects containers, and returns how long all took together. Those that are gone are
// left out.
func inspectListed(ctx context.Context, t task) (list []inspectedContainer, busy time.Duration, err error) {
	list, took := make([]inspectedContainer, len(t.ids)), make([]time.Duration, len(t.ids))
	err = inspectAll(ctx, t, func(i int, c inspectedContainer, d time.Duration) error {
		list[i], took[i] = c, d
		if docker.IsGone(c.err) {
			return nil
		}
		return c.err
	})
	for _, d := range took {
		busy += d
	}
	return slices.DeleteFunc(list, func(c inspectedContainer) bool { return c.err != nil }), busy, err
}

// sizeReader returns a function that measures a container, and one that ends it. The engine also measures
// each layer of the image, so containerd measures where it can be read.
func (e *Engine) sizeReader(ctx context.Context, t task) (measure func(ctx context.Context, id string) (measuredSize, error), end func()) {
	if t.containerd.Snapshotter == "" {
		return t.api.ContainerSize, func() {}
	}
	read, end, err := e.config.Measure(ctx, t.containerd)
	if err != nil {
		return t.api.ContainerSize, func() {}
	}
	return func(ctx context.Context, id string) (measuredSize, error) {
		bytes, err := read(ctx, id)
		if err != nil || bytes > docker.MaxSize {
			return t.api.ContainerSize(ctx, id)
		}
		return measuredSize{Writable: model.Known(bytes)}, nil
	}, end
}

// fetchContainerSizes measures containers one by one, and returns the first failure. One that
// takes longer than the timeout is left out.
func (e *Engine) fetchContainerSizes(ctx context.Context, t task, part func(any)) (failure error) {
	measure, end := e.sizeReader(ctx, t)
	defer end()
	for _, c := range t.containers {
		started := time.Now()
		bounded, cancel := context.WithTimeout(ctx, t.timeouts[c.ID])
		size, err := measure(bounded, c.ID)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		part(sizedContainer{c, size, err, time.Since(started)})
		if failure == nil && !docker.IsGone(err) {
			failure = err
		}
	}
	return failure
}

func fetchChanges(ctx context.Context, t task, part func(any)) {
	for _, key := range t.changed {
		if key.kind == images {
			image, err := t.api.Image(ctx, key.id, t.store)
			part(inspectedImage{key.id, image, err})
		} else {
			container, err := t.api.Container(ctx, key.id)
			part(inspectedContainer{key.id, container, err})
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// sleep waits, and reports false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
