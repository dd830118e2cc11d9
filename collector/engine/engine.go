// Package engine keeps track of what a Docker engine holds. It decides when to request what;
// the requests themselves are made by packages docker and host.
//
// One goroutine, Engine.Run, owns the state. Requests run in goroutines of their own and send
// their results to it; see the methods of state: due, merge, event, reset and snapshot.
package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
)

// Config is what to request, and how often.
type Config struct {
	Timeout   time.Duration // how long a snapshot waits for the first answer to a list
	BusyRatio BusyRatio

	// Events says to keep the state up to date between snapshots.
	Events bool

	// What to request beside images and containers. Each can make the engine walk files.
	ContainerSizes, Volumes, BuildCache bool

	// What to read in the engine's root directory.
	ContainerLogs, Leftovers bool

	Store   StoreReader // nil: containerd is not read
	Measure SizeReader  // nil: the engine measures containers
	IsLocal bool        // the engine is reached by a socket of this machine
}

// Host is the machine of the engine, as far as this process sees it: a host.Filesystems.
type Host interface {
	Measure(context.Context, host.Engine) host.Usage
	Logs(ctx context.Context, engine host.Engine, containerIDs []string) (host.Logs, error)
	Leftovers(ctx context.Context, engine host.Engine, containerIDs []string) (host.Leftovers, error)
	LayerStore(ctx context.Context, engine host.Engine, busyRatio float64) (store *model.LayerStore, busy time.Duration, err error)
}

// Engine is a Docker engine, running or not.
type Engine struct {
	config Config
	client *docker.Client
	host   Host
	logger *slog.Logger

	requests chan request
	results  chan result
	turn     chan struct{}
	done     chan struct{} // closed when Run has returned
}

// New returns an engine. Nothing is known of it before Run.
func New(config Config, client *docker.Client, machine Host, logger *slog.Logger) *Engine {
	return &Engine{
		config: config, client: client, host: machine, logger: logger,
		requests: make(chan request), results: make(chan result), turn: make(chan struct{}), done: make(chan struct{}),
	}
}

// Run owns the state until ctx ends. It returns when all requests have ended, except for one
// to a file system that hangs.
func (e *Engine) Run(ctx context.Context) {
	defer close(e.done)
	ctx, cancel := context.WithCancel(ctx)
	var requests sync.WaitGroup
	defer requests.Wait()
	defer cancel()

	s := newState(e.config)
	epoch := s.epoch
	engineCtx, endEpoch := context.WithCancel(ctx)
	send := func(r result) {
		select {
		case e.results <- r:
		case <-ctx.Done():
		}
	}
	for {
		if s.epoch != epoch {
			endEpoch() // requests to an engine that is gone
			epoch = s.epoch
			engineCtx, endEpoch = context.WithCancel(ctx)
		}
		// One time for the whole turn: a moment between two times would have no timer. What is
		// due is started first, because answer waits for what is in flight.
		now := time.Now()
		for _, t := range s.due(now) {
			taskCtx := engineCtx
			if t.kind == ping || t.kind == filesystems {
				taskCtx = ctx
			}
			requests.Go(func() { e.fetch(taskCtx, t, send) })
		}
		s.answer(now)
		for _, line := range s.health.takeLog() {
			e.logger.Log(ctx, line.level, line.message, line.args...)
		}
		timer := time.NewTimer(s.wake(now).Sub(now))
		select {
		case r := <-e.requests:
			s.request(r)
		case r := <-e.results:
			s.merge(r, time.Now())
		case e.turn <- struct{}{}:
		case <-timer.C:
		case <-ctx.Done():
			endEpoch()
			return
		}
		timer.Stop()
	}
}

// Snapshot returns what is known of the engine. If a part is older than maxAge and its request
// is expected to end soon, Snapshot waits for it, at most until ctx ends. The end of ctx cancels
// no request. Before the first ping has ended, Snapshot waits for that even beyond ctx.
func (e *Engine) Snapshot(ctx context.Context, maxAge time.Duration) model.Snapshot {
	r := request{notBefore: time.Now().Add(-maxAge), reply: make(chan model.Snapshot, 1)}
	for end := ctx.Done(); e.send(r); end, r.now = nil, true {
		select {
		case s := <-r.reply:
			return s
		case <-e.done:
		case <-end:
		}
	}
	return model.Snapshot{At: time.Now()}
}

// send hands a request to the state, and reports false if Run has returned.
func (e *Engine) send(r request) bool {
	select {
	case e.requests <- r:
		return true
	case <-e.done:
		return false
	}
}

// Healthy reports whether the loop that owns the state turns, before ctx ends.
func (e *Engine) Healthy(ctx context.Context) bool {
	select {
	case <-e.turn:
		return true
	case <-ctx.Done():
		return false
	}
}
