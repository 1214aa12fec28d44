package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
	memstore "lorikeet/persistence/memory"
)

// machine is one server on a store that outlives it, and may be shared with others.
type machine struct {
	*memstore.Store
	*Server
	dead   atomic.Bool
	mu     sync.Mutex
	others []*machine // that hear of its documents
}

var errDead = errors.New("the machine is dead")

// boot starts a server on the store of w. It is closed at the end of the test.
func boot(t testing.TB, w *world, node string, change ...func(*Config)) *machine {
	t.Helper()
	m := &machine{Store: w.store}
	cfg := w.config()
	cfg.Store, cfg.Node = m, node
	for _, f := range change {
		f(&cfg)
	}
	m.Server = start(t, cfg)
	return m
}

// kill ends the server as kill -9 does: nothing of it reaches the store any more, and its connections are gone.
func (m *machine) kill(t testing.TB) {
	t.Helper()
	m.dead.Store(true)
	if err := m.Server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// halt ends the server in good order.
func (m *machine) halt(t testing.TB) {
	t.Helper()
	if err := m.Server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) Close() error { return nil }

func (m *machine) SaveCursor(ctx context.Context, name string, seq uint64) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Store.SaveCursor(ctx, name, seq)
}

func (m *machine) DeleteCursor(ctx context.Context, name string) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Store.DeleteCursor(ctx, name)
}

func (m *machine) WriteDocuments(ctx context.Context, writes []messages.Write) error {
	if m.dead.Load() {
		return errDead
	}
	err := m.Store.WriteDocuments(ctx, writes)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.others {
		o.SessionChanged(writes[0].ID)
	}
	return err
}

// pair is two nodes that share a store.
func pair(t testing.TB, w *world) (a, b *machine) {
	t.Helper()
	a, b = boot(t, w, "a"), boot(t, w, "b")
	for _, m := range []*machine{a, b} {
		m.mu.Lock()
		m.others = []*machine{a, b}
		m.mu.Unlock()
	}
	return a, b
}

func (w *world) commit(t testing.TB, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		e := event1(n)
		e.ID = fmt.Sprint("event-", n)
		if _, err := w.store.Commit(t.Context(), messages.Commit{Device: e.Device, Events: []messages.Event{e.Event}}); err != nil {
			t.Fatal(err)
		}
	}
}

// takes reads events from to, in order, and confirms them.
func (c *raw) takes(t testing.TB, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		c.settle(t, c.event(t, n))
	}
}

// event reads the event n, which must come next.
func (c *raw) event(t testing.TB, n int) packets.Packet {
	t.Helper()
	for {
		pk, err := c.read()
		if err != nil {
			t.Fatalf("waiting for event %d: %v", n, err)
		}
		if pk.FixedHeader.Type == packets.Pubrel {
			c.send(t, confirmation(packets.Pubcomp, pk.PacketID))
			continue
		}
		if want := fmt.Sprintf(`{"n":%d}`, n); pk.FixedHeader.Type != packets.Publish || string(pk.Payload) != want {
			t.Fatalf("a packet of type %d with %s came, want event %d", pk.FixedHeader.Type, pk.Payload, n)
		}
		return pk
	}
}

func (c *raw) settle(t testing.TB, pk packets.Packet) {
	t.Helper()
	if pk.FixedHeader.Qos == 1 {
		c.send(t, confirmation(packets.Puback, pk.PacketID))
		return
	}
	c.send(t, confirmation(packets.Pubrec, pk.PacketID))
}

// answered comes back when the server has dealt with all that was sent.
func (c *raw) answered(t testing.TB) {
	t.Helper()
	c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	for {
		pk, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		switch pk.FixedHeader.Type {
		case packets.Pingresp:
			return
		case packets.Pubrel:
			c.send(t, confirmation(packets.Pubcomp, pk.PacketID))
		case packets.Publish:
			t.Fatalf("got %s", pk.Payload)
		}
	}
}

func (m *machine) client(t testing.TB, version byte, change ...func(*packets.Packet)) (c *raw, present bool) {
	t.Helper()
	c = dial(t, m.Server)
	return c, c.login(t, version, "c", "app1", "all", append([]func(*packets.Packet){keepSession(3600)}, change...)...).SessionPresent
}

