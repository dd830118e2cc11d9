package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// TestRules checks that the command rules prints the alert rules of the repository, applies
// thresholds, and writes the rules with their tests.
func TestRules(t *testing.T) {
	t.Parallel()
	want := readFile(t, filepath.Join(root, "alerts/docker-buildup.yml"))
	printed, err := exec.Command(binaryPath(), "rules").Output()
	if err != nil || string(printed) != want {
		t.Errorf("rules: got %v:\n%s\nwant the rules of the repository", err, printed)
	}
	changed, err := exec.Command(binaryPath(), "rules", "--disk.almost-full=0.15").Output()
	if err != nil || !strings.Contains(string(changed), "avail:ratio < 0.15\n") {
		t.Errorf("rules --disk.almost-full=0.15: got %v:\n%s\nwant a rule with this threshold", err, changed)
	}
	changed, err = exec.Command(binaryPath(), "rules", "--runbook-url=https://a.example", "--dashboard-url=https://b.example", "--label=c=d", "--label=e=f").Output()
	for _, want := range []string{"runbook_url: 'https://a.example#dockerdiskfilling'\n", "dashboard_url: 'https://b.example?var-job", "\n          c: \"d\"\n          e: \"f\"\n"} {
		if err != nil || !strings.Contains(string(changed), want) {
			t.Errorf("rules with links and labels: got %v:\n%s\nwant %q", err, changed, want)
		}
	}
	dir := filepath.Join(t.TempDir(), "new")
	if output, err := exec.Command(binaryPath(), "rules", "--test="+dir).CombinedOutput(); err != nil {
		t.Fatal(err, string(output))
	}
	for _, name := range []string{"docker-buildup.yml", "tests/minutes.yml", "tests/days.yml", "tests/weeks.yml", "tests/cleanup.yml", "tests/thresholds.yml", "tests/thresholds-minutes.yml", "tests/thresholds-days.yml"} {
		if readFile(t, filepath.Join(dir, name)) != readFile(t, filepath.Join(root, "alerts", name)) {
			t.Errorf("rules --test: got a different %s, want that of the repository", name)
		}
	}
}

