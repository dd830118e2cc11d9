package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// statusIn runs the command status and returns what it printed and logged. The environment is
// added to that of the tests.
func statusIn(t *testing.T, attributes syscall.SysProcAttr, environment []string, args ...string) string {
	t.Helper()
	var output bytes.Buffer
	process := exec.Command(binaryPath(), append([]string{"status", "--timeout=10s"}, args...)...)
	process.Env = append(os.Environ(), environment...)
	process.Stdout, process.Stderr = &output, &output
	process.SysProcAttr = &attributes
	if err := process.Start(); err != nil {
		t.Skip("cannot start a process like that: ", err)
	}
	process.Wait() // the exit code is the status of the engine
	return output.String()
}

// logged checks that the output has one line with a message, a reason and a hint.
func logged(t *testing.T, output, message, reason, hint string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(output) {
		if strings.Contains(line, "msg="+message) || strings.Contains(line, fmt.Sprintf("msg=%q", message)) {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.Contains(lines[0], reason) || !strings.Contains(lines[0], hint) {
		t.Errorf("got %q, want one line %q with the reason %q and the hint %q:\n%s", lines, message, reason, hint, output)
	}
	if strings.Contains(output, "secret") {
		t.Errorf("a password is in the output:\n%s", output)
	}
}

const unreachable = "cannot reach the engine"

// openDir returns a directory that all users may search, unlike that of a test.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hints")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// engineSocket serves an engine at a socket of a user and group.
func engineSocket(t *testing.T, path string, uid, gid int) *httptest.Server {
	t.Helper()
	server := serveAt(t, path)
	if os.Getuid() != 0 {
		t.Skip("only root can run the program as another user")
	}
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	return server
}

// serveAt serves an engine at a socket.
func serveAt(t *testing.T, path string) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(dockertest.NewFake(filepath.Join(engines, "empty-host")))
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// TestSocketIsClosed checks the hints for a socket that another user may not use, also in the
// user namespaces that engines make for containers. With what the hint says, it works.
func TestSocketIsClosed(t *testing.T) {
	t.Parallel()
	const uid, gid = 1000, 12345
	of := func(first, second int) []syscall.SysProcIDMap { // user 0 and the others
		if second == 0 {
			return []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 65536}}
		}
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 1}, {ContainerID: 1, HostID: second, Size: 65536}}
	}
	namespace := func(mappings []syscall.SysProcIDMap, user uint32) syscall.SysProcAttr {
		return syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: mappings, GidMappings: mappings, Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	as := func(uid, gid uint32) syscall.SysProcAttr {
		return syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	dir := openDir(t)
	system, rootless := filepath.Join(dir, "system.sock"), filepath.Join(dir, "rootless.sock")
	engineSocket(t, system, 0, gid)
	engineSocket(t, rootless, uid, uid)
	inContainer := []string{"container=oci"}
	tests := []struct {
		name       string
		socket     string
		attributes syscall.SysProcAttr
		hint       string // empty: it works
	}{
		{"another user", system, as(65532, 65532), "--group-add 12345"},
		{"in the group", system, as(65532, gid), ""},
		{"userns-remap", system, namespace(of(100000, 0), 65532), "--userns=host"},
		{"rootless", rootless, namespace(of(uid, 100000), 65532), "--user 0:0"},
		{"rootless as root", rootless, namespace(of(uid, 100000), 0), ""},
		{"rootless with the socket of root", system, namespace(of(uid, 100000), 0), "mount the rootless engine's own"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			output := statusIn(t, test.attributes, inContainer, "--docker.host=unix://"+test.socket)
			if test.hint != "" {
				logged(t, output, unreachable, "permission denied", test.hint)
			} else if !strings.Contains(output, "Engine 2") {
				t.Errorf("got no engine:\n%s", output)
			}
		})
	}
	t.Run("a directory that is closed", func(t *testing.T) {
		closed := filepath.Join(dir, "user")
		if err := os.Mkdir(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		engineSocket(t, filepath.Join(closed, "docker.sock"), uid, uid)
		output := statusIn(t, as(65532, 65532), []string{"XDG_RUNTIME_DIR=" + closed})
		if strings.Contains(output, "/var/run/docker.sock:") {
			t.Skip("this machine has an engine of its own")
		}
		logged(t, output, unreachable, closed+"/docker.sock: connect: permission denied", "the directory "+closed+" is closed to this process: start the engine, set --docker.host to another socket, or run this process as the user root")
	})
}

// TestStaleMount checks the hint if the socket of an engine that has been restarted is mounted
// into a container as a file, and that a mounted directory needs none.
func TestStaleMount(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	socket, mounted := filepath.Join(dir, "docker.sock"), filepath.Join(dir, "mounted.sock")
	server := serveAt(t, socket)
	write(t, mounted, "")
	if err := syscall.Mount(socket, mounted, "", syscall.MS_BIND, ""); err != nil {
		t.Skip("cannot mount: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(mounted, syscall.MNT_DETACH) })
	if output := statusIn(t, syscall.SysProcAttr{}, nil, "--docker.host=unix://"+mounted); !strings.Contains(output, "Engine 2") {
		t.Errorf("got no engine at the mounted socket:\n%s", output)
	}
	server.Close()
	serveAt(t, socket) // as an engine that starts again
	output := statusIn(t, syscall.SysProcAttr{}, nil, "--docker.host=unix://"+mounted)
	logged(t, output, unreachable, "connection refused", "created a new socket since "+mounted+" was mounted: restart this container")
	if output := statusIn(t, syscall.SysProcAttr{}, nil, "--docker.host=unix://"+socket); !strings.Contains(output, "Engine 2") {
		t.Errorf("got no engine at the new socket:\n%s", output)
	}
}

// TestProxyVariable checks the hint if a proxy is to reach the engine.
func TestProxyVariable(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "<html>\n<title>No such host</title>\n", strings.Repeat("<p>", 1<<16))
	}))
	t.Cleanup(proxy.Close)
	variable := "HTTP_PROXY=" + strings.Replace(proxy.URL, "://", "://me:secret@", 1)
	output := statusIn(t, syscall.SysProcAttr{}, []string{variable, "DOCKER_HOST=tcp://me:secret@engine.example"})
	logged(t, output, unreachable, "No such host", "requests to tcp://engine.example:2375 go through the proxy that HTTP_PROXY names: add the host to NO_PROXY")
	output = statusIn(t, syscall.SysProcAttr{}, []string{variable, "NO_PROXY=engine.invalid", "DOCKER_HOST=tcp://me:secret@engine.invalid"})
	logged(t, output, unreachable, "engine.invalid", "by a name that can be resolved here")
}

