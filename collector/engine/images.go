package engine

import (
	"slices"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/model"
)

func (s *state) mergeImages(r result, now time.Time) {
	if r.part {
		s.failStore(r.value.(storeFailure).err, now)
		return
	}
	if !s.mergeStore(r, now) {
		return
	}
	s.health.measure("images", r.err, r.took, now)
	s.health.record("images", "list images", r.err)
	if r.err != nil {
		s.images.clear()
		return
	}
	s.images.mergeList(r.value.([]model.Image), r.task.version)
	if s.roots.ImageStore == model.Containerd && s.store.content == nil { // else mergeStore knows
		s.contents.version++
	}
	s.changed.drop(images, s.schedules[images].started)
	s.keepContents()
	s.health.record("layers", inspectImages, s.contents.firstFailure())
}

// keepContents drops what is known of images that do not matter any more. Those that a container was
// made from or mounts matter, too: they may have been removed by force.
func (s *state) keepContents() {
	isUsed := make(map[string]bool)
	list, _ := s.containers.all()
	for _, c := range list {
		isUsed[c.ImageID] = true
		for _, mounted := range c.MountedImages {
			isUsed[mounted] = true
		}
	}
	isListed := func(id string) bool { return s.images.isListed(id) || len(s.images.get(id)) > 0 }
	s.contents.keep(isListed, func(id string) bool { return isUsed[id] || isListed(id) })
}

// contentCache holds the layers and history of images. They never change for an image ID, so
// each image is inspected once; with the containerd store that takes two requests that each
// search all images, minutes for thousands.
type contentCache struct {
	known    map[string]inspectedContent // by image ID
	failures map[string]*attempts        // by image ID
	missing  map[string]time.Time        // images that the engine has listed and denies, by when the list was requested
	view     map[string]model.Content    // of known, never changed; nil: to be made
	version  int                         // grows with each change of known, failures or the list
}

// inspectedContent is the result of inspecting an image.
type inspectedContent struct {
	model.Content
	layers   model.Optional[int64] // layersSize of the image list before it
	attempts int                   // with that size
}

func newContentCache() contentCache {
	return contentCache{
		known:    make(map[string]inspectedContent),
		failures: make(map[string]*attempts),
		missing:  make(map[string]time.Time),
	}
}

// maxAttempts bounds how often an image is inspected whose history does not add up to its
// size: one wrong answer is not kept, but the history of some images is incomplete.
const maxAttempts = 3

// layersSize returns what the history of an image adds up to if it is complete.
func layersSize(image model.Image) model.Optional[int64] {
	if image.Sizes != nil { // containerd store
		return image.Sizes.Unpacked
	}
	return image.Size
}

func (c inspectedContent) addsUpTo(layers model.Optional[int64]) bool {
	missing, known := layers.Get()
	for _, step := range c.History {
		missing -= step.Size
	}
	return !known || missing == 0
}

// isStale reports whether an image is to be inspected again: its history was wrong, or the
// image was unpacked since. Before, the containerd store has no sizes for its layers.
func (c inspectedContent) isStale(image model.Image) bool {
	layers := layersSize(image)
	return !c.addsUpTo(layers) && (c.layers != layers || c.attempts < maxAttempts)
}

// all returns all contents. The map must not be changed.
func (c *contentCache) all() map[string]model.Content {
	if c.view == nil {
		c.view = make(map[string]model.Content, len(c.known))
		for id, content := range c.known {
			c.view[id] = content.Content
		}
	}
	return c.view
}

// failed returns the IDs of images whose inspection failed.
func (c *contentCache) failed() map[string]bool {
	failed := make(map[string]bool, len(c.failures))
	for id := range c.failures {
		failed[id] = true
	}
	return failed
}

// keep drops the contents of all images but the wanted ones, and the failures of all but the
// listed ones, which are the ones to inspect.
func (c *contentCache) keep(isListed, isWanted func(id string) bool) {
	for id := range c.known {
		if !isWanted(id) {
			delete(c.known, id)
			c.view = nil
			c.version++
		}
	}
	for id := range c.failures {
		if !isListed(id) {
			delete(c.failures, id)
			c.version++
		}
	}
	for id := range c.missing {
		if !isListed(id) {
			delete(c.missing, id)
		}
	}
}

func (c *contentCache) clearFailures() {
	c.version++
	clear(c.failures)
	clear(c.missing)
}

// maxInspections bounds the images of a task, which would keep a list that is not the last one any more.
const maxInspections = 2000

// uninspected returns the images to inspect next, those that have failed last. An image that is
// gone since it was listed is not inspected again before there is another list.
func (c *contentCache) uninspected(list []model.Image, listed, now time.Time) (fresh []model.Image) {
	var failed []model.Image
	for i, image := range list {
		if i > 0 && list[i-1].ID == image.ID {
			continue // another record of the same image
		}
		if len(fresh) == maxInspections {
			break
		}
		content, known := c.known[image.ID]
		switch failure := c.failures[image.ID]; {
		case known && !content.isStale(image):
		case failure != nil && failure.isDue(now):
			failed = append(failed, image)
		case failure != nil:
		case c.missing[image.ID].IsZero() || listed.After(c.missing[image.ID]):
			fresh = append(fresh, image)
		}
	}
	return append(fresh, failed...)
}

// imageContent is the value of an inspection.
type imageContent struct {
	image   model.Image
	content model.Content
	err     error
}

// merge takes an inspection; listed is when the list was requested that has the image.
func (c *contentCache) merge(inspected imageContent, listed, now time.Time) {
	id := inspected.image.ID
	c.version++
	before, wasMissing := c.missing[id]
	delete(c.missing, id)
	switch {
	case inspected.err == nil:
		content := inspectedContent{Content: inspected.content, layers: layersSize(inspected.image)}
		if content.attempts = 1; c.known[id].layers == content.layers {
			content.attempts += c.known[id].attempts
		}
		c.known[id] = content
		c.view = nil
		delete(c.failures, id)
	case docker.IsGone(inspected.err) && c.failures[id] == nil && !(wasMissing && listed.After(before)):
		c.missing[id] = listed // removed since the list
	default:
		if c.failures[id] == nil {
			c.failures[id] = &attempts{}
		}
		c.failures[id].fail(now, inspected.err)
	}
}

// take takes what containerd reports about an image, which is right until the next report.
func (c *contentCache) take(image model.Image, content model.Content) {
	if known, exists := c.known[image.ID]; !exists || !slices.Equal(known.History, content.History) {
		c.merge(imageContent{image: image, content: content}, time.Time{}, time.Time{})
	}
}

func (c *contentCache) firstFailure() error {
	return firstFailure("image", c.failures, func(a *attempts) attempts { return *a })
}

const inspectImages = "inspect images"

func (s *state) mergeContents(r result, now time.Time) {
	if r.part {
		s.contents.merge(r.value.(imageContent), s.schedules[images].started, now)
	} else {
		s.health.measure("layers", s.contents.firstFailure(), r.took, now)
	}
	s.health.record("layers", inspectImages, s.contents.firstFailure())
}
