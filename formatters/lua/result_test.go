package lua

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lorikeet/messages"
)

func TestTablesBecomeJSON(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ expression, want string }{
		{`{}`, `{}`},
		{`{1, 2, 3}`, `[1,2,3]`},
		{`{1, nil, 3}`, `{"1":1,"3":3}`},
		{`{[2] = 2}`, `{"2":2}`},
		{`{[0] = 0, 1}`, `{"0":0,"1":1}`},
		{`{1, 2, x = 3}`, `{"1":1,"2":2,"x":3}`},
		{`{[1] = "a", [2] = "b"}`, `["a","b"]`},
		{`{b = 1, a = 2, B = 3}`, `{"B":3,"a":2,"b":1}`},
		{`{[1.5] = 1, [true] = 2, [-1] = 3}`, `{"-1":3,"1.5":1,"true":2}`},
		{`{{}, {{}}}`, `[{},[{}]]`},
		{`1`, `1`}, {`-0`, `0`}, {`1.0`, `1`}, {`0.1 + 0.2`, `0.30000000000000004`}, {`27.2`, `27.2`}, {`1e20`, `100000000000000000000`}, {`1e21`, `1e+21`},
		{`1e-7`, `1e-07`}, {`2^53`, `9007199254740992`}, {`-1.5e-6`, `-0.0000015`},
		{`true`, `true`}, {`"a\"\\\n\t\r\0é/<"`, `"a\"\\\n\t\r\u0000é/<"`},
		{`json.null`, `null`},
		{`json.array({})`, `[]`}, {`json.array({1})`, `[1]`}, {`json.object({1})`, `{"1":1}`}, {`json.object({})`, `{}`},
		{`(function() local t = {} return {t, t} end)()`, `[{},{}]`},
		{`setmetatable({x = 1}, {__index = {y = 2}, __len = function() return 9 end})`, `{"x":1}`},
	} {
		if got := value(t, tc.expression); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.expression, got, tc.want)
		}
	}
}

func TestDecodedResults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		result, data string
		warnings     []string
	}{
		{`{data = {x = 1}}`, `{"x":1}`, nil},
		{`{data = {}, errors = {}, warnings = {}}`, `{}`, nil},
		{`{data = {5, 6}}`, `{"1":5,"2":6}`, nil},
		{`{data = {}, warnings = {"a", 5, true}}`, `{}`, []string{"a", "5", "true"}},
		{`{data = {}, warnings = "a"}`, `{}`, []string{"a"}},
		{`{data = {}, errors = "", warnings = false}`, `{}`, nil},
		{`{data = {x = 0/0, y = {1/0}}}`, `{"x":null,"y":[null]}`, []string{
			"data.x is not a finite number and became null: check for a division by zero",
			"data.y[1] is not a finite number and became null: check for a division by zero"}},
		{`{data = {x = "\255a"}}`, "{\"x\":\"\ufffda\"}", []string{"data.x is not UTF-8 text; what is not was replaced: use hex.encode for raw bytes"}},
		{`{data = {}}, 5`, `{}`, nil},
	} {
		out, err := decodeUplink(t, "function decodeUplink(input) return "+tc.result+" end", "01")
		if err != nil || string(out.Data) != tc.data {
			t.Errorf("%s\n got %s, %v\nwant %s", tc.result, out.Data, err, tc.data)
		}
		if diff := cmp.Diff(tc.warnings, out.Warnings); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", tc.result, diff)
		}
	}
}

func TestBadResultsAreRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ result, name, want string }{
		{`{errors = {"too hot", "too wet"}, data = {}}`, "formatter_error", "too hot; too wet"},
		{`{errors = "too hot"}`, "formatter_error", "too hot"},
		{`nil`, "formatter_output", "decodeUplink: returned a nil: return a table"},
		{`5`, "formatter_output", "returned a number"},
		{`"text"`, "formatter_output", "returned a string"},
		{`{temperature = 5}`, "formatter_output", "data is a nil: return a table"},
		{`{data = 5}`, "formatter_output", "data is a number"},
		{`{data = "text"}`, "formatter_output", "data is a string"},
		{`{data = json.null}`, "formatter_output", "data is a userdata"},
		{`{data = {f = print}}`, "formatter_output", "data.f is a function"},
		{`{data = {a = {b = {1, print}}}}`, "formatter_output", "data.a.b[2] is a function"},
		{`{data = {[{}] = 1}}`, "formatter_output", "data has a key that is a table"},
		{`{data = {[1] = 1, ["1"] = 2}}`, "formatter_output", `data has the key "1" twice`},
		{`{data = {}, warnings = 5}`, "formatter_output", "warnings is a number: return a list of strings"},
		{`{data = {}, warnings = {{}}}`, "formatter_output", "warnings[1] is a table"},
		{`{data = {}, warnings = {x = "a"}}`, "formatter_output", "warnings is not a list"},
		{`{data = {}, errors = {x = "a"}}`, "formatter_output", "errors is not a list"},
		{`{data = {}, errors = true}`, "formatter_output", "errors is true"},
		{`{data = json.array({x = 1})}`, "", ""},
		{`{data = {x = json.array({x = 1})}}`, "formatter_output", "data.x was given to json.array"},
		{`{data = {x = ("x"):rep(200000), y = ("x"):rep(200000)}}`, "formatter_output", "larger than 262144 bytes"},
	} {
		_, err := decodeUplink(t, "function decodeUplink(input) return "+tc.result+" end", "01")
		if tc.name == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.result, err)
			}
			continue
		}
		wantError(t, tc.result, err, tc.name, tc.want)
	}
	deep := "local t = {} for i = 1, 40 do t = {t} end function decodeUplink() return {data = t} end"
	_, err := decodeUplink(t, deep, "")
	wantError(t, deep, err, "formatter_output", "is nested more than 32 deep")
	cyclic := "local t = {x = {}} t.x[1] = t function decodeUplink() return {data = t} end"
	_, err = decodeUplink(t, cyclic, "")
	wantError(t, cyclic, err, "formatter_output", "data.x[1] contains itself")
}

func TestMissingFunctions(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, "decodeUplink = 5")
	_, err := p.DecodeUplink(t.Context(), input(t, ""))
	wantError(t, "decodeUplink", err, "formatter_function", "the script has no function decodeUplink")
	_, err = p.DecodeDownlink(t.Context(), input(t, ""))
	wantError(t, "decodeDownlink", err, "formatter_function", "the script has no function decodeDownlink")
	_, err = p.EncodeDownlink(t.Context(), messages.EncodeInput{Data: json.RawMessage(`{}`)})
	wantError(t, "encodeDownlink", err, "formatter_function", "the script has no function encodeDownlink")
	_, err = mustCompile(t, `error("at the top")`).DecodeUplink(t.Context(), input(t, ""))
	wantError(t, "top level", err, "formatter_error", "at the top")
}

func TestNormalizeUplink(t *testing.T) {
	t.Parallel()
	const decode = "function decodeUplink(input) return {data = {t = 21.5}, warnings = {\"low\"}} end\n"
	for _, tc := range []struct {
		result   string
		want     []string
		warnings []string
	}{
		{`{data = {air = {temperature = input.data.t}}}`, []string{`{"air":{"temperature":21.5}}`}, nil},
		{`{data = {{soil = {depth = 5}}, {soil = {depth = 10}}}, warnings = {"w"}}`, []string{`{"soil":{"depth":5}}`, `{"soil":{"depth":10}}`}, []string{"w"}},
		{`{data = {}}`, []string{}, nil},
		{`{warnings = {"nothing to tell"}}`, []string{}, []string{"nothing to tell"}},
	} {
		out, err := decodeUplink(t, decode+"function normalizeUplink(input) input.data.u = 1 return "+tc.result+" end", "01")
		if err != nil || string(out.Data) != `{"t":21.5}` || len(out.Warnings) != 1 {
			t.Errorf("%s: %s %q, %v", tc.result, out.Data, out.Warnings, err)
		}
		got := []string{}
		for _, m := range out.Normalized {
			got = append(got, string(m))
		}
		if diff := cmp.Diff(tc.want, got) + cmp.Diff(tc.warnings, out.NormalizedWarnings); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.result, diff)
		}
	}
	for result, want := range map[string]string{
		`nil`:                                    "normalizeUplink: returned a nil",
		`{errors = {"no"}}`:                      "normalizeUplink: no",
		`{data = 5}`:                             "normalizeUplink: data is a number",
		`{data = {1, 2}}`:                        "data[1] is a number: make each measurement a table",
		`{data = {air = {temperature = print}}}`: "data.air.temperature is a function",
		`error("x")`:                             "normalizeUplink: x",
	} {
		out, err := decodeUplink(t, decode+"function normalizeUplink(input) return "+result+" end", "01")
		if err == nil || string(out.Data) != `{"t":21.5}` || out.Normalized != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: data %s, normalized %s %q, %v", result, out.Data, out.Normalized, out.NormalizedWarnings, err)
		}
	}
	_, err := decodeUplink(t, decode+"function normalizeUplink(input) while true do end end", "01")
	wantError(t, "endless normalizeUplink", err, "formatter_limit", "")
	out, err := decodeUplink(t, decode, "01")
	if err != nil || out.Normalized != nil {
		t.Errorf("without normalizeUplink: %s, %v", out.Normalized, err)
	}
}

