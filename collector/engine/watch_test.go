package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/pace"
	"docker_buildup_exporter/collector/prune"
)

// A hall is an engine whose lists are dear, and which tells its events.
type hall struct {
	*dockertest.Fake
	events chan string

	mu     sync.Mutex
	images map[string][]string // tags by ID
	states map[string]string   // of containers by ID
}

// once is the pace of a list that is never asked for again.
func once() pace.Pace { return pace.Pace{Idle: 1e-9, Change: 1e-9} }

// newHall returns an engine that takes longer for a list than any scrape waits
// twice, and an engine room that watches it.
func newHall(t *testing.T, p pace.Pace) (*hall, *Engine, *strings.Builder) {
	t.Helper()
	h := &hall{
		Fake:   dockertest.NewFake("../docker/testdata/api-1.51-containerd"),
		events: make(chan string, 100000),
		images: map[string][]string{"sha256:a": {"a:1"}, "sha256:b": {"b:1"}},
		states: map[string]string{"c1": "running", "c2": "exited"},
	}
	h.Answer("/images/json", func(w http.ResponseWriter, r *http.Request) {
		filtered := strings.Contains(r.URL.RawQuery, "reference")
		if !filtered {
			time.Sleep(pace.Cheap + 100*time.Millisecond)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		var list []map[string]any
		for id, tags := range h.images {
			list = append(list, map[string]any{"Id": id, "RepoTags": tags, "Size": 100})
		}
		json.NewEncoder(w).Encode(list)
	})
	h.Answer("/containers/json", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(pace.Cheap + 100*time.Millisecond)
		h.mu.Lock()
		defer h.mu.Unlock()
		var list []map[string]any
		for id, state := range h.states {
			list = append(list, map[string]any{"Id": id, "ImageID": "sha256:a", "State": state})
		}
		json.NewEncoder(w).Encode(list)
	})
	h.Answer("/events", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		for {
			select {
			case event := <-h.events:
				if event == "" { // the end of this stream
					return
				}
				fmt.Fprintln(w, event)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	for _, id := range []string{"c1", "c2", "c3"} {
		h.Answer("/containers/"+id+"/json", h.container(id))
	}
	server := httptest.NewServer(h)
	var log strings.Builder
	e, err := New(Config{Host: server.URL, Timeout: time.Second, Pace: p}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	e.config.Pace.Change = 1 // looks are not what is measured here
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		e.Watch(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-watched
		server.CloseClientConnections()
		server.Close()
	})
	eventually(t, "the engine is watched", e.watching.Load)
	takeInventory(e)
	return h, e, &log
}

// change changes what the engine holds, and tells of it.
func (h *hall) change(change func(), events ...string) {
	h.mu.Lock()
	change()
	h.mu.Unlock()
	for _, event := range events {
		kind, rest, _ := strings.Cut(event, " ")
		action, id, _ := strings.Cut(rest, " ")
		actor := fmt.Sprintf(`{"ID":%q}`, id)
		if kind == "network" {
			actor = fmt.Sprintf(`{"ID":"n","Attributes":{"container":%q}}`, id)
		}
		h.events <- fmt.Sprintf(`{"Type":%q,"Action":%q,"Actor":%s,"timeNano":%d}`, kind, action, actor, time.Now().UnixNano())
	}
}

// lists is how many full lists the engine was asked for.
func (h *hall) lists(endpoint string) (n int) {
	for _, request := range h.Requests() {
		if strings.Contains(request, endpoint+"?all=1") && !strings.Contains(request, "filters") {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// An engine whose lists are dear is asked for each of them once. After that its
// events lead to single looks, and the figures follow.
func TestLooksInsteadOfLists(t *testing.T) {
	h, e, log := newHall(t, once())
	states := func() map[string]int { return byName(prune.Summarize(takeInventory(e), 0).Counts.Containers.State) }
	images := func() imageCount { return countImages(prune.Summarize(takeInventory(e), 0)) }
	h.Answer("/images/sha256:a/json", h.image("sha256:a"))
	h.Answer("/images/sha256:b/json", h.image("sha256:b"))
	h.Answer("/images/sha256:c/json", h.image("sha256:c"))
	if got := states(); got["running"] != 1 || got["exited"] != 1 {
		t.Fatalf("at first: %v\n%s", got, log)
	}

	h.change(func() { h.states["c1"] = "paused" }, "container pause c1")
	eventually(t, "a paused container", func() bool { return states()["paused"] == 1 && states()["running"] == 0 })
	h.change(func() { h.states["c3"] = "created" }, "container create c3")
	eventually(t, "a created container", func() bool { return states()["created"] == 1 })
	h.change(func() { delete(h.states, "c3") }, "container destroy c3")
	eventually(t, "no created container", func() bool { return states()["created"] == 0 })

	h.change(func() { h.images["sha256:c"] = []string{"c:1"} }, "image load sha256:c")
	eventually(t, "a third image", func() bool { return images().Tagged == 3 })
	h.change(func() {
		h.images["sha256:c"] = []string{"b:1", "c:1"}
		h.images["sha256:b"] = nil
	}, "image tag sha256:c")
	eventually(t, "a moved tag", func() bool { got := images(); return got.Tagged == 2 && got.Untagged == 1 && got.Tags == 3 })
	if size, known := images().VirtualSize.Get(); size != 300 || !known {
		t.Errorf("a virtual size of %d, known %v; want 300", size, known)
	}
	h.change(func() { delete(h.images, "sha256:b") }, "image delete sha256:b")
	eventually(t, "one image less", func() bool { return images().Untagged == 0 })

	for _, endpoint := range []string{"/images/json", "/containers/json"} {
		if n := h.lists(endpoint); n != 1 {
			t.Errorf("%s was asked for %d times in full, want once", endpoint, n)
		}
	}
}

func (h *hall) container(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.states[id] == "" {
			http.Error(w, "no such container", http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, `{"Id":%q,"Image":"sha256:a","Created":%q,"State":{"Status":%q},"SizeRw":5}`, id, dockertest.FinishedAt, h.states[id])
	}
}

func (h *hall) image(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		tags, there := h.images[id]
		if !there {
			http.Error(w, "no such image", http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"Id": id, "RepoTags": tags, "Size": 7})
	}
}

// A tag that was taken from an image and is gone again has left that image without.
func TestTagTakenAndRemoved(t *testing.T) {
	h, e, _ := newHall(t, once())
	for _, id := range []string{"sha256:a", "sha256:b", "sha256:c"} {
		h.Answer("/images/"+id+"/json", h.image(id))
	}
	h.change(func() { h.images["sha256:b"] = nil })
	h.events <- `{"Type":"image","Action":"tag","Actor":{"ID":"sha256:c","Attributes":{"name":"b:1"}},"timeNano":1}`
	h.events <- `{"Type":"image","Action":"delete","Actor":{"ID":"sha256:c","Attributes":{"name":"sha256:c"}},"timeNano":2}`
	eventually(t, "one tagged and one untagged image", func() bool {
		count := countImages(prune.Summarize(takeInventory(e), 0))
		return count.Tagged == 1 && count.Untagged == 1
	})
}

// What a lying engine says of one thing is no look at it.
func TestIncompleteLooks(t *testing.T) {
	h, e, _ := newHall(t, once())
	empty := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }
	for _, endpoint := range []string{"/images/sha256:a/json", "/containers/c1/json"} {
		h.Answer(endpoint, empty)
	}
	h.change(func() {}, "image load sha256:a", "container start c1")
	eventually(t, "the looks", func() bool { return e.images.HasChanged() && e.containers.HasChanged() })
	a := prune.Summarize(takeInventory(e), 0)
	images := countImages(a)
	states := byName(a.Counts.Containers.State)
	if images.Tagged != 2 || images.Untagged != 0 || states["running"] != 1 || states["exited"] != 1 {
		t.Errorf("got %+v, %v; want what was known before", images, states)
	}
}

// A scrape that will not wait says nothing of the engine.
func TestHurriedScrapeForgetsNothing(t *testing.T) {
	h, e, _ := newHall(t, once())
	h.Answer("/_ping", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	e.Inventory(ctx)
	cancel()
	h.Answer("/_ping", nil)
	if _, known := takeInventory(e).Images.Get(); !known {
		t.Error("the images are forgotten")
	}
}

// Without events a container that has run again since is seen, and looked at.
func TestStoppedWithoutEvents(t *testing.T) {
	h, e, _ := newHall(t, once())
	takeInventory(e)
	h.change(func() { h.states["c2"] = "running" })
	e.stops.forgetAll() // as once a minute without events
	a := prune.Summarize(takeInventory(e), 0)
	states := byName(a.Counts.Containers.State)
	if stopped := byName(a.Counts.Containers.StoppedFor); states["running"] != 2 || len(stopped) == 0 || stopped["30d+"] != 0 {
		t.Errorf("got %v, stopped %v; want two that run and none that is stopped", states, stopped)
	}
}

// A stream that ends is opened again, and what it says goes on to count.
func TestStreamIsCut(t *testing.T) {
	h, e, log := newHall(t, once())
	for range 2 {
		h.events <- ""
		eventually(t, "the engine is not watched", func() bool { return !e.watching.Load() })
		eventually(t, "the engine is watched again", e.watching.Load)
	}
	h.change(func() { h.states["c1"] = "paused" }, "container pause c1")
	eventually(t, "a paused container", func() bool {
		count := byName(prune.Summarize(takeInventory(e), 0).Counts.Containers.State)
		return count["paused"] == 1
	})
	if log.Len() > 0 {
		t.Errorf("an idle stream that a proxy cuts is no trouble, but the log says:\n%s", log)
	}
}

// A flood of events is drained as fast as it comes, and remembered within bounds:
// beyond them a full list is asked for, when that is due.
func TestFlood(t *testing.T) {
	h, e, _ := newHall(t, once())
	flood := 20 * most(kindContainers)
	for i := range flood {
		h.events <- fmt.Sprintf(`{"Type":"container","Action":"die","Actor":{"ID":"flood%d"},"timeNano":%d}`, i, i+1)
	}
	eventually(t, "the flood is drained", func() bool { return len(h.events) == 0 })
	e.hints.mu.Lock()
	remembered := len(e.hints.given)
	e.hints.mu.Unlock()
	if remembered > most(kindContainers) || !e.containers.HasChanged() {
		t.Errorf("%d hints are remembered, want %d at most; changed %v, want it so", remembered, most(kindContainers), e.containers.HasChanged())
	}
}

// Prunes count from the moment that the engine tells of them, each once.
func TestPrunes(t *testing.T) {
	h, e, _ := newHall(t, once())
	prune := func(kind string, nano int64, bytes int) {
		h.events <- fmt.Sprintf(`{"Type":%q,"Action":"prune","Actor":{"Attributes":{"reclaimed":"%d"}},"timeNano":%d}`, kind, bytes, nano)
	}
	find := func(resource model.Resource) (model.Prune, bool) {
		for _, p := range takeInventory(e).Prunes {
			if p.Resource == resource {
				return p, true
			}
		}
		return model.Prune{}, false
	}
	if p, there := find(model.Containers); !there || p.Count != 0 {
		t.Errorf("before any prune: %+v, there: %v; want a known zero", p, there)
	}
	if p, there := find(model.Images); there {
		t.Errorf("the containerd store does not tell of image prunes, yet there is %+v", p)
	}
	prune("container", 1e9, 100)
	prune("container", 1e9, 100) // told again
	prune("container", 3e9, 50)
	prune("volume", 2e9, 7)
	prune("builder", 2e9, 8)
	prune("network", 2e9, 9)
	eventually(t, "all prunes", func() bool { p, _ := find(model.BuildCache); return p.Count == 1 })
	p, _ := find(model.Containers)
	if last, _ := p.Last.Get(); p.Count != 2 || p.Bytes != 150 || last.Unix() != 3 {
		t.Errorf("container prunes: %+v, want 2 of 150 bytes, the last at 3 s", p)
	}
}

// A proxy that does not let events through costs freshness only, and the log says so.
func TestEventsForbidden(t *testing.T) {
	fake := dockertest.NewFake("../docker/testdata/api-1.51-graphdriver")
	server := httptest.NewServer(fake)
	defer server.Close()
	e, log := newTest(t, server.URL)
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		e.Watch(ctx)
	}()
	eventually(t, "a second try", func() bool {
		n := 0
		for _, request := range fake.Requests() {
			if strings.Contains(request, "/events") {
				n++
			}
		}
		return n >= 2
	})
	inv := takeInventory(e)
	cancel()
	<-watched
	if _, known := inv.Images.Get(); !known || inv.Prunes != nil {
		t.Errorf("images known: %v, prunes %v; want images, and nothing of prunes", known, inv.Prunes)
	}
	if got := log.String(); strings.Count(got, "cannot watch events") != 1 || !strings.Contains(got, "allow GET /events") {
		t.Errorf("the log does not say once what to allow:\n%s", got)
	}
}

// A list that takes longer than a scrape goes on behind it, once, and the next
// scrape has the answer. Whoever is known to be dear is not waited for.
func TestListGoesOnBehind(t *testing.T) {
	e, fake, log := serve(t, "api-1.51-graphdriver")
	release := make(chan struct{})
	fake.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, `[{"Id":"sha256:a"}]`)
	})
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		inv := e.Inventory(ctx)
		cancel()
		if _, known := inv.Images.Get(); known || len(inv.Collectors) != 1 || inv.Collectors[0].Name != kindContainers {
			t.Errorf("before the answer: images known %v, questions %+v", known, inv.Collectors)
		}
	}
	close(release)
	eventually(t, "the answer", func() bool { _, known := takeInventory(e).Images.Get(); return known })
	lists := 0
	for _, request := range fake.Requests() {
		if strings.Contains(request, "/images/json") {
			lists++
		}
	}
	if lists > 2 { // the one that took long, and one that found it
		t.Errorf("%d lists were asked for", lists)
	}
	if log.Len() > 0 {
		t.Errorf("the log says:\n%s", log)
	}
}