// TestInvalidCommandLines checks that a configuration that can never work ends the program with exit
// code 1 and one error that names the cause.
func TestInvalidCommandLines(t *testing.T) {
	t.Parallel()
	taken := httptest.NewServer(nil)
	defer taken.Close()
	takenAddress := strings.TrimPrefix(taken.URL, "http://")
	dir := t.TempDir()
	badYAML := filepath.Join(dir, "web.yml")
	write(t, badYAML, "tls_server_config: {cert_file: none.pem, key_file: none.pem}\n")
	free := "--web.listen-address=" + freeAddress(t)
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--no-such-flag"}, "no-such-flag"},
		{[]string{"no-such-command"}, "no-such-command"},
		{[]string{"--docker.timeout=soon"}, "--docker.timeout=soon: "},
		{[]string{"--docker.timeout=0s"}, "more than 0"},
		{[]string{"--web.max-requests=-1"}, "from 0 to 65535"},
		{[]string{"--collector.repositories=256"}, "--collector.repositories=256: "},
		{[]string{"--log.level=loud"}, "loud"},
		{[]string{"--web.telemetry-path=metrics"}, "telemetry-path"},
		{[]string{"--web.telemetry-path=/a/../b"}, "telemetry-path"},
		{[]string{"--web.telemetry-path=/{x"}, "telemetry-path"},
		{[]string{"--web.telemetry-path=/-/healthy"}, "telemetry-path"},
		{[]string{"--web.telemetry-path=/runbook"}, "telemetry-path"},
		{[]string{"--filesystem.path=relative"}, "HOSTPATH"},
		{[]string{"rules", "--disk.full=5"}, "not a ratio"},
		{[]string{"rules", "--disk.full=0.2"}, "above --disk.almost-full"},
		{[]string{"rules", "--causes.for=soon"}, "not a duration"},
		{[]string{"rules", "--format=xml"}, "xml"},
		{[]string{"rules", "--format=prometheusrule", "--test=" + dir}, "leave --format out"},
		{[]string{"rules", "--test=" + dir, "--causes.for=2d"}, "leave thresholds"},
		{[]string{"rules", "--test=" + dir, "--label=a=b"}, "leave thresholds"},
		{[]string{"rules", "--label=severity=page"}, "severity is a label of the alerts already"},
		{[]string{"rules", "--runbook-url=runbook"}, "--runbook-url=runbook: not an absolute"},
		{[]string{"rules", "--dashboard-url=http://a/#b"}, "no fragment"},
		{[]string{"--docker.host=ssh://me@there", free}, "forward the socket"},
		{[]string{"--docker.host=tcp://localhost:1", "--docker.tls-ca=none.pem", free}, "none.pem"},
		{[]string{"--docker.host=tcp://localhost:1", "--web.listen-address=" + takenAddress}, "see --web.listen-address"},
		{[]string{"--docker.host=tcp://localhost:1", "--docker.tls-ca=" + badYAML, free}, "failed to append certificates"},
		{[]string{"--docker.host=tcp://localhost:1", "--docker.tls-cert=" + badYAML, free}, "need each other"},
		{[]string{"--docker.host=tcp://localhost:1", "--docker.tls-key=" + badYAML, free}, "need each other"},
		{[]string{"--docker.host=tcp://localhost:1", "--docker.tls-cert=" + badYAML, "--docker.tls-key=" + badYAML, free}, "could not load X509 key pair"},
		{[]string{"--docker.host=ftp://engine", free}, "use unix://PATH"},
		{[]string{"--docker.host=tcp://a b", free}, "use unix://PATH"},
		{[]string{"--docker.host=tcp://me:hunter2@localhost:x", free}, "invalid port"},
		{[]string{"--docker.timeout=-1s"}, "more than 0"},
		{[]string{"--engine.max-busy-ratio=0"}, "more than 0 and at most 1"},
		{[]string{"--engine.max-busy-ratio=NaN"}, "more than 0 and at most 1"},
		{[]string{"--engine.max-busy-ratio-on-change=2"}, "more than 0 and at most 1"},
		{[]string{"--filesystem.path=/a=b"}, "absolute paths"},
		{[]string{"--filesystem.path=="}, "absolute paths"},
		{[]string{"--web.max-requests=1e9"}, "--web.max-requests=1e9: "},
		{[]string{"--log.format=xml"}, "xml"},
		{[]string{"--docker.host=tcp://localhost:1", "--web.listen-address=127.0.0.1:99999"}, "see --web.listen-address"},
		{[]string{"--docker.host=tcp://localhost:1", "--web.listen-address=nowhere:x"}, "see --web.listen-address"},
		{[]string{"--docker.host=tcp://localhost:1", "--web.config.file=none.yml", free}, "none.yml"},
		{[]string{"--docker.host=tcp://localhost:1", "--web.config.file=" + badYAML, free}, "none.pem"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			p := run(t, test.args...)
			if code := p.exitCode(); code != 1 {
				t.Errorf("got exit code %d, want 1", code)
			}
			errors := regexp.MustCompile(`(?m)^.*level=ERROR.*$`).FindAllString(p.log.String(), -1)
			errors = slices.DeleteFunc(errors, func(line string) bool { return strings.Contains(line, "cannot reach the engine") })
			if len(errors) != 1 || !strings.Contains(errors[0], test.want) || strings.Contains(errors[0], "hunter2") {
				t.Errorf("got errors %q, want one that contains %q", errors, test.want)
			}
		})
	}
}

// TestHelpAndVersion checks that --help and --version print their text and exit with code 0.
func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--help": "--docker.host", "--version": "docker_buildup_exporter, version"} {
		p := run(t, flag)
		if code := p.exitCode(); code != 0 || !strings.Contains(p.log.String(), want) {
			t.Errorf("%s: got exit code %d, want 0 and %q:\n%s", flag, code, want, p.log.String())
		}
	}
}

