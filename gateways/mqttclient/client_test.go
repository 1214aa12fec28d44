package mqttclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// TestMain looks for goroutines that are left, except what the library holds back until its write timeout (connection.begin).
func TestMain(m *testing.M) {
	const library = "github.com/eclipse/paho%2emqtt%2egolang.(*client)."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(library+"Publish"), goleak.IgnoreAnyFunction(library+"Subscribe"), goleak.IgnoreTopFunction("github.com/mochi-mqtt/server/v2.(*Server).eventLoop")) // of the broker in the tests, whose Close is not safe
}

// watcher is a hook of the broker under test: it lets in who is allowed, and records.
type watcher struct {
	broker.HookBase
	deny       func(topic string, write bool) bool
	maxPayload int                 // a client that sends more is disconnected; 0: none is
	published  chan packets.Packet // by clients
	acked      chan uint16         // downlinks that our client acknowledged
	connected  chan string
}

func (w *watcher) ID() string { return "watcher" }
func (w *watcher) Provides(b byte) bool {
	return bytes.Contains([]byte{broker.OnConnectAuthenticate, broker.OnACLCheck, broker.OnPublished, broker.OnPacketRead, broker.OnSessionEstablished}, []byte{b})
}
func (w *watcher) OnConnectAuthenticate(_ *broker.Client, pk packets.Packet) bool {
	return string(pk.Connect.Password) != "wrong"
}
func (w *watcher) OnACLCheck(_ *broker.Client, topic string, write bool) bool {
	return w.deny == nil || !w.deny(topic, write)
}
func (w *watcher) OnPublished(cl *broker.Client, pk packets.Packet) {
	if !cl.Net.Inline {
		w.published <- pk
	}
}
func (w *watcher) OnPacketRead(cl *broker.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Puback {
		w.acked <- pk.PacketID
	}
	if pk.FixedHeader.Type == packets.Publish && w.maxPayload > 0 && pk.FixedHeader.Remaining > w.maxPayload {
		cl.Stop(packets.ErrPacketTooLarge)
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}
func (w *watcher) OnSessionEstablished(cl *broker.Client, _ packets.Packet) {
	select {
	case w.connected <- cl.ID:
	default:
	}
}

func newWatcher() *watcher {
	return &watcher{published: make(chan packets.Packet, 1000), acked: make(chan uint16, 1000), connected: make(chan string, 100)}
}

// startBroker runs a broker on address (port 0: any) until stop is called.
func startBroker(t *testing.T, address string, w *watcher, more ...listeners.Listener) (s *broker.Server, at string, stop func()) {
	t.Helper()
	s = broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(w, nil); err != nil {
		t.Fatal(err)
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: address})
	for _, l := range append(more, tcp) {
		if err := s.AddListener(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			for _, l := range append(more, tcp) {
				s.Listeners.Close(l.ID(), func(string) { disconnect(s) })
			}
			go keepDisconnecting(t.Context(), s)
		})
	}
	t.Cleanup(stop)
	return s, tcp.Address(), stop
}

// disconnect ends all connections. The library's Close does that and waits for all to end, for ever if one came about at the same moment.
func disconnect(s *broker.Server) {
	for _, client := range s.Clients.GetAll() {
		if !client.Net.Inline {
			client.Stop(errors.New("the broker is stopped"))
		}
	}
}

// keepDisconnecting ends the connections that were being made when the broker was stopped.
func keepDisconnecting(ctx context.Context, s *broker.Server) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			disconnect(s)
		case <-ctx.Done():
			return
		}
	}
}

func config(address string, qos v3.QoS) v3.PubSub {
	return v3.PubSub{
		IDs:       v3.PubSubIDs{ApplicationIDs: v3.ApplicationIDs{ApplicationID: "app1"}, PubSubID: "mqtt1"},
		MQTT:      &v3.MQTTProvider{ServerURL: "mqtt://" + address, PublishQoS: qos, SubscribeQoS: "AT_LEAST_ONCE", Username: "u", Password: "hunter2"},
		BaseTopic: "lora/app1", UplinkMessage: &v3.MessageTopic{Topic: "up"}, JoinAccept: &v3.MessageTopic{Topic: "join"},
		DownlinkPush: &v3.MessageTopic{Topic: "down/push"}, DownlinkReplace: &v3.MessageTopic{Topic: "down/replace"},
	}
}

func open(t *testing.T, cfg Config) *Client {
	t.Helper()
	cfg.ReconnectCap = 50 * time.Millisecond
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func event(seq uint64) messages.LogEntry {
	return messages.LogEntry{Seq: seq, Event: messages.Event{
		ID: fmt.Sprintf("event-%d", seq), Device: messages.DeviceID{ApplicationID: "app1", DeviceID: "dev1"}, Type: messages.EventUplink, JSON: fmt.Appendf(nil, `{"n":%d}`, seq),
	}}
}

// deliver tries until it succeeds, as the integration actor does.
func deliver(t *testing.T, c *Client, e messages.LogEntry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := c.Deliver(ctx, e)
		if err == nil {
			return
		}
		if ctx.Err() != nil || errors.Is(err, messages.ErrPermanent) {
			t.Errorf("event %d: %v", e.Seq, err)
			return
		}
	}
}

