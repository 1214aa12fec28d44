// Package webhook delivers the events of applications to HTTP endpoints, with the requests of The Things Stack v3.
package webhook

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	maxHeaders      = 50
	maxHeaderName   = 64
	maxHeaderValue  = 4096
	connectionsHost = 32
)

// Config of a Sender.
type Config struct {
	Version   string              // of Lorikeet, for User-Agent
	PublicURL string              // of the REST API without path, e.g. "https://lora.example.com"; for X-Downlink-Push, -Replace and X-Tts-Domain
	Guard     *gateways.DialGuard // says which addresses may be reached; nil: one that allows private networks
	Timeout   time.Duration       // of one request; 0 = 10 s
	Now       func() time.Time
	// Encoder makes an ApplicationUp in protobuf of one in JSON; nil: the format protobuf is refused.
	Encoder func(applicationUp []byte) ([]byte, error)
}

// Sender makes the requests of all webhooks. It shares one pool of connections.
type Sender struct {
	cfg       Config
	client    *http.Client
	transport *http.Transport
	domain    string
}

// NewSender makes a Sender.
func NewSender(cfg Config) (*Sender, error) {
	public, err := url.Parse(cfg.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("public URL for webhooks: %w", err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.PublicURL = strings.TrimRight(cfg.PublicURL, "/")
	if cfg.Guard == nil {
		cfg.Guard = gateways.NewDialGuard(false, nil)
	}
	transport := &http.Transport{
		Proxy: nil, DialContext: cfg.Guard.Dialer(cfg.Timeout).DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		MaxIdleConns: 1024, MaxIdleConnsPerHost: connectionsHost, MaxConnsPerHost: 0, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: cfg.Timeout, ResponseHeaderTimeout: cfg.Timeout, MaxResponseHeaderBytes: 64 << 10,
		// A connection of HTTP/2 whose other end has vanished would be used for all requests until TCP gives it up, a quarter of an hour later.
		HTTP2: &http.HTTP2Config{SendPingTimeout: cfg.Timeout, PingTimeout: cfg.Timeout},
	}
	return &Sender{
		cfg: cfg, transport: transport, domain: public.Hostname(),
		client: noRedirects(transport),
	}, nil
}

// Close closes idle connections. Call it when no webhook delivers any more.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

// Webhook delivers to one endpoint.
type Webhook struct {
	sender *Sender
	hook   v3.Webhook
	urls   map[messages.EventType]*endpoint
	mask   map[messages.EventType]*maskNode
	header http.Header
	signer signer
	batch  *batch // nil: one event a request
	client *http.Client
	own    *http.Transport // nil: the client is the Sender's
}

// formats of a body.
const (
	formatJSON     = "json"
	formatProtobuf = "protobuf"
)

// New checks a webhook and makes it ready. The error says what to change.
func (s *Sender) New(hook v3.Webhook) (w *Webhook, err error) {
	w = &Webhook{sender: s, hook: hook, urls: map[messages.EventType]*endpoint{}, mask: map[messages.EventType]*maskNode{}}
	switch hook.Format {
	case "", formatJSON:
	case formatProtobuf:
		if s.cfg.Encoder == nil {
			return nil, messages.Invalid("webhook_format", "format protobuf is not supported here: use json")
		}
	default:
		return nil, messages.Invalid("webhook_format", "format %.20q is not known: use json or protobuf", hook.Format)
	}
	if err := w.setHeader(); err != nil {
		return nil, err
	}
	if w.signer, err = newSigner(hook.SigningSecret); err != nil {
		return nil, err
	}
	if w.batch, err = newBatch(hook); err != nil {
		return nil, err
	}
	if err := w.setURLs(); err != nil {
		return nil, err
	}
	w.client, w.own, err = s.clientFor(hook)
	return w, err
}

func (w *Webhook) setURLs() error {
	for _, t := range messages.EventTypes {
		path, ok := w.hook.Path(t)
		if !ok {
			continue
		}
		endpoint, err := newEndpoint(w.hook.BaseURL, path)
		if err != nil {
			return err
		}
		w.urls[t] = endpoint
		if w.hook.FieldMask != nil {
			w.mask[t] = newMask(t, w.hook.FieldMask.Paths)
		}
	}
	if len(w.urls) == 0 { // nothing to send, but a wrong base URL is better known now
		if _, err := newEndpoint(w.hook.BaseURL, ""); err != nil {
			return err
		}
	}
	return nil
}

// Check says what is wrong with a webhook, nil if nothing is.
func (s *Sender) Check(hook v3.Webhook) error {
	_, err := s.New(hook)
	return err
}

// reserved headers are made by the HTTP client or by us.
var reserved = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Upgrade": true,
	"Proxy-Connection": true, "Proxy-Authorization": true, "Expect": true, headerID: true, headerTimestamp: true, headerSignature: true,
}

func (w *Webhook) setHeader() error {
	w.header = http.Header{}
	if len(w.hook.Headers) > maxHeaders {
		return messages.Invalid("webhook_headers", "%d headers: use at most %d", len(w.hook.Headers), maxHeaders)
	}
	for name, value := range w.hook.Headers {
		switch canonical := http.CanonicalHeaderKey(name); {
		case !httpguts.ValidHeaderFieldName(name) || len(name) > maxHeaderName:
			return messages.Invalid("webhook_headers", "header name %q: use letters, digits and dashes, at most %d", name, maxHeaderName)
		case !httpguts.ValidHeaderFieldValue(value) || len(value) > maxHeaderValue:
			return messages.Invalid("webhook_headers", "the value of header %s: use one line of text of at most %d characters", canonical, maxHeaderValue)
		case reserved[canonical]:
			return messages.Invalid("webhook_headers", "header %s is set by the server: remove it", canonical)
		case w.header[canonical] != nil:
			return messages.Invalid("webhook_headers", "header %s is there twice, in upper and lower case: remove one", canonical)
		default:
			w.header.Set(canonical, value)
		}
	}
	if w.header["User-Agent"] == nil {
		w.header.Set("User-Agent", "Lorikeet/"+w.sender.cfg.Version)
	}
	w.header.Set("Content-Type", "application/json")
	if w.hook.Format == formatProtobuf {
		w.header.Set("Content-Type", "application/octet-stream")
	}
	if w.sender.domain != "" {
		w.header.Set("X-Tts-Domain", w.sender.domain)
	}
	if w.hook.DownlinkAPIKey != "" {
		if !httpguts.ValidHeaderFieldValue(w.hook.DownlinkAPIKey) {
			return messages.Invalid("webhook_downlink_api_key", "downlink_api_key: use an API key of this server")
		}
		w.header.Set("X-Downlink-Apikey", w.hook.DownlinkAPIKey)
	}
	return nil
}

// Wants says whether the webhook has a path for the type.
func (w *Webhook) Wants(t messages.EventType) bool { return w.urls[t] != nil }

// Close ends the connections that are the webhook's own. The others belong to the Sender.
func (w *Webhook) Close() error {
	if w.own != nil {
		w.own.CloseIdleConnections()
	}
	return nil
}
