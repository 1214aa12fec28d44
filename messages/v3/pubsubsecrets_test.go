package v3

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func mqttWithSecrets() PubSub {
	return PubSub{MQTT: &MQTTProvider{
		ServerURL: "wss://u:url-secret@mqtt.example.com/path?token=query-secret", Username: "u", Password: "pass-secret", TLSClientKey: Bytes("key-secret"), TLSCA: Bytes("ca"),
		Headers: map[string]string{"Authorization": "header-secret"},
	}}
}

func natsWithSecrets() PubSub {
	return PubSub{NATS: &NATSProvider{
		ServerURL: "nats://u:url-secret@a.example.com:4222, nats://token-secret@b.example.com", Credentials: "creds-secret", NkeySeed: "seed-secret", TLSClientKey: Bytes("key-secret"),
	}}
}

func TestShownIntegrationsHoldNoSecrets(t *testing.T) {
	for _, p := range []PubSub{mqttWithSecrets(), natsWithSecrets()} {
		before, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := json.Marshal(p.Redacted())
		if err != nil {
			t.Fatal(err)
		}
		for _, hidden := range []string{"secret", Bytes("key-secret").text()} {
			if strings.Contains(string(shown), hidden) {
				t.Errorf("%s is shown: %s", hidden, shown)
			}
		}
		if after, _ := json.Marshal(p); string(after) != string(before) {
			t.Error("what was to be shown changed")
		}
	}
	if got := mqttWithSecrets().Redacted().MQTT.ServerURL; got != "wss://u:***@mqtt.example.com/path?***" {
		t.Error(got)
	}
	if got := natsWithSecrets().Redacted().NATS.ServerURL; got != "nats://u:***@a.example.com:4222,nats://***@b.example.com" {
		t.Error(got)
	}
	if got := (PubSub{MQTT: &MQTTProvider{ServerURL: "mqtt://user@x"}}).Redacted().MQTT.ServerURL; got != "mqtt://user@x" {
		t.Error(got)
	}
}

func (b Bytes) text() string {
	out, _ := b.MarshalJSON()
	return strings.Trim(string(out), `"`)
}

func TestWhatWasShownCanBeWrittenBack(t *testing.T) {
	none := func(string) bool { return false }
	for _, p := range []PubSub{mqttWithSecrets(), natsWithSecrets()} {
		got := p.Redacted()
		if err := got.KeepSecrets(p, none); err != nil {
			t.Fatal(err)
		}
		want := p.Redacted() // for a copy that may be changed
		want.NATS, want.MQTT = p.NATS, p.MQTT
		if want.NATS != nil {
			want.NATS.ServerURL = strings.ReplaceAll(want.NATS.ServerURL, ", ", ",")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSecretsAreKeptAndChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*MQTTProvider)
		written string
		want    func(*MQTTProvider)
		refusal bool
	}{
		"missing":                    {func(m *MQTTProvider) { m.Password, m.TLSClientKey = "", nil }, "", func(*MQTTProvider) {}, false},
		"emptied":                    {func(m *MQTTProvider) { m.Password = "" }, "mqtt.password", func(m *MQTTProvider) { m.Password = "" }, false},
		"new":                        {func(m *MQTTProvider) { m.Password = "new" }, "", func(m *MQTTProvider) { m.Password = "new" }, false},
		"a header is away":           {func(m *MQTTProvider) { m.Headers = nil }, "", func(m *MQTTProvider) { m.Headers = nil }, false},
		"a header":                   {func(m *MQTTProvider) { m.Headers = map[string]string{"Authorization": Redacted} }, "", func(*MQTTProvider) {}, false},
		"a header that was not":      {func(m *MQTTProvider) { m.Headers = map[string]string{"X-Key": Redacted} }, "", nil, true},
		"new password in the URL":    {func(m *MQTTProvider) { m.ServerURL = "mqtt://u:new@mqtt.example.com" }, "", func(m *MQTTProvider) { m.ServerURL = "mqtt://u:new@mqtt.example.com" }, false},
		"other port":                 {func(m *MQTTProvider) { m.ServerURL = "wss://u:***@MQTT.example.com:1/path?***" }, "", func(m *MQTTProvider) { m.ServerURL = "wss://u:url-secret@MQTT.example.com:1/path?token=query-secret" }, false},
		"other host":                 {func(m *MQTTProvider) { m.ServerURL, m.Headers = "mqtt://thief.example.com", nil }, "", nil, true},
		"other host, password shown": {func(m *MQTTProvider) { m.ServerURL, m.Password, m.Headers = "mqtt://thief.example.com", Redacted, nil }, "", nil, true},
		"other host, header": {func(m *MQTTProvider) {
			m.ServerURL, m.Password = "mqtt://thief.example.com", "new"
			m.Headers["Authorization"] = Redacted
		}, "", nil, true},
		"other host, password in URL": {func(m *MQTTProvider) {
			m.ServerURL, m.Password, m.Headers = "mqtt://u:***@thief.example.com", "new", nil
		}, "", nil, true},
		"other host, new password":     {func(m *MQTTProvider) { m.ServerURL, m.Password, m.Headers = "mqtt://x", "new", nil }, "", func(m *MQTTProvider) { m.ServerURL, m.Password, m.Headers = "mqtt://x", "new", nil }, false},
		"other host, without password": {func(m *MQTTProvider) { m.ServerURL, m.Password, m.Headers = "mqtt://x", "", nil }, "mqtt.password", func(m *MQTTProvider) { m.ServerURL, m.Password, m.Headers = "mqtt://x", "", nil }, false},
	} {
		p, want := mqttWithSecrets(), mqttWithSecrets()
		c.change(p.MQTT)
		err := p.KeepSecrets(mqttWithSecrets(), func(path string) bool { return path == c.written })
		if c.refusal {
			var e *messages.Error
			if !errors.As(err, &e) || e.Name != "pubsub_credentials" || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		c.want(want.MQTT)
		if diff := cmp.Diff(want, p); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestSecretsOfAnotherProviderAreNotKept(t *testing.T) {
	p := PubSub{NATS: &NATSProvider{ServerURL: "nats://x", NkeySeed: Redacted}}
	if err := p.KeepSecrets(mqttWithSecrets(), func(string) bool { return false }); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("error %v", err)
	}
	p = PubSub{MQTT: &MQTTProvider{ServerURL: "mqtt://x", Password: Redacted}}
	if err := p.KeepSecrets(PubSub{}, func(string) bool { return false }); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("error %v", err)
	}
}
