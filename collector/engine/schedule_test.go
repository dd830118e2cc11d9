package engine

import (
	"testing"
	"time"
)

// at returns a moment, d after the start of the tests that have no clock.
func at(d time.Duration) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(d)
}

func TestScheduleIsDue(t *testing.T) {
	t.Parallel()
	ratio := BusyRatio{Unchanged: 0.005, Changed: 0.1}
	const second = time.Second
	slow := schedule{known: true, took: 2 * second, ended: at(0)}
	stale, failed, failedTwice, failedFast, unknown, unlimited := slow, slow, slow, slow, slow, slow
	stale.stale = true
	failed.failures = 1
	failedTwice.failures = 2
	failedFast.failures, failedFast.took = 1, time.Millisecond
	unknown.known, unknown.failures = false, 3
	tests := []struct {
		name     string
		schedule schedule
		ratio    BusyRatio
		at       time.Duration // since the last one ended
		want     bool
	}{
		{"never requested", schedule{}, ratio, 0, true},
		{"in flight for the first time", schedule{inFlight: true}, ratio, time.Hour, false},
		{"in flight", schedule{inFlight: true, ended: at(0), known: true}, ratio, time.Hour, false},
		{"fast", schedule{ended: at(0), known: true, took: fastRequest - 1}, ratio, 0, true},
		{"not fast", schedule{ended: at(0), known: true, took: fastRequest}, ratio, second, false},
		{"not fast, ratio reached", schedule{ended: at(0), known: true, took: fastRequest}, ratio, 100 * second, false},
		{"not fast, below the ratio", schedule{ended: at(0), known: true, took: fastRequest}, ratio, 101 * second, true},
		{"slow, ratio reached", slow, ratio, 400 * second, false},
		{"slow, below the ratio", slow, ratio, 401 * second, true},
		{"slow and stale, ratio reached", stale, ratio, 20 * second, false},
		{"slow and stale, below the ratio", stale, ratio, 21 * second, true},
		{"fast and stale", schedule{ended: at(0), known: true, stale: true}, ratio, 0, true},
		{"no limit", unlimited, BusyRatio{1, 1}, 0, true},
		{"nearly no limit", unlimited, BusyRatio{0.999, 1}, 2 * second, false},
		{"no limit after a change", stale, BusyRatio{0.005, 1}, 0, true},
		{"no limit without a change", stale, BusyRatio{1, 0.1}, 20 * second, false},
		{"failed, in back-off", failed, ratio, second - 1, false},
		{"failed, after the back-off, ratio reached", failed, ratio, 20 * second, false},
		{"failed, after the back-off, below the ratio of changes", failed, ratio, 21 * second, true},
		{"failed, was fast, in back-off", failedFast, ratio, second - 1, false},
		{"failed, was fast, after the back-off", failedFast, ratio, second, true},
		{"failed twice, in back-off", failedTwice, BusyRatio{1, 1}, 2*second - 1, false},
		{"failed twice, after the back-off", failedTwice, BusyRatio{1, 1}, 2 * second, true},
		{"never succeeded, in back-off", unknown, ratio, 4*second - 1, false},
		{"never succeeded: the duration of a failure is not a cost", unknown, ratio, 4 * second, true},
	}
	for _, test := range tests {
		if got := test.schedule.isDue(at(test.at), fastRequest, test.ratio); got != test.want {
			t.Errorf("%s: due after %v: %v, want %v", test.name, test.at, got, test.want)
		}
	}
}

func TestScheduleIsFast(t *testing.T) {
	t.Parallel()
	tests := []struct {
		schedule schedule
		want     bool
	}{
		{schedule{}, false},
		{schedule{known: true}, true},
		{schedule{known: true, took: fastContainerList - 1}, true},
		{schedule{known: true, took: fastContainerList}, false},
		{schedule{known: true, failures: 1}, false},
		{schedule{known: true, stale: true, timeouts: 1}, true},
	}
	for _, test := range tests {
		if got := test.schedule.isFast(fastContainerList); got != test.want {
			t.Errorf("%+v: fast: %v, want %v", test.schedule, got, test.want)
		}
	}
}

