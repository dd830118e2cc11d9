package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"

	"github.com/prometheus/procfs"
)

// Roots is where an engine keeps its data, as far as it reports that (Engine API: /info).
type Roots struct {
	Docker            string
	ContainerdAddress string // "": unknown
	ImageStore        model.ImageStore
	StorageDriver     string
	BackingFilesystem string // "": unknown
	KernelVersion     string // "": unknown
	Hostname          string
}

// An Engine is what is known of the engine in reach.
type Engine struct {
	Roots

	// HasContainer reports whether the engine has a container. An error means that it did not
	// answer.
	HasContainer func(ctx context.Context, id string) (bool, error)
}

type target struct {
	path  string   // on the engine's host
	views []string // paths for this process; the first that can be reached is measured
	err   error    // why there are none

	// isQuota says that statfs may show the quota of a container. Then it is measured only if
	// it turns out to be a file system that is measured without.
	isQuota bool
}

// unansweredError says that the engine did not answer: what was found before still holds.
type unansweredError struct{ error }

func (e unansweredError) Error() string { return "the engine does not answer: " + e.error.Error() }
func (e unansweredError) Unwrap() error { return e.error }

// locator finds the file systems of an engine. What proves that they are the engine's: the mounts of the
// process that listens on its socket, or that the engine has the container in which this
// process runs.
type locator struct {
	root string                                         // of the file system: "" except in tests
	peer func(ctx context.Context) (pid int, err error) // of the engine's socket
}

// view is what this process sees of an engine.
type view struct {
	targets []target
	local   mountTable
	place   func(path string) place // of a directory of the engine; the zero place if it is not known
	process process                 // zero if it is not visible
}

// process is that of an engine.
type process struct {
	pid   int
	start time.Time
}

// isRunning reports whether it still is the same process, or is not known.
func (l locator) isRunning(p process) bool {
	proc, err := procfs.NewFS(l.root + "/proc")
	if p.pid == 0 || err != nil {
		return true
	}
	return startOf(proc, p.pid).Sub(p.start).Abs() < time.Second // the clock may be adjusted
}

// locate returns the file systems and the directories of an engine.
func (l locator) locate(ctx context.Context, e Engine) (view, error) {
	if !filepath.IsAbs(e.Docker) || e.Docker == "/" {
		return view{}, fmt.Errorf("the engine reports %q as its root directory", e.Docker)
	}
	if kernel := l.line("/proc/sys/kernel/osrelease"); e.KernelVersion != "" && e.KernelVersion != kernel {
		return view{}, fmt.Errorf("the engine runs on another machine: its kernel is %q, and this one is %q", e.KernelVersion, kernel)
	}
	proc, err := procfs.NewFS(l.root + "/proc")
	if err != nil {
		return view{}, err
	}
	local, err := readMounts(proc, 0)
	if err != nil {
		return view{}, fmt.Errorf("cannot read the mounts of this process: %w", err)
	}
	var containerErr error
	for _, m := range local {
		match := ownFile.FindStringSubmatch(m.Root)
		if match == nil || !strings.HasPrefix(m.MountPoint, "/etc/") {
			continue
		}
		switch isOurs, err := e.HasContainer(ctx, match[2]); {
		case err != nil:
			return view{}, unansweredError{err}
		case isOurs:
			targets, place := inContainer(local, m, match[1], e.Roots)
			return view{targets: targets, local: local, place: place}, nil
		}
		containerErr = errors.New("the container of this process is not one of the engine's")
	}
	pid, err := l.enginePID(ctx, proc, e)
	if err != nil {
		return view{}, cmp.Or(containerErr, err)
	}
	engine, err := readMounts(proc, pid)
	if err != nil {
		return view{}, unansweredError{fmt.Errorf("cannot read the mounts of the engine: %w", err)} // it has ended
	}
	return view{l.onHost(proc, pid, local, engine, e.Roots), local, engine.place, process{pid, startOf(proc, pid)}}, nil
}

// ownFile matches what Docker mounts at /etc/hostname, /etc/hosts and /etc/resolv.conf of a
// container: its directory among the containers, its ID.
var ownFile = regexp.MustCompile(`^(.*)/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf)$`)

