// Package faults has a table of what an engine, a proxy or a network may do, and of what must
// hold meanwhile. See "Add a fault" in CONTRIBUTING.md.
package faults

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A fault is a row of the table. It begins after the exporter has been complete, unless isCold,
// lasts for some scrapes, and ends. What must hold is the same for each row, see check.
type fault struct {
	at   string // the endpoint, or what else is broken
	what string
	do   answer // what the endpoint answers

	begin, end func(*rig)      // what else happens when it begins, and when it is over
	each       func(*rig, int) // before each scrape

	fails string // the collectors that fail because of it; "up": all do; "info": no collector; "?images": now and then
	log   string // the operations that are logged, and reasons: "list images: unexpected EOF; …"
	lacks string // prefixes of series that are absent beside those of the collectors that fail

	isCold  bool
	scrapes int               // while it lasts; 0 means 7
	from    int               // the scrape from which on it is known; 0 means 4, a minute later
	within  int               // the scrape after the end that is right again; 0 means 5
	becomes string            // the folder of the engine that is there from now on
	other   string            // that of an engine that is there meanwhile
	stays   bool              // there is no end
	counts  map[string]string // figures that are others from now on
	late    int               // scrapes before it can be known; their figures are not checked
}

var show = flag.Bool("show", false, "print the table of faults with the results")

func TestFaults(t *testing.T) {
	log.SetOutput(io.Discard)                   // net/http writes there, as in main
	fresh := make(map[string]map[string]string) // pages of an exporter that starts now, by folder
	for _, folder := range []string{usual, "29-containerd", "20.10-overlay2", "api-1.51-containerd", "engine-too-old"} {
		run(t, folder, nil, func(r *rig) { fresh[folder] = r.warmUp() })
	}
	var printed strings.Builder
	rows := table()
	names := make(map[string]bool)
	for i, f := range rows {
		name := f.at + ": " + f.what
		if names[name] {
			t.Errorf("two rows are %q", name)
		}
		names[name] = true
		result := result{fault: f}
		t.Run(name, func(t *testing.T) {
			f.run(t, fresh, &result)
		})
		fmt.Fprintf(&printed, "%3d %s\n", i+1, result)
	}
	if *show {
		fmt.Print(printed.String())
	}
	t.Logf("%d rows", len(rows))
}

// run makes one row happen.
func (f fault) run(t *testing.T, fresh map[string]map[string]string, result *result) {
	begin := func(r *rig) {
		if f.do != nil {
			r.breaks(f.at, f.do)
		}
		if f.begin != nil {
			f.begin(r)
		}
	}
	cold := begin
	if !f.isCold {
		cold = nil
	}
	run(t, usual, cold, func(r *rig) {
		before, goroutines := withoutPrunes(fresh[usual]), ""
		if !f.isCold {
			before, goroutines = r.warmUp(), r.goroutines()
			time.Sleep(time.Second)
			begin(r)
		}
		after := before
		if f.becomes != "" {
			after = withPrunesOf(fresh[f.becomes], before)
		}
		c := checker{rig: r, fault: f, allowed: []map[string]string{before, after}}
		if f.other != "" {
			c.allowed = append(c.allowed, fresh[f.other])
		}
		for i := range cmp.Or(f.scrapes, 7) {
			if f.each != nil {
				f.each(r, i)
			}
			c.during(i)
			time.Sleep(scrapeInterval)
		}
		r.repairs()
		if f.end != nil {
			f.end(r)
		}
		after = maps.Clone(after)
		maps.Copy(after, f.counts)
		if !f.stays {
			result.recovered = c.afterwards(after)
		}
		c.log()
		if !f.isCold {
			r.stop()
			if now := r.goroutines(); strings.Count(now, "\n") > strings.Count(goroutines, "\n") {
				t.Errorf("goroutines before the fault:\n%s\nand now:\n%s", goroutines, now)
			}
		}
		result.ok = !t.Failed()
	})
}

// withPrunesOf returns a page with the prunes of another one, as far as both have them.
func withPrunesOf(page, other map[string]string) map[string]string {
	page = maps.Clone(page)
	for series := range page {
		if value, there := other[series]; there && hasPrefix(series, "docker_prune", "docker_last_prune") {
			page[series] = value
		}
	}
	return page
}

// withoutPrunes returns a page of an exporter that has seen no prune.
func withoutPrunes(page map[string]string) map[string]string {
	page = maps.Clone(page)
	for series := range page {
		switch {
		case hasPrefix(series, "docker_prune"):
			page[series] = "0"
		case hasPrefix(series, "docker_last_prune"):
			delete(page, series)
		}
	}
	return page
}

func hasPrefix(text string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(text, prefix) })
}

