package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
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

// TestAccuracy runs each prune command on random hosts and on everyday hosts. It compares the figures in
// the metrics with the bytes that the command freed on the disk, and prints a table of each kind of host.
// DOCKER_BUILDUP_HOSTS is the number of hosts of each kind and engine. By default it is a few, and
// everyday hosts run only some of the commands.
func TestAccuracy(t *testing.T) {
	t.Parallel()
	random, everyday := 3, 1
	if text := os.Getenv("DOCKER_BUILDUP_HOSTS"); text != "" {
		if _, err := fmt.Sscan(text, &random); err != nil {
			t.Fatal(err)
		}
		everyday = random
	}
	t.Run("random", func(t *testing.T) { t.Parallel(); testAccuracy(t, random, testRandomHost) })
	t.Run("everyday", func(t *testing.T) { t.Parallel(); testAccuracy(t, everyday, testEverydayHost) })
}

// testAccuracy runs a test on a number of hosts of each kind of engine, and prints a table of the
// outcomes that it returns.
func testAccuracy(t *testing.T, hosts int, test func(t *testing.T, kind dockertest.Kind, i int) []outcome) {
	forEachKind(t, func(t *testing.T, kind dockertest.Kind) {
		t.Parallel()
		var mu sync.Mutex
		all := make(map[string][]outcome)
		t.Run("hosts", func(t *testing.T) { // returns when all parallel subtests have finished
			for i := range hosts {
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					t.Parallel()
					outcomes := test(t, kind, i)
					mu.Lock()
					defer mu.Unlock()
					for _, o := range outcomes {
						row := o.access + " | `" + o.command + "`"
						all[row] = append(all[row], o)
					}
				})
			}
		})
		for _, access := range accesses(kind) {
			for _, command := range pruneCommands() {
				if row := access + " | `" + command + "`"; len(all[row]) > 0 {
					printRow(fmt.Sprintf("%s | %s", kind, row), "%s", summary(all[row]))
				}
			}
		}
	})
}

// pruneCommands returns the commands for which the exporter has estimates.
func pruneCommands() []string {
	return []string{
		"docker container prune", "docker container prune --filter until=168h",
		"docker image prune", "docker image prune --all", "docker image prune --all --filter until=168h",
		"docker volume prune", "docker volume prune --all",
		"docker builder prune", "docker builder prune --all", "docker builder prune --filter until=168h",
		"docker system prune", "docker system prune --all", "docker system prune --all --volumes",
	}
}

// The levels of access of an exporter to the engine and its data.
const (
	accessAPI      = "api"       // the engine's socket, as a user without any rights
	accessDataRoot = "data root" // also the engine's root directory, as root

	accessContainerd = "containerd" // also its containerd's socket, as root
)

// accesses returns the levels of access that make a difference to a kind of engine. The first is the
// least.
func accesses(kind dockertest.Kind) []string {
	if kind == dockertest.Docker29Containerd {
		return []string{accessAPI, accessContainerd}
	}
	return []string{accessAPI, accessDataRoot}
}

// startWithAccess starts the program with a level of access to an engine.
func startWithAccess(t *testing.T, access string, engine *dockertest.Real, args ...string) *program {
	t.Helper()
	user := ownUser()
	if access == accessAPI {
		var socket syscall.Stat_t
		if err := syscall.Stat(engine.Socket(), &socket); err != nil {
			t.Fatal(err)
		}
		user = unprivileged(socket.Gid)
	}
	return startAs(t, user, append(args, "--docker.host="+engine.Host())...)
}

// An outcome is the result of one prune command, in bytes, for an exporter with a level of access.
type outcome struct {
	access   string
	command  string
	known    bool  // whether there were metrics of the command
	estimate int64 // docker_reclaimable_bytes before the command
	minimum  int64 // docker_reclaimable_min_bytes before the command
	exact    bool  // docker_reclaimable_exact before the command
	freed    int64 // from the disk, without logs that the metrics do not count
	logs     int64 // from the disk, of logs that the metrics do not count
	objects  int64 // folders and files of objects that the command removed from the disk
	reported int64 // by the engine in the response to the command
	systemDF int64 // RECLAIMABLE of "docker system df" before the command, for these resources
	explain  func() string
}

