package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// snapshotA is a folder that BuildKit's database names.
const snapshotA = "snapshotaaaaaaaaaaaaaaaaa"

// newRoot returns the root directory of an engine with overlay2, one layer, one container, and a
// build cache.
func newRoot(t *testing.T) string {
	t.Helper()
	r := newTestRoot(t)
	r.snapshots(map[string]map[string]string{"record": {"committed": snapshotA}})
	for name, content := range map[string]string{
		"image/overlay2/layerdb/sha256/" + id + "/cache-id":               "layer",
		"image/overlay2/layerdb/sha256/" + id + "/size":                   "7000",
		"image/overlay2/layerdb/sha256/" + otherID + "-removing/cache-id": "removed",
		"image/overlay2/layerdb/sha256/" + otherID + "-removing/size":     "10",
		"image/overlay2/layerdb/mounts/" + id + "/mount-id":               "mount",
		"image/overlay2/layerdb/mounts/" + id + "/init-id":                "mount-init",
		"overlay2/layer/diff/file":                                        strings.Repeat("x", 7000),
		"overlay2/removed/diff/file":                                      "x",
		"overlay2/mount/diff/file":                                        "x",
		"overlay2/mount-init/diff/file":                                   "x",
		"overlay2/" + snapshotA + "/diff/context":                         strings.Repeat("x", 9000),
		"overlay2/l/ABC":                 "x",
		"containers/" + id + "/hostname": "x",
		"tmp/link":                       "",
	} {
		r.write(name, content)
	}
	return r.dir
}

// searchIn searches for leftovers as if it were later.
func searchIn(t *testing.T, dir string, roots Roots, later time.Duration) (Leftovers, error) {
	t.Helper()
	s := search{ctx: t.Context(), sighting: sighting{path: dir}, engine: Engine{Roots: roots}, listed: []string{id}, now: time.Now().Add(later)}
	return s.run()
}

