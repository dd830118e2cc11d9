package engine

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

// describe says which engine it is.
func describe(info system.Info, version string) model.Engine {
	return model.Engine{
		Version:       info.ServerVersion,
		APIVersion:    version,
		ImageStore:    storeOf(info),
		StorageDriver: info.Driver,
	}
}

// storeOf reads the image store off the driver's status, where the containerd
// store has named itself since it first came with Engine 24.
func storeOf(info system.Info) model.ImageStore {
	for _, status := range info.DriverStatus {
		if status == [2]string{"driver-type", "io.containerd.snapshotter.v1"} {
			return model.Containerd
		}
	}
	return model.GraphDriver
}

// imageStore tells which store made this list. Without /info the list itself may
// tell: from API 1.48 on the containerd store, and only it, gives every image a
// descriptor; before API 1.43 there was no containerd store.
func imageStore(info model.Optional[system.Info], list []image.Summary, version string) model.Optional[model.ImageStore] {
	if info, known := info.Get(); known {
		return model.Known(storeOf(info))
	}
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

// translateImages turns the engine's records into the inventory's, one for one.
func translateImages(list []image.Summary, store model.Optional[model.ImageStore]) []model.Image {
	images := make([]model.Image, 0, len(list))
	for _, record := range list {
		translated := model.Image{
			ID:        record.ID,
			Parent:    record.ParentID,
			HasDigest: isDigested(record, store),
		}
		for _, tag := range record.RepoTags {
			if tag != "<none>:<none>" && !strings.Contains(tag, "@") {
				translated.Tags = append(translated.Tags, tag)
			}
		}
		translated.Size = sizeOf(record.Size)
		translated.SharedSize = sizeOf(record.SharedSize)
		translated.Unpacked, translated.SeveralPlatforms = unpacked(record.Manifests)
		if isIndex(record.Descriptor) {
			size, known := sizeOf(record.Descriptor.Size).Get()
			translated.IndexSize = size
			if !known { // nor is what is no blob
				translated.Unpacked = model.Optional[int64]{}
			}
		}
		images = append(images, translated)
	}
	return images
}

// repositoriesOf are the repositories of names, each once and as "docker images" prints it.
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

// unpacked is how many bytes of an image are unpacked, if it is there for one platform.
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

// isIndex tells whether an image of the containerd store is a list of platforms.
func isIndex(d *ocispec.Descriptor) bool {
	return d != nil && (d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == "application/vnd.docker.distribution.manifest.list.v2+json")
}

// isDigested tells whether a digest reference points to the image. Graph drivers
// keep such references in RepoDigests. The containerd store keeps them among the
// tags, and makes up an entry in RepoDigests for every image that has any name.
func isDigested(record image.Summary, store model.Optional[model.ImageStore]) model.Optional[bool] {
	hasDigest := func(name string) bool { return strings.Contains(name, "@") && name != "<none>@<none>" }
	amongTags := slices.ContainsFunc(record.RepoTags, hasDigest)
	amongDigests := slices.ContainsFunc(record.RepoDigests, hasDigest)
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

// firstOfEach leaves out what has the ID of something before it: no engine lists a thing
// twice, and to count it twice would be worse than to take the wrong one of the two.
func firstOfEach[T any](list []T, id func(T) string) []T {
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(thing T) bool {
		again := seen[id(thing)]
		seen[id(thing)] = true
		return again
	})
}

// translateContainers turns the engine's records into the inventory's.
func translateContainers(list []container.Summary) []model.Container {
	containers := make([]model.Container, 0, len(list))
	for _, record := range list {
		translated := model.Container{
			ID:      record.ID,
			ImageID: record.ImageID,
			State:   model.State(record.State),
		}
		if translated.State == model.Created {
			translated.StoppedAt = model.Known(time.Unix(record.Created, 0))
		}
		if record.Image != record.ImageID { // else it may be so because the name has moved on
			translated.CreatedFrom = model.Known(translateReference(record.Image, record.ImageID))
		}
		translated.Volumes, translated.MountedImages = translateMounts(record.Mounts)
		containers = append(containers, translated)
	}
	return firstOfEach(containers, func(c model.Container) string { return c.ID })
}

// translateInspectedContainer is translateContainers for a look at one.
func translateInspectedContainer(inspected container.InspectResponse) model.Container {
	translated := model.Container{
		ID:      inspected.ID,
		ImageID: inspected.Image,
		State:   model.State(inspected.State.Status),
	}
	translated.Volumes, translated.MountedImages = translateMounts(inspected.Mounts)
	if inspected.Config != nil {
		translated.CreatedFrom = model.Known(translateReference(inspected.Config.Image, inspected.Image))
	}
	// A container that never ran has a time of finishing, too: the year 1.
	for _, text := range []string{inspected.State.FinishedAt, inspected.Created} {
		at, err := time.Parse(time.RFC3339Nano, text)
		if translated.State.Stopped() && err == nil && at.Year() > 1 {
			translated.StoppedAt = model.Known(at)
			break
		}
	}
	return translated
}

// translateReference reads how an image was named for a container, as the containerd
// store's prune does (moby: filterImagesUsedByContainers).
func translateReference(name, imageID string) model.Reference {
	isID := strings.HasPrefix(imageID, "sha256:"+strings.TrimPrefix(name, "sha256:"))
	from := model.Reference{Pinned: isID || strings.HasSuffix(name, "@"+imageID)}
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		if tagged, isTagged := reference.TagNameOnly(named).(reference.NamedTagged); isTagged {
			from.Tag = reference.FamiliarName(tagged) + ":" + tagged.Tag()
		}
	}
	return from
}

