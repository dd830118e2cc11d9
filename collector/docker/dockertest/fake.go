// Package dockertest is what tests need of Docker engines: one that answers from
// files, for faults and versions that no real engine produces on demand, and a
// real one of the test's own.
package dockertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/docker/docker/api/types/versions"
)

// A Fake answers as an engine does, from the files of one folder:
//
//	api-version      the newest version of the API that it speaks, and perhaps the oldest
//	info.json        /info
//	images.json      /images/json
//	containers.json  /containers/json
//	volumes.json     /volumes
//	system/df.json   /system/df
//
// A container of the list can be looked at: it has finished at FinishedAt, and 100
// bytes in its writable layer, which lies on 1000. So can an image: it has a layer of its own, and one
// that is as large as half of it and shared by all that are as large as it.
// What has no file is forbidden, as by a socket proxy.
type Fake struct {
	mu       sync.Mutex
	dir      string
	answers  map[string]http.HandlerFunc
	requests []string
	images   map[string]map[string]int64 // sizes by folder and ID
}

// NewFake returns an engine that answers from dir.
func NewFake(dir string) *Fake {
	return &Fake{dir: dir, answers: make(map[string]http.HandlerFunc), images: make(map[string]map[string]int64)}
}

// Become makes the engine answer from another folder, as after an upgrade.
func (f *Fake) Become(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dir = dir
}

// Answer replaces the answer at an endpoint, such as "/images/json". Nil: as it was.
func (f *Fake) Answer(endpoint string, answer http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[endpoint] = answer
}

// Requests returns what was asked so far, as in "GET /v1.41/info".
func (f *Fake) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...)
}

// ServeHTTP implements http.Handler.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version, endpoint := "", r.URL.Path
	if rest, ok := strings.CutPrefix(r.URL.Path, "/v"); ok {
		version, endpoint, _ = strings.Cut(rest, "/")
		endpoint = "/" + endpoint
	}
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.RequestURI())
	dir, answer := f.dir, f.answers[endpoint]
	f.mu.Unlock()

	newest, oldest := "1.24", "1.12"
	if text, err := os.ReadFile(filepath.Join(dir, "api-version")); err == nil {
		fmt.Sscan(string(text), &newest, &oldest)
	}
	w.Header().Set("Api-Version", newest)
	switch {
	case answer != nil:
		answer(w, r)
	case version != "" && versions.GreaterThan(version, newest):
		fail(w, http.StatusBadRequest, fmt.Sprintf("client version %s is too new. Maximum supported API version is %s", version, newest))
	case version != "" && versions.LessThan(version, oldest):
		fail(w, http.StatusBadRequest, fmt.Sprintf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, oldest))
	case endpoint == "/_ping":
		fmt.Fprint(w, "OK")
	case strings.HasPrefix(endpoint, "/containers/") && endpoint != "/containers/json":
		inspect(w, dir, strings.TrimSuffix(strings.TrimPrefix(endpoint, "/containers/"), "/json"))
	case strings.HasPrefix(endpoint, "/images/") && endpoint != "/images/json":
		id, what := path.Split(strings.TrimPrefix(endpoint, "/images/"))
		f.inspectImage(w, dir, strings.TrimSuffix(id, "/"), what)
	default:
		file := strings.TrimSuffix(strings.TrimPrefix(endpoint, "/"), "/json") + ".json"
		body, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(filepath.Clean(file))))
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "Forbidden")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}
}

// FinishedAt is when the containers of a Fake have finished.
const FinishedAt = "2025-10-09T08:53:20Z"

func inspect(w http.ResponseWriter, dir, id string) {
	var containers []struct{ Id, ImageID, State string }
	if body, err := os.ReadFile(filepath.Join(dir, "containers.json")); err == nil {
		json.Unmarshal(body, &containers)
	}
	for _, c := range containers {
		if c.Id == id {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"Id":%q,"Image":%q,"Created":%q,"State":{"Status":%q,"FinishedAt":%q},"Config":{"Image":%q},"SizeRw":100,"SizeRootFs":1100}`,
				id, c.ImageID, FinishedAt, c.State, FinishedAt, c.ImageID)
			return
		}
	}
	fail(w, http.StatusNotFound, "No such container: "+id)
}

func (f *Fake) inspectImage(w http.ResponseWriter, dir, id, what string) {
	size, there := f.imageSizes(dir)[id]
	switch {
	case !there:
		fail(w, http.StatusNotFound, "No such image: "+id)
	case what == "history":
		fmt.Fprintf(w, `[{"Size":0},{"Size":%d},{"Size":%d}]`, size-size/2, size/2)
	default:
		fmt.Fprintf(w, `{"Id":%q,"RootFS":{"Type":"layers","Layers":["sha256:%d",%q]}}`, id, size, id)
	}
}

// imageSizes are those of the list in a folder, which is read once.
func (f *Fake) imageSizes(dir string) map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sizes, read := f.images[dir]; read {
		return sizes
	}
	var images []struct {
		Id   string
		Size int64
	}
	if body, err := os.ReadFile(filepath.Join(dir, "images.json")); err == nil {
		json.Unmarshal(body, &images)
	}
	sizes := make(map[string]int64, len(images))
	for _, image := range images {
		sizes[image.Id] = image.Size
	}
	f.images[dir] = sizes
	return sizes
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"message":%q}`, message)
}
