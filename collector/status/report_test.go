package status

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

	"docker_buildup_exporter/collector/inventory"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	at  = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	now = at.Add(3 * time.Second)
)

const (
	mb = 1_000_000
	gb = 1_000_000_000
)

// full is a host of which everything is known.
func full() inventory.Assessment {
	ago := func(d time.Duration) inventory.Optional[time.Time] { return inventory.Known(at.Add(-d)) }
	took := func(d time.Duration) inventory.Optional[time.Duration] { return inventory.Known(d) }
	return inventory.Assessment{
		Inventory: inventory.Inventory{
			At: at, Up: true,
			Engine: inventory.Known(inventory.Engine{Version: "28.5.2", APIVersion: "1.51", ImageStore: inventory.GraphDriver, StorageDriver: "overlay2"}),
			Questions: []inventory.Question{
				{Kind: "build_cache", Answered: true, Duration: took(84 * time.Millisecond), LastSuccess: ago(0)},
				{Kind: "container_sizes", Answered: true, Duration: took(2300 * time.Millisecond), LastSuccess: ago(7 * time.Minute)},
				{Kind: "containers", Answered: true, Duration: took(9 * time.Millisecond), LastSuccess: ago(0)},
				{Kind: "images", Answered: true, Duration: took(31 * time.Millisecond), LastSuccess: ago(0)},
				{Kind: "layers", Answered: true, Duration: took(3 * time.Millisecond), LastSuccess: ago(40 * time.Hour)},
				{Kind: "volumes", Answered: true, Duration: took(12 * time.Second), LastSuccess: ago(26 * time.Minute)},
			},
			Filesystems: []inventory.Filesystem{{
				Path: "/var/lib/docker", Size: 105 * gb, Avail: 14 * gb,
				Files: inventory.Known[int64](6_500_000), FilesFree: inventory.Known[int64](5_900_000),
			}},
			Prunes: []inventory.Prune{
				{Resource: inventory.Images, Count: 2, Bytes: 5 * gb, Last: ago(30 * time.Hour)},
				{Resource: inventory.Containers},
			},
		},
		ImageCount: inventory.Known(inventory.ImageCount{
			Tagged: 63, Untagged: 148, Tags: 91, Dangling: inventory.Known(112), Intermediate: inventory.Known(31), VirtualSize: inventory.Known[int64](187_400 * mb),
		}),
		ImageUse: inventory.Known(map[inventory.Use]int{inventory.UsedRunning: 12, inventory.UsedStopped: 29, inventory.Unused: 170}),
		ContainerCount: inventory.Known(map[inventory.State]int{
			inventory.Created: 2, inventory.Running: 14, inventory.Paused: 0, inventory.Restarting: 1, inventory.Removing: 0, inventory.Exited: 57, inventory.Dead: 0,
		}),
		StoppedCount: inventory.Known(map[inventory.StoppedFor]int{
			inventory.UnderHour: 1, inventory.UnderDay: 3, inventory.UnderWeek: 9, inventory.UnderMonth: 21, inventory.OverMonth: 25,
		}),
		Unexamined:  inventory.Known(0),
		LayerCount:  inventory.Known(804),
		VolumeCount: inventory.Known(map[bool]int{true: 11, false: 23}),
		CacheCount:  inventory.Known(map[bool]int{true: 0, false: 412}),
		DiskUsage: map[inventory.Resource]int64{
			inventory.Images: 38_740 * mb, inventory.Containers: 2_130 * mb, inventory.Volumes: 12_600 * mb, inventory.BuildCache: 17_950 * mb,
		},
		Reclaimable: map[inventory.Command]inventory.Reclaimable{
			inventory.ContainerPrune:        {Bytes: 1_870 * mb, Exact: true},
			inventory.ImagePrune:            {Bytes: 11_240 * mb, Exact: true},
			inventory.ImagePruneAll:         {Bytes: 24_910 * mb, Exact: true},
			inventory.VolumePrune:           {Bytes: 318_204, Exact: true},
			inventory.VolumePruneAll:        {Bytes: 7_320 * mb, Exact: true},
			inventory.BuilderPrune:          {Bytes: 14_003 * mb, Exact: false},
			inventory.BuilderPruneAll:       {Bytes: 17_950 * mb, Exact: true},
			inventory.SystemPrune:           {Bytes: 28_400 * mb, Exact: false},
			inventory.SystemPruneAll:        {Bytes: 49_120 * mb, Exact: true},
			inventory.SystemPruneAllVolumes: {Bytes: 49_121 * mb, Exact: true},
		},
	}
}

