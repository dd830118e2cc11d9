package engine

import "sync"

// A memory keeps what looks at things have shown, by their IDs, until it is told to
// forget it.
type memory[T any] struct {
	mu sync.Mutex
	of map[string]T

	// Each time something is forgotten has a number: here are the last one, that of each
	// thing, and that of all.
	moments   int
	forgotten map[string]int
	all       int
}

func newMemory[T any]() *memory[T] {
	return &memory[T]{of: make(map[string]T), forgotten: make(map[string]int)}
}

// look begins a look at things. What it has shown is not kept of a thing that was
// forgotten meanwhile: it may have been as before.
func (m *memory[T]) look() (keep func(id string, value T)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := m.moments
	return func(id string, value T) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.forgotten[id] <= began && m.all <= began {
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
	m.moments++
	m.forgotten[id] = m.moments
	if len(m.forgotten) > 10000 { // looks that are under way show nothing then
		m.forgetLooks()
	}
}

func (m *memory[T]) forgetAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.of)
	m.moments++
	m.forgetLooks()
}

func (m *memory[T]) forgetLooks() {
	m.all = m.moments
	clear(m.forgotten)
}

// keep drops all but some.
func (m *memory[T]) keep(isWanted map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.of {
		if !isWanted[id] {
			delete(m.of, id)
		}
	}
}
