package endless

import "testing"

func TestAnswer(t *testing.T) {
	<-t.Context().Done() // when the test has ended
	if Answer() != 42 {
		t.Error("not 42")
	}
}
