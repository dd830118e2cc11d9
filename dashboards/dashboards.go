// Package dashboards contains the Grafana dashboards: one of a fleet, one of a host.
// The program in generate writes them.
package dashboards

import "embed"

//go:embed *.json
var embedded embed.FS

// Files returns the JSON of each dashboard by file name, as Grafana provisions and
// imports it.
func Files() (map[string][]byte, error) {
	entries, err := embedded.ReadDir(".")
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, entry := range entries {
		if files[entry.Name()], err = embedded.ReadFile(entry.Name()); err != nil {
			return nil, err
		}
	}
	return files, nil
}
