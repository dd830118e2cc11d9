package docker

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"

	"github.com/docker/docker/api/types/container"
)

// ping returns the version that an engine reports, or the failure.
func ping(t *testing.T, host string, timeout time.Duration) (version string, failure *model.Failure) {
	t.Helper()
	c, err := New(Config{Host: host, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Ping(t.Context())
	if err != nil && !errors.As(err, &failure) {
		t.Fatalf("%v is not a Failure", err)
	}
	return answer.API, failure
}

// A failed ping has the reason and a hint that fits it.
func TestPingFails(t *testing.T) {
	dir := t.TempDir()
	refused := httptest.NewServer(nil)
	refused.Close()
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	headers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.WriteHeader(http.StatusNotFound)
	}))
	defer headers.Close()
	redirect := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusFound))
	defer redirect.Close()
	forbidden := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no ping\nfor you", http.StatusForbidden)
	}))
	defer forbidden.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	stale := filepath.Join(dir, "stale.sock")
	listener, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	tests := []struct{ name, host, reason, hint string }{
		{"no socket", "unix://" + dir + "/none.sock", "no such file", "start the engine"},
		{"nothing listens at the socket", "unix://" + stale, "connection refused", "start the engine"},
		{"refused", refused.URL, "connection refused", "start the engine"},
		{"hangs", "tcp://" + hung.Addr().String(), "no answer in time", "see whether the engine hangs"},
		{"another server", plain.URL, "not a Docker engine: the answer to a ping has HTTP status 404", "something that is no engine answers at " + plain.URL},
		{"another server with the header of an engine", headers.URL, "not a Docker engine: the answer to a ping has HTTP status 404", "something that is no engine answers"},
		{"a redirect", redirect.URL, "not a Docker engine: the answer to a ping has HTTP status 302", "something that is no engine answers"},
		{"forbidden", forbidden.URL, "forbidden: no ping for you", "allow GET /_ping in the socket proxy"},
		{"unknown name", "tcp://nowhere.invalid:2375", "nowhere.invalid", "by a name that can be resolved here"},
		{"TLS without configuration", "tcp://" + secure.Listener.Addr().String(), "the engine expects TLS", "--docker.tls-ca"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			timeout := 10 * time.Second
			if test.name == "hangs" {
				timeout = 50 * time.Millisecond
			}
			_, failure := ping(t, test.host, timeout)
			if failure == nil {
				t.Fatal("no failure")
			}
			if !strings.Contains(failure.Reason, test.reason) || !strings.Contains(failure.Hint, test.hint) || failure.Endpoint != "/_ping" {
				t.Errorf("got %+v, want the reason %q and the hint %q", failure, test.reason, test.hint)
			}
			if _, again := ping(t, test.host, timeout); again == nil || again.Reason != failure.Reason {
				t.Errorf("the reason is %q and then %v, want the same", failure.Reason, again)
			}
		})
	}
}

// A server that does not report an API version is not an engine.
func TestPingWithoutVersion(t *testing.T) {
	for version, isEngine := range map[string]bool{
		"": false, "text": false, "1.51/../..": false, "-1.41": false, "1": false, "1.": false, ".41": false, "1.41.2": false, "1.41": true, "1.60": true,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Api-Version", version)
		}))
		got, failure := ping(t, server.URL, 10*time.Second)
		if (failure == nil) != isEngine || isEngine && got != version {
			t.Errorf("version %q: got %q, %+v", version, got, failure)
		}
		if failure != nil && !strings.Contains(failure.Reason, "not a Docker engine") {
			t.Errorf("version %q: %+v", version, failure)
		}
		server.Close()
	}
}

// Requests that would change something are not sent, even if the code has one.
func TestReadOnly(t *testing.T) {
	fake := dockertest.NewFake("testdata/api-1.51-graphdriver")
	c, err := New(Config{Host: "http://fake", Timeout: time.Second, Transport: fake})
	if err != nil {
		t.Fatal(err)
	}
	api, err := c.At(Version{API: "1.51"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Info(t.Context()); err != nil {
		t.Errorf("a GET fails: %v", err)
	}
	before := len(fake.Requests())
	for name, err := range map[string]error{
		"POST":   api.api.ContainerKill(t.Context(), "a", "KILL"),
		"DELETE": api.api.ContainerRemove(t.Context(), "a", container.RemoveOptions{}),
		"PUT":    api.api.CopyToContainer(t.Context(), "a", "/", strings.NewReader(""), container.CopyToContainerOptions{}),
	} {
		if err == nil || !strings.Contains(err.Error(), "no answer") && !strings.Contains(err.Error(), "only reads") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if requests := fake.Requests(); len(requests) != before {
		t.Errorf("sent: %v", requests[before:])
	}
}
