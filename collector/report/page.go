package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// Link is a link to another page of the program.
type Link struct {
	Address, Text string
}

// Page returns a handler that serves the report as a page. The page works without its
// script, which adds buttons that copy commands, shows the local time and refreshes the page.
//
// snapshot returns the summary for a request. It must return one that is at most five
// seconds old, and should return an existing one of that age, so that any number of
// readers costs the engine no more than one scraper.
func Page(snapshot func(*http.Request) prune.Summary, version string, links []Link) http.Handler {
	page, thresholds := parse(), DefaultThresholds()
	policy := fmt.Sprintf("style-src '%s'; script-src '%s'; connect-src 'self'; img-src data:", hash(pageCSS), hash(pageJS))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		servePage(w, page, view{New(snapshot(r), thresholds), version, links, time.Now()}, policy)
	})
}

// hash returns the source expression of a Content-Security-Policy for an inline element.
func hash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func parse() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"css":     func() template.CSS { return template.CSS(pageCSS) },
		"js":      func() template.JS { return template.JS(pageJS) },
		"bytes":   formatBytes,
		"share":   formatShare,
		"latency": formatLatency,
		"class":   holderClass,
		"frees":   freesText,
		"label":   func(name any) string { return label(fmt.Sprint(name)) },
		"nowrap":  nowrap,
		"words":   func(command any) []string { return strings.Fields(fmt.Sprint(command)) },
	}).Parse(pageHTML))
}

// nowrap keeps a text on one line, except that what is in parentheses may be on the next.
func nowrap(s string) string {
	return strings.NewReplacer(" (", " (", " ", "\u00a0").Replace(s)
}

type view struct {
	Report
	Version string
	Links   []Link
	now     time.Time
}

// Age returns how old the report is.
func (v view) Age() string { return formatDuration(v.now.Sub(v.TakenAt)) }

// AgeSeconds returns the same in seconds.
func (v view) AgeSeconds() int { return int(max(0, v.now.Sub(v.TakenAt)).Seconds()) }

// Since returns how long ago something happened.
func (v view) Since(at model.Optional[time.Time]) string { return formatAge(at, v.now) }

// IsOneDisk reports whether one file system holds all data of the engine.
func (v view) IsOneDisk() bool { return len(v.Filesystems) == 1 && len(v.Unmeasured) == 0 }

// Shortage describes the threshold that a file system with too little space is below.
func (v view) Shortage(fs Filesystem) string {
	threshold, what := v.thresholds.Warn, "inodes"
	if fs.Status == Critical {
		threshold = v.thresholds.Crit
	}
	if v.thresholds.evaluate(fs.FreeShare) == fs.Status {
		what = "bytes"
	}
	return fmt.Sprintf("Less than %s of its %s are free.", nowrap(formatShare(model.Known(threshold))), what)
}

// Hostname returns the name of the engine's host, or "".
func (v view) Hostname() string {
	engine, _ := v.Engine.Get()
	return engine.Hostname
}

// Left returns when a file system is full, or "" if that is unknown.
func (v view) Left(fs Filesystem) string {
	if left, known := fs.SecondsToFull.Get(); known {
		return formatDuration(left)
	}
	return ""
}

// Rest returns how many bytes of files no resource holds, or "" if that is unknown.
func (v view) Rest() string {
	if !v.IsOneDisk() {
		return ""
	}
	rest, known := v.Filesystems[0].Used.Get()
	for _, r := range v.Resources {
		usage, isKnown := r.Usage.Get()
		rest, known = rest-usage, known && isKnown
	}
	if !known || rest <= 0 {
		return ""
	}
	return formatBytes(rest)
}

// Look returns the command that shows what is on the disk.
func (v view) Look() string {
	return `du -xh -d3 "$(stat -c %m ` + quote(v.Filesystems[0].Path) + `)" | sort -h | tail`
}

