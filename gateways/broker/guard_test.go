package broker

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
)

// What the MQTT library does when it is left to itself, and the test that shows that it can't happen here:
//
//	dies of a SUBSCRIBE without options                      TestSubscribeWithoutOptionsEndsOnlyItsConnection, TestGuardStandsBehindTheWebSocket
//	stops for ever with clients that have a Receive Maximum  TestClientsWithAReceiveMaximumDoNotStopTheServer
//	loses and reorders what is beyond a Receive Maximum      TestReceiveMaximumIsKept, TestSessionKeepsWhatItsClientHasNotConfirmed
//	lets one client that does not read stop everybody        TestClientThatDoesNotReadIsCutAndDelaysNobody, TestClientThatConfirmsNothingCostsItsWindowOnly
//	keeps one with keep-alive 0 that does not read           TestClientThatStopsReadingIsCutInTime
//	takes the packet ids of both sides for the same          TestPacketIDsOfTheTwoSidesAreTwoThings
//	sends again in another order                             TestSessionKeepsWhatItsClientHasNotConfirmed, TestSessionOutlivesTheServer
//	drops what is beyond 8192 messages for an absent client  TestTenThousandEventsWaitForAnAbsentClient
//	acknowledges what failed, to clients of 3.1.1            TestUnavailableServerAcknowledgesNothing
//	publishes a last will without asking for rights          TestWillIsADownlinkRequestOrNothing, TestWillOfARevokedKeyIsNotCarriedOut
//	sends a session's messages after its rights are gone     TestChangedKeyEndsItsSessions, TestRevokedKeyLosesItsStoredSessions
//	lets clients take over each other, or the id "inline"    TestClientIDIsFreeForEveryCredential
//	keeps connections that say nothing                       TestSilentConnectionIsClosed, TestSilenceEndsAtEveryDoor, TestCrowdThatSaysNothingKeepsNobodyOut
//	makes room for any size that a stranger names            TestLargeFirstPacketIsRefusedBeforeThereIsRoomForIt
//	disconnects at once with a keep-alive of 43691 s         TestKeepAlive
//	drops publishes with a topic alias                       TestTopicAliasIsRefused
//	loses or reorders sessions when it is killed             TestCrashRepeatsOnlyWhatWasJustConfirmed, TestCrashDoesNotRepeatWhatAClientOfQoS2Holds
//	takes WebSockets from pages of any origin                TestPagesOfStrangersCanNotConnect
//	logs packets with passwords and payloads                 TestLogHoldsNoSecretAndNoPayload

// serves shows that the server is well.
func serves(t testing.TB, s *Server) {
	t.Helper()
	c := dial(t, s)
	c.login(t, 5, "probe", "app1", "all")
	c.subscribe(t, "v3/+/devices/probe/up", 0)
	s.Publish(eventOf("app1", "probe", messages.EventUplink, 1))
	if pk := c.expect(t, packets.Publish); string(pk.Payload) != `{"n":1}` {
		t.Errorf("payload %s", pk.Payload)
	}
	_ = c.Close()
}

func TestSubscribeWithoutOptionsEndsOnlyItsConnection(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all")
	c.write(t, []byte{0x82, 6, 0, 1, 0, 0, 1, '#'}) // the library would panic
	if reason := c.ends(t); reason != malformed {
		t.Errorf("reason %#x", reason)
	}
	serves(t, s)
	for s.doorkeeper.total() > 0 { // the client sees the end before it is counted
		time.Sleep(time.Millisecond)
	}
	if n := testutil.ToFloat64(s.metrics.ended.WithLabelValues("protocol_error")); n != 1 {
		t.Errorf("%v violations counted", n)
	}
}

func TestClientsWithAReceiveMaximumDoNotStopTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	const subscribers, events = 20, 200
	var all sync.WaitGroup
	for i := range subscribers {
		c := dial(t, s)
		c.login(t, 5, fmt.Sprint("c", i), "app1", "all", receiveMaximum(3))
		c.subscribe(t, "#", 1+byte(i%2))
		all.Go(func() {
			for n := 0; n < events; {
				pk, err := c.read()
				if err != nil {
					t.Error(err)
					return
				}
				switch pk.FixedHeader.Type {
				case packets.Publish:
					if want := fmt.Sprintf(`{"n":%d}`, n); string(pk.Payload) != want {
						t.Errorf("payload %s, want %s", pk.Payload, want)
					}
					n++
					answer := packets.Puback
					if pk.FixedHeader.Qos == 2 {
						answer = packets.Pubrec
					}
					c.send(t, confirmation(answer, pk.PacketID))
					c.send(t, publishPacket("v3/app1/devices/dev1/down/push", push, 1, pk.PacketID)) // an id that the server uses as well
				case packets.Pubrel:
					c.send(t, confirmation(packets.Pubcomp, pk.PacketID))
				}
			}
		})
	}
	for n := range events {
		s.Publish(event1(n))
	}
	all.Wait()
	serves(t, s)
}

