package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// benchWindow returns the duration of each of the long measurements. The test is skipped unless
// DOCKER_BUILDUP_BENCH is set to a number of minutes.
func benchWindow(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DOCKER_BUILDUP_BENCH")
	if text == "" {
		t.Skip("takes up to an hour: set DOCKER_BUILDUP_BENCH to the minutes of a measurement, as make bench does")
	}
	var n float64
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return time.Duration(n * float64(time.Minute))
}

// withoutLimits returns the flags that disable the limits for slow requests, so that the program
// requests every list on every scrape, as a simple exporter does.
func withoutLimits() []string {
	return []string{"--engine.max-busy-ratio=1", "--engine.max-busy-ratio-on-change=1"}
}

// printRow prints one row of a table for the scripts in .ci. The benchmarks only print their results
// because a machine may be busy.
func printRow(title, format string, args ...any) {
	fmt.Printf("| %s | %s |\n", title, fmt.Sprintf(format, args...))
}

// printMemory prints the row for the memory of the program.
func printMemory(t *testing.T, p *program) {
	t.Helper()
	printRow("same, memory of the exporter", "%.1f MiB resident, %.1f MiB at most (goal: 40 MiB)",
		values(t, p.scrape())["process_resident_memory_bytes"]/(1<<20), peakMemory(t, p.process.Process.Pid)/(1<<10))
}

// percent returns which percentage of whole part is.
func percent(part, whole time.Duration) float64 { return 100 * float64(part) / float64(whole) }

// scrapeFor scrapes every 15 seconds, as Prometheus does, for a duration.
func scrapeFor(p *program, d time.Duration) {
	for end := time.Now().Add(d); ; {
		p.scrape()
		if left := time.Until(end); left < 15*time.Second {
			time.Sleep(max(0, left))
			return
		}
		time.Sleep(15 * time.Second)
	}
}

// TestBenchIdle measures the CPU time of an engine on which nothing changes, with the program and
// with a simple exporter.
func TestBenchIdle(t *testing.T) {
	window := benchWindow(t)
	engine := dockertest.Start(t, dockertest.Docker29Containerd)
	engine.Populate(1000, 500)
	before := engine.CPU()
	p := start(t, append(withoutLimits(), "--docker.host="+engine.Host(), withoutContainerd)...)
	scrapeFor(p, window)
	p.kill()
	simple := engine.CPU() - before
	time.Sleep(15 * time.Second) // until the engine has finished canceled requests

	benchContainerd(t, engine, window, simple)
	before = engine.CPU()
	p = start(t, "--docker.host="+engine.Host(), withoutContainerd)
	eventuallyWithin(t, 5*time.Minute, "the first lists", func() bool {
		page := p.scrape()
		return strings.Contains(page, "docker_images_tagged ") && strings.Contains(page, "docker_containers{")
	})
	lists := engine.CPU() - before
	measureInspection(t, p, engine, 1000)
	before = engine.CPU()
	scrapeFor(p, window)
	used := lists + engine.CPU() - before
	printRow(fmt.Sprintf("29 containerd, 1,000 images, 500 containers, %v of scrapes, nothing changes: engine CPU, first lists included", window),
		"%.1f s, a simple exporter %.1f s: %.1f %% (goal: 5 %%)", used.Seconds(), simple.Seconds(), percent(used, simple))
}

