package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestClientFaults checks what clients can do: the program answers as it should, or hangs up,
// serves others meanwhile, and keeps nothing of them.
func TestClientFaults(t *testing.T) {
	t.Parallel()
	const host = "Host: x\r\n\r\n"
	tests := []struct {
		what   string
		sends  string
		times  int // connections; 0 means 1
		status int // 0: no answer is expected
	}{
		{"says nothing", "", 40, 0},
		{"half a method", "GE", 40, 0},
		{"half a header", "GET /metrics HTTP/1.1\r\nHos", 40, 0},
		{"a header without its end", "GET /metrics HTTP/1.1\r\nHost: x\r\n", 40, 0},
		{"half a body", "POST /metrics HTTP/1.1\r\nContent-Length: 9\r\nHost: x\r\n\r\n1", 40, 0},
		{"half a chunk", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n9\r\n1", 40, 0},
		{"a chunk that is none", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\nzz\r\n", 1, 405},
		{"an unknown transfer encoding", "GET /metrics HTTP/1.1\r\nTransfer-Encoding: x\r\n" + host, 1, 501},
		{"an unknown method", "BREW /metrics HTTP/1.1\r\n" + host, 1, 405},
		{"DELETE", "DELETE /metrics HTTP/1.1\r\n" + host, 1, 405},
		{"CONNECT", "CONNECT engine:2375 HTTP/1.1\r\n" + host, 1, 405},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + host, 1, 200},
		{"no host", "GET /metrics HTTP/1.1\r\n\r\n", 1, 400},
		{"two hosts", "GET /metrics HTTP/1.1\r\nHost: a\r\n" + host, 1, 400},
		{"a host that is none", "GET /metrics HTTP/1.1\r\nHost: a b\r\n\r\n", 1, 400},
		{"two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + host, 1, 400},
		{"a negative length", "POST / HTTP/1.1\r\nContent-Length: -1\r\n" + host, 1, 400},
		{"an HTTP version that is none", "GET /metrics HTTP/7\r\n" + host, 1, 400},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 1, 400},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 1, 400},
		{"bytes that are no text", "\x00\xff\x00\xff\r\n\r\n", 1, 400},
		{"a long path", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n" + host, 1, 404},
		{"a long header", "GET /metrics HTTP/1.1\r\nX: " + strings.Repeat("a", 4<<20) + "\r\n" + host, 1, 431},
		{"10^5 headers", "GET /metrics HTTP/1.1\r\n" + strings.Repeat("X: a\r\n", 1e5) + host, 1, 200},
		{"an unknown path", "GET /none HTTP/1.1\r\n" + host, 1, 404},
		{"a path that leads up", "GET /../../etc/passwd HTTP/1.1\r\n" + host, 1, 307},
		{"a path with a percent sign", "GET /%zz HTTP/1.1\r\n" + host, 1, 400},
		{"a path with a zero", "GET /%00 HTTP/1.1\r\n" + host, 1, 404},
		{"no path", "GET  HTTP/1.1\r\n" + host, 1, 400},
		{"an address as path", "GET http://engine/_ping HTTP/1.1\r\n" + host, 1, 404},
		{"a query", "GET /metrics?name[]=%ff&timeout=1e99 HTTP/1.1\r\n" + host, 1, 200},
		{"a timeout of NaN", "GET /metrics HTTP/1.1\r\nX-Prometheus-Scrape-Timeout-Seconds: NaN\r\n" + host, 1, 200},
		{"a timeout of -1", "GET /metrics HTTP/1.1\r\nX-Prometheus-Scrape-Timeout-Seconds: -1\r\n" + host, 1, 200},
		{"a timeout of 1e300", "GET /metrics HTTP/1.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 1e300\r\n" + host, 1, 200},
		{"a timeout of a nanosecond", "GET /metrics HTTP/1.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 1e-9\r\n" + host, 1, 200},
		{"an unknown format", "GET /metrics HTTP/1.1\r\nAccept: image/png;q=x\r\n" + host, 1, 200},
		{"an unknown compression", "GET /metrics HTTP/1.1\r\nAccept-Encoding: br;q=9, zstd\r\n" + host, 1, 200},
		{"a range", "GET /metrics HTTP/1.1\r\nRange: bytes=99999-1\r\n" + host, 1, 200},
		{"an upgrade", "GET /metrics HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + host, 1, 200},
		{"HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 1, 400},
		{"does not read 1,000 answers", strings.Repeat("GET /metrics HTTP/1.1\r\n"+host, 1000), 4, 0},
	}
	p, _ := fake(t, "empty-host")
	p.served()
	before := p.served()
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			var conns []net.Conn
			for range max(1, test.times) {
				conn := p.connect()
				conns = append(conns, conn)
				go io.WriteString(conn, test.sends)
			}
			if test.status != 0 {
				conns[0].SetReadDeadline(time.Now().Add(testTimeout))
				response, err := http.ReadResponse(bufio.NewReader(conns[0]), nil)
				if err != nil || response.StatusCode != test.status {
					t.Errorf("got %v, %v, want status %d", response, err, test.status)
				}
			}
			p.served()
			for _, conn := range conns {
				conn.Close()
			}
		})
	}
	for _, figure := range []string{"process_open_fds", "go_goroutines"} {
		var now float64
		eventually(t, fmt.Sprintf("%s to be %v again", figure, before[figure]), func() bool {
			now = p.served()[figure]
			return now <= before[figure]
		})
	}
	if now := p.served()["process_resident_memory_bytes"]; now > before["process_resident_memory_bytes"]+32<<20 {
		t.Errorf("the program grew from %v to %v bytes", before["process_resident_memory_bytes"], now)
	}
}

// TestAnswerWithoutRequest checks that the log has one line about an engine that sends more than
// it says: net/http has a log of its own.
func TestAnswerWithoutRequest(t *testing.T) {
	t.Parallel()
	p, engine := fake(t, "empty-host")
	engine.Answer("/volumes", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{\"Volumes\":[]}")
			time.Sleep(time.Second)
			conn.Close()
		}
	})
	for range 3 {
		p.scrape()
		time.Sleep(1500 * time.Millisecond)
	}
	log := p.log.String()
	if strings.Contains(log, "Unsolicited") || strings.Count(log, "cannot list volumes") != 1 {
		t.Errorf("the log:\n%s", log)
	}
}
