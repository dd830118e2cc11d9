package engine

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// finishedAt is when containers of the fake engine stopped.
func finishedAt(t *testing.T) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, dockertest.FinishedAt)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// A stopped container is measured and inspected once for each stop, any other container is
// measured for each scrape.
func TestStoppedContainersAreMeasuredOnce(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		var s model.Snapshot
		for range 3 {
			s = f.scrapeAfter(time.Second)
		}
		running, stopped, never := 0, 0, 0
		containers, _ := s.Containers.Get()
		for _, c := range containers {
			switch {
			case !c.State.Stopped():
				running++
			case c.State == model.Created:
				never++ // the list has the time
			default:
				stopped++
				if c.StoppedAt != model.Known(finishedAt(t)) && !finishedAt(t).Equal(knownTime(t, c)) {
					t.Errorf("%s stopped at %v", c.ID, c.StoppedAt)
				}
			}
			if c.Size != model.Known[int64](100) || c.ImageSize != model.Known[int64](1000) || c.Failed {
				t.Errorf("%s container %s: %+v, want 100 bytes on 1000", c.State, c.ID, c)
			}
		}
		if n := f.requested("?size=1"); n != 3*running+stopped+never || running*stopped == 0 {
			t.Errorf("measured %d containers in 3 scrapes, want %d stopped ones once and %d others each time", n, stopped+never, running)
		}
		inspected := 0
		for _, request := range f.Requests() {
			if strings.Contains(request, "/containers/") && strings.HasSuffix(request, "/json") {
				inspected++
			}
		}
		if inspected != stopped {
			t.Errorf("inspected %d containers, want %d", inspected, stopped)
		}
	})
}

func knownTime(t *testing.T, c model.Container) time.Time {
	t.Helper()
	at, known := c.StoppedAt.Get()
	if !known {
		t.Errorf("it is unknown when %s stopped", c.ID)
	}
	return at
}

// With the containerd store a dead container has lost its writable layer, and the request for
// its size fails as if the container did not exist.
func TestDeadContainer(t *testing.T) {
	run(t, "api-1.51-containerd", everything(), func(f *fixture) {
		f.reply("/containers/json", `[{"Id":"dead","ImageID":"a","State":"dead"},{"Id":"removing","ImageID":"a","State":"removing"}]`)
		for _, state := range []string{"dead", "removing"} {
			f.Answer("/containers/"+state+"/json", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("size") == "1" {
					status(404, `{"message":"rw layer snapshot not found for container"}`)(w, r)
					return
				}
				fmt.Fprintf(w, `{"Id":%[1]q,"Image":"a","Created":%[2]q,"State":{"Status":%[1]q,"FinishedAt":%[2]q},"Config":{"Image":"a"}}`, state, dockertest.FinishedAt)
			})
		}
		s := f.scrape()
		if c := containerOf(s, "dead"); c.Size != model.Known[int64](0) || c.Failed {
			t.Errorf("a dead container: %+v, want 0 bytes", c)
		}
		if c := containerOf(s, "removing"); c.ID == "" || c.Size.IsKnown() || c.Failed {
			t.Errorf("a container that is being removed: %+v, want an unknown size", c)
		}
		if !collectorOf(s, "container_sizes").Success {
			t.Errorf("got %+v", s.Collectors)
		}
		f.logged(0, "\n")
	})
}

