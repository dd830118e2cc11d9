package e2e

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"docker_buildup_exporter/collector/docker/dockertest"

	content "github.com/containerd/containerd/api/services/content/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// containerdSocket returns the socket of the containerd that an engine has started.
func containerdSocket(engine *dockertest.Real) string {
	return filepath.Join(engine.Dir, "exec/containerd/containerd.sock")
}

// storeBytes returns the sizes of all blobs and snapshots in the containerd of an engine, by key.
func storeBytes(t *testing.T, engine *dockertest.Real) map[string]int64 {
	t.Helper()
	client, err := grpc.NewClient("unix://"+containerdSocket(engine), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	list, err := namespaces.NewNamespacesClient(client).List(t.Context(), &namespaces.ListNamespacesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	bytes := make(map[string]int64)
	for _, namespace := range list.GetNamespaces() {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "containerd-namespace", namespace.GetName())
		blobs, err := content.NewContentClient(client).List(ctx, &content.ListContentRequest{})
		if err != nil {
			t.Fatal(err)
		}
		receiveAll(t, blobs.Recv, func(response *content.ListContentResponse) {
			for _, blob := range response.GetInfo() {
				bytes[blob.GetDigest()] = blob.GetSize()
			}
		})
		addSnapshots(ctx, t, snapshots.NewSnapshotsClient(client), bytes)
	}
	return bytes
}

func addSnapshots(ctx context.Context, t *testing.T, client snapshots.SnapshotsClient, bytes map[string]int64) {
	t.Helper()
	const snapshotter = "overlayfs"
	all, err := client.List(ctx, &snapshots.ListSnapshotsRequest{Snapshotter: snapshotter})
	if err != nil {
		t.Fatal(err)
	}
	receiveAll(t, all.Recv, func(response *snapshots.ListSnapshotsResponse) {
		for _, snapshot := range response.GetInfo() {
			usage, err := client.Usage(ctx, &snapshots.UsageRequest{Snapshotter: snapshotter, Key: snapshot.GetName()})
			if err == nil { // else it is gone
				bytes["snapshot "+snapshot.GetName()] = usage.GetSize()
			}
		}
	})
}

// receiveAll takes each message of a stream.
func receiveAll[T any](t *testing.T, receive func() (T, error), take func(T)) {
	t.Helper()
	for {
		message, err := receive()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		take(message)
	}
}
