package simulator

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"lorikeet/messages"
)

// bench is one device in reach of some radio gateways and a fake server.
type bench struct {
	ctx      context.Context
	server   *fakeServer
	air      *Air
	gateways []*Gateway
	device   *Device
	rejected chan error
}

func newBench(t *testing.T, gateways int, activation Activation, change func(*fakeServer), air AirConfig) *bench {
	t.Helper()
	id := MakeIdentity(7, 0, activation)
	b := &bench{server: startFake(t, change, id), rejected: make(chan error, 100)}
	var cancel context.CancelFunc
	b.ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	air.Rejected = func(_ *Device, err error) { b.rejected <- err }
	b.air = NewAir(air)
	t.Cleanup(b.air.Close)
	for i := range gateways {
		g, err := b.air.OpenGateway(b.ctx, GatewayConfig{EUI: gatewayEUI(7, i), Server: b.server.addr(), Counter: 1<<32 - 500_000})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.WaitConnected(b.ctx); err != nil {
			t.Fatal(err)
		}
		b.gateways = append(b.gateways, g)
	}
	d, err := b.air.AddDevice(MACConfig{DevEUI: id.DevEUI, JoinEUI: id.JoinEUI, AppKey: id.AppKey, ABP: id.ABP, Region: EU868, DataRate: -1}, b.gateways...)
	if err != nil {
		t.Fatal(err)
	}
	b.device = d
	return b
}

func (b *bench) send(t *testing.T, u Uplink) Transmission {
	t.Helper()
	tr, err := b.device.Send(u)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (b *bench) wait(t *testing.T) Downlink {
	t.Helper()
	d, err := b.device.WaitDownlink(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (b *bench) waitRejected(t *testing.T) error {
	t.Helper()
	select {
	case err := <-b.rejected:
		return err
	case <-b.ctx.Done():
		t.Fatal("no downlink was rejected")
		return nil
	}
}

// TestJoinAndEcho goes through the counter's wrap (2^32 µs), which comes half a second after the start.
func TestJoinAndEcho(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, OTAA, func(s *fakeServer) { s.echo = true }, AirConfig{})
	if _, err := b.device.Send(Uplink{FPort: 1}); err == nil {
		t.Error("an uplink before the join")
	}
	if _, err := b.device.Join(b.ctx); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		up := b.send(t, Uplink{FPort: 5, Payload: []byte(text), Confirmed: text == "two"})
		d := b.wait(t)
		if string(d.Payload) != text || d.FPort != 5 || d.Sequence != up.Sequence || d.Ack != up.Confirmed || d.Window != 1 {
			t.Errorf("answer to %q: %+v", text, d)
		}
	}
	if _, err := b.device.Join(b.ctx); err != nil {
		t.Fatalf("second join: %v", err)
	}
	if s := b.device.State(); s.DevNonce != 2 || s.FCntUp != 0 {
		t.Errorf("state %+v", s)
	}
}

func TestRealTime(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, ABP, func(s *fakeServer) { s.echo = true }, AirConfig{RealTime: true})
	start := time.Now()
	b.send(t, Uplink{FPort: 1, Payload: []byte("x")})
	b.wait(t)
	if d := time.Since(start); d < 999*time.Millisecond {
		t.Errorf("the downlink was heard after %s, before RX1", d)
	}
}

func TestCopies(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3, ABP, func(s *fakeServer) { s.echo = true }, AirConfig{})
	b.send(t, Uplink{FPort: 1, Payload: []byte("x"), Confirmed: true})
	b.wait(t)
	for range 2 { // the fake server answers each copy of a confirmed uplink, with a new counter; the radio gateways race
		if err := b.waitRejected(t); ReasonOf(err) != OutsideWindow && ReasonOf(err) != FCntTooLow {
			t.Errorf("got %v", err)
		}
	}
	if n, _ := b.server.seen(); n != 3 {
		t.Errorf("the server had %d copies, want 3", n)
	}
}

func TestFCntDownReuseIsReported(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, ABP, func(s *fakeServer) { s.echo, s.lie = true, func(uint32) uint32 { return 0 } }, AirConfig{})
	b.send(t, Uplink{FPort: 1, Payload: []byte("one")})
	b.wait(t)
	b.send(t, Uplink{FPort: 1, Payload: []byte("two")})
	if err := b.waitRejected(t); ReasonOf(err) != FCntDownReused {
		t.Errorf("got %v", err)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, ABP, func(s *fakeServer) { s.echo = true }, AirConfig{})
	up := b.send(t, Uplink{FPort: 1, Payload: []byte("x")})
	b.wait(t)
	b.device.Replay(up, b.gateways[1])
	b.send(t, Uplink{FPort: 1, Payload: []byte("y")})
	if d := b.wait(t); string(d.Payload) != "y" {
		t.Errorf("got %+v", d)
	}
	for _, g := range b.gateways {
		want := uint64(2)
		if g == b.gateways[1] {
			want = 3
		}
		if n := g.Stats().Sent; n != want {
			t.Errorf("%s sent %d frames, want %d", g.EUI(), n, want)
		}
	}
	if s := b.device.State(); s.FCntUp != 2 {
		t.Errorf("state %+v", s)
	}
}