func TestDecodeDownlink(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, "function decodeDownlink(input) return {data = {interval = bytes.u16be(input.bytes), port = input.fPort}} end")
	out, err := p.DecodeDownlink(t.Context(), input(t, "0102"))
	if err != nil || string(out.Data) != `{"interval":258,"port":2}` {
		t.Errorf("got %s, %v", out.Data, err)
	}
}

func encodeDownlink(t testing.TB, result, data string, fPort uint8) (messages.Encoded, error) {
	t.Helper()
	p := mustCompile(t, "function encodeDownlink(input) local data = input.data return "+result+" end")
	return p.EncodeDownlink(t.Context(), messages.EncodeInput{Data: json.RawMessage(data), FPort: fPort})
}

func TestEncodedResults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		result, data string
		fPort        uint8
		want         string
		wantPort     uint8
		warnings     []string
	}{
		{`{bytes = {1, 2}}`, `{}`, 0, "0102", 1, nil},
		{`{bytes = {1, 2}}`, `{}`, 7, "0102", 7, nil},
		{`{bytes = {1, 2}, fPort = 10}`, `{}`, 7, "0102", 10, nil},
		{`{bytes = {}}`, `{}`, 0, "", 1, nil},
		{`{bytes = "\0\255"}`, `{}`, 0, "00ff", 1, nil},
		{`{bytes = {-1, 1.9, 255.5}, warnings = {"w"}}`, `{}`, 0, "ff01ff", 1, []string{"w"}},
		{`{bytes = {256, -129}}`, `{}`, 0, "007f", 1, []string{"bytes[1] is 256 and was cut to 8 bits", "bytes[2] is -129 and was cut to 8 bits"}},
		{`{bytes = {data.list[2], #data.list, data.o.x, data.n == json.null and 1 or 0, data.b and 1 or 0, #data.s}}`, `{"list":[5,6],"o":{"x":7},"n":null,"b":true,"s":"é"}`, 0, "060207010102", 1, nil},
		{`{bytes = {input.fPort}}`, `{}`, 9, "09", 9, nil},
		{`{bytes = cayennelpp.encode(data)}`, `{"value_1":1}`, 9, "010064", 9, nil},
	} {
		got, err := encodeDownlink(t, tc.result, tc.data, tc.fPort)
		if err != nil || hex.EncodeToString(got.Bytes) != tc.want || got.FPort != tc.wantPort {
			t.Errorf("%s\n got %x on %d, %v\nwant %s on %d", tc.result, got.Bytes, got.FPort, err, tc.want, tc.wantPort)
		}
		if diff := cmp.Diff(tc.warnings, got.Warnings); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", tc.result, diff)
		}
	}
	for _, tc := range []struct{ result, data, name, want string }{
		{`{}`, `{}`, "formatter_output", "bytes is a nil: return a list"},
		{`{bytes = 5}`, `{}`, "formatter_output", "bytes is a number"},
		{`{bytes = {1, "2"}}`, `{}`, "formatter_output", `bytes[2] is 2: make it a number`},
		{`{bytes = {1, nil, 3}}`, `{}`, "formatter_output", "bytes[2] is nil"},
		{`{bytes = {0/0}}`, `{}`, "formatter_output", "bytes[1] is NaN"},
		{`{bytes = {x = 1}}`, `{}`, "formatter_output", "bytes is not a list"},
		{`{bytes = {[0] = 1, 2}}`, `{}`, "formatter_output", "bytes[1] is the first"},
		{`{bytes = ("x"):rep(256)}`, `{}`, "formatter_output", "256 bytes are more than the 255"},
		{`{bytes = {("x"):rep(300):byte(1, -1)}}`, `{}`, "formatter_output", "300 bytes are more than the 255"},
		{`{bytes = {1}, fPort = 0}`, `{}`, "formatter_output", "fPort is 0: return a whole number from 1 to 255"},
		{`{bytes = {1}, fPort = 256}`, `{}`, "formatter_output", "fPort is 256"},
		{`{bytes = {1}, fPort = 1.5}`, `{}`, "formatter_output", "fPort is 1.5"},
		{`{bytes = {1}, fPort = 0/0}`, `{}`, "formatter_output", "fPort is NaN"},
		{`{bytes = {1}, fPort = "1"}`, `{}`, "formatter_output", "fPort is a string"},
		{`{errors = {"no such mode"}}`, `{}`, "formatter_error", "no such mode"},
		{`{bytes = {1}}`, `{"a":`, "formatter_error", "decoded_payload: unexpected EOF"},
		{`{bytes = {1}}`, ``, "formatter_error", "decoded_payload: unexpected EOF"},
		{`{bytes = {1}}`, strings.Repeat("[", 40) + strings.Repeat("]", 40), "formatter_error", "nested more than 32 deep"},
	} {
		_, err := encodeDownlink(t, tc.result, tc.data, 0)
		wantError(t, tc.result, err, tc.name, tc.want)
	}
}

