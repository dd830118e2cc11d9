package prune

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"docker_buildup_exporter/collector/model"
)

// FuzzReclaim checks what commands free on hosts of which everything is known and whose
// build cache shares no layer with images, against simulated prunes.
func FuzzReclaim(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("any bytes are the recipe of a host"))
	f.Add([]byte{3, 1, 0, 2, 5, 9, 1, 4, 0, 7, 7, 2, 1, 0, 3, 8, 6, 2, 4, 1, 1, 5, 0, 9, 250, 13, 4, 77, 1, 9})
	f.Fuzz(func(t *testing.T, raw []byte) {
		host := arbitraryHost(raw)
		freed := host.check(t)
		for command, got := range freed {
			if !got.Exact && !strings.HasSuffix(string(command), "until=168h") {
				t.Errorf("%s: %+v, want an exact figure", command, got)
			}
		}
		checkRepeated(t, host)
		checkOrder(t, freed)
		checkRepositories(t, host)
		checkShuffled(t, host, rand.New(rand.NewPCG(uint64(len(raw)), 1)))
		checkMoreImages(t, host, freed)
		checkFailures(t, host, raw)
		checkContainerd(t, arbitraryHost, raw)
	})
}

// FuzzShared checks what commands free on hosts whose build cache shares layers with
// images. The simulation knows which layer each record is of, the estimate does not.
func FuzzShared(f *testing.F) {
	f.Add([]byte("any bytes are the recipe of a host"))
	f.Add([]byte{3, 1, 0, 2, 5, 9, 1, 4, 0, 7, 7, 2, 1, 0, 3, 8, 6, 2, 4, 1, 1, 5, 0, 9, 250, 13, 4, 77, 1, 9})
	f.Fuzz(func(t *testing.T, raw []byte) {
		host := arbitraryCachedHost(raw)
		host.check(t)
		checkFailures(t, host, raw)
		checkContainerd(t, arbitraryCachedHost, raw)
	})
}

// checkContainerd checks a host with the containerd store. The sizes of blobs that an image
// has twice are unknown, so half of the hosts have none.
func checkContainerd(t *testing.T, arbitrary func([]byte) trueHost, raw []byte) {
	if byteAt(raw, 0)%2 == 0 {
		raw = withoutRepeats(raw)
	}
	host := onContainerd(arbitrary(raw), raw)
	host.check(t)
	checkFailures(t, host, raw)
}

// check compares what each command frees with a simulated prune.
func (h trueHost) check(t *testing.T) map[Command]Reclaimable {
	t.Helper()
	return h.compare(t, h)
}

// compare compares what each command frees with a simulated prune of the true host: no minimum
// is too high, and no exact figure is wrong.
func (h trueHost) compare(t *testing.T, truth trueHost) map[Command]Reclaimable {
	t.Helper()
	freed, before := reclaimable(h.Snapshot), truth.bytes()
	for _, spec := range specs("1.51") {
		got, known := freed[spec.command]
		if !known && !slices.ContainsFunc(mustGet(h.Containers), func(c model.Container) bool { return c.Failed }) {
			t.Errorf("%s: unknown", spec.command)
		}
		want := before - truth.after(spec).bytes()
		if got.Minimum < 0 || got.Minimum > want || got.Minimum > got.Estimate || got.Exact && (got.Minimum != want || got.Estimate != want) {
			t.Errorf("%s frees %+v, the simulated prune %d", spec.command, got, want)
		}
	}
	return freed
}

func mustGet[T any](o model.Optional[T]) T {
	value, _ := o.Get()
	return value
}

// checkRepeated checks that a command frees nothing when it is run again. Untagged images
// that were pulled by digest need several runs: each removes one generation.
func checkRepeated(t *testing.T, host trueHost) {
	for _, spec := range specs("1.51") {
		left := host.after(spec)
		for range 10 {
			if spec.images == removeDefault {
				left = left.after(spec)
			}
		}
		if again := reclaimable(left.Snapshot)[spec.command]; again.Estimate != 0 {
			t.Errorf("%s frees %+v after it was run", spec.command, again)
		}
	}
}

