package engine

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// listsOnly requests nothing but images and containers.
func listsOnly() Config {
	return Config{Timeout: 5 * time.Second, BusyRatio: BusyRatio{Unchanged: 0.005, Changed: 0.1}}
}

// listedOnce is the ratio at which a list that is not fast is never repeated.
func listedOnce() BusyRatio { return BusyRatio{Unchanged: 1e-9, Changed: 1e-9} }

// listedWhenChanged is the ratio at which a list that is not fast is repeated only after a change.
func listedWhenChanged() BusyRatio { return BusyRatio{Unchanged: 1e-9, Changed: 1} }

// endless answers with a prefix and then the same text for ever.
func endless(prefix, more string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, prefix)
		chunk := []byte(strings.Repeat(more, 1+(64<<10)/len(more)))
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
}

// A failure of one request affects only what that request returns. The log has the operation,
// the reason and a hint, once, and says when it is over.
func TestOneRequestFails(t *testing.T) {
	const allow, whoAnswers, engineLog = "allow GET /images/json in the socket proxy", "see what answers at http://fake/images/json", "see the engine's log"
	tests := []struct {
		name         string
		answer       http.HandlerFunc
		reason, hint string
	}{
		{"forbidden by a socket proxy", status(403, "Forbidden by policy"), "forbidden: Forbidden by policy", allow},
		{"method not allowed by a socket proxy", status(405, "Method Not Allowed"), "forbidden: Method Not Allowed", allow},
		{"server error", status(500, "layer does not exist"), "layer does not exist", engineLog},
		{"not an HTTP status", status(999, ""), "999", engineLog},
		{"reset", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", whoAnswers},
		{"truncated", replyWith(`[{"Id":"sha256:aa","RepoTags":["a:1"`), "unexpected EOF", whoAnswers},
		{"empty", replyWith(""), "EOF", whoAnswers},
		{"an object", replyWith(`{"message":"hello"}`), "'{' where a list should be", whoAnswers},
		{"a wrong type", replyWith(`[{"Id":"sha256:aa","Size":"large"}]`), `[0].Size: '\"' where a number should be`, whoAnswers},
		{"a number too large", replyWith(`[{"Id":"sha256:aa","Size":1e99}]`), "[0].Size: 1e99 is no integer", whoAnswers},
		{"a record without an ID", replyWith(`[{"Size":1}]`), `the field \"Id\" is missing`, whoAnswers},
		{"HTML", replyWith("<html>Sign in</html>"), "'<' where a list should be", whoAnswers},
		{"endless noise", endless("", "noise "), "'n' where a list should be", whoAnswers},
		{"an endless list", endless(`[`, `{"Id":"sha256:aa","RepoTags":["a"`+strings.Repeat(`,"a"`, 1000)+`],"RepoDigests":[],"Size":1},`), "more than 64 MiB to keep", whoAnswers},
		{"an endless string", endless(`[{"Id":"`, `aaaaaaaa`), "a string of more than 1048576 bytes", whoAnswers},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
				f.Answer("/images/json", test.answer)
				s := f.scrape()
				if !strings.HasPrefix(test.name, "an endless") { // which takes long to read
					s = f.scrapeAfter(time.Second) // fails again for the same reason
				}
				if s.Images.IsKnown() || s.Contents != nil {
					t.Error("images are known")
				}
				if !s.Containers.IsKnown() || !s.Up || !s.Engine.IsKnown() {
					t.Errorf("up %v, engine %v, containers %v: want all", s.Up, s.Engine.IsKnown(), s.Containers.IsKnown())
				}
				if collectorOf(s, "images").Success || !collectorOf(s, "containers").Success || len(s.Collectors) != 2 {
					t.Errorf("got %+v, want a failure of images and a success of containers", s.Collectors)
				}
				f.logged(1, "\n", `msg="cannot list images"`, test.reason, test.hint)

				f.Answer("/images/json", nil)
				time.Sleep(2 * time.Second)
				s = f.settle()
				if list, _ := s.Images.Get(); len(list) != 7 || !collectorOf(s, "images").Success {
					t.Errorf("after the failure: %d images, want 7; %+v", len(list), s.Collectors)
				}
				f.logged(1, `msg=recovered operation="list images"`)
				f.logged(2, "\n")
			})
		})
	}
}

