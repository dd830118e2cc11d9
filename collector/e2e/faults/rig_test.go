package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector"
	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/engine"
	"docker_buildup_exporter/collector/host"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	engines = "../../docker/testdata/" // responses of engines
	usual   = "29-overlay2"            // the engine of a row that names no other one

	scrapeInterval = 15 * time.Second
	scrapeTimeout  = 9500 * time.Millisecond
)

// A rig is the metrics page of an exporter, and the fake engine that it watches: net/http on
// both sides of a pipe, under a fake clock.
type rig struct {
	*testing.T
	*dockertest.Fake
	events *eventLog

	store     engine.StoreReader // nil: containerd is not read
	page      http.Handler
	transport *http.Transport
	data      string // the folder that is measured as the engine's disk
	dataRoot  string // the engine's root directory; "": it is not visible
	readsRoot bool   // logs and leftovers are read in it

	mu      sync.Mutex
	broken  map[string]broken // by endpoint
	answers sync.WaitGroup
	ctx     context.Context // of the answers of what is broken
	stop    func()
	refused error            // of each new connection
	clock   func() time.Time // of the engine
	conns   map[net.Conn]bool
	log     bytes.Buffer
}

// An answer is what an endpoint answers while it is broken; right answers what it should.
type answer func(w http.ResponseWriter, r *http.Request, right http.Handler)

func newRig(t *testing.T, folder string) *rig {
	t.Helper()
	r := &rig{
		T: t, Fake: dockertest.NewFake(engines + folder), broken: make(map[string]broken),
		conns: make(map[net.Conn]bool), clock: time.Now, data: t.TempDir(),
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.events = &eventLog{rig: r, more: make(chan struct{}), end: make(chan struct{})}
	return r
}

// newServer returns the engine's side of the connections.
func newServer(r *rig) *http.Server {
	return &http.Server{Handler: http.HandlerFunc(r.answer), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ConnState: r.connState}
}

// run runs a test with an exporter and an engine that serves a folder. Begin is called before
// the exporter starts. Goroutines that are left behind fail the test: synctest would not end.
func run(t *testing.T, folder string, begin, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, folder)
		defer r.serve()()
		if begin != nil {
			begin(r)
		}
		defer r.start()()
		test(r)
	})
}

type broken struct {
	matches func(*http.Request) bool
	answer
}

// serve connects the engine, and returns what disconnects it.
func (r *rig) serve() (stop func()) {
	listener := pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := newServer(r)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	r.transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		r.mu.Lock()
		refused := r.refused
		r.mu.Unlock()
		if refused != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: refused}
		}
		client, server := net.Pipe()
		select {
		case listener.conns <- server:
			return client, nil
		case <-listener.closed:
			return nil, net.ErrClosed
		}
	}}
	return func() {
		r.stop()
		r.transport.CloseIdleConnections()
		server.Close()
		r.hangUp()
		serving.Wait()
		r.answers.Wait()
	}
}

// connState keeps the connections of the engine, which a broken one may have hijacked.
func (r *rig) connState(conn net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if state == http.StateClosed {
		delete(r.conns, conn)
	} else {
		r.conns[conn] = true
	}
}

// hangUp closes all connections, as an engine that is killed does.
func (r *rig) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		conn.Close()
		delete(r.conns, conn)
	}
}

// refuse makes new connections fail, and breaks the others.
func (r *rig) refuse(err error) {
	r.mu.Lock()
	r.refused = err
	r.mu.Unlock()
	r.hangUp()
}

// release ends the answers that hang.
func (r *rig) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop()
	r.ctx, r.stop = context.WithCancel(context.Background())
}

func (r *rig) setClock(clock func() time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = clock
}

// now is the time of the engine.
func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock()
}

