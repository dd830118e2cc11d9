package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The house has a few rooms and one direction: what a package imports of this
// module, and of what few may touch, is written down here with the reason.
func TestArrows(t *testing.T) {
	t.Parallel()
	const (
		module     = "docker_buildup_exporter"
		alerts     = module + "/alerts"
		collector  = module + "/collector"
		engine     = module + "/collector/engine"
		report     = module + "/collector/report"
		modelPkg   = module + "/collector/model"
		prune      = module + "/collector/prune"
		pace       = module + "/collector/pace"
		dockertest = module + "/collector/docker/dockertest"
		dashboards = module + "/dashboards"
		docker     = "github.com/docker/docker"
	)
	allowed := map[string][]string{
		module:     {alerts, collector, dashboards, engine, report}, // main introduces collector, engine and report to each other
		alerts:     {},                                              // rules and their thresholds
		collector:  {modelPkg, prune},                               // tells what an inventory adds up to, whoever took it
		report:     {modelPkg, prune},                               // tells people the same; pure
		engine:     {modelPkg, pace, docker},                        // the only room that knows Docker
		pace:       {},                                              // when to ask again, of whatever
		modelPkg:   {},                                              // plain values
		prune:      {modelPkg},                                      // pure
		dashboards: {alerts, collector},                             // for the thresholds and the names of the metrics
		dockertest: {docker},                                        // for tests: engines that they may ask
		module + "/collector/docker/dockertest/testdata/idle": {},
	}
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports ","}}`, "./...", "./collector/docker/dockertest/testdata/idle")
	list.Dir = root
	output, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(output)) {
		path, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		arrows, known := allowed[path]
		if !known {
			if imports != "" { // a folder of tests alone has none
				t.Errorf("%s is a room that the house does not have", path)
			}
			continue
		}
		seen++
		for imported := range strings.SplitSeq(imports, ",") {
			matters := strings.HasPrefix(imported, module) || strings.HasPrefix(imported, docker+"/")
			isAllowed := slices.ContainsFunc(arrows, func(arrow string) bool {
				return imported == arrow || arrow == docker && strings.HasPrefix(imported, docker+"/")
			})
			if matters && !isAllowed {
				t.Errorf("%s imports %s", path, imported)
			}
			if (path == modelPkg || path == prune || path == pace) && strings.Contains(imported, ".") {
				t.Errorf("%s is a pure room and imports %s, which is not of the standard library", path, imported)
			}
		}
	}
	if seen != len(allowed) {
		t.Errorf("%d of the house's %d rooms were seen", seen, len(allowed))
	}
}
