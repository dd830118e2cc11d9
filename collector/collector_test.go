package collector

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"

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
			{ID: "b", HasDigest: model.Known(false), Size: model.Known(int64(6)), Created: model.Known[int64](1700000000)},
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
	c := newCollector(complete(), 1)
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
	c := newCollector(model.Snapshot{}, 0)
	if err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP docker_up Whether the Docker engine responded to a ping (1) or not (0). Checked on every scrape (Engine API: /_ping).
# TYPE docker_up gauge
docker_up 0
`)); err != nil {
		t.Error(err)
	}
}

func TestScrapeTimeout(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":      9500 * time.Millisecond,
		"10":    9500 * time.Millisecond,
		"2.5":   2 * time.Second,
		"0.4":   200 * time.Millisecond,
		"60":    59500 * time.Millisecond,
		"0":     9500 * time.Millisecond,
		"-3":    9500 * time.Millisecond,
		"NaN":   9500 * time.Millisecond,
		"Inf":   9500 * time.Millisecond,
		"1e300": 9500 * time.Millisecond,
		"text":  9500 * time.Millisecond,
	} {
		if got := ScrapeTimeout(http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {header}}); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// newCollector returns the collector of one request, for which there is this snapshot.
func newCollector(s model.Snapshot, repositories int) prometheus.Collector {
	return &collector{newRows(), func() prune.Summary { return prune.Summarize(s, repositories) }}
}

// Write writes the page that a scrape returns.
func TestWrite(t *testing.T) {
	s := model.Snapshot{Up: true, Filesystems: []model.Filesystem{{Path: "/d", Size: 10, Avail: 3}}}
	snapshot := func(context.Context, time.Duration) model.Snapshot { return s }
	page := httptest.NewRecorder()
	NewHandler(snapshot, 0, prometheus.NewRegistry(), 0, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var text strings.Builder
	if err := Write(&text, prune.Summarize(s, 0)); err != nil || text.String() != page.Body.String() || !strings.Contains(text.String(), `docker_filesystem_avail_bytes{path="/d"} 3`) {
		t.Errorf("got %v\n%s\nwant\n%s", err, text.String(), page.Body.String())
	}
}

// Each request waits for itself only: the hurried one gets its page, the patient one its own.
func TestEachRequestWaitsForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		snapshot := func(ctx context.Context, _ time.Duration) model.Snapshot {
			select {
			case <-time.After(5 * time.Second):
				return model.Snapshot{Up: true}
			case <-ctx.Done():
				return model.Snapshot{}
			}
		}
		h := NewHandler(snapshot, 0, prometheus.NewRegistry(), 2, promhttp.HandlerOpts{})
		scrape := func(timeout, want string, wantTook time.Duration) {
			started := time.Now()
			w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
			r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
			h.ServeHTTP(w, r)
			if took := time.Since(started); took != wantTook || !strings.Contains(w.Body.String(), want) {
				t.Errorf("timeout %s: took %v, %d\n%s", timeout, took, w.Code, w.Body)
			}
		}
		var scrapes sync.WaitGroup
		scrapes.Go(func() { scrape("10", "docker_up 1", 5*time.Second) })
		scrapes.Go(func() { scrape("1", "docker_up 0", 500*time.Millisecond) })
		synctest.Wait()
		scrape("10", "too many requests", 0)
		scrapes.Wait()
	})
}

// closer is a connection that notes that it was closed.
type closer struct {
	net.Conn
	closed bool
}

func (c *closer) Close() error {
	c.closed = true
	return nil
}

func TestConnectionLimit(t *testing.T) {
	l := connectionLimit{max: 2}
	a, b, c, d := &closer{}, &closer{}, &closer{}, &closer{}
	l.setState(a, http.StateNew)
	l.setState(a, http.StateActive)
	l.setState(b, http.StateNew)
	l.setState(b, http.StateIdle)
	l.setState(c, http.StateNew)
	if a.closed || !b.closed || c.closed {
		t.Errorf("closed: active %v, idle %v, new %v; want the idle one", a.closed, b.closed, c.closed)
	}
	l.setState(b, http.StateClosed)
	l.setState(c, http.StateActive)
	l.setState(d, http.StateNew)
	if a.closed || c.closed || !d.closed {
		t.Errorf("closed: active %v and %v, new %v; want the new one", a.closed, c.closed, d.closed)
	}
	l.setState(d, http.StateClosed)
	l.setState(a, http.StateClosed)
	e := &closer{}
	l.setState(e, http.StateNew)
	if e.closed {
		t.Error("closed a connection below the limit")
	}
}
