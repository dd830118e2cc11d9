package main

import (
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"docker_buildup_exporter/alerts"
	"docker_buildup_exporter/collector/prune"
)

const (
	fleetUID = "docker-buildup-fleet"
	hostUID  = "docker-buildup-host"
	tag      = "docker-buildup"
)

// cleanup is the command whose result the fleet shows: it removes the most without
// removing volumes.
const cleanup = "docker system prune --all"

// The alert rules record the disks that the exporter measures, and those that only a
// node_exporter on the same host measures. Without the rules only the former exist.
const (
	recordedAvail = `instance_path:docker_filesystem_avail_bytes:min`
	recordedRatio = `instance_path:docker_filesystem_avail:ratio`
	avail         = `(` + recordedAvail + ` or docker_filesystem_avail_bytes)`
	size          = `(instance_path:docker_filesystem_size_bytes:max or docker_filesystem_size_bytes)`
	free          = `(` + recordedRatio + ` or docker_filesystem_avail_bytes / docker_filesystem_size_bytes)`
)

// timeToFull is the time until a disk is full at the rate of DockerDiskFilling's long
// window. It is limited to a year, which is also the value of a disk that does not fill.
// Without the rules the rate is that between two values, because reading all values of a
// window is expensive for a fleet.
const timeToFull = recordedTimeToFull +
	` or clamp_max(docker_filesystem_avail_bytes * 21600 / clamp_min(docker_filesystem_avail_bytes offset 6h - docker_filesystem_avail_bytes, 1e-3), 31536000)`

const recordedTimeToFull = `clamp_max(` + recordedRatio + ` / clamp_min(-instance_path:docker_filesystem_avail:ratio_deriv6h, 1e-15), 31536000)`

// exporters are the exporters that were scraped within the window of DockerExporterDown, if
// the rules are loaded, and those that are scraped now.
const exporters = `docker_up or last_over_time(instance:docker_up:max1h[7d])`

// notLayers leaves out a collector whose data does not change and so does not age.
const notLayers = `collector!="layers"`

// A fleet can have ten thousand hosts. Tables and graphs show this many.
const (
	hostsInTable  = 100
	alertsInTable = 100
	hostsInTrend  = 20
)

// fleetAlerts returns the firing alerts of the selected hosts. The empty alternatives keep
// alerts without a host, such as DockerExporterAbsent.
func fleetAlerts(more string) string {
	return `ALERTS{alertname=~"Docker.*", alertstate="firing", job=~"$job|", instance=~"$instance|"` + more + `}`
}

// only selects the instances of a variable.
func only(variable, expr string) string {
	return matchers(`instance=~"$` + variable + `"`).addTo(expr)
}

func fleet(t alerts.Thresholds) page {
	const selected matchers = `job=~"$job", instance=~"$instance"`
	p := page{
		uid:         fleetUID,
		title:       "Docker buildup / Fleet",
		description: "Which disks of Docker hosts fill up, and what has accumulated on each host.",
		hosts:       selected,
		annotations: annotationQueries(false, "15m",
			fmt.Sprintf(`topk(%d, %s)`, hostsInTrend, fleetAlerts(`, severity="critical"`)),
			fmt.Sprintf(`topk(%d, %s)`, hostsInTrend, selected.addTo(only("reclaimable", `docker_last_prune_timestamp_seconds`)))),
		variables: []dashboard.VariableModel{
			datasourceVariable(),
			multiple(labelVariable("job", "Job", "Scrape jobs of the exporters.", "docker_up")),
			multiple(labelVariable("instance", "Instance", "Hosts to show.", `docker_up{job=~"$job"}`)),
			// Hosts whose disk is unknown come last.
			instancesVariable("listed", "Listed hosts", "Hosts in the table: those with the fullest disks.",
				fmt.Sprintf(`bottomk(%d, min by (instance) (%s))`, hostsInTable, selected.addTo(free+` or (`+exporters+`) * 0 + 2`))),
		},
		links: []dashboard.DashboardLink{{
			Title: "Docker buildup", Type: dashboard.DashboardLinkTypeDashboards, Icon: "external link",
			Tags: []string{tag}, KeepTime: true,
		}},
	}
	trends := row{title: "Trend"}
	for _, one := range fleetTrends(t) {
		p.variables = append(p.variables, one.hosts(selected))
		trends.panels = append(trends.panels, one.panel())
	}
	p.rows = []row{forecasts(t), hosts(t), trends}
	return p
}

