package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
)

// goal is the maximum ratio of the CPU time of all rules to their evaluation interval.
const goal = 0.2

// bench measures the evaluation of an unchanged rule file on a real TSDB of so many hosts. Each
// metric has as much history as the rules read.
func bench(ctx context.Context, out io.Writer, file string, hosts int) error {
	book, err := readBook(file)
	if err != nil {
		return err
	}
	history := book.history()
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	minutes, err := writeFleet(ctx, out, dir, file, hosts, func(l labels.Labels) int {
		return max(history[l.Get(labels.MetricName)], hour)
	})
	if err != nil {
		return err
	}
	options := tsdb.DefaultOptions()
	options.RetentionDuration = 0
	db, err := tsdb.Open(dir, quiet(), nil, options, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	db.DisableCompactions()
	return evaluateAll(ctx, out, file, db, minutes)
}

// writeFleet writes a block with the metrics, records and some firing alerts of so many hosts
// to a TSDB. They are copies of the disks that never fill. History returns the minutes of a
// series. The result is the end of the block, in minutes.
func writeFleet(ctx context.Context, out io.Writer, dir, file string, hosts int, history func(labels.Labels) int) (int, error) {
	book, err := readBook(file)
	if err != nil {
		return 0, err
	}
	minutes := max(slices.Max(append(slices.Collect(maps.Values(book.history())), day))+hour, 14*day)
	var traces []*trace
	for _, k := range kinds() {
		if !k.fills && len(traces) < hosts {
			traces = append(traces, k.trace(0, minutes))
		}
	}
	m := scrape(traces, minutes, false)
	r := run{book, m, newEngine(book.parser)}
	if _, err := r.evaluate(ctx); err != nil {
		return 0, err
	}
	for number, severity := range []string{"critical", "warning", "info"}[:min(3, len(traces))] {
		t := target{m, traces[number], exporterJob, hostname(number) + exporterPort}
		t.expose(constant(1), "ALERTS", "alertname", "DockerIsThere", "alertstate", "firing", "severity", severity, "component", "docker-buildup", "resource", "disk")
	}
	all, samples, err := copySeries(m, history, hosts, len(traces))
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "%d hosts, %d series, %d million samples of history\n", hosts, len(all), samples/1_000_000)
	return minutes, writeBlock(ctx, filepath.Join(dir, ulid.MustNew(1, nil).String()), all, minutes)
}

// evaluateAll evaluates each group as Prometheus does, including the annotations of pending
// alerts. The first evaluation is not measured.
func evaluateAll(ctx context.Context, out io.Writer, file string, db *tsdb.DB, now int) error {
	engine := promql.NewEngine(promql.EngineOpts{ // the defaults of Prometheus
		Logger: quiet(), MaxSamples: 50_000_000, Timeout: 2 * time.Minute, LookbackDelta: 5 * time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: parser.NewParser(parser.Options{}),
	})
	manager := rules.NewManager(&rules.ManagerOptions{
		ExternalURL: &url.URL{}, Context: ctx, Logger: quiet(), AppendableV2: db, Queryable: db,
		QueryFunc:  rules.EngineQueryFunc(engine, db),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	})
	groups, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, file)
	if len(errs) > 0 {
		return errs[0]
	}
	const times = 2
	total := 0.0
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := groups[key]
		g.Eval(ctx, at(now))
		start := cpuTime()
		for i := range times {
			g.Eval(ctx, at(now+1+i))
		}
		took := (cpuTime() - start).Seconds() / times
		total += took / g.Interval().Minutes()
		fmt.Fprintf(out, "%-62s %8.2f s every %s\n", g.Name(), took, g.Interval())
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				return fmt.Errorf("%s: %w", r.Name(), err)
			}
			active := ""
			if a, ok := r.(*rules.AlertingRule); ok {
				active = fmt.Sprintf(", %d alerts pending or firing", a.ActiveAlertsCount())
			}
			fmt.Fprintf(out, "  %-60s %8.2f s by the clock%s\n", r.Name(), r.GetEvaluationDuration().Seconds(), active)
		}
	}
	fmt.Fprintf(out, "%.2f s of a core a minute: %.1f %% of an interval of 1m (goal %.0f %%)\n", total, total/60*100, goal*100)
	if total/60 > goal {
		return fmt.Errorf("a goal is missed")
	}
	return nil
}

