package registry

import (
	"cmp"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// macVersions maps what The Things Stack accepts to its names.
var macVersions = map[string]string{
	"1.0": "MAC_V1_0", "1.0.0": "MAC_V1_0", "MAC_V1_0": "MAC_V1_0", "MAC_V1_0_0": "MAC_V1_0",
	"1.0.1": "MAC_V1_0_1", "MAC_V1_0_1": "MAC_V1_0_1",
	"1.0.2": "MAC_V1_0_2", "MAC_V1_0_2": "MAC_V1_0_2",
	"1.0.3": "MAC_V1_0_3", "MAC_V1_0_3": "MAC_V1_0_3",
	"1.0.4": "MAC_V1_0_4", "MAC_V1_0_4": "MAC_V1_0_4",
}

// phyVersions maps the names of The Things Stack, old and new, and its short forms to one name each.
var phyVersions = map[string]string{
	"PHY_V1_0": "PHY_V1_0", "TS001_V1_0": "PHY_V1_0", "1.0": "PHY_V1_0", "1.0.0": "PHY_V1_0",
	"PHY_V1_0_1": "PHY_V1_0_1", "TS001_V1_0_1": "PHY_V1_0_1", "1.0.1": "PHY_V1_0_1",
	"PHY_V1_0_2_REV_A": "PHY_V1_0_2_REV_A", "RP001_V1_0_2": "PHY_V1_0_2_REV_A", "1.0.2": "PHY_V1_0_2_REV_A", "1.0.2-a": "PHY_V1_0_2_REV_A",
	"PHY_V1_0_2_REV_B": "PHY_V1_0_2_REV_B", "RP001_V1_0_2_REV_B": "PHY_V1_0_2_REV_B", "1.0.2-b": "PHY_V1_0_2_REV_B",
	"PHY_V1_0_3_REV_A": "PHY_V1_0_3_REV_A", "RP001_V1_0_3_REV_A": "PHY_V1_0_3_REV_A", "1.0.3": "PHY_V1_0_3_REV_A", "1.0.3-a": "PHY_V1_0_3_REV_A",
	"PHY_V1_1_REV_A": "PHY_V1_1_REV_A", "RP001_V1_1_REV_A": "PHY_V1_1_REV_A", "1.1-a": "PHY_V1_1_REV_A", "1.1.0-a": "PHY_V1_1_REV_A",
	"PHY_V1_1_REV_B": "PHY_V1_1_REV_B", "RP001_V1_1_REV_B": "PHY_V1_1_REV_B", "1.1-b": "PHY_V1_1_REV_B", "1.1.0-b": "PHY_V1_1_REV_B",
	"RP002_V1_0_0": "RP002_V1_0_0", "RP002_V1_0_1": "RP002_V1_0_1", "RP002_V1_0_2": "RP002_V1_0_2", "RP002_V1_0_3": "RP002_V1_0_3", "RP002_V1_0_4": "RP002_V1_0_4",
}

// settleMACVersion gives the version its one name. "" stays: the IS view of a device is created before the NS view.
func settleMACVersion(version *string) error {
	if *version == "" {
		return nil
	}
	if name, ok := macVersions[*version]; ok {
		*version = name
		return nil
	}
	if strings.HasPrefix(*version, "MAC_V1_1") || strings.HasPrefix(*version, "1.1") {
		return refuse("lorawan_version", "%s is not supported yet: use MAC_V1_0_4 or older if the device can", shorten(*version))
	}
	return refuse("lorawan_version", "%q is unknown: use MAC_V1_0, MAC_V1_0_1, MAC_V1_0_2, MAC_V1_0_3 or MAC_V1_0_4", shorten(*version))
}

func settlePHYVersion(version *string) error {
	if *version == "" {
		return nil
	}
	if name, ok := phyVersions[*version]; ok {
		*version = name
		return nil
	}
	return refuse("lorawan_phy_version", "%q is unknown: use e.g. PHY_V1_0_2_REV_B, PHY_V1_0_3_REV_A or RP002_V1_0_3", shorten(*version))
}

func validateDevice(d *v3.EndDevice) error {
	if err := cmp.Or(
		checkDeviceEUIs(d),
		checkText("name", d.Name, maxName),
		checkText("description", d.Description, maxDescription),
		checkAttributes(d.Attributes),
		checkText("network_server_address", d.NetworkServerAddress, maxAddress),
		checkText("application_server_address", d.ApplicationServerAddress, maxAddress),
		checkText("join_server_address", d.JoinServerAddress, maxAddress),
		checkText("service_profile_id", d.ServiceProfileID, 64),
		checkText("serial_number", d.SerialNumber, 36),
		checkText("provisioner_id", d.ProvisionerID, 36),
		checkText("application_server_id", d.ApplicationServerID, 100),
		checkText("application_server_kek_label", d.ApplicationServerKEKLabel, maxKEKLabel),
		checkText("network_server_kek_label", d.NetworkServerKEKLabel, maxKEKLabel),
		checkHex("net_id", d.NetID, 6),
		checkVersionIDs(d.VersionIDs),
		checkDeviceLocations(d.Locations),
		settleMACVersion(&d.LoRaWANVersion),
		settlePHYVersion(&d.LoRaWANPHYVersion),
		checkFrequencyPlan("frequency_plan_id", d.FrequencyPlanID),
		validateFormatters("formatters", d.Formatters),
		checkRootKeys(d.RootKeys),
	); err != nil {
		return err
	}
	if err := d.MACSettings.Validate(); err != nil {
		return messages.Invalid("invalid_mac_settings", "%w", err)
	}
	return nil
}

func checkDeviceEUIs(d *v3.EndDevice) error {
	switch {
	case d.IDs.DevEUI != nil && d.IDs.DevEUI.IsZero():
		return refuse("ids.dev_eui", "is all zeros: set the DevEUI of the device, or leave it out for an ABP device")
	case d.SupportsJoin && d.IDs.DevEUI == nil:
		return refuse("ids.dev_eui", "is missing: a device with supports_join needs its DevEUI, 16 hex digits")
	case d.SupportsJoin && d.IDs.JoinEUI == nil:
		return refuse("ids.join_eui", "is missing: a device with supports_join needs its JoinEUI (AppEUI), 16 hex digits; it may be all zeros")
	}
	return nil
}

func checkVersionIDs(v *v3.VersionIDs) error {
	if v == nil {
		return nil
	}
	return cmp.Or(
		checkText("version_ids.brand_id", v.BrandID, 36),
		checkText("version_ids.model_id", v.ModelID, 36),
		checkText("version_ids.hardware_version", v.HardwareVersion, 32),
		checkText("version_ids.firmware_version", v.FirmwareVersion, 32),
		checkText("version_ids.band_id", v.BandID, 32),
	)
}

func checkDeviceLocations(locations map[string]v3.Location) error {
	if len(locations) > 10 {
		return refuse("locations", "has %d entries: use at most 10", len(locations))
	}
	for name, l := range locations {
		if messages.ValidateID(name) != nil {
			return refuse("locations", "has the key %q: use 3 to 36 lower-case letters, digits and single dashes, e.g. user", shorten(name))
		}
		if err := checkLocation("locations", &l); err != nil {
			return err
		}
	}
	return nil
}

// checkRootKeys accepts a device without keys: The Things Stack's clients set them in a later step. It can't join until then.
func checkRootKeys(k *v3.RootKeys) error {
	if k == nil {
		return nil
	}
	return cmp.Or(
		checkText("root_keys.root_key_id", k.RootKeyID, 2048),
		checkKey("root_keys.app_key", k.AppKey),
		checkKey("root_keys.nwk_key", k.NwkKey),
	)
}

func checkKey(field string, k *v3.KeyEnvelope) error {
	switch {
	case k == nil:
		return nil
	case k.Key != nil && messages.Key(*k.Key).IsZero():
		return refuse(field, "is all zeros: anyone can guess it, set the key of the device")
	case k.Key == nil && len(k.EncryptedKey) > 0:
		return refuse(field, "is wrapped under a KEK that is not known: send it in clear as {\"key\":\"<32 hex digits>\"}, it is sealed in the store")
	}
	return checkText(field+".kek_label", k.KEKLabel, maxKEKLabel)
}
