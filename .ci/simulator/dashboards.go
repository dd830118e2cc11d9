package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Goals for each query of the fleet's dashboard.
const (
	maxSeconds = 2.0 // of CPU time: elapsed time would depend on other processes
	maxBytes   = 2_000_000
)

// graphSteps is the number of values that Grafana requests for a graph.
const graphSteps = 1000

// A grafana sends the queries of a dashboard to Prometheus as Grafana does.
type grafana struct {
	out       io.Writer
	server    *prometheusServer
	now       time.Time
	variables *strings.Replacer
}

// A dashboard is what Grafana sends queries for.
type dashboard struct {
	UID, Title string
	Time       struct{ From string }
	Templating struct {
		List []struct {
			Name, Type, Regex, AllValue string
			Multi                       bool
			Query                       json.RawMessage
		}
	}
	Annotations struct {
		List []struct{ Name, Expr, Step string }
	}
	Panels []struct {
		Title   string
		Targets []struct {
			RefID, Expr string
			Range       bool
		}
	}
}

// benchDashboards measures each query of the dashboards in a folder on a Prometheus with so many
// hosts and the records of a rule file. The series that the fleet's dashboard reads over time,
// and all of the first host, have a week of history.
func benchDashboards(ctx context.Context, out io.Writer, file string, hosts int, folder string) error {
	dashboards, err := readDashboards(folder)
	if err != nil {
		return err
	}
	isLong, err := readOverTime(dashboards)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	minutes, err := writeFleet(ctx, out, dir, file, hosts, func(l labels.Labels) int {
		if l.Get("instance") == hostname(0)+exporterPort || isLong(l) {
			return week + hour
		}
		return hour
	})
	if err != nil {
		return err
	}
	server, err := startPrometheus(ctx, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	fmt.Fprintf(out, "| %-66s | %9s | %6s | %6s |\n|%s|%s:|%s:|%[7]s:|\n", "query", "bytes", "s", "CPU s", strings.Repeat("-", 68), strings.Repeat("-", 10), strings.Repeat("-", 7))
	var missed error
	for _, d := range dashboards {
		g := &grafana{out: out, server: server, now: at(minutes - 1)}
		missed = errors.Join(missed, g.measure(ctx, d))
	}
	return missed
}

func readDashboards(folder string) ([]dashboard, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no dashboards in %q (%v)", folder, err)
	}
	all := make([]dashboard, len(paths))
	for i, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(content, &all[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return all, nil
}

func (d dashboard) isFleet() bool { return strings.HasSuffix(d.UID, "-fleet") }

// readOverTime returns a function that reports whether a fleet's dashboard reads more of a series
// than its last value.
func readOverTime(dashboards []dashboard) (func(labels.Labels) bool, error) {
	read := map[string][][]*labels.Matcher{}
	variable := regexp.MustCompile(`\$[a-z_]+`)
	inspect := func(expr string, isRange bool) error {
		parsed, err := parser.NewParser(parser.Options{}).ParseExpr(variable.ReplaceAllString(expr, ".+"))
		if err != nil {
			return err
		}
		parser.Inspect(parsed, func(node parser.Node, path []parser.Node) error {
			s, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			overTime := isRange || s.OriginalOffset > 0
			for _, above := range path {
				_, isMatrix := above.(*parser.MatrixSelector)
				overTime = overTime || isMatrix
			}
			if overTime {
				read[s.Name] = append(read[s.Name], s.LabelMatchers)
			}
			return nil
		})
		return nil
	}
	for _, d := range dashboards {
		if !d.isFleet() {
			continue
		}
		for _, a := range d.Annotations.List {
			if err := inspect(a.Expr, true); err != nil {
				return nil, err
			}
		}
		for _, p := range d.Panels {
			for _, t := range p.Targets {
				if err := inspect(t.Expr, t.Range); err != nil {
					return nil, err
				}
			}
		}
	}
	return func(l labels.Labels) bool {
		return slices.ContainsFunc(read[l.Get(labels.MetricName)], func(m []*labels.Matcher) bool { return matches(l, m) })
	}, nil
}

// A prometheusServer is a running Prometheus.
type prometheusServer struct {
	url  string
	pid  int
	stop func()
}

// An answer is one of the Prometheus API, with how long it took and the CPU time of the server.
type answer struct {
	body      []byte
	took, cpu time.Duration
}

// startPrometheus starts Debian's Prometheus on a TSDB.
func startPrometheus(ctx context.Context, dir string) (*prometheusServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	listen := listener.Addr().String()
	listener.Close()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, nil, 0o644); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	process := exec.CommandContext(ctx, "prometheus", "--config.file="+config, "--storage.tsdb.path="+dir,
		"--storage.tsdb.retention.time=10y", "--web.listen-address="+listen, "--log.level=error")
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		cancel()
		return nil, err
	}
	p := &prometheusServer{"http://" + listen, process.Process.Pid, func() { cancel(); process.Wait() }}
	for range 600 {
		if response, err := http.Get(p.url + "/-/ready"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.stop()
	return nil, errors.New("Prometheus does not start")
}

// cpuTime returns the CPU time that the server has used.
func (p *prometheusServer) cpuTime() (time.Duration, error) {
	process, err := procfs.NewProc(p.pid)
	if err != nil {
		return 0, err
	}
	stat, err := process.Stat()
	return time.Duration(stat.CPUTime() * float64(time.Second)), err
}

// get makes a request five times. It returns the answer with the shortest times, because other
// processes and garbage collection only make them longer. A form is posted.
func (p *prometheusServer) get(ctx context.Context, endpoint string, form url.Values) (answer, error) {
	best := answer{took: time.Hour, cpu: time.Hour}
	for range 5 {
		cpu, err := p.cpuTime()
		if err != nil {
			return best, err
		}
		start := time.Now()
		if best.body, err = p.getOnce(ctx, endpoint, form); err != nil {
			return best, err
		}
		best.took = min(best.took, time.Since(start))
		after, err := p.cpuTime()
		if err != nil {
			return best, err
		}
		best.cpu = min(best.cpu, after-cpu)
	}
	return best, nil
}

func (p *prometheusServer) getOnce(ctx context.Context, endpoint string, form url.Values) ([]byte, error) {
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, p.url+"/api/v1/"+endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	request.Header.Set("Accept-Encoding", "identity")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}

// measure sends the queries of a dashboard, and returns an error if the fleet's miss a goal.
func (g *grafana) measure(ctx context.Context, d dashboard) error {
	span, err := time.ParseDuration(strings.NewReplacer("now-", "", "7d", "168h").Replace(d.Time.From))
	if err != nil {
		return err
	}
	step := (span / graphSteps).Truncate(5 * time.Minute)
	var missed error
	check := func(what string, a answer, err error) {
		fmt.Fprintf(g.out, "| %-66s | %9d | %6.2f | %6.2f |\n", d.Title+": "+what, len(a.body), a.took.Seconds(), a.cpu.Seconds())
		if err == nil && d.isFleet() && (len(a.body) > maxBytes || a.cpu.Seconds() > maxSeconds) {
			err = errors.New("a goal is missed")
		}
		if err != nil {
			missed = errors.Join(missed, fmt.Errorf("%s: %s: %w", d.Title, what, err))
		}
	}
	if err := g.resolve(ctx, d, check); err != nil {
		return err
	}
	for _, a := range d.Annotations.List {
		step, err := time.ParseDuration(a.Step)
		if err != nil {
			return err
		}
		answer, err := g.query(ctx, a.Expr, span, step)
		check("annotation "+a.Name, answer, err)
	}
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			over := time.Duration(0)
			if t.Range {
				over = span
			}
			answer, err := g.query(ctx, t.Expr, over, step)
			check(p.Title+" "+t.RefID, answer, err)
		}
	}
	return missed
}

