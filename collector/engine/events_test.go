package engine

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

func (e *slowEngine) containerCount() map[model.State]int {
	e.Helper()
	return stateCount(e.summary())
}

// imageCount is the number of images; all unknown ones are -1.
type imageCount struct {
	Tagged, Untagged, Tags int
	VirtualSize            model.Optional[int64]
}

func imageCountOf(a prune.Summary) imageCount {
	number := func(o model.Optional[int]) int {
		if n, known := o.Get(); known {
			return n
		}
		return -1
	}
	c := a.Counts.Images
	return imageCount{number(c.Tagged), number(c.Untagged), number(c.Tags), c.VirtualSize}
}

func (e *slowEngine) imageCount() imageCount {
	e.Helper()
	return imageCountOf(e.summary())
}

// An engine whose lists are not fast is requested for each of them once. After that the
// objects that its events name are inspected.
func TestInspectionsInsteadOfLists(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	runSlow(t, config, func(e *slowEngine) {
		if got := e.containerCount(); got["running"] != 1 || got["exited"] != 1 {
			t.Errorf("at first: %v", got)
		}
		e.change(func() { e.states["c1"] = "paused" }, "container pause c1")
		time.Sleep(time.Second)
		if got := e.containerCount(); got["paused"] != 1 || got["running"] != 0 {
			t.Errorf("after pause: %v", got)
		}
		e.change(func() { e.states["c3"] = "created" }, "container create c3")
		time.Sleep(time.Second)
		if got := e.containerCount(); got["created"] != 1 || got["exited"] != 1 {
			t.Errorf("after create: %v", got)
		}
		e.change(func() { delete(e.states, "c3") }, "container destroy c3")
		time.Sleep(time.Second)
		if got := e.containerCount(); got["created"] != 0 || got["exited"] != 1 {
			t.Errorf("after destroy: %v", got)
		}

		e.change(func() { e.images["sha256:c"] = []string{"c:1"} }, "image load sha256:c")
		time.Sleep(time.Second)
		if got := e.imageCount(); got.Tagged != 3 || got.VirtualSize != model.Known[int64](300) {
			t.Errorf("after load: %+v", got)
		}
		e.change(func() {
			e.images["sha256:c"] = []string{"b:1", "c:1"}
			e.images["sha256:b"] = nil
		}, "image tag sha256:c")
		time.Sleep(time.Second)
		if got := e.imageCount(); got.Tagged != 2 || got.Untagged != 1 || got.Tags != 3 || got.VirtualSize != model.Known[int64](300) {
			t.Errorf("after tag: %+v", got)
		}
		e.change(func() { delete(e.images, "sha256:b") }, "image delete sha256:b")
		time.Sleep(time.Second)
		if got := e.imageCount(); got.Tagged != 2 || got.Untagged != 0 || got.VirtualSize != model.Known[int64](200) {
			t.Errorf("after delete: %+v", got)
		}
		for _, endpoint := range []string{"/images/json", "/containers/json"} {
			if n := e.lists(endpoint); n != 1 {
				t.Errorf("%s was requested %d times in full, want once", endpoint, n)
			}
		}
		e.logged(0, "\n")
	})
}

// A tag that was moved away from an image and is gone has left that image untagged, though
// there is no event for it.
func TestTagMovesAndIsRemoved(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	runSlow(t, config, func(e *slowEngine) {
		e.change(func() { e.images["sha256:b"] = nil })
		e.events.send("image tag sha256:c", "name", "b:1")
		e.events.send("image delete sha256:c", "name", "sha256:c")
		time.Sleep(time.Second)
		if got := e.imageCount(); got.Tagged != 1 || got.Untagged != 1 {
			t.Errorf("got %+v, want one tagged and one untagged image", got)
		}
	})
}

