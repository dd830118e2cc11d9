package alerts

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
)

// Thresholds decide when the rules tell. Those of the disk are shares of its size, and
// of its inodes.
type Thresholds struct {
	FillingBelow  Share // a ticket for a disk that fills
	FillingWithin Span
	FillingFor    Span
	PageBelow     Share // a page for one that fills
	PageWithin    Span
	PageFor       Span
	AlmostFull    Share // a ticket
	FullSoon      Share // a page, if it is full within minutes
	Full          Share // a page

	CauseFor       Span
	DanglingShare  Share
	UnusedShare    Share
	ForgottenShare Share
	CacheShare     Share
	CacheFree      Share
	VolumesShare   Share
	GrowthShare    Share
	PressureShare  Share
	PressureFree   Share
	UselessShare   Share
	UselessLoss    Share
	UntaggedMin    Count
	StoppedRatio   Count
	StoppedMin     Count
	MissingFor     Span
}

// Defaults are the thresholds of docker-buildup.yml.
func Defaults() Thresholds {
	const hour = Span(time.Hour)
	return Thresholds{
		FillingBelow: 0.40, FillingWithin: 72 * hour, FillingFor: 4 * hour,
		PageBelow: 0.22, PageWithin: 4 * hour, PageFor: hour / 4,
		AlmostFull: 0.10, FullSoon: 0.08, Full: 0.05,
		CauseFor: 24 * hour, DanglingShare: 0.10, UnusedShare: 0.20, ForgottenShare: 0.05, CacheShare: 0.25, CacheFree: 0.30,
		VolumesShare: 0.10, GrowthShare: 0.10, PressureShare: 0.10, PressureFree: 0.15, UselessShare: 0.01, UselessLoss: 0.05,
		UntaggedMin: 20, StoppedRatio: 2, StoppedMin: 20, MissingFor: 72 * hour,
	}
}

// A Setting is one threshold to be set.
type Setting struct {
	Name, Help string
	Value      Value
}

// A Value is a threshold in words. Set refuses what is out of its range.
type Value interface {
	String() string
	Set(string) error
}

// Settings are all of them.
func (t *Thresholds) Settings() []Setting {
	return []Setting{
		{"disk.filling-below", "A ticket for a disk that fills, or that prunes do not help, comes below this free share.", &t.FillingBelow},
		{"disk.filling-within", "And if it is full within this time.", &t.FillingWithin},
		{"disk.filling-for", "And if that has been so for this time.", &t.FillingFor},
		{"disk.page-below", "A page for a disk that fills comes below this free share.", &t.PageBelow},
		{"disk.page-within", "And if it is full within this time.", &t.PageWithin},
		{"disk.page-for", "And if that has been so for this time.", &t.PageFor},
		{"disk.almost-full", "A ticket comes below this free share in any case, and a page for a disk that fills and has been watched for less than a day.", &t.AlmostFull},
		{"disk.full-soon", "A page comes below this free share if the disk is full within 6 minutes.", &t.FullSoon},
		{"disk.full", "A page comes below this free share in any case.", &t.Full},
		{"disk.pressure-free", "A ticket on what cleanup would free comes below this free share.", &t.PressureFree},
		{"disk.pressure-share", "And if it would free more than this share of the disk.", &t.PressureShare},
		{"causes.for", "How long a cause has to last. More than a day leaves time to a daily cleanup.", &t.CauseFor},
		{"causes.dangling-share", "Share of the disk that images without a name may hold.", &t.DanglingShare},
		{"causes.unused-share", "Share of the disk that tagged images without a container may hold.", &t.UnusedShare},
		{"causes.untagged-min", "Images without a tag that are never too many.", &t.UntaggedMin},
		{"causes.stopped-ratio", "Stopped containers that there may be for each running one.", &t.StoppedRatio},
		{"causes.stopped-min", "Stopped containers that are never too many.", &t.StoppedMin},
		{"causes.forgotten-share", "Share of the disk that stopped containers may hold if one has been so for a week.", &t.ForgottenShare},
		{"causes.cache-share", "Share of the disk that build cache may hold which nothing uses.", &t.CacheShare},
		{"causes.cache-free", "Free share of the disk above which it may hold any.", &t.CacheFree},
		{"causes.volumes-share", "Share of the disk that volumes without a container may hold.", &t.VolumesShare},
		{"causes.growth-share", "Share of the disk by which Docker may grow within a week.", &t.GrowthShare},
		{"causes.missing-for", "How long a prune that ran daily may not run.", &t.MissingFor},
		{"causes.useless-share", "Share of the disk that prunes have to free within a week, if it shrinks.", &t.UselessShare},
		{"causes.useless-loss", "Free share of the disk by which it may shrink within a week beside prunes.", &t.UselessLoss},
	}
}

// check tells whether thresholds make sense together.
func (t Thresholds) check() error {
	for _, pair := range []struct {
		lower, upper         Share
		lowerName, upperName string
	}{
		{t.Full, t.FullSoon, "disk.full", "disk.full-soon"},
		{t.FullSoon, t.AlmostFull, "disk.full-soon", "disk.almost-full"},
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

// A Share is a part of a whole.
type Share float64

func (s Share) String() string { return strconv.FormatFloat(float64(s), 'f', -1, 64) }

// Percent is for sentences.
func (s Share) Percent() string { return strconv.FormatFloat(100*float64(s), 'f', -1, 64) + "%" }

// Set takes a number.
func (s *Share) Set(text string) error {
	share, err := strconv.ParseFloat(text, 64)
	if err != nil || !(share > 0 && share < 1) {
		return fmt.Errorf("%q is no share: more than 0 and less than 1", text)
	}
	*s = Share(share)
	return nil
}

// A Count is a number of things.
type Count int

func (c Count) String() string { return strconv.Itoa(int(c)) }

// Set takes a number.
func (c *Count) Set(text string) error {
	count, err := strconv.Atoi(text)
	if err != nil || count < 1 || count > 1e6 {
		return fmt.Errorf("%q is no number from 1 to 1000000", text)
	}
	*c = Count(count)
	return nil
}

// A Span is a length of time.
type Span time.Duration

func (s Span) String() string { return model.Duration(s).String() }

// Seconds is for expressions.
func (s Span) Seconds() string { return strconv.FormatFloat(time.Duration(s).Seconds(), 'f', -1, 64) }

// Minutes is how many evaluations that is.
func (s Span) Minutes() string { return strconv.FormatFloat(time.Duration(s).Minutes(), 'f', -1, 64) }

// Set takes a duration as Prometheus writes it.
func (s *Span) Set(text string) error {
	span, err := model.ParseDuration(text)
	if err != nil || time.Duration(span) < time.Minute || time.Duration(span) > 30*24*time.Hour {
		return fmt.Errorf("%q is no duration from 1m to 30d", text)
	}
	*s = Span(span)
	return nil
}
