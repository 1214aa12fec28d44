package mqttclient

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// settings are a checked configuration.
type settings struct {
	server                   *url.URL
	provider                 v3.MQTTProvider
	format                   string
	tls                      *tls.Config
	publishQoS, subscribeQoS byte
	topics                   gateways.PubSubTopics
}

func newSettings(p v3.PubSub) (s settings, err error) {
	if p.MQTT == nil {
		return s, messages.Invalid("pubsub_provider", "mqtt is missing: set mqtt.server_url")
	}
	if err := gateways.CheckFormat(p.Format); err != nil {
		return s, err
	}
	s.provider, s.format = *p.MQTT, p.Format
	if s.publishQoS, err = qos("publish_qos", p.MQTT.PublishQoS); err != nil {
		return s, err
	}
	if s.subscribeQoS, err = qos("subscribe_qos", p.MQTT.SubscribeQoS); err != nil {
		return s, err
	}
	if err := s.setServer(); err != nil {
		return s, err
	}
	if s.topics, err = gateways.ParseTopics(gateways.MQTTTopics(), &p); err != nil {
		return s, err
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
	if !scheme.secure {
		return nil
	}
	if s.tls, err = gateways.ClientTLS("mqtt", s.provider.TLSCA, s.provider.TLSClientCert, s.provider.TLSClientKey); err != nil {
		return err
	}
	s.tls.ServerName = u.Hostname()
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

// Check says what is wrong with a configuration, nil if nothing is.
func Check(p v3.PubSub) error {
	_, err := newSettings(p)
	return err
}