// Each event leads to the inspection of the objects that it concerns, once, after they have
// settled.
func TestEventsLeadToInspections(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	for event, want := range map[string]string{
		"container create c3":         "/containers/c3/json",
		"container start c1":          "/containers/c1/json",
		"container restart c1":        "/containers/c1/json",
		"container stop c1":           "/containers/c1/json",
		"container die c1":            "/containers/c1/json",
		"container pause c1":          "/containers/c1/json",
		"container unpause c1":        "/containers/c1/json",
		"container destroy c1":        "/containers/c1/json",
		"container extract-to-dir c2": "/containers/c2/json",
		"container archive-path c2":   "/containers/c2/json",
		"container commit c1":         "/containers/c1/json /images/sha256:c/json",
		"network disconnect n":        "/containers/c2/json",
		"image pull sha256:c":         "/images/sha256:c/json",
		"image tag sha256:c":          "/images/sha256:c/json /images/sha256:b/json", // which had the tag
		"image untag sha256:b":        "/images/sha256:b/json",
		"image delete sha256:b":       "/images/sha256:b/json",
		"image import sha256:c":       "/images/sha256:c/json",
		"image load sha256:c":         "/images/sha256:c/json",
		"container prune ":            "",
		"image prune ":                "",
		"volume prune ":               "",
		"builder prune ":              "",
		"volume create v":             "",
		"volume unmount v":            "",
	} {
		runSlow(t, config, func(e *slowEngine) {
			before := len(e.Requests())
			attributes := []string{"imageID", "sha256:c", "container", "c2"}
			if strings.Contains(event, " tag ") {
				attributes = append(attributes, "name", "b:1")
			}
			e.events.send(event, attributes...)
			time.Sleep(debounce / 2)
			e.events.send(event, attributes...)
			time.Sleep(debounce - time.Millisecond)
			if n := len(e.Requests()); n != before {
				t.Errorf("%s: requested before it has settled: %v", event, e.Requests()[before:])
			}
			time.Sleep(time.Second)
			var got []string
			for _, request := range e.Requests()[before:] {
				if strings.HasSuffix(request, "/json") {
					got = append(got, strings.TrimPrefix(request, "GET /v1.51"))
				}
			}
			wanted := strings.Fields(want)
			slices.Sort(got)
			slices.Sort(wanted)
			if !slices.Equal(got, wanted) {
				t.Errorf("%s: got the inspections %v, want %v", event, got, wanted)
			}
			kind, action := strings.Fields(event)[0], strings.Fields(event)[1]
			if e.requested("%22"+action+"%22%3Atrue") != 1 || e.requested("%22"+kind+"%22%3Atrue") != 1 {
				t.Errorf("%s is not requested", event)
			}
		})
	}
}

// An object that does not settle is inspected nevertheless, and again when it has settled.
func TestObjectDoesNotSettle(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	runSlow(t, config, func(e *slowEngine) {
		before := e.requested("/containers/c1/json")
		for range 20 {
			e.events.send("container die c1")
			time.Sleep(200 * time.Millisecond)
		}
		during := e.requested("/containers/c1/json") - before
		if during < 3 || during > 5 {
			t.Errorf("inspected %d times in 4 s, want once for each %v", during, maxDelay)
		}
		e.change(func() { e.states["c1"] = "exited" })
		time.Sleep(time.Second)
		if got := e.containerCount(); got["exited"] != 2 {
			t.Errorf("after it has settled: %v", got)
		}
	})
}

// The inspection of an object can fail, or say nothing: then what was known stays, and the list
// is requested again.
func TestInspectionOfChangeFails(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"empty object":     replyWith(`{}`),
		"server error":     status(500, "busy"),
		"404 of a proxy":   status(404, "page not found"),
		"something else":   replyWith("<html>"),
		"another object":   replyWith(`{"Id":"","State":{"Status":"dead"}}`),
		"forbidden":        status(403, "Forbidden"),
		"connection reset": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		config := listsOnly()
		config.BusyRatio = listedWhenChanged()
		runSlow(t, config, func(e *slowEngine) {
			e.scrapeAfter(time.Minute)
			for _, endpoint := range []string{"/images/json", "/containers/json"} {
				if n := e.lists(endpoint); n != 1 {
					t.Errorf("%s: %d lists of %s before", name, n, endpoint)
				}
			}
			e.Answer("/images/sha256:a/json", answer)
			e.Answer("/containers/c1/json", answer)
			e.change(func() {}, "image load sha256:a", "container start c1")
			time.Sleep(time.Second)
			for range 2 { // before the lists, and after them
				a := e.summary()
				images, states := imageCountOf(a), stateCount(a)
				if images.Tagged != 2 || images.Untagged != 0 || states["running"] != 1 || states["exited"] != 1 {
					t.Errorf("%s: got %+v, %v; want what was known before", name, images, states)
				}
				time.Sleep(time.Minute)
			}
			for _, endpoint := range []string{"/images/json", "/containers/json"} {
				if n := e.lists(endpoint); n != 2 {
					t.Errorf("%s: %d lists of %s, want 2", name, n, endpoint)
				}
			}
		})
	}
}

