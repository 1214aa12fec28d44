package actors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// DeviceConfig is what all device actors share.
type DeviceConfig struct {
	Store       SessionStore
	Registry    Registry
	Formatters  Formatters
	Index       Index
	Router      func() Router // the router starts after the actors are configured
	Transmitter Sender
	Random      Random
	Regions     *Regions
	NetID       [3]byte

	DeduplicationWindow time.Duration // how long copies of a frame are collected at most
	CommitTimeout       time.Duration
	Clock               func() time.Time
	Log                 *slog.Logger
	Metrics             *Metrics
}

// cooldown is how long after a decision a copy of the same transmission may still come in.
const cooldown = time.Second

// Device is the actor of one device. It owns the session record: it alone writes it, and only through Decide and a commit.
type Device struct {
	cfg *DeviceConfig
	id  messages.DeviceID
	log *slog.Logger

	self  func(message any) // sends to this very actor
	moved bool              // the device belongs to another node: whatever still comes is sent on

	state    device.State
	revision messages.Revision
	loaded   bool

	profile *device.Profile // nil: not read yet, or changed
	view    *eventView
	decoder messages.Formatter

	collecting []*collection
	decided    *collection // the newest that was closed
	late       []messages.EUI64
	nextWindow uint64
	pushed     []string // the last requests for downlinks that were carried out
}

// NewDevice makes the actor. Its state is read with the first message.
func NewDevice(cfg *DeviceConfig, id messages.DeviceID) *Device {
	return &Device{cfg: cfg, id: id, log: cfg.Log.With("component", "device", "application_id", id.ApplicationID, "device_id", id.DeviceID)}
}

// collection gathers the copies of one transmission.
type collection struct {
	number   uint64
	join     bool
	copies   []messages.Frame
	settle   []func()     // of the copies
	decoded  chan decoded // nil if there is nothing to decode
	closedAt time.Time
}

type decoded struct {
	messages.Decoded
	err string
}

// Messages to a device actor, beside device commands and those below.
type (
	// DeliverFrame hands over one reception of a data uplink whose MIC was checked, or of a join-request.
	DeliverFrame struct {
		Frame messages.Frame
		Join  bool

		settled func()
	}
	// reloadProfile says that the device changed in the registry.
	reloadProfile struct{}
	forgetProfile struct{} // what the device has of its application changed; it is read again when it is needed
	closeWindow   struct{ number uint64 }
	transmission  struct{ device.ReportTransmission }
	simulate      struct{ up v3.ApplicationUp }
	readState     struct{}
	deleteState   struct{}
	forgetState   struct{}
	readQueue     struct{}
)

// OnSettled sets what Settle calls.
func (m *DeliverFrame) OnSettled(f func()) { m.settled = f }

// Settle says that the frame needs no more work: its sender need not keep it any longer.
func (m *DeliverFrame) Settle() {
	if m.settled != nil {
		m.settled()
	}
}

// Receive is the table of contents of the actor.
func (d *Device) Receive(ctx actor.Context) {
	if d.self == nil {
		root, self := ctx.ActorSystem().Root, ctx.Self()
		d.self = func(message any) { root.Send(self, message) }
	}
	if d.moved {
		d.sendOn(ctx.Message())
		return
	}
	d.receive(ctx)
	if d.moved {
		d.leave(ctx)
	}
}

// leave ends the actor of a device that moved. What is in the mailbox is sent on before the end.
func (d *Device) leave(ctx actor.Context) {
	d.log.Info("device moved to another node; its actor here ends")
	if m, ok := ctx.Message().(transmission); ok {
		d.cfg.Router().Tell(d.id, m)
	}
	for _, c := range d.collecting {
		d.deliverAgain(c)
	}
	d.collecting = nil
	d.cfg.Router().Retire(d.id, ctx.Self())
}

// sendOn gives a message of a device that moved to where the device is.
func (d *Device) sendOn(message any) {
	switch m := message.(type) {
	case *DeliverFrame, transmission:
		d.cfg.Router().Tell(d.id, m)
	case Asked:
		m.Answer(nil, messages.ErrMoved)
	}
}

