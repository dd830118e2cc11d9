package example

import "testing"

func TestAdmit(t *testing.T) {
	if Admit(17) || !Admit(18) {
		t.Error("not from 18 on")
	}
}

func TestWarm(t *testing.T) {
	if Warm(10) || !Warm(30) {
		t.Error("10 is not warm, 30 is")
	}
}

func TestLarger(t *testing.T) {
	if Larger(1, 2) != 2 || Larger(2, 1) != 2 {
		t.Error("not the larger one")
	}
}

func TestHalvings(t *testing.T) {
	if got := Halvings(8); got != 3 {
		t.Error(got)
	}
}
