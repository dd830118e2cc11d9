package main

import (
	"math"
	"slices"
)

// unseenKinds returns kinds of disks that were written without knowledge of the rules, to score
// them. Each is a kind of incident, or of a host on which no one wants to be woken. Do not tune
// rules on these kinds: add a kind of your own to kinds instead.
func unseenKinds() []kind {
	return slices.Concat(unseenFast(), unseenGrowing(), unseenBroken(), unseenSteady(), unseenCleaned(), unseenQuiet())
}

// begin sets a random free ratio in [low, high), and adds what happens on every disk.
func (d *disk) begin(low, high float64) {
	d.setFree(d.between(low, high))
	d.baseline()
}

// hover keeps the free ratio within swing of a level, by a process that limits itself.
func (d *disk) hover(free, swing float64) {
	d.setFree(free)
	period, last := d.between(20, 300), 0.0
	for i := range d.n {
		next := swing * (0.6*math.Sin(2*math.Pi*float64(i)/period) + 0.4*d.between(-1, 1))
		d.add(system, i, next-last)
		last = next
	}
}

// curve adds a part by a function that returns the sum so many days after a minute.
func (d *disk) curve(p part, from int, sum func(days float64) float64) {
	for i := from; i < d.n; i++ {
		d.add(p, i, sum(float64(i+1-from)/day)-sum(float64(i-from)/day))
	}
}

// steps adds about share within minutes, at about every so many minutes.
func (d *disk) steps(p part, from, every, minutes int, share float64) {
	for ; from < d.n; from += every {
		d.ramp(p, from+d.minute(0, every/8), minutes, share*d.between(0.75, 1.25))
	}
}

// fillBySteps is steps that use up the space that is free at a minute with about so many.
func (d *disk) fillBySteps(p part, from, every, minutes int, number float64) {
	d.fillFrom = from
	d.steps(p, from, every, minutes, d.freeAt(from)/number)
}

// dips uses and removes about share at about every so many minutes: a backup, a test, a deploy.
func (d *disk) dips(p part, from, every, up, hold int, share float64) {
	for ; from < d.n; from += every {
		d.bump(p, from+d.minute(0, every/10), up, hold, 3, share*d.between(0.85, 1.05))
	}
}

// pruneEvery adds share evenly until it is pruned, at every so many minutes from at on. Then the
// free ratio is about low.
func (d *disk) pruneEvery(at, every int, share, low float64) {
	grown := share * float64(at) / float64(every)
	d.base[dangling] = share - grown
	d.begin(low+grown, low+grown)
	for i := range d.n {
		d.add(dangling, i, share/float64(every)*2*d.rng.Float64())
		if i%every == at {
			d.prune(dangling, i, 0)
		}
	}
}

// sleep loses the scrapes of all minutes in which the host is not awake.
func (d *disk) sleep(awake func(i int) bool) {
	for i := range d.n {
		if !awake(i) {
			d.loseScrapes(i, 1)
		}
	}
}

func awakeByDay(i int) bool { return i%day >= 7*hour && i%day < 22*hour }
func awakeAtWork(i int) bool {
	return i%week < 5*day && i%day >= 8*hour && i%day < 19*hour
}

