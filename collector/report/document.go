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
	policy := fmt.Sprintf("style-src '%s'", hash(css))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		servePage(w, page, map[string]any{"Title": title, "Body": body, "Version": version, "Links": links}, policy)
	})
}

// servePage answers a request with a page. policy is what its Content-Security-Policy allows.
func servePage(w http.ResponseWriter, page *template.Template, data any, policy string) {
	var body bytes.Buffer
	if err := page.Execute(&body, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	header.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "+policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	w.Write(body.Bytes())
}
