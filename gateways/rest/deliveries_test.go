package rest

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// fakeDeliveries remembers what it was asked.
type fakeDeliveries struct {
	mu    sync.Mutex
	asked []any
	found int
}

func (f *fakeDeliveries) ask(ref messages.IntegrationRef, q any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, ref, q)
}

func (f *fakeDeliveries) took() []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

func (f *fakeDeliveries) IntegrationStatus(_ context.Context, ref messages.IntegrationRef) (messages.DeliveryStatus, error) {
	f.ask(ref, nil)
	return messages.DeliveryStatus{State: "running", Node: "n1", Cursor: 1 << 60, Lag: 3, NextTryAt: at("2026-01-01T00:00:00Z")}, nil
}

func (f *fakeDeliveries) Attempts(_ context.Context, ref messages.IntegrationRef, q messages.AttemptQuery) (messages.AttemptPage, error) {
	f.ask(ref, q)
	return messages.AttemptPage{Attempts: []messages.DeliveryAttempt{{EventID: "e1", DeviceID: "dev1", Outcome: messages.AttemptFailed, StatusCode: 503, Try: 2, Seq: 9}}, Total: 41}, nil
}

func (f *fakeDeliveries) Replay(_ context.Context, ref messages.IntegrationRef, req messages.ReplayRequest) (messages.ReplayResult, error) {
	f.ask(ref, req)
	return messages.ReplayResult{Cursor: 4, Events: 17}, nil
}

