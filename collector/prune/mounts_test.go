package prune

import (
	"fmt"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// want is a minimum, and whether the figure is exact.
type want struct {
	minimum int64
	exact   bool
}

// A mount holds the layers of an image until its container is removed.
func TestMountedImages(t *testing.T) {
	for _, store := range []model.ImageStore{model.GraphDriver, model.Containerd} {
		fixtureWith := func(state model.State, mounted ...string) *fixture {
			f := newFixture(store, "1.51")
			f.image("base", "", tag("base:1"))
			f.image("sha256:a", "", tag("a:1"), "1000a")
			f.image("sha256:b", "", tag("b:1"), "1000a", "200b")
			f.image("sha256:c", "", tag("c:1"), "30c")
			for i, name := range mounted {
				f.container("base", state, 0)
				containers, _ := f.snapshot.Containers.Get()
				containers[i].MountedImages = []string{name}
			}
			return f
		}
		for _, test := range []struct {
			mounted   []string
			want      int64
			exact     bool
			afterward want // of a system prune that removes the containers
		}{
			{nil, 1230, true, want{1230, true}},
			{[]string{"sha256:a"}, 230, true, want{1230, true}},
			{[]string{"sha256:b", "sha256:b"}, 30, true, want{1230, true}},
			{[]string{"c:1"}, 0, false, want{1230, false}}, // the tag may have pointed to b
			{[]string{"a:1", "c:1"}, 0, false, want{1230, false}},
			{[]string{"sha256:b", "c:1"}, 0, false, want{1230, false}},
			{[]string{"gone:1"}, 0, false, want{1230, false}},
			{[]string{"sha256:gone"}, 0, false, want{1230, false}},
		} {
			t.Run(fmt.Sprint(store, test.mounted), func(t *testing.T) {
				got, known := fixtureWith(model.Running, test.mounted...).reclaim()[ImagePruneAll]
				exact := test.exact && store == model.GraphDriver // the sizes of blobs are unknown
				if !known || got.Minimum != test.want || got.Exact != exact {
					t.Errorf("image prune: %+v, known: %v; want %d, %v", got, known, test.want, exact)
				}
				got = fixtureWith(model.Exited, test.mounted...).reclaim()[SystemPruneAll]
				if got.Minimum != test.afterward.minimum || got.Exact != (test.afterward.exact && store == model.GraphDriver) {
					t.Errorf("system prune: %+v, want %+v", got, test.afterward)
				}
			})
		}
	}
}

// A mount by name may hold the layers of build cache records whose image is removed.
func TestMountOfRemovedImage(t *testing.T) {
	for _, test := range []struct {
		mounted []string
		want    want
	}{
		{nil, want{1237, true}},
		{[]string{"sha256:base"}, want{1237, true}},
		{[]string{"base:1"}, want{7, false}},
		{[]string{"gone:1"}, want{7, false}},
		{[]string{"base:1", "gone:1"}, want{7, false}},
	} {
		f := newFixture(model.GraphDriver, "1.51")
		f.image("sha256:base", "", tag("base:1"))
		f.container("sha256:base", model.Running, 0)
		f.snapshot.BuildCache = model.Known([]model.CacheRecord{
			{ID: "a", Type: "regular", Size: model.Known[int64](1000)},
			{ID: "b", Type: "regular", Size: model.Known[int64](200), Parents: []string{"a"}},
			{ID: "c", Type: "regular", Size: model.Known[int64](30)},
			{ID: "context", Type: "source.local", Size: model.Known[int64](7)},
		})
		containers, _ := f.snapshot.Containers.Get()
		containers[0].MountedImages = test.mounted
		if got := f.reclaim()[BuilderPrune]; got.Minimum != test.want.minimum || got.Exact != test.want.exact {
			t.Errorf("%q: %+v, want %+v", test.mounted, got, test.want)
		}
	}
}
