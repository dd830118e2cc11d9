// Docker_buildup_exporter exposes what accumulates on a Docker host, and how full its disk
// is, as Prometheus metrics.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"docker_buildup_exporter/alerts"
	"docker_buildup_exporter/collector"
	"docker_buildup_exporter/collector/containerd"
	"docker_buildup_exporter/collector/docker"
	"docker_buildup_exporter/collector/engine"
	"docker_buildup_exporter/collector/host"
	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
	"docker_buildup_exporter/collector/report"
	"docker_buildup_exporter/dashboards"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
)

const (
	name        = "docker_buildup_exporter"
	description = "Prometheus exporter for what accumulates on a Docker host, and how full its disk is."
	healthPath  = "/-/healthy"
	runbookPath = "/runbook"
)

// gcPercent is how much the heap grows between two garbage collections. The program does little between
// two scrapes, and what it keeps is small: memory is worth more than the CPU time of more collections.
// GOGC replaces it.
const gcPercent = 30

// memoryLimit is from where on the garbage collector runs more often, in bytes. Most hosts need less than
// half of it. Lists of 100,000 images, of which 25 MB are kept, then need 60 MiB resident instead of 100,
// and 0.1 s of CPU more for each scrape that has to compute its figures. A host that needs more memory than
// this still gets it; Go's collector takes at most half of the CPU then. GOMEMLIMIT replaces it.
const memoryLimit = 36 << 20

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

type program struct {
	stdout io.Writer
	log    promslog.Config

	docker       docker.Config
	containerd   string // address
	engine       engine.Config
	mappings     []host.MountMapping
	repositories int
	web          webOptions
	status       statusOptions
	rules        rulesOptions
	dashboards   string // folder

	hasPrinted bool // --help and --version print all that is wanted
	exitCode   int
}

type webOptions struct {
	*web.FlagConfig
	metricsPath string
	maxRequests int
	withoutOwn  bool
	names       bool
}

type statusOptions struct {
	levels  report.Thresholds
	output  string
	timeout time.Duration
}

type rulesOptions struct {
	format     string
	testFolder string
	thresholds alerts.Thresholds
	options    alerts.Options
}

// commandError is an error of a command, with what could not be done.
type commandError struct {
	what string
	err  error
}

func (e commandError) Error() string { return e.what + ": " + e.err.Error() }

func run(args []string, stdout, stderr io.Writer) int {
	log.SetOutput(io.Discard) // net/http writes there what an engine sends without a request, each time
	p := &program{stdout: stdout}
	queue := newLogQueue(stderr, func(dropped int64) {
		direct := p.log
		direct.Writer = stderr
		promslog.New(&direct).Warn("log lines were dropped", "lines", dropped, "hint", "read standard error faster")
	})
	defer queue.flush()
	p.log.Writer = queue
	app := p.newApp().UsageWriter(stdout).ErrorWriter(stderr)
	app.Terminate(func(int) { p.hasPrinted = true })
	_, err := app.Parse(args)
	switch {
	case p.hasPrinted:
		return 0
	case err == nil:
		return p.exitCode
	}
	failure := commandError{"Bad command line, see --help", err}
	errors.As(err, &failure)
	p.logger().Error(failure.what, "err", failure.err)
	if slices.Contains(args, "status") { // a monitoring system reads this line only
		fmt.Fprintf(stdout, "DOCKER UNKNOWN - %s: %v\n", failure.what, failure.err)
		return report.Unknown.ExitCode()
	}
	return 1
}

func (p *program) logger() *slog.Logger { return promslog.New(&p.log) }

// logQueue writes lines in a goroutine of its own, so that a reader of the log who stalls stops
// no other goroutine. Lines that it has no room for are counted.
type logQueue struct {
	lines   chan []byte // nil: the end
	dropped atomic.Int64
	ended   chan struct{}
}

// maxLogLines is how many lines wait at most.
const maxLogLines = 100

