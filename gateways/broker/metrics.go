package broker

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	refused, publishes, dropped, ended *prometheus.CounterVec
	events                             prometheus.Counter
}

// newMetrics registers the metrics of s; a nil registerer keeps them to itself.
func newMetrics(reg prometheus.Registerer, s *Server) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lorikeet_mqtt_" + name, Help: help}, labels)
	}
	m := &metrics{
		refused:   counter("connections_refused_total", "Connections and logins refused, by reason.", "reason"),
		publishes: counter("publishes_in_total", "Messages that clients published, by outcome.", "outcome"),
		dropped:   counter("events_dropped_total", "Events that a subscriber does not get, by reason.", "reason"),
		ended:     counter("connections_cut_total", "Connections that the server ended, by reason.", "reason"),
		events:    prometheus.NewCounter(prometheus.CounterOpts{Name: "lorikeet_mqtt_events_out_total", Help: "Events sent to subscribers."}),
	}
	if reg == nil {
		return m, nil
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lorikeet_mqtt_" + name, Help: help}, value)
	}
	for _, c := range []prometheus.Collector{
		m.refused, m.publishes, m.dropped, m.ended, m.events,
		gauge("connections", "Open connections, logged in or not.", func() float64 { return float64(s.doorkeeper.total()) }),
		gauge("sessions", "Sessions of connected clients.", func() float64 { return float64(s.sessionCount()) }),
		gauge("sessions_lagging", "Sessions of connected clients that are behind and read the log by themselves.", func() float64 { return float64(s.lagging()) }),
		gauge("sessions_kept", "Sessions in the store, with a connection or waiting for one; about.", func() float64 { return float64(s.kept.total()) }),
		gauge("window_bytes", "Bytes of events that clients have not confirmed.", func() float64 { return float64(s.window.used.Load()) }),
		gauge("write_buffer_bytes", "Bytes that wait to be written to clients.", func() float64 { return float64(s.memory.used.Load()) }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of MQTT: %w", err)
		}
	}
	return m, nil
}
