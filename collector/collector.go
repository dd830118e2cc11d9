// Package collector exposes what is known of a Docker engine as Prometheus metrics.
package collector

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// Snapshotter returns a snapshot whose parts were requested no longer than maxAge ago, as far
// as they can be had before ctx ends.
type Snapshotter func(ctx context.Context, maxAge time.Duration) model.Snapshot

// Handler serves the metrics page.
type Handler struct {
	snapshot   Snapshotter
	summarizer prune.Summarizer
	process    prometheus.Gatherer // metrics of the exporter itself
	options    promhttp.HandlerOpts
	slots      chan struct{} // nil: no limit
	rows       []row
}

type row struct {
	Metric
	desc *prometheus.Desc
}

// NewHandler returns a handler that exposes snapshots, with the given number of repositories,
// beside the metrics of process. It takes no more than maxRequests snapshots at the same time
// and answers further requests with 503; 0 means no limit.
func NewHandler(snapshot Snapshotter, repositories int, process prometheus.Gatherer, maxRequests int, options promhttp.HandlerOpts) *Handler {
	h := &Handler{snapshot: snapshot, process: process, options: options}
	h.summarizer.Repositories = repositories
	if maxRequests > 0 {
		h.slots = make(chan struct{}, maxRequests)
	}
	h.rows = newRows()
	return h
}

func newRows() (rows []row) {
	for _, m := range Metrics() {
		rows = append(rows, row{m, prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)})
	}
	return rows
}

// Write writes the metrics of a summary in the text format of Prometheus.
func Write(w io.Writer, s prune.Summary) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{newRows(), func() prune.Summary { return s }})
	families, err := registry.Gather()
	for _, family := range families {
		if _, writeErr := expfmt.MetricFamilyToText(w, family); writeErr != nil {
			return writeErr
		}
	}
	return err
}

// ServeHTTP implements http.Handler. Each request has a registry of its own, because a
// prometheus.Collector does not know which request it works for.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.slots != nil {
		select {
		case h.slots <- struct{}{}:
		default:
			http.Error(w, "too many requests at the same time, see --web.max-requests", http.StatusServiceUnavailable)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), ScrapeTimeout(r.Header))
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{h.rows, func() prune.Summary { return h.summarizer.Summarize(h.snapshot(ctx, 0)) }})
	families, err := prometheus.Gatherers{h.process, registry}.Gather()
	cancel()
	if h.slots != nil {
		<-h.slots // a client that does not read keeps no slot
	}
	gathered := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, err })
	promhttp.HandlerFor(gathered, h.options).ServeHTTP(w, r)
}

// collector is the prometheus.Collector of one request.
type collector struct {
	rows    []row
	summary func() prune.Summary
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, row := range c.rows {
		descs <- row.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	summary := c.summary()
	for _, row := range c.rows {
		row.values(summary, func(value float64, labelValues ...string) {
			metrics <- prometheus.MustNewConstMetric(row.desc, row.valueType(), value, labelValues...)
		})
	}
}

const (
	defaultScrapeTimeout = 10 * time.Second       // Prometheus' own default
	timeoutOffset        = 500 * time.Millisecond // to write the page and send it
)

// ScrapeTimeout returns how long a snapshot may take for the sender of these headers.
func ScrapeTimeout(header http.Header) time.Duration {
	timeout := defaultScrapeTimeout
	seconds, err := strconv.ParseFloat(header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err == nil && seconds > 0 && seconds <= time.Hour.Seconds() {
		timeout = time.Duration(seconds * float64(time.Second))
	}
	return max(timeout-timeoutOffset, timeout/2)
}
