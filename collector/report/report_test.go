package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	at  = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	now = at.Add(3 * time.Second)
)

const (
	mb = 1_000_000
	gb = 1_000_000_000
)

// full returns a host of which every figure is known.
func full() prune.Summary { return fullAt(at) }

func fullAt(at time.Time) prune.Summary {
	ago := func(d time.Duration) model.Optional[time.Time] { return model.Known(at.Add(-d)) }
	took := func(d time.Duration) model.Optional[time.Duration] { return model.Known(d) }
	return prune.Summary{
		Snapshot: model.Snapshot{
			At: at, Up: true,
			Engine: model.Known(model.Engine{Version: "28.5.2", APIVersion: "1.51", ImageStore: model.GraphDriver, StorageDriver: "overlay2", RootDir: "/var/lib/docker", Hostname: "ci-runner-17"}),
			Collectors: []model.Collector{
				{Name: "build_cache", Success: true, Duration: took(84 * time.Millisecond), LastSuccess: ago(0)},
				{Name: "container_logs", Success: true, Duration: took(41 * time.Millisecond), LastSuccess: ago(0)},
				{Name: "container_sizes", Success: true, Duration: took(2300 * time.Millisecond), LastSuccess: ago(7 * time.Minute)},
				{Name: "containers", Success: true, Duration: took(9 * time.Millisecond), LastSuccess: ago(0)},
				{Name: "images", Success: true, Duration: took(31 * time.Millisecond), LastSuccess: ago(0)},
				{Name: "layers", Success: true, Duration: took(3 * time.Millisecond), LastSuccess: ago(40 * time.Hour)},
				{Name: "volumes", Success: true, Duration: took(12 * time.Second), LastSuccess: ago(26 * time.Minute)},
			},
			Filesystems: []model.Filesystem{{
				Path: "/var/lib/docker", Size: 105 * gb, Avail: 14 * gb,
				Files: model.Known[int64](6_500_000), FilesFree: model.Known[int64](5_900_000),
			}},
			FreeSpace: map[string][]model.Sample{"/var/lib/docker": {
				{At: at.Add(-10 * time.Hour), Bytes: 24 * gb}, {At: at.Add(-8 * time.Hour), Bytes: 24 * gb}, {At: at.Add(-6 * time.Hour), Bytes: 21 * gb},
				{At: at.Add(-4 * time.Hour), Bytes: 19 * gb}, {At: at.Add(-2 * time.Hour), Bytes: 16 * gb}, {At: at.Add(-5 * time.Minute), Bytes: 14_100 * mb},
			}},
			Leftovers: model.Known(model.LeftoverSizes{Layers: 250 * mb, OtherStore: 2_350 * mb, Temporary: 10 * mb}),
			Prunes: []model.Prune{
				{Resource: model.Images, Count: 2, Bytes: 5 * gb, Last: ago(30 * time.Hour)},
				{Resource: model.Containers},
				{Resource: model.Volumes, Count: 1, Bytes: 640 * mb, Last: ago(3 * time.Hour)},
			},
		},
		Holders: holdersAt(at),
		Counts:  fullCounts(),
		DiskUsage: map[model.Resource]int64{
			model.Images: 38_740 * mb, model.Containers: 2_130 * mb, model.Volumes: 12_600 * mb, model.BuildCache: 17_950 * mb, model.ContainerLogs: 940 * mb, model.Leftovers: 2_610 * mb,
		},
		Reclaimable: map[prune.Command]prune.Reclaimable{
			prune.ContainerPrune:        {Estimate: 1_870 * mb, Minimum: 1_870 * mb, Exact: true},
			prune.ImagePrune:            {Estimate: 11_240 * mb, Minimum: 11_240 * mb, Exact: true},
			prune.ImagePruneAll:         {Estimate: 24_910 * mb, Minimum: 24_910 * mb, Exact: true},
			prune.VolumePrune:           {Estimate: 318_204, Minimum: 318_204, Exact: true},
			prune.VolumePruneAll:        {Estimate: 7_320 * mb, Minimum: 7_320 * mb, Exact: true},
			prune.BuilderPrune:          {Estimate: 14_003 * mb, Minimum: 14_003 * mb / 2},
			prune.BuilderPruneAll:       {Estimate: 17_950 * mb, Minimum: 12_340 * mb},
			prune.SystemPrune:           {Estimate: 28_400 * mb, Minimum: 28_400 * mb / 2},
			prune.SystemPruneAll:        {Estimate: 49_120 * mb, Minimum: 49_120 * mb, Exact: true},
			prune.SystemPruneAllVolumes: {Estimate: 49_121 * mb, Minimum: 31_416 * mb},
			prune.ContainerPruneUntil:   {Estimate: 940 * mb},
			prune.ImagePruneAllUntil:    {Estimate: 18_302 * mb, Minimum: 11_130 * mb},
			prune.BuilderPruneUntil:     {Estimate: 9_120 * mb, Minimum: 8_990 * mb},
		},
	}
}

