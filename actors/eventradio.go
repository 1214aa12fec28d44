package actors

import (
	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

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
		ChannelRSSI: r.ChannelRSSI, RSSIStandardDeviation: r.RSSIStandardDeviation, SNR: r.SNR, FrequencyOffset: v3.Int64(r.FrequencyOffset), HoppingWidth: v3.Uint32(r.HoppingWidth),
		UplinkToken: r.UplinkToken, ChannelIndex: v3.Uint32(r.ChannelIndex), GPSTime: optionalTime(r.GPSTime), ReceivedAt: optionalTime(r.ReceivedAt),
	}
	if !r.GatewayEUI.IsZero() {
		out.GatewayIDs.EUI = &r.GatewayEUI
	}
	if r.HasFineTimestamp {
		out.FineTimestamp = v3.Uint64(r.FineTimestamp)
	}
	if l := r.Location; l != nil {
		at := locationFrom(l)
		out.Location = &at
	}
	return out
}

func locationFrom(l *messages.Location) v3.Location {
	return v3.Location{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude, Accuracy: l.Accuracy, Source: l.Source}
}
