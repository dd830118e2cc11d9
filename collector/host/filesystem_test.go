package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"
)

// fixed returns Filesystems whose statfs returns fixed results by path.
func fixed(mappings []MountMapping, results map[string]statfsResult) *Filesystems {
	f := New(mappings, nil)
	f.statfs = func(path string) (statfsResult, error) { return results[path], nil }
	return f
}

// paths returns what is measured and what is not.
func (u Usage) paths() (measured, failed []string) {
	for _, fs := range u.Filesystems {
		measured = append(measured, fs.Path)
	}
	return measured, slices.Sorted(maps.Keys(u.Failures))
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name     string
		mappings []MountMapping
		roots    Roots
		want     []string // host paths that are measured
		failed   []string
	}{
		{"before the engine has said anything", nil, Roots{}, nil, nil},
		{"an engine that is not proven to be on this machine", nil, Roots{Docker: dir}, nil, []string{dir}},
		{"an engine without a root directory", nil, Roots{ImageStore: model.GraphDriver}, nil, []string{"DockerRootDir"}},
		{"two paths of one file system", []MountMapping{{"/a", dir}, {"/b", os.TempDir()}}, Roots{}, []string{"/a"}, nil},
		{"a configured path that does not exist", []MountMapping{{"/a", dir}, {"/b", dir + "/none"}}, Roots{}, []string{"/a"}, []string{"/b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			usage := New(test.mappings, nil).Measure(t.Context(), Engine{Roots: test.roots})
			got, failed := usage.paths()
			if !slices.Equal(got, test.want) || !slices.Equal(failed, test.failed) {
				t.Errorf("measured %q, failed %q; want %q, %q", got, failed, test.want, test.failed)
			}
			for _, fs := range usage.Filesystems {
				if fs.Size <= 0 || fs.Avail > fs.Size {
					t.Errorf("%+v", fs)
				}
			}
		})
	}
}

// TestEngineStarted checks that the engine has started when the folder for its runtimes was created.
func TestEngineStarted(t *testing.T) {
	dir := t.TempDir()
	f := New([]MountMapping{{"/data", dir}}, nil)
	measure := func() (time.Time, bool) {
		return f.Measure(t.Context(), Engine{Roots: Roots{Docker: "/data/docker"}}).EngineStarted.Get()
	}
	if at, known := measure(); known {
		t.Errorf("got %v without the folder, want unknown", at)
	}
	before := time.Now().Add(-time.Second) // a file system has a coarser clock
	if err := os.MkdirAll(filepath.Join(dir, "docker/runtimes"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := birth(dir); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the file system does not store when a folder was created")
	}
	if at, known := measure(); !known || at.Before(before) || at.After(time.Now()) {
		t.Errorf("got %v (known: %v), want between %v and now", at, known, before)
	}
}

// TestMeasureLocated checks what statfs decides about file systems that were found.
func TestMeasureLocated(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	disk := func(fsid int32, blocks, free uint64) statfsResult {
		return statfsResult{id: filesystemID{[2]int32{fsid}, blocks}, hasID: true, free: free, Filesystem: model.Filesystem{Type: "extfs", Size: int64(blocks), Avail: int64(free)}}
	}
	through := func(r statfsResult) statfsResult { r.hasID, r.Type = false, ""; return r } // as an overlay
	zfs := disk(3, 10, 5)
	zfs.isZFS = true
	tests := []struct {
		name          string
		first, second statfsResult
		isQuota       bool
		want, failed  string
	}{
		{"two disks", disk(1, 10, 5), disk(2, 10, 5), false, "[/a /b]", "[]"},
		{"one disk", disk(1, 10, 5), disk(1, 10, 4), false, "[/a]", "[]"},
		{"one disk through an overlay", disk(1, 10, 5), through(disk(2, 10, 5)), false, "[/a]", "[]"},
		{"two disks of one size, one through an overlay", disk(1, 10, 5), through(disk(2, 10, 4)), false, "[/a /b]", "[]"},
		{"two disks without an ID", through(disk(0, 10, 5)), through(disk(0, 10, 4)), false, "[/a /b]", "[]"},
		{"one disk without an ID", through(disk(0, 10, 5)), through(disk(0, 10, 5)), false, "[/a]", "[]"},
		{"a quota", disk(1, 10, 5), through(disk(2, 7, 5)), true, "[/a]", "[/b]"},
		{"no quota", disk(1, 10, 5), through(disk(2, 10, 5)), true, "[/a]", "[]"},
		{"ZFS", disk(1, 10, 5), zfs, false, "[/a]", "[/b]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fixed(nil, map[string]statfsResult{a: test.first, b: test.second})
			roots := Roots{Docker: "/a"}
			f.located = located{roots: roots, at: time.Now(), view: view{targets: []target{{path: "/a", views: []string{a + "/none", a}}, {path: "/b", views: []string{b}, isQuota: test.isQuota}}}}
			measured, failed := f.Measure(t.Context(), Engine{Roots: roots}).paths()
			if fmt.Sprint(measured) != test.want || fmt.Sprint(failed) != test.failed {
				t.Errorf("measured %q, failed %q; want %s, %s", measured, failed, test.want, test.failed)
			}
		})
	}
}

