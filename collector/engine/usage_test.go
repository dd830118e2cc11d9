package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/pace"
	"docker_buildup_exporter/collector/prune"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

// serveAll is serve with everything asked for.
func serveAll(t *testing.T, dir string) (*Engine, *dockertest.Fake, fmt.Stringer) {
	t.Helper()
	e, fake, log := serve(t, dir)
	e.config.ContainerSizes, e.config.Volumes, e.config.BuildCache = true, true, true
	return e, fake, log
}

// asked counts requests whose path has a part.
func asked(fake *dockertest.Fake, part string) (n int) {
	for _, request := range fake.Requests() {
		if strings.Contains(request, part) {
			n++
		}
	}
	return n
}

// Layers are asked for once for each image, whatever becomes of the engine, and
// stopped containers measured once for each stop.
func TestAskedOnce(t *testing.T) {
	e, fake, _ := serveAll(t, "api-1.51-graphdriver")
	var inv model.Snapshot
	for range 3 {
		inv = takeInventory(e)
		fake.Answer("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		takeInventory(e)
		fake.Answer("/_ping", nil)
	}
	images, _ := inv.Images.Get()
	if got := asked(fake, "/history"); got != len(images) {
		t.Errorf("asked for the history of images %d times, want once for each of %d", got, len(images))
	}
	if a := prune.Summarize(inv, 0); len(a.Reclaimable) != len(prune.Summarize(inv, 0).Reclaimable) || !a.Counts.Images.Layers.IsKnown() {
		t.Errorf("layers: %v, reclaimable: %v", a.Counts.Images.Layers, a.Reclaimable)
	}

	e, fake, _ = serveAll(t, "api-1.51-graphdriver")
	running, stopped := 0, 0
	for range 3 {
		inv = takeInventory(e)
	}
	containers, _ := inv.Containers.Get()
	for _, c := range containers {
		if c.State.Stopped() {
			stopped++
		} else {
			running++
		}
		if size, known := c.Size.Get(); !known || size != 100 {
			t.Errorf("%s container %s: %d bytes, known: %v", c.State, c.ID, size, known)
		}
	}
	if got := asked(fake, "?size=1"); got != 3*running+stopped {
		t.Errorf("measured %d containers in 3 scrapes, want %d stopped ones once and %d others each time", got, stopped, running)
	}
}

// An image that cannot be looked at makes what needs layers unknown, and nothing else;
// one that is gone since the list is no trouble.
func TestLayersFail(t *testing.T) {
	other, _, _ := serveAll(t, "api-1.51-graphdriver")
	images, _ := takeInventory(other).Images.Get()
	e, fake, log := serveAll(t, "api-1.51-graphdriver")
	fake.Answer("/images/"+images[0].ID+"/history", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "Forbidden by policy")
	})
	a := prune.Summarize(takeInventory(e), 0)
	if uninspected, _ := a.Counts.Images.Uninspected.Get(); uninspected != 1 {
		t.Errorf("%d images to look at, want 1", uninspected)
	}
	if _, known := a.Reclaimable[prune.ImagePruneAll]; known {
		t.Error("what an image prune frees is known")
	}
	if _, known := a.Reclaimable[prune.BuilderPrune]; !known {
		t.Error("what a builder prune frees is not known")
	}
	for _, want := range []string{"cannot look at the layers of images", "forbidden: Forbidden by policy", "allow GET /images/{id}/history"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, log)
		}
	}
	fake.Answer("/images/"+images[0].ID+"/history", nil)
	a = prune.Summarize(takeInventory(e), 0)
	if _, known := a.Reclaimable[prune.ImagePruneAll]; !known || !strings.Contains(log.String(), "works again: look at the layers of images") {
		t.Errorf("known after the trouble: %v, the log:\n%s", known, log)
	}
}