// TestPacketIDsOfTheTwoSidesAreTwoThings has the client use the ids of messages that it was sent and has not confirmed.
func TestPacketIDsOfTheTwoSidesAreTwoThings(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all")
	c.subscribe(t, "#", 1)
	for n := range 3 {
		s.Publish(event1(n))
	}
	var ids []uint16
	for range 3 {
		ids = append(ids, c.expect(t, packets.Publish).PacketID)
	}
	for n, id := range ids {
		c.send(t, publishPacket("v3/app1/devices/dev1/down/push", push, byte(1+n%2), id))
		if ack, err := c.read(); err != nil || ack.ReasonCode != 0 || ack.PacketID != id {
			t.Fatalf("answer to a publish with the id of event %d: %#x %v", n, ack.ReasonCode, err)
		}
		if n == 1 {
			c.send(t, confirmation(packets.Pubrel, id))
			c.expect(t, packets.Pubcomp)
		}
		c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: id, Filters: packets.Subscriptions{{Filter: "v3/#", Qos: 1}}})
		if ack := c.expect(t, packets.Suback); ack.ReasonCodes[0] != 1 {
			t.Errorf("SUBACK %#x", ack.ReasonCodes[0])
		}
	}
	session := s.sessionsWhere(func(sessionKey, *session) bool { return true })[0]
	session.mu.Lock()
	defer session.mu.Unlock()
	if session.sent != 3 {
		t.Errorf("%d events wait to be confirmed, want 3", session.sent)
	}
}

func TestReceiveMaximumIsKept(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all", receiveMaximum(4))
	c.subscribe(t, "#", 1)
	for n := range 20 {
		s.Publish(event1(n))
	}
	var open []uint16
	for n := range 20 {
		if len(open) == 4 {
			c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			c.expect(t, packets.Pingresp) // and no fifth message before
			c.send(t, confirmation(packets.Puback, open[0]))
			open = open[1:]
		}
		pk := c.expect(t, packets.Publish)
		if string(pk.Payload) != fmt.Sprintf(`{"n":%d}`, n) {
			t.Fatalf("payload %s at place %d", pk.Payload, n)
		}
		open = append(open, pk.PacketID)
	}
}

func TestClientIDIsFreeForEveryCredential(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	clients := map[string]*subscriber{
		"all": connect(t, s, "inline", "app1", "all"), "read": connect(t, s, "inline", "app1", "read"), "admin": connect(t, s, "inline", "app1", "admin"),
		"tenant": connect(t, s, "inline", "app1@ttn", "all"),
	}
	for _, c := range clients {
		c.subscribe(t, "#", 1)
	}
	s.Publish(event1(1))
	for name, c := range clients {
		if m := c.next(t); m.payload != `{"n":1}` {
			t.Errorf("%s: %+v", name, m)
		}
	}
	// The same credential does take over.
	next := connect(t, s, "inline", "app1", "all")
	clients["all"].isLost(t)
	next.subscribe(t, "#", 1)
	s.Publish(event1(2))
	if m := next.next(t); m.payload != `{"n":2}` {
		t.Errorf("%+v", m)
	}
	if m := clients["read"].next(t); m.payload != `{"n":2}` {
		t.Errorf("%+v", m)
	}
}

func TestTakeOverTellsTheOldConnection(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	old, c := dial(t, s), dial(t, s)
	old.login(t, 5, "c", "app1", "all")
	c.login(t, 5, "c", "app1", "all")
	if reason := old.ends(t); reason != reasonTakenOver {
		t.Errorf("reason %#x", reason)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := unnetworked(t, newWorld().config())
		defer stop()
		lives := func(version byte, seconds uint16) (d time.Duration) {
			c := pipe(t, s)
			ack := c.login(t, version, fmt.Sprint("c", version, seconds), "app1", "all", keepAlive(seconds))
			if version == 5 && (seconds == 0 || seconds > maxKeepAlive) && ack.Properties.ServerKeepAlive != maxKeepAlive {
				t.Errorf("CONNACK to keep-alive %d says %d", seconds, ack.Properties.ServerKeepAlive)
			}
			began := time.Now()
			_ = c.SetReadDeadline(began.Add(16 * time.Minute))
			_, _ = c.read()
			_ = c.Close()
			return time.Since(began)
		}
		var all sync.WaitGroup
		for _, c := range []struct {
			version byte
			seconds uint16
			want    time.Duration
		}{
			{4, 10, 15 * time.Second}, {4, 1, 1500 * time.Millisecond}, {4, 620, 930 * time.Second}, {4, 43691, 16 * time.Minute}, {4, 0, 16 * time.Minute},
			{5, 20, 30 * time.Second}, {5, 43691, 900 * time.Second}, {5, 0, 900 * time.Second},
		} {
			all.Go(func() {
				if got := lives(c.version, c.seconds); got != c.want {
					t.Errorf("version %d, keep-alive %d: a silent client is cut after %v, want %v", c.version, c.seconds, got, c.want)
				}
			})
		}
		all.Wait()
	})
}

