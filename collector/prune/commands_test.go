package prune

import (
	"slices"
	"testing"
)

// The list leaves no command out, and has none that the engine does not know.
func TestCommands(t *testing.T) {
	for _, api := range []string{"1.40", "1.41", "1.42", "1.51", "rubbish", ""} {
		commands := Commands(api)
		there := cleanups(api)
		if len(commands) != len(there) {
			t.Errorf("%s: %d commands are listed, %d are there", api, len(commands), len(there))
		}
		for _, command := range commands {
			if _, ok := there[command]; !ok {
				t.Errorf("%s: %s is not there", api, command)
			}
		}
		if hasAll := slices.Contains(commands, VolumePruneAll); hasAll != hasAnonymousVolumes(api) {
			t.Errorf("%s: %s: %v", api, VolumePruneAll, hasAll)
		}
	}
}
