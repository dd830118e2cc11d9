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

// TestExact runs each prune command on random hosts. It compares the estimate in the metrics with the
// bytes that the command freed on the disk, and prints a table.
func TestExact(t *testing.T) {
	hosts := 3
	if text := os.Getenv("DOCKER_BUILDUP_EXACT"); text != "" {
		if _, err := fmt.Sscan(text, &hosts); err != nil {
			t.Fatal(err)
		}
	}
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		var mu sync.Mutex
		all := make(map[string][]outcome)
		t.Run("hosts", func(t *testing.T) { // returns when all parallel subtests have finished
			for i := range hosts {
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					t.Parallel()
					h := newPruneHost(t, kind)
					h.withoutBuildKit = i%3 == 1
					h.grow()
					h.removeUnused()
					for _, i := range h.random.Perm(len(pruneCommands())) {
						command := pruneCommands()[i]
						h.grow()
						if o, ran := h.prune(command); ran {
							mu.Lock()
							all[command] = append(all[command], o)
							mu.Unlock()
						}
					}
				})
			}
		})
		for _, command := range pruneCommands() {
			if len(all[command]) > 0 {
				printRow(fmt.Sprintf("%s | `%s`", kind, command), "%s", summary(all[command]))
			}
		}
	})
}

// pruneCommands returns the commands for which the exporter has estimates.
func pruneCommands() []string {
	return []string{
		"docker container prune", "docker image prune", "docker image prune --all",
		"docker volume prune", "docker volume prune --all",
		"docker builder prune", "docker builder prune --all",
		"docker system prune", "docker system prune --all", "docker system prune --all --volumes",
	}
}

// An outcome is the result of one prune command, in bytes.
type outcome struct {
	command   string
	predicted int64 // docker_reclaimable_bytes before the command
	exact     bool  // docker_reclaimable_exact before the command
	freed     int64 // from the disk
	reported  int64 // by the engine in the response to the command
	systemDF  int64 // RECLAIMABLE of "docker system df" before the command, for these resources
}

// summary returns the row of the table for all runs of one command.
func summary(outcomes []outcome) string {
	var sum outcome
	exact, largestError := 0, 0.0 // in percent
	for _, o := range outcomes {
		sum.predicted += o.predicted
		sum.freed += o.freed
		sum.reported += o.reported
		sum.systemDF += o.systemDF
		if o.exact {
			exact++
		} else if o.freed > 0 {
			largestError = max(largestError, 100*float64(o.freed-o.predicted)/float64(o.freed))
		}
	}
	mb := func(n int64) string { return fmt.Sprintf("%.3f", float64(n)/1e6) }
	df, below := "", ""
	if systemDFTypes(outcomes[0].command) != nil {
		df = mb(sum.systemDF)
	}
	if exact < len(outcomes) {
		below = fmt.Sprintf("%.1f %%", largestError)
	}
	return fmt.Sprintf("%d | %s | %s | %s | %s | %d | %s",
		len(outcomes), mb(sum.predicted), mb(sum.freed), mb(sum.reported), df, exact, below)
}

// systemDFTypes returns the types of "docker system df" whose objects a command removes, or nil if
// it has no comparable types.
func systemDFTypes(command string) []string {
	return map[string][]string{
		"docker container prune":              {"Containers"},
		"docker image prune --all":            {"Images"},
		"docker volume prune --all":           {"Local Volumes"},
		"docker builder prune --all":          {"Build Cache"},
		"docker system prune --all":           {"Containers", "Images", "Build Cache"},
		"docker system prune --all --volumes": {"Containers", "Images", "Build Cache", "Local Volumes"},
	}[command]
}

// A pruneHost is an engine with random contents, on which prune estimates are checked.
type pruneHost struct {
	*randomWalk
	withoutBuildKit bool
	built           struct{ from, context, dockerfile string } // the last build

	p        *program
	registry *dockertest.Registry
	cli      string // address of the engine for prune commands
	mu       sync.Mutex
	reported int64 // bytes in the responses to prune requests
}

