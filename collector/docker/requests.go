package docker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errhttp"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
)

// API is the Engine API at one version. Its methods make one or two requests each and
// return model values; their errors are *model.Failure.
type API struct {
	client *Client
	api    *client.Client
	podman bool
}

// Version returns the negotiated version.
func (a *API) Version() string { return a.api.ClientVersion() }

func (a *API) isAtLeast(version string) bool {
	return versions.GreaterThanOrEqualTo(a.Version(), version)
}

// short bounds a request that is fast on every engine.
func (a *API) short(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.client.Timeout)
}

// get makes a request and reads its answer as a stream. The Docker client would hold all of
// it, and take a missing field for an empty list. The {id} of an endpoint is replaced.
func get[T any](ctx context.Context, a *API, endpoint, id string, query url.Values, read func(*decoder) T) (value T, err error) {
	body, err := a.open(ctx, strings.Replace(endpoint, "{id}", id, 1), query)
	if err == nil {
		defer body.Close()
		if value, err = decode(body, read); err != nil && ctx.Err() != nil {
			err = ctx.Err() // which has closed the connection
		}
	}
	return value, a.client.explain(endpoint, err)
}

// open requests a path below that of the API version.
func (a *API) open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	host, err := client.ParseHostURL(a.api.DaemonHost())
	if err != nil {
		return nil, err
	}
	if host.Scheme == "unix" {
		host.Host = client.DummyHost
	}
	target := url.URL{Scheme: a.client.scheme, Host: host.Host, Path: host.Path + "/v" + a.Version() + path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := a.api.HTTPClient().Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return nil, newRefusal(response)
	}
	return response.Body, nil
}

// refusal is an answer with an HTTP status other than 200.
type refusal struct {
	message string
	kind    error // of package errdefs
}

func (r refusal) Error() string { return r.message }
func (r refusal) Unwrap() error { return r.kind }

// newRefusal returns the engine's message, or the beginning of what else answers.
func newRefusal(response *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	var answer struct{ Message string }
	_ = json.Unmarshal(body, &answer) // else it is text
	message := cmp.Or(answer.Message, strings.TrimSpace(string(body)), strings.TrimSpace(response.Status))
	return refusal{message, errhttp.ToNative(response.StatusCode)}
}

// Info returns what the engine reports about itself.
func (a *API) Info(ctx context.Context) (Info, error) {
	ctx, cancel := a.short(ctx)
	defer cancel()
	return get(ctx, a, "/info", "", nil, func(d *decoder) Info {
		info := readInfo(d)
		info.APIVersion, info.Podman = a.Version(), a.podman
		return info
	})
}

const (
	listImages       = "/images/json"
	inspectImage     = "/images/{id}/json"
	inspectContainer = "/containers/{id}/json"
)

// Images returns all images. The store is "" if it is unknown. SharedSize and Manifests are requested from the containerd
// store only, which computes them anyway. before is the list before, in the order of IDs, and count
// about how many images there are: a long list is kept once only.
func (a *API) Images(ctx context.Context, store model.ImageStore, before []model.Image, count int) ([]model.Image, error) {
	query := url.Values{"all": {"1"}}
	if store == model.Containerd {
		query.Set("shared-size", "1")
		a.addManifests(query)
	}
	return get(ctx, a, listImages, "", query, func(d *decoder) []model.Image {
		return imageReader{store: store, repositories: a.client.Repositories, before: before, count: count}.list(d, a.Version())
	})
}

func (a *API) addManifests(query url.Values) {
	if a.isAtLeast("1.47") {
		query.Set("manifests", "1")
	}
}

// Image inspects one image. Its sizes are those that a list would have. With the containerd
// store they are unknown unless the image has a tag, by which a list can be filtered. Digest
// references mean the same in both stores, other than in lists.
func (a *API) Image(ctx context.Context, id string, store model.ImageStore) (model.Image, error) {
	ctx, cancel := a.short(ctx)
	defer cancel()
	image, err := get(ctx, a, inspectImage, id, nil, func(d *decoder) model.Image {
		reader := imageReader{store: model.GraphDriver, repositories: a.client.Repositories}
		image, _ := reader.image(d)
		return image
	})
	if err != nil || store == model.GraphDriver {
		return image, err
	}
	image.Size, image.Sizes = model.Optional[int64]{}, nil
	if len(image.Tags) == 0 {
		return image, nil
	}
	listed, err := a.imageOfList(ctx, image.ID, image.Tags[0])
	if err != nil {
		return model.Image{}, err
	}
	image.Size, image.Sizes = listed.Size, listed.Sizes
	return image, nil
}

// imageOfList returns an image as the list of one tag has it, or a zero Image.
func (a *API) imageOfList(ctx context.Context, id, tag string) (model.Image, error) {
	filter, err := filters.ToJSON(filters.NewArgs(filters.Arg("reference", tag)))
	if err != nil {
		return model.Image{}, a.client.explain(listImages, err)
	}
	query := url.Values{"all": {"1"}, "filters": {filter}}
	a.addManifests(query)
	list, err := get(ctx, a, listImages, "", query, func(d *decoder) []model.Image {
		return imageReader{store: model.Containerd}.list(d, a.Version())
	})
	for _, listed := range list {
		if listed.ID == id {
			return listed, err
		}
	}
	return model.Image{}, err
}

