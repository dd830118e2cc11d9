package pace

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestDue(t *testing.T) {
	p := Pace{Idle: 0.005, Change: 0.1}
	tests := []struct {
		name        string
		pace        Pace
		took, since time.Duration
		changed     bool
		want        bool
	}{
		{"not at once", p, time.Millisecond, 0, false, false},
		{"dear and idle: not before 200 times as long", p, time.Second, 200 * time.Second, false, false},
		{"dear and idle: after that", p, time.Second, 201 * time.Second, false, true},
		{"dear and changed: not before 10 times as long", p, time.Second, 10 * time.Second, true, false},
		{"dear and changed: after that", p, time.Second, 11 * time.Second, true, true},
		{"a share of 1 is no limit", Pace{Idle: 1, Change: 1}, time.Hour, 0, false, true},
		{"a share of 0 is never", Pace{}, time.Second, 1000 * time.Hour, true, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.pace.Due(test.took, test.since, test.changed); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// ask asks as a scrape does that is hurried after 9.5 seconds, and tells how long it took.
func ask(q *Question) time.Duration {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 9500*time.Millisecond)
	defer cancel()
	q.Ask(ctx)
	return time.Since(start)
}

func TestQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		price := 100 * time.Millisecond
		var err error
		asked := 0
		q := NewQuestion(Pace{Idle: 0.005, Change: 0.1}, 10*time.Minute, func(ctx context.Context) error {
			asked++
			select {
			case <-time.After(price):
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		step := func(what string, wantAsked int, wantWait time.Duration) {
			t.Helper()
			wait := ask(q)
			synctest.Wait()
			if asked != wantAsked || wait != wantWait {
				t.Errorf("%s: asked %d times, waited %v; want %d, %v", what, asked, wait, wantAsked, wantWait)
			}
		}

		step("cheap", 1, price)
		step("cheap again", 2, price)
		price = 20 * time.Second
		step("it becomes dear: goes on behind", 3, 9500*time.Millisecond)
		step("never twice at once, and no longer worth waiting for", 3, 0)
		time.Sleep(time.Minute)
		step("dear: not due", 3, 0)
		q.Change()
		step("dear and changed: not yet due", 3, 0)
		time.Sleep(200 * time.Second)
		step("dear, changed and due: nobody waits", 4, 0)
		time.Sleep(400 * time.Second)
		step("the change is over", 4, 0)
		time.Sleep(4000 * time.Second)
		err = errors.New("no")
		step("idle and due", 5, 0)
		time.Sleep(20*time.Second + 201*time.Second)
		step("a failure is asked again as a change is, and waited for", 6, 9500*time.Millisecond)
		q.Forget()
		err, price = nil, time.Second
		step("forgotten: not before its price allows", 6, 0)
		time.Sleep(201 * time.Second)
		step("then it is waited for, as at first", 7, time.Second)
		time.Sleep(time.Hour)
		q.Forget()
		step("and at once if the last time is long ago", 8, time.Second)
		q.CallCheap(2 * time.Second)
		step("what is called cheap is asked at once", 9, time.Second)
		q.CallCheap(price)
		step("and what is not, is not", 9, 0)
	})
}

// Whoever forgets a question waits until it is over: nothing is left behind.
func TestForgetEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		q := NewQuestion(Pace{Idle: 1, Change: 1}, time.Hour, func(ctx context.Context) error {
			<-ctx.Done()
			ended.Store(true)
			return ctx.Err()
		})
		ask(q)
		q.Forget()
		if !ended.Load() {
			t.Error("it goes on")
		}
	})
}
