package main

import (
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	path         = "/var/lib/docker"
	exporterJob  = "docker"
	nodeJob      = "node"
	exporterPort = ":9338"
	nodePort     = ":9100"
	collector    = "collector"
)

// A target is one exporter on the host of a trace. It adds the series of its metrics page to
// the store.
type target struct {
	store    *memoryStore
	trace    *trace
	job      string
	instance string
}

// expose adds one series. Pairs are names and values of labels.
func (t target) expose(value func(i int) float64, name string, pairs ...string) {
	b := labels.NewScratchBuilder(8)
	b.Add(labels.MetricName, name)
	b.Add("instance", t.instance)
	b.Add("job", t.job)
	for i := 0; i < len(pairs); i += 2 {
		b.Add(pairs[i], pairs[i+1])
	}
	b.Sort()
	tr := t.trace
	t.store.add(&series{labels: b.Labels(), every: minute, compute: func(i int) float64 {
		if i < tr.watchedFrom || i > tr.fullAt || name != "up" && !tr.up[i] {
			return math.NaN()
		}
		return value(i)
	}})
}

func constant(v float64) func(int) float64 { return func(int) float64 { return v } }

// sum returns the sum over parts, rounded to an integer.
func sum(of [files][]float64, which []part) func(int) float64 {
	return func(i int) float64 {
		s := 0.0
		for _, p := range which {
			s += of[p][i]
		}
		return math.Round(s)
	}
}

// sum returns the size of parts in bytes.
func (t *trace) sum(which ...part) func(int) float64 { return sum(t.parts, which) }

func (t *trace) lastPrune(which []part) func(int) float64 {
	return func(i int) float64 {
		last := math.NaN()
		for _, p := range which {
			if v := t.prunedAt[p][i]; math.IsNaN(last) || v > last {
				last = v
			}
		}
		return last
	}
}

// count returns the number of objects in these parts if each has a size of share.
func (t *trace) count(share float64, which ...part) func(int) float64 {
	bytes := t.sum(which...)
	return func(i int) float64 { return math.Ceil(bytes(i) / (share * t.size[0])) }
}

func (t target) exposeUp() {
	up := t.trace.up
	t.expose(func(i int) float64 {
		if up[i] {
			return 1
		}
		return 0
	}, "up")
}

// exposeExporter adds all metrics of docker_buildup_exporter. TestPage compares them with a
// page of the real one.
func (t target) exposeExporter() {
	tr := t.trace
	t.exposeUp()
	t.expose(constant(1), "docker_up")
	t.exposeEngine()
	t.expose(constant(1), "docker_scrape_collector_success", collector, "filesystems")
	for n, kind := range []string{"build_cache", "containers", "images", "layers", "volumes", "container_sizes"} {
		t.expose(constant(1), "docker_scrape_collector_success", collector, kind)
		t.expose(constant(0.1), "docker_scrape_collector_duration_seconds", collector, kind)
		t.expose(func(i int) float64 {
			return float64(firstMinute+60*i-7*n) + tr.clockOffset[i]
		}, "docker_scrape_collector_last_success_timestamp_seconds", collector, kind)
	}
	t.exposeImages()
	t.exposeContainers()

	t.expose(tr.count(0.01, volumes), "docker_volumes", "in_use", "true")
	t.expose(tr.count(0.01, orphans), "docker_volumes", "in_use", "false")
	t.expose(constant(0), "docker_build_cache_records", "in_use", "true")
	t.expose(tr.count(0.001, cache), "docker_build_cache_records", "in_use", "false")

	for resource, held := range map[string][]part{
		"images":      {images, unused, dangling},
		"containers":  {stopped},
		"volumes":     {volumes, orphans},
		"build_cache": {cache},
	} {
		t.expose(tr.sum(held...), "docker_disk_usage_bytes", "resource", resource)
		t.expose(sum(tr.prunes, held), "docker_prunes_total", "resource", resource)
		t.expose(sum(tr.pruned, held), "docker_pruned_bytes_total", "resource", resource)
		t.expose(tr.lastPrune(held), "docker_last_prune_timestamp_seconds", "resource", resource)
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

		"docker container prune --filter until=168h":   {},
		"docker image prune --all --filter until=168h": {},
		"docker builder prune --filter until=168h":     {},
	} {
		t.expose(tr.sum(frees...), "docker_reclaimable_bytes", "command", command)
		t.expose(tr.sum(frees...), "docker_reclaimable_min_bytes", "command", command)
		t.expose(constant(1), "docker_reclaimable_exact", "command", command)
	}
	t.exposeFilesystem(tr, path)
	if tr.other != nil {
		t.exposeFilesystem(tr.other, path+"/volumes")
	}
}

func (t target) exposeFilesystem(tr *trace, path string) {
	t.expose(func(i int) float64 { return tr.size[i] }, "docker_filesystem_size_bytes", "path", path)
	t.expose(func(i int) float64 { return tr.avail[i] }, "docker_filesystem_avail_bytes", "path", path)
	t.expose(func(i int) float64 { return tr.inodes[i] }, "docker_filesystem_files", "path", path)
	t.expose(func(i int) float64 { return tr.inodesFree[i] }, "docker_filesystem_files_free", "path", path)
}

