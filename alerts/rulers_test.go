package alerts_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
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
	"testing"
	"time"

	"go.yaml.in/yaml/v2"
)

// A fleet has the samples of each series, one a minute. NaN is none.
type fleet map[string][]float64

const (
	fleetMinutes = 30 * 60
	fleetStep    = 2 // minutes between evaluations: a compromise with the time that promtool takes
)

// newFleet returns what a few hosts expose from a time on, in seconds. All alerts that need no
// more history fire, most of them also at the end.
func newFleet(start float64) fleet {
	f := make(fleet)
	until := func(hour float64) func(float64) float64 {
		return func(minute float64) float64 { return min(1, math.Floor(60*hour/(minute+1))) }
	}
	// Its disk is full at the end.
	f.add(`up{instance="fills:1",job="docker"}`, 0, fleetMinutes, constant(1))
	f.add(`docker_up{instance="fills:1",job="docker"}`, 40, fleetMinutes, constant(1))
	for metrics, size := range map[[2]string]float64{{"size_bytes", "avail_bytes"}: 1e11, {"files", "files_free"}: 1e7} {
		f.add(`docker_filesystem_`+metrics[0]+`{instance="fills:1",job="docker",path="/data"}`, 40, fleetMinutes, constant(size))
		f.add(`docker_filesystem_`+metrics[1]+`{instance="fills:1",job="docker",path="/data"}`, 40, fleetMinutes, func(minute float64) float64 {
			return math.Round(size * (0.45 - 0.43*max(0, minute/60-22)/8))
		})
	}
	f.add(`docker_reclaimable_bytes{command="docker image prune",instance="fills:1",job="docker"}`, 40, fleetMinutes, constant(1e9))
	f.add(`docker_reclaimable_bytes{command="docker system prune --all",instance="fills:1",job="docker"}`, 40, fleetMinutes, constant(3e10))

	// Its exporter ends.
	f.add(`up{instance="gone:1",job="docker"}`, 0, fleetMinutes, until(26))
	f.add(`docker_up{instance="gone:1",job="docker"}`, 40, 26*60, constant(1))

	// Nothing cleans it up.
	f.add(`docker_up{instance="piles:1",job="docker"}`, 40, fleetMinutes, constant(1))
	for series, value := range map[string]float64{
		`docker_filesystem_size_bytes{path="/data",`:                    1e11,
		`docker_filesystem_avail_bytes{path="/data",`:                   2.5e10,
		`docker_images_untagged{`:                                       50,
		`docker_images_intermediate{`:                                   5,
		`docker_images_tagged{`:                                         10,
		`docker_containers{state="exited",`:                             300,
		`docker_containers{state="running",`:                            4,
		`docker_containers_stopped{stopped_for="7d-30d",`:               30,
		`docker_disk_usage_bytes{resource="leftovers",`:                 2e10,
		`docker_reclaimable_bytes{command="docker container prune",`:    1e10,
		`docker_reclaimable_bytes{command="docker image prune",`:        1.2e10,
		`docker_reclaimable_bytes{command="docker image prune --all",`:  4e10,
		`docker_reclaimable_bytes{command="docker builder prune",`:      3e10,
		`docker_reclaimable_bytes{command="docker volume prune --all",`: 1.5e10,
	} {
		f.add(series+`instance="piles:1",job="docker"}`, 90, fleetMinutes, constant(value))
	}

	// The engine is down at the end, and only a node_exporter measures the disk.
	f.add(`docker_up{instance="down:1",job="docker"}`, 40, fleetMinutes, until(26))
	f.add(`docker_engine_info{image_store="graphdriver",instance="down:1",job="docker",root_dir="/srv/docker"}`, 40, 26*60, constant(1))
	for mountpoint, avail := range map[string]float64{"/": 9e10, "/srv": 4e9} {
		labels := `{instance="down:9100",job="node",mountpoint="` + mountpoint + `"}`
		f.add(`node_filesystem_size_bytes`+labels, 0, fleetMinutes, constant(1e11))
		f.add(`node_filesystem_avail_bytes`+labels, 0, fleetMinutes, constant(avail))
	}

	// Nothing measures the disk, and the containers are unknown at the end.
	f.add(`docker_up{instance="stale:1",job="docker"}`, 40, fleetMinutes, constant(1))
	labels := `{collector="containers",instance="stale:1",job="docker"}`
	f.add(`docker_scrape_collector_success`+labels, 40, fleetMinutes, until(26))
	f.add(`docker_scrape_collector_duration_seconds`+labels, 40, fleetMinutes, constant(0.1))
	f.add(`docker_scrape_collector_last_success_timestamp_seconds`+labels, 40, fleetMinutes, func(minute float64) float64 { return start + 60*min(minute, 26*60) })
	return f
}

