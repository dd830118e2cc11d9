package engine

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
)

// diskFixture is a fixture whose engine's root directory can be read.
type diskFixture struct {
	noHost
	*fixture
	events eventStream
	store  *model.LayerStore
	err    error
	took   atomic.Int64 // nanoseconds
	reads  int
}

// runWithDisk runs a test for an engine that answers from a folder, and streams events.
func runWithDisk(t *testing.T, dir string, test func(f *diskFixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &diskFixture{store: new(model.LayerStore)}
		config := everything()
		config.Events = true
		f.fixture = newFixture(t, dir, config)
		f.host = f
		f.events = f.streamEvents()
		defer f.start()()
		synctest.Wait()
		test(f)
	})
}

func (f *diskFixture) LayerStore(ctx context.Context, engine host.Engine, ratio float64) (*model.LayerStore, time.Duration, error) {
	f.reads++
	if engine.Docker != "/var/lib/docker" || ratio != 0.1 {
		f.Errorf("reads %q with ratio %v", engine.Docker, ratio)
	}
	if !sleep(ctx, time.Duration(f.took.Load())) {
		return nil, 0, ctx.Err()
	}
	return f.store, time.Millisecond, f.err
}

func TestLayerStoreIsInEachSnapshot(t *testing.T) {
	t.Parallel()
	runWithDisk(t, "api-1.51-graphdriver", func(f *diskFixture) {
		if f.scrape().LayerStore != f.store {
			t.Error("it is not in the first snapshot")
		}
		f.store = new(model.LayerStore)
		if f.scrapeAfter(time.Second).LayerStore != f.store || f.reads != 2 {
			t.Errorf("a later snapshot has an earlier one, after %d reads", f.reads)
		}
	})
}

func TestLayerStoreOfOthers(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"api-1.51-containerd", "podman-4.3", "engine-too-old"} {
		runWithDisk(t, dir, func(f *diskFixture) {
			if f.settle().LayerStore != nil || f.reads > 0 {
				t.Errorf("%s: read %d times", dir, f.reads)
			}
		})
	}
}

// TestLayerStoreAfterChange checks that a layer store is not used with objects that are newer.
func TestLayerStoreAfterChange(t *testing.T) {
	t.Parallel()
	for _, event := range []string{"container destroy c1", "image delete sha256:a", "builder prune "} {
		runWithDisk(t, "api-1.51-graphdriver", func(f *diskFixture) {
			f.addImage("sha256:a", 5)
			f.reply("/images/json", []map[string]any{{"Id": "sha256:a", "Size": 5}})
			f.reply("/containers/json", []map[string]any{{"Id": "c1", "State": "running"}})
			before := f.settle()
			f.took.Store(int64(300 * time.Millisecond)) // reading goes on when the event comes
			time.AfterFunc(1100*time.Millisecond, func() { f.events.send(event) })
			during := f.scrapeAfter(time.Second)
			f.took.Store(int64(0))
			if before.LayerStore == nil || during.LayerStore != nil {
				t.Errorf("%s: before %v, during %v", event, before.LayerStore, during.LayerStore)
			}
			f.reply("/images/json", []map[string]any{})
			f.reply("/containers/json", []map[string]any{})
			if f.scrapeAfter(time.Second).LayerStore == nil {
				t.Errorf("%s: unknown after it was read again", event)
			}
		})
	}
}

func TestLayerStoreWithoutPermission(t *testing.T) {
	t.Parallel()
	runWithDisk(t, "api-1.51-graphdriver", func(f *diskFixture) {
		f.store, f.err = nil, &model.Failure{Reason: "open image: permission denied", Hint: "give it CAP_DAC_READ_SEARCH", Err: fs.ErrPermission, NoAccess: true}
		s := f.scrape()
		for range 100 {
			s = f.scrapeAfter(time.Minute)
		}
		f.logged(1, "the engine's root directory cannot be read", "permission denied", "CAP_DAC_READ_SEARCH", "level=INFO")
		f.logged(0, "level=ERROR")
		for _, c := range s.Collectors {
			if !c.Success {
				t.Errorf("%s has failed", c.Name)
			}
		}
		if f.reads > 110 {
			t.Errorf("tried %d times", f.reads)
		}
	})
}

