package main

import (
	"bufio"
	"context"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb"
)

const someRules = `
groups:
- name: a
  rules:
  - record: ratio
    expr: docker_filesystem_avail_bytes / docker_filesystem_size_bytes
- name: b
  interval: 1h
  rules:
  - {record: low, expr: 'min_over_time(ratio[1h])'}
- name: c
  rules:
  - alert: Filling
    expr: ratio < 0.7 and predict_linear(ratio[1h], 86400) < 0 and ratio < min_over_time(low[1d] offset 1h)
    for: 15m
    keep_firing_for: 30m
    labels: {severity: critical, resource: disk}
  - alert: Low
    expr: ratio < 0.3
    for: 5m
    labels: {severity: warning, resource: disk}
`

// TestSameAsPrometheus compares the alerts of a run with those of a Prometheus that evaluates
// the rules minute by minute.
func TestSameAsPrometheus(t *testing.T) {
	const minutes = 2 * day
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(someRules), 0o644); err != nil {
		t.Fatal(err)
	}
	var traces []*trace
	for _, k := range kinds() {
		if slices.Contains([]string{"scrape gaps", "nightly prune", "leak, scrapes lost"}, k.name) {
			traces = append(traces, k.trace(1, 14*day))
		}
	}
	book, err := readBook(file)
	if err != nil {
		t.Fatal(err)
	}
	r := run{book, scrape(traces, minutes, false), newEngine(book.parser)}
	got, err := r.evaluate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := minuteByMinute(t, file, scrape(traces, minutes, false))
	spans := 0
	for number := range traces {
		host := hostname(number)
		for _, alert := range []string{"Filling", "Low"} {
			own := make([]bool, minutes)
			for _, f := range got[host] {
				if f.rule.Alert == alert {
					spans++
					for i := f.from; i <= f.to; i++ {
						own[i] = true
					}
				}
			}
			for i := range own {
				if own[i] != want[host+alert][i] {
					t.Fatalf("%s on %s at minute %d: got %t, Prometheus has %t", alert, host, i, own[i], want[host+alert][i])
				}
			}
		}
	}
	if spans < 3 {
		t.Errorf("only %d alerts to compare", spans)
	}
}

func minuteByMinute(t *testing.T, file string, m *memoryStore) map[string][]bool {
	db, err := tsdb.Open(t.TempDir(), quiet(), nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	manager := rules.NewManager(&rules.ManagerOptions{
		ExternalURL: &url.URL{}, Context: t.Context(), Logger: quiet(), AppendableV2: db, Queryable: db,
		QueryFunc:  rules.EngineQueryFunc(newEngine(parser.NewParser(parser.Options{})), db),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	})
	groups, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, file)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	firing := map[string][]bool{}
	var all []*series
	for _, name := range []string{"docker_filesystem_avail_bytes", "docker_filesystem_size_bytes"} {
		all = append(all, m.byName[name]...)
	}
	m.load(all)
	for i := range m.minutes {
		app := db.Appender(t.Context())
		for _, s := range all {
			v := s.values[i]
			if math.IsNaN(v) {
				v = math.Float64frombits(value.StaleNaN)
			}
			if _, err := app.Append(0, s.labels, at(i).UnixMilli(), v); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b", "c"} {
			g := groups[rules.GroupKey(file, name)]
			if i%int(g.Interval()/time.Minute) != 0 {
				continue
			}
			g.Eval(t.Context(), at(i))
			for _, rule := range g.AlertingRules() {
				for _, a := range rule.ActiveAlerts() {
					host, _, _ := strings.Cut(a.Labels.Get("instance"), ":")
					if firing[host+rule.Name()] == nil {
						firing[host+rule.Name()] = make([]bool, m.minutes)
					}
					firing[host+rule.Name()][i] = a.State == rules.StateFiring
				}
			}
		}
	}
	for number := range 3 {
		for _, alert := range []string{"Filling", "Low"} {
			if key := hostname(number) + alert; firing[key] == nil {
				firing[key] = make([]bool, m.minutes)
			}
		}
	}
	return firing
}

func TestOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yml")
	for _, c := range []struct{ rules, want string }{
		{"[{record: a, expr: b}, {record: b, expr: up}]", "b a"},
		{"[{record: a, expr: 'a offset 1m'}]", ""},
		{"[{record: a, expr: b}, {record: b, expr: up}, {record: b, expr: down}]", "b b a"},
	} {
		if err := os.WriteFile(file, []byte("groups: [{name: g, rules: "+c.rules+"}]"), 0o644); err != nil {
			t.Fatal(err)
		}
		book, err := readBook(file)
		var names []string
		if err == nil {
			for _, r := range book.rules {
				names = append(names, r.name())
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %q (%v), want %q", c.rules, got, err, c.want)
		}
	}
}

// TestPage checks that a simulated host exposes the same series as the exporter.
func TestPage(t *testing.T) {
	f, err := os.Open("../../collector/docker/testdata/29-overlay2/metrics.prom")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	version := regexp.MustCompile(`(docker_engine_info).*`)
	want := []string{"docker_last_prune_timestamp_seconds", "docker_pruned_bytes_total", "docker_prunes_total", "docker_filesystem_avail_bytes", "docker_filesystem_files", "docker_filesystem_files_free", "docker_filesystem_size_bytes", "up"}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || strings.Contains(line, "build_info") {
			continue
		}
		want = append(want, version.ReplaceAllString(line[:strings.LastIndex(line, " ")], "$1"))
	}
	m := scrape([]*trace{kinds()[0].trace(0, 14*day)}, 14*day, false)
	var got []string
	for name, list := range m.byName {
		for _, s := range list {
			l := labels.NewBuilder(s.labels).Del("job", "instance", labels.MetricName).Labels()
			text := name
			if !l.IsEmpty() && name != "docker_engine_info" && !slices.Contains(want, name) {
				text += strings.ReplaceAll(l.String(), ", ", ",")
			}
			got = append(got, text)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if got := slices.Compact(got); !slices.Equal(got, slices.Compact(want)) {
		t.Errorf("a host exposes\n%s\nand the exporter\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDiskRules checks that the rules that the score needs give the same alerts without the
// others, and almost the same if they share long ranges.
func TestDiskRules(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(`
groups:
- name: a
  rules:
  - record: free
    expr: docker_filesystem_avail_bytes / docker_filesystem_size_bytes
  - record: containers
    expr: sum by (instance) (docker_containers)
  - {alert: Falls, expr: "predict_linear(free[6h], 86400) < 0 and free < 0.3", for: 10m, labels: {severity: critical}}
  - {alert: Lowest, expr: "free <= min_over_time(free[1d]) and predict_linear(free[6h], 86400) < 0", labels: {severity: warning}}
  - {alert: Many, expr: containers > 10}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	fired := func(prepare bool) (map[string][]firing, *book) {
		book, err := readBook(file)
		if err != nil {
			t.Fatal(err)
		}
		if prepare {
			book.keep(func(r *rule) bool { return r.onDisk(book.disk) })
			if err := book.shareRanges(); err != nil {
				t.Fatal(err)
			}
		}
		tr := kind{"log fills within days", true, 0, func(d *disk) { d.begin(0.4, 0.4); d.fill(logs, 2*day, 2*day) }}.trace(0, 5*day)
		r := run{book, scrape([]*trace{tr}, 5*day, false), newEngine(book.parser)}
		got, err := r.evaluate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got, book
	}
	all, _ := fired(false)
	got, book := fired(true)
	var names []string
	for _, r := range book.rules {
		names = append(names, r.name())
	}
	if want := "free simulator:range_0 Falls simulator:range_1 Lowest"; strings.Join(names, " ") != want {
		t.Errorf("rules %v, want %s", names, want)
	}
	first := func(of map[string][]firing, name string) int {
		for _, f := range of[hostname(0)] {
			if f.rule.name() == name {
				return f.from
			}
		}
		return -1
	}
	if want, is := first(all, "Falls"), first(got, "Falls"); want < 0 || is < want || is > want+3 {
		t.Errorf("Falls fires at minute %d, want %d to %d", is, want, want+3)
	}
}
