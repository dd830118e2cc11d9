package dashboards

import "time"

// Thresholds are those of the alert rules.
type Thresholds struct {
	AlmostFull     Shares        // free share of bytes and of inodes, whatever the trend
	Filling        Shares        // free share below which a forecast counts
	FillsWithin    Durations     // the forecast
	StaleAfter     time.Duration // age of a question's last answer, and beside it
	StaleDurations float64       // so many times what the answer took
}

type Shares struct{ Warning, Critical float64 }

type Durations struct{ Warning, Critical time.Duration }

// Defaults are the thresholds of the rules as they are committed.
func Defaults() Thresholds {
	return Thresholds{
		AlmostFull:     Shares{Warning: 0.10, Critical: 0.05},
		Filling:        Shares{Warning: 0.40, Critical: 0.25},
		FillsWithin:    Durations{Warning: 24 * time.Hour, Critical: 4 * time.Hour},
		StaleAfter:     15 * time.Minute,
		StaleDurations: 200,
	}
}
