package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// TestDisturbedEvents checks the metrics after random changes while events are delayed, duplicated,
// mixed with thousands of others, or lost because the stream is cut. The metrics must finally match
// the output of the Docker CLI, and the memory of the program must not grow.
func TestDisturbedEvents(t *testing.T) {
	t.Parallel()
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			testDisturbedEvents(t, kind, withoutContainerd)
		})
	}
	t.Run("29-containerd read directly", func(t *testing.T) {
		t.Parallel()
		testDisturbedEvents(t, dockertest.Docker29Containerd, withContainerd)
	})
}

// testDisturbedEvents is TestDisturbedEvents for one kind of engine.
func testDisturbedEvents(t *testing.T, kind dockertest.Kind, flag string) {
	engine := dockertest.Start(t, kind)
	w := newRandomWalk(t, engine)
	proxy := newProxy(engine)
	proxy.random = rand.New(rand.NewPCG(w.random.Uint64(), 0))
	p := start(t, "--docker.host="+serve(t, proxy), allRepositories, flag)
	p.scrape()
	memory := values(t, p.scrape())["process_resident_memory_bytes"]

	for range 3 {
		for changes := 0; changes < 25; {
			if _, err := w.step(w.names()); err == nil {
				changes++
				p.scrape()
			}
		}
		_, difference, took := w.compare(p, 3*time.Minute)
		if difference != "" {
			t.Fatalf("after %v: %s\nlog: %s", took, difference, p.log.String())
		}
		t.Logf("correct after %v", took.Round(time.Millisecond))
	}
	grown := values(t, p.scrape())["process_resident_memory_bytes"] - memory
	t.Logf("events: %v; the memory of the program grew by %.1f MiB", proxy.counts(), grown/(1<<20))
	if grown > 64<<20 {
		t.Errorf("the memory of the program grew by %.0f MiB, want at most 64 MiB", grown/(1<<20))
	}
}

// newReverseProxy returns a reverse proxy to an engine.
func newReverseProxy(engine *dockertest.Real) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:     engine.Transport(),
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
	}
}

// A proxy is a reverse proxy to an engine. It delays lists, as if the engine had many objects, and
// can disturb events.
type proxy struct {
	*httputil.ReverseProxy

	mu     sync.Mutex
	random *rand.Rand     // chooses how to disturb each event; nil disables this
	events map[string]int // number of events by treatment
}

// newProxy returns a proxy that does not disturb events.
func newProxy(engine *dockertest.Real) *proxy {
	return &proxy{ReverseProxy: newReverseProxy(engine), events: make(map[string]int)}
}

// serve serves requests with a handler until the test ends, and returns the address.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// counts returns the number of events by treatment.
func (p *proxy) counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.events)
}

// choose returns a random treatment for one event.
func (p *proxy) choose() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	treatments := []string{"forwarded", "forwarded", "forwarded", "delayed", "duplicated", "flooded", "cut"}
	treatment := treatments[p.random.IntN(len(treatments))]
	p.events[treatment]++
	return treatment
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isList := strings.HasSuffix(r.URL.Path, "/images/json") || strings.HasSuffix(r.URL.Path, "/containers/json")
	if isList && !strings.Contains(r.URL.RawQuery, "filters") {
		time.Sleep(600 * time.Millisecond)
	}
	if !strings.HasSuffix(r.URL.Path, "/events") || p.random == nil {
		p.ReverseProxy.ServeHTTP(w, r)
		return
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", "engine", ""
	response, err := p.Transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	flush := w.(http.Flusher).Flush
	w.WriteHeader(response.StatusCode)
	flush()
	events := bufio.NewScanner(response.Body)
	for events.Scan() {
		switch p.choose() {
		case "delayed":
			time.Sleep(2 * time.Second)
		case "duplicated":
			fmt.Fprintln(w, events.Text())
		case "flooded":
			for i := range 3000 {
				fmt.Fprintf(w, `{"Type":"container","Action":"die","Actor":{"ID":"%064x"},"timeNano":1}`+"\n", i)
			}
		case "cut":
			return
		}
		fmt.Fprintln(w, events.Text())
		flush()
	}
}
