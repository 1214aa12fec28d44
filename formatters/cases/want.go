package cases

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"lorikeet/messages"
)

// Want is what a codec is to give. What is nil is not looked at.
//
// In a case, "expect" is the decoded payload, or the bytes as a list or hex; or an object as TS013 has it: data, bytes, fPort, warnings, errors, and normalized and
// normalized_warnings for the list of measurements. errors says that the call must fail; each text must occur in the error. "error", beside "expect" or in it, is one such text, or
// true for any error.
type Want struct {
	Data       json.RawMessage
	Normalized json.RawMessage // a list; one object will do
	Bytes      []byte
	FPort      *uint8
	Warnings   []string // an empty list, not nil: there must be none; so for the others
	// NormalizedWarnings are those about measurements.
	NormalizedWarnings []string
	Errors             []string
}

func (m members) want(use messages.CodecUse) (*Want, error) {
	var alone *errorText
	if _, err := m.take("error", &alone); err != nil {
		return nil, err
	}
	var raw, normalized json.RawMessage
	for name, v := range map[string]any{"expect": &raw, "normalizedoutput": &normalized, "normalized": &normalized} {
		if _, err := m.take(name, v); err != nil {
			return nil, err
		}
	}
	if raw == nil && normalized == nil && alone == nil {
		return nil, nil
	}
	w := &Want{Normalized: dataOf(normalized)}
	if alone != nil {
		w.Errors = []string{string(*alone)}
	}
	if raw == nil {
		return w, nil
	}
	return w, w.read(raw, use)
}

// errorText is the text of an error, "" for any.
type errorText string

func (f *errorText) UnmarshalJSON(in []byte) error {
	if string(in) == "true" {
		return nil
	}
	return json.Unmarshal(in, (*string)(f))
}

// dataOf gives the data of {data: ...}, as vendors write a normalized output.
func dataOf(raw json.RawMessage) json.RawMessage {
	var wrapped map[string]json.RawMessage
	if json.Unmarshal(raw, &wrapped) == nil && wrapped["data"] != nil {
		return wrapped["data"]
	}
	return raw
}

var outputMembers = []string{"data", "bytes", "fport", "frmpayload", "warnings", "errors", "error", "normalized", "normalizedwarnings"}

// read takes what is expected in either form.
func (w *Want) read(raw json.RawMessage, use messages.CodecUse) error {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || !isOutput(object, use) {
		if use == messages.DownlinkEncoder {
			var err error
			w.Bytes, err = readBytes(raw)
			return err
		}
		w.Data = raw
		return nil
	}
	m, err := readMembers(raw)
	if err != nil {
		return err
	}
	var bytes json.RawMessage
	var fPort *uint8
	var alone *errorText
	for name, v := range map[string]any{
		"data": &w.Data, "normalized": &w.Normalized, "bytes": &bytes, "fport": &fPort, "warnings": &w.Warnings, "normalizedwarnings": &w.NormalizedWarnings, "errors": &w.Errors, "error": &alone,
	} {
		if _, err := m.take(name, v); err != nil {
			return fmt.Errorf("expect.%w", err)
		}
	}
	w.FPort = fPort
	if alone != nil {
		w.Errors = append(w.Errors, string(*alone))
	}
	if bytes != nil {
		w.Bytes, err = readBytes(bytes)
	}
	return err
}

// isOutput tells {data: {...}, warnings: [...]} from a payload that has such a member.
func isOutput(object map[string]json.RawMessage, use messages.CodecUse) bool {
	known := 0
	for name, value := range object {
		name = settled(name)
		if !slices.Contains(outputMembers, name) {
			return false
		}
		first := strings.TrimSpace(string(value))[0]
		switch name {
		case "data":
			if first != '{' && first != '[' && first != 'n' {
				return false
			}
			known++
		case "errors", "warnings", "normalizedwarnings":
			if first != '[' && first != 'n' {
				return false
			}
			known++
		case "error":
			if first != '"' && string(value) != "true" {
				return false
			}
			known++
		case "bytes", "normalized":
			known++
		}
	}
	return known > 0 || use == messages.DownlinkEncoder
}

// Got is what a codec gave. It is written as TS013 has it.
type Got struct {
	Data               json.RawMessage   `json:"data,omitempty"`
	Bytes              []int             `json:"bytes,omitempty"`
	FPort              uint8             `json:"fPort,omitempty"`
	Warnings           []string          `json:"warnings,omitempty"`
	Normalized         []json.RawMessage `json:"normalized,omitempty"`
	NormalizedWarnings []string          `json:"normalized_warnings,omitempty"`
}

