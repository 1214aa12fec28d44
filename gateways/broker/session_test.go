package broker

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
)

func TestEventsArriveInOrderWithEachQoS(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	for qos := range byte(3) {
		c := connect(t, s, fmt.Sprint("c", qos), "app1", "all")
		if code := c.subscribe(t, "v3/app1/devices/+/up", qos); code != qos {
			t.Errorf("SUBACK %#x", code)
		}
		for n := range 1000 {
			s.Publish(event1(n))
		}
		for n := range 1000 {
			if m := c.next(t); m.payload != fmt.Sprintf(`{"n":%d}`, n) || m.qos != qos {
				t.Fatalf("QoS %d: %+v at place %d", qos, m, n)
			}
		}
	}
}

func TestSessionKeepsWhatItsClientHasNotConfirmed(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		s := start(t, newWorld().config())
		c := dial(t, s)
		if ack := c.login(t, version, "c", "app1", "all", keepSession(3600), receiveMaximum(10)); ack.SessionPresent {
			t.Error("a new session is said to be an old one")
		}
		c.subscribe(t, "v3/+/devices/dev1/#", 1)
		for n := range 500 {
			s.Publish(event1(n))
		}
		ids := map[string]uint16{}
		for {
			pk, err := c.read()
			if err != nil {
				t.Fatal(err)
			}
			if pk.FixedHeader.Type == packets.Pingresp {
				break
			}
			ids[string(pk.Payload)] = pk.PacketID
			if string(pk.Payload) == `{"n":3}` { // the only one to be confirmed, out of order
				c.send(t, confirmation(packets.Puback, pk.PacketID))
				c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			}
		}
		delete(ids, `{"n":3}`)
		_ = c.Close()
		for n := 500; n < 600; n++ {
			s.Publish(event1(n))
			s.Publish(eventOf("app1", "dev2", messages.EventUplink, n))
		}
		c = dial(t, s)
		if ack := c.login(t, version, "c", "app1", "all", keepSession(3600), receiveMaximum(100)); !ack.SessionPresent {
			t.Error("the session is not present")
		}
		for n := range 600 {
			if n == 3 {
				continue
			}
			pk := c.expect(t, packets.Publish)
			payload := string(pk.Payload)
			if payload != fmt.Sprintf(`{"n":%d}`, n) {
				t.Fatalf("version %d: payload %s at place %d", version, payload, n)
			}
			if id, again := ids[payload]; again && (pk.PacketID != id || !pk.FixedHeader.Dup) {
				t.Errorf("%s comes again with id %d, DUP %v; it had id %d", payload, pk.PacketID, pk.FixedHeader.Dup, id)
			}
			c.send(t, confirmation(packets.Puback, pk.PacketID))
		}
		c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		c.expect(t, packets.Pingresp)
		if used := s.window.used.Load(); used != 0 {
			t.Errorf("%d bytes are held for what is confirmed", used)
		}
		_ = c.Close()
		c = dial(t, s)
		if ack := c.login(t, version, "c", "app1", "all"); ack.SessionPresent {
			t.Error("a clean start finds a session")
		}
	}
}

func TestQoS2GoesOnWhereItWasInterrupted(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all", keepSession(3600))
	c.subscribe(t, "#", 2)
	for n := range 3 {
		s.Publish(event1(n))
	}
	var ids []uint16
	for range 3 {
		ids = append(ids, c.expect(t, packets.Publish).PacketID)
	}
	c.send(t, confirmation(packets.Pubrec, ids[0]))
	c.expect(t, packets.Pubrel)
	c.send(t, confirmation(packets.Pubcomp, ids[0]))
	c.send(t, confirmation(packets.Pubrec, ids[1]))
	c.expect(t, packets.Pubrel)
	refusal := confirmation(packets.Pubrec, 999)
	c.send(t, refusal)
	if pk := c.expect(t, packets.Pubrel); pk.ReasonCode != packets.ErrPacketIdentifierNotFound.Code {
		t.Errorf("PUBREL for an unknown id: reason %#x", pk.ReasonCode)
	}
	_ = c.Close()
	c = dial(t, s)
	c.login(t, 5, "c", "app1", "all", keepSession(3600))
	if pk := c.expect(t, packets.Pubrel); pk.PacketID != ids[1] {
		t.Errorf("PUBREL %d", pk.PacketID)
	}
	if pk := c.expect(t, packets.Publish); pk.PacketID != ids[2] || !pk.FixedHeader.Dup || string(pk.Payload) != `{"n":2}` {
		t.Errorf("%d %v %s", pk.PacketID, pk.FixedHeader.Dup, pk.Payload)
	}
	refusal = confirmation(packets.Pubrec, ids[2])
	refusal.ReasonCode = packets.ErrQuotaExceeded.Code
	c.send(t, refusal) // does not want it, and it comes no more
	c.send(t, confirmation(packets.Pubcomp, ids[1]))
	c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.expect(t, packets.Pingresp)
	if used := s.window.used.Load(); used != 0 {
		t.Errorf("%d bytes are held", used)
	}
}

