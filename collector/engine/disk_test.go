package engine

import (
	"log/slog"
	"os"
	"reflect"
	"slices"
	"testing"

	"docker_buildup_exporter/collector/model"

	"github.com/docker/docker/api/types/system"
	"github.com/prometheus/procfs"
)

func TestFindPlaces(t *testing.T) {
	mount := func(point, kind, upper string) *procfs.MountInfo {
		return &procfs.MountInfo{MountPoint: point, FSType: kind, SuperOptions: map[string]string{"upperdir": upper}}
	}
	host := []*procfs.MountInfo{mount("/", "ext4", "")}
	containerOn := func(upper string, more ...*procfs.MountInfo) []*procfs.MountInfo {
		return append([]*procfs.MountInfo{mount("/", "overlay", upper), mount("/proc", "proc", "")}, more...)
	}
	tests := []struct {
		name   string
		roots  roots
		mounts []*procfs.MountInfo
		want   []Place
	}{
		{"on a host, before the engine has said anything", roots{}, host,
			[]Place{{"/var/lib/docker", "/var/lib/docker"}}},
		{"on a host with another root", roots{docker: "/data/docker", store: model.GraphDriver}, host,
			[]Place{{"/data/docker", "/data/docker"}}},
		{"on a host with the containerd store", roots{docker: "/var/lib/docker", store: model.Containerd}, host,
			[]Place{{"/var/lib/docker", "/var/lib/docker"}, {"/var/lib/containerd", "/var/lib/containerd"}}},
		{"in a container of the engine", roots{}, containerOn("/var/lib/docker/overlay2/ab/diff"),
			[]Place{{"/var/lib/docker", "/"}}},
		{"in a container of an engine with another root", roots{docker: "/data/docker"}, containerOn("/data/docker/overlay2/ab/diff"),
			[]Place{{"/data/docker", "/"}}},
		{"in a container of the containerd store", roots{docker: "/var/lib/docker", store: model.Containerd},
			containerOn("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs"),
			[]Place{{"/var/lib/containerd", "/"}}},
		{"in a container of another runtime", roots{docker: "/var/lib/docker"}, containerOn("/var/lib/containers/storage/overlay/ab/diff"), nil},
		{"a name that only begins like the root", roots{docker: "/var/lib/docker"}, containerOn("/var/lib/docker2/overlay2/ab/diff"), nil},
		{"in a container that has the root mounted", roots{docker: "/data/docker"},
			containerOn("/elsewhere/ab/diff", mount("/data/docker", "xfs", "")),
			[]Place{{"/data/docker", "/data/docker"}}},
		{"an overlay that a later mount hides", roots{}, append(containerOn("/var/lib/docker/overlay2/ab/diff"), mount("/", "ext4", "")),
			[]Place{{"/var/lib/docker", "/var/lib/docker"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.roots.find(test.mounts); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// What the engine has said of its root stays true while it is away; and the disk
// of another kernel is not ours to measure.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	newJournal := func() *journal {
		return newJournal(slog.New(slog.DiscardHandler), (&connection{}).explain)
	}
	here := &disk{local: true}
	here.learn(system.Info{DockerRootDir: dir, KernelVersion: kernelRelease()})
	for range 2 {
		got, _ := here.measure(newJournal())
		if len(got) != 1 || got[0].Path != dir || got[0].Size <= 0 || got[0].Avail > got[0].Size {
			t.Errorf("got %+v, want one file system at %s", got, dir)
		}
	}

	for address, want := range map[string]string{
		"/run/containerd/containerd.sock":            "",
		"/var/run/containerd/containerd.sock":        "",
		"/var/run/docker/containerd/containerd.sock": "/data/docker/containerd/daemon",
	} {
		var d disk
		d.learn(system.Info{DockerRootDir: "/data/docker", Containerd: &system.ContainerdInfo{Address: address}})
		if d.roots.containerd != want {
			t.Errorf("containerd at %s keeps its data in %q, want %q", address, d.roots.containerd, want)
		}
	}

	far := &disk{local: true}
	far.learn(system.Info{DockerRootDir: dir, KernelVersion: "6.12.76-linuxkit"})
	if got, _ := far.measure(newJournal()); len(got) != 0 {
		t.Errorf("measured the disk of another kernel: %+v", got)
	}
	remote := &disk{}
	remote.learn(system.Info{DockerRootDir: dir, KernelVersion: kernelRelease()})
	if got, _ := remote.measure(newJournal()); len(got) != 0 {
		t.Errorf("measured the disk of another machine: %+v", got)
	}
	none := &disk{local: true}
	none.learn(system.Info{DockerRootDir: dir + "/none", KernelVersion: kernelRelease()})
	if got, failed := none.measure(newJournal()); len(got) != 0 || len(failed) != 0 {
		t.Errorf("measured a root that is out of sight: %+v, failed at %q", got, failed)
	}

	// Two names of one file system are one.
	twice := &disk{places: []Place{{"/a", dir}, {"/b", os.TempDir()}}}
	if got, _ := twice.measure(newJournal()); len(got) != 1 || got[0].Path != "/a" {
		t.Errorf("got %+v, want /a alone", got)
	}

	// One that was given and is not there is not passed over.
	lost := &disk{places: []Place{{"/a", dir}, {"/b", dir + "/none"}}}
	got, failed := lost.measure(newJournal())
	if len(got) != 1 || got[0].Path != "/a" || !slices.Equal(failed, []string{"/b"}) {
		t.Errorf("got %+v, failed at %q, want /a, and failed at /b", got, failed)
	}
}

func TestParsePlace(t *testing.T) {
	for text, want := range map[string]Place{
		"/var/lib/docker":         {"/var/lib/docker", "/var/lib/docker"},
		"/var/lib/docker=/host/d": {"/var/lib/docker", "/host/d"},
		"/var/lib/docker/=/host/": {"/var/lib/docker", "/host"},
	} {
		if got, err := ParsePlace(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "=", "relative", "/a=relative", "=/b"} {
		if got, err := ParsePlace(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}
