package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
)

func TestSessionOutlivesTheServer(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		for _, qos := range []byte{1, 2} {
			w := newWorld()
			m := boot(t, w, "")
			c, _ := m.client(t, version, receiveMaximum(7))
			c.subscribe(t, "v3/+/devices/+/up", qos)
			w.commit(t, 0, 20)
			c.takes(t, 0, 10)
			var ids []uint16
			seen := 20
			if version == 5 {
				seen = 17 // no more than 7 on their way
			}
			for n := 10; n < seen; n++ { // and not confirmed
				ids = append(ids, c.event(t, n).PacketID)
			}
			c.answered(t)
			m.halt(t)
			w.commit(t, 20, 500)
			m = boot(t, w, "")
			c, present := m.client(t, version, receiveMaximum(3))
			if !present {
				t.Fatalf("version %d: the session is gone", version)
			}
			for i, id := range ids {
				pk := c.event(t, 10+i)
				if pk.PacketID != id || !pk.FixedHeader.Dup {
					t.Errorf("event %d comes again with id %d and DUP %v, it had %d", 10+i, pk.PacketID, pk.FixedHeader.Dup, id)
				}
				c.settle(t, pk)
			}
			c.takes(t, seen, 500)
			w.commit(t, 500, 510) // and live again
			c.takes(t, 500, 510)
		}
	}
}

func TestCrashRepeatsOnlyWhatWasJustConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 5)
	c.subscribe(t, "#", 1)
	w.commit(t, 0, 50)
	c.takes(t, 0, 50)
	for end := time.Now().Add(patience); w.cursor(t) < 50; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the place that is saved is %d", w.cursor(t))
		}
	}
	w.commit(t, 50, 60)
	c.event(t, 50)
	m.kill(t)
	w.commit(t, 60, 70)
	m = boot(t, w, "")
	c, present := m.client(t, 5)
	if !present {
		t.Fatal("the session is gone")
	}
	for n := 50; n < 70; n++ {
		pk := c.event(t, n)
		if got := pk.Properties.User; len(got) != 1 || got[0].Key != "event_id" || got[0].Val != fmt.Sprint("event-", n) {
			t.Errorf("user properties %v", got)
		}
		c.settle(t, pk)
	}
}

// TestCrashDoesNotRepeatWhatAClientOfQoS2Holds has a client that has answered PUBREC when the server dies. It knows the message again by its packet id,
// and no other message may come under that id before it is released.
func TestCrashDoesNotRepeatWhatAClientOfQoS2Holds(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 5)
	c.subscribe(t, "#", 2)
	w.commit(t, 0, 10)
	held := map[uint16]int{}
	for n := range 10 {
		pk := c.event(t, n)
		held[pk.PacketID] = n
		if n < 5 {
			c.send(t, confirmation(packets.Pubrec, pk.PacketID))
		}
	}
	m.kill(t)
	w.commit(t, 10, 30)
	m = boot(t, w, "")
	c, _ = m.client(t, 5)
	for n := range 30 {
		pk := c.event(t, n)
		if was, ok := held[pk.PacketID]; ok && was != n {
			t.Fatalf("event %d comes under the id of event %d, which the client holds", n, was)
		} else if n < 10 && !ok {
			t.Errorf("event %d comes under another id", n)
		}
		c.settle(t, pk)
	}
	c.answered(t)
}

func TestHandshakeOfQoS2GoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 5)
	c.subscribe(t, "#", 2)
	w.commit(t, 0, 3)
	var ids []uint16
	for n := range 3 {
		ids = append(ids, c.event(t, n).PacketID)
	}
	c.send(t, confirmation(packets.Pubrec, ids[1]))
	c.expect(t, packets.Pubrel) // event 1 is received, and PUBCOMP missing
	c.send(t, publishPacket("v3/app1/devices/dev1/down/push", push, 2, 9))
	c.expect(t, packets.Pubrec)
	m.halt(t)
	m = boot(t, w, "")
	c, _ = m.client(t, 5)
	if pk := c.expect(t, packets.Pubrel); pk.PacketID != ids[1] {
		t.Errorf("PUBREL %d, want %d", pk.PacketID, ids[1])
	}
	c.send(t, confirmation(packets.Pubcomp, ids[1]))
	c.settle(t, c.event(t, 0))
	c.settle(t, c.event(t, 2))
	c.answered(t)
	again := publishPacket("v3/app1/devices/dev1/down/push", push, 2, 9)
	again.FixedHeader.Dup = true
	c.send(t, again)
	c.expect(t, packets.Pubrec)
	if n := len(w.commands); n != 1 {
		t.Errorf("a downlink of QoS 2 was carried out %d times", n)
	}
}