func TestPublishedQoS2IsCarriedOutOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all", keepSession(3600))
	pk := publishPacket("v3/app1/devices/dev1/down/push", push, 2, 5)
	c.send(t, pk)
	c.expect(t, packets.Pubrec)
	_ = c.Close() // PUBREC is lost, say
	c = dial(t, s)
	c.login(t, 5, "c", "app1", "all", keepSession(3600))
	pk.FixedHeader.Dup = true
	for range 2 { // [MQTT-4.3.3-10]
		c.send(t, pk)
		if ack := c.expect(t, packets.Pubrec); ack.ReasonCode != 0 {
			t.Errorf("PUBREC %#x", ack.ReasonCode)
		}
	}
	_ = c.Close()
	c = dial(t, s)
	c.login(t, 5, "c", "app1", "all", keepSession(3600))
	c.send(t, confirmation(packets.Pubrel, 5))
	if ack := c.expect(t, packets.Pubcomp); ack.ReasonCode != 0 {
		t.Errorf("PUBCOMP %#x", ack.ReasonCode)
	}
	if n := len(w.commands); n != 1 {
		t.Errorf("carried out %d times", n)
	}
	pk.FixedHeader.Dup = false
	c.send(t, pk) // the id is free again
	c.expect(t, packets.Pubrec)
	c.send(t, confirmation(packets.Pubrel, 5))
	c.expect(t, packets.Pubcomp)
	if n := len(w.commands); n != 2 {
		t.Errorf("carried out %d times", n)
	}
}

func TestSessionEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := unnetworked(t, newWorld().config())
		defer stop()
		visit := func(version byte, change func(*packets.Packet)) (present bool) {
			c := pipe(t, s)
			ack := c.login(t, version, "c", "app1", "all", change)
			c.subscribe(t, "#", 1)
			_ = c.Close()
			synctest.Wait()
			return ack.SessionPresent
		}
		visit(5, keepSession(60))
		time.Sleep(59 * time.Second)
		if !visit(5, keepSession(60)) {
			t.Error("the session ended too early")
		}
		time.Sleep(61 * time.Second)
		if n := s.sessionCount(); n != 0 {
			t.Errorf("%d sessions after their time", n)
		}
		visit(5, keepSession(0))
		if n := s.sessionCount(); n != 0 {
			t.Errorf("%d sessions that were not to be kept", n)
		}
	})
}

