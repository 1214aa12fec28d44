package lua

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
)

// hostile are scripts whose decodeUplink must end by itself, with an error or a harmless result.
var hostile = map[string]string{
	"endless loop":         `while true do end`,
	"endless goto":         `::again:: goto again`,
	"endless repeat":       `repeat local x = 1 until false`,
	"endless for":          `for i = 1, math.huge do end`,
	"endless top level":    `end while true do end function f()`,
	"pcall loop":           `while true do pcall(function() while true do end end) end`,
	"pcall of pcall":       `local function f() pcall(f) f() end while true do pcall(pcall, f) end`,
	"xpcall handler loops": `xpcall(function() error("x") end, function() while true do end end)`,
	"xpcall in handler":    `local function f() xpcall(f, f) error(f) end while true do xpcall(f, f) end`,
	"errors in a loop":     `local function f(n) if n > 0 then f(n - 1) else error("x") end end while true do pcall(f, 150) end`,
	"recursion":            `local function f() return 1 + f() end f()`,
	"tail recursion":       `local function f() return f() end f()`,
	"mutual recursion":     `local g local function f() g() end g = function() pcall(f) end g()`,
	"callback recursion":   `local function f() table.sort({3, 2, 1}, function(a, b) f() return a < b end) end f()`,
	"gsub recursion":       `local function f(s) return (s:gsub(".", f)) end f("xx")`,
	"tostring recursion":   `local t = setmetatable({}, {}) getmetatable(t).__tostring = function(x) return tostring(x) end tostring(t)`,
	"index recursion":      `local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) local x = t[1]`,
	"index chain":          `local t = {} for i = 1, 200 do t = setmetatable({}, {__index = t}) end while true do local x = t.y end`,
	"index cycle":          `local t = {} setmetatable(t, {__index = t}) while true do pcall(function() return t.x end) end`,
	"concat recursion":     `local t = setmetatable({}, {}) getmetatable(t).__concat = function(a, b) return a .. b end local x = t .. t`,
	"call recursion":       `local t = setmetatable({}, {}) getmetatable(t).__call = function(x) return x() end t()`,
	"eq recursion":         `local m = {} m.__eq = function(a, b) return a == b end local a, b = setmetatable({}, m), setmetatable({}, m) local x = a == b`,
	"string doubling":      `local s = "xxxxxxxx" while true do s = s .. s end`,
	"kept strings":         `local t, s = {}, string.rep("x", 200000) for i = 1, 1e9 do t[i] = s .. i end`,
	"pcall doubling":       `local s, t = "xxxxxxxx", {} while true do pcall(function() s = s .. s end) t[#t + 1] = s .. #t end`,
	"concat chain":         `local s = string.rep("x", 100000) while true do local x = s .. s .. s .. s .. s end`,
	"rep":                  `while true do pcall(string.rep, "x", 1e9) pcall(string.rep, "", 1e15) pcall(string.rep, "x", 1/0) pcall(string.rep, "x", 0/0) end`,
	"rep of rep":           `local t = {} while true do t[#t + 1] = ("x"):rep(200000) end`,
	"table bomb":           `local t = {} for i = 1, 1e9 do t[i] = {} end`,
	"nested table bomb":    `local t = {} while true do t = {t, {}, {}} end`,
	"sparse table":         `local t = {} for i = 1, 1e9 do t[i] = {} t[i][16000] = 1 end`,
	"huge index":           `local t = {} while true do t = {t} t[67108863] = 1 t[1e15] = 1 t[2^53] = 1 end`,
	"many keys":            `local t = {} for i = 1, 1e9 do t["k" .. i] = i end`,
	"float keys":           `local t = {} for i = 1, 1e9 do t[i + 0.5] = i end`,
	"dead keys":            `local t = {} for i = 1, 2e5 do t["k" .. i] = 1 t["k" .. i] = nil end while true do next(t) end`,
	"closures":             `local t = {} for i = 1, 1e9 do t[i] = function() return i end end`,
	"insert at the front":  `local t = {} while true do table.insert(t, 1, 0) end`,
	"remove at the front":  `local t = {} for i = 1, 60000 do t[i] = i end while true do table.remove(t, 1) table.insert(t, 1) end`,
	"pack many":            `local function f(...) return f(1, ...) end f()`,
	"varargs":              `local function f(n, ...) if n > 0 then return f(n - 1, ..., ...) end end f(150, 1, 2, 3)`,
	"unpack huge":          `while true do pcall(unpack, {}, 1, 1e8) pcall(unpack, {}, -1e300, 1e300) pcall(unpack, {}, 0/0, 1) end`,
	"unpack doubling":      `local t = {1} while true do t = {unpack(t), unpack(t)} for i = 1, 7000 do t[i] = t end end`,
	"table.concat":         `local t, s = {}, ("x"):rep(100000) for i = 1, 1000 do t[i] = s end while true do pcall(table.concat, t, s) end`,
	"concat huge range":    `while true do pcall(table.concat, {}, "x", 1, 1e15) pcall(table.concat, setmetatable({}, {__index = function() return "x" end}), "", 1, 1e15) end`,
	"sort long strings":    `local t = {} for i = 1, 100 do t[i] = ("x"):rep(200000 + i % 2) end while true do table.sort(t) end`,
	"sort without order":   `local t = {} for i = 1, 1000 do t[i] = i end while true do table.sort(t, function() return true end) end`,
	"compare long strings": `local a, b = ("x"):rep(260000) .. "a", ("x"):rep(260000) .. "b" while a < b do end`,
	"pattern bomb":         `local s = ("a"):rep(30000) s:find((".-"):rep(20) .. "b")`,
	"pattern bomb stars":   `("a"):rep(30000):match(("a*"):rep(30) .. "b")`,
	"pattern bomb marks":   `("a"):rep(200):match(("a?"):rep(100) .. ("a"):rep(100) .. "b")`,
	"balance bomb":         `local s = ("("):rep(200000) while true do s:find("%b()") end`,
	"back reference bomb":  `local s = ("a"):rep(200000) s:find("(.*)%1%1%1b")`,
	"frontier bomb":        `local s = ("a b "):rep(50000) while true do s:gsub("%f[%w]%w*%f[%W]", "") end`,
	"long set":             `local s, p = ("a"):rep(200000), "[" .. ("b"):rep(200000) .. "]*c" s:find(p)`,
	"open set":             `while true do pcall(string.find, "a", "[" .. ("]"):rep(200000)) end`,
	"deep pattern":         `while true do pcall(string.find, "a", ("("):rep(200000)) pcall(string.match, ("a"):rep(200000), ("a?"):rep(100000)) end`,
	"gmatch for ever":      `while true do for a in ("x"):rep(1000):gmatch("()") do end end`,
	"gsub amplification":   `local s = ("x"):rep(500) while true do pcall(string.gsub, s, ".", s) pcall(string.gsub, s, "", s) pcall(string.gsub, s, "(.*)", "%1%1%1%1%1%1") end`,
	"gsub doubling":        `local s = "xx" while true do s = s:gsub(".", "%0%0") end`,
	"gsub to a function":   `local t = {} while true do ("x"):rep(1000):gsub(".", function(c) t[#t + 1] = c .. #t return c:rep(1000) end) end`,
	"format width":         `while true do pcall(string.format, "%99999999d", 1) pcall(string.format, ("%99d"):rep(10000), unpack({}, 1, 7000)) end`,
	"format doubling":      `local s = "xx" while true do s = string.format("%s%s", s, s) end`,
	"string.byte all":      `while true do pcall(string.byte, ("x"):rep(200000), 1, -1) end`,
	"string.char":          `while true do local s = string.char(unpack({("x"):rep(7000):byte(1, -1)})) end`,
	"string.pack":          `while true do pcall(string.pack, "c1000000000", "x") pcall(string.pack, ("x"):rep(200000)) pcall(string.pack, "!16" .. ("Xi16"):rep(1000)) end`,
	"string.unpack":        `local s = ("x"):rep(200000) while true do pcall(string.unpack, ("B"):rep(200000), s) pcall(string.unpack, ("x"):rep(200000), s) end`,
	"json.decode deep":     `while true do pcall(json.decode, ("["):rep(200000)) pcall(json.decode, ('{"a":'):rep(40000)) end`,
	"json.decode wide":     `local s, t = "[" .. ("{},"):rep(60000) .. "{}]", {} while true do t[#t + 1] = json.decode(s) end`,
	"json.decode strings":  `local s = '"' .. ("\\u0041"):rep(40000) .. '"' while true do json.decode(s) end`,
	"json.encode":          `local t = {} for i = 1, 60000 do t[i] = i end while true do pcall(json.encode, t) end`,
	"json.encode bomb":     `local t = {1} for i = 1, 30 do t = {t, t} end while true do pcall(json.encode, t) end`,
	"json.array":           `while true do json.array({}) end`,
	"codecs":               `local s = ("x"):rep(250000) while true do pcall(hex.encode, s) pcall(base64.encode, s) pcall(hex.decode, s) pcall(base64.decode, s) end`,
	"bytes":                `local s = ("x"):rep(65000) while true do bytes.fromstring(s) bytes.tostring(bytes.fromstring(s)) end`,
	"cayennelpp":           `while true do pcall(cayennelpp.decode, ("\0"):rep(255)) pcall(cayennelpp.decode, ("\0"):rep(255000)) pcall(cayennelpp.encode, {value_1 = 1}) end`,
	"os.date":              `while true do pcall(os.date, ("%c"):rep(100000)) pcall(os.date, "%Y", 1e300) pcall(os.time, {year = 1e300}) end`,
	"error objects":        `error(setmetatable({}, {__tostring = function() while true do end end}))`,
	"long error":           `error(("x"):rep(250000))`,
	"errors without end":   `local t = {} for i = 1, 60000 do t[i] = "x" end return {errors = t}`,
	"warnings":             `local t = {} for i = 1, 60000 do t[i] = "x" end return {data = {}, warnings = t}`,
	"cycle":                `local t = {} t.t = t return {data = t}`,
	"deep result":          `local t = {} for i = 1, 100000 do t = {t} end return {data = t}`,
	"wide result":          `local t = {} for i = 1, 60000 do t[i] = {x = i} end return {data = t}`,
	"result bomb":          `local t = {1} for i = 1, 30 do t = {t, t} end return {data = t}`,
	"metatables in result": `local loop = function() while true do end end local m = {__index = loop, __len = loop, __tostring = loop, __pairs = loop, __call = loop}
	                         return setmetatable({data = setmetatable({x = setmetatable({}, m)}, m)}, m)`,
	"functions in result": `return {data = {f = print}}`,
	"long keys":           `local t = {} for i = 1, 100 do t[("x"):rep(200000) .. i] = 1 end return {data = t}`,
	"shared tables":       `string.rep = nil table.insert = nil math.pi = 3 bytes.u8 = nil json.null = nil`,
	"a global lost":       `_G.pcall, _G._G, _G["\0concat"] = nil, nil, function(a, b) return a .. b end local x = "a" .. 1`,
}