// warmUp scrapes until everything is known, and returns the page. Somebody prunes meanwhile.
func (r *rig) warmUp() map[string]string {
	r.scrape()
	time.Sleep(scrapeInterval)
	r.events.send("container prune", "reclaimed", "1000")
	synctest.Wait()
	r.scrape()
	time.Sleep(scrapeInterval)
	page, _ := r.scrape()
	return page
}

// checker checks what must hold for a row.
type checker struct {
	*rig
	fault
	allowed []map[string]string // pages: each figure is that of one of them, or absent
}

// during scrapes while the fault lasts.
func (c *checker) during(scrape int) {
	c.Helper()
	page, took := c.scrape()
	if took > scrapeTimeout {
		c.Errorf("scrape %d took %v", scrape, took)
	}
	for series, value := range page {
		if scrape >= c.fault.late && !c.isRight(series, value, page) {
			c.Errorf("scrape %d: %s is %s, want one of %s", scrape, series, value, c.wanted(series))
		}
	}
	if scrape < cmp.Or(c.from, 4) { // a request that hangs is not known to have failed for 30 s
		return
	}
	failing := slices.DeleteFunc(failing(page), func(name string) bool { return c.hasFailed("?" + name) })
	if got := strings.Join(failing, " "); got != c.expected() {
		c.Errorf("scrape %d: the collectors %q fail, want %q", scrape, got, c.expected())
	}
	for series := range c.allowed[0] {
		if _, there := page[series]; !there && !c.mayLack(series) {
			c.Errorf("scrape %d: %s is absent", scrape, series)
		}
	}
}

// wanted returns the values that a series may have.
func (c *checker) wanted(series string) (values []string) {
	for _, page := range c.allowed {
		values = append(values, page[series])
	}
	if value, there := c.counts[series]; there {
		values = append(values, value)
	}
	return values
}

// isRight reports whether a figure may stand on a page while the fault lasts.
func (c *checker) isRight(series, value string, page map[string]string) bool {
	if slices.Contains(c.wanted(series), value) {
		return true
	}
	_, wasThere := c.allowed[0][series]
	lower := func() bool { return wasThere && number(value) <= number(c.allowed[0][series]) }
	switch name, labels, _ := strings.Cut(series, "{"); name {
	case "docker_scrape_collector_duration_seconds", "docker_scrape_collector_last_success_timestamp_seconds", "docker_scrape_collector_success":
		return true
	case "docker_up":
		return value == "0" && c.hasFailed("up")
	case "docker_last_prune_timestamp_seconds": // of any clock
		return len(c.counts) > 0 && number(value) < 9.21e9
	case "docker_filesystem_avail_bytes", "docker_filesystem_files_free": // of a real disk
		return number(value) > 0
	case "docker_images_uninspected":
		return c.hasFailed("layers") || c.isCold
	case "docker_reclaimable_exact": // less is certain
		return value == "0"
	case "docker_reclaimable_min_bytes":
		return lower()
	case "docker_reclaimable_bytes": // an estimate
		return page["docker_reclaimable_exact{"+labels] == "0" && lower()
	case "docker_containers_stopped": // the others
		return c.hasFailed("containers") && lower()
	case "docker_disk_usage_bytes", "docker_image_layers":
		return c.fails != "" && lower()
	}
	return false
}

func number(text string) float64 {
	n, _ := strconv.ParseFloat(text, 64)
	return n
}

func (c *checker) hasFailed(collector string) bool {
	failed := strings.Fields(c.fails)
	return slices.Contains(failed, collector) || slices.Contains(failed, "?"+collector)
}

// expected returns which collectors fail, sorted.
func (c *checker) expected() string {
	if slices.Contains(strings.Fields(c.fails), "up") {
		if c.isCold {
			return "up"
		}
		return strings.Join(slices.Sorted(slices.Values(append(strings.Fields(c.fails), "build_cache", "container_sizes", "containers", "images", "layers", "volumes"))), " ")
	}
	failing := slices.DeleteFunc(strings.Fields(c.fails), func(name string) bool { return name == "info" || name[0] == '?' })
	slices.Sort(failing)
	return strings.Join(failing, " ")
}

// failing returns the collectors that fail, and "up" if the engine is not.
func failing(page map[string]string) (failing []string) {
	for series, value := range page {
		_, labels, _ := strings.Cut(series, `docker_scrape_collector_success{collector="`)
		if name := strings.TrimSuffix(labels, `"}`); name != "" && value == "0" {
			failing = append(failing, name)
		}
	}
	if page["docker_up"] == "0" {
		failing = append(failing, "up")
	}
	slices.Sort(failing)
	return failing
}

