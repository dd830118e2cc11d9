package prune

import (
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// Container prunes remove created, exited and dead containers.
func TestContainerPrune(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000")
	for i, state := range model.States() {
		f.container("a", state, 1<<i)
	}
	f.expectExact(t, ContainerPrune, 1<<0+1<<5+1<<6) // created, exited, dead
	f.expectExact(t, SystemPrune, 1<<0+1<<5+1<<6)
	f.expectExact(t, ImagePruneAll, 0)

	f = newFixture(model.GraphDriver, "1.51")
	f.image("a", "", tag("a:1"), "1000")
	f.container("a", model.Exited, 5)
	f.snapshot.Containers = model.Known([]model.Container{{ID: "1", ImageID: "a", State: model.Exited}})
	f.expectUnknown(t, ContainerPrune) // the only size is unknown
}

// Graph drivers remove untagged heads with their parents by default, and all unused images
// with --all.
func TestImagePruneOfGraphDrivers(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	f.image("base", "", tag("base:1"), "1000")
	f.image("step", "", nil, "1000", "200")
	f.image("dangling", "step", nil, "1000", "200", "30")
	f.expectExact(t, ImagePrune, 230) // the step is removed with its last child
	f.expectExact(t, ImagePruneAll, 1230)

	f.image("sibling", "step", tag("sibling:1"), "1000", "200", "4")
	f.expectExact(t, ImagePrune, 30) // the step has another child
	f.container("dangling", model.Exited, 7)
	f.expectExact(t, ImagePrune, 0) // a stopped container uses it
	f.expectExact(t, SystemPrune, 37)
	f.expectExact(t, ImagePruneAll, 4)
	f.expectExact(t, SystemPruneAll, 1241)

	// A step is removed with its child unless it has a digest reference.
	f = newFixture(model.GraphDriver, "1.51")
	f.image("step", "", nil, "1000")
	f.image("dangling", "step", nil, "1000", "30")
	steps, _ := f.snapshot.Images.Get()
	steps[0].HasDigest = model.Optional[bool]{}
	f.expectMinimum(t, ImagePrune, 30)

	// Whether a tagged image has a digest reference does not matter.
	f = newFixture(model.GraphDriver, "1.51")
	f.image("tagged", "", tag("tagged:1"), "500")
	tagged, _ := f.snapshot.Images.Get()
	tagged[0].HasDigest = model.Optional[bool]{}
	f.expectExact(t, ImagePruneAll, 500)

	// An image that was pulled by digest and has no tag is removed, too.
	f = newFixture(model.GraphDriver, "1.51")
	f.image("pulled", "", nil, "500")
	images, _ := f.snapshot.Images.Get()
	images[0].HasDigest = model.Known(true)
	f.expectExact(t, ImagePrune, 500)
}

// removed returns the IDs of the images that an image prune removes, in the order of the list.
func (f *fixture) removed(store model.ImageStore, images amount) string {
	f.snapshot.Contents, f.snapshot.ListedImages = f.contents, nil
	h := newHost(f.snapshot, engineOf(store, "1.51"))
	likely, certain, _ := h.removedImages(pruneSpec{images: images}, make([]bool, len(h.containers)), time.Time{})
	names := ""
	for i, image := range h.images {
		switch {
		case certain[i]:
			names += image.ID + " "
		case likely[i]:
			names += image.ID + "? "
		}
	}
	return names
}

// Graph drivers keep the images that others were built on, whatever their layers are.
func TestRemovedImagesOfGraphDrivers(t *testing.T) {
	for _, test := range []struct {
		name               string
		parents            []string // of the images a, b, c …
		tagged, digest     string   // images with a tag, and with a digest reference
		used               string
		byDefault, withAll string
	}{
		{"a chain of steps", []string{"", "a", "b"}, "", "", "", "a b c ", "a b c "},
		{"a step of two images", []string{"", "a", "a"}, "c", "", "", "b ", "a b c "},
		{"a step of two dangling images", []string{"", "a", "a"}, "", "", "", "a b c ", "a b c "},
		{"a tagged parent", []string{"", "a", "b"}, "a", "", "", "b c ", "a b c "},
		{"a parent with a digest reference", []string{"", "a", "b"}, "", "b", "", "c ", "a b c "},
		{"a dangling image with a digest reference", []string{"", ""}, "", "a", "", "a b ", "a b "},
		{"a used parent", []string{"", "a", "b", "c"}, "", "", "b", "c d ", "c d "},
		{"a used image", []string{"", "a", "a"}, "", "", "c", "b ", "b "},
		{"a tagged image in use", []string{"", "a", "a"}, "c", "", "b", "", "c "},
	} {
		f := newFixture(model.GraphDriver, "1.51")
		for i, parent := range test.parents {
			id := string(rune('a' + i))
			var tags []string
			if strings.Contains(test.tagged, id) {
				tags = tag(id + ":1")
			}
			f.image(id, parent, tags)
			images, _ := f.snapshot.Images.Get()
			images[i].HasDigest = model.Known(strings.Contains(test.digest, id))
		}
		if test.used != "" {
			f.container(test.used, model.Exited, 0)
		}
		if got := f.removed(model.GraphDriver, removeDefault); got != test.byDefault {
			t.Errorf("%s: %q removed by default, want %q", test.name, got, test.byDefault)
		}
		if got := f.removed(model.GraphDriver, removeAll); got != test.withAll {
			t.Errorf("%s: %q removed with --all, want %q", test.name, got, test.withAll)
		}
	}
}

// The containerd store removes images by name.
func TestImagePruneOfContainerd(t *testing.T) {
	f := newFixture(model.Containerd, "1.51")
	f.image("step", "", nil, "1000")
	f.image("child", "step", tag("child:1"), "1000", "200")
	f.image("pulled", "", nil, "30000")
	images, _ := f.snapshot.Images.Get()
	images[2].HasDigest = model.Known(true)
	expect := func(what string, images amount, want string) {
		t.Helper()
		if got := f.removed(model.Containerd, images); got != want {
			t.Errorf("%s: removed %q, want %q", what, got, want)
		}
	}
	expect("parents are removed, images pulled by digest are not", removeDefault, "step ")
	expect("everything", removeAll, "step child pulled ")
	f.container("child", model.Exited, 0)
	containers, _ := f.snapshot.Containers.Get()
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "child:1"})
	expect("a container protects the name that it was created from", removeAll, "step pulled ")
	containers[0].CreatedFrom = model.Known(model.Reference{Tag: "moved:1"})
	expect("a container does not protect other names of its image", removeAll, "step child pulled ")
	containers[0].CreatedFrom = model.Known(model.Reference{Pinned: true})
	expect("a container that was created from an ID protects its image", removeAll, "step pulled ")
	containers[0].CreatedFrom, containers[0].ImageID = model.Known(model.Reference{Tag: "moved:1"}), "step"
	expect("a container protects its image if that has no name", removeAll, "child pulled ")
	containers[0].ImageID = "pulled"
	expect("a container does not protect an image that was pulled by digest", removeAll, "step child pulled ")
	images[2].HasDigest = model.Optional[bool]{}
	expect("an image may have no name", removeAll, "step child ")
	images[2].HasDigest = model.Known(true)
	containers[0].CreatedFrom = model.Optional[model.Reference]{}
	expect("an unknown name may be any name: only what has none is certainly removed", removeAll, "step child? ")
	containers[0].ImageID = "step"
	expect("a container protects its image if that has no name", removeDefault, "")
}

