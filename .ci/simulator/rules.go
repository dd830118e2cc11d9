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

// A rule is a rule of a file with its parsed expression.
type rule struct {
	rulefmt.Rule
	expr  parser.Expr
	every int64 // evaluation interval of its group in milliseconds
	steps int64 // number of intervals after which the simulator evaluates it
}

const (
	// An expression is expensive if it reads a range of more samples than this.
	maxSamples = 1000
	maxSteps   = 15
)

func (r *rule) name() string {
	if r.Alert != "" {
		return r.Alert
	}
	return r.Record
}

// step returns how often the simulator evaluates the expression, in milliseconds.
func (r *rule) step() int64 { return r.every * r.steps }

// templates returns the labels that differ between the alerts of a rule. The others are known
// without Prometheus, which would expand each of them as a template at every evaluation.
func (r *rule) templates() labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	for name, value := range r.Labels {
		if strings.Contains(value, "{{") {
			b.Set(name, value)
		}
	}
	return b.Labels()
}

// onDisk returns whether an alert is about free bytes or inodes of a disk. Without a label
// "resource", it is if it reads a metric of a file system or a record in measuresDisk.
func (r *rule) onDisk(measuresDisk map[string]bool) bool {
	if resource, ok := r.Labels["resource"]; ok {
		return resource == "disk" || resource == "inodes"
	}
	return len(reads(r.expr, func(name string) bool { return measuresDisk[name] || strings.Contains(name, "filesystem") })) > 0
}

// reads returns the names of the metrics in an expression that pass a test.
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

// A book is a rule file. A recording rule precedes the rules that read its record.
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
			r.Annotations = nil // unused here, and their queries are expensive
			all = append(all, &rule{Rule: r, expr: expr, every: every, steps: 1})
			if r.Record != "" {
				recorded[r.Record] = every
			}
		}
	}
	for _, r := range all {
		if isExpensive(r.expr, recorded) {
			r.steps = maxSteps
		}
	}
	if err := b.sort(all, recorded); err != nil {
		return nil, err
	}
	return b, nil
}

// sort stores each rule after those whose records it reads.
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

// isExpensive returns whether an expression reads a long range. Recorded has the intervals of
// the records; other metrics have a sample every minute.
func isExpensive(expr parser.Expr, recorded map[string]int64) bool {
	expensive := false
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if m, ok := node.(*parser.MatrixSelector); ok {
			every := int64(minute)
			if own, ok := recorded[m.VectorSelector.(*parser.VectorSelector).Name]; ok {
				every = own
			}
			expensive = expensive || m.Range.Milliseconds()/every > maxSamples
		}
		return nil
	})
	return expensive
}

// shareRanges makes rules faster. It replaces each function of a long range by a record, which
// is evaluated once for all rules, and only at every hundredth of the range, or every 15 minutes.
func (b *book) shareRanges() error {
	records := map[string]string{} // names by expression
	var all []*rule
	for _, r := range b.rules {
		text := r.expr.String()
		parser.Inspect(r.expr, func(node parser.Node, _ []parser.Node) error {
			call, ok := node.(*parser.Call)
			if !ok {
				return nil
			}
			for _, arg := range call.Args {
				m, ok := arg.(*parser.MatrixSelector)
				steps := int64(1)
				if ok {
					steps = min(m.Range.Milliseconds()/minute/100, maxSteps)
				}
				if steps < 2 || r.every >= steps*minute {
					continue
				}
				long := call.String()
				if records[long] == "" {
					records[long] = fmt.Sprintf("simulator:range_%d", len(records))
					one := &rule{Rule: rulefmt.Rule{Record: records[long], Expr: long}, expr: call, every: minute, steps: steps}
					b.disk[one.Record] = one.onDisk(b.disk)
					all = append(all, one)
				}
				text = strings.ReplaceAll(text, long, records[long])
			}
			return nil
		})
		if changed := text != r.expr.String(); changed {
			expr, err := b.parser.ParseExpr(text)
			if err != nil {
				return err
			}
			r.expr, r.steps = expr, 1
		}
		all = append(all, r)
	}
	b.rules = all
	return nil
}

// A firing is a time in which an alert fired, in minutes.
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

// A run evaluates the rules of a book. Each expression is evaluated by one range query, which
// costs a tenth of an instant query per minute. Prometheus' own alerting rules then process
// the result minute by minute. TestSameAsPrometheus checks that both give the same alerts.
type run struct {
	book   *book
	store  *memoryStore
	engine *promql.Engine
}

// evaluate returns when alerts fired, by host.
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

// at returns the time of minute i.
func at(i int) time.Time { return time.Unix(int64(firstMinute+60*i), 0).UTC() }

func (r *run) query(ctx context.Context, rule *rule) (promql.Matrix, error) {
	q, err := r.engine.NewRangeQuery(ctx, r.store, nil, rule.expr.String(), at(0), at(r.store.minutes-1), time.Duration(rule.step())*time.Millisecond)
	if err != nil {
		return nil, err
	}
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Matrix()
}

// record adds the result of a recording rule to the store.
func (r *run) record(rule *rule, matrix promql.Matrix) error {
	steps := int(int64(r.store.minutes-1)*minute/rule.every) + 1
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
		r.store.add(s)
	}
	return nil
}

// alert adds to fired when a rule's alerts fired, by host.
func (r *run) alert(ctx context.Context, rule *rule, matrix promql.Matrix, fired map[string][]firing) error {
	alerting := rules.NewAlertingRule(rule.Alert, rule.expr, time.Duration(rule.For), time.Duration(rule.KeepFiringFor),
		rule.templates(), labels.EmptyLabels(), labels.EmptyLabels(), "", false, quiet())
	next := make([]int, len(matrix))
	held := rule.step() - rule.every
	var vector promql.Vector
	active := false
	open := map[string]*firing{}
	for i := 0; i < r.store.minutes; i += int(rule.every / minute) {
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
		query := func(context.Context, string, time.Time) (promql.Vector, error) { return vector, nil }
		if _, err := alerting.Eval(ctx, 0, at(i), query, nil, 0); err != nil {
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
