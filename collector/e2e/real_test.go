package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// forEachKind runs a subtest for each kind of engine.
func forEachKind(t *testing.T, test func(t *testing.T, kind dockertest.Kind)) {
	t.Helper()
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) { test(t, kind) })
	}
}

// startWithEngine starts a real engine, and the program with it.
func startWithEngine(t *testing.T, kind dockertest.Kind, args ...string) (*program, *dockertest.Real) {
	t.Helper()
	engine := dockertest.Start(t, kind)
	return start(t, append([]string{"--docker.host=" + engine.Host()}, args...)...), engine
}

// TestEngineLifecycle checks the metrics while an engine hangs, is killed, is stopped and starts
// again. The next scrape shows each change. While the engine is down, its series are absent, but
// those of the file system are not.
func TestEngineLifecycle(t *testing.T) {
	forEachKind(t, testEngineLifecycle)
}

// testEngineLifecycle is TestEngineLifecycle for one kind of engine.
func testEngineLifecycle(t *testing.T, kind dockertest.Kind) {
	p, engine := startWithEngine(t, kind, "--docker.timeout=3s")
	engine.Build("FROM scratch\nLABEL a=1\nLABEL b=2\n", "-t", "app:1")
	disk := fmt.Sprintf("docker_filesystem_size_bytes{path=%q}", engine.Dir+"/data")
	series := []string{"docker_images_tagged", "docker_images_intermediate", `docker_images{use="none"}`, `docker_containers{state="running"}`, "docker_images_virtual_size_bytes"}

	isUp := func(when string) {
		t.Helper()
		got := values(t, p.scrape())
		if got["docker_up"] != 1 || got["docker_images_tagged"] != 1 || got["docker_images_intermediate"] != 1 || got[disk] <= 0 ||
			got[`docker_scrape_collector_success{collector="images"}`] != 1 {
			t.Errorf("%s: got %v, want docker_up 1 and all figures\nlog: %s", when, got, p.log.String())
		}
	}
	isDown := func(when string) {
		t.Helper()
		got := values(t, p.scrape())
		if got["docker_up"] != 0 || got[disk] <= 0 || got[`docker_scrape_collector_success{collector="images"}`] != 0 {
			t.Errorf("%s: got %v, want docker_up 0, a failed collector and the size of the file system", when, got)
		}
		for _, name := range series {
			if value, found := got[name]; found {
				t.Errorf("%s: got %s %v, want no such series", when, name, value)
			}
		}
		if got[`docker_scrape_collector_last_success_timestamp_seconds{collector="images"}`] == 0 {
			t.Errorf("%s: got no timestamp of the last success, want one", when)
		}
	}

	isUp("at the start")
	engine.Signal(syscall.SIGSTOP)
	isDown("while the engine hangs")
	engine.Signal(syscall.SIGCONT)
	isUp("after the engine resumed")
	engine.Signal(syscall.SIGKILL)
	engine.Wait()
	isDown("after the engine was killed")
	isDown("at the second scrape after the engine was killed")
	engine.Start()
	isUp("after the killed engine started again")
	engine.Signal(syscall.SIGTERM)
	engine.Wait()
	isDown("after the engine was stopped")
	engine.Start()
	isUp("after the stopped engine started again")
	if got := strings.Count(p.log.String(), "cannot reach the engine"); got != 3 {
		t.Errorf("got %d log lines with \"cannot reach the engine\", want one for each of the 3 outages:\n%s", got, p.log.String())
	}
}

