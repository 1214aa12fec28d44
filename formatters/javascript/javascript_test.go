package javascript

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func uplink(bytes ...byte) messages.DecodeInput {
	return messages.DecodeInput{Bytes: bytes, FPort: 2, RecvTime: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
}

func mustCompile(t testing.TB, source string) *Program {
	t.Helper()
	p, err := Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantError checks the name of an error and words in its text.
func wantError(t *testing.T, err error, name string, words ...string) {
	t.Helper()
	var e *messages.Error
	if !errors.As(err, &e) || e.Name != name {
		t.Fatalf("got error %v (%T), want %s", err, err, name)
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			t.Errorf("error says %q, want %q in it", e.Message, w)
		}
	}
}

func TestUplinkDispatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, source, want string }{
		{"TS013", `function decodeUplink(input) { return {data: {n: input.bytes.length, p: input.fPort, v: input.variables}} }`, `{"n":3,"p":2,"v":{}}`},
		{"top-level const", `const decodeUplink = (i) => ({data: {n: i.bytes.length}})`, `{"n":3}`},
		{"ends in a comment", "let decodeUplink = i => ({data: {n: 1}}) // no line break after this", `{"n":1}`},
		{"legacy", `function Decoder(bytes, port) { return {b: bytes, p: port} }`, `{"b":[1,2,255],"p":2}`},
		{"legacy without a result", `function Decoder(bytes, port) { if (port === 9) return {a: 1} }`, `{}`},
		{"ChirpStack", `function Decode(fPort, bytes, variables) { return {p: fPort, b: bytes, v: variables} }`, `{"p":2,"b":[1,2,255],"v":{}}`},
		{"TS013 first", `function Decoder() { return {no: 1} } function Decode() { return {no: 2} } function decodeUplink() { return {data: {yes: 1}} }`, `{"yes":1}`},
		{"driver", `var driver = {k: 7, decodeUplink: function (i) { return {data: {k: this.k}} }}`, `{"k":7}`},
		{"exports", `exports.decodeUplink = i => ({data: {a: 1}})`, `{"a":1}`},
		{"module.exports", `module.exports = {decodeUplink: i => ({data: {a: 2}})}`, `{"a":2}`},
		{"own module", `const module = {exports: {decodeUplink: i => ({data: {a: 3}})}}`, `{"a":3}`},
		{"module guard", `function decodeUplink() { return {data: {a: 4}} } if (typeof module !== 'undefined' && module.exports) module.exports = {decodeUplink}`, `{"a":4}`},
		{"class method", `class D { static decodeUplink(i) { return {data: {a: 5}} } } var driver = D`, `{"a":5}`},
		{"sloppy mode", `function decodeUplink(i) { x = 010; return {data: {x: x, t: this === undefined}} }`, `{"x":8,"t":false}`},
		{"both older ones", `function Decode(fPort, bytes) { return {d: fPort} } function Decoder(bytes, port) { return {r: port} }`, `{"d":2}`},
		{"a helper named Decode", `function Decode(bytes, port) { return {n: bytes.length} } function Decoder(bytes, port) { return Decode(bytes, port) }`, `{"n":3}`},
		{"a class named Decoder", `class Decoder { n() { return 5 } } var Decode = (f_port, bytes) => ({n: new Decoder().n()})`, `{"n":5}`},
		{"a helper among the exports", `exports.Decode = function (b) { return {n: b[0]} }; exports.Decoder = function (b) { return exports.Decode(b) }`, `{"n":1}`},
		{"bytes are an array", `function decodeUplink({bytes, fPort, recvTime}) { return {data: {a: Array.isArray(bytes), m: bytes.map(x => x * 2), s: bytes.slice(1).concat([9]), t: recvTime}} }`,
			`{"a":true,"m":[2,4,510],"s":[2,255,9],"t":"2026-11-23T10:00:00.000Z"}`},
		{"recvTime is there for those that don't name it", `function decodeUplink(i) { return {data: i} }`,
			`{"bytes":[1,2,255],"fPort":2,"recvTime":"2026-11-23T10:00:00.000Z","variables":{}}`},
		{"recvTime is a Date", `function decodeUplink(i) { return {data: {d: i.recvTime instanceof Date, ms: i.recvTime.getTime(), s: new Date(i.recvTime).toISOString()}} }`,
			`{"d":true,"ms":1795428000000,"s":"2026-11-23T10:00:00.000Z"}`},
		{"async", `async function decodeUplink(i) { const v = await Promise.resolve(5); return {data: {v}} }`, `{"v":5}`},
		{"console", `function decodeUplink(i) { console.log("x", i); console.error(1); return {data: {}} }`, `{}`},
		{"base64", `function decodeUplink(i) { return {data: {a: atob("AQL/").charCodeAt(2), b: btoa("\x01\x02\xff")}} }`, `{"a":255,"b":"AQL/"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := mustCompile(t, c.source).DecodeUplink(t.Context(), uplink(1, 2, 255))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(d.Data); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestUplinkResults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, result string
		want         messages.Decoded
	}{
		{"key order is kept", `{data: {z: 1, a: {y: 1, b: 2}, 10: 1, 9: 2}}`, messages.Decoded{Data: json.RawMessage(`{"9":2,"10":1,"z":1,"a":{"y":1,"b":2}}`)}},
		{"numbers", `{data: {a: 0.1 + 0.2, b: 1e21, c: -0, d: 9007199254740993, e: 25.0}}`,
			messages.Decoded{Data: json.RawMessage(`{"a":0.30000000000000004,"b":1e+21,"c":0,"d":9007199254740992,"e":25}`)}},
		{"what JSON does not have", `{data: {u: undefined, f: function () {}, s: Symbol("x"), d: new Date(0), bad: new Date(NaN), m: new Map([[1, 2]]), t: new Uint8Array([1, 2])}}`,
			messages.Decoded{Data: json.RawMessage(`{"u":null,"d":"1970-01-01T00:00:00.000Z","bad":null,"m":{},"t":{"0":1,"1":2}}`)}},
		{"boxed", `{data: {n: new Number(5), s: new String("x"), b: new Boolean(false), o: Object(Symbol("x")), a: [function () {}, undefined, , 1]}}`,
			messages.Decoded{Data: json.RawMessage(`{"n":5,"s":"x","b":false,"o":{},"a":[null,null,null,1]}`)}},
		{"toJSON", `{data: {a: {toJSON: function (key) { return key + this.x }, x: 1}, toJSON: function () { return {b: 1, a: this.a} }}}`,
			messages.Decoded{Data: json.RawMessage(`{"b":1,"a":"a1"}`)}},
		{"getters and proxies", `{data: {get x() { return 1 }, p: new Proxy({a: 1}, {get: function () { return 2 }})}}`, messages.Decoded{Data: json.RawMessage(`{"x":1,"p":{"a":2}}`)}},
		{"the same object twice", `(function () { var a = {x: 1}; return {data: {a: a, b: [a, a]}} })()`, messages.Decoded{Data: json.RawMessage(`{"a":{"x":1},"b":[{"x":1},{"x":1}]}`)}},
		{"null is no warning", `{data: {a: null, s: "null"}}`, messages.Decoded{Data: json.RawMessage(`{"a":null,"s":"null"}`)}},
		{"array", `{data: [5, , {x: [1]}]}`, messages.Decoded{Data: json.RawMessage(`{"0":5,"1":null,"2":{"x":[1]}}`)}},
		{"bare object", `{temperature: 1}`, messages.Decoded{Data: json.RawMessage(`{"temperature":1}`), Warnings: []string{"decodeUplink returned an object without data; it is taken as the data"}}},
		{"no data", `{warnings: ["unknown port"]}`, messages.Decoded{Data: json.RawMessage(`{}`), Warnings: []string{"unknown port"}}},
		{"null", `{data: null, errors: []}`, messages.Decoded{Data: json.RawMessage(`{}`)}},
		{"warnings", `{data: {}, warnings: ["a", "b"], errors: []}`, messages.Decoded{Data: json.RawMessage(`{}`), Warnings: []string{"a", "b"}}},
		{"no errors", `{data: {}, warnings: "", errors: false}`, messages.Decoded{Data: json.RawMessage(`{}`)}},
		{"a warning", `{data: {}, warnings: "a", errors: null}`, messages.Decoded{Data: json.RawMessage(`{}`), Warnings: []string{"a"}}},
		{"odd warnings", `{data: {}, warnings: [1, null, {a: 1}, new TypeError("t")]}`, messages.Decoded{Data: json.RawMessage(`{}`), Warnings: []string{"1", "null", `{"a":1}`, "TypeError: t"}}},
		{"text", `{data: {s: "é😀\u2028\"\\\n\ud800"}}`, messages.Decoded{Data: json.RawMessage("{\"s\":\"é😀\u2028\\\"\\\\\\n\\ud800\"}")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := mustCompile(t, "function decodeUplink() { return "+c.result+" }").DecodeUplink(t.Context(), uplink(1))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, d); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if !json.Valid(d.Data) {
				t.Errorf("%s is not valid JSON", d.Data)
			}
		})
	}
}

func TestUplinkFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body, error string
		words             []string
	}{
		{"errors", `return {data: {a: 1}, errors: ["too short", "no battery"]}`, "formatter_error", []string{"too short; no battery"}},
		{"an error", `return {errors: "too short"}`, "formatter_error", []string{"too short"}},
		{"throws", "\nthrow new Error('unknown port')", "formatter_error", []string{"unknown port (line 2)"}},
		{"throws a TypeError", "\n\nreturn {data: input.none.x}", "formatter_error", []string{"TypeError", "(line 3)"}},
		{"throws a string", `throw "no"`, "formatter_error", []string{"no"}},
		{"throws an object", `throw {code: 5}`, "formatter_error", []string{`{"code":5}`}},
		{"throws undefined", `throw undefined`, "formatter_error", []string{"undefined"}},
		{"returns nothing", ``, "formatter_output", []string{"decodeUplink must return an object, not undefined"}},
		{"returns a string", `return "x"`, "formatter_output", []string{"not a string"}},
		{"returns null", `return null`, "formatter_output", []string{"not null"}},
		{"data is a number", `return {data: 5}`, "formatter_output", []string{"data must be an object, not a number"}},
		{"data is a text", `return {data: "x", warnings: ["unknown port"]}`, "formatter_output", []string{"not a string", "unknown port"}},
		{"data is a function", `return {data: function () {}}`, "formatter_output", []string{"data must be an object"}},
		{"data is a Date", `return {data: new Date(0)}`, "formatter_output", []string{"data must be an object"}},
		{"toJSON gives a string", `return {data: {toJSON: function () { return "x" }}}`, "formatter_output", []string{"data must be an object"}},
		{"warnings are a number", `return {data: {}, warnings: 5}`, "formatter_output", []string{"warnings must be an array of strings, not a number"}},
		{"cycle", `var a = {}; a.a = a; return {data: a}`, "formatter_output", []string{"data.a is circular"}},
		{"BigInt", `return {data: {n: 5n}}`, "formatter_output", []string{"data.n is a BigInt"}},
		{"not finite", `return {data: {a: 1, b: {c: [0, NaN]}}}`, "formatter_output", []string{"data.b.c.1 is NaN"}},
		{"infinite", `return {data: {a: -1 / 0}}`, "formatter_output", []string{"data.a is -Infinity"}},
		{"deep", `var a = {}; for (var i = 0; i < 40; i++) a = {a: a}; return {data: a}`, "formatter_output", []string{"deeper than 32"}},
		{"large", `return {data: {s: 'x'.repeat(300000)}}`, "formatter_output", []string{"262144"}},
		{"getter throws", `return {data: {get x() { throw new Error("mine") }}}`, "formatter_error", []string{"mine"}},
		{"rejected", `return Promise.reject(new RangeError("late"))`, "formatter_error", []string{"RangeError: late"}},
		{"pending", `return new Promise(function () {})`, "formatter_output", []string{"Promise that nothing settles"}},
		{"recursion", `function f() { return f() + 1 } return {data: {n: f()}}`, "formatter_error", []string{"too deeply"}},
		{"no require", `return {data: require("fs")}`, "formatter_error", []string{"ReferenceError"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := mustCompile(t, "function decodeUplink(input) {"+c.body+"\n}").DecodeUplink(t.Context(), uplink(1))
			wantError(t, err, c.error, c.words...)
			if d.Data != nil || d.Warnings != nil {
				t.Errorf("a failed call gave %s %q", d.Data, d.Warnings)
			}
		})
	}
}

func TestMissingFunctionsAreNamed(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, `var x = 1`)
	_, err := p.DecodeUplink(t.Context(), uplink(1))
	wantError(t, err, "formatter_function", "decodeUplink")
	_, err = p.DecodeDownlink(t.Context(), uplink(1))
	wantError(t, err, "formatter_function", "decodeDownlink")
	_, err = p.EncodeDownlink(t.Context(), messages.EncodeInput{})
	wantError(t, err, "formatter_function", "encodeDownlink")
}

func TestCompileErrorNamesTheLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ source, words string }{
		{"var a = 1\nvar b = ;\n", "line 2"},
		{"let a;\n\nlet a;", "line 3"},
		{"function decodeUplink(i) {\n return {", "line 2"},
		{"import x from 'y'", "line 1"},
	} {
		_, err := Compile(c.source)
		wantError(t, err, "formatter_compile", c.words)
	}
	_, err := Compile(strings.Repeat(" ", messages.MaxFormatterSource+1))
	wantError(t, err, "formatter_compile", fmt.Sprintf("at most %d", messages.MaxFormatterSource))
	_, err = mustCompile(t, "\nnone.x = 1\nfunction decodeUplink() {}").DecodeUplink(t.Context(), uplink(1))
	wantError(t, err, "formatter_error", "ReferenceError", "line 2")
}

func TestSourceMapsAreNotRead(t *testing.T) {
	t.Parallel()
	source := "function decodeUplink() { eval('1 //# sourceMappingURL=/does/not/exist.map'); return {data: {}} }\n//# sourceMappingURL=/does/not/exist.map"
	if _, err := mustCompile(t, source).DecodeUplink(t.Context(), uplink(1)); err != nil {
		t.Error(err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestNormalizeUplink(t *testing.T) {
	t.Parallel()
	const decode = "function decodeUplink(i) { return {data: {t: 21.5}} }\n"
	one := []json.RawMessage{json.RawMessage(`{"air":{"temperature":21.5}}`)}
	for _, c := range []struct {
		name, source string
		normalized   []json.RawMessage
		warnings     []string
		failure      string
	}{
		{"none", ``, nil, nil, ""},
		{"one", `function normalizeUplink(i) { return {data: {air: {temperature: i.data.t}}, warnings: ["w"]} }`, one, []string{"w"}, ""},
		{"list", `const normalizeUplink = i => ({data: [{air: {temperature: i.data.t}}, {wind: {speed: 1}}]})`, append(one[:1:1], json.RawMessage(`{"wind":{"speed":1}}`)), nil, ""},
		{"empty list", `function normalizeUplink(i) { return {data: []} }`, []json.RawMessage{}, nil, ""},
		{"no data", `function normalizeUplink(i) { return {warnings: ["w"]} }`, []json.RawMessage{}, []string{"w"}, ""},
		{"too many", `function normalizeUplink(i) { return {data: new Array(257).fill({})} }`, nil, nil, "normalizeUplink: 257 measurements are too many: return at most 256"},
		{"errors", `function normalizeUplink(i) { return {errors: ["no"]} }`, nil, nil, "normalizeUplink: no"},
		{"throws", `function normalizeUplink(i) { throw new Error("no") }`, nil, nil, "normalizeUplink: no (line 2)"},
		{"not an object", `function normalizeUplink(i) { return {data: [{a: 1}, 5]} }`, nil, nil, "normalizeUplink: data must be an object or an array of objects"},
		{"nothing", `function normalizeUplink(i) { }`, nil, nil, "normalizeUplink: it must return {data: ...}, not undefined"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := mustCompile(t, decode+c.source).DecodeUplink(t.Context(), uplink(1))
			if got := errorText(err); got != c.failure {
				t.Fatalf("got error %q, want %q", got, c.failure)
			}
			want := messages.Decoded{Data: json.RawMessage(`{"t":21.5}`), Normalized: c.normalized, NormalizedWarnings: c.warnings}
			if diff := cmp.Diff(want, d); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestEncodeDownlink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, source string
		fPort        uint8
		want         messages.Encoded
	}{
		{"TS013", `function encodeDownlink(i) { return {bytes: [i.data.led, i.fPort], fPort: 10, warnings: ["w"]} }`, 3, messages.Encoded{Bytes: []byte{7, 3}, FPort: 10, Warnings: []string{"w"}}},
		{"requested port", `function encodeDownlink(i) { return {bytes: []} }`, 3, messages.Encoded{Bytes: []byte{}, FPort: 3}},
		{"FPort modulo 256", `function encodeDownlink(i) { return {bytes: [1], fPort: 300.5} }`, 3, messages.Encoded{Bytes: []byte{1}, FPort: 44}},
		{"FPort that is none", `function encodeDownlink(i) { return {bytes: [1], fPort: "x"} }`, 3, messages.Encoded{Bytes: []byte{1}, FPort: 3}},
		{"no port", `function encodeDownlink(i) { return {bytes: [1], fPort: 0} }`, 0, messages.Encoded{Bytes: []byte{1}, FPort: 1}},
		{"modulo 256", `function encodeDownlink(i) { return {bytes: [256, -1, 300.9, "5", "x", null, undefined, NaN, 1e20, true]} }`, 1, messages.Encoded{Bytes: []byte{0, 255, 44, 5, 0, 0, 0, 0, 0, 1}, FPort: 1}},
		{"typed array", `function encodeDownlink(i) { return {bytes: new Uint8Array([1, 255])} }`, 1, messages.Encoded{Bytes: []byte{1, 255}, FPort: 1}},
		{"Buffer", `function encodeDownlink(i) { return {bytes: Buffer.from("01ff", "hex")} }`, 1, messages.Encoded{Bytes: []byte{1, 255}, FPort: 1}},
		{"string", `function encodeDownlink(i) { return {bytes: "aé"} }`, 1, messages.Encoded{Bytes: []byte("aé"), FPort: 1}},
		{"ChirpStack", `function Encode(fPort, obj, variables) { return [fPort, obj.led] }`, 5, messages.Encoded{Bytes: []byte{5, 7}, FPort: 5}},
		{"legacy", `function Encoder(obj, port) { return [obj.led, port] }`, 5, messages.Encoded{Bytes: []byte{7, 5}, FPort: 5}},
		{"legacy with an object", `function Encoder(obj, port) { return {bytes: [obj.led], fPort: 9} }`, 5, messages.Encoded{Bytes: []byte{7}, FPort: 9}},
		{"key order", `function encodeDownlink(i) { return {bytes: Object.keys(i.data).join(",")} }`, 1, messages.Encoded{Bytes: []byte("led,b,a"), FPort: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e, err := mustCompile(t, c.source).EncodeDownlink(t.Context(), messages.EncodeInput{Data: json.RawMessage(`{"led":7,"b":1,"a":2}`), FPort: c.fPort})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, e); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestEncodeDownlinkFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ result, error, words string }{
		{`{errors: ["no such command"]}`, "formatter_error", "no such command"},
		{`{}`, "formatter_output", "bytes must be an array of numbers, not undefined"},
		{`{bytes: 5}`, "formatter_output", "not a number"},
		{`{bytes: {}}`, "formatter_output", "not an object"},
		{`[1, 2]`, "formatter_output", "must return an object with bytes, not an array"},
		{`undefined`, "formatter_output", "not undefined"},
		{`{bytes: new Array(5000)}`, "formatter_output", "5000 bytes"},
		{`{bytes: [{valueOf: function () { throw new Error("mine") }}]}`, "formatter_error", "mine"},
	} {
		_, err := mustCompile(t, "function encodeDownlink() { return "+c.result+" }").EncodeDownlink(t.Context(), messages.EncodeInput{Data: json.RawMessage(`{}`)})
		wantError(t, err, c.error, c.words)
	}
	_, err := mustCompile(t, "function encodeDownlink() {}").EncodeDownlink(t.Context(), messages.EncodeInput{Data: json.RawMessage(`{"a":`)})
	wantError(t, err, "formatter_error", "not valid JSON")
}

func TestDecodeDownlink(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, `function decodeDownlink(i) { return {data: {led: i.bytes[0], p: i.fPort}} } function normalizeUplink() { throw 1 }`)
	d, err := p.DecodeDownlink(t.Context(), uplink(7))
	if err != nil || string(d.Data) != `{"led":7,"p":2}` || d.NormalizedWarnings != nil {
		t.Errorf("got %s %q, %v", d.Data, d.NormalizedWarnings, err)
	}
}

func TestNothingIsLeftFromCallToCall(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, `var n = 0; function decodeUplink(i) { n++; var before = ({}).x; Object.prototype.x = 1; Array.prototype.map = null; return {data: {n: n, x: before === undefined, m: typeof [].slice}} }`)
	for range 3 {
		d, err := p.DecodeUplink(t.Context(), uplink(1))
		if err != nil || string(d.Data) != `{"n":1,"x":true,"m":"function"}` {
			t.Fatalf("got %s, %v", d.Data, err)
		}
	}
}

func TestScriptEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"loop":            `for (;;);`,
		"caught":          `for (;;) { try { for (;;); } catch (e) {} finally { for (;;); } }`,
		"getter":          `return {get data() { for (;;); }}`,
		"toJSON":          `return {data: {toJSON: function () { for (;;); }}}`,
		"text of a throw": `throw {get message() { for (;;); }}`,
		"warning":         `return {data: {}, warnings: [{get message() { for (;;); }}]}`,
		"jobs":            `(function f() { Promise.resolve().then(f) })(); return {data: {}}`,
		"reason":          `return Promise.reject({get message() { for (;;); }})`,
		"generator":       `function* g() { for (;;) yield 1 } for (var x of g()); `,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := mustCompile(t, "function decodeUplink(i) {"+body+"}").DecodeUplink(ctx, uplink(1))
			wantError(t, err, "formatter_limit")
		})
	}
	t.Run("normalize", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := mustCompile(t, "function decodeUplink(i) {return {data: {}}} function normalizeUplink() { for(;;); }").DecodeUplink(ctx, uplink(1))
		wantError(t, err, "formatter_limit")
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mustCompile(t, "function decodeUplink() { return {data: {}} }").DecodeUplink(ctx, uplink(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestBuffer(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		`Buffer.from([1, 2, 300]).toJSON()`:                                 `{"type":"Buffer","data":[1,2,44]}`,
		`Buffer.from("0aFFg1", "hex")`:                                      `{"type":"Buffer","data":[10,255]}`,
		`Buffer.from("AQL_", "base64").toString("hex")`:                     `"0102ff"`,
		`Buffer.from([1, 2, 255]).toString("base64")`:                       `"AQL/"`,
		`Buffer.from([1, 2]).toString("base64url")`:                         `"AQI"`,
		`Buffer.from("é€😀").toString("hex")`:                                `"c3a9e282acf09f9880"`,
		`Buffer.from("c3a9e282acf09f9880", "hex").toString()`:               `"é€😀"`,
		`Buffer.from("ff41", "hex").toString("utf8")`:                       `"\ufffdA"`,
		`Buffer.from([72, 105]).toString("ascii")`:                          `"Hi"`,
		`Buffer.from("Hi", "utf16le").toString("utf16le")`:                  `"Hi"`,
		`new Buffer([1, 2]).length + new Buffer("abc").length`:              `5`,
		`new Buffer(3).toString("hex")`:                                     `"000000"`,
		`Buffer.alloc(3, 7).toString("hex")`:                                `"070707"`,
		`Buffer.alloc(5, "ab").toString()`:                                  `"ababa"`,
		`Buffer.concat([Buffer.from([1]), new Uint8Array([2])]).length`:     `2`,
		`[Buffer.isBuffer(Buffer.alloc(1)), Buffer.isBuffer([1])]`:          `[true,false]`,
		`Buffer.byteLength("é")`:                                            `2`,
		`Buffer.from([255, 254]).readInt16BE(0)`:                            `-2`,
		`Buffer.from([254, 255]).readInt16LE()`:                             `-2`,
		`Buffer.from([1, 2, 3, 4]).readUInt32LE(0)`:                         `67305985`,
		`Buffer.from([1, 2, 3, 4]).readUint32BE(0)`:                         `16909060`,
		`Buffer.from([255, 255, 254]).readIntBE(0, 3)`:                      `-2`,
		`Buffer.from([1, 2, 3, 4, 5, 6]).readUIntLE(0, 6)`:                  `6618611909121`,
		`Buffer.from("41c80000", "hex").readFloatBE(0)`:                     `25`,
		`String(Buffer.from("00000000000000ff", "hex").readBigUInt64BE(0))`: `"255"`,
		`(function () { var b = Buffer.alloc(8); return [b.writeInt16BE(-2, 0), b.writeUInt32LE(1, 2), b.writeUIntBE(515, 6, 2), b.toString("hex")] })()`: `[2,6,8,"fffe010000000203"]`,
		`(function () { var b = Buffer.from([1, 2, 3]), s = b.slice(1); s[0] = 9; return [b[1], s.length, Buffer.isBuffer(s)] })()`:                       `[9,2,true]`,
		`(function () { var b = Buffer.alloc(4), n = Buffer.from([1, 2, 3]).copy(b, 2); return [n, b.toString("hex")] })()`:                               `[2,"00000102"]`,
		`Buffer.from([1, 2, 3, 2, 3]).indexOf(Buffer.from([2, 3]))`:                                                                                       `1`,
		`Buffer.from([1, 2, 3]).includes(3)`:                          `true`,
		`Buffer.from([1, 2]).equals(Buffer.from([1, 2]))`:             `true`,
		`[...Buffer.from([1, 2]).map(function (x) { return x + 1 })]`: `[2,3]`,
		`Buffer.from([1, 2, 3, 4]).swap16().toString("hex")`:          `"02010403"`,
	} {
		d, err := mustCompile(t, "function decodeUplink() { return {data: {r: "+expression+"}} }").DecodeUplink(t.Context(), uplink())
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		var got, wanted any
		if err := errors.Join(json.Unmarshal(d.Data, &got), json.Unmarshal([]byte(`{"r":`+want+`}`), &wanted)); err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", expression, diff)
		}
	}
	for _, bad := range []string{`Buffer.from([1]).readUInt16BE(0)`, `Buffer.from(5)`, `Buffer.from("a", "rot13")`, `Buffer.alloc(1).writeInt8(0, 1)`} {
		_, err := mustCompile(t, "function decodeUplink() { return {data: {r: "+bad+"}} }").DecodeUplink(t.Context(), uplink())
		wantError(t, err, "formatter_error")
	}
}

// FuzzCompile: whatever the source, it is compiled or refused with an error for users. What it does when it runs is for the tests of package formatters,
// where a worker can be stopped.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`function decodeUplink(input) { return {data: {n: input.bytes[0]}, warnings: ["w"]} }`,
		"`${", `/(?=a)\1/`, `class A { #x = 1; static { A.y = 1 } }`, `//# sourceMappingURL=/etc/passwd`, "let a; let a",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > 4096 {
			return // deep nesting takes more stack than a process may have, which is for the worker's limits
		}
		if _, err := Compile(source); err != nil {
			wantError(t, err, "formatter_compile")
		}
	})
}