// A container that is removed between the list and its inspection or measurement is not a
// failure.
func TestContainerIsRemovedMeanwhile(t *testing.T) {
	const removed = `{"message":"No such container: c"}`
	for _, removedAt := range []string{"inspection", "measurement"} {
		run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
			f.reply("/containers/json", `[{"Id":"c","State":"exited"},{"Id":"d","State":"running"}]`)
			f.Answer("/containers/c/json", func(w http.ResponseWriter, r *http.Request) {
				if removedAt == "inspection" || r.URL.Query().Get("size") == "1" {
					status(404, removed)(w, r)
					return
				}
				fmt.Fprintf(w, `{"Id":"c","State":{"Status":"exited","FinishedAt":%q}}`, dockertest.FinishedAt)
			})
			f.reply("/containers/d/json", `{"Id":"d","State":{"Status":"running"},"SizeRw":3}`)
			s := f.scrape()
			if c := containerOf(s, "c"); (c.ID != "") != (removedAt == "measurement") || c.Size.IsKnown() || c.Failed {
				t.Errorf("removed before its %s: %+v", removedAt, c)
			}
			if c := containerOf(s, "d"); c.Size != model.Known[int64](3) {
				t.Errorf("removed before its %s: the other one is %+v", removedAt, c)
			}
			for _, name := range []string{"containers", "container_sizes"} {
				if !collectorOf(s, name).Success {
					t.Errorf("removed before its %s: %+v", removedAt, s.Collectors)
				}
			}
			f.logged(0, "\n")
		})
	}
}

// TestContainerIsDenied checks that a container that one list after the other has, and that the
// engine denies each time, counts, and is named in the log.
func TestContainerIsDenied(t *testing.T) {
	for _, query := range []string{"", "size=1"} {
		run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
			f.reply("/containers/json", `[{"Id":"c","State":"exited"}]`)
			f.Answer("/containers/c/json", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery == query {
					status(404, `{"message":"No such container: c"}`)(w, r)
					return
				}
				fmt.Fprintf(w, `{"Id":"c","State":{"Status":"exited","FinishedAt":%q},"SizeRw":3}`, dockertest.FinishedAt)
			})
			f.scrape()
			for range 3 {
				s := f.scrapeAfter(time.Minute)
				if c := containerOf(s, "c"); c.ID == "" || !c.Failed {
					t.Errorf("?%s: %+v", query, c)
				}
			}
			f.logged(1, "\n", "container c: ", "No such container: c")
			f.reply("/containers/json", `[]`)
			f.scrapeAfter(time.Minute)
			f.logged(1, "msg=recovered")
		})
	}
}

// A container whose requests fail or hang is named in the log and left out. The others are
// inspected and measured, and it is tried again after a back-off.
func TestOneContainerFails(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		size   bool // fails, not the inspection
		reason string
	}{
		"inspection fails":               {status(500, "cannot read it"), false, "container c1: cannot read it"},
		"inspection hangs":               {hang, false, "container c1: no answer in time"},
		"inspection denied by a proxy":   {status(404, "page not found"), false, "container c1: page not found"},
		"inspection of another one":      {replyWith(`{"Id":"c9","State":{"Status":"exited"}}`), false, "container c1: the answer cannot be decoded"},
		"inspection without a state":     {replyWith(`{"Id":"c1"}`), false, "container c1: the answer cannot be decoded"},
		"inspection without a stop time": {replyWith(`{"Id":"c1","State":{"Status":"exited"}}`), false, "container c1: FinishedAt is not a time"},
		"size fails":                     {status(500, "cannot walk it"), true, "container c1: cannot walk it"},
		"size hangs":                     {hang, true, "container c1: no answer in time"},
		"size denied by a proxy":         {status(404, "page not found"), true, "container c1: page not found"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
				f.reply("/containers/json", `[{"Id":"c1","State":"exited"},{"Id":"c2","State":"exited"},{"Id":"c3","State":"running"}]`)
				answer := func(id, state string) http.HandlerFunc {
					return replyWith(fmt.Sprintf(`{"Id":%q,"State":{"Status":%q,"FinishedAt":%q},"SizeRw":3}`, id, state, dockertest.FinishedAt))
				}
				f.Answer("/containers/c2/json", answer("c2", "exited"))
				f.Answer("/containers/c3/json", answer("c3", "running"))
				f.Answer("/containers/c1/json", func(w http.ResponseWriter, r *http.Request) {
					if test.size && r.URL.Query().Get("size") != "1" {
						answer("c1", "exited")(w, r)
						return
					}
					test.answer(w, r)
				})
				var s model.Snapshot
				for range 10 {
					var took time.Duration
					if s, took = f.scrapeWithin(9500 * time.Millisecond); took > 5*time.Second {
						t.Errorf("a scrape took %v", took)
					}
					time.Sleep(6 * time.Second)
				}
				bad := containerOf(s, "c1")
				if !bad.Failed || bad.Size.IsKnown() || bad.StoppedAt.IsKnown() != test.size {
					t.Errorf("got %+v, want a failed one without a size", bad)
				}
				for _, id := range []string{"c2", "c3"} {
					if c := containerOf(s, id); c.Size != model.Known[int64](3) || c.Failed || c.StoppedAt.IsKnown() != (id == "c2") {
						t.Errorf("got %+v, want everything known", c)
					}
				}
				collector, operation := "containers", "inspect containers"
				if test.size {
					collector, operation = "container_sizes", "measure containers"
				}
				if collectorOf(s, collector).Success {
					t.Errorf("got %+v, want a failure of %s", s.Collectors, collector)
				}
				f.logged(1, "\n", "cannot "+operation, test.reason)

				f.Answer("/containers/c1/json", answer("c1", "exited"))
				time.Sleep(time.Minute)
				f.settle()
				f.scrapeAfter(time.Minute)
				s = f.settle()
				if c := containerOf(s, "c1"); c.Failed || c.Size != model.Known[int64](3) || !c.StoppedAt.IsKnown() {
					t.Errorf("at last: %+v", c)
				}
				if !collectorOf(s, "containers").Success || !collectorOf(s, "container_sizes").Success {
					t.Errorf("at last: %+v", s.Collectors)
				}
				f.logged(1, `msg=recovered operation="`+operation+`"`)
			})
		})
	}
}

