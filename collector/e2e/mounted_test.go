package e2e

import (
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// A container that mounts an image by a name holds its layers, also when the name has
// moved on and the image has gone.
func TestMountedImageGoes(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		if kind == dockertest.Docker20 { // cannot mount images
			continue
		}
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			h := newExactHost(t, kind)
			h.change()
			h.file("data", 100_000, 9999)
			h.BuildKit("FROM scratch\nCOPY data /", "-t", "data:1")
			h.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\nLABEL is=program", "-t", "program:1")
			h.Docker("run", "-d", "--network=none", "--mount", "type=image,source=data:1,target=/data", "program:1")
			h.BuildKit("FROM scratch\nCOPY idle /", "-t", "data:1")
			h.Docker("image", "prune", "-f")
			if o, _ := h.cleanUp("docker builder prune"); o.exact {
				t.Errorf("%s is exact, though nothing tells what the mount holds", o.command)
			}
			for _, command := range []string{"docker image prune --all", "docker builder prune --all", "docker system prune --all"} {
				h.change()
				h.cleanUp(command)
			}
		})
	}
}