// unseenFast fill within minutes to a few days.
func unseenFast() []kind {
	return []kind{
		// One noisy container without log rotation.
		{"log fills within an hour", true, 9, func(d *disk) {
			d.begin(0.3, 0.7)
			d.fill(logs, d.minute(5*day, d.n-day), d.minute(25, 60))
		}},
		// Debug logging was left on after an incident.
		{"log fills within half a day", true, 9, func(d *disk) {
			d.begin(0.3, 0.7)
			d.fill(logs, d.minute(5*day, d.n-day), d.minute(3*hour, 12*hour))
		}},
		// A client retries an error for days, and each attempt is logged.
		{"log fills within days", true, 12, func(d *disk) {
			d.begin(0.3, 0.7)
			d.fill(logs, d.minute(5*day, 7*day), d.minute(day, 3*day))
		}},
		// A process crashes in a loop, and each crash leaves a core dump.
		{"core dumps", true, 9, func(d *disk) {
			d.begin(0.3, 0.6)
			d.fillBySteps(system, d.minute(5*day, d.n-day), d.minute(8, 25), 1, d.between(15, 40))
		}},
		// A dump is restored at night into a volume that is too small for it.
		{"database restore", true, 9, func(d *disk) {
			d.begin(0.4, 0.8)
			d.nightly(0.05)
			d.fill(volumes, d.minute(5, 7)*day+d.minute(20*hour, 23*hour), d.minute(2*hour, 6*hour))
		}},
		// A replica is gone, and the database keeps its write-ahead log for it.
		{"write-ahead log is kept", true, 12, func(d *disk) {
			d.begin(0.3, 0.6)
			d.dips(volumes, 0, 2*hour, 20, 5, 0.01)
			d.fill(volumes, d.minute(5*day, 8*day), d.minute(6*hour, 2*day))
		}},
		// Retries that double: a queue that is written to disk once its consumer is down.
		{"queue that doubles", true, 9, func(d *disk) {
			d.begin(0.4, 0.7)
			d.fillFrom = d.minute(5*day, d.n-day)
			doubles, free := d.between(0.04, 0.12), d.freeAt(d.fillFrom)
			d.curve(volumes, d.fillFrom, func(days float64) float64 { return free / 63 * math.Expm1(min(days/doubles, 7)*math.Ln2) })
		}},
		// A container is restarted without end, and each leaves a writable layer.
		{"restart loop leaves layers", true, 12, func(d *disk) {
			d.begin(0.3, 0.6)
			d.fillBySteps(stopped, d.minute(5*day, 8*day), d.minute(4, 10), 1, d.between(200, 400))
		}},
		// A test writes logs in bursts, with pauses.
		{"bursts with pauses", true, 10, func(d *disk) {
			d.begin(0.35, 0.6)
			d.fillBySteps(logs, d.minute(5*day, 7*day), d.minute(3*hour, 8*hour), d.minute(20, 60), d.between(3.3, 6))
		}},
		// Snapshots of a storage driver that copies blocks in large chunks.
		{"jumps by the hour", true, 10, func(d *disk) {
			d.begin(0.35, 0.6)
			d.fillBySteps(stopped, d.minute(5*day, 7*day), hour, 2, d.between(7, 15))
		}},
		// An image is larger than what is free.
		{"pull within minutes", true, 9, func(d *disk) {
			d.begin(0.15, 0.4)
			d.fill(images, d.minute(5*day, d.n-day), d.minute(8, 19))
		}},
		// A small host, and an image of 2 GB.
		{"8 GB, pull within minutes", true, 9, func(d *disk) {
			d.begin(0.2, 0.25)
			d.bytes = 8 << 30
			d.fill(images, d.minute(5*day, d.n-day), d.minute(8, 19))
		}},
		// A small host, and an application that writes files into its container.
		{"8 GB fills within a day", true, 9, func(d *disk) {
			d.begin(0.2, 0.5)
			d.bytes = 8 << 30
			d.fill(stopped, d.minute(5*day, d.n-2*day), d.minute(8*hour, 30*hour))
		}},
		// A host was set up today, and the restore of its data fills it.
		{"new host fills within hours", true, 2, func(d *disk) {
			d.begin(0.5, 0.8)
			d.watchedFrom = d.minute(12*hour, 36*hour)
			d.fill(volumes, d.watchedFrom+d.minute(30, 8*hour), d.minute(90, 180))
		}},
		// Monitoring is installed while the host is filling.
		{"new host is filling already", true, 2, func(d *disk) {
			d.begin(0.5, 0.8)
			d.watchedFrom = d.minute(12*hour, 36*hour)
			d.fill(oneOfDocker(d), d.watchedFrom-d.minute(10, 60), d.minute(3*hour, 8*hour))
		}},
		// A test host of one day, filled by its builds.
		{"new host fills within a day", true, 3, func(d *disk) {
			d.begin(0.5, 0.8)
			d.watchedFrom = d.minute(12*hour, 36*hour)
			d.hourly(0.02, 0.04, true)
			d.fill(dangling, d.watchedFrom+d.minute(0, 3*hour), d.minute(8*hour, 20*hour))
		}},
		// Small files of a package cache in a build.
		{"inodes within a day", true, 9, func(d *disk) {
			d.begin(0.4, 0.8)
			d.fill(files, d.minute(5*day, 7*day), d.minute(3*hour, day))
		}},
		// A mail queue, or sessions in files.
		{"inodes within an hour", true, 9, func(d *disk) {
			d.begin(0.4, 0.8)
			d.fill(files, d.minute(5*day, d.n-day), d.minute(25, 80))
		}},
	}
}

