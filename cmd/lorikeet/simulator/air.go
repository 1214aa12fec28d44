package simulator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/messages"
)

// AirConfig says how the air between devices and radio gateways behaves. The zero value suits a test that drives devices by hand.
type AirConfig struct {
	// RealTime lets a downlink reach the device when its window opens. Else the device has it as soon as the radio gateway
	// has, still checked against the window: a test need not wait 5 s for each join.
	RealTime bool
	// Fault decides whether a radio gateway refuses a downlink (or keeps silent: NoTxAck). window is 1 or 2, 0 if the downlink
	// answers no uplink. Nil: never. It may be called from several goroutines.
	Fault func(g *Gateway, p TxPacket, window int) messages.TxError
	// Accepted and Rejected are told what becomes of each downlink; d is nil if it is for no device of this air. err is a
	// *Rejection. They may be called from several goroutines and must not call the device. With Accepted set, WaitDownlink does not work.
	Accepted func(d *Device, down Downlink)
	Rejected func(d *Device, err error)
}

// Air holds radio gateways and the devices around them. It is safe for concurrent use.
type Air struct {
	cfg      AirConfig
	mu       sync.RWMutex
	gateways []*Gateway
	byAddr   map[messages.DevAddr][]*Device
	joins    map[joinKey]*Device
	timers   sync.WaitGroup
	waiting  atomic.Int64 // downlinks whose window is not open yet
	done     chan struct{}
}

// joinKey names the reception of a join-request: a join-accept tells nothing of its device but its time.
type joinKey struct {
	gateway messages.EUI64
	tmst    uint32
}

// NewAir makes an empty air. Close it after use.
func NewAir(cfg AirConfig) *Air {
	return &Air{cfg: cfg, byAddr: map[messages.DevAddr][]*Device{}, joins: map[joinKey]*Device{}, done: make(chan struct{})}
}

// OpenGateway starts a radio gateway and its PULL_DATA.
func (a *Air) OpenGateway(ctx context.Context, cfg GatewayConfig) (*Gateway, error) {
	g, err := openGateway(ctx, cfg, a.transmit, a.deliver)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gateways = append(a.gateways, g)
	return g, nil
}

// Close stops all radio gateways; downlinks that wait for their time are dropped.
func (a *Air) Close() {
	close(a.done)
	a.mu.RLock()
	gateways := a.gateways
	a.mu.RUnlock()
	for _, g := range gateways {
		g.Close()
	}
	a.timers.Wait()
}

// AddDevice puts a device on air, where the given radio gateways hear it.
func (a *Air) AddDevice(cfg MACConfig, heardBy ...*Gateway) (*Device, error) {
	m, err := NewMAC(cfg)
	if err != nil {
		return nil, err
	}
	d := &Device{air: a, mac: m, heardBy: heardBy, notify: make(chan struct{}, 1), onAir: make([]heard, m.cfg.Windows)}
	if m.Active() {
		a.index(d, messages.DevAddr{})
	}
	return d, nil
}

// RemoveDevice takes a device off air.
func (a *Air) RemoveDevice(d *Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropAddr(d, d.mac.Session().DevAddr)
	a.dropJoins(d)
}

// index moves d to its present DevAddr. The caller holds d.mu, or d is not shared yet.
func (a *Air) index(d *Device, old messages.DevAddr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropAddr(d, old)
	addr := d.mac.Session().DevAddr
	a.byAddr[addr] = append(append([]*Device(nil), a.byAddr[addr]...), d) // copied: readers hold the old slice
	a.dropJoins(d)
}

func (a *Air) dropAddr(d *Device, addr messages.DevAddr) {
	var kept []*Device
	for _, other := range a.byAddr[addr] {
		if other != d {
			kept = append(kept, other)
		}
	}
	if kept == nil {
		delete(a.byAddr, addr)
		return
	}
	a.byAddr[addr] = kept
}

func (a *Air) dropJoins(d *Device) {
	for _, k := range d.joinKeys {
		delete(a.joins, k)
	}
	d.joinKeys = nil
}

// target is a device that may be meant by a downlink, and when it last sent as seen by the radio gateway.
type target struct {
	device *Device
	after  []Elapsed
	window int
}

