package engine

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// usageOnly requests volumes and the build cache beside images and containers.
func usageOnly() Config {
	config := listsOnly()
	config.Volumes, config.BuildCache = true, true
	return config
}

// volumeOf returns a volume of a snapshot.
func volumeOf(s model.Snapshot, name string) model.Volume {
	list, _ := s.Volumes.Get()
	for _, v := range list {
		if v.Name == name {
			return v
		}
	}
	return model.Volume{}
}

// Volumes are listed and measured: if one of the two fails, the collector fails.
func TestVolumesFail(t *testing.T) {
	for endpoint, operation := range map[string]string{"/volumes": "list volumes", "/system/df": "measure volumes"} {
		run(t, "api-1.51-graphdriver", usageOnly(), func(f *fixture) {
			f.Answer(endpoint, status(403, ""))
			s := f.scrape()
			if collectorOf(s, "volumes").Success || s.Volumes.IsKnown() != (endpoint != "/volumes") || volumeOf(s, "database").Size.IsKnown() {
				t.Errorf("%s is forbidden: %+v, %+v", endpoint, s.Collectors, s.Volumes)
			}
			if c := collectorOf(s, "build_cache"); c.Success != (endpoint == "/volumes") || s.BuildCache.IsKnown() != c.Success {
				t.Errorf("%s is forbidden: %+v, build cache known: %v", endpoint, c, s.BuildCache.IsKnown())
			}
			f.logged(1, "cannot "+operation)
			if !strings.Contains(f.log.String(), "allow GET "+endpoint+" in the socket proxy") {
				t.Errorf("the log has no hint:\n%s", f.log)
			}
			f.Answer(endpoint, nil)
			time.Sleep(time.Second)
			s = f.settle()
			if !collectorOf(s, "volumes").Success || volumeOf(s, "database").Size != model.Known[int64](70000) {
				t.Errorf("%s is allowed again: %+v, %+v", endpoint, s.Collectors, s.Volumes)
			}
			f.logged(1, `operation="`+operation+`"`)
		})
	}
}

// Before API 1.42 the engine measures everything or nothing, and refuses a second request at
// the same time: volumes and build cache share a request, which is repeated if somebody else's
// is in progress.
func TestDiskUsageBefore142(t *testing.T) {
	run(t, "20.10-overlay2", usageOnly(), func(f *fixture) {
		calls, atOnce, most := 0, 0, 0
		f.Answer("/system/df", func(w http.ResponseWriter, r *http.Request) {
			calls++
			atOnce++
			most = max(most, atOnce)
			defer func() { atOnce-- }()
			if calls == 1 {
				status(500, `{"message":"a disk usage operation is already running"}`)(w, r)
				return
			}
			sleep(r.Context(), 50*time.Millisecond)
			fmt.Fprint(w, `{"BuildCache":[{"ID":"r","Size":1}],"Volumes":[{"Name":"database","UsageData":{"Size":7}}]}`)
		})
		s, took := f.scrapeWithin(9500 * time.Millisecond)
		records, _ := s.BuildCache.Get()
		if len(records) != 1 || volumeOf(s, "database").Size != model.Known[int64](7) || took != 1050*time.Millisecond {
			t.Errorf("after %v: %+v, %+v", took, s.BuildCache, s.Volumes)
		}
		if calls != 2 || most != 1 {
			t.Errorf("%d requests, %d at once; want 2, 1", calls, most)
		}
		for _, name := range []string{"volumes", "build_cache"} {
			if c := collectorOf(s, name); !c.Success || c.Duration != model.Known(1050*time.Millisecond) {
				t.Errorf("got %+v", c)
			}
		}
		f.logged(0, "\n")
	})
	for name, config := range map[string]Config{"volumes": {Volumes: true}, "build cache": {BuildCache: true}} {
		config.Timeout = time.Second
		run(t, "20.10-overlay2", config, func(f *fixture) {
			s := f.scrape()
			if s.Volumes.IsKnown() != config.Volumes || s.BuildCache.IsKnown() != config.BuildCache || len(s.Collectors) != 4 {
				t.Errorf("only %s: %+v", name, s.Collectors)
			}
		})
	}
}

