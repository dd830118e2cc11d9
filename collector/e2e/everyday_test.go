package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// What a layer or another object may occupy on the disk, in bytes, beside what the engine counts.
const (
	slackPerObject    = 24 << 10 // rounding, and what is removed late
	overheadPerObject = 48 << 10 // folders, the ends of blocks, and the engine's own files about it
)

// testEverydayHost runs each prune command on an everyday host, with a day of work before each.
func testEverydayHost(t *testing.T, kind dockertest.Kind, i int) (outcomes []outcome) {
	h := newEverydayHost(t, kind)
	for range 3 {
		h.day()
	}
	commands := len(pruneCommands())
	if os.Getenv("DOCKER_BUILDUP_HOSTS") == "" {
		commands = 6
	}
	for _, n := range h.random.Perm(len(pruneCommands()))[:commands] {
		command := pruneCommands()[n]
		if strings.Contains(command, "until") {
			h.age()
		}
		if h.hasCommand(command) {
			outcomes = append(outcomes, h.prune(command)...)
			h.day()
		}
	}
	return outcomes
}

// An everydayHost is an engine as teams use it: a few services are built with BuildKit, in stages
// and from contexts that change, and released again and again. The newest release runs, the one
// before is stopped, jobs have finished, and volumes and caches have grown.
type everydayHost struct {
	*pruneHost
	projects []*project
}

// A project is a folder of sources, from which an image is built.
type project struct {
	name       string
	dockerfile string
	isService  bool // is released and runs; otherwise each build moves the tag "ci"
	release    int
}

// newEverydayHost starts an engine, and writes the sources of its projects.
func newEverydayHost(t *testing.T, kind dockertest.Kind) *everydayHost {
	t.Helper()
	h := &everydayHost{pruneHost: newPruneHost(t, dockertest.Start(t, kind))}
	h.diskUse, h.isPlain = h.blockBytes, true
	base := baseLayer(t, h.bytes(h.size(15, 40)))
	h.source("base", "base.tar", imageArchive(t, "base:1", time.Now().AddDate(0, -3, 0), true, base))
	for i, days := range []int{2, 20, 200} { // tools that were pulled once
		tool := tarArchive(t, tarFile{tar.Header{Name: "tool"}, h.bytes(h.size(5, 20))})
		name := fmt.Sprintf("tool%d:1", i)
		h.source("base", "tool.tar", imageArchive(t, name, time.Now().AddDate(0, 0, -days), true, base, tool))
		h.Docker("load", "-q", "-i", filepath.Join(h.Dir, "base/tool.tar"))
	}
	for _, image := range []string{"python", "node"} {
		h.source(image, "Dockerfile", []byte("FROM base:1\nRUN "+writes("/usr/"+image, h.size(5, 15))+"\nENV RUNTIME="+image+"\n"))
	}
	for i := range 3 + h.random.IntN(3) {
		p := &project{name: fmt.Sprint("project", i), isService: h.random.IntN(4) > 0}
		p.dockerfile = h.dockerfileOf()
		h.projects = append(h.projects, p)
		h.source(p.name, "requirements", []byte("1"))
		h.source(p.name, "assets/images", h.bytes(h.size(1, 5)))
	}
	return h
}