// A request that has failed is waited for when it is repeated, unless it takes long.
func TestRecoveryIsVisibleAtOnce(t *testing.T) {
	for _, before := range []time.Duration{-time.Second, 0, 20 * time.Second} { // the last success
		run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
			lists := []string{"/images/json", "/containers/json", "/volumes", "/system/df"}
			if before >= 0 {
				f.scrape()
				time.Sleep(before)
			}
			for _, list := range lists {
				f.Answer(list, status(500, "busy"))
			}
			f.scrapeAfter(time.Second)
			synctest.Wait()
			for _, list := range lists {
				f.Answer(list, nil)
			}
			for _, list := range lists[:2] {
				f.Answer(list, slow(100*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
					f.Answer(list, nil)
					f.ServeHTTP(w, r)
				}))
			}
			time.Sleep(time.Second)
			s, took := f.scrapeWithin(9500 * time.Millisecond)
			if !s.Images.IsKnown() || !s.Containers.IsKnown() || !s.Volumes.IsKnown() || !s.BuildCache.IsKnown() || len(s.Contents) != 7 || took != 100*time.Millisecond {
				t.Errorf("after %v: %+v, %d inspected images; want all", took, s.Collectors, len(s.Contents))
			}
		})
	}
}

// A request that fails is repeated with a back-off from a second to a minute, however long
// the failure took.
func TestBackoff(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		f.Answer("/containers/json", status(500, "busy"))
		var at []int
		for second, before := 0, 0; second < 300; second++ {
			f.scrape()
			if n := f.requested("/containers/json"); n > before {
				at, before = append(at, second), n
			}
			time.Sleep(time.Second)
		}
		if want := []int{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}; fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("requested at the seconds %v, want %v", at, want)
		}
		f.logged(1, "cannot list containers")

		f.Answer("/containers/json", slow(400*time.Millisecond, status(500, "busy")))
		f.scrapeAfter(time.Minute)
		time.Sleep(time.Minute)
		f.Answer("/containers/json", nil)
		time.Sleep(time.Second)
		if s := f.settle(); !s.Containers.IsKnown() {
			t.Error("containers are unknown a minute after a failure that took long")
		}
		before := f.requested("/containers/json")
		f.scrapeAfter(time.Second)
		if n := f.requested("/containers/json"); n != before+1 {
			t.Errorf("requested %d times by the scrape after a success, want once", n-before)
		}
	})
}

// Of an engine that cannot be reached nothing is known, and no collector is reported.
func TestUnreachable(t *testing.T) {
	for name, test := range map[string]struct {
		ping   http.HandlerFunc
		took   time.Duration
		reason string
	}{
		"refused": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, "EOF"},
		"broken":  {status(503, "shutting down"), 0, "shutting down"},
		"hangs":   {hang, 5 * time.Second, "no answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
				f.Answer("/_ping", test.ping)
				for range 3 {
					s, took := f.scrapeWithin(9500 * time.Millisecond)
					if s.Up || s.Images.IsKnown() || s.Engine.IsKnown() || len(s.Collectors) > 0 || s.Prunes != nil {
						t.Errorf("got %+v, want nothing", s)
					}
					if took != test.took {
						t.Errorf("a scrape took %v, want %v", took, test.took)
					}
					time.Sleep(time.Minute)
				}
				f.logged(1, "\n", "cannot reach the engine", test.reason, "hint=")
				if n := len(f.Requests()); n != 3*f.requested("/_ping")/3 || n < 3 {
					t.Errorf("got the requests %v, want only pings", f.Requests())
				}
				f.Answer("/_ping", nil)
				if s := f.scrape(); !s.Up || !s.Images.IsKnown() || !s.Containers.IsKnown() {
					t.Errorf("when it answers: %+v, want everything", s)
				}
				f.logged(1, `msg=recovered operation="reach the engine"`)
			})
		})
	}
}