func newLogQueue(out io.Writer, note func(dropped int64)) *logQueue {
	q := &logQueue{lines: make(chan []byte, maxLogLines), ended: make(chan struct{})}
	go func() {
		defer close(q.ended)
		for line := range q.lines {
			if line == nil {
				return
			}
			_, _ = out.Write(line) // there is no other place to report it
			if n := q.dropped.Swap(0); n > 0 {
				note(n)
			}
		}
	}()
	return q
}

func (q *logQueue) Write(line []byte) (int, error) {
	select {
	case q.lines <- bytes.Clone(line):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

// flush waits until all lines are written, but at most a second.
func (q *logQueue) flush() {
	timeout := time.After(time.Second)
	select {
	case q.lines <- nil:
	case <-timeout:
		return
	}
	select {
	case <-q.ended:
	case <-timeout:
	}
}

// command returns the action of a kingpin command.
func (p *program) command(what string, run func() error) kingpin.Action {
	return func(*kingpin.ParseContext) error {
		if p.hasPrinted {
			return nil
		}
		err := run()
		if err == nil || errors.As(err, new(commandError)) {
			return err
		}
		return commandError{what, err}
	}
}

func (p *program) newApp() *kingpin.Application {
	app := kingpin.New(name, description).DefaultEnvars()
	p.addEngineFlags(app)
	p.addWebFlags(app)
	promslogflag.AddFlags(app, &p.log)
	app.UsageTemplate(usageTemplate())
	app.Version(version.Print(name))
	app.HelpFlag.Short('h').NoEnvar()
	app.VersionFlag.NoEnvar()

	app.Command("serve", "Serve metrics. The default.").Default().Action(p.command("Cannot serve", p.serve))
	app.Command("healthcheck", "Check whether the exporter that listens on --web.listen-address serves. Exit code 0: yes, 1: no.").
		Action(p.command("Not healthy", p.checkHealth))
	writeDashboards := app.Command("dashboards", "Write the Grafana dashboards into a folder, or print their names.").
		Action(p.command("Cannot write the dashboards", p.writeDashboards))
	writeDashboards.Arg("DIR", "Folder to write into.").StringVar(&p.dashboards)

	p.addRules(app)

	status := app.Command("status", "Print the state of the engine once. Exit code of a monitoring plugin: 0: OK, 1: warning, 2: critical, 3: unknown. Options: status --help.").
		Action(p.command("Cannot write", p.printStatus))
	status.Flag("output", "Output format: text, json, or the metrics of prometheus, for the textfile collector of node_exporter; exit code 0 then.").
		Default("text").EnumVar(&p.status.output, "text", "json", "prometheus")
	add(status, "timeout", "Maximum time to wait for slow engine requests.", "30s", &p.status.timeout, positiveDuration)
	levels := report.DefaultThresholds()
	add(status, "warn", "Warning if less than this ratio of a file system's bytes or inodes is free.", fmt.Sprintf("%g%%", 100*levels.Warn), &p.status.levels.Warn, ratio)
	add(status, "crit", "Critical if less than this ratio is free.", fmt.Sprintf("%g%%", 100*levels.Crit), &p.status.levels.Crit, ratio)
	return app
}

// usageTemplate returns the default template of kingpin, in which the flags of a command come
// before those of the program.
func usageTemplate() string {
	const flags = "{{if .Context.Flags -}}"
	return strings.Replace(kingpin.DefaultUsageTemplate, flags, "{{with .Context.SelectedCommand}}{{if .Flags -}}\nFlags of {{.FullCommand}}:\n{{.Flags|FlagsToTwoColumns|FormatTwoColumns}}\n{{end}}{{end -}}\n"+flags, 1)
}

func (p *program) addRules(app *kingpin.Application) {
	p.rules.thresholds, p.rules.options.Labels = alerts.Defaults(), make(alerts.Labels)
	rules := app.Command("rules", "Print the alert rules, optionally with other thresholds.").Action(p.command("Cannot write the rules", p.writeRules))
	rules.Flag("format", "Output format: a Prometheus rule file, or a PrometheusRule of the Prometheus operator.").
		Default(string(alerts.Prometheus)).EnumVar(&p.rules.format, string(alerts.Prometheus), string(alerts.PrometheusRule))
	rules.Flag("test", "Write the rules and their unit tests, which use the default thresholds, into this folder, for promtool test rules DIR/tests/*.yml.").
		PlaceHolder("DIR").StringVar(&p.rules.testFolder)
	addURL := func(name, help string, target *string) {
		rules.Flag(name, help).PlaceHolder("URL").SetValue(flagValue[string]{name, target, alerts.ParseURL})
	}
	addURL("runbook-url", "Address of the runbook, without the anchor of the alert. May contain {{ $labels.instance }}. Default: http://{{ $labels.instance }}/runbook, which the exporter serves.", &p.rules.options.RunbookURL)
	addURL("dashboard-url", "Address of the dashboard of one host in Grafana. Each alert links to it with the variables job and instance.", &p.rules.options.DashboardURL)
	rules.Flag("label", "Label to add to each alert, as NAME=VALUE. Repeatable.").PlaceHolder("NAME=VALUE").SetValue(p.rules.options.Labels)
	for _, threshold := range p.rules.thresholds.All() {
		rules.Flag(threshold.Name, threshold.Help).Default(threshold.Value.String()).SetValue(threshold.Value)
	}
}

func (p *program) addEngineFlags(app *kingpin.Application) {
	app.Flag("docker.host", "Address of the engine: unix://PATH, tcp://HOST:PORT or http://HOST:PORT. Default: DOCKER_HOST, else the current context of the Docker CLI if it is a unix socket, else the local socket, else the rootless one, else those of Podman.").
		PlaceHolder("ADDRESS").StringVar(&p.docker.Host)
	add(app, "docker.timeout", "Timeout of requests that are fast on every engine, like a ping.", "5s", &p.docker.Timeout, positiveDuration)
	app.Flag("docker.tls-ca", "Certificate authority of the engine, PEM. Default: ca.pem in DOCKER_CERT_PATH, else the system's.").PlaceHolder("FILE").StringVar(&p.docker.TLS.CA)
	app.Flag("docker.tls-cert", "Client certificate for the engine, PEM. Default: cert.pem in DOCKER_CERT_PATH.").PlaceHolder("FILE").StringVar(&p.docker.TLS.Cert)
	app.Flag("docker.tls-key", "Key of the client certificate, PEM. Default: key.pem in DOCKER_CERT_PATH.").PlaceHolder("FILE").StringVar(&p.docker.TLS.Key)
	app.Flag("docker.tls-insecure", "Skip verification of the engine's TLS certificate.").BoolVar(&p.docker.TLS.Insecure)
	app.Flag("containerd.address", "Socket of the engine's containerd, which is read if the engine has the containerd image store. Default: found if this process may read it. none: not read.").
		PlaceHolder("PATH").StringVar(&p.containerd)
	add(app, "engine.max-busy-ratio", "Maximum fraction of time the engine may spend on list requests that take 500ms or more while no change has been detected. 1 disables the limit.",
		"0.005", &p.engine.BusyRatio.Unchanged, busyRatio)
	add(app, "engine.max-busy-ratio-on-change", "Maximum fraction of time after a change has been detected, or before the first list.",
		"0.1", &p.engine.BusyRatio.Changed, busyRatio)
	app.Flag("collector.container-sizes", "Collect writable layer sizes. The engine walks all files of running containers on each refresh, and of stopped containers once.").
		Default("true").BoolVar(&p.engine.ContainerSizes)
	app.Flag("collector.volumes", "Collect volumes and their sizes. The engine walks all their files.").Default("true").BoolVar(&p.engine.Volumes)
	app.Flag("collector.build-cache", "Collect the build cache. Without it, the figures of image prunes are unknown. Before API 1.42 the engine walks all files of containers and volumes for it.").
		Default("true").BoolVar(&p.engine.BuildCache)
	app.Flag("collector.container-logs", "Collect the log sizes of containers. The exporter reads the directories of containers, if it may.").
		Default("true").BoolVar(&p.engine.ContainerLogs)
	app.Flag("collector.leftovers", "Collect the size of what is in the engine's root directory and belongs to no object of the engine. The exporter reads the directories, if it may.").
		Default("true").BoolVar(&p.engine.Leftovers)
	add(app, "collector.repositories", "Number of largest repositories to expose with image count and reclaimable bytes (2 series each, at most 255).", "0", &p.repositories, upTo(255))
	app.Flag("filesystem.path", "Filesystem that holds the engine's data, as HOSTPATH or HOSTPATH=MOUNTPOINT. Repeatable. Detected if not set.").
		PlaceHolder("HOSTPATH[=MOUNTPOINT]").SetValue((*mountMappings)(&p.mappings))
}

func (p *program) addWebFlags(app *kingpin.Application) {
	p.web.FlagConfig = kingpinflag.AddFlags(app, ":10058")
	add(app, "web.telemetry-path", "Path under which to expose metrics.", "/metrics", &p.web.metricsPath, pagePath)
	add(app, "web.max-requests", "Maximum number of scrapes served at the same time; further ones are answered with 503. 0 disables the limit.", "40", &p.web.maxRequests, upTo(65535))
	app.Flag("web.names", "Show the names of volumes, containers and repositories on the page. They are never in the metrics.").Default("true").BoolVar(&p.web.names)
	app.Flag("web.disable-exporter-metrics", "Exclude the metrics of the exporter itself (go_*, process_*, promhttp_*).").BoolVar(&p.web.withoutOwn)
}

// start runs the engine of the options. stop ends it, and returns when it has ended.
func (p *program) start() (e *engine.Engine, stop func(), err error) {
	p.docker.Repositories = p.repositories > 0
	p.docker.Environment = docker.ReadEnvironment()
	client, err := docker.New(p.docker)
	if err != nil {
		return nil, nil, commandError{"Cannot use this engine", err}
	}
	if client.Warning != nil {
		p.logger().Warn("Docker context not used", "err", client.Warning, "hint", "set --docker.host to the engine's address (docker context inspect)")
	}
	p.engine.Timeout, p.engine.IsLocal = p.docker.Timeout, client.IsLocal()
	if store := containerd.New(p.containerd, p.repositories > 0); store != nil {
		p.engine.Store, p.engine.Measure = store.Read, store.Measure
	}
	e = engine.New(p.engine, client, host.New(p.mappings, client.DialSocket()), p.logger())
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Run(running)
	}()
	return e, func() { cancel(); <-ended }, nil
}

func (p *program) serve() error {
	signal.Ignore(syscall.SIGPIPE) // a closed stderr must not end the program
	logger := p.logger()
	logger.Info("Starting "+name, "version", version.Info())
	logger.Info("Build context", "build_context", version.BuildContext())
	p.engine.Events = true
	e, stop, err := p.start()
	if err != nil {
		return err
	}
	defer stop()
	requests, cancelRequests := context.WithCancel(context.Background())
	defer cancelRequests()
	server := collector.NewServer(p.newHandler(e, logger), collector.MaxConnections())
	server.BaseContext = func(net.Listener) context.Context { return requests }
	ctx, ignoreSignals := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer ignoreSignals()
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(server, p.web.FlagConfig, logger) }()
	select {
	case err := <-served:
		return commandError{"Cannot serve, see --web.listen-address and --web.config.file", err}
	case <-ctx.Done():
		shutdown(server, cancelRequests)
		logger.Info("Stopped")
		return nil
	}
}

