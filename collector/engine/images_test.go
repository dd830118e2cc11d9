package engine

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// contentCount returns how many of the listed images have contents, and how many have failed.
func contentCount(t *testing.T, s model.Snapshot) (known, failed int) {
	t.Helper()
	list, listed := s.Images.Get()
	if !listed {
		t.Fatal("images are unknown")
	}
	for _, image := range list {
		if _, inspected := s.Contents[image.ID]; inspected {
			known++
		}
		if s.FailedImages[image.ID] {
			failed++
		}
	}
	return known, failed
}

// Each image is inspected once, even if the engine goes away in between.
func TestImagesAreInspectedOnce(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		for range 3 {
			s := f.scrapeAfter(time.Second)
			if known, failed := contentCount(t, s); known != 7 || failed != 0 || !collectorOf(s, "layers").Success {
				t.Errorf("%d images inspected, %d failed, want 7 and 0; %+v", known, failed, collectorOf(s, "layers"))
			}
			if counts := prune.Summarize(s, 0).Counts.Images; !counts.Layers.IsKnown() || counts.Uninspected != model.Known(0) {
				t.Errorf("%v layers, %v images to inspect", counts.Layers, counts.Uninspected)
			}
			f.Answer("/_ping", status(500, ""))
			if s := f.scrapeAfter(time.Second); s.Contents != nil || s.FailedImages != nil {
				t.Errorf("without an engine: %+v, %+v", s.Contents, s.FailedImages)
			}
			f.Answer("/_ping", nil)
		}
		if n := f.requested("/history"); n != 7 {
			t.Errorf("the history was requested %d times, want once for each of 7 images", n)
		}
	})
}

// An image that cannot be inspected is named in the log, and the others are inspected. It is
// tried again after a back-off.
func TestOneInspectionFails(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		ids := []string{"bad", "a", "b", "zbad"}
		var list []map[string]any
		for _, id := range ids {
			f.addImage(id, 5)
			list = append(list, map[string]any{"Id": id, "Size": 5})
		}
		f.reply("/images/json", list)
		f.Answer("/images/bad/history", status(403, "Forbidden by policy"))
		f.Answer("/images/zbad/json", status(500, "cannot read its configuration"))
		s := f.scrape()
		if known, failed := contentCount(t, s); known != 2 || failed != 2 || !s.FailedImages["bad"] || !s.FailedImages["zbad"] {
			t.Errorf("%d images inspected, failed: %v", known, s.FailedImages)
		}
		if a := prune.Summarize(s, 0); a.Counts.Images.Uninspected != model.Known(2) || len(a.Reclaimable) == 0 {
			t.Errorf("%v images to inspect, want 2; reclaimable: %v, want some", a.Counts.Images.Uninspected, a.Reclaimable)
		}
		if collectorOf(s, "layers").Success || !collectorOf(s, "images").Success {
			t.Errorf("got %+v, want a failure of layers", s.Collectors)
		}
		f.logged(1, "\n", "cannot inspect images", "image bad: forbidden: Forbidden by policy", "allow GET /images/{id}/history")

		f.Answer("/images/bad/history", nil)
		f.addImage("bad", 5)
		before := f.requested("/history")
		s = f.scrapeAfter(900 * time.Millisecond)
		if n := f.requested("/history"); n != before || !s.FailedImages["bad"] {
			t.Errorf("%d inspections before the back-off is over", n-before)
		}
		s = f.scrapeAfter(200 * time.Millisecond)
		if known, failed := contentCount(t, s); known != 3 || failed != 1 || collectorOf(s, "layers").Success {
			t.Errorf("%d images inspected, %d failed; want 3 and 1", known, failed)
		}
		f.logged(0, "recovered")
		f.logged(1, "image zbad: cannot read its configuration")
		f.addImage("zbad", 5)
		s = f.scrapeAfter(3 * time.Second)
		if known, failed := contentCount(t, s); known != 4 || failed != 0 || !collectorOf(s, "layers").Success {
			t.Errorf("at last %d images inspected, %d failed; %+v", known, failed, s.Collectors)
		}
		f.logged(1, `msg=recovered operation="inspect images"`)
	})
}

