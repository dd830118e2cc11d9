package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
)

// logHost is a machine whose containers have logs.
type logHost struct {
	Host
	reads [][]string // the IDs of each request
	logs  host.Logs
	err   error
	took  time.Duration
}

func (h *logHost) Logs(ctx context.Context, _ host.Engine, ids []string) (host.Logs, error) {
	h.reads = append(h.reads, ids)
	select {
	case <-time.After(h.took):
	case <-ctx.Done():
	}
	return h.logs, h.err
}

// Leftovers are found after as long as logs.
func (h *logHost) Leftovers(ctx context.Context, engine host.Engine, ids []string) (host.Leftovers, error) {
	_, err := h.Logs(ctx, engine, ids)
	return host.Leftovers{LeftoverSizes: model.LeftoverSizes{Layers: 5, OtherStore: 7}}, err
}

// runLogs runs a test with a container that is listed, and a machine with its log.
func runLogs(t *testing.T, test func(f *fixture, machine *logHost, set func(state, finished string))) {
	t.Helper()
	config := listsOnly()
	config.ContainerLogs, config.Events = true, true
	runWithLogs(t, config, test)
}

func runWithLogs(t *testing.T, config Config, test func(f *fixture, machine *logHost, set func(state, finished string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, "api-1.51-graphdriver", config)
		machine := &logHost{Host: f.host, logs: host.Logs{Sizes: map[string]host.LogSize{"c": {Logs: 100, Freed: 130}}}}
		f.host = machine
		set := func(state, finished string) {
			f.reply("/containers/json", fmt.Sprintf(`[{"Id":"c","State":%q}]`, state))
			f.reply("/containers/c/json", fmt.Sprintf(`{"Id":"c","State":{"Status":%q,"FinishedAt":%q}}`, state, finished))
		}
		set("exited", "2025-01-01T00:00:00Z")
		defer f.start()()
		test(f, machine, set)
	})
}

// What goes with a container is known of those that have stopped, as long as they have not run
// again. The sum of the logs is that of all.
func TestContainerLogs(t *testing.T) {
	runLogs(t, func(f *fixture, machine *logHost, set func(state, finished string)) {
		for i, step := range []struct {
			state, finished string
			freed           int64 // on the disk
			want            model.Optional[int64]
		}{
			{"exited", "2025-01-01T00:00:00Z", 130, model.Known[int64](130)},
			{"running", "2025-01-01T00:00:00Z", 140, model.Optional[int64]{}},
			{"exited", "2025-01-02T00:00:00Z", 150, model.Known[int64](150)},
		} {
			set(step.state, step.finished)
			machine.logs.Sizes = map[string]host.LogSize{"c": {Logs: step.freed - 30, Freed: step.freed}}
			s := f.scrapeAfter(time.Second)
			if c := containerOf(s, "c"); c.DirectorySize != step.want || s.ContainerLogs != model.Known(step.freed-30) || !collectorOf(s, "container_logs").Success {
				t.Errorf("step %d: %+v, %+v, %+v", i, c, s.ContainerLogs, s.Collectors)
			}
		}
		if !slices.Equal(machine.reads[0], []string{"c"}) || len(machine.reads) != 3 {
			t.Errorf("requested: %v", machine.reads)
		}
		// The logs of a container that is known to have run again are of then.
		machine.took = time.Minute
		set("running", "2025-01-02T00:00:00Z")
		f.scrapeAfter(time.Second)
		set("exited", "2025-01-03T00:00:00Z")
		if c := containerOf(f.scrapeAfter(time.Second), "c"); c.DirectorySize.IsKnown() {
			t.Errorf("stopped again: %+v", c)
		}
	})
}

// Logs that are slow to read are read as often as other expensive requests.
func TestSlowContainerLogs(t *testing.T) {
	runLogs(t, func(f *fixture, machine *logHost, _ func(state, finished string)) {
		machine.took = 10 * time.Second
		for range 60 {
			f.scrapeAfter(time.Minute)
		}
		if n := len(machine.reads); n != 2 { // 10 s are 0.5 % of 33 min
			t.Errorf("read %d times in an hour", n)
		}
	})
}