// holdersAt returns who holds the disk of the host that is full.
func holdersAt(at time.Time) []prune.Holder {
	ago := func(d time.Duration) model.Optional[time.Time] { return model.Known(at.Add(-d)) }
	return []prune.Holder{
		{Kind: prune.RepositoryHolder, Name: "shop/search-indexer", Count: 11, Unused: 10, Bytes: 14_210 * mb, Frees: model.Known[int64](12_800 * mb)},
		{Kind: prune.CacheHolder, Name: "exec.cachemount", State: "unused", Since: ago(70 * time.Hour), Count: 9, Unused: 9, Bytes: 9_300 * mb, Frees: model.Known[int64](9_300 * mb)},
		{Kind: prune.VolumeHolder, Name: "shop_pgdata_6", State: "unused", Count: 1, Unused: 1, Bytes: 7_310 * mb, Frees: model.Known[int64](7_310 * mb)},
		{Kind: prune.VolumeHolder, Name: "buildx_buildkit_ci0_state", State: "in use", Builder: "ci", Count: 1, Bytes: 4_120 * mb, Frees: model.Known[int64](4_120 * mb)},
		{Kind: prune.ContainerHolder, Name: "ci-job-7", State: "exited", Since: ago(50 * time.Hour), Count: 1, Unused: 1, Bytes: 1_269 * mb, Frees: model.Known[int64](1_269 * mb)},
		{Kind: prune.ContainerHolder, Name: "shop-checkout-1", State: "running", Project: "shop", Count: 1, Bytes: 252 * mb, Frees: model.Known[int64](252 * mb)},
	}
}

// fullCounts returns the counts of the host that is full.
func fullCounts() model.ObjectCounts {
	return model.ObjectCounts{
		Images: model.ImageCounts{
			Tagged: model.Known(63), Untagged: model.Known(148), Dangling: model.Known(112), Intermediate: model.Known(31), DigestOnly: model.Known(5),
			Tags: model.Known(91), Use: model.Counts{{Name: "running", N: 12}, {Name: "stopped", N: 29}, {Name: "none", N: 170}},
			Unused: model.Counts{{Name: "0-1d", N: 41}, {Name: "1d-7d", N: 118}, {Name: "7d-30d", N: 160}, {Name: "30d-90d"}, {Name: "90d+", N: 7}},
			Layers: model.Known(804), Uninspected: model.Known(0), VirtualSize: model.Known[int64](187_400 * mb),
		},
		Containers: model.ContainerCounts{
			State: model.Counts{
				{Name: "created", N: 2}, {Name: "running", N: 14}, {Name: "paused"}, {Name: "restarting", N: 1}, {Name: "removing"}, {Name: "exited", N: 57}, {Name: "dead"},
			},
			StoppedFor: model.Counts{{Name: "0-1h", N: 1}, {Name: "1h-1d", N: 3}, {Name: "1d-7d", N: 9}, {Name: "7d-30d", N: 21}, {Name: "30d+", N: 25}},
		},
		Volumes:    model.Counts{{Name: model.InUse, N: 11}, {Name: model.Unused, N: 23}},
		BuildCache: model.Counts{{Name: model.InUse}, {Name: model.Unused, N: 412}},
	}
}

