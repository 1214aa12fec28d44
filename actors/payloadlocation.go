package actors

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// payloadService names the source of locations that decoded payloads tell, in location_solved and in the locations of a device.
const payloadService = "frm-payload"

// locationKeys are the names under which codecs give a position, in the order in which they are looked for, as The Things Stack does.
var locationKeys = []struct {
	latitude            string
	longitude, altitude []string
}{
	{"lat", []string{"lon", "lng", "long"}, []string{"alt"}},
	{"latitude", []string{"longitude"}, []string{"altitude"}},
	{"Latitude", []string{"Longitude"}, []string{"Altitude"}},
	{"latitudeDeg", []string{"longitudeDeg"}, []string{"altitude", "height"}},
	{"gps_lat", []string{"gps_lon", "gps_lng", "gps_long"}, []string{"gps_alt", "gpsalt"}},
}

var accuracyKeys = []string{"acc", "accuracy", "hacc"}

// gpsObject is what CayenneLPP calls a position: gps_1 with latitude, longitude and altitude in it.
var gpsObject = regexp.MustCompile(`^gps_[0-9]+$`)

// payloadLocation finds the position in a decoded payload; nil if there is none. Only numbers count, and 0, 0 is what receivers tell that have no fix.
func payloadLocation(decoded json.RawMessage) *messages.Location {
	if !bytes.Contains(decoded, []byte("lat")) && !bytes.Contains(decoded, []byte("Lat")) {
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(decoded, &members) != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		var inner map[string]json.RawMessage
		if gpsObject.MatchString(name) && json.Unmarshal(members[name], &inner) == nil {
			if l := locationIn(inner, "latitude", []string{"longitude"}, []string{"altitude"}); l != nil {
				return l
			}
		}
	}
	for _, k := range locationKeys {
		if l := locationIn(members, k.latitude, k.longitude, k.altitude); l != nil {
			return l
		}
	}
	return nil
}

func locationIn(members map[string]json.RawMessage, latitude string, longitude, altitude []string) *messages.Location {
	lat, ok := number(members, latitude)
	lon, ok2 := number(members, longitude...)
	if !ok || !ok2 || lat == 0 && lon == 0 || math.Abs(lat) > 90 || math.Abs(lon) > 180 {
		return nil
	}
	l := &messages.Location{Latitude: lat, Longitude: lon, Source: "SOURCE_GPS"}
	if alt, ok := number(members, altitude...); ok && math.Abs(alt) < math.MaxInt32 {
		l.Altitude = int32(alt)
	}
	if acc, ok := number(members, accuracyKeys...); ok && acc >= 0 && acc < math.MaxInt32 {
		l.Accuracy = int32(acc)
	}
	return l
}

// number gives the first of the members that is a number.
func number(members map[string]json.RawMessage, names ...string) (float64, bool) {
	for _, name := range names {
		var n *float64
		if raw, ok := members[name]; ok && json.Unmarshal(raw, &n) == nil && n != nil {
			return *n, true
		}
	}
	return 0, false
}

// locationsWith gives the locations of a device with the one that its payload told.
func locationsWith(registered map[string]v3.Location, payload *messages.Location) map[string]v3.Location {
	if payload == nil {
		return registered
	}
	out := maps.Clone(registered)
	if out == nil {
		out = map[string]v3.Location{}
	}
	out[payloadService] = locationFrom(payload)
	return out
}
