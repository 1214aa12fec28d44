package actors

import (
	"time"

	"lorikeet/actors/device"
	"lorikeet/messages"
	"lorikeet/messages/wire"
)

func wireFrame(f *messages.Frame) *wire.Frame {
	out := &wire.Frame{
		PhyPayload: f.PHYPayload, ReceivedAt: unixNano(f.ReceivedAt), CorrelationId: f.CorrelationID,
		Settings: &wire.TxSettings{DataRate: wireDataRate(f.Settings.DataRate), Frequency: f.Settings.Frequency, Timestamp: f.Settings.Timestamp,
			Time: unixNano(f.Settings.Time), EnableCrc: f.Settings.EnableCRC},
		Rx: make([]*wire.RxMetadata, len(f.Rx)),
	}
	for i := range f.Rx {
		out.Rx[i] = wireRx(&f.Rx[i])
	}
	return out
}

func frameOf(f *wire.Frame) messages.Frame {
	s := f.GetSettings()
	out := messages.Frame{
		PHYPayload: f.PhyPayload, ReceivedAt: timeOf(f.ReceivedAt), CorrelationID: f.CorrelationId,
		Settings: messages.TxSettings{DataRate: dataRateOf(s.GetDataRate()), Frequency: s.GetFrequency(), Timestamp: s.GetTimestamp(), Time: timeOf(s.GetTime()), EnableCRC: s.GetEnableCrc()},
		Rx:       make([]messages.RxMetadata, len(f.Rx)),
	}
	for i := range f.Rx {
		out.Rx[i] = rxOf(f.Rx[i])
	}
	return out
}

func wireDataRate(d messages.DataRate) *wire.DataRate {
	return &wire.DataRate{Modulation: uint32(d.Modulation), SpreadingFactor: uint32(d.SpreadingFactor), Bandwidth: d.Bandwidth, BitRate: d.BitRate,
		ModulationType: uint32(d.ModulationType), CodingRate: d.CodingRate}
}

func dataRateOf(d *wire.DataRate) messages.DataRate {
	return messages.DataRate{Modulation: messages.Modulation(d.GetModulation()), SpreadingFactor: uint8(d.GetSpreadingFactor()), Bandwidth: d.GetBandwidth(),
		BitRate: d.GetBitRate(), ModulationType: uint8(d.GetModulationType()), CodingRate: d.GetCodingRate()}
}

func wireRx(r *messages.RxMetadata) *wire.RxMetadata {
	out := &wire.RxMetadata{
		GatewayId: r.GatewayID, GatewayEui: r.GatewayEUI[:], AntennaIndex: r.AntennaIndex, Time: unixNano(r.Time), GpsTime: unixNano(r.GPSTime), Timestamp: r.Timestamp,
		EncryptedFineTime: r.EncryptedFineTime, EncryptedFineTimeKey: r.EncryptedFineTimeKey, Rssi: r.RSSI, ChannelRssi: r.ChannelRSSI, SignalRssi: r.SignalRSSI,
		RssiStandardDeviation: r.RSSIStandardDeviation, Snr: r.SNR, FrequencyOffset: r.FrequencyOffset, HoppingWidth: r.HoppingWidth, ChannelIndex: r.ChannelIndex, ReceivedAt: unixNano(r.ReceivedAt),
		UplinkToken: r.UplinkToken, Board: r.Board, RfChain: r.RFChain, Node: r.Node,
	}
	if r.HasFineTimestamp {
		out.FineTimestamp = &r.FineTimestamp
	}
	if l := r.Location; l != nil {
		out.Location = &wire.Location{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude, Accuracy: l.Accuracy, Source: l.Source}
	}
	return out
}

func rxOf(r *wire.RxMetadata) messages.RxMetadata {
	out := messages.RxMetadata{
		GatewayID: r.GatewayId, AntennaIndex: r.AntennaIndex, Time: timeOf(r.Time), GPSTime: timeOf(r.GpsTime), Timestamp: r.Timestamp,
		FineTimestamp: r.GetFineTimestamp(), HasFineTimestamp: r.FineTimestamp != nil, EncryptedFineTime: r.EncryptedFineTime, EncryptedFineTimeKey: r.EncryptedFineTimeKey,
		RSSI: r.Rssi, ChannelRSSI: r.ChannelRssi, SignalRSSI: r.SignalRssi, RSSIStandardDeviation: r.RssiStandardDeviation, SNR: r.Snr, FrequencyOffset: r.FrequencyOffset, HoppingWidth: r.HoppingWidth,
		ChannelIndex: r.ChannelIndex, ReceivedAt: timeOf(r.ReceivedAt), UplinkToken: r.UplinkToken, Board: r.Board, RFChain: r.RfChain, Node: r.Node,
	}
	copy(out.GatewayEUI[:], r.GatewayEui)
	if l := r.Location; l != nil {
		out.Location = &messages.Location{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude, Accuracy: l.Accuracy, Source: l.Source}
	}
	return out
}

func wireTransmit(t *device.Transmit) *wire.Transmit {
	out := &wire.Transmit{PhyPayload: t.PHYPayload, Join: t.Join, SessionSeq: t.SessionSeq, FCnt: t.FCnt, Priority: uint32(t.Priority)}
	for _, w := range t.Windows {
		out.Windows = append(out.Windows, &wire.Window{Delay: int64(w.Delay), Frequency: w.Frequency, DataRate: wireDataRate(w.DataRate), Power: w.Power})
	}
	for i := range t.Candidates {
		f := wireFrame(&t.Candidates[i])
		f.PhyPayload = nil // of the uplink; what counts is who heard it, and when
		out.Candidates = append(out.Candidates, f)
	}
	return out
}

func transmitOf(t *wire.Transmit) *device.Transmit {
	out := &device.Transmit{PHYPayload: t.PhyPayload, Join: t.Join, SessionSeq: t.SessionSeq, FCnt: t.FCnt, Priority: messages.Priority(t.Priority)}
	for _, w := range t.Windows {
		out.Windows = append(out.Windows, device.Window{Delay: time.Duration(w.Delay), Frequency: w.Frequency, DataRate: dataRateOf(w.DataRate), Power: w.Power})
	}
	for _, f := range t.Candidates {
		out.Candidates = append(out.Candidates, frameOf(f))
	}
	return out
}