// An image that was removed since the list is not a failure. One that the next list still has
// is, and so is a 404 that does not come from the engine.
func TestImageDoesNotExist(t *testing.T) {
	for _, endpoint := range []string{"json", "history"} {
		run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
			f.addImage("a", 5)
			f.addImage("b", 5)
			f.Answer("/images/a/"+endpoint, status(404, `{"message":"No such image: a"}`))
			f.reply("/images/json", `[{"Id":"a"},{"Id":"b"}]`)
			s := f.scrape()
			if known, failed := contentCount(t, s); known != 1 || failed != 0 || !collectorOf(s, "layers").Success {
				t.Errorf("%s: %d images inspected, %d failed; %+v", endpoint, known, failed, s.Collectors)
			}
			f.logged(0, "\n")
			s = f.scrapeAfter(time.Second)
			if known, failed := contentCount(t, s); known != 1 || failed != 1 || collectorOf(s, "layers").Success {
				t.Errorf("%s: %d images inspected, %d failed after another list; %+v", endpoint, known, failed, s.Collectors)
			}
			f.logged(1, "\n", "cannot inspect images", "image a: ")
			f.reply("/images/json", `[{"Id":"b"}]`)
			if s = f.scrapeAfter(time.Second); !collectorOf(s, "layers").Success || len(s.FailedImages) != 0 {
				t.Errorf("%s: when it is not listed: %+v", endpoint, s.Collectors)
			}
			f.logged(1, "recovered")
		})
		run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
			f.addImage("a", 5)
			f.Answer("/images/a/"+endpoint, status(404, "page not found"))
			f.reply("/images/json", `[{"Id":"a"}]`)
			if _, failed := contentCount(t, f.scrape()); failed != 1 {
				t.Errorf("%s: %d images failed at a 404 of a proxy, want 1", endpoint, failed)
			}
			f.logged(1, "cannot inspect images", "page not found")
		})
	}
}

// Another run of the engine has its own removals: that an image did not exist before does not
// make it a failure.
func TestMissingImageAfterRestart(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		f.Answer("/images/a/json", status(404, `{"message":"No such image: a"}`))
		f.reply("/images/json", `[{"Id":"a"}]`)
		for range 2 {
			if _, failed := contentCount(t, f.scrapeAfter(time.Second)); failed != 0 {
				t.Errorf("%d failed images after the first list", failed)
			}
			f.Answer("/_ping", status(503, ""))
			f.scrapeAfter(time.Second)
			f.Answer("/_ping", nil)
		}
		f.logged(0, "cannot inspect images")
	})
}

// An image that was unpacked after its inspection is inspected again, but only some times if
// that explains nothing.
func TestUnpackedAfterInspection(t *testing.T) {
	run(t, "api-1.51-containerd", everything(), func(f *fixture) {
		for _, step := range []struct {
			unpacked, history int64
			inspections       int
		}{{0, 0, 1}, {0, 0, 1}, {70, 70, 2}, {70, 70, 2}, {80, 70, 3}, {80, 70, 4}, {80, 90, 5}, {80, 90, 5}, {70, 70, 6}, {70, 70, 6}} {
			f.addImage("a", step.history)
			f.reply("/images/json", fmt.Sprintf(`[{"Id":"a","Size":100,"Manifests":[{"Kind":"image","Available":true,"ImageData":{"Size":{"Unpacked":%d}}}]}]`, step.unpacked))
			f.scrapeAfter(time.Second)
			if n := f.requested("/a/history"); n != step.inspections {
				t.Errorf("%+v: inspected %d times", step, n)
			}
		}
	})
}

// No images take no space, with either store.
func TestNoImages(t *testing.T) {
	for _, dir := range []string{"api-1.51-graphdriver", "api-1.51-containerd", "api-1.43-containerd"} {
		run(t, dir, listsOnly(), func(f *fixture) {
			f.reply("/images/json", `[]`)
			if bytes, known := f.summary().DiskUsage[model.Images]; !known || bytes != 0 {
				t.Errorf("%s: %d bytes, known %v; want 0", dir, bytes, known)
			}
		})
	}
}

