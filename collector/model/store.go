package model

import "time"

// ContentStore is what containerd keeps in the namespace of an engine: names, and blobs and
// snapshots, of which its garbage collector frees what neither a name nor a lease reaches.
type ContentStore struct {
	Images  []StoredImage
	Leases  []StoredLease
	Objects []StoredObject // each key once

	// Layers are the digests of the layers of each manifest of an image, by image ID. A record of
	// the build cache is shared if its blobs are one of these lists (BuildKit:
	// imagerefchecker.Checker.Exists).
	Layers map[string][][]string
}

// StoredImage is one name of an image (containerd: images.Image).
type StoredImage struct {
	Name    string // normalized as in Image.Tags; unchanged if it is no image reference
	Target  string // the ID of the image
	Created time.Time
	Expires Optional[time.Time] // keeps nothing from then on
}

// IsDangling reports whether the name is what the engine gives to an image that has no other.
func (i StoredImage) IsDangling() bool { return i.Name == DanglingName(i.Target) }

// DanglingName returns the name that the engine gives to an image that has no other (moby:
// daemon/containerd.danglingImageName).
func DanglingName(id string) string { return "moby-dangling@" + id }

// StoredLease keeps objects whatever else does (containerd: leases.Lease).
type StoredLease struct {
	ID        string
	Resources []string            // keys of objects
	IsFlat    bool                // keeps of references only the parents of snapshots
	Expires   Optional[time.Time] // keeps nothing from then on

	// IsOfPull says that an image prune deletes the lease (label moby/prune.images).
	IsOfPull bool

	// IsOfSource says that BuildKit keeps the lease for some minutes after it has resolved an
	// image, and that a builder prune deletes it while no build runs (BuildKit:
	// imageutil.CancelCacheLeases).
	IsOfSource bool
}

// StoredObject is a blob or a snapshot.
type StoredObject struct {
	Key  string          // BlobKey or SnapshotKey
	Size Optional[int64] // bytes; unknown for snapshots that can be written to

	Parent     string   // key of the snapshot below
	References []string // keys of the objects that it keeps

	IsRoot bool // the garbage collector keeps it

	// IsElsewhere says that another namespace has the blob, too: removing it frees nothing.
	IsElsewhere bool
}

// BlobKey returns the key of a blob.
func BlobKey(digest string) string { return "content/" + digest }

// SnapshotKey returns the key of a snapshot of the engine's snapshotter.
func SnapshotKey(name string) string { return "snapshot/" + name }
