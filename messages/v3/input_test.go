package v3

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"lorikeet/messages"
)

func one(members string) []byte { return []byte(`{"downlinks":[{"f_port":1,` + members + `}]}`) }

func TestBothModesTakeWhatTTSTakesRightly(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]messages.Downlink{
		`"frm_payload":"vu8="`:                      {FRMPayload: []byte{0xBE, 0xEF}},
		`"frmPayload":"vu8"`:                        {FRMPayload: []byte{0xBE, 0xEF}},
		`"frm_payload":"-_8="`:                      {FRMPayload: []byte{0xFB, 0xFF}},
		`"frm_payload":"AAAA"`:                      {FRMPayload: []byte{0, 0, 0}},
		`"frm_payload":"BBA8"`:                      {FRMPayload: []byte{4, 0x10, 0x3C}},
		`"frm_payload":"AA"`:                        {FRMPayload: []byte{0}},
		`"frm_payload":"beef="`:                     {FRMPayload: []byte{0x6D, 0xE7, 0x9F}},
		`"frm_payload":null,"priority":"3"`:         {Priority: 3},
		`"priority":3`:                              {Priority: 3},
		`"priority":"HIGHEST"`:                      {Priority: 6},
		`"confirmedRetry":{"maxAttempts":"5"}`:      {MaxAttempts: 5},
		`"some_field_of_a_newer_version":{"a":[1]}`: {},
	} {
		for _, mode := range []Input{Strict, Lenient} {
			got, err := mode.DecodeDownlinks(one(body), nil)
			want.FPort = 1
			if err != nil || len(got) != 1 || !sameDownlink(got[0], want) {
				t.Errorf("%s in mode %d: got %+v, %v", body, mode, got, err)
			}
		}
	}
}

func sameDownlink(a, b messages.Downlink) bool {
	return a.FPort == b.FPort && string(a.FRMPayload) == string(b.FRMPayload) && a.Priority == b.Priority && a.MaxAttempts == b.MaxAttempts
}

func TestWrongInputIsRefusedOrTakenAsTTSDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body    string
		says    string // of the error of Strict
		lenient []messages.Downlink
	}{
		"unknown enum name":  {string(one(`"priority":"high"`)), `priority "high": use one of LOWEST`, []messages.Downlink{{FPort: 1}}},
		"unknown enum":       {string(one(`"priority":99`)), `priority "99": use one of LOWEST`, []messages.Downlink{{FPort: 1}}},
		"hex":                {string(one(`"frm_payload":"beef"`)), `downlinks[0].frm_payload: "beef" reads as hex`, []messages.Downlink{{FPort: 1, FRMPayload: []byte{0x6D, 0xE7, 0x9F}}}},
		"hex in capitals":    {string(one(`"frm_payload":"01FF"`)), `reads as hex`, []messages.Downlink{{FPort: 1, FRMPayload: []byte{0xD3, 0x51, 0x45}}}},
		"long hex":           {string(one(`"frm_payload":"DEADBEEF"`)), `reads as hex`, []messages.Downlink{{FPort: 1, FRMPayload: []byte{0x0C, 0x40, 3, 4, 0x41, 5}}}},
		"hex of three bytes": {string(one(`"frm_payload":"0102A0"`)), `reads as hex`, []messages.Downlink{{FPort: 1, FRMPayload: []byte{0xD3, 0x5D, 0x36, 0x03}}}},
		"no wrapper":         {`{"f_port":1,"frm_payload":"AQ=="}`, `body has no "downlinks"`, []messages.Downlink{}},
	} {
		if _, err := Strict.DecodeDownlinks([]byte(c.body), nil); err == nil || !strings.Contains(err.Error(), c.says) || messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%s: strict gives %v, want %q", name, err, c.says)
		}
		got, err := Lenient.DecodeDownlinks([]byte(c.body), nil)
		if err != nil || len(got) != len(c.lenient) || len(got) == 1 && !sameDownlink(got[0], c.lenient[0]) {
			t.Errorf("%s: lenient gives %+v, %v", name, got, err)
		}
	}
}

