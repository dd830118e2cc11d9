package main

import (
	"hash/fnv"
	"math"
)

// A kind is a pattern of disk usage that occurs on real hosts.
type kind struct {
	name     string
	fills    bool
	days     int // how long it is simulated
	simulate func(*disk)
}

// nightly adds share by builds during each day, and prunes it at night.
func (d *disk) nightly(share float64) {
	at := d.minute(0, 5*hour)
	for from := 0; from < d.n; from += day {
		today := share * d.between(0.8, 1.1)
		for range 12 {
			d.ramp(dangling, from+d.minute(7*hour, 21*hour), 10, today/12)
		}
		d.prune(dangling, from+at, 0)
	}
}

// hourly adds a build every hour that uses about depth, at most deepest, for some minutes.
func (d *disk) hourly(depth, deepest float64, nights bool) {
	begin := d.minute(0, 50)
	for i := begin; i < d.n; i += hour {
		if !nights && (i%day < 7*hour || i%day > 21*hour) {
			continue
		}
		share := min(deepest, depth*math.Exp(0.25*d.rng.NormFloat64()))
		d.bump(cache, i, d.minute(8, 25), d.minute(1, 8), d.minute(1, 4), share)
	}
}

// leak fills the disk within so many days, from a random minute on.
func (d *disk) leak(days float64) {
	d.setFree(d.between(0.45, 0.8))
	d.baseline()
	from := d.minute(day/2, d.n-int(days*day)-day)
	d.fill(d.oneOf(unused, dangling, stopped, logs, volumes, orphans), from, int(days*day))
}

// headroom sets the initial free ratio, and returns how much of it a kind that never fills may
// use so that at least low remains.
func (d *disk) headroom(free, low float64) float64 {
	d.setFree(free)
	return free - low
}

func days(d *disk) float64 { return float64(d.n) / day }