// mayLack reports whether a series may be absent: something that it depends on has failed.
func (c *checker) mayLack(series string) bool {
	if c.becomes != "" || c.hasFailed("filesystems") && hasPrefix(series, "docker_filesystem") || hasPrefix(series, strings.Fields(c.lacks)...) {
		return true
	}
	if c.isCold && c.fails != "" && hasPrefix(series, "docker_scrape_collector", "docker_prune") { // of what never succeeded
		return true
	}
	if c.hasFailed("up") {
		return series != "docker_up" && !hasPrefix(series, "docker_filesystem", "docker_prune", "docker_last_prune", "docker_scrape_collector")
	}
	depends := []struct{ prefix, on string }{
		{"docker_image_layers", "images layers"},
		{"docker_images{", "images containers"},
		{"docker_images_unused", "images containers"},
		{"docker_images_dangling", "images info"},
		{"docker_images_intermediate", "images info"},
		{"docker_image", "images"},
		{"docker_containers", "containers"},
		{"docker_volumes", "volumes containers"},
		{"docker_build_cache_records", "build_cache"},
		{`docker_disk_usage_bytes{resource="images"`, "images layers info"},
		{`docker_disk_usage_bytes{resource="containers"`, "containers container_sizes"},
		{`docker_disk_usage_bytes{resource="volumes"`, "volumes"},
		{`docker_disk_usage_bytes{resource="build_cache"`, "build_cache images layers info"},
		{"docker_reclaimable", c.fails},
		{"docker_engine_info", "info"},
	}
	for _, d := range depends {
		if strings.HasPrefix(series, d.prefix) {
			return slices.ContainsFunc(strings.Fields(d.on), c.hasFailed)
		}
	}
	return false
}

// afterwards scrapes until the page is right again, and returns the number of scrapes.
func (c *checker) afterwards(want map[string]string) (scrapes int) {
	c.Helper()
	var difference string
	within := cmp.Or(c.within, 5)
	for scrapes = 1; scrapes <= within; scrapes++ {
		page, _ := c.scrape()
		if difference = differ(page, want); difference == "" {
			return scrapes
		}
		time.Sleep(scrapeInterval)
	}
	c.Errorf("not right again after %d scrapes: %s", within, difference)
	return 0
}

// differ returns how a page differs from what it should be, or "".
func differ(page, want map[string]string) string {
	var differences []string
	all := maps.Clone(want)
	maps.Copy(all, page)
	for _, series := range slices.Sorted(maps.Keys(all)) {
		if hasPrefix(series, "docker_scrape_collector_duration", "docker_scrape_collector_last", "docker_last_prune", "docker_filesystem_avail", "docker_filesystem_files_free") {
			continue
		}
		if page[series] != want[series] {
			differences = append(differences, fmt.Sprintf("%s is %q, want %q", series, page[series], want[series]))
		}
	}
	return strings.Join(differences, "; ")
}

// log checks that the log has a line for each problem, one for its end, and no others.
func (c *checker) log() {
	c.Helper()
	lines := c.lines()
	for _, line := range lines {
		if strings.Contains(fmt.Sprint(line), secret) {
			c.Errorf("a secret in the log: %.300s", fmt.Sprint(line))
		}
		if n := len([]rune(line.Err)); n > 300 || strings.ContainsAny(line.Err, "\n\r\x1b\x00") {
			c.Errorf("an error of %d characters in the log: %.400q", n, line.Err)
		}
	}
	for wanted := range strings.SplitSeq(c.fault.log, "; ") {
		operation, reason, _ := strings.Cut(wanted, ": ")
		if operation == "" {
			continue
		}
		found, isSometimes := 0, strings.HasPrefix(operation, "?")
		operation = strings.TrimPrefix(operation, "?")
		lines = slices.DeleteFunc(lines, func(line logLine) bool {
			isOne := line.Level == "ERROR" && line.Msg == "cannot "+operation && strings.Contains(line.Err, reason)
			if isOne {
				found++
			}
			return isOne || line.Msg == "recovered" && line.Operation == operation
		})
		if found != 1 && !isSometimes {
			c.Errorf("the log says %d times %q: %+v", found, "cannot "+wanted, c.lines())
		}
	}
	for _, line := range lines {
		c.Errorf("the log also says: %.500s", fmt.Sprintf("%+v", line))
	}
}

// A result is a row with its result.
type result struct {
	fault
	ok        bool
	recovered int // scrapes until it was right again
}

func (r result) String() string {
	verdict := "FAILED"
	if r.ok {
		verdict = fmt.Sprintf("holds; right at scrape %d", r.recovered)
	}
	return fmt.Sprintf("%-32s %-44s %-26s %s", r.at, r.what, "fails: "+r.fails, verdict)
}