// With the containerd store the size of an untagged image is only in the list, which is
// requested again for it.
func TestUntaggedImageIsListed(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedWhenChanged()
	runSlow(t, config, func(e *slowEngine) {
		e.change(func() { e.images["sha256:a"] = nil }, "image untag sha256:a") // its size is known
		time.Sleep(time.Minute)
		if got := e.imageCount(); got.Untagged != 1 || got.VirtualSize != model.Known[int64](200) || e.lists("/images/json") != 1 {
			t.Errorf("a known image: %+v, %d lists", got, e.lists("/images/json"))
		}
		e.change(func() { e.images["sha256:c"] = nil }, "image load sha256:c")
		time.Sleep(time.Minute)
		if got := e.imageCount(); got.Untagged != 2 || got.VirtualSize.IsKnown() {
			t.Errorf("a new image: %+v, want an unknown size", got)
		}
		time.Sleep(time.Minute)
		if got := e.imageCount(); got.Untagged != 2 || got.VirtualSize != model.Known[int64](300) || e.lists("/images/json") != 2 {
			t.Errorf("after another list: %+v, %d lists", got, e.lists("/images/json"))
		}
	})
}

// A fast list is requested for each scrape, so events lead to no inspections.
func TestFastListsNeedNoInspections(t *testing.T) {
	runWithEvents(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture, events eventStream) {
		f.scrape()
		before := len(f.Requests())
		events.send("container die c1")
		events.send("image load i")
		time.Sleep(30 * time.Second)
		if n := len(f.Requests()); n != before {
			t.Errorf("requested: %v", f.Requests()[before:])
		}
		f.scrape()
		f.scrapeAfter(time.Second)
		if n := f.requested("/containers/c1/json") + f.requested("/images/i/json"); n != 0 {
			t.Errorf("%d inspections", n)
		}
	})
}

// While a list hangs the events go on to count.
func TestEventsCountWhileAListHangs(t *testing.T) {
	runWithEvents(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture, events eventStream) {
		f.reply("/containers/json", `[{"Id":"c1","State":"running"}]`)
		f.scrape()
		f.Answer("/containers/json", hang)
		f.reply("/containers/c1/json", `{"Id":"c1","State":{"Status":"paused"}}`)
		time.Sleep(time.Second)
		f.scrape()
		events.send("container pause c1")
		if c := containerOf(f.scrapeAfter(2*time.Second), "c1"); c.State != model.Paused {
			t.Errorf("got %+v, want it paused", c)
		}
	})
}

// A stream that ends is opened again where it has ended, without a log line.
func TestStreamIsCut(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	runSlow(t, config, func(e *slowEngine) {
		for i := range 2 {
			e.events.send("volume create v")
			synctest.Wait()
			last := time.Now()
			time.Sleep(time.Minute)
			e.events.events <- ""
			time.Sleep(5 * time.Second)
			if n := e.requested("/events"); n != i+2 {
				t.Errorf("opened %d times, want %d", n, i+2)
			}
			if got, want := e.lastSince(), fmt.Sprintf("%d.%09d", last.Unix(), last.Nanosecond()); got != want {
				t.Errorf("opened since %q, want the last event's %q", got, want)
			}
		}
		e.change(func() { e.states["c1"] = "paused" }, "container pause c1")
		time.Sleep(time.Second)
		if got := e.containerCount(); got["paused"] != 1 {
			t.Errorf("after pause: %v", got)
		}
		e.logged(0, "\n")
	})
}

// lastSince returns the start of the event stream that was requested last.
func (f *fixture) lastSince() string {
	since := "not requested"
	for _, request := range f.Requests() {
		if _, query, found := strings.Cut(request, "/events?"); found {
			values, _ := url.ParseQuery(query)
			since = values.Get("since")
		}
	}
	return since
}

