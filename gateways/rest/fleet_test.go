package rest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/registry"
)

// testFleet is a registry and fake devices.
type testFleet struct {
	*registry.Registry
	devices *fakeDevices
	steps   map[string]uint32 // FCntDown steps of restored devices
}

func (f *testFleet) StoredState(_ context.Context, id messages.DeviceID) (v3.Transfer, bool, error) {
	leave, err := f.devices.enter("stored", id)
	defer leave()
	state, ok := f.devices.states[id]
	return v3.Transfer{EndDevice: state, MACState: &v3.MACState{FCntUpUsed: true}}, ok, err
}

func (f *testFleet) RestoreDevice(_ context.Context, id messages.DeviceID, t v3.Transfer, step uint32) error {
	leave, err := f.devices.enter("restore", id)
	defer leave()
	if err == nil {
		err = f.devices.ready(id)
	}
	if err != nil {
		return err
	}
	f.steps[id.DeviceID] = step
	f.devices.states[id] = v3.EndDevice{Session: t.Session, LastJoinNonce: t.LastJoinNonce, LastDevNonce: t.LastDevNonce, UsedDevNonces: t.UsedDevNonces}
	return nil
}

// fleetDoor is a door with app1 whose devices can be moved.
func fleetDoor(t *testing.T) (*door, *testFleet) {
	t.Helper()
	f := &testFleet{steps: map[string]uint32{}}
	d := newDoor(t, func(c *Config) { c.Fleet = f })
	f.Registry, f.devices = d.registry, d.devices
	d.app("app1")
	return d, f
}

// send posts a file.
func (d *door) importFile(query, file string) reply {
	d.Helper()
	req := httptest.NewRequest("POST", prefix+"/applications/app1/devices/import"+query, strings.NewReader(file))
	req.Header.Set("Authorization", "Bearer "+d.key)
	req.Header.Set("Content-Type", "text/csv")
	return d.send(req)
}

// outcomes are the lines of an answer, as "row device status error_name".
func (r reply) outcomes() (out []string) {
	r.door.Helper()
	for line := range strings.Lines(r.is(200).Body) {
		var one importResult
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			r.door.Fatalf("%v in %q", err, line)
		}
		if (one.Error == "") != (one.Status != importFailed) {
			r.door.Errorf("status and error differ in %s", line)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%d %s %s %s", one.Row, one.DeviceID, one.Status, one.ErrorName)))
	}
	if n := r.Header.Get("X-Total-Count"); n != fmt.Sprint(len(out)) {
		r.door.Errorf("X-Total-Count is %s, there are %d lines", n, len(out))
	}
	return out
}

const importHeader = "id;dev_eui;join_eui;name;frequency_plan_id;lorawan_version;lorawan_phy_version;app_key\n"

func importLine(id string, n int) string {
	return fmt.Sprintf("%s;70B3D57ED%07X;0000000000000001;Name %s;EU_863_870_TTN;MAC_V1_0_3;PHY_V1_0_3_REV_A;000102030405060708090A0B0C0D0E0F\n", id, n, id)
}

func TestImportMakesDevices(t *testing.T) {
	t.Parallel()
	d, f := fleetDoor(t)
	file := importHeader + importLine("dev-1", 1) + importLine("No Id", 2) + strings.Replace(importLine("dev-3", 3), "MAC_V1_0_3", "MAC_V9", 1) + importLine("dev-4", 1) +
		importLine("dev-1", 5) + strings.Replace(importLine("dev-6", 6), "000102", "xyz", 1) + importLine("", 7) + importLine("dev-8", 8)
	want := []string{"1 dev-1 created", "2 No Id failed invalid_id", "3 dev-3 failed invalid_lorawan_version", "4 dev-4 failed end_device_euis_taken", "5 dev-1 failed id_taken",
		"6 dev-6 failed decode_body", "7 eui-70b3d57ed0000007 created", "8 dev-8 created"}
	dry := slices.Clone(want)
	dry[3] = "4 dev-4 created" // a rehearsal compares with what is registered
	if diff := cmp.Diff(dry, d.importFile("?dry_run=true", file).outcomes()); diff != "" {
		t.Errorf("rehearsal: %s", diff)
	}
	d.do("GET", "/applications/app1/devices", nil).is(200).has("end_devices", "[]")
	r := d.importFile("", file)
	if diff := cmp.Diff(want, r.outcomes()); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(r.Body+d.log.String(), "0405060708") {
		t.Error("a key is shown")
	}
	d.do("GET", "/applications/app1/devices/dev-8?field_mask=name,supports_join,root_keys", nil).is(200).has("name", `"Name dev-8"`).has("supports_join", "true").
		has("root_keys.app_key.key", `"000102030405060708090A0B0C0D0E0F"`)
	if len(f.steps) != 0 {
		t.Errorf("devices without a state were restored: %v", f.steps)
	}
}

