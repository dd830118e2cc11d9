package main

import (
	"fmt"
	"maps"
	"math"
	"strings"
)

// A page is a metrics page: functions that return the value of a series at minute i, by series.
// NaN means that there is no sample.
type page map[string]func(i int) float64

const (
	percent = 1e10 // bytes, of a disk of a terabyte
	nightly = 3 * hour
)

// labelled returns a series with one label. The functions below it are shorthands.
func labelled(name, label, value string) string {
	return fmt.Sprintf("docker_%s{%s=%q}", name, label, value)
}
func collects(what, kind string) string { return labelled("scrape_collector_"+what, collector, kind) }
func reclaimable(command string) string { return labelled("reclaimable_bytes", "command", command) }
func usageOf(resource string) string    { return labelled("disk_usage_bytes", "resource", resource) }
func inState(state string) string       { return labelled("containers", "state", state) }
func lastPruned(resource string) string {
	return labelled("last_prune_timestamp_seconds", "resource", resource)
}

const (
	avail       = `docker_filesystem_avail_bytes{path="/var/lib/docker"}`
	lastSuccess = "last_success_timestamp_seconds"
)

// clockAt returns the time of minute i.
func clockAt(i int) float64 { return float64(firstMinute + 60*i) }

// quietPage returns the page of a host on which nothing accumulates.
func quietPage() page {
	p := page{
		"docker_up": constant(1),
		`docker_engine_info{version="29.0.0",image_store="graphdriver",storage_driver="overlay2",root_dir="/var/lib/docker"}`: constant(1),
		`docker_filesystem_size_bytes{path="/var/lib/docker"}`:                                                                constant(100 * percent),
		avail: constant(60 * percent),
		`docker_filesystem_files{path="/var/lib/docker"}`:      constant(6e7),
		`docker_filesystem_files_free{path="/var/lib/docker"}`: constant(5e7),
		collects("success", "filesystems"):                     constant(1),
		"docker_images_tagged":                                 constant(30),
		"docker_images_untagged":                               constant(6),
		"docker_images_intermediate":                           constant(3),
	}
	for _, kind := range []string{"images", "layers", "containers", "container_sizes", "volumes", "build_cache"} {
		p[collects("success", kind)] = constant(1)
		p[collects("duration_seconds", kind)] = constant(0.2)
		p[collects(lastSuccess, kind)] = clockAt
	}
	p[collects(lastSuccess, "layers")] = constant(firstMinute) // when there was the last new image
	for state, count := range map[string]float64{"created": 0, "running": 8, "paused": 0, "restarting": 0, "removing": 0, "exited": 3, "dead": 0} {
		p[inState(state)] = constant(count)
	}
	for _, age := range []string{"0-1h", "1h-1d", "1d-7d", "7d-30d", "30d+"} {
		p[labelled("containers_stopped", "stopped_for", age)] = constant(0)
	}
	for resource, held := range map[string]float64{"images": 20, "containers": 1, "volumes": 5, "build_cache": 5, "container_logs": 1, "leftovers": 0} {
		p[usageOf(resource)] = constant(held * percent)
	}
	for command, frees := range map[string]float64{
		"docker container prune": 1, "docker image prune": 1, "docker image prune --all": 5, "docker builder prune": 4, "docker builder prune --all": 5,
		"docker volume prune": 0, "docker volume prune --all": 1, "docker system prune --all": 11,
		"docker container prune --filter until=168h": 0, "docker image prune --all --filter until=168h": 3, "docker builder prune --filter until=168h": 2,
	} {
		p[reclaimable(command)] = constant(frees * percent)
	}
	return p
}

// step returns one value before a minute, and another one from it on.
func step(at int, before, after float64) func(int) float64 {
	return func(i int) float64 {
		if i < at {
			return before
		}
		return after
	}
}

// saw returns a value that grows by daily each day, and falls back to low when a job runs.
func saw(low, daily float64, last func(i int) int) func(int) float64 {
	return func(i int) float64 { return low + daily*float64(i-last(i))/day }
}

// every returns when a job that runs every so many days, at 3:00, ran last before minute i. It ran
// before the simulation, too.
func every(days int) func(int) int {
	return func(i int) int {
		ago := (i - nightly) % (days * day)
		if ago < 0 {
			ago += days * day
		}
		return i - ago
	}
}

// onWorkdays returns when a job that runs from Monday to Friday, but later on Monday, ran last.
func onWorkdays(late int) func(int) int {
	return func(i int) int {
		for last := i; ; last-- {
			at := ((last % week) + week) % week
			if at == nightly+late || at < 5*day && at > day && at%day == nightly {
				return last
			}
		}
	}
}

// until ends a job.
func until(end int, last func(int) int) func(int) int {
	return func(i int) int { return last(min(i, end)) }
}

// prunes returns what the exporter shows of a job that prunes images. It knows no prune of
// before its start.
func prunes(last func(i int) int) func(int) float64 {
	return func(i int) float64 {
		if last(i) < 0 {
			return math.NaN()
		}
		return clockAt(last(i))
	}
}

// daily returns whether minute i is within so many minutes of each day, from 1:00 on.
func daily(minutes int) func(int) bool {
	return func(i int) bool { return i%day >= hour && i%day < hour+minutes }
}

// absent returns the values of a series without those of some minutes.
func absent(value func(int) float64, when func(int) bool) func(int) float64 {
	return scrapedIf(value, func(i int) bool { return !when(i) })
}

func scrapedIf(value func(int) float64, up func(int) bool) func(int) float64 {
	return func(i int) float64 {
		if !up(i) {
			return math.NaN()
		}
		return value(i)
	}
}

// indicator returns 1 if a condition holds, else 0.
func indicator(condition func(int) bool) func(int) float64 {
	return func(i int) float64 {
		if condition(i) {
			return 1
		}
		return 0
	}
}

// only returns a page with the same change of several series.
func only(change func(value func(int) float64) func(int) float64, prefixes ...string) page {
	p := page{}
	for series, value := range quietPage() {
		for _, prefix := range prefixes {
			if strings.HasPrefix(series, prefix) {
				p[series] = change(value)
			}
		}
	}
	return p
}

func merged(pages ...page) page {
	all := page{}
	for _, p := range pages {
		maps.Copy(all, p)
	}
	return all
}
