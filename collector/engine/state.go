package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"docker_buildup_exporter/collector/containerd"
	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
)

// kind is one kind of request. In an epoch there is never more than one of a kind in flight.
type kind string

const (
	ping           kind = "ping"
	info           kind = "info"
	images         kind = "images"
	storeRetries   kind = "containerd" // after a failure; else it is read for images
	containers     kind = "containers"
	volumes        kind = "volumes"
	volumeSizes    kind = "volume sizes"
	buildCache     kind = "build cache"
	diskUsage      kind = "disk usage" // volume sizes and build cache before API 1.42
	contents       kind = "contents"   // of images, one by one
	details        kind = "details"    // of containers, one by one
	containerSizes kind = "container sizes"
	sizeRetries    kind = "container size retries"
	containerLogs  kind = "container logs"
	leftovers      kind = "leftovers"
	changes        kind = "changes"     // objects that events have named, one by one
	layerStore     kind = "layer store" // on the disk
	filesystems    kind = "file systems"
	events         kind = "events"
)

// kinds returns all kinds in the order in which they are started: dependencies first, because
// a request waits for those in flight.
func kinds() []kind {
	return []kind{filesystems, ping, info, containers, images, storeRetries, volumes, volumeSizes, buildCache, diskUsage, details, contents, containerSizes, sizeRetries, containerLogs, leftovers, layerStore, changes, events}
}

// task is a request to be made.
type task struct {
	kind    kind
	epoch   int
	version int           // of the state when the request is sent
	timeout time.Duration // of the request, or of each of several
	api     *docker.API

	store      model.ImageStore         // for images and changes; "": unknown
	images     []model.Image            // for contents; for images: the list before
	count      int                      // for images: how many the engine counts
	containers []model.Container        // for containerSizes, sizeRetries, containerLogs and leftovers
	timeouts   map[string]time.Duration // for containerSizes and sizeRetries, by ID
	changed    []objectKey              // for changes
	roots      host.Roots               // for filesystems, containerLogs and leftovers
	asOf       cacheVersion             // for buildCache and diskUsage
	objects    objectsVersion           // for layerStore
	since      string                   // for events

	ids []string // for details; for containers: those to inspect instead of a list; nil: none

	// For images and storeRetries, if containerd is to be read: storeTimeout is not 0. For sizes of
	// containers, if containerd measures them: containerd has a snapshotter.
	storeTimeout time.Duration
	containerd   containerd.Engine
	used         map[string]time.Time // when records of the build cache were last used, by ID
	generation   int                  // of the containers, or -1 if they are unknown
}

// objectKey names an image or a container.
type objectKey struct {
	kind kind // images or containers
	id   string
}

// result is what a request has returned. A request for several objects returns one result
// for each, as part, and a last one.
type result struct {
	task  task
	part  bool
	value any
	err   error
	took  time.Duration
	store storeAnswer // of images
}

// state is what is known of the engine. One goroutine owns it. Its methods do no I/O and do
// not wait; time is an argument.
type state struct {
	config   Config
	epoch    int // grows when nothing that is known holds any more
	version  int // grows with each event and each request: a logical clock
	revision int // grows with each result that may change what is known

	schedules map[kind]*schedule
	health    *health
	waiting   []request
	unserved  request // the last one whose time was over

	up            bool
	engineVersion string      // of the API, as the engine reports it
	api           *docker.API // nil: none can be used
	info          model.Optional[docker.Info]
	isPodman      bool       // survives a reset
	roots         host.Roots // of the last engine: survive a reset

	images   *objects[model.Image]
	contents contentCache // survives a reset
	store    store

	containers  *objects[model.Container]
	details     map[string]*detail // by container ID
	detailed    detailedList
	denied      map[string]int // containers that are listed and said not to exist, by the version of the list
	discardedAt time.Time      // when the stop times of all were
	logs        model.Optional[int64]
	leftovers   model.Optional[model.LeftoverSizes]
	isClosed    map[string]bool // the log says that what a message is about cannot be read

	usage   usage
	changed changeQueue
	stream  stream
	prunes  pruneCounts

	filesystems host.Usage
	freeSpace   freeSpace
	layers      layers
}

