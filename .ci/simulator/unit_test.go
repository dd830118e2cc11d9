package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"go.yaml.in/yaml/v2"
)

const alertsDir = "../../alerts"

// A unitTest is one test of a file for "promtool test rules".
type unitTest struct {
	Name        string
	Interval    model.Duration
	InputSeries []struct {
		Series, Values string
	} `yaml:"input_series"`
	AlertRuleTests []alertTest `yaml:"alert_rule_test"`
	ExprTests      []exprTest  `yaml:"promql_expr_test"`
	every          time.Duration
}

type alertTest struct {
	EvalTime model.Duration `yaml:"eval_time"`
	Alert    string         `yaml:"alertname"`
	Expected []struct {
		Labels map[string]string `yaml:"exp_labels"`
	} `yaml:"exp_alerts"`
}

type exprTest struct {
	Expr     string
	EvalTime model.Duration `yaml:"eval_time"`
	Expected []struct {
		Labels string
		Value  float64
	} `yaml:"exp_samples"`
}

// TestUnitTests runs the unit tests of the alerts as promtool does, but for annotations.
func TestUnitTests(t *testing.T) {
	all := readRules(t)
	for _, test := range readUnitTests(t) {
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t, test, all)
			for _, r := range all {
				if fails, err := s.fails(r, r); err != nil || fails != "" {
					t.Errorf("%s %s: %s %v", r.name(), r.Labels["severity"], fails, err)
				}
			}
		})
	}
}

func readRules(t *testing.T) []*rule {
	t.Helper()
	book, err := readBook(filepath.Join(alertsDir, "docker-buildup.yml"))
	if err != nil {
		t.Fatal(err)
	}
	return book.rules
}

func readUnitTests(t *testing.T) []unitTest {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(alertsDir, "tests/*.yml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no unit tests (%v)", err)
	}
	var all []unitTest
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			EvaluationInterval model.Duration `yaml:"evaluation_interval"`
			Tests              []unitTest
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, test := range file.Tests {
			test.every = time.Duration(file.EvaluationInterval)
			all = append(all, test)
		}
	}
	return all
}

// A scenario is a unit test with its series, those of recording rules included.
type scenario struct {
	unitTest
	end    time.Duration // the last evaluation
	engine *promql.Engine
	parser parser.Parser
	series samples
	own    map[*rule]samples // the series of each recording rule
}

// samples are series by metric name.
type samples map[string][]*storage.SeriesEntry

func newScenario(t *testing.T, test unitTest, all []*rule) *scenario {
	t.Helper()
	s := &scenario{unitTest: test, series: samples{}, own: map[*rule]samples{}, parser: parser.NewParser(parser.Options{})}
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger: quiet(), MaxSamples: math.MaxInt, Timeout: time.Hour, Parser: s.parser,
		NoStepSubqueryIntervalFn: func(int64) int64 { return test.every.Milliseconds() },
	})
	for _, check := range test.AlertRuleTests {
		s.end = max(s.end, time.Duration(check.EvalTime))
	}
	for _, check := range test.ExprTests {
		s.end = max(s.end, time.Duration(check.EvalTime))
	}
	for _, input := range test.InputSeries {
		metric, values, err := s.parser.ParseSeriesDesc(input.Series + " " + input.Values)
		if err != nil {
			t.Fatal(err)
		}
		var list []chunks.Sample
		for i, v := range values {
			if !v.Omitted {
				list = append(list, sample{int64(i) * time.Duration(test.Interval).Milliseconds(), v.Value})
			}
		}
		s.series.add(metric, list)
	}
	for _, r := range all {
		if r.Record != "" {
			matrix, err := s.query(s.series, r)
			if err != nil {
				t.Fatal(err)
			}
			s.own[r] = samples{}
			s.record(s.own[r], r, matrix)
			s.series[r.Record] = append(slices.Clip(s.series[r.Record]), s.own[r][r.Record]...)
		}
	}
	return s
}

