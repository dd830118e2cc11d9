package report

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

func TestPoll(t *testing.T) {
	// inspected returns a snapshot of three images, of which the first n were inspected.
	inspected := func(n int) model.Snapshot {
		ids := []string{"a", "b", "c"}
		s := model.Snapshot{Up: true, Contents: make(map[string]model.Content)}
		var images []model.Image
		for i, id := range ids {
			images = append(images, model.Image{ID: id})
			if i < n {
				s.Contents[id] = model.Content{}
			}
		}
		s.Images = model.Known(images)
		return s
	}
	failed := func(ids ...string) model.Snapshot {
		s := inspected(1)
		s.FailedImages = make(map[string]bool)
		for _, id := range ids {
			s.FailedImages[id] = true
		}
		return s
	}
	pending := inspected(3)
	pending.Pending = []string{"volumes"}
	down := pending
	down.Up = false
	notInspected := inspected(0)
	notInspected.Contents = nil

	tests := []struct {
		name      string
		snapshots []model.Snapshot // the last one repeats
		want      int
	}{
		{"complete at once", []model.Snapshot{inspected(3)}, 1},
		{"images are inspected meanwhile", []model.Snapshot{inspected(1), inspected(2), inspected(3)}, 3},
		{"images are never inspected", []model.Snapshot{inspected(1)}, 29},
		{"inspections of all other images failed", []model.Snapshot{failed("b", "c")}, 1},
		{"one inspection failed, another is pending", []model.Snapshot{failed("b"), failed("b", "c")}, 2},
		{"images are not inspected at all", []model.Snapshot{notInspected}, 1},
		{"a collector is pending", []model.Snapshot{pending, pending, inspected(3)}, 3},
		{"the engine is down", []model.Snapshot{down}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				taken := 0
				got := Poll(ctx, new(prune.Summarizer), func(context.Context) model.Snapshot {
					time.Sleep(time.Millisecond) // fake time
					taken++
					return test.snapshots[min(taken, len(test.snapshots))-1]
				})
				if taken != test.want || ctx.Err() != nil {
					t.Errorf("%d snapshots were taken, want %d; %v", taken, test.want, ctx.Err())
				}
				last := test.snapshots[len(test.snapshots)-1]
				if len(got.Pending) != len(last.Pending) || len(got.FailedImages) != len(last.FailedImages) {
					t.Errorf("got the summary of another snapshot than the last: %+v", got)
				}
			})
		})
	}
}

func TestPollIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	taken := 0
	Poll(ctx, new(prune.Summarizer), func(context.Context) model.Snapshot {
		taken++
		cancel()
		return model.Snapshot{Up: true, Pending: []string{"images"}}
	})
	if taken != 1 {
		t.Errorf("%d snapshots were taken after the context was canceled, want 1", taken)
	}
}