// When the engine goes away its answers become unknown at once; when it is back they are
// requested at once, whatever they took before.
func TestGoneAndBack(t *testing.T) {
	config := everything()
	config.BusyRatio = listedOnce()
	run(t, "api-1.51-graphdriver", config, func(f *fixture) {
		lists := []string{"/images/json", "/containers/json", "type=build-cache", "type=volume", "/volumes"}
		f.Answer("/images/json", slow(4*time.Second, replyWith(`[{"Id":"a","Size":1}]`)))
		f.Answer("/containers/json", slow(4*time.Second, replyWith(`[{"Id":"c","State":"running"}]`)))
		f.Answer("/volumes", slow(4*time.Second, replyWith(`{"Volumes":[{"Name":"v"}]}`)))
		f.Answer("/system/df", slow(4*time.Second, replyWith(`{"BuildCache":null}`)))
		isKnown := func(s model.Snapshot) []bool {
			return []bool{s.Up, s.Engine.IsKnown(), s.Images.IsKnown(), s.Containers.IsKnown(), s.Volumes.IsKnown(), s.BuildCache.IsKnown()}
		}
		for life := 1; life <= 3; life++ {
			for _, allowed := range []int{life, life} { // the second scrape requests nothing again
				s := f.scrape()
				if got := isKnown(s); fmt.Sprint(got) != "[true true true true true true]" {
					t.Errorf("life %d: known are %v, want all; %+v", life, got, s.Collectors)
				}
				for _, list := range lists {
					if n := f.requested(list); n != allowed {
						t.Errorf("life %d: %s was requested %d times, want once for each life", life, list, n)
					}
				}
				time.Sleep(time.Second)
			}
			f.Answer("/_ping", status(503, ""))
			s := f.scrape()
			if got := isKnown(s); fmt.Sprint(got) != "[false false false false false false]" {
				t.Errorf("after life %d: known are %v, want nothing", life, got)
			}
			for _, c := range s.Collectors {
				if c.Success || !c.LastSuccess.IsKnown() || !c.Duration.IsKnown() {
					t.Errorf("after life %d: %+v, want no success and the duration of the last one", life, c)
				}
			}
			f.Answer("/_ping", nil)
			time.Sleep(time.Second)
		}
	})
}

// A stalled list does not outlive its engine: the first scrape of the next one has it.
func TestListStallsAndEngineRestarts(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		f.Answer("/containers/json", hang)
		if s := f.scrapeAfter(20 * time.Second); s.Containers.IsKnown() || !s.Images.IsKnown() {
			t.Errorf("containers %v, images %v; want only images", s.Containers.IsKnown(), s.Images.IsKnown())
		}
		time.Sleep(20 * time.Second)
		f.Answer("/_ping", status(503, ""))
		f.scrape()
		f.Answer("/_ping", nil)
		f.Answer("/containers/json", nil)
		if s := f.scrapeAfter(time.Second); !s.Containers.IsKnown() || !collectorOf(s, "containers").Success {
			t.Errorf("the first scrape of the next engine: %+v", s.Collectors)
		}
	})
}

// A list that hangs is reported within a minute, delays only the first scrape, and hides
// nothing else.
func TestListHangs(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		f.scrape()
		f.Answer("/containers/json", hang)
		time.Sleep(15 * time.Second)
		for i := range 20 {
			s, took := f.scrapeWithin(9500 * time.Millisecond)
			if !s.Images.IsKnown() || !s.Volumes.IsKnown() || !s.Up {
				t.Errorf("scrape %d: %+v, want everything but containers", i, s)
			}
			if took > fastRequest {
				t.Errorf("scrape %d took %v", i, took)
			}
			if i >= 4 && (collectorOf(s, "containers").Success || s.Containers.IsKnown()) {
				t.Errorf("after a minute: %+v, containers known: %v", collectorOf(s, "containers"), s.Containers.IsKnown())
			}
			time.Sleep(15 * time.Second)
		}
		f.logged(1, "cannot list containers", "no answer in time")
	})
}

