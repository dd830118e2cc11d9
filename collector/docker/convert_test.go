package docker

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/model"
)

// readList returns the images of a list with one record.
func readList(t *testing.T, record string, store model.ImageStore, version string) model.Image {
	t.Helper()
	images, err := decode(strings.NewReader("["+record+"]"), func(d *decoder) []model.Image { return imageReader{store: store}.list(d, version) })
	if err != nil || len(images) != 1 {
		t.Fatalf("%s: %v, %v", record, images, err)
	}
	return images[0]
}

func TestReadImage(t *testing.T) {
	unknown := model.ImageStore("")
	graphDriver := model.GraphDriver
	containerd := model.Containerd
	tests := []struct {
		name      string
		record    string
		store     model.ImageStore
		tags      int
		hasDigest model.Optional[bool]
	}{
		{"<none> literals", `"RepoTags":["<none>:<none>"],"RepoDigests":["<none>@<none>"]`, graphDriver, 0, model.Known(false)},
		{"null lists", `"RepoTags":null,"RepoDigests":null`, graphDriver, 0, model.Known(false)},
		{"pulled by digest", `"RepoTags":null,"RepoDigests":["x@sha256:1"]`, graphDriver, 0, model.Known(true)},
		{"containerd makes digests up", `"RepoTags":[],"RepoDigests":["x@sha256:1"]`, containerd, 0, model.Known(false)},
		{"containerd keeps digests among the tags", `"RepoTags":["x@sha256:1"],"RepoDigests":["x@sha256:1"]`, containerd, 0, model.Known(true)},
		{"a tag pinned by digest does not move", `"RepoTags":["x:1@sha256:1","x:1"],"RepoDigests":[]`, containerd, 1, model.Known(true)},
		{"content is missing", `"RepoTags":["x:1"],"RepoDigests":["sha256:1"]`, containerd, 1, model.Known(false)},
		{"a name that does not parse", `"RepoTags":["UPPER CASE"],"RepoDigests":[]`, containerd, 1, model.Known(false)},
		{"the store decides, and is not known", `"RepoTags":[],"RepoDigests":["x@sha256:1"]`, unknown, 0, model.Optional[bool]{}},
	}
	for _, test := range tests {
		got := readList(t, `{"Id":"a","Size":1,`+test.record+`}`, test.store, "1.43")
		if len(got.Tags) != test.tags || got.HasDigest != test.hasDigest {
			t.Errorf("%s: got %+v, want %d tags, hasDigest %+v", test.name, got, test.tags, test.hasDigest)
		}
	}
}

// Without /info the list shows the store, or it is unknown.
func TestImageStoreWithoutInfo(t *testing.T) {
	const with, without = `,"Descriptor":{"size":1,"mediaType":"x"}`, ""
	for _, test := range []struct {
		descriptor, version string
		want                model.Optional[bool] // whether the entry of RepoDigests is a digest reference
	}{
		{without, "1.41", model.Known(true)},
		{without, "1.43", model.Optional[bool]{}},
		{without, "1.47", model.Optional[bool]{}},
		{without, "1.48", model.Known(true)},
		{with, "1.48", model.Known(false)},
	} {
		record := `{"Id":"a","Size":1,"RepoTags":[],"RepoDigests":["x@sha256:1"]` + test.descriptor + `}`
		if got := readList(t, record, "", test.version); got.HasDigest != test.want {
			t.Errorf("%s at API %s: got %+v, want %+v", record, test.version, got.HasDigest, test.want)
		}
	}
}

