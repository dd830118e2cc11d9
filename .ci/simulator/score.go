package main

import (
	"cmp"
	"slices"
)

const (
	ticketHorizon = week      // a ticket is false if the disk is not full this long after it stopped firing
	pageHorizon   = day       // a page is false if the disk is not nearly full this long after it began
	pause         = hour      // an alert that fires again within this time belongs to the same incident
	repeat        = 12 * hour // a page that fires is sent again after this time: repeat_interval in alertmanager.yml
	shortest      = 20        // a disk that fills in fewer minutes is not scored with the others
	lowest        = 0.1       // below this free ratio, no page on a disk that fills is false, nor the first ticket on another
	nearlyFull    = 0.05      // below this free ratio, a page is possible although the disk stands still
	needsSamples  = 15        // minutes of samples that an alert may need
)

// An incident is a ticket or a page: all alerts of one severity on one host, until none of
// them has fired for an hour. Times are in minutes.
type incident struct {
	from, to int
	alerts   []string
}

func incidents(all []firing, pass func(*rule) bool) []incident {
	var fired []firing
	for _, f := range all {
		if pass(f.rule) {
			fired = append(fired, f)
		}
	}
	slices.SortFunc(fired, func(a, b firing) int { return cmp.Or(a.from-b.from, cmp.Compare(a.rule.name(), b.rule.name())) })
	var out []incident
	for _, f := range fired {
		if n := len(out); n > 0 && f.from <= out[n-1].to+pause {
			last := &out[n-1]
			last.to = max(last.to, f.to)
			if !slices.Contains(last.alerts, f.rule.name()) {
				last.alerts = append(last.alerts, f.rule.name())
			}
			continue
		}
		out = append(out, incident{f.from, f.to, []string{f.rule.name()}})
	}
	return out
}

// A score is the result of the rules on one trace. Leads are in minutes before the disk was
// full; −1 without a ticket or page.
type score struct {
	trace        *trace
	tickets      []incident // about the disk
	pages        []incident
	falseTickets []incident
	falsePages   []incident
	lowTickets   int // the first ticket because of little free, on a disk that never fills
	repeats      int // of pages
	again        int // repeats that are pages which ended and fired again
	ticketLead   int
	pageLead     int
	wantTicket   int // the minimum lead by the goals; −1: no goal
	wantPage     int
}

// newScore applies the definitions and goals of usage to the alerts that fired on a trace.
func newScore(t *trace, fired []firing, measuresDisk map[string]bool) score {
	before := fired[:0:0]
	for _, f := range fired {
		if f.from < t.fullAt {
			f.to = min(f.to, t.fullAt)
			before = append(before, f)
		}
	}
	s := score{
		trace:      t,
		tickets:    incidents(before, func(r *rule) bool { return r.Labels["severity"] == "warning" && r.onDisk(measuresDisk) }),
		pages:      incidents(before, func(r *rule) bool { return isPage(r) && r.onDisk(measuresDisk) }),
		ticketLead: -1, pageLead: -1, wantTicket: -1, wantPage: -1,
	}
	fills := t.fillMinutes > 0
	for _, i := range s.tickets {
		if !fills && s.lowTickets == 0 && t.lowest(i.from-needsSamples, i.from) < lowest {
			s.lowTickets++
		} else if !fills || t.fullAt-i.to > ticketHorizon {
			s.falseTickets = append(s.falseTickets, i)
		} else if s.ticketLead < 0 {
			s.ticketLead = t.fullAt - i.from
		}
	}
	lastCleanup := t.lastCleanup(t.fullAt)
	previous := -1 // when the last page began that was not false
	for _, i := range s.pages {
		s.repeats += (i.to - i.from) / repeat
		if t.isFalsePage(i) {
			s.falsePages = append(s.falsePages, i)
			continue
		}
		if previous >= 0 && t.lastCleanup(i.from) <= previous {
			s.repeats++
			s.again++
		}
		previous = i.from
		if s.pageLead < 0 && i.to >= lastCleanup {
			s.pageLead = t.fullAt - i.from
		}
	}
	possible := t.fullAt - t.possible(0.2, nearlyFull, 6*hour)
	if t.fillMinutes >= shortest {
		s.wantPage = max(1, possible/2)
	}
	if t.fillMinutes >= 2*hour {
		s.wantTicket, s.wantPage = 1, max(1, min(3*hour, possible))
		if t.fullAt-t.possible(0.4, lowest, day) >= 30*hour {
			s.wantTicket = day
		}
	}
	return s
}

// isFalsePage returns whether no one had to be woken.
func (t *trace) isFalsePage(page incident) bool {
	if t.fillMinutes == 0 {
		return true
	}
	soon := t.freeRatio[page.from:min(page.from+pageHorizon, len(t.freeRatio))]
	return soon[0] >= lowest && slices.Min(soon) >= nearlyFull
}

// lowest returns the lowest free ratio of the disks of the host, from one minute to another.
func (t *trace) lowest(from, to int) float64 {
	free := slices.Min(t.freeRatio[max(0, from) : to+1])
	if t.other != nil {
		free = min(free, t.other.lowest(from, to))
	}
	return free
}

// isPage returns whether a rule has the severity of a page.
func isPage(r *rule) bool {
	return r.Labels["severity"] == "critical" || r.Labels["severity"] == "page"
}

// late returns by how many minutes a lead is too short.
func late(want, lead int) int { return max(0, want-max(lead, 0)) }

// below returns the minute from which on the free ratio stayed below share until the disk was
// full, but not before it began to fill.
func (t *trace) below(share float64) int {
	begin := t.fullAt - t.fillMinutes
	for i := t.fullAt - 1; i >= begin; i-- {
		if t.freeRatio[i] >= share {
			return i + 1
		}
	}
	return begin
}

// possible returns the first minute at which an alert could have announced that the disk fills.
// The free ratio stays below share, and has decreased by 1 % of the disk within a window of
// minutes or is below low. An alert then needs samples, without a gap of 5 minutes.
func (t *trace) possible(share, low float64, window int) int {
	begin := t.below(share)
	for i := t.fullAt - 1; i > begin; i-- {
		if t.freeRatio[i] >= low && t.freeRatio[max(0, i-window)]-t.freeRatio[i] < 0.01 {
			begin = i
		}
	}
	seen, lost := 0, 0
	for i := begin; i < t.fullAt; i++ {
		if t.up[i] {
			seen, lost = seen+1, 0
		} else if lost++; lost >= 5 {
			seen = 0
		}
		if seen == needsSamples {
			return i + 1
		}
	}
	return t.fullAt
}

// hovers returns whether a disk that never fills has little free and always about as much.
func (t *trace) hovers() bool {
	most := slices.Max(t.freeRatio)
	return t.fillMinutes == 0 && most < 0.15 && most-slices.Min(t.freeRatio) < 0.02
}

// lastCleanup returns the minute of the last cleanup before a minute; 0 without one.
func (t *trace) lastCleanup(before int) int {
	last := 0
	for _, at := range t.cleanups {
		if at < before {
			last = at
		}
	}
	return last
}

// minutes returns how long the disk was simulated. The simulation of a disk ends when it is full.
func (t *trace) minutes() int { return min(t.fullAt, len(t.freeRatio)) - t.watchedFrom }
