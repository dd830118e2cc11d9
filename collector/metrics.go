package collector

import (
	"strconv"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"

	"github.com/prometheus/client_golang/prometheus"
)

// A Metric is a gauge or, if its name says so, a counter: everything that is to be
// said of it stands in its row of the table.
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

// emit takes one value and its label values, in the order of the row's labels.
// What a row does not emit is absent from the page: that is how "unknown" looks.
type emit func(value float64, labelValues ...string)

// Metrics is the table of all metrics, in the order of the documentation.
func Metrics() []Metric {
	return []Metric{
		{
			Name: "docker_up",
			Help: "1 if the engine answered when last asked, else 0. Asked anew at every scrape (Engine API: /_ping).",
			values: func(a prune.Summary, emit emit) {
				emit(boolean(a.Up))
			},
		},
		{
			Name:   "docker_engine_info",
			Help:   "Always 1; the labels describe the engine. api_version is the negotiated one. Byte figures of a graphdriver engine and of the containerd image store are not comparable (Engine API: /info).",
			Labels: []string{"version", "api_version", "image_store", "storage_driver"},
			values: func(a prune.Summary, emit emit) {
				if e, known := a.Engine.Get(); known {
					emit(1, e.Version, e.APIVersion, string(e.ImageStore), e.StorageDriver)
				}
			},
		},
		{
			Name:   "docker_scrape_collector_success",
			Help:   "1 if the last question of this kind was answered by the engine, else 0. Figures that come from a question that failed are absent.",
			Labels: []string{"collector"},
			values: func(a prune.Summary, emit emit) {
				for _, q := range a.Collectors {
					emit(boolean(q.Success), q.Name)
				}
			},
		},
		{
			Name:   "docker_scrape_collector_duration_seconds",
			Help:   "How long the engine took for the last question of this kind.",
			Labels: []string{"collector"},
			values: func(a prune.Summary, emit emit) {
				for _, q := range a.Collectors {
					if duration, known := q.Duration.Get(); known {
						emit(duration.Seconds(), q.Name)
					}
				}
			},
		},
		{
			Name:   "docker_scrape_collector_last_success_timestamp_seconds",
			Help:   "When a question of this kind was last answered in full: how old its figures are. Unix time.",
			Labels: []string{"collector"},
			values: func(a prune.Summary, emit emit) {
				for _, q := range a.Collectors {
					if at, known := q.LastSuccess.Get(); known {
						emit(unixSeconds(at), q.Name)
					}
				}
			},
		},
		{
			Name: "docker_images_tagged",
			Help: "Images that have at least one tag. Three tags on one image are one image.",
			values: func(a prune.Summary, emit emit) {
				if c, known := a.ImageCount.Get(); known {
					emit(float64(c.Tagged))
				}
			},
		},
		{
			Name: "docker_images_untagged",
			Help: "Images without a tag: dangling, intermediate, or with only a digest reference (repo@sha256:…). Tagged and untagged together are all images.",
			values: func(a prune.Summary, emit emit) {
				if c, known := a.ImageCount.Get(); known {
					emit(float64(c.Untagged))
				}
			},
		},
		{
			Name: "docker_images_dangling",
			Help: "Untagged images that no digest reference points to and no other image was built on: what \"docker images\" calls \"<none> <none>\". Part of docker_images_untagged.",
			values: func(a prune.Summary, emit emit) {
				if c, known := a.ImageCount.Get(); known {
					emitKnown(emit, c.Dangling)
				}
			},
		},
		{
			Name: "docker_images_intermediate",
			Help: "Untagged images that no digest reference points to and another image was built on: the steps of classic builds. Part of docker_images_untagged.",
			values: func(a prune.Summary, emit emit) {
				if c, known := a.ImageCount.Get(); known {
					emitKnown(emit, c.Intermediate)
				}
			},
		},
		{
			Name:   "docker_images",
			Help:   "All images by what uses them: \"running\" (a running, paused or restarting container), \"stopped\" (only containers in other states: the engine refuses to remove the image until they go), \"none\". Every image is in one of the three.",
			Labels: []string{"use"},
			values: func(a prune.Summary, emit emit) {
				if count, known := a.ImageUse.Get(); known {
					for use, n := range count {
						emit(float64(n), string(use))
					}
				}
			},
		},
		{
			Name: "docker_image_tags",
			Help: "Tags on all images.",
			values: func(a prune.Summary, emit emit) {
				if c, known := a.ImageCount.Get(); known {
					emit(float64(c.Tags))
				}
			},
		},
		{
			Name: "docker_images_virtual_size_bytes",
			Help: "Sum of the sizes of all images. Layers that images share are counted again for each of them, so this is what \"docker images\" seems to say and never what the disk holds. Not comparable between image stores (Engine API: Size of /images/json).",
			values: func(a prune.Summary, emit emit) {
				if c, known := a.ImageCount.Get(); known {
					emitKnown(emit, c.VirtualSize)
				}
			},
		},
		{
			Name: "docker_image_layers",
			Help: "Distinct layers of all images. Absent until each image was looked at once (Engine API: RootFS.Layers of /images/{id}/json).",
			values: func(a prune.Summary, emit emit) {
				emitKnown(emit, a.LayerCount)
			},
		},
		{
			Name: "docker_images_uninspected",
			Help: "Images whose layers are still to be looked at, once each and without haste. Until it is 0 the figures that need them are absent.",
			values: func(a prune.Summary, emit emit) {
				emitKnown(emit, a.Uninspected)
			},
		},
		{
			Name:   "docker_containers",
			Help:   "Containers by state (Engine API: State of /containers/json?all=1).",
			Labels: []string{"state"},
			values: func(a prune.Summary, emit emit) {
				if count, known := a.ContainerCount.Get(); known {
					for state, n := range count {
						emit(float64(n), string(state))
					}
				}
			},
		},
		{
			Name:   "docker_containers_stopped",
			Help:   "Containers that are created, exited or dead, which are those that \"docker container prune\" removes, by how long ago they finished or, if they never ran, were created. The lower bound belongs to the span (Engine API: FinishedAt of /containers/{id}/json).",
			Labels: []string{"stopped_for"},
			values: func(a prune.Summary, emit emit) {
				if count, known := a.StoppedCount.Get(); known {
					for span, n := range count {
						emit(float64(n), string(span))
					}
				}
			},
		},
		{
			Name:   "docker_volumes",
			Help:   "Volumes of all drivers by whether a container has them, running or not (Engine API: /volumes).",
			Labels: []string{"in_use"},
			values: func(a prune.Summary, emit emit) {
				if count, known := a.VolumeCount.Get(); known {
					for inUse, n := range count {
						emit(float64(n), strconv.FormatBool(inUse))
					}
				}
			},
		},
		{
			Name:   "docker_build_cache_records",
			Help:   "Records of the engine's own build cache by whether a build uses them now (Engine API: BuildCache of /system/df).",
			Labels: []string{"in_use"},
			values: func(a prune.Summary, emit emit) {
				if count, known := a.CacheCount.Get(); known {
					for inUse, n := range count {
						emit(float64(n), strconv.FormatBool(inUse))
					}
				}
			},
		},
		{
			Name:   "docker_disk_usage_bytes",
			Help:   "Bytes on disk. images: each layer once; with the containerd store also the compressed copies, of which an engine before 29.5 tells too little. containers: writable layers. volumes: of the local driver, made without options. build_cache: records that no image shares, each as large as the engine says. With overlay2 nothing is in two of them. Not comparable between image stores: overlay2 counts the content's bytes, the containerd store blocks on disk.",
			Labels: []string{"resource"},
			values: func(a prune.Summary, emit emit) {
				for resource, bytes := range a.DiskUsage {
					emit(float64(bytes), string(resource))
				}
			},
		},
		{
			Name:   "docker_reclaimable_bytes",
			Help:   "Bytes that the disk would get back from this very command, run alone and now. Commands overlap: never add them up. A lower bound where docker_reclaimable_exact is 0.",
			Labels: []string{"command"},
			values: func(a prune.Summary, emit emit) {
				for command, frees := range a.Reclaimable {
					emit(float64(frees.Bytes), string(command))
				}
			},
		},
		{
			Name:   "docker_reclaimable_exact",
			Help:   "1 if docker_reclaimable_bytes of this command is exact, 0 if it is a lower bound, because the engine does not tell enough.",
			Labels: []string{"command"},
			values: func(a prune.Summary, emit emit) {
				for command, frees := range a.Reclaimable {
					emit(boolean(frees.Exact), string(command))
				}
			},
		},
		{
			Name:   "docker_repository_images",
			Help:   "Images with a name in this repository, tagged or by digest, as \"docker images\" prints it. Only with --collector.repositories=N: of the N repositories whose layers take most, once each image was looked at. An image with names in several counts in each: never add them up.",
			Labels: []string{"repository"},
			values: func(a prune.Summary, emit emit) {
				repositories, _ := a.Repositories.Get()
				for _, r := range repositories {
					emit(float64(r.Images), r.Name)
				}
			},
		},
		{
			Name:   "docker_repository_reclaimable_bytes",
			Help:   "Bytes that the disk would get back if the images of this repository that no container uses were removed, they alone and with all their names. A lower bound where the engine does not tell enough. Only with --collector.repositories=N. Repositories share images and layers: never add them up.",
			Labels: []string{"repository"},
			values: func(a prune.Summary, emit emit) {
				repositories, _ := a.Repositories.Get()
				for _, r := range repositories {
					if frees, known := r.Reclaimable.Get(); known {
						emit(float64(frees.Bytes), r.Name)
					}
				}
			},
		},
		{
			Name:   "docker_prunes_total",
			Help:   "Prunes that finished since the exporter watches, by whomever they were run. Absent where the engine does not tell: no image prunes with the containerd image store (Engine API: prune events).",
			Labels: []string{"resource"},
			values: func(a prune.Summary, emit emit) {
				for _, p := range a.Prunes {
					emit(float64(p.Count), string(p.Resource))
				}
			},
		},
		{
			Name:   "docker_pruned_bytes_total",
			Help:   "Bytes that these prunes freed, as the engine says (Engine API: reclaimed of prune events).",
			Labels: []string{"resource"},
			values: func(a prune.Summary, emit emit) {
				for _, p := range a.Prunes {
					emit(float64(p.Bytes), string(p.Resource))
				}
			},
		},
		{
			Name:   "docker_last_prune_timestamp_seconds",
			Help:   "When the last of these prunes finished. Unix time by the engine's clock. Absent until there is one.",
			Labels: []string{"resource"},
			values: func(a prune.Summary, emit emit) {
				for _, p := range a.Prunes {
					if last, known := p.Last.Get(); known {
						emit(unixSeconds(last), string(p.Resource))
					}
				}
			},
		},
		{
			Name:   "docker_filesystem_size_bytes",
			Help:   "Size of the file system that holds the engine's data; path is the engine's root directory on its host (statfs).",
			Labels: []string{"path"},
			values: func(a prune.Summary, emit emit) {
				for _, fs := range a.Filesystems {
					emit(float64(fs.Size), fs.Path)
				}
			},
		},
		{
			Name:   "docker_filesystem_avail_bytes",
			Help:   "Bytes that unprivileged processes can still write to the file system that holds the engine's data (statfs).",
			Labels: []string{"path"},
			values: func(a prune.Summary, emit emit) {
				for _, fs := range a.Filesystems {
					emit(float64(fs.Avail), fs.Path)
				}
			},
		},
		{
			Name:   "docker_filesystem_files",
			Help:   "Inodes of the file system that holds the engine's data; absent where the file system has no fixed number of them (statfs).",
			Labels: []string{"path"},
			values: func(a prune.Summary, emit emit) {
				for _, fs := range a.Filesystems {
					emitKnown(emit, fs.Files, fs.Path)
				}
			},
		},
		{
			Name:   "docker_filesystem_files_free",
			Help:   "Free inodes of the file system that holds the engine's data; absent where the file system has no fixed number of them (statfs).",
			Labels: []string{"path"},
			values: func(a prune.Summary, emit emit) {
				for _, fs := range a.Filesystems {
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

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
