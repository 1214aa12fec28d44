package test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v3 "lorikeet/messages/v3"
	"lorikeet/messages/v3/pb"
)

// TestWebhookInProtobuf: an endpoint reads events in protobuf, and answers with a downlink in protobuf at the URL that the request names.
func TestWebhookInProtobuf(t *testing.T) {
	t.Parallel()
	p := start(t)
	const app = "proto-app"
	key := p.application(app)
	type request struct {
		header http.Header
		body   []byte
	}
	got := make(chan request, 16)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- request{r.Header, body}
	}))
	t.Cleanup(s.Close)
	p.call("POST", "/as/webhooks/"+app, object{"webhook": object{"ids": object{"webhook_id": "hook"}, "base_url": s.URL, "format": "protobuf", "downlink_api_key": key,
		"uplink_message": object{"path": "/up"}}}, nil)
	p.call("POST", "/applications/"+app+"/devices", object{"end_device": object{"ids": object{"device_id": "dev1", "dev_addr": "26010203"},
		"lorawan_version": "MAC_V1_0_3", "lorawan_phy_version": "PHY_V1_0_3_REV_A", "frequency_plan_id": "EU_863_870",
		"session": object{"dev_addr": "26010203", "keys": object{"f_nwk_s_int_key": object{"key": "00112233445566778899AABBCCDDEEFF"}, "app_s_key": object{"key": "00112233445566778899AABBCCDDEEFE"}}}}}, nil)
	p.call("POST", "/as/applications/"+app+"/devices/dev1/up/simulate", object{"uplink_message": object{"f_port": 7, "f_cnt": 3, "frm_payload": "AQID"}}, nil)
	var r request
	select {
	case r = <-got:
	case <-time.After(time.Minute):
		t.Fatal("no event")
	}
	var up pb.ApplicationUp
	if err := proto.Unmarshal(r.body, &up); err != nil {
		t.Fatal(err)
	}
	if m := up.GetUplinkMessage(); m.GetFPort() != 7 || m.GetFCnt() != 3 || !bytes.Equal(m.GetFrmPayload(), []byte{1, 2, 3}) || up.GetEndDeviceIds().GetDeviceId() != "dev1" {
		t.Errorf("%v", &up)
	}
	if ct := r.header.Get("Content-Type"); ct != "application/octet-stream" {
		t.Errorf("Content-Type %q", ct)
	}
	push, err := url.Parse(r.header.Get("X-Downlink-Push"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := proto.Marshal(&pb.ApplicationDownlinks{Downlinks: []*pb.ApplicationDownlink{{FPort: 9, FrmPayload: []byte{4, 5}, CorrelationIds: []string{"from-proto"}}}})
	if err != nil {
		t.Fatal(err)
	}
	post := func(body []byte) (int, string) {
		req, err := http.NewRequest(http.MethodPost, "http://"+p.rest+push.Path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.header.Get("X-Downlink-Apikey"))
		req.Header.Set("Content-Type", "application/octet-stream")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	if code, text := post(body); code != 200 {
		t.Fatalf("push: %d %s", code, text)
	}
	if code, text := post([]byte{0xff}); code != 400 {
		t.Errorf("damaged body: %d %s", code, text)
	}
	var queue struct {
		Downlinks []v3.ApplicationDownlink `json:"downlinks"`
	}
	p.call("GET", "/as/applications/"+app+"/devices/dev1/down", nil, &queue)
	if len(queue.Downlinks) != 1 || queue.Downlinks[0].FPort != 9 || !bytes.Equal(queue.Downlinks[0].FRMPayload, []byte{4, 5}) {
		t.Errorf("%+v", queue)
	}
	p.call("PUT", "/as/webhooks/"+app+"/hook", object{"webhook": object{"paused": true}}, nil)
	if code, text := post(body); code != http.StatusNotAcceptable {
		t.Errorf("push to a paused webhook: %d %s", code, text)
	}
	p.terminate()
}
