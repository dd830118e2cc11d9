package containerd

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"

	content "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fakeStore is a containerd with the store of one engine.
type fakeStore struct {
	mu        sync.Mutex
	calls     []string // methods
	fails     map[string]error
	before    func(method string) // is called before each answer
	names     []*images.Image
	leases    []*leases.Lease
	resources map[string][]*leases.Resource
	blobs     map[string][]byte
	labels    map[string]map[string]string // of blobs and snapshots
	layers    []*snapshots.Info
	usage     map[string]int64
	elsewhere []string // digests in the other namespace
}

var created = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// put adds a blob and returns its digest.
func (f *fakeStore) put(blob any, labels map[string]string) string {
	text, _ := json.Marshal(blob)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	f.blobs[digest], f.labels[digest] = text, labels
	return digest
}

// newFakeStore returns a store with the image app:1 of one layer, which a container uses.
func newFakeStore() (f *fakeStore, image string) {
	f = &fakeStore{fails: make(map[string]error), resources: make(map[string][]*leases.Resource), blobs: make(map[string][]byte), labels: make(map[string]map[string]string), usage: make(map[string]int64)}
	image = f.addImage("docker.io/library/app:1", "diff", 100)
	f.layers = append(f.layers,
		&snapshots.Info{Name: "c-init", Parent: "sha256:diff", Kind: snapshots.Kind_COMMITTED},
		&snapshots.Info{Name: "c", Parent: "c-init", Kind: snapshots.Kind_ACTIVE},
		&snapshots.Info{Name: "r", Kind: snapshots.Kind_ACTIVE})
	f.usage["c-init"], f.usage["r"] = 7, 9
	f.leases = append(f.leases, &leases.Lease{ID: "c", CreatedAt: timestamppb.New(created)},
		&leases.Lease{ID: "r", CreatedAt: timestamppb.New(created), Labels: map[string]string{"containerd.io/gc.flat": "now"}})
	f.resources["c"] = []*leases.Resource{{ID: "c", Type: "snapshots/overlayfs"}, {ID: "c-init", Type: "snapshots/overlayfs"}}
	f.resources["r"] = []*leases.Resource{{ID: "r", Type: "snapshots/overlayfs"}, {ID: "x", Type: "snapshots/native"}, {ID: "x", Type: "ingests"}}
	return f, image
}

// addImage adds an image of one layer, and returns its ID.
func (f *fakeStore) addImage(name, diff string, size int64) string {
	config := f.put(map[string]any{"created": created, "rootfs": map[string]any{"diff_ids": []string{"sha256:" + diff}}, "os": "linux"}, map[string]string{"containerd.io/gc.ref.snapshot.overlayfs": "sha256:" + diff})
	layer := f.put("layer of "+diff, nil)
	manifest := f.put(map[string]any{
		"config": map[string]any{"digest": config, "size": len(f.blobs[config])},
		"layers": []any{map[string]any{"digest": layer, "size": len(f.blobs[layer]), "mediaType": "application/vnd.oci.image.layer.v1.tar"}},
	}, map[string]string{"containerd.io/gc.ref.content.config": config, "containerd.io/gc.ref.content.l.0": layer})
	f.layers = append(f.layers, &snapshots.Info{Name: "sha256:" + diff, Kind: snapshots.Kind_COMMITTED})
	f.usage["sha256:"+diff] = size
	f.names = append(f.names, &images.Image{Name: name, Target: &types.Descriptor{Digest: manifest}, CreatedAt: timestamppb.New(created)})
	return manifest
}

// serve serves the store, and returns the path of its socket.
func (f *fakeStore) serve(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "containerd") // the path of a socket is limited
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if err := f.called(info.FullMethod); err != nil {
			return nil, err
		}
		return handle(ctx, request)
	}), grpc.StreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		if err := f.called(info.FullMethod); err != nil {
			return err
		}
		return handle(server, stream)
	}))
	content.RegisterContentServer(server, contentServer{fakeStore: f})
	images.RegisterImagesServer(server, imageServer{fakeStore: f})
	leases.RegisterLeasesServer(server, leaseServer{fakeStore: f})
	namespaces.RegisterNamespacesServer(server, namespaceServer{fakeStore: f})
	snapshots.RegisterSnapshotsServer(server, snapshotServer{fakeStore: f})
	go server.Serve(listener)
	t.Cleanup(func() {
		server.Stop()
		os.RemoveAll(dir)
	})
	return path
}

