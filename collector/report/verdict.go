package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Verdict is one of the four that monitoring plugins know.
type Verdict string

const (
	OK       Verdict = "ok"
	Warning  Verdict = "warning"
	Critical Verdict = "critical"
	Unknown  Verdict = "unknown"
)

// ExitCode is how a monitoring plugin says it.
func (v Verdict) ExitCode() int {
	switch v {
	case OK:
		return 0
	case Warning:
		return 1
	case Critical:
		return 2
	}
	return 3
}

// Thresholds are shares of a file system's bytes, and of its inodes, below which what
// is free is too little.
type Thresholds struct {
	Warn, Crit float64
}

// DefaultThresholds are what the page judges by.
func DefaultThresholds() Thresholds { return Thresholds{Warn: 0.20, Crit: 0.10} }

// Check says why thresholds are none.
func (t Thresholds) Check() error {
	for _, share := range []float64{t.Warn, t.Crit} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%v is not from 0 to 1; a fifth is 0.20", share)
		}
	}
	if t.Crit > t.Warn {
		return errors.New("critical must not come before warning: --crit is more than --warn")
	}
	return nil
}

// judge returns the worst verdict on shares. Of those that are unknown it says nothing.
func (t Thresholds) judge(shares ...*float64) Verdict {
	verdict := Unknown
	for _, share := range shares {
		switch {
		case share == nil:
		case *share < t.Crit:
			return Critical
		case *share < t.Warn:
			verdict = Warning
		case verdict == Unknown:
			verdict = OK
		}
	}
	return verdict
}

// judge returns the verdict on all, and a line that says why. What is bad is said even
// if other things are unknown.
func judge(r Report, thresholds Thresholds) (Verdict, string) {
	var verdicts []Verdict
	var reasons []string
	if !r.Up {
		verdicts = append(verdicts, Unknown)
		reasons = append(reasons, "the engine does not answer")
	}
	for _, fs := range r.Filesystems {
		verdicts = append(verdicts, fs.Verdict)
		reason := fmt.Sprintf("%s has %s free (%s of %s)", fs.Path, Percent(fs.FreeShare), Bytes(&fs.AvailBytes), Bytes(&fs.SizeBytes))
		if inodes := thresholds.judge(fs.FilesShare); inodes == Warning || inodes == Critical {
			reason += fmt.Sprintf(" and %s of its inodes", Percent(fs.FilesShare))
		}
		reasons = append(reasons, reason)
	}
	for _, path := range r.Unmeasured {
		verdicts = append(verdicts, Unknown)
		reasons = append(reasons, path+" could not be measured")
	}
	if len(r.Filesystems)+len(r.Unmeasured) == 0 {
		verdicts = append(verdicts, Unknown)
		reasons = append(reasons, "no file system was measured, see --filesystem.path")
	}
	for _, verdict := range []Verdict{Critical, Warning, Unknown} {
		if slices.Contains(verdicts, verdict) {
			return verdict, strings.Join(reasons, "; ")
		}
	}
	return OK, strings.Join(reasons, "; ")
}
