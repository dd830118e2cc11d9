package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// A causeHost is a host with the alerts that it must fire. No other alert may fire.
type causeHost struct {
	name  string
	days  int
	up    func(i int) bool // whether a scrape succeeds; nil: always
	label string           // name of a label of the target, with the value true
	alone bool             // whether Prometheus scrapes no other host
	page  page             // what differs from the quiet host
	fires []expected
}

// An expected alert must fire for the first time within [from, by], and not after until. Times
// are in minutes.
type expected struct {
	alert           string
	from, by, until int
	incidents       int // the maximum, which are separated by an hour without the alert; 0: one
}

// piled returns the page of a host with all kinds of buildup from a minute on.
func piled(from int) page {
	p := page{
		reclaimable("docker image prune"):                       step(from, percent, 11*percent),
		reclaimable("docker image prune --all"):                 step(from, 5*percent, 32*percent),
		reclaimable("docker container prune"):                   step(from, percent, 6*percent),
		reclaimable("docker builder prune"):                     step(from, 4*percent, 26*percent),
		reclaimable("docker volume prune --all"):                step(from, percent, 11*percent),
		usageOf("leftovers"):                                    step(from, 0, 11*percent),
		avail:                                                   constant(25 * percent),
		"docker_images_untagged":                                step(from, 6, 60),
		inState("exited"):                                       step(from, 3, 90),
		labelled("containers_stopped", "stopped_for", "7d-30d"): step(from, 0, 4),
	}
	return p
}

// piles are the alerts on piled, a day after it began.
func piles(from int) []expected {
	var all []expected
	for _, alert := range []string{"DockerDanglingImagesBuildup", "DockerUntaggedImagesBuildup", "DockerUnusedImagesBuildup", "DockerExitedContainersBuildup",
		"DockerForgottenContainers", "DockerBuildCacheBuildup", "DockerUnusedVolumesBuildup", "DockerLeftovers"} {
		all = append(all, expected{alert: alert, from: from + day, by: from + day + 10})
	}
	return all
}

// figures returns the prefixes of the metrics that come from the engine's lists.
func figures() []string {
	return []string{"docker_images", "docker_containers", "docker_reclaimable", "docker_disk_usage"}
}

// causeHosts returns the hosts: ordinary ones first, then those with something wrong.
func causeHosts() []causeHost {
	return slices.Concat(quietHosts(), buildupHosts(), cleanupHosts(), watchedHosts())
}

