package docker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// answers returns the function that reads each kind of answer, by a file or endpoint.
func answers() map[string]func(io.Reader) (kept int, err error) {
	return map[string]func(io.Reader) (int, error){
		"info.json":   read(func(d *decoder) []Info { return []Info{readInfo(d)} }),
		"images.json": read(readImages),
		"image": read(func(d *decoder) []model.Image {
			image, _ := new(imageReader).image(d)
			return []model.Image{image}
		}),
		"history":         read(readHistory),
		"containers.json": read(readContainerList),
		"container": read(func(d *decoder) []model.Container {
			return []model.Container{readContainer(d, "SizeRw?", new(API).state)}
		}),
		"volumes.json": read(readVolumes),
		"system/df.json": read(func(d *decoder) []model.CacheRecord {
			usage := readDiskUsage(d, "Volumes", "BuildCache")
			return usage.BuildCache
		}),
	}
}

var errBoth = errors.New("an answer and an error")

func readImages(d *decoder) []model.Image {
	return imageReader{store: model.Containerd}.list(d, "1.51")
}

func readContainerList(d *decoder) []model.Container {
	return distinct(d, containerID, readListedContainer)
}

func read[T any](read func(*decoder) []T) func(io.Reader) (int, error) {
	return func(r io.Reader) (int, error) {
		list, err := decode(r, read)
		if err != nil && list != nil {
			return len(list), errBoth
		}
		return len(list), err
	}
}

// Answers of real engines are read, and lose no object.
func TestReadRecordedAnswers(t *testing.T) {
	for file, read := range answers() {
		paths, _ := filepath.Glob(filepath.Join("testdata", "*", file))
		for _, path := range paths {
			if strings.Contains(path, "null-lists") {
				continue
			}
			body := readFile(t, path)
			kept, err := read(strings.NewReader(body))
			want := strings.Count(body, `"Id":`) + strings.Count(body, `"Mountpoint":`)
			if file == "system/df.json" {
				want = strings.Count(body, `"ID":`)
			}
			if file == "info.json" {
				want = 1
			}
			if err != nil || kept != want {
				t.Errorf("%s: %d objects, %v; want %d", path, kept, err, want)
			}
		}
	}
}