func (t target) exposeImages() {
	tr := t.trace
	intermediate := 3.0
	tagged := tr.count(0.01, images, unused)
	danglingCount := tr.count(0.004, dangling)
	t.expose(tagged, "docker_images_tagged")
	t.expose(func(i int) float64 { return danglingCount(i) + intermediate }, "docker_images_untagged")
	t.expose(danglingCount, "docker_images_dangling")
	t.expose(constant(intermediate), "docker_images_intermediate")
	t.expose(tr.count(0.01, images), "docker_images", "use", "running")
	t.expose(constant(0), "docker_images", "use", "stopped")
	t.expose(func(i int) float64 { return danglingCount(i) + intermediate }, "docker_images", "use", "none")
	for _, age := range []string{"0-1d", "1d-7d", "7d-30d", "30d-90d", "90d+"} {
		n := constant(0)
		if age == "7d-30d" {
			n = func(i int) float64 { return danglingCount(i) + intermediate }
		}
		t.expose(n, "docker_images_unused", "created_for", age)
	}
	t.expose(tagged, "docker_image_tags")
	t.expose(tr.sum(images, unused, dangling), "docker_images_virtual_size_bytes")
	t.expose(tr.count(0.002, images, unused, dangling), "docker_image_layers")
	t.expose(constant(0), "docker_images_uninspected")
}

func (t target) exposeContainers() {
	tr := t.trace
	exited := tr.count(0.004, stopped)
	for _, state := range []string{"created", "dead", "paused", "removing", "restarting"} {
		t.expose(constant(0), "docker_containers", "state", state)
	}
	t.expose(constant(8), "docker_containers", "state", "running")
	t.expose(exited, "docker_containers", "state", "exited")
	// older returns the number of containers that stopped at least so many minutes ago.
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
	t.expose(between(exited, older(hour)), "docker_containers_stopped", "stopped_for", "0-1h")
	t.expose(between(older(hour), older(day)), "docker_containers_stopped", "stopped_for", "1h-1d")
	t.expose(between(older(day), older(week)), "docker_containers_stopped", "stopped_for", "1d-7d")
	t.expose(older(week), "docker_containers_stopped", "stopped_for", "7d-30d")
	t.expose(none, "docker_containers_stopped", "stopped_for", "30d+")
}

// exposeEngine adds what describes the engine.
func (t target) exposeEngine() {
	t.expose(constant(1), "docker_engine_info", "version", "29.0.0", "api_version", "1.52", "image_store", "graphdriver", "storage_driver", "overlay2", "root_dir", "/var/lib/docker")
}

// exposeNode adds node_exporter's metrics of the file system.
func (t target) exposeNode() {
	tr := t.trace
	t.exposeUp()
	t.exposeNodeFilesystem(tr, "/dev/vda1", "/")
	if tr.other != nil {
		t.exposeNodeFilesystem(tr.other, "/dev/vdb1", path+"/volumes")
	}
	t.expose(constant(1), "node_uname_info", "nodename", t.instance, "sysname", "Linux")
}

func (t target) exposeNodeFilesystem(tr *trace, device, mountpoint string) {
	at := []string{"device", device, "fstype", "ext4", "mountpoint", mountpoint}
	t.expose(func(i int) float64 { return tr.size[i] }, "node_filesystem_size_bytes", at...)
	t.expose(func(i int) float64 { return tr.avail[i] }, "node_filesystem_avail_bytes", at...)
	t.expose(func(i int) float64 { return tr.avail[i] + tr.size[i]/20 }, "node_filesystem_free_bytes", at...)
	t.expose(func(i int) float64 { return tr.inodes[i] }, "node_filesystem_files", at...)
	t.expose(func(i int) float64 { return tr.inodesFree[i] }, "node_filesystem_files_free", at...)
	t.expose(constant(0), "node_filesystem_readonly", at...)
	t.expose(constant(0), "node_filesystem_device_error", at...)
}

// hostname returns the instance of a host without the port.
func hostname(number int) string { return "host" + strconv.Itoa(number) }

// scrape returns the samples of a Prometheus that scraped these hosts every minute. With node,
// the file system is exposed by node_exporter only.
func scrape(traces []*trace, minutes int, node bool) *memoryStore {
	m := &memoryStore{minutes: minutes, byName: map[string][]*series{}}
	for number, trace := range traces {
		exporter := target{m, trace, exporterJob, hostname(number) + exporterPort}
		if node {
			target{m, trace, nodeJob, hostname(number) + nodePort}.exposeNode()
			exporter.exposeUp()
			// The rules use node_exporter's metrics on hosts of the exporter only.
			exporter.expose(constant(1), "docker_up")
			exporter.exposeEngine()
		} else {
			exporter.exposeExporter()
		}
	}
	return m
}
