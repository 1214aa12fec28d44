package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"lorikeet/messages"
)

// proxy stands between a client and a server, and can lose or delay what either says.
type proxy struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	mode     proxyMode
	links    map[*link]struct{}
	touched  chan struct{} // receives when something was lost or held
}

type proxyMode int

const (
	passAll     proxyMode = iota
	loseAnswers           // what the server says is lost
	loseRequests
	holdRequests // what the client says is kept back
)

type link struct {
	client, server net.Conn
	held           []byte
	answered       chan struct{} // closed when the server has answered to what was held back; nil before it was released
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: server, links: make(map[*link]struct{}), touched: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", p.server)
			if err != nil {
				_ = client.Close()
				continue
			}
			k := &link{client: client, server: server}
			p.mu.Lock()
			p.links[k] = struct{}{}
			p.mu.Unlock()
			wg.Go(func() { p.copy(k, true) })
			wg.Go(func() { p.copy(k, false) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

func (p *proxy) copy(k *link, up bool) {
	from, to, lost := k.client, k.server, loseRequests
	if !up {
		from, to, lost = k.server, k.client, loseAnswers
	}
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			if !up {
				_ = to.Close() // the other way, the server must still be able to get what is held back
			}
			return
		}
		p.mu.Lock()
		mode := p.mode
		if !up && k.answered != nil && bytes.Contains(b[:n], []byte("MSG")) {
			close(k.answered)
			k.answered = nil
		}
		touched := mode == lost
		if up && mode == holdRequests {
			k.held = append(k.held, b[:n]...)
			touched = true
		} else if !touched {
			_, _ = to.Write(b[:n])
		}
		p.mu.Unlock()
		if touched {
			select {
			case p.touched <- struct{}{}:
			default:
			}
		}
	}
}

func (p *proxy) set(m proxyMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
}

// breakClients closes the connections to the clients; those to the server stay until cut.
func (p *proxy) breakClients() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		_ = k.client.Close()
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		_ = k.client.Close()
		_ = k.server.Close()
	}
}

// release gives the server what was held back, and waits until it has answered.
func (p *proxy) release(t *testing.T) {
	var answers []chan struct{}
	p.mu.Lock()
	for k := range p.links {
		if len(k.held) == 0 {
			continue
		}
		k.answered = make(chan struct{})
		answers = append(answers, k.answered)
		if _, err := k.server.Write(k.held); err != nil {
			t.Error(err)
		}
		k.held = nil
	}
	p.mu.Unlock()
	if len(answers) == 0 {
		t.Error("nothing was held back")
	}
	for _, a := range answers {
		<-a
	}
}

func openBehindProxy(t *testing.T) (*Store, *proxy) {
	t.Helper()
	p := newProxy(t, strings.TrimPrefix(singleServer(t).ClientURL(), "nats://"))
	nc, err := Connect(Options{URLs: []string{"nats://" + p.listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return mustOpen(t, Config{Conn: nc, Journals: 1}), p
}

// A commit whose answer, or whose request, is lost on the way is made once all the same, and Commit knows it.
func TestCommitIsMadeOnceWhateverIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		mode  proxyMode
		first messages.Commit // before, on which the commit is decided; none if its Session is nil
	}{
		{"answer", loseAnswers, messages.Commit{}},
		{"answer to a later one", loseAnswers, messages.Commit{Device: testDevice, Session: []byte("old")}},
		{"request", loseRequests, messages.Commit{}},
		{"delayed request", holdRequests, messages.Commit{}},
		{"delayed request of a later one", holdRequests, messages.Commit{Device: testDevice, Session: []byte("old")}},
	} {
		for _, session := range [][]byte{[]byte("new"), nil} {
			t.Run(fmt.Sprintf("%s, session %t", c.name, session != nil), func(t *testing.T) {
				t.Parallel()
				testLost(t, c.mode, c.first, session)
			})
		}
	}
}

func testLost(t *testing.T, mode proxyMode, first messages.Commit, session []byte) {
	s, p := openBehindProxy(t)
	direct := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: s.cfg.Namespace})
	var rev messages.Revision
	if first.Session != nil {
		rev = commit(t, s, first)
	}
	p.set(mode)
	for len(p.touched) > 0 {
		<-p.touched
	}
	type result struct {
		rev messages.Revision
		err error
	}
	done := make(chan result)
	go func() {
		rev, err := s.Commit(t.Context(), messages.Commit{Device: testDevice, Expected: rev, Session: session, Events: []messages.Event{testEvent(1)}})
		done <- result{rev, err}
	}()
	<-p.touched
	p.breakClients()
	p.set(passAll) // the client connects again
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	if mode == holdRequests {
		p.release(t)
	}
	want, at := string(session), got.rev
	if session == nil {
		want, at = string(first.Session), rev
	}
	p.cut()
	for range 3 {
		commit(t, direct, messages.Commit{Device: messages.DeviceID{ApplicationID: "app", DeviceID: "other"}, Events: []messages.Event{testEvent(9)}})
	}
	wantSession(t, direct, testDevice, want, at)
	if ids := readAll(t, direct, "app"); fmt.Sprint(ids) != "[1 9 9 9]" {
		t.Errorf("the log holds %v", ids)
	}
}

// Only the end of the context leaves an outcome unknown, and the error says so.
func TestUnknownOutcomeIsReported(t *testing.T) {
	t.Parallel()
	s, p := openBehindProxy(t)
	p.set(loseAnswers)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-p.touched; cancel() }()
	_, err := s.Commit(ctx, messages.Commit{Device: testDevice, Session: []byte("x"), Events: []messages.Event{testEvent(1)}})
	if messages.CodeOf(err) != messages.CodeUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	p.cut()
	p.set(passAll)
	session, rev, err := s.LoadSession(t.Context(), testDevice)
	if err != nil || string(session) != "x" && session != nil {
		t.Errorf("session %q at %d, %v", session, rev, err)
	}
}
