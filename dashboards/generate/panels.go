package main

import (
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"docker_buildup_exporter/alerts"
)

// instantQuery returns a query for the current value.
func instantQuery(expr, legend string) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(expr).LegendFormat(legend).Instant().Format(prometheus.PromQueryFormatTimeSeries)
}

// rangeQuery returns a query for all values of the selected time range.
func rangeQuery(expr, legend string) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(expr).LegendFormat(legend).Range().Format(prometheus.PromQueryFormatTimeSeries)
}

// A panelBuilder is what the SDK's builders of all panel types have in common.
type panelBuilder[B any] interface {
	Title(string) B
	Description(string) B
	Datasource(common.DataSourceRef) B
	WithTarget(cog.Builder[variants.Dataquery]) B
	Unit(string) B
	NoValue(string) B
	ColorScheme(cog.Builder[dashboard.FieldColor]) B
	Thresholds(cog.Builder[dashboard.ThresholdsConfig]) B
}

// configure sets what every panel has. Queries get the IDs A, B, C and so on.
func configure[B panelBuilder[B]](panel B, title, description, unit string, queries []*prometheus.DataqueryBuilder) B {
	for i, query := range queries {
		panel.WithTarget(query.RefId(string(rune('A' + i))).Datasource(datasource()))
	}
	return panel.
		Title(title).
		Description(description).
		Datasource(datasource()).
		Unit(unit).
		NoValue("unknown").
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdThresholds)).
		Thresholds(steps("text"))
}

// statPanel shows the current value of each series.
func statPanel(title, description, unit string, queries ...*prometheus.DataqueryBuilder) *stat.PanelBuilder {
	return configure(stat.NewPanelBuilder(), title, description, unit, queries).
		ColorMode(common.BigValueColorModeValue).
		GraphMode(common.BigValueGraphModeNone).
		JustifyMode(common.BigValueJustifyModeAuto).
		Orientation(common.VizOrientationAuto).
		TextMode(common.BigValueTextModeAuto).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}).Fields("").Values(false))
}

// sparklinePanel shows the current value of each series that has one, and its history. It
// requests as many values as a graph does, so that the last one is recent.
func sparklinePanel(title, description, unit string, queries ...*prometheus.DataqueryBuilder) *stat.PanelBuilder {
	return statPanel(title, description, unit, queries...).GraphMode(common.BigValueGraphModeArea).MaxDataPoints(1000)
}

// linePanel shows each series as a line.
func linePanel(title, description, unit string, queries ...*prometheus.DataqueryBuilder) *timeseries.PanelBuilder {
	return configure(timeseries.NewPanelBuilder(), title, description, unit, queries).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdPaletteClassic)).
		Min(0).
		DrawStyle(common.GraphDrawStyleLine).
		LineWidth(1).
		FillOpacity(0).
		ShowPoints(common.VisibilityModeAuto).
		SpanNulls(common.BoolOrFloat64{Bool: cog.ToPtr(false)}).
		Legend(common.NewVizLegendOptionsBuilder().
			DisplayMode(common.LegendDisplayModeTable).
			Placement(common.LegendPlacementBottom).
			ShowLegend(true).
			Calcs([]string{"lastNotNull", "max"})).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
}

// stackedPanel shows series that are the parts of a whole.
func stackedPanel(title, description, unit string, queries ...*prometheus.DataqueryBuilder) *timeseries.PanelBuilder {
	return linePanel(title, description, unit, queries...).
		Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A")).
		FillOpacity(30)
}

// barPanel shows what happened between two points of time.
func barPanel(title, description, unit string, queries ...*prometheus.DataqueryBuilder) *timeseries.PanelBuilder {
	return linePanel(title, description, unit, queries...).DrawStyle(common.GraphDrawStyleBars).FillOpacity(50)
}

