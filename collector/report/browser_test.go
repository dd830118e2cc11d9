package report

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/prune"
)

// The page fits narrow and wide windows of a real browser, has enough contrast in the
// light and the dark theme, and its policy allows its script and style.
// "go test -artifacts" keeps the screenshots.
func TestPageInBrowser(t *testing.T) {
	dockertest.SkipUnlessReal(t)
	b := &browser{t, dockertest.Need(t, "chromium")}
	mux := http.NewServeMux()
	for name, host := range hosts() {
		page := Page(func(*http.Request) prune.Summary { return host }, "1.2.3", []Link{{"./metrics", "Metrics"}})
		mux.Handle("/"+name, page)
		// The same page without its policy, which forbids frames.
		mux.HandleFunc("/framed/"+name, func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			page.ServeHTTP(answer, r)
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Write(answer.Body.Bytes())
		})
	}
	mux.HandleFunc("/measure", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, measuring()) })
	mux.HandleFunc("/refused", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "style-src '"+hash("another")+"'")
		fmt.Fprint(w, "<style>p { color: red }</style><p>text")
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	const violation = "Content Security Policy"
	if _, log := b.run(server.URL+"/refused", "--dump-dom"); !strings.Contains(log, violation) {
		t.Errorf("the log of the browser lacks the violation: %s", log)
	}
	dom, log := b.run(server.URL+"/full", "--dump-dom")
	if n := strings.Count(dom, "<button"); n != 13 || strings.Contains(log, violation) {
		t.Errorf("%d buttons, log of the browser: %s", n, log)
	}

	for theme, expected := range map[string]struct {
		flags  []string
		images color.RGBA
	}{
		"light": {nil, color.RGBA{0x00, 0x72, 0xb2, 0xff}},
		"dark":  {[]string{"--force-dark-mode"}, color.RGBA{0x56, 0xb4, 0xe9, 0xff}},
	} {
		// 8 s of a virtual clock: after 10, the pages would refresh themselves, all at once.
		dom, _ := b.run(server.URL+"/measure", append(expected.flags, "--dump-dom", "--virtual-time-budget=8000")...)
		for _, m := range measured(t, dom) {
			if m.Theme != theme || m.Overflow > 0 || m.Text < 200 || len(m.Faint) > 0 || len(m.Unnamed) > 0 || m.Buttons > 0 && !strings.Contains(m.Said, "docker container prune") && !strings.Contains(m.Said, "The command is selected") {
				t.Errorf("%s, %s", theme, m)
			}
		}
		for _, width := range []int{500, 1280} {
			file := filepath.Join(t.ArtifactDir(), fmt.Sprintf("%s-%d.png", theme, width))
			b.run(server.URL+"/almost-full", append(expected.flags, "--screenshot="+file, fmt.Sprintf("--window-size=%d,1600", width))...)
			if !hasColor(t, file, expected.images) {
				t.Errorf("%s, %d px: the screenshot lacks the bar of images", theme, width)
			}
		}
	}
}

// The README shows the page of a host whose disk is almost full. "-update" makes the image.
func TestReadmeImage(t *testing.T) {
	const file, limit = "../../.github/page.png", 150_000
	if *update {
		dockertest.SkipUnlessReal(t)
		host := almostFull(time.Now())
		server := httptest.NewServer(Page(func(*http.Request) prune.Summary { return host }, "1.2.3", nil))
		defer server.Close()
		b := &browser{t, dockertest.Need(t, "chromium")}
		b.run(server.URL, "--screenshot="+file, "--window-size=1100,660")
	}
	if info, err := os.Stat(file); err != nil || info.Size() > limit {
		t.Errorf("the image has more than %d bytes: %v (%v)", limit, info, err)
	}
}

// The accessibility checks of axe-core find nothing. .ci/test-axe runs this.
func TestAxe(t *testing.T) {
	path := os.Getenv("DOCKER_BUILDUP_AXE")
	if path == "" {
		t.Skip("needs axe-core")
	}
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t, dockertest.Need(t, "chromium")}
	for name, host := range hosts() {
		host.At = time.Now() // so that the page does not refresh itself
		page := Page(func(*http.Request) prune.Summary { return host }, "1.2.3", []Link{{"./metrics", "Metrics"}})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			page.ServeHTTP(answer, r)
			body := strings.Replace(answer.Body.String(), "</body>", `<script>`+string(script)+`</script><script>
const shifts = [];
new PerformanceObserver(list => list.getEntries().forEach(e => shifts.push(e.value))).observe({ type: "layout-shift", buffered: true });
axe.run().then(result => {
  const found = result.violations.map(v => v.id + ": " + v.nodes.map(n => n.html).join(" "));
  const pre = document.createElement("pre");
  pre.id = "results";
  document.body.append(pre);
  pre.textContent = "passed " + result.passes.length + ", found " + JSON.stringify(found) + ", shifts " + JSON.stringify(shifts);
});</script></body>`, 1) // without the policy, which forbids the script
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, body)
		}))
		for _, flags := range [][]string{nil, {"--force-dark-mode"}, {"--window-size=320,800"}} {
			dom, _ := b.run(server.URL, append(flags, "--dump-dom", "--virtual-time-budget=8000")...)
			result := regexp.MustCompile(`<pre id="results">(.*?)</pre>`).FindStringSubmatch(dom)
			if result == nil || !regexp.MustCompile(`^passed [1-9]\d+, found \[\], shifts \[\]$`).MatchString(html.UnescapeString(result[1])) {
				t.Errorf("%s %v: %q", name, flags, result)
			}
		}
		server.Close()
	}
}

