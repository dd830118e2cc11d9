package main

import (
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	path      = "/var/lib/docker"
	ourJob    = "docker"
	nodeJob   = "node"
	ourPort   = ":9338"
	nodePort  = ":9100"
	collector = "collector"
)

// A host is a trace that is scraped. A teller adds to a memory what a page of it shows.
type teller struct {
	memory   *memory
	trace    *trace
	job      string
	instance string
}

// tell adds one series. Pairs are label names and values.
func (t teller) tell(value func(i int) float64, name string, pairs ...string) {
	b := labels.NewScratchBuilder(8)
	b.Add(labels.MetricName, name)
	b.Add("instance", t.instance)
	b.Add("job", t.job)
	for i := 0; i < len(pairs); i += 2 {
		b.Add(pairs[i], pairs[i+1])
	}
	b.Sort()
	up := t.trace.up
	if name != "up" {
		value = scraped(value, up)
	}
	t.memory.add(&series{labels: b.Labels(), every: minute, tell: value})
}

// scraped tells nothing at a scrape that fails.
func scraped(value func(int) float64, up []bool) func(int) float64 {
	return func(i int) float64 {
		if !up[i] {
			return math.NaN()
		}
		return value(i)
	}
}

func constant(v float64) func(int) float64 { return func(int) float64 { return v } }

func sum(of [files][]float64, which []part) func(int) float64 {
	return func(i int) float64 {
		s := 0.0
		for _, p := range which {
			s += of[p][i]
		}
		return math.Round(s)
	}
}

// sum is of parts, in bytes.
func (t *trace) sum(which ...part) func(int) float64 { return sum(t.parts, which) }

func (t *trace) lastPrune(which []part) func(int) float64 {
	return func(i int) float64 {
		last := math.NaN()
		for _, p := range which {
			if v := t.lastly[p][i]; math.IsNaN(last) || v > last {
				last = v
			}
		}
		return last
	}
}

// count is how many things of one share of the disk hold these parts.
func (t *trace) count(share float64, which ...part) func(int) float64 {
	bytes := t.sum(which...)
	return func(i int) float64 { return math.Ceil(bytes(i) / (share * t.size[0])) }
}

func (t teller) up() {
	up := t.trace.up
	t.tell(func(i int) float64 {
		if up[i] {
			return 1
		}
		return 0
	}, "up")
}

// exporter tells all that docker_buildup_exporter tells of this host.
func (t teller) exporter() {
	tr := t.trace
	t.up()
	t.tell(constant(1), "docker_up")
	t.tell(constant(1), "docker_engine_info", "version", "29.0.0", "api_version", "1.52", "image_store", "graphdriver", "storage_driver", "overlay2")
	for n, kind := range []string{"build_cache", "containers", "images", "layers", "volumes", "container_sizes"} {
		t.tell(constant(1), "docker_scrape_collector_success", collector, kind)
		t.tell(constant(0.1), "docker_scrape_collector_duration_seconds", collector, kind)
		t.tell(func(i int) float64 {
			return float64(firstMinute+60*i-7*n) + tr.clock[i]
		}, "docker_scrape_collector_last_success_timestamp_seconds", collector, kind)
	}
	t.images()
	t.containers()

	t.tell(tr.count(0.01, volumes), "docker_volumes", "in_use", "true")
	t.tell(tr.count(0.01, orphans), "docker_volumes", "in_use", "false")
	t.tell(constant(0), "docker_build_cache_records", "in_use", "true")
	t.tell(tr.count(0.001, cache), "docker_build_cache_records", "in_use", "false")

	for resource, held := range map[string][]part{
		"images":      {images, unused, dangling},
		"containers":  {stopped},
		"volumes":     {volumes, orphans},
		"build_cache": {cache},
	} {
		t.tell(tr.sum(held...), "docker_disk_usage_bytes", "resource", resource)
		t.tell(sum(tr.prunes, held), "docker_prunes_total", "resource", resource)
		t.tell(sum(tr.pruned, held), "docker_pruned_bytes_total", "resource", resource)
		t.tell(tr.lastPrune(held), "docker_last_prune_timestamp_seconds", "resource", resource)
	}
	for command, frees := range map[string][]part{
		"docker container prune":              {stopped},
		"docker image prune":                  {dangling},
		"docker image prune --all":            {dangling, unused},
		"docker volume prune":                 {},
		"docker volume prune --all":           {orphans},
		"docker builder prune":                {cache},
		"docker builder prune --all":          {cache},
		"docker system prune":                 {stopped, dangling, cache},
		"docker system prune --all":           {stopped, dangling, unused, cache},
		"docker system prune --all --volumes": {stopped, dangling, unused, cache},
	} {
		t.tell(tr.sum(frees...), "docker_reclaimable_bytes", "command", command)
		t.tell(constant(1), "docker_reclaimable_exact", "command", command)
	}
	t.tell(func(i int) float64 { return tr.size[i] }, "docker_filesystem_size_bytes", "path", path)
	t.tell(func(i int) float64 { return tr.avail[i] }, "docker_filesystem_avail_bytes", "path", path)
	t.tell(func(i int) float64 { return tr.inodes[i] }, "docker_filesystem_files", "path", path)
	t.tell(func(i int) float64 { return tr.left[i] }, "docker_filesystem_files_free", "path", path)
}

