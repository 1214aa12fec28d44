package semtechudp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
)

func TestUplinksAndStatusComeThroughTheSocket(t *testing.T) {
	for _, version := range []byte{1, 2} {
		b := listening(t)
		f := b.forwarder()
		f.send(f.push, packet(version, 0xbeef, pushData, gateway, `{"stat":{"rxnb":1},"rxpk":[`+rxpkJSON(dataUp)+`]}`))
		if got := f.read(f.push); string(got) != string([]byte{version, 0xbe, 0xef, pushAck}) {
			t.Errorf("version %d: PUSH_ACK %x", version, got)
		}
		if got := receiveOrFail(t, b.sink.frames); string(got.PHYPayload) != string(dataUp) || got.Rx[0].GatewayID != "gateway-1" {
			t.Errorf("version %d: got %+v", version, got)
		}
		receiveOrFail(t, b.sink.statuses)
		f.send(f.pull, packet(version, 0x0102, pullData, gateway, ""))
		if got := f.read(f.pull); string(got) != string([]byte{version, 1, 2, pullAck}) {
			t.Errorf("version %d: PULL_ACK %x", version, got)
		}
		if c, ok := b.Gateway(gateway); !ok || c.ProtocolVersion != version || c.Uplinks != 1 || c.PullAddr.Port() == 0 || len(b.Gateways()) != 1 {
			t.Errorf("version %d: connection %+v, %v", version, c, ok)
		}
	}
}

// send starts a downlink; its result comes from the channel.

func (b *bench) send(ctx context.Context, req messages.TxRequest) <-chan messages.TxError {
	result := make(chan messages.TxError, 1)
	go func() { result <- b.Send(ctx, req) }()
	return result
}

func TestDownlinkGoesToTheLastPullDataAndTxAckDecides(t *testing.T) {
	b := listening(t)
	old, f := b.forwarder(), b.forwarder()
	old.connect(2, gateway)
	f.connect(2, gateway) // the port may change, as it does behind NAT
	for body, want := range map[string]messages.TxError{
		"": messages.TxOK, "\x00": messages.TxOK, "  ": messages.TxOK, `{"txpk_ack":{"error":"NONE"}}`: messages.TxOK, `{"txpk_ack":{"warn":"TX_POWER"}}`: messages.TxOK,
		`{"txpk_ack":{"error":"TOO_LATE"}}`: messages.TxTooLate, `{"txpk_ack":{"error":"COLLISION_PACKET"}}`: messages.TxCollisionPacket,
	} {
		result := b.send(t.Context(), downlink())
		resp := f.read(f.pull)
		if resp[0] != 2 || resp[3] != pullResp || !strings.HasPrefix(string(resp[4:]), `{"txpk":{"tmst":1001000,`) {
			t.Fatalf("PULL_RESP %x %s", resp[:4], resp[4:])
		}
		f.send(f.pull, packet(2, tokenOf(resp), txAck, gateway, body))
		if got := receiveOrFail(t, result); got != want {
			t.Errorf("TX_ACK %q: got %q, want %q", body, got, want)
		}
	}
	old.nothing(old.pull)
	old.nothing(old.push)
	f.nothing(f.push)
	if c, _ := b.Gateway(gateway); c.Downlinks != 5 || len(c.RoundTrips) != 7 || !slices.IsSorted(c.RoundTrips) || c.LastDownlink.IsZero() {
		t.Errorf("connection %+v", c)
	}
	if got := testutil.ToFloat64(b.metrics.tx.WithLabelValues("OK")); got != 5 {
		t.Errorf("%v downlinks counted as OK", got)
	}
}

func TestVersion1HasNoTxAck(t *testing.T) {
	b := listening(t)
	f := b.forwarder()
	f.connect(1, gateway)
	if got := b.Send(t.Context(), downlink()); got != messages.TxOK {
		t.Errorf("got %q", got)
	}
	if resp := f.read(f.pull); string(resp[:4]) != string([]byte{1, 0, 0, pullResp}) {
		t.Errorf("PULL_RESP %x", resp[:4])
	}
}

