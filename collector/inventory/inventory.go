// Package inventory knows what a Docker engine holds and what that adds up to.
// It is pure: plain values in, plain values out, nothing but the standard library.
package inventory

import "time"

// An Inventory is what one engine holds, as far as it is known.
// What the engine did not say is unknown, never zero.
type Inventory struct {
	At          time.Time // when it was taken
	Up          bool
	Engine      Optional[Engine]
	Questions   []Question
	Images      Optional[[]Image]
	Layers      *Layers // nil: unknown; of the images that were looked at so far
	Containers  Optional[[]Container]
	Volumes     Optional[[]Volume]
	Cache       Optional[[]CacheRecord]
	Filesystems []Filesystem
	Unmeasured  []string // paths of file systems that should have been measured too, and could not be
	Prunes      []Prune

	// CacheOutdated says that an image came or went since the list of the cache was
	// made, so that which records images share is not known, or that the cache was pruned.
	CacheOutdated bool
}

// An Engine is what an engine says of itself.
type Engine struct {
	Version       string
	APIVersion    string // the negotiated one
	ImageStore    ImageStore
	StorageDriver string
}

// An ImageStore is the part of the engine that keeps images.
// The same field of the Engine API means different things in each.
type ImageStore string

const (
	GraphDriver ImageStore = "graphdriver"
	Containerd  ImageStore = "containerd"
)

// A Question is one kind of thing that the engine is asked for, and how the asking went.
type Question struct {
	Kind        string
	Answered    bool                    // the last time
	Duration    Optional[time.Duration] // of the last time; unknown if it was not even put
	LastSuccess Optional[time.Time]     // when it was last answered in full
}

// An Image is one image ID. An engine may list one ID several times
// (containerd store before Engine 26: once per name and platform);
// the functions of this package take the records of one ID for one image.
type Image struct {
	ID     string
	Parent string   // the image that a classic build or a commit started from, if any
	Tags   []string // names that can move: no "<none>", no digest

	// Repositories are what its names, with a tag or a digest, stand in: each name without
	// either, as "docker images" prints it. Only filled in where that is asked for.
	Repositories []string

	// Digested tells whether a digest reference (repo@sha256:…) points here.
	Digested Optional[bool]

	// Size is in bytes, with every layer, shared or not. Overlay2 counts the
	// content's apparent bytes; the containerd store counts allocated blocks
	// and the compressed blobs beside them.
	Size Optional[int64]

	// SharedSize is the part of Size that other images of the same list have, too.
	// Only asked of the containerd store.
	SharedSize Optional[int64]

	// Unpacked is the part of Size that is no blob. Only asked of the containerd store;
	// unknown of an image that is there for several platforms.
	Unpacked Optional[int64]

	// SeveralPlatforms says that the image is there for more than one, of which only
	// one is looked at. Containerd store only.
	SeveralPlatforms bool

	// IndexSize is the size of the blob that lists the image's platforms, if it has
	// one, which Size leaves out. Containerd store only.
	IndexSize int64
}

// A Container is one container, in any state.
type Container struct {
	ID      string
	ImageID string // may name an image that was removed by force
	State   State

	// StoppedAt is when it finished or, if it never ran, was created.
	// Unknown for a container that is not stopped.
	StoppedAt Optional[time.Time]

	// CreatedFrom is how its image was named when it was created. Only asked where
	// image prunes go by it, which is the containerd store.
	CreatedFrom Optional[Reference]

	// Size is that of its writable layer in bytes (Engine API: SizeRw).
	Size Optional[int64]

	// ImageSize is the size of the layers under that in bytes, which its image had
	// when it was created (Engine API: SizeRootFs less SizeRw).
	ImageSize Optional[int64]

	Volumes []string // names

	// MountedImages are images that it mounts, beside the one that it was made from: their
	// IDs or, if they were mounted by a tag, that, which may have moved on since.
	MountedImages []string
}

// A Reference is how an image was named.
type Reference struct {
	Tag    string // as Image.Tags has it; empty if it was none
	Pinned bool   // by an ID or a digest
}

// A Volume is one volume of any driver.
type Volume struct {
	Name      string
	Anonymous bool // made without a name (label com.docker.volume.anonymous, from Engine 23 on)
	Local     bool // of the local driver and without options: its data is in the engine's root

	// Size is what its files added up to in bytes; unknown unless it is Local. A container
	// may have written to them since then if it was Touched.
	Size    Optional[int64]
	Touched bool
}

// A CacheRecord is one record of BuildKit's cache: what a step of a build has made.
type CacheRecord struct {
	ID      string
	Parents []string
	Type    string // "regular", "internal", "frontend", "source.local", "exec.cachemount" and others
	InUse   bool   // by a build that runs
	Shared  bool   // with an image
	Size    Optional[int64]

	// Uncounted says that the record holds a layer that it took from an image, and that
	// its Size leaves the unpacked layer out.
	Uncounted bool

	// Rewritten says that more than one step of a build may have written to the record.
	// Graph drivers measure it but once.
	Rewritten bool
}

// A State is what the engine calls a container's state.
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

// States are those that engines are known to have. An engine may invent others.
func States() []State {
	return []State{Created, Running, Paused, Restarting, Removing, Exited, Dead}
}

// Active tells whether a container in this state holds its image so firmly that
// the engine refuses to remove the image even by force (Engine: IsRunning).
func (s State) Active() bool {
	return s == Running || s == Paused || s == Restarting
}

// Stopped tells whether "docker container prune" removes a container in this state.
func (s State) Stopped() bool {
	return s == Created || s == Exited || s == Dead
}

// A Prune is what prunes of one resource have done since the program watches, by
// whomever they were run.
type Prune struct {
	Resource Resource
	Count    int
	Bytes    int64               // freed, as the engine says
	Last     Optional[time.Time] // by the engine's clock
}

// A Resource is one of the kinds of things that pile up on a disk.
type Resource string

const (
	Images     Resource = "images"
	Containers Resource = "containers"
	Volumes    Resource = "volumes"
	BuildCache Resource = "build_cache"
)

// Resources are all of them.
func Resources() []Resource {
	return []Resource{Images, Containers, Volumes, BuildCache}
}

// A Filesystem holds data of the engine. Bytes and counts are those of statfs(2).
type Filesystem struct {
	Path      string // the engine's root directory on its host
	Size      int64  // bytes
	Avail     int64  // bytes that an unprivileged process may still write
	Files     Optional[int64]
	FilesFree Optional[int64]
}

// An Optional is a value, or the honest absence of one. Its zero value is unknown.
type Optional[T any] struct {
	value T
	known bool
}

// Known is an Optional that has a value.
func Known[T any](value T) Optional[T] {
	return Optional[T]{value: value, known: true}
}

// Get returns the value and whether it is known.
func (o Optional[T]) Get() (value T, known bool) {
	return o.value, o.known
}