func TestScheduleTimeout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		schedule schedule
		first    time.Duration
		want     time.Duration
	}{
		{"first", schedule{}, 0, 30 * time.Second},
		{"first of a walk through files", schedule{}, maxTimeout, 10 * time.Minute},
		{"fast", schedule{known: true, took: time.Millisecond}, 0, 30 * time.Second},
		{"not the first of a walk through files", schedule{known: true, took: time.Millisecond}, maxTimeout, 30 * time.Second},
		{"3 s", schedule{known: true, took: 3 * time.Second}, 0, 30 * time.Second},
		{"4 s", schedule{known: true, took: 4 * time.Second}, 0, 40 * time.Second},
		{"59 s", schedule{known: true, took: 59 * time.Second}, 0, 590 * time.Second},
		{"60 s", schedule{known: true, took: 60 * time.Second}, 0, 10 * time.Minute},
		{"1 h", schedule{known: true, took: time.Hour}, 0, 10 * time.Minute},
		{"one timeout", schedule{known: true, timeouts: 1}, 0, time.Minute},
		{"two timeouts", schedule{timeouts: 2}, 0, 2 * time.Minute},
		{"two timeouts of 4 s", schedule{known: true, took: 4 * time.Second, timeouts: 2}, 0, 160 * time.Second},
		{"four timeouts", schedule{timeouts: 4}, 0, 8 * time.Minute},
		{"five timeouts", schedule{timeouts: 5}, 0, 10 * time.Minute},
		{"a thousand timeouts", schedule{timeouts: 1000}, maxTimeout, 10 * time.Minute},
		{"failures that are no timeouts", schedule{known: true, failures: 9}, 0, 30 * time.Second},
	}
	for _, test := range tests {
		if got := test.schedule.timeout(test.first); got != test.want {
			t.Errorf("%s: timeout %v, want %v", test.name, got, test.want)
		}
	}
}

func TestScheduleBeginAndEnd(t *testing.T) {
	t.Parallel()
	const ok, failed, timedOut = 'o', 'f', 't'
	s := schedule{stale: true}
	steps := []struct {
		outcome rune
		took    time.Duration
		want    schedule
	}{
		{failed, 9 * time.Second, schedule{failures: 1}},
		{timedOut, 30 * time.Second, schedule{failures: 2, timeouts: 1}},
		{ok, 3 * time.Second, schedule{known: true, took: 3 * time.Second}},
		{timedOut, time.Minute, schedule{known: true, took: 3 * time.Second, failures: 1, timeouts: 1}},
		{failed, time.Minute, schedule{known: true, took: 3 * time.Second, failures: 2, timeouts: 1}},
		{ok, 0, schedule{known: true}},
	}
	for i, step := range steps {
		started, ended := at(time.Duration(i)*time.Hour), at(time.Duration(i)*time.Hour+step.took)
		before := s
		s.begin(started)
		before.inFlight, before.started, before.stale = true, started, false
		if s != before {
			t.Fatalf("step %d: begun: %+v, want %+v", i, s, before)
		}
		s.end(ended, step.took, step.outcome != ok, step.outcome == timedOut)
		step.want.started, step.want.ended, step.want.answered = started, ended, started
		if s != step.want {
			t.Fatalf("step %d: ended: %+v, want %+v", i, s, step.want)
		}
	}
}

// TestScheduleStaleInFlight checks that a change during a request outlives the request.
func TestScheduleStaleInFlight(t *testing.T) {
	t.Parallel()
	for _, failed := range []bool{false, true} {
		s := schedule{}
		s.begin(at(0))
		s.stale = true
		s.end(at(time.Second), time.Second, failed, failed)
		if !s.stale {
			t.Errorf("failed %v: the change was lost", failed)
		}
	}
}

func TestScheduleRetryNow(t *testing.T) {
	t.Parallel()
	ratio := BusyRatio{Unchanged: 0.005, Changed: 0.1}
	tests := []struct {
		name     string
		schedule schedule
		want     schedule
		isDue    bool // at once
	}{
		{"never requested", schedule{}, schedule{stale: true}, true},
		{
			"slow", schedule{known: true, took: time.Second, ended: at(0)},
			schedule{known: true, took: time.Second, ended: at(0), stale: true}, false,
		},
		{
			"failed", schedule{known: true, took: time.Second, ended: at(0), failures: 7, timeouts: 3},
			schedule{took: time.Second, stale: true}, true,
		},
		{"never succeeded", schedule{ended: at(0), failures: 1}, schedule{stale: true}, true},
		{
			"in flight after a failure", schedule{inFlight: true, started: at(0), ended: at(0), failures: 1},
			schedule{inFlight: true, started: at(0), stale: true}, false,
		},
	}
	for _, test := range tests {
		s := test.schedule
		s.retryNow()
		if s != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, s, test.want)
		}
		if got := s.isDue(at(0), fastRequest, ratio); got != test.isDue {
			t.Errorf("%s: due at once: %v, want %v", test.name, got, test.isDue)
		}
	}
}

func TestScheduleBackoff(t *testing.T) {
	t.Parallel()
	want := map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 8 * time.Second, 5: 16 * time.Second,
		6: 32 * time.Second, 7: time.Minute, 8: time.Minute, 11: time.Minute, 12: time.Minute, 64: time.Minute, 1 << 20: time.Minute,
	}
	for failures, want := range want {
		if got := backoff(failures); got != want {
			t.Errorf("after %d failures: %v, want %v", failures, got, want)
		}
	}
}
