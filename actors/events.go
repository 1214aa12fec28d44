package actors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lorikeet/actors/device"
	"lorikeet/actors/radiogateway"
	"lorikeet/messages"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
)

// eventView is what the registry adds to the events of a device. It is made once per change of the registry.
type eventView struct {
	id         messages.DeviceID
	ids        v3.EndDeviceIDs
	devEUI     messages.EUI64
	joinEUI    messages.EUI64
	attributes map[string]string
	locations  map[string]v3.Location
	versions   *v3.VersionIDs
	network    *v3.NetworkIDs
	kek        *keywrap.KEK // wraps the AppSKey where payload crypto is skipped; nil: events do not hold it
}

func newEventView(dev v3.EndDevice, p *device.Profile, network v3.NetworkIDs, kek *keywrap.KEK) *eventView {
	network.NetID = strings.ToUpper(hex.EncodeToString(p.NetID[:]))
	v := &eventView{
		id: p.ID, ids: v3.EndDeviceIDs{DeviceID: p.ID.DeviceID, ApplicationIDs: v3.ApplicationIDs{ApplicationID: p.ID.ApplicationID}},
		devEUI: p.DevEUI, joinEUI: p.JoinEUI, attributes: dev.Attributes, locations: dev.Locations, versions: dev.VersionIDs,
		network: &network, kek: kek,
	}
	if !p.DevEUI.IsZero() {
		v.ids.DevEUI = &v.devEUI
	}
	if dev.IDs.JoinEUI != nil {
		v.ids.JoinEUI = &v.joinEUI
	}
	return v
}

// encode makes the JSON that every integration delivers. An uplink with normalized measurements gives several events.
func (v *eventView) encode(e device.Event, now time.Time) ([]messages.Event, error) {
	up := v3.ApplicationUp{EndDeviceIDs: v.ids, CorrelationIDs: e.CorrelationIDs, ReceivedAt: &now}
	if !e.DevAddr.IsZero() {
		up.EndDeviceIDs.DevAddr = &e.DevAddr
	}
	locations := locationsWith(v.locations, e.PayloadLocation)
	switch e.Type {
	case messages.EventUplink:
		return v.encodeUplink(up, e, locations)
	case messages.EventJoin:
		up.JoinAccept = &v3.JoinAccept{
			SessionKeyID: e.SessionKeyID, ReceivedAt: &e.ReceivedAt, AppSKey: v.wrapped(e.AppSKey), InvalidatedDownlinks: downlinksFrom(e.Invalidated),
			Locations: locations, VersionIDs: v.versions, NetworkIDs: v.network, Attributes: v.attributes,
		}
	case messages.EventLocationSolved:
		at := locationFrom(e.Location)
		up.LocationSolved = &v3.LocationSolved{Service: payloadService, Location: &at}
	case messages.EventDownInvalidated:
		up.DownlinkQueueInvalidated = &v3.DownlinkQueueInvalidated{
			Downlinks: downlinksFrom(e.Invalidated), LastFCntDown: v3.Uint32(e.LastFCntDown), SessionKeyID: e.SessionKeyID,
			Locations: locations, VersionIDs: v.versions, NetworkIDs: v.network, Attributes: v.attributes,
		}
	default:
		v.addDownlink(&up, e, locations)
	}
	ev, err := v.event(up, e.ID, e.DevAddr, now)
	return []messages.Event{ev}, err
}

// addDownlink sets the body of an event about one downlink.
func (v *eventView) addDownlink(up *v3.ApplicationUp, e device.Event, locations map[string]v3.Location) {
	down := v3.FromDownlink(*e.Downlink)
	if e.Type == messages.EventDownFailed {
		up.DownlinkFailed = &v3.DownlinkFailed{
			Downlink: down, Error: v3.DetailsOf("networkserver", e.Err),
			Locations: locations, VersionIDs: v.versions, NetworkIDs: v.network, Attributes: v.attributes,
		}
		return
	}
	down.Locations, down.VersionIDs, down.NetworkIDs, down.Attributes = locations, v.versions, v.network, v.attributes
	switch e.Type {
	case messages.EventDownQueued:
		up.DownlinkQueued = &down
	case messages.EventDownSent:
		up.DownlinkSent = &down
	case messages.EventDownAck:
		up.DownlinkAck = &down
	case messages.EventDownNack:
		up.DownlinkNack = &down
	}
}

