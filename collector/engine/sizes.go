package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"docker_buildup_exporter/collector/inventory"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// Sizes remembers how large the writable layers of containers are. To tell, the
// engine walks through all their files; while a container is stopped they stay as
// they are.
//
// Each container is asked for by itself: in a list a single one that is being removed
// makes the containerd store fail for all, and each costs it a search through all images.
type sizes struct {
	mu sync.Mutex
	of map[string]size // by container ID
}

type size struct {
	bytes     int64
	image     inventory.Optional[int64] // of all layers under it
	stoppedAt time.Time                 // zero if it was measured while it ran
}

func newSizes() *sizes { return &sizes{of: make(map[string]size)} }

func (s *sizes) set(id string, value size) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[id] = value
}

func (s *sizes) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, id)
}

func (s *sizes) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.of)
}

// get returns a size if it was measured since the container came to be as it is.
func (s *sizes) get(c inventory.Container) (measured size, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stoppedAt, _ := c.StoppedAt.Get()
	measured, known = s.of[c.ID]
	return measured, known && measured.stoppedAt.Equal(stoppedAt)
}

// keep forgets all but some.
func (s *sizes) keep(containers []inventory.Container) {
	wanted := make(map[string]bool, len(containers))
	for _, c := range containers {
		wanted[c.ID] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.of {
		if !wanted[id] {
			delete(s.of, id)
		}
	}
}

// measure asks for the sizes of containers, if that is due, and returns them with
// what is known.
func (e *Engine) measure(ctx context.Context, containers []inventory.Container) []inventory.Container {
	e.sizes.keep(containers)
	asked := slices.Clone(containers) // the question may outlive the scrape
	e.toMeasure.Store(&asked)
	for _, c := range containers {
		if _, known := e.sizes.get(c); !known {
			e.containerSizes.Change()
			break
		}
	}
	e.containerSizes.Ask(ctx)
	for i := range containers {
		if measured, known := e.sizes.get(containers[i]); known {
			containers[i].Size, containers[i].ImageSize = inventory.Known(measured.bytes), measured.image
		}
	}
	return containers
}

// measureAll asks for the sizes of all containers that run, or have stopped since
// they were last asked for.
func (e *Engine) measureAll(ctx context.Context) error {
	q := question{kindContainerSizes, "measure containers", "/containers/{id}/json"}
	_, known := ask(e.journal, q, func() (any, error) {
		var failure error
		for _, c := range *e.toMeasure.Load() {
			if _, known := e.sizes.get(c); known && c.State.Stopped() {
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

func (e *Engine) measureOne(ctx context.Context, c inventory.Container) error {
	api := e.connection.current()
	inspected, _, err := api.ContainerInspectWithRaw(ctx, c.ID, true)
	stoppedAt, _ := c.StoppedAt.Get()
	switch {
	case cerrdefs.IsNotFound(err):
		// It is gone, or about to go; or it is dead and has lost its writable layer,
		// for which the containerd store gives the same answer.
		inspected, err = api.ContainerInspect(ctx, c.ID)
		if err == nil && inspected.ContainerJSONBase != nil && inspected.State != nil && inspected.State.Status == container.StateDead {
			e.sizes.set(c.ID, size{stoppedAt: stoppedAt})
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
		measured := size{bytes: *inspected.SizeRw, stoppedAt: stoppedAt}
		if all := inspected.SizeRootFs; all != nil && *all >= measured.bytes {
			measured.image = inventory.Known(*all - measured.bytes)
		}
		e.sizes.set(c.ID, measured)
		return nil
	}
	e.sizes.forget(c.ID) // −1 is the engine's "unknown"
	return err
}
