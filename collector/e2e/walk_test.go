package e2e

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// A real engine is changed at random, as its users would, and after each change
// the page says of every gauge what the Docker CLI says.
func TestRandomWalk(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			randomWalk(t, kind)
		})
	}
}

func randomWalk(t *testing.T, kind dockertest.Kind) {
	steps := 100
	if kind == dockertest.Docker20 {
		steps = 220
	}
	engine := dockertest.Start(t, kind)
	w := newWalk(t, engine)
	host := engine.Host()
	// Where a list is dear a change that no event tells of shows after the next
	// cross-check and the list that it leads to.
	var patience, longest time.Duration
	latest := "none"
	if kind == dockertest.Docker29Containerd {
		patience = 3 * time.Minute
		host = newProxy(engine).serve(t)
	}
	p := start(t, "--docker.host="+host, everyRepository)
	failures := 0
	done := make(map[string]int)
	largest := make(map[string]float64)
	never := func() (series []string) { // seen, but for what is rare
		for name, most := range largest {
			rare := strings.Contains(name, "stopped_for") && !strings.Contains(name, "0-1h") || strings.Contains(name, "removing") || strings.Contains(name, "dead") || strings.Contains(name, "restarting")
			if most == 0 && !rare {
				series = append(series, name)
			}
		}
		return series
	}
	for i := 0; i < steps || (len(done) < len(w.names()) || len(never()) > 0) && i < 3*steps; {
		choices := w.names()
		if i > steps/2 && w.random.IntN(2) == 0 { // what chance has left out so far
			missing := slices.DeleteFunc(w.names(), func(name string) bool { return done[name] > 0 })
			if len(missing) > 0 {
				choices = missing
			}
		}
		name, err := w.step(choices)
		if err != nil {
			if failures++; failures > 100*steps {
				t.Fatalf("the engine refuses everything, at last: %v", err)
			}
			continue // the engine refused
		}
		i++
		done[name]++
		want, differ, took := w.settle(p, patience)
		if differ != "" {
			t.Fatalf("step %d, %s: %s", i, name, differ)
		}
		if took > longest {
			longest, latest = took, name
		}
		for series, value := range want {
			largest[series] = max(largest[series], value)
		}
	}
	t.Logf("made %v", done)
	t.Logf("the page was right at the latest %v after a change (%s)", longest.Round(10*time.Millisecond), latest)
	eventually(t, "all prunes are counted", func() bool {
		got := values(t, p.scrape())
		images, tells := got[`docker_prunes_total{resource="images"}`]
		return got[`docker_prunes_total{resource="containers"}`] == float64(done["container prune"]) &&
			tells == (kind != dockertest.Docker29Containerd) &&
			(!tells || images == float64(done["image prune"]+done["image prune -a"]))
	})
	t.Logf("reached at most %v", largest)
	if len(done) != len(w.names()) {
		t.Errorf("the walk made %d of %d kinds of change", len(done), len(w.names()))
	}
	if series := never(); len(series) > 0 {
		t.Errorf("never more than 0: %q", series)
	}
}

type walk struct {
	*dockertest.Real
	t      *testing.T
	random *rand.Rand
	count  int
}

// A program whose page a walk compares must be asked for all that its oracle knows.
const everyRepository = "--collector.repositories=255"

// newWalk makes a walk on an engine that holds one image.
func newWalk(t *testing.T, engine *dockertest.Real) *walk {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("DOCKER_BUILDUP_SEED"); text != "" {
		fmt.Sscan(text, &seed)
	}
	t.Logf("DOCKER_BUILDUP_SEED=%d repeats this walk", seed)
	w := &walk{Real: engine, t: t, random: rand.New(rand.NewPCG(seed, 0))}
	engine.Build(w.dockerfile("scratch"), "-t", "base:1")
	return w
}

