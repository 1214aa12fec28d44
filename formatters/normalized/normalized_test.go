package normalized

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"lorikeet/messages"
)

// everything has each field of the schema once, in range.
const everything = `{"time":"2026-11-23T10:00:00.5+02:00","battery":3.1,` +
	`"soil":{"depth":5,"moisture":100,"temperature":-273.15,"ec":621,"pH":0,"n":1,"p":2,"k":1000000},` +
	`"air":{"location":"indoor","temperature":21.50,"relativeHumidity":0,"pressure":1100,"co2":400,"lightIntensity":1e5},` +
	`"wind":{"speed":0,"direction":359.99},"rain":{"intensity":1.5,"cumulative":12},` +
	`"water":{"leak":false,"temperature":{"min":1,"max":3,"avg":2,"current":2.5}},"metering":{"water":{"total":12345.6}},` +
	`"action":{"motion":{"detected":true,"count":3},"contactState":"open"},"position":{"latitude":52.37,"longitude":-4.9}}`

func TestEveryFieldInRangeIsKeptAsItIs(t *testing.T) {
	t.Parallel()
	got, warnings, err := Check(json.RawMessage(everything))
	if err != nil || warnings != nil || string(got) != everything {
		t.Errorf("got %s, %q, %v\nwant %s", got, warnings, err, everything)
	}
	var walk func(*field, string)
	var paths []string
	walk = func(f *field, path string) {
		if f.kind != object {
			paths = append(paths, path)
		}
		for name, member := range f.members {
			walk(member, name)
		}
	}
	walk(measurement, "")
	for _, name := range paths {
		if !strings.Contains(everything, `"`+name+`"`) {
			t.Errorf("this test has nothing for %s", name)
		}
	}
}

func TestOutOfRangeIsDropped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want, warning string }{
		{`{"air":{"temperature":-300,"co2":5}}`, `{"air":{"co2":5}}`, "`air.temperature` should be equal or greater than `-273.15`"},
		{`{"air":{"co2":5,"relativeHumidity":100.1}}`, `{"air":{"co2":5}}`, "`air.relativeHumidity` should be equal or less than `100`"},
		{`{"wind":{"direction":360},"battery":1}`, `{"battery":1}`, "`wind.direction` should be less than `360`"},
		{`{"air":{"pressure":899}}`, ``, "`air.pressure` should be equal or greater than `900`"},
		{`{"air":{"location":"attic"}}`, ``, "`air.location` should be one of"},
		{`{"battery":1e999}`, ``, "`battery` is not a finite number"},
		{`{"water":{"temperature":{"min":-274,"max":1}}}`, `{"water":{"temperature":{"max":1}}}`, "`water.temperature.min`"},
	} {
		got, warnings, err := Check(json.RawMessage(c.in))
		if err != nil || string(got) != c.want || len(warnings) != 1 || !strings.HasPrefix(warnings[0], c.warning) {
			t.Errorf("%s: got %s, %q, %v; want %s and %q", c.in, got, warnings, err, c.want, c.warning)
		}
	}
	for _, empty := range []string{`{}`, `{"air":{}}`, `{"water":{"temperature":{}}}`} {
		if got, warnings, err := Check(json.RawMessage(empty)); got != nil || warnings != nil || err != nil {
			t.Errorf("%s: got %s, %q, %v; want nothing", empty, got, warnings, err)
		}
	}
}

func TestOtherObjectsAreNoMeasurements(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"temperature":5}`:                 "unknown_field",
		`{"air":{"humidity":5}}`:            "unknown_field",
		`{"Air":{"co2":5}}`:                 "unknown_field",
		`{"metering":{"gas":{}}}`:           "unknown_field",
		`{"air":5}`:                         "field_type",
		`{"air":[]}`:                        "field_type",
		`{"air":{"temperature":"21"}}`:      "field_type",
		`{"air":{"temperature":null}}`:      "field_type",
		`{"air":{"temperature":{}}}`:        "field_type",
		`{"air":{"location":1}}`:            "field_type",
		`{"water":{"leak":1}}`:              "field_type",
		`{"time":"yesterday"}`:              "field_type",
		`{"time":5}`:                        "field_type",
		`[]`:                                "field_type",
		`null`:                              "field_type",
		`{"battery":3,"air":{"co2":[1,2]}}`: "field_type",
	} {
		got, _, err := Check(json.RawMessage(in))
		var e *messages.Error
		if got != nil || !errors.As(err, &e) || e.Name != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestListsAreNumbered(t *testing.T) {
	t.Parallel()
	got, warnings, err := CheckAll([]json.RawMessage{json.RawMessage(`{"air":{"co2":-1}}`), json.RawMessage(`{"air":{"co2":1},"battery":-1}`)})
	if err != nil || len(got) != 1 || string(got[0]) != `{"air":{"co2":1}}` {
		t.Errorf("got %s, %v", got, err)
	}
	want := []string{"measurement 1: `air.co2` should be equal or greater than `0`", "measurement 2: `battery` should be equal or greater than `0`"}
	if !slices.Equal(warnings, want) {
		t.Errorf("got warnings %q, want %q", warnings, want)
	}
	if _, _, err := CheckAll([]json.RawMessage{json.RawMessage(`{}`), json.RawMessage(`{"x":1}`)}); err == nil || !strings.HasPrefix(err.Error(), "measurement 2: unknown field `x`") {
		t.Errorf("got %v", err)
	}
}
