package engine

import (
	"context"
	"sync"
	"time"

	"docker_buildup_exporter/collector/inventory"
	"docker_buildup_exporter/collector/pace"

	cerrdefs "github.com/containerd/errdefs"
)

// Layers remembers what images are made of. That never changes for an image ID, so
// each image is looked at once; but on the containerd store that takes two calls that
// each search through all images, minutes for thousands.
type layers struct {
	share float64 // of the engine's time, for looks that are not cheap

	mu       sync.Mutex
	contents map[string]inventory.Content // by image ID
	look     *look                        // under way
	laidOut  *inventory.Layers            // of all contents; nil: not since they changed
	list     []inventory.Image            // that laidOut was made with
}

// A look goes on behind the scrape that began it.
type look struct {
	done   chan struct{}
	cancel context.CancelFunc
}

func newLayers(share float64) *layers {
	return &layers{share: share, contents: make(map[string]inventory.Content)}
}

func (l *layers) add(id string, content inventory.Content) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.contents[id] = content
	l.laidOut = nil
}

// keep forgets all images but some.
func (l *layers) keep(wanted map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.contents {
		if !wanted[id] {
			delete(l.contents, id)
			l.laidOut = nil
		}
	}
}

// missing are the images that were not looked at yet.
func (l *layers) missing(images []inventory.Image) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, image := range images {
		if _, looked := l.contents[image.ID]; !looked {
			ids = append(ids, image.ID)
		}
	}
	return ids
}

// layOut returns the layers of all images that were looked at.
func (l *layers) layOut(list []inventory.Image) *inventory.Layers {
	l.mu.Lock()
	defer l.mu.Unlock()
	isSame := len(list) == len(l.list) && (len(list) == 0 || &list[0] == &l.list[0])
	if l.laidOut == nil || !isSame {
		l.laidOut, l.list = inventory.LayOut(l.contents, list), list
	}
	return l.laidOut
}

// stop ends the look that is under way. What is known stays so: it holds for the
// image wherever it is.
func (l *layers) stop() {
	l.mu.Lock()
	look := l.look
	l.mu.Unlock()
	if look != nil {
		look.cancel()
		<-look.done
	}
}

// examine returns the layers of images, and begins to look at those that it does not
// know. It waits for them no longer than for a cheap answer.
func (e *Engine) examine(ctx context.Context, images []inventory.Image, containers []inventory.Container) *inventory.Layers {
	var list []inventory.Image // as it was when the engine told what images share
	if e.about.lastStore() == inventory.Known(inventory.Containerd) {
		list = e.images.lastList()
	}
	wanted := make(map[string]bool, len(images))
	for _, of := range [][]inventory.Image{images, list} {
		for _, image := range of {
			wanted[image.ID] = true
		}
	}
	for _, container := range containers { // its image may have been removed by force
		wanted[container.ImageID] = true
	}
	e.layers.keep(wanted)
	missing := e.layers.missing(images)
	switch {
	case len(missing) > 0:
		cheap, cancel := context.WithTimeout(ctx, pace.Cheap)
		defer cancel()
		select {
		case <-e.lookAtLayers(missing):
		case <-cheap.Done():
		}
	case !e.journal.answered(kindLayers):
		e.journal.note(layersQuestion(), nil, time.Now(), time.Now())
	}
	return e.layers.layOut(list)
}

func layersQuestion() question {
	return question{kindLayers, "look at the layers of images", "/images/{id}/history"}
}

// lookAtLayers looks at images one by one, unless a look is under way.
func (e *Engine) lookAtLayers(ids []string) (done <-chan struct{}) {
	l := e.layers
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.look != nil {
		return l.look.done
	}
	ctx, cancel := context.WithCancel(context.Background())
	look := &look{done: make(chan struct{}), cancel: cancel}
	l.look = look
	go func() {
		defer close(look.done)
		defer cancel()
		took, err := e.lookAtEach(ctx, ids)
		e.journal.note(layersQuestion(), err, time.Now().Add(-took), time.Now())
		l.mu.Lock()
		defer l.mu.Unlock()
		l.look = nil
	}()
	return look.done
}

// lookAtEach pauses between two looks as soon as they are not cheap any more, so that
// the engine has no more than its share to do for them.
func (e *Engine) lookAtEach(ctx context.Context, ids []string) (took time.Duration, err error) {
	const inARow = 3 // failures, after which there is no use in going on
	failed := 0
	for _, id := range ids {
		began := time.Now()
		content, failure := e.lookAtContent(ctx, id)
		last := time.Since(began)
		took += last
		switch {
		case ctx.Err() != nil:
			return took, ctx.Err()
		case failure == nil:
			e.layers.add(id, content)
			failed = 0
		case !cerrdefs.IsNotFound(failure): // else it is gone, as a list will tell
			err = failure
			if failed++; failed == inARow {
				return took, err
			}
		}
		if took >= pace.Cheap && e.layers.share < 1 && !sleep(ctx, time.Duration(float64(last)/e.layers.share)) {
			return took, ctx.Err()
		}
	}
	return took, err
}

// lookAtContent asks what an image is made of.
func (e *Engine) lookAtContent(ctx context.Context, id string) (inventory.Content, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.Timeout)
	defer cancel()
	api := e.connection.current()
	inspected, err := api.ImageInspect(ctx, id)
	if err != nil {
		return inventory.Content{}, err
	}
	history, err := api.ImageHistory(ctx, id)
	if err != nil {
		return inventory.Content{}, err
	}
	steps, err := translateHistory(history)
	return inventory.Content{DiffIDs: inspected.RootFS.Layers, History: steps}, err
}