// Content returns the layers and history of an image.
func (a *API) Content(ctx context.Context, id string) (model.Content, error) {
	ctx, cancel := a.short(ctx)
	defer cancel()
	const mostLayers, mostSteps = 1000, 10000 // overlay file systems have 500 layers at most; matching is quadratic
	var reader imageReader
	var image model.Image
	root, err := get(ctx, a, inspectImage, id, nil, func(d *decoder) (root rootFS) {
		image, root = reader.image(d)
		return root
	})
	if err != nil {
		return model.Content{}, err
	}
	if image.ID != id || root.kind == "" || len(root.layers) > mostLayers || slices.Contains(root.layers, "") { // the content of no platform is present
		return model.Content{}, a.client.explain(inspectImage, fmt.Errorf("%w: %s", errNoLayers, id))
	}
	const history = "/images/{id}/history"
	steps, err := get(ctx, a, history, id, nil, readHistory)
	isLayer := func(step model.Step) bool { return step.Size > 0 }
	if err == nil && (len(steps) > mostSteps || len(root.layers) == 0 && slices.ContainsFunc(steps, isLayer)) {
		err = a.client.explain(history, fmt.Errorf("%w: %s", errNoLayers, id))
	}
	return model.Content{DiffIDs: root.layers, History: steps}, err
}

// Containers returns all containers.
func (a *API) Containers(ctx context.Context) ([]model.Container, error) {
	return get(ctx, a, "/containers/json", "", url.Values{"all": {"1"}}, func(d *decoder) []model.Container {
		return distinct(d, containerID, func(d *decoder) model.Container {
			c := readListedContainer(d)
			c.State = a.state(c.State)
			return c
		})
	})
}

// Container inspects one container.
func (a *API) Container(ctx context.Context, id string) (model.Container, error) {
	ctx, cancel := a.short(ctx)
	defer cancel()
	inspected, err := a.container(ctx, id, nil)
	inspected.Size, inspected.ImageSize = model.Optional[int64]{}, model.Optional[int64]{} // not requested
	return inspected, err
}

func (a *API) container(ctx context.Context, id string, query url.Values) (model.Container, error) {
	return get(ctx, a, inspectContainer, id, query, func(d *decoder) model.Container {
		size := "SizeRw"
		if len(query) == 0 {
			size += "?"
		}
		c := readContainer(d, size, a.state)
		if c.ID != id {
			d.fail("the container %q instead of %q", c.ID, id)
		}
		return c
	})
}

// ContainerSize is the size of a container in bytes.
type ContainerSize struct {
	Writable model.Optional[int64] // SizeRw; the engine's −1 is unknown
	Image    model.Optional[int64] // SizeRootFs − SizeRw
}

// ContainerSize returns the size of one container. The engine walks its files. Containers
// are measured one by one: in a list with sizes, one that is being removed makes the
// containerd store fail for all, and each costs it a search through all images.
func (a *API) ContainerSize(ctx context.Context, id string) (ContainerSize, error) {
	inspected, err := a.container(ctx, id, url.Values{"size": {"1"}})
	if err != nil {
		return a.sizeOfDead(ctx, id, err)
	}
	return ContainerSize{inspected.Size, inspected.ImageSize}, nil
}

// sizeOfDead returns a size of 0 for a dead container without a writable layer, for which
// the containerd store answers 404 as if the container were gone; otherwise the error.
func (a *API) sizeOfDead(ctx context.Context, id string, failure error) (ContainerSize, error) {
	if !cerrdefs.IsNotFound(failure) {
		return ContainerSize{}, failure
	}
	inspected, err := a.Container(ctx, id)
	switch {
	case err == nil && inspected.State == model.Dead:
		return ContainerSize{Writable: model.Known[int64](0)}, nil
	case err == nil && inspected.State == model.Removing:
		return ContainerSize{}, nil
	}
	return ContainerSize{}, cmp.Or(err, failure)
}

// Volumes returns all volumes without their sizes. No files are walked.
func (a *API) Volumes(ctx context.Context) ([]model.Volume, error) {
	return get(ctx, a, "/volumes", "", nil, readVolumes)
}

// CanSplitDiskUsage reports whether /system/df can return volumes and build cache separately.
// Before API 1.42 it always returns everything, and walks the files of containers, too.
func (a *API) CanSplitDiskUsage() bool { return a.isAtLeast("1.42") }

// DiskUsage returns the sizes of volumes, for which the engine walks all their files, the records of the
// build cache, or both. Before API 1.42 the engine refuses while it answers somebody else's request: then
// it is repeated.
func (a *API) DiskUsage(ctx context.Context, volumes, buildCache bool) (DiskUsage, error) {
	const endpoint = "/system/df"
	query, volumeField, cacheField := url.Values{}, "Volumes", "BuildCache"
	switch {
	case !buildCache:
		query.Set("type", string(types.VolumeObject))
		cacheField += "?"
	case !volumes:
		query.Set("type", string(types.BuildCacheObject))
		volumeField += "?"
	}
	for {
		usage, err := get(ctx, a, endpoint, "", query, func(d *decoder) DiskUsage { return readDiskUsage(d, volumeField, cacheField) })
		if err == nil || !strings.Contains(err.Error(), "a disk usage operation is already running") {
			return usage, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return DiskUsage{}, a.client.explain(endpoint, ctx.Err())
		}
	}
}
