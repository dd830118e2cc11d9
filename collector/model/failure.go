package model

import (
	"errors"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Failure is an error of a request, as the log reports it.
type Failure struct {
	Endpoint string // of the Engine API, which a socket proxy has to allow; empty if none was requested
	Kind     string // of the cause: two failures of one kind are one problem, whatever their reasons say
	Reason   string // what happened
	Hint     string // what to do about it
	Err      error

	// NoAccess says that the process cannot read what it may do without: a collector that never
	// could is left out, and has not failed.
	NoAccess bool
}

// AsFailure returns the Failure that an error is or wraps, or makes one of its text.
func AsFailure(err error) *Failure {
	if failure := new(Failure); errors.As(err, &failure) {
		return failure
	}
	return &Failure{Reason: err.Error(), Err: err}
}

func (f *Failure) Error() string { return f.Reason }
func (f *Failure) Unwrap() error { return f.Err }

// maxLine bounds the length of a Line in characters.
const maxLine = 300

// credentials are the user and password of a URL. A password may contain "/" and "@".
var credentials = regexp.MustCompile(`://\S*@`)

// Line returns a text of any origin as one line for a log: printable, without the user and
// password of a URL, and of at most 300 characters.
func Line(text string) string {
	printable := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	const digest, placeholder = "@sha256:", "\x00" // the digest of an image is no host
	line := strings.ReplaceAll(strings.Join(strings.Fields(printable), " "), digest, placeholder)
	line = strings.ReplaceAll(credentials.ReplaceAllString(line, "://"), placeholder, digest)
	if utf8.RuneCountInString(line) <= maxLine {
		return line
	}
	return string([]rune(line)[:maxLine-1]) + "…"
}
