package main

import (
	"math"
	"math/rand/v2"
)

const (
	hour = 60
	day  = 24 * hour
	week = 7 * day
)

const firstMinute = 1767571200 // 2026-01-05 00:00 UTC, a Monday

// A part is what holds the disk. Parts are measured in shares of the disk as it was at first.
type part int

const (
	system   part = iota // not Docker's
	images               // containers use them
	unused               // have a tag, no container
	dangling             // have no tag
	stopped              // written by stopped containers
	logs                 // written by running ones
	volumes              // in use
	orphans              // volumes without a container
	cache                // of builds
	files                // inodes without bytes
	parts
)

// An op changes a part all at once.
type op struct {
	part   part
	keep   float64
	pruned bool // by a docker command, which the exporter counts
}

type span struct{ from, to int }

// A disk is what happens to one host in n minutes, as its generator says it.
type disk struct {
	rng      *rand.Rand
	n        int
	bytes    float64
	inodes   float64 // 0: the file system does not count them
	perByte  float64 // share of inodes used by a share of bytes
	base     [parts]float64
	delta    [parts][]float64
	ops      map[int][]op
	size     []resize
	lost     []span // scrapes that fail
	restarts []int  // of the exporter
	steps    []step // of the host's clock
	gcFree   float64
	fillFrom int // when that begins which ends in a full disk; -1: it never fills
}

type resize struct {
	at     int
	factor float64
}

type step struct {
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
		d.lose(d.minute(0, minutes), 1)
	}
	return d
}

func (d *disk) between(a, b float64) float64 { return a + (b-a)*d.rng.Float64() }
func (d *disk) chance(p float64) bool        { return d.rng.Float64() < p }

// minute is one of [a, b).
func (d *disk) minute(a, b int) int { return a + d.rng.IntN(max(b-a, 1)) }

// oneOf is a part by chance.
func (d *disk) oneOf(p ...part) part { return p[d.rng.IntN(len(p))] }

// free sets the share that is free at the beginning.
func (d *disk) free(share float64) {
	d.base[images] = 0
	used := 0.0
	for p := range files {
		used += d.base[p]
	}
	d.base[images] = 1 - share - used
}

func (d *disk) add(p part, at int, share float64) {
	if at < 0 || at >= d.n {
		return
	}
	if d.delta[p] == nil {
		d.delta[p] = make([]float64, d.n)
	}
	d.delta[p][at] += share
}

// ramp adds share within some minutes, unevenly.
func (d *disk) ramp(p part, from, minutes int, share float64) {
	for i := range minutes {
		d.add(p, from+i, share/float64(minutes)*2*d.rng.Float64())
	}
}

// bump adds share and takes it away again, as a build does.
func (d *disk) bump(p part, from, up, hold, down int, share float64) {
	for i := range up {
		d.add(p, from+i, share/float64(up))
	}
	for i := range down {
		d.add(p, from+up+hold+i, -share/float64(down))
	}
}

// drop keeps a share of a part and loses the rest.
func (d *disk) drop(p part, at int, keep float64) { d.op(at, op{p, keep, false}) }

// prune is a drop by a docker command.
func (d *disk) prune(p part, at int, keep float64) { d.op(at, op{p, keep, true}) }

func (d *disk) op(at int, o op) { d.ops[at] = append(d.ops[at], o) }

func (d *disk) lose(from, minutes int) { d.lost = append(d.lost, span{from, from + minutes}) }

// restart is one of the exporter: a lost scrape or two, and counters that begin anew.
func (d *disk) restart(at int) {
	d.restarts = append(d.restarts, at)
	d.lose(at, 1+d.rng.IntN(2))
}