// patience is far more than anything here takes, as the machine may be busy and the race detector is slow; what does not end takes minutes.
const patience = time.Minute

func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// peak samples the heap until stop is called, which gives the most that was added to it.
func peak() (stop func() uint64) {
	runtime.GC()
	base, done, highest := heapBytes(), make(chan struct{}), make(chan uint64)
	go func() {
		top, tick := base, time.NewTicker(200*time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				highest <- top - base
				return
			case <-tick.C:
				top = max(top, heapBytes())
			}
		}
	}()
	return func() uint64 { close(done); return <-highest }
}

// Not parallel: it watches the heap of the process.
func TestHostileScriptsEnd(t *testing.T) {
	const allowed = 50 * time.Millisecond
	healthy := mustCompile(t, typical)
	for name, body := range hostile {
		t.Run(name, func(t *testing.T) {
			p := mustCompile(t, "function decodeUplink(input)\n"+body+"\nend")
			ctx, cancel := context.WithTimeout(t.Context(), allowed)
			defer cancel()
			stop, start := peak(), time.Now()
			out, err := p.DecodeUplink(ctx, input(t, "0102"))
			took, used := time.Since(start), stop()
			if took > patience {
				t.Errorf("took %v", took)
			}
			if used > 3*maxMemory {
				t.Errorf("added %d MB to the heap", used>>20)
			}
			if e := new(messages.Error); err != nil && (!errors.As(err, &e) || e.Code != messages.CodeInvalid || len(e.Message) > 2000) {
				t.Errorf("error %.300v", err)
			}
			if err == nil && !json.Valid(out.Data) {
				t.Errorf("data %s", out.Data)
			}
			if _, err := healthy.DecodeUplink(t.Context(), input(t, "0100d7")); err != nil {
				t.Errorf("another script fails afterwards: %v", err)
			}
			t.Logf("%s: %v, %d MB, %.100v", name, took, used>>20, err)
		})
	}
}