// After a gap in the events everything may have changed: what is not fast is requested again.
func TestGapInEvents(t *testing.T) {
	config := everything()
	config.BusyRatio = listedWhenChanged()
	runSlow(t, config, func(e *slowEngine) {
		e.Answer("/volumes", slow(slowList, replyWith(`{"Volumes":[{"Name":"v"}]}`)))
		e.Answer("/system/df", slow(slowList, replyWith(`{"BuildCache":null}`)))
		for range 3 {
			e.scrapeAfter(time.Minute)
		}
		endpoints := []string{"/images/json?all=1", "/containers/json?all=1", "/volumes", "type=volume", "type=build-cache", "/c2/json?size=1"}
		count := func() (counts []int) {
			for _, endpoint := range endpoints {
				counts = append(counts, e.requested(endpoint))
			}
			return counts
		}
		before := count()
		for range 3 {
			e.scrapeAfter(time.Minute)
		}
		if after := count(); !slices.Equal(before, after) {
			t.Errorf("requests of %v without a change: %v and then %v", endpoints, before, after)
		}
		e.events.events <- ""
		for range 3 {
			e.scrapeAfter(time.Minute)
		}
		for i, n := range count() {
			if n != before[i]+1 {
				t.Errorf("%s: %d requests after the gap, want one", endpoints[i], n-before[i])
			}
		}
	})
}

// Where the first stream starts: when the engine was inspected, by its own clock, before
// anything was listed. Then nothing was missed.
func TestFirstStream(t *testing.T) {
	for clock, want := range map[string]string{
		"2026-11-27T13:00:00.123456789Z": "1795784400.123456789",
		"1970-01-01T00:00:10Z":           "",
		"9999-12-31T23:59:59Z":           "",
		"":                               "",
		"noon":                           "",
	} {
		config := listsOnly()
		config.Events, config.BusyRatio = true, listedWhenChanged()
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, "api-1.51-graphdriver", config)
			events := f.streamEvents()
			f.reply("/info", map[string]any{"ServerVersion": "28.5.2", "SystemTime": clock})
			f.Answer("/containers/json", slow(slowList, replyWith(`[{"Id":"c1","State":"running"}]`)))
			f.reply("/containers/c1/json", `{"Id":"c1","State":{"Status":"paused"}}`)
			defer f.start()()
			f.scrape()
			if got := f.lastSince(); got != want {
				t.Errorf("clock %q: opened since %q, want %q", clock, got, want)
			}
			events.send("container pause c1")
			if c := containerOf(f.scrapeAfter(2*time.Second), "c1"); c.State != model.Paused {
				t.Errorf("clock %q: got %+v, want it paused", clock, c)
			}
		})
	}
}

// A stream that ends as soon as it begins, each time, is a failure. The back-off grows from
// half a second to a minute, and starts again after a stream that lasts.
func TestStreamEndsImmediately(t *testing.T) {
	config := listsOnly()
	config.Events = true
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", config)
		f.reply("/events", "")
		defer f.start()()
		opened := func(d time.Duration) int {
			before := f.requested("/events")
			time.Sleep(d)
			return f.requested("/events") - before
		}
		if n := opened(31 * time.Second); n != 5 {
			t.Errorf("opened %d times more in 31 s, want 5: after 0.5, 1, 2, 4 and 8 more seconds", n)
		}
		f.logged(0, "\n")
		if n := opened(5 * time.Minute); n < 4 || n > 6 {
			t.Errorf("opened %d times in 5 minutes, want once a minute", n)
		}
		if !strings.Contains(f.log.String(), "the event stream ends immediately") || !strings.Contains(f.log.String(), "let /events through a proxy") {
			t.Errorf("the log:\n%s", f.log)
		}
		if s := f.scrape(); !s.Images.IsKnown() {
			t.Error("images are unknown")
		}

		events := f.streamEvents()
		time.Sleep(2 * time.Minute)
		events.events <- ""
		if n := opened(time.Second); n != 1 {
			t.Errorf("opened %d times within a second of the end of a long stream, want once", n)
		}
		f.reply("/events", "")
		events.send("container die c")
		synctest.Wait()
		events.events <- ""
		if n := opened(time.Second); n < 1 {
			t.Errorf("opened %d times within a second of the end of a stream with an event", n)
		}
	})
}

// A stream that ends as soon as it begins, each time, is one line in the log, until one lasts.
func TestStreamEndsImmediatelyIsLoggedOnce(t *testing.T) {
	config := listsOnly()
	config.Events = true
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", config)
		f.reply("/events", "")
		defer f.start()()
		time.Sleep(10 * time.Minute)
		f.logged(1, "\n", "cannot watch events", "the event stream ends immediately", "let /events through a proxy")
		f.streamEvents()
		time.Sleep(3 * time.Minute)
		f.logged(1, `msg=recovered operation="watch events"`)
		f.logged(2, "\n")
	})
}

