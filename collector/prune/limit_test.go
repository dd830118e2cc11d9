package prune

import (
	"testing"

	"docker_buildup_exporter/collector/model"
)

// Sizes are certain only where they are bytes on the disk. A figure is never above what the
// disk has in use.
func TestLimit(t *testing.T) {
	for _, test := range []struct {
		name   string
		store  model.ImageStore
		change func(*model.Snapshot)
		want   Reclaimable
	}{
		{"overlay2 on ext4", model.GraphDriver, func(*model.Snapshot) {}, Reclaimable{50, 50, true}},
		{"overlayfs on ext4", model.Containerd, func(*model.Snapshot) {}, Reclaimable{50, 50, true}},
		{"overlay2 on btrfs, which can compress", model.GraphDriver, func(s *model.Snapshot) { setEngine(s, "overlay2", "btrfs") }, Reclaimable{Estimate: 50}},
		{"overlay2 on XFS, which can share blocks", model.GraphDriver, func(s *model.Snapshot) { setEngine(s, "overlay2", "xfs") }, Reclaimable{Estimate: 50}},
		{"overlay2 on an unknown file system", model.GraphDriver, func(s *model.Snapshot) { setEngine(s, "overlay2", "") }, Reclaimable{Estimate: 50}},
		{"btrfs", model.GraphDriver, func(s *model.Snapshot) { setEngine(s, "btrfs", "") }, Reclaimable{Estimate: 50}},
		{"fuse-overlayfs", model.GraphDriver, func(s *model.Snapshot) { setEngine(s, "fuse-overlayfs", "extfs") }, Reclaimable{Estimate: 50}},
		{"vfs holds the image twice for a container", model.GraphDriver, func(s *model.Snapshot) { setEngine(s, "vfs", "extfs") }, Reclaimable{Estimate: 50 + 2*32}},
		{"native holds all files twice", model.Containerd, func(s *model.Snapshot) { setEngine(s, "native", "") }, Reclaimable{Estimate: 100}},
		{"overlayfs on a file system that is not seen", model.Containerd, func(s *model.Snapshot) { s.Filesystems = nil }, Reclaimable{Estimate: 50}},
		{"overlayfs, one file system is not seen", model.Containerd, func(s *model.Snapshot) { s.Unmeasured = []string{"/x"} }, Reclaimable{Estimate: 50}},
		{"overlayfs on an unknown file system", model.Containerd, func(s *model.Snapshot) { s.Filesystems[0].Type = "" }, Reclaimable{Estimate: 50}},
		{"overlay2 on ext4, with volumes on a file system that is not known", model.GraphDriver, func(s *model.Snapshot) {
			s.Filesystems = append(s.Filesystems, model.Filesystem{Path: "/var/lib/docker/volumes", Size: 1000})
		}, Reclaimable{Estimate: 50}},
		{"overlay2 on ext4, with volumes on a file system that is not seen", model.GraphDriver, func(s *model.Snapshot) {
			s.Unmeasured = []string{"/var/lib/docker/volumes"}
		}, Reclaimable{Estimate: 50}},
		{"overlay2 on ext4 of another machine", model.GraphDriver, func(s *model.Snapshot) {
			s.Filesystems, s.Unmeasured = nil, []string{"/var/lib/docker"}
		}, Reclaimable{50, 50, true}},
		{"a sparse file", model.GraphDriver, func(s *model.Snapshot) { s.Filesystems[0].Avail = s.Filesystems[0].Size - 49 }, Reclaimable{Estimate: 49}},
		{"a sparse file, bytes are reserved", model.GraphDriver, func(s *model.Snapshot) { s.Filesystems[0].Used = model.Known[int64](40) }, Reclaimable{Estimate: 40}},
		{"a full disk", model.GraphDriver, func(s *model.Snapshot) { s.Filesystems[0].Avail = s.Filesystems[0].Size - 50 }, Reclaimable{50, 50, true}},
		{"a sparse file, another disk is not seen", model.GraphDriver, func(s *model.Snapshot) {
			s.Filesystems[0].Avail, s.Unmeasured = s.Filesystems[0].Size, []string{"/var/lib/docker"}
		}, Reclaimable{50, 50, true}},
	} {
		f := newFixture(test.store, "1.51")
		f.image("a", "", tag("a:1"), "32")
		f.container("a", model.Exited, 50)
		containers, _ := f.snapshot.Containers.Get()
		containers[0].ImageSize = model.Known[int64](32)
		test.change(&f.snapshot)
		if got := f.reclaim()[ContainerPrune]; got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func setEngine(s *model.Snapshot, driver, filesystem string) {
	engine, _ := s.Engine.Get()
	engine.StorageDriver, engine.BackingFilesystem = driver, filesystem
	s.Engine = model.Known(engine)
}

// Nothing that is removed frees nothing with any driver.
func TestLimitOfNothing(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	setEngine(&f.snapshot, "zfs", "")
	for _, command := range Commands("1.51") {
		f.expectExact(t, command, 0)
	}
}

// A layer of the vfs driver has all files of the layers below it.
func TestLayersOfVFS(t *testing.T) {
	f := newFixture(model.GraphDriver, "1.51")
	setEngine(&f.snapshot, "vfs", "extfs")
	f.image("a", "", nil, "32", "1", "1")
	f.record(model.CacheRecord{ID: "a", Size: model.Known[int64](5)})
	f.record(model.CacheRecord{ID: "b", Parents: tag("a"), Size: model.Known[int64](2)})
	f.expectBetween(t, ImagePrune, 0, 32+33+34)
	f.expectBetween(t, BuilderPrune, 0, 5+7)
	if got := Summarize(f.snapshot, 0).DiskUsage[model.Images]; got != 32+33+34 {
		t.Errorf("images use %d bytes, want 99", got)
	}
}

// A log goes with its container. If its size is unknown, the figure is not exact. Only containers
// that have run have one.
func TestLogsOfStoppedContainers(t *testing.T) {
	var unread model.Optional[int64]
	for _, test := range []struct {
		state     model.State
		keepsLog  model.Optional[bool]
		directory model.Optional[int64]
		want      Reclaimable
	}{
		{model.Exited, model.Known(false), unread, Reclaimable{7, 7, true}},
		{model.Exited, model.Known(true), unread, Reclaimable{7, 7, false}},
		{model.Exited, model.Optional[bool]{}, unread, Reclaimable{7, 7, false}},
		{model.Dead, model.Known(true), unread, Reclaimable{7, 7, false}},
		{model.Created, model.Optional[bool]{}, unread, Reclaimable{7, 7, true}},
		{model.Created, model.Known(true), unread, Reclaimable{7, 7, true}},
		{model.Exited, model.Known(true), model.Known[int64](100), Reclaimable{107, 107, true}},
		{model.Exited, model.Known(false), model.Known[int64](30), Reclaimable{37, 37, true}},
		{model.Created, model.Optional[bool]{}, model.Known[int64](20), Reclaimable{27, 27, true}},
	} {
		f := newFixture(model.GraphDriver, "1.51")
		f.contents["gone"] = model.Content{}
		f.container("gone", test.state, 7)
		f.container("gone", model.Running, 9) // its log stays
		containers, _ := f.snapshot.Containers.Get()
		containers[0].KeepsLog, containers[1].KeepsLog = test.keepsLog, model.Known(true)
		containers[0].DirectorySize, containers[0].Created = test.directory, model.Known(f.snapshot.At.Add(-2*minAge))
		f.snapshot.ContainerLogs = model.Known[int64](9999) // most of it is of the container that runs
		for _, command := range []Command{ContainerPrune, ContainerPruneUntil, SystemPrune, SystemPruneAll, SystemPruneAllVolumes} {
			if got := f.reclaim()[command]; got != test.want {
				t.Errorf("%s of %+v: got %+v", command, test, got)
			}
		}
		if got := Summarize(f.snapshot, 0).DiskUsage[model.ContainerLogs]; got != 9999 {
			t.Errorf("logs use %d bytes", got)
		}
	}
}
