package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"

	cerrdefs "github.com/containerd/errdefs"
)

// watched is everything() with events.
func watched() Config {
	config := everything()
	config.Events = true
	return config
}

// apiOf returns the API of an engine that is never reached.
func apiOf(t *testing.T, version string) *docker.API {
	t.Helper()
	client, err := docker.New(docker.Config{Host: "http://fake", Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.At(docker.Version{API: version})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// answered makes a request of a kind and merges its answer, which comes at a time.
func (s *state) answered(k kind, now time.Time, value any, err error, took time.Duration) {
	s.version++
	sched := s.schedules[k]
	if !sched.inFlight {
		sched.begin(now.Add(-took))
	}
	s.merge(result{task: task{kind: k, epoch: s.epoch, version: s.version, roots: s.roots, asOf: s.cacheVersion()}, value: value, err: err, took: took}, now)
}

// partOf merges one of several results of a request.
func (s *state) partOf(k kind, version int, now time.Time, value any) {
	s.merge(result{task: task{kind: k, epoch: s.epoch, version: version}, part: true, value: value}, now)
}

// failure is an error as package docker returns it.
func failure(reason string) error {
	return &model.Failure{Endpoint: "/x", Reason: reason, Hint: "hint of " + reason, Err: errors.New(reason)}
}

// gone is the engine's answer about an object that does not exist.
func gone(what string) error {
	text := "No such " + what
	return &model.Failure{Reason: text, Err: fmt.Errorf("%s: %w", text, cerrdefs.ErrNotFound)}
}

// timedOut is a request without an answer in time.
func timedOut() error {
	return &model.Failure{Reason: "no answer in time", Err: context.DeadlineExceeded}
}

var (
	stoppedAt   = at(-time.Hour)
	graphDriver = docker.Info{
		Engine:     model.Engine{Version: "28", APIVersion: "1.51", ImageStore: model.GraphDriver, StorageDriver: "overlay2", RootDir: "/data"},
		SystemTime: "2026-01-02T03:04:05Z", Images: 2, Containers: 2, KernelVersion: "6.1",
	}
)

func image(id string, tags ...string) model.Image {
	return model.Image{ID: id, Tags: tags, Size: model.Known[int64](100)}
}

func runningContainer(id string) model.Container {
	return model.Container{ID: id, ImageID: "i1", State: model.Running}
}

// inspected returns a stopped container as an inspection returns it.
func inspected(id string) model.Container {
	return model.Container{ID: id, ImageID: "i1", State: model.Exited, StoppedAt: model.Known(stoppedAt)}
}

// listedContainer returns a stopped container as a list returns it.
func listedContainer(id string) model.Container {
	return model.Container{ID: id, ImageID: "i1", State: model.Exited}
}

func sizeOfBytes(n int64) measuredSize {
	return measuredSize{Writable: model.Known(n), Image: model.Known[int64](100)}
}

// answersOf returns the successful answer of each kind that has a single one.
func answersOf(api *docker.API) map[kind]any {
	return map[kind]any{
		ping:        pingAnswer{version: "1.51", api: api},
		info:        graphDriver,
		images:      []model.Image{image("i1", "app:1"), image("i2", "app:2")},
		containers:  []model.Container{listedContainer("c1"), runningContainer("c2")},
		volumes:     []model.Volume{{Name: "data", Local: true}, {Name: "logs", Local: true}},
		volumeSizes: docker.DiskUsage{VolumeSizes: map[string]int64{"data": 1, "logs": 2}},
		buildCache:  docker.DiskUsage{BuildCache: []model.CacheRecord{{ID: "r1"}}},
		diskUsage: docker.DiskUsage{
			VolumeSizes: map[string]int64{"data": 1, "logs": 2}, BuildCache: []model.CacheRecord{{ID: "r1"}},
		},
		contents:       nil,
		details:        nil,
		containerSizes: nil,
		filesystems:    host.Usage{Filesystems: []model.Filesystem{{Path: "/data", Size: 10, Avail: 5}}},
	}
}

// newTestState returns a state that knows everything about an engine and watches its events:
// images i1 (app:1) and i2 (app:2), a stopped container c1 and a running one c2, both
// inspected and measured, volumes data and logs, and a record of the build cache. All
// requests ended at at(0) and took a second.
func newTestState(t *testing.T) *state { return newTestStateAt(t, "1.51", watched()) }

func newTestStateAt(t *testing.T, version string, config Config) *state {
	t.Helper()
	s := newState(config)
	answers := answersOf(apiOf(t, version))
	answers[ping] = pingAnswer{version, apiOf(t, version), nil}
	for _, k := range []kind{filesystems, ping, info, images, containers} {
		s.answered(k, at(0), answers[k], nil, time.Second)
	}
	if config.Events {
		s.schedules[events].begin(at(0))
		s.stream.since = firstSince(graphDriver)
		s.partOf(events, s.version, at(0), streamOpened{})
	}
	for _, image := range answers[images].([]model.Image) {
		content := model.Content{DiffIDs: []string{image.ID}, History: []model.Step{{Size: 100}}}
		s.partOf(contents, s.version, at(0), imageContent{image, content, nil})
	}
	s.partOf(details, s.version, at(0), inspectedContainer{"c1", inspected("c1"), nil})
	s.partOf(containerSizes, s.version, at(0), sizedContainer{inspected("c1"), sizeOfBytes(10), nil, 0})
	s.partOf(containerSizes, s.version, at(0), sizedContainer{runningContainer("c2"), sizeOfBytes(20), nil, 0})
	usageKinds := []kind{diskUsage}
	if s.api.CanSplitDiskUsage() {
		usageKinds = []kind{volumeSizes, buildCache}
	}
	for _, k := range append([]kind{volumes, contents, details, containerSizes}, usageKinds...) {
		s.answered(k, at(0), answers[k], nil, time.Second)
	}
	s.health.takeLog()
	return s
}

// messages returns the new lines of the log, without their levels.
func (s *state) messages() (lines []string) {
	for _, line := range s.health.takeLog() {
		lines = append(lines, line.String())
	}
	return lines
}

func (l logLine) String() string {
	return l.message + " " + strings.TrimSpace(fmt.Sprintln(l.args...))
}

func collectorNamed(s *state, name string) model.Collector {
	return collectorOf(s.snapshot(at(0)), name)
}

// staleKinds returns the kinds that are stale.
func (s *state) staleKinds() string {
	var stale []string
	for _, k := range kinds() {
		if s.schedules[k].stale {
			stale = append(stale, string(k))
		}
	}
	return strings.Join(stale, ", ")
}

func (s *state) pendingKeys() string {
	var keys []string
	for key := range s.changed.pending {
		keys = append(keys, key.id)
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}

// discarded returns the containers whose stop time or size is not known.
func (s *state) discarded() string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(s.details)) {
		d := s.details[id]
		if !d.size.IsKnown() || id == "c1" && !d.stoppedAt.IsKnown() {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, ", ")
}

func (s *state) changedVolumeNames() string {
	return strings.Join(slices.Sorted(maps.Keys(s.usage.changedVolumes)), ", ")
}

// TestEventEffects checks what each event makes outdated.
func TestEventEffects(t *testing.T) {
	t.Parallel()
	type effects struct {
		stale, pending, discarded, volumes string
		cacheChanges                       int
		prunes                             string
	}
	type attributes = map[string]string
	tests := []struct {
		event docker.Event
		want  effects
	}{
		{docker.Event{Type: "container", Action: "create", ID: "c9"}, effects{pending: "c9"}},
		{docker.Event{Type: "container", Action: "start", ID: "c1"}, effects{pending: "c1", discarded: "c1"}},
		{docker.Event{Type: "container", Action: "die", ID: "c2"}, effects{pending: "c2", discarded: "c2"}},
		{docker.Event{Type: "container", Action: "destroy", ID: "c1"}, effects{pending: "c1", discarded: "c1"}},
		{docker.Event{Type: "container", Action: "archive-path", ID: "c1"}, effects{pending: "c1", discarded: "c1"}},
		{docker.Event{Type: "container", Action: "start"}, effects{}},
		{
			docker.Event{Type: "container", Action: "commit", ID: "c1", Attributes: attributes{"imageID": "i9"}},
			effects{pending: "c1, i9", discarded: "c1"},
		},
		{docker.Event{Type: "container", Action: "commit", ID: "c1"}, effects{pending: "c1", discarded: "c1"}},
		{docker.Event{Type: "container", Action: "die", ID: "c1", Attributes: attributes{"imageID": "i9"}}, effects{pending: "c1", discarded: "c1"}},
		{
			docker.Event{Type: "container", Action: "prune", Attributes: attributes{"reclaimed": "7"}},
			effects{prunes: "containers 1 7"},
		},

		{docker.Event{Type: "image", Action: "delete", ID: "i1"}, effects{pending: "i1"}},
		{docker.Event{Type: "image", Action: "pull", ID: "app:2", Attributes: attributes{"name": "app:2"}}, effects{pending: "app:2, i2"}},
		{docker.Event{Type: "image", Action: "tag", ID: "i2", Attributes: attributes{"name": "app:1"}}, effects{pending: "i1, i2"}},
		{docker.Event{Type: "image", Action: "tag", ID: "i2", Attributes: attributes{"name": "app"}}, effects{pending: "i2"}},
		{docker.Event{Type: "image", Action: "untag"}, effects{}},
		{docker.Event{Type: "image", Action: "prune", Attributes: attributes{"reclaimed": "0"}}, effects{prunes: "images 1 0"}},

		{docker.Event{Type: "volume", Action: "create", ID: "new"}, effects{stale: "volumes, volume sizes", volumes: "new"}},
		{docker.Event{Type: "volume", Action: "destroy", ID: "data"}, effects{stale: "volumes, volume sizes", volumes: "data"}},
		{docker.Event{Type: "volume", Action: "mount", ID: "data"}, effects{stale: "volumes, volume sizes", volumes: "data"}},
		{docker.Event{Type: "volume", Action: "unmount", ID: "data"}, effects{stale: "volume sizes", volumes: "data"}},
		{
			docker.Event{Type: "volume", Action: "prune", Attributes: attributes{"reclaimed": "9"}},
			effects{stale: "volumes, volume sizes", volumes: "-", prunes: "volumes 1 9"},
		},

		{docker.Event{Type: "builder", Action: "prune", Attributes: attributes{"reclaimed": "3"}}, effects{
			stale: "build cache", cacheChanges: 1, prunes: "build_cache 1 3",
		}},
		{docker.Event{Type: "network", Action: "disconnect", ID: "n1", Attributes: attributes{"container": "c1"}}, effects{pending: "c1", discarded: "c1"}},
		{docker.Event{Type: "network", Action: "disconnect", ID: "n1"}, effects{}},
		{docker.Event{Type: "network", Action: "prune"}, effects{}},
		{docker.Event{Type: "plugin", Action: "enable", ID: "c1"}, effects{}},
	}
	for _, test := range tests {
		t.Run(test.event.Type+" "+test.event.Action, func(t *testing.T) {
			s := newTestState(t)
			version, cacheChanges := s.version, s.usage.cacheChanges
			test.event.TimeNano = at(time.Minute).UnixNano()
			s.partOf(events, 0, at(time.Second), test.event)
			got := effects{
				stale: s.staleKinds(), pending: s.pendingKeys(), discarded: s.discarded(), volumes: s.changedVolumeNames(),
				cacheChanges: s.usage.cacheChanges - cacheChanges,
			}
			if _, nameless := s.usage.changedVolumes[""]; nameless {
				got.volumes = "-"
			}
			for _, p := range s.prunes.report(s.roots.ImageStore) {
				if p.Count > 0 {
					got.prunes += fmt.Sprintf("%s %d %d", p.Resource, p.Count, p.Bytes)
				}
			}
			if got != test.want {
				t.Errorf("%+v:\n got %+v\nwant %+v", test.event, got, test.want)
			}
			if s.version <= version || !s.stream.heard || s.stream.since != test.event.TimeNano {
				t.Errorf("version %d after %d, stream %+v", s.version, version, s.stream)
			}
		})
	}
}

// TestEventEffectsBeforeSplitDiskUsage checks that there is one request for volumes and build
// cache before API 1.42.
func TestEventEffectsBeforeSplitDiskUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		event docker.Event
		want  string
	}{
		{docker.Event{Type: "volume", Action: "unmount", ID: "data"}, "disk usage"},
		{docker.Event{Type: "volume", Action: "create", ID: "data"}, "volumes, disk usage"},
		{docker.Event{Type: "builder", Action: "prune"}, "disk usage"},
	} {
		s := newTestStateAt(t, "1.41", watched())
		s.partOf(events, 0, at(time.Second), test.event)
		if got := s.staleKinds(); got != test.want {
			t.Errorf("%s %s: stale %q, want %q", test.event.Type, test.event.Action, got, test.want)
		}
	}
}

func TestEventEffectsWithoutVolumes(t *testing.T) {
	t.Parallel()
	config := watched()
	config.Volumes = false
	s := newTestStateAt(t, "1.51", config)
	s.partOf(events, 0, at(time.Second), docker.Event{Type: "volume", Action: "unmount", ID: "data"})
	if s.staleKinds() != "" || len(s.usage.changedVolumes) > 0 {
		t.Errorf("stale %q, changed %v", s.staleKinds(), s.usage.changedVolumes)
	}
}

// TestEventSince checks that the stream continues at the newest event.
func TestEventSince(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	for _, nanos := range []int64{100, 50, -3} {
		s.stream.since = max(s.stream.since, at(0).UnixNano()+100)
		s.partOf(events, 0, at(0), docker.Event{Type: "container", Action: "die", TimeNano: at(0).UnixNano() + nanos})
		if want := at(0).UnixNano() + 100; s.stream.since != want {
			t.Errorf("after an event at %d: since %d, want %d", nanos, s.stream.since, want)
		}
	}
}

// TestTooManyChanges checks that a list replaces more inspections than it costs.
func TestTooManyChanges(t *testing.T) {
	t.Parallel()
	for k, eventType := range map[kind]string{images: "image", containers: "container"} {
		s := newTestState(t)
		for i := range maxPending(k) {
			s.partOf(events, 0, at(0), docker.Event{Type: eventType, Action: "create", ID: fmt.Sprint("x", i)})
		}
		if s.schedules[k].stale || s.changed.count(k) != maxPending(k) {
			t.Errorf("%s: %d changes make the list stale: %v", k, s.changed.count(k), s.schedules[k].stale)
		}
		s.partOf(events, 0, at(time.Second), docker.Event{Type: eventType, Action: "create", ID: "x0"})
		if s.schedules[k].stale || s.changed.pending[objectKey{k, "x0"}].last != at(time.Second) {
			t.Errorf("%s: a second change of an object is one too many", k)
		}
		s.partOf(events, 0, at(0), docker.Event{Type: eventType, Action: "create", ID: "more"})
		if !s.schedules[k].stale || s.changed.count(k) != maxPending(k) {
			t.Errorf("%s: one more does not make the list stale", k)
		}
	}
}

// TestOldEpoch checks that a result of an engine that is gone changes nothing.
func TestOldEpoch(t *testing.T) {
	t.Parallel()
	answers := answersOf(apiOf(t, "1.51"))
	answers[contents] = imageContent{image("i1"), model.Content{DiffIDs: []string{"other"}}, nil}
	answers[details] = inspectedContainer{"c1", runningContainer("c1"), nil}
	answers[containerSizes] = sizedContainer{runningContainer("c2"), sizeOfBytes(99), nil, 0}
	answers[changes] = inspectedContainer{"c1", listedContainer("c1"), gone("container")}
	answers[events] = docker.Event{Type: "builder", Action: "prune", TimeNano: 1}
	for _, k := range kinds() {
		if k == ping || k == filesystems {
			continue
		}
		for _, part := range []bool{false, true} {
			for _, err := range []error{nil, failure("broken")} {
				s, same := newTestState(t), newTestState(t)
				s.schedules[k].begin(at(time.Minute))
				same.schedules[k].begin(at(time.Minute))
				old := task{kind: k, epoch: s.epoch - 1, version: math.MaxInt}
				s.merge(result{task: old, part: part, value: answers[k], err: err, took: time.Hour}, at(time.Hour))
				if !reflect.DeepEqual(s.snapshot(at(0)), same.snapshot(at(0))) {
					t.Errorf("%s, part %v, error %v: the snapshot has changed", k, part, err)
				}
				if *s.schedules[k] != *same.schedules[k] || s.stream != same.stream || s.messages() != nil {
					t.Errorf("%s, part %v, error %v: the state has changed", k, part, err)
				}
			}
		}
	}
}

// TestOldPing checks that an answer to a ping counts even if the state was reset meanwhile.
func TestOldPing(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.merge(result{task: task{kind: ping, epoch: s.epoch - 1}, err: failure("refused")}, at(time.Minute))
	if s.snapshot(at(0)).Up {
		t.Error("a failed ping of before a reset was dropped")
	}
	s.merge(result{task: task{kind: ping, epoch: s.epoch - 1}, value: pingAnswer{"1.51", apiOf(t, "1.51"), nil}}, at(time.Minute))
	if !s.snapshot(at(0)).Up {
		t.Error("a ping of before a reset was dropped")
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.event(docker.Event{Type: "container", Action: "prune", TimeNano: at(0).UnixNano(), Attributes: map[string]string{"reclaimed": "7"}}, at(0))
	s.event(docker.Event{Type: "container", Action: "create", ID: "c9"}, at(0))
	s.contents.merge(imageContent{image("i9"), model.Content{}, failure("broken")}, at(0), at(0))
	s.contents.merge(imageContent{image("i8"), model.Content{}, gone("image")}, at(0), at(0))
	s.stream.backoff = 4 * time.Second
	s.waiting = []request{{reply: make(chan model.Snapshot, 1)}}
	for _, k := range kinds() {
		s.schedules[k].failures, s.schedules[k].inFlight = 3, true
	}
	before := s.snapshot(at(0))
	epoch, version, pinged, measured := s.epoch, s.version, *s.schedules[ping], *s.schedules[filesystems]

	s.reset()
	if s.epoch <= epoch || s.version < version {
		t.Errorf("epoch %d after %d, version %d after %d", s.epoch, epoch, s.version, version)
	}
	for _, k := range kinds() {
		switch {
		case k == ping && *s.schedules[k] != pinged, k == filesystems && *s.schedules[k] != measured:
			t.Errorf("the schedule of the %s has changed", k)
		case k != ping && k != filesystems && *s.schedules[k] != schedule{}:
			t.Errorf("the schedule of %s remains: %+v", k, s.schedules[k])
		}
	}
	if s.stream != (stream{backoff: 4 * time.Second, since: at(0).UnixNano()}) {
		t.Errorf("stream %+v", s.stream)
	}
	if s.api != nil || s.engineVersion != "" || s.info.IsKnown() || len(s.changed.pending) > 0 || len(s.details) > 0 || len(s.waiting) != 1 {
		t.Errorf("after a reset: %+v", s)
	}
	if len(s.contents.all()) != 2 || len(s.contents.failed()) != 0 || len(s.contents.missing) != 0 {
		t.Errorf("contents %v, failed %v, missing %v", s.contents.all(), s.contents.failed(), s.contents.missing)
	}
	if s.roots.ImageStore != model.GraphDriver || s.roots.Docker != "/data" {
		t.Errorf("roots %v", s.roots)
	}

	s.api = apiOf(t, "1.51") // else the snapshot has nothing, known or not
	after := s.snapshot(at(0))
	if after.Engine.IsKnown() || after.Images.IsKnown() || after.Containers.IsKnown() || after.Volumes.IsKnown() || after.BuildCache.IsKnown() {
		t.Errorf("after a reset: %+v", after)
	}
	if !reflect.DeepEqual(after.Prunes, before.Prunes) || !reflect.DeepEqual(after.Filesystems, before.Filesystems) {
		t.Errorf("prunes %v, file systems %v", after.Prunes, after.Filesystems)
	}
	if len(after.Collectors) != len(before.Collectors) {
		t.Errorf("%d collectors, before %d", len(after.Collectors), len(before.Collectors))
	}
	for i, c := range after.Collectors {
		if c.Success != (c.Name == "filesystems") || c.LastSuccess != before.Collectors[i].LastSuccess || c.Duration != before.Collectors[i].Duration {
			t.Errorf("%+v, before %+v", c, before.Collectors[i])
		}
	}
}

// TestResetKeepsFilesystems checks that the disk of an engine that is gone is still measured
// with success.
func TestResetKeepsFilesystems(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.answered(ping, at(time.Minute), nil, failure("refused"), time.Millisecond)
	s.answered(filesystems, at(time.Minute), host.Usage{Filesystems: []model.Filesystem{{Path: "/data"}}}, nil, time.Millisecond)
	snapshot := s.snapshot(at(time.Minute))
	if c := collectorOf(snapshot, "filesystems"); snapshot.Up || !c.Success || len(snapshot.Filesystems) != 1 {
		t.Errorf("up %v, %+v, %v", snapshot.Up, c, snapshot.Filesystems)
	}
}

func TestMergePing(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.answered(ping, at(time.Minute), pingAnswer{"1.51", s.api, nil}, nil, time.Millisecond)
	if lines := s.messages(); !s.up || !s.images.isKnown() || lines != nil {
		t.Errorf("a ping as before: up %v, images %v, log %q", s.up, s.images.isKnown(), lines)
	}
	epoch := s.epoch
	s.answered(ping, at(time.Minute), pingAnswer{"1.44", apiOf(t, "1.44"), nil}, nil, time.Millisecond)
	if !s.up || s.epoch == epoch || s.images.isKnown() || s.api.Version() != "1.44" || s.engineVersion != "1.44" {
		t.Errorf("another version: up %v, epoch %d, images %v, version %s", s.up, s.epoch, s.images.isKnown(), s.engineVersion)
	}
	s.answered(ping, at(time.Minute), pingAnswer{"1.12", nil, failure("too old")}, nil, time.Millisecond)
	snapshot := s.snapshot(at(time.Minute))
	if want := []string{"cannot negotiate the API version err too old hint hint of too old"}; !snapshot.Up || snapshot.Engine.IsKnown() || !slices.Equal(s.messages(), want) {
		t.Errorf("no common version: %+v", snapshot)
	}
	s.waiting = []request{{notBefore: at(time.Hour)}}
	if tasks := kindsOf(s.due(at(time.Hour))); !slices.Equal(tasks, []kind{filesystems, ping}) {
		t.Errorf("no common version: requests %v", tasks)
	}
	s = newTestState(t)
	s.answered(ping, at(time.Minute), nil, failure("refused"), time.Millisecond)
	if want := at(time.Minute).Add(minStreamBackoff); s.up || s.images.isKnown() || s.api != nil || s.stream.retryAt != want {
		t.Errorf("no answer: up %v, images %v, stream %+v", s.up, s.images.isKnown(), s.stream)
	}
	s.answered(ping, at(time.Hour), nil, failure("refused"), time.Millisecond)
	if want := at(time.Hour).Add(2 * minStreamBackoff); s.stream.retryAt != want {
		t.Errorf("no answer again: stream %+v", s.stream)
	}
	s.answered(ping, at(time.Hour), pingAnswer{"1.51", apiOf(t, "1.51"), nil}, nil, time.Millisecond)
	if lines := s.messages(); len(lines) != 2 || lines[0] != "cannot reach the engine err refused hint hint of refused" || lines[1] != "recovered operation reach the engine" {
		t.Errorf("log %q", lines)
	}
}

func (o *objects[T]) isKnown() bool {
	_, known := o.all()
	return known
}

func kindsOf(tasks []task) (list []kind) {
	for _, t := range tasks {
		list = append(list, t.kind)
	}
	return list
}

func TestIsAnotherEngine(t *testing.T) {
	t.Parallel()
	change := func(apply func(*docker.Info)) docker.Info {
		changed := graphDriver
		apply(&changed)
		return changed
	}
	tests := []struct {
		name string
		info docker.Info
		want bool
	}{
		{"the same", graphDriver, false},
		{"version", change(func(i *docker.Info) { i.Version = "29" }), true},
		{"root directory", change(func(i *docker.Info) { i.RootDir = "/other" }), true},
		{"image store", change(func(i *docker.Info) { i.ImageStore = model.Containerd }), true},
		{"counts", change(func(i *docker.Info) { i.Images, i.Containers = 99, 99 }), false},
		{"clock", change(func(i *docker.Info) { i.SystemTime = "1970-01-01T00:00:00Z" }), false},
	}
	for _, test := range tests {
		if got := isAnotherEngine(graphDriver, test.info); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		s := newTestState(t)
		s.waiting = []request{{notBefore: at(time.Hour)}}
		epoch := s.epoch
		s.answered(info, at(time.Hour), test.info, nil, time.Millisecond)
		if isReset := s.epoch != epoch; isReset != test.want || s.images.isKnown() == test.want || !s.up {
			t.Errorf("%s: reset %v, images known %v, up %v", test.name, isReset, s.images.isKnown(), s.up)
		}
		if engine, _ := s.snapshot(at(0)).Engine.Get(); engine != test.info.Engine {
			t.Errorf("%s: engine %+v", test.name, engine)
		}
	}
}

func TestMergeInfo(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.answered(info, at(time.Minute), nil, failure("forbidden"), time.Second)
	if engine, _ := s.snapshot(at(0)).Engine.Get(); engine != graphDriver.Engine || !s.images.isKnown() || len(s.messages()) != 1 {
		t.Errorf("after a failure: engine %+v, images %v", engine, s.images.isKnown())
	}
	moved := graphDriver
	moved.RootDir, moved.ImageStore, moved.ContainerdAddress = "/other", model.Containerd, "/other/containerd.sock"
	moved.Hostname, moved.BackingFilesystem = "web1", "xfs"
	s.answered(info, at(2*time.Minute), moved, nil, time.Second)
	want := host.Roots{
		Docker: "/other", ContainerdAddress: "/other/containerd.sock", ImageStore: model.Containerd, StorageDriver: "overlay2",
		BackingFilesystem: "xfs", KernelVersion: "6.1", Hostname: "web1",
	}
	if s.roots != want {
		t.Errorf("roots %+v", s.roots)
	}

	// A list that was made before the image store was known is made again.
	s = newTestState(t)
	s.info = model.Optional[docker.Info]{}
	s.answered(info, at(time.Minute), graphDriver, nil, time.Second)
	if s.staleKinds() != "images" {
		t.Errorf("stale %q, want images", s.staleKinds())
	}
}

func TestCheckCounts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		prepare func(*state)
		images  int // that the engine counts, more than before
		others  int // containers, more than before
		stale   string
		stops   bool // the time of the stop of c1 is still known
	}{
		{"nothing has changed", func(*state) {}, 0, 0, "", true},
		{"an image more", func(*state) {}, 1, 0, "images", true},
		{"a container less", func(*state) {}, 0, -1, "containers", true},
		{"both", func(*state) {}, -1, 1, "containers, images", true},
		{"a change is pending", func(s *state) { s.changed.add(objectKey{containers, "c9"}, at(0)) }, 1, 1, "", true},
		{"the lists are in flight", func(s *state) {
			s.schedules[images].begin(at(0))
			s.schedules[containers].begin(at(0))
		}, 1, 1, "", true},
		{"one list is in flight", func(s *state) { s.schedules[images].begin(at(0)) }, 1, 1, "containers", true},
		{"without a stream", func(s *state) { s.stream.connected = false }, 0, 0, "", false},
		{"without a stream, a change is pending", func(s *state) {
			s.stream.connected = false
			s.changed.add(objectKey{containers, "c9"}, at(0))
		}, 1, 1, "", false},
		{"events are not watched", func(s *state) { s.config.Events, s.stream.connected = false, false }, 0, 0, "", true},
	}
	for _, test := range tests {
		s := newTestState(t)
		s.answered(info, at(time.Minute), graphDriver, nil, time.Millisecond)
		test.prepare(s)
		counted := graphDriver
		counted.Images += test.images
		counted.Containers += test.others
		s.answered(info, at(2*time.Minute), counted, nil, time.Millisecond)
		if got := s.staleKinds(); got != test.stale {
			t.Errorf("%s: stale %q, want %q", test.name, got, test.stale)
		}
		if got := s.details["c1"].stoppedAt.IsKnown(); got != test.stops {
			t.Errorf("%s: the time of the stop is known: %v, want %v", test.name, got, test.stops)
		}
		if !s.details["c1"].size.IsKnown() {
			t.Errorf("%s: the size was discarded", test.name)
		}
	}
}

