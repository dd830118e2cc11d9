package engine

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/pace"
	"docker_buildup_exporter/collector/prune"
)

// newTest returns an engine room for an address, and what it logs.
func newTest(t testing.TB, host string) (*Engine, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	e, err := New(Config{Host: host, Timeout: time.Second, Pace: pace.Pace{Idle: 0.005, Change: 0.1}}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return e, &log
}

// serve returns an engine room for a fake engine.
func serve(t testing.TB, dir string) (*Engine, *dockertest.Fake, *bytes.Buffer) {
	t.Helper()
	fake := dockertest.NewFake(filepath.Join("../docker/testdata", dir))
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	e, log := newTest(t, server.URL)
	return e, fake, log
}

// takeInventory gives up after a second, as a hurried scrape would.
func takeInventory(e *Engine) model.Snapshot {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return e.Inventory(ctx)
}

// A fault at one endpoint is that question's alone, and the log names the act,
// the cause and the cure.
func TestOneQuestionFails(t *testing.T) {
	reply := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	endless := func(prefix, more string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, prefix)
			chunk := []byte(strings.Repeat(more, 4096))
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		cause  string
		cure   string
	}{
		{"forbidden by a socket proxy", reply(403, "Forbidden by policy"), "forbidden: Forbidden by policy", "allow GET /images/json in the socket proxy"},
		{"method not allowed by a socket proxy", reply(405, "Method Not Allowed"), "forbidden: Method Not Allowed", "allow GET /images/json in the socket proxy"},
		{"server error", reply(500, "layer does not exist"), "layer does not exist", "the engine's own log"},
		{"not an HTTP status at all", reply(999, ""), "999", "the engine's own log"},
		{"reset", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", "see what answers"},
		{"truncated", reply(200, `[{"Id":"sha256:aa","RepoTags":["a:1"`), "unexpected EOF", "see what answers"},
		{"empty", reply(200, ""), "EOF", "see what answers"},
		{"an object", reply(200, `{"message":"hello"}`), "cannot unmarshal object", "see what answers"},
		{"a wrong type", reply(200, `[{"Id":"sha256:aa","Size":"large"}]`), "cannot unmarshal string", "see what answers"},
		{"a number too large", reply(200, `[{"Id":"sha256:aa","Size":1e99}]`), "cannot unmarshal number", "see what answers"},
		{"a record without an ID", reply(200, `[{"Size":1}]`), "no ID", "see what answers"},
		{"HTML", reply(200, "<html>Sign in</html>"), "invalid character", "see what answers"},
		{"100 MB of rubbish", endless("", "rubbish "), "invalid character", "see what answers"},
		{"an endless list", endless(`[`, `{"Id":"sha256:aa"},`), "larger than 32 MiB", "see what answers"},
		{"an endless string", endless(`[{"Id":"`, `aaaaaaaa`), "larger than 32 MiB", "see what answers"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, fake, log := serve(t, "api-1.51-graphdriver")
			fake.Answer("/images/json", test.answer)
			var inv model.Snapshot
			for range 2 { // the same trouble twice is one line
				// Time to read much, where the race detector slows us.
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				inv = e.Inventory(ctx)
				cancel()
			}

			if _, known := inv.Images.Get(); known {
				t.Error("the images are known")
			}
			if _, known := inv.Containers.Get(); !known || !inv.Up {
				t.Errorf("up %v, containers known %v: want both", inv.Up, known)
			}
			if containers, images := inv.Collectors[0], inv.Collectors[1]; images.Success || !containers.Success {
				t.Errorf("answered: images %v, containers %v; want only containers", images.Success, containers.Success)
			}
			if lines := strings.Count(log.String(), "\n"); lines != 1 {
				t.Errorf("%d lines in the log, want 1:\n%s", lines, log)
			}
			for _, want := range []string{"cannot list images", test.cause, test.cure} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("%q is not in the log:\n%s", want, log)
				}
			}

			fake.Answer("/images/json", nil)
			inv = takeInventory(e)
			if images, known := inv.Images.Get(); strings.HasPrefix(test.name, "an endless") {
				return // a dear failure is not asked for again at once
			} else if !known || len(images) != 7 {
				t.Errorf("after the trouble: %d images, known %v; want 7", len(images), known)
			}
			if !strings.Contains(log.String(), "works again: list images") {
				t.Errorf("the log does not say that the trouble is over:\n%s", log)
			}
		})
	}
}

