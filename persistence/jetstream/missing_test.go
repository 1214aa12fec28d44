package jetstream

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"lorikeet/messages"
)

// An empty stream in the place of one that was lost would give devices their counters anew.
func TestStoreWithALostStreamIsRefused(t *testing.T) {
	t.Parallel()
	for _, lost := range []func(names) string{
		func(n names) string { return n.journal(1) }, func(n names) string { return n.registry() }, func(n names) string { return n.directory() },
		func(n names) string { return n.cursors() },
	} {
		s := openSingle(t)
		name := lost(s.names)
		if err := s.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		cfg := Config{Conn: connect(t, singleServer(t)), Namespace: s.cfg.Namespace, Sealer: testSealer(1), missingFor: time.Millisecond}
		for range 2 { // the first refusal must not have made it
			if err := mustRefuse(t, cfg, "stream_missing"); !strings.Contains(err.Error(), name) {
				t.Errorf("%s: the stream is not named: %v", name, err)
			}
		}
		s.checkHealth(t.Context())
		if err := s.Ready(); err == nil || !strings.Contains(err.Error(), name+" is gone") {
			t.Errorf("%s: a running store says %v", name, err)
		}
	}
}

// writer is told of each write.
type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// A NATS server that starts may say for a moment that a stream is not there.
func TestStreamThatIsLateIsNotTakenForLost(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	name := s.names.directory()
	stream, err := s.js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.js.DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	opened, waits := make(chan error), make(chan struct{}, 1)
	log := slog.New(slog.NewTextHandler(writer(func(line []byte) {
		if bytes.Contains(line, []byte("waiting for a stream")) {
			waits <- struct{}{}
		}
	}), nil))
	go func() {
		again, err := Open(t.Context(), Config{Conn: connect(t, singleServer(t)), Namespace: s.cfg.Namespace, Sealer: testSealer(1), Logger: log, missingFor: time.Hour})
		if err == nil {
			err = again.Close()
		}
		opened <- err
	}()
	<-waits
	if _, err := s.js.CreateStream(t.Context(), stream.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// A node that died while it made the streams of a new store is followed by one that makes the rest.
func TestHalfMadeStoreIsCompleted(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	if err := s.purge(t.Context(), s.names.registry(), s.names.check(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.js.DeleteStream(t.Context(), s.names.journal(1)); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: s.cfg.Namespace})
	if _, err := s.js.Stream(t.Context(), again.names.journal(1)); err != nil {
		t.Error(err)
	}
}

func TestAnotherStoreThanExpectedIsRefused(t *testing.T) {
	t.Parallel()
	first, second := openSingle(t), openSingle(t)
	same := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: first.cfg.Namespace, Identity: first.Identity()})
	if first.Identity() == "" || same.Identity() != first.Identity() || second.Identity() == first.Identity() {
		t.Errorf("identities %q, %q, and of another store %q", first.Identity(), same.Identity(), second.Identity())
	}
	mustRefuse(t, Config{Conn: connect(t, singleServer(t)), Namespace: second.cfg.Namespace, Sealer: testSealer(1), Identity: first.Identity()}, "another_store")
	// Nothing is there at all, as when the servers were started on empty disks.
	nc, empty := connect(t, singleServer(t)), newNamespace()
	mustRefuse(t, Config{Conn: nc, Namespace: empty, Sealer: testSealer(1), Identity: first.Identity(), missingFor: time.Millisecond}, "store_gone")
	if ok, err := Exists(t.Context(), nc, "", empty); ok || err != nil {
		t.Errorf("the refusal made a store: %t, %v", ok, err)
	}
}

// Several nodes may be the first at once.
func TestNodesThatMakeTheStoreTogetherAgreeOnItsIdentity(t *testing.T) {
	t.Parallel()
	nc, namespace := connect(t, singleServer(t)), newNamespace()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type opened struct {
		s   *Store
		err error
	}
	done := make(chan opened)
	const nodes = 4
	for range nodes {
		go func() {
			s, err := Open(ctx, Config{Conn: nc, Namespace: namespace, Sealer: testSealer(1), Journals: 3})
			done <- opened{s, err}
		}()
	}
	identities := map[string]bool{}
	for range nodes {
		o := <-done
		if o.err != nil {
			t.Error(o.err)
			continue
		}
		identities[o.s.Identity()] = true
		commit(t, o.s, messages.Commit{Device: testDevice, Events: []messages.Event{testEvent(1)}})
		if err := o.s.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(identities) != 1 {
		t.Errorf("identities %v, want one", identities)
	}
}

func TestAccountWithoutJetStreamIsRefused(t *testing.T) {
	t.Parallel()
	without := server.NewAccount("WITHOUT")
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
		Accounts: []*server.Account{without}, Users: []*server.User{{Username: "u", Password: "p", Account: without}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS server does not start")
	}
	nc, err := Connect(Options{URLs: []string{s.ClientURL()}, User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	mustRefuse(t, Config{Conn: nc, Sealer: testSealer(1)}, "no_jetstream")
}
