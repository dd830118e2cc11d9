package report

import (
	"math"
	"testing"
	"time"
)

func nan() float64 { return math.NaN() }

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1 kB", 1536: "1.536 kB", 52_310_000_000: "52.31 GB", math.MaxInt64: "9.223 EB", -1500: "-1.5 kB",
	} {
		if got := Bytes(&n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if got := Bytes(nil); got != "unknown" {
		t.Errorf("unknown: %q", got)
	}
}

func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "0.0 %", 0.0999999: "9.9 %", 0.1: "10.0 %", 0.2: "20.0 %", 0.29: "29.0 %", 1: "100.0 %"} {
		if got := Percent(&share); got != want {
			t.Errorf("%v: %q, want %q", share, got, want)
		}
	}
}

func TestReclaimable(t *testing.T) {
	yes, no := true, false
	n := int64(5 * gb)
	for want, r := range map[string]Reclaimable{"5 GB": {&n, &yes}, "at least 5 GB": {&n, &no}, "unknown": {}} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSince(t *testing.T) {
	for ago, want := range map[time.Duration]string{
		-time.Second: "0 s ago", 119 * time.Second: "119 s ago", 2 * time.Minute: "2 min ago", 3 * time.Hour: "3 h ago", 50 * time.Hour: "2 days ago",
	} {
		then := now.Add(-ago)
		if got := since(&then, now); got != want {
			t.Errorf("%v: %q, want %q", ago, got, want)
		}
	}
	if got := since(nil, now); got != "never" {
		t.Errorf("never: %q", got)
	}
}
