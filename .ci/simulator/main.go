// Simulator runs alert rules over disks that do what real disks do.
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

const usage = `Runs alert rules over simulated disks, and tells when they spoke and whether rightly.

  .ci/simulate [-disks N] [-days D] [-kind KIND] [-node] [-v] [RULES.yml]
  .ci/simulate -hosts N [RULES.yml]

Every kind of disk is simulated N times for D days. Each host is scraped every minute,
and every rule is evaluated every minute or as its group says, by Prometheus' own engine
and alerting rules. What looks at more than 1,000 samples at once is evaluated
every 15 minutes. Annotations are not evaluated.

What counts:
- An alert is of the disk if its label "resource" says disk or inodes; without that label,
  if it reads a metric of a file system. All others are causes.
- A ticket has the severity warning, a page critical or page. All of one severity
  on one host are one incident, until none has fired for an hour.
- A disk is full when no byte or no inode is left. Then its trace ends.
- A ticket is false on a disk that never fills, and where the disk is not full within
  7 days after it stopped firing.
- A page is false on a disk that never fills, and on one that is neither full within
  24 hours after the page began nor had less than 10 % free then.
- The lead is the time from the first ticket or page that is not false until the disk is
  full. A page that ended before the last cleanup (5 % of the disk within 10 minutes) does
  not count for it.

Goals:
- A disk that takes 2 hours or more to fill: a ticket before, and a page before, by 3 hours
  or the time from 20 % free to full less 15 minutes, whichever is less.
- A disk that takes less: a page before.
- A disk whose last 40 % take 30 hours or more: a ticket 24 hours before.
- No false page, and at most half a false ticket of the disk in a year of a host
  that never fills.
Exit code 1 if one is missed.

With -hosts all groups of the file, annotations and all, are evaluated for so many hosts on
a real TSDB that holds as much history as they read. Goal: 20 % of an interval of 1 minute.

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
	kind        string
	rules       string
}

func simulate(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	var o options
	flags.IntVar(&o.disks, "disks", 1, "how many of each kind")
	flags.IntVar(&o.days, "days", 30, "how long each is watched; at least 14")
	flags.StringVar(&o.kind, "kind", "", "only this kind")
	flags.BoolVar(&o.node, "node", false, "tell node_exporter's metrics instead of ours")
	flags.BoolVar(&o.verbose, "v", false, "tell every false alert and every missed goal")
	flags.IntVar(&o.hosts, "hosts", 0, "instead, how long one evaluation takes for so many hosts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || o.disks < 1 || o.days < 14 {
		return fmt.Errorf("want one rule file, at least 1 disk and 14 days; -help tells more")
	}
	o.rules = flags.Arg(0)
	if o.hosts > 0 {
		return bench(context.Background(), out, o.rules, o.hosts)
	}
	scores, err := o.run(context.Background())
	if err != nil {
		return err
	}
	return report(out, scores, o)
}

// batch is how many hosts one memory holds. Small, so that little is in memory at once.
const batch = 14

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
				mine := jobs[begin:min(begin+batch, len(jobs))]
				var traces []*trace
				for _, j := range mine {
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
		s := judge(t, fired[hostname(number)], book.disk)
		s.trace.forget()
		scores = append(scores, s)
	}
	return scores, nil
}

// forget drops what no score needs.
func (t *trace) forget() {
	*t = trace{kind: t.kind, takes: t.takes, full: t.full, share: t.share, cleanups: t.cleanups}
}

func lasts(minutes int) string {
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

// A row is what is told of all disks of a kind.
type row struct {
	disks, falseTickets, falsePages, causes int
	ticketLead, pageLead                    int // the shortest
	ticketLate, pageLate                    int // the most
	fills                                   bool
}

func (r *row) add(s score) {
	if r.disks == 0 {
		r.ticketLead, r.pageLead = s.ticketLead, s.pageLead
	}
	r.disks++
	r.fills = s.trace.takes > 0
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
		return lasts(minutes)
	}
	lateness := func(minutes int) string {
		if minutes == 0 {
			return "-"
		}
		return lasts(minutes)
	}
	fmt.Fprintf(out, "%-28s %5d %9s %9s %9s %9s %8d %8d %8d\n", name, r.disks, lead(r.ticketLead), lateness(r.ticketLate), lead(r.pageLead), lateness(r.pageLate), r.falseTickets, r.falsePages, r.causes)
}

// enoughYears of hosts that never fill say how often one of them makes a false ticket.
const enoughYears = 10

// report prints the table, and is an error if a goal is missed.
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
		if s.trace.takes == 0 {
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
		tellAll(out, scores)
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

// tellAll names each false alert and each missed goal.
func tellAll(out io.Writer, scores []score) {
	number := map[string]int{}
	fmt.Fprintln(out)
	for _, s := range scores {
		t := s.trace
		name := fmt.Sprintf("%s %d", t.kind, number[t.kind])
		number[t.kind]++
		tell := func(what string, all []incident) {
			for _, i := range all {
				fmt.Fprintf(out, "%s: false %s at %s for %s, %.1f %% free: %s\n", name, what, at(i.from).Format("Mon 02 15:04"), lasts(i.to-i.from), 100*t.share[i.from], strings.Join(i.alerts, ", "))
			}
		}
		tell("ticket", s.falseTickets)
		tell("page", s.falsePages)
		if late(s.wantTicket, s.ticketLead) > 0 {
			fmt.Fprintf(out, "%s: ticket %s ahead, wanted %s; full %s, took %s\n", name, lasts(s.ticketLead), lasts(s.wantTicket), at(t.full).Format("Mon 02 15:04"), lasts(t.takes))
		}
		if late(s.wantPage, s.pageLead) > 0 {
			fmt.Fprintf(out, "%s: page %s ahead, wanted %s; full %s, took %s\n", name, lasts(s.pageLead), lasts(s.wantPage), at(t.full).Format("Mon 02 15:04"), lasts(t.takes))
		}
	}
}
