package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// The page at / is for people, and for whoever only reads.
func TestPageForPeople(t *testing.T) {
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
			t.Errorf("%s %s: %s, %v; want %d", test.method, test.path, response.Status, err, test.want)
		}
		if test.want != http.StatusOK {
			continue
		}
		if !strings.HasPrefix(response.Header.Get("Content-Security-Policy"), "default-src 'none'") || response.ContentLength <= 0 {
			t.Errorf("%s %s: its headers are %v", test.method, test.path, response.Header)
		}
		for _, text := range []string{"docker image prune --all", "Engine 28.5.2", `href="./metrics"`, `href="./-/healthy"`, "0 s old"} {
			if test.method == http.MethodGet && !bytes.Contains(body, []byte(text)) {
				t.Errorf("%s %s lacks %q:\n%s", test.method, test.path, text, body[bytes.Index(body, []byte("<body>")):])
			}
		}
	}
}

// Who wants metrics at / gets them there, and no other page.
func TestMetricsAtRoot(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, "empty-host", "--web.telemetry-path=/")
	if status, body := p.get("/"); status != http.StatusOK || !strings.Contains(body, "\ndocker_up 1") {
		t.Errorf("/: %d\n%s", status, body)
	}
}

// A crowd that looks at the page costs the engine no more than a scraper.
func TestPageIsCheap(t *testing.T) {
	t.Parallel()
	p, engine := fake(t, "api-1.51-graphdriver")
	p.scrape()
	asked := len(engine.Requests())
	for range 100 {
		if status, _ := p.get("/"); status != http.StatusOK {
			t.Errorf("/: %d", status)
		}
	}
	lists := 0
	for _, request := range engine.Requests()[asked:] {
		if strings.Contains(request, "/images/json") {
			lists++
		}
	}
	if lists > 5 { // one every five seconds, on a machine that is busy
		t.Errorf("100 pages cost %d image lists", lists)
	}
}

// status runs the command to its end.
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

func TestStatusExitCodes(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(dockertest.NewFake(filepath.Join(engines, "api-1.51-graphdriver")))
	defer server.Close()
	up, down := "--docker.host="+server.URL, "--docker.host=http://"+freeAddress(t)
	disk := "--filesystem.path=/data=" + t.TempDir()
	tests := []struct {
		args   []string
		code   int
		stdout string // its beginning
		stderr string
	}{
		{[]string{up, disk, "--warn=0", "--crit=0"}, 0, "DOCKER OK - /data has ", ""},
		{[]string{up, disk, "--warn=1", "--crit=0"}, 1, "DOCKER WARNING - /data has ", ""},
		{[]string{up, disk, "--warn=1", "--crit=1"}, 2, "DOCKER CRITICAL - /data has ", ""},
		{[]string{up, disk, "--filesystem.path=/lost=/no/where", "--warn=0", "--crit=0"}, 3, "DOCKER UNKNOWN - /data has ", "cannot measure the file system /lost"},
		{[]string{up}, 3, "DOCKER UNKNOWN - no file system was measured", ""},
		{[]string{down, disk, "--warn=0", "--crit=0"}, 3, "DOCKER UNKNOWN - the engine does not answer; /data has ", "cannot reach the engine"},
		{[]string{down, disk, "--warn=1", "--crit=1"}, 2, "DOCKER CRITICAL - the engine does not answer; /data has ", "cannot reach the engine"},
		{[]string{up, "--warn=20"}, 3, "DOCKER UNKNOWN - Bad ", "20 is not from 0 to 1"},
		{[]string{up, "--warn=5%"}, 3, "DOCKER UNKNOWN - Bad ", "5%"},
		{[]string{up, "--warn=0.1", "--crit=0.2"}, 3, "DOCKER UNKNOWN - Bad ", "--crit is more than --warn"},
		{[]string{up, "--timeout=0s"}, 3, "DOCKER UNKNOWN - Bad ", "more than 0"},
		{[]string{up, "--output=xml"}, 3, "DOCKER UNKNOWN - Bad ", "xml"},
		{[]string{up, "--no-such-flag"}, 3, "DOCKER UNKNOWN - Bad ", "no-such-flag"},
	}
	for _, test := range tests {
		code, stdout, stderr := status(t, test.args...)
		if code != test.code || !strings.HasPrefix(stdout, test.stdout) || (test.stdout == "") != (stdout == "") {
			t.Errorf("%v: exit code %d, want %d:\n%s", test.args, code, test.code, stdout)
		}
		if !strings.Contains(stderr, test.stderr) || (test.stderr == "") != (stderr == "") {
			t.Errorf("%v: the log does not say %q alone:\n%s", test.args, test.stderr, stderr)
		}
	}
}