// benchContainerd measures the program with access to the containerd of an engine: until every figure
// is there, and while nothing changes. simple is the CPU time of a simple exporter.
func benchContainerd(t *testing.T, engine *dockertest.Real, window, simple time.Duration) {
	t.Helper()
	began, before := time.Now(), engine.CPU()
	p := start(t, "--docker.host="+engine.Host())
	eventuallyWithin(t, 5*time.Minute, "every figure", func() bool {
		page := values(t, p.scrape())
		_, isKnown := page[`docker_reclaimable_bytes{command="docker system prune --all --volumes"}`]
		_, hasUsage := page[`docker_disk_usage_bytes{resource="containers"}`]
		_, hasImages := page[`docker_disk_usage_bytes{resource="images"}`]
		return isKnown && hasUsage && hasImages && page["docker_images_uninspected"] == 0
	})
	took, first := time.Since(began), engine.CPU()-before
	printRow("29 containerd, 1,000 images, 500 containers, containerd is read: start until every figure is there",
		"%.1f s, %.1f s of engine CPU (goal: 5 s, 5 s)", took.Seconds(), first.Seconds())
	scrapeFor(p, window)
	used := engine.CPU() - before
	printRow(fmt.Sprintf("same, %v of scrapes, nothing changes: engine CPU, start included", window),
		"%.1f s, a simple exporter %.1f s: %.1f %% (goal: 1 %%)", used.Seconds(), simple.Seconds(), percent(used, simple))
	printMemory(t, p)
	p.kill()
	path := filepath.Join(t.TempDir(), "stripped")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, root)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	printRow("binary", "%.1f MB (goal: 22 MB)", float64(info.Size())/1e6)
}

// measureInspection waits up to an hour until every image has been inspected, and prints the CPU time
// of the engine.
func measureInspection(t *testing.T, p *program, engine *dockertest.Real, images int) {
	t.Helper()
	began, before := time.Now(), engine.CPU()
	eventuallyWithin(t, time.Hour, "all images to be inspected", func() bool {
		time.Sleep(5 * time.Second)
		left, known := values(t, p.scrape())["docker_images_uninspected"]
		return known && left == 0
	})
	took, used := time.Since(began), engine.CPU()-before
	printRow(fmt.Sprintf("29 containerd, %d images, each inspected once after a start", images),
		"%.0f s, %.1f s of engine CPU: %.1f %% of a core (goal: 10 %%)", took.Seconds(), used.Seconds(), percent(used, took))
}

// TestBenchChanges measures the CPU time of an engine per change of a container or an image, and
// whether the next scrapes show the change.
func TestBenchChanges(t *testing.T) {
	window := benchWindow(t)
	engine := dockertest.Start(t, dockertest.Docker29Containerd)
	engine.Populate(300, 150)
	host := "--docker.host=" + engine.Host()

	// The CPU time with a simple exporter, for comparison.
	before := engine.CPU()
	p := start(t, append(withoutLimits(), host, withoutContainerd)...)
	simpleWindow := min(window, 3*time.Minute)
	scrapeFor(p, simpleWindow)
	p.kill()
	perMinute := time.Duration(float64(engine.CPU()-before) / simpleWindow.Minutes())
	time.Sleep(5 * time.Second)

	b := changeBench{engine: engine, container: engine.Docker("create", "--network=none", "idle:1"), archive: filepath.Join(engine.Dir, "one.tar")}
	engine.Docker("save", "-o", b.archive, "app0:0")
	const containerChanges, imageChanges = 12, 6
	containersAlone := b.withoutExporter(containerChanges, b.changeContainer)
	imagesAlone := b.withoutExporter(imageChanges, b.changeImage)

	b.program = start(t, host, withoutContainerd)
	eventually(t, "the first lists", func() bool {
		got := values(t, b.program.scrape())
		return got["docker_images_tagged"] > 0 && got[`docker_containers{state="running"}`] > 0
	})
	measureInspection(t, b.program, engine, 300)
	b.measureIdle(window)
	shown, cost := b.perChange(containerChanges, containersAlone, b.containerRound)
	printRow("same, a container starts or exits: shown by the next scrape that begins 1 s later; engine CPU per change",
		"%d of %d; %.1f ms (goal: all; 20 ms)", shown, containerChanges, 1000*cost.Seconds())
	shown, cost = b.perChange(imageChanges, imagesAlone, b.imageRound)
	printRow("same, an image is tagged, untagged or loaded once a minute: shown by the second scrape; engine CPU compared with a simple exporter",
		"%d of %d; %.0f ms of %.1f s: %.2f %% (goal: all; 1 %%)", shown, imageChanges,
		1000*cost.Seconds(), perMinute.Seconds(), percent(cost, perMinute))
}

