package jetstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
)

type metrics struct {
	writes    *prometheus.CounterVec
	latency   prometheus.Histogram
	retries   prometheus.Counter
	appended  prometheus.Counter
	trimmed   prometheus.Counter
	carried   prometheus.Counter
	followers prometheus.Gauge
	pending   prometheus.Gauge
	all       []prometheus.Collector
}

func newMetrics(s *Store) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lorikeet_store_writes_total", Help: "Requests to write, by result: ok, conflict, unavailable, refused; unknown counts tries without a good answer, after which the outcome is looked up.",
		}, []string{"result"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lorikeet_store_commit_seconds", Help: "Time from the request to write until it is durable.", Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		retries:   counter("lorikeet_store_retries_total", "Requests to NATS that were made again."),
		appended:  counter("lorikeet_store_log_appended_total", "Events appended to the logs."),
		trimmed:   counter("lorikeet_store_log_trimmed_total", "Events removed from the logs because of their age, by this node."),
		carried:   counter("lorikeet_store_records_carried_total", "Session records of silent devices that were written again to outlive the log."),
		followers: gauge("lorikeet_store_followers", "Streams that are followed at present, counted once for each reader."),
		pending:   gauge("lorikeet_store_follower_pending", "Messages that the followers have still to get."),
	}
	m.all = []prometheus.Collector{m.writes, m.latency, m.retries, m.appended, m.trimmed, m.carried, m.followers, m.pending,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lorikeet_store_ready", Help: "1 while the store takes writes."}, func() float64 {
			if s.Ready() != nil {
				return 0
			}
			return 1
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lorikeet_store_ring_bytes", Help: "Memory of the newest log entries."}, func() float64 { return float64(s.rings.Load()) }),
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			for _, done := range m.all[:i] {
				r.Unregister(done)
			}
			return fmt.Errorf("register the metrics of the store: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all {
		r.Unregister(c)
	}
}

func (m *metrics) outcome(result string) { m.writes.WithLabelValues(result).Inc() }

func (m *metrics) observe(start time.Time, err error) {
	switch {
	case err == nil:
		m.outcome("ok")
		m.latency.Observe(time.Since(start).Seconds())
	case errors.Is(err, messages.ErrConflict):
		m.outcome("conflict")
	case messages.CodeOf(err) == messages.CodeUnavailable:
		m.outcome("unavailable")
	default:
		m.outcome("refused")
	}
}