// TestMergeFailures checks that what fails is unknown, with one line in the log.
func TestMergeFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		kind      kind
		collector string
		line      string
		isUnknown func(model.Snapshot) bool
	}{
		{images, "images", "cannot list images", func(s model.Snapshot) bool { return !s.Images.IsKnown() && s.Contents == nil }},
		{containers, "containers", "cannot list containers", func(s model.Snapshot) bool { return !s.Containers.IsKnown() }},
		{volumes, "volumes", "cannot list volumes", func(s model.Snapshot) bool { return !s.Volumes.IsKnown() }},
		{volumeSizes, "volumes", "cannot measure volumes", func(s model.Snapshot) bool {
			list, known := s.Volumes.Get()
			return known && len(list) == 2 && !list[0].Size.IsKnown() && !list[1].Size.IsKnown()
		}},
		{buildCache, "build_cache", "cannot list the build cache", func(s model.Snapshot) bool { return !s.BuildCache.IsKnown() }},
	}
	for _, test := range tests {
		s := newTestState(t)
		before := collectorNamed(s, test.collector)
		if !before.Success || test.isUnknown(s.snapshot(at(0))) {
			t.Fatalf("%s: %+v before the failure", test.kind, before)
		}
		for i := range 3 {
			s.answered(test.kind, at(time.Hour), nil, timedOut(), 30*time.Second)
			after := collectorNamed(s, test.collector)
			if after.Success || after.Duration != before.Duration || after.LastSuccess != before.LastSuccess {
				t.Errorf("%s: failed: %+v, before %+v", test.kind, after, before)
			}
			if !test.isUnknown(s.snapshot(at(0))) {
				t.Errorf("%s: failed, and known", test.kind)
			}
			lines := s.messages()
			if isLogged := len(lines) == 1 && strings.HasPrefix(lines[0], test.line+" err no answer in time"); isLogged != (i == 0) {
				t.Errorf("%s: failure %d: log %q", test.kind, i, lines)
			}
			sched := s.schedules[test.kind]
			if sched.failures != i+1 || sched.timeouts != i+1 || sched.took != time.Second || sched.ended != at(time.Hour) {
				t.Errorf("%s: failure %d: %+v", test.kind, i, sched)
			}
		}
		s.answered(test.kind, at(2*time.Hour), answersOf(s.api)[test.kind], nil, 2*time.Second)
		after := collectorNamed(s, test.collector)
		if !after.Success || test.kind != volumes && (after.Duration != model.Known(2*time.Second) || after.LastSuccess != model.Known(at(2*time.Hour))) {
			t.Errorf("%s: succeeded: %+v", test.kind, after)
		}
		if test.isUnknown(s.snapshot(at(0))) || len(s.messages()) != 1 {
			t.Errorf("%s: succeeded, and unknown or not one line in the log", test.kind)
		}
		if sched := s.schedules[test.kind]; sched.failures != 0 || sched.timeouts != 0 || sched.took != 2*time.Second {
			t.Errorf("%s: succeeded: %+v", test.kind, sched)
		}
	}
}