func TestEventsArriveInOrderWithEachQoS(t *testing.T) {
	for qos, name := range []v3.QoS{"AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE"} {
		w := newWatcher()
		_, at, stop := startBroker(t, "127.0.0.1:0", w)
		c := open(t, Config{PubSub: config(at, name)})
		for i := range uint64(100) {
			deliver(t, c, event(i))
		}
		for i := range 100 {
			pk := receive(t, w.published)
			if pk.TopicName != "lora/app1/up" || string(pk.Payload) != fmt.Sprintf(`{"n":%d}`, i) || int(pk.FixedHeader.Qos) != qos || pk.FixedHeader.Retain {
				t.Fatalf("%s: event %d: %s %s QoS %d", name, i, pk.TopicName, pk.Payload, pk.FixedHeader.Qos)
			}
		}
		if id := receive(t, w.connected); !strings.HasPrefix(id, "lorikeet-") || len(id) > 23 {
			t.Errorf("client id %q", id)
		}
		_ = c.Close()
		stop()
	}
}

func TestBrokerRestartLosesNothing(t *testing.T) {
	w := newWatcher()
	_, at, stop := startBroker(t, "127.0.0.1:0", w)
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE")})
	var all sync.WaitGroup
	for d := range uint64(4) { // four devices
		all.Go(func() {
			for i := range uint64(25) {
				deliver(t, c, event(d*1000+i))
			}
		})
	}
	seen, last := map[string]bool{}, map[string]bool{}
	record := func(pk packets.Packet) { seen[string(pk.Payload)] = true }
	for range 10 {
		record(receive(t, w.published))
	}
	stop()
	_, _, stop = startBroker(t, at, w)
	defer stop()
	all.Wait()
	for len(seen) < 100 {
		record(receive(t, w.published))
	}
	for d := range 4 {
		for i := range 25 {
			last[fmt.Sprintf(`{"n":%d}`, d*1000+i)] = true
		}
	}
	if diff := cmp.Diff(last, seen); diff != "" {
		t.Error(diff)
	}
}

func TestBrokerMayComeLater(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_ = l.Close()
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE")})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Deliver(ctx, event(1)); err == nil || !strings.Contains(err.Error(), "no connection") {
		t.Errorf("error %v", err)
	}
	w := newWatcher()
	startBroker(t, at, w)
	deliver(t, c, event(1))
}

func TestBrokerThatDoesNotConfirmIsLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connects := make(chan struct{}, 100)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { // accepts the connection, and says no more
				defer conn.Close()
				_, _ = conn.Write([]byte{0x20, 2, 0, 0})
				connects <- struct{}{}
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	p := config(l.Addr().String(), "AT_LEAST_ONCE")
	c := open(t, Config{PubSub: p})
	for range 2 {
		receive(t, connects)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if err := c.Deliver(ctx, event(1)); err == nil {
			t.Error("delivered")
		}
		cancel()
	}
	_ = c.Close()
	_ = l.Close()
	all.Wait()
}

func TestWrongPasswordIsTriedForEver(t *testing.T) {
	_, at, _ := startBroker(t, "127.0.0.1:0", newWatcher())
	p := config(at, "AT_LEAST_ONCE")
	p.MQTT.Password = "wrong"
	c := open(t, Config{PubSub: p})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := c.Deliver(ctx, event(1))
	if err == nil || errors.Is(err, messages.ErrPermanent) || !strings.Contains(err.Error(), "no connection") {
		t.Errorf("error %v", err)
	}
}

type downlinks struct {
	calls chan string
	hold  chan struct{} // if set, push waits for it
	err   error
}

func (d *downlinks) record(kind string, id messages.DeviceID, items []messages.Downlink, err error) error {
	d.calls <- fmt.Sprintf("%s %s %d", kind, id, len(items))
	if d.hold != nil {
		<-d.hold
	}
	return err
}
func (d *downlinks) PushDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink) error {
	return d.record("push", id, items, d.err)
}
func (d *downlinks) ReplaceDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink) error {
	return d.record("replace", id, items, d.err)
}
func (d *downlinks) FailDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink, _ error) error {
	d.calls <- fmt.Sprintf("fail %s %d", id, len(items))
	return nil
}

const (
	push1 = `{"end_device_ids":{"device_id":"dev1"},"downlinks":[{"f_port":1,"frm_payload":"AQ=="}]}`
	none  = `{"end_device_ids":{"device_id":"dev1"},"downlinks":[]}`
)

func TestDownlinksAreAcknowledgedOnceDurable(t *testing.T) {
	w := newWatcher()
	s, at, _ := startBroker(t, "127.0.0.1:0", w)
	d := &downlinks{calls: make(chan string, 10), hold: make(chan struct{})}
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE"), Downlinks: d})
	deliver(t, c, event(1)) // connected and subscribed
	if err := s.Publish("lora/app1/down/push", []byte(push1), false, 1); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, d.calls); got != "push app1.dev1 1" {
		t.Errorf("call %q", got)
	}
	deliver(t, c, event(2)) // a slow push does not hold up events
	if len(w.acked) != 0 {
		t.Error("acknowledged before the push was durable")
	}
	close(d.hold)
	receive(t, w.acked)
	if err := s.Publish("lora/app1/down/replace", []byte(none), false, 1); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, d.calls); got != "replace app1.dev1 0" {
		t.Errorf("call %q", got)
	}
	receive(t, w.acked)
}

