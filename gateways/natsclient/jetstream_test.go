package natsclient

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func withJetStream(dir string) func(*server.Options) {
	return func(o *server.Options) { o.JetStream, o.StoreDir = true, dir }
}

func acked(url, stream string) v3.PubSub {
	p := config(url)
	p.NATS.JetStream = &v3.NATSJetStream{Enabled: true, Stream: stream}
	return p
}

func stream(t *testing.T, s *server.Server, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	js, err := jetstream.New(user(t, s))
	if err != nil {
		t.Fatal(err)
	}
	out, err := js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// contents gives the payloads of a stream in order.
func contents(t *testing.T, s jetstream.Stream) (out []string) {
	t.Helper()
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(m.Data))
	}
	return out
}

func TestAStreamKeepsEachEventOnce(t *testing.T) {
	s, _ := startServer(t, -1, withJetStream(t.TempDir()))
	events := stream(t, s, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"lora.>"}})
	c := open(t, Config{PubSub: acked(s.ClientURL(), "EVENTS")})
	for _, n := range []uint64{1, 2, 2, 1, 3} { // repeats, as after a crash
		deliver(t, c, event(n, messages.EventUplink))
	}
	if got := strings.Join(contents(t, events), " "); got != `{"n":1} {"n":2} {"n":3}` {
		t.Error(got)
	}
}

func TestOnlyAnAcknowledgedEventIsDelivered(t *testing.T) {
	s, _ := startServer(t, -1, withJetStream(t.TempDir()))
	subscribe(t, s, "lora.app1.up") // a subscriber is no stream
	c := open(t, Config{PubSub: acked(s.ClientURL(), "EVENTS")})
	try := func(e messages.LogEntry) error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		return c.Deliver(ctx, e)
	}
	for range 2 {
		if err := try(event(1, messages.EventUplink)); err == nil || errors.Is(err, messages.ErrPermanent) {
			t.Fatalf("error %v", err)
		}
	}
	other := stream(t, s, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"lora.app1.up"}})
	err := c.Deliver(t.Context(), event(1, messages.EventUplink))
	if err == nil || errors.Is(err, messages.ErrPermanent) || !strings.Contains(err.Error(), "refuses the event") {
		t.Fatalf("published into another stream: %v", err)
	}
	if got := contents(t, other); len(got) != 0 {
		t.Errorf("the other stream has %v", got)
	}
	stream(t, s, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"lora.app1.join"}, MaxMsgs: 1, Discard: jetstream.DiscardNew, MaxMsgSize: 100})
	deliver(t, c, event(2, messages.EventJoin))
	if err := c.Deliver(t.Context(), event(3, messages.EventJoin)); err == nil || errors.Is(err, messages.ErrPermanent) {
		t.Errorf("a full stream took an event: %v", err)
	}
	large := event(4, messages.EventJoin)
	large.JSON = make([]byte, 200)
	if err := c.Deliver(t.Context(), large); !errors.Is(err, messages.ErrPermanent) || !strings.Contains(err.Error(), "max_msg_size") {
		t.Errorf("error %v", err)
	}
}

func TestNoStreamIsSaid(t *testing.T) {
	s, _ := startServer(t, -1, withJetStream(t.TempDir()))
	c := open(t, Config{PubSub: acked(s.ClientURL(), "")})
	for { // until it is connected
		err := c.Deliver(t.Context(), event(1, messages.EventUplink))
		if err == nil || errors.Is(err, messages.ErrPermanent) {
			t.Fatalf("error %v", err)
		}
		if strings.Contains(err.Error(), `no stream keeps the subject "lora.app1.up"`) {
			return
		}
	}
}

func TestAStreamOverARestartOfTheServer(t *testing.T) {
	dir := t.TempDir()
	s, stop := startServer(t, -1, withJetStream(dir))
	port := s.Addr().(*net.TCPAddr).Port
	stream(t, s, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"lora.>"}})
	c := open(t, Config{PubSub: acked(s.ClientURL(), "")})
	deliver(t, c, event(1, messages.EventUplink))
	stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range uint64(10) {
			deliver(t, c, event(n+2, messages.EventUplink))
		}
	}()
	s, _ = startServer(t, port, withJetStream(dir))
	<-done
	js, err := jetstream.New(user(t, s))
	if err != nil {
		t.Fatal(err)
	}
	events, err := js.Stream(t.Context(), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, events); len(got) != 11 || got[0] != `{"n":1}` || got[10] != `{"n":11}` {
		t.Errorf("%v", got)
	}
}
