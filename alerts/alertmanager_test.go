package alerts_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
)

// receivers maps severities to receivers.
var receivers = map[string]string{"critical": "pager", "warning": "tickets", "info": "quiet"}

func TestAmtool(t *testing.T) {
	amtool := dockertest.Need(t, "amtool")
	run := func(args ...string) {
		t.Helper()
		if output, err := exec.CommandContext(t.Context(), amtool, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, output)
		}
	}
	run("check-config", "alertmanager.yml")
	for severity, receiver := range receivers {
		run("config", "routes", "test", "--config.file=alertmanager.yml", "--verify.receivers="+receiver,
			"component=docker-buildup", "severity="+severity)
	}
	run("config", "routes", "test", "--config.file=alertmanager.yml", "--verify.receivers=tickets",
		"component=another", "severity=critical")
}

// hosts lists alerts that fire together on a host (name, severity, resource, other labels),
// each with the alerts any of which inhibits it.
var hosts = map[string][]struct {
	alert       string
	inhibitedBy []string
}{
	"fills": {
		{"DockerDiskFilling critical disk path=/data", nil},
		{"DockerDiskFilling warning disk path=/data", []string{"DockerDiskFilling critical"}},
		{"DockerDiskAlmostFull warning disk path=/data", []string{"DockerDiskFilling critical"}},
		{"DockerDiskPressureReclaimable warning disk", []string{"DockerDiskFilling critical"}},
		{"DockerDiskUsageGrowing warning disk", []string{"DockerDiskFilling critical"}},
		{"DockerDiskAlmostFull warning disk path=/another", nil},
		{"DockerInodesFilling warning disk path=/data", nil},
		{"DockerDanglingImagesBuildup warning images", nil},
		{"DockerCleanupUseless warning disk", nil},
	},
	"full": { // and therefore its engine is down
		{"DockerDiskAlmostFull critical disk path=/data", nil},
		{"DockerDiskAlmostFull warning disk path=/data", []string{"DockerDiskAlmostFull critical"}},
		{"DockerDiskFilling warning disk path=/data", []string{"DockerDiskAlmostFull critical"}},
		{"DockerDiskPressureReclaimable warning disk", []string{"DockerDiskAlmostFull critical"}},
		{"DockerDiskUsageGrowing warning disk", []string{"DockerDiskAlmostFull critical"}},
		{"DockerEngineUnreachable warning engine", nil},
		{"DockerCollectionStale warning engine", []string{"DockerEngineUnreachable warning"}},
		{"DockerDanglingImagesBuildup warning images", []string{"DockerEngineUnreachable warning"}},
		{"DockerExitedContainersBuildup warning containers", []string{"DockerEngineUnreachable warning"}},
		{"DockerCleanupMissing warning disk", []string{"DockerEngineUnreachable warning"}},
	},
	"inodes": {
		{"DockerInodesAlmostOut critical disk path=/data", nil},
		{"DockerInodesAlmostOut warning disk path=/data", []string{"DockerInodesAlmostOut critical"}},
		{"DockerInodesFilling warning disk path=/data", []string{"DockerInodesAlmostOut critical"}},
		{"DockerInodesFilling critical disk path=/another", nil},
		{"DockerInodesAlmostOut warning disk path=/another", []string{"DockerInodesFilling critical"}},
		{"DockerDiskAlmostFull warning disk path=/data", nil},
	},
	"stale": {
		{"DockerCollectionStale warning engine", nil},
		{"DockerUnusedVolumesBuildup warning volumes", nil},
		{"DockerCleanupUseless warning images", nil},
		{"DockerDiskFilling warning disk path=/data", nil},
	},
	"down": {
		{"DockerExporterDown warning exporter", nil},
		{"DockerEngineUnreachable warning engine", []string{"DockerExporterDown warning"}},
		{"DockerCollectionStale warning engine", []string{"DockerExporterDown warning"}},
		{"DockerBuildCacheBuildup warning build_cache", []string{"DockerExporterDown warning", "DockerEngineUnreachable warning"}},
		{"DockerDiskAlmostFull warning disk path=/data", nil},
	},
	"healthy": { // while the other hosts are not
		{"DockerDiskAlmostFull warning disk path=/data", nil},
		{"DockerDanglingImagesBuildup warning images", nil},
		{"DockerDiskUnknown info exporter", nil},
	},
	"": { // without an instance
		{"DockerExporterAbsent warning exporter", []string{"DockerExporterDown warning"}},
		{"DockerExporterAbsent warning exporter cluster=another", nil},
	},
}

