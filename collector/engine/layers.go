package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/pace"

	cerrdefs "github.com/containerd/errdefs"
)

// Layers remembers what images are made of. That never changes for an image ID, so
// each image is looked at once; but on the containerd store that takes two calls that
// each search through all images, minutes for thousands.
type layers struct {
	share float64 // of the engine's time, for looks that are not cheap

	mu       sync.Mutex
	contents map[string]looked        // by image ID
	lost     map[string]time.Time     // images that are not there, by the end of the list that had them
	look     *look                    // under way
	laidOut  map[string]model.Content // all contents; nil: not since they changed
}

// A looked is what a look at an image has shown.
type looked struct {
	model.Content
	unpacked model.Optional[int64] // as a list before it said
}

// isStale tells whether an image was unpacked after the look: until then the containerd
// store gives its layers no size. If a look does not explain what the list says of an
// image, nor does another one.
func (l looked) isStale(image model.Image) bool {
	unpacked, known := image.Unpacked.Get()
	for _, step := range l.History {
		unpacked -= step.Size
	}
	return known && unpacked != 0 && l.unpacked != image.Unpacked
}

// A look goes on behind the scrape that began it.
type look struct {
	done   chan struct{}
	cancel context.CancelFunc
}

func newLayers(share float64) *layers {
	return &layers{share: share, contents: make(map[string]looked), lost: make(map[string]time.Time)}
}

func (l *layers) add(image model.Image, content model.Content) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lost, image.ID)
	l.contents[image.ID] = looked{content, image.Unpacked}
	l.laidOut = nil
}

// lose notes that an image is not there, though a list has it that ended at some time
// (zero: that is under way). It tells whether so had a list before.
func (l *layers) lose(id string, listed time.Time) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, again := l.lost[id]
	if !again && !listed.IsZero() {
		l.lost[id] = listed
	}
	return again && listed.After(before)
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
	for id := range l.lost {
		if !wanted[id] {
			delete(l.lost, id)
		}
	}
}

// missing are the images that were not looked at yet, or are to be looked at again.
func (l *layers) missing(images []model.Image) (missing []model.Image) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, image := range images {
		if i > 0 && images[i-1].ID == image.ID {
			continue
		}
		content, looked := l.contents[image.ID]
		if looked && content.isStale(image) {
			delete(l.contents, image.ID)
			l.laidOut, looked = nil, false
		}
		if !looked {
			missing = append(missing, image)
		}
	}
	return missing
}

// layOut returns the contents of all images that were looked at.
func (l *layers) layOut() map[string]model.Content {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.laidOut == nil {
		l.laidOut = make(map[string]model.Content, len(l.contents))
		for id, looked := range l.contents {
			l.laidOut[id] = looked.Content
		}
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
func (e *Engine) examine(ctx context.Context, images []model.Image, containers []model.Container) (contents map[string]model.Content, list []model.Image) {
	// the list as it was when the engine told what images share
	if e.about.lastStore() == model.Known(model.Containerd) {
		list = e.images.lastList()
	}
	wanted := make(map[string]bool, len(images))
	for _, of := range [][]model.Image{images, list} {
		for _, image := range of {
			wanted[image.ID] = true
		}
	}
	for _, container := range containers { // its image may have been removed by force
		wanted[container.ImageID] = true
		for _, mounted := range container.MountedImages {
			wanted[mounted] = true
		}
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
	return e.layers.layOut(), list
}

func layersQuestion() question {
	return question{kind: kindLayers, act: "look at the layers of images", endpoint: "/images/{id}/history"}
}

// lookAtLayers looks at images one by one, unless a look is under way.
func (e *Engine) lookAtLayers(images []model.Image) (done <-chan struct{}) {
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
		took, err := e.lookAtEach(ctx, images)
		e.journal.note(layersQuestion(), err, time.Now().Add(-took), time.Now())
		l.mu.Lock()
		defer l.mu.Unlock()
		l.look = nil
	}()
	return look.done
}

// lookAtEach pauses between two looks as soon as they are not cheap any more, so that
// the engine has no more than its share to do for them.
func (e *Engine) lookAtEach(ctx context.Context, images []model.Image) (took time.Duration, err error) {
	const inARow = 3 // failures, after which there is no use in going on
	failed, listed := 0, e.images.Ended()
	for _, image := range images {
		began := time.Now()
		content, failure := e.lookAtContent(ctx, image.ID)
		last := time.Since(began)
		took += last
		switch {
		case ctx.Err() != nil:
			return took, ctx.Err()
		case failure == nil:
			e.layers.add(image, content)
			failed = 0
		case cerrdefs.IsNotFound(failure):
			if e.layers.lose(image.ID, listed) { // else it is gone since the list
				err = failure
			}
		case errors.Is(failure, errNoLayers): // the next image may be better
			err = failure
		default:
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
func (e *Engine) lookAtContent(ctx context.Context, id string) (model.Content, error) {
	ctx, cancel := context.WithTimeout(ctx, e.config.Timeout)
	defer cancel()
	api := e.connection.current()
	inspected, err := api.ImageInspect(ctx, id)
	if err != nil {
		return model.Content{}, err
	}
	if inspected.ID != id || inspected.RootFS.Type == "" { // as where no platform's content is there
		return model.Content{}, fmt.Errorf("%w: %s", errNoLayers, id)
	}
	history, err := api.ImageHistory(ctx, id)
	if err != nil {
		return model.Content{}, err
	}
	content, known := translateContent(inspected.RootFS.Layers, history).Get()
	if !known {
		return model.Content{}, fmt.Errorf("%w: %s", errNoLayers, id)
	}
	return content, nil
}
