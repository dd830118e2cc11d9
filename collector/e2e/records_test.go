package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// TestBuildCacheRecordsOfOneLayer checks the prune estimates if several build cache records share
// one layer. With overlay2 the disk has it once, but the engine counts it for each record.
func TestBuildCacheRecordsOfOneLayer(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		h := newRandomHost(t, kind)
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
		if kind != dockertest.Docker29Containerd {
			checkAccess(t, h.pruneHost)
		}
		outcomes := h.prune("docker builder prune")
		checkDataRoot(t, outcomes)
		o := outcomes[0]
		if kind != dockertest.Docker29Containerd && (o.exact || o.minimum != o.freed || o.estimate > o.reported || o.freed > o.reported-200_000) {
			t.Errorf("got %+v, want a minimum that equals the freed bytes, at least 200000 less than reported", o)
		}
		h.prune("docker builder prune --all")
		h.prune("docker system prune --all")
	})
}

// checkAccess checks that a process without access to the engine's root directory logs once what it needs,
// and that the first answer of one with access is exact.
func checkAccess(t *testing.T, h *pruneHost) {
	t.Helper()
	h.steadyPages()
	h.programs[0].logs("permission denied", "Levels of access")
	log := h.programs[0].log.String()
	if strings.Count(log, "Levels of access") != 1 || strings.Contains(log, "level=ERROR") {
		t.Errorf("got this log of a process without access, want one line about it:\n%s", log)
	}
	_, output, stderr := status(t, "--docker.host="+h.Host(), "--output=json")
	var page struct {
		Commands []struct {
			Command     string
			Reclaimable struct{ Exact bool }
		}
	}
	if err := json.Unmarshal([]byte(output), &page); err != nil || len(page.Commands) == 0 {
		t.Fatalf("got %v of %s", err, output)
	}
	for _, c := range page.Commands {
		if c.Command == "docker builder prune" && !c.Reclaimable.Exact {
			t.Errorf("got an estimate from status, want an exact figure: %s\n%s", output, stderr)
		}
	}
}

// checkDataRoot checks that an exporter that can read the engine's root directory has exact figures.
func checkDataRoot(t *testing.T, outcomes []outcome) {
	t.Helper()
	for _, o := range outcomes {
		if o.access == accessDataRoot && (!o.exact || o.estimate != o.freed) {
			t.Errorf("got %s, want an exact figure", o.explain())
		}
	}
}

// TestBuildCacheRecordOfLaterBlob checks what a system prune frees if BuildKit has listed a record
// before the record had a blob: it then takes the record as part of the base image, and keeps it.
func TestBuildCacheRecordOfLaterBlob(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		h := newRandomHost(t, kind)
		h.newContext("context")
		h.file("data", 1_000_000, 9999)
		h.BuildKit("FROM scratch\nCOPY idle /", "-t", "base:1")
		const dockerfile = "FROM base:1 AS stage\nCOPY data /\nFROM stage AS next\nCOPY idle /next\nFROM scratch\nCOPY --from=next /data /copy"
		h.BuildKit(dockerfile, "-t", "copy:1")
		h.Docker("system", "df") // BuildKit lists the record of the stage
		h.BuildKit(dockerfile, "-t", "stage:1", "--target", "stage")
		h.Docker("tag", "base:1", "stage:1") // the image of the stage is dangling
		for _, o := range h.prune("docker system prune") {
			if kind == dockertest.Docker29Containerd && o.freed > 3_000_000 {
				t.Errorf("got %d freed bytes, want less: the record is kept", o.freed)
			}
		}
		h.prune("docker system prune --all")
	})
}

// TestRewrittenBuildCacheRecords checks that the prune estimate is a lower bound after builds have
// rewritten a build context and a cache mount. With overlay2 the engine measures such records only
// once.
func TestRewrittenBuildCacheRecords(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		h := newRandomHost(t, kind)
		for _, size := range []int{200_000, 1_000} {
			h.file("data", size, size)
			h.BuildKit("FROM scratch\nCOPY data /", "-t", "a:1")
			h.BuildKit(fmt.Sprintf(`FROM scratch
COPY idle /
RUN --mount=type=cache,target=/cache ["/idle", "/cache/file", "%d"]`, size), "-t", "b:1", "--network=none")
			h.steadyPages()
		}
		outcomes := h.prune("docker builder prune")
		checkDataRoot(t, outcomes)
		o := outcomes[0]
		if kind != dockertest.Docker29Containerd && (o.exact || o.reported < o.freed+190_000) {
			t.Errorf("got %+v, want a lower bound, and at least 190000 bytes less freed than reported", o)
		}
	})
}

// TestImageWithoutHistory checks the prune estimates if an image has no history, and a classic build on
// it has steps that made no layer.
func TestImageWithoutHistory(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		h := newRandomHost(t, kind)
		var layers [][]byte
		for i := range 4 {
			layers = append(layers, dockertest.Layer(fmt.Sprint("file", i), h.bytes(500_000)))
		}
		h.source("bare", "image.tar", imageArchive(t, "bare:1", time.Now(), false, layers...))
		h.Docker("load", "-q", "-i", filepath.Join(h.Dir, "bare/image.tar"))
		h.file("data", 100_000, 9999)
		h.Build("FROM bare:1\nCOPY data /\nENV A=1\nENV B=2\nENV C=3\nENV D=4\nCMD [\"/data\"]", "-t", "built:1")
		h.Docker("image", "rm", "bare:1")
		outcomes := h.prune("docker image prune --all")
		checkDataRoot(t, outcomes)
		if o := outcomes[0]; o.freed < 2_000_000 || o.errorOf(o.estimate) > 5 {
			t.Errorf("got %+v, want an estimate near the freed bytes, at least 2000000", o)
		}
	})
}

// TestLayersKeptBySave checks that no figure counts the layers that Engine 29 keeps after "docker save" of
// images that share them, although nothing uses them any more.
func TestLayersKeptBySave(t *testing.T) {
	t.Parallel()
	h := newRandomHost(t, dockertest.Docker29Overlay2)
	h.file("data", 300_000, 9999)
	h.Build("FROM base:1\nCOPY data /", "-t", "app:1")
	h.Docker("save", "-o", filepath.Join(h.Dir, "save.tar"), "base:1", "app:1")
	h.Docker("image", "prune", "-af")
	if kept := total(h.contentBytes()); kept < 1_000_000 {
		t.Errorf("the engine keeps %d bytes, want the layers of base:1; if it was fixed, change collector/prune/README.md", kept)
	}
	checkDataRoot(t, h.prune("docker system prune --all"))
}
