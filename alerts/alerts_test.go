package alerts_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v2"

	"docker_buildup_exporter/alerts"
	"docker_buildup_exporter/collector"
	"docker_buildup_exporter/collector/docker/dockertest"
)

// A ruleFile has the fields that Prometheus 2.42 knows. It is read strictly, so a file
// that an older server would reject fails here, whatever promtool is installed.
type ruleFile struct {
	Groups []ruleGroup
}

type ruleGroup struct {
	Name     string
	Interval string `yaml:",omitempty"`
	Rules    []rule
}

type rule struct {
	Record        string `yaml:",omitempty"`
	Alert         string `yaml:",omitempty"`
	Expr          string
	For           string            `yaml:",omitempty"`
	KeepFiringFor string            `yaml:"keep_firing_for,omitempty"`
	Labels        map[string]string `yaml:",omitempty"`
	Annotations   map[string]string `yaml:",omitempty"`
}

// A testFile is a file of unit tests for promtool.
type testFile struct {
	RuleFiles          []string `yaml:"rule_files"`
	EvaluationInterval string   `yaml:"evaluation_interval"`
	GroupEvalOrder     []string `yaml:"group_eval_order"`
	Tests              []unitTest
}

type unitTest struct {
	Name        string
	Interval    string
	InputSeries []struct {
		Series, Values string
	} `yaml:"input_series"`
	AlertRuleTests []alertRuleTest `yaml:"alert_rule_test,omitempty"`
	ExprTests      []exprTest      `yaml:"promql_expr_test,omitempty"`
}

type alertRuleTest struct {
	EvalTime  string          `yaml:"eval_time"`
	AlertName string          `yaml:"alertname"`
	Expected  []expectedAlert `yaml:"exp_alerts"`
}

type expectedAlert struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations,omitempty"`
}

type exprTest struct {
	Expr     string
	EvalTime string `yaml:"eval_time"`
	Expected []struct {
		Labels string
		Value  float64
	} `yaml:"exp_samples"`
}

var update = flag.Bool("update", false, "write docker-buildup.yml")

