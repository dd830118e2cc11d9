package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// A dashboard is what a Grafana would ask a Prometheus for.
type dashboard struct {
	Title      string
	Templating struct {
		List []struct {
			Name, Type string
			Multi      bool
			Query      json.RawMessage
		}
	}
	Annotations struct{ List []struct{ Name, Expr string } }
	Panels      []struct {
		Title   string
		Targets []struct {
			RefID, Expr string
			Range       bool
		}
	}
}

// Who has only the program has the dashboards of the repository.
func TestDashboardsCommand(t *testing.T) {
	t.Parallel()
	names := "docker-buildup-fleet.json\ndocker-buildup-host.json\n"
	if output, err := exec.Command(binaryPath(), "dashboards").Output(); err != nil || string(output) != names {
		t.Errorf("%v, printed: %s", err, output)
	}
	dir := filepath.Join(t.TempDir(), "new", "folder")
	output, err := exec.Command(binaryPath(), "dashboards", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(names, "docker-", dir+"/docker-"); string(output) != want {
		t.Errorf("printed: %s", output)
	}
	for path := range strings.Lines(string(output)) {
		path = strings.TrimSpace(path)
		if readFile(t, path) != readFile(t, filepath.Join(root, "dashboards", filepath.Base(path))) {
			t.Errorf("%s is not that of the repository", path)
		}
	}
	if _, err := exec.Command(binaryPath(), "dashboards", "main_test.go").Output(); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// Each panel, variable and annotation has something to show of a host with buildup on
// it: the program writes the dashboards, and Prometheus is asked what Grafana would ask.
func TestDashboards(t *testing.T) {
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			dashboardsOf(t, kind)
		})
	}
}

