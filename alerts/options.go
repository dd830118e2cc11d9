package alerts

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Options are what users can add to the rules. The zero value adds nothing.
type Options struct {
	RunbookURL   string // address of the runbook; if empty, that of the exporter of the alert
	DashboardURL string // address of the dashboard of one host; if empty, there is no link
	Labels       Labels // of each alert
}

func (o Options) isZero() bool { return o.RunbookURL+o.DashboardURL == "" && len(o.Labels) == 0 }

// links returns the annotations of an alert that link to its section of the runbook and to
// the dashboard of its host. The exporter of DockerExporterDown does not serve its runbook, so
// the link is to any other; DockerExporterAbsent has no host, and a link only to an address
// that depends on none.
func (o Options) links(alert string) map[string]string {
	links := make(map[string]string)
	runbook := o.RunbookURL
	if runbook == "" {
		runbook = "http://{{ $labels.instance }}/runbook"
	}
	runbook += "#" + strings.ToLower(alert)
	isOfHost := placeholder.MatchString(runbook)
	if isOfHost && alert == "DockerExporterDown" {
		runbook = `{{ with query "instance:docker_up:topk1" }}` + strings.ReplaceAll(runbook, "$labels.instance", `. | first | label "instance"`) + "{{ end }}"
	}
	if !isOfHost || alert != "DockerExporterAbsent" {
		links["runbook_url"] = runbook
	}
	if o.DashboardURL != "" && alert != "DockerExporterAbsent" {
		separator := "?"
		if strings.Contains(o.DashboardURL, "?") {
			separator = "&"
		}
		links["dashboard_url"] = o.DashboardURL + separator + "var-job={{ $labels.job }}&var-instance={{ $labels.instance }}"
	}
	return links
}

var placeholder = regexp.MustCompile(`{{ *\$labels\.instance *}}`)

// ParseURL returns an absolute http or https address. It may contain {{ $labels.instance }}.
func ParseURL(text string) (string, error) {
	plain := placeholder.ReplaceAllString(text, "host")
	parsed, err := url.Parse(plain)
	switch {
	case err != nil:
		return "", errors.Unwrap(err)
	case parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "":
		return "", errors.New("not an absolute http or https address")
	case parsed.Fragment != "" || strings.ContainsAny(plain, "{}#'\"\\ ") || !utf8.ValidString(text):
		return "", errors.New("must have no fragment, quote or space, and no template but {{ $labels.instance }}")
	}
	return text, nil
}

// Labels are the values of a repeatable flag, NAME=VALUE.
type Labels map[string]string

// Set adds a label. It returns an error for a name that the alerts have already, because a
// changed label would break routes, or merge the alerts of different hosts.
func (l Labels) Set(text string) error {
	name, value, _ := strings.Cut(text, "=")
	_, exists := l[name]
	own := []string{"alertname", "severity", "component", "resource", "job", "instance", "path", "collector", "command"}
	switch {
	case !regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`).MatchString(name) || strings.HasPrefix(name, "__"):
		return fmt.Errorf("%q is not NAME=VALUE with the name of a label", text)
	case slices.Contains(own, name):
		return fmt.Errorf("%s is a label of the alerts already", name)
	case exists:
		return fmt.Errorf("%s is given twice", name)
	case value == "" || !utf8.ValidString(value) || strings.ContainsAny(value, "{}\n\r"):
		return fmt.Errorf("%q is not a label value: it must be one line, without braces", value)
	}
	l[name] = value
	return nil
}

func (l Labels) String() string { return "" }

// IsCumulative makes kingpin accept the flag more than once.
func (l Labels) IsCumulative() bool { return true }
