package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

type status string

const (
	killed    status = "killed"
	timeout   status = "timeout"
	survived  status = "survived"
	unchanged status = "equivalent"
	invalid   status = "does not compile"
)

type result struct {
	status status
	by     string // the test that failed or did not end
}

func (r result) String() string {
	switch {
	case r.by == "":
		return string(r.status)
	case r.status == timeout:
		return "timeout in " + r.by
	}
	return string(r.status) + " by " + r.by
}

// A tester runs the tests of packages in which one file is replaced.
type tester struct {
	options
	directory string // for mutated files
}

func newTester(o options) (*tester, error) {
	directory, err := os.MkdirTemp("", "mutator")
	return &tester{o, directory}, err
}

func (t *tester) close() { os.RemoveAll(t.directory) }

// checkOriginal returns an error unless all tests pass without a mutation. It also fills
// the build cache.
func (t *tester) checkOriginal(ctx context.Context, pool []mutant, out io.Writer) error {
	packages := split(t.also)
	for _, m := range pool {
		packages = append(packages, m.pkg)
	}
	slices.Sort(packages)
	for _, pkg := range slices.Compact(packages) {
		start := time.Now()
		r, err := t.goTest(ctx, pkg)
		if err != nil {
			return err
		}
		if r.status != survived {
			return fmt.Errorf("%s without a mutation: %s", pkg, r)
		}
		took := time.Since(start)
		fmt.Fprintf(out, "%s passes without a mutation in %.1f s\n", pkg, took.Seconds())
		if took > t.timeout/3 {
			fmt.Fprintln(out, "Warning: this is more than a third of -timeout. Mutants may time out only because the tests are slow.")
		}
	}
	return nil
}

// testAll calls report for each mutant when its tests have ended.
func (t *tester) testAll(ctx context.Context, mutants []mutant, report func(mutant, result)) error {
	type outcome struct {
		mutant mutant
		result result
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome)
	running := make(chan struct{}, t.parallel)
	for _, m := range mutants {
		go func() {
			running <- struct{}{}
			r, err := t.test(ctx, m)
			<-running
			outcomes <- outcome{m, r, err}
		}()
	}
	var failure error
	for range mutants {
		if o := <-outcomes; o.err != nil {
			failure = cmp.Or(failure, o.err)
			cancel()
		} else {
			report(o.mutant, o.result)
		}
	}
	return failure
}

// test runs the tests of the package of the mutant and, as long as it survives, the others.
func (t *tester) test(ctx context.Context, m mutant) (result, error) {
	directory, err := os.MkdirTemp(t.directory, "")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(directory)
	overlay, err := writeOverlay(directory, m)
	if err != nil {
		return result{}, err
	}
	for _, pkg := range append([]string{m.pkg}, split(t.also)...) {
		r, err := t.goTest(ctx, pkg, "-overlay", overlay)
		if err != nil || r.status != survived {
			return r, err
		}
	}
	return result{status: survived}, nil
}

// writeOverlay writes the mutated file, and returns the file for the flag -overlay.
func writeOverlay(directory string, m mutant) (string, error) {
	source, err := os.ReadFile(m.path)
	if err != nil {
		return "", err
	}
	mutated, overlay := filepath.Join(directory, "mutated.go"), filepath.Join(directory, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {m.path: mutated}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(mutated, m.apply(source), 0o600), os.WriteFile(overlay, replace, 0o600))
}

func (t *tester) goTest(ctx context.Context, pkg string, flags ...string) (result, error) {
	args := append([]string{"test", "-count=1", "-failfast", "-vet=off", "-timeout", t.timeout.String()}, flags...)
	command := exec.CommandContext(ctx, "go", append(args, pkg)...)
	// The go command passes an interrupt on to the test; a kill would leave it running.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	output, err := command.CombinedOutput()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	if err == nil {
		return result{status: survived}, nil
	}
	if _, isExit := errors.AsType[*exec.ExitError](err); !isExit {
		return result{}, fmt.Errorf("go test: %w", err)
	}
	return classify(output), nil
}

// classify reads the output of a go test that failed.
func classify(output []byte) result {
	notBuilt := regexp.MustCompile(`(?m)^FAIL\t\S+ \[(build|setup) failed\]`)
	timedOut := regexp.MustCompile(`(?m)^(panic: test timed out after |\*\*\* Test killed)`)
	running := regexp.MustCompile(`(?m)^\s+running tests:\n\s+(\S+)`)
	failed := regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	first := func(pattern *regexp.Regexp) string {
		match := pattern.FindSubmatch(output)
		if match == nil {
			return ""
		}
		return string(match[1])
	}
	switch {
	case notBuilt.Match(output):
		return result{status: invalid}
	case timedOut.Match(output):
		return result{timeout, first(running)}
	}
	// A crash outside the goroutine of a test names no test.
	return result{killed, cmp.Or(first(failed), "a crash")}
}
