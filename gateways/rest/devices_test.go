package rest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	otaaIDs      = `"ids":{"device_id":"dev1","dev_eui":"70B3D57ED0000001","join_eui":"0000000000000001"}`
	nsSettings   = `"lorawan_version":"MAC_V1_0_3","lorawan_phy_version":"PHY_V1_0_3_REV_A","frequency_plan_id":"EU_863_870_TTN"`
	appKey       = "00112233445566778899AABBCCDDEEFF"
	nwkSKey      = "11112233445566778899AABBCCDDEEFF"
	appSKey      = "22222233445566778899AABBCCDDEEFF"
	otherNwkSKey = "33332233445566778899AABBCCDDEEFF"
	otherAppSKey = "44442233445566778899AABBCCDDEEFF"
)

func sessionOf(addr, nwk, app string) string {
	keys := []string{}
	if nwk != "" {
		keys = append(keys, `"f_nwk_s_int_key":{"key":"`+nwk+`"}`)
	}
	if app != "" {
		keys = append(keys, `"app_s_key":{"key":"`+app+`"}`)
	}
	return `{"dev_addr":"` + addr + `","keys":{` + strings.Join(keys, ",") + `}}`
}

// otaa and abp are whole devices.
const otaa = `{"end_device":{` + otaaIDs + `,` + nsSettings + `,"supports_join":true,"root_keys":{"app_key":{"key":"` + appKey + `"}},"name":"first",
	"formatters":{"up_formatter":"FORMATTER_LUA","up_formatter_parameter":"x"},"mac_settings":{"rx1_delay":{"value":3},"status_count_periodicity":7}}}`

var abp = `{"end_device":{"ids":{"device_id":"abp1"},` + nsSettings + `,"session":` + sessionOf("26010203", nwkSKey, appSKey) + `}}`

func newDeviceDoor(t testing.TB, change ...func(*Config)) *door {
	t.Helper()
	d := newDoor(t, change...)
	d.app("app1")
	d.do("POST", "/applications/app1/devices", otaa).is(200)
	d.do("POST", "/applications/app1/devices", abp).is(200)
	return d
}

