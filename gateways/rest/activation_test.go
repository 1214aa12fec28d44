package rest

import (
	"encoding/base64"
	"strings"
	"testing"

	"lorikeet/cluster"
	"lorikeet/messages"
	"lorikeet/messages/keywrap"
)

const testKEK = "000102030405060708090A0B0C0D0E0F"

// wrapped gives a key as base64, wrapped under testKEK.
func wrapped(t *testing.T, digits string) string {
	t.Helper()
	kek, err := keywrap.Parse("as/me", testKEK)
	if err != nil {
		t.Fatal(err)
	}
	key, err := messages.ParseKey(digits)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(kek.Wrap(key))
}

func quoted(s string) string { return `"` + s + `"` }

func TestActivationSettingsNeverShowTheKEK(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	const path = "/js/applications/app1/settings"
	if got := d.do("GET", path, nil).is(200); strings.TrimSpace(got.Body) != "{}" {
		t.Error(got.Body)
	}
	for body, name := range map[string]string{
		`{"settings":{"kek":{"key":"` + testKEK + `"}}}`:        "invalid_kek_label",
		`{"settings":{"kek_label":"as/me","kek":{"key":"00"}}}`: "invalid_key",
		`{"settings":{"kek_label":"as/me","kek":{"key":"xx"}}}`: "decode_body",
		`{"settings":{"kek_label":"as/unknown"}}`:               "invalid_kek_label",
		`{"settings":{"home_net_id":"0000"}}`:                   "invalid_home_net_id",
		`{"kek_label":"as/me"}`:                                 "no_settings",
	} {
		if got := d.do("POST", path, body).fails(400, name); strings.Contains(got.Body, testKEK) {
			t.Error(got.Body)
		}
	}
	body := `{"settings":{"kek_label":"as/me","kek":{"key":"` + testKEK + `"},"home_net_id":"000013","application_server_id":"as1"},"field_mask":"kek_label,kek,home_net_id,application_server_id"}`
	for _, method := range []string{"POST", "PUT"} {
		if got := d.do(method, path, body).is(200).has("kek_label", `"as/me"`).has("home_net_id", `"000013"`); strings.Contains(got.Body, testKEK) || strings.Contains(got.Body, `"kek"`) {
			t.Error(got.Body)
		}
	}
	if got := d.do("GET", path+"?field_mask=kek,kek_label", nil).is(200); strings.TrimSpace(got.Body) != `{"kek_label":"as/me"}` {
		t.Error(got.Body)
	}
	d.with(d.keyFor("app1", messages.RightApplicationSettingsBasic)).do("PUT", path, body).fails(403, "insufficient_application_rights")
	d.do("DELETE", path, nil).is(200)
	d.do("DELETE", path, nil).is(200)
	if got := d.do("GET", path, nil).is(200); strings.TrimSpace(got.Body) != "{}" {
		t.Error(got.Body)
	}
	d.do("GET", "/js/applications/app9/settings", nil).fails(404, "application_not_found")
}

