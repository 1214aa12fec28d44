package repository

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// regions of the layout and the band ids of The Things Stack.
var regions = map[string]string{
	"EU863-870": "EU_863_870", "US902-928": "US_902_928", "CN779-787": "CN_779_787", "EU433": "EU_433", "AU915-928": "AU_915_928",
	"CN470-510": "CN_470_510", "CN470-510-20-A": "CN_470_510_20_A", "CN470-510-20-B": "CN_470_510_20_B", "CN470-510-26-A": "CN_470_510_26_A",
	"CN470-510-26-B": "CN_470_510_26_B", "AS923": "AS_923", "AS923-2": "AS_923_2", "AS923-3": "AS_923_3", "AS923-4": "AS_923_4",
	"KR920-923": "KR_920_923", "IN865-867": "IN_865_867", "RU864-870": "RU_864_870", "ISM2400": "ISM_2400",
}

type vendorsIndex struct {
	Vendors []v3.EndDeviceBrand `yaml:"vendors"`
}

type modelsIndex struct {
	EndDevices []string                 `yaml:"endDevices"`
	ProfileIDs map[string]vendorProfile `yaml:"profileIDs"`
}

// bandID of a region of the layout; a region that is not known stands for itself.
func bandID(region string) string {
	if band, ok := regions[region]; ok {
		return band
	}
	return region
}

// Brands are the vendors of the index that are no drafts, in its order.
func (r *Repository) Brands() ([]v3.EndDeviceBrand, error) {
	index, err := document[vendorsIndex](r, "vendor/index.yaml")
	if err != nil {
		return nil, broken(err)
	}
	return slices.DeleteFunc(slices.Clone(index.Vendors), func(b v3.EndDeviceBrand) bool { return b.Draft }), nil
}

// Brand is one of them.
func (r *Repository) Brand(brandID string) (v3.EndDeviceBrand, error) {
	brands, err := r.Brands()
	if err != nil {
		return v3.EndDeviceBrand{}, err
	}
	for _, b := range brands {
		if b.BrandID == brandID {
			return b, nil
		}
	}
	return v3.EndDeviceBrand{}, noBrand(brandID)
}

// Models are those of a brand in the order of its index; of all brands if brandID is empty. Those whose files are broken are left out.
func (r *Repository) Models(brandID string) ([]v3.EndDeviceModel, error) {
	if brandID != "" {
		ids, err := r.modelIDs(brandID)
		return r.readable(brandID, ids), err
	}
	brands, err := r.Brands()
	if err != nil {
		return nil, err
	}
	var out []v3.EndDeviceModel
	for _, b := range brands {
		ids, err := r.modelIDs(b.BrandID)
		if err != nil {
			continue // most vendors have no models; a broken index is in the log
		}
		out = append(out, r.readable(b.BrandID, ids)...)
	}
	return out, nil
}

func (r *Repository) modelIDs(brandID string) ([]string, error) {
	index, err := r.modelsIndex(brandID)
	return index.EndDevices, err
}

func (r *Repository) modelsIndex(brandID string) (modelsIndex, error) {
	name, err := inVendor(brandID, "index.yaml")
	if err != nil {
		return modelsIndex{}, err
	}
	index, err := document[modelsIndex](r, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return modelsIndex{}, noBrand(brandID)
	case err != nil:
		return modelsIndex{}, broken(err)
	}
	return index, nil
}

func (r *Repository) readable(brandID string, ids []string) []v3.EndDeviceModel {
	var out []v3.EndDeviceModel
	for _, id := range ids {
		if m, err := r.Model(brandID, id); err == nil {
			out = append(out, m)
		}
	}
	return out
}

// Model of a brand.
func (r *Repository) Model(brandID, modelID string) (v3.EndDeviceModel, error) {
	notFound := messages.NotFound("model_not_found", "model %.64q of brand %.64q not found in the device repository", modelID, brandID)
	if !identifier.MatchString(modelID) {
		return v3.EndDeviceModel{}, notFound
	}
	name, err := inVendor(brandID, modelID+".yaml")
	if err != nil {
		return v3.EndDeviceModel{}, err
	}
	m, err := document[v3.EndDeviceModel](r, name)
	if errors.Is(err, fs.ErrNotExist) {
		return v3.EndDeviceModel{}, notFound
	}
	if err != nil {
		return v3.EndDeviceModel{}, broken(err)
	}
	return finished(brandID, modelID, m), nil
}

// finished gives the JSON's names to what the YAML calls otherwise. m is shared and not changed.
func finished(brandID, modelID string, m v3.EndDeviceModel) v3.EndDeviceModel {
	m.BrandID, m.ModelID = brandID, modelID
	m.FirmwareVersions = slices.Clone(m.FirmwareVersions)
	for i, version := range m.FirmwareVersions {
		profiles := make(map[string]v3.ModelProfile, len(version.Profiles))
		for region, p := range version.Profiles {
			profiles[bandID(region)] = p
		}
		m.FirmwareVersions[i].Profiles = profiles
	}
	m.KeyProvisioning = slices.Clone(m.KeyProvisioning)
	for i, way := range m.KeyProvisioning {
		m.KeyProvisioning[i] = enumName("KEY_PROVISIONING_", way)
	}
	if m.KeySecurity != "" {
		m.KeySecurity = enumName("KEY_SECURITY_", m.KeySecurity)
	}
	return m
}

// enumName is how The Things Stack names a value: "join server" is KEY_PROVISIONING_JOIN_SERVER.
func enumName(prefix, value string) string {
	return prefix + strings.ToUpper(strings.NewReplacer(" ", "_", "-", "_").Replace(value))
}

func noBrand(brandID string) error {
	return messages.NotFound("brand_not_found", "brand %.64q not found in the device repository", brandID)
}

// broken is the error for a file that can't be used, which its reader must know of: the device of a user does not work because of it.
func broken(err error) error {
	return messages.Errorf(messages.CodePrecondition, "repository_file", "the device repository is damaged or not complete: %w", err)
}