func TestTxAckIsForOneRadioGatewayAndOneToken(t *testing.T) {
	other := messages.EUI64{1, 2, 3, 4, 5, 6, 7, 8}
	// Both downlinks get the same token: only the EUI tells them apart.
	b := listening(t, func(c *Config) { c.Random = strings.NewReader(strings.Repeat("\x42", 1000)) })
	b.registry.add(other, "other")
	f, g := b.forwarder(), b.forwarder()
	f.connect(2, gateway)
	g.connect(2, other)
	reqOther := downlink()
	reqOther.GatewayEUI, reqOther.UplinkToken = other, uplinkToken{eui: other}.bytes()
	one := b.send(t.Context(), downlink())
	token := tokenOf(f.read(f.pull))
	two := b.send(t.Context(), reqOther)
	if got := tokenOf(g.read(g.pull)); got != token {
		t.Fatalf("tokens %04x and %04x", token, got)
	}
	g.send(g.pull, packet(2, token, txAck, other, `{"txpk_ack":{"error":"TOO_EARLY"}}`))
	f.send(f.pull, packet(2, token+1, txAck, gateway, `{"txpk_ack":{"error":"TX_FREQ"}}`))
	f.send(f.pull, packet(2, token, txAck, gateway, ""))
	f.send(f.pull, packet(2, token, txAck, gateway, `{"txpk_ack":{"error":"TX_FREQ"}}`))
	if a, c := receiveOrFail(t, one), receiveOrFail(t, two); a != messages.TxOK || c != messages.TxTooEarly {
		t.Errorf("got %q and %q", a, c)
	}
	f.connect(2, gateway) // all TX_ACKs before it are handled
	if n := b.dropped(dropUnmatched); n != 2 {
		t.Errorf("%d TX_ACKs that nobody waits for, want 2", n)
	}
}

