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

// Child returns the attributes of a child process that receives SIGTERM when the test process
// ends, even if the test process is killed.
func Child() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}

// unmountBelow unmounts everything below dir. A killed engine leaves its mounts behind.
func unmountBelow(dir string) {
	mounts, _ := procfs.GetMounts()
	for _, mount := range slices.Backward(mounts) {
		if strings.HasPrefix(mount.MountPoint, dir+"/") {
			syscall.Unmount(mount.MountPoint, syscall.MNT_DETACH)
		}
	}
}

// waitForStop waits up to a minute until every thread of a process has stopped. SIGSTOP does not
// stop all threads at once: on a busy machine some answer another request first.
func waitForStop(pid int) {
	isRunning := func(thread procfs.Proc) bool {
		stat, err := thread.Stat()
		return err == nil && stat.State != "T"
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if threads, err := procfs.AllThreads(pid); err != nil || !slices.ContainsFunc(threads, isRunning) {
			break
		}
	}
}

// waitForExit waits up to a minute until the process whose ID is in pidFile has exited, and
// removes the file. A zombie counts as exited.
func waitForExit(pidFile string) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
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

// CPU returns the CPU time that the engine and its containerd have used since they started.
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
			continue // it has exited
		}
		dockerd := r.process.Process.Pid
		if stat.PID == dockerd || stat.PPID == dockerd && stat.Comm == "containerd" {
			total += time.Duration(stat.CPUTime() * float64(time.Second))
		}
	}
	return total
}