// oneOfDocker returns a random part that Docker holds.
func oneOfDocker(d *disk) part { return d.oneOf(unused, dangling, stopped, volumes, orphans, cache) }

// unseenGrowing fill within days to weeks.
func unseenGrowing() []kind {
	return []kind{
		// Each day's release leaves the image of the day before.
		{"daily release", true, 26, func(d *disk) {
			d.begin(0.4, 0.6)
			d.fillBySteps(unused, day+d.minute(9*hour, 16*hour), day, d.minute(5, 20), d.between(12, 19))
		}},
		// Each week's release leaves images. The last one does not fit.
		{"weekly release", true, 30, func(d *disk) {
			d.begin(0.25, 0.4)
			d.fillBySteps(unused, d.minute(0, 4)*day+d.minute(9*hour, 16*hour), week, d.minute(20, 60), d.between(2, 3.1))
		}},
		// Continuous deployment by day, Monday to Friday.
		{"deploys on workdays", true, 26, func(d *disk) {
			d.begin(0.3, 0.5)
			from := day + d.minute(0, day)
			d.fillFrom = from
			share := d.freeAt(from) / d.between(60, 150)
			for i := from; i < d.n; i += d.minute(20, 90) {
				if workday(i) {
					d.ramp(unused, i, 5, share)
				}
			}
		}},
		// Teams load models or data sets now and then.
		{"data sets now and then", true, 30, func(d *disk) {
			d.begin(0.35, 0.6)
			d.fillFrom = day
			share := d.freeAt(day) / 9
			for i := day; i < d.n; i += int(d.between(0.3, 2) * day) {
				d.ramp(volumes, i, d.minute(20, 90), share*d.between(0.6, 1.6))
			}
		}},
		// Projects are added: the disk stands still for days, then it is a step lower.
		{"plateaus", true, 30, func(d *disk) {
			d.begin(0.35, 0.55)
			d.fillBySteps(volumes, 2*day, d.minute(3*day, 6*day), d.minute(20, 3*hour), d.between(3, 4))
		}},
		// Little is left, and still something grows.
		{"slow leak from 5 %", true, 20, func(d *disk) {
			d.hover(0.0499, 0.0005)
			d.fill(oneOfDocker(d), 3*day, d.minute(4*day, 13*day))
		}},
		// The usual: nothing is ever removed.
		{"slow leak", true, 30, func(d *disk) {
			d.begin(0.25, 0.5)
			d.fill(oneOfDocker(d), d.minute(0, 2*day), d.minute(20*day, 27*day))
		}},
		// Containers of one-off jobs are not removed, in office hours.
		{"leak on workdays", true, 26, func(d *disk) {
			d.begin(0.3, 0.5)
			d.fillWhile(stopped, d.minute(0, 2*day), d.minute(60*hour, 140*hour), workday)
		}},
		// A leak was half repaired.
		{"leak that slows down", true, 24, func(d *disk) {
			d.begin(0.4, 0.6)
			d.fillFrom = d.minute(day, 3*day)
			free, scale := d.freeAt(d.fillFrom), d.between(1.5, 3)
			d.curve(volumes, d.fillFrom, func(days float64) float64 { return free * 1.2 * -math.Expm1(-days/scale/1.6) })
		}},
		// A time series database without a limit, which compacts every 2 hours.
		{"database that compacts", true, 26, func(d *disk) {
			d.begin(0.3, 0.5)
			d.dips(volumes, 0, 2*hour, 90, 10, 0.012)
			d.fill(volumes, d.minute(day, 3*day), d.minute(8*day, 20*day))
		}},
		// The nightly prune frees less each time: images get tags.
		{"prune frees less each night", true, 26, func(d *disk) {
			d.begin(0.4, 0.6)
			d.nightly(d.between(0.08, 0.15))
			d.fill(unused, day, d.minute(12*day, 22*day))
		}},
		// The weekly prune does not keep up.
		{"weekly prune frees too little", true, 30, func(d *disk) {
			d.pruneEvery(6*day+3*hour, week, 0.15, d.between(0.35, 0.45))
			d.fill(unused, day, d.minute(18*day, 27*day))
		}},
		// The cron job of the nightly prune was lost in an upgrade.
		{"prune stops", true, 26, func(d *disk) {
			d.begin(0.5, 0.7)
			stops := 15 * day
			share := d.between(0.1, 0.2)
			for i := range d.n {
				if i%day > 7*hour && i%day < 19*hour {
					d.add(dangling, i, share/(12*hour)*2*d.rng.Float64())
				}
				if i%day == 2*hour && i < stops {
					d.prune(dangling, i, 0)
				}
			}
			d.fillFrom = stops
		}},
		// Builds need more space each day, until one does not end.
		{"builds grow", true, 20, func(d *disk) {
			d.begin(0.35, 0.5)
			d.fillFrom = 2 * day
			free, last := d.freeAt(2*day), d.between(0.7, 0.95)*float64(d.n)
			for i := 10; i < d.n; i += hour {
				d.bump(cache, i, d.minute(8, 20), d.minute(2, 9), 2, free*d.between(0.9, 1)*(0.3+0.75*float64(i)/last))
			}
		}},
		// The backup grows, and one night it does not fit.
		{"backup grows", true, 24, func(d *disk) {
			d.begin(0.3, 0.5)
			d.fillFrom = day
			share, at := d.freeAt(day), d.minute(0, 4*hour)
			for n := range d.n / day {
				d.bump(system, n*day+at, d.minute(60, 150), d.minute(60, 120), 3, share*(0.4+0.04*float64(n))*d.between(0.95, 1.05))
			}
		}},
		// Backups are no longer removed, because the upload fails.
		{"backups are kept", true, 24, func(d *disk) {
			d.begin(0.35, 0.6)
			share, at := d.between(0.05, 0.1), d.minute(0, 4*hour)
			d.fillFrom = 10 * day
			for from := at; from < d.n; from += day {
				d.ramp(system, from, d.minute(20, 60), share)
				if from < d.fillFrom {
					d.ramp(system, from+5*hour, 3, -share)
				}
			}
		}},
		// A leak meets the nightly backup.
		{"leak meets the backup", true, 26, func(d *disk) {
			d.begin(0.4, 0.6)
			d.dips(system, d.minute(0, 4*hour), day, d.minute(20, 60), 60, 0.12)
			d.fill(oneOfDocker(d), day, d.minute(12*day, 22*day))
		}},
		// A large array of disks.
		{"20 TB leak", true, 30, func(d *disk) {
			d.begin(0.1, 0.3)
			d.bytes, d.inodes = 20<<40, 1e9
			d.fill(volumes, day, d.minute(10*day, 26*day))
		}},
		// Sessions or thumbnails: one small file each, for weeks.
		{"inodes within weeks", true, 26, func(d *disk) {
			d.begin(0.5, 0.8)
			d.fill(files, day, d.minute(5*day, 11*day))
		}},
	}
}

