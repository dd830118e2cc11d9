// Package report shows the figures of an engine to people: as a page, as text and as
// JSON. It does no I/O. The figures are those of a prune.Summary, as in the metrics.
package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// Report is a summary prepared for people. Programs read its JSON, so names of fields do
// not change. Unknown is null.
type Report struct {
	Status      Status                       `json:"status"`
	Summary     string                       `json:"summary"`
	TakenAt     time.Time                    `json:"taken_at"`
	Up          bool                         `json:"up"` // the engine answered
	Engine      model.Optional[model.Engine] `json:"engine"`
	Filesystems []Filesystem                 `json:"filesystems"`
	Unmeasured  []string                     `json:"unmeasured"` // paths of file systems that could not be measured
	Resources   []Resource                   `json:"resources"`
	Commands    []Command                    `json:"commands"` // those of the engine's API version; null if that is unknown, empty for Podman
	Holders     []prune.Holder               `json:"holders"`  // objects by name, those that hold most first
	model.ObjectCounts
	Prunes         []model.Prune                       `json:"prunes"` // of resources of which a prune was observed
	Leftovers      model.Optional[model.LeftoverSizes] `json:"leftovers"`
	Collectors     []model.Collector                   `json:"collectors"`
	UnknownReasons []string                            `json:"-"` // why figures are unknown or incomplete
	Problems       []model.Problem                     `json:"-"` // what fails, each cause once

	thresholds Thresholds
}

// Filesystem is a file system that holds engine data, with its status.
type Filesystem struct {
	model.Filesystem
	FreeShare  model.Optional[float64] `json:"free_share"`       // of the bytes
	FilesShare model.Optional[float64] `json:"files_free_share"` // of the inodes
	Status     Status                  `json:"status"`

	// SecondsToFull is when nothing is left if it goes on like in the last hours.
	SecondsToFull model.Optional[time.Duration] `json:"seconds_to_full"`

	// Advice is what to run if there are too few bytes, or null.
	Advice *Advice `json:"advice"`

	samples []model.Sample
}

// Resource is the disk usage of one resource, and how much of it the most thorough of its
// own prune commands would free. One without a command is in the list only if it is known.
type Resource struct {
	Name        model.Resource        `json:"resource"`
	Usage       model.Optional[int64] `json:"disk_usage_bytes"`
	Reclaimable Reclaimable           `json:"reclaimable"`
	Command     prune.Command         `json:"command"`
}

// Command is a cleanup command, and what it would free if only this command ran now.
type Command struct {
	Command     prune.Command `json:"command"`
	Removes     string        `json:"removes"`
	Reclaimable Reclaimable   `json:"reclaimable"`
}

// DeletesData reports whether the command removes volumes.
func (c Command) DeletesData() bool { return strings.Contains(string(c.Command), "volume") }

// Reclaimable is prune.Reclaimable, or unknown.
type Reclaimable struct {
	Bytes    model.Optional[int64] `json:"bytes"` // estimate
	MinBytes model.Optional[int64] `json:"min_bytes"`
	Exact    model.Optional[bool]  `json:"exact"`
}

// New returns the report of a summary. thresholds determine the status.
func New(s prune.Summary, thresholds Thresholds) Report {
	r := Report{
		TakenAt:        s.At.UTC(),
		Up:             s.Up,
		Engine:         s.Engine,
		Filesystems:    newFilesystems(s, thresholds),
		Unmeasured:     append([]string{}, s.Unmeasured...),
		Holders:        append([]prune.Holder{}, s.Holders...),
		ObjectCounts:   s.Counts,
		Prunes:         slices.DeleteFunc(append([]model.Prune{}, s.Prunes...), func(p model.Prune) bool { return p.Count == 0 }),
		Leftovers:      s.Leftovers,
		Collectors:     append([]model.Collector{}, s.Collectors...),
		UnknownReasons: unknownReasons(s),
		Problems:       distinctProblems(s.Problems),
		thresholds:     thresholds,
	}
	reclaimable := func(command prune.Command) Reclaimable {
		if r, known := s.Reclaimable[command]; known {
			return Reclaimable{model.Known(r.Estimate), model.Known(r.Minimum), model.Known(r.Exact)}
		}
		return Reclaimable{}
	}
	var commands []prune.Command
	if engine, known := s.Engine.Get(); known {
		commands, r.Commands = prune.Commands(engine.APIVersion), []Command{}
		if engine.Podman {
			commands = nil
		}
	}
	for _, command := range commands {
		r.Commands = append(r.Commands, Command{command, removedBy(command, commands), reclaimable(command)})
	}
	for _, name := range append(model.Resources(), model.ContainerLogs, model.Leftovers) {
		command := pruneCommandFor(name, commands)
		resource := Resource{Name: name, Reclaimable: reclaimable(command), Command: command}
		bytes, known := s.DiskUsage[name]
		if known {
			resource.Usage = model.Known(bytes)
		}
		if known || command != "" {
			r.Resources = append(r.Resources, resource)
		}
	}
	r.Status, r.Summary = r.evaluate()
	return r
}

