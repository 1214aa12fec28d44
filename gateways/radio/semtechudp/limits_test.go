package semtechudp

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
)

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

// slowRegistry takes its time to register, as a store that is busy does, and then fails.
type slowRegistry struct {
	*registry
	asked chan messages.EUI64
}

func (r slowRegistry) Register(ctx context.Context, eui messages.EUI64) error {
	r.asked <- eui
	<-ctx.Done()
	return ctx.Err()
}

func TestSlowRegistrationHoldsNothingUp(t *testing.T) {
	slow := slowRegistry{newRegistry(), make(chan messages.EUI64, 100)}
	b := listening(t, func(c *Config) { c.AutoRegister, c.Registry = true, slow })
	f := b.forwarder()
	for i := range byte(20) { // more than register at once
		f.send(f.push, packet(2, 1, pushData, messages.EUI64{9, i}, rxpks(rxpkJSON(dataUp))))
		f.read(f.push)
		receiveOrFail(t, b.sink.frames)
	}
	receiveOrFail(t, slow.asked)
	if err := b.Close(); err != nil {
		t.Error(err)
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
	var log strings.Builder
	b := newBench(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
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
	// One line for each row of refusals.
	if got := strings.Count(log.String(), "refused"); got != 2 || !strings.Contains(log.String(), "gateway_eui=AA555A0000000101 address=198.51.100.7:4000") {
		t.Errorf("%d lines: %s", got, log.String())
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
	body := "{}"
	flood := func(from string, now time.Time) (taken int) {
		for range 200 {
			if _, ok := b.receive(packet(2, 1, pushData, gateway, body), netip.MustParseAddrPort(from), now); ok {
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
	body = strings.Repeat(" ", 4<<10) // counts as five
	if got := flood("192.0.2.1:77", noon.Add(time.Minute)); got != 4 {
		t.Errorf("large datagrams: %d taken", got)
	}
	body = strings.Repeat(" ", 60<<10) // more than the burst, so it takes all of it
	if got := flood("192.0.2.1:77", noon.Add(2*time.Minute)); got != 1 {
		t.Errorf("very large datagrams: %d taken", got)
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
	b := newBench(t, func(c *Config) { c.MaxRate = 1e6 })
	body := strings.Repeat(" ", 60000)
	for range 1500 {
		b.receive(packet(2, 1, pushData, gateway, body), home, b.now)
	}
	if got := b.inFlightBytes.Load(); got > maxInFlightBytes || b.dropped(dropInFlight) != 1500-maxInFlightBytes/60000 {
		t.Errorf("%d bytes in flight, %d dropped", got, b.dropped(dropInFlight))
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
