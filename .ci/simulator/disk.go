package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

const (
	hour = 60
	day  = 24 * hour
	week = 7 * day
)

const firstMinute = 1767571200 // 2026-01-05 00:00 UTC, a Monday

// A part is one use of disk space. Its size is a ratio of the initial size of the disk.
type part int

const (
	system   part = iota // files outside of Docker
	images               // used by containers
	unused               // tagged images without a container
	dangling             // untagged images
	stopped              // writable layers of stopped containers
	logs                 // logs of running containers
	volumes              // volumes in use
	orphans              // volumes without a container
	cache                // build cache
	files                // inodes of empty files
	parts
)

// An op removes data of a part within one minute.
type op struct {
	part   part
	keep   float64 // ratio of the part that remains
	pruned bool    // by a docker command, which the exporter counts
}

type span struct{ from, to int }

// A disk describes what happens on one host within n minutes. Kinds fill it in.
type disk struct {
	rng         *rand.Rand
	n           int     // minutes
	bytes       float64 // initial size
	inodes      float64 // 0: the file system does not count inodes
	perByte     float64 // ratio of used inodes to used bytes, both as ratios of the disk
	base        [parts]float64
	delta       [parts][]float64 // change of each part, by minute
	ops         map[int][]op     // by minute
	resizes     []resize
	lostScrapes []span
	restarts    []int // minutes at which the exporter restarts
	clockSteps  []clockStep
	cleaner     cleaner
	fillFrom    int   // minute at which the growth that fills the disk begins; -1: it never fills
	watchedFrom int   // minute of the first scrape: before, the host has no series
	other       *disk // a second disk of the host, or nil; it is not scored
}

type resize struct {
	at     int
	factor float64
}

// A cleaner removes data of a part once the free ratio is lower than below, until it is to.
type cleaner struct {
	part      part
	below, to float64
}

// A clockStep is a sudden change of the host's clock.
type clockStep struct {
	at      int
	seconds float64
}

func newDisk(seed uint64, minutes int) *disk {
	d := &disk{rng: rand.New(rand.NewPCG(seed, 5)), n: minutes, ops: map[int][]op{}, fillFrom: -1}
	d.bytes = float64([]int{40, 80, 100, 250, 500, 1000, 2000}[d.rng.IntN(7)]) * (1 << 30)
	d.inodes = math.Round(d.bytes / 16384)
	d.perByte = d.between(0.1, 0.5)
	d.base[system] = d.between(0.05, 0.1)
	d.base[logs] = 0.02
	d.base[volumes] = d.between(0.01, 0.04)
	for d.chance(0.3) {
		d.loseScrapes(d.minute(0, minutes), 1)
	}
	return d
}

func (d *disk) between(a, b float64) float64 { return a + (b-a)*d.rng.Float64() }
func (d *disk) chance(p float64) bool        { return d.rng.Float64() < p }

// minute returns a random minute in [a, b).
func (d *disk) minute(a, b int) int { return a + d.rng.IntN(max(b-a, 1)) }

// oneOf returns a random part of those given.
func (d *disk) oneOf(p ...part) part { return p[d.rng.IntN(len(p))] }

// setFree sets the initial free ratio by the size of the images.
func (d *disk) setFree(share float64) {
	d.base[images] = 0
	used := 0.0
	for p := range files {
		used += d.base[p]
	}
	d.base[images] = 1 - share - used
}

// add changes a part by a ratio of the disk. Minutes outside of the simulation are ignored.
func (d *disk) add(p part, at int, share float64) {
	if at < 0 || at >= d.n {
		return
	}
	if d.delta[p] == nil {
		d.delta[p] = make([]float64, d.n)
	}
	d.delta[p][at] += share
}

// ramp adds share within so many minutes, at a random rate.
func (d *disk) ramp(p part, from, minutes int, share float64) {
	for i := range minutes {
		d.add(p, from+i, share/float64(minutes)*2*d.rng.Float64())
	}
}