// newHandler puts all pages of the program together.
func (p *program) newHandler(e *engine.Engine, logger *slog.Logger) http.Handler {
	process := prometheus.NewRegistry()
	process.MustRegister(versioncollector.NewCollector(name))
	options := promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(logger.Handler(), slog.LevelError),
		ErrorHandling: promhttp.ContinueOnError,
	}
	var metrics http.Handler = collector.NewHandler(e.Snapshot, p.repositories, process, p.web.maxRequests, options)
	if !p.web.withoutOwn {
		process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		metrics = promhttp.InstrumentMetricHandler(process, metrics)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+p.web.metricsPath, metrics) // a request with a body that does not arrive takes no slot
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if !e.Healthy(ctx) {
			http.Error(w, "the state loop does not respond", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "OK")
	})
	links := []report.Link{{Address: "." + p.web.metricsPath, Text: "Metrics"}, {Address: "." + runbookPath, Text: "Runbook"}, {Address: "." + healthPath, Text: "Health"}}
	if p.web.metricsPath != "/" {
		var summarizer prune.Summarizer
		if p.web.names {
			summarizer.Holders = report.MaxHolders
		}
		summary := func(r *http.Request) prune.Summary {
			ctx, cancel := context.WithTimeout(r.Context(), collector.ScrapeTimeout(r.Header))
			defer cancel()
			return summarizer.Summarize(e.Snapshot(ctx, pageMaxAge))
		}
		mux.Handle("GET /{$}", report.Page(summary, version.Version, links))
	}
	mux.Handle("GET "+runbookPath, report.Document("Docker buildup: runbook", alerts.Runbook(), version.Version, append(links, report.Link{Address: "./", Text: "Status"})))
	return mux
}