// TestEnvironment checks that an environment variable sets a flag.
func TestEnvironment(t *testing.T) {
	t.Setenv("DOCKER_BUILDUP_EXPORTER_WEB_TELEMETRY_PATH", "/figures")
	p, _ := fake(t, "empty-host")
	if status, body := p.get("/figures"); status != http.StatusOK || !strings.Contains(body, "docker_up 1") {
		t.Errorf("/figures: got status %d, want 200 and docker_up 1:\n%s", status, body)
	}
	if status, _ := p.get("/metrics"); status != http.StatusNotFound {
		t.Errorf("/metrics: got status %d, want 404", status)
	}
}

// TestExporterMetrics checks that the metrics page contains the metrics of the exporter itself unless
// --web.disable-exporter-metrics is set, and that an unknown path returns 404.
func TestExporterMetrics(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, "empty-host")
	if status, _ := p.get("/nothing"); status != http.StatusNotFound {
		t.Errorf("/nothing: got status %d, want 404", status)
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "promhttp_metric_handler_requests_total", "docker_buildup_exporter_build_info"} {
		if !strings.Contains(p.scrape(), "\n"+name) {
			t.Errorf("got a page without %s, want it", name)
		}
	}
	other, _ := fake(t, "empty-host", "--web.disable-exporter-metrics")
	for line := range strings.Lines(other.scrape()) {
		if !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "docker_") {
			t.Errorf("--web.disable-exporter-metrics: got %q, want only docker_ metrics", line)
		}
	}
}

// TestWebConfig checks TLS and passwords of --web.config.file. The command healthcheck succeeds with
// either, and also if the server requires a client certificate.
func TestWebConfig(t *testing.T) {
	t.Parallel()
	cert, key := dockertest.KeyPair(t)
	identity, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	const password = `
basic_auth_users:
  prom: $2a$04$nRsT0Hvx3pFZUQmTbpUZB.VPRiFWNjkKImZpEHzU4xQUBBtrfEnPu
`
	server := fmt.Sprintf("cert_file: %s, key_file: %s", cert, key)
	testWebConfig(t, "tls_server_config: {"+server+"}"+password, tls.Certificate{}, http.StatusUnauthorized)
	testWebConfig(t, fmt.Sprintf("tls_server_config: {%s, client_ca_file: %s, client_auth_type: RequireAndVerifyClientCert}", server, cert), identity, http.StatusOK)
}

// testWebConfig runs the program with a web configuration. It waits until a client with this
// certificate gets the wanted status from the metrics page, and runs the command healthcheck.
func testWebConfig(t *testing.T, content string, identity tls.Certificate, want int) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "web.yml")
	write(t, config, content)
	host, _ := serveFake(t, filepath.Join(engines, "empty-host"))
	address := freeAddress(t)
	p := run(t, "--docker.host="+host, "--web.listen-address="+address, "--web.config.file="+config)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{identity},
	}}}
	eventually(t, fmt.Sprintf("status %d over TLS", want), func() bool {
		response, err := client.Get("https://" + address + "/metrics")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == want
	})
	if check := run(t, "healthcheck", "--web.listen-address="+address); check.exitCode() != 0 {
		t.Errorf("healthcheck: got exit code %d, want 0: %s\nlog of the program:\n%s", check.exitCode(), check.log.String(), p.log.String())
	}
}

// TestHealthcheck checks the exit codes of the command healthcheck: 0 while the program serves
// requests, 1 after it has exited.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, "empty-host")
	address := "--web.listen-address=" + strings.TrimPrefix(p.URL, "http://")
	if check := run(t, "healthcheck", address); check.exitCode() != 0 {
		t.Errorf("while the program serves requests: got exit code %d, want 0: %s", check.exitCode(), check.log.String())
	}
	p.kill()
	if check := run(t, "healthcheck", address); check.exitCode() != 1 {
		t.Errorf("after the program has exited: got exit code %d, want 1", check.exitCode())
	}
}

