package actors

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
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
		b, err := hex.DecodeString(dev.NetID)
		if err != nil || len(b) != 3 {
			return nil, fmt.Errorf("net_id %q: want 6 hex digits", dev.NetID)
		}
		p.NetID = [3]byte(b)
	}
	if dev.RootKeys != nil && dev.RootKeys.AppKey != nil && dev.RootKeys.AppKey.Key != nil {
		p.AppKey = messages.Key(*dev.RootKeys.AppKey.Key)
	}
	return p, readMACSettings(p, dev.MACSettings)
}

func readMACSettings(p *device.Profile, m *v3.MACSettings) error {
	if m == nil {
		return nil
	}
	for _, s := range []struct {
		name string
		raw  json.RawMessage
		max  int
		set  func(uint8)
	}{
		{"rx1_delay", m.RX1Delay, 15, func(v uint8) { p.RX1Delay, p.DesiredRX1Delay = v, v }},
		{"desired_rx1_delay", m.DesiredRX1Delay, 15, func(v uint8) { p.DesiredRX1Delay = v }},
		{"rx1_data_rate_offset", m.RX1DataRateOffset, 7, func(v uint8) { p.RX1DROffset = v }},
		{"rx2_data_rate_index", m.RX2DataRateIndex, 15, func(v uint8) { p.RX2DR = &v }},
	} {
		v, ok, err := setting(s.raw, s.max)
		if err != nil {
			return fmt.Errorf("mac_settings.%s: %w", s.name, err)
		}
		if ok {
			s.set(uint8(v))
		}
	}
	p.RX2Frequency = uint32(m.RX2Frequency)
	p.FCnt16 = m.Supports32BitFCnt != nil && !bool(*m.Supports32BitFCnt)
	p.ResetsFCnt = m.ResetsFCnt != nil && bool(*m.ResetsFCnt)
	return nil
}

// setting reads a number in any of its JSON forms: 5, "5", "RX_DELAY_5", {"value":5}.
func setting(raw json.RawMessage, limit int) (int, bool, error) {
	text := strings.TrimSpace(string(raw))
	if strings.HasPrefix(text, "{") {
		var w struct {
			Value json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(raw, &w); err != nil {
			return 0, false, err
		}
		if text = string(w.Value); text == "" {
			text = "0"
		}
	}
	if text == "" || text == "null" {
		return 0, false, nil
	}
	text = strings.Trim(text, `"`)
	if i := strings.LastIndexByte(text, '_'); i >= 0 {
		text = text[i+1:]
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < 0 || v > limit {
		return 0, false, fmt.Errorf("want a number of 0 to %d", limit)
	}
	return v, true, nil
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
