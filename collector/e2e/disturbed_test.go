package e2e

import (
	"bufio"
	"fmt"
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

// An engine is changed at random while its events come late, twice, among a flood
// of others, or not at all because the stream is cut. Once that is over the page
// says what the CLI says, and the program has not grown.
func TestDisturbedEvents(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			disturbedEvents(t, kind)
		})
	}
}

func disturbedEvents(t *testing.T, kind dockertest.Kind) {
	engine := dockertest.Start(t, kind)
	w := newWalk(t, engine)
	proxy := newProxy(engine)
	proxy.random = rand.New(rand.NewPCG(w.random.Uint64(), 0))
	p := start(t, "--docker.host="+proxy.serve(t), everyRepository)
	p.scrape()
	memory := values(t, p.scrape())["process_resident_memory_bytes"]

	for range 3 {
		for made := 0; made < 25; {
			if _, err := w.step(w.names()); err == nil {
				made++
				p.scrape()
			}
		}
		_, differ, took := w.settle(p, 3*time.Minute)
		if differ != "" {
			t.Fatalf("still after %v: %s\nthe log: %s", took, differ, p.log.String())
		}
		t.Logf("settled after %v", took.Round(time.Millisecond))
	}
	grown := values(t, p.scrape())["process_resident_memory_bytes"] - memory
	t.Logf("%s; the program grew by %.1f MiB", proxy, grown/(1<<20))
	if grown > 64<<20 {
		t.Errorf("the program grew by %.0f MiB", grown/(1<<20))
	}
}

// A proxy in front of an engine makes its lists dear, as if there were more in them,
// and can spoil its events.
type proxy struct {
	*httputil.ReverseProxy
	transport http.RoundTripper

	mu     sync.Mutex
	random *rand.Rand // draws how to spoil events; nil: not at all
	done   map[string]int
}

func newProxy(engine *dockertest.Real) *proxy {
	p := &proxy{transport: engine.Transport(), done: make(map[string]int)}
	p.ReverseProxy = &httputil.ReverseProxy{
		Transport:     p.transport,
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
	}
	return p
}

// serve returns the address of the proxy.
func (p *proxy) serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func (p *proxy) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("events: %v", p.done)
}

// choose draws how to treat one event.
func (p *proxy) choose() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ways := []string{"passed on", "passed on", "passed on", "delayed", "told twice", "flooded", "cut"}
	way := ways[p.random.IntN(len(ways))]
	p.done[way]++
	return way
}

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
	response, err := p.transport.RoundTrip(out)
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
		case "told twice":
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
