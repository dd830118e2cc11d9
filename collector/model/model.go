// Package model represents the state of one Docker engine as plain values, and counts
// its objects. It imports the standard library only and does no I/O.
package model

import "time"

// A Snapshot is the state of one engine at one moment, as far as it is known.
// Unknown is a value of its own: it is never reported as zero.
type Snapshot struct {
	At     time.Time
	Up     bool
	Engine Optional[Engine]

	// EngineStarted is when the engine started. Known only where its root directory can be read.
	EngineStarted Optional[time.Time]

	Collectors []Collector

	// Pending are the kinds of requests, like "images" or "volume sizes", of which the first
	// one is in flight.
	Pending []string

	Images Optional[[]Image]

	// Contents are the layers and history of each inspected image, by image ID.
	Contents map[string]Content

	// FailedImages are the IDs of images whose inspection failed. Figures that need their
	// layers are a minimum.
	FailedImages map[string]bool

	// ListedImages is the last image list of the containerd store, unchanged by later
	// events. Its sizes are consistent with each other. Empty with graph drivers.
	ListedImages []Image

	// ContentsVersion changes whenever Contents, FailedImages or ListedImages do, so that what
	// is computed from them can be kept. 0 if that is not known.
	ContentsVersion int

	// Store is what containerd reports about an engine with the containerd store. Known only
	// where containerd can be read.
	Store Optional[ContentStore]

	// StoreStale says that images, containers or the build cache have changed since the store
	// was read, or may have.
	StoreStale bool

	Containers Optional[[]Container] // each ID once
	Volumes    Optional[[]Volume]
	BuildCache Optional[[]CacheRecord]

	// ContainerLogs is the allocated size in bytes of the log files of all containers.
	ContainerLogs Optional[int64]

	// Leftovers is what is in the engine's root directory that no object accounts for.
	Leftovers Optional[LeftoverSizes]

	// BuildCacheStale says that an image was added or removed, or the build cache was
	// pruned, after the build cache was listed. Which records images share is unknown then.
	BuildCacheStale bool

	// LayerStore is what the engine's root directory shows. nil where it is not read, or where it
	// may have changed since.
	LayerStore *LayerStore

	Prunes      []Prune
	Filesystems []Filesystem
	Unmeasured  []string // paths of file systems that hold engine data and could not be measured

	// FreeSpace is how many bytes of each file system, by path, were available since the program
	// started, oldest first: a sample every few minutes of the last day.
	FreeSpace map[string][]Sample

	Problems []Problem // operations that fail now
}

// Sample is a number of bytes at a moment.
type Sample struct {
	At    time.Time
	Bytes int64
}

// Problem is an operation that has not succeeded since it failed, as the log reports it.
type Problem struct {
	Operation string // like "list images"
	Reason    string // what happened
	Hint      string // what to do about it; may be empty
}

// Engine is the identity of an engine (Engine API: /info).
type Engine struct {
	Version       string     `json:"version"`
	APIVersion    string     `json:"api_version"` // the negotiated one
	ImageStore    ImageStore `json:"image_store"`
	StorageDriver string     `json:"storage_driver"`
	RootDir       string     `json:"root_dir"` // where the engine keeps its data, on its host
	Hostname      string     `json:"hostname"`

	// Podman says that the engine is Podman. What cleanup commands free is unknown then: the
	// API does not show the containers of builds, which hold images.
	Podman bool `json:"podman"`

	// BackingFilesystem is the file system under the storage driver (moby:
	// graphdriver.FsNames, as "extfs"). Graph drivers only.
	BackingFilesystem string `json:"-"`
}

// ImageStore is the part of the engine that stores images. The same field of the Engine
// API can mean different things in each.
type ImageStore string

const (
	GraphDriver ImageStore = "graphdriver"
	Containerd  ImageStore = "containerd"
)

// Collector is the state of one kind of request: what docker_scrape_collector_* report.
type Collector struct {
	Name        string                  `json:"collector"`
	Success     bool                    `json:"success"` // false from the first failure or timeout on
	LastSuccess Optional[time.Time]     `json:"last_success"`
	Duration    Optional[time.Duration] `json:"duration_seconds"` // of the last success; unknown before the first one
}