// TestMergeDiskUsage checks the one request before API 1.42.
func TestMergeDiskUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ volumes, cache bool }{{true, true}, {true, false}, {false, true}} {
		config := watched()
		config.Volumes, config.BuildCache = test.volumes, test.cache
		s := newTestStateAt(t, "1.41", config)
		if s.usage.sizes.IsKnown() != test.volumes || s.usage.records.IsKnown() != test.cache {
			t.Errorf("%+v: sizes %v, records %v", test, s.usage.sizes, s.usage.records)
		}
		s.answered(diskUsage, at(time.Hour), docker.DiskUsage{}, failure("broken"), time.Second)
		if s.usage.sizes.IsKnown() || s.usage.records.IsKnown() {
			t.Errorf("%+v: failed, and known", test)
		}
		if lines := s.messages(); (len(lines) == 2) != (test.volumes && test.cache) {
			t.Errorf("%+v: log %q", test, lines)
		}
	}
}

func TestVolumeSizeStale(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	stale := func() string {
		var names []string
		list, _ := s.snapshot(at(0)).Volumes.Get()
		for _, v := range list {
			if v.SizeStale {
				names = append(names, v.Name)
			}
		}
		return strings.Join(names, ", ")
	}
	check := func(name, want string) {
		t.Helper()
		if got := stale(); got != want {
			t.Errorf("%s: stale %q, want %q", name, got, want)
		}
	}
	check("measured", "")
	version := s.version
	s.event(docker.Event{Type: "volume", Action: "unmount", ID: "data"}, at(0))
	check("after an event", "data")
	measure := func(version int) {
		s.schedules[volumeSizes].begin(at(0))
		s.merge(result{task: task{kind: volumeSizes, epoch: s.epoch, version: version}, value: answersOf(nil)[volumeSizes], took: time.Second}, at(0))
	}
	measure(version)
	check("measured before the event", "data")
	measure(s.version + 1)
	check("measured after the event", "")
	s.stream.connected = false
	check("without a stream", "data, logs")
	s.schedules[volumeSizes].took = time.Millisecond
	check("without a stream, measured at each scrape", "")
	s.schedules[volumeSizes].begin(at(0))
	check("without a stream, the measurement is in flight", "data, logs")
	s.config.Events = false
	check("events are not watched", "")
}

func TestBuildCacheStale(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	check := func(name string, want bool) {
		t.Helper()
		if got := s.snapshot(at(0)).BuildCacheStale; got != want {
			t.Errorf("%s: stale %v, want %v", name, got, want)
		}
		s.schedules[buildCache].stale = false
		s.markStale()
		if got := s.schedules[buildCache].stale; got != want {
			t.Errorf("%s: the schedule is stale: %v, want %v", name, got, want)
		}
	}
	list := func() {
		s.answered(buildCache, at(0), docker.DiskUsage{}, nil, time.Second)
	}
	check("listed", false)
	s.event(docker.Event{Type: "builder", Action: "prune"}, at(0))
	check("pruned", true)
	before := s.cacheVersion()
	list()
	check("listed again", false)
	s.event(docker.Event{Type: "builder", Action: "prune"}, at(0))
	s.merge(result{task: task{kind: buildCache, epoch: s.epoch, version: s.version, asOf: before}, value: docker.DiskUsage{}}, at(0))
	check("pruned while it was listed", true)
	list()
	s.images.update("i1", math.MaxInt, image("i1"))
	check("an image was inspected", false)
	s.images.remove("i2", math.MaxInt)
	check("an image was removed", true)
}

// TestMarkStale checks that a new volume is measured.
func TestMarkStale(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	if s.markStale(); s.staleKinds() != "" {
		t.Errorf("all volumes are measured, stale %q", s.staleKinds())
	}
	s.usage.volumes = model.Known([]model.Volume{{Name: "data", Local: true}, {Name: "nfs"}})
	if s.markStale(); s.staleKinds() != "" {
		t.Errorf("a volume elsewhere, stale %q", s.staleKinds())
	}
	s.usage.volumes = model.Known([]model.Volume{{Name: "data", Local: true}, {Name: "new", Local: true}})
	if s.markStale(); s.staleKinds() != "volume sizes" {
		t.Errorf("a new volume, stale %q", s.staleKinds())
	}
}