func newState(config Config) *state {
	s := &state{
		config:    config,
		schedules: make(map[kind]*schedule),
		health:    newHealth(),
		contents:  newContentCache(),
		isClosed:  make(map[string]bool),
		prunes:    newPruneCounts(),
		freeSpace: make(freeSpace),
	}
	for _, k := range kinds() {
		s.schedules[k] = &schedule{}
	}
	s.reset()
	s.version = 1
	return s
}

// reset clears what holds for one run of one engine. It is called when the engine is
// unreachable or was replaced by another one. Contents of images, prunes, file systems, the
// time of the last event and the last successes survive, and so do waiting snapshots.
func (s *state) reset() {
	s.epoch++
	s.revision++
	for k := range s.schedules {
		if k != ping && k != filesystems {
			s.schedules[k] = &schedule{}
		}
	}
	s.health.reset()
	s.info = model.Optional[docker.Info]{}
	s.api, s.engineVersion = nil, ""
	s.images = newObjects(func(i model.Image) string { return i.ID })
	s.containers = newObjects(func(c model.Container) string { return c.ID })
	s.details = make(map[string]*detail)
	s.denied = make(map[string]int)
	s.logs, s.leftovers = model.Optional[int64]{}, model.Optional[model.LeftoverSizes]{}
	s.store = store{}
	s.contents.clearFailures()
	s.usage = usage{changedVolumes: make(map[string]int)}
	s.changed = changeQueue{}
	s.unserved = request{}
	s.layers = layers{}
	s.stream = stream{backoff: s.stream.backoff, since: s.stream.since}
}

// pingAnswer is the value of a successful ping.
type pingAnswer struct {
	version string // of the API
	api     *docker.API
	err     error // there is no API version that both sides support
}

func (s *state) merge(r result, now time.Time) {
	if r.task.epoch != s.epoch && r.task.kind != filesystems && r.task.kind != ping {
		return // of an engine that is gone
	}
	if !r.part {
		s.schedules[r.task.kind].end(now, r.took, r.err != nil, errors.Is(r.err, context.DeadlineExceeded))
	}
	switch r.task.kind {
	case ping:
		s.mergePing(r, now)
	case info:
		s.mergeInfo(r, now)
	case images:
		s.mergeImages(r, now)
	case storeRetries:
		s.mergeStoreRetry(r, now)
	case containers:
		s.mergeContainers(r, now)
	case volumes, volumeSizes, buildCache, diskUsage:
		s.mergeUsage(r, now)
	case contents:
		s.mergeContents(r, now)
	case details:
		s.mergeDetails(r, now)
	case containerSizes, sizeRetries:
		s.mergeContainerSizes(r, now)
	case containerLogs:
		s.mergeLogs(r, now)
	case leftovers:
		s.mergeLeftovers(r, now)
	case changes:
		s.mergeChanges(r, now)
	case layerStore:
		s.mergeLayerStore(r, now)
	case filesystems:
		s.mergeFilesystems(r, now)
	case events:
		s.mergeEvents(r, now)
	}
	if r.task.kind != ping && r.task.kind != filesystems {
		s.revision++
	}
}

func (s *state) mergePing(r result, now time.Time) {
	s.health.record("", "reach the engine", r.err)
	if r.err != nil {
		s.up = false
		s.reset()
		s.delayStream(now)
		return
	}
	if !s.up { // events are watched at once
		s.stream.backoff, s.stream.retryAt = 0, s.schedules[ping].started
	}
	s.up = true
	answer := r.value.(pingAnswer)
	s.health.record("", "negotiate the API version", answer.err)
	isOther := answer.api != nil && answer.api.IsPodman() != s.isPodman
	if s.engineVersion != "" && (s.engineVersion != answer.version || isOther) {
		s.reset()
	}
	s.engineVersion, s.api = answer.version, answer.api
	if isOther {
		s.isPodman = !s.isPodman
		if s.isPodman {
			s.health.note("the engine is Podman: reclaimable bytes and prunes are not reported")
		}
	}
}

