package dashboards

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"docker_buildup_exporter/alerts"
	"docker_buildup_exporter/collector"
)

// The classic model of Grafana, as far as it is used here. Versions from 9.5 on take
// it from a file, and later ones convert it.

type dashboard struct {
	ID            *int           `json:"id"` // null, so that it can be provisioned
	UID           string         `json:"uid"`
	Title         string         `json:"title"`
	Description   string         `json:"description"`
	Tags          []string       `json:"tags"`
	SchemaVersion int            `json:"schemaVersion"`
	Version       int            `json:"version"`
	Editable      bool           `json:"editable"`
	GraphTooltip  int            `json:"graphTooltip"`
	Refresh       string         `json:"refresh"`
	Time          timeRange      `json:"time"`
	Timezone      string         `json:"timezone"`
	Links         []pageLink     `json:"links"`
	Annotations   annotationList `json:"annotations"`
	Templating    variableList   `json:"templating"`
	Panels        []panel        `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// A pageLink stands at the top of a dashboard, a dataLink in a cell of a table.
type pageLink struct {
	Title       string   `json:"title"`
	Type        string   `json:"type"`
	Icon        string   `json:"icon"`
	Tooltip     string   `json:"tooltip"`
	Tags        []string `json:"tags"`
	URL         string   `json:"url"`
	AsDropdown  bool     `json:"asDropdown"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
	TargetBlank bool     `json:"targetBlank"`
}

type dataLink struct {
	Title       string `json:"title"`
	URL         string `json:"url"`
	TargetBlank bool   `json:"targetBlank"`
}

type annotationList struct {
	List []annotation `json:"list"`
}

type annotation struct {
	Name            string     `json:"name"`
	Datasource      datasource `json:"datasource"`
	Enable          bool       `json:"enable"`
	Hide            bool       `json:"hide"`
	IconColor       string     `json:"iconColor"`
	Expr            string     `json:"expr"`
	Step            string     `json:"step"`
	TitleFormat     string     `json:"titleFormat"`
	TextFormat      string     `json:"textFormat"`
	TagKeys         string     `json:"tagKeys"`
	UseValueForTime bool       `json:"useValueForTime"`
}

type variableList struct {
	List []variable `json:"list"`
}

