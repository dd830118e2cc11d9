package docker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"docker_buildup_exporter/collector/model"
)

const (
	// maxKept bounds what is kept of one answer in bytes: strings, objectBytes for each object
	// of a list, and headerBytes for each string of a list. 100,000 images take 50 MB of it.
	maxKept     = 64 << 20
	objectBytes = 200
	headerBytes = 16

	maxText  = 1 << 20 // bytes of a string; the instruction of a build step can have some 10 kB
	maxTexts = 10000   // that are kept once
	maxChunk = 4 << 10 // of strings that are kept side by side: one keeps all of them
	maxDepth = 100     // of nested values

	// MaxSize is the largest size of one object in bytes that is believed, 1 PiB, and
	// maxSizeSum the largest sum of an answer. A sum of four answers fits an int64.
	MaxSize    = 1 << 50
	maxSizeSum = 1 << 60
)

// A decoder reads one JSON value from a stream, and keeps only what is wanted: skipped values
// are never in memory as a whole. After the first error, methods return zero values.
type decoder struct {
	in    *bufio.Reader
	raw   []byte            // the last string or literal
	texts map[string]string // the first strings, each of which is kept once
	chunk strings.Builder   // where the next strings are kept, side by side
	depth int
	kept  int
	sizes int64 // sum of the sizes
	err   *decodeError
}

// decode reads a body that consists of one value.
func decode[T any](body io.Reader, read func(*decoder) T) (T, error) {
	d := &decoder{in: bufio.NewReader(body), texts: make(map[string]string)}
	value := read(d)
	if d.peek() != 0 {
		d.fail("more after the end of the answer")
	}
	if d.err != nil {
		var none T
		return none, d.err
	}
	return value, nil
}

// decodeError is an answer that no engine gives, or that breaks off.
type decodeError struct {
	path  string // of the value, such as "[3].Size"
	cause error
}

func (e *decodeError) Error() string {
	return strings.TrimPrefix(strings.TrimPrefix(e.path+": ", "."), ": ") + e.cause.Error()
}

func (e *decodeError) Unwrap() error { return e.cause }

func (e *decodeError) Is(target error) bool { return target == errMalformed }

func (d *decoder) fail(format string, args ...any) { d.stop(fmt.Errorf(format, args...)) }

func (d *decoder) stop(cause error) {
	if d.err == nil {
		d.err = &decodeError{cause: cause}
	}
}

// keep counts bytes that are kept.
func (d *decoder) keep(n int) {
	if d.kept += n; d.kept > maxKept {
		d.fail("more than %d MiB to keep", maxKept>>20)
	}
}

// object reads an object into the destinations of its fields: name, destination, name, … .
// A field may be missing only if its name ends with "?". Other fields are skipped.
func (d *decoder) object(fields ...any) {
	var found uint64
	d.each(func(field []byte) {
		for i := 0; i < len(fields); i += 2 {
			if name := strings.TrimSuffix(fields[i].(string), "?"); name == string(field) {
				found |= 1 << i
				d.read(fields[i+1])
				if d.err != nil {
					d.err.path = "." + name + d.err.path
				}
				return
			}
		}
		d.skip()
	})
	for i := 0; i < len(fields); i += 2 {
		if name := fields[i].(string); found&(1<<i) == 0 && !strings.HasSuffix(name, "?") {
			d.fail("the field %q is missing", name)
		}
	}
}

// read reads a value into a destination, or calls a function that reads it.
func (d *decoder) read(into any) {
	switch into := into.(type) {
	case func():
		into()
	case *string:
		*into = d.text()
	case *[]string: // null is an empty list
		*into = nil
		d.arrayOrNull(func() {
			d.keep(headerBytes)
			*into = append(*into, d.text())
		})
	case *bool:
		*into = d.bool()
	case *int:
		*into = int(d.int())
	case *model.Optional[int64]:
		*into = d.size()
	case *model.Optional[time.Time]:
		*into = d.time()
	}
}

// objectOrNull is object for one that may be null.
func (d *decoder) objectOrNull(fields ...any) {
	if !d.null() {
		d.object(fields...)
	}
}

// each calls read for each field of an object. The name is valid until it reads the value.
func (d *decoder) each(read func(name []byte)) {
	d.items('{', '}', "an object", func() {
		name := d.bytes()
		d.expect(':', "a colon")
		read(name)
	})
}

// array calls read for each element of a list.
func (d *decoder) array(read func()) {
	i := 0
	d.items('[', ']', "a list", func() {
		read()
		if d.err != nil {
			d.err.path = fmt.Sprintf("[%d]%s", i, d.err.path)
		}
		i++
	})
}

// arrayOrNull is array for a list that may be null.
func (d *decoder) arrayOrNull(read func()) {
	if !d.null() {
		d.array(read)
	}
}

func listOf[T any](d *decoder, read func(*decoder) T) []T {
	list := []T{}
	d.array(func() {
		d.keep(objectBytes)
		list = append(list, read(d))
	})
	return list
}

// distinct is listOf for objects that have an ID of their own.
func distinct[T any](d *decoder, id func(T) string, read func(*decoder) T) []T {
	seen := make(map[string]bool)
	return listOf(d, func(d *decoder) T {
		object := read(d)
		d.checkID(id(object))
		if seen[id(object)] {
			d.fail("the ID is that of an earlier element: %q", id(object))
		}
		seen[id(object)] = true
		return object
	})
}

func (d *decoder) checkID(id string) {
	if id == "" {
		d.fail("the ID is empty")
	}
}

