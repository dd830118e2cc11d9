package docker

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/versions"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Info is what an engine reports about itself (Engine API: /info).
type Info struct {
	model.Engine
	KernelVersion     string
	ContainerdAddress string // empty: unknown
	SystemTime        string // of the engine's clock, RFC 3339
	Images            int
	Containers        int

	ContainerdNamespace string // of containers and images; empty: unknown
}

// readInfo reads /info. DriverStatus is null with some graph drivers, but always there. The
// containerd store names itself in it since it exists, Engine 24.
func readInfo(d *decoder) (info Info) {
	info.ImageStore = model.GraphDriver
	d.object("ServerVersion", &info.Version, "Driver", &info.StorageDriver, "DockerRootDir", &info.RootDir,
		"KernelVersion?", &info.KernelVersion, "Name?", &info.Hostname, "SystemTime?", &info.SystemTime, "Images", &info.Images, "Containers", &info.Containers,
		"Containerd?", func() {
			d.objectOrNull("Address?", &info.ContainerdAddress, "Namespaces?", func() { d.objectOrNull("Containers?", &info.ContainerdNamespace) })
		},
		"DriverStatus", func() {
			d.arrayOrNull(func() {
				var status []string
				switch d.read(&status); {
				case slices.Equal(status, []string{"driver-type", "io.containerd.snapshotter.v1"}):
					info.ImageStore = model.Containerd
				case len(status) == 2 && status[0] == "Backing Filesystem":
					info.BackingFilesystem = status[1]
				}
			})
		})
	d.checkID(info.Version)
	return info
}

type imageReader struct {
	store         model.ImageStore // "": unknown
	repositories  bool             // keep the names of repositories: parsing a name takes some microseconds
	hasDescriptor bool             // an image had one

	before []model.Image // the list before, in the order of IDs
	count  int           // about how many images there are
}

// list reads an image list that was requested at an API version. Images that are as in the list before
// are not kept twice: a list of the same images is that list.
func (r imageReader) list(d *decoder, version string) []model.Image {
	isSame, same := make([]bool, len(r.before)), 0
	list := make([]model.Image, 0, max(0, min(r.count, maxKept/objectBytes)-len(r.before)))
	var image model.Image
	d.array(func() {
		d.keep(objectBytes)
		image, _ = r.image(d)
		i, _ := slices.BinarySearchFunc(r.before, image.ID, func(image model.Image, id string) int { return strings.Compare(image.ID, id) })
		for ; i < len(r.before) && r.before[i].ID == image.ID; i++ {
			if !isSame[i] && reflect.DeepEqual(&r.before[i], &image) {
				isSame[i] = true
				same++
				return
			}
		}
		list = append(list, image)
	})
	r.decideAll(list, version)
	if same > 0 && same == len(r.before) && len(list) == 0 {
		return r.before
	}
	list = slices.Grow(list, same)
	for i, image := range r.before {
		if isSame[i] {
			list = append(list, image)
		}
	}
	return list
}

// decideAll decides which images have a digest reference. If the store is unknown, the list may show it:
// since API 1.48 the containerd store, and only it, gives every image a descriptor; before API 1.43 there
// was no containerd store.
func (r imageReader) decideAll(list []model.Image, version string) {
	switch {
	case r.store != "":
		return
	case r.hasDescriptor:
		r.store = model.Containerd
	case versions.LessThan(version, "1.43"), versions.GreaterThanOrEqualTo(version, "1.48"):
		r.store = model.GraphDriver
	}
	for i := range list {
		list[i].HasDigest = r.decide(list[i].HasDigest)
	}
}

// decide returns whether an image has a digest reference. That is unknown before if only the
// RepoDigests have one: graph drivers store digest references there. The containerd store
// lists them among the tags, and adds a RepoDigests entry to every image that has any name.
func (r imageReader) decide(hasDigest model.Optional[bool]) model.Optional[bool] {
	if r.store != "" && !hasDigest.IsKnown() {
		return model.Known(r.store == model.GraphDriver)
	}
	return hasDigest
}

