package report

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// Counts are numbers by name, in an order to read them in. Nil: unknown.
type Counts []Count

// A Count is how many there are of a name.
type Count struct {
	Name string
	N    int
}

// counts puts numbers in order; names that the order does not know come last.
func counts[K ~string](numbers map[K]int, order []K) Counts {
	list := Counts{}
	for _, name := range order {
		list = append(list, Count{string(name), numbers[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		if !slices.Contains(order, name) {
			list = append(list, Count{string(name), numbers[name]})
		}
	}
	return list
}

// UsedBy is Use in words.
func (i Images) UsedBy() (used Counts) {
	for _, count := range i.Use {
		switch model.Use(count.Name) {
		case model.UsedRunning:
			count.Name = "something running"
		case model.UsedStopped:
			count.Name = "only stopped containers"
		case model.Unused:
			count.Name = "nothing"
		}
		used = append(used, count)
	}
	return used
}

// MarshalJSON implements json.Marshaler: an object in the same order.
func (c Counts) MarshalJSON() ([]byte, error) {
	if c == nil {
		return []byte("null"), nil
	}
	var object bytes.Buffer
	object.WriteByte('{')
	for i, count := range c {
		if i > 0 {
			object.WriteByte(',')
		}
		name, err := json.Marshal(count.Name)
		if err != nil {
			return nil, err
		}
		object.Write(name)
		object.WriteByte(':')
		number, err := json.Marshal(count.N)
		if err != nil {
			return nil, err
		}
		object.Write(number)
	}
	object.WriteByte('}')
	return object.Bytes(), nil
}
