package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// The tests of this file are situations in which an earlier version was stuck, silent, or
// blinded by one thing. Each scrapes as Prometheus does.

// scrapeInterval is the time between two scrapes.
const scrapeInterval = 15 * time.Second

// runWatched is run for an engine that keeps its events, by a clock.
func runWatched(t *testing.T, clock func() time.Time, test func(f *fixture, log *eventLog)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", watched())
		log := f.keepEvents(clock)
		defer f.start()()
		test(f, log)
	})
}

// scrapeFor scrapes at the usual interval for a time, and calls check with each snapshot and
// how long it took. The first scrape is at once, the last one when the time is over.
func (f *fixture) scrapeFor(d time.Duration, check func(elapsed time.Duration, s model.Snapshot, took time.Duration)) {
	f.Helper()
	started := time.Now()
	for elapsed := time.Duration(0); elapsed <= d; elapsed += scrapeInterval {
		time.Sleep(time.Until(started.Add(elapsed)))
		s, took := f.scrapeWithin(9500 * time.Millisecond)
		check(elapsed, s, took)
	}
}

// The IDs of containers of api-1.51-graphdriver.
const (
	runningID = "4b5e57f6eb2f42b9039b3d1e13929295f231749c510cbe341cd68036d9af97e2"
	exitedID  = "1adc5a0b0c25a8e2bc333f935499c290ce65cdcb1f81175f04c7033e3dfa407e"
	createdID = "de5f9d00b87299970956237d1c66796079465aa12199847fe0d02d10ab44a648"
)

// missingFigures returns which parts of a snapshot of api-1.51-graphdriver are not known.
func missingFigures(s model.Snapshot) string {
	images, imagesKnown := s.Images.Get()
	containers, containersKnown := s.Containers.Get()
	volumes, volumesKnown := s.Volumes.Get()
	var missing []string
	for _, part := range []struct {
		name  string
		known bool
	}{
		{"up", s.Up},
		{"engine", s.Engine.IsKnown()},
		{"images", imagesKnown && len(images) == 7},
		{"contents", len(s.Contents) == 7},
		{"containers", containersKnown && len(containers) == 6},
		{"stops", containersKnown && !slices.ContainsFunc(containers, func(c model.Container) bool { return c.State.Stopped() && !c.StoppedAt.IsKnown() })},
		{"sizes", containersKnown && !slices.ContainsFunc(containers, func(c model.Container) bool { return !c.Size.IsKnown() })},
		{"volumes", volumesKnown && len(volumes) == 3},
		{"build cache", s.BuildCache.IsKnown()},
	} {
		if !part.known {
			missing = append(missing, part.name)
		}
	}
	return strings.Join(missing, ", ")
}

// A stall is an endpoint that does not answer until the connection breaks.
type stall struct{ broken chan struct{} }

func (f *fixture) stall(endpoint string) stall {
	s := stall{make(chan struct{})}
	f.Answer(endpoint, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-s.broken:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
		}
	})
	return s
}

// TestFieldStallAndRestart checks that the time of a stall is not taken for the cost of a
// list, and does not outlive the engine.
func TestFieldStallAndRestart(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"/containers/json", "/images/json", "/system/df"} {
		for _, duration := range []time.Duration{20 * time.Second, 10 * time.Minute} {
			for _, isSeen := range []bool{true, false} { // the exporter pings the engine while it is down
				t.Run(fmt.Sprint(endpoint, " ", duration, " ", isSeen), func(t *testing.T) {
					t.Parallel()
					runWatched(t, time.Now, func(f *fixture, log *eventLog) {
						f.scrapeFor(time.Minute, func(time.Duration, model.Snapshot, time.Duration) {})
						stalled := f.stall(endpoint)
						time.Sleep(scrapeInterval)
						f.scrapeFor(duration, func(elapsed time.Duration, s model.Snapshot, took time.Duration) {
							if !s.Up || took > time.Second {
								t.Errorf("%v after the begin of the stall: up %v, after %v", elapsed, s.Up, took)
							}
						})
						if isSeen {
							f.Answer("/_ping", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
						}
						synctest.Wait()
						close(stalled.broken)
						log.cut()
						f.Answer(endpoint, nil)
						time.Sleep(scrapeInterval)
						if isSeen {
							if s := f.scrape(); s.Up {
								t.Error("up while the engine restarts")
							}
							f.Answer("/_ping", nil)
							time.Sleep(scrapeInterval)
						}
						s, took := f.scrapeWithin(9500 * time.Millisecond)
						if missing := missingFigures(s); missing != "" || took > time.Second {
							t.Errorf("the first scrape after the restart took %v and lacks %s\n%s", took, missing, f.log)
						}
					})
				})
			}
		}
	}
}