// rootFS is the layers of an inspected image. The kind is empty if the content of no platform
// is present.
type rootFS struct {
	kind   string
	layers []string
}

// image reads an image of a list, or an inspected one.
func (r *imageReader) image(d *decoder) (image model.Image, root rootFS) {
	var tags, digests []string
	var sizes model.StoreSizes
	index := model.Known[int64](0) // size of the image index
	d.object("Id", &image.ID, "ParentId?", &image.Parent, "Parent?", &image.Parent, "Created?", func() {
		if at, known := d.time().Get(); known {
			image.Created = model.Known(at.Unix())
		}
	},
		"RepoTags", &tags, "RepoDigests", &digests, "Size", &image.Size, "SharedSize?", &sizes.SharedSize,
		"RootFS?", func() { d.object("Type?", &root.kind, "Layers?", &root.layers) },
		"Manifests?", func() { sizes.Unpacked, sizes.SeveralPlatforms = readManifests(d) },
		"Descriptor?", func() {
			r.hasDescriptor = true
			index = readDescriptor(d)
		})
	d.checkID(image.ID)
	image.Parent = imageID(image.Parent)
	if size, known := index.Get(); known {
		sizes.IndexSize = size
	} else { // then the unpacked part of Size is unknown, too
		sizes.Unpacked = model.Optional[int64]{}
	}
	if sizes != (model.StoreSizes{}) {
		image.Sizes = &sizes
	}
	if r.repositories {
		image.Repositories = repositoriesOf(slices.Concat(tags, digests))
	}
	isDigest := func(name string) bool { return strings.Contains(name, "@") && name != "<none>@<none>" }
	if amongTags := slices.ContainsFunc(tags, isDigest); amongTags || !slices.ContainsFunc(digests, isDigest) {
		image.HasDigest = model.Known(amongTags)
	}
	image.HasDigest = r.decide(image.HasDigest)
	image.Tags = slices.DeleteFunc(tags, func(tag string) bool { return tag == "<none>:<none>" || strings.Contains(tag, "@") })
	return image, root
}

// readDescriptor reads the descriptor of an image of the containerd store, and returns the size
// of its image index. That is 0 if it has none.
func readDescriptor(d *decoder) model.Optional[int64] {
	var size model.Optional[int64]
	var mediaType string
	d.object("mediaType", &mediaType, "size", &size)
	if mediaType == ocispec.MediaTypeImageIndex || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json" {
		return size
	}
	return model.Known[int64](0)
}

// readManifests reads the manifests of an image, and returns its unpacked size if it is present
// for one platform.
func readManifests(d *decoder) (bytes model.Optional[int64], severalPlatforms bool) {
	found := 0
	d.arrayOrNull(func() {
		var kind string
		var isAvailable bool
		var unpacked model.Optional[int64]
		d.object("Kind", &kind, "Available", &isAvailable, "ImageData?", func() {
			d.objectOrNull("Size", func() { d.object("Unpacked", &unpacked) })
		})
		if kind == "image" && isAvailable {
			found++
			bytes = unpacked
		}
	})
	if found > 1 {
		return model.Optional[int64]{}, true
	}
	return bytes, false
}

// readHistory reads the steps of an image, oldest first. Engine 29 returns null if there are
// none.
func readHistory(d *decoder) (steps []model.Step) {
	d.arrayOrNull(func() {
		d.keep(objectBytes)
		var step model.Step
		d.object("Size", func() {
			size, known := d.size().Get()
			if step.Size = size; !known {
				d.fail("unknown")
			}
		}, "CreatedBy?", func() { step.NoLayer = makesNoLayer(string(d.bytes())) })
		steps = append(steps, step)
	})
	slices.Reverse(steps)
	return steps
}

