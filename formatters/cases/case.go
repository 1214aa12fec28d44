// Package cases reads and judges test cases of payload codecs: what goes into a codec and what must come out. It runs nothing.
//
// A case is a JSON object. Its members may be spelled with capitals or underscores (f_port, fPort) and may stand in a member "input":
//
//	codec        what is tested; how it is found is the caller's business
//	direction    up | uplink | decodeUplink, down | downlink | decodeDownlink, encode | encodeDownlink; the default is up, or encode if there are
//	             data and no bytes, with which down means encode too
//	f_port       0 to 255; the default is 1 for a decoder, and 0, which is none, for an encoder
//	bytes        a list of numbers, hex with or without separators, or base64; frm_payload instead: base64, also if it reads as hex
//	recv_time    RFC 3339, or seconds since 1970
//	data         an object, for encoders
//	f_cnt, rssi, snr, attributes (or variables), version_ids, device_id, application_id, dev_eui: further input
//	expect       see Want; without it the case can't fail as long as the codec gives something
package cases

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Case is a call of a codec. For a decoder it is Decode that counts, for an encoder Encode.
type Case struct {
	Codec   string
	Use     messages.CodecUse
	Decode  messages.DecodeInput // RecvTime is zero if the case names none
	Encode  messages.EncodeInput
	Want    *Want    // nil: nothing is expected
	Ignored []string // members that mean nothing here
}

// members of a case by their settled names.
type members map[string]json.RawMessage

// settled makes one spelling of fPort, f_port and FPort.
func settled(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(name))
}

// synonyms by settled names.
var synonyms = map[string]string{
	"port": "fport", "hex": "bytes", "payload": "bytes", "base64": "frmpayload", "receivedat": "recvtime", "time": "recvtime", "variables": "attributes", "output": "expect",
	"expected": "expect", "want": "expect", "dir": "direction", "decodedpayload": "data", "object": "data", "expecterror": "error",
}

// remarks are members for people.
var remarks = []string{"name", "id", "line", "description", "comment", "note", "source", "tags"}

// Parse reads a case.
func Parse(text []byte) (Case, error) {
	m, err := readMembers(text)
	if err != nil {
		return Case{}, err
	}
	var c Case
	if err := m.text("codec", &c.Codec); err != nil {
		return c, err
	}
	if c.Codec == "" {
		return c, fmt.Errorf(`the case names no codec: add "codec"`)
	}
	if err := m.input(&c); err != nil {
		return c, err
	}
	if c.Use, err = m.use(c); err != nil {
		return c, err
	}
	if c.Want, err = m.want(c.Use); err != nil {
		return c, err
	}
	for name := range m {
		if !slices.Contains(remarks, name) {
			c.Ignored = append(c.Ignored, name)
		}
	}
	slices.Sort(c.Ignored)
	return c, nil
}

func readMembers(text []byte) (members, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil || raw == nil {
		return nil, fmt.Errorf("a case must be a JSON object: %w", err)
	}
	out := members{}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		value, key := raw[name], settled(name)
		if key == "input" {
			inner, err := readMembers(value)
			if err != nil {
				return nil, fmt.Errorf("input: %w", err)
			}
			maps.Copy(out, inner)
			continue
		}
		if other := synonyms[key]; other != "" {
			key = other
		}
		if string(value) != "null" {
			out[key] = value
		}
	}
	return out, nil
}