// empty is a host on which nothing has piled up, of an engine from before API 1.42.
func empty() inventory.Assessment {
	return inventory.Assess(inventory.Inventory{
		At: at, Up: true,
		Engine:     inventory.Known(inventory.Engine{Version: "20.10.24", APIVersion: "1.41", ImageStore: inventory.GraphDriver, StorageDriver: "overlay2"}),
		Images:     inventory.Known([]inventory.Image{}),
		Layers:     inventory.LayOut(nil, nil),
		Containers: inventory.Known([]inventory.Container{}),
		Volumes:    inventory.Known([]inventory.Volume{}),
		Cache:      inventory.Known([]inventory.CacheRecord{}),
		Filesystems: []inventory.Filesystem{
			{Path: "/var/lib/docker", Size: 50 * gb, Avail: 50 * gb},
		},
	})
}

// partial is a host of which some things are not known, or only bounds, and of which
// the engine says what it should not.
func partial() inventory.Assessment {
	a := full()
	a.Engine = inventory.Known(inventory.Engine{Version: "29\x1b[31m<script>alert(1)</script>|", APIVersion: "1.50", ImageStore: inventory.Containerd, StorageDriver: "overlayfs"})
	a.Questions[1] = inventory.Question{Kind: "container_sizes", LastSuccess: a.Questions[1].LastSuccess}
	a.Questions[4] = inventory.Question{Kind: "layers", Duration: inventory.Known(time.Second)}
	a.Filesystems = []inventory.Filesystem{
		{Path: "/var/lib/docker", Size: 105 * gb, Avail: 50 * gb},
		{Path: "/var/lib/containerd", Size: 40 * gb, Avail: 3 * gb, Files: inventory.Known[int64](1000), FilesFree: inventory.Known[int64](150)},
	}
	a.Unmeasured = []string{"/mnt/\x1b<lost>"}
	a.ImageCount = inventory.Known(inventory.ImageCount{Tagged: 3, Untagged: 7, Tags: 4})
	a.ContainerCount = inventory.Known(map[inventory.State]int{inventory.Running: 1, "<b>odd\n</b>": 2})
	a.StoppedCount = inventory.Optional[map[inventory.StoppedFor]int]{}
	a.LayerCount, a.Unexamined = inventory.Optional[int]{}, inventory.Known(7)
	delete(a.DiskUsage, inventory.Images)
	delete(a.DiskUsage, inventory.Containers)
	for command, frees := range a.Reclaimable {
		a.Reclaimable[command] = inventory.Reclaimable{Bytes: frees.Bytes}
	}
	delete(a.Reclaimable, inventory.ImagePrune)
	delete(a.Reclaimable, inventory.ImagePruneAll)
	return a
}

// down is a host whose engine does not answer.
func down() inventory.Assessment {
	before := full()
	return inventory.Assess(inventory.Inventory{
		At: at, Filesystems: before.Filesystems,
		Questions: []inventory.Question{{Kind: "images", LastSuccess: before.Questions[3].LastSuccess}},
	})
}

// early is a host of which the first list is on its way.
func early() inventory.Assessment {
	a := full()
	return inventory.Assess(inventory.Inventory{At: at, Up: true, Engine: a.Engine, Filesystems: a.Filesystems, Questions: a.Questions[1:3]})
}

func hosts() map[string]inventory.Assessment {
	return map[string]inventory.Assessment{"full": full(), "empty": empty(), "partial": partial(), "down": down(), "early": early(), "nothing": {}}
}

