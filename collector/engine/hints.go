package engine

import (
	"sync"
	"time"
)

// Hints are what the engine's events say is worth a look. They say it at any
// speed, so nothing waits for anything here, and it is bounded.
type hints struct {
	mu    sync.Mutex
	given map[hint]times
	count map[string]int // by kind
	some  chan struct{}  // has an element if there are hints
}

// A hint names one thing that has changed.
type hint struct {
	kind string // of question: images, containers
	id   string
}

// Times are when a hint was given since the last look.
type times struct{ first, last time.Time }

// most bounds how many hints of a kind are remembered. Beyond it a full list costs
// the engine less: a look at an image costs the containerd store as much as ten
// images of a list do, and one at a container next to nothing.
func most(kind string) int {
	if kind == kindImages {
		return 50
	}
	return 1000
}

func newHints() *hints {
	return &hints{given: make(map[hint]times), count: make(map[string]int), some: make(chan struct{}, 1)}
}

// add takes a hint, or says that there are too many of its kind: then none is taken.
func (h *hints) add(hint hint) (tooMany bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	given, there := h.given[hint]
	if !there {
		if h.count[hint.kind] >= most(hint.kind) {
			return true
		}
		h.count[hint.kind]++
		given.first = now
	}
	given.last = now
	h.given[hint] = given
	select {
	case h.some <- struct{}{}:
	default:
	}
	return false
}

// An event can come before what it tells of can be seen, and rarely comes alone.
// So a look waits until nothing more was heard for a while; but not for ever.
const (
	settled  = 400 * time.Millisecond
	overripe = 800 * time.Millisecond
)

// ripe returns the hints that are worth a look now, and tells whether others wait.
// Those that have not settled yet will be worth another look.
func (h *hints) ripe() (ripe []hint, more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for hint, given := range h.given {
		switch {
		case time.Since(given.last) >= settled:
			ripe = append(ripe, hint)
			h.count[hint.kind]--
			delete(h.given, hint)
		case time.Since(given.first) >= overripe:
			ripe = append(ripe, hint)
			h.given[hint] = times{first: time.Now(), last: given.last}
		}
	}
	return ripe, len(h.given) > 0
}

// waiting tells whether there are any.
func (h *hints) waiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.given) > 0
}

// forget forgets all hints.
func (h *hints) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.given)
	clear(h.count)
}
