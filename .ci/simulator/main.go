// Simulator evaluates alert rules on simulated disks.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
)

const usage = `Evaluates alert rules on simulated disks, and compares the alerts with what the disks did.

  .ci/simulate [-set tuned|unseen|both] [-disks N] [-days D] [-kind KIND] [-node] [-v] [RULES.yml]
  .ci/simulate -causes [RULES.yml]
  .ci/simulate -hosts N [-dashboards DIR] [RULES.yml]

The rules were tuned on the kinds of disks of the first set. Those of the second set were
written by someone who did not know the rules, to score them. Do not tune rules on them.

Every kind of disk is simulated N times. Each host is scraped every minute. Prometheus' own
engine and alerting rules evaluate every rule every minute, or at the interval of its group.
A function of a range is evaluated at every hundredth of the range, at most every 15 minutes.
Annotations are not evaluated.

Definitions:
- An alert is about the disk if its label "resource" is disk or inodes. Without this label,
  it is about the disk if it reads a metric of a file system. Other alerts are not evaluated.
- A ticket is an alert with the severity warning. A page has the severity critical or page.
  All alerts of one severity on one host are one incident until none has fired for an hour.
- A disk is full when no byte or no inode is free. The simulation of the disk ends then.
- A ticket is false if the disk never fills, or if the disk is not full within 7 days after
  the ticket stopped firing. On a disk that never fills, the first ticket is not false for
  which less than 10 % were free when it began or within 15 minutes before: someone has to
  look once, and may give the host its own threshold.
- A page is false if the disk never fills. It is also false if 10 % or more were free when it
  began, and 5 % or more for the next 24 hours.
- The lead is the time from the first ticket or page that is not false until the disk is
  full. A page that ended before the last cleanup is ignored. A cleanup frees 5 % of the
  disk within 10 minutes.
- A page repeats every 12 hours while it fires. It also repeats if it fires again on a disk
  that fills, without a cleanup in between.
- A page is possible from the minute on at which less than 20 % are free until the disk is
  full, and either less than 5 % are free or 1 % of the disk was used up within 6 hours. It
  needs samples of 15 minutes from then on, without a gap of 5 minutes.
- A ticket is possible likewise: 40 %, 10 %, and 1 % within a day.
- A disk hovers if it has less than 15 % free, and the ratio changes by less than 2 %.

Goals:
- Each disk that fills in 20 minutes or more has a page before it is full.
- The page comes when it is possible, or at least 3 hours ahead. On a disk that fills in less
  than 2 hours, it comes in the first half of the time in which it is possible. It may be
  later on 5 % of the disks that fill.
- If a disk fills in 2 hours or more, a ticket comes before it is full. It comes 24 hours
  ahead if it is possible 30 hours ahead. It may be later on 5 % of the disks that fill.
- Disks that never fill have at most 3 false pages and 5 false tickets in 10 years of a host,
  or in the whole simulation if that is shorter. False pages on other disks are at most 5 %
  of these.
- There is at most one repeat for each disk that fills.
A disk that fills in less than 20 minutes is counted, but has no goal. The exit code is 1 if
a goal is missed.

With -causes, hosts with and without buildup, and with exporters and engines that are down, are
simulated instead. Each host lists the alerts that must fire, and by when; no other may fire.

With -hosts, all groups of the file are evaluated for N hosts, including annotations, on a
real TSDB with as much history as the rules read. The goal is at most 20 % of an interval
of 1 minute. With -dashboards, Debian's Prometheus has a week of history of these hosts, and
answers each query of Grafana dashboards. The goal for the fleet's is at most 2 s of CPU time
and 2 MB.

`

