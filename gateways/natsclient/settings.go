package natsclient

import (
	"crypto/tls"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// settings are a checked configuration.
type settings struct {
	urls   string
	format string
	topics gateways.PubSubTopics
	tls    *tls.Config // nil: as the URL and the server want it
	login  nats.Option // nil: what the URL holds
	stream string      // that must take the events; "" = any
	acked  bool        // publish with an acknowledgement of JetStream
}

func newSettings(p v3.PubSub) (s settings, err error) {
	if p.NATS == nil {
		return s, messages.Invalid("pubsub_provider", "nats is missing: set nats.server_url")
	}
	if err := gateways.CheckFormat(p.Format); err != nil {
		return s, err
	}
	s.format = p.Format
	if err := checkURLs(p.NATS.ServerURL); err != nil {
		return s, err
	}
	s.urls = p.NATS.ServerURL
	if s.topics, err = gateways.ParseTopics(gateways.NATSSubjects(), &p); err != nil {
		return s, err
	}
	if len(p.NATS.TLSCA)+len(p.NATS.TLSClientCert)+len(p.NATS.TLSClientKey) > 0 {
		if s.tls, err = gateways.ClientTLS("nats", p.NATS.TLSCA, p.NATS.TLSClientCert, p.NATS.TLSClientKey); err != nil {
			return s, err
		}
	}
	if s.login, err = login(p.NATS); err != nil {
		return s, err
	}
	return s, s.setJetStream(p.NATS.JetStream)
}

func checkURLs(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Hostname() == "" {
			return messages.Invalid("pubsub_server_url", "nats.server_url is not a URL: use for example nats://user:password@nats.example.com:4222")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return messages.Invalid("pubsub_server_url", "nats.server_url has the scheme %q: use nats, tls, ws or wss", u.Scheme)
		}
	}
	return nil
}

// login checks the credentials here, since the library would find out at each try to connect. Its errors may quote them.
func login(p *v3.NATSProvider) (nats.Option, error) {
	switch {
	case p.Credentials != "" && p.NkeySeed != "":
		return nil, messages.Invalid("pubsub_credentials", "nats.credentials and nats.nkey_seed are both there: set one")
	case p.Credentials != "":
		text := []byte(p.Credentials)
		token, jwtErr := nkeys.ParseDecoratedJWT(text)
		_, keyErr := nkeys.ParseDecoratedUserNKey(text)
		if jwtErr != nil || keyErr != nil || strings.Count(token, ".") != 2 {
			return nil, messages.Invalid("pubsub_credentials", "nats.credentials is not the text of a .creds file: send it whole, with its lines of dashes")
		}
		return nats.UserCredentialBytes(text), nil
	case p.NkeySeed != "":
		pair, err := nkeys.ParseDecoratedUserNKey([]byte(p.NkeySeed))
		if err != nil {
			return nil, messages.Invalid("pubsub_credentials", "nats.nkey_seed is not the seed of a user: it begins with SU")
		}
		public, err := pair.PublicKey()
		if err != nil {
			return nil, messages.Invalid("pubsub_credentials", "nats.nkey_seed is not the seed of a user: it begins with SU")
		}
		return nats.Nkey(public, pair.Sign), nil
	}
	return nil, nil
}

func (s *settings) setJetStream(j *v3.NATSJetStream) error {
	if j == nil || !j.Enabled {
		return nil
	}
	if len(j.Stream) > 255 || strings.ContainsAny(j.Stream, " .*>/\\\t\r\n\x00") {
		return messages.Invalid("pubsub_stream", "nats.jetstream.stream is not the name of a stream: it has no spaces, dots, slashes, * and >")
	}
	s.acked, s.stream = true, j.Stream
	return nil
}

// Check says what is wrong with a configuration, nil if nothing is.
func Check(p v3.PubSub) error {
	_, err := newSettings(p)
	return err
}
