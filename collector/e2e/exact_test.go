package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"

	"github.com/docker/go-units"
)

// Every cleanup command is run on hosts that chance has made, and what the page said
// before is held against what the disk got back.
func TestExact(t *testing.T) {
	hosts := 3
	if text := os.Getenv("DOCKER_BUILDUP_EXACT"); text != "" {
		if _, err := fmt.Sscan(text, &hosts); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			all := make(map[string][]outcome)
			t.Run("hosts", func(t *testing.T) { // ends with the last of them
				for i := range hosts {
					t.Run(fmt.Sprint(i), func(t *testing.T) {
						t.Parallel()
						h := newExactHost(t, kind)
						h.withoutBuildKit = i%3 == 1
						h.change()
						h.removeUnused()
						for _, i := range h.random.Perm(len(cleanups())) {
							command := cleanups()[i]
							h.change()
							if o, ran := h.cleanUp(command); ran {
								mu.Lock()
								all[command] = append(all[command], o)
								mu.Unlock()
							}
						}
					})
				}
			})
			for _, command := range cleanups() {
				if len(all[command]) > 0 {
					report(fmt.Sprintf("%s | `%s`", kind, command), "%s", summary(all[command]))
				}
			}
		})
	}
}

func cleanups() []string {
	return []string{
		"docker container prune", "docker image prune", "docker image prune --all",
		"docker volume prune", "docker volume prune --all",
		"docker builder prune", "docker builder prune --all",
		"docker system prune", "docker system prune --all", "docker system prune --all --volumes",
	}
}

// An outcome is what was said before a command and what came of it, in bytes.
type outcome struct {
	command                    string
	predicted, freed, reported int64
	exact                      bool
	systemDF                   int64 // RECLAIMABLE, of what the command is about
}

// summary sums up the runs of one command.
func summary(outcomes []outcome) string {
	var sum outcome
	exact, worst := 0, 0.0
	for _, o := range outcomes {
		sum.predicted += o.predicted
		sum.freed += o.freed
		sum.reported += o.reported
		sum.systemDF += o.systemDF
		if o.exact {
			exact++
		} else if o.freed > 0 {
			worst = max(worst, 100*float64(o.freed-o.predicted)/float64(o.freed))
		}
	}
	mb := func(n int64) string { return fmt.Sprintf("%.3f", float64(n)/1e6) }
	df, below := "", ""
	if rows(outcomes[0].command) != nil {
		df = mb(sum.systemDF)
	}
	if exact < len(outcomes) {
		below = fmt.Sprintf("%.1f %%", worst)
	}
	return fmt.Sprintf("%d | %s | %s | %s | %s | %d | %s",
		len(outcomes), mb(sum.predicted), mb(sum.freed), mb(sum.reported), df, exact, below)
}

// rows are those of "docker system df" that a command is about.
func rows(command string) []string {
	return map[string][]string{
		"docker container prune":              {"Containers"},
		"docker image prune --all":            {"Images"},
		"docker volume prune --all":           {"Local Volumes"},
		"docker builder prune --all":          {"Build Cache"},
		"docker system prune --all":           {"Containers", "Images", "Build Cache"},
		"docker system prune --all --volumes": {"Containers", "Images", "Build Cache", "Local Volumes"},
	}[command]
}

// An exactHost is an engine that holds what chance has put there.
type exactHost struct {
	*walk
	withoutBuildKit bool
	built           struct{ from, context, dockerfile string } // at last

	p        *program
	registry *dockertest.Registry
	cli      string // the address for cleanup commands
	mu       sync.Mutex
	reported int64
}

