package device

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func wantError(t *testing.T, err error, name string) {
	t.Helper()
	var e *messages.Error
	if !errors.As(err, &e) || e.Name != name {
		t.Fatalf("got %v, want %s", err, name)
	}
}

func wantFailed(t *testing.T, e Event, id, name string) {
	t.Helper()
	if e.Type != messages.EventDownFailed || e.Downlink.ID != id || e.Err == nil || e.Err.Name != name {
		t.Fatalf("got %s of %+v: %v, want %s of %s", e.Type, e.Downlink, e.Err, name, id)
	}
}

func queueIDs(s State) []string {
	var out []string
	for _, item := range s.Items() {
		out = append(out, item.ID+" "+string(item.Status))
	}
	return out
}

func wantQueue(t *testing.T, b *bench, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, queueIDs(b.s)); diff != "" {
		t.Fatalf("queue: %s", diff)
	}
}

func item(id string, change ...func(*messages.Downlink)) messages.Downlink {
	d := messages.Downlink{ID: id, FPort: 1, FRMPayload: []byte(id), CorrelationIDs: []string{"mine-" + id}}
	for _, c := range change {
		c(&d)
	}
	return d
}

func confirmed(d *messages.Downlink) { d.Confirmed = true }

func TestItemsExpireUnsent(t *testing.T) {
	b := abp(t)
	b.push(item("a", func(d *messages.Downlink) { d.TimeToLive = time.Minute }), item("b", func(d *messages.Downlink) {
		d.TimeToLive, d.ExpiresAt = time.Hour, epoch.Add(2*time.Minute)
	}), item("c"))
	if at, ok := b.s.NextExpiry(); !ok || !at.Equal(epoch.Add(time.Minute)) {
		t.Fatalf("next expiry %v %v", at, ok)
	}
	if d := b.must(ExpireDownlinks{Now: epoch.Add(time.Minute - 1)}); d.Changed {
		t.Fatal("expired before its time")
	}
	d := b.must(ExpireDownlinks{Now: epoch.Add(time.Minute), IDs: []string{"timer"}})
	wantTypes(t, d, messages.EventDownFailed)
	wantFailed(t, d.Events[0], "a", "downlink_expired")
	if diff := cmp.Diff([]string{"mine-a", "as", "timer"}, d.Events[0].CorrelationIDs); diff != "" {
		t.Fatal(diff)
	}
	// The device speaks before anyone has looked: what has expired is not sent.
	d = b.must(b.uplink(up{fCnt: 3, port: 1}))
	wantTypes(t, d, messages.EventUplink, messages.EventDownFailed)
	wantFailed(t, d.Events[1], "b", "downlink_expired")
	if got := b.read(d.Transmit, 1); got.payload != "c" {
		t.Fatalf("sent %q", got.payload)
	}
	if _, ok := b.s.NextExpiry(); ok {
		t.Fatal("something is still to expire")
	}
}

func TestItemThatIsPastAtItsPushIsRefused(t *testing.T) {
	b := abp(t)
	_, err := b.try(PushDownlinks{Items: []messages.Downlink{item("a", func(d *messages.Downlink) { d.ExpiresAt = epoch })}, Now: epoch})
	wantError(t, err, "downlink_expired")
	_, err = b.try(PushDownlinks{Items: []messages.Downlink{item("a", func(d *messages.Downlink) { d.TimeToLive = -1 })}, Now: epoch})
	wantError(t, err, "time_to_live")
}

// A device that is heard again in time decides what became of an item, not the clock.
func TestItemInFlightDoesNotExpire(t *testing.T) {
	b := abp(t)
	b.push(item("a", confirmed, func(d *messages.Downlink) { d.TimeToLive = 90 * time.Second }))
	d := b.must(b.uplink(up{fCnt: 1, port: 1}))
	b.must(ReportTransmission{SessionSeq: d.Transmit.SessionSeq, FCnt: d.Transmit.FCnt, Now: epoch.Add(time.Minute)})
	if d := b.must(ExpireDownlinks{Now: epoch.Add(time.Hour)}); d.Changed {
		t.Fatalf("%v", types(d.Events))
	}
	wantTypes(t, b.must(b.uplink(up{fCnt: 2, port: 1, ack: true})), messages.EventUplink, messages.EventDownAck)
	wantQueue(t, b)

	b.push(item("b", confirmed, func(d *messages.Downlink) { d.TimeToLive = 210 * time.Second }))
	b.must(b.uplink(up{fCnt: 3, port: 1}))
	wantQueue(t, b, "b in_flight")
	d = b.must(b.uplink(up{fCnt: 4, port: 1})) // not acknowledged, and too late for another attempt
	wantTypes(t, d, messages.EventUplink, messages.EventDownSent, messages.EventDownNack, messages.EventDownFailed)
	wantFailed(t, d.Events[3], "b", "downlink_expired")
}

