package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"

	"github.com/docker/go-units"
)

const unknown = "unknown"

// formatOptional formats a value, or returns "unknown".
func formatOptional[T any](o model.Optional[T], format func(T) string) string {
	if value, known := o.Get(); known {
		return format(value)
	}
	return unknown
}

// formatBytes formats a size as the Docker CLI does, with a space before the unit: 1.234 GB.
func formatBytes(n int64) string {
	return units.CustomSize("%.4g %s", float64(n), 1000, []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"})
}

func formatSize(n model.Optional[int64]) string { return formatOptional(n, formatBytes) }

// formatShare formats a share in percent. It rounds down, so that a share below a
// threshold is also shown below it.
func formatShare(share model.Optional[float64]) string {
	return formatOptional(share, func(share float64) string {
		return fmt.Sprintf("%.1f %%", math.Floor(share*1000+1e-9)/10)
	})
}

func formatNumber(n model.Optional[int]) string {
	return formatOptional(n, func(n int) string { return fmt.Sprint(n) })
}

// String formats the bytes. A minimum of 0 bytes says nothing, so it is left out, and so is a
// minimum that reads like the estimate.
func (r Reclaimable) String() string {
	bytes, _ := r.Bytes.Get()
	minimum, _ := r.MinBytes.Get()
	exact, known := r.Exact.Get()
	estimate, atLeast := formatBytes(bytes), formatBytes(minimum)
	switch {
	case !known:
		return unknown
	case exact:
		return estimate
	case minimum == 0 || atLeast == estimate:
		return "about " + estimate
	}
	return fmt.Sprintf("about %s (at least %s)", estimate, atLeast)
}

func formatAge(at model.Optional[time.Time], now time.Time) string {
	then, known := at.Get()
	if !known {
		return "never"
	}
	return formatDuration(now.Sub(then)) + " ago"
}

func formatDuration(d time.Duration) string {
	d = max(d, 0) // clocks differ
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d/day))
	}
}

func formatLatency(latency model.Optional[time.Duration]) string {
	return formatOptional(latency, func(d time.Duration) string {
		switch {
		case d < time.Millisecond:
			return "under 1 ms"
		case d < time.Second:
			return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
		default:
			return fmt.Sprintf("%.1f s", d.Seconds())
		}
	})
}

// label returns a resource, collector or count as a reader sees it.
func label[S ~string](name S) string { return strings.ReplaceAll(string(name), "_", " ") }
