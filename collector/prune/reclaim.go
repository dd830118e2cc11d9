package prune

import (
	"slices"

	"docker_buildup_exporter/collector/model"
)

// reclaim returns what each command frees if it is run alone and now. Commands overlap. A
// command without an estimate is absent.
func (h *host) reclaim(until until) map[Command]Reclaimable {
	reclaimable := make(map[Command]Reclaimable)
	for _, spec := range specs(h.engine.APIVersion) {
		if removal := h.removalBy(spec, until); h.isKnown(spec, removal) {
			reclaimable[spec.command] = h.graph.freed(removal)
		}
	}
	return reclaimable
}

// isKnown reports whether there is an estimate of a removal. The build cache may hold all
// layers of images, and containers those of the build cache. Objects that are not measured
// have no estimate, unless the request for their size failed: then they are left out.
func (h *host) isKnown(spec pruneSpec, r removal) bool {
	var sizes []bool
	for i, container := range h.containers {
		if r.likely[h.containerHolder(i)] && (container.Size.IsKnown() || !container.Failed) {
			sizes = append(sizes, container.Size.IsKnown())
		}
	}
	isMeasured := len(sizes) == 0 || slices.Contains(sizes, true)
	sizes = nil
	for i, volume := range h.volumes {
		if r.likely[h.volumeHolder(i)] {
			sizes = append(sizes, volume.Size.IsKnown())
		}
	}
	isMeasured = isMeasured && (len(sizes) == 0 || slices.Contains(sizes, true))
	return isMeasured && h.containersKnown && (spec.volumes == removeNone || h.volumesKnown) &&
		(spec.images == removeNone || h.imagesKnown && h.cacheKnown) && (spec.cache == removeNone || h.cacheKnown)
}

// limit is what the disks say about figures.
type limit struct {
	isProven bool                  // the engine's sizes are bytes on the disk
	used     model.Optional[int64] // bytes in use on all file systems that hold data of the engine
}

func newLimit(s model.Snapshot, engine model.Engine) limit {
	l := limit{isProven: provesSizes(s, engine)}
	if len(s.Filesystems) == 0 || len(s.Unmeasured) > 0 {
		return l
	}
	var used int64
	for _, fs := range s.Filesystems {
		used = saturate(used, max(0, fs.Size-fs.Avail))
	}
	l.used = model.Known(used)
	return l
}

// apply limits a figure to what the disk has in use: sparse files are larger than what they
// take. Nothing is certain of such sizes, nor where sizes are not bytes on the disk.
func (l limit) apply(r Reclaimable) Reclaimable {
	if used, known := l.used.Get(); known && r.Estimate > used {
		return Reclaimable{Estimate: used}
	}
	if !l.isProven && r.Estimate > 0 {
		return Reclaimable{Estimate: r.Estimate}
	}
	return r
}

// provesSizes reports whether the sizes of files are what removing them frees. That is not so
// with drivers that copy layers or keep them in a volume of their own, and on file systems
// that compress or share the blocks of files: an overlay shares a file of a lower layer with
// its changed copy where the file system can, as XFS (Linux: ovl_copy_up_file).
func provesSizes(s model.Snapshot, engine model.Engine) bool {
	if engine.ImageStore != model.Containerd {
		return engine.StorageDriver == "overlay2" && isPlainFilesystem(engine.BackingFilesystem)
	}
	isOther := func(fs model.Filesystem) bool { return !isPlainFilesystem(fs.Type) }
	return engine.StorageDriver == "overlayfs" && len(s.Filesystems) > 0 && len(s.Unmeasured) == 0 && !slices.ContainsFunc(s.Filesystems, isOther)
}

// isPlainFilesystem reports whether a file system neither compresses files nor shares blocks
// between them. The names are those of the Engine API (moby: graphdriver.FsNames).
func isPlainFilesystem(name string) bool { return name == "extfs" || name == "tmpfs" }
