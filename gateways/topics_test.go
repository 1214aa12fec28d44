package gateways

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func pubSub(base, up, push, replace string) *v3.PubSub {
	p := &v3.PubSub{IDs: v3.PubSubIDs{ApplicationIDs: v3.ApplicationIDs{ApplicationID: "app1"}}, BaseTopic: base}
	for _, t := range []struct {
		topic string
		to    **v3.MessageTopic
	}{{up, &p.UplinkMessage}, {push, &p.DownlinkPush}, {replace, &p.DownlinkReplace}} {
		if t.topic != "" {
			*t.to = &v3.MessageTopic{Topic: t.topic}
		}
	}
	return p
}

func uplink() messages.LogEntry {
	return messages.LogEntry{Event: messages.Event{
		Device: messages.DeviceID{ApplicationID: "app1", DeviceID: "dev-1"}, DevEUI: messages.EUI64{0, 4, 0xa3, 0xb, 0, 0x1c, 5, 0x30}, DevAddr: messages.DevAddr{1, 0xda, 0x4f, 0x2b},
		Type: messages.EventUplink,
	}}
}

func TestTopicsOfEvents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		style             TopicStyle
		base, topic, want string
	}{
		{MQTTTopics(), "lora", "up", "lora/up"},
		{MQTTTopics(), "lora/", "/up", "lora/up"},
		{MQTTTopics(), "", "up", "up"},
		{NATSSubjects(), "lora.x", "up", "lora.x.up"},
		{NATSSubjects(), "", "up", "up"},
		{MQTTTopics(), "v3/{application_id}", "devices/{device_id}/{type}", "v3/app1/devices/dev-1/uplink_message"},
		{NATSSubjects(), "lora", "{dev_eui}.{dev_addr}.{join_eui}", "lora.0004A30B001C0530.01DA4F2B.-"},
		{NATSSubjects(), "{device_id}{type}", "x-{dev_addr}", "dev-1uplink_message.x-01DA4F2B"},
	} {
		topics, err := ParseTopics(c.style, pubSub(c.base, c.topic, "", ""))
		if err != nil {
			t.Errorf("%s + %s: %v", c.base, c.topic, err)
			continue
		}
		if got := topics.Events[messages.EventUplink].For(uplink()); got != c.want {
			t.Errorf("%s + %s: %s, want %s", c.base, c.topic, got, c.want)
		}
	}
}

// TestNothingInAnEventLeavesItsLevel gives what no id may hold, as if it had slipped through.
func TestNothingInAnEventLeavesItsLevel(t *testing.T) {
	t.Parallel()
	e := uplink()
	e.Device = messages.DeviceID{ApplicationID: "../>", DeviceID: "a.b/c*d+e#f\x00 g%$\r\n\xff"}
	for _, style := range []TopicStyle{MQTTTopics(), NATSSubjects()} {
		topics, err := ParseTopics(style, pubSub("a", "{device_id}"+style.separator+"{application_id}", "", ""))
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Join([]string{"a", "a%2Eb%2Fc%2Ad%2Be%23f%00%20g%25%24%0D%0A%FF", "%2E%2E%2F%3E"}, style.separator)
		if got := topics.Events[messages.EventUplink].For(e); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTopicsOfDownlinks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		style                                     TopicStyle
		base, topic, filter, on, device, replaces string
	}{
		{MQTTTopics(), "lora", "push", "lora/push", "lora/push", "", "lora/replace"},
		{MQTTTopics(), "v3/{application_id}", "{device_id}/{type}", "v3/app1/+/downlink_push", "v3/app1/dev1/downlink_push", "dev1", "v3/app1/+/downlink_replace"},
		{NATSSubjects(), "lora", "{device_id}.push", "lora.*.push", "lora.dev1.push", "dev1", "lora.replace"},
	} {
		replace := "replace"
		if strings.Contains(c.replaces, "+") {
			replace = c.topic
		}
		topics, err := ParseTopics(c.style, pubSub(c.base, "", c.topic, replace))
		if err != nil {
			t.Errorf("%s + %s: %v", c.base, c.topic, err)
			continue
		}
		push := topics.Downlinks[0]
		if device, ok := push.Device(c.on); push.Filter != strings.ReplaceAll(c.filter, "/", c.style.separator) || push.Replace || device != c.device || ok != (c.device != "") {
			t.Errorf("%s + %s: %+v names %q %v", c.base, c.topic, push, device, ok)
		}
		if r := topics.Downlinks[1]; r.Filter != c.replaces || !r.Replace {
			t.Errorf("%s + %s: %+v", c.base, c.topic, r)
		}
	}
}

func TestBadTopicsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		style                            TopicStyle
		base, up, push, replace, message string
	}{
		{MQTTTopics(), "lora", "{name}", "", "", "unknown variable"},
		{MQTTTopics(), "lora", "{device_id", "", "", "unknown variable"},
		{MQTTTopics(), "lora", "{}", "", "", "unknown variable"},
		{MQTTTopics(), "lora/+", "up", "", "", "not an MQTT topic"},
		{MQTTTopics(), "lora", "a\x00", "", "", "not an MQTT topic"},
		{MQTTTopics(), "$SYS", "up", "", "", "reserved"},
		{MQTTTopics(), "", strings.Repeat("{device_id}/", 8), "", "", "1 to 255"},
		{NATSSubjects(), "lora", "a b", "", "", "not a NATS subject"},
		{NATSSubjects(), "lora.", "up", "", "", "not a NATS subject"},
		{NATSSubjects(), "$JS", "up", "", "", "reserved"},
		{NATSSubjects(), "lora", "", "x", "x", "same topic"},
		{NATSSubjects(), "lora", "", "{device_id}", "replace", "same topic"},
		{NATSSubjects(), "lora", "", "{device_id}.push", "dev1.push", "same topic"},
		{NATSSubjects(), "lora", "", "x-{device_id}", "", "whole level"},
		{NATSSubjects(), "lora", "", "{device_id}.{device_id}", "", "whole level"},
		{NATSSubjects(), "lora", "", "{dev_eui}.push", "", "whole level"},
		{NATSSubjects(), "lora", "x", "x", "", "uplink_message is published"},
		{MQTTTopics(), "lora", "{device_id}/{type}", "{device_id}/uplink_message", "", "uplink_message is published"},
		{MQTTTopics(), "{application_id}", "{device_id}/up", "{device_id}/{type}", "{device_id}/down", ""},
		{MQTTTopics(), "lora", "up-{device_id}", "{device_id}", "", "uplink_message is published"},
		{MQTTTopics(), "lora", "up-{device_id}", "up-dev1", "", "uplink_message is published"},
		{MQTTTopics(), "lora", "up-{device_id}", "up-", "down-dev1", ""},
		{MQTTTopics(), "lora", "{device_id}/{type}", "{device_id}/{type}", "{device_id}/{type}", ""},
	} {
		_, err := ParseTopics(c.style, pubSub(c.base, c.up, c.push, c.replace))
		if c.message == "" && err == nil {
			continue
		}
		if messages.CodeOf(err) != messages.CodeInvalid || c.message == "" || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s + %s, %s, %s: %v, want %q", c.base, c.up, c.push, c.replace, err, c.message)
		}
	}
}

func TestRequestsOnATopicThatNamesTheDevice(t *testing.T) {
	t.Parallel()
	topics, err := ParseTopics(MQTTTopics(), pubSub("lora", "", "{device_id}/push", ""))
	if err != nil {
		t.Fatal(err)
	}
	const item = `"downlinks":[{"f_port":1,"frm_payload":"AQ==","correlation_ids":["mine"]}]}`
	for _, c := range []struct{ topic, body, pushed, failed, name string }{
		{"lora/dev1/push", `{` + item, "app1.dev1", "", ""},
		{"lora/dev1/push", `{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app1"}},` + item, "app1.dev1", "", ""},
		{"lora/dev1/push", `{"end_device_ids":{"device_id":"dev2"},` + item, "", "app1.dev1", "device_mismatch"},
		{"lora/dev1/push", `{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app2"}},` + item, "", "app1.dev1", "application_mismatch"},
		{"lora/dev1/push", `{"downlinks":7}`, "", "app1.dev1", "decode_body"},
		{"lora/Not an ID/push", `{` + item, "", "", "invalid_id"},
		{"lora//push", `{` + item, "", "", "invalid_id"},
	} {
		q := &queues{}
		err := newDoor(q).HandleOn(t.Context(), topics.Downlinks[0], c.topic, []byte(c.body))
		got := []string{keyOf(q.pushed), keyOf(q.failed), nameOf(err)}
		if diff := cmp.Diff([]string{c.pushed, c.failed, c.name}, got); diff != "" {
			t.Errorf("%s %s: %s %v", c.topic, c.body, diff, err)
		}
	}
}

func keyOf(m map[string][]messages.Downlink) string {
	for key := range m {
		return key
	}
	return ""
}

func FuzzTopics(f *testing.F) {
	f.Add("lora/app1", "up", "{device_id}/push", "dev.1")
	f.Add("", "{device_id}", "", "\x00")
	f.Add("a.b", "*", ">", "+/#")
	f.Fuzz(func(t *testing.T, base, up, push, device string) {
		for _, style := range []TopicStyle{MQTTTopics(), NATSSubjects()} {
			topics, err := ParseTopics(style, pubSub(base, up, push, ""))
			if err != nil {
				continue
			}
			for _, template := range topics.Events {
				e := uplink()
				plain := template.For(e)
				if e.Device.DeviceID = device; len(device) <= 36 && device != "" {
					hostile := template.For(e)
					if strings.Count(plain, style.separator) != strings.Count(hostile, style.separator) || strings.ContainsFunc(hostile, style.forbidden) {
						t.Fatalf("%q + %q with %q = %q", base, up, device, hostile)
					}
				}
				if plain == "" || strings.ContainsFunc(plain, style.forbidden) || len(plain) > maxTopicLength {
					t.Fatalf("%q + %q = %q", base, up, plain)
				}
			}
		}
	})
}

func nameOf(err error) string {
	var e *messages.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return ""
}
