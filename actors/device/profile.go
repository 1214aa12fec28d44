package device

import (
	"fmt"

	"lorikeet/messages"
)

// Version is a LoRaWAN 1.0.x link layer version: 0 for 1.0 up to 4 for 1.0.4.
type Version uint8

// ParseVersion reads a TTS name such as MAC_V1_0_3.
func ParseVersion(name string) (Version, error) {
	switch name {
	case "MAC_V1_0", "MAC_V1_0_0":
		return 0, nil
	case "MAC_V1_0_1":
		return 1, nil
	case "MAC_V1_0_2":
		return 2, nil
	case "MAC_V1_0_3":
		return 3, nil
	case "MAC_V1_0_4":
		return 4, nil
	}
	return 0, fmt.Errorf("LoRaWAN version %q is not supported: use MAC_V1_0 to MAC_V1_0_4", name)
}

func (v Version) String() string { return fmt.Sprintf("1.0.%d", v) }

// regionalRevision is the revision of the regional parameters that goes with the version, in the words of the LoRaWAN library.
func (v Version) regionalRevision() string {
	switch {
	case v < 3:
		return "B"
	case v == 3:
		return "A"
	}
	return "RP002-1.0.3"
}

// repeatLimit is how often one confirmed uplink is acknowledged again. An attacker can replay the newest frame to make us transmit, so it is bounded.
func (v Version) repeatLimit() uint32 {
	if v < 4 {
		return 5
	}
	return 15
}

// rx2DR is the RX2 data rate to give the device: a setting that the region has not is passed over, since a device would refuse the join-accept.
func (p *Profile) rx2DR(region uint8) uint8 {
	if p.RX2DR == nil {
		return region
	}
	if _, err := p.Region.downlinkDR(int(*p.RX2DR)); err != nil {
		return region
	}
	return *p.RX2DR
}

// rx1DROffset likewise.
func (p *Profile) rx1DROffset() uint8 {
	if _, err := p.Region.band.GetRX1DataRateIndex(0, int(p.RX1DROffset)); err != nil {
		return 0
	}
	return p.RX1DROffset
}

// Profile is what the registry says about a device. It is made anew when the registry changes and never written to.
type Profile struct {
	ID              messages.DeviceID
	DevEUI, JoinEUI messages.EUI64
	Version         Version
	Region          *Region
	SupportsJoin    bool
	AppKey          messages.Key // zero: none known, joins are refused
	NetID           [3]byte

	RX1Delay         uint8 // s, of a device that does not join
	DesiredRX1Delay  uint8 // s, given in the join-accept
	RX1DROffset      uint8
	RX2DR            *uint8 // nil: the region's
	RX2Frequency     uint32 // Hz; 0: the region's
	FCnt16           bool   // the device counts only 16 bits
	ResetsFCnt       bool   // ABP device that starts again at FCnt 0; a replay risk the operator has accepted
	ResetsJoinNonces bool   // the device may repeat DevNonces; likewise
	SkipCrypto       bool   // payloads are encrypted and decrypted by the application
}
