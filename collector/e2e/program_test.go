package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// What can never work ends the program with one line that says why.
// Who has only the program has the alert rules and their tests.
func TestRules(t *testing.T) {
	t.Parallel()
	want := readFile(t, filepath.Join(root, "alerts/docker-buildup.yml"))
	printed, err := exec.Command(binaryPath(), "rules").Output()
	if err != nil || string(printed) != want {
		t.Errorf("it prints other rules than those of the repository (%v)", err)
	}
	changed, err := exec.Command(binaryPath(), "rules", "--disk.almost-full=0.15").Output()
	if err != nil || !strings.Contains(string(changed), "avail:ratio < 0.15\n") {
		t.Errorf("a threshold does not show (%v)", err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if output, err := exec.Command(binaryPath(), "rules", "--test="+dir).CombinedOutput(); err != nil {
		t.Fatal(err, string(output))
	}
	for _, name := range []string{"docker-buildup.yml", "tests/minutes.yml", "tests/days.yml", "tests/weeks.yml", "tests/thresholds.yml", "tests/thresholds-minutes.yml", "tests/thresholds-days.yml"} {
		if readFile(t, filepath.Join(dir, name)) != readFile(t, filepath.Join(root, "alerts", name)) {
			t.Errorf("%s is another one than in the repository", name)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
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
		{[]string{"--web.max-requests=-1"}, "invalid"},
		{[]string{"--collector.repositories=256"}, "--collector.repositories=256: "},
		{[]string{"--log.level=loud"}, "loud"},
		{[]string{"--web.telemetry-path=metrics"}, "telemetry-path"},
		{[]string{"--web.telemetry-path=/a/../b"}, "telemetry-path"},
		{[]string{"--web.telemetry-path=/{x"}, "telemetry-path"},
		{[]string{"--web.telemetry-path=/-/healthy"}, "telemetry-path"},
		{[]string{"--filesystem.path=relative"}, "HOSTPATH"},
		{[]string{"rules", "--disk.full=5"}, "not a ratio"},
		{[]string{"rules", "--disk.full=0.2"}, "above --disk.full-soon"},
		{[]string{"rules", "--causes.for=soon"}, "not a duration"},
		{[]string{"rules", "--format=xml"}, "xml"},
		{[]string{"rules", "--format=prometheusrule", "--test=" + dir}, "leave --format out"},
		{[]string{"rules", "--test=" + dir, "--causes.for=2d"}, "leave the thresholds out"},
		{[]string{"--docker.host=ssh://me@there", free}, "forward the socket"},
		{[]string{"--docker.host=tcp://localhost:1", "--docker.tls-ca=none.pem", free}, "none.pem"},
		{[]string{"--docker.host=tcp://localhost:1", "--web.listen-address=" + takenAddress}, "see --web.listen-address"},
		{[]string{"--docker.host=tcp://localhost:1", "--web.config.file=none.yml", free}, "none.yml"},
		{[]string{"--docker.host=tcp://localhost:1", "--web.config.file=" + badYAML, free}, "none.pem"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			p := run(t, test.args...)
			if code := p.exitCode(); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			errors := regexp.MustCompile(`(?m)^.*level=ERROR.*$`).FindAllString(p.log.String(), -1)
			if len(errors) != 1 || !strings.Contains(errors[0], test.want) {
				t.Errorf("errors %q; want one that says %q", errors, test.want)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--help": "--docker.host", "--version": "docker_buildup_exporter, version"} {
		p := run(t, flag)
		if code := p.exitCode(); code != 0 || !strings.Contains(p.log.String(), want) {
			t.Errorf("%s: exit code %d\n%s", flag, code, p.log.String())
		}
	}
}

// Every flag can be given by an environment variable.
func TestEnvironment(t *testing.T) {
	t.Setenv("DOCKER_BUILDUP_EXPORTER_WEB_TELEMETRY_PATH", "/figures")
	p, _ := fake(t, "empty-host")
	if status, body := p.get("/figures"); status != http.StatusOK || !strings.Contains(body, "docker_up 1") {
		t.Errorf("/figures: %d\n%s", status, body)
	}
	if status, _ := p.get("/metrics"); status != http.StatusNotFound {
		t.Errorf("/metrics: %d, want 404", status)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, "empty-host")
	if status, _ := p.get("/nothing"); status != http.StatusNotFound {
		t.Errorf("/nothing: %d, want 404", status)
	}
	for _, own := range []string{"go_goroutines", "process_open_fds", "promhttp_metric_handler_requests_total", "docker_buildup_exporter_build_info"} {
		if !strings.Contains(p.scrape(), "\n"+own) {
			t.Errorf("no %s on the page", own)
		}
	}
	lean, _ := fake(t, "empty-host", "--web.disable-exporter-metrics")
	for line := range strings.Lines(lean.scrape()) {
		if !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "docker_") {
			t.Errorf("with --web.disable-exporter-metrics: %s", line)
		}
	}
}

// TLS and passwords of the exporter-toolkit, and a health check that copes with both, and
// with a server that wants a certificate of it.
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
	webConfig(t, "tls_server_config: {"+server+"}"+password, tls.Certificate{}, http.StatusUnauthorized)
	webConfig(t, fmt.Sprintf("tls_server_config: {%s, client_ca_file: %s, client_auth_type: RequireAndVerifyClientCert}", server, cert), identity, http.StatusOK)
}

// webConfig looks at the page of a program with a configuration, as a client, and lets it
// check its health.
func webConfig(t *testing.T, content string, identity tls.Certificate, want int) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "web.yml")
	write(t, config, content)
	engine := httptest.NewServer(dockertest.NewFake(filepath.Join(engines, "empty-host")))
	defer engine.Close()
	address := freeAddress(t)
	p := run(t, "--docker.host="+engine.URL, "--web.listen-address="+address, "--web.config.file="+config)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{identity},
	}}}
	eventually(t, "the page behind TLS", func() bool {
		response, err := client.Get("https://" + address + "/metrics")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == want
	})
	if check := run(t, "healthcheck", "--web.listen-address="+address); check.exitCode() != 0 {
		t.Errorf("healthcheck: %s\n%s", check.log.String(), p.log.String())
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	p, _ := fake(t, "empty-host")
	address := "--web.listen-address=" + strings.TrimPrefix(p.URL, "http://")
	if check := run(t, "healthcheck", address); check.exitCode() != 0 {
		t.Errorf("while it serves: exit code %d: %s", check.exitCode(), check.log.String())
	}
	p.process.Process.Kill()
	<-p.exited
	if check := run(t, "healthcheck", address); check.exitCode() != 1 {
		t.Errorf("when it is gone: exit code %d", check.exitCode())
	}
}