// Before API 1.42, every volume prune removes named volumes.
func TestVolumePrune(t *testing.T) {
	for api, want := range map[string]map[Command]int64{
		"1.41": {VolumePrune: 11, SystemPruneAllVolumes: 1111, SystemPruneAll: 0},
		"1.42": {VolumePrune: 10, VolumePruneAll: 11, SystemPruneAllVolumes: 1010, SystemPruneAll: 0},
	} {
		f := newFixture(model.GraphDriver, api)
		f.volume("named", false, true, 1)
		f.volume("anonymous", true, true, 10)
		f.volume("named, of a stopped container", false, true, 100)
		f.volume("anonymous, of a stopped container", true, true, 1000)
		f.volume("of a running container", true, true, 10000)
		f.volume("elsewhere", true, false, 100000)
		f.container("gone", model.Exited, 0, "named, of a stopped container", "anonymous, of a stopped container")
		f.container("gone", model.Running, 0, "of a running container")
		f.contents["gone"] = model.Content{}
		if api == "1.41" {
			f.expectUnknown(t, VolumePruneAll)
		}
		for command, bytes := range want {
			f.expectExact(t, command, bytes)
		}
	}
}

// Builder prunes keep records in use and their parents; by default also BuildKit's own.
func TestBuilderPrune(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	record := func(id string, size int64, change func(*model.CacheRecord)) {
		r := model.CacheRecord{ID: id, Type: "regular", Size: model.Known(size)}
		if change != nil {
			change(&r)
		}
		f.record(r)
	}
	record("plain", 1, nil)
	record("internal", 10, func(r *model.CacheRecord) { r.Type = "internal" })
	record("frontend", 100, func(r *model.CacheRecord) { r.Type = "frontend" })
	record("shared", 1000, func(r *model.CacheRecord) { r.Shared = true })
	record("used", 10000, func(r *model.CacheRecord) { r.InUse = true })
	record("under the one in use", 100000, nil)
	cache, _ := f.snapshot.BuildCache.Get()
	cache[4].Parents = tag("under the one in use")
	f.expectExact(t, BuilderPrune, 1)
	f.expectExact(t, BuilderPruneAll, 111) // the engine reports 1111, but an image shares one record

	// The order of the list does not matter.
	for _, order := range [][]model.CacheRecord{
		{{ID: "child", Parents: tag("parent", "gone"), Size: model.Known[int64](1)}, {ID: "parent", Size: model.Known[int64](10)}},
		{{ID: "parent", Size: model.Known[int64](10)}, {ID: "child", Parents: tag("parent", "gone"), Size: model.Known[int64](1)}},
	} {
		f = newFixture(model.GraphDriver, "1.51")
		for _, r := range order {
			f.record(r)
		}
		f.expectExact(t, BuilderPrune, 11)
	}
}
