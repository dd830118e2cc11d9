package docker

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// The user namespaces that a container can have.
const (
	initialMap  = "         0          0 4294967295\n"
	remappedMap = "         0     100000      65536\n"
	rootlessMap = "         0       1000          1\n         1     100000      65536\n"
)

// TestPermissionHints checks what to do about a socket that may not be used, by who owns it
// and where the process runs.
func TestPermissionHints(t *testing.T) {
	const overflow = 65534
	socket := func(uid, gid int) socketFile {
		return socketFile{path: "/run/docker.sock", isSocket: true, isGroups: true, uid: uid, gid: gid, owner: fmt.Sprint("user", uid), group: fmt.Sprint("group", gid)}
	}
	closed := socketFile{path: "/run/user/1000", isNoFile: true, uid: 1000, gid: 1000, owner: "user1000", group: "group1000"}
	private := socket(1000, 1000)
	private.isGroups = false
	tests := []struct {
		name        string
		socket      socketFile
		environment Environment
		want        string
	}{
		{"another user", socket(0, 999), Environment{UID: 7, Groups: []int{7}, UIDMap: initialMap}, "add this process to the group group999 of /run/docker.sock (usermod -aG group999 USER; in a container docker run --group-add 999)"},
		{"no /proc", socket(0, 999), Environment{UID: 7, Groups: []int{7}}, "usermod -aG group999"},
		{"a container", socket(0, 999), Environment{UID: 65532, InContainer: true, UIDMap: initialMap}, "start the container with --group-add 999, "},
		{"root without capabilities", socket(1000, 1000), Environment{InContainer: true, Groups: []int{0}, UIDMap: initialMap}, "start the container with --group-add 1000, "},
		{"userns-remap", socket(overflow, overflow), Environment{UID: 65532, InContainer: true, UIDMap: remappedMap}, "--userns=host"},
		{"userns-remap as root", socket(overflow, overflow), Environment{InContainer: true, Groups: []int{0}, UIDMap: remappedMap}, "--userns=host"},
		{"rootless", socket(0, 0), Environment{UID: 65532, InContainer: true, UIDMap: rootlessMap}, "--user 0:0"},
		{"rootless with a socket of root", socket(overflow, overflow), Environment{UID: 65532, InContainer: true, UIDMap: rootlessMap}, "-v $XDG_RUNTIME_DIR/docker.sock:"},
		{"a rootless engine of another user", closed, Environment{UID: 7, UIDMap: initialMap}, "the directory /run/user/1000 is closed to this process: start the engine, set --docker.host to another socket, or run this process as the user user1000"},
		{"a socket closed to its group", private, Environment{UID: 7, Groups: []int{1000}, UIDMap: initialMap}, "is closed to its group: run this process as the user user1000"},
		{"a member of the group", socket(0, 999), Environment{UID: 7, Groups: []int{7, 999}, UIDMap: initialMap}, "a security module denies it"},
		{"the owner", socket(7, 7), Environment{UID: 7, UIDMap: initialMap}, "a security module denies it"},
	}
	for _, test := range tests {
		if got := test.socket.permissionHint(test.environment); !strings.Contains(got, test.want) || got != model.Line(got) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// listenOnce leaves the socket of a process that is gone.
func listenOnce(t *testing.T, path string) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
}

// TestSocketErrors checks the hints of sockets that do not work.
func TestSocketErrors(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	listenOnce(t, stale)
	directory := filepath.Join(dir, "directory.sock")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	// A bind mount keeps a file that has been removed from its directory, and so does this.
	removed := filepath.Join(dir, "removed.sock")
	listenOnce(t, removed)
	fd, err := syscall.Open(removed, 0x200000 /* O_PATH */, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := os.Remove(removed); err != nil {
		t.Fatal(err)
	}
	const mountDirectory = "mount the directory of the socket instead of the file"
	tests := []struct {
		name, path         string
		inContainer        bool
		kind, reason, hint string
	}{
		{"none", dir + "/none.sock", false, "no socket", "no such file", "start the engine, set --docker.host"},
		{"none in a container", dir + "/none.sock", true, "no socket", "no such file", "mount the engine's socket into this container"},
		{"stale", stale, false, "refused", "connection refused", "start the engine that listens on " + stale},
		{"stale in a container", stale, true, "refused", "connection refused", "restart this container, or mount the directory"},
		{"removed", fmt.Sprintf("/proc/self/fd/%d", fd), true, "refused", "connection refused", "was mounted: restart this container; to prevent that, " + mountDirectory},
		{"a directory", directory, true, "refused", "connection refused", directory + " is not a socket"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := New(Config{Host: "unix://" + test.path, Timeout: 10 * time.Second, Environment: Environment{InContainer: test.inContainer}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Ping(t.Context())
			var failure *model.Failure
			errors.As(err, &failure)
			checkFailure(t, failure, test.kind, test.reason, test.hint)
		})
	}
}

// failing is a transport that fails.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// TestErrorNumbers checks the hints of errors of the system that a test cannot cause without
// harm to others.
func TestErrorNumbers(t *testing.T) {
	tests := []struct {
		host               string
		number             syscall.Errno
		kind, reason, hint string
	}{
		{"tcp://host:1", syscall.EMFILE, "open files", "dial tcp://host:1: socket: too many open files", "LimitNOFILE="},
		{"unix:///run/docker.sock", syscall.EMFILE, "open files", "too many open files", "docker run --ulimit nofile="},
		{"tcp://host:1", syscall.ENFILE, "open files", "too many open files in system", "fs.file-max"},
		{"tcp://host:1", syscall.EHOSTUNREACH, "unreachable", "no route to host", "see whether this machine can reach tcp://host:1"},
		{"tcp://host:1", syscall.ENETUNREACH, "unreachable", "network is unreachable", "see whether this machine can reach tcp://host:1"},
		{"unix:///run/docker.sock", syscall.EAGAIN, "timeout", "no answer in time", "see whether the engine hangs"},
	}
	for _, test := range tests {
		cause := &net.OpError{Op: "dial", Net: "tcp", Source: &net.TCPAddr{Port: 12345}, Err: os.NewSyscallError("socket", test.number)}
		c, err := New(Config{Host: test.host, Timeout: time.Second, Transport: failing{cause}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Ping(t.Context())
		var failure *model.Failure
		errors.As(err, &failure)
		checkFailure(t, failure, test.kind, test.reason, test.hint)
	}
}

// TestAnswersOfAnyText checks that the kind of a failure does not depend on its text, and that
// the text is one short line.
func TestAnswersOfAnyText(t *testing.T) {
	var body atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, body.Load().(string), http.StatusInternalServerError)
	}))
	defer server.Close()
	c, err := New(Config{Host: server.URL, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	api, err := c.At(Version{API: "1.51"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][2]string{
		"request 1 failed":                   {"failed", "request 1 failed"},
		"request 2 failed\n\x1b[31mat noon":  {"failed", "request 2 failed [31mat noon"},
		strings.Repeat("x", 1<<19):           {"failed", strings.Repeat("x", 299) + "…"},
		"Get https://me:secret@registry: no": {"failed", "Get https://registry: no"},
		"open /x: too many open files":       {"open files of the engine", "open /x: too many open files"},
		"\n<html>\n<TITLE>No\nway</TITLE>":   {"failed", "the answer is a page for browsers: No way"},
		"<html><body><h1>No</h1>":            {"failed", "the answer is a page for browsers"},
	} {
		body.Store(text)
		_, err := api.Info(t.Context())
		var failure *model.Failure
		errors.As(err, &failure)
		checkFailure(t, failure, want[0], want[1], "")
	}
}
