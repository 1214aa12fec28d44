package actors

import (
	"lorikeet/actors/device"
	"lorikeet/messages"
)

// decodeInput is what the decoder of an uplink is given; f is the copy that came first.
func (d *Device) decodeInput(o device.Opened, f *messages.Frame) messages.DecodeInput {
	return messages.DecodeInput{Bytes: o.FRMPayload, FPort: o.Data.FPort, RecvTime: f.ReceivedAt}
}
