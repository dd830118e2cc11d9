package engine

import (
	"time"

	"docker_buildup_exporter/collector/model"
)

// layers is the layer store as it was when the engine had certain objects.
type layers struct {
	store   *model.LayerStore
	objects objectsVersion
	isOther bool // it lacks a container: it is another engine's, or that of another moment
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

// mergeLayerStore takes the layer store. Without it, figures are computed from the Engine API, so it is
// part of no collector: a failure is in the log only.
func (s *state) mergeLayerStore(r result, now time.Time) {
	store, _ := r.value.(*model.LayerStore)
	before := s.layers
	s.layers = layers{store: store, objects: r.task.objects}
	if store != nil {
		missing := s.missingMount(store)
		if s.layers.isOther = missing != ""; before.isOther && s.layers.isOther {
			r.err = &model.Failure{Reason: "it has no container " + missing, Kind: "another engine", Hint: "is it another engine's? See --filesystem.path"}
		}
	}
	s.recordRead("", "read the engine's layer store", r, now)
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
