package main

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

const minute = 60_000 // in milliseconds, the unit of Prometheus

// A series has a value for every step of time. NaN means that there is no sample.
type series struct {
	labels  labels.Labels
	every   int64 // step in milliseconds
	values  []float64
	compute func(i int) float64 // computes the values when they are first read
}

func (s *series) Labels() labels.Labels { return s.labels }

func (s *series) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return &iterator{Iterator: chunkenc.NewNopIterator(), series: s, at: -1}
}

// A memoryStore replaces the TSDB from which Prometheus' engine reads. It is much faster, and
// does not compute series that no rule reads.
type memoryStore struct {
	minutes int
	byName  map[string][]*series
}

func (m *memoryStore) add(s *series) {
	name := s.labels.Get(labels.MetricName)
	m.byName[name] = append(m.byName[name], s)
}

func (m *memoryStore) Querier(_, _ int64) (storage.Querier, error) {
	return querier{storage.NoopQuerier(), m}, nil
}

// load sorts series and computes their values.
func (m *memoryStore) load(all []*series) {
	// The order changes sums of floats.
	slices.SortFunc(all, func(a, b *series) int { return labels.Compare(a.labels, b.labels) })
	for _, s := range all {
		if s.values == nil {
			s.values = make([]float64, m.minutes)
			for i := range s.values {
				s.values[i] = s.compute(i)
			}
		}
	}
}

// A querier selects series. The engine queries no names or values of labels.
type querier struct {
	storage.Querier
	store *memoryStore
}

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{}
	add := func(all []*series) {
		for _, s := range all {
			if matches(s.labels, matchers) {
				set.series = append(set.series, s)
			}
		}
	}
	named := slices.IndexFunc(matchers, func(m *labels.Matcher) bool { return m.Name == labels.MetricName && m.Type == labels.MatchEqual })
	if named >= 0 {
		add(q.store.byName[matchers[named].Value])
	} else {
		for _, all := range q.store.byName {
			add(all)
		}
	}
	q.store.load(set.series)
	return set
}

func matches(l labels.Labels, matchers []*labels.Matcher) bool {
	for _, m := range matchers {
		if !m.Matches(l.Get(m.Name)) {
			return false
		}
	}
	return true
}

type seriesSet struct {
	series []*series
	next   int
}

func (s *seriesSet) Next() bool                        { s.next++; return s.next <= len(s.series) }
func (s *seriesSet) At() storage.Series                { return s.series[s.next-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// An iterator returns the samples of a series. In front of each gap, it returns a stale marker
// as Prometheus stores one when a scrape fails or a rule no longer yields a series.
type iterator struct {
	chunkenc.Iterator // without histograms
	*series
	at    int
	value float64
}

func (it *iterator) Next() chunkenc.ValueType {
	for it.at++; it.at < len(it.values); it.at++ {
		if v := it.values[it.at]; !math.IsNaN(v) {
			it.value = v
			return chunkenc.ValFloat
		}
		if it.at > 0 && !math.IsNaN(it.values[it.at-1]) {
			it.value = math.Float64frombits(value.StaleNaN)
			return chunkenc.ValFloat
		}
	}
	return chunkenc.ValNone
}

func (it *iterator) Seek(t int64) chunkenc.ValueType {
	first := int((t - firstMinute*1000 + it.every - 1) / it.every)
	if it.at >= 0 && it.at >= first {
		if it.at >= len(it.values) {
			return chunkenc.ValNone
		}
		return chunkenc.ValFloat
	}
	it.at = max(first, 0) - 1
	return it.Next()
}

func (it *iterator) AtT() int64           { return firstMinute*1000 + int64(it.at)*it.every }
func (it *iterator) At() (int64, float64) { return it.AtT(), it.value }
