package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"docker_buildup_exporter/alerts"
)

const (
	age = `time() - docker_scrape_collector_last_success_timestamp_seconds`

	// maxAge is the age above which DockerCollectionStale fires.
	maxAge = `900 + 200 * docker_scrape_collector_duration_seconds`

	freeInodes = `docker_filesystem_files_free / (docker_filesystem_files > 0)`
)

func host(t alerts.Thresholds) page {
	return page{
		uid:         hostUID,
		title:       "Docker buildup / Host",
		description: "What has accumulated on a Docker host, which commands remove it, and when the disk is full.",
		hosts:       `job="$job", instance="$instance"`,
		annotations: annotationQueries(true, "5m",
			`ALERTS{alertname=~"Docker.*", alertstate="firing", job="$job", instance="$instance"}`,
			`docker_last_prune_timestamp_seconds{job="$job", instance="$instance"}`),
		variables: []dashboard.VariableModel{
			datasourceVariable(),
			labelVariable("job", "Job", "Scrape job of the exporter.", "docker_up"),
			labelVariable("instance", "Instance", "Host to show.", `docker_up{job="$job"}`),
		},
		links: []dashboard.DashboardLink{
			{
				Title: "Fleet", Type: dashboard.DashboardLinkTypeLink, Icon: "external link", Tags: []string{},
				Url: cog.ToPtr("/d/" + fleetUID + "/" + fleetUID + "?${datasource:queryparam}"), KeepTime: true,
			},
			exporterLink("Page of the exporter", "/", "Names of what holds the disk, and commands"),
			exporterLink("Runbook", "/runbook", "What each alert means, and what to do"),
		},
		rows: []row{disk(t), cleanups(), images(), containers(), buildCacheAndVolumes(), exporter()},
	}
}