// start starts the exporter, and returns what stops it.
func (r *rig) start() (stop func()) {
	const timeout = 5 * time.Second
	client, err := docker.New(docker.Config{Host: "http://engine:2375", Timeout: timeout, Transport: r.transport})
	if err != nil {
		r.Fatal(err)
	}
	mappings := []host.MountMapping{{HostPath: "/data", LocalPath: r.data}}
	if r.dataRoot != "" {
		mappings = append(mappings, host.MountMapping{HostPath: "/var/lib/docker", LocalPath: r.dataRoot})
	}
	disks := host.New(mappings, nil)
	config := engine.Config{
		Timeout: timeout, BusyRatio: engine.BusyRatio{Unchanged: 0.005, Changed: 0.1},
		Events: true, ContainerSizes: true, Volumes: true, BuildCache: true, ContainerLogs: r.readsRoot, Leftovers: r.readsRoot,
		Store: r.store,
	}
	e := engine.New(config, client, disks, slog.New(slog.NewJSONHandler(&lockedWriter{r}, nil)))
	r.page = collector.NewHandler(e.Snapshot, 0, prometheus.NewRegistry(), 0, promhttp.HandlerOpts{})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// answer is the handler of the engine.
func (r *rig) answer(w http.ResponseWriter, request *http.Request) {
	r.answers.Add(1)
	defer r.answers.Done()
	right := http.HandlerFunc(r.right)
	r.mu.Lock()
	var wrong answer
	for _, b := range r.broken {
		if b.matches(request) {
			wrong = b.answer
		}
	}
	broken := r.ctx
	r.mu.Unlock()
	if wrong == nil {
		right(w, request)
		return
	}
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	defer context.AfterFunc(broken, cancel)()
	wrong(w, request.WithContext(ctx), right)
}

// right answers as the engine does when nothing is broken.
func (r *rig) right(w http.ResponseWriter, request *http.Request) {
	switch {
	case strings.HasSuffix(request.URL.Path, "/events"):
		r.events.stream(w, request)
	case strings.HasSuffix(request.URL.Path, "/info"):
		recorded := record(r.Fake, request)
		w.WriteHeader(recorded.Code)
		w.Write(systemTime.ReplaceAll(recorded.Body.Bytes(), []byte(`"SystemTime":"`+r.now().Format(time.RFC3339Nano)+`"`)))
	default:
		r.ServeHTTP(w, request)
	}
}

var systemTime = regexp.MustCompile(`"SystemTime":"[^"]*"`)

// record returns what a handler answers.
func record(handler http.Handler, request *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, request)
	return w
}

// An endpoint is a path and a part of the query: "/images/{id}/json" is the inspection of one
// image, that of the rows about one object; "/images/{any}/json" that of any image. Without a
// query, it does not include requests for sizes.
func (r *rig) matcher(endpoint string) func(*http.Request) bool {
	path, query, hasQuery := strings.Cut(endpoint, "?")
	image, container, _, _ := objectsOf()
	id := image
	if strings.HasPrefix(path, "/containers/") {
		id = container
	}
	path = strings.ReplaceAll(regexp.QuoteMeta(strings.ReplaceAll(path, "{id}", id)), `\{any\}`, `[^/]+`)
	pattern := regexp.MustCompile(`^(/v[0-9.]+)?` + path + "$")
	return func(request *http.Request) bool {
		parameters := request.URL.RawQuery
		return pattern.MatchString(request.URL.Path) && (hasQuery && strings.Contains(parameters, query) || !hasQuery && !strings.Contains(parameters, "size=1"))
	}
}

// objectsOf returns the IDs of the image and the container of the rows about one object, and of
// another one each.
func objectsOf() (image, container, otherImage, otherContainer string) {
	var images, containers []struct{ ID, State string }
	for file, list := range map[string]any{"images.json": &images, "containers.json": &containers} {
		if body, err := os.ReadFile(filepath.Join(engines, usual, file)); err != nil || json.Unmarshal(body, list) != nil {
			panic(file)
		}
	}
	for _, c := range containers {
		if c.State == "exited" {
			container = c.ID
		} else {
			otherContainer = c.ID
		}
	}
	return images[0].ID, container, images[1].ID, otherContainer
}

