package prune

import (
	"cmp"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// The Engine API reports no sizes of layers, but those of the steps in an image's history.
// Each layer is a step, in this order. Steps that are no layer have size 0, but so do
// layers without files, and the API does not report which are which (moby:
// image.History.EmptyLayer).

// chain is the layers of one image with its history.
type chain struct {
	layers []int32 // bottom first
	steps  []int64 // sizes of all steps, oldest first
	likely []int64 // sizes of the steps whose instruction can make a layer

	// isDefinite says that there is no choice which steps are layers: all likely ones, or
	// all.
	isDefinite bool

	isPossible bool // the history permits as many layers as there are
}

func newChain(layers []int32, history []model.Step) chain {
	c := chain{layers: layers, steps: make([]int64, 0, len(history)), likely: make([]int64, 0, len(history))}
	nonZero := 0
	for _, step := range history {
		c.steps = append(c.steps, step.Size)
		if step.Size > 0 {
			nonZero++
		}
		if step.Size > 0 || !step.NoLayer {
			c.likely = append(c.likely, step.Size)
		}
	}
	c.isDefinite = len(c.likely) == len(layers) || len(history) <= len(layers)
	c.isPossible = nonZero <= len(layers) && len(layers) <= len(history)
	return c
}

// sizeAssigner assigns sizes to the layers of a tree.
type sizeAssigner struct {
	tree         *layerTree
	chains       []chain
	undetermined []bool    // layers whose size no definite chain has determined
	conflicting  []bool    // layers of chains whose histories contradict each other
	matched      [][]int64 // the steps that each chain was matched with, or nil
}

// assignSizes sets the sizes of layers from the histories of images. Definite chains come
// first, then short ones, because they leave fewer choices to others. Where several
// assignments are possible it takes one that gives shared layers one size; the sums of
// sets of images are the same for each of them unless ambiguousBytes says otherwise. The
// sizes of contradicting chains are unknown.
//
// Example: image A = layers x, y, steps 10, 0, 20; image B = layers x, y, z, steps 10, 0,
// 20, 0. A determines that x is 10 and y is 20, so z is 0.
func (t *layerTree) assignSizes(chains []chain) {
	slices.SortStableFunc(chains, func(a, b chain) int {
		if a.isDefinite != b.isDefinite {
			if a.isDefinite {
				return -1
			}
			return 1
		}
		return cmp.Compare(len(a.layers), len(b.layers))
	})
	a := sizeAssigner{
		tree: t, chains: chains, undetermined: make([]bool, len(t.layers)), conflicting: make([]bool, len(t.layers)),
		matched: make([][]int64, len(chains)),
	}
	for i, c := range chains {
		for _, at := range c.layers {
			a.undetermined[at] = a.undetermined[at] || !c.isDefinite && !t.layers[at].size.IsKnown()
		}
		switch {
		case a.matchHistory(c.layers, c.likely):
			a.matched[i] = c.likely
		case a.matchHistory(c.layers, c.steps):
			a.matched[i] = c.steps
		case c.isPossible:
			a.markConflicting(c)
		}
	}
	a.spreadUnknown()
	a.resolveAll()
	a.markAmbiguous()
}

// markConflicting marks the layers of a chain.
func (a *sizeAssigner) markConflicting(c chain) {
	for _, at := range c.layers {
		a.conflicting[at] = true
	}
}

// spreadUnknown removes the sizes of conflicting layers, and of all indefinite chains that
// share a layer with them. Such chains have the same bottom layer.
func (a *sizeAssigner) spreadUnknown() {
	for _, c := range a.chains {
		if !c.isDefinite && len(c.layers) > 0 && a.conflicting[c.layers[0]] {
			a.markConflicting(c)
		}
	}
	for at, isConflicting := range a.conflicting {
		if isConflicting {
			a.tree.layers[at].size = model.Optional[int64]{}
		}
	}
}

// resolveAll resolves undetermined layers until nothing changes: one that is resolved may
// leave another chain no choice.
func (a *sizeAssigner) resolveAll() {
	for changed := true; changed; {
		changed = false
		for i, steps := range a.matched {
			if steps != nil && slices.ContainsFunc(a.chains[i].layers, func(at int32) bool { return a.undetermined[at] }) {
				changed = a.resolve(a.chains[i].layers, steps) || changed
			}
		}
	}
}

// markAmbiguous marks the layers that remain undetermined, and the layers between such
// layers of an image.
func (a *sizeAssigner) markAmbiguous() {
	for _, c := range a.chains {
		first := slices.IndexFunc(c.layers, func(at int32) bool { return a.undetermined[at] })
		if first < 0 {
			continue
		}
		isBelow := false // an undetermined layer
		for _, at := range slices.Backward(c.layers[first:]) {
			isBelow = isBelow || a.undetermined[at]
			a.tree.layers[at].isAmbiguous = a.tree.layers[at].isAmbiguous || isBelow
		}
	}
}

// matchHistory assigns sizes to the layers of a chain: those of steps in the same order,
// without skipping steps other than those of size 0, and keeping known sizes. It changes
// nothing if that is impossible.
//
// Example: layers x, y with steps 0, 5, 0: x = 0 and y = 5, the last step is skipped.
func (a *sizeAssigner) matchHistory(chain []int32, steps []int64) (done bool) {
	layers := a.tree.layers
	fits := func(i, j int) bool {
		size, known := layers[chain[i]].size.Get()
		return !known || size == steps[j]
	}
	if len(chain) == len(steps) { // no step can be skipped
		for i := range chain {
			if !fits(i, i) {
				return false
			}
		}
		for i, at := range chain {
			layers[at].size = model.Known(steps[i])
		}
		return true
	}
	possible := alignments(len(chain), steps, fits)
	if !possible[0][0] {
		return false
	}
	for i, j := 0, 0; i < len(chain); j++ {
		if fits(i, j) && possible[i+1][j+1] {
			layers[chain[i]].size = model.Known(steps[j])
			i++
		}
	}
	return true
}

// resolve finds the undetermined layers of a chain that can have one size only, whatever
// the sizes of the other undetermined ones, and marks them as determined. It reports
// whether there was one.
//
// Example: layers x, y, z with steps 10, 0, 20, 0: x can only be 10. y and z may be 0 and
// 20, or 20 and 0.
func (a *sizeAssigner) resolve(chain []int32, steps []int64) (changed bool) {
	fits := func(i, j int) bool {
		size, known := a.tree.layers[chain[i]].size.Get()
		return !known || a.undetermined[chain[i]] || size == steps[j]
	}
	possible := alignments(len(chain), steps, fits)
	// reached[j]: the layers below i can be steps before j.
	reached := make([]bool, len(steps)+1)
	reached[0] = true
	for i, at := range chain {
		size, _ := a.tree.layers[at].size.Get()
		isResolved := true
		next := make([]bool, len(steps)+1)
		for j := range steps {
			reached[j+1] = reached[j+1] || reached[j] && steps[j] == 0
			if reached[j] && fits(i, j) && possible[i+1][j+1] {
				next[j+1] = true
				isResolved = isResolved && steps[j] == size
			}
		}
		reached = next
		if isResolved && a.undetermined[at] {
			a.undetermined[at], changed = false, true
		}
	}
	return changed
}

// alignments returns whether the layers from i on can be the steps from j on, if only
// steps of size 0 are skipped, for each i and j.
func alignments(layers int, steps []int64, fits func(i, j int) bool) (possible [][]bool) {
	possible = make([][]bool, layers+1)
	for i := range possible {
		possible[i] = make([]bool, len(steps)+1)
	}
	possible[layers][len(steps)] = true
	for i := layers; i >= 0; i-- {
		for j := len(steps) - 1; j >= 0; j-- {
			possible[i][j] = steps[j] == 0 && possible[i][j+1] || i < layers && fits(i, j) && possible[i+1][j+1]
		}
	}
	return possible
}
