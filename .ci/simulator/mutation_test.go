package main

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// equivalent lists changes that make no difference in a unit test, or none at all.
var equivalent = []struct{ rule, change, reason string }{
	{"", `^"<=" for "<" in .*(deriv|predict_linear|0\.9 \*|ratio_min1h|offset 7d)`, "floating-point results are not equal"},
	{"", `^(">" for ">="|"max_over_time" for "min_over_time") in .*ratio.*>=`, "a ratio of 0 is not worth a test: the comparison requires history"},
	{"", `^"max" for "sum" in .*(running|stopped_for|collector)`, "there is one series, or only whether the sum is 0 counts"},
	{"bytes:", `^"min" for "max" in .*by \(job, instance`, "there is one series"},
	{"docker_engine_info:max", `^"min(_over_time)?" for "max`, "the value is always 1"},
	{"files_free:ratio", `^"1" for "0"`, "no file system has one inode"},
	{"threshold:", `^"/" for "\*"`, "0 divided by a ratio is 0 as well"},
	{"", `^"<=" for "<" in .*<<> (1\.2 \*|0\.01 \+)`, "floating-point results are not equal"},
	{"", `^"max_over_time" for "min_over_time" in .*ratio\[1h\]\) < `, "promtool evaluates the hourly record every minute, so the minimum of two weeks includes the last sample"},
	{"DockerExporterDown", `docker_up\[1h\]|max1h`, "promtool evaluates the hourly record every minute, which then has the same value"},
	{"DockerCleanupUseless", `0\.0\d+5" for|<2\.5>|<>=>|^"<=" for "<" in (  <<> on|time)|: 40m|: 1h20m|: 1d8h`, "increase() extrapolates, differently in Prometheus 2 and 3; the test evaluates every hour"},
	{"DockerDiskUsageGrowing", `^(">" for ">="|"max" for "sum"|"1" for "0") .*offset 13d`, "the comparison requires history"},
	{"", `^"<=" for "<" in avg_over_time`, "no share of the samples is equal to the limit"},
	{"DockerCollectionStale", `^">=" for ">"`, "an age is not equal to the limit"},
}

func isEquivalent(r *rule, change string) bool {
	for _, e := range equivalent {
		if strings.Contains(r.name(), e.rule) && regexp.MustCompile(e.change).MatchString(change) {
			return true
		}
	}
	return false
}

// TestMutants changes one number, operator, aggregation, or time of one rule at a time, and
// fails if the unit tests still pass. Windows and offsets are not changed: "make simulate"
// holds them.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	all := readRules(t)
	var scenarios []*scenario
	for _, test := range readUnitTests(t) {
		scenarios = append(scenarios, newScenario(t, test, all))
	}
	slices.SortFunc(scenarios, func(a, b *scenario) int { return cmp.Compare(a.end/a.every, b.end/b.every) }) // fast ones first
	type mutant struct {
		original *rule
		change   string
		changed  rule
	}
	mutants := make(chan mutant)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for m := range mutants {
				if !isEquivalent(m.original, m.change) && !isKilled(scenarios, m.original, &m.changed) {
					t.Errorf("%s %s: no test fails with %s", m.original.name(), m.original.Labels["severity"], m.change)
				}
			}
		})
	}
	count := 0
	for _, r := range all {
		for change, changed := range changes(t, r) {
			count++
			mutants <- mutant{r, change, changed}
		}
	}
	close(mutants)
	workers.Wait()
	t.Logf("%d mutants", count)
}

// isKilled returns whether a test fails. A rule that cannot be evaluated fails.
func isKilled(scenarios []*scenario, original, changed *rule) bool {
	for _, s := range scenarios {
		if fails, err := s.fails(original, changed); fails != "" || err != nil {
			return true
		}
	}
	return false
}

var (
	token = regexp.MustCompile(`#.*|"[^"]*"|\[[^]]*\]|offset \S+|\b[0-9.]+\b|[a-zA-Z_][\w:]*|[<>=!~]+|[-+*/]`)

	replacements = map[string][]string{
		">": {">=", "<"}, "<": {"<=", ">"}, ">=": {">", "<"}, "==": {"!="}, "+": {"-"}, "-": {"+"}, "*": {"/"}, "/": {"*"},
		"and": {"or", "unless"}, "or": {"and"}, "unless": {"and"},
		"min_over_time": {"max_over_time"}, "max_over_time": {"min_over_time"}, "min": {"max"}, "max": {"min"}, "sum": {"max"},
	}
)

// changes returns the mutants of a rule by what was changed.
func changes(t *testing.T, r *rule) map[string]rule {
	all := make(map[string]rule)
	for _, at := range token.FindAllStringIndex(r.Expr, -1) {
		text := r.Expr[at[0]:at[1]]
		for _, other := range append(replacements[text], near(text)...) {
			changed := *r
			changed.Expr = r.Expr[:at[0]] + other + r.Expr[at[1]:]
			begin := strings.LastIndex(r.Expr[:at[0]], "\n") + 1
			end := begin + strings.IndexByte(r.Expr[begin:]+"\n", '\n')
			change := fmt.Sprintf("%q for %q in %s", other, text, r.Expr[begin:at[0]]+"<"+text+">"+r.Expr[at[1]:end])
			var err error
			if changed.expr, err = parser.NewParser(parser.Options{}).ParseExpr(changed.Expr); err != nil {
				t.Errorf("%s: %v", change, err)
			}
			all[change] = changed
		}
	}
	for _, factor := range []float64{2. / 3, 4. / 3} {
		if r.For > 0 {
			changed := *r
			changed.For = model.Duration(float64(r.For) * factor)
			all["for: "+changed.For.String()] = changed
		}
		if r.KeepFiringFor > 0 {
			changed := *r
			changed.KeepFiringFor = model.Duration(float64(r.KeepFiringFor) * factor)
			all["keep_firing_for: "+changed.KeepFiringFor.String()] = changed
		}
	}
	return all
}

// near returns a smaller and a greater number.
func near(text string) []string {
	if count, err := strconv.Atoi(text); err == nil && count < 100 {
		if count == 0 {
			return []string{"1"}
		}
		return []string{strconv.Itoa(count - 1), strconv.Itoa(count + 1)}
	}
	if number, err := strconv.ParseFloat(text, 64); err == nil {
		return []string{fmt.Sprint(number * 0.95), fmt.Sprint(number * 1.05)}
	}
	return nil
}
