package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
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
// script, which adds buttons that copy commands.
//
// snapshot returns the summary for a request. It must return one that is at most five
// seconds old, and should return an existing one of that age, so that any number of
// readers costs the engine no more than one scraper.
func Page(snapshot func(*http.Request) prune.Summary, version string, links []Link) http.Handler {
	page, thresholds := parse(), DefaultThresholds()
	policy := fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		hash(pageCSS), hash(pageJS))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		v := view{New(snapshot(r), thresholds), thresholds, version, links, time.Now()}
		if err := page.Execute(&body, v); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Length", strconv.Itoa(body.Len()))
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		w.Write(body.Bytes())
	})
}

// hash returns the source expression of a Content-Security-Policy for an inline element.
func hash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// parse returns the template of the page.
func parse() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"css":     func() template.CSS { return template.CSS(pageCSS) },
		"js":      func() template.JS { return template.JS(pageJS) },
		"bytes":   formatBytes,
		"size":    formatSize,
		"share":   formatShare,
		"latency": formatLatency,
		"label":   func(name any) string { return label(fmt.Sprint(name)) },
		"nowrap":  nowrap,
		"words":   func(command any) []string { return strings.Fields(fmt.Sprint(command)) },
	}).Parse(pageHTML))
}

// nowrap keeps a text on one line, except that what is in parentheses may be on the next.
func nowrap(s string) string {
	return strings.NewReplacer(" (", " (", " ", "\u00a0").Replace(s)
}

// view is the data of the page's template.
type view struct {
	Report
	thresholds Thresholds
	Version    string
	Links      []Link
	now        time.Time
}

// Age returns how old the report is.
func (v view) Age() string { return formatDuration(v.now.Sub(v.TakenAt)) }

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