// live is what every disk does: logs that rotate, and small changes up and down.
func (d *disk) live() {
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

// workday tells whether minute i is within working hours of Monday to Friday.
func workday(i int) bool { return i%week < 5*day && i%day >= 8*hour && i%day < 18*hour }

// A trace is what is measured of a disk, minute by minute.
type trace struct {
	kind     string
	takes    int              // minutes from the begin of what fills it; 0: it never fills
	full     int              // when nothing is left; the number of minutes if it never fills
	parts    [files][]float64 // bytes
	size     []float64
	avail    []float64
	inodes   []float64
	left     []float64 // free inodes
	pruned   [files][]float64
	prunes   [files][]float64
	lastly   [files][]float64 // when the last prune was, by the host's clock; NaN: none
	up       []bool
	clock    []float64 // seconds by which the host's clock is wrong
	share    []float64 // free, of bytes or inodes, whichever is less
	cleanups []int
}

func (d *disk) trace() *trace {
	t := &trace{full: d.n}
	alloc := func() []float64 { return make([]float64, d.n) }
	t.size, t.avail, t.inodes, t.left, t.clock, t.share = alloc(), alloc(), alloc(), alloc(), alloc(), alloc()
	for p := range files {
		t.parts[p], t.pruned[p], t.prunes[p], t.lastly[p] = alloc(), alloc(), alloc(), alloc()
	}
	t.up = make([]bool, d.n)
	for i := range t.up {
		t.up[i] = true
	}
	for _, s := range d.lost {
		for i := s.from; i < min(s.to, d.n); i++ {
			t.up[i] = false
		}
	}
	restarted := map[int]bool{}
	for _, at := range d.restarts {
		restarted[at] = true
	}
	now := d.base
	var pruned, prunes, lastly [files]float64
	for p := range files {
		lastly[p] = math.NaN()
	}
	factor, clock := 1.0, 0.0
	for i := range d.n {
		for _, s := range d.steps {
			if s.at == i {
				clock += s.seconds
			}
		}
		for _, r := range d.size {
			if r.at == i {
				factor *= r.factor
			}
		}
		if restarted[i] {
			for p := range files {
				pruned[p], prunes[p], lastly[p] = 0, 0, math.NaN()
			}
		}
		for p := range parts {
			if d.delta[p] != nil {
				now[p] = max(0, now[p]+d.delta[p][i])
			}
		}
		for _, o := range d.ops[i] {
			freed := now[o.part] * (1 - o.keep)
			now[o.part] -= freed
			if o.pruned {
				prunes[o.part]++
				pruned[o.part] += freed * d.bytes
				lastly[o.part] = float64(firstMinute+60*i) + clock
			}
		}
		free := factor
		for p := range files {
			free -= now[p]
		}
		if d.gcFree > 0 && free < d.gcFree*factor {
			more := min(now[cache], d.gcFree*factor-free+0.04*d.rng.Float64())
			now[cache] -= more
			free += more
		}
		used := factor - free
		t.size[i] = d.bytes * factor
		t.avail[i] = math.Floor(max(0, free)*d.bytes/4096) * 4096
		t.inodes[i] = math.Round(d.inodes * factor)
		left := max(0, factor-used*d.perByte-now[files])
		t.left[i] = math.Floor(left * d.inodes)
		t.share[i] = max(0, free) / factor
		if d.inodes > 0 {
			t.share[i] = min(t.share[i], left/factor)
		}
		t.clock[i] = clock
		for p := range files {
			t.parts[p][i] = now[p] * d.bytes
			t.pruned[p][i], t.prunes[p][i], t.lastly[p][i] = pruned[p], prunes[p], lastly[p]
		}
		if t.share[i] <= 0 && t.full == d.n {
			t.full = i
		}
		if t.full < i { // what is full stays full
			t.avail[i], t.left[i], t.share[i] = t.avail[t.full], t.left[t.full], 0
		}
		if i >= 10 && t.share[i]-t.share[i-10] >= 0.05 {
			t.cleanups = append(t.cleanups, i)
		}
	}
	if t.full < d.n {
		t.takes = t.full - max(d.fillFrom, 0)
	}
	return t
}

// level is the share that is free at a minute, by what has been said so far.
func (d *disk) level(at int) float64 {
	short := *d
	short.n = at + 1
	short.rng = rand.New(rand.NewPCG(1, 1))
	return short.trace().share[at]
}

// fill uses up what is free at a minute, within so many minutes.
func (d *disk) fill(p part, from, minutes int) {
	d.fillFrom = from
	share := d.level(from)
	rate := share / float64(minutes)
	for i := from; i < d.n; i++ {
		d.add(p, i, rate*2*d.rng.Float64())
	}
}
