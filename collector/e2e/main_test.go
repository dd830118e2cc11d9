// Package e2e tests the whole program: it builds and runs the binary, and reads its pages and log.
package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	root    = "../.."              // root of the repository
	engines = "../docker/testdata" // responses of engines
	binary  = "docker_buildup_exporter"
)

// binaryPath returns the path of the program that TestMain built.
func binaryPath() string { return filepath.Join(os.Getenv("E2E_BINARIES"), binary) }

// TestMain builds the program before the tests run.
func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

// buildAndRun builds the program, runs the tests and returns the exit code.
func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // some tests run the program as user nobody
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("E2E_BINARIES", dir)
	// The tests must not use the developer's own engine.
	for _, variable := range []string{"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"} {
		os.Unsetenv(variable)
	}
	os.Setenv("DOCKER_CONFIG", dir)
	build := exec.Command("go", append(append([]string{"build"}, buildFlags()...), "-o", binaryPath(), root)...)
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// A program is a running exporter.
type program struct {
	t       *testing.T
	URL     string
	log     syncBuffer
	process *exec.Cmd
	exited  chan struct{}
}

// start runs the program on a free port until the test ends. It waits up to three minutes until the
// program serves requests.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	return launch(t, exec.Command(binaryPath()), args...)
}

// ownUser returns the user that runs the tests.
func ownUser() syscall.Credential {
	return syscall.Credential{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}
}

// unprivileged returns a user without any rights, and with supplementary groups.
func unprivileged(groups ...uint32) syscall.Credential {
	return syscall.Credential{Uid: 65534, Gid: 65534, Groups: groups}
}

// startAs is like start, but runs the program as another user.
func startAs(t *testing.T, user syscall.Credential, args ...string) *program {
	t.Helper()
	process := exec.Command(binaryPath())
	process.SysProcAttr = dockertest.Child()
	if int(user.Uid) != os.Getuid() {
		process.SysProcAttr.Credential = &user
	}
	return launch(t, process, args...)
}

// launch is like start, with a command that runs the program.
func launch(t *testing.T, process *exec.Cmd, args ...string) *program {
	t.Helper()
	address := freeAddress(t)
	process.Args = append(append(process.Args, "--web.listen-address="+address), args...)
	p := runCommand(t, process)
	p.URL = "http://" + address
	for deadline := time.Now().Add(testTimeout); ; {
		response, err := http.Get(p.URL + "/-/healthy")
		if err == nil {
			response.Body.Close()
			return p
		}
		select {
		case <-p.exited:
			t.Fatalf("the program exited:\n%s", p.log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for the program to serve requests: %v\n%s", err, p.log.String())
		}
	}
}

// run starts the program. It is killed when the test ends, unless it has exited before.
func run(t *testing.T, args ...string) *program {
	t.Helper()
	return runCommand(t, exec.Command(binaryPath(), args...))
}

// runCommand is like run, with a command that runs the program. A data race or a panic fails the test.
func runCommand(t *testing.T, process *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, process: process, exited: make(chan struct{})}
	process.Stdout = &p.log
	if process.Stderr == nil {
		process.Stderr = &p.log
	}
	if process.SysProcAttr == nil {
		process.SysProcAttr = dockertest.Child()
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		process.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if strings.Contains(p.log.String(), "DATA RACE") || strings.Contains(p.log.String(), "panic:") {
			t.Errorf("the program's log:\n%s", p.log.String())
		}
	})
	return p
}

// fake runs the program with a fake engine that serves one of the folders of engines.
func fake(t *testing.T, dir string, args ...string) (*program, *dockertest.Fake) {
	t.Helper()
	address, engine := serveFake(t, filepath.Join(engines, dir))
	return start(t, append([]string{"--docker.host=" + address, withoutContainerd}, args...)...), engine // not the machine's own
}

// serveFake serves a fake engine until the test ends and returns its address.
func serveFake(t *testing.T, dir string) (address string, engine *dockertest.Fake) {
	t.Helper()
	engine = dockertest.NewFake(dir)
	server := httptest.NewServer(engine)
	t.Cleanup(server.Close)
	return server.URL, engine
}