// TestPasswordInAddress checks that a password is in no output, whatever is wrong with the address.
func TestPasswordInAddress(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"tcp://me:secret@127.0.0.1:1", "tcp://me:secret@127.0.0.1:x", "tcp://me:secret@[::1", "tcp://me:se/secret@127.0.0.1:1", "ssh://me:secret@host", "me:secret@127.0.0.1:1", "me:secret@host", "x y://me:secret@host"} {
		output := statusIn(t, syscall.SysProcAttr{}, []string{"DOCKER_HOST=" + host})
		if strings.Contains(output, "secret") || !strings.Contains(output, "UNKNOWN") {
			t.Errorf("%s: got %s", host, output)
		}
	}
}

// TestOpenFiles checks the hint if the process may open no more files.
func TestOpenFiles(t *testing.T) {
	t.Parallel()
	address, _ := serveFake(t, filepath.Join(engines, "empty-host"))
	for files := 5; files < 20; files++ { // how many the process needs depends on the runtime
		process := exec.Command("bash", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files), binaryPath(), "status", "--docker.host="+address)
		output, _ := process.CombinedOutput()
		for line := range strings.Lines(string(output)) {
			if strings.Contains(line, "socket: too many open files") {
				if !strings.Contains(line, "raise the limit of open files of this process (ulimit -n") {
					t.Errorf("got no hint: %s", line)
				}
				return
			}
		}
	}
	t.Error("the process is not short of files with any limit")
}

// TestContext checks that the current context of the Docker CLI is followed if it is a socket,
// as Docker's setup of a rootless engine makes it, and that another one is a warning.
func TestContext(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	socket := filepath.Join(dir, "docker.sock")
	serveAt(t, socket)
	for name, host := range map[string]string{"rootless": "unix://" + socket, "far": "ssh://me:secret@there"} {
		meta := filepath.Join(dir, "contexts/meta", fmt.Sprintf("%x", sha256.Sum256([]byte(name))))
		if err := os.MkdirAll(meta, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(meta, "meta.json"), fmt.Sprintf(`{"Name":%q,"Metadata":{},"Endpoints":{"docker":{"Host":%q,"SkipTLSVerify":false}}}`, name, host))
	}
	write(t, filepath.Join(dir, "config.json"), `{"currentContext":"rootless"}`)
	environment := []string{"DOCKER_CONFIG=" + dir, "DOCKER_HOST="}
	if output := statusIn(t, syscall.SysProcAttr{}, environment); !strings.Contains(output, "Engine 2") || strings.Contains(output, "level=WARN") {
		t.Errorf("got no engine, or a warning:\n%s", output)
	}
	output := statusIn(t, syscall.SysProcAttr{}, append(environment, "DOCKER_CONTEXT=far"))
	logged(t, output, "Docker context not used", `\"far\" is ssh://there`, "set --docker.host")
	output = statusIn(t, syscall.SysProcAttr{}, append(environment, "DOCKER_CONTEXT=far"), "--docker.host=unix://"+socket)
	if !strings.Contains(output, "Engine 2") || strings.Contains(output, "level=WARN") {
		t.Errorf("got no engine, or a warning about a context that does not matter:\n%s", output)
	}
}

// TestErrorTexts checks that one problem is one short line, however its text varies from scrape
// to scrape, and that another problem of the same operation is logged.
func TestErrorTexts(t *testing.T) {
	t.Parallel()
	p, engine := fake(t, "empty-host")
	requests := make(chan int, 1)
	requests <- 0
	engine.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) {
		n := <-requests
		requests <- n + 1
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, `{"message":"request %d\n of http://me:secret@host failed %s"}`, n, strings.Repeat("x", 1<<19))
	})
	count := func() int {
		n := <-requests
		requests <- n
		return n
	}
	eventually(t, "two failures", func() bool {
		p.scrape()
		time.Sleep(100 * time.Millisecond) // a failure is retried with a delay
		return count() >= 2
	})
	logged(t, p.log.String(), "cannot list images", "request ", "see the engine's log")
	if n := len(p.log.String()); n > 3000 {
		t.Errorf("the log has %d bytes", n)
	}
	engine.Answer("/images/json", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	eventually(t, "another kind of problem in the log", func() bool {
		p.scrape()
		return strings.Contains(p.log.String(), "forbidden: no")
	})
	engine.Answer("/images/json", nil)
	eventually(t, "the recovery in the log", func() bool {
		p.scrape()
		return strings.Contains(p.log.String(), `msg=recovered operation="list images"`)
	})
}
