package prune

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// FuzzLaws holds the counts to what is true of every engine, however strange.
func FuzzLaws(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("any bytes are the recipe of an inventory"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	f.Fuzz(func(t *testing.T, raw []byte) {
		images, containers := arbitrary(raw)
		count := func(images []model.Image, containers []model.Container) model.ObjectCounts {
			return model.CountObjects(model.Snapshot{Images: model.Known(images), Containers: model.Known(containers)})
		}
		counts := count(images, containers)
		value := func(o model.Optional[int]) int { n, _ := o.Get(); return n }
		sum := func(counts model.Counts) (sum int) {
			for _, count := range counts {
				sum += count.N
			}
			return sum
		}
		ids := make(map[string]bool)
		sizesKnown, digestsKnown := true, true
		for _, image := range images {
			ids[image.ID] = true
			sizesKnown = sizesKnown && image.Size.IsKnown()
			digestsKnown = digestsKnown && image.HasDigest.IsKnown()
		}

		// Every image is tagged or untagged, and has one use. Every container has one state.
		c := counts.Images
		if value(c.Tagged)+value(c.Untagged) != len(ids) || sum(c.Use) != len(ids) || len(c.Use) != 3 {
			t.Errorf("%d tagged and %d untagged images, uses %v; want %d in all", value(c.Tagged), value(c.Untagged), c.Use, len(ids))
		}
		if sum(counts.Containers.State) != len(containers) {
			t.Errorf("states %v of %d containers", counts.Containers.State, len(containers))
		}
		// A tagged image has a tag.
		if value(c.Tags) < value(c.Tagged) {
			t.Errorf("%d tags of %d tagged images", value(c.Tags), value(c.Tagged))
		}
		// Every untagged image is dangling, intermediate or digest-only, or it is unknown which.
		isKnown := c.Dangling.IsKnown()
		if isKnown != c.Intermediate.IsKnown() || isKnown != c.DigestOnly.IsKnown() || digestsKnown && !isKnown {
			t.Errorf("known: dangling %v, intermediate %v, digest-only %v; all digest references: %v",
				isKnown, c.Intermediate.IsKnown(), c.DigestOnly.IsKnown(), digestsKnown)
		}
		if parts := value(c.Dangling) + value(c.Intermediate) + value(c.DigestOnly); isKnown && parts != value(c.Untagged) {
			t.Errorf("%d dangling, intermediate and digest-only images of %d untagged", parts, value(c.Untagged))
		}
		if size, known := c.VirtualSize.Get(); known != sizesKnown || size < 0 {
			t.Errorf("virtual size %d, known: %v; all sizes known: %v", size, known, sizesKnown)
		}

		// The order of records and repeated records do not matter.
		random := rand.New(rand.NewPCG(uint64(len(raw)), 1))
		shuffled := slices.Concat(images, images)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		shuffledContainers := slices.Concat(containers, containers)
		random.Shuffle(len(shuffledContainers), func(i, j int) {
			shuffledContainers[i], shuffledContainers[j] = shuffledContainers[j], shuffledContainers[i]
		})
		if got := count(shuffled, shuffledContainers); !reflect.DeepEqual(got, counts) {
			t.Errorf("shuffled and repeated: %+v, before: %+v", got, counts)
		}
	})
}

// arbitrary makes an inventory of any bytes: few IDs, so that records meet,
// parents that are there or not, and unknowns.
func arbitrary(raw []byte) (images []model.Image, containers []model.Container) {
	next := func() int {
		if len(raw) == 0 {
			return 0
		}
		b := raw[0]
		raw = raw[1:]
		return int(b)
	}
	states := append(model.States(), "invented")
	for len(raw) > 0 {
		if next()%4 == 0 {
			containers = append(containers, model.Container{
				ID:      fmt.Sprint(len(containers)),
				ImageID: fmt.Sprint("image ", next()%12),
				State:   states[next()%len(states)],
			})
			continue
		}
		image := model.Image{ID: fmt.Sprint("image ", next()%10)}
		if parent := next() % 16; parent < 12 {
			image.Parent = fmt.Sprint("image ", parent)
		}
		for range next() % 3 {
			tag := fmt.Sprint("tag ", next()%8)
			if !slices.Contains(image.Tags, tag) {
				image.Tags = append(image.Tags, tag)
			}
		}
		if digested := next() % 8; digested > 0 {
			image.HasDigest = model.Known(digested > 5)
		}
		if size := next(); size < 250 {
			image.Size = model.Known(int64(size))
		}
		images = append(images, image)
	}
	return images, containers
}

// FuzzReclaim holds what commands free to what is true of every host. Its oracle
// prunes as a graph driver does, one thing after the other, and measures again.
func FuzzReclaim(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("any bytes are the recipe of a host"))
	f.Add([]byte{3, 1, 0, 2, 5, 9, 1, 4, 0, 7, 7, 2, 1, 0, 3, 8, 6, 2, 4, 1, 1, 5, 0, 9, 250, 13, 4, 77, 1, 9})
	f.Fuzz(func(t *testing.T, raw []byte) {
		host := arbitraryHost(raw)
		frees := reclaimable(host)
		for command, c := range cleanups("1.51") {
			// Everything is known and no layer is cached, so every figure is exact.
			got, known := frees[command]
			if !known || !got.Exact || got.Bytes < 0 {
				t.Fatalf("%s: %+v, known: %v; want an exact figure", command, got, known)
			}
			left := simulate(host, c)
			if want := total(host) - total(left); got.Bytes != want {
				t.Errorf("%s frees %d, the simulated prune %d", command, got.Bytes, want)
			}
			// Run again it frees nothing; but an image pulled by digest that another was built
			// on is spared the first time by default.
			again := reclaimable(left)[command]
			for range 10 { // a chain of them
				if c.images == some && again.Bytes > 0 {
					left = simulate(left, c)
					again = reclaimable(left)[command]
				}
			}
			if again != (Reclaimable{0, true}) {
				t.Errorf("%s frees %+v after it was run", command, again)
			}
		}
		for _, pair := range [][2]Command{
			{ImagePrune, ImagePruneAll}, {VolumePrune, VolumePruneAll}, {BuilderPrune, BuilderPruneAll},
			{SystemPrune, SystemPruneAll}, {SystemPruneAll, SystemPruneAllVolumes},
			{ContainerPrune, SystemPrune}, {ImagePrune, SystemPrune}, {BuilderPrune, SystemPrune}, {ImagePruneAll, SystemPruneAll},
		} {
			if frees[pair[0]].Bytes > frees[pair[1]].Bytes {
				t.Errorf("%s frees %d, but %s only %d", pair[0], frees[pair[0]].Bytes, pair[1], frees[pair[1]].Bytes)
			}
		}

		repositories, known := repositoriesOf(host, 255).Get()
		if !known {
			t.Fatal("repositories are unknown")
		}
		for _, repository := range repositories {
			got, known := repository.Reclaimable.Get()
			if want := total(host) - total(withoutUnused(host, repository.Name)); !known || got != (Reclaimable{want, true}) {
				t.Errorf("%+v, but its unused images free %d", repository, want)
			}
		}

		// Neither the order nor the number of records of one image matters.
		random := rand.New(rand.NewPCG(uint64(len(raw)), 1))
		images, _ := host.Images.Get()
		containers, _ := host.Containers.Get()
		cache, _ := host.BuildCache.Get()
		shuffled := host
		shuffled.Images = model.Known(shuffle(random, slices.Concat(images, images)))
		shuffled.Containers = model.Known(shuffle(random, containers))
		shuffled.BuildCache = model.Known(shuffle(random, cache))
		if got := reclaimable(shuffled); !reflect.DeepEqual(got, frees) {
			t.Errorf("shuffled: %v, before: %v", got, frees)
		}
		if got, _ := repositoriesOf(shuffled, 255).Get(); !reflect.DeepEqual(got, repositories) {
			t.Errorf("shuffled: %v, before: %v", got, repositories)
		}
		// What else the command removes does not make it free less.
		another := host
		another.Images = model.Known(append(slices.Clone(images), model.Image{ID: "another", HasDigest: model.Known(false)}))
		contents := arbitraryContents(raw)
		contents["another"] = model.Content{DiffIDs: []string{"diff 1", "diff 5"}, History: []model.Step{{Size: layerBytes(1)}, {Size: layerBytes(5)}}}
		another.Contents = contents
		if got := reclaimable(another)[ImagePruneAll]; got.Bytes < frees[ImagePruneAll].Bytes {
			t.Errorf("%s frees %d with an unused image more, before: %d", ImagePruneAll, got.Bytes, frees[ImagePruneAll].Bytes)
		}
		// On the containerd store there is always a figure of the same kind, and never a negative one.
		containerd := host
		containerd.Engine = model.Known(model.Engine{ImageStore: model.Containerd, APIVersion: "1.51"})
		for command, got := range reclaimable(containerd) {
			if got.Bytes < 0 {
				t.Errorf("containerd: %s frees %d", command, got.Bytes)
			}
		}
	})
}

