package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var uplink = messages.LogEntry{Seq: 7, Event: messages.Event{
	ID: "app1.dev1:s1:3:uplink_message", Device: messages.DeviceID{ApplicationID: "app1", DeviceID: "dev1"},
	DevEUI: messages.EUI64{0x70, 0xB3, 0xD5, 0, 0, 0, 0, 1}, DevAddr: messages.DevAddr{0x26, 0x01, 0x02, 0x03}, Type: messages.EventUplink,
	JSON: []byte(`{"end_device_ids":{"device_id":"dev1"},"correlation_ids":["a"],"received_at":"2026-01-01T00:00:00Z","uplink_message":{"f_port":1,"f_cnt":3,"decoded_payload":{"t":21.50,"h":4e1},"rx_metadata":[{"rssi":-30}],"settings":{"data_rate":{"lora":{"bandwidth":125000}},"frequency":"868100000"}}}`),
}}

func newTestSender(t *testing.T, cfg Config) *Sender {
	t.Helper()
	if cfg.Version == "" {
		cfg.Version = "1.2.3"
	}
	s, err := NewSender(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newTestWebhook(t *testing.T, s *Sender, change func(*v3.Webhook)) *Webhook {
	t.Helper()
	hook := v3.Webhook{
		IDs:     v3.WebhookIDs{ApplicationIDs: v3.ApplicationIDs{ApplicationID: "app1"}, WebhookID: "wh1"},
		BaseURL: "http://127.0.0.1:1", Format: "json", UplinkMessage: &v3.MessagePath{},
	}
	change(&hook)
	w, err := s.New(hook)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestRequestIsThatOfTheThingsStack(t *testing.T) {
	t.Parallel()
	type received struct {
		Method, URI string
		Header      map[string]string
		Body        string
	}
	got := make(chan received, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := map[string]string{}
		for name := range r.Header {
			h[name] = r.Header.Get(name)
		}
		got <- received{Method: r.Method, URI: r.RequestURI, Header: h, Body: string(body)}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	s := newTestSender(t, Config{PublicURL: "https://lora.example.com:8885/"})
	w := newTestWebhook(t, s, func(h *v3.Webhook) {
		h.BaseURL, h.UplinkMessage.Path = server.URL+"/hooks{/appID}?k=1", "/up{/devID}{?devEUI}"
		h.Headers = map[string]string{"authorization": "Bearer abc", "User-Agent": "custom"}
		h.DownlinkAPIKey = "NNSXS.ID.SECRET"
	})
	if err := w.Deliver(t.Context(), uplink); err != nil {
		t.Fatal(err)
	}
	want := received{
		Method: "POST", URI: "/hooks/app1/up/dev1?k=1&devEUI=70B3D50000000001", Body: string(uplink.JSON),
		Header: map[string]string{
			"Accept-Encoding": "gzip", "Authorization": "Bearer abc", "Content-Length": "286", "Content-Type": "application/json", "User-Agent": "custom",
			"X-Downlink-Apikey": "NNSXS.ID.SECRET", "X-Tts-Domain": "lora.example.com",
			"X-Downlink-Push":    "https://lora.example.com:8885/api/v3/as/applications/app1/webhooks/wh1/devices/dev1/down/push",
			"X-Downlink-Replace": "https://lora.example.com:8885/api/v3/as/applications/app1/webhooks/wh1/devices/dev1/down/replace",
			"X-Event-Id":         uplink.ID, "Idempotency-Key": uplink.ID,
		},
	}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersDecideAboutRetries(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		code       int
		retryAfter string
		ok         bool
		permanent  bool
		wait       time.Duration
	}{
		{code: 200, ok: true}, {code: 202, ok: true}, {code: 204, ok: true},
		{code: 302}, {code: 307}, {code: 401}, {code: 403}, {code: 407}, {code: 408}, {code: 421}, {code: 425}, {code: 500}, {code: 502}, {code: 504},
		{code: 400, permanent: true}, {code: 404, permanent: true}, {code: 410, permanent: true, wait: time.Hour}, {code: 413, permanent: true}, {code: 422, permanent: true},
		{code: 429, retryAfter: "120", wait: 2 * time.Minute}, {code: 503, retryAfter: "99999999", wait: time.Hour},
		{code: 429, retryAfter: "99999999999999999999", wait: time.Hour}, {code: 429, retryAfter: "-5"}, {code: 429, retryAfter: "soon"}, {code: 429, retryAfter: "Thu, 01 Jan 2026 00:00:30 GMT", wait: 30 * time.Second},
		{code: 400, retryAfter: "120", permanent: true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.retryAfter != "" {
				w.Header().Set("Retry-After", c.retryAfter)
			}
			w.WriteHeader(c.code)
			_, _ = io.WriteString(w, "the detail\x00\n")
		}))
		s := newTestSender(t, Config{Now: func() time.Time { return now }})
		err := newTestWebhook(t, s, func(h *v3.Webhook) { h.BaseURL = server.URL + "/?token=secret" }).Deliver(t.Context(), uplink)
		server.Close()
		if c.ok {
			if err != nil {
				t.Errorf("%d: %v", c.code, err)
			}
			continue
		}
		var status *StatusError
		if !errors.As(err, &status) {
			t.Errorf("%d: %v", c.code, err)
			continue
		}
		if got := errors.Is(err, messages.ErrPermanent); got != c.permanent || status.RetryAfter() != c.wait || status.Tries() != 5 {
			t.Errorf("%d: permanent %v, wait %v, want %v, %v", c.code, got, status.RetryAfter(), c.permanent, c.wait)
		}
		if want := c.code == 404 || c.code == 410; status.OfEndpoint() != want {
			t.Errorf("%d: of the endpoint: %v, want %v", c.code, status.OfEndpoint(), want)
		}
		if c.code/100 != 3 && c.code != 410 && !strings.HasSuffix(err.Error(), ": the detail") {
			t.Errorf("%d: error %q", c.code, err)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	followed := make(chan struct{}, 1)
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed <- struct{}{} }))
	defer target.Close()
	server := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	err := newTestWebhook(t, newTestSender(t, Config{}), func(h *v3.Webhook) { h.BaseURL = server.URL }).Deliver(t.Context(), uplink)
	if err == nil || !strings.Contains(err.Error(), "redirects are not followed") || errors.Is(err, messages.ErrPermanent) {
		t.Errorf("error %v", err)
	}
	if len(followed) > 0 {
		t.Error("the redirect was followed")
	}
}

func TestEndpointThatDripsIsCutOff(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	defer server.Close()
	defer close(release)
	s := newTestSender(t, Config{Timeout: 50 * time.Millisecond})
	err := newTestWebhook(t, s, func(h *v3.Webhook) { h.BaseURL = server.URL }).Deliver(t.Context(), uplink)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, messages.ErrPermanent) {
		t.Errorf("error %v", err)
	}
}

