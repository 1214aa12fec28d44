package actors

import (
	"encoding/hex"
	"fmt"
	"sync"

	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// defaultRX1Delay is given to devices that join, in seconds, as The Things Stack does: it leaves time for slow backhauls.
const defaultRX1Delay = 5

// Regions makes each region once.
type Regions struct {
	mu   sync.Mutex
	made map[string]*device.Region
}

// NewRegions gives an empty cache.
func NewRegions() *Regions { return &Regions{made: map[string]*device.Region{}} }

// Get gives the region of a frequency plan.
func (r *Regions) Get(frequencyPlanID string) (*device.Region, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if region := r.made[frequencyPlanID]; region != nil {
		return region, nil
	}
	region, err := device.NewRegion(frequencyPlanID)
	if err == nil {
		r.made[frequencyPlanID] = region
	}
	return region, err
}

// profileOf reads the settings of a device as the API wrote them.
func profileOf(dev v3.EndDevice, regions *Regions, netID [3]byte) (*device.Profile, error) {
	version, err := device.ParseVersion(dev.LoRaWANVersion)
	if err != nil {
		return nil, err
	}
	region, err := regions.Get(dev.FrequencyPlanID)
	if err != nil {
		return nil, err
	}
	p := &device.Profile{
		ID: dev.DeviceID(), Version: version, Region: region, SupportsJoin: dev.SupportsJoin, NetID: netID,
		RX1Delay: 1, DesiredRX1Delay: defaultRX1Delay, ResetsJoinNonces: dev.ResetsJoinNonces,
	}
	if dev.IDs.DevEUI != nil {
		p.DevEUI = *dev.IDs.DevEUI
	}
	if dev.IDs.JoinEUI != nil {
		p.JoinEUI = *dev.IDs.JoinEUI
	}
	if dev.NetID != "" {
		if p.NetID, err = parseNetID(dev.NetID); err != nil {
			return nil, fmt.Errorf("net_id: %w", err)
		}
	}
	if dev.RootKeys != nil && dev.RootKeys.AppKey != nil && dev.RootKeys.AppKey.Key != nil {
		p.AppKey = messages.Key(*dev.RootKeys.AppKey.Key)
	}
	return p, readMACSettings(p, dev.MACSettings)
}

func parseNetID(text string) (id [3]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q: want 6 hex digits", text)
	}
	return [3]byte(b), nil
}

func readMACSettings(p *device.Profile, m *v3.MACSettings) error {
	if m == nil {
		return nil
	}
	if err := m.Validate(); err != nil {
		return err
	}
	if seconds, ok := m.RX1DelaySeconds(); ok {
		p.RX1Delay, p.DesiredRX1Delay = seconds, seconds
	}
	if seconds, ok := m.DesiredRX1DelaySeconds(); ok {
		p.DesiredRX1Delay = seconds
	}
	if offset, ok := m.RX1Offset(); ok {
		p.RX1DROffset = offset
	}
	if index, ok := m.RX2DataRate(); ok {
		p.RX2DR = &index
	}
	p.RX2Frequency = uint32(m.RX2Frequency)
	p.FCnt16 = m.Supports32BitFCnt != nil && !bool(*m.Supports32BitFCnt)
	p.ResetsFCnt = m.ResetsFCnt != nil && bool(*m.ResetsFCnt)
	return nil
}

// upFormatter: the device's formatters if it has any, else the application's; they are not mixed.
func upFormatter(dev v3.EndDevice, link v3.Link) messages.Formatter {
	f := formatters(dev, link)
	return messages.Formatter{Kind: f.UpFormatter, Parameter: f.UpFormatterParameter}
}

func downFormatter(dev v3.EndDevice, link v3.Link) messages.Formatter {
	f := formatters(dev, link)
	return messages.Formatter{Kind: f.DownFormatter, Parameter: f.DownFormatterParameter}
}

func formatters(dev v3.EndDevice, link v3.Link) v3.Formatters {
	switch {
	case dev.Formatters != nil:
		return *dev.Formatters
	case link.DefaultFormatters != nil:
		return *link.DefaultFormatters
	}
	return v3.Formatters{}
}

// skipsPayloadCrypto: the word of the device wins over that of its application.
func skipsPayloadCrypto(dev v3.EndDevice, link v3.Link) bool {
	if o := dev.SkipPayloadCryptoOverride; o != nil {
		return bool(*o)
	}
	return dev.SkipPayloadCrypto || link.SkipPayloadCrypto
}
