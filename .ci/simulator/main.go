// Simulator evaluates alert rules on simulated disks.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
)

const usage = `Evaluates alert rules on simulated disks, and compares the alerts with what the disks did.

  .ci/simulate [-disks N] [-days D] [-kind KIND] [-node] [-v] [RULES.yml]
  .ci/simulate -causes [RULES.yml]
  .ci/simulate -hosts N [-dashboards DIR] [RULES.yml]

Every kind of disk is simulated N times for D days. Each host is scraped every minute.
Prometheus' own engine and alerting rules evaluate every rule every minute, or at the
interval of its group. Rules that read ranges of more than 1,000 samples are evaluated
at every 15th of these times. Annotations are not evaluated.

Definitions:
- An alert is about the disk if its label "resource" is disk or inodes. Without this label,
  it is about the disk if it reads a metric of a file system. All other alerts are causes.
- A ticket is an alert with the severity warning. A page has the severity critical or page.
  All alerts of one severity on one host are one incident until none has fired for an hour.
- A disk is full when no byte or no inode is free. The simulation of the disk ends then.
- A ticket is false if the disk never fills, or if the disk is not full within 7 days after
  the ticket stopped firing.
- A page is false if the disk never fills. It is also false if the disk is not full within
  24 hours after the page began and 10 % or more were free when it began.
- The lead is the time from the first ticket or page that is not false until the disk is
  full. A page that ended before the last cleanup is ignored. A cleanup frees 5 % of the
  disk within 10 minutes.

Goals:
- For a disk that fills in 2 hours or more: a ticket and a page before it is full. The lead
  of the page is at least 3 hours, or 15 minutes less than the time from 20 % free to full
  if that is less.
- For a disk that fills in less than 2 hours: a page before it is full.
- For a disk whose last 40 % take 30 hours or more: a ticket 24 hours before it is full.
- No false page. On hosts that never fill, at most one false ticket about the disk in two
  years of a host.
The exit code is 1 if a goal is missed.

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
	flags.IntVar(&o.disks, "disks", 1, "number of disks of each kind")
	flags.IntVar(&o.days, "days", 30, "days to simulate, at least 14")
	flags.StringVar(&o.kind, "kind", "", "simulate only this kind")
	flags.BoolVar(&o.node, "node", false, "expose node_exporter's metrics of the file system instead of the exporter's")
	flags.BoolVar(&o.verbose, "v", false, "print every false alert and every missed goal")
	flags.IntVar(&o.hosts, "hosts", 0, "measure how long an evaluation takes for this number of hosts instead")
	flags.BoolVar(&o.causes, "causes", false, "simulate causes and exporters instead of disks")
	flags.StringVar(&o.dashboards, "dashboards", "", "measure the queries of the dashboards in this folder instead of the rules")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || o.disks < 1 || o.days < 14 {
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
	scores, err := o.run(context.Background())
	if err != nil {
		return err
	}
	return report(out, scores, o)
}

// batch is the number of hosts in one store. It is small to limit the use of memory.
const batch = 14

// run simulates the disks and returns the score of each, in the order of kinds.
func (o options) run(ctx context.Context) ([]score, error) {
	type job struct {
		kind   kind
		number int
	}
	var jobs []job
	for _, k := range kinds() {
		if o.kind != "" && o.kind != k.name {
			continue
		}
		for number := range o.disks {
			jobs = append(jobs, job{k, number})
		}
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("no kind of disk is called %q", o.kind)
	}
	scores := make([]score, len(jobs))
	errs := make(chan error, len(jobs)/batch+1)
	begins := make(chan int)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for begin := range begins {
				own := jobs[begin:min(begin+batch, len(jobs))]
				var traces []*trace
				for _, j := range own {
					traces = append(traces, j.kind.trace(j.number, o.days*day))
				}
				got, err := o.score(ctx, traces)
				if err != nil {
					errs <- err
					continue
				}
				copy(scores[begin:], got)
			}
		})
	}
	for begin := 0; begin < len(jobs); begin += batch {
		begins <- begin
	}
	close(begins)
	workers.Wait()
	close(errs)
	return scores, <-errs
}

func (o options) score(ctx context.Context, traces []*trace) ([]score, error) {
	book, err := readBook(o.rules)
	if err != nil {
		return nil, err
	}
	r := run{book, scrape(traces, o.days*day, o.node), newEngine(book.parser)}
	fired, err := r.evaluate(ctx)
	if err != nil {
		return nil, err
	}
	var scores []score
	for number, t := range traces {
		s := newScore(t, fired[hostname(number)], book.disk)
		s.trace.release()
		scores = append(scores, s)
	}
	return scores, nil
}

// release drops the measurements that no score needs.
func (t *trace) release() {
	*t = trace{kind: t.kind, fillMinutes: t.fillMinutes, fullAt: t.fullAt, freeRatio: t.freeRatio, cleanups: t.cleanups}
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
	disks, falseTickets, falsePages, causes int
	ticketLead, pageLead                    int // the minimum
	ticketLate, pageLate                    int // the maximum
	fills                                   bool
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
	r.causes += len(s.causes)
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
	fmt.Fprintf(out, "%-28s %5d %9s %9s %9s %9s %8d %8d %8d\n", name, r.disks, lead(r.ticketLead), lateness(r.ticketLate), lead(r.pageLead), lateness(r.pageLate), r.falseTickets, r.falsePages, r.causes)
}

// enoughYears is the number of simulated years of hosts that never fill from which on the goal
// for false tickets applies.
const enoughYears = 10

// report prints the results, and returns an error if a goal is missed.
func report(out io.Writer, scores []score, o options) error {
	rows := map[string]*row{}
	var quietTickets, quietPages, falsePages, earlyTickets, lateTickets, latePages int
	var quietMinutes, minutes, causes int
	for _, s := range scores {
		k := s.trace.kind
		if rows[k] == nil {
			rows[k] = &row{}
		}
		rows[k].add(s)
		minutes += s.trace.minutes()
		causes += len(s.causes)
		falsePages += len(s.falsePages)
		if s.trace.fillMinutes == 0 {
			quietMinutes += s.trace.minutes()
			quietTickets += len(s.falseTickets)
			quietPages += len(s.falsePages)
		} else {
			earlyTickets += len(s.falseTickets)
		}
		if late(s.wantTicket, s.ticketLead) > 0 {
			lateTickets++
		}
		if late(s.wantPage, s.pageLead) > 0 {
			latePages++
		}
	}
	fmt.Fprintf(out, "%-28s %5s %9s %9s %9s %9s %8s %8s %8s\n", "", "", "ticket", "late", "page", "late", "false", "false", "cause")
	fmt.Fprintf(out, "%-28s %5s %9s %9s %9s %9s %8s %8s %8s\n", "what the disk does", "disks", "ahead", "by", "ahead", "by", "tickets", "pages", "tickets")
	for _, k := range kinds() {
		if rows[k.name] != nil {
			rows[k.name].print(out, k.name)
		}
	}
	if o.verbose {
		printMisses(out, scores)
	}
	allYears, years := float64(minutes)/(365*day), float64(quietMinutes)/(365*day)
	fmt.Fprintf(out, "\n%.1f years of hosts, %.1f of them of hosts that never fill\n", allYears, years)
	fmt.Fprintf(out, "late tickets: %d (goal 0), late pages: %d (goal 0)\n", lateTickets, latePages)
	fmt.Fprintf(out, "false pages: %d (goal 0), %d of them on disks that never fill\n", falsePages, quietPages)
	fmt.Fprintf(out, "false tickets: %d on disks that never fill (goal %.0f: one in two years, of at least %d); %d on disks that fill, too early\n",
		quietTickets, math.Floor(years/2), enoughYears, earlyTickets)
	fmt.Fprintf(out, "tickets for causes: %d, %.1f a year of a host\n", causes, float64(causes)/allYears)
	hasTooMany := years >= enoughYears && float64(quietTickets) > years/2
	if lateTickets+latePages > 0 || falsePages > 0 || hasTooMany {
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
