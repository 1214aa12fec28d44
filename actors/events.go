package actors

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lorikeet/actors/device"
	"lorikeet/actors/radiogateway"
	"lorikeet/messages"
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
}

func newEventView(dev v3.EndDevice, p *device.Profile, netID [3]byte) *eventView {
	v := &eventView{
		id: p.ID, ids: v3.EndDeviceIDs{DeviceID: p.ID.DeviceID, ApplicationIDs: v3.ApplicationIDs{ApplicationID: p.ID.ApplicationID}},
		devEUI: p.DevEUI, joinEUI: p.JoinEUI, attributes: dev.Attributes, locations: dev.Locations, versions: dev.VersionIDs,
		network: &v3.NetworkIDs{NetID: strings.ToUpper(hex.EncodeToString(netID[:]))},
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
	switch e.Type {
	case messages.EventUplink:
		return v.encodeUplink(up, e)
	case messages.EventJoin:
		up.JoinAccept = &v3.JoinAccept{
			SessionKeyID: e.SessionKeyID, ReceivedAt: &e.Time, Locations: v.locations, VersionIDs: v.versions, NetworkIDs: v.network, Attributes: v.attributes,
		}
	default:
		down := v3.FromDownlink(*e.Downlink)
		switch e.Type {
		case messages.EventDownQueued:
			up.DownlinkQueued = &down
		case messages.EventDownSent:
			up.DownlinkSent = &down
		case messages.EventDownAck:
			up.DownlinkAck = &down
		case messages.EventDownNack:
			up.DownlinkNack = &down
		case messages.EventDownFailed:
			up.DownlinkFailed = &v3.DownlinkFailed{Downlink: down, Error: v3.DetailsOf("networkserver", e.Err)}
		}
	}
	ev, err := v.event(up, e.ID, e.DevAddr, now)
	return []messages.Event{ev}, err
}

func (v *eventView) event(up v3.ApplicationUp, id string, addr messages.DevAddr, now time.Time) (messages.Event, error) {
	b, err := json.Marshal(&up)
	if err != nil {
		return messages.Event{}, fmt.Errorf("encode %s of %s: %w", up.Type(), v.id, err)
	}
	return messages.Event{ID: id, Device: v.id, DevEUI: v.devEUI, JoinEUI: v.joinEUI, DevAddr: addr, Type: up.Type(), Time: now, JSON: b}, nil
}

func (v *eventView) encodeUplink(up v3.ApplicationUp, e device.Event) ([]messages.Event, error) {
	u, now := e.Uplink, *up.ReceivedAt
	settings := settingsOf(u.Settings)
	m := &v3.UplinkMessage{
		SessionKeyID: e.SessionKeyID, FPort: v3.Uint32(u.FPort), FCnt: v3.Uint32(u.FCnt), FRMPayload: u.FRMPayload,
		DecodedPayload: u.Decoded.Data, DecodedPayloadWarnings: u.Decoded.Warnings, DecodeError: u.DecodeError,
		NormalizedPayload: u.Decoded.Normalized, NormalizedPayloadWarnings: u.Decoded.NormalizedWarnings,
		RxMetadata: make([]v3.RxMetadata, len(u.Rx)), Settings: &settings, ReceivedAt: &u.ReceivedAt, Confirmed: u.Confirmed,
		ConsumedAirtime: v3.Duration(radiogateway.Airtime(u.Settings.DataRate, u.PHYPayloadSize)), PacketErrorRate: u.PacketErrorRate,
		Locations: v.locations, VersionIDs: v.versions, NetworkIDs: v.network, Attributes: v.attributes, LastBatteryPercentage: batteryOf(u.Battery),
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
	for i, measurement := range u.Decoded.Normalized {
		up.UplinkMessage = nil
		up.UplinkNormalized = &v3.UplinkNormalized{
			SessionKeyID: m.SessionKeyID, FPort: m.FPort, FCnt: m.FCnt, FRMPayload: m.FRMPayload, NormalizedPayload: measurement,
			NormalizedPayloadWarnings: m.NormalizedPayloadWarnings, RxMetadata: m.RxMetadata, Settings: m.Settings, ReceivedAt: m.ReceivedAt,
			Confirmed: m.Confirmed, ConsumedAirtime: m.ConsumedAirtime, Locations: m.Locations, VersionIDs: m.VersionIDs, NetworkIDs: m.NetworkIDs,
			Attributes: m.Attributes,
		}
		ev, err := v.event(up, fmt.Sprintf("%s:normalized:%d", e.ID, i), e.DevAddr, now)
		if err != nil {
			return nil, err
		}
		out = append(out, ev)
	}
	return out, nil
}

func batteryOf(b *device.Battery) *v3.BatteryPercentage {
	// [LoRaWAN 1.0.4 §5.5] 0: external source, 1 to 254: level, 255: unknown.
	if b == nil || b.Value == 0 || b.Value == 255 {
		return nil
	}
	return &v3.BatteryPercentage{FCnt: v3.Uint32(b.FCnt), Value: float32(b.Value-1) / 253 * 100, ReceivedAt: &b.ReceivedAt}
}

func settingsOf(s messages.TxSettings) v3.TxSettings {
	out := v3.TxSettings{Frequency: v3.Uint64(s.Frequency), Timestamp: v3.Uint32(s.Timestamp), EnableCRC: s.EnableCRC, Time: optionalTime(s.Time)}
	switch r := s.DataRate; r.Modulation {
	case messages.LoRa:
		out.DataRate.LoRa = &v3.LoRaDataRate{Bandwidth: v3.Uint32(r.Bandwidth), SpreadingFactor: v3.Uint32(r.SpreadingFactor), CodingRate: r.CodingRate}
	case messages.FSK:
		out.DataRate.FSK = &v3.FSKDataRate{BitRate: v3.Uint32(r.BitRate)}
	case messages.LRFHSS:
		out.DataRate.LRFHSS = &v3.LRFHSSDataRate{ModulationType: v3.Uint32(r.ModulationType), OperatingChannelWidth: v3.Uint32(r.Bandwidth), CodingRate: r.CodingRate}
	}
	return out
}

func rxMetadataOf(r *messages.RxMetadata) v3.RxMetadata {
	out := v3.RxMetadata{
		GatewayIDs: v3.GatewayIDs{GatewayID: r.GatewayID}, AntennaIndex: v3.Uint32(r.AntennaIndex), Time: optionalTime(r.Time), Timestamp: v3.Uint32(r.Timestamp),
		EncryptedFineTimestamp: r.EncryptedFineTime, EncryptedFineTimestampKeyID: r.EncryptedFineTimeKey, RSSI: r.RSSI, SignalRSSI: r.SignalRSSI,
		ChannelRSSI: r.ChannelRSSI, SNR: r.SNR, FrequencyOffset: v3.Int64(r.FrequencyOffset), HoppingWidth: v3.Uint32(r.HoppingWidth),
		UplinkToken: r.UplinkToken, ChannelIndex: v3.Uint32(r.ChannelIndex), GPSTime: optionalTime(r.GPSTime), ReceivedAt: optionalTime(r.ReceivedAt),
	}
	if !r.GatewayEUI.IsZero() {
		out.GatewayIDs.EUI = &r.GatewayEUI
	}
	if r.HasFineTimestamp {
		out.FineTimestamp = v3.Uint64(r.FineTimestamp)
	}
	if l := r.Location; l != nil {
		out.Location = &v3.Location{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude, Accuracy: l.Accuracy, Source: l.Source}
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
