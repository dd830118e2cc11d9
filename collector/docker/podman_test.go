package docker

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"

	cerrdefs "github.com/containerd/errdefs"
)

// fakeAPI returns the API of a fake engine that serves a folder.
func fakeAPI(t *testing.T, dir string) (*API, *dockertest.Fake) {
	t.Helper()
	fake := dockertest.NewFake("testdata/" + dir)
	c, err := New(Config{Host: "http://fake", Timeout: time.Second, Transport: fake})
	if err != nil {
		t.Fatal(err)
	}
	version, err := c.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	api, err := c.At(version)
	if err != nil {
		t.Fatal(err)
	}
	return api, fake
}

// Podman is known by a header of its answers.
func TestIsPodman(t *testing.T) {
	for dir, want := range map[string]bool{"podman-4.3": true, "20.10-overlay2": false, "29-containerd": false} {
		api, _ := fakeAPI(t, dir)
		info, err := api.Info(t.Context())
		if err != nil || api.IsPodman() != want || info.Podman != want {
			t.Errorf("%s: IsPodman %v, Info %v, %v; want %v", dir, api.IsPodman(), info.Podman, err, want)
		}
	}
}

// The answers of Podman 4.3 to a host with intermediate, dangling and tagged images.
func TestPodmanImages(t *testing.T) {
	api, _ := fakeAPI(t, "podman-4.3")
	images, err := api.Images(t.Context(), model.GraphDriver, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	counts := model.CountObjects(model.Snapshot{Images: model.Known(images)}).Images
	for name, count := range map[string]struct {
		got  model.Optional[int]
		want int
	}{
		"tagged": {counts.Tagged, 3}, "intermediate": {counts.Intermediate, 2}, "dangling": {counts.Dangling, 1}, "tags": {counts.Tags, 5},
	} {
		if count.got != model.Known(count.want) {
			t.Errorf("%s: got %v, want %d", name, count.got, count.want)
		}
	}
}

func TestImageID(t *testing.T) {
	const digest = "82d1e9d7ed48a7523bdebc18cf6290bdb97b82302a8a9c27d4fe885949ea94d1"
	for id, want := range map[string]string{
		digest: "sha256:" + digest, "sha256:" + digest: "sha256:" + digest,
		"": "", "app:1": "app:1", "feed": "feed", digest + "00": digest + "00",
	} {
		if got := imageID(id); got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}

// Podman's commands show a stopped container as exited. Docker has no such state: it would be
// an unknown one.
func TestStoppedContainer(t *testing.T) {
	for dir, want := range map[string]model.State{"podman-4.3": model.Exited, "20.10-overlay2": "stopped"} {
		api, fake := fakeAPI(t, dir)
		fake.Answer("/containers/json", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `[{"Id":"a","Image":"app","ImageID":"i","State":"stopped","Created":1,"Mounts":[]}]`)
		})
		fake.Answer("/containers/a/json", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"Id":"a","Image":"i","State":{"Status":"stopped","FinishedAt":%q}}`, dockertest.FinishedAt)
		})
		list, err := api.Containers(t.Context())
		if err != nil || len(list) != 1 || list[0].State != want {
			t.Errorf("%s: listed as %+v, %v; want %s", dir, list, err, want)
		}
		if one, err := api.Container(t.Context(), "a"); err != nil || one.State != want || one.StoppedAt.IsKnown() != want.Stopped() {
			t.Errorf("%s: inspected as %+v, %v; want %s", dir, one, err, want)
		}
	}
}

// Podman's events name images without the algorithm of their IDs.
func TestPodmanEvents(t *testing.T) {
	const digest = "82d1e9d7ed48a7523bdebc18cf6290bdb97b82302a8a9c27d4fe885949ea94d1"
	api, fake := fakeAPI(t, "podman-4.3")
	fake.Answer("/events", func(w http.ResponseWriter, _ *http.Request) {
		for _, kind := range []string{"image", "container"} {
			fmt.Fprintf(w, `{"Type":%q,"Action":"remove","Actor":{"ID":%q}}`, kind, digest)
		}
	})
	var ids []string
	err := api.Events(t.Context(), "", func() {}, func(e Event) { ids = append(ids, e.ID) })
	if !IsStreamEnd(err) || fmt.Sprint(ids) != fmt.Sprintf("[sha256:%s %s]", digest, digest) {
		t.Errorf("got %q, %v", ids, err)
	}
}

// The words of Podman 4.3 for an object that does not exist.
func TestPodmanIsGone(t *testing.T) {
	for _, text := range []string{
		`no container with name or ID "ff00" found: no such container`,
		"failed to find image sha256:ff00: docker.io/library/sha256:ff00: No such image",
	} {
		if err := fmt.Errorf("Error response from daemon: %s: %w", text, cerrdefs.ErrNotFound); !IsGone(err) {
			t.Errorf("%q is not recognized", text)
		}
	}
}
