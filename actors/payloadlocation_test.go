package actors

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func TestLocationIsFoundInDecodedPayloads(t *testing.T) {
	at := func(lat, lon float64, altitude, accuracy int32) *messages.Location {
		return &messages.Location{Latitude: lat, Longitude: lon, Altitude: altitude, Accuracy: accuracy, Source: "SOURCE_GPS"}
	}
	for payload, want := range map[string]*messages.Location{
		`{"gps_1":{"latitude":52.1,"longitude":4.2,"altitude":7}}`:                         at(52.1, 4.2, 7, 0),
		`{"gps_2":{"latitude":1,"longitude":1},"gps_1":{"latitude":52.1,"longitude":4.2}}`: at(52.1, 4.2, 0, 0),
		`{"gps_1":{"latitude":0,"longitude":0},"lat":3,"lng":4}`:                           at(3, 4, 0, 0),
		`{"lat":-1.5,"lon":2.5,"alt":-3.9,"acc":4.9}`:                                      at(-1.5, 2.5, -3, 4),
		`{"lat":1,"lng":2,"accuracy":3}`:                                                   at(1, 2, 0, 3),
		`{"lat":1,"long":2,"hacc":3}`:                                                      at(1, 2, 0, 3),
		`{"latitude":1,"longitude":2,"altitude":3}`:                                        at(1, 2, 3, 0),
		`{"Latitude":1,"Longitude":2,"Altitude":3}`:                                        at(1, 2, 3, 0),
		`{"latitudeDeg":1,"longitudeDeg":2,"height":3}`:                                    at(1, 2, 3, 0),
		`{"gps_lat":1,"gps_lng":2,"gps_alt":3}`:                                            at(1, 2, 3, 0),
		`{"gps_lat":1,"gps_lon":2,"gpsalt":3}`:                                             at(1, 2, 3, 0),
		`{"lat":0,"lon":2}`:                                                                at(0, 2, 0, 0),
		`{"lat":0,"lon":0}`:                                                                nil,
		`{"lat":"1","lon":"2"}`:                                                            nil,
		`{"lat":null,"lon":2}`:                                                             nil,
		`{"lat":1}`:                                                                        nil,
		`{"lat":91,"lon":2}`:                                                               nil,
		`{"lat":1,"lon":181}`:                                                              nil,
		`{"position":{"lat":1,"lon":2}}`:                                                   nil,
		`{"gps_x":{"latitude":1,"longitude":2}}`:                                           nil,
		`{"lat":1,"lon":2,"alt":1e300,"acc":-1}`:                                           at(1, 2, 0, 0),
		`{"plate":1}`:                                                                      nil,
		`[]`:                                                                               nil,
		`["lat"]`:                                                                          nil,
		``:                                                                                 nil,
	} {
		if diff := cmp.Diff(want, payloadLocation(json.RawMessage(payload))); diff != "" {
			t.Errorf("%s: %s", payload, diff)
		}
	}
}