func main() {
	if err := simulate(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	set         string
	disks, days int
	node        bool
	verbose     bool
	hosts       int
	dashboards  string
	kind        string
	causes      bool
	rules       string
}

func simulate(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	var o options
	flags.StringVar(&o.set, "set", "tuned", "set of disks: tuned, unseen or both")
	flags.IntVar(&o.disks, "disks", 1, "number of disks of each kind")
	flags.IntVar(&o.days, "days", 0, "days to simulate, at least 14, instead of as many as the kind of disk needs")
	flags.StringVar(&o.kind, "kind", "", "simulate only this kind")
	flags.BoolVar(&o.node, "node", false, "expose node_exporter's metrics of the file system instead of the exporter's")
	flags.BoolVar(&o.verbose, "v", false, "print every false alert and every missed goal")
	flags.IntVar(&o.hosts, "hosts", 0, "measure how long an evaluation takes for this number of hosts instead")
	flags.BoolVar(&o.causes, "causes", false, "simulate causes and exporters instead of disks")
	flags.StringVar(&o.dashboards, "dashboards", "", "measure the queries of the dashboards in this folder instead of the rules")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || o.disks < 1 || o.days != 0 && o.days < 14 {
		return fmt.Errorf("one rule file, at least 1 disk, and at least 14 days are required; see -help")
	}
	o.rules = flags.Arg(0)
	if o.causes {
		return simulateCauses(context.Background(), out, o.rules, causeHosts())
	}
	if o.hosts > 0 && o.dashboards != "" {
		return benchDashboards(context.Background(), out, o.rules, o.hosts, o.dashboards)
	}
	if o.hosts > 0 {
		return bench(context.Background(), out, o.rules, o.hosts)
	}
	if o.set != "both" {
		return o.simulateSet(context.Background(), out)
	}
	var errs []error
	for _, o.set = range []string{"tuned", "unseen"} {
		fmt.Fprintf(out, "%s disks\n\n", o.set)
		errs = append(errs, o.simulateSet(context.Background(), out))
		fmt.Fprintln(out)
	}
	return errors.Join(errs...)
}

// simulateSet simulates a set of disks, and returns an error if a goal is missed.
func (o options) simulateSet(ctx context.Context, out io.Writer) error {
	all, err := o.kinds()
	if err != nil {
		return err
	}
	scores, err := o.run(ctx, all)
	if err != nil {
		return err
	}
	printKinds(out, all, scores)
	if o.verbose {
		printMisses(out, scores)
	}
	return printGoals(out, scores)
}

// kinds returns the kinds of disks that are to be simulated.
func (o options) kinds() ([]kind, error) {
	sets := map[string][]kind{"tuned": kinds(), "unseen": unseenKinds()}
	all, ok := sets[o.set]
	if !ok {
		return nil, fmt.Errorf("no set of disks is called %q", o.set)
	}
	if o.kind != "" {
		all = slices.DeleteFunc(all, func(k kind) bool { return k.name != o.kind })
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no kind of disk is called %q", o.kind)
	}
	for i := range all {
		all[i].days = cmp.Or(o.days, all[i].days)
	}
	return all, nil
}

// batch is the number of hosts in one store. It is small to limit the use of memory.
const batch = 14

// A job is one disk to simulate. Its score is stored at index.
type job struct {
	kind          kind
	number, index int
}

// run simulates the disks and returns the score of each, in the order of kinds.
func (o options) run(ctx context.Context, all []kind) ([]score, error) {
	var jobs []job
	for _, k := range all {
		for number := range o.disks {
			jobs = append(jobs, job{k, number, len(jobs)})
		}
	}
	scores := make([]score, len(jobs))
	// A batch has one duration, and the longest begin first.
	slices.SortStableFunc(jobs, func(a, b job) int { return b.kind.days - a.kind.days })
	errs := make(chan error, len(jobs))
	batches := make(chan []job)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for own := range batches {
				if err := o.score(ctx, own, scores); err != nil {
					errs <- err
				}
			}
		})
	}
	for len(jobs) > 0 {
		n := 1
		for n < min(batch, len(jobs)) && jobs[n].kind.days == jobs[0].kind.days {
			n++
		}
		batches <- jobs[:n]
		jobs = jobs[n:]
	}
	close(batches)
	workers.Wait()
	close(errs)
	return scores, <-errs
}

// score simulates disks of the same duration, and stores their scores.
func (o options) score(ctx context.Context, jobs []job, scores []score) error {
	book, err := readBook(o.rules)
	if err != nil {
		return err
	}
	book.keep(func(r *rule) bool { return r.onDisk(book.disk) })
	if err := book.shareRanges(); err != nil {
		return err
	}
	minutes := jobs[0].kind.days * day
	var traces []*trace
	for _, j := range jobs {
		traces = append(traces, j.kind.trace(j.number, minutes))
	}
	r := run{book, scrape(traces, minutes, o.node), newEngine(book.parser)}
	fired, err := r.evaluate(ctx)
	if err != nil {
		return err
	}
	for number, t := range traces {
		s := newScore(t, fired[hostname(number)], book.disk)
		s.trace.release()
		scores[jobs[number].index] = s
	}
	return nil
}

