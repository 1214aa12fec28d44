package lua

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lorikeet/messages"
)

// A script is anything. It must be refused or run within its limits, and what it gives must be JSON.
func FuzzScript(f *testing.F) {
	for _, body := range hostile {
		f.Add("function decodeUplink(input)\n"+body+"\nend", []byte{1, 2})
	}
	f.Add(typical, []byte{1, 0, 0xd7, 2, 0x6b})
	f.Add(probe, []byte{1})
	f.Fuzz(func(t *testing.T, source string, frame []byte) {
		p, err := Compile(source)
		if err != nil {
			onlyInvalid(t, err)
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		out, err := p.DecodeUplink(ctx, messages.DecodeInput{Bytes: frame, FPort: 1})
		if err != nil {
			onlyInvalid(t, err)
		} else if !json.Valid(out.Data) || out.Data[0] != '{' {
			t.Fatalf("data %s", out.Data)
		}
		encoded, err := p.EncodeDownlink(ctx, messages.EncodeInput{Data: json.RawMessage(`{"x":[1]}`)})
		if err != nil {
			onlyInvalid(t, err)
		} else if encoded.FPort == 0 || len(encoded.Bytes) > maxPayload {
			t.Fatalf("encoded %+v", encoded)
		}
	})
}

func onlyInvalid(t *testing.T, err error) {
	t.Helper()
	if e := new(messages.Error); !errors.As(err, &e) || e.Code != messages.CodeInvalid || e.Message == "" {
		t.Fatalf("error %#v", err)
	}
}

// regexpItems are pieces of patterns and what they are as regular expressions.
var regexpItems = []struct{ lua, re string }{
	{"a", "a"}, {"b", "b"}, {".", "."}, {"%d", "[0-9]"}, {"%a", "[A-Za-z]"}, {"%s", `[ \t-\r]`}, {"[ab]", "[ab]"}, {"[^a]", "[^a]"}, {"[%d-]", "[0-9-]"},
	{"[a-c1]", "[a-c1]"}, {"%.", `\.`}, {"%W", "[^A-Za-z0-9]"}, {"[]]", `\]`}, {"%x", "[0-9A-Fa-f]"}, {"%u", "[A-Z]"}, {"%L", "[^a-z]"},
}

var regexpSuffixes = []struct{ lua, re string }{{"", ""}, {"*", "*"}, {"+", "+"}, {"-", "*?"}, {"?", "?"}}

// twin builds a pattern and its regular expression from bytes.
func twin(spec []byte) (lua, re string) {
	var l, r strings.Builder
	r.WriteString("(?s)")
	open := 0
	for i, b := range spec {
		switch {
		case i == 0 && b%5 == 0:
			l.WriteByte('^')
			r.WriteByte('^')
		case b >= 250:
			l.WriteByte('(')
			r.WriteByte('(')
			open++
		case b >= 244 && open > 0:
			l.WriteByte(')')
			r.WriteByte(')')
			open--
		default:
			item, suffix := regexpItems[int(b)%len(regexpItems)], regexpSuffixes[int(b)/len(regexpItems)%len(regexpSuffixes)]
			l.WriteString(item.lua + suffix.lua)
			r.WriteString(item.re + suffix.re)
		}
	}
	l.WriteString(strings.Repeat(")", open))
	r.WriteString(strings.Repeat(")", open))
	return l.String(), r.String()
}

// Go's regular expressions prefer the same match as backtracking does, on ASCII, where a byte is a character.
func FuzzPattern(f *testing.F) {
	f.Add([]byte{1, 17, 250, 3, 245}, "ab 12.c")
	f.Add([]byte{0, 34, 50, 251, 66, 82}, "aab-1]x")
	f.Fuzz(func(t *testing.T, spec []byte, subject string) {
		if len(spec) > 12 || len(subject) > 30 {
			return
		}
		subject = strings.Map(func(r rune) rune { return r & 0x7f }, subject)
		lua, re := twin(spec)
		p := &pattern{subject: subject, pattern: lua, spend: func(int) error { return nil }}
		start, end, err := p.find(0)
		if err != nil {
			t.Fatalf("%q: %v", lua, err)
		}
		want := regexp.MustCompile(re).FindStringSubmatchIndex(subject)
		if (want == nil) != (start == noMatch) || want != nil && (want[0] != start || want[1] != end) {
			t.Fatalf("%q in %q: %d to %d, want %v as %s", lua, subject, start, end, want, re)
		}
		for i := range p.level {
			c := p.captures[i] // of length -2 if it is (), which captures the position
			if start != noMatch && (want[2*i+2] != c.start || want[2*i+3] != c.start+max(c.length, 0)) {
				t.Fatalf("%q in %q: capture %d is %+v, want %v as %s", lua, subject, i+1, c, want, re)
			}
		}
	})
}

// Any pattern ends, and any match lies in the subject.
func FuzzAnyPattern(f *testing.F) {
	f.Add("(.-)%1[^%]]*%b()%f[%w]$", "abab(x) y")
	f.Add("[]-a]", "]")
	f.Fuzz(func(t *testing.T, text, subject string) {
		steps := 0
		p := &pattern{subject: subject, pattern: text, spend: func(n int) error {
			if steps += n; steps > 1_000_000 {
				return errSteps
			}
			return nil
		}}
		start, end, err := p.find(0)
		if err != nil || start == noMatch {
			return
		}
		if start < 0 || end < start || end > len(subject) {
			t.Fatalf("%q in %q: %d to %d", text, subject, start, end)
		}
		for i := range p.level {
			_ = p.captured(i) // must lie in the subject too, or it panics
		}
	})
}

const packProgram = `
function decodeUplink(input)
  local format, at = string.unpack("s1", input.payload)
  local data = input.payload:sub(at)
  local values = table.pack(string.unpack(format, data))
  local used = values[values.n] - 1
  return {data = {again = hex.encode(string.pack(format, unpack(values, 1, values.n - 1))), used = hex.encode(data:sub(1, used)), size = select(2, pcall(string.packsize, format))}}
end`

// What can be unpacked can be packed again. It gives the same bytes if no digits were lost and all padding was zero.
func FuzzUnpack(f *testing.F) {
	f.Add("<i2 B z s1 f", []byte("\x01\x02\x03ab\x00\x02xy\x00\x00\x80\x3f"))
	f.Add(">!8 b Xi8 I6 c3 x i3", []byte(strings.Repeat("\x00\x01", 20)))
	p := mustCompile(f, packProgram)
	f.Fuzz(func(t *testing.T, format string, data []byte) {
		if len(format) > 255 {
			return
		}
		frame := append([]byte{byte(len(format))}, format...)
		out, err := p.DecodeUplink(t.Context(), messages.DecodeInput{Bytes: append(frame, data...)})
		if err != nil {
			onlyInvalid(t, err)
			return
		}
		var got struct{ Again, Used string }
		if err := json.Unmarshal(out.Data, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Again) != len(got.Used) {
			t.Fatalf("%q: %s was packed again as %s", format, got.Used, got.Again)
		}
		if !strings.ContainsAny(format, "lLjJTdnfxX!iIs") && got.Again != got.Used {
			t.Fatalf("%q: %s was packed again as %s", format, got.Used, got.Again)
		}
	})
}

// Each integer that fits comes back, in each size and order.
func TestPackedIntegersComeBack(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, `
function encodeDownlink(input) return {bytes = string.pack(input.data.format, input.data.v)} end
function decodeUplink(input) local f, at = string.unpack("s1", input.payload) return {data = {v = (string.unpack(f, input.payload, at))}} end`)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 16).Draw(t, "size")
		signed := rapid.Bool().Draw(t, "signed")
		bits := min(8*size, 53)
		v := rapid.Int64Range(0, 1<<bits-1).Draw(t, "v")
		letter := "I"
		if signed {
			v, letter = v-1<<(bits-1), "i"
		}
		format := rapid.SampledFrom([]string{"<", ">", "=", "> "}).Draw(t, "order") + letter + string(jsonNumber(size))
		down, err := p.EncodeDownlink(t.Context(), messages.EncodeInput{Data: json.RawMessage(`{"format":"` + format + `","v":` + string(jsonNumber(v)) + `}`)})
		if err != nil || len(down.Bytes) != size {
			t.Fatalf("%s %d: %x, %v", format, v, down.Bytes, err)
		}
		up, err := p.DecodeUplink(t.Context(), messages.DecodeInput{Bytes: append(append([]byte{byte(len(format))}, format...), down.Bytes...)})
		if want := `{"v":` + string(jsonNumber(v)) + `}`; err != nil || string(up.Data) != want {
			t.Fatalf("%s: %x gives %s, %v, want %s", format, down.Bytes, up.Data, err, want)
		}
	})
}

func jsonNumber[T int | int64](v T) []byte {
	b, _ := json.Marshal(v) // an integer never fails
	return b
}

func TestParseNumberAgreesWithJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64().Draw(t, "v")
		text, err := json.Marshal(v)
		if err != nil {
			return
		}
		if got, ok := parseNumber(string(text)); !ok || got != v && !math.IsNaN(v) {
			t.Fatalf("%s is read as %v, %v", text, got, ok)
		}
	})
}
