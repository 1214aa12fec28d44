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
	MaxFormatterSource                = 256 << 10 // bytes of a script
	MaxFormatterOutput                = 256 << 10 // bytes of a result
)

// Formatter says how to decode or encode: its kind and, for scripts, the source text.
type Formatter struct {
	Kind      FormatterKind
	Parameter string
}

// DecodeInput is what a decoder is given.
type DecodeInput struct {
	Bytes    []byte
	FPort    uint8
	RecvTime time.Time
}

// Decoded is what a decoder gave.
type Decoded struct {
	Data     json.RawMessage // always an object; key order as the script made it
	Warnings []string
	// Normalized and its warnings are set only if the script has normalizeUplink: one object a measurement.
	Normalized         []json.RawMessage
	NormalizedWarnings []string
}

// EncodeInput is what an encoder is given. Data is an object.
type EncodeInput struct {
	Data  json.RawMessage
	FPort uint8 // 0 if the caller named none
}

// Encoded is what an encoder gave. FPort is the requested one if the script named none, and 1 if there was neither.
type Encoded struct {
	Bytes    []byte
	FPort    uint8
	Warnings []string
}