// Image is one image ID. An engine may list one ID several times (containerd store before
// Engine 26: once for each name and platform); Distinct merges such records.
type Image struct {
	ID     string
	Parent string   // the image that a classic build or a commit started from, if any
	Tags   []string // without "<none>" and without digest references

	// Repositories are the repositories of the image's names, as "docker images" prints
	// them. Empty unless repositories are collected.
	Repositories []string

	// Created is when the image was built or, if it says no more, 1970 or the year 1, as Unix time in
	// seconds. Prunes with the filter until go by it.
	Created Optional[int64]

	// HasDigest is whether a digest reference (repo@sha256:…) points to the image.
	HasDigest Optional[bool]

	// Size is in bytes and includes every layer, shared or not. Graph drivers count the
	// apparent size of the content; the containerd store counts allocated blocks and the
	// compressed blobs.
	Size Optional[int64]

	// Sizes is nil with graph drivers. It never changes.
	Sizes *StoreSizes
}

// StoreSizes is what only the containerd store reports about the size of an image, in bytes.
type StoreSizes struct {
	SharedSize Optional[int64] // part of Size that other images of the same list share

	// Unpacked is the part of Size that is not blobs. Unknown if the image is present for
	// several platforms.
	Unpacked Optional[int64]

	// SeveralPlatforms says that the image is present for more than one platform, of which
	// only one is inspected.
	SeveralPlatforms bool

	IndexSize int64 // of the image index blob, which Size excludes; 0 if the image has none
}

// CreatedAt returns Created as a time.
func (i *Image) CreatedAt() Optional[time.Time] {
	if seconds, known := i.Created.Get(); known {
		return Known(time.Unix(seconds, 0))
	}
	return Optional[time.Time]{}
}

// StoreSizes returns the Sizes of an image, or unknown ones.
func (i *Image) StoreSizes() StoreSizes {
	if i.Sizes == nil {
		return StoreSizes{}
	}
	return *i.Sizes
}

// Container is one container, in any state.
type Container struct {
	ID      string
	Name    string
	Project string // of Docker Compose; empty: none
	ImageID string // may name an image that was removed by force
	State   State

	// Failed says that a request for this container failed. What it would have returned is
	// unknown, and sums over containers leave it out.
	Failed bool

	Created Optional[time.Time]

	// KeepsLog is whether its log driver keeps files in the engine's root directory, which are
	// removed with the container. Unknown unless the container has stopped.
	KeepsLog Optional[bool]

	// DirectorySize is the allocated size in bytes of the container's directory in the engine's
	// root directory, its log included, which is removed with it. Unknown unless the container
	// has stopped and the exporter may read it.
	DirectorySize Optional[int64]

	// StoppedAt is when it finished or, if it never ran, was created. Unknown unless the
	// container is stopped.
	StoppedAt Optional[time.Time]

	// CreatedFrom is the image reference that the container was created from. It decides
	// what image prunes remove with the containerd store, and is requested from it only.
	CreatedFrom Optional[Reference]

	// Size is the size of the writable layer in bytes (Engine API: SizeRw).
	Size Optional[int64]

	// ImageSize is the size in bytes of the image's layers when the container was created
	// (Engine API: SizeRootFs − SizeRw).
	ImageSize Optional[int64]

	Volumes []string // names

	// MountedImages are the images that the container mounts: their IDs or, if they were
	// mounted by tag, the tags, which may point to other images by now.
	MountedImages []string
}

// Reference is an image reference.
type Reference struct {
	Tag    string // normalized as in Image.Tags; empty if there is none
	Pinned bool   // names the image by ID or digest
}

// Volume is one volume of any driver.
type Volume struct {
	Name      string
	Anonymous bool // created without a name (label com.docker.volume.anonymous, since Engine 23)
	Local     bool // local driver without options: its data is below the engine's root directory

	// Size is the size of the volume's files in bytes. Unknown unless Local.
	Size Optional[int64]

	// SizeStale says that a container may have written to the volume since it was measured.
	SizeStale bool
}

// CacheRecord is one record of BuildKit's cache (Engine API: BuildCache of /system/df).
type CacheRecord struct {
	ID      string
	Parents []string
	Type    string // "regular", "internal", "frontend", "source.local", "exec.cachemount" and others
	InUse   bool   // by a running build
	Shared  bool   // with an image
	Size    Optional[int64]

	CreatedAt Optional[time.Time]

	// LastUsedAt is when a build last used the record. Unknown if none did.
	LastUsedAt Optional[time.Time]

	// ExcludesSnapshot says that the record's layer was taken from an image, and that Size
	// excludes the unpacked layer.
	ExcludesSnapshot bool

	// Rewritten says that more than one build step may have written to the record. Graph
	// drivers measure its size only once.
	Rewritten bool
}

