package main

import (
	"slices"
	"testing"
)

// What a disk is called is what it does.
func TestKinds(t *testing.T) {
	for _, k := range kinds() {
		for number := range 5 {
			trace := k.trace(number, 30*day)
			if fills := trace.full < 30*day; fills != k.fills {
				t.Errorf("%s %d: full at minute %d of %d", k.name, number, trace.full, 30*day)
			}
			if low := slices.Min(trace.share); !k.fills && low < 0.105 {
				t.Errorf("%s %d: never fills, but down to %.3f", k.name, number, low)
			}
			if k.fills && trace.takes < 15 {
				t.Errorf("%s %d: takes %d minutes", k.name, number, trace.takes)
			}
		}
	}
}

func TestSeeded(t *testing.T) {
	k := kinds()[0]
	one, same, other := k.trace(1, 14*day), k.trace(1, 14*day), k.trace(2, 14*day)
	if !slices.Equal(one.avail, same.avail) || slices.Equal(one.avail, other.avail) {
		t.Error("a trace depends on its seed, and on nothing else")
	}
}
