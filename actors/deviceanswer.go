package actors

import (
	"slices"
	"time"

	"lorikeet/actors/device"
	"lorikeet/messages"
)

// answer serves a request.
func (d *Device) answer(asked any) (any, error) {
	switch m := asked.(type) {
	case handOver:
		return nil, d.handOver(m.to)
	case keepOn:
		d.movingUntil = time.Time{}
		return nil, nil
	case takeOver:
		return nil, d.takeOver()
	case deleteState:
		d.movingUntil = time.Time{}
		return nil, d.deleteState()
	case forgetState:
		return nil, d.forgetState()
	}
	if err := d.ready(); err != nil {
		return nil, err
	}
	switch m := asked.(type) {
	case device.PushDownlinks:
		return d.once(m.Random, func() (any, error) {
			_, err := d.step(m)
			return nil, err
		})
	case device.CancelDownlinks:
		return d.once(m.Random, func() (any, error) {
			decision, err := d.step(m)
			return decision.Refused, err
		})
	case device.Command:
		return d.step(m)
	case readQueue:
		return d.queue()
	case readState:
		return d.show()
	case simulate:
		return nil, d.simulate(m.up)
	}
	return nil, messages.Errorf(messages.CodeInternal, "unknown_command", "device does not know this command")
}

// carriedOut is a change of the queue that a request asked for, and what it was answered.
type carriedOut struct {
	request string
	answer  any
}

// rememberedRequests is more than can wait in a mailbox while the store elects a leader.
const rememberedRequests = 64

// once carries out a change of the queue once. A node that gets no answer in time sends the request again, and by then the first may be carried out
// and its downlinks sent. request is made for each request.
func (d *Device) once(request string, do func() (any, error)) (any, error) {
	if i := slices.IndexFunc(d.done, func(c carriedOut) bool { return c.request == request }); i >= 0 {
		return d.done[i].answer, nil
	}
	answer, err := do()
	if err != nil {
		return nil, err
	}
	d.done = append(d.done[max(0, len(d.done)+1-rememberedRequests):], carriedOut{request, answer})
	return answer, nil
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

// queue gives the items that can still be sent, or are on their way.
func (d *Device) queue() ([]messages.Downlink, error) {
	if err := d.expire(); err != nil {
		return nil, err
	}
	return d.state.Items(), nil
}