// mutations are the ways in which hosts change. Each fails if the engine refuses,
// as it does where there is nothing to work on.
func (w *walk) mutations() map[string]func() error {
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
		"run":           func() error { return w.do("run", "-d", "--network=none", w.tag()) },
		"run to an end": func() error { return w.runToEnd() },
		"restart for ever": func() error {
			return w.do("run", "-d", "--network=none", "--restart=always", w.tag(), "1")
		},
		"start":           func() error { return w.do("start", w.container("created", "exited")) },
		"pause":           func() error { return w.do("pause", w.container("running")) },
		"unpause":         func() error { return w.do("unpause", w.container("paused")) },
		"stop":            func() error { return w.do("stop", "-t", "2", w.container("running")) },
		"rm":              func() error { return w.do("rm", w.container("created", "exited")) },
		"rm -f":           func() error { return w.do("rm", "-f", w.container("running", "paused", "restarting")) },
		"container prune": func() error { return w.seldom("container", "prune", "-f") },
		"image prune":     func() error { return w.seldom("image", "prune", "-f") },
		"image prune -a":  func() error { return w.seldom("image", "prune", "-af") },
	}
}

func (w *walk) names() []string { return slices.Sorted(maps.Keys(w.mutations())) }

// step makes one change out of some.
func (w *walk) step(names []string) (name string, err error) {
	name = w.oneOf(names)
	return name, w.mutations()[name]()
}

func (w *walk) do(args ...string) error {
	if slices.Contains(args, "") {
		return fmt.Errorf("nothing to do %v on", args)
	}
	_, err := w.Try(args...)
	return err
}

// seldom lets things pile up between prunes.
func (w *walk) seldom(args ...string) error {
	if w.random.IntN(8) > 0 {
		return fmt.Errorf("not now")
	}
	return w.do(args...)
}

func (w *walk) build(build func(dockerfile string, args ...string) string, args ...string) error {
	if slices.Contains(args, "") {
		return fmt.Errorf("no tag to build over")
	}
	from := "scratch"
	if tag := w.tag(); tag != "" && w.random.IntN(2) == 0 {
		from = tag
	}
	build(w.dockerfile(from), args...)
	return nil
}

// dockerfile is of some steps, each of them new.
func (w *walk) dockerfile(from string) string {
	lines := []string{"FROM " + from, "COPY idle /", `ENTRYPOINT ["/idle"]`}
	for range w.random.IntN(3) {
		w.count++
		lines = append(lines, fmt.Sprintf("LABEL step=%d", w.count))
	}
	return strings.Join(lines, "\n")
}