// docker-buildup.yml is the output of the template with the default thresholds.
func TestRulesAreThoseOfTheTemplate(t *testing.T) {
	var rules bytes.Buffer
	if err := alerts.Write(&rules, alerts.Defaults(), alerts.Options{}, alerts.Prometheus); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("docker-buildup.yml", rules.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if rules.String() != read(t, "docker-buildup.yml") {
		t.Error("docker-buildup.yml differs from the output of the template: run make update")
	}
}

// Every threshold changes the rules, and invalid values are rejected.
func TestThresholds(t *testing.T) {
	write := func(thresholds alerts.Thresholds) (string, error) {
		var rules strings.Builder
		err := alerts.Write(&rules, thresholds, alerts.Options{}, alerts.Prometheus)
		return rules.String(), err
	}
	plain, err := write(alerts.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	defaults := alerts.Defaults()
	for i, threshold := range defaults.All() {
		thresholds := alerts.Defaults()
		value := thresholds.All()[i].Value
		for _, text := range []string{"", "many", "-1", "0", "1e9", "400d"} {
			if err := value.Set(text); err == nil {
				t.Errorf("%s accepts %q", threshold.Name, text)
			}
		}
		var other string // near the default, so that it does not contradict other thresholds
		switch v := value.(type) {
		case *alerts.Ratio:
			other = fmt.Sprint(*v * 0.99)
		case *alerts.Count:
			other = fmt.Sprint(*v + 1)
		case *alerts.Duration:
			other = (*v + alerts.Duration(time.Minute)).String()
		}
		if err := value.Set(other); err != nil {
			t.Errorf("%s rejects %q: %v", threshold.Name, other, err)
		}
		if changed, err := write(thresholds); err != nil || changed == plain {
			t.Errorf("%s=%s does not change the rules (%v)", threshold.Name, other, err)
		}
	}
	for _, change := range []func(*alerts.Thresholds){
		func(t *alerts.Thresholds) { t.Exhausted = t.Full * 2 },
		func(t *alerts.Thresholds) { t.Full = t.AlmostFull * 2 },
		func(t *alerts.Thresholds) { t.AlmostFull = t.PageBelow * 1.1 },
		func(t *alerts.Thresholds) { t.PageBelow = t.FillingBelow * 1.1 },
		func(t *alerts.Thresholds) { t.PageWithin = t.FillingWithin * 2 },
	} {
		thresholds := alerts.Defaults()
		change(&thresholds)
		if _, err := write(thresholds); err == nil {
			t.Errorf("contradictory thresholds %+v are accepted", thresholds)
		}
		if _, err := alerts.Files(thresholds, alerts.Options{}); err == nil {
			t.Error("Files returns tests for thresholds other than the defaults")
		}
	}
}

func TestRulesQueryExistingMetrics(t *testing.T) {
	exists := map[string]bool{"docker_buildup_threshold": true} // which users may record
	for _, metric := range collector.Metrics() {
		exists[metric.Name] = true
	}
	for _, rule := range all(t) {
		if rule.Record != "" {
			exists[rule.Record] = true
		}
	}
	nameMatcher := regexp.MustCompile(`__name__=~'([^']+)'`)
	name := regexp.MustCompile(`\b(instance(_path|_resource|_root_dir|_mountpoint)?:)?docker_[a-z_:0-9]*[a-z0-9]`)
	for _, rule := range all(t) {
		names := name.FindAllString(rule.Expr, -1)
		if len(names) == 0 && rule.Expr != "vector(0)" {
			t.Errorf("%s%s queries no metric of this exporter: %s", rule.Record, rule.Alert, rule.Expr)
		}
		for _, text := range rule.Annotations {
			for _, query := range regexp.MustCompile(`query \(printf "[^"]*"`).FindAllString(text, -1) {
				query = nameMatcher.ReplaceAllStringFunc(query, func(matcher string) string {
					return strings.Join(matching(nameMatcher.FindStringSubmatch(matcher)[1], exists), " ")
				})
				names = append(names, name.FindAllString(query, -1)...)
			}
		}
		for _, name := range names {
			if !exists[name] {
				t.Errorf("%s%s queries %s, which the exporter does not expose", rule.Record, rule.Alert, name)
			}
		}
	}
}

// matching returns the names that a regular expression matches, or itself if there are not two.
func matching(expression string, names map[string]bool) []string {
	var found []string
	for name := range names {
		if regexp.MustCompile("^(?:" + expression + ")$").MatchString(name) {
			found = append(found, name)
		}
	}
	if len(found) < 2 {
		return []string{"docker_" + expression}
	}
	return found
}

// No other alert becomes critical by accident.
func TestCriticalAlerts(t *testing.T) {
	critical := make(map[string]bool)
	for _, rule := range rules(t) {
		if rule.Labels["severity"] == "critical" {
			critical[rule.Alert] = true
		}
	}
	if want := []string{"DockerDiskAlmostFull", "DockerDiskFilling", "DockerInodesAlmostOut", "DockerInodesFilling"}; !slices.Equal(slices.Sorted(maps.Keys(critical)), want) {
		t.Errorf("critical alerts are %v, want %v", critical, want)
	}
}

func TestLabelsAndAnnotations(t *testing.T) {
	volumeCommand := regexp.MustCompile(`docker volume (prune|rm|remove)|--volumes`)
	for _, rule := range rules(t) {
		for label, allowed := range map[string][]string{
			"severity":  {"info", "warning", "critical"},
			"component": {"docker-buildup"},
			// DockerCleanupMissing takes it from the metric
			"resource": {"images", "containers", "volumes", "build_cache", "leftovers", "disk", "engine", "exporter", ""},
		} {
			if !slices.Contains(allowed, rule.Labels[label]) {
				t.Errorf("%s: label %s is %q, want one of %q", rule.Alert, label, rule.Labels[label], allowed)
			}
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", rule.Alert)
		}
		for annotation, text := range rule.Annotations {
			if queries := strings.Count(text, "query "); len(text) > 400 || queries > 1 {
				t.Errorf("%s: the %s has %d bytes and %d queries, want at most 400 and 1", rule.Alert, annotation, len(text), queries)
			}
			if command := volumeCommand.FindString(text); command != "" {
				t.Errorf("%s: the %s names %q, which destroys data", rule.Alert, annotation, command)
			}
		}
	}
}

func TestRunbookCoversEveryAlert(t *testing.T) {
	_, runbook, _ := strings.Cut("\n"+read(t, "README.md"), "\n## ")
	chapters := make(map[string]string)
	for _, chapter := range strings.Split(runbook, "\n## ") {
		heading, text, _ := strings.Cut(chapter, "\n")
		chapters[heading] = text
	}
	isAlert := make(map[string]bool)
	for _, rule := range rules(t) {
		isAlert[rule.Alert] = true
		if _, ok := chapters[rule.Alert]; !ok {
			t.Errorf("README.md has no heading %q", rule.Alert)
		}
	}
	delete(chapters, "Other thresholds")
	delete(chapters, "Thresholds of one host")
	delete(chapters, "Links and labels")
	delete(chapters, "Other rulers")
	for heading, text := range chapters {
		if !isAlert[heading] {
			t.Errorf("README.md has a heading %q without an alert", heading)
		}
		for _, part := range []string{"Meaning", "Impact", "Diagnosis", "Mitigation"} {
			if !strings.Contains(text, "\n**"+part+".** ") {
				t.Errorf("README.md: %s has no %s", heading, part)
			}
		}
	}
}

func TestRunbookNamesExistingThresholds(t *testing.T) {
	exists := make(map[string]bool)
	thresholds := alerts.Defaults()
	for _, threshold := range thresholds.All() {
		exists[threshold.Name] = true
	}
	named := regexp.MustCompile(`--((?:disk|causes)\.[a-z-]+)=`).FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(named) == 0 {
		t.Error("README.md names no threshold")
	}
	for _, name := range named {
		if !exists[name[1]] {
			t.Errorf("README.md names the threshold %s, which does not exist", name[1])
		}
	}
}

func TestEveryAlertIsTestedFiringAndSilent(t *testing.T) {
	firing, silent := make(map[string]bool), make(map[string]bool)
	for _, path := range testFiles(t) {
		var file testFile
		if err := yaml.Unmarshal([]byte(read(t, path)), &file); err != nil {
			t.Fatal(err)
		}
		for _, test := range file.Tests {
			for _, check := range test.AlertRuleTests {
				if len(check.Expected) == 0 {
					silent[check.AlertName] = true
				}
				for _, alert := range check.Expected {
					firing[check.AlertName+" "+alert.Labels["severity"]] = true
				}
			}
		}
	}
	for _, rule := range rules(t) {
		if with := rule.Alert + " " + rule.Labels["severity"]; !firing[with] {
			t.Errorf("no unit test expects %s to fire", with)
		}
		if !silent[rule.Alert] {
			t.Errorf("no unit test expects %s not to fire", rule.Alert)
		}
	}
}

// The rules must work with the oldest supported promtool, which is Debian 12's, and a current one.
func TestPromtool(t *testing.T) {
	promtools := map[string]string{"oldest": dockertest.Need(t, "promtool")}
	runs := [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "docker-buildup.yml"}}
	if os.Getenv(dockertest.RealVariable) != "" {
		promtools["current"] = os.Getenv("DOCKER_BUILDUP_PROMTOOL")
		for _, path := range testFiles(t) { // half a minute
			runs = append(runs, []string{"test", "rules", path})
		}
	}
	for version, promtool := range promtools {
		for _, args := range runs {
			t.Run(version+" "+filepath.Base(args[len(args)-1]), func(t *testing.T) {
				t.Parallel()
				if output, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, output)
				}
			})
		}
	}
}

// rules returns the alerting rules.
func rules(t *testing.T) []rule { return alerting(all(t)) }

// all returns all rules.
func all(t *testing.T) []rule {
	t.Helper()
	rules := parseRules(t, read(t, "docker-buildup.yml")).all()
	if len(rules) == 0 {
		t.Fatal("docker-buildup.yml has no rules")
	}
	return rules
}

func (f ruleFile) all() (rules []rule) {
	for _, group := range f.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules
}

func alerting(all []rule) []rule {
	return slices.DeleteFunc(all, func(r rule) bool { return r.Alert == "" })
}

// parseRules decodes a rule file strictly.
func parseRules(t *testing.T, text string) (file ruleFile) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func testFiles(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("tests/*.yml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in tests (%v)", err)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
