package dockertest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Populate gives the engine images and containers, as many as a host has after
// months: trees of images that share layers, a quarter of them untagged, some with
// several tags; containers of which one in ten runs and three have ended.
func (r *Real) Populate(images, containers int) {
	r.t.Helper()
	r.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\n", "-t", "idle:1") // also makes the program
	program, err := os.ReadFile(filepath.Join(r.Dir, "context/idle"))
	if err != nil {
		r.t.Fatal(err)
	}
	const batch = 200 // one archive of all would be gigabytes in the engine's memory
	for first := 0; first < images; first += batch {
		var archive bytes.Buffer
		if err := writeImages(&archive, program, first, min(images, first+batch)); err != nil {
			r.t.Fatal(err)
		}
		r.post("/images/load?quiet=1", &archive)
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				r.populateContainer(i, images)
			}
		})
	}
	for i := range containers {
		next <- i
	}
	close(next)
	wg.Wait()
}

func (r *Real) populateContainer(i, images int) {
	image := imageName(i % images)
	if isUntagged(i % images) {
		image = "idle:1"
	}
	command := "[]" // runs until it is stopped
	if i%10 < 4 && i%10 > 0 {
		command = `["0"]`
	}
	created := r.post("/containers/create", strings.NewReader(fmt.Sprintf(`{"Image":%q,"Cmd":%s,"HostConfig":{"NetworkMode":"none"}}`, image, command)))
	var container struct{ ID string }
	if err := json.Unmarshal(created, &container); err != nil {
		r.t.Errorf("create a container: %v: %s", err, created)
		return
	}
	if i%10 < 4 {
		r.post("/containers/"+container.ID+"/start", nil)
	}
}

// post changes something: a test may, the program may not.
func (r *Real) post(path string, body io.Reader) []byte {
	r.t.Helper()
	client := http.Client{Transport: r.Transport()}
	defer client.CloseIdleConnections()
	contentType := "application/json"
	if strings.HasPrefix(path, "/images/load") {
		contentType = "application/x-tar"
	}
	response, err := client.Post("http://engine"+path, contentType, body)
	if err != nil {
		r.t.Error(err)
		return nil
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 400 {
		r.t.Errorf("POST %s: %s, %v: %s", path, response.Status, err, answer)
	}
	return answer
}

// WriteImages writes an archive for "docker load" of n images out of those that
// Populate makes, the program left out of them.
func WriteImages(t testing.TB, path string, first, n int) {
	t.Helper()
	var archive bytes.Buffer
	if err := writeImages(&archive, []byte("no program"), first, first+n); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, archive.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func imageName(i int) string  { return fmt.Sprintf("app%d:%d", i%50, i) }
func isUntagged(i int) bool   { return i%4 == 3 }
func hasThreeTags(i int) bool { return i%4 == 1 && i%3 == 0 }

// writeImages writes an archive as "docker save" does, of the images from first to
// last. Each has the program's layer, one that 40 share, one that 8 share, and one
// to three of its own.
func writeImages(w io.Writer, program []byte, first, last int) error {
	archive := tar.NewWriter(w)
	written := make(map[string]bool)
	addFile := func(name string, content []byte) error {
		if written[name] {
			return nil
		}
		written[name] = true
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := archive.Write(content)
		return err
	}
	type manifest struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifests []manifest
	for i := first; i < last; i++ {
		m := manifest{}
		if !isUntagged(i) {
			m.RepoTags = []string{imageName(i)}
		}
		if hasThreeTags(i) {
			m.RepoTags = append(m.RepoTags, imageName(i)+"-a", imageName(i)+"-b")
		}
		layers := [][]byte{
			layer("idle", 0o755, program),
			layer("os", 0o644, content("os", i/40, 20_000)),
			layer("runtime", 0o644, content("runtime", i/8, 8_000)),
		}
		for own := range 1 + i%3 {
			layers = append(layers, layer(fmt.Sprint("own", own), 0o644, content("own", 3*i+own, 500)))
		}
		var diffIDs []string
		var history []map[string]any
		for _, content := range layers {
			digest := fmt.Sprintf("%x", sha256.Sum256(content))
			diffIDs = append(diffIDs, "sha256:"+digest)
			history = append(history, map[string]any{"created": FinishedAt, "created_by": "COPY"})
			m.Layers = append(m.Layers, digest+"/layer.tar")
			if err := addFile(digest+"/layer.tar", content); err != nil {
				return err
			}
		}
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux", "created": FinishedAt,
			"config":  map[string]any{"Entrypoint": []string{"/idle"}, "Labels": map[string]string{"number": fmt.Sprint(i)}},
			"rootfs":  map[string]any{"type": "layers", "diff_ids": diffIDs},
			"history": history,
		})
		if err != nil {
			return err
		}
		m.Config = fmt.Sprintf("%x.json", sha256.Sum256(config))
		if err := addFile(m.Config, config); err != nil {
			return err
		}
		manifests = append(manifests, m)
	}
	list, err := json.Marshal(manifests)
	if err != nil {
		return err
	}
	if err := addFile("manifest.json", list); err != nil {
		return err
	}
	return archive.Close()
}

// layer is one with a single file.
func layer(name string, mode int64, content []byte) []byte {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))}) // into memory: does not fail
	w.Write(content)
	w.Close()
	return buffer.Bytes()
}

func content(kind string, i, size int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%s %d\n", kind, i)), size/10)
}