func (f *fakeStore) called(method string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	short := strings.TrimPrefix(method, "/containerd.services.")
	f.calls = append(f.calls, short)
	if f.before != nil {
		f.before(short)
	}
	return f.fails[short]
}

// took returns how often each method was called since the last time.
func (f *fakeStore) took() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := make(map[string]int)
	for _, call := range f.calls {
		counts[call]++
	}
	f.calls = nil
	return counts
}

func namespaceOf(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, "containerd-namespace")
	return strings.Join(values, ",")
}

type contentServer struct {
	content.UnimplementedContentServer
	*fakeStore
}

func (f contentServer) List(_ *content.ListContentRequest, stream content.Content_ListServer) error {
	if namespace := namespaceOf(stream.Context()); namespace != "moby" {
		for _, digest := range f.elsewhere {
			stream.Send(&content.ListContentResponse{Info: []*content.Info{{Digest: digest}}})
		}
		return nil
	}
	for _, digest := range slices.Sorted(maps.Keys(f.blobs)) {
		stream.Send(&content.ListContentResponse{Info: []*content.Info{{Digest: digest, Size: int64(len(f.blobs[digest])), Labels: f.labels[digest]}}})
	}
	return nil
}

// Read sends a blob in two parts.
func (f contentServer) Read(r *content.ReadContentRequest, stream content.Content_ReadServer) error {
	blob := f.blobs[r.GetDigest()]
	stream.Send(&content.ReadContentResponse{Data: blob[:len(blob)/2]})
	return stream.Send(&content.ReadContentResponse{Data: blob[len(blob)/2:]})
}

type imageServer struct {
	images.UnimplementedImagesServer
	*fakeStore
}

func (f imageServer) List(context.Context, *images.ListImagesRequest) (*images.ListImagesResponse, error) {
	return &images.ListImagesResponse{Images: f.names}, nil
}

type leaseServer struct {
	leases.UnimplementedLeasesServer
	*fakeStore
}

func (f leaseServer) List(context.Context, *leases.ListRequest) (*leases.ListResponse, error) {
	return &leases.ListResponse{Leases: f.leases}, nil
}

func (f leaseServer) ListResources(_ context.Context, r *leases.ListResourcesRequest) (*leases.ListResourcesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.leases, func(l *leases.Lease) bool { return l.GetID() == r.GetID() }) {
		return nil, status.Error(codes.NotFound, "lease "+r.GetID())
	}
	return &leases.ListResourcesResponse{Resources: f.resources[r.GetID()]}, nil
}

type namespaceServer struct {
	namespaces.UnimplementedNamespacesServer
	*fakeStore
}

func (f namespaceServer) List(context.Context, *namespaces.ListNamespacesRequest) (*namespaces.ListNamespacesResponse, error) {
	return &namespaces.ListNamespacesResponse{Namespaces: []*namespaces.Namespace{{Name: "moby"}, {Name: "moby_history"}}}, nil
}

type snapshotServer struct {
	snapshots.UnimplementedSnapshotsServer
	*fakeStore
}

func (f snapshotServer) List(_ *snapshots.ListSnapshotsRequest, stream snapshots.Snapshots_ListServer) error {
	return stream.Send(&snapshots.ListSnapshotsResponse{Info: f.layers})
}

func (f snapshotServer) Usage(_ context.Context, r *snapshots.UsageRequest) (*snapshots.UsageResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	size, exists := f.usage[r.GetKey()]
	if !exists {
		return nil, status.Error(codes.NotFound, "snapshot "+r.GetKey())
	}
	return &snapshots.UsageResponse{Size: size}, nil
}

var testEngine = Engine{Snapshotter: "overlayfs"}

