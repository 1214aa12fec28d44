package actors

import (
	"fmt"
	"slices"
	"time"

	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// simulate publishes a message of any type as if the device had sent it. An uplink is decoded, and makes the events that its payload makes; nothing of
// the device changes.
func (d *Device) simulate(up v3.ApplicationUp) error {
	now := d.cfg.Clock()
	if d.profile.SkipCrypto && (up.UplinkMessage != nil || up.UplinkNormalized != nil) {
		return messages.Errorf(messages.CodePrecondition, "payload_crypto_skipped", "an uplink of %s can't be simulated: its payload crypto is skipped, so it would be taken for ciphertext", d.id)
	}
	up = d.view.simulated(up, d.state.Session, now, "as:up:"+d.cfg.Random.ULID(now))
	addr := messages.DevAddr{}
	if a := up.EndDeviceIDs.DevAddr; a != nil {
		addr = *a
	}
	all := []v3.ApplicationUp{up}
	if up.UplinkMessage != nil {
		all = d.simulateUplink(up, now)
	}
	c := messages.Commit{Device: d.id}
	id := d.id.UID() + ":simulated:" + d.cfg.Random.ULID(now)
	for i := range all {
		ev, err := d.view.event(all[i], fmt.Sprintf("%s:%d", id, i), addr, now)
		if err != nil {
			return messages.Invalid("simulated_message", "message can't be published: %w", err)
		}
		c.Events = append(c.Events, ev)
	}
	ctx, cancel := d.context()
	defer cancel()
	_, err := d.cfg.Store.Commit(ctx, c)
	return err
}

// simulated puts a message into the envelope that the device's messages have.
func (v *eventView) simulated(up v3.ApplicationUp, ses *device.Session, now time.Time, correlationID string) v3.ApplicationUp {
	up.EndDeviceIDs, up.Simulated, up.ReceivedAt = v.ids, true, &now
	up.CorrelationIDs = append(slices.Clone(up.CorrelationIDs), correlationID)
	if ses != nil {
		addr := ses.DevAddr
		up.EndDeviceIDs.DevAddr = &addr
	}
	if m := up.ServiceData; m != nil {
		data := *m
		v.addDetails(&data.Locations, &data.VersionIDs, &data.NetworkIDs, &data.Attributes)
		up.ServiceData = &data
	}
	return up
}

// addDetails says of the device what a simulated message does not say.
func (v *eventView) addDetails(locations *map[string]v3.Location, versions **v3.VersionIDs, network **v3.NetworkIDs, attributes *map[string]string) {
	if *locations == nil {
		*locations = v.locations
	}
	if *versions == nil {
		*versions = v.versions
	}
	if *network == nil {
		*network = v.network
	}
	if *attributes == nil {
		*attributes = v.attributes
	}
}

// simulateUplink gives the uplink and what follows from its payload.
func (d *Device) simulateUplink(up v3.ApplicationUp, now time.Time) []v3.ApplicationUp {
	m := *up.UplinkMessage
	up.UplinkMessage = &m
	if m.ReceivedAt == nil {
		m.ReceivedAt = &now
	}
	if m.Locations == nil {
		m.Locations = locationsWith(d.view.locations, d.state.Location)
	}
	d.view.addDetails(&m.Locations, &m.VersionIDs, &m.NetworkIDs, &m.Attributes)
	d.decodeSimulated(&m)
	all := append([]v3.ApplicationUp{up}, normalizedOf(up)[:min(maxNormalized, len(m.NormalizedPayload))]...)
	if at := payloadLocation(m.DecodedPayload); at != nil {
		solved, l := up, locationFrom(at)
		solved.UplinkMessage, solved.LocationSolved = nil, &v3.LocationSolved{Service: payloadService, Location: &l}
		all = append(all, solved)
	}
	return all
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
	m.DecodedPayload, m.DecodedPayloadWarnings = out.Data, out.Warnings
	m.NormalizedPayload, m.NormalizedPayloadWarnings = out.Normalized, out.NormalizedWarnings
}
