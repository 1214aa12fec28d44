package rest

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func TestFourWritesInTTSOrderMakeOneDevice(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("POST", "/applications/app1/devices", `{"end_device":{`+otaaIDs+`,"network_server_address":"ns","application_server_address":"as","join_server_address":"js"},
		"field_mask":{"paths":["ids","network_server_address","application_server_address","join_server_address"]}}`).is(200)
	d.do("GET", "/ns/applications/app1/devices/dev1", nil).fails(404, "device_not_found")
	d.do("GET", "/js/applications/app1/devices/dev1", nil).fails(404, "device_not_found")
	d.do("PUT", "/js/applications/app1/devices/dev1", `{"end_device":{`+otaaIDs+`,"network_server_address":"ns","application_server_address":"as","root_keys":{"app_key":{"key":"`+appKey+`"}}},
		"field_mask":{"paths":["network_server_address","application_server_address","ids.join_eui","ids.dev_eui","ids.device_id","ids.application_ids.application_id","root_keys.app_key.key"]}}`).
		is(200).has("root_keys.app_key.key", `"`+appKey+`"`).has("ids.join_eui", `"0000000000000001"`)
	d.do("PUT", "/ns/applications/app1/devices/dev1", `{"end_device":{`+otaaIDs+`,`+nsSettings+`,"supports_join":true,"multicast":false,"mac_settings":{"supports_32_bit_f_cnt":true}},
		"field_mask":{"paths":["multicast","supports_join","lorawan_version","ids.device_id","lorawan_phy_version","frequency_plan_id","mac_settings.supports_32_bit_f_cnt"]}}`).is(200)
	d.do("PUT", "/as/applications/app1/devices/dev1", `{"end_device":{`+otaaIDs+`,"formatters":{"up_formatter":"FORMATTER_CAYENNELPP"}},
		"field_mask":{"paths":["ids.join_eui","ids.dev_eui","ids.device_id","formatters.up_formatter"]}}`).is(200)

	dev, err := d.registry.Device(t.Context(), messages.DeviceID{ApplicationID: "app1", DeviceID: "dev1"})
	if err != nil {
		t.Fatal(err)
	}
	if !dev.SupportsJoin || dev.LoRaWANVersion != "MAC_V1_0_3" || dev.FrequencyPlanID != "EU_863_870_TTN" || dev.RootKeys.AppKey.Key == nil ||
		dev.Formatters.UpFormatter != messages.FormatterCayenneLPP || dev.NetworkServerAddress != "ns" || dev.MACSettings.Supports32BitFCnt == nil {
		t.Errorf("the device is not whole: %+v", dev)
	}
}

func TestViewsMayBeWrittenAtOnce(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	for i := range 20 {
		id := fmt.Sprintf("dev%d", i)
		ids := fmt.Sprintf(`"ids":{"device_id":"%s","dev_eui":"70B3D57ED00000%02X","join_eui":"0000000000000001"}`, id, i)
		var wg sync.WaitGroup
		for view, members := range map[string]string{"/ns": nsSettings + `,"supports_join":true`, "/js": `"root_keys":{"app_key":{"key":"` + appKey + `"}}`, "/as": `"formatters":{"up_formatter":"FORMATTER_LUA"}`} {
			wg.Go(func() {
				if got := d.do("PUT", view+"/applications/app1/devices/"+id, `{"end_device":{`+ids+`,`+members+`}}`); got.Status != 200 {
					t.Errorf("%s: HTTP %d %s", view, got.Status, got.Body)
				}
			})
		}
		wg.Wait()
		d.do("GET", "/applications/app1/devices/"+id+"?field_mask=*", nil).is(200).has("supports_join", "true").has("root_keys.app_key.key", `"`+appKey+`"`).
			has("formatters.up_formatter", `"FORMATTER_LUA"`).has("frequency_plan_id", `"EU_863_870_TTN"`)
	}
}