// Without access to events the lists are still known, and prunes are not. The log says what to
// allow.
func TestEventsForbidden(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		reason string
	}{
		"forbidden": {status(403, "Forbidden by policy"), "forbidden: Forbidden by policy"},
		"hangs":     {hang, "no answer in time"},
	} {
		config := listsOnly()
		config.Events = true
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, "api-1.51-graphdriver", config)
			f.Answer("/events", test.answer)
			defer f.start()()
			time.Sleep(time.Minute)
			if n := f.requested("/events"); n < 2 || n > 8 {
				t.Errorf("%s: requested %d times in a minute", name, n)
			}
			if s := f.scrape(); !s.Images.IsKnown() || s.Prunes != nil {
				t.Errorf("%s: images known: %v, prunes %v; want images, and no prunes", name, s.Images.IsKnown(), s.Prunes)
			}
			f.logged(1, "\n", "cannot watch events", test.reason)
			if name == "forbidden" {
				f.logged(1, "allow GET /events")
			}
			f.streamEvents()
			time.Sleep(2 * time.Minute)
			f.logged(1, `msg=recovered operation="watch events"`)
			if s := f.scrape(); s.Prunes == nil {
				t.Errorf("%s: no prunes once events are allowed", name)
			}
		})
	}
}

// The back-off also grows if the last stream had events.
func TestBackoffAfterAStreamWithEvents(t *testing.T) {
	runWithEvents(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture, events eventStream) {
		events.send("container die c")
		time.Sleep(time.Minute)
		f.Answer("/events", status(403, "Forbidden by policy"))
		events.events <- ""
		before := f.requested("/events")
		time.Sleep(time.Minute)
		if n := f.requested("/events") - before; n > 7 {
			t.Errorf("requested %d times in a minute", n)
		}
	})
}

// A flood of events is read as fast as it comes, and kept within bounds: for more objects the
// list is requested again.
func TestFlood(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedWhenChanged()
	runSlow(t, config, func(e *slowEngine) {
		flood := 3 * maxPending(containers)
		for i := range flood {
			e.events.send(fmt.Sprintf("container die flood%d", i))
		}
		synctest.Wait()
		if n := len(e.events.events); n > 0 {
			t.Errorf("%d events are not read", n)
		}
		time.Sleep(10 * time.Second)
		if n := e.requested("/containers/flood"); n != maxPending(containers) {
			t.Errorf("%d inspections, want %d", n, maxPending(containers))
		}
		e.scrape()
		if n := e.lists("/containers/json"); n != 2 || e.lists("/images/json") != 1 {
			t.Errorf("%d container lists and %d image lists, want 2 and 1", n, e.lists("/images/json"))
		}
	})
}

