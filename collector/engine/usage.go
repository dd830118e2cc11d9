package engine

import (
	"context"
	"strings"
	"sync"
	"time"

	"docker_buildup_exporter/collector/inventory"
	"docker_buildup_exporter/collector/pace"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/api/types/volume"
)

// An answer is a question and what came of it the last time.
type answer[T any] struct {
	*pace.Question

	mu    sync.Mutex
	value inventory.Optional[T]
}

// newAnswer returns the answer to a question that get puts.
func newAnswer[T any](p pace.Pace, get func(context.Context) inventory.Optional[T]) *answer[T] {
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

func (a *answer[T]) set(value inventory.Optional[T]) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.value = value
}

func (a *answer[T]) get() inventory.Optional[T] {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.value
}

func (a *answer[T]) forget() {
	a.Question.Forget()
	a.set(inventory.Optional[T]{})
}

// listVolumes walks through no files.
func (e *Engine) listVolumes(ctx context.Context) inventory.Optional[[]inventory.Volume] {
	return ask(e.journal, question{act: "list volumes", endpoint: "/volumes"}, func() ([]inventory.Volume, error) {
		list, err := e.connection.current().VolumeList(ctx, volume.ListOptions{})
		return translateVolumes(list.Volumes), err
	})
}

// measureVolumes returns the sizes of volumes by name. The engine walks through all
// their files.
func (e *Engine) measureVolumes(ctx context.Context) inventory.Optional[map[string]int64] {
	return ask(e.journal, question{kindVolumes, "measure volumes", "/system/df"}, func() (map[string]int64, error) {
		usage, err := e.diskUsage(ctx, types.VolumeObject)
		sizes := make(map[string]int64)
		for _, v := range usage.Volumes {
			if v != nil && v.UsageData != nil && v.UsageData.Size >= 0 { // −1 is "not available"
				sizes[v.Name] = v.UsageData.Size
			}
		}
		return sizes, err
	})
}

func (e *Engine) listCache(ctx context.Context) inventory.Optional[[]inventory.CacheRecord] {
	return ask(e.journal, question{kindBuildCache, "list the build cache", "/system/df"}, func() ([]inventory.CacheRecord, error) {
		usage, err := e.diskUsage(ctx, types.BuildCacheObject)
		return translateCache(usage.BuildCache), err
	})
}

// diskUsage asks for one part of the engine's own account. Before API 1.42 it is all
// or nothing, with a walk through the files of containers, too: whoever asks for
// another part meanwhile shares the answer.
func (e *Engine) diskUsage(ctx context.Context, part types.DiskUsageObject) (types.DiskUsage, error) {
	api := e.connection.current()
	options, key := types.DiskUsageOptions{Types: []types.DiskUsageObject{part}}, string(part)
	if versions.LessThan(api.ClientVersion(), "1.42") {
		options, key = types.DiskUsageOptions{}, "all"
	}
	usage, err, _ := e.usages.Do(key, func() (any, error) {
		for {
			usage, err := api.DiskUsage(ctx, options)
			// Before API 1.42 somebody else's question makes ours fail.
			if err == nil || !strings.Contains(err.Error(), "a disk usage operation is already running") || !sleep(ctx, time.Second) {
				return usage, err
			}
		}
	})
	return usage.(types.DiskUsage), err
}

// volumesOf puts together what is known of volumes.
func (e *Engine) volumesOf(ctx context.Context) inventory.Optional[[]inventory.Volume] {
	var wg sync.WaitGroup
	wg.Go(func() { e.volumes.Ask(ctx) })
	wg.Go(func() { e.volumeSizes.Ask(ctx) })
	wg.Wait()
	list, known := e.volumes.get().Get()
	if !known {
		return inventory.Optional[[]inventory.Volume]{}
	}
	sizes, _ := e.volumeSizes.get().Get()
	volumes := make([]inventory.Volume, 0, len(list))
	for _, v := range list {
		if bytes, known := sizes[v.Name]; known {
			v.Size = inventory.Known(bytes)
		} else if v.Local {
			e.volumeSizes.Change()
		}
		volumes = append(volumes, v)
	}
	return inventory.Known(volumes)
}