func quietHosts() []causeHost {
	fails := func(i int) bool { return i%hour == 7 }
	reboot := func(i int) bool { return i%week >= day && i%week < day+9 }
	sleeps := func(i int) bool { return !workday(i) }
	swarm := page{inState("running"): constant(8), inState("exited"): constant(32)} // task-history-limit 5
	return []causeHost{
		{name: "server on which nothing accumulates", days: 21},
		{name: "CI host, pruned every night", days: 21, page: page{
			reclaimable("docker image prune"):       saw(0, 30*percent, every(1)),
			reclaimable("docker image prune --all"): saw(0, 60*percent, every(1)),
			reclaimable("docker builder prune"):     saw(0, 30*percent, every(1)),
			usageOf("images"):                       saw(10*percent, 30*percent, every(1)),
			avail:                                   saw(60*percent, -40*percent, every(1)),
			inState("exited"):                       saw(0, 200, every(1)),
			"docker_images_untagged":                saw(0, 200, every(1)),
			lastPruned("images"):                    prunes(every(1)),
		}},
		{name: "pruned from Monday to Friday", days: 35, page: page{lastPruned("images"): prunes(onWorkdays(0))}},
		{name: "the same, two hours late on Monday", days: 35, page: page{lastPruned("images"): prunes(onWorkdays(2 * hour))}},
		{name: "pruned every ten days", days: 60, page: page{usageOf("images"): saw(10*percent, 3*percent, every(10)), lastPruned("images"): prunes(every(10))}},
		{name: "the same, prunes unknown", days: 60, page: page{usageOf("images"): saw(10*percent, 3*percent, every(10))}},
		{name: "pruned every 30 days", days: 95, page: page{usageOf("images"): saw(10*percent, 2*percent, every(30)), lastPruned("images"): prunes(every(30))}},
		{name: "92 % used by design", days: 21, page: page{usageOf("volumes"): constant(60 * percent)}},
		{name: "Swarm node, default task history", days: 7, page: swarm},
		{name: "laptop, off at night and weekends", days: 21, up: func(i int) bool { return !sleeps(i) }, label: "sleeps"},
		{name: "one scrape an hour fails", days: 7, up: func(i int) bool { return !fails(i) }},
		{name: "one ping an hour fails", days: 7, page: page{"docker_up": indicator(func(i int) bool { return !fails(i) })}},
		{name: "reboot of nine minutes a week", days: 21, up: func(i int) bool { return !reboot(i) }},
		{name: "engine restarts, nine minutes a week", days: 21, page: merged(
			only(func(v func(int) float64) func(int) float64 { return absent(v, reboot) }, figures()...),
			page{"docker_up": indicator(func(i int) bool { return !reboot(i) })})},
		{name: "list that takes 30 seconds", days: 7, page: page{ // and is requested every 100 minutes
			collects("duration_seconds", "volumes"): constant(30),
			collects(lastSuccess, "volumes"):        func(i int) float64 { return clockAt(i - i%100) },
		}},
		{name: "just below all thresholds of buildup", days: 4, page: page{
			reclaimable("docker image prune"):        constant(9.9 * percent),
			reclaimable("docker image prune --all"):  constant(29 * percent),
			reclaimable("docker container prune"):    constant(4.9 * percent),
			reclaimable("docker builder prune"):      constant(24 * percent),
			reclaimable("docker volume prune --all"): constant(9.9 * percent),
			usageOf("leftovers"):                     constant(9.9 * percent),
			"docker_images_untagged":                 constant(23),
			inState("exited"):                        constant(40),
			avail:                                    constant(25 * percent),
		}},
	}
}

func buildupHosts() []causeHost {
	missing := daily(3 * hour)
	backup := func(i int) bool { return !missing(i) }
	gaps := page{}
	for series, value := range merged(quietPage(), piled(day)) {
		for _, prefix := range figures() {
			if strings.HasPrefix(series, prefix) {
				gaps[series] = absent(value, missing)
			}
		}
	}
	stopped := expected{alert: "DockerExporterDown", from: hour, by: hour + 20, incidents: 5}
	containersOf := func(running float64) page {
		return page{inState("running"): constant(running), inState("exited"): func(i int) float64 { return 3 + 3*float64(i)/hour }}
	}
	return []causeHost{
		{name: "all kinds of buildup", days: 5, page: piled(day), fires: piles(day)},
		{name: "all, no figures for 3 hours a night", days: 5, page: merged(piled(day), gaps), fires: piles(day)},
		{name: "all, exporter stopped for 3 hours", days: 5, page: piled(day), up: backup, fires: append(piles(day), stopped)},
		{name: "all, cleaned up after three days", days: 5, page: merged(piled(day), page{
			reclaimable("docker image prune"): func(i int) float64 {
				return 11 * percent * indicator(func(i int) bool { return i >= day && i < 3*day })(i)
			}}),
			fires: append(piles(day)[1:], expected{alert: "DockerDanglingImagesBuildup", from: 2 * day, by: 2*day + 10, until: 3*day + 10})},
		{name: "three containers an hour, 8 running", days: 5, page: containersOf(8), // 41 after 13 hours
			fires: []expected{{alert: "DockerExitedContainersBuildup", from: day, by: 2 * day}}},
		{name: "Swarm node with one-off containers", days: 7, page: page{inState("running"): constant(8), inState("exited"): constant(32 + 20)},
			fires: []expected{{alert: "DockerExitedContainersBuildup", from: day, by: day + 10}}},
		{name: "half of the cache limit, much free", days: 4, page: page{reclaimable("docker builder prune"): constant(40 * percent)}},
		{name: "grows by 14 % a week, no prune", days: 28, page: page{usageOf("images"): saw(10*percent, 2*percent, func(int) int { return 0 })},
			fires: []expected{{alert: "DockerDiskUsageGrowing", from: 13 * day, by: 16 * day}}},
		{name: "grows by 14 % a week, pruned every night", days: 28, page: page{
			usageOf("images"):    func(i int) float64 { return percent * (10 + 2*float64(i)/day + 10*float64(i-every(1)(i))/day) },
			lastPruned("images"): prunes(every(1))},
			fires: []expected{{alert: "DockerDiskUsageGrowing", from: 13 * day, by: 16 * day}}},
	}
}

