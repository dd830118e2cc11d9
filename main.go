// Docker_buildup_exporter tells Prometheus what piles up on a Docker host, and how
// full its disk is.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"docker_buildup_exporter/alerts"
	"docker_buildup_exporter/collector"
	"docker_buildup_exporter/collector/engine"
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
	description = "Tells Prometheus what piles up on a Docker host, and how full its disk is."
	healthPath  = "/-/healthy"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program. It returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	app := kingpin.New(name, description).DefaultEnvars().UsageWriter(stdout).ErrorWriter(stderr)
	var config engine.Config
	app.Flag("docker.host", "Address of the engine: unix://PATH, tcp://HOST:PORT or http://HOST:PORT. Default: DOCKER_HOST, else the local socket, else the rootless one.").PlaceHolder("ADDRESS").StringVar(&config.Host)
	app.Flag("docker.timeout", "How long the engine may take for a ping and for /info.").Default("5s").DurationVar(&config.Timeout)
	app.Flag("docker.tls-ca", "Certificate authority of the engine, PEM. Default: ca.pem in DOCKER_CERT_PATH, else the system's.").PlaceHolder("FILE").StringVar(&config.TLS.CA)
	app.Flag("docker.tls-cert", "Client certificate for the engine, PEM. Default: cert.pem in DOCKER_CERT_PATH.").PlaceHolder("FILE").StringVar(&config.TLS.Cert)
	app.Flag("docker.tls-key", "Key of the client certificate, PEM. Default: key.pem in DOCKER_CERT_PATH.").PlaceHolder("FILE").StringVar(&config.TLS.Key)
	app.Flag("docker.tls-insecure", "Speak TLS with the engine without verifying who it is.").BoolVar(&config.TLS.Insecure)
	app.Flag("engine.max-busy-ratio", "Share of its time that the engine may spend on a list that takes it half a second or more, while nothing says that the list has changed. 1: no limit.").Default("0.005").Float64Var(&config.Pace.Idle)
	app.Flag("engine.max-busy-ratio-on-change", "The same once something says so, and while there is no list at all.").Default("0.1").Float64Var(&config.Pace.Change)
	app.Flag("collector.container-sizes", "Measure the writable layers of containers. The engine walks through the files of each, of a stopped one once.").Default("true").BoolVar(&config.ContainerSizes)
	app.Flag("collector.volumes", "Count and measure volumes. The engine walks through the files of each.").Default("true").BoolVar(&config.Volumes)
	app.Flag("collector.build-cache", "Ask for the build cache. Without it what image prunes free is unknown. Before API 1.42 the engine walks through all files of containers and volumes for it.").Default("true").BoolVar(&config.BuildCache)
	repositories := app.Flag("collector.repositories", "Tell of so many repositories, those that hold most, how many images each has and what removing the unused ones would free. Two series for each; at most 255.").Default("0").Uint8()
	var (
		places      = app.Flag("filesystem.path", "Where to measure the disk under the engine, as HOSTPATH or HOSTPATH=MOUNTPOINT. Repeatable. Default: wherever that can be found out for certain.").PlaceHolder("HOSTPATH[=MOUNTPOINT]").Strings()
		webFlags    = kingpinflag.AddFlags(app, ":10058")
		metricsPath = app.Flag("web.telemetry-path", "Path under which to expose metrics.").Default("/metrics").String()
		maxRequests = app.Flag("web.max-requests", "Scrapes served at the same time; one more is answered with 503. 0: no limit.").Default("40").Uint16()
		noOwn       = app.Flag("web.disable-exporter-metrics", "Leave out the metrics of the exporter itself (go_*, process_*, promhttp_*).").Bool()
		logConfig   = promslog.Config{Writer: stderr}
	)
	promslogflag.AddFlags(app, &logConfig)
	app.Version(version.Print(name))
	app.HelpFlag.Short('h').NoEnvar()
	app.VersionFlag.NoEnvar()
	app.Command("serve", "Serve metrics. The default.").Default()
	healthcheck := app.Command("healthcheck", "Ask the exporter that listens on --web.listen-address whether it serves. Exit code 0: yes, 1: no.")
	writeDashboards := app.Command("dashboards", "Write the Grafana dashboards into a folder; without one, print their names.")
	dashboardsDir := writeDashboards.Arg("DIR", "Folder to write into.").String()

	rules := app.Command("rules", "Print the alert rules, with thresholds of your choice.")
	rulesFormat := rules.Flag("format", "What the rules are for: a file of Prometheus, or the Prometheus operator.").Default(string(alerts.Prometheus)).Enum(string(alerts.Prometheus), string(alerts.PrometheusRule))
	rulesTest := rules.Flag("test", "Write the rules and their unit tests, which are of the default thresholds, into this folder, for promtool test rules DIR/tests/*.yml.").PlaceHolder("DIR").String()
	thresholds := alerts.Defaults()
	for _, threshold := range thresholds.All() {
		rules.Flag(threshold.Name, threshold.Help).Default(threshold.Value.String()).SetValue(threshold.Value)
	}
	check := app.Command("status", "Ask the engine once and print what the page at / tells. Exit code, as of a monitoring plugin: 0: OK, 1: warning, 2: critical, 3: unknown. Options: status --help.")
	var (
		levels   report.Thresholds
		output   = check.Flag("output", "As what to print it: text or json.").Default("text").Enum("text", "json")
		patience = check.Flag("timeout", "How long to wait for what the engine cannot say at once.").Default("30s").Duration()
	)
	check.Flag("warn", "Warning if less than this share of a file system's bytes or inodes is free.").Default("0.20").Float64Var(&levels.Warn)
	check.Flag("crit", "The same, critical.").Default("0.10").Float64Var(&levels.Crit)

	exited := false // --help and --version have printed all that was wanted
	app.Terminate(func(int) { exited = true })
	command, err := app.Parse(args)
	if exited {
		return 0
	}
	logger := promslog.New(&logConfig)
	failed := 1
	if slices.Contains(args, check.FullCommand()) { // also where the rest of the command line is bad
		failed = report.Unknown.ExitCode()
	}
	fail := func(message string, err error) int {
		logger.Error(message, "err", err)
		if failed == report.Unknown.ExitCode() { // a monitoring system reads this line only
			fmt.Fprintf(stdout, "DOCKER UNKNOWN - %s: %v\n", message, err)
		}
		return failed
	}
	if err != nil {
		return fail("Bad command line, see --help", blame(app, args, err))
	}
	switch command {
	case healthcheck.FullCommand():
		if err := checkHealth(*webFlags.WebListenAddresses); err != nil {
			return fail("Not healthy", err)
		}
		return 0
	case rules.FullCommand():
		if err := writeRules(stdout, thresholds, alerts.Format(*rulesFormat), *rulesTest); err != nil {
			return fail("Cannot write the rules", err)
		}
		return 0
	case writeDashboards.FullCommand():
		files, err := dashboards.Files(alerts.Defaults())
		if err == nil && *dashboardsDir != "" {
			err = writeFiles(*dashboardsDir, files)
		}
		if err != nil {
			return fail("Cannot write the dashboards", err)
		}
		for _, file := range slices.Sorted(maps.Keys(files)) {
			fmt.Fprintln(stdout, filepath.Join(*dashboardsDir, file))
		}
		return 0
	}

	for _, text := range *places {
		place, err := engine.ParsePlace(text)
		if err != nil {
			return fail("Bad --filesystem.path", err)
		}
		if slices.ContainsFunc(config.Places, func(other engine.Place) bool { return other.Path == place.Path }) {
			return fail("Bad --filesystem.path", fmt.Errorf("%s is given twice", place.Path))
		}
		config.Places = append(config.Places, place)
	}
	config.Repositories = *repositories > 0
	if config.Timeout <= 0 {
		return fail("Bad --docker.timeout", errors.New("it must be more than 0"))
	}
	for flag, share := range map[string]float64{"max-busy-ratio": config.Pace.Idle, "max-busy-ratio-on-change": config.Pace.Change} {
		if !(share > 0 && share <= 1) {
			return fail("Bad --engine."+flag, fmt.Errorf("%v is not more than 0 and at most 1", share))
		}
	}
	if !path.IsAbs(*metricsPath) || path.Clean(*metricsPath) != *metricsPath || *metricsPath == healthPath || strings.ContainsAny(*metricsPath, "{} ?#") {
		return fail("Bad --web.telemetry-path", fmt.Errorf("%q is no path of its own, as /metrics is", *metricsPath))
	}

	if err := levels.Check(); err != nil {
		return fail("Bad --warn or --crit", err)
	}
	if command == check.FullCommand() && *patience <= 0 {
		return fail("Bad --timeout", errors.New("it must be more than 0"))
	}

	if command != check.FullCommand() {
		logger.Info("Starting "+name, "version", version.Info())
		logger.Info("Build context", "build_context", version.BuildContext())
	}
	engine, err := engine.New(config, logger)
	if err != nil {
		return fail("Cannot use this engine", err)
	}
	if command == check.FullCommand() {
		ctx, cancel := context.WithTimeout(context.Background(), *patience)
		defer cancel()
		report := report.New(report.Await(ctx, engine.Inventory), levels)
		if err := report.Write(stdout, *output); err != nil {
			return fail("Cannot write", err)
		}
		return report.Verdict.ExitCode()
	}
	collector := collector.New(engine.Inventory, int(*repositories))
	handler, err := newHandler(collector, *metricsPath, int(*maxRequests), !*noOwn, logger)
	if err != nil {
		return fail("Cannot set up the web server", err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	watchContext, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		engine.Watch(watchContext)
	}()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(server, webFlags, logger) }()
	select {
	case err := <-served:
		return fail("Cannot serve, see --web.listen-address and --web.config.file", err)
	case <-ctx.Done():
		shutdown(server, collector)
		stopWatching()
		<-watched
		logger.Info("Stopped")
		return 0
	}
}

