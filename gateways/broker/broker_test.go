package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"lorikeet/messages"
	memstore "lorikeet/persistence/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute // the machine may be busy

// world is what the broker under test sees of the rest of the server.
type world struct {
	mu       sync.Mutex
	keys     map[string]messages.Access
	apps     map[string]bool
	commands chan command
	errs     []error       // for the next commands
	unknown  bool          // no device exists
	block    chan struct{} // if set, commands wait for it or the end of their context
	log      *bytes.Buffer
	store    *memstore.Store
}

type command struct {
	verb   string
	device messages.DeviceID
	items  []messages.Downlink
	reason string
}

func newWorld() *world {
	rights := func(r ...messages.Right) messages.Access { return messages.Access{ApplicationID: "app1", Rights: r} }
	w := &world{
		keys: map[string]messages.Access{
			"all":   rights(messages.RightApplicationAll),
			"read":  rights(messages.RightApplicationTrafficRead),
			"write": rights(messages.RightApplicationTrafficDownWrite),
			"none":  rights(messages.RightApplicationInfo),
			"admin": {Admin: true},
		},
		apps: map[string]bool{"app1": true, "app2": true}, commands: make(chan command, 20000), log: &bytes.Buffer{}, store: memstore.New(),
	}
	for name, access := range w.keys {
		access.KeyID = "id-of-" + name
		w.keys[name] = access
	}
	return w
}

func (w *world) authorize(_ context.Context, key string) (messages.Access, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if key == "unavailable" {
		return messages.Access{}, messages.Errorf(messages.CodeUnavailable, "unavailable", "try again")
	}
	access, ok := w.keys[key]
	if !ok {
		return messages.Access{}, messages.Errorf(messages.CodeUnauthenticated, "unauthenticated", "unknown API key")
	}
	return access, nil
}

// keyRights knows the keys by the ids that newWorld gives them.
func (w *world) keyRights(_ context.Context, _, keyID string) (messages.Access, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	access, ok := w.keys[strings.TrimPrefix(keyID, "id-of-")]
	if !ok {
		return access, messages.ErrNotFound
	}
	return access, nil
}

func (w *world) exists(app string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.apps[app]
}

func (w *world) setKey(name string, access *messages.Access) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.keys, name)
	if access != nil {
		w.keys[name] = *access
	}
}

func (w *world) do(ctx context.Context, c command) error {
	w.mu.Lock()
	block := w.block
	var err error
	if len(w.errs) > 0 {
		err, w.errs = w.errs[0], w.errs[1:]
	}
	w.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err == nil {
		w.commands <- c
	}
	return err
}

// QueueDownlinks gives the items the ids "1", "2"….
func (w *world) QueueDownlinks(ctx context.Context, d messages.DeviceID, items []messages.Downlink, replace bool) ([]messages.Downlink, error) {
	c := command{verb: "push", device: d, items: items}
	if replace {
		c.verb = "replace"
	}
	if err := w.do(ctx, c); err != nil {
		return nil, err
	}
	accepted := slices.Clone(items)
	for i := range accepted {
		accepted[i].ID = fmt.Sprint(i + 1)
	}
	return accepted, nil
}

func (w *world) FailDownlinks(_ context.Context, d messages.DeviceID, items []messages.Downlink, reason error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unknown {
		return messages.NotFound("device_not_found", "no such device")
	}
	w.commands <- command{verb: "fail", device: d, items: items, reason: reason.Error()}
	return nil
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) config() Config {
	return Config{
		Listen: "127.0.0.1:0", Authorize: w.authorize, ApplicationExists: w.exists, Downlinks: w, KeyRights: w.keyRights, Store: w.store,
		Log: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug - 8})),
	}
}

func (w *world) next(t testing.TB) command {
	t.Helper()
	select {
	case c := <-w.commands:
		return c
	case <-time.After(patience):
		t.Fatal("no downlink command came")
		return command{}
	}
}

func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if used := s.memory.used.Load(); used != 0 {
			t.Errorf("%d bytes of write buffers are not given back", used)
		}
		if used := s.window.used.Load(); used != 0 {
			t.Errorf("%d bytes of windows are not given back", used)
		}
	})
	return s
}

type message struct {
	topic, payload string
	qos            byte
}

// subscriber is a client of MQTT 3.1.1.
type subscriber struct {
	paho.Client
	got  chan message
	lost chan error
}

func pahoOptions(s *Server, id, user, key string) *paho.ClientOptions {
	return paho.NewClientOptions().AddBroker("tcp://" + s.Addr()).SetClientID(id).SetUsername(user).SetPassword(key).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(patience).SetOrderMatters(true)
}

