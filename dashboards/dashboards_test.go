package dashboards_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"docker_buildup_exporter/collector"
)

type dashboard struct {
	ID            *int
	UID           string
	Title         string
	SchemaVersion int
	Editable      bool
	Refresh       string
	Time          struct{ From string }
	Templating    struct{ List []variable }
	Annotations   struct{ List []target }
	Panels        []panel
}

type variable struct {
	Name, Label, Type string
	Datasource        source
	Query             json.RawMessage // text, or an object that holds it
	Multi, IncludeAll bool
	AllValue          string
	Refresh           int
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  rectangle
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []target
}

type target struct {
	RefID      string
	Datasource source
	Expr       string
}

type source struct{ Type, UID string }

type rectangle struct{ H, W, X, Y int }

func (r rectangle) overlaps(other rectangle) bool {
	return r.X < other.X+other.W && other.X < r.X+r.W && r.Y < other.Y+other.H && other.Y < r.Y+r.H
}

func TestFilesAreFormatted(t *testing.T) {
	for path := range dashboards(t) {
		content := read(t, path)
		var formatted bytes.Buffer
		if err := json.Indent(&formatted, content, "", "  "); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.TrimSpace(formatted.Bytes()), bytes.TrimSuffix(content, []byte("\n"))) {
			t.Errorf("%s is not indented by two spaces", path)
		}
	}
}

func TestDashboardsShowTheMetricsThatExistAndNoOthers(t *testing.T) {
	shown := make(map[string]bool)
	exists := make(map[string]bool)
	for _, metric := range collector.Metrics() {
		exists[metric.Name] = true
	}
	name := regexp.MustCompile(`\bdocker_[a-z_]+`)
	for path, d := range dashboards(t) {
		asked := func(where, expr string) []string {
			names := name.FindAllString(expr, -1)
			for _, name := range names {
				if !exists[name] {
					t.Errorf("%s: %s asks for %s, which the exporter does not have", path, where, name)
				}
			}
			return names
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				for _, name := range asked(p.Title, target.Expr) {
					shown[name] = true
				}
			}
		}
		for _, v := range d.Templating.List {
			asked("variable "+v.Name, string(v.Query))
		}
	}
	for name := range exists {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func TestSettings(t *testing.T) {
	uids := make(map[string]string)
	for path, d := range dashboards(t) {
		if other, taken := uids[d.UID]; taken {
			t.Errorf("%s has the uid of %s", path, other)
		}
		uids[d.UID] = path
		// A dashboard that is provisioned from a file must not carry an id, and its address must not change.
		if want := strings.TrimSuffix(filepath.Base(path), ".json"); d.ID != nil || d.UID != want || d.Title == "" {
			t.Errorf("%s: id %v, uid %q, title %q; want no id, %q and some title", path, d.ID, d.UID, d.Title, want)
		}
		if d.SchemaVersion != 39 || d.Editable || d.Refresh != "5m" || d.Time.From != "now-7d" {
			t.Errorf("%s: schema %d, editable %t, refresh %q, from %q", path, d.SchemaVersion, d.Editable, d.Refresh, d.Time.From)
		}
	}
}

func TestVariables(t *testing.T) {
	want := map[string]string{"datasource": "Data source", "job": "Job", "instance": "Instance"}
	for path, d := range dashboards(t) {
		labels := make(map[string]string)
		for _, v := range d.Templating.List {
			labels[v.Name] = v.Label
			if v.Type == "datasource" {
				if string(v.Query) != `"prometheus"` {
					t.Errorf("%s: the data source is of type %s", path, v.Query)
				}
				continue
			}
			// refresh 2: hosts that came or went since the page was opened.
			if v.Type != "query" || v.Datasource.UID != "$datasource" || !v.Multi || !v.IncludeAll || v.AllValue != ".+" || v.Refresh != 2 {
				t.Errorf("%s: variable %+v", path, v)
			}
		}
		if !maps.Equal(labels, want) {
			t.Errorf("%s: variables %q, want %q", path, labels, want)
		}
	}
}

func TestPanels(t *testing.T) {
	for path, d := range dashboards(t) {
		ids := make(map[int]string)
		for i, p := range d.Panels {
			if other, taken := ids[p.ID]; taken || p.ID == 0 {
				t.Errorf("%s: %q has id %d, as has %q", path, p.Title, p.ID, other)
			}
			ids[p.ID] = p.Title
			for _, other := range d.Panels[:i] {
				if p.GridPos.overlaps(other.GridPos) {
					t.Errorf("%s: %q lies on %q", path, p.Title, other.Title)
				}
			}
			if g := p.GridPos; g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
				t.Errorf("%s: %q is outside of the 24 columns: %+v", path, p.Title, g)
			}
			if p.Title == "" {
				t.Errorf("%s: panel %d has no title", path, p.ID)
			}
			if p.Type == "row" {
				continue
			}
			if !slices.Contains([]string{"stat", "timeseries", "table"}, p.Type) {
				t.Errorf("%s: %q is a %q", path, p.Title, p.Type)
			}
			if p.Description == "" {
				t.Errorf("%s: %q has no description", path, p.Title)
			}
			if p.FieldConfig.Defaults.Unit == "" {
				t.Errorf("%s: %q has no unit", path, p.Title)
			}
			if p.Datasource.UID != "$datasource" {
				t.Errorf("%s: %q has data source %q", path, p.Title, p.Datasource.UID)
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s: %q asks for nothing", path, p.Title)
			}
			refs := make(map[string]bool)
			for _, target := range p.Targets {
				if refs[target.RefID] || target.RefID == "" {
					t.Errorf("%s: %q has refId %q twice", path, p.Title, target.RefID)
				}
				refs[target.RefID] = true
			}
		}
	}
}

func TestQueriesFollowTheVariables(t *testing.T) {
	selector := regexp.MustCompile(`\b(?:docker_[a-z_]+|ALERTS)(\{[^}]*\})?`)
	for path, d := range dashboards(t) {
		check := func(where string, target target) {
			if target.Datasource.UID != "$datasource" {
				t.Errorf("%s: %s asks data source %q", path, where, target.Datasource.UID)
			}
			selectors := selector.FindAllStringSubmatch(target.Expr, -1)
			if len(selectors) == 0 {
				t.Errorf("%s: %s asks for no metric of this exporter: %s", path, where, target.Expr)
			}
			for _, s := range selectors {
				for _, matcher := range []string{`job=~"$job"`, `instance=~"$instance"`} {
					if !strings.Contains(s[1], matcher) {
						t.Errorf("%s: %s: %s has no %s", path, where, s[0], matcher)
					}
				}
			}
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				check(p.Title, target)
			}
		}
		for _, annotation := range d.Annotations.List {
			check("an annotation", annotation)
		}
	}
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	paths, err := filepath.Glob("*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no dashboards (%v)", err)
	}
	dashboards := make(map[string]dashboard)
	for _, path := range paths {
		var d dashboard
		if err := json.Unmarshal(read(t, path), &d); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		dashboards[path] = d
	}
	return dashboards
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
