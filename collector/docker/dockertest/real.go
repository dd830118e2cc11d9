package dockertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// RealVariable is the environment variable that enables tests with real engines. If it is set,
// tests fail, instead of being skipped, where a program that they need is missing.
const RealVariable = "DOCKER_BUILDUP_REAL"

// Need returns the path of a command. If it is missing, the test is skipped, or fails if
// RealVariable is set.
func Need(t testing.TB, command string) string {
	t.Helper()
	path, err := exec.LookPath(command)
	if err != nil {
		if os.Getenv(RealVariable) != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// A Kind is a version and image store of an engine that .ci/engine can start.
type Kind string

const (
	Docker20           Kind = "20.10"         // Debian's package, with overlay2
	Docker29Overlay2   Kind = "29-overlay2"   // the image store after an upgrade from an older engine
	Docker29Containerd Kind = "29-containerd" // the image store of a new installation
	Podman             Kind = "podman"        // Debian's package, with its Docker-compatible API
)

// Kinds returns all kinds of Docker engines.
func Kinds() []Kind {
	return []Kind{Docker20, Docker29Overlay2, Docker29Containerd}
}

// A Real is a private Docker engine with its own data and socket.
type Real struct {
	Kind    Kind
	Dir     string   // holds the socket, the data and the build context
	Context string   // folder of the build context, relative to Dir; by default "context"
	Wrapper []string // command that starts the engine's command, which is appended
	Flags   []string // of dockerd
	Removed func()   // called after the engine has stopped for good
	t       testing.TB
	client  string // a Docker CLI that can build with BuildKit, once it was found
	process *exec.Cmd
	log     bytes.Buffer
	exited  chan struct{}
}

// Start starts an engine that is removed when the test ends. The test is skipped if RealVariable
// is not set.
func Start(t testing.TB, kind Kind) *Real {
	t.Helper()
	r := Prepare(t, kind)
	r.Start()
	return r
}

// StartIn is like Start, but starts the engine in a folder, which it removes, and with flags of
// dockerd.
func StartIn(t testing.TB, kind Kind, dir string, flags ...string) *Real {
	t.Helper()
	r := prepareIn(t, kind, dir)
	r.Flags = flags
	r.Start()
	return r
}

// Prepare is like Start, but leaves the start to the caller.
func Prepare(t testing.TB, kind Kind) *Real {
	t.Helper()
	SkipUnlessReal(t)
	// The path of a socket is limited to about 100 bytes, so t.TempDir() is too long.
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	return prepareIn(t, kind, dir)
}

func prepareIn(t testing.TB, kind Kind, dir string) *Real {
	t.Helper()
	SkipUnlessReal(t)
	Need(t, "docker")
	switch kind {
	case Docker20:
		Need(t, "dockerd")
	case Podman:
		Need(t, "podman")
	default:
		if output, err := exec.Command(ciPath("build-engine29")).CombinedOutput(); err != nil { // takes minutes the first time
			t.Fatalf("%v\n%s", err, output)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the socket has its own permissions
		t.Fatal(err)
	}
	r := &Real{Kind: kind, Dir: dir, Context: "context", t: t}
	t.Cleanup(r.remove)
	return r
}

// SkipUnlessReal skips the test if RealVariable is not set.
func SkipUnlessReal(t testing.TB) {
	t.Helper()
	if os.Getenv(RealVariable) == "" {
		t.Skipf("starts real programs: set %s=1 to run it", RealVariable)
	}
}

// packageDir returns the folder of this file.
func packageDir() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Dir(self)
}

// ciPath returns the path of a script in the folder .ci.
func ciPath(script string) string { return filepath.Join(packageDir(), "../../../.ci", script) }

// Socket returns the path of the engine's socket.
func (r *Real) Socket() string { return r.Dir + "/docker.sock" }

// Host returns the address of the engine, as in DOCKER_HOST.
func (r *Real) Host() string { return "unix://" + r.Socket() }

// Transport returns a transport that sends the requests to any host to the engine.
func (r *Real) Transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.Socket())
	}}
}

