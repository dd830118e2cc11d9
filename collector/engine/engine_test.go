package engine

import (
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		s, took := f.scrapeWithin(9500 * time.Millisecond)
		images, known := s.Images.Get()
		if !s.Up || !known || len(images) == 0 || took != 0 {
			t.Errorf("%v %+v\n%s", took, s, f.log)
		}
		f.Answer("/containers/json", hang)
		s, took = f.scrapeWithin(9500 * time.Millisecond)
		t.Log(took, s.Containers.IsKnown())
		time.Sleep(15 * time.Second)
		s, took = f.scrapeWithin(9500 * time.Millisecond)
		t.Log(took, s.Containers.IsKnown())
		time.Sleep(15 * time.Second)
		s, took = f.scrapeWithin(9500 * time.Millisecond)
		t.Log(took, s.Containers.IsKnown(), collectorOf(s, "containers"))
		t.Log(f.log)
	})
}
