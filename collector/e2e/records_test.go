package e2e

import (
	"fmt"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// Several records of the build cache can be of one layer, which the disk of overlay2 has
// once though the engine counts it for each of them.
func TestLayerOfSeveralRecords(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			h := newExactHost(t, kind)
			h.file("data", 100_000, 9999)
			build := func(build func(string, ...string) string, dockerfile string, args ...string) {
				h.newContext("context")
				build(dockerfile, args...)
			}
			const dockerfile = "FROM scratch\nCOPY idle /\nCOPY data /"
			build(h.BuildKit, dockerfile, "-t", "a:1")
			build(h.BuildKit, dockerfile, "-t", "b:1", "--no-cache")
			build(h.Build, "FROM scratch\nCOPY idle /", "-t", "c:1")
			build(h.BuildKit, "FROM c:1\nCOPY data /", "-t", "d:1")
			h.Docker("image", "rm", "a:1", "b:1", "d:1")
			o, _ := h.cleanUp("docker builder prune")
			if kind != dockertest.Docker29Containerd && (o.exact || o.predicted != o.freed || o.freed > o.reported-200_000) {
				t.Errorf("%+v", o)
			}
			h.cleanUp("docker builder prune --all")
			h.cleanUp("docker system prune --all")
		})
	}
}

// What a build writes to anew the engine measures but once with overlay2: a context, a
// cache mount.
func TestRewrittenRecords(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			h := newExactHost(t, kind)
			for _, size := range []int{200_000, 1_000} {
				h.file("data", size, size)
				h.BuildKit("FROM scratch\nCOPY data /", "-t", "a:1")
				h.BuildKit(fmt.Sprintf(`FROM scratch
COPY idle /
RUN --mount=type=cache,target=/cache ["/idle", "/cache/file", "%d"]`, size), "-t", "b:1", "--network=none")
				h.steadyPage()
			}
			o, _ := h.cleanUp("docker builder prune")
			if kind != dockertest.Docker29Containerd && (o.exact || o.reported < o.freed+190_000) {
				t.Errorf("%+v", o)
			}
		})
	}
}