// TestContainerSizes checks for how long a size is valid.
func TestContainerSizes(t *testing.T) {
	t.Parallel()
	sizes := func(s *state) string {
		var fields []string
		list, _ := s.snapshot(at(0)).Containers.Get()
		for _, c := range list {
			size, known := c.Size.Get()
			fields = append(fields, fmt.Sprint(c.ID, " ", cmp.Or(map[bool]string{true: fmt.Sprint(size)}[known], "?")))
		}
		return strings.Join(fields, ", ")
	}
	tests := []struct {
		name  string
		apply func(*state)
		want  string
	}{
		{"measured", func(*state) {}, "c1 10, c2 20"},
		{"0 bytes", func(s *state) {
			s.partOf(containerSizes, s.version, at(0), sizedContainer{runningContainer("c2"), sizeOfBytes(0), nil, 0})
		}, "c1 10, c2 0"},
		{"unknown to the engine", func(s *state) {
			s.partOf(containerSizes, s.version, at(0), sizedContainer{runningContainer("c2"), measuredSize{}, nil, 0})
		}, "c1 10, c2 ?"},
		{"an event", func(s *state) { s.event(docker.Event{Type: "container", Action: "die", ID: "c2"}, at(0)) }, "c1 10, c2 ?"},
		{"an event during the measurement", func(s *state) {
			version := s.version
			s.event(docker.Event{Type: "container", Action: "archive-path", ID: "c2"}, at(0))
			s.partOf(containerSizes, version, at(0), sizedContainer{runningContainer("c2"), sizeOfBytes(5), nil, 0})
		}, "c1 10, c2 ?"},
		{"an event before the measurement", func(s *state) {
			s.event(docker.Event{Type: "container", Action: "archive-path", ID: "c2"}, at(0))
			s.partOf(containerSizes, s.version+1, at(0), sizedContainer{runningContainer("c2"), sizeOfBytes(5), nil, 0})
		}, "c1 10, c2 5"},
		{"stopped since, without an event", func(s *state) { s.containers.update("c2", s.version, inspected("c2")) }, "c1 10, c2 ?"},
		{"started since, without an event", func(s *state) { s.containers.update("c1", s.version, runningContainer("c1")) }, "c1 ?, c2 20"},
		{"paused since", func(s *state) {
			paused := runningContainer("c2")
			paused.State = model.Paused
			s.containers.update("c2", s.version, paused)
		}, "c1 10, c2 20"},
		{"ran again, without an event", func(s *state) {
			again := inspected("c1")
			again.StoppedAt = model.Known(at(0))
			s.partOf(details, s.version, at(0), inspectedContainer{"c1", again, nil})
		}, "c1 ?, c2 20"},
		{"failed", func(s *state) {
			s.partOf(containerSizes, s.version, at(0), sizedContainer{runningContainer("c2"), measuredSize{}, timedOut(), 0})
		}, "c1 10, c2 ?"},
		{"gone", func(s *state) {
			s.partOf(containerSizes, s.version, at(0), sizedContainer{runningContainer("c2"), measuredSize{}, gone("container"), 0})
		}, "c1 10, c2 ?"},
		{"the stream was opened again", func(s *state) { s.partOf(events, 0, at(0), streamOpened{}) }, "c1 ?, c2 ?"},
	}
	for _, test := range tests {
		s := newTestState(t)
		test.apply(s)
		if got := sizes(s); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestUnmeasured checks which containers are measured, in which order.
func TestUnmeasured(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	check := func(name string, now time.Duration, want, wantFailed string, wantStale bool) {
		t.Helper()
		ids := func(list []model.Container, isStale bool) (string, bool) {
			var ids []string
			for _, c := range list {
				ids = append(ids, c.ID)
			}
			return strings.Join(ids, " "), isStale
		}
		got, isStale := ids(s.unmeasured(false, at(now)))
		failed, _ := ids(s.unmeasured(true, at(now)))
		if got != want || failed != wantFailed || isStale != wantStale {
			t.Errorf("%s: %q and failed %q, stale %v; want %q, %q, %v", name, got, failed, isStale, want, wantFailed, wantStale)
		}
	}
	check("all are measured", 0, "c2", "", false)
	s.containers.update("c3", s.version, listedContainer("c3"))
	check("it is not known when it stopped", 0, "c2", "", false)
	s.partOf(details, s.version, at(0), inspectedContainer{"c3", inspected("c3"), nil})
	check("it is known when it stopped", 0, "c2 c3", "", true)
	s.partOf(containerSizes, s.version, at(0), sizedContainer{runningContainer("c2"), measuredSize{}, timedOut(), 0})
	check("one has failed, in back-off", time.Second-1, "c3", "", true)
	check("one has failed, after the back-off", time.Second, "c3", "c2", true)
	s.partOf(containerSizes, s.version, at(0), sizedContainer{inspected("c3"), sizeOfBytes(1), nil, 0})
	check("the other is measured, in back-off", time.Second-1, "", "", false)
	check("the other is measured, after the back-off", time.Second, "", "c2", false)
}

// TestUninspected checks which containers are inspected.
func TestUninspected(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	check := func(name string, now time.Duration, want string) {
		t.Helper()
		if got := strings.Join(s.uninspected(at(now)), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	check("all are inspected", 0, "")
	s.containers.mergeList([]model.Container{listedContainer("c1"), runningContainer("c2")}, s.version)
	check("listed again", 0, "")
	s.event(docker.Event{Type: "container", Action: "start", ID: "c1"}, at(0))
	check("an event", 0, "c1")
	s.partOf(details, s.version, at(0), inspectedContainer{"c1", model.Container{}, timedOut()})
	check("failed, in back-off", time.Second-1, "")
	check("failed, after the back-off", time.Second, "c1")
	if lines := s.messages(); len(lines) != 1 || lines[0] != "cannot inspect containers err container c1: no answer in time hint" {
		t.Errorf("log %q", lines)
	}
	unreadable := listedContainer("c1")
	unreadable.Failed = true
	s.partOf(details, s.version, at(0), inspectedContainer{"c1", unreadable, nil})
	check("FinishedAt is not a time", time.Second-1, "")
	if list, _ := s.snapshot(at(0)).Containers.Get(); !list[0].Failed || list[1].Failed {
		t.Errorf("failed: %v, %v", list[0].Failed, list[1].Failed)
	}
	s.partOf(details, s.version, at(0), inspectedContainer{"c1", model.Container{}, gone("container")})
	if list, _ := s.snapshot(at(0)).Containers.Get(); len(list) != 1 || list[0].ID != "c2" {
		t.Errorf("gone: %v", list)
	}
	s.roots.ImageStore = model.Containerd
	check("the containerd store needs references", 0, "c2")
}

// TestStopTimeIsDiscarded checks that nothing remains of when a container stopped if it may
// have run again, whether its record is of a list or of an inspection.
func TestStopTimeIsDiscarded(t *testing.T) {
	t.Parallel()
	discards := map[string]func(*state){
		"an event":         func(s *state) { s.event(docker.Event{Type: "container", Action: "start", ID: "c1"}, at(0)) },
		"a stream again":   func(s *state) { s.partOf(events, 0, at(0), streamOpened{}) },
		"no stream at all": func(s *state) { s.stream.connected = false; s.answered(info, at(resyncInterval), graphDriver, nil, 0) },
	}
	for name, discard := range discards {
		for _, isListed := range []bool{true, false} {
			s := newTestState(t) // it was inspected after it was listed
			if isListed {
				s.containers.mergeList([]model.Container{listedContainer("c1")}, s.version)
			}
			discard(s)
			if list, _ := s.snapshot(at(0)).Containers.Get(); list[0].StoppedAt.IsKnown() || len(s.uninspected(at(0))) != 1 {
				t.Errorf("%s, listed last %v: stopped at %v, %d to inspect", name, isListed, list[0].StoppedAt, len(s.uninspected(at(0))))
			}
		}
	}
}

// TestMergeContainersForgetsDetails checks that the details of removed containers go.
func TestMergeContainersForgetsDetails(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.partOf(containerSizes, s.version, at(0), sizedContainer{runningContainer("c2"), measuredSize{}, timedOut(), 0})
	s.partOf(details, s.version, at(0), inspectedContainer{"c2", model.Container{}, timedOut()})
	if lines := s.messages(); len(lines) != 2 || collectorNamed(s, "containers").Success || collectorNamed(s, "container_sizes").Success {
		t.Errorf("log %q", lines)
	}
	s.answered(containers, at(time.Hour), []model.Container{listedContainer("c1")}, nil, time.Second)
	if len(s.details) != 1 || s.details["c1"] == nil {
		t.Errorf("details %v", s.details)
	}
	if lines := s.messages(); len(lines) != 2 || !collectorNamed(s, "containers").Success || !collectorNamed(s, "container_sizes").Success {
		t.Errorf("log %q", lines)
	}
	s.answered(containers, at(time.Hour), []model.Container{runningContainer("c1")}, nil, time.Second)
	if s.details["c1"].stoppedAt.IsKnown() {
		t.Error("it is known when a running container stopped")
	}
}

// TestMergeDetailsOfRemoved checks that a late failure does not name a container that is gone.
func TestMergeDetailsOfRemoved(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	version := s.version
	s.partOf(changes, version+1, at(0), inspectedContainer{"c1", model.Container{}, gone("container")})
	s.partOf(details, version, at(0), inspectedContainer{"c1", model.Container{}, timedOut()})
	if lines := s.messages(); len(lines) != 0 || !collectorNamed(s, "containers").Success {
		t.Errorf("log %q", lines)
	}
}

func TestMergeContents(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.partOf(contents, s.version, at(0), imageContent{image("i2"), model.Content{}, failure("broken")})
	if !s.contents.failed()["i2"] || collectorNamed(s, "layers").Success {
		t.Error("a failed image is not reported")
	}
	s.answered(contents, at(time.Minute), nil, nil, time.Second)
	if lines := s.messages(); collectorNamed(s, "layers").Success || len(lines) != 1 || !strings.HasPrefix(lines[0], "cannot inspect images err image i2: broken") {
		t.Errorf("log %q", lines)
	}
	s.answered(images, at(2*time.Minute), []model.Image{image("i3")}, nil, time.Second)
	if !collectorNamed(s, "layers").Success || len(s.contents.failed()) != 0 {
		t.Error("a removed image still fails")
	}
	if got := slices.Collect(maps.Keys(s.contents.all())); !slices.Equal(got, []string{"i1"}) {
		t.Errorf("contents of %v, want i1, which a container uses", got)
	}
	s.containers.mergeList(nil, s.version)
	s.answered(images, at(3*time.Minute), []model.Image{image("i3")}, nil, time.Second)
	if len(s.contents.all()) != 0 {
		t.Errorf("contents %v, want none", s.contents.all())
	}
}

// TestMergeContentsOfRemoved checks that an image that is not listed any more is no failure,
// even if a container was made from it: it is never inspected again.
func TestMergeContentsOfRemoved(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.partOf(contents, s.version, at(0), imageContent{image("i1"), model.Content{}, failure("broken")})
	s.answered(images, at(time.Minute), []model.Image{image("i2")}, nil, time.Second)
	if !collectorNamed(s, "layers").Success || len(s.contents.failed()) != 0 {
		t.Errorf("failed %v, layers %+v", s.contents.failed(), collectorNamed(s, "layers"))
	}
}

// TestMissingContent checks that an image is a failure only if the engine lists it again.
func TestMissingContent(t *testing.T) {
	t.Parallel()
	c := newContentCache()
	list := []model.Image{image("i1")}
	uninspected := func(listed time.Duration) int { return len(c.uninspected(list, at(listed), at(time.Hour))) }
	c.merge(imageContent{image("i1"), model.Content{}, gone("image")}, at(1), at(1))
	if len(c.failed()) != 0 || uninspected(1) != 0 {
		t.Error("an image that was removed since the list is a failure, or inspected again")
	}
	if uninspected(2) != 1 {
		t.Error("an image that is listed again is not inspected")
	}
	c.merge(imageContent{image("i1"), model.Content{}, gone("image")}, at(2), at(2))
	if !c.failed()["i1"] || c.firstFailure() == nil {
		t.Error("an image that is listed again and denied again is no failure")
	}
	c.merge(imageContent{image("i1"), model.Content{DiffIDs: []string{"a"}, History: []model.Step{{Size: 100}}}, nil}, at(3), at(3))
	if c.firstFailure() != nil || uninspected(3) != 0 || len(c.missing) != 0 {
		t.Error("an image that was inspected is a failure")
	}
}

func TestMergeChanges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		value      any
		stale      string
		images     string
		containers string
	}{
		{"container", inspectedContainer{"c2", inspected("c2"), nil}, "", "i1[app:1] i2[app:2]", "c1 exited, c2 exited"},
		{"new container", inspectedContainer{"c3", runningContainer("c3"), nil}, "", "i1[app:1] i2[app:2]", "c1 exited, c2 running, c3 running"},
		{"removed container", inspectedContainer{"c1", model.Container{}, gone("container")}, "", "i1[app:1] i2[app:2]", "c2 running"},
		{"container behind a proxy", inspectedContainer{"c1", model.Container{}, failure("404 page not found")}, "containers", "i1[app:1] i2[app:2]", "c1 exited, c2 running"},
		{"image with another tag", inspectedImage{"i1", image("i1", "app:3"), nil}, "", "i1[app:3] i2[app:2]", "c1 exited, c2 running"},
		{"image with a tag of another", inspectedImage{"i1", image("i1", "app:1", "app:2"), nil}, "", "i1[app:1 app:2] i2[]", "c1 exited, c2 running"},
		{"new image", inspectedImage{"app:2", image("i3", "app:2"), nil}, "", "i1[app:1] i2[] i3[app:2]", "c1 exited, c2 running"},
		{"new image without a size", inspectedImage{"i3", model.Image{ID: "i3"}, nil}, "images", "i1[app:1] i2[app:2] i3[]", "c1 exited, c2 running"},
		{"known image, inspected without a size", inspectedImage{"i2", model.Image{ID: "i2"}, nil}, "", "i1[app:1] i2[]", "c1 exited, c2 running"},
		{"removed image", inspectedImage{"i2", model.Image{}, gone("image")}, "", "i1[app:1]", "c1 exited, c2 running"},
		{"removed image by name", inspectedImage{"app:2", model.Image{}, gone("image")}, "", "i1[app:1] i2[app:2]", "c1 exited, c2 running"},
		{"image that fails", inspectedImage{"i2", model.Image{}, failure("broken")}, "images", "i1[app:1] i2[app:2]", "c1 exited, c2 running"},
	}
	for _, test := range tests {
		s := newTestState(t)
		s.partOf(changes, s.version, at(0), test.value)
		if got := s.staleKinds(); got != test.stale {
			t.Errorf("%s: stale %q, want %q", test.name, got, test.stale)
		}
		var images, containers []string
		for _, i := range must(s.images.all()) {
			images = append(images, fmt.Sprint(i.ID, i.Tags))
			if size, known := i.Size.Get(); i.ID != "i3" && (!known || size != 100) {
				t.Errorf("%s: the size of %s is lost", test.name, i.ID)
			}
		}
		for _, c := range must(s.containers.all()) {
			containers = append(containers, c.ID+" "+string(c.State))
		}
		if got := strings.Join(images, " "); got != test.images {
			t.Errorf("%s: images %s, want %s", test.name, got, test.images)
		}
		if got := strings.Join(containers, ", "); got != test.containers {
			t.Errorf("%s: containers %s, want %s", test.name, got, test.containers)
		}
	}
}

func must[T any](value T, known bool) T {
	if !known {
		panic("unknown")
	}
	return value
}

// TestMergeFilesystems checks that each file system is a problem of its own.
func TestMergeFilesystems(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	usage := func(failures ...string) host.Usage {
		u := host.Usage{Filesystems: []model.Filesystem{{Path: "/data"}}, Failures: make(map[string]error)}
		for _, path := range failures {
			u.Failures[path] = failure("dead NFS")
		}
		return u
	}
	s.answered(filesystems, at(time.Minute), usage("/a", "/b"), nil, time.Millisecond)
	snapshot := s.snapshot(at(0))
	if lines := s.messages(); len(lines) != 2 || collectorOf(snapshot, "filesystems").Success || !slices.Equal(snapshot.Unmeasured, []string{"/a", "/b"}) || len(snapshot.Filesystems) != 1 {
		t.Errorf("two fail: %q %+v", lines, snapshot)
	}
	s.answered(filesystems, at(2*time.Minute), usage("/b"), nil, time.Millisecond)
	if lines := s.messages(); !slices.Equal(lines, []string{"recovered operation measure the file system /a"}) || collectorNamed(s, "filesystems").Success {
		t.Errorf("one fails: %q", lines)
	}
	s.answered(filesystems, at(3*time.Minute), usage(), nil, time.Millisecond)
	if lines := s.messages(); len(lines) != 1 || !collectorNamed(s, "filesystems").Success {
		t.Errorf("none fails: %q", lines)
	}
	s.schedules[filesystems].begin(at(time.Hour))
	s.merge(result{task: task{kind: filesystems}, value: host.Usage{Filesystems: []model.Filesystem{{Path: "/other"}}}}, at(time.Hour))
	if list := s.snapshot(at(0)).Filesystems; list[0].Path != "/data" || !s.schedules[filesystems].started.IsZero() {
		t.Errorf("the file systems at other roots: %v, %+v", list, s.schedules[filesystems])
	}
	s = newState(watched())
	s.answered(filesystems, at(0), host.Usage{}, nil, time.Millisecond)
	if len(s.snapshot(at(0)).Collectors) != 0 {
		t.Error("there is a collector of file systems where there is nothing to measure")
	}
}

// TestOpenStream checks what may have been missed when the stream opens.
func TestOpenStream(t *testing.T) {
	t.Parallel()
	const all = "containers, images, volumes, volume sizes, build cache, disk usage, leftovers"
	tests := []struct {
		name    string
		prepare func(*state)
		stale   string
		retries bool
	}{
		{"for the first time", func(s *state) { s.stream = stream{since: 1} }, "", false},
		{"for the first time, by an unknown clock", func(s *state) { s.stream = stream{} }, all, true},
		{"again", func(s *state) { s.stream = stream{since: 1, hasGap: true} }, all, true},
	}
	for _, test := range tests {
		s := newTestState(t)
		s.prunes.known = false
		test.prepare(s)
		s.schedules[containers].failures = 3
		cacheChanges := s.usage.cacheChanges
		s.partOf(events, 0, at(time.Minute), streamOpened{})
		if got := s.staleKinds(); got != test.stale {
			t.Errorf("%s: stale %q, want %q", test.name, got, test.stale)
		}
		if isRetried := s.schedules[containers].failures == 0; isRetried != test.retries {
			t.Errorf("%s: the back-off of the containers is dropped: %v", test.name, isRetried)
		}
		wantDiscarded, wantVolumes := "", ""
		if test.retries {
			wantDiscarded, wantVolumes = "c1, c2", "data, logs"
		}
		if s.discarded() != wantDiscarded || s.changedVolumeNames() != wantVolumes || (s.usage.cacheChanges > cacheChanges) != test.retries {
			t.Errorf("%s: discarded %q, volumes %q, cache changes %d", test.name, s.discarded(), s.changedVolumeNames(), s.usage.cacheChanges)
		}
		if !s.stream.connected || !s.stream.hasGap || s.stream.openedAt != at(time.Minute) || s.stream.heard || !s.prunes.known {
			t.Errorf("%s: stream %+v", test.name, s.stream)
		}
	}
}

// TestOpenStreamAfterRefusal checks that a first stream that opens late is no gapless one: the
// engine remembers its last 256 events only.
func TestOpenStreamAfterRefusal(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.stream = stream{since: firstSince(graphDriver)}
	s.schedules[events].inFlight = true
	s.answered(events, at(time.Minute), nil, failure("forbidden"), time.Second)
	s.partOf(events, 0, at(time.Hour), streamOpened{})
	if got := s.staleKinds(); !strings.Contains(got, "containers, images") {
		t.Errorf("stale %q", got)
	}
}

func streamEnd() error {
	return &model.Failure{Endpoint: "/events", Reason: "EOF", Err: io.EOF}
}

func (s *state) openedAndEnded(opened, ended time.Time, err error, heard ...docker.Event) {
	s.schedules[events].begin(opened)
	s.partOf(events, 0, opened, streamOpened{})
	for _, e := range heard {
		s.partOf(events, 0, opened, e)
	}
	s.answered(events, ended, nil, err, ended.Sub(opened))
}

func TestEndStream(t *testing.T) {
	t.Parallel()
	event := docker.Event{Type: "container", Action: "die", ID: "c1", TimeNano: at(time.Minute).UnixNano()}
	tests := []struct {
		name   string
		lasted time.Duration
		heard  []docker.Event
		before time.Duration
		want   time.Duration
	}{
		{"first short one", time.Second, nil, 0, 500 * time.Millisecond},
		{"second short one", time.Second, nil, 500 * time.Millisecond, time.Second},
		{"third short one", time.Second, nil, time.Second, 2 * time.Second},
		{"short one, near the longest", time.Second, nil, 32 * time.Second, time.Minute},
		{"short one, at the longest", time.Second, nil, time.Minute, time.Minute},
		{"10 s", 10 * time.Second, nil, 32 * time.Second, time.Minute},
		{"more than 10 s", 10*time.Second + 1, nil, time.Minute, 500 * time.Millisecond},
		{"heard", 0, []docker.Event{event}, time.Minute, 500 * time.Millisecond},
	}
	for _, test := range tests {
		s := newTestState(t)
		s.stream.backoff = test.before
		ended := at(time.Hour).Add(test.lasted)
		s.openedAndEnded(at(time.Hour), ended, streamEnd(), test.heard...)
		if s.stream.backoff != test.want || s.stream.retryAt != ended.Add(test.want) || s.stream.connected {
			t.Errorf("%s: %+v, want a back-off of %v", test.name, s.stream, test.want)
		}
	}
}

// TestEndStreamRefused checks that a stream that never opened is not a long one.
func TestEndStreamRefused(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.answered(events, at(time.Hour), nil, streamEnd(), time.Hour)
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		now := at(time.Duration(i+2) * time.Hour)
		s.schedules[events].begin(now)
		s.answered(events, now, nil, failure("forbidden"), time.Second)
		if s.stream.backoff != want {
			t.Errorf("refusal %d: back-off %v, want %v", i, s.stream.backoff, want)
		}
	}
	if lines := s.messages(); len(lines) != 1 || !strings.HasPrefix(lines[0], "cannot watch events err forbidden") {
		t.Errorf("log %q", lines)
	}
}

// TestEndsImmediately checks that the end of a stream is logged only if each one ends at once.
func TestEndsImmediately(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	now := at(time.Hour)
	for want := minStreamBackoff; want < maxStreamBackoff; want *= 2 {
		s.openedAndEnded(now, now, streamEnd())
		if lines := s.messages(); s.stream.backoff != want || lines != nil {
			t.Fatalf("back-off %v, want %v; log %q", s.stream.backoff, want, lines)
		}
	}
	s.openedAndEnded(now, now, streamEnd())
	if lines := s.messages(); s.stream.backoff != maxStreamBackoff || lines != nil {
		t.Fatalf("back-off %v; log %q", s.stream.backoff, lines)
	}
	s.openedAndEnded(now, now, streamEnd())
	want := "cannot watch events err the event stream ends immediately, each time hint let /events through a proxy"
	if lines := s.messages(); len(lines) != 1 || !strings.HasPrefix(lines[0], want) {
		t.Errorf("log %q", lines)
	}
	s.openedAndEnded(now, now.Add(time.Minute), streamEnd())
	s.messages()
	s.openedAndEnded(now.Add(time.Hour), now.Add(time.Hour), streamEnd())
	if lines := s.messages(); s.stream.backoff != time.Second || lines != nil {
		t.Errorf("after a long stream: back-off %v, log %q", s.stream.backoff, lines)
	}
}

// TestEndsImmediatelyIsOneLine checks that a problem that lasts is one line.
func TestEndsImmediatelyIsOneLine(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	var lines []string
	for i := range 60 {
		now := at(time.Hour + time.Duration(i)*time.Minute)
		s.openedAndEnded(now, now, streamEnd())
		lines = append(lines, s.messages()...)
	}
	if len(lines) != 1 {
		t.Errorf("%d lines, the first ones are %q", len(lines), lines[:3])
	}
}

// TestEndsImmediatelyAfterReplay checks that the last event, which each stream repeats, is no
// sign that the stream works.
func TestEndsImmediatelyAfterReplay(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	last := docker.Event{Type: "container", Action: "die", ID: "c1", TimeNano: at(time.Minute).UnixNano()}
	s.openedAndEnded(at(time.Hour), at(time.Hour), streamEnd(), last)
	for range 10 {
		s.openedAndEnded(at(time.Hour), at(time.Hour), streamEnd(), last)
	}
	if s.stream.backoff != maxStreamBackoff {
		t.Errorf("back-off %v, want %v", s.stream.backoff, maxStreamBackoff)
	}
}

// TestEndsImmediatelyAfterOutage checks that the back-off of pings accuses no stream.
func TestEndsImmediatelyAfterOutage(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	for i := range 20 {
		s.answered(ping, at(time.Duration(i)*time.Minute), nil, failure("refused"), time.Millisecond)
	}
	s.answered(ping, at(time.Hour), pingAnswer{"1.51", apiOf(t, "1.51"), nil}, nil, time.Millisecond)
	s.messages()
	s.openedAndEnded(at(time.Hour), at(time.Hour+time.Second), streamEnd())
	if lines := s.messages(); lines != nil {
		t.Errorf("log %q", lines)
	}
}

// TestStreamFailure checks that the end of a stream for another reason is logged.
func TestStreamFailure(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.openedAndEnded(at(0), at(time.Hour), failure("not JSON"), docker.Event{Type: "container", Action: "die", ID: "c1", TimeNano: at(time.Hour).UnixNano()})
	if lines := s.messages(); len(lines) != 1 || !strings.HasPrefix(lines[0], "cannot watch events err not JSON") {
		t.Errorf("log %q", lines)
	}
	s.schedules[events].begin(at(2 * time.Hour))
	s.partOf(events, 0, at(2*time.Hour), streamOpened{})
	if lines := s.messages(); !slices.Equal(lines, []string{"recovered operation watch events"}) {
		t.Errorf("log %q", lines)
	}
}

// TestStreamAfterBrokenEvent checks that the stream after one that an event has broken does not
// begin with that event again, and that the one after a refusal misses nothing.
func TestStreamAfterBrokenEvent(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.stream = stream{since: 7}
	s.answered(events, at(time.Hour), nil, failure("busy"), 0)
	if s.stream.since != 7 {
		t.Errorf("after a refusal: since %d, want 7", s.stream.since)
	}
	s.openedAndEnded(at(time.Hour), at(2*time.Hour), failure("not JSON"))
	if s.stream.since != 0 {
		t.Errorf("after a broken event: since %d, want that it is unknown", s.stream.since)
	}
}

// TestEventFromTheFuture checks that an event far ahead of the engine's clock does not move the
// begin of the next stream, and that the time of such a prune is not believed.
func TestEventFromTheFuture(t *testing.T) {
	t.Parallel()
	clock := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for ahead, want := range map[time.Duration]bool{-time.Hour: true, 0: true, 59 * time.Minute: true, 71 * time.Minute: false, 24 * time.Hour: false} {
		s := newTestState(t)
		reported := graphDriver
		reported.SystemTime = clock.Format(time.RFC3339Nano)
		s.schedules[info].begin(at(0))
		s.answered(info, at(0), reported, nil, 0)
		s.stream.since = 7
		happened := clock.Add(10*time.Minute + ahead)
		s.event(docker.Event{Type: "volume", Action: "prune", TimeNano: happened.UnixNano()}, at(10*time.Minute))
		p := s.prunes.counts[model.Volumes]
		if (s.stream.since == happened.UnixNano()) != want || s.stream.heard != want || p.Last.IsKnown() != want || p.Count != 1 {
			t.Errorf("%v ahead: since %d, %+v", ahead, s.stream.since, p)
		}
	}
}

// TestInfoWithoutStream checks that each snapshot gets the engine's info while no stream would
// end with the engine, and that a stream that ended waits for the ping.
func TestInfoWithoutStream(t *testing.T) {
	t.Parallel()
	for _, connected := range []bool{true, false} {
		s := newTestState(t)
		s.config.Events, s.stream.connected, s.stream.retryAt = true, connected, at(time.Hour)
		s.schedules[info].begin(at(0))
		s.answered(info, at(0), graphDriver, nil, 0)
		s.stream.connected = connected
		s.wait(at(time.Second))
		if tasks := kindsOf(s.due(at(time.Second))); slices.Contains(tasks, info) {
			t.Errorf("connected %v: %v, want no info before the ping has ended", connected, tasks)
		}
		s.answered(ping, at(time.Second), pingAnswer{"1.51", apiOf(t, "1.51"), nil}, nil, 0)
		s.stream.retryAt = at(time.Hour)
		if tasks := kindsOf(s.due(at(time.Second))); slices.Contains(tasks, info) == connected {
			t.Errorf("connected %v: %v", connected, tasks)
		}
	}
}

// TestBrokenStreamIsOneLine checks that streams that are accepted, and have something else than
// events in them, are one line until one works.
func TestBrokenStreamIsOneLine(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	for i := range 5 {
		now := at(time.Hour + time.Duration(i)*time.Minute)
		s.openedAndEnded(now, now.Add(20*time.Second), failure("not JSON"))
	}
	if lines := s.messages(); len(lines) != 1 || !strings.HasPrefix(lines[0], "cannot watch events err not JSON") {
		t.Errorf("log %q", lines)
	}
	s.openedAndEnded(at(2*time.Hour), at(2*time.Hour+resyncInterval+1), streamEnd())
	if lines := s.messages(); !slices.Equal(lines, []string{"recovered operation watch events"}) {
		t.Errorf("log %q", lines)
	}
}

// TestStreamAfterOutage checks that events are watched as soon as the engine is back: until
// then the lists become outdated.
func TestStreamAfterOutage(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	for i := range 20 {
		s.answered(ping, at(time.Duration(i)*time.Minute), nil, failure("refused"), time.Millisecond)
	}
	now := at(19*time.Minute + 10*time.Second)
	s.wait(now)
	s.due(now)
	s.answered(ping, now, pingAnswer{"1.51", apiOf(t, "1.51"), nil}, nil, 0)
	s.due(now)
	s.answered(info, now, graphDriver, nil, 0)
	if tasks := kindsOf(s.due(now)); !slices.Contains(tasks, events) {
		t.Errorf("requests %v, and the stream in %v", tasks, s.stream.retryAt.Sub(now))
	}
}

// TestStreamRecovers checks that a stream that works is reported while it lasts.
func TestStreamRecovers(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	for i := range 20 {
		s.answered(events, at(time.Duration(i)*time.Minute), nil, failure("forbidden"), 0)
	}
	s.messages()
	s.schedules[events].begin(at(time.Hour))
	s.partOf(events, 0, at(time.Hour), streamOpened{})
	s.partOf(events, 0, at(time.Hour+time.Second), docker.Event{Type: "container", Action: "die", ID: "c1", TimeNano: at(time.Hour).UnixNano()})
	s.answered(info, at(time.Hour+time.Minute), graphDriver, nil, 0)
	if lines := s.messages(); !slices.Equal(lines, []string{"recovered operation watch events"}) {
		t.Errorf("log %q", lines)
	}
}

func TestFirstSince(t *testing.T) {
	t.Parallel()
	tests := map[string]int64{
		"":                               0,
		"now":                            0,
		"2026-01-02":                     0,
		"0001-01-01T00:00:00Z":           0,
		"1969-12-31T23:59:59Z":           0,
		"1970-01-01T00:00:00Z":           0,
		"1970-12-31T23:59:59.999999999Z": 0,
		"1971-01-01T00:00:00Z":           31536000e9,
		"2026-01-02T03:04:05.000000006Z": 1767323045000000006,
		"2026-01-02T05:04:05+02:00":      1767323045e9,
		"2261-12-31T23:59:59Z":           9214646399e9,
		"2262-01-01T00:00:00Z":           0,
		"9999-12-31T23:59:59Z":           0,
		"10000-01-01T00:00:00Z":          0,
	}
	for clock, want := range tests {
		if got := firstSince(docker.Info{SystemTime: clock}); got != want {
			t.Errorf("%q: %d, want %d", clock, got, want)
		}
	}
}

func TestFormatSince(t *testing.T) {
	t.Parallel()
	tests := map[int64]string{
		math.MinInt64: "", -1: "", 0: "", 1: "0.000000001", 1e9: "1.000000000", 1e9 - 1: "0.999999999",
		1767323045000000006: "1767323045.000000006", math.MaxInt64: "9223372036.854775807",
	}
	for nanos, want := range tests {
		if got := formatSince(nanos); got != want {
			t.Errorf("%d: %q, want %q", nanos, got, want)
		}
	}
}

func TestPruneCounts(t *testing.T) {
	t.Parallel()
	p := newPruneCounts()
	if p.report(model.GraphDriver) != nil {
		t.Error("there are counts before there was a stream")
	}
	p.known = true
	for i, reclaimed := range []string{"5", "", "many", "-7", "1125899906842624", "1125899906842625", "9223372036854775808"} {
		p.add(docker.Event{Type: "volume", Action: "prune", TimeNano: int64(i + 1), Attributes: map[string]string{"reclaimed": reclaimed}}, true)
	}
	p.add(docker.Event{Type: "volume", Action: "prune", TimeNano: 7, Attributes: map[string]string{"reclaimed": "5"}}, true) // repeated
	p.add(docker.Event{Type: "container", Action: "prune", TimeNano: 7}, true)
	p.add(docker.Event{Type: "network", Action: "prune", TimeNano: 8}, true)
	none := func(r model.Resource) model.Prune { return model.Prune{Resource: r} }
	volumes := model.Prune{Resource: model.Volumes, Count: 7, Bytes: 5 + docker.MaxSize, Last: model.Known(time.Unix(0, 7))}
	containers := model.Prune{Resource: model.Containers, Count: 1, Last: model.Known(time.Unix(0, 7))}
	withoutImages := []model.Prune{containers, volumes, none(model.BuildCache)}
	for store, want := range map[model.ImageStore][]model.Prune{
		model.GraphDriver: append([]model.Prune{none(model.Images)}, withoutImages...),
		model.Containerd:  withoutImages,
		"":                withoutImages,
	} {
		if got := p.report(store); !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %+v, want %+v", store, got, want)
		}
	}
}

