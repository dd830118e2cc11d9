package faults

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/containerd"
	"docker_buildup_exporter/collector/model"
)

// fakeContainerd is the containerd of the engine in the folder 29-containerd: each image is one blob
// of 1000 bytes, and each container has written 10.
type fakeContainerd struct {
	mu    sync.Mutex
	err   error
	hangs bool
	other bool // it is that of another engine
}

func (c *fakeContainerd) set(err error, hangs, other bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.hangs, c.other = err, hangs, other
}

func (c *fakeContainerd) read(ctx context.Context, _ containerd.Engine, _ map[string]time.Time) (containerd.Store, error) {
	c.mu.Lock()
	err, hangs, other := c.err, c.hangs, c.other
	c.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return containerd.Store{}, ctx.Err()
	}
	var images, containers []struct {
		ID       string `json:"Id"`
		RepoTags []string
	}
	for name, list := range map[string]any{"images": &images, "containers": &containers} {
		text, err := os.ReadFile(engines + "29-containerd/" + name + ".json")
		if err != nil || json.Unmarshal(text, list) != nil {
			panic(err)
		}
	}
	var store containerd.Store
	for _, image := range images {
		store.ImageList = append(store.ImageList, model.Image{ID: image.ID, Tags: image.RepoTags, HasDigest: model.Known(false), Size: model.Known[int64](1000)})
		store.Images = append(store.Images, model.StoredImage{Name: "name of " + image.ID, Target: image.ID})
		store.Objects = append(store.Objects, model.StoredObject{Key: model.BlobKey(image.ID), Size: model.Known[int64](1000)})
	}
	for _, container := range containers {
		if !other {
			store.Objects = append(store.Objects, model.StoredObject{Key: model.SnapshotKey(container.ID), Size: model.Known[int64](10)})
		}
	}
	return store, err
}

// containerds are what may be wrong with the engine's containerd. Figures are then those of the
// Engine API, and right again once it is right.
var containerds = []struct {
	what         string
	err          error
	hangs, other bool
	log          string
}{
	{what: "gone", err: &model.Failure{Kind: "dial", Reason: "connection refused", Err: syscall.ECONNREFUSED}, log: "connection refused"},
	{what: "access taken away", err: &model.Failure{Kind: "dial", Reason: "permission denied", NoAccess: true}, log: "permission denied"},
	{what: "denies a call", err: errors.New("PermissionDenied"), log: "PermissionDenied"},
	{what: "of a version without a service", err: errors.New("Unimplemented"), log: "Unimplemented"},
	{what: "changes all the time", err: errors.New("the store has changed"), log: "has changed"},
	{what: "hangs", hangs: true, log: "deadline"},
	{what: "another engine's", other: true, log: "other images and containers"},
}

// TestContainerdFaults checks that the images are there all the time, and that nothing of the store is
// believed while it is wrong.
func TestContainerdFaults(t *testing.T) {
	const success, size = `docker_scrape_collector_success{collector="containerd"}`, "docker_images_virtual_size_bytes"
	for _, f := range containerds {
		t.Run(f.what, func(t *testing.T) {
			c := new(fakeContainerd)
			run(t, "29-containerd", func(r *rig) { r.store = c.read }, func(r *rig) {
				right := maps.Clone(r.warmUp())
				if right[success] != "1" || right[size] != "6000" {
					t.Fatalf("not of containerd: %v", right)
				}
				c.set(f.err, f.hangs, f.other)
				for i := range 10 {
					time.Sleep(scrapeInterval)
					page, took := r.scrape()
					if page["docker_images_tagged"] != right["docker_images_tagged"] || took > 5*time.Second {
						t.Errorf("while it is wrong: got %q tagged images after %v, want %q", page["docker_images_tagged"], took, right["docker_images_tagged"])
					}
					if i > 0 && (page[success] != "0" || page[size] == "6000") {
						t.Errorf("while it is wrong: got success %s and a size of %s", page[success], page[size])
					}
				}
				c.set(nil, false, false)
				time.Sleep(time.Minute)
				r.scrape()
				time.Sleep(scrapeInterval)
				if page, _ := r.scrape(); page[success] != "1" || page[size] != "6000" {
					t.Errorf("afterwards: got success %s and a size of %s", page[success], page[size])
				}
				if lines := r.lines(); len(lines) != 2 || !strings.Contains(lines[0].Err, f.log) || lines[1].Msg != "recovered" {
					t.Errorf("got the log %+v, want a failure and its end", lines)
				}
			})
		})
	}
}