// TestFieldListHangs checks that a list without an answer holds nothing up.
func TestFieldListHangs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		endpoint, collector, line string
		lacks                     string
	}{
		{"/containers/json", "containers", "cannot list containers", "containers, stops, sizes"},
		{"/images/json", "images", "cannot list images", "images, contents"},
	}
	for _, test := range tests {
		for _, answeredBefore := range []bool{true, false} {
			t.Run(fmt.Sprint(test.endpoint, " ", answeredBefore), func(t *testing.T) {
				t.Parallel()
				runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
					if answeredBefore {
						f.scrapeFor(time.Minute, func(time.Duration, model.Snapshot, time.Duration) {})
						time.Sleep(scrapeInterval)
					}
					f.Answer(test.endpoint, hang)
					f.scrapeFor(12*time.Minute, func(elapsed time.Duration, s model.Snapshot, took time.Duration) {
						if elapsed > 0 && took >= time.Second {
							t.Errorf("after %v a scrape takes %v", elapsed, took)
						}
						if missing := missingFigures(s); elapsed > 0 && missing != "" && missing != test.lacks {
							t.Errorf("after %v: no %s", elapsed, missing)
						}
						if elapsed < time.Minute {
							return
						}
						if c := collectorOf(s, test.collector); c.Name != test.collector || c.Success || c.LastSuccess.IsKnown() != answeredBefore {
							t.Errorf("after %v: %+v", elapsed, c)
						}
						if missing := missingFigures(s); missing != test.lacks {
							t.Errorf("after %v: no %s, want no %s", elapsed, missing, test.lacks)
						}
						if elapsed == time.Minute || elapsed == 12*time.Minute {
							f.logged(1, test.line, `err="no answer in time"`)
						}
					})
				})
			})
		}
	}
}

// TestFieldContainerHangs checks that one container whose inspection or measurement hangs is
// named and left out, and that the others are inspected and measured.
func TestFieldContainerHangs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, id, collector, line string
		hangs                     func(r *http.Request) bool
	}{
		{"inspection of a stopped one", exitedID, "containers", "cannot inspect containers", func(r *http.Request) bool { return r.URL.Query().Get("size") == "" }},
		{"inspection and measurement of a stopped one", exitedID, "containers", "cannot inspect containers", func(*http.Request) bool { return true }},
		{"measurement of a running one", runningID, "container_sizes", "cannot measure containers", func(r *http.Request) bool { return r.URL.Query().Get("size") != "" }},
		{"measurement of a stopped one", exitedID, "container_sizes", "cannot measure containers", func(r *http.Request) bool { return r.URL.Query().Get("size") != "" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
				f.hangContainer(test.id, test.hangs)
				f.scrapeFor(12*time.Minute, func(elapsed time.Duration, s model.Snapshot, took time.Duration) {
					if elapsed > 0 && took >= time.Second {
						t.Errorf("after %v a scrape takes %v", elapsed, took)
					}
					if elapsed < time.Minute {
						return
					}
					list, _ := s.Containers.Get()
					for _, c := range list {
						isRight := c.Size.IsKnown() && !c.Failed && (!c.State.Stopped() || c.StoppedAt.IsKnown())
						if wantFailed := c.ID == test.id; wantFailed == isRight || c.Failed != wantFailed {
							t.Errorf("after %v: %+v", elapsed, c)
						}
					}
					if c := collectorOf(s, test.collector); len(list) != 6 || c.Success {
						t.Errorf("after %v: %d containers, %+v", elapsed, len(list), c)
					}
				})
				f.logged(1, test.line, "container "+test.id+": no answer in time")
				f.hangContainer(test.id, func(*http.Request) bool { return false })
				time.Sleep(11 * time.Minute) // the longest timeout
				f.scrape()
				time.Sleep(scrapeInterval)
				f.scrape()
				time.Sleep(scrapeInterval)
				if s := f.scrape(); missingFigures(s) != "" || !collectorOf(s, test.collector).Success {
					t.Errorf("when it answers again: no %s, %+v", missingFigures(s), s.Collectors)
				}
				f.logged(1, "recovered")
			})
		})
	}
}