func TestLargeFirstPacketIsRefusedBeforeThereIsRoomForIt(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, header := range [][]byte{{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, {0x10, 0x81, 0x80, 0x04}, {0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}} {
		for range 8 {
			c := dial(t, s)
			c.write(t, header)
			c.ends(t)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("allocated %d MiB", grown>>20)
	}
	serves(t, s)
}

func TestPacketsUpToTheLimitAreTaken(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	if ack := c.login(t, 5, "c", "app1", "all"); ack.Properties.MaximumPacketSize != maxPacket {
		t.Errorf("CONNACK says %d", ack.Properties.MaximumPacketSize)
	}
	body := strings.Replace(push, `"mine"`, `"mine"`+strings.Repeat(" ", 1<<20-len(push)), 1)
	c.send(t, publishPacket("v3/app1/devices/dev1/down/push", body, 1, 1))
	if ack := c.expect(t, packets.Puback); ack.ReasonCode != 0 {
		t.Errorf("PUBACK %#x", ack.ReasonCode)
	}
	w.next(t)
	c.write(t, []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F})
	c.ends(t)
	serves(t, s)
}

func TestVersions(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	for _, c := range []struct {
		name          string
		version, code byte
	}{{"MQIsdp", 3, 0}, {"MQTT", 4, 0}, {"MQTT", 5, 0}, {"MQTT", 2, 1}, {"MQTT", 6, 0x84}} {
		client := dial(t, s)
		client.version = c.version
		hello := encode(t, connectPacket(c.version, "c", "app1", "all", func(pk *packets.Packet) { pk.Connect.ProtocolName = []byte(c.name) }))
		client.write(t, hello)
		if ack := client.expect(t, packets.Connack); ack.ReasonCode != c.code {
			t.Errorf("%s %d: CONNACK %#x, want %#x", c.name, c.version, ack.ReasonCode, c.code)
		}
	}
}

func TestRefusalReachesAClientThatIsStillSending(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	for range 20 {
		c := dial(t, s)
		c.version = 4
		hello := encode(t, connectPacket(4, "c", "app1", "wrong"))
		for range 200 {
			hello = append(hello, encode(t, publishPacket("v3/app1/devices/dev1/down/push", push, 0, 0))...)
		}
		_, _ = c.Write(hello)
		if ack := c.expect(t, packets.Connack); ack.ReasonCode != 5 {
			t.Errorf("CONNACK %#x", ack.ReasonCode)
		}
	}
}

func TestTopicAliasIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	if ack := c.login(t, 5, "c", "app1", "all"); ack.Properties.TopicAliasMaximum != 0 {
		t.Errorf("CONNACK allows %d aliases", ack.Properties.TopicAliasMaximum)
	}
	pk := publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1)
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true
	c.send(t, pk)
	if reason := c.ends(t); reason != packets.ErrTopicAliasInvalid.Code {
		t.Errorf("reason %#x", reason)
	}
	serves(t, s)
}

func TestLogHoldsNoSecretAndNoPayload(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all")
	c.send(t, publishPacket("v3/app1/devices/dev1/down/push", `{"downlinks":"payload-text"}`, 1, 1))
	c.expect(t, packets.Puback)
	c.send(t, connectPacket(5, "c", "app1", "password-text"))
	c.ends(t)
	bad := dial(t, s)
	bad.send(t, connectPacket(5, "c", "app1", "password-text"))
	bad.ends(t)
	w.setKey("secret-key", &messages.Access{KeyID: "k", Admin: true})
	c = dial(t, s)
	c.login(t, 5, "c", "app1", "secret-key")
	c.write(t, []byte{0x82, 6, 0, 1, 0, 0, 1, '#'})
	c.ends(t)
	serves(t, s)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.log.Len() == 0 {
		t.Error("nothing was logged")
	}
	for _, secret := range []string{"password-text", "payload-text", "secret-key"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, w.log)
		}
	}
}