// A changeBench changes a container and an image of an engine that a program watches.
type changeBench struct {
	engine    *dockertest.Real
	program   *program
	container string // its ID
	archive   string // of an image that the engine has
}

func (b *changeBench) changeContainer(i int) {
	if i%2 == 0 {
		b.engine.Docker("start", b.container)
	} else {
		b.engine.Docker("kill", b.container)
	}
}

func (b *changeBench) changeImage(i int) {
	switch i % 3 {
	case 0:
		b.engine.Docker("tag", "idle:1", "idle:2")
	case 1:
		b.engine.Docker("rmi", "idle:2")
	case 2:
		b.engine.Docker("load", "-q", "-i", b.archive)
	}
}

// withoutExporter returns the CPU time of the engine for n changes.
func (b *changeBench) withoutExporter(n int, change func(int)) time.Duration {
	before := b.engine.CPU()
	for i := range n {
		change(i)
		time.Sleep(time.Second)
	}
	return b.engine.CPU() - before
}

// value scrapes, and returns the value of a series.
func (b *changeBench) value(series string) float64 {
	return values(b.program.t, b.program.scrape())[series]
}

// lastSuccess scrapes, and returns when images and containers were listed.
func (b *changeBench) lastSuccess() [2]float64 {
	got := values(b.program.t, b.program.scrape())
	return [2]float64{
		got[`docker_scrape_collector_last_success_timestamp_seconds{collector="images"}`],
		got[`docker_scrape_collector_last_success_timestamp_seconds{collector="containers"}`],
	}
}

// measureIdle prints the CPU time of the engine until both lists have been refreshed without a change,
// or for four windows.
func (b *changeBench) measureIdle(window time.Duration) {
	first, began, before := b.lastSuccess(), time.Now(), b.engine.CPU()
	relisted := 0
	for relisted < 2 && time.Since(began) < 4*window {
		scrapeFor(b.program, 15*time.Second)
		relisted = 0
		for kind, at := range b.lastSuccess() {
			if at > first[kind] {
				relisted++
			}
		}
	}
	took, used := time.Since(began), b.engine.CPU()-before
	printRow(fmt.Sprintf("29 containerd, 300 images, 150 containers, a window with an idle refresh of %d of 2 lists: engine CPU", relisted),
		"%.1f s in %.0f s: %.2f %% of a core (goal: 2 %%)", used.Seconds(), took.Seconds(), percent(used, took))
}

// noChange is the number of a round without a change.
const noChange = -1

// containerRound changes the container, and reports whether the next scrape shows it.
func (b *changeBench) containerRound(i int) (isShown bool) {
	const running = `docker_containers{state="running"}`
	before := b.value(running)
	if i != noChange {
		b.changeContainer(i)
	}
	time.Sleep(time.Second)
	return b.value(running) != before
}

// imageRound changes an image, and reports whether the second scrape shows it.
func (b *changeBench) imageRound(i int) (isShown bool) {
	before := b.value("docker_image_tags")
	if i != noChange {
		b.changeImage(i)
	}
	time.Sleep(time.Second)
	b.program.scrape()
	time.Sleep(time.Second)
	return b.value("docker_image_tags") != before || i%3 == 2 // loading an existing image changes nothing
}