// A stopped container is not measured before it is known when it stopped: nothing would say
// for how long the size is valid.
func TestStopTimeUnknown(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		f.reply("/containers/json", `[{"Id":"c","State":"exited"}]`)
		for _, finished := range []string{"", dockertest.FinishedAt} {
			f.reply("/containers/c/json", fmt.Sprintf(`{"Id":"c","State":{"Status":"exited","FinishedAt":%q},"SizeRw":3}`, finished))
			a := prune.Summarize(f.scrapeAfter(2*time.Second), 0)
			size, known := containerOf(a.Snapshot, "c").Size.Get()
			if known != (finished != "") || known && size != 3 || containerOf(a.Snapshot, "c").Failed == known {
				t.Errorf("finished at %q: %+v", finished, containerOf(a.Snapshot, "c"))
			}
			if n := f.requested("?size=1"); (n > 0) != (finished != "") {
				t.Errorf("finished at %q: measured %d times", finished, n)
			}
		}
	})
}

// The size of a container while it ran is not its size since it has stopped, whether or not
// the engine reports when that was.
func TestSizeBelongsToState(t *testing.T) {
	at, later := model.Known(time.Unix(1, 0)), model.Known(time.Unix(2, 0))
	for _, test := range []struct {
		then, now model.Container
		valid     bool
	}{
		{model.Container{State: model.Running}, model.Container{State: model.Running}, true},
		{model.Container{State: model.Running}, model.Container{State: model.Paused}, true},
		{model.Container{State: model.Running}, model.Container{State: model.Exited}, false},
		{model.Container{State: model.Exited}, model.Container{State: model.Running}, false},
		{model.Container{State: model.Exited, StoppedAt: at}, model.Container{State: model.Exited, StoppedAt: at}, true},
		{model.Container{State: model.Exited, StoppedAt: at}, model.Container{State: model.Exited, StoppedAt: later}, false},
		{model.Container{State: model.Exited, StoppedAt: at}, model.Container{State: model.Exited}, false},
		{model.Container{State: model.Exited}, model.Container{State: model.Exited, StoppedAt: at}, false},
	} {
		d := detail{size: model.Known(measuredSize{Writable: model.Known[int64](1)}), sizeFrom: test.then}
		if _, known := d.sizeOf(test.now).Get(); known != test.valid {
			t.Errorf("%+v and then %+v: the size is known: %v", test.then, test.now, known)
		}
	}
}

