package semtechudp

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"lorikeet/messages"
)

// Identifiers of the packets (PROTOCOL.TXT of the Semtech packet forwarder).
const (
	pushData = 0x00
	pushAck  = 0x01
	pullData = 0x02
	pullResp = 0x03
	pullAck  = 0x04
	txAck    = 0x05
)

// headerSize is that of all packets a radio gateway sends: version, token (2), identifier, EUI (8).
const headerSize = 12

type header struct {
	version uint8
	token   uint16
	kind    uint8
	eui     messages.EUI64
}

// Reasons for which a datagram is dropped; labels of lorikeet_semtechudp_datagrams_dropped_total.
const (
	dropShort         = "short"
	dropVersion       = "version"
	dropKind          = "kind"
	dropEUI           = "zero_eui"
	dropUnknown       = "unknown_gateway"
	dropUnknownRate   = "unknown_rate"
	dropRate          = "rate"
	dropAddressChange = "address_change"
	dropInFlight      = "in_flight"
	dropBody          = "json"
	dropUnmatched     = "tx_ack_unmatched"
	dropForeignAck    = "tx_ack_foreign"
)

// parseHeader reads a packet of a radio gateway; reason says why it is none, or is empty.
func parseHeader(b []byte) (h header, body []byte, reason string) {
	if len(b) < headerSize {
		return h, nil, dropShort
	}
	h = header{version: b[0], token: binary.BigEndian.Uint16(b[1:3]), kind: b[3], eui: messages.EUI64(b[4:12])}
	switch {
	case h.version != 1 && h.version != 2:
		return h, nil, dropVersion
	case h.kind != pushData && h.kind != pullData && h.kind != txAck:
		return h, nil, dropKind
	case h.eui.IsZero():
		// The EUI of packet forwarders that were never set up: many have it.
		return h, nil, dropEUI
	}
	return h, b[headerSize:], ""
}

// ack is PUSH_ACK or PULL_ACK for h.
func ack(h header) [4]byte {
	kind := byte(pushAck)
	if h.kind == pullData {
		kind = pullAck
	}
	return [4]byte{h.version, byte(h.token >> 8), byte(h.token), kind}
}

// uplinkToken is what a downlink needs to know of the uplink it answers.
type uplinkToken struct {
	eui                     messages.EUI64
	tmst                    uint32
	antenna, board, rfChain uint8
}

const (
	uplinkTokenVersion = 1
	uplinkTokenSize    = 16
)

func (t uplinkToken) bytes() []byte {
	b := make([]byte, 0, uplinkTokenSize)
	b = append(b, uplinkTokenVersion)
	b = append(b, t.eui[:]...)
	b = binary.BigEndian.AppendUint32(b, t.tmst)
	return append(b, t.antenna, t.board, t.rfChain)
}

func parseUplinkToken(b []byte) (uplinkToken, bool) {
	if len(b) != uplinkTokenSize || b[0] != uplinkTokenVersion {
		return uplinkToken{}, false
	}
	return uplinkToken{
		eui: messages.EUI64(b[1:9]), tmst: binary.BigEndian.Uint32(b[9:13]), antenna: b[13], board: b[14], rfChain: b[15],
	}, true
}

// eirpOverERP is the gain of a half-wave dipole in dB. Packet forwarders take powe as ERP: EU868 allows 16.15 dBm EIRP, which is powe 14.
const eirpOverERP = 2.15

