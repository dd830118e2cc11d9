package main

// unseenKinds returns kinds of disks that were written without knowledge of the rules, to score
// them. Rules must not be tuned on these kinds: write another kind in kinds instead.
func unseenKinds() []kind {
	return []kind{
		// A full disk on purpose: an archive or a cache sized by hand.
		{"92 % full by design", false, 30, func(d *disk) {
			d.setFree(d.between(0.075, 0.085))
			d.baseline()
		}},
		// One noisy container without log rotation.
		{"runaway log within an hour", true, 16, func(d *disk) {
			d.setFree(d.between(0.3, 0.7))
			d.baseline()
			d.fill(logs, d.minute(2*day, d.n-day), d.minute(30, 60))
		}},
		// The host was set up this morning, and its restore fills it.
		{"new host fills within hours", true, 16, func(d *disk) {
			d.setFree(d.between(0.5, 0.8))
			d.baseline()
			d.watchedFrom = d.n - 12*hour
			d.fill(volumes, d.watchedFrom+d.minute(10, 60), d.minute(90, 180))
		}},
	}
}
