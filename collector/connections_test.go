package collector

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"

	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// pipes is a listener of connections without buffers.
type pipes struct{ accepted chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	conn, open := <-p.accepted
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error {
	close(p.accepted)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// watched is the server's end of a connection, which notes when it is closed.
type watched struct {
	net.Conn
	once   *sync.Once
	closed chan struct{}
}

func (w watched) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// connect opens a connection. The channel is closed when the server closes it.
func (p pipes) connect() (net.Conn, <-chan struct{}) {
	client, server := net.Pipe()
	closed := make(chan struct{})
	p.accepted <- watched{server, new(sync.Once), closed}
	return client, closed
}

// serve runs a server in the bubble of a test until the test ends.
func serve(t *testing.T, handler http.Handler, maxConnections int) (pipes, *strings.Builder) {
	t.Helper()
	listener := pipes{make(chan net.Conn)}
	server := NewServer(handler, maxConnections)
	var errorLog strings.Builder
	server.ErrorLog = log.New(&errorLog, "", 0)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return listener, &errorLog
}

// TestSlowClients checks how long a client that does not go on keeps its connection.
func TestSlowClients(t *testing.T) {
	const (
		get  = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
		hour = "GET / HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 3600\r\n\r\n"
	)
	tests := []struct {
		name, sent string
		reads      bool
		want       time.Duration
	}{
		{"sends nothing", "", true, 10 * time.Second},
		{"sends half a line", "GET", true, 10 * time.Second},
		{"sends half a header", "GET / HTTP/1.1\r\nHost", true, 10 * time.Second},
		{"sends no body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1", true, 10 * time.Second},
		{"does not read", get, false, 30 * time.Second},
		{"does not read and has much time", hour, false, 30 * time.Second},
		{"does not go on", get, true, 2 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					io.WriteString(w, strings.Repeat("x", 1<<16))
				})
				listener, _ := serve(t, page, 10)
				conn, closed := listener.connect()
				defer conn.Close()
				started := time.Now()
				if test.reads {
					go io.Copy(io.Discard, conn)
				}
				if _, err := io.WriteString(conn, test.sent); err != nil {
					t.Fatal(err)
				}
				select {
				case <-closed:
				case <-time.After(time.Hour):
				}
				if took := time.Since(started).Round(time.Second); took != test.want {
					t.Errorf("the connection was open for %v, want %v", took, test.want)
				}
			})
		})
	}
}

// TestLongScrape checks that a client that may wait for a page longer than it may take to read
// it gets the page.
func TestLongScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		snapshot := func(context.Context, time.Duration) model.Snapshot {
			time.Sleep(10 * time.Minute)
			return complete()
		}
		listener, _ := serve(t, NewHandler(snapshot, 0, prometheus.NewRegistry(), 1, promhttp.HandlerOpts{}), 10)
		conn, _ := listener.connect()
		defer conn.Close()
		io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		page, err := io.ReadAll(conn)
		if err != nil && !errors.Is(err, io.EOF) || !strings.Contains(string(page), "docker_up 1") {
			t.Errorf("got %v, %q", err, page)
		}
	})
}

// TestClientsThatHangUp checks that a client that hangs up is no line in the log.
func TestClientsThatHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pageLog strings.Builder
		options := promhttp.HandlerOpts{ErrorLog: log.New(&pageLog, "", 0), ErrorHandling: promhttp.ContinueOnError}
		snapshot := func(context.Context, time.Duration) model.Snapshot { return complete() }
		listener, serverLog := serve(t, NewHandler(snapshot, 0, prometheus.NewRegistry(), 1, options), 10)
		for range 3 {
			conn, closed := listener.connect()
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			conn.Read(make([]byte, 1))
			conn.Close()
			<-closed
		}
		if pageLog.Len()+serverLog.Len() > 0 {
			t.Errorf("got the log %q, %q", pageLog.String(), serverLog.String())
		}
	})
}
