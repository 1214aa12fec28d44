// Package webhook delivers the events of applications to HTTP endpoints, with the requests of The Things Stack v3.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	maxHeaders      = 50
	maxHeaderName   = 64
	maxHeaderValue  = 4096
	maxResponse     = 64 << 10 // read, so that the connection can be kept
	maxDetail       = 1 << 10  // shown
	refusedTries    = 5
	maxRetryAfter   = time.Hour
	connectionsHost = 32
)

// Config of a Sender.
type Config struct {
	Version   string // of Lorikeet, for User-Agent
	PublicURL string // of the REST API without path, e.g. "https://lora.example.com"; for X-Downlink-Push, -Replace and X-Tts-Domain
	// DenyPrivate refuses endpoints on loopback and private networks. Link-local addresses, the metadata services of clouds, multicast and
	// reserved addresses are refused always.
	DenyPrivate bool
	Allow       []netip.Prefix // reachable in any case
	Timeout     time.Duration  // of one request; 0 = 10 s
	Now         func() time.Time
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
	guard := newGuard(cfg.DenyPrivate, cfg.Allow)
	dialer := &net.Dialer{Timeout: cfg.Timeout, KeepAlive: 30 * time.Second, Control: guard.control}
	transport := &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		MaxIdleConns: 1024, MaxIdleConnsPerHost: connectionsHost, MaxConnsPerHost: 0, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: cfg.Timeout, ResponseHeaderTimeout: cfg.Timeout, MaxResponseHeaderBytes: 64 << 10,
	}
	return &Sender{
		cfg: cfg, transport: transport, domain: public.Hostname(),
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
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
}

// New checks a webhook and makes it ready. The error says what to change.
func (s *Sender) New(hook v3.Webhook) (*Webhook, error) {
	w := &Webhook{sender: s, hook: hook, urls: map[messages.EventType]*endpoint{}, mask: map[messages.EventType]*maskNode{}}
	if hook.Format != "" && hook.Format != "json" {
		return nil, messages.Invalid("webhook_format", "format %q: only json is supported", hook.Format)
	}
	if err := w.setHeader(); err != nil {
		return nil, err
	}
	for _, t := range messages.EventTypes {
		path, ok := hook.Path(t)
		if !ok {
			continue
		}
		endpoint, err := newEndpoint(hook.BaseURL, path)
		if err != nil {
			return nil, err
		}
		w.urls[t] = endpoint
		if hook.FieldMask != nil {
			w.mask[t] = newMask(t, hook.FieldMask.Paths)
		}
	}
	if len(w.urls) == 0 { // nothing to send, but a wrong base URL is better known now
		if _, err := newEndpoint(hook.BaseURL, ""); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Check says what is wrong with a webhook, nil if nothing is.
func (s *Sender) Check(hook v3.Webhook) error {
	_, err := s.New(hook)
	return err
}

// reserved headers are made by the HTTP client or by us.
var reserved = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Upgrade": true,
	"Proxy-Connection": true, "Proxy-Authorization": true, "Expect": true,
}

func (w *Webhook) setHeader() error {
	w.header = http.Header{"User-Agent": {"Lorikeet/" + w.sender.cfg.Version}}
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
		default:
			w.header.Set(canonical, value)
		}
	}
	w.header.Set("Content-Type", "application/json")
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

// Close does nothing: the connections belong to the Sender.
func (w *Webhook) Close() error { return nil }

// Deliver sends the event and returns nil on a 2xx answer. 408, 425, 429 (with its Retry-After), 401, 403, 407, 5xx and network errors can be
// retried; other answers are permanent after 5 tries.
func (w *Webhook) Deliver(ctx context.Context, e messages.LogEntry) error {
	ctx, cancel := context.WithTimeout(ctx, w.sender.cfg.Timeout)
	defer cancel()
	req, err := w.request(ctx, e)
	if err != nil {
		return err
	}
	res, err := w.sender.client.Do(req)
	if err != nil {
		return requestError(err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 2 {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxResponse))
		return nil
	}
	detail, _ := io.ReadAll(io.LimitReader(res.Body, maxDetail))
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxResponse-maxDetail))
	return &StatusError{Code: res.StatusCode, Detail: printable(detail), retryAfter: retryAfter(res, w.sender.cfg.Now())}
}

