// Package dashboards makes the Grafana dashboards: one of a fleet, one of a host.
package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A File is a dashboard as Grafana provisions and imports it.
type File struct {
	Name    string
	Title   string
	Content []byte
}

// Files makes all dashboards, with lines and colors where the rules have their thresholds.
func Files(t Thresholds) ([]File, error) {
	var files []File
	for _, d := range []dashboard{fleet(t), host(t)} {
		var content bytes.Buffer
		encoder := json.NewEncoder(&content)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(d); err != nil {
			return nil, err
		}
		files = append(files, File{Name: d.UID + ".json", Title: d.Title, Content: content.Bytes()})
	}
	return files, nil
}

// Write writes all dashboards into a folder and prints their paths. Without a
// folder it prints which there are.
func Write(t Thresholds, dir string, stdout io.Writer) error {
	files, err := Files(t)
	if err != nil {
		return err
	}
	if dir == "" {
		for _, file := range files {
			fmt.Fprintf(stdout, "%s\t%s\n", file.Name, file.Title)
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		path := filepath.Join(dir, file.Name)
		if err := os.WriteFile(path, file.Content, 0o644); err != nil {
			return err
		}
		fmt.Fprintln(stdout, path)
	}
	return nil
}
