// Package dockertest provides Docker engines for tests: a Fake, which serves responses from files
// and can produce the errors and versions that a real engine cannot produce on demand, and a Real,
// which is a private Docker engine.
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

// A Fake is a fake Docker engine. It serves the files of one folder:
//
//	api-version      the newest API version, and optionally the oldest, separated by a space
//	podman-version   the version of Podman; without this file, the engine is Docker
//	info.json        /info
//	images.json      /images/json
//	containers.json  /containers/json
//	volumes.json     /volumes
//	system/df.json   /system/df
//
// The containers and images of these lists can be inspected. A container finished at FinishedAt;
// its writable layer has 100 bytes and its image has 1000. An image has two layers: the lower one
// has half of the image's size, and is shared by all images of that size; the upper one is not
// shared. An endpoint without a file returns 403 Forbidden, as a socket proxy does.
type Fake struct {
	mu       sync.Mutex
	dir      string
	handlers map[string]http.HandlerFunc // by endpoint
	requests []string
	lists    map[string]lists // by folder
}

// NewFake returns an engine that serves the files of dir.
func NewFake(dir string) *Fake {
	return &Fake{dir: dir, handlers: make(map[string]http.HandlerFunc), lists: make(map[string]lists)}
}

// SwitchTo makes the engine serve the files of another folder, for example after an upgrade.
func (f *Fake) SwitchTo(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dir = dir
}

// Answer replaces the handler of an endpoint such as "/images/json". Nil restores the response
// from the file.
func (f *Fake) Answer(endpoint string, handler http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[endpoint] = handler
}

// Requests returns all requests so far, such as "GET /v1.41/info".
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
	dir, handler := f.dir, f.handlers[endpoint]
	f.mu.Unlock()

	newest, oldest := "1.24", "1.12"
	if text, err := os.ReadFile(filepath.Join(dir, "api-version")); err == nil {
		fmt.Sscan(string(text), &newest, &oldest)
	}
	w.Header().Set("Api-Version", newest)
	if text, err := os.ReadFile(filepath.Join(dir, "podman-version")); err == nil {
		w.Header().Set("Libpod-Api-Version", strings.TrimSpace(string(text)))
	}
	switch {
	case handler != nil:
		handler(w, r)
	case version != "" && versions.GreaterThan(version, newest):
		fail(w, http.StatusBadRequest, fmt.Sprintf("client version %s is too new. Maximum supported API version is %s", version, newest))
	case version != "" && versions.LessThan(version, oldest):
		fail(w, http.StatusBadRequest, fmt.Sprintf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, oldest))
	case endpoint == "/_ping":
		fmt.Fprint(w, "OK")
	case strings.HasPrefix(endpoint, "/containers/") && endpoint != "/containers/json":
		f.inspectContainer(w, dir, strings.TrimSuffix(strings.TrimPrefix(endpoint, "/containers/"), "/json"))
	case strings.HasPrefix(endpoint, "/images/") && endpoint != "/images/json":
		id, action := path.Split(strings.TrimPrefix(endpoint, "/images/"))
		f.inspectImage(w, dir, strings.TrimSuffix(id, "/"), action)
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

// FinishedAt is the time at which the containers of a Fake finished.
const FinishedAt = "2025-10-09T08:53:20Z"

// lists are the containers and the sizes of the images in bytes, by ID, of one folder.
type lists struct {
	containers map[string]container
	images     map[string]int64
}

type container struct{ ID, ImageID, State string }

// inspectContainer serves /containers/{id}/json.
func (f *Fake) inspectContainer(w http.ResponseWriter, dir, id string) {
	c, found := f.read(dir).containers[id]
	if !found {
		fail(w, http.StatusNotFound, "No such container: "+id)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"Id":%q,"Image":%q,"Created":%q,"State":{"Status":%q,"FinishedAt":%q},"Config":{"Image":%q},"SizeRw":100,"SizeRootFs":1100}`,
		id, c.ImageID, FinishedAt, c.State, FinishedAt, c.ImageID)
}

// inspectImage serves /images/{id}/json and /images/{id}/history.
func (f *Fake) inspectImage(w http.ResponseWriter, dir, id, action string) {
	size, found := f.read(dir).images[id]
	switch {
	case !found:
		fail(w, http.StatusNotFound, "No such image: "+id)
	case action == "history":
		fmt.Fprintf(w, `[{"Size":0},{"Size":%d},{"Size":%d}]`, size-size/2, size/2)
	default:
		fmt.Fprintf(w, `{"Id":%q,"RepoTags":[],"RepoDigests":[],"Size":%[2]d,"RootFS":{"Type":"layers","Layers":["sha256:%064[2]d",%[1]q]}}`, id, size)
	}
}

// read returns the lists of a folder. It reads each folder once; a missing or invalid file is empty.
func (f *Fake) read(dir string) lists {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, found := f.lists[dir]; found {
		return known
	}
	var containers []container
	var images []struct {
		ID   string
		Size int64
	}
	for file, list := range map[string]any{"containers.json": &containers, "images.json": &images} {
		if body, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			json.Unmarshal(body, list)
		}
	}
	l := lists{containers: make(map[string]container, len(containers)), images: make(map[string]int64, len(images))}
	for _, c := range containers {
		l.containers[c.ID] = c
	}
	for _, image := range images {
		l.images[image.ID] = image.Size
	}
	f.lists[dir] = l
	return l
}

// fail responds with an error as the Engine API formats it.
func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"message":%q}`, message)
}