type variable struct {
	Name        string      `json:"name"`
	Label       string      `json:"label"`
	Description string      `json:"description"`
	Type        string      `json:"type"`
	Datasource  *datasource `json:"datasource,omitempty"`
	Definition  string      `json:"definition,omitempty"`
	Query       any         `json:"query"`
	Multi       bool        `json:"multi"`
	IncludeAll  bool        `json:"includeAll"`
	AllValue    string      `json:"allValue,omitempty"`
	Refresh     int         `json:"refresh"`
	Regex       string      `json:"regex"`
	Sort        int         `json:"sort"`
	Hide        int         `json:"hide"`
	Options     []object    `json:"options"`
	Current     object      `json:"current"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID              int          `json:"id"`
	Type            string       `json:"type"`
	Title           string       `json:"title"`
	Description     string       `json:"description,omitempty"`
	Datasource      *datasource  `json:"datasource,omitempty"`
	GridPos         rectangle    `json:"gridPos"`
	Collapsed       *bool        `json:"collapsed,omitempty"` // of rows
	FieldConfig     *fieldConfig `json:"fieldConfig,omitempty"`
	Options         object       `json:"options,omitempty"`
	Targets         []target     `json:"targets,omitempty"`
	Transformations []object     `json:"transformations,omitempty"`
	Panels          *[]panel     `json:"panels,omitempty"` // of rows
}

type rectangle struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type fieldConfig struct {
	Defaults  field      `json:"defaults"`
	Overrides []override `json:"overrides"`
}

type field struct {
	Unit       string     `json:"unit"`
	Decimals   *int       `json:"decimals,omitempty"`
	Min        *float64   `json:"min,omitempty"`
	Max        *float64   `json:"max,omitempty"`
	NoValue    string     `json:"noValue"`
	Color      object     `json:"color"`
	Mappings   []object   `json:"mappings"`
	Thresholds thresholds `json:"thresholds"`
	Custom     object     `json:"custom,omitempty"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

// A step is the color from a value on. Without a value it is the first.
type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

type override struct {
	Matcher    object     `json:"matcher"`
	Properties []property `json:"properties"`
}

type property struct {
	ID    string `json:"id"`
	Value any    `json:"value"`
}

type target struct {
	RefID        string     `json:"refId"`
	Datasource   datasource `json:"datasource"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat"`
	Instant      bool       `json:"instant"`
	Range        bool       `json:"range"`
	Format       string     `json:"format"`
}

// An object is what only Grafana's panels know the inside of.
type object = map[string]any

// A row is a heading and what is under it.
type row struct {
	title  string
	panels []panel
}

// build puts a dashboard together. Its expressions name metrics without the
// matchers of the hosts that are shown; they get them here.
func build(uid, title, description, hosts, alerts string, variables []variable, link pageLink, rows []row) dashboard {
	annotations := []annotation{
		{
			Name:        "Firing alerts",
			IconColor:   "red",
			Expr:        alerts,
			Step:        "5m",
			TitleFormat: "{{alertname}}",
			TextFormat:  "{{severity}} on {{instance}}",
			TagKeys:     "alertname,severity,instance",
		},
		{
			Name:            "Prunes",
			IconColor:       "blue",
			Expr:            `docker_last_prune_timestamp_seconds * 1000`,
			Step:            "5m",
			TitleFormat:     "Prune of {{resource}}",
			TextFormat:      "{{instance}}",
			TagKeys:         "resource,instance",
			UseValueForTime: true, // however wide the steps are, none is left out but by a later one
		},
	}
	d := dashboard{
		UID:           uid,
		Title:         title,
		Description:   description,
		Tags:          []string{"docker", "docker-buildup"},
		SchemaVersion: 39,
		Version:       1,
		GraphTooltip:  1, // the crosshair in all panels
		Refresh:       "5m",
		Time:          timeRange{From: "now-7d", To: "now"},
		Timezone:      "browser",
		Links:         []pageLink{link},
		Templating:    variableList{variables},
		Panels:        layOut(rows),
	}
	for _, a := range annotations {
		a.Datasource, a.Enable, a.Expr = ours(), true, ofHosts(a.Expr, hosts)
		d.Annotations.List = append(d.Annotations.List, a)
	}
	for _, p := range d.Panels {
		for i := range p.Targets {
			p.Targets[i].Expr = ofHosts(p.Targets[i].Expr, hosts)
		}
	}
	return d
}

// ofHosts adds matchers to each metric of the exporter, and to what the rules record.
func ofHosts(expr, hosts string) string {
	names := map[string]bool{recordedAvail: true, recordedSize: true}
	for _, m := range collector.Metrics() {
		names[m.Name] = true
	}
	word := regexp.MustCompile(`[a-z_:]+\{?`)
	return word.ReplaceAllStringFunc(expr, func(found string) string {
		name, more := strings.CutSuffix(found, "{")
		switch {
		case !names[name]:
			return found
		case more:
			return found + hosts + ", "
		default:
			return found + "{" + hosts + "}"
		}
	})
}

// layOut numbers the panels and places them as one writes: from left to right, and
// below what is full.
func layOut(rows []row) []panel {
	const width = 24
	var all []panel
	y := 0
	for _, row := range rows {
		heading := panel{Type: "row", Title: row.title, Collapsed: new(bool), Panels: &[]panel{}, GridPos: rectangle{H: 1, W: width, Y: y}}
		all = append(all, heading)
		y++
		x, height := 0, 0
		for _, p := range row.panels {
			if x+p.GridPos.W > width {
				x, y, height = 0, y+height, 0
			}
			p.GridPos.X, p.GridPos.Y = x, y
			x, height = x+p.GridPos.W, max(height, p.GridPos.H)
			all = append(all, p)
		}
		y += height
	}
	for i := range all {
		all[i].ID = i + 1
	}
	return all
}

func ours() datasource { return datasource{Type: "prometheus", UID: "$datasource"} }

func datasourceVariable() variable {
	return variable{
		Name:        "datasource",
		Label:       "Data source",
		Description: "The Prometheus that scrapes the exporters.",
		Type:        "datasource",
		Query:       "prometheus",
		Refresh:     1,
		Options:     []object{},
		Current:     object{},
	}
}

// labelVariable offers the values that a label of docker_up has. With several, their
// values become a regular expression, which Grafana escapes only then.
func labelVariable(name, title, description, metric string, several bool) variable {
	query := fmt.Sprintf("label_values(%s, %s)", metric, name)
	source := ours()
	v := variable{
		Name:        name,
		Label:       title,
		Description: description,
		Type:        "query",
		Datasource:  &source,
		Definition:  query,
		Query:       object{"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
		Refresh:     2, // also hosts that came or went while the page is open
		Sort:        1,
		Options:     []object{},
		Current:     object{},
	}
	if several {
		v.Multi, v.IncludeAll, v.AllValue = true, true, ".+"
		v.Current = object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}}
	}
	return v
}