func TestCompileErrorsSayWhereAndWhat(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ source, want string }{
		{"x = 1\ny = = 2", `line 2: syntax error near "="`},
		{"x = 1\nfunction f(", "line 2: the script ends too early"},
		{"x = \"abc", "line 1: the script ends too early"},
		{"x = 'abc\ny = 1", `unterminated string near "abc"`},
		{"local a = b & 1", "line 1: the operator & is of Lua 5.3; this is Lua 5.1: write bit32.band(a, b)"},
		{"\nlocal a = b | 1", "line 2: the operator | is of Lua 5.3; this is Lua 5.1: write bit32.bor(a, b)"},
		{"local a = b ~ 1", "write bit32.bxor(a, b)"},
		{"local a = ~b", "bit32.bnot(a)"},
		{"local a = b << 1", "write bit32.lshift(a, n)"},
		{"local a = b >> 1", "write bit32.rshift(a, n)"},
		{"local a = b // 1", "write math.floor(a / b)"},
		{`x = "\z"`, `line 1: \z in a string is of Lua 5.3`},
		{"\n\nx = '\\u{41}'", `line 3: \u in a string is of Lua 5.3`},
		{`x = "\xg1"`, `\x in a string needs two hexadecimal digits`},
		{`x = "\x"`, `\x in a string needs two hexadecimal digits`},
		{"goto nowhere", "no visible label 'nowhere'"},
		{"break", "no loop to break"},
		{"x = 0x", "illegal hexadecimal number"},
		{"local x <const> = 1", `line 1: syntax error near "<"`},
		{"for i = 1 do end", "line 1: syntax error"},
		{strings.Repeat(" ", messages.MaxFormatterSource+1), fmt.Sprintf("the script has %d bytes", messages.MaxFormatterSource+1)},
	} {
		_, err := Compile(tc.source)
		wantError(t, tc.source, err, "formatter_compile", tc.want)
	}
	for _, source := range []string{"", "-- nothing", "x = {1, 2 > 1, 3 < 4, 8 / 2, a ~= b}", "x = '<<' .. \">>\" --[[ // & ]] .. '//'", "goto a ::a::", "\nx = 1 -- 5 // 2",
		"x = {" + strings.Repeat("-1, ", 5000) + "}", strings.Repeat("f('a' .. b)\n", 5000), strings.Repeat("x = x .. 'a' - -1\n", 3000), strings.Repeat("if #a > 1 then f(-a) end\n", 3000)} {
		if _, err := Compile(source); err != nil {
			t.Errorf("%q: %v", source, err)
		}
	}
}

func TestHexadecimalEscapes(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`"\x01\xAb\xff0" .. '\x00'`:                     "01abff3000",
		`"\\x41\"\x42" .. [[\x43]] --[[ "\x44" ]]`:      "5c7834312242" + "5c783433",
		`"\x41\` + "\r\n" + `\x42"`:                     "410a42",
		"\"a\" -- '\\x'\r\n .. \"\\x41\" ..\n\r'\\x42'": "614142",
		`"é" .. "\x41"`:                                 "c3a941",
	} {
		if got := value(t, "hex.encode("+source+"\n)"); got != `"`+want+`"` {
			t.Errorf("%s is %s, want %s", source, got, want)
		}
	}
}

// A value that goes in as JSON and comes out again is the same.
func TestJSONGoesThroughLuaUnchanged(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, "function decodeUplink(input) return {data = {v = json.decode(input.payload)}} end")
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"1", "true", "", "\x00", "é\"\\/"}))
	var drawn *rapid.Generator[any]
	drawn = rapid.Custom(func(t *rapid.T) any {
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return rapid.Float64().Draw(t, "number")
		case 3:
			return float64(rapid.Int32().Draw(t, "integer"))
		case 4:
			return rapid.SliceOfN(drawn, 0, 3).Draw(t, "list")
		case 5:
			return rapid.MapOfN(text, drawn, 0, 3).Draw(t, "object")
		}
		return text.Draw(t, "text")
	})
	rapid.Check(t, func(t *rapid.T) {
		v := drawn.Draw(t, "value")
		in, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(in, []byte("["))+bytes.Count(in, []byte("{")) > 25 {
			return // may be nested too deep
		}
		out, err := p.DecodeUplink(t.Context(), messages.DecodeInput{Bytes: in})
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		var got struct{ V any }
		if err := json.Unmarshal(out.Data, &got); err != nil {
			t.Fatalf("%s became %s: %v", in, out.Data, err)
		}
		var want any
		if err := json.Unmarshal(in, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.V); diff != "" {
			t.Fatalf("%s became %s:\n%s", in, out.Data, diff)
		}
	})
}
