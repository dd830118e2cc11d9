package docker

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
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

// TestFindHosts checks that the engine is the one that the Docker CLI would use, and that a
// setting of the CLI that is not followed is a warning.
func TestFindHosts(t *testing.T) {
	const local, rootless = "unix:///var/run/docker.sock", "unix:///run/user/7/docker.sock"
	const podman, rootlessPodman = "unix:///run/podman/podman.sock", "unix:///run/user/7/podman/podman.sock"
	type variables = map[string]string
	tests := []struct {
		name      string
		flag      string
		variables variables
		uid       int
		config    string // config.json
		context   string // name and address, separated by a space
		want      string
		warning   string
	}{
		{"the local socket", "", nil, 0, "", "", local + " " + podman, ""},
		{"or the rootless one", "", variables{"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "", "", local + " " + rootless + " " + rootlessPodman + " " + podman, ""},
		{"without a session", "", nil, 7, "", "", local + " " + rootless + " " + rootlessPodman + " " + podman, ""},
		{"DOCKER_HOST", "", variables{"DOCKER_HOST": "tcp://a:1", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "", "", "tcp://a:1", ""},
		{"DOCKER_HOST without an address", "", variables{"DOCKER_HOST": " \n"}, 0, "", "", local + " " + podman, ""},
		{"the flag before DOCKER_HOST", "unix:///b", variables{"DOCKER_HOST": "tcp://a:1"}, 0, "", "", "unix:///b", ""},
		{"DOCKER_HOST before a context", "", variables{"DOCKER_HOST": "tcp://a:1", "DOCKER_CONTEXT": "far"}, 0, "", "", "tcp://a:1", ""},
		{"the flag before a context", "unix:///b", variables{"DOCKER_CONTEXT": "far"}, 0, "", "", "unix:///b", ""},
		{"the context of Docker's rootless setup", "", nil, 7, `{"currentContext":"rootless"}`, "rootless unix:///run/user/7/docker.sock", rootless, ""},
		{"DOCKER_CONTEXT", "", variables{"DOCKER_CONTEXT": "a"}, 0, "", "a unix:///a.sock", "unix:///a.sock", ""},
		{"DOCKER_CONTEXT before config.json", "", variables{"DOCKER_CONTEXT": "a"}, 0, `{"currentContext":"b"}`, "a unix:///a.sock", "unix:///a.sock", ""},
		{"DOCKER_CONTEXT=default before config.json", "", variables{"DOCKER_CONTEXT": "default"}, 0, `{"currentContext":"a"}`, "a unix:///a.sock", local + " " + podman, ""},
		{"the default context", "", nil, 0, `{"currentContext":"default"}`, "", local + " " + podman, ""},
		{"other settings", "", nil, 0, `{"auths":{}}`, "", local + " " + podman, ""},
		{"a context without an address", "", variables{"DOCKER_CONTEXT": "a"}, 0, "", "a ", local + " " + podman, ""},
		{"a context by ssh", "", variables{"DOCKER_CONTEXT": "far"}, 0, "", "far ssh://me:secret@there", local + " " + podman, `the Docker context "far" is ssh://there, and only contexts that are unix sockets are followed`},
		{"a context by TCP", "", nil, 7, `{"currentContext":"far"}`, "far tcp://there:2376", local + " " + rootless + " " + rootlessPodman + " " + podman, `the Docker context "far" is tcp://there:2376, and only`},
		{"a context that does not exist", "", nil, 0, `{"currentContext":"none"}`, "a unix:///a.sock", local + " " + podman, `cannot read the Docker context "none": open `},
		{"an invalid config.json", "", nil, 0, `{`, "", local + " " + podman, "cannot read the settings of the Docker CLI: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			home := t.TempDir()
			environment := Environment{Variables: variables{"HOME": home}, UID: test.uid}
			maps.Copy(environment.Variables, test.variables)
			dir := filepath.Join(home, ".docker")
			if len(test.context) > 10 { // also with a directory of its own
				dir = filepath.Join(home, "other")
				environment.Variables["DOCKER_CONFIG"] = dir
			}
			if test.config != "" {
				write(t, filepath.Join(dir, "config.json"), test.config)
			}
			if name, host, found := strings.Cut(test.context, " "); found {
				write(t, filepath.Join(dir, "contexts/meta", fmt.Sprintf("%x", sha256.Sum256([]byte(name))), "meta.json"),
					fmt.Sprintf(`{"Name":%q,"Metadata":{},"Endpoints":{"docker":{"Host":%q,"SkipTLSVerify":false}}}`, name, host))
			}
			hosts, warning := findHosts(test.flag, environment)
			if got := strings.Join(hosts, " "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if (warning == nil) != (test.warning == "") || warning != nil && !strings.HasPrefix(warning.Error(), test.warning) {
				t.Errorf("got the warning %v, want %q", warning, test.warning)
			}
		})
	}
}

// TestSettingsThatMayNotBeRead checks that settings of the Docker CLI that another user has
// closed are no reason to be silent about them.
func TestSettingsThatMayNotBeRead(t *testing.T) {
	environment := Environment{Variables: map[string]string{"DOCKER_CONFIG": "/proc/self/mem"}} // a file, no directory
	c, err := New(Config{Environment: environment})
	if err != nil || c.Warning == nil || !strings.Contains(c.Warning.Error(), "cannot read the settings of the Docker CLI") {
		t.Errorf("got %v and the warning %v", err, c.Warning)
	}
}

// TestAddresses checks that an address is completed as the Docker CLI does it, and that an
// address that can never work is an error that says what to use instead, without passwords.
func TestAddresses(t *testing.T) {
	tests := []struct {
		host  string
		isTLS bool
		want  string // the address, or what the error contains
	}{
		{"tcp://host", false, "tcp://host:2375"},
		{"tcp://host", true, "tcp://host:2375"},
		{"tcp://host:", false, "tcp://host:2375"},
		{"tcp://host:1", true, "tcp://host:1"},
		{"tcp://host/prefix", false, "tcp://host:2375/prefix"},
		{"tcp://", false, "tcp://localhost:2375"},
		{"tcp://:1", false, "tcp://localhost:1"},
		{"tcp://192.0.2.1", false, "tcp://192.0.2.1:2375"},
		{"tcp://[::1]", true, "tcp://[::1]:2375"},
		{"tcp://[::1]:1", true, "tcp://[::1]:1"},
		{" tcp://host:1\n", false, "tcp://host:1"},
		{"host:1", false, "tcp://host:1"},
		{"http://host", false, "http://host"},
		{"http://[::1]/x", false, "http://[::1]/x"},
		{"http://host:1", false, "http://host:1"},
		{"unix:///run/docker.sock", false, "unix:///run/docker.sock"},
		{"unix://docker.sock", false, "unix://docker.sock"},
		{"unix://", false, "unix:///var/run/docker.sock"},
		{"unix:///run/a@b.sock", false, "unix:///run/a@b.sock"},
		{"tcp://me:secret@host", false, "tcp://host:2375"},
		{"tcp://me:secret/@host:1", false, "tcp://host:1"},
		{"tcp://me:secret@[::1", false, `"tcp://[::1": `},
		{"tcp://me:secret@host:port", false, `"tcp://host:port": `},
		{"tcp://::1", false, "unix://PATH"},
		{"ssh://me:secret@host", false, "forward the socket"},
		{"fd://", false, "unix:///var/run/docker.sock"},
		{"npipe:////./pipe/docker_engine", false, "unix://PATH"},
		{"https://me:secret@host", false, "use tcp://HOST:PORT with --docker.tls-ca"},
		{"quic://me:secret@host", false, "unix://PATH"},
		{"my-context", false, "docker context inspect"},
		{"/var/run/docker.sock", false, "unix://PATH"},
		{"unix:///" + strings.Repeat("x", 200), false, "too long"},
	}
	for _, test := range tests {
		t.Run(test.host, func(t *testing.T) {
			c, err := New(Config{Host: test.host, TLS: TLS{Insecure: test.isTLS}})
			if err == nil && c.Host != test.want || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %+v, %v, want %q", c, err, test.want)
			}
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("the password is in %q", err)
			}
		})
	}
}

// TestSocketsOfChoice checks that the first socket that exists counts, and then stays:
// another engine's figures are no answer when that one goes away.
func TestSocketsOfChoice(t *testing.T) {
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
	c := clientOf(t, first, second)
	_, err := c.Ping(t.Context())
	if failure := new(model.Failure); !errors.As(err, &failure) || !strings.Contains(failure.Reason, "unix://"+first+", unix://"+second+": no such file") {
		t.Fatalf("got %v without any socket, want an error that names both", err)
	}
	server := serveUnix(second, "api-1.43-graphdriver")
	if version, err := c.Ping(t.Context()); version.API != "1.43" {
		t.Fatalf("got version %v of the second socket, %v", version, err)
	}
	server.Close()
	defer serveUnix(first, "api-1.51-graphdriver").Close()
	if version, err := c.Ping(t.Context()); err == nil {
		t.Errorf("got version %v of another engine when the first one went away", version)
	}
}

// clientOf returns a client of the first of several sockets.
func clientOf(t *testing.T, paths ...string) *Client {
	t.Helper()
	c, err := New(Config{Host: "unix://" + paths[0], Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for _, path := range paths {
		hosts = append(hosts, "unix://"+path)
	}
	c.http.(readOnly).RoundTripper.(*http.Transport).DialContext = dialFirst(hosts)
	return c
}

// TestSecondSocketIsClosed checks that a socket that exists and may not be used is not skipped
// in silence.
func TestSecondSocketIsClosed(t *testing.T) {
	dir := t.TempDir()
	second := filepath.Join(dir, "second.sock")
	listener, err := net.Listen("unix", second)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	first := filepath.Join(dir, "first.sock")
	_, err = clientOf(t, first, second).Ping(t.Context())
	failure := new(model.Failure)
	want := "dial unix://" + second + ": connect: connection refused; no such file: unix://" + first
	if !errors.As(err, &failure) || failure.Reason != want || !strings.Contains(failure.Hint, second) {
		t.Errorf("got %+v, want the reason %q and a hint for the second socket", failure, want)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestEventReader checks that a stream may be endless, but not one event.
func TestEventReader(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("a", maxEvent/4-1) + "\n"
	for stream, want := range map[string]bool{strings.Repeat(line, 8): true, strings.Repeat("a", maxEvent) + "\n": true, strings.Repeat("a", maxEvent+1): false} {
		_, err := io.ReadAll(&eventReader{ReadCloser: io.NopCloser(strings.NewReader(stream))})
		if (err == nil) != want || err != nil && !errors.Is(err, errMalformed) {
			t.Errorf("%d bytes: %v", len(stream), err)
		}
	}
}