func cleanupHosts() []causeHost {
	const end = 15 * day
	useless := page{
		lastPruned("images"):                                 prunes(every(1)),
		labelled("prunes_total", "resource", "images"):       func(i int) float64 { return math.Floor(float64(i-nightly)/day) + 1 },
		labelled("pruned_bytes_total", "resource", "images"): constant(0),
		usageOf("volumes"):                                   func(i int) float64 { return percent * (5 + float64(i)/day) },
		avail:                                                func(i int) float64 { return percent * (45 - float64(i)/day) },
	}
	return []causeHost{
		{name: "nightly prune ends", days: 21, page: page{lastPruned("images"): prunes(until(end, every(1)))},
			fires: []expected{{alert: "DockerCleanupMissing", from: 17*day + nightly, by: 17*day + nightly + 5*hour}}},
		{name: "prune from Monday to Friday ends", days: 28, page: page{lastPruned("images"): prunes(until(end, onWorkdays(0)))},
			fires: []expected{{alert: "DockerCleanupMissing", from: 17*day + nightly, by: 17*day + nightly + 5*hour}}},
		{name: "nightly prune frees nothing", days: 21, page: useless,
			fires: []expected{{alert: "DockerCleanupUseless", from: 7 * day, by: 9 * day}}},
		{name: "nightly prune stopped on purpose for two days", days: 28, page: page{lastPruned("images"): func(i int) float64 {
			if i >= end && i < end+2*day {
				return prunes(every(1))(end)
			}
			return prunes(every(1))(i)
		}}},
	}
}