// An engine that changes its version is understood at the next scrape.
func TestUpgradeAndDowngrade(t *testing.T) {
	run(t, "api-1.43-graphdriver", everything(), func(f *fixture) {
		for _, step := range []struct {
			dir, version string
			store        model.ImageStore
		}{
			{"api-1.43-graphdriver", "1.43", model.GraphDriver},
			{"api-1.51-containerd", "1.51", model.Containerd},
			{"api-1.44-graphdriver", "1.44", model.GraphDriver},
			{"engine-newer-than-us", docker.NewestAPI, model.GraphDriver},
			{"20.10-overlay2", "1.41", model.GraphDriver},
			{"api-1.43-containerd", "1.43", model.Containerd},
		} {
			f.SwitchTo(testdata + step.dir)
			s := f.scrapeAfter(time.Second)
			images, _ := s.Images.Get()
			engine, _ := s.Engine.Get()
			if engine.APIVersion != step.version || engine.ImageStore != step.store || len(images) == 0 || !s.BuildCache.IsKnown() {
				t.Errorf("%s: %+v, %d images, build cache %v; want %s, %s and some", step.dir, engine, len(images), s.BuildCache.IsKnown(), step.version, step.store)
			}
		}
		f.logged(0, "\n")

		f.SwitchTo(testdata + "engine-too-old")
		if s := f.scrapeAfter(time.Second); s.Images.IsKnown() || s.Engine.IsKnown() || !s.Up {
			t.Errorf("API 1.39: up %v, images %v; want up, and nothing known", s.Up, s.Images.IsKnown())
		}
		f.scrapeAfter(time.Second)
		f.logged(1, "\n", "1.39", docker.OldestAPI, docker.NewestAPI, "upgrade the engine")
	})
}

// The log says so if an engine refuses the newest version that is supported.
func TestEngineRefusesVersion(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		for _, endpoint := range []string{"/images/json", "/containers/json", "/info"} {
			f.Answer(endpoint, status(400, "client version 1.51 is too old. Minimum supported API version is 1.60"))
		}
		if s := f.scrape(); !s.Up || s.Images.IsKnown() || s.Engine.IsKnown() {
			t.Errorf("got %+v, want it up and nothing known", s)
		}
		f.logged(3, "1.60", "update this exporter", docker.NewestAPI+"\"")
		f.logged(1, "cannot get engine info", "cannot list images", "cannot list containers")
	})
}

// Only requests that read are sent.
func TestReadOnly(t *testing.T) {
	for _, dir := range []string{"api-1.51-graphdriver", "api-1.51-containerd", "20.10-overlay2"} {
		runWithEvents(t, dir, everything(), func(f *fixture, events eventStream) {
			f.scrape()
			events.send("container die c")
			events.send("image tag i")
			f.scrapeAfter(time.Minute)
			for _, request := range f.Requests() {
				if !strings.HasPrefix(request, "GET ") && !strings.HasPrefix(request, "HEAD ") {
					t.Errorf("sent: %s", request)
				}
			}
			if len(f.Requests()) < 10 {
				t.Errorf("only %v", f.Requests())
			}
		})
	}
}

// What is not configured is not requested.
func TestLeftOut(t *testing.T) {
	for _, dir := range []string{"api-1.51-graphdriver", "api-1.51-containerd", "20.10-overlay2"} {
		runWithEvents(t, dir, listsOnly(), func(f *fixture, events eventStream) {
			f.scrape()
			events.send("container die c")
			events.send("volume create v")
			events.send("builder prune b")
			s := f.scrapeAfter(time.Minute)
			if n := f.requested("/volumes") + f.requested("/system/df") + f.requested("?size=1"); n != 0 {
				t.Errorf("%s: %d requests: %v", dir, n, f.Requests())
			}
			if len(s.Collectors) != 3 || s.Volumes.IsKnown() || s.BuildCache.IsKnown() {
				t.Errorf("%s: %+v, want images, layers and containers", dir, s.Collectors)
			}
		})
	}
}

