package engine

import "time"

// BusyRatio is the largest fraction of time that an engine may spend on requests of one kind
// that are not fast. 1 means no limit.
type BusyRatio struct {
	Unchanged float64 // while no change was detected
	Changed   float64 // after a change was detected, or while there is no answer
}

const (
	// fastRequest is the duration below which a request is repeated for every snapshot.
	fastRequest = 500 * time.Millisecond

	// fastContainerList is the same for the container list of the containerd store, which
	// searches all images for each container, on more than one core. Events report nearly
	// everything that it would.
	fastContainerList = fastRequest / 5

	minBackoff = time.Second
	maxBackoff = time.Minute

	minTimeout = 30 * time.Second
	maxTimeout = 10 * time.Minute
)

// schedule is the history of the requests of one kind, and decides when to repeat them.
type schedule struct {
	inFlight bool
	started  time.Time     // of the request in flight, else of the last one
	checked  time.Time     // when there was nothing to request
	ended    time.Time     // of the last one; zero: none since the last reset
	answered time.Time     // when the last one that has ended was started
	known    bool          // there was a success since the last reset
	took     time.Duration // of the last success
	failures int           // since the last success
	timeouts int           // since the last success
	stale    bool          // a change was detected since the last request started
}

// isFast reports whether the request is repeated for every snapshot.
func (s *schedule) isFast(limit time.Duration) bool {
	return s.known && s.failures == 0 && s.took < limit
}

// isDue reports whether to make the request when somebody wants a snapshot.
func (s *schedule) isDue(now time.Time, fast time.Duration, ratio BusyRatio) bool {
	since := now.Sub(s.ended)
	switch {
	case s.inFlight:
		return false
	case s.ended.IsZero():
		return true
	case s.failures > 0 && since < backoff(s.failures):
		return false
	case !s.known, s.isFast(fast):
		return true
	}
	limit := ratio.Unchanged
	if s.stale || s.failures > 0 {
		limit = ratio.Changed
	}
	return limit >= 1 || s.took.Seconds() < limit*since.Seconds()
}

// timeout returns the deadline of the next request: ten times what the last success took,
// and at least first. It doubles after each timeout, so that a request that is merely slow
// succeeds in the end.
func (s *schedule) timeout(first time.Duration) time.Duration {
	timeout := max(minTimeout, 10*s.took)
	if !s.known {
		timeout = max(timeout, first)
	}
	return min(timeout<<min(s.timeouts, 5), maxTimeout)
}

func (s *schedule) begin(now time.Time) {
	s.inFlight, s.started, s.stale = true, now, false
}

// again makes the snapshots that are waited for wait for another request.
func (s *schedule) again() { s.started, s.answered = time.Time{}, time.Time{} }

// end takes the outcome of the request in flight.
func (s *schedule) end(now time.Time, took time.Duration, failed, timedOut bool) {
	s.inFlight, s.ended, s.answered = false, now, s.started
	if !failed {
		s.known, s.took, s.failures, s.timeouts = true, took, 0, 0
		return
	}
	s.failures++
	if timedOut {
		s.timeouts++
	}
}

// retryNow drops the back-off, because something has changed on the other side.
func (s *schedule) retryNow() {
	s.stale = true
	if s.failures > 0 {
		s.failures, s.timeouts, s.known = 0, 0, false
		s.ended = time.Time{}
	}
}

// backoff returns the time to wait after the given number of failures in a row.
func backoff(failures int) time.Duration {
	return min(minBackoff<<min(failures-1, 10), maxBackoff)
}
