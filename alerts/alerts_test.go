package alerts_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v2"

	"docker_buildup_exporter/alerts"
	"docker_buildup_exporter/collector"
)

// The fields that Prometheus 2.42 knows, and no others: read strictly, so that a file
// that an older server would reject fails here, whatever promtool is at hand.
type ruleFile struct {
	Groups []struct {
		Name     string
		Interval string
		Rules    []rule
	}
}

type rule struct {
	Record        string
	Alert         string
	Expr          string
	For           string
	KeepFiringFor string `yaml:"keep_firing_for"`
	Labels        map[string]string
	Annotations   map[string]string
}

type testFile struct {
	Tests []struct {
		AlertRuleTests []struct {
			AlertName string `yaml:"alertname"`
			Expected  []struct {
				Labels map[string]string `yaml:"exp_labels"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

var update = flag.Bool("update", false, "write docker-buildup.yml anew")

// The file in the repository is what the program prints.
func TestRulesAreThoseOfTheTemplate(t *testing.T) {
	var rules bytes.Buffer
	if err := alerts.Write(&rules, alerts.Defaults(), alerts.Prometheus); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("docker-buildup.yml", rules.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if rules.String() != read(t, "docker-buildup.yml") {
		t.Error("docker-buildup.yml is not what comes of the template: make update")
	}
}

func TestPrometheusRule(t *testing.T) {
	var text bytes.Buffer
	if err := alerts.Write(&text, alerts.Defaults(), alerts.PrometheusRule); err != nil {
		t.Fatal(err)
	}
	var resource struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       ruleFile
	}
	if err := yaml.UnmarshalStrict(text.Bytes(), &resource); err != nil {
		t.Fatal(err)
	}
	var file ruleFile
	if err := yaml.UnmarshalStrict([]byte(read(t, "docker-buildup.yml")), &file); err != nil {
		t.Fatal(err)
	}
	if resource.APIVersion != "monitoring.coreos.com/v1" || resource.Kind != "PrometheusRule" || resource.Metadata.Name != "docker-buildup" || !reflect.DeepEqual(resource.Spec, file) {
		t.Errorf("%s %s %s, or other rules than in the file", resource.APIVersion, resource.Kind, resource.Metadata.Name)
	}
}

// Every threshold is somewhere in the rules, and is refused where it makes no sense.
func TestThresholds(t *testing.T) {
	write := func(thresholds alerts.Thresholds) (string, error) {
		var rules strings.Builder
		err := alerts.Write(&rules, thresholds, alerts.Prometheus)
		return rules.String(), err
	}
	plain, err := write(alerts.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	seen := alerts.Defaults()
	for i, setting := range seen.Settings() {
		thresholds := alerts.Defaults()
		value := thresholds.Settings()[i].Value
		for _, text := range []string{"", "many", "-1", "0", "1e9", "400d"} {
			if err := value.Set(text); err == nil {
				t.Errorf("%s takes %q", setting.Name, text)
			}
		}
		var other string // a little off the default, so that it fits to the others
		switch v := value.(type) {
		case *alerts.Share:
			other = fmt.Sprint(*v * 0.99)
		case *alerts.Count:
			other = fmt.Sprint(*v + 1)
		case *alerts.Span:
			other = (*v + alerts.Span(time.Minute)).String()
		}
		if err := value.Set(other); err != nil {
			t.Errorf("%s does not take %q: %v", setting.Name, other, err)
		}
		if changed, err := write(thresholds); err != nil || changed == plain {
			t.Errorf("%s=%s changes nothing (%v)", setting.Name, other, err)
		}
	}
	for _, change := range []func(*alerts.Thresholds){
		func(t *alerts.Thresholds) { t.Full = t.FullSoon * 2 },
		func(t *alerts.Thresholds) { t.FullSoon = t.AlmostFull * 2 },
		func(t *alerts.Thresholds) { t.AlmostFull = t.PageBelow * 1.1 },
		func(t *alerts.Thresholds) { t.PageBelow = t.FillingBelow * 1.1 },
		func(t *alerts.Thresholds) { t.PageWithin = t.FillingWithin * 2 },
	} {
		thresholds := alerts.Defaults()
		change(&thresholds)
		if _, err := write(thresholds); err == nil {
			t.Errorf("%+v make no sense together, and are taken", thresholds)
		}
		if _, err := alerts.Files(thresholds); err == nil {
			t.Error("there are tests of other thresholds than the defaults")
		}
	}
}

func TestRulesAskForMetricsThatExist(t *testing.T) {
	exists := make(map[string]bool)
	for _, metric := range collector.Metrics() {
		exists[metric.Name] = true
	}
	for _, rule := range all(t) {
		if rule.Record != "" {
			exists[rule.Record] = true
		}
	}
	name := regexp.MustCompile(`\b(instance(_path|_resource)?:)?docker_[a-z_:0-9]*[a-z0-9]`)
	for _, rule := range all(t) {
		names := name.FindAllString(rule.Expr, -1)
		if len(names) == 0 {
			t.Errorf("%s%s asks for no metric of this exporter: %s", rule.Record, rule.Alert, rule.Expr)
		}
		for _, text := range rule.Annotations {
			for _, query := range regexp.MustCompile(`query \(printf "[^"]*"`).FindAllString(text, -1) {
				names = append(names, name.FindAllString(query, -1)...)
			}
		}
		for _, name := range names {
			if !exists[name] {
				t.Errorf("%s%s asks for %s, which the exporter does not have", rule.Record, rule.Alert, name)
			}
		}
	}
}

