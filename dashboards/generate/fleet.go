package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"docker_buildup_exporter/alerts"
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
	recordedSize  = `instance_path:docker_filesystem_size_bytes:max`
	avail         = `(` + recordedAvail + ` or docker_filesystem_avail_bytes)`
	size          = `(` + recordedSize + ` or docker_filesystem_size_bytes)`
	free          = avail + ` / ` + size
)

// fleetAlerts are the firing alerts of the selected hosts. The empty alternatives keep
// alerts without a host, such as DockerExporterAbsent.
const fleetAlerts = `ALERTS{alertname=~"Docker.*", alertstate="firing", job=~"$job|", instance=~"$instance|"}`

// notLayers leaves out a collector whose data does not change and so does not age.
const notLayers = `collector!="layers"`

// timeToFull is the time until a disk is full at the rate of DockerDiskFilling's long
// window. It is limited to a year, which is also the value of a disk that does not fill.
func timeToFull() string {
	until := func(avail string) string {
		return `clamp_max(` + avail + ` / clamp_min(-deriv(` + avail + `[6h]), 1e-6), 31536000)`
	}
	return until(recordedAvail) + ` or ` + until(`docker_filesystem_avail_bytes`)
}

func fleet(t alerts.Thresholds) page {
	return page{
		uid:         fleetUID,
		title:       "Docker buildup / Fleet",
		description: "Which disks of Docker hosts fill up, and what has accumulated on each host.",
		hosts:       `job=~"$job", instance=~"$instance"`,
		alerts:      fleetAlerts,
		variables: []dashboard.VariableModel{
			datasourceVariable(),
			multiple(labelVariable("job", "Job", "Scrape jobs of the exporters.", "docker_up")),
			multiple(labelVariable("instance", "Instance", "Hosts to show.", `docker_up{job=~"$job"}`)),
		},
		link: dashboard.DashboardLink{
			Title: "Docker buildup", Type: dashboard.DashboardLinkTypeDashboards, Icon: "external link",
			Tags: []string{tag}, KeepTime: true,
		},
		rows: []row{forecasts(t), hosts(t), trends(t)},
	}
}

