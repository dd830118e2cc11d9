package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each case is the body of a function and what its mutants make of it.
func TestFind(t *testing.T) {
	for _, c := range []struct {
		body string
		want []string
	}{
		{"return a == b", []string{"return a != b"}},
		{"return a != b", []string{"return a == b"}},
		{"return a < b", []string{"return a <= b", "return a >= b"}},
		{"return a <= b", []string{"return a < b", "return a > b"}},
		{"return a > b", []string{"return a >= b", "return a <= b"}},
		{"return a >= b", []string{"return a > b", "return a < b"}},
		{"return a + b - c", nil},
		{"return a && b || !c", []string{"return a && b && !c", "return a || b || !c", "return a && b || c"}},
		{"return 9, 0x10, 1.5, `1`", []string{"return 10, 0x10, 1.5, `1`", "return 9, 17, 1.5, `1`"}},
		{"if a { return }", []string{"if false && (a) { return }", "if !(a) { return }"}},
		{"if !a { return }", []string{"if false && (!a) { return }", "if a { return }"}},
		{"if a == b { return }", []string{"if false && (a == b) { return }", "if a != b { return }"}},
		{"if a && b { return }", []string{"if false && (a && b) { return }", "if !(a && b) { return }", "if a || b { return }"}},
		{"switch { case a, !b: return; default: return }", []string{
			"switch { case false && (a), !b: return; default: return }",
			"switch { case !(a), !b: return; default: return }",
			"switch { case a, false && (!b): return; default: return }",
			"switch { case a, b: return; default: return }",
			"switch { case a, !b: return;  }",
		}},
		{"switch a {\ncase b, c: return\ncase d: return\n}", []string{
			"switch a {\n\ncase d: return\n}",
			"switch a {\ncase b, c: return\n\n}",
		}},
		{"switch a.(type) { case b: return }", []string{"switch a.(type) {  }"}},
		{"select {\ncase <-a: return\ncase b <- c: return\n}", []string{
			"select {\n\ncase b <- c: return\n}",
			"select {\ncase <-a: return\n\n}",
		}},
		{"a(); b.c(d)", []string{"; b.c(d)", "a(); "}},
		{"a = b; c += d; e := f; g++", []string{
			"; c += d; e := f; g++",
			"a = b; ; e := f; g++",
			"a = b; c += d; e := f; ",
		}},
		{"for { break }", []string{"for {  }"}},
		{"for { continue }", []string{"for {  }"}},
		{"for { goto a }", nil},
		{"for i = a; i < b; i++ { c() }", []string{
			"for i = a; i <= b; i++ { c() }",
			"for i = a; i >= b; i++ { c() }",
			"for i = a; i < b; i++ {  }",
		}},
		{"defer a(); go b(); return", nil},
		{"a(func() { b() })", []string{"", "a(func() {  })"}},
	} {
		const head, tail = "package p\n\nfunc f() {\n", "\n}\n"
		source := []byte(head + c.body + tail)
		mutants, err := find("f.go", source)
		if err != nil {
			t.Fatalf("%s: %v", c.body, err)
		}
		var got []string
		for _, m := range mutants {
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(string(m.apply(source)), head), tail))
			if m.function != "f" || m.file != "f.go" {
				t.Errorf("%s: %+v", c.body, m)
			}
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %q\nwant %q", c.body, got, c.want)
		}
	}
}

func TestFindDescribes(t *testing.T) {
	mutants, err := find("f.go", []byte(`package p

var limit = 1

func (s *stack[T]) push() {
	s.n, s.m = 2, 2
}

func (s set) add() {
	f(
		2)
}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range mutants {
		got = append(got, fmt.Sprintf("%d %s", m.line, m.key()))
	}
	want := []string{
		"3 f.go: -: 1 → 2 in `var limit = 1`",
		"6 f.go: stack.push: drop statement in `s.n, s.m = 2, 2`",
		"6 f.go: stack.push: 2 → 3 in `s.n, s.m = 2, 2`",
		"6 f.go: stack.push: 2 → 3 in `s.n, s.m = 2, 2` #2",
		"10 f.go: set.add: drop statement in `f(`",
		"11 f.go: set.add: 2 → 3 in `2)`",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