// A signal ends the program within a second, and a scrape that is under way is
// answered, even if the engine hangs.
func TestSignalEndsIt(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p, engine := fake(t, "api-1.51-graphdriver")
		asked := make(chan struct{}, 10)
		engine.Answer("/images/json", func(_ http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
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
		<-asked
		start := time.Now()
		p.process.Process.Signal(signal)
		if body := <-page; !strings.Contains(body, "docker_up 1") || !strings.Contains(body, `docker_containers{state="running"} 1`) {
			t.Errorf("%v: the scrape under way got:\n%s", signal, body)
		}
		if code := p.exitCode(); code != 0 {
			t.Errorf("%v: exit code %d", signal, code)
		}
		if took := time.Since(start); took > 5*time.Second { // far above the second: the machine may be busy
			t.Errorf("%v: it took %v", signal, took)
		}
	}
}

// A crowd of scrapers costs the engine a handful of lists, and leaves nothing behind.
func TestCrowd(t *testing.T) {
	const crowd = 1000
	p, engine := fake(t, "api-1.51-graphdriver", "--web.max-requests=0")
	p.scrape()
	before := values(t, p.scrape())
	asked := len(engine.Requests())

	statuses := crowdOf(p, crowd)
	for range crowd {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("a page's status is %d", status)
		}
	}
	lists := 0
	for _, request := range engine.Requests()[asked:] {
		if strings.Contains(request, "/images/json") {
			lists++
		}
	}
	if lists == 0 || lists > 10 {
		t.Errorf("%d scrapes cost %d image lists", crowd, lists)
	}
	t.Logf("%d scrapes at once cost %d image lists", crowd, lists)
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		eventually(t, name+" is what it was", func() bool { return values(t, p.scrape())[name] <= before[name]+2 })
	}
}

