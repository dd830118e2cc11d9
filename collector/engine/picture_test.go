package engine

import (
	"testing"

	"docker_buildup_exporter/collector/model"
)

// A picture's turn tells whether something has come or gone.
func TestTurn(t *testing.T) {
	p := newPicture(func(id string) string { return id })
	for _, step := range []struct {
		name  string
		do    func()
		grows bool
	}{
		{"unknown still", p.forget, false},
		{"the first list", func() { p.end(model.Known([]string{"a", "b"})) }, true},
		{"the same", func() { p.end(model.Known([]string{"b", "a"})) }, false},
		{"a look at what is there", func() { p.update("a", "a") }, false},
		{"one of another ID", func() { p.end(model.Known([]string{"a", "c"})) }, true},
		{"a look at what is new", func() { p.update("d", "d") }, true},
		{"a look at what is gone", func() { p.update("d") }, true},
		{"what never was there is gone", func() { p.update("e") }, false},
		{"an image comes while a list without it is under way", func() {
			p.begin()
			p.update("f", "f")
			p.end(model.Known([]string{"a", "c"}))
		}, true},
		{"unknown", p.forget, true},
		{"none at all", func() { p.end(model.Known([]string{})) }, true},
	} {
		before := p.currentTurn()
		if step.do(); (p.currentTurn() != before) != step.grows {
			t.Errorf("%s: grows %v, want %v", step.name, !step.grows, step.grows)
		}
	}
}
