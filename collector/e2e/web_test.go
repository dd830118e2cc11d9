package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// connect opens a connection that is closed when the test ends. The system buffers as little
// as possible of what it receives.
func (p *program) connect() net.Conn {
	p.t.Helper()
	dialer := net.Dialer{Timeout: testTimeout, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) })
	}}
	conn, err := dialer.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// served fails unless a new client gets the metrics of an engine that is up, before the program gives
// up the clients that block it (10 s).
func (p *program) served() map[string]float64 {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 8 * time.Second}
	response, err := client.Get(p.URL + "/metrics")
	if err != nil {
		p.t.Fatalf("a new client is not served: %v", err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		p.t.Fatalf("a new client is not served: %s, %v", response.Status, err)
	}
	series := values(p.t, string(page))
	if series["docker_up"] != 1 {
		p.t.Errorf("docker_up is %v", series["docker_up"])
	}
	return series
}

// TestClientsThatDoNotRead checks that clients that do not read their answers cost only
// themselves, even if there are more than --web.max-requests.
func TestClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	const clients, requests = 4, 1000 // more than the buffers of the connection hold
	p, _ := fake(t, "29-overlay2", "--web.max-requests=3")
	all := strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", requests)
	for range clients {
		conn := p.connect()
		go io.WriteString(conn, all)
	}
	const served = `promhttp_metric_handler_requests_total{code="200"}`
	before := -1.0
	eventually(t, "all clients are stuck", func() bool {
		time.Sleep(200 * time.Millisecond)
		now := p.scrapeOr503()[served]
		isStuck := now > 0 && now == before+1 // only the scrape before
		before = now
		return isStuck && now < clients*requests
	})
	for range 5 {
		p.served()
	}
}

// scrapeOr503 returns the metrics, or nil if there are too many requests.
func (p *program) scrapeOr503() map[string]float64 {
	status, body := p.get("/metrics")
	if status != http.StatusOK {
		return nil
	}
	return values(p.t, body)
}

// limited returns a command that runs the program with a limit of open files.
func limited(files int) *exec.Cmd {
	return exec.Command("bash", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files), binaryPath())
}

// TestIdleConnections checks that more connections than the process may have open neither
// keep it from the engine nor other clients from it.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	address, _ := serveFake(t, filepath.Join(engines, "empty-host"))
	p := launch(t, limited(200), "--docker.host="+address)
	for i := range 300 {
		conn := p.connect()
		fmt.Fprint(conn, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(testTimeout))
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	for range 3 {
		if n := p.served()["process_open_fds"]; n > 150 {
			t.Errorf("%v open files", n)
		}
	}
}

// TestSilentConnections is TestIdleConnections with clients that never send anything.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	address, _ := serveFake(t, filepath.Join(engines, "empty-host"))
	p := launch(t, limited(200), "--docker.host="+address)
	for range 300 {
		p.connect()
	}
	p.served()
}

// TestStderrIsClosed checks that the program survives the reader of its log, and that it needs
// none.
func TestStderrIsClosed(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	gone := exec.Command(binaryPath())
	gone.Stderr = writer
	for name, process := range map[string]*exec.Cmd{"gone": gone, "closed": exec.Command("bash", "-c", `exec "$0" "$@" 2>&-`, binaryPath())} {
		address, engine := serveFake(t, filepath.Join(engines, "empty-host"))
		p := launch(t, process, "--docker.host="+address)
		if name == "gone" {
			writer.Close()
			reader.Close()
		}
		for range 2 { // a line about the failure, and one about the recovery
			engine.Answer("/_ping", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			if !strings.Contains(p.scrape(), "\ndocker_up 0\n") {
				t.Errorf("%s: the failure is not noticed, so nothing is logged", name)
			}
			engine.Answer("/_ping", nil)
			p.served()
		}
	}
}

// TestStderrIsFull checks that a reader of the log that stalls stops neither scrapes nor the end of the
// program, and that lines that were dropped are counted.
func TestStderrIsFull(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	writer.SetWriteDeadline(time.Now().Add(time.Second))
	for err == nil { // until it is full
		_, err = writer.Write([]byte(strings.Repeat("x", 1023) + "\n"))
	}
	address, engine := serveFake(t, filepath.Join(engines, "empty-host"))
	process := exec.Command(binaryPath())
	process.Stderr = writer
	p := launch(t, process, "--docker.host="+address)
	for up := range 400 { // each change is a line
		engine.Answer("/_ping", nil)
		if up%2 == 0 {
			engine.Answer("/_ping", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}
		if want := fmt.Sprintf("\ndocker_up %d\n", up%2); !strings.Contains(p.scrape(), want) {
			t.Fatalf("scrape %d: got no %s", up, want)
		}
	}
	writer.Close()
	var log syncBuffer
	end := make(chan struct{})
	go func() {
		io.Copy(&log, reader)
		close(end)
	}()
	before := ""
	eventually(t, "the number of dropped lines, and the lines that have waited", func() bool {
		text := log.String()
		isAll := text == before && strings.Contains(text, "log lines were dropped")
		before = text
		return isAll
	})
	p.process.Process.Signal(syscall.SIGTERM)
	p.exitCode()
	<-end
	if text := log.String(); !strings.Contains(text, "msg=Stopped") {
		t.Errorf("got the log, want the last line:\n%.2000s", text[strings.LastIndex(text, "xxx"):])
	}
}

// TestHealthyWhileEngineHangs checks that the health of the program is not that of the engine.
func TestHealthyWhileEngineHangs(t *testing.T) {
	t.Parallel()
	address, engine := serveFake(t, filepath.Join(engines, "empty-host"))
	for _, endpoint := range []string{"/_ping", "/info", "/events", "/images/json", "/containers/json", "/volumes", "/system/df"} {
		engine.Answer(endpoint, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	}
	p := start(t, "--docker.host="+address, "--docker.timeout=30s")
	go http.Get(p.URL + "/metrics")
	client := &http.Client{Timeout: 10 * time.Second} // less than the timeouts of the engine
	for range 5 {
		response, err := client.Get(p.URL + "/-/healthy")
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("not healthy: %v", err)
		}
		response.Body.Close()
		time.Sleep(50 * time.Millisecond)
	}
}