// importArchive makes an image of one layer and no history, tagged or not.
func (w *walk) importArchive() error {
	w.count++
	archive := filepath.Join(w.Dir, "layer.tar")
	file, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	layer := tar.NewWriter(file)
	content := fmt.Sprint("layer ", w.count)
	if err := layer.WriteHeader(&tar.Header{Name: "content", Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	fmt.Fprint(layer, content)
	if err := layer.Close(); err != nil {
		return err
	}
	args := []string{"import", archive}
	if w.random.IntN(2) == 0 {
		args = append(args, w.name())
	}
	return w.do(args...)
}

func (w *walk) runToEnd() error {
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

// name is a new one.
func (w *walk) name() string {
	w.count++
	return fmt.Sprintf("app%d:%d", w.random.IntN(5), w.count)
}

// tag is one that there is, or "".
func (w *walk) tag() string {
	var tags []string
	for tag := range strings.Lines(w.Docker("images", "--format", "{{.Repository}}:{{.Tag}}")) {
		if !strings.Contains(tag, "<none>") {
			tags = append(tags, strings.TrimSpace(tag))
		}
	}
	return w.oneOf(tags)
}

// image is the ID of one that there is, or "".
func (w *walk) image() string {
	return w.oneOf(strings.Fields(w.Docker("images", "-aq", "--no-trunc")))
}

// container is the ID of one in any of some states, or "".
func (w *walk) container(states ...string) string {
	args := []string{"ps", "-aq"}
	for _, state := range states {
		if state != "" {
			args = append(args, "--filter", "status="+state)
		}
	}
	return w.oneOf(strings.Fields(w.Docker(args...)))
}

func (w *walk) oneOf(choices []string) string {
	if len(choices) == 0 {
		return ""
	}
	return choices[w.random.IntN(len(choices))]
}

// settle waits until the page says what the CLI says, for as long as patience allows
// and the CLI keeps changing its mind. A container that restarts for ever does so
// between any two looks.
func (w *walk) settle(p *program, patience time.Duration) (want map[string]float64, differ string, took time.Duration) {
	w.t.Helper()
	began := time.Now()
	var before map[string]float64
	for attempt := 1; ; attempt++ {
		took = time.Since(began)
		got := values(w.t, p.scrape())
		want = w.oracle()
		differ = difference(got, want)
		const restarting = `docker_containers{state="restarting"}`
		isStable := maps.Equal(before, want) && want[restarting]+got[restarting] == 0
		if differ == "" || time.Since(began) > patience && (isStable || attempt > 50) {
			return want, differ, took
		}
		before = want
		time.Sleep(min(patience, 100*time.Millisecond))
	}
}

// difference names the first series in which a page is not as wanted.
func difference(got, want map[string]float64) string {
	for _, series := range slices.Sorted(maps.Keys(want)) {
		if value, there := got[series]; !there || value != want[series] {
			return fmt.Sprintf("%s is %v (there: %v), the CLI says %v", series, value, there, want[series])
		}
	}
	return ""
}

// oracle counts by what the Docker CLI prints, and shares no line with the program.
func (w *walk) oracle() map[string]float64 {
	w.t.Helper()
	want := map[string]float64{
		"docker_up": 1,
		`docker_scrape_collector_success{collector="images"}`:     1,
		`docker_scrape_collector_success{collector="containers"}`: 1,
	}

	// "docker images" hides intermediate images, "docker images -a" does not. Both
	// call an image without any name <none>:<none>.
	repositories := make(map[string]map[string]bool) // the images of each
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
	for repository, ids := range repositories {
		want[fmt.Sprintf("docker_repository_images{repository=%q}", repository)] = float64(len(ids))
	}
	want["docker_images_tagged"] = float64(len(tagged))
	want["docker_images_untagged"] = float64(len(untagged))
	want["docker_images_dangling"] = float64(len(dangling))
	want["docker_images_intermediate"] = float64(len(untagged) - len(dangling))
	want["docker_image_tags"] = float64(tags)

	var images []struct {
		ID     string `json:"Id"`
		Size   float64
		RootFS struct{ Layers []string }
	}
	w.inspect(&images, "image", slices.Concat(slices.Collect(maps.Keys(tagged)), slices.Collect(maps.Keys(untagged))))
	want["docker_images_virtual_size_bytes"] = 0
	use := make(map[string]string)
	layers := make(map[string]bool)
	for _, image := range images {
		want["docker_images_virtual_size_bytes"] += image.Size
		use[image.ID] = "none"
		for n := range image.RootFS.Layers {
			layers[strings.Join(image.RootFS.Layers[:n+1], " ")] = true
		}
	}
	want["docker_image_layers"] = float64(len(layers))

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
		if _, there := use[container.Image]; !there {
			continue // removed by force
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
	// All has happened within the hour.
	for _, span := range []string{"0-1h", "1h-1d", "1d-7d", "7d-30d", "30d+"} {
		want[fmt.Sprintf("docker_containers_stopped{stopped_for=%q}", span)] = 0
	}
	want[`docker_containers_stopped{stopped_for="0-1h"}`] = want[`docker_containers{state="created"}`] +
		want[`docker_containers{state="exited"}`] + want[`docker_containers{state="dead"}`]
	unused := make(map[string]bool)
	for name := range strings.Lines(w.Docker("volume", "ls", "-q", "--filter", "dangling=true")) {
		unused[name] = true
	}
	volumes := len(strings.Fields(w.Docker("volume", "ls", "-q")))
	want[`docker_volumes{in_use="false"}`] = float64(len(unused))
	want[`docker_volumes{in_use="true"}`] = float64(volumes - len(unused))
	for _, u := range []string{"running", "stopped", "none"} {
		want[fmt.Sprintf("docker_images{use=%q}", u)] = 0
	}
	for _, u := range use {
		want[fmt.Sprintf("docker_images{use=%q}", u)]++
	}
	return want
}

func (w *walk) inspect(into any, kind string, ids []string) {
	w.t.Helper()
	if len(ids) == 0 {
		return
	}
	// What went away since the list is left out, and the count then differs from the next.
	output, _ := w.Try(append([]string{kind, "inspect"}, ids...)...)
	if err := json.Unmarshal([]byte(output), into); err != nil {
		w.t.Fatal(err)
	}
}
