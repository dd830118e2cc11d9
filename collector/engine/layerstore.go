package engine

import (
	"context"
	"time"

	"docker_buildup_exporter/collector/model"
)

// layers is the layer store as it was when the engine had certain objects.
type layers struct {
	store   *model.LayerStore
	objects objectsVersion
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
	return e.host.LayerStore(ctx, t.dataRoot, t.roots.StorageDriver, e.config.BusyRatio.Changed)
}

// mergeLayerStore takes the layer store. Without it, figures are computed from the Engine API, so it is
// part of no collector: a failure is in the log only.
func (s *state) mergeLayerStore(r result, now time.Time) {
	s.recordRead("", "read the engine's layer store", r, now)
	store, _ := r.value.(*model.LayerStore)
	s.layers = layers{store: store, objects: r.task.objects}
}
