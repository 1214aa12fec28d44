package lua

import (
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
)

func TestLibraryFunctions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ expression, want string }{
		// What Lua 5.1 has of its own.
		{`type(nil) .. type(1) .. type("") .. type({}) .. type(print)`, `"nilnumberstringtablefunction"`},
		{`select("#", 1, nil, 3)`, `3`},
		{`select(2, "a", "b")`, `"b"`},
		{`{pcall(error, "x")}`, `[false,"x"]`},
		{`{pcall(error, {code = 5})}`, `[false,{"code":5}]`},
		{`{xpcall(function() error("x") end, function(e) return e .. "y" end)}`, `[false,"xy"]`},
		{`{assert(1, 2)}`, `[1,2]`},
		{`tostring(1) .. tostring(1.5) .. tostring(true) .. tostring(nil)`, `"11.5truenil"`},
		{`rawget(setmetatable({}, {__index = function() return 1 end}), "x") == nil`, `true`},
		{`setmetatable({}, {__index = {x = 5}}).x`, `5`},
		{`rawequal({}, {})`, `false`},
		{`{next({})}`, `{}`},
		{`(function() local n = 0 for k, v in pairs({1, 2, x = 3}) do n = n + v end return n end)()`, `6`},
		{`(function() local n = 0 for i, v in ipairs({1, 2, nil, 4}) do n = n + v end return n end)()`, `3`},
		{`(function(...) return select("#", ...) end)(unpack({1, 2, 3}))`, `3`},
		{`_VERSION`, `"Lua 5.1"`},
		{`tonumber("0xff") + tonumber("1e2") + tonumber("7", 8)`, `362`},
		{`{tonumber(nil)}`, `{}`},
		{`10 .. ""`, `"10"`},
		{`1 .. 2 .. "x" .. 3.5`, `"12x3.5"`},
		{`("x" .. (function() return "a", "b" end)())`, `"xa"`},
		{`setmetatable({}, {__concat = function(a, b) return "joined " .. b end}) .. "x" .. "y"`, `"joined xy"`},
		{`"w" .. "x" .. setmetatable({}, {__concat = function(a, b) return a .. "!" end})`, `"wx!"`},
		{`(function(...) return "x" .. ... end)("a", "b")`, `"xa"`},
		{`(function() local n = 0 local function f() n = n + 1 return n % 10, "no" end return ` + strings.Repeat("f() .. ", 119) + `f() end)()`,
			`"` + strings.Repeat("1234567890", 12) + `"`},
		{`string.format("%d %x", 2^63, 2^63)`, `"-9223372036854775808 8000000000000000"`},
		{`os.date("%s%n%t", 5)`, `"5\n\t"`},
		{`(function() goto done do return 1 end ::done:: return 2 end)()`, `2`},
		{`7 % 3 + -7 % 3`, `3`},
		{`2 ^ 10`, `1024`},
		{`#"abc" + #{1, 2}`, `5`},

		{`("abc"):upper():rep(2):sub(2, -2)`, `"BCAB"`},
		{`("abc"):len()`, `3`},
		{`("a,b,,c"):find(",", 1, true)`, `2`},
		{`("a+b"):find("+b", 1, true)`, `2`},
		{`{("k1=v1, k2=v2"):match("(%w+)=(%w+)")}`, `["k1","v1"]`},
		{`(function() local out = {} for k, v in ("a=1,b=2"):gmatch("(%w)=(%w)") do out[k] = v end return out end)()`, `{"a":"1","b":"2"}`},
		{`(function() local out = {} for w in ("one two"):gmatch("%a+") do out[#out + 1] = w end return out end)()`, `["one","two"]`},
		{`(function() local n = 0 for p in ("abc"):gmatch("()") do n = n + p end return n end)()`, `10`},
		{`("hello"):gsub("l", {l = "L"})`, `"heLLo"`},
		{`("hello"):gsub("(h)(e)", function(a, b) return b .. a end)`, `"ehllo"`},
		{`("hello"):gsub("l", function() return nil end)`, `"hello"`},
		{`("hello"):gsub("l", function() return false end)`, `"hello"`},
		{`{("hello"):gsub("l", 1)}`, `["he11o",2]`},
		{`("abc"):gsub("%w", "%0%0", 2)`, `"aabbc"`},
		{`string.format("%02X %5.2f %s %q %d%%", 10, 1.5, "x", "y", 7.9)`, `"0A  1.50 x \"y\" 7%"`},
		{`string.format("%x", -1)`, `"ffffffffffffffff"`},
		{`string.char(72, 105)`, `"Hi"`},
		{`{("ABC"):byte(1, -1)}`, `[65,66,67]`},
		{`string.pack(">I2", 258) == "\1\2"`, `true`},
		{`{string.unpack("<I2 b", "\1\2\255")}`, `[513,-1,4]`},
		{`(string.unpack("J", ("\255"):rep(8)))`, `18446744073709552000`},
		{`string.packsize("<i4 i2")`, `6`},

		{`table.concat({1, "b", 2.5}, "-")`, `"1-b-2.5"`},
		{`table.concat({1, 2, 3}, ",", 2, 3)`, `"2,3"`},
		{`table.concat({}, ",")`, `""`},
		{`(function() local t = {1, 2} table.insert(t, 3) table.insert(t, 1, 0) return t end)()`, `[0,1,2,3]`},
		{`(function() local t = {1, 2, 3} t[3] = nil return {table.remove(t), table.remove(t, 1), table.remove(t), #t} end)()`, `{"1":2,"2":1,"4":0}`},
		{`(function() local t = {3, 1, 2} table.sort(t) return t end)()`, `[1,2,3]`},
		{`(function() local t = {"b", "a"} table.sort(t, function(a, b) return a > b end) return t end)()`, `["b","a"]`},
		{`table.maxn({[1] = 1, [10] = 2, [-3] = 1})`, `10`},
		{`table.getn({1, 2})`, `2`},
		{`table.pack(1, nil, 3).n`, `3`},
		{`{table.unpack({1, 2, 3}, 2)}`, `[2,3]`},

		{`math.floor(-1.5) + math.ceil(1.2) + math.abs(-3) + math.max(1, 5, 2) + math.min(4, 2)`, `10`},
		{`math.huge > 1e308 and -math.huge < 0`, `true`},
		{`string.format("%.4f", math.pi)`, `"3.1416"`},
		{`math.random() < 1 and math.random(3) <= 3 and math.random(5, 5)`, `5`},
		{`math.fmod(-7, 3)`, `-1`},
		{`{math.log(1), math.log(1000, 10), math.log(8, 2), math.log(5, 5)}`, `[0,3,3,1]`},
		{`{math.modf(-2.5)}`, `[-2,-0.5]`},

		{`bit32.band(0xff, 0x3c) + bit32.bor(1, 2) + bit32.bxor(5, 1)`, `67`},
		{`bit32.bnot(0)`, `4294967295`},
		{`bit32.band()`, `4294967295`},
		{`bit32.lshift(1, 31)`, `2147483648`},
		{`bit32.lshift(1, 32)`, `0`},
		{`bit32.lshift(0xff, -4)`, `15`},
		{`bit32.rshift(0x80000000, 31)`, `1`},
		{`bit32.arshift(0x80000000, 4)`, `4160749568`},
		{`bit32.arshift(0x80000000, 40)`, `4294967295`},
		{`bit32.arshift(1, -1)`, `2`},
		{`bit32.lrotate(0x80000001, 1)`, `3`},
		{`bit32.rrotate(1, 1)`, `2147483648`},
		{`bit32.extract(0xab, 4, 4)`, `10`},
		{`bit32.extract(0xffffffff, 0, 32)`, `4294967295`},
		{`bit32.replace(0xf0, 5, 0, 4)`, `245`},
		{`bit32.btest(6, 1)`, `false`},
		{`bit32.band(-1, 0xffff)`, `65535`},
		{`bit.band(2^32 + 5, 7)`, `5`},

		{`hex.encode("\1\171")`, `"01ab"`},
		{`hex.encode(input.bytes)`, `"01020304"`},
		{`hex.decode("01 AB-cd:ef") == "\1\171\205\239"`, `true`},
		{`base64.encode({1, 2, 255})`, `"AQL/"`},
		{`hex.encode(base64.decode("AQL_") .. base64.decode("AQI=") .. base64.decode("AQI"))`, `"0102ff01020102"`},
		{`json.encode({a = {1, 2}, b = json.null, c = json.array({}), d = {}, e = 1.5})`, `"{\"a\":[1,2],\"b\":null,\"c\":[],\"d\":{},\"e\":1.5}"`},
		{`json.decode('{"a":[1,2,{"b":null}],"c":"\\u00e9","d":[],"e":{},"f":true,"g":-1.5e2}')`, `{"a":[1,2,{"b":null}],"c":"é","d":[],"e":{},"f":true,"g":-150}`},
		{`json.decode("null") == json.null`, `true`},
		{`json.array()`, `[]`},
		{`json.object({1, 2})`, `{"1":1,"2":2}`},
		{`bytes.u8(input.bytes, 4) + bytes.i8({255}) + bytes.u16le(input.bytes, 1) + bytes.u16be(input.bytes, 1)`, `774`},
		{`{bytes.u24le("\1\2\3"), bytes.u24be("\1\2\3"), bytes.i24le("\255\255\255"), bytes.i24be("\128\0\0")}`, `[197121,66051,-1,-8388608]`},
		{`{bytes.u32le("\255\255\255\255"), bytes.u32be("\0\0\1\0"), bytes.i32le("\255\255\255\255"), bytes.i32be("\128\0\0\0")}`, `[4294967295,256,-1,-2147483648]`},
		{`{bytes.i16le({0, 128}), bytes.i16be({255, 254})}`, `[-32768,-2]`},
		{`{bytes.f32be({0x42, 0x28, 0, 0}), bytes.f32le({0, 0, 0x28, 0x42}), bytes.f64be({0x40, 0x45, 0, 0, 0, 0, 0, 0}), bytes.f64le({0, 0, 0, 0, 0, 0, 0x45, 0x40})}`, `[42,42,42,42]`},
		{`bytes.tostring({72, 105})`, `"Hi"`},
		{`bytes.tostring({72, 105, 33}, 2, 3)`, `"i!"`},
		{`bytes.fromstring("\1\2")`, `[1,2]`},
		{`cayennelpp.decode({3, 0x67, 1, 0x10})`, `{"temperature_3":27.2}`},
		{`cayennelpp.decode("\3\103\1\16")`, `{"temperature_3":27.2}`},
		{`hex.encode(cayennelpp.encode({temperature_3 = 27.2, digital_out_1 = 1}))`, `"01010103670110"`},
		{`hex.encode(cayennelpp.encode({value_2 = -50.51}))`, `"02ec45"`},
		{`{log.info("x"), log.warn("y"), print("z")}`, `{}`},

		{`os.time({year = 2026, month = 1, day = 2, hour = 3, min = 4, sec = 5})`, `1767323045`},
		{`os.time({year = 2026, month = 1, day = 2})`, `1767355200`},
		{`os.date("%Y-%m-%dT%H:%M:%SZ", 1767323045)`, `"2026-01-02T03:04:05Z"`},
		{`os.date("!%a %A %b %B %d %j %p %I %y %w %%", 1767323045)`, `"Fri Friday Jan January 02 002 AM 03 26 5 %"`},
		{`os.date("*t", 1767323045).yday + os.date("!*t", 0).year`, `1972`},
		{`os.date("%c", 0)`, `"Thu Jan  1 00:00:00 1970"`},
		{`os.difftime(5, 3)`, `2`},
		{`os.time() > 1.7e9`, `true`},
	} {
		if got := value(t, tc.expression); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.expression, got, tc.want)
		}
	}
}

func TestLibraryErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ statement, want string }{
		{`error("sensor broken")`, "sensor broken"},
		{`error({})`, "the script called error with a table"},
		{`error()`, "value expected"},
		{`local x = nil x.y = 1`, "script:2: attempt to index a non-table object(nil) with key 'y'"},
		{`local x = 1 + nil`, "script:2:"},
		{`local x = "a" .. nil`, "script:2: attempt to concatenate a nil value"},
		{`local x = {} .. "a"`, "attempt to concatenate a table value"},
		{`undefined()`, "script:2: attempt to call a non-function object"},
		{`setmetatable(1, {})`, "table expected"},
		{`setmetatable(json.null, {})`, "table expected"},
		{`setmetatable(setmetatable({}, {__metatable = 1}), {})`, "protected metatable"},
		{`tonumber("1", 99)`, "base out of range"},
		{`string.rep("x", 300000)`, "a string of 300000 bytes is too long: at most 262144"},
		{`string.char(256)`, "a byte is 0 to 255"},
		{`string.find("a", "[a")`, "malformed pattern (missing ']')"},
		{`string.find("a", "%")`, "malformed pattern (ends with '%')"},
		{`string.find("a", "(a")`, "unfinished capture"},
		{`string.find("a", "(a))")`, "invalid pattern capture"},
		{`string.find("a", "%1")`, "invalid capture index"},
		{`string.find("a", "%b")`, "write two characters after %b"},
		{`string.find("a", "%fa")`, "missing '[' after '%f'"},
		{`string.find("a", ("()"):rep(33))`, "too many captures"},
		{`string.find(("a"):rep(300), ("a?"):rep(300))`, "pattern too complex"},
		{`string.gsub("a", "a", "%2")`, "invalid capture index"},
		{`string.gsub("a", "a", function() return {} end)`, "invalid replacement value (a table)"},
		{`string.gsub("a", "a", true)`, "string, function or table expected"},
		{`string.format("%d", {})`, "number expected"},
		{`string.format("%d", 0/0)`, "no integer representation"},
		{`string.format("%z", 1)`, "invalid conversion %z"},
		{`string.format("%5")`, "has no conversion"},
		{`string.format("%100d", 1)`, "invalid conversion"},
		{`string.pack("I2", 65536)`, "65536 does not fit into 2 bytes"},
		{`string.unpack("I2", "x")`, "data string too short"},
		{`table.concat({{}})`, "invalid value (table) at index 1"},
		{`table.concat({1}, "", 1, 2)`, "invalid value (nil) at index 2"},
		{`table.insert({}, 5, 1)`, "position out of bounds"},
		{`table.insert({})`, "wrong number of arguments"},
		{`table.sort({1, "a"})`, "attempt to compare"},
		{`unpack({}, 1, 9000)`, "too many results to unpack"},
		{`math.random(0)`, "the interval of random is empty"},
		{`bit32.extract(1, 32)`, "non-existent bits"},
		{`bit32.extract(1, -1)`, "field cannot be negative"},
		{`bit32.extract(1, 0, 0)`, "width must be positive"},
		{`hex.decode("abc")`, "hex.decode: "},
		{`base64.decode("!")`, "base64.decode: "},
		{`json.decode("{")`, "json.decode: "},
		{`json.decode("1 2")`, "there is more after the JSON value"},
		{`json.decode(("["):rep(33))`, "nested more than 32 deep"},
		{`json.encode({f = print})`, "json.encode: value.f is a function"},
		{`json.encode(json.array({x = 1}))`, "was given to json.array but has keys that are not 1 to n"},
		{`bytes.u16be(input.bytes, 4)`, "2 byte(s) at position 4 are not in the 4 bytes of the data"},
		{`bytes.u8(input.bytes, 0)`, "1 byte(s) at position 0"},
		{`bytes.u8({300})`, "element 1 of the list is 300"},
		{`bytes.tostring({-1})`, "element 1 of the list is -1"},
		{`bytes.u8(5.5, 9)`, "1 byte(s) at position 9"},
		{`cayennelpp.decode("\1\99")`, "cayennelpp.decode: byte 1 is 99"},
		{`cayennelpp.encode({})`, "cayennelpp.encode: nothing to encode"},
		{`os.time({year = 2026})`, "field 'month' missing"},
		{`os.date("%Q")`, "invalid conversion specifier '%Q'"},
		{`os.date("%")`, "invalid conversion specifier '%'"},
		{`os.date("%Y", 1e12)`, "time out of range"},
	} {
		_, err := decodeUplink(t, "function decodeUplink(input)\n"+tc.statement+"\nreturn {data = {}} end", "01020304")
		wantError(t, tc.statement, err, "formatter_error", tc.want)
	}
}