func TestNoSessionIsKeptForEver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v5, clean bool
		seconds   uint32
		want      time.Duration
	}{
		{true, true, 0xFFFFFFFF, 24 * time.Hour}, {true, false, 0, 0}, {true, false, 3600, time.Hour}, {false, false, 0, 24 * time.Hour}, {false, true, 0, 0},
	} {
		p := &mqtt.Client{Properties: mqtt.ClientProperties{Clean: c.clean, Props: packets.Properties{SessionExpiryInterval: c.seconds}}}
		if got := (&client{v5: c.v5, protocol: p, maxExpiry: 24 * time.Hour}).sessionExpiry(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestOverlappingSubscriptionsGiveOneDelivery(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1@ttn", "all")
	for i, f := range []string{"#", "v3/+/devices/dev1/up", "v3/app1@ttn/devices/+/up/#", "v3/+/devices/dev2/up"} {
		c.subscribe(t, f, byte(i%2), func(pk *packets.Packet) {
			pk.Properties.SubscriptionIdentifier = []int{1000 + i}
			pk.Filters[0].Identifier = 1000 + i
		})
	}
	s.Publish(event1(1))
	pk := c.expect(t, packets.Publish)
	ids := pk.Properties.SubscriptionIdentifier
	slices.Sort(ids)
	if pk.FixedHeader.Qos != 1 || !slices.Equal(ids, []int{1000, 1001, 1002}) {
		t.Errorf("QoS %d, subscription identifiers %v", pk.FixedHeader.Qos, ids)
	}
	unsubscribe := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 9, Filters: packets.Subscriptions{{Filter: "v3/+/devices/dev1/up"}, {Filter: "up"}}}
	c.send(t, unsubscribe)
	if ack := c.expect(t, packets.Unsuback); !slices.Equal(ack.ReasonCodes, []byte{0, packets.CodeNoSubscriptionExisted.Code}) {
		t.Errorf("UNSUBACK %v", ack.ReasonCodes)
	}
	c.subscribe(t, "#", 0) // replaces, and has no identifier
	s.Publish(event1(2))
	if pk := c.expect(t, packets.Publish); pk.FixedHeader.Qos != 0 || !slices.Equal(pk.Properties.SubscriptionIdentifier, []int{1002}) || string(pk.Payload) != `{"n":2}` {
		t.Errorf("QoS %d, subscription identifiers %v, %s", pk.FixedHeader.Qos, pk.Properties.SubscriptionIdentifier, pk.Payload)
	}
}

func TestSubscriptionsOfASessionAreLimited(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	c.login(t, 4, "c", "app1", "all")
	granted := 0
	for packet := range 11 {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1}
		for i := range 1000 {
			pk.Filters = append(pk.Filters, packets.Subscription{Filter: fmt.Sprintf("v3/+/devices/+/up/%d", 1000*packet+i)})
		}
		c.send(t, pk)
		for _, code := range c.expect(t, packets.Suback).ReasonCodes {
			if code == 0 {
				granted++
			}
		}
	}
	if kept := atomic.LoadInt64(&s.mqtt.Info.Subscriptions); granted != maxSubscriptions || kept != maxSubscriptions {
		t.Errorf("%d granted, and the library keeps %d", granted, kept)
	}
	if code := c.subscribe(t, "v3/+/devices/+/up/0", 2); code != 2 {
		t.Errorf("SUBACK %#x for one that is to be replaced", code)
	}
	_ = c.Close()
	for s.sessionCount() > 0 {
		time.Sleep(time.Millisecond)
	}
	v, _ := s.apps.Load("app1")
	app := v.(*application)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		app.mu.Lock()
		left := len(app.wide) + len(app.byDevice)
		ended := app.feed == nil
		app.mu.Unlock()
		if ended && left == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d filters are left behind, feed ended: %v", left, ended)
		}
	}
}

func TestSessionThatHasEndedCanNotSubscribe(t *testing.T) {
	t.Parallel()
	app := newApplication("app1")
	s := newSession(sessionKey{username: "app1"}, "", app, nil)
	all := request{text: "#", levels: []string{"#"}, qos: 1}
	app.attach(s)
	app.subscribe(s, all)
	app.leave(s)
	app.subscribe(s, all) // of a SUBSCRIBE that was on its way
	if app.attach(s) || len(app.wide) != 0 {
		t.Errorf("%d filters", len(app.wide))
	}
}

func TestShareGroupGetsEachEventOnce(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	var group []*subscriber
	for i, user := range []string{"app1", "app1@ttn", "app1"} {
		c := connect(t, s, fmt.Sprint("c", i), user, "all")
		c.subscribe(t, "$share/group/v3/+/devices/+/up", 1)
		group = append(group, c)
	}
	alone := connect(t, s, "alone", "app1", "all")
	alone.subscribe(t, "$share/other/v3/+/devices/+/up", 1)
	for n := range 30 {
		s.Publish(event1(n))
	}
	seen := map[string]int{}
	for range 10 {
		for _, c := range group {
			seen[c.next(t).payload]++
		}
	}
	for n := range 30 {
		if seen[fmt.Sprintf(`{"n":%d}`, n)] != 1 {
			t.Errorf("event %d came %d times", n, seen[fmt.Sprintf(`{"n":%d}`, n)])
		}
		if m := alone.next(t); m.payload != fmt.Sprintf(`{"n":%d}`, n) {
			t.Errorf("%+v", m)
		}
	}
	group[0].Disconnect(0)
	group[2].Disconnect(0)
	for s.sessionCount() > 2 {
		time.Sleep(time.Millisecond)
	}
	s.Publish(event1(99))
	if m := group[1].next(t); m.payload != `{"n":99}` || m.topic != "v3/app1@ttn/devices/dev1/up" {
		t.Errorf("%+v", m)
	}
}

