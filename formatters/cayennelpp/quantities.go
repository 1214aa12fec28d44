// Package cayennelpp decodes and encodes the Cayenne Low Power Payload: a frame is any number of (channel, type, value) in a row, big-endian.
//
// Keys are "name_channel", such as "temperature_3". The twelve types that The Things Stack knows have its names and values;
// the others have the names of the ElectronicCats library, which most devices are built with.
// As in The Things Stack an unknown type or a value that is cut off fails the whole frame: whatever follows can't be trusted.
//
// Voltage, current and barometric pressure are unsigned, as in the published table; The Things Stack takes a pressure from 3276.8 hPa on for negative.
//
// Downlinks have a format of their own, (channel, int16/100) in a row, with the keys "value_channel": this is what The Things Stack sends and reads back.
// The encoder takes the names of the uplink types as well and then writes a (channel, type, value) frame, which DecodeUplink reads. One payload is one or the other.
//
// Sources: myDevices Cayenne LPP 2.0, The Things Stack pkg/messageprocessors/cayennelpp, ElectronicCats/CayenneLPP API.md.
package cayennelpp

import (
	"math"

	"lorikeet/messages"
)

// errorName is the name of all errors of this package.
const errorName = "cayennelpp"

// A quantity is one type of value.
type quantity struct {
	code    byte
	name    string
	aliases []string // other libraries' names, which the encoder takes too
	fields  []field  // one without a name: a number; else the members of an object. None: see polyline.go
}

// A field is a big-endian integer of size bytes that counts 1/per of the unit.
type field struct {
	name   string
	size   int
	signed bool
	per    float64
}

func number(size int, signed bool, per float64) []field { return []field{{"", size, signed, per}} }

func object(size int, signed bool, per float64, names ...string) []field {
	out := make([]field, len(names))
	for i, name := range names {
		out[i] = field{name, size, signed, per}
	}
	return out
}

const polylineCode = 240

// quantities is the standard table. Units: lux, °C, %, g, hPa, V, A, Hz, m, ppm, W, kWh, degrees, seconds since 1970, degrees per second.
var quantities = []quantity{
	{0, "digital_in", nil, number(1, false, 1)},
	{1, "digital_out", nil, number(1, false, 1)},
	{2, "analog_in", nil, number(2, true, 100)},
	{3, "analog_out", nil, number(2, true, 100)},
	{100, "generic", nil, number(4, false, 1)},
	{101, "luminosity", []string{"illuminance"}, number(2, false, 1)},
	{102, "presence", nil, number(1, false, 1)},
	{103, "temperature", nil, number(2, true, 10)},
	{104, "relative_humidity", []string{"humidity"}, number(1, false, 2)},
	{113, "accelerometer", nil, object(2, true, 1000, "x", "y", "z")},
	{115, "barometric_pressure", []string{"barometer", "pressure"}, number(2, false, 10)},
	{116, "voltage", nil, number(2, false, 100)},
	{117, "current", nil, number(2, false, 1000)},
	{118, "frequency", nil, number(4, false, 1)},
	{120, "percentage", nil, number(1, false, 1)},
	{121, "altitude", nil, number(2, true, 1)},
	{125, "concentration", nil, number(2, false, 1)},
	{128, "power", nil, number(2, false, 1)},
	{130, "distance", nil, number(4, false, 1000)},
	{131, "energy", nil, number(4, false, 1000)},
	{132, "direction", nil, number(2, false, 1)},
	{133, "time", []string{"unix_time"}, number(4, false, 1)},
	{134, "gyrometer", nil, object(2, true, 100, "x", "y", "z")},
	{135, "colour", []string{"color"}, object(1, false, 1, "r", "g", "b")},
	{136, "gps", nil, []field{{"latitude", 3, true, 1e4}, {"longitude", 3, true, 1e4}, {"altitude", 3, true, 100}}},
	{142, "switch", nil, number(1, false, 1)},
	{polylineCode, "polyline", nil, nil},
}

// value is the entry of the downlink format, which has no type byte.
var value = field{"", 2, true, 100}

var byCode, byName = index()

func index() (map[byte]*quantity, map[string]*quantity) {
	codes, names := map[byte]*quantity{}, map[string]*quantity{}
	for i := range quantities {
		q := &quantities[i]
		codes[q.code], names[q.name] = q, q
		for _, alias := range q.aliases {
			names[alias] = q
		}
	}
	return codes, names
}

// get reads the field from the start of b, which has at least size bytes.
func (f field) get(b []byte) float64 {
	var n uint32
	for _, c := range b[:f.size] {
		n = n<<8 | uint32(c)
	}
	if f.signed {
		shift := 32 - 8*f.size
		return float64(int32(n<<shift)>>shift) / f.per
	}
	return float64(n) / f.per
}

// put appends v, rounded to the resolution of the field.
func (f field) put(b []byte, key string, v float64) ([]byte, error) {
	low, high := 0.0, math.Ldexp(1, 8*f.size)-1
	if f.signed {
		high = math.Ldexp(1, 8*f.size-1) - 1
		low = -high - 1
	}
	raw := math.Round(v * f.per)
	if !(raw >= low && raw <= high) {
		return nil, messages.Invalid(errorName, "%s is %g: give a number from %g to %g", key, v, low/f.per, high/f.per)
	}
	for i := f.size - 1; i >= 0; i-- {
		b = append(b, byte(int64(raw)>>(8*i)))
	}
	return b, nil
}
