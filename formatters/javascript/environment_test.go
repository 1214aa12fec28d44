package javascript

import (
	"strings"
	"testing"
)

// evaluate gives the JSON of an expression's value in a script.
func evaluate(t *testing.T, expression string) string {
	t.Helper()
	d, err := mustCompile(t, "function decodeUplink(input) { return {data: {v: "+expression+"}} }").DecodeUplink(t.Context(), uplink(1, 2, 3))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(d.Data), `{"v":`), "}")
}

func TestFunctionsInBlocksAreHoisted(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`if (true) { function f() { return 7 } } return f()`:                                                     `7`,
		`if (true) function f() { return 7 } return f()`:                                                         `7`,
		`{ var x = f(); function f() { return 7 } } return x`:                                                    `7`,
		`switch (1) { case 1: function f() { return 7 } } return f()`:                                            `7`,
		`try { function f() { return 1 } } catch (e) { } finally { function g() { return 2 } } return f() + g()`: `3`,
		`for (let i = 0; i < 2; i++) { function f() { return i } } return f()`:                                   `1`,
		`{ function f(n) { return n ? n * f(n - 1) : 1 } } return f(4)`:                                          `24`,
		`return (function () { { function f() { return 1 } } return f() })()`:                                    `1`,
		`return [1].map(() => { { function f() { return 1 } } return f() })[0]`:                                  `1`,
		`{ function f() { return 1 } } { function f() { return 2 } } return f()`:                                 `2`,
		`{ function f() { return f.name } } return f()`:                                                          `"f"`,
		`return typeof f; { function f() {} }`:                                                                   `"undefined"`,
		// not where the name is another thing
		`let f = 1; { function f() {} } return f`:                                      `1`,
		`return (function (f) { { function f() {} } return f })(5)`:                    `5`,
		`var r; for (let f = 0; f < 1; f++) { function f() {} } return typeof f`:       `"undefined"`,
		`try { throw 1 } catch (f) { { function f() {} } } return typeof f`:            `"undefined"`,
		`for (const [f] of [[1]]) { { function f() {} } } return typeof f`:             `"undefined"`,
		`return (function () { 'use strict'; { function f() {} } return typeof f })()`: `"undefined"`,
		`class A { m() { { function f() {} } return typeof f } } return new A().m()`:   `"undefined"`,
		`{ async function f() {} function* g() {} } return typeof f + typeof g`:        `"undefinedundefined"`,
	} {
		if got := evaluate(t, "(function () { "+body+" })()"); got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}

func TestSourcesAsTheyCome(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"byte order mark":  "\ufefffunction decodeUplink(i) { return {data: {n: 1}} }",
		"hashbang":         "#!/usr/bin/env node\nfunction decodeUplink(i) { return {data: {n: 1}} }",
		"CR LF":            "// a\r\nfunction decodeUplink(i) {\r\n return {data: {n: 1}}\r\n}\r\n",
		"export":           "const k = 1\nexport function decodeUplink(i) { return {data: {n: k}} }\nexport { k, decodeUplink as default };",
		"export default":   "export default {\n decodeUplink(i) { return {data: {n: 1}} }\n}",
		"default function": "export default function decodeUplink(i) { return {data: {n: 1}} }",
		"export const":     "export const decodeUplink = async (i) => ({data: {n: 1}})",
		"false octals":     "var a = [08, 09.5, 0089, 010, '08 09']; // 08 é\nfunction decodeUplink(i) { /* é */ return {data: {n: a[0] + a[1] + a[2] + a[3] === 114.5 && a[4] === '08 09' ? 001 : a}} }",
		"the word alone":   "// export default\nvar s = 'export const'; function decodeUplink(i) { return {data: {n: 1}} }",
	} {
		if d, err := mustCompile(t, source).DecodeUplink(t.Context(), uplink(1)); err != nil || string(d.Data) != `{"n":1}` {
			t.Errorf("%s: got %s, %v", name, d.Data, err)
		}
	}
	_, err := Compile("export const a = 1\nvar b = ;")
	wantError(t, err, "formatter_compile", "line")
}

