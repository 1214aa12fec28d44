package actors

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"time"

	"lorikeet/actors/device"
	"lorikeet/messages"
)

// collection gathers the copies of one transmission.
type collection struct {
	number   uint64
	join     bool
	opened   device.Opened // unless it is a join-request
	copies   []messages.Frame
	settle   []func()     // of the copies
	decoded  chan decoded // nil if there is nothing to decode
	closedAt time.Time
}

type decoded struct {
	messages.Decoded
	err string
}

func (d *Device) receiveFrame(m *DeliverFrame) {
	if err := d.ready(); err != nil {
		d.drop(m, err)
		return
	}
	now := d.cfg.Clock()
	for _, c := range d.collecting {
		if bytes.Equal(c.copies[0].PHYPayload, m.Frame.PHYPayload) {
			c.copies, c.settle = append(c.copies, m.Frame), append(c.settle, m.Settle)
			if !c.join && d.state.AllReported(c.copies) {
				d.closeWindow(c.number)
			}
			return
		}
	}
	if c := d.decided; c != nil && now.Sub(c.closedAt) <= d.state.RepeatsAfter() && c.isLateCopy(m.Frame) {
		d.late = append(d.late, m.Frame.Rx[0].GatewayEUI)
		d.cfg.Metrics.uplink("late_copy")
		m.Settle()
		return
	}
	c := &collection{number: d.nextWindow, join: m.Join, copies: []messages.Frame{m.Frame}, settle: []func(){m.Settle}}
	if !m.Join {
		opened, err := device.Open(d.state, d.profile, m.Frame.PHYPayload)
		if err != nil {
			d.drop(m, err)
			return
		}
		c.opened = opened
		if opened.Application() && !opened.Repetition && !d.profile.SkipCrypto && d.decoder.Kind != "" && d.decoder.Kind != messages.FormatterNone {
			c.decoded = d.startDecoding(d.decodeInput(opened, &m.Frame))
		}
	}
	d.nextWindow++
	d.collecting = append(d.collecting, c)
	if !m.Join && d.state.AllReported(c.copies) || d.cfg.DeduplicationWindow == 0 {
		d.closeWindow(c.number)
		return
	}
	self := d.self
	time.AfterFunc(d.cfg.DeduplicationWindow, func() { self(closeWindow{c.number}) })
}

// isLateCopy tells a copy that was slow on its way from a repetition by the device: that one is heard anew by radio gateways that have heard it,
// with another time stamp, or comes on another frequency (LoRaWAN 1.0.4 §4.3.1.3), or after its windows. A slow copy must not be answered: the answer
// would be on air together with the first one, through another radio gateway.
func (c *collection) isLateCopy(f messages.Frame) bool {
	if !bytes.Equal(c.copies[0].PHYPayload, f.PHYPayload) {
		return false
	}
	sameFrequency := false
	for _, seen := range c.copies {
		sameFrequency = sameFrequency || seen.Settings.Frequency == f.Settings.Frequency
		if seen.Rx[0].GatewayEUI == f.Rx[0].GatewayEUI {
			return seen.Settings.Timestamp == f.Settings.Timestamp
		}
	}
	return sameFrequency
}

func (d *Device) startDecoding(in messages.DecodeInput) chan decoded {
	out := make(chan decoded, 1)
	formatter := d.decoder
	go func() {
		ctx, cancel := d.context()
		defer cancel()
		result, err := d.cfg.Formatters.DecodeUplink(ctx, formatter, in)
		if err != nil {
			d.cfg.Metrics.DecodeErrors.Inc()
			out <- decoded{Decoded: result, err: err.Error()}
			return
		}
		out <- decoded{Decoded: result}
	}()
	return out
}

