// Package engine asks a Docker engine what it holds, and the file system under
// it how full it is. It is the only package that knows Docker, and it only ever
// reads: nothing but GET and HEAD requests leave it.
package engine

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/pace"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
	"golang.org/x/sync/singleflight"
)

// A Config says which engine to ask, and how.
type Config struct {
	// Host is the engine's address: unix://PATH, tcp://HOST:PORT or http://HOST:PORT.
	// Empty: DOCKER_HOST, else the local socket, else the rootless one.
	Host string
	TLS  TLS

	// Timeout bounds the questions that are cheap on every engine: ping, info, and
	// a look at a single thing. A list takes what it takes.
	Timeout time.Duration

	// Pace is how much of its time the engine may spend on lists that are not cheap.
	Pace pace.Pace

	// What to ask for beside images and containers. Each can cost the engine a walk
	// through files.
	ContainerSizes, Volumes, BuildCache bool

	// Repositories says that images are to tell in which of them they have names.
	Repositories bool

	// Places are where to measure the file systems under the engine.
	// Empty: wherever that can be found out for certain.
	Places []Place
}

// listTimeout bounds a list, which goes on behind the scrape that asked for it.
const listTimeout = 10 * time.Minute

// The kinds of question that cost the engine something, as their metrics name them.
const (
	kindImages         = "images"
	kindLayers         = "layers"
	kindContainers     = "containers"
	kindContainerSizes = "container_sizes"
	kindVolumes        = "volumes"
	kindBuildCache     = "build_cache"
)

// cheapContainers is below what a list of containers takes that is asked for at every
// scrape. The containerd store pays for each container with a search through all
// images, on more than one core, and events tell of nearly all that becomes of one:
// half a second at each scrape would be too much for what it adds to them.
func cheapContainers(store model.ImageStore) time.Duration {
	if store == model.Containerd {
		return pace.Cheap / 5
	}
	return pace.Cheap
}

const pingEndpoint = "/_ping"

// An Engine is one Docker engine, there or not.
type Engine struct {
	config     Config
	connection *connection
	disk       *disk
	journal    *journal

	images     *list[model.Image]
	layers     *layers
	containers *list[model.Container]

	containerSizes *pace.Question
	sizes          *memory[size]                     // by container ID
	toMeasure      atomic.Pointer[[]model.Container] // by containerSizes

	volumes     *answer[[]model.Volume]   // without sizes
	volumeSizes *answer[map[string]int64] // by name
	untouched   *memory[struct{}]         // volumes since they were measured, by name
	cache       *answer[cacheList]
	cachePrunes atomic.Int32       // that were seen, or may have been missed
	usages      singleflight.Group // of the engine's own account, by what is asked of it

	about    *about
	stops    *memory[time.Time]       // when containers stopped, until they start again
	names    *memory[model.Reference] // from which containers were created
	prunes   *prunes
	hints    *hints
	isUp     atomic.Bool // it answered when last asked
	watching atomic.Bool // it tells its events, now
	listens  atomic.Bool // somebody wants to hear them

	mu sync.Mutex // one inventory at a time
}

// A list is a question for all things of one kind, and what is known of them.
type list[T any] struct {
	*pace.Question
	*picture[T]

	// How far the engine's count and ours were apart at the first comparison after
	// the list that ended then.
	compared time.Time
	apart    int
}

func (l *list[T]) forget() {
	l.Question.Forget()
	l.picture.forget()
}

// New returns the engine that config names. It need not be there yet: an error
// says that config can never work, as with an address that is none or a
// certificate that cannot be read.
func New(config Config, logger *slog.Logger) (*Engine, error) {
	connection, err := newConnection(config.Host, config.TLS)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		config:     config,
		connection: connection,
		disk:       &disk{places: config.Places, local: connection.isLocal()},
		journal:    newJournal(logger, connection.explain),
		about:      &about{},
		layers:     newLayers(config.Pace.Change),
		sizes:      newMemory[size](),
		untouched:  newMemory[struct{}](),
		stops:      newMemory[time.Time](),
		names:      newMemory[model.Reference](),
		prunes:     newPrunes(),
		hints:      newHints(),
	}
	e.containerSizes = pace.NewQuestion(config.Pace, listTimeout, e.measureAll)
	e.volumes = newAnswer(config.Pace, e.listVolumes)
	e.volumeSizes = newAnswer(config.Pace, e.measureVolumes)
	e.cache = newAnswer(config.Pace, e.listCache)
	e.images = &list[model.Image]{
		Question: pace.NewQuestion(config.Pace, listTimeout, e.listImages),
		picture:  newPicture(func(i model.Image) string { return i.ID }),
	}
	e.containers = &list[model.Container]{
		Question: pace.NewQuestion(config.Pace, listTimeout, e.listContainers),
		picture:  newPicture(func(c model.Container) string { return c.ID }),
	}
	return e, nil
}

