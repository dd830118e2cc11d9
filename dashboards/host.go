package dashboards

import (
	"fmt"

	"docker_buildup_exporter/alerts"
)

// The age from which on DockerCollectionStale fires.
const allowedAge = `900 + 200 * docker_scrape_collector_duration_seconds`

func host(t alerts.Thresholds) dashboard {
	variables := []variable{
		datasourceVariable(),
		labelVariable("job", "Job", "Scrape job of the exporter.", "docker_up", false),
		labelVariable("instance", "Instance", "The host.", `docker_up{job="$job"}`, false),
	}
	age := `time() - docker_scrape_collector_last_success_timestamp_seconds`
	shareOfAllowedAge := `(` + age + `{` + notLayers + `}) / (` + allowedAge + `)`
	yesNo := says(map[string]object{"1": word(0, "yes", "green"), "0": word(1, "no", "red")})
	exactness := says(map[string]object{"1": word(0, "exactly", ""), "0": word(1, "at least", "")})
	takesVolumes := object{"type": "regex", "options": object{"pattern": "/.*volume.*/", "result": object{"color": "red", "index": 0}}}

	rows := []row{
		{"Disk", []panel{
			stat("Free", fmt.Sprintf("What share of the file system with the engine's data is free. Orange below %s and red below %s, where DockerDiskAlmostFull is a ticket and a page.", t.AlmostFull.Percent(), t.Full.Percent()),
				"percentunit", now(free, "{{path}}")).
				named().decimals(1).colored(freeShare(t)).size(6, 5),
			stat("Full in", fmt.Sprintf("When it is full if it goes on as in the last 6 hours. Orange within %s and red within %s, the forecasts of DockerDiskFilling.", t.FillingWithin, t.PageWithin),
				"s", now(timeToFull(), "{{path}}")).
				named().decimals(1).colored(timeLeft(t)).mapped(overAYear()).size(6, 5),
			stat("Free bytes", "Bytes that can still be written, of how many.",
				"decbytes", now(avail, "free in {{path}}"), now(size, "size of {{path}}")).
				named().size(6, 5),
			stat("Free inodes", fmt.Sprintf("What share of the inodes is free: many small files fill a disk before its bytes do. Orange below %s, red below %s. Unknown where the file system has no fixed number of them.", t.AlmostFull.Percent(), t.Full.Percent()),
				"percentunit", now(`docker_filesystem_files_free / (docker_filesystem_files > 0)`, "{{path}}")).
				named().decimals(1).colored(freeShare(t)).size(6, 5),
			lines("Free bytes and forecast", fmt.Sprintf("Free bytes, and dashed what is left %s later if the 6 hours before go on. A dashed line at zero: full within that time.", t.FillingWithin),
				"decbytes",
				over(avail, "{{path}}"),
				over(fmt.Sprintf(`clamp_min(predict_linear(%[1]s[6h], %[3]s) or predict_linear(%[2]s[6h], %[3]s), 0)`, recordedAvail, `docker_filesystem_avail_bytes`, t.FillingWithin.Seconds()), "{{path}} in "+t.FillingWithin.String())).
				dashed("B").size(12, 9),
			lines("Free share", fmt.Sprintf("Share of bytes and, dashed, of inodes that are free. Below %s a forecast of %s can fire DockerDiskFilling as a ticket, below %s one of %s as a page: the two lines.", t.FillingBelow.Percent(), t.FillingWithin, t.PageBelow.Percent(), t.PageWithin),
				"percentunit",
				over(free, "{{path}}"),
				over(`docker_filesystem_files_free / (docker_filesystem_files > 0)`, "{{path}} inodes")).
				share().crossed(t).dashed("B").size(12, 9),
			lines("What takes the disk", "Bytes on disk: images with each layer once, writable layers of containers, volumes, and build cache that no image shares. What is missing is not known. The rest of the disk is logs or not Docker's. Not comparable between image stores.",
				"decbytes", over(`docker_disk_usage_bytes`, "{{resource}}")).
				size(24, 8),
		}},
		{"What to run, and what it frees", []panel{
			table("What to run", "What the disk would get back from each command, run alone and now; largest first. Commands overlap: do not add them up. Those in red destroy volumes, which can hold the only copy of data.",
				"short",
				column{title: "Command", label: "command", properties: []property{
					isMapped(takesVolumes),
					{"custom.cellOptions", object{"type": "color-text"}},
					{"custom.minWidth", 280},
				}},
				column{title: "Frees", expr: `max by (command) (docker_reclaimable_exact)`, properties: []property{
					isMapped(exactness),
					{"custom.width", 90},
				}},
				column{title: "Bytes", expr: `max by (command) (docker_reclaimable_bytes)`, properties: []property{
					isUnit("decbytes"),
					{"min", 0},
					{"color", object{"mode": "fixed", "fixedColor": "blue"}},
					{"custom.cellOptions", object{"type": "gauge", "mode": "basic"}},
				}},
			).sortedBy("Bytes", true).size(12, 11),
			lines("Reclaimable by command", "The same over time. Commands overlap: do not add them up.",
				"decbytes", over(`docker_reclaimable_bytes`, "{{command}}")).
				size(12, 11),
			stat("Last prune", "How long ago the last prune that the exporter saw finished, by whomever it was run.",
				"s", now(`time() - docker_last_prune_timestamp_seconds`, "{{resource}}")).
				named().decimals(1).ifNone("none seen").size(6, 8),
			stat("Prunes freed", "What the prunes in the time shown have freed, as the engine says. Reckoned from samples, so not to the byte.",
				"decbytes", now(`increase(docker_pruned_bytes_total[$__range])`, "{{resource}}")).
				named().size(6, 8),
			lines("Freed by prunes", "Bytes that prunes freed, at the time of the first scrape after them.",
				"decbytes", over(`increase(docker_pruned_bytes_total[$__rate_interval])`, "{{resource}}")).
				bars().size(6, 8),
			lines("Prunes", "How many prunes finished, by whomever they were run. None where a cleanup job should run means that it does not.",
				"short", over(`increase(docker_prunes_total[$__rate_interval])`, "{{resource}}")).
				bars().size(6, 8),
		}},
		{"Images", []panel{
			lines("Images by name", "Tagged and untagged together are all images. Dangling (what \"docker image prune\" is for) and intermediate (steps of classic builds) are parts of untagged.",
				"short",
				over(`docker_images_tagged`, "tagged"),
				over(`docker_images_untagged`, "untagged"),
				over(`docker_images_dangling`, "dangling"),
				over(`docker_images_intermediate`, "intermediate")).
				decimals(0).size(8, 9),
			lines("Images by use", "Every image once: used by something running, held by stopped containers only (Docker refuses to remove it until they go), or used by none.",
				"short", over(`docker_images`, "{{use}}")).
				decimals(0).stacked().size(8, 9),
			lines("Real bytes and virtual size", "What images take on disk, each layer once, and dashed their virtual size: all sizes added up, shared layers again for each image, as \"docker images\" seems to say.",
				"decbytes",
				over(`docker_disk_usage_bytes{resource="images"}`, "on disk"),
				over(`docker_images_virtual_size_bytes`, "virtual size")).
				dashed("B").size(8, 9),
			lines("Tags and layers", "Tags on all images, of which one image can have many, and distinct layers.",
				"short",
				over(`docker_image_tags`, "tags"),
				over(`docker_image_layers`, "layers")).
				decimals(0).size(12, 9),
			table("Largest repositories", "How many images each has, and what removing those that no container uses would free, they alone: whose old releases are left here? At least, where the engine does not tell enough. Repositories share images and layers: do not add them up. Only where the exporter runs with --collector.repositories.",
				"short",
				column{title: "Repository", label: "repository", properties: []property{
					{"custom.minWidth", 280},
				}},
				column{title: "Images", expr: `max by (repository) (docker_repository_images)`, properties: []property{
					{"decimals", 0},
					{"custom.width", 90},
				}},
				column{title: "Unused", expr: `max by (repository) (docker_repository_reclaimable_bytes)`, properties: []property{
					isUnit("decbytes"),
					{"min", 0},
					{"color", object{"mode": "fixed", "fixedColor": "blue"}},
					{"custom.cellOptions", object{"type": "gauge", "mode": "basic"}},
				}},
			).sortedBy("Unused", true).ifNone("off: --collector.repositories=N").size(12, 9),
		}},
		{"Containers", []panel{
			lines("Containers by state", "Every container once.",
				"short", over(`docker_containers`, "{{state}}")).
				decimals(0).stacked().size(8, 9),
			lines("Stopped for", "Containers that are created, exited or dead, by how long they have been so: what \"docker container prune\" removes. Those of many days nobody has missed.",
				"short", over(`docker_containers_stopped`, "{{stopped_for}}")).
				decimals(0).stacked().size(8, 9),
			lines("Bytes of containers", "Writable layers of all containers, and dashed what \"docker container prune\" would free of them.",
				"decbytes",
				over(`docker_disk_usage_bytes{resource="containers"}`, "on disk"),
				over(`docker_reclaimable_bytes{command="docker container prune"}`, "docker container prune frees")).
				dashed("B").size(8, 9),
		}},
		{"Build cache and volumes", []panel{
			lines("Build cache records", "Records of the engine's own build cache, by whether a build uses them now.",
				"short", over(`docker_build_cache_records`, "in use: {{in_use}}")).
				decimals(0).stacked().size(6, 9),
			lines("Bytes of the build cache", "What it takes on disk beside images, and dashed what two commands would free of it.",
				"decbytes",
				over(`docker_disk_usage_bytes{resource="build_cache"}`, "on disk"),
				over(`docker_reclaimable_bytes{command=~"docker builder prune.*"}`, "{{command}} frees")).
				dashed("B").size(6, 9),
			lines("Volumes", "Volumes by whether a container has them, running or not.",
				"short", over(`docker_volumes`, "in use: {{in_use}}")).
				decimals(0).stacked().size(6, 9),
			lines("Bytes of volumes", "What volumes take on disk, and dashed what would go with those that no container has. They can hold the only copy of data.",
				"decbytes",
				over(`docker_disk_usage_bytes{resource="volumes"}`, "on disk"),
				over(`docker_reclaimable_bytes{command=~"docker volume prune.*"}`, "{{command}} frees")).
				dashed("B").size(6, 9),
		}},
		{"Exporter and engine", []panel{
			stat("Engine answers", "Whether the engine answered at the last scrape.",
				"short", now(`docker_up`, "")).
				mapped(yesNo).size(4, 6),
			table("Engine", "Bytes of the two image stores are not comparable.",
				"short",
				column{title: "Version", label: "version"},
				column{title: "API", label: "api_version"},
				column{title: "Image store", label: "image_store"},
				column{title: "Storage driver", label: "storage_driver"},
				column{title: "", expr: `max by (version, api_version, image_store, storage_driver) (docker_engine_info)`}).
				size(14, 6),
			stat("Images not yet examined", "Images whose layers are still to be looked at, once each and without haste. Until it is 0 the figures that need them are unknown.",
				"short", now(`docker_images_uninspected`, "")).
				decimals(0).size(6, 6),
			table("Questions", "Each kind of question to the engine: whether the last was answered, what it took, how old the answer is, and what that is of the age from which on DockerCollectionStale fires: 900 seconds and 200 times what it took, because what is dear is asked rarely. The layers of an image never change, so any age will do.",
				"short",
				column{title: "Question", label: "collector"},
				column{title: "Answered", expr: `max by (collector) (docker_scrape_collector_success)`, properties: []property{
					isMapped(yesNo),
					{"custom.cellOptions", object{"type": "color-text"}},
				}},
				column{title: "Took", expr: `max by (collector) (docker_scrape_collector_duration_seconds)`, properties: []property{isUnit("s")}},
				column{title: "Age", expr: `max by (collector) (` + age + `)`, properties: []property{isUnit("s"), {"decimals", 0}}},
				column{title: "Of the allowed age", expr: `max by (collector) (` + shareOfAllowedAge + `)`, properties: append(isColored(beyond(1)), isUnit("percentunit"), property{"decimals", 1}, property{"noValue", "-"})},
			).size(12, 9),
			states("Answered", "Whether the last question of each kind was answered. Figures of a question that failed are unknown.",
				yesNo, over(`docker_scrape_collector_success`, "{{collector}}")).
				size(12, 9),
			lines("Time to answer", "What the engine took for the last question of each kind.",
				"s", over(`docker_scrape_collector_duration_seconds`, "{{collector}}")).
				size(12, 9),
			lines("Age of the figures", "How long ago a question of each kind was last answered in full.",
				"s", over(age, "{{collector}}")).
				size(12, 9),
		}},
	}
	link := pageLink{Title: "Fleet", Type: "link", Icon: "external link", Tags: []string{}, URL: "/d/" + fleetUID + "/" + fleetUID + "?${datasource:queryparam}", KeepTime: true}
	return build(hostUID, "Docker buildup / Host", "What has piled up on a Docker host, what to run against it, and how long the disk lasts.",
		`job="$job", instance="$instance"`,
		`ALERTS{alertname=~"Docker.*", alertstate="firing", job="$job", instance="$instance"}`, variables, link, rows)
}
