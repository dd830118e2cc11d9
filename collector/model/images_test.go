package model

import (
	"math"
	"reflect"
	"testing"
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
		want   ImageCount
	}{
		{
			name: "nothing is a known zero",
			want: ImageCount{Dangling: Known(0), Intermediate: Known(0), VirtualSize: Known(int64(0))},
		},
		{
			name:   "three tags on one image are one image",
			images: []Image{{ID: "a", Tags: []string{"x:1", "x:2", "y:1"}, HasDigest: no, Size: Known(int64(7))}},
			want:   ImageCount{Tagged: 1, Tags: 3, Dangling: Known(0), Intermediate: Known(0), VirtualSize: Known(int64(7))},
		},
		{
			name: "an untagged image is dangling, digest-only or intermediate",
			images: []Image{
				{ID: "dangling", HasDigest: no, Size: Known(int64(1))},
				{ID: "digest-only", HasDigest: yes, Size: Known(int64(1))},
				{ID: "intermediate", HasDigest: no, Size: Known(int64(1))},
				{ID: "child", Parent: "intermediate", Tags: []string{"x:1"}, HasDigest: no, Size: Known(int64(1))},
			},
			want: ImageCount{Tagged: 1, Untagged: 3, Tags: 1, Dangling: Known(1), Intermediate: Known(1), VirtualSize: Known(int64(4))},
		},
		{
			name: "a parent that has a tag or a digest reference is not intermediate",
			images: []Image{
				{ID: "tagged", Tags: []string{"x:1"}, HasDigest: no, Size: Known(int64(1))},
				{ID: "digest-only", HasDigest: yes, Size: Known(int64(1))},
				{ID: "child", Parent: "tagged", HasDigest: no, Size: Known(int64(1))},
				{ID: "other child", Parent: "digest-only", HasDigest: no, Size: Known(int64(1))},
			},
			want: ImageCount{Tagged: 1, Untagged: 3, Tags: 1, Dangling: Known(2), Intermediate: Known(0), VirtualSize: Known(int64(4))},
		},
		{
			name:   "a parent may be gone",
			images: []Image{{ID: "a", Parent: "gone", HasDigest: no, Size: Known(int64(1))}},
			want:   ImageCount{Untagged: 1, Dangling: Known(1), Intermediate: Known(0), VirtualSize: Known(int64(1))},
		},
		{
			name: "records of one ID are one image with all their tags",
			images: []Image{
				{ID: "a", Tags: []string{"x:1"}, HasDigest: no, Size: Known(int64(5))},
				{ID: "a", Tags: []string{"x:1", "y:1"}, HasDigest: no, Size: Known(int64(9))},
				{ID: "a", HasDigest: yes, Size: Known(int64(5))},
			},
			want: ImageCount{Tagged: 1, Tags: 2, Dangling: Known(0), Intermediate: Known(0), VirtualSize: Known(int64(9))},
		},
		{
			name:   "the size of an image is unknown if that of a later record is",
			images: []Image{{ID: "a", HasDigest: no, Size: Known(int64(5))}, {ID: "a", HasDigest: no}},
			want:   ImageCount{Untagged: 1, Dangling: Known(1), Intermediate: Known(0)},
		},
		{
			name:   "the size of an image is unknown if that of its first record is",
			images: []Image{{ID: "a", HasDigest: no}, {ID: "a", HasDigest: no, Size: Known(int64(5))}},
			want:   ImageCount{Untagged: 1, Dangling: Known(1), Intermediate: Known(0)},
		},
		{
			name: "what cannot be told apart is unknown, the rest is not",
			images: []Image{
				{ID: "a", HasDigest: unknown, Size: Known(int64(1))},
				{ID: "b", Tags: []string{"x:1"}, HasDigest: unknown, Size: Known(int64(1))},
			},
			want: ImageCount{Tagged: 1, Untagged: 1, Tags: 1, VirtualSize: Known(int64(2))},
		},
		{
			name: "one unknown size makes the sum unknown",
			images: []Image{
				{ID: "a", HasDigest: no, Size: Known(int64(1))},
				{ID: "b", HasDigest: no},
			},
			want: ImageCount{Untagged: 2, Dangling: Known(2), Intermediate: Known(0)},
		},
		{
			name: "a sum beyond every disk is unknown, not negative",
			images: []Image{
				{ID: "a", HasDigest: no, Size: Known(int64(math.MaxInt64))},
				{ID: "b", HasDigest: no, Size: Known(int64(1))},
			},
			want: ImageCount{Untagged: 2, Dangling: Known(2), Intermediate: Known(0)},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := CountImages(Distinct(test.images)); got != test.want {
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
		want := UsedStopped
		if state == Running || state == Paused || state == Restarting {
			want = UsedRunning
		}
		got := CountUse([]Image{image("a"), image("b")}, []Container{{ID: "1", ImageID: "a", State: state}})
		if got[want] != 1 || got[Unused] != 1 {
			t.Errorf("a container that is %s: got %v, want its image in %q and the other in %q", state, got, want, Unused)
		}
	}

	tests := []struct {
		name       string
		images     []Image
		containers []Container
		want       map[Use]int
	}{
		{
			name: "all uses are there, even for nothing",
			want: map[Use]int{UsedRunning: 0, UsedStopped: 0, Unused: 0},
		},
		{
			name:   "the most active container counts",
			images: []Image{image("a")},
			containers: []Container{
				{ID: "1", ImageID: "a", State: Exited},
				{ID: "2", ImageID: "a", State: Running},
				{ID: "3", ImageID: "a", State: Exited},
			},
			want: map[Use]int{UsedRunning: 1, UsedStopped: 0, Unused: 0},
		},
		{
			name:       "a container's image may be gone",
			images:     []Image{image("a")},
			containers: []Container{{ID: "1", ImageID: "gone", State: Running}},
			want:       map[Use]int{UsedRunning: 0, UsedStopped: 0, Unused: 1},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := CountUse(test.images, test.containers); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
