package v3

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// TestUplinkIsWrittenAsTheThingsStackWritesIt holds the traps: zero values are left out, 64-bit integers are strings, bytes are base64,
// EUIs and addresses are upper-case hex, durations are strings of seconds.
func TestUplinkIsWrittenAsTheThingsStackWritesIt(t *testing.T) {
	eui, join, addr := messages.EUI64{0, 4, 0xa3, 0xb, 0, 0x1c, 5, 0x30}, messages.EUI64{0x80, 0, 0, 0, 0, 0, 0, 0xc}, messages.DevAddr{1, 0xda, 0x4f, 0x2b}
	at := time.Date(2024, 10, 24, 10, 0, 0, 123456789, time.UTC)
	up := ApplicationUp{
		EndDeviceIDs:   EndDeviceIDs{DeviceID: "dev1", ApplicationIDs: ApplicationIDs{"app1"}, DevEUI: &eui, JoinEUI: &join, DevAddr: &addr},
		CorrelationIDs: []string{"as:up:01H"}, ReceivedAt: &at,
		UplinkMessage: &UplinkMessage{
			SessionKeyID: Bytes{1, 2, 3}, FPort: 2, FCnt: 0, FRMPayload: Bytes{1, 0x67, 0, 0xe6}, DecodedPayload: json.RawMessage(`{"temperature_1":23}`),
			RxMetadata: []RxMetadata{{GatewayIDs: GatewayIDs{GatewayID: "gtw1"}, Timestamp: 2463457000, RSSI: -35, ChannelRSSI: -35, SNR: 5.2, FineTimestamp: 112233}},
			Settings:   &TxSettings{DataRate: DataRate{LoRa: &LoRaDataRate{Bandwidth: 125000, SpreadingFactor: 7, CodingRate: "4/5"}}, Frequency: 868300000, Timestamp: 2463457000},
			ReceivedAt: &at, ConsumedAirtime: Duration(56576 * time.Microsecond), NetworkIDs: &NetworkIDs{NetID: "000000"},
		},
	}
	got, err := json.Marshal(&up)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app1"},"dev_eui":"0004A30B001C0530","join_eui":"800000000000000C","dev_addr":"01DA4F2B"},` +
		`"correlation_ids":["as:up:01H"],"received_at":"2024-10-24T10:00:00.123456789Z",` +
		`"uplink_message":{"session_key_id":"AQID","f_port":2,"frm_payload":"AWcA5g==","decoded_payload":{"temperature_1":23},` +
		`"rx_metadata":[{"gateway_ids":{"gateway_id":"gtw1"},"timestamp":2463457000,"fine_timestamp":"112233","rssi":-35,"channel_rssi":-35,"snr":5.2}],` +
		`"settings":{"data_rate":{"lora":{"bandwidth":125000,"spreading_factor":7,"coding_rate":"4/5"}},"frequency":"868300000","timestamp":2463457000},` +
		`"received_at":"2024-10-24T10:00:00.123456789Z","consumed_airtime":"0.056576s","network_ids":{"net_id":"000000"}}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	var back ApplicationUp
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(up, back); diff != "" {
		t.Error(diff)
	}
}

func TestEveryBodyHasItsType(t *testing.T) {
	for _, want := range messages.EventTypes {
		var up ApplicationUp
		if err := json.Unmarshal([]byte(`{"`+string(want)+`":{}}`), &up); err != nil {
			t.Fatal(err)
		}
		if got := up.Type(); got != want {
			t.Errorf("%s: type %q", want, got)
		}
	}
	if got := new(ApplicationUp).Type(); got != "" {
		t.Errorf("empty message: type %q", got)
	}
}

func TestDownlinksAreReadLeniently(t *testing.T) {
	want := messages.Downlink{FPort: 15, FRMPayload: []byte{0xbe, 0xef}, Confirmed: true, Priority: 3, CorrelationIDs: []string{"my-id-1"}, MaxAttempts: 3}
	for _, body := range []string{
		`{"downlinks":[{"f_port":15,"frm_payload":"vu8=","priority":"NORMAL","confirmed":true,"correlation_ids":["my-id-1"],"confirmed_retry":{"max_attempts":3}}]}`,
		`{"downlinks":[{"fPort":"15","frmPayload":"vu8","priority":3,"confirmed":true,"correlationIds":["my-id-1"],"confirmedRetry":{"maxAttempts":"3"}}]}`,
		`{"downlinks":[{"f_port":15,"frm_payload":"vu8=","priority":"NORMAL","confirmed":true,"correlation_ids":["my-id-1"],"confirmed_retry":{"max_attempts":3},"unknown":{"a":[1]}}],"more":1}`,
	} {
		got, err := Strict.DecodeDownlinks([]byte(body), nil)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if diff := cmp.Diff([]messages.Downlink{want}, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	got, err := Strict.DecodeDownlinks([]byte(`{"downlinks":[{"f_port":1,"decoded_payload":{"camelCase":{"stayAsIs":1}}}]}`), nil)
	if err != nil || string(got[0].DecodedPayload) != `{"camelCase":{"stayAsIs":1}}` {
		t.Errorf("the user's own names were changed: %s %v", got[0].DecodedPayload, err)
	}
}

func TestDownlinksMayExpireAndComeEncrypted(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	got, err := Strict.DecodeDownlinks([]byte(`{"downlinks":[
		{"f_port":1,"timeToLive":"90s","expires_at":"2030-01-02T03:04:05Z"},
		{"f_port":1,"class_b_c":{"gateways":[{"gateway_ids":{"gateway_id":"gtw1"},"antenna_index":1}],"absolute_time":"2030-01-02T03:04:05Z"}},
		{"f_port":1,"f_cnt":7,"session_key_id":"AQ==","frm_payload":"vu8="}]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []messages.Downlink{
		{FPort: 1, TimeToLive: 90 * time.Second, ExpiresAt: at},
		{FPort: 1, AbsoluteTime: at, ClassBC: json.RawMessage(`{"gateways":[{"gateway_ids":{"gateway_id":"gtw1"},"antenna_index":1}],"absolute_time":"2030-01-02T03:04:05Z"}`)},
		{FPort: 1, FCnt: 7, SessionKeyID: []byte{1}, FRMPayload: []byte{0xbe, 0xef}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesInDownlinksAreNamed(t *testing.T) {
	for body, want := range map[string]string{
		`{"f_port":1,"frm_payload":"AQ=="}`: `no "downlinks"`, `{"downlinks":7}`: "downlinks", `[`: "not JSON", ``: "not JSON", `null`: `no "downlinks"`,
		`{"downlinks":[{"f_port":1,"frm_payload":"!"}]}`:                                               "base64",
		`{"downlinks":[{"f_port":1,"frm_payload":[1,2]}]}`:                                             "base64",
		`{"downlinks":[{"f_port":224,"frm_payload":"AQ=="}]}`:                                          "f_port 224",
		`{"downlinks":[{"frm_payload":"AQ=="}]}`:                                                       "f_port is missing",
		`{"downlinks":[{"f_port":1,"priority":"high","frm_payload":"AQ=="}]}`:                          `priority "high"`,
		`{"downlinks":[{"f_port":1,"decoded_payload":[1]}]}`:                                           "want an object",
		`{"downlinks":[{"f_port":1,"confirmed_retry":{"max_attempts":101}}]}`:                          "max_attempts 101",
		`{"downlinks":[{"f_port":1,"correlation_ids":["` + strings.Repeat("x", 101) + `"]}]}`:          "at most 100",
		`{"downlinks":[{"f_port":1,"frm_payload":"` + strings.Repeat("AAAA", 90) + `"}]}`:              "at most 255",
		`{"downlinks":[` + strings.Repeat(`{},`, MaxDownlinks) + `{}]}`:                                "at most 10000",
		`{"downlinks":[{"f_port":1,"frm_payload":"AQ=="},{"f_port":-1,"frm_payload":"AQ=="}]}`:         "downlinks[1]",
		`{"downlinks":[{"f_port":1,"frm_payload":"AQ==","time_to_live":"-1s"}]}`:                       "time_to_live",
		`{"downlinks":[{"f_port":1,"frm_payload":"AQ==","time_to_live":"soon"}]}`:                      "duration",
		`{"downlinks":[{"f_port":1,"frm_payload":"AQ==","expires_at":"soon"}]}`:                        "downlinks[0]",
		`{"downlinks":[{"f_port":1,"class_b_c":{"gateways":[{"gateway_ids":{"gateway_id":"GTW"}}]}}]}`: "class_b_c.gateways[0].gateway_ids.gateway_id",
		`{"downlinks":[{"f_port":1,"class_b_c":{"absolute_time":"soon"}}]}`:                            "class_b_c",
		`{"downlinks":[{"f_port":1,"class_b_c":7}]}`:                                                   "class_b_c",
		`{"downlinks":[{"f_port":1,"frm_payload":"AQ==","confirmed":"yes"}]}`:                          "confirmed",
		`{"downlinks":[{"f_port":99999999999,"frm_payload":"AQ=="}]}`:                                  "integer",
		`{"downlinks":[{"f_port":1,"frm_payload":"AQ=="}],"end_device_ids":{"device_id":["a","b"]}}`:   "device_id",
	} {
		_, err := Strict.DecodeDownlinks([]byte(body), nil)
		var e *messages.Error
		if !errors.As(err, &e) || e.Code != messages.CodeInvalid && e.Name != "downlink_queue_capacity" || !strings.Contains(e.Message, want) {
			t.Errorf("%.80s: %v, want %q", body, err, want)
		}
	}
	if got, err := Strict.DecodeDownlinks([]byte(`{"downlinks":[]}`), nil); err != nil || len(got) != 0 {
		t.Errorf("an empty list clears the queue: %v %v", got, err)
	}
}

func TestCorrelationIDsAreFoundInRefusedBodies(t *testing.T) {
	got := CorrelationIDsIn([]byte(`{"downlinks":[{"priority":"top","correlation_ids":["a"]},{"correlationIds":["b"]}]}`))
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWrongTypesInARequestAreNamedAsInJSON(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`[]`:                "body: want an object, got array",
		`{"downlinks":5}`:   "body: downlinks: want a list, got number",
		`{"downlinks":[5]}`: "downlinks[0]: want an object, got number",
		`{"downlinks":[{"correlation_ids":"a"}]}`: "downlinks[0]: correlation_ids: want a list, got string",
		`{"downlinks":[{"confirmed":{}}]}`:        "downlinks[0]: confirmed: want true or false, got object",
	} {
		if _, err := Strict.DecodeDownlinks([]byte(body), nil); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func TestDownlinkRoundTrip(t *testing.T) {
	m := messages.Downlink{ID: "01H", FPort: 3, FRMPayload: []byte{1}, DecodedPayload: json.RawMessage(`{"a":1}`), Confirmed: true, Priority: 6, CorrelationIDs: []string{"x"}, MaxAttempts: 8, Attempt: 2}
	got, err := json.Marshal(FromDownlink(m))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"01H","f_port":3,"frm_payload":"AQ==","decoded_payload":{"a":1},"confirmed":true,"priority":"HIGHEST","correlation_ids":["x"],"confirmed_retry":{"attempt":2,"max_attempts":8}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestErrorDetailsHideInternalErrors(t *testing.T) {
	for _, err := range []error{errors.New("password=hunter2"), messages.Errorf(messages.CodeInternal, "oops", "password=hunter2")} {
		b, e := json.Marshal(DetailsOf("networkserver", err))
		if e != nil || strings.Contains(string(b), "hunter2") || !strings.Contains(string(b), `"code":13`) {
			t.Errorf("%s %v", b, e)
		}
	}
	b, err := json.Marshal(DetailsOf("networkserver", messages.Invalid("outer", "while trying: %w", messages.NotFound("inner", "no such thing"))))
	want := `{"namespace":"pkg/networkserver","name":"outer","message_format":"while trying: no such thing","cause":{"namespace":"pkg/networkserver","name":"inner","message_format":"no such thing","code":5},"code":3}`
	if err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
}

func TestSnakeCaseKeepsWhatIsTheUsers(t *testing.T) {
	in := `{"endDevice":{"macSettings":{"rx1Delay":5},"attributes":{"myKey":"v"},"headers":{"X-Api":"k"},"numbers":[1.50,1e3],"locations":{"frmPayload":{"sourceName":1}}}}`
	want := `{"end_device":{"mac_settings":{"rx1_delay":5},"attributes":{"myKey":"v"},"headers":{"X-Api":"k"},"numbers":[1.50,1e3],"locations":{"frmPayload":{"sourceName":1}}}}`
	got, err := SnakeCase([]byte(in))
	if err != nil || string(got) != want {
		t.Errorf("%s %v", got, err)
	}
	if _, err := SnakeCase([]byte(`{"a":`)); err == nil {
		t.Error("half a document was taken")
	}
}

func TestMACSettingsKeepWhatTheyDoNotKnow(t *testing.T) {
	in := `{"rx1_delay":{"value":5},"rx2_frequency":"869525000","supports_32_bit_f_cnt":false,"use_adr":true,"adr":{"dynamic":{}}}`
	var m MACSettings
	if err := json.Unmarshal([]byte(in), &m); err != nil {
		t.Fatal(err)
	}
	if m.RX2Frequency != 869525000 || *m.Supports32BitFCnt || len(m.Other) != 2 {
		t.Errorf("%+v", m)
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if json.Unmarshal([]byte(in), &a) != nil || json.Unmarshal(out, &b) != nil || cmp.Diff(a, b) != "" {
		t.Errorf("%s became %s", in, out)
	}
}

func TestMACSettingsAreReadInTheirForms(t *testing.T) {
	for in, want := range map[string]uint8{`5`: 5, `"5"`: 5, `"RX_DELAY_5"`: 5, `{"value":"RX_DELAY_5"}`: 5, `{"value":5}`: 5, `{}`: 1, `0`: 1, `15`: 15} {
		m := MACSettings{RX1Delay: json.RawMessage(in)}
		if got, ok := m.RX1DelaySeconds(); !ok || got != want || m.Validate() != nil {
			t.Errorf("%s: got %d, %v, %v", in, got, ok, m.Validate())
		}
	}
	for _, in := range []string{`16`, `-1`, `"many"`, `[]`, `1.5`, `{"value":16}`} {
		m := MACSettings{RX1Delay: json.RawMessage(in)}
		if got, ok := m.RX1DelaySeconds(); ok || m.Validate() == nil {
			t.Errorf("%s: read as %d", in, got)
		}
	}
	if m := (MACSettings{}); m.Validate() != nil {
		t.Error(m.Validate())
	}
	if _, ok := (*MACSettings)(nil).RX1DelaySeconds(); ok {
		t.Error("no settings, but a delay")
	}
	for _, hz := range []Uint64{1, 868100001, 0xFFFFFF*100 + 100} {
		if (&MACSettings{RX2Frequency: hz}).Validate() == nil {
			t.Errorf("%d Hz was taken", hz)
		}
	}
}

func FuzzDecodeDownlinks(f *testing.F) {
	for _, seed := range []string{`{"downlinks":[{"f_port":15,"frm_payload":"vu8=","priority":"NORMAL"}]}`, `{"downlinks":[]}`, `{"downlinks":null}`, `{"endDeviceIds":{"deviceId":"a"},"downlinks":[{"decodedPayload":{"aB":1}}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var id messages.DeviceID
		items, err := Strict.DecodeDownlinks(body, &id)
		if err != nil {
			if messages.CodeOf(err) != messages.CodeInvalid {
				t.Errorf("refusal is not the sender's fault: %v", err)
			}
			return
		}
		for _, item := range items {
			out, err := json.Marshal(object{"downlinks": []ApplicationDownlink{FromDownlink(item)}})
			if err != nil {
				t.Fatal(err)
			}
			again, err := Lenient.DecodeDownlinks(out, nil)
			if err != nil || len(again) != 1 || again[0].FPort != item.FPort || string(again[0].FRMPayload) != string(item.FRMPayload) {
				t.Errorf("%s is not read back: %v", out, err)
			}
		}
	})
}

type object = map[string]any

func TestWrongDownlinksAreToldInWordsOfJSON(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"downlinks":{}}`: "body: downlinks: want a list, got object",
		`{"downlinks":[{"f_port":1,"confirmed":"yes"}]}`:         "downlinks[0]: confirmed: want true or false, got string",
		`{"downlinks":[{"f_port":1,"expires_at":1700000000}]}`:   "downlinks[0]: want a time such as",
		`{"downlinks":[{"f_port":1,"correlation_ids":"my-id"}]}`: "downlinks[0]: correlation_ids: want a list, got string",
	} {
		if _, err := Strict.DecodeDownlinks([]byte(body), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
	}
}