// fails returns the first check of the original of a rule that fails with a changed rule.
func (s *scenario) fails(original, changed *rule) (string, error) {
	var exprs []exprTest
	for _, check := range s.ExprTests {
		if concerns(check.Expr, original) {
			exprs = append(exprs, check)
		}
	}
	hasAlertTest := slices.ContainsFunc(s.AlertRuleTests, func(check alertTest) bool { return check.Alert == original.Alert })
	if len(exprs) == 0 && !hasAlertTest {
		return "", nil
	}
	matrix, err := s.query(s.series, changed)
	if err != nil {
		return "", err
	}
	series := maps.Clone(s.series)
	if changed.Record != "" {
		delete(series, changed.Record)
		for other, own := range s.own { // a record may be of several rules
			if other != original && other.Record == original.Record {
				series[other.Record] = append(slices.Clip(series[other.Record]), own[other.Record]...)
			}
		}
		s.record(series, changed, matrix)
	} else {
		firing, err := s.alert(series, changed, matrix)
		if err != nil {
			return "", err
		}
		for _, check := range s.AlertRuleTests {
			if check.Alert != original.Alert {
				continue
			}
			want := []string{}
			for _, alert := range check.Expected {
				if alert.Labels["severity"] == original.Labels["severity"] {
					alert.Labels[labels.AlertName] = check.Alert
					want = append(want, labels.FromMap(alert.Labels).String())
				}
			}
			slices.Sort(want)
			if got := firing[int(time.Duration(check.EvalTime)/s.every)]; !slices.Equal(got, want) {
				return fmt.Sprintf("at %s got %v, want %v", check.EvalTime, got, want), nil
			}
		}
	}
	for _, check := range exprs {
		got, want, err := s.eval(series, check)
		if err != nil || !slices.Equal(got, want) {
			return fmt.Sprintf("%s at %s got %v, want %v", check.Expr, check.EvalTime, got, want), err
		}
	}
	return "", nil
}

// concerns returns whether an expression of a test reads what a rule yields.
func concerns(expr string, r *rule) bool {
	if r.Record != "" {
		return regexp.MustCompile(regexp.QuoteMeta(r.Record) + `\b`).MatchString(expr)
	}
	severity := r.Labels["severity"]
	return strings.Contains(expr, `alertname="`+r.Alert+`"`) && (!strings.Contains(expr, "severity=") || strings.Contains(expr, `severity="`+severity+`"`))
}

func (s *scenario) query(series samples, r *rule) (promql.Matrix, error) {
	q, err := s.engine.NewRangeQuery(context.Background(), series, nil, r.expr.String(), time.Unix(0, 0), time.Unix(0, 0).Add(s.end), s.every)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	result := q.Exec(context.Background())
	if result.Err != nil {
		return nil, result.Err
	}
	matrix, err := result.Matrix()
	matrix = slices.Clone(matrix)
	for i := range matrix { // Close reuses the points
		matrix[i].Floats = slices.Clone(matrix[i].Floats)
	}
	return matrix, err
}

// record adds the series of a recording rule, with a stale marker in front of each gap.
func (s *scenario) record(series samples, r *rule, matrix promql.Matrix) {
	for _, one := range matrix {
		metric := labels.NewBuilder(one.Metric).Set(labels.MetricName, r.Record)
		for name, value := range r.Labels {
			metric.Set(name, value)
		}
		series.add(metric.Labels(), s.marked(one.Floats))
	}
}

func (s *scenario) marked(points []promql.FPoint) []chunks.Sample {
	var list []chunks.Sample
	step := s.every.Milliseconds()
	for i, p := range points {
		list = append(list, sample{p.T, p.F})
		if next := p.T + step; i+1 == len(points) || points[i+1].T != next {
			list = append(list, sample{next, math.Float64frombits(value.StaleNaN)})
		}
	}
	return list
}

