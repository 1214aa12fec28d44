package gateways

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"lorikeet/messages"
)

func repeatingDoor(q *queues) *DownlinkDoor {
	d := newDoor(q)
	d.SenderRepeats = true
	return d
}

var anyTopic = DownlinkTopic{Filter: "push", level: -1}

func TestARequestIsCarriedOutOnceTheServerIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queues{}
		for range 30 {
			q.errs = append(q.errs, messages.Errorf(messages.CodeUnavailable, "unavailable", "later"))
		}
		q.errs = append(q.errs, errors.New("internal"), errors.New("internal"))
		if err := repeatingDoor(q).HandleUntilSettled(t.Context(), anyTopic, "push", []byte(goodRequest)); err != nil {
			t.Fatal(err)
		}
		if keyOf(q.pushed) != "app1.dev1" || len(q.reasons) != 0 || len(q.errs) != 0 {
			t.Errorf("pushed %v, reported %v, %d errors left", q.pushed, q.reasons, len(q.errs))
		}
	})
}

func TestARequestThatTheServerFailsAtIsGivenUpAndReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			topic DownlinkTopic
			on    string
		}{{anyTopic, "push"}, {DownlinkTopic{Filter: "+/push", level: 0, separator: "/"}, "dev1/push"}} {
			q := &queues{}
			for range 10 {
				q.errs = append(q.errs, errors.New("internal"))
			}
			if err := repeatingDoor(q).HandleUntilSettled(t.Context(), c.topic, c.on, []byte(goodRequest)); err != nil {
				t.Fatal(err)
			}
			if keyOf(q.failed) != "app1.dev1" || len(q.reasons) != 1 || len(q.errs) != 10-internalDownlinks {
				t.Errorf("%s: reported %v, %d errors left", c.on, q.reasons, len(q.errs))
			}
		}
	})
}

func TestARefusedRequestIsSettled(t *testing.T) {
	q := &queues{}
	if err := repeatingDoor(q).HandleUntilSettled(t.Context(), anyTopic, "push", []byte(`{"end_device_ids":{"device_id":"dev1"},"downlinks":7}`)); err != nil || len(q.reasons) != 1 {
		t.Errorf("%v, reported %v", err, q.reasons)
	}
}

func TestARequestIsLeftToItsSenderAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queues{}
		for range 1000 {
			q.errs = append(q.errs, messages.Errorf(messages.CodeUnavailable, "unavailable", "later"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := repeatingDoor(q).HandleUntilSettled(ctx, anyTopic, "push", []byte(goodRequest)); !errors.Is(err, context.DeadlineExceeded) || len(q.reasons) != 0 {
			t.Errorf("%v, reported %v", err, q.reasons)
		}
	})
}
