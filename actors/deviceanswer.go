package actors

import (
	"slices"

	"lorikeet/actors/device"
	"lorikeet/messages"
)

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