func TestDownlinksWithoutAWayOrAnAnswer(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Clock = time.Now })
	if got := b.Send(t.Context(), downlink()); got != messages.TxNoPath {
		t.Errorf("before Start: %q", got)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if err := b.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	if got := b.Send(t.Context(), downlink()); got != messages.TxNoPath {
		t.Errorf("never heard of: %q", got)
	}
	f := b.forwarder()
	f.send(f.push, packet(2, 1, pushData, gateway, "{}"))
	f.read(f.push)
	if got := b.Send(t.Context(), downlink()); got != messages.TxNoPath {
		t.Errorf("PUSH_DATA alone: %q", got)
	}
	f.connect(2, gateway)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := b.Send(ended, downlink()); got != messages.TxTooLate {
		t.Errorf("too late before it began: %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := b.send(ctx, downlink())
	token := tokenOf(f.read(f.pull))
	cancel()
	if got := receiveOrFail(t, result); got != messages.TxUnanswered {
		t.Errorf("no TX_ACK: %q", got)
	}
	f.send(f.pull, packet(2, token, txAck, gateway, ""))
	f.connect(2, gateway)
	if b.dropped(dropUnmatched) != 1 {
		t.Error("a late TX_ACK is not counted")
	}
	wrong := downlink()
	wrong.PHYPayload = nil
	if got := b.Send(t.Context(), wrong); got != messages.TxUnknown {
		t.Errorf("impossible downlink: %q", got)
	}
}

func TestPathEndsWithSilence(t *testing.T) {
	b := newBench(t)
	b.receive(packet(2, 1, pullData, gateway, ""), home, b.now)
	g := b.table.get(gateway)
	for after, want := range map[time.Duration]bool{0: true, 9 * time.Minute: true, 10*time.Minute + time.Second: false} {
		if to, version, ok := g.path(noon.Add(after), b.cfg.PathExpiry); ok != want || to != home || version != 2 {
			t.Errorf("%v after the last PULL_DATA: %v %d %v", after, to, version, ok)
		}
	}
}

func TestFramesOfOneRadioGatewayKeepTheirOrder(t *testing.T) {
	b := listening(t, func(c *Config) { c.Workers = 4 })
	f := b.forwarder()
	const n = 500
	for i := range n {
		phy := slices.Clone(dataUp)
		phy[6], phy[7] = byte(i), byte(i>>8)
		f.send(f.push, packet(2, uint16(i), pushData, gateway, rxpks(rxpkJSON(phy))))
		f.read(f.push)
	}
	for i := range n {
		if got := receiveOrFail(t, b.sink.frames); int(got.PHYPayload[6])|int(got.PHYPayload[7])<<8 != i {
			t.Fatalf("frame %d is number %d", i, int(got.PHYPayload[6])|int(got.PHYPayload[7])<<8)
		}
	}
}

// A known radio gateway is served among a hundred times as much of what others send.

func TestCloseUnderLoadHandsOnWhatWasAcknowledged(t *testing.T) {
	b := listening(t)
	f := b.forwarder()
	f.connect(2, gateway)
	waiting := b.send(t.Context(), downlink())
	f.read(f.pull)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	acknowledged := 0
	wg.Go(func() {
		for {
			f.send(f.push, packet(2, 1, pushData, gateway, rxpks(rxpkJSON(dataUp))))
			_ = f.push.SetReadDeadline(time.Now().Add(time.Second))
			var reply [16]byte
			if _, _, err := f.push.ReadFromUDPAddrPort(reply[:]); err == nil {
				acknowledged++
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for range 50 {
		receiveOrFail(t, b.sink.frames)
	}
	for range 3 {
		wg.Go(func() { _ = b.Close() })
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got := receiveOrFail(t, waiting); got != messages.TxUnanswered {
		t.Errorf("downlink that waits for TX_ACK: %q", got)
	}
	close(stop)
	wg.Wait()
	if got := 50 + len(b.sink.frames); got < acknowledged {
		t.Errorf("%d frames of %d that were acknowledged", got, acknowledged)
	}
	if got := b.Send(t.Context(), downlink()); got != messages.TxNoPath {
		t.Errorf("downlink after the end: %q", got)
	}
}

func TestSetupThatCantWorkIsRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no sink":      {Registry: newRegistry()},
		"no registry":  {Sink: newRecorder()},
		"no worker":    {Sink: newRecorder(), Registry: newRegistry(), Workers: -1},
		"no in flight": {Sink: newRecorder(), Registry: newRegistry(), Workers: 4, MaxInFlight: 3},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	b := newBench(t, func(c *Config) { c.Listen = "nowhere" })
	if err := b.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("got %v", err)
	}
	busy := listening(t)
	b = newBench(t, func(c *Config) { c.Listen = busy.Addr().String() })
	if err := b.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
	if err := b.Close(); err != nil || b.Addr().IsValid() {
		t.Errorf("close before start: %v, %v", err, b.Addr())
	}
}

func TestMetricsAreRegistered(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := listening(t, func(c *Config) { c.Registerer = reg })
	f := b.forwarder()
	f.connect(2, gateway)
	if n, err := testutil.GatherAndCount(reg, "lorikeet_semtechudp_datagrams_total", "lorikeet_semtechudp_in_flight", "lorikeet_semtechudp_kernel_dropped_total"); err != nil || n != 5 {
		t.Errorf("%d series, %v", n, err)
	}
	if _, err := New(Config{Sink: b.sink, Registry: b.registry, Registerer: reg}); err == nil {
		t.Error("registered twice")
	}
}

func TestKernelDropsAreReadFromProc(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 00000000:06A4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12345 2 0000000000000000 42
  101: 0100007F:06A4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12346 2 0000000000000000 8
  102: 00000000:06A5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12347 2 0000000000000000 9
  103: 00000000:06A4 short
`
	if got := parseDrops(strings.NewReader(table), 1700); got != 50 {
		t.Errorf("got %d", got)
	}
}

func TestGatewaysAreListedByEUI(t *testing.T) {
	b := newBench(t)
	for i := range 20 {
		eui := messages.EUI64{byte(i * 37)}
		b.registry.add(eui, fmt.Sprint(i))
		if !eui.IsZero() {
			b.receive(packet(2, 1, pullData, eui, ""), home, noon)
		}
	}
	list := b.Gateways()
	if len(list) != 19 || !slices.IsSortedFunc(list, func(a, c Connection) int { return strings.Compare(a.GatewayEUI.String(), c.GatewayEUI.String()) }) {
		t.Errorf("got %d: %v", len(list), list)
	}
}

func TestSuspendedServerTakesFramesButDoesNotAcknowledge(t *testing.T) {
	suspended := true
	var pulled []messages.EUI64
	b := newBench(t, func(c *Config) {
		c.Suspended = func() bool { return suspended }
		c.Pulled = func(eui messages.EUI64) { pulled = append(pulled, eui) }
	})
	push := packet(2, 1, pushData, gateway, `{"rxpk":[`+rxpkJSON(dataUp)+`]}`)
	for _, datagram := range [][]byte{push, packet(2, 2, pullData, gateway, "")} {
		if reply, ok := b.receive(datagram, home, b.now); ok {
			t.Errorf("acknowledged with %x", reply)
		}
	}
	b.drain()
	if len(b.sink.frames) != 1 || len(pulled) != 0 {
		t.Errorf("%d frames taken, paths %v", len(b.sink.frames), pulled)
	}
	suspended = false
	for _, datagram := range [][]byte{push, packet(2, 2, pullData, gateway, "")} {
		if _, ok := b.receive(datagram, home, b.now); !ok {
			t.Error("not acknowledged")
		}
	}
	if len(pulled) != 1 {
		t.Errorf("paths %v", pulled)
	}
}