// GotDecoded is what a decoder gave.
func GotDecoded(d messages.Decoded) Got {
	return Got{Data: d.Data, Warnings: d.Warnings, Normalized: d.Normalized, NormalizedWarnings: d.NormalizedWarnings}
}

// GotEncoded is what an encoder gave.
func GotEncoded(e messages.Encoded) Got {
	out := Got{Bytes: make([]int, len(e.Bytes)), FPort: e.FPort, Warnings: e.Warnings}
	for i, b := range e.Bytes {
		out.Bytes[i] = int(b)
	}
	return out
}

// Diff says how a result differs from what is wanted, a line for each place; nothing if it is as wanted. A nil Want is content with all that is no error.
// Numbers are equal if they differ by less than a billionth part. A member that is missing equals one that is null.
func (w *Want) Diff(got Got, failure error) []string {
	if w == nil || len(w.Errors) == 0 {
		if failure != nil {
			return []string{"failed: " + failure.Error()}
		}
	} else if failure == nil {
		if words := slices.DeleteFunc(slices.Clone(w.Errors), func(text string) bool { return text == "" }); len(words) > 0 {
			return []string{fmt.Sprintf("want an error with %q", words)}
		}
		return []string{"want an error"}
	}
	if w == nil {
		return nil
	}
	var d differ
	for _, text := range w.Errors {
		if !strings.Contains(failure.Error(), text) {
			d.add("error", text, failure.Error())
		}
	}
	if len(w.Errors) > 0 {
		return d.lines
	}
	if w.Data != nil {
		d.raw("data", w.Data, got.Data)
	}
	if w.Normalized != nil {
		d.normalized(w.Normalized, got.Normalized)
	}
	if w.Bytes != nil {
		d.raw("bytes", mustMarshal(GotEncoded(messages.Encoded{Bytes: w.Bytes}).Bytes), mustMarshal(got.Bytes))
	}
	if w.FPort != nil && *w.FPort != got.FPort {
		d.add("fPort", *w.FPort, got.FPort)
	}
	d.texts("warnings", w.Warnings, got.Warnings)
	d.texts("normalized_warnings", w.NormalizedWarnings, got.NormalizedWarnings)
	return d.lines
}

type differ struct{ lines []string }

const maxDiff = 20 // lines

func (d *differ) add(path string, want, got any) {
	if len(d.lines) < maxDiff {
		d.lines = append(d.lines, fmt.Sprintf("%s: want %s, got %s", path, mustMarshal(want), mustMarshal(got)))
	}
}

func mustMarshal(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage(fmt.Sprintf("%q", err.Error()))
	}
	return text
}

func (d *differ) texts(path string, want, got []string) {
	if want != nil && !slices.Equal(want, got) {
		d.add(path, want, got)
	}
}

func (d *differ) normalized(want json.RawMessage, got []json.RawMessage) {
	if list := strings.TrimSpace(string(want)); !strings.HasPrefix(list, "[") {
		want = json.RawMessage("[" + list + "]")
	}
	if got == nil {
		got = []json.RawMessage{}
	}
	d.raw("normalized", want, mustMarshal(got))
}

func (d *differ) raw(path string, want, got json.RawMessage) {
	var w, g any
	if json.Unmarshal(want, &w) != nil || got != nil && json.Unmarshal(got, &g) != nil {
		d.add(path, want, got)
		return
	}
	if list, ok := w.([]any); ok && path == "data" { // as the data are always an object
		w = indexed(list)
	}
	d.value(path, w, g)
}

func indexed(list []any) map[string]any {
	out := make(map[string]any, len(list))
	for i, v := range list {
		out[strconv.Itoa(i)] = v
	}
	return out
}

func (d *differ) value(path string, want, got any) {
	switch w := want.(type) {
	case float64:
		if g, ok := got.(float64); ok && near(w, g) {
			return
		}
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			d.objects(path, w, g)
			return
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range w {
				d.value(fmt.Sprintf("%s[%d]", path, i), w[i], g[i])
			}
			return
		}
	default:
		if want == got {
			return
		}
	}
	d.add(path, want, got)
}

func (d *differ) objects(path string, want, got map[string]any) {
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		d.value(path+"."+name, want[name], got[name])
	}
}

func near(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b))
}