// quote returns a path as an argument of a shell command.
func quote(path string) string {
	if strings.Trim(path, "/._-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// State describes the state of a holder.
func (v view) State(h prune.Holder) string { return holderState(h, v.now) }

func holderState(h prune.Holder, now time.Time) string {
	since := func(prefix string) string {
		if !h.Since.IsKnown() {
			return ""
		}
		return prefix + formatAge(h.Since, now)
	}
	switch {
	case h.Builder != "" && h.Unused == 0: // the builder exists
		return "cache of a builder: docker buildx prune --builder " + h.Builder
	case h.Kind == prune.ContainerHolder:
		return h.State + since(" ")
	case h.Kind == prune.RepositoryHolder:
		return fmt.Sprintf("%d of %d unused", h.Unused, h.Count)
	case h.Kind == prune.CacheHolder:
		return fmt.Sprintf("%d unused%s", h.Count, since(", last used "))
	}
	return h.State
}

// holderClass returns the class of the color of a kind of holder.
func holderClass(kind prune.HolderKind) string {
	return map[prune.HolderKind]string{prune.VolumeHolder: "volumes", prune.ContainerHolder: "containers", prune.RepositoryHolder: "images", prune.CacheHolder: "build_cache"}[kind]
}

// freesText returns what removing the unused objects of a holder frees.
func freesText(h prune.Holder) string {
	if h.Unused == 0 {
		return "in use"
	}
	return formatSize(h.Frees)
}

// sparkline is the free space of a file system over time. Points are coordinates of a polyline in
// a box of 1000 by 100.
type sparkline struct {
	Points, First, Last, Period string
}

// Line returns the free space of a file system as a line, or nil before there are two samples.
func (v view) Line(fs Filesystem) *sparkline {
	n := len(fs.samples)
	if n < 2 || fs.Size <= 0 {
		return nil
	}
	start := fs.samples[0].At
	span := max(time.Second, v.TakenAt.Sub(start))
	highest := fs.Avail
	for _, s := range fs.samples {
		highest = max(highest, s.Bytes)
	}
	var points strings.Builder
	put := func(at time.Time, bytes int64) {
		fmt.Fprintf(&points, "%.1f,%.1f ", 1000*at.Sub(start).Seconds()/span.Seconds(), 97-94*float64(bytes)/float64(max(1, highest)))
	}
	for _, s := range fs.samples {
		put(s.At, s.Bytes)
	}
	put(v.TakenAt, fs.Avail)
	return &sparkline{strings.TrimSpace(points.String()), formatBytes(fs.samples[0].Bytes), formatBytes(fs.Avail), formatDuration(span)}
}

// part is a row of the table of the disk: a resource, anything else, or free space.
type part struct {
	Class, Label      string
	Size, Reclaimable string
}

// Parts returns the resources and, if they are all on one disk, what else uses it and
// what is free.
func (v view) Parts() []part {
	var parts []part
	var sum int64
	other := "other"
	if len(v.Resources) < len(model.Resources())+2 { // without the logs of containers or leftovers
		other = "other and unknown"
	}
	for _, r := range v.Resources {
		reclaimable := ""
		if r.Command != "" {
			reclaimable = r.Reclaimable.String()
		}
		parts = append(parts, part{string(r.Name), label(r.Name), formatSize(r.Usage), reclaimable})
		usage, known := r.Usage.Get()
		sum += usage
		if !known {
			other = "other and unknown"
		}
	}
	if v.IsOneDisk() {
		fs := v.Filesystems[0]
		if rest := fs.Size - fs.Avail - sum; rest >= 0 { // negative with sparse files, or if something changed between requests
			parts = append(parts, part{"rest", other, formatBytes(rest), ""})
		}
		parts = append(parts, part{"free", "free", formatBytes(fs.Avail), ""})
	}
	return parts
}

// segment is a part of a bar. X and Width are in percent of the bar.
type segment struct {
	Class    string
	X, Width float64
}

// Bar returns what fills a file system: each resource and the rest and, on top of them,
// what their prune commands would free. With several file systems it is unknown which
// resource is on which of them.
func (v view) Bar(fs Filesystem) []segment {
	if fs.Size <= 0 {
		return nil
	}
	percent := 100 / float64(fs.Size)
	used, x := float64(max(0, fs.Size-fs.Avail))*percent, 0.0
	var segments, freed []segment
	for _, r := range v.Resources {
		usage, _ := r.Usage.Get()
		bytes, _ := r.Reclaimable.Bytes.Get()
		width := min(float64(usage)*percent, used-x) // sparse files can be larger than what is used
		if width <= 0 || !v.IsOneDisk() {
			continue
		}
		segments = append(segments, segment{string(r.Name), x, width})
		x += width
		if prunable := min(float64(bytes)*percent, width); prunable > 0 {
			freed = append(freed, segment{"freed", x - prunable, prunable})
		}
	}
	if x < used {
		segments = append(segments, segment{"rest", x, used - x})
	}
	return append(segments, freed...)
}