// targets finds the devices that a downlink may be for.
func (a *Air) targets(g *Gateway, p TxPacket) []target {
	a.mu.RLock()
	var devices []*Device
	if len(p.PHYPayload) >= 5 && p.PHYPayload[0]>>5 == 1 {
		for delay := joinDelay1; delay <= joinDelay1+rx2AfterRX1; delay += rx2AfterRX1 {
			if d := a.joins[joinKey{g.cfg.EUI, p.Timestamp - uint32(delay.Microseconds())}]; d != nil {
				devices = append(devices, d)
			}
		}
	} else if len(p.PHYPayload) >= 5 {
		var addr messages.DevAddr
		binary.BigEndian.PutUint32(addr[:], binary.LittleEndian.Uint32(p.PHYPayload[1:]))
		devices = a.byAddr[addr]
	}
	a.mu.RUnlock()
	var out []target
	for _, d := range devices {
		out = append(out, d.target(g, p))
	}
	return out
}

// transmit is what the radio gateways ask before their TX_ACK.
func (a *Air) transmit(g *Gateway, p TxPacket, refused messages.TxError) messages.TxError {
	if refused == messages.TxOK && a.cfg.Fault != nil {
		window := 0
		for _, t := range a.targets(g, p) {
			window = max(window, t.window)
		}
		refused = a.cfg.Fault(g, p, window)
	}
	if refused != messages.TxOK && refused != NoTxAck {
		a.receive(g, p, true)
	}
	return refused
}

// deliver puts a downlink on air.
func (a *Air) deliver(g *Gateway, p TxPacket) {
	if !a.cfg.RealTime || p.Immediate {
		a.receive(g, p, false)
		return
	}
	g.mu.Lock()
	wait := time.Duration(int32(p.Timestamp-g.counter-uint32(time.Since(g.start).Microseconds()))) * time.Microsecond
	g.mu.Unlock()
	a.timers.Add(1)
	a.waiting.Add(1)
	timer := time.NewTimer(wait)
	go func() {
		defer a.timers.Done()
		defer a.waiting.Add(-1)
		defer timer.Stop()
		select {
		case <-timer.C:
			a.receive(g, p, false)
		case <-a.done:
		}
	}()
}

// receive lets the devices in question hear the frame. The first that can read it has it; else the most telling error is reported.
func (a *Air) receive(g *Gateway, p TxPacket, unsent bool) {
	var who *Device
	err := reject(UnknownAddress, "no device listens")
	if len(p.PHYPayload) > 0 && p.PHYPayload[0]>>5 == 1 {
		err = reject(OutsideWindow, "join-accept at a time when no device listens")
	}
	for _, t := range a.targets(g, p) {
		down, e := t.device.receive(Reception{PHYPayload: p.PHYPayload, Frequency: p.Frequency, DataRate: p.DataRate,
			After: t.after, Immediate: p.Immediate, Unsent: unsent})
		if e == nil {
			if a.cfg.Accepted != nil {
				a.cfg.Accepted(t.device, down)
			}
			return
		}
		if who == nil || ReasonOf(e) != WrongMIC {
			who, err = t.device, e
		}
	}
	if a.cfg.Rejected != nil {
		a.cfg.Rejected(who, err)
	}
}

// heard is one transmission as the radio gateways heard it.
type heard struct {
	sequence uint64
	tmst     []uint32 // by index of Device.heardBy
}

// Device is a device on air. It is safe for concurrent use.
type Device struct {
	air     *Air
	heardBy []*Gateway

	mu       sync.Mutex
	mac      *MAC
	onAir    []heard // ring by sequence
	joinKeys []joinKey
	queue    []Downlink
	notify   chan struct{} // holds a token if queue may have grown
}

// State gives what must survive a restart of the device.
func (d *Device) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mac.State()
}

// Session gives the present session; its zero value if there is none.
func (d *Device) Session() Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mac.Session()
}

// StartJoin sends one join-request.
func (d *Device) StartJoin() (Transmission, error) {
	return d.send(false, (*MAC).JoinRequest)
}

