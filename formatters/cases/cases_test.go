package cases

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func TestParse(t *testing.T) {
	t.Parallel()
	rssi := float32(-80.5)
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]Case{
		`{"codec":"a.js","bytes":[1,255,-1]}`:                                  {Codec: "a.js", Use: messages.UplinkDecoder, Decode: messages.DecodeInput{Bytes: []byte{1, 255, 255}, FPort: 1}},
		`{"codec":"a","direction":"uplink","f_port":5,"hex":"0x01 Ff"}`:        {Codec: "a", Use: messages.UplinkDecoder, Decode: messages.DecodeInput{Bytes: []byte{1, 255}, FPort: 5}, Encode: messages.EncodeInput{FPort: 5}},
		`{"codec":"a","direction":"down","frm_payload":"Af8"}`:                 {Codec: "a", Use: messages.DownlinkDecoder, Decode: messages.DecodeInput{Bytes: []byte{1, 255}, FPort: 1}},
		`{"codec":"a","direction":"down","data":{"x":1}}`:                      {Codec: "a", Use: messages.DownlinkEncoder, Decode: messages.DecodeInput{FPort: 1}, Encode: messages.EncodeInput{Data: json.RawMessage(`{"x":1}`)}},
		`{"codec":"a","data":{}}`:                                              {Codec: "a", Use: messages.DownlinkEncoder, Decode: messages.DecodeInput{FPort: 1}, Encode: messages.EncodeInput{Data: json.RawMessage(`{}`)}},
		`{"codec":"a","bytes":"","recv_time":"2026-11-23T11:00:00+01:00"}`:     {Codec: "a", Use: messages.UplinkDecoder, Decode: messages.DecodeInput{Bytes: []byte{}, FPort: 1, RecvTime: at}},
		`{"codec":"a","bytes":"AQI=","recv_time":"2026-11-23T10:00:00Z"}`:      {Codec: "a", Use: messages.UplinkDecoder, Decode: messages.DecodeInput{Bytes: []byte{1, 2}, FPort: 1, RecvTime: at}},
		`{"codec":"a","bytes":[],"recvTime":1795428000,"rssi":-80.5,"fCnt":7}`: {Codec: "a", Use: messages.UplinkDecoder, Decode: messages.DecodeInput{Bytes: []byte{}, FPort: 1, RecvTime: at, RSSI: &rssi, FCnt: 7}},
		`{"codec":"a","input":{"fPort":2,"bytes":[1],"recvTime":1795428000000},"output":{"data":{"x":1}},"type":"uplink","description":"d","extra":1,"expct":2}`: {
			Codec: "a", Use: messages.UplinkDecoder, Decode: messages.DecodeInput{Bytes: []byte{1}, FPort: 2, RecvTime: at}, Encode: messages.EncodeInput{FPort: 2},
			Want: &Want{Data: json.RawMessage(`{"x":1}`)}, Ignored: []string{"expct", "extra"}},
	} {
		got, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", text, diff)
		}
	}
	for text, words := range map[string]string{
		`[]`: "must be a JSON object", `{"bytes":[1]}`: "names no codec", `{"codec":"a","direction":"sideways"}`: "use up, down or encode",
		`{"codec":"a","bytes":[256]}`: "bytes[0] is 256", `{"codec":"a","bytes":"AQI"}`: "goes into frm_payload", `{"codec":"a","f_port":300}`: "f_port is 300",
		`{"codec":"a","recv_time":"noon"}`: "recv_time is", `{"codec":5}`: "codec:", `{"codec":"a","expect":{"warnings":["a"],"errors":[5]}}`: "expect.errors",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: got error %v, want %q in it", text, err, words)
		}
	}
}