// hangContainer makes some requests for a container hang; the others are answered.
func (f *fixture) hangContainer(id string, hangs func(*http.Request) bool) {
	answer := containerAnswer(id, map[bool]string{true: "running", false: "exited"}[id == runningID])
	f.Answer("/containers/"+id+"/json", func(w http.ResponseWriter, r *http.Request) {
		if hangs(r) {
			hang(w, r)
			return
		}
		answer(w, r)
	})
}

// containerAnswer answers as an engine does for a container.
func containerAnswer(id, state string) http.HandlerFunc {
	return replyWith(fmt.Sprintf(`{"Id":%q,"Image":"sha256:x","Created":%[3]q,"State":{"Status":%[2]q,"FinishedAt":%[3]q},"Config":{},"SizeRw":100,"SizeRootFs":1100}`,
		id, state, dockertest.FinishedAt))
}

// TestFieldNewContainerWhileOneHangs checks that a container that appears later is measured,
// although the measurement of another one hangs all the time.
func TestFieldNewContainerWhileOneHangs(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
		f.hangContainer(runningID, func(r *http.Request) bool { return r.URL.Query().Get("size") != "" })
		f.scrapeFor(20*time.Minute, func(time.Duration, model.Snapshot, time.Duration) {})
		f.Answer("/containers/new/json", containerAnswer("new", "exited"))
		f.reply("/containers/json", `[{"Id":"new","ImageID":"sha256:x","State":"exited"},{"Id":"`+runningID+`","ImageID":"sha256:x","State":"running"}]`)
		time.Sleep(scrapeInterval)
		f.scrapeFor(5*time.Minute, func(elapsed time.Duration, s model.Snapshot, _ time.Duration) {
			list, _ := s.Containers.Get()
			i := slices.IndexFunc(list, func(c model.Container) bool { return c.ID == "new" })
			if i < 0 || elapsed > time.Minute && !list[i].Size.IsKnown() {
				t.Errorf("after %v the new container is not measured", elapsed)
			}
		})
	})
}

// TestFieldSlowContainer checks that a container whose measurement is slow is measured in the
// end, and keeps the engine no busier than is allowed after changes.
func TestFieldSlowContainer(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
		var mu sync.Mutex
		var busy time.Duration
		f.hangContainer(runningID, func(r *http.Request) bool {
			if r.URL.Query().Get("size") == "" {
				return false
			}
			started := time.Now()
			isCut := !sleep(r.Context(), 40*time.Second)
			mu.Lock()
			defer mu.Unlock()
			busy += time.Since(started)
			return isCut
		})
		f.scrapeFor(10*time.Minute, func(time.Duration, model.Snapshot, time.Duration) {})
		before := busy
		f.scrapeFor(time.Hour, func(elapsed time.Duration, s model.Snapshot, _ time.Duration) {
			if missing := missingFigures(s); missing != "" {
				t.Errorf("after %v: no %s", elapsed, missing)
			}
		})
		if busy -= before; busy > 6*time.Minute {
			t.Errorf("in an hour the engine was busy for %v", busy)
		}
	})
}

