package prune

import (
	"slices"
	"testing"
)

// "docker volume prune --all" exists since API 1.42. Before, every volume prune removes
// named volumes.
func TestCommands(t *testing.T) {
	all := Commands("1.51")
	for api, hasVolumePruneAll := range map[string]bool{"1.40": false, "1.41": false, "1.42": true, "1.51": true, "1.100": true, "invalid": false, "": false} {
		want := slices.DeleteFunc(slices.Clone(all), func(c Command) bool { return c == VolumePruneAll && !hasVolumePruneAll })
		if got := Commands(api); len(all) != 13 || !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", api, got, want)
		}
	}
}
