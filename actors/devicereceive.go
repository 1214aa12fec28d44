package actors

import (
	"fmt"
	"runtime/debug"

	"github.com/asynkron/protoactor-go/actor"

	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

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
