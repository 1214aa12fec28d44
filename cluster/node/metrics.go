package node

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	moved   prometheus.Counter
	resent  prometheus.Counter
	givenUp prometheus.Counter
	all     []prometheus.Collector

	detoured prometheus.Counter
}

func newMetrics(n *Node) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m := &metrics{
		moved:    counter("lorikeet_cluster_moved_total", "Messages for devices that were answered with moved, and went to another node."),
		resent:   counter("lorikeet_cluster_resent_total", "Messages to other nodes that were sent again because no answer came or nothing was done."),
		detoured: counter("lorikeet_cluster_detoured_total", "Messages that went through NATS to nodes that did not answer directly."),
		givenUp:  counter("lorikeet_cluster_frames_lost_total", "Frames for devices of other nodes that could not be delivered."),
	}
	m.all = []prometheus.Collector{m.moved, m.resent, m.givenUp, m.detoured,
		gauge("lorikeet_cluster_detours", "Nodes that do not answer this one directly, so that messages for them go through NATS.", func() float64 { return float64(n.detours.len()) }),
		gauge("lorikeet_cluster_members", "Nodes that live, as this one sees it.", func() float64 { return float64(len(n.table.Load().byID)) }),
		gauge("lorikeet_cluster_shards", "Shards of 4096 that this node owns.", func() float64 { return float64(n.table.Load().owned[n.id]) }),
		gauge("lorikeet_cluster_frames_kept", "Frames that wait for another node.", func() float64 { return float64(n.frames.len()) }),
		gauge("lorikeet_cluster_suspended", "1 while this node handles nothing because it lost touch with JetStream.", func() float64 {
			if n.members.fit() {
				return 0
			}
			return 1
		}),
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) {
	if r != nil {
		r.MustRegister(m.all...)
	}
}
