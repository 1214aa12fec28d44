// Package frame reads, checks, decrypts and builds the LoRaWAN 1.0.x frames of the hot path without garbage: data frames and join-requests.
// It is pure. Rare frames (join-accept, MAC commands) are left to github.com/brocaar/lorawan, which also serves as the oracle in tests.
package frame

import (
	"encoding/binary"
	"errors"

	"lorikeet/messages"
)

// MType is the message type in the MHDR (LoRaWAN 1.0.4 §4.2.1).
type MType uint8

const (
	JoinRequest MType = iota
	JoinAccept
	UnconfirmedDataUp
	UnconfirmedDataDown
	ConfirmedDataUp
	ConfirmedDataDown
	RejoinRequest
	Proprietary
)

// Errors of the parsers. They are values, so that drops can be counted by reason.
var (
	ErrTooShort = errors.New("frame is too short")
	ErrMajor    = errors.New("frame has an unknown LoRaWAN major version")
	ErrMType    = errors.New("frame is of another type")
	ErrFOpts    = errors.New("FOpts do not fit the frame")
	ErrPort0    = errors.New("FPort 0 together with FOpts")
)

// TypeOf gives the MType of a PHYPayload.
func TypeOf(phy []byte) (MType, error) {
	if len(phy) < 5 {
		return 0, ErrTooShort
	}
	if phy[0]&0x03 != 0 {
		return 0, ErrMajor
	}
	return MType(phy[0] >> 5), nil
}

// Data is a parsed data frame. Its slices point into the PHYPayload.
type Data struct {
	MType      MType
	DevAddr    messages.DevAddr
	ADR        bool
	ADRACKReq  bool // uplink
	ACK        bool
	FPending   bool // downlink; in an uplink it is the class B bit
	FCnt16     uint16
	FOpts      []byte
	HasFPort   bool
	FPort      uint8
	FRMPayload []byte
}

// Confirmed says whether the sender wants an acknowledgement.
func (d Data) Confirmed() bool { return d.MType == ConfirmedDataUp || d.MType == ConfirmedDataDown }

// ParseData reads a data frame of either direction (LoRaWAN 1.0.4 §4). It does not check the MIC.
func ParseData(phy []byte) (Data, error) {
	t, err := TypeOf(phy)
	if err != nil {
		return Data{}, err
	}
	if t < UnconfirmedDataUp || t > ConfirmedDataDown {
		return Data{}, ErrMType
	}
	if len(phy) < 12 {
		return Data{}, ErrTooShort
	}
	fctrl := phy[5]
	d := Data{
		MType: t, DevAddr: messages.DevAddr{phy[4], phy[3], phy[2], phy[1]},
		ADR: fctrl&0x80 != 0, ACK: fctrl&0x20 != 0, FPending: fctrl&0x10 != 0, FCnt16: binary.LittleEndian.Uint16(phy[6:]),
	}
	d.ADRACKReq = fctrl&0x40 != 0 && (t == UnconfirmedDataUp || t == ConfirmedDataUp)
	body, n := phy[8:len(phy)-4], int(fctrl&0x0f)
	if n > len(body) {
		return Data{}, ErrFOpts
	}
	d.FOpts, body = body[:n:n], body[n:]
	if len(body) > 0 {
		d.HasFPort, d.FPort, d.FRMPayload = true, body[0], body[1:]
		if d.FPort == 0 && n > 0 {
			return Data{}, ErrPort0
		}
	}
	return d, nil
}

// Join is a parsed join-request (LoRaWAN 1.0.4 §6.2.5).
type Join struct {
	JoinEUI, DevEUI messages.EUI64
	DevNonce        uint16
}

// ParseJoin reads a join-request. It does not check the MIC.
func ParseJoin(phy []byte) (Join, error) {
	t, err := TypeOf(phy)
	switch {
	case err != nil:
		return Join{}, err
	case t != JoinRequest:
		return Join{}, ErrMType
	case len(phy) != 23:
		return Join{}, ErrTooShort
	}
	var j Join
	for i := range 8 {
		j.JoinEUI[i], j.DevEUI[i] = phy[8-i], phy[16-i]
	}
	j.DevNonce = binary.LittleEndian.Uint16(phy[17:])
	return j, nil
}

// NextFCnt extends the 16 bits on air to the 32-bit counter that follows last (LoRaWAN 1.0.4 §4.3.1.5). seen is false before the first frame
// of a session. ok is false if the session has no counter left. The result equals last exactly if low16 are its low bits: a repetition.
func NextFCnt(last uint32, seen bool, low16 uint16) (fCnt uint32, ok bool) {
	fCnt = last&^0xffff | uint32(low16)
	if !seen {
		return uint32(low16), true
	}
	if fCnt >= last {
		return fCnt, true
	}
	if fCnt > 0xffff_ffff-0x10000 {
		return 0, false
	}
	return fCnt + 0x10000, true
}