func forecasts(t alerts.Thresholds) row {
	return row{"Disk forecast", panels{
		statPanel("Fullest disk",
			fmt.Sprintf("Free space ratio of the fullest disk that holds Docker data. Orange below %s and red below %s, the warning and critical thresholds of DockerDiskAlmostFull.", t.AlmostFull.Percent(), t.Full.Percent()),
			"percentunit", instantQuery(`bottomk(1, `+only("listed", free)+`)`, "{{instance}} {{path}}")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(1).Thresholds(freeRatio(t)).Span(6).Height(7),
		statPanel("First disk to fill",
			fmt.Sprintf("Time until the first disk is full at the rate of the last 6 hours. Unknown without the alert rules, which record that rate. Orange within %s and red within %s, the forecasts of DockerDiskFilling. That alert also requires that little space is free and that it still decreases.", t.FillingWithin, t.PageWithin),
			"s", instantQuery(`bottomk(1, `+recordedTimeToFull+`)`, "{{instance}} {{path}}")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(1).Thresholds(timeLeft(t)).
			Mappings([]dashboard.ValueMapping{overAYear()}).Span(6).Height(7),
		statPanel("Reclaimable",
			`Bytes that "`+cleanup+`" would free on all hosts together: stopped containers, unused images and build cache, but no volumes. If the value of any host is a minimum, so is the sum. Hosts with an unknown value are not included.`,
			"decbytes", instantQuery(`sum(docker_reclaimable_bytes{command="`+cleanup+`"})`, "")).
			Span(4).Height(7),
		statPanel("Coverage",
			"Exporters that were scraped within a week, if the alert rules are loaded; exporters that are scraped now; of these, the engines that are up, the hosts whose disk is known and the hosts whose reclaimable bytes are known. Each number below the first one means that something is not monitored.",
			"short",
			instantQuery(`count(`+exporters+`)`, "exporters"),
			instantQuery(`count(docker_up)`, "scraped"),
			instantQuery(`sum(docker_up)`, "engines up"),
			instantQuery(`count(count by (job, instance) (`+size+`))`, "disks known"),
			instantQuery(`count(docker_reclaimable_bytes{command="`+cleanup+`"})`, "reclaimable known")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(0).Span(8).Height(7),
		tablePanel("Firing alerts",
			fmt.Sprintf("Docker alerts that are firing, at most %d, critical ones first. The runbook explains each alert and what to do.", alertsInTable),
			column{title: "Host", label: "instance", properties: properties{hostLinks()}},
			column{title: "Job", label: "job"},
			column{title: "Alert", label: "alertname", properties: properties{cellLinks("Runbook", `http://${__data.fields["Host"]}/runbook`)}},
			column{title: "Severity", label: "severity"},
			column{expr: fmt.Sprintf(`topk(%d, max by (job, instance, alertname, severity) (%s + 2 or %s + 1 or %s))`, alertsInTable,
				fleetAlerts(`, severity="critical"`), fleetAlerts(`, severity="warning"`), fleetAlerts(""))}).
			NoValue("None is firing, or no rules are loaded.").SortBy(sortBy("Severity", false)).Span(24).Height(6),
	}}
}

func hosts(t alerts.Thresholds) row {
	perHost := func(aggregation, expr string) string {
		return aggregation + ` by (job, instance) (` + only("listed", expr) + `)`
	}
	// A host that disappeared keeps its row for a week.
	engines := `docker_up or (` + exporters + `) * 0 - 1`
	engineState := valueMapping(map[string]dashboard.ValueMappingResult{
		"1":  mappedValue(0, "up", "green"),
		"0":  mappedValue(1, "down", "red"),
		"-1": mappedValue(2, "not scraped", "red"),
	})
	return row{"Hosts", panels{
		tablePanel("Hosts",
			fmt.Sprintf("The %d hosts with the fullest disks, and hosts whose disk is unknown; with the alert rules loaded, also those that were last scraped within a week. Select others with Instance. The name of a host links to its dashboard and to the page of its exporter. Full in: at the rate of the last 6 hours. Best command: the safest one after which %s of the fullest disk is free; if none is enough, the one that frees most. No command in this table removes volumes. Unused: images without a container. Age: of the oldest metrics, except those of layers, which never change.", hostsInTable, t.PageBelow.Percent()),
			column{title: "Host", label: "instance", properties: properties{hostLinks(), minWidth(180)}},
			column{title: "Job", label: "job"},
			column{title: "Engine", expr: perHost("max", engines), properties: properties{mapped(engineState), colorText()}},
			column{title: "Free", expr: perHost("min", free), properties: append(coloredBy(freeRatio(t)), unit("percentunit"), decimals(1))},
			column{title: "Free bytes", expr: perHost("min", avail), properties: properties{unit("decbytes")}},
			column{title: "Full in", expr: perHost("min", timeToFull), properties: append(coloredBy(timeLeft(t)), unit("s"), mapped(overAYear()), decimals(1))},
			column{title: "Best command", label: "command", properties: properties{minWidth(280)}},
			column{title: "Frees", expr: only("listed", bestCommand(t)), properties: properties{unit("decbytes")}},
			column{title: "Reclaimable", expr: perHost("max", `docker_reclaimable_exact{command="`+cleanup+`"}`), properties: properties{mapped(exactness()), align(common.FieldTextAlignmentRight)}},
			column{title: cleanup, expr: perHost("max", `docker_reclaimable_bytes{command="`+cleanup+`"}`), properties: properties{unit("decbytes"), align(common.FieldTextAlignmentLeft)}},
			column{title: "Tagged", expr: perHost("max", `docker_images_tagged`)},
			column{title: "Untagged", expr: perHost("max", `docker_images_untagged`)},
			column{title: "Dangling", expr: perHost("max", `docker_images_dangling`)},
			column{title: "Unused", expr: perHost("max", `docker_images{use="none"}`)},
			column{title: "Stopped containers", expr: perHost("sum", `docker_containers_stopped`)},
			column{title: "Build cache", expr: perHost("max", `docker_disk_usage_bytes{resource="build_cache"}`), properties: properties{unit("decbytes")}},
			column{title: "Age", expr: perHost("max", `time() - docker_scrape_collector_last_success_timestamp_seconds{`+notLayers+`}`), properties: properties{unit("s"), decimals(0)}},
		).SortBy(sortBy("Free", false)).Span(24).Height(12),
	}}
}

// A trend is a graph of the hosts with the largest or smallest values. They are chosen at the
// end of the time range, by a hidden variable: topk alone would choose them at each step, so
// that many lines would come and go, and Prometheus would read the history of all hosts.
type trend struct {
	variable, title, description, unit string
	choose, by                         string // topk and max, or bottomk and min
	among                              string // variable with the hosts to choose from, or ""
	expr                               string // one series for each host
	configure                          func(*timeseries.PanelBuilder) *timeseries.PanelBuilder
}

func (t trend) hosts(m matchers) dashboard.VariableModel {
	expr := t.expr
	if t.among != "" {
		expr = only(t.among, expr)
	}
	return instancesVariable(t.variable, t.title, fmt.Sprintf("Hosts in this graph: the first %d.", hostsInTrend),
		fmt.Sprintf(`%s(%d, %s by (instance) (%s))`, t.choose, hostsInTrend, t.by, m.addTo(expr)))
}

func (t trend) panel() *timeseries.PanelBuilder {
	expr := fmt.Sprintf(`%s(%d, %s)`, t.choose, hostsInTrend, only(t.variable, t.expr))
	return t.configure(linePanel(t.title, t.description, t.unit, rangeQuery(expr, "{{instance}}"))).Span(12).Height(9)
}

func fleetTrends(t alerts.Thresholds) []trend {
	count := func(p *timeseries.PanelBuilder) *timeseries.PanelBuilder { return p.Decimals(0) }
	first := fmt.Sprintf("%d hosts", hostsInTrend)
	return []trend{
		{
			"fullest", "Free space ratio",
			fmt.Sprintf("Free space ratio of the fullest disk of each of the %s with the fullest disks at the end of the time range. The lines are thresholds of DockerDiskFilling: it is a warning only below %s and if the disk is full within %s, and critical only below %s and if the disk is full within %s.", first, t.FillingBelow.Percent(), t.FillingWithin, t.PageBelow.Percent(), t.PageWithin),
			"percentunit", "bottomk", "min", "listed", `min by (job, instance) (` + free + `)`,
			func(p *timeseries.PanelBuilder) *timeseries.PanelBuilder { return withFillingLines(p, t) },
		},
		{
			"reclaimable", "Reclaimable by host",
			`Bytes that "` + cleanup + `" would free on each of the ` + first + ` on which it would free most at the end of the time range. A drop is a cleanup. A line that only rises belongs to a host without cleanups.`,
			"decbytes", "topk", "max", "", `docker_reclaimable_bytes{command="` + cleanup + `"}`,
			func(p *timeseries.PanelBuilder) *timeseries.PanelBuilder { return p },
		},
		{
			"unused", "Unused images",
			"Images without a container, old releases and replaced builds, on each of the " + first + " with most of them at the end of the time range.",
			"short", "topk", "max", "", `docker_images{use="none"}`, count,
		},
		{
			"stopped", "Stopped containers",
			"Created, exited or dead containers on each of the " + first + " with most of them at the end of the time range. Each container keeps its image, its logs and its writable layer.",
			"short", "topk", "max", "", `sum by (job, instance) (docker_containers{state=~"created|exited|dead"})`, count,
		},
	}
}

// bestCommand is the command to run on each listed host, with the bytes that it would free:
// the safest one after which no alert on the fullest disk is critical. If no command is
// enough, it is the one that frees most. No command removes volumes.
func bestCommand(t alerts.Thresholds) string {
	safestFirst := prune.SafestFirst()
	const frees = `docker_reclaimable_bytes{command!~".*volume.*"}`
	var safety []string
	for i, command := range safestFirst {
		safety = append(safety, fmt.Sprintf(`docker_reclaimable_bytes{command="%s"} * 0 + %d`, command, len(safestFirst)-i))
	}
	missing := fmt.Sprintf(`max by (job, instance) (%g * %s - %s)`, t.PageBelow, size, avail)
	// The second part is below 1, and so below the first.
	score := `(` + strings.Join(safety, ` or `) + `) and on (job, instance, command) (` + frees + ` > 0 > on (job, instance) group_left () ` + missing + `)` +
		` or (` + frees + ` > 0) * 1e-20`
	return `max by (job, instance, command) (` + frees + ` and on (job, instance, command) topk by (job, instance) (1, ` + score + `))`
}

// hostLinks link a cell to the dashboard of the host in its row, and to the exporter there.
func hostLinks() dashboard.DynamicConfigValue {
	return cellLinks(
		"Dashboard of this host", `/d/`+hostUID+`/`+hostUID+`?${datasource:queryparam}`+
			`&var-job=${__data.fields["Job"]:percentencode}&var-instance=${__data.fields["Host"]:percentencode}&${__url_time_range}`,
		"Page of the exporter: names and commands", `http://${__data.fields["Host"]}/`,
	)
}

// cellLinks returns links of a cell. Pairs are titles and addresses.
func cellLinks(pairs ...string) dashboard.DynamicConfigValue {
	var links []dashboard.DashboardLink
	for i := 0; i < len(pairs); i += 2 {
		links = append(links, dashboard.DashboardLink{Title: pairs[i], Type: dashboard.DashboardLinkTypeLink, Url: &pairs[i+1], Tags: []string{}})
	}
	return property("links", links)
}
