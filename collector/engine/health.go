package engine

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"time"

	"docker_buildup_exporter/collector/model"
)

// health records how the requests of each collector went, and queues a log line when that
// changes: an engine that is away for a night is one line, not one for each scrape.
type health struct {
	collectors map[string]model.Collector
	failing    map[string]failing // by operation
	log        []logLine          // not yet written
}

// failing is an operation that has not succeeded since it failed.
type failing struct {
	collector string
	logged    []cause
	problem   model.Problem
}

// cause is what makes two failures the same problem. Reasons differ where the answer of the
// engine does, so they count only if a failure has no kind.
type cause struct{ endpoint, kind string }

// maxCauses bounds the lines of an operation that fails for one cause after another.
const maxCauses = 5

type logLine struct {
	level   slog.Level
	message string
	args    []any
}

func newHealth() *health {
	return &health{collectors: make(map[string]model.Collector), failing: make(map[string]failing)}
}

// record takes the outcome of an operation, like "list images", of a collector ("" if it
// has none).
func (h *health) record(collector, operation string, err error) {
	before, failedBefore := h.failing[operation]
	if err == nil {
		if failedBefore {
			h.log = append(h.log, logLine{slog.LevelInfo, "recovered", []any{"operation", operation}})
			delete(h.failing, operation)
			h.setSuccess(collector, true) // report still says false while another operation fails
		}
		return
	}
	failure := model.AsFailure(err)
	h.setSuccess(collector, false)
	c := cause{failure.Endpoint, cmp.Or(failure.Kind, failure.Reason)}
	if !slices.Contains(before.logged, c) && len(before.logged) < maxCauses {
		before.logged = append(before.logged, c)
		args := []any{"err", model.Line(failure.Reason), "hint", model.Line(failure.Hint)}
		h.log = append(h.log, logLine{slog.LevelError, "cannot " + operation, args})
	}
	problem := model.Problem{Operation: operation, Reason: model.Line(failure.Reason), Hint: model.Line(failure.Hint)}
	h.failing[operation] = failing{collector, before.logged, problem}
}

// isLeftOut reports whether an operation of a collector that never succeeded lacks the access that
// it needs. One that has failed for another reason is not left out.
func (h *health) isLeftOut(collector, operation string, err error) bool {
	_, hasFailed := h.failing[operation]
	return err != nil && model.AsFailure(err).NoAccess && !hasFailed && !h.collectors[collector].LastSuccess.IsKnown()
}

func (h *health) note(message string, args ...any) {
	h.log = append(h.log, logLine{slog.LevelInfo, message, args})
}

func (h *health) setSuccess(collector string, success bool) {
	if collector != "" {
		c := h.collectors[collector]
		c.Name, c.Success = collector, success
		h.collectors[collector] = c
	}
}

// measure takes the duration of a collector's main request, or that it failed.
func (h *health) measure(collector string, err error, took time.Duration, now time.Time) {
	if collector == "" {
		return
	}
	c := h.collectors[collector]
	c.Name, c.Success = collector, err == nil
	if err == nil {
		c.Duration, c.LastSuccess = model.Known(took), model.Known(now)
	}
	h.collectors[collector] = c
}

// reset says that no answer of the engine is valid any more, for a reason that was recorded
// elsewhere. The file systems do not depend on the engine.
func (h *health) reset() {
	for name, c := range h.collectors {
		c.Success = c.Success && name == "filesystems"
		h.collectors[name] = c
	}
}

// report returns the state of each collector that has made a request.
func (h *health) report() []model.Collector {
	var collectors []model.Collector
	for _, name := range slices.Sorted(maps.Keys(h.collectors)) {
		c := h.collectors[name]
		c.Success = c.Success && !h.isFailing(name)
		collectors = append(collectors, c)
	}
	return collectors
}

func (h *health) problems() (problems []model.Problem) {
	for _, operation := range slices.Sorted(maps.Keys(h.failing)) {
		problems = append(problems, h.failing[operation].problem)
	}
	return problems
}

func (h *health) isFailing(collector string) bool {
	for _, f := range h.failing {
		if f.collector == collector {
			return true
		}
	}
	return false
}

func (h *health) takeLog() []logLine {
	lines := h.log
	h.log = nil
	return lines
}
