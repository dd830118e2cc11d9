// Command generate writes the Grafana dashboards as JSON files.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"docker_buildup_exporter/alerts"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write writes the dashboards into an existing directory.
func write(dir string) error {
	files, err := render(alerts.Defaults())
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render returns the JSON of each dashboard by file name. Panels draw the thresholds of
// the alert rules.
func render(t alerts.Thresholds) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, p := range []page{fleet(t), host(t)} {
		d, err := p.build()
		if err != nil {
			return nil, err
		}
		if files[p.uid+".json"], err = encode(d); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// encode returns indented JSON with sorted keys. The SDK's types escape <, > and &,
// which makes queries unreadable, so encode decodes their JSON and encodes it again.
func encode(d any) ([]byte, error) {
	escaped, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var plain any
	if err := json.Unmarshal(escaped, &plain); err != nil {
		return nil, err
	}
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(plain); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}