// TestRead checks what is read, that only calls that read are made, and what is kept.
func TestRead(t *testing.T) {
	t.Parallel()
	f, id := newFakeStore()
	f.elsewhere = []string{id}
	client := New(f.serve(t), true)
	used := map[string]time.Time{"r": created}
	store, err := client.Read(t.Context(), testEngine, used)
	if err != nil {
		t.Fatal(err)
	}
	size := func(name string) (bytes int64) {
		for _, object := range store.Objects {
			if object.Key == model.SnapshotKey(name) {
				bytes, _ = object.Size.Get()
			}
		}
		return bytes
	}
	if size("sha256:diff") != 100 || size("c-init") != 7 || size("c") != 0 || size("r") != 9 || len(store.Objects) != 7 {
		t.Errorf("got the objects %+v", store.Objects)
	}
	i := slices.IndexFunc(store.Objects, func(o model.StoredObject) bool { return o.Key == model.BlobKey(id) })
	if o := store.Objects[i]; !o.IsElsewhere || len(o.References) != 2 {
		t.Errorf("got the manifest %+v, want one that another namespace has, with two references", o)
	}
	wantLeases := []model.StoredLease{{ID: "c", Resources: []string{"snapshot/c", "snapshot/c-init"}}, {ID: "r", Resources: []string{"snapshot/r"}, IsFlat: true}}
	if !reflect.DeepEqual(store.Leases, wantLeases) {
		t.Errorf("got the leases %+v, want %+v", store.Leases, wantLeases)
	}
	var content int64
	for _, blob := range f.blobs {
		content += int64(len(blob))
	}
	want := model.Image{
		ID: id, Tags: []string{"app:1"}, Repositories: []string{"app"}, HasDigest: model.Known(false), Created: model.Known(created.Unix()),
		Size: model.Known(content + 100), Sizes: &model.StoreSizes{Unpacked: model.Known[int64](100)},
	}
	if !reflect.DeepEqual(store.ImageList, []model.Image{want}) {
		t.Errorf("got the images %+v, want %+v", store.ImageList, want)
	}
	if c := store.Contents[id]; !reflect.DeepEqual(c, model.Content{DiffIDs: []string{"sha256:diff"}, History: []model.Step{{Size: 100}}}) {
		t.Errorf("got the content %+v", c)
	}
	for call := range f.took() {
		if !isReadOnly(call) {
			t.Errorf("got a call of %s", call)
		}
	}
	again, err := client.Read(t.Context(), testEngine, used)
	if err != nil || !reflect.DeepEqual(again, store) {
		t.Errorf("got %+v and the error %v the second time", again, err)
	}
	calls := f.took()
	for _, call := range []string{"content.v1.Content/Read", "snapshots.v1.Snapshots/Usage"} {
		if calls[call] > 0 {
			t.Errorf("got %d calls of %s although nothing has changed", calls[call], call)
		}
	}
	used["r"] = created.Add(time.Second)
	f.usage["r"] = 11
	store, err = client.Read(t.Context(), testEngine, used)
	if size("r") != 11 || err != nil || f.took()["snapshots.v1.Snapshots/Usage"] != 1 {
		t.Errorf("got %d bytes and the error %v after the record was used, want 11", size("r"), err)
	}
	f.layers[0].CreatedAt = timestamppb.New(created) // another one of the name
	f.usage["sha256:diff"] = 200
	store, err = client.Read(t.Context(), testEngine, used)
	if size("sha256:diff") != 200 || err != nil || f.took()["snapshots.v1.Snapshots/Usage"] != 1 {
		t.Errorf("got %d bytes and the error %v after the snapshot was made again, want 200", size("sha256:diff"), err)
	}
}

// TestOnlyRead checks that no other call leaves the program.
func TestOnlyRead(t *testing.T) {
	t.Parallel()
	f, _ := newFakeStore()
	client, err := grpc.NewClient("unix://"+f.serve(t), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(onlyReadUnary), grpc.WithStreamInterceptor(onlyReadStream))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := images.NewImagesClient(client).Delete(t.Context(), &images.DeleteImageRequest{Name: "app"}); !errors.Is(err, errWrites) {
		t.Errorf("delete: got the error %v, want %v", err, errWrites)
	}
	if _, err := content.NewContentClient(client).Write(t.Context()); !errors.Is(err, errWrites) {
		t.Errorf("write: got the error %v, want %v", err, errWrites)
	}
	if calls := f.took(); len(calls) > 0 {
		t.Errorf("got the calls %v, want none", calls)
	}
}

// TestLabels checks what labels keep, and that unknown ones are not believed.
func TestLabels(t *testing.T) {
	t.Parallel()
	tests := []struct {
		labels map[string]string
		want   model.StoredObject
		fails  bool
	}{
		{map[string]string{"other": "a"}, model.StoredObject{}, false},
		{map[string]string{labelRoot: "now"}, model.StoredObject{IsRoot: true}, false},
		{map[string]string{labelBlob: "a", labelBlob + ".1": "b", labelBlob + "/x": "c"}, model.StoredObject{References: []string{"content/a", "content/b", "content/c"}}, false},
		{map[string]string{labelSnapshot + "overlayfs": "a", labelSnapshot + "overlayfs/x": "b", labelSnapshot + "native": "c"}, model.StoredObject{References: []string{"snapshot/a", "snapshot/b"}}, false},
		{map[string]string{labelBlob + "s": "a"}, model.StoredObject{}, true},
		{map[string]string{"containerd.io/gc.bref.content": "a"}, model.StoredObject{}, true},
	}
	for _, test := range tests {
		r := reading{engine: testEngine, blobKeys: new(keyring).next(model.BlobKey), snapshotKeys: new(keyring).next(model.SnapshotKey)}
		var got model.StoredObject
		err := r.readLabels(&got, test.labels)
		if (err != nil) != test.fails || err == nil && !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v: got %+v and the error %v, want %+v", test.labels, got, err, test.want)
		}
	}
}