func watchedHosts() []causeHost {
	dead := func(from int) func(int) bool { return func(i int) bool { return i < from } }
	loop := func(of int) func(int) bool { return func(i int) bool { return i < day || i%of == 0 } }
	notIn := func(when func(int) bool) func(int) float64 { return indicator(func(i int) bool { return !when(i) }) }
	lost := func(from int, kind string) page {
		return page{collects("success", kind): indicator(dead(from)), collects(lastSuccess, kind): func(i int) float64 { return clockAt(min(i, from)) }}
	}
	failing := daily(4 * hour)
	ageing := func(i int) float64 {
		if failing(i) {
			return clockAt(i - i%day + hour)
		}
		return clockAt(i)
	}
	never := page{collects("success", "volumes"): constant(0), collects("duration_seconds", "volumes"): nil, collects(lastSuccess, "volumes"): nil}
	slow := merged(lost(2*day, "containers"), page{collects("duration_seconds", "containers"): constant(60)})
	alert := func(name string, from, by int) []expected { return []expected{{alert: name, from: from, by: by}} }
	engine := only(func(v func(int) float64) func(int) float64 { return absent(v, func(i int) bool { return i >= day }) }, figures()...)
	unmeasured := page{}
	for series := range quietPage() {
		if strings.HasPrefix(series, "docker_filesystem") {
			unmeasured[series] = nil
		}
	}
	return []causeHost{
		{name: "exporter is gone", days: 3, up: dead(day), fires: alert("DockerExporterDown", day+10, day+20)},
		{name: "the only exporter is gone", days: 3, up: dead(day), alone: true,
			fires: append(alert("DockerExporterDown", day+10, day+20), expected{alert: "DockerExporterAbsent", from: day + 25, by: day + 35})},
		{name: "exporter is gone for an hour", days: 3, up: func(i int) bool { return i < day || i >= day+hour },
			fires: []expected{{alert: "DockerExporterDown", from: day + 10, by: day + 20, until: day + 85}}},
		{name: "exporter in a crash loop, up 1 in 2", days: 11, up: loop(2), fires: alert("DockerExporterDown", day, day+45)},
		{name: "exporter in a crash loop, up 1 in 6", days: 11, up: loop(6), fires: alert("DockerExporterDown", day, day+45)},
		{name: "laptop whose engine is down", days: 14, up: workday, label: "sleeps", page: page{"docker_up": step(week, 1, 0)},
			fires: []expected{{alert: "DockerEngineUnreachable", from: week + 8*hour, by: week + 9*hour, incidents: 5}}},
		{name: "engine is down", days: 3, page: merged(engine, page{"docker_up": indicator(dead(day))}), fires: alert("DockerEngineUnreachable", day+10, day+20)},
		{name: "engine that flaps, up 1 in 2", days: 11, page: page{"docker_up": indicator(loop(2))}, fires: alert("DockerEngineUnreachable", day, day+45)},
		{name: "engine that flaps, up 1 in 6", days: 11, page: page{"docker_up": indicator(loop(6))}, fires: alert("DockerEngineUnreachable", day, day+45)},
		{name: "list fails for 4 hours a day", days: 14, page: page{collects("success", "images"): notIn(failing), collects(lastSuccess, "images"): ageing},
			fires: alert("DockerCollectionStale", hour+15, hour+30)},
		{name: "list failed for 4 hours once", days: 5, page: page{collects("success", "images"): notIn(func(i int) bool { return i < day && failing(i) })},
			fires: []expected{{alert: "DockerCollectionStale", from: hour + 15, by: hour + 30, until: 5*hour + day + 20}}},
		{name: "collector that never answered", days: 3, page: never, fires: alert("DockerCollectionStale", 20, 30)},
		{name: "collector of a second hangs", days: 3, page: lost(day, "containers"), fires: alert("DockerCollectionStale", day+15, day+30)},
		{name: "collector of a minute hangs", days: 4, page: slow, fires: alert("DockerCollectionStale", 2*day+15, 2*day+30)},
		{name: "layers hang", days: 3, page: lost(day, "layers"), fires: alert("DockerCollectionStale", day+15, day+30)},
		{name: "disk is not measured", days: 3, page: unmeasured, fires: alert("DockerDiskUnknown", hour, hour+5)},
	}
}

// store returns the samples of a Prometheus that scrapes this host and, unless it is alone, another one, which is up.
func (h causeHost) store() *memoryStore {
	m := &memoryStore{minutes: h.days * day, byName: map[string][]*series{}}
	up := h.up
	if up == nil {
		up = func(int) bool { return true }
	}
	page := merged(quietPage(), h.page)
	for series, value := range page {
		if value != nil {
			m.scrape(series, "host:10058", h.label, scrapedIf(value, up))
		}
	}
	m.scrape("up", "host:10058", h.label, indicator(up))
	if h.alone {
		return m
	}
	m.scrape("up", "other:10058", "", constant(1))
	for series, value := range quietPage() {
		if strings.HasPrefix(series, "docker_filesystem") || series == "docker_up" {
			m.scrape(series, "other:10058", "", value)
		}
	}
	return m
}

// scrape adds a series of an instance.
func (m *memoryStore) scrape(text, instance, label string, value func(int) float64) {
	metric, err := parser.NewParser(parser.Options{}).ParseMetric(text)
	if err != nil {
		panic(err)
	}
	b := labels.NewBuilder(metric).Set("job", exporterJob).Set("instance", instance)
	if label != "" {
		b.Set(label, "true")
	}
	m.add(&series{labels: b.Labels(), every: minute, compute: value})
}

