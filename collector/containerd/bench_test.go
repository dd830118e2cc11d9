package containerd

import (
	"fmt"
	"runtime"
	"testing"

	leases "github.com/containerd/containerd/api/services/leases/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// BenchmarkRead measures the readings of a store after the first one, in which nothing has changed. The time
// includes that of the fake containerd. It reports what the client and its last reading keep.
func BenchmarkRead(b *testing.B) {
	for _, size := range []struct{ images, containers int }{{1000, 500}, {10000, 2000}} {
		b.Run(fmt.Sprintf("%d images, %d containers", size.images, size.containers), func(b *testing.B) {
			f, _ := newFakeStore()
			for i := range size.images {
				f.addImage(fmt.Sprintf("docker.io/team/app-%d:v%d", i/10, i), fmt.Sprintf("%064x", i), int64(i))
			}
			for i := range size.containers {
				id := fmt.Sprintf("%064x", i)
				f.leases = append(f.leases, &leases.Lease{ID: id, CreatedAt: timestamppb.New(created)})
				f.resources[id] = []*leases.Resource{{ID: id, Type: "snapshots/overlayfs"}, {ID: id + "-init", Type: "snapshots/overlayfs"}}
				f.layers = append(f.layers, &snapshots.Info{Name: id + "-init", Parent: fmt.Sprintf("sha256:%064x", i), Kind: snapshots.Kind_COMMITTED},
					&snapshots.Info{Name: id, Parent: id + "-init", Kind: snapshots.Kind_ACTIVE})
				f.usage[id+"-init"] = 5
			}
			client := New(f.serve(b), false)
			before := heap()
			var store Store
			for b.Loop() {
				var err error
				if store, err = client.Read(b.Context(), testEngine, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(heap()-before)/(1<<20), "MiB-kept")
			runtime.KeepAlive(store)
		})
	}
}

// heap returns the size of the heap without garbage in bytes.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
