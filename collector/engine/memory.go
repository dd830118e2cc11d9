package engine

import "sync"

// A memory keeps what looks at single things have shown, by their IDs.
type memory[T any] struct {
	mu sync.Mutex
	of map[string]T
}

func newMemory[T any]() *memory[T] { return &memory[T]{of: make(map[string]T)} }

func (m *memory[T]) set(id string, value T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of[id] = value
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
}

func (m *memory[T]) forgetAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.of)
}

// keep forgets all but some.
func (m *memory[T]) keep(isWanted map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.of {
		if !isWanted[id] {
			delete(m.of, id)
		}
	}
}
