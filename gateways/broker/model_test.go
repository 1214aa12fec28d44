package broker

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lorikeet/messages"
)

// sink takes everything.
type sink struct{ net.Conn }

func (sink) Write(p []byte) (int, error)       { return len(p), nil }
func (sink) SetWriteDeadline(time.Time) error  { return nil }
func (sink) SetReadDeadline(t time.Time) error { return nil }
func (sink) Close() error                      { return nil }

// TestSessionHoldsItsPromises plays what a client may do, right or wrong, and checks the books of the session after each step. In the end, a client that
// behaves gets everything that was not confirmed, in order.
func TestSessionHoldsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, playSession)
}

// rest waits until the lane has nothing to do: it follows the feed, or its window is full.
func rest(t *rapid.T, s *session, last uint64) {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Microsecond) {
		s.mu.Lock()
		done := s.app.position.Load() >= last && (!s.live && !s.reading || s.following || s.live && s.sent >= s.client.window)
		s.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the lane stands still")
		}
	}
}

func playSession(t *rapid.T) {
	cfg := newWorld().config()
	cfg.setDefaults()
	srv, err := newServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = srv.Close(context.Background()) }()
	app := newApplication("app1")
	srv.apps.Store("app1", app)
	s := newSession(sessionKey{username: "app1"}, "", app, srv)
	if err := srv.feedTo(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	for i, qos := range []byte{0, 1, 2} {
		text := fmt.Sprintf("v3/app1/devices/dev%d/up", i)
		_, levels, _ := rewriteFilter("app1", text)
		app.subscribe(s, request{text: text, levels: levels, qos: qos})
	}
	var running sync.WaitGroup
	connection := func(window int) *client {
		return &client{conn: newConn(sink{}, &srv.memory, 1<<20, time.Second, &running), metrics: srv.metrics, window: window, maxPacket: 200}
	}
	committed := uint64(0)
	open := map[uint64]bool{} // places of events of QoS 1 and 2 that are not confirmed
	id := func(t *rapid.T) uint16 { return rapid.Uint16Range(0, 12).Draw(t, "id") }
	settle := func(id uint16, qos byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d := s.byID[id]; d != nil && d.qos == qos {
			delete(open, d.seq)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"deliver": func(t *rapid.T) {
			qos := rapid.IntRange(0, 2).Draw(t, "qos")
			e := eventOf("app1", fmt.Sprint("dev", qos), messages.EventUplink, 0)
			big := rapid.IntRange(0, 9).Draw(t, "large") == 0
			if big {
				e.JSON = []byte(strings.Repeat("x", 200))
			}
			seq := srv.commit(e)
			committed = seq
			if qos > 0 && !big {
				open[seq] = true
			}
		},
		"puback":  func(t *rapid.T) { i := id(t); settle(i, 1); s.puback(i, 1) },
		"pubcomp": func(t *rapid.T) { i := id(t); settle(i, 2); s.puback(i, 2) },
		"pubrec":  func(t *rapid.T) { s.pubrec(id(t), false) },
		"refuse":  func(t *rapid.T) { i := id(t); settle(i, 2); s.pubrec(i, true) },
		"connect": func(t *rapid.T) {
			c := connection(rapid.IntRange(1, 5).Draw(t, "window"))
			s.bind(c)
			if rapid.Bool().Draw(t, "established") {
				s.resume(c)
			}
		},
		"disconnect": func(*rapid.T) {
			if s.client != nil && !s.unbind(s.client) {
				t.Fatal("not its connection")
			}
		},
		"": func(t *rapid.T) { rest(t, s, committed); checkBooks(t, s, open) },
	})
	// Confirm each message as it comes.
	c := connection(1)
	s.bind(c)
	s.resume(c)
	rest(t, s, committed)
	last := uint64(0)
	for len(s.waiting) > 0 {
		for _, d := range maps.Clone(s.byID) {
			if !d.released && d.seq <= last {
				t.Fatalf("%d comes after %d", d.seq, last)
			}
			if !d.released {
				last = d.seq
			}
			delete(open, d.seq)
			s.puback(d.id, d.qos)
			break
		}
		rest(t, s, committed)
		checkBooks(t, s, open)
	}
	if len(open) != 0 {
		t.Fatalf("lost: %v", open)
	}
	if used := srv.window.used.Load(); used != 0 {
		t.Fatalf("%d bytes are held for nothing", used)
	}
	s.unbind(c)
}

func checkBooks(t *rapid.T, s *session, open map[uint64]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes := 0
	settled := s.settled()
	for seq := range open {
		if seq <= settled {
			t.Fatalf("event %d is not confirmed, and the cursor is at %d", seq, settled)
		}
	}
	unsettled := 0
	for _, d := range s.waiting {
		if d.done {
			continue
		}
		unsettled++
		bytes += d.bytes
		if s.byID[d.id] != d {
			t.Fatalf("id %d is of another message", d.id)
		}
	}
	if len(s.waiting) > 0 && s.waiting[0].done {
		t.Fatal("what is confirmed is still kept")
	}
	if unsettled != s.sent || bytes != s.bytes || unsettled != len(s.byID) || int64(bytes) != s.server.window.used.Load() {
		t.Fatalf("%d on their way, counted %d; %d bytes, counted %d; %d ids", unsettled, s.sent, bytes, s.bytes, len(s.byID))
	}
}

func TestConnectionKeepsTheOrderOfWhatIsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		client, server := net.Pipe()
		var running sync.WaitGroup
		m := &memory{limit: 1 << 30}
		c := newConn(server, m, 1<<30, patience, &running)
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{4, 100, smallBuffer, smallBuffer + 1, 40000, chunkSize, chunkSize + 1, 200000}), 1, 40).Draw(t, "sizes")
		total := 0
		for i, n := range sizes {
			p := make([]byte, n)
			binary.BigEndian.PutUint32(p, uint32(i))
			if _, err := c.Write(p); err != nil {
				t.Fatal(err)
			}
			total += n
		}
		for i, n := range sizes {
			p := make([]byte, n)
			for got := 0; got < n; {
				k, err := client.Read(p[got:])
				if err != nil {
					t.Fatalf("packet %d of %d bytes: %v", i, n, err)
				}
				got += k
			}
			if binary.BigEndian.Uint32(p) != uint32(i) {
				t.Fatalf("packet %d came at place %d", binary.BigEndian.Uint32(p), i)
			}
		}
		_ = c.Close()
		running.Wait()
		if m.used.Load() != 0 {
			t.Fatalf("%d of %d bytes are not given back", m.used.Load(), total)
		}
	})
}
