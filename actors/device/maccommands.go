package device

import (
	"slices"
	"time"

	"github.com/brocaar/lorawan"
	"github.com/brocaar/lorawan/gps"

	"lorikeet/messages"
)

// readMACCommands takes in the MAC commands of an uplink, from FOpts or from FPort 0 (LoRaWAN 1.0.4 §5). What the device asks is returned as
// requests that answerMAC serves; what it answers is noted in the session or the state.
func readMACCommands(o Opened, ses *Session, s *State, now time.Time) []lorawan.CID {
	in := o.Data.FOpts
	if o.Data.HasFPort && o.Data.FPort == 0 {
		in = o.FRMPayload
	}
	var asked []lorawan.CID
	adrAnswers, adrTaken := 0, true
	for len(in) > 0 {
		cid := lorawan.CID(in[0])
		payload, size, err := lorawan.GetMACPayloadAndSize(true, cid)
		if err != nil {
			// A command without a payload is not in the library's table; an unknown one ends the reading, since its length is unknown.
			if cid != lorawan.LinkCheckReq && cid != lorawan.DeviceTimeReq && cid != lorawan.DutyCycleAns && cid != lorawan.RXTimingSetupAns && cid != lorawan.TXParamSetupAns {
				break
			}
			size = 0
		}
		if len(in) < 1+size {
			break
		}
		if size > 0 && payload.UnmarshalBinary(in[1:1+size]) != nil {
			break
		}
		in = in[1+size:]
		switch answer := payload.(type) {
		case *lorawan.DevStatusAnsPayload:
			s.Battery = &Battery{FCnt: o.FCnt, Value: answer.Battery, Margin: answer.Margin, ReceivedAt: now}
		case *lorawan.LinkADRAnsPayload:
			// [LoRaWAN 1.0.4 §5.3] with any of the three refused, the device has changed nothing.
			adrAnswers++
			adrTaken = adrTaken && answer.ChannelMaskACK && answer.DataRateACK && answer.PowerACK
		}
		if (cid == lorawan.LinkCheckReq || cid == lorawan.DeviceTimeReq) && !slices.Contains(asked, cid) {
			asked = append(asked, cid)
		}
	}
	if adrAnswers > 0 && adrTaken {
		ses.ChannelMaskDone, ses.ChannelMaskTries = true, 0
	}
	return asked
}

// answerMAC makes the answers to what the device asked.
func answerMAC(asked []lorawan.CID, settings messages.TxSettings, rx []messages.RxMetadata, received time.Time) [][]byte {
	var out [][]byte
	for _, cid := range asked {
		var payload lorawan.MACCommandPayload
		switch cid {
		case lorawan.LinkCheckReq:
			payload = linkCheck(settings, rx)
		case lorawan.DeviceTimeReq:
			payload = &lorawan.DeviceTimeAnsPayload{TimeSinceGPSEpoch: gps.Time(endOfUplink(rx, received)).TimeSinceGPSEpoch()}
		}
		if b := macCommand(cid, payload); b != nil {
			out = append(out, b)
		}
	}
	return out
}

// gpsTrust is how far the GPS time of a radio gateway may be from when its frame came. A clock that is a leap second table (18 s), a time zone or a
// rollover of GPS weeks off must not set those of devices.
const gpsTrust = 10 * time.Second

// endOfUplink is the time that DeviceTimeAns tells (LoRaWAN 1.0.4 §5.9): by GPS if a radio gateway has it, else when the first copy came.
func endOfUplink(rx []messages.RxMetadata, received time.Time) time.Time {
	for i := range rx {
		if at := rx[i].GPSTime; !at.IsZero() && received.Sub(at).Abs() <= gpsTrust {
			return at
		}
	}
	return received
}

// linkCheck: the margin of the best reception above the demodulation floor, and the number of radio gateways (LoRaWAN 1.0.4 §5.2).
func linkCheck(settings messages.TxSettings, rx []messages.RxMetadata) *lorawan.LinkCheckAnsPayload {
	best := float32(-1000)
	seen := map[messages.EUI64]bool{}
	for i := range rx {
		best = max(best, rx[i].SNR)
		seen[rx[i].GatewayEUI] = true
	}
	margin := min(max(best-requiredSNR(settings.DataRate.SpreadingFactor), 0), 254)
	return &lorawan.LinkCheckAnsPayload{Margin: uint8(margin), GwCnt: uint8(min(len(seen), 255))}
}

// channelMask asks the device of a plan with masked channels to use only those, where the join-accept could not say it
// (US915 before LoRaWAN 1.0.3, and ABP), or where it did not help: a device with older regional parameters ignores that kind of CFList.
func (p *Profile) channelMask(ses *Session, up messages.TxSettings) []byte {
	if p.Region.maskOf == nil || ses.ChannelMaskDone && p.Region.masked(up) || ses.ChannelMaskTries >= 3 {
		return nil
	}
	dr, err := p.Region.uplinkDR(up.DataRate)
	if err != nil {
		return nil
	}
	all := make([]int, 72)
	for i := range all {
		all[i] = i
	}
	var block []byte
	requests := p.Region.band.GetLinkADRReqPayloadsForEnabledUplinkChannelIndices(all)
	for i, req := range requests {
		req.DataRate, req.TXPower, req.Redundancy.NbRep = uint8(dr), 0, 1
		if i < len(requests)-1 {
			// From LoRaWAN 1.0.2 on only the last data rate of a block counts (§5.2). Before, each request stands alone, and what the first
			// leaves on are channels of 500 kHz.
			req.DataRate = us915DR500
		}
		block = append(block, macCommand(lorawan.LinkADRReq, &req)...)
	}
	return block
}

// us915DR500 is the data rate of uplinks on the 500 kHz channels of US915.
const us915DR500 = 4

func macCommand(cid lorawan.CID, payload lorawan.MACCommandPayload) []byte {
	b, err := lorawan.MACCommand{CID: cid, Payload: payload}.MarshalBinary()
	if err != nil {
		return nil
	}
	return b
}
