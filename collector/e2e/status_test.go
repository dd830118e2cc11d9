package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// TestStatusPage checks the HTML page at /: its methods, security headers and content.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, "api-1.51-graphdriver", "--filesystem.path="+t.TempDir())
	tests := []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/", http.StatusOK},
		{http.MethodHead, "/", http.StatusOK},
		{http.MethodPost, "/", http.StatusMethodNotAllowed},
		{http.MethodGet, "/nothing", http.StatusNotFound},
	}
	for _, test := range tests {
		request, err := http.NewRequest(test.method, p.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.want {
			t.Errorf("%s %s: got %s, %v, want %d", test.method, test.path, response.Status, err, test.want)
		}
		if test.want != http.StatusOK {
			continue
		}
		if !strings.HasPrefix(response.Header.Get("Content-Security-Policy"), "default-src 'none'") || response.ContentLength <= 0 {
			t.Errorf("%s %s: got headers %v, want a Content-Security-Policy and a length", test.method, test.path, response.Header)
		}
		for _, text := range []string{"<span>prune</span> <span>--all</span>", "Engine 28.5.2", `href="./metrics"`, `href="./runbook"`, `href="./-/healthy"`, "0 s old"} {
			if test.method == http.MethodGet && !bytes.Contains(body, []byte(text)) {
				t.Errorf("%s %s: got a page without %q:\n%s", test.method, test.path, text, body[bytes.Index(body, []byte("<body>")):])
			}
		}
	}
}

// TestMetricsAtRoot checks that --web.telemetry-path=/ replaces the HTML page with the metrics.
func TestMetricsAtRoot(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, "empty-host", "--web.telemetry-path=/")
	if status, body := p.get("/"); status != http.StatusOK || !strings.Contains(body, "\ndocker_up 1") {
		t.Errorf("/: got status %d, want 200 and docker_up 1:\n%s", status, body)
	}
}

// TestRunbookPage checks that the program serves the runbook, with links to its other pages.
func TestRunbookPage(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, "empty-host")
	status, body := p.get("/runbook")
	for _, text := range []string{`<h2 id="dockerdiskalmostfull">DockerDiskAlmostFull</h2>`, `href="./"`, `href="./metrics"`} {
		if status != http.StatusOK || !strings.Contains(body, text) {
			t.Errorf("/runbook: got status %d and a page without %s:\n%s", status, text, body)
		}
	}
}

// TestStatusPageUsesRecentSnapshot checks that 100 requests of the HTML page cost the engine at most
// one image list in five seconds.
func TestStatusPageUsesRecentSnapshot(t *testing.T) {
	t.Parallel()
	p, engine := fake(t, "api-1.51-graphdriver")
	p.scrape()
	requestsBefore, began := len(engine.Requests()), time.Now()
	for range 100 {
		if status, _ := p.get("/"); status != http.StatusOK {
			t.Errorf("/: got status %d, want 200", status)
		}
	}
	lists := count(engine.Requests()[requestsBefore:], "/images/json")
	if most := 2 + int(time.Since(began)/(5*time.Second)); lists > most { // a snapshot may be five seconds old
		t.Errorf("100 pages: got %d image lists, want at most %d", lists, most)
	}
}

// status runs the command status and waits until it exits.
func status(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log strings.Builder
	command := exec.Command(binaryPath(), append([]string{"status"}, args...)...)
	command.Stdout, command.Stderr = &out, &log
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), log.String()
}

