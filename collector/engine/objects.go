package engine

import (
	"maps"
	"slices"
	"strings"
)

// objects are the images or containers of an engine: the last list, and what inspections of single
// objects have reported since. The engine may have several records of one ID.
//
// Versions are a logical clock: each request has the version at which it was sent. Of two
// answers about an object the one with the larger version is newer.
type objects[T any] struct {
	id         func(T) string
	known      bool                   // there is a list
	list       []T                    // the last one, in the order of IDs; it never changes
	listed     int                    // its version
	changes    map[string]revision[T] // by ID; none is older than the list
	merged     []T                    // the list with the changes; nil: to be made
	generation int                    // grows whenever an ID is added or removed
	offset     *int                   // the engine's count minus the number of known objects, when first compared since the list
}

// revision is what an inspection has reported about an ID.
type revision[T any] struct {
	version int
	record  *T // nil: there is no such object
}

// maxChanges bounds how many removals are remembered of objects that are not listed. One that is
// removed before may come back with the next list, if that was requested before.
const maxChanges = 10000

func newObjects[T any](id func(T) string) *objects[T] {
	return &objects[T]{id: id, changes: make(map[string]revision[T])}
}

func (o *objects[T]) compare(a, b T) int { return strings.Compare(o.id(a), o.id(b)) }

// mergeList takes a list that was requested at a version, sorts it and keeps it. What
// inspections have reported since then stays.
func (o *objects[T]) mergeList(list []T, version int) {
	before, wasKnown := o.all()
	if !slices.IsSortedFunc(list, o.compare) {
		slices.SortStableFunc(list, o.compare)
	}
	o.known, o.list, o.listed, o.merged, o.offset = true, list, version, nil, nil
	maps.DeleteFunc(o.changes, func(_ string, c revision[T]) bool { return c.version <= version })
	if after, _ := o.all(); !wasKnown || !o.haveSameIDs(before, after) {
		o.generation++
	}
}

// haveSameIDs reports whether two lists in the order of IDs have the same ones.
func (o *objects[T]) haveSameIDs(a, b []T) bool {
	for len(a) > 0 && len(b) > 0 {
		if o.compare(a[0], b[0]) != 0 {
			return false
		}
		a, b = a[o.end(a, 0):], b[o.end(b, 0):]
	}
	return len(a) == len(b)
}

// end returns where the records end that have the ID of the one at start.
func (o *objects[T]) end(list []T, start int) int {
	end := start
	for end < len(list) && o.compare(list[start], list[end]) == 0 {
		end++
	}
	return end
}

// find returns where the records of an ID are in a list, or would be.
func (o *objects[T]) find(list []T, id string) (start, end int) {
	start, exists := slices.BinarySearchFunc(list, id, func(record T, id string) int { return strings.Compare(o.id(record), id) })
	if !exists {
		return start, start
	}
	return start, o.end(list, start)
}

func (o *objects[T]) isListed(id string) bool {
	start, end := o.find(o.list, id)
	return start < end
}

// update takes the record of one ID that was requested at a version.
func (o *objects[T]) update(id string, version int, record T) {
	if o.known && version >= max(o.listed, o.changes[id].version) {
		o.change(id, revision[T]{version, &record})
	}
}

// remove takes that at a version there was no object of an ID.
func (o *objects[T]) remove(id string, version int) {
	if len(o.changes) >= maxChanges {
		maps.DeleteFunc(o.changes, func(id string, c revision[T]) bool { return c.record == nil && !o.isListed(id) })
	}
	if version >= o.changes[id].version && (!o.known || version >= o.listed) {
		o.change(id, revision[T]{version, nil})
	}
}

func (o *objects[T]) change(id string, c revision[T]) {
	wasThere := len(o.get(id)) > 0
	o.changes[id] = c
	if isThere := c.record != nil; isThere || wasThere {
		o.merged = nil
		if isThere != wasThere {
			o.generation++
		}
	}
}

// clear makes all objects unknown.
func (o *objects[T]) clear() {
	if o.known {
		o.generation++
	}
	o.known, o.list, o.merged, o.offset = false, nil, nil, nil
	clear(o.changes)
}

// all returns all records in the order of their IDs, and whether they are known. They must
// not be changed.
func (o *objects[T]) all() (records []T, known bool) {
	switch {
	case !o.known:
		return nil, false
	case len(o.changes) == 0:
		return o.list, true
	case o.merged == nil:
		rest := o.list
		o.merged = make([]T, 0, len(rest)+len(o.changes))
		for _, id := range slices.Sorted(maps.Keys(o.changes)) {
			start, end := o.find(rest, id)
			o.merged = append(o.merged, rest[:start]...)
			if record := o.changes[id].record; record != nil {
				o.merged = append(o.merged, *record)
			}
			rest = rest[end:]
		}
		o.merged = append(o.merged, rest...)
	}
	return o.merged, true
}

func (o *objects[T]) get(id string) []T {
	if c, isChanged := o.changes[id]; isChanged {
		if c.record == nil || !o.known {
			return nil
		}
		return []T{*c.record}
	}
	start, end := o.find(o.list, id)
	return o.list[start:end:end]
}

// count returns the number of different IDs.
func (o *objects[T]) count() (n int) {
	list, _ := o.all()
	for start := 0; start < len(list); start = o.end(list, start) {
		n++
	}
	return n
}

// hasDrifted compares the engine's count with the number of known objects. What an engine
// counts differs between versions, so only a change of the difference since the last list
// matters.
func (o *objects[T]) hasDrifted(engineCount int) bool {
	if !o.known {
		return false
	}
	offset := engineCount - o.count()
	if o.offset == nil {
		o.offset = &offset
	}
	return offset != *o.offset
}
