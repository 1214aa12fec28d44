package semtechudp

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"
)

// Packet forwarders print their JSON with printf: numbers come as text, as "nan", with a NUL behind the document, and
// a full buffer cuts it. This reader takes what is legible and says what is not, where encoding/json refuses the whole.

type kind byte

const (
	absent  kind = iota
	text         // raw is what stands between the quotes, still escaped
	literal      // number, true, false, null, and whatever else has no quotes
	object       // raw is what stands between the brackets
	array
)

type value struct {
	kind kind
	raw  []byte
	cut  bool // the document ends inside of this value
}

// scan reads one value from b, which must not begin with white space.
func scan(b []byte) (v value, rest []byte) {
	switch {
	case len(b) == 0:
		return value{}, nil
	case b[0] == '"':
		n, ok := textEnd(b)
		if !ok {
			return value{kind: text, raw: b[1:], cut: true}, nil
		}
		return value{kind: text, raw: b[1 : n-1]}, b[n:]
	case b[0] == '{':
		return scanContainer(object, b)
	case b[0] == '[':
		return scanContainer(array, b)
	}
	n := bytes.IndexAny(b, ",:]}\" \t\r\n")
	if n < 0 {
		n = len(b)
	}
	if n == 0 {
		return value{}, b
	}
	return value{kind: literal, raw: b[:n]}, b[n:]
}

// scanContainer finds the bracket that ends the object or array b begins with. It counts brackets and nothing else, so its cost is linear and deep nesting is harmless.
func scanContainer(k kind, b []byte) (v value, rest []byte) {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				return value{kind: k, raw: b[1:i]}, b[i+1:]
			}
		case '"':
			n, ok := textEnd(b[i:])
			if !ok {
				return value{kind: k, raw: b[1:], cut: true}, nil
			}
			i += n - 1
		}
	}
	return value{kind: k, raw: b[1:], cut: true}, nil
}

// textEnd gives the length of the quoted text at the start of b, quotes included.
func textEnd(b []byte) (int, bool) {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1, true
		}
	}
	return len(b), false
}

// cursor walks the members of an object or the elements of an array.
type cursor struct {
	rest    []byte
	named   bool
	started bool
	single  bool // val is the one element
	key     []byte
	val     value
	bad     bool // the walk ended before the end of the container
}

func walk(v value) cursor { return cursor{rest: v.raw, named: v.kind == object, bad: v.cut} }

func (c *cursor) next() bool {
	if c.single {
		c.single = false
		return true
	}
	b := trimLeft(c.rest)
	if c.started && len(b) > 0 {
		if b[0] != ',' {
			return c.fail()
		}
		b = trimLeft(b[1:])
	}
	if len(b) == 0 {
		return false
	}
	c.started = true
	if c.named {
		key, rest := scan(b)
		rest = trimLeft(rest)
		if key.kind != text || key.cut || len(rest) == 0 || rest[0] != ':' {
			return c.fail()
		}
		c.key, b = key.raw, trimLeft(rest[1:])
	}
	if c.val, c.rest = scan(b); c.val.kind == absent {
		return c.fail()
	}
	return true
}

func (c *cursor) fail() bool {
	c.bad, c.rest = true, nil
	return false
}

// each walks v as an array; an object counts as an array of one, since some packet forwarders leave the brackets out.
func each(v value) cursor {
	if v.kind == object {
		return cursor{val: v, single: true}
	}
	if v.kind != array {
		return cursor{bad: v.kind != literal || string(v.raw) != "null"}
	}
	return walk(v)
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// str gives the text of v with its escapes resolved; ok is false if v is no text.
func (v value) str() (b []byte, ok bool) {
	if v.kind != text || v.cut {
		return nil, false
	}
	if bytes.IndexByte(v.raw, '\\') < 0 {
		return v.raw, true
	}
	quoted := make([]byte, 0, len(v.raw)+2)
	quoted = append(append(append(quoted, '"'), v.raw...), '"')
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return nil, false
	}
	return []byte(s), true
}

// float gives the number v is, or that its text spells. NaN and infinities are no numbers.
func (v value) float() (float64, bool) {
	if v.kind != literal && v.kind != text || v.cut {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(bytes.TrimSpace(v.raw)), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// integer is float rounded, exact for all integers of up to 18 digits.
func (v value) integer() (int64, bool) {
	if n, ok := digits(v.raw); ok && (v.kind == literal || v.kind == text) && !v.cut {
		return n, true
	}
	f, ok := v.float()
	if !ok || math.Abs(f) > 1<<62 {
		return 0, false
	}
	return int64(math.Round(f)), true
}

func digits(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// small is an index: 0 to 255. Anything else is no index and reads as 0.
func (v value) small() uint32 {
	n, ok := v.integer()
	if !ok || n < 0 || n > math.MaxUint8 {
		return 0
	}
	return uint32(n)
}

// label is a short text for people: at most 128 bytes of UTF-8.
func (v value) label() (string, bool) {
	b, ok := v.str()
	if v.kind == literal {
		b, ok = v.raw, true
	}
	if !ok || len(b) == 0 || len(b) > 128 || !utf8.Valid(b) {
		return "", false
	}
	return string(b), true
}