// A container that has run again is measured again.
func TestStoppedAgain(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		for i, step := range []struct {
			state, finished string
			want            model.Optional[int64]
		}{
			{"exited", "2025-01-01T00:00:00Z", model.Known[int64](1)},
			{"running", "2025-01-01T00:00:00Z", model.Known[int64](2)},
			{"exited", "2025-01-02T00:00:00Z", model.Known[int64](3)},
			{"exited", "2025-01-02T00:00:00Z", model.Known[int64](3)}, // not measured again
		} {
			f.reply("/containers/json", fmt.Sprintf(`[{"Id":"c","State":%q}]`, step.state))
			f.reply("/containers/c/json", fmt.Sprintf(`{"Id":"c","State":{"Status":%q,"FinishedAt":%q},"HostConfig":{"LogConfig":{"Type":"none"}},"SizeRw":%d}`, step.state, step.finished, i+1))
			c := containerOf(f.scrapeAfter(time.Second), "c")
			if c.Size != step.want || c.StoppedAt.IsKnown() != (step.state == "exited") || (c.KeepsLog == model.Known(false)) != (step.state == "exited") {
				t.Errorf("step %d: %+v, want %+v bytes", i, c, step.want)
			}
			if at, known := c.StoppedAt.Get(); known && at.Format(time.RFC3339) != step.finished {
				t.Errorf("step %d: stopped at %v, want %s", i, at, step.finished)
			}
		}
	})
}

// "docker cp" changes a stopped container, also when it only reads, and so does a start that
// fails: they make mount points in it.
func TestStoppedContainerChanges(t *testing.T) {
	config := everything()
	config.BusyRatio = listedWhenChanged()
	runSlow(t, config, func(e *slowEngine) {
		e.settle()
		for i, event := range []string{"container archive-path c2", "container extract-to-dir c2", "network disconnect n"} {
			if size := containerOf(e.scrape(), "c2").Size; size != model.Known(int64(5+i)) {
				t.Errorf("before %s: %+v bytes, want %d", event, size, 5+i)
			}
			before := e.requested("/c2/json?size=1")
			e.settle()
			if n := e.requested("/c2/json?size=1"); n != before {
				t.Errorf("before %s: measured %d times again", event, n-before)
			}
			e.change(func() { e.size = 6 + i })
			e.events.send(event, "container", "c2")
			synctest.Wait()
			e.scrapeAfter(time.Second)
			e.settle()
			if n := e.requested("/c2/json?size=1"); n != before+1 {
				t.Errorf("after %s: measured %d times, want once", event, n-before)
			}
			action := strings.Fields(event)[1]
			if e.requested("%22"+action+"%22%3Atrue") == 0 || e.requested("%22"+strings.Fields(event)[0]+"%22%3Atrue") == 0 {
				t.Errorf("the events %s are not requested", event)
			}
			time.Sleep(time.Minute)
		}
	})
}

