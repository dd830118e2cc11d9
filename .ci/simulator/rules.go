package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
)

// A rule of a file, and what the simulator has to know of it.
type rule struct {
	rulefmt.Rule
	expr  parser.Expr
	every int64 // how often its group is evaluated
	dear  bool  // held for dearSteps, because it looks at many samples
}

const (
	// A window of more samples than this makes an expression dear.
	dearSamples = 1000
	dearSteps   = 15
)

func (r *rule) name() string {
	if r.Alert != "" {
		return r.Alert
	}
	return r.Record
}

// step is how often the expression is really evaluated.
func (r *rule) step() int64 {
	if r.dear {
		return r.every * dearSteps
	}
	return r.every
}

// templates are those labels that differ between the alerts of a rule. The others are
// known without Prometheus, to which each of them would be a template as well, and dear.
func (r *rule) templates() labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	for name, value := range r.Labels {
		if strings.Contains(value, "{{") {
			b.Set(name, value)
		}
	}
	return b.Labels()
}

// onDisk tells whether an alert is about bytes or inodes left on a disk.
func (r *rule) onDisk(measuresDisk map[string]bool) bool {
	if resource, ok := r.Labels["resource"]; ok {
		return resource == "disk" || resource == "inodes"
	}
	return len(reads(r.expr, func(name string) bool { return measuresDisk[name] || strings.Contains(name, "filesystem") })) > 0
}

// reads are the names of metrics in an expression that pass a test.
func reads(expr parser.Expr, pass func(string) bool) []string {
	var names []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			for _, m := range s.LabelMatchers {
				if m.Name == labels.MetricName && m.Type == labels.MatchEqual && pass(m.Value) {
					names = append(names, m.Value)
				}
			}
		}
		return nil
	})
	return names
}

// A book is a rule file in the order in which its rules need each other.
type book struct {
	rules  []*rule
	disk   map[string]bool // records that measure a disk
	parser parser.Parser
}

func readBook(file string) (*book, error) {
	b := &book{disk: map[string]bool{}, parser: parser.NewParser(parser.Options{})}
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, b.parser, quiet())
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	var all []*rule
	recorded := map[string]int64{}
	for _, g := range groups.Groups {
		every := int64(minute)
		if g.Interval > 0 {
			every = time.Duration(g.Interval).Milliseconds()
		}
		if every%minute != 0 {
			every = minute
		}
		for _, r := range g.Rules {
			expr, err := b.parser.ParseExpr(r.Expr)
			if err != nil {
				return nil, err
			}
			r.Annotations = nil // nobody reads them here, and their queries are dear
			all = append(all, &rule{Rule: r, expr: expr, every: every})
			if r.Record != "" {
				recorded[r.Record] = every
			}
		}
	}
	for _, r := range all {
		r.dear = isDear(r.expr, recorded)
	}
	if err := b.sort(all, recorded); err != nil {
		return nil, err
	}
	return b, nil
}

// sort puts each rule behind those whose records it reads.
func (b *book) sort(all []*rule, recorded map[string]int64) error {
	waiting := map[string]int{}
	for _, r := range all {
		if r.Record != "" {
			waiting[r.Record]++
		}
	}
	for len(all) > 0 {
		var later []*rule
		for _, r := range all {
			if len(reads(r.expr, func(name string) bool { return waiting[name] > 0 })) > 0 {
				later = append(later, r)
				continue
			}
			b.rules = append(b.rules, r)
			if r.Record != "" {
				waiting[r.Record]--
				b.disk[r.Record] = r.onDisk(b.disk)
			}
		}
		if len(later) == len(all) {
			return fmt.Errorf("%s reads itself, directly or through other rules", all[0].name())
		}
		all = later
	}
	return nil
}

func isDear(expr parser.Expr, recorded map[string]int64) bool {
	dear := false
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if m, ok := node.(*parser.MatrixSelector); ok {
			every := int64(minute)
			if own, ok := recorded[m.VectorSelector.(*parser.VectorSelector).Name]; ok {
				every = own
			}
			dear = dear || m.Range.Milliseconds()/every > dearSamples
		}
		return nil
	})
	return dear
}