// TestUpgradeAndDataLoss checks that the metrics become correct again after an engine was upgraded
// in place, and after it lost all images. Its lists are slow, so they are not refreshed on every
// scrape.
func TestUpgradeAndDataLoss(t *testing.T) {
	t.Parallel()
	engine := dockertest.Start(t, dockertest.Docker20)
	engine.Build("FROM scratch\nLABEL a=1\n", "-t", "app:1")
	p := start(t, "--docker.host="+serve(t, newProxy(engine)))
	shows := func(version string, images float64) bool {
		page := p.scrape()
		got := values(t, page)
		tagged, known := got["docker_images_tagged"]
		return known && tagged == images && strings.Contains(page, `docker_engine_info{api_version="1.`) && strings.Contains(page, `version="`+version)
	}
	restart := func(change func()) {
		engine.Signal(syscall.SIGTERM)
		engine.Wait()
		change()
		engine.Start()
	}
	eventually(t, "the metrics of the old engine", func() bool { return shows("20.10", 1) })
	restart(func() { engine.Kind = dockertest.Docker29Overlay2 })
	eventually(t, "the metrics of the upgraded engine", func() bool { return shows("29", 1) })
	restart(func() {
		if err := os.RemoveAll(filepath.Join(engine.Dir, "data", "image")); err != nil {
			t.Fatal(err)
		}
	})
	eventually(t, "the metrics of the empty engine", func() bool { return shows("29", 0) })
}

// TestEngineStartsLater checks that the program connects to an engine that starts after it.
func TestEngineStartsLater(t *testing.T) {
	t.Parallel()
	engine := dockertest.Start(t, dockertest.Docker20)
	engine.Signal(syscall.SIGTERM)
	engine.Wait()
	os.Remove(engine.Socket())
	p := start(t, "--docker.host="+engine.Host())
	if up := values(t, p.scrape())["docker_up"]; up != 0 {
		t.Errorf("before the engine starts: got docker_up %v, want 0", up)
	}
	p.logs("no such file", "start the engine")
	engine.Start()
	if up := values(t, p.scrape())["docker_up"]; up != 1 {
		t.Errorf("after the engine has started: got docker_up %v, want 1", up)
	}
}

// TestSocketPermission checks that the log contains a hint if the user must not use the socket.
func TestSocketPermission(t *testing.T) {
	t.Parallel()
	_, engine := startWithEngine(t, dockertest.Docker20)
	if os.Getuid() != 0 {
		t.Skip("requires root to run the program as another user")
	}
	p := startAs(t, unprivileged(), "--docker.host="+engine.Host())
	if up := values(t, p.scrape())["docker_up"]; up != 0 {
		t.Errorf("got docker_up %v, want 0", up)
	}
	p.logs("permission denied", "--group-add")
}

// TestReadOnlyRequestsToRealEngine checks all requests of the program to a real engine: only GET and
// HEAD, one list for each scrape, and one event stream.
func TestReadOnlyRequestsToRealEngine(t *testing.T) {
	engine := dockertest.Start(t, dockertest.Docker20)
	requests := make(chan string, 1000)
	reverseProxy := newReverseProxy(engine)
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r.Method + " " + r.URL.Path
		reverseProxy.ServeHTTP(w, r)
	}))
	p := start(t, append(withoutLimits(), "--docker.host="+address)...) // an engine that is busy is not listed at each scrape
	for range 3 {
		if got := values(t, p.scrape()); got["docker_up"] != 1 {
			t.Errorf("got docker_up %v through a proxy, want 1: %s", got["docker_up"], p.log.String())
		}
	}
	seen := make(map[string]int)
	for len(requests) > 0 {
		request := <-requests
		seen[request]++
		if !strings.HasPrefix(request, "GET ") && !strings.HasPrefix(request, "HEAD ") {
			t.Errorf("got request %q, want only GET and HEAD", request)
		}
	}
	for request, want := range map[string]int{"GET /v1.41/images/json": 3, "GET /v1.41/containers/json": 3, "GET /v1.41/events": 1} {
		if seen[request] != want {
			t.Errorf("3 scrapes: got %q %d times, want %d; all: %v", request, seen[request], want, seen)
		}
	}
}

// TestRecord writes the responses of real engines to files, for the tests that run without one. It
// runs only with -update.
func TestRecord(t *testing.T) {
	if !*update {
		t.Skip("records the responses of real engines: add -update")
	}
	for folder, engine := range map[string]struct {
		kind       dockertest.Kind
		apiVersion string // the newest version that both the engine and the program support
	}{
		"20.10-overlay2": {dockertest.Docker20, "1.41"},
		"29-overlay2":    {dockertest.Docker29Overlay2, "1.51"},
		"29-containerd":  {dockertest.Docker29Containerd, "1.51"},
		"podman-4.3":     {dockertest.Podman, "1.41"},
	} {
		t.Run(folder, func(t *testing.T) { record(t, folder, engine.kind, engine.apiVersion) })
	}
}

