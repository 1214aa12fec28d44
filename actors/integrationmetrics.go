package actors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var integrationLabels = []string{"kind", "application", "id"}

// integrationMetrics are the metrics of all integrations. The lag is read when metrics are asked for.
type integrationMetrics struct {
	registerer                         prometheus.Registerer
	all                                *Integrations
	delivered, failed, dead, lost      *prometheus.CounterVec
	latency                            *prometheus.HistogramVec
	lagDesc, openDesc, oldestEventDesc *prometheus.Desc
}

func newIntegrationMetrics(reg prometheus.Registerer, all *Integrations) *integrationMetrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, integrationLabels)
	}
	m := &integrationMetrics{
		registerer: reg, all: all,
		delivered: counter("lorikeet_integration_delivered_total", "Events delivered."),
		failed:    counter("lorikeet_integration_failed_total", "Delivery tries that failed."),
		dead:      counter("lorikeet_integration_dead_letters_total", "Events given up because the other side refuses them."),
		lost:      counter("lorikeet_integration_lost_total", "Events that the log dropped before they were delivered; in a cluster, how often that happened."),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lorikeet_integration_delivery_seconds", Help: "Time of one delivery try, by outcome.",
			Buckets: []float64{.001, .005, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"kind", "outcome"}),
		lagDesc:         prometheus.NewDesc("lorikeet_integration_lag_events", "Entries of the log that are not settled yet.", integrationLabels, nil),
		openDesc:        prometheus.NewDesc("lorikeet_integration_circuit_open", "1 while nothing gets through and only probes are sent.", integrationLabels, nil),
		oldestEventDesc: prometheus.NewDesc("lorikeet_integration_oldest_event_seconds", "Age of the first event that is not settled.", integrationLabels, nil),
	}
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

func (m *integrationMetrics) unregister() {
	if m.registerer != nil {
		m.registerer.Unregister(m)
	}
}

func (m *integrationMetrics) vectors() []*prometheus.CounterVec {
	return []*prometheus.CounterVec{m.delivered, m.failed, m.dead, m.lost}
}

// Describe is part of prometheus.Collector.
func (m *integrationMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.vectors() {
		v.Describe(ch)
	}
	m.latency.Describe(ch)
	ch <- m.lagDesc
	ch <- m.openDesc
	ch <- m.oldestEventDesc
}

// Collect is part of prometheus.Collector.
func (m *integrationMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.vectors() {
		v.Collect(ch)
	}
	m.latency.Collect(ch)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, r := range m.all.runners() {
		s := r.statusNow(ctx)
		open := 0.0
		if s.State == IntegrationOpen {
			open = 1
		}
		labels := []string{r.cfg.Kind, r.cfg.Application, r.cfg.ID}
		ch <- prometheus.MustNewConstMetric(m.lagDesc, prometheus.GaugeValue, float64(s.Lag), labels...)
		ch <- prometheus.MustNewConstMetric(m.openDesc, prometheus.GaugeValue, open, labels...)
		ch <- prometheus.MustNewConstMetric(m.oldestEventDesc, prometheus.GaugeValue, s.OldestAge.Seconds(), labels...)
	}
}

func (m *integrationMetrics) remove(cfg IntegrationConfig) {
	for _, v := range m.vectors() {
		v.DeleteLabelValues(cfg.Kind, cfg.Application, cfg.ID)
	}
}
