package e2e

import (
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// TestRemovedMountedImage checks the prune estimates if a container mounts an image by a tag that
// has moved to another image. The container still uses the layers of the removed image.
func TestRemovedMountedImage(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		if kind == dockertest.Docker20 {
			t.Skip("Docker 20.10 cannot mount images")
		}
		t.Parallel()
		h := newRandomHost(t, kind)
		h.grow()
		h.file("data", 100_000, 9999)
		h.BuildKit("FROM scratch\nCOPY data /", "-t", "data:1")
		h.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\nLABEL is=program", "-t", "program:1")
		h.Docker("run", "-d", "--network=none", "--mount", "type=image,source=data:1,target=/data", "program:1")
		h.BuildKit("FROM scratch\nCOPY idle /", "-t", "data:1")
		h.Docker("image", "prune", "-f")
		if o := h.prune("docker builder prune")[0]; o.exact {
			t.Errorf("%s: got an exact estimate, want a lower bound: the engine does not report the layers of the mount", o.command)
		}
		for _, command := range []string{"docker image prune --all", "docker builder prune --all", "docker system prune --all"} {
			h.grow()
			h.prune(command)
		}
	})
}