func TestParseReference(t *testing.T) {
	const id = "sha256:82d1e9d7ed48a7523bdebc18cf6290bdb97b82302a8a9c27d4fe885949ea94d1"
	for name, want := range map[string]model.Reference{
		"app":                         {Tag: "app:latest"},
		"app:1":                       {Tag: "app:1"},
		"docker.io/library/app:1":     {Tag: "app:1"},
		"registry.test:5000/team/app": {Tag: "registry.test:5000/team/app:latest"},
		"app:1@" + id:                 {Tag: "app:1", Pinned: true},
		"app@" + id:                   {Pinned: true},
		id:                            {Tag: id, Pinned: true}, // no image has that tag
		"82d1e9d":                     {Tag: "82d1e9d:latest", Pinned: true},
	} {
		if got := parseReference(name, id); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestMakesNoLayer(t *testing.T) {
	for createdBy, want := range map[string]bool{
		`/bin/sh -c #(nop)  ENTRYPOINT ["/idle"]`:    true,
		`/bin/sh -c #(nop) COPY file:191b4fd79166 /`: false,
		`ENV A=1`:                true,
		`COPY idle / # buildkit`: false,
		`WORKDIR /work`:          false,
		`RUN /bin/sh -c make`:    false,
		``:                       false,
		`/bin/sh -c ENV`:         false,
	} {
		if got := makesNoLayer(createdBy); got != want {
			t.Errorf("%q: %v, want %v", createdBy, got, want)
		}
	}
}

// Mounted images are named as the container was created with.
func TestReadMounts(t *testing.T) {
	const id = "sha256:82d1e9d7ed48a7523bdebc18cf6290bdb97b82302a8a9c27d4fe885949ea94d1"
	for name, want := range map[string]string{
		"app":                     "app:latest",
		"docker.io/library/app:1": "app:1",
		"app@" + id:               id,
		"app:1@" + id:             id,
		id:                        id,
		"":                        "",
	} {
		var volumes, images []string
		list := fmt.Sprintf(`[{"Type":"volume","Name":"v"},{"Type":"bind"},{"Type":"image","Name":%q}]`, name)
		_, err := decode(strings.NewReader(list), func(d *decoder) bool {
			volumes, images = readMounts(d)
			return true
		})
		if err != nil || !slices.Equal(volumes, []string{"v"}) || !slices.Equal(images, []string{want}) {
			t.Errorf("%q: volumes %q, images %q, %v; want %q", name, volumes, images, err, want)
		}
	}
}

func TestRepositoriesOf(t *testing.T) {
	names := []string{
		"shop:1", "shop:2", "docker.io/library/shop:3", "shop@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
		"<none>:<none>", "<none>@<none>", "team/shop:1", "registry.example:5000/team/shop:1", "registry.example:5000/team/shop",
	}
	want := []string{"shop", "team/shop", "registry.example:5000/team/shop"}
	if got := repositoriesOf(names); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Contexts, cache mounts and clones may be written by several builds; layers are not.
func TestRewritten(t *testing.T) {
	const list = `{"BuildCache":[
		{"ID":"context","Type":"source.local","UsageCount":2,"InUse":false,"Shared":false,"Size":1},
		{"ID":"new context","Type":"source.local","UsageCount":1,"InUse":false,"Shared":false,"Size":1},
		{"ID":"cache mount","Type":"exec.cachemount","UsageCount":3,"InUse":false,"Shared":false,"Size":1},
		{"ID":"clone","Type":"regular","Description":"shared git repo for https://example.org/a.git","UsageCount":2,"InUse":false,"Shared":false,"Size":1},
		{"ID":"checkout","Type":"source.git.checkout","UsageCount":2,"InUse":false,"Shared":false,"Size":1},
		{"ID":"layer","Type":"regular","Description":"[2/2] COPY a /","UsageCount":2,"InUse":false,"Shared":false,"Size":1}]}`
	usage, err := decode(strings.NewReader(list), func(d *decoder) DiskUsage { return readDiskUsage(d, "Volumes?", "BuildCache") })
	var rewritten []string
	for _, record := range usage.BuildCache {
		if record.Rewritten {
			rewritten = append(rewritten, record.ID)
		}
	}
	if want := []string{"context", "cache mount", "clone"}; err != nil || !slices.Equal(rewritten, want) {
		t.Errorf("%v, %v; want %v", rewritten, err, want)
	}
}

// readOne reads an answer.
func readOne[T any](t *testing.T, answer string, read func(*decoder) T) T {
	t.Helper()
	value, err := decode(strings.NewReader(answer), read)
	if err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return value
}

func readInspected(d *decoder) model.Container { return readContainer(d, "SizeRw?", new(API).state) }

// The log driver decides whether the log of a stopped container is in files of the engine.
func TestKeepsLog(t *testing.T) {
	for text, want := range map[string]model.Optional[bool]{
		`{"LogConfig":{"Type":"json-file"}}`:                                 model.Known(true),
		`{"LogConfig":{"Type":"local"}}`:                                     model.Known(true),
		`{"LogConfig":{"Type":"none"}}`:                                      model.Known(false),
		`{"LogConfig":{"Type":"journald"}}`:                                  model.Known(false),
		`{"LogConfig":{"Type":"syslog"}}`:                                    model.Known(true), // the engine caches what it sends
		`{"LogConfig":{"Type":"syslog","Config":{"cache-disabled":"true"}}}`: model.Known(false),
		`{"LogConfig":{"Type":"syslog","Config":null}}`:                      model.Known(true),
		`{"LogConfig":{"Type":""}}`:                                          model.Known(true),
		`null`:                                                               model.Known(true),
	} {
		for status, keepsLog := range map[string]model.Optional[bool]{"exited": want, "running": {}} {
			answer := fmt.Sprintf(`{"Id":"c","Image":"i","State":{"Status":%q,"FinishedAt":"2026-01-02T03:04:05Z"},"HostConfig":%s}`, status, text)
			if got := readOne(t, answer, readInspected).KeepsLog; got != keepsLog {
				t.Errorf("%s, %s: %v, want %v", status, text, got, keepsLog)
			}
		}
	}
}

// An inspection has the same dates as a list.
func TestCreated(t *testing.T) {
	want := time.Unix(1767323045, 0)
	same := func(what string, got model.Optional[time.Time]) {
		t.Helper()
		if at, known := got.Get(); !known || !at.Equal(want) {
			t.Errorf("%s: %v, known: %v; want %v", what, at, known, want)
		}
	}
	readImage := func(d *decoder) model.Optional[time.Time] {
		image, _ := (&imageReader{store: model.GraphDriver}).image(d)
		return image.CreatedAt()
	}
	const image = `{"Id":"a","Created":%s,"RepoTags":[],"RepoDigests":[],"Size":1}`
	same("image list", readOne(t, fmt.Sprintf(image, "1767323045"), readImage))
	same("inspected image", readOne(t, fmt.Sprintf(image, `"2026-01-02T03:04:05.678Z"`), readImage))
	same("container list", readOne(t, `{"Id":"c","Image":"i","ImageID":"i","State":"created","Created":1767323045,"Mounts":[]}`, readListedContainer).Created)
	same("inspected container", readOne(t, `{"Id":"c","Image":"i","Created":"2026-01-02T03:04:05.678Z","State":{"Status":"created"}}`, readInspected).Created)
	const record = `{"ID":"r","Type":"regular","InUse":false,"Shared":false,"Size":1,"LastUsedAt":%s}`
	same("record of the build cache", readOne(t, fmt.Sprintf(record, `"2026-01-02T03:04:05Z"`), readCacheRecord).LastUsedAt)
	if never := readOne(t, fmt.Sprintf(record, "null"), readCacheRecord).LastUsedAt; never.IsKnown() {
		t.Errorf("a record that was never used: %v", never)
	}
}

func TestBackingFilesystem(t *testing.T) {
	for status, want := range map[string]string{`[["Backing Filesystem","extfs"],["Supports d_type","true"]]`: "extfs", "null": ""} {
		answer := fmt.Sprintf(`{"ServerVersion":"29","Driver":"overlay2","DockerRootDir":"/data","Images":0,"Containers":0,"DriverStatus":%s}`, status)
		if got := readOne(t, answer, readInfo).BackingFilesystem; got != want {
			t.Errorf("%s: got %q, want %q", status, got, want)
		}
	}
}

// TestReadSameList checks that images that have not changed are kept once: a list of the same images is
// the list before, and one of other images does not change it.
func TestReadSameList(t *testing.T) {
	record := func(id, tag string) string {
		return fmt.Sprintf(`{"Id":%q,"Size":1,"Created":1,"RepoTags":[%q],"RepoDigests":["x@sha256:1"]}`, id, tag)
	}
	read := func(before []model.Image, store model.ImageStore, records ...string) []model.Image {
		t.Helper()
		images, err := decode(strings.NewReader("["+strings.Join(records, ",")+"]"), func(d *decoder) []model.Image {
			return imageReader{store: store, before: before, count: 3}.list(d, "1.48")
		})
		if err != nil {
			t.Fatal(err)
		}
		return images
	}
	store := model.GraphDriver
	before := read(nil, store, record("a", "x:1"), record("b", "x:2"), record("b", "x:3"), record("c", "x:4"))
	kept := slices.Clone(before)
	if same := read(before, store, record("c", "x:4"), record("b", "x:3"), record("a", "x:1"), record("b", "x:2")); &same[0] != &before[0] || len(same) != 4 {
		t.Errorf("the same images in another order are another list: %v", same)
	}
	for name, records := range map[string][]string{
		"an image less":            {record("a", "x:1"), record("b", "x:2"), record("b", "x:3")},
		"none":                     nil,
		"an image more":            {record("a", "x:1"), record("b", "x:2"), record("b", "x:3"), record("c", "x:4"), record("d", "x:5")},
		"another tag":              {record("a", "x:1"), record("b", "x:2"), record("b", "x:4"), record("c", "x:4")},
		"one twice instead of two": {record("a", "x:1"), record("b", "x:2"), record("b", "x:2"), record("c", "x:4")},
	} {
		for _, known := range []model.ImageStore{store, ""} {
			got, want := read(before, known, records...), read(nil, known, records...)
			compare := func(a, b model.Image) int { return strings.Compare(a.ID+fmt.Sprint(a.Tags), b.ID+fmt.Sprint(b.Tags)) }
			slices.SortFunc(got, compare)
			slices.SortFunc(want, compare)
			if got == nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
	}
	if !reflect.DeepEqual(before, kept) {
		t.Errorf("the list before was changed to %v", before)
	}
}
