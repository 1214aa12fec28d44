package v3

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
)

// macSettingsNames are the member names that MACSettings has fields for.
var macSettingsNames = func() (names []string) {
	for f := range reflect.TypeFor[MACSettings]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" {
			names = append(names, name)
		}
	}
	return names
}()

// UnmarshalJSON reads the settings that the server acts on into their fields and keeps all others in Other.
func (m *MACSettings) UnmarshalJSON(in []byte) error {
	type plain MACSettings
	next := plain(*m)
	if err := json.Unmarshal(in, &next); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(in, &all); err != nil {
		return err
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		for _, known := range macSettingsNames {
			if strings.EqualFold(name, known) { // as encoding/json finds the field
				return true
			}
		}
		return false
	})
	next.Other = maps.Clone(m.Other)
	if len(all) > 0 && next.Other == nil {
		next.Other = make(map[string]json.RawMessage, len(all))
	}
	maps.Copy(next.Other, all)
	*m = MACSettings(next)
	return nil
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (m MACSettings) MarshalJSON() ([]byte, error) {
	type plain MACSettings
	known, err := json.Marshal(plain(m))
	if err != nil || len(m.Other) == 0 {
		return known, err
	}
	all := maps.Clone(m.Other)
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// RX1DelaySeconds of rx1_delay, 1 to 15; ok is false if it is not set. A value that Validate refuses counts as not set.
func (m *MACSettings) RX1DelaySeconds() (seconds uint8, ok bool) {
	if m == nil {
		return 0, false
	}
	return rxDelay(m.RX1Delay)
}

// DesiredRX1DelaySeconds of desired_rx1_delay, as RX1DelaySeconds.
func (m *MACSettings) DesiredRX1DelaySeconds() (seconds uint8, ok bool) {
	if m == nil {
		return 0, false
	}
	return rxDelay(m.DesiredRX1Delay)
}

// RX1Offset of rx1_data_rate_offset, 0 to 7; ok is false if it is not set. A value that Validate refuses counts as not set.
func (m *MACSettings) RX1Offset() (offset uint8, ok bool) {
	if m == nil {
		return 0, false
	}
	n, set, err := enumValue(m.RX1DataRateOffset, "DATA_RATE_OFFSET_", 7)
	return n, set && err == nil
}

// RX2DataRate of rx2_data_rate_index, 0 to 15; ok is false if it is not set. A value that Validate refuses counts as not set.
func (m *MACSettings) RX2DataRate() (index uint8, ok bool) {
	if m == nil {
		return 0, false
	}
	n, set, err := enumValue(m.RX2DataRateIndex, "DATA_RATE_", 15)
	return n, set && err == nil
}

// Validate says which of the settings that the server acts on is wrong, and what is allowed. A nil MACSettings is valid.
func (m *MACSettings) Validate() error {
	if m == nil {
		return nil
	}
	for _, s := range []struct {
		name, prefix string
		max          uint8
		raw          json.RawMessage
	}{
		{"rx1_delay", "RX_DELAY_", 15, m.RX1Delay},
		{"desired_rx1_delay", "RX_DELAY_", 15, m.DesiredRX1Delay},
		{"rx1_data_rate_offset", "DATA_RATE_OFFSET_", 7, m.RX1DataRateOffset},
		{"rx2_data_rate_index", "DATA_RATE_", 15, m.RX2DataRateIndex},
	} {
		if _, _, err := enumValue(s.raw, s.prefix, s.max); err != nil {
			return fmt.Errorf("mac_settings.%s: %w", s.name, err)
		}
	}
	if err := checkFrequency(m.RX2Frequency); m.RX2Frequency != 0 && err != nil {
		return fmt.Errorf("mac_settings.rx2_frequency: %w", err)
	}
	if len(m.FactoryPresetFrequencies) > 96 {
		return fmt.Errorf("mac_settings.factory_preset_frequencies: %d frequencies, use at most 96", len(m.FactoryPresetFrequencies))
	}
	for i, f := range m.FactoryPresetFrequencies {
		if err := checkFrequency(f); err != nil {
			return fmt.Errorf("mac_settings.factory_preset_frequencies[%d]: %w", i, err)
		}
	}
	return nil
}

// rxDelay in seconds. 0 on air means 1 s (TS001-1.0.4 §5.7).
func rxDelay(raw json.RawMessage) (uint8, bool) {
	n, ok, err := enumValue(raw, "RX_DELAY_", 15)
	return max(n, 1), ok && err == nil
}

// enumValue reads 5, "5", "<prefix>5" or an object with one of these as "value". set is false for an absent value and null.
func enumValue(raw json.RawMessage, prefix string, limit uint8) (n uint8, set bool, err error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) > 0 && raw[0] == '{' {
		var w struct {
			Value json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(raw, &w); err != nil {
			return 0, false, fmt.Errorf("want 0 to %d", limit)
		}
		if raw = w.Value; len(raw) == 0 { // {} is The Things Stack's way to write {"value":0}
			return 0, true, nil
		}
	}
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return 0, false, nil
	}
	text := strings.TrimPrefix(strings.Trim(string(raw), `"`), prefix)
	v, err := strconv.ParseUint(text, 10, 8)
	if err != nil || v > uint64(limit) {
		return 0, false, fmt.Errorf("want 0 to %d", limit)
	}
	return uint8(v), true, nil
}

// checkFrequency: a MAC command carries 24 bits of 100 Hz; The Things Stack wants at least 100 kHz.
func checkFrequency(hz Uint64) error {
	if hz < 100_000 || hz > 0xFFFFFF*100 || hz%100 != 0 {
		return fmt.Errorf("%d Hz: want Hz in steps of 100, e.g. 868100000", hz)
	}
	return nil
}