// judge returns what is wrong with the alerts that fired, and a list of them.
func (h causeHost) judge(fired []firing) (missed, wrong []string, shown string) {
	byAlert := map[string][]firing{}
	for _, f := range fired {
		byAlert[f.rule.Alert] = append(byAlert[f.rule.Alert], f)
	}
	var list []string
	for _, alert := range slices.Sorted(maps.Keys(byAlert)) {
		all := incidents(byAlert[alert], func(*rule) bool { return true })
		list = append(list, fmt.Sprintf("%s %s", strings.TrimPrefix(alert, "Docker"), formatMinutes(all[0].from)))
		n := slices.IndexFunc(h.fires, func(e expected) bool { return e.alert == alert })
		if n < 0 {
			wrong = append(wrong, fmt.Sprintf("%s at %s, %d times", alert, formatMinutes(all[0].from), len(all)))
			continue
		}
		e, last := h.fires[n], all[len(all)-1].to
		if all[0].from < e.from || len(all) > max(e.incidents, 1) || e.until > 0 && last > e.until {
			wrong = append(wrong, fmt.Sprintf("%s from %s to %s, %d times", alert, formatMinutes(all[0].from), formatMinutes(last), len(all)))
		}
		if all[0].from > e.by {
			missed = append(missed, fmt.Sprintf("%s at %s, not by %s", alert, formatMinutes(all[0].from), formatMinutes(e.by)))
		}
		if last < e.by && e.until == 0 {
			missed = append(missed, fmt.Sprintf("%s ended at %s", alert, formatMinutes(last)))
		}
	}
	for _, e := range h.fires {
		if byAlert[e.alert] == nil {
			missed = append(missed, e.alert)
		}
	}
	return missed, wrong, cmp.Or(strings.Join(list, ", "), "-")
}

// onDisk matches the alerts that are simulated with the disks.
var onDisk = regexp.MustCompile(`^(DockerDisk(Filling|AlmostFull|PressureReclaimable)|DockerInodes.*)$`)

// keep removes the alerts that do not pass, and the records that no other rule reads.
func (b *book) keep(pass func(*rule) bool) {
	isRead := map[string]bool{}
	var kept []*rule
	for _, r := range slices.Backward(b.rules) {
		if r.Record != "" && isRead[r.Record] || r.Alert != "" && pass(r) {
			kept = append(kept, r)
			reads(r.expr, func(name string) bool { isRead[name] = true; return false })
		}
	}
	slices.Reverse(kept)
	b.rules = kept
}

// simulateCauses evaluates a rule file on each of the hosts, and prints when alerts fired. It
// returns an error if an alert that must fire did not, or if another one did.
func simulateCauses(ctx context.Context, out io.Writer, file string, hosts []causeHost) error {
	missed, wrong := 0, 0
	fmt.Fprintf(out, "%-46s %5s  %s\n", "host", "days", "first alerts")
	for _, h := range hosts {
		book, err := readBook(file)
		if err != nil {
			return err
		}
		book.keep(func(r *rule) bool { return !onDisk.MatchString(r.Alert) })
		r := run{book, h.store(), newEngine(book.parser)}
		fired, err := r.evaluate(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		misses, falses, shown := h.judge(slices.Concat(slices.Collect(maps.Values(fired))...))
		fmt.Fprintf(out, "%-46s %5d  %s\n", h.name, h.days, shown)
		for _, text := range misses {
			fmt.Fprintf(out, "%8s %s\n", "MISSED", text)
		}
		for _, text := range falses {
			fmt.Fprintf(out, "%8s %s\n", "FALSE", text)
		}
		missed, wrong = missed+len(misses), wrong+len(falses)
	}
	fmt.Fprintf(out, "\n%d hosts; missed: %d (goal 0), false: %d (goal 0)\n", len(hosts), missed, wrong)
	if missed+wrong > 0 {
		return fmt.Errorf("a goal is missed")
	}
	return nil
}