func (w *Webhook) request(ctx context.Context, e messages.LogEntry) (*http.Request, error) {
	endpoint := w.urls[e.Type]
	if endpoint == nil {
		return nil, fmt.Errorf("%w: the webhook has no path for %s", messages.ErrPermanent, e.Type)
	}
	target, err := endpoint.expand(e.Event)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrPermanent, err)
	}
	body := e.JSON
	if mask := w.mask[e.Type]; mask != nil {
		if body, err = mask.filter(body); err != nil {
			return nil, fmt.Errorf("%w: filter the event: %w", messages.ErrPermanent, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: the URL of the webhook is not valid", messages.ErrPermanent)
	}
	req.Header = w.header.Clone()
	if w.hook.DownlinkAPIKey != "" && w.sender.cfg.PublicURL != "" {
		down := fmt.Sprintf("%s/api/v3/as/applications/%s/webhooks/%s/devices/%s/down/", w.sender.cfg.PublicURL,
			url.PathEscape(e.Device.ApplicationID), url.PathEscape(w.hook.IDs.WebhookID), url.PathEscape(e.Device.DeviceID))
		req.Header.Set("X-Downlink-Push", down+"push")
		req.Header.Set("X-Downlink-Replace", down+"replace")
	}
	if e.ID != "" { // the same in every try, so that the receiver can drop repeats
		req.Header.Set("X-Event-Id", e.ID)
		req.Header.Set("Idempotency-Key", e.ID)
	}
	return req, nil
}

// requestError tells what went wrong without the URL, which may hold a token.
func requestError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	return fmt.Errorf("request: %w", err)
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Code       int
	Detail     string // the first 1 KiB of the body, printable
	retryAfter time.Duration
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the endpoint answered %d %s", e.Code, http.StatusText(e.Code))
	if e.Code/100 == 3 {
		return text + ": redirects are not followed, set base_url to the final address"
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap is messages.ErrPermanent if the endpoint refuses this event, nil if a later try may succeed. A wrong credential (401, 403, 407)
// refuses every event alike, so these wait until it is put right.
func (e *StatusError) Unwrap() error {
	switch e.Code {
	case 401, 403, 407, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return nil
	}
	if e.Code/100 == 4 {
		return messages.ErrPermanent
	}
	return nil
}

// Tries is how often a refused event is tried.
func (e *StatusError) Tries() int { return refusedTries }

// RetryAfter is what the endpoint wishes, at most 1 h.
func (e *StatusError) RetryAfter() time.Duration { return e.retryAfter }

func retryAfter(res *http.Response, now time.Time) time.Duration {
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	value := strings.TrimSpace(res.Header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

func printable(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, string(b)))
}

// Health is the health_status of a webhook in REST: healthy if no attempt has failed since the last success.
func Health(failedAttempts uint64, lastFailedAt time.Time, lastError string) json.RawMessage {
	if failedAttempts == 0 {
		return json.RawMessage(`{"healthy":{}}`)
	}
	type unhealthy struct {
		FailedAttempts           v3.Uint64        `json:"failed_attempts"`
		LastFailedAttemptAt      time.Time        `json:"last_failed_attempt_at"`
		LastFailedAttemptDetails *v3.ErrorDetails `json:"last_failed_attempt_details,omitempty"`
	}
	out, err := json.Marshal(map[string]unhealthy{"unhealthy": {
		FailedAttempts: v3.Uint64(failedAttempts), LastFailedAttemptAt: lastFailedAt.UTC(),
		LastFailedAttemptDetails: &v3.ErrorDetails{Namespace: "lorikeet/webhook", Name: "request", MessageFormat: lastError, Code: 14},
	}})
	if err != nil { // a year past 9999
		return json.RawMessage(`{"unhealthy":{}}`)
	}
	return out
}
