package status

import (
	"context"
	"slices"
	"time"

	"docker_buildup_exporter/collector/inventory"
)

// Await takes one inventory, and another each second while one tells that there are
// images of which the layers are still being found out, until ctx is about to end.
func Await(ctx context.Context, take func(context.Context) inventory.Inventory) inventory.Assessment {
	const pause = time.Second
	for {
		assessment := inventory.Assess(take(ctx))
		unexamined, _ := assessment.Unexamined.Get()
		if unexamined == 0 || slices.ContainsFunc(assessment.Questions, isLayersUnanswered) {
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

func isLayersUnanswered(q inventory.Question) bool { return q.Kind == "layers" && !q.Answered }