func newExactHost(t *testing.T, kind dockertest.Kind) *exactHost {
	t.Helper()
	h := &exactHost{walk: newWalk(t, dockertest.Start(t, kind)), registry: dockertest.NewRegistry(t)}
	// What a command reports is read where it is not yet rounded.
	proxy := &httputil.ReverseProxy{
		Transport: h.Transport(),
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			var report struct{ SpaceReclaimed int64 }
			if strings.HasSuffix(r.Request.URL.Path, "/prune") && json.Unmarshal(body, &report) == nil {
				h.mu.Lock()
				h.reported += report.SpaceReclaimed
				h.mu.Unlock()
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			return err
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	h.cli = "tcp://" + strings.TrimPrefix(server.URL, "http://")
	h.p = start(t, "--docker.host="+h.Host(), "--engine.max-busy-ratio=1", "--engine.max-busy-ratio-on-change=1", everyRepository)
	archive := filepath.Join(h.Dir, "trees.tar")
	dockertest.WriteImages(t, archive, h.random.IntN(40), 8)
	h.Docker("load", "-q", "-i", archive)
	return h
}

// change changes the host in some of the ways in which hosts grow.
func (h *exactHost) change() {
	grow := map[string]func() error{
		"build":                     func() error { return h.buildSome(h.Build, "-t", h.name()) },
		"build over a tag":          func() error { return h.buildSome(h.Build, "-t", h.tag()) },
		"build untagged":            func() error { return h.buildSome(h.Build) },
		"BuildKit build":            func() error { return h.buildSome(h.BuildKit, "-t", h.name()) },
		"BuildKit build over a tag": func() error { return h.buildSome(h.BuildKit, "-t", h.tag()) },
		"BuildKit build untagged":   func() error { return h.buildSome(h.BuildKit) },
		"BuildKit build once more":  func() error { return h.buildAgain("--no-cache", "-t", h.name()) },
		"load trees": func() error {
			archive := filepath.Join(h.Dir, "trees.tar")
			dockertest.WriteImages(h.t, archive, h.random.IntN(40), 5)
			return h.do("load", "-q", "-i", archive)
		},
		"create with a volume": func() error {
			h.count++
			return h.do("create", "--network=none", "--label=volumes", "-v", fmt.Sprintf("named%d:/data", h.count%6), "-v", "/anonymous", h.tag())
		},
		"run with a volume": func() error {
			h.count++
			return h.do("run", "-d", "--network=none", "--label=volumes", "-v", fmt.Sprintf("named%d:/data", h.count%6), "-v", "/anonymous", h.tag())
		},
		"write to a container": func() error { return h.write(h.container(""), "/file") },
		"write to a volume":    func() error { return h.write(h.withVolumes(), "/data/file") },
		"write anonymously":    func() error { return h.write(h.withVolumes(), "/anonymous/file") },
		"pull by digest":       func() error { return h.pull() },
		"volume create":        func() error { h.count++; return h.do("volume", "create", fmt.Sprintf("unused%d", h.count)) },
	}
	for _, name := range []string{
		"tag", "move a tag", "untag", "rmi", "rmi -f", "commit", "create", "run", "run to an end", "start", "stop", "pause", "rm", "rm -f", "import",
	} {
		grow[name] = h.mutations()[name]
	}
	var names []string
	for name := range grow {
		if !h.withoutBuildKit || !strings.Contains(name, "BuildKit") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for made, tries := 0, 0; made < 12 && tries < 200; tries++ {
		if grow[h.oneOf(names)]() == nil {
			made++
		}
	}
}

// buildSome builds an image of some layers of random size, some of them without any
// byte, on another image or on none; some layers are in several images.
func (h *exactHost) buildSome(build func(string, ...string) string, args ...string) error {
	if slices.Contains(args, "") {
		return fmt.Errorf("no tag to build over")
	}
	from := "scratch"
	if tag := h.tag(); tag != "" && h.random.IntN(2) == 0 {
		from = tag
	}
	h.newContext("context")
	defer func() { h.Context = "context" }()
	lines := []string{"FROM " + from, "COPY idle /", `ENTRYPOINT ["/idle"]`}
	for range 1 + h.random.IntN(3) {
		number := h.random.IntN(30)
		file := fmt.Sprintf("data%d", number)
		size := rand.New(rand.NewPCG(uint64(number), 1)).IntN(300_000)
		switch h.random.IntN(8) {
		case 0:
			file, size = "empty", 0
		case 1:
			lines = append(lines, fmt.Sprintf("WORKDIR /work%d", number%3))
		case 2:
			lines = append(lines, fmt.Sprintf("LABEL number=%d", number))
		case 3:
			lines = append(lines, fmt.Sprintf(`RUN ["/idle", "/ran%d", "%d"]`, number%3, h.random.IntN(100_000)))
		case 4:
			lines = append(lines, fmt.Sprintf(`RUN ["/idle", "/data%d", "-1"]`, h.random.IntN(30)))
		}
		h.file(file, size, number)
		lines = append(lines, fmt.Sprintf("COPY %s /%s", file, file))
	}
	h.built.from, h.built.context, h.built.dockerfile = from, h.Context, strings.Join(lines, "\n")
	build(h.built.dockerfile, append(args, "--network=none")...)
	return nil
}

// buildAgain makes the last build once more, if what it was based on is still there.
func (h *exactHost) buildAgain(args ...string) error {
	if from := h.built.from; from != "scratch" {
		if _, err := h.Try("image", "inspect", from); err != nil {
			return err
		}
	}
	h.newContext(h.built.context)
	defer func() { h.Context = "context" }()
	h.BuildKit(h.built.dockerfile, append(args, "--network=none")...)
	return nil
}

// newContext makes the context of one build, with the files of another. One that is used
// again changes, but stays as large in the engine's account as it was at first.
func (h *exactHost) newContext(as string) {
	h.count++
	h.Context = fmt.Sprint("context", h.count)
	if err := os.Mkdir(filepath.Join(h.Dir, h.Context), 0o755); err != nil {
		h.t.Fatal(err)
	}
	for _, file := range glob(h.t, filepath.Join(h.Dir, as), "*") {
		if err := os.Link(file, filepath.Join(h.Dir, h.Context, filepath.Base(file))); err != nil {
			h.t.Fatal(err)
		}
	}
}

// pull pulls an image of few layers by its digest. It has no tag then.
func (h *exactHost) pull() error {
	var layers [][]byte
	for i := range 1 + h.random.IntN(3) {
		content := make([]byte, 10_000*(i+1))
		rand.NewChaCha8([32]byte{byte(h.random.IntN(3)), byte(i)}).Read(content)
		layers = append(layers, dockertest.Layer(fmt.Sprint("pulled", i), content))
	}
	return h.do("pull", "--quiet", h.registry.Add(h.t, "pulled", layers...))
}

// file puts a file into the build context, always the same for a seed.
func (h *exactHost) file(name string, size, seed int) string {
	path := filepath.Join(h.Dir, h.Context, name)
	content := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	random.Read(content)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		h.t.Fatal(err)
	}
	longAgo := time.Unix(1e9, 0) // part of what a layer is
	if err := os.Chtimes(path, longAgo, longAgo); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// withVolumes is a container that has some. In any other the copy would fail, and yet
// make mount points of which no event tells.
func (h *exactHost) withVolumes() string {
	return h.oneOf(strings.Fields(h.Docker("ps", "-aq", "--filter", "label=volumes")))
}

func (h *exactHost) write(container, path string) error {
	h.count++
	file := h.file(fmt.Sprintf("written%d", h.count), 1+h.random.IntN(200_000), 1000+h.count)
	defer os.Remove(file)
	return h.do("cp", file, container+":"+path)
}

// cleanUp runs a command, if this engine has it, and compares.
func (h *exactHost) cleanUp(command string) (o outcome, ran bool) {
	h.t.Helper()
	page := h.steadyPage()
	predicted, known := page[fmt.Sprintf("docker_reclaimable_bytes{command=%q}", command)]
	exact := page[fmt.Sprintf("docker_reclaimable_exact{command=%q}", command)]
	if command == "docker volume prune --all" && h.Kind == dockertest.Docker20 {
		if known {
			h.t.Errorf("%s is on the page, but this engine has no such command", command)
		}
		return o, false
	}
	o = outcome{command: command, predicted: int64(predicted), exact: exact == 1, systemDF: h.systemDF(command)}
	everything, images, before := h.everything(), h.images(), h.diskBytes()
	h.mu.Lock()
	h.reported = 0
	h.mu.Unlock()
	args := append(strings.Fields(command)[1:], "-f")
	if _, err := h.Try(slices.Concat([]string{"-H", h.cli}, args)...); err != nil {
		h.t.Fatal(err)
	}
	after := h.settledBytes()
	h.mu.Lock()
	o.freed, o.reported = total(before)-total(after), h.reported
	h.mu.Unlock()

	explain := func() string {
		return fmt.Sprintf("%s: predicted %d (exact: %v), the disk got back %d, the command said %d\nbefore:\n%s\nthe page before:\n%s\nafter:\n%s\nwhat went from the disk: %v",
			command, o.predicted, o.exact, o.freed, o.reported, everything, reclaimables(page), h.everything(), gone(before, after))
	}
	// The others print records that images share, too, or leave out layers of images that
	// were removed by force.
	printsAll := []string{"docker image prune", "docker image prune --all", "docker volume prune", "docker volume prune --all", "docker builder prune"}
	if o.exact && h.Kind != dockertest.Docker29Containerd && slices.Contains(printsAll, command) && o.predicted != o.reported {
		h.t.Errorf("not what the command prints: %s", explain())
	}
	off := o.predicted - o.freed
	slack := int64(0)
	if h.Kind == dockertest.Docker29Containerd {
		slack = max(o.freed/1000, 4096) // or one block
	}
	switch {
	case !known:
		h.t.Errorf("nothing was predicted: %s", explain())
	case h.Kind == dockertest.Docker29Containerd && off < 0 && o.reported <= o.predicted+slack+h.lost(images):
		// The command came upon what had been left behind before, or that is unpacked of
		// images that stay.
	case o.exact && (off > slack || off < -slack), !o.exact && off > slack:
		h.t.Errorf("off by %d: %s", off, explain())
	}
	return o, true
}

// removeUnused removes the unused images of some repository, and compares.
func (h *exactHost) removeUnused() {
	h.t.Helper()
	page := h.steadyPage()
	var names []string
	for series := range page {
		if name, is := strings.CutPrefix(series, "docker_repository_reclaimable_bytes{repository="); is {
			names = append(names, strings.Trim(name, `"}`))
		}
	}
	slices.Sort(names)
	name := h.oneOf(names)
	predicted, known := page[fmt.Sprintf("docker_repository_reclaimable_bytes{repository=%q}", name)]
	if !known {
		h.t.Fatalf("no repository of %q has a figure", names)
	}
	used := make(map[string]bool)
	for _, container := range strings.Fields(h.Docker("ps", "-aq")) {
		used[strings.TrimSpace(h.Docker("inspect", "-f", "{{.Image}}", container))] = true
	}
	var unused []string
	for _, id := range strings.Fields(h.Docker("images", "-aq", "--no-trunc", name)) {
		if !used[id] && !slices.Contains(unused, id) {
			unused = append(unused, id)
		}
	}
	everything, before := h.everything(), h.diskBytes()
	for _, id := range unused {
		h.Try("image", "rm", "-f", id) // refused if another image was built on it, whose layers it has then
	}
	after := h.settledBytes()
	off := int64(predicted) - (total(before) - total(after))
	slack := int64(0)
	if h.Kind == dockertest.Docker29Containerd {
		slack = max((total(before)-total(after))/1000, 4096)
	}
	// What makes it a lower bound, as a container whose image was removed by force, does so
	// for the prune of all images, too.
	isExact := h.withoutBuildKit && h.Kind != dockertest.Docker29Containerd &&
		page[`docker_reclaimable_exact{command="docker image prune --all"}`] == 1
	if off > slack || isExact && off != 0 {
		h.t.Errorf("the unused images %v of %s: off by %d of %.0f predicted\nbefore:\n%s\nthe page before:\n%s\nafter:\n%s\nwhat went from the disk: %v", unused, name, off, predicted, everything, reclaimables(page), h.everything(), gone(before, after))
	}
}

func reclaimables(page map[string]float64) string {
	var lines []string
	for series, value := range page {
		if strings.HasPrefix(series, "docker_reclaimable") || strings.HasPrefix(series, "docker_disk_usage") || strings.HasPrefix(series, "docker_image") {
			lines = append(lines, fmt.Sprintf("%s %.0f", series, value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// everything is what the engine says of all that it has.
func (h *exactHost) everything() string {
	return fmt.Sprintf("images:\n%s\ncontainers:\n%s\nbuild cache:\n%s", h.imageList(), h.Docker("ps", "-a", "--size", "--no-trunc"), h.buildCache())
}

// A listedImage is what the engine's list says of an image.
type listedImage struct {
	ID               string `json:"Id"`
	RepoTags         []string
	Size, SharedSize int64
	Manifests        []struct {
		ImageData struct{ Size struct{ Unpacked int64 } }
	}
}

func (i listedImage) unpacked() (bytes int64) {
	for _, manifest := range i.Manifests {
		bytes += manifest.ImageData.Size.Unpacked
	}
	return bytes
}

func (h *exactHost) images() (images []listedImage) {
	h.ask("/images/json?all=1&shared-size=1&manifests=1", &images)
	return images
}

// lost is what images that are there have no longer unpacked, though they had.
func (h *exactHost) lost(before []listedImage) (bytes int64) {
	had := make(map[string]int64)
	for _, image := range before {
		had[image.ID] = image.unpacked()
	}
	for _, image := range h.images() {
		bytes += max(0, had[image.ID]-image.unpacked())
	}
	return bytes
}

// imageList is what the engine says of its images.
func (h *exactHost) imageList() string {
	var lines []string
	for _, image := range h.images() {
		lines = append(lines, fmt.Sprint(image))
	}
	return strings.Join(lines, "\n")
}

// buildCache is what the engine says of it.
func (h *exactHost) buildCache() string {
	var usage struct{ BuildCache []map[string]any }
	h.ask("/system/df?type=build-cache", &usage)
	var lines []string
	for _, record := range usage.BuildCache {
		lines = append(lines, fmt.Sprint(record["ID"], " ", record["Parent"], record[" Parents"], " ", record["Type"], " in use: ", record["InUse"], " shared: ", record["Shared"], " ", record["Size"], " ", record["Description"]))
	}
	return strings.Join(lines, "\n")
}

// ask asks the engine itself.
func (h *exactHost) ask(path string, into any) {
	h.t.Helper()
	version := "v1.51"
	if h.Kind == dockertest.Docker20 {
		version = "v1.41"
	}
	client := &http.Client{Transport: h.Transport()}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://engine/" + version + path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		h.t.Fatal(err)
	}
}

// steadyPage is a page on which everything was looked at, and that says the same as
// the one before.
func (h *exactHost) steadyPage() map[string]float64 {
	h.t.Helper()
	time.Sleep(1500 * time.Millisecond) // for the events
	var before, page map[string]float64
	eventually(h.t, "a page that does not change", func() bool {
		before, page = page, values(h.t, h.p.scrape())
		same := before != nil && page["docker_images_uninspected"] == 0
		for series, value := range page {
			if strings.HasPrefix(series, "docker_") && !strings.Contains(series, "docker_scrape") && !strings.Contains(series, "docker_filesystem") {
				same = same && before[series] == value
			}
		}
		return same
	})
	return page
}

// systemDF is what "docker system df" calls reclaimable of what a command is about.
func (h *exactHost) systemDF(command string) (bytes int64) {
	for row := range strings.Lines(h.Docker("system", "df", "--format", "{{.Type}}\t{{.Reclaimable}}")) {
		name, text, _ := strings.Cut(strings.TrimSpace(row), "\t")
		text, _, _ = strings.Cut(text, " ")
		if n, err := units.FromHumanSize(text); err == nil && slices.Contains(rows(command), name) {
			bytes += n
		}
	}
	return bytes
}

// settledBytes is diskBytes once it no longer changes: some things are collected
// behind the command.
func (h *exactHost) settledBytes() map[string]int64 {
	bytes := h.diskBytes()
	for steady := 0; steady < 4; {
		time.Sleep(150 * time.Millisecond)
		now := h.diskBytes()
		steady++
		if !maps.Equal(now, bytes) {
			steady = 0
		}
		bytes = now
	}
	return bytes
}

func total(bytes map[string]int64) (sum int64) {
	for _, n := range bytes {
		sum += n
	}
	return sum
}

// gone are the sizes of what has become smaller, the largest first.
func gone(before, after map[string]int64) (sizes []int64) {
	for dir, n := range before {
		if n != after[dir] {
			sizes = append(sizes, n-after[dir])
		}
	}
	slices.SortFunc(sizes, func(a, b int64) int { return cmp.Compare(b, a) })
	return sizes
}

// diskBytes is what lies in the engine's root, by folder or blob, in the engine's own
// units: overlay2 counts the bytes of files, the containerd store the blocks of files
// and folders, and blobs as they are. The layer under each container that holds its
// mount points counts for neither.
func (h *exactHost) diskBytes() map[string]int64 {
	data, bytes := filepath.Join(h.Dir, "data"), make(map[string]int64)
	for _, dir := range glob(h.t, data, "volumes/*/_data") {
		bytes[dir] = treeBytes(dir, false)
	}
	if h.Kind != dockertest.Docker29Containerd {
		for _, dir := range glob(h.t, data, "overlay2/*/diff") {
			if !strings.HasSuffix(filepath.Dir(dir), "-init") {
				bytes[dir] = treeBytes(dir, false)
			}
		}
		return bytes
	}
	for _, dir := range glob(h.t, data, "containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs") {
		if _, err := os.Lstat(filepath.Join(dir, ".dockerenv")); err != nil {
			bytes[dir] = treeBytes(dir, true)
		}
	}
	for _, blob := range glob(h.t, data, "containerd/daemon/io.containerd.content.v1.content/blobs/*/*") {
		bytes[blob] = treeBytes(blob, false)
	}
	return bytes
}

func glob(t *testing.T, dir, pattern string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// treeBytes adds up a tree, files with several names once.
func treeBytes(dir string, blocks bool) (bytes int64) {
	seen := make(map[uint64]bool)
	filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		stat := info.Sys().(*syscall.Stat_t)
		switch {
		case seen[stat.Ino]:
		case blocks:
			bytes += stat.Blocks * 512
		case !entry.IsDir():
			bytes += info.Size()
		}
		seen[stat.Ino] = true
		return nil
	})
	return bytes
}