// perChange returns how many of n changes are shown, and what each of them costs the engine because of the
// program: its CPU time, minus that of the changes without an exporter, minus that of the same scrapes without
// a change. Rounds in which a list was refreshed are repeated: the refresh does not belong to the changes.
func (b *changeBench) perChange(n int, alone time.Duration, round func(int) bool) (shown int, cost time.Duration) {
	for {
		success, before := b.lastSuccess(), b.engine.CPU()
		for range n {
			round(noChange)
		}
		unchanged := b.engine.CPU() - before
		before, shown = b.engine.CPU(), 0
		for i := range n {
			if round(i) {
				shown++
			}
		}
		if cost = b.engine.CPU() - before - unchanged - alone; success == b.lastSuccess() {
			return shown, cost / time.Duration(n)
		}
	}
}

// TestBenchOverlay2 counts how many scrapes of an engine with many images match the Docker CLI
// immediately after a change.
func TestBenchOverlay2(t *testing.T) {
	benchWindow(t)
	engine := dockertest.Start(t, dockertest.Docker29Overlay2)
	engine.Populate(3000, 1000)
	p := start(t, "--docker.host="+engine.Host(), allRepositories)
	w := &randomWalk{Real: engine, t: t}
	equal := 0
	const scrapes = 5
	for i := range scrapes {
		engine.Docker("tag", "idle:1", fmt.Sprint("again:", i))
		if _, difference, _ := w.compare(p, 0); difference == "" {
			equal++
		}
	}
	printRow("29 overlay2, 3,000 images, 1,000 containers: scrapes that match the CLI", "%d of %d", equal, scrapes)
	printMemory(t, p)
}

// TestBenchScrape measures the duration of a scrape during which no list is refreshed, the memory of
// the program and the size of the page.
func TestBenchScrape(t *testing.T) {
	benchWindow(t)
	dir := t.TempDir()
	const images, containers, scrapes = 3000, 1000, 1000
	populateFake(t, dir, images, containers)
	address, engine := serveFake(t, dir)
	for endpoint, file := range map[string]string{
		"/images/json": "images.json", "/containers/json": "containers.json", "/volumes": "volumes.json", "/system/df": "system/df.json",
	} {
		engine.Answer(endpoint, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(600 * time.Millisecond) // slower than a list that is refreshed on every scrape
			w.Write([]byte(readFile(t, filepath.Join(dir, file))))
		})
	}
	p := start(t, "--docker.host="+address)
	p.scrape()
	p.scrapeUntil("docker_containers_stopped{", "docker_image_layers ")

	requestsBefore := len(engine.Requests())
	var took []time.Duration
	for range scrapes {
		start := time.Now()
		p.scrape()
		took = append(took, time.Since(start))
	}
	requests := engine.Requests()[requestsBefore:]
	slices.Sort(took)
	printRow("scrape of 3,000 images, 1,000 containers without a refresh",
		"p50 %.1f ms, p99 %.1f ms, %.3f engine requests (goal: p99 5 ms, 1 request)",
		1000*took[scrapes/2].Seconds(), 1000*took[scrapes*99/100].Seconds(), float64(len(requests))/scrapes)
	printMemory(t, p)
	page := 0
	for line := range strings.Lines(p.scrape()) {
		if strings.Contains(line, "docker_") {
			page += len(line)
		}
	}
	printRow("same, size of the page without go, process and promhttp metrics", "%.1f KiB (goal: 16 KiB)", float64(page)/1024)
}

// populateFake writes the responses of an engine with this many images and containers to a folder.
func populateFake(t *testing.T, dir string, images, containers int) {
	t.Helper()
	for _, file := range []string{"api-version", "info.json"} {
		write(t, filepath.Join(dir, file), readFile(t, filepath.Join(engines, "api-1.51-graphdriver", file)))
	}
	if err := os.MkdirAll(filepath.Join(dir, "system"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"volumes.json", "system/df.json"} {
		write(t, filepath.Join(dir, file), readFile(t, filepath.Join(engines, "api-1.51-graphdriver", file)))
	}
	var imageList, containerList []map[string]any
	for i := range images {
		imageList = append(imageList, map[string]any{
			"Id": fmt.Sprintf("sha256:%064x", i), "RepoTags": []string{fmt.Sprint("app:", i)}, "RepoDigests": nil, "Size": 1000, "Labels": map[string]string{"a": "b"},
		})
	}
	for i := range containers {
		containerList = append(containerList, map[string]any{
			"Id": fmt.Sprintf("%064x", i), "Image": fmt.Sprint("app:", i), "ImageID": fmt.Sprintf("sha256:%064x", i), "Created": 0, "State": "exited",
			"Mounts": []any{}, "Labels": map[string]string{"a": "b"},
		})
	}
	for file, list := range map[string]any{"images.json": imageList, "containers.json": containerList} {
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), string(text))
	}
}

