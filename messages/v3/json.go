// Package v3 is the application JSON of The Things Stack v3: the bodies that MQTT, webhooks, pub/sub and REST carry.
// Zero values are omitted, 64-bit integers are strings, bytes are base64, EUIs, addresses and keys are upper-case hex.
package v3

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bytes is base64 in JSON: standard with padding on output; standard or URL-safe, padded or not, on input.
type Bytes []byte

func (b Bytes) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, base64.StdEncoding.EncodedLen(len(b))+2)
	out = append(out, '"')
	out = base64.StdEncoding.AppendEncode(out, b)
	return append(out, '"'), nil
}

func (b *Bytes) UnmarshalJSON(in []byte) error {
	var s *string
	if err := json.Unmarshal(in, &s); err != nil {
		return fmt.Errorf("want a base64 string, e.g. \"AQI=\"")
	}
	if s == nil {
		*b = nil
		return nil
	}
	text := strings.TrimRight(*s, "=")
	enc := base64.RawStdEncoding
	if strings.ContainsAny(text, "-_") {
		enc = base64.RawURLEncoding
	}
	out, err := enc.DecodeString(text)
	if err != nil {
		return fmt.Errorf("want a base64 string, e.g. \"AQI=\": %w", err)
	}
	*b = out
	return nil
}

// Uint64 is a decimal string in JSON; a plain number is accepted.
type Uint64 uint64

func (u Uint64) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatUint(uint64(u), 10) + `"`), nil
}

func (u *Uint64) UnmarshalJSON(in []byte) error {
	n, err := strconv.ParseUint(unquote(in), 10, 64)
	if err != nil {
		return fmt.Errorf("want an unsigned integer")
	}
	*u = Uint64(n)
	return nil
}

// Int64 is a decimal string in JSON; a plain number is accepted.
type Int64 int64

func (i Int64) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(int64(i), 10) + `"`), nil
}

func (i *Int64) UnmarshalJSON(in []byte) error {
	n, err := strconv.ParseInt(unquote(in), 10, 64)
	if err != nil {
		return fmt.Errorf("want an integer")
	}
	*i = Int64(n)
	return nil
}

// Int32 is a number in JSON; a decimal string is accepted.
type Int32 int32

func (i *Int32) UnmarshalJSON(in []byte) error {
	n, err := strconv.ParseInt(unquote(in), 10, 32)
	if err != nil {
		return fmt.Errorf("want an integer of -2147483648 to 2147483647")
	}
	*i = Int32(n)
	return nil
}

// Uint32 is a number in JSON; a decimal string is accepted.
type Uint32 uint32

func (u *Uint32) UnmarshalJSON(in []byte) error {
	n, err := strconv.ParseUint(unquote(in), 10, 32)
	if err != nil {
		return fmt.Errorf("want an integer of 0 to 4294967295")
	}
	*u = Uint32(n)
	return nil
}

// String gives the decimal digits.
func (u Uint32) String() string { return strconv.FormatUint(uint64(u), 10) }

func unquote(in []byte) string {
	if bytes.Equal(in, []byte("null")) {
		return "0"
	}
	return strings.Trim(string(in), `"`)
}

// Duration is a string of seconds in JSON: "0.056576s".
type Duration time.Duration

func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatFloat(time.Duration(d).Seconds(), 'f', -1, 64) + `s"`), nil
}

func (d *Duration) UnmarshalJSON(in []byte) error {
	v, err := time.ParseDuration(unquote(in))
	if err != nil {
		return fmt.Errorf("want a duration such as \"1.5s\"")
	}
	*d = Duration(v)
	return nil
}

// freeform are members whose own keys are the user's, not ours.
var freeform = map[string]bool{
	"decoded_payload": true, "attributes": true, "headers": true, "template_fields": true, "locations": true, "data": true, "advanced": true,
	"normalized_payload": true, "provisioning_data": true,
}

// SnakeCase rewrites camelCase member names of a JSON document to the snake_case that the API speaks, as The Things Stack accepts both.
// Objects whose keys are the user's (decoded_payload, attributes, headers, ...) keep theirs. The order of members and the text of numbers stay.
func SnakeCase(in []byte) ([]byte, error) {
	if !json.Valid(in) {
		var v any
		if err := json.Unmarshal(in, &v); err != nil {
			return nil, err
		}
	}
	if !needsSnakeCase(in) {
		return in, nil
	}
	dec := json.NewDecoder(bytes.NewReader(in))
	dec.UseNumber()
	var out bytes.Buffer
	if err := snakeValue(dec, &out, false); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func needsSnakeCase(in []byte) bool {
	for i := 1; i < len(in); i++ {
		if in[i] >= 'A' && in[i] <= 'Z' && in[i-1] >= 'a' && in[i-1] <= 'z' {
			return true
		}
	}
	return false
}

func snakeValue(dec *json.Decoder, out *bytes.Buffer, keep bool) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		b, err := json.Marshal(tok)
		out.Write(b)
		return err
	}
	out.WriteByte(byte(delim))
	for first := true; dec.More(); first = false {
		if !first {
			out.WriteByte(',')
		}
		keepInner := keep
		if delim == '{' {
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			name := tok.(string)
			if !keep {
				name = snakeName(name)
				keepInner = freeform[name]
			}
			b, _ := json.Marshal(name)
			out.Write(b)
			out.WriteByte(':')
		}
		if err := snakeValue(dec, out, keepInner); err != nil {
			return err
		}
	}
	end, err := dec.Token()
	if err != nil {
		return err
	}
	out.WriteByte(byte(end.(json.Delim)))
	return nil
}

func snakeName(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func splitPaths(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// TooDeep says whether objects and lists are nested more than depth times in a JSON text, without decoding it: it counts brackets outside of strings.
// Of what is no JSON it says nothing of use.
func TooDeep(text []byte, depth int) bool {
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth--; depth < 0 {
				return true
			}
		case c == '}' || c == ']':
			depth++
		}
	}
	return false
}