// Inventory tells what the engine holds, and returns when ctx ends at the latest.
// Every question succeeds or fails alone: what a failed one would have told is
// unknown, and the log says why.
func (e *Engine) Inventory(ctx context.Context) model.Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()

	inv := model.Snapshot{At: time.Now()}
	version, up := e.ping(ctx).Get()
	inv.Up = up
	switch {
	case up && e.negotiate(version):
		e.isUp.Store(true)
		if e.about.isNew() {
			e.askAbout(ctx)
		}
		if info, known := e.about.get().Get(); known {
			inv.Engine = model.Known(describe(info, e.connection.current().ClientVersion()))
			e.disk.learn(info)
		}
		e.ask(ctx, &inv)
	case up || ctx.Err() == nil: // else it was the scrape that would not wait
		e.forget()
	}
	inv.Prunes = e.prunes.list(e.about.lastStore())
	inv.Collectors = e.journal.questions()
	inv.Filesystems, inv.Unmeasured = e.disk.measure(e.journal)
	return inv
}

// ask puts the questions that are due: the lists and what does not depend on them
// first, and then what does.
func (e *Engine) ask(ctx context.Context, inv *model.Snapshot) {
	var wg sync.WaitGroup
	wg.Go(func() { e.containers.Ask(ctx) })
	if e.config.Volumes {
		wg.Go(func() { e.volumes.Ask(ctx) })
	}
	wg.Go(func() {
		e.images.Ask(ctx)
		// The engine's own account comes after the images, so that a cheap one knows of
		// the same.
		if e.config.Volumes {
			wg.Go(func() { e.volumeSizes.Ask(ctx) })
		}
		if e.config.BuildCache {
			e.askCache(ctx)
		}
	})
	wg.Wait()

	cache, cacheKnown := e.cache.get().Get()
	inv.Images = e.images.all()
	then := e.turns()
	records, containersKnown := e.containers.all().Get()
	containers := slices.Clone(records)
	if containersKnown {
		containers = e.whenStopped(ctx, containers)
	}
	if images, known := inv.Images.Get(); known {
		wg.Go(func() { inv.Contents, inv.ListedImages = e.examine(ctx, images, records) })
	}
	if containersKnown && e.config.ContainerSizes {
		wg.Go(func() { e.measure(ctx, containers) })
	}
	wg.Wait()
	if containersKnown {
		inv.Containers = model.Known(containers)
	}
	inv.Volumes = e.volumesOf() // what containers did that have gone meanwhile is heard by now
	if cacheKnown {
		inv.BuildCache = model.Known(cache.records)
		then.prunes = e.turns().prunes
		inv.BuildCacheStale = e.isOutdated(cache, then)
	}
}

// forget makes as if nothing had ever been asked, because the engine is gone, or
// is another one.
func (e *Engine) forget() {
	e.isUp.Store(false)
	e.images.forget()
	e.containers.forget()
	e.about.forget()
	e.stops.forgetAll()
	e.hints.forget()
	e.endQuestions()
	e.sizes.forgetAll()
	e.journal.unasked()
}

// endQuestions ends those that are under way, and waits for that.
func (e *Engine) endQuestions() {
	e.images.Forget()
	e.containers.Forget()
	e.containerSizes.Forget()
	e.volumes.forget()
	e.volumeSizes.forget()
	e.untouched.forgetAll()
	e.cache.forget()
	e.layers.stop()
}

// ping returns the newest version of the API that the engine speaks.
func (e *Engine) ping(ctx context.Context) model.Optional[string] {
	ctx, cancel := context.WithTimeout(ctx, e.config.Timeout)
	defer cancel()
	return ask(e.journal, question{act: "reach the engine", endpoint: pingEndpoint}, func() (string, error) {
		return e.connection.ping(ctx)
	})
}