func connect(t testing.TB, s *Server, id, user, key string, change ...func(*paho.ClientOptions)) *subscriber {
	t.Helper()
	c := &subscriber{got: make(chan message, 100000), lost: make(chan error, 1)}
	o := pahoOptions(s, id, user, key)
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { c.lost <- err })
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { c.got <- message{m.Topic(), string(m.Payload()), m.Qos()} })
	for _, f := range change {
		f(o)
	}
	c.Client = paho.NewClient(o)
	if err := wait(c.Connect()); err != nil {
		t.Fatal("connect:", err)
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func wait(token paho.Token) error {
	if !token.WaitTimeout(patience) {
		return errors.New("no answer")
	}
	return token.Error()
}

func (c *subscriber) subscribe(t testing.TB, filter string, qos byte) byte {
	t.Helper()
	token := c.Subscribe(filter, qos, nil)
	err := wait(token)
	name := filter
	if strings.HasPrefix(filter, "$share/") { // paho leaves the group out
		name = strings.SplitN(filter, "/", 3)[2]
	}
	code, answered := token.(*paho.SubscribeToken).Result()[name]
	if !answered {
		t.Fatal("subscribe:", err)
	}
	return code
}

func (c *subscriber) next(t testing.TB) message {
	t.Helper()
	select {
	case m := <-c.got:
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
		return message{}
	}
}

func (c *subscriber) isLost(t testing.TB) {
	t.Helper()
	select {
	case <-c.lost:
	case <-time.After(patience):
		t.Fatal("the client was not disconnected")
	}
}

func event1(n int) messages.LogEntry { return eventOf("app1", "dev1", messages.EventUplink, n) }

func eventOf(app, device string, kind messages.EventType, n int) messages.LogEntry {
	return messages.LogEntry{Seq: uint64(n), Event: messages.Event{
		Device: messages.DeviceID{ApplicationID: app, DeviceID: device}, Type: kind, JSON: fmt.Appendf(nil, `{"n":%d}`, n),
	}}
}

func TestEachEventHasItsTopic(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	plain, tenant := connect(t, s, "c", "app1", "all"), connect(t, s, "c", "app1@ttn", "all")
	other := connect(t, s, "c", "app2", "admin")
	for _, c := range []*subscriber{plain, tenant, other} {
		if code := c.subscribe(t, "#", 0); code != 0 {
			t.Fatalf("SUBACK %#x", code)
		}
	}
	want := map[messages.EventType]string{
		"uplink_message": "up", "uplink_normalized": "up/normalized", "join_accept": "join", "downlink_ack": "down/ack", "downlink_nack": "down/nack",
		"downlink_sent": "down/sent", "downlink_failed": "down/failed", "downlink_queued": "down/queued",
		"downlink_queue_invalidated": "down/invalidated", "location_solved": "location/solved", "service_data": "service/data",
	}
	for i, kind := range messages.EventTypes {
		s.Publish(eventOf("app1", "dev1", kind, i))
	}
	for i, kind := range messages.EventTypes {
		for uid, c := range map[string]*subscriber{"app1": plain, "app1@ttn": tenant} {
			if diff := cmp.Diff(message{"v3/" + uid + "/devices/dev1/" + want[kind], fmt.Sprintf(`{"n":%d}`, i), 0}, c.next(t), cmp.AllowUnexported(message{})); diff != "" {
				t.Error(diff)
			}
		}
	}
	s.Publish(eventOf("app2", "dev1", messages.EventUplink, 1))
	if m := other.next(t); m.topic != "v3/app2/devices/dev1/up" {
		t.Errorf("topic %s", m.topic)
	}
}

func TestOnlyFiltersOfTheOwnApplicationAreGranted(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c, writer := connect(t, s, "c", "app1@ttn", "all"), connect(t, s, "w", "app1", "write")
	for filter, want := range map[string]byte{
		"#": 2, "v3/#": 2, "v3/+/devices/+/up": 2, "v3/app1@ttn/#": 2, "v3/app1@ttn/devices/dev1/up": 2, "$share/group/v3/+/devices/+/up": 0, "$share/group/#": 0,
		"v3/app1/#": 0x80, "v3/app2@ttn/#": 0x80, "+/#": 0x80, "+/app1@ttn/#": 0x80, "v2/#": 0x80, "$SYS/#": 0x80, "$share/group/$SYS/#": 0x80, "devices/+/up": 0x80,
		"$share/group/v3/app2/#": 0x80, "up": 0x80, "/#": 0x80, "granted/#": 0x80,
	} {
		if code := c.subscribe(t, filter, 2); code != want {
			t.Errorf("%s: SUBACK %#x, want %#x", filter, code, want)
		}
	}
	if code := writer.subscribe(t, "#", 0); code != 0x80 {
		t.Errorf("without the right to read: SUBACK %#x", code)
	}
}

func TestWrongCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	for _, c := range []struct {
		user, key string
		code      byte
	}{
		{"app1", "wrong", 5}, {"app1", "", 5}, {"", "all", 5}, {"app2", "all", 5}, {"app1", "none", 5}, {"app3", "admin", 5}, {"app1@", "all", 5},
		{"app1@TTN!", "all", 5}, {"app1@a/b", "all", 5}, {"app1@#", "all", 5}, {"app1@-", "all", 5}, {"app1", "unavailable", 3},
	} {
		client := paho.NewClient(pahoOptions(s, "c", c.user, c.key))
		token := client.Connect()
		if err := wait(token); err == nil || token.(*paho.ConnectToken).ReturnCode() != c.code {
			t.Errorf("%q with key %q: CONNACK %d, want %d", c.user, c.key, token.(*paho.ConnectToken).ReturnCode(), c.code)
		}
	}
	for _, user := range []string{"app1", "app1@ttn", "app1@my-tenant", "app2"} {
		connect(t, s, "c", user, "admin")
	}
}