func forecasts(t alerts.Thresholds) row {
	return row{"Disk forecast", panels{
		statPanel("Fullest disk",
			fmt.Sprintf("Free space ratio of the fullest disk that holds Docker data. Orange below %s and red below %s, the warning and critical thresholds of DockerDiskAlmostFull.", t.AlmostFull.Percent(), t.Full.Percent()),
			"percentunit", instantQuery(`bottomk(1, `+free+`)`, "{{instance}} {{path}}")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(1).Thresholds(freeRatio(t)).Span(6).Height(7),
		statPanel("First disk to fill",
			fmt.Sprintf("Time until the first disk is full at the rate of the last 6 hours. Orange within %s and red within %s, the forecasts of DockerDiskFilling. That alert also requires that little space is free and that it still decreases.", t.FillingWithin, t.PageWithin),
			"s", instantQuery(`bottomk(1, `+timeToFull()+`)`, "{{instance}} {{path}}")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(1).Thresholds(timeLeft(t)).
			Mappings([]dashboard.ValueMapping{overAYear()}).Span(6).Height(7),
		statPanel("Reclaimable",
			`Bytes that "`+cleanup+`" would free on all hosts together: stopped containers, unused images and build cache, but no volumes. If the value of any host is a minimum, so is the sum. Hosts with an unknown value are not included.`,
			"decbytes", instantQuery(`sum(docker_reclaimable_bytes{command="`+cleanup+`"})`, "")).
			Span(4).Height(7),
		statPanel("Coverage",
			"Exporters that were scraped in the selected time range; exporters that are scraped now; of these, the engines that are up, the hosts whose disk is known and the hosts whose reclaimable bytes are known. Each number below the first one means that something is not monitored.",
			"short",
			instantQuery(`count(last_over_time(docker_up[$__range]))`, "exporters"),
			instantQuery(`count(docker_up)`, "scraped"),
			instantQuery(`sum(docker_up)`, "engines up"),
			instantQuery(`count(count by (job, instance) (`+size+`))`, "disks known"),
			instantQuery(`count(docker_reclaimable_bytes{command="`+cleanup+`"})`, "reclaimable known")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(0).Span(8).Height(7),
		tablePanel("Firing alerts",
			"Docker alerts that are firing. For their meaning and what to do, see the runbook, alerts/README.md.",
			column{title: "Host", label: "instance", properties: properties{linkToHost()}},
			column{title: "Job", label: "job"},
			column{title: "Alert", label: "alertname"},
			column{title: "Severity", label: "severity"},
			column{expr: `max by (job, instance, alertname, severity) (` + fleetAlerts + `)`}).
			NoValue("None is firing, or no rules are loaded.").SortBy(sortBy("Severity", false)).Span(24).Height(6),
	}}
}

func hosts(t alerts.Thresholds) row {
	perHost := func(aggregation, expr string) string { return aggregation + ` by (job, instance) (` + expr + `)` }
	// A host that disappeared keeps its row while the selected time range includes it.
	engines := `docker_up or last_over_time(docker_up[$__range]) * 0 - 1`
	engineState := valueMapping(map[string]dashboard.ValueMappingResult{
		"1":  mappedValue(0, "up", "green"),
		"0":  mappedValue(1, "down", "red"),
		"-1": mappedValue(2, "not scraped", "red"),
	})
	return row{"Hosts", panels{
		tablePanel("Hosts",
			`One row for each host that was scraped in the selected time range. The name of a host links to its dashboard. Full in: at the rate of the last 6 hours. Reclaimable: bytes that "`+cleanup+`" would free; it removes no volumes. Unused: images without a container. Age: of the oldest metrics, except those of layers, which never change.`,
			column{title: "Host", label: "instance", properties: properties{linkToHost(), minWidth(180)}},
			column{title: "Job", label: "job"},
			column{title: "Engine", expr: perHost("max", engines), properties: properties{mapped(engineState), colorText()}},
			column{title: "Free", expr: perHost("min", free), properties: append(coloredBy(freeRatio(t)), unit("percentunit"), decimals(1))},
			column{title: "Free bytes", expr: perHost("min", avail), properties: properties{unit("decbytes")}},
			column{title: "Full in", expr: perHost("min", timeToFull()), properties: append(coloredBy(timeLeft(t)), unit("s"), mapped(overAYear()), decimals(1))},
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

func trends(t alerts.Thresholds) row {
	return row{"Trend", panels{
		withFillingLines(linePanel("Free space ratio",
			fmt.Sprintf("Free space ratio of each disk. The lines are thresholds of DockerDiskFilling: it is a warning only below %s and if the disk is full within %s, and critical only below %s and if the disk is full within %s.", t.FillingBelow.Percent(), t.FillingWithin, t.PageBelow.Percent(), t.PageWithin),
			"percentunit", rangeQuery(free, "{{instance}} {{path}}")), t).
			Span(12).Height(9),
		linePanel("Reclaimable by host",
			`Bytes that "`+cleanup+`" would free on each host. A drop is a cleanup. A line that only rises belongs to a host without cleanups.`,
			"decbytes", rangeQuery(`docker_reclaimable_bytes{command="`+cleanup+`"}`, "{{instance}}")).
			Span(12).Height(9),
		linePanel("Unused images",
			"Images without a container on each host: old releases and replaced builds.",
			"short", rangeQuery(`docker_images{use="none"}`, "{{instance}}")).
			Decimals(0).Span(12).Height(9),
		linePanel("Stopped containers",
			"Created, exited or dead containers on each host. Each of them keeps its image, its logs and its writable layer.",
			"short", rangeQuery(`sum by (job, instance) (docker_containers_stopped)`, "{{instance}}")).
			Decimals(0).Span(12).Height(9),
	}}
}

// linkToHost links a cell to the dashboard of the host in its row.
func linkToHost() dashboard.DynamicConfigValue {
	url := `/d/` + hostUID + `/` + hostUID + `?${datasource:queryparam}` +
		`&var-job=${__data.fields["Job"]:percentencode}&var-instance=${__data.fields["Host"]:percentencode}&${__url_time_range}`
	return property("links", []dashboard.DashboardLink{
		{Title: "Open this host", Type: dashboard.DashboardLinkTypeLink, Url: &url, Tags: []string{}},
	})
}
