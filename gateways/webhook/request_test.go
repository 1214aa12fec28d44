package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func eventOf(device string, n int) messages.LogEntry {
	e := uplink
	e.Seq, e.Device.DeviceID, e.ID = uint64(n), device, fmt.Sprintf("app1.%s:s1:%d:uplink_message", device, n)
	e.JSON = fmt.Appendf(nil, `{"end_device_ids":{"device_id":%q},"received_at":"2026-01-01T00:00:00Z","uplink_message":{"f_cnt":%d,"f_port":1}}`, device, n)
	return e
}

func TestBatchIsOneArrayWithTheIDsOfItsEvents(t *testing.T) {
	t.Parallel()
	url, got := capture(t)
	s := newTestSender(t, Config{PublicURL: "https://lora.example.com"})
	w := newTestWebhook(t, s, func(h *v3.Webhook) {
		h.BaseURL, h.DownlinkAPIKey, h.SigningSecret = url, "NNSXS.A.B", v3.Secrets{vectorSecret}
		h.Batch = &v3.WebhookBatch{MaxEvents: 10, MaxWait: v3.Duration(2 * time.Second)}
		h.FieldMask = &v3.FieldMask{Paths: []string{"up.uplink_message.f_cnt"}}
	})
	if events, wait := w.Batch(); events != 10 || wait != 2*time.Second {
		t.Errorf("%d events, %v", events, wait)
	}
	entries := []messages.LogEntry{eventOf("dev1", 1), eventOf("dev2", 7), eventOf("dev1", 2)}
	var ids []string
	for range 2 {
		if status, err := w.DeliverBatch(t.Context(), entries); err != nil || status != 200 {
			t.Fatal(status, err)
		}
		r := <-got
		var body []struct {
			EventID string              `json:"event_id"`
			IDs     v3.EndDeviceIDs     `json:"end_device_ids"`
			Uplink  v3.UplinkMessage    `json:"uplink_message"`
			Other   map[string]struct{} `json:"rx_metadata"`
		}
		if err := json.Unmarshal(r.body, &body); err != nil {
			t.Fatalf("%v in %s", err, r.body)
		}
		for i, e := range entries {
			if body[i].EventID != e.ID || body[i].IDs.DeviceID != e.Device.DeviceID || body[i].Uplink.FCnt == 0 || body[i].Uplink.FPort != 0 {
				t.Errorf("event %d: %+v", i, body[i])
			}
		}
		if r.header.Get("X-Event-Count") != "3" || r.header.Get("X-Event-Id") != "" || r.header.Get("X-Downlink-Push") != "" || r.header.Get("X-Downlink-Apikey") == "" {
			t.Errorf("headers %v", r.header)
		}
		if err := verify(vectorSecret, r.header, r.body, time.Now()); err != nil {
			t.Error(err)
		}
		ids = append(ids, r.header.Get("Idempotency-Key"))
	}
	if ids[0] != ids[1] || !strings.HasPrefix(ids[0], "batch_") || batchID(entries[:2]) == ids[0] {
		t.Errorf("ids of a repeated request: %v", ids)
	}
	if _, err := w.DeliverBatch(t.Context(), entries[:1]); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.body[0] != '[' || r.header.Get("X-Downlink-Push") == "" {
		t.Errorf("one event: %s %v", r.body, r.header)
	}
}

func TestEventsOfOneURLShareARequest(t *testing.T) {
	t.Parallel()
	w := newTestWebhook(t, newTestSender(t, Config{}), func(h *v3.Webhook) {
		h.BaseURL, h.UplinkMessage, h.JoinAccept = "https://example.com", &v3.MessagePath{Path: "/up{/devID}"}, &v3.MessagePath{Path: "/join"}
		h.Batch = &v3.WebhookBatch{}
	})
	join := func(device string) messages.LogEntry { e := eventOf(device, 1); e.Type = messages.EventJoin; return e }
	a, b := w.BatchKey(eventOf("a", 1)), w.BatchKey(eventOf("b", 1))
	if a == b || a != w.BatchKey(eventOf("a", 2)) || w.BatchKey(join("a")) != w.BatchKey(join("b")) || w.BatchKey(join("a")) == a {
		t.Errorf("keys %q %q", a, b)
	}
	if events, wait := w.Batch(); events != defaultInABatch || wait != defaultMaxWait {
		t.Errorf("defaults %d %v", events, wait)
	}
}

func TestWrongBatchesAreRefused(t *testing.T) {
	t.Parallel()
	s := newTestSender(t, Config{Encoder: func(b []byte) ([]byte, error) { return b, nil }})
	for _, h := range []v3.Webhook{
		{Batch: &v3.WebhookBatch{MaxEvents: maxBatchEvents + 1}}, {Batch: &v3.WebhookBatch{MaxWait: v3.Duration(time.Hour)}},
		{Batch: &v3.WebhookBatch{MaxWait: -1}}, {Format: "protobuf", Batch: &v3.WebhookBatch{}},
	} {
		h.BaseURL = "https://example.com"
		if err := s.Check(h); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%+v: %v", h.Batch, err)
		}
	}
}

func TestProtobufBody(t *testing.T) {
	t.Parallel()
	url, got := capture(t)
	var asked []string
	fail := false
	s := newTestSender(t, Config{Encoder: func(b []byte) ([]byte, error) {
		asked = append(asked, string(b))
		if fail {
			return nil, errors.New("no such member")
		}
		return []byte{8, 1}, nil
	}})
	w := newTestWebhook(t, s, func(h *v3.Webhook) {
		h.BaseURL, h.Format = url, "protobuf"
		h.FieldMask = &v3.FieldMask{Paths: []string{"up.uplink_message.f_cnt"}}
	})
	if err := w.Deliver(t.Context(), eventOf("dev1", 3)); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if string(r.body) != "\x08\x01" || r.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%q %v", r.body, r.header)
	}
	want := []string{`{"end_device_ids":{"device_id":"dev1"},"received_at":"2026-01-01T00:00:00Z","uplink_message":{"f_cnt":3}}`}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	fail = true
	if err := w.Deliver(t.Context(), eventOf("dev1", 3)); !errors.Is(err, messages.ErrPermanent) {
		t.Errorf("event that has no protobuf form: %v", err)
	}
	if err := newTestSender(t, Config{}).Check(v3.Webhook{BaseURL: "https://example.com", Format: "protobuf"}); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("protobuf without an encoder: %v", err)
	}
}