// pageMaxAge is how old the figures of the page may be, so that any number of readers costs
// the engine no more than one scraper.
const pageMaxAge = 5 * time.Second

// shutdown ends the server within a second. Scrapes in progress are answered, with what is
// known after half of that time.
func shutdown(server *http.Server, cancelRequests func()) {
	ctx, cancel := context.WithTimeout(context.Background(), 900*time.Millisecond)
	defer cancel()
	defer time.AfterFunc(500*time.Millisecond, cancelRequests).Stop()
	if err := server.Shutdown(ctx); err != nil {
		server.Close()
	}
}

func (p *program) printStatus() error {
	if err := p.status.levels.Validate(); err != nil {
		return commandError{"Bad --warn or --crit", err}
	}
	e, stop, err := p.start()
	if err != nil {
		return err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), p.status.timeout)
	defer cancel()
	summarizer := prune.Summarizer{Repositories: p.repositories, Holders: report.MaxHolders}
	summary := report.Poll(ctx, &summarizer, func(ctx context.Context) model.Snapshot { return e.Snapshot(ctx, 0) })
	if p.status.output == "prometheus" {
		return collector.Write(p.stdout, summary)
	}
	r := report.New(summary, p.status.levels)
	p.exitCode = r.Status.ExitCode()
	return r.Write(p.stdout, p.status.output)
}