// TestInhibitionAndGrouping fires all alerts at once: each host gets one message per
// receiver, without the inhibited alerts.
func TestInhibitionAndGrouping(t *testing.T) {
	t.Parallel()
	a := startAlertmanager(t, "group_wait: 30s", "group_wait: 1s", "group_wait: 2m", "group_wait: 3s")
	inhibitedBy := make(map[string][]string)
	want := make(map[string][]string)
	var all []labels
	for host, alerts := range hosts {
		for _, one := range alerts {
			alert := parse(host, one.alert)
			all = append(all, alert)
			inhibitedBy[alert.String()] = one.inhibitedBy
			if receiver := receivers[alert["severity"]]; one.inhibitedBy == nil && receiver != "quiet" {
				want[receiver+" "+alert.host()] = append(want[receiver+" "+alert.host()], "firing "+alert.String())
			}
		}
	}
	for about, alerts := range want {
		slices.Sort(alerts)
		want[about] = []string{strings.Join(alerts, ", ")}
	}
	a.post(time.Hour, all...)
	eventually(a.t, "one message for each host and receiver", func() (any, bool) {
		received := a.received()
		return received, reflect.DeepEqual(received, want)
	})

	states := a.states()
	if len(states) != len(all) {
		t.Errorf("Alertmanager has %d alerts, want %d", len(states), len(all))
	}
	names := make(map[string]labels) // by fingerprint
	for _, state := range states {
		names[state.Fingerprint] = state.Labels
	}
	for _, state := range states {
		alert := state.Labels
		if len(state.Receivers) != 1 || state.Receivers[0].Name != receivers[alert["severity"]] {
			t.Errorf("%s goes to %v", alert, state.Receivers)
		}
		want := inhibitedBy[alert.String()]
		if got := len(state.Status.InhibitedBy) > 0; got != (want != nil) {
			t.Errorf("%s: inhibited %v, want by any of %q", alert, got, want)
		}
		for _, fingerprint := range state.Status.InhibitedBy {
			source := names[fingerprint]
			if !slices.Contains(want, source["alertname"]+" "+source["severity"]) ||
				alert["instance"] != "" && source["instance"] != alert["instance"] {
				t.Errorf("%s is inhibited by %s, want one of %q", alert, source, want)
			}
		}
	}
}

// TestAlertmanagerNamesExistingAlerts compares the alerts in the configuration, in hosts and
// in the rules.
func TestAlertmanagerNamesExistingAlerts(t *testing.T) {
	exists := make(map[string]bool)
	for _, rule := range rules(t) {
		exists[rule.Alert+" "+rule.Labels["severity"]] = true
	}
	tested := make(map[string]bool)
	for host, alerts := range hosts {
		for _, one := range alerts {
			alert := parse(host, one.alert)
			tested[alert["alertname"]] = true
			if name := alert["alertname"] + " " + alert["severity"]; !exists[name] {
				t.Errorf("no rule fires %s", name)
			}
		}
	}
	names := regexp.MustCompile(`\b(Docker\w+)(?:\(([\w|]+)\))?`).FindAllStringSubmatch(read(t, "alertmanager.yml"), -1)
	if len(names) == 0 {
		t.Fatal("alertmanager.yml names no alert")
	}
	for _, name := range names {
		for rest := range strings.SplitSeq(name[2], "|") {
			if !tested[name[1]+rest] {
				t.Errorf("alertmanager.yml names %s, which hosts does not contain", name[1]+rest)
			}
		}
	}
}

