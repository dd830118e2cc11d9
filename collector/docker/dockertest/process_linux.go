package dockertest

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// Child makes a process end with the test that starts it, however the test ends.
func Child() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}

// unmountBelow takes away what an engine that was killed has left mounted.
func unmountBelow(dir string) {
	mounts, _ := procfs.GetMounts()
	for _, mount := range slices.Backward(mounts) {
		if strings.HasPrefix(mount.MountPoint, dir+"/") {
			syscall.Unmount(mount.MountPoint, syscall.MNT_DETACH)
		}
	}
}

// waitForStop waits until every thread of a process has stopped. A signal only tells
// them to: on a busy machine some answer another request before they do.
func waitForStop(pid int) {
	runs := func(thread procfs.Proc) bool {
		stat, err := thread.Stat()
		return err == nil && stat.State != "T"
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if threads, err := procfs.AllThreads(pid); err != nil || !slices.ContainsFunc(threads, runs) {
			break
		}
	}
}

// waitForEnd waits until the process that a file names is gone, and forgets it.
// A process that nobody reaps is gone, too.
func waitForEnd(pidFile string) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		process, err := procfs.NewProc(pid)
		if err != nil {
			break
		}
		if stat, err := process.Stat(); err != nil || stat.State == "Z" {
			break
		}
	}
	os.Remove(pidFile)
}

// CPU is the time that the engine and its containerd have computed so far.
func (r *Real) CPU() time.Duration {
	r.t.Helper()
	all, err := procfs.AllProcs()
	if err != nil {
		r.t.Fatal(err)
	}
	var total time.Duration
	for _, process := range all {
		stat, err := process.Stat()
		if err != nil {
			continue // it has ended
		}
		dockerd := r.process.Process.Pid
		if stat.PID == dockerd || stat.PPID == dockerd && stat.Comm == "containerd" {
			total += time.Duration(stat.CPUTime() * float64(time.Second))
		}
	}
	return total
}
