package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
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
	return &server{cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry(), failed: make(chan error, 8)}
}

func TestMigrateMovesAServer(t *testing.T) {
	t.Parallel()
	ctx, from, to := t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "new")
	old := folder(t, from)
	key := old.createdKey
	var app v3.Application
	app.IDs.ApplicationID = "my-app"
	if _, err := old.registry.CreateApplication(ctx, app); err != nil {
		t.Fatal(err)
	}
	hook, err := old.registry.SetWebhook(ctx, "my-app", "my-hook", func(w *v3.Webhook) error {
		w.BaseURL, w.Headers = "https://example.com", map[string]string{"Authorization": "secret-word"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	id := messages.DeviceID{ApplicationID: "my-app", DeviceID: "dev-1"}
	event := messages.Event{ID: "1", Device: id, Type: messages.EventUplink, Time: time.Now().UTC(), JSON: []byte("{}")}
	second := event
	second.ID = "2"
	if _, err := old.store.Commit(ctx, messages.Commit{Device: id, Session: []byte("session"), Events: []messages.Event{event, second}}); err != nil {
		t.Fatal(err)
	}
	if err := old.store.SaveCursor(ctx, integrationKey("webhook", "my-app", "my-hook"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := runMigrate(t, "badger:"+from, "badger:"+to); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("the source is in use: got %v", err)
	}
	if err := old.Close(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := runMigrate(t, "badger:"+from, "badger:"+to)
	if err != nil || !strings.Contains(out, "1 webhooks") || !strings.Contains(out, "2 events") || strings.Contains(out, "secret-word") {
		t.Fatalf("%v, %s", err, out)
	}
	moved := folder(t, to)
	if moved.createdKey != "" {
		t.Error("another admin key was made")
	}
	if access, err := moved.registry.Authorize(ctx, key); err != nil || !access.Admin {
		t.Errorf("the admin key gives %+v, %v", access, err)
	}
	if h, err := moved.registry.Webhook(ctx, "my-app", "my-hook"); err != nil || h.Headers[http.CanonicalHeaderKey("authorization")] != hook.Headers["Authorization"] {
		t.Errorf("webhook %+v, %v", h, err)
	}
	if b, _, err := moved.store.LoadSession(ctx, id); string(b) != "session" || err != nil {
		t.Errorf("session %q, %v", b, err)
	}
	if seq, ok, err := moved.store.LoadCursor(ctx, integrationKey("webhook", "my-app", "my-hook")); seq != 1 || !ok || err != nil {
		t.Errorf("cursor %d, %v, %v", seq, ok, err)
	}
	if err := moved.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := runMigrate(t, "badger:"+from, "badger:"+to); err == nil || !strings.Contains(err.Error(), "in use already") {
		t.Errorf("a second time: got %v", err)
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
		"no folder":     {"badger:", "badger:x", "badger:DIR"},
		"target":        {"badger:" + dir, "x", "--to"},
		"the same":      {"badger:" + dir, "badger:" + dir + "/.", "another target"},
		"no such store": {"badger:" + missing, "badger:" + filepath.Join(t.TempDir(), "x"), "there is no store"},
	} {
		if _, err := runMigrate(t, c.from, c.to); err == nil || !strings.Contains(err.Error(), c.want) {
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
