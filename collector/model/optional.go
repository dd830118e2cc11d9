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

// Of returns the value of a call, or unknown if it has failed.
func Of[T any](value T, err error) Optional[T] {
	if err != nil {
		return Optional[T]{}
	}
	return Known(value)
}

// Get returns the value and whether it is known.
func (o Optional[T]) Get() (value T, known bool) {
	return o.value, o.known
}

// IsKnown reports whether there is a value.
func (o Optional[T]) IsKnown() bool { return o.known }

// MarshalJSON implements json.Marshaler. Unknown is null, times are in UTC, and
// durations are in seconds.
func (o Optional[T]) MarshalJSON() ([]byte, error) {
	if !o.known {
		return []byte("null"), nil
	}
	switch value := any(o.value).(type) {
	case time.Time:
		return json.Marshal(value.UTC())
	case time.Duration:
		return json.Marshal(value.Seconds())
	}
	return json.Marshal(o.value)
}
