package rest

import (
	"strings"
	"testing"

	"lorikeet/gateways/webhook"
	"lorikeet/messages"
)

func newTemplateDoor(t *testing.T) *door {
	t.Helper()
	templates, err := webhook.LoadTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	return newHookDoor(t, func(c *Config) { c.Templates = templates })
}

func TestTemplatesAreListed(t *testing.T) {
	t.Parallel()
	d := newTemplateDoor(t)
	got := d.do("GET", "/as/webhook-templates?field_mask=name&limit=3", nil).is(200)
	if list, _ := got.tree()["templates"].([]any); len(list) != 3 || got.Header.Get("X-Total-Count") == "3" || !strings.Contains(got.Body, `"template_id":"akenza"`) {
		t.Error(got.Body)
	}
	d.do("GET", "/as/webhook-templates/datacake?field_mask=*", nil).is(200).has("ids.template_id", `"datacake"`).has("base_url", `"https://api.datacake.co/integrations/lorawan/tti"`).
		has("create_downlink_api_key", "true").has("uplink_message.path", `"/"`).has("headers.Authorization", `"Token {token}"`)
	d.do("GET", "/as/webhook-templates/datacake", nil).is(200).has("name", "")
	d.do("GET", "/as/webhook-templates/other", nil).fails(404, "webhook_template_not_found")
	plain := newHookDoor(t)
	plain.do("GET", "/as/webhook-templates", nil).is(200).has("templates", "[]")
}

func TestWebhookIsMadeFromATemplate(t *testing.T) {
	t.Parallel()
	d := newTemplateDoor(t)
	const path = "/as/webhooks/app1/cake"
	got := d.do("POST", "/as/webhooks/app1", `{"webhook":{"ids":{"webhook_id":"cake"},"template_ids":{"template_id":"datacake"},"template_fields":{"token":"t1"},"join_accept":{}}}`).is(200).
		has("base_url", `"https://api.datacake.co/integrations/lorawan/tti"`).has("headers.Authorization", `"Token t1"`).has("uplink_message.path", `"/"`).has("join_accept", "{}").has("format", `"json"`)
	key := strings.Trim(got.at("downlink_api_key"), `"`)
	access, err := d.registry.Authorize(t.Context(), key)
	if err != nil || access.Admin || !access.Can("app1", messages.RightApplicationTrafficDownWrite) || access.Can("app1", messages.RightApplicationTrafficRead) {
		t.Errorf("the key for downlinks: %+v, %v", access, err)
	}
	d.do("PUT", path, `{"webhook":{"template_fields":{"token":"t2"}},"field_mask":{"paths":["template_fields"]}}`).is(200)
	d.do("GET", path+"?field_mask=*", nil).has("headers.Authorization", `"Token t2"`).has("downlink_api_key", `"`+key+`"`).has("template_ids.template_id", `"datacake"`).has("join_accept", "{}")
	d.do("PUT", path, `{"webhook":{"template_fields":{"token":"t3"},"headers":{"Authorization":"mine"}}}`).is(200).has("headers.Authorization", `"mine"`)
	d.do("PUT", path, `{"webhook":{"paused":true}}`).is(200).has("headers.Authorization", `"mine"`)
	for body, name := range map[string]string{
		`{"webhook":{"template_ids":{"template_id":"datacake"}}}`:                                      "webhook_template_field",
		`{"webhook":{"template_ids":{"template_id":"datacake"},"template_fields":{"tokn":"hunter2"}}}`: "webhook_template_field",
		`{"webhook":{"template_ids":"datacake"}}`:                                                      "decode_body",
	} {
		if r := d.do("PUT", "/as/webhooks/app1/wh2", body).fails(400, name); strings.Contains(r.Body, "hunter2") {
			t.Error(r.Body)
		}
	}
	d.do("PUT", "/as/webhooks/app1/wh2", `{"webhook":{"template_ids":{"template_id":"none"},"template_fields":{}}}`).fails(404, "webhook_template_not_found")
	keys, err := d.registry.APIKeys(t.Context(), "app1")
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	d.do("PUT", "/as/webhooks/app1/wh2", `{"webhook":{"template_ids":{"template_id":"datacake"},"template_fields":{"token":"t"},"headers":{"Host":"x"}}}`).fails(400, "webhook_headers")
	if keys, err = d.registry.APIKeys(t.Context(), "app1"); err != nil || len(keys) != 1 {
		t.Errorf("%d keys after a refused webhook, %v", len(keys), err)
	}
	d.do("PUT", "/as/webhooks/app9/wh2", `{"webhook":{"template_ids":{"template_id":"datacake"},"template_fields":{"token":"t"}}}`).fails(404, "application_not_found")
}

// The console of The Things Stack fills templates in by itself.
func TestWebhookThatAClientMadeFromATemplateIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	d := newTemplateDoor(t)
	d.do("POST", "/as/webhooks/app1", `{"webhook":{"ids":{"webhook_id":"wh1"},"base_url":"https://example.com","format":"json","template_ids":{"template_id":"unknown-here"},"template_fields":{"x":"y"},
		"uplink_message":{}}}`).is(200).has("base_url", `"https://example.com"`).has("template_ids.template_id", `"unknown-here"`).has("downlink_api_key", "")
}

func TestTemplateMakesNoKeyForWhoMayNot(t *testing.T) {
	t.Parallel()
	d := newTemplateDoor(t)
	writer := d.with(d.keyFor("app1", writeIntegrations...))
	got := writer.do("PUT", "/as/webhooks/app1/wh1", `{"webhook":{"template_ids":{"template_id":"datacake"},"template_fields":{"token":"t"}}}`).is(200).has("downlink_api_key", "")
	if !strings.Contains(got.Header.Get("X-Warning"), "downlink_api_key") {
		t.Errorf("%v", got.Header)
	}
}