// dockerfileOf returns a random Dockerfile of a project.
func (h *everydayHost) dockerfileOf() string {
	from := h.oneOf([]string{"python:1", "node:1"})
	install := fmt.Sprintf("RUN --mount=type=cache,target=/cache mkdir /deps && %s && %s", writes("/cache/$(cat /requirements)", h.size(1, 6)), writes("/deps/lib", h.size(3, 10)))
	compile := fmt.Sprintf("RUN cp -r /src /site && %s", writes("/site/bundle", h.size(1, 5)))
	return []string{
		// in stages: installed requirements and a compiled site
		fmt.Sprintf("FROM %s AS deps\nCOPY requirements /\n%s\nFROM %s AS build\nCOPY --from=deps /deps /deps\nCOPY . /src\n%s\nFROM %s\nCOPY --from=deps /deps /deps\nCOPY --from=build /site /site\nCOPY app /app\n",
			from, install, from, compile, from),
		// in one stage
		fmt.Sprintf("FROM %s\nWORKDIR /srv\nCOPY requirements /\n%s\nCOPY . .\n", from, install),
		// sources are mounted, and the program is copied to an empty image with a shell
		fmt.Sprintf("FROM %s AS build\nRUN --mount=type=bind,target=/src mkdir /out && cp /src/app /out && %s\nFROM base:1\nCOPY --from=build /out /\nCOPY assets /assets\n",
			from, writes("/out/binary", h.size(2, 10))),
	}[h.random.IntN(3)] + "ENV LANG=C\nCMD [\"sleep\", \"1000000\"]\n"
}

// writes returns a shell command that writes random data.
func writes(path string, bytes int) string {
	return fmt.Sprintf("dd if=/dev/urandom of=%s bs=64k count=%d 2>/dev/null", path, bytes>>16)
}

// size returns a random number of bytes between two numbers of MB.
func (h *pruneHost) size(from, to int) int {
	return 1_000_000*from + h.random.IntN(1_000_000*(to-from))
}

// bytes returns random bytes.
func (h *pruneHost) bytes(n int) []byte {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(h.random.Uint32())
	}
	content := make([]byte, n)
	rand.NewChaCha8(seed).Read(content)
	return content
}

