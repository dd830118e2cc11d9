// Package alerts has the alert rules for what the exporter tells, with thresholds to
// choose. Their text is docker-buildup.yml.tmpl; docker-buildup.yml is what comes of it
// with the defaults.
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
)

//go:embed docker-buildup.yml.tmpl tests/*.yml
var files embed.FS

// A Format is what the rules are written for.
type Format string

const (
	Prometheus     Format = "prometheus"     // a file for rule_files
	PrometheusRule Format = "prometheusrule" // a resource for the Prometheus operator
)

// Write writes the rules with thresholds that have been checked.
func Write(w io.Writer, t Thresholds, format Format) error {
	if err := t.check(); err != nil {
		return err
	}
	text, err := files.ReadFile("docker-buildup.yml.tmpl")
	if err != nil {
		return err
	}
	functions := template.FuncMap{
		"list":     func(values ...string) []string { return values },
		"commands": func() []string { return safestFirst },
		"fill":     func(level string, t Thresholds) any { return filling{t, level} },
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
		err = fmt.Errorf("%q is no format", format)
	}
	return err
}

// safestFirst are the cleanup commands that an alert may name, from the one that
// destroys least on. None removes volumes, which can hold what has no second copy.
var safestFirst = []string{
	"docker container prune", "docker image prune", "docker builder prune",
	"docker image prune --all", "docker builder prune --all", "docker system prune --all",
}

// A filling is what runs out: Level is the recorded series that tells how much is left.
type filling struct {
	Thresholds
	Level string
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

// Files returns the rules as a file for rule_files and their unit tests for promtool,
// by path. The tests are true of the default thresholds alone.
func Files(t Thresholds) (map[string][]byte, error) {
	if t != Defaults() {
		return nil, errors.New("the unit tests are those of the default thresholds: leave the thresholds out, or let promtool check rules look at what is printed")
	}
	var rules bytes.Buffer
	if err := Write(&rules, t, Prometheus); err != nil {
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
