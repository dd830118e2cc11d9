package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// machine is what a locator sees.
type machine struct {
	files map[string]string // by path
	peer  int
	has   map[string]bool // containers of the engine
}

const (
	id      = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	otherID = "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

	hostMounts = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	ownMounts  = `60 50 8:1 /var/lib/docker/containers/` + id + `/hostname /etc/hostname rw - ext4 /dev/sda1 rw
`
)

// process adds a process.
func (m machine) process(pid, parent int, name, command, mounts string) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	m.files[dir+"comm"] = name + "\n"
	m.files[dir+"stat"] = fmt.Sprintf("%d (%s) S %d %s\n", pid, name, parent, strings.Repeat("0 ", 48))
	m.files[dir+"cmdline"] = strings.ReplaceAll(command, " ", "\x00") + "\x00"
	m.files[dir+"mountinfo"] = mounts
}

// newMachine returns a host with an engine, process 500, which listens on its socket.
func newMachine(local, engine string) machine {
	m := machine{map[string]string{
		"/proc/self/mountinfo":                                                  local,
		"/proc/sys/kernel/osrelease":                                            "6.1\n",
		"/proc/sys/kernel/hostname":                                             "web1\n",
		"/var/lib/containerd/tmp":                                               "",
		"/data/containerd/io.containerd.metadata.v1.bolt/meta.db":               "",
		"/var/lib/docker/containerd/daemon/io.containerd.metadata.v1.bolt/meta": "",
	}, 500, map[string]bool{id: true}}
	m.process(500, 1, "dockerd", "dockerd", engine)
	return m
}