// startOf returns when a process started. Zero if it has ended.
func startOf(proc procfs.FS, pid int) time.Time {
	process, err := proc.Proc(pid)
	if err != nil {
		return time.Time{}
	}
	stat, err := process.Stat()
	if err != nil {
		return time.Time{}
	}
	return timeOfTicks(stat.Starttime)
}

// line returns the content of a file of one line, or "".
func (l locator) line(path string) string {
	content, _ := os.ReadFile(l.root + path)
	return strings.TrimSpace(string(content))
}

// errNotProven is why no process is known to be the engine.
var errNotProven = errors.New("nothing shows that the engine runs on this machine")

// errNotStarted is an engine that has not been started yet, or has ended, as Podman does when it is
// idle. What was found before still holds.
var errNotStarted = fmt.Errorf("%w: systemd listens on its socket and has not started an engine", errNotProven)

// enginePID returns the process of an engine whose socket this machine has. A process that only
// forwards to an engine, like ssh, proves nothing.
func (l locator) enginePID(ctx context.Context, proc procfs.FS, e Engine) (int, error) {
	if l.peer == nil {
		return 0, fmt.Errorf("%w: it is not reached by a Unix socket", errNotProven)
	}
	pid, err := l.peer(ctx)
	if err != nil {
		return 0, unansweredError{err}
	}
	if pid == 0 {
		return 0, fmt.Errorf("%w: its process is not visible in this container", errNotProven)
	}
	name := l.line(fmt.Sprintf("/proc/%d/comm", pid))
	switch {
	case isEngine(name):
		return pid, nil
	case name == "":
		return 0, fmt.Errorf("%w: /proc hides the process %d, which listens on its socket", errNotProven, pid)
	case name != "systemd" && pid != 1: // socket activation
		return 0, fmt.Errorf("%w: the process that listens on its socket is %q", errNotProven, name)
	case e.Hostname != l.line("/proc/sys/kernel/hostname"): // systemd may have started a forwarder
		return 0, fmt.Errorf("%w: its host name is %q", errNotProven, e.Hostname)
	}
	for _, p := range processes(proc, isEngine) {
		if p.PPID == pid {
			return p.PID, nil
		}
	}
	return 0, errNotStarted
}

// isEngine reports whether an engine has the name of a process.
func isEngine(name string) bool { return name == "dockerd" || name == "podman" }

func processes(proc procfs.FS, isWanted func(name string) bool) (found []procfs.ProcStat) {
	all, _ := proc.AllProcs()
	for _, p := range all {
		if name, err := p.Comm(); err != nil || !isWanted(name) {
			continue
		}
		if stat, err := p.Stat(); err == nil {
			found = append(found, stat)
		}
	}
	return found
}

// onHost returns the file systems of an engine by the mounts of its process.
func (l locator) onHost(proc procfs.FS, pid int, local, engine mountTable, r Roots) []target {
	targets := visible(engine, local, r.Docker)
	if r.ImageStore == model.Containerd {
		root, mounts, err := l.containerdRoot(proc, pid, local, engine, r)
		if err != nil {
			return append(targets, target{path: cmp.Or(root, unknownRoot), err: err})
		}
		targets = append(targets, visible(mounts, local, root)...)
	}
	return targets
}

// unknownRoot is the path of a directory that is not known.
const unknownRoot = "containerd's root directory"

// visible returns the file systems that hold a directory in the view of one process, each device
// once, with the paths by which another process sees them.
func visible(engine, local mountTable, root string) (targets []target) {
	var devices []string
	for _, path := range engine.dataMounts(root) {
		device := engine.place(path).device
		if slices.Contains(devices, device) {
			continue
		}
		devices = append(devices, device)
		t := target{path: path, views: local.views(device, path)}
		if len(t.views) == 0 {
			t.err = errors.New("this process sees no directory of its file system")
		}
		targets = append(targets, t)
	}
	return targets
}