// An answer that no engine gives is an error that names the field.
func TestImpossibleAnswers(t *testing.T) {
	const image = `"Id":"a","RepoTags":[],"RepoDigests":[]`
	const info = `"ServerVersion":"28","Driver":"overlay2","DriverStatus":null,"DockerRootDir":"/x","Images":1`
	const record = `"Type":"regular","InUse":false,"Shared":false`
	for _, test := range []struct{ answer, body, want string }{
		{"info.json", ``, "unexpected EOF"},
		{"info.json", `{}`, `the field "ServerVersion" is missing`},
		{"info.json", `{"message":"hello"}`, `the field "ServerVersion" is missing`},
		{"info.json", `{` + info + `}`, `the field "Containers" is missing`},
		{"info.json", `{` + info + `,"Containers":"1"}`, `Containers: '"' where a number should be`},
		{"info.json", `{` + info + `,"Containers":1}`, ""},
		{"info.json", `{` + info + `,"Containers":1,"Labels":[{"a":[1.5e3,true,null,"\"]"]}]}` + "\n", ""},
		{"info.json", `{` + info + `,"Containers":1}{}`, "more after the end"},
		{"info.json", `{` + info + `,"Containers":1,}`, `'}' where a string should be`},
		{"info.json", `{` + info + `,"Containers":1,"x":[1,]}`, "not JSON"},
		{"info.json", `{` + info + `,"Containers":1,"x":` + strings.Repeat("[", 101), "nested"},
		{"images.json", `null`, "'n' where a list should be"},
		{"images.json", `{"message":"hello"}`, "'{' where a list should be"},
		{"images.json", `[null]`, "[0]: 'n' where an object should be"},
		{"images.json", `[{}]`, `[0]: the field "Id" is missing`},
		{"images.json", `[{` + image + `}]`, `[0]: the field "Size" is missing`},
		{"images.json", `[{` + image + `,"Size":1},{` + image + `,"Size":-7}]`, "[1].Size: -7 is not a size"},
		{"images.json", `[{` + image + `,"Size":1125899906842625}]`, "[0].Size: 1125899906842625 bytes are more than a disk has"},
		{"images.json", `[{` + image + `,"Size":9223372036854775808}]`, "[0].Size: 9223372036854775808 is no integer"},
		{"images.json", `[{` + image + `,"Size":1.5}]`, "[0].Size: 1.5 is no integer"},
		{"images.json", `[{` + image + `,"Size":-1}]`, ""},
		{"images.json", `[{"Id":"","RepoTags":null,"RepoDigests":null,"Size":1}]`, "[0]: the ID is empty"},
		{"images.json", `[{"Id":"a","RepoTags":["x",7],"RepoDigests":null,"Size":1}]`, "[0].RepoTags[1]: '7' where a string should be"},
		{"images.json", `[{"Id":"\ud83d\ude00\n","RepoTags":null,"RepoDigests":null,"Size":1}]`, ""},
		{"images.json", `[{"Id":"\x","RepoTags":null,"RepoDigests":null,"Size":1}]`, "[0].Id: not JSON"},
		{"history", `null`, ""},
		{"history", `[{"Size":-1}]`, "[0].Size: unknown"},
		{"containers.json", `[{"Id":"a","Image":"x","ImageID":"y","State":"","Created":1,"Mounts":[]}]`, "[0]: the state is empty"},
		{"containers.json", `[{"Id":"a","Image":"x","ImageID":"y","State":"exited","Created":1}]`, `[0]: the field "Mounts" is missing`},
		{"container", `{"Id":"a","Image":"y"}`, `the field "State" is missing`},
		{"container", `{"Id":"a","Image":"y","State":null}`, "State: 'n' where an object should be"},
		{"container", `{"Id":"a","Image":"y","State":{"Status":"exited"},"HostConfig":{"LogConfig":{"Type":7}}}`, "HostConfig.LogConfig.Type: '7' where a string should be"},
		{"volumes.json", `{"Volumes":null,"Warnings":null}`, ""},
		{"volumes.json", `{"Volumes":[{"Name":"a","Driver":"local","Labels":{}}]}`, `Volumes[0]: the field "Options" is missing`},
		{"system/df.json", `{"Volumes":null,"BuildCache":null}`, ""},
		{"system/df.json", `{"Volumes":[],"Images":[{"Size":-7}],"BuildCache":[{"ID":"a",` + record + `,"Size":4294967296}]}`, ""},
		{"system/df.json", `{"Volumes":[],"BuildCache":[{"ID":"a",` + record + `,"Size":1},{"ID":"a",` + record + `,"Size":1}]}`, `BuildCache[1]: the ID is that of an earlier element: "a"`},
		{"system/df.json", `{"Volumes":[],"BuildCache":[{"ID":"a","Type":"regular","InUse":"no","Shared":false,"Size":1}]}`, "BuildCache[0].InUse: not"},
	} {
		_, err := answers()[test.answer](strings.NewReader(test.body))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s %s: got %v, want %q", test.answer, test.body, err, test.want)
		}
	}
}

// longAnswer streams a list of n elements, and measures the heap while it is read.
type longAnswer struct {
	begin, end string
	element    func(i int) string
	n, i       int
	sent       int
	buffer     bytes.Buffer
	highest    uint64 // of the heap in bytes, after garbage collections
}

func (a *longAnswer) Read(p []byte) (int, error) {
	if a.i == 0 {
		a.buffer.WriteString(a.begin)
	}
	for a.buffer.Len() < len(p) && a.i <= a.n {
		if a.i < a.n {
			if a.i > 0 {
				a.buffer.WriteByte(',')
			}
			a.buffer.WriteString(a.element(a.i))
		} else {
			a.buffer.WriteString(a.end)
		}
		if a.i++; a.i%(1+a.n/20) == 0 {
			a.highest = max(a.highest, heap())
		}
	}
	n, err := a.buffer.Read(p)
	a.sent += n
	return n, err
}