func TestManyExpiredItemsLeaveSomeAtATime(t *testing.T) {
	b := abp(t)
	var items []messages.Downlink
	for i := range 2*maxFailures + 1 {
		items = append(items, item(fmt.Sprint(i), func(d *messages.Downlink) { d.TimeToLive = time.Second }))
	}
	b.push(append(items, item("last"))...)
	d := b.must(b.uplink(up{fCnt: 1, port: 1}))
	if len(d.Events) != maxFailures+1 || b.read(d.Transmit, 1).payload != "last" {
		t.Fatalf("%d events", len(d.Events))
	}
	b.must(ExpireDownlinks{Now: epoch.Add(time.Hour)})
	b.must(ExpireDownlinks{Now: epoch.Add(time.Hour)})
	wantQueue(t, b, "last in_flight")
}

func TestItemsAreCancelledByID(t *testing.T) {
	b := abp(t)
	b.push(item("a"), item("b"), item("c"))
	d := b.must(CancelDownlinks{Items: []string{"b", "x"}, Now: epoch, IDs: []string{"as"}})
	wantTypes(t, d, messages.EventDownFailed)
	wantFailed(t, d.Events[0], "b", "downlink_cancelled")
	if len(d.Refused) != 1 || d.Refused["x"].Name != "downlink_not_found" {
		t.Fatalf("refused: %v", d.Refused)
	}
	wantQueue(t, b, "a queued", "c queued")
	if d := b.must(CancelDownlinks{Items: []string{"b"}, Now: epoch}); d.Changed || d.Refused["b"] == nil {
		t.Fatalf("cancelled twice: %+v", d)
	}
}

func TestItemInFlightCantBeCalledBack(t *testing.T) {
	b := abp(t)
	b.push(item("a"))
	d := b.must(b.uplink(up{fCnt: 1, port: 1}))
	wantQueue(t, b, "a in_flight")
	if c := b.must(CancelDownlinks{Items: []string{"a"}, Now: epoch}); c.Changed || c.Refused["a"].Name != "downlink_in_flight" {
		t.Fatalf("%+v", c)
	}
	wantTypes(t, b.must(ReportTransmission{SessionSeq: d.Transmit.SessionSeq, FCnt: d.Transmit.FCnt, Now: epoch}), messages.EventDownSent)
}

func TestConfirmedItemThatIsCancelledIsNotTriedAgain(t *testing.T) {
	b := abp(t)
	b.push(item("a", confirmed), item("b"))
	d := b.must(b.uplink(up{fCnt: 1, port: 1}))
	b.must(ReportTransmission{SessionSeq: d.Transmit.SessionSeq, FCnt: d.Transmit.FCnt, Now: epoch})
	wantQueue(t, b, "a awaiting_ack", "b queued")
	c := b.must(CancelDownlinks{Items: []string{"a"}, Now: epoch})
	wantFailed(t, c.Events[0], "a", "downlink_cancelled")
	if c.Events[0].Downlink.FCnt != d.Transmit.FCnt {
		t.Fatalf("FCnt %d", c.Events[0].Downlink.FCnt)
	}
	d = b.must(b.uplink(up{fCnt: 2, port: 1, ack: true}))
	wantTypes(t, d, messages.EventUplink) // of what was cancelled, nothing more is said
	if got := b.read(d.Transmit, 2); got.payload != "b" {
		t.Fatalf("sent %q", got.payload)
	}
}

