package model

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestCountObjects(t *testing.T) {
	images := Known([]Image{{ID: "a", HasDigest: Known(false), Size: Known(int64(1))}})
	containers := Known([]Container{{ID: "1", ImageID: "a", State: Running, Volumes: []string{"v"}}})
	onlyImages := ImageCounts{
		Tagged: Known(0), Untagged: Known(1), Dangling: Known(1), Intermediate: Known(0), DigestOnly: Known(0),
		Tags: Known(0), VirtualSize: Known(int64(1)),
	}
	withUse := onlyImages
	withUse.Use = Counts{{UseRunning, 1}, {UseStopped, 0}, {UseNone, 0}}
	withUse.Unused = Counts{{"0-1d", 0}, {"1d-7d", 0}, {"7d-30d", 0}, {"30d-90d", 0}, {"90d+", 0}}
	inspected, uninspected := onlyImages, onlyImages
	inspected.Uninspected, uninspected.Uninspected = Known(0), Known(1)
	counted := CountObjects(Snapshot{Containers: containers}).Containers
	tests := []struct {
		name     string
		snapshot Snapshot
		want     ObjectCounts
	}{
		{"nothing", Snapshot{}, ObjectCounts{}},
		{"images", Snapshot{Images: images}, ObjectCounts{Images: onlyImages}},
		{"images, none inspected", Snapshot{Images: images, Contents: map[string]Content{}}, ObjectCounts{Images: uninspected}},
		{"images, all inspected", Snapshot{Images: images, Contents: map[string]Content{"a": {}}}, ObjectCounts{Images: inspected}},
		{"images and containers", Snapshot{Images: images, Containers: containers}, ObjectCounts{Images: withUse, Containers: counted}},
		{"volumes without containers", Snapshot{Volumes: Known([]Volume{{Name: "v"}})}, ObjectCounts{}},
		{
			"volumes and containers", Snapshot{Volumes: Known([]Volume{{Name: "v"}, {Name: "w"}, {Name: "x"}}), Containers: containers},
			ObjectCounts{Containers: counted, Volumes: Counts{{InUse, 1}, {Unused, 2}}},
		},
		{
			"build cache", Snapshot{BuildCache: Known([]CacheRecord{{ID: "a"}, {ID: "b", InUse: true}, {ID: "c"}})},
			ObjectCounts{BuildCache: Counts{{InUse, 1}, {Unused, 2}}},
		},
	}
	for _, test := range tests {
		if got := CountObjects(test.snapshot); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", test.name, got, test.want)
		}
	}
}

func TestCountStates(t *testing.T) {
	got := CountObjects(Snapshot{Containers: Known([]Container{
		{ID: "1", State: Running}, {ID: "2", State: Running}, {ID: "3", State: "hibernating"}, {ID: "4", State: "asleep"},
	})}).Containers.State
	want := Counts{
		{"created", 0}, {"running", 2}, {"paused", 0}, {"restarting", 0}, {"removing", 0}, {"exited", 0}, {"dead", 0},
		{"asleep", 1}, {"hibernating", 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCountStopped(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) Optional[time.Time] { return Known(now.Add(-d)) }
	const day = 24 * time.Hour
	ranges := []struct {
		stoppedAt Optional[time.Time]
		want      int // index of the range
	}{
		{ago(-time.Minute), 0}, // the engine's clock is ahead
		{ago(0), 0},
		{ago(time.Hour - 1), 0},
		{ago(time.Hour), 1},
		{ago(day - 1), 1},
		{ago(day), 2},
		{ago(7*day - 1), 2},
		{ago(7 * day), 3},
		{ago(30*day - 1), 3},
		{ago(30 * day), 4},
		{ago(3000 * day), 4},
		{Known(time.Time{}), 4},
	}
	for _, state := range append(States(), "invented") {
		for _, test := range ranges {
			want := Counts{{"0-1h", 0}, {"1h-1d", 0}, {"1d-7d", 0}, {"7d-30d", 0}, {"30d+", 0}}
			if state == Created || state == Exited || state == Dead {
				want[test.want].N = 1
			}
			if got := countStopped([]Container{{State: state, StoppedAt: test.stoppedAt}}, now); !reflect.DeepEqual(got, want) {
				t.Errorf("%s since %v: got %v, want %v", state, test.stoppedAt, got, want)
			}
		}
	}

	running := Container{State: Running}
	stopped := Container{State: Exited, StoppedAt: ago(day)}
	uninspected := Container{State: Exited}
	failed := Container{State: Exited, Failed: true}
	sizeFailed := Container{State: Exited, Failed: true, StoppedAt: ago(day)}
	for _, test := range []struct {
		name       string
		containers []Container
		want       int // containers stopped for a day, -1: unknown
	}{
		{"no container", nil, 0},
		{"a running container has no stop time", []Container{running, stopped}, 1},
		{"a container is not inspected yet", []Container{running, stopped, uninspected}, -1},
		{"a failed container is left out", []Container{failed, stopped}, 1},
		{"the stop time is known, another request failed", []Container{sizeFailed, stopped}, 2},
		{"one failed, another is not inspected yet", []Container{failed, uninspected}, -1},
	} {
		got := -1
		if counts := countStopped(test.containers, now); counts != nil {
			got = counts[2].N
		}
		if got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

// A volume is in use if any container references it, whatever its state.
func TestVolumesInUse(t *testing.T) {
	counts := CountObjects(Snapshot{
		Containers: Known([]Container{{ID: "x", State: Exited, Volumes: []string{"a", "b"}}, {ID: "y", State: Running, Volumes: []string{"b"}}}),
		Volumes:    Known([]Volume{{Name: "a"}, {Name: "b"}, {Name: "c"}}),
	})
	if want := (Counts{{InUse, 2}, {Unused, 1}}); !reflect.DeepEqual(counts.Volumes, want) {
		t.Errorf("got %v, want %v", counts.Volumes, want)
	}
}

func TestMarshalJSON(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	for want, value := range map[string]any{
		`null`:                        Counts(nil),
		`{}`:                          Counts{},
		`{"z":1,"a\"\u003c":2,"b":0}`: Counts{{"z", 1}, {`a"<`, 2}, {"b", 0}},
		`[null,0,"2026-05-01T11:00:00Z",0.084]`: []any{
			Optional[int]{}, Known(0), Known(at), Known(84 * time.Millisecond),
		},
	} {
		got, err := json.Marshal(value)
		if err != nil || string(got) != want {
			t.Errorf("%+v: got %s, %v; want %s", value, got, err, want)
		}
	}
}
