package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

//lint:file-ignore SA1019 Grafana before 12 reads only the classic model, which the SDK deprecates.

// schemaVersion is that of Grafana 10. Grafana 9.5 reads it, and newer versions migrate it.
const schemaVersion = 39

// A page is one dashboard. Its expressions select no hosts; build adds the matchers.
type page struct {
	uid, title, description string

	hosts       matchers
	annotations []dashboard.AnnotationQuery
	variables   []dashboard.VariableModel
	links       []dashboard.DashboardLink
	rows        []row
}

// A row is a heading with the panels below it.
type row struct {
	title  string
	panels panels
}

type panels = []cog.Builder[dashboard.Panel]

func (p page) build() (dashboard.Dashboard, error) {
	builder := dashboard.NewDashboardBuilder(p.title).
		Uid(p.uid).
		Description(p.description).
		Tags([]string{"docker", tag}).
		Readonly().
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Refresh("5m").
		Time("now-7d", "now").
		Timezone("browser").
		Version(1)
	for _, r := range p.rows {
		builder.WithRow(dashboard.NewRowBuilder(r.title))
		for _, panel := range r.panels {
			builder.WithPanel(panel)
		}
	}
	d, err := builder.Build()
	if err != nil {
		return d, err
	}
	d.SchemaVersion = schemaVersion
	// The SDK's builders would move links and annotations into a menu.
	d.Links = p.links
	d.Annotations.List = p.annotations
	d.Templating.List = p.variables
	for i, panel := range d.Panels {
		id := uint32(i + 1)
		if panel.RowPanel != nil {
			panel.RowPanel.Id = id
			continue
		}
		panel.Panel.Id = &id
		for j, target := range panel.Panel.Targets {
			query := target.(prometheus.Dataquery)
			query.Expr = p.hosts.addTo(query.Expr)
			panel.Panel.Targets[j] = query
		}
	}
	return d, nil
}

// annotationQueries returns the annotations of a page: firing alerts, and prunes by the time
// at which they were. Disabled ones can be enabled on the page.
func annotationQueries(isEnabled bool, step, alerts, lastPrunes string) []dashboard.AnnotationQuery {
	source := datasource()
	return []dashboard.AnnotationQuery{
		{
			Name:        "Firing alerts",
			Datasource:  &source,
			Enable:      isEnabled,
			IconColor:   "red",
			Expr:        &alerts,
			Step:        &step,
			TitleFormat: cog.ToPtr("{{alertname}}"),
			TextFormat:  cog.ToPtr("{{severity}} on {{instance}}"),
			TagKeys:     cog.ToPtr("alertname,severity,instance"),
		},
		{
			Name:        "Prunes",
			Datasource:  &source,
			Enable:      isEnabled,
			IconColor:   "blue",
			Expr:        cog.ToPtr(lastPrunes + " * 1000"),
			Step:        &step,
			TitleFormat: cog.ToPtr("Prune of {{resource}}"),
			TextFormat:  cog.ToPtr("{{instance}}"),
			TagKeys:     cog.ToPtr("resource,instance"),
			// The value is the time of the prune, so a wide step does not hide it.
			UseValueForTime: cog.ToPtr(true),
		},
	}
}

// metric matches the name of a metric of the exporter, or of a series that the rules record
// from them, and the brace of its matchers.
const metric = `\b(?:instance[a-z_]*:)?docker_[a-z0-9_:]+\{?`

// matchers are label matchers that select hosts.
type matchers string

// addTo adds the matchers to each metric.
func (m matchers) addTo(expr string) string {
	return regexp.MustCompile(metric).ReplaceAllStringFunc(expr, func(found string) string {
		if name, hasMatchers := strings.CutSuffix(found, "{"); hasMatchers {
			return name + "{" + string(m) + ", "
		}
		return found + "{" + string(m) + "}"
	})
}

// existing returns an expression without the series that have no value at the end of the
// time range. The expression has no matchers.
func existing(expr string) string {
	return "(" + expr + ") and (" + regexp.MustCompile(metric).ReplaceAllString(expr, "$0 @ end()") + ")"
}

func datasource() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("$datasource")}
}

func datasourceVariable() dashboard.VariableModel {
	return dashboard.VariableModel{
		Type:        dashboard.VariableTypeDatasource,
		Name:        "datasource",
		Label:       cog.ToPtr("Data source"),
		Description: cog.ToPtr("Prometheus that scrapes the exporters."),
		Query:       &dashboard.StringOrMap{String: cog.ToPtr("prometheus")},
		Refresh:     cog.ToPtr(dashboard.VariableRefreshOnDashboardLoad),
	}
}

// The types of queries of variables.
const (
	labelValues = 1
	queryResult = 3
)

// queryVariable returns a variable with the values that a query of Grafana returns.
func queryVariable(name, label, description string, queryType int, query string) dashboard.VariableModel {
	source := datasource()
	return dashboard.VariableModel{
		Type:        dashboard.VariableTypeQuery,
		Name:        name,
		Label:       &label,
		Description: &description,
		Datasource:  &source,
		Definition:  &query,
		Query: &dashboard.StringOrMap{Map: map[string]any{
			"qryType": queryType,
			"query":   query,
			"refId":   "PrometheusVariableQueryEditor-VariableQuery",
		}},
		// Hosts that appear or disappear while the page is open are noticed.
		Refresh: cog.ToPtr(dashboard.VariableRefreshOnTimeRangeChanged),
		Sort:    cog.ToPtr(dashboard.VariableSortAlphabeticalAsc),
	}
}

// labelVariable returns a variable with the values of a label of metric.
func labelVariable(name, label, description, metric string) dashboard.VariableModel {
	return queryVariable(name, label, description, labelValues, fmt.Sprintf("label_values(%s, %s)", metric, name))
}

// instancesVariable returns a hidden variable with the instances in the result of an
// expression at the end of the time range.
func instancesVariable(name, label, description, expr string) dashboard.VariableModel {
	v := multiple(queryVariable(name, label, description, queryResult, "query_result("+expr+")"))
	v.Regex = cog.ToPtr(`/instance="([^"]+)"/`)
	v.AllValue = nil // these instances only
	v.Hide = cog.ToPtr(dashboard.VariableHideHideVariable)
	v.SkipUrlSync = cog.ToPtr(true)
	return v
}

// multiple lets the user select several values, by default all of them. Grafana joins
// them into a regular expression. It escapes the values only in this mode.
func multiple(v dashboard.VariableModel) dashboard.VariableModel {
	v.Multi = cog.ToPtr(true)
	v.IncludeAll = cog.ToPtr(true)
	v.AllValue = cog.ToPtr(".+")
	v.Current = &dashboard.VariableOption{
		Selected: cog.ToPtr(true),
		Text:     dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
		Value:    dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
	}
	return v
}
