package report

import (
	"math"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1 kB", 1536: "1.536 kB", 52_310_000_000: "52.31 GB", math.MaxInt64: "9.223 EB",
	} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if got := formatSize(model.Optional[int64]{}); got != "unknown" {
		t.Errorf("unknown: %q", got)
	}
}

func TestFormatShare(t *testing.T) {
	for share, want := range map[float64]string{0: "0.0 %", 0.0999999: "9.9 %", 0.1: "10.0 %", 0.2: "20.0 %", 0.29: "29.0 %", 1: "100.0 %"} {
		if got := formatShare(model.Known(share)); got != want {
			t.Errorf("%v: %q, want %q", share, got, want)
		}
	}
}

// A minimum of 0 bytes is unknown, an exact 0 is not.
func TestReclaimableString(t *testing.T) {
	reclaimable := func(bytes, minimum int64, exact bool) Reclaimable {
		return Reclaimable{model.Known(bytes), model.Known(minimum), model.Known(exact)}
	}
	for _, test := range []struct {
		reclaimable Reclaimable
		want        string
	}{
		{reclaimable(5*gb, 5*gb, true), "5 GB"},
		{reclaimable(5*gb, 3*gb, false), "about 5 GB (at least 3 GB)"},
		{reclaimable(5*gb, 0, false), "about 5 GB"},
		{reclaimable(5*gb, 5*gb-1, false), "about 5 GB"},
		{reclaimable(0, 0, true), "0 B"},
		{reclaimable(0, 0, false), "about 0 B"},
		{Reclaimable{}, "unknown"},
	} {
		if got := test.reclaimable.String(); got != test.want {
			t.Errorf("%+v: %q, want %q", test.reclaimable, got, test.want)
		}
	}
}

func TestFormatAge(t *testing.T) {
	for ago, want := range map[time.Duration]string{
		-time.Second: "0 s ago", 119 * time.Second: "119 s ago", 2 * time.Minute: "2 min ago", 3 * time.Hour: "3 h ago", 50 * time.Hour: "2 days ago",
	} {
		if got := formatAge(model.Known(now.Add(-ago)), now); got != want {
			t.Errorf("%v: %q, want %q", ago, got, want)
		}
	}
	if got := formatAge(model.Optional[time.Time]{}, now); got != "never" {
		t.Errorf("unknown: %q", got)
	}
}

func TestFormatLatency(t *testing.T) {
	for latency, want := range map[time.Duration]string{
		0: "under 1 ms", time.Millisecond: "1 ms", 84 * time.Millisecond: "84 ms", time.Second: "1.0 s", 90 * time.Second: "90.0 s",
	} {
		if got := formatLatency(model.Known(latency)); got != want {
			t.Errorf("%v: %q, want %q", latency, got, want)
		}
	}
}
