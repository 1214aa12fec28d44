package simulator

import (
	"fmt"
	"strconv"
)

// Region names the regional parameters (LoRaWAN Regional Parameters 1.0.3 and RP002-1.0.3) that a device follows.
type Region string

// The regions that can be simulated.
const (
	EU868 Region = "EU868"
	US915 Region = "US915"
)

// channel is one uplink channel of a device. downlink is its RX1 frequency if DlChannelReq has set one.
type channel struct {
	frequency, downlink uint32 // Hz; frequency 0: not defined
	minDR, maxDR        int
	enabled             bool
}

// plan is what a region prescribes. Data rates that are not LoRa (FSK, LR-FHSS) are left out: a device refuses them.
type plan struct {
	dataRates     [16]string // by index, as Semtech's "datr"; empty: none
	maxPayload    [16]int    // N: bytes of application payload with empty FOpts, no repeater
	uplinkDRs     int        // uplink data rates are 0 to uplinkDRs-1
	firstDownDR   int
	maxDR1Offset  int
	maxPower      int
	rx2Frequency  uint32
	rx2DataRate   int
	defaultDR     int // fastest at 125 kHz
	fixedChannels bool
	channels      []channel
}

func planOf(r Region) (*plan, error) {
	switch r {
	case EU868:
		p := &plan{uplinkDRs: 7, maxDR1Offset: 5, maxPower: 7, rx2Frequency: 869_525_000, defaultDR: 5,
			maxPayload: [16]int{51, 51, 51, 115, 242, 242, 242}, channels: make([]channel, 16)}
		for i := range 6 {
			p.dataRates[i] = "SF" + strconv.Itoa(12-i) + "BW125"
		}
		p.dataRates[6] = "SF7BW250"
		for i, f := range [3]uint32{868_100_000, 868_300_000, 868_500_000} {
			p.channels[i] = channel{frequency: f, maxDR: 5, enabled: true}
		}
		return p, nil
	case US915:
		p := &plan{uplinkDRs: 5, firstDownDR: 8, maxDR1Offset: 3, maxPower: 14, rx2Frequency: 923_300_000, rx2DataRate: 8, defaultDR: 3, fixedChannels: true,
			maxPayload: [16]int{11, 53, 125, 242, 242, 8: 53, 9: 129, 10: 242, 11: 242, 12: 242, 13: 242}}
		for i := range 4 {
			p.dataRates[i] = "SF" + strconv.Itoa(10-i) + "BW125"
		}
		p.dataRates[4] = "SF8BW500"
		for i := range 6 {
			p.dataRates[8+i] = "SF" + strconv.Itoa(12-i) + "BW500"
		}
		for i := range uint32(64) {
			p.channels = append(p.channels, channel{frequency: 902_300_000 + 200_000*i, maxDR: 3, enabled: true})
		}
		for i := range uint32(8) {
			p.channels = append(p.channels, channel{frequency: 903_000_000 + 1_600_000*i, minDR: 4, maxDR: 4, enabled: true})
		}
		return p, nil
	}
	return nil, fmt.Errorf("region %q: use %s or %s", r, EU868, US915)
}

// defaultChannels gives a fresh set. In US915 only the sub-band's channels are on (1 to 8; 0: all).
func (p *plan) defaultChannels(subBand int) []channel {
	c := append([]channel(nil), p.channels...)
	if p.fixedChannels && subBand > 0 {
		for i := range c {
			c[i].enabled = i/8 == subBand-1 || i == 63+subBand
		}
	}
	return c
}

// rx1DataRate follows the RX1DROffset table of the region.
func (p *plan) rx1DataRate(up, offset int) int {
	if !p.fixedChannels {
		return max(up-offset, 0)
	}
	return min(max(up+10-offset, 8), 13)
}

func (p *plan) rx1Frequency(c channel, index int) uint32 {
	switch {
	case p.fixedChannels:
		return 923_300_000 + 600_000*uint32(index%8)
	case c.downlink != 0:
		return c.downlink
	}
	return c.frequency
}

func (p *plan) validUplinkFrequency(hz uint32) bool { return hz >= 863_000_000 && hz <= 870_000_000 }

func (p *plan) validDownlinkFrequency(hz uint32) bool {
	if p.fixedChannels {
		return hz >= 923_300_000 && hz <= 927_500_000 && (hz-923_300_000)%600_000 == 0
	}
	return hz >= 863_000_000 && hz <= 870_000_000
}

func (p *plan) validDownlinkDR(dr int) bool {
	return dr >= p.firstDownDR && dr < len(p.dataRates) && p.dataRates[dr] != ""
}
