package rest

import (
	"strings"
	"testing"

	"lorikeet/gateways/webhook"
	v3 "lorikeet/messages/v3"
)

func newHookDoor(t *testing.T, change ...func(*Config)) *door {
	t.Helper()
	sender, err := webhook.NewSender(webhook.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	d := newDoor(t, append([]func(*Config){func(c *Config) { c.CheckWebhook = sender.Check }}, change...)...)
	d.app("app1")
	return d
}

func (d *door) secrets(id string) v3.Secrets {
	d.Helper()
	hook, err := d.registry.Webhook(d.Context(), "app1", id)
	if err != nil {
		d.Fatal(err)
	}
	return hook.SigningSecret
}

func TestSigningSecretIsShownOnceOnly(t *testing.T) {
	t.Parallel()
	d := newHookDoor(t)
	const path = "/as/webhooks/app1/wh1"
	made := d.do("PUT", path, `{"webhook":{"base_url":"https://example.com","signing_secret":"generate"}}`).is(200).has("signing_secret_count", "1")
	secret := strings.Trim(made.at("signing_secret"), `"`)
	if got := d.secrets("wh1"); len(got) != 1 || got[0] != secret || !strings.HasPrefix(secret, "whsec_") {
		t.Fatalf("made %q", secret)
	}
	d.do("GET", path+"?field_mask=*", nil).is(200).has("signing_secret", "").has("signing_secret_count", "1")
	d.do("PUT", path, `{"webhook":{"base_url":"https://example.com/x"}}`).is(200).has("signing_secret", "").has("signing_secret_count", "1")
	d.do("PUT", path, `{"webhook":{"paused":true},"field_mask":{"paths":["paused"]}}`).is(200)
	if got := d.secrets("wh1"); len(got) != 1 || got[0] != secret {
		t.Error("a write of something else changed the secret")
	}
	if strings.Contains(d.log.String(), secret) {
		t.Error("the log has the secret")
	}
	d.do("PUT", path, `{"webhook":{},"field_mask":{"paths":["signing_secret"]}}`).is(200)
	if got := d.secrets("wh1"); len(got) != 0 {
		t.Error("signing is not taken away")
	}
	own := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	d.do("PUT", path, `{"webhook":{"signing_secret":"`+own+`"}}`).is(200).has("signing_secret", "")
	d.do("PUT", path, `{"webhook":{"signing_secret":["`+own+`","hunter2"]}}`).fails(400, "webhook_signing_secret")
	d.do("PUT", path, `{"webhook":{"signing_secret":["`+own+`","generate"]}}`).fails(400, "webhook_signing_secret")
	d.do("PUT", path, `{"webhook":{"signing_secret":7}}`).fails(400, "decode_body")
	if got := d.secrets("wh1"); len(got) != 1 || got[0] != own {
		t.Error("a refused write changed the secret")
	}
}

func TestSigningSecretIsRotated(t *testing.T) {
	t.Parallel()
	d := newHookDoor(t)
	const path = "/as/webhooks/app1/wh1"
	d.do("POST", path+"/signing-secret", nil).fails(404, "webhook_not_found")
	d.do("PUT", path, `{"webhook":{"base_url":"https://example.com"}}`).is(200).has("signing_secret_count", "")
	first := strings.Trim(d.do("POST", path+"/signing-secret", nil).is(200).has("signing_secret_count", "1").at("signing_secret"), `"`)
	second := strings.Trim(d.do("POST", path+"/signing-secret", nil).is(200).has("signing_secret_count", "2").at("signing_secret"), `"`)
	if got := d.secrets("wh1"); len(got) != 2 || got[0] != second || got[1] != first || first == second {
		t.Errorf("%d secrets while a new one is brought in", len(got))
	}
	d.do("POST", path+"/signing-secret", nil).is(200).has("signing_secret_count", "2") // a third leaves only one beside it
	d.do("DELETE", path+"/signing-secret/previous", nil).is(200).has("signing_secret_count", "1").has("signing_secret", "")
	if got := d.secrets("wh1"); len(got) != 1 || got[0] == first || got[0] == second {
		t.Errorf("%d secrets after the rotation", len(got))
	}
	reader := d.with(d.keyFor("app1", "RIGHT_APPLICATION_TRAFFIC_READ"))
	reader.do("POST", path+"/signing-secret", nil).fails(403, "insufficient_application_rights")
}

func TestKeyOfAClientCertificateIsNotShown(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	const path = "/as/webhooks/app1/wh1"
	d.do("PUT", path, `{"webhook":{"base_url":"https://example.com","tls_ca":"Y2E=","tls_client_cert":"Y2VydA==","tls_client_key":"aHVudGVyMg=="}}`).is(200).
		has("tls_client_cert", `"Y2VydA=="`).has("tls_client_key", "")
	d.do("GET", path+"?field_mask=*", nil).has("tls_ca", `"Y2E="`).has("tls_client_key", "")
	hook, err := d.registry.Webhook(t.Context(), "app1", "wh1")
	if err != nil || string(hook.TLSClientKey) != "hunter2" {
		t.Errorf("stored %v", err)
	}
	reader := d.with(d.keyFor("app1", "RIGHT_APPLICATION_TRAFFIC_READ"))
	reader.do("GET", path+"?field_mask=*", nil).has("tls_ca", "").has("tls_client_cert", "")
}