func TestSubscriptionBeginsWithWhatComesAfterIt(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	w.commit(t, 0, 10)
	c, _ := m.client(t, 5, receiveMaximum(1))
	c.subscribe(t, "v3/+/devices/other/up", 1)
	w.commit(t, 10, 20)
	other := eventOf("app1", "other", messages.EventUplink, 99)
	for range 3 { // more than the client takes at once: it lags
		m.Publish(other)
	}
	first := c.expect(t, packets.Publish)
	c.subscribe(t, "v3/+/devices/dev1/up", 1)
	w.commit(t, 20, 25)
	c.settle(t, first)
	for range 2 {
		c.settle(t, c.expect(t, packets.Publish))
	}
	c.takes(t, 20, 25)
	c.answered(t)
	m.halt(t)
	w.commit(t, 25, 30)
	m = boot(t, w, "")
	c, _ = m.client(t, 5)
	c.takes(t, 25, 30)
	c.answered(t)
}

func TestEventsThatTheLogHasDroppedAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 5)
	c.subscribe(t, "#", 1)
	w.commit(t, 0, 5)
	c.takes(t, 0, 5)
	c.answered(t)
	_ = c.Close()
	for m.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	w.commit(t, 5, 25)
	cursor := w.cursor(t)
	if err := w.store.DeleteApplication(t.Context(), "app1"); err != nil { // as the retention does, but with the cursors
		t.Fatal(err)
	}
	if err := w.store.SaveCursor(t.Context(), sessionKey{"id-of-all", "app1", "c"}.cursorName(), cursor); err != nil {
		t.Fatal(err)
	}
	w.commit(t, 25, 30)
	c, present := m.client(t, 5)
	if !present {
		t.Error("the session is gone")
	}
	c.takes(t, 25, 30)
	if n := testutil.ToFloat64(m.metrics.dropped.WithLabelValues("retention")); n != 20 {
		t.Errorf("%v events are counted as lost, want 20", n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.Contains(w.log.String(), "longer than events are kept") {
		t.Error("nothing in the log")
	}
}

// TestReleasedMessageIsNotSentAgain has the PUBCOMP of an earlier connection's message arrive before the reader has come to that message.
func TestReleasedMessageIsNotSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	var running sync.WaitGroup
	defer running.Wait()
	s := newSession(sessionKey{username: "app1"}, "", newApplication("app1"), m.Server)
	s.client = &client{conn: newConn(sink{}, &memory{limit: 1 << 20}, 1<<20, time.Second, &running), metrics: m.metrics, window: 10}
	defer s.end()
	s.live, s.reading = true, true // as if the reader were just about to go on
	s.own = collectFilters(map[string]*subscription{"#": {levels: []string{"#"}, qos: 2}})
	d := &delivery{seq: 3, id: packetID(3), qos: 2, released: true}
	s.waiting, s.byID[d.id], s.sent, s.place = append(s.waiting, d), d, 1, 2
	s.puback(d.id, 2)
	entry := event1(3)
	if !s.offer(t.Context(), &entry, s.epoch) || len(s.byID) != 0 || s.place != 3 {
		t.Errorf("sent again: %d on their way, place %d", len(s.byID), s.place)
	}
}

func TestTenThousandEventsWaitForAnAbsentClient(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 4)
	c.subscribe(t, "#", 1)
	_ = c.Close()
	const events = 10000
	w.commit(t, 0, events)
	c, _ = m.client(t, 4)
	c.takes(t, 0, events)
}

func TestEventsOfAnEmptyLogAreCountedToo(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 5)
	c.subscribe(t, "#", 1)
	_ = c.Close()
	for m.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	w.commit(t, 0, 20)
	if err := w.store.DeleteApplication(t.Context(), "app1"); err != nil {
		t.Fatal(err)
	}
	c, _ = m.client(t, 5)
	for end := time.Now().Add(patience); testutil.ToFloat64(m.metrics.dropped.WithLabelValues("retention")) != 20; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the loss is not counted")
		}
	}
	w.commit(t, 20, 25)
	c.takes(t, 20, 25)
}
