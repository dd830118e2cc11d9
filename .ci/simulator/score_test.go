package main

import (
	"testing"

	"github.com/prometheus/prometheus/model/rulefmt"
)

func TestScore(t *testing.T) {
	ticket := &rule{Rule: rulefmt.Rule{Alert: "T", Labels: map[string]string{"severity": "warning", "resource": "disk"}}}
	page := &rule{Rule: rulefmt.Rule{Alert: "P", Labels: map[string]string{"severity": "critical", "resource": "inodes"}}}
	cause := &rule{Rule: rulefmt.Rule{Alert: "C", Labels: map[string]string{"severity": "warning", "resource": "images"}}}
	level := func(full int) *trace { // half free, then a linear decrease to 0 in the last 2 days
		tr := &trace{fullAt: full, freeRatio: make([]float64, 20*day)}
		for i := range tr.freeRatio {
			tr.freeRatio[i] = 0.5
			if full < 20*day && i > full-2*day {
				tr.freeRatio[i] = max(0, 0.5*float64(full-i)/(2*day))
			}
		}
		if full < 20*day {
			tr.fillMinutes = 2 * day
		}
		return tr
	}
	const full = 12 * day
	for _, c := range []struct {
		name                       string
		trace                      *trace
		fired                      []firing
		falseTickets, falsePages   int
		ticketLead, pageLead       int
		ticketLate, pageLate, cost int
	}{
		{name: "silent and quiet", trace: level(20 * day), ticketLead: -1, pageLead: -1},
		{name: "silent and full", trace: level(full), ticketLead: -1, pageLead: -1, ticketLate: day, pageLate: 3 * hour},
		{name: "false", trace: level(20 * day), fired: []firing{{ticket, day, day + 5}, {page, day, day + 5}}, falseTickets: 1, falsePages: 1, ticketLead: -1, pageLead: -1},
		{name: "resolved within an hour", trace: level(20 * day), fired: []firing{{ticket, 100, 110}, {ticket, 165, 170}, {ticket, 400, 401}}, falseTickets: 2, ticketLead: -1, pageLead: -1},
		{name: "in time", trace: level(full), fired: []firing{{ticket, full - day, full + 9}, {page, full - 180, full + 9}, {cause, 5, 6}}, ticketLead: day, pageLead: 180, cost: 1},
		{name: "late", trace: level(full), fired: []firing{{ticket, full - day + 5, full}, {page, full - 100, full}}, ticketLead: day - 5, pageLead: 100, ticketLate: 5, pageLate: 80},
		{name: "after it was full", trace: level(full), fired: []firing{{page, full + 1, full + 2}}, ticketLead: -1, pageLead: -1, ticketLate: day, pageLate: 180},
		{name: "too early", trace: level(full), fired: []firing{{ticket, day, 2 * day}, {page, full - day - hour, full - day}}, falseTickets: 1, falsePages: 1, ticketLead: -1, pageLead: -1, ticketLate: day, pageLate: 180},
	} {
		s := newScore(c.trace, c.fired, nil)
		if len(s.falseTickets) != c.falseTickets || len(s.falsePages) != c.falsePages || s.ticketLead != c.ticketLead || s.pageLead != c.pageLead || len(s.causes) != c.cost {
			t.Errorf("%s: false tickets %v, false pages %v, leads %d and %d, causes %v", c.name, s.falseTickets, s.falsePages, s.ticketLead, s.pageLead, s.causes)
		}
		if got := late(s.wantTicket, s.ticketLead); got != c.ticketLate {
			t.Errorf("%s: ticket late by %d, want %d", c.name, got, c.ticketLate)
		}
		if got := late(s.wantPage, s.pageLead); got != c.pageLate {
			t.Errorf("%s: page late by %d, want %d", c.name, got, c.pageLate)
		}
	}
}
