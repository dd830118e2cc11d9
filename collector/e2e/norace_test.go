//go:build !race

package e2e

// buildFlags returns the flags with which the tests were built: none.
func buildFlags() []string { return nil }