func (t teller) images() {
	tr := t.trace
	intermediate := 3.0
	tagged := tr.count(0.01, images, unused)
	rubbish := tr.count(0.004, dangling)
	t.tell(tagged, "docker_images_tagged")
	t.tell(func(i int) float64 { return rubbish(i) + intermediate }, "docker_images_untagged")
	t.tell(rubbish, "docker_images_dangling")
	t.tell(constant(intermediate), "docker_images_intermediate")
	t.tell(tr.count(0.01, images), "docker_images", "use", "running")
	t.tell(constant(0), "docker_images", "use", "stopped")
	t.tell(func(i int) float64 { return rubbish(i) + intermediate }, "docker_images", "use", "none")
	t.tell(tagged, "docker_image_tags")
	t.tell(tr.sum(images, unused, dangling), "docker_images_virtual_size_bytes")
	t.tell(tr.count(0.002, images, unused, dangling), "docker_image_layers")
	t.tell(constant(0), "docker_images_uninspected")
}

func (t teller) containers() {
	tr := t.trace
	exited := tr.count(0.004, stopped)
	for _, state := range []string{"created", "dead", "paused", "removing", "restarting"} {
		t.tell(constant(0), "docker_containers", "state", state)
	}
	t.tell(constant(8), "docker_containers", "state", "running")
	t.tell(exited, "docker_containers", "state", "exited")
	// What was there a while ago and has not been removed since has been stopped that long.
	older := func(minutes int) func(int) float64 {
		return func(i int) float64 {
			if i < minutes {
				return 0
			}
			return min(exited(i-minutes), exited(i))
		}
	}
	between := func(young, old func(int) float64) func(int) float64 {
		return func(i int) float64 { return max(0, young(i)-old(i)) }
	}
	none := constant(0)
	t.tell(between(exited, older(hour)), "docker_containers_stopped", "stopped_for", "0-1h")
	t.tell(between(older(hour), older(day)), "docker_containers_stopped", "stopped_for", "1h-1d")
	t.tell(between(older(day), older(week)), "docker_containers_stopped", "stopped_for", "1d-7d")
	t.tell(older(week), "docker_containers_stopped", "stopped_for", "7d-30d")
	t.tell(none, "docker_containers_stopped", "stopped_for", "30d+")
}

// node tells the file system as node_exporter does.
func (t teller) node() {
	tr := t.trace
	t.up()
	at := []string{"device", "/dev/vda1", "fstype", "ext4", "mountpoint", "/"}
	t.tell(func(i int) float64 { return tr.size[i] }, "node_filesystem_size_bytes", at...)
	t.tell(func(i int) float64 { return tr.avail[i] }, "node_filesystem_avail_bytes", at...)
	t.tell(func(i int) float64 { return tr.avail[i] + tr.size[i]/20 }, "node_filesystem_free_bytes", at...)
	t.tell(func(i int) float64 { return tr.inodes[i] }, "node_filesystem_files", at...)
	t.tell(func(i int) float64 { return tr.left[i] }, "node_filesystem_files_free", at...)
	t.tell(constant(0), "node_filesystem_readonly", at...)
	t.tell(constant(0), "node_filesystem_device_error", at...)
	t.tell(constant(1), "node_uname_info", "nodename", t.instance, "sysname", "Linux")
}

// hostname is the instance of the host of a number, but for its port.
func hostname(number int) string { return "host" + strconv.Itoa(number) }

// scrape makes the memory of a Prometheus that scraped these hosts.
func scrape(traces []*trace, minutes int, node bool) *memory {
	m := &memory{minutes: minutes, byName: map[string][]*series{}}
	for number, trace := range traces {
		ours := teller{m, trace, ourJob, hostname(number) + ourPort}
		if node {
			teller{m, trace, nodeJob, hostname(number) + nodePort}.node()
			ours.up()
			ours.tell(constant(1), "docker_up") // so that our rules find the node_exporter
		} else {
			ours.exporter()
		}
	}
	return m
}
