package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"

	content "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/distribution/reference"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Store is what containerd keeps for an engine.
type Store struct {
	model.ContentStore
	ImageList []model.Image            // as the engine lists them
	Contents  map[string]model.Content // of images, by ID
}

// cache is what does not change, or what can be recognized as unchanged.
type cache struct {
	sizes     map[string]measured  // of snapshots, by name
	documents map[string]*document // by digest
	names     []string             // of what containers do not create
	changed   time.Time            // when the names were seen to have changed
	resources map[string]listing   // of leases, by ID

	blobKeys, snapshotKeys *keyring // of the last reading
}

type listing struct {
	at   time.Time
	keys []string
}

// measured is the size of a snapshot.
type measured struct {
	bytes   int64
	created time.Time // of the snapshot
	used    time.Time // when the record of the build cache was last used, if it is known
}

type reading struct {
	services
	engine       Engine
	used         map[string]time.Time
	cache        *cache
	repositories bool
	now          func() time.Time

	names     []*images.Image
	leases    []*leases.Lease
	blobs     map[string]model.StoredObject // by digest
	snapshots map[string]snapshot           // by name
	elsewhere map[string]bool               // digests of blobs that other namespaces have

	blobKeys, snapshotKeys *keyring
}

// snapshot is a snapshot without its size.
type snapshot struct {
	model.StoredObject
	parent   string // name; "": none
	created  time.Time
	isActive bool
}

// keyring makes keys of objects. Each is kept once, also in the next reading: an object has several
// references, and two readings have nearly the same ones.
type keyring struct {
	make         func(name string) string
	before, keys map[string]string // by name
}

func (k *keyring) key(name string) string {
	key, exists := k.keys[name]
	if !exists {
		if key, exists = k.before[name]; !exists {
			key = k.make(name)
		}
		k.keys[key[len(key)-len(name):]] = key
	}
	return key
}

// next returns the ring of the next reading.
func (k *keyring) next(makeKey func(name string) string) *keyring {
	ring := &keyring{make: makeKey, keys: make(map[string]string)}
	if k != nil {
		ring.before = k.keys
	}
	return ring
}

const (
	maxReadings = 5                     // of a store that changes meanwhile
	pause       = 40 * time.Millisecond // before the second reading; doubles with each
	parallel    = 4                     // calls at the same time

	// settled is how long resources of leases are listed again after a change: BuildKit adds an
	// object to a lease after it has created it. It is also for how long a list is valid, because
	// an object that has existed before is added without any other change.
	settled = time.Minute

	// containerSettled is for how long the list of a container is valid. The engine adds nothing to its
	// lease after it was created (moby: daemon/containerd.ImageService.createLayer).
	containerSettled = 30 * time.Minute
)

var errChanges = errors.New("the store has changed again and again while it was read")

