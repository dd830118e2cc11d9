//go:build race

package e2e

// buildFlags returns the flags with which the tests were built: the race detector.
func buildFlags() []string { return []string{"-race"} }