// empty returns a host without objects, with an engine older than API 1.42.
func empty() prune.Summary {
	return prune.Summarize(model.Snapshot{
		At: at, Up: true,
		Engine:     model.Known(model.Engine{Version: "20.10.24", APIVersion: "1.41", ImageStore: model.GraphDriver, StorageDriver: "overlay2", RootDir: "/var/lib/docker"}),
		Images:     model.Known([]model.Image{}),
		Contents:   map[string]model.Content{},
		Containers: model.Known([]model.Container{}),
		Volumes:    model.Known([]model.Volume{}),
		BuildCache: model.Known([]model.CacheRecord{}),
		Filesystems: []model.Filesystem{
			{Path: "/var/lib/docker", Size: 50 * gb, Avail: 50 * gb},
		},
	}, 0)
}

// partial returns a host of which some figures are unknown or lower bounds. Its engine
// sends markup and control characters.
func partial() prune.Summary {
	a := full()
	a.Engine = model.Known(model.Engine{Version: "29\x1b[31m<script>alert(1)</script>|", APIVersion: "1.50", ImageStore: model.Containerd, StorageDriver: "overlayfs"})
	a.Collectors[2] = model.Collector{Name: "container_sizes", LastSuccess: a.Collectors[2].LastSuccess}
	a.Collectors[5] = model.Collector{Name: "layers", Duration: model.Known(time.Second)}
	a.Filesystems = []model.Filesystem{
		{Path: "/var/lib/docker", Size: 105 * gb, Avail: 50 * gb},
		{Path: "/var/lib/containerd", Size: 40 * gb, Avail: 3 * gb, Files: model.Known[int64](1000), FilesFree: model.Known[int64](150)},
	}
	a.Unmeasured = []string{"/mnt/\x1b<lost>"}
	a.FailedImages = map[string]bool{"x": true, "y": true}
	a.Containers = model.Known([]model.Container{{ID: "1", Failed: true}})
	a.Counts.Images.Tagged, a.Counts.Images.Untagged, a.Counts.Images.Tags = model.Known(3), model.Known(7), model.Known(4)
	a.Counts.Images.Dangling, a.Counts.Images.Intermediate, a.Counts.Images.DigestOnly = model.Optional[int]{}, model.Optional[int]{}, model.Optional[int]{}
	a.Counts.Images.Layers, a.Counts.Images.Uninspected = model.Optional[int]{}, model.Known(7)
	a.Counts.Images.VirtualSize = model.Optional[int64]{}
	a.Counts.Containers.State = model.Counts{{Name: "running", N: 1}, {Name: "exited"}, {Name: "<b>odd\n</b>", N: 2}}
	a.Counts.Containers.StoppedFor = nil
	delete(a.DiskUsage, model.Images)
	delete(a.DiskUsage, model.Containers)
	for command, frees := range a.Reclaimable {
		a.Reclaimable[command] = prune.Reclaimable{Estimate: frees.Estimate, Minimum: frees.Minimum / 3}
	}
	a.Reclaimable[prune.VolumePrune] = prune.Reclaimable{}
	delete(a.Reclaimable, prune.ImagePrune)
	delete(a.Reclaimable, prune.ImagePruneAll)
	return a
}

// down returns a host whose engine does not answer.
func down() prune.Summary {
	before := full()
	return prune.Summarize(model.Snapshot{
		At: at, Filesystems: before.Filesystems,
		Collectors: []model.Collector{{Name: "images", LastSuccess: before.Collectors[4].LastSuccess}},
		Problems: []model.Problem{
			{Operation: "list images", Reason: "connection refused", Hint: "start the engine that listens on /var/run/docker.sock, or set --docker.host to another address"},
			{Operation: "ping", Reason: "connection refused", Hint: "start the engine that listens on /var/run/docker.sock, or set --docker.host to another address"},
		},
	}, 0)
}