func dashboardsOf(t *testing.T, kind dockertest.Kind) {
	p, engine := real(t, kind, "--collector.repositories=5")
	buildUp(engine)
	prometheus := startPrometheus(t, strings.TrimPrefix(p.URL, "http://"))
	// An increase needs to have been seen from before.
	prometheus.eventuallyHas(`docker_prunes_total{resource="containers"} == 0`)
	engine.Docker("container", "prune", "--force")
	engine.Docker("run", "--network=none", "app:2", "0")

	dir := t.TempDir()
	if output, err := exec.Command(binaryPath(), "dashboards", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(paths) != 2 {
		t.Fatalf("the program wrote %q (%v)", paths, err)
	}
	for _, path := range paths {
		var d dashboard
		if err := json.Unmarshal([]byte(readFile(t, path)), &d); err != nil {
			t.Fatal(err)
		}
		empty := map[string]bool{"not asked": true}
		defer func() {
			if t.Failed() {
				t.Logf("%s: still empty are %q", d.Title, slices.Sorted(maps.Keys(empty)))
			}
		}()
		eventuallyWithin(t, 2*time.Minute, d.Title+" with something to show everywhere", func() bool {
			empty = prometheus.empty(d)
			return len(empty) == 0
		})
	}
}

// buildUp leaves behind on an engine what deploys do.
func buildUp(engine *dockertest.Real) {
	engine.Build("FROM scratch\nCOPY idle /\nENTRYPOINT [\"/idle\"]\n", "-t", "app:1")
	engine.Build("FROM app:1\nLABEL step=1\nLABEL version=1\n", "-t", "app:2")
	engine.Build("FROM app:1\nLABEL version=2\n", "-t", "app:2")
	engine.BuildKit("FROM scratch\nCOPY idle /\nCOPY idle /again\n", "-t", "built:1")
	engine.Docker("run", "--detach", "--network=none", "app:1")
	engine.Docker("run", "--network=none", "app:1", "0")
	engine.Docker("volume", "create", "left")
}

// A prometheus scrapes one exporter.
type prometheus struct {
	t   *testing.T
	url string
}

// startPrometheus starts a Prometheus with the program's rules, and with one more that
// fires. It ends with the test.
func startPrometheus(t *testing.T, exporter string) prometheus {
	t.Helper()
	program := dockertest.Need(t, "prometheus")
	dir, address := t.TempDir(), freeAddress(t)
	rules, err := exec.Command(binaryPath(), "rules").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"docker-buildup.yml": string(rules),
		"prometheus.yml": `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [docker-buildup.yml, test.yml]
scrape_configs: [{job_name: docker, static_configs: [{targets: ["` + exporter + `"]}]}]`,
		"test.yml": `
groups: [{name: test, rules: [{alert: DockerIsThere, expr: docker_up == 1, labels: {severity: info}}]}]`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log syncBuffer
	process := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	process.Stdout, process.Stderr = &log, &log
	process.SysProcAttr = dockertest.Child()
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
		if t.Failed() {
			t.Logf("Prometheus's log:\n%s", log.String())
		}
	})
	p := prometheus{t, "http://" + address}
	eventually(t, "a Prometheus", func() bool {
		response, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return p
}

// empty is what has nothing to show in a dashboard: variables, of which the first
// value is taken as Grafana does, then all that depends on them.
func (p prometheus) empty(d dashboard) map[string]bool {
	empty := make(map[string]bool)
	now := time.Now()
	values := map[string]string{"__range": "60s", "__rate_interval": "10s"}
	fill := func(expr string) string {
		return os.Expand(expr, func(name string) string {
			value, known := values[name]
			if !known {
				p.t.Errorf("%s: %s asks for a variable %q", d.Title, expr, name)
			}
			return value
		})
	}
	labelValues := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		var query struct{ Query string }
		if err := json.Unmarshal(v.Query, &query); err != nil {
			p.t.Fatal(err)
		}
		parts := labelValues.FindStringSubmatch(query.Query)
		if parts == nil {
			p.t.Fatalf("%s: variable %s asks for %s", d.Title, v.Name, query.Query)
		}
		var found []string
		p.ask("label/"+parts[2]+"/values", url.Values{"match[]": {fill(parts[1])}}, &found)
		if len(found) == 0 {
			empty["variable "+v.Name] = true
			continue
		}
		values[v.Name] = found[0]
		if v.Multi { // and to a string in a string
			values[v.Name] = strings.ReplaceAll(regexp.QuoteMeta(found[0]), `\`, `\\`)
		}
	}
	if len(empty) > 0 {
		return empty
	}
	check := func(where, expr string, overTime bool) {
		endpoint, query := "query", url.Values{"query": {fill(expr)}}
		if overTime {
			endpoint = "query_range"
			query.Set("start", strconv.FormatInt(now.Add(-time.Minute).Unix(), 10))
			query.Set("end", strconv.FormatInt(now.Unix(), 10))
			query.Set("step", "1")
		}
		var found struct {
			Result []struct {
				Value  [2]any
				Values [][2]any
			}
		}
		p.ask(endpoint, query, &found)
		for _, series := range found.Result {
			for _, sample := range append(series.Values, series.Value) {
				if number, ok := sample[1].(string); ok && number != "NaN" {
					return
				}
			}
		}
		empty[where] = true
	}
	for _, a := range d.Annotations.List {
		check("annotation "+a.Name, a.Expr, true)
	}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			check(fmt.Sprintf("%s %s: %s", panel.Title, target.RefID, target.Expr), target.Expr, target.Range)
		}
	}
	return empty
}

func (p prometheus) eventuallyHas(expr string) {
	p.t.Helper()
	eventually(p.t, expr, func() bool {
		var found struct{ Result []any }
		p.ask("query", url.Values{"query": {expr}}, &found)
		return len(found.Result) > 0
	})
}

// ask asks the API of Prometheus for data. It fails the test unless there is an answer.
func (p prometheus) ask(endpoint string, query url.Values, data any) {
	p.t.Helper()
	response, err := http.Get(p.url + "/api/v1/" + endpoint + "?" + query.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	answer := struct {
		Status string
		Data   any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("%s %v: %v: %s", endpoint, query, err, body)
	}
}
