package collector

import (
	"strconv"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric describes one metric. It is a counter if its name ends in _total, else a gauge.
type Metric struct {
	Name   string
	Help   string
	Labels []string
	values func(prune.Summary, emit)
}

func (m Metric) valueType() prometheus.ValueType {
	if strings.HasSuffix(m.Name, "_total") {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// emit exposes one value with its label values, in the order of Metric.Labels. A value
// that is unknown is not emitted, so its series is absent.
type emit func(value float64, labelValues ...string)

// Metrics returns all metrics in the order of the documentation.
func Metrics() []Metric {
	return []Metric{
		{
			Name:   "docker_up",
			Help:   "Whether the Docker engine responded to a ping (1) or not (0). Checked on every scrape (Engine API: /_ping).",
			values: func(s prune.Summary, emit emit) { emit(boolean(s.Up)) },
		},
		{
			Name:   "docker_engine_info",
			Help:   "Always 1. The labels describe the engine; api_version is the negotiated version, root_dir the directory of its data on its host. Sizes reported with different image stores are not comparable (Engine API: /info).",
			Labels: []string{"version", "api_version", "image_store", "storage_driver", "root_dir"},
			values: func(s prune.Summary, emit emit) {
				if e, known := s.Engine.Get(); known {
					emit(1, e.Version, e.APIVersion, string(e.ImageStore), e.StorageDriver, e.RootDir)
				}
			},
		},
		{
			Name:   "docker_scrape_collector_success",
			Help:   "Whether the last request of this collector succeeded (1) or not (0). Metrics of a failed collector are absent.",
			Labels: []string{"collector"},
			values: func(s prune.Summary, emit emit) {
				for _, c := range s.Collectors {
					emit(boolean(c.Success), c.Name)
				}
			},
		},
		{
			Name:   "docker_scrape_collector_duration_seconds",
			Help:   "Duration of the last successful request of this collector in seconds.",
			Labels: []string{"collector"},
			values: func(s prune.Summary, emit emit) {
				for _, c := range s.Collectors {
					if duration, known := c.Duration.Get(); known {
						emit(duration.Seconds(), c.Name)
					}
				}
			},
		},
		{
			Name:   "docker_scrape_collector_last_success_timestamp_seconds",
			Help:   "Unix timestamp of the last successful request of this collector.",
			Labels: []string{"collector"},
			values: func(s prune.Summary, emit emit) {
				for _, c := range s.Collectors {
					emitTime(emit, c.LastSuccess, c.Name)
				}
			},
		},
		{
			Name:   "docker_images_tagged",
			Help:   "Number of images with at least one tag. An image with three tags counts once.",
			values: func(s prune.Summary, emit emit) { emitKnown(emit, s.Counts.Images.Tagged) },
		},
		{
			Name:   "docker_images_untagged",
			Help:   "Number of images without a tag: dangling images, intermediate images, and images with only a digest reference (repo@sha256:…). Each image is either tagged or untagged.",
			values: func(s prune.Summary, emit emit) { emitKnown(emit, s.Counts.Images.Untagged) },
		},
		{
			Name:   "docker_images_dangling",
			Help:   "Number of untagged images that have no digest reference and are not the parent of another image. \"docker images\" shows them as \"<none> <none>\". Included in docker_images_untagged.",
			values: func(s prune.Summary, emit emit) { emitKnown(emit, s.Counts.Images.Dangling) },
		},
		{
			Name:   "docker_images_intermediate",
			Help:   "Number of untagged images that have no digest reference and are the parent of another image, such as the steps of a classic build. Included in docker_images_untagged.",
			values: func(s prune.Summary, emit emit) { emitKnown(emit, s.Counts.Images.Intermediate) },
		},
		{
			Name:   "docker_images",
			Help:   "Number of images by use. running: used by a running, paused or restarting container. stopped: used only by containers in other states; the engine refuses to remove such an image without force. none: used by no container. Each image is counted once.",
			Labels: []string{"use"},
			values: func(s prune.Summary, emit emit) { emitCounts(emit, s.Counts.Images.Use) },
		},
		{
			Name:   "docker_images_unused",
			Help:   "Number of images that no container uses, by the time since they were created (Engine API: Created of /images/json). The until filter of \"docker image prune\" goes by the same date; with the containerd image store by when the image got its name.",
			Labels: []string{"created_for"},
			values: func(s prune.Summary, emit emit) { emitCounts(emit, s.Counts.Images.Unused) },
		},
		{
			Name:   "docker_image_tags",
			Help:   "Number of tags of all images.",
			values: func(s prune.Summary, emit emit) { emitKnown(emit, s.Counts.Images.Tags) },
		},
		{
			Name:   "docker_images_virtual_size_bytes",
			Help:   "Sum of the sizes of all images in bytes. Layers that images share are counted once for each image, so this is not disk usage. Not comparable between image stores (Engine API: Size of /images/json).",
			values: func(s prune.Summary, emit emit) { emitKnown(emit, s.Counts.Images.VirtualSize) },
		},
		{
			Name:   "docker_image_layers",
			Help:   "Number of distinct layers of all images. Absent until all images have been inspected (Engine API: RootFS.Layers of /images/{id}/json).",
			values: func(s prune.Summary, emit emit) { emitKnown(emit, s.Counts.Images.Layers) },
		},
		{
			Name:   "docker_images_uninspected",
			Help:   "Number of images whose layers are unknown. Metrics that depend on layers are absent until each image has been inspected, and a lower bound if inspections failed.",
			values: func(s prune.Summary, emit emit) { emitKnown(emit, s.Counts.Images.Uninspected) },
		},
		{
			Name:   "docker_containers",
			Help:   "Number of containers by state (Engine API: State of /containers/json?all=1).",
			Labels: []string{"state"},
			values: func(s prune.Summary, emit emit) { emitCounts(emit, s.Counts.Containers.State) },
		},
		{
			Name:   "docker_containers_stopped",
			Help:   "Number of created, exited or dead containers (those removed by \"docker container prune\") by time since they finished or, if never started, were created. Ranges include their lower bound. Containers that cannot be inspected are not counted (Engine API: FinishedAt of /containers/{id}/json).",
			Labels: []string{"stopped_for"},
			values: func(s prune.Summary, emit emit) { emitCounts(emit, s.Counts.Containers.StoppedFor) },
		},
		{
			Name:   "docker_volumes",
			Help:   "Number of volumes by whether any container references them, whatever its state (Engine API: /volumes).",
			Labels: []string{"in_use"},
			values: func(s prune.Summary, emit emit) { emitInUse(emit, s.Counts.Volumes) },
		},
		{
			Name:   "docker_build_cache_records",
			Help:   "Number of records of the engine's own build cache by whether a running build uses them (Engine API: BuildCache of /system/df).",
			Labels: []string{"in_use"},
			values: func(s prune.Summary, emit emit) { emitInUse(emit, s.Counts.BuildCache) },
		},
		{
			Name:   "docker_disk_usage_bytes",
			Help:   "Disk usage in bytes. images: each layer counted once, plus compressed blobs with the containerd image store (incomplete before Engine 29.5). containers: writable layers. volumes: volumes of the local driver without options. build_cache: records not shared with images, with the sizes reported by the engine. container_logs: blocks of the files in which the engine keeps logs, if the exporter may read them. leftovers: what is in the engine's root directory and belongs to no object of the engine, like the image store that it used before, if the exporter may read it. Resources do not overlap with overlay2. Not comparable between image stores: overlay2 reports bytes of content, the containerd image store allocated blocks.",
			Labels: []string{"resource"},
			values: func(s prune.Summary, emit emit) {
				for resource, bytes := range s.DiskUsage {
					emit(float64(bytes), string(resource))
				}
			},
		},
		{
			Name:   "docker_reclaimable_bytes",
			Help:   "Best estimate of the bytes that running only this command now would free on the disk. Values of different commands overlap and must not be summed.",
			Labels: []string{"command"},
			values: func(s prune.Summary, emit emit) {
				for command, r := range s.Reclaimable {
					emit(float64(r.Estimate), string(command))
				}
			},
		},
		{
			Name:   "docker_reclaimable_min_bytes",
			Help:   "Bytes that running only this command now would free at least: the certain part of docker_reclaimable_bytes. 0 with other storage drivers than overlay2 and the overlayfs of containerd, and on file systems that can compress files or share their blocks.",
			Labels: []string{"command"},
			values: func(s prune.Summary, emit emit) {
				for command, r := range s.Reclaimable {
					emit(float64(r.Minimum), string(command))
				}
			},
		},
		{
			Name:   "docker_reclaimable_exact",
			Help:   "Whether docker_reclaimable_bytes of this command is exact (1) or an estimate (0), because the engine does not report enough. Exact figures leave out folders and the engine's own records, some KiB for each object, except the directories of containers where the exporter may read them, and count the lengths of files in volumes and with overlay2, rather than their blocks.",
			Labels: []string{"command"},
			values: func(s prune.Summary, emit emit) {
				for command, r := range s.Reclaimable {
					emit(boolean(r.Exact), string(command))
				}
			},
		},
		{
			Name:   "docker_repository_images",
			Help:   "Number of images with a tag or digest in this repository, named as in \"docker images\". Only with --collector.repositories=N: the N repositories with the largest layers, once all images have been inspected. An image counts in every repository that it has a tag or digest in, so values must not be summed.",
			Labels: []string{"repository"},
			values: func(s prune.Summary, emit emit) {
				repositories, _ := s.Repositories.Get()
				for _, r := range repositories {
					emit(float64(r.Images), r.Name)
				}
			},
		},
		{
			Name:   "docker_repository_reclaimable_bytes",
			Help:   "Bytes that removing all unused images of this repository, including their other tags, would free: the best estimate. Absent while the build cache is unknown. Only with --collector.repositories=N. Repositories share images and layers, so values must not be summed.",
			Labels: []string{"repository"},
			values: func(s prune.Summary, emit emit) {
				repositories, _ := s.Repositories.Get()
				for _, r := range repositories {
					if bytes, known := r.Reclaimable.Get(); known {
						emit(float64(bytes), r.Name)
					}
				}
			},
		},
		{
			Name:   "docker_prunes_total",
			Help:   "Total number of prunes observed since the exporter started, run by anyone. Absent if the engine emits no event for them: image prunes with the containerd image store (Engine API: prune events).",
			Labels: []string{"resource"},
			values: func(s prune.Summary, emit emit) {
				for _, p := range s.Prunes {
					emit(float64(p.Count), string(p.Resource))
				}
			},
		},
		{
			Name:   "docker_pruned_bytes_total",
			Help:   "Total bytes freed by the observed prunes, as reported by the engine (Engine API: reclaimed of prune events).",
			Labels: []string{"resource"},
			values: func(s prune.Summary, emit emit) {
				for _, p := range s.Prunes {
					emit(float64(p.Bytes), string(p.Resource))
				}
			},
		},
		{
			Name:   "docker_last_prune_timestamp_seconds",
			Help:   "Unix timestamp of the last observed prune by the engine's clock. Absent until a prune is observed (Engine API: time of prune events).",
			Labels: []string{"resource"},
			values: func(s prune.Summary, emit emit) {
				for _, p := range s.Prunes {
					emitTime(emit, p.Last, string(p.Resource))
				}
			},
		},
		{
			Name:   "docker_filesystem_size_bytes",
			Help:   "Size of a file system that holds the engine's data in bytes. path is the directory on the engine's host (statfs).",
			Labels: []string{"path"},
			values: func(s prune.Summary, emit emit) {
				for _, fs := range s.Filesystems {
					emit(float64(fs.Size), fs.Path)
				}
			},
		},
		{
			Name:   "docker_filesystem_avail_bytes",
			Help:   "Space available to unprivileged processes on a file system that holds the engine's data in bytes (statfs).",
			Labels: []string{"path"},
			values: func(s prune.Summary, emit emit) {
				for _, fs := range s.Filesystems {
					emit(float64(fs.Avail), fs.Path)
				}
			},
		},
		{
			Name:   "docker_filesystem_files",
			Help:   "Number of inodes of a file system that holds the engine's data. Absent if the file system has no fixed number of inodes (statfs).",
			Labels: []string{"path"},
			values: func(s prune.Summary, emit emit) {
				for _, fs := range s.Filesystems {
					emitKnown(emit, fs.Files, fs.Path)
				}
			},
		},
		{
			Name:   "docker_filesystem_files_free",
			Help:   "Number of free inodes of a file system that holds the engine's data. Absent if the file system has no fixed number of inodes (statfs).",
			Labels: []string{"path"},
			values: func(s prune.Summary, emit emit) {
				for _, fs := range s.Filesystems {
					emitKnown(emit, fs.FilesFree, fs.Path)
				}
			},
		},
	}
}

func emitKnown[N int | int64](emit emit, n model.Optional[N], labelValues ...string) {
	if value, known := n.Get(); known {
		emit(float64(value), labelValues...)
	}
}

func emitTime(emit emit, t model.Optional[time.Time], labelValues ...string) {
	if at, known := t.Get(); known {
		emit(float64(at.UnixMilli())/1e3, labelValues...)
	}
}

func emitCounts(emit emit, counts model.Counts) {
	for _, count := range counts {
		emit(float64(count.N), count.Name)
	}
}

func emitInUse(emit emit, counts model.Counts) {
	for _, count := range counts {
		emit(float64(count.N), strconv.FormatBool(count.Name == model.InUse))
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