// resolve requests the values of variables, each of which may use those before it.
func (g *grafana) resolve(ctx context.Context, d dashboard, check func(string, answer, error)) error {
	pairs := []string{"$__range", "7d", "$__rate_interval", "10m"}
	g.variables = strings.NewReplacer(pairs...)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		var query struct{ Query string }
		if err := json.Unmarshal(v.Query, &query); err != nil {
			return err
		}
		inner := query.Query[strings.Index(query.Query, "(")+1 : len(query.Query)-1]
		var a answer
		var err error
		var values []string
		if strings.HasPrefix(query.Query, "label_values(") {
			end := strings.LastIndex(inner, ", ")
			metric, label := inner[:end], inner[end+2:]
			form := url.Values{"match[]": {g.variables.Replace(metric)}, "start": {unix(g.now.Add(-7 * 24 * time.Hour))}, "end": {unix(g.now)}}
			a, err = g.server.get(ctx, "label/"+label+"/values?"+form.Encode(), nil)
			var found struct{ Data []string }
			if err == nil {
				err = json.Unmarshal(a.body, &found)
			}
			values = found.Data
		} else {
			a, err = g.query(ctx, inner, 0, 0)
			for _, match := range regexp.MustCompile(strings.Trim(v.Regex, "/")).FindAllStringSubmatch(strings.ReplaceAll(string(a.body), `":"`, `="`), -1) {
				values = append(values, match[1])
			}
		}
		if err == nil && len(values) == 0 {
			err = fmt.Errorf("%s has no value", query.Query)
		}
		check("variable "+v.Name, a, err)
		if err != nil {
			return err
		}
		value := values[0]
		if v.Multi {
			for i, one := range values { // Grafana escapes it for a regular expression in a string
				values[i] = strings.ReplaceAll(regexp.QuoteMeta(one), `\`, `\\`)
			}
			value = cmp.Or(v.AllValue, "("+strings.Join(values, "|")+")")
		}
		pairs = append(pairs, "$"+v.Name, value)
		g.variables = strings.NewReplacer(pairs...)
	}
	return nil
}

// query evaluates an expression over a time span up to now, or for 0 now.
func (g *grafana) query(ctx context.Context, expr string, over, step time.Duration) (answer, error) {
	form := url.Values{"query": {g.variables.Replace(expr)}, "time": {unix(g.now)}}
	if over == 0 {
		return g.server.get(ctx, "query", form)
	}
	form.Set("start", unix(g.now.Add(-over)))
	form.Set("end", unix(g.now))
	form.Set("step", strconv.FormatFloat(step.Seconds(), 'f', -1, 64))
	return g.server.get(ctx, "query_range", form)
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