func (w *world) cursor(t testing.TB) uint64 {
	t.Helper()
	seq, _, err := w.store.LoadCursor(t.Context(), sessionKey{"id-of-all", "app1", "c"}.cursorName())
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func (w *world) documents(t testing.TB) (docs []messages.Document) {
	t.Helper()
	docs, err := w.store.ListDocuments(t.Context(), messages.KindMQTTSession, "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

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

func TestSessionMovesToAnotherNode(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(testing.TB, *machine, *raw){
		"client goes":       func(t testing.TB, _ *machine, c *raw) { _ = c.Close() },
		"connection lives":  func(testing.TB, *machine, *raw) {},
		"node is killed":    func(t testing.TB, m *machine, _ *raw) { m.kill(t) },
		"node is suspended": func(_ testing.TB, m *machine, _ *raw) { m.Suspend(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			a, b := pair(t, w)
			c, _ := a.client(t, 5, receiveMaximum(5))
			c.subscribe(t, "#", 1)
			next := 0
			for round := range 4 {
				from, to := a, b
				if round%2 == 1 {
					from, to = b, a
				}
				if from.dead.Load() || to.dead.Load() {
					break
				}
				w.commit(t, 100*round, 100*round+50)
				first := c.event(t, next)
				c.settle(t, first)
				c.takes(t, next+1, next+30)
				next += 30
				leave(t, from, c)
				w.commit(t, 100*round+50, 100*round+100)
				moved, present := to.client(t, 5, receiveMaximum(5))
				if !present {
					t.Fatal("the session is not found")
				}
				if name == "connection lives" {
					if reason := c.ends(t); reason != reasonTakenOver {
						t.Errorf("the old connection ended with reason %#x", reason)
					}
				}
				// Repeats are allowed, gaps are not.
				pk := moved.expect(t, packets.Publish)
				var n int
				if _, err := fmt.Sscanf(string(pk.Payload), `{"n":%d}`, &n); err != nil || n > next {
					t.Fatalf("%s comes first, want at most %d", pk.Payload, next)
				}
				moved.settle(t, pk)
				moved.takes(t, n+1, 100*round+100)
				next, c = 100*round+100, moved
				if name == "node is suspended" {
					from.Suspend(false)
				}
			}
		})
	}
}

// TestFormerNodeKeepsNothing: what the node that lost a session does at the end of its connection must not undo what the new one has written.
func TestFormerNodeKeepsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := boot(t, w, "a"), boot(t, w, "b") // they do not hear of each other
	old, _ := a.client(t, 5)
	old.subscribe(t, "v3/+/devices/+/up", 1)
	c, _ := b.client(t, 5)
	c.subscribe(t, "v3/+/devices/+/join", 1)
	before := w.documents(t)
	_ = old.Close()
	for a.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	after := w.documents(t)
	if len(after) != 1 || after[0].Revision != before[0].Revision {
		t.Errorf("the document was written by the node that had lost it: %s", after[0].Value)
	}
	// It finds out at the latest when the client comes back.
	old, present := a.client(t, 5)
	if !present {
		t.Error("the session is gone")
	}
	old.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 9, Filters: packets.Subscriptions{{Filter: "v3/+/devices/+/join"}}})
	if ack := old.expect(t, packets.Unsuback); ack.ReasonCodes[0] != 0 {
		t.Errorf("the subscription made at the other node is not there: %#x", ack.ReasonCodes)
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

func TestSubscriptionsOfAStoredSessionCanBeTakenBack(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		w := newWorld()
		m := boot(t, w, "")
		c, _ := m.client(t, version)
		c.subscribe(t, "v3/+/devices/dev1/up", 1)
		c.subscribe(t, "v3/+/devices/dev2/up", 1)
		m.kill(t)
		m = boot(t, w, "")
		c, _ = m.client(t, version)
		c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 9, Filters: packets.Subscriptions{{Filter: "v3/+/devices/dev1/up"}, {Filter: "v3/#"}}})
		ack := c.expect(t, packets.Unsuback)
		if version == 5 && (ack.ReasonCodes[0] != 0 || ack.ReasonCodes[1] != packets.CodeNoSubscriptionExisted.Code) {
			t.Errorf("UNSUBACK %v", ack.ReasonCodes)
		}
		m.kill(t)
		m = boot(t, w, "")
		c, _ = m.client(t, version)
		w.commit(t, 0, 3)
		m.Publish(eventOf("app1", "dev2", messages.EventUplink, 7))
		c.settle(t, c.event(t, 7))
	}
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

func TestAbsentSessionCostsNoMemoryAndNoReading(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 4)
	c.subscribe(t, "#", 1)
	_ = c.Close()
	for end := time.Now().Add(patience); m.sessionCount() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the session stays in memory")
		}
	}
	v, _ := m.apps.Load("app1")
	app := v.(*application)
	app.mu.Lock()
	defer app.mu.Unlock()
	if app.feed != nil || len(app.wide) > 0 {
		t.Error("the log is still followed")
	}
}

func TestExpiryCountsOverARestart(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c := dial(t, m.Server)
	c.login(t, 5, "c", "app1", "all", keepSession(1)) // its second passes while the server is down
	c.subscribe(t, "#", 1)
	m.halt(t)
	time.Sleep(1100 * time.Millisecond)
	m = boot(t, w, "")
	for end := time.Now().Add(patience); len(w.documents(t)) > 0; time.Sleep(time.Millisecond) { // without anybody asking for it
		if time.Now().After(end) {
			t.Fatal("the session is still stored")
		}
	}
	if _, present := m.client(t, 5); present {
		t.Error("the session is present after its time")
	}
}

