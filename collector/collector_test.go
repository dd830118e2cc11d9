package collector

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// complete returns a snapshot in which every metric has a value.
func complete() model.Snapshot {
	files := model.Known(int64(8))
	return model.Snapshot{
		At:     time.Unix(1700000000, 0),
		Up:     true,
		Engine: model.Known(model.Engine{Version: "28.5.2", APIVersion: "1.51", ImageStore: model.GraphDriver, StorageDriver: "overlay2"}),
		Collectors: []model.Collector{{
			Name: "images", Success: true,
			Duration: model.Known(250 * time.Millisecond), LastSuccess: model.Known(time.Unix(1700000000, 5e8)),
		}},
		Images: model.Known([]model.Image{
			{ID: "a", Tags: []string{"a:1"}, Repositories: []string{"a"}, HasDigest: model.Known(false), Size: model.Known(int64(5))},
			{ID: "b", HasDigest: model.Known(false), Size: model.Known(int64(6))},
		}),
		Contents:    map[string]model.Content{"a": {}, "b": {}},
		Volumes:     model.Known([]model.Volume{}),
		BuildCache:  model.Known([]model.CacheRecord{}),
		Containers:  model.Known([]model.Container{{ID: "1", ImageID: "a", State: model.Running}}),
		Prunes:      []model.Prune{{Resource: model.Images, Count: 2, Bytes: 5, Last: model.Known(time.Unix(1700000000, 0))}},
		Filesystems: []model.Filesystem{{Path: "/var/lib/docker", Size: 100, Avail: 40, Files: files, FilesFree: files}},
	}
}

// Every metric is exposed, with the labels that it declares, and passes promlint.
func TestMetrics(t *testing.T) {
	c := New(func(context.Context) model.Snapshot { return complete() }, 1)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != len(Metrics()) {
		t.Errorf("%d of %d metrics are exposed", len(families), len(Metrics()))
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP docker_scrape_collector_last_success_timestamp_seconds Unix timestamp of the last successful request of this collector.
# TYPE docker_scrape_collector_last_success_timestamp_seconds gauge
docker_scrape_collector_last_success_timestamp_seconds{collector="images"} 1.7000000005e+09
`), "docker_scrape_collector_last_success_timestamp_seconds"); err != nil {
		t.Error(err)
	}
}

// Unknown values are absent. Only docker_up is always present.
func TestUnknownIsAbsent(t *testing.T) {
	c := New(func(context.Context) model.Snapshot { return model.Snapshot{} }, 0)
	if err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP docker_up Whether the Docker engine responded to a ping (1) or not (0). Checked on every scrape (Engine API: /_ping).
# TYPE docker_up gauge
docker_up 0
`)); err != nil {
		t.Error(err)
	}
}

func TestPatience(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":        9500 * time.Millisecond,
		"10":      9500 * time.Millisecond,
		"2.5":     2 * time.Second,
		"0.4":     200 * time.Millisecond,
		"60":      59500 * time.Millisecond,
		"0":       9500 * time.Millisecond,
		"-3":      9500 * time.Millisecond,
		"NaN":     9500 * time.Millisecond,
		"Inf":     9500 * time.Millisecond,
		"1e300":   9500 * time.Millisecond,
		"rubbish": 9500 * time.Millisecond,
	} {
		if got := patience(http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {header}}); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// A scrape that shares a collection with a more patient one still gets its page in time.
func TestMostHurriedScrapeSetsThePace(t *testing.T) {
	collections := make(chan struct{}, 10)
	c := New(func(ctx context.Context) model.Snapshot {
		collections <- struct{}{}
		<-ctx.Done()
		return model.Snapshot{}
	}, 0)
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	server := httptest.NewServer(c.WithDeadline(promhttp.HandlerFor(registry, promhttp.HandlerOpts{CoalesceGather: true})))
	defer server.Close()
	scrape := func(timeout string, done chan<- time.Duration) {
		start := time.Now()
		request, _ := http.NewRequest(http.MethodGet, server.URL, nil)
		request.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
		response, err := http.DefaultClient.Do(request)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("timeout %s: %v, %v", timeout, response, err)
		}
		done <- time.Since(start)
	}
	patient, hurried := make(chan time.Duration), make(chan time.Duration)
	go scrape("3600", patient)
	<-collections
	go scrape("0.2", hurried)
	<-hurried
	<-patient
	if len(collections) != 0 {
		t.Error("the two scrapes did not share their collection")
	}
}

// A page costs the engine nothing while the last collection is young, whoever that was
// for, and otherwise one, whatever the crowd.
func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int32
		c := New(func(context.Context) model.Snapshot {
			taken.Add(1)
			time.Sleep(time.Second)
			return model.Snapshot{At: time.Now()}
		}, 0)
		step := func(what string, want int32, act func()) {
			t.Helper()
			var crowd sync.WaitGroup
			for range 100 {
				crowd.Go(act)
			}
			crowd.Wait()
			if got := taken.Load(); got != want {
				t.Errorf("%s: %d inventories were taken, want %d", what, got, want)
			}
		}
		recent := func() { c.Recent(5 * time.Second) }
		scrape := func() { testutil.CollectAndCount(c) }
		step("at first", 1, recent)
		step("again", 1, recent)
		time.Sleep(5 * time.Second)
		step("exactly so old", 1, recent)
		time.Sleep(time.Second)
		step("older", 2, recent)
		step("a scrape asks anew", 3, scrape)
		step("after a scrape", 3, recent)
		time.Sleep(6 * time.Second)
		step("with a scrape", 4, func() {
			go recent()
			scrape()
		})
	})
}
