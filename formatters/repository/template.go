package repository

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// profile is a <profile>.yaml. Frequencies are in MHz, times in seconds.
type profile struct {
	VendorProfileID           uint32    `yaml:"vendorProfileID"` // 0: none
	SupportsClassB            bool      `yaml:"supportsClassB"`
	ClassBTimeout             float64   `yaml:"classBTimeout"`
	PingSlotPeriod            uint32    `yaml:"pingSlotPeriod"`
	PingSlotDataRateIndex     *uint32   `yaml:"pingSlotDataRateIndex"`
	PingSlotFrequency         float64   `yaml:"pingSlotFrequency"`
	SupportsClassC            bool      `yaml:"supportsClassC"`
	ClassCTimeout             float64   `yaml:"classCTimeout"`
	MACVersion                string    `yaml:"macVersion"`
	RegionalParametersVersion string    `yaml:"regionalParametersVersion"`
	SupportsJoin              bool      `yaml:"supportsJoin"`
	RX1Delay                  *uint32   `yaml:"rx1Delay"`
	RX1DataRateOffset         *uint32   `yaml:"rx1DataRateOffset"`
	RX2DataRateIndex          *uint32   `yaml:"rx2DataRateIndex"`
	RX2Frequency              float64   `yaml:"rx2Frequency"`
	FactoryPresetFrequencies  []float64 `yaml:"factoryPresetFrequencies"`
	Supports32BitFCnt         bool      `yaml:"supports32bitFCnt"`
}

// regionalParameters of the layout, and their names in The Things Stack.
var regionalParameters = map[string]string{
	"TS001-1.0": "PHY_V1_0", "TS001-1.0.1": "PHY_V1_0_1", "RP001-1.0.2": "PHY_V1_0_2_REV_A", "RP001-1.0.2-RevB": "PHY_V1_0_2_REV_B",
	"RP001-1.0.3-RevA": "PHY_V1_0_3_REV_A", "RP001-1.1": "PHY_V1_1_REV_A", "RP001-1.1-RevA": "PHY_V1_1_REV_A", "RP001-1.1-RevB": "PHY_V1_1_REV_B",
	"RP002-1.0.0": "RP002_V1_0_0", "RP002-1.0.1": "RP002_V1_0_1", "RP002-1.0.2": "RP002_V1_0_2", "RP002-1.0.3": "RP002_V1_0_3", "RP002-1.0.4": "RP002_V1_0_4",
}

// Template gives what the profile of a model says about a device. The firmware and the band may be left out of ids if there is one profile only.
func (r *Repository) Template(ids messages.VersionIDs) (v3.EndDeviceTemplate, error) {
	profiles, err := r.profiles(ids)
	if err != nil {
		return v3.EndDeviceTemplate{}, err
	}
	info := profiles[0]
	for _, other := range profiles {
		if other.ProfileID != info.ProfileID || other.VendorID != info.VendorID {
			return v3.EndDeviceTemplate{}, messages.Invalid("no_version_identifiers", "model %s of %s has several profiles: name its firmware version and band", ids.ModelID, ids.BrandID)
		}
	}
	p, err := r.profile(ids.BrandID, info)
	if err != nil {
		return v3.EndDeviceTemplate{}, err
	}
	return p.template(ids, info.CodecID != "")
}

// profile reads the file that a model of a brand names.
func (r *Repository) profile(brandID string, info v3.ModelProfile) (profile, error) {
	vendor := cmp.Or(info.VendorID, brandID)
	name, err := inVendor(vendor, info.ProfileID+".yaml")
	if err != nil {
		return profile{}, err
	}
	p, err := document[profile](r, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return profile{}, messages.NotFound("profile_not_found", "profile %.64q of %s not found in the device repository", info.ProfileID, vendor)
	case err != nil:
		return profile{}, broken(err)
	}
	return p, nil
}

func (p *profile) template(ids messages.VersionIDs, codec bool) (v3.EndDeviceTemplate, error) {
	phy, ok := regionalParameters[p.RegionalParametersVersion]
	if !ok {
		return v3.EndDeviceTemplate{}, messages.NotFound("regional_parameters_version", "the profile's regionalParametersVersion %.64q is unknown", p.RegionalParametersVersion)
	}
	device := map[string]any{
		"version_ids": v3.VersionIDs(ids), "supports_join": p.SupportsJoin, "supports_class_b": p.SupportsClassB, "supports_class_c": p.SupportsClassC,
		"lorawan_version": "MAC_V" + strings.ReplaceAll(p.MACVersion, ".", "_"), "lorawan_phy_version": phy,
	}
	paths := []string{"version_ids", "supports_join", "supports_class_b", "supports_class_c", "lorawan_version", "lorawan_phy_version"}
	if codec {
		device["formatters"] = v3.Formatters{UpFormatter: messages.FormatterRepository, DownFormatter: messages.FormatterRepository}
		paths = append(paths, "formatters")
	}
	settings := map[string]any{}
	for _, s := range p.macSettings() {
		settings[s.name] = s.value
		paths = append(paths, "mac_settings."+s.name)
	}
	if len(settings) > 0 {
		device["mac_settings"] = settings
	}
	text, err := json.Marshal(device)
	return v3.EndDeviceTemplate{EndDevice: text, FieldMask: v3.FieldMask{Paths: paths}}, err
}

// setting is a member of mac_settings.
type setting struct {
	name  string
	value any
}

func (p *profile) macSettings() (out []setting) {
	add := func(ok bool, name string, value any) {
		if ok {
			out = append(out, setting{name, value})
		}
	}
	index := func(name string, v *uint32) {
		if v != nil {
			add(true, name, *v)
		}
	}
	add(p.ClassBTimeout > 0, "class_b_timeout", seconds(p.ClassBTimeout))
	add(p.ClassCTimeout > 0, "class_c_timeout", seconds(p.ClassCTimeout))
	index("ping_slot_data_rate_index", p.PingSlotDataRateIndex)
	add(p.PingSlotFrequency > 0, "ping_slot_frequency", v3.Uint64(hertz(p.PingSlotFrequency)))
	if p.PingSlotPeriod > 0 {
		add(true, "ping_slot_periodicity", fmt.Sprintf("PING_EVERY_%dS", p.PingSlotPeriod))
	}
	index("rx1_delay", p.RX1Delay)
	index("rx1_data_rate_offset", p.RX1DataRateOffset)
	index("rx2_data_rate_index", p.RX2DataRateIndex)
	add(p.RX2Frequency > 0, "rx2_frequency", v3.Uint64(hertz(p.RX2Frequency)))
	add(p.Supports32BitFCnt, "supports_32_bit_f_cnt", true)
	if len(p.FactoryPresetFrequencies) > 0 {
		frequencies := make([]v3.Uint64, len(p.FactoryPresetFrequencies))
		for i, f := range p.FactoryPresetFrequencies {
			frequencies[i] = v3.Uint64(hertz(f))
		}
		add(true, "factory_preset_frequencies", frequencies)
	}
	return out
}

func hertz(mhz float64) uint64 { return uint64(math.Round(mhz * 1e6)) }

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', -1, 64) + "s" }