// The queue of changed objects: an object is ready when nothing was heard of it for the
// debounce time, or when it has waited for the maximum delay.
func TestChangeQueue(t *testing.T) {
	start := time.Unix(0, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	image, container := objectKey{images, "i"}, objectKey{containers, "c"}
	all := func(kind) bool { return true }
	var q changeQueue
	q.add(image, at(0))
	q.add(container, at(0))
	q.add(container, at(300*time.Millisecond))
	if got := q.ready(all, at(debounce-1)); len(got) != 0 {
		t.Errorf("too early: %v", got)
	}
	if got := q.ready(func(k kind) bool { return k == containers }, at(debounce)); len(got) != 0 {
		t.Errorf("of containers: %v", got)
	}
	if got := q.ready(all, at(debounce)); !slices.Equal(got, []objectKey{image}) {
		t.Errorf("got %v, want %v", got, image)
	}
	q.add(container, at(600*time.Millisecond))
	q.add(container, at(maxDelay))
	if got := q.ready(all, at(maxDelay)); !slices.Equal(got, []objectKey{container}) || q.count(containers) != 1 || q.count(images) != 0 {
		t.Errorf("after the maximum delay: %v, %v left; want it both ready and left", got, q.pending)
	}
	q.drop(containers, at(maxDelay+debounce-1)) // a list that may be older than the change
	if q.count(containers) != 1 {
		t.Error("dropped by a list that may be older")
	}
	q.add(image, at(0))
	q.drop(containers, at(maxDelay+debounce))
	if q.count(containers) != 0 || q.count(images) != 1 {
		t.Errorf("after a list of containers: %v", q.pending)
	}
	for i := range maxPending(images) + 10 {
		if added := q.add(objectKey{images, fmt.Sprint(i)}, at(0)); added != (i < maxPending(images)-1) {
			t.Errorf("%d more images: added %v", i+1, added)
		}
	}
	if !q.add(image, at(time.Second)) || !q.add(container, at(0)) {
		t.Error("a full queue refuses a known image, or a container")
	}
}

// A list that began after an event has its effect: its objects are not inspected any more.
func TestListMakesInspectionsUnnecessary(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedWhenChanged()
	for _, during := range []bool{false, true} {
		runSlow(t, config, func(e *slowEngine) {
			e.scrapeAfter(time.Minute)
			e.change(func() {}, "container create x") // fails, so that there will be a list
			e.Answer("/containers/x/json", status(500, ""))
			time.Sleep(time.Second)
			inspections := e.requested("/containers/c1/json")
			if during {
				e.scrape() // begins a list
				synctest.Wait()
			}
			e.change(func() { e.states["c1"] = "paused" }, "container pause c1")
			time.Sleep(time.Second)
			if n := e.requested("/containers/c1/json"); n != inspections+1 {
				t.Errorf("%d inspections, want one", n-inspections)
			}
			if got := e.containerCount(); got["paused"] != 1 {
				t.Errorf("event during a list %v: %v", during, got)
			}
		})
	}
}

// Prunes count from the moment that the engine reports them, each once, also if a stream is cut.
func TestPrunes(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	runSlow(t, config, func(e *slowEngine) {
		send := func(kind string, nano int64, reclaimed string) {
			e.events.events <- fmt.Sprintf(`{"Type":%q,"Action":"prune","Actor":{"Attributes":{"reclaimed":%q}},"timeNano":%d}`, kind, reclaimed, nano)
		}
		find := func(resource model.Resource) (model.Prune, bool) {
			synctest.Wait()
			for _, p := range e.scrape().Prunes {
				if p.Resource == resource {
					return p, true
				}
			}
			return model.Prune{}, false
		}
		for _, resource := range []model.Resource{model.Containers, model.Volumes, model.BuildCache} {
			if p, there := find(resource); !there || p.Count != 0 || p.Last.IsKnown() {
				t.Errorf("before any prune: %+v, there: %v; want a known zero", p, there)
			}
		}
		if p, there := find(model.Images); there {
			t.Errorf("the containerd store reports no image prunes, yet there is %+v", p)
		}
		send("container", 1e9, "100")
		e.events.events <- ""
		time.Sleep(5 * time.Second)
		send("container", 1e9, "100") // repeated by the new stream
		send("container", 3e9, "50")
		send("volume", 2e9, "7")
		send("builder", 2e9, "8")
		send("network", 2e9, "9")
		send("builder", 3e9, "no number")
		p, _ := find(model.Containers)
		if last, _ := p.Last.Get(); p.Count != 2 || p.Bytes != 150 || last.Unix() != 3 {
			t.Errorf("container prunes: %+v, want 2 of 150 bytes, the last at 3 s", p)
		}
		if p, _ := find(model.Volumes); p.Count != 1 || p.Bytes != 7 {
			t.Errorf("volume prunes: %+v", p)
		}
		if p, _ := find(model.BuildCache); p.Count != 2 || p.Bytes != 8 {
			t.Errorf("build cache prunes: %+v", p)
		}
		e.Answer("/_ping", status(503, ""))
		if p, there := find(model.Containers); !there || p.Count != 2 {
			t.Errorf("without an engine: %+v, there: %v", p, there)
		}
	})
	runWithEvents(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture, events eventStream) {
		f.scrape()
		events.send("image prune ", "reclaimed", "5")
		synctest.Wait()
		if prunes := f.scrape().Prunes; len(prunes) != 4 || prunes[0].Resource != model.Images || prunes[0].Bytes != 5 || prunes[0].Count != 1 {
			t.Errorf("of a graph driver: %+v", prunes)
		}
	})
}