// unseenBroken fill while something else is wrong, or changes.
func unseenBroken() []kind {
	return []kind{
		// A home server is switched off at night.
		{"fills by day, off at night", true, 16, func(d *disk) {
			d.begin(0.3, 0.6)
			d.sleep(awakeByDay)
			d.fillWhile(oneOfDocker(d), d.minute(2*day, 4*day), d.minute(30*hour, 120*hour), awakeByDay)
		}},
		// A developer's laptop.
		{"fills at work, off otherwise", true, 24, func(d *disk) {
			d.begin(0.3, 0.6)
			d.sleep(awakeAtWork)
			d.fillWhile(dangling, d.minute(2*day, 4*day), d.minute(30*hour, 90*hour), awakeAtWork)
		}},
		// The network is away for hours on the last day.
		{"gap before the end", true, 12, func(d *disk) {
			d.begin(0.4, 0.7)
			from, minutes := d.minute(5*day, 7*day), d.minute(30*hour, 3*day)
			d.fill(oneOfDocker(d), from, minutes)
			d.loseScrapes(from+minutes-d.minute(10*hour, 14*hour), d.minute(2*hour, 5*hour))
		}},
		// The exporter is killed for its memory limit again and again.
		{"exporter in a crash loop", true, 10, func(d *disk) {
			d.begin(0.4, 0.7)
			from := d.minute(5*day, 7*day)
			d.fill(oneOfDocker(d), from, d.minute(6*hour, day))
			for i := from; i < d.n; i += d.minute(5, 15) {
				d.restart(i)
			}
		}},
		// A slow exporter: every third scrape fails.
		{"every third scrape is lost", true, 12, func(d *disk) {
			d.begin(0.4, 0.7)
			for i := 0; i < d.n; i += 3 {
				d.loseScrapes(i, 1)
			}
			d.fill(oneOfDocker(d), d.minute(4*day, 6*day), d.minute(4*hour, 4*day))
		}},
		// The disk is made larger, and the leak goes on.
		{"resized, fills anyway", true, 26, func(d *disk) {
			d.begin(0.25, 0.4)
			from, minutes := d.minute(day, 3*day), d.minute(8*day, 12*day)
			d.fill(oneOfDocker(d), from, minutes)
			d.resizes = []resize{{from + minutes*8/10, d.between(1.15, 1.3)}}
		}},
		// An administrator gives the blocks reserved for root to all users. It does not help.
		{"reserved blocks are freed", true, 16, func(d *disk) {
			d.base[system] = 0.1
			d.begin(0.2, 0.4)
			from, minutes := d.minute(3*day, 5*day), d.minute(day, 5*day)
			d.fill(oneOfDocker(d), from, minutes)
			d.add(system, from+minutes*9/10, -0.05)
		}},
		// A person removes images, but not what fills the disk.
		{"cleaned by a person, fills again", true, 16, func(d *disk) {
			d.begin(0.3, 0.5)
			minutes := d.minute(12*hour, 3*day)
			from := d.minute(4*day, 6*day)
			d.fill(logs, from, minutes)
			d.add(images, from+minutes*d.minute(94, 98)/100, -d.between(0.2, 0.35))
		}},
		// The cleaner removes unused images, while those in use grow.
		{"cleaner has nothing left", true, 24, func(d *disk) {
			d.base[unused] = 0.25
			d.begin(0.2, 0.25)
			d.cleaner = cleaner{unused, 0.15, 0.2}
			d.fillFrom = day
			rate := d.between(0.5, 0.8) / float64(d.n-2*day) // more than 0.25 + 0.25
			for i := day; i < d.n; i++ {
				d.add(images, i, rate*1.3*d.rng.Float64()*2)
			}
		}},
		// BuildKit keeps 20 % free, until volumes have used up the space of its cache.
		{"volumes displace the build cache", true, 24, func(d *disk) {
			d.base[cache] = 0.2
			d.begin(0.22, 0.25)
			d.cleaner = cleaner{cache, 0.2, 0.2}
			d.fillFrom = day
			rate := d.between(0.5, 1.2) / float64(d.n-2*day)
			for i := day; i < d.n; i++ {
				d.add(volumes, i, rate*2*d.rng.Float64())
				if workday(i) && i < 8*day {
					d.add(cache, i, 0.0002*d.rng.Float64())
				}
			}
		}},
		// Volumes are on a disk of their own, which is full by design.
		{"two disks, one fills", true, 12, func(d *disk) {
			d.begin(0.3, 0.6)
			d.other = newDisk(d.rng.Uint64(), d.n)
			d.other.begin(0.07, 0.2)
			d.fill(oneOfDocker(d), d.minute(5*day, 7*day), d.minute(4*hour, 4*day))
		}},
	}
}

