package semtechudp

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"lorikeet/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	noon    = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	gateway = messages.EUI64{0xAA, 0x55, 0x5A, 0, 0, 0, 1, 1}
	home    = netip.MustParseAddrPort("192.0.2.1:4000")
)

// dataUp is the shortest data uplink, and joinRequest a join-request: what the door sees of them, their MICs are nobody's.
var (
	dataUp      = []byte{0x40, 4, 3, 2, 1, 0, 7, 0, 0xa, 0xb, 0xc, 0xd}
	joinRequest = append([]byte{0x00}, make([]byte, 22)...)
)

// recorder is a Sink that keeps everything.
type recorder struct {
	frames   chan messages.Frame
	statuses chan messages.GatewayStatus
}

func newRecorder() *recorder {
	return &recorder{frames: make(chan messages.Frame, 10000), statuses: make(chan messages.GatewayStatus, 1000)}
}

func (r *recorder) HandleFrame(f messages.Frame)           { r.frames <- f }
func (r *recorder) HandleStatus(st messages.GatewayStatus) { r.statuses <- st }

// registry is a Registry of the radio gateways it was given.
type registry struct {
	mu         sync.Mutex
	ids        map[messages.EUI64]string
	registered chan messages.EUI64
}

func newRegistry(known ...messages.EUI64) *registry {
	r := &registry{ids: map[messages.EUI64]string{}, registered: make(chan messages.EUI64, 1000)}
	for i, eui := range known {
		r.ids[eui] = fmt.Sprintf("gateway-%d", i+1)
	}
	return r
}

func (r *registry) add(eui messages.EUI64, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[eui] = id
}

var place = &messages.Location{Latitude: 52, Longitude: 4, Source: "SOURCE_REGISTRY"}

func (r *registry) RadioGateway(eui messages.EUI64) (string, *messages.Location, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.ids[eui]
	return id, place, ok
}

func (r *registry) Register(_ context.Context, eui messages.EUI64) error {
	r.add(eui, "registered")
	r.registered <- eui
	return nil
}

// bench is a server that knows gateway, with a clock that stands still. It is not listening: receive is called by the test.
type bench struct {
	testing.TB
	*Server
	sink     *recorder
	registry *registry
	now      time.Time
}

func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{TB: t, registry: newRegistry(gateway), now: noon}
	cfg := Config{Registry: b.registry, Listen: "127.0.0.1:0", Clock: func() time.Time { return b.now }}
	for _, c := range change {
		c(&cfg)
	}
	if cfg.Sink == nil {
		b.sink = newRecorder()
		cfg.Sink = b.sink
	}
	var err error
	if b.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

// listening is a bench whose server runs on loopback with the real clock.
func listening(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := newBench(t, append([]func(*Config){func(c *Config) { c.Clock = time.Now }}, change...)...)
	if err := b.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (b *bench) dropped(reason string) int {
	return int(testutil.ToFloat64(b.metrics.datagramsDropped.WithLabelValues(reason)))
}

func (b *bench) framesDroppedFor(reason string) int {
	return int(testutil.ToFloat64(b.metrics.framesDropped.WithLabelValues(reason)))
}

// drain does the work of the workers for all that is queued.
func (b *bench) drain() {
	ids := newIDs(b.Server)
	for _, queue := range b.queues {
		for {
			select {
			case j := <-queue:
				b.process(j, ids)
				b.finished(j)
				continue
			default:
			}
			break
		}
	}
}

// packet is what a radio gateway sends.
func packet(version byte, token uint16, kind byte, eui messages.EUI64, body string) []byte {
	b := append([]byte{version, byte(token >> 8), byte(token), kind}, eui[:]...)
	return append(b, body...)
}

func rxpkJSON(phy []byte) string {
	return fmt.Sprintf(`{"tmst":1000,"chan":1,"rfch":0,"freq":868.1,"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/5","lsnr":5.5,"rssi":-35,"size":%d,"data":"%s"}`,
		len(phy), base64.StdEncoding.EncodeToString(phy))
}

// forwarder is a packet forwarder on loopback, with a socket for each direction as real ones have.
type forwarder struct {
	t          testing.TB
	push, pull *net.UDPConn
	server     netip.AddrPort
}

func (b *bench) forwarder() *forwarder {
	b.Helper()
	f := &forwarder{t: b.TB, server: b.Addr()}
	for _, conn := range []**net.UDPConn{&f.push, &f.pull} {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		*conn = c
	}
	return f
}

func (f *forwarder) send(conn *net.UDPConn, p []byte) {
	f.t.Helper()
	if _, err := conn.WriteToUDPAddrPort(p, f.server); err != nil {
		f.t.Fatal(err)
	}
}

func (f *forwarder) read(conn *net.UDPConn) []byte {
	f.t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 2048)
	n, _, err := conn.ReadFromUDPAddrPort(b)
	if err != nil {
		f.t.Fatal(err)
	}
	return b[:n]
}

// connect sends PULL_DATA and reads its acknowledgement.
func (f *forwarder) connect(version byte, eui messages.EUI64) {
	f.t.Helper()
	f.send(f.pull, packet(version, 0x0a0b, pullData, eui, ""))
	f.read(f.pull)
}

// nothing fails the test if something came in: all that could have come must have been sent before.
func (f *forwarder) nothing(conn *net.UDPConn) {
	f.t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(-time.Second))
	if n, _, err := conn.ReadFromUDPAddrPort(make([]byte, 2048)); err == nil {
		f.t.Fatalf("got %d bytes, want none", n)
	}
}

func receiveOrFail[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came in 10 s")
	}
	return v
}

func downlink() messages.TxRequest {
	return messages.TxRequest{
		GatewayEUI: gateway, UplinkToken: uplinkToken{eui: gateway, tmst: 1000, antenna: 1, board: 2, rfChain: 1}.bytes(),
		PHYPayload: []byte{0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, Frequency: 868100000,
		DataRate: messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000, CodingRate: "4/5"}, Power: 16, Timestamp: 1001000,
	}
}

func tokenOf(p []byte) uint16 { return binary.BigEndian.Uint16(p[1:3]) }

func newIDs(s *Server) *mathrand.ChaCha8 { return mathrand.NewChaCha8(s.seed()) }
