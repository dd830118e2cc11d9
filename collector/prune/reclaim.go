package prune

import (
	"math"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// reclaim returns what each command frees if it is run alone and now. Commands overlap. A
// command without an estimate is absent.
func (h *host) reclaim(s model.Snapshot) map[Command]Reclaimable {
	reclaimable := make(map[Command]Reclaimable)
	for _, spec := range specs(h.engine.APIVersion) {
		removal := h.removalBy(spec, s.At.Add(-minAge))
		if !h.isKnown(spec, removal) {
			continue
		}
		freed := h.graph.freed(removal)
		usesStore := spec.containers+spec.images+spec.cache != removeNone
		if s.StoreStale && usesStore || h.isStale && (spec.images != removeNone && freed.Estimate > 0 || spec.cache != removeNone) {
			freed = Reclaimable{Estimate: freed.Estimate}
		}
		reclaimable[spec.command] = freed
	}
	return reclaimable
}

// isKnown reports whether there is an estimate of a removal. The build cache may hold all
// layers of images, and containers those of the build cache. Objects that are not measured
// have no estimate, unless the request for their size failed: then they are left out.
func (h *host) isKnown(spec pruneSpec, r removal) bool {
	return !r.isUnknown && h.containersKnown && (spec.volumes == removeNone || h.volumesKnown) &&
		(spec.images == removeNone || h.imagesKnown && (h.cacheKnown || h.content != nil || !slices.Contains(r.likely[:len(h.images)], true))) &&
		(spec.cache == removeNone || h.cacheKnown)
}

// limitOf returns a function that limits a figure to what the disk has in use: sparse files
// are larger than what they take. Nothing is certain of such sizes, nor where the engine's
// sizes are not bytes on the disk.
func limitOf(s model.Snapshot, engine model.Engine) func(Reclaimable) Reclaimable {
	isProven, used := provesSizes(s, engine), int64(0)
	for _, fs := range s.Filesystems {
		used = saturate(used, sizeOr(fs.Used, max(0, fs.Size-fs.Avail)))
	}
	if len(s.Filesystems) == 0 || len(s.Unmeasured) > 0 {
		used = math.MaxInt64
	}
	return func(r Reclaimable) Reclaimable {
		if r.Estimate > used || !isProven && r.Estimate > 0 {
			return Reclaimable{Estimate: min(r.Estimate, used)}
		}
		return r
	}
}

// provesSizes reports whether the sizes of files are what removing them frees. That is not so
// with drivers that copy layers or keep them in a volume of their own, and on file systems
// that compress or share the blocks of files: an overlay shares a file of a lower layer with
// its changed copy where the file system can, as XFS (Linux: ovl_copy_up_file). A graph driver
// reports the file system that it is on, but none that is mounted below the root directory.
func provesSizes(s model.Snapshot, engine model.Engine) bool {
	isOther := func(fs model.Filesystem) bool { return !isPlainFilesystem(fs.Type) }
	isMount := func(path string) bool { return path != engine.RootDir }
	switch {
	case slices.ContainsFunc(s.Filesystems, isOther) || slices.ContainsFunc(s.Unmeasured, isMount):
		return false
	case engine.ImageStore == model.Containerd:
		return engine.StorageDriver == "overlayfs" && len(s.Filesystems) > 0 && len(s.Unmeasured) == 0
	default:
		return engine.StorageDriver == "overlay2" && isPlainFilesystem(engine.BackingFilesystem)
	}
}

// isPlainFilesystem reports whether a file system neither compresses files nor shares blocks
// between them. The names are those of the Engine API (moby: graphdriver.FsNames).
func isPlainFilesystem(name string) bool { return name == "extfs" || name == "tmpfs" }
