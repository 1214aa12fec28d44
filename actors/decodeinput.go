package actors

import (
	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// decodeInput is what a decoder is told of an uplink, as it is known with the first copy.
func (d *Device) decodeInput(o device.Opened, first *messages.Frame) messages.DecodeInput {
	in := messages.DecodeInput{Bytes: o.FRMPayload, FPort: o.Data.FPort, RecvTime: first.ReceivedAt, FCnt: o.FCnt, FormatterDevice: d.formatterDevice()}
	if best := strongest(first.Rx); best != nil {
		in.RSSI, in.SNR = &best.RSSI, &best.SNR
	}
	return in
}

func strongest(rx []messages.RxMetadata) *messages.RxMetadata {
	var best *messages.RxMetadata
	for i := range rx {
		if best == nil || rx[i].SNR > best.SNR || rx[i].SNR == best.SNR && rx[i].RSSI > best.RSSI {
			best = &rx[i]
		}
	}
	return best
}

// simulatedInput is what a decoder is told of an uplink that was made by the API.
func (d *Device) simulatedInput(m *v3.UplinkMessage) messages.DecodeInput {
	in := messages.DecodeInput{Bytes: m.FRMPayload, FPort: uint8(m.FPort), FCnt: uint32(m.FCnt), FormatterDevice: d.formatterDevice()}
	if m.ReceivedAt != nil {
		in.RecvTime = *m.ReceivedAt
	}
	if len(m.RxMetadata) > 0 {
		in.RSSI, in.SNR = &m.RxMetadata[0].RSSI, &m.RxMetadata[0].SNR
	}
	return in
}

func (d *Device) formatterDevice() messages.FormatterDevice {
	return messages.FormatterDevice{Device: d.id, DevEUI: d.view.devEUI, Attributes: d.view.attributes, VersionIDs: (*messages.VersionIDs)(d.view.versions)}
}

// formatterDevice is what a formatter is told of a device that the registry knows.
func formatterDevice(dev *v3.EndDevice) messages.FormatterDevice {
	out := messages.FormatterDevice{Device: dev.DeviceID(), Attributes: dev.Attributes, VersionIDs: (*messages.VersionIDs)(dev.VersionIDs)}
	if dev.IDs.DevEUI != nil {
		out.DevEUI = *dev.IDs.DevEUI
	}
	return out
}
