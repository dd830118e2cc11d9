package inventory

import (
	"reflect"
	"testing"
)

// Two services stand on one base. The old releases of "shop" are left behind.
func TestLargestRepositories(t *testing.T) {
	contents := map[string]Content{
		"base":   {DiffIDs: []string{"os"}, History: []Step{{Size: 1000}}},
		"shop 1": {DiffIDs: []string{"os", "shop 1"}, History: []Step{{Size: 1000}, {Size: 10}}},
		"step":   {DiffIDs: []string{"os", "step"}, History: []Step{{Size: 1000}, {Size: 5}}},
		"shop 2": {DiffIDs: []string{"os", "step", "shop 2"}, History: []Step{{Size: 1000}, {Size: 5}, {Size: 20}}},
		"shop 3": {DiffIDs: []string{"os", "shop 3"}, History: []Step{{Size: 1000}, {Size: 40}}},
		"mail":   {DiffIDs: []string{"os", "mail"}, History: []Step{{Size: 1000}, {Size: 3}}},
	}
	image := func(id, parent string, repositories ...string) Image {
		return Image{ID: id, Parent: parent, Repositories: repositories, Digested: Known(false)}
	}
	host := Inventory{
		Engine: Known(Engine{ImageStore: GraphDriver, APIVersion: "1.51"}),
		Images: Known([]Image{
			image("base", "", "os"),
			image("shop 1", "base", "shop", "registry.example/shop"),
			image("step", "base"),
			image("shop 2", "step", "shop"),
			image("shop 3", "base", "shop"),
			image("mail", "base", "mail"),
		}),
		Layers:     LayOut(contents, nil),
		Containers: Known([]Container{{ImageID: "shop 3", State: Exited}}),
		Cache:      Known([]CacheRecord{}),
	}
	exactly := func(bytes int64) Optional[Reclaimable] { return Known(Reclaimable{bytes, true}) }
	want := []Repository{
		{"shop", 3, exactly(10 + 20 + 5)},
		{"registry.example/shop", 1, exactly(10)},
		{"mail", 1, exactly(3)},
		{"os", 1, exactly(0)}, // others stand on it
	}
	for n := range len(want) + 1 {
		got, known := LargestRepositories(host, n).Get()
		if known != (n > 0) || len(got) != n || n > 0 && !reflect.DeepEqual(got, want[:n]) {
			t.Errorf("%d largest: %v, known: %v", n, got, known)
		}
	}
	if got, _ := LargestRepositories(host, 255).Get(); !reflect.DeepEqual(got, want) {
		t.Errorf("all: %v", got)
	}

	delete(contents, "mail")
	host.Layers = LayOut(contents, nil)
	if got, known := LargestRepositories(host, 1).Get(); known {
		t.Errorf("%v while an image was not looked at", got)
	}
}