// TestSearch checks when file systems are searched for: once a minute and at other roots. What was
// found holds while the engine does not answer, and no longer than it is proven.
func TestSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fixed(nil, nil)
		f.statfs = func(string) (statfsResult, error) { return statfsResult{id: filesystemID{blocks: 1}}, nil }
		m := newMachine(hostMounts, hostMounts)
		m.process(1, 0, "systemd", "init", hostMounts)
		f.locator = m.locator(t)
		searches, pid, peerErr := 0, 500, error(nil)
		f.locator.peer = func(context.Context) (int, error) { searches++; return pid, peerErr }
		roots := overlay2Engine()
		check := func(when string, wantSearches int, isMeasured bool) {
			t.Helper()
			measured, failed := f.Measure(t.Context(), Engine{Roots: roots}).paths()
			if searches != wantSearches || (len(measured) == 1) != isMeasured || (len(failed) == 1) == isMeasured {
				t.Errorf("%s: %d searches, measured %q, failed %q; want %d, %v", when, searches, measured, failed, wantSearches, isMeasured)
			}
		}
		check("first", 1, true)
		check("again", 1, true)
		time.Sleep(searchInterval)
		check("after a minute", 2, true)
		peerErr = errors.New("connection refused")
		time.Sleep(searchInterval)
		check("while the engine is away", 3, true)
		roots.Docker = "/other"
		check("another engine that does not answer", 4, false)
		peerErr = nil
		check("when it answers", 5, true)
		pid = 1
		time.Sleep(searchInterval)
		check("as systemd has started it", 6, true)
		if err := os.WriteFile(f.locator.root+"/proc/500/comm", []byte("other\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(searchInterval)
		check("before systemd starts it again", 7, true)
		pid = 7
		time.Sleep(searchInterval)
		check("behind another process", 8, false)
	})
}

// A statfs that hangs costs one timeout, delays no other file system, and is not repeated
// until it returns.
func TestHangingStatfs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := t.TempDir(), t.TempDir()
		release := make(chan struct{})
		var calls atomic.Int32
		f := New([]MountMapping{{"/bad", bad}, {"/good", good}}, nil)
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
			usage := f.Measure(t.Context(), Engine{})
			took := time.Since(started)
			isMeasured := func(path string) bool {
				return slices.ContainsFunc(usage.Filesystems, func(fs model.Filesystem) bool { return fs.Path == path })
			}
			if took != wantTook || isMeasured("/good") != wantGood || isMeasured("/bad") != wantBad || (usage.Failures["/bad"] == nil) != wantBad {
				t.Errorf("took %v, %+v", took, usage)
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

// A search that hangs delays one measurement, and what it finds is not taken for another engine's.
func TestHangingSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fixed(nil, nil)
		f.statfs = func(string) (statfsResult, error) { return statfsResult{id: filesystemID{blocks: 1}}, nil }
		f.locator = newMachine(hostMounts, hostMounts).locator(t)
		release := make(chan struct{})
		f.locator.peer = func(context.Context) (int, error) { <-release; return 500, nil }
		measure := func(roots Roots, wantTook time.Duration, want string) {
			t.Helper()
			started := time.Now()
			measured, failed := f.Measure(t.Context(), Engine{Roots: roots}).paths()
			if got := fmt.Sprint(measured, failed); got != want || time.Since(started) != wantTook {
				t.Errorf("got %s after %v, want %s after %v", got, time.Since(started), want, wantTook)
			}
		}
		other := overlay2Engine()
		other.Docker = "/other"
		measure(overlay2Engine(), statfsTimeout, "[] [/var/lib/docker]")
		measure(other, 0, "[] [/other]")
		time.AfterFunc(statfsTimeout/2, func() { close(release) })
		f.calls[""].isLate = false
		measure(other, statfsTimeout/2, "[] [/other]")
		measure(other, 0, "[/other] []")
	})
}
