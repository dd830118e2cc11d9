package e2e

import (
	"bytes"
	encoding "encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fuseDisk is an empty file system that answers statfs as a test wants.
type fuseDisk struct {
	device *os.File
	mu     sync.Mutex
	now    fuseSizes
	hangs  chan struct{} // until it is closed; nil: no
}

// fuseSizes is struct fuse_kstatfs of linux/fuse.h.
type fuseSizes struct {
	Blocks, Bfree, Bavail, Files, Ffree uint64
	Bsize, Namelen, Frsize              uint32
	_                                   [7]uint32
}

// fuseHeader is struct fuse_in_header.
type fuseHeader struct {
	Length, Opcode uint32
	ID, Node       uint64
	_              [4]uint32
}

// mountFuse mounts a file system until the test ends.
func mountFuse(t *testing.T, dir string) *fuseDisk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("requires root to mount file systems")
	}
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("requires FUSE: ", err)
	}
	d := &fuseDisk{device: os.NewFile(uintptr(fd), "fuse")} // blocks
	if err := syscall.Mount("test", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Skip("requires FUSE: ", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.serve()
	}()
	t.Cleanup(func() {
		d.set(fuseSizes{})
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		<-ended // the last user of the mount has gone
		d.device.Close()
	})
	return d
}

// set makes statfs answer.
func (d *fuseDisk) set(sizes fuseSizes) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now = sizes; d.hangs != nil {
		close(d.hangs)
	}
	d.hangs = nil
}

// hang makes statfs hang.
func (d *fuseDisk) hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangs = make(chan struct{})
}

// serve answers requests until the file system is unmounted.
func (d *fuseDisk) serve() {
	var replies sync.WaitGroup
	defer replies.Wait()
	buffer := make([]byte, 1<<17)
	for {
		n, err := d.device.Read(buffer)
		if err != nil {
			return
		}
		var request fuseHeader
		if encoding.Read(bytes.NewReader(buffer[:n]), encoding.NativeEndian, &request) != nil {
			return
		}
		replies.Go(func() { d.answer(request) })
	}
}

// answer answers one request (linux/fuse.h).
func (d *fuseDisk) answer(request fuseHeader) {
	const getattr, statfs, initialize, discard, interrupt = 3, 17, 26, 2, 36
	var body any
	code := int32(0)
	switch request.Opcode {
	case discard, interrupt: // have no reply
		return
	case initialize:
		body = [16]uint32{7, 31, 0, 0, 0, 1 << 16, 1} // version, max_write, time_gran
	case getattr:
		attributes := struct {
			Valid              [2]uint64
			Inode, Size, Block uint64
			Times              [3]uint64
			Parts              [3]uint32
			Mode, Links        uint32
			_                  [5]uint32
		}{Inode: 1, Mode: syscall.S_IFDIR | 0o755, Links: 2}
		body = attributes
	case statfs:
		d.mu.Lock()
		hangs := d.hangs
		d.mu.Unlock()
		if hangs != nil {
			<-hangs
		}
		d.mu.Lock()
		body = d.now
		d.mu.Unlock()
	default:
		code = -int32(syscall.ENOSYS)
	}
	var reply bytes.Buffer
	header := struct {
		Length uint32
		Code   int32
		ID     uint64
	}{16, code, request.ID}
	if body != nil {
		header.Length += uint32(encoding.Size(body))
	}
	encoding.Write(&reply, encoding.NativeEndian, header)
	if body != nil {
		encoding.Write(&reply, encoding.NativeEndian, body)
	}
	io.Copy(d.device, &reply)
}

// TestDiskFaults checks that the program shows nothing that a disk cannot have, and that a disk that
// hangs costs neither the scrape nor any other figure.
func TestDiskFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := mountFuse(t, dir)
	usual := fuseSizes{Blocks: 1000, Bfree: 500, Bavail: 400, Files: 100, Ffree: 50, Bsize: 4096, Frsize: 4096}
	disk.set(usual)
	p, _ := fake(t, "api-1.51-graphdriver", "--filesystem.path=/data="+dir)
	const up = `docker_scrape_collector_success{collector="filesystems"} 1`
	figures := func() string {
		began, page := time.Now(), p.scrape()
		if took := time.Since(began); took > testTimeout/10 {
			t.Errorf("the scrape took %v", took)
		}
		var lines []string
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, "docker_filesystem_") || strings.TrimSpace(line) == up {
				name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "docker_filesystem_"), "{")
				lines = append(lines, name+" "+value[strings.LastIndex(value, " ")+1:])
			}
		}
		if !strings.Contains(page, "\ndocker_images_tagged ") {
			t.Error("the figures of images are missing")
		}
		return strings.Join(lines, ", ")
	}
	const right = "avail_bytes 1.6384e+06, files 100, files_free 50, size_bytes 4.096e+06, docker_scrape_collector_success 1"
	const unmeasured, bytesOnly = "", "avail_bytes 1.6384e+06, size_bytes 4.096e+06, docker_scrape_collector_success 1"
	p.scrapeUntil("docker_images_tagged ", up)
	tests := []struct {
		name   string
		change func(s *fuseSizes)
		want   string
		log    string
	}{
		{"as usual", func(*fuseSizes) {}, right, ""},
		{"0 of 0", func(s *fuseSizes) { *s = fuseSizes{} }, unmeasured, "no known size"},
		{"more is free than there is", func(s *fuseSizes) { s.Bavail = 1001 }, unmeasured, "no known size"},
		{"a negative number is available", func(s *fuseSizes) { s.Bavail = math.MaxUint64 }, unmeasured, "no known size"},
		{"as many blocks as can be", func(s *fuseSizes) { s.Blocks, s.Bavail = math.MaxUint64, math.MaxUint64 }, unmeasured, "no known size"},
		{"more than 2^63 bytes", func(s *fuseSizes) { s.Blocks = 1 << 60 }, unmeasured, "no known size"},
		{"blocks of no bytes", func(s *fuseSizes) { s.Bsize, s.Frsize = 0, 0 }, unmeasured, "no known size"},
		{"an unknown number of inodes", func(s *fuseSizes) { s.Files, s.Ffree = math.MaxUint64, math.MaxUint64 }, bytesOnly, ""},
		{"more free inodes than there are", func(s *fuseSizes) { s.Ffree = 101 }, bytesOnly, ""},
		{"no inodes", func(s *fuseSizes) { s.Files, s.Ffree = 0, 0 }, bytesOnly, ""},
		{"hangs", nil, unmeasured, "the file system hangs"},
	}
	for _, test := range tests {
		sizes := usual
		if test.change == nil {
			disk.hang()
		} else {
			test.change(&sizes)
			disk.set(sizes)
		}
		for range 2 { // also while it lasts
			if got := figures(); got != test.want {
				t.Errorf("%s: got %q, want %q", test.name, got, test.want)
			}
		}
		if !strings.Contains(p.log.String(), test.log) {
			t.Errorf("%s: got the log %s, want %q", test.name, p.log.String(), test.log)
		}
		disk.set(usual)
		eventually(t, "after "+test.name+", the usual figures", func() bool { return figures() == right })
	}
}