func constant(value float64) func(float64) float64 { return func(float64) float64 { return value } }

// add adds a series with samples from one minute until before another.
func (f fleet) add(series string, from, to int, value func(minute float64) float64) {
	f[series] = slices.Repeat([]float64{math.NaN()}, fleetMinutes)
	for minute := from; minute < to; minute++ {
		f[series][minute] = value(float64(minute))
	}
}

// write writes the samples until a time in the text format.
func (f fleet) write(w io.Writer, start, end time.Time, stamp func(time.Time) any) {
	for series, samples := range f {
		for minute, value := range samples {
			if at := start.Add(time.Duration(minute) * time.Minute); !math.IsNaN(value) && !at.After(end) {
				fmt.Fprintln(w, series, decimal(value), stamp(at))
			}
		}
	}
}

func seconds(t time.Time) any      { return t.Unix() }
func milliseconds(t time.Time) any { return t.UnixMilli() }

func decimal(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }

// notation returns samples as promtool reads them.
func notation(samples []float64) string {
	var runs []string
	for len(samples) > 0 {
		run := slices.IndexFunc(samples, func(value float64) bool { return decimal(value) != decimal(samples[0]) })
		if run < 0 {
			run = len(samples)
		}
		if math.IsNaN(samples[0]) {
			runs = append(runs, fmt.Sprintf("_x%d", run))
		} else {
			runs = append(runs, fmt.Sprintf("%sx%d", decimal(samples[0]), run-1))
		}
		samples = samples[run:]
	}
	return strings.Join(runs, " ")
}

// TestRulers runs the rules in Debian's Prometheus, a current one, vmalert and Thanos' ruler, whose
// programs .ci/test-rulers provides. All load the file as it is. vmalert replays the samples of a
// fleet; each alert must fire first at the same time in the unit tests of both versions of
// promtool. Then all of them evaluate the rules at the end of these samples: no rule may fail, and
// all must have the same alerts with the same texts.
func TestRulers(t *testing.T) {
	programs := os.Getenv("DOCKER_BUILDUP_RULERS")
	if programs == "" {
		t.Skip("DOCKER_BUILDUP_RULERS is not set")
	}
	// The last samples are in the future, so that they are recent while the rulers start.
	end := time.Now().Truncate(time.Minute).Add(8 * time.Minute)
	r := rulers{T: t, programs: programs, dir: t.TempDir(), start: end.Add(-(fleetMinutes - 1) * time.Minute), end: end}
	r.run("promtool-2", "check", "rules", "docker-buildup.yml")
	r.run("promtool-3", "check", "rules", "docker-buildup.yml")
	r.run("vmalert", "-dryRun", "-rule=docker-buildup.yml", "-loggerLevel=ERROR")
	r.run("thanos", "tools", "rules-check", "--rules=docker-buildup.yml")

	victoria := r.startVictoriaMetrics()
	r.replay(victoria)
	first := r.firstMinutes(victoria)
	t.Run("live", func(t *testing.T) {
		r := r
		r.T = t
		r.live(victoria)
	})
	t.Run("first", func(t *testing.T) {
		r := r
		r.T = t
		r.sameInPromtool(first)
	})
}

type rulers struct {
	*testing.T
	programs, dir string
	start, end    time.Time // of the samples
}

// run runs a program until it ends.
func (r rulers) run(program string, args ...string) {
	r.Helper()
	before := time.Now()
	command := exec.CommandContext(r.Context(), filepath.Join(r.programs, program), args...)
	output, err := command.CombinedOutput()
	if err != nil {
		r.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, output)
	}
	r.Logf("%s %s: %v, CPU %v", program, args[0], time.Since(before).Round(time.Second), (command.ProcessState.UserTime() + command.ProcessState.SystemTime()).Round(time.Second))
}

