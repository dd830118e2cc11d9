package prune

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
)

// trueHost is a host with what the Engine API does not report.
type trueHost struct {
	model.Snapshot                          // as reported
	contents       map[string]model.Content // of all images, with the true history: one step for each layer
	layerOf        map[string]string        // chain of each record of the build cache that is a layer, by ID
	hasBlob        map[string]bool          // records that have a blob; containerd store only
	metadata       map[string]int64         // manifest, configuration and index of each image in bytes; containerd store only
	mountOf        map[string]string        // image that each container mounts by name, by container ID
	isNamedLately  map[string]bool          // images whose name is younger than minAge; containerd store only
}

// layerBytes returns the size of a diff. Diffs differ in size, and one has no bytes.
func layerBytes(diff int) int64 { return int64(1000*diff+diff%3) % 4001 }

// blobBytes returns the size of the blob of a diff.
func blobBytes(diff int) int64 { return layerBytes(diff)*2/5 + int64(13*diff) }

func diffID(diff int) string { return fmt.Sprint("diff ", diff) }

// diffOf returns the diff of the top layer of a chain.
func diffOf(chain string) int {
	diff, err := strconv.Atoi(chain[strings.LastIndex(chain, " ")+1:])
	if err != nil {
		panic(err)
	}
	return diff
}

// contentOf returns the content of an image of the given diffs, bottom first.
func contentOf(diffs ...int) (content model.Content) {
	for _, diff := range diffs {
		content.DiffIDs = append(content.DiffIDs, diffID(diff))
		content.History = append(content.History, model.Step{Size: layerBytes(diff)})
	}
	return content
}

// chainsIn returns the chains of all layers of a content, bottom first.
func chainsIn(content model.Content) (chains []string) {
	for i := range content.DiffIDs {
		chains = append(chains, strings.Join(content.DiffIDs[:i+1], "/"))
	}
	return chains
}

// chainsBelow returns a chain and all chains that it begins with.
func chainsBelow(chain string) []string {
	return chainsIn(model.Content{DiffIDs: strings.Split(chain, "/")})
}

// arbitraryContents returns ten images of few diffs in many orders, so that layers are
// shared.
func arbitraryContents(raw []byte) map[string]model.Content {
	contents := make(map[string]model.Content)
	for i := range 10 {
		var diffs []int
		for at := 4 * i; at < min(4*i+4, len(raw)); at++ {
			if diff := int(raw[at] % 5); diff > 0 {
				diffs = append(diffs, diff)
			}
		}
		contents[imageID(i)] = contentOf(diffs...)
	}
	return contents
}

// arbitraryHost derives a graph driver's host from bytes. A parent has a lower number than
// its child. The sizes of the build cache's records are unique, because records of equal
// size may be of one layer.
func arbitraryHost(raw []byte) trueHost {
	host := trueHost{contents: arbitraryContents(raw)}
	host.Engine, host.Contents = model.Known(overlay2("1.51")), host.contents
	at := func(i int) int {
		if len(raw) == 0 {
			return 0
		}
		return byteAt(raw, i) ^ i*37
	}
	host.At, host.Filesystems = time.Unix(1e9, 0), plainDisk()
	date := func(i int) model.Optional[time.Time] {
		return model.Known(host.At.Add(-time.Duration(at(i)) * 2 * time.Hour)) // up to three weeks ago
	}
	var images []model.Image
	for i := range 10 {
		image := model.Image{ID: imageID(i), HasDigest: model.Known(at(i)%7 == 0), Size: model.Known(sizeOf(host.contents[imageID(i)]))}
		created, _ := date(i + 2).Get()
		image.Created = model.Known(created.Unix())
		if i > 0 && at(i)%2 == 0 {
			image.Parent = imageID(at(i+1) % i)
		}
		if at(i+3)%3 == 0 {
			image.Tags = []string{fmt.Sprint("tag ", i)}
		}
		for range at(i+9) % 3 {
			image.Repositories = appendNew(image.Repositories, fmt.Sprint("repository ", at(i+len(image.Repositories))%4))
		}
		if at(i+5)%6 > 0 {
			images = append(images, image)
		}
	}
	var containers []model.Container
	states := model.States()
	for i := range at(1) % 5 {
		containers = append(containers, model.Container{
			Created: date(i + 3), KeepsLog: model.Known(false),
			ID: fmt.Sprint(i), ImageID: imageID(at(i+7) % 10), State: states[at(i+2)%len(states)], Size: model.Known(int64(at(i))),
			ImageSize: model.Known(sizeOf(host.contents[imageID(at(i+7)%10)])),
			Volumes:   []string{fmt.Sprint("volume ", at(i+4)%4)}, CreatedFrom: model.Known(model.Reference{Tag: fmt.Sprint("tag ", at(i)%10)}),
		})
	}
	var volumes []model.Volume
	for i := range 4 {
		volumes = append(volumes, model.Volume{Name: fmt.Sprint("volume ", i), Anonymous: at(i)%2 == 0, Local: true, Size: model.Known(int64(at(i + 1)))})
	}
	var cache []model.CacheRecord
	for i := range at(2) % 6 {
		record := model.CacheRecord{ID: fmt.Sprint("record ", i), Type: []string{"regular", "internal", "frontend", "source.local"}[at(i)%4], InUse: at(i+6)%5 == 0, Size: model.Known(int64(10_000 + 8*at(i+8) + i))}
		if at(i)%3 > 0 {
			record.LastUsedAt = date(i + 1)
		}
		if i > 0 {
			record.Parents = []string{fmt.Sprint("record ", at(i)%i)}
		}
		cache = append(cache, record)
	}
	host.Images, host.Containers, host.Volumes, host.BuildCache = model.Known(images), model.Known(containers), model.Known(volumes), model.Known(cache)
	return host
}