// count returns how many of these requests contain the text.
func count(requests []string, text string) (n int) {
	for _, request := range requests {
		if strings.Contains(request, text) {
			n++
		}
	}
	return n
}

// kill kills the program and waits until it has exited.
func (p *program) kill() {
	p.process.Process.Kill()
	<-p.exited
}

// exitCode waits up to three minutes until the program exits, and returns its exit code.
func (p *program) exitCode() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.process.ProcessState.ExitCode()
	case <-time.After(testTimeout):
		p.t.Fatalf("timed out waiting for the program to exit:\n%s", p.log.String())
		return -1
	}
}

// logs waits up to three minutes for each text to appear in the log.
func (p *program) logs(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		eventually(p.t, fmt.Sprintf("%q in the log", text), func() bool { return strings.Contains(p.log.String(), text) })
	}
}

// scrape returns the metrics page.
func (p *program) scrape() string {
	p.t.Helper()
	status, body := p.get("/metrics")
	if status != http.StatusOK {
		p.t.Fatalf("GET /metrics: got status %d, want 200: %s", status, body)
	}
	return body
}

// scrapeUntil scrapes until the page contains all of the texts, for up to three minutes, and returns it.
func (p *program) scrapeUntil(texts ...string) (page string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("a page with %q", texts), func() bool {
		page = p.scrape()
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(page, text) })
	})
	return page
}

// shows waits up to three minutes until the metrics page has these values: a scrape does not wait for slow
// requests. NaN is a series that is absent.
func (p *program) shows(want map[string]float64) {
	p.t.Helper()
	for deadline := time.Now().Add(testTimeout); ; time.Sleep(20 * time.Millisecond) {
		page := p.scrape()
		got, different := values(p.t, page), []string{}
		for series, value := range want {
			if found, exists := got[series]; exists == math.IsNaN(value) || exists && found != value {
				different = append(different, fmt.Sprintf("%s: got %v (exists: %v), want %v", series, found, exists, value))
			}
		}
		if len(different) == 0 {
			return
		}
		if time.Now().After(deadline) {
			slices.Sort(different)
			p.t.Fatalf("%s\nin\n%s", strings.Join(different, "\n"), page)
		}
	}
}

// get requests a path of the program.
func (p *program) get(path string) (status int, body string) {
	p.t.Helper()
	response, err := http.Get(p.URL + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// values returns the gauges and counters of a metrics page, by series: `docker_images{use="none"}`: 3.
func values(t *testing.T, page string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]float64)
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			switch family.GetType() {
			case dto.MetricType_GAUGE:
				series[name+labels(metric)] = metric.GetGauge().GetValue()
			case dto.MetricType_COUNTER:
				series[name+labels(metric)] = metric.GetCounter().GetValue()
			}
		}
	}
	return series
}

// labels returns the labels of a metric in the text format, or "" if there are none.
func labels(metric *dto.Metric) string {
	if len(metric.GetLabel()) == 0 {
		return ""
	}
	var pairs []string
	for _, label := range metric.GetLabel() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// ports counts the ports that freeAddress has tried.
var ports atomic.Uint32

// freeAddress returns a loopback address that no process listens on, each time another one. Its port
// is below those that the system assigns, as one of those could be taken before the program listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 10_000 {
		address := fmt.Sprint("127.0.0.1:", 12_000+(uint32(os.Getpid())*100+ports.Add(1))%20_000)
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// testTimeout is how long tests wait for something that takes seconds: other tests may load the machine.
const testTimeout = 3 * time.Minute

// eventually waits up to three minutes until a condition is true. A condition usually depends on another
// process. The description what completes the sentence "timed out waiting for …".
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	eventuallyWithin(t, testTimeout, what, condition)
}

// eventuallyWithin is like eventually, with another timeout.
func eventuallyWithin(t *testing.T, timeout time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// A syncBuffer is a buffer that a test can read while a process writes to it.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