// TestStatusExitCodes checks the exit code and the first line of the command status, which
// follow the conventions of Nagios plugins.
func TestStatusExitCodes(t *testing.T) {
	t.Parallel()
	host, _ := serveFake(t, filepath.Join(engines, "api-1.51-graphdriver"))
	up, down := "--docker.host="+host, "--docker.host=http://"+freeAddress(t)
	slow, engine := serveFake(t, filepath.Join(engines, "api-1.51-graphdriver"))
	engine.Answer("/info", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	disk := "--filesystem.path=/data=" + t.TempDir()
	tests := []struct {
		args   []string
		code   int
		stdout string // prefix
		stderr string
	}{
		{[]string{up, disk, "--warn=0", "--crit=0"}, 0, "DOCKER OK - /data has ", ""},
		{[]string{up, disk, "--warn=1", "--crit=0"}, 1, "DOCKER WARNING - /data has ", ""},
		{[]string{up, disk, "--warn=1", "--crit=1"}, 2, "DOCKER CRITICAL - /data has ", ""},
		{[]string{up, disk, "--filesystem.path=/lost=/no/where", "--warn=0", "--crit=0"}, 3, "DOCKER UNKNOWN - /data has ", "cannot measure the file system /lost"},
		{[]string{"--docker.host=" + slow, "--timeout=1ms"}, 3, "DOCKER UNKNOWN - the engine has not reported its root directory in time\n", ""},
		{[]string{up}, 3, "DOCKER UNKNOWN - /var/lib/docker could not be measured", "another machine"},
		{[]string{down}, 3, "DOCKER UNKNOWN - the engine does not answer: dial http://127.0.0.1:", "cannot reach the engine"},
		{[]string{down, disk, "--warn=0", "--crit=0"}, 3, "DOCKER UNKNOWN - the engine does not answer: dial http://127.0.0.1:", "cannot reach the engine"},
		{[]string{down, disk, "--warn=1", "--crit=1"}, 2, "DOCKER CRITICAL - the engine does not answer: dial http://127.0.0.1:", "cannot reach the engine"},
		{[]string{up, "--warn=20"}, 3, "DOCKER UNKNOWN - Bad ", "--warn=20: not a ratio from 0 to 1"},
		{[]string{up, "--crit=10:20"}, 3, "DOCKER UNKNOWN - Bad ", "--crit=10:20: not a ratio"},
		{[]string{up, "--crit=120%"}, 3, "DOCKER UNKNOWN - Bad ", "--crit=120%: not a ratio"},
		{[]string{up, disk, "--warn=100%", "--crit=0%:"}, 1, "DOCKER WARNING - /data has ", ""},
		{[]string{up, disk, "--warn=1:", "--crit=100%:"}, 2, "DOCKER CRITICAL - /data has ", ""},
		{[]string{up, disk, "--output=prometheus", "--warn=1", "--crit=1"}, 0, "# HELP docker_build_cache_records ", ""},
		{[]string{up, "--warn=0.1", "--crit=0.2"}, 3, "DOCKER UNKNOWN - Bad ", "--crit is more than --warn"},
		{[]string{up, "--timeout=0s"}, 3, "DOCKER UNKNOWN - Bad ", "more than 0"},
		{[]string{up, "--output=xml"}, 3, "DOCKER UNKNOWN - Bad ", "xml"},
		{[]string{up, "--no-such-flag"}, 3, "DOCKER UNKNOWN - Bad ", "no-such-flag"},
	}
	for _, test := range tests {
		code, stdout, stderr := status(t, test.args...)
		if code != test.code || !strings.HasPrefix(stdout, test.stdout) || (test.stdout == "") != (stdout == "") {
			t.Errorf("%v: got exit code %d and %q, want %d and %q", test.args, code, stdout, test.code, test.stdout)
		}
		if !strings.Contains(stderr, test.stderr) || (test.stderr == "") != (stderr == "") {
			t.Errorf("%v: got log %q, want %q", test.args, stderr, test.stderr)
		}
	}
}

// TestStatusAgreesWithMetrics checks that the JSON output of the command status has the values of
// the metrics, and that the command requests each list once.
func TestStatusAgreesWithMetrics(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"api-1.51-graphdriver", "api-1.51-containerd", "api-1.43-graphdriver", "20.10-overlay2"} {
		p, _ := fake(t, dir)
		host, engine := serveFake(t, filepath.Join(engines, dir))
		_, stdout, log := status(t, "--docker.host="+host, "--output=json")
		var output struct {
			Images struct {
				Tagged, Untagged *float64
				VirtualSize      *float64 `json:"virtual_size_bytes"`
				Use              map[string]float64
			}
			Containers struct{ State map[string]float64 }
			Commands   []struct {
				Command     string
				Reclaimable struct {
					Bytes *float64
					Exact *bool
				}
			}
			Resources []struct {
				Resource string
				Usage    *float64 `json:"disk_usage_bytes"`
			}
		}
		if err := json.Unmarshal([]byte(stdout), &output); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", dir, err, stdout, log)
		}
		want := make(map[string]float64)
		add := func(name string, value *float64) {
			if want[name] = math.NaN(); value != nil {
				want[name] = *value
			}
		}
		add("docker_images_tagged", output.Images.Tagged)
		add("docker_images_untagged", output.Images.Untagged)
		add("docker_images_virtual_size_bytes", output.Images.VirtualSize)
		for use, n := range output.Images.Use {
			add(fmt.Sprintf("docker_images{use=%q}", use), &n)
		}
		for state, n := range output.Containers.State {
			add(fmt.Sprintf("docker_containers{state=%q}", state), &n)
		}
		for _, c := range output.Commands {
			add(fmt.Sprintf("docker_reclaimable_bytes{command=%q}", c.Command), c.Reclaimable.Bytes)
		}
		for _, r := range output.Resources {
			add(fmt.Sprintf("docker_disk_usage_bytes{resource=%q}", r.Resource), r.Usage)
		}
		p.shows(want)
		if len(output.Images.Use) != 3 || len(output.Containers.State) < 7 || len(output.Commands) < 9 || len(output.Resources) != 4 {
			t.Errorf("%s: got incomplete output, want all uses, states, commands and resources:\n%s", dir, stdout)
		}
		for _, list := range []string{"/images/json", "/containers/json?", "/volumes"} {
			if n := count(engine.Requests(), list); n > 1 {
				t.Errorf("%s: got %d requests of %s, want 1", dir, n, list)
			}
		}
	}
}

// TestStatusOfRealEngine checks that the command status detects the file system of a real engine,
// and waits until images and containers have been inspected.
func TestStatusOfRealEngine(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		engine := dockertest.Start(t, kind)
		engine.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\n", "-t", "app:1", "-t", "app:2")
		engine.Try("run", "--network=none", "app:1", "0")
		code, stdout, log := status(t, "--docker.host="+engine.Host(), "--output=json", "--warn=0", "--crit=0")
		var output struct {
			Status      string
			Filesystems []struct{ Path string }
			Images      struct{ Tagged, Tags *int }
			Containers  struct {
				StoppedFor map[string]int `json:"stopped_for"`
			}
		}
		if err := json.Unmarshal([]byte(stdout), &output); err != nil {
			t.Fatal(err)
		}
		if code != 0 || output.Status != "ok" || len(output.Filesystems) == 0 || output.Filesystems[0].Path != engine.Dir+"/data" ||
			*output.Images.Tagged != 1 || *output.Images.Tags != 2 || output.Containers.StoppedFor["0-1h"] != 1 {
			t.Errorf("got exit code %d, want 0, status ok, the file system of the engine, 1 image with 2 tags and 1 stopped container:\n%s\n%s", code, stdout, log)
		}
	})
}
