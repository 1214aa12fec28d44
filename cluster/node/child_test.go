package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
)

// Two actor systems with remoting in one process are a data race of theirs, so tests with several nodes run each as a process: the test binary again,
// with childEnv set. It takes one JSON request a line and answers with one line each.
const childEnv = "LORIKEET_NODE_TEST"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		os.Exit(childMain(spec))
	}
	os.Exit(m.Run())
}

// childSpec is what a child is told at its start.
type childSpec struct {
	Name, NATS, Listen string
	Advertise          string
	Lease, Limit       time.Duration
	Version            string
	Protocol, Oldest   int
	Idle               bool // not to be activated
	TLS                *TLS
	Replicas           int
}

type request struct {
	ID                       int
	Op, Device, Kind, Target string
	Timeout                  time.Duration
	Workers, Devices         int
}

type response struct {
	ID          int
	Event       string // instead of an answer: started, refused, lost
	Value       string
	Error, Code string
	Took        time.Duration
	LastHandled time.Time
	Members     []Member
	Summary     *summary
}

// summary is what a load has done.
type summary struct {
	Asks, Frames, Unsettled, Repeats int
	Errors                           map[string]int
	SlowestAsk, SlowestFrame         time.Duration
	GivenUp                          int
}

// Messages of the tests.
type (
	command string
	reading string
	frame1  struct {
		ID      string
		mu      sync.Mutex
		settled int
		then    func()
	}
)

func (f *frame1) OnSettled(then func()) { f.then = then }
func (f *frame1) Settle() {
	f.mu.Lock()
	f.settled++
	f.mu.Unlock()
	if f.then != nil {
		f.then()
	}
}

type testCodec struct{}

func (testCodec) Encode(m any) (string, []byte, error) {
	switch m := m.(type) {
	case command:
		return "command", []byte(m), nil
	case reading:
		return "reading", []byte(m), nil
	case *frame1:
		return "frame", []byte(m.ID), nil
	}
	return "", nil, fmt.Errorf("no wire form of %T", m)
}

func (testCodec) Decode(kind string, body []byte) (any, error) {
	switch kind {
	case "command":
		return command(body), nil
	case "reading":
		return reading(body), nil
	case "frame":
		return &frame1{ID: string(body)}, nil
	}
	return nil, messages.Errorf(messages.CodePrecondition, "unknown_kind", "no message of kind %q", kind)
}

func (testCodec) Repeatable(kind string) bool { return kind == "reading" }

func (testCodec) EncodeAnswer(_ string, v any) ([]byte, error) { return []byte(v.(string)), nil }
func (testCodec) DecodeAnswer(_ string, b []byte) (any, error) { return string(b), nil }

// testSealer marks what is sealed.
type testSealer struct{}

func (testSealer) Seal(dst, record, plain []byte) ([]byte, error) {
	return slices.Concat(dst, []byte("sealed "), record, []byte(" "), plain), nil
}

func (testSealer) Open(record, sealed []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, slices.Concat([]byte("sealed "), record, []byte(" ")))
	if !ok {
		return nil, errors.New("it is not sealed")
	}
	return plain, nil
}

// testActor answers a command with the name of its node.
type testActor struct {
	name string
	last *atomic.Int64 // Unix ns of the last message that was handled
}

func (a *testActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *frame1:
		a.last.Store(time.Now().UnixNano())
		m.Settle()
	case interface {
		Asked() any
		Answer(any, error)
	}:
		a.last.Store(time.Now().UnixNano())
		switch m.Asked() {
		case command("refuse"):
			m.Answer(nil, messages.Errorf(messages.CodeConflict, "refused", "device %s refuses", a.name))
		case command("silence"):
		default:
			m.Answer(a.name, nil)
		}
	}
}

func deviceNamed(s string) messages.DeviceID {
	return messages.DeviceID{ApplicationID: "app", DeviceID: s}
}

// child is a node in a process of its own.
type child struct {
	node *Node
	last atomic.Int64
	told atomic.Int64
	out  *json.Encoder
	mu   sync.Mutex
	load *load
	exit chan int
}

func (c *child) say(r response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.out.Encode(r) // the parent is gone if this fails, and then stdin ends
}

func childMain(text string) int {
	var spec childSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		panic(err)
	}
	c := &child{out: json.NewEncoder(os.Stdout), exit: make(chan int, 1)}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, err := c.start(ctx, spec)
	if err != nil {
		c.say(response{Event: "refused", Error: err.Error(), Code: nameOf(err)})
		return 3
	}
	c.node = n
	c.say(response{Event: "started", Value: n.system.Address()})
	go c.serve(os.Stdin)
	return <-c.exit
}

