package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkLayerStore reads the layer store of a host with 3,000 images of ten layers, of which three are
// their own, 1,000 containers and 2,000 records of the build cache, of which 300 are folders of 50 files.
func BenchmarkLayerStore(b *testing.B) {
	r := newTestRoot(b)
	for i := range 9000 {
		parent := ""
		if i%3 > 0 {
			parent = fmt.Sprint("layer", i-1)
		}
		r.layer(fmt.Sprint("layer", i), parent, fmt.Sprint(i))
	}
	for i := range 1000 {
		r.mount(fmt.Sprintf("container%d", i), fmt.Sprint("layer", 9*i+2))
	}
	snapshots := make(map[string]map[string]string)
	for i := range 2000 {
		id := fmt.Sprint("record", i)
		snapshots[id] = map[string]string{"committed": "folder", "chainid": chain(fmt.Sprint("layer", i))}
		if i < 300 {
			snapshots[id] = map[string]string{"parent": ""}
			for file := range 50 {
				r.write(filepath.Join("overlay2", id, "diff", fmt.Sprint("folder", file/10), fmt.Sprint(file)), strings.Repeat("x", file))
			}
		}
	}
	r.snapshots(snapshots)
	b.Run("first", func(b *testing.B) {
		defer reportCPU(b, cpu())
		for b.Loop() {
			r.read(r.reader())
		}
	})
	b.Run("later", func(b *testing.B) {
		reader := r.reader()
		r.read(reader)
		defer reportCPU(b, cpu())
		for b.Loop() {
			r.read(reader)
		}
	})
	b.Run("after a build", func(b *testing.B) {
		reader := r.reader()
		for b.Loop() {
			b.StopTimer()
			r.read(reader)
			r.used()
			b.StartTimer()
			r.read(reader)
		}
	})
	if info, err := os.Stat(filepath.Join(r.dir, snapshotsFile)); err == nil {
		b.Logf("the database has %d bytes", info.Size())
	}
}

// cpu returns the CPU time of this process.
func cpu() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// reportCPU reports the CPU time since before for each operation.
func reportCPU(b *testing.B, before time.Duration) {
	b.ReportMetric((cpu()-before).Seconds()*1e3/float64(b.N), "cpu-ms/op")
}
