package cayennelpp

import (
	"encoding/json"
	"errors"
	"math"

	"lorikeet/messages"
)

// A polyline is a size byte (of all that follows and itself), a byte for the grid, the first latitude and longitude as int24 grid steps,
// and one byte for each further point: its distance from the one before in grid steps, as two signed nibbles, longitude then latitude.
const (
	polylineHeader = 8
	polylineMax    = 255
	nibbleMin      = -8
	nibbleMax      = 7
	directGrids    = 200 // a grid byte below it is the step in 1/10000 degree
)

// namedGrids are the steps in 1/10000 degree of the grid bytes from 227 on.
var namedGrids = [...]float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}

const firstNamedGrid = 227

var (
	errCutOff   = errors.New("is cut off: send all bytes of the value")
	errPolyline = errors.New("has an impossible size or grid: send a size of 8 or more and a grid of 1 to 199 or 227 to 239")
)

// grid gives the step of a grid byte in 1/10000 degree; 0 if there is no such grid.
func grid(b byte) float64 {
	switch {
	case b < directGrids:
		return float64(b)
	case b >= firstNamedGrid && int(b) < firstNamedGrid+len(namedGrids):
		return namedGrids[b-firstNamedGrid]
	}
	return 0
}

func decodePolyline(b []byte) (text, rest []byte, err error) {
	switch {
	case len(b) == 0:
		return nil, nil, errCutOff
	case b[0] < polylineHeader:
		return nil, nil, errPolyline
	case len(b) < int(b[0]):
		return nil, nil, errCutOff
	}
	step := grid(b[1])
	if step == 0 {
		return nil, nil, errPolyline
	}
	b, rest = b[:b[0]], b[b[0]:]
	steps := field{size: 3, signed: true, per: 1}
	lat, lon := steps.get(b[2:]), steps.get(b[5:])
	text = appendPoint(append(text, '['), lat*step, lon*step)
	for _, d := range b[polylineHeader:] {
		lat += float64(int8(d<<4) >> 4)
		lon += float64(int8(d) >> 4)
		text = appendPoint(append(text, ','), lat*step, lon*step)
	}
	return append(text, ']'), rest, nil
}

func appendPoint(text []byte, lat, lon float64) []byte {
	text = appendNumber(append(text, `{"latitude":`...), lat/1e4)
	text = appendNumber(append(text, `,"longitude":`...), lon/1e4)
	return append(text, '}')
}

type point struct {
	Latitude  *float64 `json:"latitude"`
	Longitude *float64 `json:"longitude"`
}

// putPolyline appends a list of points on the finest grid on which no two neighbours are too far apart for a nibble.
func putPolyline(b []byte, key string, raw json.RawMessage) ([]byte, error) {
	var points []point
	err := json.Unmarshal(raw, &points)
	if err != nil || len(points) == 0 || len(points) > polylineMax-polylineHeader+1 {
		return nil, messages.Invalid(errorName, `%s: give a list of 1 to %d points such as [{"latitude": 42.35, "longitude": -87.9}]`, key, polylineMax-polylineHeader+1)
	}
	for i, p := range points {
		if p.Latitude == nil || p.Longitude == nil || math.Abs(*p.Latitude) > 90 || math.Abs(*p.Longitude) > 180 {
			return nil, messages.Invalid(errorName, "%s: point %d: give a latitude of -90 to 90 and a longitude of -180 to 180", key, i+1)
		}
	}
	for g := 1; g < firstNamedGrid+len(namedGrids); g++ {
		if out, ok := appendOnGrid(b, points, byte(g)); ok {
			return out, nil
		}
	}
	return nil, messages.Invalid(errorName, "%s: neighbours are more than 7 degrees apart: give points that lie closer together", key)
}

func appendOnGrid(b []byte, points []point, g byte) ([]byte, bool) {
	step := grid(g)
	if step == 0 {
		return nil, false
	}
	on := func(degrees *float64) int { return int(math.Round(*degrees * 1e4 / step)) }
	lat, lon := on(points[0].Latitude), on(points[0].Longitude)
	b = append(b, byte(polylineHeader+len(points)-1), g, byte(lat>>16), byte(lat>>8), byte(lat), byte(lon>>16), byte(lon>>8), byte(lon))
	for _, p := range points[1:] {
		dLat, dLon := on(p.Latitude)-lat, on(p.Longitude)-lon
		if min(dLat, dLon) < nibbleMin || max(dLat, dLon) > nibbleMax {
			return nil, false
		}
		b = append(b, byte(dLon<<4)|byte(dLat&0x0f))
		lat, lon = lat+dLat, lon+dLon
	}
	return b, true
}
