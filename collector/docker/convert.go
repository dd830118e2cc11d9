package docker

import (
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Info is what an engine reports about itself (Engine API: /info).
type Info struct {
	model.Engine
	KernelVersion     string
	Hostname          string
	ContainerdAddress string // empty: unknown
	SystemTime        string // of the engine's clock, RFC 3339
	Images            int
	Containers        int
}

// fromInfo converts an answer that was requested at an API version.
func fromInfo(info system.Info, version string) Info {
	converted := Info{
		Engine: model.Engine{
			Version:       info.ServerVersion,
			APIVersion:    version,
			ImageStore:    storeOf(info),
			StorageDriver: info.Driver,
			RootDir:       info.DockerRootDir,
		},
		KernelVersion: info.KernelVersion,
		Hostname:      info.Name,
		SystemTime:    info.SystemTime,
		Images:        info.Images,
		Containers:    info.Containers,
	}
	for _, status := range info.DriverStatus {
		if status[0] == "Backing Filesystem" {
			converted.BackingFilesystem = status[1]
		}
	}
	if info.Containerd != nil {
		converted.ContainerdAddress = info.Containerd.Address
	}
	return converted
}

// storeOf returns the image store. The containerd store names itself in the driver status
// since it exists, Engine 24.
func storeOf(info system.Info) model.ImageStore {
	for _, status := range info.DriverStatus {
		if status == [2]string{"driver-type", "io.containerd.snapshotter.v1"} {
			return model.Containerd
		}
	}
	return model.GraphDriver
}

// storeOfList returns which store made a list when /info is unknown. Since API 1.48 the
// containerd store, and only it, gives every image a descriptor; before API 1.43 there was
// no containerd store.
func storeOfList(list []image.Summary, version string) model.Optional[model.ImageStore] {
	hasDescriptor := func(s image.Summary) bool { return s.Descriptor != nil }
	switch {
	case slices.ContainsFunc(list, hasDescriptor):
		return model.Known(model.Containerd)
	case versions.LessThan(version, "1.43"), versions.GreaterThanOrEqualTo(version, "1.48"):
		return model.Known(model.GraphDriver)
	default:
		return model.Optional[model.ImageStore]{}
	}
}

// fromImages converts an image list, one record for each.
func fromImages(list []image.Summary, store model.Optional[model.ImageStore]) []model.Image {
	images := make([]model.Image, 0, len(list))
	for _, record := range list {
		converted := model.Image{
			ID:        record.ID,
			Parent:    record.ParentID,
			HasDigest: hasDigest(record, store),
			Created:   model.Known(time.Unix(record.Created, 0)),
		}
		for _, tag := range record.RepoTags {
			if tag != "<none>:<none>" && !strings.Contains(tag, "@") {
				converted.Tags = append(converted.Tags, tag)
			}
		}
		converted.Size = sizeOf(record.Size)
		converted.SharedSize = sizeOf(record.SharedSize)
		converted.Unpacked, converted.SeveralPlatforms = unpacked(record.Manifests)
		if isIndex(record.Descriptor) {
			size, known := sizeOf(record.Descriptor.Size).Get()
			converted.IndexSize = size
			if !known { // then the unpacked part of Size is unknown, too
				converted.Unpacked = model.Optional[int64]{}
			}
		}
		images = append(images, converted)
	}
	return images
}

// repositoriesOf returns the distinct repositories of image names, as "docker images" prints them.
func repositoriesOf(names []string) (repositories []string) {
	for _, name := range names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil { // "<none>:<none>"
			continue
		}
		if repository := reference.FamiliarName(named); !slices.Contains(repositories, repository) {
			repositories = append(repositories, repository)
		}
	}
	return repositories
}

// unpacked returns the unpacked size of an image that is present for one platform.
func unpacked(manifests []image.ManifestSummary) (bytes model.Optional[int64], severalPlatforms bool) {
	found := false
	for _, manifest := range manifests {
		if manifest.Kind != image.ManifestKindImage || !manifest.Available {
			continue
		}
		if found {
			return model.Optional[int64]{}, true
		}
		found = true
		if manifest.ImageData != nil {
			bytes = sizeOf(manifest.ImageData.Size.Unpacked)
		}
	}
	return bytes, false
}

// isIndex reports whether an image of the containerd store is an image index.
func isIndex(d *ocispec.Descriptor) bool {
	return d != nil && (d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == "application/vnd.docker.distribution.manifest.list.v2+json")
}

// hasDigest reports whether a digest reference points to the image. Graph drivers store
// digest references in RepoDigests. The containerd store lists them among the tags, and adds
// a RepoDigests entry to every image that has any name.
func hasDigest(record image.Summary, store model.Optional[model.ImageStore]) model.Optional[bool] {
	isDigest := func(name string) bool { return strings.Contains(name, "@") && name != "<none>@<none>" }
	amongTags := slices.ContainsFunc(record.RepoTags, isDigest)
	amongDigests := slices.ContainsFunc(record.RepoDigests, isDigest)
	kind, known := store.Get()
	switch {
	case amongTags || !amongDigests:
		return model.Known(amongTags)
	case known:
		return model.Known(kind == model.GraphDriver)
	default:
		return model.Optional[bool]{}
	}
}

