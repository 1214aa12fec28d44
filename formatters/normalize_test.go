package formatters

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNormalizedPayload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, js, lua string // after "return", in decodeUplink and normalizeUplink; none of the latter if there is one value
		want          []string
		warnings      []string
		failure       string
	}{
		{"good", `{data: {t: 21}} | {data: {air: {temperature: input.data.t}}}`, `{data = {t = 21}} | {data = {air = {temperature = input.data.t}}}`,
			[]string{`{"air":{"temperature":21}}`}, nil, ""},
		{"out of range", `{data: {}} | {data: [{air: {co2: -1}}, {battery: 3, air: {co2: -1}}], warnings: ["w"]}`,
			`{data = {}} | {data = {{air = {co2 = -1}}, {air = {co2 = -1}, battery = 3}}, warnings = {"w"}}`,
			[]string{`{"battery":3}`}, []string{"w", "measurement 1: `air.co2` should be equal or greater than `0`", "measurement 2: `air.co2` should be equal or greater than `0`"}, ""},
		{"unknown field", `{data: {a: 1}} | {data: {humidity: 1}}`, `{data = {a = 1}} | {data = {humidity = 1}}`, nil, nil, "normalizeUplink: unknown field `humidity`"},
		{"wrong type", `{data: {a: 1}} | {data: {air: {co2: "1"}}}`, `{data = {a = 1}} | {data = {air = {co2 = "1"}}}`, nil, nil, "normalizeUplink: invalid field type of `air.co2`"},
		{"error", `{data: {a: 1}} | {errors: ["mine"]}`, `{data = {a = 1}} | {errors = {"mine"}}`, nil, nil, "normalizeUplink: mine"},
		{"already a measurement", `{data: {air: {co2: 1}}}`, `{data = {air = {co2 = 1}}}`, []string{`{"air":{"co2":1}}`}, nil, ""},
		{"a measurement out of range", `{data: {battery: 3, soil: {pH: 15}}}`, `{data = {battery = 3, soil = {pH = 15}}}`,
			[]string{`{"battery":3}`}, []string{"measurement 1: `soil.pH` should be equal or less than `14`"}, ""},
		{"no measurement", `{data: {temperature: 1}}`, `{data = {temperature = 1}}`, nil, nil, ""},
		{"nothing", `{data: {}}`, `{data = {}}`, nil, nil, ""},
		{"a normalizer that gives nothing", `{data: {battery: 1}} | {data: []}`, `{data = {battery = 1}} | {data = {}}`, nil, nil, ""},
	} {
		for l, results := range map[language]string{javaScript: c.js, luaScript: c.lua} {
			source := map[language]string{javaScript: "function decodeUplink(input) { return % }", luaScript: "function decodeUplink(input) return % end"}[l]
			decode, normalize, both := strings.Cut(results, " | ")
			text := strings.Replace(source, "%", decode, 1)
			if both {
				text += "\n" + strings.Replace(strings.Replace(source, "decodeUplink", "normalizeUplink", 1), "%", normalize, 1)
			}
			a := serve(t, request{op: opDecodeUplink, language: l, id: 1, new: true, source: text})[0]
			if a.status != statusOK || len(a.decoded.Data) == 0 {
				t.Errorf("%s: status %d, data %s, %v: what was decoded must stand", c.name, a.status, a.decoded.Data, a.err)
				continue
			}
			var got []string
			for _, m := range a.decoded.Normalized {
				got = append(got, string(m))
			}
			if failed := a.err != nil; failed != (c.failure != "") || failed && !strings.HasPrefix(a.err.Message, c.failure) {
				t.Errorf("%s: got error %v, want %q", c.name, a.err, c.failure)
			}
			if diff := cmp.Diff(c.want, got) + cmp.Diff(c.warnings, a.decoded.NormalizedWarnings); diff != "" {
				t.Errorf("%s, language %d: want -, got +:\n%s", c.name, l, diff)
			}
		}
	}
}
