package alerts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"

	"docker_buildup_exporter/collector"
)

// The fields that Prometheus 2.42 knows, and no others: read strictly, so that a file
// that an older server would reject fails here, whatever promtool is at hand.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
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

func TestRulesAskForMetricsThatExist(t *testing.T) {
	exists := make(map[string]bool)
	for _, metric := range collector.Metrics() {
		exists[metric.Name] = true
	}
	name := regexp.MustCompile(`\bdocker_[a-z_]+`)
	for _, rule := range rules(t) {
		names := name.FindAllString(rule.Expr, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for no metric of this exporter: %s", rule.Alert, rule.Expr)
		}
		for _, name := range names {
			if !exists[name] {
				t.Errorf("%s asks for %s, which the exporter does not have", rule.Alert, name)
			}
		}
	}
}

func TestAlertsSayWhatTheyAreAbout(t *testing.T) {
	volumeCommand := regexp.MustCompile(`docker volume (prune|rm|remove)|--volumes`)
	for _, rule := range rules(t) {
		for label, allowed := range map[string][]string{
			"severity":  {"warning", "critical"},
			"component": {"docker-buildup"},
			"resource":  {"images", "containers", "disk", "engine"},
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

func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("DOCKER_BUILDUP_REAL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	runs := [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "docker-buildup.yml"}}
	for _, path := range testFiles(t) {
		runs = append(runs, []string{"test", "rules", path})
	}
	for _, args := range runs {
		t.Run(filepath.Base(args[len(args)-1]), func(t *testing.T) {
			t.Parallel()
			if output, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, output)
			}
		})
	}
}

func rules(t *testing.T) []rule {
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