// TestPruneCountsSaturate checks that the sum of freed bytes does not become negative.
func TestPruneCountsSaturate(t *testing.T) {
	t.Parallel()
	p := newPruneCounts()
	for i := range int64(10000) {
		p.add(docker.Event{Type: "volume", Action: "prune", TimeNano: i + 1, Attributes: map[string]string{"reclaimed": fmt.Sprint(int64(docker.MaxSize))}}, true)
	}
	if got := p.counts[model.Volumes].Bytes; got != math.MaxInt64 {
		t.Errorf("%d bytes", got)
	}
}

func TestFastLimit(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	for _, store := range []model.ImageStore{model.GraphDriver, model.Containerd} {
		s.roots.ImageStore = store
		for _, k := range kinds() {
			want := 500 * time.Millisecond
			switch {
			case k == leftovers:
				want = 0
			case k == containers && store == model.Containerd:
				want = 100 * time.Millisecond
			}
			if got := s.fastLimit(k); got != want {
				t.Errorf("%s of %s: %v, want %v", k, store, got, want)
			}
		}
	}
}

// TestPatience checks for how long a snapshot waits for each request.
func TestPatience(t *testing.T) {
	t.Parallel()
	fast := schedule{inFlight: true, started: at(0), ended: at(-time.Hour), known: true, took: time.Millisecond}
	slow, failed, first := fast, fast, schedule{inFlight: true, started: at(0)}
	slow.took = fastRequest
	failed.known, failed.failures = false, 1
	const whenFast, limit = 500 * time.Millisecond, 5 * time.Second
	tests := []struct {
		kinds                     []kind
		first, fast, slow, failed time.Duration
	}{
		{[]kind{ping, filesystems}, time.Hour, time.Hour, time.Hour, time.Hour},
		{[]kind{events, changes, sizeRetries}, 0, 0, 0, 0},
		{[]kind{contents, details, storeRetries}, whenFast, whenFast, whenFast, whenFast},
		{[]kind{info, images, containers, volumes, volumeSizes, buildCache, diskUsage, containerSizes, containerLogs, layerStore}, limit, whenFast, 0, whenFast},
		{[]kind{leftovers}, limit, 0, 0, 0},
	}
	seen := 0
	for _, test := range tests {
		for _, k := range test.kinds {
			seen++
			s := newTestState(t)
			for _, c := range []struct {
				schedule schedule
				want     time.Duration
			}{{first, test.first}, {fast, test.fast}, {slow, test.slow}, {failed, test.failed}} {
				s.schedules[k] = &c.schedule
				if got := s.maxWait(k); got != c.want {
					t.Errorf("%s %+v: %v, want %v", k, c.schedule, got, c.want)
				}
				r := request{notBefore: at(0)}
				if c.want > 0 && !s.needs(r, k, at(c.want-1)) || s.needs(r, k, at(c.want)) {
					t.Errorf("%s %+v: not waited for for %v", k, c.schedule, c.want)
				}
				if r.notBefore = c.schedule.answered; s.needs(r, k, at(0)) {
					t.Errorf("%s %+v: waited for although the last answer is new enough", k, c.schedule)
				}
				r.notBefore = at(0)
				if c.schedule.inFlight = false; s.needs(r, k, at(0)) {
					t.Errorf("%s is waited for without a request", k)
				}
			}
		}
	}
	if seen != len(kinds()) {
		t.Errorf("%d of %d kinds", seen, len(kinds()))
	}
	s := newTestState(t)
	s.roots.ImageStore = model.Containerd
	s.schedules[containers] = &fast
	if got := s.maxWait(containers); got != fastContainerList {
		t.Errorf("containers of the containerd store: %v", got)
	}
}

