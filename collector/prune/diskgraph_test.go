package prune

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// chainOf returns the chain ID of diffs, bottom first.
func chainOf(diffs ...string) (chain string) {
	for i, diff := range diffs {
		if i == 0 {
			chain = diff
			continue
		}
		chain = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(chain+" "+diff)))
	}
	return chain
}

// onDisk returns the fixture with a layer store that has the layers of the images, and writable layers of
// the containers.
func (f *fixture) onDisk() *model.LayerStore {
	store := &model.LayerStore{Layers: make(map[string]model.StoredLayer), Mounts: make(map[string]string), Records: make(map[string]model.StoredRecord)}
	f.snapshot.LayerStore = store
	for _, content := range f.contents {
		f.stored(content.DiffIDs...)
	}
	for _, c := range mustGet(f.snapshot.Containers) {
		store.Mounts[c.ID] = chainOf(f.contents[c.ImageID].DiffIDs...)
	}
	return store
}

// stored adds layers to the layer store, bottom first, and returns the chain ID of the last.
func (f *fixture) stored(layers ...string) string {
	for i, layer := range layers {
		var bytes int64
		fmt.Sscan(layer, &bytes)
		f.snapshot.LayerStore.Layers[chainOf(layers[:i+1]...)] = model.StoredLayer{Parent: chainOf(layers[:i]...), Size: bytes}
	}
	return chainOf(layers...)
}

// newDiskFixture returns an image of 10 bytes, one of 20 on it, and one of 300 bytes.
func newDiskFixture() *fixture {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("base", "", nil, "10")
	f.image("app", "", tag("app:1"), "10", "20")
	f.image("other", "", tag("other:1"), "300")
	return f
}

func TestDiskImages(t *testing.T) {
	t.Parallel()
	f := newDiskFixture()
	for id, content := range f.contents { // the Engine API would size nothing
		content.History = nil
		f.contents[id] = content
	}
	f.onDisk()
	f.stored("10", "5000 left behind by a build that was killed")
	f.expectExact(t, ImagePrune, 0)
	f.expectExact(t, ImagePruneAll, 330)
	if usage := Summarize(f.snapshot, 0).DiskUsage[model.Images]; usage != 330 {
		t.Errorf("the images use %d bytes", usage)
	}
}

func TestDiskContainers(t *testing.T) {
	t.Parallel()
	f := newDiskFixture()
	f.container("app", model.Exited, 7)
	f.container("removed by force", model.Exited, 8)
	store := f.onDisk()
	store.Mounts["container 1"] = f.stored("300", "4000")
	f.expectExact(t, ContainerPrune, 15+4000)
	f.expectExact(t, ImagePruneAll, 0)
	f.expectExact(t, SystemPruneAll, 330+4000+15)

	store.Mounts["of a build"] = store.Mounts["container 1"]
	f.expectExact(t, ContainerPrune, 15)
	f.expectExact(t, SystemPruneAll, 30+15)

	f.container("app", model.Dead, 0) // its writable layer was removed before
	f.expectExact(t, ContainerPrune, 15)
}

func TestDiskMountedImages(t *testing.T) {
	t.Parallel()
	f := newDiskFixture()
	f.container("app", model.Exited, 7)
	mustGet(f.snapshot.Containers)[0].MountedImages = []string{"other:1"}
	store := f.onDisk()
	store.Mounts["hash of the mount"] = f.stored("300")
	f.expectExact(t, ImagePruneAll, 0)
	f.expectBetween(t, ContainerPrune, 7, 7)
	f.expectBetween(t, SystemPruneAll, 7+30, 7+330)
}

func TestDiskRecords(t *testing.T) {
	t.Parallel()
	f := newDiskFixture()
	store := f.onDisk()
	measured := time.Unix(1e9, 0)
	record := func(id string, stored model.StoredRecord, parents ...string) {
		f.record(model.CacheRecord{ID: id, Parents: parents, Type: "regular", Size: model.Known[int64](1), Shared: stored.ChainID == chainOf("10") || stored.ChainID == chainOf("10", "20")})
		store.Records[id] = stored
	}
	record("base", model.StoredRecord{ChainID: chainOf("10")})
	record("app", model.StoredRecord{ChainID: chainOf("10", "20")}, "base")
	record("untagged", model.StoredRecord{ChainID: f.stored("10", "4000")}, "base")
	record("same layer", model.StoredRecord{ChainID: chainOf("10", "4000")}, "base")
	record("step", model.StoredRecord{Size: model.Known[int64](50_000)}, "base")
	record("context", model.StoredRecord{Size: model.Known[int64](600_000), MeasuredAt: measured})
	record("gone", model.StoredRecord{ChainID: chainOf("removed")})
	f.expectExact(t, ImagePruneAll, 300)
	f.expectExact(t, BuilderPrune, 654_000)
	f.expectExact(t, BuilderPruneAll, 654_000)
	f.expectExact(t, SystemPruneAll, 654_330)
	if usage := Summarize(f.snapshot, 0).DiskUsage[model.BuildCache]; usage != 654_000 {
		t.Errorf("the build cache uses %d bytes", usage)
	}

	cache := mustGet(f.snapshot.BuildCache)
	cache[5].LastUsedAt = model.Known(measured.Add(-time.Second))
	f.expectExact(t, BuilderPrune, 654_000)
	cache[5].LastUsedAt = model.Known(measured.Add(time.Second)) // a build may have written to it since
	f.expectBetween(t, BuilderPrune, 54_000, 654_000)
	cache[5].LastUsedAt = model.Optional[time.Time]{}

	cache[3].InUse = true // either record may hold the layer
	f.expectBetween(t, BuilderPrune, 650_000, 650_000)
	cache[3].InUse = false

	store.Records["step"] = model.StoredRecord{} // could not be measured
	f.expectBetween(t, BuilderPrune, 604_000, 604_001)
}

