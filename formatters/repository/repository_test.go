package repository

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const sample = "testdata/devices"

func open(t *testing.T) *Repository {
	t.Helper()
	r, err := Open(sample, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantName(t *testing.T, what string, err error, name string) {
	t.Helper()
	var e *messages.Error
	if !errors.As(err, &e) || e.Name != name {
		t.Errorf("%s: got error %v, want %s", what, err, name)
	}
}

func TestBrands(t *testing.T) {
	t.Parallel()
	r := open(t)
	brands, err := r.Brands()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, b := range brands {
		ids = append(ids, b.BrandID)
	}
	if got := strings.Join(ids, " "); got != "alder birch cedar willow" {
		t.Errorf("got %s: drafts must be left out, the order must be kept", got)
	}
	want := v3.EndDeviceBrand{BrandID: "alder", Name: "Alder Sensors", LoRaAllianceVendorID: 9001, Website: "https://alder.example", OrganizationUniqueIdentifiers: []string{"70B3D57ED"}}
	if diff := cmp.Diff(want, brands[0]); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if b, err := r.Brand("birch"); err != nil || b.PrivateEnterpriseNumber != 4242 {
		t.Errorf("got %+v, %v", b, err)
	}
	_, err = r.Brand("draft")
	wantName(t, "draft", err, "brand_not_found")
}

func TestModels(t *testing.T) {
	t.Parallel()
	r := open(t)
	models, err := r.Models("alder")
	if err != nil || len(models) != 1 || models[0].ModelID != "room-sensor" {
		t.Fatalf("got %+v, %v: the broken one must not spoil the other", models, err)
	}
	text, err := json.Marshal(models[0])
	want := `{"brand_id":"alder","model_id":"room-sensor","name":"Room Sensor","description":"Temperature, humidity and motion",` +
		`"hardware_versions":[{"version":"1.0","numeric":1,"part_number":"RS-1"}],"firmware_versions":[{"version":"1.0","numeric":1,"supported_hardware_versions":["1.0"],` +
		`"profiles":{"EU_863_870":{"profile_id":"profile-eu868","lorawan_certified":true,"codec_id":"room-sensor-codec"},"US_902_928":{"profile_id":"profile-us915","codec_id":"room-sensor-codec"}}},` +
		`{"version":"2.0","profiles":{"EU_863_870":{"profile_id":"profile-eu868","codec_id":"room-sensor-2-codec"}}}],"sensors":["temperature","humidity","motion"],` +
		`"dimensions":{"width":80,"height":80,"length":25},"weight":90.5,"battery":{"replaceable":true,"type":"AA"},` +
		`"operating_conditions":{"temperature":{"min":-10,"max":50},"relative_humidity":{"min":0,"max":0.95}},"ip_code":"IP30",` +
		`"key_provisioning":["KEY_PROVISIONING_CUSTOM","KEY_PROVISIONING_JOIN_SERVER"],"key_security":"KEY_SECURITY_READ_PROTECTED",` +
		`"photos":{"main":"room.png","other":["room-2.png"]},"product_url":"https://alder.example/room","datasheet_url":"https://alder.example/room.pdf"}`
	if err != nil || string(text) != want {
		t.Errorf("got %s, %v\nwant %s", text, err, want)
	}
	if all, err := r.Models(""); err != nil || len(all) != 4 {
		t.Errorf("got %d models of all brands, %v; want 4", len(all), err)
	}
	if m, err := r.Model("birch", "water-meter"); err != nil || m.FirmwareVersions[0].Profiles["AS_923_2"].ProfileID != "nowhere" {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, bad := range []string{"willow", "none", "..", "../vendor", "alder/../birch", ""} {
		if bad != "" {
			_, err = r.Models(bad)
			wantName(t, bad, err, "brand_not_found")
		}
		_, err = r.Model("alder", bad)
		wantName(t, bad, err, "model_not_found")
	}
	_, err = r.Model("alder", "broken")
	wantName(t, "broken", err, "repository_file")
}

func versions(brand, model, firmware, band string) *messages.VersionIDs {
	return &messages.VersionIDs{BrandID: brand, ModelID: model, FirmwareVersion: firmware, BandID: band, HardwareVersion: "any"}
}

func TestCodecIsChosen(t *testing.T) {
	t.Parallel()
	r := open(t)
	for _, c := range []struct {
		what, name string
		ids        *messages.VersionIDs
		use        messages.CodecUse
		want       string // words of the script, or the name of the error
	}{
		{"all ids", "", versions("alder", "room-sensor", "1.0", "EU_863_870"), messages.UplinkDecoder, "function decodeUplink(input) {"},
		{"another firmware", "", versions("alder", "room-sensor", "2.0", "EU_863_870"), messages.UplinkDecoder, "bytes.i16be"},
		{"a name wins", "birch/meter", versions("alder", "room-sensor", "1.0", "EU_863_870"), messages.UplinkDecoder, "litres"},
		{"only one codec", "", versions("birch", "water-meter", "", ""), messages.UplinkDecoder, "litres"},
		{"the band tells", "", versions("alder", "room-sensor", "", "US_902_928"), messages.UplinkDecoder, "function decodeUplink(input) {"},
		{"a profile without a codec does not count", "", versions("cedar", "probe", "1", ""), messages.UplinkDecoder, "exports.decodeUplink"},
		{"encoder", "", versions("alder", "room-sensor", "1.0", "US_902_928"), messages.DownlinkEncoder, "encodeDownlink"},

		{"several codecs", "", versions("alder", "room-sensor", "", "EU_863_870"), messages.UplinkDecoder, "no_version_identifiers"},
		{"no ids", "", nil, messages.UplinkDecoder, "no_version_identifiers"},
		{"no model", "", versions("alder", "", "", ""), messages.UplinkDecoder, "no_version_identifiers"},
		{"unknown brand", "", versions("none", "x", "", ""), messages.UplinkDecoder, "model_not_found"},
		{"unknown model", "", versions("alder", "x", "", ""), messages.UplinkDecoder, "model_not_found"},
		{"unknown firmware", "", versions("alder", "room-sensor", "3.0", "EU_863_870"), messages.UplinkDecoder, "firmware_version_not_found"},
		{"unknown band", "", versions("alder", "room-sensor", "2.0", "US_902_928"), messages.UplinkDecoder, "no_profile_for_band"},
		{"no codec", "", versions("cedar", "probe", "1", "US_902_928"), messages.UplinkDecoder, "no_codec"},
		{"no such part", "birch/meter", nil, messages.DownlinkEncoder, "no_encoder"},
		{"no such part", "birch/meter", nil, messages.DownlinkDecoder, "no_decoder"},
		{"no such script", "cedar/probe-codec", nil, messages.DownlinkEncoder, "repository_file"},
		{"unknown name", "birch/none", nil, messages.UplinkDecoder, "no_codec"},
		{"a name that is a model", "birch/water-meter", nil, messages.UplinkDecoder, "no_decoder"},
		{"another vendor's script", "cedar/thief-codec", nil, messages.UplinkDecoder, "repository_file"},
		{"a parameter that is no name", "function decodeUplink() {}", versions("birch", "water-meter", "", ""), messages.UplinkDecoder, "litres"},
		{"a name that is none", "meter", nil, messages.UplinkDecoder, "no_version_identifiers"},
		{"a path", "../x/meter", nil, messages.UplinkDecoder, "no_version_identifiers"},
		{"a path", "birch/../alder/room-sensor-codec", nil, messages.UplinkDecoder, "no_version_identifiers"},
		{"dots", "../birch", nil, messages.UplinkDecoder, "no_version_identifiers"},
	} {
		for range 2 { // the second answer comes from memory
			f, err := r.Codec(c.name, c.ids, c.use)
			switch {
			case err != nil:
				wantName(t, c.what, err, c.want)
			case !strings.Contains(f.Parameter, c.want):
				t.Errorf("%s: got %s, want %s in it", c.what, f.Parameter, c.want)
			case strings.Contains(f.Parameter, "bytes.i16be") != (f.Kind == messages.FormatterLua):
				t.Errorf("%s: got %s", c.what, f.Kind)
			}
		}
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	r := open(t)
	for _, c := range []struct {
		ids  *messages.VersionIDs
		want string
	}{
		{versions("alder", "room-sensor", "1.0", "EU_863_870"), `{"end_device":{"formatters":{"up_formatter":"FORMATTER_REPOSITORY","down_formatter":"FORMATTER_REPOSITORY"},` +
			`"lorawan_phy_version":"PHY_V1_0_3_REV_A","lorawan_version":"MAC_V1_0_3","mac_settings":{"class_c_timeout":"5s","supports_32_bit_f_cnt":true},"supports_class_b":false,` +
			`"supports_class_c":true,"supports_join":true,"version_ids":{"brand_id":"alder","model_id":"room-sensor","hardware_version":"any","firmware_version":"1.0","band_id":"EU_863_870"}},` +
			`"field_mask":{"paths":["version_ids","supports_join","supports_class_b","supports_class_c","lorawan_version","lorawan_phy_version","formatters",` +
			`"mac_settings.class_c_timeout","mac_settings.supports_32_bit_f_cnt"]}}`},
		{versions("alder", "room-sensor", "1.0", "US_902_928"), `"mac_settings":{"factory_preset_frequencies":["903900000","904100000"],"ping_slot_periodicity":"PING_EVERY_32S",` +
			`"rx1_data_rate_offset":0,"rx1_delay":1,"rx2_data_rate_index":8,"rx2_frequency":"923300000"}`},
		{versions("birch", "water-meter", "", "EU_863_870"), `"lorawan_version":"MAC_V1_0_3"`}, // the profile is another vendor's
	} {
		got, err := r.Template(*c.ids)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(got)
		if err != nil || !strings.Contains(string(text), c.want) {
			t.Errorf("got %s, %v\nwant %s", text, err, c.want)
		}
	}
	_, err := r.Template(*versions("alder", "room-sensor", "1.0", ""))
	wantName(t, "two profiles", err, "no_version_identifiers")
	_, err = r.Template(*versions("birch", "water-meter", "3.1", "AS_923_2"))
	wantName(t, "no profile", err, "profile_not_found")
	_, err = r.Template(*versions("cedar", "thief", "1", "EU_863_870"))
	wantName(t, "a profile of another vendor by path", err, "repository_file")
}

// The vendor is named by its number at the LoRa Alliance, its profile by one of its own.
func TestTemplateOfAVendorProfile(t *testing.T) {
	t.Parallel()
	r := open(t)
	for _, c := range []struct {
		what, want      string
		vendor, profile uint32
	}{
		{"a version that the index names", `"lorawan_version":"MAC_V1_0_4"`, 9001, 42},
		{"its ids", `"version_ids":{"brand_id":"alder","model_id":"room-sensor","hardware_version":"1.0","firmware_version":"1.0","band_id":"US_902_928"}`, 9001, 42},
		{"a profile that the index names", `"lorawan_phy_version":"RP002_V1_0_1","lorawan_version":"MAC_V1_0_4"`, 9001, 43},
		{"a profile with the number, of two firmwares", `"version_ids":{"brand_id":"alder","model_id":"room-sensor","band_id":"EU_863_870"}`, 9001, 1},
	} {
		got, err := r.VendorTemplate(c.vendor, c.profile)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		text, err := json.Marshal(got)
		if err != nil || !strings.Contains(string(text), c.want) {
			t.Errorf("%s: got %s, %v\nwant %s", c.what, text, err, c.want)
		}
	}
	for what, ids := range map[string][2]uint32{"no vendor": {9002, 1}, "vendors without a number": {0, 1}, "no profile": {9001, 99}, "profiles without a number": {9001, 0}} {
		_, err := r.VendorTemplate(ids[0], ids[1])
		wantName(t, what, err, "end_device_profile_not_found")
	}
}

func TestMessageCodecHasExamples(t *testing.T) {
	t.Parallel()
	r := open(t)
	got, err := r.MessageCodec(*versions("alder", "room-sensor", "1.0", "EU_863_870"), messages.DownlinkEncoder)
	if err != nil || got.CodecID != "room-sensor-codec" || got.Formatter != "FORMATTER_JAVASCRIPT" || len(got.Examples) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	text, err := json.Marshal(got.Examples[0])
	if want := `{"description":"Every ten minutes","input":{"data":{"interval":600}},"output":{"f_port":2,"frm_payload":"Alg="}}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v; want %s", text, err, want)
	}
	if got, err = r.MessageCodec(*versions("alder", "room-sensor", "2.0", ""), messages.UplinkDecoder); err != nil || len(got.Examples) != 1 {
		t.Errorf("got %+v, %v: a malformed example must not spoil the codec", got, err)
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	examples, errs := open(t).Examples()
	var got []string
	for _, e := range examples {
		got = append(got, fmt.Sprintf("%s %s %d %x %s %s > %s %s %x %d %v", e.Codec, e.Use, e.FPort, e.Bytes, e.RecvTime, e.Data, e.Want.Data, e.Want.Normalized, e.Want.Bytes, e.Want.FPort, e.Want.Errors))
	}
	want := []string{
		`alder/room-sensor-2-codec uplinkDecoder 1 ff9c   > {"temperature":-1}   0 []`,
		`alder/room-sensor-codec uplinkDecoder 1 00d75a01 2026-11-23T10:00:00+01:00  > {"at":"2026-11-23T09:00:00.000Z","humidity":45,"motion":true,"temperature":21.5} ` +
			`{"action":{"motion":{"detected":true}},"air":{"relativeHumidity":45,"temperature":21.5}}  0 []`,
		`alder/room-sensor-codec uplinkDecoder 9 01   >    0 [unknown port 9]`,
		`alder/room-sensor-codec downlinkEncoder 0   {"interval":600} >   0258 2 []`,
		`alder/room-sensor-codec downlinkDecoder 2 0258   > {"interval":600}   0 []`,
		`birch/meter uplinkDecoder 10 0001e240   > {"litres":123456}   0 []`,
		`birch/meter uplinkDecoder 10 00000000   > {"litres":0}   0 []`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if len(errs) != 2 || !strings.Contains(errs[0].Error(), "broken.yaml") || !strings.Contains(errs[1].Error(), "room-sensor-2-codec.yaml: uplinkDecoder: example 2") {
		t.Errorf("got errors %v", errs)
	}
}

func TestChangesAreSeen(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"vendor/index.yaml":     {Data: []byte("vendors: [{id: oak}]")},
		"vendor/oak/codec.yaml": {Data: []byte("uplinkDecoder: {fileName: codec.js}")},
		"vendor/oak/codec.js":   {Data: []byte("first")},
	}
	now := time.Unix(1e9, 0)
	var log bytes.Buffer
	r := New(files, func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil)))
	want := func(text string) {
		t.Helper()
		if f, err := r.Codec("oak/codec", nil, messages.UplinkDecoder); err != nil || f.Parameter != text {
			t.Errorf("got %q, %v; want %q", f.Parameter, err, text)
		}
	}
	want("first")
	files["vendor/oak/codec.js"] = &fstest.MapFile{Data: []byte("second"), ModTime: now}
	want("first")
	now = now.Add(freshFor)
	want("second")
	files["vendor/oak/codec.yaml"] = &fstest.MapFile{Data: []byte("uplinkDecoder: ["), ModTime: now}
	now = now.Add(freshFor)
	_, err := r.Codec("oak/codec", nil, messages.UplinkDecoder)
	wantName(t, "broken", err, "repository_file")
	now = now.Add(freshFor)
	_, err = r.Codec("oak/codec", nil, messages.UplinkDecoder)
	wantName(t, "still broken", err, "repository_file")
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, log.String())
	}
	delete(files, "vendor/oak/codec.yaml")
	now = now.Add(freshFor)
	_, err = r.Codec("oak/codec", nil, messages.UplinkDecoder)
	wantName(t, "gone", err, "no_codec")
}

func TestLinksDontLeadOut(t *testing.T) {
	t.Parallel()
	folder, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret.js")
	vendor := filepath.Join(folder, "vendor", "oak")
	for name, text := range map[string]string{
		secret: "secret", filepath.Join(folder, "vendor", "index.yaml"): "vendors: []", filepath.Join(vendor, "codec.yaml"): "uplinkDecoder: {fileName: link.js}",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, filepath.Join(vendor, "link.js")); err != nil {
		t.Fatal(err)
	}
	r, err := Open(folder, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Codec("oak/codec", nil, messages.UplinkDecoder)
	wantName(t, "a link out of the folder", err, "repository_file")
	if _, err := Open(t.TempDir(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a folder without an index was opened")
	}
}
