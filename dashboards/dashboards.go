// Package dashboards makes the Grafana dashboards: one of a fleet, one of a host.
package dashboards

import (
	"bytes"
	"encoding/json"

	"docker_buildup_exporter/alerts"
)

// Files makes all dashboards as Grafana provisions and imports them, by the names of
// their files. Lines and colors are where the rules have these thresholds.
func Files(t alerts.Thresholds) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, d := range []dashboard{fleet(t), host(t)} {
		var content bytes.Buffer
		encoder := json.NewEncoder(&content)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(d); err != nil {
			return nil, err
		}
		files[d.UID+".json"] = content.Bytes()
	}
	return files, nil
}
