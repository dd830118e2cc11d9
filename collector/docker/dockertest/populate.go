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

// Populate adds images and containers to the engine, like those of a host that has run for months.
// The images share layers; a quarter of them is untagged, and some have three tags. Of every ten
// containers one is running, three have exited and six were never started.
func (r *Real) Populate(images, containers int) {
	r.t.Helper()
	r.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\n", "-t", "idle:1") // also builds the program
	program, err := os.ReadFile(filepath.Join(r.Dir, "context/idle"))
	if err != nil {
		r.t.Fatal(err)
	}
	const batch = 200 // limits the archive, which the engine holds in memory
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

// populateContainer creates container i of Populate, and starts it if i%10 is less than 4.
func (r *Real) populateContainer(i, images int) {
	image := imageName(i % images)
	if isUntagged(i % images) {
		image = "idle:1"
	}
	command := "[]" // run until stopped
	if i%10 < 4 && i%10 > 0 {
		command = `["0"]`
	}
	created := r.post("/containers/create", strings.NewReader(fmt.Sprintf(`{"Image":%q,"Cmd":%s,"HostConfig":{"NetworkMode":"none"}}`, image, command)))
	var container struct{ ID string }
	if err := json.Unmarshal(created, &container); err != nil {
		r.t.Errorf("cannot decode the created container: %v: %s", err, created)
		return
	}
	if i%10 < 4 {
		r.post("/containers/"+container.ID+"/start", nil)
	}
}

// post sends a POST request and returns the body of the response.
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
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 400 {
		r.t.Errorf("POST %s: got %s, %v: %s; want a success", path, response.Status, err, content)
	}
	return content
}

// WriteImages writes an archive for "docker load". It holds the n images of Populate that start at
// number first, with a placeholder instead of the program.
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

// writeImages writes the images from number first up to, but without, number end as an archive in
// the format of "docker save".
func writeImages(w io.Writer, program []byte, first, end int) error {
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
	for i := first; i < end; i++ {
		m := manifest{}
		if !isUntagged(i) {
			m.RepoTags = []string{imageName(i)}
		}
		if hasThreeTags(i) {
			m.RepoTags = append(m.RepoTags, imageName(i)+"-a", imageName(i)+"-b")
		}
		layers := imageLayers(i, program)
		for _, content := range layers {
			file := fmt.Sprintf("%x/layer.tar", sha256.Sum256(content))
			m.Layers = append(m.Layers, file)
			if err := addFile(file, content); err != nil {
				return err
			}
		}
		config, err := json.Marshal(imageConfig(map[string]string{"number": fmt.Sprint(i)}, layers))
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

// imageLayers returns the layers of image i: the program, a layer that 40 images share, a layer
// that 8 images share, and one to three layers that are not shared.
func imageLayers(i int, program []byte) [][]byte {
	layers := [][]byte{
		layer("idle", 0o755, program),
		layer("os", 0o644, content("os", i/40, 20_000)),
		layer("runtime", 0o644, content("runtime", i/8, 8_000)),
	}
	for own := range 1 + i%3 {
		layers = append(layers, layer(fmt.Sprint("own", own), 0o644, content("own", 3*i+own, 500)))
	}
	return layers
}

// imageConfig returns the configuration of an image that has these layers, in the format of the
// OCI image specification.
func imageConfig(labels map[string]string, layers [][]byte) map[string]any {
	var diffIDs []string
	var history []map[string]any
	for _, layer := range layers {
		diffIDs = append(diffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(layer)))
		history = append(history, map[string]any{"created": FinishedAt, "created_by": "COPY"})
	}
	config := map[string]any{"Entrypoint": []string{"/idle"}}
	if labels != nil {
		config["Labels"] = labels
	}
	return map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": FinishedAt,
		"config":  config,
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffIDs},
		"history": history,
	}
}

// layer returns the tar archive of a layer with one file.
func layer(name string, mode int64, content []byte) []byte {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))}) // cannot fail: it writes to memory
	w.Write(content)
	w.Close()
	return buffer.Bytes()
}

// content returns about size bytes that are the same for the same kind and i.
func content(kind string, i, size int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%s %d\n", kind, i)), size/10)
}
