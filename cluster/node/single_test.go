package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	protocluster "github.com/asynkron/protoactor-go/cluster"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"lorikeet/messages"
	"lorikeet/messages/wire"
)

// testConfig is for a node in this process. Two at once would be a data race of protoactor, so these tests don't run in parallel.
func testConfig(t testing.TB) Config {
	t.Helper()
	js := jetStream(t, natsServer(t, t.TempDir(), 0).ClientURL())
	return Config{Name: "a", Listen: "127.0.0.1:0", JetStream: js, Version: "1", Protocol: 1, Codec: testCodec{}, Clock: time.Now,
		OnLost: func(err error) { t.Errorf("lost: %v", err) }, Log: slog.New(slog.DiscardHandler)}
}

func jetStream(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func startNode(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Start(t.Context(), cfg, func(messages.DeviceID) actor.Actor { return &testActor{name: cfg.Name, last: &atomic.Int64{}} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestNodeServesOnceItIsActive(t *testing.T) {
	n := startNode(t, testConfig(t))
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := n.Ask(short, deviceNamed("x"), command("do")); nameOf(err) != "device_moving" {
		t.Errorf("nobody is active: got %v", err)
	}
	if n.Owns(deviceNamed("x")) || n.OwnsKey("webhook") || n.OwnerOf(deviceNamed("x")) != "" {
		t.Error("owns something before it is active")
	}
	settled := make(chan struct{})
	n.Tell(deviceNamed("x"), &frame1{then: func() { close(settled) }})
	turned := make(chan struct{}, 10)
	n.OnTopology(func() { turned <- struct{}{} })
	if err := n.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-turned
	<-settled
	if v, err := n.Ask(t.Context(), deviceNamed("x"), command("do")); err != nil || v != "a" {
		t.Errorf("got %v, %v", v, err)
	}
	if !n.Owns(deviceNamed("x")) || !n.OwnsKey("webhook") || n.OwnerOf(deviceNamed("x")) != "a" || n.Alive() != 1 || n.Suspended() != nil {
		t.Error("does not own everything")
	}
	if m := n.Members(); len(m) != 1 || !m[0].Self || m[0].Shards != shards || m[0].State != StateAlive {
		t.Errorf("got %+v", m)
	}
	n.TellNodes("note", nil) // to nobody
	if _, err := n.AskNode(t.Context(), "a", "unheard", nil); nameOf(err) != "unknown_kind" {
		t.Errorf("got %v", err)
	}
	if _, err := n.AskNode(t.Context(), "b", "greet", nil); nameOf(err) != "node_unknown" {
		t.Errorf("got %v", err)
	}
}

func TestProtoactorRequestsAreOurs(t *testing.T) {
	n := startNode(t, testConfig(t))
	if err := n.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := n.proto.Request("app.x", kindDevice, command("do")); err != nil || v != "a" {
		t.Errorf("got %v, %v", v, err)
	}
	if pid := n.proto.Get("app.x", kindDevice); pid == nil || pid.Address != n.system.Address() || !strings.HasPrefix(pid.Id, "device/") {
		t.Errorf("got %v", pid)
	}
	if _, err := n.proto.Request("app.x", kindDevice, command("silence"), protocluster.WithTimeout(20*time.Millisecond)); nameOf(err) != "device_busy" {
		t.Errorf("got %v", err)
	}
	if _, err := n.proto.Request("app.x", "other", command("do")); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("got %v", err)
	}
	if _, err := n.proto.RequestFuture("app.x", kindDevice, command("do")); err == nil {
		t.Error("want an error")
	}
}

func TestLeaveAndStopLeaveNothingRunning(t *testing.T) {
	cfg := testConfig(t)
	n := startNode(t, cfg)
	if err := n.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.Owns(deviceNamed("x")) || n.Alive() != 0 {
		t.Error("still owns something")
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := &frame1{}
	n.Tell(deviceNamed("x"), m)
	if m.settled != 1 {
		t.Errorf("a frame after the end is settled %d times", m.settled)
	}
	eventually(t, "all goroutines have ended", func() bool {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(stacks, "node.(*Node).") && !strings.Contains(stacks, "node.(*membership).") && !strings.Contains(stacks, "cluster.(*Local).")
	})
	again := startNode(t, cfg) // the name is free at once
	if len(again.Members()) != 1 {
		t.Errorf("got %+v", again.Members())
	}
}

func TestFrameThatNobodyTakesIsGivenUp(t *testing.T) {
	cfg := testConfig(t)
	var ahead atomic.Int64
	cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	n := startNode(t, cfg)
	settled := make(chan struct{})
	n.Tell(deviceNamed("x"), &frame1{then: func() { close(settled) }})
	n.Tell(deviceNamed("x"), "no frame") // for nobody: dropped
	if n.frames.len() != 1 {
		t.Errorf("%d frames are kept", n.frames.len())
	}
	ahead.Store(int64(time.Minute))
	select {
	case <-settled:
	case <-time.After(10 * time.Second):
		t.Fatal("not given up")
	}
}

// Frames that wait for an owner reach the device in the order in which they came, and so do those that come when it is there.
func TestKeptFramesKeepTheirOrder(t *testing.T) {
	n := startNode(t, testConfig(t))
	const frames = 50
	order := make(chan int, 2*frames)
	tell := func(i int) { n.Tell(deviceNamed("x"), &frame1{then: func() { order <- i }}) }
	for i := range frames {
		tell(i)
	}
	activated := make(chan error, 1)
	go func() { activated <- n.Activate(t.Context()) }()
	for i := range frames {
		tell(frames + i)
		if i == frames/2 {
			if err := <-activated; err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 2 * frames {
		if got := <-order; got != i {
			t.Fatalf("frame %d came in place of %d", got, i)
		}
	}
}

func TestFrameWaitsForTheEarlierOnesOfItsDevice(t *testing.T) {
	s := &frames{}
	put := func(device, to string) *frame {
		f := &frame{device: deviceNamed(device), to: to}
		s.put(f)
		return f
	}
	first, other, second, third := put("x", "a"), put("y", ""), put("x", "a"), put("x", "")
	if !s.mayGo(first, "b", false) || !s.mayGo(other, "b", false) || !s.mayGo(third, "a", false) || s.mayGo(third, "b", false) || s.mayGo(second, "", false) {
		t.Error("a frame overtakes, or waits for nobody")
	}
	if s.mayGo(third, "a", true) {
		t.Error("a frame takes another way than the earlier ones")
	}
	s.recall("a", time.Second)
	if first.to != "" || first.due != time.Second || second.to != "" || s.mayGo(third, "a", false) {
		t.Error("frames that did not arrive are not sent again in order")
	}
	s.remove(first)
	s.remove(second)
	if !s.mayGo(third, "b", false) || !s.holds(deviceNamed("x")) {
		t.Error("a frame waits for what is gone")
	}
	s.remove(third)
	s.remove(other)
	if s.holds(deviceNamed("x")) || len(s.lines) != 0 || len(s.kept) != 0 {
		t.Error("something is left")
	}
}

func TestRenewalThatArrivedUnnoticedIsTakenOver(t *testing.T) {
	cfg := testConfig(t)
	cfg.Lease = time.Second
	n := startNode(t, cfg)
	if err := n.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := n.members.revision.Load()
	n.members.revision.Store(1)
	eventually(t, "renewals go on", func() bool { return n.members.revision.Load() > before+2 })
	if err := n.Suspended(); err != nil {
		t.Error(err)
	}
}

func TestNodeThatIsMarkedAsRemovedIsLostOnce(t *testing.T) {
	for name, remove := range map[string]func(*Node) error{
		"marked": func(n *Node) error {
			_, err := n.members.kv.Put(t.Context(), n.id, encodeRecord(record{Name: "a", State: StateRemoved}))
			return err
		},
		"deleted": func(n *Node) error { return n.members.kv.Delete(t.Context(), n.id) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Lease = time.Second
			lost := make(chan error, 10)
			cfg.OnLost = func(err error) { lost <- err }
			n := startNode(t, cfg)
			if err := n.Activate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := remove(n); err != nil {
				t.Fatal(err)
			}
			if err := <-lost; !errors.Is(err, ErrRemoved) {
				t.Errorf("got %v", err)
			}
			if _, err := n.Ask(t.Context(), deviceNamed("x"), command("do")); nameOf(err) != "node_suspended" {
				t.Errorf("got %v", err)
			}
			if err := n.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if len(lost) > 0 {
				t.Error("lost twice")
			}
		})
	}
}

// A newer node may send what this one does not know; garbage may come as well. Only the connection ends.
func TestMessageThatCanNotBeReadEndsOnlyItsConnection(t *testing.T) {
	n := startNode(t, testConfig(t))
	if err := n.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask, err := proto.Marshal(&wire.DeviceMessage{Id: 2, ApplicationId: "app", DeviceId: "x", Kind: "from the future"})
	if err != nil {
		t.Fatal(err)
	}
	target := []*actor.PID{{Address: n.system.Address(), Id: keeperOf(deviceShard(deviceNamed("x")))}}
	for name, batch := range map[string]*remote.MessageBatch{
		"unknown type": {TypeNames: []string{"lorikeet.wire.FromTheFuture"}, Targets: target, Envelopes: []*remote.MessageEnvelope{{}}},
		"no type":      {Targets: target, Envelopes: []*remote.MessageEnvelope{{}}},
		"no target":    {TypeNames: []string{"lorikeet.wire.DeviceMessage"}, Envelopes: []*remote.MessageEnvelope{{MessageData: ask}}},
		"garbage": {TypeNames: []string{"lorikeet.wire.DeviceMessage"}, Targets: target,
			Envelopes: []*remote.MessageEnvelope{{MessageData: []byte{0xff, 0xff}}}},
		"bad serializer": {TypeNames: []string{"lorikeet.wire.DeviceMessage"}, Targets: target,
			Envelopes: []*remote.MessageEnvelope{{MessageData: ask, SerializerId: 7}}},
	} {
		conn, err := grpc.NewClient(n.system.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		stream, err := remote.NewRemotingClient(conn).Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: batch}}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err == nil {
			t.Errorf("%s: the connection goes on", name)
		}
		if v, err := n.Ask(t.Context(), deviceNamed("x"), command("do")); err != nil || v != "a" {
			t.Errorf("%s: got %v, %v", name, v, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	good := testConfig(t)
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no name":             {func(c *Config) { c.Name = "" }, "needs a name"},
		"no codec":            {func(c *Config) { c.Codec = nil }, "required"},
		"port in use":         {func(c *Config) { c.Listen = busy.Addr().String() }, "address already in use"},
		"no port":             {func(c *Config) { c.Listen = "localhost" }, "want host:port"},
		"address of all":      {func(c *Config) { c.Listen = "0.0.0.0:7946" }, "set the advertised cluster address"},
		"advertised nonsense": {func(c *Config) { c.Advertise = "here" }, "set the advertised cluster address"},
		"no certificate":      {func(c *Config) { c.TLS = &TLS{CAFile: "nowhere"} }, "certificate authority of the nodes"},
		"namespace":           {func(c *Config) { c.Namespace = "a b" }, "bucket a b_MEMBERS"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			n, err := Start(t.Context(), cfg, func(messages.DeviceID) actor.Actor { return nil })
			if err == nil {
				t.Error(n.Stop(t.Context()))
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestActorSystemLogsNoContent(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newQuietHandler(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))))
	log.Info("a notice that becomes debug")
	secret := &wire.DeviceMessage{DeviceId: "dev", Body: []byte("5ec4e7")}
	for range 100 {
		log.Error("send failed", "message", secret, "err", errors.New("reason"), "pid", actor.NewPID("host:1", "device/3"), "count", 7)
	}
	log.With("message", secret).WithGroup("g").Error("another")
	got := out.String()
	if strings.Contains(got, "5ec4e7") || strings.Contains(got, "notice") {
		t.Errorf("got %s", got)
	}
	if n := strings.Count(got, "send failed"); n != logBurst {
		t.Errorf("%d records, want %d", n, logBurst)
	}
	for _, want := range []string{"level=WARN", "message=*wire.DeviceMessage", "err=reason", "pid=host:1/device/3", "count=7", "another"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	limit := newLogLimit()
	start := time.Unix(0, 0)
	for range logBurst + 3 {
		limit.allow("m", start)
	}
	if dropped, ok := limit.allow("m", start.Add(logWindow)); !ok || dropped != 3 {
		t.Errorf("got %d, %v", dropped, ok)
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	for _, err := range []error{messages.NotFound("device_not_found", "no device"), errors.New("plain"), messages.ErrMoved} {
		back := fromWire(toWire(err))
		if messages.CodeOf(back) != messages.CodeOf(err) || back.Error() != err.Error() || nameOf(err) != "" && nameOf(back) != nameOf(err) {
			t.Errorf("got %#v from %#v", back, err)
		}
	}
}

func TestJoinWaitsForAJetStreamThatIsNotReady(t *testing.T) {
	tries := 0
	err := patiently(t.Context(), slog.New(slog.DiscardHandler), func() error {
		tries++
		switch tries {
		case 1:
			return fmt.Errorf("bucket: %w", context.DeadlineExceeded)
		case 2:
			return fmt.Errorf("bucket: %w", &jetstream.APIError{Code: 503, ErrorCode: 10008})
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	refused := messages.Errorf(messages.CodeConflict, "node_name_in_use", "in use")
	if err := patiently(t.Context(), slog.New(slog.DiscardHandler), func() error { return refused }); err != refused {
		t.Errorf("got %v", err)
	}
}

func TestRecordWhoseAnswerGotLostIsTakenOver(t *testing.T) {
	n := startNode(t, testConfig(t))
	before := n.members.revision.Load()
	if revision, err := n.members.create(t.Context()); err != nil || revision < before {
		t.Errorf("revision %d, %v", revision, err)
	}
}
