package semtechudp

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
)

// heard lets gateway receive a frame at concentrator time tmst.
func (b *bench) heard(tmst uint32, from netip.AddrPort) {
	b.Helper()
	b.receive(packet(2, 1, pushData, gateway, rxpks(strings.Replace(rxpkJSON(dataUp), `"tmst":1000`, fmt.Sprintf(`"tmst":%d`, tmst), 1))), from, b.now)
	b.drain()
	receiveOrFail(b, b.sink.frames)
}

func TestTimestampsOverWrapAndRestartOfTheConcentrator(t *testing.T) {
	const second = 1_000_000
	for name, c := range map[string]struct {
		heard   uint32 // tmst of the newest uplink
		elapsed time.Duration
		tmst    uint32 // of the downlink
		want    messages.TxError
	}{
		"RX1":                                {5 * second, 300 * time.Millisecond, 6 * second, messages.TxOK},
		"join-accept":                        {5 * second, 0, 11 * second, messages.TxOK},
		"just now":                           {5 * second, time.Second, 6 * second, messages.TxOK},
		"too late":                           {5 * second, 1001 * time.Millisecond, 6 * second, messages.TxTooLate},
		"counter wraps before RX1":           {1<<32 - 400_000, 300 * time.Millisecond, 600_000, messages.TxOK},
		"counter has wrapped":                {1<<32 - 200_000, 300 * time.Millisecond, 800_000, messages.TxOK},
		"wrapped and too late":               {1<<32 - 200_000, 2 * time.Second, 800_000, messages.TxTooLate},
		"restarted: time of before is ahead": {1 * second, 100 * time.Millisecond, 1_000 * second, messages.TxTooEarly},
		"restarted: time of before is past":  {1 * second, 100 * time.Millisecond, 3_500 * second, messages.TxTooLate},
		"nothing heard for long":             {5 * second, 11 * time.Minute, 6 * second, messages.TxOK},
	} {
		b := newBench(t)
		b.receive(packet(2, 1, pullData, gateway, ""), home, b.now)
		b.heard(c.heard, home)
		if got := b.table.get(gateway).schedulable(c.tmst, 0, noon.Add(c.elapsed)); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestFramesFromElsewhereDoNotSetTheClock(t *testing.T) {
	b := newBench(t)
	b.receive(packet(2, 1, pullData, gateway, ""), home, b.now)
	b.heard(5_000_000, home)
	b.heard(3_000_000_000, netip.MustParseAddrPort("198.51.100.7:1"))
	if got := b.table.get(gateway).schedulable(6_000_000, 0, noon); got != messages.TxOK {
		t.Errorf("a forged timestamp stops downlinks: %q", got)
	}
}

func TestDownlinkForATimeBeforeTheRestartIsNotSent(t *testing.T) {
	b := listening(t)
	f := b.forwarder()
	f.connect(2, gateway)
	f.send(f.push, packet(2, 1, pushData, gateway, rxpks(strings.Replace(rxpkJSON(dataUp), `"tmst":1000`, `"tmst":2000000000`, 1))))
	f.read(f.push)
	frame := receiveOrFail(t, b.sink.frames)
	// The concentrator restarts, and the next uplink says so.
	f.send(f.push, packet(2, 1, pushData, gateway, rxpks(rxpkJSON(dataUp))))
	f.read(f.push)
	receiveOrFail(t, b.sink.frames)
	req := downlink()
	req.UplinkToken, req.Timestamp = frame.Rx[0].UplinkToken, frame.Settings.Timestamp+1_000_000
	if got := b.Send(t.Context(), req); got != messages.TxTooEarly {
		t.Errorf("got %q", got)
	}
	f.nothing(f.pull)
}

func TestBoardsHaveClocksOfTheirOwn(t *testing.T) {
	b := newBench(t)
	b.receive(packet(2, 1, pullData, gateway, ""), home, b.now)
	b.heard(5_000_000, home)
	if got := b.table.get(gateway).schedulable(3_000_000_000, 1, noon); got != messages.TxOK {
		t.Errorf("got %q", got)
	}
}

func TestClockOfTheServerGoesBack(t *testing.T) {
	b := newBench(t)
	b.receive(packet(2, 1, pullData, gateway, ""), home, b.now)
	b.heard(5_000_000, home)
	if got := b.table.get(gateway).schedulable(6_000_000, 0, noon.Add(-time.Hour)); got != messages.TxOK {
		t.Errorf("got %q", got)
	}
}

func TestLogTellsOnceThatARadioGatewayIsThere(t *testing.T) {
	var log bytes.Buffer
	b := newBench(t, func(c *Config) { c.AutoRegister, c.Log = true, slog.New(slog.NewTextHandler(&log, nil)) })
	stranger := messages.EUI64{0xAA, 0x55, 0x5A, 0, 0, 0, 2, 2}
	for _, c := range []struct {
		eui   messages.EUI64
		after time.Duration
		lines int
	}{{gateway, 0, 1}, {gateway, 9 * time.Minute, 1}, {stranger, 0, 1}, {gateway, 11 * time.Minute, 2}} {
		b.now = b.now.Add(c.after)
		if _, ok := b.receive(packet(2, 1, pullData, c.eui, ""), home, b.now); !ok {
			t.Fatalf("%s: no PULL_ACK", c.eui)
		}
		if got := strings.Count(log.String(), `msg="radio gateway is connected" gateway_id=gateway-1 gateway_eui=`+gateway.String()); got != c.lines || strings.Count(log.String(), "\n") != got {
			t.Errorf("%s after %s: %d lines, want %d:\n%s", c.eui, c.after, got, c.lines, log.String())
		}
	}
}
