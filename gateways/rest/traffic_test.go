package rest

import (
	"net/http"
	"strings"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func TestDownlinkQueue(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	const path = "/as/applications/app1/devices/abp1/down"
	if got := d.do("POST", path+"/push", `{"downlinks":[{"fPort":15,"frmPayload":"vu8","priority":"NORMAL","confirmed":true,"correlation_ids":["my-id-1"],"confirmedRetry":{"maxAttempts":3}}]}`).is(200); strings.TrimSpace(got.Body) != `{"downlinks":[{"id":"ITEM1"}]}` {
		t.Error(got.Body)
	}
	d.do("POST", path+"/push", `{"end_device_ids":{"device_id":"other"},"downlinks":[{"f_port":2,"frm_payload":"AA=="}]}`).is(200) // the path wins
	d.do("GET", path, nil).is(200).has("downlinks",
		`[{"confirmed":true,"confirmed_retry":{"max_attempts":3},"correlation_ids":["my-id-1"],"f_port":15,"frm_payload":"vu8=","id":"ITEM1","priority":"NORMAL"},{"f_port":2,"frm_payload":"AA==","id":"ITEM2"}]`)
	d.do("POST", path+"/replace", `{"downlinks":[{"f_port":3}]}`).is(200)
	d.do("GET", path, nil).is(200).has("downlinks", `[{"f_port":3,"id":"ITEM3"}]`)
	if got := d.do("POST", path+"/replace", `{"downlinks":[]}`).is(200); strings.TrimSpace(got.Body) != "{}" {
		t.Error(got.Body)
	}
	d.do("GET", path, nil).is(200).has("downlinks", "")
	for body, name := range map[string]string{
		`{}`:                 "no_downlinks",
		`{"f_port":1}`:       "no_downlinks",
		`{"downlinks":null}`: "no_downlinks",
		`{"f_port":1,"correlation_ids":["downlinks"]}`: "no_downlinks", // a value, not the member
		`[]`:              "decode_body",
		``:                "empty_body",
		`{"downlinks":1}`: "decode_body",
		`{"downlinks":[{"f_port":224,"frm_payload":"AA=="}]}`:              "validate_body",
		`{"downlinks":[{"frm_payload":"AA=="}]}`:                           "validate_body",
		`{"downlinks":[{"f_port":1,"frm_payload":"not base64!"}]}`:         "decode_body",
		`{"downlinks":[{"f_port":1,"priority":"TOP"}]}`:                    "decode_body",
		`{"downlinks":[{"f_port":1,"decoded_payload":[1]}]}`:               "validate_body",
		`{"downlinks":[` + strings.Repeat(`{},`, v3.MaxDownlinks) + `{}]}`: "downlink_queue_capacity",
	} {
		d.do("POST", path+"/push", body).fails(400, name)
		d.do("POST", path+"/replace", body).fails(400, name)
	}
	if got := d.do("POST", path+"/push", "{\n \"downlinks\": [ {\"f_port\": 1, \"frmPayloads\": \"AQI=\" } ] }").is(200).Header.Values("X-Warning"); len(got) != 1 || !strings.Contains(got[0], "downlinks[0].frm_payloads") {
		t.Errorf("X-Warning %q", got)
	}
	d.do("POST", "/as/applications/app1/devices/dev9/down/push", `{"downlinks":[]}`).fails(404, "device_not_found")
	d.do("GET", "/as/applications/app1/devices/dev9/down", nil).fails(404, "device_not_found")
	d.devices.failOnce("push", messages.Errorf(messages.CodeExhausted, "downlink_queue_capacity", "wait until some are sent"))
	d.do("POST", path+"/push", `{"downlinks":[{"f_port":3}]}`).fails(http.StatusTooManyRequests, "downlink_queue_capacity")
}

func TestDownlinksAreCancelled(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	const path = "/as/applications/app1/devices/abp1/down"
	d.do("POST", path+"/push", `{"downlinks":[{"f_port":1},{"f_port":2},{"f_port":3}]}`).is(200)
	d.do("DELETE", path+"/ITEM2", nil).is(200)
	d.do("DELETE", path+"/ITEM2", nil).fails(404, "downlink_not_found")
	got := d.do("POST", path+"/cancel", `{"ids":["ITEM1","ITEM2","ITEM1"]}`).is(200).has("cancelled", `["ITEM1"]`)
	if !strings.Contains(got.Body, `"refused":[{"id":"ITEM2","error":{`) || !strings.Contains(got.Body, "downlink_not_found") {
		t.Error(got.Body)
	}
	d.do("GET", path, nil).is(200).has("downlinks", `[{"f_port":3,"id":"ITEM3"}]`)
	d.do("POST", path+"/cancel", `{"ids":[]}`).fails(400, "no_ids")
	d.do("POST", path+"/cancel", `{"ids":["`+strings.Repeat(`","`, 1000)+`"]}`).fails(400, "too_many_ids")
	d.do("POST", path+"/cancel", `{"ids":7}`).fails(400, "decode_body")
	d.with(d.keyFor("app1", messages.RightApplicationTrafficRead)).do("DELETE", path+"/ITEM3", nil).fails(403, "insufficient_application_rights")
	d.do("DELETE", "/as/applications/app1/devices/dev9/down/ITEM1", nil).fails(404, "device_not_found")
}

func TestAnswerSaysWhatClassBAndCItemsWaitFor(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	got := d.do("POST", "/as/applications/app1/devices/abp1/down/push", `{"downlinks":[{"f_port":1},{"f_port":2,"class_b_c":{"gateways":[{"gateway_ids":{"gateway_id":"gtw1"}}]}}]}`).is(200)
	if w := got.Header.Values("X-Warning"); len(w) != 1 || !strings.Contains(w[0], "downlinks[1].class_b_c") {
		t.Errorf("X-Warning %q", w)
	}
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	const path = "/as/applications/app1/devices/dev1/up/simulate"
	d.do("POST", path, `{"uplinkMessage":{"fPort":"1","frmPayload":"AQI=","settings":{"frequency":868100000,"data_rate":{"lora":{"spreading_factor":7}}},"rx_metadata":[{"rssi":-30,"snr":5}]}}`).is(200)
	if len(d.devices.ups) != 1 || d.devices.ups[0].UplinkMessage.FPort != 1 || len(d.devices.ups[0].UplinkMessage.FRMPayload) != 2 || d.devices.ups[0].UplinkMessage.Settings.Frequency != 868100000 {
		t.Errorf("simulated %+v", d.devices.ups)
	}
	if got := d.do("POST", path, `{"uplink_message":{"rx_metadata":[{},{"uplink_token":7}]}}`).fails(400, "decode_body"); !strings.Contains(got.Body, "uplink_message.rx_metadata[1].uplink_token") {
		t.Error(got.Body)
	}
	if got := d.do("POST", path, `{"join_accept":{},"surprise":1}`).is(200); got.Header.Get("X-Warning") != "unknown field surprise ignored" {
		t.Error(got.Header)
	}
}

func TestFormatterTests(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	const path = "/as/applications/app1/devices/dev1/"
	up := func(formatter string) string {
		return `{"uplink":{"f_port":3,"frm_payload":"AQI=","decoded_payload":{"old":1}}` + formatter + `}`
	}
	lua := `,"formatter":"FORMATTER_LUA","parameter":`
	d.do("POST", path+"up/decode", up(lua+`"x"`)).is(200).has("uplink.decoded_payload", `{"n":2,"port":3}`).has("uplink.decoded_payload_warnings", `["w"]`)
	d.do("POST", path+"up/decode", up(``)).is(200).has("uplink.decoded_payload", `{"n":2,"port":3}`) // the device's own
	d.do("POST", path+"up/decode", up(`,"formatter":"FORMATTER_NONE"`)).is(200).has("uplink.decoded_payload", "").has("uplink.f_port", "3")
	d.do("POST", strings.Replace(path, "dev1", "abp1", 1)+"up/decode", up(``)).is(200).has("uplink.decoded_payload", "")
	d.do("PUT", "/as/applications/app1/link", `{"link":{"default_formatters":{"up_formatter":"FORMATTER_CAYENNELPP","down_formatter":"FORMATTER_CAYENNELPP"}}}`).is(200)
	d.do("POST", strings.Replace(path, "dev1", "abp1", 1)+"up/decode", up(``)).is(200).has("uplink.decoded_payload", `{"n":2,"port":3}`)
	d.do("POST", strings.Replace(path, "dev1", "dev9", 1)+"up/decode", up(``)).fails(404, "device_not_found")

	got := d.do("POST", path+"up/decode", up(lua+`"bad"`)).fails(400, "decode_uplink")
	if c := got.err().Details[0].Cause; c == nil || c.Name != "script" || !strings.Contains(c.MessageFormat, "line 1") {
		t.Errorf("the cause is missing: %s", got.Body)
	}
	if got := d.do("POST", path+"up/decode", up(lua+`"plain"`)).fails(400, "decode_uplink"); !strings.Contains(got.Body, "line 2: oops") {
		t.Error(got.Body)
	}
	d.do("POST", path+"up/decode", up(lua+`"busy"`)).fails(503, "workers_busy")
	d.do("POST", path+"up/decode", up(`,"formatter":"FORMATTER_GRPC_SERVICE"`)).fails(400, "formatter_not_configured")
	d.do("POST", path+"up/decode", up(lua+`"`+strings.Repeat("x", messages.MaxFormatterSource+1)+`"`)).fails(400, "formatter_script_too_large")
	d.do("POST", path+"up/decode", `{"formatter":"FORMATTER_LUA"}`).fails(400, "no_uplink")
	d.do("POST", path+"up/decode", `{"uplink":{"f_port":256},"formatter":"FORMATTER_LUA"}`).fails(400, "f_port")

	d.do("POST", path+"down/encode", `{"downlink":{"f_port":7,"decoded_payload":{"a":1}}`+lua+`"x"}`).is(200).has("downlink.frm_payload", `"Bw=="`).has("downlink.f_port", "7")
	d.do("POST", path+"down/encode", `{"downlink":{"f_port":7,"decoded_payload":{"a":1}}`+lua+`"bad"}`).fails(400, "encode_downlink")
	d.do("POST", path+"down/encode", `{"downlink":{"f_port":7}`+lua+`"x"}`).fails(400, "decoded_payload")
	d.do("POST", path+"down/encode", `{"downlink":{"f_port":7,"decoded_payload":{}},"formatter":"FORMATTER_NONE"}`).is(200).has("downlink.frm_payload", "")
	d.do("POST", path+"down/decode", `{"downlink":{"f_port":7,"frm_payload":"AQID"}`+lua+`"x"}`).is(200).has("downlink.decoded_payload", `{"n":3,"port":7}`)
	d.do("POST", path+"down/decode", `{"downlink":{"f_port":7,"frm_payload":"AQID"}`+lua+`"bad"}`).fails(400, "decode_downlink")
	d.do("POST", path+"down/decode", `{"downlink":{"f_port":300}`+lua+`"x"}`).fails(400, "f_port")
	d.do("POST", path+"down/decode", `{}`).fails(400, "no_downlink")
	d.do("POST", strings.Replace(path, "dev1", "abp1", 1)+"down/decode", `{"downlink":{"f_port":7,"frm_payload":"AQID"}}`).is(200).has("downlink.decoded_payload", `{"n":3,"port":7}`)
}

func TestWrongDownlinksAreRefusedUnlessTheServerIsLenient(t *testing.T) {
	t.Parallel()
	const push, replace = "/as/applications/app1/devices/abp1/down/push", "/as/applications/app1/devices/abp1/down/replace"
	lenient := func(c *Config) { c.Input = v3.Lenient }
	for _, mode := range [][]func(*Config){nil, {lenient}} {
		d := newDoor(t, mode...)
		d.app("app1")
		d.do("POST", "/applications/app1/devices", abp).is(200)
		for name, body := range map[string]string{
			"decode_body":  `{"downlinks":[{"f_port":1,"frm_payload":"beef","priority":"TOP"}]}`,
			"no_downlinks": `{"f_port":1,"frm_payload":"AQ=="}`,
		} {
			got := d.do("POST", push, body)
			if mode == nil {
				got.fails(400, name)
				continue
			}
			got.is(200)
		}
		if mode != nil {
			d.do("GET", strings.TrimSuffix(push, "/push"), nil).is(200).has("downlinks", `[{"f_port":1,"frm_payload":"beef","id":"ITEM1"}]`)
			d.do("POST", replace, `{}`).is(200)
			d.do("GET", strings.TrimSuffix(push, "/push"), nil).is(200).has("downlinks", "")
		}
		d.do("POST", push, `{"downlinks":[{"fPort":"2","frmPayload":"-_8","priority":"6","newField":1}]}`).is(200)
		got := d.do("POST", "/as/applications/app1/devices/abp1/up/simulate", `{"uplink_message":{"f_port":"1","frm_payload":"01FF","rx_metadata":[{"rssi":"-35"}]}}`)
		if mode == nil {
			got.fails(400, "decode_body")
		} else {
			got.is(200)
		}
		d.do("POST", "/as/applications/app1/devices/Abp1/down/push", `{"downlinks":[]}`).fails(400, "invalid_id") // The Things Stack too
	}
}
