package model

import (
	"reflect"
	"testing"
	"time"
)

func TestCountContainers(t *testing.T) {
	got := CountContainers([]Container{
		{ID: "1", State: Running}, {ID: "2", State: Running}, {ID: "3", State: "hibernating"},
	})
	want := map[State]int{
		Created: 0, Running: 2, Paused: 0, Restarting: 0, Removing: 0, Exited: 0, Dead: 0,
		"hibernating": 1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCountStopped(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) Optional[time.Time] { return Known(at.Add(-d)) }
	const day = 24 * time.Hour
	spans := []struct {
		ago  time.Duration
		want StoppedFor
	}{
		{-time.Minute, UnderHour}, // the engine's clock is ahead
		{0, UnderHour},
		{time.Hour - 1, UnderHour},
		{time.Hour, UnderDay},
		{day - 1, UnderDay},
		{day, UnderWeek},
		{7 * day, UnderMonth},
		{30*day - 1, UnderMonth},
		{30 * day, OverMonth},
		{3000 * day, OverMonth},
	}
	for _, state := range append(States(), "invented") {
		for _, span := range spans {
			count, known := CountStopped([]Container{{ID: "1", State: state, StoppedAt: ago(span.ago)}}, at).Get()
			want := 0
			if state == Created || state == Exited || state == Dead {
				want = 1
			}
			if !known || count[span.want] != want || len(count) != 5 {
				t.Errorf("%s for %v: got %v, want %d in %s", state, span.ago, count, want, span.want)
			}
		}
	}

	// Of one that runs nothing need be known; of one that is stopped all must be.
	running := Container{ID: "1", State: Running}
	stopped := Container{ID: "2", State: Exited, StoppedAt: ago(day)}
	unknown := Container{ID: "3", State: Exited}
	if _, known := CountStopped([]Container{running, stopped}, at).Get(); !known {
		t.Error("unknown, although all is known of what is stopped")
	}
	if _, known := CountStopped([]Container{running, stopped, unknown}, at).Get(); known {
		t.Error("known, although it is not known when one of them stopped")
	}
}
