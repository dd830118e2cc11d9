package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func example() options {
	return parse([]string{"-packages", "./testdata/example", "-equivalent", "testdata/equivalent.txt", "-n", "100", "-timeout", "2s", "-max-survivors", "2"})
}

func TestRun(t *testing.T) {
	const file = "testdata/example/example.go"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o := example()
	o.maxSurvivors = 1
	var out strings.Builder
	err = run(t.Context(), o, &out)
	if err == nil || err.Error() != "2 mutants survived, at most 1 may" {
		t.Error(err)
	}
	if after, _ := os.ReadFile(file); string(after) != string(before) {
		t.Error("the mutated file was written")
	}
	want := []string{
		":9: Admit: 18 → 19 in `return age >= 18`: killed by TestAdmit",
		":9: Admit: >= → < in `return age >= 18`: killed by TestAdmit",
		":9: Admit: >= → > in `return age >= 18`: killed by TestAdmit",
		":14: Warm: 20 → 21 in `return degrees > 20`: survived",
		":14: Warm: > → <= in `return degrees > 20`: killed by TestWarm",
		":14: Warm: > → >= in `return degrees > 20`: survived",
		":19: Larger: > → <= in `if a > b {`: killed by TestLarger",
		":19: Larger: > → >= in `if a > b {`: equivalent",
		":19: Larger: condition → false in `if a > b {`: killed by TestLarger",
		":27: Halvings: 1 → 2 in `for n > 1 {`: killed by TestHalvings",
		":27: Halvings: > → <= in `for n > 1 {`: killed by TestHalvings",
		":27: Halvings: > → >= in `for n > 1 {`: killed by TestHalvings",
		":28: Halvings: 2 → 3 in `n /= 2`: killed by TestHalvings",
		":28: Halvings: drop statement in `n /= 2`: timeout in TestHalvings",
		":29: Halvings: drop statement in `count++`: killed by TestHalvings",
	}
	slices.Sort(want)
	lines := regexp.MustCompile(`(?m)^\d+/100 testdata/example/example\.go(.*)$`)
	var got []string
	for _, match := range lines.FindAllStringSubmatch(out.String(), -1) {
		got = append(got, match[1])
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if want := "15 of 16 possible mutants: 11 killed, 1 timeout, 1 equivalent, 2 survived. 1 did not compile."; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}
}

// Mutants that do not compile are replaced, so that n mutants are tested.
func TestRunReplacesInvalid(t *testing.T) {
	o := example()
	o.n = 15
	var out strings.Builder
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "15/15 ") {
		t.Error(out.String())
	}
}

func TestRunNeedsPassingTests(t *testing.T) {
	o := example()
	o.packages, o.timeout = "./testdata/endless", 50*time.Millisecond
	err := run(t.Context(), o, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "testdata/endless without a mutation: timeout") {
		t.Error(err)
	}
}

// 300 ms are less than three times what it takes to build and run the tests, and more than
// the tests of the example take.
func TestRunWarnsOfShortTimeout(t *testing.T) {
	o := example()
	o.n = 0
	for timeout, want := range map[time.Duration]bool{300 * time.Millisecond: true, time.Hour: false} {
		o.timeout = timeout
		var out strings.Builder
		if err := run(t.Context(), o, &out); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "Warning"); got != want {
			t.Errorf("timeout %s: warned: %v, want %v", timeout, got, want)
		}
	}
}

func TestShuffle(t *testing.T) {
	var sorted []mutant
	for i := range 20 {
		sorted = append(sorted, mutant{file: fmt.Sprint("file", i%2), from: i / 2})
	}
	reversed := slices.Clone(sorted)
	slices.Reverse(reversed)
	one, same, other := slices.Clone(sorted), reversed, slices.Clone(sorted)
	shuffle(one, 1)
	shuffle(same, 1)
	shuffle(other, 2)
	if !slices.Equal(one, same) || slices.Equal(one, other) {
		t.Errorf("the order must depend on the seed only:\n%v\n%v\n%v", one, same, other)
	}
}

func TestReadEquivalent(t *testing.T) {
	pool := []mutant{{file: "a.go", function: "F", text: "drop ! in `!x`"}}
	for _, c := range []struct{ content, err string }{
		{"", ""},
		{"# Reason.\na.go: F: drop ! in `!x`\n", ""},
		{"# Reason.\nb.go: F: drop ! in `!y`\n", ""},
		{"a.go: F: drop ! in `!x`\n", ":1: no reason in a comment above"},
		{"# Reason.\n\na.go: F: drop ! in `!x`\n", ":3: no reason in a comment above"},
		{"# Reason.\na.go: F: drop ! in `!y`\n", ":2: no such mutant"},
	} {
		file := filepath.Join(t.TempDir(), "equivalent.txt")
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		listed, err := readEquivalent(file, pool)
		if (err == nil) != (c.err == "") || err != nil && err.Error() != file+c.err {
			t.Errorf("%q: %v", c.content, err)
		}
		if want := c.err == "" && strings.Contains(c.content, "a.go"); listed[pool[0].key()] != want {
			t.Errorf("%q: listed: %v", c.content, !want)
		}
	}
}
