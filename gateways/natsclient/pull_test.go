package natsclient

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func pulled(url string) v3.PubSub {
	p := config(url)
	p.BaseTopic, p.DownlinkPush, p.DownlinkReplace = "", &v3.MessageTopic{Topic: "down.{device_id}.push"}, &v3.MessageTopic{Topic: "down.{device_id}.replace"}
	p.NATS.JetStream = &v3.NATSJetStream{Downlinks: true}
	return p
}

// request puts requests into the stream; n is in the body.
func request(t *testing.T, s *server.Server, subject string, from, to int) {
	t.Helper()
	js, err := jetstream.New(user(t, s))
	if err != nil {
		t.Fatal(err)
	}
	for n := from; n < to; n++ {
		body := `{"downlinks":[` + strings.TrimSuffix(strings.Repeat(`{"f_port":1,"frm_payload":"AQ=="},`, n), ",") + `]}`
		if _, err := js.Publish(t.Context(), subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitConsumers returns once the stream has that many consumers: they begin with what is published after they were made.
func awaitConsumers(t *testing.T, s jetstream.Stream, want int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Consumers == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d consumers, want %d", info.State.Consumers, want)
		}
	}
}

func TestRequestsInAStreamAreNotMissed(t *testing.T) {
	dir := t.TempDir()
	s, stop := startServer(t, -1, withJetStream(dir))
	port := s.Addr().(*net.TCPAddr).Port
	d := &downlinks{calls: make(chan string, 100)}
	c := open(t, Config{PubSub: pulled(s.ClientURL()), Downlinks: d}) // the stream comes later
	requests := stream(t, s, jetstream.StreamConfig{Name: "REQUESTS", Subjects: []string{"down.>"}})
	awaitConsumers(t, requests, 2)
	expect := func(kind, device string, from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			if got, want := receive(t, d.calls), fmt.Sprintf("%s app1.%s %d", kind, device, n); got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	}
	request(t, s, "down.dev1.push", 0, 5)
	expect("push", "dev1", 0, 5)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	request(t, s, "down.dev2.replace", 5, 10) // while nobody is there
	url := s.ClientURL()
	stop()
	c = open(t, Config{PubSub: pulled(url), Downlinks: d})
	s, _ = startServer(t, port, withJetStream(dir))
	expect("replace", "dev2", 5, 10)
	request(t, s, "down.dev1.push", 10, 12)
	expect("push", "dev1", 10, 12)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if len(d.calls) != 0 {
		t.Errorf("once more: %s", receive(t, d.calls))
	}
}

// away are downlinks that are not available at first.
type away struct {
	downlinks
	failures atomic.Int32
}

func (a *away) PushDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error {
	if a.failures.Add(-1) >= 0 {
		return messages.Errorf(messages.CodeInternal, "internal", "not now")
	}
	return a.downlinks.PushDownlinks(ctx, id, items)
}

func TestRequestsInAStreamWaitForTheServerInOrder(t *testing.T) {
	s, _ := startServer(t, -1, withJetStream(t.TempDir()))
	requests := stream(t, s, jetstream.StreamConfig{Name: "REQUESTS", Subjects: []string{"down.>"}})
	d := &away{downlinks: downlinks{calls: make(chan string, 100)}}
	d.failures.Store(3)
	open(t, Config{PubSub: pulled(s.ClientURL()), Downlinks: d})
	awaitConsumers(t, requests, 2)
	request(t, s, "down.dev1.push", 1, 4)
	for n := 1; n < 4; n++ {
		if got := receive(t, d.calls); got != fmt.Sprintf("push app1.dev1 %d", n) {
			t.Error(got)
		}
	}
	request(t, s, "down.NO_ID.push", 1, 2) // refused for good, and not in the way
	request(t, s, "down.dev1.push", 4, 5)
	if got := receive(t, d.calls); got != "push app1.dev1 4" {
		t.Error(got)
	}
}

func TestAMissingStreamOfRequestsIsSaid(t *testing.T) {
	s, _ := startServer(t, -1, withJetStream(t.TempDir()))
	c := open(t, Config{PubSub: pulled(s.ClientURL()), Downlinks: &downlinks{calls: make(chan string, 1)}})
	for deadline := time.Now().Add(time.Minute); !strings.Contains(c.Connection().LastError, "no stream keeps"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", c.Connection())
		}
	}
	if got := c.Connection().State; got != messages.ConnectionConnected {
		t.Error(got)
	}
}
