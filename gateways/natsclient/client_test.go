package natsclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer runs a NATS server on port (-1: any) until stop is called.
func startServer(t *testing.T, port int, change func(*server.Options)) (s *server.Server, stop func()) {
	t.Helper()
	options := &server.Options{Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true}
	if change != nil {
		change(options)
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	var once sync.Once
	stop = func() { once.Do(func() { s.Shutdown(); s.WaitForShutdown() }) }
	t.Cleanup(stop)
	return s, stop
}

func config(url string) v3.PubSub {
	return v3.PubSub{
		IDs:       v3.PubSubIDs{ApplicationIDs: v3.ApplicationIDs{ApplicationID: "app1"}, PubSubID: "nats1"},
		NATS:      &v3.NATSProvider{ServerURL: url},
		BaseTopic: "lora.app1", UplinkMessage: &v3.MessageTopic{Topic: "up"}, JoinAccept: &v3.MessageTopic{Topic: "join"},
		DownlinkPush: &v3.MessageTopic{Topic: "down.push"}, DownlinkReplace: &v3.MessageTopic{Topic: "down.replace"},
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

func event(seq uint64, t messages.EventType) messages.LogEntry {
	return messages.LogEntry{Seq: seq, Event: messages.Event{
		ID: fmt.Sprintf("event-%d", seq), Device: messages.DeviceID{ApplicationID: "app1", DeviceID: "dev1"}, Type: t, JSON: fmt.Appendf(nil, `{"n":%d}`, seq),
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
			t.Fatalf("event %d: %v", e.Seq, err)
		}
	}
}

func user(t *testing.T, s *server.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// subscribe returns once the server knows of the subscription.
func subscribe(t *testing.T, s *server.Server, subject string) *nats.Subscription {
	t.Helper()
	nc := user(t, s)
	sub, err := nc.SubscribeSync(subject)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func TestEventsArriveInOrder(t *testing.T) {
	s, _ := startServer(t, -1, nil)
	sub := subscribe(t, s, "lora.app1.>")
	c := open(t, Config{PubSub: config(s.ClientURL())})
	if !c.Wants(messages.EventUplink) || !c.Wants(messages.EventJoin) || c.Wants(messages.EventDownAck) {
		t.Error("wants the wrong types")
	}
	for i := range uint64(200) {
		deliver(t, c, event(i, messages.EventUplink))
		if m, err := sub.NextMsg(time.Minute); err != nil || string(m.Data) != fmt.Sprintf(`{"n":%d}`, i) || m.Subject != "lora.app1.up" || m.Header.Get(nats.MsgIdHdr) != fmt.Sprintf("event-%d", i) {
			t.Fatalf("event %d: %v, %v", i, m, err)
		}
	}
}

func TestConcurrentDeliveriesShareConfirmations(t *testing.T) {
	s, _ := startServer(t, -1, nil)
	c := open(t, Config{PubSub: config(s.ClientURL())})
	var all sync.WaitGroup
	for i := range uint64(500) {
		all.Go(func() { deliver(t, c, event(i, messages.EventUplink)) })
	}
	all.Wait()
	if stats, _ := s.Connz(nil); len(stats.Conns) != 1 || stats.Conns[0].InMsgs != 500 {
		t.Errorf("connections %+v", stats.Conns)
	}
}

func TestServerRestartLosesNothing(t *testing.T) {
	s, stop := startServer(t, -1, nil)
	port := s.Addr().(*net.TCPAddr).Port
	c := open(t, Config{PubSub: config(s.ClientURL())})
	deliver(t, c, event(1, messages.EventUplink))
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Deliver(ctx, event(2, messages.EventUplink)); err == nil || errors.Is(err, messages.ErrPermanent) {
		t.Fatalf("delivered to a dead server: %v", err)
	}
	s, _ = startServer(t, port, nil)
	sub := subscribe(t, s, "lora.app1.up")
	deliver(t, c, event(2, messages.EventUplink))
	if m, err := sub.NextMsg(time.Minute); err != nil || string(m.Data) != `{"n":2}` {
		t.Fatalf("%v, %v", m, err)
	}
}

func TestServerMayComeLater(t *testing.T) {
	s, stop := startServer(t, -1, nil)
	port := s.Addr().(*net.TCPAddr).Port
	url := s.ClientURL()
	stop()
	c := open(t, Config{PubSub: config(url)})
	done := make(chan struct{})
	go func() { defer close(done); deliver(t, c, event(1, messages.EventUplink)) }()
	startServer(t, port, nil)
	<-done
}

func TestRefusedPublishIsAFailure(t *testing.T) {
	s, _ := startServer(t, -1, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "hunter2", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"lora.app1.up"}}}}}
	})
	c := open(t, Config{PubSub: config(strings.Replace(s.ClientURL(), "//", "//u:hunter2@", 1))})
	deliver(t, c, event(1, messages.EventUplink))
	for range 3 {
		err := c.Deliver(t.Context(), event(2, messages.EventJoin))
		if err == nil || !strings.Contains(err.Error(), "does not allow to publish") || strings.Contains(err.Error(), "hunter2") {
			t.Fatalf("error %v", err)
		}
		deliver(t, c, event(3, messages.EventUplink))
	}
}

