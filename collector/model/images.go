package model

import (
	"math"
	"slices"
)

// An ImageCount is how many images there are of each kind.
//
// Every image is either tagged or untagged. An untagged image is one of three:
// intermediate (a step of a classic build: the parent of another image),
// digest-only (a digest reference, repo@sha256:…, points to it) or dangling (all the rest: what
// "docker images" calls "<none> <none>").
//
// This is not the engine's "dangling" filter, which means another set in each
// image store and parts the images cleanly in neither.
type ImageCount struct {
	Tagged, Untagged int
	Tags             int // on all images

	// Unknown where it is not known whether an untagged image was pulled by digest.
	Dangling, Intermediate Optional[int]

	// VirtualSize adds up the sizes of all images in bytes: a layer counts once
	// for every image that has it. Unknown if the size of any image is.
	VirtualSize Optional[int64]
}

// CountImages counts distinct images by kind.
func CountImages(images []Image) ImageCount {
	isParent := make(map[string]bool)
	for _, image := range images {
		if image.Parent != "" {
			isParent[image.Parent] = true
		}
	}

	var count ImageCount
	var dangling, intermediate, digestUnknown int
	var virtualSize int64
	sizesKnown := true
	for _, image := range images {
		size, known := image.Size.Get()
		sizesKnown = sizesKnown && known && size <= math.MaxInt64-virtualSize
		virtualSize += size

		count.Tags += len(image.Tags)
		if len(image.Tags) > 0 {
			count.Tagged++
			continue
		}
		count.Untagged++
		digested, known := image.HasDigest.Get()
		switch {
		case !known:
			digestUnknown++
		case digested:
		case isParent[image.ID]:
			intermediate++
		default:
			dangling++
		}
	}
	if digestUnknown == 0 {
		count.Dangling, count.Intermediate = Known(dangling), Known(intermediate)
	}
	if sizesKnown {
		count.VirtualSize = Known(virtualSize)
	}
	return count
}

// A Use tells what keeps an image from being removed.
type Use string

const (
	UsedRunning Use = "running" // a container made from it is running, paused or restarting
	UsedStopped Use = "stopped" // only containers in other states were made from it
	Unused      Use = "none"    // no container was made from it
)

// Uses are all of them: every image is in exactly one.
func Uses() []Use {
	return []Use{UsedRunning, UsedStopped, Unused}
}

// CountUse counts distinct images by what uses them. The join is by ID and never by name,
// because a container's image name may have moved on to another image.
func CountUse(images []Image, containers []Container) map[Use]int {
	use := make(map[string]Use, len(containers))
	for _, container := range containers {
		switch {
		case container.State.Active():
			use[container.ImageID] = UsedRunning
		case use[container.ImageID] == "":
			use[container.ImageID] = UsedStopped
		}
	}
	count := map[Use]int{UsedRunning: 0, UsedStopped: 0, Unused: 0}
	for _, image := range images {
		if used, ok := use[image.ID]; ok {
			count[used]++
		} else {
			count[Unused]++
		}
	}
	return count
}

// Distinct merges the records of one image ID: all their tags, and the largest
// size, since records differ in size only where each is one platform of the image.
func Distinct(records []Image) []Image {
	// Records in the order of their IDs show at a glance that each has its own, and
	// every scrape pays for this.
	if isAscending(records) {
		return records
	}
	images := make([]Image, 0, len(records))
	index := make(map[string]int, len(records))
	for _, record := range records {
		i, ok := index[record.ID]
		if !ok {
			index[record.ID] = len(images)
			images = append(images, record)
			continue
		}
		images[i] = merge(images[i], record)
	}
	return images
}

func isAscending(records []Image) bool {
	for i := 1; i < len(records); i++ {
		if records[i-1].ID >= records[i].ID {
			return false
		}
	}
	return true
}

func merge(a, b Image) Image {
	a.Parent = max(a.Parent, b.Parent)
	a.Tags = union(a.Tags, b.Tags)
	a.Repositories = union(a.Repositories, b.Repositories)
	if digested, known := a.HasDigest.Get(); !known || !digested {
		if digested, bKnown := b.HasDigest.Get(); !bKnown || digested {
			a.HasDigest = b.HasDigest
		}
	}
	aSize, aKnown := a.Size.Get()
	bSize, bKnown := b.Size.Get()
	a.SeveralPlatforms = a.SeveralPlatforms || b.SeveralPlatforms || a.Size != b.Size
	a.Size = Optional[int64]{}
	if aKnown && bKnown {
		a.Size = Known(max(aSize, bSize))
	}
	return a
}

// union adds to a what only b has.
func union(a, b []string) []string {
	for _, name := range b {
		if !slices.Contains(a, name) {
			a = append(slices.Clip(a), name)
		}
	}
	return a
}