// almostFull returns a host whose disk is almost full, mostly with what is not of the engine.
func almostFull(at time.Time) prune.Summary {
	a := fullAt(at)
	a.Filesystems[0].Avail = 3_100 * mb
	for i := range a.FreeSpace["/var/lib/docker"] {
		a.FreeSpace["/var/lib/docker"][i].Bytes -= 10_900 * mb
	}
	a.DiskUsage = map[model.Resource]int64{model.Images: 12_740 * mb, model.Containers: 1_930 * mb, model.Volumes: 7_600 * mb, model.BuildCache: 9_950 * mb}
	a.Reclaimable[prune.BuilderPruneUntil] = prune.Reclaimable{Estimate: 2 * gb}
	a.Reclaimable[prune.BuilderPrune] = prune.Reclaimable{Estimate: 6_400 * mb}
	return a
}

// early returns a host of which the first image list is not complete yet.
func early() prune.Summary {
	a := full()
	return prune.Summarize(model.Snapshot{At: at, Up: true, Engine: a.Engine, Filesystems: a.Filesystems, Collectors: a.Collectors[1:4], Pending: []string{"images"}}, 0)
}

// podman returns a host with Podman.
func podman() prune.Summary {
	a := full()
	a.Engine = model.Known(model.Engine{Version: "4.3.1", APIVersion: "1.41", ImageStore: model.GraphDriver, StorageDriver: "overlay", Podman: true})
	a.Filesystems[0].Path = "/var/lib/containers/storage"
	a.Reclaimable, a.Prunes = nil, nil
	return a
}

func hosts() map[string]prune.Summary {
	return map[string]prune.Summary{"full": full(), "empty": empty(), "partial": partial(), "down": down(), "early": early(), "almost-full": almostFull(at), "podman": podman(), "nothing": {}}
}

func render(t *testing.T, r Report) string {
	t.Helper()
	var page bytes.Buffer
	links := []Link{{"./metrics", "Metrics"}}
	if err := parse().Execute(&page, view{r, "1.2.3", links, now}); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// The text, JSON and page of each host equal the golden files.
func TestGolden(t *testing.T) {
	for name, host := range hosts() {
		r := New(host, DefaultThresholds())
		var text, json strings.Builder
		if err := r.Write(&text, "text"); err != nil {
			t.Fatal(err)
		}
		if err := r.Write(&json, "json"); err != nil {
			t.Fatal(err)
		}
		// The style and the script have their own files.
		page := strings.NewReplacer(pageCSS, "", pageJS, "").Replace(render(t, r))
		for extension, got := range map[string]string{"txt": text.String(), "json": json.String(), "html": page} {
			file := filepath.Join("testdata", name+"."+extension)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s: got:\n%s\nwant:\n%s", file, got, want)
			}
		}
	}
}

// Unknown values are null in JSON and never 0 on the page.
func TestUnknownIsNull(t *testing.T) {
	content, err := json.Marshal(New(prune.Summary{}, DefaultThresholds()))
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`:0[,}]`).Match(content) {
		t.Errorf("an unknown value is 0: %s", content)
	}
	for _, of := range []prune.Summary{{}, down()} {
		page := render(t, New(of, DefaultThresholds()))
		if strings.Contains(page, ">0<") || strings.Contains(page, ">0 B<") {
			t.Errorf("an unknown value is 0:\n%s", page)
		}
	}
}

// Strings of the engine are neither markup on the page nor control characters in the text.
func TestEngineIsNotTrusted(t *testing.T) {
	r := New(partial(), DefaultThresholds())
	if page := render(t, r); strings.Contains(page, "<script>alert") || strings.Contains(page, "<b>odd") {
		t.Errorf("markup of the engine:\n%s", page)
	}
	if text := r.text(); strings.Contains(text, "\x1b") || strings.Count(text, "|") != 1 { // before the performance data
		t.Errorf("control characters of the engine: %q", text)
	}
}

