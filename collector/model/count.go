package model

import "time"

// CountContainers counts containers by state: every known state, and those that
// only this engine has.
func CountContainers(records []Container) map[State]int {
	count := make(map[State]int)
	for _, state := range States() {
		count[state] = 0
	}
	seen := make(map[string]bool, len(records))
	for _, container := range records {
		if !seen[container.ID] {
			seen[container.ID] = true
			count[container.State]++
		}
	}
	return count
}

// A StoppedFor is a span of time since a container stopped. It names its bounds,
// the lower one included.
type StoppedFor string

// The bounds are those at which cleanups usually draw the line.
const (
	UnderHour  StoppedFor = "0-1h"
	UnderDay   StoppedFor = "1h-1d"
	UnderWeek  StoppedFor = "1d-7d"
	UnderMonth StoppedFor = "7d-30d"
	OverMonth  StoppedFor = "30d+"
)

func stoppedFor(d time.Duration) StoppedFor {
	const day = 24 * time.Hour
	switch {
	case d < time.Hour: // also where the engine's clock is ahead of ours
		return UnderHour
	case d < day:
		return UnderDay
	case d < 7*day:
		return UnderWeek
	case d < 30*day:
		return UnderMonth
	default:
		return OverMonth
	}
}

// CountStopped counts stopped containers by how long they have been so at a time.
// It is unknown if for one of them that is.
func CountStopped(records []Container, at time.Time) Optional[map[StoppedFor]int] {
	count := map[StoppedFor]int{UnderHour: 0, UnderDay: 0, UnderWeek: 0, UnderMonth: 0, OverMonth: 0}
	seen := make(map[string]bool, len(records))
	for _, container := range records {
		if !container.State.Stopped() || seen[container.ID] {
			continue
		}
		seen[container.ID] = true
		stoppedAt, known := container.StoppedAt.Get()
		if !known {
			return Optional[map[StoppedFor]int]{}
		}
		count[stoppedFor(at.Sub(stoppedAt))]++
	}
	return Known(count)
}

// CountVolumes counts volumes by whether a container has them, in whatever state.
func CountVolumes(volumes []Volume, containers []Container) map[bool]int {
	used := UsedVolumes(containers, func(Container) bool { return false })
	count := map[bool]int{false: 0, true: 0}
	for _, volume := range volumes {
		count[used[volume.Name]]++
	}
	return count
}

// CountCache counts records of the build cache by whether a build uses them now.
func CountCache(cache []CacheRecord) map[bool]int {
	count := map[bool]int{false: 0, true: 0}
	for _, record := range cache {
		count[record.InUse]++
	}
	return count
}

// UsedVolumes names the volumes of all containers but those that go.
func UsedVolumes(containers []Container, isGone func(Container) bool) map[string]bool {
	used := make(map[string]bool)
	for _, container := range containers {
		if isGone(container) {
			continue
		}
		for _, name := range container.Volumes {
			used[name] = true
		}
	}
	return used
}