// Three alerts may page, whatever becomes of the rest.
func TestPages(t *testing.T) {
	pages := make(map[string]bool)
	for _, rule := range rules(t) {
		if rule.Labels["severity"] == "critical" {
			pages[rule.Alert] = true
		}
	}
	if want := []string{"DockerDiskAlmostFull", "DockerDiskFilling", "DockerInodesAlmostOut"}; !slices.Equal(slices.Sorted(maps.Keys(pages)), want) {
		t.Errorf("%v page, want %v", pages, want)
	}
}

func TestAlertsSayWhatTheyAreAbout(t *testing.T) {
	volumeCommand := regexp.MustCompile(`docker volume (prune|rm|remove)|--volumes`)
	for _, rule := range rules(t) {
		for label, allowed := range map[string][]string{
			"severity":  {"info", "warning", "critical"},
			"component": {"docker-buildup"},
			// that of DockerCleanupMissing comes from the metric
			"resource": {"images", "containers", "volumes", "build_cache", "disk", "engine", "exporter", ""},
		} {
			if !slices.Contains(allowed, rule.Labels[label]) {
				t.Errorf("%s: label %s is %q, want one of %q", rule.Alert, label, rule.Labels[label], allowed)
			}
		}
		for _, annotation := range []string{"summary", "description"} {
			text := rule.Annotations[annotation]
			if text == "" {
				t.Errorf("%s has no %s", rule.Alert, annotation)
			}
			if command := volumeCommand.FindString(text); command != "" {
				t.Errorf("%s: the %s names %q, which destroys data", rule.Alert, annotation, command)
			}
		}
		if got, want := rule.Annotations["runbook_url"], "alerts/README.md#"+strings.ToLower(rule.Alert); got != want {
			t.Errorf("%s: runbook_url is %q, want %q", rule.Alert, got, want)
		}
	}
}

func TestRunbookHasEveryAlertAndNoOther(t *testing.T) {
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
	for heading, text := range chapters {
		if !isAlert[heading] {
			t.Errorf("README.md has a heading %q, which is no alert", heading)
		}
		for _, part := range []string{"Meaning", "Impact", "Diagnosis", "Mitigation"} {
			if !strings.Contains(text, "\n**"+part+".** ") {
				t.Errorf("README.md: %s has no %s", heading, part)
			}
		}
	}
}

func TestRunbookNamesThresholdsThatExist(t *testing.T) {
	exists := make(map[string]bool)
	thresholds := alerts.Defaults()
	for _, setting := range thresholds.Settings() {
		exists[setting.Name] = true
	}
	named := regexp.MustCompile(`--((?:disk|causes)\.[a-z-]+)=`).FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(named) == 0 {
		t.Error("README.md names no threshold")
	}
	for _, name := range named {
		if !exists[name[1]] {
			t.Errorf("README.md names %s, which is no threshold", name[1])
		}
	}
}

func TestEveryAlertIsSeenFiringAndSilent(t *testing.T) {
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
			t.Errorf("no test sees %s firing", with)
		}
		if !silent[rule.Alert] {
			t.Errorf("no test sees %s silent", rule.Alert)
		}
	}
}

// The oldest promtool that takes the rules, which is Debian's, and a current one.
func TestPromtool(t *testing.T) {
	real := os.Getenv("DOCKER_BUILDUP_REAL") != ""
	promtool, err := exec.LookPath("promtool")
	if err != nil && !real {
		t.Skip(err)
	}
	promtools := map[string]string{"oldest": promtool}
	runs := [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "docker-buildup.yml"}}
	if real {
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

// How often rules are evaluated is the user's choice: the page that counts how long its
// condition has held comes neither sooner nor later for it.
func TestInodesPageAtAnyInterval(t *testing.T) {
	if os.Getenv("DOCKER_BUILDUP_REAL") == "" {
		t.Skip("takes half a minute; DOCKER_BUILDUP_REAL is not set")
	}
	const scenario, alert = "a disk that fills within hours", "DockerInodesAlmostOut"
	rules, err := filepath.Abs("docker-buildup.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		GroupEvalOrder []string `yaml:"group_eval_order"`
		Tests          []map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, "tests/minutes.yml")), &file); err != nil {
		t.Fatal(err)
	}
	test := file.Tests[slices.IndexFunc(file.Tests, func(test map[string]any) bool { return test["name"] == scenario })]
	checks := slices.DeleteFunc(test["alert_rule_test"].([]any), func(check any) bool {
		return check.(map[any]any)["alertname"] != alert
	})
	if len(checks) != 3 {
		t.Fatalf("%s has %d checks of %s, want before, while and after", scenario, len(checks), alert)
	}
	test["alert_rule_test"] = checks
	for _, interval := range []string{"30s", "2m"} {
		t.Run(interval, func(t *testing.T) {
			t.Parallel()
			content, err := yaml.Marshal(map[string]any{
				"rule_files": []string{rules}, "evaluation_interval": interval,
				"group_eval_order": file.GroupEvalOrder, "tests": []any{test},
			})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "test.yml")
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
			promtool := os.Getenv("DOCKER_BUILDUP_PROMTOOL")
			if output, err := exec.CommandContext(t.Context(), promtool, "test", "rules", path).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// rules are the alerts.
func rules(t *testing.T) []rule {
	t.Helper()
	return slices.DeleteFunc(all(t), func(r rule) bool { return r.Alert == "" })
}

func all(t *testing.T) []rule {
	t.Helper()
	var file ruleFile
	if err := yaml.UnmarshalStrict([]byte(read(t, "docker-buildup.yml")), &file); err != nil {
		t.Fatal(err)
	}
	var rules []rule
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("docker-buildup.yml has no rules")
	}
	return rules
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
