package cayennelpp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lorikeet/messages"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(t testing.TB, b []byte) string {
	t.Helper()
	out, err := DecodeUplink(messages.DecodeInput{Bytes: b, FPort: 1})
	if err != nil {
		t.Fatalf("decode %x: %v", b, err)
	}
	return string(out.Data)
}

func encode(t testing.TB, data string) messages.Encoded {
	t.Helper()
	out, err := EncodeDownlink(messages.EncodeInput{Data: json.RawMessage(data)})
	if err != nil {
		t.Fatalf("encode %s: %v", data, err)
	}
	return out
}

// vector is a line of testdata/vectors.jsonl: frames that other libraries' tests publish.
type vector struct {
	Source    string
	Dir       string
	Keys      string
	Hex       string
	Object    map[string]any
	Add       [][]any
	Converted map[string]map[string]any `json:"decoded_chirpstack"`
}

func vectors(t *testing.T) []vector {
	t.Helper()
	f, err := os.Open("testdata/vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []vector
	for s := bufio.NewScanner(f); s.Scan(); {
		var v vector
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if len(out) != 18 {
		t.Fatalf("%d vectors, want 18", len(out))
	}
	return out
}

// chirpStackNames translate that server's keys, {"temperatureSensor": {"3": 27.2}}, into ours.
var chirpStackNames = map[string]string{
	"digitalInput": "digital_in", "digitalOutput": "digital_out", "analogInput": "analog_in", "analogOutput": "analog_out",
	"genericSensor": "generic", "illuminanceSensor": "luminosity", "presenceSensor": "presence", "temperatureSensor": "temperature",
	"humiditySensor": "relative_humidity", "barometer": "barometric_pressure", "unix_time": "time", "color": "colour", "gpsLocation": "gps",
}

func flatten(object map[string]map[string]any) map[string]any {
	out := map[string]any{}
	for name, channels := range object {
		for channel, v := range channels {
			if ours := chirpStackNames[name]; ours != "" {
				name = ours
			}
			out[name+"_"+channel] = v
		}
	}
	return out
}

func (v vector) want(t *testing.T) map[string]any {
	t.Helper()
	switch {
	case v.Converted != nil:
		return flatten(v.Converted)
	case v.Keys == "chirpstack":
		nested := map[string]map[string]any{}
		for name, channels := range v.Object {
			nested[name] = channels.(map[string]any)
		}
		return flatten(nested)
	}
	return v.Object
}

func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		in := messages.DecodeInput{Bytes: unhex(t, v.Hex)}
		out, err := DecodeUplink(in)
		if strings.HasPrefix(v.Dir, "encode-downlink") {
			out, err = DecodeDownlink(in)
		}
		if err != nil {
			t.Errorf("%s %s: %v", v.Source, v.Hex, err)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(out.Data, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(v.want(t), got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", v.Source, v.Hex, diff)
		}
		// The object with its members in the order of the frame gives the frame again.
		if back := encode(t, string(out.Data)); hex.EncodeToString(back.Bytes) != v.Hex {
			t.Errorf("%s %s encodes to %x", v.Source, v.Hex, back.Bytes)
		}
	}
}

func TestDecodeUplink(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ frame, want string }{
		{"", `{}`},
		{"03670110 056700ff", `{"temperature_3":27.2,"temperature_5":25.5}`},
		{"ff00ff", `{"digital_in_255":255}`},
		{"0002 8000", `{"analog_in_0":-327.68}`},
		{"0173ffff", `{"barometric_pressure_1":6553.5}`},
		{"0174ffff 0175ffff", `{"voltage_1":655.35,"current_1":65.535}`},
		{"0164ffffffff", `{"generic_1":4294967295}`},
		{"0188 800000 7fffff ffffff", `{"gps_1":{"latitude":-838.8608,"longitude":838.8607,"altitude":-0.01}}`},
		{"0187010203", `{"colour_1":{"r":1,"g":2,"b":3}}`},
		{"0167000a 0267000b 0167000c", `{"temperature_1":1.2,"temperature_2":1.1}`},
		// 48.5 N 11.5 E on a grid of 0.0002 degrees, then one step north, then 8 south and 7 east.
		{"01f0 0a e4 03b344 00e09c 01 78", `{"polyline_1":[{"latitude":48.5,"longitude":11.5},{"latitude":48.5002,"longitude":11.5},{"latitude":48.4986,"longitude":11.5014}]}`},
	} {
		if got := decode(t, unhex(t, tc.frame)); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.frame, got, tc.want)
		}
	}
}

