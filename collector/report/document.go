package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
)

var (
	//go:embed document.html
	documentHTML string
	//go:embed document.css
	documentCSS string
)

// Document returns a handler that serves a text as a page that looks like the report.
func Document(title string, body template.HTML, version string, links []Link) http.Handler {
	css := pageCSS + documentCSS
	page := template.Must(template.New("document").Funcs(template.FuncMap{"css": func() template.CSS { return template.CSS(css) }}).Parse(documentHTML))
	policy := fmt.Sprintf("default-src 'none'; style-src '%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hash(css))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var text bytes.Buffer
		if err := page.Execute(&text, map[string]any{"Title": title, "Body": body, "Version": version, "Links": links}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		servePage(w, text.Bytes(), policy)
	})
}

// servePage answers a request with a page and its Content-Security-Policy.
func servePage(w http.ResponseWriter, page []byte, policy string) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(page)))
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	w.Write(page)
}