// now asks for the present value, over for all of the time that is shown.
func now(expr, legend string) target {
	return target{Expr: expr, LegendFormat: legend, Instant: true, Format: "time_series"}
}

func over(expr, legend string) target {
	return target{Expr: expr, LegendFormat: legend, Range: true, Format: "time_series"}
}

func newPanel(kind, title, description, unit string, targets []target) panel {
	source := ours()
	for i := range targets {
		targets[i].RefID, targets[i].Datasource = string(rune('A'+i)), ours()
	}
	return panel{
		Type:        kind,
		Title:       title,
		Description: description,
		Datasource:  &source,
		FieldConfig: &fieldConfig{
			Defaults: field{
				Unit:       unit,
				NoValue:    "unknown",
				Color:      object{"mode": "palette-classic"},
				Mappings:   []object{},
				Thresholds: absolute(step{Color: "text"}),
			},
			Overrides: []override{},
		},
		Targets: targets,
	}
}

// stat shows numbers, each with its name if there are several.
func stat(title, description, unit string, targets ...target) panel {
	p := newPanel("stat", title, description, unit, targets)
	p.FieldConfig.Defaults.Color = object{"mode": "thresholds"}
	p.Options = object{
		"colorMode":     "value",
		"graphMode":     "none",
		"justifyMode":   "auto",
		"orientation":   "auto",
		"textMode":      "auto",
		"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}
	return p
}

// lines shows how values came to be what they are.
func lines(title, description, unit string, targets ...target) panel {
	p := newPanel("timeseries", title, description, unit, targets)
	p.FieldConfig.Defaults.Min = new(float64)
	p.FieldConfig.Defaults.Custom = object{
		"drawStyle":   "line",
		"lineWidth":   1,
		"fillOpacity": 0,
		"showPoints":  "auto",
		"spanNulls":   false,
	}
	p.Options = object{
		"legend":  object{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
	return p
}

// states shows when something was so, and when not.
func states(title, description string, mapping object, targets ...target) panel {
	p := newPanel("state-timeline", title, description, "short", targets)
	p.FieldConfig.Defaults.Color = object{"mode": "thresholds"}
	p.FieldConfig.Defaults.Mappings = []object{mapping}
	p.FieldConfig.Defaults.Custom = object{"lineWidth": 0, "fillOpacity": 70, "spanNulls": false}
	p.Options = object{
		"mergeValues": true,
		"showValue":   "never",
		"alignValue":  "left",
		"rowHeight":   0.8,
		"legend":      object{"displayMode": "list", "placement": "bottom", "showLegend": true},
		"tooltip":     object{"mode": "single", "sort": "none"},
	}
	return p
}

// A column of a table. Without an expression it is a label of the others.
type column struct {
	title      string
	label      string
	expr       string
	properties []property
}

// table shows one line for each set of labels: all columns that ask for something
// have the same.
func table(title, description, unit string, columns ...column) panel {
	var targets []target
	hidden, order, names := object{"Time": true}, object{}, object{}
	var overrides []override
	asking := 0
	for _, c := range columns {
		if c.expr != "" {
			asking++
		}
	}
	for i, c := range columns {
		source := c.label
		if c.expr != "" {
			source = "Value"
			if asking > 1 {
				source = "Value #" + string(rune('A'+len(targets)))
			}
			targets = append(targets, target{Expr: c.expr, Instant: true, Format: "table"})
		}
		if c.expr == "" { // a label that looks like a number is none, and one that is empty is not unknown
			c.properties = append([]property{isUnit("string"), {"noValue", "-"}}, c.properties...)
		}
		order[source], names[source] = i, c.title
		if c.title == "" {
			hidden[source] = true
			delete(names, source)
		}
		if len(c.properties) > 0 {
			overrides = append(overrides, override{Matcher: object{"id": "byName", "options": c.title}, Properties: c.properties})
		}
	}
	p := newPanel("table", title, description, unit, targets)
	p.FieldConfig.Defaults.Custom = object{"align": "auto", "cellOptions": object{"type": "auto"}, "filterable": false}
	p.FieldConfig.Defaults.Color = object{"mode": "thresholds"}
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, overrides...)
	p.Options = object{"cellHeight": "sm", "showHeader": true, "sortBy": []object{}}
	if asking > 1 {
		p.Transformations = append(p.Transformations, object{"id": "merge", "options": object{}})
	}
	p.Transformations = append(p.Transformations, object{
		"id":      "organize",
		"options": object{"excludeByName": hidden, "indexByName": order, "renameByName": names},
	})
	return p
}

func (p panel) size(width, height int) panel {
	p.GridPos = rectangle{W: width, H: height}
	return p
}

// ifNone says what it means that there is nothing to show.
func (p panel) ifNone(text string) panel {
	p.FieldConfig.Defaults.NoValue = text
	return p
}

func (p panel) decimals(n int) panel {
	p.FieldConfig.Defaults.Decimals = &n
	return p
}

func (p panel) colored(t thresholds) panel {
	p.FieldConfig.Defaults.Thresholds = t
	return p
}

func (p panel) mapped(mappings ...object) panel {
	p.FieldConfig.Defaults.Mappings = mappings
	return p
}

// share is for values from 0 to 1.
func (p panel) share() panel {
	one := 1.0
	p.FieldConfig.Defaults.Max = &one
	return p
}

// crossed draws a line below which a disk that fills is a ticket, and one below which
// it is a page.
func (p panel) crossed(t alerts.Thresholds) panel {
	p.FieldConfig.Defaults.Custom["thresholdsStyle"] = object{"mode": "line"}
	return p.colored(absolute(step{Color: "transparent"}, from(float64(t.PageBelow), "red"), from(float64(t.FillingBelow), "orange")))
}

// stacked is for values that are parts of a whole.
func (p panel) stacked() panel {
	p.FieldConfig.Defaults.Custom["stacking"] = object{"mode": "normal", "group": "A"}
	p.FieldConfig.Defaults.Custom["fillOpacity"] = 30
	return p
}

func (p panel) bars() panel {
	p.FieldConfig.Defaults.Custom["drawStyle"] = "bars"
	p.FieldConfig.Defaults.Custom["fillOpacity"] = 50
	return p
}

// dashed is for what a query says of another time or another measure.
func (p panel) dashed(refID string) panel {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override{
		Matcher:    object{"id": "byFrameRefID", "options": refID},
		Properties: []property{{"custom.lineStyle", object{"fill": "dash", "dash": []int{10, 10}}}},
	})
	return p
}

func (p panel) sortedBy(column string, descending bool) panel {
	p.Options["sortBy"] = []object{{"displayName": column, "desc": descending}}
	return p
}

func (p panel) named() panel {
	p.Options["textMode"] = "value_and_name"
	return p
}

func absolute(steps ...step) thresholds { return thresholds{Mode: "absolute", Steps: steps} }

func from(value float64, color string) step { return step{Color: color, Value: &value} }

// freeShare and timeLeft color what must not be too little, beyond what must not be
// too much.
func freeShare(t alerts.Thresholds) thresholds {
	return absolute(step{Color: "red"}, from(float64(t.Full), "orange"), from(float64(t.AlmostFull), "green"))
}

func timeLeft(t alerts.Thresholds) thresholds {
	return absolute(step{Color: "red"}, from(time.Duration(t.PageWithin).Seconds(), "orange"), from(time.Duration(t.FillingWithin).Seconds(), "green"))
}

func beyond(value float64) thresholds {
	return absolute(step{Color: "green"}, from(value, "red"))
}

// says replaces numbers by words.
func says(words map[string]object) object { return object{"type": "value", "options": words} }

func word(index int, text, color string) object {
	w := object{"index": index, "text": text}
	if color != "" {
		w["color"] = color
	}
	return w
}

func isUnit(unit string) property { return property{"unit", unit} }

func isColored(t thresholds) []property {
	return []property{{"thresholds", t}, {"custom.cellOptions", object{"type": "color-text"}}}
}

func isMapped(mappings ...object) property { return property{"mappings", mappings} }