// Nobody there: nothing is known, and the log says how to mend it.
func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	refused := httptest.NewServer(nil)
	refused.Close()
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	stale := filepath.Join(dir, "stale.sock")
	listener, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	tests := []struct{ name, host, cause, cure string }{
		{"no such socket", "unix://" + dir + "/none.sock", "no such file", "start the engine"},
		{"nobody at the socket", "unix://" + stale, "connection refused", "start the engine"},
		{"refused", refused.URL, "connection refused", "start the engine"},
		{"hung", "tcp://" + hung.Addr().String(), "no answer in time", "see whether the engine hangs"},
		{"another server", plain.URL, "no Docker engine", "give the engine's own address"},
		{"no such name", "tcp://nowhere.invalid:2375", "nowhere.invalid", "by a name that is known here"},
		{"TLS without our knowing", "tcp://" + secure.Listener.Addr().String(), "the engine expects TLS", "--docker.tls-ca"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, log := newTest(t, test.host)
			inv := takeInventory(e)
			if inv.Up {
				t.Error("it is up")
			}
			if len(inv.Collectors) > 0 {
				t.Errorf("before any answer: %+v, want nothing", inv.Collectors)
			}
			if lines := strings.Count(log.String(), "\n"); lines != 1 {
				t.Errorf("%d lines in the log, want 1:\n%s", lines, log)
			}
			for _, want := range []string{"cannot reach the engine", test.cause, test.cure} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("%q is not in the log:\n%s", want, log)
				}
			}
		})
	}
}

// A server that says nothing of its API version is no engine.
func TestNoEngine(t *testing.T) {
	for _, version := range []string{"", "rubbish", "1.51/../..", "-1.41", "1"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Api-Version", version)
		}))
		e, log := newTest(t, server.URL)
		if inv := takeInventory(e); inv.Up {
			t.Errorf("version %q: it is up", version)
		}
		if !strings.Contains(log.String(), "no Docker engine") {
			t.Errorf("version %q: the log says:\n%s", version, log)
		}
		server.Close()
	}
}

// An engine that changes its version under us is understood at the next inventory.
func TestUpgradeAndDowngrade(t *testing.T) {
	e, fake, log := serve(t, "api-1.43-graphdriver")
	for _, step := range []struct{ dir, version string }{
		{"api-1.43-graphdriver", "1.43"},
		{"api-1.51-containerd", "1.51"},
		{"api-1.44-graphdriver", "1.44"},
		{"engine-newer-than-us", "1.51"},
		{"api-1.43-containerd", "1.43"},
	} {
		fake.Become(filepath.Join("../docker/testdata", step.dir))
		inv := takeInventory(e)
		images, _ := inv.Images.Get()
		if described, _ := inv.Engine.Get(); described.APIVersion != step.version || len(images) == 0 {
			t.Errorf("%s: negotiated %q, %d images; want %q and some\n%s", step.dir, described.APIVersion, len(images), step.version, log)
		}
	}

	fake.Become("../docker/testdata/engine-too-old")
	inv := takeInventory(e)
	if _, known := inv.Images.Get(); known || !inv.Up {
		t.Errorf("API 1.39: up %v, images known %v; want up, and nothing known", inv.Up, known)
	}
	for _, want := range []string{"1.39", oldestAPI, newestAPI} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, log)
		}
	}
}

// An engine that has left our versions behind says so itself.
func TestEngineRefusesOurVersion(t *testing.T) {
	e, fake, log := serve(t, "api-1.51-graphdriver")
	tooOld := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, "client version 1.51 is too old. Minimum supported API version is 1.60")
	}
	for _, endpoint := range []string{"/images/json", "/containers/json", "/info"} {
		fake.Answer(endpoint, tooOld)
	}
	takeInventory(e)
	for _, want := range []string{"1.60", "update this exporter", "1.51"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, log)
		}
	}
}

// Nothing but reading requests can leave, whoever would send them.
func TestReadOnly(t *testing.T) {
	e, fake, _ := serve(t, "api-1.51-graphdriver")
	takeInventory(e)
	for _, request := range fake.Requests() {
		if !strings.HasPrefix(request, "GET ") && !strings.HasPrefix(request, "HEAD ") {
			t.Errorf("sent: %s", request)
		}
	}
	before := len(fake.Requests())
	if err := e.connection.client.ContainerKill(context.Background(), "a", "KILL"); err == nil || len(fake.Requests()) != before {
		t.Errorf("a POST was sent; error %v", err)
	}
}

func TestTranslateImages(t *testing.T) {
	unknown := model.Optional[model.ImageStore]{}
	graphDriver := model.Known(model.GraphDriver)
	containerd := model.Known(model.Containerd)
	tests := []struct {
		name     string
		record   string
		store    model.Optional[model.ImageStore]
		tags     int
		digested model.Optional[bool]
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
			got := translateImages(decodeImages(t, "["+test.record+"]"), test.store)
			if len(got) != 1 || len(got[0].Tags) != test.tags || got[0].HasDigest != test.digested {
				t.Errorf("got %+v, want %d tags, digested %+v", got, test.tags, test.digested)
			}
		})
	}
	for _, size := range []int64{-1, 0, 5} {
		got := translateImages(decodeImages(t, fmt.Sprintf(`[{"Id":"a","Size":%d}]`, size)), graphDriver)
		if value, known := got[0].Size.Get(); known != (size >= 0) || known && value != size {
			t.Errorf("size %d became %d, known %v", size, value, known)
		}
	}
}

