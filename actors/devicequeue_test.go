package actors

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/actors/device"
	"lorikeet/messages"
)

func (r *rig) list() []string {
	r.t.Helper()
	items, err := r.devices.ListDownlinks(r.t.Context(), testID)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, item := range items {
		out = append(out, string(item.FRMPayload)+" "+string(item.Status))
	}
	return out
}

func (r *rig) wantQueue(want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.list()); diff != "" {
		r.t.Fatalf("queue: %s", diff)
	}
}

func (r *rig) queue(items ...messages.Downlink) []messages.Downlink {
	r.t.Helper()
	accepted, err := r.devices.QueueDownlinks(r.t.Context(), testID, items, false)
	if err != nil {
		r.t.Fatal(err)
	}
	return accepted
}

func text(s string, ttl time.Duration) messages.Downlink {
	return messages.Downlink{FPort: 1, FRMPayload: []byte(s), TimeToLive: ttl}
}

func TestAnAwakeDeviceTellsWhatExpiresOnTime(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.queue(text("a", time.Minute), text("b", time.Hour), text("c", 0))
		r.queue(text("d", time.Second)) // sooner than what the timer waits for
		time.Sleep(time.Second)
		up := r.wantTypes(messages.EventDownQueued, messages.EventDownQueued, messages.EventDownQueued, messages.EventDownQueued, messages.EventDownFailed)[4]
		if f := up.DownlinkFailed; string(f.Downlink.FRMPayload) != "d" || f.Error.Name != "downlink_expired" || f.Downlink.ID == "" {
			t.Fatalf("%+v %+v", f.Downlink, f.Error)
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if log := r.log(); len(log) != 6 {
			t.Fatalf("%d events", len(log))
		}
		r.wantQueue("b queued", "c queued")
	})
}

// What expires while the device sleeps is found when somebody looks.
func TestASleepingDeviceTellsWhatHasExpiredWhenItWakes(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.queue(text("a", time.Minute), text("b", 0))
		if err := r.router.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		r.wantTypes(messages.EventDownQueued, messages.EventDownQueued)
		r.restart()
		r.wantQueue("b queued")
		r.wantTypes(messages.EventDownQueued, messages.EventDownQueued, messages.EventDownFailed)
	})
}

func TestExpiryWaitsForAStoreThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.queue(text("a", time.Minute))
		r.fail(true)
		time.Sleep(time.Hour)
		r.fail(false)
		r.wantQueue()
		r.wantTypes(messages.EventDownQueued, messages.EventDownFailed)
	})
}

func TestDownlinksAreCancelledByTheIDsOfTheirPush(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		accepted := r.queue(text("a", 0), text("b", 0))
		refused, err := r.devices.CancelDownlinks(t.Context(), testID, []string{accepted[0].ID, "x"})
		if err != nil || len(refused) != 1 || refused["x"] == nil {
			t.Fatalf("%v %v", refused, err)
		}
		up := r.wantTypes(messages.EventDownQueued, messages.EventDownQueued, messages.EventDownFailed)[2]
		if f := up.DownlinkFailed; f.Downlink.ID != accepted[0].ID || f.Error.Name != "downlink_cancelled" {
			t.Fatalf("%+v", f)
		}
		r.wantQueue("b queued")
		if _, err := r.devices.CancelDownlinks(t.Context(), messages.DeviceID{ApplicationID: "app", DeviceID: "other"}, []string{"x"}); messages.CodeOf(err) != messages.CodeNotFound {
			t.Fatal(err)
		}
	})
}

func TestCancelThatComesTwiceHasTheSameAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		accepted := r.queue(text("a", 0))
		cmd := device.CancelDownlinks{Items: []string{accepted[0].ID}, Now: time.Now(), Random: "request"}
		for range 2 {
			if out, err := r.router.Ask(t.Context(), testID, cmd); err != nil || len(out.(map[string]*messages.Error)) != 0 {
				t.Fatalf("%v %v", out, err)
			}
		}
	})
}

// A request is committed in parts, but the queue takes all of it or nothing.
func TestLargeRequestIsTakenWholeOrNotAtAll(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		items := make([]messages.Downlink, device.MaxQueue)
		for i := range items {
			items[i] = text("x", 0)
		}
		r.queue(items[:1200]...)
		if n := len(r.list()); n != 1200 {
			t.Fatalf("%d items", n)
		}
		_, err := r.devices.QueueDownlinks(t.Context(), testID, items[:device.MaxQueue-1199], false)
		if messages.CodeOf(err) != messages.CodeExhausted || refusalName(err) != "downlink_queue_capacity" {
			t.Fatal(err)
		}
		if n := len(r.list()); n != 1200 {
			t.Fatalf("%d items after the refusal", n)
		}
		items[700].FPort = 224
		if _, err := r.devices.QueueDownlinks(t.Context(), testID, items[:800], true); messages.CodeOf(err) != messages.CodeInvalid {
			t.Fatal(err)
		}
		if n := len(r.list()); n != 1200 {
			t.Fatalf("%d items after the invalid request", n)
		}
		items[700].FPort = 1
		if _, err := r.devices.QueueDownlinks(t.Context(), testID, items, true); err != nil {
			t.Fatal(err)
		}
		if n := len(r.list()); n != device.MaxQueue {
			t.Fatalf("%d items", n)
		}
	})
}

func TestErrorSaysHowMuchOfARequestIsQueued(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		items := make([]messages.Downlink, 600)
		for i := range items {
			items[i] = text("x", 0)
		}
		r.failAfter(1)
		_, err := r.devices.QueueDownlinks(t.Context(), testID, items, false)
		if err == nil || !strings.Contains(err.Error(), "first 500 of 600") {
			t.Fatal(err)
		}
		var e *messages.Error
		if !errors.As(err, &e) || e.Code != messages.CodeUnavailable {
			t.Fatalf("%v", err)
		}
		r.fail(false)
		if n := len(r.list()); n != 500 {
			t.Fatalf("%d items", n)
		}
	})
}