func TestGlobalsAreMadeWhenTheyAreRead(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`function decodeUplink() { return {data: {v: typeof Buffer}} }`:                                                                                              `{"v":"function"}`,
		`var Buffer = Buffer || 5; function decodeUplink() { return {data: {v: typeof Buffer}} }`:                                                                    `{"v":"function"}`,
		`var Buffer = 5; function decodeUplink() { return {data: {v: Buffer}} }`:                                                                                     `{"v":5}`,
		`function Buffer() { return 5 } function decodeUplink() { return {data: {v: Buffer()}} }`:                                                                    `{"v":5}`,
		`const Buffer = 5; function decodeUplink() { return {data: {v: Buffer}} }`:                                                                                   `{"v":5}`,
		`Buffer.own = 5; function decodeUplink() { return {data: {v: Buffer.own + Buffer.from([1]).readInt8(0)}} }`:                                                  `{"v":6}`,
		`function decodeUplink() { return {data: {v: Object.keys(globalThis).includes('Buffer')}} }`:                                                                 `{"v":false}`,
		`Buffer.prototype.readX = () => 5; function decodeUplink() { return {data: {v: Buffer.from([1]).readX()}} }`:                                                 `{"v":5}`,
		`function decodeUplink() { var b = Buffer.from([1]); b.at2 = 1; return {data: {v: [b.at2, Buffer.from([1]).at2, 'readNope' in b, typeof b.readUInt16BE]}} }`: `{"v":[1,null,false,"function"]}`,
	} {
		if d, err := mustCompile(t, source).DecodeUplink(t.Context(), uplink(1)); err != nil || string(d.Data) != want {
			t.Errorf("%s: got %s, %v; want %s", source, d.Data, err, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		`Array.from(Uint8Array.from(atob('AQL/'), function (c) { return c.charCodeAt(0) }))`:                    `[1,2,255]`,
		`Array.from(Uint16Array.from(new Set([1, 2]))).concat(Array.from(Int8Array.from({length: 1, 0: 255})))`: `[1,2,-1]`,
		`new TextDecoder().decode(new Uint8Array([0xc2, 0xb0, 0x43, 0xff]))`:                                    `"°C` + "\ufffd" + `"`,
		`new TextDecoder('utf-16le').decode(new Uint8Array([0x3d, 0xd8, 0, 0xde]).buffer)`:                      `"😀"`,
		`new TextDecoder('latin1').decode(new DataView(new Uint8Array([0xe9]).buffer))`:                         `"é"`,
		`new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x41])) + new TextDecoder().decode()`:       `"A"`,
		`Array.from(new TextEncoder().encode('é€'))`:                                                            `[195,169,226,130,172]`,
		`new TextDecoder('utf-8', {fatal: true}).decode(new Uint8Array([0xff]))`:                                `TypeError: The encoded data was not valid for encoding utf-8 (line 1)`,
		`new TextDecoder('koi8')`: `RangeError: The "koi8" encoding is not supported (line 1)`,
		`(function () { var a = {d: new Date(0), m: [1, {x: 2}]}, b = structuredClone(a); b.m[1].x = 3; return [a.m[1].x, b.d] })()`: `[2,"1970-01-01T00:00:00.000Z"]`,
	} {
		if got := evaluate(t, expression); got != want {
			t.Errorf("%s: got %s, want %s", expression, got, want)
		}
	}
}

// TestLocale: the values are those of Node 20.
func TestLocale(t *testing.T) {
	t.Parallel()
	const at = "new Date(Date.UTC(2024, 1, 5, 15, 4, 9))"
	for expression, want := range map[string]string{
		at + `.toLocaleString()`:                                                                           "2/5/2024, 3:04:09 PM",
		at + `.toLocaleString('en-GB')`:                                                                    "05/02/2024, 15:04:09",
		at + `.toLocaleString('de-DE')`:                                                                    "5.2.2024, 15:04:09",
		at + `.toLocaleString('fr-FR')`:                                                                    "05/02/2024 15:04:09",
		at + `.toLocaleString('sv-SE')`:                                                                    "2024-02-05 15:04:09",
		at + `.toLocaleString('en-CA')`:                                                                    "2024-02-05, 3:04:09 p.m.",
		at + `.toLocaleString('en-AU')`:                                                                    "05/02/2024, 3:04:09 pm",
		at + `.toLocaleString('it-IT')`:                                                                    "05/02/2024, 15:04:09",
		at + `.toLocaleString('ru-RU')`:                                                                    "05.02.2024, 15:04:09",
		at + `.toLocaleDateString()`:                                                                       "2/5/2024",
		at + `.toLocaleTimeString([], {hour: '2-digit', minute: '2-digit'})`:                               "03:04 PM",
		`new Date(Date.UTC(2024, 1, 5)).toLocaleTimeString([], {hour12: false})`:                           "24:00:00",
		`new Date(Date.UTC(2024, 1, 5)).toLocaleTimeString('en-GB', {hour12: false})`:                      "00:00:00",
		at + `.toLocaleTimeString('en-US', {hour12: false})`:                                               "15:04:09",
		at + `.toLocaleTimeString('en-US', {hour: '2-digit', minute: '2-digit'})`:                          "03:04 PM",
		at + `.toLocaleDateString('de-DE', {year: 'numeric', month: '2-digit', day: '2-digit'})`:           "05.02.2024",
		at + `.toLocaleString('en-US', {weekday: 'long', year: 'numeric', month: 'long', day: 'numeric'})`: "Monday, February 5, 2024",
		at + `.toLocaleString('en-US', {month: 'short', day: 'numeric', hour: 'numeric'})`:                 "Feb 5, 3 PM",
		at + `.toLocaleString('en-US', {dateStyle: 'medium', timeStyle: 'short'})`:                         "Feb 5, 2024, 3:04 PM",
		`new Date(NaN).toLocaleString()`:                                                                   "Invalid Date",
		`(1234567.8915).toLocaleString()`:                                                                  "1,234,567.892",
		`(1234567.8915).toLocaleString('de-DE')`:                                                           "1.234.567,892",
		`(12.5).toLocaleString('en-US', {minimumFractionDigits: 2})`:                                       "12.50",
		`(1234.567).toLocaleString(undefined, {maximumFractionDigits: 1, useGrouping: false})`:             "1234.6",
		`(5).toLocaleString('en-US', {minimumIntegerDigits: 2})`:                                           "05",
		`(0.256).toLocaleString('en-US', {style: 'percent'})`:                                              "26%",
		`(1e21).toLocaleString()`:                                                                          "1,000,000,000,000,000,000,000",
		`(-0.0004).toLocaleString()`:                                                                       "-0",
		`(9.9996).toLocaleString()`:                                                                        "10",
		`(2.5).toLocaleString('en-US', {maximumFractionDigits: 0})`:                                        "3",
		`(1.255).toLocaleString('en-US', {maximumFractionDigits: 2})`:                                      "1.26",
		`new Intl.NumberFormat('en-US').format(1234.5)`:                                                    "1,234.5",
		`new Intl.DateTimeFormat('en-US', {timeZone: 'UTC'}).format(` + at + `)`:                           "2/5/2024",
	} {
		if got := evaluate(t, expression); got != `"`+want+`"` {
			t.Errorf("%s: got %s, want %q", expression, got, want)
		}
	}
	for expression, want := range map[string]string{
		at + `.toLocaleString('en-US', {timeZone: 'No/Where'})`:   "RangeError: Invalid time zone specified: No/Where",
		`(1).toLocaleString('!')`:                                 "RangeError: Incorrect locale",
		`(1).toLocaleString('en', {maximumFractionDigits: 1000})`: "RangeError: maximumFractionDigits",
	} {
		if got := evaluate(t, expression); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", expression, got, want)
		}
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		`require('buffer')`:               "ReferenceError: require is not defined (line 1): there are no modules here",
		`setTimeout(decodeUplink)`:        "ReferenceError: setTimeout is not defined (line 1): scripts have the language alone",
		`typeof require + typeof process`: `"undefinedundefined"`,
		`none`:                            "ReferenceError: none is not defined (line 1)",
	} {
		if got := evaluate(t, expression); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", expression, got, want)
		}
	}
}