// TestShutdownOnSignal checks that SIGTERM and SIGINT end the program quickly with exit code 0, and
// that a scrape in progress is completed, even if the engine hangs.
func TestShutdownOnSignal(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p, engine := fake(t, "api-1.51-graphdriver", "--docker.timeout=1m")
		requested := make(chan struct{}, 10)
		engine.Answer("/images/json", func(_ http.ResponseWriter, r *http.Request) {
			requested <- struct{}{}
			<-r.Context().Done()
		})
		page := make(chan string)
		go func() {
			response, err := http.Get(p.URL + "/metrics")
			if err != nil {
				page <- err.Error()
				return
			}
			body, _ := io.ReadAll(response.Body)
			page <- string(body)
		}()
		<-requested
		start := time.Now()
		p.process.Process.Signal(signal)
		if body := <-page; !strings.Contains(body, "docker_up 1") || !strings.Contains(body, `docker_containers{state="running"} 1`) {
			t.Errorf("%v: got page:\n%s\nwant docker_up 1 and one running container", signal, body)
		}
		if code := p.exitCode(); code != 0 {
			t.Errorf("%v: got exit code %d, want 0", signal, code)
		}
		if took := time.Since(start); took > 8*time.Second { // usually less than a second, but the machine may be busy; a scrape may take 10 s
			t.Errorf("%v: got a shutdown that took %v, want at most 8s", signal, took)
		}
	}
}

// TestConcurrentScrapes checks that 1,000 concurrent scrapes cost the engine at most 10 image lists,
// and leave no goroutines or file descriptors behind.
func TestConcurrentScrapes(t *testing.T) {
	const scrapes = 1000
	p, engine := fake(t, "api-1.51-graphdriver", "--web.max-requests=0")
	p.scrape()
	before := values(t, p.scrape())
	requestsBefore := len(engine.Requests())

	statuses := scrapeConcurrently(p, scrapes)
	for range scrapes {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("got status %d, want 200", status)
		}
	}
	lists := count(engine.Requests()[requestsBefore:], "/images/json")
	if lists == 0 || lists > scrapes/10 { // on a busy machine the scrapes begin over some seconds
		t.Errorf("%d concurrent scrapes: got %d image lists, want 1 to %d", scrapes, lists, scrapes/10)
	}
	t.Logf("%d concurrent scrapes cost %d image lists", scrapes, lists)
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		eventually(t, name+" to return to its previous value", func() bool { return values(t, p.scrape())[name] <= before[name]+2 })
	}
}

// TestMaxRequests checks that a scrape above the default limit of 40 concurrent ones is refused
// immediately, and that the others succeed.
func TestMaxRequests(t *testing.T) {
	t.Parallel()
	p, engine := fake(t, "api-1.51-graphdriver")
	release := make(chan struct{})
	engine.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, "[]")
	})
	statuses := scrapeConcurrently(p, 50)
	for range 10 {
		if status := <-statuses; status != http.StatusServiceUnavailable {
			t.Errorf("while 40 scrapes wait for the engine: got status %d, want 503", status)
		}
	}
	close(release)
	for range 40 {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("one of the 40 scrapes: got status %d, want 200", status)
		}
	}
}

// scrapeConcurrently starts n scrapes at the same time. The channel receives the status of each, or 0
// if it fails.
func scrapeConcurrently(p *program, n int) <-chan int {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testTimeout}
	statuses := make(chan int, n)
	for range n {
		go func() {
			response, err := client.Get(p.URL + "/metrics")
			if err != nil {
				statuses <- 0
				return
			}
			defer response.Body.Close()
			io.Copy(io.Discard, response.Body)
			statuses <- response.StatusCode
		}()
	}
	return statuses
}