// blame adds to why a command line cannot be parsed which option's value it is, of which
// kingpin says nothing.
func blame(app *kingpin.Application, args []string, err error) error {
	parsed, parseErr := app.ParseContext(args)
	if parseErr != nil { // no option's value
		return err
	}
	for _, element := range parsed.Elements {
		option, is := element.Clause.(*kingpin.FlagClause)
		if !is {
			continue
		}
		if model := option.Model(); model.Value.Set(*element.Value) != nil {
			return fmt.Errorf("--%s=%s: %w", model.Name, *element.Value, err)
		}
	}
	for _, option := range app.Model().Flags {
		if value := os.Getenv(option.Envar); value != "" && option.Value.Set(value) != nil {
			return fmt.Errorf("%s=%s: %w", option.Envar, value, err)
		}
	}
	return err
}

// writeRules prints the alert rules or, with their tests, writes them into a folder.
func writeRules(w io.Writer, thresholds alerts.Thresholds, format alerts.Format, dir string) error {
	if dir == "" {
		return alerts.Write(w, thresholds, format)
	}
	if format != alerts.Prometheus {
		return errors.New("the unit tests are of the file for Prometheus: leave --format out")
	}
	files, err := alerts.Files(thresholds)
	if err != nil {
		return err
	}
	return writeFiles(dir, files)
}

