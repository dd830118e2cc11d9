package faults

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

var soakTime = flag.Duration("soak", 0, "how long TestSoak runs; 0 skips it")

// TestSoak runs the program with random faults of the table and engine restarts, and checks that
// its page becomes right again, and that memory, goroutines and open files do not grow.
func TestSoak(t *testing.T) {
	if *soakTime == 0 {
		t.Skip("set -soak")
	}
	s := startSoak(t)
	var right map[string]string
	for range 10 {
		right = s.scrape()
		time.Sleep(time.Second)
	}
	var rows []fault
	for _, f := range table() {
		if f.do != nil && f.begin == nil {
			rows = append(rows, f)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d kinds of faults", seed, len(rows))
	random := rand.New(rand.NewPCG(seed, 0))
	disturb := func(d time.Duration) (faults, restarts int) {
		for end := time.Now().Add(d); time.Now().Before(end); faults++ {
			if random.IntN(20) == 0 {
				s.restart()
				restarts++
			}
			f := rows[random.IntN(len(rows))]
			s.breaks(f.at, f.do)
			for range 1 + random.IntN(4) {
				s.scrape()
				time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
			}
			s.repairs()
		}
		return faults, restarts
	}
	disturb(*soakTime / 5) // buffers, pools and caches take what they need
	before := s.settle(right)
	faults, restarts := disturb(*soakTime)
	after := s.settle(right)
	t.Logf("%v, %d faults, %d restarts\nbefore: %s\nafter:  %s", *soakTime, faults, restarts, before, after)
	if after.memory > before.memory+2<<20 || after.goroutines > before.goroutines || after.files > before.files {
		t.Error("the program has grown")
	}
}

// A soak is the program beside an engine that listens on a socket.
type soak struct {
	*rig
	server *http.Server
	socket string
	url    string
}

func startSoak(t *testing.T) *soak {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "exporter")
	if output, err := exec.Command("go", "build", "-o", binary, "../../..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	s := &soak{rig: newRig(t, usual), socket: filepath.Join(dir, "engine.sock")}
	s.listen()
	t.Cleanup(func() { s.server.Close(); s.hangUp() })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	s.url = "http://" + free.Addr().String()
	program := exec.Command(binary, "--docker.host=unix://"+s.socket, "--web.listen-address="+free.Addr().String(), "--filesystem.path=/data="+s.data)
	program.SysProcAttr = dockertest.Child()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	program.Stderr = log
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		program.Process.Signal(syscall.SIGTERM)
		program.Wait()
		text, _ := os.ReadFile(log.Name())
		t.Logf("%d lines in the log", strings.Count(string(text), "\n"))
		if strings.Contains(string(text), secret) || strings.Contains(string(text), "panic:") {
			t.Errorf("the log: %.10000s", text)
		}
	})
	for range 100 {
		if _, err := http.Get(s.url + "/-/healthy"); err == nil {
			return s
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the program does not serve")
	return nil
}

func (s *soak) listen() {
	listener, err := net.Listen("unix", s.socket)
	if err != nil {
		s.Fatal(err)
	}
	s.server = newServer(s.rig)
	go s.server.Serve(listener)
}

// restart ends the engine, and starts it again after up to three seconds.
func (s *soak) restart() {
	s.events.cut(true)
	s.server.Close()
	s.hangUp()
	s.scrape()
	time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
	s.listen()
}

// scrape returns the metrics page of the program.
func (s *soak) scrape() map[string]string {
	s.Helper()
	client := http.Client{Timeout: 15 * time.Second}
	response, err := client.Get(s.url + "/metrics")
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return seriesOf(string(page))
}

// use is what the program uses.
type use struct{ memory, goroutines, files float64 }

func (u use) String() string {
	return fmt.Sprintf("%.1f MiB resident, %v goroutines, %v open files", u.memory/(1<<20), u.goroutines, u.files)
}

// engineSeries returns the series that the fake engine decides.
func engineSeries(page map[string]string) map[string]string {
	series := make(map[string]string)
	for name, value := range page {
		if hasPrefix(name, "docker_") && !hasPrefix(name, "docker_buildup_exporter_", "docker_filesystem", "docker_prune") {
			series[name] = value
		}
	}
	return series
}

// settle waits up to three minutes until the page is right, and returns what the program uses.
func (s *soak) settle(want map[string]string) use {
	s.Helper()
	s.release()
	var page map[string]string
	difference := "unknown"
	for end := time.Now().Add(3 * time.Minute); difference != "" && time.Now().Before(end); time.Sleep(time.Second) {
		page = s.scrape()
		difference = differ(engineSeries(page), engineSeries(want))
	}
	if difference != "" {
		s.Errorf("not right again: %s", difference)
	}
	least := use{math.MaxInt64, math.MaxInt64, math.MaxInt64} // requests come and go
	for range 10 {
		time.Sleep(time.Second)
		page = s.scrape()
		least.memory = min(least.memory, number(page["process_resident_memory_bytes"]))
		least.goroutines = min(least.goroutines, number(page["go_goroutines"]))
		least.files = min(least.files, number(page["process_open_fds"]))
	}
	return least
}