func (d *Device) receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Stopping:
		d.closeAll()
	case *DeliverFrame:
		d.guard(nil, func() { d.receiveFrame(m) })
	case closeWindow:
		d.guard(nil, func() { d.closeWindow(m.number) })
	case transmission:
		d.guard(nil, func() { d.stepLogged(m.ReportTransmission) })
	case forgetProfile:
		d.profile = nil
	case reloadProfile:
		d.profile = nil
		d.guard(nil, func() { d.stepLogged(device.ApplyProfile{}) })
	case Asked:
		d.guard(m, func() { m.Answer(d.answer(m.Asked())) })
	}
}

// guard keeps a defect in one message from harming more than that message: the state in memory is dropped and read again with the next one.
func (d *Device) guard(asked Asked, handle func()) {
	defer func() {
		if r := recover(); r != nil {
			for _, c := range d.collecting {
				c.settled()
			}
			d.loaded, d.profile, d.collecting, d.decided = false, nil, nil, nil
			d.cfg.Metrics.Panics.Inc()
			d.log.Error("device actor failed; its state is read again", "err", fmt.Sprint(r), "stack", string(debug.Stack()))
			if asked != nil {
				asked.Answer(nil, messages.Errorf(messages.CodeInternal, "device_failed", "device %s failed on this request", d.id))
			}
		}
	}()
	handle()
}

func (d *Device) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d.cfg.CommitTimeout)
}

// ready reads what is not in memory.
func (d *Device) ready() error {
	ctx, cancel := d.context()
	defer cancel()
	if d.profile == nil {
		if err := d.readProfile(ctx); err != nil {
			return err
		}
	}
	if d.loaded {
		return nil
	}
	b, rev, err := d.cfg.Store.LoadSession(ctx, d.id)
	if err != nil {
		return fmt.Errorf("read session of %s: %w", d.id, err)
	}
	if d.state, err = device.Unmarshal(b); err != nil {
		return fmt.Errorf("read session of %s: %w", d.id, err)
	}
	d.revision, d.loaded = rev, true
	return nil
}

