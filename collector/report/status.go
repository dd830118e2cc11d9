package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"docker_buildup_exporter/collector/model"
)

// Status is the result of a check, as monitoring plugins define it.
type Status string

const (
	OK       Status = "ok"
	Warning  Status = "warning"
	Critical Status = "critical"
	Unknown  Status = "unknown"
)

// ExitCode returns the exit code of a monitoring plugin for the status.
func (s Status) ExitCode() int {
	switch s {
	case OK:
		return 0
	case Warning:
		return 1
	case Critical:
		return 2
	}
	return 3
}

// Thresholds are the shares of free bytes or inodes of a file system below which its
// status is Warning or Critical.
type Thresholds struct {
	Warn, Crit float64
}

// DefaultThresholds returns the thresholds of the page, and the defaults of the status command.
func DefaultThresholds() Thresholds { return Thresholds{Warn: 0.20, Crit: 0.10} }

// Validate returns an error if the thresholds contradict each other.
func (t Thresholds) Validate() error {
	if t.Crit > t.Warn {
		return fmt.Errorf("--crit is more than --warn: %v, %v", t.Crit, t.Warn)
	}
	return nil
}

// evaluate returns the worst status of shares. It ignores unknown shares, and returns
// Unknown if there is no other.
func (t Thresholds) evaluate(shares ...model.Optional[float64]) Status {
	status := Unknown
	for _, s := range shares {
		share, known := s.Get()
		switch {
		case !known:
		case share < t.Crit:
			return Critical
		case share < t.Warn:
			status = Warning
		case status == Unknown:
			status = OK
		}
	}
	return status
}

// evaluate returns the status of the report and its reasons in one line. A file system with
// too little space is worse than anything unknown.
func (r Report) evaluate() (Status, string) {
	var statuses []Status
	var reasons []string
	add := func(status Status, reason string) {
		statuses, reasons = append(statuses, status), append(reasons, reason)
	}
	if !r.Up {
		add(Unknown, "the engine does not answer"+cause(r.Problems))
	}
	for _, fs := range r.Filesystems {
		reason := fmt.Sprintf("%s has %s free (%s of %s)", fs.Path, formatShare(fs.FreeShare), formatBytes(fs.Avail), formatBytes(fs.Size))
		if inodes := r.thresholds.evaluate(fs.FilesShare); inodes == Warning || inodes == Critical {
			reason += fmt.Sprintf(" and %s of its inodes", formatShare(fs.FilesShare))
		}
		if left, known := fs.SecondsToFull.Get(); known && fs.Status != OK {
			reason += ", full in about " + formatDuration(left)
		}
		if fs.Advice != nil {
			reason += ". " + fs.Advice.String()
		}
		add(fs.Status, reason)
	}
	for _, path := range r.Unmeasured {
		add(Unknown, path+" could not be measured")
	}
	switch {
	case len(r.Filesystems)+len(r.Unmeasured) > 0:
	case r.Up && !r.Engine.IsKnown():
		add(Unknown, "the engine has not reported its root directory"+cmp.Or(cause(r.Problems), " in time"))
	default:
		add(Unknown, "no file system was measured, see --filesystem.path")
	}
	worst := OK
	for _, status := range []Status{Unknown, Warning, Critical} {
		if slices.Contains(statuses, status) {
			worst = status
		}
	}
	return worst, strings.Join(reasons, "; ")
}

// cause returns the first problem of the engine, with what helps, or "".
func cause(problems []model.Problem) string {
	for _, p := range problems {
		switch {
		case strings.HasPrefix(p.Operation, "measure "): // a file system
			continue
		case p.Hint == "":
			return ": " + p.Reason
		}
		return ": " + p.Reason + " (" + p.Hint + ")"
	}
	return ""
}

// performance returns the performance data of a monitoring plugin (Monitoring Plugins Development
// Guidelines: 'label'=value[unit];[warn];[crit];[min];[max]): what is free of each file system.
func (r Report) performance() string {
	var data []string
	add := func(label, unit string, value int64, limits string) {
		label = strings.NewReplacer("'", "''", "=", "_").Replace(sanitize(label))
		data = append(data, fmt.Sprintf("'%s'=%d%s;%s", label, value, unit, limits))
	}
	free := func(size int64) string { // alert if less is free
		return fmt.Sprintf("%.0f:;%.0f:;0;%d", r.thresholds.Warn*float64(size), r.thresholds.Crit*float64(size), size)
	}
	for _, fs := range r.Filesystems {
		add(fs.Path+" free", "B", fs.Avail, free(fs.Size))
		files, filesKnown := fs.Files.Get()
		if left, known := fs.FilesFree.Get(); known && filesKnown {
			add(fs.Path+" inodes free", "", left, free(files))
		}
	}
	return strings.Join(data, " ")
}