// cpuTime returns the CPU time that this process has used. Elapsed time would depend on other
// processes.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// history returns how far back the rules read each metric, in minutes.
func (b *book) history() map[string]int {
	history := map[string]int{}
	for _, r := range b.rules {
		parser.Inspect(r.expr, func(node parser.Node, path []parser.Node) error {
			s, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			back := s.OriginalOffset + 10*time.Minute
			for _, above := range path {
				switch n := above.(type) {
				case *parser.MatrixSelector:
					back += n.Range
				case *parser.SubqueryExpr:
					back += n.Range + n.OriginalOffset
				}
			}
			history[s.Name] = max(history[s.Name], int(back/time.Minute))
			return nil
		})
	}
	return history
}

// A hostSeries is a series in a block. Hosts that are copies of one disk share the chunks.
type hostSeries struct {
	labels labels.Labels
	chunks []chunks.Meta
}

// copySeries returns the series of so many hosts, sorted by labels, and the number of their
// samples. The hosts are copies of those in the store, which has one for each trace.
func copySeries(m *memoryStore, history func(labels.Labels) int, hosts, traces int) ([]hostSeries, int, error) {
	samples := 0
	var all []hostSeries
	for _, list := range m.byName {
		m.load(list)
		for _, s := range list {
			if s.labels.Get("instance") == "" { // the same for all hosts
				if metas, n := encode(s, max(history(s.labels), hour)); n > 0 {
					all, samples = append(all, hostSeries{s.labels, metas}), samples+n
				}
				continue
			}
			var first int
			if _, err := fmt.Sscanf(s.labels.Get("instance"), "host%d:", &first); err != nil {
				return nil, 0, fmt.Errorf("%s: %w", s.labels, err)
			}
			type encoded struct {
				chunks  []chunks.Meta
				samples int
			}
			byMinutes := map[int]encoded{}
			for number := first; number < hosts; number += traces {
				l := labels.NewBuilder(s.labels).Set("instance", hostname(number)+exporterPort).Labels()
				minutes := history(l)
				e, known := byMinutes[minutes]
				if !known {
					e.chunks, e.samples = encode(s, minutes)
					byMinutes[minutes] = e
				}
				if e.samples > 0 {
					all = append(all, hostSeries{l, e.chunks})
					samples += e.samples
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b hostSeries) int { return labels.Compare(a.labels, b.labels) })
	return all, samples, nil
}

// writeBlock writes series sorted by labels to a block of the TSDB. Appending their samples
// to the TSDB would take an hour.
func writeBlock(ctx context.Context, dir string, all []hostSeries, minutes int) error {
	w, err := chunks.NewWriter(filepath.Join(dir, "chunks"))
	if err != nil {
		return err
	}
	ix, err := index.NewWriter(ctx, filepath.Join(dir, "index"))
	if err != nil {
		return err
	}
	symbols := map[string]bool{}
	for _, s := range all {
		s.labels.Range(func(l labels.Label) { symbols[l.Name], symbols[l.Value] = true, true })
	}
	for _, s := range slices.Sorted(maps.Keys(symbols)) {
		if err := ix.AddSymbol(s); err != nil {
			return err
		}
	}
	for ref, s := range all {
		if err := w.WriteChunks(s.chunks...); err != nil {
			return err
		}
		if err := ix.AddSeries(storage.SeriesRef(ref), s.labels, s.chunks...); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := ix.Close(); err != nil {
		return err
	}
	id := ulid.MustParse(filepath.Base(dir))
	text, err := json.Marshal(tsdb.BlockMeta{
		ULID: id, Version: 1, MinTime: at(0).UnixMilli(), MaxTime: at(minutes-1).UnixMilli() + 1,
		Compaction: tsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{id}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "meta.json"), text, 0o644)
}

// encode returns chunks of the last minutes of a series, and the number of their samples.
func encode(s *series, minutes int) ([]chunks.Meta, int) {
	const perChunk = 120
	var metas []chunks.Meta
	var app chunkenc.Appender
	samples := 0
	first := max(0, len(s.values)-1-minutes*minute/int(s.every))
	for i := first; i < len(s.values); i++ {
		v := s.values[i]
		if math.IsNaN(v) {
			continue
		}
		t := at(0).UnixMilli() + int64(i)*s.every
		if samples%perChunk == 0 {
			c := chunkenc.NewXORChunk()
			app, _ = c.Appender()
			metas = append(metas, chunks.Meta{Chunk: c, MinTime: t})
		}
		app.Append(0, t, v)
		metas[len(metas)-1].MaxTime = t
		samples++
	}
	return metas, samples
}