// Start starts the engine, or starts it again after it exited, and waits up to three minutes until
// it responds.
func (r *Real) Start() {
	r.t.Helper()
	// The containerd of a killed engine also exits, but slightly later.
	waitForExit(filepath.Join(r.Dir, "exec/containerd/containerd.pid"))
	command := slices.Concat(r.Wrapper, []string{ciPath("engine"), r.Dir, string(r.Kind)}, r.Flags)
	r.process = exec.Command(command[0], command[1:]...)
	r.process.Stdout, r.process.Stderr = &r.log, &r.log
	r.process.SysProcAttr = Child()
	if err := r.process.Start(); err != nil {
		r.t.Fatal(err)
	}
	exited := make(chan struct{})
	r.exited = exited
	go func(process *exec.Cmd) {
		process.Wait()
		close(exited)
	}(r.process)
	for deadline := time.Now().Add(3 * time.Minute); ; {
		_, err := r.Try("version", "--format", "{{.Server.Version}}")
		if err == nil {
			return
		}
		select {
		case <-exited:
			r.t.Fatalf("the engine exited:\n%s", r.log.String())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("timed out waiting for the engine to respond: %v", err)
		}
	}
}

// Signal sends a signal to the engine. After SIGSTOP it waits until the engine has stopped.
func (r *Real) Signal(signal syscall.Signal) {
	r.t.Helper()
	if err := r.process.Process.Signal(signal); err != nil {
		r.t.Fatal(err)
	}
	if signal == syscall.SIGSTOP {
		waitForStop(r.process.Process.Pid)
	}
}

// Wait waits until the engine has exited.
func (r *Real) Wait() { <-r.exited }

// Try runs the Docker CLI with this engine and returns its trimmed standard output.
func (r *Real) Try(args ...string) (string, error) {
	return r.run("docker", "0", args...)
}

// commandLimit is how long a command may take. An engine that hangs would otherwise stop all tests.
const commandLimit = 3 * time.Minute

// run runs a Docker CLI with this engine; buildKit is "1" to build with BuildKit, else "0". If it
// takes longer than commandLimit, it is ended, and the error says what the engine was doing.
func (r *Real) run(client, buildKit string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	command := exec.CommandContext(ctx, client, args...)
	command.WaitDelay = time.Second // its children may keep its output open
	var stderr bytes.Buffer
	command.Stderr = &stderr
	command.Env = append(os.Environ(), "DOCKER_HOST="+r.Host(), "DOCKER_CONFIG="+r.Dir, "DOCKER_BUILDKIT="+buildKit,
		// The containerd store counts attestations in lists, but not in inspect, so the outputs of
		// the CLI would contradict each other.
		"BUILDX_NO_DEFAULT_ATTESTATIONS=1",
		"CONTAINERS_CONF="+r.Dir+"/containers.conf", "CONTAINERS_STORAGE_CONF="+r.Dir+"/storage.conf")
	output, err := command.Output()
	if err != nil {
		err = errors.New(strings.Join(command.Args, " ") + ": " + err.Error() + ": " + stderr.String())
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: not done after %s\n%s", err, commandLimit, r.stacks())
		}
	}
	return strings.TrimSpace(string(output)), err
}

// stacks returns what the goroutines of the engine and of its containerd do.
func (r *Real) stacks() string {
	r.process.Process.Signal(syscall.SIGUSR1)
	if id, err := os.ReadFile(filepath.Join(r.Dir, "exec/containerd/containerd.pid")); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(id))); err == nil && pid > 1 {
			syscall.Kill(pid, syscall.SIGUSR1)
		}
	}
	time.Sleep(2 * time.Second) // they write without saying when they have finished
	text := tail(r.log.String(), 2000)
	files, _ := filepath.Glob(filepath.Join(r.Dir, "exec/goroutine-stacks-*.log"))
	for _, file := range files {
		stacks, _ := os.ReadFile(file)
		text += "\n" + string(stacks)
	}
	return text
}