// A size that was being measured when the container changed is not kept.
func TestContainerChangesWhileMeasured(t *testing.T) {
	config := everything()
	config.BusyRatio = BusyRatio{1, 1}
	runSlow(t, config, func(e *slowEngine) {
		e.settle()
		measurements := 0
		e.Answer("/containers/c2/json", func(w http.ResponseWriter, r *http.Request) {
			e.mu.Lock()
			size := e.size
			e.mu.Unlock()
			if r.URL.Query().Get("size") == "1" {
				if measurements++; measurements == 1 {
					sleep(r.Context(), 10*time.Second)
				}
			}
			fmt.Fprintf(w, `{"Id":"c2","Image":"sha256:a","State":{"Status":"exited","FinishedAt":%q},"Config":{"Image":"a:1"},"SizeRw":%d}`, dockertest.FinishedAt, size)
		})
		e.change(func() { e.size = 6 }, "container extract-to-dir c2")
		e.scrapeAfter(time.Second)
		if synctest.Wait(); measurements != 1 {
			t.Fatalf("%d measurements, want 1", measurements)
		}
		e.change(func() { e.size = 4 }, "container extract-to-dir c2")
		for range 30 {
			if size, known := containerOf(e.scrapeAfter(time.Second), "c2").Size.Get(); known && size != 4 {
				t.Fatalf("got %d bytes of before the change", size)
			}
		}
		if size := containerOf(e.scrape(), "c2").Size; size != model.Known[int64](4) || measurements != 2 {
			t.Errorf("%+v bytes after %d measurements, want 4 after 2", size, measurements)
		}
	})
}

// While events are not received, a container that has run again is noticed by its list, and
// not by the stop time of before.
func TestStoppedWithoutEvents(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	runSlow(t, config, func(e *slowEngine) {
		if at := containerOf(e.scrape(), "c2").StoppedAt; !at.IsKnown() {
			t.Fatal("it is unknown when c2 stopped")
		}
		inspections := e.requested("/c2/json")
		e.scrapeAfter(2 * time.Minute)
		if n := e.requested("/c2/json"); n != inspections {
			t.Errorf("with events: inspected %d times again", n-inspections)
		}
		e.Answer("/events", status(403, "Forbidden"))
		e.events.events <- ""
		time.Sleep(time.Minute)
		e.change(func() { e.states["c2"] = "running" })
		time.Sleep(time.Minute)
		a := prune.Summarize(e.settle(), 0)
		states := stateCount(a)
		if states["running"] != 2 || states["exited"] != 0 {
			t.Errorf("got %v, want two that run and none that is stopped", states)
		}
		if e.lists("/containers/json") != 1 {
			t.Errorf("%d lists, want 1", e.lists("/containers/json"))
		}
	})
}

// A list that has a container twice is no list of an engine.
func TestContainerIsListedTwice(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		f.reply("/containers/json", `[{"Id":"c","ImageID":"a","State":"running"},{"Id":"c","ImageID":"a","State":"exited"}]`)
		if s := f.scrape(); s.Containers.IsKnown() || collectorOf(s, "containers").Success {
			t.Errorf("got %+v, want none", s.Containers)
		}
		f.logged(1, "[1]: the ID is that of an earlier element")
	})
}

// The containerd store's prunes go by the reference that a container was created from, which
// is inspected once where the list does not have it.
func TestReferenceIsInspected(t *testing.T) {
	for dir, want := range map[string]bool{"api-1.51-containerd": true, "api-1.51-graphdriver": false} {
		run(t, dir, listsOnly(), func(f *fixture) {
			f.reply("/containers/json", `[{"Id":"c","ImageID":"sha256:a","Image":"sha256:a","State":"running"},{"Id":"d","ImageID":"sha256:a","Image":"x:2","State":"running"}]`)
			f.reply("/containers/c/json", `{"Id":"c","Image":"sha256:a","State":{"Status":"running"},"Config":{"Image":"x:1"}}`)
			var s model.Snapshot
			for range 3 {
				s = f.scrapeAfter(time.Second)
			}
			if n := f.requested("/containers/c/json"); (n == 1) != want || n > 1 {
				t.Errorf("%s: inspected %d times", dir, n)
			}
			if from, known := containerOf(s, "c").CreatedFrom.Get(); known != want || known && from.Tag != "x:1" {
				t.Errorf("%s: created from %+v, known %v", dir, from, known)
			}
			if from, _ := containerOf(s, "d").CreatedFrom.Get(); from.Tag != "x:2" || f.requested("/containers/d/json") != 0 {
				t.Errorf("%s: created from %+v", dir, from)
			}
		})
	}
}