// wait adds somebody who waits for a snapshot.
func (s *state) wait(notBefore time.Time) chan model.Snapshot {
	r := request{notBefore: notBefore, reply: make(chan model.Snapshot, 1)}
	s.request(r)
	return r.reply
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	s := newState(watched())
	first := s.wait(at(0))
	s.answer(at(time.Hour))
	if len(first) != 0 {
		t.Fatal("answered before the first ping")
	}
	s.due(at(0))
	s.answer(at(time.Hour))
	if len(first) != 0 {
		t.Fatal("answered before the first ping has ended")
	}
	hurried := request{notBefore: at(0), reply: s.wait(at(0)), now: true}
	s.request(hurried)
	s.answer(at(0))
	if len(hurried.reply) != 0 {
		t.Fatal("answered at once before the first ping has ended: the engine would be down")
	}
	s.answered(filesystems, at(time.Second), host.Usage{}, nil, time.Second)
	s.answered(ping, at(time.Second), nil, failure("refused"), time.Second)
	s.answer(at(time.Second))
	if len(first) != 1 || (<-first).Up || len(hurried.reply) != 1 || len(s.waiting) != 0 {
		t.Error("not answered when the first ping has failed")
	}
}

// TestAnswerNow checks that a request that must be answered now is answered, and no other.
func TestAnswerNow(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	patient, hurried := s.wait(at(time.Minute)), s.wait(at(time.Minute))
	s.due(at(time.Minute))
	s.answer(at(time.Minute))
	if len(patient)+len(hurried) != 0 {
		t.Fatal("answered while the ping is in flight")
	}
	s.request(request{notBefore: at(time.Minute), reply: hurried, now: true})
	if len(s.waiting) != 2 {
		t.Fatalf("%d wait, want 2", len(s.waiting))
	}
	s.answer(at(time.Minute))
	if len(hurried) != 1 || !(<-hurried).Up || len(patient) != 0 || len(s.waiting) != 1 {
		t.Error("the one that must be answered was not, or the other was")
	}
}

