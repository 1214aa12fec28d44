package rest

import (
	"encoding/json"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

// fuzzRoute sends bodies to a route. Whatever they are, the answer is JSON, an error is one that a client can act upon, and the entity at
// readBack (if there is one) can still be read and, written back as it was read, stays what it is.
func fuzzRoute(f *testing.F, method, path, readBack, member string, seeds ...string) {
	quiet := func(c *Config) { c.Log = slog.New(slog.DiscardHandler) }
	d := newDoor(f, quiet)
	d.app("app1")
	d.do("POST", "/applications/app1/devices", otaa).is(200)
	d.do("POST", "/applications/app1/devices", abp).is(200)
	d.do("PUT", "/as/webhooks/app1/wh1", hook).is(200)
	d.do("PUT", "/as/pubsub/app1/ps1", `{"pubsub":{"base_topic":"t","mqtt":{"server_url":"mqtt://example.com","password":"p"}}}`).is(200)
	d.do("POST", "/users/admin/gateways", `{"gateway":{"ids":{"gateway_id":"gtw1"}}}`).is(200)
	for _, s := range append(seeds, `{}`, `null`, `[]`, `{"`+member+`":null}`, `{"`+member+`":{"ids":null},"field_mask":{"paths":["ids","*"]}}`,
		`{"`+member+`":{"a":{"b":[1,"x",{"c":null}]}},"field_mask":"a.b,ids.x.y,created_at"}`) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := *d
		d.TB = t
		got := d.do(method, path, string(body))
		if got.Status >= 500 || got.Status == 401 || got.Status == 403 {
			t.Fatalf("HTTP %d %s", got.Status, got.Body)
		}
		if got.Status != 200 {
			e := got.err()
			if e.Details[0].Name == "" || e.Details[0].MessageFormat == "" {
				t.Fatalf("the error says nothing: %s", got.Body)
			}
		}
		if got.Body != "" && !json.Valid([]byte(got.Body)) {
			t.Fatalf("not JSON: %s", got.Body)
		}
		if readBack == "" {
			return
		}
		before := d.do("GET", readBack+"?field_mask=*", nil).is(200)
		d.do("PUT", readBack, `{"`+member+`":`+before.Body+`}`).is(200)
		after := d.do("GET", readBack+"?field_mask=*", nil).is(200)
		a, b := before.tree(), after.tree()
		delete(a, "updated_at")
		delete(b, "updated_at")
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("read and written back:\n%s\n%s", before.Body, after.Body)
		}
	})
}

func FuzzDevice(f *testing.F) {
	fuzzRoute(f, "PUT", "/ns/applications/app1/devices/abp1", "/applications/app1/devices/abp1", "end_device", otaa, abp,
		strings.TrimSuffix(abp, "}")+`,"field_mask":{"paths":["session.keys","mac_settings.rx1_delay","session.dev_addr"]}}`,
		`{"endDevice":{"macSettings":{"rx1Delay":"RX_DELAY_5","factoryPresetFrequencies":["868100000"]},"session":{"devAddr":"01020304"}}}`)
}

func FuzzCreateDevice(f *testing.F) {
	fuzzRoute(f, "POST", "/applications/app1/devices", "", "end_device", otaa, abp, strings.Replace(abp, "abp1", "abp2", 1))
}

func FuzzApplication(f *testing.F) {
	fuzzRoute(f, "PUT", "/applications/app1", "/applications/app1", "application",
		`{"application":{"name":"n","attributes":{"key1":"v"}},"field_mask":{"paths":["attributes.key1","name"]}}`, `{"application":{"attributes":{"key1":"<&>"}}}`)
}

func FuzzLink(f *testing.F) {
	fuzzRoute(f, "PUT", "/as/applications/app1/link", "/as/applications/app1/link", "link",
		`{"link":{"default_formatters":{"up_formatter":"FORMATTER_LUA","up_formatter_parameter":"\u0000<"}},"field_mask":{"paths":["default_formatters.up_formatter"]}}`)
}

func FuzzWebhook(f *testing.F) {
	fuzzRoute(f, "PUT", "/as/webhooks/app1/wh1", "/as/webhooks/app1/wh1", "webhook", hook,
		`{"webhook":{"baseUrl":"https://example.com{/appID}","headers":{"aB":"c"},"template_ids":{"template_id":"x"}},"field_mask":{"paths":["baseUrl","headers.aB","template_ids"]}}`)
}