// appendPullResp writes PULL_RESP with the txpk for req, at a power of powe dBm.
func appendPullResp(b []byte, version uint8, token uint16, req messages.TxRequest, powe int64) ([]byte, error) {
	var up uplinkToken
	if req.UplinkToken != nil {
		var ok bool
		if up, ok = parseUplinkToken(req.UplinkToken); !ok || up.eui != req.GatewayEUI {
			return nil, fmt.Errorf("uplink token is not one of radio gateway %s by Semtech UDP", req.GatewayEUI)
		}
	} else if req.Timing == messages.TxAtTimestamp {
		return nil, fmt.Errorf("a downlink at a timestamp needs the uplink token of the reception it answers")
	}
	if len(req.PHYPayload) == 0 || len(req.PHYPayload) > maxPHY {
		return nil, fmt.Errorf("PHYPayload of %d bytes: want 1 to %d", len(req.PHYPayload), maxPHY)
	}
	if req.Frequency == 0 {
		return nil, fmt.Errorf("downlink without frequency")
	}
	b = append(b, version, byte(token>>8), byte(token), pullResp)
	if req.Timing == messages.TxImmediately {
		b = append(b, `{"txpk":{"imme":true`...)
	} else {
		b = append(b, `{"txpk":{"tmst":`...)
		b = strconv.AppendUint(b, uint64(req.Timestamp), 10)
	}
	b = append(b, `,"freq":`...)
	b = appendMHz(b, req.Frequency)
	b = append(b, `,"rfch":0,"powe":`...)
	b = strconv.AppendInt(b, powe, 10)
	b = append(b, `,"ant":`...)
	b = strconv.AppendUint(b, uint64(up.antenna), 10)
	b = append(b, `,"brd":`...)
	b = strconv.AppendUint(b, uint64(up.board), 10)
	b, ok := appendDataRate(b, req.DataRate)
	if !ok {
		return nil, fmt.Errorf("data rate %+v can't be sent", req.DataRate)
	}
	b = append(b, `,"ipol":true,"ncrc":true,"size":`...)
	b = strconv.AppendUint(b, uint64(len(req.PHYPayload)), 10)
	b = append(b, `,"data":"`...)
	b = base64.StdEncoding.AppendEncode(b, req.PHYPayload)
	return append(b, `"}}`...), nil
}

// erp is what packet forwarders call an EIRP, in whole dBm: they read powe as an integer.
func erp(eirp float32) int64 {
	p := math.Round(float64(eirp) - eirpOverERP)
	if math.IsNaN(p) {
		return 0
	}
	return int64(max(-20, min(p, 50)))
}

// appendMHz writes Hz as MHz, exactly.
func appendMHz(b []byte, hz uint64) []byte {
	b = strconv.AppendUint(b, hz/1e6, 10)
	fraction := hz % 1e6
	if fraction == 0 {
		return b
	}
	digits := strconv.AppendUint(nil, 1e6+fraction, 10) // the leading 1 keeps the zeros
	return append(append(b, '.'), bytes.TrimRight(digits[1:], "0")...)
}

// parseTxAck reads the body of TX_ACK. No body, blanks, a lone NUL and a warning all mean that the frame was taken.
func parseTxAck(body []byte) messages.TxError {
	body = bytes.Trim(body, " \t\r\n\x00")
	if len(body) == 0 {
		return messages.TxOK
	}
	doc, _ := scan(body)
	if doc.kind != object {
		return messages.TxUnknown
	}
	c := walk(doc)
	for c.next() {
		if string(c.key) != "txpk_ack" || c.val.kind != object {
			continue
		}
		m := walk(c.val)
		for m.next() {
			if string(m.key) != "error" {
				continue
			}
			if m.val.kind == literal && string(m.val.raw) == "null" {
				continue
			}
			name, ok := m.val.str()
			if !ok {
				return messages.TxUnknown
			}
			return txError(name)
		}
		c.bad = c.bad || m.bad
	}
	if c.bad {
		return messages.TxUnknown
	}
	return messages.TxOK
}

func txError(name []byte) messages.TxError {
	switch e := messages.TxError(bytes.ToUpper(bytes.TrimSpace(name))); e {
	case "", "NONE", "OK":
		return messages.TxOK
	case messages.TxTooLate, messages.TxTooEarly, messages.TxCollisionPacket, messages.TxCollisionBeacon,
		messages.TxFrequency, messages.TxPower, messages.TxGPSUnlocked:
		return e
	}
	return messages.TxUnknown
}
