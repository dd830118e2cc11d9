package e2e

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// TestRandomWalk changes real engines at random, as users do. After each change it compares the
// metrics with the output of the Docker CLI.
func TestRandomWalk(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		testRandomWalk(t, kind, withoutContainerd)
	})
	t.Run("29-containerd read directly", func(t *testing.T) {
		t.Parallel()
		testRandomWalk(t, dockertest.Docker29Containerd, withContainerd)
	})
}

// Flags for what is known of an engine with the containerd store: what containerd itself reports,
// or only what the Engine API does.
const (
	withContainerd    = "--containerd.address="
	withoutContainerd = "--containerd.address=none"
)

// testRandomWalk is TestRandomWalk for one kind of engine. The walk is extended, up to three times
// its length, until it has made each kind of change and each series has been more than 0. The
// program gets the flags.
func testRandomWalk(t *testing.T, kind dockertest.Kind, flags ...string) {
	steps := 100
	if kind == dockertest.Docker20 {
		steps = 220
	}
	engine := dockertest.Start(t, kind)
	w := newRandomWalk(t, engine)
	host := engine.Host()
	// Where lists are slow, a change without an event shows only after the next resync check and
	// the list that it triggers.
	var timeout, longest time.Duration
	slowest := "none"
	if kind == dockertest.Docker29Containerd {
		timeout = 3 * time.Minute
		host = serve(t, newProxy(engine))
	}
	p := start(t, append(flags, "--docker.host="+host, allRepositories)...)
	failures := 0
	reached := coverage{changes: make(map[string]int), largest: make(map[string]float64)}
	isComplete := func() bool { return len(reached.changes) == len(w.names()) && len(reached.zero()) == 0 }
	for i := 0; i < steps || !isComplete() && i < 3*steps; {
		choices := w.names()
		if i > steps/2 && w.random.IntN(2) == 0 { // prefer the changes that are still missing
			missing := slices.DeleteFunc(w.names(), func(name string) bool { return reached.changes[name] > 0 })
			if len(missing) > 0 {
				choices = missing
			}
		}
		name, err := w.step(choices)
		if err != nil {
			if failures++; failures > 100*steps {
				t.Fatalf("the engine refused %d changes; the last error: %v", failures, err)
			}
			continue // the engine refused the change
		}
		i++
		want, difference, took := w.compare(p, timeout)
		if difference != "" {
			t.Fatalf("step %d, %s: %s", i, name, difference)
		}
		if took > longest {
			longest, slowest = took, name
		}
		reached.add(name, want)
	}
	t.Logf("changes: %v", reached.changes)
	t.Logf("the metrics were correct at most %v after a change (%s)", longest.Round(10*time.Millisecond), slowest)
	t.Logf("largest values: %v", reached.largest)
	comparePrunes(t, p, kind, reached.changes)
	if len(reached.changes) != len(w.names()) {
		t.Errorf("got %d kinds of changes, want %d", len(reached.changes), len(w.names()))
	}
	if series := reached.zero(); len(series) > 0 {
		t.Errorf("got 0 throughout for %q, want more", series)
	}
}

// comparePrunes waits until docker_prunes_total counts all prunes of a walk. With the containerd
// image store the engine emits no event for image prunes.
func comparePrunes(t *testing.T, p *program, kind dockertest.Kind, changes map[string]int) {
	t.Helper()
	eventually(t, "docker_prunes_total to count all prunes", func() bool {
		got := values(t, p.scrape())
		images, known := got[`docker_prunes_total{resource="images"}`]
		return got[`docker_prunes_total{resource="containers"}`] == float64(changes["container prune"]) &&
			known == (kind != dockertest.Docker29Containerd) &&
			(!known || images == float64(changes["image prune"]+changes["image prune -a"]))
	})
}

// coverage records what a random walk has reached.
type coverage struct {
	changes map[string]int     // number of changes by name
	largest map[string]float64 // largest value of each series
}

// add adds a change and the values after it.
func (c coverage) add(change string, after map[string]float64) {
	c.changes[change]++
	for series, value := range after {
		c.largest[series] = max(c.largest[series], value)
	}
}

