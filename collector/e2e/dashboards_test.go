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

// A dashboard contains the queries that Grafana sends to Prometheus.
type dashboard struct {
	Title      string
	Templating struct {
		List []struct {
			Name, Type, Regex string
			Multi             bool
			Query             json.RawMessage
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

// The program writes the dashboards of the repository.
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
			t.Errorf("%s differs from that of the repository", path)
		}
	}
	if _, err := exec.Command(binaryPath(), "dashboards", "main_test.go").Output(); err == nil {
		t.Error("a file was accepted as a folder")
	}
}

// No panel, variable or annotation is empty for a host with buildup. The test writes the
// dashboards and sends their queries to Prometheus, as Grafana does.
func TestDashboards(t *testing.T) {
	t.Parallel()
	for _, kind := range dockertest.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			dashboardsOf(t, kind)
		})
	}
}

func dashboardsOf(t *testing.T, kind dockertest.Kind) {
	p, engine := startWithEngine(t, kind, "--collector.repositories=5")
	buildUp(engine)
	prometheus := startPrometheus(t, strings.TrimPrefix(p.URL, "http://"))
	// increase() needs a sample from before the prune.
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
		empty := map[string]bool{"not queried": true}
		defer func() {
			if t.Failed() {
				t.Logf("%s: still empty: %q", d.Title, slices.Sorted(maps.Keys(empty)))
			}
		}()
		eventually(t, d.Title+" without empty panels", func() bool {
			empty = prometheus.empty(d)
			return len(empty) == 0
		})
	}
}

// buildUp leaves on an engine what deployments leave behind.
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

// startPrometheus starts a Prometheus with the program's rules and one more, which always
// fires. It stops at the end of the test.
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
groups: [{name: test, rules: [{alert: DockerIsThere, expr: docker_up == 1, labels: {severity: critical}}]}]`,
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

// empty returns the variables, annotations and panels of a dashboard without data. If a
// variable is empty, it does not query the others.
func (p prometheus) empty(d dashboard) map[string]bool {
	p.t.Helper()
	empty := make(map[string]bool)
	values := map[string]string{"__range": "60s", "__rate_interval": "10s"}
	fill := func(expr string) string {
		return os.Expand(expr, func(name string) string {
			value, known := values[name]
			if !known {
				p.t.Errorf("%s: %s has an unknown variable %q", d.Title, expr, name)
			}
			return value
		})
	}
	function := regexp.MustCompile(`^(?:label_values\((.+), (\w+)\)|query_result\((.+)\))$`)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		var query struct{ Query string }
		if err := json.Unmarshal(v.Query, &query); err != nil {
			p.t.Fatal(err)
		}
		parts := function.FindStringSubmatch(query.Query)
		if parts == nil {
			p.t.Fatalf("%s: variable %s queries %s", d.Title, v.Name, query.Query)
		}
		var found []string
		if parts[3] != "" {
			found = p.instances(fill(parts[3]), v.Regex)
		} else {
			p.get("label/"+parts[2]+"/values", url.Values{"match[]": {fill(parts[1])}}, &found)
		}
		if len(found) == 0 {
			return map[string]bool{"variable " + v.Name: true}
		}
		values[v.Name] = found[0] // the default that Grafana selects
		if v.Multi {              // Grafana escapes it for a regular expression in a string
			values[v.Name] = strings.ReplaceAll(regexp.QuoteMeta(found[0]), `\`, `\\`)
		}
	}
	for _, a := range d.Annotations.List {
		if !p.hasData(fill(a.Expr), true) {
			empty["annotation "+a.Name] = true
		}
	}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			needsHours := strings.Contains(target.Expr, "ratio_deriv6h") // the tests of the package dashboards have them
			if !needsHours && !p.hasData(fill(target.Expr), target.Range) {
				empty[fmt.Sprintf("%s %s: %s", panel.Title, target.RefID, target.Expr)] = true
			}
		}
	}
	return empty
}

// instances returns what a regular expression finds in the result of a query as Grafana prints
// it for variables, if that has one label.
func (p prometheus) instances(expr, find string) (found []string) {
	p.t.Helper()
	var data struct {
		Result []struct{ Metric map[string]string }
	}
	p.get("query", url.Values{"query": {expr}}, &data)
	for _, series := range data.Result {
		for name, value := range series.Metric {
			parts := regexp.MustCompile(strings.Trim(find, "/")).FindStringSubmatch(fmt.Sprintf(`{%s="%s"} 1`, name, value))
			if len(series.Metric) != 1 || parts == nil {
				p.t.Fatalf("%s does not find the label in %v", find, series.Metric)
			}
			found = append(found, parts[1])
		}
	}
	return found
}

// hasData reports whether an expression has a value other than NaN, now or within the
// last minute.
func (p prometheus) hasData(expr string, overTime bool) bool {
	p.t.Helper()
	endpoint, query := "query", url.Values{"query": {expr}}
	if overTime {
		now := time.Now()
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
	p.get(endpoint, query, &found)
	for _, series := range found.Result {
		for _, sample := range append(series.Values, series.Value) {
			if number, ok := sample[1].(string); ok && number != "NaN" {
				return true
			}
		}
	}
	return false
}

func (p prometheus) eventuallyHas(expr string) {
	p.t.Helper()
	eventually(p.t, expr, func() bool {
		var found struct{ Result []any }
		p.get("query", url.Values{"query": {expr}}, &found)
		return len(found.Result) > 0
	})
}

// get decodes a response of the Prometheus API into data. It fails the test on any error.
func (p prometheus) get(endpoint string, query url.Values, data any) {
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
	result := struct {
		Status string
		Data   any
	}{Data: data}
	if err := json.Unmarshal(body, &result); err != nil || result.Status != "success" {
		p.t.Fatalf("%s %v: %v: %s", endpoint, query, err, body)
	}
}
