package messages

import (
	"encoding/json"
	"time"
)

// FormatterKind names a payload formatter as The Things Stack's API does.
type FormatterKind string

const (
	FormatterNone       FormatterKind = "FORMATTER_NONE"
	FormatterRepository FormatterKind = "FORMATTER_REPOSITORY"
	FormatterJavaScript FormatterKind = "FORMATTER_JAVASCRIPT"
	FormatterLua        FormatterKind = "FORMATTER_LUA"
	FormatterCayenneLPP FormatterKind = "FORMATTER_CAYENNELPP"
	MaxFormatterSource                = 480 << 10 // bytes of a script; a record that is stored holds two
	MaxFormatterOutput                = 256 << 10 // bytes of a result
)

// Formatter says how to decode or encode: its kind and a parameter, which is the source text of a script. With FormatterRepository it is the name of a
// codec, "vendor/codec", or empty: then the version ids of the device choose one.
type Formatter struct {
	Kind      FormatterKind
	Parameter string
}

// DecodeInput is what a decoder is given.
type DecodeInput struct {
	Bytes     []byte
	FPort     uint8
	RecvTime  time.Time
	FCnt      uint32   // of the uplink
	RSSI, SNR *float32 // dBm and dB at the radio gateway that heard the uplink best, of those that were in when decoding began; nil: not known
	FormatterDevice
}

// FormatterDevice is what a formatter is told of the device. It is not changed.
type FormatterDevice struct {
	Device     DeviceID
	DevEUI     EUI64
	Attributes map[string]string
	VersionIDs *VersionIDs // nil: not known
}

// CodecUse is what a codec of a device repository is wanted for, named as in the repository's files.
type CodecUse string

const (
	UplinkDecoder   CodecUse = "uplinkDecoder"
	DownlinkEncoder CodecUse = "downlinkEncoder"
	DownlinkDecoder CodecUse = "downlinkDecoder"
)

// VersionIDs name a device's make and model, as a device repository does.
type VersionIDs struct {
	BrandID, ModelID, HardwareVersion, FirmwareVersion, BandID string
}

// Decoded is what a decoder gave.
type Decoded struct {
	Data     json.RawMessage // always an object; key order as the script made it
	Warnings []string
	// Normalized are measurements of package formatters/normalized: what normalizeUplink gave, or Data itself if it is one.
	Normalized         []json.RawMessage
	NormalizedWarnings []string
}

// EncodeInput is what an encoder is given. Data is an object.
type EncodeInput struct {
	Data  json.RawMessage
	FPort uint8 // 0 if the caller named none
	FormatterDevice
}

// Encoded is what an encoder gave. FPort is the requested one if the script named none, and 1 if there was neither.
type Encoded struct {
	Bytes    []byte
	FPort    uint8
	Warnings []string
}
