package simulator

import (
	"time"

	"github.com/brocaar/lorawan"
)

// parseCommands reads the MAC commands of a downlink up to the first that is unknown, as a device does.
func parseCommands(b []byte) []lorawan.MACCommand {
	var out []lorawan.MACCommand
	for len(b) > 0 {
		n := 1
		if _, size, err := lorawan.GetMACPayloadAndSize(false, lorawan.CID(b[0])); err == nil {
			n += size
		} else if cid := lorawan.CID(b[0]); cid != lorawan.DevStatusReq && cid != lorawan.RekeyConf {
			return out
		}
		var c lorawan.MACCommand
		if n > len(b) || c.UnmarshalBinary(false, b[:n]) != nil {
			return out
		}
		out = append(out, c)
		b = b[n:]
	}
	return out
}

// upCommandSizes gives the bytes of the uplink MAC commands that a device sends, CID included.
var upCommandSizes = map[lorawan.CID]int{lorawan.LinkCheckReq: 1, lorawan.LinkADRAns: 2, lorawan.DutyCycleAns: 1, lorawan.RXParamSetupAns: 2,
	lorawan.DevStatusAns: 3, lorawan.NewChannelAns: 2, lorawan.RXTimingSetupAns: 1, lorawan.DLChannelAns: 2, lorawan.DeviceTimeReq: 1}

// wholeCommands cuts b to at most limit bytes, between two commands.
func wholeCommands(b []byte, limit int) []byte {
	n := 0
	for n < len(b) {
		size := upCommandSizes[lorawan.CID(b[n])]
		if size == 0 || n+size > limit {
			break
		}
		n += size
	}
	return b[:n]
}

// dueCommands gives the MAC commands of the next uplink: answers first, since the server waits for them.
func (m *MAC) dueCommands(u Uplink) []byte {
	if len(m.sticky) == 0 && len(m.answers) == 0 && !u.LinkCheck && !u.DeviceTime {
		return nil
	}
	b := append(append([]byte(nil), m.sticky...), m.answers...)
	if u.LinkCheck {
		b = append(b, byte(lorawan.LinkCheckReq))
	}
	if u.DeviceTime {
		b = append(b, byte(lorawan.DeviceTimeReq))
	}
	return b
}

func flagBits(flags ...bool) (b byte) {
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return b
}

// handle carries out the commands of a downlink and prepares the answers (LoRaWAN 1.0.3 §5).
func (m *MAC) handle(commands []lorawan.MACCommand) {
	for i := 0; i < len(commands); i++ {
		switch p := commands[i].Payload.(type) {
		case *lorawan.LinkADRReqPayload:
			block := []*lorawan.LinkADRReqPayload{p}
			for i+1 < len(commands) {
				next, ok := commands[i+1].Payload.(*lorawan.LinkADRReqPayload)
				if !ok {
					break
				}
				block = append(block, next)
				i++
			}
			status := m.linkADR(block)
			for range block {
				m.answers = append(m.answers, byte(lorawan.LinkADRAns), status)
			}
		case *lorawan.DutyCycleReqPayload:
			m.answers = append(m.answers, byte(lorawan.DutyCycleAns))
		case *lorawan.RXParamSetupReqPayload:
			m.sticky = append(m.sticky, byte(lorawan.RXParamSetupAns), m.rxParamSetup(p))
		case *lorawan.NewChannelReqPayload:
			if !m.plan.fixedChannels { // US915 devices don't implement it
				m.answers = append(m.answers, byte(lorawan.NewChannelAns), m.newChannel(p))
			}
		case *lorawan.RXTimingSetupReqPayload:
			m.rxDelay1 = time.Duration(max(p.Delay&0x0F, 1)) * time.Second
			m.sticky = append(m.sticky, byte(lorawan.RXTimingSetupAns))
		case *lorawan.DLChannelReqPayload:
			if !m.plan.fixedChannels {
				m.sticky = append(m.sticky, byte(lorawan.DLChannelAns), m.dlChannel(p))
			}
		case nil:
			if commands[i].CID == lorawan.DevStatusReq {
				m.answers = append(m.answers, byte(lorawan.DevStatusAns), 254, 10) // full battery, 10 dB margin
			}
		}
	}
}

