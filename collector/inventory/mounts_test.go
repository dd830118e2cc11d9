package inventory

import (
	"fmt"
	"testing"
)

// A mount holds the layers of an image as long as its container is there.
func TestMountedImages(t *testing.T) {
	for _, store := range []ImageStore{GraphDriver, Containerd} {
		yardWith := func(state State, mounted ...string) *yard {
			y := newYard(store, "1.51")
			y.image("base", "", tag("base:1"))
			y.image("sha256:a", "", tag("a:1"), "1000a")
			y.image("sha256:b", "", tag("b:1"), "1000a", "200b")
			y.image("sha256:c", "", tag("c:1"), "30c")
			for i, name := range mounted {
				y.container("base", state, 0)
				containers, _ := y.inventory.Containers.Get()
				containers[i].MountedImages = []string{name}
			}
			return y
		}
		for _, test := range []struct {
			mounted   []string
			want      Optional[int64]
			exact     bool
			afterward Reclaimable // system prune, when the containers have gone
		}{
			{nil, Known[int64](1230), true, Reclaimable{1230, true}},
			{[]string{"sha256:a"}, Known[int64](230), true, Reclaimable{1230, true}},
			{[]string{"sha256:b", "sha256:b"}, Known[int64](30), true, Reclaimable{1230, true}},
			{[]string{"c:1"}, Known[int64](30), false, Reclaimable{1230, false}}, // it may have been b then
			{[]string{"a:1", "c:1"}, Known[int64](0), false, Reclaimable{1230, false}},
			{[]string{"sha256:b", "c:1"}, Known[int64](0), false, Reclaimable{1230, false}},
			{[]string{"gone:1"}, Optional[int64]{}, false, Reclaimable{1230, false}},
			{[]string{"sha256:gone"}, Optional[int64]{}, false, Reclaimable{1230, false}},
		} {
			t.Run(fmt.Sprint(store, test.mounted), func(t *testing.T) {
				got, known := yardWith(Running, test.mounted...).reclaim()[ImagePruneAll]
				want, wantKnown := test.want.Get()
				exact := test.exact && store == GraphDriver // of blobs nothing is told here
				if known != wantKnown || got.Bytes != want || got.Exact != exact {
					t.Errorf("image prune: %+v, known: %v; want %d, %v", got, known, want, exact)
				}
				got = yardWith(Exited, test.mounted...).reclaim()[SystemPruneAll]
				if got.Bytes != test.afterward.Bytes || got.Exact != (test.afterward.Exact && store == GraphDriver) {
					t.Errorf("system prune: %+v, want %+v", got, test.afterward)
				}
			})
		}
	}
}