func TestStatus(t *testing.T) {
	fs := func(avail, files int64) model.Filesystem {
		return model.Filesystem{Path: "/d", Size: 1000, Avail: avail, Files: model.Known[int64](1000), FilesFree: model.Known(files)}
	}
	tests := []struct {
		name       string
		up         bool
		disks      []model.Filesystem
		unmeasured []string
		want       Status
	}{
		{"enough", true, []model.Filesystem{fs(200, 200)}, nil, OK},
		{"too few bytes", true, []model.Filesystem{fs(199, 900)}, nil, Warning},
		{"exactly critical is not below it", true, []model.Filesystem{fs(100, 900)}, nil, Warning},
		{"far too few bytes", true, []model.Filesystem{fs(99, 900)}, nil, Critical},
		{"too few inodes", true, []model.Filesystem{fs(900, 150)}, nil, Warning},
		{"far too few inodes", true, []model.Filesystem{fs(900, 0)}, nil, Critical},
		{"the worst of two", true, []model.Filesystem{fs(99, 900), fs(150, 900)}, nil, Critical},
		{"no inodes", true, []model.Filesystem{{Path: "/d", Size: 1000, Avail: 500}}, nil, OK},
		{"no disk", true, nil, nil, Unknown},
		{"a disk without a size", true, []model.Filesystem{{Path: "/d"}}, nil, Unknown},
		{"one without a size", true, []model.Filesystem{fs(900, 900), {Path: "/e"}}, nil, Unknown},
		{"one unmeasured", true, []model.Filesystem{fs(900, 900)}, []string{"/e"}, Unknown},
		{"one unmeasured, one bad", true, []model.Filesystem{fs(150, 900)}, []string{"/e"}, Warning},
		{"all unmeasured", true, nil, []string{"/e"}, Unknown},
		{"engine down, disk good", false, []model.Filesystem{fs(900, 900)}, nil, Unknown},
		{"engine down, disk bad", false, []model.Filesystem{fs(50, 900)}, nil, Critical},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := New(prune.Summary{Snapshot: model.Snapshot{Up: test.up, Filesystems: test.disks, Unmeasured: test.unmeasured}}, DefaultThresholds())
			if r.Status != test.want {
				t.Errorf("%s: %s, want %s", r.Status, r.Summary, test.want)
			}
		})
	}
	for status, want := range map[Status]int{OK: 0, Warning: 1, Critical: 2, Unknown: 3} {
		if got := status.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d", status, got, want)
		}
	}
}

// TestNothingMeasured checks that the disk is not blamed for what the engine has not reported.
func TestNothingMeasured(t *testing.T) {
	problems := []model.Problem{{Operation: "measure the file system /d", Reason: "d"}, {Operation: "get engine info", Reason: "403 Forbidden", Hint: "allow it"}}
	for want, s := range map[string]model.Snapshot{
		"the engine has not reported its root directory in time":                   {Up: true},
		"the engine has not reported its root directory: 403 Forbidden (allow it)": {Up: true, Problems: problems},
		"no file system was measured, see --filesystem.path":                       {Up: true, Engine: model.Known(model.Engine{})},
	} {
		if got := New(prune.Summary{Snapshot: s}, DefaultThresholds()).Summary; got != want {
			t.Errorf("%+v: got %q, want %q", s, got, want)
		}
	}
}

func TestThresholds(t *testing.T) {
	for thresholds, want := range map[Thresholds]string{
		{0.2, 0.1}: "",
		{0.2, 0.2}: "",
		{0, 0}:     "",
		{1, 1}:     "",
		{0.1, 0.2}: "--crit is more than --warn",
	} {
		err := thresholds.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", thresholds, err, want)
		}
	}
}