// source writes a file below a folder of sources.
func (h *pruneHost) source(project, name string, content []byte) {
	path := filepath.Join(h.Dir, project, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// baseLayer returns a layer with a shell and a file.
func baseLayer(t *testing.T, file []byte) []byte {
	t.Helper()
	busybox, err := os.ReadFile(dockertest.Need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	files := []tarFile{{Header: tar.Header{Name: "bin/busybox"}, content: busybox}, {Header: tar.Header{Name: "usr/lib/base"}, content: file}}
	for _, name := range strings.Fields("sh dd cp cat mkdir sleep yes head truncate") {
		files = append(files, tarFile{Header: tar.Header{Name: "bin/" + name, Linkname: "busybox", Typeflag: tar.TypeSymlink}})
	}
	return tarArchive(t, files...)
}

type tarFile struct {
	tar.Header
	content []byte
}

// tarArchive returns an archive of executable files.
func tarArchive(t *testing.T, files ...tarFile) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, file := range files {
		file.Size, file.Mode = int64(len(file.content)), 0o755
		if err := w.WriteHeader(&file.Header); err != nil {
			t.Fatal(err)
		}
		w.Write(file.content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// imageArchive returns an image for "docker load", which was built at a time, with or without a history.
func imageArchive(t *testing.T, tag string, created time.Time, hasHistory bool, layers ...[]byte) []byte {
	t.Helper()
	var config struct {
		Architecture string    `json:"architecture"`
		OS           string    `json:"os"`
		Created      time.Time `json:"created"`
		RootFS       struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
		History []map[string]string `json:"history,omitempty"`
	}
	config.Architecture, config.OS, config.Created, config.RootFS.Type = runtime.GOARCH, "linux", created, "layers"
	var files []tarFile
	manifest := []map[string]any{{"Config": "config.json", "RepoTags": []string{tag}}}
	var names []string
	for i, layer := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(layer)))
		if hasHistory {
			config.History = append(config.History, map[string]string{"created_by": fmt.Sprint("step ", i)})
		}
		names = append(names, fmt.Sprintf("%d.tar", i))
		files = append(files, tarFile{tar.Header{Name: names[i]}, layer})
	}
	manifest[0]["Layers"] = names
	for name, value := range map[string]any{"config.json": config, "manifest.json": manifest} {
		content, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, tarFile{tar.Header{Name: name}, content})
	}
	return tarArchive(t, files...)
}

// needImages makes the base image and the runtimes if they are missing, as a pull would.
func (h *everydayHost) needImages() {
	if _, err := h.Try("image", "inspect", "base:1"); err != nil {
		h.Docker("load", "-q", "-i", filepath.Join(h.Dir, "base/base.tar"))
	}
	for _, runtime := range []string{"python", "node"} {
		if _, err := h.Try("image", "inspect", runtime+":1"); err != nil {
			h.BuildKitIn(filepath.Join(h.Dir, runtime), "--network=none", "-t", runtime+":1")
		}
	}
}

// day is a day of work: most projects are built again, and a job runs.
func (h *everydayHost) day() {
	h.needImages()
	for _, p := range h.projects {
		if p.release > 0 && h.random.IntN(2) == 0 {
			continue
		}
		p.release++
		h.build(p)
		if p.isService {
			h.deploy(p)
		}
	}
	h.job()
}

// build changes the sources of a project, and builds the image.
func (h *everydayHost) build(p *project) {
	h.source(p.name, "app", h.bytes(h.size(1, 5)))
	h.source(p.name, "src/code", h.bytes(h.size(0, 3)))
	if h.random.IntN(3) == 0 {
		h.source(p.name, "requirements", fmt.Append(nil, p.release))
	}
	h.source(p.name, "Dockerfile", []byte(strings.Replace(p.dockerfile, "LANG=C", fmt.Sprint("RELEASE=", p.release), 1)))
	h.BuildKitIn(filepath.Join(h.Dir, p.name), "--network=none", "-t", p.tag())
}

// tag returns the name of the newest image of a project.
func (p *project) tag() string {
	if p.isService {
		return fmt.Sprintf("%s:%d", p.name, p.release)
	}
	return p.name + ":ci"
}

// deploy starts the newest release of a service, stops the one before, and removes the one before that.
func (h *everydayHost) deploy(p *project) {
	container := func(release int) string { return fmt.Sprintf("%s-%d", p.name, release) }
	h.Docker("run", "-d", "--restart=unless-stopped", "--network=none", "--name="+container(p.release), "-v", p.name+":/data", p.tag(),
		"sh", "-c", fmt.Sprintf("%s; %s; yes 'GET / 200' | head -n %d; sleep 1000000", writes("/tmp-cache", h.size(1, 4)), writes("/data/"+fmt.Sprint(p.release), h.size(1, 4)), h.random.IntN(40_000)))
	h.Try("stop", "-t", "0", container(p.release-1))
	if h.random.IntN(4) > 0 {
		h.Try("rm", container(p.release-2))
	}
}

// job runs a container until it exits, with volumes that it leaves behind.
func (h *everydayHost) job() {
	p := h.projects[h.random.IntN(len(h.projects))]
	if _, err := h.Try("image", "inspect", p.tag()); err != nil {
		return // pruned
	}
	h.count++
	name := fmt.Sprint("job", h.count)
	h.Docker("run", "--network=none", "--name="+name, "-v", name+":/named", "-v", "/anonymous", p.tag(),
		"sh", "-c", strings.Join([]string{writes("/report", h.size(2, 12)), writes("/named/file", h.size(5, 15)), writes("/anonymous/file", h.size(5, 15)), fmt.Sprintf("yes done | head -n %d", h.random.IntN(40_000))}, "; "))
	if h.random.IntN(2) == 0 {
		h.Docker("rm", name)
	}
}

// age makes about half of the containers and of the build cache a month old, and restarts the engine.
func (h *everydayHost) age() {
	h.Signal(syscall.SIGTERM)
	h.Wait()
	aMonthAgo := time.Now().AddDate(0, -1, 0)
	for _, path := range glob(h.t, h.Dir, "data/containers/*/config.v2.json") {
		h.edit(path, `"Created":"[^"]*"`, fmt.Sprintf(`"Created":%q`, aMonthAgo.Format(time.RFC3339Nano)))
	}
	// A value of the same length needs no other change in a bbolt file.
	metadata := append(glob(h.t, h.Dir, "data/buildkit/metadata_v2.db"), glob(h.t, h.Dir, "data/buildkit/*/metadata_v2.db")...)
	h.edit(metadata[0], `cache\.lastUsedAt\{"value":[0-9]{19}`, fmt.Sprintf(`cache.lastUsedAt{"value":%d`, aMonthAgo.UnixNano()))
	h.Start()
}

// edit replaces about half of the matches of a pattern in a file.
func (h *everydayHost) edit(path, pattern, replacement string) {
	content, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	found := false
	content = regexp.MustCompile(pattern).ReplaceAllFunc(content, func(match []byte) []byte {
		found = true
		if h.random.IntN(2) == 0 {
			return match
		}
		return []byte(replacement)
	})
	if !found {
		h.t.Fatalf("%s: got no %q, want some", path, pattern)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// prune runs a prune command, and compares the freed bytes with the metrics.
func (h *everydayHost) prune(command string) (outcomes []outcome) {
	h.t.Helper()
	outcomes = h.measure(command)
	for _, o := range outcomes {
		h.check(o)
	}
	return outcomes
}

// check compares the freed bytes of a prune command with the metrics.
func (h *everydayHost) check(o outcome) {
	h.t.Helper()
	h.t.Logf("%s, %s: estimate %d (exact: %v), minimum %d, freed %d with %d objects, without %d of logs, printed %d, docker system df %d",
		o.command, o.access, o.estimate, o.exact, o.minimum, o.freed, o.objects, o.logs, o.reported, o.systemDF)
	if failure := o.failure(slackPerObject*(o.objects+4), overheadPerObject*o.objects); failure != "" {
		h.t.Errorf("%s: %s", failure, o.explain())
	}
	if o.freed >= relevant && o.errorOf(o.estimate) > 50 { // one command of one host: the table shows what is usual
		h.t.Errorf("got an estimate that differs by %.0f %%: %s", o.errorOf(o.estimate), o.explain())
	}
}

// blockBytes returns the bytes that the objects of the engine occupy on the disk, by path: layers,
// snapshots, blobs, volumes, containers, all logs as one, and everything else as one, without
// databases, which do not shrink.
func (h *everydayHost) blockBytes() map[string]int64 {
	data, bytes := filepath.Join(h.Dir, "data"), make(map[string]int64)
	var root syscall.Stat_t
	if err := syscall.Stat(data, &root); err != nil {
		h.t.Fatal(err)
	}
	seen := make(map[uint64]bool)
	filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was removed
		}
		var stat syscall.Stat_t
		if syscall.Lstat(path, &stat) != nil || seen[stat.Ino] {
			return nil
		}
		if stat.Dev != root.Dev {
			return fs.SkipDir // a mount: the file system of a running container
		}
		seen[stat.Ino] = true
		relative, _ := filepath.Rel(data, path)
		if !strings.HasSuffix(path, ".db") {
			bytes[objectOf(relative)] += stat.Blocks * 512
		}
		return nil
	})
	return bytes
}

// logObject stands for all logs.
const logObject = "logs"

// objectOf returns the path of the object that a path in the engine's data belongs to.
func objectOf(path string) string {
	const containerd = "containerd/daemon/io.containerd."
	parents := []string{
		"overlay2/", "vfs/dir/", "btrfs/subvolumes/", "fuse-overlayfs/", "volumes/", "containers/", "image/overlay2/layerdb/sha256/",
		containerd + "snapshotter.v1.overlayfs/snapshots/", containerd + "snapshotter.v1.native/snapshots/", containerd + "content.v1.content/blobs/sha256/",
	}
	i := slices.IndexFunc(parents, func(parent string) bool { return strings.HasPrefix(path, parent) })
	if i < 0 {
		return "other"
	}
	name, file, _ := strings.Cut(path[len(parents[i]):], "/")
	if parents[i] == "containers/" && (strings.Contains(file, ".log") || strings.HasPrefix(file, "local-logs")) {
		return logObject
	}
	return parents[i] + name
}