func kinds() []kind {
	return []kind{
		{"steady leak", true, 30, func(d *disk) {
			d.leak(d.between(3, 0.75*days(d)))
		}},
		{"leak, scrapes lost", true, 30, func(d *disk) {
			d.leak(d.between(2, 0.5*days(d)))
			for range int(d.between(0.02, 0.2) * float64(d.n)) {
				d.loseScrapes(d.minute(0, d.n), 1)
			}
			for i := 0; i < d.n; i += d.minute(6*hour, 3*day) {
				d.loseScrapes(i, d.minute(5, 40))
			}
		}},
		{"leak, exporter restarts", true, 30, func(d *disk) {
			d.leak(d.between(2, 0.5*days(d)))
			for i := d.minute(0, day); i < d.n; i += d.minute(2*hour, 2*day) {
				d.restart(i)
			}
		}},
		{"leak that speeds up", true, 30, func(d *disk) {
			d.setFree(d.between(0.4, 0.7))
			d.baseline()
			minutes := int(d.between(4, 10) * day)
			doubles := d.between(0.8, 2) * day
			from := d.minute(day, d.n-minutes-day)
			d.fillFrom = from
			share := d.freeAt(from)
			all := math.Exp2(float64(minutes)/doubles) - 1
			for i := from; i < d.n; i++ {
				at := float64(i - from)
				d.add(dangling, i, share/all*(math.Exp2((at+1)/doubles)-math.Exp2(at/doubles)))
			}
		}},
		{"leak under a daily sawtooth", true, 30, func(d *disk) {
			free := d.between(0.5, 0.75)
			d.setFree(free)
			d.baseline()
			share := d.between(0.05, 0.18)
			d.nightly(share)
			d.fillFrom = 0
			rate := (free - share/2) / (d.between(0.4, 0.85) * float64(d.n))
			for i := range d.n {
				d.add(unused, i, rate)
			}
		}},
		{"hourly builds leave some", true, 30, func(d *disk) {
			free := d.between(0.45, 0.7)
			d.setFree(free)
			d.baseline()
			d.hourly(d.between(0.02, 0.06), 0.08, true)
			from := d.minute(day, 3*day)
			minutes := int(d.between(3, 0.7*days(d)) * day)
			d.fillFrom = from
			for i := from; i < d.n; i += hour {
				d.ramp(dangling, i, 15, free/float64(minutes/hour))
			}
		}},
		{"log runs away", true, 30, func(d *disk) {
			d.setFree(d.between(0.3, 0.7))
			d.baseline()
			minutes := int(d.between(20, 70) * hour)
			d.fill(logs, d.minute(2*day, d.n-minutes-day), minutes)
		}},
		{"fills overnight", true, 30, func(d *disk) {
			d.setFree(d.between(0.3, 0.7))
			d.baseline()
			d.nightly(0.05)
			from := d.minute(3, int(days(d))-2)*day + d.minute(18*hour, 23*hour)
			d.fill(volumes, from, int(d.between(5, 14)*hour))
		}},
		{"fills in 2 hours", true, 30, func(d *disk) {
			d.setFree(d.between(0.3, 0.8))
			d.baseline()
			if d.chance(0.5) {
				d.nightly(0.08)
			}
			d.fill(d.oneOf(logs, stopped, cache), d.minute(2*day, d.n-day), d.minute(130, 180))
		}},
		{"fills in 20 minutes", true, 30, func(d *disk) {
			d.setFree(d.between(0.25, 0.7))
			d.baseline()
			d.fill(d.oneOf(logs, stopped, cache), d.minute(2*day, d.n-day), d.minute(19, 24))
		}},
		// Each build, dump or restart takes some of what is left, and nothing happens in between.
		{"fills in steps within hours", true, 20, func(d *disk) {
			d.setFree(d.between(0.4, 0.7))
			d.baseline()
			d.fillBySteps(d.oneOf(cache, stopped), d.minute(8*day, d.n-2*day), d.minute(15, hour), 2, d.between(10, 30))
		}},
		// What is normal on this host is not known yet.
		{"new host fills within half a day", true, 2, func(d *disk) {
			d.setFree(d.between(0.5, 0.8))
			d.baseline()
			d.watchedFrom = d.minute(6*hour, day)
			d.fill(volumes, d.watchedFrom+d.minute(0, 4*hour), d.minute(8*hour, 14*hour))
		}},
		{"inodes only", true, 30, func(d *disk) {
			d.setFree(d.between(0.4, 0.8))
			d.baseline()
			minutes := int(math.Exp(d.between(math.Log(4*hour), math.Log(8*day))))
			d.fill(files, d.minute(2*day, d.n-minutes-day), minutes)
		}},

		{"quiet, little free", false, 30, func(d *disk) {
			d.setFree(d.between(0.13, 0.3))
			d.baseline()
		}},
		// A person has inspected the disk once, and leaves it as it is.
		{"about 10 % free for good", false, 30, func(d *disk) {
			d.setFree(d.between(0.095, 0.105))
			d.baseline()
		}},
		{"import over two days", false, 30, func(d *disk) {
			d.setFree(d.between(0.75, 0.8))
			d.baseline()
			d.ramp(volumes, d.minute(14*day, 20*day), d.minute(day, 2*day), d.between(0.2, 0.3))
		}},
		{"nightly prune", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.4, 0.7), 0.16)
			d.baseline()
			d.nightly(headroom * d.between(0.4, 0.9))
		}},
		{"hourly builds", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.35, 0.7), 0.14)
			d.baseline()
			d.hourly(headroom*d.between(0.3, 0.7), headroom, d.chance(0.5))
		}},
		{"CI runner", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.4, 0.7), 0.14)
			d.baseline()
			for range 2 {
				for i := 0; i < d.n; {
					wait := 20.0
					if !workday(i) {
						wait = 150
					}
					i += 1 + int(d.rng.ExpFloat64()*wait)
					up, hold := d.minute(3, 20), d.minute(1, 40)
					d.bump(stopped, i, up, hold, 2, min(headroom/2, headroom/6*d.rng.ExpFloat64()))
					i += up + hold + 2
				}
			}
		}},
		{"office days", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.4, 0.7), 0.2)
			d.baseline()
			share := headroom * d.between(0.3, 0.7)
			for i := 0; i < d.n; i++ {
				if workday(i) {
					d.add(cache, i, share/(10*hour)*2*d.rng.Float64())
				}
				if i%day == 20*hour {
					d.prune(cache, i, 0)
				}
			}
		}},
		{"weekly prune", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.45, 0.7), 0.25)
			d.baseline()
			share := headroom * d.between(0.4, 0.8)
			at := 6*day + d.minute(0, 5*hour)
			for from := 0; from < d.n; from += week {
				this := share * d.between(0.85, 1.1)
				for range 40 {
					d.ramp(dangling, from+d.minute(0, 5)*day+d.minute(8*hour, 18*hour), 10, this/40)
				}
				d.prune(dangling, from+at, 0)
			}
		}},
		{"weekly release train", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.35, 0.6), 0.2)
			d.baseline()
			share := headroom * d.between(0.3, 0.6)
			d.base[unused] = share / 2
			d.base[images] -= share / 2
			at := d.minute(0, 5)*day + d.minute(9*hour, 16*hour)
			for from := 0; from < d.n; from += week {
				d.ramp(unused, from+at, d.minute(20, 90), share*d.between(0.9, 1.1))
				d.prune(unused, from+at+d.minute(day, 2*day), 0.3)
			}
		}},
		{"one big pull", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.35, 0.7), 0.16)
			d.baseline()
			d.ramp(images, d.minute(day, d.n-day), d.minute(3, 30), headroom*d.between(0.5, 0.95))
		}},
		{"log burst, then quiet", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.4, 0.7), 0.22)
			d.baseline()
			d.ramp(logs, d.minute(2*day, d.n-day), d.minute(1*hour, 4*hour), headroom*d.between(0.4, 0.9))
		}},
		{"big copy that ends", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.45, 0.7), 0.27)
			d.baseline()
			d.ramp(volumes, d.minute(2*day, d.n-day), d.minute(3*hour, 8*hour), headroom*d.between(0.6, 0.95))
		}},
		{"nightly backup", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.3, 0.6), 0.13)
			d.baseline()
			share := headroom * d.between(0.5, 0.85)
			at := d.minute(0, 5*hour)
			for from := 0; from < d.n; from += day {
				d.bump(system, from+at, d.minute(20, 90), d.minute(10, 90), 3, share*d.between(0.95, 1.1))
			}
		}},
		{"build cache at its limit", false, 30, func(d *disk) {
			d.setFree(d.between(0.3, 0.6))
			d.baseline()
			d.cleaner = cleaner{cache, 0.2, 0.2}
			for i := 0; i < d.n; i += d.minute(15, 2*hour) {
				if workday(i) || d.chance(0.2) {
					d.ramp(cache, i, d.minute(3, 15), d.between(0.003, 0.03))
					d.bump(stopped, i, d.minute(3, 10), 1, 1, d.between(0, 0.04))
				}
			}
		}},
		{"disk resized", false, 30, func(d *disk) {
			d.baseline()
			d.nightly(0.06)
			at := d.minute(2*day, d.n-2*day)
			if d.chance(0.7) {
				d.setFree(d.between(0.25, 0.5))
				d.resizes = []resize{{at, d.between(1.2, 2)}}
			} else {
				d.setFree(d.between(0.6, 0.7))
				d.resizes = []resize{{at, d.between(0.65, 0.8)}}
			}
		}},
		{"exporter restarts", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.3, 0.6), 0.16)
			d.baseline()
			d.nightly(headroom * d.between(0.3, 0.8))
			for i := d.minute(0, day); i < d.n; i += d.minute(hour, 2*day) {
				d.restart(i)
			}
		}},
		{"scrape gaps", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.35, 0.7), 0.14)
			d.baseline()
			d.hourly(headroom*d.between(0.3, 0.6), headroom, true)
			for range int(d.between(0.01, 0.1) * float64(d.n)) {
				d.loseScrapes(d.minute(0, d.n), 1)
			}
			for i := 0; i < d.n; i += d.minute(2*hour, 3*day) {
				d.loseScrapes(i, d.minute(3, 4*hour))
			}
		}},
		{"clock step", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.3, 0.6), 0.16)
			d.baseline()
			d.nightly(headroom * d.between(0.3, 0.8))
			for range d.minute(1, 4) {
				d.clockSteps = append(d.clockSteps, clockStep{d.minute(0, d.n), d.between(-7200, 7200)})
			}
		}},
		{"inodes by day", false, 30, func(d *disk) {
			d.setFree(d.between(0.5, 0.7))
			d.baseline()
			share := d.between(0.3, 0.5)
			for from := 0; from < d.n; from += day {
				for range 20 {
					d.ramp(files, from+d.minute(7*hour, 21*hour), 10, share/20)
				}
				d.drop(files, from+d.minute(0, 2*hour), 0)
			}
		}},
		{"inodes not counted", false, 30, func(d *disk) {
			headroom := d.headroom(d.between(0.3, 0.6), 0.16)
			d.baseline()
			d.nightly(headroom * d.between(0.3, 0.8))
			d.inodes = 0
		}},
	}
}

// seed returns the seed of a disk. It does not depend on which other kinds exist.
func seed(kind string, number int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(kind))
	return h.Sum64() + uint64(number)
}

func (k kind) trace(number, minutes int) *trace {
	d := newDisk(seed(k.name, number), minutes)
	k.simulate(d)
	t := d.trace()
	t.kind = k.name
	return t
}
