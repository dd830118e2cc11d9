// Package status tells people what an engine holds: the figures that the metrics tell
// Prometheus, as a page, as text and as JSON. It asks nobody; what it tells is made
// from an prune.Summary.
package report

import (
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// A Report is what there is to tell. Its JSON is for other programs, so names of fields
// stay what they are. What is not known is null, never 0.
type Report struct {
	Verdict     Verdict      `json:"status"`
	Summary     string       `json:"summary"`
	TakenAt     time.Time    `json:"taken_at"`
	Up          bool         `json:"up"` // the engine answered
	Engine      *Engine      `json:"engine"`
	Filesystems []Filesystem `json:"filesystems"`
	Unmeasured  []string     `json:"unmeasured"` // paths of file systems that could not be measured
	Resources   []Resource   `json:"resources"`
	Commands    []Command    `json:"commands"` // null: unknown which there are
	Images      Images       `json:"images"`
	Containers  Containers   `json:"containers"`
	Volumes     Counts       `json:"volumes"`
	BuildCache  Counts       `json:"build_cache_records"`
	Prunes      []Prune      `json:"prunes"` // those seen
	Collectors  []Collector  `json:"collectors"`
}

// An Engine is what the engine says of itself.
type Engine struct {
	Version       string `json:"version"`
	APIVersion    string `json:"api_version"`
	ImageStore    string `json:"image_store"`
	StorageDriver string `json:"storage_driver"`
}

// A Filesystem holds data of the engine.
type Filesystem struct {
	Path       string   `json:"path"`
	SizeBytes  int64    `json:"size_bytes"`
	AvailBytes int64    `json:"avail_bytes"`
	FreeShare  *float64 `json:"free_share"`
	Files      *int64   `json:"files"`
	FilesFree  *int64   `json:"files_free"`
	FilesShare *float64 `json:"files_free_share"`
	Verdict    Verdict  `json:"status"`
}

// A Resource is what one kind of things takes on disk, and what of that the command
// would free that removes most of it.
type Resource struct {
	Name       model.Resource `json:"resource"`
	UsageBytes *int64         `json:"disk_usage_bytes"`
	Frees      Reclaimable    `json:"reclaimable"`
	Command    prune.Command  `json:"command"`
}

// A Command is one that cleans up, and what it would free if it were run alone and now.
type Command struct {
	Command prune.Command `json:"command"`
	Removes string        `json:"removes"`
	Frees   Reclaimable   `json:"reclaimable"`
}

// A Reclaimable is how much the disk would get back.
type Reclaimable struct {
	Bytes *int64 `json:"bytes"`
	Exact *bool  `json:"exact"` // false: a lower bound
}

// Images are counts of images by kind and by use.
type Images struct {
	Tagged           *int   `json:"tagged"`
	Untagged         *int   `json:"untagged"` // dangling, intermediate and digest-only
	Dangling         *int   `json:"dangling"`
	Intermediate     *int   `json:"intermediate"`
	DigestOnly       *int   `json:"digest_only"`
	Tags             *int   `json:"tags"`
	Use              Counts `json:"use"`
	Layers           *int   `json:"layers"`
	Uninspected      *int   `json:"uninspected"`
	VirtualSizeBytes *int64 `json:"virtual_size_bytes"`
}

// Containers are counts of containers by state, and of the stopped ones by how long
// they have been so.
type Containers struct {
	State      Counts `json:"state"`
	StoppedFor Counts `json:"stopped_for"`
}

// A Prune is what prunes of one resource have done since the program watches.
type Prune struct {
	Resource model.Resource `json:"resource"`
	Count    int            `json:"count"`
	Bytes    int64          `json:"bytes"`
	Last     *time.Time     `json:"last"`
}

// Collector is the state of one kind of request.
type Collector struct {
	Name            string     `json:"collector"`
	Success         bool       `json:"success"` // the last time
	LastSuccess     *time.Time `json:"last_success"`
	DurationSeconds *float64   `json:"duration_seconds"`
}

// New makes the report of an assessment, judged by thresholds.
func New(a prune.Summary, thresholds Thresholds) Report {
	r := Report{
		TakenAt:     a.At.UTC(),
		Up:          a.Up,
		Filesystems: []Filesystem{},
		Unmeasured:  append([]string{}, a.Unmeasured...),
		Images:      images(a),
		Containers:  containers(a),
		Volumes:     inUse(a.VolumeCount),
		BuildCache:  inUse(a.CacheCount),
		Prunes:      []Prune{},
		Collectors:  []Collector{},
	}
	if engine, known := a.Engine.Get(); known {
		r.Engine = &Engine{engine.Version, engine.APIVersion, string(engine.ImageStore), engine.StorageDriver}
		r.Commands = commands(engine.APIVersion, a.Reclaimable)
	}
	for _, fs := range a.Filesystems {
		r.Filesystems = append(r.Filesystems, filesystem(fs, thresholds))
	}
	for _, name := range model.Resources() {
		command := emptying(name, r.Commands)
		resource := Resource{Name: name, Frees: frees(a.Reclaimable, command), Command: command}
		if bytes, known := a.DiskUsage[name]; known {
			resource.UsageBytes = &bytes
		}
		r.Resources = append(r.Resources, resource)
	}
	for _, p := range a.Prunes {
		if p.Count > 0 {
			r.Prunes = append(r.Prunes, Prune{p.Resource, p.Count, p.Bytes, utc(p.Last)})
		}
	}
	for _, q := range a.Collectors {
		collector := Collector{Name: q.Name, Success: q.Success, LastSuccess: utc(q.LastSuccess)}
		if took, known := q.Duration.Get(); known {
			collector.DurationSeconds = new(took.Seconds())
		}
		r.Collectors = append(r.Collectors, collector)
	}
	r.Verdict, r.Summary = judge(r, thresholds)
	return r
}

func filesystem(fs model.Filesystem, thresholds Thresholds) Filesystem {
	report := Filesystem{
		Path: fs.Path, SizeBytes: fs.Size, AvailBytes: fs.Avail, FreeShare: share(fs.Avail, fs.Size),
		Files: pointer(fs.Files), FilesFree: pointer(fs.FilesFree),
	}
	if report.Files != nil && report.FilesFree != nil {
		report.FilesShare = share(*report.FilesFree, *report.Files)
	}
	report.Verdict = thresholds.judge(report.FreeShare, report.FilesShare)
	return report
}

func share(part, whole int64) *float64 {
	if whole <= 0 {
		return nil
	}
	return new(float64(part) / float64(whole))
}

// commands are those that the engine knows.
func commands(api string, reclaimable map[prune.Command]prune.Reclaimable) []Command {
	there := prune.Commands(api)
	list := make([]Command, 0, len(there))
	for _, command := range there {
		list = append(list, Command{command, removes(command, there), frees(reclaimable, command)})
	}
	return list
}

// removes tells what a command removes, as far as the choice depends on it.
func removes(command prune.Command, there []prune.Command) string {
	switch command {
	case prune.ContainerPrune:
		return "stopped containers"
	case prune.ImagePrune:
		return "images without a tag that no container uses"
	case prune.ImagePruneAll:
		return "all images that no container uses"
	case prune.VolumePrune:
		return pruned(there)
	case prune.VolumePruneAll:
		return allVolumes
	case prune.BuilderPrune:
		return "build cache that no build uses and no image shares"
	case prune.BuilderPruneAll:
		return "all build cache that no build uses"
	case prune.SystemPrune:
		return "stopped containers, unused networks, images without a tag that no container uses then, build cache that no image shares"
	case prune.SystemPruneAll:
		return "stopped containers, unused networks, all images that no container uses then, all build cache"
	case prune.SystemPruneAllVolumes:
		return "the same, and " + pruned(there)
	}
	return ""
}

const allVolumes = "all volumes that no container has, with their data"

// pruned are the volumes that a volume prune takes, which without a choice are all.
func pruned(there []prune.Command) string {
	if slices.Contains(there, prune.VolumePruneAll) {
		return "volumes without a name that no container has"
	}
	return allVolumes
}

// emptying is the command that removes most of one resource and nothing else.
func emptying(resource model.Resource, there []Command) prune.Command {
	switch resource {
	case model.Images:
		return prune.ImagePruneAll
	case model.Containers:
		return prune.ContainerPrune
	case model.BuildCache:
		return prune.BuilderPruneAll
	}
	isAll := func(c Command) bool { return c.Command == prune.VolumePruneAll }
	if len(there) > 0 && !slices.ContainsFunc(there, isAll) {
		return prune.VolumePrune
	}
	return prune.VolumePruneAll
}

func frees(reclaimable map[prune.Command]prune.Reclaimable, command prune.Command) Reclaimable {
	if r, known := reclaimable[command]; known {
		return Reclaimable{&r.Bytes, &r.Exact}
	}
	return Reclaimable{}
}

func images(a prune.Summary) Images {
	i := Images{Layers: pointer(a.LayerCount), Uninspected: pointer(a.Uninspected)}
	if count, known := a.ImageCount.Get(); known {
		i.Tagged, i.Untagged, i.Tags = &count.Tagged, &count.Untagged, &count.Tags
		i.Dangling, i.Intermediate = pointer(count.Dangling), pointer(count.Intermediate)
		i.VirtualSizeBytes = pointer(count.VirtualSize)
		if i.Dangling != nil && i.Intermediate != nil {
			i.DigestOnly = new(count.Untagged - *i.Dangling - *i.Intermediate)
		}
	}
	if use, known := a.ImageUse.Get(); known {
		i.Use = counts(use, model.Uses())
	}
	return i
}

func containers(a prune.Summary) (c Containers) {
	if states, known := a.ContainerCount.Get(); known {
		c.State = counts(states, model.States())
	}
	if stopped, known := a.StoppedCount.Get(); known {
		c.StoppedFor = counts(stopped, []model.StoppedFor{
			model.UnderHour, model.UnderDay, model.UnderWeek, model.UnderMonth, model.OverMonth,
		})
	}
	return c
}

func inUse(count model.Optional[map[bool]int]) Counts {
	if n, known := count.Get(); known {
		return Counts{{"in_use", n[true]}, {"unused", n[false]}}
	}
	return nil
}

func pointer[T any](o model.Optional[T]) *T {
	if value, known := o.Get(); known {
		return &value
	}
	return nil
}

func utc(at model.Optional[time.Time]) *time.Time {
	if value, known := at.Get(); known {
		return new(value.UTC())
	}
	return nil
}
