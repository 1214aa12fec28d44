package device

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brocaar/lorawan"
	"github.com/brocaar/lorawan/band"

	"lorikeet/messages"
)

// Region is what a frequency plan says about channels, data rates and windows. It never changes after NewRegion and may be shared.
type Region struct {
	band   band.Band
	name   band.Name
	rx2DR  uint8 // desired: given to OTAA devices
	maskOf []int // enabled channels of a plan that masks channels; nil otherwise
}

// NewRegion makes the region of a frequency plan of The Things Stack: EU_863_870, EU_863_870_TTN, US_902_928 or US_902_928_FSB_1 to _8
// (RP002-1.0.4 §2.4, §2.5).
func NewRegion(frequencyPlanID string) (*Region, error) {
	switch {
	case frequencyPlanID == "EU_863_870" || frequencyPlanID == "EU_863_870_TTN":
		b, err := band.GetConfig(band.EU868, false, lorawan.DwellTimeNoLimit)
		if err != nil {
			return nil, err
		}
		for _, f := range []uint32{867100000, 867300000, 867500000, 867700000, 867900000} {
			if err := b.AddChannel(f, 0, 5); err != nil {
				return nil, err
			}
		}
		r := &Region{band: b, name: band.EU868, rx2DR: uint8(b.GetDefaults().RX2DataRate)}
		if frequencyPlanID == "EU_863_870_TTN" {
			r.rx2DR = 3
		}
		return r, nil
	case frequencyPlanID == "US_902_928" || strings.HasPrefix(frequencyPlanID, "US_902_928_FSB_"):
		b, err := band.GetConfig(band.US915, false, lorawan.DwellTimeNoLimit)
		if err != nil {
			return nil, err
		}
		r := &Region{band: b, name: band.US915, rx2DR: uint8(b.GetDefaults().RX2DataRate)}
		if frequencyPlanID == "US_902_928" {
			return r, nil
		}
		fsb := int(frequencyPlanID[len(frequencyPlanID)-1] - '1')
		if len(frequencyPlanID) != len("US_902_928_FSB_1") || fsb < 0 || fsb > 7 {
			break
		}
		for i := range 72 {
			if i/8 == fsb || i == 64+fsb {
				r.maskOf = append(r.maskOf, i)
				continue
			}
			if err := b.DisableUplinkChannelIndex(i); err != nil {
				return nil, err
			}
		}
		return r, nil
	}
	return nil, fmt.Errorf("frequency plan %q is not supported: use EU_863_870_TTN or US_902_928_FSB_1 to US_902_928_FSB_8", frequencyPlanID)
}

// BandID is the TTS name of the band.
func (r *Region) BandID() string {
	if r.name == band.US915 {
		return "US_902_928"
	}
	return "EU_863_870"
}

func (r *Region) rx2Default() (dr uint8, frequency uint32) {
	d := r.band.GetDefaults()
	return uint8(d.RX2DataRate), d.RX2Frequency
}

// uplinkDR is the index of a data rate as a device uses it.
func (r *Region) uplinkDR(d messages.DataRate) (int, error) {
	b := band.DataRate{}
	switch d.Modulation {
	case messages.LoRa:
		b.Modulation, b.SpreadFactor, b.Bandwidth = band.LoRaModulation, int(d.SpreadingFactor), int(d.Bandwidth/1000)
	case messages.FSK:
		b.Modulation, b.BitRate = band.FSKModulation, int(d.BitRate)
	default:
		b.Modulation, b.OccupiedChannelWidth, b.CodingRate = band.LRFHSSModulation, int(d.Bandwidth), d.CodingRate
		if d.CodingRate == "2/3" {
			b.CodingRate = "4/6" // the library's spelling
		}
	}
	return r.band.GetDataRateIndex(true, b)
}

// downlinkDR gives the parameters of a data rate that a downlink may have: neither LR-FHSS nor one of the uplink half of US915 (RP002-1.0.4 §2.5.3).
func (r *Region) downlinkDR(index int) (messages.DataRate, error) {
	d, err := r.band.GetDataRate(index)
	if err != nil {
		return messages.DataRate{}, err
	}
	if d.Modulation == band.LRFHSSModulation || r.name == band.US915 && index < 8 {
		return messages.DataRate{}, fmt.Errorf("data rate %d is for uplinks only", index)
	}
	if d.Modulation == band.FSKModulation {
		return messages.DataRate{Modulation: messages.FSK, BitRate: uint32(d.BitRate)}, nil
	}
	return messages.DataRate{Modulation: messages.LoRa, SpreadingFactor: uint8(d.SpreadFactor), Bandwidth: uint32(d.Bandwidth) * 1000, CodingRate: "4/5"}, nil
}

// masked says whether an uplink is on one of the channels that a plan with masked channels leaves on; true for other plans.
func (r *Region) masked(up messages.TxSettings) bool {
	if r.maskOf == nil {
		return true
	}
	dr, err := r.uplinkDR(up.DataRate)
	if err != nil {
		return false
	}
	channel, err := r.band.GetUplinkChannelIndexForFrequencyDR(uint32(up.Frequency), dr)
	return err == nil && slices.Contains(r.maskOf, channel)
}

// maxPayload is N of RP002: the bytes of FRMPayload and FOpts together that a downlink at this data rate may hold.
func (r *Region) maxPayload(v Version, dr int) int {
	size, err := r.band.GetMaxPayloadSizeForDataRateIndex(v.String(), v.regionalRevision(), dr)
	if err != nil {
		return 0
	}
	return size.N
}

// power of a downlink in dBm EIRP.
func (r *Region) power(frequency uint32) float32 {
	if r.name == band.US915 {
		return 29 // 27 dBm into a dipole is the most that the tables of packet forwarders have; 30 dBm are allowed (RP002-1.0.4 §2.5)
	}
	if frequency >= 869400000 && frequency < 869650000 {
		return 29
	}
	return 16
}

// requiredSNR of a LoRa spreading factor, in dB.
func requiredSNR(sf uint8) float32 {
	if sf < 5 || sf > 12 {
		return 0
	}
	return [...]float32{-2.5, -5, -7.5, -10, -12.5, -15, -17.5, -20}[sf-5]
}