// TestLeaseKinds checks which leases commands delete.
func TestLeaseKinds(t *testing.T) {
	t.Parallel()
	const temporary = "buildkit/lease.temporary"
	in := func(d time.Duration) string { return created.Add(d).Format(time.RFC3339) }
	tests := []struct {
		labels                       map[string]string
		isOfPull, isOfSource, expire bool
	}{
		{nil, false, false, false},
		{map[string]string{"moby/prune.images": "true", labelExpire: in(8 * time.Hour)}, true, false, true},
		{map[string]string{temporary: "now", labelExpire: in(5 * time.Minute)}, false, true, true},
		{map[string]string{temporary: "now", labelExpire: in(time.Hour)}, false, false, true},
		{map[string]string{temporary: "now", labelExpire: "never"}, false, false, false},
	}
	for _, test := range tests {
		r := reading{cache: &cache{}, leases: []*leases.Lease{{ID: "l", CreatedAt: timestamppb.New(created), Labels: test.labels}}}
		list, err := r.storedLeases()
		if err != nil || list[0].IsOfPull != test.isOfPull || list[0].IsOfSource != test.isOfSource || list[0].Expires.IsKnown() != test.expire {
			t.Errorf("%v: got %+v and the error %v", test.labels, list, err)
		}
	}
}

// TestFaults checks that a failure is one, and that the next reading is right again.
func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		breaks func(f *fakeStore, cancel func())
	}{
		{"denied", func(f *fakeStore, _ func()) {
			f.fails["leases.v1.Leases/List"] = status.Error(codes.PermissionDenied, "no")
		}},
		{"no such service", func(f *fakeStore, _ func()) {
			f.fails["snapshots.v1.Snapshots/List"] = status.Error(codes.Unimplemented, "no")
		}},
		{"no usage", func(f *fakeStore, _ func()) {
			f.fails["snapshots.v1.Snapshots/Usage"] = status.Error(codes.Internal, "no")
		}},
		{"hangs", func(f *fakeStore, cancel func()) { f.before = func(string) { cancel() } }},
		{"an unknown label", func(f *fakeStore, _ func()) { f.names[0].Labels = map[string]string{"containerd.io/gc.ref.image": "x"} }},
		{"an unknown resource", func(f *fakeStore, _ func()) { f.resources["c"][0].Type = "mounts" }},
		{"changes all the time", func(f *fakeStore, _ func()) {
			f.before = func(method string) {
				if method == "snapshots.v1.Snapshots/List" {
					f.leases = append(slices.Clone(f.leases), &leases.Lease{ID: fmt.Sprint(len(f.leases))})
				}
			}
		}},
	}
	kinds := make(map[string]string) // two causes are not one
	for _, test := range tests {
		f, _ := newFakeStore()
		client := New(f.serve(t), false)
		ctx, cancel := context.WithCancel(t.Context())
		test.breaks(f, cancel)
		_, err := client.Read(ctx, testEngine, nil)
		failure := new(model.Failure)
		if !errors.As(err, &failure) || failure.NoAccess || failure.Kind == "" || failure.Hint == "" {
			t.Errorf("%s: got the error %#v, want a failure with a kind and a hint", test.name, err)
		}
		if before, exists := kinds[failure.Kind]; exists {
			t.Errorf("%s: got the kind %q, as of %s", test.name, failure.Kind, before)
		}
		kinds[failure.Kind] = test.name
		cancel()
		f.mu.Lock()
		f.before, f.fails, f.names[0].Labels, f.resources["c"][0].Type = nil, nil, nil, "snapshots/overlayfs"
		f.mu.Unlock()
		if _, err := client.Read(t.Context(), testEngine, nil); err != nil {
			t.Errorf("%s: got the error %v afterwards, want none", test.name, err)
		}
	}
}

