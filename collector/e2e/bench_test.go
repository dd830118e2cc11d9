package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// minutes is how long each of the long measurements takes.
func minutes(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DOCKER_BUILDUP_BENCH")
	if text == "" {
		t.Skip("measures for an hour: set DOCKER_BUILDUP_BENCH to the minutes of a window, as make bench does")
	}
	var n float64
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return time.Duration(n * float64(time.Minute))
}

// yardstick makes of the exporter a plain one, that lists at every scrape.
func yardstick() []string {
	return []string{"--engine.max-busy-ratio=1", "--engine.max-busy-ratio-on-change=1"}
}

// report prints one row of the table; nothing is asserted, because a machine may be busy.
func report(what, format string, args ...any) {
	fmt.Printf("| %s | %s |\n", what, fmt.Sprintf(format, args...))
}

func percent(part, whole time.Duration) float64 { return 100 * float64(part) / float64(whole) }

// scrapeFor scrapes every 15 seconds as Prometheus does.
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

// What watching costs an engine on which nothing changes, beside plain listing.
func TestBenchIdle(t *testing.T) {
	window := minutes(t)
	engine := dockertest.Start(t, dockertest.Docker29Containerd)
	engine.Populate(1000, 500)
	before := engine.CPU()
	p := start(t, append(yardstick(), "--docker.host="+engine.Host())...)
	scrapeFor(p, window)
	p.process.Process.Kill()
	<-p.exited
	plain := engine.CPU() - before
	time.Sleep(15 * time.Second) // the engine ends what nobody waits for any more

	before = engine.CPU()
	p = start(t, "--docker.host="+engine.Host())
	eventuallyWithin(t, 5*time.Minute, "the first lists", func() bool {
		page := p.scrape()
		return strings.Contains(page, "docker_images_tagged ") && strings.Contains(page, "docker_containers{")
	})
	lists := engine.CPU() - before
	examine(t, p, engine, 1000)
	before = engine.CPU()
	scrapeFor(p, window)
	ours := lists + engine.CPU() - before
	report(fmt.Sprintf("29 containerd, 1,000 images, 500 containers, %v of scrapes, nothing changes: engine CPU, first lists included", window),
		"%.1f s, the yardstick %.1f s: %.1f %% (goal: 5 %%)", ours.Seconds(), plain.Seconds(), percent(ours, plain))
}

// examine waits until every image was looked at, and reports what that costs.
func examine(t *testing.T, p *program, engine *dockertest.Real, images int) {
	t.Helper()
	began, before := time.Now(), engine.CPU()
	eventuallyWithin(t, time.Hour, "all images to be looked at", func() bool {
		time.Sleep(5 * time.Second)
		left, known := values(t, p.scrape())["docker_images_uninspected"]
		return known && left == 0
	})
	took, used := time.Since(began), engine.CPU()-before
	report(fmt.Sprintf("29 containerd, %d images, each looked at once after a start", images),
		"%.0f s, %.1f s of engine CPU: %.1f %% of a core (goal: 10 %%)", took.Seconds(), used.Seconds(), percent(used, took))
}