// serve starts a program that listens at the address and waits until a path of it responds.
func (r rulers) serve(name, program, address, path string, args ...string) {
	r.Helper()
	log, err := os.Create(filepath.Join(r.dir, name+".log"))
	if err != nil {
		r.Fatal(err)
	}
	command := exec.Command(filepath.Join(r.programs, program), args...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // always an error: it was killed
		r.Logf("%s: CPU %v", name, (command.ProcessState.UserTime() + command.ProcessState.SystemTime()).Round(time.Second))
		if r.Failed() {
			text, _ := os.ReadFile(log.Name())
			r.Logf("%s:\n%s", name, text[max(0, len(text)-2000):])
		}
	})
	eventually(r.T, name+" responds", func() (any, bool) {
		response, err := http.Get(address + path)
		if err != nil {
			return err, false
		}
		response.Body.Close()
		return response.Status, response.StatusCode == http.StatusOK
	})
}

// freeAddress returns an address at which nothing listens.
func (r rulers) freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// write writes a file and returns its path. Content that is no text becomes YAML.
func (r rulers) write(name string, content any) string {
	r.Helper()
	text, isText := content.([]byte)
	if !isText {
		var err error
		if text, err = yaml.Marshal(content); err != nil {
			r.Fatal(err)
		}
	}
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		r.Fatal(err)
	}
	return path
}

// get requests an address and returns the body of the answer.
func (r rulers) get(address string, parameters url.Values) []byte {
	r.Helper()
	response, err := http.Get(address + "?" + parameters.Encode())
	if err != nil {
		r.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		r.Fatalf("%s: %s %v: %s", address, response.Status, err, body)
	}
	return body
}

// rules returns the rule file with one interval for all groups.
func (r rulers) rules(interval string) ruleFile {
	file := parseRules(r.T, read(r.T, "docker-buildup.yml"))
	for i := range file.Groups {
		file.Groups[i].Interval = interval
	}
	return file
}

// startVictoriaMetrics starts VictoriaMetrics with the samples and returns its address.
func (r rulers) startVictoriaMetrics() string {
	listen := r.freeAddress()
	address := "http://" + listen
	r.serve("victoria-metrics", "victoria-metrics", address, "/health", "-storageDataPath="+filepath.Join(r.dir, "victoria"),
		"-httpListenAddr="+listen, "-search.disableCache", "-memory.allowedBytes=300MB", "-loggerLevel=WARN")
	var samples bytes.Buffer
	newFleet(float64(r.start.Unix())).write(&samples, r.start, r.end, milliseconds)
	response, err := http.Post(address+"/api/v1/import/prometheus", "text/plain", &samples)
	if err != nil {
		r.Fatal(err)
	}
	response.Body.Close()
	return address
}

// replay makes vmalert evaluate each rule over all samples, one rule after the other. Some read
// what later groups record, so the recording rules are evaluated twice.
func (r rulers) replay(address string) {
	stop := make(chan struct{})
	defer close(stop)
	go func() { // A rule reads what the one before it has recorded.
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				if response, err := http.Get(address + "/internal/force_flush"); err == nil {
					response.Body.Close()
				}
			}
		}
	}()
	all, records := r.rules(""), r.rules("")
	for i, group := range records.Groups {
		records.Groups[i].Rules = slices.DeleteFunc(group.Rules, func(rule rule) bool { return rule.Record == "" })
	}
	records.Groups = slices.DeleteFunc(records.Groups, func(group ruleGroup) bool { return len(group.Rules) == 0 })
	for name, rules := range map[string]ruleFile{"1": records, "2": all} {
		r.write("replay-"+name+".yml", rules)
	}
	for _, name := range []string{"1", "2"} {
		r.run("vmalert", "-rule="+filepath.Join(r.dir, "replay-"+name+".yml"), "-datasource.url="+address, "-remoteWrite.url="+address,
			"-replay.timeFrom="+r.start.UTC().Format(time.RFC3339), "-replay.timeTo="+r.end.UTC().Format(time.RFC3339),
			fmt.Sprintf("-evaluationInterval=%dm", fleetStep), "-replay.rulesDelay=600ms", "-remoteWrite.flushInterval=100ms",
			"-replay.maxDatapointsPerQuery=3000", "-replay.disableProgressBar", "-disableAlertgroupLabel", "-notifier.blackhole", "-loggerLevel=ERROR")
	}
}