// TestChangedOnce checks that a store that changes once while it is read is read again.
func TestChangedOnce(t *testing.T) {
	t.Parallel()
	f, _ := newFakeStore()
	f.before = func(method string) {
		if method == "snapshots.v1.Snapshots/List" && len(f.names) == 1 {
			f.addImage("docker.io/library/new:1", "new", 50)
		}
	}
	store, err := New(f.serve(t), false).Read(t.Context(), testEngine, nil)
	if err != nil || len(store.ImageList) != 2 || len(store.Images) != 2 {
		t.Errorf("got %+v and the error %v, want both images", store.ImageList, err)
	}
}

// TestContainersComeAndGo checks that a store is read whose containers are created and removed all the
// time, and that only those of which everything was seen are in it.
func TestContainersComeAndGo(t *testing.T) {
	t.Parallel()
	f, _ := newFakeStore()
	id := func(i int) string { return fmt.Sprintf("%064x", i) }
	create := func(i int, at time.Time) {
		f.leases = append(slices.Clone(f.leases), &leases.Lease{ID: id(i), CreatedAt: timestamppb.New(at)})
		f.resources[id(i)] = []*leases.Resource{{ID: id(i), Type: "snapshots/overlayfs"}, {ID: id(i) + "-init", Type: "snapshots/overlayfs"}}
		f.layers = append(slices.Clone(f.layers), &snapshots.Info{Name: id(i) + "-init", Kind: snapshots.Kind_COMMITTED, CreatedAt: timestamppb.New(at)},
			&snapshots.Info{Name: id(i), Parent: id(i) + "-init", Kind: snapshots.Kind_ACTIVE, CreatedAt: timestamppb.New(at)})
		f.usage[id(i)+"-init"] = 5
	}
	deleteLease := func(i int) {
		f.leases = slices.DeleteFunc(slices.Clone(f.leases), func(l *leases.Lease) bool { return l.GetID() == id(i) })
	}
	create(0, created)                      // stays
	create(1, created)                      // is removed, then 2, …
	n, soon := 1, time.Now().Add(time.Hour) // for the clock of the program
	f.before = func(method string) {
		switch method {
		case "snapshots.v1.Snapshots/List":
			create(n+1, soon)
			create(1000+n, soon) // comes and goes meanwhile
		case "snapshots.v1.Snapshots/Usage":
			delete(f.usage, id(n)+"-init")
			delete(f.resources, id(n))
		case "leases.v1.Leases/ListResources":
			deleteLease(n)
			deleteLease(1000 + n)
			n++
			f.before = nil
		}
	}
	store, err := New(f.serve(t), false).Read(t.Context(), testEngine, nil)
	if err != nil || f.took()["images.v1.Images/List"] != 2 {
		t.Fatalf("got the error %v, or more than one reading", err)
	}
	var keys []string
	for _, object := range store.Objects {
		if name, isSnapshot := strings.CutPrefix(object.Key, model.SnapshotKey("")); isSnapshot && len(name) >= 64 {
			keys = append(keys, name)
		}
	}
	if want := []string{id(0), id(0) + "-init"}; !slices.Equal(keys, want) {
		t.Errorf("got the snapshots %v of containers, want %v", keys, want)
	}
	if len(store.Leases) != 3 || !slices.ContainsFunc(store.Leases, func(l model.StoredLease) bool { return l.ID == id(0) && len(l.Resources) == 2 }) {
		t.Errorf("got the leases %+v, want c, r and the container's that stays", store.Leases)
	}
}

