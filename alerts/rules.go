// Package alerts contains the alert rules on the exporter's metrics. Their source is the
// template docker-buildup.yml.tmpl; docker-buildup.yml is its output with the default
// thresholds.
package alerts

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/template"

	"docker_buildup_exporter/collector/prune"
)

//go:embed docker-buildup.yml.tmpl tests/*.yml
var files embed.FS

// A Format is an output format of the rules.
type Format string

const (
	Prometheus     Format = "prometheus"     // a file for rule_files
	PrometheusRule Format = "prometheusrule" // a resource for the Prometheus operator
)

// Write writes the rules. It returns an error if the thresholds contradict each other.
func Write(w io.Writer, t Thresholds, o Options, format Format) error {
	if err := t.validate(); err != nil {
		return err
	}
	text, err := files.ReadFile("docker-buildup.yml.tmpl")
	if err != nil {
		return err
	}
	functions := template.FuncMap{
		"list":     func(values ...any) []any { return values },
		"commands": prune.SafestFirst,
		"levels":   Thresholds.levels,
		"forecast": func(series string, t Thresholds) any { return forecast{t, series} },
		"added":    func() Labels { return o.Labels },
		"links":    o.links,
	}
	parsed, err := template.New("rules").Delims("[[", "]]").Funcs(functions).Parse(string(text))
	if err != nil {
		return err
	}
	var rules strings.Builder
	if err := parsed.Execute(&rules, t); err != nil {
		return err
	}
	switch format {
	case Prometheus:
		_, err = io.WriteString(w, rules.String())
	case PrometheusRule:
		_, err = fmt.Fprintf(w, "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: docker-buildup\nspec:\n%s", indent(rules.String()))
	default:
		err = fmt.Errorf("%q is not a format", format)
	}
	return err
}

// A forecast holds the parameters of a forecast: Series is the prefix of the recorded
// series with the free ratio of bytes or inodes.
type forecast struct {
	Thresholds
	Series string
}

func indent(text string) string {
	var indented strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			indented.WriteString("  ")
		}
		indented.WriteString(line)
	}
	return indented.String()
}

// Files returns, by path, the rules as a file for rule_files and their unit tests for
// promtool. The tests hold for the default thresholds and options only.
func Files(t Thresholds, o Options) (map[string][]byte, error) {
	if t != Defaults() || !o.isZero() {
		return nil, errors.New("the unit tests hold for the default rules only: leave thresholds, links and labels out, or check the printed rules with promtool check rules")
	}
	var rules bytes.Buffer
	if err := Write(&rules, t, o, Prometheus); err != nil {
		return nil, err
	}
	all := map[string][]byte{"docker-buildup.yml": rules.Bytes()}
	tests, err := fs.Glob(files, "tests/*.yml")
	if err != nil {
		return nil, err
	}
	for _, path := range tests {
		if all[path], err = files.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return all, nil
}
