package broker

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
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
	m, err := newMetrics(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var running sync.WaitGroup
		defer running.Wait()
		memory, kept := &memory{limit: 1 << 30}, &memory{limit: 1 << 30}
		s := newSession(sessionKey{username: "app1"}, "", kept)
		connection := func(window int) *client {
			return &client{conn: newConn(sink{}, memory, 1<<20, time.Second, &running), metrics: m, window: window, maxPacket: 200}
		}
		open := map[string]bool{} // payloads of QoS 1 and 2 that are not confirmed
		id := func(t *rapid.T) uint16 { return rapid.Uint16Range(0, 12).Draw(t, "id") }
		settle := func(id uint16, qos byte) {
			if d := s.byID[id]; d != nil && d.qos == qos {
				delete(open, string(d.event.payload))
			}
		}
		published := 0
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				payload := fmt.Sprintf("%06d", published)
				if rapid.IntRange(0, 9).Draw(t, "large") == 0 {
					payload += strings.Repeat("x", 200)
				}
				published++
				qos := rapid.ByteRange(0, 2).Draw(t, "qos")
				if !s.deliver(&event{device: "dev1", suffix: "/up", payload: []byte(payload)}, qos, nil) {
					t.Fatal("no room")
				}
				if qos > 0 && len(payload) < 100 {
					open[payload] = true
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
			"": func(t *rapid.T) { checkBooks(t, s) },
		})
		// Confirm each message as it comes.
		c := connection(1)
		s.bind(c)
		s.resume(c)
		last := ""
		for len(s.waiting) > 0 {
			if s.sent == 0 {
				t.Fatalf("%d messages wait and none is on its way", len(s.waiting))
			}
			for id, d := range s.byID {
				if !d.onWay {
					continue
				}
				payload := string(d.event.payload)
				if !d.released && payload <= last {
					t.Fatalf("%s comes after %s", payload, last)
				}
				if !d.released {
					last = payload
				}
				delete(open, payload)
				s.puback(id, d.qos)
				break
			}
			checkBooks(t, s)
		}
		if len(open) != 0 {
			t.Fatalf("lost: %v", open)
		}
		if kept.used.Load() != 0 {
			t.Fatalf("%d bytes are held for nothing", kept.used.Load())
		}
	})
}

func checkBooks(t *rapid.T, s *session) {
	sent, bytes, ids := 0, 0, 0
	for i, d := range s.waiting {
		if d.done {
			continue
		}
		bytes += len(d.event.payload)
		if d.onWay {
			sent++
		}
		if d.id != 0 {
			ids++
			if s.byID[d.id] != d {
				t.Fatalf("id %d is of another message", d.id)
			}
		}
		if d.onWay && !d.released && i >= s.next {
			t.Fatalf("message %d was sent before its turn", i)
		}
	}
	if s.next < 0 || s.next > len(s.waiting) || len(s.waiting) > 0 && s.waiting[0].done {
		t.Fatalf("next is %d of %d", s.next, len(s.waiting))
	}
	if s.live && sent != s.sent || bytes != s.bytes || ids != len(s.byID) || int64(bytes) != s.kept.used.Load() {
		t.Fatalf("%d on their way, counted %d; %d bytes, counted %d; %d ids, kept %d", sent, s.sent, bytes, s.bytes, ids, len(s.byID))
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