func TestRefusedLoginIsAnnouncedToTheApplication(t *testing.T) {
	t.Parallel()
	w := newWorld()
	cfg := w.config()
	told := make(chan string, 100)
	cfg.LoginRefused = func(app string, reason error) { told <- app + ": " + reason.Error() }
	s := start(t, cfg)
	try := func(user, key string, change ...func(*packets.Packet)) {
		c := dial(t, s)
		c.version = 4
		c.send(t, connectPacket(4, "me", user, key, change...))
		if ack := c.expect(t, packets.Connack); ack.ReasonCode == 0 {
			t.Errorf("%s is let in with the key %s", user, key)
		}
	}
	try("app3", "all") // there is no such application
	try("app1", "unavailable")
	try("app1@ttn", "secret")
	try("app1", "none")
	try("app1", "read", func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "v3/app1/devices/dev1/down/push", []byte(push)
	})
	for _, want := range []string{"unknown API key", "RIGHT_APPLICATION_TRAFFIC_READ or", "a last will"} {
		got := <-told
		if !strings.HasPrefix(got, `app1: MQTT client "me" from 127.0.0.1: `) || !strings.Contains(got, want) || strings.Contains(got, "secret") {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	if len(told) > 0 {
		t.Errorf("told %q too", <-told)
	}
}

const push = `{"downlinks":[{"f_port":1,"frm_payload":"AQI=","correlation_ids":["mine"]}]}`

func TestDownlinkIsDurableBeforeItIsAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := connect(t, s, "c", "app1@ttn", "all")
	c.subscribe(t, "#", 0)
	dev1 := messages.DeviceID{ApplicationID: "app1", DeviceID: "dev1"}
	items := []messages.Downlink{{FPort: 1, FRMPayload: []byte{1, 2}, CorrelationIDs: []string{"mine"}}}
	for qos := range byte(3) {
		for _, verb := range []string{"push", "replace"} {
			token := c.Publish("v3/app1@ttn/devices/dev1/down/"+verb, qos, true, push)
			if err := wait(token); err != nil {
				t.Fatal(err)
			}
			if qos > 0 && len(w.commands) != 1 {
				t.Errorf("acknowledged with QoS %d before it was carried out", qos)
			}
			if diff := cmp.Diff(command{verb: verb, device: dev1, items: items}, w.next(t), cmp.AllowUnexported(command{})); diff != "" {
				t.Error(diff)
			}
		}
	}
	s.Publish(event1(1))
	if m := c.next(t); m.payload != `{"n":1}` { // and no echo of what was published before
		t.Errorf("got %+v", m)
	}
}

func TestRefusedDownlinkIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := connect(t, s, "c", "app1", "all")
	for name, body := range map[string]string{
		"base64": `{"downlinks":[{"f_port":1,"frm_payload":"?","correlation_ids":["mine"]}]}`,
		"f_port": `{"downlinks":[{"f_port":224,"correlation_ids":["mine"]}]}`,
	} {
		if err := wait(c.Publish("v3/app1/devices/dev1/down/push", 1, false, body)); err != nil {
			t.Fatal(err)
		}
		got := w.next(t)
		if got.verb != "fail" || !strings.Contains(got.reason, name) || !slices.Equal(got.items[0].CorrelationIDs, []string{"mine"}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	w.errs = []error{messages.NotFound("device_not_found", "no such device")}
	if err := wait(c.Publish("v3/app1/devices/dev1/down/push", 1, false, push)); err != nil {
		t.Fatal(err)
	}
	if got := w.next(t); got.verb != "fail" || got.reason != "no such device" {
		t.Errorf("%+v", got)
	}
}
