package report

import (
	"context"
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// Await takes one inventory, and another each second while one tells that there are
// images of which the layers are still being found out, until ctx is about to end.
func Await(ctx context.Context, take func(context.Context) model.Snapshot) prune.Summary {
	const pause = time.Second
	for {
		assessment := prune.Summarize(take(ctx), 0)
		uninspected, _ := assessment.Uninspected.Get()
		if uninspected == 0 || slices.ContainsFunc(assessment.Collectors, isLayersUnanswered) {
			return assessment
		}
		// One that ends in the middle of its questions would know less than this.
		if end, ends := ctx.Deadline(); ends && time.Until(end) < 2*pause {
			return assessment
		}
		select {
		case <-ctx.Done():
			return assessment
		case <-time.After(pause):
		}
	}
}

func isLayersUnanswered(q model.Collector) bool { return q.Name == "layers" && !q.Success }