// statePanel shows when each series had which state.
func statePanel(title, description string, states dashboard.ValueMapping, queries ...*prometheus.DataqueryBuilder) *statetimeline.PanelBuilder {
	return configure(statetimeline.NewPanelBuilder(), title, description, "short", queries).
		Mappings([]dashboard.ValueMapping{states}).
		LineWidth(0).
		FillOpacity(70).
		NeverSpanNulls().
		MergeValues(true).
		ShowValue(common.VisibilityModeNever).
		AlignValue(common.TimelineValueAlignmentLeft).
		RowHeight(0.8).
		Legend(common.NewVizLegendOptionsBuilder().
			DisplayMode(common.LegendDisplayModeList).
			Placement(common.LegendPlacementBottom).
			ShowLegend(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeSingle).Sort(common.SortOrderNone))
}

// A column of a table shows the values of an expression, or without one a label of the
// series. A column without a title is hidden.
type column struct {
	title, label, expr string
	properties         properties
}

// tablePanel shows one row for each set of labels. All expressions must have the same
// labels.
func tablePanel(title, description string, columns ...column) *table.PanelBuilder {
	var queries []*prometheus.DataqueryBuilder
	for _, c := range columns {
		if c.expr != "" {
			queries = append(queries, instantQuery(c.expr, "").Format(prometheus.PromQueryFormatTable))
		}
	}
	panel := configure(table.NewPanelBuilder(), title, description, "short", queries).
		Align(common.FieldTextAlignmentAuto).
		CellOptions(common.TableCellOptions{TableAutoCellOptions: common.NewTableAutoCellOptions()}).
		Filterable(true).
		CellHeight(common.TableCellHeightSm).
		ShowHeader(true).
		Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{})) // the SDK's default lacks a reducer, which is required
	if len(queries) > 1 {
		panel.WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: struct{}{}})
	}

	hidden, order, names := map[string]bool{"Time": true}, map[string]int{}, map[string]string{}
	query := 'A'
	for i, c := range columns {
		field, overrides := c.label, c.properties
		switch {
		case c.expr == "": // a label is text even if it resembles a number, and may be empty
			overrides = append(properties{unit("string"), noValue("-")}, overrides...)
		case len(queries) == 1:
			field = "Value"
		default:
			field = "Value #" + string(query)
			query++
		}
		order[field] = i
		if c.title == "" {
			hidden[field] = true
			continue
		}
		names[field] = c.title
		if len(overrides) > 0 {
			panel.OverrideByName(c.title, overrides)
		}
	}
	return panel.WithTransformation(dashboard.DataTransformerConfig{
		Id:      "organize",
		Options: map[string]any{"excludeByName": hidden, "indexByName": order, "renameByName": names},
	})
}

func sortBy(column string, descending bool) []cog.Builder[common.TableSortByFieldState] {
	return []cog.Builder[common.TableSortByFieldState]{
		common.NewTableSortByFieldStateBuilder().DisplayName(column).Desc(descending),
	}
}

// properties override the defaults of a panel for a column or a query.
type properties = []dashboard.DynamicConfigValue

func property(id string, value any) dashboard.DynamicConfigValue {
	return dashboard.DynamicConfigValue{Id: id, Value: value}
}

func unit(name string) dashboard.DynamicConfigValue    { return property("unit", name) }
func noValue(text string) dashboard.DynamicConfigValue { return property("noValue", text) }
func decimals(n int) dashboard.DynamicConfigValue      { return property("decimals", n) }
func width(pixels int) dashboard.DynamicConfigValue    { return property("custom.width", pixels) }
func minWidth(pixels int) dashboard.DynamicConfigValue { return property("custom.minWidth", pixels) }

func align(a common.FieldTextAlignment) dashboard.DynamicConfigValue {
	return property("custom.align", a)
}

func mapped(m dashboard.ValueMapping) dashboard.DynamicConfigValue {
	return property("mappings", []dashboard.ValueMapping{m})
}

// colorText colors the text of a cell by its mapping or thresholds.
func colorText() dashboard.DynamicConfigValue {
	return property("custom.cellOptions", common.NewTableColorTextCellOptions())
}

// coloredBy colors the text of a cell by thresholds.
func coloredBy(t thresholds) properties {
	return properties{property("thresholds", dashboard.ThresholdsConfig(t)), colorText()}
}