// release drops the measurements that no score needs.
func (t *trace) release() {
	*t = trace{kind: t.kind, fillMinutes: t.fillMinutes, fullAt: t.fullAt, freeRatio: t.freeRatio, cleanups: t.cleanups, watchedFrom: t.watchedFrom}
}

// formatMinutes formats a duration in minutes; a negative one is "none".
func formatMinutes(minutes int) string {
	switch {
	case minutes < 0:
		return "none"
	case minutes < 2*hour:
		return fmt.Sprintf("%dm", minutes)
	case minutes < 2*day:
		return fmt.Sprintf("%dh%02dm", minutes/hour, minutes%hour)
	}
	return fmt.Sprintf("%dd%02dh", minutes/day, minutes%day/hour)
}

// A row summarizes all disks of a kind. Times are in minutes.
type row struct {
	disks, falseTickets, falsePages, repeats int
	ticketLead, pageLead                     int // the minimum
	ticketLate, pageLate                     int // the maximum
	fills                                    bool
}

func (r *row) add(s score) {
	if r.disks == 0 {
		r.ticketLead, r.pageLead = s.ticketLead, s.pageLead
	}
	r.disks++
	r.fills = s.trace.fillMinutes > 0
	r.ticketLead = min(r.ticketLead, s.ticketLead)
	r.pageLead = min(r.pageLead, s.pageLead)
	r.ticketLate = max(r.ticketLate, late(s.wantTicket, s.ticketLead))
	r.pageLate = max(r.pageLate, late(s.wantPage, s.pageLead))
	r.falseTickets += len(s.falseTickets)
	r.falsePages += len(s.falsePages)
	r.repeats += s.repeats
}

func (r *row) print(out io.Writer, name string) {
	lead := func(minutes int) string {
		if !r.fills {
			return "-"
		}
		return formatMinutes(minutes)
	}
	lateness := func(minutes int) string {
		if minutes == 0 {
			return "-"
		}
		return formatMinutes(minutes)
	}
	fmt.Fprintf(out, "%-36s %5d %8s %8s %8s %8s %8d %7d %7d\n", name, r.disks, lead(r.ticketLead), lateness(r.ticketLate), lead(r.pageLead), lateness(r.pageLate), r.falseTickets, r.falsePages, r.repeats)
}

// printKinds prints a row for each kind.
func printKinds(out io.Writer, all []kind, scores []score) {
	rows := map[string]*row{}
	for _, s := range scores {
		k := s.trace.kind
		if rows[k] == nil {
			rows[k] = &row{}
		}
		rows[k].add(s)
	}
	fmt.Fprintf(out, "%-36s %5s %8s %8s %8s %8s %8s %7s %7s\n", "", "", "ticket", "late", "page", "late", "false", "false", "page")
	fmt.Fprintf(out, "%-36s %5s %8s %8s %8s %8s %8s %7s %7s\n", "what the disk does", "disks", "ahead", "by", "ahead", "by", "tickets", "pages", "repeats")
	for _, k := range all {
		rows[k.name].print(out, k.name)
	}
}

// enoughYears is the number of simulated years of hosts that never fill from which on rates
// are computed: with fewer, a single alert would miss the goal.
const enoughYears = 10

// A total sums up the scores of a set.
type total struct {
	fills, silent, latePages, lateTickets, earlyPages, earlyTickets, repeats, again int
	short, shortSilent                                                              int // fill in less than 20 minutes
	quietPages, hoverPages, quietTickets, lowTickets, quietRepeats                  int
	years, quietYears                                                               float64
}