func (c *child) start(ctx context.Context, spec childSpec) (*Node, error) {
	nc, err := nats.Connect(spec.NATS, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	n, err := Start(ctx, Config{
		Name: spec.Name, Listen: spec.Listen, Advertise: spec.Advertise, Sealer: testSealer{}, TLS: spec.TLS, JetStream: js, Replicas: spec.Replicas, Lease: spec.Lease, SuspendLimit: spec.Limit,
		Version: spec.Version, Protocol: spec.Protocol, OldestProtocol: spec.Oldest,
		OnLost: func(err error) {
			c.say(response{Event: "lost", Error: err.Error(), LastHandled: time.Unix(0, c.last.Load())})
			c.exit <- 4
		},
		Codec: testCodec{}, Clock: time.Now, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Handlers: map[string]Handler{
			"greet": func(_ context.Context, from string, body []byte) ([]byte, error) {
				return []byte(spec.Name + " greets " + from + " " + string(body)), nil
			},
			"note":  func(context.Context, string, []byte) ([]byte, error) { c.told.Add(1); return nil, nil },
			"panic": func(context.Context, string, []byte) ([]byte, error) { panic("on purpose") },
		},
	}, func(messages.DeviceID) actor.Actor { return &testActor{name: spec.Name, last: &c.last} })
	if err == nil && !spec.Idle {
		err = n.Activate(ctx)
	}
	return n, err
}

func nameOf(err error) string {
	var e *messages.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return ""
}

func (c *child) serve(in io.Reader) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			panic(err)
		}
		go func() {
			start := time.Now()
			out, err := c.do(r)
			out.ID = r.ID
			if out.Took == 0 {
				out.Took = time.Since(start)
			}
			if err != nil {
				out.Error, out.Code = err.Error(), nameOf(err)
			}
			c.say(out)
			if r.Op == "leave" {
				c.exit <- 0
			}
		}()
	}
	c.exit <- 5 // the parent is gone
}

func (c *child) do(r request) (out response, err error) {
	if r.Timeout == 0 {
		r.Timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	switch r.Op {
	case "ask":
		var m any = command(r.Kind)
		if r.Kind == "reading" {
			m = reading("")
		}
		var v any
		if v, err = c.node.Ask(ctx, deviceNamed(r.Device), m); err == nil {
			out.Value = v.(string)
		}
	case "frame":
		settled := make(chan struct{})
		c.node.Tell(deviceNamed(r.Device), &frame1{ID: "one", then: func() { close(settled) }})
		select {
		case <-settled:
		case <-ctx.Done():
			err = ctx.Err()
		}
	case "asknode":
		var b []byte
		b, err = c.node.AskNode(ctx, r.Target, r.Kind, []byte("x"))
		out.Value = string(b)
	case "detours":
		out.Value = fmt.Sprint(c.node.detours.len())
	case "tellnodes":
		c.node.TellNodes("note", nil)
	case "told":
		out.Value = fmt.Sprint(c.told.Load())
	case "owner":
		out.Value = c.node.OwnerOf(deviceNamed(r.Device))
	case "members":
		out.Members = c.node.Members()
	case "suspended":
		err = c.node.Suspended()
	case "activate":
		err = c.node.Activate(ctx)
	case "load":
		c.load = startLoad(c.node, r.Workers, r.Devices)
	case "progress":
		c.load.mu.Lock()
		out.Value, out.Took = fmt.Sprint(min(c.load.Asks, len(c.load.frames))), max(c.load.SlowestAsk, c.load.SlowestFrame)
		c.load.mu.Unlock()
	case "unload":
		out.Summary = c.load.end(c.node)
	case "leave":
		err = errors.Join(c.node.Leave(ctx), c.node.Stop(ctx))
	default:
		err = fmt.Errorf("no such op %q", r.Op)
	}
	return out, err
}

// load asks and tells all the time.
type load struct {
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	summary
	frames []*frame1
}

func startLoad(n *Node, workers, devices int) *load {
	l := &load{stop: make(chan struct{}), summary: summary{Errors: map[string]int{}}}
	for range workers {
		l.wg.Go(func() { l.askAll(n, devices) })
		l.wg.Go(func() { l.tellAll(n, devices) })
	}
	return l
}

func (l *load) running() bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(3 * time.Millisecond):
		return true
	}
}

func (l *load) askAll(n *Node, devices int) {
	for l.running() {
		var m any = command("do")
		if rand.IntN(2) == 0 {
			m = reading("")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		start := time.Now()
		_, err := n.Ask(ctx, deviceNamed(fmt.Sprint(rand.IntN(devices))), m)
		cancel()
		l.mu.Lock()
		l.Asks++
		l.SlowestAsk = max(l.SlowestAsk, time.Since(start))
		if err != nil {
			l.Errors[fmt.Sprintf("%T %s", m, nameOf(err))]++
		}
		l.mu.Unlock()
	}
}

func (l *load) tellAll(n *Node, devices int) {
	for l.running() {
		start := time.Now()
		f := &frame1{ID: "load", then: func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.SlowestFrame = max(l.SlowestFrame, time.Since(start))
		}}
		l.mu.Lock()
		l.frames = append(l.frames, f)
		l.mu.Unlock()
		n.Tell(deviceNamed(fmt.Sprint(rand.IntN(devices))), f)
	}
}

func (l *load) end(n *Node) *summary {
	close(l.stop)
	l.wg.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for _, f := range l.frames {
		for {
			f.mu.Lock()
			settled := f.settled
			f.mu.Unlock()
			if settled > 1 {
				l.mu.Lock()
				l.Repeats++
				l.mu.Unlock()
			}
			if settled > 0 {
				break
			}
			if time.Now().After(deadline) {
				l.mu.Lock()
				l.Unsettled++
				l.mu.Unlock()
				break
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := l.summary
	sum.Frames, sum.GivenUp = len(l.frames), int(testutil.ToFloat64(n.metrics.givenUp))
	return &sum
}