// TestBenchLongLists measures how much memory the program needs at most for answers that are
// longer than its memory.
func TestBenchLongLists(t *testing.T) {
	benchWindow(t)
	repeated := func(n int, element func(i int) string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := range n {
				fmt.Fprint(w, map[bool]string{true: "[", false: ","}[i == 0], element(i))
			}
			fmt.Fprint(w, "]")
		}
	}
	image := func(i int, labels string) string {
		return fmt.Sprintf(`{"Id":"sha256:%064x","ParentId":"","RepoTags":["registry.example/team/app-%d:v%d"],"RepoDigests":null,"Created":%d,"Size":1000000,"SharedSize":-1,"Labels":{"a":%q},"Containers":-1}`,
			i, i/10, i, 1700000000+i, labels)
	}
	record := func(i int) string {
		return fmt.Sprintf(`{"ID":"%025d","Type":"regular","InUse":false,"Shared":false,"Size":1000,"CreatedAt":"2026-01-02T03:04:05Z","LastUsedAt":null,"UsageCount":1,"Description":%q}`, i, strings.Repeat("RUN make ", 800))
	}
	long := strings.Repeat("0123456789", 6000)
	var lists atomic.Int64
	for _, test := range []struct {
		name, endpoint string
		images         int
		answer         http.HandlerFunc
		present        string
	}{
		{"100,000 images", "/images/json", 100000, repeated(100000, func(i int) string { return image(i, "") }), "docker_images_tagged 100000"},
		{"100,000 images, of which 100 differ in each list", "/images/json", 100000, func(w http.ResponseWriter, r *http.Request) {
			list := lists.Add(1)
			repeated(100000, func(i int) string {
				if i%1000 == 0 {
					return strings.Replace(image(i, ""), ":v", fmt.Sprintf(":list-%d-", list), 1)
				}
				return image(i, "")
			})(w, r)
		}, "docker_images_tagged 100000"},
		{"600 images with labels of 60 kB", "/images/json", 600, repeated(600, func(i int) string { return image(i, long) }), "docker_images_tagged 600"},
		{"10,000 records of the build cache of 7 kB", "/system/df", 7, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"Volumes":[],"BuildCache":`)
			repeated(10000, record)(w, r)
			fmt.Fprint(w, "}")
		}, `docker_build_cache_records{in_use="false"} 10000`},
	} {
		address, engine := serveFake(t, filepath.Join(engines, "api-1.51-graphdriver"))
		engine.Answer(test.endpoint, test.answer)
		engine.Answer("/info", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Replace(readFile(t, filepath.Join(engines, "api-1.51-graphdriver/info.json")), `"Images": 7`, fmt.Sprintf(`"Images": %d`, test.images), 1))
		})
		p := start(t, "--engine.max-busy-ratio=1", "--docker.host="+address) // each scrape lists again
		p.scrapeUntil(test.present)
		for range 3 {
			p.scrape()
		}
		printRow(test.name, "at most %.1f MiB resident (goal: 64 MiB)", peakMemory(t, p.process.Process.Pid)/(1<<10))
		p.kill()
	}
}

// peakMemory returns the largest resident size of a process in KiB.
func peakMemory(t *testing.T, pid int) (kib float64) {
	t.Helper()
	for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
