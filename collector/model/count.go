package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ObjectCounts are the numbers of objects on one engine. A number is unknown as soon as
// one of the objects or properties that it depends on is.
type ObjectCounts struct {
	Images     ImageCounts     `json:"images"`
	Containers ContainerCounts `json:"containers"`
	Volumes    Counts          `json:"volumes"`             // InUse by any container, whatever its state, or Unused
	BuildCache Counts          `json:"build_cache_records"` // InUse by a running build, or Unused
}

// ContainerCounts are the numbers of containers, and of stopped ones by the time since
// they stopped.
type ContainerCounts struct {
	State      Counts `json:"state"`       // the documented states, then those that only this engine has
	StoppedFor Counts `json:"stopped_for"` // in ranges that include their lower bound
}

// Names of Volumes and BuildCache.
const (
	InUse  = "in_use"
	Unused = "unused"
)

// CountObjects counts the objects of a snapshot. Images.Layers stays unknown, because it
// depends on the layer tree.
func CountObjects(s Snapshot) ObjectCounts {
	var c ObjectCounts
	records, imagesKnown := s.Images.Get()
	images := Distinct(records)
	containers, containersKnown := s.Containers.Get()
	if imagesKnown {
		c.Images = countImages(images)
		if s.Contents != nil {
			c.Images.Uninspected = Known(countIf(images, func(i Image) bool { _, ok := s.Contents[i.ID]; return !ok }))
		}
	}
	if containersKnown {
		c.Containers = ContainerCounts{
			State:      countBy(containers, States(), func(c Container) State { return c.State }),
			StoppedFor: countStopped(containers, s.At),
		}
	}
	if imagesKnown && containersKnown {
		c.Images.Use = countUse(images, containers)
		c.Images.Unused = countUnused(images, containers, s.At)
	}
	if volumes, known := s.Volumes.Get(); known && containersKnown {
		used := make(map[string]bool)
		for _, container := range containers {
			for _, name := range container.Volumes {
				used[name] = true
			}
		}
		c.Volumes = countInUse(volumes, func(v Volume) bool { return used[v.Name] })
	}
	if cache, known := s.BuildCache.Get(); known {
		c.BuildCache = countInUse(cache, func(r CacheRecord) bool { return r.InUse })
	}
	return c
}

// Count is a number of objects that have something in common, and its name.
type Count struct {
	Name string
	N    int
}

// Counts are numbers of objects in the order in which they are shown. Nil is unknown.
type Counts []Count

// MarshalJSON implements json.Marshaler. It returns an object in the same order, or null.
func (c Counts) MarshalJSON() ([]byte, error) {
	if c == nil {
		return []byte("null"), nil
	}
	var object bytes.Buffer
	separator := byte('{')
	for _, count := range c {
		name, err := json.Marshal(count.Name)
		if err != nil {
			return nil, err
		}
		object.WriteByte(separator)
		fmt.Fprintf(&object, "%s:%d", name, count.N)
		separator = ','
	}
	if len(c) == 0 {
		object.WriteByte('{')
	}
	object.WriteByte('}')
	return object.Bytes(), nil
}

// countBy counts objects by name. The given names come first, in their order and also if
// there is no object; other names follow in alphabetical order.
func countBy[T any, K ~string](objects []T, names []K, name func(T) K) Counts {
	numbers := make(map[K]int)
	for _, object := range objects {
		numbers[name(object)]++
	}
	counts := Counts{}
	for _, name := range names {
		counts = append(counts, Count{string(name), numbers[name]})
		delete(numbers, name)
	}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		counts = append(counts, Count{string(name), numbers[name]})
	}
	return counts
}

func countInUse[T any](objects []T, inUse func(T) bool) Counts {
	return countBy(objects, []string{InUse, Unused}, func(object T) string {
		if inUse(object) {
			return InUse
		}
		return Unused
	})
}

func countIf[T any](objects []T, matches func(T) bool) (n int) {
	for _, object := range objects {
		if matches(object) {
			n++
		}
	}
	return n
}

// countStopped counts stopped containers by the time since they stopped. It leaves out
// those of which a request failed. It is unknown while one has not been inspected yet.
func countStopped(containers []Container, now time.Time) Counts {
	var ages []time.Duration
	for _, container := range containers {
		stoppedAt, known := container.StoppedAt.Get()
		switch {
		case !container.State.Stopped():
		case known:
			ages = append(ages, now.Sub(stoppedAt))
		case !container.Failed:
			return nil
		}
	}
	return countAges(ages, stoppedForRanges())
}

// ageRange is a named range of ages that starts at the bound of the range before it. The
// first range also has negative ages, because clocks differ. The last one has no bound.
type ageRange struct {
	name  string
	below time.Duration
}

const day = 24 * time.Hour

// stoppedForRanges have common values of the until filter of prunes as bounds.
func stoppedForRanges() []ageRange {
	return []ageRange{{"0-1h", time.Hour}, {"1h-1d", day}, {"1d-7d", 7 * day}, {"7d-30d", 30 * day}, {name: "30d+"}}
}

func countAges(ages []time.Duration, ranges []ageRange) Counts {
	counts := make(Counts, len(ranges))
	for i, r := range ranges {
		counts[i].Name = r.name
	}
	for _, age := range ages {
		i := 0
		for i < len(ranges)-1 && age >= ranges[i].below {
			i++
		}
		counts[i].N++
	}
	return counts
}