// Docker is like Try, but an error fails the test.
func (r *Real) Docker(args ...string) string {
	r.t.Helper()
	output, err := r.Try(args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return output
}

// Podman runs Podman's own command with the data of an engine of the kind Podman, and returns
// its trimmed standard output. An error fails the test.
func (r *Real) Podman(args ...string) string {
	r.t.Helper()
	output, err := r.run("podman", "0", args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return output
}

// Build builds an image with the classic builder and returns its ID. The build context contains
// the program "idle".
func (r *Real) Build(dockerfile string, args ...string) string {
	r.t.Helper()
	return r.build("docker", "0", dockerfile, args)
}

// BuildKit is like Build, but builds with BuildKit.
func (r *Real) BuildKit(dockerfile string, args ...string) string {
	r.t.Helper()
	return r.build(r.buildKitClient(), "1", dockerfile, args)
}

// BuildKitIn builds an image with BuildKit from a folder that has a Dockerfile, and returns its ID.
func (r *Real) BuildKitIn(dir string, args ...string) string {
	r.t.Helper()
	return r.buildIn(dir, r.buildKitClient(), "1", args)
}

// buildKitClient returns the first Docker CLI in PATH that can build with BuildKit: a version before
// 23, or one with buildx.
func (r *Real) buildKitClient() string {
	r.t.Helper()
	if r.client != "" {
		return r.client
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		client := filepath.Join(dir, "docker")
		version, err := r.run(client, "1", "--version")
		if err != nil {
			continue
		}
		major := 0
		fmt.Sscanf(version, "Docker version %d.", &major)
		if _, err := r.run(client, "1", "buildx", "version"); err == nil || major < 23 {
			r.client = client
			return client
		}
	}
	r.t.Fatal("no docker in PATH can build with BuildKit: install docker.io, or buildx")
	return ""
}

// build writes the Dockerfile and, if it is missing, the program to the build context, and builds
// the image.
func (r *Real) build(client, buildKit, dockerfile string, args []string) string {
	r.t.Helper()
	context := filepath.Join(r.Dir, r.Context)
	if err := os.MkdirAll(context, 0o755); err != nil {
		r.t.Fatal(err)
	}
	idle := filepath.Join(context, "idle")
	if _, err := os.Stat(idle); err != nil {
		program, err := idleProgram()
		if err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(idle, program, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return r.buildIn(context, client, buildKit, args)
}

// idleProgram builds the program "idle" once, and returns its content.
var idleProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "idle")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "idle")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	build.Dir = filepath.Join(packageDir(), "testdata/idle")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, output)
	}
	return os.ReadFile(path)
})

func (r *Real) buildIn(dir, client, buildKit string, args []string) string {
	r.t.Helper()
	id, err := r.run(client, buildKit, slices.Concat([]string{"build", "-q"}, args, []string{dir})...)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// remove stops the engine and its containers, and removes the data.
func (r *Real) remove() {
	if r.process != nil {
		r.stop()
	}
	if r.Removed != nil {
		r.Removed()
	}
	unmountBelow(r.Dir)
	if err := os.RemoveAll(r.Dir); err != nil {
		r.t.Log(err)
	}
	if r.t.Failed() {
		r.t.Logf("the end of the engine's log:\n%s", tail(r.log.String(), 20))
	}
}

// stop stops the engine and its containers.
func (r *Real) stop() {
	select {
	case <-r.exited: // containers outlive their engine: only a running engine can remove them
		r.Start()
	default:
	}
	r.process.Process.Signal(syscall.SIGCONT)
	if ids, err := r.Try("ps", "-aq"); err == nil && ids != "" {
		r.Try(append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
	}
	r.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(30 * time.Second):
		r.process.Process.Kill()
		<-r.exited
	}
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
