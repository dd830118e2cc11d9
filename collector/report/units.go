package report

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"docker_buildup_exporter/collector/model"
)

const unknown = "unknown"

// Bytes writes a size as the Docker CLI does, but for the space: 1.234 GB.
func Bytes(n *int64) string {
	if n == nil {
		return unknown
	}
	size := float64(*n)
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	i := 0
	for math.Abs(size) >= 1000 && i < len(units)-1 {
		size /= 1000
		i++
	}
	return fmt.Sprintf("%.4g %s", size, units[i])
}

// Percent writes a share, rounded down: what is below a threshold must look so.
func Percent(share *float64) string {
	if share == nil {
		return unknown
	}
	return fmt.Sprintf("%.1f %%", math.Floor(*share*1000+1e-9)/10)
}

// String writes what is freed as a person would say it.
func (r Reclaimable) String() string {
	if r.Bytes != nil && r.Exact != nil && !*r.Exact {
		return "at least " + Bytes(r.Bytes)
	}
	return Bytes(r.Bytes)
}

func number(n *int) string {
	if n == nil {
		return unknown
	}
	return strconv.Itoa(*n)
}

// since tells how long ago something was, in the largest unit that fits.
func since(at *time.Time, now time.Time) string {
	if at == nil {
		return "never"
	}
	return duration(now.Sub(*at)) + " ago"
}

func duration(d time.Duration) string {
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

// took tells how long an answer took.
func took(seconds *float64) string {
	switch {
	case seconds == nil:
		return unknown
	case *seconds < 0.001:
		return "under 1 ms"
	case *seconds < 1:
		return fmt.Sprintf("%.0f ms", *seconds*1000)
	default:
		return fmt.Sprintf("%.1f s", *seconds)
	}
}

// title is a name of the metrics in words.
func title[S ~string](name S) string {
	switch string(name) {
	case "build_cache":
		return "build cache"
	case "container_sizes":
		return "container sizes"
	case "in_use":
		return "in use"
	case string(model.UnderHour):
		return "under 1 hour"
	case string(model.UnderDay):
		return "1 hour to 1 day"
	case string(model.UnderWeek):
		return "1 to 7 days"
	case string(model.UnderMonth):
		return "7 to 30 days"
	case string(model.OverMonth):
		return "30 days and more"
	}
	return string(name)
}