// unseenSteady have little free, and about as much each day.
func unseenSteady() []kind {
	return []kind{
		// A cache with a fixed size, on a disk bought for it.
		{"92 % full by design", false, 30, func(d *disk) { d.begin(0.075, 0.085) }},
		// An archive: 3 % are 600 GB.
		{"20 TB, 97 % full by design", false, 30, func(d *disk) {
			d.hover(d.between(0.028, 0.035), 0.001)
			d.bytes, d.inodes = 20<<40, 1e9
		}},
		// A large array that is written and cleaned every day.
		{"20 TB, daily turnover", false, 21, func(d *disk) {
			d.begin(0.07, 0.12)
			d.bytes, d.inodes = 20<<40, 1e9
			d.nightly(0.01)
		}},
		// Programs that limit what they use: databases, caches, logs with rotation by size.
		{"hovers at 5 %", false, 30, func(d *disk) { d.hover(d.between(0.0495, 0.0505), 0.001) }},
		{"hovers at 8 %", false, 21, func(d *disk) { d.hover(d.between(0.077, 0.083), d.between(0.001, 0.004)) }},
		{"hovers at 10 %", false, 30, func(d *disk) { d.hover(d.between(0.0995, 0.1005), 0.001) }},
		{"hovers at 12 %", false, 21, func(d *disk) { d.hover(d.between(0.117, 0.123), d.between(0.001, 0.004)) }},
		{"hovers at 20 %", false, 21, func(d *disk) { d.hover(d.between(0.198, 0.202), 0.001) }},
		// Metadata that grows by a few blocks a day.
		{"slow leak at 5 %, no end", false, 30, func(d *disk) {
			d.hover(0.0499, 0.0003)
			rate := d.between(0.0003, 0.0008)
			d.curve(volumes, 0, func(days float64) float64 { return rate * days })
		}},
		// A host that lasts for another year.
		{"slow leak at 15 %, no end", false, 30, func(d *disk) {
			d.begin(0.13, 0.16)
			rate := d.between(0.0003, 0.001)
			d.curve(volumes, 0, func(days float64) float64 { return rate * days })
		}},
		// A database approaches its limit ever more slowly.
		{"flattens before it is full", false, 24, func(d *disk) {
			d.begin(0.3, 0.5)
			from := d.minute(3*day, 8*day)
			share, scale := d.freeAt(from)-d.between(0.07, 0.1), d.between(1, 3)
			d.curve(volumes, from, func(days float64) float64 { return share * -math.Expm1(-days/scale) })
		}},
		// The other disk of the host is full by design.
		{"two disks, one 97 % full", false, 21, func(d *disk) {
			d.begin(0.25, 0.4)
			d.nightly(0.1)
			d.other = newDisk(d.rng.Uint64(), d.n)
			d.other.hover(d.between(0.028, 0.035), 0.0005)
			d.other.bytes = 4 << 40
		}},
	}
}