func downlinksFrom(items []messages.Downlink) []v3.ApplicationDownlink {
	var out []v3.ApplicationDownlink
	for i := range items {
		out = append(out, v3.FromDownlink(items[i]))
	}
	return out
}

// wrapped gives the envelope of an AppSKey. Events go to all who may read traffic, so the key is never in clear in them.
func (v *eventView) wrapped(key messages.Key) *v3.KeyEnvelope {
	if v.kek == nil || key.IsZero() {
		return nil
	}
	return v3.WrapKey(*v.kek, key)
}

func (v *eventView) event(up v3.ApplicationUp, id string, addr messages.DevAddr, now time.Time) (messages.Event, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // a payload full of < must not grow beyond what stores take
	if err := e.Encode(&up); err != nil {
		return messages.Event{}, fmt.Errorf("encode %s of %s: %w", up.Type(), v.id, err)
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return messages.Event{ID: id, Device: v.id, DevEUI: v.devEUI, JoinEUI: v.joinEUI, DevAddr: addr, Type: up.Type(), Time: now, JSON: text}, nil
}

// How many measurements of one uplink are messages of their own, and how large these are together.
const (
	maxNormalized      = 100
	maxNormalizedBytes = 1 << 20
)

func (v *eventView) encodeUplink(up v3.ApplicationUp, e device.Event, locations map[string]v3.Location) ([]messages.Event, error) {
	u, now := e.Uplink, *up.ReceivedAt
	settings := settingsOf(u.Settings)
	m := &v3.UplinkMessage{
		SessionKeyID: e.SessionKeyID, FPort: v3.Uint32(u.FPort), FCnt: v3.Uint32(u.FCnt), FRMPayload: u.FRMPayload,
		DecodedPayload: u.Decoded.Data, DecodedPayloadWarnings: u.Decoded.Warnings, DecodeError: u.DecodeError,
		NormalizedPayload: u.Decoded.Normalized, NormalizedPayloadWarnings: u.Decoded.NormalizedWarnings,
		AppSKey: v.wrapped(e.AppSKey), LastAFCntDown: v3.Uint32(e.LastFCntDown),
		RxMetadata: make([]v3.RxMetadata, len(u.Rx)), Settings: &settings, ReceivedAt: &u.ReceivedAt, Confirmed: u.Confirmed,
		ConsumedAirtime: v3.Duration(radiogateway.Airtime(u.Settings.DataRate, u.PHYPayloadSize)), PacketErrorRate: u.PacketErrorRate,
		Locations: locations, VersionIDs: v.versions, NetworkIDs: v.network, Attributes: v.attributes, LastBatteryPercentage: batteryOf(u.Battery),
	}
	for i := range u.Rx {
		m.RxMetadata[i] = rxMetadataOf(&u.Rx[i])
	}
	up.UplinkMessage = m
	first, err := v.event(up, e.ID, e.DevAddr, now)
	if err != nil {
		return nil, err
	}
	out := []messages.Event{first}
	// A codec must not be able to make an uplink too large to be committed: what does not fit is in the uplink only.
	fits := min(maxNormalized, maxNormalizedBytes/len(first.JSON), len(m.NormalizedPayload))
	for i, normalized := range normalizedOf(up)[:fits] {
		ev, err := v.event(normalized, fmt.Sprintf("%s:normalized:%d", e.ID, i), e.DevAddr, now)
		if err != nil {
			return nil, err
		}
		out = append(out, ev)
	}
	return out, nil
}

// normalizedOf gives a message of its own for each measurement of an uplink.
func normalizedOf(up v3.ApplicationUp) (out []v3.ApplicationUp) {
	m := up.UplinkMessage
	up.UplinkMessage = nil
	for _, measurement := range m.NormalizedPayload {
		up.UplinkNormalized = &v3.UplinkNormalized{
			SessionKeyID: m.SessionKeyID, FPort: m.FPort, FCnt: m.FCnt, FRMPayload: m.FRMPayload, NormalizedPayload: measurement,
			NormalizedPayloadWarnings: m.NormalizedPayloadWarnings, RxMetadata: m.RxMetadata, Settings: m.Settings, ReceivedAt: m.ReceivedAt,
			Confirmed: m.Confirmed, ConsumedAirtime: m.ConsumedAirtime, Locations: m.Locations, VersionIDs: m.VersionIDs, NetworkIDs: m.NetworkIDs,
			Attributes: m.Attributes,
		}
		out = append(out, up)
	}
	return out
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
