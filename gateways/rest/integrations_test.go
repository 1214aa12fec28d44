package rest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"lorikeet/gateways/webhook"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const hook = `{"webhook":{"ids":{"webhook_id":"wh1"},"base_url":"https://u:pw@example.com/x?token=t","format":"json","headers":{"Authorization":"secret"},
	"downlink_api_key":"NNSXS.A.B","uplink_message":{"path":"/up"},"join_accept":{}}}`

func TestWebhooks(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(c *Config) {
		c.IntegrationHealth = func(kind, app, id string) json.RawMessage {
			if kind != "webhook" || app != "app1" || id != "wh1" {
				return nil
			}
			return json.RawMessage(`{"healthy":{}}`)
		}
	})
	d.app("app1")
	d.do("POST", "/as/webhooks/app1", hook).is(200).has("uplink_message.path", `"/up"`).has("join_accept", "{}").has("ids.application_ids.application_id", `"app1"`)
	const path = "/as/webhooks/app1/wh1"
	d.do("GET", path, nil).is(200).has("base_url", "").has("ids.webhook_id", `"wh1"`)
	d.do("GET", path+"?field_mask=base_url,health_status,join_accept,headers", nil).is(200).has("health_status", `{"healthy":{}}`).has("join_accept", "{}").
		has("headers.Authorization", `"secret"`).has("base_url", `"https://u:pw@example.com/x?token=t"`)
	d.do("GET", "/as/webhooks/app1?field_mask=format", nil).is(200)
	d.do("PUT", path, `{"webhook":{"uplink_message":{"path":"/u2"},"paused":true,"base_url":"https://no.example.com"},"field_mask":{"paths":["uplink_message.path","paused","join_accept"]}}`).
		is(200).has("paused", "true").has("join_accept", "")
	d.do("GET", path+"?field_mask=*", nil).has("uplink_message.path", `"/u2"`).has("base_url", `"https://u:pw@example.com/x?token=t"`).has("join_accept", "")
	d.do("PUT", path, `{"webhook":{"uplink_message":{},"headers":{"X-One":"1"}}}`).is(200).has("uplink_message", "{}").has("headers", `{"X-One":"1"}`).has("format", `"json"`)
	d.do("PUT", "/as/webhooks/app1/wh2", `{"webhook":{"ids":{"webhook_id":"other"},"baseUrl":"https://example.com","uplinkMessage":{},"headers":{"xApiKey":"1"}},"field_mask":{"paths":["baseUrl","uplinkMessage","headers"]}}`).
		is(200).has("ids.webhook_id", `"wh2"`).has("headers.xApiKey", `"1"`)
	if got := d.do("GET", "/as/webhooks/app1?order=-webhook_id", nil).is(200); strings.Index(got.Body, "wh2") > strings.Index(got.Body, "wh1") {
		t.Error(got.Body)
	}
	for body, name := range map[string]string{
		`{"webhook":{"base_url":"ftp://x"}}`:                                     "invalid_base_url",
		`{"webhook":{"base_url":"https://example.com","format":"xml"}}`:          "invalid_format",
		`{"webhook":{"base_url":"https://example.com","headers":{"Host":"x"}}}`:  "invalid_headers",
		`{"webhook":{"base_url":"https://example.com","uplink_message":"x"}}`:    "decode_body",
		`{"webhook":{"base_url":"https://example.com","headers":{"X-A":["1"]}}}`: "decode_body",
		`{"hook":{}}`: "no_webhook",
	} {
		d.do("PUT", "/as/webhooks/app1/wh3", body).fails(400, name)
	}
	d.do("POST", "/as/webhooks/app1", `{"webhook":{"base_url":"https://example.com"}}`).fails(400, "invalid_id")
	d.do("PUT", "/as/webhooks/app9/wh1", hook).fails(404, "application_not_found")
	d.do("GET", "/as/webhooks/app1/wh9", nil).fails(404, "webhook_not_found")
	d.do("DELETE", path, nil).is(200)
	d.do("DELETE", path, nil).fails(404, "webhook_not_found")
	d.do("GET", "/as/webhook-formats", nil).is(200).has("formats.json", `"JSON"`)
}

func TestWhoOnlyReadsTrafficSeesNoCredentials(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("POST", "/as/webhooks/app1", hook).is(200)
	d.do("PUT", "/as/webhooks/app1/wh2", `{"webhook":{"base_url":"https://example.com{/appID}","template_fields":{"token":"secret"}}}`).is(200)
	d.do("PUT", "/as/pubsub/app1/ps1", `{"pubsub":{"base_topic":"t","mqtt":{"server_url":"mqtts://u:pw@example.com:8883","username":"u","password":"secret"}}}`).is(200)
	d.do("PUT", "/as/pubsub/app1/ps2", `{"pubsub":{"base_topic":"t","nats":{"server_url":"nats://u:pw@example.com"}}}`).is(200)
	reader := d.with(d.keyFor("app1", messages.RightApplicationTrafficRead))
	for _, path := range []string{"/as/webhooks/app1", "/as/webhooks/app1/wh1", "/as/webhooks/app1/wh2", "/as/pubsub/app1", "/as/pubsub/app1/ps1", "/as/pubsub/app1/ps2"} {
		got := reader.do("GET", path+"?field_mask=*", nil).is(200)
		for _, secret := range []string{"secret", "pw", "NNSXS", "token"} {
			if strings.Contains(got.Body, secret) {
				t.Errorf("%s shows %s: %s", path, secret, got.Body)
			}
		}
	}
	reader.do("GET", "/as/webhooks/app1/wh1?field_mask=base_url,headers", nil).has("base_url", `"https://example.com"`).has("headers", "")
	reader.do("GET", "/as/pubsub/app1/ps2?field_mask=nats", nil).has("nats.server_url", `"nats://example.com"`)
	d.do("GET", "/as/pubsub/app1/ps1?field_mask=mqtt", nil).has("mqtt.password", `"secret"`)
}

