package v3

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"lorikeet/messages"
)

// Input is how wrong input of applications is taken. What The Things Stack's JSON allows is right in both: camelCase names, numbers as strings and
// enums as numbers, base64 in its URL-safe form and without padding, and members that nobody knows.
type Input uint8

const (
	// Strict refuses what is very likely not meant: a name that an enum does not have, hex in place of base64, a body without "downlinks".
	Strict Input = iota
	// Lenient takes these as The Things Stack does: as the enum's zero, as base64, and as no downlinks.
	Lenient
)

// enumNames are those of The Things Stack; the index is the number. A name that a later version might bring is not there.
var enumNames = map[reflect.Type][]string{
	reflect.TypeFor[Priority](): messages.PriorityNames[:],
	reflect.TypeFor[QoS]():      {string(QoSAtMostOnce), string(QoSAtLeastOnce), string(QoSExactlyOnce)},
	reflect.TypeFor[messages.FormatterKind](): {
		string(messages.FormatterNone), string(messages.FormatterRepository), "FORMATTER_GRPC_SERVICE", string(messages.FormatterJavaScript), string(messages.FormatterCayenneLPP),
	},
}

// ownNames are names of enums that have no number in The Things Stack.
var ownNames = []string{string(messages.FormatterLua)}

// enumMembers are members that are texts to us and enums to The Things Stack.
var enumMembers = map[string][]string{
	"source": {
		"SOURCE_UNKNOWN", "SOURCE_GPS", "", "SOURCE_REGISTRY", "SOURCE_IP_GEOLOCATION", "SOURCE_WIFI_RSSI_GEOLOCATION", "SOURCE_BT_RSSI_GEOLOCATION",
		"SOURCE_LORA_RSSI_GEOLOCATION", "SOURCE_LORA_TDOA_GEOLOCATION", "SOURCE_COMBINED_GEOLOCATION",
	},
}

// versionMembers have numbers in The Things Stack, and other spellings beside their names, which their reader knows.
var versionMembers = map[string][]string{
	"lorawan_version": {"", "MAC_V1_0", "MAC_V1_0_1", "MAC_V1_0_2", "MAC_V1_1", "MAC_V1_0_3", "MAC_V1_0_4"},
	"lorawan_phy_version": {
		"", "PHY_V1_0", "PHY_V1_0_1", "PHY_V1_0_2_REV_A", "PHY_V1_0_2_REV_B", "PHY_V1_1_REV_A", "PHY_V1_1_REV_B", "PHY_V1_0_3_REV_A",
		"RP002_V1_0_0", "RP002_V1_0_1", "RP002_V1_0_2", "RP002_V1_0_3", "RP002_V1_0_4",
	},
}

// Settle gives the JSON that encoding/json reads into a t as The Things Stack reads raw: numbers that are written as strings and enums that are
// written as numbers, and for Lenient also names that an enum does not have. raw is in snake_case. What is of the wrong kind stays, for the reader to
// refuse. The error names the member, below name.
func (m Input) Settle(name string, raw json.RawMessage, t reflect.Type) (json.RawMessage, error) {
	return m.settle(name, "", raw, t)
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func (m Input) settle(path, member string, raw json.RawMessage, t reflect.Type) (json.RawMessage, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return raw, nil
	}
	if names := enumNames[t]; names != nil {
		return m.settleEnum(path, raw, names, true)
	}
	if t.Kind() == reflect.String {
		return m.settleText(path, member, raw)
	}
	if member == "frm_payload" && t == reflect.TypeFor[Bytes]() {
		return raw, m.checkBase64(path, raw)
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return raw, nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return m.settleMembers(path, raw, func(name string) (reflect.Type, bool) { return memberType(t, name) })
	case reflect.Map:
		return m.settleMembers(path, raw, func(string) (reflect.Type, bool) { return t.Elem(), true })
	case reflect.Slice:
		return m.settleItems(path, member, raw, t.Elem())
	}
	if n := bytes.Trim(raw, `"`); t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64 && len(n)+2 == len(raw) && json.Valid(n) {
		return n, nil
	}
	return raw, nil
}