// Class B and C downlinks are kept but not sent; those behind them are not held up.
func TestClassBCItemsWaitWithoutHoldingUpOthers(t *testing.T) {
	classC := func(d *messages.Downlink) { d.ClassBC = []byte(`{"gateways":[]}`) }
	b := abp(t)
	b.push(item("c", classC), item("timed", classC, func(d *messages.Downlink) { d.AbsoluteTime = epoch.Add(90 * time.Second) }), item("a", confirmed))
	d := b.must(b.uplink(up{fCnt: 1, port: 1}))
	if got := b.read(d.Transmit, 1); got.payload != "a" || got.pending {
		t.Fatalf("sent %+v", got)
	}
	wantQueue(t, b, "c queued", "timed queued", "a in_flight")
	b.push(item("b"))
	if got := b.s.Items(); got[2].FCnt != 1 || got[3].FCnt != 2 {
		t.Fatalf("f_cnt %d in flight, %d expected", got[2].FCnt, got[3].FCnt)
	}
	b.must(CancelDownlinks{Items: []string{"b"}, Now: epoch})
	d = b.must(b.uplink(up{fCnt: 2, port: 1, ack: true}))
	wantTypes(t, d, messages.EventUplink, messages.EventDownSent, messages.EventDownAck, messages.EventDownFailed)
	wantFailed(t, d.Events[3], "timed", "downlink_expired")
	wantQueue(t, b, "c queued")

	b.must(b.uplink(up{fCnt: 3, port: 1, confirmed: true}))
	again := b.must(b.uplink(up{fCnt: 3, port: 1, confirmed: true}))
	if got := b.read(again.Transmit, 3); got.pending {
		t.Fatal("a device would ask again and again for what is not sent")
	}

	d = b.push(item("late", classC, func(d *messages.Downlink) { d.AbsoluteTime = epoch.Add(-time.Second) }))
	wantTypes(t, d, messages.EventDownQueued, messages.EventDownFailed)
	wantFailed(t, d.Events[1], "late", "downlink_expired")
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	b := abp(t)
	big := func(d *messages.Downlink) { d.DecodedPayload = make([]byte, 100<<10) }
	for i := range 7 {
		b.push(item(fmt.Sprint(i), big))
	}
	_, err := b.try(PushDownlinks{Items: []messages.Downlink{item("more", big)}, Now: epoch})
	wantError(t, err, "downlink_queue_capacity")
	_, err = b.try(PushDownlinks{Items: []messages.Downlink{item("more")}, MoreBytes: 100 << 10, Now: epoch})
	wantError(t, err, "downlink_queue_capacity")
	_, err = b.try(PushDownlinks{Items: []messages.Downlink{item("more")}, MoreItems: MaxQueue, Now: epoch})
	wantError(t, err, "downlink_queue_capacity")
	b.s.UsedDevNonces = make([]byte, 2<<16)
	if record, err := b.s.Marshal(); err != nil || len(record) > 1_000_000 {
		t.Fatalf("session record of %d bytes: %v", len(record), err)
	}
	if before, _ := b.s.Marshal(); len(before)-QueueBytes(b.s.Queue) > 135<<10 {
		t.Fatalf("%d bytes beside the queue", len(before)-QueueBytes(b.s.Queue))
	}
}

func TestQueueSurvivesANewSession(t *testing.T) {
	b := otaa(t, "EU_863_870")
	first := b.joined(1)
	b.push(item("a"), item("b", confirmed))
	b.must(b.uplink(up{fCnt: 1, port: 1, keys: first.keys(), addr: first.DevAddr}))
	wantQueue(t, b, "a in_flight", "b queued") // the device joins again before it is known whether "a" was sent
	b.must(b.joinRequest(2, 868100000, sf7))
	second := b.s.Pending
	d := b.must(b.uplink(up{fCnt: 0, port: 1, keys: second.keys(), addr: second.DevAddr}))
	wantTypes(t, d, messages.EventUplink)
	if got := b.read(d.Transmit, 0, second.NwkSKey, second.AppSKey); got.payload != "a" {
		t.Fatalf("sent %+v", got)
	}
	wantQueue(t, b, "a in_flight", "b queued")
}

// joined lets the device join and prove its new session.
func (b *bench) joined(nonce uint16) *Session {
	b.t.Helper()
	b.must(b.joinRequest(nonce, 868100000, sf7))
	ses := b.s.Pending
	b.must(b.uplink(up{fCnt: 0, keys: ses.keys(), addr: ses.DevAddr}))
	return b.s.Session
}

func (s *Session) keys() [2]messages.Key { return [2]messages.Key{s.NwkSKey, s.AppSKey} }
