package alerts

import (
	"fmt"
	"strconv"
	"time"

	"docker_buildup_exporter/collector/prune"

	"github.com/prometheus/common/model"
)

// Thresholds are the constants of the rules that users can set. Ratios are of the size
// of the disk, or of its number of inodes.
type Thresholds struct {
	FillingBelow  Ratio    // DockerDiskFilling, warning: free ratio
	FillingWithin Duration // forecast
	PageBelow     Ratio    // DockerDiskFilling, critical: the same two
	PageWithin    Duration
	AlmostFull    Ratio // DockerDiskAlmostFull: warning
	Full          Ratio // critical, if the disk is full within 6 hours
	Exhausted     Ratio // critical

	BuildupFor       Duration
	DanglingRatio    Ratio
	UnusedRatio      Ratio
	OldRatio         Ratio // stopped containers, one of them for a week
	CacheRatio       Ratio
	CacheFree        Ratio
	VolumesRatio     Ratio
	LeftoversRatio   Ratio
	GrowthRatio      Ratio
	PressureRatio    Ratio
	IneffectiveRatio Ratio // what prunes freed
	IneffectiveLoss  Ratio // what the disk lost in the same time
	UntaggedMin      Count
	StoppedRatio     Count // stopped containers for each running one; Swarm keeps four by default
	StoppedMin       Count
	MissingFor       Duration
}

// Defaults returns the thresholds of docker-buildup.yml.
func Defaults() Thresholds {
	const hour = Duration(time.Hour)
	return Thresholds{
		FillingBelow: 0.40, FillingWithin: 72 * hour,
		PageBelow: prune.EnoughFree, PageWithin: 4 * hour,
		AlmostFull: 0.10, Full: 0.05, Exhausted: 0.01,
		BuildupFor: 24 * hour, DanglingRatio: 0.10, UnusedRatio: 0.20, OldRatio: 0.05, CacheRatio: 0.25, CacheFree: 0.30,
		VolumesRatio: 0.10, LeftoversRatio: 0.10, GrowthRatio: 0.10, PressureRatio: 0.10,
		IneffectiveRatio: 0.01, IneffectiveLoss: 0.05,
		UntaggedMin: 20, StoppedRatio: 5, StoppedMin: 20, MissingFor: 72 * hour,
	}
}

// A Threshold is a flag of the rules command.
type Threshold struct {
	Name, Help string
	Value      Value
}

// A Value is the value of a threshold as text. Set returns an error for values out of range.
type Value interface {
	String() string
	Set(string) error
}

// All returns every threshold. Their values point into t.
func (t *Thresholds) All() []Threshold {
	return []Threshold{
		{"disk.filling-below", "DockerDiskFilling (warning) and DockerCleanupUseless fire only below this free ratio.", &t.FillingBelow},
		{"disk.filling-within", "DockerDiskFilling (warning) fires only if the disk is forecast to be full within this time.", &t.FillingWithin},
		{"disk.page-below", "DockerDiskFilling (critical) fires only below this free ratio.", &t.PageBelow},
		{"disk.page-within", "DockerDiskFilling (critical) fires only if the disk is forecast to be full within this time.", &t.PageWithin},
		{"disk.almost-full", "DockerDiskAlmostFull (warning) and DockerDiskPressureReclaimable fire below this free ratio; critical if the disk is forecast to be full within 6 minutes.", &t.AlmostFull},
		{"disk.full", "DockerDiskAlmostFull (critical) fires below this free ratio if the disk is forecast to be full within 6 hours.", &t.Full},
		{"disk.exhausted", "DockerDiskAlmostFull (critical) fires below this free ratio.", &t.Exhausted},
		{"disk.pressure-share", "DockerDiskPressureReclaimable fires only if cleanup would free more than this ratio of the disk.", &t.PressureRatio},
		{"causes.for", "Time that a buildup must last before its alert fires. More than a day allows for a daily cleanup.", &t.BuildupFor},
		{"causes.dangling-share", "DockerDanglingImagesBuildup fires above this ratio of the disk.", &t.DanglingRatio},
		{"causes.unused-share", "DockerUnusedImagesBuildup fires above this ratio of the disk.", &t.UnusedRatio},
		{"causes.untagged-min", "DockerUntaggedImagesBuildup fires only above this number of untagged images.", &t.UntaggedMin},
		{"causes.stopped-ratio", "DockerExitedContainersBuildup fires above this number of stopped containers for each running one.", &t.StoppedRatio},
		{"causes.stopped-min", "DockerExitedContainersBuildup fires only above this number of stopped containers.", &t.StoppedMin},
		{"causes.forgotten-share", "DockerForgottenContainers fires if stopped containers hold more than this ratio of the disk and one has been stopped for a week.", &t.OldRatio},
		{"causes.cache-share", "DockerBuildCacheBuildup fires if unused build cache holds more than this ratio of the disk.", &t.CacheRatio},
		{"causes.cache-free", "DockerBuildCacheBuildup fires only below this free ratio.", &t.CacheFree},
		{"causes.volumes-share", "DockerUnusedVolumesBuildup fires above this ratio of the disk.", &t.VolumesRatio},
		{"causes.leftovers-share", "DockerLeftovers fires above this ratio of the disk.", &t.LeftoversRatio},
		{"causes.growth-share", "DockerDiskUsageGrowing fires if Docker grows by more than this ratio of the disk within a week.", &t.GrowthRatio},
		{"causes.missing-for", "Time without a prune after which DockerCleanupMissing fires.", &t.MissingFor},
		{"causes.useless-share", "DockerCleanupUseless fires if prunes free less than this ratio of the disk within a week.", &t.IneffectiveRatio},
		{"causes.useless-loss", "DockerCleanupUseless fires only if the free ratio of the disk falls by more than this within a week.", &t.IneffectiveLoss},
	}
}