func shuffle[T any](random *rand.Rand, values []T) []T {
	values = slices.Clone(values)
	random.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	return values
}

// layerBytes is the size of a diff, which tells it from all others. One has no bytes.
func layerBytes(diff int) int64 { return int64(1000*diff+diff%3) % 4001 }

// arbitraryContents are few diffs in many orders, so that layers are shared.
func arbitraryContents(raw []byte) map[string]model.Content {
	contents := make(map[string]model.Content)
	for i := range 10 {
		var content model.Content
		for j := range 4 {
			if at := 4*i + j; at < len(raw) && raw[at]%5 > 0 {
				diff := int(raw[at] % 5)
				content.DiffIDs = append(content.DiffIDs, fmt.Sprint("diff ", diff))
				content.History = append(content.History, model.Step{Size: layerBytes(diff)})
			}
		}
		contents[fmt.Sprint("image ", i)] = content
	}
	return contents
}

// arbitraryHost makes a host of any bytes of which everything is known. A parent is
// an image of a lower number.
func arbitraryHost(raw []byte) model.Snapshot {
	host := model.Snapshot{Engine: model.Known(model.Engine{ImageStore: model.GraphDriver, APIVersion: "1.51"}), Contents: arbitraryContents(raw)}
	at := func(i int) int {
		if len(raw) == 0 {
			return 0
		}
		return int(raw[i%len(raw)]) ^ i*37
	}
	var images []model.Image
	for i := range 10 {
		image := model.Image{ID: fmt.Sprint("image ", i), HasDigest: model.Known(at(i)%7 == 0)}
		if i > 0 && at(i)%2 == 0 {
			image.Parent = fmt.Sprint("image ", at(i+1)%i)
			// A parent's layers are the lowest of its child.
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
			ID: fmt.Sprint(i), ImageID: fmt.Sprint("image ", at(i+7)%10), State: states[at(i+2)%len(states)], Size: model.Known(int64(at(i))),
			Volumes: []string{fmt.Sprint("volume ", at(i+4)%4)}, CreatedFrom: model.Known(model.Reference{Tag: fmt.Sprint("tag ", at(i)%10)}),
		})
	}
	var volumes []model.Volume
	for i := range 4 {
		volumes = append(volumes, model.Volume{Name: fmt.Sprint("volume ", i), Anonymous: at(i)%2 == 0, Local: true, Size: model.Known(int64(at(i + 1)))})
	}
	var cache []model.CacheRecord // of sizes that nothing else has, or they may be of one layer
	for i := range at(2) % 6 {
		record := model.CacheRecord{ID: fmt.Sprint("record ", i), Type: []string{"regular", "internal", "frontend", "source.local"}[at(i)%4], InUse: at(i+6)%5 == 0, Size: model.Known(int64(10_000 + 8*at(i+8) + i))}
		if i > 0 {
			record.Parents = []string{fmt.Sprint("record ", at(i)%i)}
		}
		cache = append(cache, record)
	}
	host.Images, host.Containers, host.Volumes, host.BuildCache = model.Known(images), model.Known(containers), model.Known(volumes), model.Known(cache)
	return host
}

