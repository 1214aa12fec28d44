package formatters_test

import (
	"strings"
	"testing"

	"lorikeet/formatters"
	"lorikeet/formatters/formatterstest"
	"lorikeet/messages"
)

func TestJavaScriptKeepsTheContract(t *testing.T) {
	t.Parallel()
	formatterstest.Run(t, formatters.Config{Timeout: timeout}, javaScript)
}

func TestLuaKeepsTheContract(t *testing.T) {
	t.Parallel()
	formatterstest.Run(t, formatters.Config{Timeout: timeout}, lua)
}

func jsBody(body string) string { return "function decodeUplink(input) { " + body + " }" }

var javaScript = formatterstest.Scripts{
	Kind: messages.FormatterJavaScript,
	Thermometer: `
function decodeUplink(input) {
	var b = input.bytes;
	if (input.fPort === 99) throw new Error('unknown port ' + input.fPort);
	if (b.length < 3) return {errors: ['too short']};
	var raw = b[0] << 8 | b[1];
	return {
		data: {temperature: (raw > 0x7fff ? raw - 0x10000 : raw) / 10, battery: b[2], port: input.fPort, received: input.recvTime},
		warnings: b[2] < 20 ? ['battery low'] : [],
	};
}
function normalizeUplink(input) { return {data: {air: {temperature: input.data.temperature}}}; }
function encodeDownlink(input) {
	var n = input.data.interval;
	if (n === undefined) return {errors: ['interval is missing']};
	return input.data.keep ? {bytes: [n >> 8, n]} : {bytes: [n >> 8, n], fPort: 10};
}
function decodeDownlink(input) { return {data: {interval: input.bytes[0] << 8 | input.bytes[1]}}; }`,
	Counter: `var n = 0; function decodeUplink() { n++; var before = [1].slice(0).length; Array.prototype.slice = null; Object.prototype.temperature = 5; return {data: {n: n * before}}; }`,
	Broken:  "var a = 1;\nfunction decodeUplink(input) {\n return {data: ;\n}",
	Empty:   `var a = 1;`,
	Refused: map[string]string{
		jsBody(`return {data: 5}`):                      "data must be an object",
		jsBody(`return`):                                "must return an object",
		jsBody(`var a = {}; a.a = a; return {data: a}`): "circular",
		jsBody(`var a = {}; for (var i = 0; i < 200; i++) a = {a: a}; return {data: a}`): "deeper",
		jsBody(`return {data: {s: 'x'.repeat(300000)}}`):                                 "262144",
		jsBody(`return {data: {}, warnings: 5}`):                                         "warnings",
		jsBody(`return {errors: ['']}`):                                                  "no reason",
	},
	Hostile: map[string]string{
		"loop":                  jsBody(`for (;;);`),
		"loop in the top level": `for (;;);`,
		"loop that catches":     jsBody(`for (;;) { try { for (;;); } catch (e) { } finally { for (;;); } }`),
		"recursion":             jsBody(`return decodeUplink(input) + 1`),
		"recursion of getters":  jsBody(`var o = {get data() { return this.data }}; return o`),
		"recursion of toString": jsBody(`var o = {toString: function () { return '' + this }}; return {data: {s: '' + o}}`),
		"recursion of sort":     jsBody(`function f() { return [2, 1].sort(f) } return {data: f()}`),
		"recursion of proxies":  jsBody(`var p = new Proxy({}, {}); for (var i = 0; i < 1e6; i++) p = new Proxy(p, {}); return {data: {x: p.x}}`),
		"regular expression":    jsBody(`return {data: {n: /^(?=(a+)+$)b/.test('a'.repeat(40) + '!'), m: /(a|aa)+(?=b)\1/.test('a'.repeat(200))}}`),
		"array of 1e9":          jsBody(`return {data: {a: new Array(1e9).fill(1)}}`),
		"join of 1e9":           jsBody(`return {data: {s: new Array(1e9).join('x')}}`),
		"array-like":            jsBody(`return {data: {n: Array.prototype.indexOf.call({length: 9e15}, 1)}}`),
		"sparse sort":           jsBody(`var a = []; a[4294967294] = 1; return {data: {a: a.sort()}}`),
		"spread":                jsBody(`return {data: {n: Math.max(...new Array(5e7))}}`),
		"repeat":                jsBody(`return {data: {n: 'x'.repeat(1 << 30).length, s: 'y'.repeat(1e6)}}`),
		"padEnd":                jsBody(`return {data: {n: 'x'.padEnd(1 << 30, 'ab')}}`),
		"doubling":              jsBody(`var s = 'x'; for (;;) s += s`),
		"array that grows":      jsBody(`var a = []; for (;;) a.push({a: [1, 2, 3]})`),
		"typed array":           jsBody(`var a = []; for (;;) a.push(new Uint8Array(1 << 26).fill(1))`),
		"BigInt":                jsBody(`return {data: {n: String((1n << 200000000n) ** 3n)}}`),
		"replace":               jsBody(`var s = 'x'.repeat(1e6); return {data: {s: s.replace(/x/g, '$&'.repeat(1e4))}}`),
		"nested JSON":           jsBody(`return {data: {n: JSON.parse('['.repeat(3e6))}}`),
		"nested eval":           jsBody(`return {data: {n: eval('('.repeat(1e6))}}`),
		"nested source":         strings.Repeat("(", 250<<10),
		"nested arrays":         "var a = " + strings.Repeat("[", 120<<10) + strings.Repeat("]", 120<<10),
		"nested blocks":         strings.Repeat("{", 120<<10) + strings.Repeat("}", 120<<10),
		"nested not":            "var a = " + strings.Repeat("!", 250<<10) + "1",
		"throw that loops":      jsBody(`throw {toString: function () { for (;;); }, get message() { for (;;); }}`),
		"result that loops":     jsBody(`return {data: {toJSON: function () { for (;;); }}}`),
		"result that is huge":   jsBody(`var d = {}; for (var i = 0; i < 1e5; i++) d['key' + i] = i; return {data: d}`),
		"result of proxies":     jsBody(`return {data: new Proxy({}, {ownKeys: function () { for (;;); }})}`),
		"jobs without end":      jsBody(`(function f() { Promise.resolve().then(f) })(); return {data: {}}`),
		"Promise for ever":      jsBody(`return new Promise(function () {})`),
		"generator":             jsBody(`function* g() { for (;;) yield 1 } for (var x of g());`),
		"Date":                  jsBody(`var d = new Date(); for (;;) d = new Date(d.toISOString())`),
	},
	Hang: jsBody(`return {data: {n: /(a|aa)+(?=b)\1/.test('a'.repeat(200))}}`),
}

