// Package collector tells Prometheus what a Docker engine holds:
// an inventory in, gauges out.
package collector

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

// A Source takes one inventory of an engine. It returns when ctx ends at the
// latest; what it could not learn by then is unknown in the inventory.
type Source func(ctx context.Context) model.Snapshot

// A Collector takes an inventory at each collection and turns it into gauges.
type Collector struct {
	source       Source
	repositories int
	rows         []row

	collections singleflight.Group // one at a time: who comes meanwhile shares it

	mu      sync.Mutex
	hurry   func() // ends the wait of the latest collection
	last    prune.Summary
	endedAt time.Time // of the last one; zero if there was none
}

type row struct {
	Metric
	desc *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// New returns a collector of what source finds, and in detail of the largest repositories,
// so many of them.
func New(source Source, repositories int) *Collector {
	c := &Collector{source: source, repositories: repositories, hurry: func() {}}
	for _, m := range Metrics() {
		c.rows = append(c.rows, row{m, prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)})
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, row := range c.rows {
		descs <- row.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	assessment := c.collect()
	for _, row := range c.rows {
		row.values(assessment, func(value float64, labelValues ...string) {
			metrics <- prometheus.MustNewConstMetric(row.desc, row.valueType(), value, labelValues...)
		})
	}
}

// Recent returns what the last collection found, whoever it was for, if that ended no
// longer ago than maxAge. Else it is one that asks.
func (c *Collector) Recent(maxAge time.Duration) prune.Summary {
	c.mu.Lock()
	last, endedAt := c.last, c.endedAt
	c.mu.Unlock()
	if !endedAt.IsZero() && time.Since(endedAt) <= maxAge {
		return last
	}
	return c.collect()
}

// ForPage returns a summary for a request of the page that is at most five seconds old.
func (c *Collector) ForPage(*http.Request) prune.Summary { return c.Recent(5 * time.Second) }

// collect takes an inventory, or waits for the one that is being taken.
func (c *Collector) collect() prune.Summary {
	assessment, _, _ := c.collections.Do("", func() (any, error) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c.mu.Lock()
		c.hurry = cancel
		c.mu.Unlock()

		assessment := prune.Summarize(c.source(ctx), c.repositories)

		c.mu.Lock()
		defer c.mu.Unlock()
		c.last, c.endedAt = assessment, time.Now()
		return assessment, nil
	})
	return assessment.(prune.Summary)
}

// Hurry ends the wait of the collection under way, if there is one: its page
// tells what is known by now.
func (c *Collector) Hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurry()
}

// WithDeadline makes the collection that a request to next waits for end before
// Prometheus gives up. A prometheus.Collector is not told whom it works for, and
// overlapping scrapes may share one collection: the most hurried sets its pace.
func (c *Collector) WithDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timer := time.AfterFunc(patience(r.Header), c.Hurry)
		defer timer.Stop()
		next.ServeHTTP(w, r)
	})
}

const (
	defaultScrapeTimeout = 10 * time.Second       // Prometheus' own default
	timeForTheWayBack    = 500 * time.Millisecond // to write the page and send it
)

// patience is how long a collection may take for whoever sent these headers.
func patience(header http.Header) time.Duration {
	timeout := defaultScrapeTimeout
	seconds, err := strconv.ParseFloat(header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err == nil && seconds > 0 && seconds <= time.Hour.Seconds() {
		timeout = time.Duration(seconds * float64(time.Second))
	}
	return max(timeout-timeForTheWayBack, timeout/2)
}
