package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// directories are what may be wrong with the directories of containers, and with what no object has.
var directories = []struct {
	what   string
	breaks func(r *rig, containers []string)
	fails  string // the collectors that fail
	log    string // the reason; "": there is none
	logs   string // what the logs are then: "same", "less", or "absent"
}{
	{"they are gone", func(r *rig, _ []string) { r.remove("containers") }, "container_logs leftovers", "no such file", "absent"},
	{"they are another engine's", func(r *rig, ids []string) {
		for i, id := range ids {
			r.must(os.Rename(filepath.Join(r.dataRoot, "containers", id), filepath.Join(r.dataRoot, "containers", strings.Repeat(fmt.Sprint(i), 64))))
		}
	}, "container_logs leftovers", "none of the engine's containers", "absent"},
	{"one is a link", func(r *rig, ids []string) {
		r.must(os.Rename(filepath.Join(r.dataRoot, "containers", ids[0]), filepath.Join(r.dataRoot, "moved")))
		r.must(os.Symlink("../moved", filepath.Join(r.dataRoot, "containers", ids[0])))
	}, "container_logs", "too many levels", "less"},
	{"one has more files than are read", func(r *rig, ids []string) {
		for i := range 10_000 {
			r.write(fmt.Sprintf("containers/%s/%d", ids[0], i), "")
		}
	}, "container_logs", "too many entries", "less"},
	{"one vanishes", func(r *rig, ids []string) { r.remove("containers/" + ids[0]) }, "", "", "less"},
	{"a log is a link to a device", func(r *rig, ids []string) {
		log := "containers/" + ids[0] + "/" + ids[0] + "-json.log"
		r.remove(log)
		r.must(os.Symlink("/dev/zero", filepath.Join(r.dataRoot, log)))
	}, "", "", "less"},
	{"a log is a pipe", func(r *rig, ids []string) {
		log := "containers/" + ids[0] + "/" + ids[0] + "-json.log"
		r.remove(log)
		r.must(syscall.Mkfifo(filepath.Join(r.dataRoot, log), 0o600))
	}, "", "", "less"},
	{"links lead in circles", func(r *rig, ids []string) {
		for _, name := range []string{"containers/circle", "containers/" + ids[0] + "/circle", "containers/" + ids[0] + "/local-logs", "overlay2/circle", "tmp"} {
			r.must(os.MkdirAll(filepath.Dir(filepath.Join(r.dataRoot, name)), 0o755))
			r.must(os.Symlink(".", filepath.Join(r.dataRoot, name)))
		}
	}, "?leftovers", "", "same"},
	{"others have odd names", func(r *rig, ids []string) {
		for _, name := range []string{"a\nb", "\xff", "..x", strings.Repeat("x", 200), strings.ToUpper(ids[0]), ids[0] + "0", ids[0][1:]} {
			r.write("containers/"+name+"/"+name+"-json.log", strings.Repeat("x", 10_000))
			r.write("overlay2/"+name+"/link", "x")
		}
	}, "", "", "same"},
	{"a recorded size is a text", func(r *rig, _ []string) {
		r.write("image/overlay2/layerdb/sha256/"+strings.Repeat("c", 64)+"/cache-id", "layer")
		r.write("image/overlay2/layerdb/sha256/"+strings.Repeat("c", 64)+"/size", "many\n\x1b[31m")
	}, "leftovers", "the size of the layer", "same"},
	{"the database of snapshots is a link", func(r *rig, _ []string) {
		r.write("overlay2/lost/link", "x")
		r.must(os.MkdirAll(filepath.Join(r.dataRoot, "buildkit"), 0o755))
		r.must(os.Symlink("/dev/zero", filepath.Join(r.dataRoot, "buildkit/snapshots.db")))
	}, "leftovers", "too many levels", "same"},
}

func TestDirectoryFaults(t *testing.T) {
	const logs, leftovers = `docker_disk_usage_bytes{resource="container_logs"}`, `docker_disk_usage_bytes{resource="leftovers"}`
	for _, f := range directories {
		t.Run(f.what, func(t *testing.T) {
			var ids []string
			prepare := func(r *rig) { ids = writeContainers(r) }
			run(t, usual, prepare, func(r *rig) {
				right := r.warmUp()
				if right[leftovers] != "0" || number(right[logs]) < 4*8192 || len(failing(right)) > 0 {
					t.Fatalf("logs %s, leftovers %s, failing %v: %+v", right[logs], right[leftovers], failing(right), r.lines())
				}
				f.breaks(r, ids)
				for range 3 {
					time.Sleep(11 * time.Minute) // leftovers are searched for every 10 minutes
					r.scrape()
					time.Sleep(scrapeInterval)
					page, _ := r.scrape()
					got := slices.DeleteFunc(failing(page), func(name string) bool { return strings.Contains(f.fails, "?"+name) })
					if want := strings.Fields(strings.ReplaceAll(f.fails, "?leftovers", "")); !slices.Equal(got, want) {
						t.Errorf("the collectors %v fail, want %v", got, want)
					}
					value, isKnown := page[logs]
					isRight := map[string]bool{"same": value == right[logs], "less": isKnown && number(value) < number(right[logs]), "absent": !isKnown}
					if !isRight[f.logs] {
						t.Errorf("logs: %q of %q, want %s", value, right[logs], f.logs)
					}
					if sum := page[leftovers]; sum != "" && sum != "0" {
						t.Errorf("leftovers: %s", sum)
					}
				}
				r.must(os.RemoveAll(r.dataRoot))
				writeContainers(r)
				time.Sleep(11 * time.Minute)
				r.scrape()
				time.Sleep(scrapeInterval)
				if page, _ := r.scrape(); page[logs] != right[logs] || page[leftovers] != "0" || len(failing(page)) > 0 {
					t.Errorf("afterwards: logs %s, leftovers %s, failing %v", page[logs], page[leftovers], failing(page))
				}
				lines := slices.DeleteFunc(r.lines(), func(l logLine) bool { return strings.Contains(l.Msg, "layer store") }) // there is none
				if f.log == "" && f.fails == "" && len(lines) > 0 || f.log != "" && (len(lines) != 2*len(strings.Fields(f.fails)) || !strings.Contains(lines[0].Err, f.log) || len(lines[0].Err) > 300) {
					t.Errorf("the log: %+v", lines)
				}
			})
		})
	}
}

// writeContainers makes a root directory with a log for each container of the usual engine, and
// returns their IDs.
func writeContainers(r *rig) (ids []string) {
	r.dataRoot, r.readsRoot = filepath.Join(r.data, "containers-root"), true
	var containers []struct{ ID string }
	body, err := os.ReadFile(filepath.Join(engines, usual, "containers.json"))
	r.must(err)
	r.must(json.Unmarshal(body, &containers))
	r.write("image/overlay2/repositories.json", "{}")
	r.write("overlay2/l/LINK", "")
	for _, c := range containers {
		ids = append(ids, c.ID)
		r.write("containers/"+c.ID+"/"+c.ID+"-json.log", strings.Repeat("x", 8192))
	}
	return ids
}
