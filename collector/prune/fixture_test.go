package prune

import (
	"fmt"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// fixture builds the snapshot of a small host.
type fixture struct {
	snapshot model.Snapshot
	contents map[string]model.Content
}

func newFixture(store model.ImageStore, api string) *fixture {
	return &fixture{
		snapshot: model.Snapshot{
			Engine: model.Known(engineOf(store, api)), Filesystems: plainDisk(), Images: model.Known([]model.Image{}), Containers: model.Known([]model.Container{}),
			Volumes: model.Known([]model.Volume{}), BuildCache: model.Known([]model.CacheRecord{}),
		},
		contents: make(map[string]model.Content),
	}
}

func engineOf(store model.ImageStore, api string) model.Engine {
	if store == model.Containerd {
		return overlayfs(api)
	}
	return overlay2(api)
}

// overlay2 is an engine whose sizes are bytes on the disk.
func overlay2(api string) model.Engine {
	return model.Engine{ImageStore: model.GraphDriver, APIVersion: api, RootDir: "/var/lib/docker", StorageDriver: "overlay2", BackingFilesystem: "extfs"}
}

// overlayfs is an engine with the containerd store.
func overlayfs(api string) model.Engine {
	return model.Engine{ImageStore: model.Containerd, APIVersion: api, StorageDriver: "overlayfs"}
}

// plainDisk is a file system that neither compresses nor shares blocks, and has much in use.
func plainDisk() []model.Filesystem {
	return []model.Filesystem{{Path: "/", Type: "extfs", Size: 1 << 40}}
}

// image adds an image. Each layer's diff ID begins with its size, bottom first: "10 20b".
func (f *fixture) image(id, parent string, tags []string, layers ...string) {
	images, _ := f.snapshot.Images.Get()
	content := model.Content{}
	var size int64
	for _, layer := range layers {
		var bytes int64
		fmt.Sscan(layer, &bytes)
		content.DiffIDs = append(content.DiffIDs, layer)
		content.History = append(content.History, model.Step{Size: bytes})
		size += bytes
	}
	f.contents[id] = content
	f.snapshot.Images = model.Known(append(images, model.Image{ID: id, Parent: parent, Tags: tags, HasDigest: model.Known(false), Size: model.Known(size)}))
}

func (f *fixture) container(imageID string, state model.State, bytes int64, volumes ...string) {
	containers, _ := f.snapshot.Containers.Get()
	f.snapshot.Containers = model.Known(append(containers, model.Container{
		ID: fmt.Sprint("container ", len(containers)), ImageID: imageID, State: state, Size: model.Known(bytes), Volumes: volumes,
		CreatedFrom: model.Known(model.Reference{Tag: "of " + imageID}), ImageSize: model.Known[int64](0), KeepsLog: model.Known(false),
	}))
}

func (f *fixture) volume(name string, anonymous, local bool, bytes int64) {
	volumes, _ := f.snapshot.Volumes.Get()
	f.snapshot.Volumes = model.Known(append(volumes, model.Volume{Name: name, Anonymous: anonymous, Local: local, Size: model.Known(bytes)}))
}

func (f *fixture) record(r model.CacheRecord) {
	cache, _ := f.snapshot.BuildCache.Get()
	f.snapshot.BuildCache = model.Known(append(cache, r))
}

func (f *fixture) reclaim() map[Command]Reclaimable {
	f.snapshot.Contents, f.snapshot.ListedImages = f.contents, nil
	return reclaimable(f.snapshot)
}

// expectExact checks that a command frees exactly so many bytes.
func (f *fixture) expectExact(t *testing.T, command Command, want int64) {
	t.Helper()
	f.expect(t, command, model.Known(Reclaimable{want, want, true}))
}

// expectBetween checks the minimum and the estimate of a command, which are not exact.
func (f *fixture) expectBetween(t *testing.T, command Command, minimum, estimate int64) {
	t.Helper()
	f.expect(t, command, model.Known(Reclaimable{estimate, minimum, false}))
}

// expectMinimum checks the minimum of a command, which is not exact.
func (f *fixture) expectMinimum(t *testing.T, command Command, want int64) {
	t.Helper()
	if got, known := f.reclaim()[command]; !known || got.Minimum != want || got.Exact {
		t.Errorf("%s: got %+v, known: %v, want at least %d", command, got, known, want)
	}
}

// expectUnknown checks that nothing is known of what a command frees.
func (f *fixture) expectUnknown(t *testing.T, command Command) {
	t.Helper()
	f.expect(t, command, model.Optional[Reclaimable]{})
}

func (f *fixture) expect(t *testing.T, command Command, want model.Optional[Reclaimable]) {
	t.Helper()
	got := model.Optional[Reclaimable]{}
	if freed, known := f.reclaim()[command]; known {
		got = model.Known(freed)
	}
	if got != want {
		t.Errorf("%s: got %v, want %v", command, got, want)
	}
}

func tag(names ...string) []string { return names }