// Volumes are listed and measured: that one of the two fails is a failure.
func TestVolumesFail(t *testing.T) {
	for _, path := range []string{"/volumes", "/system/df"} {
		e, fake, log := serveAll(t, "api-1.51-graphdriver")
		fake.Answer(path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
		inv := takeInventory(e)
		isVolumes := func(q model.Collector) bool { return q.Name == "volumes" }
		i := slices.IndexFunc(inv.Collectors, isVolumes)
		if i < 0 || inv.Collectors[i].Success || !strings.Contains(log.String(), "allow GET "+path) {
			t.Errorf("%s is forbidden: the questions are %+v, the log says:\n%s", path, inv.Collectors, log)
		}
		fake.Answer(path, nil)
		inv = takeInventory(e)
		if !inv.Collectors[slices.IndexFunc(inv.Collectors, isVolumes)].Success {
			t.Errorf("%s is allowed again: the questions are %+v", path, inv.Collectors)
		}
	}
}

// On the containerd store a dead container has lost its writable layer, and asking for
// its size fails as if it were not there.
func TestDeadContainer(t *testing.T) {
	e, fake, log := serveAll(t, "api-1.51-containerd")
	fake.Answer("/containers/json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"Id":"dead","ImageID":"a","State":"dead"},{"Id":"removing","ImageID":"a","State":"removing"}]`)
	})
	for _, state := range []string{"dead", "removing"} {
		fake.Answer("/containers/"+state+"/json", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("size") == "1" {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"message":"rw layer snapshot not found for container"}`)
				return
			}
			fmt.Fprintf(w, `{"Id":%q,"Image":"a","Created":%q,"State":{"Status":%q,"FinishedAt":%q}}`, state, dockertest.FinishedAt, state, dockertest.FinishedAt)
		})
	}
	containers, _ := takeInventory(e).Containers.Get()
	for _, c := range containers {
		size, known := c.Size.Get()
		if want := c.State == model.Dead; known != want || size != 0 {
			t.Errorf("%s: %d bytes, known: %v; want %v", c.State, size, known, want)
		}
	}
	if strings.Contains(log.String(), "cannot measure") {
		t.Errorf("the log:\n%s", log)
	}
}

// Before API 1.42 the engine's account is all or nothing, and only one may ask for it:
// the two kinds of question share one, and wait for that of somebody else.
func TestOneAccountBefore142(t *testing.T) {
	e, fake, log := serveAll(t, "20.10-overlay2")
	var calls, busy, atOnce, most atomic.Int32
	busy.Store(1)
	fake.Answer("/system/df", func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		most.Store(max(most.Load(), atOnce.Add(1)))
		defer atOnce.Add(-1)
		if busy.Add(-1) >= 0 {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"message":"a disk usage operation is already running"}`)
			return
		}
		time.Sleep(50 * time.Millisecond)
		json.NewEncoder(w).Encode(map[string]any{"BuildCache": []any{}, "Volumes": []any{}})
	})
	eventually(t, "the build cache is known", func() bool {
		_, known := takeInventory(e).BuildCache.Get()
		return known
	})
	if calls.Load() != 2 || most.Load() != 1 {
		t.Errorf("asked %d times, %d at once; want 2, 1", calls.Load(), most.Load())
	}
	if log.String() != "" {
		t.Errorf("the log:\n%s", log)
	}
}

// Only what was asked for is asked of the engine.
func TestLeftOut(t *testing.T) {
	e, fake, _ := serve(t, "api-1.51-graphdriver")
	inv := takeInventory(e)
	if n := asked(fake, "/volumes") + asked(fake, "/system/df") + asked(fake, "size=1"); n != 0 {
		t.Errorf("asked %d times", n)
	}
	for _, q := range inv.Collectors {
		if q.Name != kindImages && q.Name != kindLayers && q.Name != kindContainers {
			t.Errorf("there is a question of %s", q.Name)
		}
	}
}

