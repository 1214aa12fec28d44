package jetstream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence"
	"lorikeet/persistence/jetstream/natsserver"
)

func mustRefuse(t *testing.T, cfg Config, name string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Open(ctx, cfg)
	if err == nil {
		_ = s.Close()
		t.Fatalf("the store opened, want %s", name)
	}
	var e *messages.Error
	if name != "" && (!errors.As(err, &e) || e.Name != name) {
		t.Fatalf("open: %v, want %s", err, name)
	}
	return err
}

func TestWrongKEKIsRefused(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	rev := commit(t, s, messages.Commit{Device: testDevice, Session: []byte("x")})
	nc := connect(t, singleServer(t))
	err := mustRefuse(t, Config{Conn: nc, Namespace: s.cfg.Namespace, Sealer: testSealer(2)}, "wrong_kek")
	if !strings.Contains(err.Error(), testSealer(1).KeyID()) {
		t.Errorf("the key that is needed is not named: %v", err)
	}
	// With both keys the store moves on to the new one; the old one alone is then refused.
	kek := func(b byte) persistence.KEK { return persistence.KEK(bytes.Repeat([]byte{b}, 32)) }
	both := mustOpen(t, Config{Conn: nc, Namespace: s.cfg.Namespace, Sealer: persistence.NewSealer(kek(2), kek(1))})
	wantSession(t, both, testDevice, "x", rev)
	// Documents and entries follow when they are read, records at the latest with the trimmer.
	write(t, s, "app.dev", "root key")
	if err := s.PutEntry(t.Context(), testDevice, []byte("entry")); err != nil {
		t.Fatal(err)
	}
	n := newNotes()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = both.FollowDocuments(ctx, func(d messages.Document, _ bool) {
			n.add("%s %s %t", d.ID, d.Value, under(t, both, both.names.registry(), both.names.document(d.Kind, d.ID), 2))
		})
	})
	wg.Go(func() {
		_ = both.FollowEntries(ctx, func(id messages.DeviceID, e []byte) {
			n.add("%s %s %t", id, e, under(t, both, both.names.directory(), both.names.entry(id), 2))
		}, func() {})
	})
	n.await(t, "app.dev root key true")
	n.await(t, "app.dev entry true")
	cancel()
	wg.Wait()
	journal := both.names.journal(both.names.shard("app"))
	last, err := both.last(t.Context(), journal, both.names.device(testDevice))
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := both.carry(t.Context(), journal, last); err != nil || !ok {
		t.Errorf("carry: %t, %v", ok, err)
	}
	only := mustOpen(t, Config{Conn: nc, Namespace: s.cfg.Namespace, Sealer: testSealer(2)})
	wantSession(t, only, testDevice, "x", rev)
	if d, err := only.GetDocument(t.Context(), messages.KindDevice, "app.dev"); err != nil || string(d.Value) != "root key" {
		t.Errorf("document %q, %v", d.Value, err)
	}
	mustRefuse(t, Config{Conn: nc, Namespace: s.cfg.Namespace, Sealer: testSealer(1)}, "wrong_kek")
}

// under says whether the last message of a subject is sealed under a key.
func under(t *testing.T, s *Store, stream, subject string, key byte) bool {
	m, err := s.last(t.Context(), stream, subject)
	if err != nil || m == nil {
		return false
	}
	id, _, _ := s.cfg.Sealer.Key(m.data)
	return id == testSealer(key).KeyID()
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	stream, err := s.js.Stream(t.Context(), s.names.registry())
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Metadata[keyFormat] = "2"
	if _, err := s.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, Config{Conn: connect(t, singleServer(t)), Namespace: s.cfg.Namespace, Sealer: testSealer(1)}, "store_too_new")
}

// What the first node decided holds for the others.
func TestNumberOfJournalsIsKept(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	rev := commit(t, s, messages.Commit{Device: testDevice, Session: []byte("x")})
	again := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: s.cfg.Namespace, Journals: 5})
	wantSession(t, again, testDevice, "x", rev)
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	nc := connect(t, singleServer(t))
	for name, cfg := range map[string]Config{
		"no connection": {Sealer: testSealer(1)}, "no sealer": {Conn: nc}, "namespace": {Conn: nc, Sealer: testSealer(1), Namespace: "A.b"},
		"replicas": {Conn: nc, Sealer: testSealer(1), Replicas: 2}, "journals": {Conn: nc, Sealer: testSealer(1), Journals: -1},
	} {
		if s, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: the store opened", name)
			_ = s.Close()
		}
	}
}

func TestReplicasNeedServers(t *testing.T) {
	t.Parallel()
	err := mustRefuse(t, Config{Conn: connect(t, singleServer(t)), Namespace: newNamespace(), Sealer: testSealer(1), Replicas: 3}, "")
	if !strings.Contains(err.Error(), "3 replicas") || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestConnectErrorsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = "s3cr%21et!"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	server, err := natsserver.Start(ctx, natsserver.Config{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Secret: "another", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	host := strings.TrimPrefix(server.ClientURL(), "nats://")
	seed := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seed, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"in the URL": {URLs: []string{"nats://user:" + secret + "@" + host}}, "broken URL": {URLs: []string{"nats://user:" + secret + "@" + host + ":x"}},
		"fields": {URLs: []string{host}, User: "user", Password: secret}, "token": {URLs: []string{host}, Token: secret},
		"token in the URL": {URLs: []string{"nats://" + secret + "@" + host}}, "no scheme": {URLs: []string{"user:" + secret + "@" + host}},
		"seed": {URLs: []string{host}, NKeySeedFile: seed}, "no server": {URLs: []string{"nats://user:" + secret + "@" + freePort(t)}},
		"CA": {URLs: []string{host}, CAFile: seed}, "no file": {URLs: []string{host}, CredentialsFile: seed + "x"}, "half a certificate": {URLs: []string{host}, CertFile: seed},
	} {
		nc, err := Connect(o)
		if err == nil {
			nc.Close()
			t.Errorf("%s: connected", name)
			continue
		}
		if text := err.Error(); strings.Contains(text, "s3cr") {
			t.Errorf("%s: the error holds the secret: %v", name, err)
		}
	}
	nc, err := Connect(Options{URLs: []string{host}, User: natsserver.User, Password: "another"})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	secret := []byte("a key that nobody may read")
	commit(t, s, messages.Commit{Device: testDevice, Session: secret})
	if err := s.PutEntry(t.Context(), testDevice, secret); err != nil {
		t.Fatal(err)
	}
	write(t, s, "app.dev", string(secret))
	if err := s.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindApplication, ID: "app", Value: []byte("this one is not secret")}}); err != nil {
		t.Fatal(err)
	}
	open := false
	for _, stream := range s.streams() {
		for seq := uint64(1); ; seq++ {
			m, err := s.next(t.Context(), stream, ">", seq)
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				break
			}
			seq = m.seq
			open = open || string(m.data) == "this one is not secret"
			if bytes.Contains(m.data, secret) {
				t.Errorf("%s holds the secret", m.subject)
			}
		}
	}
	if !open {
		t.Error("the test does not see what is stored")
	}
}
