package host

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestReadHangs checks that what hangs costs its deadline once, and that its late answer is not used.
func TestReadHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, release := New(nil, nil), make(chan struct{})
		within := func(limit time.Duration, answer int) (int, time.Duration, error) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			started := time.Now()
			got, err := read(ctx, f, "x", func() (int, error) { <-release; return answer, nil })
			return got, time.Since(started), err
		}
		if _, took, err := within(time.Second, 1); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("first: %v after %v", err, took)
		}
		if _, took, err := within(time.Hour, 2); !errors.Is(err, context.DeadlineExceeded) || took != 0 {
			t.Errorf("while it hangs: %v after %v", err, took)
		}
		close(release)
		synctest.Wait()
		if got, _, err := within(time.Second, 3); got != 3 || err != nil {
			t.Errorf("afterwards: %d, %v", got, err)
		}
	})
}