// A list that takes longer than a scrape goes on after it, and is not requested again. Each
// scrape waits for it only as long as it wants to.
func TestListGoesOn(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		f.addImage("a", 1)
		f.Answer("/images/json", slow(4*time.Second, replyWith(`[{"Id":"a","Size":1}]`)))
		for range 3 {
			s, took := f.scrapeWithin(time.Second)
			if s.Images.IsKnown() || !s.Up || !s.Containers.IsKnown() || len(s.Collectors) != 1 || took != time.Second {
				t.Errorf("before the answer: images %v, %+v, after %v", s.Images.IsKnown(), s.Collectors, took)
			}
		}
		s, took := f.scrapeWithin(10 * time.Second)
		if list, _ := s.Images.Get(); len(list) != 1 || took != time.Second {
			t.Errorf("%d images after %v, want 1 after a second", len(list), took)
		}
		if n := f.requested("/images/json"); n != 1 {
			t.Errorf("%d lists, want 1", n)
		}
		// Once it is known to be slow, it is neither waited for nor repeated too often.
		for range 39 {
			if _, took := f.scrapeWithin(10 * time.Second); took > fastRequest {
				t.Errorf("a scrape takes %v", took)
			}
			time.Sleep(20 * time.Second)
		}
		if n := f.requested("/images/json"); n != 1 {
			t.Errorf("%d lists after 13 minutes, want 1: 4 s are 0.5%% of 800 s", n)
		}
		if s, took := f.scrapeWithin(10 * time.Second); s.Images.IsKnown() && took > 0 {
			t.Errorf("a scrape takes %v", took)
		}
		time.Sleep(30 * time.Second)
		f.scrape()
		if n := f.requested("/images/json"); n != 2 {
			t.Errorf("%d lists after 14 minutes, want 2", n)
		}
		f.logged(0, "\n")
	})
}

// A scrape with a short timeout says nothing about the engine, and changes nothing for a
// scrape that waits.
func TestImpatientScrape(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedOnce()
	run(t, "api-1.51-graphdriver", config, func(f *fixture) {
		f.Answer("/images/json", slow(time.Second, replyWith(`[{"Id":"a","Size":1}]`)))
		f.scrape()
		f.Answer("/_ping", slow(800*time.Millisecond, replyWith("OK")))
		time.Sleep(time.Second)

		patient := make(chan model.Snapshot)
		go func() { patient <- f.scrape() }()
		synctest.Wait()
		s, took := f.scrapeWithin(time.Millisecond)
		if !s.Up || !s.Images.IsKnown() || took != time.Millisecond {
			t.Errorf("up %v, images %v, after %v; want both", s.Up, s.Images.IsKnown(), took)
		}
		if s := <-patient; !s.Up || !s.Images.IsKnown() {
			t.Errorf("the scrape that waits: up %v, images %v", s.Up, s.Images.IsKnown())
		}
		f.Answer("/_ping", hang)
		f.scrapeWithin(time.Millisecond)
		f.Answer("/_ping", nil)
		time.Sleep(5 * time.Second)
	})
}

// What a digest reference in a list means depends on the image store. A list that was made
// before the store was known is made again, once.
func TestStoreIsKnownLater(t *testing.T) {
	config := listsOnly()
	config.BusyRatio = listedWhenChanged()
	run(t, "api-1.44-containerd", config, func(f *fixture) {
		f.Answer("/info", status(404, "page not found"))
		f.Answer("/images/json", slow(time.Second, replyWith(`[{"Id":"a","RepoTags":[],"RepoDigests":["x@sha256:1"],"Size":1}]`)))
		hasDigest := func(s model.Snapshot) model.Optional[bool] {
			list, known := s.Images.Get()
			if !known {
				t.Fatal("images are unknown")
			}
			return list[0].HasDigest
		}
		for range 3 {
			if got := hasDigest(f.scrape()); got.IsKnown() {
				t.Errorf("before the store is known: %v", got)
			}
			time.Sleep(time.Minute)
		}
		if n := f.requested("/images/json"); n != 1 {
			t.Errorf("%d lists before the store is known, want 1", n)
		}
		f.Answer("/info", nil)
		f.scrape()                 // gets the store
		f.scrapeAfter(time.Second) // makes the list, and does not wait for it
		if got := hasDigest(f.scrapeAfter(2 * time.Second)); got != model.Known(false) {
			t.Errorf("when the store is known: %v, want that it is no digest reference", got)
		}
		for range 3 {
			f.scrapeAfter(time.Minute)
		}
		if n := f.requested("/images/json"); n != 2 {
			t.Errorf("%d lists, want 2", n)
		}
	})
}