func TestPubSubs(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(c *Config) {
		c.IntegrationHealth = func(kind, _, id string) json.RawMessage { return json.RawMessage(`{"of":"` + kind + " " + id + `"}`) }
		c.CheckPubSub = func(p v3.PubSub) error {
			if p.BaseTopic == "refused" {
				return messages.Invalid("pubsub_refused", "use another base_topic")
			}
			return nil
		}
	})
	d.app("app1")
	const path = "/as/pubsub/app1/ps1"
	d.do("POST", "/as/pubsub/app1", `{"pubsub":{"ids":{"pub_sub_id":"ps1"},"base_topic":"t","nats":{"server_url":"nats://example.com"},"uplink_message":{"topic":"up"}}}`).is(200).
		has("nats.server_url", `"nats://example.com"`).has("health_status.of", `"pubsub ps1"`)
	d.do("PUT", path, `{"pubsub":{"mqtt":{"server_url":"mqtt://example.com","publish_qos":1}},"field_mask":{"paths":["mqtt"]}}`).is(200).has("mqtt.publish_qos", `"AT_LEAST_ONCE"`)
	d.do("GET", path+"?field_mask=nats,mqtt,uplink_message", nil).is(200).has("nats", "").has("uplink_message.topic", `"up"`)
	d.do("PUT", path, `{"pubsub":{"nats":{"server_url":"nats://example.com"}}}`).is(200).has("mqtt", "")
	d.do("PUT", path, `{"pubsub":{"mqtt":{"server_url":"mqtt://example.com","publish_qos":"TWICE"}}}`).fails(400, "decode_body").door.do("GET", path+"?field_mask=nats", nil).has("nats.server_url", `"nats://example.com"`)
	if got := d.do("PUT", path, `{"pubsub":{"mqtt":{"server_url":"mqtt://example.com","publish_qos":"TWICE"}}}`); !strings.Contains(got.Body, "pubsub.mqtt.publish_qos") {
		t.Error(got.Body)
	}
	d.do("PUT", path, `{"pubsub":{"base_topic":"refused"}}`).fails(400, "pubsub_refused")
	d.do("GET", path+"?field_mask=base_topic", nil).has("base_topic", `"t"`)
	d.do("GET", "/as/pubsub/app1?field_mask=health_status", nil).is(200)
	d.do("PUT", "/as/pubsub/app9/ps1", `{"pubsub":{"base_topic":"t","nats":{"server_url":"nats://example.com"}}}`).fails(404, "application_not_found")
	d.do("DELETE", path, nil).is(200)
	d.do("GET", path, nil).fails(404, "pubsub_not_found")
	d.do("GET", "/as/pubsub-formats", nil).is(200).has("formats.json", `"JSON"`)
}

func TestAWebhookThatCantBeSentIsRefused(t *testing.T) {
	t.Parallel()
	sender, err := webhook.NewSender(webhook.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	d := newDoor(t, func(c *Config) { c.CheckWebhook = sender.Check })
	d.app("app1")
	d.do("PUT", "/as/webhooks/app1/wh1", `{"webhook":{"base_url":"https://example.com","headers":{"Proxy-Authorization":"x"}}}`).fails(400, "webhook_headers")
	d.do("PUT", "/as/webhooks/app1/wh1", hook).is(200)
}

func TestDownlinksThroughAWebhook(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	d.do("PUT", "/as/webhooks/app1/wh1", hook).is(200)
	sender := d.with(d.keyFor("app1", messages.RightApplicationTrafficDownWrite))
	const path = "/as/applications/app1/webhooks/wh1/devices/abp1/down/"
	if got := sender.do("POST", path+"push", `{"downlinks":[{"f_port":1,"frm_payload":"AQI="},{"f_port":2}]}`).is(200); got.Body != "" {
		t.Errorf("the answer is not empty: %s", got.Body)
	}
	d.do("GET", "/as/applications/app1/devices/abp1/down", nil).is(200).has("downlinks", `[{"f_port":1,"frm_payload":"AQI="},{"f_port":2}]`)
	sender.do("POST", path+"replace", `{"downlinks":[]}`).is(200)
	d.do("GET", "/as/applications/app1/devices/abp1/down", nil).is(200).has("downlinks", "")
	sender.do("POST", path+"replace", `{"f_port":1}`).fails(400, "no_downlinks")
	sender.do("POST", strings.Replace(path, "wh1", "wh9", 1)+"push", `{"downlinks":[]}`).fails(404, "webhook_not_found")
	sender.do("POST", strings.Replace(path, "abp1", "dev9", 1)+"push", `{"downlinks":[]}`).fails(404, "device_not_found")
	d.do("PUT", "/as/webhooks/app1/wh1", `{"webhook":{"paused":true}}`).is(200)
	if got := sender.do("POST", path+"push", `{"downlinks":[]}`).fails(http.StatusNotAcceptable, "webhook_paused"); got.err().Code != 9 {
		t.Error(got.Body)
	}
}