func TestUndecodableFramesAreRefusedWhole(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ frame, want string }{
		{"01", "byte 0 is a channel without a type"},
		{"03670110 05", "byte 4 is a channel without a type"},
		{"036701", "temperature on channel 3 at byte 0 is cut off"},
		{"00aa 01", "byte 1 is 170, no Cayenne LPP type"},
		{"03670110 0188 0102030405060708", "gps on channel 1 at byte 4 is cut off"},
		{"01f0", "polyline on channel 1 at byte 0 is cut off"},
		{"01f0 09 01 000000 000000", "polyline on channel 1 at byte 0 is cut off"},
		{"01f0 07 01 000000 000000", "impossible size or grid"},
		{"01f0 08 c8 000000 000000", "impossible size or grid"},
		{strings.Repeat("00", 256), "256 bytes are more than the 255"},
	} {
		_, err := DecodeUplink(messages.DecodeInput{Bytes: unhex(t, tc.frame)})
		wantError(t, tc.frame, err, tc.want)
	}
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%.80s: error %v, want %q", what, err, want)
	}
	if e := new(messages.Error); !errors.As(err, &e) || e.Code != messages.CodeInvalid || e.Name != "cayennelpp" {
		t.Errorf("%.80s: error %#v, want an invalid cayennelpp", what, err)
	}
}

func TestDecodeDownlink(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ frame, want string }{
		{"", `{}`},
		{"ff", `{}`},
		{"02ec45", `{"value_2":-50.51}`},
		{"010064 02ff9c ff 03", `{"value_1":1,"value_2":-1}`},
	} {
		out, err := DecodeDownlink(messages.DecodeInput{Bytes: unhex(t, tc.frame)})
		if err != nil || string(out.Data) != tc.want {
			t.Errorf("%s gives %s, %v; want %s", tc.frame, out.Data, err, tc.want)
		}
	}
	for frame, want := range map[string]string{"02ec": "byte 0 starts a value that is cut off", "02ec4503": "byte 3 starts a value", strings.Repeat("01", 258): "258 bytes are more"} {
		_, err := DecodeDownlink(messages.DecodeInput{Bytes: unhex(t, frame)})
		wantError(t, frame, err, want)
	}
}

func TestEncodeDownlink(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ data, want string }{
		{`{"value_2":-50.51}`, "02ec45"},
		{`{"value_2":1,"value_1":2.004}`, "020064" + "0100c8"},
		{`{"temperature_3":27.2}`, "03670110"},
		{`{"gps_1":{"altitude":10,"latitude":42.3519,"longitude":-87.9094}}`, "018806765ff2960a0003e8"},
		{`{"accelerometer_6":{"x":1.234,"y":-1.234,"z":0}}`, "067104d2fb2e0000"},
		{`{"gyrometer_1":{"x":0,"y":0,"z":-4.1}}`, "0186" + "00000000fe66"},
		{`{"humidity_2":54.3,"pressure_1":1073.5,"color_1":{"r":1,"g":2,"b":3},"unix_time_0":4294967295}`, "02686d" + "017329ef" + "0187010203" + "0085ffffffff"},
		{`{"switch_5":true,"digital_out_1":false}`, "058e01" + "010100"},
		{`{"polyline_9":[{"latitude":1,"longitude":-1}]}`, "09f00801002710ffd8f0"},
		{`{"polyline_9":[{"latitude":1,"longitude":-1},{"latitude":1.0007,"longitude":-1.0008}]}`, "09f00901002710ffd8f087"},
	} {
		got := encode(t, tc.data)
		if hex.EncodeToString(got.Bytes) != tc.want || got.FPort != 1 || got.Warnings != nil {
			t.Errorf("%s gives %x on FPort %d (%q), want %s on 1", tc.data, got.Bytes, got.FPort, got.Warnings, tc.want)
		}
	}
	out, err := EncodeDownlink(messages.EncodeInput{FPort: 15, Data: json.RawMessage(`{"note":"hot","value_3":1,"value_x":2,"speed_1":3}`)})
	if err != nil || out.FPort != 15 || hex.EncodeToString(out.Bytes) != "030064" || len(out.Warnings) != 3 || !strings.Contains(out.Warnings[0], `"note" left out`) {
		t.Errorf("got %+v, %v: want the value alone on FPort 15, with three warnings", out, err)
	}
}

func TestWhatCanNotBeEncodedIsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ data, want string }{
		{``, "not an object"},
		{`[1]`, "not an object"},
		{`{"value_1":`, "not an object"},
		{`{"value_1":1`, "not an object"},
		{`{}`, "nothing to encode"},
		{`{"other":1}`, "nothing to encode"},
		{`{"value_1":"2"}`, `value_1 is "2": give a number`},
		{`{"value_1":null}`, `value_1 is null: give a number`},
		{`{"value_1":327.68}`, "value_1 is 327.68: give a number from -327.68 to 327.67"},
		{`{"value_255":1}`, "255 ends a downlink"},
		{`{"temperature_1":1e300}`, "give a number from -3276.8 to 3276.7"},
		{`{"humidity_1":-1}`, "give a number from 0 to 127.5"},
		{`{"presence_1":256}`, "give a number from 0 to 255"},
		{`{"gps_1":3}`, "gps_1: give an object of latitude, longitude, altitude"},
		{`{"gps_1":{"latitude":1,"longitude":2}}`, "gps_1.altitude is missing"},
		{`{"value_1":1,"temperature_1":1}`, "value_1 and temperature_1 are of two formats"},
		{`{"polyline_1":[]}`, "give a list of 1 to 248 points"},
		{`{"polyline_1":[{"latitude":1}]}`, "point 1: give a latitude"},
		{`{"polyline_1":[{"latitude":0,"longitude":0},{"latitude":9,"longitude":0}]}`, "more than 7 degrees apart"},
		{tooLong(), "more than the 255"},
	} {
		_, err := EncodeDownlink(messages.EncodeInput{Data: json.RawMessage(tc.data)})
		wantError(t, tc.data, err, tc.want)
	}
}

