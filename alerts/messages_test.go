package alerts_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v2"
)

// TestMessages compares what Slack, a mail server, PagerDuty and Telegram get from a real
// Alertmanager with testdata/messages.txt. The alerts are those of the rules' unit tests.
func TestMessages(t *testing.T) {
	t.Parallel()
	s := &sink{t: t, messages: make(map[string][]string)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	directory, err := filepath.Abs("templates")
	if err != nil {
		t.Fatal(err)
	}
	a := &alertmanager{t: t}
	a.start(configuration(t, "group_wait: 30s", "group_wait: 1s", "group_wait: 2m", "group_wait: 1s", "group_interval: 1h", "group_interval: 1s",
		"templates/*.tmpl", directory+"/*.tmpl", "https://pagerduty.example", server.URL+"/pagerduty", "https://telegram.example", server.URL+"/telegram",
		"https://slack.example", server.URL+"/slack", "mail.example:587", s.listenSMTP(), "require_tls: true", "require_tls: false"))
	posted := []map[string]any{
		expected(t, "tests/minutes.yml", "DockerDiskFilling", "critical"),
		expected(t, "tests/minutes.yml", "DockerDiskAlmostFull", "critical"),
		expected(t, "tests/days.yml", "DockerDanglingImagesBuildup", "warning"),
		expected(t, "tests/days.yml", "DockerUnusedImagesBuildup", "warning"),
		expected(t, "tests/minutes.yml", "DockerExporterAbsent", "warning"),
	}
	posted[0]["annotations"].(map[string]string)["dashboard_url"] = "https://grafana.example/d/docker-buildup-host?var-job=docker&var-instance=one:10058"
	starts := time.Now() // the Alertmanager waits for the other alerts of a group only after a recent one
	for count, ends := range []time.Duration{time.Hour, 0} {
		for _, alert := range posted {
			alert["startsAt"], alert["endsAt"] = starts, time.Now().Add(ends)
		}
		a.postJSON(posted)
		want := map[string]int{"pagerduty": count + 1, "telegram": count + 1, "slack": 2 * (count + 1), "mail": 2 * (count + 1)}
		eventually(t, fmt.Sprint(want), func() (any, bool) {
			got := s.count()
			return got, maps.Equal(got, want)
		})
	}
	got := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d UTC`).ReplaceAllString(s.String(), "2026-01-02 03:04 UTC")
	const golden = "testdata/messages.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, golden); got != want {
		t.Errorf("the messages differ from %s (-update writes it):\n%s", golden, got)
	}
}

// expected returns the first alert of a name and severity that a unit test of the rules expects.
func expected(t *testing.T, path, name, severity string) map[string]any {
	t.Helper()
	var file testFile
	if err := yaml.Unmarshal([]byte(read(t, path)), &file); err != nil {
		t.Fatal(err)
	}
	for _, test := range file.Tests {
		for _, check := range test.AlertRuleTests {
			for _, alert := range check.Expected {
				if check.AlertName == name && alert.Labels["severity"] == severity {
					alert.Labels["alertname"] = name
					return map[string]any{"labels": alert.Labels, "annotations": alert.Annotations}
				}
			}
		}
	}
	t.Fatalf("%s expects no %s", path, name)
	return nil
}

// A sink is Slack, a mail server, PagerDuty and Telegram.
type sink struct {
	t        *testing.T
	mu       sync.Mutex
	messages map[string][]string // by kind
}

func (s *sink) add(kind, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages[kind] = append(s.messages[kind], text)
}

func (s *sink) count() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := make(map[string]int)
	for kind, messages := range s.messages {
		count[kind] = len(messages)
	}
	return count
}

// String returns all messages, sorted.
func (s *sink) String() string {
	var out strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(s.messages)) {
		for _, message := range slices.Sorted(slices.Values(s.messages[kind])) {
			fmt.Fprintf(&out, "======== %s\n%s\n", kind, strings.TrimRight(message, "\n"))
		}
	}
	return out.String()
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, _, _ := strings.Cut(r.URL.Path[1:], "/")
	var body any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		s.t.Error(err)
	}
	s.add(kind, "POST "+r.URL.Path+"\n"+flat("", body))
	if kind == "pagerduty" {
		w.WriteHeader(http.StatusAccepted)
	}
	io.WriteString(w, `{"ok": true, "result": {"message_id": 1, "chat": {"id": 1}}}`)
}

// flat returns the fields of a JSON value that are not empty, each with its path.
func flat(path string, value any) string {
	var out strings.Builder
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out.WriteString(flat(path+"."+key, v[key]))
		}
	case []any:
		for _, element := range v {
			out.WriteString(flat(path, element))
		}
	case nil:
	default:
		if text := fmt.Sprint(v); text != "" {
			fmt.Fprintf(&out, "%s: %s\n", path, text)
		}
	}
	return out.String()
}

// listenSMTP returns the address of a mail server.
func (s *sink) listenSMTP() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serveSMTP(textproto.NewConn(connection))
		}
	}()
	return listener.Addr().String()
}

func (s *sink) serveSMTP(c *textproto.Conn) {
	defer c.Close()
	c.PrintfLine("220 mail.example")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(line), " "); verb {
		case "DATA":
			c.PrintfLine("354 go on")
			body, err := c.ReadDotBytes()
			if err != nil {
				s.t.Error(err)
			}
			s.add("mail", s.readMail(body))
			c.PrintfLine("250 OK")
		case "QUIT":
			c.PrintfLine("221 bye")
			return
		default:
			c.PrintfLine("250 OK")
		}
	}
}

// readMail returns the headers that the configuration sets, and each part.
func (s *sink) readMail(body []byte) string {
	message, err := mail.ReadMessage(bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return ""
	}
	var out strings.Builder
	for _, name := range []string{"From", "To", "Subject"} {
		header, err := new(mime.WordDecoder).DecodeHeader(message.Header.Get(name))
		if err != nil {
			s.t.Error(err)
		}
		fmt.Fprintf(&out, "%s: %s\n", name, header)
	}
	_, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil {
		s.t.Error(err)
	}
	parts := multipart.NewReader(message.Body, parameters["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err != nil {
			return out.String()
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			s.t.Error(err)
		}
		fmt.Fprintf(&out, "%s\n\n%s\n", part.Header.Get("Content-Type"), strings.ReplaceAll(string(text), "\r\n", "\n"))
	}
}