// However an incident develops, its first hour causes one ticket and one page.
func TestOneMessageAnHour(t *testing.T) {
	t.Parallel()
	a := startAlertmanager(t, "group_wait: 30s", "group_wait: 1s", "group_wait: 2m", "group_wait: 1s")
	steps := [][]string{
		{"DockerDanglingImagesBuildup warning images", "DockerDiskFilling warning disk path=/data"},
		{"DockerDiskFilling critical disk path=/data", "DockerDiskPressureReclaimable warning disk"},
		{"DockerDiskAlmostFull critical disk path=/data", "DockerDiskAlmostFull warning disk path=/data"},
		{"DockerInodesAlmostOut critical disk path=/data", "DockerInodesFilling warning disk path=/data"},
		{"DockerEngineUnreachable warning engine", "DockerCleanupMissing warning disk"},
		{"DockerExporterDown warning exporter"},
	}
	for i, step := range steps {
		var alerts []labels
		for _, host := range []string{"host1", "host2"} {
			for _, alert := range step {
				alerts = append(alerts, parse(host, alert))
			}
		}
		a.post(time.Hour, alerts...)
		a.pass(fmt.Sprint("step ", i+1))
	}
	for _, host := range []string{"host1", "host2"} {
		for receiver, first := range map[string][]string{"pager": steps[1][:1], "tickets": steps[0]} {
			got := a.received()[receiver+" "+host]
			if len(got) != 1 {
				t.Errorf("%s got %d messages about %s: %q", receiver, len(got), host, got)
			}
			for _, alert := range first {
				if !strings.Contains(strings.Join(got, "\n"), parse(host, alert).String()) {
					t.Errorf("%s got no message with %s: %q", receiver, alert, got)
				}
			}
		}
	}
}

// A resolved alert is sent once, and a warning is not sent again after it was inhibited.
func TestResolved(t *testing.T) {
	t.Parallel()
	a := startAlertmanager(t, "group_wait: 30s", "group_wait: 1s", "group_wait: 2m", "group_wait: 1s",
		"group_interval: 1h", "group_interval: 1s")
	ticket, page := parse("host1", "DockerDiskFilling warning disk path=/data"), parse("host1", "DockerDiskFilling critical disk path=/data")
	want := make(map[string][]string)
	step := func(receiver, status string, ends time.Duration, alert labels) {
		t.Helper()
		a.post(ends, alert)
		want[receiver+" host1"] = append(want[receiver+" host1"], status+" "+alert.String())
		eventually(a.t, status+" "+alert.String(), func() (any, bool) {
			received := a.received()
			return received, reflect.DeepEqual(received[receiver+" host1"], want[receiver+" host1"])
		})
	}
	isInhibited := func(want bool) {
		t.Helper()
		eventually(a.t, fmt.Sprint("the ticket is inhibited: ", want), func() (any, bool) {
			states := a.states()
			i := slices.IndexFunc(states, func(s state) bool { return s.Labels.String() == ticket.String() })
			return states, i >= 0 && (states[i].Status.State == "suppressed") == want
		})
	}
	step("tickets", "firing", time.Hour, ticket)
	isInhibited(false)
	step("pager", "firing", time.Hour, page)
	isInhibited(true)
	a.pass("inhibited")
	step("pager", "resolved", 0, page)
	isInhibited(false)
	a.pass("not-inhibited")
	step("tickets", "resolved", 0, ticket)
	a.pass("resolved")
	for about, messages := range want {
		if got := a.received()[about]; !reflect.DeepEqual(got, messages) {
			t.Errorf("%s: %q, want %q", about, got, messages)
		}
	}
}

type labels map[string]string

// parse parses an alert as written in hosts.
func parse(host, alert string) labels {
	fields := strings.Fields(alert)
	l := labels{"component": "docker-buildup", "alertname": fields[0], "severity": fields[1], "resource": fields[2]}
	if host != "" {
		l["job"], l["instance"] = "docker", host
	}
	for _, field := range fields[3:] {
		name, value, _ := strings.Cut(field, "=")
		l[name] = value
	}
	return l
}

func (l labels) host() string { return l["cluster"] + l["instance"] }

func (l labels) String() string {
	return strings.Join(strings.Fields(strings.Join([]string{l.host(), l["alertname"], l["severity"], l["path"]}, " ")), " ")
}

// An alertmanager is a real Alertmanager with our configuration.
type alertmanager struct {
	t        *testing.T
	url      string
	mu       sync.Mutex
	messages map[string][]string // by receiver and host
}

// startAlertmanager starts an Alertmanager that stops with the test. The test is its receivers,
// by webhooks. In the configuration it replaces each odd argument by the next.
func startAlertmanager(t *testing.T, replace ...string) *alertmanager {
	t.Helper()
	a := &alertmanager{t: t, messages: make(map[string][]string)}
	receiver := httptest.NewServer(http.HandlerFunc(a.receive))
	t.Cleanup(receiver.Close)
	config, _, _ := strings.Cut(configuration(t, replace...), "\nreceivers:\n")
	config += "\nreceivers:\n- name: quiet\n"
	for _, name := range []string{"pager", "tickets"} {
		config += "- name: " + name + "\n  webhook_configs: [{url: '" + receiver.URL + "'}]\n"
	}
	a.start(config)
	return a
}

