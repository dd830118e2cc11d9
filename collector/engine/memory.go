package engine

import "sync"

// A memory keeps what looks at single things have shown, by their IDs.
type memory[T any] struct {
	mu    sync.Mutex
	of    map[string]T
	since map[string]*moment // it was last forgotten
}

// A moment is what it is by its address.
type moment struct{ _ byte }

func newMemory[T any]() *memory[T] {
	return &memory[T]{of: make(map[string]T), since: make(map[string]*moment)}
}

// look begins a look at a thing. What it has shown is not kept if the thing was
// forgotten meanwhile: it may have been as before.
func (m *memory[T]) look(id string) (keep func(T)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since[id] == nil {
		m.since[id] = new(moment)
	}
	began := m.since[id]
	return func(value T) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.since[id] == began {
			m.of[id] = value
		}
	}
}

func (m *memory[T]) get(id string) (value T, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, known = m.of[id]
	return value, known
}

func (m *memory[T]) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of, id)
	delete(m.since, id)
}

func (m *memory[T]) forgetAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.of)
	clear(m.since)
}

// keep forgets all but some.
func (m *memory[T]) keep(isWanted map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.since {
		if !isWanted[id] {
			delete(m.of, id)
			delete(m.since, id)
		}
	}
}