// manyImages makes the engine list n images, and returns their IDs.
func (f *fixture) manyImages(n int) (ids []string) {
	f.Helper()
	dir := f.TempDir()
	var list []map[string]any
	for i := range n {
		id := fmt.Sprintf("sha256:%02d", i)
		ids = append(ids, id)
		list = append(list, map[string]any{"Id": id, "RepoTags": []string{fmt.Sprint("app:", i)}, "Size": 1000 + i, "RepoDigests": nil})
	}
	images, _ := json.Marshal(list)
	for name, content := range map[string]string{
		"api-version": "1.51", "images.json": string(images), "containers.json": "[]", "volumes.json": `{"Volumes":[]}`, "system/df.json": `{"Volumes":[],"BuildCache":[]}`,
		"info.json": `{"ServerVersion":"28.5.2","DockerRootDir":"/var/lib/docker","Driver":"overlay2","DriverStatus":[],"Images":0,"Containers":0}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	f.SwitchTo(dir)
	return ids
}

// TestFieldImagesFail checks that 37 of 40 images are inspected if 3 fail.
func TestFieldImagesFail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer http.HandlerFunc
		reason string
		within time.Duration // the first scrape that is right
	}{
		{"broken", status(500, `{"message":"layer does not exist"}`), "layer does not exist", 0},
		{"forbidden by a proxy", status(403, "Forbidden by rule 7"), "forbidden", 0},
		{"not found by a proxy", status(404, "404 page not found"), "404", 0},
		{"content is missing", replyWith(`{"Id":"sha256:05","RootFS":{}}`), "does not return the layers", 0},
		{"not decodable", replyWith(`{"Id":`), "cannot be decoded", 0},
		{"the engine denies what it lists", status(404, `{"message":"No such image: x"}`), "No such image", scrapeInterval},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
				ids := f.manyImages(40)
				failing := []string{ids[5], ids[20], ids[39]}
				for _, id := range failing {
					f.Answer("/images/"+id+"/json", test.answer)
				}
				f.scrapeFor(10*time.Minute, func(elapsed time.Duration, s model.Snapshot, took time.Duration) {
					if took >= time.Second {
						t.Errorf("after %v a scrape takes %v", elapsed, took)
					}
					if elapsed < test.within {
						return
					}
					failed := slices.Sorted(maps.Keys(s.FailedImages))
					if len(s.Contents) != 37 || !slices.Equal(failed, failing) || collectorOf(s, "layers").Success {
						t.Errorf("after %v: %d images are inspected, failed are %q, %+v", elapsed, len(s.Contents), failed, collectorOf(s, "layers"))
					}
					if n, known := prune.Summarize(s, 0).Counts.Images.Uninspected.Get(); !known || n != 3 {
						t.Errorf("after %v: %d images are uninspected", elapsed, n)
					}
				})
				f.logged(1, "cannot inspect images")
				f.logged(1, "image "+ids[5]+": ")
				f.logged(1, test.reason)
				if n := f.requested("/images/" + ids[5] + "/json"); n > 3*10 {
					t.Errorf("a failing image was inspected %d times in 10 minutes", n)
				}
				if n := f.requested("/images/" + ids[6] + "/json"); n != 1 {
					t.Errorf("another image was inspected %d times", n)
				}
				for _, id := range failing {
					f.Answer("/images/"+id+"/json", nil)
				}
				time.Sleep(2 * time.Minute)
				f.scrape()
				time.Sleep(scrapeInterval)
				if s := f.scrape(); len(s.Contents) != 40 || len(s.FailedImages) != 0 || !collectorOf(s, "layers").Success {
					t.Errorf("recovered: %d images, %v", len(s.Contents), s.FailedImages)
				}
				f.logged(1, `recovered operation="inspect images"`)
			})
		})
	}
}

// TestFieldImageHangs checks that a timeout is not taken for the cost of an inspection.
func TestFieldImageHangs(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
		ids := f.manyImages(40)
		for _, i := range []int{5, 20, 39} {
			f.Answer("/images/"+ids[i]+"/json", hang)
		}
		f.scrapeFor(5*time.Minute, func(elapsed time.Duration, s model.Snapshot, took time.Duration) {
			if took >= time.Second || elapsed > scrapeInterval && len(s.Contents) != 37 {
				t.Errorf("after %v a scrape takes %v, and %d images are inspected", elapsed, took, len(s.Contents))
			}
		})
	})
}

// TestFieldDeniedImage checks that an image that the engine lists and denies is inspected with
// a back-off.
func TestFieldDeniedImage(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
		ids := f.manyImages(2)
		f.Answer("/images/"+ids[1]+"/json", status(404, `{"message":"No such image: x"}`))
		f.scrape()
		f.Answer("/images/json", slow(time.Second, func(w http.ResponseWriter, r *http.Request) {
			f.Answer("/images/json", slow(time.Second, hang))
			fmt.Fprintf(w, `[{"Id":%q,"Size":5},{"Id":%q,"Size":5}]`, ids[0], ids[1])
		}))
		f.scrapeFor(20*time.Minute, func(time.Duration, model.Snapshot, time.Duration) {})
		if n := f.requested("/images/" + ids[1] + "/json"); n > 28 { // a back-off of up to a minute
			t.Errorf("inspected %d times in 20 minutes", n)
		}
	})
}

// TestFieldNotFoundByProxy checks that only the engine's own answer means that an object is gone.
func TestFieldNotFoundByProxy(t *testing.T) {
	t.Parallel()
	forbidden := map[string]http.HandlerFunc{
		"text": status(404, "404 page not found"),
		"JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(404)
			fmt.Fprint(w, `{"message":"Not Found"}`)
		},
		"nothing": status(404, ""),
	}
	for name, answer := range forbidden {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runWatched(t, time.Now, func(f *fixture, log *eventLog) {
				before := f.scrape()
				time.Sleep(scrapeInterval)
				images, _ := before.Images.Get()
				for _, image := range images {
					f.Answer("/images/"+image.ID+"/json", answer)
				}
				for _, id := range []string{exitedID, createdID} {
					f.Answer("/containers/"+id+"/json", answer)
				}
				f.Answer("/containers/json", slow(time.Second, func(w http.ResponseWriter, r *http.Request) {
					f.Answer("/containers/json", hang) // the events lead to inspections, not to a list
					containerList(w)
				}))
				f.scrape()
				time.Sleep(2 * time.Second)
				log.send("container die", exitedID)
				log.send("image untag", images[0].ID)
				time.Sleep(5 * time.Second)
				s := f.scrape()
				if missing := missingFigures(s); missing != "stops, sizes" {
					t.Errorf("no %s", missing)
				}
				if got := prune.Summarize(s, 0).Reclaimable[prune.ContainerPrune]; got.Exact {
					t.Errorf("container prune: %+v, although it is not known what it removes", got)
				}
			})
		})
	}
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) { // from the start
		f.Answer("/containers/"+exitedID+"/json", status(404, "404 page not found"))
		f.scrapeFor(time.Minute, func(elapsed time.Duration, s model.Snapshot, _ time.Duration) {
			list, _ := s.Containers.Get()
			if len(list) != 6 || collectorOf(s, "containers").Success || prune.Summarize(s, 0).Reclaimable[prune.ContainerPrune].Exact {
				t.Errorf("after %v: %d containers, %+v", elapsed, len(list), collectorOf(s, "containers"))
			}
		})
		f.logged(1, "cannot inspect containers", exitedID)
	})
}

// containerList answers as api-1.51-graphdriver.
func containerList(w http.ResponseWriter) {
	body, err := os.ReadFile(testdata + "api-1.51-graphdriver/containers.json")
	if err != nil {
		panic(err)
	}
	w.Write(body)
}

// TestFieldScrapers checks that each of two scrapers waits for itself.
func TestFieldScrapers(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
		f.Answer("/_ping", slow(800*time.Millisecond, replyWith("OK")))
		var scrapers sync.WaitGroup
		scraper := func(interval, timeout time.Duration, check func(i int, s model.Snapshot, took time.Duration)) {
			scrapers.Go(func() {
				started := time.Now()
				for i := range int(3 * time.Minute / interval) {
					time.Sleep(time.Until(started.Add(time.Duration(i) * interval)))
					s, took := f.scrapeWithin(timeout)
					check(i, s, took)
				}
			})
		}
		scraper(time.Second, 500*time.Millisecond, func(i int, s model.Snapshot, took time.Duration) {
			if !s.Up || i > 0 && took > 500*time.Millisecond {
				t.Errorf("short scrape %d: up %v, after %v", i, s.Up, took)
			}
			if missing := missingFigures(s); i > 10 && missing != "" {
				t.Errorf("short scrape %d: no %s", i, missing)
			}
		})
		scraper(7*time.Second, 9500*time.Millisecond, func(i int, s model.Snapshot, took time.Duration) {
			if missing := missingFigures(s); missing != "" || took > 3*time.Second {
				t.Errorf("patient scrape %d: after %v, no %s", i, took, missing)
			}
		})
		scrapers.Wait()
	})
}

// TestFieldHurriedScraper checks that a scraper that has no time for a ping and the lists after
// it gets the figures of before.
func TestFieldHurriedScraper(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
		f.Answer("/_ping", slow(800*time.Millisecond, replyWith("OK")))
		for i := range 10 {
			s, took := f.scrapeWithin(500 * time.Millisecond)
			if missing := missingFigures(s); i > 0 && took > 500*time.Millisecond || i > 4 && missing != "" {
				t.Errorf("scrape %d: after %v, no %s", i, took, missing)
			}
			time.Sleep(scrapeInterval)
		}
	})
}

// TestFieldManyScrapers checks that scrapers do not hold each other up.
func TestFieldManyScrapers(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
		f.scrape()
		f.Answer("/_ping", slow(800*time.Millisecond, replyWith("OK")))
		var scrapers sync.WaitGroup
		for i := range 60 {
			time.Sleep(500 * time.Millisecond)
			scrapers.Go(func() {
				s, took := f.scrapeWithin(9500 * time.Millisecond)
				if missing := missingFigures(s); missing != "" || took > 2*time.Second {
					t.Errorf("scrape %d: after %v, no %s", i, took, missing)
				}
			})
		}
		scrapers.Wait()
	})
}

// eventLog is the memory of an engine's events. Its streams honour since.
type eventLog struct {
	f     *fixture
	clock func() time.Time // of the engine

	mu     sync.Mutex
	kept   []keptEvent
	more   chan struct{} // closed when there is another event
	end    chan struct{} // closed when all streams are to end
	opened int
}

type keptEvent struct {
	nano int64
	text string
}

// keepEvents makes the engine keep its events and stream them, by a clock.
func (f *fixture) keepEvents(clock func() time.Time) *eventLog {
	l := &eventLog{f: f, clock: clock, more: make(chan struct{}), end: make(chan struct{})}
	f.Answer("/events", l.stream)
	body, err := os.ReadFile(testdata + "api-1.51-graphdriver/info.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Answer("/info", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"SystemTime":%q,%s`, l.clock().Format(time.RFC3339Nano), strings.TrimPrefix(string(body), "{"))
	})
	return l
}