// What a sandbox must not have.
func TestNothingDangerousIsThere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"dofile", "loadfile", "load", "loadstring", "require", "module", "newproxy", "collectgarbage", "getfenv", "setfenv", "_printregs",
		"io", "debug", "package", "channel", "coroutine", "os.execute", "os.exit", "os.getenv", "os.remove", "os.rename", "os.tmpname", "os.setlocale",
		"string.dump", "math.randomseed",
	} {
		if got := value(t, name+" == nil"); got != "true" {
			t.Errorf("%s is there", name)
		}
	}
	// The same through _G, which opens everything.
	source := `function decodeUplink() local names = {} for k in pairs(_G) do names[#names + 1] = k end table.sort(names) return {data = {v = table.concat(names, " ")}} end`
	out, err := decodeUplink(t, source, "")
	want := `{"v":"\u0000concat _G _VERSION assert base64 bit bit32 bytes cayennelpp decodeUplink error getmetatable hex ipairs json log math next os pairs pcall print rawequal rawget rawset select setmetatable string table tonumber tostring type unpack xpcall"}`
	if err != nil || string(out.Data) != want {
		t.Errorf("globals\n got %s, %v\nwant %s", out.Data, err, want)
	}
}

// spoilers change all that a script can reach.
var spoilers = []string{
	`string.upper = nil string.extra = 1 function string.trim() end`,
	`local s = string s.upper = nil s.extra = 1`,
	`_G.string.upper = nil _G.extra = 1 rawset(_G, "pairs", nil)`,
	`getmetatable("").__index.upper = nil getmetatable("").__index = nil getmetatable("").__add = function() return 1 end`,
	`for _, t in ipairs({string, table, math, bit32, bytes, hex, base64, json, cayennelpp, log, os}) do for k in pairs(t) do t[k] = nil end setmetatable(t, {__index = function() return 5 end}) end`,
	`json.null = 1 math.pi = 3 os.time = nil table["concat"] = nil`,
	`extra = (extra or 0) + 1 pairs = nil tostring = function() return "spoilt" end`,
	`function string:spoil() end rawset(json, "null", 7)`,
	`string.upper, bytes.u8 = nil, 1`,
}