// TestAnswerEach checks that a scrape does not wait for a request that only a later scrape needs.
func TestAnswerEach(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	for _, sched := range s.schedules {
		sched.took, sched.started = time.Millisecond, at(0)
	}
	first := s.wait(at(time.Minute))
	s.due(at(time.Minute))
	second := s.wait(at(time.Minute + 500*time.Millisecond))
	now := at(time.Minute + 800*time.Millisecond)
	s.answered(filesystems, now, host.Usage{}, nil, 800*time.Millisecond)
	s.answered(ping, now, pingAnswer{"1.51", s.api, nil}, nil, 800*time.Millisecond)
	for range 9 { // the lists, which are fast, and what follows them
		for _, t := range s.due(now) {
			if t.kind != ping && t.kind != filesystems {
				s.schedules[t.kind].end(now, time.Millisecond, false, false)
			}
		}
	}
	s.answer(now)
	if len(first) != 1 || len(second) != 0 {
		t.Errorf("answered: the first %v, the second %v", len(first) == 1, len(second) == 1)
	}
}

// TestDueOrder checks in which order the requests of a first scrape are made.
func TestDueOrder(t *testing.T) {
	t.Parallel()
	s := newState(watched())
	answers := answersOf(apiOf(t, "1.51"))
	check := func(name string, want ...kind) {
		t.Helper()
		if got := kindsOf(s.due(at(0))); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if again := s.due(at(0)); len(again) != 0 {
			t.Errorf("%s: again %v", name, kindsOf(again))
		}
	}
	end := func(k kind) { s.answered(k, at(0), answers[k], nil, time.Millisecond) }
	check("no request waits, events are watched", ping)
	s.wait(at(0))
	check("somebody waits", filesystems)
	end(ping)
	check("pinged", info)
	end(info)
	check("informed", containers, images, volumes, events)
	end(volumes)
	check("volumes")
	end(images)
	check("images", volumeSizes, buildCache, contents)
	end(containers)
	check("containers", details, layerStore)
	s.partOf(details, s.version, at(0), inspectedContainer{"c1", inspected("c1"), nil})
	end(details)
	check("inspected", containerSizes)
}

