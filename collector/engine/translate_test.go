package engine

import (
	"slices"
	"testing"

	"github.com/docker/docker/api/types/build"
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

// What a build may write to again is told from what a step makes once and for all.
func TestTranslateRewritten(t *testing.T) {
	records, err := translateCache([]*build.CacheRecord{
		{ID: "context", Type: "source.local", UsageCount: 2},
		{ID: "new context", Type: "source.local", UsageCount: 1},
		{ID: "cache mount", Type: "exec.cachemount", UsageCount: 3},
		{ID: "clone", Type: "regular", Description: "shared git repo for https://example.org/a.git", UsageCount: 2},
		{ID: "checkout", Type: "source.git.checkout", UsageCount: 2},
		{ID: "layer", Type: "regular", Description: "[2/2] COPY a /", UsageCount: 2},
	})
	var rewritten []string
	for _, record := range records {
		if record.Rewritten {
			rewritten = append(rewritten, record.ID)
		}
	}
	if want := []string{"context", "cache mount", "clone"}; err != nil || !slices.Equal(rewritten, want) {
		t.Errorf("%v, %v; want %v", rewritten, err, want)
	}
}