func TestTranslateReference(t *testing.T) {
	const id = "sha256:82d1e9d7ed48a7523bdebc18cf6290bdb97b82302a8a9c27d4fe885949ea94d1"
	for name, want := range map[string]model.Reference{
		"app":                         {Tag: "app:latest"},
		"app:1":                       {Tag: "app:1"},
		"docker.io/library/app:1":     {Tag: "app:1"},
		"registry.test:5000/team/app": {Tag: "registry.test:5000/team/app:latest"},
		"app:1@" + id:                 {Tag: "app:1", Pinned: true},
		"app@" + id:                   {Pinned: true},
		id:                            {Tag: id, Pinned: true}, // no image has that tag
		"82d1e9d":                     {Tag: "82d1e9d:latest", Pinned: true},
	} {
		if got := translateReference(name, id); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestMakesNoLayer(t *testing.T) {
	for createdBy, want := range map[string]bool{
		`/bin/sh -c #(nop)  ENTRYPOINT ["/idle"]`:    true,
		`/bin/sh -c #(nop) COPY file:191b4fd79166 /`: false,
		`ENV A=1`:                true,
		`COPY idle / # buildkit`: false,
		`WORKDIR /work`:          false,
		`RUN /bin/sh -c make`:    false,
		``:                       false,
		`/bin/sh -c ENV`:         false,
	} {
		if got := makesNoLayer(createdBy); got != want {
			t.Errorf("%q: %v, want %v", createdBy, got, want)
		}
	}
}

// What images share of the build cache is not known from when one of them comes or goes
// until the cache is asked for again. Where that is cheap, it is at once.
func TestCacheOutdated(t *testing.T) {
	e, fake, _ := serveAll(t, "api-1.51-graphdriver")
	fake.Answer("/containers/json", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") })
	take := func(outdated bool) {
		t.Helper()
		a := prune.Summarize(takeInventory(e), 0)
		_, pruneKnown := a.Reclaimable[prune.ImagePruneAll]
		countKnown := a.Counts.BuildCache != nil
		if a.BuildCacheStale != outdated || pruneKnown == outdated || !countKnown {
			t.Errorf("outdated: %v, want %v; image prune known: %v; records counted: %v, want it so", a.BuildCacheStale, outdated, pruneKnown, countKnown)
		}
	}
	list := func(ids ...string) {
		var records []map[string]any
		for _, id := range ids {
			records = append(records, map[string]any{"Id": id, "Size": 7})
			fake.Answer("/images/"+id+"/json", func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"Id":%q,"RootFS":{"Type":"layers","Layers":[%q]}}`, id, id)
			})
			fake.Answer("/images/"+id+"/history", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[{"Size":7}]`) })
		}
		fake.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(records) })
	}
	take(false)
	list("a", "b")
	take(false)

	e.cache.CallCheap(0)
	fake.Answer("/system/df", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		fmt.Fprint(w, `{"BuildCache":[]}`)
	})
	e.cache.Change()
	before := asked(fake, "type=build-cache")
	eventually(t, "a dear list of the build cache", func() bool { takeInventory(e); return asked(fake, "type=build-cache") > before })
	eventually(t, "its end", func() bool { return !e.cache.Ended().IsZero() })
	take(false)
	list("a", "c") // as many as before
	take(true)
	take(true)
	eventually(t, "another one", func() bool { return !takeInventory(e).BuildCacheStale })
	take(false)
}

// Who would hear events, but is not told them, trusts no old account.
func TestDeaf(t *testing.T) {
	e, _, _ := serveAll(t, "api-1.51-graphdriver")
	trusts := func(want bool) {
		t.Helper()
		inv := takeInventory(e)
		volumes, known := inv.Volumes.Get()
		if !known || len(volumes) == 0 || volumes[0].SizeStale == want || inv.BuildCacheStale == want {
			t.Errorf("touched: %+v, outdated: %v; want neither: %v", volumes, inv.BuildCacheStale, want)
		}
	}
	trusts(true)
	e.listens.Store(true)
	trusts(true) // it is asked with each scrape
	e.volumeSizes.CallCheap(0)
	e.cache.CallCheap(0)
	trusts(false)
	e.watching.Store(true)
	trusts(true)
}

// A prune of the build cache leaves nothing to tell of it until it is asked for again.
func TestCachePruned(t *testing.T) {
	h, e, _ := newHall(t, pace.Pace{Idle: 1, Change: 1})
	e.config.BuildCache = true
	e.cache.CallCheap(0)
	goOn := make(chan struct{}, 1)
	h.Answer("/system/df", func(w http.ResponseWriter, _ *http.Request) {
		<-goOn
		fmt.Fprint(w, `{"BuildCache":[{"ID":"a","Type":"regular","Size":7}]}`)
	})
	isKnown := func(isOutdated bool) func() bool {
		return func() bool {
			inv := takeInventory(e)
			_, known := inv.BuildCache.Get()
			return known && inv.BuildCacheStale == isOutdated
		}
	}
	goOn <- struct{}{}
	eventually(t, "a list of the build cache", isKnown(false))
	h.change(func() {}, "builder prune x")
	eventually(t, "that it is outdated", isKnown(true))
	close(goOn)
	eventually(t, "another list", isKnown(false))
}

// "docker cp" changes a stopped container, also where it only reads, and so does a start
// that fails: they make mount points in it.
func TestChangedThoughStopped(t *testing.T) {
	h, e, _ := newHall(t, once())
	e.config.ContainerSizes = true
	for _, event := range []string{"container archive-path", "container extract-to-dir", "network disconnect"} {
		kind, action, _ := strings.Cut(event, " ")
		eventually(t, "the size of a stopped container", func() bool {
			takeInventory(e)
			_, known := e.sizes.get("c2")
			return known
		})
		before := asked(h.Fake, "/c2/json?size=1")
		h.change(func() {}, event+" c2")
		eventually(t, "another one after "+event, func() bool { takeInventory(e); return asked(h.Fake, "/c2/json?size=1") > before })
		if asked(h.Fake, action) == 0 || asked(h.Fake, kind) == 0 {
			t.Errorf("the engine is not asked for the event %s", event)
		}
	}
}

