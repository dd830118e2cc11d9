// Package engine asks a Docker engine what it holds, and the file system under
// it how full it is. It is the only package that knows Docker, and it only ever
// reads: nothing but GET and HEAD requests leave it.
package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"docker_buildup_exporter/collector/inventory"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// A Config says which engine to ask, and how.
type Config struct {
	// Host is the engine's address: unix://PATH, tcp://HOST:PORT or http://HOST:PORT.
	// Empty: DOCKER_HOST, else the local socket, else the rootless one.
	Host string
	TLS  TLS

	// Timeout bounds the questions that are cheap on every engine: ping and info.
	// A list takes what it takes, within the context of the inventory.
	Timeout time.Duration

	// Places are where to measure the file systems under the engine.
	// Empty: wherever that can be found out for certain.
	Places []Place
}

// An Engine is one Docker engine, there or not.
type Engine struct {
	connection *connection
	timeout    time.Duration
	disk       *disk
	journal    *journal

	mu sync.Mutex // one inventory at a time, so that no question is put twice at once
}

// New returns the engine that config names. It need not be there yet: an error
// says that config can never work, as with an address that is none or a
// certificate that cannot be read.
func New(config Config, logger *slog.Logger) (*Engine, error) {
	connection, err := newConnection(config.Host, config.TLS)
	if err != nil {
		return nil, err
	}
	return &Engine{
		connection: connection,
		timeout:    config.Timeout,
		disk:       &disk{places: config.Places, local: connection.isLocal()},
		journal:    newJournal(logger, connection.explain),
	}, nil
}

// The kinds of question that cost the engine something, as their metrics name them.
const (
	kindImages     = "images"
	kindContainers = "containers"
)

// Inventory asks the engine what it holds, and returns when ctx ends at the latest.
// Every question succeeds or fails alone: what a failed one would have told is
// unknown, and the log says why.
func (e *Engine) Inventory(ctx context.Context) inventory.Inventory {
	e.mu.Lock()
	defer e.mu.Unlock()

	var (
		inv        inventory.Inventory
		info       inventory.Optional[system.Info]
		images     inventory.Optional[[]image.Summary]
		containers inventory.Optional[[]container.Summary]
	)
	version, up := e.ping(ctx).Get()
	inv.Up = up
	if api, ok := e.negotiate(version, up).Get(); ok {
		version = api.ClientVersion()
		var wg sync.WaitGroup
		wg.Go(func() { info = e.info(ctx, api) })
		wg.Go(func() { images = e.listImages(ctx, api) })
		wg.Go(func() { containers = e.listContainers(ctx, api) })
		wg.Wait()
	} else {
		e.journal.unasked(kindImages)
		e.journal.unasked(kindContainers)
	}

	if info, known := info.Get(); known {
		inv.Engine = inventory.Known(describe(info, version))
		e.disk.learn(info)
	}
	if list, known := images.Get(); known {
		inv.Images = inventory.Known(translateImages(list, imageStore(info, list, version)))
	}
	if list, known := containers.Get(); known {
		inv.Containers = inventory.Known(translateContainers(list))
	}
	inv.Questions = e.journal.questions(kindImages, kindContainers)
	inv.Filesystems = e.disk.measure(e.journal)
	return inv
}

// ping returns the newest version of the API that the engine speaks.
func (e *Engine) ping(ctx context.Context) inventory.Optional[string] {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	return ask(e.journal, question{act: "reach the engine", endpoint: "/_ping"}, func() (string, error) {
		return e.connection.ping(ctx)
	})
}

func (e *Engine) negotiate(version string, up bool) inventory.Optional[*client.Client] {
	if !up {
		return inventory.Optional[*client.Client]{}
	}
	return ask(e.journal, question{act: "agree on a version of the API", endpoint: "/_ping"}, func() (*client.Client, error) {
		return e.connection.speak(version)
	})
}

func (e *Engine) info(ctx context.Context, api *client.Client) inventory.Optional[system.Info] {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	return ask(e.journal, question{act: "ask about the engine", endpoint: "/info"}, func() (system.Info, error) {
		return api.Info(ctx)
	})
}

func (e *Engine) listImages(ctx context.Context, api *client.Client) inventory.Optional[[]image.Summary] {
	return ask(e.journal, question{kindImages, "list images", "/images/json"}, func() ([]image.Summary, error) {
		list, err := api.ImageList(ctx, image.ListOptions{All: true})
		for _, record := range list {
			if record.ID == "" {
				err = errors.Join(err, errIncomplete)
				break
			}
		}
		return list, err
	})
}

func (e *Engine) listContainers(ctx context.Context, api *client.Client) inventory.Optional[[]container.Summary] {
	return ask(e.journal, question{kindContainers, "list containers", "/containers/json"}, func() ([]container.Summary, error) {
		list, err := api.ContainerList(ctx, container.ListOptions{All: true})
		for _, record := range list {
			if record.ID == "" || record.State == "" {
				err = errors.Join(err, errIncomplete)
				break
			}
		}
		return list, err
	})
}