// failure describes what is wrong with the metrics. It returns "" if nothing is. A minimum may be
// above what was freed by the slack. An exact estimate may differ by the slack, and be below by
// the overhead too: what the engine does not count. The estimate itself is not compared.
func (o outcome) failure(slack, overhead int64) string {
	switch difference := o.freed - o.estimate; {
	case !o.known:
		return "got no estimate, want one"
	case o.minimum > o.estimate:
		return "got a minimum above the estimate"
	case o.exact && o.minimum != o.estimate:
		return "got an exact estimate and another minimum"
	case o.minimum > o.freed+slack:
		return fmt.Sprintf("got a minimum that is %d bytes too high", o.minimum-o.freed)
	case o.exact && (difference > slack+overhead || difference < -slack):
		return fmt.Sprintf("got an exact estimate that is %d bytes too low", difference)
	case o.exact && o.logs > slack:
		return fmt.Sprintf("got an exact estimate without the logs, which are %d bytes", o.logs)
	}
	return ""
}

// relevant is the least number of freed bytes for which an error of the estimate is relevant.
const relevant = 10_000_000

// errorOf returns by how much a figure differs from the freed bytes, in percent.
func (o outcome) errorOf(figure int64) float64 {
	return 100 * math.Abs(float64(figure-o.freed)) / max(1, float64(o.freed))
}

// errorBeyondSlack returns by how much the estimate differs from the freed bytes, without the ends of
// blocks and the folders of each object, in percent.
func (o outcome) errorBeyondSlack() float64 {
	return 100 * max(0, math.Abs(float64(o.estimate-o.freed))-float64(slackPerObject*o.objects)) / max(1, float64(o.freed))
}

// summary returns the row of the table for all runs of one command: sums in MB, and errors in
// percent of the runs that freed a relevant number of bytes.
func summary(outcomes []outcome) string {
	var sum outcome
	exact := 0
	var estimates, beyondSlack, printed, systemDF []float64
	for _, o := range outcomes {
		sum.estimate += o.estimate
		sum.minimum += o.minimum
		sum.freed += o.freed
		sum.reported += o.reported
		sum.systemDF += o.systemDF
		if o.exact {
			exact++
		}
		if o.freed >= relevant {
			estimates = append(estimates, o.errorOf(o.estimate))
			beyondSlack = append(beyondSlack, o.errorBeyondSlack())
			printed = append(printed, o.errorOf(o.reported))
			systemDF = append(systemDF, o.errorOf(o.systemDF))
		}
	}
	mb := func(n int64) string { return fmt.Sprintf("%.3f", float64(n)/1e6) }
	cells := []string{fmt.Sprint(len(outcomes)), mb(sum.estimate), mb(sum.minimum), mb(sum.freed), mb(sum.reported), "", fmt.Sprint(exact), "", "", "", "", ""}
	hasSystemDF := systemDFTypes(outcomes[0].command) != nil
	if hasSystemDF {
		cells[5] = mb(sum.systemDF)
	}
	if len(estimates) > 0 {
		cells[7], cells[8], cells[9] = inPercent(median(estimates)), inPercent(slices.Max(estimates)), inPercent(slices.Max(beyondSlack))
		cells[10] = inPercent(median(printed))
		if hasSystemDF {
			cells[11] = inPercent(median(systemDF))
		}
	}
	return strings.Join(cells, " | ")
}

func inPercent(f float64) string { return fmt.Sprintf("%.1f %%", f) }

// median returns the median of one or more values, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
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

// A pruneHost is an engine on which the figures of prune commands are compared with the disk.
type pruneHost struct {
	*randomWalk
	programs []*program              // with each level of access
	diskUse  func() map[string]int64 // bytes on the disk by the path of the object
	cli      string                  // address of the engine for prune commands
	isPlain  bool                    // the sizes of files are bytes on its disk
	mu       sync.Mutex
	reported int64 // bytes in the responses to prune requests
}

// newPruneHost starts the program with each level of access, without limits for its requests to an engine.
func newPruneHost(t *testing.T, engine *dockertest.Real) *pruneHost {
	t.Helper()
	h := &pruneHost{randomWalk: newEmptyWalk(t, engine)}
	h.diskUse = h.contentBytes
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
	for _, access := range accesses(h.Kind) {
		h.programs = append(h.programs, startWithAccess(t, access, h.Real, append(withoutLimits(), allRepositories)...))
	}
	return h
}