// unseenCleaned are cleaned in time, by a schedule or at a limit.
func unseenCleaned() []kind {
	return []kind{
		{"prune each week", false, 30, func(d *disk) {
			d.pruneEvery(d.minute(0, week), week, d.between(0.2, 0.36), d.between(0.12, 0.2))
		}},
		{"prune every ten days", false, 36, func(d *disk) {
			d.pruneEvery(d.minute(0, 10*day), 10*day, d.between(0.2, 0.36), d.between(0.12, 0.2))
		}},
		{"prune each month", false, 44, func(d *disk) {
			d.pruneEvery(12*day+d.minute(0, 2*day), 30*day, d.between(0.2, 0.36), d.between(0.12, 0.2))
		}},
		{"prune every hour", false, 21, func(d *disk) {
			d.pruneEvery(d.minute(0, hour), hour, d.between(0.03, 0.12), d.between(0.12, 0.2))
		}},
		// Builds all night, too.
		{"prune each night, deep", false, 21, func(d *disk) {
			d.pruneEvery(d.minute(0, 6*hour), day, d.between(0.2, 0.36), d.between(0.12, 0.2))
		}},
		{"prune Monday to Friday", false, 30, func(d *disk) {
			share := d.between(0.06, 0.12)
			d.begin(3*share+0.12, 3*share+0.2)
			for i := range d.n {
				d.add(dangling, i, share/day*2*d.rng.Float64())
				if i%week < 5*day && i%day == 20*hour {
					d.prune(dangling, i, 0)
				}
			}
		}},
		// BuildKit's garbage collection keeps 20 % of the disk free.
		{"build cache at 80 %", false, 21, func(d *disk) {
			d.base[cache] = 0.2
			d.begin(0.24, 0.3)
			d.cleaner = cleaner{cache, 0.2, 0.2}
			for i := 0; i < d.n; i += d.minute(10, 90) {
				d.ramp(cache, i, d.minute(3, 20), d.between(0.003, 0.02))
			}
		}},
		// A cleaner as the kubelet's, from 85 % used to 80 %.
		{"images cleaned at 85 %", false, 21, func(d *disk) {
			d.base[unused] = 0.2
			d.begin(0.2, 0.3)
			d.cleaner = cleaner{unused, 0.15, 0.2}
			for i := 0; i < d.n; i += d.minute(30, 5*hour) {
				d.ramp(unused, i, d.minute(3, 15), d.between(0.005, 0.02))
			}
		}},
		// A registry mirror that removes a third of its data at 85 %.
		{"mirror cleaned at 85 %", false, 30, func(d *disk) {
			d.base[volumes] = 0.4
			d.begin(0.25, 0.4)
			d.cleaner = cleaner{volumes, 0.15, 0.4}
			rate := d.between(0.04, 0.09)
			d.curve(volumes, 0, func(days float64) float64 { return rate * days })
		}},
		// A cache of data sets that removes the oldest at 90 %.
		{"data sets cleaned at 90 %", false, 30, func(d *disk) {
			d.base[volumes] = 0.4
			d.begin(0.15, 0.4)
			d.cleaner = cleaner{volumes, 0.1, 0.18}
			d.steps(volumes, 0, d.minute(8*hour, 30*hour), d.minute(20, 90), 0.015)
		}},
		// Logs rotate by size, once a week or so.
		{"logs rotate by size", false, 30, func(d *disk) {
			d.base[logs] = 0.15
			d.begin(0.2, 0.3)
			d.cleaner = cleaner{logs, 0.14, 0.22}
			d.curve(logs, 0, func(days float64) float64 { return 0.012 * days })
		}},
		// Package caches of builds: many small files, removed at night.
		{"inodes, removed each day", false, 21, func(d *disk) {
			d.begin(0.5, 0.7)
			d.perByte = 0.1
			d.dips(files, d.minute(6*hour, 9*hour), day, 10*hour, 4*hour, d.between(0.65, 0.75))
		}},
		{"inodes, removed each week", false, 30, func(d *disk) {
			d.begin(0.5, 0.7)
			d.perByte = 0.1
			d.dips(files, d.minute(0, day)-week, week, 6*day, 2*hour, d.between(0.65, 0.75))
		}},
		// The old release is removed some days after the new one is there.
		{"weekly release, old one removed", false, 30, func(d *disk) {
			d.begin(0.32, 0.42)
			d.dips(unused, d.minute(0, 2*day), week, d.minute(20, 60), d.minute(day, 3*day), d.between(0.12, 0.2))
		}},
	}
}