// Changes without an event are detected by the engine's own counts.
func TestCountsDrift(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedWhenChanged()
	runSlow(t, config, func(e *slowEngine) {
		images, containers := 5, 2 // an engine may count images in its own way
		e.Answer("/info", func(w http.ResponseWriter, _ *http.Request) {
			e.mu.Lock()
			defer e.mu.Unlock()
			fmt.Fprintf(w, `{"Images":%d,"Containers":%d,"ServerVersion":"28.5.2","DockerRootDir":"/var/lib/docker","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}`, images, containers)
		})
		check := func(step string, imageLists, containerLists int) {
			t.Helper()
			for range 3 {
				e.scrapeAfter(time.Minute)
			}
			if i, c := e.lists("/images/json"), e.lists("/containers/json"); i != imageLists || c != containerLists {
				t.Errorf("%s: %d image lists and %d container lists, want %d and %d", step, i, c, imageLists, containerLists)
			}
		}
		e.scrape()
		version := e.summary().Engine
		if got, known := version.Get(); !known || got.Version == "" {
			t.Fatalf("the engine is %+v", got)
		}
		check("no change", e.lists("/images/json"), e.lists("/containers/json"))
		i, c := e.lists("/images/json"), e.lists("/containers/json")
		check("no change", i, c)
		e.change(func() { images++ })
		check("one image more", i+1, c)
		e.change(func() { containers++ })
		check("one container more", i+1, c+1)
		e.change(func() { images, containers = images-1, containers-1 })
		check("back again", i+2, c+2)
		e.change(func() { images, e.images["sha256:c"] = images+1, []string{"c:1"} }, "image load sha256:c")
		check("a change with an event", i+2, c+2)
	})
}

// Another engine that answers at the same address is noticed when the event stream has to be
// opened again, although the ping is the same.
func TestAnotherEngineAfterTheStreamEnds(t *testing.T) {
	config := listsOnly()
	config.Events = true
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", config)
		events := f.streamEvents()
		f.Answer("/containers/json", slow(slowList, replyWith(`[{"Id":"c1","State":"running"}]`)))
		defer f.start()()
		f.scrape()
		time.Sleep(10 * time.Second)
		f.SwitchTo(testdata + "api-1.51-containerd")
		f.Answer("/containers/json", replyWith(`[{"Id":"c9","State":"running"}]`))
		f.reply("/containers/c9/json", `{"Id":"c9","State":{"Status":"running"},"Config":{"Image":"x"}}`)
		events.events <- ""
		time.Sleep(5 * time.Second)
		s := f.settle()
		if engine, _ := s.Engine.Get(); engine.ImageStore != model.Containerd || containerOf(s, "c9").ID == "" {
			t.Errorf("got %+v, %+v; want the other engine's", engine, s.Containers)
		}
		if !s.Images.IsKnown() {
			t.Error("images are unknown")
		}
	})
}

// An engine whose identity changes is another one: everything is unknown.
func TestAnotherEngine(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	base := map[string]any{"ServerVersion": "28.5.2", "DockerRootDir": "/var/lib/docker", "DriverStatus": [][]string{{"driver-type", "io.containerd.snapshotter.v1"}}}
	for name, test := range map[string]struct {
		key     string
		value   any
		another bool
	}{
		"the same":               {"NCPU", 4, false},
		"another version":        {"ServerVersion", "28.5.3", true},
		"another root directory": {"DockerRootDir", "/data", true},
		"another image store":    {"DriverStatus", nil, true},
	} {
		runSlow(t, config, func(e *slowEngine) {
			info := func(key string, value any) {
				changed := make(map[string]any)
				for k, v := range base {
					changed[k] = v
				}
				changed[key] = value
				e.reply("/info", changed)
			}
			info("Name", "first")
			for range 2 {
				e.scrapeAfter(time.Minute)
				e.scrapeAfter(time.Second)
			}
			i, c := e.lists("/images/json"), e.lists("/containers/json")
			info(test.key, test.value)
			time.Sleep(2 * time.Minute)
			s := e.scrape()
			if !s.Images.IsKnown() || !s.Containers.IsKnown() || !s.Up {
				t.Errorf("%s: images %v, containers %v", name, s.Images.IsKnown(), s.Containers.IsKnown())
			}
			if n := e.lists("/images/json") - i + e.lists("/containers/json") - c; (n == 2) != test.another || n != 0 && !test.another {
				t.Errorf("%s: %d lists", name, n)
			}
		})
	}
}
