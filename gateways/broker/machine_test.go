package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/messages"
	memstore "lorikeet/persistence/memory"
)

// machine is one server on a store that outlives it, and may be shared with others.
type machine struct {
	*memstore.Store
	*Server
	dead   atomic.Bool
	mu     sync.Mutex
	others []*machine // that hear of its documents
}

var errDead = errors.New("the machine is dead")

// boot starts a server on the store of w. It is closed at the end of the test.
func boot(t testing.TB, w *world, node string, change ...func(*Config)) *machine {
	t.Helper()
	m := &machine{Store: w.store}
	cfg := w.config()
	cfg.Store, cfg.Node = m, node
	for _, f := range change {
		f(&cfg)
	}
	m.Server = start(t, cfg)
	return m
}

// kill ends the server as kill -9 does: nothing of it reaches the store any more, and its connections are gone.
func (m *machine) kill(t testing.TB) {
	t.Helper()
	m.dead.Store(true)
	if err := m.Server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// halt ends the server in good order.
func (m *machine) halt(t testing.TB) {
	t.Helper()
	if err := m.Server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) Close() error { return nil }

func (m *machine) SaveCursor(ctx context.Context, name string, seq uint64) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Store.SaveCursor(ctx, name, seq)
}

func (m *machine) DeleteCursor(ctx context.Context, name string) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Store.DeleteCursor(ctx, name)
}

func (m *machine) WriteDocuments(ctx context.Context, writes []messages.Write) error {
	if m.dead.Load() {
		return errDead
	}
	err := m.Store.WriteDocuments(ctx, writes)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.others {
		o.SessionChanged(writes[0].ID)
	}
	return err
}

// pair is two nodes that share a store.
func pair(t testing.TB, w *world) (a, b *machine) {
	t.Helper()
	a, b = boot(t, w, "a"), boot(t, w, "b")
	for _, m := range []*machine{a, b} {
		m.mu.Lock()
		m.others = []*machine{a, b}
		m.mu.Unlock()
	}
	return a, b
}

func (w *world) commit(t testing.TB, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		e := event1(n)
		e.ID = fmt.Sprint("event-", n)
		if _, err := w.store.Commit(t.Context(), messages.Commit{Device: e.Device, Events: []messages.Event{e.Event}}); err != nil {
			t.Fatal(err)
		}
	}
}

// takes reads events from to, in order, and confirms them.
func (c *raw) takes(t testing.TB, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		c.settle(t, c.event(t, n))
	}
}

// event reads the event n, which must come next.
func (c *raw) event(t testing.TB, n int) packets.Packet {
	t.Helper()
	for {
		pk, err := c.read()
		if err != nil {
			t.Fatalf("waiting for event %d: %v", n, err)
		}
		if pk.FixedHeader.Type == packets.Pubrel {
			c.send(t, confirmation(packets.Pubcomp, pk.PacketID))
			continue
		}
		if want := fmt.Sprintf(`{"n":%d}`, n); pk.FixedHeader.Type != packets.Publish || string(pk.Payload) != want {
			t.Fatalf("a packet of type %d with %s came, want event %d", pk.FixedHeader.Type, pk.Payload, n)
		}
		return pk
	}
}

func (c *raw) settle(t testing.TB, pk packets.Packet) {
	t.Helper()
	if pk.FixedHeader.Qos == 1 {
		c.send(t, confirmation(packets.Puback, pk.PacketID))
		return
	}
	c.send(t, confirmation(packets.Pubrec, pk.PacketID))
}

// answered comes back when the server has dealt with all that was sent.
func (c *raw) answered(t testing.TB) {
	t.Helper()
	c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	for {
		pk, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		switch pk.FixedHeader.Type {
		case packets.Pingresp:
			return
		case packets.Pubrel:
			c.send(t, confirmation(packets.Pubcomp, pk.PacketID))
		case packets.Publish:
			t.Fatalf("got %s", pk.Payload)
		}
	}
}

func (m *machine) client(t testing.TB, version byte, change ...func(*packets.Packet)) (c *raw, present bool) {
	t.Helper()
	c = dial(t, m.Server)
	return c, c.login(t, version, "c", "app1", "all", append([]func(*packets.Packet){keepSession(3600)}, change...)...).SessionPresent
}

func (w *world) cursor(t testing.TB) uint64 {
	t.Helper()
	seq, _, err := w.store.LoadCursor(t.Context(), sessionKey{"id-of-all", "app1", "c"}.cursorName())
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func (w *world) documents(t testing.TB) (docs []messages.Document) {
	t.Helper()
	docs, err := w.store.ListDocuments(t.Context(), messages.KindMQTTSession, "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// behindStore shows the log up to a place only, if that is set.
type behindStore struct {
	*memstore.Store
	shown atomic.Uint64
}

func (b *behindStore) ReadLog(ctx context.Context, app string, after uint64, limit int) ([]messages.LogEntry, error) {
	entries, err := b.Store.ReadLog(ctx, app, after, limit)
	if shown := b.shown.Load(); shown > 0 {
		for i := range entries {
			if entries[i].Seq > shown {
				return entries[:i], err
			}
		}
	}
	return entries, err
}
