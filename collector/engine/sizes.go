package engine

import (
	"context"
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// A size is how large the writable layer of a container is. To tell, the engine walks
// through all its files; while a container is stopped they stay as they are.
//
// Each container is asked for by itself: in a list a single one that is being removed
// makes the containerd store fail for all, and each costs it a search through all images.
type size struct {
	bytes     int64
	image     model.Optional[int64] // of all layers under it
	stopped   bool                  // when it was measured
	stoppedAt model.Optional[time.Time]
}

// lastSize returns the size of a container if it was measured since it came to be as it is.
func (e *Engine) lastSize(c model.Container) (measured size, known bool) {
	measured, known = e.sizes.get(c.ID)
	then, thenKnown := measured.stoppedAt.Get()
	now, nowKnown := c.StoppedAt.Get()
	return measured, known && measured.stopped == c.State.Stopped() && thenKnown == nowKnown && then.Equal(now)
}

// measure asks for the sizes of containers, if that is due, and returns them with
// what is known.
func (e *Engine) measure(ctx context.Context, containers []model.Container) []model.Container {
	isThere := make(map[string]bool, len(containers))
	for _, c := range containers {
		isThere[c.ID] = true
	}
	e.sizes.keep(isThere)
	asked := slices.Clone(containers) // the question may outlive the scrape
	e.toMeasure.Store(&asked)
	for _, c := range containers {
		if _, known := e.lastSize(c); !known {
			e.containerSizes.Change()
			break
		}
	}
	e.containerSizes.Ask(ctx)
	for i := range containers {
		if measured, known := e.lastSize(containers[i]); known {
			containers[i].Size, containers[i].ImageSize = model.Known(measured.bytes), measured.image
		}
	}
	return containers
}

// measureAll asks for the sizes of all containers that run, or have stopped since
// they were last asked for.
func (e *Engine) measureAll(ctx context.Context) error {
	q := question{kind: kindContainerSizes, act: "measure containers", endpoint: "/containers/{id}/json"}
	_, known := ask(e.journal, q, func() (any, error) {
		var failure error
		for _, c := range *e.toMeasure.Load() {
			_, known := e.lastSize(c)
			_, stopKnown := c.StoppedAt.Get()
			if c.State.Stopped() && (known || !stopKnown) { // else nothing would tell for how long it is true
				continue
			}
			if err := e.measureOne(ctx, c); err != nil {
				failure = err
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		return nil, failure
	}).Get()
	if !known {
		return errUnanswered
	}
	return nil
}

func (e *Engine) measureOne(ctx context.Context, c model.Container) error {
	api := e.connection.current()
	keep := e.sizes.look()
	inspected, _, err := api.ContainerInspectWithRaw(ctx, c.ID, true)
	measured := size{stopped: c.State.Stopped(), stoppedAt: c.StoppedAt}
	switch {
	case cerrdefs.IsNotFound(err):
		// It is gone, or about to go; or it is dead and has lost its writable layer,
		// for which the containerd store gives the same answer.
		inspected, err = api.ContainerInspect(ctx, c.ID)
		if err == nil && inspected.ContainerJSONBase != nil && inspected.State != nil && inspected.State.Status == container.StateDead {
			keep(c.ID, measured)
			return nil
		}
		e.sizes.forget(c.ID)
		if cerrdefs.IsNotFound(err) {
			err = nil
		}
		return err
	case err == nil && (inspected.ContainerJSONBase == nil || inspected.ID != c.ID):
		err = errIncomplete
	case err == nil && inspected.SizeRw != nil && *inspected.SizeRw >= 0:
		measured.bytes = *inspected.SizeRw
		if all := inspected.SizeRootFs; all != nil && *all >= measured.bytes {
			measured.image = model.Known(*all - measured.bytes)
		}
		keep(c.ID, measured)
		return nil
	}
	e.sizes.forget(c.ID) // −1 is the engine's "unknown"
	return err
}