// A span in which an alert fired, in minutes.
type firing struct {
	rule     *rule
	from, to int
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newEngine(p parser.Parser) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger:               quiet(),
		MaxSamples:           math.MaxInt,
		Timeout:              time.Hour,
		LookbackDelta:        5 * time.Minute,
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		Parser:               p,
	})
}

// A run evaluates a book over a memory: expression by expression for all of the time,
// which costs a tenth of going minute by minute, and then minute by minute with
// Prometheus' own alerting rules what came out.
type run struct {
	book   *book
	memory *memory
	engine *promql.Engine
}

func (r *run) evaluate(ctx context.Context) (map[string][]firing, error) {
	fired := map[string][]firing{}
	for _, rule := range r.book.rules {
		matrix, err := r.query(ctx, rule)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rule.name(), err)
		}
		if rule.Record != "" {
			err = r.record(rule, matrix)
		} else {
			err = r.alert(ctx, rule, matrix, fired)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rule.name(), err)
		}
	}
	return fired, nil
}

func at(i int) time.Time { return time.Unix(int64(firstMinute+60*i), 0).UTC() }

func (r *run) query(ctx context.Context, rule *rule) (promql.Matrix, error) {
	q, err := r.engine.NewRangeQuery(ctx, r.memory, nil, rule.expr.String(), at(0), at(r.memory.minutes-1), time.Duration(rule.step())*time.Millisecond)
	if err != nil {
		return nil, err
	}
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Matrix()
}

// record keeps what an expression said as a series.
func (r *run) record(rule *rule, matrix promql.Matrix) error {
	steps := int(int64(r.memory.minutes-1)*minute/rule.every) + 1
	seen := map[uint64]bool{}
	for _, one := range matrix {
		b := labels.NewBuilder(one.Metric).Set(labels.MetricName, rule.Record)
		for name, value := range rule.Labels {
			b.Set(name, value)
		}
		s := &series{labels: b.Labels(), every: rule.every, values: make([]float64, steps)}
		if seen[s.labels.Hash()] {
			return rules.ErrDuplicateRecordingLabelSet
		}
		seen[s.labels.Hash()] = true
		for i := range s.values {
			s.values[i] = math.NaN()
		}
		for _, p := range one.Floats {
			first := int((p.T - firstMinute*1000) / rule.every)
			for i := first; i < min(first+int(rule.step()/rule.every), steps); i++ {
				s.values[i] = p.F
			}
		}
		r.memory.add(s)
	}
	return nil
}

// alert lets Prometheus' own alerting rule see one step after the other.
func (r *run) alert(ctx context.Context, rule *rule, matrix promql.Matrix, fired map[string][]firing) error {
	alerting := rules.NewAlertingRule(rule.Alert, rule.expr, time.Duration(rule.For), time.Duration(rule.KeepFiringFor),
		rule.templates(), labels.EmptyLabels(), labels.EmptyLabels(), "", false, quiet())
	next := make([]int, len(matrix))
	held := rule.step() - rule.every
	var vector promql.Vector
	active := false
	open := map[string]*firing{}
	for i := 0; i < r.memory.minutes; i += int(rule.every / minute) {
		now := at(i).UnixMilli()
		vector = vector[:0]
		for n := range matrix {
			points := matrix[n].Floats
			for next[n] < len(points) && points[next[n]].T+held < now {
				next[n]++
			}
			if next[n] < len(points) && points[next[n]].T <= now {
				vector = append(vector, promql.Sample{Metric: matrix[n].Metric, T: now, F: points[next[n]].F})
			}
		}
		if len(vector) == 0 && !active {
			continue
		}
		said := func(context.Context, string, time.Time) (promql.Vector, error) { return vector, nil }
		if _, err := alerting.Eval(ctx, 0, at(i), said, nil, 0); err != nil {
			return err
		}
		active = false
		alerting.ForEachActiveAlert(func(a *rules.Alert) {
			active = true
			if a.State != rules.StateFiring {
				return
			}
			host, _, _ := strings.Cut(a.Labels.Get("instance"), ":")
			f := open[host]
			if f == nil || f.to < i-int(rule.every/minute) {
				if f != nil {
					fired[host] = append(fired[host], *f)
				}
				f = &firing{rule: rule, from: i}
				open[host] = f
			}
			f.to = i
		})
	}
	for host, f := range open {
		fired[host] = append(fired[host], *f)
	}
	return nil
}