// What is paid per change, and how soon it shows.
func TestBenchChanges(t *testing.T) {
	window := minutes(t)
	engine := dockertest.Start(t, dockertest.Docker29Containerd)
	engine.Populate(300, 150)
	host := "--docker.host=" + engine.Host()

	// The yardstick of these rows.
	before := engine.CPU()
	p := start(t, append(yardstick(), host)...)
	yardstickWindow := min(window, 3*time.Minute)
	scrapeFor(p, yardstickWindow)
	p.process.Process.Kill()
	<-p.exited
	perMinute := time.Duration(float64(engine.CPU()-before) / yardstickWindow.Minutes())
	time.Sleep(5 * time.Second)

	// The same changes with nobody looking.
	id := engine.Docker("create", "--network=none", "idle:1")
	containerChange := func(i int) {
		if i%2 == 0 {
			engine.Docker("start", id)
		} else {
			engine.Docker("kill", id)
		}
	}
	archive := filepath.Join(engine.Dir, "one.tar")
	engine.Docker("save", "-o", archive, "app0:0")
	imageChange := func(i int) {
		switch i % 3 {
		case 0:
			engine.Docker("tag", "idle:1", "idle:2")
		case 1:
			engine.Docker("rmi", "idle:2")
		case 2:
			engine.Docker("load", "-q", "-i", archive)
		}
	}
	const containerChanges, imageChanges = 12, 6
	alone := func(n int, change func(int)) time.Duration {
		before := engine.CPU()
		for i := range n {
			change(i)
			time.Sleep(time.Second)
		}
		return engine.CPU() - before
	}
	containersAlone := alone(containerChanges, containerChange)
	imagesAlone := alone(imageChanges, imageChange)

	p = start(t, host)
	isComplete := func() bool {
		got := values(t, p.scrape())
		return got["docker_images_tagged"] > 0 && got[`docker_containers{state="running"}`] > 0
	}
	eventually(t, "the first lists", isComplete)
	examine(t, p, engine, 300)

	lastAnswers := func() [2]float64 {
		got := values(t, p.scrape())
		return [2]float64{
			got[`docker_scrape_collector_last_success_timestamp_seconds{collector="images"}`],
			got[`docker_scrape_collector_last_success_timestamp_seconds{collector="containers"}`],
		}
	}
	first, began, before := lastAnswers(), time.Now(), engine.CPU()
	relisted := 0
	for relisted < 2 && time.Since(began) < 4*window {
		scrapeFor(p, 15*time.Second)
		relisted = 0
		for kind, at := range lastAnswers() {
			if at > first[kind] {
				relisted++
			}
		}
	}
	took, used := time.Since(began), engine.CPU()-before
	report(fmt.Sprintf("29 containerd, 300 images, 150 containers, a window that holds an idle re-list of %d of 2 kinds: engine CPU", relisted),
		"%.1f s in %.0f s: %.2f %% of a core (goal: 2 %%)", used.Seconds(), took.Seconds(), percent(used, took))

	// A change costs what the engine does then, without what the change itself costs
	// and without what the same scrapes cost when nothing changes.
	const none = -1
	running := func() float64 { return values(t, p.scrape())[`docker_containers{state="running"}`] }
	containerRound := func(i int) (shown int) {
		was := running()
		if i != none {
			containerChange(i)
		}
		time.Sleep(time.Second)
		if running() != was {
			shown = 1
		}
		return shown
	}
	tags := func() float64 { return values(t, p.scrape())["docker_image_tags"] }
	imageRound := func(i int) (shown int) {
		was := tags()
		if i != none {
			imageChange(i)
		}
		time.Sleep(time.Second)
		p.scrape()
		time.Sleep(time.Second)
		if now := tags(); now != was || i%3 == 2 { // what is loaded was there
			shown = 1
		}
		return shown
	}
	// A list that happens to be due in one of the two is not of the change.
	perChange := func(n int, alone time.Duration, round func(int) int) (shown int, cost time.Duration) {
		for {
			answers, before := lastAnswers(), engine.CPU()
			for range n {
				round(none)
			}
			quiet := engine.CPU() - before
			before = engine.CPU()
			shown = 0
			for i := range n {
				shown += round(i)
			}
			if cost = engine.CPU() - before - quiet - alone; answers == lastAnswers() {
				return shown, cost / time.Duration(n)
			}
		}
	}
	shown, cost := perChange(containerChanges, containersAlone, containerRound)
	report("same, a container starts or exits: shown by the next scrape that begins 1 s later; engine CPU per change",
		"%d of %d; %.1f ms (goal: all; 20 ms)", shown, containerChanges, 1000*cost.Seconds())
	shown, cost = perChange(imageChanges, imagesAlone, imageRound)
	report("same, an image is tagged, untagged or loaded once a minute: shown by the second scrape; engine CPU beside the yardstick's",
		"%d of %d; %.0f ms of %.1f s: %.2f %% (goal: all; 1 %%)", shown, imageChanges,
		1000*cost.Seconds(), perMinute.Seconds(), percent(cost, perMinute))
}

