// Package example is mutated by the tests of the mutator.
package example

// One more does not compile.
const limit uint8 = 255

// Admit is tested on both sides of its limit.
func Admit(age int) bool {
	return age >= 18
}

// Warm is tested far from its limit only.
func Warm(degrees int) bool {
	return degrees > 20
}

// Larger returns the same, also if its comparison includes equality.
func Larger(a, b int) int {
	if a > b {
		return a
	}
	return b
}

// Halvings does not end without its division.
func Halvings(n int) (count int) {
	for n > 1 {
		n /= 2
		count++
	}
	return count
}
