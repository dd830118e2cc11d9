package alerts

import (
	_ "embed"
	"html"
	"html/template"
	"regexp"
	"strings"
)

//go:embed README.md
var readme string

// Runbook returns README.md, which explains each alert, as HTML. The anchor of a heading is
// its text in lower case, with "-" for spaces. Links to other files of the repository are
// plain text.
func Runbook() template.HTML { return template.HTML(markdown(readme)) }

// markdown renders what README.md uses of Markdown: blocks with empty lines between them.
func markdown(text string) string {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		first, rest, _ := strings.Cut(lines[0], " ")
		switch {
		case strings.HasPrefix(first, "```"):
			out.WriteString("<pre><code>" + html.EscapeString(strings.Join(lines[1:len(lines)-1], "\n")) + "</code></pre>\n")
		case first == "#" || first == "##":
			level := map[string]string{"#": "h1", "##": "h2"}[first]
			out.WriteString("<" + level + ` id="` + anchor(rest) + `">` + inline(rest) + "</" + level + ">\n")
		case first == "|":
			out.WriteString("<table>\n<thead>" + row(lines[0], "th") + "</thead>\n<tbody>")
			for _, line := range lines[2:] {
				out.WriteString(row(line, "td"))
			}
			out.WriteString("</tbody>\n</table>\n")
		case first == "-" || first == "1.":
			list := map[string]string{"-": "ul", "1.": "ol"}[first]
			out.WriteString("<" + list + ">\n")
			for _, line := range lines {
				_, item, _ := strings.Cut(line, " ")
				out.WriteString("<li>" + inline(item) + "</li>\n")
			}
			out.WriteString("</" + list + ">\n")
		default:
			out.WriteString("<p>" + inline(strings.Join(lines, " ")) + "</p>\n")
		}
	}
	return out.String()
}

// row renders a row of a table. Its cells contain no "|".
func row(line, element string) string {
	var out strings.Builder
	for cell := range strings.SplitSeq(strings.Trim(line, "| "), "|") {
		out.WriteString("<" + element + ">" + inline(strings.TrimSpace(cell)) + "</" + element + ">")
	}
	return "<tr>" + out.String() + "</tr>\n"
}

// inline renders code, bold text and links.
func inline(text string) string {
	span := regexp.MustCompile("`([^`]+)`" + `|\*\*([^*]+)\*\*|\[([^]]+)\]\(([^)]+)\)`)
	var out strings.Builder
	end := 0
	for _, at := range span.FindAllStringSubmatchIndex(text, -1) {
		out.WriteString(html.EscapeString(text[end:at[0]]))
		group := func(i int) string { return text[at[2*i]:at[2*i+1]] }
		switch {
		case at[2] >= 0:
			out.WriteString("<code>" + html.EscapeString(group(1)) + "</code>")
		case at[4] >= 0:
			out.WriteString("<strong>" + inline(group(2)) + "</strong>")
		case strings.HasPrefix(group(4), "#"):
			out.WriteString(`<a href="` + html.EscapeString(group(4)) + `">` + inline(group(3)) + "</a>")
		default:
			out.WriteString(inline(group(3)))
		}
		end = at[1]
	}
	return out.String() + html.EscapeString(text[end:])
}

// anchor returns the anchor of a heading as code hosts build it.
func anchor(heading string) string {
	return strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}
