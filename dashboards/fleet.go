package dashboards

import (
	"fmt"

	"docker_buildup_exporter/alerts"
)

const (
	fleetUID = "docker-buildup-fleet"
	hostUID  = "docker-buildup-host"
	tag      = "docker-buildup"
)

// The command of which the fleet shows what it frees: the most that leaves volumes alone.
const cleanup = "docker system prune --all"

// The rules record the disks that the exporter knows, and those that only a
// node_exporter on the same host does. Without the rules there are the former.
const (
	recordedAvail = `instance_path:docker_filesystem_avail_bytes:min`
	recordedSize  = `instance_path:docker_filesystem_size_bytes:max`
	avail         = `(` + recordedAvail + ` or docker_filesystem_avail_bytes)`
	size          = `(` + recordedSize + ` or docker_filesystem_size_bytes)`
	free          = avail + ` / ` + size
)

// timeToFull is what is left at the pace of the long window of DockerDiskFilling. A disk
// that does not shrink has a pace of nearly nothing, and so more than a year.
func timeToFull() string {
	until := func(avail string) string {
		return `clamp_max(` + avail + ` / clamp_min(-deriv(` + avail + `[6h]), 1e-6), 31536000)`
	}
	return until(recordedAvail) + ` or ` + until(`docker_filesystem_avail_bytes`)
}

// What images are made of never changes, so its age says nothing.
const notLayers = `collector!="layers"`

// overAYear is how the most of timeToFull reads.
func overAYear() object {
	return says(map[string]object{"31536000": word(0, "over a year", "green")})
}

