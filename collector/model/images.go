package model

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// ImageCounts are the numbers of images, and what goes with them.
//
// Every image is either tagged or untagged. An untagged image is one of three:
// digest-only (a digest reference, repo@sha256:…, points to it), intermediate (it has no
// digest reference and is the parent of another image: a step of a classic build) or
// dangling (any other: "docker images" shows it as "<none> <none>").
//
// Dangling differs from the engine's "dangling" filter, whose meaning depends on the
// image store.
type ImageCounts struct {
	Tagged   Optional[int] `json:"tagged"`
	Untagged Optional[int] `json:"untagged"`

	// Unknown if it is unknown whether an untagged image has a digest reference.
	Dangling     Optional[int] `json:"dangling"`
	Intermediate Optional[int] `json:"intermediate"`
	DigestOnly   Optional[int] `json:"digest_only"`

	Tags        Optional[int] `json:"tags"`               // of all images
	Use         Counts        `json:"use"`                // running, stopped, none; every image is in one of them
	Unused      Counts        `json:"unused_created_for"` // images in no use, by the time since they were created
	Layers      Optional[int] `json:"layers"`             // distinct ones of all images
	Uninspected Optional[int] `json:"uninspected"`        // images whose layers are unknown

	// VirtualSize is the sum of the sizes of all images in bytes. A layer counts once for
	// every image that has it. Unknown if the size of any image is.
	VirtualSize Optional[int64] `json:"virtual_size_bytes"`
}

// countImages counts distinct images by kind.
func countImages(images []Image) ImageCounts {
	isParent := make(map[string]bool)
	for _, image := range images {
		if image.Parent != "" {
			isParent[image.Parent] = true
		}
	}
	var tagged, tags, dangling, intermediate, digestOnly, undecided int
	for _, image := range images {
		hasDigest, known := image.HasDigest.Get()
		tags += len(image.Tags)
		switch {
		case len(image.Tags) > 0:
			tagged++
		case !known:
			undecided++
		case hasDigest:
			digestOnly++
		case isParent[image.ID]:
			intermediate++
		default:
			dangling++
		}
	}
	counts := ImageCounts{
		Tagged: Known(tagged), Untagged: Known(len(images) - tagged), Tags: Known(tags), VirtualSize: virtualSize(images),
	}
	if undecided == 0 {
		counts.Dangling, counts.Intermediate, counts.DigestOnly = Known(dangling), Known(intermediate), Known(digestOnly)
	}
	return counts
}

// virtualSize adds up the sizes of images. A sum that overflows is unknown.
func virtualSize(images []Image) Optional[int64] {
	var sum int64
	for _, image := range images {
		size, known := image.Size.Get()
		if !known || size > math.MaxInt64-sum {
			return Optional[int64]{}
		}
		sum += size
	}
	return Known(sum)
}

// Names of ImageCounts.Use.
const (
	UseRunning = "running" // a container made from it is running, paused or restarting
	UseStopped = "stopped" // only containers in other states were made from it
	UseNone    = "none"    // no container was made from it
)

// countUse counts distinct images by what uses them. It joins by image ID, because the
// image name of a container may point to another image by now.
func countUse(images []Image, containers []Container) Counts {
	use := make(map[string]string, len(containers))
	for _, container := range containers {
		switch {
		case container.State.Active():
			use[container.ImageID] = UseRunning
		case use[container.ImageID] == "":
			use[container.ImageID] = UseStopped
		}
	}
	return countBy(images, []string{UseRunning, UseStopped, UseNone}, func(i Image) string {
		return cmp.Or(use[i.ID], UseNone)
	})
}

// createdForRanges have common values of the until filter of prunes as bounds.
func createdForRanges() []ageRange {
	return []ageRange{{"0-1d", day}, {"1d-7d", 7 * day}, {"7d-30d", 30 * day}, {"30d-90d", 90 * day}, {name: "90d+"}}
}

// countUnused counts the distinct images that no container was made from by the time since
// they were created. It is unknown if a date is.
func countUnused(images []Image, containers []Container, now time.Time) Counts {
	used := make(map[string]bool, len(containers))
	for _, container := range containers {
		used[container.ImageID] = true
	}
	ages := make([]time.Duration, 0, len(images))
	for _, image := range images {
		if used[image.ID] {
			continue
		}
		created, known := image.CreatedAt().Get()
		if !known {
			return nil
		}
		ages = append(ages, now.Sub(created))
	}
	return countAges(ages, createdForRanges())
}

// Distinct merges the records of each image ID. The result has all their tags and the
// largest size, because records of one ID differ in size only if each is one platform.
func Distinct(records []Image) []Image {
	// Records in ascending order of their IDs are distinct. Checking this first makes the
	// usual case fast; every scrape calls this function.
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
	sizes := a.StoreSizes()
	sizes.SeveralPlatforms = sizes.SeveralPlatforms || b.StoreSizes().SeveralPlatforms || a.Size != b.Size
	if sizes != (StoreSizes{}) { // else it may be of a graph driver
		a.Sizes = &sizes
	}
	a.Size = Optional[int64]{}
	if aKnown && bKnown {
		a.Size = Known(max(aSize, bSize))
	}
	return a
}

// union returns a and the names that only b has.
func union(a, b []string) []string {
	for _, name := range b {
		if !slices.Contains(a, name) {
			a = append(slices.Clip(a), name)
		}
	}
	return a
}