func TestImportOpensWrappedKeys(t *testing.T) {
	t.Parallel()
	d, _ := fleetDoor(t)
	const key = "00112233445566778899AABBCCDDEEFF"
	file := `{"ids":{"device_id":"dev-1","dev_eui":"70B3D57ED0000001","join_eui":"0000000000000001"},"supports_join":true,"lorawan_version":"MAC_V1_0_3","lorawan_phy_version":"PHY_V1_0_3_REV_A",
		"frequency_plan_id":"EU_863_870","root_keys":{"app_key":{"kek_label":"as/me","encrypted_key":"` + wrapped(t, key) + `"}}}`
	if got := d.importFile("", file).outcomes(); len(got) != 1 || got[0] != "1 dev-1 failed kek_not_found" {
		t.Errorf("without the KEK: %v", got)
	}
	d.do("POST", "/js/applications/app1/settings", `{"settings":{"kek_label":"as/me","kek":{"key":"`+testKEK+`"}}}`).is(200)
	if got := d.importFile("", file).outcomes(); len(got) != 1 || got[0] != "1 dev-1 created" {
		t.Errorf("with the KEK: %v", got)
	}
	d.do("GET", "/js/applications/app1/devices/dev-1?field_mask=root_keys", nil).is(200).has("root_keys.app_key.key", quoted(key))
}

func TestImportOfDevicesThatAreThere(t *testing.T) {
	t.Parallel()
	d, _ := fleetDoor(t)
	file := importHeader + importLine("dev-1", 1)
	d.importFile("", file).outcomes()
	d.do("PUT", "/applications/app1/devices/dev-1", `{"end_device":{"description":"kept","name":"mine"}}`).is(200)
	both := file + importLine("dev-2", 2)
	for _, c := range []struct{ query, first, name string }{
		{"", "1 dev-1 failed id_taken", `"mine"`}, {"?on_conflict=fail&dry_run=1", "1 dev-1 failed id_taken", `"mine"`}, {"?on_conflict=skip&dry_run=1", "1 dev-1 skipped", `"mine"`},
		{"?on_conflict=skip", "1 dev-1 skipped", `"mine"`}, {"?on_conflict=update&dry_run=1", "1 dev-1 updated", `"mine"`}, {"?on_conflict=update", "1 dev-1 updated", `"Name dev-1"`},
	} {
		if got := d.importFile(c.query, both).outcomes(); got[0] != c.first || len(got) != 2 {
			t.Errorf("%s: %q", c.query, got)
		}
		d.do("GET", "/applications/app1/devices/dev-1?field_mask=name,description", nil).is(200).has("name", c.name).has("description", `"kept"`)
	}
	// EUIs of another device are an error in every case.
	if got := d.importFile("?on_conflict=update", importHeader+importLine("dev-3", 1)).outcomes(); got[0] != "1 dev-3 failed end_device_euis_taken" {
		t.Errorf("taken EUIs: %q", got)
	}
	if got := d.importFile("?on_conflict=update&dry_run=1", importHeader+importLine("dev-3", 1)).outcomes(); got[0] != "1 dev-3 failed end_device_euis_taken" {
		t.Errorf("taken EUIs, rehearsed: %q", got)
	}
}

const abpLine = `{"ids":{"device_id":"abp-1"},"frequency_plan_id":"EU_863_870","lorawan_version":"1.0.3","lorawan_phy_version":"PHY_V1_0_3_REV_A",
	"session":{"dev_addr":"01020304","keys":{"f_nwk_s_int_key":{"key":"000102030405060708090A0B0C0D0E0F"},"app_s_key":{"key":"000102030405060708090A0B0C0D0E0F"}},"last_f_cnt_up":7,"last_n_f_cnt_down":8}}`