func containerID(c model.Container) string { return c.ID }

func readListedContainer(d *decoder) (c model.Container) {
	var name, state string
	d.object("Id", &c.ID, "Image", &name, "ImageID", &c.ImageID, "State", &state, "Created", &c.Created,
		"Names?", func() { c.Name = readContainerName(d) }, "Labels?", func() { c.Project = readProject(d) },
		"Mounts", func() { c.Volumes, c.MountedImages = readMounts(d) })
	if c.State = model.State(state); state == "" {
		d.fail("the state is empty")
	}
	if c.State == model.Created {
		c.StoppedAt = c.Created
	}
	if name != c.ImageID { // the list shows the ID also if the name has moved on
		c.CreatedFrom = model.Known(parseReference(name, c.ImageID))
	}
	return c
}

// readContainer reads an inspected container, whose state is converted, with its size in a field.
// FinishedAt of one that never ran is in the year 1.
func readContainer(d *decoder, size string, convert func(model.State) model.State) (c model.Container) {
	var name, state string
	var finished model.Optional[time.Time]
	var rootFS model.Optional[int64]
	hasConfig, keepsLog := false, true
	d.object("Id", &c.ID, "Name?", &c.Name, "Image", &c.ImageID, "Created?", &c.Created, size, &c.Size, "SizeRootFs?", &rootFS,
		"State", func() { d.object("Status", &state, "FinishedAt?", &finished) },
		"HostConfig?", func() {
			d.objectOrNull("LogConfig?", func() { keepsLog = readLogConfig(d) })
		},
		"Mounts?", func() { c.Volumes, c.MountedImages = readMounts(d) },
		"Config?", func() {
			hasConfig = true
			d.objectOrNull("Image?", &name, "Labels?", func() { c.Project = readProject(d) })
		})
	c.Name = strings.TrimPrefix(c.Name, "/")
	if c.State = convert(model.State(state)); state == "" {
		d.fail("the state is empty")
	}
	if hasConfig {
		c.CreatedFrom = model.Known(parseReference(name, c.ImageID))
	}
	if at, known := c.Created.Get(); known {
		c.Created = model.Known(at.Truncate(time.Second)) // as a list has it
	}
	if c.State.Stopped() {
		c.KeepsLog = model.Known(keepsLog)
		if at, known := finished.Get(); known && at.Year() <= 1 {
			finished = c.Created
		}
		at, known := finished.Get()
		if c.Failed = !known || at.Year() <= 1; !c.Failed {
			c.StoppedAt = finished
		}
	}
	writable, writableKnown := c.Size.Get()
	if all, known := rootFS.Get(); known && writableKnown && all >= writable {
		c.ImageSize = model.Known(all - writable)
	}
	return c
}