const probe = `
count = (count or 0) + 1
function decodeUplink(input)
  return {data = {count = count, extra = tostring(extra) .. tostring(string.extra), upper = ("a"):upper() .. string.upper("b"), pi = math.pi, null = json.null,
    byte = bytes.u8(input.bytes), pairs = type(pairs), concat = table.concat({1}), added = pcall(function() return "x" + 1 end)}}
end`

func TestACallLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	want := `{"added":false,"byte":1,"concat":"1","count":1,"extra":"nilnil","null":null,"pairs":"function","pi":3.141592653589793,"upper":"AB"}`
	clean := mustCompile(t, probe)
	for _, spoiler := range spoilers {
		spoilt := mustCompile(t, probe+"\nlocal decode = decodeUplink function decodeUplink(input) if input.bytes[1] == 9 then "+spoiler+" return {data = {}} end return decode(input) end")
		for _, p := range []*Program{clean, spoilt} {
			if _, err := spoilt.DecodeUplink(t.Context(), input(t, "09")); err != nil {
				t.Errorf("%s: %v", spoiler, err)
			}
			out, err := p.DecodeUplink(t.Context(), input(t, "01"))
			if err != nil || string(out.Data) != want {
				t.Errorf("after %s\n got %s, %v\nwant %s", spoiler, out.Data, err, want)
			}
		}
	}
}