// The command asks for each list once, and says what the metrics say.
func TestStatusAgreesWithMetrics(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"api-1.51-graphdriver", "api-1.51-containerd", "api-1.43-graphdriver", "20.10-overlay2"} {
		p, _ := fake(t, dir)
		page := values(t, p.scrape())
		engine := dockertest.NewFake(filepath.Join(engines, dir))
		server := httptest.NewServer(engine)
		defer server.Close()
		_, stdout, log := status(t, "--docker.host="+server.URL, "--output=json")

		var told struct {
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
		if err := json.Unmarshal([]byte(stdout), &told); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", dir, err, stdout, log)
		}
		same := func(series string, got *float64) {
			t.Helper()
			want, known := page[series]
			if known != (got != nil) || known && *got != want {
				t.Errorf("%s: %s is %v, and %v in the metrics (known: %v)", dir, series, got, want, known)
			}
		}
		same("docker_images_tagged", told.Images.Tagged)
		same("docker_images_untagged", told.Images.Untagged)
		same("docker_images_virtual_size_bytes", told.Images.VirtualSize)
		for use, n := range told.Images.Use {
			same(fmt.Sprintf("docker_images{use=%q}", use), &n)
		}
		for state, n := range told.Containers.State {
			same(fmt.Sprintf("docker_containers{state=%q}", state), &n)
		}
		for _, c := range told.Commands {
			same(fmt.Sprintf("docker_reclaimable_bytes{command=%q}", c.Command), c.Reclaimable.Bytes)
		}
		for _, r := range told.Resources {
			same(fmt.Sprintf("docker_disk_usage_bytes{resource=%q}", r.Resource), r.Usage)
		}
		if len(told.Images.Use) != 3 || len(told.Containers.State) < 7 || len(told.Commands) < 9 || len(told.Resources) != 4 {
			t.Errorf("%s: something is missing:\n%s", dir, stdout)
		}

		times := make(map[string]int)
		for _, request := range engine.Requests() {
			times[request]++
		}
		for request, n := range times {
			isList := strings.Contains(request, "/images/json") || strings.Contains(request, "/containers/json") || strings.HasSuffix(request, "/volumes")
			if n > 1 && isList {
				t.Errorf("%s: asked %d times: %s", dir, n, request)
			}
		}
	}
}

// On a real engine the command finds the disk by itself, and waits until it knows what
// is to know.
func TestStatusOfRealEngine(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			engine := dockertest.Start(t, kind)
			engine.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\n", "-t", "app:1", "-t", "app:2")
			engine.Try("run", "--network=none", "app:1", "0")
			code, stdout, log := status(t, "--docker.host="+engine.Host(), "--output=json", "--warn=0", "--crit=0")
			var told struct {
				Status      string
				Filesystems []struct{ Path string }
				Images      struct{ Tagged, Tags *int }
				Containers  struct {
					StoppedFor map[string]int `json:"stopped_for"`
				}
			}
			if err := json.Unmarshal([]byte(stdout), &told); err != nil {
				t.Fatal(err)
			}
			if code != 0 || told.Status != "ok" || len(told.Filesystems) == 0 || told.Filesystems[0].Path != engine.Dir+"/data" ||
				*told.Images.Tagged != 1 || *told.Images.Tags != 2 || told.Containers.StoppedFor["0-1h"] != 1 {
				t.Errorf("exit code %d:\n%s\n%s", code, stdout, log)
			}
		})
	}
}
