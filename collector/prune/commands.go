package prune

// Commands are the cleanup commands that there are at a version of the API: those of
// one resource first, and of each the one that takes less.
func Commands(api string) []Command {
	there := cleanups(api)
	var commands []Command
	for _, command := range []Command{
		ContainerPrune, ImagePrune, ImagePruneAll, VolumePrune, VolumePruneAll, BuilderPrune, BuilderPruneAll,
		SystemPrune, SystemPruneAll, SystemPruneAllVolumes,
	} {
		if _, ok := there[command]; ok {
			commands = append(commands, command)
		}
	}
	return commands
}