func TestClientGetsNoPacketThatIsTooLargeForIt(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all", func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 200 }, receiveMaximum(1))
	c.subscribe(t, "#", 1)
	large := event1(1)
	large.JSON = make([]byte, 200)
	for range 3 {
		s.Publish(large)
	}
	s.Publish(event1(2))
	if pk := c.expect(t, packets.Publish); string(pk.Payload) != `{"n":2}` {
		t.Errorf("%d bytes", len(pk.Payload))
	}
	if n := testutil.ToFloat64(s.metrics.dropped.WithLabelValues("too_large_for_client")); n != 3 {
		t.Errorf("%v counted", n)
	}
}

func TestChangedKeyEndsItsSessions(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c, other := dial(t, s), dial(t, s)
	c.login(t, 5, "c", "app1", "all", keepSession(3600))
	other.login(t, 5, "c", "app1", "read", keepSession(3600))
	absent := dial(t, s)
	absent.login(t, 5, "absent", "app1", "all", keepSession(3600))
	absent.subscribe(t, "#", 1)
	_ = absent.Close()
	for s.sessionCount() > 2 {
		time.Sleep(time.Millisecond)
	}

	s.KeyChanged("id-of-all") // renamed, say
	if n := s.sessionCount(); n != 2 || len(w.documents(t)) != 3 {
		t.Errorf("%d sessions, %d stored", n, len(w.documents(t)))
	}
	w.setKey("all", nil)
	s.KeyChanged("id-of-all")
	if reason := c.ends(t); reason != reasonNotAuthorized {
		t.Errorf("reason %#x", reason)
	}
	if n := s.sessionCount(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	// A right that was added counts at once.
	access := w.keys["read"]
	access.Rights = append(access.Rights, messages.RightApplicationTrafficDownWrite)
	for i, want := range []byte{packets.ErrNotAuthorized.Code, 0} {
		other.send(t, publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1))
		if ack := other.expect(t, packets.Puback); ack.ReasonCode != want {
			t.Errorf("PUBACK %d: %#x", i, ack.ReasonCode)
		}
		w.setKey("read", &access)
		s.KeyChanged("id-of-read")
	}
	access.Rights = access.Rights[1:]
	w.setKey("read", &access)
	s.KeyChanged("id-of-read")
	other.ends(t)
}

func TestExpiredKeyIsNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s, stop := unnetworked(t, w.config())
		defer stop()
		c := pipe(t, s)
		c.login(t, 5, "c", "app1", "all", keepAlive(300))
		time.Sleep(2 * time.Minute)
		if n := s.sessionCount(); n != 1 {
			t.Fatalf("%d sessions", n)
		}
		w.setKey("all", nil)
		began := time.Now()
		if reason := c.ends(t); reason != reasonNotAuthorized || time.Since(began) > time.Minute {
			t.Errorf("reason %#x after %v", reason, time.Since(began))
		}
	})
}

func TestKeyRevokedDuringALoginDoesNotLetIn(t *testing.T) {
	t.Parallel()
	w := newWorld()
	cfg := w.config()
	var s *Server
	revoked := false
	cfg.ApplicationExists = func(string) bool { // comes after Authorize
		if !revoked {
			revoked = true
			w.setKey("all", nil)
			s.KeyChanged("id-of-all")
		}
		return true
	}
	s = start(t, cfg)
	c := dial(t, s)
	c.send(t, connectPacket(5, "c", "app1", "all"))
	if ack := c.expect(t, packets.Connack); ack.ReasonCode != packets.ErrBadUsernameOrPassword.Code {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
	if n := s.sessionCount(); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestDeletedApplicationHasNoClients(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c, admin, other := dial(t, s), dial(t, s), dial(t, s)
	c.login(t, 5, "c", "app1", "all", keepSession(3600))
	admin.login(t, 5, "c", "app1", "admin")
	other.login(t, 5, "c", "app2", "admin")
	other.subscribe(t, "#", 0)
	w.mu.Lock()
	delete(w.apps, "app1")
	w.mu.Unlock()
	s.ApplicationDeleted("app1")
	for _, c := range []*raw{c, admin} {
		if reason := c.ends(t); reason != reasonNotAuthorized {
			t.Errorf("reason %#x", reason)
		}
	}
	s.Publish(eventOf("app2", "dev1", messages.EventUplink, 1))
	other.expect(t, packets.Publish)
	if n := s.sessionCount(); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestCloseTellsTheClients(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c, silent := dial(t, s), dial(t, s)
	c.login(t, 5, "c", "app1", "all", keepSession(3600))
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if reason := c.ends(t); reason != reasonShuttingDown {
		t.Errorf("reason %#x", reason)
	}
	silent.ends(t)
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.Publish(event1(1))
}