func TestHugeAnswerIsNotRead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		for chunk := []byte(strings.Repeat("x", 1<<20)); ; {
			if _, err := w.Write(chunk); err != nil {
				return // the client has gone
			}
		}
	}))
	defer server.Close()
	err := newTestWebhook(t, newTestSender(t, Config{}), func(h *v3.Webhook) { h.BaseURL = server.URL }).Deliver(t.Context(), uplink)
	if err == nil || len(err.Error()) > 1200 {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
}

func TestErrorsDoNotShowTheURL(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close() // nothing listens there now
	w := newTestWebhook(t, newTestSender(t, Config{}), func(h *v3.Webhook) {
		h.BaseURL = strings.Replace(server.URL, "//", "//user:hunter2@", 1) + "/?token=hunter2"
	})
	err := w.Deliver(t.Context(), uplink)
	if err == nil || strings.Contains(err.Error(), "hunter2") || errors.Is(err, messages.ErrPermanent) {
		t.Errorf("error %v", err)
	}
}

func TestDeniedAddressIsNotDialled(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request arrived") }))
	defer server.Close()
	s := newTestSender(t, Config{Guard: gateways.NewDialGuard(true, nil)})
	err := newTestWebhook(t, s, func(h *v3.Webhook) { h.BaseURL = server.URL }).Deliver(t.Context(), uplink)
	if err == nil || !strings.Contains(err.Error(), "not allowed for integrations") {
		t.Errorf("error %v", err)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ base, path, want string }{
		{"https://x/lorahooks{/appID}", "/up{/devID}", "https://x/lorahooks/app1/up/dev1"},
		{"https://x", "", "https://x"},
		{"https://x/", "", "https://x/"},
		{"https://x/a/", "/b/", "https://x/a/b/"},
		{"https://x/a", "b", "https://x/a/b"},
		{"https://x/a?t=1", "/up?u=2", "https://x/a/up?t=1&u=2"},
		{"https://x/a", "?u=2", "https://x/a?u=2"},
		{"https://x/a", "/", "https://x/a/"},
		{"https://x/a%2Fb", "/c%20d", "https://x/a%2Fb/c%20d"},
		{"https://{devID}.x/", "{?devEUI,joinEUI,appEUI,devAddr}", "https://dev1.x/?devEUI=70B3D50000000001&joinEUI=0000000000000000&appEUI=0000000000000000&devAddr=26010203"},
		{"https://x{/applicationID,deviceID}", "{/nothing}", "https://x/app1/dev1"},
		{"https://x/a#frag", "/b", "https://x/a/b"},
	} {
		e, err := newEndpoint(c.base, c.path)
		if err != nil {
			t.Errorf("%s + %s: %v", c.base, c.path, err)
			continue
		}
		if got, err := e.expand(uplink.Event); err != nil || got != c.want {
			t.Errorf("%s + %s = %s (%v), want %s", c.base, c.path, got, err, c.want)
		}
	}
	for _, c := range []struct{ base, path string }{
		{"", ""}, {"example.com", ""}, {"ftp://x", ""}, {"file:///etc/passwd", ""}, {"https://", ""}, {"https://x{", ""}, {"https://x", "{"},
		{"https://x", "https://y/"}, {"https://x:port/", ""}, {"https://x/\n", ""}, {"https://x/" + strings.Repeat("a", 9000), ""},
	} {
		if _, err := newEndpoint(c.base, c.path); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%q + %q: error %v", c.base, c.path, err)
		}
	}
}