// outcome returns what a page says of a prune command before it is run.
func (h *pruneHost) outcome(access, command string, page map[string]float64) outcome {
	series := func(name string) (value float64, known bool) {
		value, known = page[fmt.Sprintf("docker_reclaimable_%s{command=%q}", name, command)]
		return value, known
	}
	estimate, known := series("bytes")
	minimum, hasMinimum := series("min_bytes")
	if !hasMinimum {
		minimum = estimate
	}
	exact, _ := series("exact")
	return outcome{access: access, command: command, known: known, estimate: int64(estimate), minimum: int64(minimum), exact: exact == 1}
}

// measure runs a prune command, and measures what it frees. The engine must have such a command. It
// returns an outcome for each level of access.
func (h *pruneHost) measure(command string) (outcomes []outcome) {
	h.t.Helper()
	pages, systemDF := h.steadyPages(), h.systemDF(command)
	stored := h.stored()
	h.compareImages(pages)
	everything, before := h.everything(), h.settledBytes()
	h.mu.Lock()
	h.reported = 0
	h.mu.Unlock()
	args := append(strings.Fields(command)[1:], "-f")
	if _, err := h.Try(slices.Concat([]string{"-H", h.cli}, args)...); err != nil {
		h.t.Fatal(err)
	}
	after := h.settledBytes()
	everythingAfter := h.everything()
	stored -= h.stored()
	h.mu.Lock()
	reported := h.reported
	h.mu.Unlock()
	for i, access := range accesses(h.Kind) {
		o := h.outcome(access, command, pages[i])
		o.systemDF, o.reported = systemDF, reported
		o.compare(pages[i], maps.Clone(before), maps.Clone(after), everything, everythingAfter)
		if h.mustBeExact(access) && (!o.exact && canBeExact(command, pages[i]) || o.exact && o.estimate != stored) {
			h.t.Errorf("got an estimate %d (exact: %v), want exactly the %d bytes that containerd and volumes have lost: %s", o.estimate, o.exact, stored, o.explain())
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// compareImages checks that all pages have the same figures of images, wherever they are from.
func (h *pruneHost) compareImages(pages []map[string]float64) {
	h.t.Helper()
	isOfImages := func(series string) bool {
		return strings.HasPrefix(series, "docker_image") || strings.HasPrefix(series, "docker_repository_images")
	}
	for _, page := range pages[1:] {
		for series, want := range pages[0] {
			if got, exists := page[series]; isOfImages(series) && (got != want || !exists) {
				h.t.Errorf("%s: got %v (exists: %v) with more access, want %v", series, got, exists, want)
			}
		}
	}
}

// stored returns the bytes of what containerd has, and of volumes and the directories of containers; 0
// without the containerd store.
func (h *pruneHost) stored() (bytes int64) {
	if !h.isPlain || h.Kind != dockertest.Docker29Containerd {
		return 0
	}
	for _, dir := range glob(h.t, h.Dir, "data/volumes/*/_data") {
		bytes += treeBytes(dir, false)
	}
	for _, dir := range glob(h.t, h.Dir, "data/containers/*") {
		bytes += treeBytes(dir, true)
	}
	return bytes + total(storeBytes(h.t, h.Real))
}

// compare takes what the engine's objects had on the disk before and after the command.
func (o *outcome) compare(page map[string]float64, before, after map[string]int64, everythingBefore, everythingAfter string) {
	if _, counted := page[`docker_disk_usage_bytes{resource="container_logs"}`]; !counted {
		o.logs = before[logObject] - after[logObject]
		for _, object := range []string{logObject, directoryObject} {
			delete(before, object)
			delete(after, object)
		}
	}
	o.freed = total(before) - total(after)
	for object := range before {
		if _, exists := after[object]; !exists {
			o.objects++
		}
	}
	text := *o
	o.explain = func() string {
		o := text
		return fmt.Sprintf("%s, %s: estimate %d, minimum %d (exact: %v), freed %d with %d objects, without %d of logs, reported %d\nbefore:\n%s\nmetrics before:\n%s\nafter:\n%s\ndisk changes: %v",
			o.command, o.access, o.estimate, o.minimum, o.exact, o.freed, o.objects, o.logs, o.reported, everythingBefore, selectReclaimable(page), everythingAfter, sizeChanges(before, after))
	}
}

// hasCommand returns whether the engine has a prune command.
func (h *pruneHost) hasCommand(command string) bool {
	return command != "docker volume prune --all" || h.Kind != dockertest.Docker20
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

// steadyPages returns a steady page of the program with each level of access.
func (h *pruneHost) steadyPages() (pages []map[string]float64) {
	h.t.Helper()
	time.Sleep(1500 * time.Millisecond) // for the events to be processed
	for i, p := range h.programs {
		pages = append(pages, h.steadyPage(p, h.mustBeExact(accesses(h.Kind)[i])))
	}
	return pages
}

// canBeExact reports whether what a command frees can be known. Whether BuildKit removes a record of a
// dangling image depends on whether it listed the record before all layers had blobs.
func canBeExact(command string, page map[string]float64) bool {
	return command != "docker system prune" || page["docker_images_dangling"] == 0
}

// mustBeExact reports whether the estimates with an access must be exact.
func (h *pruneHost) mustBeExact(access string) bool {
	return h.isPlain && access == accessContainerd
}

// steadyPage scrapes until all images have been inspected, each command has an estimate, everything
// has been requested again and two pages are equal, and returns the values. On a busy machine the
// engine is slow to respond. What must be exact may take a minute longer: a request that has failed
// is repeated within that time.
func (h *pruneHost) steadyPage(p *program, mustBeExact bool) map[string]float64 {
	h.t.Helper()
	start := time.Now()
	began := float64(start.UnixMilli()) / 1e3
	var before, page map[string]float64
	eventually(h.t, "two equal pages with an estimate for each command", func() bool {
		before, page = page, values(h.t, p.scrape())
		same := before != nil && page["docker_images_uninspected"] == 0
		for _, command := range pruneCommands() {
			_, known := page[fmt.Sprintf("docker_reclaimable_bytes{command=%q}", command)]
			same = same && known == h.hasCommand(command)
			if mustBeExact && known && time.Since(start) < time.Minute && canBeExact(command, page) {
				same = same && page[fmt.Sprintf("docker_reclaimable_exact{command=%q}", command)] == 1
			}
		}
		for _, collector := range []string{"images", "containers", "volumes", "build_cache"} {
			series := func(name string) float64 {
				return page[fmt.Sprintf("docker_scrape_collector_%s{collector=%q}", name, collector)]
			}
			same = same && series("last_success_timestamp_seconds")-series("duration_seconds") > began
		}
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
	var table string
	eventually(h.t, "docker system df", func() (done bool) { // refused while the engine answers the exporter's own request
		var err error
		table, err = h.Try("system", "df", "--format", "{{.Type}}\t{{.Reclaimable}}")
		return err == nil
	})
	for row := range strings.Lines(table) {
		name, text, _ := strings.Cut(strings.TrimSpace(row), "\t")
		text, _, _ = strings.Cut(text, " ")
		if n, err := units.FromHumanSize(text); err == nil && slices.Contains(systemDFTypes(command), name) {
			bytes += n
		}
	}
	return bytes
}

// settledBytes returns diskUse once it has not changed for 600 ms: the engine removes some data
// only after a command has returned.
func (h *pruneHost) settledBytes() map[string]int64 {
	bytes := h.diskUse()
	for steady := 0; steady < 5; {
		time.Sleep(250 * time.Millisecond)
		now := h.diskUse()
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

// directoryObject stands for the directories of all containers, which are counted with the logs.
const directoryObject = "directories"

// contentBytes returns the sizes of the volumes, layers and blobs in the engine's data, by path. It
// counts as the engine does: overlay2 counts the bytes of files; the containerd image store counts
// the blocks of files and folders, and the bytes of blobs. Neither counts the layer with the mount
// points of a container.
func (h *pruneHost) contentBytes() map[string]int64 {
	data, bytes := filepath.Join(h.Dir, "data"), make(map[string]int64)
	for _, dir := range glob(h.t, data, "volumes/*/_data") {
		bytes[dir] = treeBytes(dir, false)
	}
	for _, dir := range glob(h.t, data, "containers/*") {
		bytes[directoryObject] += treeBytes(dir, true)
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
