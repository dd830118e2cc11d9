package prune

import (
	"cmp"
	"maps"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// Layers are the layers of some images, each once. What engines share is a layer
// on top of the same layers (its chain ID), so layers form trees. A Layers does not
// change.
type Layers struct {
	layers []layer          // a layer comes after the one under it
	tops   map[string]int32 // by image ID
	blobs  *blobs

	diffCount int
}

type layer struct {
	under int32 // none: bottom
	diff  int32 // what it holds: the same diff can lie on several layers
	size  model.Optional[int64]

	// guessed says that other layouts give another size to the layer, or to some under it
	// and to some on it.
	guessed bool
}

const bottom = -1 // under the first layer; the top of an image without layers

// emptyDiff is a layer without any file: a tar archive of two empty blocks.
const emptyDiff = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// LayOut finds the layers of images, by image ID.
//
// The history does not say which of its steps of size 0 are layers. Where several
// layouts are possible it takes one at which the layers that images share have one
// size: what sets of images hold and free adds up the same with each of them, unless
// a border between two images lies within such a gap (see gap). Layers whose size
// nothing settles have none.
//
// The list is of the containerd store, at a time when it held these images and no
// others: there it tells what the compressed copies of layers weigh. Without it that
// is unknown.
func LayOut(contents map[string]model.Content, list []model.Image) *Layers {
	l := &Layers{tops: make(map[string]int32, len(contents))}
	diffs := make(map[string]int32)
	paths := make(map[[2]int32]int32) // by the layer under it and the diff
	var chains []chain
	for _, id := range slices.Sorted(maps.Keys(contents)) {
		c := chain{history: contents[id].History}
		top := int32(bottom)
		for _, diffID := range contents[id].DiffIDs {
			diff, known := diffs[diffID]
			if !known {
				diff = int32(len(diffs))
				diffs[diffID] = diff
			}
			path := [2]int32{top, diff}
			next, known := paths[path]
			if !known {
				next = int32(len(l.layers))
				paths[path] = next
				added := layer{under: top, diff: diff}
				if diffID == emptyDiff {
					added.size = model.Known[int64](0)
				}
				l.layers = append(l.layers, added)
			}
			top = next
			c.layers = append(c.layers, top)
		}
		l.tops[id] = top
		chains = append(chains, c)
	}
	l.diffCount = len(diffs)
	l.measure(chains)
	l.blobs = weigh(l, list)
	return l
}

// A chain is the layers of one image, bottom first.
type chain struct {
	layers  []int32
	history []model.Step
}

// likely are the sizes of the steps that can be layers by what they say of themselves.
func (c chain) likely() (sizes []int64) {
	for _, step := range c.history {
		if step.Size > 0 || !step.NoLayer {
			sizes = append(sizes, step.Size)
		}
	}
	return sizes
}

// steps are the sizes of all.
func (c chain) steps() (sizes []int64) {
	for _, step := range c.history {
		sizes = append(sizes, step.Size)
	}
	return sizes
}

// isDefinite tells whether there is no choice which of the steps are layers: the likely
// ones, or all.
func (c chain) isDefinite() bool {
	return len(c.likely()) == len(c.layers) || len(c.history) <= len(c.layers)
}

// isSound tells whether the history alone allows for as many layers as there are.
func (c chain) isSound() bool {
	atLeast := 0
	for _, step := range c.history {
		if step.Size > 0 {
			atLeast++
		}
	}
	return atLeast <= len(c.layers) && len(c.layers) <= len(c.history)
}

// measure gives layers their sizes. First come the images that leave no choice, then
// the shortest, since they leave the least to others. Where one does not fit to what
// was chosen for others, nothing is known of its layers and theirs.
func (l *Layers) measure(chains []chain) {
	slices.SortStableFunc(chains, func(a, b chain) int {
		if a.isDefinite() != b.isDefinite() {
			return map[bool]int{true: -1, false: 1}[a.isDefinite()]
		}
		return cmp.Compare(len(a.layers), len(b.layers))
	})
	unclear := make([]bool, len(l.layers))
	var spreading bool
	blur := func(c chain) {
		for _, at := range c.layers {
			spreading = spreading || !unclear[at]
			unclear[at] = true
		}
	}
	placed := make(map[int][]int64) // the history that a chain was placed by
	free := make([]bool, len(l.layers))
	for i, c := range chains {
		for _, at := range c.layers {
			_, known := l.layers[at].size.Get()
			free[at] = free[at] || !known && !c.isDefinite()
		}
		for _, history := range [][]int64{c.likely(), c.steps()} {
			if placed[i] == nil && l.place(c.layers, history) {
				placed[i] = history
			}
		}
		if placed[i] == nil && c.isSound() {
			blur(c)
		}
	}
	for spreading {
		spreading = false
		for _, c := range chains {
			if !c.isDefinite() && slices.ContainsFunc(c.layers, func(at int32) bool { return unclear[at] }) {
				blur(c)
			}
		}
	}
	for at, isUnclear := range unclear {
		if isUnclear {
			l.layers[at].size = model.Optional[int64]{}
		}
	}
	l.guess(chains, placed, free)
}

// guess marks the layers whose sizes could have been chosen otherwise, and what lies between
// such layers of an image. Free are those that no definite image has given a size.
func (l *Layers) guess(chains []chain, placed map[int][]int64, free []bool) {
	isFree := func(at int32) bool { return free[at] }
	for some := true; some; {
		some = false
		for i, history := range placed {
			if slices.ContainsFunc(chains[i].layers, isFree) {
				some = l.settle(chains[i].layers, history, free) || some
			}
		}
	}
	for _, c := range chains {
		first := slices.IndexFunc(c.layers, isFree)
		if first < 0 {
			continue
		}
		isUnder := false // a free one
		for _, at := range slices.Backward(c.layers[first:]) {
			isUnder = isUnder || free[at]
			l.layers[at].guessed = l.layers[at].guessed || isUnder
		}
	}
}

// place gives the layers of a chain their sizes: an order-keeping choice of the
// history's that leaves out none but zeros, and keeps the sizes that are known. If
// there is no such choice nothing is done.
func (l *Layers) place(chain []int32, history []int64) (done bool) {
	n, m := len(chain), len(history)
	fits := func(i, j int) bool {
		size, known := l.layers[chain[i]].size.Get()
		return !known || size == history[j]
	}
	possible := layouts(n, m, history, fits)
	if !possible[0][0] {
		return false
	}
	i, j := 0, 0
	for i < n {
		if fits(i, j) && possible[i+1][j+1] {
			l.layers[chain[i]].size = model.Known(history[j])
			i++
		}
		j++
	}
	return true
}

// settle finds which layers of a chain can have but one size, if those that are free can
// have any, and takes their freedom. It tells whether there was one.
func (l *Layers) settle(chain []int32, history []int64, free []bool) (some bool) {
	n, m := len(chain), len(history)
	fits := func(i, j int) bool {
		size, known := l.layers[chain[i]].size.Get()
		return !known || free[chain[i]] || size == history[j]
	}
	possible := layouts(n, m, history, fits)
	// reached[j]: the layers under i can be the entries before j.
	reached := make([]bool, m+1)
	reached[0] = true
	for i, at := range chain {
		size, _ := l.layers[at].size.Get()
		isSettled := true
		next := make([]bool, m+1)
		for j := range m {
			reached[j+1] = reached[j+1] || reached[j] && history[j] == 0
			if reached[j] && fits(i, j) && possible[i+1][j+1] {
				next[j+1] = true
				isSettled = isSettled && history[j] == size
			}
		}
		reached = next
		if isSettled && free[at] {
			free[at], some = false, true
		}
	}
	return some
}

// layouts finds which layers can be which entries of a history, if it leaves out none but
// zeros: from the layer i on, those from the entry j on.
func layouts(n, m int, history []int64, fits func(i, j int) bool) (possible [][]bool) {
	possible = make([][]bool, n+1)
	for i := range possible {
		possible[i] = make([]bool, m+1)
	}
	possible[n][m] = true
	for i := n; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			possible[i][j] = history[j] == 0 && possible[i][j+1] || i < n && fits(i, j) && possible[i+1][j+1]
		}
	}
	return possible
}