// configuration returns alertmanager.yml with each odd argument replaced by the next.
func configuration(t *testing.T, replace ...string) string {
	t.Helper()
	config := read(t, "alertmanager.yml")
	for pair := range slices.Chunk(replace, 2) {
		if strings.Count(config, pair[0]) != 1 {
			t.Fatalf("alertmanager.yml does not have %q once", pair[0])
		}
		config = strings.Replace(config, pair[0], pair[1], 1)
	}
	return config
}

// start starts the process.
func (a *alertmanager) start(config string) {
	t := a.t
	t.Helper()
	dockertest.SkipUnlessReal(t)
	program := dockertest.Need(t, "prometheus-alertmanager")
	dir := t.TempDir()
	path := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	process := exec.CommandContext(t.Context(), program, "--config.file="+path, "--storage.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = dockertest.Child()
	process.Cancel = func() error { return process.Process.Signal(syscall.SIGTERM) }
	process.WaitDelay = 30 * time.Second
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Wait() }) // stopped by the test's context
	listens := regexp.MustCompile(`msg="Listening on".* address=(\S+)`)
	eventually(a.t, "Alertmanager listens", func() (any, bool) {
		text := read(t, log.Name())
		if match := listens.FindStringSubmatch(text); match != nil {
			a.url = "http://" + match[1]
		}
		return text, a.url != ""
	})
}

// receive stores a message to either receiver.
func (a *alertmanager) receive(_ http.ResponseWriter, r *http.Request) {
	var message struct {
		Receiver    string
		GroupLabels labels
		Alerts      []struct {
			Status string
			Labels labels
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		a.t.Error(err)
	}
	var alerts []string
	for _, alert := range message.Alerts {
		alerts = append(alerts, alert.Status+" "+alert.Labels.String())
	}
	slices.Sort(alerts)
	a.mu.Lock()
	defer a.mu.Unlock()
	about := message.Receiver + " " + message.GroupLabels.host()
	a.messages[about] = append(a.messages[about], strings.Join(alerts, ", "))
}

// received returns the alerts of each message so far, by receiver and host.
func (a *alertmanager) received() map[string][]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string][]string)
	for about, messages := range a.messages {
		all[about] = slices.Clone(messages)
	}
	return all
}

// post fires alerts that end after a duration.
func (a *alertmanager) post(ends time.Duration, alerts ...labels) {
	a.t.Helper()
	var posted []map[string]any
	for _, l := range alerts {
		posted = append(posted, map[string]any{"labels": l, "endsAt": time.Now().Add(ends)})
	}
	a.postJSON(posted)
}

// postJSON posts alerts with the fields of the API.
func (a *alertmanager) postJSON(alerts []map[string]any) {
	a.t.Helper()
	body, err := json.Marshal(alerts)
	if err != nil {
		a.t.Fatal(err)
	}
	response, err := http.Post(a.url+"/api/v2/alerts", "application/json", bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		a.t.Fatalf("posting alerts: %s", response.Status)
	}
}

// pass waits until messages that were due at the time of the call have been sent, which is
// when messages about a new host arrive.
func (a *alertmanager) pass(host string) {
	a.t.Helper()
	a.post(time.Hour, parse(host, "DockerDiskFilling critical disk path=/data"), parse(host, "DockerDanglingImagesBuildup warning images"))
	eventually(a.t, "messages about "+host, func() (any, bool) {
		received := a.received()
		return received, received["pager "+host] != nil && received["tickets "+host] != nil
	})
}

type state struct {
	Fingerprint string
	Labels      labels
	Receivers   []struct{ Name string }
	Status      struct {
		State       string
		InhibitedBy []string
	}
}

func (a *alertmanager) states() []state {
	a.t.Helper()
	response, err := http.Get(a.url + "/api/v2/alerts")
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	var states []state
	if err := json.NewDecoder(response.Body).Decode(&states); err != nil {
		a.t.Fatal(err)
	}
	return states
}

// eventually waits until holds returns true, for at most three minutes: a machine may be busy. Its other
// result is printed on failure.
func eventually(t *testing.T, what string, holds func() (any, bool)) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		seen, ok := holds()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s. Last state: %v", what, seen)
		}
	}
}
