package actors

import (
	"encoding/json"
	"slices"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// simulate decodes and publishes; nothing of the device changes.
func (d *Device) simulate(up v3.ApplicationUp) error {
	now := d.cfg.Clock()
	up.EndDeviceIDs, up.Simulated, up.ReceivedAt = d.view.ids, true, &now
	up.CorrelationIDs = append(slices.Clone(up.CorrelationIDs), "as:up:"+d.cfg.Random.ULID(now))
	var addr messages.DevAddr
	if s := d.state.Session; s != nil {
		addr = s.DevAddr
		up.EndDeviceIDs.DevAddr = &addr
	}
	if m := up.UplinkMessage; m != nil {
		if m.ReceivedAt == nil {
			m.ReceivedAt = &now
		}
		d.decodeSimulated(m)
	}
	ev, err := d.view.event(up, d.id.UID()+":simulated:"+d.cfg.Random.ULID(now), addr, now)
	if err != nil {
		return messages.Invalid("simulated_message", "message can't be published: %w", err)
	}
	ctx, cancel := d.context()
	defer cancel()
	_, err = d.cfg.Store.Commit(ctx, messages.Commit{Device: d.id, Events: []messages.Event{ev}})
	return err
}

func (d *Device) decodeSimulated(m *v3.UplinkMessage) {
	if len(m.FRMPayload) == 0 || d.decoder.Kind == "" || d.decoder.Kind == messages.FormatterNone {
		return
	}
	ctx, cancel := d.context()
	defer cancel()
	out, err := d.cfg.Formatters.DecodeUplink(ctx, d.decoder, d.simulatedInput(m))
	if err != nil {
		m.DecodeError = err.Error()
	}
	m.DecodedPayload, m.DecodedPayloadWarnings = json.RawMessage(out.Data), out.Warnings
	m.NormalizedPayload, m.NormalizedPayloadWarnings = out.Normalized, out.NormalizedWarnings
}