func tooLong() string {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `,"value_%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}

func TestNoNumberPrintsMoreDigitsThanItsResolution(t *testing.T) {
	t.Parallel()
	for raw := range 1 << 16 {
		got := decode(t, []byte{1, 103, byte(raw >> 8), byte(raw)})
		if want := fmt.Sprintf(`{"temperature_1":%s}`, strings.TrimSuffix(fmt.Sprintf("%.1f", float64(int16(raw))/10), ".0")); got != want {
			t.Fatalf("raw %d gives %s, want %s", raw, got, want)
		}
	}
}

// drawFrame is a frame in which no name and channel comes twice.
func drawFrame(t *rapid.T) []byte {
	var b []byte
	type id struct{ channel, code byte }
	seen := map[id]bool{}
	for range rapid.IntRange(0, 12).Draw(t, "values") {
		q := rapid.SampledFrom(quantities).Draw(t, "quantity")
		v := id{rapid.Byte().Draw(t, "channel"), q.code}
		if seen[v] || q.code == polylineCode {
			continue
		}
		seen[v] = true
		b = append(b, v.channel, v.code)
		for _, f := range q.fields {
			b = append(b, rapid.SliceOfN(rapid.Byte(), f.size, f.size).Draw(t, "raw")...)
		}
	}
	return b
}

func TestEncodeInvertsDecode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		frame := drawFrame(t)
		if len(frame) == 0 {
			return
		}
		out, err := DecodeUplink(messages.DecodeInput{Bytes: frame})
		if err != nil {
			t.Fatal(err)
		}
		back, err := EncodeDownlink(messages.EncodeInput{Data: out.Data})
		if err != nil || !bytes.Equal(back.Bytes, frame) {
			t.Fatalf("%x decodes to %s, which encodes to %x, %v", frame, out.Data, back.Bytes, err)
		}
	})
}

func TestPolylineKeepsItsPoints(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lat, lon := rapid.IntRange(-9e5, 9e5).Draw(t, "latitude"), rapid.IntRange(-18e5, 18e5).Draw(t, "longitude")
		var b strings.Builder
		b.WriteString(`{"polyline_1":`)
		for i := range rapid.IntRange(1, 248).Draw(t, "points") {
			fmt.Fprintf(&b, `%c{"latitude":%v,"longitude":%v}`, "[,"[min(i, 1)], float64(lat)/1e4, float64(lon)/1e4)
			lat = min(max(lat+rapid.IntRange(nibbleMin, nibbleMax).Draw(t, "north"), -9e5), 9e5)
			lon = min(max(lon+rapid.IntRange(nibbleMin, nibbleMax).Draw(t, "east"), -18e5), 18e5)
		}
		b.WriteString("]}")
		out, err := EncodeDownlink(messages.EncodeInput{Data: json.RawMessage(b.String())})
		if err != nil {
			if strings.Contains(err.Error(), "more than the 255") {
				return // channel, type and the longest polyline do not fit together
			}
			t.Fatal(err)
		}
		back, err := DecodeUplink(messages.DecodeInput{Bytes: out.Bytes})
		if err != nil || string(back.Data) != b.String() {
			t.Fatalf("%s comes back as %s, %v", b.String(), back.Data, err)
		}
	})
}

func FuzzDecodeUplink(f *testing.F) {
	for _, s := range []string{"", "03670110", "01f00ae403b34400e09c0178", "018806765ff2960a0003e8"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if down, err := DecodeDownlink(messages.DecodeInput{Bytes: b}); err == nil && !json.Valid(down.Data) {
			t.Fatalf("downlink %x gives %s", b, down.Data)
		}
		out, err := DecodeUplink(messages.DecodeInput{Bytes: b})
		if err != nil {
			return
		}
		var object map[string]any
		if err := json.Unmarshal(out.Data, &object); err != nil {
			t.Fatalf("%x gives %s: %v", b, out.Data, err)
		}
		if len(b) == 0 || bytes.Contains(out.Data, []byte("polyline")) {
			return // points off the map decode, but are not encoded
		}
		back, err := EncodeDownlink(messages.EncodeInput{Data: out.Data})
		if err != nil || decode(t, back.Bytes) != string(out.Data) {
			t.Fatalf("%x decodes to %s, which encodes to %x, %v", b, out.Data, back.Bytes, err)
		}
	})
}

func BenchmarkDecodeUplink(b *testing.B) {
	in := messages.DecodeInput{Bytes: unhex(b, "0367011002686c018806765ff2960a0003e8"), FPort: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeUplink(in); err != nil {
			b.Fatal(err)
		}
	}
}
