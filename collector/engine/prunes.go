package engine

import (
	"strconv"
	"sync"
	"time"

	"docker_buildup_exporter/collector/model"

	"github.com/docker/docker/api/types/events"
)

// Prunes counts the prunes that the engine tells of.
type prunes struct {
	mu       sync.Mutex
	watching bool // at least once: before that, 0 would be a claim
	done     map[model.Resource]model.Prune
	lastNano map[model.Resource]int64 // of the event that a reconnection can repeat
}

func newPrunes() *prunes {
	return &prunes{done: make(map[model.Resource]model.Prune), lastNano: make(map[model.Resource]int64)}
}

func (p *prunes) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching = true
}

// add takes a prune event. One that is told again, as after a reconnection, counts once.
func (p *prunes) add(event events.Message) {
	resources := map[events.Type]model.Resource{
		events.ImageEventType:     model.Images,
		events.ContainerEventType: model.Containers,
		events.VolumeEventType:    model.Volumes,
		events.BuilderEventType:   model.BuildCache,
	}
	resource, known := resources[event.Type]
	p.mu.Lock()
	defer p.mu.Unlock()
	if !known || event.TimeNano == p.lastNano[resource] {
		return
	}
	p.lastNano[resource] = event.TimeNano
	prune := p.done[resource]
	prune.Count++
	// Without the attribute the prune is known, and of its bytes nothing.
	if freed, err := strconv.ParseInt(event.Actor.Attributes["reclaimed"], 10, 64); err == nil && freed > 0 {
		prune.Bytes += freed
	}
	prune.Last = model.Known(time.Unix(0, event.TimeNano))
	p.done[resource] = prune
}

// list returns the prunes of every resource that this engine tells of: the
// containerd store says nothing of image prunes.
func (p *prunes) list(store model.Optional[model.ImageStore]) []model.Prune {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.watching {
		return nil
	}
	var list []model.Prune
	for _, resource := range model.Resources() {
		if kind, known := store.Get(); resource == model.Images && (!known || kind != model.GraphDriver) {
			continue
		}
		prune := p.done[resource]
		prune.Resource = resource
		list = append(list, prune)
	}
	return list
}
