package semtechudp

import (
	"context"
	"fmt"
	"net/netip"
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

func TestUnknownRadioGateways(t *testing.T) {
	stranger := messages.EUI64{9, 9, 9}
	b := newBench(t)
	for _, kind := range []byte{pushData, pullData} {
		if _, ok := b.receive(packet(2, 1, kind, stranger, rxpks(rxpkJSON(dataUp))), home, b.now); ok {
			t.Errorf("kind %d acknowledged", kind)
		}
	}
	b.drain()
	if b.dropped(dropUnknown) != 2 || len(b.sink.frames) != 0 || len(b.Gateways()) != 0 {
		t.Errorf("%d dropped, %d frames, %v", b.dropped(dropUnknown), len(b.sink.frames), b.Gateways())
	}

	b = listening(t, func(c *Config) { c.AutoRegister = true })
	f := b.forwarder()
	f.send(f.push, packet(2, 1, pushData, stranger, rxpks(rxpkJSON(dataUp))))
	f.read(f.push)
	if got := receiveOrFail(t, b.sink.frames); got.Rx[0].GatewayID != "eui-0909090000000000" {
		t.Errorf("gateway id %q", got.Rx[0].GatewayID)
	}
	if got := receiveOrFail(t, b.registry.registered); got != stranger {
		t.Errorf("%v registered", got)
	}
}

func TestRegistrationIsAskedForOnceAMinute(t *testing.T) {
	b := newBench(t, func(c *Config) { c.AutoRegister = true })
	stranger := messages.EUI64{9, 9, 9}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Second, 1}, {59 * time.Second, 1}, {time.Minute, 2}, {61 * time.Second, 2}} {
		b.receive(packet(2, 1, pullData, stranger, ""), home, noon.Add(c.after))
		if got := len(b.registrations); got != c.want {
			t.Errorf("after %v: asked %d times, want %d", c.after, got, c.want)
		}
	}
}

func TestOneAddressBringsFewUnknownRadioGateways(t *testing.T) {
	b := newBench(t, func(c *Config) { c.AutoRegister, c.UnknownRate, c.UnknownBurst = true, 1, 10 })
	flood := func(from netip.AddrPort, first byte, now time.Time) (taken int) {
		for i := range 100 {
			if _, ok := b.receive(packet(2, 1, pullData, messages.EUI64{first, 1, byte(i)}, ""), from, now); ok {
				taken++
			}
		}
		return taken
	}
	if got := flood(home, 1, noon); got != 10 || b.dropped(dropUnknownRate) != 90 {
		t.Errorf("%d taken, %d dropped", got, b.dropped(dropUnknownRate))
	}
	if got := flood(netip.MustParseAddrPort("198.51.100.7:1"), 2, noon); got != 10 {
		t.Errorf("another address: %d taken", got)
	}
	if got := flood(home, 3, noon.Add(3*time.Second)); got != 3 {
		t.Errorf("3 s later: %d taken, want 3", got)
	}
	if _, ok := b.receive(packet(2, 1, pullData, gateway, ""), home, noon); !ok {
		t.Error("a registered radio gateway behind the same address is refused")
	}
	b.table.sweep(noon.Add(time.Hour))
	if len(b.table.sources) != 0 {
		t.Errorf("%d addresses are remembered for ever", len(b.table.sources))
	}
}

