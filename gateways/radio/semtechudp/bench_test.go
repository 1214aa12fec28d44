package semtechudp

import (
	"strings"
	"testing"

	"lorikeet/messages"
)

type discard struct{}

func (discard) HandleFrame(messages.Frame)          {}
func (discard) HandleStatus(messages.GatewayStatus) {}

// BenchmarkDatagram is the whole way of a PUSH_DATA from the bytes of the datagram to the sink, without the socket.
func BenchmarkDatagram(b *testing.B) {
	for name, n := range map[string]int{"1 rxpk": 1, "8 rxpk": 8} {
		b.Run(name, func(b *testing.B) {
			s := newBench(b, func(c *Config) { c.Sink, c.Workers, c.MaxRate = discard{}, 1, 1e12 })
			s.receive(packet(2, 1, pullData, gateway, ""), home, s.now)
			doc := rxpkJSON(append(append([]byte{}, dataUp...), make([]byte, 20)...))
			datagram := packet(2, 1, pushData, gateway, rxpks(strings.Split(strings.Repeat(doc+"\n", n-1)+doc, "\n")...))
			ids := newIDs(s.Server)
			b.ReportAllocs()
			b.SetBytes(int64(len(datagram)))
			for b.Loop() {
				if _, ok := s.receive(datagram, home, s.now); !ok {
					b.Fatal("not acknowledged")
				}
				j := <-s.queues[0]
				s.process(j, ids)
				s.finished(j)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/rxpk")
		})
	}
}