// readContainerName reads the names of a container, of which those with two slashes are links.
func readContainerName(d *decoder) (name string) {
	var names []string
	d.read(&names)
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

// readProject reads the labels of a container, and returns its project of Docker Compose.
func readProject(d *decoder) (project string) {
	d.objectOrNull("com.docker.compose.project?", &project)
	return project
}

// readLogConfig reports whether the log of a container is in files of the engine. Since Engine
// 20.10 it also caches what a remote driver sends (moby: logger/loggerutils/cache), except of
// journald, which can be read.
func readLogConfig(d *decoder) bool {
	var driver, cacheDisabled string
	d.object("Type?", &driver, "Config?", func() { d.objectOrNull("cache-disabled?", &cacheDisabled) })
	switch driver {
	case "none", "journald":
		return false
	case "json-file", "local":
		return true
	}
	return cacheDisabled != "true"
}

func readMounts(d *decoder) (volumes, images []string) {
	d.arrayOrNull(func() {
		d.keep(headerBytes)
		var kind, name string
		d.object("Type?", &kind, "Name?", &name)
		switch {
		case kind == "volume" && name != "":
			volumes = append(volumes, name)
		case kind == "image":
			images = append(images, parseMountedImage(name))
		}
	})
	return volumes, images
}

func volumeName(v model.Volume) string { return v.Name }

// readVolumes reads /volumes, which has no sizes. Engine 20.10 returns null if there are none.
// Of one name, the first volume counts: those of a Swarm cluster come after those of the engine
// (moby: volumeRouter.getVolumesList).
func readVolumes(d *decoder) (volumes []model.Volume) {
	seen := make(map[string]bool)
	d.object("Volumes", func() {
		d.arrayOrNull(func() {
			d.keep(objectBytes)
			v := readVolume(d)
			if d.checkID(v.Name); !seen[v.Name] {
				seen[v.Name], volumes = true, append(volumes, v)
			}
		})
	})
	return volumes
}

func readVolume(d *decoder) (v model.Volume) {
	var driver string
	hasOptions := false
	d.object("Name", &v.Name, "Driver", &driver, "UsageData?", func() { d.objectOrNull("Size", &v.Size) },
		"Labels", func() {
			d.objectOrNull("com.docker.volume.anonymous?", func() {
				v.Anonymous = true
				d.skip()
			})
		},
		"Options", func() {
			if !d.null() {
				d.each(func([]byte) {
					hasOptions = true
					d.skip()
				})
			}
		})
	v.Local = driver == "local" && !hasOptions
	return v
}

// DiskUsage is a part of what /system/df returns.
type DiskUsage struct {
	VolumeSizes map[string]int64 // by name, in bytes
	BuildCache  []model.CacheRecord
}

// readDiskUsage reads /system/df, of which the given fields are wanted, or not if their names
// end with "?". Engine 20.10 returns null for a list without elements.
func readDiskUsage(d *decoder, volumes, buildCache string) (usage DiskUsage) {
	usage.VolumeSizes = make(map[string]int64)
	d.object(volumes, func() {
		if d.null() {
			return
		}
		for _, v := range distinct(d, volumeName, readVolume) {
			if size, known := v.Size.Get(); known {
				usage.VolumeSizes[v.Name] = size
			}
		}
	}, buildCache, func() {
		if !d.null() {
			usage.BuildCache = distinct(d, func(r model.CacheRecord) string { return r.ID }, readCacheRecord)
		}
	})
	return usage
}

func readCacheRecord(d *decoder) (record model.CacheRecord) {
	var parent string
	var usageCount int
	var isDescribed, isFrom, isClone bool
	d.object("ID", &record.ID, "Type", &record.Type, "InUse", &record.InUse, "Shared", &record.Shared, "Size", &record.Size,
		" Parents?", &record.Parents, // the Engine API has the space
		"Parent?", &parent, // before API 1.42
		"UsageCount?", &usageCount,
		"CreatedAt?", func() {
			if !d.null() {
				record.CreatedAt = d.time()
			}
		},
		"LastUsedAt?", func() {
			if !d.null() { // never
				record.LastUsedAt = d.time()
			}
		},
		"Description?", func() {
			text := d.bytes()
			isDescribed, isFrom, isClone = len(text) > 0, bytes.HasPrefix(text, []byte("from ")), bytes.HasPrefix(text, []byte("shared git repo "))
		})
	if parent != "" && len(record.Parents) == 0 {
		record.Parents = []string{parent}
	}
	// A layer that a build took from an image of the engine. Graph drivers describe it as "from
	// local …" with 0 bytes; the containerd store has no description, and counts only its blob.
	record.ExcludesSnapshot = !isDescribed || isFrom && record.Size == model.Known[int64](0)
	// Several builds may write to a context, a cache mount ("RUN --mount=type=cache") or a clone
	// of a repository.
	isWritable := record.Type == "source.local" || record.Type == "exec.cachemount" || isClone
	record.Rewritten = isWritable && usageCount > 1
	return record
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
