package actors

import (
	"encoding/json"
	"testing"

	"lorikeet/messages"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
)

func simulated(t *testing.T, body string) v3.ApplicationUp {
	t.Helper()
	var up v3.ApplicationUp
	if err := json.Unmarshal([]byte(body), &up); err != nil {
		t.Fatal(err)
	}
	return up
}

// Every type of message can be simulated with any body; nothing of the device changes.
func TestMessagesOfEveryTypeAreSimulated(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		before, _, err := r.store.LoadSession(t.Context(), testID)
		if err != nil {
			t.Fatal(err)
		}
		for _, typ := range messages.EventTypes {
			if err := r.devices.SimulateUplink(t.Context(), testID, simulated(t, `{"`+string(typ)+`":{},"end_device_ids":{"device_id":"other"},"correlation_ids":["mine"]}`)); err != nil {
				t.Errorf("%s: %v", typ, err)
			}
		}
		for i, up := range r.wantTypes(messages.EventTypes[:]...) {
			if !up.Simulated || up.EndDeviceIDs.DeviceID != "dev" || *up.EndDeviceIDs.DevAddr != addr || up.CorrelationIDs[0] != "mine" || len(up.CorrelationIDs) != 2 {
				t.Errorf("%s: %+v", messages.EventTypes[i], up)
			}
		}
		if after, _, _ := r.store.LoadSession(t.Context(), testID); string(after) != string(before) {
			t.Error("a simulation changed the device")
		}
		for _, body := range []string{`{}`, `{"uplink_message":{},"join_accept":{}}`} {
			if err := r.devices.SimulateUplink(t.Context(), testID, simulated(t, body)); messages.CodeOf(err) != messages.CodeInvalid {
				t.Errorf("%s: %v", body, err)
			}
		}
	})
}

func TestSimulatedUplinkIsDecodedAndSaysWhatItsPayloadSays(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.decoded = &messages.Decoded{Data: json.RawMessage(`{"lat":52.5,"lon":4.5}`), Normalized: []json.RawMessage{json.RawMessage(`{"air":{}}`)}}
		if err := r.devices.SimulateUplink(t.Context(), testID, simulated(t, `{"uplink_message":{"f_port":2,"frm_payload":"AQI=","rx_metadata":[{"rssi":-30,"advanced":{"x":1}}]}}`)); err != nil {
			t.Fatal(err)
		}
		log := r.wantTypes(messages.EventUplink, messages.EventUplinkNormalized, messages.EventLocationSolved)
		if m := log[0].UplinkMessage; m.Attributes["floor"] != "3" || m.Locations != nil || string(m.RxMetadata[0].Advanced) != `{"x":1}` {
			t.Errorf("%+v", m)
		}
		if l := log[2].LocationSolved; !log[2].Simulated || l.Location.Latitude != 52.5 || l.Service != "frm-payload" {
			t.Errorf("%+v", l)
		}
		if dev, err := r.devices.DeviceState(t.Context(), testID); err != nil || dev.Locations != nil {
			t.Errorf("the device was moved by a simulation: %v %v", dev.Locations, err)
		}
	})
}

func TestLocationOfThePayloadIsShownFromTheNextUplinkOn(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.decoded = &messages.Decoded{Data: json.RawMessage(`{"lat":52.5,"lon":4.5}`)}
		for n := range uint32(2) {
			r.hear(phy(n+1, 2, false, 1), 1, 1000*n, 868100000)
			r.settle()
		}
		log := r.wantTypes(messages.EventUplink, messages.EventLocationSolved, messages.EventUplink, messages.EventLocationSolved)
		if log[0].UplinkMessage.Locations != nil || log[2].UplinkMessage.Locations["frm-payload"].Latitude != 52.5 {
			t.Errorf("%v, then %v", log[0].UplinkMessage.Locations, log[2].UplinkMessage.Locations)
		}
		dev, err := r.devices.DeviceState(t.Context(), testID)
		if err != nil || dev.Locations["frm-payload"].Longitude != 4.5 {
			t.Errorf("%v %v", dev.Locations, err)
		}
	})
}

func TestSkippedCryptoIsNeitherDecodedNorEncodedNorSimulated(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		kek, err := keywrap.Parse("as/me", "000102030405060708090A0B0C0D0E0F")
		if err != nil {
			t.Fatal(err)
		}
		skip := v3.BoolValue(true)
		r.configure(func(dev *v3.EndDevice) { dev.SkipPayloadCryptoOverride = &skip }, &kek)
		r.hear(phy(1, 2, false, 0xab), 1, 1000, 868100000)
		r.settle()
		m := r.wantTypes(messages.EventUplink)[0].UplinkMessage
		if m.DecodedPayload != nil || m.DecodeError != "" || string(m.FRMPayload) == "\xab" || m.AppSKey == nil || m.AppSKey.Key != nil || m.AppSKey.KEKLabel != "as/me" {
			t.Fatalf("%+v", m)
		}
		if key, err := kek.Unwrap(m.AppSKey.EncryptedKey); err != nil || key != appSKey {
			t.Fatalf("the AppSKey does not open: %v", err)
		}
		for name, err := range map[string]error{
			"payload_crypto_skipped": r.devices.SimulateUplink(t.Context(), testID, simulated(t, `{"uplink_message":{"f_port":1,"frm_payload":"AQ=="}}`)),
			"f_cnt_too_low":          r.devices.PushDownlinks(t.Context(), testID, []messages.Downlink{{FPort: 1, FRMPayload: []byte{1}}}),
		} {
			if refusalName(err) != name {
				t.Errorf("%v, want %s", err, name)
			}
		}
		if err := r.devices.PushDownlinks(t.Context(), testID, []messages.Downlink{{FPort: 1, DecodedPayload: json.RawMessage(`{}`)}}); refusalName(err) != "payload_crypto_skipped" {
			t.Error(err)
		}
		accepted, err := r.devices.QueueDownlinks(t.Context(), testID, []messages.Downlink{{FPort: 1, FRMPayload: []byte{1, 2}, FCnt: 5}}, false)
		if err != nil || accepted[0].DecodedPayload != nil {
			t.Fatalf("%+v %v", accepted, err)
		}
		// Without a KEK the key stays here.
		r.configure(func(dev *v3.EndDevice) { dev.SkipPayloadCryptoOverride = &skip }, nil)
		r.hear(phy(2, 2, false, 0xab), 1, 9000, 868100000)
		r.settle()
		if m := r.log()[2].UplinkMessage; m == nil || m.AppSKey != nil {
			t.Fatalf("%+v", m)
		}
	})
}
