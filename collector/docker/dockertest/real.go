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
	"strings"
	"syscall"
	"testing"
	"time"
)

// RealVariable is the environment variable that lets tests start engines, and
// makes those fail that lack something for it.
const RealVariable = "DOCKER_BUILDUP_REAL"

// Need returns where a command is. Without it the test is skipped, or fails if
// tests are to be real.
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

// A Kind is a kind of engine that .ci/engine can start.
type Kind string

const (
	Docker20           Kind = "20.10"         // Debian's, with overlay2
	Docker29Overlay2   Kind = "29-overlay2"   // as upgraded from an older engine
	Docker29Containerd Kind = "29-containerd" // as newly installed
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{Docker20, Docker29Overlay2, Docker29Containerd}
}

// A Real is a Docker engine of the test's own, with its own data and socket.
type Real struct {
	Kind    Kind
	Dir     string
	Context string // of builds, in Dir; "context" unless a test wants several
	t       testing.TB
	process *exec.Cmd
	log     bytes.Buffer
	exited  chan struct{}
}

// Start starts an engine that ends with the test. The test is skipped unless
// tests are to be real.
func Start(t testing.TB, kind Kind) *Real {
	t.Helper()
	if os.Getenv(RealVariable) == "" {
		t.Skipf("starts a Docker engine of its own: set %s=1 to run it", RealVariable)
	}
	Need(t, "docker")
	if kind == Docker20 {
		Need(t, "dockerd")
	} else if output, err := exec.Command(ci("build-engine29")).CombinedOutput(); err != nil { // minutes, once
		t.Fatalf("%v\n%s", err, output)
	}
	// The path of a socket is short, so a test's long folder will not do.
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the socket has its own rights
		t.Fatal(err)
	}
	r := &Real{Kind: kind, Dir: dir, Context: "context", t: t}
	t.Cleanup(r.remove)
	r.Start()
	return r
}

// here is the folder of this file.
func here() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Dir(self)
}

// ci is where a program of the folder .ci is.
func ci(program string) string { return filepath.Join(here(), "../../../.ci", program) }

// Host is the engine's address.
func (r *Real) Host() string { return "unix://" + r.Dir + "/docker.sock" }

// Transport is a way to the engine for requests of a test's own, to any host.
func (r *Real) Transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(r.Host(), "unix://"))
	}}
}

// Start starts the engine and waits until it answers. It may have run before.
func (r *Real) Start() {
	r.t.Helper()
	// The containerd of an engine that was killed dies with it, but not at once.
	waitForEnd(filepath.Join(r.Dir, "exec/containerd/containerd.pid"))
	r.process = exec.Command(ci("engine"), r.Dir, string(r.Kind))
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
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := r.Try("version", "--format", "{{.Server.Version}}")
		if err == nil {
			return
		}
		select {
		case <-exited:
			r.t.Fatalf("the engine ended:\n%s", r.log.String())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the engine does not answer: %v", err)
		}
	}
}

// Signal sends the engine a signal.
func (r *Real) Signal(signal syscall.Signal) {
	r.t.Helper()
	if err := r.process.Process.Signal(signal); err != nil {
		r.t.Fatal(err)
	}
	if signal == syscall.SIGSTOP {
		waitForStop(r.process.Process.Pid)
	}
}

// Wait waits for the engine to end.
func (r *Real) Wait() { <-r.exited }

// Try runs the Docker CLI on this engine.
func (r *Real) Try(args ...string) (string, error) {
	return r.run("docker", "0", args...)
}

func (r *Real) run(client, buildKit string, args ...string) (string, error) {
	command := exec.Command(client, args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	command.Env = append(os.Environ(), "DOCKER_HOST="+r.Host(), "DOCKER_CONFIG="+r.Dir, "DOCKER_BUILDKIT="+buildKit,
		// The containerd store counts attestations in lists, but not in inspect, so nothing
		// that the CLI says could be compared.
		"BUILDX_NO_DEFAULT_ATTESTATIONS=1")
	output, err := command.Output()
	if err != nil {
		err = errors.New(strings.Join(command.Args, " ") + ": " + err.Error() + ": " + stderr.String())
	}
	return strings.TrimSpace(string(output)), err
}

// Docker runs the Docker CLI on this engine, and fails the test if it fails.
func (r *Real) Docker(args ...string) string {
	r.t.Helper()
	output, err := r.Try(args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return output
}

// Build builds an image by the classic builder and returns its ID.
// The program "/idle" is in the build context.
func (r *Real) Build(dockerfile string, args ...string) string {
	r.t.Helper()
	return r.build("docker", "0", dockerfile, args)
}

// BuildKit is Build by BuildKit.
func (r *Real) BuildKit(dockerfile string, args ...string) string {
	r.t.Helper()
	return r.build(r.buildKitClient(), "1", dockerfile, args)
}

// buildKitClient is a Docker CLI that can build by BuildKit: one before 23, or one
// that has buildx. It need not be the first in PATH.
func (r *Real) buildKitClient() string {
	r.t.Helper()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		client := filepath.Join(dir, "docker")
		version, err := r.run(client, "1", "--version")
		if err != nil {
			continue
		}
		major := 0
		fmt.Sscanf(version, "Docker version %d.", &major)
		if _, err := r.run(client, "1", "buildx", "version"); err == nil || major < 23 {
			return client
		}
	}
	r.t.Fatal("no docker in PATH can use BuildKit: install docker.io, or buildx")
	return ""
}

func (r *Real) build(client, buildKit, dockerfile string, args []string) string {
	r.t.Helper()
	context := filepath.Join(r.Dir, r.Context)
	if err := os.MkdirAll(context, 0o755); err != nil {
		r.t.Fatal(err)
	}
	idle := filepath.Join(context, "idle")
	if _, err := os.Stat(idle); err != nil {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", idle, ".")
		build.Dir = filepath.Join(here(), "testdata/idle")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			r.t.Fatalf("%v\n%s", err, output)
		}
	}
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		r.t.Fatal(err)
	}
	id, err := r.run(client, buildKit, slices.Concat([]string{"build", "-q"}, args, []string{context})...)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// remove ends the engine with all that runs in it, and removes its data.
func (r *Real) remove() {
	if r.process == nil {
		return
	}
	select {
	case <-r.exited: // shims outlive their engine: only an engine ends them
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
	unmountBelow(r.Dir)
	if err := os.RemoveAll(r.Dir); err != nil {
		r.t.Log(err)
	}
	if r.t.Failed() {
		r.t.Logf("the end of the engine's log:\n%s", tail(r.log.String(), 20))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
