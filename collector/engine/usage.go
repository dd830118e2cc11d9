package engine

import (
	"context"
	"strings"
	"sync"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/pace"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/api/types/volume"
)

// An answer is a question and what came of it the last time.
type answer[T any] struct {
	*pace.Question

	mu    sync.Mutex
	value model.Optional[T]
}

// newAnswer returns the answer to a question that get puts.
func newAnswer[T any](p pace.Pace, get func(context.Context) model.Optional[T]) *answer[T] {
	a := &answer[T]{}
	a.Question = pace.NewQuestion(p, listTimeout, func(ctx context.Context) error {
		value := get(ctx)
		a.set(value)
		if _, known := value.Get(); !known {
			return errUnanswered
		}
		return nil
	})
	return a
}

func (a *answer[T]) set(value model.Optional[T]) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.value = value
}

func (a *answer[T]) get() model.Optional[T] {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.value
}

func (a *answer[T]) forget() {
	a.Question.Forget()
	a.set(model.Optional[T]{})
}

// listVolumes walks through no files.
func (e *Engine) listVolumes(ctx context.Context) model.Optional[[]model.Volume] {
	return ask(e.journal, question{kind: kindVolumes, isPart: true, act: "list volumes", endpoint: "/volumes"}, func() ([]model.Volume, error) {
		list, err := e.connection.current().VolumeList(ctx, volume.ListOptions{})
		return translateVolumes(list.Volumes), err
	})
}

// measureVolumes returns the sizes of volumes by name. The engine walks through all
// their files.
func (e *Engine) measureVolumes(ctx context.Context) model.Optional[map[string]int64] {
	return ask(e.journal, question{kind: kindVolumes, act: "measure volumes", endpoint: "/system/df"}, func() (map[string]int64, error) {
		usage, err := e.diskUsage(ctx, types.VolumeObject)
		if err != nil {
			return nil, err
		}
		sizes, isThere := make(map[string]int64), make(map[string]bool)
		for _, v := range usage.Volumes {
			if v != nil && v.UsageData != nil && v.UsageData.Size >= 0 { // −1 is "not available"
				sizes[v.Name], isThere[v.Name] = v.UsageData.Size, true
				usage.keepUntouched(v.Name, struct{}{})
			}
		}
		e.untouched.keep(isThere)
		return sizes, nil
	})
}

// A cacheList is the build cache beside some images: a record says whether one of them
// shares it.
type cacheList struct {
	records []model.CacheRecord
	asked   turns
}

// Turns tell apart the moments between which the build cache has changed for certain.
type turns struct{ images, prunes int }

func (e *Engine) turns() turns { return turns{e.images.currentTurn(), int(e.cachePrunes.Load())} }

func (e *Engine) listCache(ctx context.Context) model.Optional[cacheList] {
	return ask(e.journal, question{kind: kindBuildCache, act: "list the build cache", endpoint: "/system/df"}, func() (cacheList, error) {
		usage, err := e.diskUsage(ctx, types.BuildCacheObject)
		if err != nil {
			return cacheList{}, err
		}
		records, err := translateCache(usage.BuildCache)
		return cacheList{records, usage.asked}, err
	})
}

// isOutdated tells whether some moment is another one than that at which the build cache
// was asked for, or may be.
func (e *Engine) isOutdated(cache cacheList, at turns) bool {
	return cache.asked != at || e.isDeaf(e.cache.Question)
}

// isDeaf tells whether an answer may be old, and nobody would have heard of a change.
func (e *Engine) isDeaf(q *pace.Question) bool {
	isUnderWay := q.Ended().IsZero()
	return e.listens.Load() && !e.watching.Load() && (isUnderWay || !q.IsCheap())
}

func (e *Engine) askCache(ctx context.Context) {
	if cache, known := e.cache.get().Get(); known && cache.asked != e.turns() {
		e.cache.Change()
	}
	e.cache.Ask(ctx)
}

// diskUsage asks for one part of the engine's own account. Before API 1.42 it is all
// or nothing, with a walk through the files of containers, too: whoever asks for
// another part meanwhile shares the answer.
func (e *Engine) diskUsage(ctx context.Context, part types.DiskUsageObject) (account, error) {
	api := e.connection.current()
	options, key := types.DiskUsageOptions{Types: []types.DiskUsageObject{part}}, string(part)
	if versions.LessThan(api.ClientVersion(), "1.42") {
		options, key = types.DiskUsageOptions{}, "all"
	}
	usage, err, _ := e.usages.Do(key, func() (any, error) {
		for {
			asked, keepUntouched := e.turns(), e.untouched.look()
			usage, err := api.DiskUsage(ctx, options)
			// Before API 1.42 somebody else's question makes ours fail.
			if err == nil || !strings.Contains(err.Error(), "a disk usage operation is already running") || !sleep(ctx, time.Second) {
				return account{usage, asked, keepUntouched}, err
			}
		}
	})
	return usage.(account), err
}

// An account is the engine's own.
type account struct {
	types.DiskUsage
	asked         turns
	keepUntouched func(volume string, _ struct{})
}

// volumesOf puts together what is known of volumes.
func (e *Engine) volumesOf() model.Optional[[]model.Volume] {
	list, known := e.volumes.get().Get()
	if !known {
		return model.Optional[[]model.Volume]{}
	}
	sizes, _ := e.volumeSizes.get().Get()
	volumes := make([]model.Volume, 0, len(list))
	for _, v := range list {
		if bytes, known := sizes[v.Name]; known {
			_, untouched := e.untouched.get(v.Name)
			v.Size, v.SizeStale = model.Known(bytes), !untouched || e.isDeaf(e.volumeSizes.Question)
		} else if v.Local {
			e.volumeSizes.Change()
		}
		volumes = append(volumes, v)
	}
	return model.Known(volumes)
}
