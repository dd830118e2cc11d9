package model

import (
	"math"
	"reflect"
	"testing"
	"time"
)

func TestCountImages(t *testing.T) {
	var (
		yes     = Known(true)
		no      = Known(false)
		unknown = Optional[bool]{}
	)
	tests := []struct {
		name   string
		images []Image
		want   ImageCounts
	}{
		{
			name: "no images: all counts are 0",
			want: ImageCounts{Tagged: Known(0), Untagged: Known(0), Dangling: Known(0), Intermediate: Known(0), DigestOnly: Known(0), Tags: Known(0), VirtualSize: Known(int64(0))},
		},
		{
			name:   "three tags on one image are one image",
			images: []Image{{ID: "a", Tags: []string{"x:1", "x:2", "y:1"}, HasDigest: no, Size: Known(int64(7))}},
			want:   ImageCounts{Tagged: Known(1), Untagged: Known(0), Dangling: Known(0), Intermediate: Known(0), DigestOnly: Known(0), Tags: Known(3), VirtualSize: Known(int64(7))},
		},
		{
			name: "an untagged image is dangling, digest-only or intermediate",
			images: []Image{
				{ID: "dangling", HasDigest: no, Size: Known(int64(1))},
				{ID: "digest-only", HasDigest: yes, Size: Known(int64(1))},
				{ID: "intermediate", HasDigest: no, Size: Known(int64(1))},
				{ID: "child", Parent: "intermediate", Tags: []string{"x:1"}, HasDigest: no, Size: Known(int64(1))},
			},
			want: ImageCounts{Tagged: Known(1), Untagged: Known(3), Dangling: Known(1), Intermediate: Known(1), DigestOnly: Known(1), Tags: Known(1), VirtualSize: Known(int64(4))},
		},
		{
			name: "a parent that has a tag or a digest reference is not intermediate",
			images: []Image{
				{ID: "tagged", Tags: []string{"x:1"}, HasDigest: no, Size: Known(int64(1))},
				{ID: "digest-only", HasDigest: yes, Size: Known(int64(1))},
				{ID: "child", Parent: "tagged", HasDigest: no, Size: Known(int64(1))},
				{ID: "other child", Parent: "digest-only", HasDigest: no, Size: Known(int64(1))},
			},
			want: ImageCounts{Tagged: Known(1), Untagged: Known(3), Dangling: Known(2), Intermediate: Known(0), DigestOnly: Known(1), Tags: Known(1), VirtualSize: Known(int64(4))},
		},
		{
			name:   "the parent was removed",
			images: []Image{{ID: "a", Parent: "gone", HasDigest: no, Size: Known(int64(1))}},
			want:   ImageCounts{Tagged: Known(0), Untagged: Known(1), Dangling: Known(1), Intermediate: Known(0), DigestOnly: Known(0), Tags: Known(0), VirtualSize: Known(int64(1))},
		},
		{
			name: "records of one ID are one image with all their tags",
			images: []Image{
				{ID: "a", Tags: []string{"x:1"}, HasDigest: no, Size: Known(int64(5))},
				{ID: "a", Tags: []string{"x:1", "y:1"}, HasDigest: no, Size: Known(int64(9))},
				{ID: "a", HasDigest: yes, Size: Known(int64(5))},
			},
			want: ImageCounts{Tagged: Known(1), Untagged: Known(0), Dangling: Known(0), Intermediate: Known(0), DigestOnly: Known(0), Tags: Known(2), VirtualSize: Known(int64(9))},
		},
		{
			name:   "the size of an image is unknown if that of a later record is",
			images: []Image{{ID: "a", HasDigest: no, Size: Known(int64(5))}, {ID: "a", HasDigest: no}},
			want:   ImageCounts{Tagged: Known(0), Untagged: Known(1), Dangling: Known(1), Intermediate: Known(0), DigestOnly: Known(0), Tags: Known(0)},
		},
		{
			name:   "the size of an image is unknown if that of its first record is",
			images: []Image{{ID: "a", HasDigest: no}, {ID: "a", HasDigest: no, Size: Known(int64(5))}},
			want:   ImageCounts{Tagged: Known(0), Untagged: Known(1), Dangling: Known(1), Intermediate: Known(0), DigestOnly: Known(0), Tags: Known(0)},
		},
		{
			name: "an unknown digest reference makes only the parts of untagged unknown",
			images: []Image{
				{ID: "a", HasDigest: unknown, Size: Known(int64(1))},
				{ID: "b", Tags: []string{"x:1"}, HasDigest: unknown, Size: Known(int64(1))},
			},
			want: ImageCounts{Tagged: Known(1), Untagged: Known(1), Tags: Known(1), VirtualSize: Known(int64(2))},
		},
		{
			name: "one unknown size makes the sum unknown",
			images: []Image{
				{ID: "a", HasDigest: no, Size: Known(int64(1))},
				{ID: "b", HasDigest: no},
			},
			want: ImageCounts{Tagged: Known(0), Untagged: Known(2), Dangling: Known(2), Intermediate: Known(0), DigestOnly: Known(0), Tags: Known(0)},
		},
		{
			name: "a sum that overflows is unknown",
			images: []Image{
				{ID: "a", HasDigest: no, Size: Known(int64(math.MaxInt64))},
				{ID: "b", HasDigest: no, Size: Known(int64(1))},
			},
			want: ImageCounts{Tagged: Known(0), Untagged: Known(2), Dangling: Known(2), Intermediate: Known(0), DigestOnly: Known(0), Tags: Known(0)},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := countImages(Distinct(test.images)); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

// An image has a digest reference if one of its records has one, and none if no record has.
func TestDistinctDigests(t *testing.T) {
	yes, no, unknown := Known(true), Known(false), Optional[bool]{}
	for _, test := range []struct{ a, b, want Optional[bool] }{
		{yes, yes, yes}, {yes, no, yes}, {no, yes, yes}, {no, no, no},
		{yes, unknown, yes}, {unknown, yes, yes}, {no, unknown, unknown}, {unknown, no, unknown}, {unknown, unknown, unknown},
	} {
		images := Distinct([]Image{{ID: "a", HasDigest: test.a}, {ID: "a", HasDigest: test.b}})
		if len(images) != 1 || images[0].HasDigest != test.want {
			t.Errorf("%v and %v: %v, want %v", test.a, test.b, images[0].HasDigest, test.want)
		}
	}
}

func TestCountUse(t *testing.T) {
	image := func(id string) Image { return Image{ID: id} }
	for _, state := range append(States(), "invented") {
		want := Counts{{UseRunning, 0}, {UseStopped, 1}, {UseNone, 1}}
		if state == Running || state == Paused || state == Restarting {
			want = Counts{{UseRunning, 1}, {UseStopped, 0}, {UseNone, 1}}
		}
		got := countUse([]Image{image("a"), image("b")}, []Container{{ID: "1", ImageID: "a", State: state}})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("a container is %s: got %v, want %v", state, got, want)
		}
	}

	tests := []struct {
		name       string
		images     []Image
		containers []Container
		want       Counts
	}{
		{
			name: "no images: all counts are 0",
			want: Counts{{UseRunning, 0}, {UseStopped, 0}, {UseNone, 0}},
		},
		{
			name:   "the most active container counts",
			images: []Image{image("a")},
			containers: []Container{
				{ID: "1", ImageID: "a", State: Exited},
				{ID: "2", ImageID: "a", State: Running},
				{ID: "3", ImageID: "a", State: Exited},
			},
			want: Counts{{UseRunning, 1}, {UseStopped, 0}, {UseNone, 0}},
		},
		{
			name:       "the image of a container was removed",
			images:     []Image{image("a")},
			containers: []Container{{ID: "1", ImageID: "removed", State: Running}},
			want:       Counts{{UseRunning, 0}, {UseStopped, 0}, {UseNone, 1}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := countUse(test.images, test.containers); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// Records of one ID are merged whatever their order.
func TestDistinct(t *testing.T) {
	record := func(size int64, hasDigest Optional[bool], tags ...string) Image {
		return Image{ID: "a", Size: Known(size), HasDigest: hasDigest, Tags: tags}
	}
	unknownSize := Image{ID: "a", HasDigest: Known(false)}
	yes, no, unknown := Known(true), Known(false), Optional[bool]{}
	tests := []struct {
		name         string
		a, b         Image
		size         Optional[int64]
		hasDigest    Optional[bool]
		tags         int
		hasPlatforms bool
	}{
		{"equal records", record(5, no, "x:1"), record(5, no, "x:1"), Known(int64(5)), no, 1, false},
		{"another tag", record(5, no, "x:1"), record(5, no, "y:1"), Known(int64(5)), no, 2, false},
		{"another size", record(5, no), record(9, no), Known(int64(9)), no, 0, true},
		{"an unknown size", record(5, no), unknownSize, Optional[int64]{}, no, 0, true},
		{"a digest reference", record(5, no), record(5, yes), Known(int64(5)), yes, 0, false},
		{"a digest reference or none", record(5, unknown), record(5, yes), Known(int64(5)), yes, 0, false},
		{"perhaps a digest reference", record(5, no), record(5, unknown), Known(int64(5)), unknown, 0, false},
	}
	for _, test := range tests {
		for _, records := range [][]Image{{test.a, test.b}, {test.b, test.a}} {
			got := Distinct(records)
			if len(got) != 1 || got[0].Size != test.size || got[0].HasDigest != test.hasDigest || len(got[0].Tags) != test.tags || got[0].StoreSizes().SeveralPlatforms != test.hasPlatforms {
				t.Errorf("%s: got %+v", test.name, got)
			}
		}
	}
}

// Records of one ID have a parent if one of them has, and the repositories of all of them.
func TestDistinctParentAndRepositories(t *testing.T) {
	a := Image{ID: "a", Parent: "base", Repositories: []string{"x", "y"}}
	b := Image{ID: "a", Repositories: []string{"y", "z"}}
	for _, test := range []struct {
		records []Image
		want    []string
	}{{[]Image{a, b}, []string{"x", "y", "z"}}, {[]Image{b, a}, []string{"y", "z", "x"}}} {
		got := Distinct(test.records)
		if len(got) != 1 || got[0].Parent != "base" || !reflect.DeepEqual(got[0].Repositories, test.want) {
			t.Errorf("got %+v, want the parent and %v", got, test.want)
		}
	}
}

// Unused images are counted by age. A container in any state uses its image.
func TestCountUnused(t *testing.T) {
	now := time.Unix(1e9, 0)
	image := func(id string, age time.Duration) Image { return Image{ID: id, Created: Known(now.Add(-age).Unix())} }
	images := []Image{
		image("future", -time.Hour), image("a", day-time.Second), image("b", day), image("c", 7*day), image("d", 30*day-time.Second), image("e", 30*day),
		image("f", 90*day), {ID: "epoch", Created: Known[int64](0)}, {ID: "used"},
	}
	containers := []Container{{ImageID: "used", State: Exited}}
	want := Counts{{"0-1d", 2}, {"1d-7d", 1}, {"7d-30d", 2}, {"30d-90d", 1}, {"90d+", 2}}
	if got := countUnused(images, containers, now); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := countUnused(images, nil, now); got != nil {
		t.Errorf("the date of an unused image is unknown, but the counts are %v", got)
	}
}
