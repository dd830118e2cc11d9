package model

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// FuzzLaws holds the counts to what is true of every engine, however strange.
func FuzzLaws(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("any bytes are the recipe of a snapshot"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	f.Fuzz(func(t *testing.T, raw []byte) {
		images, containers := arbitrary(raw)
		count := func(images []Image, containers []Container) ObjectCounts {
			return CountObjects(Snapshot{Images: Known(images), Containers: Known(containers)})
		}
		counts := count(images, containers)
		value := func(o Optional[int]) int { n, _ := o.Get(); return n }
		sum := func(counts Counts) (sum int) {
			for _, count := range counts {
				sum += count.N
			}
			return sum
		}
		ids := make(map[string]bool)
		sizesKnown, digestsKnown := true, true
		for _, image := range images {
			ids[image.ID] = true
			sizesKnown = sizesKnown && image.Size.IsKnown()
			digestsKnown = digestsKnown && image.HasDigest.IsKnown()
		}

		// Every image is tagged or untagged, and has one use. Every container has one state.
		c := counts.Images
		if value(c.Tagged)+value(c.Untagged) != len(ids) || sum(c.Use) != len(ids) || len(c.Use) != 3 {
			t.Errorf("%d tagged and %d untagged images, uses %v; want %d in all", value(c.Tagged), value(c.Untagged), c.Use, len(ids))
		}
		if sum(counts.Containers.State) != len(containers) {
			t.Errorf("states %v of %d containers", counts.Containers.State, len(containers))
		}
		// A tagged image has a tag.
		if value(c.Tags) < value(c.Tagged) {
			t.Errorf("%d tags of %d tagged images", value(c.Tags), value(c.Tagged))
		}
		// Every untagged image is dangling, intermediate or digest-only, or it is unknown which.
		isKnown := c.Dangling.IsKnown()
		if isKnown != c.Intermediate.IsKnown() || isKnown != c.DigestOnly.IsKnown() || digestsKnown && !isKnown {
			t.Errorf("known: dangling %v, intermediate %v, digest-only %v; all digest references: %v",
				isKnown, c.Intermediate.IsKnown(), c.DigestOnly.IsKnown(), digestsKnown)
		}
		if parts := value(c.Dangling) + value(c.Intermediate) + value(c.DigestOnly); isKnown && parts != value(c.Untagged) {
			t.Errorf("%d dangling, intermediate and digest-only images of %d untagged", parts, value(c.Untagged))
		}
		if size, known := c.VirtualSize.Get(); known != sizesKnown || size < 0 {
			t.Errorf("virtual size %d, known: %v; all sizes known: %v", size, known, sizesKnown)
		}

		// The order of objects and repeated records of images do not matter.
		random := rand.New(rand.NewPCG(uint64(len(raw)), 1))
		shuffled := slices.Concat(images, images)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		shuffledContainers := slices.Clone(containers)
		random.Shuffle(len(shuffledContainers), func(i, j int) {
			shuffledContainers[i], shuffledContainers[j] = shuffledContainers[j], shuffledContainers[i]
		})
		if got := count(shuffled, shuffledContainers); !reflect.DeepEqual(got, counts) {
			t.Errorf("shuffled and repeated: %+v, before: %+v", got, counts)
		}
	})
}

// arbitrary derives images and containers from bytes: few IDs, so that some are equal,
// parents that exist or not, and unknown values.
func arbitrary(raw []byte) (images []Image, containers []Container) {
	next := func() int {
		if len(raw) == 0 {
			return 0
		}
		b := raw[0]
		raw = raw[1:]
		return int(b)
	}
	states := append(States(), "invented")
	for len(raw) > 0 {
		if next()%4 == 0 {
			containers = append(containers, Container{
				ID:      fmt.Sprint(len(containers)),
				ImageID: fmt.Sprint("image ", next()%12),
				State:   states[next()%len(states)],
			})
			continue
		}
		image := Image{ID: fmt.Sprint("image ", next()%10)}
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
			image.HasDigest = Known(digested > 5)
		}
		if size := next(); size < 250 {
			image.Size = Known(int64(size))
		}
		images = append(images, image)
	}
	return images, containers
}
