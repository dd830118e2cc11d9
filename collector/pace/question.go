package pace

import (
	"context"
	"sync"
	"time"
)

// A Question is asked at its pace, and never twice at once.
type Question struct {
	pace    Pace
	timeout time.Duration
	ask     func(context.Context) error

	mu       sync.Mutex
	cheap    time.Duration
	flight   *flight
	answered bool          // at least once since it was forgotten
	changed  bool          // since it was asked
	took     time.Duration // the last time that it came to an end, which was then
	ended    time.Time
}

type flight struct {
	began  time.Time
	done   chan struct{}
	cancel context.CancelFunc
}

// NewQuestion returns a question that is asked by a function, which ends with its
// context, and that after timeout at the latest. The function keeps the answer.
func NewQuestion(pace Pace, timeout time.Duration, ask func(context.Context) error) *Question {
	return &Question{pace: pace, timeout: timeout, ask: ask, cheap: Cheap}
}

// Ask asks if that is due, and waits for the answer if it is worth waiting for:
// if there is none yet, or if it was cheap the last time and still can be. It waits
// until ctx ends at the latest; the question then goes on by itself.
func (q *Question) Ask(ctx context.Context) {
	q.mu.Lock()
	if q.flight == nil && (q.took < q.cheap || q.pace.Due(q.took, time.Since(q.ended), q.changed || !q.answered)) {
		q.begin()
	}
	flight := q.flight
	worthIt := flight != nil && (!q.answered || q.took < q.cheap && time.Since(flight.began) < q.cheap)
	q.mu.Unlock()
	if !worthIt {
		return
	}
	select {
	case <-flight.done:
	case <-ctx.Done():
	}
}

// begin asks in the background. It is called with the lock held.
func (q *Question) begin() {
	ctx, cancel := context.WithTimeout(context.Background(), q.timeout)
	flight := &flight{began: time.Now(), done: make(chan struct{}), cancel: cancel}
	q.flight, q.changed = flight, false
	go func() {
		defer close(flight.done)
		defer cancel()
		err := q.ask(ctx)
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.flight != flight { // forgotten meanwhile
			return
		}
		q.flight, q.ended, q.answered = nil, time.Now(), err == nil
		q.took = q.ended.Sub(flight.began)
	}()
}

// Change says that the answer may have changed since it was asked for.
func (q *Question) Change() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changed = true
}

// HasChanged tells whether something has said so since the question was asked.
func (q *Question) HasChanged() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed
}

// IsCheap tells whether the question is asked whenever somebody wants to know.
func (q *Question) IsCheap() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answered && q.took < q.cheap
}

// CallCheap sets the limit below which the question is asked whenever somebody wants
// to know.
func (q *Question) CallCheap(limit time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cheap = limit
}

// Ended is when the question came to an end the last time; zero if it is under way.
func (q *Question) Ended() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flight != nil {
		return time.Time{}
	}
	return q.ended
}

// Forget ends the question if it is under way: whoever answers next is somebody
// else. It is asked anew as soon as its price allows, so that who comes and goes
// does not pay for it again and again.
func (q *Question) Forget() {
	q.mu.Lock()
	flight := q.flight
	q.flight, q.answered, q.changed = nil, false, false
	if flight != nil {
		q.ended = time.Now()
	}
	q.mu.Unlock()
	if flight != nil {
		flight.cancel()
		<-flight.done
	}
}
