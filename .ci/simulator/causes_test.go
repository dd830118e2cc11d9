package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/rulefmt"
)

// TestJudge checks that a missed, late, early, repeated, unexpected, or lasting alert is found.
func TestJudge(t *testing.T) {
	fired := func(alert string, spans ...span) (all []firing) {
		for _, s := range spans {
			all = append(all, firing{&rule{Rule: rulefmt.Rule{Alert: alert}}, s.from, s.to})
		}
		return all
	}
	want := expected{alert: "A", from: 100, by: 110, until: 1000}
	for name, c := range map[string]struct {
		fired         []firing
		missed, wrong string
	}{
		"right":      {fired("A", span{100, 500}, span{520, 1000}), "", ""},
		"missed":     {nil, "A", ""},
		"late":       {fired("A", span{111, 1000}), "A at 111m, not by 110m", ""},
		"early":      {fired("A", span{99, 1000}), "", "A from 99m to 16h40m, 1 times"},
		"repeated":   {fired("A", span{100, 200}, span{300, 400}), "", "A from 100m to 6h40m, 2 times"},
		"lasting":    {fired("A", span{100, 1001}), "", "A from 100m to 16h41m, 1 times"},
		"unexpected": {slices.Concat(fired("A", span{100, 200}), fired("B", span{5, 6})), "", "B at 5m, 1 times"},
	} {
		missed, wrong, _ := causeHost{fires: []expected{want}}.judge(c.fired)
		if got := strings.Join(missed, ","); got != c.missed {
			t.Errorf("%s: missed %q, want %q", name, got, c.missed)
		}
		if got := strings.Join(wrong, ","); got != c.wrong {
			t.Errorf("%s: false %q, want %q", name, got, c.wrong)
		}
	}
}

// TestCauseHosts checks that each alert that is simulated must fire on a host, that the hosts' names differ,
// and that hosts change only series that exist.
func TestCauseHosts(t *testing.T) {
	fires, names := map[string]bool{}, map[string]bool{}
	for _, h := range causeHosts() {
		if names[h.name] {
			t.Errorf("two hosts are called %q", h.name)
		}
		names[h.name] = true
		for _, e := range h.fires {
			fires[e.alert] = true
		}
		for series := range h.page {
			if _, ok := quietPage()[series]; !ok && !strings.Contains(series, "prune") {
				t.Errorf("%s: no other host has %s", h.name, series)
			}
		}
	}
	for _, r := range readRules(t) {
		if r.Alert != "" && !onDisk.MatchString(r.Alert) && !fires[r.Alert] {
			t.Errorf("%s fires on no host", r.Alert)
		}
	}
}
