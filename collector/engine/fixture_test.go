package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

const testdata = "../docker/testdata/"

// fixture is a running Engine on a fake engine, both under a fake clock.
type fixture struct {
	*testing.T
	*Engine
	*dockertest.Fake
	log *bytes.Buffer
}

// everything requests all that there is, at the default ratios.
func everything() Config {
	return Config{
		Timeout: 5 * time.Second, BusyRatio: BusyRatio{Unchanged: 0.005, Changed: 0.1},
		ContainerSizes: true, Volumes: true, BuildCache: true, IsLocal: true,
	}
}

// run runs a test under a fake clock, with an engine that answers from a folder.
func run(t *testing.T, dir string, config Config, test func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, dir, config)
		defer f.start()()
		test(f)
	})
}

// runWithEvents is run for an engine that streams events. A test of how the first stream is
// opened uses newFixture instead.
func runWithEvents(t *testing.T, dir string, config Config, test func(f *fixture, events eventStream)) {
	t.Helper()
	config.Events = true
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, dir, config)
		events := f.streamEvents()
		defer f.start()()
		synctest.Wait()
		test(f, events)
	})
}

// newFixture returns a fixture whose Engine is not yet running.
func newFixture(t *testing.T, dir string, config Config) *fixture {
	t.Helper()
	fake := dockertest.NewFake(testdata + dir)
	client, err := docker.New(docker.Config{Host: "http://fake", Timeout: config.Timeout, Transport: fake})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, Fake: fake, log: new(bytes.Buffer)}
	f.Engine = New(config, client, noHost{}, slog.New(slog.NewTextHandler(f.log, nil)))
	return f
}

// noHost is a machine without file systems.
type noHost struct{ Host }

func (noHost) Measure(context.Context, host.Engine) host.Usage { return host.Usage{} }

func (noHost) LayerStore(context.Context, host.Engine, float64) (*model.LayerStore, time.Duration, error) {
	return nil, 0, nil
}

// start runs the Engine, and returns what stops it.
func (f *fixture) start() (stop func()) {
	ctx, cancel := context.WithCancel(f.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Engine.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// scrape takes a snapshot as a scrape with the default timeout does.
func (f *fixture) scrape() model.Snapshot {
	f.Helper()
	s, _ := f.scrapeWithin(9500 * time.Millisecond)
	return s
}

// scrapeWithin takes a snapshot, and returns how long that took.
func (f *fixture) scrapeWithin(timeout time.Duration) (model.Snapshot, time.Duration) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), timeout)
	defer cancel()
	started := time.Now()
	s := f.Snapshot(ctx, 0)
	return s, time.Since(started)
}

// summary is scrape with the counts.
func (f *fixture) summary() prune.Summary {
	f.Helper()
	return prune.Summarize(f.scrape(), 0)
}

// reply makes an endpoint answer with a body.
func (f *fixture) reply(endpoint string, body any) {
	f.Answer(endpoint, replyWith(body))
}

// addImage makes the inspection of an image return one layer of a size. The list is the test's.
func (f *fixture) addImage(id string, size int64) {
	f.reply("/images/"+id+"/json", map[string]any{"Id": id, "Size": size, "RootFS": map[string]any{"Type": "layers", "Layers": []string{id}}})
	f.reply("/images/"+id+"/history", []map[string]any{{"Size": size}})
}

func replyWith(body any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if text, isText := body.(string); isText {
			fmt.Fprint(w, text)
			return
		}
		json.NewEncoder(w).Encode(body)
	}
}

// Answer replaces the handler of an endpoint. The objects that it writes need to name only the
// fields that matter.
func (f *fixture) Answer(endpoint string, handler http.HandlerFunc) {
	for pattern, w := range completions() {
		if matches, _ := path.Match(pattern, endpoint); matches && handler != nil {
			answer := handler
			handler = func(into http.ResponseWriter, r *http.Request) {
				w := w
				w.ResponseWriter = into
				answer(w, r)
			}
		}
	}
	f.Fake.Answer(endpoint, handler)
}

