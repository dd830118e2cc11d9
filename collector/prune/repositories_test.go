package prune

import (
	"reflect"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// Two services are built on one base. "shop" has old releases, which share the layers of the
// base: their sum is less than the size of "db".
func TestLargestRepositories(t *testing.T) {
	contents := map[string]model.Content{
		"base":   {DiffIDs: []string{"os"}, History: []model.Step{{Size: 1000}}},
		"shop 1": {DiffIDs: []string{"os", "shop 1"}, History: []model.Step{{Size: 1000}, {Size: 10}}},
		"step":   {DiffIDs: []string{"os", "step"}, History: []model.Step{{Size: 1000}, {Size: 5}}},
		"shop 2": {DiffIDs: []string{"os", "step", "shop 2"}, History: []model.Step{{Size: 1000}, {Size: 5}, {Size: 20}}},
		"shop 3": {DiffIDs: []string{"os", "shop 3"}, History: []model.Step{{Size: 1000}, {Size: 40}}},
		"mail":   {DiffIDs: []string{"os", "mail"}, History: []model.Step{{Size: 1000}, {Size: 3}}},
		"db":     {DiffIDs: []string{"db"}, History: []model.Step{{Size: 1500}}},
	}
	image := func(id, parent string, repositories ...string) model.Image {
		return model.Image{ID: id, Parent: parent, Repositories: repositories, HasDigest: model.Known(false)}
	}
	host := model.Snapshot{
		Engine: model.Known(overlay2("1.51")),
		Images: model.Known([]model.Image{
			image("base", "", "os"),
			image("shop 1", "base", "shop", "registry.example/shop"),
			image("step", "base"),
			image("shop 2", "step", "shop"),
			image("shop 3", "base", "shop"),
			image("mail", "base", "mail"),
			image("db", "", "db"),
		}),
		Contents:   contents,
		Containers: model.Known([]model.Container{{ImageID: "shop 3", State: model.Exited}}),
		BuildCache: model.Known([]model.CacheRecord{}),
	}
	about := model.Known[int64]
	want := []Repository{
		{"db", 1, about(1500)},
		{"shop", 3, about(10 + 20 + 5)},
		{"registry.example/shop", 1, about(10)},
		{"mail", 1, about(3)},
		{"os", 1, about(0)}, // other images have its layer
	}
	for n := range len(want) + 1 {
		got, known := repositoriesOf(host, n).Get()
		if known != (n > 0) || len(got) != n || n > 0 && !reflect.DeepEqual(got, want[:n]) {
			t.Errorf("%d largest: %v, known: %v", n, got, known)
		}
	}
	if got, _ := repositoriesOf(host, 255).Get(); !reflect.DeepEqual(got, want) {
		t.Errorf("all: %v", got)
	}

	host.BuildCache = model.Optional[[]model.CacheRecord]{}
	for i := range want {
		want[i].Reclaimable = model.Optional[int64]{}
	}
	if got, _ := repositoriesOf(host, 255).Get(); !reflect.DeepEqual(got, want) {
		t.Errorf("without the build cache: %v", got)
	}

	delete(contents, "mail")
	host.Contents = contents
	if got, known := repositoriesOf(host, 1).Get(); known {
		t.Errorf("%v while an image is not inspected", got)
	}
}