// A size of a volume is no longer sure once a container has left it, until it is measured
// anew, which takes its time.
func TestTouchedVolume(t *testing.T) {
	h, e, _ := newHall(t, pace.Pace{Idle: 1, Change: 1})
	e.config.Volumes = true
	measuring, goOn := make(chan struct{}, 9), make(chan struct{})
	h.Answer("/system/df", func(w http.ResponseWriter, _ *http.Request) {
		measuring <- struct{}{}
		<-goOn
		fmt.Fprint(w, `{"Volumes":[{"Name":"database","UsageData":{"Size":7}},{"Name":"other","UsageData":{"Size":7}}]}`)
	})
	touched := func() (volume model.Volume) {
		volumes, _ := takeInventory(e).Volumes.Get()
		if i := slices.IndexFunc(volumes, func(v model.Volume) bool { return v.Name == "database" }); i >= 0 {
			volume = volumes[i]
		}
		return volume
	}
	isMeasured := func(isTouched bool) func() bool {
		return func() bool {
			volume := touched()
			return volume.Size == model.Known[int64](7) && volume.SizeStale == isTouched
		}
	}
	leave := func() { untilForgotten(t, e.untouched, func() { h.change(func() {}, "volume unmount database") }) }

	eventually(t, "a measurement", func() bool { takeInventory(e); return len(measuring) == 1 })
	leave()
	goOn <- struct{}{}
	eventually(t, "a size from before the container left", isMeasured(true))
	goOn <- struct{}{}
	eventually(t, "another one", isMeasured(false))
	leave()
	if !isMeasured(true)() {
		t.Errorf("%+v, want it touched", touched())
	}
	close(goOn)
	eventually(t, "a third one", isMeasured(false))
	if asked(h.Fake, "unmount") == 0 {
		t.Errorf("the engine is not asked for the event")
	}
}

// A size that was being measured when the container changed may be that of before.
func TestChangedWhileMeasured(t *testing.T) {
	h, e, _ := newHall(t, pace.Pace{Idle: 1, Change: 1})
	e.config.ContainerSizes = true
	eventually(t, "the size of a stopped container", func() bool { return writableLayer(takeInventory(e), "c2") == model.Known[int64](5) })
	measuring, goOn := make(chan struct{}, 1), make(chan struct{})
	h.Answer("/containers/c2/json", func(w http.ResponseWriter, r *http.Request) {
		size := 6
		if r.FormValue("size") == "1" {
			select {
			case measuring <- struct{}{}:
				<-goOn
			default:
				size = 4
			}
		}
		fmt.Fprintf(w, `{"Id":"c2","Image":"sha256:a","Created":%q,"State":{"Status":"exited"},"SizeRw":%d}`, dockertest.FinishedAt, size)
	})
	h.change(func() {}, "container extract-to-dir c2")
	eventually(t, "a measurement", func() bool { takeInventory(e); return len(measuring) == 1 })
	untilForgotten(t, e.sizes, func() { h.change(func() {}, "container extract-to-dir c2") })
	close(goOn)
	var size model.Optional[int64]
	eventually(t, "a size", func() bool { size = writableLayer(takeInventory(e), "c2"); return size != model.Optional[int64]{} })
	if size != model.Known[int64](4) {
		t.Errorf("the size after the last change: %v, want 4", size)
	}
}

// untilForgotten tells of a change, and waits until it is heard.
func untilForgotten[T any](t *testing.T, m *memory[T], tell func()) {
	t.Helper()
	moments := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.moments
	}
	before := moments()
	tell()
	eventually(t, "the event", func() bool { return moments() > before })
}

func writableLayer(inv model.Snapshot, id string) (size model.Optional[int64]) {
	containers, _ := inv.Containers.Get()
	for _, c := range containers {
		if c.ID == id {
			size = c.Size
		}
	}
	return size
}

