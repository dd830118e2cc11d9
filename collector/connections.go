package collector

import (
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// NewServer returns a server of at most maxConnections connections. A client that is slow to
// send a request or to read the answer loses its connection.
func NewServer(handler http.Handler, maxConnections int) *http.Server {
	limit := connectionLimit{max: maxConnections}
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(&clientWriter{ResponseWriter: w}, r)
		}),
		ConnState:   limit.setState,
		ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
	}
}

// writeTimeout bounds the time that a client may take to read a page. It starts when the page
// is there, which http.Server.WriteTimeout does not.
const writeTimeout = 30 * time.Second

// clientWriter writes to a client until that fails, and hides the failure: a client that hangs
// up is no problem of the exporter, and promhttp would log it for each metric.
type clientWriter struct {
	http.ResponseWriter
	hasStarted, hasFailed bool
}

func (w *clientWriter) Write(p []byte) (int, error) {
	if !w.hasStarted {
		w.hasStarted = true
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout)) // not all writers have one
	}
	if !w.hasFailed {
		_, err := w.ResponseWriter.Write(p)
		w.hasFailed = err != nil
	}
	return len(p), nil
}

// MaxConnections returns how many connections of clients the process can afford: all the files
// that it may open but those that it needs itself.
func MaxConnections() int {
	const own, enough = 128, 2048
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > own+enough {
		return enough
	}
	return max(1, int(limit.Cur)-own)
}

// connectionLimit bounds the open connections of a server, so that clients cannot use up the
// files that the process needs itself. Its setState is a hook of http.Server.
type connectionLimit struct {
	max int

	mu   sync.Mutex
	open map[net.Conn]http.ConnState
}

// setState takes the new state of a connection. At the limit a new connection takes the
// place of an idle one, else of one that has not sent a request yet, or is closed.
func (l *connectionLimit) setState(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(l.open, conn)
		return
	}
	if l.open == nil {
		l.open = make(map[net.Conn]http.ConnState)
	}
	l.open[conn] = state
	if len(l.open) <= l.max {
		return
	}
	surplus := conn
	for other, otherState := range l.open {
		if otherState == http.StateIdle {
			surplus = other
			break
		}
		if otherState == http.StateNew && other != conn {
			surplus = other
		}
	}
	delete(l.open, surplus)
	surplus.Close()
}
