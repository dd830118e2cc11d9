// Package prune computes what each cleanup command removes, and how many bytes that frees. It
// imports model only and does no I/O.
package prune

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Command is a cleanup command, as typed with a CLI that speaks the engine's API version.
type Command string

const (
	ContainerPrune        Command = "docker container prune"
	ImagePrune            Command = "docker image prune"
	ImagePruneAll         Command = "docker image prune --all"
	VolumePrune           Command = "docker volume prune"
	VolumePruneAll        Command = "docker volume prune --all"
	BuilderPrune          Command = "docker builder prune"
	BuilderPruneAll       Command = "docker builder prune --all"
	SystemPrune           Command = "docker system prune"
	SystemPruneAll        Command = "docker system prune --all"
	SystemPruneAllVolumes Command = "docker system prune --all --volumes"

	ContainerPruneUntil Command = "docker container prune --filter until=168h"
	ImagePruneAllUntil  Command = "docker image prune --all --filter until=168h"
	BuilderPruneUntil   Command = "docker builder prune --filter until=168h"
)

// SafestFirst returns the commands that the page, the alerts and the dashboards recommend, the
// safest first: what builds can make again, then what is lost with stopped containers, then what
// must be pulled or built again. None removes volumes.
func SafestFirst() []Command {
	return []Command{
		BuilderPruneUntil, BuilderPrune, ImagePrune, ContainerPruneUntil, ContainerPrune, SystemPrune,
		ImagePruneAllUntil, ImagePruneAll, BuilderPruneAll, SystemPruneAll,
	}
}

// EnoughFree is the free ratio of a disk that a cleanup should restore: above it, no alert on a
// disk is critical (--disk.page-below of the rules).
const EnoughFree = 0.22

// minAge is the age from which the commands with --filter until remove objects.
const minAge = 168 * time.Hour

// amount is how much of one resource a command removes.
type amount int

const (
	removeNone    amount = iota
	removeDefault        // without --all
	removeAll            // with --all
)

// pruneSpec is what a command removes. Containers are removed first, then volumes, images
// and the build cache: removed objects no longer hold objects that are removed later
// (docker/cli: runPrune of system prune).
type pruneSpec struct {
	command                            Command
	containers, volumes, images, cache amount
	hasUntil                           bool // removes only objects of minAge
}

// specs returns what each command of an API version removes, in display order.
func specs(apiVersion string) []pruneSpec {
	hasVolumePruneAll := apiMinor(apiVersion) >= 42
	anonymous := removeDefault
	if !hasVolumePruneAll { // every volume prune removes named volumes, too
		anonymous = removeAll
	}
	all := []pruneSpec{
		{command: ContainerPrune, containers: removeAll},
		{command: ImagePrune, images: removeDefault},
		{command: ImagePruneAll, images: removeAll},
		{command: VolumePrune, volumes: anonymous},
		{command: VolumePruneAll, volumes: removeAll},
		{command: BuilderPrune, cache: removeDefault},
		{command: BuilderPruneAll, cache: removeAll},
		{command: SystemPrune, containers: removeAll, images: removeDefault, cache: removeDefault},
		{command: SystemPruneAll, containers: removeAll, images: removeAll, cache: removeAll},
		{command: SystemPruneAllVolumes, containers: removeAll, volumes: anonymous, images: removeAll, cache: removeAll},
		{command: ContainerPruneUntil, containers: removeAll, hasUntil: true},
		{command: ImagePruneAllUntil, images: removeAll, hasUntil: true},
		{command: BuilderPruneUntil, cache: removeDefault, hasUntil: true},
	}
	return slices.DeleteFunc(all, func(spec pruneSpec) bool { return spec.command == VolumePruneAll && !hasVolumePruneAll })
}

// apiMinor returns the minor version of an Engine API version 1.x, or -1.
func apiMinor(version string) int {
	minor, err := strconv.Atoi(strings.TrimPrefix(version, "1."))
	if err != nil {
		return -1
	}
	return minor
}

// Commands returns the commands of an Engine API version in display order.
func Commands(apiVersion string) []Command {
	var commands []Command
	for _, spec := range specs(apiVersion) {
		commands = append(commands, spec.command)
	}
	return commands
}