func (m Input) settleText(path, member string, raw json.RawMessage) (json.RawMessage, error) {
	if names := enumMembers[member]; names != nil {
		return m.settleEnum(path, raw, names, false)
	}
	if n, err := strconv.Atoi(strings.Trim(string(raw), `"`)); err == nil && n >= 0 && n < len(versionMembers[member]) {
		return quoted(versionMembers[member][n]), nil
	}
	return raw, nil
}

// settleEnum reads a name or a number. checked says that the reader refuses names that there are not.
func (m Input) settleEnum(path string, raw json.RawMessage, names []string, checked bool) (json.RawMessage, error) {
	text := strings.Trim(string(raw), `"`)
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(names) && names[n] != "" {
		return quoted(names[n]), nil
	}
	switch {
	case text == "" || raw[0] != '"' && !isNumber(raw) || slices.Contains(names, text) || slices.Contains(ownNames, text):
		return raw, nil
	case m == Lenient:
		return quoted(names[0]), nil
	case checked:
		return raw, nil
	}
	known := slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "" })
	return nil, messages.Invalid("decode_body", "%s: %q is unknown: use one of %s", path, short(text), strings.Join(known, ", "))
}

func isNumber(raw json.RawMessage) bool { return raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' }

func quoted(s string) json.RawMessage { return json.RawMessage(`"` + s + `"`) }

func (m Input) settleMembers(path string, raw json.RawMessage, typeOf func(name string) (reflect.Type, bool)) (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return raw, nil // of the wrong kind
	}
	changed := false
	for name, value := range members {
		t, ok := typeOf(name)
		if !ok {
			continue
		}
		settled, err := m.settle(strings.TrimPrefix(path+"."+short(name), "."), name, value, t)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(settled, value) {
			members[name], changed = settled, true
		}
	}
	if !changed {
		return raw, nil
	}
	return json.Marshal(members)
}

func (m Input) settleItems(path, member string, raw json.RawMessage, t reflect.Type) (json.RawMessage, error) {
	var items []json.RawMessage
	if t.Kind() == reflect.Uint8 || json.Unmarshal(raw, &items) != nil {
		return raw, nil
	}
	changed := false
	for i, value := range items {
		settled, err := m.settle(fmt.Sprintf("%s[%d]", path, i), member, value, t)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(settled, value) {
			items[i], changed = settled, true
		}
	}
	if !changed {
		return raw, nil
	}
	return json.Marshal(items)
}

// memberType finds the field of a JSON member.
func memberType(t reflect.Type, name string) (reflect.Type, bool) {
	for f := range t.Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name && tag != "-" {
			return f.Type, true
		}
	}
	return nil, false
}

// checkBase64 refuses what reads as hex. Text of hex digits alone is base64 too, if rarely: who means it appends "=".
func (m Input) checkBase64(path string, raw json.RawMessage) error {
	text := strings.Trim(string(raw), `"`)
	if m == Lenient || len(text)+2 != len(raw) || !readsAsHex(text) {
		return nil
	}
	return messages.Invalid("decode_body", `%s: %q reads as hex: send bytes as base64, e.g. "AQI=" for 01 02; if it is base64, append "="`, path, short(text))
}

// readsAsHex tells hex from base64. A text of hex digits in one case is both if its length is a multiple of four, and then base64 only if its bytes
// are unusual: digits and small letters stand for bytes from 0x68 on. Capitals up to F stand for small numbers, so a few of them prove nothing.
func readsAsHex(text string) bool {
	text, prefixed := strings.CutPrefix(text, "0x")
	digits, zeros, upper, lower := 0, 0, 0, 0
	for _, c := range []byte(text) {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f':
			lower++
		case c >= 'A' && c <= 'F':
			upper++
			if c == 'A' {
				zeros++
			}
		default:
			return false
		}
	}
	switch n := len(text); {
	case prefixed:
		return true
	case n < 2 || n%2 != 0 || upper > 0 && lower > 0:
		return false
	case upper == 0:
		return true
	case n%4 == 2: // base64 would have padding
		return 2*zeros < n
	default:
		return 2*digits >= n || n >= 8 && 4*zeros < n
	}
}

// short keeps what a client sent from filling answers.
func short(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
