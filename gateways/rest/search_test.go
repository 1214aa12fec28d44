package rest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// ids gives the ids of a list in order.
func (r reply) ids(member, id string) string {
	r.door.Helper()
	var out []string
	items, _ := r.tree()[member].([]any)
	for _, item := range items {
		ids, _ := item.(tree)["ids"].(tree)
		out = append(out, fmt.Sprint(ids[id]))
	}
	return strings.Join(out, " ")
}

func (r reply) devices(want string) reply {
	r.door.Helper()
	if got := r.ids("end_devices", "device_id"); got != want {
		r.door.Fatalf("%s: got %q, want %q", r.call, got, want)
	}
	return r
}

// newFleetDoor has three devices of app1, and app2 without any.
func newFleetDoor(t testing.TB, change ...func(*Config)) *door {
	t.Helper()
	d := newDoor(t, change...)
	d.app("app1")
	d.app("app2")
	for _, body := range []string{
		`"ids":{"device_id":"cellar","dev_eui":"70B3D57ED0000003","join_eui":"0000000000000001"},"name":"Water meter","attributes":{"room":"B-12","floor":"0"}`,
		`"ids":{"device_id":"attic","dev_eui":"0004A30B001C0530","join_eui":"800000000000000C"},"name":"Smoke","description":"under the roof","attributes":{"room":"A-1"}`,
		`"ids":{"device_id":"garden"},"name":"soil",` + nsSettings,
	} {
		d.do("POST", "/applications/app1/devices", `{"end_device":{`+body+`}}`).is(200)
	}
	return d
}

func TestDevicesAreFoundByTheirFields(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t, func(c *Config) {
		c.DevAddrs = func(id messages.DeviceID) []messages.DevAddr {
			if id.DeviceID == "garden" {
				return []messages.DevAddr{{0x26, 0x01, 0x1B, 0xDA}}
			}
			return nil
		}
	})
	for query, want := range map[string]string{
		"":                                   "attic cellar garden",
		"query=70b3":                         "cellar",
		"query=METER":                        "cellar",
		"query=roof":                         "attic",
		"id_contains=ar":                     "cellar garden",
		"name_contains=smo":                  "attic",
		"description_contains=ROOF":          "attic",
		"dev_eui_contains=0004a3":            "attic",
		"join_eui_contains=800000":           "attic",
		"dev_addr_contains=011bda":           "garden",
		"attributes_contain[room]=-1":        "attic cellar",
		"attributes_contain[floor]=0":        "cellar",
		"attributes_contain[nothing]=0":      "",
		"id_contains=ar&name_contains=soil":  "garden",
		"id_contains=ar&order=-device_id":    "garden cellar",
		"order=name":                         "attic cellar garden",
		"order=-dev_eui":                     "cellar attic garden",
		"order=join_eui":                     "garden cellar attic",
		"order=-created_at":                  "garden attic cellar",
		"limit=1&page=2":                     "cellar",
		"deleted=true":                       "",
		"query=nothing":                      "",
		"some_field_of_a_newer_version=true": "attic cellar garden",
	} {
		query = strings.NewReplacer("[", "%5B", "]", "%5D").Replace(query)
		d.do("GET", "/search/applications/app1/devices?"+query, nil).is(200).devices(want)
	}
	got := d.do("GET", "/search/applications/app1/devices?query=a&limit=1&field_mask=name", nil).is(200).devices("attic")
	if got.Header.Get("X-Total-Count") != "3" || !strings.Contains(got.Body, `"name":"Smoke"`) || strings.Contains(got.Body, "under the roof") {
		t.Errorf("%v %s", got.Header, got.Body)
	}
	d.do("GET", "/search/applications/app1/devices?order=colour", nil).fails(400, "invalid_order")
	d.do("GET", "/search/applications/app1/devices?limit=1001", nil).fails(400, "invalid_limit")
	d.do("GET", "/search/applications/app9/devices", nil).fails(404, "application_not_found")
}