func TestPartsOfASessionEndWholeInAnyOrder(t *testing.T) {
	t.Parallel()
	ns := `{"end_device":{"ids":{"device_id":"abp1"},` + nsSettings + `,"session":` + sessionOf("26010203", nwkSKey, "") + `},
		"field_mask":{"paths":["session.dev_addr","session.keys.f_nwk_s_int_key.key","lorawan_version","lorawan_phy_version","frequency_plan_id","supports_join"]}}`
	as := `{"end_device":{"ids":{"device_id":"abp1"},"session":` + sessionOf("26010203", "", appSKey) + `},"field_mask":{"paths":["session.dev_addr","session.keys.app_s_key.key"]}}`
	for name, writes := range map[string][][2]string{
		"IS NS AS":    {{"/ns", ns}, {"/as", as}},
		"NS AS again": {{"/ns", ns}, {"/as", as}, {"/ns", ns}, {"/as", as}},
		"AS after NS": {{"/ns", ns}, {"/as", as}, {"/as", as}},
	} {
		d := newDoor(t)
		d.app("app1")
		d.do("POST", "/applications/app1/devices", `{"end_device":{"ids":{"device_id":"abp1"}}}`).is(200)
		d.do("PUT", "/as/applications/app1/devices/abp1", as).fails(400, "device_settings") // says that NS comes first
		for _, w := range writes {
			d.do("PUT", w[0]+"/applications/app1/devices/abp1", w[1]).is(200)
		}
		state, _ := d.devices.state("app1", "abp1")
		if s := state.Session; s == nil || keyOf(s.Keys.AppSKey).Hex() != appSKey || keyOf(s.Keys.FNwkSIntKey).Hex() != nwkSKey {
			t.Errorf("%s: the session is %+v", name, s)
		}
	}
}

func TestNSAndASAndJSMakeADeviceThatISDoesNotKnow(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("POST", "/ns/applications/app1/devices", `{"end_device":{`+otaaIDs+`,`+nsSettings+`,"supports_join":true,"name":"no"},"field_mask":{"paths":["lorawan_version","frequency_plan_id","lorawan_phy_version","supports_join"]}}`).is(200)
	d.do("PUT", "/js/applications/app1/devices/dev1", `{"end_device":{`+otaaIDs+`,"root_keys":{"app_key":{"key":"`+appKey+`"}}}}`).is(200)
	d.do("GET", "/applications/app1/devices/dev1?field_mask=name,frequency_plan_id", nil).is(200).has("name", "").has("frequency_plan_id", `"EU_863_870_TTN"`)
	d.do("PUT", "/applications/app1/devices/dev9", `{"end_device":{"name":"x"}}`).fails(404, "end_device_not_found")
	d.do("PUT", "/ns/applications/app2/devices/dev9", `{"end_device":{"name":"x"}}`).fails(404, "application_not_found")
}

func TestPlainReadsLeaveTheActorAsleep(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	d.devices.took()
	d.do("GET", "/applications/app1/devices/dev1?field_mask=name,formatters", nil).is(200)
	d.do("GET", "/applications/app1/devices?field_mask=*", nil).is(200)
	if calls := d.devices.took(); len(calls) > 0 {
		t.Errorf("actors were asked: %v", calls)
	}
	d.do("GET", "/applications/app1/devices/dev1?field_mask=last_seen_at", nil).is(200)
	if calls := d.devices.took(); len(calls) != 1 {
		t.Errorf("actors were asked: %v", calls)
	}
}

func TestStateOfTheActorIsShown(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	addr := messages.DevAddr{1, 2, 3, 4}
	d.devices.put("app1", "dev1", v3.EndDevice{
		Session: &v3.Session{DevAddr: &addr, LastFCntUp: 42}, PendingSession: &v3.Session{DevAddr: &messages.DevAddr{9}}, LastDevNonce: 5, UsedDevNonces: []v3.Uint32{4, 5}, LastJoinNonce: 2,
		LastSeenAt: at("2026-01-02T03:04:05Z"), ActivatedAt: at("2026-01-01T00:00:00Z"),
	})
	d.do("GET", "/ns/applications/app1/devices/dev1?field_mask=session,pending_session,last_seen_at,activated_at,last_dev_nonce,used_dev_nonces,last_join_nonce", nil).is(200).
		has("session.last_f_cnt_up", "42").has("pending_session.dev_addr", `"09000000"`).has("last_seen_at", `"2026-01-02T03:04:05Z"`).
		has("activated_at", `"2026-01-01T00:00:00Z"`).has("last_dev_nonce", "5").has("used_dev_nonces", "[4,5]").has("last_join_nonce", "2")
	d.devices.failOnce("state", messages.Errorf(messages.CodeUnavailable, "moving", "try again later"))
	d.do("GET", "/ns/applications/app1/devices/dev1?field_mask=session", nil).fails(503, "moving")
}

