package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/containerd"
	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/model"
)

// fakeContainerd is the containerd of a fake engine with the containers c1 and c2 and as many
// images as it has. Its images are named by the number of the reading.
type fakeContainerd struct {
	mu       sync.Mutex
	readings int
	delay    time.Duration
	err      error
	owner    string   // prefix of the snapshots of containers
	more     []string // IDs of more images
	leases   []string
}

// addLease adds a lease that does not expire.
func (c *fakeContainerd) addLease(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leases = append(c.leases, id)
}

// add adds an image.
func (c *fakeContainerd) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.more = append(c.more, id)
}

func (c *fakeContainerd) read(ctx context.Context, _ containerd.Engine, _ map[string]time.Time) (containerd.Store, error) {
	c.mu.Lock()
	delay, err := c.delay, c.err
	c.readings++
	store := containerd.Store{ImageList: []model.Image{{ID: "i1", Tags: []string{fmt.Sprint("reading:", c.readings)}, Size: model.Known[int64](1), HasDigest: model.Known(false)}}}
	store.Images = []model.StoredImage{{Name: "app:1", Target: "i1"}}
	store.Contents = map[string]model.Content{"i1": {DiffIDs: []string{"d"}, History: []model.Step{{Size: 1}}}}
	for _, id := range []string{"c1", "c2"} {
		for _, name := range []string{id, id + "-init"} {
			store.Objects = append(store.Objects, model.StoredObject{Key: model.SnapshotKey(c.owner + name)})
		}
	}
	for _, id := range c.leases {
		store.Leases = append(store.Leases, model.StoredLease{ID: id})
	}
	for _, id := range c.more {
		store.ImageList = append(store.ImageList, model.Image{ID: id, HasDigest: model.Known(false)})
		store.Images = append(store.Images, model.StoredImage{Name: id + ":1", Target: id})
	}
	c.mu.Unlock()
	select {
	case <-time.After(delay):
		return store, err
	case <-ctx.Done():
		return containerd.Store{}, ctx.Err()
	}
}

func (c *fakeContainerd) set(delay time.Duration, err error, owner string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay, c.err, c.owner = delay, err, owner
}

// count sets how many images and containers the engine counts.
func (f *fixture) count(images, containers int) {
	f.reply("/info", map[string]any{
		"ServerVersion": "29.1.0", "Driver": "overlayfs", "DriverStatus": [][]string{{"driver-type", "io.containerd.snapshotter.v1"}}, "Images": images, "Containers": containers,
	})
}

// runWithContainerd runs a test with an engine whose containerd is read.
func runWithContainerd(t *testing.T, test func(f *fixture, events eventStream, c *fakeContainerd)) {
	t.Helper()
	c := &fakeContainerd{}
	config := everything()
	config.Events, config.Store = true, c.read
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "29-containerd", config)
		f.count(1, 9) // not those of the store: containers are listed
		f.reply("/containers/json", []map[string]any{{"Id": "c1", "State": "running", "ImageID": "i1"}, {"Id": "c2", "State": "exited", "ImageID": "i1"}})
		f.reply("/images/json", []map[string]any{{"Id": "i1", "RepoTags": []string{"listed:1"}, "Size": 1}})
		for _, id := range []string{"c1", "c2"} {
			f.reply("/containers/"+id+"/json", map[string]any{"Id": id, "Image": "i1", "Config": map[string]any{"Image": "app:1"}, "State": map[string]any{"Status": "running"}})
		}
		f.reply("/system/df", map[string]any{"BuildCache": nil, "Volumes": nil})
		events := f.streamEvents()
		defer f.start()()
		synctest.Wait()
		test(f, events, c)
	})
}

// tagsOf returns the tags of the first image of a snapshot, and whether there is a store.
func tagsOf(s model.Snapshot) string {
	list, _ := s.Images.Get()
	if len(list) == 0 {
		return "unknown"
	}
	return fmt.Sprint(list[0].Tags, s.Store.IsKnown(), s.StoreStale)
}