// levels returns the thresholds that a disk or a host can have of its own, by the name of
// the record of the threshold in effect.
func (t Thresholds) levels() map[string]Threshold {
	return map[string]Threshold{
		"almost_full": {Name: "disk.almost-full", Value: &t.AlmostFull},
		"exhausted":   {Name: "disk.exhausted", Value: &t.Exhausted},
	}
}

// validate returns an error if thresholds contradict each other.
func (t Thresholds) validate() error {
	for _, pair := range []struct {
		lower, upper         Ratio
		lowerName, upperName string
	}{
		{t.Exhausted, t.Full, "disk.exhausted", "disk.full"},
		{t.Full, t.AlmostFull, "disk.full", "disk.almost-full"},
		{t.AlmostFull, t.PageBelow, "disk.almost-full", "disk.page-below"},
		{t.PageBelow, t.FillingBelow, "disk.page-below", "disk.filling-below"},
	} {
		if pair.lower > pair.upper {
			return fmt.Errorf("--%s=%v is above --%s=%v", pair.lowerName, pair.lower, pair.upperName, pair.upper)
		}
	}
	if t.PageWithin > t.FillingWithin {
		return fmt.Errorf("--disk.page-within=%v is longer than --disk.filling-within=%v", t.PageWithin, t.FillingWithin)
	}
	return nil
}

// A Ratio is a number between 0 and 1.
type Ratio float64

func (r Ratio) String() string { return strconv.FormatFloat(float64(r), 'f', -1, 64) }

// Percent returns the ratio as a percentage, for annotations.
func (r Ratio) Percent() string { return strconv.FormatFloat(100*float64(r), 'f', -1, 64) + "%" }

// Set parses a number.
func (r *Ratio) Set(text string) error {
	ratio, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ratio > 0 && ratio < 1) {
		return fmt.Errorf("%q is not a ratio between 0 and 1", text)
	}
	*r = Ratio(ratio)
	return nil
}

// A Count is a number of objects.
type Count int

func (c Count) String() string { return strconv.Itoa(int(c)) }

// Set parses a number.
func (c *Count) Set(text string) error {
	count, err := strconv.Atoi(text)
	if err != nil || count < 1 || count > 1e6 {
		return fmt.Errorf("%q is not a number from 1 to 1000000", text)
	}
	*c = Count(count)
	return nil
}

// A Duration is written as Prometheus writes durations: 1d12h.
type Duration time.Duration

func (d Duration) String() string { return model.Duration(d).String() }

// Seconds returns the duration in seconds, for expressions.
func (d Duration) Seconds() string {
	return strconv.FormatFloat(time.Duration(d).Seconds(), 'f', -1, 64)
}

// Days returns the duration in days, for expressions.
func (d Duration) Days() string {
	return strconv.FormatFloat(time.Duration(d).Hours()/24, 'f', -1, 64)
}

// Set parses a duration.
func (d *Duration) Set(text string) error {
	duration, err := model.ParseDuration(text)
	if err != nil || time.Duration(duration) < time.Minute || time.Duration(duration) > 30*24*time.Hour {
		return fmt.Errorf("%q is not a duration from 1m to 30d", text)
	}
	*d = Duration(duration)
	return nil
}