func luaBody(body string) string { return "function decodeUplink(input)\n" + body + "\nend" }

var lua = formatterstest.Scripts{
	Kind: messages.FormatterLua,
	Thermometer: `
function decodeUplink(input)
	local b = input.bytes
	if input.fPort == 99 then error('unknown port ' .. input.fPort) end
	if #b < 3 then return {errors = {'too short'}} end
	local warnings = {}
	if b[3] < 20 then warnings[1] = 'battery low' end
	local raw = b[1] * 256 + b[2]
	if raw > 0x7fff then raw = raw - 0x10000 end
	return {data = {temperature = raw / 10, battery = b[3], port = input.fPort, received = string.sub(input.recvTimeISO, 1, 19) .. '.000Z'}, warnings = warnings}
end
function normalizeUplink(input) return {data = {air = {temperature = input.data.temperature}}} end
function encodeDownlink(input)
	local n = input.data.interval
	if n == nil then return {errors = {'interval is missing'}} end
	local out = {bytes = {math.floor(n / 256), n % 256}}
	if not input.data.keep then out.fPort = 10 end
	return out
end
function decodeDownlink(input) return {data = {interval = input.bytes[1] * 256 + input.bytes[2]}} end`,
	Counter: `n = 0 function decodeUplink() n = n + 1 local before = #string.rep('x', 1) string.rep = nil return {data = {n = n * before}} end`,
	Broken:  "local a = 1\nfunction decodeUplink(input)\n return {data = = 1}\nend",
	Empty:   `local a = 1`,
	Refused: map[string]string{
		luaBody(`return {data = 5}`):                      "data",
		luaBody(`return`):                                 "decodeUplink",
		luaBody(`local a = {} a.a = a return {data = a}`): "data",
		luaBody(`local a = {} for i = 1, 200 do a = {a = a} end return {data = a}`):           "data",
		luaBody(`return {data = {s = string.rep('x', 200000), t = string.rep('x', 200000)}}`): "262144",
		luaBody(`return {data = {}, warnings = 5}`):                                           "warnings",
		luaBody(`error('')`): "no reason",
	},
	Hostile: map[string]string{
		"loop":                    luaBody(`while true do end`),
		"loop in the top level":   `while true do end`,
		"loop that catches":       luaBody(`while true do pcall(function() while true do end end) end`),
		"recursion":               luaBody(`return decodeUplink(input) .. 'x'`),
		"tail calls":              luaBody(`return decodeUplink(input)`),
		"recursion of metatables": luaBody(`local t = setmetatable({}, {__index = function(t, k) return t[k .. 'x'] end}) return {data = {x = t.x}}`),
		"recursion of sort":       luaBody(`local function f() table.sort({3, 2, 1}, f) end f()`),
		"pattern":                 luaBody(`return {data = {n = string.find(string.rep('a', 5000), string.rep('a-', 20) .. 'b')}}`),
		"many patterns":           luaBody(`while true do string.find(string.rep('a', 1000), '.-.-.-b') end`),
		"rep":                     luaBody(`return {data = {s = string.rep('x', 2^30)}}`),
		"rep of nothing":          luaBody(`while true do string.rep('', 2^30) end`),
		"doubling":                luaBody(`local s = 'x' while true do s = s .. s end`),
		"table that grows":        luaBody(`local t = {} while true do t[#t + 1] = {1, 2, 3} end`),
		"table of strings":        luaBody(`local t = {} for i = 1, 1e7 do t[i] = string.rep('x', 1000) .. i end`),
		"sparse table":            luaBody(`local t = {} for i = 1, 60 do t[2^i] = 1 end while true do t[#t + 1e6] = 1 end`),
		"concat":                  luaBody(`local t = {} for i = 1, 1000 do t[i] = string.rep('x', 1000) end while true do table.concat(t) end`),
		"unpack":                  luaBody(`return {data = {n = select('#', unpack({}, 1, 1e8))}}`),
		"gsub":                    luaBody(`return {data = {s = string.gsub(string.rep('x', 1e5), 'x', string.rep('y', 1e4))}}`),
		"format":                  luaBody(`return {data = {s = string.format('%99999999d', 1)}}`),
		"nested tables":           "local a = " + strings.Repeat("{", 120<<10) + strings.Repeat("}", 120<<10),
		"nested parentheses":      "local a = " + strings.Repeat("(", 120<<10) + "1" + strings.Repeat(")", 120<<10),
		"nested not":              "local a = " + strings.Repeat("not ", 60<<10) + "1",
		"nested functions":        strings.Repeat("function f() ", 12<<10) + strings.Repeat("end ", 12<<10),
		"nested blocks":           strings.Repeat("do ", 40<<10) + strings.Repeat("end ", 40<<10),
		"error with a table":      luaBody(`error(setmetatable({}, {__tostring = function() while true do end end}))`),
		"result that is huge":     luaBody(`local d = {} for i = 1, 1e5 do d['key' .. i] = i end return {data = d}`),
		"result that loops":       luaBody(`return {data = setmetatable({}, {__index = function() while true do end end}), warnings = 5}`),
		"loadstring":              luaBody(`return {data = {n = loadstring(string.rep('(', 1e6))}}`),
		"os.exit":                 luaBody(`os.exit(1)`),
	},
	Hang: luaBody(`while true do end`),
}
