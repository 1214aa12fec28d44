package normalized

import "math"

// kind of a field.
type kind uint8

const (
	object kind = iota
	number
	timestamp
	flag // a boolean; a text will do
	choice
)

// field of a measurement. An object has members, a choice has words; the limits are those of a number.
type field struct {
	kind      kind
	members   map[string]*field
	words     []string
	min, max  float64
	exclusive bool // max itself is too much
}

func group(members map[string]*field) *field { return &field{kind: object, members: members} }

func between(min, max float64) *field { return &field{kind: number, min: min, max: max} }

func atLeast(min float64) *field { return between(min, math.Inf(1)) }

func unlimited() *field { return between(math.Inf(-1), math.Inf(1)) }

func oneOf(words ...string) *field { return &field{kind: choice, words: words} }

const (
	absoluteZero = -273.15
	million      = 1e6
)

// measurement is the schema of payloads of the LoRaWAN Device Repository (lib/payload.json) with rain, which The Things Stack adds to it.
var measurement = group(map[string]*field{
	"time":    {kind: timestamp},
	"battery": atLeast(0), // V
	"soil": group(map[string]*field{
		"depth":       atLeast(0), // cm
		"moisture":    between(0, 100),
		"temperature": atLeast(absoluteZero),
		"ec":          between(0, 621), // dS/m
		"pH":          between(0, 14),
		"n":           between(0, million), // ppm, as p and k
		"p":           between(0, million),
		"k":           between(0, million),
	}),
	"air": group(map[string]*field{
		"location":         oneOf("indoor", "outdoor"),
		"temperature":      atLeast(absoluteZero),
		"relativeHumidity": between(0, 100),
		"pressure":         between(900, 1100), // hPa
		"co2":              between(0, million),
		"lightIntensity":   atLeast(0), // lux
	}),
	"wind": group(map[string]*field{
		"speed":     atLeast(0), // m/s
		"direction": {kind: number, min: 0, max: 360, exclusive: true},
	}),
	"rain": group(map[string]*field{
		"intensity":  unlimited(), // mm/h
		"cumulative": unlimited(), // mm
	}),
	"water": group(map[string]*field{
		"leak": {kind: flag},
		"temperature": group(map[string]*field{
			"min": atLeast(absoluteZero), "max": atLeast(absoluteZero), "avg": atLeast(absoluteZero), "current": atLeast(absoluteZero),
		}),
	}),
	"metering": group(map[string]*field{"water": group(map[string]*field{"total": unlimited()})}), // L
	"action": group(map[string]*field{
		"motion":       group(map[string]*field{"detected": {kind: flag}, "count": unlimited()}),
		"contactState": oneOf("open", "closed"),
	}),
	"position": group(map[string]*field{"latitude": unlimited(), "longitude": unlimited()}),
})
