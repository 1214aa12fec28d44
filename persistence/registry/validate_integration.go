package registry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"slices"
	"strings"

	"github.com/yosida95/uritemplate/v3"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Limits of The Things Stack, except maxURL.
const (
	maxURL         = 2048
	maxPath        = 64
	maxHeaders     = 50
	maxHeaderName  = 64
	maxHeaderValue = 4096
	maxTopic       = 100
	maxCredential  = 100
	maxClientID    = 23 // what every MQTT 3.1.1 server must accept
	maxPEM         = 8192
)

func checkFormat(format *string) error {
	switch *format {
	case "", "json":
		*format = "json"
		return nil
	case "protobuf":
		return refuse("format", "protobuf is not supported: use json")
	}
	return refuse("format", "%q is unknown: use json", shorten(*format))
}

func validateWebhook(w *v3.Webhook) error {
	if err := cmp.Or(
		checkBaseURL(w.BaseURL),
		checkHeaders(w.Headers),
		checkWebhookFormat(&w.Format),
		checkText("downlink_api_key", w.DownlinkAPIKey, 128),
	); err != nil {
		return err
	}
	if hasControl(w.DownlinkAPIKey) {
		return refuse("downlink_api_key", "has control characters: paste the API key as it is")
	}
	for _, t := range messages.EventTypes {
		if path, ok := w.Path(t); ok {
			if err := checkPath(string(t)+".path", path); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkBaseURL never quotes the URL: it may hold credentials.
func checkBaseURL(base string) error {
	const field = "base_url"
	scheme, rest, _ := strings.Cut(base, "://")
	switch {
	case base == "":
		return refuse(field, "is missing: set e.g. https://example.com/lorawan")
	case len(base) > maxURL:
		return refuse(field, "has %d characters: use at most %d", len(base), maxURL)
	case !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https"):
		return refuse(field, "must begin with http:// or https://")
	case rest == "" || strings.ContainsRune("/?#", rune(rest[0])):
		return refuse(field, "names no host: set e.g. https://example.com/lorawan")
	}
	t, err := uritemplate.New(base)
	if err != nil || hasControl(base) {
		return refuse(field, "is not a URI template (RFC 6570): write variables as {/devID} or {devID}, and encode other special characters with %%")
	}
	values := uritemplate.Values{}
	for _, name := range t.Varnames() {
		values.Set(name, uritemplate.String("a1"))
	}
	full, err := t.Expand(values)
	if err != nil {
		return refuse(field, "is not a URI template (RFC 6570)")
	}
	if u, err := url.Parse(full); err != nil || u.Hostname() == "" {
		return refuse(field, "is not a URL: set e.g. https://example.com/lorawan")
	}
	return nil
}

func checkPath(field, path string) error {
	if err := checkText(field, path, maxPath); err != nil {
		return err
	}
	if _, err := uritemplate.New(path); err != nil || hasControl(path) {
		return refuse(field, "is not a URI template (RFC 6570): write variables as {/devID} or {devID}, and encode other special characters with %%")
	}
	return nil
}

func checkHeaders(headers map[string]string) error {
	if len(headers) > maxHeaders {
		return refuse("headers", "has %d entries: use at most %d", len(headers), maxHeaders)
	}
	seen := map[string]bool{}
	for name, value := range headers {
		lower := strings.ToLower(name)
		switch {
		case name == "" || len(name) > maxHeaderName:
			return refuse("headers", "has a name of %d characters: use 1 to %d", len(name), maxHeaderName)
		case strings.ContainsFunc(name, notToken):
			return refuse("headers", "has the name %q: use letters, digits and dashes", name)
		case slices.Contains([]string{"host", "content-length", "transfer-encoding"}, lower):
			return refuse("headers", "has %s, which the server sets itself: leave it out", name)
		case seen[lower]:
			return refuse("headers", "has %s twice: names differ in more than case", name)
		case len(value) > maxHeaderValue:
			return refuse("headers", "has %d bytes under %s: use at most %d", len(value), name, maxHeaderValue)
		case hasControl(value):
			return refuse("headers", "has a line break or another control character under %s: leave it out", name)
		}
		seen[lower] = true
	}
	return nil
}

// notToken is the complement of tchar (RFC 9110 §5.6.2).
func notToken(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
}

func validatePubSub(p *v3.PubSub) error {
	if err := checkFormat(&p.Format); err != nil {
		return err
	}
	var checkTopic func(field, topic string) error
	switch {
	case (p.NATS == nil) == (p.MQTT == nil):
		return refuse("provider", "is missing or not one: set exactly one of nats and mqtt")
	case p.NATS != nil:
		if err := checkServerURL("nats.server_url", p.NATS.ServerURL, "nats", "tls", "ws", "wss"); err != nil {
			return err
		}
		checkTopic = checkSubject
	default:
		if err := checkMQTT(p.MQTT); err != nil {
			return err
		}
		checkTopic = checkMQTTTopic
	}
	if err := checkTopic("base_topic", p.BaseTopic); err != nil {
		return err
	}
	topics := map[string]*v3.MessageTopic{"downlink_push": p.DownlinkPush, "downlink_replace": p.DownlinkReplace}
	for _, t := range messages.EventTypes {
		if topic, ok := p.Topic(t); ok {
			topics[string(t)] = &v3.MessageTopic{Topic: topic}
		}
	}
	for name, t := range topics {
		switch {
		case t == nil:
			continue
		case t.Topic == "" && p.BaseTopic == "":
			return refuse(name+".topic", "and base_topic are both empty: set one of them")
		}
		if err := checkTopic(name+".topic", t.Topic); err != nil {
			return err
		}
	}
	return nil
}

// checkServerURL never quotes the URL: it may hold credentials.
func checkServerURL(field, text string, schemes ...string) error {
	if text == "" {
		return refuse(field, "is missing: set e.g. %s://example.com", schemes[0])
	}
	if len(text) > maxURL {
		return refuse(field, "has %d characters: use at most %d", len(text), maxURL)
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || !slices.Contains(schemes, strings.ToLower(u.Scheme)) {
		return refuse(field, "must be a URL with one of the schemes %s, e.g. %s://example.com", strings.Join(schemes, ", "), schemes[0])
	}
	return nil
}

// checkMQTTTopic checks the name of a topic to publish to (MQTT 3.1.1 §4.7): no filters.
func checkMQTTTopic(field, topic string) error {
	if err := checkText(field, topic, maxTopic); err != nil {
		return err
	}
	if strings.ContainsAny(topic, "+#") || hasControl(topic) {
		return refuse(field, "has + or # or a control character: name one topic, e.g. lorawan/up")
	}
	return nil
}

// checkSubject checks a NATS subject to publish to: tokens between dots, no wildcards, no white space.
func checkSubject(field, subject string) error {
	if err := checkText(field, subject, maxTopic); err != nil {
		return err
	}
	if strings.ContainsAny(subject, "*> ") || hasControl(subject) || subject != "" && slices.Contains(strings.Split(subject, "."), "") {
		return refuse(field, "has *, >, white space or an empty part between dots: name one subject, e.g. lorawan.up")
	}
	return nil
}

var qosNames = []v3.QoS{v3.QoSAtMostOnce, v3.QoSAtLeastOnce, v3.QoSExactlyOnce}

func checkMQTT(m *v3.MQTTProvider) error {
	for field, q := range map[string]v3.QoS{"mqtt.subscribe_qos": m.SubscribeQoS, "mqtt.publish_qos": m.PublishQoS} {
		if q != "" && !slices.Contains(qosNames, q) {
			return refuse(field, "%q is unknown: use one of %s", shorten(string(q)), joinNames(qosNames))
		}
	}
	return cmp.Or(
		checkServerURL("mqtt.server_url", m.ServerURL, "mqtt", "mqtts", "ws", "wss", "tcp", "ssl"),
		checkText("mqtt.client_id", m.ClientID, maxClientID),
		checkText("mqtt.username", m.Username, maxCredential),
		checkText("mqtt.password", m.Password, maxCredential),
		checkHeaders(m.Headers),
		checkCertificates("mqtt.tls_ca", m.TLSCA),
		checkCertificates("mqtt.tls_client_cert", m.TLSClientCert),
		checkClientKey(m),
	)
}

func checkCertificates(field string, text []byte) error {
	if len(text) > maxPEM {
		return refuse(field, "has %d bytes: use at most %d", len(text), maxPEM)
	}
	n := 0
	for rest := text; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
			return refuse(field, "holds something that is not a certificate: send the PEM file of X.509 certificates in base64")
		}
	}
	if len(text) > 0 && n == 0 {
		return refuse(field, "holds no certificate: send the PEM file of X.509 certificates in base64")
	}
	return nil
}

// checkClientKey leaves out what exactly is wrong with a key, since that might quote it.
func checkClientKey(m *v3.MQTTProvider) error {
	const field = "mqtt.tls_client_key"
	switch {
	case len(m.TLSClientKey) > maxPEM:
		return refuse(field, "has %d bytes: use at most %d", len(m.TLSClientKey), maxPEM)
	case len(m.TLSClientKey) == 0 && len(m.TLSClientCert) == 0:
		return nil
	case len(m.TLSClientKey) == 0 || len(m.TLSClientCert) == 0:
		return refuse(field, "and mqtt.tls_client_cert belong together: send both or none")
	}
	if _, err := tls.X509KeyPair(m.TLSClientCert, m.TLSClientKey); err != nil {
		return refuse(field, "does not fit mqtt.tls_client_cert: send both as PEM in base64, the key without a pass phrase")
	}
	return nil
}