// read reads everything. Lists are of one time only if names and leases were the same before
// and after. Leases of containers may come and go meanwhile, because nothing else keeps what they
// keep.
func (r *reading) read(ctx context.Context) (Store, error) {
	if err := r.readElsewhere(ctx); err != nil {
		return Store{}, err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", r.engine.Namespace)
	if err := r.readNames(ctx); err != nil {
		return Store{}, err
	}
	for i := range maxReadings {
		if i > 0 {
			select {
			case <-time.After(pause << (i - 1)):
			case <-ctx.Done():
				return Store{}, ctx.Err()
			}
		}
		started, before, leasesBefore := r.now(), r.fingerprint(), r.leases
		store, err := r.readObjects(ctx)
		if err != nil && status.Code(err) != codes.NotFound { // gone since it was listed
			return Store{}, err
		}
		if again := r.readNames(ctx); again != nil {
			return Store{}, again
		}
		if err == nil && slices.Equal(before, r.fingerprint()) {
			r.dropUnsettled(&store, leasesBefore, started)
			return store, nil
		}
	}
	return Store{}, errChanges
}

// isContainer reports whether an ID is one of a container (moby: stringid.GenerateRandomID).
// Containerd has a lease and two snapshots for it: ID and ID-init.
func isContainer(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// containerOf returns the container that a snapshot is part of, or "".
func containerOf(snapshot string) string {
	if id := strings.TrimSuffix(snapshot, "-init"); isContainer(id) {
		return id
	}
	return ""
}

// dropUnsettled removes containers that were created or removed since a time. Their leases are in
// only one of two lists, or in none although the snapshots are new.
func (r *reading) dropUnsettled(store *Store, leasesBefore []*leases.Lease, started time.Time) {
	before, after := make(map[string]bool), make(map[string]bool)
	for _, lease := range leasesBefore {
		before[lease.GetID()] = true
	}
	for _, lease := range r.leases {
		after[lease.GetID()] = true
	}
	store.Leases = slices.DeleteFunc(store.Leases, func(l model.StoredLease) bool { return !after[l.ID] })
	store.Objects = slices.DeleteFunc(store.Objects, func(o model.StoredObject) bool {
		name, isSnapshot := strings.CutPrefix(o.Key, model.SnapshotKey(""))
		id := containerOf(name)
		isNew := isSnapshot && r.snapshots[name].created.After(started)
		return isSnapshot && id != "" && (before[id] != after[id] || !after[id] && isNew)
	})
}

// readElsewhere reads which blobs other namespaces have.
func (r *reading) readElsewhere(ctx context.Context) error {
	list, err := r.services.namespaces.List(ctx, &namespaces.ListNamespacesRequest{})
	if err != nil {
		return err
	}
	r.elsewhere = make(map[string]bool)
	for _, namespace := range list.GetNamespaces() {
		if namespace.GetName() == r.engine.Namespace {
			continue
		}
		blobs, err := r.listDigests(metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace.GetName()))
		if err != nil {
			return err
		}
		for digest := range blobs {
			r.elsewhere[digest] = true
		}
	}
	return nil
}

func (r *reading) readNames(ctx context.Context) error {
	names, err := r.services.images.List(ctx, &images.ListImagesRequest{})
	if err != nil {
		return err
	}
	list, err := r.services.leases.List(ctx, &leases.ListRequest{})
	r.names, r.leases = names.GetImages(), list.GetLeases()
	return err
}

// fingerprint identifies the names, and the leases that are no container's.
func (r *reading) fingerprint() (lines []string) {
	for _, name := range r.names {
		lines = append(lines, name.GetName()+" "+name.GetTarget().GetDigest())
	}
	for _, lease := range r.leases {
		if !isContainer(lease.GetID()) {
			lines = append(lines, lease.GetID())
		}
	}
	slices.Sort(lines)
	return lines
}

// readObjects reads everything but names and leases.
func (r *reading) readObjects(ctx context.Context) (Store, error) {
	var err error
	r.blobKeys, r.snapshotKeys = r.cache.blobKeys.next(model.BlobKey), r.cache.snapshotKeys.next(model.SnapshotKey)
	if r.blobs, err = r.listBlobs(ctx); err != nil {
		return Store{}, err
	}
	if r.snapshots, err = r.listSnapshots(ctx); err != nil {
		return Store{}, err
	}
	if err = r.readSizes(ctx); err != nil {
		return Store{}, err
	}
	if err = r.readResources(ctx); err != nil {
		return Store{}, err
	}
	store := Store{ContentStore: model.ContentStore{Objects: r.objects()}}
	if store.Leases, err = r.storedLeases(); err != nil {
		return Store{}, err
	}
	for _, name := range r.names {
		expires, err := expiry(name.GetLabels())
		if err != nil {
			return Store{}, err
		}
		store.Images = append(store.Images, model.StoredImage{
			Name: familiarName(name.GetName()), Target: name.GetTarget().GetDigest(), Created: name.GetCreatedAt().AsTime(), Expires: expires,
		})
	}
	if err := r.fillImages(ctx, &store); err != nil {
		return Store{}, err
	}
	r.blobKeys.before, r.snapshotKeys.before = nil, nil
	r.cache.blobKeys, r.cache.snapshotKeys = r.blobKeys, r.snapshotKeys
	return store, nil
}

// familiarName returns the name of an image as the engine lists it.
func familiarName(name string) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil && !strings.HasPrefix(name, "moby-dangling@") {
		return reference.FamiliarString(named)
	}
	return name
}

// listed collects the items of a stream by name, as what is kept of them.
func listed[R, T, K any](receive func() (R, error), items func(R) []T, keep func(T) (name string, kept K, err error)) (map[string]K, error) {
	found := make(map[string]K)
	for {
		response, err := receive()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		for _, item := range items(response) {
			name, kept, err := keep(item)
			if err != nil {
				return nil, err
			}
			found[name] = kept
		}
	}
}

func (r *reading) listDigests(ctx context.Context) (map[string]struct{}, error) {
	stream, err := r.content.List(ctx, &content.ListContentRequest{})
	if err != nil {
		return nil, err
	}
	return listed(stream.Recv, (*content.ListContentResponse).GetInfo, func(blob *content.Info) (string, struct{}, error) {
		return blob.GetDigest(), struct{}{}, nil
	})
}