// bump adds share, holds it, and removes it, as a build does. Durations are in minutes.
func (d *disk) bump(p part, from, up, hold, down int, share float64) {
	for i := range up {
		d.add(p, from+i, share/float64(up))
	}
	for i := range down {
		d.add(p, from+up+hold+i, -share/float64(down))
	}
}

// drop removes all but a ratio of a part.
func (d *disk) drop(p part, at int, keep float64) { d.op(at, op{p, keep, false}) }

// prune is drop by a docker command.
func (d *disk) prune(p part, at int, keep float64) { d.op(at, op{p, keep, true}) }

func (d *disk) op(at int, o op) { d.ops[at] = append(d.ops[at], o) }

func (d *disk) loseScrapes(from, minutes int) {
	d.lostScrapes = append(d.lostScrapes, span{from, from + minutes})
}

// restart restarts the exporter: one or two scrapes are lost, and its counters are reset.
func (d *disk) restart(at int) {
	d.restarts = append(d.restarts, at)
	d.loseScrapes(at, 1+d.rng.IntN(2))
}

// baseline adds what happens on every disk: logs that rotate, and small random changes.
func (d *disk) baseline() {
	sigma := d.between(0.00005, 0.0003)
	daily := d.between(0.001, 0.006)
	x := 0.0
	for i := range d.n {
		change := -x/200 + sigma*d.rng.NormFloat64()
		x += change
		d.add(system, i, change)
		d.add(logs, i, daily/day)
		if i%day == 25 {
			d.add(logs, i, -daily)
		}
	}
}

// workday returns whether minute i is within the working hours of Monday to Friday.
func workday(i int) bool { return i%week < 5*day && i%day >= 8*hour && i%day < 18*hour }

// A trace holds the measurements of a disk, one of each minute.
type trace struct {
	kind        string
	fillMinutes int              // from fillFrom until the disk is full; 0: it never fills
	fullAt      int              // minute at which the disk is full; the number of minutes if it never fills
	parts       [files][]float64 // bytes
	size        []float64        // bytes
	avail       []float64        // bytes
	inodes      []float64
	inodesFree  []float64
	pruned      [files][]float64 // bytes, since the exporter started
	prunes      [files][]float64 // since the exporter started
	prunedAt    [files][]float64 // Unix time of the last prune by the host's clock; NaN: none
	up          []bool           // whether the scrape succeeds
	clockOffset []float64        // seconds by which the host's clock is wrong
	freeRatio   []float64        // of bytes or inodes, the lower of the two
	watchedFrom int              // minute of the first scrape
	other       *trace           // a second disk of the host, or nil
	cleanups    []int            // minutes at which 5 % of the disk was freed within the last 10
}

func newTrace(minutes int) *trace {
	t := &trace{fullAt: minutes}
	alloc := func() []float64 { return make([]float64, minutes) }
	t.size, t.avail, t.inodes, t.inodesFree, t.clockOffset, t.freeRatio = alloc(), alloc(), alloc(), alloc(), alloc(), alloc()
	for p := range files {
		t.parts[p], t.pruned[p], t.prunes[p], t.prunedAt[p] = alloc(), alloc(), alloc(), alloc()
	}
	t.up = make([]bool, minutes)
	for i := range t.up {
		t.up[i] = true
	}
	return t
}

func (d *disk) trace() *trace {
	t := newTrace(d.n)
	t.watchedFrom = d.watchedFrom
	for i := range d.watchedFrom {
		t.up[i] = false
	}
	if d.other != nil {
		t.other = d.other.trace()
	}
	for _, s := range d.lostScrapes {
		for i := s.from; i < min(s.to, d.n); i++ {
			t.up[i] = false
		}
	}
	s := &state{disk: d, used: d.base, size: 1}
	s.resetCounters()
	for i := range d.n {
		s.advance(i)
		t.measure(i, s)
	}
	if t.fullAt < d.n {
		t.fillMinutes = t.fullAt - max(d.fillFrom, 0)
	}
	return t
}

