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

// A Link leads from the page to another one of the program.
type Link struct {
	Address, Text string
}

// Page serves what snapshot returns as a page. It needs no script; with one, commands
// have a button that copies them.
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

// hash is how a Content-Security-Policy names what it allows.
func hash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// parse makes the template of the page.
func parse() *template.Template {
	functions := template.FuncMap{
		"css":     func() template.CSS { return template.CSS(pageCSS) },
		"js":      func() template.JS { return template.JS(pageJS) },
		"bytes":   anyBytes,
		"percent": func(share *float64) string { return unbroken(Percent(share)) },
		"freed":   func(r Reclaimable) string { return strings.Replace(unbroken(r.String()), "least\u00a0", "least ", 1) },
		"number":  number,
		"took":    took,
		"title":   func(name any) string { return title(fmt.Sprint(name)) },
	}
	return template.Must(template.New("page").Funcs(functions).Parse(pageHTML))
}

// anyBytes writes a size that is known, or may be.
func anyBytes(n any) string {
	if known, ok := n.(int64); ok {
		return unbroken(Bytes(&known))
	}
	return unbroken(Bytes(n.(*int64)))
}

// unbroken keeps a number and its unit in one line.
func unbroken(s string) string { return strings.ReplaceAll(s, " ", "\u00a0") }

// A view is a report as it is seen at a time.
type view struct {
	Report
	thresholds Thresholds
	Version    string
	Links      []Link
	now        time.Time
}

// IsOneDisk tells whether all that the engine holds is on one file system, which is known.
func (v view) IsOneDisk() bool { return len(v.Filesystems) == 1 && len(v.Unmeasured) == 0 }

// Below is the threshold that a verdict says is not reached.
func (v view) Below(verdict Verdict) string {
	if verdict == Critical {
		return unbroken(Percent(&v.thresholds.Crit))
	}
	return unbroken(Percent(&v.thresholds.Warn))
}

// Scarce is of what there is so little on a file system that its verdict is what it is.
func (v view) Scarce(fs Filesystem) string {
	if v.thresholds.judge(fs.FreeShare) == fs.Verdict {
		return "bytes"
	}
	return "inodes"
}

// Age is how old the report is.
func (v view) Age() string { return duration(v.now.Sub(v.TakenAt)) }

// IsExamining tells whether layers of images are still to be looked at.
func (v view) IsExamining() bool { return v.Images.Uninspected != nil && *v.Images.Uninspected > 0 }

// Since is how long ago something was.
func (v view) Since(at *time.Time) string { return since(at, v.now) }

// A Segment is a part of a bar, in percent of it.
type Segment struct {
	Class    string
	X, Width float64
}

// Bar is what fills a file system: what each resource takes and all else. What of it a
// prune would free lies over that. Which resource is on which of several file systems
// is not known.
func (v view) Bar(fs Filesystem) []Segment {
	if fs.SizeBytes <= 0 {
		return nil
	}
	used := float64(max(0, fs.SizeBytes-fs.AvailBytes))
	percent := 100 / float64(fs.SizeBytes)
	var known float64
	for _, resource := range v.Resources {
		if resource.UsageBytes != nil {
			known += float64(*resource.UsageBytes)
		}
	}
	if known > used && known > 0 { // sparse files, or what was written meanwhile
		percent *= used / known
	}
	var segments, free []Segment
	x := 0.0
	if v.IsOneDisk() {
		for _, resource := range v.Resources {
			if resource.UsageBytes == nil {
				continue
			}
			width := float64(*resource.UsageBytes) * percent
			segments = append(segments, Segment{string(resource.Name), x, width})
			if bytes := resource.Frees.Bytes; bytes != nil {
				freed := min(float64(*bytes)*percent, width)
				free = append(free, Segment{"freed", x + width - freed, freed})
			}
			x += width
		}
	}
	if rest := used*100/float64(fs.SizeBytes) - x; rest > 0 {
		segments = append(segments, Segment{"rest", x, rest})
	}
	return append(segments, free...)
}

// Rest is what is used of the disk and no resource is known to take; unknown if that
// makes no sense.
func (v view) Rest() *int64 {
	if !v.IsOneDisk() {
		return nil
	}
	rest := v.Filesystems[0].SizeBytes - v.Filesystems[0].AvailBytes
	for _, resource := range v.Resources {
		if resource.UsageBytes != nil {
			rest -= *resource.UsageBytes
		}
	}
	if rest < 0 {
		return nil
	}
	return &rest
}

// IsComplete tells whether it is known what each resource takes.
func (v view) IsComplete() bool {
	for _, resource := range v.Resources {
		if resource.UsageBytes == nil {
			return false
		}
	}
	return true
}