func (r *reading) listBlobs(ctx context.Context) (map[string]model.StoredObject, error) {
	stream, err := r.content.List(ctx, &content.ListContentRequest{})
	if err != nil {
		return nil, err
	}
	return listed(stream.Recv, (*content.ListContentResponse).GetInfo, func(blob *content.Info) (string, model.StoredObject, error) {
		digest := blob.GetDigest()
		object := model.StoredObject{Key: r.blobKeys.key(digest), Size: model.Known(blob.GetSize()), IsElsewhere: r.elsewhere[digest]}
		err := r.readLabels(&object, blob.GetLabels())
		return strings.TrimPrefix(object.Key, model.BlobKey("")), object, err
	})
}

func (r *reading) listSnapshots(ctx context.Context) (map[string]snapshot, error) {
	stream, err := r.services.snapshots.List(ctx, &snapshots.ListSnapshotsRequest{Snapshotter: r.engine.Snapshotter})
	if err != nil {
		return nil, err
	}
	return listed(stream.Recv, (*snapshots.ListSnapshotsResponse).GetInfo, func(info *snapshots.Info) (string, snapshot, error) {
		s := snapshot{created: info.GetCreatedAt().AsTime(), isActive: info.GetKind() == snapshots.Kind_ACTIVE}
		if s.Key = r.snapshotKeys.key(info.GetName()); info.GetParent() != "" {
			s.Parent = r.snapshotKeys.key(info.GetParent())
			s.parent = strings.TrimPrefix(s.Parent, model.SnapshotKey(""))
		}
		err := r.readLabels(&s.StoredObject, info.GetLabels())
		return strings.TrimPrefix(s.Key, model.SnapshotKey("")), s, err
	})
}

// readSizes reads the sizes of snapshots. That of a committed one never changes. That of a
// container is known from the engine, and that of a record of the build cache that can be
// written to is read again when it was used, or each time while it is in use. While no records are
// known, no figure has their sizes. What was read before a failure is kept.
func (r *reading) readSizes(ctx context.Context) error {
	sizes := make(map[string]measured, len(r.snapshots))
	var unknown []string
	for name, snapshot := range r.snapshots {
		before, isCached := r.cache.sizes[name]
		isUnused := !snapshot.isActive || r.used == nil || !r.used[name].IsZero() && before.used.Equal(r.used[name])
		switch {
		case isCached && isUnused && before.created.Equal(snapshot.created):
			sizes[name] = before
		default:
			if _, isContainer := r.snapshots[name+"-init"]; !snapshot.isActive || !isContainer {
				unknown = append(unknown, name)
			}
		}
	}
	results := make([]model.Optional[int64], len(unknown))
	err := r.forEach(ctx, len(unknown), func(ctx context.Context, i int) error {
		usage, err := r.services.snapshots.Usage(ctx, &snapshots.UsageRequest{Snapshotter: r.engine.Snapshotter, Key: unknown[i]})
		if err == nil {
			results[i] = model.Known(usage.GetSize())
		}
		return unlessGone(err, containerOf(unknown[i]))
	})
	for i, name := range unknown {
		if bytes, known := results[i].Get(); known {
			sizes[name] = measured{bytes, r.snapshots[name].created, r.used[name]}
		}
	}
	r.cache.sizes = sizes
	return err
}

// forEach makes calls at the same time, until one fails.
func (r *reading) forEach(ctx context.Context, n int, call func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i := range n {
		group.Go(func() error { return call(ctx, i) })
	}
	return group.Wait()
}