func TestFieldMask(t *testing.T) {
	t.Parallel()
	const ids = `{"end_device_ids":{"device_id":"dev1"},`
	const at = `"received_at":"2026-01-01T00:00:00Z"`
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{"up.uplink_message.decoded_payload"}, ids + at + `,"uplink_message":{"decoded_payload":{"t":21.50,"h":4e1}}}`},
		{[]string{"up.uplink_message.decoded_payload.t", "up.uplink_message.f_port"}, ids + at + `,"uplink_message":{"f_port":1,"decoded_payload":{"t":21.50}}}`},
		{[]string{"uplink_message.f_cnt", "correlation_ids"}, ids + `"correlation_ids":["a"],` + at + `,"uplink_message":{"f_cnt":3}}`},
		{[]string{"up.uplink_message.rx_metadata.rssi"}, ids + at + `,"uplink_message":{"rx_metadata":[{"rssi":-30}]}}`},
		{[]string{"up.uplink_message.f_cnt", "up.uplink_message", "up.uplink_message.f_port"}, strings.Replace(string(uplink.JSON), `"correlation_ids":["a"],`, "", 1)},
		{[]string{"up.uplink_message.nothing"}, ids + at + `,"uplink_message":{}}`},
		{[]string{"up.join_accept.session_key_id"}, string(uplink.JSON)},
		{nil, string(uplink.JSON)},
	} {
		got := uplink.JSON
		if m := newMask(messages.EventUplink, c.paths); m != nil {
			var err error
			if got, err = m.filter(got); err != nil {
				t.Errorf("%v: %v", c.paths, err)
			}
		}
		if diff := cmp.Diff(c.want, string(got)); diff != "" {
			t.Errorf("%v: %s", c.paths, diff)
		}
	}
}