// writeRules prints the alert rules or, with their tests, writes them into a folder.
func (p *program) writeRules() error {
	if p.rules.testFolder == "" {
		return alerts.Write(p.stdout, p.rules.thresholds, p.rules.options, alerts.Format(p.rules.format))
	}
	if alerts.Format(p.rules.format) != alerts.Prometheus {
		return errors.New("the unit tests are for the Prometheus rule file: leave --format out")
	}
	files, err := alerts.Files(p.rules.thresholds, p.rules.options)
	if err != nil {
		return err
	}
	return writeFiles(p.rules.testFolder, files)
}

func (p *program) writeDashboards() error {
	files, err := dashboards.Files()
	if err == nil && p.dashboards != "" {
		err = writeFiles(p.dashboards, files)
	}
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintln(p.stdout, filepath.Join(p.dashboards, file))
	}
	return nil
}

// writeFiles writes files by their paths below a folder, which is created if necessary.
func writeFiles(dir string, files map[string][]byte) error {
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// checkHealth requests the health page of the exporter that listens on the first address. One
// that requires a password or a client certificate for it serves, too.
func (p *program) checkHealth() error {
	address := (*p.web.WebListenAddresses)[0]
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it is this very host
	client := &http.Client{Transport: transport, Timeout: 3 * time.Second}
	response, err := client.Get("http://" + address + healthPath)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusBadRequest { // how a TLS server answers plain HTTP
		response, err = client.Get("https://" + address + healthPath)
		if remote := new(net.OpError); errors.As(err, &remote) && remote.Op == "remote error" { // a TLS alert
			return nil
		}
		if err != nil {
			return err
		}
		defer response.Body.Close()
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("%s answered %s", response.Request.URL, response.Status)
	}
	return nil
}

// flagger is a kingpin application or command.
type flagger interface {
	Flag(name, help string) *kingpin.FlagClause
}

// add adds a flag that is parsed and validated by a function.
func add[T any](app flagger, name, help, byDefault string, target *T, parse func(string) (T, error)) {
	app.Flag(name, help).Default(byDefault).SetValue(flagValue[T]{name, target, parse})
}

// flagValue is a kingpin.Value whose errors name the flag, which those of kingpin do not.
type flagValue[T any] struct {
	name   string
	target *T
	parse  func(string) (T, error)
}

func (v flagValue[T]) Set(text string) error {
	parsed, err := v.parse(text)
	if err != nil {
		return fmt.Errorf("--%s=%s: %w", v.name, text, err)
	}
	*v.target = parsed
	return nil
}

func (v flagValue[T]) String() string { return fmt.Sprint(*v.target) }

func positiveDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("must be more than 0")
	}
	return d, err
}