// unlessGone returns an error, unless it is that something of a container is gone.
func unlessGone(err error, container string) error {
	if container != "" && status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

// readResources reads the resources of leases, unless the last list of them is valid.
func (r *reading) readResources(ctx context.Context) error {
	now, names := r.now(), r.lastingNames()
	if !slices.Equal(names, r.cache.names) {
		r.cache.names, r.cache.changed = names, now
	}
	lists := make(map[string]listing, len(r.leases))
	var due []string
	for _, lease := range r.leases {
		last, created := r.cache.resources[lease.GetID()], lease.GetCreatedAt().AsTime()
		changed, valid := r.cache.changed, settled
		if isContainer(lease.GetID()) {
			changed, valid = created, containerSettled
		}
		if created.After(changed) {
			changed = created
		}
		if last.at.Sub(changed) >= settled && now.Sub(last.at) < valid {
			lists[lease.GetID()] = last
		} else {
			due = append(due, lease.GetID())
		}
	}
	results := make([][]*leases.Resource, len(due))
	err := r.forEach(ctx, len(due), func(ctx context.Context, i int) (err error) {
		list, err := r.services.leases.ListResources(ctx, &leases.ListResourcesRequest{ID: due[i]})
		results[i] = list.GetResources()
		return unlessGone(err, containerOf(due[i]))
	})
	if err != nil {
		return err
	}
	for i, id := range due {
		keys, err := r.keysOf(results[i])
		if err != nil {
			return err
		}
		lists[id] = listing{now, keys}
	}
	r.cache.resources = lists
	return nil
}

// lastingNames identifies everything that is not a container's.
func (r *reading) lastingNames() []string {
	names := slices.AppendSeq(r.fingerprint(), maps.Keys(r.blobs))
	for name := range r.snapshots {
		if containerOf(name) == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (r *reading) keysOf(resources []*leases.Resource) (keys []string, err error) {
	for _, resource := range resources {
		switch kind := resource.GetType(); {
		case kind == "content":
			keys = append(keys, r.blobKeys.key(resource.GetID()))
		case kind == "snapshots/"+r.engine.Snapshotter:
			keys = append(keys, r.snapshotKeys.key(resource.GetID()))
		case kind != "ingests" && !strings.HasPrefix(kind, "snapshots/"):
			return nil, fmt.Errorf("a lease has a resource of the unknown type %q", kind)
		}
	}
	return keys, nil
}

// objects returns the blobs and snapshots, in the order of their keys.
func (r *reading) objects() []model.StoredObject {
	objects := make([]model.StoredObject, 0, len(r.blobs)+len(r.snapshots))
	for _, blob := range r.blobs {
		objects = append(objects, blob)
	}
	for name, snapshot := range r.snapshots {
		object := snapshot.StoredObject
		if size, known := r.cache.sizes[name]; known {
			object.Size = model.Known(size.bytes)
		}
		objects = append(objects, object)
	}
	slices.SortFunc(objects, func(a, b model.StoredObject) int { return strings.Compare(a.Key, b.Key) })
	return objects
}

// The labels that containerd's garbage collector reads (containerd: core/metadata/gc.go).
const (
	labelRoot     = "containerd.io/gc.root"
	labelFlat     = "containerd.io/gc.flat"
	labelExpire   = "containerd.io/gc.expire"
	labelBlob     = "containerd.io/gc.ref.content"
	labelSnapshot = "containerd.io/gc.ref.snapshot."
	labelAny      = "containerd.io/gc."
)

// readLabels reads what an object keeps. A label of the garbage collector that is unknown is an
// error, because it may keep anything.
func (r *reading) readLabels(object *model.StoredObject, labels map[string]string) error {
	for label, value := range labels {
		blob, isBlob := strings.CutPrefix(label, labelBlob)
		snapshot, isSnapshot := strings.CutPrefix(label, labelSnapshot)
		switch {
		case label == labelRoot:
			object.IsRoot = true
		case isBlob && (blob == "" || blob[0] == '.' || blob[0] == '/'):
			object.References = append(object.References, r.blobKeys.key(value))
		case isSnapshot:
			if snapshotter, _, _ := strings.Cut(snapshot, "/"); snapshotter == r.engine.Snapshotter {
				object.References = append(object.References, r.snapshotKeys.key(value))
			}
		case strings.HasPrefix(label, labelAny):
			return fmt.Errorf("%s has the unknown label %s", object.Key, label)
		}
	}
	slices.Sort(object.References)
	return nil
}

// expiry returns until when labels say that something is valid. Containerd takes a time that it
// cannot read as none.
func expiry(labels map[string]string) (model.Optional[time.Time], error) {
	for label := range labels {
		if strings.HasPrefix(label, labelAny) && label != labelExpire && label != labelFlat {
			return model.Optional[time.Time]{}, fmt.Errorf("a name or a lease has the unknown label %s", label)
		}
	}
	return model.Of(time.Parse(time.RFC3339, labels[labelExpire])), nil
}

// lookupLease is for how long BuildKit keeps the lease of an image that it has resolved
// (BuildKit: imageutil.Config, source/containerimage).
const lookupLease = 5 * time.Minute

func (r *reading) storedLeases() (list []model.StoredLease, err error) {
	for _, lease := range r.leases {
		stored := model.StoredLease{ID: lease.GetID(), Resources: r.cache.resources[lease.GetID()].keys}
		if stored.Expires, err = expiry(lease.GetLabels()); err != nil {
			return nil, err
		}
		end, expires := stored.Expires.Get()
		_, stored.IsFlat = lease.GetLabels()[labelFlat]
		_, stored.IsOfPull = lease.GetLabels()["moby/prune.images"]
		_, isTemporary := lease.GetLabels()["buildkit/lease.temporary"]
		stored.IsOfSource = isTemporary && expires && end.Sub(lease.GetCreatedAt().AsTime()) <= lookupLease+time.Second
		list = append(list, stored)
	}
	return list, nil
}