func TestBadHeadersAreRefused(t *testing.T) {
	t.Parallel()
	s := newTestSender(t, Config{})
	for _, h := range []map[string]string{
		{"Host": "x"}, {"content-length": "1"}, {"A B": "x"}, {"": "x"}, {"X": "a\r\nY: b"}, {strings.Repeat("a", 65): "x"}, {"X": strings.Repeat("a", 5000)}, {"Transfer-Encoding": "chunked"},
		{"X-Key": "a", "x-key": "b"}, {"User-Agent": "a", "user-agent": "b"},
	} {
		if err := s.Check(v3.Webhook{BaseURL: "https://x", Headers: h}); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%v: error %v", h, err)
		}
	}
	if err := s.Check(v3.Webhook{BaseURL: "https://x", Format: "protobuf"}); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("format: %v", err)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	if got := string(Health(messages.DeliveryStatus{LastError: "old"})); got != `{"healthy":{}}` {
		t.Error(got)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status messages.DeliveryStatus
		want   string
	}{
		{messages.DeliveryStatus{FailedAttempts: 3, LastFailedAt: &at, LastError: "no answer in time"}, `"failed_attempts":"3","last_failed_attempt_at":"2026-01-01T00:00:00Z",` +
			`"last_failed_attempt_details":{"namespace":"pkg/lorikeet/webhook","name":"request","message_format":"no answer in time","code":14}`},
		{messages.DeliveryStatus{FailedAttempts: 1, LastFailedAt: &at, LastError: "the endpoint answered 500", LastStatus: 500}, `"failed_attempts":"1","last_failed_attempt_at":"2026-01-01T00:00:00Z",` +
			`"last_failed_attempt_details":{"namespace":"pkg/lorikeet/webhook","name":"response","message_format":"the endpoint answered 500","attributes":{"status_code":500},"code":14}`},
	} {
		if diff := cmp.Diff(`{"unhealthy":{`+c.want+`}}`, string(Health(c.status))); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzURLTemplate(f *testing.F) {
	f.Add("https://x/lorahooks{/appID}", "/up{/devID}")
	f.Add("http://{devID}.x/?a=1", "?b={devEUI}")
	f.Add("{+devID}", "%")
	f.Add("https://[::1", "..//../{/x*}")
	f.Fuzz(func(t *testing.T, base, path string) {
		e, err := newEndpoint(base, path)
		if err != nil {
			return
		}
		target, err := e.expand(uplink.Event)
		if err != nil {
			return
		}
		req, err := http.NewRequest(http.MethodPost, target, nil)
		if err != nil {
			t.Fatalf("%q + %q gives %q: %v", base, path, target, err)
		}
		if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Hostname() == "" {
			t.Fatalf("%q + %q gives %q", base, path, target)
		}
	})
}

func FuzzFieldMask(f *testing.F) {
	f.Add("up.uplink_message.decoded_payload,up.uplink_message.f_port", string(uplink.JSON))
	f.Add("uplink_message.a.b.c", `{"uplink_message":{"a":{"b":[1,{"c":2}]}},"received_at":1}`)
	f.Fuzz(func(t *testing.T, paths, in string) {
		if !json.Valid([]byte(in)) {
			return
		}
		m := newMask(messages.EventUplink, strings.Split(paths, ","))
		if m == nil {
			return
		}
		out, err := m.filter([]byte(in))
		if err != nil {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q of %q gives %q", paths, in, out)
		}
	})
}
