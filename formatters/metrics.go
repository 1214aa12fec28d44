package formatters

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
)

type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	deaths  *prometheus.CounterVec
	starts  prometheus.Counter
	all     []prometheus.Collector
}

func newMetrics(s *slots) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lorikeet_formatter_calls_total", Help: "Calls of payload formatters, by kind and outcome: ok, or the name of the error.",
		}, []string{"kind", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lorikeet_formatter_call_seconds", Help: "Time of a call, the wait for a worker included.", Buckets: prometheus.ExponentialBuckets(0.00005, 2.5, 12),
		}, []string{"kind"}),
		deaths: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lorikeet_formatter_worker_deaths_total", Help: "Workers that ended during a call, by cause: time, memory, unknown.",
		}, []string{"cause"}),
		starts: prometheus.NewCounter(prometheus.CounterOpts{Name: "lorikeet_formatter_worker_starts_total", Help: "Workers that were started."}),
	}
	gauge := func(name, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(f()) })
	}
	m.all = []prometheus.Collector{m.calls, m.seconds, m.deaths, m.starts,
		gauge("lorikeet_formatter_workers_busy", "Workers that run a script.", func() int { busy, _, _ := s.counts(); return busy }),
		gauge("lorikeet_formatter_calls_waiting", "Calls that wait for a worker.", func() int { _, waiting, _ := s.counts(); return waiting }),
		gauge("lorikeet_formatter_scripts_parked", "Scripts that are not run for a time because they had to be stopped too often.", func() int { _, _, parked := s.counts(); return parked }),
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
			return fmt.Errorf("register the metrics of the formatters: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r != nil {
		for _, c := range m.all {
			r.Unregister(c)
		}
	}
}

func (m *metrics) observe(kind messages.FormatterKind, took time.Duration, err error) {
	m.calls.WithLabelValues(string(kind), outcome(err)).Inc()
	m.seconds.WithLabelValues(string(kind)).Observe(took.Seconds())
}
