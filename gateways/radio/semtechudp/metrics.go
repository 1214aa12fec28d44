package semtechudp

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
)

type metrics struct {
	datagrams        *prometheus.CounterVec
	push, pull, acks prometheus.Counter // of datagrams, looked up once
	datagramsDropped *prometheus.CounterVec
	frames           prometheus.Counter
	framesDropped    *prometheus.CounterVec
	tx               *prometheus.CounterVec
}

// newMetrics registers the metrics of s; a nil registerer keeps them to itself.
func newMetrics(reg prometheus.Registerer, s *Server) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lorikeet_semtechudp_" + name, Help: help}, labels)
	}
	frames := prometheus.NewCounter(prometheus.CounterOpts{Name: "lorikeet_semtechudp_frames_total", Help: "Uplink frames handed on."})
	m := &metrics{
		datagrams:        counter("datagrams_total", "Well-formed datagrams of radio gateways.", "type"),
		datagramsDropped: counter("datagrams_dropped_total", "Datagrams dropped, whole or in part, by reason.", "reason"),
		frames:           frames,
		framesDropped:    counter("frames_dropped_total", "Received packets (rxpk) dropped, by reason.", "reason"),
		tx:               counter("tx_total", "Downlink frames by result.", "result"),
	}
	m.push = m.datagrams.WithLabelValues("PUSH_DATA")
	m.pull = m.datagrams.WithLabelValues("PULL_DATA")
	m.acks = m.datagrams.WithLabelValues("TX_ACK")
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.datagrams, m.datagramsDropped, m.frames, m.framesDropped, m.tx,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lorikeet_semtechudp_in_flight", Help: "Datagrams read but not yet handed on.",
		}, func() float64 { return float64(s.inFlight.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "lorikeet_semtechudp_kernel_dropped_total", Help: "Datagrams the kernel dropped since the receive buffer was full (Linux).",
		}, func() float64 { return float64(kernelDrops(s.Addr().Port())) }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of Semtech UDP: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) sent(result messages.TxError) {
	name := string(result)
	if result == messages.TxOK {
		name = "OK"
	}
	m.tx.WithLabelValues(name).Inc()
}

// kernelDrops sums what Linux dropped on the sockets of a UDP port; 0 elsewhere.
func kernelDrops(port uint16) (drops uint64) {
	if port == 0 {
		return 0
	}
	for _, name := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		drops += parseDrops(f, port)
		_ = f.Close()
	}
	return drops
}

// parseDrops reads the form of /proc/net/udp: the local address is the second field, the drops are the last.
func parseDrops(r io.Reader, port uint16) (drops uint64) {
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 13 || !strings.HasSuffix(fields[1], suffix) {
			continue
		}
		n, err := strconv.ParseUint(fields[len(fields)-1], 10, 64)
		if err == nil {
			drops += n
		}
	}
	return drops
}