// What images share of the build cache is unknown from when an image is added or removed until
// the build cache is listed again. A list that is fast is made by the same scrape.
func TestBuildCacheIsOlderThanImages(t *testing.T) {
	run(t, "api-1.51-graphdriver", usageOnly(), func(f *fixture) {
		list := func(ids ...string) {
			var records []map[string]any
			for _, id := range ids {
				records = append(records, map[string]any{"Id": id, "Size": 7})
				f.addImage(id, 7)
			}
			f.reply("/images/json", records)
		}
		check := func(step string, stale bool) {
			t.Helper()
			a := prune.Summarize(f.scrape(), 0)
			if a.BuildCacheStale != stale || a.Counts.BuildCache == nil {
				t.Errorf("%s: stale %v, want %v; records known %v, want them", step, a.BuildCacheStale, stale, a.Counts.BuildCache != nil)
			}
		}
		check("fast", false)
		list("a", "b")
		time.Sleep(time.Second)
		check("fast, other images", false)

		f.Answer("/system/df", slow(slowList, replyWith(`{"BuildCache":[]}`)))
		time.Sleep(time.Second)
		check("the list becomes slow", false)
		time.Sleep(time.Second)
		check("slow", false)
		before := f.requested("type=build-cache")
		list("a", "c") // as many as before
		for range 3 {
			time.Sleep(time.Second)
			check("slow, other images", true)
		}
		if n := f.requested("type=build-cache"); n != before {
			t.Errorf("listed %d times within a tenth of the time", n-before)
		}
		time.Sleep(4 * time.Second)
		check("when it is listed again", true)
		time.Sleep(time.Second)
		check("after it", false)
		if n := f.requested("type=build-cache"); n != before+1 {
			t.Errorf("listed %d times, want once", n-before)
		}
	})
}

// Without the events that are wanted, old answers may be outdated: they are reported as stale,
// unless they are requested for each scrape.
func TestUsageWithoutEvents(t *testing.T) {
	config := usageOnly()
	config.Events = true
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", config)
		f.Answer("/events", status(403, "Forbidden"))
		defer f.start()()
		check := func(step string, stale bool) {
			t.Helper()
			s := f.scrape()
			if v := volumeOf(s, "database"); !v.Size.IsKnown() || v.SizeStale != stale || s.BuildCacheStale != stale || !s.BuildCache.IsKnown() {
				t.Errorf("%s: %+v, build cache stale: %v; want both stale: %v", step, v, s.BuildCacheStale, stale)
			}
		}
		check("fast", false)
		f.Answer("/system/df", slow(slowList, replyWith(`{"BuildCache":[],"Volumes":[{"Name":"database","UsageData":{"Size":7}}]}`)))
		f.scrapeAfter(time.Second) // finds that it is slow
		time.Sleep(time.Second)
		check("slow", true)
		f.streamEvents()
		time.Sleep(time.Minute)
		f.scrape() // requests it after the gap
		time.Sleep(time.Second)
		check("slow, with events", false)
	})
}

// A prune of the build cache makes what is known of it stale until it is listed again. A list
// that was requested before the prune does not count.
func TestBuildCacheIsPruned(t *testing.T) {
	runSlow(t, usageOnly(), func(e *slowEngine) {
		e.Answer("/system/df", slow(slowList, replyWith(`{"BuildCache":[{"ID":"a","Type":"regular","Size":7}]}`)))
		time.Sleep(time.Minute)
		e.scrape()
		check := func(step string, stale bool) {
			t.Helper()
			if s := e.scrape(); s.BuildCacheStale != stale || !s.BuildCache.IsKnown() {
				t.Errorf("%s: stale %v, want %v; known %v", step, s.BuildCacheStale, stale, s.BuildCache.IsKnown())
			}
		}
		time.Sleep(time.Second)
		check("listed", false)
		e.change(func() {}, "builder prune x")
		check("pruned", true)
		e.scrapeAfter(6 * time.Second)     // requests a list
		time.Sleep(300 * time.Millisecond) // which is in flight
		e.change(func() {}, "builder prune x")
		time.Sleep(time.Second)
		check("pruned during the list", true)
		e.scrapeAfter(6 * time.Second)
		time.Sleep(time.Second)
		check("listed again", false)
	})
}