// tree returns the blocks of directories and what is in them, each file once.
func tree(t *testing.T, dirs ...string) (sum int64) {
	t.Helper()
	seen := make(map[uint64]bool)
	for _, dir := range dirs {
		if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			var stat syscall.Stat_t
			if err != nil || syscall.Lstat(path, &stat) != nil || seen[stat.Ino] {
				return err
			}
			seen[stat.Ino] = true
			sum += stat.Blocks * 512
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

// TestLeftovers checks what is a leftover, and from when on.
func TestLeftovers(t *testing.T) {
	overlay2 := Roots{ImageStore: model.GraphDriver, StorageDriver: "overlay2"}
	stranger := strings.Repeat("ab", 32)
	tests := []struct {
		name  string
		roots Roots
		make  func(t *testing.T, dir string)
		age   time.Duration // from which on it counts
		want  func(t *testing.T, dir string) model.LeftoverSizes
	}{
		{"nothing", overlay2, nil, minTemporaryAge, func(*testing.T, string) (l model.LeftoverSizes) { return l }},
		{"the folder of a layer that no database has", overlay2, func(t *testing.T, dir string) {
			writeFile(t, dir+"/overlay2/lost/diff/a/file", 40_000)
			writeFile(t, dir+"/overlay2/lost/link", 26)
			for _, err := range []error{
				os.Link(dir+"/overlay2/lost/diff/a/file", dir+"/overlay2/lost/diff/again"),
				os.Symlink(dir+"/overlay2/layer", dir+"/overlay2/lost/diff/layer"),
				os.Symlink(".", dir+"/overlay2/lost/diff/loop"),
				os.Symlink(dir+"/overlay2/layer", dir+"/overlay2/alsolost"), // not a folder
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}, minLeftoverAge, func(t *testing.T, dir string) (l model.LeftoverSizes) {
			l.Layers = tree(t, dir+"/overlay2/lost")
			return l
		}},
		{"the directory of a container that is not listed", overlay2, func(t *testing.T, dir string) {
			writeFile(t, dir+"/containers/"+stranger+"/"+stranger+"-json.log", 90_000)
			writeFile(t, dir+"/containers/backup/file", 90_000) // not the engine's
		}, minLeftoverAge, func(t *testing.T, dir string) (l model.LeftoverSizes) {
			l.Containers = tree(t, dir+"/containers/"+stranger)
			return l
		}},
		{"a pull that was killed", overlay2, func(t *testing.T, dir string) {
			writeFile(t, dir+"/image/overlay2/layerdb/tmp/write-set-1/size", 1)
		}, minLeftoverAge, func(t *testing.T, dir string) (l model.LeftoverSizes) {
			l.Temporary = tree(t, dir+"/image/overlay2/layerdb/tmp/write-set-1")
			return l
		}},
		{"the context of a build", overlay2, func(t *testing.T, dir string) {
			writeFile(t, dir+"/tmp/docker-builder1/file", 50_000)
		}, minTemporaryAge, func(t *testing.T, dir string) (l model.LeftoverSizes) {
			l.Temporary = tree(t, dir+"/tmp/docker-builder1")
			return l
		}},
		{"the store before the containerd store", Roots{ImageStore: model.Containerd, StorageDriver: "overlayfs"}, nil, 0, func(t *testing.T, dir string) (l model.LeftoverSizes) {
			l.OtherStore = 7000 + 10 + tree(t, dir+"/overlay2/mount", dir+"/overlay2/mount-init", dir+"/overlay2/"+snapshotA)
			return l
		}},
		{"the store before another driver", Roots{ImageStore: model.GraphDriver, StorageDriver: "vfs"}, nil, 0, func(t *testing.T, dir string) (l model.LeftoverSizes) {
			l.OtherStore = 7000 + 10 + tree(t, dir+"/overlay2/mount", dir+"/overlay2/mount-init", dir+"/overlay2/"+snapshotA)
			return l
		}},
		{"what is left of it after a cleanup by hand", Roots{ImageStore: model.Containerd, StorageDriver: "overlayfs"}, func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir + "/overlay2"); err != nil {
				t.Fatal(err)
			}
		}, 0, func(*testing.T, string) (l model.LeftoverSizes) { return l }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := newRoot(t)
			if test.make != nil {
				test.make(t, dir)
			}
			want := test.want(t, dir)
			if got, err := searchIn(t, dir, test.roots, test.age+time.Minute); err != nil || got.Err != nil || got.LeftoverSizes != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
			if test.age == 0 {
				return
			}
			if got, err := searchIn(t, dir, test.roots, test.age-time.Minute); err != nil || got.Err != nil || got.Sum() != 0 {
				t.Errorf("while it may belong to something that runs: got %+v, %v", got, err)
			}
			s := search{ctx: t.Context(), sighting: sighting{path: dir, since: time.Now().Add(time.Minute)}, engine: Engine{Roots: test.roots}, listed: []string{id}, now: time.Now()}
			if got, err := s.run(); err != nil || got.LeftoverSizes != want {
				t.Errorf("from before the engine started: got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

// TestLeftoversFailures checks that nothing is claimed of what is not the engine's or cannot be read.
func TestLeftoversFailures(t *testing.T) {
	overlay2 := Roots{ImageStore: model.GraphDriver, StorageDriver: "overlay2"}
	for _, test := range []struct {
		name    string
		change  func(dir string) error
		isWhole bool // the search fails, else it leaves something out
		isLeft  bool // 4,096 bytes are found
	}{
		{"another engine's containers", func(dir string) error { return os.Rename(dir+"/containers/"+id, dir+"/containers/"+otherID) }, true, false},
		{"no directory of containers", func(dir string) error { return os.RemoveAll(dir + "/containers") }, true, false},
		{"a database that is a directory", func(dir string) error {
			return errors.Join(os.Remove(dir+"/buildkit/snapshots.db"), os.Mkdir(dir+"/buildkit/snapshots.db", 0o700))
		}, true, false},
		{"a database that is a link", func(dir string) error {
			return errors.Join(os.Remove(dir+"/buildkit/snapshots.db"), os.Symlink("/dev/zero", dir+"/buildkit/snapshots.db"))
		}, true, false},
		{"a layer database that is a link", func(dir string) error {
			return errors.Join(os.Rename(dir+"/image/overlay2/layerdb/sha256", dir+"/x"), os.Symlink(dir+"/x", dir+"/image/overlay2/layerdb/sha256"))
		}, true, false},
		{"a size that is no number", func(dir string) error {
			return os.WriteFile(dir+"/image/overlay2/layerdb/sha256/"+id+"/size", []byte("-7"), 0o600)
		}, false, true},
		{"a folder below another that is a loop", func(dir string) error {
			return errors.Join(os.MkdirAll(dir+"/overlay2/deep/"+strings.Repeat("d/", 1000), 0o700), os.Rename(dir+"/overlay2/deep", dir+"/overlay2/"+strings.Repeat("e", 255)))
		}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := newRoot(t)
			if err := os.MkdirAll(dir+"/overlay2/lost", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := test.change(dir); err != nil {
				t.Fatal(err)
			}
			got, err := searchIn(t, dir, overlay2, 2*time.Hour)
			if (err != nil) != test.isWhole || err != nil && got.Sum() != 0 {
				t.Errorf("got %+v, %v", got, err)
			}
			if test.isLeft && got.Layers < tree(t, dir+"/overlay2/lost") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestLeftoversWithoutProof checks that a mapping alone proves no directory to be the engine's.
func TestLeftoversWithoutProof(t *testing.T) {
	dir := newRoot(t)
	f, engine := mapped(dir)
	engine.ImageStore = model.Containerd
	failure := new(model.Failure)
	if got, err := f.Leftovers(t.Context(), engine, nil); !errors.As(err, &failure) || !failure.NoAccess {
		t.Errorf("an engine without containers: %+v, %v", got, err)
	}
	if got, err := f.Leftovers(t.Context(), engine, []string{id}); err != nil || got.OtherStore < 7010 {
		t.Errorf("an engine with a container: %+v, %v", got, err)
	}
	if _, err := New(nil, nil).Leftovers(t.Context(), engine, []string{id}); !errors.As(err, &failure) || !strings.Contains(failure.Hint, "--no-collector.leftovers") {
		t.Error(err)
	}
}

// The size of a tree is that of all its files, hard links once, however many a directory has.
func TestTreeSize(t *testing.T) {
	r := testRoot{t, t.TempDir()}
	for i := range 1500 { // more than are read at once
		r.write(filepath.Join("diff/a", strings.Repeat("x", 1+i%100)+"-"+string(rune('A'+i/100))), "12345")
	}
	r.write("diff/b/c/file", "1234567")
	r.must(os.Link(filepath.Join(r.dir, "diff/b/c/file"), filepath.Join(r.dir, "diff/again")))
	r.must(os.Symlink("..", filepath.Join(r.dir, "diff/up")))
	r.must(syscall.Mkfifo(filepath.Join(r.dir, "diff/pipe"), 0o600))
	root, err := os.OpenRoot(r.dir)
	r.must(err)
	defer root.Close()
	if got, err := treeSize(t.Context(), root, "diff"); err != nil || got != 1500*5+7+2 {
		t.Errorf("got %d, %v, want %d", got, err, 1500*5+7+2)
	}
	if _, err := treeSize(t.Context(), root, "diff/pipe"); err == nil {
		t.Error("a pipe has a size, want an error")
	}
	if _, err := treeSize(t.Context(), root, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that it does not exist", err)
	}
}
