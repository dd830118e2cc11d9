package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Write writes the report as "text" or "json".
func (r Report) Write(w io.Writer, output string) error {
	if output == "json" {
		return r.JSON(w)
	}
	return r.Text(w)
}

// JSON writes the report for other programs.
func (r Report) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Text writes the report for a terminal or a mail. The first line is a monitoring
// plugin's.
func (r Report) Text(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "DOCKER %s - %s\n", strings.ToUpper(string(r.Verdict)), plain(r.Summary))
	if e := r.Engine; e != nil {
		fmt.Fprintf(&text, "\nengine %s, API %s, %s (%s)\n", plain(e.Version), plain(e.APIVersion), plain(e.StorageDriver), plain(e.ImageStore))
	}

	var disks, resources, commands [][]string
	for _, fs := range r.Filesystems {
		disks = append(disks, []string{fs.Path, Bytes(&fs.SizeBytes), Bytes(&fs.AvailBytes), Percent(fs.FreeShare), Percent(fs.FilesShare)})
	}
	for _, path := range r.Unmeasured {
		disks = append(disks, []string{path, unknown, unknown, "", unknown})
	}
	for _, resource := range r.Resources {
		resources = append(resources, []string{title(resource.Name), Bytes(resource.UsageBytes)})
	}
	for _, command := range r.Commands {
		commands = append(commands, []string{string(command.Command), command.Frees.String()})
	}
	table(&text, []string{"DISK", "SIZE", "FREE", "", "INODES FREE"}, disks)
	table(&text, []string{"RESOURCE", "ON DISK"}, resources)
	table(&text, []string{"COMMAND", "FREES, ALONE AND NOW"}, commands)

	i := r.Images
	table(&text, []string{"THINGS", "COUNT"}, [][]string{
		{"images", fmt.Sprintf("tagged: %s, untagged: %s", number(i.Tagged), number(i.Untagged))},
		{"untagged", fmt.Sprintf("dangling: %s, intermediate: %s, only a digest: %s", number(i.Dangling), number(i.Intermediate), number(i.DigestOnly))},
		{"used by", list(i.UsedBy())},
		{"tags", number(i.Tags)},
		{"layers", number(i.Layers)},
		{"virtual size", Bytes(i.VirtualSizeBytes)},
		{"containers", list(r.Containers.State)},
		{"stopped for", list(r.Containers.StoppedFor)},
		{"volumes", list(r.Volumes)},
		{"build cache", list(r.BuildCache)},
	})
	var doubts [][]string
	for _, reason := range r.Doubts() {
		doubts = append(doubts, []string{reason})
	}
	table(&text, []string{"WHY SOMETHING IS UNKNOWN"}, doubts)
	_, err := io.WriteString(w, text.String())
	return err
}

// Doubts are why figures are unknown.
func (r Report) Doubts() (reasons []string) {
	wasAsked := make(map[string]bool)
	for _, q := range r.Collectors {
		wasAsked[q.Name] = true
	}
	for kind, isUnknown := range map[string]bool{"images": r.Images.Tagged == nil, "containers": r.Containers.State == nil} {
		if r.Up && isUnknown && !wasAsked[kind] {
			reasons = append(reasons, "the first list of "+kind+" is on its way")
		}
	}
	slices.Sort(reasons)
	if n := r.Images.Uninspected; n != nil && *n > 0 {
		reasons = append(reasons, fmt.Sprintf("layers of %d images are still to be looked at", *n))
	}
	for _, q := range r.Collectors {
		if !q.Success {
			reasons = append(reasons, "not answered: "+title(q.Name))
		}
	}
	return reasons
}

// list writes counts in a line.
func list(counts Counts) string {
	if counts == nil {
		return unknown
	}
	var parts []string
	for _, count := range counts {
		parts = append(parts, fmt.Sprintf("%s: %d", title(count.Name), count.N))
	}
	return strings.Join(parts, ", ")
}

// table writes rows under a head, after an empty line, if there are any.
func table(w io.Writer, head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	var aligned strings.Builder
	tabs := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, 0, len(row))
		for _, cell := range row {
			cells = append(cells, plain(cell))
		}
		fmt.Fprintln(tabs, strings.Join(cells, "\t"))
	}
	tabs.Flush()
	fmt.Fprintln(w)
	io.WriteString(w, aligned.String())
}

// plain takes out of what an engine says that by which it could command a terminal,
// or a monitoring system: to it what follows a bar is no text.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '|' {
			return '?'
		}
		return r
	}, s)
}