// gap is how many bytes of marked layers may be those of others: where a border between
// images, or between what is marked and what is not, lies among layers of guessed sizes.
func (l *Layers) gap(marks []bool) (bytes int64) {
	isOpen, hasGuess := false, make([]bool, len(l.layers)) // on it
	for at, layer := range l.layers {
		if !layer.guessed {
			continue
		}
		if under := layer.under; under != bottom && l.layers[under].guessed {
			isOpen = isOpen || marks[at] != marks[under] || marks[at] && hasGuess[under]
			hasGuess[under] = true
		}
		if marks[at] {
			size, _ := layer.size.Get()
			bytes += size
		}
	}
	if !isOpen {
		return 0
	}
	return bytes
}

// top is the uppermost layer of an image, if it was looked at.
func (l *Layers) top(imageID string) (top int32, known bool) {
	top, known = l.tops[imageID]
	return top, known
}

// Count is how many layers some images have, each once. Unknown if one of them
// was not looked at.
func (l *Layers) Count(images []model.Image) model.Optional[int] {
	marks, known := l.mark(images)
	if !known {
		return model.Optional[int]{}
	}
	n := 0
	for _, marked := range marks {
		if marked {
			n++
		}
	}
	return model.Known(n)
}

// uninspected is how many of the images were not looked at.
func (l *Layers) uninspected(images []model.Image) int {
	n := 0
	for _, image := range images {
		if _, looked := l.top(image.ID); !looked {
			n++
		}
	}
	return n
}

// mark marks the layers of images.
func (l *Layers) mark(images []model.Image) (marks []bool, known bool) {
	marks = make([]bool, len(l.layers))
	known = true
	for _, image := range images {
		top, looked := l.top(image.ID)
		if !looked {
			known = false
			continue
		}
		l.markDown(marks, top)
	}
	return marks, known
}

// markDown marks a layer and all under it.
func (l *Layers) markDown(marks []bool, top int32) {
	for at := top; at != bottom && !marks[at]; at = l.layers[at].under {
		marks[at] = true
	}
}

// bytesDown adds up a layer and all under it, as far as they are known.
func (l *Layers) bytesDown(top int32) (bytes int64) {
	for at := top; at != bottom; at = l.layers[at].under {
		size, _ := l.layers[at].size.Get()
		bytes += size
	}
	return bytes
}

// sum adds up the sizes of marked layers. It is exact if all of them are known.
func (l *Layers) sum(marks []bool) Reclaimable {
	sum := Reclaimable{Exact: true}
	for i, marked := range marks {
		if marked {
			sum = sum.plusOptional(l.layers[i].size)
		}
	}
	return sum
}