// Many images on overlay2: the page is what the CLI says, at every scrape.
func TestBenchOverlay2(t *testing.T) {
	minutes(t)
	engine := dockertest.Start(t, dockertest.Docker29Overlay2)
	engine.Populate(3000, 1000)
	p := start(t, "--docker.host="+engine.Host(), everyRepository)
	w := &walk{Real: engine, t: t}
	equal := 0
	const scrapes = 5
	for i := range scrapes {
		engine.Docker("tag", "idle:1", fmt.Sprint("again:", i))
		if _, differ, _ := w.settle(p, 0); differ == "" {
			equal++
		}
	}
	report("29 overlay2, 3,000 images, 1,000 containers: scrapes that equal the CLI", "%d of %d", equal, scrapes)
	report("memory of the exporter there", "%.1f MiB resident (goal: 40 MiB)", values(t, p.scrape())["process_resident_memory_bytes"]/(1<<20))
}

// A scrape while nothing is due.
func TestBenchScrape(t *testing.T) {
	minutes(t)
	dir := t.TempDir()
	const images, containers, scrapes = 3000, 1000, 1000
	populateFake(t, dir, images, containers)
	engine := dockertest.NewFake(dir)
	for endpoint, file := range map[string]string{
		"/images/json": "images.json", "/containers/json": "containers.json", "/volumes": "volumes.json", "/system/df": "system/df.json",
	} {
		engine.Answer(endpoint, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(600 * time.Millisecond) // dear
			w.Write([]byte(readFile(t, filepath.Join(dir, file))))
		})
	}
	server := httptest.NewServer(engine)
	defer server.Close()
	p := start(t, "--docker.host="+server.URL)
	p.scrape()
	eventually(t, "a complete page", func() bool {
		page := p.scrape()
		return strings.Contains(page, "docker_containers_stopped{") && strings.Contains(page, "docker_image_layers ")
	})

	asked := len(engine.Requests())
	var took []time.Duration
	for range scrapes {
		start := time.Now()
		p.scrape()
		took = append(took, time.Since(start))
	}
	calls := engine.Requests()[asked:]
	slices.Sort(took)
	report("scrape of 3,000 images, 1,000 containers when nothing is due",
		"p50 %.1f ms, p99 %.1f ms, %.3f engine calls (goal: p99 5 ms, 1 call)",
		1000*took[scrapes/2].Seconds(), 1000*took[scrapes*99/100].Seconds(), float64(len(calls))/scrapes)
	report("memory of the exporter there", "%.1f MiB resident (goal: 40 MiB)", values(t, p.scrape())["process_resident_memory_bytes"]/(1<<20))
	page := 0
	for line := range strings.Lines(p.scrape()) {
		if strings.Contains(line, "docker_") {
			page += len(line)
		}
	}
	report("its page without go, process and promhttp metrics", "%.1f KiB (goal: 16 KiB)", float64(page)/1024)
}

// populateFake writes the answers of an engine that holds much.
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
		imageList = append(imageList, map[string]any{"Id": fmt.Sprintf("sha256:%064x", i), "RepoTags": []string{fmt.Sprint("app:", i)}, "Size": 1000, "Labels": map[string]string{"a": "b"}})
	}
	for i := range containers {
		containerList = append(containerList, map[string]any{"Id": fmt.Sprintf("%064x", i), "ImageID": fmt.Sprintf("sha256:%064x", i), "State": "exited", "Labels": map[string]string{"a": "b"}})
	}
	for file, list := range map[string]any{"images.json": imageList, "containers.json": containerList} {
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), string(text))
	}
}