func (d *Device) readProfile(ctx context.Context) error {
	dev, err := d.cfg.Registry.Device(ctx, d.id)
	if err != nil {
		return err
	}
	link, err := d.cfg.Registry.Link(ctx, d.id.ApplicationID)
	if err != nil {
		return err
	}
	profile, err := profileOf(dev, d.cfg.Regions, d.cfg.NetID)
	if err != nil {
		return messages.Errorf(messages.CodePrecondition, "device_settings", "device %s: %w", d.id, err)
	}
	d.profile, d.view, d.decoder = profile, newEventView(dev, profile, d.cfg.NetID), upFormatter(dev, link)
	return nil
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
	if c := d.decided; c != nil && c.isLateCopy(m.Frame, now) {
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
		if opened.Application() && !opened.Repetition && d.decoder.Kind != "" && d.decoder.Kind != messages.FormatterNone {
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
// with another time stamp, or comes on another frequency (LoRaWAN 1.0.4 §4.3.1.3), or much later.
func (c *collection) isLateCopy(f messages.Frame, now time.Time) bool {
	if !bytes.Equal(c.copies[0].PHYPayload, f.PHYPayload) || now.Sub(c.closedAt) > cooldown {
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
	c.closedAt = d.cfg.Clock()
	d.decided = c
	defer func() {
		if d.moved {
			d.deliverAgain(c)
			return
		}
		c.settled()
	}()
	if c.join {
		d.join(c)
		return
	}
	cmd := device.ReceiveUplink{Copies: c.copies, Late: d.late, Now: c.closedAt, Random: d.cfg.Random.ULID(c.closedAt)}
	cmd.IDs = []string{"ns:uplink:" + d.cfg.Random.ULID(c.closedAt), "as:up:" + d.cfg.Random.ULID(c.closedAt)}
	d.late = nil
	if c.decoded != nil {
		r := <-c.decoded // bounded by the formatters
		cmd.Decoded, cmd.Err = r.Decoded, r.err
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
	d.cfg.Metrics.uplink("accepted")
	d.cfg.Metrics.Latency.Observe(d.cfg.Clock().Sub(c.copies[0].ReceivedAt).Seconds())
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
		IDs: []string{"as:up:" + d.cfg.Random.ULID(c.closedAt)}, DevAddr: NewDevAddr(d.cfg.Random, d.cfg.NetID),
	}
	if _, err := d.step(cmd); d.moved {
		return
	} else if err != nil {
		d.cfg.Metrics.join(refusalName(err))
		d.log.Info("join refused", "err", err)
		return
	}
	d.cfg.Metrics.join("accepted")
}

// NewDevAddr gives a random address in the block of the NetID (type 0: LoRaWAN Backend Interfaces 1.0 §13).
func NewDevAddr(r Random, netID [3]byte) (a messages.DevAddr) {
	copy(a[:], r.Bytes(4))
	a[0] = netID[2]&0x3f<<1 | a[0]&1
	return a
}

// stepLogged is a step that nobody waits for.
func (d *Device) stepLogged(cmd device.Command) {
	err := d.ready()
	if err == nil {
		_, err = d.step(cmd)
	}
	// A device that left the registry, or is only half written, has nothing to lose.
	if err != nil && messages.CodeOf(err) != messages.CodeNotFound && refusalName(err) != "device_settings" {
		d.log.Warn("step of a device is lost", "step", fmt.Sprintf("%T", cmd), "err", err)
	}
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

func refusalName(err error) string {
	var e *messages.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return "internal"
}

// answer serves a request.
func (d *Device) answer(asked any) (any, error) {
	switch asked.(type) {
	case deleteState:
		return nil, d.deleteState()
	case forgetState:
		return nil, d.forgetState()
	}
	if err := d.ready(); err != nil {
		return nil, err
	}
	switch m := asked.(type) {
	case device.PushDownlinks:
		return nil, d.push(m)
	case device.Command:
		return d.step(m)
	case readQueue:
		return d.queue(), nil
	case readState:
		return d.show(), nil
	case simulate:
		return nil, d.simulate(m.up)
	}
	return nil, messages.Errorf(messages.CodeInternal, "unknown_command", "device does not know this command")
}

// rememberedPushes is more than can wait in a mailbox while the store elects a leader.
const rememberedPushes = 64

// push carries out a request for downlinks once. A node that gets no answer in time sends it again, and by then the first may be carried out and its
// downlinks sent.
func (d *Device) push(m device.PushDownlinks) error {
	if slices.Contains(d.pushed, m.Random) { // made for each request
		return nil
	}
	if _, err := d.step(m); err != nil {
		return err
	}
	d.pushed = append(d.pushed[max(0, len(d.pushed)+1-rememberedPushes):], m.Random)
	return nil
}

// maxDecisions bounds how often a step is decided anew because someone else wrote the record meanwhile.
const maxDecisions = 4

// step is the heart of the shell: decide, commit, adopt, carry out. When it returns, everything is durable.
func (d *Device) step(cmd device.Command) (device.Decision, error) {
	for n := 1; ; n++ {
		decision, err := device.Decide(d.state, d.profile, cmd)
		if err != nil {
			return decision, err
		}
		err = d.commit(decision)
		switch {
		case err == nil:
			if t := decision.Transmit; t != nil && len(t.Windows) > 0 {
				d.transmit(t)
			}
			return decision, nil
		case errors.Is(err, messages.ErrConflict) && !d.cfg.Router().Owns(d.id):
			// Another node has the device by now: nothing of this decision is published or sent.
			d.loaded, d.moved = false, true
			return device.Decision{}, messages.ErrMoved
		case errors.Is(err, messages.ErrConflict) && n < maxDecisions:
			// Another activation that has not noticed yet, or an earlier write of ours with unknown outcome: look at what is stored, decide again.
			d.loaded = false
			if err := d.ready(); err != nil {
				return device.Decision{}, err
			}
		default:
			d.loaded = false
			return device.Decision{}, fmt.Errorf("commit of %s: %w", d.id, err)
		}
	}
}

func (d *Device) commit(decision device.Decision) error {
	if !decision.Changed && len(decision.Events) == 0 {
		return nil
	}
	c := messages.Commit{Device: d.id, Expected: d.revision}
	var err error
	if decision.Changed {
		if c.Session, err = decision.Next.Marshal(); err != nil {
			return err
		}
	}
	for _, e := range decision.Events {
		ev, err := d.view.encode(e, d.cfg.Clock())
		if err != nil {
			return err
		}
		c.Events = append(c.Events, ev...)
	}
	ctx, cancel := d.context()
	defer cancel()
	if decision.Changed {
		if err := d.prepareIndex(ctx, decision.Next); err != nil {
			return err
		}
	}
	rev, err := d.cfg.Store.Commit(ctx, c)
	if err != nil {
		return err
	}
	if decision.Changed {
		d.revision, d.state = rev, decision.Next
		d.cfg.Index.Set(d.id, indexEntries(d.state)...)
	}
	return nil
}

// prepareIndex makes the sessions findable that next has beside those of the present state.
func (d *Device) prepareIndex(ctx context.Context, next device.State) error {
	before, after := indexEntries(d.state), indexEntries(next)
	if !slices.ContainsFunc(after, func(e messages.SessionEntry) bool { return !hasSession(before, e) }) {
		return nil
	}
	all := after
	for _, e := range before {
		if !hasSession(after, e) {
			all = append(all, e)
		}
	}
	return d.cfg.Index.Prepare(ctx, d.id, all...)
}

func hasSession(list []messages.SessionEntry, e messages.SessionEntry) bool {
	return slices.ContainsFunc(list, func(o messages.SessionEntry) bool { return o.DevAddr == e.DevAddr && o.NwkSKey == e.NwkSKey })
}

func (d *Device) transmit(t *device.Transmit) {
	seq, fCnt, join := t.SessionSeq, t.FCnt, t.Join
	d.cfg.Transmitter.Transmit(t, func(result messages.TxError, missed bool) {
		if join {
			return
		}
		now := d.cfg.Clock()
		d.cfg.Router().Tell(d.id, transmission{device.ReportTransmission{
			SessionSeq: seq, FCnt: fCnt, Err: result, Missed: missed, Now: now, IDs: []string{"as:up:" + d.cfg.Random.ULID(now)},
		}})
	})
}

// indexEntries are the sessions by which the directory finds the device.
func indexEntries(s device.State) []messages.SessionEntry {
	var out []messages.SessionEntry
	for _, ses := range []*device.Session{s.Session, s.Pending} {
		if ses != nil && ses.Ready() {
			out = append(out, messages.SessionEntry{DevAddr: ses.DevAddr, NwkSKey: ses.NwkSKey, LastFCntUp: ses.LastFCntUp, HasFCntUp: ses.HasFCntUp,
				FCnt16: ses.FCnt16, ResetsFCnt: ses.ResetsFCnt})
		}
	}
	return out
}

func (d *Device) deleteState() error {
	ctx, cancel := d.context()
	defer cancel()
	if err := d.cfg.Store.DeleteSession(ctx, d.id); err != nil {
		return err
	}
	d.state, d.revision, d.loaded, d.profile = device.State{}, 0, false, nil
	d.collecting, d.decided = nil, nil
	d.cfg.Index.Set(d.id)
	return nil
}

// forgetState asks the registry here, where no session can be set meanwhile.
func (d *Device) forgetState() error {
	ctx, cancel := d.context()
	defer cancel()
	if _, err := d.cfg.Registry.Device(ctx, d.id); messages.CodeOf(err) != messages.CodeNotFound {
		return err
	}
	return d.deleteState()
}

func (d *Device) queue() []messages.Downlink {
	out := slices.Clone(d.state.Queue)
	if ses := d.state.Session; ses != nil {
		for i := range out {
			out[i].FCnt, out[i].SessionKeyID = ses.NextFCntDown+uint32(i), ses.KeyID
		}
	}
	return out
}