// breaks makes an endpoint answer something else.
func (r *rig) breaks(endpoint string, wrong answer) {
	matches := r.matcher(endpoint)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken[endpoint] = broken{matches, wrong}
}

// repairs ends everything that is broken. Answers that hang go on to do so.
func (r *rig) repairs() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.broken)
	r.refused, r.clock = nil, time.Now
}

// scrape returns the series of the metrics page with their values, and how long that took.
func (r *rig) scrape() (series map[string]string, took time.Duration) {
	started := time.Now()
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	page := record(r.page, request)
	if page.Code != http.StatusOK {
		r.Errorf("the metrics page: status %d: %.300s", page.Code, page.Body)
	}
	if strings.Contains(page.Body.String(), secret) {
		r.Errorf("a secret on the metrics page:\n%s", page.Body)
	}
	return seriesOf(page.Body.String()), time.Since(started)
}

// seriesOf returns the series of a page with their values.
func seriesOf(page string) map[string]string {
	series := make(map[string]string)
	for line := range strings.Lines(page) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			series[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return series
}

// A logLine is a line of the exporter's log.
type logLine struct{ Level, Msg, Err, Hint, Operation string }

func (r *rig) lines() (lines []logLine) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for text := range bytes.Lines(r.log.Bytes()) {
		var line logLine
		if err := json.Unmarshal(text, &line); err != nil {
			r.Error(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// goroutines returns what the goroutines do while nothing is requested, one in each line.
func (r *rig) goroutines() string {
	r.transport.CloseIdleConnections()
	synctest.Wait()
	var all strings.Builder
	buffer := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if lines := strings.Split(stack, "\n"); strings.Contains(lines[0], "synctest bubble") {
			fmt.Fprintln(&all, lines[0], lines[1])
		}
	}
	return all.String()
}

// lockedWriter is the writer of the log.
type lockedWriter struct{ *rig }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rig.log.Write(p)
}

// pipeListener accepts the connections that are dialed.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// An eventLog is the memory of an engine's events. Its streams honour since.
type eventLog struct {
	*rig
	mu   sync.Mutex
	kept []keptEvent
	more chan struct{} // closed when there is another event
	end  chan struct{} // closed when all streams are to end
}

type keptEvent struct {
	nano int64
	text string
}

// stream answers /events: what was kept since the parameter, and what happens from now on.
func (l *eventLog) stream(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	next, end := len(l.kept), l.end
	if since := r.URL.Query().Get("since"); since != "" {
		var first int64
		fmt.Sscan(strings.Replace(since, ".", "", 1), &first)
		next = 0
		for next < len(l.kept) && l.kept[next].nano < first {
			next++
		}
	}
	l.mu.Unlock()
	w.(http.Flusher).Flush()
	for {
		l.mu.Lock()
		events, more := l.kept[next:], l.more
		next = len(l.kept)
		l.mu.Unlock()
		for _, e := range events {
			io.WriteString(w, e.text+"\n")
		}
		w.(http.Flusher).Flush()
		select {
		case <-more:
		case <-end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// send makes an event like "container die ID", with attributes.
func (l *eventLog) send(event string, attributes ...string) {
	fields := strings.Fields(event + " -")
	named := make(map[string]string)
	for i := 0; i+1 < len(attributes); i += 2 {
		named[attributes[i]] = attributes[i+1]
	}
	nano := l.now().UnixNano()
	text, _ := json.Marshal(map[string]any{
		"Type": fields[0], "Action": fields[1], "Actor": map[string]any{"ID": fields[2], "Attributes": named}, "timeNano": nano,
	})
	l.sendText(string(text))
}

// sendText makes an event of any text.
func (l *eventLog) sendText(text string) {
	nano := l.now().UnixNano()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, keptEvent{nano, text})
	close(l.more)
	l.more = make(chan struct{})
}

// cut ends all streams. The engine loses its events if it restarts.
func (l *eventLog) cut(isRestart bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isRestart {
		l.kept = nil
	}
	close(l.end)
	l.end = make(chan struct{})
}
