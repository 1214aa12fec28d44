package natsclient

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/messages/v3/pb"
)

const uplinkJSON = `{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app1"},"dev_eui":"0004A30B001C0530"},"uplink_message":{"f_port":2,"frm_payload":"AWc="}}`

func TestProtobufBothWays(t *testing.T) {
	s, _ := startServer(t, -1, nil)
	up := subscribe(t, s, "lora.app1.up")
	d := &downlinks{calls: make(chan string, 10)}
	p := config(s.ClientURL())
	p.Format = "protobuf"
	c := open(t, Config{PubSub: p, Downlinks: d})
	e := event(1, messages.EventUplink)
	e.JSON = []byte(uplinkJSON)
	deliver(t, c, e)
	m, err := up.NextMsg(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var got pb.ApplicationUp
	if err := proto.Unmarshal(m.Data, &got); err != nil || got.GetUplinkMessage().GetFPort() != 2 || string(got.GetEndDeviceIds().GetDevEui()) != "\x00\x04\xa3\x0b\x00\x1c\x05\x30" {
		t.Errorf("%v %v", &got, err)
	}
	request := &pb.DownlinkQueueRequest{
		EndDeviceIds: &pb.EndDeviceIdentifiers{DeviceId: "dev1", ApplicationIds: &pb.ApplicationIdentifiers{ApplicationId: "app1"}},
		Downlinks:    []*pb.ApplicationDownlink{{FPort: 1, FrmPayload: []byte{1}}, {FPort: 2, FrmPayload: []byte{2}}},
	}
	ask(t, c, d, "lora.app1.down.push", encode(t, request), "push app1.dev1 2", "")
	request.Downlinks = nil
	ask(t, c, d, "lora.app1.down.replace", encode(t, request), "replace app1.dev1 0", "")
	request.EndDeviceIds.ApplicationIds.ApplicationId = "app2"
	ask(t, c, d, "lora.app1.down.push", encode(t, request), "", "application_mismatch")
	ask(t, c, d, "lora.app1.down.push", []byte(`{"end_device_ids":{"device_id":"dev1"},"downlinks":[]}`), "", "decode_body")
	e.JSON = []byte(`{"uplink_message":7}`)
	if err := c.Deliver(t.Context(), e); err == nil {
		t.Error("delivered what is no event")
	}
}

func TestTopicsThatNameTheDevice(t *testing.T) {
	s, _ := startServer(t, -1, nil)
	d := &downlinks{calls: make(chan string, 10)}
	p := config(s.ClientURL())
	p.BaseTopic = "v3.{application_id}.{device_id}"
	p.UplinkMessage, p.JoinAccept = &v3.MessageTopic{Topic: "{type}.{dev_eui}"}, nil
	p.DownlinkPush, p.DownlinkReplace = &v3.MessageTopic{Topic: "{type}"}, &v3.MessageTopic{Topic: "{type}"}
	up := subscribe(t, s, "v3.app1.*.uplink_message.*")
	c := open(t, Config{PubSub: p, Downlinks: d})
	deliver(t, c, event(1, messages.EventUplink))
	if m, err := up.NextMsg(time.Minute); err != nil || m.Subject != "v3.app1.dev1.uplink_message.-" {
		t.Errorf("%v %v", m, err)
	}
	const body = `{"downlinks":[{"f_port":1,"frm_payload":"AQ=="}]}`
	ask(t, c, d, "v3.app1.dev7.downlink_push", []byte(body), "push app1.dev7 1", "")
	ask(t, c, d, "v3.app1.dev7.downlink_replace", []byte(body), "replace app1.dev7 1", "")
	ask(t, c, d, "v3.app1.NOT_AN_ID.downlink_push", []byte(body), "", "invalid_id")
	ask(t, c, d, "v3.app1.dev7.downlink_push", []byte(`{"downlinks":7}`), "fail app1.dev7 1", "decode_body")
}

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask sends a request and expects a call and the name of an error; either may be "".
func ask(t *testing.T, c *Client, d *downlinks, subject string, body []byte, call, name string) {
	t.Helper()
	c.mu.Lock()
	nc := c.nc
	c.mu.Unlock()
	m, err := nc.Request(subject, body, time.Minute)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	var reply struct {
		Details []struct {
			Name string `json:"name"`
		} `json:"details"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		t.Fatal(err)
	}
	var got [2]string
	if len(reply.Details) > 0 {
		got[1] = reply.Details[0].Name
	}
	if len(d.calls) > 0 {
		got[0] = receive(t, d.calls)
	}
	if diff := cmp.Diff([2]string{call, name}, got); diff != "" {
		t.Errorf("%s %s: %s", subject, body, diff)
	}
}