func TestDownlinksCantBeStolenByPullDataFromElsewhere(t *testing.T) {
	thief := netip.MustParseAddrPort("198.51.100.7:4000")
	moved := netip.AddrPortFrom(home.Addr(), 4001)
	b := newBench(t)
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	for i, c := range []struct {
		from   netip.AddrPort
		second int
		taken  bool
		path   netip.AddrPort
	}{
		{home, 0, true, home},
		{thief, 1, false, home},
		{moved, 10, true, moved},
		{thief, 69, false, moved},
		{thief, 70, true, thief}, // silent for a minute: it may have moved
		{home, 80, false, thief},
	} {
		reply, ok := b.receive(packet(2, 1, pullData, gateway, ""), c.from, at(c.second))
		if ok != c.taken || ok && reply[3] != pullAck {
			t.Errorf("step %d: acknowledged %v, want %v", i, ok, c.taken)
		}
		if got, _, _ := b.table.get(gateway).path(at(c.second), time.Hour); got != c.path {
			t.Errorf("step %d: downlinks go to %v, want %v", i, got, c.path)
		}
	}
	if got := b.dropped(dropAddressChange); got != 3 {
		t.Errorf("%d refusals counted", got)
	}
}

func TestIPv4InIPv6IsTheSameAddress(t *testing.T) {
	if got := unmap(netip.MustParseAddrPort("[::ffff:192.0.2.1]:4000")); got != home {
		t.Errorf("got %v", got)
	}
}

func TestTxAckFromAnotherAddressIsIgnored(t *testing.T) {
	b := newBench(t)
	b.receive(packet(2, 1, pullData, gateway, ""), home, b.now)
	g := b.table.get(gateway)
	answer, _ := g.expect(7, home.Addr(), b.now)
	b.receive(packet(2, 7, txAck, gateway, `{"txpk_ack":{"error":"TOO_LATE"}}`), netip.MustParseAddrPort("198.51.100.7:1"), b.now)
	if len(answer) != 0 || b.dropped(dropForeignAck) != 1 {
		t.Error("a TX_ACK from elsewhere was taken")
	}
	b.receive(packet(2, 7, txAck, gateway, ""), netip.AddrPortFrom(home.Addr(), 9), b.now) // some use a third port
	if len(answer) != 1 {
		t.Error("the radio gateway's own was not")
	}
}

func TestRateOfOneRadioGateway(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxRate = 10 })
	b.receive(packet(2, 1, pullData, gateway, ""), home, noon)
	flood := func(from string, now time.Time) (taken int) {
		for range 200 {
			if _, ok := b.receive(packet(2, 1, pushData, gateway, "{}"), netip.MustParseAddrPort(from), now); ok {
				taken++
			}
		}
		return taken
	}
	// A flood in the name of the radio gateway from elsewhere does not take its own share.
	if got := flood("198.51.100.7:1", noon); got != 19 { // one of 20 went to the first PULL_DATA
		t.Errorf("elsewhere: %d taken", got)
	}
	if got := flood("192.0.2.1:77", noon); got != 20 {
		t.Errorf("own address: %d taken", got)
	}
	if got := flood("192.0.2.1:77", noon.Add(time.Second)); got != 10 {
		t.Errorf("a second later: %d taken", got)
	}
	if got := b.dropped(dropRate); got != 181+180+190 {
		t.Errorf("%d dropped", got)
	}
	b.receive(packet(2, 1, txAck, gateway, ""), netip.MustParseAddrPort("198.51.100.7:1"), noon)
	if b.dropped(dropRate) != 181+180+190+1 || b.dropped(dropUnmatched) != 0 {
		t.Error("TX_ACKs have no rate")
	}
}

func TestWhatIsInFlightIsBounded(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Workers, c.MaxInFlight = 1, 10 })
	for range 30 {
		if _, ok := b.receive(packet(2, 1, pushData, gateway, rxpks(rxpkJSON(dataUp))), home, b.now); !ok {
			t.Fatal("not acknowledged")
		}
	}
	if b.dropped(dropInFlight) != 20 || b.inFlight.Load() != 10 {
		t.Errorf("%d dropped, %d in flight", b.dropped(dropInFlight), b.inFlight.Load())
	}
	b.drain()
	if len(b.sink.frames) != 10 || b.inFlight.Load() != 0 || b.inFlightBytes.Load() != 0 {
		t.Errorf("%d frames, then %d in flight of %d bytes", len(b.sink.frames), b.inFlight.Load(), b.inFlightBytes.Load())
	}
}

