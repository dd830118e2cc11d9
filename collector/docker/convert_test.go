package docker

import (
	"docker_buildup_exporter/collector/model"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/system"
)

func TestFromImages(t *testing.T) {
	unknown := model.Optional[model.ImageStore]{}
	graphDriver := model.Known(model.GraphDriver)
	containerd := model.Known(model.Containerd)
	tests := []struct {
		name      string
		record    string
		store     model.Optional[model.ImageStore]
		tags      int
		hasDigest model.Optional[bool]
	}{
		{"<none> literals", `{"Id":"a","RepoTags":["<none>:<none>"],"RepoDigests":["<none>@<none>"]}`, graphDriver, 0, model.Known(false)},
		{"null lists", `{"Id":"a","RepoTags":null,"RepoDigests":null}`, graphDriver, 0, model.Known(false)},
		{"pulled by digest", `{"Id":"a","RepoTags":null,"RepoDigests":["x@sha256:1"]}`, graphDriver, 0, model.Known(true)},
		{"containerd makes digests up", `{"Id":"a","RepoTags":[],"RepoDigests":["x@sha256:1"]}`, containerd, 0, model.Known(false)},
		{"containerd keeps digests among the tags", `{"Id":"a","RepoTags":["x@sha256:1"],"RepoDigests":["x@sha256:1"]}`, containerd, 0, model.Known(true)},
		{"a tag pinned by digest does not move", `{"Id":"a","RepoTags":["x:1@sha256:1","x:1"]}`, containerd, 1, model.Known(true)},
		{"content is missing", `{"Id":"a","RepoTags":["x:1"],"RepoDigests":["sha256:1"]}`, containerd, 1, model.Known(false)},
		{"a name that does not parse", `{"Id":"a","RepoTags":["UPPER CASE"]}`, containerd, 1, model.Known(false)},
		{"the store decides, and is not known", `{"Id":"a","RepoTags":[],"RepoDigests":["x@sha256:1"]}`, unknown, 0, model.Optional[bool]{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := fromImages(decodeImages(t, "["+test.record+"]"), test.store)
			if len(got) != 1 || len(got[0].Tags) != test.tags || got[0].HasDigest != test.hasDigest {
				t.Errorf("got %+v, want %d tags, hasDigest %+v", got, test.tags, test.hasDigest)
			}
		})
	}
	for _, size := range []int64{-1, 0, 5} {
		got := fromImages(decodeImages(t, fmt.Sprintf(`[{"Id":"a","Size":%d}]`, size)), graphDriver)
		if value, known := got[0].Size.Get(); known != (size >= 0) || known && value != size {
			t.Errorf("size %d became %d, known %v", size, value, known)
		}
	}
}