func TestBadDownlinkIsReportedAndAcknowledged(t *testing.T) {
	w := newWatcher()
	s, at, _ := startBroker(t, "127.0.0.1:0", w)
	d := &downlinks{calls: make(chan string, 10)}
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE"), Downlinks: d})
	deliver(t, c, event(1))
	if err := s.Publish("lora/app1/down/push", []byte(strings.Replace(push1, `"f_port":1`, `"f_port":1000`, 1)), false, 1); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, d.calls); got != "fail app1.dev1 1" {
		t.Errorf("call %q", got)
	}
	receive(t, w.acked)
}

func TestSubscriptionsComeBack(t *testing.T) {
	w := newWatcher()
	_, at, stop := startBroker(t, "127.0.0.1:0", w)
	d := &downlinks{calls: make(chan string, 10)}
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE"), Downlinks: d})
	deliver(t, c, event(1))
	stop()
	s, _, _ := startBroker(t, at, w)
	deliver(t, c, event(2))
	if err := s.Publish("lora/app1/down/replace", []byte(none), false, 1); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, d.calls); got != "replace app1.dev1 0" {
		t.Errorf("call %q", got)
	}
}

func TestRetainedRequestIsIgnored(t *testing.T) {
	s, at, _ := startBroker(t, "127.0.0.1:0", newWatcher())
	if err := s.Publish("lora/app1/down/push", []byte(push1), true, 1); err != nil {
		t.Fatal(err)
	}
	d := &downlinks{calls: make(chan string, 10)}
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE"), Downlinks: d})
	deliver(t, c, event(1))
	if err := s.Publish("lora/app1/down/replace", []byte(none), false, 1); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, d.calls); got != "replace app1.dev1 0" {
		t.Errorf("call %q", got)
	}
}

func TestRefusedSubscriptionDoesNotStopEvents(t *testing.T) {
	w := newWatcher()
	w.deny = func(topic string, write bool) bool { return !write && strings.Contains(topic, "down") }
	_, at, _ := startBroker(t, "127.0.0.1:0", w)
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE"), Downlinks: &downlinks{}})
	deliver(t, c, event(1))
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v3.PubSub){
		"no provider":      func(p *v3.PubSub) { p.MQTT = nil },
		"no URL":           func(p *v3.PubSub) { p.MQTT.ServerURL = "" },
		"HTTP":             func(p *v3.PubSub) { p.MQTT.ServerURL = "http://x" },
		"unix":             func(p *v3.PubSub) { p.MQTT.ServerURL = "unix:///x" },
		"wildcard":         func(p *v3.PubSub) { p.BaseTopic = "lora/+" },
		"full wildcard":    func(p *v3.PubSub) { p.UplinkMessage.Topic = "#" },
		"NUL":              func(p *v3.PubSub) { p.UplinkMessage.Topic = "a\x00" },
		"no topic":         func(p *v3.PubSub) { p.BaseTopic, p.UplinkMessage.Topic = "", "" },
		"reserved":         func(p *v3.PubSub) { p.BaseTopic = "$SYS" },
		"QoS":              func(p *v3.PubSub) { p.MQTT.PublishQoS = "3" },
		"format":           func(p *v3.PubSub) { p.Format = "xml" },
		"CA":               func(p *v3.PubSub) { p.MQTT.UseTLS = true; p.MQTT.TLSCA = []byte("x") },
		"certificate":      func(p *v3.PubSub) { p.MQTT.UseTLS = true; p.MQTT.TLSClientCert = []byte("x") },
		"push and replace": func(p *v3.PubSub) { p.DownlinkReplace.Topic = p.DownlinkPush.Topic },
	} {
		p := config("127.0.0.1:1883", "")
		change(&p)
		if _, err := Open(Config{PubSub: p}); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for in, want := range map[string]string{
		"mqtt://x": "tcp://x:1883", "mqtts://x": "ssl://x:8883", "wss://x/mqtt": "wss://x:443/mqtt", "ws://x:8083/mqtt": "ws://x:8083/mqtt", "mqtts://u:p@x:1": "ssl://x:1",
	} {
		p := config("", "")
		p.MQTT.ServerURL = in
		if s, err := newSettings(p); err != nil || s.server.String() != want || (s.tls != nil) != strings.HasPrefix(in, "mqtts") && !strings.HasPrefix(in, "wss") {
			t.Errorf("%s: %v, %v", in, s.server, err)
		}
	}
	p := config("x", "")
	p.MQTT.UseTLS = true
	if s, err := newSettings(p); err != nil || s.server.String() != "ssl://x:8883" || s.tls == nil {
		t.Errorf("use_tls: %v, %v", s.server, err)
	}
}

// receive waits for what comes out of a channel, with a limit.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
	}
	return v
}