// closeWindow decides about the copies that are in.
func (d *Device) closeWindow(number uint64) {
	i := slices.IndexFunc(d.collecting, func(c *collection) bool { return c.number == number })
	if i < 0 {
		return // closed early
	}
	c := d.collecting[i]
	d.collecting = slices.Delete(d.collecting, i, i+1)
	defer func() {
		if d.moved {
			d.deliverAgain(c)
			return
		}
		c.settled()
	}()
	if d.closeEarlier(c); d.moved {
		return
	}
	c.closedAt = d.cfg.Clock()
	d.decided = c
	if err := d.ready(); err != nil { // the settings may have changed since the first copy came
		d.refused(err)
		return
	}
	if c.join {
		d.join(c)
		return
	}
	cmd := device.ReceiveUplink{Copies: c.copies, Late: d.late, Now: c.closedAt, Random: d.cfg.Random.ULID(c.closedAt)}
	cmd.IDs = []string{"ns:uplink:" + d.cfg.Random.ULID(c.closedAt), "as:up:" + d.cfg.Random.ULID(c.closedAt)}
	d.late = nil
	if c.decoded != nil {
		r := <-c.decoded // bounded by the formatters
		cmd.Decoded, cmd.Err, cmd.Location = r.Decoded, r.err, payloadLocation(r.Data)
	}
	_, err := d.step(cmd)
	c.closedAt = d.cfg.Clock() // a commit may take its time while the store elects a leader
	if d.moved {
		return
	}
	if err != nil {
		d.refused(err)
		return
	}
	took := d.cfg.Clock().Sub(c.copies[0].ReceivedAt)
	d.cfg.Metrics.uplink("accepted")
	d.cfg.Metrics.Latency.Observe(took.Seconds())
	d.tellAccepted(len(c.copies), took)
}

func (d *Device) tellAccepted(copies int, took time.Duration) {
	if ctx := context.Background(); d.state.Session != nil && d.log.Enabled(ctx, slog.LevelDebug) {
		d.log.LogAttrs(ctx, slog.LevelDebug, "uplink is accepted", slog.Any("dev_addr", d.state.Session.DevAddr), slog.Uint64("f_cnt_up", uint64(d.state.Session.LastFCntUp)),
			slog.Int("copies", copies), slog.Duration("took", took))
	}
}

// closeEarlier decides about the uplinks that came before c and are still being collected: after c their counters would be behind. A radio gateway that was
// cut off hands in several at once.
func (d *Device) closeEarlier(c *collection) {
	for _, other := range slices.Clone(d.collecting) {
		if !c.join && !other.join && other.before(c) && !d.moved {
			d.closeWindow(other.number)
		}
	}
}

func (c *collection) before(other *collection) bool {
	return c.opened.Before(other.opened) || !other.opened.Before(c.opened) && c.number < other.number
}

// settled tells the senders of all copies that they need not keep them.
func (c *collection) settled() {
	for _, settle := range c.settle {
		settle()
	}
	c.settle = nil
}

// deliverAgain sends the copies to the node that has the device.
func (d *Device) deliverAgain(c *collection) {
	for i := range c.settle {
		d.cfg.Router().Tell(d.id, &DeliverFrame{Frame: c.copies[i], Join: c.join, settled: c.settle[i]})
	}
	c.settle = nil
}

// closeAll decides about what is being collected, since the actor ends.
func (d *Device) closeAll() {
	for len(d.collecting) > 0 {
		d.guard(nil, func() { d.closeWindow(d.collecting[0].number) })
	}
}

func (d *Device) join(c *collection) {
	cmd := device.ReceiveJoin{
		Copies: c.copies, SessionKeyID: d.cfg.Random.Bytes(16), Now: c.closedAt, Random: d.cfg.Random.ULID(c.closedAt),
		IDs: []string{"as:up:" + d.cfg.Random.ULID(c.closedAt)}, DevAddr: NewDevAddr(d.cfg.Random, d.profile.NetID),
	}
	if _, err := d.step(cmd); d.moved {
		return
	} else if err != nil {
		d.cfg.Metrics.join(refusalName(err))
		d.log.Info("join is refused", "dev_eui", d.profile.DevEUI, "gateway_id", c.copies[0].Rx[0].GatewayID, "err", err)
		return
	}
	d.cfg.Metrics.join("accepted")
	d.log.Info("join is accepted", "dev_eui", d.profile.DevEUI, "gateway_id", c.copies[0].Rx[0].GatewayID, "copies", len(c.copies))
}

// NewDevAddr gives a random address in the block of the NetID (type 0: LoRaWAN Backend Interfaces 1.0 §13).
func NewDevAddr(r Random, netID [3]byte) (a messages.DevAddr) {
	copy(a[:], r.Bytes(4))
	a[0] = netID[2]&0x3f<<1 | a[0]&1
	return a
}

func (d *Device) drop(m *DeliverFrame, err error) {
	d.refused(err)
	m.Settle()
}

func (d *Device) refused(err error) {
	name := refusalName(err)
	d.cfg.Metrics.uplink(name)
	if messages.CodeOf(err) == messages.CodeInternal || messages.CodeOf(err) == messages.CodeUnavailable {
		d.log.Error("uplink is not accepted", "err", err)
		return
	}
	d.log.Debug("uplink refused", "err", err)
}
