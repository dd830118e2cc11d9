package main

import (
	"cmp"
	"slices"
)

const (
	ticketHorizon = week // a ticket is early enough if the disk is full this long after it
	pageHorizon   = day
	pause         = hour // an alert that comes again after less than this is the same one
	lowest        = 0.1  // a disk that fills may page below this share, however slowly it fills
)

// An incident is a ticket or a page, as a person sees it: all alerts of one severity on
// one host, until none has fired for an hour.
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

// A score is how rules did on one trace. Leads are minutes before the disk was full, −1
// without any; late is by how much a goal was missed.
type score struct {
	trace        *trace
	tickets      []incident // of the disk
	pages        []incident
	causes       []incident
	falseTickets []incident
	falsePages   []incident
	ticketLead   int
	pageLead     int
	wantTicket   int // the least lead that is a goal; −1: none is
	wantPage     int
}

func judge(t *trace, fired []firing, measuresDisk map[string]bool) score {
	before := fired[:0:0]
	for _, f := range fired {
		if f.from < t.full {
			f.to = min(f.to, t.full)
			before = append(before, f)
		}
	}
	s := score{
		trace:      t,
		tickets:    incidents(before, func(r *rule) bool { return r.Labels["severity"] == "warning" && r.onDisk(measuresDisk) }),
		pages:      incidents(before, func(r *rule) bool { return pages(r) && r.onDisk(measuresDisk) }),
		causes:     incidents(before, func(r *rule) bool { return r.Labels["severity"] == "warning" && !r.onDisk(measuresDisk) }),
		ticketLead: -1, pageLead: -1, wantTicket: -1, wantPage: -1,
	}
	fills := t.takes > 0
	for _, i := range s.tickets {
		if !fills || t.full-i.to > ticketHorizon {
			s.falseTickets = append(s.falseTickets, i)
		} else if s.ticketLead < 0 {
			s.ticketLead = t.full - i.from
		}
	}
	cleaned := t.cleaned()
	for _, i := range s.pages {
		if !fills || t.full-i.from > pageHorizon && t.share[i.from] >= lowest {
			s.falsePages = append(s.falsePages, i)
		} else if fills && s.pageLead < 0 && i.to >= cleaned {
			s.pageLead = t.full - i.from
		}
	}
	if !fills {
		return s
	}
	s.wantPage = 1
	if t.takes >= 2*hour {
		s.wantTicket = 1
		s.wantPage = max(1, min(3*hour, t.full-t.below(0.2)-15))
		if t.full-t.below(0.4) >= 30*hour {
			s.wantTicket = day
		}
	}
	return s
}

func pages(r *rule) bool { return r.Labels["severity"] == "critical" || r.Labels["severity"] == "page" }

// late is by how many minutes a lead falls short.
func late(want, lead int) int { return max(0, want-max(lead, 0)) }

// below is since when less than a share has been free, at the end, while it was filling.
func (t *trace) below(share float64) int {
	begin := t.full - t.takes
	for i := t.full - 1; i >= begin; i-- {
		if t.share[i] >= share {
			return i + 1
		}
	}
	return begin
}

// cleaned is the last time before it was full that the disk got a twentieth back.
func (t *trace) cleaned() int {
	last := 0
	for _, at := range t.cleanups {
		if at < t.full {
			last = at
		}
	}
	return last
}

// minutes is for how long a trace was watched: until its disk was full.
func (t *trace) minutes() int { return min(t.full, len(t.share)) }
