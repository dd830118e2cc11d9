package engine

import (
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"
)

const (
	sampleInterval = 5 * time.Minute
	samplePeriod   = 24 * time.Hour
)

// freeSpace is how many bytes of each file system were available: one sample for each
// sampleInterval of the last samplePeriod. Slices that have been returned do not change.
type freeSpace map[string][]model.Sample

// add takes what was measured now. A file system that is not among it any more is dropped when
// its samples are too old.
func (f freeSpace) add(filesystems []model.Filesystem, now time.Time) {
	for _, fs := range filesystems {
		samples := f[fs.Path]
		if n := len(samples); n > 0 && now.Sub(samples[n-1].At) < sampleInterval {
			continue
		}
		f[fs.Path] = append(slices.Clone(samples), model.Sample{At: now, Bytes: fs.Avail})
	}
	for path, samples := range f {
		first := slices.IndexFunc(samples, func(s model.Sample) bool { return now.Sub(s.At) <= samplePeriod })
		if first < 0 {
			delete(f, path)
		} else if first > 0 {
			f[path] = samples[first:]
		}
	}
}