// A process that may not read the logs has no such collector. Others are as without it.
func TestContainerLogsWithoutAccess(t *testing.T) {
	runLogs(t, func(f *fixture, machine *logHost, _ func(state, finished string)) {
		logs := machine.logs
		machine.logs, machine.err = host.Logs{}, &model.Failure{Reason: "permission denied", Hint: "see README", NoAccess: true, Err: fs.ErrPermission}
		for range 3 {
			s := f.scrapeAfter(2 * time.Minute)
			if s.ContainerLogs.IsKnown() || containerOf(s, "c").DirectorySize.IsKnown() || collectorOf(s, "container_logs").Name != "" {
				t.Errorf("%+v, %+v", s.ContainerLogs, s.Collectors)
			}
		}
		f.logged(1, `level=INFO msg="the engine's root directory cannot be read"`, "permission denied", "see README")
		denied := machine.err
		machine.logs, machine.err = logs, nil
		if s := f.scrapeAfter(2 * time.Minute); s.ContainerLogs != model.Known[int64](100) || !collectorOf(s, "container_logs").Success {
			t.Errorf("after access was given: %+v, %+v", s.ContainerLogs, s.Collectors)
		}
		machine.logs, machine.err = host.Logs{}, denied
		if s := f.scrapeAfter(2 * time.Minute); s.ContainerLogs.IsKnown() || collectorOf(s, "container_logs").Success || collectorOf(s, "container_logs").Name == "" {
			t.Errorf("after access was taken away: %+v, %+v", s.ContainerLogs, s.Collectors)
		}
		f.logged(1, `level=ERROR msg="cannot find the container logs"`)
	})
}

// One container whose log cannot be read hides no other.
func TestContainerLogFails(t *testing.T) {
	runLogs(t, func(f *fixture, machine *logHost, _ func(state, finished string)) {
		machine.logs.Err = errors.New("too many entries")
		for range 2 {
			s := f.scrapeAfter(time.Second)
			if s.ContainerLogs != model.Known[int64](100) || !containerOf(s, "c").DirectorySize.IsKnown() || collectorOf(s, "container_logs").Success {
				t.Errorf("%+v, %+v", s.ContainerLogs, s.Collectors)
			}
		}
		f.logged(1, "cannot read the container logs", "too many entries")
	})
}

// Leftovers change rarely, so they are searched for at most every ten minutes, and not while the
// engine has more containers than it lists.
func TestLeftovers(t *testing.T) {
	config := listsOnly()
	config.Leftovers, config.Events = true, true
	runWithLogs(t, config, func(f *fixture, machine *logHost, _ func(state, finished string)) {
		f.reply("/info", `{"Containers":2}`)
		if s := f.scrapeAfter(2 * time.Minute); s.Leftovers.IsKnown() || len(machine.reads) > 0 || collectorOf(s, "leftovers").Name != "" {
			t.Errorf("with a container that is not listed: %+v, read %v", s.Leftovers, machine.reads)
		}
		f.reply("/info", `{"Containers":1}`)
		f.scrapeAfter(2 * time.Minute)
		for i := range 60 {
			s := f.scrapeAfter(time.Minute)
			if sizes, _ := s.Leftovers.Get(); sizes.Sum() != 12 || !collectorOf(s, "leftovers").Success {
				t.Fatalf("scrape %d: %+v, %+v", i, s.Leftovers, s.Collectors)
			}
		}
		synctest.Wait() // what is slow may still be read
		if n := len(machine.reads); n < 6 || n > 7 {
			t.Errorf("read %d times in an hour", n)
		}
		machine.err = errors.New("the disk is broken")
		f.scrapeAfter(10 * time.Minute) // it does not wait for what is slow
		s := f.scrapeAfter(time.Second)
		if s.Leftovers.IsKnown() || collectorOf(s, "leftovers").Success {
			t.Errorf("%+v, %+v", s.Leftovers, s.Collectors)
		}
		f.logged(1, "cannot find leftovers", "the disk is broken")
	})
}

// An engine may have left something behind when it ended, so leftovers are searched again at once after
// a gap in the events.
func TestLeftoversAfterGap(t *testing.T) {
	t.Parallel()
	s := newTestState(t)
	s.config.Leftovers = true
	sched := s.schedules[leftovers]
	sched.ended, sched.known, sched.took = at(0), true, time.Millisecond
	s.request(request{notBefore: at(time.Minute)})
	if s.isDue(leftovers, at(time.Minute)) {
		t.Error("due after a minute")
	}
	s.stream.hasGap = true
	s.openStream(at(time.Minute))
	if !s.isDue(leftovers, at(time.Minute)) {
		t.Error("not due after a gap")
	}
}