func TestApplicationsAreFoundIfTheyAreVisible(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	d.do("PUT", "/applications/app2", `{"application":{"name":"Second","attributes":{"site":"north"}}}`).is(200)
	search := func(d *door, query, want string) {
		t.Helper()
		if got := d.do("GET", "/search/applications?"+query, nil).is(200).ids("applications", "application_id"); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	search(d, "", "app1 app2")
	search(d, "query=sec", "app2")
	search(d, "id_contains=1", "app1")
	search(d, "attributes_contain%5Bsite%5D=NOR", "app2")
	search(d, "order=-application_id&limit=1", "app2")
	search(d, "deleted=true", "")
	search(d.with(d.keyFor("app1", messages.RightApplicationInfo)), "", "app1")
	search(d.with(d.keyFor("app1", messages.RightApplicationTrafficRead)), "", "")
}

func TestFilterByTheTimeOfTheLastChange(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	before := d.do("GET", "/applications/app1/devices/garden", nil).is(200).tree()["updated_at"].(string)
	d.do("PUT", "/applications/app1/devices/attic", `{"end_device":{"name":"Fire"}}`).is(200)
	since := `{"filters":[{"updated_since":"` + before + `"}],"field_mask":{"paths":["name"]}}`
	if got := d.do("POST", "/applications/app1/devices/filter", since).is(200).devices("attic"); !strings.Contains(got.Body, `"name":"Fire"`) || got.Header.Get("X-Total-Count") != "1" {
		t.Error(got.Header, got.Body)
	}
	d.do("POST", "/applications/app1/devices/filter", `{"updatedSince":"2000-01-01T00:00:00Z","order":"-device_id","limit":2,"page":1}`).is(200).devices("garden cellar")
	d.do("POST", "/applications/app1/devices/filter", `{}`).fails(400, "no_filters")
	d.do("POST", "/applications/app1/devices/filter", `{"filters":[{"updated_since":"yesterday"}]}`).fails(400, "decode_body")
}

func TestAPageHasAHundredDevicesUnlessTheQuerySays(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	for i := range 120 {
		d.do("POST", "/applications/app1/devices", fmt.Sprintf(`{"end_device":{"ids":{"device_id":"dev-%03d"}}}`, i)).is(200)
	}
	for query, want := range map[string]int{"": 100, "page=2": 20, "limit=1000": 120, "limit=7&page=3": 7, "page=9": 0, "order=-device_id": 100} {
		got := d.do("GET", "/applications/app1/devices?"+query, nil).is(200)
		if items, _ := got.tree()["end_devices"].([]any); len(items) != want || got.Header.Get("X-Total-Count") != "120" {
			t.Errorf("%q: %d devices, X-Total-Count %s", query, len(items), got.Header.Get("X-Total-Count"))
		}
	}
}

func TestListsAskDevicesForTheTimesThatTheMaskNames(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	d.devices.put("app1", "garden", v3.EndDevice{LastSeenAt: at("2026-01-02T03:04:05Z")})
	if got := d.do("GET", "/applications/app1/devices?field_mask=last_seen_at", nil).is(200); !strings.Contains(got.Body, "2026-01-02T03:04:05Z") {
		t.Error(got.Body)
	}
	d.do("GET", "/applications/app1/devices?order=-last_seen_at", nil).is(200).devices("garden attic cellar")
	d.devices.failOnce("state", messages.Errorf(messages.CodeUnavailable, "moving", "try again later"))
	d.do("GET", "/applications/app1/devices?field_mask=last_seen_at", nil).fails(503, "moving")
}

func TestBatches(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	const batch = "/applications/app1/devices/batch"
	if got := d.do("GET", batch+"?device_ids=garden&device_ids=attic&device_ids=none&field_mask=name", nil).is(200).devices("attic garden"); !strings.Contains(got.Body, "soil") {
		t.Error(got.Body)
	}
	d.do("DELETE", "/ns"+batch+"?device_ids=garden,none", nil).is(200)
	d.do("GET", "/ns/applications/app1/devices/garden", nil).fails(404, "device_not_found")
	d.do("GET", "/applications/app1/devices/garden", nil).is(200)
	d.do("DELETE", batch+"?device_ids=garden&device_ids=none&device_ids=cellar", nil).is(200)
	d.do("GET", "/applications/app1/devices", nil).devices("attic")
	d.do("GET", batch, nil).fails(400, "no_device_ids")
	d.do("DELETE", batch+"?device_ids=Attic", nil).fails(400, "invalid_id")
	d.do("DELETE", "/applications/app9/devices/batch?device_ids=attic", nil).fails(404, "application_not_found")
	many := url.Values{"device_ids": nil}
	for i := range 1001 {
		many.Add("device_ids", fmt.Sprintf("dev-%d", i))
	}
	d.do("DELETE", batch+"?"+many.Encode(), nil).fails(400, "invalid_device_ids")
	d.devices.failOnce("delete", messages.Errorf(messages.CodeUnavailable, "disk_full", "free some space"))
	d.do("DELETE", batch+"?device_ids=attic", nil).fails(503, "disk_full")
	d.do("GET", "/applications/app1/devices", nil).devices("attic")
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	d.do("GET", "/applications/app1/collaborators", nil).is(200).has("collaborators", `[{"ids":{"user_ids":{"user_id":"admin"}},"rights":["RIGHT_APPLICATION_ALL"]}]`)
	d.do("GET", "/applications/app1/collaborator/user/admin", nil).is(200).has("ids.user_ids.user_id", `"admin"`)
	d.do("GET", "/applications/app1/collaborator/user/bob", nil).fails(404, "user_not_found")
	d.do("GET", "/users/admin", nil).is(200).has("admin", "true")
	d.do("GET", "/users/bob", nil).fails(404, "user_not_found")
	d.do("POST", "/applications/app1/restore", nil).fails(400, "application_not_deleted")
	d.do("DELETE", "/applications/app2/purge", nil).is(200)
	d.do("GET", "/applications/app2", nil).fails(404, "application_not_found")
	if got := d.do("POST", "/applications/app2/restore", nil).fails(404, "application_not_found"); !strings.Contains(got.Body, "can't be restored") {
		t.Error(got.Body)
	}
	var first, second devEUIBody
	for _, out := range []*devEUIBody{&first, &second} {
		if err := json.Unmarshal([]byte(d.do("POST", "/applications/app1/dev-eui", nil).is(200).Body), out); err != nil {
			t.Fatal(err)
		}
		if out.DevEUI[0]&3 != 2 {
			t.Errorf("%s is not locally administered", out.DevEUI)
		}
	}
	if first == second {
		t.Errorf("%s was given twice", first.DevEUI)
	}
	d.do("POST", "/applications/app2/dev-eui", nil).fails(404, "application_not_found")
}

func TestWhatTheNetworkIs(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(c *Config) { c.NetID = [3]byte{0, 0, 0x13} })
	d.do("GET", "/ns/net_id", nil).is(200).has("net_id", `"000013"`)
	d.do("GET", "/ns/dev_addr_prefixes", nil).is(200).has("dev_addr_prefixes", `["26000000/7"]`)
	for range 20 {
		if got := d.do("GET", "/ns/dev_addr", nil).is(200).at("dev_addr"); got[1:3] != "26" && got[1:3] != "27" {
			t.Errorf("%s is not an address of NetID 000013", got)
		}
	}
	d.do("GET", "/js/default_join_eui", nil).is(200).has("join_eui", `"0000000000000000"`)
	d.do("GET", "/js/join_eui_prefixes", nil).is(200).has("prefixes", `[{"join_eui":"0000000000000000"}]`)
	d.do("GET", "/configuration/phy-versions?band_id=US_902_928", nil).is(200)
	d.do("GET", "/configuration/bands", nil).is(200).has("descriptions.US_902_928.band.RP002_V1_0_3.receive_delay_1", `"1s"`)
	one := d.do("GET", "/configuration/bands/EU_863_870/PHY_V1_0_3_REV_A", nil).is(200)
	one.has("descriptions.US_902_928", "").has("descriptions.EU_863_870.band.RP002_V1_0_3", "").
		has("descriptions.EU_863_870.band.PHY_V1_0_3_REV_A.data_rates.5.rate.lora", `{"bandwidth":125000,"coding_rate":"4/5","spreading_factor":7}`).
		has("descriptions.EU_863_870.band.PHY_V1_0_3_REV_A.default_rx2_parameters", `{"data_rate_index":0,"frequency":"869525000"}`)
	d.do("GET", "/configuration/bands/XX", nil).fails(404, "band_not_found")
	d.do("GET", "/configuration/bands/EU_863_870/PHY_V9", nil).fails(404, "phy_version_not_found")
	d.do("GET", "/ns/default_mac_settings/EU_863_870_TTN/PHY_V1_0_3_REV_A", nil).is(200).has("rx2_data_rate_index", "3").has("rx2_frequency", `"869525000"`)
	d.do("GET", "/ns/default_mac_settings/XX/PHY_V1_0_3_REV_A", nil).fails(404, "frequency_plan_not_found")
}

func TestWhatIsNotThereSaysSo(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	for _, path := range []string{
		"PUT /as/applications/app1/devices/attic/packages/associations/202", "PUT /js/applications/app1/provision-devices", "GET /ns/applications/app1/relays/attic",
		"GET /organizations", "POST /users", "PUT /applications/app1/collaborators",
	} {
		method, path, _ := strings.Cut(path, " ")
		if e := d.do(method, path, `{}`).fails(501, "not_available").err(); e.Code != 12 {
			t.Errorf("%s: code %d", path, e.Code)
		}
	}
	d.do("GET", "/as/applications/app1/devices/attic/packages", nil).is(200).has("packages", "[]")
	d.do("GET", "/as/applications/app1/packages/associations", nil).is(200).has("default_associations", "[]")
	d.do("GET", "/as/applications/app9/packages/associations", nil).fails(404, "application_not_found")
}
