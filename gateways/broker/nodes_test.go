package broker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/messages"
)

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

// racedStore has another node write to the session just before each of the next writes.
type racedStore struct {
	*machine
	others atomic.Int64
}

func (r *racedStore) WriteDocuments(ctx context.Context, writes []messages.Write) error {
	if r.others.Add(-1) >= 0 {
		d, err := r.Store.GetDocument(ctx, writes[0].Kind, writes[0].ID)
		if err != nil {
			return err
		}
		if err := r.Store.WriteDocuments(ctx, []messages.Write{{Kind: d.Kind, ID: d.ID, Value: d.Value}}); err != nil {
			return err
		}
	}
	return r.machine.WriteDocuments(ctx, writes)
}

// TestLoginHoldsAgainstAGoodBye: a client that comes back at another node at once meets what the former one writes at the end of its connection.
func TestLoginHoldsAgainstAGoodBye(t *testing.T) {
	t.Parallel()
	for name, expiry := range map[string]uint32{"session goes on": 60, "session ends": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			a := boot(t, w, "a")
			c, _ := a.client(t, 5)
			c.subscribe(t, "#", 1)
			a.kill(t)
			raced := &racedStore{}
			b := boot(t, w, "b", func(cfg *Config) {
				raced.machine = cfg.Store.(*machine)
				cfg.Store = raced
			})
			raced.others.Store(takeOverTries - 1)
			c = dial(t, b.Server)
			c.send(t, connectPacket(5, "c", "app1", "all", keepSession(expiry)))
			if ack := c.expect(t, packets.Connack); ack.ReasonCode != 0 || !ack.SessionPresent {
				t.Fatalf("CONNACK %#x, session present %v", ack.ReasonCode, ack.SessionPresent)
			}
			if got := len(w.documents(t)); got != min(int(expiry), 1) {
				t.Errorf("%d sessions are stored", got)
			}
			w.commit(t, 0, 5)
			c.takes(t, 0, 5)
		})
	}
}

// interruptedStore calls between once, after it has read a session and before it gives it to the server.
type interruptedStore struct {
	Store
	once    sync.Once
	between func()
}

func (s *interruptedStore) GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error) {
	d, err := s.Store.GetDocument(ctx, kind, id)
	if kind == messages.KindMQTTSession {
		s.once.Do(s.between)
	}
	return d, err
}

func TestSessionThatIsLeftDuringALoginElsewhereIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a := boot(t, w, "a")
	old, _ := a.client(t, 5)
	old.subscribe(t, "#", 1)
	w.commit(t, 0, 2)
	old.settle(t, old.event(t, 0))
	b := boot(t, w, "b", func(c *Config) {
		c.Store = &interruptedStore{Store: w.store, between: func() {
			_ = old.Close()
			for a.sessionCount() > 0 { // until its end is written
				time.Sleep(time.Millisecond)
			}
		}}
	})
	c, present := b.client(t, 5)
	if !present {
		t.Error("the session is not found")
	}
	c.takes(t, 1, 2)
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