// completing adds the fields that every engine sends. Of two fields with the same name the
// last one counts.
type completing struct {
	http.ResponseWriter
	answer string // fields of the answer itself
	object string // fields of all objects that begin with an ID or a name
}

func completions() map[string]completing {
	return map[string]completing{
		"/info":              {answer: `"ServerVersion":"28.5.2","Driver":"overlay2","DriverStatus":[],"DockerRootDir":"/var/lib/docker","Images":0,"Containers":0`},
		"/images/json":       {object: `"RepoTags":null,"RepoDigests":null,"Size":0`},
		"/images/*/json":     {object: `"RepoTags":null,"RepoDigests":null,"Size":0`},
		"/containers/json":   {object: `"Image":"","ImageID":"","Created":0,"Mounts":[]`},
		"/containers/*/json": {object: `"Image":""`},
		"/volumes":           {object: `"Driver":"","Labels":null,"Options":null`},
		"/system/df":         {answer: `"Volumes":null,"BuildCache":null`, object: `"Type":"regular","InUse":false,"Shared":false,"Size":0,"Driver":"","Labels":null,"Options":null`},
	}
}

func (w completing) Write(body []byte) (int, error) {
	text := string(body)
	if rest, isObject := strings.CutPrefix(text, `{"`); isObject && w.answer != "" {
		text = "{" + w.answer + `,"` + rest
	}
	if w.object != "" {
		text = regexp.MustCompile(`\{"(Id|ID|Name|Driver)":`).ReplaceAllString(text, "{"+w.object+`,"$1":`)
	}
	_, err := w.ResponseWriter.Write([]byte(text))
	return len(body), err
}

// slow delays an endpoint.
func slow(d time.Duration, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(d):
			answer(w, r)
		case <-r.Context().Done():
		}
	}
}

// hang never answers.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// status answers with an HTTP status and a text.
func status(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, text)
	}
}

// scrapeAfter lets time pass and takes a snapshot.
func (f *fixture) scrapeAfter(d time.Duration) model.Snapshot {
	f.Helper()
	time.Sleep(d)
	return f.scrape()
}

// settle takes a snapshot after the requests that a scrape has made have been answered.
func (f *fixture) settle() model.Snapshot {
	f.Helper()
	f.scrape()
	synctest.Wait()
	return f.scrape()
}

// requested counts the requests whose path and query contain a text.
func (f *fixture) requested(text string) (n int) {
	synctest.Wait()
	for _, request := range f.Requests() {
		if strings.Contains(request, text) {
			n++
		}
	}
	return n
}

// logged fails unless the log contains each text exactly n times.
func (f *fixture) logged(n int, texts ...string) {
	f.Helper()
	synctest.Wait()
	for _, text := range texts {
		if got := strings.Count(f.log.String(), text); got != n {
			f.Errorf("the log contains %q %d times, want %d:\n%s", text, got, n, f.log)
		}
	}
}

// stateCount returns the number of containers by state. Nil is unknown.
func stateCount(a prune.Summary) map[model.State]int {
	var count map[model.State]int
	for _, c := range a.Counts.Containers.State {
		if count == nil {
			count = make(map[model.State]int)
		}
		count[model.State(c.Name)] = c.N
	}
	return count
}

// collectorOf returns the state of a collector.
func collectorOf(s model.Snapshot, name string) model.Collector {
	for _, c := range s.Collectors {
		if c.Name == name {
			return c
		}
	}
	return model.Collector{}
}

// stream answers /events with what is sent to it; an empty event ends the stream.
type eventStream struct{ events chan string }

func (f *fixture) streamEvents() eventStream {
	s := eventStream{make(chan string, 100000)}
	f.Answer("/events", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		for {
			select {
			case event := <-s.events:
				if event == "" {
					return
				}
				fmt.Fprintln(w, event)
			case <-r.Context().Done():
				return
			}
		}
	})
	return s
}

// send sends an event like "container die c1", with a time by the fake clock.
func (s eventStream) send(event string, attributes ...string) {
	kind, rest, _ := strings.Cut(event, " ")
	action, id, _ := strings.Cut(rest, " ")
	named := make(map[string]string)
	for i := 0; i+1 < len(attributes); i += 2 {
		named[attributes[i]] = attributes[i+1]
	}
	text, _ := json.Marshal(map[string]any{
		"Type": kind, "Action": action, "Actor": map[string]any{"ID": id, "Attributes": named}, "timeNano": time.Now().UnixNano(),
	})
	s.events <- string(text)
}