func TestWhatTTSRefusesIsRefusedInBothModes(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		string(one(`"frm_payload":[1,2]`)), string(one(`"frm_payload":"%%"`)), `{"downlinks":{}}`, `{"downlinks":[1]}`, `{`, string(one(`"f_port":"one"`)), string(one(`"f_port":300`)),
	} {
		for _, mode := range []Input{Strict, Lenient} {
			var e *messages.Error
			if got, err := mode.DecodeDownlinks([]byte(body), nil); !errors.As(err, &e) || e.Code != messages.CodeInvalid {
				t.Errorf("%s in mode %d: got %+v, %v", body, mode, got, err)
			}
		}
	}
}

// Payloads of the usual lengths are sent by clients that know nothing of the rule against hex.
func TestBase64IsHardlyEverTakenForHex(t *testing.T) {
	t.Parallel()
	source := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		bytes int
		most  int // of 100,000
	}{{1, 0}, {2, 0}, {3, 800}, {4, 0}, {5, 0}, {6, 20}, {12, 1}} {
		taken := 0
		for range 100_000 {
			payload := make([]byte, c.bytes)
			for i := range payload {
				payload[i] = byte(source.Uint32())
			}
			if readsAsHex(base64.StdEncoding.EncodeToString(payload)) {
				taken++
			}
		}
		if taken > c.most {
			t.Errorf("%d of 100,000 payloads of %d bytes are taken for hex, want at most %d", taken, c.bytes, c.most)
		}
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value         any
		in            string
		want, lenient string // "" for an error, and for the same as in
	}{
		{Location{}, `{"latitude":"52.5","altitude":"12","source":3}`, `{"altitude":12,"latitude":52.5,"source":"SOURCE_REGISTRY"}`, `{"altitude":12,"latitude":52.5,"source":"SOURCE_REGISTRY"}`},
		{Location{}, `{"source":"MAGIC"}`, ``, `{"source":"SOURCE_UNKNOWN"}`},
		{map[string]Location{}, `{"user":{"altitude":"1"}}`, `{"user":{"altitude":1}}`, `{"user":{"altitude":1}}`},
		{Formatters{}, `{"up_formatter":3,"down_formatter":"FORMATTER_LUA"}`, `{"down_formatter":"FORMATTER_LUA","up_formatter":"FORMATTER_JAVASCRIPT"}`,
			`{"down_formatter":"FORMATTER_LUA","up_formatter":"FORMATTER_JAVASCRIPT"}`},
		{Formatters{}, `{"up_formatter":"FORMATTER_MAGIC"}`, `{"up_formatter":"FORMATTER_MAGIC"}`, `{"up_formatter":"FORMATTER_NONE"}`},
		{EndDevice{}, `{"lorawan_version":5,"lorawan_phy_version":"7","name":"5"}`, `{"lorawan_phy_version":"PHY_V1_0_3_REV_A","lorawan_version":"MAC_V1_0_3","name":"5"}`,
			`{"lorawan_phy_version":"PHY_V1_0_3_REV_A","lorawan_version":"MAC_V1_0_3","name":"5"}`},
		{UplinkMessage{}, `{"rx_metadata":[{"rssi":"-35","snr":5.5}]}`, `{"rx_metadata":[{"rssi":-35,"snr":5.5}]}`, `{"rx_metadata":[{"rssi":-35,"snr":5.5}]}`},
		{UplinkMessage{}, `{"decoded_payload":{"b":"1","a":2},"packet_error_rate":"x"}`, `{"decoded_payload":{"b":"1","a":2},"packet_error_rate":"x"}`, `{"decoded_payload":{"b":"1","a":2},"packet_error_rate":"x"}`},
		{Webhook{}, `[]`, `[]`, `[]`},
		{Webhook{}, `{"headers":{"A":"1"},"paused":null}`, `{"headers":{"A":"1"},"paused":null}`, `{"headers":{"A":"1"},"paused":null}`},
		{MQTTProvider{}, `{"publish_qos":2,"subscribe_qos":"MANY"}`, `{"publish_qos":"EXACTLY_ONCE","subscribe_qos":"MANY"}`, `{"publish_qos":"EXACTLY_ONCE","subscribe_qos":"AT_MOST_ONCE"}`},
	} {
		for mode, want := range map[Input]string{Strict: c.want, Lenient: c.lenient} {
			got, err := mode.Settle("x", json.RawMessage(c.in), reflect.TypeOf(c.value))
			if string(got) != want || (err != nil) != (want == "") {
				t.Errorf("%s in mode %d: got %s, %v, want %s", c.in, mode, got, err, want)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "x.source") {
				t.Errorf("the error does not name the member: %v", err)
			}
		}
	}
}
