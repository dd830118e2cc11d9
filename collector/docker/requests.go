package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/api/types/volume"
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

// Info returns what the engine reports about itself.
func (a *API) Info(ctx context.Context) (Info, error) {
	ctx, cancel := a.short(ctx)
	defer cancel()
	info, err := a.api.Info(ctx)
	if err == nil && info.ServerVersion == "" {
		err = errMalformed
	}
	converted := fromInfo(info, a.Version())
	converted.Podman = a.podman
	return converted, a.client.explain("/info", err)
}

// Images returns all images. SharedSize and Manifests are requested from the containerd
// store only, which computes them anyway.
func (a *API) Images(ctx context.Context, store model.Optional[model.ImageStore]) ([]model.Image, error) {
	isContainerd := store == model.Known(model.Containerd)
	records, err := a.api.ImageList(ctx, image.ListOptions{
		All: true, SharedSize: isContainerd, Manifests: isContainerd && a.isAtLeast("1.47"),
	})
	if err == nil && slices.ContainsFunc(records, func(r image.Summary) bool { return r.ID == "" }) {
		err = errMalformed
	}
	if err != nil {
		return nil, a.client.explain("/images/json", err)
	}
	if !store.IsKnown() {
		store = storeOfList(records, a.Version())
	}
	images := fromImages(records, store)
	for i, record := range records {
		images[i].Repositories = a.repositories(record.RepoTags, record.RepoDigests)
	}
	return images, nil
}

// repositories returns the repositories of an image if they are wanted: parsing a name takes
// some microseconds.
func (a *API) repositories(tags, digests []string) []string {
	if !a.client.Repositories {
		return nil
	}
	return repositoriesOf(slices.Concat(tags, digests))
}

// Image inspects one image. Its sizes are those that a list would have. With the containerd
// store they are unknown unless the image has a tag, by which a list can be filtered.
func (a *API) Image(ctx context.Context, id string, store model.Optional[model.ImageStore]) (model.Image, error) {
	ctx, cancel := a.short(ctx)
	defer cancel()
	const endpoint = "/images/{id}/json"
	inspected, err := a.api.ImageInspect(ctx, id)
	if err == nil && inspected.ID == "" {
		err = errMalformed
	}
	if err != nil {
		return model.Image{}, a.client.explain(endpoint, err)
	}
	converted := fromInspectedImage(inspected)
	converted.Repositories = a.repositories(inspected.RepoTags, inspected.RepoDigests)
	switch {
	case store == model.Known(model.GraphDriver):
		converted.Size = sizeOf(inspected.Size)
	case len(converted.Tags) > 0:
		listed, err := a.imageOfList(ctx, inspected.ID, converted.Tags[0])
		if err != nil {
			return model.Image{}, a.client.explain("/images/json", err)
		}
		converted.Size, converted.Unpacked = listed.Size, listed.Unpacked
		converted.IndexSize, converted.SeveralPlatforms = listed.IndexSize, listed.SeveralPlatforms
	}
	return converted, nil
}