func (s *state) mergeInfo(r result, now time.Time) {
	s.health.record("", "get engine info", r.err)
	s.checkStream(now)
	if r.err != nil {
		return
	}
	answer := r.value.(docker.Info)
	before, wasKnown := s.info.Get()
	if wasKnown && isAnotherEngine(before, answer) {
		version, api, sched := s.engineVersion, s.api, s.schedules[info]
		s.reset()
		s.engineVersion, s.api, s.schedules[info] = version, api, sched
	}
	if !wasKnown && s.schedules[images].known {
		s.schedules[images].stale = true // what a digest reference means was not known
	}
	s.info = model.Known(answer)
	s.setRoots(host.Roots{
		Docker:            answer.RootDir,
		ContainerdAddress: answer.ContainerdAddress,
		ImageStore:        answer.ImageStore,
		StorageDriver:     answer.StorageDriver,
		BackingFilesystem: answer.BackingFilesystem,
		KernelVersion:     answer.KernelVersion,
		Hostname:          answer.Hostname,
	})
	s.checkCounts(answer, now)
}

// setRoots takes where the engine's data is. If that is news, the file systems are measured
// again for the snapshots that are waited for.
func (s *state) setRoots(roots host.Roots) {
	if sched := s.schedules[filesystems]; roots != s.roots && !sched.inFlight {
		sched.again()
	}
	s.roots = roots
}

func isAnotherEngine(before, now docker.Info) bool {
	return before.Version != now.Version || before.RootDir != now.RootDir || before.ImageStore != now.ImageStore
}

// checkCounts compares the engine's counts with the known objects: some changes have no
// event, like a BuildKit build on Engine 20.10 or changes in containerd itself. Without
// events it also discards when containers stopped, because they may have run again.
func (s *state) checkCounts(answer docker.Info, now time.Time) {
	if s.config.Events && !s.stream.connected && now.Sub(s.discardedAt) >= resyncInterval {
		s.discardedAt = now
		for _, d := range s.details {
			d.stoppedAt = model.Optional[time.Time]{}
		}
	}
	if len(s.changed.pending) > 0 {
		return
	}
	if !s.schedules[images].inFlight && s.images.hasDrifted(answer.Images) {
		s.schedules[images].stale = true
	}
	if !s.schedules[containers].inFlight && s.containers.hasDrifted(answer.Containers) {
		s.schedules[containers].stale = true
	}
}

