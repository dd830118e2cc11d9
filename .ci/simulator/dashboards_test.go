package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

// Prometheus answers all queries of the repository's dashboards, and each is measured.
func TestBenchDashboards(t *testing.T) {
	if _, err := exec.LookPath("prometheus"); err != nil || testing.Short() {
		t.Skip("takes a real Prometheus and some seconds:", err)
	}
	var out strings.Builder
	if err := benchDashboards(t.Context(), &out, "../../alerts/docker-buildup.yml", 3, "../../dashboards"); err != nil {
		t.Error(err)
	}
	dashboards, err := readDashboards("../../dashboards")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dashboards {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				if line := "| " + d.Title + ": " + p.Title + " " + target.RefID + " "; !strings.Contains(out.String(), line) {
					t.Errorf("no line starts with %q:\n%s", line, out.String())
				}
			}
		}
	}
}

// Series that the fleet's dashboard reads over time have history, others need none.
func TestReadOverTime(t *testing.T) {
	dashboards, err := readDashboards("../../dashboards")
	if err != nil {
		t.Fatal(err)
	}
	isLong, err := readOverTime(dashboards)
	if err != nil {
		t.Fatal(err)
	}
	host := []string{"job", exporterJob, "instance", "host1" + exporterPort}
	for _, test := range []struct {
		labels []string
		want   bool
	}{
		{[]string{"__name__", "docker_images", "use", "none"}, true},
		{[]string{"__name__", "docker_images", "use", "running"}, false},
		{[]string{"__name__", "docker_filesystem_avail_bytes", "path", path}, true},
		{[]string{"__name__", "instance:docker_up:max1h"}, true},
		{[]string{"__name__", "docker_images_tagged"}, false},
		{[]string{"__name__", "docker_disk_usage_bytes", "resource", "volumes"}, false}, // of a host's dashboard
	} {
		if got := isLong(labels.FromStrings(append(test.labels, host...)...)); got != test.want {
			t.Errorf("%q: %t", test.labels, got)
		}
	}
}