// firstMinutes returns when each alert fired first, in minutes, by name and labels.
func (r rulers) firstMinutes(address string) map[string]map[string]float64 {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(r.get(address+"/api/v1/query", url.Values{
		"query": {fmt.Sprintf(`tfirst_over_time(ALERTS{alertstate="firing"}[%dm])`, fleetMinutes)},
		"time":  {fmt.Sprint(r.end.Unix())},
	}), &answer); err != nil {
		r.Fatal(err)
	}
	first := make(map[string]map[string]float64)
	for _, rule := range rules(r.T) {
		first[rule.Alert] = make(map[string]float64)
	}
	for _, result := range answer.Data.Result {
		at, err := strconv.ParseFloat(result.Value[1].(string), 64)
		if err != nil {
			r.Fatal(err)
		}
		delete(result.Metric, "__name__")
		first[result.Metric["alertname"]][labelText(result.Metric)] = (at - float64(r.start.Unix())) / 60
	}
	return first
}

func labelText(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, fmt.Sprintf("%s=%q", name, labels[name]))
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// sameInPromtool compares with promtool when each alert fires first. One evaluation more or less is
// no difference: before 3.0, a range includes the sample at its start, and in a replay an alert
// starts again when another operand of "or" gives its value.
func (r rulers) sameInPromtool(first map[string]map[string]float64) {
	path, err := filepath.Abs("docker-buildup.yml")
	if err != nil {
		r.Fatal(err)
	}
	var order []string
	for _, group := range r.rules("").Groups {
		order = append(order, group.Name)
	}
	test := unitTest{Interval: "1m"}
	for series, samples := range newFleet(0) {
		test.InputSeries = append(test.InputSeries, struct{ Series, Values string }{series, notation(samples)})
	}
	eval := fmt.Sprintf("%dm", fleetMinutes-fleetStep)
	for alert, minutes := range first {
		count := exprTest{Expr: fmt.Sprintf(`count(count_over_time(ALERTS{alertname=%q,alertstate="firing"}[%dm])) or vector(0)`, alert, fleetMinutes), EvalTime: eval}
		count.Expected = append(count.Expected, struct {
			Labels string
			Value  float64
		}{"{}", float64(len(minutes))})
		test.ExprTests = append(test.ExprTests, count)
		for labels, minute := range minutes {
			at := fmt.Sprintf(`min_over_time(timestamp(ALERTS%s)[%dm:%dm]) / 60`, labels, fleetMinutes, fleetStep)
			test.ExprTests = append(test.ExprTests, exprTest{Expr: fmt.Sprintf(`%s unless abs(%[1]s - %v) <= %d`, at, minute, fleetStep), EvalTime: eval})
		}
	}
	file := r.write("fleet.yml", testFile{RuleFiles: []string{path}, EvaluationInterval: fmt.Sprintf("%dm", fleetStep), GroupEvalOrder: order, Tests: []unitTest{test}})
	for _, promtool := range []string{"promtool-2", "promtool-3"} {
		r.run(promtool, "test", "rules", file)
	}
}

// live starts all rulers with the samples until now and what the replay recorded, and compares
// their alerts.
func (r rulers) live(victoria string) {
	blocks := filepath.Join(r.dir, "blocks")
	r.run("promtool-2", "tsdb", "create-blocks-from", "openmetrics", "--quiet", r.history(victoria), blocks)
	rules := r.write("live.yml", r.rules("5s"))
	prometheus := func(name, program string, files ...string) (address string) {
		data := filepath.Join(r.dir, name)
		if err := os.CopyFS(data, os.DirFS(blocks)); err != nil {
			r.Fatal(err)
		}
		listen := r.freeAddress()
		configuration := r.write(name+".yml", map[string]any{"rule_files": files})
		r.serve(name, program, "http://"+listen, "/-/ready", "--config.file="+configuration, "--storage.tsdb.path="+data,
			"--web.listen-address="+listen, "--web.enable-remote-write-receiver", "--log.level=warn")
		return "http://" + listen
	}
	store := prometheus("store", "prometheus-3")
	addresses := map[string]string{
		"Prometheus 2": prometheus("prometheus-2", "prometheus-2", rules),
		"Prometheus 3": prometheus("prometheus-3", "prometheus-3", rules),
		"vmalert":      "http://" + r.freeAddress(),
		"Thanos":       "http://" + r.freeAddress(),
	}
	r.serve("vmalert", "vmalert", addresses["vmalert"], "/health", "-rule="+rules, "-datasource.url="+victoria, "-remoteWrite.url="+victoria,
		"-httpListenAddr="+strings.TrimPrefix(addresses["vmalert"], "http://"), "-group.maxStartDelay=1s", "-disableAlertgroupLabel", "-notifier.blackhole", "-loggerLevel=WARN")
	// Thanos' querier would remove the label of the replica.
	write := r.write("write.yml", map[string]any{"remote_write": []any{map[string]any{
		"url":                   store + "/api/v1/write",
		"write_relabel_configs": []any{map[string]string{"action": "labeldrop", "regex": "replica"}},
	}}})
	r.serve("thanos", "thanos", addresses["Thanos"], "/-/ready", "rule", "--rule-file="+rules, "--query="+store, "--remote-write.config-file="+write,
		"--data-dir="+filepath.Join(r.dir, "thanos"), `--label=replica="a"`, "--http-address="+strings.TrimPrefix(addresses["Thanos"], "http://"), "--grpc-address="+r.freeAddress(), "--log.level=warn")

	r.sameAlerts(addresses)
}

