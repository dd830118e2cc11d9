package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports checks which packages of this module, and which of the Docker client, each
// package imports.
func TestImports(t *testing.T) {
	t.Parallel()
	const (
		module = "docker_buildup_exporter"
		client = "github.com/docker/docker"
	)
	restricted := []string{client, "github.com/containerd/containerd", "google.golang.org/grpc"}
	in := func(name string) string { return module + "/" + name }
	allowed := map[string][]string{
		module: {
			in("alerts"), in("dashboards"), in("collector"), in("collector/containerd"), in("collector/docker"), in("collector/engine"),
			in("collector/host"), in("collector/model"), in("collector/prune"), in("collector/report"),
		},
		in("alerts"):                                    {in("collector/prune")},         // names of commands
		in("dashboards"):                                {in("alerts"), in("collector")}, // thresholds, metric names
		in("collector"):                                 {in("collector/model"), in("collector/prune")},
		in("collector/report"):                          {in("collector/model"), in("collector/prune")},
		in("collector/prune"):                           {in("collector/model")},
		in("collector/engine"):                          {in("collector/containerd"), in("collector/docker"), in("collector/host"), in("collector/model")},
		in("collector/containerd"):                      {in("collector/model"), "github.com/containerd/containerd", "google.golang.org/grpc"},
		in("collector/docker"):                          {in("collector/model"), client},
		in("collector/host"):                            {in("collector/model")},
		in("collector/model"):                           {},
		in("collector/docker/dockertest"):               {client},
		in("collector/docker/dockertest/testdata/idle"): {},
	}
	pure := []string{in("collector/model"), in("collector/prune")} // standard library only
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports ","}}`, "./...", "./collector/docker/dockertest/testdata/idle")
	list.Dir = root
	output, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for line := range strings.Lines(string(output)) {
		path, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		mayImport, known := allowed[path]
		if !known {
			if imports != "" { // a folder that only has tests imports nothing
				t.Errorf("package %s is missing in the import rules of this test", path)
			}
			continue
		}
		checked++
		for imported := range strings.SplitSeq(imports, ",") {
			isOf := func(path string) bool { return imported == path || strings.HasPrefix(imported, path+"/") }
			isRestricted := strings.HasPrefix(imported, module) || slices.ContainsFunc(restricted, isOf)
			isAllowed := slices.ContainsFunc(mayImport, func(path string) bool {
				return imported == path || slices.Contains(restricted, path) && isOf(path)
			})
			if isRestricted && !isAllowed {
				t.Errorf("%s imports %s, which the import rules do not allow", path, imported)
			}
			if slices.Contains(pure, path) && strings.Contains(strings.TrimPrefix(imported, module), ".") {
				t.Errorf("%s imports %s, want the standard library only", path, imported)
			}
		}
	}
	if checked != len(allowed) {
		t.Errorf("got %d packages, want the %d of the import rules", checked, len(allowed))
	}
}