// One wrong history is not kept. A history that stays incomplete is requested some times only.
func TestIncompleteHistory(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		f.reply("/images/json", `[{"Id":"a","Size":5},{"Id":"b","Size":5}]`)
		for _, id := range []string{"a", "b"} {
			f.addImage(id, 5)
			f.reply("/images/"+id+"/history", `[]`)
		}
		f.scrape()
		f.reply("/images/a/history", `[{"Size":5}]`)
		for range 5 {
			f.scrapeAfter(time.Second)
		}
		s := f.scrape()
		if history := s.Contents["a"].History; len(history) != 1 || history[0].Size != 5 {
			t.Errorf("got the history %+v, want the right one", history)
		}
		if a, b := f.requested("/images/a/history"), f.requested("/images/b/history"); a != 2 || b != 3 || len(s.FailedImages) != 0 {
			t.Errorf("%d and %d requests, failed %v; want 2 and 3, and none", a, b, s.FailedImages)
		}
	})
}

// An impossible answer is not kept: the image is named in the log, and the others are inspected.
func TestImpossibleContents(t *testing.T) {
	const layers = `{"Id":"ID","RootFS":{"Type":"layers","Layers":["x"]}}`
	many := func(record string, n int) string { return "[" + strings.Repeat(record+",", n-1) + record + "]" }
	for name, test := range map[string]struct{ inspect, history, reason string }{
		"nothing":             {`{}`, `[]`, "/images/{id}/json"},
		"another image":       {`{"Id":"b","RootFS":{"Type":"layers","Layers":["x"]}}`, `[{"Size":1}]`, "the engine does not return the layers of an image: bad0"},
		"no layers":           {`{"Id":"ID","RootFS":{}}`, `[]`, "docker image inspect"},
		"no step":             {layers, `[null]`, "[0]: 'n' where an object should be"},
		"a negative size":     {layers, `[{"Size":-2}]`, "[0].Size: -2 is not a size"},
		"an unknown size":     {layers, `[{"Size":-1}]`, "[0].Size: unknown"},
		"a size of 8 exbi":    {layers, `[{"Size":9223372036854775807}]`, "[0].Size: 9223372036854775807 bytes are more than a disk has"},
		"sizes that overflow": {layers, many(`{"Size":1125899906842624}`, 1025), "[1024].Size: the sizes add up to more than a disk has"},
		"too many steps":      {layers, many(`{"Size":0}`, 10001), "docker image inspect"},
		"too many layers":     {`{"Id":"ID","RootFS":{"Type":"layers","Layers":` + many(`"x"`, 1001) + `}}`, `[{"Size":1}]`, "docker image inspect"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
				for i := range 4 {
					id := fmt.Sprint("bad", i)
					f.reply("/images/"+id+"/json", strings.ReplaceAll(test.inspect, "ID", id))
					f.reply("/images/"+id+"/history", test.history)
				}
				f.addImage("good", 1)
				f.reply("/images/json", `[{"Id":"bad0"},{"Id":"bad1"},{"Id":"bad2"},{"Id":"bad3"},{"Id":"good"}]`)
				s := f.scrape()
				if known, failed := contentCount(t, s); known != 1 || failed != 4 {
					t.Errorf("%d images inspected, %d failed; want 1 and 4", known, failed)
				}
				f.logged(1, "\n", "cannot inspect images", "image bad0: ", test.reason)
			})
		})
	}
}

