package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"docker_buildup_exporter/collector/inventory"

	cerrdefs "github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
)

// Stops remembers when containers stopped. The engine tells only who looks at each
// of them, and it does not change before they start again.
type stops struct {
	mu sync.Mutex
	at map[string]time.Time // by container ID
}

func newStops() *stops { return &stops{at: make(map[string]time.Time)} }

func (s *stops) get(id string) (at time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, known = s.at[id]
	return at, known
}

func (s *stops) set(id string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[id] = at
}

func (s *stops) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at, id)
}

func (s *stops) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.at)
}

// keep forgets all but some.
func (s *stops) keep(isStopped map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.at {
		if !isStopped[id] {
			delete(s.at, id)
		}
	}
}

// looksAtOnce is how many containers are looked at side by side. One look is
// cheap on every engine, and there are many only at the start.
const looksAtOnce = 4

// timeForStops is how long a scrape waits for that: an engine can hang on a single
// container, and have many. The next scrape goes on with what is missing.
const timeForStops = time.Second

// whenStopped returns containers with the time at which they stopped, and looks at
// each of those of which it is not known yet.
func (e *Engine) whenStopped(ctx context.Context, containers []inventory.Container) []inventory.Container {
	isStopped := make(map[string]bool)
	var unknown []*inventory.Container
	for i := range containers {
		c := &containers[i]
		if !c.State.Stopped() {
			continue
		}
		isStopped[c.ID] = true
		if at, known := e.stops.get(c.ID); known {
			c.StoppedAt = inventory.Known(at)
		} else if c.State != inventory.Created { // the list has told when that was created
			unknown = append(unknown, c)
		}
	}
	e.stops.keep(isStopped)
	if len(unknown) == 0 {
		return containers
	}

	bounded, cancel := context.WithTimeout(ctx, timeForStops)
	defer cancel()
	q := question{act: "look at stopped containers", endpoint: "/containers/{id}/json"}
	ask(e.journal, q, func() (any, error) {
		var group errgroup.Group
		group.SetLimit(looksAtOnce)
		for _, c := range unknown {
			group.Go(func() error {
				if bounded.Err() != nil {
					return nil
				}
				looked, there, err := e.lookAtContainer(bounded, c.ID)
				switch {
				case bounded.Err() != nil: // no failure: the rest comes with the next scrape
					return nil
				case err == nil && there:
					*c = looked
				case err == nil:
					c.ID = "" // gone since the list
				}
				return err
			})
		}
		return nil, group.Wait()
	})
	return slices.DeleteFunc(containers, func(c inventory.Container) bool { return c.ID == "" })
}

// lookAtContainer looks at one container, which may be gone.
func (e *Engine) lookAtContainer(ctx context.Context, id string) (looked inventory.Container, there bool, err error) {
	inspected, err := e.connection.current().ContainerInspect(ctx, id)
	if cerrdefs.IsNotFound(err) {
		e.containers.update(id)
		return inventory.Container{}, false, nil
	}
	if err == nil && (inspected.ContainerJSONBase == nil || inspected.ID != id || inspected.State == nil || inspected.State.Status == "") {
		err = errIncomplete
	}
	if err != nil {
		return inventory.Container{}, false, err
	}
	looked = translateInspectedContainer(inspected)
	if at, known := looked.StoppedAt.Get(); known {
		e.stops.set(id, at)
	}
	e.containers.update(id, looked)
	return looked, true, nil
}
