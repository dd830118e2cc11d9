// Package endless has a test that never ends.
package endless

// Answer returns the answer.
func Answer() int { return 42 }