// heap returns the bytes of the heap that are in use.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func labels(n int) string {
	return `"Labels":{"io.buildpacks":"` + strings.Repeat(`{\"a\":1}`, n/9) + `"}`
}

func longAnswers() map[string]struct {
	answer longAnswer
	heap   uint64 // most bytes
} {
	image := func(i int, more string) string {
		return fmt.Sprintf(`{"Containers":-1,"Created":1760000000,"Id":"sha256:%064x",%s,"ParentId":"","RepoDigests":["registry.example/app@sha256:%064x"],"RepoTags":["registry.example/app:%d"],"SharedSize":-1,"Size":123456789}`, i, more, i, i)
	}
	manifest := `{"ID":"sha256:1","Descriptor":{"mediaType":"x","digest":"sha256:1","size":7,"annotations":{"a":"` + strings.Repeat("b", 800) + `"}},"Available":false,"Kind":"image","Size":{"Content":0,"Total":0},"ImageData":{"Platform":{"architecture":"arm64"},"Containers":[],"Size":{"Unpacked":0}}}`
	return map[string]struct {
		answer longAnswer
		heap   uint64
	}{
		"100,000 images":              {longAnswer{begin: "[", end: "]", n: 100000, element: func(i int) string { return image(i, `"Labels":null`) }}, 64 << 20},
		"images with 60 kB of labels": {longAnswer{begin: "[", end: "]", n: 600, element: func(i int) string { return image(i, labels(60000)) }}, 1 << 20},
		"images with many manifests": {longAnswer{begin: "[", end: "]", n: 2800, element: func(i int) string {
			return image(i, `"Labels":null,"Manifests":[`+strings.Repeat(manifest+",", 15)+manifest+`]`)
		}}, 3 << 20},
		"10,000 cache records with long descriptions": {longAnswer{begin: `{"Volumes":null,"BuildCache":[`, end: `]}`, n: 10000, element: func(i int) string {
			return fmt.Sprintf(`{"ID":"%025d"," Parents":["%025d"],"Type":"regular","Description":"[stage-1 2/2] RUN %s","InUse":false,"Shared":false,"Size":1,"CreatedAt":"2025-10-09T08:53:20Z","LastUsedAt":null,"UsageCount":1}`, i+1, i, strings.Repeat("x", 7000))
		}}, 8 << 20},
		"what is not wanted": {longAnswer{begin: `{"Volumes":null,"BuildCache":null,"Images":[`, end: `]}`, n: 1000, element: func(i int) string { return image(i, labels(60000)) }}, 1 << 20},
	}
}

// Memory is bounded by what is kept, not by the length of an answer.
func TestLongAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute with the race detector, and starts no goroutine")
	}
	for name, test := range longAnswers() {
		read := answers()["images.json"]
		if strings.Contains(test.answer.begin, "BuildCache") {
			read = answers()["system/df.json"]
		}
		before := heap()
		kept, err := read(&test.answer)
		if err != nil || kept != test.answer.n && name != "what is not wanted" {
			t.Errorf("%s: %d of %d objects, %v", name, kept, test.answer.n, err)
		}
		t.Logf("%s: %d MB, %.1f MB of heap", name, test.answer.sent>>20, float64(test.answer.highest-before)/1e6)
		if used := test.answer.highest - before; used > test.heap {
			t.Errorf("%s: %d bytes of heap, want at most %d", name, used, test.heap)
		}
	}
}

// Answers that consist of nothing are refused before they take memory.
func TestEmptyObjects(t *testing.T) {
	for name, read := range answers() {
		answer := longAnswer{begin: "[", end: "]", n: 10 << 20, element: func(int) string { return "{}" }}
		if _, err := read(&answer); err == nil || answer.sent > 64<<10 {
			t.Errorf("%s: %v after %d bytes", name, err, answer.sent)
		}
	}
}

