package alerts_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"

	"docker_buildup_exporter/alerts"
)

// Each alert links to its section of the runbook.
func TestLinks(t *testing.T) {
	const own, fixed = "http://{{ $labels.instance }}/runbook", "https://docs.example/docker?lang=en"
	for name, test := range map[string]struct {
		options                         alerts.Options
		runbook, ofDown, ofAbsent, host string
	}{
		"default": {alerts.Options{}, own, `{{ with query "instance:docker_up:topk1" }}http://{{ . | first | label "instance" }}/runbook#dockerexporterdown{{ end }}`, "", ""},
		"TLS": {alerts.Options{RunbookURL: "https://{{$labels.instance}}/runbook"}, "https://{{$labels.instance}}/runbook",
			`{{ with query "instance:docker_up:topk1" }}https://{{. | first | label "instance"}}/runbook#dockerexporterdown{{ end }}`, "", ""},
		"a copy": {alerts.Options{RunbookURL: fixed, DashboardURL: "https://g.example/d/h"}, fixed, fixed + "#dockerexporterdown", fixed + "#dockerexporterabsent", "https://g.example/d/h?var-job={{ $labels.job }}&var-instance={{ $labels.instance }}"},
		"query":  {alerts.Options{RunbookURL: fixed, DashboardURL: "https://g.example/d/h?orgId=2"}, fixed, fixed + "#dockerexporterdown", fixed + "#dockerexporterabsent", "https://g.example/d/h?orgId=2&var-job={{ $labels.job }}&var-instance={{ $labels.instance }}"},
	} {
		for _, rule := range write(t, test.options) {
			runbook, dashboard := test.runbook+"#"+strings.ToLower(rule.Alert), test.host
			switch rule.Alert {
			case "DockerExporterDown":
				runbook = test.ofDown
			case "DockerExporterAbsent":
				runbook, dashboard = test.ofAbsent, ""
			}
			if got := rule.Annotations["runbook_url"]; got != runbook {
				t.Errorf("%s, %s: runbook_url is %q, want %q", name, rule.Alert, got, runbook)
			}
			if got := rule.Annotations["dashboard_url"]; got != dashboard {
				t.Errorf("%s, %s: dashboard_url is %q, want %q", name, rule.Alert, got, dashboard)
			}
		}
	}
}

func TestParseURL(t *testing.T) {
	for text, isValid := range map[string]bool{
		"http://host/runbook": true, "https://{{ $labels.instance }}/a?b=c": true, "https://{{$labels.instance}}": true,
		"": false, "host/runbook": false, "/runbook": false, "ftp://host": false, "http://": false, "http://host/#a": false, "http://host/#": false,
		"http://host/it's": false, "http://host/ a": false, "http://host/\n": false, "http://host/{{ $value }}": false, "http://{{ query": false, "http://host/\xff": false,
	} {
		if got, err := alerts.ParseURL(text); (err == nil) != isValid || isValid && got != text {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
}

func TestLabels(t *testing.T) {
	labels := make(alerts.Labels)
	for _, test := range []struct {
		text    string
		isValid bool
	}{
		{"team=a b: \"c\" 'd' #ü=", true}, {"_x1=yes", true}, {"team=b", false}, {"", false}, {"=a", false}, {"a", false}, {"a=", false}, {"1a=b", false}, {"a-b=c", false},
		{"__a=b", false}, {"severity=critical", false}, {"instance=a", false}, {"resource=a", false}, {"path=a", false}, {"b={{ $value }}", false}, {"c=a\nb", false}, {"d=\xff", false},
	} {
		if err := labels.Set(test.text); (err == nil) != test.isValid {
			t.Errorf("%q: %v", test.text, err)
		}
	}
	for _, rule := range write(t, alerts.Options{Labels: labels}) {
		if rule.Labels["team"] != "a b: \"c\" 'd' #ü=" || rule.Labels["_x1"] != "yes" || rule.Labels["severity"] == "" {
			t.Errorf("%s has the labels %q", rule.Alert, rule.Labels)
		}
	}
	if _, err := alerts.Files(alerts.Defaults(), alerts.Options{Labels: labels}); err == nil {
		t.Error("Files returns tests for rules with other labels")
	}
}

// write returns the alerting rules with options. Both formats must have the same rules, which
// promtool accepts.
func write(t *testing.T, options alerts.Options) []rule {
	t.Helper()
	var text, resource bytes.Buffer
	for format, out := range map[alerts.Format]*bytes.Buffer{alerts.Prometheus: &text, alerts.PrometheusRule: &resource} {
		if err := alerts.Write(out, alerts.Defaults(), options, format); err != nil {
			t.Fatal(err)
		}
	}
	file := parseRules(t, text.String())
	var operator struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       ruleFile
	}
	err := yaml.UnmarshalStrict(resource.Bytes(), &operator)
	if kind := operator.APIVersion + " " + operator.Kind + " " + operator.Metadata.Name; err != nil ||
		kind != "monitoring.coreos.com/v1 PrometheusRule docker-buildup" || !reflect.DeepEqual(operator.Spec, file) {
		t.Errorf("got a resource %s (%v), or the formats differ", kind, err)
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		path := filepath.Join(t.TempDir(), "rules.yml")
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		if output, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=all", "--lint-fatal", path).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
	}
	return alerting(file.all())
}
