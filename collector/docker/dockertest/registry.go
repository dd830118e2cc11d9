package dockertest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
)

// A Registry is an image registry on a loopback address, from which engines pull without TLS.
// It implements only what a pull by digest needs.
type Registry struct {
	server *httptest.Server

	mu    sync.Mutex
	blobs map[string][]byte // blobs and manifests, by digest
}

const (
	manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	configType   = "application/vnd.docker.container.image.v1+json"
	layerType    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// NewRegistry starts a registry that is closed when the test ends.
func NewRegistry(t testing.TB) *Registry {
	r := &Registry{blobs: make(map[string][]byte)}
	r.server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.server.Close)
	return r
}

func (r *Registry) serve(w http.ResponseWriter, request *http.Request) {
	if request.URL.Path == "/v2/" {
		return
	}
	r.mu.Lock()
	blob, found := r.blobs[path.Base(request.URL.Path)]
	r.mu.Unlock()
	if !found {
		http.NotFound(w, request)
		return
	}
	if strings.Contains(request.URL.Path, "/manifests/") {
		w.Header().Set("Content-Type", manifestType)
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
	w.Header().Set("Docker-Content-Digest", path.Base(request.URL.Path))
	w.Write(blob)
}

func (r *Registry) put(blob []byte) (digest string) {
	digest = fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[digest] = blob
	return digest
}

// Add adds an image that has these layers, which are tar archives. It returns the image's
// reference by digest.
func (r *Registry) Add(t testing.TB, repository string, layers ...[]byte) (reference string) {
	t.Helper()
	encode := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Size      int    `json:"size"`
		Digest    string `json:"digest"`
	}
	var blobs []descriptor
	for _, layer := range layers {
		var compressed bytes.Buffer
		w := gzip.NewWriter(&compressed)
		w.Write(layer) // cannot fail: it writes to memory
		w.Close()
		blobs = append(blobs, descriptor{layerType, compressed.Len(), r.put(compressed.Bytes())})
	}
	config := encode(imageConfig(nil, layers))
	manifest := r.put(encode(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": descriptor{configType, len(config), r.put(config)}, "layers": blobs,
	}))
	return strings.TrimPrefix(r.server.URL, "http://") + "/" + repository + "@" + manifest
}

// Layer returns the tar archive of a layer with one file.
func Layer(name string, content []byte) []byte { return layer(name, 0o644, content) }