// writeFiles writes files by their paths below a folder, which it makes if it is not there.
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

// newHandler puts all pages of the program together.
func newHandler(buildup *collector.Collector, metricsPath string, maxRequests int, ownMetrics bool, logger *slog.Logger) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(buildup, versioncollector.NewCollector(name))
	options := promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(logger.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxRequests,
		CoalesceGather:      true, // a crowd of scrapers costs the engine what one does
	}
	metrics := buildup.WithDeadline(promhttp.HandlerFor(registry, options))
	if ownMetrics {
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		metrics = promhttp.InstrumentMetricHandler(registry, metrics)
	}

	mux := http.NewServeMux()
	mux.Handle(metricsPath, metrics)
	mux.HandleFunc(healthPath, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "OK")
	})
	if metricsPath != "/" {
		links := []report.Link{{Address: "." + metricsPath, Text: "Metrics"}, {Address: "." + healthPath, Text: "Health"}}
		mux.Handle("GET /{$}", buildup.WithDeadline(report.Page(buildup.Recent, version.Version, links)))
	}
	return mux, nil
}

// shutdown ends the server within a second. Scrapes in flight are answered, if
// need be with what is known after half of that time.
func shutdown(server *http.Server, collector *collector.Collector) {
	ctx, cancel := context.WithTimeout(context.Background(), 900*time.Millisecond)
	defer cancel()
	defer time.AfterFunc(500*time.Millisecond, collector.Hurry).Stop()
	if err := server.Shutdown(ctx); err != nil {
		server.Close()
	}
}

// checkHealth asks the exporter that listens on the first of addresses whether it
// serves. One that wants a password or a certificate for that answer serves, too.
func checkHealth(addresses []string) error {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it is this very host
	client := &http.Client{Transport: transport, Timeout: 3 * time.Second}
	response, err := client.Get("http://" + addresses[0] + healthPath)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusBadRequest { // how a TLS server answers plain HTTP
		response, err = client.Get("https://" + addresses[0] + healthPath)
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