func TestWrappedKeysAreOpenedUnderAKnownKEK(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	const key = "00112233445566778899AABBCCDDEEFF"
	create := func(id, envelope string) reply {
		return d.do("POST", "/applications/app1/devices", `{"end_device":{"ids":{"device_id":"`+id+`","dev_eui":"70B3D57ED000000`+id[3:]+`","join_eui":"0000000000000000"},"supports_join":true,
			"lorawan_version":"MAC_V1_0_3","lorawan_phy_version":"PHY_V1_0_3_REV_A","frequency_plan_id":"EU_863_870","root_keys":{"app_key":`+envelope+`}}}`)
	}
	envelope := `{"kek_label":"as/me","encrypted_key":"` + wrapped(t, key) + `"}`
	create("dev1", envelope).fails(400, "kek_not_found")
	d.do("POST", "/js/applications/app1/settings", `{"settings":{"kek_label":"as/me","kek":{"key":"`+testKEK+`"}}}`).is(200)
	create("dev1", envelope).is(200)
	d.do("GET", "/js/applications/app1/devices/dev1?field_mask=root_keys", nil).is(200).has("root_keys.app_key.key", quoted(key)).has("root_keys.app_key.encrypted_key", "")
	create("dev2", `{"encrypted_key":"ABEiM0RVZneImaq7zN3u/w=="}`).is(200) // no label: in clear
	d.do("GET", "/js/applications/app1/devices/dev2?field_mask=root_keys", nil).is(200).has("root_keys.app_key.key", quoted(key))
	for _, bad := range []string{
		`{"kek_label":"as/me","encrypted_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, `{"kek_label":"as/me","encrypted_key":"AAAA"}`,
		`{"encrypted_key":"AAAA"}`,
	} {
		create("dev3", bad).fails(400, "invalid_key")
	}
	// A mask that names the wrapped form changes the key.
	d.do("PUT", "/js/applications/app1/devices/dev1", `{"end_device":{"root_keys":{"app_key":{"kek_label":"as/me","encrypted_key":"`+wrapped(t, "0F"+key[2:])+`"}}},
		"field_mask":{"paths":["root_keys.app_key.encrypted_key","root_keys.app_key.kek_label"]}}`).is(200)
	d.do("GET", "/js/applications/app1/devices/dev1?field_mask=root_keys", nil).is(200).has("root_keys.app_key.key", quoted("0F"+key[2:]))
}

func TestASViewShowsTheAppSKeyUnderTheKEK(t *testing.T) {
	withActors(t, func(t *testing.T, d *door, _ *cluster.Directory) {
		const nwk, app = "AA111111111111111111111111111111", "BB222222222222222222222222222222"
		d.do("POST", "/applications/app1/devices", `{"end_device":{"ids":{"device_id":"abp1"},"lorawan_version":"MAC_V1_0_3","lorawan_phy_version":"PHY_V1_0_3_REV_A",
			"frequency_plan_id":"EU_863_870","session":{"dev_addr":"26011BDA","keys":{"f_nwk_s_int_key":{"key":"`+nwk+`"},"app_s_key":{"key":"`+app+`"}},"last_a_f_cnt_down":4}}}`).is(200)
		const as, ns = "/as/applications/app1/devices/abp1?field_mask=session", "/ns/applications/app1/devices/abp1?field_mask=session"
		d.do("GET", as, nil).is(200).has("session.keys.app_s_key.key", quoted(app)).has("session.last_a_f_cnt_down", "4").has("session.dev_addr", quoted("26011BDA"))
		d.do("POST", "/js/applications/app1/settings", `{"settings":{"kek_label":"as/me","kek":{"key":"`+testKEK+`"}}}`).is(200)
		d.do("GET", as, nil).is(200).has("session.keys.app_s_key.encrypted_key", quoted(wrapped(t, app))).has("session.keys.app_s_key.kek_label", quoted("as/me")).has("session.keys.app_s_key.key", "")
		d.do("GET", ns, nil).is(200).has("session.keys.f_nwk_s_int_key.key", quoted(nwk))
		reader := d.with(d.keyFor("app1", messages.RightApplicationDevicesRead))
		if got := reader.do("GET", as, nil).is(200); strings.Contains(got.Body, "app_s_key") {
			t.Error(got.Body)
		}
		// A session may come wrapped as well.
		d.do("PUT", "/as/applications/app1/devices/abp1", `{"end_device":{"session":{"dev_addr":"26011BDA","keys":{"app_s_key":{"kek_label":"as/me","encrypted_key":"`+wrapped(t, app)+`"}}}},
			"field_mask":{"paths":["session.dev_addr","session.keys.app_s_key.encrypted_key","session.keys.app_s_key.kek_label"]}}`).is(200)
		d.do("GET", as, nil).is(200).has("session.keys.app_s_key.encrypted_key", quoted(wrapped(t, app))).has("session.last_a_f_cnt_down", "4")
	})
}