// inContainer returns the file systems of the engine that runs this container, and a function
// that returns the places of its directories. file is a file that the engine keeps in dir, its
// directory of containers, and has mounted.
func inContainer(local mountTable, file *procfs.MountInfo, dir string, r Roots) (targets []target, placeOf func(string) place) {
	own := local.holder("/")
	isRoot := func(path string) bool { // in its file system, where it may have another name
		hasDriver := own != nil && own.MajorMinorVer == file.MajorMinorVer && isWithin(own.Root, filepath.Join(path, r.StorageDriver))
		return strings.HasSuffix(r.Docker, path) || strings.HasSuffix(path, r.Docker) || hasDriver
	}
	parent, found := strings.CutSuffix(dir, "/containers")
	switch at := local.place(r.Docker); {
	case found && at == place{file.MajorMinorVer, cmp.Or(parent, "/")}: // the directory is mounted, too
		targets = visible(local, local, r.Docker)
	case found && isRoot(parent):
		targets = []target{{path: r.Docker, views: []string{file.MountPoint}}}
	default:
		targets = []target{
			{path: r.Docker, err: errors.New("it is not visible in this container")},
			{path: r.Docker + "/containers", views: []string{file.MountPoint}},
		}
	}
	var rootfs target
	var isSeen bool
	if r.ImageStore == model.Containerd {
		rootfs.path = cmp.Or(snapshotRoot(own), unknownRoot)
		isSeen = rootfs.path != unknownRoot
	} else {
		rootfs.path, rootfs.isQuota = filepath.Join(r.Docker, r.StorageDriver), r.BackingFilesystem == "xfs"
		isSeen = own != nil && (own.MajorMinorVer == file.MajorMinorVer || slices.Contains([]string{"overlay", "btrfs", "zfs", "fuse.fuse-overlayfs"}, own.FSType))
	}
	if rootfs.views = []string{"/"}; !isSeen {
		rootfs.views, rootfs.err = nil, errors.New("it is not visible in this container")
	}
	return append(targets, rootfs), func(path string) place {
		below, isBelow := strings.CutPrefix(path, r.Docker)
		switch {
		case isBelow && isWithin(below, "/containers"):
			return place{file.MajorMinorVer, filepath.Join("/", dir, strings.TrimPrefix(below, "/containers"))}
		case isBelow && found:
			return place{file.MajorMinorVer, filepath.Join("/", parent, below)}
		}
		return place{}
	}
}

// The defaults of containerd (defaults_unix.go).
const (
	containerdSocket = "/run/containerd/containerd.sock"
	containerdConfig = "/etc/containerd/config.toml"
	containerdData   = "/var/lib/containerd"
)

// containerdRoot returns the root directory of the engine's containerd, and the mounts of a
// process that sees it: as the root file systems of running containers show, else as the
// containerd that listens on the address was started. One that the engine starts itself, or
// contains, keeps its data below the engine's (moby: containerdRootDir).
func (l locator) containerdRoot(proc procfs.FS, pid int, local, engine mountTable, r Roots) (string, mountTable, error) {
	for _, m := range engine {
		if root := snapshotRoot(m); root != "" && strings.HasPrefix(m.MountPoint, r.Docker+"/rootfs/") {
			return root, engine, nil
		}
	}
	address := strings.Replace(cmp.Or(r.ContainerdAddress, containerdSocket), "/var/run/", "/run/", 1)
	own, root, mounts := filepath.Join(r.Docker, "containerd", "daemon"), "", engine
	var unread error
	for _, p := range processes(proc, func(name string) bool { return name == "containerd" }) {
		if p.PPID == pid {
			root, mounts = own, engine
			break
		}
		table, err := readMounts(proc, p.PID)
		if err != nil {
			continue // it has ended
		}
		data, listens, err := l.settings(p.PID, local, table)
		switch {
		case err == nil && listens == address:
			root, mounts = data, table
		case err != nil && (listens == "" || listens == address):
			unread = err
		}
	}
	switch {
	case root != "":
	case unread != nil:
		return "", nil, unread
	case address == containerdSocket:
		return "", nil, fmt.Errorf("no process is visible that listens on %s", address)
	default:
		root = own
	}
	if _, err := os.Stat(l.root + root + "/io.containerd.metadata.v1.bolt"); errors.Is(err, fs.ErrNotExist) && mounts.place(root) == local.place(root) {
		return root, nil, errors.New("there is no containerd database in it")
	}
	return root, mounts, nil
}

