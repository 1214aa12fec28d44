package rest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// newFactoryDoor has a device with a code in the application "factory", and "customer" that may claim.
func newFactoryDoor(t testing.TB, code string) *door {
	t.Helper()
	d := newDoor(t)
	d.app("factory")
	d.app("customer")
	d.do("POST", "/applications/factory/devices", strings.Replace(otaa, `"name":"first"`, `"name":"first","claim_authentication_code":`+code, 1)).is(200)
	d.devices.put("factory", "dev1", v3.EndDevice{Session: &v3.Session{DevAddr: &messages.DevAddr{1}}, LastJoinNonce: 9})
	return d
}

const claimLabel = "LW:D0:0000000000000001:70B3D57ED0000001:AABB1122:OOWNER1"

func claimBody(members string) string {
	return `{"target_application_ids":{"application_id":"customer"},` + members + `}`
}

func claimIDs(code string) string {
	return `"authenticated_identifiers":{"join_eui":"0000000000000001","dev_eui":"70B3D57ED0000001","authentication_code":"` + code + `"}`
}

func TestADeviceIsClaimedWithItsKeysAndSession(t *testing.T) {
	t.Parallel()
	d := newFactoryDoor(t, `{"value":"OWNER1"}`)
	customer := d.with(d.keyFor("customer", messages.RightApplicationDevicesWrite, messages.RightApplicationDevicesRead))
	customer.do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))).fails(403, "claiming_not_authorized")
	d.do("POST", "/edcs/applications/factory/authorize", `{"api_key":"x"}`).is(200)
	customer.do("POST", "/edcs/claim", claimBody(claimIDs("WRONG"))).fails(403, "invalid_claim_authentication_code")
	customer.do("POST", "/edcs/claim", claimBody(`"qr_code":"`+claimLabel+`","target_device_id":"meter-1","target_frequency_plan_id":"EU_863_870"`)).is(200).
		has("device_id", `"meter-1"`).has("application_ids.application_id", `"customer"`).has("dev_eui", `"70B3D57ED0000001"`)

	d.do("GET", "/applications/factory/devices/dev1", nil).fails(404, "end_device_not_found")
	d.do("GET", "/applications/customer/devices/meter-1?field_mask=*", nil).is(200).has("name", `"first"`).has("root_keys.app_key.key", `"`+appKey+`"`).
		has("frequency_plan_id", `"EU_863_870"`).has("claimed_from.device_id", `"dev1"`)
	if state, ok := d.devices.state("customer", "meter-1"); !ok || state.Session == nil || state.LastJoinNonce != 9 {
		t.Errorf("the session did not come along: %+v", state)
	}
	if id, ok := d.registry.DeviceByEUI(messages.EUI64{7: 1}, messages.EUI64{0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0, 0, 1}); !ok || id.UID() != "customer.meter-1" {
		t.Errorf("the EUIs lead to %v", id)
	}
	customer.do("GET", "/edcs/claim/customer/devices/meter-1", nil).is(200).has("end_device_ids.device_id", `"meter-1"`).has("home_net_id", `"000000"`).
		has("claimed_from.application_ids.application_id", `"factory"`)
	d.do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))).fails(409, "already_claimed") // an admin, who has rights everywhere

	d.do("PUT", "/applications/customer/devices/meter-1", `{"end_device":{"claimed_from":{"device_id":"other"}}}`).is(200)
	customer.do("DELETE", "/edcs/claim/customer/devices/meter-1", nil).is(200)
	d.do("GET", "/applications/factory/devices/dev1?field_mask=claimed_from", nil).is(200).has("claimed_from", "")
	if state, ok := d.devices.state("factory", "dev1"); !ok || state.LastJoinNonce != 9 {
		t.Errorf("the session did not come back: %+v", state)
	}
	d.do("DELETE", "/edcs/claim/factory/devices/dev1", nil).fails(400, "not_claimed")
	if got := d.do("DELETE", "/edcs/claim/factory/devices/batch?device_ids=dev1", nil).is(200); !strings.Contains(got.at("failed"), "not_claimed") {
		t.Error(got.Body)
	}
	d.do("DELETE", "/edcs/applications/factory/authorize", nil).is(200)
	customer.do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))).fails(403, "claiming_not_authorized")
}

func TestClaimsThatCanNotBeSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	d := newFactoryDoor(t, `{"value":"OWNER1"}`)
	d.do("POST", "/applications/customer/devices", `{"end_device":{"ids":{"device_id":"taken"}}}`).is(200)
	for body, want := range map[string]string{
		`{}`: "400 no_target_application_ids",
		`{"target_application_ids":{"application_id":"Customer"},` + claimIDs("OWNER1") + `}`: "400 invalid_id",
		`{"target_application_ids":{"application_id":"nobody"},` + claimIDs("OWNER1") + `}`:   "404 application_not_found",
		claimBody(`"target_device_id":"x1x"`):                                                 "400 no_source_device",
		claimBody(claimIDs("OWNER1") + `,"qr_code":"` + claimLabel + `"`):                     "400 no_source_device",
		claimBody(`"authenticated_identifiers":{"authentication_code":"A"}`):                  "400 no_euis",
		claimBody(claimIDs("")): "400 no_authentication_code",
		claimBody(`"qr_code":"` + strings.TrimSuffix(claimLabel, ":OOWNER1") + `"`): "400 no_authentication_code",
		claimBody(`"qr_code":"HTTPS://EXAMPLE"`):                                    "400 format",
		claimBody(strings.Replace(claimIDs("OWNER1"), "70B3", "70B4", 1)):           "404 end_device_not_found",
		claimBody(claimIDs("OWNER1") + `,"target_device_id":"Bad"`):                 "400 invalid_id",
		claimBody(claimIDs("OWNER1") + `,"target_device_id":"taken"`):               "409 id_taken",
		claimBody(claimIDs("OWNER1") + `,"target_frequency_plan_id":"MARS"`):        "400 invalid_frequency_plan_id",
	} {
		got := d.do("POST", "/edcs/claim", body)
		if text := fmt.Sprint(got.Status, " ", got.err().Details[0].Name); text != want {
			t.Errorf("%s: got %s, want %s", body, text, want)
		}
	}
	d.do("GET", "/applications/factory/devices/dev1", nil).is(200) // still there
	customer := d.with(d.keyFor("customer", messages.RightApplicationDevicesRead))
	customer.do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))).fails(403, "insufficient_application_rights")
	d.with(d.keyFor("factory", messages.RightApplicationAll)).do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))).fails(403, "no_application_rights")
	d.do("PUT", "/applications/factory/devices/dev1", `{"end_device":{},"field_mask":{"paths":["claim_authentication_code"]}}`).is(200)
	d.do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))).fails(400, "no_claim_authentication_code")
	d.do("POST", "/edcs/claim/info", `{"join_eui":"70B3D57ED0000000"}`).is(200).has("supports_claiming", "true").has("join_eui", `"70B3D57ED0000000"`)
	d.do("POST", "/edcs/claim/info", `{}`).fails(400, "no_join_eui")
	d.do("POST", "/edcs/claim/info/batch", `{"requests":[{"join_eui":"70B3D57ED0000000"}]}`).is(200).has("infos", `[{"join_eui":"70B3D57ED0000000","supports_claiming":true}]`)
}

func TestCodesHaveATimeAndCanNotBeGuessed(t *testing.T) {
	t.Parallel()
	past, future := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for code, ok := range map[string]bool{
		`{"value":"OWNER1","valid_from":"` + past + `","valid_to":"` + future + `"}`: true,
		`{"value":"OWNER1","valid_from":"` + future + `"}`:                           false,
		`{"value":"OWNER1","valid_to":"` + past + `"}`:                               false,
	} {
		d := newFactoryDoor(t, code)
		if got := d.do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))); ok {
			got.is(200)
		} else {
			got.fails(403, "claim_authentication_code_expired")
		}
	}
	d := newFactoryDoor(t, `{"value":"OWNER1"}`)
	d.server.attempts.now = func() time.Time { return noon }
	for range attemptsBurst {
		d.do("POST", "/edcs/claim", claimBody(claimIDs("WRONG"))).fails(403, "invalid_claim_authentication_code")
	}
	d.do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))).fails(429, "too_many_attempts")
}

func TestAMoveThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	d := newFactoryDoor(t, `{"value":"OWNER1"}`)
	d.devices.failOnce("move", messages.Errorf(messages.CodeUnavailable, "disk_full", "free some space"))
	d.do("POST", "/edcs/claim", claimBody(claimIDs("OWNER1"))).fails(503, "disk_full")
	d.do("GET", "/applications/factory/devices/dev1", nil).is(200)
	d.do("GET", "/applications/customer/devices/dev1", nil).fails(404, "end_device_not_found")
}