// When the engine is gone its dear answers are dropped at once, and asked for as
// soon as their price allows when there is an engine again.
func TestGoneAndBack(t *testing.T) {
	h, e, _ := newHall(t, pace.Pace{Idle: 1e-9, Change: 0.5})
	ping := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	h.Answer("/_ping", ping(http.StatusServiceUnavailable))
	inv := takeInventory(e)
	if _, known := inv.Images.Get(); known || inv.Up {
		t.Errorf("up %v, images known %v; want neither", inv.Up, known)
	}
	h.Answer("/_ping", nil)
	eventually(t, "images", func() bool { _, known := takeInventory(e).Images.Get(); return known })
	if n := h.lists("/images/json"); n != 2 {
		t.Errorf("%d lists, want 2: one for each life of the engine", n)
	}
}

// What no event tells of is seen in the engine's own counts.
func TestCrossCheck(t *testing.T) {
	h, e, _ := newHall(t, once())
	theirs := 2
	h.Answer("/info", func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		fmt.Fprintf(w, `{"Images":%d,"Containers":%d,"ServerVersion":"28.5.2","DockerRootDir":"/var/lib/docker","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}`, theirs, len(h.states))
	})
	changed := func() (images, containers bool) {
		return e.images.HasChanged(), e.containers.HasChanged()
	}
	ctx := context.Background()
	takeInventory(e)
	e.compareCounts(ctx)
	e.compareCounts(ctx)
	if images, containers := changed(); images || containers {
		t.Fatalf("changed: images %v, containers %v; want neither", images, containers)
	}
	h.change(func() { theirs++ })
	e.compareCounts(ctx)
	if images, containers := changed(); !images || containers {
		t.Errorf("one image more: images changed %v, containers %v", images, containers)
	}
	h.change(func() { h.states["c9"] = "running" })
	e.compareCounts(ctx)
	if _, containers := changed(); !containers {
		t.Error("one container more is no change")
	}
}

type imageCount struct {
	Tagged, Untagged, Tags int
	VirtualSize            model.Optional[int64]
}

func countImages(s prune.Summary) imageCount {
	tagged, _ := s.Counts.Images.Tagged.Get()
	untagged, _ := s.Counts.Images.Untagged.Get()
	tags, _ := s.Counts.Images.Tags.Get()
	return imageCount{tagged, untagged, tags, s.Counts.Images.VirtualSize}
}

func byName(counts model.Counts) map[string]int {
	numbers := make(map[string]int)
	for _, count := range counts {
		numbers[count.Name] = count.N
	}
	return numbers
}