func TestImportBringsSessions(t *testing.T) {
	t.Parallel()
	d, f := fleetDoor(t)
	// A session that a device of this name left behind is not inherited.
	d.devices.put("app1", "abp-2", v3.EndDevice{LastJoinNonce: 9})
	if got := d.importFile("", abpLine+strings.Replace(abpLine, "abp-1", "abp-2", 1)).outcomes(); got[0] != "1 abp-1 created" || got[1] != "2 abp-2 created" {
		t.Fatalf("%q", got)
	}
	if s, _ := d.devices.state("app1", "abp-2"); s.LastJoinNonce != 0 || s.Session == nil || s.Session.LastFCntUp != 7 {
		t.Errorf("state is %+v", s)
	}
	if f.steps["abp-1"] != 0 {
		t.Errorf("FCntDown was raised by %d", f.steps["abp-1"])
	}
	// If the session can't be set, the device is not left without it.
	d.devices.failOnce("restore", messages.Errorf(messages.CodeUnavailable, "device_busy", "try again"))
	if got := d.importFile("", strings.Replace(abpLine, "abp-1", "abp-3", 1)).outcomes(); got[0] != "1 abp-3 failed device_busy" {
		t.Errorf("%q", got)
	}
	d.do("GET", "/applications/app1/devices/abp-3", nil).is(404)
	// Zero counters without an address are no session.
	if got := d.importFile("", "id;dev_addr;last_f_cnt_up\nabp-4;;0\n").outcomes(); got[0] != "1 abp-4 created" {
		t.Errorf("%q", got)
	}
	zero := strings.Replace(strings.Replace(abpLine, "abp-1", "abp-5", 1), "000102030405060708090A0B0C0D0E0F", strings.Repeat("0", 32), 1)
	if got := d.importFile("", zero).outcomes(); got[0] != "1 abp-5 failed invalid_key" {
		t.Errorf("%q", got)
	}
}

func TestImportAsksForRights(t *testing.T) {
	t.Parallel()
	d, _ := fleetDoor(t)
	noKeys := d.with(d.keyFor("app1", messages.RightApplicationDevicesWrite))
	if got := noKeys.importFile("", importHeader+importLine("dev-1", 1)+"dev-2;;;;;;;\n").outcomes(); got[0] != "1 dev-1 failed insufficient_application_rights" || got[1] != "2 dev-2 created" {
		t.Errorf("%q", got)
	}
	// The path names the application, whatever the file says.
	other := strings.Replace(abpLine, `"device_id"`, `"application_ids":{"application_id":"app2"},"device_id"`, 1)
	if got := d.importFile("", other).outcomes(); got[0] != "1 abp-1 created" {
		t.Errorf("%q", got)
	}
	d.do("GET", "/applications/app1/devices/abp-1", nil).is(200).has("ids.application_ids.application_id", `"app1"`)
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	d, _ := fleetDoor(t)
	for query, name := range map[string]string{"?on_conflict=merge": "invalid_on_conflict", "?dry_run=maybe": "invalid_dry_run", "?format=xml": "invalid_format"} {
		d.importFile(query, abpLine).fails(400, name)
	}
	d.importFile("", "").fails(400, "invalid_device_file")
	req := httptest.NewRequest("POST", prefix+"/applications/app1/devices/import", strings.NewReader(abpLine))
	req.Header.Set("Authorization", "Bearer "+adminKey)
	req.Header.Set("Content-Encoding", "br")
	d.send(req).fails(400, "content_encoding")
	d.do("POST", "/applications/app2/devices/import", abpLine).fails(404, "application_not_found")
	plain := newDoor(t)
	plain.app("app1")
	plain.importFile("", abpLine).fails(400, "fleet_not_available")
}

// More than one batch; and each row has its line.
func TestImportOfManyDevices(t *testing.T) {
	t.Parallel()
	d, _ := fleetDoor(t)
	var file bytes.Buffer
	file.WriteString(importHeader)
	const n = 3*importBatch + 17
	for i := range n {
		file.WriteString(importLine(fmt.Sprintf("dev-%d", i), i))
	}
	got := d.importFile("", file.String()).outcomes()
	if len(got) != n || slices.ContainsFunc(got, func(s string) bool { return !strings.HasSuffix(s, " created") }) {
		t.Errorf("%d outcomes: %.200q", len(got), got)
	}
	if _, total, err := d.registry.DevicePage(t.Context(), "app1", 0, 1); err != nil || total != n {
		t.Errorf("%d devices, %v", total, err)
	}
}

func (d *door) exportWith(query, passphrase string) reply {
	d.Helper()
	req := httptest.NewRequest("GET", prefix+"/applications/app1/devices/export"+query, nil)
	req.Header.Set("Authorization", "Bearer "+d.key)
	req.Header.Set(passphraseHeader, passphrase)
	return d.send(req)
}

