package main

import (
	"slices"
	"testing"
)

// TestUnseenKinds checks that there are many, that each has a name of its own, and that disks
// fill if and only if their kind says so.
func TestUnseenKinds(t *testing.T) {
	names, fills := map[string]bool{}, 0
	for _, k := range slices.Concat(kinds(), unseenKinds()) {
		if names[k.name] {
			t.Errorf("two kinds are called %s", k.name)
		}
		names[k.name] = true
	}
	all := unseenKinds()
	for _, k := range all {
		fills += count(k.fills)
		for number := range 2 {
			trace := k.trace(number, k.days*day)
			if (trace.fullAt < k.days*day) != k.fills || (trace.fillMinutes > 0) != k.fills {
				t.Errorf("%s %d: full at minute %d of %d, after %d", k.name, number, trace.fullAt, k.days*day, trace.fillMinutes)
			}
			if low := slices.Min(trace.freeRatio); !k.fills && low < 0.02 {
				t.Errorf("%s %d: never fills, but its free ratio falls to %.3f", k.name, number, low)
			}
			if k.fills && !trace.up[trace.fullAt-1] && !trace.up[trace.fullAt-5] {
				t.Errorf("%s %d: is full while it is not scraped", k.name, number)
			}
		}
	}
	if len(all) < 60 || fills < len(all)*2/5 || fills > len(all)*3/5 {
		t.Errorf("%d kinds, of which %d fill", len(all), fills)
	}
}

// TestKinds checks that disks fill if and only if their kind says so, and not too soon.
func TestKinds(t *testing.T) {
	for _, k := range kinds() {
		for number := range 5 {
			trace := k.trace(number, 30*day)
			if fills := trace.fullAt < 30*day; fills != k.fills {
				t.Errorf("%s %d: full at minute %d of %d", k.name, number, trace.fullAt, 30*day)
			}
			if low := slices.Min(trace.freeRatio); !k.fills && low < 0.08 {
				t.Errorf("%s %d: never fills, but its free ratio falls to %.3f", k.name, number, low)
			}
			if k.fills && trace.fillMinutes < 15 {
				t.Errorf("%s %d: fills within %d minutes", k.name, number, trace.fillMinutes)
			}
		}
	}
}

func TestSeeded(t *testing.T) {
	k := kinds()[0]
	one, same, other := k.trace(1, 14*day), k.trace(1, 14*day), k.trace(2, 14*day)
	if !slices.Equal(one.avail, same.avail) || slices.Equal(one.avail, other.avail) {
		t.Error("traces must be equal for equal seeds only")
	}
}
