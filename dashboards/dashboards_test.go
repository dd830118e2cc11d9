package dashboards_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"docker_buildup_exporter/alerts"
	"docker_buildup_exporter/collector"
	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/dashboards"
)

type dashboard struct {
	ID            *int
	UID           string
	Title         string
	Tags          []string
	SchemaVersion int
	Editable      bool
	Refresh       string
	Time          struct{ From string }
	Links         []link
	Templating    struct{ List []variable }
	Annotations   struct{ List []target }
	Panels        []panel
}

type variable struct {
	Name, Label, Description, Type string
	Datasource                     source
	Query                          json.RawMessage // text, or an object that holds it
	Regex                          string
	Hide                           int
	Multi, IncludeAll              bool
	AllValue                       string
	Refresh                        int
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  rectangle
	FieldConfig              struct {
		Defaults  field
		Overrides []struct {
			Matcher    struct{ ID, Options string }
			Properties []struct {
				ID    string
				Value json.RawMessage
			}
		}
	}
	Options         struct{ GraphMode string }
	Targets         []target
	Transformations []struct {
		ID      string
		Options struct {
			ExcludeByName map[string]bool
			RenameByName  map[string]string
		}
	}
}

type field struct {
	Unit, NoValue string
	Custom        struct{ Filterable bool }
}

type target struct {
	Name, RefID    string
	Enable         bool
	Datasource     source
	Expr           string
	Instant, Range bool
	Format         string
}

type link struct {
	Type, URL string
	Tags      []string
}

type source struct{ Type, UID string }

type rectangle struct{ H, W, X, Y int }

func (r rectangle) overlaps(other rectangle) bool {
	return r.X < other.X+other.W && other.X < r.X+r.W && r.Y < other.Y+other.H && other.Y < r.Y+r.H
}

var (
	selector = regexp.MustCompile(`\b((?:instance[a-z_]*:)?docker_[a-z_]+(?::[a-z0-9_]+)?|ALERTS)(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(=~|=)\s*"([^"]*)"`)
)

