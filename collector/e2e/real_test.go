package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// real runs the program on an engine of the test's own.
func real(t *testing.T, kind dockertest.Kind, args ...string) (*program, *dockertest.Real) {
	t.Helper()
	engine := dockertest.Start(t, kind)
	return start(t, append([]string{"--docker.host=" + engine.Host()}, args...)...), engine
}

// The engine is killed, hangs, comes back, is another: the page follows with the
// next scrape, tells no wrong number on the way, and knows the disk throughout.
func TestFatesOfAnEngine(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) { fatesOfAnEngine(t, kind) })
	}
}

func fatesOfAnEngine(t *testing.T, kind dockertest.Kind) {
	p, engine := real(t, kind, "--docker.timeout=500ms")
	engine.Build("FROM scratch\nLABEL a=1\nLABEL b=2\n", "-t", "app:1")
	disk := fmt.Sprintf("docker_filesystem_size_bytes{path=%q}", engine.Dir+"/data")
	series := []string{"docker_images_tagged", "docker_images_intermediate", `docker_images{use="none"}`, `docker_containers{state="running"}`, "docker_images_virtual_size_bytes"}

	isUp := func(when string) {
		t.Helper()
		got := values(t, p.scrape())
		if got["docker_up"] != 1 || got["docker_images_tagged"] != 1 || got["docker_images_intermediate"] != 1 || got[disk] <= 0 ||
			got[`docker_scrape_collector_success{collector="images"}`] != 1 {
			t.Errorf("%s: the page says %v\nthe log: %s", when, got, p.log.String())
		}
	}
	isDown := func(when string) {
		t.Helper()
		got := values(t, p.scrape())
		if got["docker_up"] != 0 || got[disk] <= 0 || got[`docker_scrape_collector_success{collector="images"}`] != 0 {
			t.Errorf("%s: the page says %v", when, got)
		}
		for _, name := range series {
			if value, there := got[name]; there {
				t.Errorf("%s: %s is %v, want it absent", when, name, value)
			}
		}
		if got[`docker_scrape_collector_last_success_timestamp_seconds{collector="images"}`] == 0 {
			t.Errorf("%s: it is forgotten when there was an answer", when)
		}
	}

	isUp("at first")
	engine.Signal(syscall.SIGSTOP)
	isDown("while it hangs")
	engine.Signal(syscall.SIGCONT)
	isUp("when it goes on")
	engine.Signal(syscall.SIGKILL)
	engine.Wait()
	isDown("when it was killed")
	isDown("and still is")
	engine.Start()
	isUp("when it was started again")
	engine.Signal(syscall.SIGTERM)
	engine.Wait()
	isDown("when it was stopped")
	engine.Start()
	isUp("when it is back")
	if got := strings.Count(p.log.String(), "cannot reach the engine"); got != 3 {
		t.Errorf("%d lines say that it cannot be reached, want one for each of the 3 times:\n%s", got, p.log.String())
	}
}