// zero returns the series that were always 0, without those that are rarely more.
func (c coverage) zero() (series []string) {
	for name, value := range c.largest {
		isRare := strings.Contains(name, "stopped_for") && !strings.Contains(name, "0-1h") || strings.Contains(name, "removing") || strings.Contains(name, "dead") || strings.Contains(name, "restarting")
		if value == 0 && !isRare {
			series = append(series, name)
		}
	}
	return series
}

// A randomWalk changes a real engine at random.
type randomWalk struct {
	*dockertest.Real
	t      *testing.T
	random *rand.Rand
	count  int // makes names unique
}

// allRepositories is the flag for series of all repositories, as the oracle has them.
const allRepositories = "--collector.repositories=255"

// newRandomWalk returns a walk on an engine, to which it adds one image.
func newRandomWalk(t *testing.T, engine *dockertest.Real) *randomWalk {
	t.Helper()
	w := newEmptyWalk(t, engine)
	engine.Build(w.dockerfile("scratch"), "-t", "base:1")
	return w
}

// newEmptyWalk returns a walk on an engine.
func newEmptyWalk(t *testing.T, engine *dockertest.Real) *randomWalk {
	t.Helper()
	seed := seedOf(t)
	t.Logf("DOCKER_BUILDUP_SEED=%d repeats this walk", seed)
	return &randomWalk{Real: engine, t: t, random: rand.New(rand.NewPCG(seed, 0))}
}

// seedOf returns the seed of a walk. It depends on the name of the test only, so that each run of the
// tests makes the same changes. DOCKER_BUILDUP_SEED sets another seed: a number, or "random".
func seedOf(t *testing.T) uint64 {
	t.Helper()
	switch text := os.Getenv("DOCKER_BUILDUP_SEED"); text {
	case "":
		hash := fnv.New64a()
		io.WriteString(hash, t.Name())
		return hash.Sum64()
	case "random":
		return rand.Uint64()
	default:
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return seed
	}
}

// changes returns the possible changes by name. A change returns an error if the engine refuses it,
// for example because there is no object to change.
func (w *randomWalk) changes() map[string]func() error {
	return map[string]func() error{
		"build":                     func() error { return w.build(w.Build, "-t", w.name()) },
		"build over a tag":          func() error { return w.build(w.Build, "-t", w.tag()) },
		"build untagged":            func() error { return w.build(w.Build) },
		"BuildKit build":            func() error { return w.build(w.BuildKit, "-t", w.name()) },
		"BuildKit build over a tag": func() error { return w.build(w.BuildKit, "-t", w.tag()) },
		"BuildKit build untagged":   func() error { return w.build(w.BuildKit) },
		"load": func() error {
			archive, tag := filepath.Join(w.Dir, "archive.tar"), w.tag()
			if err := w.do("save", "-o", archive, tag); err != nil {
				return err
			}
			if w.random.IntN(2) == 0 {
				w.do("rmi", tag)
			}
			return w.do("load", "-i", archive)
		},
		"import":     func() error { return w.importArchive() },
		"tag":        func() error { return w.do("tag", w.image(), w.name()) },
		"move a tag": func() error { return w.do("tag", w.image(), w.tag()) },
		"untag":      func() error { return w.do("rmi", "--no-prune", w.tag()) },
		"rmi":        func() error { return w.do("rmi", w.image()) },
		"rmi -f":     func() error { return w.do("rmi", "-f", w.image()) },
		"commit":     func() error { return w.do("commit", w.container("")) },
		"create":     func() error { return w.do("create", "--network=none", w.tag()) },
		"create with a volume": func() error {
			w.count++
			return w.do("create", "--network=none", "-v", fmt.Sprintf("volume%d:/data", w.count), "-v", "/anonymous", w.tag())
		},
		"run":            func() error { return w.do("run", "-d", "--network=none", w.tag()) },
		"run until exit": func() error { return w.runUntilExit() },
		"restart forever": func() error {
			return w.do("run", "-d", "--network=none", "--restart=always", w.tag(), "1")
		},
		"start":           func() error { return w.do("start", w.container("created", "exited")) },
		"pause":           func() error { return w.do("pause", w.container("running")) },
		"unpause":         func() error { return w.do("unpause", w.container("paused")) },
		"stop":            func() error { return w.do("stop", "-t", "2", w.container("running")) },
		"rm":              func() error { return w.do("rm", w.container("created", "exited")) },
		"rm -f":           func() error { return w.do("rm", "-f", w.container("running", "paused", "restarting")) },
		"container prune": func() error { return w.rarely("container", "prune", "-f") },
		"image prune":     func() error { return w.rarely("image", "prune", "-f") },
		"image prune -a":  func() error { return w.rarely("image", "prune", "-af") },
	}
}

