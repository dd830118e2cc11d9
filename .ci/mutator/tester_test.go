package main

import "testing"

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		output string
		want   result
	}{
		{"--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/one (0.00s)\n--- FAIL: TestB (0.00s)\nFAIL\nFAIL\tp\t0.002s\nFAIL\n", result{killed, "TestA"}},
		{"--- FAIL: TestA (0.00s)\npanic: index out of range [recovered]\nFAIL\tp\t0.002s\nFAIL\n", result{killed, "TestA"}},
		{"fatal error: all goroutines are asleep - deadlock!\nFAIL\tp\t0.002s\nFAIL\n", result{killed, "a crash"}},
		{"panic: test timed out after 1s\n\trunning tests:\n\t\tTestA (1s)\n\ngoroutine 7\nFAIL\tp\t1.002s\nFAIL\n", result{timeout, "TestA"}},
		{"panic: test timed out after 1s\n\ngoroutine 7\nFAIL\tp\t1.002s\nFAIL\n", result{status: timeout}},
		{"*** Test killed with quit: ran too long (61s).\nFAIL\tp\t61s\n", result{status: timeout}},
		{"# p\n./a.go:3: declared and not used: x\nFAIL\tp [build failed]\nFAIL\n", result{status: invalid}},
		{"# p\na.go:3:1: expected declaration\nFAIL\tp [setup failed]\nFAIL\n", result{status: invalid}},
		{"--- FAIL: TestA (0.00s)\n    a_test.go:1: the output has FAIL\tp [build failed]\nFAIL\tp\t0.002s\n", result{killed, "TestA"}},
	} {
		if got := classify([]byte(c.output)); got != c.want {
			t.Errorf("%q: %q, want %q", c.output, got, c.want)
		}
	}
}