// alert returns which alerts of a rule fire, by evaluation, and adds the series ALERTS.
func (s *scenario) alert(series samples, r *rule, matrix promql.Matrix) (map[int][]string, error) {
	alerting := rules.NewAlertingRule(r.Alert, r.expr, time.Duration(r.For), time.Duration(r.KeepFiringFor),
		labels.FromMap(r.Labels), labels.EmptyLabels(), labels.EmptyLabels(), "", true, quiet())
	firing := map[int][]string{}
	alerts := map[string][]promql.FPoint{}
	metrics := map[string]labels.Labels{}
	next := make([]int, len(matrix))
	active := false
	for i := 0; i <= int(s.end/s.every); i++ {
		now := time.Unix(0, 0).Add(time.Duration(i) * s.every)
		var vector promql.Vector
		for n := range matrix {
			if points := matrix[n].Floats; next[n] < len(points) && points[next[n]].T == now.UnixMilli() {
				vector = append(vector, promql.Sample{Metric: matrix[n].Metric, T: now.UnixMilli(), F: points[next[n]].F})
				next[n]++
			}
		}
		if len(vector) == 0 && !active {
			continue
		}
		result, err := alerting.Eval(context.Background(), 0, now, func(context.Context, string, time.Time) (promql.Vector, error) { return vector, nil }, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, one := range result {
			if one.Metric.Get(labels.MetricName) == "ALERTS" {
				key := one.Metric.String()
				metrics[key] = one.Metric
				alerts[key] = append(alerts[key], promql.FPoint{T: now.UnixMilli(), F: one.F})
			}
		}
		active = false
		alerting.ForEachActiveAlert(func(a *rules.Alert) {
			active = true
			if a.State == rules.StateFiring {
				firing[i] = append(firing[i], a.Labels.String())
			}
		})
		slices.Sort(firing[i])
	}
	for key, points := range alerts {
		series.add(metrics[key], s.marked(points))
	}
	return firing, nil
}

// eval returns the result of the expression of a test, and the expected one.
func (s *scenario) eval(series samples, check exprTest) (got, want []string, err error) {
	q, err := s.engine.NewInstantQuery(context.Background(), series, nil, check.Expr, time.Unix(0, 0).Add(time.Duration(check.EvalTime)))
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	result := q.Exec(context.Background())
	if result.Err != nil {
		return nil, nil, result.Err
	}
	vector, err := result.Vector()
	for _, one := range vector {
		got = append(got, fmt.Sprintf("%s %v", one.Metric, one.F))
	}
	for _, one := range check.Expected {
		metric, err := s.parser.ParseMetric(one.Labels)
		if err != nil {
			return nil, nil, err
		}
		want = append(want, fmt.Sprintf("%s %v", metric, one.Value))
	}
	slices.Sort(got)
	slices.Sort(want)
	return got, want, err
}

func (s samples) add(metric labels.Labels, list []chunks.Sample) {
	name := metric.Get(labels.MetricName)
	s[name] = append(slices.Clip(s[name]), storage.NewListSeries(metric, list))
}

func (s samples) Querier(_, _ int64) (storage.Querier, error) { return s, nil }

func (s samples) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []storage.Series
	for _, m := range matchers {
		if m.Name == labels.MetricName {
			for _, one := range s[m.Value] {
				if matches(one.Labels(), matchers) {
					found = append(found, one)
				}
			}
		}
	}
	return &foundSet{found: found}
}

func (samples) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (samples) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (samples) Close() error { return nil }

type foundSet struct {
	found []storage.Series
	next  int
}

func (f *foundSet) Next() bool                        { f.next++; return f.next <= len(f.found) }
func (f *foundSet) At() storage.Series                { return f.found[f.next-1] }
func (f *foundSet) Err() error                        { return nil }
func (f *foundSet) Warnings() annotations.Annotations { return nil }

// A sample is a float at a time in milliseconds.
type sample struct {
	t int64
	f float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
