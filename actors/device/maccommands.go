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
			ses.ChannelMaskDone = ses.ChannelMaskDone || answer.ChannelMaskACK
		}
		if (cid == lorawan.LinkCheckReq || cid == lorawan.DeviceTimeReq) && !slices.Contains(asked, cid) {
			asked = append(asked, cid)
		}
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
			at := received
			for i := range rx {
				if !rx[i].GPSTime.IsZero() {
					at = rx[i].GPSTime
				}
			}
			// [LoRaWAN 1.0.4 §5.9] the time is that of the end of the uplink.
			payload = &lorawan.DeviceTimeAnsPayload{TimeSinceGPSEpoch: gps.Time(at).TimeSinceGPSEpoch()}
		}
		if b := macCommand(cid, payload); b != nil {
			out = append(out, b)
		}
	}
	return out
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
// (US915 before LoRaWAN 1.0.3, and ABP).
func (p *Profile) channelMask(ses *Session, up messages.TxSettings) [][]byte {
	if p.Region.maskOf == nil || ses.ChannelMaskDone || ses.ChannelMaskTries >= 3 {
		return nil
	}
	dr, err := p.Region.uplinkDR(up.DataRate)
	if err != nil {
		return nil
	}
	ses.ChannelMaskTries++
	all := make([]int, 72)
	for i := range all {
		all[i] = i
	}
	var block []byte
	for _, req := range p.Region.band.GetLinkADRReqPayloadsForEnabledUplinkChannelIndices(all) {
		req.DataRate, req.TXPower, req.Redundancy.NbRep = uint8(dr), 0, 1
		block = append(block, macCommand(lorawan.LinkADRReq, &req)...)
	}
	return [][]byte{block}
}

func macCommand(cid lorawan.CID, payload lorawan.MACCommandPayload) []byte {
	b, err := lorawan.MACCommand{CID: cid, Payload: payload}.MarshalBinary()
	if err != nil {
		return nil
	}
	return b
}