// Without /info the store is read off the list, or not known.
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
		if got := imageStore(noInfo, decodeImages(t, test.list), test.version); got != test.want {
			t.Errorf("%s at API %s: got %+v, want %+v", test.list, test.version, got, test.want)
		}
	}
}

// Any body at any endpoint gives an inventory or an error, never a panic.
func FuzzAnswers(f *testing.F) {
	for _, file := range []string{"images", "containers", "info"} {
		for _, dir := range []string{"api-1.43-graphdriver", "api-1.51-containerd", "null-lists", "invented-state"} {
			body, err := os.ReadFile(filepath.Join("../docker/testdata", dir, file+".json"))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(body)
		}
	}
	for _, body := range []string{
		`[{"Id":"a","RepoTags":[null,""],"Size":-9223372036854775808,"Labels":{"":""}}]`,
		`{"Id":"a","RootFS":{"Type":"layers","Layers":["x","","x"]},"State":{"Status":"exited"},"SizeRw":-1,"SizeRootFs":9223372036854775807}`,
		`{"Id":"a","RootFS":null}`,
		`[{"Size":9223372036854775807},{"Size":0},{"Size":-1}]`,
		`{"BuildCache":[null,{"ID":"a"," Parents":["a","b"],"Size":9223372036854775807},{"ID":"b"," Parents":["a"],"Shared":true},{"ID":"a"}],"Volumes":[null,{"Name":"a","UsageData":{"Size":-7}}]}`,
		`[{"Id":"a","Size":9223372036854775807,"SharedSize":9223372036854775807,"Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json","size":-9223372036854775808},"Manifests":[{"Kind":"image","Available":true,"ImageData":{"Size":{"Unpacked":-5}}}]}]`,
		`[{"Id":"a","State":"exited"},{"Id":"a","State":"running","Mounts":[{"Type":"image","Name":"a"},{"Type":"volume"}]}]`,
	} {
		f.Add([]byte(body))
	}
	fake := dockertest.NewFake("../docker/testdata/api-1.51-graphdriver")
	server := httptest.NewServer(fake)
	f.Cleanup(server.Close)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer := func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }
		lists, others := []string{"/images/json", "/containers/json", "/info"}, []string{"/images/a/json", "/images/a/history", "/containers/a/json", "/volumes", "/system/df"}
		list := func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `[{"Id":"a","ImageID":"a","Size":1,"State":"exited"}]`)
		}
		for _, endpoint := range lists {
			fake.Answer(endpoint, list)
		}
		fake.Answer("/info", nil)
		for _, endpoint := range others {
			fake.Answer(endpoint, answer)
		}
		e, _ := newTest(t, server.URL) // which knows no layers yet
		e.config.ContainerSizes, e.config.Volumes, e.config.BuildCache = true, true, true
		isSane(t, prune.Summarize(takeInventory(e), 0))

		for _, endpoint := range others {
			fake.Answer(endpoint, nil)
		}
		for _, endpoint := range lists {
			fake.Answer(endpoint, answer)
		}
		a := prune.Summarize(takeInventory(e), 0)
		isSane(t, a)
		containers, _ := a.Containers.Get()
		hasState := func(c model.Count) bool { return c.Name == string(containers[0].State) && c.N > 0 }
		if count := a.Counts.Containers.State; count != nil && len(containers) > 0 && !slices.ContainsFunc(count, hasState) {
			t.Errorf("nobody is %q, but %+v", containers[0].State, containers[0])
		}
	})
}

// isSane tells that no number of bytes is negative.
func isSane(t *testing.T, a prune.Summary) {
	t.Helper()
	if size, known := a.Counts.Images.VirtualSize.Get(); known && size < 0 {
		t.Errorf("a virtual size of %d bytes", size)
	}
	for resource, bytes := range a.DiskUsage {
		if bytes < 0 {
			t.Errorf("%s take %d bytes", resource, bytes)
		}
	}
	for command, frees := range a.Reclaimable {
		if frees.Bytes < 0 {
			t.Errorf("%s frees %d bytes", command, frees.Bytes)
		}
	}
}

// A list that was made before it was known of which image store is made again, though it
// is dear: what a digest reference in it means was not known.
func TestStoreIsToldLater(t *testing.T) {
	e, fake, _ := serve(t, "api-1.44-containerd")
	fake.Answer("/info", http.NotFound)
	takeInventory(e)
	e.compareCounts(context.Background())
	if e.images.HasChanged() {
		t.Error("the images have changed before the engine told its store")
	}
	fake.Answer("/info", nil)
	e.compareCounts(context.Background())
	if !e.images.HasChanged() {
		t.Error("the images have not changed since")
	}
	takeInventory(e)
	e.compareCounts(context.Background())
	if e.images.HasChanged() {
		t.Error("the images have changed again")
	}
}
