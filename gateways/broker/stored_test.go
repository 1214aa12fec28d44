package broker

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/messages"
)

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

func TestKeptSessionsOfAnApplicationAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := newWorld().config()
		cfg.MaxConnections = 4 // 8 sessions, 4 of one application
		var told []string
		cfg.LoginRefused = func(app string, reason error) { told = append(told, app+": "+reason.Error()) }
		s, stop := unnetworked(t, cfg)
		defer stop()
		login := func(id, app string) byte {
			synctest.Wait() // the last one has gone, and the server has counted what there was
			c := pipe(t, s)
			c.version = 4
			c.send(t, connectPacket(4, id, app, "admin", func(pk *packets.Packet) { pk.Connect.Clean = false }))
			defer c.Close()
			return c.expect(t, packets.Connack).ReasonCode
		}
		for round := range 2 {
			for _, id := range []string{"a", "b", "c", "d"} {
				if code := login(id, "app1"); code != 0 {
					t.Errorf("round %d: session %s is refused with %d", round, id, code)
				}
			}
		}
		if code := login("e", "app1"); code != 3 {
			t.Errorf("a session too many is answered with %d", code)
		}
		if code := login("e", "app2"); code != 0 {
			t.Errorf("a session of another application is refused with %d", code)
		}
		if len(told) != 1 || !strings.Contains(told[0], "4 sessions of application app1 are kept already") {
			t.Errorf("told %q", told)
		}
	})
}

func TestExpiryCountsOverARestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		away    time.Duration // while the server is down
		crashed bool          // it could not write that the client has gone
		kept    bool
	}{{59 * time.Minute, false, true}, {61 * time.Minute, false, false}, {61 * time.Minute, true, true}} {
		w := newWorld()
		m := boot(t, w, "")
		client, _ := m.client(t, 5) // for an hour
		client.subscribe(t, "#", 1)
		if c.crashed {
			m.kill(t)
		} else {
			m.halt(t)
		}
		var doc sessionDocument
		stored := w.documents(t)[0]
		if err := json.Unmarshal(stored.Value, &doc); err != nil || (doc.LeftAt == nil) != c.crashed {
			t.Fatalf("%s %v", stored.Value, err)
		}
		doc.SavedAt = doc.SavedAt.Add(-c.away)
		if doc.LeftAt != nil {
			left := doc.LeftAt.Add(-c.away)
			doc.LeftAt = &left
		}
		value, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.WriteDocuments(t.Context(), []messages.Write{{Kind: stored.Kind, ID: stored.ID, Value: value}}); err != nil {
			t.Fatal(err)
		}
		m = boot(t, w, "")
		for end := time.Now().Add(patience); !c.kept && len(w.documents(t)) > 0; time.Sleep(time.Millisecond) { // without anybody asking for it
			if time.Now().After(end) {
				t.Fatal("the session is still stored")
			}
		}
		if _, present := m.client(t, 5); present != c.kept {
			t.Errorf("%+v: present %v", c, present)
		}
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

func TestKeyThatMayNotReadAnyMoreGetsNothingOfItsSession(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} { // another node may have heard of the change, and this one not yet
		for _, absent := range []bool{true, false} {
			w := newWorld()
			m := boot(t, w, "")
			c, _ := m.client(t, 5)
			c.subscribe(t, "#", 1)
			if absent {
				_ = c.Close()
				for m.sessionCount() > 0 {
					time.Sleep(time.Millisecond)
				}
			}
			w.setKey("all", &messages.Access{KeyID: "id-of-all", ApplicationID: "app1", Rights: []messages.Right{messages.RightApplicationTrafficDownWrite}})
			if told {
				m.KeyChanged("id-of-all")
				for end := time.Now().Add(patience); len(w.documents(t)) > 0; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("the session stays in the store")
					}
				}
			}
			w.commit(t, 0, 1)
			c, present := m.client(t, 5)
			if present {
				t.Error("the session goes on")
			}
			c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			c.expect(t, packets.Pingresp) // and no event before it
		}
	}
}

func TestKeyThatMayStillReadKeepsItsSession(t *testing.T) {
	t.Parallel()
	w := newWorld()
	m := boot(t, w, "")
	c, _ := m.client(t, 5)
	c.subscribe(t, "#", 1)
	w.setKey("all", &messages.Access{KeyID: "id-of-all", ApplicationID: "app1", Rights: []messages.Right{messages.RightApplicationTrafficRead}})
	m.KeyChanged("id-of-all")
	if reason := c.ends(t); reason != reasonNotAuthorized { // it learns at once that its downlinks will be refused
		t.Errorf("reason %#x", reason)
	}
	w.commit(t, 0, 2)
	c, present := m.client(t, 5)
	if !present {
		t.Error("the session is gone")
	}
	c.takes(t, 0, 2)
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