// Settings of a containerd, as flags and in its configuration. A key counts in one table only: also
// a plugin may have a root.
var (
	rootFlag    = regexp.MustCompile(`\x00--?root[=\x00]([^\x00]+)`)
	addressFlag = regexp.MustCompile(`\x00--?(?:address|a)[=\x00]([^\x00]+)`)
	configFlag  = regexp.MustCompile(`\x00--?(?:config|c)[=\x00]([^\x00]+)`)
	tableHeader = regexp.MustCompile(`(?m)^[ \t]*\[.*$`)
	serverTable = regexp.MustCompile(`^\s*\[\s*(?:grpc|plugins\.["']io\.containerd\.server\.v1\.grpc["'])\s*\]`) // since version 4
	rootKey     = regexp.MustCompile(`(?m)^[ \t]*root[ \t]*=[ \t]*["']([^"'\\]+)["']`)
	addressKey  = regexp.MustCompile(`(?m)^[ \t]*address[ \t]*=[ \t]*["']([^"'\\]+)["']`)
	importsKey  = regexp.MustCompile(`(?m)^[ \t]*imports[ \t]*=[ \t]*\[([^\]]*)\]`)
)

// last returns what a pattern captures last in a text, or "".
func last(pattern *regexp.Regexp, text string) string {
	if all := pattern.FindAllStringSubmatch(text, -1); len(all) > 0 {
		return all[len(all)-1][1]
	}
	return ""
}

// tables returns the keys of a configuration in TOML that are in no table, and those of the table of
// the server.
func tables(config string) (top, server string) {
	headers := tableHeader.FindAllStringIndex(config, -1)
	headers = append(headers, []int{len(config), len(config)})
	for i, header := range headers[:len(headers)-1] {
		if serverTable.MatchString(config[header[0]:header[1]]) {
			server = config[header[1]:headers[i+1][0]]
		}
	}
	return config[:headers[0][0]], server
}

// settings returns the root directory and the address of a containerd: its flags, else its
// configuration, in which an imported file counts more, else the defaults.
func (l locator) settings(pid int, local, engine mountTable) (root, address string, err error) {
	command := l.line(fmt.Sprintf("/proc/%d/cmdline", pid))
	root, address = last(rootFlag, command), last(addressFlag, command)
	configRoot, configAddress := containerdData, containerdSocket
	files := []string{cmp.Or(last(configFlag, command), containerdConfig)}
	for i := 0; i < len(files) && i < 20 && root == ""; i++ { // an import may import
		content, err := os.ReadFile(l.root + files[i])
		if engine.place(files[i]) != local.place(files[i]) {
			err = errors.New("it is in another mount namespace")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", address, fmt.Errorf("cannot read %s, the configuration of containerd: %w", files[i], err)
		}
		top, server := tables(string(content))
		configRoot, configAddress = cmp.Or(last(rootKey, top), configRoot), cmp.Or(last(addressKey, server), configAddress)
		for _, name := range strings.FieldsFunc(last(importsKey, top), func(r rune) bool { return strings.ContainsRune(`"', `+"\t\n", r) }) {
			if !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(files[i]), name)
			}
			more, _ := filepath.Glob(l.root + name)
			for _, path := range more {
				files = append(files, strings.TrimPrefix(path, l.root))
			}
		}
	}
	return cmp.Or(root, configRoot), cmp.Or(address, configAddress), nil
}

// peerOf returns a function that returns the process that listens on a Unix socket, by its ID in
// this PID namespace: 0 if it is in another one.
func peerOf(dial func(context.Context) (net.Conn, error)) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		conn, err := dial(ctx)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		socket, isUnix := conn.(*net.UnixConn)
		if !isUnix {
			return 0, errors.New("the connection to the engine is not a Unix socket")
		}
		return peerPID(socket)
	}
}
