package engine

import (
	"slices"
	"testing"
	"time"
)

// A snapshot names the requests of which there was no outcome yet, successful or not.
func TestPending(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		f.Answer("/images/json", slow(20*time.Second, status(500, "broken")))
		if s := f.scrape(); !slices.Equal(s.Pending, []string{"images"}) || collectorOf(s, "images").Name != "" {
			t.Errorf("pending while the first request is in flight: %q, collectors %+v", s.Pending, s.Collectors)
		}
		time.Sleep(20 * time.Second)
		if s := f.scrape(); len(s.Pending) > 0 {
			t.Errorf("pending after a failure: %q", s.Pending)
		}
	})
}