func FuzzPubSub(f *testing.F) {
	fuzzRoute(f, "PUT", "/as/pubsub/app1/ps1", "/as/pubsub/app1/ps1", "pubsub",
		`{"pubsub":{"nats":{"server_url":"nats://a"}},"field_mask":{"paths":["nats.server_url"]}}`, `{"pubsub":{"mqtt":{"server_url":"mqtts://a","publish_qos":2,"tls_ca":"AQ"}}}`)
}

func FuzzAPIKey(f *testing.F) {
	fuzzRoute(f, "POST", "/applications/app1/api-keys", "", "api_key",
		`{"name":"n","rights":["RIGHT_APPLICATION_INFO","RIGHT_APPLICATION_INFO"],"expires_at":"2099-01-01T00:00:00Z"}`, `{"rights":[1]}`)
}

func FuzzGateway(f *testing.F) {
	fuzzRoute(f, "PUT", "/gateways/gtw1", "/gateways/gtw1", "gateway",
		`{"gateway":{"ids":{"eui":"0102030405060708"},"antennas":[{"location":{"latitude":1e1}}],"frequency_plan_ids":["EU_863_870"]}}`,
		`{"gateway":{"antennas":[{}]},"field_mask":{"paths":["antennas.location"]}}`)
}

func FuzzDownlinks(f *testing.F) {
	fuzzRoute(f, "POST", "/as/applications/app1/devices/abp1/down/replace", "", "downlinks",
		`{"downlinks":[{"f_port":15,"frm_payload":"vu8=","priority":"NORMAL","class_b_c":{"absolute_time":"2024-10-24T10:05:00Z"}}]}`, `{"downlinks":[{"fPort":"1","decodedPayload":{"a":[]}}]}`)
}

func FuzzSimulate(f *testing.F) {
	fuzzRoute(f, "POST", "/as/applications/app1/devices/abp1/up/simulate", "", "uplink_message",
		`{"uplink_message":{"f_port":1,"frm_payload":"AQI=","rx_metadata":[{"gateway_ids":{"gateway_id":"g"},"fine_timestamp":"1","signal_rssi":-3}],"consumed_airtime":"0.05s"}}`,
		`{"location_solved":{"location":{"latitude":1}},"simulated":false}`)
}

func FuzzDecode(f *testing.F) {
	fuzzRoute(f, "POST", "/as/applications/app1/devices/abp1/up/decode", "", "uplink",
		`{"uplink":{"f_port":1,"frm_payload":"AQ=="},"formatter":"FORMATTER_LUA","parameter":"x","version_ids":{"brand_id":"b"}}`, `{"uplink":{"received_at":"x"}}`)
}

func FuzzEncode(f *testing.F) {
	fuzzRoute(f, "POST", "/as/applications/app1/devices/abp1/down/encode", "", "downlink",
		`{"downlink":{"f_port":1,"decoded_payload":{"a":1}},"formatter":"FORMATTER_LUA"}`, `{"downlink":{"decoded_payload":[]},"formatter":"FORMATTER_CAYENNELPP"}`)
}

func FuzzFilter(f *testing.F) {
	fuzzRoute(f, "POST", "/applications/app1/devices/filter", "", "filters",
		`{"filters":[{"updated_since":"2026-01-01T00:00:00Z"}],"order":"-name","limit":"2","page":1,"field_mask":"name"}`, `{"updatedSince":"2026-01-01T00:00:00Z","order":"x"}`)
}

func FuzzClaim(f *testing.F) {
	fuzzRoute(f, "POST", "/edcs/claim", "", "authenticated_identifiers",
		`{"qr_code":"LW:D0:0000000000000001:70B3D57ED0000009:AABB1122:OX","target_application_ids":{"application_id":"app1"},"target_device_id":"abc"}`,
		`{"authenticated_identifiers":{"join_eui":"0000000000000001","dev_eui":"70B3D57ED0000009","authentication_code":"A"},"target_application_ids":{"application_id":"app1"}}`)
}

func FuzzQRCode(f *testing.F) {
	fuzzRoute(f, "POST", "/qr-codes/end-devices", "", "end_device",
		`{"end_device":{"ids":{"join_eui":"70B3D57ED0000001","dev_eui":"0004A30B001C0530"},"claim_authentication_code":{"value":"A"},"lora_alliance_profile_ids":{"vendor_id":1}},"image":{"image_size":99}}`)
}

func FuzzQRCodeParse(f *testing.F) {
	fuzzRoute(f, "POST", "/qr-codes/end-devices/parse", "", "qr_code", `{"qr_code":"LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122:OX:SY"}`, `{"qr_code":"TFc6RDA6"}`)
}