// withoutRepeats changes bytes so that no image has a diff twice.
func withoutRepeats(raw []byte) []byte {
	raw = slices.Clone(raw)
	for i := range min(40, len(raw)) {
		group := raw[i/4*4 : i]
		for slices.ContainsFunc(group, func(b byte) bool { return b%5 == raw[i]%5 && b%5 > 0 }) {
			raw[i]++
		}
	}
	return raw
}

// sizeOf returns the sum of the sizes of the layers of an image.
func sizeOf(content model.Content) (bytes int64) {
	for _, step := range content.History {
		bytes += step.Size
	}
	return bytes
}

// appendNew appends a name that the list does not have yet.
func appendNew(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(slices.Clip(names), name)
}

// arbitraryCachedHost is an arbitraryHost whose build cache records are layers, whose
// histories have steps that made no layer, and whose containers mount images by name.
func arbitraryCachedHost(raw []byte) trueHost {
	host := arbitraryHost(raw)
	host.Contents, host.layerOf, host.mountOf = maps.Clone(host.contents), make(map[string]string), make(map[string]string)
	for i := range 10 {
		if content := host.contents[imageID(i)]; len(raw) > 0 && byteAt(raw, 3*i+1)%4 == 0 {
			content.History = slices.Insert(slices.Clone(content.History), int(raw[0])%(len(content.History)+1), model.Step{})
			host.Contents[imageID(i)] = content
		}
	}
	containers, _ := host.Containers.Get()
	for i := range containers {
		if at := byteAt(raw, i); at%3 == 0 {
			containers[i].MountedImages = []string{fmt.Sprint("tag ", at%10)}
			host.mountOf[containers[i].ID] = imageID(at / 3 % 10)
		}
	}
	var chains []string
	for i := range 10 {
		for _, chain := range chainsIn(host.contents[imageID(i)]) {
			chains = appendNew(chains, chain)
		}
	}
	recordOf := make(map[string]string) // by chain
	var cache []model.CacheRecord
	for i, chain := range chains {
		at := byteAt(raw, 7*i+3) ^ i
		below := chain[:max(0, strings.LastIndex(chain, "/"))]
		parent, hasParent := recordOf[below]
		if at%3 == 0 || !hasParent && below != "" { // a record holds the records that it was made from
			continue
		}
		record := model.CacheRecord{ID: fmt.Sprint("record ", i), Type: "regular", Size: model.Known(layerBytes(diffOf(chain))), InUse: at%11 == 0, ExcludesSnapshot: at%7 == 0}
		host.layerOf[record.ID], recordOf[chain] = chain, record.ID
		if hasParent {
			record.Parents = []string{parent}
		}
		if hasParent && at%5 == 0 { // a merge, as of COPY --link
			record.Parents = []string{parent, "another"}
		}
		if record.ExcludesSnapshot {
			record.Size = model.Known[int64](0)
		}
		cache = append(cache, record)
		if at%13 == 0 { // another record of the same layer, as of a build without the cache
			record.ID, record.ExcludesSnapshot, record.Size = fmt.Sprint("twin ", i), false, model.Known(layerBytes(diffOf(chain)))
			host.layerOf[record.ID] = chain
			cache = append(cache, record)
			if at%2 == 0 { // the next layer is made from it
				recordOf[chain] = record.ID
			}
		}
	}
	host.BuildCache = model.Known(host.share(cache))
	return host
}