// imageOfList returns an image as the list of one tag has it, or a zero Image.
func (a *API) imageOfList(ctx context.Context, id, tag string) (model.Image, error) {
	list, err := a.api.ImageList(ctx, image.ListOptions{
		All: true, Manifests: a.isAtLeast("1.47"), Filters: filters.NewArgs(filters.Arg("reference", tag)),
	})
	for _, listed := range fromImages(list, model.Known(model.Containerd)) {
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
	const inspect, history = "/images/{id}/json", "/images/{id}/history"
	inspected, err := a.api.ImageInspect(ctx, id)
	if err != nil {
		return model.Content{}, a.client.explain(inspect, err)
	}
	if inspected.ID != id || inspected.RootFS.Type == "" { // the content of no platform is present
		return model.Content{}, a.client.explain(inspect, fmt.Errorf("%w: %s", errNoLayers, id))
	}
	steps, err := a.api.ImageHistory(ctx, id)
	if err != nil {
		return model.Content{}, a.client.explain(history, err)
	}
	content, known := fromContent(inspected.RootFS.Layers, steps).Get()
	if !known {
		return model.Content{}, a.client.explain(history, fmt.Errorf("%w: %s", errNoLayers, id))
	}
	return content, nil
}

// Containers returns all containers.
func (a *API) Containers(ctx context.Context) ([]model.Container, error) {
	records, err := a.api.ContainerList(ctx, container.ListOptions{All: true})
	if err == nil && slices.ContainsFunc(records, func(r container.Summary) bool { return r.ID == "" || r.State == "" }) {
		err = errMalformed
	}
	if err != nil {
		return nil, a.client.explain("/containers/json", err)
	}
	containers := fromContainers(records)
	for i := range containers {
		containers[i].State = a.state(containers[i].State)
	}
	return containers, nil
}

const inspectContainer = "/containers/{id}/json"

// Container inspects one container.
func (a *API) Container(ctx context.Context, id string) (model.Container, error) {
	ctx, cancel := a.short(ctx)
	defer cancel()
	inspected, err := a.api.ContainerInspect(ctx, id)
	if err == nil && (inspected.ContainerJSONBase == nil || inspected.ID != id || inspected.State == nil || inspected.State.Status == "") {
		err = errMalformed
	}
	if err != nil {
		return model.Container{}, a.client.explain(inspectContainer, err)
	}
	inspected.State.Status = string(a.state(model.State(inspected.State.Status)))
	return fromInspectedContainer(inspected), nil
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
	inspected, _, err := a.api.ContainerInspectWithRaw(ctx, id, true)
	if err == nil && (inspected.ContainerJSONBase == nil || inspected.ID != id) {
		err = errMalformed
	}
	if err != nil {
		return a.sizeOfDead(ctx, id, a.client.explain(inspectContainer, err))
	}
	var size ContainerSize
	if writable := inspected.SizeRw; writable != nil && *writable >= 0 {
		size.Writable = model.Known(*writable)
		if all := inspected.SizeRootFs; all != nil && *all >= *writable {
			size.Image = model.Known(*all - *writable)
		}
	}
	return size, nil
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
	list, err := a.api.VolumeList(ctx, volume.ListOptions{})
	if err != nil {
		return nil, a.client.explain("/volumes", err)
	}
	return fromVolumes(list.Volumes), nil
}

// DiskUsage is a part of what /system/df returns.
type DiskUsage struct {
	VolumeSizes map[string]int64 // by name, in bytes
	BuildCache  []model.CacheRecord
}

// CanSplitDiskUsage reports whether /system/df can return volumes and build cache separately.
// Before API 1.42 it always returns everything, and walks the files of containers, too.
func (a *API) CanSplitDiskUsage() bool { return a.isAtLeast("1.42") }

// VolumeSizes returns the sizes of volumes. The engine walks all their files.
func (a *API) VolumeSizes(ctx context.Context) (map[string]int64, error) {
	usage, err := a.DiskUsage(ctx, types.VolumeObject)
	return usage.VolumeSizes, err
}

// BuildCache returns the records of the build cache.
func (a *API) BuildCache(ctx context.Context) ([]model.CacheRecord, error) {
	usage, err := a.DiskUsage(ctx, types.BuildCacheObject)
	return usage.BuildCache, err
}

// DiskUsage returns the given parts of /system/df, or all if none are given. Before API 1.42
// the engine refuses while it answers somebody else's request: then it is repeated.
func (a *API) DiskUsage(ctx context.Context, parts ...types.DiskUsageObject) (DiskUsage, error) {
	const endpoint = "/system/df"
	usage, err := a.api.DiskUsage(ctx, types.DiskUsageOptions{Types: parts})
	for err != nil && strings.Contains(err.Error(), "a disk usage operation is already running") {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return DiskUsage{}, a.client.explain(endpoint, ctx.Err())
		}
		usage, err = a.api.DiskUsage(ctx, types.DiskUsageOptions{Types: parts})
	}
	if err != nil {
		return DiskUsage{}, a.client.explain(endpoint, err)
	}
	records, err := fromCacheRecords(usage.BuildCache)
	return DiskUsage{fromVolumeSizes(usage.Volumes), records}, a.client.explain(endpoint, err)
}