// widths returns the tested widths of windows in px: common ones, and those around which
// the layout changes.
func widths() []int { return []int{320, 360, 511, 512, 1055, 1056, 1280, 1920} }

type browser struct {
	t    *testing.T
	path string
}

// run opens a page in the browser and returns the output of the browser. With a virtual clock, the browser
// hangs now and then on a busy machine, with any page: it has three attempts to end.
func (b *browser) run(url string, flags ...string) (stdout, stderr string) {
	b.t.Helper()
	for attempt := 1; ; attempt++ {
		ctx, cancel := context.WithTimeout(b.t.Context(), 90*time.Second)
		command := exec.CommandContext(ctx, b.path, append([]string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + b.t.TempDir(),
		}, append(flags, url)...)...)
		command.SysProcAttr = dockertest.Child()
		var out, log strings.Builder
		command.Stdout, command.Stderr = &out, &log
		err := command.Run()
		hangs := ctx.Err() != nil
		cancel()
		switch {
		case err == nil:
			return out.String(), log.String()
		case !hangs || attempt == 3:
			b.t.Fatalf("%v: %v, after %d attempts\n%s", command, err, attempt, log.String())
		}
	}
}

// measuring returns a page that shows the tested pages in frames of several widths, and
// writes its measurements as JSON into an element.
func measuring() string {
	var frames strings.Builder
	for name := range hosts() {
		for _, width := range widths() {
			fmt.Fprintf(&frames, `<iframe src="/framed/%s" title="%s" width="%d" height="600"></iframe>`, name, name, width)
		}
	}
	return `<!DOCTYPE html><meta name="color-scheme" content="light dark">` + frames.String() + `<pre id="results"></pre><script>
const rgb = color => color.match(/[\d.]+/g).map(Number);
const luminance = color => {
  const [r, g, b] = rgb(color).slice(0, 3).map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
};
onload = async () => {
  const results = [];
  for (const frame of document.querySelectorAll("iframe")) {
    const doc = frame.contentDocument, view = frame.contentWindow;
    const style = element => view.getComputedStyle(element);
    const ground = element => {
      for (let e = element; e; e = e.parentElement) {
        const color = style(e).backgroundColor;
        if (rgb(color)[3] !== 0) return color;
      }
      return "rgb(255, 255, 255)";
    };
    const faint = [];
    for (const element of doc.body.querySelectorAll("*")) {
      const hasText = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
      if (hasText && element.localName !== "script" && contrast(style(element).color, ground(element)) < 4.5) faint.push(element.textContent);
      if (element.localName === "rect" && /^(images|containers|volumes|build_cache|rest)$/.test(element.getAttribute("class")) &&
        contrast(style(element).fill, ground(doc.body)) < 3) faint.push(element.getAttribute("class"));
    }
    const unnamed = [...doc.querySelectorAll("button:not([aria-label]), svg:not([aria-label]):not([aria-hidden]), section:not([aria-labelledby]), a:empty, th:not([scope])")].map(e => e.outerHTML);
    if (doc.querySelectorAll("h1, main").length !== 2 || !doc.documentElement.lang || !doc.title) unnamed.push("the page");
    const buttons = doc.querySelectorAll("button");
    if (buttons.length) buttons[0].click();
    results.push({
      Host: frame.title, Width: frame.clientWidth, Overflow: Math.max(doc.documentElement.scrollWidth - doc.documentElement.clientWidth,
        ...[...doc.querySelectorAll("code.command")].map(e => e.scrollWidth - e.clientWidth)),
      Text: doc.body.innerText.length, Theme: view.matchMedia("(prefers-color-scheme: dark)").matches && luminance(ground(doc.body)) < 0.1 ? "dark" : "light",
      Faint: faint, Unnamed: unnamed, Buttons: buttons.length, said: doc.getElementById("said"),
    });
  }
  await new Promise(done => setTimeout(done, 1000));
  for (const result of results) result.Said = result.said?.textContent, delete result.said;
  document.getElementById("results").textContent = JSON.stringify(results);
};
</script>`
}

// measurement is how a browser renders the page of a host.
type measurement struct {
	Host     string
	Width    int
	Overflow int // px by which an element is wider than its window
	Text     int // visible characters
	Theme    string
	Faint    []string // elements with too little contrast
	Unnamed  []string // elements without a name for screen readers
	Buttons  int
	Said     string // status text after a click on the first button
}

func (m measurement) String() string {
	return fmt.Sprintf("host %s, %d px: %d px too wide, %d characters, %s theme, faint %q, unnamed %q, %d buttons, said %q",
		m.Host, m.Width, m.Overflow, m.Text, m.Theme, m.Faint, m.Unnamed, m.Buttons, m.Said)
}

func measured(t *testing.T, dom string) (measurements []measurement) {
	t.Helper()
	found := regexp.MustCompile(`<pre id="results">(.+?)</pre>`).FindStringSubmatch(dom)
	if found == nil {
		t.Fatalf("the page has no measurements:\n%s", dom)
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(found[1])), &measurements); err != nil {
		t.Fatal(err)
	}
	if want := len(widths()) * len(hosts()); len(measurements) != want {
		t.Fatalf("%d measurements, want %d", len(measurements), want)
	}
	return measurements
}

// hasColor reports whether a screenshot has more than 500 pixels of a color.
func hasColor(t *testing.T, file string, want color.RGBA) bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	screenshot, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for y := screenshot.Bounds().Min.Y; y < screenshot.Bounds().Max.Y; y++ {
		for x := screenshot.Bounds().Min.X; x < screenshot.Bounds().Max.X; x++ {
			if color.RGBAModel.Convert(screenshot.At(x, y)) == want {
				n++
			}
		}
	}
	return n > 500
}