// TestDiskNewRecord checks that a record that is not in the layer store may hold anything.
func TestDiskNewRecord(t *testing.T) {
	t.Parallel()
	f := newDiskFixture()
	f.onDisk()
	f.record(model.CacheRecord{ID: "new", Type: "regular", Size: model.Known[int64](20), Shared: true})
	f.expectBetween(t, ImagePruneAll, 0, 330)
	f.expectBetween(t, BuilderPruneAll, 0, 20)
}

// TestDiskOfAnother checks that a layer store is not used that does not have what the engine lists.
func TestDiskOfAnother(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *fixture, store *model.LayerStore){
		"a layer is missing": func(_ *fixture, store *model.LayerStore) { delete(store.Layers, chainOf("10", "20")) },
		"another parent": func(_ *fixture, store *model.LayerStore) {
			store.Layers[chainOf("10", "20")] = model.StoredLayer{Size: 20}
		},
		"a parent is missing":  func(_ *fixture, store *model.LayerStore) { store.Layers["x"] = model.StoredLayer{Parent: "y"} },
		"a container is new":   func(f *fixture, _ *model.LayerStore) { f.container("app", model.Exited, 0) },
		"no layer of a mount":  func(_ *fixture, store *model.LayerStore) { store.Mounts["container 0"] = "sha256:1" },
		"the containerd store": func(f *fixture, _ *model.LayerStore) { f.snapshot.Engine = model.Known(overlayfs("1.51")) },
	} {
		f := newDiskFixture()
		f.container("app", model.Exited, 0)
		store := f.onDisk()
		store.Layers[chainOf("300")] = model.StoredLayer{Size: 1_000_000}
		f.expectExact(t, ImagePruneAll, 1_000_000)
		change(f, store)
		if got := f.reclaim()[ImagePruneAll]; got.Estimate != 300 {
			t.Errorf("%s: %+v, want the figure of the Engine API", name, got)
		}
	}
}

// FuzzDisk checks what commands free on hosts with a known layer store, against simulated prunes.
func FuzzDisk(f *testing.F) {
	f.Add([]byte("any bytes are the recipe of a host"))
	f.Add([]byte{3, 1, 0, 2, 5, 9, 1, 4, 0, 7, 7, 2, 1, 0, 3, 8, 6, 2, 4, 1, 1, 5, 0, 9, 250, 13, 4, 77, 1, 9})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, arbitrary := range []func([]byte) trueHost{arbitraryHost, arbitraryCachedHost} {
			host := onDisk(arbitrary(raw))
			freed := host.check(t)
			checkFailures(t, host, raw)
			if len(host.mountOf) > 0 {
				continue
			}
			checkRepositories(t, host)
			for command, got := range freed {
				isSplit := strings.Contains(string(command), "builder") || strings.Contains(string(command), "system")
				if !got.Exact && !isSplit && command != ImagePruneAllUntil {
					t.Errorf("%s: %+v, want an exact figure", command, got)
				}
			}
		}
	})
}

// onDisk returns a host with its layer store, and with a layer that nothing holds.
func onDisk(h trueHost) trueHost {
	store := &model.LayerStore{Layers: make(map[string]model.StoredLayer), Mounts: make(map[string]string), Records: make(map[string]model.StoredRecord)}
	add := func(chains []string) (top string) {
		for _, chain := range chains {
			parent := top
			top = chainOf(strings.Split(chain, "/")...)
			store.Layers[top] = model.StoredLayer{Parent: parent, Size: layerBytes(diffOf(chain))}
		}
		return top
	}
	add(chainsIn(contentOf(4, 3, 2, 1, 4)))
	for _, image := range mustGet(h.Images) {
		add(chainsIn(h.contents[image.ID]))
	}
	for _, c := range mustGet(h.Containers) {
		store.Mounts[c.ID] = add(chainsIn(h.contents[c.ImageID]))
		if image, mounts := h.mountOf[c.ID]; mounts {
			store.Mounts["mount of "+c.ID] = add(chainsIn(h.contents[image]))
		}
	}
	for _, record := range mustGet(h.BuildCache) {
		stored := model.StoredRecord{Size: record.Size}
		if chain := h.layerOf[record.ID]; chain != "" {
			stored.ChainID = add(chainsBelow(chain))
		}
		store.Records[record.ID] = stored
	}
	h.LayerStore = store
	return h
}