// An engine is upgraded in place, and then loses all its data, while its lists are
// dear and it is watched: the page is right again by itself.
func TestUpgradedAndEmptied(t *testing.T) {
	engine := dockertest.Start(t, dockertest.Docker20)
	engine.Build("FROM scratch\nLABEL a=1\n", "-t", "app:1")
	p := start(t, "--docker.host="+newProxy(engine).serve(t))
	engineIs := func(version string, images float64) bool {
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
	eventually(t, "the old engine", func() bool { return engineIs("20.10", 1) })
	restart(func() { engine.Kind = dockertest.Docker29Overlay2 })
	eventually(t, "the new engine", func() bool { return engineIs("29", 1) })
	restart(func() {
		if err := os.RemoveAll(filepath.Join(engine.Dir, "data", "image")); err != nil {
			t.Fatal(err)
		}
	})
	eventually(t, "an empty engine", func() bool { return engineIs("29", 0) })
}

// An engine that is not there at the start is found when it comes.
func TestEngineComesLater(t *testing.T) {
	if os.Getenv(dockertest.RealVariable) == "" {
		t.Skip("starts a Docker engine of its own")
	}
	engine := dockertest.Start(t, dockertest.Docker20)
	engine.Signal(syscall.SIGTERM)
	engine.Wait()
	os.Remove(strings.TrimPrefix(engine.Host(), "unix://"))
	p := start(t, "--docker.host="+engine.Host())
	if up := values(t, p.scrape())["docker_up"]; up != 0 {
		t.Errorf("docker_up is %v without an engine", up)
	}
	p.logs("no such file", "start the engine")
	engine.Start()
	if up := values(t, p.scrape())["docker_up"]; up != 1 {
		t.Errorf("docker_up is %v with an engine", up)
	}
}

// Who may not use the socket is told which group may.
func TestSocketPermission(t *testing.T) {
	_, engine := real(t, dockertest.Docker20)
	if os.Getuid() != 0 {
		t.Skip("takes root to be somebody else")
	}
	p := startAs(t, 65534, "--docker.host="+engine.Host())
	if up := values(t, p.scrape())["docker_up"]; up != 0 {
		t.Errorf("docker_up is %v", up)
	}
	p.logs("permission denied", "--group-add")
}

// All that the program sends to a real engine, seen by a proxy in between.
func TestOnlyReadsFromRealEngine(t *testing.T) {
	engine := dockertest.Start(t, dockertest.Docker20)
	requests := make(chan string, 1000)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			requests <- r.In.Method + " " + r.In.URL.Path
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "docker"
		},
		Transport: engine.Transport(),
	}
	address := freeAddress(t)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: proxy}
	go server.Serve(listener)
	defer server.Close()
	p := start(t, "--docker.host=http://"+address)
	for range 3 {
		if got := values(t, p.scrape()); got["docker_up"] != 1 {
			t.Errorf("not up behind a proxy: %s", p.log.String())
		}
	}
	seen := make(map[string]int)
	for len(requests) > 0 {
		request := <-requests
		seen[request]++
		if !strings.HasPrefix(request, "GET ") && !strings.HasPrefix(request, "HEAD ") {
			t.Errorf("sent: %s", request)
		}
	}
	for request, want := range map[string]int{"GET /v1.41/images/json": 3, "GET /v1.41/containers/json": 3, "GET /v1.41/events": 1} {
		if seen[request] != want {
			t.Errorf("3 scrapes sent %q %d times, want %d; all: %v", request, seen[request], want, seen)
		}
	}
}

// Record keeps what real engines answer, for the tests that run without one.
func TestRecord(t *testing.T) {
	if !*update {
		t.Skip("records real engines: add -update")
	}
	for folder, of := range map[string]struct {
		kind       dockertest.Kind
		apiVersion string // the newest that both the engine and the program speak
	}{
		"20.10-overlay2": {dockertest.Docker20, "1.41"},
		"29-overlay2":    {dockertest.Docker29Overlay2, "1.51"},
		"29-containerd":  {dockertest.Docker29Containerd, "1.51"},
	} {
		t.Run(folder, func(t *testing.T) { record(t, folder, of.kind, of.apiVersion) })
	}
}

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
	// What is this machine's own becomes what it is on any other.
	anywhere := strings.NewReplacer(
		engine.Dir+"/data", "/var/lib/docker",
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
		// A page that tells how long ago something was must not change with time.
		recorded := regexp.MustCompile(`"Created":\d+`).ReplaceAllString(anywhere.Replace(string(body)), `"Created":1760000000`)
		if strings.Contains(recorded, engine.Dir) {
			t.Errorf("%s names a folder of this machine: %s", endpoint, recorded)
		}
		write(t, filepath.Join(dir, file+".json"), recorded)
	}
}

// An image that was pulled by its digest is untagged, but not dangling. A prune of
// dangling images takes it with graph drivers, and leaves it in the containerd store.
func TestPulledByDigest(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p, engine := real(t, kind)
			const prune, pruneAll = `docker_reclaimable_bytes{command="docker image prune"}`, `docker_reclaimable_bytes{command="docker image prune --all"}`
			reference := dockertest.NewRegistry(t).Add(t, "pulled", dockertest.Layer("file", make([]byte, 10_000)))
			engine.Docker("pull", "--quiet", reference)
			page := make(map[string]float64)
			eventually(t, "a page with the image", func() bool {
				page = values(t, p.scrape())
				return page["docker_images_untagged"] == 1 && page[pruneAll] > 0
			})
			if page["docker_images_dangling"] != 0 || page["docker_images_intermediate"] != 0 || page["docker_images_tagged"] != 0 {
				t.Errorf("the page says %v", page)
			}
			engine.Docker("image", "prune", "--force")
			left := engine.Docker("images", "--all", "--quiet")
			if isTaken := left == ""; isTaken != (page[prune] > 0) {
				t.Errorf("%s: %v; the engine has left %q", prune, page[prune], left)
			}
		})
	}
}
