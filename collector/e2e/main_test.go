// Package e2e tests the program as its users meet it: the binary is built and
// run, and its pages and its log are read.
package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	root    = "../.."              // of the repository
	engines = "../docker/testdata" // what engines answer
	binary  = "docker_buildup_exporter"
)

// binaryPath is where TestMain built the program.
func binaryPath() string { return filepath.Join(os.Getenv("E2E_BINARIES"), binary) }

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // some tests run the program as nobody
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("E2E_BINARIES", dir)
	// The developer's own engine is none of these tests' business.
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

// start runs the program on a free port until the test ends, and waits until it serves.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	return startAs(t, os.Getuid(), args...)
}

// startAs is start as another user.
func startAs(t *testing.T, uid int, args ...string) *program {
	t.Helper()
	address := freeAddress(t)
	p := runAs(t, uid, append([]string{"--web.listen-address=" + address}, args...)...)
	p.URL = "http://" + address
	for deadline := time.Now().Add(20 * time.Second); ; {
		response, err := http.Get(p.URL + "/-/healthy")
		if err == nil {
			response.Body.Close()
			return p
		}
		select {
		case <-p.exited:
			t.Fatalf("the program ended:\n%s", p.log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program does not serve: %v\n%s", err, p.log.String())
		}
	}
}

// run runs the program until it or the test ends.
func run(t *testing.T, args ...string) *program {
	t.Helper()
	return runAs(t, os.Getuid(), args...)
}

func runAs(t *testing.T, uid int, args ...string) *program {
	t.Helper()
	p := &program{t: t, process: exec.Command(binaryPath(), args...), exited: make(chan struct{})}
	p.process.Stdout, p.process.Stderr = &p.log, &p.log
	p.process.SysProcAttr = dockertest.Child()
	if uid != os.Getuid() {
		p.process.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	if err := p.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.process.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.process.Process.Kill()
		<-p.exited
		if strings.Contains(p.log.String(), "DATA RACE") || strings.Contains(p.log.String(), "panic:") {
			t.Errorf("the program's log:\n%s", p.log.String())
		}
	})
	return p
}

// fake runs the program on an engine that answers from a folder.
func fake(t *testing.T, dir string, args ...string) (*program, *dockertest.Fake) {
	t.Helper()
	engine := dockertest.NewFake(filepath.Join(engines, dir))
	server := httptest.NewServer(engine)
	t.Cleanup(server.Close)
	return start(t, append([]string{"--docker.host=" + server.URL}, args...)...), engine
}

// exitCode waits for the program to end.
func (p *program) exitCode() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.process.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		p.t.Fatalf("the program does not end:\n%s", p.log.String())
		return -1
	}
}

// logs waits until the log says all of some texts.
func (p *program) logs(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		eventually(p.t, fmt.Sprintf("%q in the log", text), func() bool { return strings.Contains(p.log.String(), text) })
	}
}

// scrape returns the page.
func (p *program) scrape() string {
	p.t.Helper()
	status, body := p.get("/metrics")
	if status != http.StatusOK {
		p.t.Fatalf("scrape: %d %s", status, body)
	}
	return body
}

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

// values returns a page as series and values: `docker_images{use="none"}`: 3.
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

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	eventuallyWithin(t, time.Minute, what, condition)
}

func eventuallyWithin(t *testing.T, patience time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// A syncBuffer is written by a process while the test reads it.
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