// One change makes the exporter request a slow list once, also if it was scraped during the list.
func TestUsageIsRequestedOnceForAChange(t *testing.T) {
	runSlow(t, usageOnly(), func(e *slowEngine) {
		e.reply("/volumes", `{"Volumes":[{"Name":"database","Driver":"local"}]}`)
		e.Answer("/system/df", slow(slowList, replyWith(`{"BuildCache":[{"ID":"a","Size":7}],"Volumes":[{"Name":"database","UsageData":{"Size":7}}]}`)))
		time.Sleep(time.Minute)
		e.scrape()
		for _, change := range []struct{ event, request string }{
			{"builder prune x", "type=build-cache"},
			{"volume unmount database", "type=volume"},
			{"image delete sha256:b", "type=build-cache"},
		} {
			time.Sleep(30 * time.Second)
			before := e.requested(change.request)
			e.change(func() {
				if strings.HasPrefix(change.event, "image") {
					delete(e.images, "sha256:b")
				}
			}, change.event)
			for range 60 {
				e.scrapeAfter(500 * time.Millisecond)
			}
			if n := e.requested(change.request); n != before+1 {
				t.Errorf("%s: %d requests, want one", change.event, n-before)
			}
		}
	})
}

// The size of a volume is uncertain once a container has unmounted it, until it is measured
// again. A measurement that was in progress does not count.
func TestVolumeIsUnmounted(t *testing.T) {
	runSlow(t, usageOnly(), func(e *slowEngine) {
		e.reply("/volumes", `{"Volumes":[{"Name":"database","Driver":"local"},{"Name":"other","Driver":"local"}]}`)
		e.Answer("/system/df", slow(slowList, replyWith(`{"Volumes":[{"Name":"database","UsageData":{"Size":7}},{"Name":"other","UsageData":{"Size":8}}]}`)))
		time.Sleep(time.Minute)
		e.scrape()
		check := func(step string, stale bool) {
			t.Helper()
			s := e.scrape()
			if v := volumeOf(s, "database"); v.Size != model.Known[int64](7) || v.SizeStale != stale {
				t.Errorf("%s: %+v, want it stale: %v", step, v, stale)
			}
			if v := volumeOf(s, "other"); v.Size != model.Known[int64](8) || v.SizeStale {
				t.Errorf("%s: the other volume is %+v", step, v)
			}
		}
		time.Sleep(time.Second)
		check("measured", false)
		e.change(func() {}, "volume unmount database")
		check("unmounted", true)
		e.scrapeAfter(6 * time.Second)
		time.Sleep(300 * time.Millisecond)
		e.change(func() {}, "volume unmount database")
		time.Sleep(time.Second)
		check("unmounted during the measurement", true)
		e.scrapeAfter(6 * time.Second)
		time.Sleep(time.Second)
		check("measured again", false)
		if e.requested("%22unmount%22%3Atrue") == 0 || e.requested("%22volume%22%3Atrue") == 0 {
			t.Error("the event is not requested")
		}
	})
}

// Where the list of volumes is slow it is requested again when a volume is created or removed,
// but not when one is unmounted.
func TestVolumeEvents(t *testing.T) {
	config := usageOnly()
	config.BuildCache = false
	config.BusyRatio = listedWhenChanged()
	runSlow(t, config, func(e *slowEngine) {
		names := []string{"a"}
		e.Answer("/volumes", slow(slowList, func(w http.ResponseWriter, r *http.Request) {
			var list []map[string]any
			for _, name := range names {
				list = append(list, map[string]any{"Name": name, "Driver": "local"})
			}
			replyWith(map[string]any{"Volumes": list})(w, r)
		}))
		e.Answer("/system/df", slow(slowList, func(w http.ResponseWriter, r *http.Request) {
			var list []map[string]any
			for _, name := range names {
				list = append(list, map[string]any{"Name": name, "UsageData": map[string]any{"Size": 7}})
			}
			replyWith(map[string]any{"Volumes": list})(w, r)
		}))
		refresh := func() (s model.Snapshot) {
			for range 3 {
				s = e.scrapeAfter(10 * time.Second)
			}
			return s
		}
		refresh()
		lists, sizes := e.requested("/volumes"), e.requested("/system/df")
		e.change(func() {}, "volume unmount a")
		refresh()
		if l, d := e.requested("/volumes"), e.requested("/system/df"); l != lists || d != sizes+1 {
			t.Errorf("after unmount: listed %d times, measured %d times; want 0 and 1", l-lists, d-sizes)
		}
		e.change(func() { names = []string{"a", "b"} }, "volume create b")
		if s := refresh(); volumeOf(s, "b").Size != model.Known[int64](7) || volumeOf(s, "b").SizeStale {
			t.Errorf("after create: %+v", s.Volumes)
		}
		e.change(func() { names = nil }, "volume destroy a")
		if s := refresh(); volumeOf(s, "a").Name != "" || !s.Volumes.IsKnown() {
			t.Errorf("after destroy: %+v", s.Volumes)
		}
	})
}

