package engine

import (
	"net/http"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// Podman is noted once in the log, whatever happens to it. Its prunes are not reported, not even
// while it is away.
func TestPodman(t *testing.T) {
	runWithEvents(t, "podman-4.3", everything(), func(f *fixture, events eventStream) {
		const note = `level=INFO msg="the engine is Podman: reclaimable bytes and prunes are not reported"`
		events.send("volume prune v")
		away := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
		for _, answer := range []http.HandlerFunc{nil, away, nil} {
			f.Answer("/_ping", answer)
			time.Sleep(scrapeInterval)
			s := f.scrape()
			engine, known := s.Engine.Get()
			if s.Up != (answer == nil) || known != s.Up || engine.Podman != s.Up {
				t.Errorf("up %v, engine %+v", s.Up, engine)
			}
			if s.Prunes != nil {
				t.Errorf("up %v: prunes %+v", s.Up, s.Prunes)
			}
			f.logged(1, note)
		}
		if figures := f.summary(); len(figures.Reclaimable) > 0 || figures.Counts.Images.Dangling != model.Known(1) {
			t.Errorf("reclaimable %v, dangling images %v", figures.Reclaimable, figures.Counts.Images.Dangling)
		}
		f.SwitchTo(testdata + "20.10-overlay2")
		time.Sleep(resyncInterval)
		s := f.scrape()
		if engine, _ := s.Engine.Get(); engine.Podman || len(s.Prunes) != len(model.Resources()) || s.Prunes[2].Count != 0 {
			t.Errorf("after Docker has taken its place: %+v, prunes %+v", engine, s.Prunes)
		}
	})
}
