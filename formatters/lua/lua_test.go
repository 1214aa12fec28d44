package lua

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
)

func hexBytes(s string) ([]byte, error) { return hex.DecodeString(strings.ReplaceAll(s, " ", "")) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hexBytes(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustCompile(t testing.TB, source string) *Program {
	t.Helper()
	p, err := Compile(source)
	if err != nil {
		t.Fatalf("%v\n%s", err, source)
	}
	return p
}

// decodeUplink compiles and runs a script.
func decodeUplink(t testing.TB, source, frame string) (messages.Decoded, error) {
	t.Helper()
	return mustCompile(t, source).DecodeUplink(t.Context(), input(t, frame))
}

func input(t testing.TB, frame string) messages.DecodeInput {
	return messages.DecodeInput{Bytes: unhex(t, frame), FPort: 2, RecvTime: time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC)}
}

// value runs a script whose result is the value of an expression, and gives it as JSON.
func value(t testing.TB, expression string) string {
	t.Helper()
	out, err := decodeUplink(t, "function decodeUplink(input) return {data = {v = "+expression+"}} end", "01020304")
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(out.Data), `{"v":`), "}")
}

func wantError(t *testing.T, what string, err error, name, text string) {
	t.Helper()
	var e *messages.Error
	if !errors.As(err, &e) || e.Code != messages.CodeInvalid || e.Name != name || !strings.Contains(e.Message, text) {
		t.Errorf("%.200s\n got error %v\nwant %s with %q", what, err, name, text)
	}
}

const typical = `
local types = {
  [1] = {name = "temperature", size = 2, read = function(b, i) return bytes.i16be(b, i) / 10 end},
  [2] = {name = "humidity", size = 1, read = function(b, i) return bytes.u8(b, i) / 2 end},
  [3] = {name = "battery", size = 2, read = function(b, i) return bytes.u16le(b, i) / 1000 end},
  [4] = {name = "flags", size = 1, read = function(b, i)
    local f = b[i]
    return {motion = bit32.btest(f, 1), door = bit32.btest(f, 2), tamper = bit32.extract(f, 7) == 1}
  end},
}
function decodeUplink(input)
  local data, i, b = {}, 1, input.bytes
  while i <= #b do
    local t = types[b[i]]
    if not t then return {errors = {"unknown type " .. b[i] .. " at " .. i}} end
    data[t.name] = t.read(b, i + 1)
    i = i + 1 + t.size
  end
  data.port = input.fPort
  return {data = data, warnings = {}}
end
function encodeDownlink(input)
  return {bytes = {1, math.floor(input.data.interval / 256), input.data.interval % 256}, fPort = 10}
end
`

func TestTypicalCodec(t *testing.T) {
	t.Parallel()
	out, err := decodeUplink(t, typical, "01 00d7 02 6b 03 e40c 04 81")
	want := `{"battery":3.3,"flags":{"door":false,"motion":true,"tamper":true},"humidity":53.5,"port":2,"temperature":21.5}`
	if err != nil || string(out.Data) != want || out.Warnings != nil {
		t.Errorf("got %s %q, %v\nwant %s", out.Data, out.Warnings, err, want)
	}
	_, err = decodeUplink(t, typical, "0900")
	wantError(t, "unknown type", err, "formatter_error", "unknown type 9 at 1")
	down, err := mustCompile(t, typical).EncodeDownlink(context.Background(), messages.EncodeInput{Data: json.RawMessage(`{"interval":600}`)})
	if err != nil || hex.EncodeToString(down.Bytes) != "010258" || down.FPort != 10 {
		t.Errorf("got %+v, %v", down, err)
	}
}

func BenchmarkDecodeUplink(b *testing.B) {
	p, in := mustCompile(b, typical), input(b, "01 00d7 02 6b 03 e40c 04 81")
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.DecodeUplink(ctx, in); err != nil {
			b.Fatal(err)
		}
	}
}
