package host

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"

	"github.com/prometheus/procfs"
)

func TestLocate(t *testing.T) {
	mount := func(point, kind, upper string) *procfs.MountInfo {
		return &procfs.MountInfo{MountPoint: point, FSType: kind, SuperOptions: map[string]string{"upperdir": upper}}
	}
	host := []*procfs.MountInfo{mount("/", "ext4", "")}
	containerOn := func(upper string, more ...*procfs.MountInfo) []*procfs.MountInfo {
		return append([]*procfs.MountInfo{mount("/", "overlay", upper), mount("/proc", "proc", "")}, more...)
	}
	tests := []struct {
		name   string
		roots  Roots
		mounts []*procfs.MountInfo
		want   []MountMapping
	}{
		{"on a host, before the engine has said anything", Roots{}, host,
			[]MountMapping{{"/var/lib/docker", "/var/lib/docker"}}},
		{"on a host with another root", Roots{Docker: "/data/docker", ImageStore: model.GraphDriver}, host,
			[]MountMapping{{"/data/docker", "/data/docker"}}},
		{"on a host with the containerd store", Roots{Docker: "/var/lib/docker", ImageStore: model.Containerd}, host,
			[]MountMapping{{"/var/lib/docker", "/var/lib/docker"}, {"/var/lib/containerd", "/var/lib/containerd"}}},
		{"in a container of the engine", Roots{}, containerOn("/var/lib/docker/overlay2/ab/diff"),
			[]MountMapping{{"/var/lib/docker", "/"}}},
		{"in a container of an engine with another root", Roots{Docker: "/data/docker"}, containerOn("/data/docker/overlay2/ab/diff"),
			[]MountMapping{{"/data/docker", "/"}}},
		{"in a container of the containerd store", Roots{Docker: "/var/lib/docker", ImageStore: model.Containerd},
			containerOn("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs"),
			[]MountMapping{{"/var/lib/containerd", "/"}}},
		{"in a container of another runtime", Roots{Docker: "/var/lib/docker"}, containerOn("/var/lib/containers/storage/overlay/ab/diff"), nil},
		{"a name that only begins like the root", Roots{Docker: "/var/lib/docker"}, containerOn("/var/lib/docker2/overlay2/ab/diff"), nil},
		{"in a container that has the root mounted", Roots{Docker: "/data/docker"},
			containerOn("/elsewhere/ab/diff", mount("/data/docker", "xfs", "")),
			[]MountMapping{{"/data/docker", "/data/docker"}}},
		{"an overlay that a later mount hides", Roots{}, append(containerOn("/var/lib/docker/overlay2/ab/diff"), mount("/", "ext4", "")),
			[]MountMapping{{"/var/lib/docker", "/var/lib/docker"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.roots.locate(test.mounts); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name     string
		mappings []MountMapping
		isLocal  bool
		roots    Roots
		want     []string // host paths that are measured
		failed   []string
	}{
		{"local", nil, true, Roots{Docker: dir, KernelVersion: kernelRelease()}, []string{dir}, nil},
		{"another kernel", nil, true, Roots{Docker: dir, KernelVersion: "6.12.76-linuxkit"}, nil, nil},
		{"another machine", nil, false, Roots{Docker: dir, KernelVersion: kernelRelease()}, nil, nil},
		{"a root that is not visible", nil, true, Roots{Docker: dir + "/none"}, nil, nil},
		{"two paths of one file system", []MountMapping{{"/a", dir}, {"/b", os.TempDir()}}, false, Roots{}, []string{"/a"}, nil},
		{"a configured path that does not exist", []MountMapping{{"/a", dir}, {"/b", dir + "/none"}}, false, Roots{}, []string{"/a"}, []string{"/b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			usage, err := New(test.mappings, test.isLocal).Measure(t.Context(), test.roots)
			var got []string
			for _, fs := range usage.Filesystems {
				if fs.Size <= 0 || fs.Avail > fs.Size {
					t.Errorf("%+v", fs)
				}
				got = append(got, fs.Path)
			}
			if failed := slices.Sorted(maps.Keys(usage.Failures)); err != nil || !slices.Equal(got, test.want) || !slices.Equal(failed, test.failed) {
				t.Errorf("measured %q, failed %q, %v; want %q, %q", got, failed, err, test.want, test.failed)
			}
		})
	}
}

// A statfs that hangs costs one timeout, delays no other file system, and is not repeated
// until it returns.
func TestHangingStatfs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := t.TempDir(), t.TempDir()
		release := make(chan struct{})
		var calls atomic.Int32
		f := New([]MountMapping{{"/bad", bad}, {"/good", good}}, false)
		f.statfs = func(path string) (statfsResult, error) {
			if path == good {
				return statfsResult{id: filesystemID{blocks: 1}}, nil
			}
			calls.Add(1)
			<-release
			return statfsResult{id: filesystemID{blocks: 2}}, nil
		}
		measure := func(wantTook time.Duration, wantGood, wantBad bool) {
			t.Helper()
			started := time.Now()
			usage, err := f.Measure(t.Context(), Roots{})
			took := time.Since(started)
			isMeasured := func(path string) bool {
				return slices.ContainsFunc(usage.Filesystems, func(fs model.Filesystem) bool { return fs.Path == path })
			}
			if err != nil || took != wantTook || isMeasured("/good") != wantGood || isMeasured("/bad") != wantBad || (usage.Failures["/bad"] == nil) != wantBad {
				t.Errorf("took %v, %+v, %v", took, usage, err)
			}
		}
		measure(statfsTimeout, true, false)
		measure(0, true, false)
		measure(0, true, false)
		if calls.Load() != 1 {
			t.Errorf("%d calls, want 1", calls.Load())
		}
		close(release)
		synctest.Wait()
		measure(0, true, true)
	})
}

func TestContainerdRoot(t *testing.T) {
	for address, want := range map[string]string{
		"":                                    "",
		"/run/containerd/containerd.sock":     "",
		"/var/run/containerd/containerd.sock": "",
		"/var/run/docker/containerd/containerd.sock": "/data/docker/containerd/daemon",
	} {
		if got := ContainerdRoot("/data/docker", address); got != want {
			t.Errorf("containerd at %s: %q, want %q", address, got, want)
		}
	}
}

func TestParseMountMapping(t *testing.T) {
	for text, want := range map[string]MountMapping{
		"/var/lib/docker":         {"/var/lib/docker", "/var/lib/docker"},
		"/var/lib/docker=/host/d": {"/var/lib/docker", "/host/d"},
		"/var/lib/docker/=/host/": {"/var/lib/docker", "/host"},
	} {
		if got, err := ParseMountMapping(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "=", "relative", "/a=relative", "=/b"} {
		if got, err := ParseMountMapping(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}