// sameAlerts waits until all rulers have evaluated each rule and have the same alerts.
func (r rulers) sameAlerts(addresses map[string]string) {
	got := make(map[string]map[string]string)
	defer func() {
		for ruler, alerts := range got {
			for labels, text := range alerts {
				if other := got["Prometheus 3"][labels]; other != text {
					r.Logf("%s: %s %s\nPrometheus 3: %s", ruler, labels, text, other)
				}
			}
			r.Logf("%s: %d alerts", ruler, len(alerts))
		}
	}()
	eventually(r.T, "all rulers have the same alerts", func() (any, bool) {
		isSame := true
		for ruler, address := range addresses {
			alerts, isComplete := r.active(ruler, address)
			got[ruler] = alerts
			isSame = isSame && isComplete
		}
		for _, alerts := range got {
			isSame = isSame && len(alerts) >= 20 && maps.Equal(alerts, got["Prometheus 3"])
		}
		return slices.Sorted(maps.Keys(got)), isSame
	})
}

// history returns the path of a file with the samples until now and those that the replay recorded.
func (r rulers) history(victoria string) string {
	var text bytes.Buffer
	now := time.Now()
	newFleet(float64(r.start.Unix())).write(&text, r.start, now, seconds)
	lines := bufio.NewScanner(bytes.NewReader(r.get(victoria+"/api/v1/export", url.Values{"match[]": {`{__name__=~"instance.*|docker_cleanup.*"}`}})))
	lines.Buffer(nil, 1e7)
	for lines.Scan() {
		var series struct {
			Metric     map[string]string
			Values     []float64
			Timestamps []int64 // in milliseconds
		}
		if err := json.Unmarshal(lines.Bytes(), &series); err != nil {
			r.Fatal(err)
		}
		name := series.Metric["__name__"]
		delete(series.Metric, "__name__")
		for i, at := range series.Timestamps {
			if at <= now.UnixMilli() {
				fmt.Fprintln(&text, name+labelText(series.Metric), series.Values[i], at/1000)
			}
		}
	}
	text.WriteString("# EOF\n")
	return r.write("history.txt", text.Bytes())
}

// active returns the texts of pending and firing alerts without figures, by their labels, and
// whether each rule has been evaluated.
func (r rulers) active(ruler, address string) (alerts map[string]string, isComplete bool) {
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, Health, LastError string
					LastEvaluation          time.Time
					Alerts                  []struct {
						Labels, Annotations map[string]string
						State               string
					}
				}
			}
		}
	}
	if err := json.Unmarshal(r.get(address+"/api/v1/rules", nil), &answer); err != nil {
		r.Fatal(err)
	}
	alerts, isComplete = make(map[string]string), len(answer.Data.Groups) > 0
	for _, group := range answer.Data.Groups {
		for _, rule := range group.Rules {
			isEvaluated := !rule.LastEvaluation.IsZero()
			if isEvaluated && (rule.Health != "ok" || rule.LastError != "") {
				r.Fatalf("%s: %s is %s: %s", ruler, rule.Name, rule.Health, rule.LastError)
			}
			isComplete = isComplete && isEvaluated
			for _, alert := range rule.Alerts {
				if delete(alert.Labels, "replica"); alert.State != "inactive" {
					alerts[labelText(alert.Labels)] = figure.ReplaceAllString(labelText(alert.Annotations), "0")
				}
			}
		}
	}
	return alerts, isComplete
}

var figure = regexp.MustCompile(`[0-9.]+`)