// total is what a host holds: layers that images or containers have, and the rest.
func total(host model.Snapshot) (bytes int64) {
	images, _ := host.Images.Get()
	containers, _ := host.Containers.Get()
	layers := make(map[string]int64)
	add := func(id string) {
		top, _ := layersOf(host).top(id)
		for at := top; at != bottom; at = layersOf(host).layers[at].under {
			size, _ := layersOf(host).layers[at].size.Get()
			layers[fmt.Sprint(at)] = size
		}
	}
	for _, image := range images {
		add(image.ID)
	}
	for _, container := range containers {
		add(container.ImageID)
		size, _ := container.Size.Get()
		bytes += size
	}
	for _, size := range layers {
		bytes += size
	}
	volumes, _ := host.Volumes.Get()
	for _, volume := range volumes {
		size, _ := volume.Size.Get()
		bytes += size
	}
	cache, _ := host.BuildCache.Get()
	for _, record := range cache {
		size, _ := record.Size.Get()
		bytes += size
	}
	return bytes
}

// withoutUnused removes the images of a repository that no container uses, and then
// whatever nameless image has lost all that was built on it.
func withoutUnused(host model.Snapshot, repository string) model.Snapshot {
	images, _ := host.Images.Get()
	containers, _ := host.Containers.Get()
	isUsed := func(image model.Image) bool {
		return slices.ContainsFunc(containers, func(c model.Container) bool { return c.ImageID == image.ID })
	}
	var removed, left []model.Image
	for _, image := range images {
		if slices.Contains(image.Repositories, repository) && !isUsed(image) {
			removed = append(removed, image)
		} else {
			left = append(left, image)
		}
	}
	for len(removed) > 0 {
		parent := removed[0].Parent
		removed = removed[1:]
		i := slices.IndexFunc(left, func(image model.Image) bool { return image.ID == parent })
		hasChild := slices.ContainsFunc(left, func(image model.Image) bool { return image.Parent == parent })
		if i >= 0 && !hasChild && isNameless(left[i]) && !isUsed(left[i]) {
			removed, left = append(removed, left[i]), slices.Delete(left, i, i+1)
		}
	}
	host.Images = model.Known(left)
	return host
}

