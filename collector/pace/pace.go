// Package pace decides when to ask a question again whose answer has a price.
// It knows nothing of what is asked, or of whom.
package pace

import "time"

// Cheap is below what an answer takes that is asked for whenever somebody wants to
// know, unless a question is told another limit.
const Cheap = 500 * time.Millisecond

// A Pace is how much of the time whoever answers may spend on a question that is
// not cheap, as shares of 1. A share of 1 is no limit.
type Pace struct {
	Idle   float64 // while nothing says that the answer has changed
	Change float64 // once something does, or while there is no answer
}

// Due tells whether to ask again a question that took so long the last time, so
// long ago: if what it took is less than its share of the time since then.
func (p Pace) Due(took, since time.Duration, changed bool) bool {
	share := p.Idle
	if changed {
		share = p.Change
	}
	return share >= 1 || took.Seconds() < share*since.Seconds()
}