func (m machine) locator(t *testing.T) locator {
	root := t.TempDir()
	for path, content := range m.files {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return locator{root, func(context.Context) (int, error) { return m.peer, nil }}
}

// describe returns targets as text: each path with where it is measured, or "-".
func describe(targets []target) string {
	var lines []string
	for _, t := range targets {
		view := strings.Join(t.views, ",")
		if t.err != nil {
			view += "-"
		}
		lines = append(lines, t.path+"="+view)
	}
	return strings.Join(lines, " ")
}

func containerdEngine(address string) Roots {
	return Roots{Docker: "/var/lib/docker", ImageStore: model.Containerd, StorageDriver: "overlayfs", ContainerdAddress: address, KernelVersion: "6.1", Hostname: "web1"}
}

func overlay2Engine() Roots {
	return Roots{Docker: "/var/lib/docker", ImageStore: model.GraphDriver, StorageDriver: "overlay2", BackingFilesystem: "extfs", KernelVersion: "6.1", Hostname: "web1"}
}

// ownOverlay is the root file system of a container with an upper directory.
func ownOverlay(upper string) string {
	return "50 40 0:60 / / rw - overlay overlay rw,lowerdir=/l,upperdir=" + upper + ",workdir=/w\n"
}

const (
	overlay2Layer = "/var/lib/docker/overlay2/ab12/diff"
	snapshot      = "/data/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs"
)

func TestLocate(t *testing.T) {
	tests := []struct {
		name   string
		roots  Roots
		local  string
		engine string // empty: local
		change func(m *machine)
		want   string
	}{
		{"one disk", overlay2Engine(), hostMounts, "", nil, "/var/lib/docker=/var/lib/docker,/"},
		{"the root directory on a disk of its own, and mounts below it", overlay2Engine(),
			hostMounts + `21 20 8:2 / /var/lib/docker rw - xfs /dev/sda2 rw
22 21 8:3 / /var/lib/docker/volumes rw - xfs /dev/sda3 rw
23 21 8:4 / /var/lib/docker/image/overlay2 rw - xfs /dev/sda4 rw
24 21 8:2 /overlay2 /var/lib/docker/overlay2 rw - xfs /dev/sda2 rw
25 24 0:50 / /var/lib/docker/overlay2/ab12/merged rw - overlay overlay rw,upperdir=/var/lib/docker/overlay2/ab12/diff
26 21 0:51 / /var/lib/docker/containers/` + id + `/mounts/shm rw - tmpfs shm rw
27 22 0:52 / /var/lib/docker/volumes/nfs/_data rw - nfs4 far:/ rw
28 21 0:4 net:[1] /var/lib/docker/netns rw - nsfs nsfs rw
29 21 0:53 / /var/lib/docker/tmp/buildkit-mount123 ro - overlay overlay rw
`, "", nil, "/var/lib/docker=/var/lib/docker,/var/lib/docker/overlay2 /var/lib/docker/volumes=/var/lib/docker/volumes /var/lib/docker/image/overlay2=/var/lib/docker/image/overlay2"},
		{"a mount that a later one hides", overlay2Engine(),
			hostMounts + `21 20 8:2 / /var/lib/docker rw - xfs /dev/sda2 rw
22 20 8:3 / /var/lib rw - xfs /dev/sda3 rw
`, "", nil, "/var/lib/docker=/var/lib/docker,/var/lib"},
		{"a path with a space", Roots{Docker: "/my data/docker", KernelVersion: "6.1"},
			hostMounts + "21 20 8:2 / /my\\040data rw - xfs /dev/sda2 rw\n", "", nil, "/my data/docker=/my data/docker,/my data"},
		{"another mount namespace, whose disk is not visible here", overlay2Engine(), hostMounts,
			"70 1 8:1 / / rw - ext4 /dev/sda1 rw\n71 70 0:70 / /var/lib/docker rw - tmpfs tmpfs rw\n", nil, "/var/lib/docker=-"},
		{"another mount namespace, whose disk is visible elsewhere", overlay2Engine(),
			hostMounts + "21 20 8:5 / /volumes/dind rw - xfs /dev/sda5 rw\n",
			"70 1 0:80 / / rw - overlay overlay rw\n71 70 8:5 /sub /var/lib/docker rw - xfs /dev/sda5 rw\n", nil, "/var/lib/docker=/volumes/dind"},
		{"a service that must not see the directory", overlay2Engine(), hostMounts + "21 20 0:90 / /var/lib/docker ro - tmpfs tmpfs rw\n", hostMounts, nil,
			"/var/lib/docker=/"},
		{"a root file system that is an overlay, on a host", overlay2Engine(),
			"20 1 0:30 / / rw - overlay overlay rw,lowerdir=/rom,upperdir=/overlay/upper\n", "", nil, "/var/lib/docker=/var/lib/docker,/"},
		{"a socket that systemd listens on", overlay2Engine(), hostMounts, "",
			func(m *machine) { m.peer = 1; m.process(1, 0, "systemd", "init", hostMounts) }, "/var/lib/docker=/var/lib/docker,/"},
		{"a socket that systemd listens on, without an engine", overlay2Engine(), hostMounts, "",
			func(m *machine) {
				m.peer = 1
				m.process(1, 0, "systemd", "init", hostMounts)
				m.process(500, 400, "dockerd", "dockerd", hostMounts)
			}, "has not started an engine"},
		{"a socket that systemd listens on, and an engine of another name", Roots{Docker: "/var/lib/docker", KernelVersion: "6.1", Hostname: "web2"}, hostMounts, "",
			func(m *machine) { m.peer = 1; m.process(1, 0, "systemd", "init", hostMounts) }, `its host name is "web2"`},
		{"a socket that ssh forwards", overlay2Engine(), hostMounts, "",
			func(m *machine) { m.peer = 600; m.process(600, 1, "ssh", "ssh", hostMounts) }, `listens on its socket is "ssh"`},
		{"a process that is hidden", overlay2Engine(), hostMounts, "", func(m *machine) { m.peer = 601 }, "/proc hides the process 601"},
		{"another kernel", Roots{Docker: "/var/lib/docker", KernelVersion: "6.12-linuxkit"}, hostMounts, "", nil, "another machine"},
		{"no root directory", Roots{KernelVersion: "6.1"}, hostMounts, "", nil, `reports "" as its root`},
		{"a relative root directory", Roots{Docker: "."}, hostMounts, "", nil, `reports "." as its root`},

		{"containerd, as its processes were started", containerdEngine("/run/containerd/containerd.sock"), hostMounts + "21 20 8:6 / /data rw - xfs /dev/sda6 rw\n", "",
			func(m *machine) {
				m.process(400, 1, "containerd", "containerd --root=/data/containerd", m.files["/proc/500/mountinfo"])
			},
			"/var/lib/docker=/var/lib/docker,/ /data/containerd=/data/containerd,/data"},
		{"containerd, as its configuration says", containerdEngine("/var/run/containerd/containerd.sock"), hostMounts + "21 20 8:6 / /data rw - xfs /dev/sda6 rw\n", "",
			func(m *machine) {
				m.process(400, 1, "containerd", "containerd", m.files["/proc/500/mountinfo"])
				m.files["/etc/containerd/config.toml"] = "version = 2\nroot = \"/data/containerd\"\n[plugins.x]\n  root = \"/no\"\n"
			}, "/var/lib/docker=/var/lib/docker,/ /data/containerd=/data/containerd,/data"},
		{"containerd, with plugins that have a root of their own", containerdEngine("/run/data.sock"), hostMounts, "",
			func(m *machine) {
				m.process(400, 1, "containerd", "containerd", hostMounts)
				m.files["/etc/containerd/config.toml"] = "version = 4\n  root = \"/data/containerd\"\n\n[proxy_plugins.x]\naddress = '/run/x.sock'\n" +
					"[proxy_plugins.x.exports]\nroot = \"/no\"\n[plugins.'io.containerd.server.v1.grpc']\nuid = 0\nnames = []\naddress = '/run/data.sock'\n[plugins.'io.containerd.server.v1.ttrpc']\naddress = '/run/t.sock'\n"
			}, "/var/lib/docker=/var/lib/docker,/ /data/containerd=/data/containerd,/"},
		{"containerd, as an imported configuration says", containerdEngine(""), hostMounts, "",
			func(m *machine) {
				m.process(400, 1, "containerd", "containerd -c /etc/c.toml", hostMounts)
				m.process(401, 1, "containerd", "containerd -a /run/k3s/containerd.sock", hostMounts)
				m.files["/etc/c.toml"] = "root = '/old'\nimports = [\n  'conf.d/*.toml',\n]\n"
				m.files["/etc/conf.d/a.toml"] = "root = '/data/containerd'"
			}, "/var/lib/docker=/var/lib/docker,/ /data/containerd=/data/containerd,/"},
		{"containerd's default directory, left behind empty", containerdEngine("/run/containerd/containerd.sock"), hostMounts, "",
			func(m *machine) { m.process(400, 1, "containerd", "containerd", hostMounts) }, "/var/lib/docker=/var/lib/docker,/ /var/lib/containerd=-"},
		{"no containerd is visible", containerdEngine("/run/containerd/containerd.sock"), hostMounts, "", nil, "/var/lib/docker=/var/lib/docker,/ containerd's root directory=-"},
		{"a configuration in another mount namespace", containerdEngine("/run/containerd/containerd.sock"), hostMounts, "",
			func(m *machine) {
				m.process(400, 1, "containerd", "containerd", "90 1 8:9 / / rw - ext4 /dev/sda9 rw\n")
			},
			"/var/lib/docker=/var/lib/docker,/ containerd's root directory=-"},
		{"containerd that the engine has started", containerdEngine("/var/run/docker/containerd/containerd.sock"), hostMounts, "",
			func(m *machine) {
				m.process(501, 500, "containerd", "containerd --config /var/run/docker/containerd/containerd.toml", hostMounts)
			},
			"/var/lib/docker=/var/lib/docker,/ /var/lib/docker/containerd/daemon=/var/lib/docker/containerd/daemon,/"},
		{"containerd whose root file systems are mounted", containerdEngine("/run/far/containerd.sock"),
			hostMounts + "21 20 8:6 / /data rw - xfs /dev/sda6 rw\n30 20 0:55 / /var/lib/docker/rootfs/overlayfs/" + id + " rw - overlay overlay rw,upperdir=" + snapshot + "\n", "", nil,
			"/var/lib/docker=/var/lib/docker,/ /data/containerd=/data/containerd,/data"},

		{"in a container of an engine with overlay2", overlay2Engine(), ownOverlay(overlay2Layer) + ownMounts, "", func(m *machine) { m.peer = 0 },
			"/var/lib/docker=/etc/hostname /var/lib/docker/overlay2=/"},
		{"in a container, with a root directory on a disk of its own", overlay2Engine(), ownOverlay(overlay2Layer) +
			"60 50 8:2 /containers/" + id + "/hosts /etc/hosts rw - xfs /dev/sdb rw\n", "", func(m *machine) { m.peer = 0 },
			"/var/lib/docker=/etc/hosts /var/lib/docker/overlay2=/"},
		{"in a container, with containers on a disk of their own", overlay2Engine(), ownOverlay(overlay2Layer) +
			"60 50 8:2 /" + id + "/hosts /etc/hosts rw - xfs /dev/sdb rw\n", "", func(m *machine) { m.peer = 0 },
			"/var/lib/docker=- /var/lib/docker/containers=/etc/hosts /var/lib/docker/overlay2=/"},
		{"in a container of an engine with containerd", containerdEngine(""), ownOverlay(snapshot) + ownMounts, "", func(m *machine) { m.peer = 0 },
			"/var/lib/docker=/etc/hostname /data/containerd=/"},
		{"in a container without an overlay", containerdEngine(""), "50 40 8:1 /x / rw - ext4 /dev/sda rw\n" + ownMounts, "", func(m *machine) { m.peer = 0 },
			"/var/lib/docker=/etc/hostname containerd's root directory=-"},
		{"in a container on devicemapper", Roots{Docker: "/var/lib/docker", ImageStore: model.GraphDriver, StorageDriver: "devicemapper"},
			"50 40 253:3 /rootfs / rw - ext4 /dev/mapper/d rw\n" + ownMounts, "", func(m *machine) { m.peer = 0 },
			"/var/lib/docker=/etc/hostname /var/lib/docker/devicemapper=-"},
		{"in a container on Btrfs", Roots{Docker: "/var/lib/docker", ImageStore: model.GraphDriver, StorageDriver: "btrfs"},
			"50 40 0:40 /@docker/btrfs/subvolumes/ab / rw - btrfs /dev/sda rw\n60 50 0:40 /@docker/containers/" + id + "/hostname /etc/hostname rw - btrfs /dev/sda rw\n", "",
			func(m *machine) { m.peer = 0 }, "/var/lib/docker=/etc/hostname /var/lib/docker/btrfs=/"},
		{"in a container that has the root directory mounted", overlay2Engine(), ownOverlay(overlay2Layer) + ownMounts +
			"61 50 8:1 /var/lib/docker /var/lib/docker ro - ext4 /dev/sda1 rw\n62 61 8:3 / /var/lib/docker/volumes ro - ext4 /dev/sda3 rw\n", "", func(m *machine) { m.peer = 0 },
			"/var/lib/docker=/var/lib/docker,/etc/hostname /var/lib/docker/volumes=/var/lib/docker/volumes /var/lib/docker/overlay2=/"},
		{"in a container that has another root directory mounted", overlay2Engine(), ownOverlay(overlay2Layer) + ownMounts +
			"61 50 8:7 /docker /var/lib/docker ro - ext4 /dev/sda7 rw\n", "", func(m *machine) { m.peer = 0 },
			"/var/lib/docker=/etc/hostname /var/lib/docker/overlay2=/"},
		{"in a container of a rootless engine with fuse-overlayfs", Roots{Docker: "/home/u/.local/share/docker", ImageStore: model.GraphDriver, StorageDriver: "fuse-overlayfs"},
			"50 40 0:60 / / rw - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0,group_id=0\n60 50 8:1 /home/u/.local/share/docker/containers/" + id + "/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n", "",
			func(m *machine) { m.peer = 0 }, "/home/u/.local/share/docker=/etc/hostname /home/u/.local/share/docker/fuse-overlayfs=/"},
		{"in a container of another engine", overlay2Engine(), ownOverlay(overlay2Layer) + ownMounts, "", func(m *machine) { m.peer, m.has = 0, nil },
			"is not one of the engine's"},
		{"in a pod beside the engine", overlay2Engine(), ownOverlay("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs") +
			"60 50 8:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/" + otherID + "/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n", "", func(m *machine) { m.peer = 0 },
			"is not one of the engine's"},
		{"in a container that does not say whose it is", overlay2Engine(), ownOverlay(overlay2Layer), "", func(m *machine) { m.peer = 0 }, "not visible in this container"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(test.local, cmp.Or(test.engine, test.local))
			if test.change != nil {
				test.change(&m)
			}
			e := Engine{test.roots, func(_ context.Context, id string) (bool, error) { return m.has[id], nil }}
			found, err := m.locator(t).locate(t.Context(), e)
			if got := describe(found.targets); err == nil && got != test.want || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %s, %v\nwant %s", got, err, test.want)
			}
		})
	}
}

// TestLocateUnanswered checks which failures leave open whether what was found before holds.
func TestLocateUnanswered(t *testing.T) {
	gone := errors.New("gone")
	engine := Engine{overlay2Engine(), func(context.Context, string) (bool, error) { return false, gone }}
	l := newMachine(hostMounts, hostMounts).locator(t)
	l.peer = func(context.Context) (int, error) { return 0, gone }
	if _, err := l.locate(t.Context(), engine); !errors.As(err, new(unansweredError)) || !errors.Is(err, gone) {
		t.Errorf("the socket refuses: got %v", err)
	}
	l = newMachine(ownOverlay(overlay2Layer)+ownMounts, hostMounts).locator(t)
	if _, err := l.locate(t.Context(), engine); !errors.As(err, new(unansweredError)) || !errors.Is(err, gone) {
		t.Errorf("the engine does not say whose the container is: got %v", err)
	}
	l = newMachine(hostMounts, hostMounts).locator(t)
	l.peer = nil
	if _, err := l.locate(t.Context(), engine); !errors.Is(err, errNotProven) || errors.As(err, new(unansweredError)) {
		t.Errorf("no socket: got %v", err)
	}
}
