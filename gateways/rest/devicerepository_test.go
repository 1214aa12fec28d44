package rest

import (
	"log/slog"
	"strings"
	"testing"

	"lorikeet/formatters/repository"
)

func withRepository(t *testing.T) func(*Config) {
	t.Helper()
	r, err := repository.Open("../../formatters/repository/testdata/devices", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *Config) { cfg.DeviceRepository = r }
}

func TestDeviceRepository(t *testing.T) {
	t.Parallel()
	d := newDoor(t, withRepository(t))
	d.app("app1")
	const version = "/brands/alder/models/room-sensor/1.0/EU_863_870"
	for _, prefix := range []string{"/dr", "/dr/applications/app1"} {
		for _, c := range []struct{ path, total, part string }{
			{"/brands", "4", `{"brand_id":"alder","lora_alliance_vendor_id":9001,"name":"Alder Sensors",`},
			{"/brands?field_mask=name&limit=1&page=2", "4", `{"brands":[{"brand_id":"birch","name":"Birch Meters"}]}`},
			{"/brands?search=cedar%20instr", "1", `"brand_id":"cedar"`},
			{"/brands/birch", "", `"private_enterprise_number":4242`},
			{"/models?search=meter&field_mask=name", "1", `{"models":[{"brand_id":"birch","model_id":"water-meter","name":"Water Meter"}]}`},
			{"/brands/cedar/models?order=-model_id&field_mask=name", "2", `{"models":[{"brand_id":"cedar","model_id":"thief","name":"Thief"},{"brand_id":"cedar","model_id":"probe",`},
			{"/brands/alder/models", "1", `"profiles":{"EU_863_870":{"codec_id":"room-sensor-codec","lorawan_certified":true,"profile_id":"profile-eu868"}`},
			{"/brands/alder/models/room-sensor?field_mask=weight", "", `{"brand_id":"alder","model_id":"room-sensor","weight":90.5}`},
			{version + "/template", "", `"lorawan_version":"MAC_V1_0_3"`},
			{"/vendors/9001/profiles/42/template", "", `"model_id":"room-sensor"`},
			{version + "/formatters/uplink/decoder", "", `"codec_id":"room-sensor-codec"}`}, // no examples
			{version + "/formatters/downlink/encoder?field_mask=examples", "", `"output":{"f_port":2,"frm_payload":"Alg="}`},
			{version + "/formatters/downlink/decoder", "", `"formatter":"FORMATTER_JAVASCRIPT"`},
			{"/brands/birch/models/water-meter/-/-/formatters/uplink/decoder", "", `"codec_id":"meter"`},
		} {
			got := d.do("GET", prefix+c.path, nil).is(200)
			if total := got.Header.Get("X-Total-Count"); total != c.total {
				t.Errorf("%s: %q in all, want %q", c.path, total, c.total)
			}
			if !strings.Contains(got.Body, c.part) {
				t.Errorf("%s: got %s, want %s in it", c.path, got.Body, c.part)
			}
		}
	}
}

func TestDeviceRepositoryRefusals(t *testing.T) {
	t.Parallel()
	d := newDoor(t, withRepository(t))
	for path, want := range map[string]string{
		"/brands/none":                                                                "brand_not_found",
		"/brands/none/models":                                                         "brand_not_found",
		"/brands/..%2F..%2Fetc/models":                                                "brand_not_found",
		"/brands/alder/models/none":                                                   "model_not_found",
		"/brands/alder/models/..%2Findex":                                             "model_not_found",
		"/brands/alder/models/none/1/EU/x":                                            "not_found",
		"/brands/alder/models/none/1/EU/template":                                     "model_not_found",
		"/brands/alder/models/room-sensor/9/EU_863_870/template":                      "firmware_version_not_found",
		"/brands/alder/models/room-sensor/1.0/EU_433/template":                        "no_profile_for_band",
		"/brands/cedar/models/probe/1/US_902_928/formatters/uplink/decoder":           "no_codec",
		"/brands/birch/models/water-meter/3.1/EU_863_870/formatters/downlink/encoder": "no_encoder",
	} {
		d.do("GET", "/dr"+path, nil).fails(404, want)
	}
	d.do("GET", "/dr/vendors/9001/profiles/9/template", nil).fails(404, "end_device_profile_not_found")
	d.do("GET", "/dr/vendors/alder/profiles/9/template", nil).fails(400, "invalid_vendor_id")
	d.do("GET", "/dr/vendors/9001/profiles/-1/template", nil).fails(400, "invalid_vendor_profile_id")
	d.do("GET", "/dr/brands?order=color", nil).fails(400, "invalid_order")
	newDoor(t).do("GET", "/dr/brands", nil).fails(400, "no_device_repository")
}