// An image that was unpacked after the look at it is looked at once more, but not again
// and again if that explains nothing.
func TestUnpackedAfterTheLook(t *testing.T) {
	e, fake, _ := serveAll(t, "api-1.51-containerd")
	var unpacked, told atomic.Int64
	fake.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `[{"Id":"a","Size":100,"Manifests":[{"Kind":"image","Available":true,"ImageData":{"Size":{"Unpacked":%d}}}]}]`, unpacked.Load())
	})
	fake.Answer("/images/a/json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"Id":"a","RootFS":{"Type":"layers","Layers":["x"]}}`)
	})
	fake.Answer("/images/a/history", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `[{"Size":%d}]`, told.Load()) })
	for _, step := range []struct {
		unpacked, told int64
		looks          int
	}{{0, 0, 1}, {0, 0, 1}, {70, 70, 2}, {70, 70, 2}, {80, 70, 3}, {80, 70, 3}, {80, 90, 3}, {70, 70, 3}} {
		unpacked.Store(step.unpacked)
		told.Store(step.told)
		takeInventory(e)
		if got := asked(fake, "/a/history"); got != step.looks {
			t.Errorf("%+v: looked at %d times", step, got)
		}
	}
}

// An image that cannot be as the engine says stays unknown, and the log says which. It
// keeps no other image from being looked at.
func TestBadLooks(t *testing.T) {
	const layers = `{"Id":"bad0","RootFS":{"Type":"layers","Layers":["x"]}}`
	many := func(record string, n int) string { return "[" + strings.Repeat(record+",", n) + record + "]" }
	for name, test := range map[string]struct{ inspect, history string }{
		"nothing":             {`{}`, `[]`},
		"another image":       {`{"Id":"b","RootFS":{"Type":"layers","Layers":["x"]}}`, `[{"Size":1}]`},
		"no layers":           {`{"Id":"bad0"}`, `[]`},
		"a negative size":     {layers, `[{"Size":-1}]`},
		"a size of 8 exbi":    {layers, `[{"Size":9223372036854775807}]`},
		"sizes that overflow": {layers, many(`{"Size":17592186044416}`, 1)},
		"too many steps":      {layers, many(`{"Size":0}`, 10000)},
		"too many layers":     {`{"Id":"bad0","RootFS":{"Type":"layers","Layers":` + many(`"x"`, 1000) + `}}`, `[{"Size":1}]`},
	} {
		t.Run(name, func(t *testing.T) {
			e, fake, log := serveAll(t, "api-1.51-graphdriver")
			answer := func(id, inspect, history string) {
				fake.Answer("/images/"+id+"/json", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, inspect) })
				fake.Answer("/images/"+id+"/history", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, history) })
			}
			for i := range 4 {
				id := fmt.Sprint("bad", i)
				answer(id, strings.ReplaceAll(test.inspect, "bad0", id), test.history)
			}
			answer("good", `{"Id":"good","RootFS":{"Type":"layers","Layers":["x"]}}`, `[{"Size":1}]`)
			fake.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, `[{"Id":"bad0"},{"Id":"bad1"},{"Id":"bad2"},{"Id":"bad3"},{"Id":"good"}]`)
			})
			takeInventory(e)
			eventually(t, "the end of the looks", func() bool {
				e.layers.mu.Lock()
				defer e.layers.mu.Unlock()
				return e.layers.look == nil
			})
			images, _ := e.images.all().Get()
			if missing := e.layers.missing(images); len(missing) != 4 {
				t.Errorf("%d images to look at, want 4", len(missing))
			}
			if !strings.Contains(log.String(), "cannot look at the layers of images") || !strings.Contains(log.String(), "what an image is made of: bad3") {
				t.Errorf("the log:\n%s", log)
			}
		})
	}
}

// An image that is not there since the list is no trouble; one that goes on to be in
// lists and not to be there is.
func TestImageIsNotThere(t *testing.T) {
	for _, endpoint := range []string{"json", "history"} {
		e, fake, log := serveAll(t, "api-1.51-graphdriver")
		fake.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[{"Id":"a"}]`) })
		fake.Answer("/images/a/json", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"Id":"a","RootFS":{"Type":"layers","Layers":["x"]}}`)
		})
		fake.Answer("/images/a/"+endpoint, http.NotFound)
		takeInventory(e)
		if log.String() != "" {
			t.Errorf("%s: the log says at first:\n%s", endpoint, log)
		}
		takeInventory(e)
		if !strings.Contains(log.String(), "cannot look at the layers of images") {
			t.Errorf("%s: the log says of an image that is never there:\n%s", endpoint, log)
		}
	}
}