// take reads a member into v and crosses it off.
func (m members) take(name string, v any) (found bool, err error) {
	raw, found := m[name]
	delete(m, name)
	if !found {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return true, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

func (m members) text(name string, v *string) error {
	_, err := m.take(name, v)
	return err
}

func (m members) input(c *Case) error {
	var fPort, fCnt *float64
	var bytes json.RawMessage
	var frmPayload v3.Bytes
	var at json.RawMessage
	var rssi, snr *float32
	var data json.RawMessage
	d := messages.FormatterDevice{}
	var versions *struct {
		BrandID         string `json:"brand_id"`
		ModelID         string `json:"model_id"`
		HardwareVersion string `json:"hardware_version"`
		FirmwareVersion string `json:"firmware_version"`
		BandID          string `json:"band_id"`
	}
	for name, v := range map[string]any{
		"fport": &fPort, "fcnt": &fCnt, "bytes": &bytes, "frmpayload": &frmPayload, "recvtime": &at, "rssi": &rssi, "snr": &snr, "data": &data,
		"attributes": &d.Attributes, "deveui": &d.DevEUI, "deviceid": &d.Device.DeviceID, "applicationid": &d.Device.ApplicationID, "versionids": &versions,
	} {
		if _, err := m.take(name, v); err != nil {
			return err
		}
	}
	port, err := natural("f_port", fPort, math.MaxUint8)
	if err != nil {
		return err
	}
	count, err := natural("f_cnt", fCnt, math.MaxUint32)
	if err != nil {
		return err
	}
	d.VersionIDs = (*messages.VersionIDs)(versions)
	c.Decode = messages.DecodeInput{FPort: uint8(port), FCnt: count, RSSI: rssi, SNR: snr, FormatterDevice: d}
	c.Encode = messages.EncodeInput{Data: data, FPort: uint8(port), FormatterDevice: d}
	if fPort == nil {
		c.Decode.FPort = 1
	}
	if c.Decode.RecvTime, err = readTime(at); err != nil {
		return err
	}
	c.Decode.Bytes = frmPayload
	if bytes != nil {
		c.Decode.Bytes, err = readBytes(bytes)
	}
	return err
}

// natural gives 0 for nothing.
func natural(name string, v *float64, most uint32) (uint32, error) {
	if v == nil {
		return 0, nil
	}
	if *v < 0 || *v > float64(most) || *v != math.Trunc(*v) {
		return 0, fmt.Errorf("%s is %v: use 0 to %d", name, *v, most)
	}
	return uint32(*v), nil
}

func readTime(raw json.RawMessage) (time.Time, error) {
	var text string
	var seconds float64
	switch {
	case raw == nil:
		return time.Time{}, nil
	case json.Unmarshal(raw, &seconds) == nil:
		if seconds > 1e11 { // as Date.getTime gives it
			seconds /= 1000
		}
		return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
	case json.Unmarshal(raw, &text) != nil:
		return time.Time{}, fmt.Errorf("recv_time is %s: use a time such as 2026-11-23T10:00:00Z", raw)
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05.999999999", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("recv_time is %s: use a time such as 2026-11-23T10:00:00Z", raw)
}

// readBytes reads a list of numbers, hex, or what is base64 and not hex.
func readBytes(raw json.RawMessage) ([]byte, error) {
	var list []int
	if err := json.Unmarshal(raw, &list); err == nil {
		out := make([]byte, len(list))
		for i, n := range list {
			if n < -128 || n > 255 {
				return nil, fmt.Errorf("bytes[%d] is %d: use 0 to 255", i, n)
			}
			out[i] = byte(n)
		}
		return out, nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, fmt.Errorf("bytes: use a list of numbers or hex")
	}
	out, err := hex.DecodeString(strings.NewReplacer("0x", "", " ", "", "-", "", ":", "", ",", "").Replace(text))
	if err != nil {
		if out, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("bytes is %.64q: use a list of numbers, or hex; what reads as hex but is base64 goes into frm_payload", text)
		}
	}
	return out, nil
}

// use reads the direction.
func (m members) use(c Case) (messages.CodecUse, error) {
	var text string
	if err := m.text("direction", &text); err != nil {
		return "", err
	}
	if text == "" { // as in the examples of device repositories; other cases mean other things by it
		var kind any
		if _, err := m.take("type", &kind); err != nil {
			return "", err
		}
		if name, _ := kind.(string); strings.HasPrefix(name, "uplink") || strings.HasPrefix(name, "downlink") {
			text = name
		}
	}
	encodes := c.Decode.Bytes == nil && c.Encode.Data != nil
	switch settled(text) {
	case "":
		if encodes {
			return messages.DownlinkEncoder, nil
		}
		return messages.UplinkDecoder, nil
	case "up", "uplink", "decode", "decodeuplink", "uplinkdecode", "uplinkdecoder":
		return messages.UplinkDecoder, nil
	case "down", "downlink":
		if encodes {
			return messages.DownlinkEncoder, nil
		}
		return messages.DownlinkDecoder, nil
	case "decodedownlink", "downlinkdecode", "downlinkdecoder":
		return messages.DownlinkDecoder, nil
	case "encode", "encodedownlink", "downlinkencode", "downlinkencoder":
		return messages.DownlinkEncoder, nil
	}
	return "", fmt.Errorf("direction is %.64q: use up, down or encode", text)
}