// names returns the names of all changes.
func (w *randomWalk) names() []string { return slices.Sorted(maps.Keys(w.changes())) }

// step makes one of the named changes.
func (w *randomWalk) step(names []string) (name string, err error) {
	name = w.oneOf(names)
	return name, w.changes()[name]()
}

// do runs the Docker CLI. It returns an error if an argument is empty because there is no such object.
func (w *randomWalk) do(args ...string) error {
	if slices.Contains(args, "") {
		return fmt.Errorf("no object for %v", args)
	}
	_, err := w.Try(args...)
	return err
}

// rarely runs the Docker CLI in one of eight cases, so that objects accumulate between prunes.
func (w *randomWalk) rarely(args ...string) error {
	if w.random.IntN(8) > 0 {
		return fmt.Errorf("skipped at random")
	}
	return w.do(args...)
}

// build builds an image on a random image or on none.
func (w *randomWalk) build(build func(dockerfile string, args ...string) string, args ...string) error {
	if slices.Contains(args, "") {
		return fmt.Errorf("no tag to replace")
	}
	from := "scratch"
	if tag := w.tag(); tag != "" && w.random.IntN(2) == 0 {
		from = tag
	}
	build(w.dockerfile(from), args...)
	return nil
}

// dockerfile returns a Dockerfile with up to two steps that no other image has.
func (w *randomWalk) dockerfile(from string) string {
	lines := []string{"FROM " + from, "COPY idle /", `ENTRYPOINT ["/idle"]`}
	for range w.random.IntN(3) {
		w.count++
		lines = append(lines, fmt.Sprintf("LABEL step=%d", w.count))
	}
	return strings.Join(lines, "\n")
}

// importArchive imports an image of one layer, with or without a tag.
func (w *randomWalk) importArchive() error {
	w.count++
	archive := filepath.Join(w.Dir, "layer.tar")
	layer := dockertest.Layer("content", fmt.Append(nil, "layer ", w.count))
	if err := os.WriteFile(archive, layer, 0o644); err != nil {
		return err
	}
	args := []string{"import", archive}
	if w.random.IntN(2) == 0 {
		args = append(args, w.name())
	}
	return w.do(args...)
}

// runUntilExit runs a container until it exits, with a random exit code.
func (w *randomWalk) runUntilExit() error {
	tag := w.tag()
	if tag == "" {
		return fmt.Errorf("no tag to run")
	}
	id, err := w.Try("run", "-d", "--network=none", tag, fmt.Sprint(w.random.IntN(3)))
	if err != nil {
		return err
	}
	return w.do("wait", id)
}

// name returns a new tag in a random repository.
func (w *randomWalk) name() string {
	w.count++
	return fmt.Sprintf("app%d:%d", w.random.IntN(5), w.count)
}

// tag returns a random tag, or "" if there is none.
func (w *randomWalk) tag() string {
	var tags []string
	for tag := range strings.Lines(w.Docker("images", "--format", "{{.Repository}}:{{.Tag}}")) {
		if !strings.Contains(tag, "<none>") {
			tags = append(tags, strings.TrimSpace(tag))
		}
	}
	return w.oneOf(tags)
}

// image returns the ID of a random image, or "" if there is none.
func (w *randomWalk) image() string {
	return w.oneOf(strings.Fields(w.Docker("images", "-aq", "--no-trunc")))
}