func TestEachViewDeletesItsPart(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	d.devices.put("app1", "dev1", v3.EndDevice{Session: &v3.Session{DevAddr: &messages.DevAddr{1}}, LastJoinNonce: 9})
	d.do("DELETE", "/as/applications/app1/devices/dev1", nil).is(200)
	all := "/applications/app1/devices/dev1?field_mask=*"
	d.do("GET", all, nil).has("formatters", "").has("frequency_plan_id", `"EU_863_870_TTN"`)
	d.do("DELETE", "/js/applications/app1/devices/dev1", nil).is(200)
	d.do("GET", all, nil).has("root_keys", "").has("name", `"first"`)
	d.do("GET", "/js/applications/app1/devices/dev1", nil).fails(404, "device_not_found")
	d.do("DELETE", "/ns/applications/app1/devices/dev1", nil).is(200)
	d.do("GET", all, nil).has("frequency_plan_id", "").has("mac_settings", "").has("supports_join", "").has("ids.dev_eui", `"70B3D57ED0000001"`)
	d.do("GET", "/ns/applications/app1/devices/dev1", nil).fails(404, "device_not_found")
	d.do("DELETE", "/ns/applications/app1/devices/dev1", nil).is(200) // once more
	state, ok := d.devices.state("app1", "dev1")
	if state.Session != nil || !ok || state.LastJoinNonce != 9 {
		t.Errorf("the session ends and the nonces stay, got %+v", state)
	}
	d.do("DELETE", "/ns/applications/app1/devices/abp1", nil).is(200)
	if _, ok := d.devices.state("app1", "abp1"); ok {
		t.Error("the ABP session is left")
	}
}

func TestASessionOfThePastIsNotWrittenBack(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	joined := func(keyID byte, addr byte) {
		s := &v3.Session{DevAddr: &messages.DevAddr{addr}}
		s.Keys.SessionKeyID = []byte{keyID}
		d.devices.put("app1", "dev1", v3.EndDevice{Session: s, LastJoinNonce: 1})
	}
	const path = "/applications/app1/devices/dev1"
	joined(1, 1)
	read := d.do("GET", path+"?field_mask=*", nil).is(200)
	d.do("PUT", path, `{"end_device":`+read.Body+`}`).is(200)
	joined(2, 2)
	d.do("PUT", path, `{"end_device":`+strings.Replace(read.Body, `"first"`, `"second"`, 1)+`}`).fails(409, "session_changed")
	d.do("GET", path+"?field_mask=name,session", nil).has("name", `"first"`).has("session.dev_addr", `"02000000"`) // nothing is written
	d.do("PUT", path, `{"end_device":`+read.Body+`,"field_mask":{"paths":["session"]}}`).is(200).has("session.dev_addr", `"01000000"`)
	d.do("PUT", path, `{"end_device":{},"field_mask":{"paths":["session"]}}`).is(200).has("session", "")
	if state, ok := d.devices.state("app1", "dev1"); !ok || state.LastJoinNonce != 1 {
		t.Errorf("the nonces of a device that joins are gone: %+v", state)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	d.devices.put("app1", "dev1", v3.EndDevice{Session: &v3.Session{DevAddr: &messages.DevAddr{1}}})
	d.do("PATCH", "/ns/applications/app1/devices/dev1", `{}`).is(200).has("ids.device_id", `"dev1"`)
	if state, _ := d.devices.state("app1", "dev1"); state.Session != nil {
		t.Error("the session is still there")
	}
	d.do("PATCH", "/ns/applications/app1/devices/dev9", nil).fails(404, "device_not_found")
}

// Clients delete a device in the IS view first and then ask the others, in which The Things Stack still has their parts.
func TestPartsOfADeviceThatIsGoneMayBeDeleted(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("POST", "/applications/app1/devices", `{"end_device":{"ids":{"device_id":"dev1"}}}`).is(200)
	d.do("DELETE", "/applications/app1/devices/dev1", nil).is(200)
	for _, view := range []string{"/ns", "/as", "/js"} {
		d.do("DELETE", view+"/applications/app1/devices/dev1", nil).is(200)
		d.do("GET", view+"/applications/app1/devices/dev1", nil).fails(404, "device_not_found")
		d.do("DELETE", view+"/applications/app2/devices/dev1", nil).is(404)
	}
	d.do("DELETE", "/applications/app1/devices/dev1", nil).fails(404, "end_device_not_found")
}