func TestWhatIsInFlightIsBoundedInBytes(t *testing.T) {
	b := newBench(t)
	body := strings.Repeat(" ", 60000)
	for range 1500 {
		b.receive(packet(2, 1, pushData, gateway, body), home, b.now)
	}
	if got := b.inFlightBytes.Load(); got > maxInFlightBytes || b.dropped(dropInFlight) != 1500-maxInFlightBytes/60000 {
		t.Errorf("%d bytes in flight, %d dropped", got, b.dropped(dropInFlight))
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

func TestLargestDatagrams(t *testing.T) {
	b := listening(t)
	f := b.forwarder()
	const most = 65507
	doc := rxpkJSON(dataUp)
	body := `{"rxpk":[` + doc + `]` + strings.Repeat(" ", most-headerSize-len(doc)-11) + "}"
	for _, body := range []string{body, strings.Repeat("[", most-headerSize), strings.Repeat(`{"rxpk":`, (most-headerSize)/8), strings.Repeat("\xff", most-headerSize)} {
		f.send(f.push, packet(2, 0x0102, pushData, gateway, body))
		if got := f.read(f.push); string(got) != "\x02\x01\x02\x01" {
			t.Errorf("PUSH_ACK %x", got)
		}
	}
	receiveOrFail(t, b.sink.frames)
	f.connect(2, gateway)
	f.send(f.pull, packet(2, 1, txAck, gateway, strings.Repeat("{", most-headerSize)))
	f.connect(2, gateway)
}

// A known radio gateway is served among a hundred times as much of what others send.
func TestKnownRadioGatewayIsServedThroughAFlood(t *testing.T) {
	b := listening(t)
	f, flood := b.forwarder(), b.forwarder()
	f.connect(2, gateway)
	junk := [][]byte{
		packet(2, 1, pushData, messages.EUI64{6, 6, 6}, rxpks(rxpkJSON(dataUp))), packet(9, 1, pushData, gateway, "{}"), {1, 2, 3},
		packet(2, 1, txAck, gateway, strings.Repeat("{", 500)), packet(2, 1, pullData, messages.EUI64{7, 7, 7}, ""),
	}
	const n = 50
	answered := 0
	for i := range n {
		for j := range 100 {
			flood.send(flood.pull, junk[j%len(junk)])
		}
		f.send(f.push, packet(2, uint16(i), pushData, gateway, rxpks(rxpkJSON(dataUp))))
		_ = f.push.SetReadDeadline(time.Now().Add(time.Second))
		var reply [16]byte
		if _, _, err := f.push.ReadFromUDPAddrPort(reply[:]); err == nil {
			answered++
		}
	}
	if answered < n*9/10 {
		t.Errorf("%d of %d served", answered, n)
	}
}

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
	if err := b.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another") {
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

func TestSilentRadioGatewaysAreForgottenAfterADay(t *testing.T) {
	b := newBench(t)
	b.receive(packet(2, 1, pullData, gateway, ""), home, noon)
	b.table.sweep(noon.Add(23 * time.Hour))
	if len(b.Gateways()) != 1 {
		t.Error("forgotten too early")
	}
	b.table.sweep(noon.Add(25 * time.Hour))
	if len(b.Gateways()) != 0 {
		t.Error("not forgotten")
	}
}

func TestTableIsBoundedForUnknownRadioGateways(t *testing.T) {
	var tab table
	tab.gateways = make(map[messages.EUI64]*radioGateway)
	for i := range maxGateways {
		tab.gateways[messages.EUI64{1, byte(i >> 16), byte(i >> 8), byte(i)}] = &radioGateway{}
	}
	if tab.add(messages.EUI64{2}, false, 1, noon) != nil || tab.add(messages.EUI64{3}, true, 1, noon) == nil {
		t.Error("an unknown radio gateway was let in, or a registered one was not")
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