// simulate removes what a command removes, one thing at a time.
func simulate(host model.Snapshot, c cleanup) model.Snapshot {
	containers, _ := host.Containers.Get()
	images, _ := host.Images.Get()
	volumes, _ := host.Volumes.Get()
	cache, _ := host.BuildCache.Get()
	if c.containers != nothing {
		containers = slices.DeleteFunc(slices.Clone(containers), func(c model.Container) bool {
			return c.State == model.Created || c.State == model.Exited || c.State == model.Dead
		})
	}
	isUsed := func(image model.Image) bool {
		return slices.ContainsFunc(containers, func(c model.Container) bool { return c.ImageID == image.ID })
	}
	hasChild := func(image model.Image) bool {
		return slices.ContainsFunc(images, func(i model.Image) bool { return i.Parent == image.ID })
	}
	if c.volumes != nothing {
		volumes = slices.DeleteFunc(slices.Clone(volumes), func(v model.Volume) bool {
			isUsed := slices.ContainsFunc(containers, func(c model.Container) bool { return slices.Contains(c.Volumes, v.Name) })
			return !isUsed && (v.Anonymous || c.volumes == all)
		})
	}
	if c.images != nothing {
		images = slices.Clone(images)
		var remove func(image model.Image)
		remove = func(image model.Image) {
			images = slices.DeleteFunc(images, func(i model.Image) bool { return i.ID == image.ID })
			for _, parent := range slices.Clone(images) {
				digested, _ := parent.HasDigest.Get()
				if parent.ID == image.Parent && len(parent.Tags) == 0 && !digested && !isUsed(parent) && !hasChild(parent) {
					remove(parent)
				}
			}
		}
		var heads []model.Image // as they are when the command begins
		for _, image := range images {
			if c.images == some && !hasChild(image) && len(image.Tags) == 0 && !isUsed(image) {
				heads = append(heads, image)
			}
		}
		for _, head := range heads {
			remove(head)
		}
		for again := c.images == all; again; {
			again = false
			for _, image := range slices.Clone(images) {
				if !isUsed(image) && !hasChild(image) {
					remove(image)
					again = true
					break
				}
			}
		}
	}
	for again := c.cache != nothing; again; {
		again = false
		for i, record := range cache {
			hasChild := slices.ContainsFunc(cache, func(r model.CacheRecord) bool { return slices.Contains(r.Parents, record.ID) })
			isOwn := record.Type == "internal" || record.Type == "frontend"
			if !record.InUse && !hasChild && (c.cache == all || !isOwn) {
				cache = slices.Delete(slices.Clone(cache), i, i+1)
				again = true
				break
			}
		}
	}
	host.Containers, host.Images, host.Volumes, host.BuildCache = model.Known(containers), model.Known(images), model.Known(volumes), model.Known(cache)
	return host
}

// appendNew appends a name that the list does not have yet.
func appendNew(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(slices.Clip(names), name)
}
