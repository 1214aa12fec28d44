package rest

import (
	"testing"
)

const (
	otaaIDs   = `"ids":{"device_id":"dev1","dev_eui":"70B3D57ED0000001","join_eui":"0000000000000001"}`
	settings1 = `"lorawan_version":"MAC_V1_0_3","lorawan_phy_version":"PHY_V1_0_3_REV_A","frequency_plan_id":"EU_863_870_TTN"`
	appKey    = "00112233445566778899AABBCCDDEEFF"
	nwkSKey   = "11112233445566778899AABBCCDDEEFF"
	appSKey   = "22222233445566778899AABBCCDDEEFF"
)

// abp is a whole ABP device.
const abp = `{"end_device":{"ids":{"device_id":"abp1"},` + settings1 + `,"session":{"dev_addr":"26010203","keys":{"f_nwk_s_int_key":{"key":"` + nwkSKey +
	`"},"app_s_key":{"key":"` + appSKey + `"}}}}}`

func TestDeviceIsCreatedWholeInOneCall(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("POST", "/applications/app1/devices", `{"end_device":{`+otaaIDs+`,`+settings1+`,"supports_join":true,"root_keys":{"app_key":{"key":"`+appKey+`"}},
		"formatters":{"up_formatter":"FORMATTER_LUA","up_formatter_parameter":"x"},"mac_settings":{"rx1_delay":{"value":3},"status_count_periodicity":7}}}`).is(200)
	got := d.do("GET", "/applications/app1/devices/dev1?field_mask=*", nil).is(200)
	got.has("ids.dev_eui", `"70B3D57ED0000001"`).has("root_keys.app_key.key", `"`+appKey+`"`).has("mac_settings.rx1_delay.value", "3").
		has("mac_settings.status_count_periodicity", "7").has("formatters.up_formatter", `"FORMATTER_LUA"`).has("supports_join", "true")
	d.do("POST", "/applications/app1/devices", `{"end_device":{`+otaaIDs+`}}`).fails(409, "id_taken")

	d.do("POST", "/applications/app1/devices", abp).is(200)
	got = d.do("GET", "/ns/applications/app1/devices/abp1?field_mask=session,ids.dev_addr", nil).is(200)
	got.has("session.dev_addr", `"26010203"`).has("session.keys.f_nwk_s_int_key.key", `"`+nwkSKey+`"`).has("session.keys.app_s_key.key", `"`+appSKey+`"`).
		has("ids.dev_addr", `"26010203"`)
}