// record writes the responses of one engine to a folder of engines. The engine has images and
// containers in several states.
func record(t *testing.T, folder string, kind dockertest.Kind, apiVersion string) {
	engine := dockertest.Start(t, kind)
	engine.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\n", "-t", "app:1", "-t", "app:2", "-t", "shop/app:latest")
	engine.Build("FROM scratch\nLABEL step=1\nLABEL step=2\n", "-t", "steps:1")
	engine.Build("FROM app:1\nLABEL version=1\n", "-t", "moved:1")
	engine.Build("FROM app:1\nLABEL version=2\n", "-t", "moved:1")
	engine.Docker("run", "-d", "--network=none", "--name=web", "app:1")
	engine.Docker("run", "-d", "--network=none", "--name=frozen", "moved:1")
	engine.Docker("pause", "frozen")
	engine.Try("run", "--network=none", "--name=failed", "app:1", "3")
	engine.Docker("create", "--network=none", "--name=never-run", "moved:1")
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	dataRoot := "/var/lib/docker"
	if kind == dockertest.Podman {
		dataRoot = "/var/lib/containers/storage"
	}
	// The recorded responses must not depend on this machine.
	anonymize := strings.NewReplacer(
		engine.Dir+"/data", dataRoot,
		engine.Dir+"/exec", "/var/run/docker",
		strconv.Quote(hostname), `"host"`,
	)
	client := &http.Client{Transport: engine.Transport()}
	dir := filepath.Join(engines, folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "api-version"), engine.Docker("version", "--format", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}}")+"\n")
	for file, endpoint := range map[string]string{"info": "info", "images": "images/json?all=1", "containers": "containers/json?all=1"} {
		response, err := client.Get("http://docker/v" + apiVersion + "/" + endpoint)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if version := response.Header.Get("Libpod-Api-Version"); version != "" {
			write(t, filepath.Join(dir, "podman-version"), version+"\n")
		}
		// The ages on a page must not depend on the time of the recording.
		recorded := regexp.MustCompile(`"Created":\d+`).ReplaceAllString(anonymize.Replace(string(body)), `"Created":1760000000`)
		if strings.Contains(recorded, engine.Dir) {
			t.Errorf("%s: got a response that contains a folder of this machine: %s", endpoint, recorded)
		}
		write(t, filepath.Join(dir, file+".json"), recorded)
	}
}

// TestPulledByDigest checks an image that was pulled by its digest: it is untagged, but not dangling.
// "docker image prune" removes it with graph drivers, but not with the containerd image store.
func TestPulledByDigest(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		p, engine := startWithEngine(t, kind)
		const prune, pruneAll = `docker_reclaimable_bytes{command="docker image prune"}`, `docker_reclaimable_bytes{command="docker image prune --all"}`
		reference := dockertest.NewRegistry(t).Add(t, "pulled", dockertest.Layer("file", make([]byte, 10_000)))
		engine.Docker("pull", "--quiet", reference)
		page := make(map[string]float64)
		eventually(t, "a page with the image", func() bool {
			page = values(t, p.scrape())
			return page["docker_images_untagged"] == 1 && page[pruneAll] > 0
		})
		if page["docker_images_dangling"] != 0 || page["docker_images_intermediate"] != 0 || page["docker_images_tagged"] != 0 {
			t.Errorf("got %v, want no dangling, intermediate or tagged images", page)
		}
		engine.Docker("image", "prune", "--force")
		left := engine.Docker("images", "--all", "--quiet")
		if isRemoved := left == ""; isRemoved != (page[prune] > 0) {
			t.Errorf("%s: got %v, but the images after the prune are %q", prune, page[prune], left)
		}
	})
}