// Beyond the limit a scrape is refused at once; the others are served.
func TestMaxRequests(t *testing.T) {
	t.Parallel()
	p, engine := fake(t, "api-1.51-graphdriver")
	release := make(chan struct{})
	engine.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, "[]")
	})
	statuses := crowdOf(p, 50)
	for range 10 {
		if status := <-statuses; status != http.StatusServiceUnavailable {
			t.Errorf("while 40 wait for the engine: %d, want 503", status)
		}
	}
	close(release)
	for range 40 {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("one of the 40: %d, want 200", status)
		}
	}
}

// crowdOf scrapes n times at once and sends the status of each page.
func crowdOf(p *program, n int) <-chan int {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
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

// The page has as many series for 1,000 images as for 10.
func TestPageIsConstant(t *testing.T) {
	t.Parallel()
	var series []int
	for _, images := range []int{10, 1000} {
		dir := t.TempDir()
		populateFake(t, dir, images, images)
		engine := httptest.NewServer(dockertest.NewFake(dir))
		defer engine.Close()
		p := start(t, "--docker.host="+engine.URL, "--web.disable-exporter-metrics", "--engine.max-busy-ratio-on-change=1")
		var page string // complete once every stopped container was looked at
		eventually(t, "a complete page", func() bool {
			page = p.scrape()
			return strings.Contains(page, "docker_containers_stopped{") && strings.Contains(page, "docker_image_layers ") &&
				strings.Contains(page, `docker_disk_usage_bytes{resource="containers"}`)
		})
		got := values(t, page)
		if got["docker_images_tagged"] != float64(images) || got[`docker_images{use="stopped"}`] != float64(images) {
			t.Errorf("%d images: the page says %v", images, got)
		}
		if len(page) > 16<<10 {
			t.Errorf("%d images: a page of %d bytes", images, len(page))
		}
		series = append(series, len(got))
	}
	if series[0] != series[1] {
		t.Errorf("%d series for 10 images, %d for 1,000", series[0], series[1])
	}
}

// Of repositories there are so many as were asked for, and none unless they were.
func TestRepositories(t *testing.T) {
	t.Parallel()
	for n, want := range []int{0, 2, 4} {
		p, _ := fake(t, "29-overlay2", fmt.Sprint("--collector.repositories=", n), "--engine.max-busy-ratio-on-change=1")
		var page string
		eventually(t, "a complete page", func() bool {
			page = p.scrape()
			return strings.Contains(page, "docker_image_layers ")
		})
		if got := strings.Count(page, `{repository="`); got != want {
			t.Errorf("%d repositories have %d series, want %d:\n%s", n, got, want, page)
		}
	}
}

// Nothing but GET and HEAD leaves the program, whatever the engine answers.
func TestOnlyReads(t *testing.T) {
	t.Parallel()
	p, engine := fake(t, "api-1.51-containerd")
	for _, dir := range []string{"api-1.43-graphdriver", "engine-too-old", "images-forbidden", "api-1.51-containerd"} {
		p.scrape()
		engine.Become(filepath.Join(engines, dir))
	}
	engine.Answer("/images/json", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/containers/prune", http.StatusTemporaryRedirect)
	})
	p.scrape()
	requests := engine.Requests()
	if len(requests) < 10 {
		t.Errorf("only %d requests were seen", len(requests))
	}
	for _, request := range requests {
		if !strings.HasPrefix(request, "GET ") && !strings.HasPrefix(request, "HEAD ") || strings.Contains(request, "/prune") {
			t.Errorf("sent: %s", request)
		}
	}
}

// --filesystem.path says where to look, and as what to report it.
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
		t.Errorf("size %v, statfs says %d blocks of %d", size, want.Blocks, want.Bsize)
	}
	if _, there := got[`docker_filesystem_size_bytes{path="/none"}`]; there {
		t.Error("a file system that does not exist has a size")
	}
	p.logs("cannot measure the file system /none", "--filesystem.path=HOSTPATH=MOUNTPOINT")
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
