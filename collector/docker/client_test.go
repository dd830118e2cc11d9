package docker

import (
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"
)

// cleanEnvironment takes away what of the developer's own Docker would matter.
func cleanEnvironment(t *testing.T) {
	t.Helper()
	for _, variable := range []string{"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR"} {
		t.Setenv(variable, "")
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())
}

func TestFindHost(t *testing.T) {
	tests := []struct {
		name        string
		flag        string
		environment map[string]string
		config      string
		want        string // the candidates, or what the error says
	}{
		{"the local socket", "", nil, "", "unix:///var/run/docker.sock"},
		{"or the rootless one", "", map[string]string{"XDG_RUNTIME_DIR": "/run/user/7"}, "", "unix:///var/run/docker.sock unix:///run/user/7/docker.sock"},
		{"DOCKER_HOST", "", map[string]string{"DOCKER_HOST": "tcp://a:1", "XDG_RUNTIME_DIR": "/run/user/7"}, "", "tcp://a:1"},
		{"the flag before DOCKER_HOST", "unix:///b", map[string]string{"DOCKER_HOST": "tcp://a:1"}, "", "unix:///b"},
		{"DOCKER_HOST before a context", "", map[string]string{"DOCKER_HOST": "tcp://a:1", "DOCKER_CONTEXT": "far"}, "", "tcp://a:1"},
		{"a context by name", "", map[string]string{"DOCKER_CONTEXT": "far"}, "", "docker context inspect far"},
		{"a context by choice", "", nil, `{"currentContext":"desktop-linux"}`, "docker context inspect desktop-linux"},
		{"the default context", "", nil, `{"currentContext":"default"}`, "unix:///var/run/docker.sock"},
		{"a broken file of the CLI", "", nil, `{`, "unix:///var/run/docker.sock"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cleanEnvironment(t)
			for name, value := range test.environment {
				t.Setenv(name, value)
			}
			if test.config != "" {
				write(t, filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), test.config)
			}
			hosts, err := findHost(test.flag)
			got := strings.Join(hosts, " ")
			if err != nil {
				got = err.Error()
			}
			if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// An address that can never work is an error that says what to give instead.
func TestBadHosts(t *testing.T) {
	cleanEnvironment(t)
	for host, want := range map[string]string{
		"ssh://user@host":                     "forward the socket",
		"my-context":                          "docker context inspect",
		"/var/run/docker.sock":                "unix://PATH",
		"npipe:////./pipe/docker_engine":      "unix://PATH",
		"unix://":                             "unix://PATH",
		"tcp://[::1":                          "tcp://[::1",
		"unix:///" + strings.Repeat("x", 200): "too long",
	} {
		if _, err := New(Config{Host: host}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", host, err, want)
		}
	}
}

// The first socket that exists counts, and then stays: another engine's figures
// are no answer when that one goes away.
func TestSocketsOfChoice(t *testing.T) {
	cleanEnvironment(t)
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.sock"), filepath.Join(dir, "second.sock")
	serveUnix := func(path, engine string) *httptest.Server {
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(dockertest.NewFake(filepath.Join("testdata", engine)))
		server.Listener = listener
		server.Start()
		return server
	}
	c, err := New(Config{Host: "unix://" + first, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c.http.(readOnly).RoundTripper.(*http.Transport).DialContext = dialFirst([]string{"unix://" + first, "unix://" + second})

	if _, err := c.Ping(t.Context()); err == nil {
		t.Fatal("an answer, although there is no socket")
	}
	server := serveUnix(second, "api-1.43-graphdriver")
	if version, err := c.Ping(t.Context()); version != "1.43" {
		t.Fatalf("got version %q of the second socket, %v", version, err)
	}
	server.Close()
	defer serveUnix(first, "api-1.51-graphdriver").Close()
	if version, err := c.Ping(t.Context()); err == nil {
		t.Errorf("got version %q of another engine when the first one went away", version)
	}
}

func TestTLS(t *testing.T) {
	cleanEnvironment(t)
	server := httptest.NewTLSServer(dockertest.NewFake("testdata/api-1.51-graphdriver"))
	defer server.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	host := "tcp://" + server.Listener.Addr().String()

	up := func(t *testing.T, options TLS) (bool, string) {
		t.Helper()
		c, err := New(Config{Host: host, TLS: options, Timeout: time.Second})
		if err != nil {
			return false, err.Error()
		}
		if _, err = c.Ping(t.Context()); err != nil {
			failure := new(model.Failure)
			errors.As(err, &failure)
			return false, failure.Reason + failure.Hint
		}
		return true, ""
	}
	t.Run("verified", func(t *testing.T) {
		if ok, log := up(t, TLS{CA: ca}); !ok {
			t.Errorf("not up: %s", log)
		}
	})
	t.Run("expressly not verified", func(t *testing.T) {
		if ok, log := up(t, TLS{Insecure: true}); !ok {
			t.Errorf("not up: %s", log)
		}
	})
	t.Run("an unreadable file", func(t *testing.T) {
		if ok, log := up(t, TLS{CA: filepath.Join(dir, "none.pem")}); ok || !strings.Contains(log, "none.pem") {
			t.Errorf("up %v: %s", ok, log)
		}
	})
	t.Run("half a client certificate", func(t *testing.T) {
		if ok, log := up(t, TLS{CA: ca, Cert: ca}); ok || !strings.Contains(log, "TLS files for the engine") {
			t.Errorf("up %v: %s", ok, log)
		}
	})
	t.Run("DOCKER_CERT_PATH alone still verifies", func(t *testing.T) {
		// The Docker client would take this for leave not to verify.
		t.Setenv("DOCKER_CERT_PATH", dir)
		cert, key := dockertest.KeyPair(t)
		if ok, log := up(t, TLS{Cert: cert, Key: key}); !ok {
			t.Errorf("not up: %s", log)
		}
		write(t, ca, readFile(t, cert))
		if ok, log := up(t, TLS{Cert: cert, Key: key}); ok || !strings.Contains(log, "--docker.tls-ca") {
			t.Errorf("up %v with another authority: %s", ok, log)
		}
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
