package model

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestLine checks that a text of any origin becomes one short line without passwords.
func TestLine(t *testing.T) {
	long := strings.Repeat("ä", 299)
	tests := []struct{ name, text, want string }{
		{"empty", "", ""},
		{"a line", `dial "unix:///run/docker.sock": refused`, `dial "unix:///run/docker.sock": refused`},
		{"lines", "\r\na\n\n\tb \v c\n", "a b c"},
		{"controls", "a\x1b[31mb\x00c\u202ed\u2028e", "a [31mb c d e"},
		{"not UTF-8", "a\xff\xfeb", "a b"},
		{"300 characters", long + "b", long + "b"},
		{"301 characters", long + "bc", long + "…"},
		{"a password", "parse tcp://user:secret@host:2375: bad", "parse tcp://host:2375: bad"},
		{"a user", "ssh://me@host", "ssh://host"},
		{"a password with @", "tcp://me:s@cret@host/x", "tcp://host/x"},
		{"a password with a slash", "tcp://me:s/cr/et@host", "tcp://host"},
		{"a password with digits and a slash", "tcp://me:12/x@host", "tcp://host"},
		{"a password with quotes", `"tcp://me:s\"cr'et@host"`, `"tcp://host"`},
		{"two passwords", "http://a:b@c and https://d:e@f", "http://c and https://f"},
		{"a password after line 1", "x\nhttp://a:b@c", "x http://c"},
		{"a password beyond the end", strings.Repeat("x", 290) + " http://ab:secret@c", strings.Repeat("x", 290) + " http://c"},
		{"a digest", "https://registry/v2/app@sha256:1", "https://registry/v2/app@sha256:1"},
		{"a password and a digest", "https://me:s@registry/v2/app@sha256:1", "https://registry/v2/app@sha256:1"},
		{"a digest, a port", "https://registry:5000/v2/app@sha256:1", "https://registry:5000/v2/app@sha256:1"},
		{"an address", "mail me@example.org", "mail me@example.org"},
	}
	for _, test := range tests {
		if got := Line(test.text); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// FuzzLine checks that any text becomes one line of at most 300 characters, without what was
// between "://" and "@", and that a line stays as it is.
func FuzzLine(f *testing.F) {
	f.Add("a\nb", "user:password")
	f.Add("\xff", "a")
	f.Fuzz(func(t *testing.T, text, password string) {
		line := Line(text + " tcp://u:p" + password + "@h")
		if utf8.RuneCountInString(line) > maxLine || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("got %q", line)
		}
		if again := Line(line); again != line {
			t.Errorf("got %q, and again %q", line, again)
		}
		if secret := "secret" + password; strings.Contains(Line("tcp://u:"+secret+"@h"), "secret") && !strings.ContainsFunc(secret, isSpace) {
			t.Errorf("the password is in %q", Line("tcp://u:"+secret+"@h"))
		}
	})
}

// isSpace reports whether a character is a space in a Line.
func isSpace(r rune) bool { return r == utf8.RuneError || r == ' ' || !unicode.IsPrint(r) }