// TestResources checks when the resources of leases are listed again: they change without any sign.
func TestResources(t *testing.T) {
	t.Parallel()
	f, _ := newFakeStore()
	client := New(f.serve(t), false)
	now := created.Add(time.Hour)
	client.now = func() time.Time { return now }
	container := strings.Repeat("0", 64)
	steps := []struct {
		name   string
		after  time.Duration
		change func()
		want   int // calls
	}{
		{"at first", 0, func() {}, 2},
		{"soon, as something may just have been created", 45 * time.Second, func() {}, 2},
		{"later", 30 * time.Second, func() {}, 2},
		{"when nothing has changed for a minute", 15 * time.Second, func() {}, 0},
		{"when a container is new", 15 * time.Second, func() { f.leases = append(f.leases, &leases.Lease{ID: container, CreatedAt: timestamppb.New(now)}) }, 1},
		{"when the lists are a minute old", 30 * time.Second, func() {}, 3},
		{"when the container is older", 45 * time.Second, func() {}, 1},
		{"when there is another lease of the name", 5 * time.Second, func() { f.leases[0] = &leases.Lease{ID: "c", CreatedAt: timestamppb.New(now)} }, 1},
		{"when a blob is new, but not that of the container", 5 * time.Second, func() { f.put("new", nil) }, 2},
		{"soon after a blob is new", 5 * time.Second, func() {}, 2},
		{"when the lists are old again", time.Hour, func() {}, 3},
	}
	for i, step := range steps {
		now = now.Add(step.after)
		f.mu.Lock()
		step.change()
		f.resources["r"][0].ID = fmt.Sprint("r", i)
		f.mu.Unlock()
		store, err := client.Read(t.Context(), testEngine, nil)
		if got := f.took()["leases.v1.Leases/ListResources"]; err != nil || got != step.want {
			t.Errorf("%s: got %d calls and the error %v, want %d", step.name, got, err, step.want)
		}
		if got := store.Leases[1].Resources; step.want > 1 && !slices.Equal(got, []string{model.SnapshotKey(fmt.Sprint("r", i))}) {
			t.Errorf("%s: got the resources %v", step.name, got)
		}
	}
}

// TestUnknownUse checks that what can be written to is measured only once while it is unknown what
// the build cache has used.
func TestUnknownUse(t *testing.T) {
	t.Parallel()
	f, _ := newFakeStore()
	client := New(f.serve(t), false)
	for i, step := range []struct {
		used map[string]time.Time
		want int
	}{{nil, 3}, {nil, 0}, {map[string]time.Time{}, 1}, {map[string]time.Time{"r": created}, 1}, {map[string]time.Time{"r": created}, 0}, {nil, 0}} {
		_, err := client.Read(t.Context(), testEngine, step.used)
		if got := f.took()["snapshots.v1.Snapshots/Usage"]; err != nil || got != step.want {
			t.Errorf("reading %d: got %d snapshots measured and the error %v, want %d", i, got, err, step.want)
		}
	}
}

// TestNestedIndexes checks that the deadline also ends a walk that makes no calls: through indexes
// that name each other again and again.
func TestNestedIndexes(t *testing.T) {
	f, _ := newFakeStore()
	index := f.put(map[string]any{"manifests": []any{}}, nil)
	for range maxIndexes {
		index = f.put(map[string]any{"manifests": slices.Repeat([]any{map[string]any{"digest": index}}, 500)}, nil)
	}
	f.names = append(f.names, &images.Image{Name: "docker.io/library/nested:1", Target: &types.Descriptor{Digest: index}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := New(f.serve(t), false).Read(ctx, Engine{Snapshotter: "overlayfs"}, nil)
	if took := time.Since(started); err == nil || took > 10*time.Second {
		t.Errorf("got the error %v after %v, want one soon", err, took)
	}
}

// TestAccess checks what is no access, and what is a failure.
func TestAccess(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none.sock")
	_, byEngine := New("", false).Read(t.Context(), Engine{Address: missing}, nil)
	_, byFlag := New("unix://"+missing, false).Read(t.Context(), Engine{}, nil)
	for err, want := range map[error]bool{byEngine: true, byFlag: false} {
		failure := new(model.Failure)
		if !errors.As(err, &failure) || failure.NoAccess != want {
			t.Errorf("got the error %#v, want no access: %v", err, want)
		}
	}
	if New(None, false) != nil {
		t.Error("got a client without an address")
	}
}

// TestMeasure checks that what a container has written is measured in the engine's namespace.
func TestMeasure(t *testing.T) {
	f, _ := newFakeStore()
	f.usage["c"] = 42
	measure, end, err := New(f.serve(t), false).Measure(t.Context(), Engine{Snapshotter: "overlayfs"})
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	if bytes, err := measure(t.Context(), "c"); err != nil || bytes != 42 {
		t.Errorf("got %d bytes, %v, want 42", bytes, err)
	}
	f.usage["c"] = -1
	if bytes, err := measure(t.Context(), "c"); err == nil {
		t.Errorf("got %d bytes, want an error", bytes)
	}
	if _, err := measure(t.Context(), "gone"); status.Code(err) != codes.NotFound {
		t.Errorf("got %v, want that it is gone", err)
	}
	if _, _, err := New(filepath.Join(t.TempDir(), "none"), false).Measure(t.Context(), Engine{}); err == nil {
		t.Error("got no error without a socket")
	}
}