// firstOfEach drops records with the ID of an earlier one. No engine lists an object twice,
// and counting it twice would be worse than using the wrong record.
func firstOfEach[T any](list []T, id func(T) string) []T {
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(thing T) bool {
		again := seen[id(thing)]
		seen[id(thing)] = true
		return again
	})
}

// fromContainers converts a container list.
func fromContainers(list []container.Summary) []model.Container {
	containers := make([]model.Container, 0, len(list))
	for _, record := range list {
		converted := model.Container{
			ID:      record.ID,
			ImageID: record.ImageID,
			State:   model.State(record.State),
			Created: model.Known(time.Unix(record.Created, 0)),
		}
		if converted.State == model.Created {
			converted.StoppedAt = converted.Created
		}
		if record.Image != record.ImageID { // the list shows the ID also if the name has moved on
			converted.CreatedFrom = model.Known(parseReference(record.Image, record.ImageID))
		}
		converted.Volumes, converted.MountedImages = fromMounts(record.Mounts)
		containers = append(containers, converted)
	}
	return firstOfEach(containers, func(c model.Container) string { return c.ID })
}

// fromInspectedContainer converts an inspected container.
func fromInspectedContainer(inspected container.InspectResponse) model.Container {
	converted := model.Container{
		ID:      inspected.ID,
		ImageID: inspected.Image,
		State:   model.State(inspected.State.Status),
	}
	if created, err := time.Parse(time.RFC3339Nano, inspected.Created); err == nil {
		converted.Created = model.Known(created.Truncate(time.Second)) // as in a list
	}
	converted.Volumes, converted.MountedImages = fromMounts(inspected.Mounts)
	if inspected.Config != nil {
		converted.CreatedFrom = model.Known(parseReference(inspected.Config.Image, inspected.Image))
	}
	if converted.State.Stopped() {
		converted.KeepsLog = model.Known(keepsLog(inspected))
		converted.StoppedAt = stoppedAt(inspected)
		converted.Failed = !converted.StoppedAt.IsKnown()
	}
	return converted
}

// keepsLog reports whether the log of a container is in files of the engine. Since Engine
// 20.10 it also caches what a remote driver sends (moby: logger/loggerutils/cache), except of
// journald, which can be read.
func keepsLog(inspected container.InspectResponse) bool {
	if inspected.HostConfig == nil {
		return true
	}
	switch config := inspected.HostConfig.LogConfig; config.Type {
	case "none", "journald":
		return false
	case "json-file", "local":
		return true
	default:
		return config.Config["cache-disabled"] != "true"
	}
}

// stoppedAt returns when a stopped container finished or, if it never ran, was created.
// FinishedAt of a container that never ran is in the year 1.
func stoppedAt(inspected container.InspectResponse) model.Optional[time.Time] {
	for _, text := range []string{inspected.State.FinishedAt, inspected.Created} {
		at, err := time.Parse(time.RFC3339Nano, text)
		switch {
		case err != nil:
			return model.Optional[time.Time]{}
		case at.Year() > 1:
			return model.Known(at)
		}
	}
	return model.Optional[time.Time]{}
}

// parseReference converts the image reference that a container was created from, as the
// containerd store's prune reads it (moby: filterImagesUsedByContainers).
func parseReference(name, imageID string) model.Reference {
	isID := strings.HasPrefix(imageID, "sha256:"+strings.TrimPrefix(name, "sha256:"))
	from := model.Reference{Pinned: isID || strings.HasSuffix(name, "@"+imageID)}
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		if tagged, isTagged := reference.TagNameOnly(named).(reference.NamedTagged); isTagged {
			from.Tag = reference.FamiliarName(tagged) + ":" + tagged.Tag()
		}
	}
	return from
}

// fromMounts returns the names of the volumes and images that a container mounts.
func fromMounts(mounts []container.MountPoint) (volumes, images []string) {
	for _, m := range mounts {
		switch {
		case m.Type == mount.TypeVolume && m.Name != "":
			volumes = append(volumes, m.Name)
		case m.Type == mount.TypeImage:
			images = append(images, parseMountedImage(m.Name))
		}
	}
	return volumes, images
}

// parseMountedImage normalizes the reference of a mounted image.
func parseMountedImage(name string) string {
	_, digest, isPinned := strings.Cut(name, "@") // with the containerd store that is the ID
	switch named, err := reference.ParseNormalizedNamed(name); {
	case isPinned:
		return digest
	case err == nil && !strings.HasPrefix(name, "sha256:"):
		return reference.FamiliarString(reference.TagNameOnly(named))
	default:
		return name
	}
}