func (f *fixture) expectTags(what string, s model.Snapshot, want string) {
	f.Helper()
	if got := tagsOf(s); got != want {
		f.Errorf("%s: got the tags, whether the store is known, whether it is stale %s, want %s", what, got, want)
	}
}

// TestStoreReplacesRequests checks that images are neither listed nor inspected where containerd
// is read, at every scrape, and that the page is of the moment.
func TestStoreReplacesRequests(t *testing.T) {
	runWithContainerd(t, func(f *fixture, events eventStream, c *fakeContainerd) {
		f.expectTags("first", f.scrape(), "[reading:1] true false")
		s := f.scrapeAfter(15 * time.Second)
		f.expectTags("second", s, "[reading:2] true false")
		if !collectorOf(s, "containerd").Success || !collectorOf(s, "images").Success {
			t.Errorf("got the collectors %+v", s.Collectors)
		}
		events.send("image tag i1", "name", "new:1")
		f.expectTags("after an event", f.scrapeAfter(time.Second), "[reading:3] true false")
		c.set(2*time.Second, nil, "")
		f.scrapeAfter(15 * time.Second)
		time.Sleep(3 * time.Second) // it has ended, and is not fast
		events.send("image tag i1", "name", "newer:1")
		f.expectTags("after an event, before a reading", f.scrapeAfter(time.Second), "[reading:4] true true")
		if f.requested("/images/") != 0 {
			t.Errorf("got %d requests about images, want none", f.requested("/images/"))
		}
	})
}

// TestStoreFaults checks that the Engine API takes the place of a containerd that cannot be
// read, within the scrape, and that it is read again when it can be.
func TestStoreFaults(t *testing.T) {
	dial := &model.Failure{Kind: "dial", Reason: "connection refused", Hint: "hint"}
	noAccess := &model.Failure{Kind: "dial", Reason: "permission denied", Hint: "hint", NoAccess: true}
	tests := []struct {
		name  string
		err   error
		owner string
		want  string
		lines []string
	}{
		{"gone", dial, "", "[listed:1] false false", []string{"cannot read containerd's store"}},
		{"access taken away", noAccess, "", "[listed:1] false false", []string{"cannot read containerd's store"}},
		{"of another engine", nil, "other ", "[listed:1] false false", []string{"cannot read containerd's store", "other images and containers"}},
		{"lying", errors.New("what"), "", "[listed:1] false false", []string{"cannot read containerd's store"}},
	}
	for _, test := range tests {
		runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
			f.scrape()
			c.set(0, test.err, test.owner)
			s := f.scrapeAfter(15 * time.Second)
			f.expectTags(test.name, s, test.want)
			if collectorOf(s, "containerd").Success {
				f.Errorf("%s: got success of the collector containerd, want none", test.name)
			}
			f.scrapeAfter(15 * time.Second)
			f.logged(1, test.lines...)
			c.set(0, nil, "")
			s = f.scrapeAfter(time.Minute)
			if !s.Store.IsKnown() || s.StoreStale || !collectorOf(s, "containerd").Success {
				f.Errorf("%s: got the tags %s afterwards, want the store", test.name, tagsOf(s))
			}
			f.logged(1, "recovered")
		})
	}
}

// TestStoreHangs checks that a containerd that hangs costs neither the page nor the images.
func TestStoreHangs(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		f.scrape()
		c.set(time.Hour, nil, "")
		started := time.Now()
		f.expectTags("while it hangs", f.scrapeAfter(15*time.Second), "[reading:1] true false")
		if took := time.Since(started) - 15*time.Second; took > storeWait {
			t.Errorf("got a scrape of %v, want a short one", took)
		}
		f.expectTags("after its deadline", f.scrapeAfter(15*time.Second), "[listed:1] false false")
		f.logged(1, "cannot read containerd's store")
	})
}

