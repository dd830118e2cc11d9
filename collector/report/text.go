package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Write writes the report as "json", or else as text.
func (r Report) Write(w io.Writer, output string) error {
	if output != "json" {
		_, err := io.WriteString(w, r.text())
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// text returns the report for a terminal or a mail. Its first line is that of a
// monitoring plugin.
func (r Report) text() string {
	var text strings.Builder
	fmt.Fprintf(&text, "DOCKER %s - %s", strings.ToUpper(string(r.Status)), sanitize(r.Summary))
	if data := r.performance(); data != "" {
		text.WriteString(" | " + data)
	}
	text.WriteString("\n")
	if engine, _ := r.Engine.Get(); engine.Version != "" {
		fmt.Fprintf(&text, "\n%s\n", sanitize(strings.TrimPrefix(engine.Hostname+": "+r.EngineText(), ": ")))
	}
	var disks, resources, holders, commands, objects, reasons [][]string
	for _, fs := range r.Filesystems {
		disks = append(disks, []string{fs.Path, formatBytes(fs.Size), formatBytes(fs.Avail), formatShare(fs.FreeShare), formatShare(fs.FilesShare)})
	}
	for _, path := range r.Unmeasured {
		disks = append(disks, []string{path, unknown, unknown, "", unknown})
	}
	for _, resource := range r.Resources {
		resources = append(resources, []string{label(resource.Name), formatSize(resource.Usage)})
	}
	for _, h := range r.Holders {
		holders = append(holders, []string{fmt.Sprintf("%s %s", h.Kind, h.Name), holderState(h, r.TakenAt), formatBytes(h.Bytes), freesText(h)})
	}
	for _, command := range r.Commands {
		commands = append(commands, []string{string(command.Command), command.Reclaimable.String()})
	}
	if r.IsPodman() {
		commands = [][]string{{"all", "not reported for Podman"}}
	}
	for _, column := range r.Columns() {
		for _, block := range column {
			for _, line := range block.Lines {
				objects = append(objects, []string{line.Label, line.String()})
			}
		}
	}
	for _, reason := range r.UnknownReasons {
		reasons = append(reasons, []string{reason})
	}
	writeTable(&text, []string{"DISK", "SIZE", "FREE", "", "INODES FREE"}, disks)
	if !r.Up { // nothing else is known
		return text.String()
	}
	writeTable(&text, []string{"RESOURCE", "ON DISK"}, resources)
	writeTable(&text, []string{"WHO HOLDS IT", "STATE", "HOLDS", "REMOVING FREES"}, holders)
	writeTable(&text, []string{"COMMAND", "FREES IF RUN ALONE"}, commands)
	writeTable(&text, []string{"OBJECTS", "COUNT"}, objects)
	writeTable(&text, []string{"WHY FIGURES ARE UNKNOWN"}, reasons)
	return text.String()
}

// writeTable writes an empty line and rows below a head. It writes nothing if there is no row.
func writeTable(w io.Writer, head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(w)
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, 0, len(row))
		for _, cell := range row {
			cells = append(cells, sanitize(cell))
		}
		fmt.Fprintln(tabs, strings.Join(cells, "\t"))
	}
	tabs.Flush()
}

// sanitize replaces control characters, which could control a terminal, and "|", after
// which monitoring systems expect performance data.
func sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '|' {
			return '?'
		}
		return r
	}, s)
}
