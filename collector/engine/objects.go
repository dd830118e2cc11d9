package engine

import (
	"maps"
	"slices"
	"strings"
)

// objects are the images or containers of an engine: the last list, updated by inspections
// of single objects. The engine may have several records of one ID.
//
// Versions are a logical clock: each request has the version at which it was sent. Of two
// answers about an object the one with the larger version is newer.
type objects[T any] struct {
	id         func(T) string
	records    map[string]object[T] // nil: unknown
	removed    map[string]int       // version by ID, since the last list
	listed     int                  // version of the last list
	generation int                  // grows whenever an ID is added or removed
	sorted     []T                  // all records; nil: to be made
	offset     *int                 // the engine's count minus the number of known objects, when first compared since the list
}

type object[T any] struct {
	records []T
	version int
}

// maxRemoved bounds how many removals are remembered. An object that is removed before may
// come back until the next list, if that was requested before.
const maxRemoved = 10000

func newObjects[T any](id func(T) string) *objects[T] {
	return &objects[T]{id: id, removed: make(map[string]int)}
}

// mergeList takes a list that was requested at a version, sorts it and keeps it. What
// inspections have reported since then stays.
func (o *objects[T]) mergeList(list []T, version int) {
	slices.SortStableFunc(list, func(a, b T) int { return strings.Compare(o.id(a), o.id(b)) })
	merged, isComplete := make(map[string]object[T], len(list)), true
	for start, end := 0, 0; start < len(list); start = end {
		id := o.id(list[start])
		for end = start; end < len(list) && o.id(list[end]) == id; {
			end++
		}
		if o.removed[id] <= version {
			merged[id] = object[T]{list[start:end:end], version}
		} else {
			isComplete = false
		}
	}
	for id, known := range o.records {
		if known.version > version {
			merged[id], isComplete = known, false
		}
	}
	if o.records == nil || !hasSameKeys(o.records, merged) {
		o.generation++
	}
	o.records, o.sorted, o.offset, o.listed = merged, nil, nil, version
	if isComplete {
		o.sorted = list // a long one is not copied
	}
	clear(o.removed)
}

func hasSameKeys[T any](a, b map[string]T) bool {
	if len(a) != len(b) {
		return false
	}
	for key := range a {
		if _, there := b[key]; !there {
			return false
		}
	}
	return true
}

// update takes the record of one ID that was requested at a version.
func (o *objects[T]) update(id string, version int, record T) {
	before, there := o.records[id]
	if o.records == nil || version < max(before.version, o.removed[id], o.listed) {
		return
	}
	o.records[id] = object[T]{[]T{record}, version}
	o.sorted = nil
	if !there {
		o.generation++
	}
}

// remove takes that at a version there was no object of an ID.
func (o *objects[T]) remove(id string, version int) {
	if len(o.removed) >= maxRemoved {
		clear(o.removed)
	}
	o.removed[id] = max(version, o.removed[id])
	if before, there := o.records[id]; there && before.version <= version {
		delete(o.records, id)
		o.sorted = nil
		o.generation++
	}
}

// clear makes all objects unknown.
func (o *objects[T]) clear() {
	if o.records != nil {
		o.generation++
	}
	o.records, o.sorted, o.offset = nil, nil, nil
	clear(o.removed)
}

// all returns all records in the order of their IDs, and whether they are known. They must
// not be changed.
func (o *objects[T]) all() (records []T, known bool) {
	if o.records == nil {
		return nil, false
	}
	if o.sorted == nil {
		o.sorted = make([]T, 0, len(o.records))
		for _, id := range slices.Sorted(maps.Keys(o.records)) {
			o.sorted = append(o.sorted, o.records[id].records...)
		}
	}
	return o.sorted, true
}

// get returns the records of one ID.
func (o *objects[T]) get(id string) []T { return o.records[id].records }

// hasDrifted compares the engine's count with the number of known objects. What an engine
// counts differs between versions, so only a change of the difference since the last list
// matters.
func (o *objects[T]) hasDrifted(engineCount int) bool {
	if o.records == nil {
		return false
	}
	offset := engineCount - len(o.records)
	if o.offset == nil {
		o.offset = &offset
	}
	return offset != *o.offset
}