// container returns the ID of a random container in one of the states, or "" if there is none. The
// state "" means any state.
func (w *randomWalk) container(states ...string) string {
	args := []string{"ps", "-aq"}
	for _, state := range states {
		if state != "" {
			args = append(args, "--filter", "status="+state)
		}
	}
	return w.oneOf(strings.Fields(w.Docker(args...)))
}

// oneOf returns a random choice, or "" if there is none.
func (w *randomWalk) oneOf(choices []string) string {
	if len(choices) == 0 {
		return ""
	}
	return choices[w.random.IntN(len(choices))]
}

// compare scrapes until the metrics match the oracle, and returns the values of the oracle and how
// long this took. It returns a difference after the timeout, but not while the oracle itself changes,
// for at most 50 attempts: a container that restarts forever changes between any two requests. If the
// engine is so busy that the program does not list at each scrape, the timeout is three minutes.
func (w *randomWalk) compare(p *program, timeout time.Duration) (want map[string]float64, difference string, took time.Duration) {
	w.t.Helper()
	began := time.Now()
	var before map[string]float64
	for attempt := 1; ; attempt++ {
		took = time.Since(began)
		got := values(w.t, p.scrape())
		want = w.oracle()
		difference = firstDifference(got, want)
		const duration = "docker_scrape_collector_duration_seconds"
		if max(got[duration+`{collector="images"}`], got[duration+`{collector="containers"}`]) >= 0.5 {
			timeout = max(timeout, 3*time.Minute)
		}
		const restarting = `docker_containers{state="restarting"}`
		isStable := maps.Equal(before, want) && want[restarting]+got[restarting] == 0
		if difference == "" || time.Since(began) > timeout && (isStable || attempt > 50) {
			return want, difference, took
		}
		before = want
		time.Sleep(min(timeout, 100*time.Millisecond))
	}
}

// firstDifference describes the first series that is missing or has another value than wanted. It
// returns "" if there is none.
func firstDifference(got, want map[string]float64) string {
	for _, series := range slices.Sorted(maps.Keys(want)) {
		if value, found := got[series]; !found || value != want[series] {
			return fmt.Sprintf("%s: got %v (found: %v), want %v as in the CLI", series, value, found, want[series])
		}
	}
	return ""
}

// oracle returns the expected metrics, computed from the output of the Docker CLI. It shares no code
// with the program.
func (w *randomWalk) oracle() map[string]float64 {
	w.t.Helper()
	want := map[string]float64{
		"docker_up": 1,
		`docker_scrape_collector_success{collector="images"}`:     1,
		`docker_scrape_collector_success{collector="containers"}`: 1,
	}
	use := w.countLayers(want, w.countImages(want))
	w.countContainers(want, use)
	for _, u := range []string{"running", "stopped", "none"} {
		want[fmt.Sprintf("docker_images{use=%q}", u)] = 0
	}
	for _, u := range use {
		want[fmt.Sprintf("docker_images{use=%q}", u)]++
	}
	unused := make(map[string]bool)
	for name := range strings.Lines(w.Docker("volume", "ls", "-q", "--filter", "dangling=true")) {
		unused[name] = true
	}
	volumes := len(strings.Fields(w.Docker("volume", "ls", "-q")))
	want[`docker_volumes{in_use="false"}`] = float64(len(unused))
	want[`docker_volumes{in_use="true"}`] = float64(volumes - len(unused))
	return want
}

