package report

import (
	"context"
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// MaxHolders is how many holders of bytes a report names.
const MaxHolders = 12

// Poll takes a snapshot every second until everything has been collected or ctx is about
// to end, and returns the summary of the last one.
func Poll(ctx context.Context, summarizer *prune.Summarizer, snapshot func(context.Context) model.Snapshot) prune.Summary {
	const interval = time.Second
	for {
		s := snapshot(ctx)
		// A snapshot whose context ends early would have less than this one.
		deadline, hasDeadline := ctx.Deadline()
		if !isIncomplete(s) || hasDeadline && time.Until(deadline) < 2*interval {
			return summarizer.Summarize(s)
		}
		select {
		case <-ctx.Done():
			return summarizer.Summarize(s)
		case <-time.After(interval):
		}
	}
}

// isIncomplete reports whether there are requests whose outcome is not known yet.
// It ignores requests that failed.
func isIncomplete(s model.Snapshot) bool {
	images, _ := s.Images.Get()
	isUninspected := func(i model.Image) bool {
		_, isInspected := s.Contents[i.ID]
		return !isInspected && !s.FailedImages[i.ID]
	}
	return s.Up && (len(s.Pending) > 0 || s.Contents != nil && slices.ContainsFunc(images, isUninspected))
}
