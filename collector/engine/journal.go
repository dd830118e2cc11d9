package engine

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"docker_buildup_exporter/collector/model"
)

// A question is one thing that is asked of the engine or of its host.
type question struct {
	kind     string // as its metrics name it; empty where it has none
	isPart   bool   // of its kind, whose time and duration are those of another question
	act      string // what fails when it fails: "list images"
	endpoint string // what a socket proxy has to let through; empty if no engine is asked
}

// ask puts a question and notes how it went.
func ask[T any](j *journal, q question, put func() (T, error)) model.Optional[T] {
	start := time.Now()
	answer, err := put()
	j.note(q, err, start, time.Now())
	if err != nil {
		return model.Optional[T]{}
	}
	return model.Known(answer)
}

// A journal remembers how each question went, and tells the log when that changes:
// an engine that stays away for a night is one line, not one for every scrape.
type journal struct {
	logger  *slog.Logger
	explain func(question, error) (cause, hint string)

	mu     sync.Mutex
	kinds  map[string]model.Collector
	causes map[string]cause // by act; only what fails now
}

// A cause is why an act fails.
type cause struct{ kind, text string }

func newJournal(logger *slog.Logger, explain func(question, error) (cause, hint string)) *journal {
	return &journal{
		logger:  logger,
		explain: explain,
		kinds:   make(map[string]model.Collector),
		causes:  make(map[string]cause),
	}
}

func (j *journal) note(q question, err error, start, end time.Time) {
	if q.endpoint != pingEndpoint && errors.Is(err, context.Canceled) {
		return // withdrawn, which is nobody's failure
	}
	j.mu.Lock()
	defer j.mu.Unlock()

	if q.kind != "" && !q.isPart {
		record := model.Collector{
			Name:        q.kind,
			Success:     err == nil,
			Duration:    model.Known(end.Sub(start)),
			LastSuccess: j.kinds[q.kind].LastSuccess,
		}
		if err == nil {
			record.LastSuccess = model.Known(end)
		}
		j.kinds[q.kind] = record
	}

	before, failedBefore := j.causes[q.act]
	if err == nil {
		if failedBefore {
			j.logger.Info("works again: " + q.act)
			delete(j.causes, q.act)
		}
		return
	}
	text, hint := j.explain(q, err)
	if text != before.text {
		j.logger.Error("cannot "+q.act, "err", text, "hint", hint)
		j.causes[q.act] = cause{q.kind, text}
	}
}

// unasked notes that no answer so far is good any more, for a reason that is noted
// elsewhere.
func (j *journal) unasked() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for kind, before := range j.kinds {
		j.kinds[kind] = model.Collector{Name: kind, LastSuccess: before.LastSuccess}
	}
}

// answered tells whether the last question of a kind was.
func (j *journal) answered(kind string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.kinds[kind].Success && !j.fails(kind)
}

// fails tells whether something of a kind does now.
func (j *journal) fails(kind string) bool {
	for _, cause := range j.causes {
		if cause.kind == kind {
			return true
		}
	}
	return false
}

// questions tells how the last question of each kind went that has come to an end.
func (j *journal) questions() []model.Collector {
	j.mu.Lock()
	defer j.mu.Unlock()
	var questions []model.Collector
	for _, kind := range slices.Sorted(maps.Keys(j.kinds)) {
		question := j.kinds[kind]
		question.Success = question.Success && !j.fails(kind)
		questions = append(questions, question)
	}
	return questions
}
