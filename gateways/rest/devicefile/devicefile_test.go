package devicefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// read gives what is in a file, one line a device: its JSON, or its error after "!".
func read(t *testing.T, text string, o Options) (lines []string) {
	t.Helper()
	r, err := NewReader(strings.NewReader(text), o)
	if err != nil {
		return []string{"!! " + err.Error()}
	}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		if row.Number != len(lines)+1 {
			t.Errorf("row %d comes after %d others", row.Number, len(lines))
		}
		if row.Err != nil {
			if messages.CodeOf(row.Err) != messages.CodeInvalid {
				t.Errorf("row %d: %v has no code", row.Number, row.Err)
			}
			lines = append(lines, "! "+row.Err.Error())
			continue
		}
		lines = append(lines, string(row.Device))
	}
}

func TestThingsStackJSON(t *testing.T) {
	t.Parallel()
	const a, b = `{"ids":{"device_id":"a"}}`, `{"ids":{"device_id":"b"}}`
	for name, text := range map[string]string{
		"list": "[" + a + "," + b + "]", "lines": a + "\n" + b + "\n", "stream": a + b, "wrapped": `{"end_device":` + a + `}{"end_device":` + b + `,"field_mask":{"paths":["ids"]}}`,
		"templates": `{"result":{"end_device":` + a + `,"mapping_key":""}}` + "\n\n" + `{"result":{"end_device":` + b + `}}`,
		"answer":    `{"end_devices":[` + a + "," + b + `],"total":2}`, "bom": "\xef\xbb\xbf \n[" + a + "," + b + "]", "camel case": `{"endDevice":{"ids":{"deviceId":"a"}}}` + b,
	} {
		if d := cmp.Diff([]string{a, b}, read(t, text, Options{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	want := []string{`{"frequency_plan_id":"P","ids":{"dev_eui":"70-B3-D5-00-00-00-00-01","device_id":"eui-70b3d50000000001"},"lorawan_phy_version":"X","lorawan_version":"V"}`}
	got := read(t, `{"ids":{"dev_eui":"70-B3-D5-00-00-00-00-01"},"lorawan_version":"V"}`, Options{FrequencyPlanID: "P", LoRaWANVersion: "W", LoRaWANPHYVersion: "X"})
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A device that can't be read spoils no other, as long as one can tell where the next begins.
func TestWrongRowsSpoilNoOthers(t *testing.T) {
	t.Parallel()
	const a = `{"ids":{"device_id":"abc"}}`
	for _, c := range []struct {
		text string
		want []string // beginnings
	}{
		{a + "\n{\"ids\":nonsense}\n" + a, []string{a, "! not JSON", a}},
		{a + "\n{\"x\":1}\n" + a, []string{a, `! the object is no end device`, a}},
		{"[" + a + ",5," + a + "]", []string{a, "! want an object", a}},
		{"[" + a + ",{\"ids\":nonsense}," + a + "]", []string{a, "! not JSON"}},
		{a + `{"ids":{"device_id":`, []string{a, "! the file ends in the middle"}},
		{"[" + a, []string{a, "! the file ends in the middle"}},
		{"dev_eui;last_f_cnt_up\n1111111111111111;x\n2222222222222222;5\n", []string{"! last_f_cnt_up: want a number", `{"ids":{"dev_eui":"2222222222222222"`}},
		{"dev_eui,name\n1111111111111111,a,b\n2222222222222222,\"c,d\"\n", []string{"! the row has 3 fields", `{"ids":{"dev_eui":"2222222222222222","device_id":"eui-2222222222222222"},"name":"c,d"}`}},
		{"dev_eui;name\n1111111111111111;\"x\"y\n2222222222222222;z\n", []string{"! line 2, column", `{"ids":{"dev_eui":"2222222222222222"`}},
		{"dev_eui;name\n;x\n", []string{"! the row has neither"}},
	} {
		got := read(t, c.text, Options{})
		if len(got) != len(c.want) {
			t.Errorf("%q gives %q, want %q", c.text, got, c.want)
			continue
		}
		for i, w := range c.want {
			if !strings.HasPrefix(got[i], w) {
				t.Errorf("%q: row %d is %q, want %q", c.text, i+1, got[i], w)
			}
		}
	}
}

func TestFilesThatAreNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "is empty", " \n": "is empty", "hello": "no known column", "PK\x03\x04": "spreadsheet", "\xff\xfei\x00": "UTF-16",
		"id;id\n": "two columns",
	} {
		if got := read(t, text, Options{}); len(got) != 1 || !strings.HasPrefix(got[0], "!!") || !strings.Contains(got[0], want) {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
	if got := read(t, "id;name\n", Options{Format: JSON}); !strings.Contains(got[0], "not JSON") {
		t.Errorf("CSV as JSON: %q", got)
	}
	if got := read(t, "{}", Options{Format: CSV}); !strings.Contains(got[0], "JSON and not CSV") {
		t.Errorf("JSON as CSV: %q", got)
	}
	cut := errors.New("cut")
	r, err := NewReader(io.MultiReader(strings.NewReader(`[{"ids":{"device_id":"abc"}},`), iotest.ErrReader(cut)), Options{})
	if err == nil {
		for err == nil {
			_, err = r.Next()
		}
	}
	if !errors.Is(err, cut) {
		t.Errorf("a connection that broke: %v", err)
	}
	if got := read(t, `{"ids":{"device_id":"abc"},"name":"`+strings.Repeat("x", 2*maxRow)+`"}`, Options{}); !strings.Contains(got[0], "more than 4 MiB") {
		t.Errorf("a device that is too large: %.100q", got)
	}
	if got := read(t, strings.Repeat(`{"ids":`, 150)+"{}"+strings.Repeat("}", 150), Options{}); !strings.Contains(got[0], "nested deeper") {
		t.Errorf("a device that is too deep: %.100q", got)
	}
}

// The columns of The Things Stack's bulk import, in either separator and any case.
func TestThingsStackCSV(t *testing.T) {
	t.Parallel()
	const header = "id;dev_eui;join_eui;name;description;frequency_plan_id;lorawan_version;lorawan_phy_version;brand_id;model_id;hardware_version;firmware_version;band_id;app_key;nwk_key;rx1_delay;supports_32_bit_f_cnt;dev_addr;app_s_key;f_nwk_s_int_key;last_f_cnt_up;last_n_f_cnt_down;last_a_f_cnt_down;supports_class_c;vendor_id;vendor_profile_id;remark"
	const row = "test-one;1111111111111111;2222222222222222;Device 1;one;EU_863_870_TTN;MAC_V1_0_4;RP002_V1_0_3;brand;model;1.0.4;1.0;EU_863_870;11111111111111111111111111111111;;RX_DELAY_5;FALSE;01020304;0A;0B;12;13;14;true;1;2;ignored"
	var want, got v3.Transfer
	const text = `{"ids":{"device_id":"test-one","dev_eui":"1111111111111111","join_eui":"2222222222222222"},"name":"Device 1","description":"one","frequency_plan_id":"EU_863_870_TTN",
		"lorawan_version":"MAC_V1_0_4","lorawan_phy_version":"RP002_V1_0_3","version_ids":{"brand_id":"brand","model_id":"model","hardware_version":"1.0.4","firmware_version":"1.0","band_id":"EU_863_870"},
		"root_keys":{"app_key":{"key":"11111111111111111111111111111111"}},"supports_join":true,"mac_settings":{"rx1_delay":"RX_DELAY_5","supports_32_bit_f_cnt":false},"supports_class_c":true,
		"session":{"dev_addr":"01020304","keys":{"app_s_key":{"key":"0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A"},"f_nwk_s_int_key":{"key":"0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B"}},"last_f_cnt_up":12,"last_n_f_cnt_down":13,"last_a_f_cnt_down":14},
		"lora_alliance_profile_ids":{"vendor_id":1,"vendor_profile_id":2}}`
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	long := strings.NewReplacer(";0A", ";"+strings.Repeat("0a", 16), ";0B", ";"+strings.Repeat("0b", 16)).Replace(row)
	for _, file := range []string{
		header + "\n" + long + "\n", "\xef\xbb\xbf" + strings.ToUpper(header) + "\r\n" + long, strings.ReplaceAll(header+"\n"+long, ";", ","), strings.ReplaceAll(header+"\n"+long, ";", "\t"),
		strings.ReplaceAll(header, "join_eui", "App EUI") + "\n" + strings.ReplaceAll(long, "Device 1", ` "Device 1"`),
	} {
		lines := read(t, file, Options{})
		got = v3.Transfer{}
		if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
			t.Fatalf("%v in %s", err, lines)
		}
		wantText, _ := json.Marshal(want)
		gotText, _ := json.Marshal(got)
		if d := cmp.Diff(string(wantText), string(gotText)); d != "" {
			t.Errorf("%.40q: %s", file, d)
		}
	}
	for _, name := range Columns() {
		if strings.Contains(";"+header+";", ";"+name+";") {
			continue
		}
		if got := read(t, "id;"+name+"\nabc;1\n", Options{}); len(got) != 1 || got[0][0] == '!' && !strings.Contains(got[0], "two") {
			t.Errorf("column %s: %q", name, got)
		}
	}
}

const chirpStackDeviceText = `"devEui":"0102030405060708","name":"Cellar","description":"d","joinEui":"0000000000000001","deviceProfileId":"p","isDisabled":false,"tags":{"floor":"3","room_name":"x","Y":"z"}`

func TestChirpStack(t *testing.T) {
	t.Parallel()
	key := func(c string) string { return strings.Repeat(c, 32) }
	keys := `"nwkKey":"` + key("a") + `","appKey":"` + key("0") + `"`
	activation := `"devAddr":"01020304","appSKey":"` + key("1") + `","fNwkSIntKey":"` + key("2") + `","sNwkSIntKey":"` + key("2") + `","nwkSEncKey":"` + key("2") + `","fCntUp":8,"nFCntDown":4,"aFCntDown":0`
	profile := `"name":"profile","region":"EU868","macVersion":"LORAWAN_1_0_3","regParamsRevision":"A","supportsClassC":true`
	want := `{"attributes":{"floor":"3","room-name":"x"},"description":"d","frequency_plan_id":"EU_863_870","ids":{"dev_eui":"0102030405060708","device_id":"eui-0102030405060708","join_eui":"0000000000000001"},` +
		`"lorawan_phy_version":"PHY_V1_0_3_REV_A","lorawan_version":"MAC_V1_0_3","name":"Cellar","root_keys":{"app_key":{"key":"` + key("a") + `"}},` +
		`"session":{"dev_addr":"01020304","keys":{"app_s_key":{"key":"` + key("1") + `"},"f_nwk_s_int_key":{"key":"` + key("2") + `"}},"last_a_f_cnt_down":0,"last_f_cnt_up":7,"last_n_f_cnt_down":4},"supports_class_c":true,"supports_join":true}`
	for name, text := range map[string]string{
		"beside": `{"device":{` + chirpStackDeviceText + `},"deviceKeys":{` + keys + `},"deviceActivation":{` + activation + `},"deviceProfile":{` + profile + `}}`,
		"inside": `[{` + chirpStackDeviceText + `,"keys":{` + keys + `},"activation":{` + activation + `},"profile":{` + profile + `}}]`,
		"result": `{"totalCount":1,"result":[{` + chirpStackDeviceText + `,` + keys + `,` + activation + `,"deviceProfile":{` + profile + `}}]}`,
		"snake": strings.NewReplacer("devEui", "dev_eui", "joinEui", "join_eui", "nwkKey", "nwk_key", "appKey", "app_key", "devAddr", "dev_addr", "appSKey", "app_s_key", "fNwkSIntKey", "f_nwk_s_int_key",
			"fCntUp", "f_cnt_up", "nFCntDown", "n_f_cnt_down", "macVersion", "mac_version", "regParamsRevision", "reg_params_revision").Replace(
			`{"device":{` + chirpStackDeviceText + `},"device_keys":{` + keys + `},"device_session":{` + activation + `},"device_profile":{` + profile + `}}`),
	} {
		if d := cmp.Diff([]string{want}, read(t, text, Options{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	// Of LoRaWAN 1.0.x nwk_key is the AppKey, also if there is another one; without a version that is meant.
	got := read(t, `{"devEui":"0102030405060708","nwkKey":"`+key("a")+`","appKey":"`+key("b")+`"}`, Options{})
	if !strings.Contains(got[0], `"root_keys":{"app_key":{"key":"`+key("a")+`"}}`) {
		t.Errorf("keys of a 1.0 device: %s", got)
	}
	got = read(t, `{"devEui":"0102030405060708","nwkKey":"`+key("a")+`","appKey":"`+key("b")+`"}`, Options{LoRaWANVersion: "MAC_V1_1"})
	if !strings.Contains(got[0], `"app_key":{"key":"`+key("b")+`"},"nwk_key":{"key":"`+key("a")+`"}`) {
		t.Errorf("keys of a 1.1 device: %s", got)
	}
	got = read(t, "dev_eui,device_profile_id,name,description,nwk_key\n0102030405060708,p,n,d,"+key("a")+"\n", Options{})
	if !strings.Contains(got[0], `"root_keys":{"app_key":{"key":"`+key("a")+`"}}`) || !strings.Contains(got[0], `"name":"n"`) {
		t.Errorf("as CSV: %s", got)
	}
	if got := read(t, `[{"devEui":"01"},{"name":"x"}]`, Options{Format: ChirpStack}); len(got) != 2 || !strings.HasPrefix(got[1], "! the device has no devEui") {
		t.Errorf("without an EUI: %q", got)
	}
}

func sealed(t *testing.T, passphrase string, n int) string {
	t.Helper()
	var b bytes.Buffer
	w, err := newWriter(&b, "app1", time.Unix(1, 0), []byte(passphrase), kdf{Name: kdfName, Time: 1, MemoryKiB: 64, Threads: 1, Salt: make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		id := fmt.Sprintf("dev-%d", i)
		if err := w.Device(id, []byte(`{"ids":{"device_id":"`+id+`"},"name":"<secret>"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSealedExport(t *testing.T) {
	t.Parallel()
	const pass = "a long passphrase"
	text := sealed(t, pass, 3)
	if strings.Contains(text, "secret") {
		t.Fatalf("the export shows what is in it: %s", text)
	}
	o := Options{Passphrase: []byte(pass)}
	if got := read(t, text, o); len(got) != 3 || got[2] != `{"ids":{"device_id":"dev-2"},"name":"\u003csecret\u003e"}` {
		t.Errorf("gives %q", got)
	}
	if got := read(t, sealed(t, pass, 0), o); len(got) != 0 {
		t.Errorf("without devices: %q", got)
	}
	if got := read(t, text, Options{Passphrase: []byte("another passphrase")}); !strings.Contains(got[0], "the passphrase is not the one") {
		t.Errorf("wrong passphrase: %q", got)
	}
	if got := read(t, text, Options{}); !strings.Contains(got[0], "give its passphrase") {
		t.Errorf("no passphrase: %q", got)
	}
	lines := strings.SplitAfter(text, "\n")
	for name, changed := range map[string]string{
		"left out": lines[0] + lines[1] + lines[3] + lines[4], "cut off": lines[0] + lines[1] + lines[2], "exchanged": lines[0] + lines[2] + lines[1] + lines[3] + lines[4],
		"renamed": strings.Replace(text, "dev-1", "dev-9", 1), "shortened": lines[0] + lines[1] + lines[4], "of another": lines[0] + lines[1] + strings.SplitAfter(sealed(t, pass, 3), "\n")[2],
		"end changed": lines[0] + lines[1] + strings.Replace(lines[4], `"end":3`, `"end":1`, 1),
	} {
		got := read(t, changed, o)
		if last := got[len(got)-1]; !strings.HasPrefix(last, "! ") {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, header := range map[string]string{
		"memory": strings.Replace(lines[0], `"memory_kib":64`, `"memory_kib":4000000`, 1), "time": strings.Replace(lines[0], `"time":1`, `"time":1000`, 1),
		"cipher": strings.Replace(lines[0], "xchacha20", "rot13", 1), "version": strings.Replace(lines[0], `"lorikeet_export":1`, `"lorikeet_export":2`, 1),
	} {
		if got := read(t, header, o); !strings.HasPrefix(got[0], "!! ") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, err := NewWriter(io.Discard, "app1", time.Unix(1, 0), []byte("short")); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("a short passphrase: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	for _, text := range []string{`[{"ids":{"device_id":"a"}}]`, `{"end_devices":[{}]}`, "id;dev_eui\na;b\n", `{"device":{"devEui":"0102030405060708"}}`, `{"lorikeet_export":1}`, `{"result":{"end_device":{"ids":{}}}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader(bytes.NewReader(file), Options{})
		for n := 0; err == nil; n++ {
			if n > len(file)+1 {
				t.Fatalf("%d rows in %d bytes", n, len(file))
			}
			var row Row
			if row, err = r.Next(); err == nil && row.Err == nil && !json.Valid(row.Device) {
				t.Fatalf("row %d is %q", row.Number, row.Device)
			}
		}
		var e *messages.Error
		if !errors.Is(err, io.EOF) && !errors.As(err, &e) {
			t.Fatalf("ends with %v", err)
		}
	})
}