// stream answers /events: what was kept since the parameter, and what happens from now on.
func (l *eventLog) stream(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	next, end := len(l.kept), l.end
	if since := r.URL.Query().Get("since"); since != "" {
		first := nanosOf(l.f.T, since)
		next = slices.IndexFunc(l.kept, func(e keptEvent) bool { return e.nano >= first })
		if next < 0 {
			next = len(l.kept)
		}
	}
	l.opened++
	l.mu.Unlock()
	w.(http.Flusher).Flush()
	for {
		l.mu.Lock()
		events, more := l.kept[next:], l.more
		next = len(l.kept)
		l.mu.Unlock()
		for _, e := range events {
			fmt.Fprintln(w, e.text)
		}
		select {
		case <-more:
		case <-end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// nanosOf parses seconds with nine decimals.
func nanosOf(t *testing.T, since string) int64 {
	nanos, err := strconv.ParseInt(strings.Replace(since, ".", "", 1), 10, 64)
	if err != nil {
		t.Errorf("since=%s", since)
	}
	return nanos
}

// send makes an event like "container die", with attributes.
func (l *eventLog) send(event, id string, attributes ...string) {
	kind, action, _ := strings.Cut(event, " ")
	named := make(map[string]string)
	for i := 0; i+1 < len(attributes); i += 2 {
		named[attributes[i]] = attributes[i+1]
	}
	nano := l.clock().UnixNano()
	text, _ := json.Marshal(map[string]any{
		"Type": kind, "Action": action, "Actor": map[string]any{"ID": id, "Attributes": named}, "timeNano": nano,
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, keptEvent{nano, string(text)})
	close(l.more)
	l.more = make(chan struct{})
}

// cut ends all streams, as a proxy or an engine that restarts does.
func (l *eventLog) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.end)
	l.end = make(chan struct{})
}

func (l *eventLog) streams() int {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}

// prunesOf returns the count and the bytes of the prunes of a resource.
func prunesOf(s model.Snapshot, resource model.Resource) string {
	for _, p := range s.Prunes {
		if p.Resource == resource {
			return fmt.Sprint(p.Count, " ", p.Bytes)
		}
	}
	return "unknown"
}

// TestFieldPrunesInGaps checks that no prune is lost while a proxy cuts the stream again and
// again, whether anything else happens or not, and that none is counted twice.
func TestFieldPrunesInGaps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		lasts  time.Duration // each stream
		others bool          // other events
	}{
		{"idle for 30 s", 30 * time.Second, false},
		{"idle for 5 s", 5 * time.Second, false},
		{"at once", 0, false},
		{"busy for 30 s", 30 * time.Second, true},
		{"busy for 5 s", 5 * time.Second, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			runWatched(t, time.Now, func(f *fixture, log *eventLog) {
				f.scrape()
				stop := make(chan struct{})
				var proxy sync.WaitGroup
				proxy.Go(func() {
					for {
						select {
						case <-time.After(max(test.lasts, 100*time.Millisecond)):
							if test.others {
								log.send("container die", runningID)
							}
							log.cut()
						case <-stop:
							return
						}
					}
				})
				resources := map[string]model.Resource{"container": model.Containers, "image": model.Images, "volume": model.Volumes, "builder": model.BuildCache}
				for range 4 {
					for kind := range resources {
						time.Sleep(29 * time.Second) // mostly in a gap
						log.cut()
						time.Sleep(100 * time.Millisecond)
						log.send(kind+" prune", "", "reclaimed", "1000")
						time.Sleep(2 * time.Second)
						f.scrape()
					}
				}
				time.Sleep(2 * time.Minute)
				s := f.scrape()
				for kind, resource := range resources {
					if got := prunesOf(s, resource); got != "4 4000" {
						t.Errorf("%s: %s, want 4 prunes of 4000 bytes", kind, got)
					}
				}
				close(stop)
				proxy.Wait()
			})
		})
	}
}

