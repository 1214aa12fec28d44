package actors

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the device actors.
type Metrics struct {
	Uplinks      *prometheus.CounterVec // by outcome
	Joins        *prometheus.CounterVec // by outcome
	DecodeErrors prometheus.Counter
	Panics       prometheus.Counter
	Latency      prometheus.Histogram // datagram read to event durable
}

// NewMetrics registers the metrics; nil registers them nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		Uplinks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lorikeet_uplinks_total",
			Help: "Data uplinks by outcome: accepted, or why not."}, []string{"outcome"}),
		Joins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lorikeet_join_requests_total",
			Help: "Join-requests by outcome: accepted, or why not."}, []string{"outcome"}),
		DecodeErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "lorikeet_decode_errors_total",
			Help: "Uplinks whose payload formatter failed; their events carry the raw payload and the error."}),
		Panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "lorikeet_device_failures_total",
			Help: "Messages on which a device actor failed unexpectedly."}),
		Latency: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lorikeet_uplink_accept_seconds",
			Help:    "Time from reading the first copy of an uplink to its event being durable, the window for further copies included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13)}),
	}
	if r != nil {
		r.MustRegister(m.Uplinks, m.Joins, m.DecodeErrors, m.Panics, m.Latency)
	}
	return m
}

func (m *Metrics) uplink(outcome string) { m.Uplinks.WithLabelValues(outcome).Inc() }
func (m *Metrics) join(outcome string)   { m.Joins.WithLabelValues(outcome).Inc() }