// File systems are measured for each scrape, also while the engine is away. One that cannot be
// measured is named, and hides no other.
func TestFilesystems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		later := filepath.Join(dir, "later")
		f := newFixture(t, "api-1.51-graphdriver", listsOnly())
		f.host = host.New([]host.MountMapping{{HostPath: "/data", LocalPath: dir}, {HostPath: "/later", LocalPath: later}}, nil)
		defer f.start()()
		var s model.Snapshot
		for i := range 4 {
			if i == 2 {
				f.Answer("/_ping", status(503, ""))
			}
			s = f.scrapeAfter(time.Second)
			if s.Up != (i < 2) || len(s.Filesystems) != 1 || s.Filesystems[0].Path != "/data" || s.Filesystems[0].Size == 0 {
				t.Errorf("scrape %d: up %v, %+v", i, s.Up, s.Filesystems)
			}
			if fmt.Sprint(s.Unmeasured) != "[/later]" || collectorOf(s, "filesystems").Success {
				t.Errorf("scrape %d: unmeasured are %v; %+v", i, s.Unmeasured, s.Collectors)
			}
		}
		f.logged(1, "cannot measure the file system /later", "no such file", "--filesystem.path")
		if err := os.Mkdir(later, 0o700); err != nil {
			t.Fatal(err)
		}
		f.Answer("/_ping", nil)
		s = f.scrapeAfter(time.Second)
		if c := collectorOf(s, "filesystems"); len(s.Unmeasured) != 0 || !c.Success || c.LastSuccess != model.Known(time.Now()) {
			t.Errorf("unmeasured are %v; %+v", s.Unmeasured, s.Collectors)
		}
		f.logged(1, `msg=recovered operation="measure the file system /later"`)
		f.logged(0, "/data")
	})
}

// The file systems of an engine that may run on another machine are unknown, and that is said
// once, where its data is known.
func TestUnknownFilesystems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", listsOnly())
		f.host = host.New(nil, nil)
		defer f.start()()
		for range 3 {
			s := f.scrapeAfter(time.Second)
			if c := collectorOf(s, "filesystems"); c.Name == "" || c.Success || len(s.Filesystems) != 0 || fmt.Sprint(s.Unmeasured) != "[/var/lib/docker]" {
				t.Errorf("unmeasured are %v; %+v, %+v", s.Unmeasured, s.Filesystems, c)
			}
		}
		f.logged(1, "cannot measure the file system /var/lib/docker", "--filesystem.path")
	})
}

// The search for file systems depends on whether the engine has the container of this process.
func TestFilesystemsInContainer(t *testing.T) {
	run(t, "api-1.51-graphdriver", listsOnly(), func(f *fixture) {
		f.reply("/containers/there/json", map[string]any{"Id": "there", "State": map[string]any{"Status": "running"}})
		f.Answer("/containers/broken/json", status(500, "broken"))
		api, err := f.client.At(docker.Version{API: "1.51"})
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]string{"there": "true <nil>", "gone": "false <nil>", "broken": "false broken"} {
			if has, err := hasContainer(context.Background(), api, id); fmt.Sprint(has, " ", err) != want {
				t.Errorf("container %s: got %v %v, want %s", id, has, err, want)
			}
		}
		if _, err := hasContainer(context.Background(), nil, "there"); err == nil {
			t.Error("an unreachable engine answers")
		}
	})
}

// File systems do not depend on the engine: while it is away their collector succeeds.
func TestFilesystemsSucceedWithoutEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", listsOnly())
		f.host = host.New([]host.MountMapping{{HostPath: "/data", LocalPath: t.TempDir()}}, nil)
		f.Answer("/_ping", slow(time.Second, status(503, "")))
		defer f.start()()
		for range 5 {
			s := f.scrapeAfter(time.Second)
			if c := collectorOf(s, "filesystems"); s.Up || !c.Success || len(s.Filesystems) != 1 {
				t.Errorf("up %v, %+v, %+v", s.Up, c, s.Filesystems)
			}
		}
	})
}

// The loop that owns the state answers while everything else hangs.
func TestHealthy(t *testing.T) {
	run(t, "api-1.51-graphdriver", everything(), func(f *fixture) {
		for _, endpoint := range []string{"/_ping", "/info", "/images/json", "/containers/json"} {
			f.Answer(endpoint, hang)
		}
		go f.scrape()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		if !f.Healthy(ctx) {
			t.Error("not healthy")
		}
		time.Sleep(time.Minute)
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", everything())
		stop := f.start()
		stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if f.Healthy(ctx) {
			t.Error("healthy after the end of Run")
		}
		if s := f.scrape(); s.Up {
			t.Error("up after the end of Run")
		}
	})
}

