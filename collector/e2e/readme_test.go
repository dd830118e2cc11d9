package e2e

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

	path := filepath.Join(root, "collector/README.md")
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
	for _, message := range regexp.MustCompile("`cannot ([a-z A-Z]+)`").FindAllStringSubmatch(readFile(t, filepath.Join(root, "collector/README.md")), -1) {
		if !strings.Contains(source.String(), `"`+message[1]) {
			t.Errorf("the README quotes %q, which the program never logs", message[0])
		}
	}
}

// TestLinks checks that every link between the documents leads to a file and, if it names one, to a heading.
func TestLinks(t *testing.T) {
	headings := make(map[string]map[string]bool) // anchors by document
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && slices.Contains([]string{".git", "testdata", "node_modules"}, entry.Name()) {
			return cmp.Or(err, filepath.SkipDir)
		}
		if filepath.Ext(path) == ".md" {
			headings[filepath.Clean(path)] = anchors(readFile(t, path))
		}
		return nil
	})
	if err != nil || len(headings) < 5 {
		t.Fatalf("got %d documents (%v), want at least 5", len(headings), err)
	}
	for document := range headings {
		for _, match := range link.FindAllStringSubmatch(readFile(t, document), -1) {
			file, anchor, hasAnchor := strings.Cut(match[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			target := document
			if file != "" {
				target = filepath.Join(filepath.Dir(document), file)
			}
			if _, err := os.Stat(target); err != nil || hasAnchor && !headings[target][anchor] {
				t.Errorf("%s: the link %s leads nowhere (%v)", document, match[1], err)
			}
		}
	}
}

// anchors returns the anchors of the headings of a document, as GitHub makes them.
func anchors(document string) map[string]bool {
	anchors := make(map[string]bool)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(document, -1) {
		anchor := strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-")
		anchors[regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(anchor, "")] = true
	}
	return anchors
}

// TestReadmeLength checks that the README is read in some minutes. What is long has a document of its own.
func TestReadmeLength(t *testing.T) {
	if words := len(strings.Fields(readFile(t, filepath.Join(root, "README.md")))); words > 1300 {
		t.Errorf("the README has %d words, want at most 1300", words)
	}
}