// TestFieldPrunesAfterBusyPing checks that a prune is counted that happens while the engine is
// too busy to answer a ping.
func TestFieldPrunesAfterBusyPing(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, log *eventLog) {
		f.scrape()
		log.send("container die", runningID)
		time.Sleep(scrapeInterval)
		f.Answer("/_ping", hang)
		if f.scrape().Up {
			t.Fatal("up")
		}
		log.send("builder prune", "", "reclaimed", "1000")
		f.Answer("/_ping", nil)
		time.Sleep(scrapeInterval)
		f.scrape()
		time.Sleep(2 * time.Minute)
		if got := prunesOf(f.scrape(), model.BuildCache); got != "1 1000" {
			t.Errorf("prunes: %s", got)
		}
	})
}

// TestFieldClocks checks that events work whatever the engine's clock says.
func TestFieldClocks(t *testing.T) {
	t.Parallel()
	for _, year := range []int{1970, 1971, 2026, 2261, 2262, 9999} {
		t.Run(strconv.Itoa(year), func(t *testing.T) {
			t.Parallel()
			clock := func() time.Time { // the fake clock starts in 2000
				return time.Date(year, 1, 1, 0, 1, 0, 0, time.UTC).Add(time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)))
			}
			runWatched(t, clock, func(f *fixture, log *eventLog) {
				f.scrape() // at which the first stream opens: by an unknown clock, that makes all stale
				time.Sleep(scrapeInterval)
				if missing := missingFigures(f.scrape()); missing != "" {
					t.Errorf("no %s", missing)
				}
				for i := range 3 {
					time.Sleep(scrapeInterval)
					log.send("builder prune", "", "reclaimed", "1000")
					synctest.Wait()
					if got, want := prunesOf(f.scrape(), model.BuildCache), fmt.Sprint(i+1, " ", 1000*(i+1)); got != want {
						t.Errorf("prunes: %s, want %s", got, want)
					}
					log.cut()
				}
				time.Sleep(time.Minute)
				if got := prunesOf(f.scrape(), model.BuildCache); got != "3 3000" || log.streams() != 4 {
					t.Errorf("prunes: %s after %d streams", got, log.streams())
				}
				f.logged(0, "level=ERROR")

				time.Sleep(scrapeInterval)
				f.Answer("/containers/json", hang)
				f.scrape()
				f.Answer("/containers/"+exitedID+"/json", status(404, `{"message":"No such container: `+exitedID+`"}`))
				log.send("container destroy", exitedID)
				time.Sleep(5 * time.Second)
				if list, known := f.scrape().Containers.Get(); !known || len(list) != 5 {
					t.Errorf("%d containers, %v: the event was not applied", len(list), known)
				}
			})
		})
	}
}

