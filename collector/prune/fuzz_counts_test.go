package prune

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// FuzzLaws checks what holds for the counts of every host.
func FuzzLaws(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("any bytes are the recipe of a snapshot"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	f.Fuzz(func(t *testing.T, raw []byte) {
		images, containers := arbitrary(raw)
		count := model.CountImages(model.Distinct(images))
		ids := make(map[string]bool)
		for _, image := range images {
			ids[image.ID] = true
		}

		// Every image is tagged or untagged.
		if count.Tagged+count.Untagged != len(ids) {
			t.Errorf("tagged %d + untagged %d, but %d images", count.Tagged, count.Untagged, len(ids))
		}
		// Dangling and intermediate images are untagged ones, and no image is both.
		dangling, _ := count.Dangling.Get()
		intermediate, _ := count.Intermediate.Get()
		if dangling < 0 || intermediate < 0 || dangling+intermediate > count.Untagged {
			t.Errorf("dangling %d + intermediate %d of %d untagged", dangling, intermediate, count.Untagged)
		}
		// A tagged image has a tag.
		if count.Tags < count.Tagged {
			t.Errorf("%d tags on %d tagged images", count.Tags, count.Tagged)
		}
		// Every image has one use.
		use := model.CountUse(model.Distinct(images), containers)
		if sum := use[model.UsedRunning] + use[model.UsedStopped] + use[model.Unused]; sum != len(ids) || len(use) != len(model.Uses()) {
			t.Errorf("uses %v of %d images", use, len(ids))
		}
		// Every container has one state.
		sum := 0
		states := model.CountContainers(containers)
		for _, n := range states {
			sum += n
		}
		if sum != len(containers) {
			t.Errorf("states %v of %d containers", states, len(containers))
		}

		checkUnknownCounts(t, images, count)
		checkShuffledCounts(t, images, containers)
	})
}

// checkUnknownCounts checks that a count is unknown if what it needs is.
func checkUnknownCounts(t *testing.T, images []model.Image, count model.ImageCount) {
	sizesKnown, digestsKnown := true, true
	for _, image := range images {
		sizesKnown = sizesKnown && image.Size.IsKnown()
		digestsKnown = digestsKnown && image.HasDigest.IsKnown()
	}
	virtualSize, known := count.VirtualSize.Get()
	if known != sizesKnown || virtualSize < 0 {
		t.Errorf("virtual size %d, known: %v; all sizes known: %v", virtualSize, known, sizesKnown)
	}
	if digestsKnown && !(count.Dangling.IsKnown() && count.Intermediate.IsKnown()) {
		t.Errorf("dangling or intermediate is unknown although every digest reference is known")
	}
}

// checkShuffledCounts checks that neither the order nor the number of records of one ID
// matters.
func checkShuffledCounts(t *testing.T, images []model.Image, containers []model.Container) {
	random := rand.New(rand.NewPCG(uint64(len(images)), 1))
	shuffled := shuffle(random, slices.Concat(images, images))
	shuffledContainers := shuffle(random, slices.Concat(containers, containers))
	if got, want := model.CountImages(model.Distinct(shuffled)), model.CountImages(model.Distinct(images)); got != want {
		t.Errorf("shuffled and doubled: %+v, before: %+v", got, want)
	}
	if got, want := model.CountUse(model.Distinct(shuffled), shuffledContainers), model.CountUse(model.Distinct(images), containers); !reflect.DeepEqual(got, want) {
		t.Errorf("shuffled and doubled: %v, before: %v", got, want)
	}
	if got, want := model.CountContainers(shuffledContainers), model.CountContainers(containers); !reflect.DeepEqual(got, want) {
		t.Errorf("shuffled and doubled: %v, before: %v", got, want)
	}
}

// arbitrary derives images and containers from bytes: few IDs, so that some are equal,
// parents that exist or not, and unknown values.
func arbitrary(raw []byte) (images []model.Image, containers []model.Container) {
	next := func() int {
		if len(raw) == 0 {
			return 0
		}
		b := raw[0]
		raw = raw[1:]
		return int(b)
	}
	states := append(model.States(), "invented")
	for len(raw) > 0 {
		if next()%4 == 0 {
			containers = append(containers, model.Container{
				ID:      fmt.Sprint(len(containers)),
				ImageID: fmt.Sprint("image ", next()%12),
				State:   states[next()%len(states)],
			})
			continue
		}
		image := model.Image{ID: fmt.Sprint("image ", next()%10)}
		if parent := next() % 16; parent < 12 {
			image.Parent = fmt.Sprint("image ", parent)
		}
		for range next() % 3 {
			tag := fmt.Sprint("tag ", next()%8)
			if !slices.Contains(image.Tags, tag) {
				image.Tags = append(image.Tags, tag)
			}
		}
		if digested := next() % 8; digested > 0 {
			image.HasDigest = model.Known(digested > 5)
		}
		if size := next(); size < 250 {
			image.Size = model.Known(int64(size))
		}
		images = append(images, image)
	}
	return images, containers
}