// newPruneHost starts an engine with eight images, and the program without limits for its requests.
func newPruneHost(t *testing.T, kind dockertest.Kind) *pruneHost {
	t.Helper()
	h := &pruneHost{randomWalk: newRandomWalk(t, dockertest.Start(t, kind)), registry: dockertest.NewRegistry(t)}
	// The CLI prints rounded numbers, so a proxy reads them from the responses of the engine.
	proxy := newReverseProxy(h.Real)
	proxy.ModifyResponse = func(r *http.Response) error {
		body, err := io.ReadAll(r.Body)
		var report struct{ SpaceReclaimed int64 }
		if strings.HasSuffix(r.Request.URL.Path, "/prune") && json.Unmarshal(body, &report) == nil {
			h.mu.Lock()
			h.reported += report.SpaceReclaimed
			h.mu.Unlock()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		return err
	}
	h.cli = "tcp://" + strings.TrimPrefix(serve(t, proxy), "http://")
	h.p = start(t, append(withoutLimits(), "--docker.host="+h.Host(), allRepositories)...)
	archive := filepath.Join(h.Dir, "trees.tar")
	dockertest.WriteImages(t, archive, h.random.IntN(40), 8)
	h.Docker("load", "-q", "-i", archive)
	return h
}

// grow makes twelve random changes, most of which add objects.
func (h *pruneHost) grow() {
	changes := map[string]func() error{
		"build":                     func() error { return h.buildSome(h.Build, "-t", h.name()) },
		"build over a tag":          func() error { return h.buildSome(h.Build, "-t", h.tag()) },
		"build untagged":            func() error { return h.buildSome(h.Build) },
		"BuildKit build":            func() error { return h.buildSome(h.BuildKit, "-t", h.name()) },
		"BuildKit build over a tag": func() error { return h.buildSome(h.BuildKit, "-t", h.tag()) },
		"BuildKit build untagged":   func() error { return h.buildSome(h.BuildKit) },
		"BuildKit build again":      func() error { return h.buildAgain("--no-cache", "-t", h.name()) },
		"load images": func() error {
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
		"write to a container":         func() error { return h.write(h.container(""), "/file") },
		"write to a volume":            func() error { return h.write(h.withVolumes(), "/data/file") },
		"write to an anonymous volume": func() error { return h.write(h.withVolumes(), "/anonymous/file") },
		"pull by digest":               func() error { return h.pull() },
		"volume create":                func() error { h.count++; return h.do("volume", "create", fmt.Sprintf("unused%d", h.count)) },
	}
	for _, name := range []string{
		"tag", "move a tag", "untag", "rmi", "rmi -f", "commit", "create", "run", "run until exit", "start", "stop", "pause", "rm", "rm -f", "import",
	} {
		changes[name] = h.changes()[name]
	}
	var names []string
	for name := range changes {
		if !h.withoutBuildKit || !strings.Contains(name, "BuildKit") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for made, tries := 0, 0; made < 12 && tries < 200; tries++ {
		if changes[h.oneOf(names)]() == nil {
			made++
		}
	}
}

// buildSome builds an image on a random image or on none. Its layers have random sizes; some are
// empty, and some are shared with other images.
func (h *pruneHost) buildSome(build func(string, ...string) string, args ...string) error {
	if slices.Contains(args, "") {
		return fmt.Errorf("no tag to replace")
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

// buildAgain repeats the last build with BuildKit. It returns an error if the base image was removed.
func (h *pruneHost) buildAgain(args ...string) error {
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

// newContext creates a build context with the files of another one. BuildKit caches contexts, and
// does not update the size of a cached context that has changed, so each build has its own.
func (h *pruneHost) newContext(from string) {
	h.count++
	h.Context = fmt.Sprint("context", h.count)
	if err := os.Mkdir(filepath.Join(h.Dir, h.Context), 0o755); err != nil {
		h.t.Fatal(err)
	}
	for _, file := range glob(h.t, filepath.Join(h.Dir, from), "*") {
		if err := os.Link(file, filepath.Join(h.Dir, h.Context, filepath.Base(file))); err != nil {
			h.t.Fatal(err)
		}
	}
}

// pull pulls a random image by its digest, so that the image has no tag.
func (h *pruneHost) pull() error {
	var layers [][]byte
	for i := range 1 + h.random.IntN(3) {
		content := make([]byte, 10_000*(i+1))
		rand.NewChaCha8([32]byte{byte(h.random.IntN(3)), byte(i)}).Read(content)
		layers = append(layers, dockertest.Layer(fmt.Sprint("pulled", i), content))
	}
	return h.do("pull", "--quiet", h.registry.Add(h.t, "pulled", layers...))
}

// file writes a file to the build context, always the same for a seed, and returns its path.
func (h *pruneHost) file(name string, size, seed int) string {
	path := filepath.Join(h.Dir, h.Context, name)
	content := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	random.Read(content)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		h.t.Fatal(err)
	}
	longAgo := time.Unix(1e9, 0) // the digest of a layer depends on the time
	if err := os.Chtimes(path, longAgo, longAgo); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// withVolumes returns a random container with volumes. In other containers a copy to a volume would
// fail, but create mount points without an event.
func (h *pruneHost) withVolumes() string {
	return h.oneOf(strings.Fields(h.Docker("ps", "-aq", "--filter", "label=volumes")))
}

// write writes a file of random size to a path in a container.
func (h *pruneHost) write(container, path string) error {
	h.count++
	file := h.file(fmt.Sprintf("written%d", h.count), 1+h.random.IntN(200_000), 1000+h.count)
	defer os.Remove(file)
	return h.do("cp", file, container+":"+path)
}

// prune runs a prune command, unless this engine has no such command, and compares the freed bytes
// with the estimate.
func (h *pruneHost) prune(command string) (o outcome, ran bool) {
	h.t.Helper()
	page := h.steadyPage()
	predicted, known := page[fmt.Sprintf("docker_reclaimable_bytes{command=%q}", command)]
	exact := page[fmt.Sprintf("docker_reclaimable_exact{command=%q}", command)]
	if command == "docker volume prune --all" && h.Kind == dockertest.Docker20 {
		if known {
			h.t.Errorf("%s: got an estimate of %v, want none: this engine has no such command", command, predicted)
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
		return fmt.Sprintf("%s: predicted %d (exact: %v), freed %d, reported %d\nbefore:\n%s\nmetrics before:\n%s\nafter:\n%s\ndisk changes: %v",
			command, o.predicted, o.exact, o.freed, o.reported, everything, selectReclaimable(page), h.everything(), sizeChanges(before, after))
	}
	// The other commands report also the build cache records that images share, or omit the layers
	// of images that were removed by force.
	reportsFreed := []string{"docker image prune", "docker image prune --all", "docker volume prune", "docker volume prune --all", "docker builder prune"}
	if o.exact && h.Kind != dockertest.Docker29Containerd && slices.Contains(reportsFreed, command) && o.predicted != o.reported {
		h.t.Errorf("got an exact estimate that differs from the reported bytes: %s", explain())
	}
	excess, tolerance := o.predicted-o.freed, h.tolerance(o.freed)
	switch {
	case !known:
		h.t.Errorf("got no estimate, want one: %s", explain())
	case h.Kind == dockertest.Docker29Containerd && excess < 0 && o.reported <= o.predicted+tolerance+h.lostSnapshots(images):
		// The command also freed what earlier commands had left behind, or unpacked snapshots of
		// images that remain.
	case o.exact && (excess > tolerance || excess < -tolerance), !o.exact && excess > tolerance:
		h.t.Errorf("got an estimate that is %d bytes too high: %s", excess, explain())
	}
	return o, true
}

// tolerance returns the largest accepted difference between an estimate and the freed bytes. With the
// containerd image store it is 0.1 % or one block; otherwise an estimate is exact.
func (h *pruneHost) tolerance(freed int64) int64 {
	if h.Kind == dockertest.Docker29Containerd {
		return max(freed/1000, 4096)
	}
	return 0
}

// removeUnused removes the unused images of a random repository, and compares the freed bytes with
// docker_repository_reclaimable_bytes.
func (h *pruneHost) removeUnused() {
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
		h.t.Fatalf("got no docker_repository_reclaimable_bytes of %q, want one of %q", name, names)
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
		h.Try("image", "rm", "-f", id) // refused if it is the parent of another image, which keeps its layers
	}
	after := h.settledBytes()
	freed := total(before) - total(after)
	excess := int64(predicted) - freed
	// The value is a lower bound, for example because an image was removed by force, if that of the
	// prune of all images is one.
	isExact := h.withoutBuildKit && h.Kind != dockertest.Docker29Containerd &&
		page[`docker_reclaimable_exact{command="docker image prune --all"}`] == 1
	if excess > h.tolerance(freed) || isExact && excess != 0 {
		h.t.Errorf("unused images %v of %s: got an estimate of %.0f bytes, %d too high\nbefore:\n%s\nmetrics before:\n%s\nafter:\n%s\ndisk changes: %v",
			unused, name, predicted, excess, everything, selectReclaimable(page), h.everything(), sizeChanges(before, after))
	}
}

// selectReclaimable returns the metrics of a page that explain an estimate.
func selectReclaimable(page map[string]float64) string {
	var lines []string
	for series, value := range page {
		if strings.HasPrefix(series, "docker_reclaimable") || strings.HasPrefix(series, "docker_disk_usage") || strings.HasPrefix(series, "docker_image") {
			lines = append(lines, fmt.Sprintf("%s %.0f", series, value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// everything lists all objects of the engine, for failure messages.
func (h *pruneHost) everything() string {
	return fmt.Sprintf("images:\n%s\ncontainers:\n%s\nbuild cache:\n%s", h.imageList(), h.Docker("ps", "-a", "--size", "--no-trunc"), h.buildCache())
}

// A listedImage is an image in the response of /images/json.
type listedImage struct {
	ID               string `json:"Id"`
	RepoTags         []string
	Size, SharedSize int64
	Manifests        []struct {
		ImageData struct{ Size struct{ Unpacked int64 } }
	}
}

// unpacked returns the bytes of the unpacked snapshots of the image.
func (i listedImage) unpacked() (bytes int64) {
	for _, manifest := range i.Manifests {
		bytes += manifest.ImageData.Size.Unpacked
	}
	return bytes
}

// images returns all images of the engine.
func (h *pruneHost) images() (images []listedImage) {
	h.get("/images/json?all=1&shared-size=1&manifests=1", &images)
	return images
}

// lostSnapshots returns the bytes of unpacked snapshots that the remaining images have lost.
func (h *pruneHost) lostSnapshots(before []listedImage) (bytes int64) {
	unpacked := make(map[string]int64)
	for _, image := range before {
		unpacked[image.ID] = image.unpacked()
	}
	for _, image := range h.images() {
		bytes += max(0, unpacked[image.ID]-image.unpacked())
	}
	return bytes
}

// imageList lists the images of the engine.
func (h *pruneHost) imageList() string {
	var lines []string
	for _, image := range h.images() {
		lines = append(lines, fmt.Sprint(image))
	}
	return strings.Join(lines, "\n")
}

// buildCache lists the records of the build cache.
func (h *pruneHost) buildCache() string {
	var usage struct{ BuildCache []map[string]any }
	h.get("/system/df?type=build-cache", &usage)
	var lines []string
	for _, record := range usage.BuildCache {
		lines = append(lines, fmt.Sprint(record["ID"], " ", record["Parent"], record[" Parents"], " ", record["Type"], " in use: ", record["InUse"], " shared: ", record["Shared"], " ", record["Size"], " ", record["Description"]))
	}
	return strings.Join(lines, "\n")
}

// get decodes the response of the engine to a GET request.
func (h *pruneHost) get(path string, into any) {
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

// steadyPage scrapes until all images have been inspected and two pages are equal, and returns the
// values.
func (h *pruneHost) steadyPage() map[string]float64 {
	h.t.Helper()
	time.Sleep(1500 * time.Millisecond) // for the events to be processed
	var before, page map[string]float64
	eventually(h.t, "two equal pages", func() bool {
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

// systemDF returns RECLAIMABLE of "docker system df" for the objects that a command removes.
func (h *pruneHost) systemDF(command string) (bytes int64) {
	for row := range strings.Lines(h.Docker("system", "df", "--format", "{{.Type}}\t{{.Reclaimable}}")) {
		name, text, _ := strings.Cut(strings.TrimSpace(row), "\t")
		text, _, _ = strings.Cut(text, " ")
		if n, err := units.FromHumanSize(text); err == nil && slices.Contains(systemDFTypes(command), name) {
			bytes += n
		}
	}
	return bytes
}

// settledBytes returns diskBytes once it has not changed for 600 ms: the engine removes some data
// only after a command has returned.
func (h *pruneHost) settledBytes() map[string]int64 {
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

// total returns the sum of all sizes.
func total(bytes map[string]int64) (sum int64) {
	for _, n := range bytes {
		sum += n
	}
	return sum
}

// sizeChanges returns by how many bytes the entries of before have become smaller, the largest first.
func sizeChanges(before, after map[string]int64) (sizes []int64) {
	for dir, n := range before {
		if n != after[dir] {
			sizes = append(sizes, n-after[dir])
		}
	}
	slices.SortFunc(sizes, func(a, b int64) int { return cmp.Compare(b, a) })
	return sizes
}

// diskBytes returns the sizes of the volumes, layers and blobs in the engine's data, by path. It
// counts as the engine does: overlay2 counts the bytes of files; the containerd image store counts
// the blocks of files and folders, and the bytes of blobs. Neither counts the layer with the mount
// points of a container.
func (h *pruneHost) diskBytes() map[string]int64 {
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

// glob returns the paths in dir that match a pattern.
func glob(t *testing.T, dir, pattern string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// treeBytes returns the size of all files in a folder. It counts hard links once. If blocks is set,
// it counts allocated blocks, also those of folders.
func treeBytes(dir string, blocks bool) (bytes int64) {
	seen := make(map[uint64]bool)
	filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was removed
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