// TestStoreWithoutAccess checks that there is one line and no collector without access.
func TestStoreWithoutAccess(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		c.set(0, &model.Failure{Kind: "dial", Reason: "permission denied", Hint: "how to give it", NoAccess: true}, "")
		for range 5 {
			s := f.scrapeAfter(time.Minute)
			f.expectTags("without access", s, "[listed:1] false false")
			if name := collectorOf(s, "containerd").Name; name != "" {
				t.Errorf("got a collector %q, want none", name)
			}
		}
		f.logged(1, "cannot read containerd's store", "how to give it")
	})
}

// TestStoreAccessLost checks that the reason of a failure is the last one, also if that is that
// there is no access any more.
func TestStoreAccessLost(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		c.set(0, &model.Failure{Kind: "Unknown", Reason: "broken"}, "")
		f.scrape()
		c.set(0, &model.Failure{Kind: "dial", Reason: "no such file", NoAccess: true}, "")
		f.scrapeAfter(time.Minute)
		for _, problem := range f.scrapeAfter(time.Minute).Problems {
			if problem.Operation == readStore && problem.Reason != "no such file" {
				t.Errorf("got the reason %q, want no such file", problem.Reason)
			}
		}
	})
}

// TestStoreOfOtherEngine checks that the store of another engine is not believed, whether the
// containers are known before it or not.
func TestStoreOfOtherEngine(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		f.Answer("/containers/json", slow(3*time.Second, replyWith([]map[string]any{{"Id": "c1", "State": "running", "ImageID": "i1"}})))
		c.set(0, nil, "other ")
		f.expectTags("first", f.scrape(), "[listed:1] false false")
		f.logged(1, "cannot read containerd's store")
	})
}

// TestStoreStale checks when figures of the store are not of the moment.
func TestStoreStale(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	record := func(used time.Duration) []model.CacheRecord {
		return []model.CacheRecord{{ID: "r", LastUsedAt: model.Known(at.Add(used))}}
	}
	tests := []struct {
		name   string
		change func(s *state)
		want   bool
	}{
		{"unchanged", func(*state) {}, false},
		{"a name has changed", func(s *state) { s.version++; s.objectChanged(objectKey{images, "i1"}, at) }, true},
		{"a container is new", func(s *state) { s.containers.update("c3", 100, model.Container{ID: "c3"}) }, true},
		{"a container was removed", func(s *state) { s.containers.remove("c1", 100) }, true},
		{"a container may be new", func(s *state) { s.changed.add(objectKey{containers, "c3"}, at) }, true},
		{"a container has stopped", func(s *state) {
			s.containers.update("c1", 100, model.Container{ID: "c1", State: model.Exited})
		}, false},
		{"a record was used before", func(s *state) { s.usage.records = model.Known(record(-time.Second)) }, false},
		{"a record was used since", func(s *state) { s.usage.records = model.Known(record(time.Second)) }, true},
	}
	for _, test := range tests {
		s := newState(Config{})
		s.containers.mergeList([]model.Container{{ID: "c1", State: model.Running}}, 1)
		s.store = store{content: &containerd.Store{}, version: s.version, startedAt: at, containers: s.containers.generation}
		test.change(s)
		if got := s.isStoreStale(); got != test.want {
			t.Errorf("%s: got stale %v, want %v", test.name, got, test.want)
		}
	}
}