func TestNoDeadlineIsNeeded(t *testing.T) {
	for name, want := range map[string]string{
		"endless loop": "takes too many steps", "table bomb": "uses too much memory", "kept strings": "uses too much memory",
		"recursion": "more than 2000 deep", "tail recursion": "more than 2000 deep",
	} {
		p := mustCompile(t, "function decodeUplink(input)\n"+hostile[name]+"\nend")
		_, err := p.DecodeUplink(context.Background(), input(t, "0102"))
		wantError(t, name, err, "formatter_limit", want)
	}
}

// Not parallel, as what others keep would count.
func TestGarbageIsNotBlamed(t *testing.T) {
	source := `function decodeUplink() local n = 0 for i = 1, 200 do n = n + #(("x"):rep(200000) .. i) end return {data = {n = n}} end`
	out, err := decodeUplink(t, source, "")
	if err != nil || string(out.Data) != `{"n":40000492}` {
		t.Errorf("got %s, %v", out.Data, err)
	}
}

func TestACancelledCallEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := mustCompile(t, typical).DecodeUplink(ctx, input(t, "0100d7"))
	wantError(t, "cancelled", err, "formatter_limit", "did not end in time")
}

// hostileSources must not take a compiler long, nor crash it.
var hostileSources = map[string]string{
	"parentheses":    "x = " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000),
	"open":           strings.Repeat("(", 250_000),
	"tables":         "x = " + strings.Repeat("{", 100_000) + strings.Repeat("}", 100_000),
	"indices":        "x = " + strings.Repeat("t[", 80_000) + "1" + strings.Repeat("]", 80_000),
	"not":            "x = " + strings.Repeat("not ", 60_000) + "1",
	"minus":          "x = " + strings.Repeat("- ", 120_000) + "1",
	"length":         "x = " + strings.Repeat("#", 250_000) + "1",
	"concat":         "x = " + strings.Repeat("a..", 80_000) + "a",
	"power":          "x = " + strings.Repeat("a^", 120_000) + "a",
	"sum":            "x = " + strings.Repeat("a+", 120_000) + "a",
	"constant sum":   "x = " + strings.Repeat("1+", 120_000) + "1",
	"and":            "x = " + strings.Repeat("a and ", 40_000) + "a",
	"calls":          "f" + strings.Repeat("()", 100_000),
	"members":        "x = a" + strings.Repeat(".b", 100_000),
	"methods":        "a" + strings.Repeat(":b()", 60_000),
	"blocks":         strings.Repeat("do ", 80_000) + strings.Repeat("end ", 1),
	"closed blocks":  strings.Repeat("do ", 30_000) + strings.Repeat("end ", 30_000),
	"functions":      strings.Repeat("x = function() ", 15_000),
	"elseif":         "if a then " + strings.Repeat("elseif a then ", 15_000) + "end",
	"labels":         labels(),
	"gotos":          strings.Repeat("goto a ", 30_000) + "::a::",
	"constants":      "x = {" + numbers(35_000) + "}",
	"locals":         strings.Repeat("local a ", 30_000),
	"upvalues":       "local a = 1 " + strings.Repeat("x = function() return a end ", 9_000),
	"long string":    "x = [[" + strings.Repeat("x", 250_000) + "]]",
	"long comment":   "--[[" + strings.Repeat("x", 250_000),
	"long name":      strings.Repeat("x", 250_000) + " = 1",
	"zeros":          strings.Repeat("\x00", 250_000),
	"high bytes":     strings.Repeat("\xff", 250_000),
	"equals":         "x = [" + strings.Repeat("=", 250_000),
	"assignment":     strings.Repeat("a,", 120_000) + "a = 1",
	"arguments":      "f(" + strings.Repeat("a,", 120_000) + "a)",
	"parameters":     "function f(" + strings.Repeat("a,", 120_000) + "a) end",
	"returns":        "return " + strings.Repeat("a,", 120_000) + "a",
	"many functions": strings.Repeat("function f() end ", 15_000),
	"too long":       strings.Repeat(" ", messages.MaxFormatterSource+1),
}

func labels() string {
	var b strings.Builder
	for i := range 15_000 {
		b.WriteString("::a" + strings.Repeat("b", i%10) + "::")
	}
	return b.String()
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat("1", 1+i%3) + string(rune('0'+i%10)) + string(rune('0'+i/10%10)) + string(rune('0'+i/100%10)) + ",")
	}
	return b.String()
}

func TestHostileSourcesAreCompiledOrRefused(t *testing.T) {
	for name, source := range hostileSources {
		t.Run(name, func(t *testing.T) {
			stop, start := peak(), time.Now()
			p, err := Compile(source)
			took, used := time.Since(start), stop()
			if took > patience {
				t.Errorf("took %v", took)
			}
			if used > 3*maxMemory {
				t.Errorf("added %d MB to the heap", used>>20)
			}
			if err != nil {
				wantError(t, name, err, "formatter_compile", "")
			} else if p == nil {
				t.Error("neither program nor error")
			}
			t.Logf("%s: %v, %d MB, %.200v", name, took, used>>20, err)
		})
	}
}
