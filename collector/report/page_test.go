package report

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// The pages load nothing else, and their policy allows only their own style and script.
func TestPagePolicy(t *testing.T) {
	links := []Link{{"./metrics", "Metrics"}}
	testPolicy(t, Page(func(*http.Request) prune.Summary { return partial() }, "1.2.3", links), "style", "script")
	page := testPolicy(t, Document("A & B", "<h1>Text</h1>", "1.2.3", links), "style")
	for _, want := range []string{"<title>A &amp; B</title>", "<h1>Text</h1>", `<a href="./metrics">Metrics</a>`, " 1.2.3<"} {
		if !strings.Contains(page, want) {
			t.Errorf("the document has no %s:\n%s", want, page)
		}
	}
}

// What no resource holds is named if no command is enough: without what is reserved, and not as files
// that are not the engine's, because its logs may be among them.
func TestRest(t *testing.T) {
	host := almostFull(at)
	host.Reclaimable = map[prune.Command]prune.Reclaimable{prune.SystemPruneAll: {Estimate: 1}}
	if page := render(t, New(host, DefaultThresholds())); strings.Contains(page, "du -xh") {
		t.Errorf("it is unknown how much is used, but the page has the rest:\n%s", page)
	}
	host.Filesystems[0].Used = model.Known[int64](96 * gb)
	page := render(t, New(host, DefaultThresholds()))
	for _, want := range []string{
		"See below who holds the rest. 63.78\u00a0GB are in none of the resources below: <code>du -xh -d3 &#34;$(stat -c %m /var/lib/docker)&#34; | sort -h | tail</code>, as root,",
		"</svg>other and unknown</th>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	host.Holders = nil // --no-web.names
	if page := render(t, New(host, DefaultThresholds())); strings.Contains(page, "See below") {
		t.Errorf("the page names no holders, but points to them:\n%s", page)
	}
}

// TestQuote checks that a path is one argument of a shell command.
func TestQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/var/lib/docker":  "/var/lib/docker",
		"/my data/docker":  "'/my data/docker'",
		"/it's/$(reboot)`": `'/it'\''s/$(reboot)` + "`'",
	} {
		if got := quote(path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
		host := almostFull(at)
		host.Reclaimable = map[prune.Command]prune.Reclaimable{prune.SystemPruneAll: {Estimate: 1}}
		host.Filesystems[0].Used, host.Filesystems[0].Path = model.Known[int64](96*gb), path
		if page := html.UnescapeString(render(t, New(host, DefaultThresholds()))); !strings.Contains(page, `du -xh -d3 "$(stat -c %m `+want+`)" | sort`) {
			t.Errorf("%s: the command on the page does not quote it", path)
		}
	}
}

// testPolicy tests the headers of a page with these inline elements, and returns the page.
func testPolicy(t *testing.T, handler http.Handler, elements ...string) string {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	page, policy := answer.Body.String(), answer.Header().Get("Content-Security-Policy")
	if !slices.Contains(elements, "script") && (strings.Contains(policy, "script-src") || strings.Contains(page, "<script")) {
		t.Errorf("a script, or a policy that allows one: %s", policy)
	}
	for _, element := range elements {
		found := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(page, -1)
		if len(found) != 1 || !strings.Contains(policy, element+"-src '"+hash(found[0][1])+"'") {
			t.Errorf("%d elements %s, policy %s", len(found), element, policy)
		}
	}
	for _, part := range []string{"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy lacks %s: %s", part, policy)
		}
	}
	for header, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := answer.Header().Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	// The policy blocks style attributes, event handlers and resources.
	for _, blocked := range []string{` style="`, ` onclick="`, `src="`, `href="http`} {
		if strings.Contains(page, blocked) {
			t.Errorf("the page has %s, which its policy blocks", blocked)
		}
	}
	return page
}

// The segments of a bar are adjacent and cover exactly what is used.
func TestBar(t *testing.T) {
	crowded := full()
	crowded.DiskUsage[model.Images] = 300 * gb // sparse files: more than is used
	tiny := full()
	tiny.Filesystems[0].Avail = tiny.Filesystems[0].Size + 1
	for name, host := range map[string]prune.Summary{"full": full(), "crowded": crowded, "tiny": tiny, "partial": partial(), "down": down(), "empty": empty()} {
		v := view{Report: New(host, DefaultThresholds())}
		for _, fs := range v.Filesystems {
			end, used := 0.0, 100*float64(max(0, fs.Size-fs.Avail))/float64(fs.Size)
			for _, part := range v.Bar(fs) {
				if part.X < 0 || part.Width < 0 || part.X+part.Width > used+1e-6 {
					t.Errorf("%s: %+v exceeds the %f %% that are used", name, part, used)
				}
				if part.Class == "freed" {
					continue
				}
				if part.X < end-1e-6 || part.X > end+1e-6 {
					t.Errorf("%s: %+v does not start at %f", name, part, end)
				}
				end = part.X + part.Width
			}
			if end < used-1e-6 {
				t.Errorf("%s: the segments end at %f %%, want %f %%", name, end, used)
			}
		}
	}
}

// The page names the threshold, and whether bytes or inodes are below it.
func TestShortage(t *testing.T) {
	for want, fs := range map[string]model.Filesystem{
		"10.0 % of its bytes are":  {Size: 100, Avail: 5, Files: model.Known[int64](100), FilesFree: model.Known[int64](15)},
		"10.0 % of its inodes are": {Size: 100, Avail: 15, Files: model.Known[int64](100), FilesFree: model.Known[int64](5)},
		"20.0 % of its inodes are": {Size: 100, Avail: 50, Files: model.Known[int64](100), FilesFree: model.Known[int64](15)},
	} {
		host := prune.Summary{Snapshot: model.Snapshot{Up: true, Filesystems: []model.Filesystem{fs}}}
		if page := render(t, New(host, DefaultThresholds())); !strings.Contains(strings.ReplaceAll(page, "\u00a0", " "), "Less than "+want) {
			t.Errorf("%+v: the page lacks %q:\n%s", fs, want, page)
		}
	}
}

// The volume of a builder that is gone cannot be pruned by its name.
func TestStateOfBuilder(t *testing.T) {
	volume := prune.Holder{Kind: prune.VolumeHolder, Builder: "ci", State: "in use"}
	if got := holderState(volume, now); got != "cache of a builder: docker buildx prune --builder ci" {
		t.Errorf("got %q", got)
	}
	volume.State, volume.Unused = "unused", 1
	if got := holderState(volume, now); got != "unused" {
		t.Errorf("got %q of a volume without a container", got)
	}
}