// Strings of a list take memory although most of them are equal.
func TestEqualStrings(t *testing.T) {
	const n = 100
	for name, test := range map[string]struct {
		body string
		read func(*decoder)
	}{
		"tags":   {`{"Id":"a","RepoDigests":null,"Size":1,"RepoTags":["a"` + strings.Repeat(`,"a"`, n) + `]}`, func(d *decoder) { _, _ = new(imageReader).image(d) }},
		"mounts": {`[{}` + strings.Repeat(`,{"Type":"volume","Name":"a"}`, n) + `]`, func(d *decoder) { _, _ = readMounts(d) }},
	} {
		_, err := decode(strings.NewReader(test.body), func(d *decoder) bool {
			d.keep(maxKept - n*headerBytes)
			test.read(d)
			return true
		})
		if err == nil || !strings.Contains(err.Error(), "to keep") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A volume of a Swarm cluster may have the name of one of the engine.
func TestVolumesOfOneName(t *testing.T) {
	const body = `{"Volumes":[{"Name":"a","Driver":"local","Labels":null,"Options":null},{"Name":"a","Driver":"csi","Labels":null,"Options":null,"ClusterVolume":{"ID":"x"}}]}`
	volumes, err := decode(strings.NewReader(body), readVolumes)
	if err != nil || len(volumes) != 1 || !volumes[0].Local {
		t.Errorf("got %v, %v", volumes, err)
	}
}

func BenchmarkLongAnswers(b *testing.B) {
	for name, test := range longAnswers() {
		var body bytes.Buffer
		if _, err := io.Copy(&body, &test.answer); err != nil {
			b.Fatal(err)
		}
		read := answers()["images.json"]
		if strings.Contains(test.answer.begin, "BuildCache") {
			read = answers()["system/df.json"]
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(body.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := read(bytes.NewReader(body.Bytes())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fuzzAnswer fuzzes one kind of answer: there is an answer or an error, never both, and no more
// memory than in proportion to the body.
func fuzzAnswer(f *testing.F, answer string) {
	paths, _ := filepath.Glob(filepath.Join("testdata", "*", answer))
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	for _, body := range []string{
		`null`, `{}`, `[{}]`, `[null]`,
		`[{"Size":9223372036854775807},{"Size":-1,"CreatedBy":"\u002f"}]`,
		`{"Id":"a","RepoTags":["a"],"RepoDigests":["a@b"],"Size":1,"RootFS":{"Type":"layers","Layers":["x","","x"]}}`,
		`{"Id":"a","Image":"b","State":{"Status":"exited","FinishedAt":"0001-01-01T00:00:00Z"},"SizeRw":1,"SizeRootFs":2,"Mounts":[{"Type":"image","Name":"a"}]}`,
	} {
		f.Add([]byte(body))
	}
	read := answers()[answer]
	f.Fuzz(func(t *testing.T, body []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := read(bytes.NewReader(body))
		runtime.ReadMemStats(&after)
		if errors.Is(err, errBoth) {
			t.Error(err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 256<<10+uint64(100*len(body)) {
			t.Errorf("%d bytes allocated for %d", used, len(body))
		}
	})
}

func FuzzInfo(f *testing.F)       { fuzzAnswer(f, "info.json") }
func FuzzImages(f *testing.F)     { fuzzAnswer(f, "images.json") }
func FuzzImage(f *testing.F)      { fuzzAnswer(f, "image") }
func FuzzHistory(f *testing.F)    { fuzzAnswer(f, "history") }
func FuzzContainers(f *testing.F) { fuzzAnswer(f, "containers.json") }
func FuzzContainer(f *testing.F)  { fuzzAnswer(f, "container") }
func FuzzVolumes(f *testing.F)    { fuzzAnswer(f, "volumes.json") }
func FuzzDiskUsage(f *testing.F)  { fuzzAnswer(f, "system/df.json") }

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
