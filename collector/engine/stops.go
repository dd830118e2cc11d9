package engine

import (
	"context"
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"

	cerrdefs "github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
)

// looksAtOnce is how many containers are looked at side by side. One look is
// cheap on every engine, and there are many only at the start.
const looksAtOnce = 4

// timeForStops is how long a scrape waits for that: an engine can hang on a single
// container, and have many. The next scrape goes on with what is missing.
const timeForStops = time.Second

// whenStopped returns containers with what only a look at each tells, and looks at
// those of which it is not known yet.
func (e *Engine) whenStopped(ctx context.Context, containers []model.Container) []model.Container {
	goByName := e.about.lastStore() == model.Known(model.Containerd)
	isThere, isStopped := make(map[string]bool, len(containers)), make(map[string]bool, len(containers))
	var unknown []*model.Container
	for i := range containers {
		c := &containers[i]
		isThere[c.ID], isStopped[c.ID] = true, c.State.Stopped()
		if from, known := e.names.get(c.ID); known {
			c.CreatedFrom = model.Known(from)
		}
		_, nameKnown := c.CreatedFrom.Get()
		at, stopKnown := e.stops.get(c.ID)
		switch {
		case c.State.Stopped() && stopKnown:
			c.StoppedAt = model.Known(at)
		case c.State.Stopped() && c.State != model.Created: // the list has told when that was created
			unknown = append(unknown, c)
			continue
		}
		if goByName && !nameKnown {
			unknown = append(unknown, c)
		}
	}
	e.stops.keep(isStopped)
	e.names.keep(isThere)
	if len(unknown) == 0 {
		return containers
	}

	bounded, cancel := context.WithTimeout(ctx, timeForStops)
	defer cancel()
	q := question{act: "look at containers", endpoint: "/containers/{id}/json"}
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
	return slices.DeleteFunc(containers, func(c model.Container) bool { return c.ID == "" })
}

// lookAtContainer looks at one container, which may be gone.
func (e *Engine) lookAtContainer(ctx context.Context, id string) (looked model.Container, there bool, err error) {
	keepStop, keepName := e.stops.look(), e.names.look()
	inspected, err := e.connection.current().ContainerInspect(ctx, id)
	if cerrdefs.IsNotFound(err) {
		e.containers.update(id)
		return model.Container{}, false, nil
	}
	if err == nil && (inspected.ContainerJSONBase == nil || inspected.ID != id || inspected.State == nil || inspected.State.Status == "") {
		err = errIncomplete
	}
	if err != nil {
		return model.Container{}, false, err
	}
	looked = translateInspectedContainer(inspected)
	if at, known := looked.StoppedAt.Get(); known {
		keepStop(id, at)
	}
	if from, known := looked.CreatedFrom.Get(); known {
		keepName(id, from)
	}
	e.containers.update(id, looked)
	return looked, true, nil
}