// linkADR applies a block of LinkADRReq as a whole or not at all.
func (m *MAC) linkADR(block []*lorawan.LinkADRReqPayload) (status byte) {
	channels := append([]channel(nil), m.channels...)
	maskOK := true
	for _, p := range block {
		if m.plan.fixedChannels {
			maskOK = fixedMask(channels, p.ChMask, p.Redundancy.ChMaskCntl) && maskOK
		} else {
			maskOK = dynamicMask(channels, p.ChMask, p.Redundancy.ChMaskCntl) && maskOK
		}
	}
	last := block[len(block)-1]
	dr, power := m.dataRate, m.txPower
	if last.DataRate != 15 {
		dr = int(last.DataRate)
	}
	if last.TXPower != 15 {
		power = int(last.TXPower)
	}
	any, fits := false, false
	for _, c := range channels {
		if c.enabled && c.frequency != 0 {
			any = true
			fits = fits || c.minDR <= dr && dr <= c.maxDR
		}
	}
	maskOK = maskOK && any
	drOK := dr < m.plan.uplinkDRs && (fits || !maskOK)
	powerOK := power <= m.plan.maxPower
	if maskOK && drOK && powerOK {
		m.channels, m.dataRate, m.txPower = channels, dr, power
		if last.Redundancy.NbRep != 0 {
			m.nbTrans = int(last.Redundancy.NbRep)
		}
	}
	return flagBits(maskOK, drOK, powerOK)
}

func dynamicMask(channels []channel, mask lorawan.ChMask, control uint8) bool {
	switch control {
	case 0:
		for i := range channels {
			if mask[i] && channels[i].frequency == 0 {
				return false
			}
			channels[i].enabled = mask[i]
		}
	case 6:
		for i := range channels {
			channels[i].enabled = channels[i].frequency != 0
		}
	default:
		return false
	}
	return true
}

// fixedMask follows RP002 §2.5.5 (US902-928).
func fixedMask(channels []channel, mask lorawan.ChMask, control uint8) bool {
	switch control {
	case 0, 1, 2, 3, 4:
		for i, on := range mask {
			if k := 16*int(control) + i; k < len(channels) {
				channels[k].enabled = on
			}
		}
	case 5:
		for i := range channels {
			if i < 64 {
				channels[i].enabled = mask[i/8]
			} else {
				channels[i].enabled = mask[i-64]
			}
		}
	case 6, 7:
		for i := range channels {
			if i < 64 {
				channels[i].enabled = control == 6
			} else {
				channels[i].enabled = mask[i-64]
			}
		}
	default:
		return false
	}
	return true
}

func (m *MAC) rxParamSetup(p *lorawan.RXParamSetupReqPayload) byte {
	dr, offset := int(p.DLSettings.RX2DataRate), int(p.DLSettings.RX1DROffset)
	frequencyOK, drOK, offsetOK := m.plan.validDownlinkFrequency(p.Frequency), m.plan.validDownlinkDR(dr), offset <= m.plan.maxDR1Offset
	if frequencyOK && drOK && offsetOK {
		m.rx2Freq, m.rx2DR, m.dr1Offset = p.Frequency, dr, offset
	}
	return flagBits(frequencyOK, drOK, offsetOK)
}

func (m *MAC) newChannel(p *lorawan.NewChannelReqPayload) byte {
	i := int(p.ChIndex)
	frequencyOK := i >= 3 && i < len(m.channels) && (p.Freq == 0 || m.plan.validUplinkFrequency(p.Freq))
	rangeOK := p.MinDR <= p.MaxDR && int(p.MaxDR) < m.plan.uplinkDRs
	if frequencyOK && (rangeOK || p.Freq == 0) {
		m.channels[i] = channel{frequency: p.Freq, minDR: int(p.MinDR), maxDR: int(p.MaxDR), enabled: p.Freq != 0}
	}
	return flagBits(frequencyOK, rangeOK)
}

func (m *MAC) dlChannel(p *lorawan.DLChannelReqPayload) byte {
	i := int(p.ChIndex)
	defined := i < len(m.channels) && m.channels[i].frequency != 0
	frequencyOK := m.plan.validDownlinkFrequency(p.Freq)
	if defined && frequencyOK {
		m.channels[i].downlink = p.Freq
	}
	return flagBits(frequencyOK, defined)
}
