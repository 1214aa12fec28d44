package main

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestAdminKeyIsShownThoughTheStartFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := DefaultConfig()
	cfg.Data, cfg.HTTP.Listen, cfg.MQTT.Listen, cfg.UDP.Listen = t.TempDir(), taken.Addr().String(), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Scripts.Workers = 1
	var out bytes.Buffer
	if _, err := startServer(t.Context(), cfg, slog.New(slog.DiscardHandler), &out); err == nil {
		t.Fatal("the server started on a port that is taken")
	}
	key := regexp.MustCompile(`NNSXS\.\S+`).FindString(out.String())
	if key == "" {
		t.Fatalf("no key was shown; it was made, and can't be read again: %q", out.String())
	}
	s := folder(t, cfg.Data)
	defer s.Close(t.Context())
	if access, err := s.registry.Authorize(t.Context(), key); err != nil || !access.Admin {
		t.Errorf("the key that was shown gives %+v, %v", access, err)
	}
	if s.createdKey != "" {
		t.Error("a second key was made")
	}
}

func TestStoreWithoutItsKeyFileGetsNoNewOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := folder(t, dir)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key-encryption-key")
	if err := os.Rename(file, file+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := openNode(dir).openStore(t.Context()); err == nil || !strings.Contains(err.Error(), "put the file "+file+" back") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a new key stands where the right one has to be put back")
	}
	if err := os.Rename(file+".kept", file); err != nil {
		t.Fatal(err)
	}
	if err := folder(t, dir).Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