// Renaming a metric leaves an empty panel, and adding one leaves it without a panel. Both
// fail here. Panels can also use the series that the rules record.
func TestDashboardsShowTheMetricsThatExistAndNoOthers(t *testing.T) {
	exists := make(map[string][]string)
	for _, metric := range collector.Metrics() {
		exists[metric.Name] = metric.Labels
	}
	for _, record := range regexp.MustCompile(`- record: (\S+)`).FindAllStringSubmatch(rules(t), -1) {
		exists[record[1]] = []string{"path"}
	}
	shown := make(map[string]bool)
	for _, d := range all(t) {
		for where, expr := range d.expressions() {
			for _, s := range selector.FindAllStringSubmatch(expr, -1) {
				labels, known := exists[s[1]]
				if s[1] == "ALERTS" {
					labels, known = []string{"alertname", "alertstate", "severity"}, true
				}
				if !known {
					t.Errorf("%s: %s queries %s, which the exporter does not expose", d.UID, where, s[1])
				}
				shown[s[1]] = shown[s[1]] || !strings.HasPrefix(where, "variable")
				for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
					if !slices.Contains(append(labels, "job", "instance"), m[1]) {
						t.Errorf("%s: %s: %s has no label %s", d.UID, where, s[1], m[1])
					}
				}
			}
		}
	}
	for name := range exists {
		if !shown[name] && !strings.Contains(name, ":") {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func TestSettings(t *testing.T) {
	uids := make(map[string]bool)
	for name, d := range all(t) {
		if uids[d.UID] {
			t.Errorf("%s has the uid of another", name)
		}
		uids[d.UID] = true
		// A provisioned dashboard must not have an ID, and its URL must not change.
		if d.ID != nil || d.UID+".json" != name || len(d.UID) > 40 || d.Title == "" || !slices.Contains(d.Tags, "docker-buildup") {
			t.Errorf("%s: id %v, uid %q, title %q, tags %q", name, d.ID, d.UID, d.Title, d.Tags)
		}
		if d.SchemaVersion < 39 || d.SchemaVersion > 41 || d.Editable || d.Refresh != "5m" || d.Time.From != "now-7d" {
			t.Errorf("%s: schema %d, editable %t, refresh %q, from %q", name, d.SchemaVersion, d.Editable, d.Refresh, d.Time.From)
		}
	}
	for name, content := range files(t) {
		for _, forbidden := range []string{"__inputs", "__requires", "${DS_"} {
			if bytes.Contains(content, []byte(forbidden)) {
				t.Errorf("%s has %s: provisioning does not fill in inputs", name, forbidden)
			}
		}
	}
}

func TestVariables(t *testing.T) {
	want := map[string]string{"datasource": "Data source", "job": "Job", "instance": "Instance"}
	listing := regexp.MustCompile(`^query_result\((topk|bottomk)\(\d+, [a-z]+ by \(instance\) \(.*\)\)\)$`)
	for _, d := range all(t) {
		labels := make(map[string]string)
		for _, v := range d.Templating.List {
			if v.Hide == 0 {
				labels[v.Name] = v.Label
			}
			if v.Description == "" {
				t.Errorf("%s: variable %s has no description", d.UID, v.Name)
			}
			if v.Type == "datasource" {
				if string(v.Query) != `"prometheus"` {
					t.Errorf("%s: the data source is of type %s", d.UID, v.Query)
				}
				continue
			}
			var query struct{ Query string }
			if err := json.Unmarshal(v.Query, &query); err != nil {
				t.Fatal(err)
			}
			if v.Hide != 0 { // a bounded list of hosts, all of which are selected
				if !listing.MatchString(query.Query) || v.Regex != `/instance="([^"]+)"/` || v.AllValue != "" || !v.Multi || !v.IncludeAll || v.Refresh != 2 {
					t.Errorf("%s: variable %+v queries %s", d.UID, v, query.Query)
				}
				continue
			}
			if own := regexp.MustCompile(`^label_values\(docker_up.*, ` + v.Name + `\)$`); !own.MatchString(query.Query) {
				t.Errorf("%s: variable %s queries %s", d.UID, v.Name, query.Query)
			}
			// refresh 2: hosts that appeared or disappeared since the page was opened.
			several := d.UID == "docker-buildup-fleet"
			if v.Type != "query" || v.Datasource.UID != "$datasource" || v.Refresh != 2 ||
				v.Multi != several || v.IncludeAll != several || (v.AllValue == ".+") != several {
				t.Errorf("%s: variable %+v", d.UID, v)
			}
		}
		if !maps.Equal(labels, want) {
			t.Errorf("%s: variables %q, want %q", d.UID, labels, want)
		}
	}
}

// A fleet can have ten thousand hosts. A graph shows a bounded number of them, which are chosen
// once, and nothing else reads their history on each load of the page.
func TestFleetIsBounded(t *testing.T) {
	d := all(t)["docker-buildup-fleet.json"]
	chosen := make(map[string]string) // queries by variable
	for _, v := range d.Templating.List {
		if v.Hide != 0 {
			chosen[v.Name] = string(v.Query)
		}
	}
	bounded := regexp.MustCompile(`^(topk|bottomk)\(20, `)
	for _, a := range d.Annotations.List {
		if a.Enable || !bounded.MatchString(a.Expr) {
			t.Errorf("annotation %s: enabled %t, %s", a.Name, a.Enable, a.Expr)
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			where := fmt.Sprintf("%q %s", p.Title, target.RefID)
			if !target.Range {
				for _, s := range selector.FindAllStringSubmatch(target.Expr, -1) {
					if strings.Contains(target.Expr, s[0]+"[") && s[1] != "instance:docker_up:max1h" {
						t.Errorf("%s reads the history of %s", where, s[1])
					}
				}
				if p.Type == "table" && !regexp.MustCompile(`^topk\(|instance=~"\$listed"`).MatchString(target.Expr) {
					t.Errorf("%s lists all hosts", where)
				}
				continue
			}
			if how := bounded.FindStringSubmatch(target.Expr); how == nil {
				t.Errorf("%s has no topk or bottomk: %s", where, target.Expr)
			} else {
				for _, s := range selector.FindAllStringSubmatch(target.Expr, -1) {
					hosts := regexp.MustCompile(`instance=~"\$(\w+)", |instance=~"\$(\w+)"\}`).FindAllStringSubmatch(s[2], -1)
					if len(hosts) != 2 {
						t.Errorf("%s: the hosts of %s are not chosen once", where, s[0])
					} else if query := chosen[hosts[1][1]+hosts[1][2]]; !strings.Contains(query, "("+how[0]) || !strings.Contains(query, s[1]) {
						t.Errorf("%s: the hosts of %s are chosen by %s", where, s[0], query)
					}
				}
			}
		}
	}
}

// Grafana escapes the value of a variable for a regular expression only if the variable
// can have several values. Otherwise host.example would also match host-example.
func TestQueriesFollowTheVariables(t *testing.T) {
	for _, d := range all(t) {
		operator := "="
		if d.UID == "docker-buildup-fleet" {
			operator = "=~"
		}
		for where, expr := range d.expressions() {
			selectors := selector.FindAllStringSubmatch(expr, -1)
			if len(selectors) == 0 {
				t.Errorf("%s: %s queries no metric of this exporter: %s", d.UID, where, expr)
			}
			for _, s := range selectors {
				for _, name := range []string{"job", "instance"} {
					if strings.HasPrefix(where, "variable job") || where == "variable instance" && name == "instance" {
						continue
					}
					want := fmt.Sprintf("%s%s\"$%s\"", name, operator, name)
					if s[1] == "ALERTS" && operator == "=~" {
						want = fmt.Sprintf("%s=~\"$%s|\"", name, name)
					}
					if !strings.Contains(s[2], want) {
						t.Errorf("%s: %s: %s has no %s", d.UID, where, s[0], want)
					}
				}
			}
		}
	}
}

func TestLayout(t *testing.T) {
	for _, d := range all(t) {
		ids, titles := make(map[int]string), make(map[string]bool)
		for i, p := range d.Panels {
			if other, taken := ids[p.ID]; taken || p.ID == 0 {
				t.Errorf("%s: %q has id %d, as has %q", d.UID, p.Title, p.ID, other)
			}
			ids[p.ID] = p.Title
			for _, other := range d.Panels[:i] {
				if p.GridPos.overlaps(other.GridPos) {
					t.Errorf("%s: %q overlaps %q", d.UID, p.Title, other.Title)
				}
			}
			if g := p.GridPos; g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
				t.Errorf("%s: %q is outside of the 24 columns: %+v", d.UID, p.Title, g)
			}
			if p.Title == "" {
				t.Errorf("%s: panel %d has no title", d.UID, p.ID)
			}
			if p.Type != "row" && titles[p.Title] {
				t.Errorf("%s: two panels have the title %q", d.UID, p.Title)
			}
			titles[p.Title] = titles[p.Title] || p.Type != "row"
		}
	}
}

func TestPanels(t *testing.T) {
	for _, d := range all(t) {
		for _, p := range d.Panels {
			if p.Type == "row" {
				continue
			}
			if !slices.Contains([]string{"stat", "timeseries", "state-timeline", "table"}, p.Type) {
				t.Errorf("%s: %q has type %q", d.UID, p.Title, p.Type)
			}
			if p.Description == "" {
				t.Errorf("%s: %q has no description", d.UID, p.Title)
			}
			checkUnit(t, d.UID+": "+p.Title, p.FieldConfig.Defaults.Unit)
			if p.FieldConfig.Defaults.NoValue == "" {
				t.Errorf("%s: %q has no text for an empty result", d.UID, p.Title)
			}
			if p.Datasource != (source{"prometheus", "$datasource"}) {
				t.Errorf("%s: %q has data source %q", d.UID, p.Title, p.Datasource)
			}
			checkTargets(t, d.UID, p)
		}
	}
}

func checkTargets(t *testing.T, uid string, p panel) {
	t.Helper()
	if len(p.Targets) == 0 {
		t.Errorf("%s: %q has no query", uid, p.Title)
	}
	refs := make(map[string]bool)
	for _, target := range p.Targets {
		if refs[target.RefID] || target.RefID == "" {
			t.Errorf("%s: %q has refId %q twice", uid, p.Title, target.RefID)
		}
		refs[target.RefID] = true
		if target.Datasource != (source{"prometheus", "$datasource"}) {
			t.Errorf("%s: %q queries data source %q", uid, p.Title, target.Datasource)
		}
		overTime := p.Type == "timeseries" || p.Type == "state-timeline" || p.Options.GraphMode == "area"
		// Otherwise the panel would show the last value of a series that has ended.
		if p.Type == "stat" && overTime && 2*strings.Count(target.Expr, "} @ end()") != len(selector.FindAllString(target.Expr, -1)) {
			t.Errorf("%s: %q shows values that are not current: %s", uid, p.Title, target.Expr)
		}
		if target.Range != overTime || target.Instant == overTime || (target.Format == "table") != (p.Type == "table") {
			t.Errorf("%s: %q is a %s of instant %t, range %t, format %s", uid, p.Title, p.Type, target.Instant, target.Range, target.Format)
		}
	}
}

// A table names each of its columns in three places: the query, the transformation that
// renames it, and the override of its format.
func TestTables(t *testing.T) {
	for _, d := range all(t) {
		for _, p := range d.Panels {
			if p.Type != "table" {
				continue
			}
			if !p.FieldConfig.Defaults.Custom.Filterable {
				t.Errorf("%s: %q has no filters", d.UID, p.Title)
			}
			last := p.Transformations[len(p.Transformations)-1]
			if last.ID != "organize" {
				t.Errorf("%s: %q ends with %q", d.UID, p.Title, last.ID)
			}
			if merged := p.Transformations[0].ID == "merge"; merged != (len(p.Targets) > 1) {
				t.Errorf("%s: %q is merged: %t", d.UID, p.Title, merged)
			}
			var titles []string
			for source, title := range last.Options.RenameByName {
				titles = append(titles, title)
				if strings.HasPrefix(source, "Value") {
					continue
				}
				// Rows are merged by the labels that all queries have. One query may have more.
				with := 0
				for _, target := range p.Targets {
					if by := regexp.MustCompile(`^(?:topk\(\d+, )?[a-z]+ by \([^)]*\b` + source + `\b`); by.MatchString(target.Expr) {
						with++
					}
				}
				if with != len(p.Targets) && with != 1 {
					t.Errorf("%s: %q: %d queries have a label %s", d.UID, p.Title, with, source)
				}
			}
			for _, target := range p.Targets {
				value := "Value"
				if len(p.Targets) > 1 {
					value += " #" + target.RefID
				}
				if (last.Options.RenameByName[value] == "") != last.Options.ExcludeByName[value] {
					t.Errorf("%s: %q does not place %s", d.UID, p.Title, value)
				}
			}
			for _, o := range p.FieldConfig.Overrides {
				if o.Matcher.ID != "byName" || !slices.Contains(titles, o.Matcher.Options) {
					t.Errorf("%s: %q has no column %q", d.UID, p.Title, o.Matcher.Options)
				}
				for _, property := range o.Properties {
					if property.ID == "unit" {
						var unit string
						if err := json.Unmarshal(property.Value, &unit); err != nil {
							t.Fatal(err)
						}
						checkUnit(t, d.UID+": "+p.Title, unit)
					}
				}
			}
		}
	}
}

// Each dashboard can be reached by a link, and each link leads to a dashboard.
func TestLinks(t *testing.T) {
	dashboards := all(t)
	linked := make(map[string]bool)
	for _, d := range dashboards {
		for _, l := range d.Links {
			linked[checkLink(t, dashboards, d.UID, l, nil)] = true
		}
		for _, p := range d.Panels {
			for _, o := range p.FieldConfig.Overrides {
				for _, property := range o.Properties {
					if property.ID != "links" {
						continue
					}
					var links []link
					if err := json.Unmarshal(property.Value, &links); err != nil {
						t.Fatal(err)
					}
					columns := slices.Collect(maps.Values(p.Transformations[len(p.Transformations)-1].Options.RenameByName))
					for _, l := range links {
						linked[checkLink(t, dashboards, d.UID+": "+p.Title, l, columns)] = true
					}
				}
			}
		}
	}
	for _, page := range []string{"docker-buildup-fleet", "docker-buildup-host", "/", "/runbook"} {
		if !linked[page] {
			t.Errorf("no link leads to %s", page)
		}
	}
}

// checkLink returns the UID of the dashboard that a link leads to. A link can use the
// columns of its row. A link by tags leads to no single dashboard.
func checkLink(t *testing.T, dashboards map[string]dashboard, where string, l link, columns []string) string {
	t.Helper()
	if l.Type == "dashboards" {
		for _, tag := range l.Tags {
			for _, d := range dashboards {
				if !slices.Contains(d.Tags, tag) {
					t.Errorf("%s: %s has no tag %s", where, d.UID, tag)
				}
			}
		}
		return ""
	}
	if regexp.MustCompile(`^http://(\$instance|\$\{__data\.fields\["Host"\]\})/(runbook)?$`).MatchString(l.URL) {
		return l.URL[strings.LastIndex(l.URL, "/"):] // a page of the exporter
	}
	parts := regexp.MustCompile(`^/d/([a-z-]+)/([a-z-]+)\?(.*)$`).FindStringSubmatch(l.URL)
	if parts == nil {
		t.Fatalf("%s leads to %q", where, l.URL)
	}
	to, exists := dashboards[parts[1]+".json"]
	if !exists || parts[2] != to.UID || !strings.Contains(parts[3], "${datasource:queryparam}") {
		t.Errorf("%s leads to %q", where, l.URL)
	}
	for _, v := range regexp.MustCompile(`var-([a-z]+)=`).FindAllStringSubmatch(parts[3], -1) {
		if !slices.ContainsFunc(to.Templating.List, func(known variable) bool { return known.Name == v[1] }) {
			t.Errorf("%s: %s has no variable %s", where, to.UID, v[1])
		}
	}
	for _, f := range regexp.MustCompile(`\$\{__data\.fields\["([^"]+)"\]:percentencode\}`).FindAllStringSubmatch(l.URL, -1) {
		if !slices.Contains(columns, f[1]) {
			t.Errorf("%s: there is no column %s", where, f[1])
		}
	}
	return to.UID
}

func TestQueriesHandleUnknownValuesCommandsAndCounters(t *testing.T) {
	window := regexp.MustCompile(`(\w+)\([^()\[\]]*\[([^\]]+)\]`)
	for _, d := range all(t) {
		for where, expr := range d.expressions() {
			if strings.Contains(expr, "vector(") {
				t.Errorf("%s: %s shows a number for an unknown value: %s", d.UID, where, expr)
			}
			if regexp.MustCompile(`\b(sum|avg)\b`).MatchString(expr) {
				for _, s := range selector.FindAllStringSubmatch(expr, -1) {
					if s[1] == "docker_reclaimable_bytes" && !regexp.MustCompile(`command="[^"]+"`).MatchString(s[2]) {
						t.Errorf("%s: %s sums commands: %s", d.UID, where, expr)
					}
					if strings.HasPrefix(s[1], "docker_repository_") {
						t.Errorf("%s: %s sums repositories: %s", d.UID, where, expr)
					}
				}
			}
			// Forecasts use the windows of the rules, counters those of the page, and what was
			// scraped once that of DockerExporterDown.
			for _, w := range window.FindAllStringSubmatch(expr, -1) {
				want, ofRules := map[string]string{"deriv": "6h", "predict_linear": "6h", "last_over_time": "7d"}[w[1]]
				if ofRules && w[2] != want || !ofRules && !strings.HasPrefix(w[2], "$__") {
					t.Errorf("%s: %s: %s over %s", d.UID, where, w[1], w[2])
				}
			}
			for _, s := range selector.FindAllStringSubmatch(expr, -1) {
				if strings.HasSuffix(s[1], "_total") && !strings.Contains(expr, "increase("+s[0]+"[$__") {
					t.Errorf("%s: %s shows a counter without increase(): %s", d.UID, where, expr)
				}
			}
		}
	}
}

// Panels use the constants of the rules that are not thresholds.
func TestExpressionsAreThoseOfTheRules(t *testing.T) {
	rules := rules(t)
	var shown strings.Builder
	for _, d := range all(t) {
		for _, expr := range d.expressions() {
			shown.WriteString(regexp.MustCompile(`job=~?"[^"]*", instance=~?"[^"]*"(, )?`).ReplaceAllString(expr, "") + "\n")
		}
	}
	withoutBraces := strings.ReplaceAll(shown.String(), "{}", "")
	for _, expr := range []string{
		`900 + 200 * docker_scrape_collector_duration_seconds`,
		`time() - docker_scrape_collector_last_success_timestamp_seconds{collector!="layers"}`,
		`[6h]`, // the window of forecasts
		`259200`,
		`_over_time(instance:docker_up:max1h[7d])`,
	} {
		if !strings.Contains(rules, expr) || !strings.Contains(withoutBraces, expr) {
			t.Errorf("%s: in the rules %t, in a panel %t", expr, strings.Contains(rules, expr), strings.Contains(withoutBraces, expr))
		}
	}
}

// Texts name only alerts that exist.
func TestTextsNameAlertsThatExist(t *testing.T) {
	rules := rules(t)
	for name, content := range files(t) {
		for _, alert := range regexp.MustCompile(`\bDocker[A-Z]\w+`).FindAllString(string(content), -1) {
			if !strings.Contains(rules, "- alert: "+alert+"\n") {
				t.Errorf("%s names the alert %s, which does not exist", name, alert)
			}
		}
	}
}

// Prometheus parses each expression after Grafana has replaced the variables.
func TestExpressionsParse(t *testing.T) {
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for _, d := range all(t) {
		for where, expr := range d.expressions() {
			if strings.HasPrefix(where, "variable") {
				continue
			}
			filled := fill(expr)
			if strings.Contains(filled, "$") {
				t.Errorf("%s: %s: unknown variable in %s", d.UID, where, filled)
			}
			rules = append(rules, rule{Record: fmt.Sprintf("rule:%d", len(rules)), Expr: filled})
		}
	}
	promtool(t, map[string]any{"groups": []any{map[string]any{"name": "dashboards", "rules": rules}}}, "check", "rules")
}

// Expressions have the expected values for known series.
func TestExpressionValues(t *testing.T) {
	fleet, host := all(t)["docker-buildup-fleet.json"].expressions(), all(t)["docker-buildup-host.json"].expressions()
	const stack = `"What fills the disk" `
	type series struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	type sample struct {
		Labels string  `json:"labels"`
		Value  float64 `json:"value"`
	}
	type test struct {
		Expr    string   `json:"expr"`
		At      string   `json:"eval_time"`
		Samples []sample `json:"exp_samples"`
	}
	// Host variables have one value.
	fillHost := func(expr string) string { return strings.ReplaceAll(fill(expr), `=".+"`, `="h"`) }
	promtool(t, map[string]any{"tests": []any{map[string]any{
		"interval": "1m",
		"input_series": []series{
			{`docker_up{job="docker", instance="filling"}`, "1x720"},
			{`docker_up{job="docker", instance="steady"}`, "0x720"},
			{`docker_up{job="docker", instance="gone"}`, "1x60 stale"},
			{`docker_filesystem_avail_bytes{job="docker", instance="filling", path="/a"}`, "1000000-1000x720"}, // 60 kB an hour
			{`docker_filesystem_avail_bytes{job="docker", instance="steady", path="/a"}`, "1000x720"},
			{`docker_filesystem_size_bytes{job="docker", instance="filling", path="/a"}`, "2000000x720"},
			{`docker_filesystem_size_bytes{job="docker", instance="steady", path="/a"}`, "2000x720"},
			{`docker_up{job="docker", instance="elsewhere"}`, "1x720"},
			{`instance_path:docker_filesystem_avail:ratio{job="docker", instance="elsewhere", path="/"}`, "0.8x720"},
			{`instance_path:docker_filesystem_avail:ratio_deriv6h{job="docker", instance="elsewhere", path="/"}`, "-0.001x720"},
			{`instance:docker_up:max1h{job="docker", instance="gone"}`, "1x60 stale"},
		},
		"promql_expr_test": []test{
			{fill(fleet[`"Hosts" A`]), "12h", []sample{
				{`{job="docker", instance="filling"}`, 1},
				{`{job="docker", instance="steady"}`, 0},
				{`{job="docker", instance="gone"}`, -1},
				{`{job="docker", instance="elsewhere"}`, 1},
			}},
			{fill(fleet[`"Hosts" B`]), "12h", []sample{
				{`{job="docker", instance="filling"}`, 0.14},
				{`{job="docker", instance="steady"}`, 0.5},
				{`{job="docker", instance="elsewhere"}`, 0.8},
			}},
			{"round(" + fill(fleet[`"Hosts" D`]) + ")", "12h", []sample{
				{`{job="docker", instance="filling"}`, 280 * 60},
				{`{job="docker", instance="steady"}`, 365 * 24 * 3600},
				{`{job="docker", instance="elsewhere"}`, 800},
			}},
			{fill(fleet[`"Fullest disk" A`]), "12h", []sample{
				{`{job="docker", instance="filling", path="/a"}`, 0.14},
			}},
		},
	}, map[string]any{ // the best command: safe and enough, or else what frees most without volumes
		"interval": "1m",
		"input_series": []series{
			{`docker_filesystem_avail_bytes{job="docker", instance="enough", path="/a"}`, "50"},
			{`docker_filesystem_size_bytes{job="docker", instance="enough", path="/a"}`, "1000"},
			{`docker_reclaimable_bytes{job="docker", instance="enough", command="docker builder prune --filter until=168h"}`, "0"},
			{`docker_reclaimable_bytes{job="docker", instance="enough", command="docker builder prune"}`, "170"},
			{`docker_reclaimable_bytes{job="docker", instance="enough", command="docker image prune"}`, "171"},
			{`docker_reclaimable_bytes{job="docker", instance="enough", command="docker system prune --all"}`, "400"},
			{`docker_filesystem_avail_bytes{job="docker", instance="hopeless", path="/a"}`, "0"},
			{`docker_filesystem_size_bytes{job="docker", instance="hopeless", path="/a"}`, "1000"},
			{`docker_reclaimable_bytes{job="docker", instance="hopeless", command="docker builder prune"}`, "30"},
			{`docker_reclaimable_bytes{job="docker", instance="hopeless", command="docker system prune --all"}`, "80"},
			{`docker_reclaimable_bytes{job="docker", instance="hopeless", command="docker system prune --all --volumes"}`, "500"},
			{`docker_reclaimable_bytes{job="docker", instance="clean", command="docker system prune --all"}`, "0"},
		},
		"promql_expr_test": []test{{fill(fleet[`"Hosts" E`]), "0", []sample{
			{`{job="docker", instance="enough", command="docker image prune"}`, 171},
			{`{job="docker", instance="hopeless", command="docker system prune --all"}`, 80},
		}}},
	}, map[string]any{ // everything adds up to the size of all disks, also while the engine is down
		"interval": "1m",
		"input_series": []series{
			{`docker_filesystem_avail_bytes{job="h", instance="h", path="/a"}`, "100x20"},
			{`docker_filesystem_avail_bytes{job="h", instance="h", path="/b"}`, "200x20"},
			{`docker_filesystem_size_bytes{job="h", instance="h", path="/a"}`, "1000x20"},
			{`docker_filesystem_size_bytes{job="h", instance="h", path="/b"}`, "500x20"},
			{`docker_disk_usage_bytes{job="h", instance="h", resource="images"}`, "300x10 stale"},
			{`docker_disk_usage_bytes{job="h", instance="h", resource="container_logs"}`, "50x10 stale"},
		},
		"promql_expr_test": []test{
			{fillHost(host[stack+"B"]), "5m", []sample{{`{}`, 1500 - 300 - 350}}},
			{fillHost(host[stack+"B"]), "15m", []sample{{`{}`, 1500 - 300}}},
			{fillHost("sum(" + host[stack+"A"] + ") + " + host[stack+"B"] + " + sum(" + host[stack+"C"] + ") - " + host[stack+"D"]), "5m", []sample{{`{}`, 0}}},
		},
	}}}, "test", "rules")
}

// fill replaces Grafana's variables.
func fill(expr string) string {
	expr = strings.NewReplacer("$__rate_interval", "5m", "$__range", "7d").Replace(expr)
	return regexp.MustCompile(`\$[a-z]+`).ReplaceAllString(expr, ".+")
}

// promtool runs promtool on a file.
func promtool(t *testing.T, file any, args ...string) {
	t.Helper()
	program := dockertest.Need(t, "promtool")
	content, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file.yml") // JSON is YAML
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), program, append(args, path)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// expressions returns the expressions of a dashboard by their position.
func (d dashboard) expressions() map[string]string {
	expressions := make(map[string]string)
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			expressions["variable "+v.Name] = strings.ReplaceAll(string(v.Query), `\"`, `"`)
		}
	}
	for _, a := range d.Annotations.List {
		expressions["annotation "+a.Name] = a.Expr
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			expressions[fmt.Sprintf("%q %s", p.Title, target.RefID)] = target.Expr
		}
	}
	return expressions
}

// rules returns the alert rules.
func rules(t *testing.T) string {
	t.Helper()
	var rules strings.Builder
	if err := alerts.Write(&rules, alerts.Defaults(), alerts.Options{}, alerts.Prometheus); err != nil {
		t.Fatal(err)
	}
	return rules.String()
}

// checkUnit fails for a unit that Grafana does not know or this exporter does not use.
func checkUnit(t *testing.T, where, unit string) {
	t.Helper()
	if !slices.Contains([]string{"short", "decbytes", "percentunit", "s", "string"}, unit) {
		t.Errorf("%s has unit %q", where, unit)
	}
}

func files(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := dashboards.Files()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// all returns the dashboards by file name.
func all(t *testing.T) map[string]dashboard {
	t.Helper()
	all := make(map[string]dashboard)
	for name, content := range files(t) {
		all[name] = parse(t, content)
	}
	return all
}

func parse(t *testing.T, content []byte) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	return d
}
