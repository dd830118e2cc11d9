package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"
)

const leftoverUsage = `docker_disk_usage_bytes{resource="leftovers"}`

// expectLeftovers waits until an exporter reports leftovers, and compares them.
func expectLeftovers(t *testing.T, p *program, want float64) {
	t.Helper()
	var got float64
	eventually(t, "leftovers", func() bool {
		page := values(t, p.scrape())
		bytes, isKnown := page[leftoverUsage]
		got = bytes
		return page["docker_up"] == 1 && isKnown && (got > 0 || want == 0)
	})
	if got < want*0.995 || got > want*1.005 {
		t.Errorf("leftovers: %v, want %v: %s", got, want, p.log.String())
	}
}

// TestLeftoversOfOtherStore checks that images and containers of the overlay2 driver are leftovers
// once the engine has been switched to the containerd store, and not before. With
// DOCKER_BUILDUP_LARGE they are 5 GB.
func TestLeftoversOfOtherStore(t *testing.T) {
	engine := dockertest.Start(t, dockertest.Docker29Overlay2)
	importBase(t, engine)
	size := 60 << 20
	if isLarge() {
		size = 1700 << 20
	}
	if err := os.MkdirAll(filepath.Join(engine.Dir, engine.Context), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		write(t, filepath.Join(engine.Dir, engine.Context, "data"), strings.Repeat("x", size+i))
		engine.Build("FROM base\nCOPY data /data\n")
	}
	engine.BuildKit("FROM base\nCOPY data /other\n")
	engine.Docker("wait", writeLog(engine, 10_000, "dd if=/dev/zero of=/file bs=1M count=20"))
	p := start(t, "--docker.host="+engine.Host())
	expectLeftovers(t, p, 0)
	engine.Signal(syscall.SIGTERM)
	engine.Wait()
	engine.Kind = dockertest.Docker29Containerd
	engine.Start()
	data := filepath.Join(engine.Dir, "data")
	want := treeBytes(filepath.Join(data, "overlay2"), true) + treeBytes(filepath.Join(data, "containers"), true)
	t.Logf("%d bytes are left", want)
	expectLeftovers(t, p, float64(want))
}

// TestLeftoversOfKilledEngine checks that the layer of an import during which the engine was
// killed is a leftover after a restart, and not while it is being made.
func TestLeftoversOfKilledEngine(t *testing.T) {
	for _, kind := range []dockertest.Kind{dockertest.Docker20, dockertest.Docker29Overlay2} {
		t.Run(string(kind), func(t *testing.T) {
			engine := dockertest.Start(t, kind)
			importBase(t, engine)
			p := start(t, "--docker.host="+engine.Host())
			layers := filepath.Join(engine.Dir, "data/overlay2")
			before := glob(t, layers, "*")
			archive := tarArchive(t, tarFile{Header: tar.Header{Name: "data"}, content: []byte(strings.Repeat("x", 80<<20))})
			pull := exec.Command("docker", "import", "-", "half")
			pull.Env = append(os.Environ(), "DOCKER_HOST="+engine.Host(), "DOCKER_CONFIG="+engine.Dir)
			in, err := pull.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := pull.Start(); err != nil {
				t.Fatal(err)
			}
			defer pull.Wait()
			defer in.Close()
			go io.Copy(in, bytes.NewReader(archive[:60<<20]))
			var lost []string
			eventually(t, "half of a layer", func() bool {
				lost = slices.DeleteFunc(glob(t, layers, "*"), func(path string) bool { return slices.Contains(before, path) })
				return len(lost) == 1 && treeBytes(lost[0], true) > 50<<20
			})
			expectLeftovers(t, p, 0)
			engine.Signal(syscall.SIGKILL)
			engine.Wait()
			engine.Start()
			expectLeftovers(t, p, float64(treeBytes(lost[0], true)))
		})
	}
}
