package mqttclient

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const maxTopic = 255

// settings are a checked configuration.
type settings struct {
	server                   *url.URL
	provider                 v3.MQTTProvider
	tls                      *tls.Config
	publishQoS, subscribeQoS byte
	topics                   map[messages.EventType]string
	down                     []downlinkTopic
}

type downlinkTopic struct {
	topic   string
	replace bool
}

func newSettings(p v3.PubSub) (s settings, err error) {
	if p.MQTT == nil {
		return s, messages.Invalid("pubsub_provider", "mqtt is missing: set mqtt.server_url")
	}
	if p.Format != "" && p.Format != "json" {
		return s, messages.Invalid("pubsub_format", "format %q: only json is supported", p.Format)
	}
	s.provider, s.topics = *p.MQTT, map[messages.EventType]string{}
	if s.publishQoS, err = qos("publish_qos", p.MQTT.PublishQoS); err != nil {
		return s, err
	}
	if s.subscribeQoS, err = qos("subscribe_qos", p.MQTT.SubscribeQoS); err != nil {
		return s, err
	}
	if err := s.setServer(); err != nil {
		return s, err
	}
	for _, t := range messages.EventTypes {
		if topic, ok := p.Topic(t); ok {
			if s.topics[t], err = joinTopic(p.BaseTopic, topic); err != nil {
				return s, err
			}
		}
	}
	for topic, replace := range map[*v3.MessageTopic]bool{p.DownlinkPush: false, p.DownlinkReplace: true} {
		if topic == nil {
			continue
		}
		joined, err := joinTopic(p.BaseTopic, topic.Topic)
		if err != nil {
			return s, err
		}
		s.down = append(s.down, downlinkTopic{topic: joined, replace: replace})
	}
	if len(s.down) == 2 && s.down[0].topic == s.down[1].topic {
		return s, messages.Invalid("pubsub_topic", "downlink_push and downlink_replace have the same topic: give each its own")
	}
	return s, nil
}

// qos reads the name or number of a QoS; the default is AT_MOST_ONCE, as in The Things Stack.
func qos(field string, q v3.QoS) (byte, error) {
	switch strings.Trim(string(q), `"`) {
	case "", "AT_MOST_ONCE", "0":
		return 0, nil
	case "AT_LEAST_ONCE", "1":
		return 1, nil
	case "EXACTLY_ONCE", "2":
		return 2, nil
	}
	return 0, messages.Invalid("pubsub_qos", "mqtt.%s %q: use AT_MOST_ONCE, AT_LEAST_ONCE or EXACTLY_ONCE", field, string(q))
}

// joinTopic joins base and topic to a topic without wildcards.
func joinTopic(base, topic string) (string, error) {
	joined := strings.TrimRight(base, "/")
	if topic = strings.TrimLeft(topic, "/"); topic != "" && joined != "" {
		joined += "/"
	}
	joined += topic
	switch {
	case joined == "" || len(joined) > maxTopic:
		return "", messages.Invalid("pubsub_topic", "base_topic and topic must have 1 to %d characters together", maxTopic)
	case strings.ToValidUTF8(joined, "") != joined || strings.ContainsFunc(joined, func(r rune) bool { return r < ' ' || r == 0x7f || r == '+' || r == '#' }):
		return "", messages.Invalid("pubsub_topic", "%q is not an MQTT topic to publish to: use text without +, # and control characters", joined)
	case strings.HasPrefix(joined, "$SYS"):
		return "", messages.Invalid("pubsub_topic", "%q is reserved by MQTT servers: use another base_topic", joined)
	}
	return joined, nil
}

var schemes = map[string]struct {
	paho, port string
	secure     bool
}{
	"mqtt": {"tcp", "1883", false}, "tcp": {"tcp", "1883", false}, "mqtts": {"ssl", "8883", true}, "ssl": {"ssl", "8883", true}, "tls": {"ssl", "8883", true},
	"ws": {"ws", "80", false}, "wss": {"wss", "443", true},
}

func (s *settings) setServer() error {
	u, err := url.Parse(strings.TrimSpace(s.provider.ServerURL))
	if err != nil || u.Hostname() == "" {
		return messages.Invalid("pubsub_server_url", "mqtt.server_url is not a URL: use for example mqtts://mqtt.example.com:8883")
	}
	scheme, ok := schemes[u.Scheme]
	if !ok {
		return messages.Invalid("pubsub_server_url", "mqtt.server_url has the scheme %q: use mqtt, mqtts, ws or wss", u.Scheme)
	}
	if s.provider.UseTLS && !scheme.secure {
		scheme = schemes[map[string]string{"tcp": "mqtts", "ws": "wss"}[scheme.paho]]
	}
	u.Scheme = scheme.paho
	if u.Port() == "" {
		u.Host += ":" + scheme.port
	}
	if u.User != nil {
		if s.provider.Username == "" {
			s.provider.Username = u.User.Username()
			s.provider.Password, _ = u.User.Password()
		}
		u.User = nil
	}
	s.server = u
	if scheme.secure {
		return s.setTLS()
	}
	return nil
}

func (s *settings) setTLS() error {
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.server.Hostname()}
	if len(s.provider.TLSCA) > 0 {
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(s.provider.TLSCA) {
			return messages.Invalid("pubsub_tls", "mqtt.tls_ca holds no certificate: give PEM, base64 encoded")
		}
	}
	if len(s.provider.TLSClientCert) > 0 || len(s.provider.TLSClientKey) > 0 {
		cert, err := tls.X509KeyPair(s.provider.TLSClientCert, s.provider.TLSClientKey)
		if err != nil {
			return messages.Invalid("pubsub_tls", "mqtt.tls_client_cert and mqtt.tls_client_key are not a pair: give both as PEM, base64 encoded")
		}
		s.tls.Certificates = []tls.Certificate{cert}
	}
	return nil
}

// options for one connection.
func (s *settings) options() *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.Servers = []*url.URL{s.server}
	o.SetProtocolVersion(4).SetUsername(s.provider.Username).SetPassword(s.provider.Password).SetClientID(s.provider.ClientID)
	if s.provider.ClientID == "" {
		var id [7]byte
		_, _ = rand.Read(id[:]) // never fails
		o.SetClientID("lorikeet-" + hex.EncodeToString(id[:]))
	}
	if s.tls != nil {
		o.SetTLSConfig(s.tls)
	}
	if len(s.provider.Headers) > 0 {
		h := http.Header{}
		for name, value := range s.provider.Headers {
			h.Set(name, value)
		}
		o.SetHTTPHeaders(h)
	}
	return o
}