// TestStoreUses checks what a reading knows of records of the build cache: when those were last
// used that are in no use, and nothing while none are known.
func TestStoreUses(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newState(Config{Store: (&fakeContainerd{}).read})
	s.info = model.Known(docker.Info{Engine: model.Engine{ImageStore: model.Containerd}})
	for _, test := range []struct {
		records model.Optional[[]model.CacheRecord]
		want    map[string]time.Time
	}{
		{model.Optional[[]model.CacheRecord]{}, nil},
		{model.Known([]model.CacheRecord{{ID: "never"}, {ID: "r", LastUsedAt: model.Known(at)}, {ID: "u", InUse: true, LastUsedAt: model.Known(at)}}), map[string]time.Time{"r": at}},
		{model.Known([]model.CacheRecord{}), map[string]time.Time{}},
	} {
		var got task
		s.usage.records = test.records
		s.prepareStore(&got)
		if !reflect.DeepEqual(got.used, test.want) {
			t.Errorf("%+v: got %v, want %v", test.records, got.used, test.want)
		}
	}
}

// TestStoreOldCounts checks that a store is believed although the engine's counts are older, if
// there are no containers.
func TestStoreOldCounts(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		f.reply("/containers/json", []any{})
		f.expectTags("first", f.scrape(), "[reading:1] true false")
		c.add("i2")
		f.count(2, 9)
		f.expectTags("another image", f.scrapeAfter(15*time.Second), "[reading:3] true false")
		f.logged(0, "cannot")
		c.add("i3")
		f.expectTags("more images than counted", f.scrapeAfter(15*time.Second), "[listed:1] false false")
		f.logged(1, "other images and containers")
	})
}

// TestStoreRetry checks that a containerd that failed is read again, however slow the image list
// is that took its place, and that it costs no other list.
func TestStoreRetry(t *testing.T) {
	for _, owner := range []string{"", "other "} {
		runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
			f.Answer("/images/json", slow(2*time.Second, replyWith([]map[string]any{{"Id": "i1", "RepoTags": []string{"listed:1"}, "Size": 1}})))
			c.set(0, errors.New("what"), owner)
			f.scrape()
			time.Sleep(2 * time.Second)
			f.expectTags("failed", f.scrape(), "[listed:1] false false")
			c.set(0, nil, owner)
			want := map[string]string{"": "true false", "other ": "false false"}[owner]
			s := f.scrapeAfter(15 * time.Second)
			for range 10 {
				s = f.scrapeAfter(15 * time.Second)
			}
			if got := fmt.Sprint(s.Store.IsKnown(), " ", s.StoreStale); got != want {
				t.Errorf("%q: got whether the store is known, and whether it is stale %s, want %s", owner, got, want)
			}
			if n := f.requested("/images/json"); n != 1 {
				t.Errorf("%q: got %d image lists, want 1", owner, n)
			}
		})
	}
}

// TestStoreContainerRemoved checks that a store is believed if the only container was removed
// between the container list and the reading.
func TestStoreContainerRemoved(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		f.scrape()
		isFirst := true
		f.Answer("/containers/json", func(w http.ResponseWriter, r *http.Request) {
			if isFirst {
				isFirst = false
				replyWith([]map[string]any{{"Id": "c9", "State": "running", "ImageID": "i1"}})(w, r)
				return
			}
			replyWith([]any{})(w, r)
		})
		f.expectTags("removed", f.scrapeAfter(15*time.Second), "[reading:3] true false")
		f.logged(0, "cannot read")
	})
}

// TestStoreReadAfterChange checks that a store that takes long to read is read again soon after
// containers have changed.
func TestStoreReadAfterChange(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		c.set(time.Second, nil, "")
		f.expectTags("first", f.scrape(), "[reading:1] true false")
		f.reply("/containers/json", []map[string]any{{"Id": "c1", "State": "running", "ImageID": "i1"}})
		f.scrapeAfter(15 * time.Second)
		f.scrapeAfter(15 * time.Second)
		f.expectTags("after the change", f.scrapeAfter(15*time.Second), "[reading:2] true false")
		f.expectTags("without another one", f.scrapeAfter(15*time.Second), "[reading:2] true false")
	})
}

