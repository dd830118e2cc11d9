package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"docker_buildup_exporter/collector"
)

// TestReadme checks that the tables of metrics and flags in the README match the program.
func TestReadme(t *testing.T) {
	var metrics strings.Builder
	metrics.WriteString("| metric | labels | meaning |\n|---|---|---|\n")
	for _, m := range collector.Metrics() {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&metrics, "| `%s` | %s | %s |\n", m.Name, labels, strings.ReplaceAll(m.Help, "<", "&lt;"))
	}
	fmt.Fprintf(&metrics, "| `docker_buildup_exporter_build_info` | `version` and more | Always 1; the labels describe the exporter. |\n")
	command := exec.Command(binaryPath(), "--help")
	command.Env = append(os.Environ(), "COLUMNS=110")
	help, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	flags := fmt.Sprintf("```\n%s\n```\n", strings.TrimSpace(string(help)))

	path := filepath.Join(root, "README.md")
	readme := readFile(t, path)
	generated := readme
	for name, content := range map[string]string{"metrics": metrics.String(), "flags": flags} {
		part := regexp.MustCompile(`(?s)(<!-- ` + name + `: [^\n]*-->\n).*?(<!-- end -->)`)
		if len(part.FindAllString(readme, -1)) != 1 {
			t.Fatalf("got no unique section for the %s in the README, want one", name)
		}
		generated = part.ReplaceAllString(generated, "${1}\n"+strings.ReplaceAll(content, "$", "$$")+"\n${2}")
	}
	if *update {
		if err := os.WriteFile(path, []byte(generated), 0o644); err != nil {
			t.Fatal(err)
		}
		readme = generated
	}
	if readme != generated {
		t.Error(`the tables of the README are outdated: run "make update"`)
	}
}

// TestReadmeLogMessages checks that the source code contains the log messages quoted in the README.
func TestReadmeLogMessages(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "collector/engine/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range files {
		source.WriteString(readFile(t, file))
	}
	for _, message := range regexp.MustCompile("`cannot ([a-z A-Z]+)`").FindAllStringSubmatch(readFile(t, filepath.Join(root, "README.md")), -1) {
		if !strings.Contains(source.String(), `"`+message[1]) {
			t.Errorf("the README quotes %q, which the program never logs", message[0])
		}
	}
}
