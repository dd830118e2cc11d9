// Mutator measures how many small faults in the code the tests notice.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

const usage = `Changes one place of the code at a time, and runs the tests to see whether they notice.

  .ci/mutate [-n N] [-seed S] [-packages P,…] [-also P,…] [-max-survivors N]

Mutations: a comparison or logical operator is replaced, a "!" is dropped, the condition of
an if or of a case is negated or false, a clause of a switch or select is dropped, a
statement is dropped (call, assignment, x++, break, continue), an integer is one higher.

N of all possible mutations are drawn at random; those that do not compile are replaced.
The source tree is not written. A mutant is
  killed      if a test fails,
  timeout     if the tests of a package do not end within -timeout,
  equivalent  if no test fails, and the list of equivalent mutants contains it,
  survived    if no test fails.
The exit code is 1 if more than -max-survivors survive.

`

type options struct {
	seed         uint64
	n            int
	packages     string
	also         string
	equivalent   string
	parallel     int
	timeout      time.Duration
	maxSurvivors int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, parse(os.Args[1:]), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// parse exits if the arguments are invalid.
func parse(args []string) options {
	var o options
	flags := flag.NewFlagSet("mutate", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	flags.Uint64Var(&o.seed, "seed", 20261127, "`seed` of the draw")
	flags.IntVar(&o.n, "n", 60, "`number` of mutants")
	flags.StringVar(&o.packages, "packages", "./collector/engine,./collector/model,./collector/prune", "`packages` to mutate")
	flags.StringVar(&o.also, "also", "", "`packages` whose tests also run on mutants that survive those of their own package")
	flags.StringVar(&o.equivalent, "equivalent", ".ci/mutator/equivalent.txt", "`file` that lists mutants that behave like the original")
	flags.IntVar(&o.parallel, "parallel", 2, "`number` of mutants to test at the same time")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "`limit` for the tests of a package")
	flags.IntVar(&o.maxSurvivors, "max-survivors", 5, "`number` of survivors that are accepted")
	flags.Parse(args)
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "unexpected argument %q\n", flags.Arg(0))
		os.Exit(2)
	}
	return o
}

// run prints a line for each mutant and a summary.
func run(ctx context.Context, o options, out io.Writer) error {
	start := time.Now()
	pool, err := load(ctx, split(o.packages))
	if err != nil {
		return err
	}
	equivalent, err := readEquivalent(o.equivalent, pool)
	if err != nil {
		return err
	}
	t, err := newTester(o)
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.checkOriginal(ctx, pool, out); err != nil {
		return err
	}

	candidates := len(pool)
	shuffle(pool, o.seed)
	tested := 0
	count := map[status]int{}
	for tested < o.n && len(pool) > 0 {
		batch := pool[:min(o.n-tested, len(pool))]
		pool = pool[len(batch):]
		err := t.testAll(ctx, batch, func(m mutant, r result) {
			if r.status == survived && equivalent[m.key()] {
				r.status = unchanged
			}
			count[r.status]++
			if r.status == invalid {
				return
			}
			tested++
			fmt.Fprintf(out, "%d/%d %s:%d: %s: %s: %s\n", tested, o.n, m.file, m.line, m.function, m.text, r)
		})
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d of %d possible mutants: %d killed, %d timeout, %d equivalent, %d survived. %d did not compile. %s\n",
		tested, candidates, count[killed], count[timeout], count[unchanged], count[survived], count[invalid],
		time.Since(start).Round(time.Second))
	if count[survived] > o.maxSurvivors {
		return fmt.Errorf("%d mutants survived, at most %d may", count[survived], o.maxSurvivors)
	}
	return nil
}

// shuffle gives the same order for the same code and seed, also if the packages are named
// in another order.
func shuffle(pool []mutant, seed uint64) {
	slices.SortStableFunc(pool, func(a, b mutant) int {
		return cmp.Or(strings.Compare(a.file, b.file), cmp.Compare(a.from, b.from))
	})
	r := rand.New(rand.NewPCG(seed, 0))
	r.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
}

// readEquivalent returns the keys of the mutants that the file lists. The line above a
// mutant must be a comment, which gives the reason. Mutants of files that are not in the
// pool are ignored; a mutant of such a file that does not exist is an error.
func readEquivalent(file string, pool []mutant) (map[string]bool, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	files, exists := map[string]bool{}, map[string]bool{}
	for _, m := range pool {
		files[m.file], exists[m.key()] = true, true
	}
	listed := map[string]bool{}
	lines := strings.Split(string(content), "\n")
	for i, key := range lines {
		if key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		if i == 0 || !strings.HasPrefix(lines[i-1], "#") {
			return nil, fmt.Errorf("%s:%d: no reason in a comment above", file, i+1)
		}
		if mutated, _, _ := strings.Cut(key, ": "); files[mutated] && !exists[key] {
			return nil, fmt.Errorf("%s:%d: no such mutant", file, i+1)
		}
		listed[key] = true
	}
	return listed, nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