// TestStoreReadDuringList checks that an image list does not take the place of a store that was
// read after the list was requested.
func TestStoreReadDuringList(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newState(Config{})
	content := &containerd.Store{}
	s.store.content, s.schedules[storeRetries].took = content, time.Second
	s.schedules[images].begin(at)
	s.merge(result{task: task{kind: images, epoch: s.epoch}, value: []model.Image{{ID: "listed"}}, took: time.Minute}, at)
	if took := s.schedules[images].took; s.store.content != content || s.images.known || took != time.Second {
		t.Errorf("got the store %v, a known image list: %v, and a duration of %v, want the store, false and 1s", s.store.content, s.images.known, took)
	}
}

// TestStoreOfRemoteEngine checks that a store is not believed because it has as many images as an
// engine on another machine, which has no containers.
func TestStoreOfRemoteEngine(t *testing.T) {
	for _, isLocal := range []bool{true, false} {
		s := newState(Config{IsLocal: isLocal})
		s.info = model.Known(docker.Info{Images: 1})
		if got := s.isOfEngine(&containerd.Store{ImageList: []model.Image{{ID: "i"}}}); got != isLocal {
			t.Errorf("local: %v, got %v", isLocal, got)
		}
	}
}

// TestStoreMismatchVersion checks that figures are computed again when a store is not believed any
// more.
func TestStoreMismatchVersion(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newState(Config{})
	s.containers.mergeList([]model.Container{{ID: "c1"}}, 1)
	s.store.content = &containerd.Store{}
	before := s.contents.version
	s.mergeStore(result{task: task{kind: images}, store: storeAnswer{content: &containerd.Store{}}}, at)
	if s.store.content != nil || s.contents.version == before {
		t.Errorf("got the store %v and the version %d after %d, want no store and another version", s.store.content, s.contents.version, before)
	}
}

// TestStoreShowsBuilds checks that the build cache is stale after a build that only containerd
// shows: one that has failed has no event. The lease of a container is none of a build.
func TestStoreShowsBuilds(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		f.Answer("/system/df", slow(slowList, replyWith(map[string]any{"BuildCache": nil, "Volumes": nil})))
		expect := func(what string, s model.Snapshot, want bool) {
			t.Helper()
			if !s.BuildCache.IsKnown() || s.BuildCacheStale != want {
				t.Errorf("%s: got whether the build cache is known %v, and whether it is stale %v, want true, %v", what, s.BuildCache.IsKnown(), s.BuildCacheStale, want)
			}
		}
		expect("first", f.settle(), false)
		c.addLease("c1")
		expect("a container", f.scrapeAfter(15*time.Second), false)
		c.addLease("record")
		expect("a build", f.scrapeAfter(time.Second), true)
		f.scrapeAfter(15 * time.Second)
		expect("after another list", f.scrapeAfter(15*time.Second), false)
	})
}

// TestStoreCost checks that a store that takes a while to read is read rarely while nothing changes,
// and with the next scrape after a change, also one of the build cache, which has no event.
func TestStoreCost(t *testing.T) {
	runWithContainerd(t, func(f *fixture, events eventStream, c *fakeContainerd) {
		c.set(150*time.Millisecond, nil, "")
		f.scrape()
		for range 40 {
			if s := f.scrapeAfter(15 * time.Second); !s.Store.IsKnown() || s.StoreStale {
				t.Fatalf("nothing has changed: got %s", tagsOf(s))
			}
		}
		n := c.readings
		if n > 25 {
			t.Errorf("got %d readings in 40 scrapes, want about every second one", n)
		}
		for i := range 4 {
			events.send("image tag i1", "name", "new:1")
			f.expectTags("after an event", f.scrapeAfter(15*time.Second), fmt.Sprintf("[reading:%d] true false", n+i+1))
		}
		f.reply("/system/df", map[string]any{"Volumes": nil, "BuildCache": []map[string]any{{"ID": "r"}}})
		if s := f.scrapeAfter(15 * time.Second); c.readings == n+4 && !s.StoreStale {
			t.Errorf("after a build: got %s, want it to be stale", tagsOf(s))
		}
		if s := f.scrapeAfter(15 * time.Second); c.readings < n+5 || s.StoreStale {
			t.Errorf("later: got %s", tagsOf(s))
		}
	})
}