// TestDueByConfig checks that nothing is requested that is not wanted.
func TestDueByConfig(t *testing.T) {
	t.Parallel()
	basic := []kind{filesystems, info, images, containers, layerStore}
	tests := []struct {
		name    string
		version string
		config  Config
		want    []kind
	}{
		{"nothing", "1.51", Config{}, basic},
		{"events", "1.51", Config{Events: true}, append(slices.Clone(basic), events)},
		{"sizes", "1.51", Config{ContainerSizes: true}, append(slices.Clone(basic), containerSizes)},
		{"volumes", "1.42", Config{Volumes: true}, append(slices.Clone(basic), volumes, volumeSizes)},
		{"build cache", "1.42", Config{BuildCache: true}, append(slices.Clone(basic), buildCache)},
		{"volumes before 1.42", "1.41", Config{Volumes: true}, append(slices.Clone(basic), volumes, diskUsage)},
		{"build cache before 1.42", "1.41", Config{BuildCache: true}, append(slices.Clone(basic), diskUsage)},
	}
	for _, test := range tests {
		s := newState(test.config)
		s.answered(ping, at(0), pingAnswer{test.version, apiOf(t, test.version), nil}, nil, time.Millisecond)
		s.wait(at(-time.Hour))
		seen := make(map[kind]bool)
		for range 9 {
			for _, task := range s.due(at(0)) {
				seen[task.kind] = true
				value := answersOf(nil)[task.kind]
				if task.kind == images {
					value = []model.Image(nil)
				}
				if task.kind == containers {
					value = []model.Container(nil)
				}
				if task.kind != events {
					s.answered(task.kind, at(0), value, nil, time.Millisecond)
				}
			}
		}
		delete(seen, contents) // of no image
		slices.Sort(test.want)
		if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestWake checks when there is something to do although nothing happens.
func TestWake(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		prepare func(*state)
		want    time.Duration
	}{
		{"nothing", func(s *state) { s.config.Events = false }, time.Hour},
		{"the counts of the engine", func(s *state) { s.schedules[info].started = at(-20 * time.Second) }, 40 * time.Second},
		{"info failed", func(s *state) { s.schedules[info].failures, s.schedules[info].ended = 2, at(0) }, 2 * time.Second},
		{"the next stream", func(s *state) { s.stream.retryAt = at(3 * time.Second) }, 3 * time.Second},
		{"a request in flight that no one waits for", func(s *state) { s.config.Events = false; s.schedules[volumes].begin(at(0)) }, time.Hour},
		{"a request in flight for somebody", func(s *state) {
			s.wait(at(0))
			s.schedules[volumes].took = time.Millisecond
			s.schedules[volumes].begin(at(-100 * time.Millisecond))
		}, 400 * time.Millisecond},
		{"a change, the list is slow", func(s *state) { s.changed.add(objectKey{images, "i1"}, at(0)) }, 100 * time.Millisecond},
		{"a change, the list is fast", func(s *state) {
			s.changed.add(objectKey{images, "i1"}, at(0))
			s.schedules[images].took = time.Millisecond
		}, 59 * time.Second},
		{"a change, the fast list is in flight", func(s *state) {
			s.changed.add(objectKey{images, "i1"}, at(0))
			s.schedules[images].took = time.Millisecond
			s.schedules[images].begin(at(-200 * time.Millisecond))
		}, 300 * time.Millisecond},
		{"a change, the fast list hangs", func(s *state) {
			s.changed.add(objectKey{images, "i1"}, at(0))
			s.schedules[images].took = time.Millisecond
			s.schedules[images].begin(at(-500 * time.Millisecond))
		}, 100 * time.Millisecond},
	}
	for _, test := range tests {
		s := newTestState(t)
		test.prepare(s)
		if got := s.wake(at(0)); got != at(test.want) {
			t.Errorf("%s: in %v, want %v", test.name, got.Sub(at(0)), test.want)
		}
	}
}

// TestChangesAreDebounced checks when changed objects are inspected.
func TestChangesAreDebounced(t *testing.T) {
	t.Parallel()
	var q changeQueue
	all := func(kind) bool { return true }
	key := objectKey{containers, "c1"}
	ready := func(now time.Duration) int { return len(q.ready(all, at(now))) }
	q.add(key, at(0))
	if ready(debounce-1) != 0 || ready(debounce) != 1 || ready(time.Hour) != 0 {
		t.Error("a single change is not inspected once, after the debounce time")
	}
	for d := time.Duration(0); d < maxDelay; d += debounce / 2 {
		q.add(key, at(d))
		if ready(d) != 0 {
			t.Errorf("inspected after %v of changes", d)
		}
	}
	q.add(key, at(maxDelay))
	if ready(maxDelay) != 1 {
		t.Error("not inspected after the longest delay")
	}
	if ready(maxDelay+debounce-1) != 0 || ready(maxDelay+debounce) != 1 || len(q.pending) != 0 {
		t.Error("not inspected again when the changes have settled")
	}
	q.add(key, at(0))
	if q.ready(func(k kind) bool { return k == images }, at(time.Hour)) != nil || len(q.pending) != 1 {
		t.Error("a kind that is not wanted is inspected")
	}
	q.drop(images, at(time.Hour))
	q.drop(containers, at(debounce-1))
	if len(q.pending) != 1 {
		t.Error("a change that had not settled when the list was requested is dropped")
	}
	if q.drop(containers, at(debounce)); len(q.pending) != 0 {
		t.Error("a change that had settled when the list was requested is not dropped")
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	ofImage := func(id string, err error) error {
		return firstFailure("image", map[string]error{id: err}, func(err error) attempts { return attempts{err: err} })
	}
	type outcome struct {
		operation string
		err       error
	}
	ofKind := func(endpoint, kind, reason string) error {
		return &model.Failure{Endpoint: endpoint, Kind: kind, Reason: reason, Hint: "h"}
	}
	// a and b are operations of one collector, c has none.
	tests := []struct {
		name     string
		outcomes []outcome
		success  bool
		lines    []string
	}{
		{"another text of the same kind", []outcome{{"a", ofKind("/x", "k", "r1")}, {"a", ofKind("/x", "k", "r2")}, {"a", ofKind("/x", "k", "r3")}}, false, []string{"cannot a err r1 hint h"}},
		{"another kind", []outcome{{"a", ofKind("/x", "k", "r1")}, {"a", ofKind("/x", "l", "r2")}}, false, []string{"cannot a err r1 hint h", "cannot a err r2 hint h"}},
		{"another endpoint", []outcome{{"a", ofKind("/x", "k", "r1")}, {"a", ofKind("/y", "k", "r2")}}, false, []string{"cannot a err r1 hint h", "cannot a err r2 hint h"}},
		{"two kinds in turn", []outcome{{"a", ofKind("/x", "k", "r1")}, {"a", ofKind("/x", "l", "r2")}, {"a", ofKind("/x", "k", "r3")}, {"a", ofKind("/x", "l", "r4")}, {"a", nil}}, true,
			[]string{"cannot a err r1 hint h", "cannot a err r2 hint h", "recovered operation a"}},
		{"the kind of before it recovered", []outcome{{"a", ofKind("/x", "k", "r1")}, {"a", nil}, {"a", ofKind("/x", "k", "r2")}}, false,
			[]string{"cannot a err r1 hint h", "recovered operation a", "cannot a err r2 hint h"}},
		{"another text each time, of no kind", []outcome{{"c", failure("1")}, {"c", failure("2")}, {"c", failure("3")}, {"c", failure("4")}, {"c", failure("5")}, {"c", failure("6")}, {"c", failure("7")}}, true,
			[]string{"cannot c err 1 hint hint of 1", "cannot c err 2 hint hint of 2", "cannot c err 3 hint hint of 3", "cannot c err 4 hint hint of 4", "cannot c err 5 hint hint of 5"}},
		{"objects of one kind", []outcome{{"a", ofImage("1", ofKind("/x", "k", "r"))}, {"a", ofImage("2", ofKind("/x", "k", "s"))}}, false, []string{"cannot a err image 1: r hint h"}},
		{"objects without a kind", []outcome{{"a", ofImage("1", errors.New("r"))}, {"a", ofImage("2", errors.New("r"))}}, false, []string{"cannot a err image 1: r hint"}},
		{"a text of any length, with a password", []outcome{{"a", errors.New("tcp://u:p@h\n" + strings.Repeat("x", 1<<20))}}, false, []string{"cannot a err tcp://h " + strings.Repeat("x", 291) + "… hint"}},
		{"success", []outcome{{"a", nil}, {"b", nil}}, true, nil},
		{"failure", []outcome{{"a", failure("x")}}, false, []string{"cannot a err x hint hint of x"}},
		{"an error of another type", []outcome{{"a", errors.New("x")}}, false, []string{"cannot a err x hint"}},
		{"the same again", []outcome{{"a", failure("x")}, {"a", failure("x")}, {"a", failure("x")}}, false, []string{"cannot a err x hint hint of x"}},
		{"recovered", []outcome{{"a", failure("x")}, {"a", nil}, {"a", nil}}, true, []string{"cannot a err x hint hint of x", "recovered operation a"}},
		{"another reason", []outcome{{"a", failure("x")}, {"a", failure("y")}}, false, []string{"cannot a err x hint hint of x", "cannot a err y hint hint of y"}},
		{"again after it recovered", []outcome{{"a", failure("x")}, {"a", nil}, {"a", failure("x")}}, false,
			[]string{"cannot a err x hint hint of x", "recovered operation a", "cannot a err x hint hint of x"}},
		{"two fail", []outcome{{"a", failure("x")}, {"b", failure("x")}}, false, []string{"cannot a err x hint hint of x", "cannot b err x hint hint of x"}},
		{"one of two recovers", []outcome{{"a", failure("x")}, {"b", failure("x")}, {"a", nil}}, false,
			[]string{"cannot a err x hint hint of x", "cannot b err x hint hint of x", "recovered operation a"}},
		{"both recover", []outcome{{"a", failure("x")}, {"b", failure("x")}, {"b", nil}, {"a", nil}}, true,
			[]string{"cannot a err x hint hint of x", "cannot b err x hint hint of x", "recovered operation b", "recovered operation a"}},
		{"an operation without a collector", []outcome{{"c", failure("x")}}, true, []string{"cannot c err x hint hint of x"}},
	}
	for _, test := range tests {
		h := newHealth()
		h.measure("ab", nil, time.Second, at(0))
		var lines []string
		for _, o := range test.outcomes {
			name := "ab"
			if o.operation == "c" {
				name = ""
			}
			h.record(name, o.operation, o.err)
			for _, line := range h.takeLog() {
				lines = append(lines, line.String())
				if isError := line.level == slog.LevelError; isError != strings.HasPrefix(line.message, "cannot ") {
					t.Errorf("%s: the level of %q is %v", test.name, line.message, line.level)
				}
			}
		}
		if !slices.Equal(lines, test.lines) {
			t.Errorf("%s: log %q, want %q", test.name, lines, test.lines)
		}
		want := []model.Collector{{Name: "ab", Success: test.success, Duration: model.Known(time.Second), LastSuccess: model.Known(at(0))}}
		if got := h.report(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, want)
		}
	}
}

// TestHealthWithoutReason checks that an error without a text is an error.
func TestHealthWithoutReason(t *testing.T) {
	t.Parallel()
	h := newHealth()
	h.record("a", "a", errors.New(""))
	if c := h.report(); len(c) != 1 || c[0].Success || len(h.takeLog()) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestHealthMeasure(t *testing.T) {
	t.Parallel()
	h := newHealth()
	if h.report() != nil {
		t.Error("there are collectors that have made no request")
	}
	h.measure("b", failure("x"), time.Second, at(0))
	h.measure("a", nil, time.Second, at(0))
	h.measure("a", nil, 2*time.Second, at(1))
	h.measure("a", failure("x"), 3*time.Second, at(2))
	want := []model.Collector{{Name: "a", Duration: model.Known(2 * time.Second), LastSuccess: model.Known(at(1))}, {Name: "b"}}
	if got := h.report(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	h.measure("a", nil, time.Second, at(3))
	h.reset()
	if got := h.report(); got[0].Success || got[0].LastSuccess != model.Known(at(3)) {
		t.Errorf("after a reset: %+v", got)
	}
}

// TestChangesDue checks when changed objects are inspected: not more often than each tenth of
// a second, and not so often that the engine is busy for more than the ratio.
func TestChangesDue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		ratio   float64
		took    time.Duration // the last inspections, which ended at 0
		now     time.Duration
		checked time.Duration // when the queue was checked
		want    bool
	}{
		{"busy for the ratio", 0.1, time.Second, 10 * time.Second, 0, true},
		{"busy for more than the ratio", 0.1, time.Second, 10*time.Second - time.Millisecond, 0, false},
		{"no limit", 1, time.Hour, time.Second, 0, true},
		{"checked just now", 0.1, 0, time.Minute, time.Minute - debounce/4 + 1, false},
		{"checked lately", 0.1, 0, time.Minute, time.Minute - debounce/4, true},
		{"checked just now, no limit", 1, 0, time.Minute, time.Minute - debounce/4 + 1, false},
	}
	for _, test := range tests {
		s := newTestState(t)
		s.config.BusyRatio.Changed = test.ratio
		*s.schedules[changes] = schedule{known: true, ended: at(0), took: test.took}
		s.changed.checked = at(test.checked)
		if got := s.isDue(changes, at(test.now)); got != test.want {
			t.Errorf("%s: due %v, want %v", test.name, got, test.want)
		}
	}
}

// TestAnswerOnce checks that somebody who was answered just before the own time was over is not
// answered again.
func TestAnswerOnce(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	reply := s.wait(at(0))
	s.answer(at(time.Minute))
	s.request(request{notBefore: at(0), reply: reply, now: true})
	s.answer(at(time.Minute))
	if len(reply) != 1 || len(s.waiting) != 0 || !s.unserved.notBefore.IsZero() {
		t.Errorf("%d answers, %d wait, unserved %v", len(reply), len(s.waiting), s.unserved.notBefore)
	}
}

// TestBounds checks that nothing grows with the events of an engine that is never listed.
func TestBounds(t *testing.T) {
	t.Parallel()
	s := newState(watched())
	for i := range maxChanges + 10 {
		id := fmt.Sprint(i)
		s.partOf(changes, s.version, at(0), inspectedContainer{id, model.Container{}, gone("container")})
		if i > 2*maxPending(containers) {
			continue
		}
		s.event(docker.Event{Type: docker.ContainerEvent, Action: "destroy", ID: id, TimeNano: int64(i + 1)}, at(0))
		s.event(docker.Event{Type: docker.VolumeEvent, Action: docker.UnmountAction, ID: id, TimeNano: int64(i + 1)}, at(0))
	}
	if n := len(s.containers.changes); n > maxChanges {
		t.Errorf("%d removed containers are remembered", n)
	}
	if n := len(s.usage.changedVolumes) + len(s.details); n > 0 {
		t.Errorf("%d volumes and details are remembered", n)
	}
	if n := len(s.changed.pending); n > maxPending(containers) {
		t.Errorf("%d objects are queued", n)
	}
}

// TestDiscardedStopTimes checks that stop times are discarded once a minute while no events
// arrive, however often the engine's info is requested.
func TestDiscardedStopTimes(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.stream.connected = false
	for _, step := range []struct {
		now  time.Duration
		want bool
	}{{time.Hour, true}, {time.Hour + resyncInterval - 1, false}, {time.Hour + resyncInterval, true}} {
		d := s.detailOf("c1")
		d.stoppedAt = model.Known(at(0))
		s.checkCounts(docker.Info{}, at(step.now))
		if isDiscarded := !d.stoppedAt.IsKnown(); isDiscarded != step.want {
			t.Errorf("after %v: discarded %v, want %v", step.now, isDiscarded, step.want)
		}
	}
}

// TestSetRoots checks that file systems are measured again for the snapshots that are waited
// for, but only if the engine's directories have become known since.
func TestSetRoots(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		isNew, inFlight bool
		want            bool
	}{
		{"new", true, false, true},
		{"new, while they are measured: that result will be dropped", true, true, false},
		{"as before", false, false, false},
	} {
		s := newTestState(t)
		s.schedules[filesystems].started, s.schedules[filesystems].inFlight = at(0), test.inFlight
		roots := s.roots
		if test.isNew {
			roots.Docker = "/elsewhere"
		}
		s.setRoots(roots)
		if got := s.schedules[filesystems].started.IsZero(); got != test.want || s.roots != roots {
			t.Errorf("%s: measured again %v, want %v", test.name, got, test.want)
		}
	}
}

// The list of containers with their details is made again only when something may have changed.
func TestDetailedContainersAreKept(t *testing.T) {
	s := newTestState(t)
	first := func() *model.Container {
		list, _ := s.snapshot(at(2)).Containers.Get()
		return &list[0]
	}
	before := first()
	s.answered(ping, at(1), pingAnswer{version: "1.51", api: s.api}, nil, 0)
	s.answered(filesystems, at(1), host.Usage{}, nil, 0)
	if first() != before {
		t.Error("made again after a ping and a measurement")
	}
	s.event(docker.Event{Type: "container", Action: "start", ID: "c1"}, at(2))
	if first() == before {
		t.Error("kept after an event")
	}
	before = first()
	s.answered(containers, at(2), []model.Container{listedContainer("c1")}, nil, 0)
	if first() == before {
		t.Error("kept after a list")
	}
}

// The failure of a container ends with the container.
func TestFailedContainerGoes(t *testing.T) {
	s := newTestState(t)
	s.event(docker.Event{Type: "container", Action: "die", ID: "c2"}, at(0))
	s.partOf(details, s.version, at(1), inspectedContainer{"c2", model.Container{}, timedOut()})
	if lines := s.messages(); len(lines) != 1 {
		t.Fatalf("log %q", lines)
	}
	s.partOf(details, s.version, at(2), inspectedContainer{"c2", model.Container{}, gone("container")})
	s.answered(details, at(2), nil, nil, time.Second)
	if lines := s.messages(); len(lines) != 1 || !strings.Contains(lines[0], "recovered") {
		t.Errorf("log %q", lines)
	}
	if len(s.details) != 1 {
		t.Errorf("details of %d containers", len(s.details))
	}
}

// The containerd store's sizes are consistent only within one list.
func TestListedImages(t *testing.T) {
	s := newTestStateAt(t, "1.51", watched())
	answer := graphDriver
	answer.ImageStore = model.Containerd
	s.answered(info, at(1), answer, nil, 0)
	s.answered(images, at(1), []model.Image{image("i1"), image("i3")}, nil, time.Second)
	s.partOf(changes, s.version, at(2), inspectedImage{"i3", image("i3", "now:tagged"), nil})
	var listed []string
	for _, i := range s.snapshot(at(2)).ListedImages {
		listed = append(listed, fmt.Sprint(i.ID, i.Tags))
	}
	if got := strings.Join(listed, " "); got != "i1[] i3[]" {
		t.Errorf("listed %s", got)
	}
}