// checkOrder checks that a command frees no more than one that removes more.
func checkOrder(t *testing.T, freed map[Command]Reclaimable) {
	for _, pair := range [][2]Command{
		{ImagePrune, ImagePruneAll}, {VolumePrune, VolumePruneAll}, {BuilderPrune, BuilderPruneAll},
		{SystemPrune, SystemPruneAll}, {SystemPruneAll, SystemPruneAllVolumes},
		{ContainerPruneUntil, ContainerPrune}, {ImagePruneAllUntil, ImagePruneAll}, {BuilderPruneUntil, BuilderPrune},
		{ContainerPrune, SystemPrune}, {ImagePrune, SystemPrune}, {BuilderPrune, SystemPrune}, {ImagePruneAll, SystemPruneAll},
	} {
		if freed[pair[0]].Estimate > freed[pair[1]].Estimate || freed[pair[0]].Minimum > freed[pair[1]].Minimum {
			t.Errorf("%s frees %+v, but %s only %+v", pair[0], freed[pair[0]], pair[1], freed[pair[1]])
		}
	}
}

// checkRepositories compares repositories with a simulated removal of their unused images.
func checkRepositories(t *testing.T, host trueHost) {
	repositories, known := repositoriesOf(host.Snapshot, 255).Get()
	if !known {
		t.Fatal("repositories are unknown")
	}
	before := host.bytes()
	for _, repository := range repositories {
		want := before - host.withoutUnused(repository.Name).bytes()
		if got := repository.Reclaimable; got != model.Known(want) {
			t.Errorf("%+v, but its unused images free %d", repository, want)
		}
	}
}

// checkShuffled checks that neither the order of objects nor the number of records of one
// image matters.
func checkShuffled(t *testing.T, host trueHost, random *rand.Rand) {
	images, _ := host.Images.Get()
	containers, _ := host.Containers.Get()
	cache, _ := host.BuildCache.Get()
	shuffled := host.Snapshot
	shuffled.Images = model.Known(shuffle(random, slices.Concat(images, images)))
	shuffled.Containers = model.Known(shuffle(random, containers))
	shuffled.BuildCache = model.Known(shuffle(random, cache))
	if got, want := reclaimable(shuffled), reclaimable(host.Snapshot); !maps.Equal(got, want) {
		t.Errorf("shuffled: %v, before: %v", got, want)
	}
	got, _ := repositoriesOf(shuffled, 255).Get()
	if want, _ := repositoriesOf(host.Snapshot, 255).Get(); !reflect.DeepEqual(got, want) {
		t.Errorf("shuffled: %v, before: %v", got, want)
	}
}

func shuffle[T any](random *rand.Rand, values []T) []T {
	values = slices.Clone(values)
	random.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	return values
}

// checkMoreImages checks that a command does not free less if it removes one more image.
func checkMoreImages(t *testing.T, host trueHost, freed map[Command]Reclaimable) {
	images, _ := host.Images.Get()
	host.Images = model.Known(append(slices.Clone(images), model.Image{ID: "another", HasDigest: model.Known(false)}))
	host.Contents = maps.Clone(host.Contents)
	host.Contents["another"] = contentOf(1, 5)
	if got := reclaimable(host.Snapshot)[ImagePruneAll]; got.Estimate < freed[ImagePruneAll].Estimate {
		t.Errorf("%s frees %d with one more unused image, before: %d", ImagePruneAll, got.Estimate, freed[ImagePruneAll].Estimate)
	}
}

// checkFailures checks the host again with failed requests for some images, and then also
// for some containers.
func checkFailures(t *testing.T, host trueHost, raw []byte) {
	host.Contents, host.FailedImages = maps.Clone(host.Contents), make(map[string]bool)
	for i := range 10 {
		if id := imageID(i); byteAt(raw, 2*i+5)%3 == 0 {
			delete(host.Contents, id)
			host.FailedImages[id] = true
		}
	}
	host.check(t)
	containers, _ := host.Containers.Get()
	containers = slices.Clone(containers)
	for i := range containers {
		if byteAt(raw, 3*i+1)%2 == 0 {
			containers[i].Failed = true
			containers[i].Size, containers[i].CreatedFrom = model.Optional[int64]{}, model.Optional[model.Reference]{}
		}
	}
	truth := host
	host.Containers = model.Known(containers)
	host.compare(t, truth)
}

func byteAt(raw []byte, i int) int {
	if len(raw) == 0 {
		return 0
	}
	return int(raw[i%len(raw)])
}

func imageID(i int) string { return fmt.Sprint("image ", i) }