// TestConstantNumberOfSeries checks that the metrics page has as many series for 1,000 images as for
// 10, and at most 16 KiB.
func TestConstantNumberOfSeries(t *testing.T) {
	t.Parallel()
	var series [][]string
	for _, images := range []int{10, 1000} {
		dir := t.TempDir()
		populateFake(t, dir, images, images)
		host, _ := serveFake(t, dir)
		p := start(t, append(withoutLimits(), "--docker.host="+host, "--web.disable-exporter-metrics")...)
		// The page is complete when all images and stopped containers have been inspected, and all
		// collectors have finished.
		page := p.scrapeUntil("docker_containers_stopped{", "docker_image_layers ", `docker_disk_usage_bytes{resource="containers"}`,
			`collector="build_cache"`, `collector="container_sizes"`, `collector="layers"`, `collector="volumes"`,
			`docker_reclaimable_bytes{command="docker volume prune"}`, `docker_reclaimable_bytes{command="docker system prune --all --volumes"}`)
		got := values(t, page)
		if got["docker_images_tagged"] != float64(images) || got[`docker_images{use="stopped"}`] != float64(images) {
			t.Errorf("got %v, want %d tagged images, each used by a stopped container", got, images)
		}
		if len(page) > 16<<10 {
			t.Errorf("%d images: got a page of %d bytes, want at most 16 KiB", images, len(page))
		}
		series = append(series, slices.Sorted(maps.Keys(got)))
	}
	if !slices.Equal(series[0], series[1]) {
		t.Errorf("got series %q for 10 images and %q for 1,000, want the same", series[0], series[1])
	}
}

// TestRepositories checks that --collector.repositories sets the number of repositories with series:
// two each, and none by default.
func TestRepositories(t *testing.T) {
	t.Parallel()
	for n, want := range []int{0, 2, 4} {
		p, _ := fake(t, "29-overlay2", fmt.Sprint("--collector.repositories=", n), "--engine.max-busy-ratio-on-change=1")
		page := p.scrapeUntil("docker_image_layers ")
		if got := strings.Count(page, `{repository="`); got != want {
			t.Errorf("--collector.repositories=%d: got %d series, want %d:\n%s", n, got, want, page)
		}
	}
}

// TestReadOnlyRequests checks that the program sends only GET and HEAD requests, whatever the engine
// responds.
func TestReadOnlyRequests(t *testing.T) {
	t.Parallel()
	p, engine := fake(t, "api-1.51-containerd")
	for _, dir := range []string{"api-1.43-graphdriver", "engine-too-old", "images-forbidden", "api-1.51-containerd"} {
		p.scrape()
		engine.SwitchTo(filepath.Join(engines, dir))
	}
	engine.Answer("/images/json", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/containers/prune", http.StatusTemporaryRedirect)
	})
	p.scrape()
	requests := engine.Requests()
	if len(requests) < 10 {
		t.Errorf("got %d requests, want at least 10", len(requests))
	}
	for _, request := range requests {
		if !strings.HasPrefix(request, "GET ") && !strings.HasPrefix(request, "HEAD ") || strings.Contains(request, "/prune") {
			t.Errorf("got request %q, want only GET and HEAD, and no prune", request)
		}
	}
}

// TestFilesystemPath checks that --filesystem.path sets the measured file system and its label, and
// that a path that does not exist is logged.
func TestFilesystemPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, _ := fake(t, "empty-host", "--filesystem.path=/data/docker="+dir, "--filesystem.path=/none")
	var want syscall.Statfs_t
	if err := syscall.Statfs(dir, &want); err != nil {
		t.Fatal(err)
	}
	got := values(t, p.scrape())
	if size := got[`docker_filesystem_size_bytes{path="/data/docker"}`]; size != float64(want.Blocks)*float64(want.Bsize) {
		t.Errorf("got a size of %v, want %d blocks of %d bytes", size, want.Blocks, want.Bsize)
	}
	if size, found := got[`docker_filesystem_size_bytes{path="/none"}`]; found {
		t.Errorf("/none: got a size of %v, want no series because it does not exist", size)
	}
	p.logs("cannot measure the file system /none", "--filesystem.path=HOSTPATH=MOUNTPOINT")
}

// write writes a file that only this user can read.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// readFile returns the content of a file.
func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
