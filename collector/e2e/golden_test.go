package e2e

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

var update = flag.Bool("update", false, "write the golden pages, the recorded responses and the tables of the README")

// TestGoldenPages checks that the metrics page of each folder of engine responses is exactly the
// page in metrics.prom.
func TestGoldenPages(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(engines + "/*/api-version")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("got %d engines in %s (%v), want at least 10", len(dirs), engines, err)
	}
	for _, file := range dirs {
		dir := filepath.Base(filepath.Dir(file))
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			p, _ := fake(t, dir, "--web.disable-exporter-metrics")
			got := steady(p.scrape())
			// On a busy machine, images are still being inspected after the scrape.
			for i := 0; i < 20 && strings.Contains(got, "docker_images_uninspected") && !isInspected(got); i++ {
				time.Sleep(500 * time.Millisecond)
				got = steady(p.scrape())
			}
			golden := filepath.Join(engines, dir, "metrics.prom")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// isInspected returns whether the inspection of all images has finished. The collector "layers" is
// reported slightly after the last image.
func isInspected(page string) bool {
	return strings.Contains(page, "docker_images_uninspected 0\n") && strings.Contains(page, `collector="layers"`)
}

// steady replaces the values that differ between runs with 0.
func steady(page string) string {
	varying := regexp.MustCompile(`(?m)^(docker_scrape_collector_(?:duration_seconds|last_success_timestamp_seconds)\{.*\}|docker_buildup_exporter_build_info)(?:\{.*\})? .*$`)
	return varying.ReplaceAllString(page, "$1 0")
}

// TestPromtoolCheckMetrics checks that promtool reports no problem with a metrics page.
func TestPromtoolCheckMetrics(t *testing.T) {
	t.Parallel()
	promtool := dockertest.Need(t, "promtool")
	for _, dir := range []string{"api-1.51-graphdriver", "engine-too-old"} {
		p, _ := fake(t, dir)
		check := exec.Command(promtool, "check", "metrics")
		check.Stdin = strings.NewReader(p.scrape())
		if output, err := check.CombinedOutput(); err != nil || len(output) > 0 {
			t.Errorf("%s: promtool check metrics: %v\n%s", dir, err, output)
		}
	}
}
