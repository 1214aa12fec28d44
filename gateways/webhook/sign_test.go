package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Of the reference implementation of Standard Webhooks.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	vectorTime      = 1614265330
)

func TestSignatureOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	s, err := newSigner([]string{vectorSecret})
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	s.sign(h, vectorID, time.Unix(vectorTime, 999), []byte(vectorBody))
	want := map[string]string{"webhook-id": vectorID, "webhook-timestamp": "1614265330", "webhook-signature": vectorSignature}
	for name, value := range want {
		if got := h.Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
}

// verify is the receiver's side, written from the specification.
func verify(secret string, h http.Header, body []byte, now time.Time) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	var at int64
	if _, err := fmt.Sscan(h.Get("webhook-timestamp"), &at); err != nil {
		return err
	}
	if age := now.Sub(time.Unix(at, 0)); age > 5*time.Minute || age < -5*time.Minute {
		return fmt.Errorf("%v old", age)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", h.Get("webhook-id"), at, body)
	for _, signature := range strings.Fields(h.Get("webhook-signature")) {
		if signature == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			return nil
		}
	}
	return fmt.Errorf("no signature of %s fits", secret)
}

// capture is a server that keeps the requests it gets.
type captured struct {
	header http.Header
	uri    string
	body   []byte
}

func capture(t *testing.T) (url string, got chan captured) {
	t.Helper()
	got = make(chan captured, 16)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- captured{header: r.Header, uri: r.RequestURI, body: body}
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

func TestRequestsAreSignedWithEverySecret(t *testing.T) {
	t.Parallel()
	url, got := capture(t)
	now := time.Now()
	s := newTestSender(t, Config{Now: func() time.Time { return now }})
	old, fresh := "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 24)), vectorSecret
	w := newTestWebhook(t, s, func(h *v3.Webhook) { h.BaseURL, h.SigningSecret = url, v3.Secrets{fresh, old} })
	for range 2 { // a retry has the same id
		if err := w.Deliver(t.Context(), uplink); err != nil {
			t.Fatal(err)
		}
		r := <-got
		for _, secret := range []string{old, fresh} {
			if err := verify(secret, r.header, r.body, now.Add(time.Minute)); err != nil {
				t.Error(err)
			}
		}
		if verify("whsec_"+base64.StdEncoding.EncodeToString([]byte("another secret of 24 bytes")), r.header, r.body, now) == nil || verify(old, r.header, append(r.body, ' '), now) == nil {
			t.Error("a wrong secret or a changed body is accepted")
		}
		if id := r.header.Get("webhook-id"); id != uplink.ID || r.header.Get("Idempotency-Key") != id {
			t.Errorf("webhook-id %q", id)
		}
	}
	plain := newTestWebhook(t, s, func(h *v3.Webhook) { h.BaseURL = url })
	if err := plain.Deliver(t.Context(), uplink); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.header.Get("webhook-signature") != "" || r.header.Get("webhook-id") != "" {
		t.Errorf("signed without a secret: %v", r.header)
	}
}

func TestWrongSigningSecretsAreRefusedAndNotQuoted(t *testing.T) {
	t.Parallel()
	long := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65))
	for _, secrets := range []v3.Secrets{
		{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, {"whsec_"}, {"whsec_AAAA"}, {"whsec_!!!!"}, {long}, {""}, {vectorSecret, "whsec_hunter2"},
		{vectorSecret, vectorSecret, vectorSecret, vectorSecret},
	} {
		err := newTestSender(t, Config{}).Check(v3.Webhook{BaseURL: "https://example.com", SigningSecret: secrets})
		if messages.CodeOf(err) != messages.CodeInvalid || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%d secrets: %v", len(secrets), err)
		}
	}
}