// A state is a disk at one minute. Sizes are ratios of the initial size of the disk.
type state struct {
	*disk
	used     [parts]float64
	size     float64
	free     float64
	clock    float64        // seconds by which the host's clock is wrong
	pruned   [files]float64 // bytes
	prunes   [files]float64
	prunedAt [files]float64
}

// resetCounters resets what the exporter knows of prunes.
func (s *state) resetCounters() {
	for p := range files {
		s.pruned[p], s.prunes[p], s.prunedAt[p] = 0, 0, math.NaN()
	}
}

// advance applies the changes of minute i.
func (s *state) advance(i int) {
	for _, c := range s.clockSteps {
		if c.at == i {
			s.clock += c.seconds
		}
	}
	for _, r := range s.resizes {
		if r.at == i {
			s.size *= r.factor
		}
	}
	if slices.Contains(s.restarts, i) {
		s.resetCounters()
	}
	for p := range parts {
		if s.delta[p] != nil {
			s.used[p] = max(0, s.used[p]+s.delta[p][i])
		}
	}
	for _, o := range s.ops[i] {
		freed := s.used[o.part] * (1 - o.keep)
		s.used[o.part] -= freed
		if o.pruned {
			s.prunes[o.part]++
			s.pruned[o.part] += freed * s.bytes
			s.prunedAt[o.part] = float64(firstMinute+60*i) + s.clock
		}
	}
	s.free = s.size
	for p := range files {
		s.free -= s.used[p]
	}
	if c := s.cleaner; c.below > 0 && s.free < c.below*s.size {
		freed := min(s.used[c.part], c.to*s.size-s.free+0.04*s.rng.Float64())
		s.used[c.part] -= freed
		s.free += freed
	}
}

// measure stores the state of minute i.
func (t *trace) measure(i int, s *state) {
	t.size[i] = s.bytes * s.size
	t.avail[i] = math.Floor(max(0, s.free)*s.bytes/4096) * 4096
	t.inodes[i] = math.Round(s.inodes * s.size)
	inodesFree := max(0, s.size-(s.size-s.free)*s.perByte-s.used[files])
	t.inodesFree[i] = math.Floor(inodesFree * s.inodes)
	t.freeRatio[i] = max(0, s.free) / s.size
	if s.inodes > 0 {
		t.freeRatio[i] = min(t.freeRatio[i], inodesFree/s.size)
	}
	t.clockOffset[i] = s.clock
	for p := range files {
		t.parts[p][i] = s.used[p] * s.bytes
		t.pruned[p][i], t.prunes[p][i], t.prunedAt[p][i] = s.pruned[p], s.prunes[p], s.prunedAt[p]
	}
	if t.freeRatio[i] <= 0 && t.fullAt == s.n {
		t.fullAt = i
	}
	if t.fullAt < i { // a full disk stays full
		t.avail[i], t.inodesFree[i], t.freeRatio[i] = t.avail[t.fullAt], t.inodesFree[t.fullAt], 0
	}
	if i >= 10 && t.freeRatio[i]-t.freeRatio[i-10] >= 0.05 {
		t.cleanups = append(t.cleanups, i)
	}
}

// freeAt returns the free ratio at a minute with the changes added so far.
func (d *disk) freeAt(at int) float64 {
	short := *d
	short.n, short.watchedFrom, short.other = at+1, 0, nil
	short.rng = rand.New(rand.NewPCG(1, 1))
	return short.trace().freeRatio[at]
}

// fill uses up the space that is free at a minute within so many minutes.
func (d *disk) fill(p part, from, minutes int) {
	d.fillWhile(p, from, minutes, func(int) bool { return true })
}

// fillWhile is fill that grows only in those minutes that pass a test, and counts only these.
func (d *disk) fillWhile(p part, from, minutes int, grows func(i int) bool) {
	d.fillFrom = from
	rate := d.freeAt(from) / float64(minutes)
	for i := from; i < d.n; i++ {
		if grows(i) {
			d.add(p, i, rate*2*d.rng.Float64())
		}
	}
}