func fleet(t alerts.Thresholds) dashboard {
	variables := []variable{
		datasourceVariable(),
		labelVariable("job", "Job", "Scrape jobs of the exporters.", "docker_up", true),
		labelVariable("instance", "Instance", "Hosts to show.", `docker_up{job=~"$job"}`, true),
	}
	toHost := `/d/` + hostUID + `/` + hostUID + `?${datasource:queryparam}&var-job=${__data.fields["Job"]:percentencode}&var-instance=${__data.fields["Host"]:percentencode}&${__url_time_range}`
	// A host that is gone keeps its line for as long as it was there in the time shown.
	engines := `docker_up or last_over_time(docker_up[$__range]) * 0 - 1`
	upOrDown := says(map[string]object{"1": word(0, "up", "green"), "0": word(1, "down", "red"), "-1": word(2, "not scraped", "red")})
	exactness := says(map[string]object{"1": word(0, "exactly", ""), "0": word(1, "at least", "")})
	perHost := func(aggregation, expr string) string { return aggregation + ` by (job, instance) (` + expr + `)` }

	// ALERTS also of no host: that nothing is scraped at all is an alert of none.
	alerts := `ALERTS{alertname=~"Docker.*", alertstate="firing", job=~"$job|", instance=~"$instance|"}`

	rows := []row{
		{"Will a disk fill, and where?", []panel{
			stat("Least free", fmt.Sprintf("The fullest disk under an engine: what share of it is free. Orange below %s and red below %s, where DockerDiskAlmostFull is a ticket and a page.", t.AlmostFull.Percent(), t.Full.Percent()),
				"percentunit", now(`bottomk(1, `+free+`)`, "{{instance}} {{path}}")).
				named().decimals(1).colored(freeShare(t)).size(6, 7),
			stat("Full soonest", fmt.Sprintf("The disk that is full first if it goes on as in the last 6 hours. Orange within %s and red within %s, the forecasts of DockerDiskFilling; the alert also looks at how much is free and whether it still shrinks.", t.FillingWithin, t.PageWithin),
				"s", now(`bottomk(1, `+timeToFull()+`)`, "{{instance}} {{path}}")).
				named().decimals(1).colored(timeLeft(t)).mapped(overAYear()).size(6, 7),
			stat("Reclaimable in all", `Bytes that "`+cleanup+`" would free if it were run on every host now: stopped containers, all images that nothing runs, build cache. Volumes stay. At least, where a host's figure is a lower bound; without the hosts whose figure is unknown.`,
				"decbytes", now(`sum(docker_reclaimable_bytes{command="`+cleanup+`"})`, "")).
				size(4, 7),
			stat("Seen", "Exporters that were scraped in the time shown; that are scraped; and of how many of these the engine answers, the disk is known, and what can be reclaimed. Fewer than the first number means that something is not seen.",
				"short",
				now(`count(last_over_time(docker_up[$__range]))`, "exporters"),
				now(`count(docker_up)`, "scraped"),
				now(`sum(docker_up)`, "engines up"),
				now(`count(count by (job, instance) (`+size+`))`, "disks known"),
				now(`count(docker_reclaimable_bytes{command="`+cleanup+`"})`, "reclaimable known")).
				named().decimals(0).size(8, 7),
			table("Firing alerts", "Alerts on Docker that fire now. What each means and what to do stands in the runbook, alerts/README.md.",
				"short",
				column{title: "Host", label: "instance", properties: []property{{"links", []dataLink{{Title: "Open this host", URL: toHost}}}}},
				column{title: "Job", label: "job"},
				column{title: "Alert", label: "alertname"},
				column{title: "Severity", label: "severity"},
				column{title: "", expr: `max by (job, instance, alertname, severity) (` + alerts + `)`}).
				ifNone("None fires, or no rules are loaded.").sortedBy("Severity", false).size(24, 6),
		}},
		{"Hosts", []panel{
			table("Hosts", "A line for each host that was scraped in the time shown; its name leads to its own page. Full in: at the pace of the last 6 hours. What \""+cleanup+"\" frees leaves volumes alone. Unused: images that no container uses. Age: of the oldest figure that can change.",
				"short",
				column{title: "Host", label: "instance", properties: []property{
					{"links", []dataLink{{Title: "Open this host", URL: toHost}}},
					{"custom.minWidth", 180},
				}},
				column{title: "Job", label: "job"},
				column{title: "Engine", expr: perHost("max", engines), properties: []property{
					isMapped(upOrDown),
					{"custom.cellOptions", object{"type": "color-text"}},
				}},
				column{title: "Free", expr: perHost("min", free), properties: append(isColored(freeShare(t)), isUnit("percentunit"), property{"decimals", 1})},
				column{title: "Free bytes", expr: perHost("min", avail), properties: []property{isUnit("decbytes")}},
				column{title: "Full in", expr: perHost("min", timeToFull()), properties: append(isColored(timeLeft(t)), isUnit("s"), isMapped(overAYear()), property{"decimals", 1})},
				column{title: "A prune frees", expr: perHost("max", `docker_reclaimable_exact{command="`+cleanup+`"}`), properties: []property{isMapped(exactness), {"custom.align", "right"}}},
				column{title: cleanup, expr: perHost("max", `docker_reclaimable_bytes{command="`+cleanup+`"}`), properties: []property{isUnit("decbytes"), {"custom.align", "left"}}},
				column{title: "Tagged", expr: perHost("max", `docker_images_tagged`)},
				column{title: "Untagged", expr: perHost("max", `docker_images_untagged`)},
				column{title: "Dangling", expr: perHost("max", `docker_images_dangling`)},
				column{title: "Unused", expr: perHost("max", `docker_images{use="none"}`)},
				column{title: "Stopped containers", expr: perHost("sum", `docker_containers_stopped`)},
				column{title: "Build cache", expr: perHost("max", `docker_disk_usage_bytes{resource="build_cache"}`), properties: []property{isUnit("decbytes")}},
				column{title: "Age", expr: perHost("max", `time() - docker_scrape_collector_last_success_timestamp_seconds{`+notLayers+`}`), properties: []property{isUnit("s"), {"decimals", 0}}},
			).sortedBy("Free", false).size(24, 12),
		}},
		{"Trend", []panel{
			lines("Free share", fmt.Sprintf("What share of each disk is free. Below %s a forecast of %s can fire DockerDiskFilling as a ticket, below %s one of %s as a page: the two lines.", t.FillingBelow.Percent(), t.FillingWithin, t.PageBelow.Percent(), t.PageWithin),
				"percentunit", over(free, "{{instance}} {{path}}")).
				share().crossed(t).size(12, 9),
			lines("Reclaimable", `What "`+cleanup+`" would free on each host. A saw's teeth are cleanups at work; a line that only rises has none.`,
				"decbytes", over(`docker_reclaimable_bytes{command="`+cleanup+`"}`, "{{instance}}")).
				size(12, 9),
			lines("Images that no container uses", "Old releases and builds that moved on, on each host.",
				"short", over(`docker_images{use="none"}`, "{{instance}}")).
				decimals(0).size(12, 9),
			lines("Stopped containers", "Created, exited or dead: each holds its image, its logs and what it wrote.",
				"short", over(perHost("sum", `docker_containers_stopped`), "{{instance}}")).
				decimals(0).size(12, 9),
		}},
	}
	link := pageLink{Title: "Docker buildup", Type: "dashboards", Icon: "external link", Tags: []string{tag}, KeepTime: true}
	return build(fleetUID, "Docker buildup / Fleet", "Which Docker host's disk fills, and what has piled up on each.",
		`job=~"$job", instance=~"$instance"`, alerts, variables, link, rows)
}
