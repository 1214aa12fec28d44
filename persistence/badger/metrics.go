package badger

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
)

type metrics struct {
	writes   *prometheus.CounterVec
	latency  prometheus.Histogram
	sync     prometheus.Histogram
	batch    prometheus.Histogram
	failures prometheus.Counter
	bytes    prometheus.Counter
	appended prometheus.Counter
	all      []prometheus.Collector
}

func newMetrics(s *Store) *metrics {
	seconds := prometheus.ExponentialBuckets(0.0001, 2.5, 12)
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lorikeet_store_writes_total", Help: "Requests to write, by result: ok, conflict, refused.",
		}, []string{"result"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lorikeet_store_commit_seconds", Help: "Time from the request to write until it is durable.", Buckets: seconds,
		}),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lorikeet_store_sync_seconds", Help: "Time to write and sync one transaction.", Buckets: seconds,
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lorikeet_store_batch_requests", Help: "Requests that shared a sync.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lorikeet_store_failures_total", Help: "Failures after which the store refuses all writes.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lorikeet_store_written_bytes_total", Help: "Bytes of records written.",
		}),
		appended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lorikeet_store_log_appended_total", Help: "Events appended to the logs.",
		}),
	}
	m.all = []prometheus.Collector{m.writes, m.latency, m.sync, m.batch, m.failures, m.bytes, m.appended,
		gauge("lorikeet_store_disk_free_bytes", "Free space on the disk of the store.", func() float64 { return float64(s.free.Load()) }),
		gauge("lorikeet_store_disk_used_bytes", "Size of the tables on disk.", func() float64 { lsm, vlog := s.db.Size(); return float64(lsm + vlog) }),
		gauge("lorikeet_store_queue_requests", "Requests that wait for the committer.", func() float64 { return float64(len(s.queue)) }),
	}
	return m
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
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

func (m *metrics) observe(r *request) {
	switch {
	case r.err == nil:
		m.writes.WithLabelValues("ok").Inc()
		m.latency.Observe(time.Since(r.since).Seconds())
	case errors.Is(r.err, messages.ErrConflict):
		m.writes.WithLabelValues("conflict").Inc()
	default:
		m.writes.WithLabelValues("refused").Inc()
	}
}

func (m *metrics) observeBatch(b *batch, requests int) {
	m.batch.Observe(float64(requests))
	if b.dirty {
		m.bytes.Add(float64(b.written))
		m.appended.Add(float64(b.appended))
	}
}

// logger gives Badger's messages to slog, less loudly: what it calls information is for debugging.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("badger", "detail", fmt.Sprintf(format, args...))
}

func (l logger) Warningf(format string, args ...any) {
	l.log.Warn("badger", "detail", fmt.Sprintf(format, args...))
}

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("badger", "detail", fmt.Sprintf(format, args...))
}

// Debugf is called for every transaction.
func (logger) Debugf(string, ...any) {}
