package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/actors"
	"lorikeet/actors/device"
	"lorikeet/cluster"
	"lorikeet/cluster/node"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/jetstream/natsserver"
	"lorikeet/persistence/migrate"
)

func runMigrate(t *testing.T, from, to string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := (&migrateCommand{From: from, To: to}).migrate(t.Context(), DefaultConfig(), slog.New(slog.DiscardHandler), &out)
	return out.String(), err
}

// folder opens the store and the registry of a data folder, as the server does.
func folder(t *testing.T, dir string) *server {
	t.Helper()
	s := openNode(dir)
	if err := s.openStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func openNode(dir string) *server {
	cfg := DefaultConfig()
	cfg.Data = dir
	return &server{cfg: cfg, log: slog.New(slog.DiscardHandler), out: io.Discard, metrics: prometheus.NewRegistry(), failed: make(chan error, 8)}
}

var movedDevice = messages.DeviceID{ApplicationID: "my-app", DeviceID: "dev-1"}

// fillFolder runs a server's store and registry for a moment, and gives the admin key.
func fillFolder(t *testing.T, dir string) string {
	t.Helper()
	ctx, s := t.Context(), folder(t, dir)
	var app v3.Application
	app.IDs.ApplicationID = "my-app"
	if _, err := s.registry.CreateApplication(ctx, app); err != nil {
		t.Fatal(err)
	}
	if _, err := s.registry.SetWebhook(ctx, "my-app", "my-hook", func(w *v3.Webhook) error {
		w.BaseURL, w.Headers = "https://example.com", map[string]string{"Authorization": "secret-word"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	record, err := device.State{Session: &device.Session{DevAddr: messages.DevAddr{1, 2, 3, 4}, NwkSKey: messages.Key{5}, AppSKey: messages.Key{6}}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var events []messages.Event
	for _, n := range []string{"1", "2"} {
		events = append(events, messages.Event{ID: n, Device: movedDevice, Type: messages.EventUplink, Time: time.Now().UTC(), JSON: []byte("{}")})
	}
	if _, err := s.store.Commit(ctx, messages.Commit{Device: movedDevice, Session: record, Events: events}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.SaveCursor(ctx, integrationKey("webhook", "my-app", "my-hook"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := runMigrate(t, "badger:"+dir, "badger:"+filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("the source is in use: got %v", err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return s.createdKey
}

// checkMoved looks for what fillFolder has made, and stops the server.
func checkMoved(t *testing.T, s *server, key string) {
	t.Helper()
	ctx := t.Context()
	if s.createdKey != "" {
		t.Error("another admin key was made")
	}
	if access, err := s.registry.Authorize(ctx, key); err != nil || !access.Admin {
		t.Errorf("the admin key gives %+v, %v", access, err)
	}
	if h, err := s.registry.Webhook(ctx, "my-app", "my-hook"); err != nil || h.Headers["Authorization"] != "secret-word" {
		t.Errorf("webhook %+v, %v", h, err)
	}
	b, _, err := s.store.LoadSession(ctx, movedDevice)
	if entries, readErr := actors.SessionEntries(b); err != nil || readErr != nil || len(entries) != 1 || entries[0].DevAddr != (messages.DevAddr{1, 2, 3, 4}) {
		t.Errorf("session %v, %v, %v", entries, err, readErr)
	}
	seq, ok, err := s.store.LoadCursor(ctx, integrationKey("webhook", "my-app", "my-hook"))
	if err != nil || !ok {
		t.Errorf("cursor: %v, %v", ok, err)
	}
	if rest, err := s.store.ReadLog(ctx, "my-app", seq, 10); err != nil || len(rest) != 1 || rest[0].ID != "2" {
		t.Errorf("after the place of the webhook: %v, %v", rest, err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateMovesAServer(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
	key := fillFolder(t, from)
	out, err := runMigrate(t, "badger:"+from, "badger:"+to)
	if err != nil || !strings.Contains(out, "1 webhooks") || !strings.Contains(out, "2 events") || strings.Contains(out, "secret-word") {
		t.Fatalf("%v, %s", err, out)
	}
	checkMoved(t, folder(t, to), key)
	if _, err := runMigrate(t, "badger:"+from, "badger:"+to); err == nil || !strings.Contains(err.Error(), "in use already") {
		t.Errorf("a second time: got %v", err)
	}
}

func TestMigrateToAClusterAndBack(t *testing.T) {
	t.Parallel()
	from, back := t.TempDir(), t.TempDir()
	key := fillFolder(t, from)
	server, err := natsserver.Start(t.Context(), natsserver.Config{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	url := server.ClientURL()
	if _, err := runMigrate(t, url, "badger:"+back); err == nil || !strings.Contains(err.Error(), "key-encryption key") {
		t.Errorf("without a key: got %v", err)
	}
	kek, err := os.ReadFile(place{dir: from}.keyFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(place{dir: back}.keyFile(), kek, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := runMigrate(t, url, "badger:"+back); err == nil || !strings.Contains(err.Error(), "there is no store") {
		t.Errorf("from nothing: got %v", err)
	}
	out, err := runMigrate(t, "badger:"+from, url)
	if err != nil || !strings.Contains(out, "2 events") || !strings.Contains(out, "All nodes of the cluster need the key-encryption key") {
		t.Fatalf("%v, %s", err, out)
	}
	clustered := openNode(t.TempDir())
	clustered.cfg.KEK, clustered.cfg.Cluster.URL = Secret(kek), url
	if err := clustered.openStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	shared, err := cluster.OpenShared(t.Context(), clustered.clustered.store, clustered.log)
	if err != nil {
		t.Fatal(err)
	}
	if shared.Len() != 1 || !shared.Has(movedDevice) {
		t.Errorf("the directory of the cluster has %d devices", shared.Len())
	}
	shared.Close()
	checkMoved(t, clustered, key)

	stop := runNode(t, url)
	for _, c := range [][2]string{{url, "badger:" + back}, {"badger:" + from, url}} {
		if _, err := runMigrate(t, c[0], c[1]); err == nil || !strings.Contains(err.Error(), "nodes run on it (n1)") {
			t.Errorf("from %s to %s while a node runs: got %v", c[0], c[1], err)
		}
	}
	stop()
	if _, err := runMigrate(t, url, "badger:"+back); err != nil {
		t.Fatal(err)
	}
	checkMoved(t, folder(t, back), key)
}

// runNode is a node that is a member and nothing else.
func runNode(t *testing.T, url string) (stop func()) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), node.Config{
		Name: "n1", Listen: "127.0.0.1:0", JetStream: js, Version: "1", Protocol: 1, Codec: actors.Codec{}, Clock: time.Now, OnLost: func(err error) { t.Error(err) },
		Log: slog.New(slog.DiscardHandler),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		nc.Close()
	}
}

func TestMigrateSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir, missing := t.TempDir(), filepath.Join(t.TempDir(), "missing")
	s := folder(t, dir)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ from, to, want string }{
		"no scheme":     {dir, "badger:x", "badger:DIR"},
		"other scheme":  {"redis:x", "badger:x", "badger:DIR"},
		"password":      {"nats://user:secret-word@a", "badger:x", "nats.password"},
		"no folder":     {"badger:", "badger:x", "badger:DIR"},
		"target":        {"badger:" + dir, "x", "--to"},
		"the same":      {"badger:" + dir, "badger:" + dir + "/.", "another target"},
		"no such store": {"badger:" + missing, "badger:" + filepath.Join(t.TempDir(), "x"), "there is no store"},
	} {
		if _, err := runMigrate(t, c.from, c.to); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := os.Stat(missing); !os.IsNotExist(err) {
		t.Errorf("a source that is not there was made: %v", err)
	}
	other := folder(t, filepath.Join(t.TempDir(), "other"))
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := runMigrate(t, "badger:"+dir, "badger:"+other.cfg.Data); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("target with a key of its own: got %v", err)
	}
}

func TestServerDoesNotStartOnAnUnfinishedMigration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := folder(t, dir)
	if err := s.store.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindServer, ID: "migration", Value: []byte(`{"from":"badger:/old"}`)}}); err != nil {
		t.Fatal(err)
	}
	if err := migrate.Check(t.Context(), s.store); err == nil {
		t.Error("not unfinished")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = openNode(dir)
	if err := s.openStore(t.Context()); err == nil || !strings.Contains(err.Error(), "badger:/old") {
		t.Errorf("got %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