func render(t *testing.T, r Report) string {
	t.Helper()
	var page bytes.Buffer
	links := []Link{{"./metrics", "Metrics"}}
	if err := parse().Execute(&page, view{r, DefaultThresholds(), "1.2.3", links, now}); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// Each host makes one text, one JSON and one page, to the letter.
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
		// The style and the script are files of their own.
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

// What is unknown is null: of a host that is down only the disk has numbers.
func TestUnknownIsNull(t *testing.T) {
	content, err := json.Marshal(New(inventory.Assessment{}, DefaultThresholds()))
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`:0[,}]`).Match(content) {
		t.Errorf("something unknown is 0: %s", content)
	}
	for _, of := range []inventory.Assessment{{}, down()} {
		page := render(t, New(of, DefaultThresholds()))
		if strings.Contains(page, ">0<") || strings.Contains(page, ">0 B<") {
			t.Errorf("something unknown is 0:\n%s", page)
		}
	}
}

// What an engine says can neither be markup nor move a terminal's cursor.
func TestEngineIsNotTrusted(t *testing.T) {
	r := New(partial(), DefaultThresholds())
	if page := render(t, r); strings.Contains(page, "<script>alert") || strings.Contains(page, "<b>odd") {
		t.Errorf("markup of the engine:\n%s", page)
	}
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text.String(), "\x1b|") {
		t.Errorf("a terminal or a monitoring system would obey this: %q", text.String())
	}
}

func TestVerdict(t *testing.T) {
	fs := func(avail, files int64) inventory.Filesystem {
		return inventory.Filesystem{Path: "/d", Size: 1000, Avail: avail, Files: inventory.Known[int64](1000), FilesFree: inventory.Known(files)}
	}
	tests := []struct {
		name       string
		up         bool
		disks      []inventory.Filesystem
		unmeasured []string
		want       Verdict
	}{
		{"enough", true, []inventory.Filesystem{fs(200, 200)}, nil, OK},
		{"too few bytes", true, []inventory.Filesystem{fs(199, 900)}, nil, Warning},
		{"exactly critical is not below it", true, []inventory.Filesystem{fs(100, 900)}, nil, Warning},
		{"far too few bytes", true, []inventory.Filesystem{fs(99, 900)}, nil, Critical},
		{"too few inodes", true, []inventory.Filesystem{fs(900, 150)}, nil, Warning},
		{"far too few inodes", true, []inventory.Filesystem{fs(900, 0)}, nil, Critical},
		{"the worst of two", true, []inventory.Filesystem{fs(99, 900), fs(150, 900)}, nil, Critical},
		{"no inodes", true, []inventory.Filesystem{{Path: "/d", Size: 1000, Avail: 500}}, nil, OK},
		{"no disk", true, nil, nil, Unknown},
		{"a disk without a size", true, []inventory.Filesystem{{Path: "/d"}}, nil, Unknown},
		{"one without a size", true, []inventory.Filesystem{fs(900, 900), {Path: "/e"}}, nil, Unknown},
		{"one out of reach", true, []inventory.Filesystem{fs(900, 900)}, []string{"/e"}, Unknown},
		{"one out of reach, one bad", true, []inventory.Filesystem{fs(150, 900)}, []string{"/e"}, Warning},
		{"all out of reach", true, nil, []string{"/e"}, Unknown},
		{"engine down, disk good", false, []inventory.Filesystem{fs(900, 900)}, nil, Unknown},
		{"engine down, disk bad", false, []inventory.Filesystem{fs(50, 900)}, nil, Critical},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := New(inventory.Assessment{Inventory: inventory.Inventory{Up: test.up, Filesystems: test.disks, Unmeasured: test.unmeasured}}, DefaultThresholds())
			if r.Verdict != test.want {
				t.Errorf("%s: %s, want %s", r.Verdict, r.Summary, test.want)
			}
		})
	}
	for verdict, want := range map[Verdict]int{OK: 0, Warning: 1, Critical: 2, Unknown: 3} {
		if got := verdict.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d", verdict, got, want)
		}
	}
}

func TestThresholds(t *testing.T) {
	for thresholds, want := range map[Thresholds]string{
		{0.2, 0.1}:   "",
		{0.2, 0.2}:   "",
		{0, 0}:       "",
		{1, 1}:       "",
		{20, 0.1}:    "20 is not from 0 to 1",
		{0.2, -0.1}:  "-0.1 is not",
		{0.1, 0.2}:   "--crit is more than --warn",
		{nan(), 0.1}: "NaN is not",
	} {
		err := thresholds.Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", thresholds, err, want)
		}
	}
}