// The whole of an answer, as a client of The Things Stack parses it.
func TestAnswersAreThoseOfTTS(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	got := d.do("GET", "/applications/app1/devices/dev1?field_mask=name,formatters,mac_settings,root_keys,supports_join,supports_class_c", nil).is(200)
	body := got.tree()
	for _, name := range []string{"created_at", "updated_at"} {
		text, _ := body[name].(string)
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil || !strings.HasSuffix(text, "Z") {
			t.Errorf("%s is %q", name, text)
		}
		delete(body, name)
	}
	want, err := decodeTree([]byte(`{
		"ids": {"device_id": "dev1", "application_ids": {"application_id": "app1"}, "dev_eui": "70B3D57ED0000001", "join_eui": "0000000000000001"},
		"name": "first", "supports_join": true, "root_keys": {"app_key": {"key": "` + appKey + `"}},
		"formatters": {"up_formatter": "FORMATTER_LUA", "up_formatter_parameter": "x"},
		"mac_settings": {"rx1_delay": {"value": 3}, "status_count_periodicity": 7}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBodiesMayBeginWithAByteOrderMark(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("POST", "/applications/app1/devices", "\uFEFF"+`{"end_device":{"ids":{"device_id":"dev1"}}}`).is(200)
	d.do("POST", "/applications/app1/devices", "\uFEFF").fails(400, "empty_body")
}

func TestBodiesMayBePrinted(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("POST", "/applications/app1/devices", " \n{ \"end_device\" : \n { \"ids\" : { \"device_id\" : \"dev1\" } , \"name\" : \"n\" } , \"field_mask\" : \n \"name\" }\n ").is(200).has("name", `"n"`)
}

func TestDeviceIsCreatedWholeInOneCall(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	d.do("GET", "/applications/app1/devices/dev1?field_mask=*", nil).is(200).
		has("ids.dev_eui", `"70B3D57ED0000001"`).has("root_keys.app_key.key", `"`+appKey+`"`).has("mac_settings.rx1_delay.value", "3").
		has("mac_settings.status_count_periodicity", "7").has("formatters.up_formatter", `"FORMATTER_LUA"`).has("supports_join", "true")
	d.do("POST", "/applications/app1/devices", `{"end_device":{`+otaaIDs+`}}`).fails(409, "id_taken")
	d.do("POST", "/applications/app1/devices", strings.Replace(otaa, `"dev1"`, `"dev2"`, 1)).fails(409, "end_device_euis_taken")
	d.do("POST", "/applications/app2/devices", otaa).fails(404, "application_not_found")
	d.do("GET", "/ns/applications/app1/devices/abp1?field_mask=session,ids.dev_addr", nil).is(200).
		has("session.dev_addr", `"26010203"`).has("session.keys.f_nwk_s_int_key.key", `"`+nwkSKey+`"`).has("session.keys.app_s_key.key", `"`+appSKey+`"`).
		has("ids.dev_addr", `"26010203"`)
}

func TestDeviceBodiesThatAreWrongSayWhere(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	device := func(members string) string {
		return `{"end_device":{"ids":{"device_id":"dev1"},` + members + `}}`
	}
	for name, c := range map[string]struct{ body, error, field string }{
		"empty":             {``, "empty_body", "empty"},
		"not JSON":          {`{`, "decode_body", "not JSON"},
		"two values":        {`{"end_device":{}} {}`, "decode_body", "not JSON"},
		"no end_device":     {`{"device":{}}`, "no_end_device", "end_device"},
		"end_device list":   {`{"end_device":[]}`, "no_end_device", "end_device"},
		"no device id":      {`{"end_device":{}}`, "invalid_id", "device_id"},
		"upper-case id":     {`{"end_device":{"ids":{"device_id":"Dev1"}}}`, "invalid_id", "device_id"},
		"EUI":               {`{"end_device":{"ids":{"device_id":"dev1","dev_eui":"70B3"}}}`, "decode_body", "end_device.ids.dev_eui"},
		"EUI as number":     {`{"end_device":{"ids":{"device_id":"dev1","dev_eui":12345}}}`, "decode_body", "end_device.ids.dev_eui: want a string, got number"},
		"fraction":          {device(`"locations":{"user":{"altitude":10.5}}`), "decode_body", "altitude: want a whole number, got number 10.5"},
		"time as number":    {device(`"activated_at":1700000000`), "decode_body", "end_device.activated_at: want a time"},
		"key":               {device(`"root_keys":{"app_key":{"key":"xyz"}}`), "decode_body", "end_device.root_keys.app_key.key"},
		"base64":            {device(`"session":{"keys":{"session_key_id":"%"}}`), "decode_body", "end_device.session.keys.session_key_id"},
		"number as list":    {device(`"session":{"last_f_cnt_up":[]}`), "decode_body", "end_device.session.last_f_cnt_up"},
		"flag":              {device(`"supports_join":"perhaps"`), "decode_body", "end_device.supports_join: want true or false, got string"},
		"time":              {device(`"activated_at":"yesterday"`), "decode_body", "end_device.activated_at: want a time"},
		"location":          {device(`"locations":{"user":{"latitude":"x"}}`), "decode_body", "end_device.locations.user.latitude"},
		"queue":             {device(`"session":{"queued_application_downlinks":[{"priority":"TOP"}]}`), "decode_body", "queued_application_downlinks[0].priority"},
		"version":           {device(`"lorawan_version":"MAC_V9"`), "invalid_lorawan_version", "lorawan_version"},
		"plan":              {device(`"frequency_plan_id":"MARS"`), "invalid_frequency_plan_id", "frequency_plan_id"},
		"formatter":         {device(`"formatters":{"up_formatter":"FORMATTER_PERL"}`), "invalid_up_formatter", "up_formatter"},
		"mac setting":       {device(`"mac_settings":{"rx1_delay":{"value":99}}`), "invalid_mac_settings", "rx1_delay"},
		"wrapped session":   {device(nsSettings + `,"session":{"dev_addr":"26010203","keys":{"app_s_key":{"encrypted_key":"AQI="}}}`), "invalid_key", "app_s_key"},
		"zero session key":  {device(nsSettings + `,"session":` + sessionOf("26010203", strings.Repeat("0", 32), "")), "invalid_key", "f_nwk_s_int_key"},
		"session too early": {device(`"session":` + sessionOf("26010203", nwkSKey, appSKey)), "device_settings", "frequency_plan_id"},
		"session no addr":   {device(nsSettings + `,"session":{"keys":{"app_s_key":{"key":"` + appSKey + `"}}}`), "no_dev_addr", "dev_addr"},
		"mask":              {`{"end_device":{},"field_mask":5}`, "decode_body", "field_mask"},
		"mask path":         {`{"end_device":{},"field_mask":{"paths":["a..b"]}}`, "invalid_field_mask", "a..b"},
		"deep":              {`{"end_device":` + strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 201), "decode_body", "nested"},
	} {
		r := d.do("POST", "/applications/app1/devices", c.body).fails(400, c.error)
		if m := r.err().Message; !strings.Contains(m, c.field) {
			t.Errorf("%s: the error does not name %q: %s", name, c.field, m)
		}
		if strings.Contains(r.Body, "xyz") || strings.Contains(r.Body, "Go ") {
			t.Errorf("%s: the error shows too much: %s", name, r.Body)
		}
		d.do("GET", "/applications/app1/devices/dev1", nil).fails(404, "end_device_not_found")
	}
}

// The four writes of a client of The Things Stack, as its CLI sends them.
func TestOnlyNamedPathsChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, path, want string }{
		"name":             {`{"end_device":{"name":"n","description":"d"},"field_mask":{"paths":["name"]}}`, "name", `"n"`},
		"not named":        {`{"end_device":{"name":"n","description":"d"},"field_mask":{"paths":["name"]}}`, "description", ``},
		"mask as text":     {`{"end_device":{"name":"n"},"field_mask":"name,description"}`, "name", `"n"`},
		"cleared":          {`{"end_device":{},"field_mask":{"paths":["name"]}}`, "name", ``},
		"nested":           {`{"end_device":{"mac_settings":{"rx1_delay":5}},"field_mask":{"paths":["mac_settings.rx1_delay"]}}`, "mac_settings.rx1_delay", `5`},
		"nested beside":    {`{"end_device":{"mac_settings":{"rx1_delay":5}},"field_mask":{"paths":["mac_settings.rx1_delay"]}}`, "mac_settings.status_count_periodicity", `7`},
		"nested cleared":   {`{"end_device":{},"field_mask":{"paths":["mac_settings.rx1_delay"]}}`, "mac_settings.rx1_delay", ``},
		"whole":            {`{"end_device":{"mac_settings":{"rx1_delay":5}},"field_mask":{"paths":["mac_settings"]}}`, "mac_settings.status_count_periodicity", ``},
		"camelCase":        {`{"endDevice":{"macSettings":{"rx1Delay":5}},"fieldMask":{"paths":["macSettings.rx1Delay"]}}`, "mac_settings.status_count_periodicity", `7`},
		"no mask":          {`{"end_device":{"description":"d"}}`, "name", `"first"`},
		"no mask, present": {`{"end_device":{"description":"d"}}`, "description", `"d"`},
		"no mask, deep":    {`{"end_device":{"formatters":{"up_formatter_parameter":"y"}}}`, "formatters.up_formatter", `"FORMATTER_LUA"`},
		"no mask, map":     {`{"end_device":{"attributes":{"key1":"v"}}}`, "attributes", `{"key1":"v"}`},
		"empty mask":       {`{"end_device":{"name":"n"},"field_mask":{}}`, "name", `"n"`},
		"no mask, null":    {`{"end_device":{"name":null}}`, "name", ``},
		"false":            {`{"end_device":{"supports_class_c":false},"field_mask":{"paths":["supports_class_c"]}}`, "supports_class_c", ``},
		"unknown path":     {`{"end_device":{"name":"n"},"field_mask":{"paths":["battery_percentage","name"]}}`, "name", `"n"`},
		"ids stay":         {`{"end_device":{"ids":{"device_id":"dev7","dev_addr":"01020304"}},"field_mask":{"paths":["ids"]}}`, "ids.device_id", `"dev1"`},
		"created_at stays": {`{"end_device":{"created_at":"2001-01-01T00:00:00Z"},"field_mask":{"paths":["created_at","name"]}}`, "name", ``},
	} {
		d := newDeviceDoor(t)
		d.do("PUT", "/applications/app1/devices/dev1", c.body).is(200)
		if got := d.do("GET", "/applications/app1/devices/dev1?field_mask=*", nil).is(200).at(c.path); got != c.want {
			t.Errorf("%s: %s is %s, want %s", name, c.path, got, c.want)
		}
	}
	d := newDeviceDoor(t)
	d.do("PUT", "/applications/app1/devices/dev1", `{"end_device":{"ids":{"dev_eui":"0000000000000009"}}}`).fails(400, "invalid_dev_eui")
	d.do("PUT", "/applications/app1/devices/dev1", `{"end_device":{"name":"n"},"field_mask":{"paths":["name"]}}`).is(200).has("name", `"n"`).has("formatters", "")
}

func TestReadsShowIDsAndTimesUnlessAskedForMore(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	members := func(r reply) string {
		var names []string
		for name := range r.is(200).tree() {
			names = append(names, name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for query, want := range map[string]string{
		"":                                    "created_at ids updated_at",
		"?field_mask=name":                    "created_at ids name updated_at",
		"?field_mask=name,supports_join":      "created_at ids name supports_join updated_at",
		"?field_mask=name&field_mask=nothing": "created_at ids name updated_at",
		"?fieldMask.paths=name&fieldMask.paths=formatters.up_formatter": "created_at formatters ids name updated_at",
		"?field_mask.paths=formatters.up_formatter":                     "created_at formatters ids updated_at",
		"?fieldMask=supportsJoin":                                       "created_at ids supports_join updated_at",
	} {
		if got := members(d.do("GET", "/applications/app1/devices/dev1"+query, nil)); got != want {
			t.Errorf("%q shows %s, want %s", query, got, want)
		}
	}
	d.do("GET", "/applications/app1/devices/dev1?field_mask=formatters.up_formatter", nil).has("formatters", `{"up_formatter":"FORMATTER_LUA"}`)
	d.do("GET", "/applications/app1/devices/dev1?field_mask=.", nil).fails(400, "invalid_field_mask")
	d.do("GET", "/applications/app1/devices/dev1?field_mask="+strings.Repeat("a,", 400), nil).is(200)
	d.do("GET", "/applications/app1/devices/dev1?field_mask="+strings.Repeat("ab,", 600)+"c", nil).fails(400, "invalid_field_mask")
}

func TestKeysNeedTheirOwnRights(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	reader := d.with(d.keyFor("app1", messages.RightApplicationDevicesRead))
	for _, path := range []string{"/applications", "/ns/applications", "/as/applications", "/js/applications"} {
		r := reader.do("GET", path+"/app1/devices/dev1?field_mask=*", nil).is(200)
		if strings.Contains(r.Body, appKey) {
			t.Errorf("%s shows a root key: %s", path, r.Body)
		}
	}
	if r := reader.do("GET", "/ns/applications/app1/devices/abp1?field_mask=session", nil).is(200).has("session.dev_addr", `"26010203"`); strings.Contains(r.Body, nwkSKey) {
		t.Errorf("a session key is shown: %s", r.Body)
	}
	for _, mask := range []string{"root_keys", "root_keys.app_key.key", "session.keys.app_s_key", "name,pending_session.keys.f_nwk_s_int_key.key"} {
		r := reader.do("GET", "/js/applications/app1/devices/dev1?field_mask="+mask, nil).fails(403, "insufficient_application_rights")
		if !strings.Contains(r.Body, "RIGHT_APPLICATION_DEVICES_READ_KEYS") {
			t.Errorf("the right is not named: %s", r.Body)
		}
	}
	if r := d.do("GET", "/applications/app1/devices?field_mask=*", nil).is(200); strings.Contains(r.Body, appKey) {
		t.Errorf("a list shows keys: %s", r.Body)
	}

	writer := d.with(d.keyFor("app1", messages.RightApplicationDevicesWrite))
	for _, body := range []string{
		`{"end_device":{"root_keys":{"app_key":{"key":"` + appKey + `"}}}}`,
		`{"end_device":{},"field_mask":{"paths":["root_keys"]}}`,
		`{"end_device":{"session":` + sessionOf("26010203", nwkSKey, "") + `}}`,
		`{"end_device":{"session":` + sessionOf("26010203", nwkSKey, "") + `},"field_mask":{"paths":["session.keys.f_nwk_s_int_key.key"]}}`,
		`{"end_device":{"session":{"dev_addr":"26010203"}},"field_mask":{"paths":["session"]}}`,
	} {
		r := writer.do("PUT", "/ns/applications/app1/devices/abp1", body).fails(403, "insufficient_application_rights")
		if !strings.Contains(r.Body, "RIGHT_APPLICATION_DEVICES_WRITE_KEYS") {
			t.Errorf("the right is not named: %s", r.Body)
		}
	}
	writer.do("PUT", "/applications/app1/devices/dev1", `{"end_device":{"name":"n"}}`).is(200)
	writer.do("POST", "/applications/app1/devices", otaa).fails(403, "insufficient_application_rights")
	for _, body := range []string{otaa, abp} { // a mask is no way around
		body = strings.NewReplacer(`"dev1"`, `"dev8"`, `"abp1"`, `"abp8"`, "70B3D57ED0000001", "70B3D57ED0000008").Replace(body)
		writer.do("POST", "/applications/app1/devices", strings.TrimSuffix(body, "}")+`,"field_mask":{"paths":["name"]}}`).fails(403, "insufficient_application_rights")
		writer.do("POST", "/ns/applications/app1/devices", strings.TrimSuffix(body, "}")+`,"field_mask":{"paths":["name"]}}`).is(200)
	}
	for i, body := range []string{ // nor is another spelling
		`"ROOT_KEYS":{"APP_KEY":{"KEY":"` + appKey + `"}}`, `"Root_Keys":{"app_key":{"key":"` + appKey + `"}}`, `"root_Keys":{"app_key":{"key":"` + appKey + `"}}`,
		nsSettings + `,"SESSION":` + sessionOf("26010203", nwkSKey, appSKey), nsSettings + `,"session":{"dev_addr":"26010203","KEYS":{"APP_S_KEY":{"key":"` + appSKey + `"}}}`,
		`"root_\u212aeys":{"app_key":{"key":"` + appKey + `"}}`, `"root_key\u017f":{"app_key":{"key":"` + appKey + `"}}`,
	} {
		id := fmt.Sprintf("dev9%d", i)
		for _, path := range []string{"/applications/app1/devices", "/ns/applications/app1/devices"} {
			writer.do("POST", path, `{"end_device":{"ids":{"device_id":"`+id+`"},`+body+`}}`)
		}
		if got := d.do("GET", "/applications/app1/devices/"+id+"?field_mask=*", nil); strings.Contains(got.Body, `"key"`) {
			t.Errorf("%s is a way around: %s", body, got.Body)
		}
	}
	d.do("GET", "/js/applications/app1/devices/dev8", nil).fails(404, "device_not_found")
	d.do("GET", "/ns/applications/app1/devices/abp8", nil).fails(404, "device_not_found")
}

func TestDeleteTakesTheSessionFirst(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	d.devices.failOnce("delete", messages.Errorf(messages.CodeUnavailable, "disk_full", "free some space"))
	d.do("DELETE", "/applications/app1/devices/abp1", nil).fails(503, "disk_full")
	d.do("GET", "/applications/app1/devices/abp1", nil).is(200) // the registry still knows it, so that it can be repeated
	d.devices.took()
	d.do("DELETE", "/applications/app1/devices/abp1", nil).is(200)
	if calls := d.devices.took(); len(calls) != 2 || calls[0] != "delete app1.abp1" {
		t.Errorf("the session is deleted before and after: %v", calls)
	}
	if _, ok := d.devices.state("app1", "abp1"); ok {
		t.Error("a session is left")
	}
	d.do("DELETE", "/applications/app1/devices/abp1", nil).fails(404, "end_device_not_found")
}

func TestANewDeviceInheritsNoSession(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.devices.put("app1", "dev1", v3.EndDevice{Session: &v3.Session{DevAddr: &messages.DevAddr{1}}, LastJoinNonce: 9}) // left by a crash
	d.do("POST", "/applications/app1/devices", otaa).is(200)
	if state, ok := d.devices.state("app1", "dev1"); ok {
		t.Errorf("the new device has %+v", state)
	}
	d.do("POST", "/applications/app1/devices", otaa).fails(409, "id_taken")
}

func TestFailedSessionUndoesTheCreation(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.devices.failOnce("set", messages.Errorf(messages.CodeUnavailable, "disk_full", "free some space"))
	d.do("POST", "/applications/app1/devices", abp).fails(503, "disk_full")
	d.do("GET", "/applications/app1/devices/abp1", nil).fails(404, "end_device_not_found")
	d.do("POST", "/applications/app1/devices", abp).is(200)
	d.do("POST", "/applications/app1/devices", abp).fails(409, "id_taken")
}

func TestCreationThatACrashCutOffCanBeRepeated(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	if err := d.devices.DeleteDevice(t.Context(), messages.DeviceID{ApplicationID: "app1", DeviceID: "abp1"}); err != nil { // as if it had never been set
		t.Fatal(err)
	}
	d.do("POST", "/applications/app1/devices", strings.Replace(abp, "EU_863_870_TTN", "EU_863_870", 1)).fails(409, "id_taken") // another device
	d.do("POST", "/applications/app1/devices", abp).is(200)
	if state, _ := d.devices.state("app1", "abp1"); state.Session == nil {
		t.Error("the session is not set")
	}
}

func TestListsAreSortedAndCutIntoPages(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	for i := range 5 {
		d.do("POST", "/applications/app1/devices", fmt.Sprintf(`{"end_device":{"ids":{"device_id":"dev%d"},"name":"%c"}}`, i, 'e'-i)).is(200)
	}
	ids := func(query string) string {
		r := d.do("GET", "/applications/app1/devices"+query, nil).is(200)
		if n := r.Header.Get("X-Total-Count"); n != "5" {
			t.Errorf("%s: X-Total-Count %s", query, n)
		}
		var out struct {
			EndDevices []v3.EndDevice `json:"end_devices"`
		}
		if err := json.Unmarshal([]byte(r.Body), &out); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, dev := range out.EndDevices {
			ids = append(ids, dev.IDs.DeviceID[3:])
		}
		return strings.Join(ids, "")
	}
	for query, want := range map[string]string{
		"": "01234", "?limit=2": "01", "?limit=2&page=3": "4", "?limit=2&page=4": "", "?limit=0&page=0": "01234", "?order=device_id&limit=3&page=2": "34", "?order=-device_id": "43210", "?order=name": "43210",
		"?order=-name&limit=2&page=2": "23", "?order=created_at": "01234", "?order=-created_at&limit=1": "4", "?page=1000000": "",
	} {
		if got := ids(query); got != want {
			t.Errorf("%q lists %s, want %s", query, got, want)
		}
	}
	d.do("GET", "/applications/app1/devices?limit=1001", nil).fails(400, "invalid_limit")
	d.do("GET", "/applications/app1/devices?limit=-1", nil).fails(400, "invalid_limit")
	d.do("GET", "/applications/app1/devices?page=x", nil).fails(400, "invalid_page")
	d.do("GET", "/applications/app1/devices?page=1000001", nil).fails(400, "invalid_page")
	d.do("GET", "/applications/app1/devices?order=colour", nil).fails(400, "invalid_order")
	d.do("GET", "/applications/app2/devices", nil).fails(404, "application_not_found")
}

func TestUnknownMembersAreTakenWithAWarning(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	r := d.do("POST", "/applications/app1/devices", `{"end_device":{"ids":{"device_id":"dev1","colour":1},"mac_settings":{"anything":1},"relay":{},"attributes":{"abc":"d"}}}`).is(200)
	got := r.Header.Values("X-Warning")
	slices.Sort(got)
	if want := []string{"unknown field end_device.ids.colour ignored", "unknown field end_device.relay ignored"}; !slices.Equal(got, want) {
		t.Errorf("X-Warning %q, want %q", got, want)
	}
	r = d.do("PUT", "/applications/app1/devices/dev1", `{"end_device":{},"field_mask":{"paths":["nane","ids.dev_eui","session.keys.app_s_key.key","session.keys.app_key","mac_settings.any.thing","attributes.abc","claim_authentication_code.value","locations.user.latitude","name.x","activated_at"]}}`).is(200)
	got = r.Header.Values("X-Warning")
	slices.Sort(got)
	if want := []string{"unknown field field_mask.name.x ignored", "unknown field field_mask.nane ignored", "unknown field field_mask.session.keys.app_key ignored"}; !slices.Equal(got, want) {
		t.Errorf("X-Warning %q, want %q", got, want)
	}
	var many []string
	for i := range 50 {
		many = append(many, fmt.Sprintf(`"x%d":1`, i))
	}
	if got := d.do("PUT", "/applications/app1/devices/dev1", `{"end_device":{`+strings.Join(many, ",")+`,"a\r\nSet-Cookie: x":1}}`).is(200).Header; len(got.Values("X-Warning")) != maxWarnings || got.Get("Set-Cookie") != "" {
		t.Errorf("header %v", got)
	}
}
