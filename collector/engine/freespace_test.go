package engine

import (
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// There is a sample every five minutes for a day. What was returned does not change.
func TestFreeSpace(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := make(freeSpace)
	measured := func(avail int64) []model.Filesystem { return []model.Filesystem{{Path: "/a", Avail: avail}} }
	f.add(append(measured(0), model.Filesystem{Path: "/gone"}), start)
	early := f["/a"]
	for minute := range 30 * 60 {
		f.add(measured(int64(minute)), start.Add(time.Duration(minute)*time.Minute))
	}
	if len(early) != 1 || early[0].Bytes != 0 {
		t.Errorf("what was returned has changed: %v", early)
	}
	samples := f["/a"]
	if n := len(samples); n != 288 || samples[n-1].Bytes != 30*60-5 || samples[0].Bytes != 6*60 {
		t.Errorf("%d samples from %v to %v", n, samples[0], samples[n-1])
	}
	if _, exists := f["/gone"]; exists {
		t.Error("a file system that is gone still has samples")
	}
}
