package faults

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// secret must not appear in a log or on a page.
const secret = "hunter2"

// says answers with a text and status 200.
func says(text string) answer { return status(http.StatusOK, text) }

// status answers with an HTTP status, a text, and headers like "Location: /".
func status(code int, text string, headers ...string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for _, header := range headers {
			name, value, _ := strings.Cut(header, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(code)
		io.WriteString(w, text)
	}
}

// refuses answers with an error as the engine formats it.
func refuses(code int, message string) answer {
	text, _ := json.Marshal(map[string]string{"message": message})
	return status(code, string(text), "Content-Type: application/json")
}

// hangs never answers.
func hangs(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }

// resets closes the connection.
func resets(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// halts answers half of what is right, and does something else then.
func halts(then answer) answer {
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		body := record(right, r).Body.Bytes()
		w.Write(body[:len(body)/2])
		w.(http.Flusher).Flush()
		then(w, r, right)
	}
}

// drips answers a byte each second, for ever.
func drips(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	for r.Context().Err() == nil {
		io.WriteString(w, " ")
		w.(http.Flusher).Flush()
		time.Sleep(time.Second)
	}
}

// floods answers with a text and then another one for ever, 20 kB in a tenth of a second.
func floods(first, more string) answer {
	chunk := []byte(strings.Repeat(more, 1+20_000/len(more)))
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, err := io.WriteString(w, first)
		for err == nil && r.Context().Err() == nil {
			_, err = w.Write(chunk)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// late answers what is right after some time.
func late(d time.Duration) answer {
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		select {
		case <-time.After(d):
			right.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}

// raw writes bytes to the connection, which need not be HTTP, and closes it.
func raw(text string) answer {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.SetWriteDeadline(time.Now().Add(time.Minute))
			io.WriteString(conn, text)
			conn.Close()
		}
	}
}

// changed answers what a function makes of the right answer.
func changed(change func([]byte) []byte, headers ...string) answer {
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		status(http.StatusOK, string(change(record(right, r).Body.Bytes())), headers...)(w, r, right)
	}
}

// edits answers with each match of an expression replaced.
func edits(expression, replacement string) answer {
	pattern := regexp.MustCompile(expression)
	return changed(func(body []byte) []byte { return pattern.ReplaceAll(body, []byte(replacement)) })
}

// editsFirst is edits for the first match only.
func editsFirst(expression, replacement string) answer {
	pattern := regexp.MustCompile(expression)
	return changed(func(body []byte) []byte {
		at := pattern.FindIndex(body)
		if at == nil {
			return body
		}
		return bytes.Join([][]byte{body[:at[0]], []byte(replacement), body[at[1]:]}, nil)
	})
}

// ends answers with something after what is right.
func ends(text string) answer {
	return changed(func(body []byte) []byte { return append(body, text...) })
}

// turns answers with the records of each list of the right answer in another order or number.
func turns(turn func([]any) []any) answer {
	return changed(func(body []byte) []byte {
		var value any
		json.Unmarshal(body, &value)
		switch v := value.(type) {
		case []any:
			value = turn(v)
		case map[string]any:
			for key, field := range v {
				if list, isList := field.([]any); isList {
					v[key] = turn(list)
				}
			}
		}
		body, _ = json.Marshal(value)
		return body
	})
}

// adds answers with one more field in the answer and in each of its records.
func adds(field string, value any) answer {
	add := func(record any) {
		if object, isObject := record.(map[string]any); isObject {
			object[field] = value
		}
	}
	return changed(func(body []byte) []byte {
		var answer any
		json.Unmarshal(body, &answer)
		records, _ := answer.([]any)
		if object, isObject := answer.(map[string]any); isObject {
			for _, list := range object {
				more, _ := list.([]any)
				records = append(records, more...)
			}
		}
		for _, record := range append(records, answer) {
			add(record)
		}
		body, _ = json.Marshal(answer)
		return body
	})
}

func zipped(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(body)
	w.Close()
	return b.Bytes()
}

// lengthOff answers what is right with a Content-Length that differs from it.
func lengthOff(by int) answer {
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		body := record(right, r).Body.String()
		raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: %d\r\n\r\n%s", len(body)+by, body))(w, r, right)
	}
}

// swaps answers with the right answer of another endpoint: {id} is the object of the row, and
// {other} another one.
func swaps(endpoint string) answer {
	image, container, otherImage, otherContainer := objectsOf()
	if strings.HasPrefix(endpoint, "/images/") {
		endpoint = strings.NewReplacer("{id}", image, "{other}", otherImage).Replace(endpoint)
	} else {
		endpoint = strings.NewReplacer("{id}", container, "{other}", otherContainer).Replace(endpoint)
	}
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		other := r.Clone(r.Context())
		other.URL.Path = endpoint
		right.ServeHTTP(w, other)
	}
}

// alternates answers wrong and right in turn.
func alternates(wrong answer) answer {
	isWrong := false
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		if isWrong = !isWrong; isWrong {
			wrong(w, r, right)
		} else {
			right.ServeHTTP(w, r)
		}
	}
}

// counting answers with a number that grows in place of an expression.
func counting(expression, format string) answer {
	n := 1000
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		n++
		edits(expression, fmt.Sprintf(format, n))(w, r, right)
	}
}

// lasts streams what is right, for some time.
func lasts(d time.Duration) answer {
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		right.ServeHTTP(w, r.WithContext(ctx))
	}
}

// differs answers with a text that contains a number that grows.
func differs(code int, format string) answer {
	n := 0
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		n++
		status(code, fmt.Sprintf(format, n))(w, r, right)
	}
}

type (
	writer  = http.ResponseWriter
	request = http.Request
	handler = http.Handler
)
