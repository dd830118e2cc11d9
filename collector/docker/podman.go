package docker

import (
	"encoding/hex"

	"docker_buildup_exporter/collector/model"
)

// Version is what an engine reports in its answer to a ping.
type Version struct {
	API    string // the newest version of the Engine API that it supports
	Podman bool   // the API is Podman's imitation of it
}

// isPodman reports whether Podman has answered. Each of its answers has this header (Podman:
// APIHandler of pkg/api/server).
func (h responseHead) isPodman() bool { return h.header.Get("Libpod-Api-Version") != "" }

// IsPodman reports whether the engine is Podman.
func (a *API) IsPodman() bool { return a.podman }

// state converts a state of Podman to the one that its own commands show: a container is
// stopped until its network and mounts are removed, and exited afterwards (Podman:
// GenerateContainerFilterFuncs, "status").
func (a *API) state(state model.State) model.State {
	if a.podman && state == "stopped" {
		return model.Exited
	}
	return state
}

// imageID adds the algorithm that Podman leaves out where an image names its parent, and in
// events. Other names are returned as they are.
func imageID(id string) string {
	if digest, err := hex.DecodeString(id); err == nil && len(digest) == 32 {
		return "sha256:" + id
	}
	return id
}