// TestFieldEventsWhileListHangs checks that events are applied while a list is in flight.
func TestFieldEventsWhileListHangs(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, log *eventLog) {
		f.scrape()
		time.Sleep(scrapeInterval)
		f.Answer("/containers/json", hang)
		f.Answer("/images/json", hang)
		f.scrape()

		f.Answer("/containers/"+exitedID+"/json", status(404, `{"message":"No such container: `+exitedID+`"}`))
		log.send("container destroy", exitedID)
		f.Answer("/containers/new/json", containerAnswer("new", "running"))
		log.send("container create", "new")
		f.Answer("/containers/"+runningID+"/json", containerAnswer(runningID, "exited"))
		log.send("container die", runningID)
		f.reply("/images/sha256:new/json", `{"Id":"sha256:new","RepoTags":["app:1"],"Size":5,"RootFS":{"Type":"layers","Layers":["l"]}}`)
		log.send("image tag", "sha256:new", "name", "app:1")

		time.Sleep(3 * time.Second)
		s, took := f.scrapeWithin(9500 * time.Millisecond)
		if took >= time.Second {
			t.Errorf("a scrape takes %v", took)
		}
		var got []string
		list, _ := s.Containers.Get()
		for _, c := range list {
			got = append(got, c.ID[:3]+" "+string(c.State))
		}
		if want := "4b5 exited, 623 restarting, 6ca dead, de5 created, ffb paused, new running"; strings.Join(got, ", ") != want {
			t.Errorf("containers %s, want %s", strings.Join(got, ", "), want)
		}
		var tagged []string
		images, _ := s.Images.Get()
		for _, image := range images {
			if slices.Contains(image.Tags, "app:1") {
				tagged = append(tagged, image.ID)
			}
		}
		if len(images) != 8 || !slices.Equal(tagged, []string{"sha256:new"}) {
			t.Errorf("%d images, app:1 is %q", len(images), tagged)
		}
	})
}

// TestFieldNeverAnswered checks that a collector that never answered is reported as failed.
func TestFieldNeverAnswered(t *testing.T) {
	t.Parallel()
	runWatched(t, time.Now, func(f *fixture, _ *eventLog) {
		f.Answer("/images/json", hang)
		f.Answer("/system/df", hang)
		f.scrapeFor(12*time.Minute, func(elapsed time.Duration, s model.Snapshot, _ time.Duration) {
			names := map[string]time.Duration{"images": time.Minute, "volumes": 11 * time.Minute, "build_cache": 11 * time.Minute}
			for name, limit := range names {
				if c := collectorOf(s, name); elapsed >= limit && (c.Name != name || c.Success || c.LastSuccess.IsKnown() || c.Duration.IsKnown()) {
					t.Errorf("after %v: %s: %+v", elapsed, name, c)
				}
			}
		})
	})
}