// Any body at any endpoint results in a snapshot without negative sizes, never in a panic.
func FuzzAnswers(f *testing.F) {
	for _, file := range []string{"images", "containers", "info"} {
		for _, dir := range []string{"api-1.43-graphdriver", "api-1.51-containerd", "null-lists", "invented-state"} {
			body, err := os.ReadFile(filepath.Join(testdata, dir, file+".json"))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(body)
		}
	}
	for _, body := range []string{
		`[{"Id":"a","RepoTags":[null,""],"Size":-9223372036854775808,"Labels":{"":""}}]`,
		`{"Id":"a","RootFS":{"Type":"layers","Layers":["x","","x"]},"State":{"Status":"exited"},"SizeRw":-1,"SizeRootFs":9223372036854775807}`,
		`{"Id":"a","RootFS":null}`,
		`[{"Size":9223372036854775807},{"Size":0},{"Size":-1}]`,
		`{"BuildCache":[null,{"ID":"a"," Parents":["a","b"],"Size":9223372036854775807},{"ID":"b"," Parents":["a"],"Shared":true},{"ID":"a"}],"Volumes":[null,{"Name":"a","UsageData":{"Size":-7}}]}`,
		`[{"Id":"a","Size":9223372036854775807,"SharedSize":9223372036854775807,"Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json","size":-9223372036854775808},"Manifests":[{"Kind":"image","Available":true,"ImageData":{"Size":{"Unpacked":-5}}}]}]`,
		`[{"Id":"a","State":"exited"},{"Id":"a","State":"running","Mounts":[{"Type":"image","Name":"a"},{"Type":"volume"}]}]`,
		`{"Type":"image","Action":"prune","timeNano":-1,"Actor":{"ID":"","Attributes":{"reclaimed":"-1"}}}`,
		`{"Type":"container","Action":"die","timeNano":9223372036854775807,"Actor":{"ID":"a","Attributes":{"reclaimed":"9223372036854775808"}}}`,
	} {
		f.Add([]byte(body))
	}
	lists := []string{"/images/json", "/containers/json", "/info"}
	others := []string{"/images/a/json", "/images/a/history", "/containers/a/json", "/volumes", "/system/df", "/events"}
	f.Fuzz(func(t *testing.T, body []byte) {
		answer := func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }
		config := everything()
		config.Events = true
		fuzz := func(prepare func(f *fixture)) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, "api-1.51-graphdriver", config)
				prepare(f)
				defer f.start()()
				for range 2 { // the second one after the inspections for events
					a := f.summary()
					isSane(t, a)
					containers, _ := a.Containers.Get()
					if len(containers) > 0 && stateCount(a)[containers[0].State] == 0 {
						t.Errorf("no container is %q, but %+v", containers[0].State, containers[0])
					}
					time.Sleep(2 * time.Second)
				}
			})
		}
		fuzz(func(f *fixture) {
			for _, endpoint := range []string{"/images/json", "/containers/json"} {
				f.reply(endpoint, `[{"Id":"a","ImageID":"a","Size":1,"State":"exited"}]`)
			}
			for _, endpoint := range others {
				f.Answer(endpoint, answer)
			}
		})
		fuzz(func(f *fixture) {
			for _, endpoint := range lists {
				f.Answer(endpoint, answer)
			}
		})
	})
}

// isSane fails if a number of bytes is negative.
func isSane(t *testing.T, a prune.Summary) {
	t.Helper()
	if size, known := a.Counts.Images.VirtualSize.Get(); known && size < 0 {
		t.Errorf("a virtual size of %d bytes", size)
	}
	for resource, bytes := range a.DiskUsage {
		if bytes < 0 {
			t.Errorf("%s use %d bytes", resource, bytes)
		}
	}
	for command, frees := range a.Reclaimable {
		if frees.Minimum < 0 || frees.Estimate < frees.Minimum {
			t.Errorf("%s frees %+v", command, frees)
		}
	}
	for _, p := range a.Prunes {
		if p.Bytes < 0 {
			t.Errorf("prunes of %s freed %d bytes", p.Resource, p.Bytes)
		}
	}
}