// distinctProblems returns the problems with each cause once: when the engine is down, every
// request fails.
func distinctProblems(all []model.Problem) (distinct []model.Problem) {
	for _, p := range all {
		if !slices.ContainsFunc(distinct, func(other model.Problem) bool {
			return other.Reason == p.Reason || p.Hint != "" && other.Hint == p.Hint
		}) {
			distinct = append(distinct, p)
		}
	}
	return distinct
}

// newFilesystems returns the file systems of a summary, with advice for the one that commands clean.
func newFilesystems(s prune.Summary, thresholds Thresholds) []Filesystem {
	all := []Filesystem{}
	cleaned := cleanedDisk(s)
	for _, fs := range s.Filesystems {
		f := Filesystem{Filesystem: fs, FreeShare: share(fs.Avail, fs.Size), samples: s.FreeSpace[fs.Path]}
		files, filesKnown := fs.Files.Get()
		if free, known := fs.FilesFree.Get(); known && filesKnown {
			f.FilesShare = share(free, files)
		}
		f.Status = thresholds.evaluate(f.FreeShare, f.FilesShare)
		// What is free now counts, too: a cleanup may have run since the last sample.
		f.SecondsToFull = timeToFull(append(slices.Clip(f.samples), model.Sample{At: s.At, Bytes: fs.Avail}), s.At)
		if status := thresholds.evaluate(f.FreeShare); (status == Warning || status == Critical) && fs.Path == cleaned {
			f.Advice = advise(fs, max(thresholds.Warn, prune.EnoughFree), s.Reclaimable)
		}
		all = append(all, f)
	}
	return all
}

func share(part, whole int64) model.Optional[float64] {
	if whole <= 0 {
		return model.Optional[float64]{}
	}
	return model.Known(float64(part) / float64(whole))
}

// IsPodman reports whether the engine is Podman, for which no command has a figure.
func (r Report) IsPodman() bool {
	e, _ := r.Engine.Get()
	return e.Podman
}

// EngineText describes the engine. It returns "" if the engine is unknown.
func (r Report) EngineText() string {
	e, known := r.Engine.Get()
	if !known {
		return ""
	}
	product := "Engine"
	if r.IsPodman() {
		product = "Podman"
	}
	return fmt.Sprintf("%s %s, API %s, %s (%s)", product, e.Version, e.APIVersion, e.StorageDriver, e.ImageStore)
}

// removedBy describes what a command removes. commands are those that the engine supports.
func removedBy(command prune.Command, commands []prune.Command) string {
	const unused = "volumes that no container references, with their data"
	volumes := "all " + unused
	if slices.Contains(commands, prune.VolumePruneAll) { // before API 1.42, volume prune removes all
		volumes = "anonymous " + unused
	}
	return map[prune.Command]string{
		prune.ContainerPrune:        "stopped containers",
		prune.ImagePrune:            "images without a tag that no container uses",
		prune.ImagePruneAll:         "all images that no container uses",
		prune.VolumePrune:           volumes,
		prune.VolumePruneAll:        "all " + unused,
		prune.BuilderPrune:          "build cache that no build uses and no image shares",
		prune.BuilderPruneAll:       "all build cache that no build uses",
		prune.SystemPrune:           "stopped containers, unused networks, images without a tag that no remaining container uses, build cache that no image shares",
		prune.SystemPruneAll:        "stopped containers, unused networks, all images that no remaining container uses, all build cache",
		prune.SystemPruneAllVolumes: "the same, and " + volumes,
		prune.ContainerPruneUntil:   "stopped containers that were created a week ago or earlier",
		prune.ImagePruneAllUntil:    "images that no container uses and that were created a week ago or earlier",
		prune.BuilderPruneUntil:     "build cache that no build has used for a week and no image shares",
	}[command]
}

// pruneCommandFor returns the command that removes most of one resource and nothing else.
// commands are those that the engine supports, or nil if that is unknown.
func pruneCommandFor(resource model.Resource, commands []prune.Command) prune.Command {
	if resource == model.Volumes && commands != nil && !slices.Contains(commands, prune.VolumePruneAll) {
		return prune.VolumePrune
	}
	return map[model.Resource]prune.Command{
		model.Images:     prune.ImagePruneAll,
		model.Containers: prune.ContainerPrune,
		model.Volumes:    prune.VolumePruneAll,
		model.BuildCache: prune.BuilderPruneAll,
	}[resource]
}

// unknownReasons explains why figures are unknown or incomplete.
func unknownReasons(s prune.Summary) (reasons []string) {
	for _, name := range s.Pending {
		reasons = append(reasons, "the first request for "+label(name)+" has not finished yet")
	}
	for _, collector := range s.Collectors {
		if !collector.Success {
			reasons = append(reasons, "the last request for "+label(collector.Name)+" failed")
		}
	}
	uninspected, _ := s.Counts.Images.Uninspected.Get()
	if n := uninspected - len(s.FailedImages); n > 0 {
		reasons = append(reasons, fmt.Sprintf("images not inspected yet: %d", n))
	}
	if n := len(s.FailedImages); n > 0 {
		reasons = append(reasons, fmt.Sprintf("images that could not be inspected: %d", n))
	}
	containers, _ := s.Containers.Get()
	failed := 0
	for _, container := range containers {
		if container.Failed {
			failed++
		}
	}
	if failed > 0 {
		reasons = append(reasons, fmt.Sprintf("containers that could not be inspected: %d", failed))
	}
	return reasons
}