func disk(t alerts.Thresholds) row {
	forecast := fmt.Sprintf(`clamp_min(predict_linear(%[1]s[6h], %[3]s) or predict_linear(%[2]s[6h], %[3]s), 0)`,
		recordedAvail, `docker_filesystem_avail_bytes`, t.FillingWithin.Seconds())
	return row{"Disk", panels{
		sparklinePanel("Free",
			fmt.Sprintf("Free space ratio of the file system that holds Docker data. Orange below %s and red below %s, the warning and critical thresholds of DockerDiskAlmostFull.", t.AlmostFull.Percent(), t.Full.Percent()),
			"percentunit", rangeQuery(existing(free), "{{path}}")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(1).Thresholds(freeRatio(t)).Span(6).Height(5),
		statPanel("Full in",
			fmt.Sprintf("Time until the disk is full at the rate of the last 6 hours. Orange within %s and red within %s, the forecasts of DockerDiskFilling.", t.FillingWithin, t.PageWithin),
			"s", instantQuery(timeToFull, "{{path}}")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(1).Thresholds(timeLeft(t)).
			Mappings([]dashboard.ValueMapping{overAYear()}).Span(6).Height(5),
		sparklinePanel("Free bytes",
			"Bytes available to non-root users, and the size of the file system.",
			"decbytes", rangeQuery(existing(avail), "free in {{path}}"), rangeQuery(existing(size), "size of {{path}}")).
			TextMode(common.BigValueTextModeValueAndName).Span(6).Height(5),
		sparklinePanel("Free inodes",
			fmt.Sprintf("Ratio of free inodes. Many small files can use up the inodes of a disk before its bytes. Orange below %s and red below %s. Unknown if the file system has no fixed number of inodes.", t.AlmostFull.Percent(), t.Full.Percent()),
			"percentunit", rangeQuery(existing(freeInodes), "{{path}}")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(1).Thresholds(freeRatio(t)).Span(6).Height(5),
		linePanel("Free bytes and forecast",
			fmt.Sprintf("Free bytes and, dashed, the bytes that will be free %[1]s later at the rate of the 6 hours before. A dashed line at zero means that the disk will be full within %[1]s.", t.FillingWithin),
			"decbytes", rangeQuery(avail, "{{path}}"), rangeQuery(forecast, "{{path}} in "+t.FillingWithin.String())).
			OverrideByQuery("B", dashed()).Span(12).Height(9),
		withFillingLines(linePanel("Free space and inodes",
			fmt.Sprintf("Ratio of free bytes and, dashed, of free inodes. The lines are thresholds of DockerDiskFilling: it is a warning only below %s and if the disk is full within %s, and critical only below %s and if the disk is full within %s.", t.FillingBelow.Percent(), t.FillingWithin, t.PageBelow.Percent(), t.PageWithin),
			"percentunit", rangeQuery(free, "{{path}}"), rangeQuery(freeInodes, "{{path}} inodes")), t).
			OverrideByQuery("B", dashed()).Span(12).Height(9),
		stackedPanel("What fills the disk",
			"Everything on the disk, stacked up to its size (dashed): images with each layer counted once, writable layers of containers, volumes, build cache that no image shares, logs of containers and leftovers where the exporter can read them; other: files that are not Docker's, space that the file system reserves, and resources that are unknown; free space. If several file systems hold Docker data, their sizes and all but the free space are added up. The stack is higher than the disk where files use less space than their length: sparse or compressed ones. Not comparable between image stores.",
			"decbytes",
			rangeQuery(`docker_disk_usage_bytes`, "{{resource}}"),
			rangeQuery(`clamp_min(sum(`+size+`) - sum(`+avail+`) - (sum(docker_disk_usage_bytes) or sum(`+size+`) * 0), 0)`, "other"),
			rangeQuery(avail, "free in {{path}}"),
			rangeQuery(`sum(`+size+`)`, "size")).
			OverrideByQuery("B", colored("gray")).
			OverrideByQuery("C", colored("transparent")).
			OverrideByQuery("D", append(append(dashed(), unstacked()...), colored("text")...)).Span(24).Height(10),
	}}
}

// exporterLink returns a link to a page of the exporter on the host.
func exporterLink(title, path, tooltip string) dashboard.DashboardLink {
	return dashboard.DashboardLink{
		Title: title, Type: dashboard.DashboardLinkTypeLink, Icon: "external link", Tooltip: tooltip, Tags: []string{},
		Url: cog.ToPtr("http://$instance" + path), TargetBlank: true,
	}
}

func cleanups() row {
	commandsWithVolumes := dashboard.ValueMapping{RegexMap: &dashboard.RegexMap{
		Type: dashboard.MappingTypeRegexToText,
		Options: dashboard.DashboardRegexMapOptions{
			Pattern: "/.*volume.*/",
			Result:  dashboard.ValueMappingResult{Color: cog.ToPtr("red"), Index: cog.ToPtr(int32(0))},
		},
	}}
	return row{"Cleanup", panels{
		tablePanel("Cleanup commands",
			"Bytes that each command would free if run alone now, largest first. Values of different commands overlap and must not be summed. Commands in red remove volumes, which can hold the only copy of data.",
			column{title: "Command", label: "command", properties: properties{mapped(commandsWithVolumes), colorText(), minWidth(280)}},
			column{title: "Frees", expr: `max by (command) (docker_reclaimable_exact)`, properties: properties{mapped(exactness()), width(90)}},
			column{title: "Bytes", expr: `max by (command) (docker_reclaimable_bytes)`, properties: byteBar()},
			column{title: "At least", expr: `max by (command) (docker_reclaimable_min_bytes)`, properties: properties{unit("decbytes"), width(110)}},
		).SortBy(sortBy("Bytes", true)).Span(12).Height(11),
		linePanel("Reclaimable by command",
			"Bytes that each command would free, over time. Values of different commands overlap and must not be summed.",
			"decbytes", rangeQuery(`docker_reclaimable_bytes`, "{{command}}")).
			Span(12).Height(11),
		statPanel("Last prune",
			"Time since the last observed prune, regardless of who ran it.",
			"s", instantQuery(`time() - docker_last_prune_timestamp_seconds`, "{{resource}}")).
			TextMode(common.BigValueTextModeValueAndName).Decimals(1).NoValue("none observed").Span(6).Height(8),
		statPanel("Freed in total",
			"Bytes that prunes freed in the selected time range, as reported by the engine. Extrapolated from samples, therefore not exact.",
			"decbytes", instantQuery(`increase(docker_pruned_bytes_total[$__range])`, "{{resource}}")).
			TextMode(common.BigValueTextModeValueAndName).Span(6).Height(8),
		barPanel("Freed by prunes",
			"Bytes that prunes freed, at the time of the first scrape after them.",
			"decbytes", rangeQuery(`increase(docker_pruned_bytes_total[$__rate_interval])`, "{{resource}}")).
			Span(6).Height(8),
		barPanel("Prunes",
			"Number of prunes, regardless of who ran them. If a host has a cleanup job and this panel is empty, the job does not run.",
			"short", rangeQuery(`increase(docker_prunes_total[$__rate_interval])`, "{{resource}}")).
			Span(6).Height(8),
	}}
}

func images() row {
	return row{"Images", panels{
		linePanel("Tagged and untagged images",
			`Tagged and untagged images together are all images. Dangling images (removed by "docker image prune") and intermediate images (steps of classic builds) are parts of the untagged ones.`,
			"short",
			rangeQuery(`docker_images_tagged`, "tagged"),
			rangeQuery(`docker_images_untagged`, "untagged"),
			rangeQuery(`docker_images_dangling`, "dangling"),
			rangeQuery(`docker_images_intermediate`, "intermediate")).
			Decimals(0).Span(8).Height(9),
		stackedPanel("Images by use",
			"Each image once: used by a running container, used only by stopped containers (Docker refuses to remove the image before them), or used by none.",
			"short", rangeQuery(`docker_images`, "{{use}}")).
			Decimals(0).Span(8).Height(9),
		stackedPanel("Unused images by age",
			"Images that no container uses, by the time since they were created.",
			"short", rangeQuery(`docker_images_unused`, "{{created_for}}")).
			Decimals(0).Span(8).Height(9),
		linePanel("Disk usage and virtual size",
			`Bytes of images on disk, with each layer counted once, and dashed their virtual size: the sum of the sizes that "docker images" prints, with shared layers counted for each image.`,
			"decbytes",
			rangeQuery(`docker_disk_usage_bytes{resource="images"}`, "on disk"),
			rangeQuery(`docker_images_virtual_size_bytes`, "virtual size")).
			OverrideByQuery("B", dashed()).Span(8).Height(9),
		linePanel("Tags and layers",
			"Tags of all images, and distinct layers. An image can have several tags.",
			"short",
			rangeQuery(`docker_image_tags`, "tags"),
			rangeQuery(`docker_image_layers`, "layers")).
			Decimals(0).Span(8).Height(9),
		tablePanel("Largest repositories",
			"Images of each repository, and bytes that removing all its unused images would free, as an estimate. Repositories share images and layers, so their values must not be summed. Requires --collector.repositories.",
			column{title: "Repository", label: "repository", properties: properties{minWidth(280)}},
			column{title: "Images", expr: `max by (repository) (docker_repository_images)`, properties: properties{decimals(0), width(90)}},
			column{title: "Unused", expr: `max by (repository) (docker_repository_reclaimable_bytes)`, properties: byteBar()},
		).SortBy(sortBy("Unused", true)).NoValue("off: --collector.repositories=N").Span(8).Height(9),
	}}
}

func containers() row {
	return row{"Containers", panels{
		stackedPanel("Containers by state",
			"Each container once.",
			"short", rangeQuery(`docker_containers`, "{{state}}")).
			Decimals(0).Span(8).Height(9),
		stackedPanel("Stopped containers by age",
			`Created, exited or dead containers (those removed by "docker container prune") by time since they finished or, if never started, were created.`,
			"short", rangeQuery(`docker_containers_stopped`, "{{stopped_for}}")).
			Decimals(0).Span(8).Height(9),
		linePanel("Container size",
			`Bytes of the writable layers of all containers, of their logs where the exporter can read them and, dashed, the part of both that "docker container prune" would free.`,
			"decbytes",
			rangeQuery(`docker_disk_usage_bytes{resource="containers"}`, "on disk"),
			rangeQuery(`docker_reclaimable_bytes{command="docker container prune"}`, "docker container prune frees"),
			rangeQuery(`docker_disk_usage_bytes{resource="container_logs"}`, "logs")).
			OverrideByQuery("B", dashed()).Span(8).Height(9),
	}}
}

func buildCacheAndVolumes() row {
	return row{"Build cache and volumes", panels{
		stackedPanel("Build cache records",
			"Records of the engine's build cache by whether a build is using them.",
			"short", rangeQuery(`docker_build_cache_records`, "in use: {{in_use}}")).
			Decimals(0).Span(6).Height(9),
		linePanel("Build cache size",
			"Bytes of build cache that no image shares and, dashed, what two commands would free of it.",
			"decbytes",
			rangeQuery(`docker_disk_usage_bytes{resource="build_cache"}`, "on disk"),
			rangeQuery(`docker_reclaimable_bytes{command=~"docker builder prune.*"}`, "{{command}} frees")).
			OverrideByQuery("B", dashed()).Span(6).Height(9),
		stackedPanel("Volumes",
			"Volumes by whether any container references them, whatever its state.",
			"short", rangeQuery(`docker_volumes`, "in use: {{in_use}}")).
			Decimals(0).Span(6).Height(9),
		linePanel("Volume size",
			"Bytes of volumes on disk and, dashed, what removing those without a container would free. They can hold the only copy of data.",
			"decbytes",
			rangeQuery(`docker_disk_usage_bytes{resource="volumes"}`, "on disk"),
			rangeQuery(`docker_reclaimable_bytes{command=~"docker volume prune.*"}`, "{{command}} frees")).
			OverrideByQuery("B", dashed()).Span(6).Height(9),
	}}
}

func exporter() row {
	ageRatio := `(` + age + `{` + notLayers + `}) / (` + maxAge + `)`
	return row{"Exporter and engine", panels{
		statPanel("Engine up",
			"Whether the engine responded at the last scrape.",
			"short", instantQuery(`docker_up`, "")).
			Mappings([]dashboard.ValueMapping{yesNo()}).Span(4).Height(6),
		tablePanel("Engine",
			"Bytes are not comparable between the two image stores.",
			column{title: "Version", label: "version"},
			column{title: "API", label: "api_version"},
			column{title: "Image store", label: "image_store"},
			column{title: "Storage driver", label: "storage_driver"},
			column{expr: `max by (version, api_version, image_store, storage_driver) (docker_engine_info)`}).
			Span(14).Height(6),
		statPanel("Images not inspected yet",
			"Images whose layers have not been inspected yet. Metrics that depend on layers are unknown until this is 0.",
			"short", instantQuery(`docker_images_uninspected`, "")).
			Decimals(0).Span(6).Height(6),
		tablePanel("Collectors",
			"Whether the last request of each collector succeeded, how long it took, and the age of the metrics. DockerCollectionStale fires above the maximum age: 900 seconds and 200 times the duration, because slow requests are made rarely. The layers of an image never change, so their age does not matter.",
			column{title: "Collector", label: "collector"},
			column{title: "Success", expr: `max by (collector) (docker_scrape_collector_success)`, properties: properties{mapped(yesNo()), colorText()}},
			column{title: "Duration", expr: `max by (collector) (docker_scrape_collector_duration_seconds)`, properties: properties{unit("s")}},
			column{title: "Age", expr: `max by (collector) (` + age + `)`, properties: properties{unit("s"), decimals(0)}},
			column{title: "Of the maximum age", expr: `max by (collector) (` + ageRatio + `)`, properties: append(coloredBy(steps("green", from(1, "red"))), unit("percentunit"), decimals(1), noValue("-"))},
		).Span(12).Height(9),
		statePanel("Collector success",
			"Whether the last request of each collector succeeded. Metrics of a failed collector are unknown.",
			yesNo(), rangeQuery(`docker_scrape_collector_success`, "{{collector}}")).
			Span(12).Height(9),
		linePanel("Request duration",
			"Duration of the last request of each collector.",
			"s", rangeQuery(`docker_scrape_collector_duration_seconds`, "{{collector}}")).
			Span(12).Height(9),
		linePanel("Age of the metrics",
			"Time since the last successful request of each collector.",
			"s", rangeQuery(age, "{{collector}}")).
			Span(12).Height(9),
	}}
}