// TestRefusedInRX1 lets the radio gateway refuse RX1: the server sends the same bytes in RX2, which is no reuse.
func TestRefusedInRX1(t *testing.T) {
	t.Parallel()
	fault := func(_ *Gateway, _ TxPacket, window int) messages.TxError {
		if window == 1 {
			return messages.TxCollisionPacket
		}
		return messages.TxOK
	}
	b := newBench(t, 1, OTAA, func(s *fakeServer) { s.echo, s.retry = true, true }, AirConfig{Fault: fault})
	if d, err := b.device.Join(b.ctx); err != nil || d.Window != 2 {
		t.Fatalf("join: %+v, %v", d, err)
	}
	b.send(t, Uplink{FPort: 1, Payload: []byte("x")})
	if d := b.wait(t); d.Window != 2 || string(d.Payload) != "x" {
		t.Errorf("got %+v", d)
	}
	for range 2 {
		if err := b.waitRejected(t); ReasonOf(err) != UnsentFrame {
			t.Errorf("got %v", err)
		}
	}
	_, txErrors := b.server.seen()
	if len(txErrors) != 2 || txErrors[0] != "COLLISION_PACKET" {
		t.Errorf("TX_ACK errors %v", txErrors)
	}
	if n := b.gateways[0].Stats().Refused[messages.TxCollisionPacket]; n != 2 {
		t.Errorf("the radio gateway counts %d refusals", n)
	}
}

func TestTooLateAndCollision(t *testing.T) {
	t.Parallel()
	g, err := openGateway(context.Background(), GatewayConfig{Server: "127.0.0.1:9", Lead: 30 * time.Millisecond, OneTransmitter: true, Counter: 1000}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	at := func(ahead time.Duration) TxPacket {
		g.mu.Lock()
		defer g.mu.Unlock()
		return TxPacket{Timestamp: g.stamp() + uint32(ahead.Microseconds()), DataRate: "SF12BW125", PHYPayload: make([]byte, 20)}
	}
	for i, c := range []struct {
		ahead time.Duration
		want  messages.TxError
	}{
		{20 * time.Millisecond, messages.TxTooLate}, {-time.Second, messages.TxTooLate}, {time.Hour / 2, messages.TxTooEarly},
		{10 * time.Second, messages.TxOK}, {11 * time.Second, messages.TxCollisionPacket}, {12 * time.Second, messages.TxOK},
	} {
		if got := g.schedule(at(c.ahead)); got != c.want {
			t.Errorf("%d: %s ahead: %q, want %q", i, c.ahead, got, c.want)
		}
	}
}

func TestConnectTimesOut(t *testing.T) {
	t.Parallel()
	s := startFake(t, func(s *fakeServer) { s.dropAll = true })
	air := NewAir(AirConfig{})
	defer air.Close()
	g, err := air.OpenGateway(context.Background(), GatewayConfig{Server: s.addr()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := g.WaitConnected(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestManyDevicesAtOnce drives devices and radio gateways from several goroutines, for the race detector.
func TestManyDevicesAtOnce(t *testing.T) {
	t.Parallel()
	var ids []Identity
	for i := range 20 {
		ids = append(ids, MakeIdentity(3, i, OTAA))
	}
	s := startFake(t, func(s *fakeServer) { s.echo = true }, ids...)
	air := NewAir(AirConfig{})
	defer air.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g, err := air.OpenGateway(ctx, GatewayConfig{Server: s.addr(), KeepAlive: time.Millisecond, Stat: time.Millisecond, GPS: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.WaitConnected(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			d, err := air.AddDevice(MACConfig{DevEUI: id.DevEUI, JoinEUI: id.JoinEUI, AppKey: id.AppKey, Region: EU868, DataRate: 5, Seed: uint64(i)}, g)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := d.Join(ctx); err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				if _, err := d.Send(Uplink{FPort: 1, Payload: []byte(id.DeviceID)}); err != nil {
					t.Error(err)
				}
				if down, err := d.WaitDownlink(ctx); err != nil || string(down.Payload) != id.DeviceID {
					t.Errorf("%s got %q: %v", id.DeviceID, down.Payload, err)
				}
			}
			air.RemoveDevice(d)
		})
	}
	wg.Wait()
}