// State is the state of a container (Engine API: State of /containers/json).
type State string

const (
	Created    State = "created"
	Running    State = "running"
	Paused     State = "paused"
	Restarting State = "restarting"
	Removing   State = "removing"
	Exited     State = "exited"
	Dead       State = "dead"
)

// LeftoverSizes are the sizes in bytes of what no object of the engine accounts for.
type LeftoverSizes struct {
	Layers     int64 `json:"layers"`      // folders of layers that no layer, container or record of the build cache has
	OtherStore int64 `json:"other_store"` // the image store that was used before another one
	Containers int64 `json:"containers"`  // directories of containers that the engine does not list
	Temporary  int64 `json:"temporary"`   // what pulls and builds left behind that ended early
}

// Sum returns all of them.
func (l LeftoverSizes) Sum() int64 { return l.Layers + l.OtherStore + l.Containers + l.Temporary }

// States returns the documented states. An engine may report others.
func States() []State {
	return []State{Created, Running, Paused, Restarting, Removing, Exited, Dead}
}

// Active reports whether the engine refuses to remove the image of a container in this
// state even by force (moby: Container.IsRunning).
func (s State) Active() bool {
	return s == Running || s == Paused || s == Restarting
}

// Stopped reports whether "docker container prune" removes a container in this state.
func (s State) Stopped() bool {
	return s == Created || s == Exited || s == Dead
}

// Prune is the sum of the prunes of one resource since the program started, by anyone.
type Prune struct {
	Resource Resource            `json:"resource"`
	Count    int                 `json:"count"`
	Bytes    int64               `json:"bytes"` // freed, as reported by the engine
	Last     Optional[time.Time] `json:"last"`  // by the engine's clock
}

// Resource is one kind of object that accumulates on a disk.
type Resource string

const (
	Images     Resource = "images"
	Containers Resource = "containers"
	Volumes    Resource = "volumes"
	BuildCache Resource = "build_cache"

	ContainerLogs Resource = "container_logs"
	Leftovers     Resource = "leftovers"
)

// Resources returns the resources that Docker has a prune command for.
func Resources() []Resource {
	return []Resource{Images, Containers, Volumes, BuildCache}
}

// Filesystem is a file system that holds engine data. Bytes and counts are those of statfs(2).
type Filesystem struct {
	Path      string          `json:"path"`        // the directory on the engine's host
	Type      string          `json:"-"`           // as in Engine.BackingFilesystem; empty: unknown
	Size      int64           `json:"size_bytes"`  // bytes
	Avail     int64           `json:"avail_bytes"` // bytes available to unprivileged processes
	Used      Optional[int64] `json:"-"`           // bytes; less than Size−Avail where some are reserved
	Files     Optional[int64] `json:"files"`
	FilesFree Optional[int64] `json:"files_free"`
}

// LayerStore is the layers that a graph driver has on the disk, and who holds them (moby: layer.Store,
// and the snapshotter of builder-next). It never changes once it was read.
type LayerStore struct {
	Layers map[string]StoredLayer // by chain ID

	// Mounts are the chain IDs of the layers below the writable layers, by container ID. "" if there
	// are none. The ID of a writable layer that is not a container's is of another kind.
	Mounts map[string]string

	Records map[string]StoredRecord // of the build cache, by ID
}

// StoredLayer is one layer on the disk.
type StoredLayer struct {
	Parent string // chain ID; "" if it is the lowest layer
	Size   int64  // bytes of its files
}

// StoredRecord is what a record of the build cache has on the disk: a layer, or files of its own.
type StoredRecord struct {
	ChainID string // "" if it is no layer
	Size    Optional[int64]

	// MeasuredAt is when Size was measured. Zero if it never changes.
	MeasuredAt time.Time
}

// Content is what an image consists of. It never changes for an image ID.
type Content struct {
	// DiffIDs identify the content of each layer, bottom first (Engine API: RootFS.Layers
	// of /images/{id}/json).
	DiffIDs []string

	// History are the build steps of the image, oldest first (Engine API:
	// /images/{id}/history). Every layer belongs to one of the steps.
	History []Step
}

// Step is one build step. A step of size 0 may have made an empty layer or none.
type Step struct {
	Size int64 // bytes

	// NoLayer says that the instruction never makes a layer, like ENV.
	NoLayer bool
}