// What one server exports, another one takes in: settings, keys, and the state of the actor.
func TestAFleetMoves(t *testing.T) {
	t.Parallel()
	from, _ := fleetDoor(t)
	from.importFile("", importHeader+importLine("dev-1", 1)).outcomes()
	from.importFile("", abpLine).outcomes()
	const pass = "correct horse battery"
	sealed := from.exportWith("", pass).is(200)
	if strings.Contains(sealed.Body, "0405060708") || strings.Contains(sealed.Body, "Name dev-1") || !strings.Contains(sealed.Body, `"kdf":{"name":"argon2id"`) {
		t.Errorf("the export is %s", sealed.Body)
	}
	plain := from.exportWith("?plain=true", "").is(200)
	if !strings.Contains(plain.Body, "000102030405060708090A0B0C0D0E0F") || !strings.Contains(plain.Header.Get("X-Warning"), "in clear") {
		t.Errorf("the plain export is %v %s", plain.Header, plain.Body)
	}
	for name, file := range map[string]string{"sealed": sealed.Body, "plain": plain.Body} {
		to, f := fleetDoor(t)
		if name == "sealed" {
			to.importFile("", file).fails(400, "no_passphrase")
		}
		req := httptest.NewRequest("POST", prefix+"/applications/app1/devices/import", strings.NewReader(file))
		req.Header.Set("Authorization", "Bearer "+adminKey)
		req.Header.Set(passphraseHeader, pass)
		if got := to.send(req).outcomes(); len(got) != 2 || got[0] != "1 abp-1 created" || got[1] != "2 dev-1 created" {
			t.Errorf("%s: %q", name, got)
		}
		state, _ := to.devices.state("app1", "abp-1")
		if state.Session == nil || state.Session.LastFCntUp != 7 || *state.Session.DevAddr != (messages.DevAddr{1, 2, 3, 4}) || state.Session.Keys.AppSKey == nil {
			t.Errorf("%s: state is %+v", name, state)
		}
		if want := map[string]uint32{"sealed": movedFCntDown}[name]; f.steps["abp-1"] != want {
			t.Errorf("%s: FCntDown was raised by %d, want %d", name, f.steps["abp-1"], want)
		}
		to.do("GET", "/applications/app1/devices/dev-1?field_mask=root_keys,name", nil).is(200).has("name", `"Name dev-1"`).has("root_keys.app_key.key", `"000102030405060708090A0B0C0D0E0F"`)
	}
}

func TestExportRefuses(t *testing.T) {
	t.Parallel()
	d, _ := fleetDoor(t)
	d.exportWith("", "").fails(400, "no_passphrase")
	d.exportWith("", "short").fails(400, "passphrase_too_short")
	d.exportWith("?plain=maybe", "").fails(400, "invalid_plain")
	d.importFile("", abpLine).outcomes()
	d.devices.failOnce("stored", errors.New("disk"))
	d.exportWith("?plain=true", "").is(500)
	reader := d.with(d.keyFor("app1", messages.RightApplicationDevicesRead))
	reader.exportWith("?plain=true", "").fails(403, "insufficient_application_rights")
}

func TestTemplatesAsOfTTS(t *testing.T) {
	t.Parallel()
	d, _ := fleetDoor(t)
	d.do("GET", "/edtc/formats", nil).is(200).has("formats.the-things-stack-csv.file_extensions", `[".csv"]`).has("formats.the-things-stack.name", `"The Things Stack JSON"`)
	convert := func(format, file string) reply {
		return d.do("POST", "/edtc/convert", map[string]string{"format_id": format, "data": base64.StdEncoding.EncodeToString([]byte(file))})
	}
	got := convert("the-things-stack-csv", "dev_eui;join_eui;name;app_key\n1111111111111111;2222222222222222;n;000102030405060708090A0B0C0D0E0F\n").is(200).Body
	want := `{"result":{"end_device":{"ids":{"dev_eui":"1111111111111111","device_id":"eui-1111111111111111","join_eui":"2222222222222222"},"name":"n","root_keys":{"app_key":{"key":"000102030405060708090A0B0C0D0E0F"}},"supports_join":true},` +
		`"field_mask":{"paths":["ids.dev_eui","ids.device_id","ids.join_eui","name","root_keys.app_key.key","supports_join"]}}}` + "\n"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := convert("the-things-stack", `[{"ids":{"device_id":"a"}},{"ids":{"device_id":"b"},"attributes":{"x-y":"z"}}]`).is(200).Body; strings.Count(got, "\n") != 2 || !strings.Contains(got, `"paths":["attributes","ids.device_id"]`) {
		t.Errorf("got %s", got)
	}
	convert("the-things-stack", `[{"ids":{"device_id":"a"}},5]`).fails(400, "invalid_device_file")
	convert("microchip-atecc608a-mahtn-t", "").fails(404, "template_format_not_found")
}
