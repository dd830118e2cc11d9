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

	hosts     matchers
	alerts    string // series of the firing alerts to mark
	variables []dashboard.VariableModel
	link      dashboard.DashboardLink
	rows      []row
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
	d.Links = []dashboard.DashboardLink{p.link}
	d.Annotations.List = p.annotations()
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

func (p page) annotations() []dashboard.AnnotationQuery {
	source := datasource()
	return []dashboard.AnnotationQuery{
		{
			Name:        "Firing alerts",
			Datasource:  &source,
			Enable:      true,
			IconColor:   "red",
			Expr:        cog.ToPtr(p.alerts),
			Step:        cog.ToPtr("5m"),
			TitleFormat: cog.ToPtr("{{alertname}}"),
			TextFormat:  cog.ToPtr("{{severity}} on {{instance}}"),
			TagKeys:     cog.ToPtr("alertname,severity,instance"),
		},
		{
			Name:        "Prunes",
			Datasource:  &source,
			Enable:      true,
			IconColor:   "blue",
			Expr:        cog.ToPtr(p.hosts.addTo(`docker_last_prune_timestamp_seconds * 1000`)),
			Step:        cog.ToPtr("5m"),
			TitleFormat: cog.ToPtr("Prune of {{resource}}"),
			TextFormat:  cog.ToPtr("{{instance}}"),
			TagKeys:     cog.ToPtr("resource,instance"),
			// The value is the time of the prune, so a wide step does not hide it.
			UseValueForTime: cog.ToPtr(true),
		},
	}
}

// matchers are the label matchers that select the hosts of a dashboard.
type matchers string

// addTo adds the matchers to each metric of the exporter and to each series that the
// rules record from them.
func (m matchers) addTo(expr string) string {
	metric := regexp.MustCompile(`\b(?:instance_path:)?docker_[a-z_:]+\{?`)
	return metric.ReplaceAllStringFunc(expr, func(found string) string {
		if name, hasMatchers := strings.CutSuffix(found, "{"); hasMatchers {
			return name + "{" + string(m) + ", "
		}
		return found + "{" + string(m) + "}"
	})
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

// labelVariable returns a variable with the values of a label of metric.
func labelVariable(name, label, description, metric string) dashboard.VariableModel {
	source := datasource()
	query := fmt.Sprintf("label_values(%s, %s)", metric, name)
	return dashboard.VariableModel{
		Type:        dashboard.VariableTypeQuery,
		Name:        name,
		Label:       &label,
		Description: &description,
		Datasource:  &source,
		Definition:  &query,
		Query: &dashboard.StringOrMap{Map: map[string]any{
			"qryType": 1, // label values
			"query":   query,
			"refId":   "PrometheusVariableQueryEditor-VariableQuery",
		}},
		// Hosts that appear or disappear while the page is open are noticed.
		Refresh: cog.ToPtr(dashboard.VariableRefreshOnTimeRangeChanged),
		Sort:    cog.ToPtr(dashboard.VariableSortAlphabeticalAsc),
	}
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