// onContainerd returns the same host with the containerd store.
func onContainerd(host trueHost, raw []byte) trueHost {
	host.Engine = model.Known(overlayfs("1.51"))
	host.hasBlob, host.metadata, host.isNamedLately = make(map[string]bool), make(map[string]int64), make(map[string]bool)
	for i := range 10 {
		host.isNamedLately[imageID(i)] = byteAt(raw, i+6)%2 == 0
	}
	containers, _ := host.Containers.Get()
	containers = slices.Clone(containers)
	for i := range containers {
		if byteAt(raw, 5*i+2)%4 == 0 {
			containers[i].CreatedFrom = model.Known(model.Reference{Pinned: true})
		}
	}
	host.Containers = model.Known(containers)
	cache, _ := host.BuildCache.Get()
	cache = slices.Clone(cache)
	for i, record := range cache {
		chain, isLayer := host.layerOf[record.ID]
		if !isLayer {
			continue
		}
		// A record without a blob has no child with one: BuildKit exports chains.
		hasParentBlob := !slices.ContainsFunc(record.Parents, func(parent string) bool { return host.layerOf[parent] != "" && !host.hasBlob[parent] })
		blob := blobBytes(diffOf(chain))
		switch {
		case record.ExcludesSnapshot:
			host.hasBlob[record.ID] = true
			cache[i].Size = model.Known(blob)
		case hasParentBlob && byteAt(raw, 3*i+4)%2 == 0:
			host.hasBlob[record.ID] = true
			cache[i].Size = model.Known(layerBytes(diffOf(chain)) + blob)
		}
	}
	host.BuildCache = model.Known(host.share(cache))

	images, _ := host.Images.Get()
	images = slices.Clone(images)
	var list []model.Image // without images that are newer than the list
	for i := range images {
		if byteAt(raw, 13)%3 > 0 || byteAt(raw, 14)%10 != i {
			list = append(list, images[i])
		}
	}
	for i := range images {
		images[i].Sizes = &model.StoreSizes{IndexSize: int64(byteAt(raw, i) % 3)}
		host.metadata[images[i].ID] = int64(100+byteAt(raw, i+1)%5) + images[i].Sizes.IndexSize
		images[i] = host.withSizes(images[i], list)
	}
	for i := range list {
		list[i] = images[slices.IndexFunc(images, func(image model.Image) bool { return image.ID == list[i].ID })]
	}
	host.Images, host.ListedImages = model.Known(images), list
	return host
}

// withSizes sets the sizes of an image as the containerd store reports them in a list.
func (h trueHost) withSizes(image model.Image, list []model.Image) model.Image {
	hasLayer, hasDiff := make(map[string]int), make(map[string]int) // number of images
	for _, other := range list {
		seen := make(map[string]bool)
		for _, chain := range chainsIn(h.contents[other.ID]) {
			hasLayer[chain]++
			if diff := diffID(diffOf(chain)); !seen[diff] {
				seen[diff] = true
				hasDiff[diff]++
			}
		}
	}
	var unpacked, blobs, shared int64
	seen := make(map[string]bool)
	for _, chain := range chainsIn(h.contents[image.ID]) {
		diff := diffOf(chain)
		unpacked += layerBytes(diff)
		blobs += blobBytes(diff)
		if hasLayer[chain] > 1 {
			shared += layerBytes(diff)
		}
		if !seen[diffID(diff)] && hasDiff[diffID(diff)] > 1 {
			shared += blobBytes(diff)
		}
		seen[diffID(diff)] = true
	}
	image.Sizes.Unpacked, image.Sizes.SharedSize = model.Known(unpacked), model.Known(shared)
	image.Size = model.Known(unpacked + blobs + h.metadata[image.ID] - image.Sizes.IndexSize)
	return image
}

func (h trueHost) isContainerd() bool {
	engine, _ := h.Engine.Get()
	return engine.ImageStore == model.Containerd
}

// bytes returns what is on the disk: everything that an object reaches, once.
func (h trueHost) bytes() (sum int64) {
	disk := make(map[string]int64)
	add := func(chains []string) {
		for _, chain := range chains {
			disk["layer "+chain] = layerBytes(diffOf(chain))
		}
	}
	images, _ := h.Images.Get()
	for _, image := range images {
		add(chainsIn(h.contents[image.ID]))
		if h.isContainerd() {
			disk["metadata "+image.ID] = h.metadata[image.ID]
			for _, diff := range h.contents[image.ID].DiffIDs {
				disk["blob "+diff] = blobBytes(diffOf(diff))
			}
		}
	}
	containers, _ := h.Containers.Get()
	for _, container := range containers {
		add(chainsIn(h.contents[container.ImageID]))
		add(chainsIn(h.contents[h.mountOf[container.ID]]))
		disk["container "+container.ID], _ = container.Size.Get()
	}
	volumes, _ := h.Volumes.Get()
	for _, volume := range volumes {
		disk["volume "+volume.Name], _ = volume.Size.Get()
	}
	cache, _ := h.BuildCache.Get()
	for _, record := range cache {
		chain, isLayer := h.layerOf[record.ID]
		switch {
		case !isLayer:
			disk["record "+record.ID], _ = record.Size.Get()
		case h.isContainerd() && !record.ExcludesSnapshot:
			disk["record "+record.ID] = layerBytes(diffOf(chain))
		default:
			add(chainsBelow(chain))
		}
		if h.hasBlob[record.ID] {
			disk["blob "+diffID(diffOf(chain))] = blobBytes(diffOf(chain))
		}
	}
	for _, size := range disk {
		sum += size
	}
	return sum
}

// share sets whether an image has the layer of each record and, with the containerd store,
// its blob.
func (h trueHost) share(cache []model.CacheRecord) []model.CacheRecord {
	images, _ := h.Images.Get()
	isListed := make(map[string]bool)
	for _, image := range images {
		for _, chain := range chainsIn(h.contents[image.ID]) {
			isListed[chain] = true
		}
	}
	shared := slices.Clone(cache)
	for i, record := range shared {
		shared[i].Shared = isListed[h.layerOf[record.ID]] && (h.hasBlob[record.ID] || !h.isContainerd())
	}
	return shared
}