// TestStoreReplacesContainerList checks that containers are inspected instead of listed where containerd
// is read, and that they are listed if the engine counts others, or one cannot be inspected.
func TestStoreReplacesContainerList(t *testing.T) {
	inspected := func(id, state string) any {
		return map[string]any{
			"Id": id, "Image": "i1", "Name": "/" + id, "Config": map[string]any{"Image": "app:1"}, "Mounts": []any{map[string]any{"Type": "volume", "Name": "v" + id}},
			"State": map[string]any{"Status": state, "FinishedAt": "1999-12-31T00:00:00Z"}, "SizeRw": 7,
		}
	}
	runWithContainerd(t, func(f *fixture, events eventStream, c *fakeContainerd) {
		expect := func(what string, s model.Snapshot, lists int, want string) {
			t.Helper()
			list, _ := s.Containers.Get()
			got := ""
			for _, c := range list {
				stopped, _ := c.StoppedAt.Get()
				got += fmt.Sprintf("%s %s %s %v %d, ", c.ID, c.Name, c.State, c.Volumes, stopped.Year())
			}
			if n := f.requested("/containers/json"); got != want || n != lists {
				t.Errorf("%s: got %s after %d lists, want %s after %d", what, got, n, want, lists)
			}
		}
		f.count(1, 2)
		f.reply("/containers/c1/json", inspected("c1", "running"))
		f.reply("/containers/c2/json", inspected("c2", "exited"))
		const both = "c1 c1 running [vc1] 1, c2 c2 exited [vc2] 1999, "
		expect("inspected", f.scrape(), 0, both)
		f.reply("/containers/c1/json", inspected("c1", "paused"))
		expect("inspected again", f.scrapeAfter(15*time.Second), 0, strings.Replace(both, "running", "paused", 1))
		f.count(1, 3)
		expect("the engine counts more", f.scrapeAfter(15*time.Second), 1, "c1  running [] 1, c2  exited [] 1999, ")
		f.count(1, 1)
		f.Answer("/containers/c1/json", status(404, `{"message":"No such container: c1"}`))
		f.scrapeAfter(15 * time.Second) // listed
		expect("one is gone", f.scrapeAfter(5*time.Minute), 2, "c2 c2 exited [vc2] 1999, ")
		f.count(1, 2)
		f.Answer("/containers/c1/json", status(500, `{"message":"broken"}`))
		expect("one cannot be inspected", f.scrapeAfter(15*time.Second), 3, "c1  running [] 1, c2  exited [] 1999, ")
		before := f.requested("/containers/c2/json")
		f.scrapeAfter(15 * time.Second)
		f.scrapeAfter(15 * time.Second)
		if n := f.requested("/containers/c2/json") - before; n > 0 {
			t.Errorf("while one cannot be inspected, the other was inspected %d times, want only lists", n)
		}
	})
}

// TestContainersWithoutAccess checks that the containers are not delayed by an image list that takes the
// place of a store that cannot be read.
func TestContainersWithoutAccess(t *testing.T) {
	runWithContainerd(t, func(f *fixture, _ eventStream, c *fakeContainerd) {
		c.set(0, &model.Failure{Kind: "dial", Reason: "permission denied", NoAccess: true}, "")
		f.Answer("/images/json", slow(8*time.Second, replyWith([]any{})))
		s, took := f.scrapeWithin(9500 * time.Millisecond)
		if !s.Containers.IsKnown() || took != everything().Timeout {
			t.Errorf("after %v: known containers: %v, want some after %v", took, s.Containers.IsKnown(), everything().Timeout)
		}
		f.logged(1, "cannot read containerd's store")
	})
}
