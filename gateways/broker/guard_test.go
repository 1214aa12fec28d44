package broker

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
)

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
	c.write(t, []byte{0x82, 6, 0, 1, 0, 0, 1, '#'})
	c.ends(t)
	serves(t, s)
	for s.doorkeeper.total() > 0 { // the client sees the end before it is counted
		time.Sleep(time.Millisecond)
	}
	if n := testutil.ToFloat64(s.metrics.ended.WithLabelValues("panic")); n != 1 {
		t.Errorf("%v panics counted", n)
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

func TestClientThatDoesNotReadIsCutAndDelaysNobody(t *testing.T) {
	t.Parallel()
	for qos := range byte(3) {
		w := newWorld()
		cfg := w.config()
		cfg.WriteBuffer = 256 << 10
		s := start(t, cfg)
		s.kept.limit = 8 << 20
		stuck := dial(t, s)
		stuck.login(t, 4, "stuck", "app1", "all", keepAlive(0))
		stuck.subscribe(t, "#", qos)
		healthy := connect(t, s, "healthy", "app1", "all")
		healthy.subscribe(t, "#", qos)
		payload := `{"x":"` + strings.Repeat("x", 8000) + `"}`
		e := event1(0)
		e.JSON = []byte(payload)
		var longest time.Duration
		published := 0
		cut := func() bool { return testutil.ToFloat64(s.metrics.ended.WithLabelValues("slow")) == 1 }
		for full := uint64(0); full == 0 && !cut(); published++ { // with QoS 0 the buffer is full, with the others the session
			before := time.Now()
			s.Publish(e)
			longest = max(longest, time.Since(before))
			if m := healthy.next(t); m.payload != payload {
				t.Fatalf("got %d bytes", len(m.payload))
			}
			if qos > 0 {
				full = uint64(testutil.ToFloat64(s.metrics.dropped.WithLabelValues("session_full")))
			}
		}
		stuck.ends(t)
		if longest > time.Second {
			t.Errorf("QoS %d: one Publish of %d took %v", qos, published, longest)
		}
		serves(t, s)
	}
}

func TestClientThatStopsReadingIsCutInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := unnetworked(t, newWorld().config())
		defer stop()
		c := pipe(t, s)
		c.login(t, 4, "c", "app1", "all", keepAlive(0))
		c.subscribe(t, "#", 0)
		began := time.Now()
		s.Publish(event1(1))
		for s.doorkeeper.total() > 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("cut after %v", took)
		}
	})
}

func TestPublishWaitsForSlowClientsWithinItsCredit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := newWorld().config()
		cfg.WriteBuffer = 100 << 10
		s, stop := unnetworked(t, cfg)
		defer stop()
		c := pipe(t, s)
		c.login(t, 4, "c", "app1", "all")
		c.subscribe(t, "#", 0)
		e := event1(1)
		e.JSON = make([]byte, 1000)
		publish := func(n int) time.Duration {
			began := time.Now()
			for range n {
				s.Publish(e)
			}
			return time.Since(began)
		}
		if d := publish(40); d != 0 {
			t.Errorf("waited %v for a client that has room", d)
		}
		if d := publish(20); d != waitingTime {
			t.Errorf("waited %v", d)
		}
		if d := publish(10); d != 0 {
			t.Errorf("waited %v without credit", d)
		}
		time.Sleep(1100 * time.Millisecond)
		go func() {
			time.Sleep(10 * time.Millisecond)
			for range 70 {
				_, _ = c.read()
			}
		}()
		if d := publish(1); d != 10*time.Millisecond {
			t.Errorf("waited %v for a client that read after 10 ms", d)
		}
	})
}

func TestBurstDoesNotCutAClientThatReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := newWorld().config()
		cfg.WriteBuffer = 100 << 10
		s, stop := unnetworked(t, cfg)
		defer stop()
		c := pipe(t, s)
		c.login(t, 4, "c", "app1", "all")
		c.subscribe(t, "#", 0)
		const events = 3000 // thirty times what the buffer holds
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := range events {
				if n%64 == 0 {
					time.Sleep(promptly / 2) // reads a chunk in half of the time it may take
				}
				pk, err := c.read()
				if err != nil {
					t.Errorf("event %d: %v", n, err)
					return
				}
				if !strings.HasPrefix(string(pk.Payload), fmt.Sprintf(`{"n":%d}`, n)) {
					t.Errorf("event %d is %.20s", n, pk.Payload)
					return
				}
			}
		}()
		for n := range events {
			e := event1(n)
			e.JSON = append(e.JSON, make([]byte, 1000)...)
			s.Publish(e)
		}
		<-done
	})
}

func TestMemoryOfAllWriteBuffersIsLimited(t *testing.T) {
	t.Parallel()
	cfg := newWorld().config()
	cfg.WriteBuffer = 256 << 10
	s := start(t, cfg)
	s.memory.limit = 400 << 10 // less than two clients may have alone
	for i := range 4 {
		c := dial(t, s)
		c.login(t, 4, fmt.Sprint("c", i), "app1", "all")
		c.subscribe(t, "#", 0)
	}
	e := event1(0)
	e.JSON = make([]byte, 16<<10)
	for s.doorkeeper.total() > 0 {
		s.Publish(e)
		if used := s.memory.used.Load(); used > s.memory.limit+4*fairShare {
			t.Fatalf("%d bytes wait", used)
		}
	}
	serves(t, s)
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

func TestSilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := unnetworked(t, newWorld().config())
		defer stop()
		silent, slow := pipe(t, s), pipe(t, s)
		hello := encode(t, connectPacket(4, "c", "app1", "all"))
		began := time.Now()
		for _, b := range hello { // a byte each second
			time.Sleep(time.Second)
			if _, err := slow.Write([]byte{b}); err != nil {
				break
			}
		}
		silent.ends(t)
		slow.ends(t)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("closed after %v", took)
		}
		synctest.Wait()
		if n := s.doorkeeper.total(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
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

func TestWillIsADownlinkRequestOrNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	will := func(topic string) func(*paho.ClientOptions) {
		return func(o *paho.ClientOptions) { o.SetWill(topic, push, 1, true) }
	}
	for _, c := range []struct{ topic, key string }{
		{"v3/app2/devices/dev1/down/push", "all"}, {"v3/app1/devices/dev1/up", "all"}, {"v3/app1/devices/+/down/push", "all"}, {"$SYS/x", "all"},
		{"v3/app1/devices/dev1/down/push", "read"},
	} {
		o := pahoOptions(s, "c", "app1", c.key)
		will(c.topic)(o)
		if err := wait(paho.NewClient(o).Connect()); err == nil {
			t.Errorf("will on %s with key %s is taken", c.topic, c.key)
		}
	}
	watcher := connect(t, s, "watcher", "app1", "all")
	watcher.subscribe(t, "#", 0)
	connect(t, s, "gone", "app1", "all", will("v3/app1/devices/dev1/down/push")).Disconnect(100)
	lost := dial(t, s)
	lost.login(t, 4, "lost", "app1", "write", func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "v3/app1/devices/dev2/down/replace", []byte(push)
	})
	_ = lost.Close()
	if got := w.next(t); got.device.DeviceID != "dev2" || got.verb != "replace" {
		t.Errorf("%+v", got)
	}
	s.Publish(event1(1))
	if m := watcher.next(t); m.payload != `{"n":1}` {
		t.Errorf("subscriber got %+v", m)
	}
	if len(w.commands) != 0 {
		t.Errorf("also %+v", w.next(t))
	}
}

func TestWillWaitsForItsDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s, stop := unnetworked(t, w.config())
		defer stop()
		withWill := func(pk *packets.Packet) {
			keepSession(3600)(pk)
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "v3/app1/devices/dev1/down/push", []byte(push)
			pk.Connect.WillProperties.WillDelayInterval = 30
		}
		for range 2 { // comes back in time, twice
			c := pipe(t, s)
			c.login(t, 5, "c", "app1", "all", withWill)
			_ = c.Close()
			time.Sleep(20 * time.Second)
		}
		if len(w.commands) != 0 {
			t.Error("the will did not wait")
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if len(w.commands) != 1 {
			t.Errorf("%d wills were carried out", len(w.commands))
		}
	})
}

func TestWillOfARevokedKeyIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	withWill := func(delay uint32) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			keepSession(3600)(pk)
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "v3/app1/devices/dev1/down/push", []byte(push)
			pk.Connect.WillProperties.WillDelayInterval = delay
		}
	}
	here, delayed := dial(t, s), dial(t, s)
	here.login(t, 5, "here", "app1", "all", withWill(0))
	delayed.login(t, 5, "delayed", "app1", "all", withWill(3600))
	_ = delayed.Close()
	for s.doorkeeper.total() > 1 {
		time.Sleep(time.Millisecond)
	}
	w.setKey("all", nil)
	s.KeyChanged("id-of-all")
	here.ends(t)
	for s.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	if len(w.commands) != 0 {
		t.Errorf("carried out: %+v", w.next(t))
	}
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

func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	cfg := newWorld().config()
	cfg.MaxConnections = 8
	s := start(t, cfg)
	for range 4 {
		dial(t, s).login(t, 5, "", "app1", "all")
	}
	fifth := dial(t, s)
	if _, err := fifth.read(); err == nil || err == io.ErrUnexpectedEOF {
		t.Errorf("the fifth connection of this address: error %v", err)
	}
	if n := testutil.ToFloat64(s.metrics.refused.WithLabelValues("max_connections_of_address")); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
}

func TestDoorkeeperCounts(t *testing.T) {
	t.Parallel()
	d := newDoorkeeper(10000)
	var in []*guest
	enter := func(host, want string) {
		t.Helper()
		c := &guest{host: host}
		if got := d.enter(c); got != want {
			t.Fatalf("from %s with %d in: %q, want %q", host, len(in), got, want)
		}
		if want == "" {
			in = append(in, c)
		}
	}
	for range maxUnknownPerHost {
		enter("a", "")
	}
	enter("a", "max_not_logged_in_of_address")
	for range maxUnknown - maxUnknownPerHost {
		enter("b", "")
	}
	enter("c", "max_not_logged_in")
	d.known(in[0])
	d.known(in[0])
	enter("a", "")
	enter("a", "max_not_logged_in")
	for _, c := range in {
		d.leave(c)
		d.leave(c)
	}
	if d.guests != (guests{}) || len(d.hosts) != 0 || len(d.open) != 0 {
		t.Errorf("left behind: %+v, %d addresses, %d connections", d.guests, len(d.hosts), len(d.open))
	}
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

func TestPortInUseIsAnError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := newWorld().config()
	cfg.Listen = l.Addr().String()
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v", err)
	}
}

func TestSuspendedServerSendsItsClientsAwayAndKeepsTheirSessions(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	c.login(t, 4, "c", "app1", "all", keepSession(0))
	c.subscribe(t, "#", 1)
	s.Suspend(true)
	c.ends(t)
	for s.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := dial(t, s).read(); err == nil {
		t.Error("a suspended server lets clients in")
	}
	s.Publish(event1(1))
	s.Suspend(false)
	c = dial(t, s)
	if ack := c.login(t, 4, "c", "app1", "all", keepSession(0)); !ack.SessionPresent {
		t.Error("the session is gone")
	}
	if pk := c.expect(t, packets.Publish); string(pk.Payload) != `{"n":1}` {
		t.Errorf("payload %s", pk.Payload)
	}
}
