package faults

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// layerStores are what may be wrong with the engine's root directory. Figures are then those of the
// Engine API, and right again once it is right.
var layerStores = []struct {
	what   string
	breaks func(r *rig)
	log    string // the reason; "": it is of another engine, or of another time
}{
	{"its layer database is gone", func(r *rig) { r.remove("image") }, "no such file"},
	{"it is another directory", func(r *rig) { r.remove("image"); r.remove("buildkit") }, "no such file"},
	{"a layer has no size", func(r *rig) { r.write("image/overlay2/layerdb/sha256/"+strings.Repeat("a", 64)+"/size", "") }, "no size"},
	{"the layer database is a link", func(r *rig) {
		r.remove("image/overlay2/layerdb/sha256")
		r.must(os.Symlink("/etc", filepath.Join(r.dataRoot, "image/overlay2/layerdb/sha256")))
	}, "too many levels"},
	{"the database of snapshots is no database", func(r *rig) { r.write("buildkit/snapshots.db", strings.Repeat("text", 5000)) }, "damaged"},
	{"the database of snapshots is cut", func(r *rig) {
		r.snapshots("new")
		r.must(os.Truncate(filepath.Join(r.dataRoot, "buildkit/snapshots.db"), 8192))
	}, "damaged"},
	{"the database of metadata is gone", func(r *rig) { r.remove("buildkit/metadata_v2.db") }, "no such file"},
	{"a layer of an image is missing", func(r *rig) {
		layers, _ := filepath.Glob(filepath.Join(r.dataRoot, "image/overlay2/layerdb/sha256/0*"))
		r.must(os.RemoveAll(layers[0]))
	}, ""},
	{"it is another engine's", func(r *rig) { r.remove("image/overlay2/layerdb/mounts") }, "it has no container"},
}

func TestLayerStoreFaults(t *testing.T) {
	var ofAPI map[string]string
	run(t, usual, nil, func(r *rig) { ofAPI = diskFigures(r.warmUp()) })
	for _, f := range layerStores {
		t.Run(f.what, func(t *testing.T) {
			run(t, usual, writeDataRoot, func(r *rig) {
				right := diskFigures(r.warmUp())
				if right[`docker_reclaimable_exact{command="docker image prune --all"}`] != "1" || maps.Equal(right, ofAPI) {
					t.Fatalf("not of the layer store: %v", right)
				}
				f.breaks(r)
				for range 10 {
					time.Sleep(scrapeInterval)
					page, _ := r.scrape()
					if got := diskFigures(page); !maps.Equal(got, ofAPI) {
						t.Errorf("while it is wrong: got %v, want %v", got, ofAPI)
					}
					for series, value := range page {
						if strings.HasPrefix(series, "docker_scrape_collector_success") && value != "1" {
							t.Errorf("%s %s", series, value)
						}
					}
				}
				r.must(os.RemoveAll(r.dataRoot))
				writeDataRoot(r)
				time.Sleep(5 * time.Minute)
				if page, _ := r.scrape(); !maps.Equal(diskFigures(page), right) {
					t.Errorf("afterwards: got %v, want %v", diskFigures(page), right)
				}
				lines := r.lines()
				if f.log == "" && len(lines) > 0 || f.log != "" && (len(lines) != 2 || !strings.Contains(lines[0].Err, f.log) || lines[1].Msg != "recovered") {
					t.Errorf("the log: %+v", lines)
				}
			})
		})
	}
}

// diskFigures returns the series of a page that a layer store changes.
func diskFigures(page map[string]string) map[string]string {
	page = maps.Clone(page)
	maps.DeleteFunc(page, func(series, _ string) bool { return !hasPrefix(series, "docker_reclaimable", "docker_disk_usage") })
	return page
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) remove(name string) { r.must(os.RemoveAll(filepath.Join(r.dataRoot, name))) }

func (r *rig) write(name, content string) {
	file := filepath.Join(r.dataRoot, name)
	r.must(os.MkdirAll(filepath.Dir(file), 0o755))
	r.must(os.WriteFile(file, []byte(content), 0o644))
}

// snapshots adds snapshots to the database of BuildKit.
func (r *rig) snapshots(ids ...string) {
	for _, name := range []string{"snapshots", "metadata_v2"} {
		r.must(os.MkdirAll(filepath.Join(r.dataRoot, "buildkit"), 0o755))
		db, err := bolt.Open(filepath.Join(r.dataRoot, "buildkit", name+".db"), 0o600, nil)
		r.must(err)
		r.must(db.Update(func(tx *bolt.Tx) error {
			for _, id := range ids {
				if _, err := tx.CreateBucketIfNotExists([]byte(id)); err != nil {
					return err
				}
			}
			return nil
		}))
		r.must(db.Close())
	}
}

// writeDataRoot makes the root directory of the usual engine, in which each layer is ten times as large as
// its API says.
func writeDataRoot(r *rig) {
	r.dataRoot = filepath.Join(r.data, "root")
	var images []struct {
		ID   string
		Size int64
	}
	var containers []struct{ ID, ImageID string }
	var usage struct{ BuildCache []struct{ ID string } }
	for file, into := range map[string]any{"images.json": &images, "containers.json": &containers, "system/df.json": &usage} {
		body, err := os.ReadFile(filepath.Join(engines, usual, file))
		r.must(err)
		r.must(json.Unmarshal(body, into))
	}
	tops := make(map[string]string)
	for _, image := range images {
		lower := fmt.Sprintf("sha256:%064d", image.Size)
		top := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(lower+" "+image.ID)))
		r.write(folderOf(lower)+"size", fmt.Sprint(10*(image.Size-image.Size/2)))
		r.write(folderOf(top)+"size", fmt.Sprint(10*(image.Size/2)))
		r.write(folderOf(top)+"parent", lower)
		tops[image.ID] = top
	}
	for _, c := range containers {
		r.write("image/overlay2/layerdb/mounts/"+c.ID+"/parent", tops[c.ImageID])
	}
	var ids []string
	for _, record := range usage.BuildCache {
		ids = append(ids, record.ID)
		r.write("overlay2/"+record.ID+"/diff/file", "content")
	}
	r.snapshots(ids...)
}

func folderOf(chain string) string {
	return "image/overlay2/layerdb/" + strings.Replace(chain, ":", "/", 1) + "/"
}
