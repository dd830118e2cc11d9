package model

import (
	"encoding/json"
	"time"
)

// Optional is a value that may be unknown. Its zero value is unknown.
type Optional[T any] struct {
	value T
	known bool
}

// Known returns an Optional that has a value.
func Known[T any](value T) Optional[T] {
	return Optional[T]{value: value, known: true}
}

// Get returns the value and whether it is known.
func (o Optional[T]) Get() (value T, known bool) {
	return o.value, o.known
}

// IsKnown reports whether there is a value.
func (o Optional[T]) IsKnown() bool { return o.known }

// MarshalJSON implements json.Marshaler. Unknown is null; times are in UTC.
func (o Optional[T]) MarshalJSON() ([]byte, error) {
	if !o.known {
		return []byte("null"), nil
	}
	if at, isTime := any(o.value).(time.Time); isTime {
		return json.Marshal(at.UTC())
	}
	return json.Marshal(o.value)
}