func TestWrongPasswordIsTriedForEver(t *testing.T) {
	s, _ := startServer(t, -1, func(o *server.Options) { o.Username, o.Password = "u", "right" })
	c := open(t, Config{PubSub: config(strings.Replace(s.ClientURL(), "//", "//u:wrong@", 1))})
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := c.Deliver(ctx, event(1, messages.EventUplink))
		cancel()
		if err == nil || errors.Is(err, messages.ErrPermanent) || strings.Contains(err.Error(), "wrong@") {
			t.Fatalf("error %v", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc != nil && c.nc.IsClosed() {
		t.Error("the client gave up")
	}
}

func TestTooLargeEventIsPermanent(t *testing.T) {
	s, _ := startServer(t, -1, func(o *server.Options) { o.MaxPayload = 1024 })
	c := open(t, Config{PubSub: config(s.ClientURL())})
	e := event(1, messages.EventUplink)
	e.JSON = make([]byte, 2000)
	if err := c.Deliver(t.Context(), e); !errors.Is(err, messages.ErrPermanent) {
		t.Errorf("error %v", err)
	}
}

type downlinks struct {
	calls chan string
	err   error
}

func (d *downlinks) record(kind string, id messages.DeviceID, items []messages.Downlink, err error) error {
	d.calls <- fmt.Sprintf("%s %s %d", kind, id, len(items))
	return err
}
func (d *downlinks) PushDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink) error {
	return d.record("push", id, items, d.err)
}
func (d *downlinks) ReplaceDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink) error {
	return d.record("replace", id, items, d.err)
}
func (d *downlinks) FailDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink, _ error) error {
	return d.record("fail", id, items, nil)
}

func TestDownlinkRequests(t *testing.T) {
	s, _ := startServer(t, -1, nil)
	d := &downlinks{calls: make(chan string, 10)}
	c := open(t, Config{PubSub: config(s.ClientURL()), Downlinks: d})
	deliver(t, c, event(1, messages.EventUplink)) // the PONG says that the subscriptions are there too
	nc := user(t, s)
	for _, r := range []struct{ subject, body, call, name string }{
		{"lora.app1.down.push", `{"end_device_ids":{"device_id":"dev1"},"downlinks":[{"f_port":1,"frm_payload":"AQ=="}]}`, "push app1.dev1 1", ""},
		{"lora.app1.down.replace", `{"end_device_ids":{"device_id":"dev1"},"downlinks":[]}`, "replace app1.dev1 0", ""},
		{"lora.app1.down.push", `{"end_device_ids":{"device_id":"dev1"},"downlinks":[{"f_port":999}]}`, "fail app1.dev1 1", "validate_body"},
		{"lora.app1.down.push", `{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app2"}},"downlinks":[]}`, "", "application_mismatch"},
	} {
		m, err := nc.Request(r.subject, []byte(r.body), time.Minute)
		if err != nil {
			t.Fatalf("%s: %v", r.body, err)
		}
		var reply struct {
			Details []struct {
				Name string `json:"name"`
			} `json:"details"`
		}
		if err := json.Unmarshal(m.Data, &reply); err != nil {
			t.Fatal(err)
		}
		name := ""
		if len(reply.Details) > 0 {
			name = reply.Details[0].Name
		}
		call := ""
		if len(d.calls) > 0 {
			call = receive(t, d.calls)
		}
		if diff := cmp.Diff([]string{r.call, r.name}, []string{call, name}); diff != "" {
			t.Errorf("%s: %s", r.body, diff)
		}
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v3.PubSub){
		"no provider":    func(p *v3.PubSub) { p.NATS = nil },
		"no URL":         func(p *v3.PubSub) { p.NATS.ServerURL = "" },
		"HTTP":           func(p *v3.PubSub) { p.NATS.ServerURL = "http://x" },
		"wildcard":       func(p *v3.PubSub) { p.BaseTopic = "lora.*" },
		"full wildcard":  func(p *v3.PubSub) { p.UplinkMessage.Topic = ">" },
		"space":          func(p *v3.PubSub) { p.UplinkMessage.Topic = "a b" },
		"empty word":     func(p *v3.PubSub) { p.UplinkMessage.Topic = "a..b" },
		"no topic":       func(p *v3.PubSub) { p.BaseTopic, p.UplinkMessage.Topic = "", "" },
		"reserved":       func(p *v3.PubSub) { p.BaseTopic = "$JS" },
		"format":         func(p *v3.PubSub) { p.Format = "xml" },
		"push = replace": func(p *v3.PubSub) { p.DownlinkReplace.Topic = p.DownlinkPush.Topic },
	} {
		p := config("nats://127.0.0.1:4222")
		change(&p)
		if _, err := Open(Config{PubSub: p, Downlinks: &downlinks{}}); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := Check(config("nats://127.0.0.1:4222")); err != nil {
		t.Error(err)
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