func (s *state) mergeFilesystems(r result, now time.Time) {
	if r.task.roots != s.roots { // they have become known since
		s.schedules[filesystems].again()
		return
	}
	usage, _ := r.value.(host.Usage)
	before := s.filesystems.Failures
	s.filesystems = usage
	s.freeSpace.add(usage.Filesystems, now)
	var failure error
	for path := range before {
		if usage.Failures[path] == nil {
			s.health.record("filesystems", measureFilesystem(path), nil)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(usage.Failures)) {
		failure = usage.Failures[path]
		s.health.record("filesystems", measureFilesystem(path), failure)
	}
	if failure != nil || len(usage.Filesystems) > 0 { // else there is nothing to measure here
		s.health.measure("filesystems", failure, r.took, now)
	}
}

// recordRead records a request that reads containerd or the engine's root directory. Without
// access, what never could be read is left out. That is worth one line, for the root directory as
// for all that is in it, and none each time that the program runs once, perhaps as a cron job.
func (s *state) recordRead(collector, operation string, r result, now time.Time) {
	if !s.health.isLeftOut(collector, operation, r.err) {
		s.health.measure(collector, r.err, r.took, now)
		s.health.record(collector, operation, r.err)
		return
	}
	message := "the engine's root directory cannot be read"
	if collector == "containerd" {
		message = "cannot " + operation
	}
	if s.config.Events && !s.isClosed[message] {
		s.isClosed[message] = true
		failure := model.AsFailure(r.err)
		s.health.note(message, "err", model.Line(failure.Reason), "hint", model.Line(failure.Hint))
	}
}

func (s *state) mergeLeftovers(r result, now time.Time) {
	s.recordRead("leftovers", "find leftovers", r, now)
	answer, _ := r.value.(host.Leftovers)
	s.leftovers = model.Of(answer.LeftoverSizes, r.err)
	if r.err == nil {
		s.health.record("leftovers", "read leftovers", answer.Err)
	}
}

func measureFilesystem(path string) string { return "measure the file system " + path }

// snapshot returns what is known.
func (s *state) snapshot(now time.Time) model.Snapshot {
	snapshot := model.Snapshot{
		At: now, Up: s.up,
		Collectors:  s.health.report(),
		Filesystems: s.filesystems.Filesystems,
		Unmeasured:  slices.Sorted(maps.Keys(s.filesystems.Failures)),
		FreeSpace:   maps.Clone(s.freeSpace),
		Problems:    s.health.problems(),
	}
	if !s.isPodman {
		snapshot.Prunes = s.prunes.report(s.roots.ImageStore)
	}
	if s.api == nil {
		return snapshot
	}
	for _, k := range []kind{images, containers, volumes, volumeSizes, buildCache, diskUsage, containerSizes, containerLogs, leftovers} {
		if first := s.schedules[k]; first.inFlight && first.ended.IsZero() {
			snapshot.Pending = append(snapshot.Pending, string(k))
		}
	}
	if info, known := s.info.Get(); known {
		snapshot.Engine = model.Known(info.Engine)
	}
	if list, known := s.images.all(); known {
		snapshot.Images = model.Known(list)
		snapshot.ContentsVersion = s.contents.version
		snapshot.Contents, snapshot.FailedImages = s.contents.all(), s.contents.failed()
		if s.roots.ImageStore == model.Containerd {
			snapshot.ListedImages = s.images.list
		}
		if s.store.content != nil {
			snapshot.Store, snapshot.StoreStale = model.Known(s.store.content.ContentStore), s.isStoreStale()
		}
	}
	if list, known := s.detailedContainers(); known {
		snapshot.Containers = model.Known(list)
	}
	snapshot.ContainerLogs, snapshot.Leftovers, snapshot.EngineStarted = s.logs, s.leftovers, s.filesystems.EngineStarted
	s.fillUsage(&snapshot)
	if s.layers.objects == s.objectsVersion() {
		snapshot.LayerStore = s.layers.store
	}
	return snapshot
}

// fastLimit returns the duration below which a request is repeated for every snapshot.
func (s *state) fastLimit(k kind) time.Duration {
	if k == leftovers { // they change rarely
		return 0
	}
	if k == containers && s.roots.ImageStore == model.Containerd || k == images && s.store.content != nil {
		return fastContainerList
	}
	return fastRequest
}

// firstFailure returns the failure of the object with the smallest ID, and names it, or nil. Failures of
// several objects are of one kind if their causes are.
func firstFailure[T any](what string, objects map[string]T, attemptsOf func(T) attempts) error {
	first, err := "", error(nil)
	for id, object := range objects {
		if failure := attemptsOf(object).err; failure != nil && (err == nil || id < first) {
			first, err = id, failure
		}
	}
	if err == nil {
		return nil
	}
	named := *model.AsFailure(err)
	named.Kind = cmp.Or(named.Kind, named.Reason)
	named.Reason = fmt.Sprintf("%s %s: %s", what, first, named.Reason)
	return &named
}