// Inspections that are not fast are made one by one, with pauses in which the engine rests.
// They do not delay scrapes.
func TestInspectionsPause(t *testing.T) {
	run(t, "api-1.51-containerd", listsOnly(), func(f *fixture) {
		var list []map[string]any
		for i := range 20 {
			id := fmt.Sprintf("i%02d", i)
			f.addImage(id, 5)
			f.Answer("/images/"+id+"/history", slow(200*time.Millisecond, replyWith(`[{"Size":5}]`)))
			list = append(list, map[string]any{"Id": id})
		}
		f.reply("/images/json", list)
		var inspected []int
		for range 10 {
			s, took := f.scrapeWithin(9500 * time.Millisecond)
			if took > fastRequest {
				t.Errorf("a scrape took %v", took)
			}
			known, _ := contentCount(t, s)
			inspected = append(inspected, known)
			time.Sleep(4*time.Second + time.Millisecond - took) // not when an inspection ends
		}
		// After 0.5 s the third one is on its way; then 0.2 s are followed by a pause of 2 s.
		if want := []int{2, 4, 6, 8, 10, 11, 13, 15, 17, 19}; !slices.Equal(inspected, want) {
			t.Errorf("inspected every 4 s: %v, want %v", inspected, want)
		}
	})
}

// A scrape waits for inspections that are fast.
func TestInspectionsAreWaitedFor(t *testing.T) {
	run(t, "api-1.51-containerd", listsOnly(), func(f *fixture) {
		for _, id := range []string{"a", "b"} {
			f.addImage(id, 5)
			f.Answer("/images/"+id+"/history", slow(200*time.Millisecond, replyWith(`[{"Size":5}]`)))
		}
		f.reply("/images/json", `[{"Id":"a"},{"Id":"b"}]`)
		s, took := f.scrapeWithin(9500 * time.Millisecond)
		if known, _ := contentCount(t, s); known != 2 || took != 400*time.Millisecond {
			t.Errorf("%d images inspected after %v, want 2 after 400ms", known, took)
		}
	})
}

// Contents of images that are gone are dropped, unless a container was made from them.
func TestContentsAreDropped(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		for _, id := range []string{"a", "b", "c", "d"} {
			f.addImage(id, 5)
		}
		f.reply("/containers/json", `[{"Id":"1","ImageID":"a","State":"running","Mounts":[{"Type":"image","Name":"sha256:b"}]}]`)
		f.addImage("sha256:b", 5)
		f.reply("/images/json", `[{"Id":"a"},{"Id":"sha256:b"},{"Id":"c"},{"Id":"d"}]`)
		if s := f.scrape(); len(s.Contents) != 4 {
			t.Errorf("got %v, want 4", s.Contents)
		}
		f.reply("/images/json", `[{"Id":"d"}]`)
		s := f.scrapeAfter(time.Second)
		if _, known := s.Contents["c"]; known || len(s.Contents) != 3 {
			t.Errorf("got %v, want all but c", s.Contents)
		}
	})
}

// An image that is listed twice is inspected once. Another record of an ID keeps its tags.
func TestImageIsListedTwice(t *testing.T) {
	run(t, "api-1.51-containerd", listsOnly(), func(f *fixture) {
		f.addImage("a", 5)
		f.addImage("b", 5)
		f.reply("/images/json", `[{"Id":"a","RepoTags":["x:1"],"Size":5},{"Id":"b","Size":5},{"Id":"a","RepoTags":["y:1"],"Size":5}]`)
		a := f.summary()
		if count := imageCountOf(a); count.Tagged != 1 || count.Untagged != 1 || count.Tags != 2 {
			t.Errorf("got %+v, want 1 tagged image with 2 tags and 1 untagged one", count)
		}
		if n := f.requested("/history"); n != 2 {
			t.Errorf("%d inspections, want 2", n)
		}
	})
}

// The generation of the known objects grows whenever an ID is added or removed, and only then.
func TestGeneration(t *testing.T) {
	o := newObjects(func(id string) string { return id })
	version := 0
	list := func(ids ...string) func() {
		return func() { version++; o.mergeList(ids, version) }
	}
	for _, step := range []struct {
		name  string
		do    func()
		grows bool
	}{
		{"unknown from the beginning", o.clear, false},
		{"an inspection before the first list", func() { o.update("a", 1, "a") }, false},
		{"the first list", list("a", "b"), true},
		{"the same list", list("b", "a"), false},
		{"an inspection of a known object", func() { version++; o.update("a", version, "a") }, false},
		{"a list with another ID", list("a", "c"), true},
		{"an inspection of a new object", func() { version++; o.update("d", version, "d") }, true},
		{"a known object is gone", func() { version++; o.remove("d", version) }, true},
		{"an unknown object is gone", func() { version++; o.remove("e", version) }, false},
		{"an object is added while a list without it is in flight", func() {
			o.update("f", version+2, "f")
			o.mergeList([]string{"a", "c"}, version+1)
			version += 2
		}, true},
		{"cleared", o.clear, true},
		{"an empty list", list(), true},
		{"another empty list", list(), false},
	} {
		before := o.generation
		if step.do(); (o.generation != before) != step.grows {
			t.Errorf("%s: grows %v, want %v", step.name, !step.grows, step.grows)
		}
	}
}

