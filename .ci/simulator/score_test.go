package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"go.yaml.in/yaml/v2"
)

func TestScore(t *testing.T) {
	ticket := &rule{Rule: rulefmt.Rule{Alert: "T", Labels: map[string]string{"severity": "warning", "resource": "disk"}}}
	page := &rule{Rule: rulefmt.Rule{Alert: "P", Labels: map[string]string{"severity": "critical", "resource": "inodes"}}}
	cause := &rule{Rule: rulefmt.Rule{Alert: "C", Labels: map[string]string{"severity": "warning", "resource": "images"}}}
	level := func(full int) *trace { // half free, then a linear decrease to 0 in the last 2 days
		tr := &trace{fullAt: full, freeRatio: make([]float64, 20*day), up: slices.Repeat([]bool{true}, 20*day)}
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
	low := level(20 * day)
	low.freeRatio = slices.Repeat([]float64{0.09}, 20*day)
	dip := level(20 * day) // below the level of a ticket for some minutes of the second day
	copy(dip.freeRatio[2*day-20:], slices.Repeat([]float64{0.09}, 10))
	const full = 12 * day
	for _, c := range []struct {
		name                     string
		trace                    *trace
		fired                    []firing
		falseTickets, falsePages int
		ticketLead, pageLead     int
		ticketLate, pageLate     int
		repeats, lowTickets      int
	}{
		{name: "silent and quiet", trace: level(20 * day), ticketLead: -1, pageLead: -1},
		{name: "silent and full", trace: level(full), ticketLead: -1, pageLead: -1, ticketLate: day, pageLate: 3 * hour},
		{name: "false", trace: level(20 * day), fired: []firing{{ticket, day, day + 5}, {page, day, day + 5}}, falseTickets: 1, falsePages: 1, ticketLead: -1, pageLead: -1},
		{name: "little is free for good", trace: low, fired: []firing{{ticket, day, 2 * day}, {ticket, 3 * day, 4 * day}}, falseTickets: 1, ticketLead: -1, pageLead: -1, lowTickets: 1},
		{name: "little was free", trace: dip, fired: []firing{{ticket, 2 * day, 3 * day}}, ticketLead: -1, pageLead: -1, lowTickets: 1},
		{name: "little was free long ago", trace: dip, fired: []firing{{ticket, 2*day + 6, 3 * day}}, falseTickets: 1, ticketLead: -1, pageLead: -1},
		{name: "little was free later", trace: dip, fired: []firing{{ticket, hour, 2 * hour}, {ticket, 2 * day, 3 * day}}, falseTickets: 1, ticketLead: -1, pageLead: -1, lowTickets: 1},
		{name: "resolved within an hour", trace: level(20 * day), fired: []firing{{ticket, 100, 110}, {ticket, 165, 170}, {ticket, 400, 401}}, falseTickets: 2, ticketLead: -1, pageLead: -1},
		{name: "in time", trace: level(full), fired: []firing{{ticket, full - day, full + 9}, {page, full - 180, full + 9}, {cause, 5, 6}}, ticketLead: day, pageLead: 180},
		{name: "late", trace: level(full), fired: []firing{{ticket, full - day + 5, full}, {page, full - 100, full}}, ticketLead: day - 5, pageLead: 100, ticketLate: 5, pageLate: 80},
		{name: "after it was full", trace: level(full), fired: []firing{{page, full + 1, full + 2}}, ticketLead: -1, pageLead: -1, ticketLate: day, pageLate: 180},
		{name: "too early", trace: level(full), fired: []firing{{ticket, day, 2 * day}, {page, full - day - 6*hour, full - day - 5*hour}}, falseTickets: 1, falsePages: 1, ticketLead: -1, pageLead: -1, ticketLate: day, pageLate: 180},
		{name: "too early, but little is free", trace: level(full), fired: []firing{{page, full - 9*hour, full - 8*hour}}, ticketLead: -1, pageLead: 9 * hour, ticketLate: day},
		{name: "repeated", trace: level(full), fired: []firing{{page, full - 25*hour, full}}, ticketLead: -1, pageLead: 25 * hour, ticketLate: day, repeats: 2},
		{name: "flaps", trace: level(full), fired: []firing{{page, full - 9*hour, full - 8*hour}, {page, full - 3*hour, full}}, ticketLead: -1, pageLead: 9 * hour, ticketLate: day, repeats: 1},
	} {
		s := newScore(c.trace, c.fired, nil)
		if len(s.falseTickets) != c.falseTickets || len(s.falsePages) != c.falsePages || s.ticketLead != c.ticketLead || s.pageLead != c.pageLead || s.repeats != c.repeats || s.lowTickets != c.lowTickets {
			t.Errorf("%s: false tickets %v, false pages %v, leads %d and %d, repeats %d", c.name, s.falseTickets, s.falsePages, s.ticketLead, s.pageLead, s.repeats)
		}
		if got := late(s.wantTicket, s.ticketLead); got != c.ticketLate {
			t.Errorf("%s: ticket late by %d, want %d", c.name, got, c.ticketLate)
		}
		if got := late(s.wantPage, s.pageLead); got != c.pageLate {
			t.Errorf("%s: page late by %d, want %d", c.name, got, c.pageLate)
		}
	}
}

// TestPossible checks when a page could have announced that a disk fills.
func TestPossible(t *testing.T) {
	const full = 3 * day
	for _, c := range []struct {
		name string
		free func(left int) float64 // by minutes until the disk is full
		lost span                   // by minutes until the disk is full
		want int                    // minutes until the disk is full
	}{
		{name: "steady", free: func(left int) float64 { return float64(left) / day }, want: day/5 - 15},
		{name: "a jump from a plateau", free: func(left int) float64 { return min(0.15, float64(left)/400) }, want: 60 - 4 - 15},
		{name: "a plateau at 4 %", free: func(left int) float64 { return min(0.04, float64(left)/400) }, want: full - 15},
		{name: "slow", free: func(left int) float64 { return float64(left) / (40 * day) }, want: 2*day - 15},
		{name: "not scraped until 30 minutes before", free: func(left int) float64 { return float64(left) / day }, lost: span{full, 30}, want: 15},
		{name: "not scraped in the last 30 minutes", free: func(left int) float64 { return float64(left) / day }, lost: span{30, 0}, want: day/5 - 15},
		{name: "every third scrape is lost", free: func(left int) float64 { return float64(left) / day }, lost: span{-3, 0}, want: day/5 - 22},
	} {
		tr := &trace{fullAt: full, fillMinutes: full}
		for i := range full {
			left := full - i
			tr.freeRatio = append(tr.freeRatio, c.free(left))
			tr.up = append(tr.up, left > c.lost.from || left <= c.lost.to)
			if c.lost.from < 0 {
				tr.up[i] = i%3 > 0
			}
		}
		if got := full - tr.possible(0.2, 0.05, 6*hour); got != c.want && got != c.want+1 && got != c.want-1 {
			t.Errorf("%s: possible %d minutes before, want %d", c.name, got, c.want)
		}
	}
}

// TestGoals checks that each goal can be met and missed.
func TestGoals(t *testing.T) {
	page := incident{from: 5, to: 6}
	fill := func(s score) score {
		s.trace = &trace{fillMinutes: day, fullAt: 20 * day, freeRatio: make([]float64, 20*day)}
		return s
	}
	quiet := func(s score) score {
		s.trace = &trace{fullAt: 365 * day, freeRatio: make([]float64, 365*day)}
		return s
	}
	good := fill(score{ticketLead: day, pageLead: 3 * hour, wantTicket: day, wantPage: 3 * hour, repeats: 1})
	for _, c := range []struct {
		missed string
		scores []score
	}{
		{"", []score{good, quiet(score{falsePages: make([]incident, 3), falseTickets: make([]incident, 5)})}},
		{"without a page before", []score{fill(score{pageLead: -1})}},
		{"", append(slices.Repeat([]score{good}, 19), fill(score{pageLead: 9, wantPage: 10}))},
		{"pages later", append(slices.Repeat([]score{good}, 18), fill(score{pageLead: 9, wantPage: 10}))},
		{"tickets later", []score{fill(score{wantTicket: 1, ticketLead: -1})}},
		{"false pages in 10 years", []score{quiet(score{falsePages: make([]incident, 4)})}},
		{"false tickets", []score{quiet(score{falseTickets: make([]incident, 6)})}},
		{"false pages on disks that fill", []score{fill(score{falsePages: []incident{page}})}},
		{"repeats", []score{fill(score{repeats: 2})}},
	} {
		var out bytes.Buffer
		err := printGoals(&out, c.scores)
		var missed []string
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, "MISSED") {
				missed = append(missed, line)
			}
		}
		if (err != nil) != (c.missed != "") || len(missed) > 1 || err != nil && !strings.Contains(missed[0], c.missed) {
			t.Errorf("missed %q, want %q", missed, c.missed)
		}
	}
}

// A page repeats as often as the example for Alertmanager repeats it.
func TestRepeatIsThatOfAlertmanager(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(alertsDir, "alertmanager.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var configuration struct {
		Route struct {
			Routes []struct {
				Routes []struct {
					Matchers       []string
					RepeatInterval model.Duration `yaml:"repeat_interval"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &configuration); err != nil {
		t.Fatal(err)
	}
	for _, route := range configuration.Route.Routes[0].Routes {
		if slices.Contains(route.Matchers, `severity="critical"`) {
			if got := time.Duration(route.RepeatInterval); got != repeat*time.Minute {
				t.Errorf("pages repeat after %s, and in the simulation after %d minutes", got, repeat)
			}
			return
		}
	}
	t.Error("no route for pages")
}
