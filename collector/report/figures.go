package report

import (
	"fmt"
	"strings"

	"docker_buildup_exporter/collector/model"
)

// Block is a headed list of figures about objects. The page and the text show the same
// blocks: to add a figure to both, add a line here.
type Block struct {
	Heading string // on the page
	IsPart  bool   // of the block before it
	Lines   []line
}

// line is one line of the text, and one row of the page for each of its figures.
type line struct {
	Label   string
	IsPart  bool // of the line before it
	Figures []figure
}

type figure struct {
	Label string // if empty, that of the line
	Value string
}

// Columns returns the blocks in the columns of the page.
func (r Report) Columns() [][]Block {
	i := r.Images
	totals := []line{
		{"tags", false, one(formatNumber(i.Tags))},
		{"layers", false, one(formatNumber(i.Layers))},
		{"virtual size", false, one(formatSize(i.VirtualSize))},
	}
	if n, _ := i.Uninspected.Get(); n > 0 {
		totals = append(totals, line{"uninspected", false, one(fmt.Sprint(n))})
	}
	columns := [][]Block{
		{
			{"Images", false, []line{
				{"images", false, []figure{{"tagged", formatNumber(i.Tagged)}, {"untagged", formatNumber(i.Untagged)}}},
				{"untagged", true, []figure{
					{"dangling", formatNumber(i.Dangling)}, {"intermediate", formatNumber(i.Intermediate)}, {"only a digest", formatNumber(i.DigestOnly)},
				}},
			}},
			{"Used by", true, []line{{"used by", false, each(i.Use, map[string]string{
				model.UseRunning: "running containers", model.UseStopped: "only stopped containers", model.UseNone: "no container",
			})}}},
			{"Unused, created", true, []line{{"unused, created", true, each(i.Unused, map[string]string{
				"0-1d": "under 1 day ago", "1d-7d": "1 to 7 days ago", "7d-30d": "7 to 30 days ago", "30d-90d": "30 to 90 days ago", "90d+": "90 days ago and earlier",
			})}}},
			{"Total", true, totals},
		},
		{
			{"Containers", false, []line{{"containers", false, each(r.Containers.State, nil)}}},
			{"Stopped for", true, []line{{"stopped for", false, each(r.Containers.StoppedFor, map[string]string{
				"0-1h": "under 1 hour", "1h-1d": "1 hour to 1 day", "1d-7d": "1 to 7 days", "7d-30d": "7 to 30 days", "30d+": "30 days and more",
			})}}},
		},
		{
			{"Volumes", false, []line{{"volumes", false, each(r.Volumes, nil)}}},
			{"Build cache records", false, []line{{"build cache", false, each(r.BuildCache, nil)}}},
		},
	}
	var prunes []figure
	for _, p := range r.Prunes {
		times := "once"
		if p.Count > 1 {
			times = fmt.Sprintf("%d times, last", p.Count)
		}
		text := fmt.Sprintf("%s, %s %s", label(p.Resource), times, formatAge(p.Last, r.TakenAt))
		prunes = append(prunes, figure{text, formatBytes(p.Bytes)})
	}
	if len(prunes) > 0 {
		columns[2] = append(columns[2], Block{"Prunes observed", false, []line{{"prunes", false, prunes}}})
	}
	if l, _ := r.Leftovers.Get(); l.Sum() > 0 {
		columns[2] = append(columns[2], Block{"Leftovers", false, []line{{"leftovers", false, []figure{
			{"layers", formatBytes(l.Layers)}, {"another image store", formatBytes(l.OtherStore)}, {"containers", formatBytes(l.Containers)}, {"temporary files", formatBytes(l.Temporary)},
		}}}})
	}
	return columns
}

func one(value string) []figure { return []figure{{"", value}} }

// each returns a figure for each count. labels replace names of counts.
func each(counts model.Counts, labels map[string]string) []figure {
	if counts == nil {
		return one(unknown)
	}
	var figures []figure
	for _, count := range counts {
		name, ok := labels[count.Name]
		if !ok {
			name = label(count.Name)
		}
		figures = append(figures, figure{name, fmt.Sprint(count.N)})
	}
	return figures
}

// String returns the figures of a line, with their own labels if they have any.
func (l line) String() string {
	var parts []string
	for _, f := range l.Figures {
		parts = append(parts, strings.TrimPrefix(f.Label+": "+f.Value, ": "))
	}
	return strings.Join(parts, ", ")
}