// Without /info the list shows the store, or it is unknown.
func TestImageStoreWithoutInfo(t *testing.T) {
	with := `[{"Id":"a","Descriptor":{"digest":"sha256:1","size":1,"mediaType":"x"}}]`
	without := `[{"Id":"a"}]`
	for _, test := range []struct {
		list, version string
		want          model.Optional[model.ImageStore]
	}{
		{without, "1.41", model.Known(model.GraphDriver)},
		{without, "1.43", model.Optional[model.ImageStore]{}},
		{without, "1.47", model.Optional[model.ImageStore]{}},
		{without, "1.48", model.Known(model.GraphDriver)},
		{with, "1.48", model.Known(model.Containerd)},
	} {
		if got := storeOfList(decodeImages(t, test.list), test.version); got != test.want {
			t.Errorf("%s at API %s: got %+v, want %+v", test.list, test.version, got, test.want)
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
func TestFromMounts(t *testing.T) {
	const id = "sha256:82d1e9d7ed48a7523bdebc18cf6290bdb97b82302a8a9c27d4fe885949ea94d1"
	for name, want := range map[string]string{
		"app":                     "app:latest",
		"docker.io/library/app:1": "app:1",
		"app@" + id:               id,
		"app:1@" + id:             id,
		id:                        id,
		"":                        "",
	} {
		mounts := []container.MountPoint{{Type: mount.TypeVolume, Name: "v"}, {Type: mount.TypeBind}, {Type: mount.TypeImage, Name: name}}
		volumes, images := fromMounts(mounts)
		if !slices.Equal(volumes, []string{"v"}) || !slices.Equal(images, []string{want}) {
			t.Errorf("%q: volumes %q, images %q; want %q", name, volumes, images, want)
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
	records, err := fromCacheRecords([]*build.CacheRecord{
		{ID: "context", Type: "source.local", UsageCount: 2},
		{ID: "new context", Type: "source.local", UsageCount: 1},
		{ID: "cache mount", Type: "exec.cachemount", UsageCount: 3},
		{ID: "clone", Type: "regular", Description: "shared git repo for https://example.org/a.git", UsageCount: 2},
		{ID: "checkout", Type: "source.git.checkout", UsageCount: 2},
		{ID: "layer", Type: "regular", Description: "[2/2] COPY a /", UsageCount: 2},
	})
	var rewritten []string
	for _, record := range records {
		if record.Rewritten {
			rewritten = append(rewritten, record.ID)
		}
	}
	if want := []string{"context", "cache mount", "clone"}; err != nil || !slices.Equal(rewritten, want) {
		t.Errorf("%v, %v; want %v", rewritten, err, want)
	}
}

// The log driver decides whether the log of a stopped container is in files of the engine.
func TestKeepsLog(t *testing.T) {
	for text, want := range map[string]model.Optional[bool]{
		`{"Type":"json-file"}`: model.Known(true),
		`{"Type":"local"}`:     model.Known(true),
		`{"Type":"none"}`:      model.Known(false),
		`{"Type":"journald"}`:  model.Known(false),
		`{"Type":"syslog"}`:    model.Known(true), // the engine caches what it sends
		`{"Type":"syslog","Config":{"cache-disabled":"true"}}`: model.Known(false),
		`{"Type":""}`: model.Known(true),
	} {
		for status, keepsLog := range map[string]model.Optional[bool]{"exited": want, "running": {}} {
			var inspected container.InspectResponse
			answer := fmt.Sprintf(`{"Id":"c","State":{"Status":%q,"FinishedAt":"2026-01-02T03:04:05Z"},"HostConfig":{"LogConfig":%s}}`, status, text)
			if err := json.Unmarshal([]byte(answer), &inspected); err != nil {
				t.Fatal(err)
			}
			if got := fromInspectedContainer(inspected).KeepsLog; got != keepsLog {
				t.Errorf("%s, %s: %v, want %v", status, text, got, keepsLog)
			}
		}
	}
}

// An inspection has the same dates as a list.
func TestCreated(t *testing.T) {
	const created = "2026-01-02T03:04:05.678Z"
	want := model.Known(time.Unix(1767323045, 0))
	same := func(what string, got model.Optional[time.Time]) {
		t.Helper()
		at, known := got.Get()
		if wanted, _ := want.Get(); !known || !at.Equal(wanted) {
			t.Errorf("%s: %v, known: %v; want %v", what, at, known, want)
		}
	}
	same("image list", fromImages(decodeImages(t, `[{"Id":"a","Created":1767323045}]`), model.Known(model.GraphDriver))[0].Created)
	var inspectedImage image.InspectResponse
	var inspected container.InspectResponse
	for into, text := range map[any]string{&inspectedImage: `{"Id":"a","Created":%q}`, &inspected: `{"Id":"c","Created":%q,"State":{"Status":"created"}}`} {
		if err := json.Unmarshal([]byte(fmt.Sprintf(text, created)), into); err != nil {
			t.Fatal(err)
		}
	}
	same("inspected image", fromInspectedImage(inspectedImage).Created)
	same("container list", fromContainers([]container.Summary{{ID: "c", State: "created", Created: 1767323045}})[0].Created)
	same("inspected container", fromInspectedContainer(inspected).Created)
	used := time.Unix(1767323045, 0)
	records, err := fromCacheRecords([]*build.CacheRecord{{ID: "a", LastUsedAt: &used}, {ID: "b"}})
	if err != nil || records[1].LastUsedAt.IsKnown() {
		t.Errorf("%+v, %v", records, err)
	}
	same("record of the build cache", records[0].LastUsedAt)
}

func TestBackingFilesystem(t *testing.T) {
	info := system.Info{Driver: "overlay2", DriverStatus: [][2]string{{"Backing Filesystem", "extfs"}, {"Supports d_type", "true"}}}
	if got := fromInfo(info, "1.51").BackingFilesystem; got != "extfs" {
		t.Errorf("got %q", got)
	}
	if got := fromInfo(system.Info{}, "1.51").BackingFilesystem; got != "" {
		t.Errorf("got %q, want unknown", got)
	}
}