// fromVolumes converts a volume list, which has no sizes.
func fromVolumes(list []*volume.Volume) []model.Volume {
	volumes := make([]model.Volume, 0, len(list))
	for _, record := range list {
		if record == nil {
			continue
		}
		_, anonymous := record.Labels["com.docker.volume.anonymous"]
		volumes = append(volumes, model.Volume{
			Name:      record.Name,
			Anonymous: anonymous,
			Local:     record.Driver == "local" && len(record.Options) == 0,
		})
	}
	return firstOfEach(volumes, func(v model.Volume) string { return v.Name })
}

// fromCacheRecords converts the build cache.
func fromCacheRecords(list []*build.CacheRecord) ([]model.CacheRecord, error) {
	records := make([]model.CacheRecord, 0, len(list))
	for _, record := range list {
		if record == nil {
			continue
		}
		if record.ID == "" {
			return nil, errMalformed
		}
		converted := model.CacheRecord{
			Size:             sizeOf(record.Size),
			ID:               record.ID,
			Parents:          record.Parents,
			Type:             record.Type,
			InUse:            record.InUse,
			Shared:           record.Shared,
			ExcludesSnapshot: isImageBacked(record),
			Rewritten:        record.UsageCount > 1 && isWritable(record),
		}
		if record.LastUsedAt != nil {
			converted.LastUsedAt = model.Known(*record.LastUsedAt)
		}
		//lint:ignore SA1019 before API 1.42 there is nothing else
		if parent := record.Parent; parent != "" && len(record.Parents) == 0 {
			converted.Parents = []string{parent}
		}
		records = append(records, converted)
	}
	return firstOfEach(records, func(r model.CacheRecord) string { return r.ID }), nil
}

// isImageBacked reports whether a record holds a layer that a build took from an image of
// the engine. Graph drivers describe it as "from local …" with 0 bytes; the containerd store
// has no description, and counts only its blob.
func isImageBacked(record *build.CacheRecord) bool {
	return record.Description == "" || strings.HasPrefix(record.Description, "from ") && record.Size == 0
}

// isWritable reports whether several builds may write to a record: a context, a cache mount
// ("RUN --mount=type=cache") or a clone of a repository.
func isWritable(record *build.CacheRecord) bool {
	return record.Type == "source.local" || record.Type == "exec.cachemount" || strings.HasPrefix(record.Description, "shared git repo ")
}

// fromContent converts the layers and history of an image. Impossible answers are unknown.
// The bounds keep the matching of steps and layers, which is quadratic, short.
func fromContent(diffIDs []string, history []image.HistoryResponseItem) model.Optional[model.Content] {
	const mostLayers, mostSteps = 1000, 10000 // overlay file systems have 500 layers at most
	if len(diffIDs) > mostLayers || len(history) > mostSteps {
		return model.Optional[model.Content]{}
	}
	content := model.Content{DiffIDs: diffIDs}
	var sum int64
	for _, record := range slices.Backward(history) {
		if record.Size < 0 || record.Size > maxSize-sum {
			return model.Optional[model.Content]{}
		}
		sum += record.Size
		content.History = append(content.History, model.Step{Size: record.Size, NoLayer: makesNoLayer(record.CreatedBy)})
	}
	return model.Known(content)
}

// maxSize is the largest size in bytes that is believed. Larger ones are errors, and their
// sums would overflow.
const maxSize = 1 << 44

// sizeOf converts a size of the API, where −1 means "not computed".
func sizeOf(bytes int64) model.Optional[int64] {
	if bytes < 0 || bytes > maxSize {
		return model.Optional[int64]{}
	}
	return model.Known(bytes)
}

// makesNoLayer reports whether an instruction only changes the configuration of an image.
// The classic builder writes such instructions as shell commands with "#(nop)".
func makesNoLayer(createdBy string) bool {
	_, nop, classic := strings.Cut(createdBy, "#(nop) ")
	if classic {
		createdBy = nop
	}
	instruction, _, _ := strings.Cut(strings.TrimSpace(createdBy), " ")
	return slices.Contains([]string{
		"ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "SHELL", "STOPSIGNAL", "USER", "VOLUME",
	}, instruction)
}

// fromInspectedImage converts an inspected image. The size is left out, because the
// containerd store counts another one in its lists. The digests mean the same in both stores.
func fromInspectedImage(inspected image.InspectResponse) model.Image {
	summary := image.Summary{
		ID: inspected.ID,
		//lint:ignore SA1019 image lists still have the parent, and an inspection must match them
		ParentID:    inspected.Parent,
		RepoTags:    inspected.RepoTags,
		RepoDigests: inspected.RepoDigests,
		Size:        -1,
		SharedSize:  -1,
	}
	if created, err := time.Parse(time.RFC3339Nano, inspected.Created); err == nil {
		summary.Created = created.Unix()
	}
	return fromImages([]image.Summary{summary}, model.Known(model.GraphDriver))[0]
}

// fromVolumeSizes returns the known sizes of volumes by name; −1 is "not available".
func fromVolumeSizes(volumes []*volume.Volume) map[string]int64 {
	sizes := make(map[string]int64)
	for _, v := range volumes {
		if v != nil && v.UsageData != nil && v.UsageData.Size >= 0 {
			sizes[v.Name] = v.UsageData.Size
		}
	}
	return sizes
}