// slowEngine is a fixture whose lists are not fast, which streams events, and whose images
// and containers a test can change. It has the containerd store.
type slowEngine struct {
	*fixture
	events eventStream

	mu     sync.Mutex
	images map[string][]string // tags by ID
	states map[string]string   // of containers, by ID
	size   int                 // of the writable layer of each container
}

// slowList is how long a list of a slowEngine takes.
const slowList = fastRequest + 100*time.Millisecond

// runSlow is run for a slowEngine. The first lists are known when the test begins.
func runSlow(t *testing.T, config Config, test func(e *slowEngine)) {
	t.Helper()
	config.Events = true
	synctest.Test(t, func(t *testing.T) {
		e := &slowEngine{
			fixture: newFixture(t, "api-1.51-containerd", config),
			images:  map[string][]string{"sha256:a": {"a:1"}, "sha256:b": {"b:1"}},
			states:  map[string]string{"c1": "running", "c2": "exited"},
			size:    5,
		}
		e.events = e.streamEvents()
		e.Answer("/images/json", e.listImages)
		e.Answer("/containers/json", slow(slowList, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(e.containerList()) }))
		for _, id := range []string{"sha256:a", "sha256:b", "sha256:c"} {
			e.Answer("/images/"+id+"/json", e.inspectImage(id))
			e.reply("/images/"+id+"/history", `[{"Size":100}]`)
		}
		for _, id := range []string{"c1", "c2", "c3"} {
			e.Answer("/containers/"+id+"/json", e.inspectContainer(id))
		}
		defer e.start()()
		synctest.Wait()
		e.scrape()
		synctest.Wait()
		test(e)
	})
}

// listImages answers slowly, unless the list is of one tag.
func (e *slowEngine) listImages(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.RawQuery, "filters") {
		sleep(r.Context(), slowList)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []map[string]any
	for id, tags := range e.images {
		list = append(list, map[string]any{"Id": id, "RepoTags": tags, "Size": 100})
	}
	json.NewEncoder(w).Encode(list)
}

func (e *slowEngine) containerList() (list []map[string]any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, state := range e.states {
		list = append(list, map[string]any{"Id": id, "ImageID": "sha256:a", "State": state})
	}
	return list
}

func (e *slowEngine) inspectContainer(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.states[id] == "" {
			status(404, `{"message":"No such container: `+id+`"}`)(w, nil)
			return
		}
		fmt.Fprintf(w, `{"Id":%q,"Image":"sha256:a","Created":%[2]q,"State":{"Status":%q,"FinishedAt":%[2]q},"Config":{"Image":"a:1"},"SizeRw":%[4]d}`,
			id, dockertest.FinishedAt, e.states[id], e.size)
	}
}

func (e *slowEngine) inspectImage(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		tags, there := e.images[id]
		if !there {
			status(404, `{"message":"No such image: `+id+`"}`)(w, nil)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{
			"Id": id, "RepoTags": tags, "Size": 7, "RootFS": map[string]any{"Type": "layers", "Layers": []string{id}},
		})
	}
}

// change changes what the engine holds, and sends events.
func (e *slowEngine) change(change func(), events ...string) {
	e.mu.Lock()
	change()
	e.mu.Unlock()
	for _, event := range events {
		e.events.send(event)
	}
	synctest.Wait()
}

// lists counts the full lists that were requested from an endpoint.
func (e *slowEngine) lists(endpoint string) (n int) {
	synctest.Wait()
	for _, request := range e.Requests() {
		if strings.Contains(request, endpoint+"?all=1") && !strings.Contains(request, "filters") {
			n++
		}
	}
	return n
}

// containerOf returns a container of a snapshot.
func containerOf(s model.Snapshot, id string) model.Container {
	list, _ := s.Containers.Get()
	for _, c := range list {
		if c.ID == id {
			return c
		}
	}
	return model.Container{}
}
