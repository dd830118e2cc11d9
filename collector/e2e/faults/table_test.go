package faults

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing/synctest"
	"time"
)

// table returns all faults: each wrong answer at each endpoint to which it applies, and those
// that stand alone.
func table() []fault {
	var rows []fault
	for _, e := range endpoints {
		for _, w := range wrongAnswers {
			if !w.applies(e) {
				continue
			}
			row := fault{at: e.path, what: w.what, do: w.do, isCold: e.isCold}
			if !w.isRight {
				row.fails, row.log = e.fails, e.operation
				if e.body != "" {
					row.log += ": " + w.reason
				}
			}
			rows = append(rows, row)
		}
	}
	return slices.Concat(rows, fromTheStart(), values, objects, streams, lives)
}

// An endpoint is one of the requests of the exporter.
type endpoint struct {
	path      string
	operation string // as it is logged
	fails     string
	body      string // "list", "object"; "": it is not read
	isCold    bool   // requested only of objects that are not yet known
}

var endpoints = []endpoint{
	{"/_ping", "reach the engine", "up", "", false},
	{"/info", "get engine info", "info", "object", false},
	{"/images/json", "list images", "images", "list", false},
	{"/containers/json", "list containers", "containers", "list", false},
	{"/volumes", "list volumes", "volumes", "object", false},
	{"/system/df?type=volume", "measure volumes", "volumes", "object", false},
	{"/system/df?type=build-cache", "list the build cache", "build_cache", "object", false},
	{"/images/{id}/json", "inspect images", "layers", "object", true},
	{"/images/{id}/history", "inspect images", "layers", "list", true},
	{"/containers/{id}/json", "inspect containers", "containers", "object", true},
	{"/containers/{id}/json?size=1", "measure containers", "container_sizes", "object", true},
}

// A wrongAnswer is what any endpoint may answer.
type wrongAnswer struct {
	what    string
	to      string // "all", "bodies", "bodies but history" (which may be null), or those of a list or an object
	do      answer
	reason  string // in the log
	isRight bool   // the figures are right nevertheless
}

func (w wrongAnswer) applies(e endpoint) bool {
	return w.to == "all" || w.to == "bodies but history" && e.body != "" && !strings.HasSuffix(e.path, "/history") || w.to == "bodies" && e.body != "" || w.to == e.body
}

const (
	undecodable = "cannot be decoded"
	inTime      = "no answer in time"
	html        = "<!DOCTYPE html>\n<html><body><h1>Sign in</h1></body></html>\n"
)

