package main

import (
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// equivalent lists changes that no test can detect, or only at great expense.
var equivalent = map[string]string{}

// TestMutants changes one number, duration, operator or function of one rule at a time. It
// fails if the unit tests pass all the same.
func TestMutants(t *testing.T) {
	all := readRules(t)
	var scenarios []*scenario
	for _, test := range readUnitTests(t) {
		scenarios = append(scenarios, newScenario(t, test, all))
	}
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
				if _, ok := equivalent[m.change]; !ok && !isKilled(scenarios, m.original, &m.changed) {
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