// Of a list and inspections during it, the newer answer about each object counts.
func TestNewerAnswerCounts(t *testing.T) {
	type record struct{ id, value string }
	for _, test := range []struct {
		name string
		do   func(o *objects[record])
		want string
	}{
		{"an inspection after the list", func(o *objects[record]) {
			o.mergeList([]record{{"a", "list"}}, 5)
			o.update("a", 6, record{"a", "inspected"})
		}, "[{a inspected}]"},
		{"an older inspection", func(o *objects[record]) {
			o.mergeList([]record{{"a", "list"}}, 5)
			o.update("a", 4, record{"a", "inspected"})
		}, "[{a list}]"},
		{"an inspection during the list", func(o *objects[record]) {
			o.update("a", 6, record{"a", "inspected"})
			o.update("b", 6, record{"b", "inspected"})
			o.mergeList([]record{{"a", "list"}, {"c", "list"}}, 5)
		}, "[{a inspected} {b inspected} {c list}]"},
		{"removed during the list", func(o *objects[record]) {
			o.remove("a", 6)
			o.mergeList([]record{{"a", "list"}, {"c", "list"}}, 5)
		}, "[{c list}]"},
		{"removed before the list", func(o *objects[record]) {
			o.remove("a", 4)
			o.mergeList([]record{{"a", "list"}}, 5)
		}, "[{a list}]"},
		{"removed, and an older inspection", func(o *objects[record]) {
			o.remove("a", 6)
			o.update("a", 5, record{"a", "inspected"})
		}, "[]"},
		{"an older answer that it is gone", func(o *objects[record]) {
			o.update("a", 6, record{"a", "inspected"})
			o.remove("a", 5)
		}, "[{a inspected}]"},
		{"created again", func(o *objects[record]) {
			o.remove("a", 6)
			o.update("a", 7, record{"a", "inspected"})
		}, "[{a inspected}]"},
		{"a removal does not outlive the next list", func(o *objects[record]) {
			o.remove("a", 6)
			o.mergeList(nil, 7)
			o.mergeList([]record{{"a", "list"}}, 5) // of an engine that was replaced
		}, "[{a list}]"},
	} {
		o := newObjects(func(r record) string { return r.id })
		o.mergeList([]record{{"a", "before"}}, 1)
		test.do(o)
		if got, _ := o.all(); fmt.Sprint(got) != test.want {
			t.Errorf("%s: got %v, want %s", test.name, got, test.want)
		}
	}
}

// An inspection that hangs is given up, and the other images are inspected.
func TestInspectionHangs(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		f.addImage("b", 5)
		f.addImage("c", 5)
		f.Answer("/images/a/json", hang)
		f.reply("/images/json", `[{"Id":"a"},{"Id":"b"},{"Id":"c"}]`)
		f.scrape()
		if s := f.scrapeAfter(time.Minute); len(s.Contents) != 2 || !s.FailedImages["a"] {
			t.Errorf("inspected: %v, failed: %v; want b and c, and a", s.Contents, s.FailedImages)
		}
		f.logged(1, "image a: no answer in time")
		f.Answer("/images/a/json", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"Id":"a","RootFS":{"Type":"layers","Layers":["x"]}}`)
		})
		f.reply("/images/a/history", `[{"Size":1}]`)
		f.scrapeAfter(time.Minute)
		if s := f.settle(); len(s.Contents) != 3 {
			t.Errorf("at last inspected: %v, want all", s.Contents)
		}
	})
}