var wrongAnswers = []wrongAnswer{
	// The connection.
	{"hangs", "all", hangs, inTime, false},
	{"hangs in the body", "bodies", halts(hangs), inTime, false},
	{"a byte each second, for ever", "bodies", drips, inTime, false},
	{"closes the connection", "all", resets, "EOF", false},
	{"closes the connection in the body", "bodies", halts(resets), "unexpected EOF", false},
	{"a Content-Length that is too large", "bodies", lengthOff(1000), "unexpected EOF", false},
	{"a Content-Length that is too small", "bodies", lengthOff(-10), "unexpected EOF", false},
	{"SSH", "all", raw("SSH-2.0-OpenSSH_9.2\r\n"), "", false},
	{"a TLS alert", "all", raw("\x15\x03\x01\x00\x02\x02\x28"), "", false},
	{"half a header", "all", raw("HTTP/1.1 200 OK\r\nApi-Ver"), "", false},
	{"an endless header", "list", raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20<<20)), "header", false},
	{"no such HTTP version", "all", raw("HTTP/7 200 OK\r\n\r\n"), "", false},
	{"a chunk that is none", "bodies", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "chunk", false},
	{"twice the Content-Length", "all", raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]"), "Content-Length", false},
	{"late by 4 s", "all", late(4 * time.Second), "", true},

	// The status.
	{"204", "bodies", status(204, ""), "", false},
	{"301 to another path", "all", status(301, "", "Location: /login"), "", false},
	{"302 to itself", "all", status(302, "", "Location: ."), "", false},
	{"302 to another host", "all", status(302, "", "Location: http://other/"), "", false},
	{"304", "all", status(304, ""), "", false},
	{"400", "all", refuses(400, "bad request"), "bad request", false},
	{"401", "all", status(401, "Unauthorized"), "", false},
	{"403", "all", status(403, "Forbidden by policy"), "Forbidden by policy", false},
	{"404 with a text", "all", status(404, "404 page not found"), "", false},
	{"404 as an engine formats it", "all", refuses(404, "page not found"), "", false},
	{"405", "all", status(405, "Method Not Allowed"), "Method Not Allowed", false},
	{"407", "all", status(407, "Proxy Authentication Required"), "Proxy", false},
	{"409", "all", refuses(409, "conflict"), "conflict", false},
	{"429", "all", status(429, "Too Many Requests"), "Too Many", false},
	{"500", "all", refuses(500, "layer does not exist"), "layer does not exist", false},
	{"500 without a text", "all", status(500, ""), "", false},
	{"501", "all", status(501, "Not Implemented"), "Not Implemented", false},
	{"502 of a proxy", "all", status(502, html), "", false},
	{"503", "all", refuses(503, "shutting down"), "shutting down", false},
	{"504", "all", status(504, "Gateway Timeout"), "Gateway Timeout", false},
	{"999", "all", status(999, ""), "", false},
	{"500 with a megabyte of HTML", "all", status(500, strings.Repeat(html, 1<<14)), "", false},
	{"500 with an endless text", "all", floods("", "no "), "", false},
	{"500 with a text that differs each time", "all", differs(500, "request %d failed"), "", false},
	{"500 with a password", "all", refuses(500, "Get https://admin:"+secret+"@registry.example/v2/: denied"), "denied", false},
	{"500 with control characters", "all", refuses(500, "\x1b[31mred\x00\r\n\tand more"), "red", false},
	{"500 with invalid UTF-8", "all", status(500, "caf\xe9 closed"), "closed", false},
	{"500 with JSON that is none", "all", status(500, `{"message":`, "Content-Type: application/json"), "", false},
	{"500 with another type of message", "all", status(500, `{"message":17}`, "Content-Type: application/json"), "", false},
	{"500, and the text hangs", "bodies", func(w writer, r *request, h handler) { w.WriteHeader(500); halts(hangs)(w, r, h) }, "", false},

	// The body.
	{"nothing", "bodies", says(""), "", false},
	{"{}", "bodies", says("{}"), "", false},
	{"null", "bodies but history", says("null"), "", false},
	{"[]", "object", says("[]"), "", false},
	{"[null]", "bodies", says("[null]"), "", false},
	{"[{}]", "bodies", says("[{}]"), "", false},
	{"[[]]", "bodies", says("[[]]"), "", false},
	{"a string", "bodies", says(`"OK"`), "", false},
	{"a number", "bodies", says("17"), "", false},
	{"true", "bodies", says("true"), "", false},
	{"NaN", "bodies", says("NaN"), "", false},
	{"OK", "bodies", says("OK"), "", false},
	{"a message with status 200", "bodies", refuses(200, "not now"), "", false},
	{"HTML with status 200", "bodies", says(html), "", false},
	{"half of it", "bodies", halts(func(writer, *request, handler) {}), undecodable, false},
	{"something behind it", "bodies", ends("\n<!-- cached -->"), "", false},
	{"a second answer behind it", "bodies", ends("\n{}"), "", false},
	{"10^5 brackets", "bodies", says(strings.Repeat("[", 1e5)), "", false},
	{"10^5 nested objects", "bodies", says(strings.Repeat(`{"Volumes":`, 1e5)), "", false},
	{"10^5 empty records", "bodies", says("[" + strings.Repeat("{},", 1e5) + "{}]"), "", false},
	{"10^5 times null", "bodies", says("[" + strings.Repeat("null,", 1e5) + "null]"), "", false},
	{"an endless string", "bodies", floods(`[{"Id":"`, "a"), "", false},
	{"endless space", "bodies", floods("", " \n"), "", false},
	{"bytes that are no text", "bodies", says("\x00\x01\xff\xfe"), "", false},
	{"zipped, and it says so", "bodies", changed(zipped, "Content-Encoding: gzip"), "", true},
	{"zipped, and it does not say so", "bodies", changed(zipped), "", false},
	{"said to be zipped", "bodies", changed(slices.Clip[[]byte], "Content-Encoding: gzip"), "gzip", false},
	{"in a byte order mark", "bodies", changed(func(b []byte) []byte { return append([]byte("\ufeff"), b...) }), "", false},
	{"in UTF-16", "bodies", changed(func(b []byte) []byte { return []byte(strings.Join(strings.Split(string(b), ""), "\x00")) }), "", false},
	{"each key in upper case", "bodies", edits(`"(Id|ID|Size|Layers|State|Volumes|BuildCache|ServerVersion)":`, `"X$1":`), "", false},
	{"with unknown fields", "bodies", adds("Future", map[string]any{"a": []any{1, nil}}), "", true},
	{"with invalid UTF-8 in an unknown field", "bodies", edits(`"(Driver|ParentId|Command|Comment)":"`, "\"Future\":\"\xff\xfe\",$0"), "", true},
}