func TestExpectations(t *testing.T) {
	t.Parallel()
	decoded := Got{Data: json.RawMessage(`{"t":21.5,"n":null,"a":[1,{"b":2}]}`), Warnings: []string{"w"}, Normalized: []json.RawMessage{json.RawMessage(`{"air":{"temperature":21.5}}`)}}
	encoded := GotEncoded(messages.Encoded{Bytes: []byte{1, 255}, FPort: 3})
	failed := errors.New("the battery is low")
	for _, c := range []struct {
		members string
		got     Got
		failure error
		diff    string // the start of the only difference, "" for none
	}{
		{`"bytes":[]`, decoded, nil, ""},
		{`"bytes":[]`, Got{}, failed, "failed: the battery is low"},
		{`"bytes":[],"expect":{"a":[1,{"b":2}],"t":21.50000000001}`, decoded, nil, ""},
		{`"bytes":[],"expect":{"a":[1,{"b":2}],"t":21.5,"n":null,"x":null}`, decoded, nil, ""},
		{`"bytes":[],"expect":{"a":[1,{"b":2}],"t":21.6}`, decoded, nil, "data.t: want 21.6, got 21.5"},
		{`"bytes":[],"expect":{"a":[1,{"b":"2"}],"t":21.5}`, decoded, nil, `data.a[1].b: want "2", got 2`},
		{`"bytes":[],"expect":{"a":[1],"t":21.5}`, decoded, nil, "data.a: want [1], got"},
		{`"bytes":[],"expect":{"t":21.5}`, decoded, nil, "data.a: want null, got"},
		{`"bytes":[],"expect":{"data":{"t":21.5,"a":[1,{"b":2}]},"warnings":["w"],"errors":[]}`, decoded, nil, ""},
		{`"bytes":[],"expect":{"data":{"t":21.5,"a":[1,{"b":2}]},"warnings":[]}`, decoded, nil, `warnings: want [], got ["w"]`},
		{`"bytes":[],"expect":{"data":5}`, Got{Data: json.RawMessage(`{"data":5}`)}, nil, ""},
		{`"bytes":[],"expect":{"error":5}`, Got{Data: json.RawMessage(`{"error":5}`)}, nil, ""},
		{`"bytes":[],"expect":[1,2]`, Got{Data: json.RawMessage(`{"0":1,"1":2}`)}, nil, ""},
		{`"bytes":[],"normalized_output":{"data":[{"air":{"temperature":21.5}}]}`, decoded, nil, ""},
		{`"bytes":[],"expect":{"normalized":{"air":{"temperature":21}}}`, decoded, nil, "normalized[0].air.temperature: want 21, got 21.5"},
		{`"bytes":[],"expect":{"errors":["battery","low"]}`, Got{}, failed, ""},
		{`"bytes":[],"error":"battery"`, Got{}, failed, ""},
		{`"bytes":[],"error":true`, Got{}, failed, ""},
		{`"bytes":[],"expect":{"error":true}`, decoded, nil, `want an error`},
		{`"bytes":[],"expect":{"errors":["hot"]}`, Got{}, failed, `error: want "hot", got "the battery is low"`},
		{`"bytes":[],"expect":{"errors":["low"]}`, decoded, nil, `want an error with ["low"]`},
		{`"bytes":[],"expect":{"data":{}}`, Got{}, failed, "failed: the battery is low"},
		{`"data":{},"expect":[1,255]`, encoded, nil, ""},
		{`"data":{},"expect":"01FF"`, encoded, nil, ""},
		{`"data":{},"expect":{"bytes":[1,255],"fPort":3}`, encoded, nil, ""},
		{`"data":{},"expect":{"bytes":"01fe","f_port":3}`, encoded, nil, "bytes[1]: want 254, got 255"},
		{`"data":{},"expect":{"bytes":[1,255],"fPort":4}`, encoded, nil, "fPort: want 4, got 3"},
		{`"data":{},"expect":[]`, encoded, nil, "bytes: want [], got [1,255]"},
	} {
		parsed, err := Parse([]byte(`{"codec":"a",` + c.members + `}`))
		if err != nil {
			t.Errorf("%s: %v", c.members, err)
			continue
		}
		got := parsed.Want.Diff(c.got, c.failure)
		if c.diff == "" && len(got) > 0 || c.diff != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.diff)) {
			t.Errorf("%s: got %q, want %q", c.members, got, c.diff)
		}
	}
}