// translateMounts names the volumes and the images that a container mounts.
func translateMounts(mounts []container.MountPoint) (volumes, images []string) {
	for _, m := range mounts {
		switch {
		case m.Type == mount.TypeVolume && m.Name != "":
			volumes = append(volumes, m.Name)
		case m.Type == mount.TypeImage:
			images = append(images, translateMounted(m.Name))
		}
	}
	return volumes, images
}

// translateMounted reads how an image was named for a mount.
func translateMounted(name string) string {
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

// translateVolumes turns the engine's records into the inventory's, without sizes.
func translateVolumes(list []*volume.Volume) []model.Volume {
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

// translateCache turns the engine's records into the inventory's.
func translateCache(list []*build.CacheRecord) ([]model.CacheRecord, error) {
	records := make([]model.CacheRecord, 0, len(list))
	for _, record := range list {
		if record == nil {
			continue
		}
		if record.ID == "" {
			return nil, errIncomplete
		}
		translated := model.CacheRecord{
			Size:             sizeOf(record.Size),
			ID:               record.ID,
			Parents:          record.Parents,
			Type:             record.Type,
			InUse:            record.InUse,
			Shared:           record.Shared,
			ExcludesSnapshot: isTaken(record),
			Rewritten:        record.UsageCount > 1 && isWritable(record),
		}
		//lint:ignore SA1019 before API 1.42 there is nothing else
		if parent := record.Parent; parent != "" && len(record.Parents) == 0 {
			translated.Parents = []string{parent}
		}
		records = append(records, translated)
	}
	return firstOfEach(records, func(r model.CacheRecord) string { return r.ID }), nil
}

// isTaken tells whether a record is of a layer that a build took from an image of the
// engine: "from local …" with graph drivers, which count it as 0 bytes, and without
// any description with the containerd store, which counts its blob only.
func isTaken(record *build.CacheRecord) bool {
	return record.Description == "" || strings.HasPrefix(record.Description, "from ") && record.Size == 0
}

// isWritable tells whether a record is none that a step makes once and for all: a context,
// a cache mount ("RUN --mount=type=cache") or a clone of a repository.
func isWritable(record *build.CacheRecord) bool {
	return record.Type == "source.local" || record.Type == "exec.cachemount" || strings.HasPrefix(record.Description, "shared git repo ")
}

// translateContent puts together what an image is made of. An image that none can be
// is unknown: to find out which steps are layers takes time by both their numbers.
func translateContent(diffIDs []string, history []image.HistoryResponseItem) model.Optional[model.Content] {
	const mostLayers, mostSteps = 1000, 10000 // overlay file systems have 500 layers at most
	if len(diffIDs) > mostLayers || len(history) > mostSteps {
		return model.Optional[model.Content]{}
	}
	content := model.Content{DiffIDs: diffIDs}
	var sum int64
	for _, record := range slices.Backward(history) {
		if record.Size < 0 || record.Size > largestImage-sum {
			return model.Optional[model.Content]{}
		}
		sum += record.Size
		content.History = append(content.History, model.Step{Size: record.Size, NoLayer: makesNoLayer(record.CreatedBy)})
	}
	return model.Known(content)
}

// largestImage is how many bytes an image has at most. Beyond it they are no size but a
// mistake, and sums of them would overflow.
const largestImage = 1 << 44

// sizeOf is what the engine says of the size of an image, of a part of it or of a record
// of the cache. −1 is its "not computed".
func sizeOf(bytes int64) model.Optional[int64] {
	if bytes < 0 || bytes > largestImage {
		return model.Optional[int64]{}
	}
	return model.Known(bytes)
}

// makesNoLayer tells whether an instruction only changes an image's configuration. The
// classic builder writes each as a shell command that does nothing.
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

// translateInspectedImage is translateImages for a look at one. Its size is left out:
// the containerd store counts another one in its lists. Its digests are true with
// either store.
func translateInspectedImage(inspected image.InspectResponse) model.Image {
	summary := image.Summary{
		ID: inspected.ID,
		//lint:ignore SA1019 lists go on to tell the parent, and a look must tell the same
		ParentID:    inspected.Parent,
		RepoTags:    inspected.RepoTags,
		RepoDigests: inspected.RepoDigests,
		Size:        -1,
		SharedSize:  -1,
	}
	return translateImages([]image.Summary{summary}, model.Known(model.GraphDriver))[0]
}