// fromTheStart returns rows in which the exporter starts while an endpoint is broken.
func fromTheStart() (rows []fault) {
	for _, e := range endpoints {
		for _, what := range []string{"hangs", "closes the connection", "403", "502 of a proxy", "{}", "HTML with status 200"} {
			i := slices.IndexFunc(wrongAnswers, func(w wrongAnswer) bool { return w.what == what })
			if w := wrongAnswers[i]; !e.isCold && w.applies(e) {
				row := fault{at: e.path, what: what + ", from the start", do: w.do, fails: e.fails, log: e.operation, isCold: true}
				if what == "hangs" && strings.HasPrefix(e.path, "/system/df") { // the engine may walk many files
					row.from, row.scrapes, row.within = 41, 45, 40
				}
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// values are answers that are right but for one value.
var values = []fault{
	{at: "/images/json", what: "a size of -5", do: edits(`"Size":1441954`, `"Size":-5`), fails: "images", log: "list images: Size"},
	{at: "/images/json", what: "a size of 2^60", do: edits(`"Size":1441954`, `"Size":1152921504606846976`), fails: "images", log: "list images: Size"},
	{at: "/images/json", what: "a size of 2^63", do: edits(`"Size":1441954`, `"Size":9223372036854775808`), fails: "images", log: "list images: Size"},
	{at: "/images/json", what: "a size of 1e99", do: edits(`"Size":1441954`, `"Size":1e99`), fails: "images", log: "list images: Size"},
	{at: "/images/json", what: "a size of half a byte", do: edits(`"Size":1441954`, `"Size":0.5`), fails: "images", log: "list images: Size"},
	{at: "/images/json", what: "a size as text", do: edits(`"Size":1441954`, `"Size":"1441954"`), fails: "images", log: "list images: "},
	{at: "/images/json", what: "no sizes", do: edits(`,"Size":\d+`, ``), fails: "images", log: "list images: Size"},
	{at: "/images/json", what: "no IDs", do: edits(`"Id":"[^"]*",`, ``), fails: "images", log: "list images: "},
	{at: "/images/json", what: "an empty ID", do: editsFirst(`"Id":"[^"]*"`, `"Id":""`), fails: "images", log: "list images: "},
	{at: "/images/json", what: "a number as ID", do: editsFirst(`"Id":"[^"]*"`, `"Id":7`), fails: "images", log: "list images: "},
	{at: "/images/json", what: "tags as text", do: edits(`"RepoTags":\[`, `"RepoTags":"app:1","More":[`), fails: "images", log: "list images: "},
	{at: "/images/json", what: "a number as tag", do: edits(`"RepoTags":\["app:1"`, `"RepoTags":[7`), fails: "images", log: "list images: "},
	{at: "/images/json", what: "a number as parent", do: editsFirst(`"ParentId":"[^"]*"`, `"ParentId":7`), fails: "images", log: "list images: "},
	{at: "/images/json", what: "each image twice", do: turns(twice)},
	{at: "/images/json", what: "in another order", do: turns(backward)},
	{at: "/images/json", what: "the container list", do: swaps("/containers/json"), fails: "images", log: "list images: "},
	{at: "/images/json", what: "the info", do: swaps("/info"), fails: "images", log: "list images: "},
	{at: "/images/json", what: "one image instead of the list", do: edits(`(?s)^\[(.*?\}),\{"Containers".*$`, `$1`), fails: "images", log: "list images: "},
	{at: "/images/json", what: "a null between the images", do: edits(`\},\{"Containers"`, `},null,{"Containers"`), fails: "images", log: "list images: "},

	{at: "/containers/json", what: "an empty state", do: edits(`"State":"exited"`, `"State":""`), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "a number as state", do: edits(`"State":"exited"`, `"State":7`), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "no states", do: edits(`"State":"[^"]*",`, ``), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "no IDs", do: edits(`"Id":"[^"]*",`, ``), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "no image IDs", do: edits(`"ImageID":"[^"]*",`, ``), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "an empty ID", do: editsFirst(`"Id":"[^"]*"`, `"Id":""`), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "mounts as text", do: edits(`"Mounts":\[\]`, `"Mounts":"none"`), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "a date as creation time", do: edits(`"Created":\d+`, `"Created":"2026-01-01"`)},
	{at: "/containers/json", what: "in another order", do: turns(backward)},
	{at: "/containers/json", what: "each container twice", do: turns(twice), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "the image list", do: swaps("/images/json"), fails: "containers", log: "list containers: "},
	{at: "/containers/json", what: "the volume list", do: swaps("/volumes"), fails: "containers", log: "list containers: "},

	{at: "/volumes", what: "no list", do: says(`{"Warnings":null}`), fails: "volumes", log: "list volumes: "},
	{at: "/volumes", what: "an object as list", do: edits(`"Volumes": \[`, `"Volumes":{},"More": [`), fails: "volumes", log: "list volumes: "},
	{at: "/volumes", what: "no names", do: edits(`"Name":[^,]*,`, ``), fails: "volumes", log: "list volumes: "},
	{at: "/volumes", what: "an empty name", do: editsFirst(`"Name": "[^"]*"`, `"Name":""`), fails: "volumes", log: "list volumes: "},
	{at: "/volumes", what: "labels as list", do: edits(`"Labels": null`, `"Labels": ["a"]`), fails: "volumes", log: "list volumes: "},
	{at: "/volumes", what: "in another order", do: turns(backward)},
	{at: "/volumes", what: "each volume twice", do: turns(twice)},
	{at: "/system/df?type=volume", what: "no volumes", do: says(`{"LayersSize":0}`), fails: "volumes", log: "measure volumes: Volumes"},
	{at: "/system/df?type=volume", what: "a size of -5", do: edits(`"Size": 70000`, `"Size":-5`), fails: "volumes", log: "measure volumes: Size"},
	{at: "/system/df?type=volume", what: "a size of 2^60", do: edits(`"Size": 70000`, `"Size":1152921504606846976`), fails: "volumes", log: "measure volumes: Size"},
	{at: "/system/df?type=volume", what: "a size of 2^63", do: edits(`"Size": 70000`, `"Size":9223372036854775808`), fails: "volumes", log: "measure volumes: "},
	{at: "/system/df?type=volume", what: "a size as text", do: edits(`"Size": 70000`, `"Size":"70 kB"`), fails: "volumes", log: "measure volumes: "},
	{at: "/system/df?type=volume", what: "usage as list", do: edits(`"UsageData": \{`, `"UsageData":[],"More": {`), fails: "volumes", log: "measure volumes: "},
	{at: "/system/df?type=volume", what: "another engine's volumes", do: edits(`"Name": "database"`, `"Name": "other"`), lacks: "docker_disk_usage docker_reclaimable"},
	{at: "/system/df?type=build-cache", what: "no build cache", do: says(`{"LayersSize":0}`), fails: "build_cache", log: "list the build cache: BuildCache"},
	{at: "/system/df?type=build-cache", what: "a size of -5", do: edits(`"Size": 4000`, `"Size":-5`), fails: "build_cache", log: "list the build cache: Size"},
	{at: "/system/df?type=build-cache", what: "a size of 2^60", do: edits(`"Size": 4000`, `"Size":1152921504606846976`), fails: "build_cache", log: "list the build cache: Size"},
	{at: "/system/df?type=build-cache", what: "a size of 2^63", do: edits(`"Size": 4000`, `"Size":9223372036854775808`), fails: "build_cache", log: "list the build cache: "},
	{at: "/system/df?type=build-cache", what: "no IDs", do: edits(`"ID":[^,]*,`, ``), fails: "build_cache", log: "list the build cache: "},
	{at: "/system/df?type=build-cache", what: "an empty ID", do: edits(`"ID": "step1"`, `"ID": ""`), fails: "build_cache", log: "list the build cache: "},
	{at: "/system/df?type=build-cache", what: "in use as text", do: edits(`"InUse": false`, `"InUse": "no"`), fails: "build_cache", log: "list the build cache: "},
	{at: "/system/df?type=build-cache", what: "each record twice", do: turns(twice), fails: "build_cache", log: "list the build cache: "},

	{at: "/info", what: "no version", do: edits(`"ServerVersion":"[^"]*",`, ``), fails: "info", log: "get engine info: "},
	{at: "/info", what: "an empty version", do: edits(`"ServerVersion":"[^"]*"`, `"ServerVersion":""`), fails: "info", log: "get engine info: "},
	{at: "/info", what: "no driver", do: edits(`"Driver":"[^"]*",`, ``), fails: "info", log: "get engine info: "},
	{at: "/info", what: "a number as root", do: edits(`"DockerRootDir":"[^"]*"`, `"DockerRootDir":7`), fails: "info", log: "get engine info: "},
	{at: "/info", what: "a clock at 1970", do: edits(`"SystemTime":"[^"]*"`, `"SystemTime":"1970-01-01T00:00:07Z"`)},
	{at: "/info", what: "a clock at 9999", do: edits(`"SystemTime":"[^"]*"`, `"SystemTime":"9999-12-31T23:59:59Z"`)},
	{at: "/info", what: "a clock that is none", do: edits(`"SystemTime":"[^"]*"`, `"SystemTime":"soon"`)},
	{at: "/info", what: "other counts each time", do: counting(`"Images":\d+`, `"Images":%d`)},
	{at: "/info", what: "counts of -1", do: edits(`"(Images|Containers)":\d+`, `"$1":-1`)},
	{at: "/info", what: "the image list", do: swaps("/images/json"), fails: "info", log: "get engine info: "},

	{at: "/images/{id}/json", what: "another image", do: swaps("/images/{other}/json"), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/json", what: "no file system", do: edits(`"RootFS":`, `"RootFs1":`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/json", what: "null as file system", do: edits(`"RootFS":\{.*\}`, `"RootFS":null}`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/json", what: "no layers", do: edits(`"Layers":`, `"Layers1":`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/json", what: "an empty list of layers", do: edits(`"Layers":\[.*\]`, `"Layers":[]`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/json", what: "an empty layer", do: edits(`"Layers":\[.*\]`, `"Layers":["",""]`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/json", what: "a number as layer", do: edits(`"Layers":\[.*\]`, `"Layers":[7,8]`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/json", what: "1,001 layers", do: edits(`"Layers":\[`, `"Layers":[`+strings.Repeat(`"sha256:a",`, 1000)), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/json", what: "its history", do: swaps("/images/{id}/history"), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/history", what: "an image without history", do: says("[]"), isCold: true, lacks: "docker_disk_usage_bytes{resource=\"images\"", stays: true},
	{at: "/images/{id}/history", what: "a negative size", do: says(`[{"Size":-1441954},{"Size":2883908}]`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/history", what: "sizes whose sum overflows", do: says(`[{"Size":9223372036854775807},{"Size":9223372036854775807}]`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/history", what: "no sizes", do: says(`[{"CreatedBy":"a"},{"CreatedBy":"b"}]`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/history", what: "sizes as text", do: says(`[{"Size":"720977"},{"Size":"720977"}]`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/history", what: "10^5 steps", do: says("[" + strings.Repeat(`{"Size":0},`, 1e5) + `{"Size":1441954}]`), fails: "layers", isCold: true, log: "inspect images: "},
	{at: "/images/{id}/history", what: "less than the size of the image", do: says(`[{"Size":0},{"Size":1000}]`), isCold: true, lacks: "docker_disk_usage_bytes{resource=\"images\"", stays: true},
	{at: "/images/{id}/history", what: "the inspection", do: swaps("/images/{id}/json"), fails: "layers", isCold: true, log: "inspect images: "},

	{at: "/containers/{id}/json", what: "another container", do: swaps("/containers/{other}/json"), fails: "containers", isCold: true, log: "inspect containers: "},
	{at: "/containers/{id}/json", what: "no state", do: edits(`"State":`, `"State1":`), fails: "containers", isCold: true, log: "inspect containers: "},
	{at: "/containers/{id}/json", what: "null as state", do: edits(`"State":\{[^}]*\}`, `"State":null`), fails: "containers", isCold: true, log: "inspect containers: "},
	{at: "/containers/{id}/json", what: "an empty state", do: edits(`"Status":"exited"`, `"Status":""`), fails: "containers", isCold: true, log: "inspect containers: "},
	{at: "/containers/{id}/json", what: "no time of its end", do: edits(`"FinishedAt"`, `"FinishedAt1"`), fails: "containers", isCold: true, log: "inspect containers: FinishedAt"},
	{at: "/containers/{id}/json", what: "a time that is none", do: edits(`"FinishedAt":"[^"]*"`, `"FinishedAt":"yesterday"`), fails: "containers", isCold: true, log: "inspect containers: FinishedAt"},
	{at: "/containers/{id}/json", what: "a number as time", do: edits(`"FinishedAt":"[^"]*"`, `"FinishedAt":1760000000`), isCold: true},
	{at: "/containers/{id}/json", what: "an image", do: swaps("/images/{id}/json"), fails: "containers", isCold: true, log: "inspect containers: "},
	{at: "/containers/{id}/json?size=1", what: "another container", do: swaps("/containers/{other}/json"), fails: "container_sizes", isCold: true, log: "measure containers: "},
	{at: "/containers/{id}/json?size=1", what: "a size of -5", do: edits(`"SizeRw":100`, `"SizeRw":-5`), fails: "container_sizes", isCold: true, log: "measure containers: SizeRw"},
	{at: "/containers/{id}/json?size=1", what: "a size of 2^60", do: edits(`"SizeRw":100`, `"SizeRw":1152921504606846976`), fails: "container_sizes", isCold: true, log: "measure containers: SizeRw"},
	{at: "/containers/{id}/json?size=1", what: "a size as text", do: edits(`"SizeRw":100`, `"SizeRw":"100 B"`), fails: "container_sizes", isCold: true, log: "measure containers: "},
	{at: "/containers/{id}/json?size=1", what: "less in all than in the layer", do: edits(`"SizeRootFs":1100`, `"SizeRootFs":7`), isCold: true},
	{at: "/containers/{id}/json?size=1", what: "no sizes", do: edits(`,"SizeRw":100,"SizeRootFs":1100`, ``), fails: "container_sizes", isCold: true, log: "measure containers: "},
}

func twice(list []any) []any { return append(list, list...) }

func backward(list []any) []any {
	slices.Reverse(list)
	return list
}

// objects are faults of one object, or of all.
var objects = []fault{
	{at: "/images/{id}/json", what: "no such image, for ever", do: refuses(404, "No such image: sha256:x"), fails: "layers", isCold: true, log: "inspect images: No such image"},
	{at: "/images/{any}/json", what: "no such image, whichever", do: refuses(404, "No such image: sha256:x"), fails: "layers", isCold: true, log: "inspect images: No such image"},
	{at: "/images/{any}/json", what: "each hangs", do: hangs, fails: "layers", isCold: true, log: "inspect images: " + inTime, within: 5},
	{at: "/images/{any}/json", what: "each fails", do: refuses(500, "blob not found"), fails: "layers", isCold: true, log: "inspect images: blob not found"},
	{at: "/images/{any}/history", what: "each fails", do: refuses(500, "blob not found"), fails: "layers", isCold: true, log: "inspect images: blob not found"},
	{at: "/images/{any}/history", what: "each hangs", do: hangs, fails: "layers", isCold: true, log: "inspect images: " + inTime, within: 5},
	{at: "/images/{any}/json", what: "each takes 3 s", do: late(3 * time.Second), isCold: true, within: 20, lacks: "docker_image_layers docker_disk_usage docker_reclaimable docker_scrape_collector"},
	{at: "/containers/{id}/json", what: "no such container, for ever", do: refuses(404, "No such container: x"), fails: "containers", isCold: true, late: 1, log: "inspect containers: No such container"},
	{at: "/containers/{any}/json", what: "no such container, whichever", do: refuses(404, "No such container: x"), fails: "containers", isCold: true, late: 1, log: "inspect containers: No such container"},
	{at: "/containers/{any}/json", what: "each hangs", do: hangs, fails: "containers", isCold: true, log: "inspect containers: " + inTime},
	{at: "/containers/{any}/json", what: "each fails", do: refuses(500, "driver failed"), fails: "containers", isCold: true, log: "inspect containers: driver failed"},
	{at: "/containers/{id}/json?size=1", what: "no such container, for ever", do: refuses(404, "No such container: x"), fails: "container_sizes", isCold: true, late: 1, log: "measure containers: No such container"},
	{at: "/containers/{any}/json?size=1", what: "each hangs", do: hangs, fails: "container_sizes", isCold: true, log: "?measure containers: " + inTime, within: 12},
	{at: "/containers/{any}/json?size=1", what: "each fails", do: refuses(500, "driver failed"), fails: "container_sizes", isCold: true, log: "measure containers: driver failed"},
	{at: "/containers/{any}/json?size=1", what: "each fails from now on", do: refuses(500, "driver failed"), fails: "container_sizes", log: "measure containers: driver failed"},
	{at: "/containers/{any}/json?size=1", what: "each takes 3 s", do: late(3 * time.Second), isCold: true, within: 12},
	{at: "/images/json", what: "fails every second time", do: alternates(refuses(500, "busy")), fails: "?images", log: "?list images: busy"},
	{at: "/containers/json", what: "hangs every second time", do: alternates(hangs), fails: "?containers", log: "?list containers: " + inTime},
}

// streams are faults of the event stream.
var streams = []fault{
	{at: "/events", what: "hangs", do: hangs, begin: cut, log: "watch events: " + inTime},
	{at: "/events", what: "403", do: status(403, "Forbidden by policy"), begin: cut, log: "watch events: Forbidden by policy"},
	{at: "/events", what: "404", do: status(404, "404 page not found"), begin: cut, log: "watch events: "},
	{at: "/events", what: "500", do: refuses(500, "no"), begin: cut, log: "watch events: no"},
	{at: "/events", what: "502 of a proxy", do: status(502, html), begin: cut, log: "watch events: "},
	{at: "/events", what: "301", do: status(301, "", "Location: /login"), begin: cut, log: "watch events: ends immediately", scrapes: 20},
	{at: "/events", what: "a text that differs each time", do: differs(500, "request %d failed"), begin: cut, log: "watch events: failed"},
	{at: "/events", what: "a password", do: refuses(500, "Get https://admin:"+secret+"@registry.example/v2/: denied"), begin: cut, log: "watch events: denied"},
	{at: "/events", what: "a megabyte of HTML", do: status(500, strings.Repeat(html, 1<<14)), begin: cut, log: "watch events: "},
	{at: "/events", what: "HTML with status 200", do: says(html), begin: cut, log: "watch events: "},
	{at: "/events", what: "closes the connection at once", do: resets, begin: cut, log: "watch events: ends immediately", scrapes: 20},
	{at: "/events", what: "ends at once", do: says(""), begin: cut, log: "watch events: ends immediately", scrapes: 20},
	{at: "/events", what: "ends after 30 s", do: lasts(30 * time.Second), begin: cut, scrapes: 20},
	{at: "/events", what: "ends after 5 s", do: lasts(5 * time.Second), begin: cut, scrapes: 20, log: "watch events: ends immediately"},
	{at: "/events", what: "a line without an end", do: floods(`{"Type":"`, "a"), begin: cut, log: "watch events: "},
	{at: "/events", what: "endless space", do: floods("", "\n"), begin: cut},
	{at: "/events", what: "10^4 empty objects", do: says(strings.Repeat("{}\n", 1e4)), begin: cut},
	{at: "/events", what: "10^4 times null", do: says(strings.Repeat("null\n", 1e4)), begin: cut},
	{at: "/events", what: "a list of events", do: says("[{}]"), begin: cut, log: "watch events: "},
	{at: "/events", what: "SSH", do: raw("SSH-2.0-OpenSSH_9.2\r\n"), begin: cut, log: "watch events: ends immediately", scrapes: 20},
	{at: "/events", what: "half an event", begin: sends(`{"Type":"container","Act`), log: "watch events: decoded"},
	{at: "/events", what: "is cut", begin: func(r *rig) { r.events.cut(false) }},
	{at: "/events", what: "is cut, and somebody prunes", begin: func(r *rig) { r.events.cut(false); prune(r) }, counts: pruned},
	{at: "/events", what: "is cut, and the engine has lost its events", begin: func(r *rig) { r.events.cut(true) }},
	{at: "/events", what: "an empty event", begin: sends(`{}`)},
	{at: "/events", what: "null as event", begin: sends(`null`)},
	{at: "/events", what: "a number as event, then a prune", begin: sendsThenPrune(`7`), counts: pruned, log: "watch events: decoded"},
	{at: "/events", what: "a text as event, then a prune", begin: sendsThenPrune(`"a"`), counts: pruned, log: "watch events: decoded"},
	{at: "/events", what: "no JSON, then a prune", begin: sendsThenPrune(`oops`), counts: pruned, log: "watch events: decoded"},
	{at: "/events", what: "a number as type, then a prune", begin: sendsThenPrune(`{"Type":7}`), counts: pruned, log: "watch events: decoded"},
	{at: "/events", what: "attributes as list, then a prune", begin: sendsThenPrune(`{"Type":"image","Action":"tag","Actor":{"ID":"a","Attributes":[]}}`), counts: pruned, log: "watch events: decoded"},
	{at: "/events", what: "a number as attribute, then a prune", begin: sendsThenPrune(`{"Type":"image","Action":"tag","Actor":{"ID":"a","Attributes":{"name":7}}}`), counts: pruned, log: "watch events: decoded"},
	{at: "/events", what: "a time as text, then a prune", begin: sendsThenPrune(`{"Type":"image","Action":"tag","timeNano":"soon"}`), counts: pruned, log: "watch events: decoded"},
	{at: "/events", what: "a time of 1e99, then a prune", begin: sendsThenPrune(`{"Type":"image","Action":"tag","timeNano":1e99}`), counts: pruned, log: "watch events: decoded"},
	{at: "/events", what: "a time of 2^63-1, then a cut and a prune", begin: cutAfter(`{"Type":"image","Action":"tag","timeNano":9223372036854775807}`), counts: pruned},
	{at: "/events", what: "a negative time, then a cut and a prune", begin: cutAfter(`{"Type":"image","Action":"tag","timeNano":-9223372036854775808}`), counts: pruned},
	{at: "/events", what: "unknown types", begin: sends(`{"Type":"swarm","Action":"explode","Actor":{"ID":"a"}}`)},
	{at: "/events", what: "unknown actions", begin: sends(`{"Type":"container","Action":"explode","Actor":{"ID":"a"}}`)},
	{at: "/events", what: "unknown objects", begin: func(r *rig) {
		for _, event := range []string{"container die x", "container destroy x", "image delete x", "image tag x", "volume destroy x", "network disconnect x", "builder create x"} {
			r.events.send(event, "container", "x", "imageID", "x", "name", "x")
		}
	}},
	{at: "/events", what: "removals of what is there", begin: func(r *rig) {
		image, container, _, _ := objectsOf()
		for _, event := range []string{"container destroy " + container, "image delete " + image, "volume destroy database"} {
			r.events.send(event)
		}
	}},
	{at: "/events", what: "without an object", begin: sends(`{"Type":"container","Action":"die"}`)},
	{at: "/events", what: "an object of a megabyte", begin: sends(`{"Type":"container","Action":"die","Actor":{"ID":"` + strings.Repeat("a", 1<<20) + `"}}`)},
	{at: "/events", what: "an ID that leads elsewhere", begin: sends(`{"Type":"container","Action":"die","Actor":{"ID":"../../info?x="}}`)},
	{at: "/events", what: "10^4 containers", begin: func(r *rig) {
		for i := range 10000 {
			r.events.send(fmt.Sprintf("container die %064x", i))
		}
	}},
	{at: "/events", what: "a prune twice", begin: func(r *rig) { prune(r); prune(r) }, counts: pruned},
	{at: "/events", what: "events out of order", begin: func(r *rig) {
		for _, at := range []time.Duration{0, -time.Hour, time.Second, -time.Minute} {
			clockOff(at)(r)
			r.events.send("image tag x")
		}
		clockOff(time.Minute)(r)
		prune(r)
	}, counts: pruned},
	{at: "/events", what: "a prune that freed -5 bytes", begin: prunes("-5"), counts: prunedOnly},
	{at: "/events", what: "a prune that freed some bytes", begin: prunes("some"), counts: prunedOnly},
	{at: "/events", what: "a prune that freed 2^63 bytes", begin: prunes("9223372036854775808"), counts: prunedOnly},
	{at: "/events", what: "a prune that freed 2^63-1 bytes", begin: prunes("9223372036854775807"), counts: prunedOnly},
	{at: "/events", what: "a prune that freed 1e300 bytes", begin: prunes("1e300"), counts: prunedOnly},
	{at: "/events", what: "a prune that freed NaN bytes", begin: prunes("NaN"), counts: prunedOnly},
	{at: "/events", what: "a prune without a word about bytes", begin: func(r *rig) { r.events.send("container prune") }, counts: prunedOnly},
	{at: "/events", what: "a prune in the far future", begin: sends(`{"Type":"container","Action":"prune","timeNano":9223372036854775807,"Actor":{"Attributes":{"reclaimed":"2000"}}}`), counts: pruned},
	{at: "/events", what: "a prune of unknown things", begin: func(r *rig) {
		r.events.send("swarm prune", "reclaimed", "5")
		r.events.send("network prune", "reclaimed", "5")
	}},
	{at: "the engine's clock", what: "is at 1970", isCold: true, begin: clockAt(7), each: pruneOnce, counts: prunedOnce},
	{at: "the engine's clock", what: "is at 2262", isCold: true, begin: clockAt(9.2e9), each: pruneOnce, counts: prunedOnce},
	{at: "the engine's clock", what: "jumps back by an hour", begin: func(r *rig) { clockOff(-time.Hour)(r); prune(r) }, counts: pruned},
	{at: "the engine's clock", what: "jumps ahead by a day", begin: func(r *rig) { clockOff(24 * time.Hour)(r); prune(r) }, counts: pruned},
}

func cut(r *rig) { r.events.cut(false) }

// cutAfter sends an event, cuts the stream, and prunes.
func cutAfter(event string) func(*rig) {
	return func(r *rig) {
		r.events.sendText(event)
		synctest.Wait()
		r.events.cut(false)
		prune(r)
	}
}

func sends(event string) func(*rig) { return func(r *rig) { r.events.sendText(event) } }

func sendsThenPrune(event string) func(*rig) {
	return func(r *rig) {
		r.events.sendText(event)
		synctest.Wait()
		time.Sleep(time.Second)
		prune(r)
	}
}

// prune sends the event of a prune of containers that freed 2,000 bytes. That of warmUp freed 1,000.
func prune(r *rig) { prunes("2000")(r) }

func prunes(reclaimed string) func(*rig) {
	return func(r *rig) { r.events.send("container prune", "reclaimed", reclaimed) }
}

func pruneOnce(r *rig, scrape int) {
	if scrape == 2 {
		prune(r)
	}
}

// The figures after such prunes.
var (
	pruned     = prunesOf("2", "3000")
	prunedOnly = prunesOf("2", "1000") // without bytes that can be
	prunedOnce = prunesOf("1", "2000") // while there was no other one
)

func prunesOf(count, bytes string) map[string]string {
	return map[string]string{`docker_prunes_total{resource="containers"}`: count, `docker_pruned_bytes_total{resource="containers"}`: bytes}
}

func clockAt(seconds int64) func(*rig) {
	return func(r *rig) { clockOff(time.Until(time.Unix(seconds, 0)))(r) }
}

func clockOff(by time.Duration) func(*rig) {
	return func(r *rig) { r.setClock(func() time.Time { return time.Now().Add(by) }) }
}

// lives are faults of the engine as a whole, of the connection to it, and of its disk.
var lives = []fault{
	{at: "the engine", what: "is gone", begin: gone(syscall.ECONNREFUSED), fails: "up", log: "reach the engine: connection refused"},
	{at: "the engine", what: "is not there at the start", begin: gone(syscall.ECONNREFUSED), isCold: true, fails: "up", log: "reach the engine: connection refused"},
	{at: "the engine", what: "has no socket", begin: gone(syscall.ENOENT), fails: "up", log: "reach the engine: no such file"},
	{at: "the engine", what: "has a socket of others", begin: gone(syscall.EACCES), fails: "up", log: "reach the engine: permission denied"},
	{at: "the engine", what: "has a socket that is a file", begin: gone(syscall.ENOTSOCK), fails: "up", log: "reach the engine: non-socket"},
	{at: "the engine", what: "is on a host without a route", begin: gone(syscall.EHOSTUNREACH), fails: "up", log: "reach the engine: no route"},
	{at: "the engine", what: "resets each connection", begin: gone(syscall.ECONNRESET), fails: "up", log: "reach the engine: reset"},
	{at: "the engine", what: "cannot be dialed for want of files", begin: gone(syscall.EMFILE), fails: "up", log: "reach the engine: too many open files"},
	{at: "the engine", what: "has no address", begin: gone(&net.DNSError{Err: "no such host", Name: "engine", IsNotFound: true}), fails: "up", log: "reach the engine: no such host"},
	{at: "the engine", what: "restarts between two scrapes", begin: restart},
	{at: "the engine", what: "restarts between all scrapes", begin: restart, each: func(r *rig, _ int) { restart(r) }},
	{at: "the engine", what: "comes and goes", each: flap, fails: "?up ?images ?layers ?containers ?container_sizes ?volumes ?build_cache", log: "?reach the engine: refused"},
	{at: "the engine", what: "breaks idle connections", each: func(r *rig, _ int) { r.hangUp() }},
	{at: "the engine", what: "answers nothing but pings", begin: onlyPings(hangs), fails: "info images containers volumes build_cache container_sizes", log: "get engine info: in time; list images: in time; list containers: in time; list volumes: in time; measure volumes: in time; list the build cache: in time; measure containers: in time", within: 8},
	{at: "the engine", what: "refuses all but pings", begin: onlyPings(status(403, "Forbidden")), fails: "info images containers volumes build_cache", log: "get engine info: Forbidden; list images: Forbidden; list containers: Forbidden; list volumes: Forbidden; measure volumes: Forbidden; list the build cache: Forbidden"},
	{at: "the engine", what: "is behind a proxy that lost it", begin: everything(status(502, html)), fails: "up", log: "reach the engine"},
	{at: "the engine", what: "takes 3 s for each answer", begin: everything(late(3 * time.Second)), within: 5},
	{at: "the engine", what: "takes 6 s for each answer", begin: everything(late(6 * time.Second)), fails: "up", log: "reach the engine: " + inTime},
	{at: "the engine", what: "is another one, with the containerd store", begin: becomes("29-containerd"), becomes: "29-containerd"},
	{at: "the engine", what: "is an older one", begin: becomes("20.10-overlay2"), becomes: "20.10-overlay2"},
	{at: "the engine", what: "is upgraded after a break", begin: func(r *rig) { gone(syscall.ECONNREFUSED)(r); becomes("29-containerd")(r) }, becomes: "29-containerd", fails: "up", log: "reach the engine: refused"},
	{at: "the engine", what: "is one of another kind at each scrape", each: func(r *rig, i int) { becomes([]string{"29-containerd", usual}[i%2])(r) }, becomes: usual, other: "29-containerd", scrapes: 8, fails: "?layers ?images"},
	{at: "the engine", what: "is too old", begin: becomes("engine-too-old"), becomes: "engine-too-old", fails: "build_cache container_sizes containers images layers volumes", log: "negotiate the API version: 1.39", stays: true},
	{at: "the engine", what: "is stopped and replaced while a list hangs", begin: func(r *rig) {
		r.breaks("/images/json", hangs)
		r.scrape()
		r.repairs()
		restart(r)
		becomes("20.10-overlay2")(r)
	}, becomes: "20.10-overlay2", log: "?list images"},
	{at: "/_ping", what: "no version", do: status(200, "OK", "Api-Version: "), fails: "up", log: "reach the engine: not a Docker engine"},
	{at: "/_ping", what: "a version that is none", do: status(200, "OK", "Api-Version: new"), fails: "up", log: "reach the engine: not a Docker engine"},
	{at: "/_ping", what: "a version with a path", do: status(200, "OK", "Api-Version: 1.51/../x"), fails: "up", log: "reach the engine: not a Docker engine"},
	{at: "/_ping", what: "a version of 10^6", do: status(200, "OK", "Api-Version: 1.1000000"), fails: "up", log: "reach the engine: not a Docker engine"},
	{at: "/_ping", what: "a version of a megabyte", do: status(200, "OK", "Api-Version: "+strings.Repeat("1", 1<<20)), fails: "up", log: "reach the engine"},
	{at: "/_ping", what: "a newer version", do: status(200, "OK", "Api-Version: 1.99")},
	{at: "/_ping", what: "HTML with status 200", do: status(200, html), fails: "up", log: "reach the engine: not a Docker engine"},
	{at: "/_ping", what: "late by 6 s", do: late(6 * time.Second), fails: "up", log: "reach the engine: " + inTime},
	{at: "/_ping", what: "fails every second time", do: alternates(resets), fails: "?up ?images ?layers ?containers ?container_sizes ?volumes ?build_cache", log: "?reach the engine: EOF"},
	{at: "the disk", what: "is gone", begin: func(r *rig) { os.Rename(r.data, r.data+".gone") }, end: func(r *rig) { os.Rename(r.data+".gone", r.data) }, fails: "filesystems", log: "measure the file system /data: no such file"},
	{at: "the disk", what: "is a link to itself", begin: func(r *rig) { os.Remove(r.data); os.Symlink(r.data, r.data) }, end: func(r *rig) { os.Remove(r.data); os.Mkdir(r.data, 0o755) }, fails: "filesystems", log: "measure the file system /data: too many levels"},
	{at: "the disk", what: "is gone, and so is the engine", begin: func(r *rig) { os.Rename(r.data, r.data+".gone"); gone(syscall.ECONNREFUSED)(r) }, end: func(r *rig) { os.Rename(r.data+".gone", r.data) }, fails: "up filesystems", log: "reach the engine: refused; measure the file system /data: no such file"},
}

// gone makes all connections break, and new ones fail.
func gone(err error) func(*rig) {
	return func(r *rig) { r.refuse(err) }
}

func restart(r *rig) {
	r.events.cut(true)
	r.hangUp()
}

func flap(r *rig, scrape int) {
	if scrape%2 == 0 {
		gone(syscall.ECONNREFUSED)(r)
	} else {
		r.repairs()
	}
}

func becomes(folder string) func(*rig) {
	return func(r *rig) {
		r.SwitchTo(engines + folder)
		restart(r)
		synctest.Wait() // a start takes longer than the end of the event stream
	}
}

func everything(wrong answer) func(*rig) {
	return func(r *rig) {
		r.breaks("/_ping", wrong)
		onlyPings(wrong)(r)
	}
}

func onlyPings(wrong answer) func(*rig) {
	return func(r *rig) {
		for _, endpoint := range []string{"/info", "/images/json", "/containers/json", "/volumes", "/system/df?type=", "/images/{any}/json", "/images/{any}/history", "/containers/{any}/json", "/containers/{any}/json?size=1"} {
			r.breaks(endpoint, wrong)
		}
	}
}