// negotiate agrees with the engine on a version of the API. Another version than
// before is another engine, of which nothing is known.
func (e *Engine) negotiate(version string) (agreed bool) {
	changed, agreed := ask(e.journal, question{act: "agree on a version of the API", endpoint: pingEndpoint}, func() (bool, error) {
		return e.connection.speak(version)
	}).Get()
	if changed {
		e.forget()
	}
	return agreed
}

func (e *Engine) listImages(ctx context.Context) error {
	api := e.connection.current()
	// What images share, and how much of them is unpacked, is only needed with the
	// containerd store, which works it out anyway.
	isContainerd := e.about.lastStore() == model.Known(model.Containerd)
	options := image.ListOptions{All: true, SharedSize: isContainerd, Manifests: isContainerd && versions.GreaterThanOrEqualTo(api.ClientVersion(), "1.47")}
	return fill(e, e.images, question{kind: kindImages, act: "list images", endpoint: "/images/json"},
		func() ([]image.Summary, error) { return api.ImageList(ctx, options) },
		func(record image.Summary) bool { return record.ID != "" },
		func(records []image.Summary) []model.Image {
			images := translateImages(records, imageStore(e.about.get(), records, api.ClientVersion()))
			for i, record := range records {
				images[i].Repositories = e.repositories(record.RepoTags, record.RepoDigests)
			}
			return images
		})
}

// repositories are those that an image has names in, if that is asked for: to parse a
// name takes some microseconds.
func (e *Engine) repositories(tags, digests []string) []string {
	if !e.config.Repositories {
		return nil
	}
	return repositoriesOf(slices.Concat(tags, digests))
}

func (e *Engine) listContainers(ctx context.Context) error {
	api := e.connection.current()
	return fill(e, e.containers, question{kind: kindContainers, act: "list containers", endpoint: "/containers/json"},
		func() ([]container.Summary, error) { return api.ContainerList(ctx, container.ListOptions{All: true}) },
		func(record container.Summary) bool { return record.ID != "" && record.State != "" },
		translateContainers)
}

// fill asks for a list and makes it what is known, or nothing if it fails.
func fill[R, T any](e *Engine, l *list[T], q question, get func() ([]R, error), isComplete func(R) bool, translate func([]R) []T) error {
	l.begin()
	records, known := ask(e.journal, q, func() ([]R, error) {
		records, err := get()
		if err == nil && !slices.ContainsFunc(records, func(record R) bool { return !isComplete(record) }) {
			return records, nil
		}
		return nil, cmp.Or(err, errIncomplete)
	}).Get()
	if !known {
		l.picture.forget()
		return errUnanswered
	}
	l.end(model.Known(translate(records)))
	return nil
}

// About is what the engine says of itself. It is asked when an engine is new to us
// and then from time to time, behind the scrapes.
type about struct {
	mu    sync.Mutex
	asked bool
	info  model.Optional[system.Info]
	store model.Optional[model.ImageStore] // kept when the engine goes away
}

// askAbout asks the engine about itself. One that says that it is another one than
// before has nothing of what is known.
func (e *Engine) askAbout(ctx context.Context) model.Optional[system.Info] {
	ctx, cancel := context.WithTimeout(ctx, e.config.Timeout)
	defer cancel()
	answer := ask(e.journal, question{act: "ask about the engine", endpoint: "/info"}, func() (system.Info, error) {
		return e.connection.current().Info(ctx)
	})
	before := e.about.get()
	if was, known := before.Get(); known {
		if is, known := answer.Get(); known && isAnother(was, is) {
			e.forget()
		}
	}
	e.about.set(answer)
	if info, known := answer.Get(); known {
		if _, known := before.Get(); !known { // a list was read without knowing of which store
			e.images.Change()
		}
		e.containers.CallCheap(cheapContainers(storeOf(info)))
	}
	return answer
}

func isAnother(was, is system.Info) bool {
	return was.ServerVersion != is.ServerVersion || was.DockerRootDir != is.DockerRootDir || storeOf(was) != storeOf(is)
}

func (a *about) set(info model.Optional[system.Info]) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked, a.info = true, info
	if info, known := info.Get(); known {
		a.store = model.Known(storeOf(info))
	}
}

// get returns what the engine has said of itself, if it is still there.
func (a *about) get() model.Optional[system.Info] {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.info
}

// isNew tells whether the engine was not yet asked.
func (a *about) isNew() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.asked
}

// lastStore is the engine's image store, or that of the last engine there was.
func (a *about) lastStore() model.Optional[model.ImageStore] {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.store
}

func (a *about) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked, a.info = false, model.Optional[system.Info]{}
}
