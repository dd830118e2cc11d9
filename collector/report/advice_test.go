package report

import (
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// The advice is the safest command that is enough, or else what frees most. It deletes no volumes.
func TestAdvice(t *testing.T) {
	type figures map[prune.Command]int64
	for name, test := range map[string]struct {
		avail int64
		frees figures
		want  string
	}{
		"the first that is enough": {3, figures{prune.BuilderPrune: 4, prune.ContainerPrune: 9, prune.SystemPruneAll: 50},
			"Run docker container prune: frees about 9 B, then 12.0 % is free"},
		"two together": {3, figures{prune.BuilderPrune: 4, prune.ContainerPrune: 5, prune.SystemPruneAll: 50},
			"Run docker container prune && docker builder prune: frees about 9 B, then 12.0 % is free"},
		"the safer of equal ones": {3, figures{prune.BuilderPruneUntil: 8, prune.BuilderPrune: 8, prune.SystemPruneAll: 50},
			"Run docker builder prune --filter until=168h: frees about 8 B, then 11.0 % is free"},
		"not enough": {3, figures{prune.BuilderPrune: 1, prune.SystemPruneAll: 2, prune.VolumePruneAll: 90, prune.SystemPruneAllVolumes: 90},
			"Run docker system prune --all: frees about 2 B, then 5.0 % is free, which is not enough"},
		"a safer one frees as much": {3, figures{prune.BuilderPrune: 2, prune.SystemPruneAll: 2},
			"Run docker builder prune: frees about 2 B, then 5.0 % is free, which is not enough"},
		"nothing helps":        {3, figures{prune.BuilderPrune: 0, prune.SystemPruneAll: 0}, "No cleanup command frees anything"},
		"unknown":              {3, figures{}, ""},
		"partly unknown":       {3, figures{prune.ContainerPrune: 0, prune.BuilderPrune: 4}, ""},
		"more than it can use": {3, figures{prune.BuilderPrune: 400}, "Run docker builder prune: frees about 400 B, then 100.0 % is free"},
	} {
		reclaimable := make(map[prune.Command]prune.Reclaimable)
		for command, bytes := range test.frees {
			reclaimable[command] = prune.Reclaimable{Estimate: bytes}
		}
		fs := model.Filesystem{Size: 100, Avail: test.avail}
		got := ""
		if advice := advise(fs, 0.10, reclaimable); advice != nil {
			got = advice.String()
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// Advice is given only for the disk on which cleanup commands free bytes.
func TestCleanedDisk(t *testing.T) {
	overlay := model.Engine{RootDir: "/d", ImageStore: model.GraphDriver, StorageDriver: "overlay2"}
	containerd := model.Engine{RootDir: "/d", ImageStore: model.Containerd, StorageDriver: "overlayfs"}
	for name, test := range map[string]struct {
		engine     model.Engine
		disks      []string
		unmeasured []string
		logs       int64 // of disks with 1000 bytes
		want       string
	}{
		"one disk":                  {overlay, []string{"/d"}, nil, 0, "/d"},
		"volumes elsewhere":         {overlay, []string{"/d", "/d/volumes"}, nil, 0, "/d"},
		"layers elsewhere":          {overlay, []string{"/d", "/d/overlay2"}, nil, 0, "/d/overlay2"},
		"containerd elsewhere":      {containerd, []string{"/d", "/c"}, nil, 0, "/c"},
		"containerd on the same":    {containerd, []string{"/d"}, nil, 0, "/d"},
		"only the volumes measured": {containerd, []string{"/d/volumes", "/d/tmp"}, nil, 0, ""},
		"some unmeasured":           {overlay, []string{"/d"}, []string{"/d/overlay2"}, 0, ""},
		"logs elsewhere":            {containerd, []string{"/d", "/c"}, nil, 11, ""},
		"few logs elsewhere":        {containerd, []string{"/d", "/c"}, nil, 10, "/c"},
		"logs on another disk":      {overlay, []string{"/d", "/d/containers"}, nil, 11, ""},
		"logs beside the layers":    {overlay, []string{"/d", "/d/volumes"}, nil, 11, "/d"},
		"logs on the only disk":     {containerd, []string{"/e"}, nil, 11, "/e"},
	} {
		s := prune.Summary{
			Snapshot:  model.Snapshot{Engine: model.Known(test.engine), Unmeasured: test.unmeasured},
			DiskUsage: map[model.Resource]int64{model.ContainerLogs: test.logs},
		}
		for _, path := range test.disks {
			s.Filesystems = append(s.Filesystems, model.Filesystem{Path: path, Size: 1000})
		}
		if got := cleanedDisk(s); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// The time to full is that of a steady decrease. There is none if free space grows, is constant, goes up and
// down, or has been watched too shortly.
func TestTimeToFull(t *testing.T) {
	series := func(step time.Duration, values ...int64) (samples []model.Sample) {
		for i, bytes := range values {
			samples = append(samples, model.Sample{At: now.Add(-time.Duration(len(values)-1-i) * step), Bytes: bytes})
		}
		return samples
	}
	hours := func(n float64) model.Optional[time.Duration] {
		return model.Known(time.Duration(n * float64(time.Hour)))
	}
	for name, test := range map[string]struct {
		samples []model.Sample
		want    model.Optional[time.Duration]
	}{
		"decreases":          {series(time.Hour, 600, 500, 400, 300), hours(3)},
		"nothing left":       {series(time.Hour, 300, 200, 100, 0), hours(0)},
		"increases":          {series(time.Hour, 300, 400, 500, 600), model.Optional[time.Duration]{}},
		"constant":           {series(time.Hour, 300, 300, 300, 300), model.Optional[time.Duration]{}},
		"up and down":        {series(time.Hour, 300, 100, 300, 100, 300, 100), model.Optional[time.Duration]{}},
		"25 minutes":         {series(5*time.Minute, 600, 500, 400, 300, 200, 100), model.Optional[time.Duration]{}},
		"in years":           {series(time.Hour, 1e9, 1e9-1, 1e9-2, 1e9-3), model.Optional[time.Duration]{}},
		"an earlier cleanup": {series(2*time.Hour, 10, 20, 700, 600, 500, 400), hours(8)},
		"two looks":          {series(time.Hour, 300, 200), model.Optional[time.Duration]{}},
		"none":               {nil, model.Optional[time.Duration]{}},
	} {
		got, known := timeToFull(test.samples, now).Get()
		want, wantKnown := test.want.Get()
		if known != wantKnown || (got-want).Abs() > time.Second {
			t.Errorf("%s: got %v (%v), want %v (%v)", name, got, known, want, wantKnown)
		}
	}
}

// A cause is reported once, however many requests fail for it.
func TestDistinctProblems(t *testing.T) {
	got := distinctProblems([]model.Problem{
		{Operation: "a", Reason: "x", Hint: "h"}, {Operation: "b", Reason: "x 2", Hint: "h"}, {Operation: "c", Reason: "y"}, {Operation: "d", Reason: "z"}, {Operation: "e", Reason: "y"},
	})
	if len(got) != 3 || got[0].Operation != "a" || got[1].Operation != "c" || got[2].Operation != "d" {
		t.Errorf("got %v", got)
	}
}
