package repository

import (
	"maps"
	"slices"
	"strconv"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// vendorProfile is an entry of profileIDs in the index of a vendor: a version of a model in a region, or a profile alone.
type vendorProfile struct {
	EndDeviceID     string `yaml:"endDeviceID"`
	HardwareVersion string `yaml:"hardwareVersion"`
	FirmwareVersion string `yaml:"firmwareVersion"`
	Region          string `yaml:"region"`
	ProfileID       string `yaml:"id"`
}

// VendorTemplate is the template of a device that names itself by the numbers of the LoRa Alliance, as QR codes do: the id of its vendor, and one that
// the vendor gave to the profile. [TR005 §2]
func (r *Repository) VendorTemplate(vendorID, vendorProfileID uint32) (v3.EndDeviceTemplate, error) {
	brands, err := r.Brands()
	if err != nil {
		return v3.EndDeviceTemplate{}, err
	}
	i := slices.IndexFunc(brands, func(b v3.EndDeviceBrand) bool { return b.LoRaAllianceVendorID == vendorID && vendorID != 0 })
	if i < 0 {
		return v3.EndDeviceTemplate{}, noVendorProfile(vendorID, vendorProfileID)
	}
	brandID := brands[i].BrandID
	index, err := r.modelsIndex(brandID)
	if err != nil {
		return v3.EndDeviceTemplate{}, err
	}
	named, ok := index.ProfileIDs[strconv.FormatUint(uint64(vendorProfileID), 10)]
	switch {
	case ok && named.EndDeviceID != "":
		return r.Template(messages.VersionIDs{
			BrandID: brandID, ModelID: named.EndDeviceID, HardwareVersion: named.HardwareVersion, FirmwareVersion: named.FirmwareVersion, BandID: bandID(named.Region),
		})
	case ok:
		p, err := r.profile(brandID, v3.ModelProfile{ProfileID: named.ProfileID})
		if err != nil {
			return v3.EndDeviceTemplate{}, err
		}
		return p.template(messages.VersionIDs{BrandID: brandID}, false) // FORMATTER_REPOSITORY finds a codec by the model
	}
	return r.searchVendorProfile(brandID, vendorID, vendorProfileID)
}

// searchVendorProfile looks for a profile that bears the number itself. If several versions have it, only what they have in common is told of them.
func (r *Repository) searchVendorProfile(brandID string, vendorID, vendorProfileID uint32) (v3.EndDeviceTemplate, error) {
	models, err := r.Models(brandID)
	if err != nil {
		return v3.EndDeviceTemplate{}, err
	}
	var found *profile
	var ids messages.VersionIDs
	codec := true
	for _, m := range models {
		for _, version := range m.FirmwareVersions {
			for _, band := range slices.Sorted(maps.Keys(version.Profiles)) {
				info := version.Profiles[band]
				p, err := r.profile(brandID, info)
				if err != nil || p.VendorProfileID != vendorProfileID || vendorProfileID == 0 {
					continue // a broken one is in the log
				}
				here := messages.VersionIDs{BrandID: brandID, ModelID: m.ModelID, FirmwareVersion: version.Version, BandID: band}
				if found == nil {
					found, ids = &p, here
				}
				ids, codec = common(ids, here), codec && info.CodecID != ""
			}
		}
	}
	if found == nil {
		return v3.EndDeviceTemplate{}, noVendorProfile(vendorID, vendorProfileID)
	}
	return found.template(ids, codec && ids.ModelID != "" && ids.FirmwareVersion != "" && ids.BandID != "")
}

// common keeps what two versions have in common.
func common(a, b messages.VersionIDs) messages.VersionIDs {
	for _, member := range []struct {
		kept  *string
		other string
	}{{&a.ModelID, b.ModelID}, {&a.FirmwareVersion, b.FirmwareVersion}, {&a.BandID, b.BandID}} {
		if *member.kept != member.other {
			*member.kept = ""
		}
	}
	return a
}

func noVendorProfile(vendorID, vendorProfileID uint32) error {
	return messages.NotFound("end_device_profile_not_found", "no profile %d of vendor %d in the device repository: look for the model by name, and set the fields by hand if there is none", vendorProfileID, vendorID)
}
