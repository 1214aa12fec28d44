package cayennelpp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"lorikeet/messages"
)

// maxPayload is the most that The Things Stack takes as frm_payload; what a frame carries depends on its data rate and is less.
const maxPayload = 255

// EncodeDownlink writes the members of in.Data in their order: "value_channel" as (channel, int16/100), or the names of DecodeUplink as (channel, type, value).
// Values are rounded to the resolution of their type. Members with other names are left out with a warning; if none is left it is an error.
func EncodeDownlink(in messages.EncodeInput) (messages.Encoded, error) {
	out := messages.Encoded{FPort: in.FPort}
	if out.FPort == 0 {
		out.FPort = 1
	}
	keys, values, err := objectMembers(in.Data)
	if err != nil {
		return messages.Encoded{}, err
	}
	plain, typed := "", ""
	for i, key := range keys {
		name, channel, ok := cutChannel(key)
		switch q := byName[name]; {
		case ok && name == "value":
			plain = key
			out.Bytes, err = putValue(out.Bytes, key, channel, values[i])
		case ok && q != nil:
			typed = key
			out.Bytes, err = q.put(append(out.Bytes, channel, q.code), key, values[i])
		default:
			out.Warnings = append(out.Warnings, fmt.Sprintf("%.64q left out: name it value_<channel>, or temperature_<channel> or another Cayenne LPP type", key))
		}
		if err != nil {
			return messages.Encoded{}, err
		}
	}
	switch {
	case plain != "" && typed != "":
		return messages.Encoded{}, messages.Invalid(errorName, "%s and %s are of two formats: send value_<channel> members alone, or typed members alone", plain, typed)
	case len(out.Bytes) == 0:
		return messages.Encoded{}, messages.Invalid(errorName, `nothing to encode: give members such as {"value_3": 20.5} or {"temperature_3": 20.5}`)
	case len(out.Bytes) > maxPayload:
		return messages.Encoded{}, messages.Invalid(errorName, "%d bytes are more than the %d of the longest payload: send less at once", len(out.Bytes), maxPayload)
	}
	return out, nil
}

// objectMembers gives keys and values of a JSON object in their order.
func objectMembers(text json.RawMessage) (keys []string, values []json.RawMessage, err error) {
	refusal := messages.Invalid(errorName, `decoded_payload is not an object: give members such as {"value_3": 20.5}`)
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, refusal
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, nil, refusal
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, nil, refusal
		}
		keys, values = append(keys, key.(string)), append(values, v)
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, refusal
	}
	return keys, values, nil
}

// cutChannel splits "temperature_3".
func cutChannel(key string) (name string, channel byte, ok bool) {
	i := strings.LastIndexByte(key, '_')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(key[i+1:], 10, 8)
	return key[:i], byte(n), err == nil
}

func putValue(b []byte, key string, channel byte, raw json.RawMessage) ([]byte, error) {
	if channel == endOfDownlink {
		return nil, messages.Invalid(errorName, "%s: 255 ends a downlink: use a channel of 0 to 254", key)
	}
	v, err := parseNumber(key, raw)
	if err != nil {
		return nil, err
	}
	return value.put(append(b, channel), key, v)
}

// put appends the value of one (channel, type, value).
func (q *quantity) put(b []byte, key string, raw json.RawMessage) ([]byte, error) {
	switch {
	case q.code == polylineCode:
		return putPolyline(b, key, raw)
	case len(q.fields) == 1:
		v, err := parseNumber(key, raw)
		if err != nil {
			return nil, err
		}
		return q.fields[0].put(b, key, v)
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, messages.Invalid(errorName, "%s: give an object of %s", key, q.fieldNames())
	}
	for _, f := range q.fields {
		v, err := parseNumber(key+"."+f.name, given[f.name])
		if err != nil {
			return nil, err
		}
		if b, err = f.put(b, key+"."+f.name, v); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (q *quantity) fieldNames() string {
	names := make([]string, len(q.fields))
	for i, f := range q.fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

// parseNumber takes true and false for 1 and 0, which is how people write switches.
func parseNumber(key string, raw json.RawMessage) (float64, error) {
	switch string(raw) {
	case "":
		return 0, messages.Invalid(errorName, "%s is missing: give a number", key)
	case "true":
		return 1, nil
	case "false":
		return 0, nil
	}
	var v *float64
	if json.Unmarshal(raw, &v) != nil || v == nil {
		return 0, messages.Invalid(errorName, "%s is %.32s: give a number", key, raw)
	}
	return *v, nil
}
