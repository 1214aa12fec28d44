package gateways

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// queues records what reaches the devices. A set error is given to the next calls, one each.
type queues struct {
	pushed, replaced, failed map[string][]messages.Downlink
	reasons                  []string
	errs                     []error
}

func (q *queues) next() error {
	if len(q.errs) == 0 {
		return nil
	}
	err := q.errs[0]
	q.errs = q.errs[1:]
	return err
}

func (q *queues) PushDownlinks(_ context.Context, d messages.DeviceID, items []messages.Downlink) error {
	if err := q.next(); err != nil {
		return err
	}
	q.pushed = map[string][]messages.Downlink{d.UID(): items}
	return nil
}

func (q *queues) ReplaceDownlinks(_ context.Context, d messages.DeviceID, items []messages.Downlink) error {
	if err := q.next(); err != nil {
		return err
	}
	q.replaced = map[string][]messages.Downlink{d.UID(): items}
	return nil
}

func (q *queues) FailDownlinks(_ context.Context, d messages.DeviceID, items []messages.Downlink, reason error) error {
	q.failed = map[string][]messages.Downlink{d.UID(): items}
	q.reasons = append(q.reasons, reason.Error())
	return nil
}

func newDoor(q *queues) *DownlinkDoor {
	return &DownlinkDoor{Application: "app1", Provider: "nats", Downlinks: q, Metrics: NewDownlinkMetrics(nil), Logger: slog.New(slog.DiscardHandler)}
}

const goodRequest = `{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app1"}},"downlinks":[{"f_port":1,"frm_payload":"AQI=","correlation_ids":["mine"]}]}`

func TestRequestReachesItsDevice(t *testing.T) {
	t.Parallel()
	want := map[string][]messages.Downlink{"app1.dev1": {{FPort: 1, FRMPayload: []byte{1, 2}, CorrelationIDs: []string{"mine"}}}}
	q := &queues{}
	if err := newDoor(q).Handle(t.Context(), false, []byte(goodRequest)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, q.pushed); diff != "" || q.replaced != nil {
		t.Error(diff, q.replaced)
	}
	q = &queues{}
	if err := newDoor(q).Handle(t.Context(), true, []byte(`{"endDeviceIds":{"deviceId":"dev1"},"downlinks":[]}`)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]messages.Downlink{"app1.dev1": {}}, q.replaced); diff != "" {
		t.Error(diff)
	}
}

func TestBadRequestIsRefusedAndReported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body, error string
		reported          bool
	}{
		{"no JSON", `{`, "no_device_id", false},
		{"empty", ``, "no_device_id", false},
		{"no device", `{"downlinks":[]}`, "no_device_id", false},
		{"wildcard device", `{"end_device_ids":{"device_id":"*"},"downlinks":[]}`, "no_device_id", false},
		{"other application", `{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app2"}},"downlinks":[{"f_port":1}]}`, "application_mismatch", false},
		{"no downlinks", `{"end_device_ids":{"device_id":"dev1"}}`, "no_downlinks", true},
		{"bad port", `{"end_device_ids":{"device_id":"dev1"},"downlinks":[{"f_port":224,"correlation_ids":["mine"]}]}`, "validate_body", true},
		{"bad payload", `{"end_device_ids":{"device_id":"dev1"},"downlinks":[{"f_port":1,"frm_payload":"?","correlation_ids":["mine"]}]}`, "decode_body", true},
		{"too large", string(make([]byte, MaxDownlinkRequest+1)), "request_too_large", false},
	} {
		q := &queues{}
		err := newDoor(q).Handle(t.Context(), false, []byte(c.body))
		var e *messages.Error
		if !errors.As(err, &e) || e.Name != c.error {
			t.Errorf("%s: error %v, want %s", c.name, err, c.error)
		}
		if (q.failed["app1.dev1"] != nil) != c.reported || q.pushed != nil {
			t.Errorf("%s: reported %v, pushed %v", c.name, q.failed, q.pushed)
		}
		if !json.Valid(DownlinkReply(err)) {
			t.Errorf("%s: reply %s", c.name, DownlinkReply(err))
		}
	}
}

func TestRefusedPushIsReported(t *testing.T) {
	t.Parallel()
	q := &queues{errs: []error{messages.NotFound("device_not_found", "no such device")}}
	if err := newDoor(q).Handle(t.Context(), false, []byte(goodRequest)); messages.CodeOf(err) != messages.CodeNotFound {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{"no such device"}, q.reasons); diff != "" || q.failed["app1.dev1"][0].CorrelationIDs[0] != "mine" {
		t.Error(diff, q.failed)
	}
}

func TestPushIsTriedAgainWhileTheServerIsNotAvailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		unavailable := messages.Errorf(messages.CodeUnavailable, "unavailable", "try again")
		q := &queues{errs: []error{unavailable, unavailable, unavailable}}
		if err := newDoor(q).Handle(t.Context(), false, []byte(goodRequest)); err != nil || q.pushed == nil {
			t.Errorf("error %v, pushed %v", err, q.pushed)
		}
		q = &queues{errs: make([]error, 1000)}
		for i := range q.errs {
			q.errs[i] = unavailable
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := newDoor(q).Handle(ctx, false, []byte(goodRequest)); messages.CodeOf(err) != messages.CodeUnavailable || q.failed == nil {
			t.Errorf("error %v, failed %v", err, q.failed)
		}
	})
}

func FuzzDownlinkRequest(f *testing.F) {
	f.Add([]byte(goodRequest))
	f.Add([]byte(`{"endDeviceIds":{"deviceId":"dev1"},"downlinks":[{"fPort":1,"classBC":{}}]}`))
	f.Add([]byte(`{"end_device_ids":null,"downlinks":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q := &queues{}
		err := newDoor(q).Handle(t.Context(), false, body)
		for uid := range q.pushed {
			if id, idErr := messages.ParseUID(uid); idErr != nil || id.ApplicationID != "app1" {
				t.Fatalf("pushed to %q", uid)
			}
		}
		if (err == nil) != (q.pushed != nil) {
			t.Fatalf("error %v, pushed %v", err, q.pushed)
		}
		if !json.Valid(DownlinkReply(err)) {
			t.Fatalf("reply %s", DownlinkReply(err))
		}
	})
}

func TestRequestThatItsSenderRepeatsIsNotReportedWhileItMaySucceed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev1 := messages.DeviceID{ApplicationID: "app1", DeviceID: "dev1"}
		for name, failure := range map[string]error{"unavailable": messages.Errorf(messages.CodeUnavailable, "unavailable", "try again"), "internal": errors.New("broken")} {
			q := &queues{errs: []error{failure, failure, failure, failure, failure, failure, failure, failure}}
			door := newDoor(q)
			door.SenderRepeats = true
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if err := door.HandleDevice(ctx, dev1, false, []byte(goodRequest)); err == nil || Settled(err) || q.failed != nil {
				t.Errorf("%s: error %v, failed %v", name, err, q.failed)
			}
		}
		q := &queues{errs: []error{messages.NotFound("device_not_found", "no such device")}}
		door := newDoor(q)
		door.SenderRepeats = true
		if err := door.HandleDevice(t.Context(), dev1, false, []byte(goodRequest)); !Settled(err) || q.failed["app1.dev1"] == nil {
			t.Errorf("error %v, failed %v", err, q.failed)
		}
	})
}
