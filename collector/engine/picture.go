package engine

import (
	"maps"
	"slices"
	"sync"

	"docker_buildup_exporter/collector/model"
)

// A picture is what is known of the things of one kind: the last full list, kept
// up by looks at single things. A record is what the engine says of one ID; it may
// say several things of it.
type picture[T any] struct {
	id func(T) string

	mu      sync.Mutex
	records map[string][]T // nil: unknown
	last    []T            // the last full list, as it was
	turn    int            // grows whenever the IDs are others than before
	flat    []T            // all records, if nothing has changed since somebody asked
	looked  map[string][]T // while a list is under way: what looks have shown meanwhile
}

func newPicture[T any](id func(T) string) *picture[T] {
	return &picture[T]{id: id}
}

// begin says that a list is under way.
func (p *picture[T]) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked = make(map[string][]T)
}

// end takes the list in, or forgets everything if there is none. What was looked
// at meanwhile stays as it was seen: the list may be of the moment before.
func (p *picture[T]) end(list model.Optional[[]T]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	looked, before := p.looked, p.records
	p.looked, p.records, p.flat = nil, nil, nil
	defer func() {
		if !hasSameKeys(before, p.records) {
			p.turn++
		}
	}()
	values, known := list.Get()
	p.last = values
	if !known {
		return
	}
	p.records = make(map[string][]T, len(values))
	for _, value := range values {
		id := p.id(value)
		p.records[id] = append(p.records[id], value)
	}
	for id, seen := range looked {
		p.set(id, seen)
	}
}

func (p *picture[T]) set(id string, records []T) {
	if len(records) > 0 {
		p.records[id] = records
	} else {
		delete(p.records, id)
	}
}

// hasSameKeys tells whether two maps have, and whether both or neither are nil.
func hasSameKeys[T any](a, b map[string]T) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for key := range a {
		if _, there := b[key]; !there {
			return false
		}
	}
	return true
}

// forget makes everything unknown.
func (p *picture[T]) forget() { p.end(model.Optional[[]T]{}) }

// size is how many things there are.
func (p *picture[T]) size() (n int, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.records), p.records != nil
}

// all returns all records in the order of their IDs. They are not to be changed.
func (p *picture[T]) all() model.Optional[[]T] {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.records == nil {
		return model.Optional[[]T]{}
	}
	if p.flat == nil {
		for _, id := range slices.Sorted(maps.Keys(p.records)) {
			p.flat = append(p.flat, p.records[id]...)
		}
	}
	return model.Known(p.flat)
}

// currentTurn is another one than before if a thing has come or gone since.
func (p *picture[T]) currentTurn() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turn
}

// lastList returns the last full list, which is not to be changed.
func (p *picture[T]) lastList() []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// update replaces the records of one ID after a look at it; none means that it is gone.
func (p *picture[T]) update(id string, records ...T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.looked != nil {
		p.looked[id] = records
	}
	if p.records != nil {
		if _, there := p.records[id]; there != (len(records) > 0) {
			p.turn++
		}
		p.flat = nil
		p.set(id, records)
	}
}

// find returns the records that match.
func (p *picture[T]) find(match func(T) bool) []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []T
	for _, records := range p.records {
		for _, record := range records {
			if match(record) {
				found = append(found, record)
			}
		}
	}
	return found
}

// get returns the records of one ID.
func (p *picture[T]) get(id string) []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records[id]
}
