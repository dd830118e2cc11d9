package engine

import (
	"slices"
	"testing"
)

func TestRepositoriesOf(t *testing.T) {
	names := []string{
		"shop:1", "shop:2", "docker.io/library/shop:3", "shop@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
		"<none>:<none>", "<none>@<none>", "team/shop:1", "registry.example:5000/team/shop:1", "registry.example:5000/team/shop",
	}
	want := []string{"shop", "team/shop", "registry.example:5000/team/shop"}
	if got := repositoriesOf(names); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