// countImages adds the metrics of images and tags, and returns the IDs of the images.
func (w *randomWalk) countImages(want map[string]float64) (ids []string) {
	// "docker images" hides intermediate images, "docker images -a" does not. Both show an image
	// without a name as <none>:<none>.
	repositories := make(map[string]map[string]bool) // IDs of the images by repository
	rows := func(args ...string) (tagged map[string]bool, untagged map[string]bool, tags int) {
		tagged, untagged = make(map[string]bool), make(map[string]bool)
		format := "{{.ID}} {{.Repository}}:{{.Tag}}"
		for row := range strings.Lines(w.Docker(append([]string{"images", "--no-trunc", "--format", format}, args...)...)) {
			id, name, _ := strings.Cut(strings.TrimSpace(row), " ")
			if repository := name[:strings.LastIndex(name, ":")]; repository != "<none>" {
				if repositories[repository] == nil {
					repositories[repository] = make(map[string]bool)
				}
				repositories[repository][id] = true
			}
			if strings.HasSuffix(name, ":<none>") {
				untagged[id] = true
			} else {
				tagged[id] = true
				tags++
			}
		}
		return tagged, untagged, tags
	}
	_, dangling, _ := rows()
	tagged, untagged, tags := rows("-a")
	for repository, images := range repositories {
		want[fmt.Sprintf("docker_repository_images{repository=%q}", repository)] = float64(len(images))
	}
	want["docker_images_tagged"] = float64(len(tagged))
	want["docker_images_untagged"] = float64(len(untagged))
	want["docker_images_dangling"] = float64(len(dangling))
	want["docker_images_intermediate"] = float64(len(untagged) - len(dangling))
	want["docker_image_tags"] = float64(tags)
	return slices.Concat(slices.Collect(maps.Keys(tagged)), slices.Collect(maps.Keys(untagged)))
}

// countLayers adds the metrics of image sizes and layers. It returns the use "none" for each image.
func (w *randomWalk) countLayers(want map[string]float64, ids []string) (use map[string]string) {
	var images []struct {
		ID     string `json:"Id"`
		Size   float64
		RootFS struct{ Layers []string }
	}
	w.inspect(&images, "image", ids)
	want["docker_images_virtual_size_bytes"] = 0
	use = make(map[string]string)
	layers := make(map[string]bool)
	for _, image := range images {
		want["docker_images_virtual_size_bytes"] += image.Size
		use[image.ID] = "none"
		for n := range image.RootFS.Layers {
			layers[strings.Join(image.RootFS.Layers[:n+1], " ")] = true
		}
	}
	want["docker_image_layers"] = float64(len(layers))
	return use
}

// countContainers adds the metrics of containers, and sets the use of the images that they use.
func (w *randomWalk) countContainers(want map[string]float64, use map[string]string) {
	for _, state := range []string{"created", "running", "paused", "restarting", "removing", "exited", "dead"} {
		want[fmt.Sprintf("docker_containers{state=%q}", state)] = 0
	}
	states := make(map[string]string)
	for row := range strings.Lines(w.Docker("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}")) {
		id, state, _ := strings.Cut(strings.TrimSpace(row), " ")
		states[id] = state
		want[fmt.Sprintf("docker_containers{state=%q}", state)]++
	}
	var containers []struct {
		ID    string `json:"Id"`
		Image string
	}
	w.inspect(&containers, "container", slices.Collect(maps.Keys(states)))
	for _, container := range containers {
		if _, exists := use[container.Image]; !exists {
			continue // the image was removed by force
		}
		switch states[container.ID] {
		case "running", "paused", "restarting":
			use[container.Image] = "running"
		default:
			if use[container.Image] == "none" {
				use[container.Image] = "stopped"
			}
		}
	}
	// All containers are less than an hour old.
	for _, age := range []string{"0-1h", "1h-1d", "1d-7d", "7d-30d", "30d+"} {
		want[fmt.Sprintf("docker_containers_stopped{stopped_for=%q}", age)] = 0
	}
	want[`docker_containers_stopped{stopped_for="0-1h"}`] = want[`docker_containers{state="created"}`] +
		want[`docker_containers{state="exited"}`] + want[`docker_containers{state="dead"}`]
}

// inspect decodes the output of "docker image inspect" or "docker container inspect".
func (w *randomWalk) inspect(into any, kind string, ids []string) {
	w.t.Helper()
	if len(ids) == 0 {
		return
	}
	// The CLI omits objects that were removed since the list. The next attempt then has another count.
	output, _ := w.Try(append([]string{kind, "inspect"}, ids...)...)
	if err := json.Unmarshal([]byte(output), into); err != nil {
		w.t.Fatal(err)
	}
}