func (f *fakeDeliveries) DeadLetters(_ context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (messages.DeadLetterPage, error) {
	f.ask(ref, q)
	return messages.DeadLetterPage{DeadLetters: []messages.DeadLetter{{ID: "l1", EventID: "e1", Seq: 5}}, Total: 1}, nil
}

func (f *fakeDeliveries) Redrive(_ context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (messages.RedriveResult, error) {
	f.ask(ref, q)
	return messages.RedriveResult{Redriven: 2, Gone: 1}, nil
}

func (f *fakeDeliveries) DeleteDeadLetters(_ context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (int, error) {
	f.ask(ref, q)
	return f.found, nil
}

func newDeliveryDoor(t *testing.T) (*door, *fakeDeliveries) {
	t.Helper()
	fake := &fakeDeliveries{}
	d := newHookDoor(t, func(c *Config) { c.Deliveries = fake })
	d.do("PUT", "/as/webhooks/app1/wh1", hook).is(200)
	d.do("PUT", "/as/pubsub/app1/ps1", `{"pubsub":{"base_topic":"t","nats":{"server_url":"nats://example.com"}}}`).is(200)
	return d, fake
}

// Webhooks and pub/sub integrations have the same paths.
func TestDeliveriesOfBothKinds(t *testing.T) {
	t.Parallel()
	d, fake := newDeliveryDoor(t)
	for base, ref := range map[string]messages.IntegrationRef{
		"/as/webhooks/app1/wh1": {Kind: "webhook", ApplicationID: "app1", ID: "wh1"}, "/as/pubsub/app1/ps1": {Kind: "pubsub", ApplicationID: "app1", ID: "ps1"},
	} {
		fake.took()
		d.do("GET", base+"/status", nil).is(200).has("status.state", `"running"`).has("status.cursor", `"1152921504606846976"`).has("status.lag", `"3"`).
			has("status.next_try_at", `"2026-01-01T00:00:00Z"`).has("status.node", `"n1"`)
		got := d.do("GET", base+"/deliveries?outcome=failed&device_id=dev1&event_id=e1&limit=20&page=3", nil).is(200)
		if got.Header.Get("X-Total-Count") != "41" || !strings.Contains(got.Body, `"status_code":503`) || !strings.Contains(got.Body, `"seq":"9"`) {
			t.Errorf("%v %s", got.Header, got.Body)
		}
		d.do("POST", base+"/replay", `{"from":"2026-01-01T00:00:00Z"}`).is(200).has("events", `"17"`).has("cursor", `"4"`)
		d.do("POST", base+"/replay", `{"event_id":"e1"}`).is(200)
		d.do("GET", base+"/dead-letters?device_id=dev1&type=join_accept&after=2026-01-01T00:00:00Z", nil).is(200).has("total", "1")
		d.do("POST", base+"/dead-letters/redrive", `{"ids":["l1","l2"]}`).is(200).has("redriven", "2").has("gone", "1")
		d.do("POST", base+"/dead-letters/redrive", `{"all":true}`).is(200)
		d.do("DELETE", base+"/dead-letters?before=2026-01-01T00:00:00Z", nil).is(200).has("deleted", "0")
		d.do("DELETE", base+"/dead-letters?all=true", nil).is(200)
		from := at("2026-01-01T00:00:00Z")
		want := []any{
			ref, nil,
			ref, messages.AttemptQuery{Outcome: "failed", DeviceID: "dev1", EventID: "e1", Skip: 40, Limit: 20},
			ref, messages.ReplayRequest{From: from},
			ref, messages.ReplayRequest{EventID: "e1"},
			ref, messages.DeadLetterQuery{DeviceID: "dev1", Type: messages.EventJoin, After: from, Limit: defaultLimit},
			ref, messages.DeadLetterQuery{IDs: []string{"l1", "l2"}},
			ref, messages.DeadLetterQuery{},
			ref, messages.DeadLetterQuery{Before: from},
			ref, messages.DeadLetterQuery{},
		}
		if diff := cmp.Diff(want, fake.took()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestDeliveriesRefuseWhatIsNotClear(t *testing.T) {
	t.Parallel()
	d, fake := newDeliveryDoor(t)
	const base = "/as/webhooks/app1/wh1"
	fake.took()
	for path, name := range map[string]string{
		"/deliveries?outcome=late": "invalid_outcome", "/deliveries?limit=500": "invalid_limit", "/dead-letters?type=up": "invalid_type",
		"/dead-letters?after=yesterday": "invalid_after", "/dead-letters?page=0x": "invalid_page",
	} {
		d.do("GET", base+path, nil).fails(400, name)
	}
	for body, name := range map[string]string{
		`{}`: "invalid_replay", `{"from":"2026-01-01T00:00:00Z","event_id":"e"}`: "invalid_replay", `{"from":"yesterday"}`: "decode_body", ``: "empty_body",
	} {
		d.do("POST", base+"/replay", body).fails(400, name)
	}
	d.do("POST", base+"/dead-letters/redrive", `{}`).fails(400, "no_selection")
	d.do("POST", base+"/dead-letters/redrive", `{"type":"up"}`).fails(400, "invalid_type")
	d.do("DELETE", base+"/dead-letters", nil).fails(400, "no_selection")
	if asked := fake.took(); len(asked) > 0 {
		t.Errorf("asked for %v", asked)
	}
	d.do("DELETE", base+"/dead-letters/0018900000000000-00a1b2c3d4e5", nil).fails(404, "dead_letter_not_found")
	fake.found = 1
	d.do("DELETE", base+"/dead-letters/0018900000000000-00a1b2c3d4e5", nil).is(200)
	d.do("GET", "/as/webhooks/app1/wh9/status", nil).fails(404, "webhook_not_found")
	d.do("GET", "/as/pubsub/app1/wh1/status", nil).fails(404, "pubsub_not_found")
	newDoorWithoutDeliveries := newHookDoor(t)
	newDoorWithoutDeliveries.do("PUT", base, hook).is(200).door.do("GET", base+"/status", nil).fails(503, "integrations_unavailable")
}

func TestDeliveryStatusOfAWebhookIsAskedForOnlyIfWanted(t *testing.T) {
	t.Parallel()
	d, fake := newDeliveryDoor(t)
	fake.took()
	d.do("GET", "/as/webhooks/app1/wh1?field_mask=base_url", nil).is(200).has("delivery_status", "")
	if asked := fake.took(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
	d.do("GET", "/as/webhooks/app1/wh1?field_mask=delivery_status", nil).is(200).has("delivery_status.state", `"running"`).has("delivery_status.lag", `"3"`)
	if got := d.do("GET", "/as/webhooks/app1?field_mask=delivery_status", nil).is(200); !strings.Contains(got.Body, `"lag":"3"`) {
		t.Error(got.Body)
	}
	d.do("PUT", "/as/webhooks/app1/wh1", `{"webhook":{"delivery_status":{"state":"open"},"health_status":{"healthy":{}}}}`).is(200)
	if hook, err := d.registry.Webhook(t.Context(), "app1", "wh1"); err != nil || hook.DeliveryStatus != nil || hook.HealthStatus != nil {
		t.Errorf("stored %s %s, %v", hook.DeliveryStatus, hook.HealthStatus, err)
	}
}

func TestWebhookTakesDownlinksInItsFormat(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t, func(c *Config) {
		c.DownlinksFromProto = func(b []byte) ([]byte, error) {
			if string(b) != "\x0a\x02" {
				return nil, errors.New("field 1: truncated")
			}
			return []byte(`{"downlinks":[{"f_port":9}]}`), nil
		}
	})
	d.do("PUT", "/as/webhooks/app1/wh1", strings.Replace(hook, `"format":"json"`, `"format":"protobuf"`, 1)).is(200)
	d.do("GET", "/as/webhook-formats", nil).is(200).has("formats.protobuf", `"Protocol Buffers"`)
	push := func(contentType, body string) reply {
		req := httptest.NewRequest("POST", prefix+"/as/applications/app1/webhooks/wh1/devices/abp1/down/push", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+d.key)
		req.Header.Set("Content-Type", contentType)
		return d.send(req)
	}
	push("application/octet-stream", "\x0a\x02").is(200)
	push("", "\x0a\x02").is(200)
	push("application/json; charset=utf-8", `{"downlinks":[{"f_port":3}]}`).is(200)
	push("application/octet-stream", `{"downlinks":[]}`).fails(400, "decode_body")
	d.do("GET", "/as/applications/app1/devices/abp1/down", nil).has("downlinks", `[{"f_port":9},{"f_port":9},{"f_port":3}]`)
}