// What an engine lists twice is there once; a record of the cache without an ID is none.
func TestListedTwice(t *testing.T) {
	e, fake, log := serveAll(t, "api-1.51-graphdriver")
	reply := func(endpoint, body string) {
		fake.Answer(endpoint, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
	}
	reply("/containers/json", `[{"Id":"c","ImageID":"a","State":"running"},{"Id":"c","ImageID":"a","State":"exited"}]`)
	reply("/volumes", `{"Volumes":[{"Name":"v"},{"Name":"v"}]}`)
	reply("/system/df", `{"BuildCache":[{"ID":"r","Size":1},{"ID":"r","Size":2,"InUse":true},{"ID":"s","Size":9223372036854775807},{"ID":"t","Size":-5}]}`)
	inv := takeInventory(e)
	containers, _ := inv.Containers.Get()
	volumes, _ := inv.Volumes.Get()
	records, _ := inv.BuildCache.Get()
	if len(containers) != 1 || containers[0].State != model.Running || len(volumes) != 1 || len(records) != 3 || records[0].InUse {
		t.Errorf("got %+v, %+v, %+v; want the first of each", containers, volumes, records)
	}
	for i, want := range []model.Optional[int64]{model.Known[int64](1), {}, {}} {
		if records[i].Size != want {
			t.Errorf("record %s has %+v bytes, want %+v", records[i].ID, records[i].Size, want)
		}
	}
	reply("/system/df", `{"BuildCache":[{"ID":"","Size":1}]}`)
	if _, known := takeInventory(e).BuildCache.Get(); known || !strings.Contains(log.String(), "no ID") {
		t.Errorf("a record without an ID is known: %v; the log:\n%s", known, log)
	}
}

// The size of a container while it ran is not its size since it stopped, whether or not
// the engine tells when that was.
func TestSizeWhileItRan(t *testing.T) {
	e, _, _ := serveAll(t, "api-1.51-graphdriver")
	at := model.Known(time.Unix(1, 0))
	for _, test := range []struct {
		then, now model.Container
		same      bool
	}{
		{model.Container{State: model.Running}, model.Container{State: model.Running}, true},
		{model.Container{State: model.Running}, model.Container{State: model.Exited}, false},
		{model.Container{State: model.Exited}, model.Container{State: model.Running}, false},
		{model.Container{State: model.Exited, StoppedAt: at}, model.Container{State: model.Exited, StoppedAt: at}, true},
		{model.Container{State: model.Exited, StoppedAt: at}, model.Container{State: model.Exited}, false},
		{model.Container{State: model.Exited}, model.Container{State: model.Exited, StoppedAt: at}, false},
	} {
		e.sizes.look()("", size{bytes: 1, stopped: test.then.State.Stopped(), stoppedAt: test.then.StoppedAt})
		if _, known := e.lastSize(test.now); known != test.same {
			t.Errorf("%+v and then %+v: the size is known: %v", test.then, test.now, known)
		}
	}
}

// The list and a look name the images that a container mounts as it was told to.
func TestTranslateMounted(t *testing.T) {
	const id = "sha256:82d1e9d7ed48a7523bdebc18cf6290bdb97b82302a8a9c27d4fe885949ea94d1"
	for name, want := range map[string]string{
		"app":                     "app:latest",
		"docker.io/library/app:1": "app:1",
		"app@" + id:               id,
		"app:1@" + id:             id,
		id:                        id,
		"":                        "",
	} {
		mounts := []container.MountPoint{{Type: mount.TypeVolume, Name: "v"}, {Type: mount.TypeBind}, {Type: mount.TypeImage, Name: name}}
		volumes, images := translateMounts(mounts)
		if !slices.Equal(volumes, []string{"v"}) || !slices.Equal(images, []string{want}) {
			t.Errorf("%q: volumes %q, images %q; want %q", name, volumes, images, want)
		}
	}
}

// A stopped container is not measured before it is known since when: nothing would tell
// for how long that is true.
func TestStoppedSinceUnknown(t *testing.T) {
	e, fake, _ := serveAll(t, "api-1.51-graphdriver")
	fake.Answer("/containers/json", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[{"Id":"c","State":"exited"}]`) })
	finished := ""
	fake.Answer("/containers/c/json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"Id":"c","State":{"Status":"exited","FinishedAt":%q},"SizeRw":3}`, finished)
	})
	for _, finished = range []string{"", dockertest.FinishedAt} {
		containers, _ := takeInventory(e).Containers.Get()
		if size, known := containers[0].Size.Get(); known != (finished != "") || known && size != 3 {
			t.Errorf("finished at %q: %d bytes, known: %v", finished, size, known)
		}
	}
}