// byteBar shows bytes as a number and a bar.
func byteBar() properties {
	bar := common.NewTableBarGaugeCellOptions()
	bar.Mode = cog.ToPtr(common.BarGaugeDisplayModeBasic)
	return append(properties{
		unit("decbytes"),
		property("min", 0),
		property("custom.cellOptions", bar),
	}, colored("blue")...)
}

// colored draws a query in one color.
func colored(color string) properties {
	return properties{property("color", dashboard.FieldColor{Mode: dashboard.FieldColorModeIdFixed, FixedColor: &color})}
}

// unstacked draws a query over a stack, not on top of it.
func unstacked() properties {
	return properties{
		property("custom.stacking", common.StackingConfig{Mode: cog.ToPtr(common.StackingModeNone), Group: cog.ToPtr("A")}),
		property("custom.fillOpacity", 0),
	}
}

// dashed draws the lines of a query dashed.
func dashed() properties {
	return properties{
		property("custom.lineStyle", common.LineStyle{Fill: cog.ToPtr(common.LineStyleFillDash), Dash: []float64{10, 10}}),
	}
}

// thresholds are colors by value. They are the builder that the SDK's panels take.
type thresholds dashboard.ThresholdsConfig

func (t thresholds) Build() (dashboard.ThresholdsConfig, error) {
	return dashboard.ThresholdsConfig(t), nil
}

// steps returns thresholds: the color below all values, then that from each value on.
func steps(below string, rest ...dashboard.Threshold) thresholds {
	return thresholds{
		Mode:  dashboard.ThresholdsModeAbsolute,
		Steps: append([]dashboard.Threshold{{Color: below}}, rest...),
	}
}

func from(value float64, color string) dashboard.Threshold {
	return dashboard.Threshold{Value: &value, Color: color}
}

// freeRatio colors the free ratio of a disk as DockerDiskAlmostFull judges it.
func freeRatio(t alerts.Thresholds) thresholds {
	return steps("red", from(float64(t.Full), "orange"), from(float64(t.AlmostFull), "green"))
}

// timeLeft colors the time until a disk is full as DockerDiskFilling judges it.
func timeLeft(t alerts.Thresholds) thresholds {
	return steps("red", from(time.Duration(t.PageWithin).Seconds(), "orange"), from(time.Duration(t.FillingWithin).Seconds(), "green"))
}

// withFillingLines sets the range of a ratio, and draws a line below which
// DockerDiskFilling can fire as a warning, and one below which it can be critical.
func withFillingLines(panel *timeseries.PanelBuilder, t alerts.Thresholds) *timeseries.PanelBuilder {
	return panel.
		Max(1).
		ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeLine)).
		Thresholds(steps("transparent", from(float64(t.PageBelow), "red"), from(float64(t.FillingBelow), "orange")))
}

// valueMapping shows texts for values.
func valueMapping(options map[string]dashboard.ValueMappingResult) dashboard.ValueMapping {
	return dashboard.ValueMapping{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}
}

// mappedValue is the text for a value. An empty color leaves that of the cell.
func mappedValue(index int32, text, color string) dashboard.ValueMappingResult {
	result := dashboard.ValueMappingResult{Index: &index, Text: &text}
	if color != "" {
		result.Color = &color
	}
	return result
}

func yesNo() dashboard.ValueMapping {
	return valueMapping(map[string]dashboard.ValueMappingResult{
		"1": mappedValue(0, "yes", "green"),
		"0": mappedValue(1, "no", "red"),
	})
}

// exactness maps the values of docker_reclaimable_exact.
func exactness() dashboard.ValueMapping {
	return valueMapping(map[string]dashboard.ValueMappingResult{
		"1": mappedValue(0, "exactly", ""),
		"0": mappedValue(1, "about", ""),
	})
}

// overAYear maps the maximum of timeToFull.
func overAYear() dashboard.ValueMapping {
	return valueMapping(map[string]dashboard.ValueMappingResult{"31536000": mappedValue(0, "over a year", "green")})
}