// A local volume without a size is measured soon, although no event was received for it.
func TestNewVolumeIsMeasured(t *testing.T) {
	config := usageOnly()
	config.BusyRatio = listedWhenChanged()
	run(t, "api-1.51-graphdriver", config, func(f *fixture) {
		f.Answer("/system/df", slow(slowList, replyWith(`{"Volumes":[{"Name":"a","UsageData":{"Size":7}}]}`)))
		f.reply("/volumes", `{"Volumes":[{"Name":"a","Driver":"local"},{"Name":"nfs","Driver":"local","Options":{"type":"nfs"}}]}`)
		f.scrape()
		f.scrapeAfter(time.Minute)
		if n := f.requested("type=volume"); n != 1 {
			t.Errorf("measured %d times, want once", n)
		}
		f.reply("/volumes", `{"Volumes":[{"Name":"a","Driver":"local"},{"Name":"b","Driver":"local"}]}`)
		f.Answer("/system/df", slow(slowList, replyWith(`{"Volumes":[{"Name":"a","UsageData":{"Size":7}},{"Name":"b","UsageData":{"Size":8}}]}`)))
		f.scrapeAfter(time.Minute)
		if s := f.scrapeAfter(time.Second); volumeOf(s, "b").Size != model.Known[int64](8) || f.requested("type=volume") != 2 {
			t.Errorf("measured %d times: %+v", f.requested("type=volume"), s.Volumes)
		}
	})
}

// Lists that no engine returns are not believed.
func TestImpossibleUsage(t *testing.T) {
	for name, test := range map[string]struct{ body, reason string }{
		"twice":          {`{"Volumes":[{"Name":"v"},{"Name":"v"}],"BuildCache":[{"ID":"v"},{"ID":"v"}]}`, "is that of an earlier element"},
		"without a name": {`{"Volumes":[{"Name":""}],"BuildCache":[{"ID":""}]}`, "empty"},
		"missing":        {`{"message":"hello"}`, "is missing"},
		"null":           {`null`, "'n' where an object should be"},
		"null elements":  {`{"Volumes":[null],"BuildCache":[null]}`, "'n' where an object should be"},
		"not lists":      {`{"Volumes":{},"BuildCache":{}}`, "'{' where a list should be"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "api-1.51-graphdriver", usageOnly(), func(f *fixture) {
				for _, endpoint := range []string{"/volumes", "/system/df"} {
					f.Fake.Answer(endpoint, replyWith(test.body))
				}
				s := f.scrape()
				if s.Volumes.IsKnown() || s.BuildCache.IsKnown() || collectorOf(s, "volumes").Success || collectorOf(s, "build_cache").Success {
					t.Errorf("got %+v, %+v; want unknown ones", s.Volumes, s.BuildCache)
				}
				f.logged(1, "cannot list volumes", "cannot measure volumes", "cannot list the build cache")
			})
		})
	}
}

// An engine may take minutes to measure: that is neither a failure nor waited for again.
func TestMeasurementTakesLong(t *testing.T) {
	run(t, "api-1.51-graphdriver", usageOnly(), func(f *fixture) {
		f.Answer("/system/df", slow(5*time.Minute, replyWith(`{"BuildCache":[],"Volumes":[{"Name":"database","UsageData":{"Size":7}}]}`)))
		s, took := f.scrapeWithin(9500 * time.Millisecond)
		if !s.Images.IsKnown() || s.BuildCache.IsKnown() || took != 5*time.Second {
			t.Errorf("the first scrape took %v: images %v", took, s.Images.IsKnown())
		}
		for range 19 {
			time.Sleep(15 * time.Second)
			if _, took := f.scrapeWithin(9500 * time.Millisecond); took > 0 {
				t.Errorf("another scrape took %v", took)
			}
		}
		time.Sleep(15 * time.Second)
		s = f.scrape()
		if c := collectorOf(s, "volumes"); !c.Success || c.Duration != model.Known(5*time.Minute) || volumeOf(s, "database").Size != model.Known[int64](7) {
			t.Errorf("after 5 minutes: %+v, %+v", c, s.Volumes)
		}
		if n := f.requested("/system/df"); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		f.logged(0, "\n")
	})
}
