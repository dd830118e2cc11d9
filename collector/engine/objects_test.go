package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// record is an object of the tests: an ID, and who has returned it.
type record struct{ id, from string }

func records(text string) (list []record) {
	for _, field := range strings.Fields(text) {
		id, from, _ := strings.Cut(field, ":")
		list = append(list, record{id, from})
	}
	return list
}

func recordsOf(o *objects[record]) string {
	list, known := o.all()
	if !known {
		return "unknown"
	}
	var fields []string
	for _, r := range list {
		fields = append(fields, r.id+":"+r.from)
	}
	return strings.Join(fields, " ")
}

// step is one answer: a list, an inspection or a removal that was requested at a version.
type step func(o *objects[record])

func listed(version int, text string) step {
	return func(o *objects[record]) { o.mergeList(records(text), version) }
}

func updated(version int, text string) step {
	return func(o *objects[record]) { o.update(records(text)[0].id, version, records(text)[0]) }
}

func removed(version int, id string) step {
	return func(o *objects[record]) { o.remove(id, version) }
}

func cleared(o *objects[record]) { o.clear() }

func TestObjects(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		steps []step
		want  string
	}{
		{"nothing", nil, "unknown"},
		{"empty list", []step{listed(1, "")}, ""},
		{"list in the order of IDs", []step{listed(1, "c:l a:l b:l")}, "a:l b:l c:l"},
		{"several records of one ID in the order of the list", []step{listed(1, "b:2 a:l b:1")}, "a:l b:2 b:1"},
		{"a second list", []step{listed(1, "a:1 b:1"), listed(2, "b:2 c:2")}, "b:2 c:2"},

		{"inspection before any list", []step{updated(1, "a:i")}, "unknown"},
		{"removal before any list", []step{removed(1, "a")}, "unknown"},
		{"inspection newer than the list, after it", []step{listed(1, "a:l"), updated(2, "a:i")}, "a:i"},
		{"inspection newer than the list, before it", []step{listed(1, "a:1"), updated(3, "a:i"), listed(2, "a:2")}, "a:i"},
		{"inspection older than the list, before it", []step{listed(1, "a:1"), updated(2, "a:i"), listed(3, "a:3")}, "a:3"},
		{"inspection older than the list, after it", []step{listed(3, "a:l"), updated(2, "a:i")}, "a:l"},
		{"inspection of the same version as the list", []step{listed(2, "a:l"), updated(2, "a:i")}, "a:i"},
		{"inspection older than an inspection", []step{listed(1, "a:l"), updated(3, "a:3"), updated(2, "a:2")}, "a:3"},
		{"inspection newer than an inspection", []step{listed(1, "a:l"), updated(2, "a:2"), updated(3, "a:3")}, "a:3"},
		{"inspection of one of several records", []step{listed(1, "a:1 a:2"), updated(2, "a:i")}, "a:i"},
		{"new object newer than the list, after it", []step{listed(1, "a:l"), updated(2, "b:i")}, "a:l b:i"},
		{"new object newer than the list, before it", []step{listed(1, "a:l"), updated(3, "b:i"), listed(2, "a:2")}, "a:2 b:i"},
		{"new object older than a list without it, before it", []step{listed(1, "a:l"), updated(2, "b:i"), listed(3, "a:3")}, "a:3"},
		{"new object older than a list without it, after it", []step{listed(1, "a:l b:l"), listed(3, "a:3"), updated(2, "b:i")}, "a:3"},

		{"removal newer than the list, after it", []step{listed(1, "a:l b:l"), removed(2, "a")}, "b:l"},
		{"removal newer than the list, before it", []step{listed(1, "a:1 b:1"), removed(3, "a"), listed(2, "a:2 b:2")}, "b:2"},
		{"removal newer than the first list, before it", []step{removed(3, "a"), listed(2, "a:2 b:2")}, "b:2"},
		{"removal older than the list, before it", []step{listed(1, "a:1"), removed(2, "a"), listed(3, "a:3")}, "a:3"},
		{"removal older than the list, after it", []step{listed(3, "a:3"), removed(2, "a")}, "a:3"},
		{"removal of the version of the list", []step{listed(2, "a:2"), removed(2, "a")}, ""},
		{"removal, then a list of its version", []step{removed(2, "a"), listed(2, "a:2")}, "a:2"},
		{"removal older than an inspection", []step{listed(1, "a:l"), updated(3, "a:i"), removed(2, "a")}, "a:i"},
		{"inspection older than a removal", []step{listed(1, "a:l"), removed(3, "a"), updated(2, "a:i")}, ""},
		{"inspection newer than a removal", []step{listed(1, "a:l"), removed(2, "a"), updated(3, "a:i")}, "a:i"},
		{"removal of all records of an ID", []step{listed(1, "a:1 a:2 b:1"), removed(2, "a")}, "b:1"},
		{"removal of what is not there", []step{listed(1, "a:l"), removed(2, "b")}, "a:l"},
		{"removed, created again and listed before", []step{listed(1, "a:1"), removed(3, "a"), updated(4, "a:i"), listed(2, "a:2")}, "a:i"},
		{"two removals in reverse order during a list", []step{listed(1, "a:1"), removed(4, "a"), removed(2, "a"), listed(3, "a:3")}, ""},
		{"inspection older than a removal and a list", []step{listed(1, "a:l b:l"), removed(3, "a"), listed(4, "b:4"), updated(2, "a:i")}, "b:4"},

		{"cleared", []step{listed(1, "a:l"), cleared}, "unknown"},
		{"inspection after it was cleared", []step{listed(1, "a:l"), cleared, updated(2, "a:i")}, "unknown"},
		{"list after it was cleared", []step{listed(1, "a:l"), removed(5, "a"), cleared, listed(4, "a:4")}, "a:4"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := newObjects(func(r record) string { return r.id })
			for _, step := range test.steps {
				step(o)
			}
			if got := recordsOf(o); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestObjectsAllIsACopy checks that a returned list never changes, because snapshots have it.
func TestObjectsAllIsACopy(t *testing.T) {
	t.Parallel()
	o := newObjects(func(r record) string { return r.id })
	o.mergeList(records("a:l b:l c:l"), 1)
	list, _ := o.all()
	before := slices.Clone(list)
	for _, step := range []step{updated(2, "a:i"), removed(3, "b"), updated(4, "d:i"), listed(5, "x:l"), cleared} {
		step(o)
		o.all()
		if !slices.Equal(list, before) {
			t.Fatalf("the list was changed to %v", list)
		}
	}
}

// TestObjectsForget checks that objects stay removed of which it is not remembered any more when they
// were, and that an inspection still counts.
func TestObjectsForget(t *testing.T) {
	t.Parallel()
	o := newObjects(func(r record) string { return r.id })
	o.mergeList(records("a:1 b:1 c:1"), 1)
	for _, step := range []step{updated(5, "c:i"), removed(3, "a")} {
		step(o)
	}
	for i := range maxChanges {
		o.remove(fmt.Sprint("x", i), 4)
	}
	if len(o.changes) > maxChanges {
		t.Errorf("%d changes are remembered", len(o.changes))
	}
	o.update("c", 4, record{"c", "old"})
	if got, want := recordsOf(o), "b:1 c:i"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestObjectsGet(t *testing.T) {
	t.Parallel()
	o := newObjects(func(r record) string { return r.id })
	if got := o.get("a"); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
	o.mergeList(records("a:1 b:1 a:2"), 1)
	if got := o.get("a"); !slices.Equal(got, records("a:1 a:2")) {
		t.Errorf("of two records: %v", got)
	}
	if got := o.get("c"); len(got) != 0 {
		t.Errorf("of an unknown ID: %v", got)
	}
}

func TestObjectsGeneration(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		step step
		want bool // grows
	}{
		{"the same list", listed(9, "b:9 a:9"), false},
		{"a record more of a known ID", listed(9, "a:9 b:9 a:8"), false},
		{"a list with another ID", listed(9, "a:9 c:9"), true},
		{"a list with an ID more", listed(9, "a:9 b:9 c:9"), true},
		{"a list with an ID less", listed(9, "a:9"), true},
		{"an empty list", listed(9, ""), true},
		{"an inspection", updated(9, "a:i"), false},
		{"an inspection of a new ID", updated(9, "c:i"), true},
		{"an old inspection", updated(1, "a:i"), false},
		{"a removal", removed(9, "a"), true},
		{"a removal of what is not there", removed(9, "c"), false},
		{"an old removal", removed(1, "a"), false},
		{"cleared", cleared, true},
	}
	for _, test := range tests {
		o := newObjects(func(r record) string { return r.id })
		o.mergeList(records("a:2 b:2"), 2)
		before := o.generation
		test.step(o)
		if got := o.generation > before; got != test.want {
			t.Errorf("%s: the generation grows: %v, want %v", test.name, got, test.want)
		}
	}
	o := newObjects(func(r record) string { return r.id })
	o.clear()
	if o.generation != 0 {
		t.Error("the generation grows when nothing is cleared")
	}
	if o.mergeList(nil, 1); o.generation == 0 {
		t.Error("the generation does not grow with the first list, which is empty")
	}
}

func TestObjectsHasDrifted(t *testing.T) {
	t.Parallel()
	o := newObjects(func(r record) string { return r.id })
	check := func(name string, engineCount int, want bool) {
		t.Helper()
		if got := o.hasDrifted(engineCount); got != want {
			t.Errorf("%s: the engine counts %d: drifted: %v, want %v", name, engineCount, got, want)
		}
	}
	check("without a list", 7, false)
	o.mergeList(records("a:1 b:1"), 1)
	check("first comparison", 5, false)
	check("same", 5, false)
	check("one more", 6, true)
	check("one less", 4, true)
	check("same again", 5, false)
	o.update("c", 2, record{"c", "i"})
	check("one was added", 6, false)
	check("one was added that the engine does not count", 5, true)
	o.remove("a", 3)
	o.remove("b", 4)
	check("two were removed", 4, false)
	o.mergeList(records("a:5 a:6"), 5)
	check("the offset is another one after a list", 9, false)
	check("two records of one ID are one", 9, false)
	check("drifted after a list", 10, true)
	o.clear()
	check("cleared", 3, false)
	o.mergeList(nil, 6)
	check("after it was cleared", 3, false)
	check("after it was cleared, one more", 4, true)
}
