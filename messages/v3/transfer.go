package v3

import "encoding/json"

// Transfer is a device as it moves from one server to another: its settings, its root keys, and what its actor knows of it.
type Transfer struct {
	EndDevice
	MACState        *MACState `json:"mac_state,omitempty"`         // of Session
	PendingMACState *MACState `json:"pending_mac_state,omitempty"` // of PendingSession
}

// HasState says whether the device brings more than settings: a session, or nonces that must not be used again.
func (t *Transfer) HasState() bool {
	return t.Session != nil || t.PendingSession != nil || t.LastJoinNonce != 0 || t.LastDevNonce != 0 || len(t.UsedDevNonces) > 0
}

// MACState is what a device was told over the air in its session. The Things Stack exports it under this name, with more members.
type MACState struct {
	CurrentParameters MACParameters `json:"current_parameters,omitzero"`
	FCntUpUsed        bool          `json:"f_cnt_up_used,omitempty"`     // additive: a last_f_cnt_up of 0 was received, not left out
	ChannelMaskDone   bool          `json:"channel_mask_done,omitempty"` // additive: the device knows its channels
}

// MACParameters are the receive windows of a session. Enums are names, numbers, or objects with a value.
type MACParameters struct {
	RX1Delay          json.RawMessage `json:"rx1_delay,omitempty"`
	RX1DataRateOffset json.RawMessage `json:"rx1_data_rate_offset,omitempty"`
	RX2DataRateIndex  json.RawMessage `json:"rx2_data_rate_index,omitempty"`
	RX2Frequency      Uint64          `json:"rx2_frequency,omitempty"` // Hz
}

// Windows gives the parameters as numbers: the delay in seconds, the frequency in Hz. ok is false if they are not complete: The Things Stack leaves out
// an offset and a data rate of 0, but never the delay and the frequency.
func (p *MACParameters) Windows() (rx1Delay, rx1Offset, rx2DataRate uint8, rx2Frequency uint32, ok bool) {
	delay, known := rxDelay(p.RX1Delay)
	offset, _, errOffset := enumValue(p.RX1DataRateOffset, "DATA_RATE_OFFSET_", 7)
	rate, _, errRate := enumValue(p.RX2DataRateIndex, "DATA_RATE_", 15)
	ok = known && errOffset == nil && errRate == nil && checkFrequency(p.RX2Frequency) == nil
	return delay, offset, rate, uint32(p.RX2Frequency), ok
}
