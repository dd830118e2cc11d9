package engine

import (
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/inventory"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
)

// describe says which engine it is.
func describe(info system.Info, version string) inventory.Engine {
	return inventory.Engine{
		Version:       info.ServerVersion,
		APIVersion:    version,
		ImageStore:    storeOf(info),
		StorageDriver: info.Driver,
	}
}

// storeOf reads the image store off the driver's status, where the containerd
// store has named itself since it first came with Engine 24.
func storeOf(info system.Info) inventory.ImageStore {
	for _, status := range info.DriverStatus {
		if status == [2]string{"driver-type", "io.containerd.snapshotter.v1"} {
			return inventory.Containerd
		}
	}
	return inventory.GraphDriver
}

// imageStore tells which store made this list. Without /info the list itself may
// tell: from API 1.48 on the containerd store, and only it, gives every image a
// descriptor; before API 1.43 there was no containerd store.
func imageStore(info inventory.Optional[system.Info], list []image.Summary, version string) inventory.Optional[inventory.ImageStore] {
	if info, known := info.Get(); known {
		return inventory.Known(storeOf(info))
	}
	hasDescriptor := func(s image.Summary) bool { return s.Descriptor != nil }
	switch {
	case slices.ContainsFunc(list, hasDescriptor):
		return inventory.Known(inventory.Containerd)
	case versions.LessThan(version, "1.43"), versions.GreaterThanOrEqualTo(version, "1.48"):
		return inventory.Known(inventory.GraphDriver)
	default:
		return inventory.Optional[inventory.ImageStore]{}
	}
}

// translateImages turns the engine's records into the inventory's, one for one.
func translateImages(list []image.Summary, store inventory.Optional[inventory.ImageStore]) []inventory.Image {
	images := make([]inventory.Image, 0, len(list))
	for _, record := range list {
		translated := inventory.Image{
			ID:       record.ID,
			Parent:   record.ParentID,
			Digested: isDigested(record, store),
		}
		for _, tag := range record.RepoTags {
			if tag != "<none>:<none>" && !strings.Contains(tag, "@") {
				translated.Tags = append(translated.Tags, tag)
			}
		}
		if record.Size >= 0 { // −1 is the API's "not computed"
			translated.Size = inventory.Known(record.Size)
		}
		images = append(images, translated)
	}
	return images
}

// isDigested tells whether a digest reference points to the image. Graph drivers
// keep such references in RepoDigests. The containerd store keeps them among the
// tags, and makes up an entry in RepoDigests for every image that has any name.
func isDigested(record image.Summary, store inventory.Optional[inventory.ImageStore]) inventory.Optional[bool] {
	hasDigest := func(name string) bool { return strings.Contains(name, "@") && name != "<none>@<none>" }
	amongTags := slices.ContainsFunc(record.RepoTags, hasDigest)
	amongDigests := slices.ContainsFunc(record.RepoDigests, hasDigest)
	kind, known := store.Get()
	switch {
	case amongTags || !amongDigests:
		return inventory.Known(amongTags)
	case known:
		return inventory.Known(kind == inventory.GraphDriver)
	default:
		return inventory.Optional[bool]{}
	}
}

// translateContainers turns the engine's records into the inventory's, one for one.
func translateContainers(list []container.Summary) []inventory.Container {
	containers := make([]inventory.Container, 0, len(list))
	for _, record := range list {
		translated := inventory.Container{
			ID:      record.ID,
			ImageID: record.ImageID,
			State:   inventory.State(record.State),
		}
		if translated.State == inventory.Created {
			translated.StoppedAt = inventory.Known(time.Unix(record.Created, 0))
		}
		containers = append(containers, translated)
	}
	return containers
}

// translateInspectedContainer is translateContainers for a look at one.
func translateInspectedContainer(inspected container.InspectResponse) inventory.Container {
	translated := inventory.Container{
		ID:      inspected.ID,
		ImageID: inspected.Image,
		State:   inventory.State(inspected.State.Status),
	}
	// A container that never ran has a time of finishing, too: the year 1.
	for _, text := range []string{inspected.State.FinishedAt, inspected.Created} {
		at, err := time.Parse(time.RFC3339Nano, text)
		if translated.State.Stopped() && err == nil && at.Year() > 1 {
			translated.StoppedAt = inventory.Known(at)
			break
		}
	}
	return translated
}

// translateInspectedImage is translateImages for a look at one. Its size is left out:
// the containerd store counts another one in its lists. Its digests are true with
// either store.
func translateInspectedImage(inspected image.InspectResponse) inventory.Image {
	summary := image.Summary{
		ID: inspected.ID,
		//lint:ignore SA1019 lists go on to tell the parent, and a look must tell the same
		ParentID:    inspected.Parent,
		RepoTags:    inspected.RepoTags,
		RepoDigests: inspected.RepoDigests,
		Size:        -1,
	}
	return translateImages([]image.Summary{summary}, inventory.Known(inventory.GraphDriver))[0]
}