func TestSessionThatIsNotToBeKeptLeavesTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	gone := func(why string) {
		t.Helper()
		for end := time.Now().Add(patience); len(w.documents(t)) > 0 || w.cursor(t) > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d documents, cursor at %d", why, len(w.documents(t)), w.cursor(t))
			}
		}
	}
	stay := func() {
		t.Helper()
		c, _ := m.client(t, 5)
		c.subscribe(t, "#", 1)
		w.commit(t, 0, 1)
		c.takes(t, 0, 1)
		c.answered(t)
		_ = c.Close()
		for m.doorkeeper.total() > 0 {
			time.Sleep(time.Millisecond)
		}
		if len(w.documents(t)) != 1 {
			t.Fatal("the session is not stored")
		}
	}
	stay()
	c := dial(t, m.Server)
	if c.login(t, 5, "c", "app1", "all").SessionPresent {
		t.Error("a clean start finds a session")
	}
	gone("clean start")
	_ = c.Close()
	stay()
	c = dial(t, m.Server)
	if !c.login(t, 5, "c", "app1", "all", func(pk *packets.Packet) { pk.Connect.Clean = false }).SessionPresent {
		t.Error("the session is not present")
	}
	gone("expiry 0")
	_ = c.Close()
	stay()
	c, _ = m.client(t, 5)
	goodBye := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
	goodBye.Properties.SessionExpiryIntervalFlag = true
	c.send(t, goodBye)
	gone("DISCONNECT with expiry 0")
}

func TestRevokedKeyLosesItsStoredSessions(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 5)
	c.subscribe(t, "#", 1)
	_ = c.Close()
	for m.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	other := dial(t, m.Server)
	other.login(t, 5, "c", "app1", "read", keepSession(3600))
	m.KeyChanged("id-of-all") // renamed, say
	all := w.keys["all"]
	w.setKey("all", nil)
	m.KeyChanged("id-of-all")
	for end := time.Now().Add(patience); len(w.documents(t)) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d sessions are stored", len(w.documents(t)))
		}
	}
	w.setKey("all", &all)
	if _, present := m.client(t, 5); present {
		t.Error("a key that comes back finds what it had lost")
	}
}

func TestStoreThatIsAwayRefusesWhatItCanNotKeep(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 5)
	m.dead.Store(true)
	c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 7, Filters: packets.Subscriptions{{Filter: "#", Qos: 1}}})
	if reason := c.ends(t); reason != reasonServerBusy {
		t.Errorf("a subscription that is not stored: reason %#x", reason)
	}
	c = dial(t, m.Server)
	c.send(t, connectPacket(5, "d", "app1", "all", keepSession(60)))
	if ack := c.expect(t, packets.Connack); ack.ReasonCode != packets.ErrServerUnavailable.Code {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
	connect(t, m.Server, "d", "app1", "all") // a session that is not to be kept needs no store
	m.dead.Store(false)
	c, _ = m.client(t, 5)
	if code := c.subscribe(t, "#", 1); code != 1 {
		t.Errorf("SUBACK %#x", code)
	}
}

func TestDamagedSessionIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld()
	key := sessionKey{"id-of-all", "app1", "c"}
	if err := w.store.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindMQTTSession, ID: key.documentID(), Value: []byte("{")}}); err != nil {
		t.Fatal(err)
	}
	m := boot(t, w, "b")
	if _, present := m.client(t, 5); present {
		t.Error("a damaged session is said to be present")
	}
}

func TestSharedSubscriptionsAreRefusedInACluster(t *testing.T) {
	t.Parallel()
	m := boot(t, newWorld(), "a")
	c := dial(t, m.Server)
	if ack := c.login(t, 5, "c", "app1", "all"); !ack.Properties.SharedSubAvailableFlag || ack.Properties.SharedSubAvailable != 0 {
		t.Error("CONNACK does not say so")
	}
	if code := c.subscribe(t, "$share/g/v3/+/devices/+/up", 1); code != packets.ErrSharedSubscriptionsNotSupported.Code {
		t.Errorf("SUBACK %#x", code)
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

// TestFeedThatBeginsLateHidesNothing has a node whose store tells of the end of the log before it shows what another node has written there.
func TestFeedThatBeginsLateHidesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	behind := &behindStore{Store: w.store}
	m := boot(t, w, "a", func(c *Config) { c.Store = behind })
	c, _ := m.client(t, 5)
	c.subscribe(t, "#", 1)
	_ = c.Close()
	for m.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	w.commit(t, 0, 5)
	behind.shown.Store(3)
	c, _ = m.client(t, 5)
	c.takes(t, 0, 3)
	c.answered(t)
	behind.shown.Store(1 << 62)
	w.commit(t, 5, 6) // wakes those who watch
	c.takes(t, 3, 6)
	w.commit(t, 6, 9)
	c.takes(t, 6, 9)
}

// behindStore shows the log up to a place only, if that is set.
type behindStore struct {
	*memstore.Store
	shown atomic.Uint64
}

func (b *behindStore) ReadLog(ctx context.Context, app string, after uint64, limit int) ([]messages.LogEntry, error) {
	entries, err := b.Store.ReadLog(ctx, app, after, limit)
	if shown := b.shown.Load(); shown > 0 {
		for i := range entries {
			if entries[i].Seq > shown {
				return entries[:i], err
			}
		}
	}
	return entries, err
}