// unseenQuiet change for a reason that ends.
func unseenQuiet() []kind {
	return []kind{
		{"nightly backup, growing", false, 24, func(d *disk) {
			d.begin(0.35, 0.42)
			at := d.minute(0, 4*hour)
			for n := range d.n / day {
				d.bump(system, n*day+at, d.minute(30, 90), d.minute(20, 90), 3, 0.12+0.004*float64(n))
			}
		}},
		{"weekly dump", false, 30, func(d *disk) {
			d.begin(0.33, 0.4)
			d.dips(volumes, 6*day+d.minute(0, 3*hour)-week, week, d.minute(60, 150), d.minute(30, 90), 0.2)
		}},
		// Month-end processing keeps its files for two days.
		{"month end", false, 30, func(d *disk) {
			d.begin(0.44, 0.5)
			d.bump(volumes, d.minute(16*day, 26*day), d.minute(6*hour, 12*hour), 2*day, 20, 0.24)
		}},
		// Integration tests create and drop databases.
		{"test databases", false, 21, func(d *disk) {
			d.begin(0.3, 0.4)
			d.dips(volumes, 20, d.minute(40, 120), d.minute(5, 20), d.minute(3, 10), d.between(0.08, 0.18))
		}},
		// For some minutes of a deploy, both releases are there.
		{"rolling deploys", false, 21, func(d *disk) {
			d.begin(0.26, 0.36)
			d.dips(images, d.minute(8*hour, 17*hour), day, d.minute(3, 10), d.minute(10, 40), d.between(0.08, 0.14))
		}},
		// Core dumps are removed after a day.
		{"core dump now and then", false, 21, func(d *disk) {
			d.begin(0.22, 0.35)
			for i := d.minute(0, 4*day); i < d.n; i += d.minute(2*day, 6*day) {
				d.bump(system, i, 2, day, 1, d.between(0.04, 0.09))
			}
		}},
		{"log burst that stops", false, 21, func(d *disk) {
			d.begin(0.5, 0.6)
			d.ramp(logs, d.minute(3*day, d.n-day), d.minute(30, 120), d.between(0.1, 0.2))
		}},
		// A project moves to this host over a weekend.
		{"import over a weekend", false, 21, func(d *disk) {
			d.begin(0.6, 0.7)
			d.ramp(volumes, 12*day+d.minute(0, 10*hour), d.minute(20*hour, 36*hour), d.between(0.28, 0.36))
		}},
		// A host is set up: images are pulled, then it runs.
		{"new host settles", false, 3, func(d *disk) {
			d.begin(0.8, 0.85)
			d.watchedFrom = d.minute(6*hour, day)
			d.ramp(images, d.watchedFrom+d.minute(5, 60), d.minute(20, 90), d.between(0.3, 0.45))
		}},
		{"new host, restore fits", false, 3, func(d *disk) {
			d.begin(0.8, 0.85)
			d.watchedFrom = d.minute(6*hour, day)
			d.ramp(volumes, d.watchedFrom+d.minute(5, 2*hour), d.minute(3*hour, 8*hour), d.between(0.4, 0.55))
		}},
		// The build cache was removed, and fills up to its limit again.
		{"build cache warms up", false, 21, func(d *disk) {
			d.base[cache] = 0.25
			d.begin(0.33, 0.38)
			d.cleaner = cleaner{cache, 0.3, 0.3}
			at := d.minute(4*day, 14*day)
			d.prune(cache, at, 0)
			d.curve(cache, at, func(days float64) float64 { return 0.3 * -math.Expm1(-days*4) })
			d.steps(cache, 0, 2*hour, 10, 0.004)
		}},
		{"8 GB, pull that fits", false, 21, func(d *disk) {
			d.begin(0.4, 0.5)
			d.bytes = 8 << 30
			for i := d.minute(0, 3*day); i < d.n; i += d.minute(2*day, 5*day) {
				d.bump(unused, i, d.minute(3, 12), d.minute(2*hour, day), 1, 0.25)
			}
		}},
		{"laptop, builds at work", false, 30, func(d *disk) {
			d.begin(0.32, 0.42)
			d.sleep(awakeAtWork)
			share := d.between(0.1, 0.2)
			for i := range d.n {
				if awakeAtWork(i) {
					d.add(cache, i, share/(11*hour)*2*d.rng.Float64())
				}
				if i%day == 18*hour {
					d.prune(cache, i, 0)
				}
			}
		}},
		{"gaps of hours", false, 21, func(d *disk) {
			d.begin(0.33, 0.45)
			d.hourly(0.08, 0.2, true)
			for i := d.minute(0, day); i < d.n; i += d.minute(day/2, 4*day) {
				d.loseScrapes(i, d.minute(hour, 9*hour))
			}
		}},
		{"exporter in a crash loop, no leak", false, 16, func(d *disk) {
			d.begin(0.25, 0.4)
			d.nightly(0.1)
			for i := 2 * day; i < d.n; i += d.minute(5, 15) {
				d.restart(i)
			}
		}},
		{"a week at 11 %, then resized", false, 24, func(d *disk) {
			d.begin(0.105, 0.12)
			d.resizes = []resize{{d.minute(7*day, 14*day), d.between(1.2, 2)}}
		}},
	}
}
