package alerts_test

import (
	"encoding/xml"
	"errors"
	"html"
	"io"
	"regexp"
	"strings"
	"testing"

	"docker_buildup_exporter/alerts"
)

// The runbook is well-formed, has the words of README.md, each link in it leads to one of its
// headings, and no Markdown is left.
func TestRunbook(t *testing.T) {
	page := string(alerts.Runbook())
	decoder := xml.NewDecoder(strings.NewReader("<x>" + page + "</x>"))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	anchors := make(map[string]int)
	for _, id := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		anchors[id[1]]++
	}
	for _, rule := range rules(t) {
		if anchors[strings.ToLower(rule.Alert)] != 1 {
			t.Errorf("%d headings of %s", anchors[strings.ToLower(rule.Alert)], rule.Alert)
		}
	}
	for _, link := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(link[1], "#") || anchors[link[1][1:]] != 1 {
			t.Errorf("%d headings of the link %s", anchors[link[1][1:]], link[1])
		}
	}
	prose := regexp.MustCompile(`(?s)<code>.*?</code>`).ReplaceAllString(page, "")
	if left := regexp.MustCompile("(?m)`|\\*\\*|\\]\\(|^(<p>)?(#|\\||- |[0-9]+\\. ).*$").FindString(prose); left != "" {
		t.Errorf("Markdown is left: %q", left)
	}
	words := func(text string) string {
		text = regexp.MustCompile(`(?m)\]\([^)]*\)|^\|[-|: ]+\|$|^([0-9]+\.|-) `).ReplaceAllString(text, "")
		return strings.Join(regexp.MustCompile(`[^\s*#|`+"`"+`\[\]]+`).FindAllString(text, -1), "")
	}
	want := words(regexp.MustCompile("```[a-z]*").ReplaceAllString(read(t, "README.md"), ""))
	got := words(html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")))
	if got != want {
		t.Errorf("the words differ:\n%s\nwant\n%s", got, want)
	}
}
