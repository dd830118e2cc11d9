package engine

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"docker_buildup_exporter/collector/model"
)

// layers is the layer store as it was when the engine had certain objects.
type layers struct {
	store    *model.LayerStore
	objects  objectsVersion
	isClosed bool // this process may not read it, which was logged
	isOther  bool // it lacks a container: it is another engine's, or that of another moment
}

// objectsVersion identifies a time span in which no object was added or removed, as far as is known.
type objectsVersion struct {
	cacheVersion
	containers int
	changed    int // events that named an object
}

func (s *state) objectsVersion() objectsVersion {
	return objectsVersion{s.cacheVersion(), s.containers.generation, s.changed.named}
}

func (e *Engine) fetchLayerStore(ctx context.Context, t task) (*model.LayerStore, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	return e.config.LayerStore(ctx, t.dataRoot, t.roots.StorageDriver, e.config.BusyRatio.Changed)
}

// mergeLayerStore takes the layer store. Without it, figures are computed from the Engine API, so it is
// part of no collector: a failure is in the log only. That it may not be read is the usual case.
func (s *state) mergeLayerStore(r result) {
	isClosed := errors.Is(r.err, fs.ErrPermission)
	if isClosed && !s.layers.isClosed {
		failure := new(model.Failure)
		errors.As(r.err, &failure)
		s.health.note("the engine's root directory cannot be read: some figures of cleanup commands are estimates", "err", model.Line(failure.Reason), "hint", model.Line(failure.Hint))
	}
	if isClosed {
		s.layers = layers{isClosed: true}
		return
	}
	store, _ := r.value.(*model.LayerStore)
	before, err := s.layers, r.err
	s.layers = layers{store: store, objects: r.task.objects}
	if store != nil {
		missing := s.missingMount(store)
		if s.layers.isOther = missing != ""; before.isOther && s.layers.isOther {
			err = &model.Failure{Reason: "it has no container " + missing, Kind: "another engine", Hint: "is it another engine's? See --filesystem.path"}
		}
	}
	s.health.record("", "read the engine's layer store", err)
}

// missingMount returns a container whose writable layer is missing in a layer store, or "". See
// prune.host.isOf, which decides what the layer store counts for.
func (s *state) missingMount(store *model.LayerStore) string {
	list, _ := s.containers.all()
	for _, c := range list {
		if _, exists := store.Mounts[c.ID]; !exists && c.State != model.Dead && c.State != model.Removing {
			return c.ID
		}
	}
	return ""
}