func TestAProgramServesManyGoroutines(t *testing.T) {
	t.Parallel()
	programs := []*Program{mustCompile(t, typical), mustCompile(t, probe), mustCompile(t, typical+" string.x = 1 all = _G")}
	done := make(chan error)
	for range 8 {
		go func() {
			var failed error
			for i := range 100 {
				if _, err := programs[i%len(programs)].DecodeUplink(t.Context(), input(t, "0100d7")); err != nil {
					failed = err
				}
			}
			done <- failed
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	source := `-- input.device
function decodeUplink(input) input.payload = hex.encode(input.payload) return {data = input} end`
	in := input(t, "00ff")
	rssi, snr := float32(-113), float32(-7.2)
	in.FCnt, in.RSSI, in.SNR = 7, &rssi, &snr
	in.FormatterDevice = messages.FormatterDevice{
		Device: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, DevEUI: messages.EUI64{0x70, 0xb3}, Attributes: map[string]string{"offset": "1.5"},
		VersionIDs: &messages.VersionIDs{BrandID: "acme", BandID: "EU_863_870"},
	}
	const device = `{"attributes":{"offset":"1.5"},"ids":{"application_ids":{"application_id":"app"},"dev_eui":"70B3000000000000","device_id":"dev"},` +
		`"version_ids":{"band_id":"EU_863_870","brand_id":"acme"}}`
	out, err := mustCompile(t, source).DecodeUplink(t.Context(), in)
	want := `{"bytes":[0,255],"device":` + device + `,"fCnt":7,"fPort":2,"f_cnt":7,"payload":"00ff","recvTime":1767323045.25,"recvTimeISO":"2026-01-02T03:04:05.25Z",` +
		`"rssi":-113,"snr":-7.2,"variables":{"offset":"1.5"}}`
	if err != nil || string(out.Data) != want {
		t.Errorf("got %s, %v\nwant %s", out.Data, err, want)
	}
	in = input(t, "")
	in.RecvTime = time.Time{}
	out, err = mustCompile(t, source).DecodeUplink(t.Context(), in)
	if want := `{"bytes":{},"device":{"attributes":{},"ids":{"application_ids":{}},"version_ids":{}},"fCnt":0,"fPort":2,"f_cnt":0,"payload":"","variables":{}}`; err != nil || string(out.Data) != want {
		t.Errorf("got %s, %v\nwant %s", out.Data, err, want)
	}
}
