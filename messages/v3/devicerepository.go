package v3

import "encoding/json"

// The types of a device repository have the JSON of The Things Stack and the YAML of the LoRaWAN Device Repository.

// EndDeviceBrand is a vendor of devices.
type EndDeviceBrand struct {
	BrandID                       string   `json:"brand_id" yaml:"id"`
	Name                          string   `json:"name,omitempty" yaml:"name"`
	PrivateEnterpriseNumber       uint32   `json:"private_enterprise_number,omitempty" yaml:"pen"`
	OrganizationUniqueIdentifiers []string `json:"organization_unique_identifiers,omitempty" yaml:"ouis"`
	LoRaAllianceVendorID          uint32   `json:"lora_alliance_vendor_id,omitempty" yaml:"vendorID"`
	Website                       string   `json:"website,omitempty" yaml:"website"`
	Email                         string   `json:"email,omitempty" yaml:"email"`
	Logo                          string   `json:"logo,omitempty" yaml:"logo"`
	Draft                         bool     `json:"-" yaml:"draft"`
}

// EndDeviceModel is a model of a brand.
type EndDeviceModel struct {
	BrandID             string               `json:"brand_id" yaml:"-"`
	ModelID             string               `json:"model_id" yaml:"-"`
	Name                string               `json:"name,omitempty" yaml:"name"`
	Description         string               `json:"description,omitempty" yaml:"description"`
	HardwareVersions    []HardwareVersion    `json:"hardware_versions,omitempty" yaml:"hardwareVersions"`
	FirmwareVersions    []FirmwareVersion    `json:"firmware_versions,omitempty" yaml:"firmwareVersions"`
	Sensors             []string             `json:"sensors,omitempty" yaml:"sensors"`
	Dimensions          *Dimensions          `json:"dimensions,omitempty" yaml:"dimensions"`
	Weight              float32              `json:"weight,omitempty" yaml:"weight"` // g
	Battery             *ModelBattery        `json:"battery,omitempty" yaml:"battery"`
	OperatingConditions *OperatingConditions `json:"operating_conditions,omitempty" yaml:"operatingConditions"`
	IPCode              string               `json:"ip_code,omitempty" yaml:"ipCode"`
	KeyProvisioning     []string             `json:"key_provisioning,omitempty" yaml:"keyProvisioning"`
	KeySecurity         string               `json:"key_security,omitempty" yaml:"keySecurity"`
	Photos              *MediaFiles          `json:"photos,omitempty" yaml:"photos"`
	Videos              *MediaFiles          `json:"videos,omitempty" yaml:"videos"`
	ProductURL          string               `json:"product_url,omitempty" yaml:"productURL"`
	DatasheetURL        string               `json:"datasheet_url,omitempty" yaml:"dataSheetURL"`
	Resellers           []Reseller           `json:"resellers,omitempty" yaml:"resellerURLs"`
	Compliances         *Compliances         `json:"compliances,omitempty" yaml:"compliances"`
	AdditionalRadios    []string             `json:"additional_radios,omitempty" yaml:"additionalRadios"`
}

// HardwareVersion of a model.
type HardwareVersion struct {
	Version    string `json:"version" yaml:"version"`
	Numeric    uint32 `json:"numeric,omitempty" yaml:"numeric"`
	PartNumber string `json:"part_number,omitempty" yaml:"partNumber"`
}

// FirmwareVersion of a model. Profiles are by band id (EU_863_870) in JSON and by region (EU863-870) in YAML.
type FirmwareVersion struct {
	Version                   string                  `json:"version" yaml:"version"`
	Numeric                   uint32                  `json:"numeric,omitempty" yaml:"numeric"`
	SupportedHardwareVersions []string                `json:"supported_hardware_versions,omitempty" yaml:"hardwareVersions"`
	Profiles                  map[string]ModelProfile `json:"profiles,omitempty" yaml:"profiles"`
}

// ModelProfile names the profile and the codec of a firmware in a band. VendorID is set if the profile is another vendor's.
type ModelProfile struct {
	VendorID         string `json:"vendor_id,omitempty" yaml:"vendorID"`
	ProfileID        string `json:"profile_id,omitempty" yaml:"id"`
	LoRaWANCertified bool   `json:"lorawan_certified,omitempty" yaml:"lorawanCertified"`
	CodecID          string `json:"codec_id,omitempty" yaml:"codec"`
}

// Dimensions of a model in mm.
type Dimensions struct {
	Width    float32 `json:"width,omitempty" yaml:"width"`
	Height   float32 `json:"height,omitempty" yaml:"height"`
	Diameter float32 `json:"diameter,omitempty" yaml:"diameter"`
	Length   float32 `json:"length,omitempty" yaml:"length"`
}

// ModelBattery says what powers a model.
type ModelBattery struct {
	Replaceable bool   `json:"replaceable" yaml:"replaceable"`
	Type        string `json:"type,omitempty" yaml:"type"`
}

// OperatingConditions of a model: °C, and relative humidity of 0 to 1.
type OperatingConditions struct {
	Temperature      *Limits `json:"temperature,omitempty" yaml:"temperature"`
	RelativeHumidity *Limits `json:"relative_humidity,omitempty" yaml:"relativeHumidity"`
}

// Limits of a quantity.
type Limits struct {
	Min float32 `json:"min" yaml:"min"`
	Max float32 `json:"max" yaml:"max"`
}

// MediaFiles are file names in the vendor's folder, or URLs.
type MediaFiles struct {
	Main  string   `json:"main,omitempty" yaml:"main"`
	Other []string `json:"other,omitempty" yaml:"other"`
}

// Reseller of a model.
type Reseller struct {
	Name   string   `json:"name,omitempty" yaml:"name"`
	Region []string `json:"region,omitempty" yaml:"region"`
	URL    string   `json:"url,omitempty" yaml:"url"`
}

// Compliances of a model.
type Compliances struct {
	Safety         []Compliance `json:"safety,omitempty" yaml:"safety"`
	RadioEquipment []Compliance `json:"radio_equipment,omitempty" yaml:"radioEquipment"`
}

// Compliance with a standard.
type Compliance struct {
	Body     string `json:"body,omitempty" yaml:"body"`
	Norm     string `json:"norm,omitempty" yaml:"norm"`
	Standard string `json:"standard,omitempty" yaml:"standard"`
	Version  string `json:"version,omitempty" yaml:"version"`
}

// EndDeviceTemplate is what the profile of a model says about a device: the fields that the mask names. The device is raw because it has fields, of
// mac_settings above all, that only the profile knows of.
type EndDeviceTemplate struct {
	EndDevice json.RawMessage `json:"end_device"`
	FieldMask FieldMask       `json:"field_mask"`
}

// MessagePayloadCodec is a decoder or an encoder of a device repository.
type MessagePayloadCodec struct {
	Formatter          string         `json:"formatter"`
	FormatterParameter string         `json:"formatter_parameter"`
	CodecID            string         `json:"codec_id"`
	Examples           []CodecExample `json:"examples,omitempty"`
}

// CodecExample is an example that a vendor gives.
type CodecExample struct {
	Description string            `json:"description,omitempty"`
	Input       CodecExampleValue `json:"input"`
	Output      CodecExampleValue `json:"output"`
}

// CodecExampleValue is an encoded payload (f_port, frm_payload) or a decoded one (data).
type CodecExampleValue struct {
	FPort      Uint32          `json:"f_port,omitempty"`
	FRMPayload Bytes           `json:"frm_payload,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
	Errors     []string        `json:"errors,omitempty"`
}