// Join sends one join-request and waits for the join-accept.
func (d *Device) Join(ctx context.Context) (Downlink, error) {
	t, err := d.StartJoin()
	if err != nil {
		return Downlink{}, err
	}
	for {
		down, err := d.WaitDownlink(ctx)
		if err != nil {
			return Downlink{}, fmt.Errorf("no join-accept: %w", err)
		}
		if down.Join && down.Sequence == t.Sequence {
			return down, nil
		}
	}
}

// Send sends a data uplink.
func (d *Device) Send(u Uplink) (Transmission, error) {
	return d.send(false, func(m *MAC) (Transmission, error) { return m.Uplink(u) })
}

// ErrNothingToRepeat says that the newest uplink was answered, or sent as often as it should be.
var ErrNothingToRepeat = errors.New("no repetition is due")

// Repeat sends the newest uplink again, as a device does that misses the answer. See MAC.Repeat.
func (d *Device) Repeat() (Transmission, error) {
	return d.send(false, repeat)
}

func repeat(m *MAC) (Transmission, error) {
	t, ok := m.Repeat()
	if !ok {
		return t, ErrNothingToRepeat
	}
	return t, nil
}

// Replay puts a transmission on air again as it is, as an attacker does, where the given radio gateways hear it (none: those
// that hear the device). The device's state is not touched.
func (d *Device) Replay(t Transmission, heardBy ...*Gateway) {
	if len(heardBy) == 0 {
		heardBy = d.heardBy
	}
	for _, g := range heardBy {
		g.hear(t, true, nil)
	}
}

// send makes a transmission and lets the radio gateways hear it. With batch they may hold it back until flushed.
func (d *Device) send(batch bool, make func(*MAC) (Transmission, error)) (Transmission, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, err := make(d.mac)
	if err != nil {
		return t, err
	}
	if t.Join {
		d.air.mu.Lock()
		d.air.dropJoins(d)
		d.air.mu.Unlock()
	}
	h := &d.onAir[t.Sequence%uint64(len(d.onAir))]
	h.sequence, h.tmst = t.Sequence, h.tmst[:0]
	for _, g := range d.heardBy {
		g.hear(t, !batch, func(tmst uint32) {
			h.tmst = append(h.tmst, tmst)
			if t.Join {
				d.waitForAccept(joinKey{g.cfg.EUI, tmst})
			}
		})
	}
	return t, nil
}

func (d *Device) waitForAccept(k joinKey) {
	d.joinKeys = append(d.joinKeys, k)
	d.air.mu.Lock()
	defer d.air.mu.Unlock()
	d.air.joins[k] = d
}

// target places p after the transmissions of d whose windows are open.
func (d *Device) target(g *Gateway, p TxPacket) target {
	t := target{device: d}
	if p.Immediate {
		return t
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.onAir {
		for i, tmst := range h.tmst {
			if d.heardBy[i] != g {
				continue
			}
			delay := time.Duration(int32(p.Timestamp-tmst)) * time.Microsecond
			t.after = append(t.after, Elapsed{Sequence: h.sequence, Delay: delay})
		}
	}
	if w, n, _ := d.mac.windowFor(Reception{After: t.after}, p.PHYPayload[0]>>5 == 1); w != nil {
		t.window = n
	}
	return t
}

// receive gives the frame to the MAC and keeps what it accepts for WaitDownlink.
func (d *Device) receive(r Reception) (Downlink, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.mac.Session().DevAddr
	down, err := d.mac.Receive(r)
	if err != nil {
		return down, err
	}
	if down.Join {
		d.air.index(d, old)
	}
	if d.air.cfg.Accepted == nil {
		d.queue = append(d.queue, down)
		select {
		case d.notify <- struct{}{}:
		default:
		}
	}
	return down, nil
}

// WaitDownlink gives the next downlink that the device accepted, in order.
func (d *Device) WaitDownlink(ctx context.Context) (Downlink, error) {
	for {
		d.mu.Lock()
		if len(d.queue) > 0 {
			down := d.queue[0]
			d.queue = d.queue[1:]
			d.mu.Unlock()
			return down, nil
		}
		d.mu.Unlock()
		select {
		case <-d.notify:
		case <-ctx.Done():
			return Downlink{}, ctx.Err()
		}
	}
}