// ratio parses 0.20, 20%, and the same as a range of monitoring plugins: 20%: is 20 % and more.
func ratio(text string) (float64, error) {
	percent, isPercent := strings.CutSuffix(strings.TrimSuffix(text, ":"), "%")
	n, err := strconv.ParseFloat(percent, 64)
	if isPercent {
		n /= 100
	}
	if err != nil || !(n >= 0 && n <= 1) {
		return 0, errors.New("not a ratio from 0 to 1 (examples: 0.20, 20%, 20%:)")
	}
	return n, nil
}

func busyRatio(text string) (float64, error) {
	n, err := ratio(text)
	if err != nil || n == 0 {
		return 0, errors.New("must be more than 0 and at most 1")
	}
	return n, nil
}

// upTo returns a parser of numbers from 0 to a maximum.
func upTo(maximum int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err == nil && (n < 0 || n > maximum) {
			err = fmt.Errorf("must be from 0 to %d", maximum)
		}
		return n, err
	}
}

func pagePath(text string) (string, error) {
	if !path.IsAbs(text) || path.Clean(text) != text || text == healthPath || text == runbookPath || strings.ContainsAny(text, "{} ?#") {
		return "", errors.New("not a valid path (example: /metrics)")
	}
	return text, nil
}

// mountMappings is the value of a repeatable flag.
type mountMappings []host.MountMapping

func (m *mountMappings) Set(text string) error {
	mapping, err := host.ParseMountMapping(text)
	if err != nil {
		return fmt.Errorf("--filesystem.path=%s: %w", text, err)
	}
	if slices.ContainsFunc(*m, func(other host.MountMapping) bool { return other.HostPath == mapping.HostPath }) {
		return fmt.Errorf("--filesystem.path=%s: %s is given twice", text, mapping.HostPath)
	}
	*m = append(*m, mapping)
	return nil
}

func (m *mountMappings) String() string     { return fmt.Sprint(*m) }
func (m *mountMappings) IsCumulative() bool { return true }