func TestLayerStoreFailure(t *testing.T) {
	t.Parallel()
	runWithDisk(t, "api-1.51-graphdriver", func(f *diskFixture) {
		f.scrape()
		store := f.store
		f.store, f.err = nil, errors.New("the database is damaged")
		for range 3 {
			if f.scrapeAfter(time.Minute).LayerStore != nil {
				t.Error("an earlier answer counts after a failure")
			}
		}
		f.logged(1, "cannot read the engine's layer store", "damaged")
		f.store, f.err = store, nil
		if f.scrapeAfter(time.Minute).LayerStore != store {
			t.Error("unknown after a failure")
		}
		f.logged(1, "recovered")
	})
}

// TestLayerStoreHangs checks that a disk that does not answer delays no snapshot for longer than the
// timeout, and leaves nothing else out.
func TestLayerStoreHangs(t *testing.T) {
	t.Parallel()
	runWithDisk(t, "api-1.51-graphdriver", func(f *diskFixture) {
		f.took.Store(int64(time.Hour))
		s, took := f.scrapeWithin(9500 * time.Millisecond)
		if s.LayerStore != nil || !s.Images.IsKnown() || took > f.config.Timeout {
			t.Errorf("after %v: %v", took, s)
		}
		f.took.Store(int64(0))
		if f.scrapeAfter(20*time.Minute).LayerStore == nil { // its deadline was before
			t.Error("unknown after the deadline")
		}
	})
}

// TestLayerStoreOfAnother checks that the log says that a layer store is another engine's, unless the
// engine has changed between two requests.
func TestLayerStoreOfAnother(t *testing.T) {
	t.Parallel()
	runWithDisk(t, "api-1.51-graphdriver", func(f *diskFixture) {
		f.reply("/containers/json", []map[string]any{{"Id": "c1", "State": "running"}, {"Id": "c2", "State": "dead"}})
		f.store = &model.LayerStore{Mounts: map[string]string{"c1": ""}}
		f.scrape()
		f.store = new(model.LayerStore)
		f.scrapeAfter(time.Minute)
		f.logged(0, "another engine")
		f.scrapeAfter(time.Minute)
		f.scrapeAfter(time.Minute)
		f.logged(1, "cannot read the engine's layer store", "has no container c1")
		f.store = &model.LayerStore{Mounts: map[string]string{"c1": ""}}
		f.scrapeAfter(time.Minute)
		f.logged(1, "recovered")
	})
}

// TestLayerStoreOfOneEpoch checks that nothing of it remains when another engine answers.
func TestLayerStoreOfOneEpoch(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.schedules[layerStore].begin(at(1))
	s.merge(result{task: task{kind: layerStore, epoch: s.epoch, objects: s.objectsVersion()}, value: &model.LayerStore{Mounts: maps.Clone(map[string]string{})}}, at(1))
	if s.snapshot(at(1)).LayerStore == nil {
		t.Fatal("unknown")
	}
	s.reset()
	if s.layers.store != nil {
		t.Error("known after a reset")
	}
}

// TestLayerStoreReadAfterChange checks that a change counts for when a slow layer store is read again.
func TestLayerStoreReadAfterChange(t *testing.T) {
	s := newState(Config{})
	s.containers.mergeList([]model.Container{{ID: "c1"}}, 1)
	s.layers = layers{store: &model.LayerStore{}, objects: s.objectsVersion()}
	for _, want := range []bool{false, true} {
		s.markStale()
		if got := s.schedules[layerStore].stale; got != want {
			t.Errorf("got stale %v, want %v", got, want)
		}
		s.containers.remove("c1", 2)
	}
}