// items calls item for each item between two delimiters.
func (d *decoder) items(begin, end byte, what string, item func()) {
	d.expect(begin, what)
	if d.depth++; d.depth > maxDepth {
		d.fail("more than %d nested values", maxDepth)
	}
	for isFirst := true; d.err == nil; isFirst = false {
		if d.peek() == end {
			d.advance()
			break
		}
		if !isFirst {
			d.expect(',', "a comma")
		}
		if d.err == nil {
			item()
		}
	}
	d.depth--
}

// skip reads a value without keeping it.
func (d *decoder) skip() {
	switch d.peek() {
	case '{':
		d.items('{', '}', "an object", func() {
			d.quoted(0)
			d.expect(':', "a colon")
			d.skip()
		})
	case '[':
		d.items('[', ']', "a list", d.skip)
	case '"':
		d.quoted(0)
	default:
		d.literal()
	}
}

// peek returns the next byte that is not white space, or 0 at the end.
func (d *decoder) peek() byte {
	for d.err == nil {
		switch next, err := d.in.Peek(1); {
		case errors.Is(err, io.EOF):
			return 0
		case err != nil:
			d.stop(err)
		case bytes.IndexByte([]byte(" \t\r\n"), next[0]) < 0:
			return next[0]
		default:
			d.advance()
		}
	}
	return 0
}

func (d *decoder) advance() { _, _ = d.in.Discard(1) }

// expect reads the next byte, which must be the given one.
func (d *decoder) expect(wanted byte, what string) {
	switch next := d.peek(); {
	case d.err != nil:
	case next == wanted:
		d.advance()
	case next == 0:
		d.stop(io.ErrUnexpectedEOF)
	default:
		d.fail("%q where %s should be", next, what)
	}
}

// quoted reads a string. It returns it as it was sent, with its quotes; a limit of 0 keeps
// nothing.
func (d *decoder) quoted(limit int) []byte {
	d.expect('"', "a string")
	d.raw = append(d.raw[:0], '"')
	for isEscaped := false; d.err == nil; {
		chunk, err := d.in.ReadSlice('"')
		if limit > 0 {
			d.raw = append(d.raw, chunk...)
		}
		for _, c := range chunk {
			switch {
			case isEscaped:
				isEscaped = false
			case c == '\\':
				isEscaped = true
			case c == '"':
				return d.raw
			}
		}
		switch {
		case limit > 0 && len(d.raw) > limit:
			d.fail("a string of more than %d bytes", limit)
		case errors.Is(err, io.EOF):
			d.stop(io.ErrUnexpectedEOF)
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			d.stop(err)
		}
	}
	return nil
}

// literal reads a number, true, false or null. It returns it as it was sent.
func (d *decoder) literal() []byte {
	d.peek()
	d.raw = d.raw[:0]
	for d.err == nil && len(d.raw) < 64 {
		next, err := d.in.Peek(1)
		if err != nil || !bytes.ContainsAny(next, "+-.0123456789Eaeflnrstu") {
			break
		}
		d.raw = append(d.raw, next[0])
		d.advance()
	}
	if d.err == nil && !json.Valid(d.raw) {
		d.fail("not JSON")
	}
	return d.raw
}

// null reports whether the value is null, and reads it then.
func (d *decoder) null() bool { return d.peek() == 'n' && string(d.literal()) == "null" }

// bytes reads a string. It is valid until the next value is read. Most have no escapes.
func (d *decoder) bytes() []byte {
	raw := d.quoted(maxText)
	if d.err != nil {
		return nil
	}
	isSpecial := func(c byte) bool { return c < ' ' || c == '\\' || c >= utf8.RuneSelf }
	if text := raw[1 : len(raw)-1]; !slices.ContainsFunc(text, isSpecial) {
		return text
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		d.fail("not JSON: %w", err)
	}
	return []byte(text)
}

func (d *decoder) text() string {
	text := d.bytes()
	if known, found := d.texts[string(text)]; found {
		return known
	}
	d.keep(len(text))
	if d.chunk.Cap()-d.chunk.Len() < len(text) {
		d.chunk.Reset()
		d.chunk.Grow(max(len(text), min(d.kept, maxChunk))) // a short answer keeps little
	}
	start := d.chunk.Len()
	d.chunk.Write(text)
	kept := d.chunk.String()[start:]
	if len(d.texts) < maxTexts {
		d.texts[kept] = kept
	}
	return kept
}

func (d *decoder) bool() bool {
	text := string(d.literal())
	if text != "true" && text != "false" {
		d.fail("not true or false")
	}
	return text == "true"
}

func (d *decoder) int() int64 {
	if next := d.peek(); next != '-' && (next < '0' || next > '9') {
		d.expect('0', "a number")
		return 0
	}
	n, err := strconv.ParseInt(string(d.literal()), 10, 64)
	if err != nil {
		d.fail("%s is no integer of 64 bits", d.raw)
	}
	return n
}

// size reads a size in bytes. −1 and null are unknown.
func (d *decoder) size() (size model.Optional[int64]) {
	if d.null() {
		return size
	}
	switch n := d.int(); {
	case n == -1:
		return size
	case n < 0:
		d.fail("%d is not a size", n)
	case n > MaxSize:
		d.fail("%d bytes are more than a disk has", n)
	default:
		if d.sizes += n; d.sizes > maxSizeSum {
			d.fail("the sizes add up to more than a disk has")
		}
		size = model.Known(n)
	}
	return size
}

// time reads a time: seconds since 1970, or text. One that cannot be parsed is unknown.
func (d *decoder) time() model.Optional[time.Time] {
	if d.peek() != '"' {
		return model.Known(time.Unix(d.int(), 0))
	}
	return model.Of(time.Parse(time.RFC3339Nano, string(d.bytes())))
}