func sumUp(scores []score) total {
	var t total
	for _, s := range scores {
		years := float64(s.trace.minutes()) / (365 * day)
		t.years += years
		switch minutes := s.trace.fillMinutes; {
		case minutes == 0:
			t.quietYears += years
			t.quietTickets += len(s.falseTickets)
			t.lowTickets += s.lowTickets
			t.quietPages += len(s.falsePages)
			t.quietRepeats += s.repeats
			if s.trace.hovers() {
				t.hoverPages += len(s.falsePages)
			}
			continue
		case minutes < shortest:
			t.short++
			t.shortSilent += count(s.pageLead < 0)
		default:
			t.fills++
			t.silent += count(s.pageLead < 0)
		}
		t.latePages += count(late(s.wantPage, s.pageLead) > 0)
		t.lateTickets += count(late(s.wantTicket, s.ticketLead) > 0)
		t.earlyPages += len(s.falsePages)
		t.earlyTickets += len(s.falseTickets)
		t.repeats += s.repeats
		t.again += s.again
	}
	return t
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// printGoals prints what was seen beside the goals, and returns an error if one is missed.
func printGoals(out io.Writer, scores []score) error {
	t := sumUp(scores)
	years := max(t.quietYears, enoughYears)
	fmt.Fprintf(out, "\n%.1f years of hosts, %.1f of them of hosts that never fill; %d disks that fill\n\n", t.years, t.quietYears, t.fills+t.short)
	missed := false
	fmt.Fprintf(out, "%-70s %8s %8s\n", "", "seen", "goal")
	for _, g := range []struct {
		what       string
		seen, goal float64
	}{
		{"disks that fill in 20 minutes or more without a page before", float64(t.silent), 0},
		{"pages later than possible", float64(t.latePages), 0.05 * float64(t.fills)},
		{"tickets later than possible", float64(t.lateTickets), 0.05 * float64(t.fills)},
		{"false pages in 10 years of hosts that never fill", 10 * float64(t.quietPages) / years, 3},
		{"false pages on disks that fill", float64(t.earlyPages), 0.05 * float64(t.fills)},
		{"false tickets in a year of hosts that never fill", float64(t.quietTickets) / years, 0.5},
		{"repeats of pages on disks that fill", float64(t.repeats), float64(t.fills)},
	} {
		mark := ""
		if g.seen > g.goal {
			mark, missed = "  MISSED", true
		}
		fmt.Fprintf(out, "%-70s %8.4g %8.4g%s\n", g.what, g.seen, g.goal, mark)
	}
	fmt.Fprintf(out, "\nwithout a goal:\n")
	fmt.Fprintf(out, "- %d of %d disks that fill in less than 20 minutes had no page before\n", t.shortSilent, t.short)
	fmt.Fprintf(out, "- %d false pages on disks that never fill, %d of them on disks that hover, and %d repeats of these pages\n", t.quietPages, t.hoverPages, t.quietRepeats)
	fmt.Fprintf(out, "- %d false tickets on disks that never fill, and %d first ones of disks with less than 10 %% free, which are not false\n", t.quietTickets, t.lowTickets)
	fmt.Fprintf(out, "- %d false tickets on disks that fill, too early\n", t.earlyTickets)
	fmt.Fprintf(out, "- %d of the repeats on disks that fill are pages that ended and fired again without a cleanup\n", t.again)
	if missed {
		return fmt.Errorf("a goal is missed")
	}
	return nil
}

// printMisses prints each false alert and each missed goal.
func printMisses(out io.Writer, scores []score) {
	number := map[string]int{}
	fmt.Fprintln(out)
	for _, s := range scores {
		t := s.trace
		name := fmt.Sprintf("%s %d", t.kind, number[t.kind])
		number[t.kind]++
		printFalse := func(what string, all []incident) {
			for _, i := range all {
				fmt.Fprintf(out, "%s: false %s at %s for %s, %.1f %% free: %s\n", name, what, at(i.from).Format("Mon 02 15:04"), formatMinutes(i.to-i.from), 100*t.freeRatio[i.from], strings.Join(i.alerts, ", "))
			}
		}
		printFalse("ticket", s.falseTickets)
		printFalse("page", s.falsePages)
		if late(s.wantTicket, s.ticketLead) > 0 {
			fmt.Fprintf(out, "%s: ticket %s ahead, wanted %s; full %s, took %s\n", name, formatMinutes(s.ticketLead), formatMinutes(s.wantTicket), at(t.fullAt).Format("Mon 02 15:04"), formatMinutes(t.fillMinutes))
		}
		if late(s.wantPage, s.pageLead) > 0 {
			fmt.Fprintf(out, "%s: page %s ahead, wanted %s; full %s, took %s\n", name, formatMinutes(s.pageLead), formatMinutes(s.wantPage), at(t.fullAt).Format("Mon 02 15:04"), formatMinutes(t.fillMinutes))
		}
	}
}
