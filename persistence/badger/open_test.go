package badger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bdb "github.com/dgraph-io/badger/v4"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// put commits a session and an event, so that both end with the number n.
func put(t *testing.T, s *Store, n int) {
	t.Helper()
	_, rev, err := s.LoadSession(t.Context(), testDevice)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), messages.Commit{Device: testDevice, Expected: rev, Session: fmt.Append(nil, n), Events: []messages.Event{testEvent(n)}}); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func copyStore(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// refused opens a store that must not open, and gives the error.
func refused(t *testing.T, cfg Config, name string) error {
	t.Helper()
	s, err := Open(cfg)
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

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustOpen(t, testConfig(dir))
	if err := refused(t, testConfig(dir), "store_in_use"); !strings.Contains(err.Error(), dir) {
		t.Errorf("the folder is not named: %v", err)
	}
}

func TestWrongKEKIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, testConfig(dir))
	put(t, s, 1)
	closeStore(t, s)
	cfg := testConfig(dir)
	cfg.Sealer = testSealer(2)
	if err := refused(t, cfg, "wrong_kek"); !strings.Contains(err.Error(), testSealer(1).KeyID()) {
		t.Errorf("the key that is needed is not named: %v", err)
	}
	s = mustOpen(t, testConfig(dir)) // and no harm was done
	if session, _, err := s.LoadSession(t.Context(), testDevice); err != nil || string(session) != "1" {
		t.Errorf("session %q, %v", session, err)
	}
}

// After a start with a new key and the old one, the old one is not needed any more.
func TestKEKRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := t.Context()
	s := mustOpen(t, testConfig(dir))
	put(t, s, 1)
	secret, open := messages.Write{Kind: messages.KindDevice, ID: "a.b", Value: []byte("root key")}, messages.Write{Kind: messages.KindApplication, ID: "a", Value: []byte("open")}
	if err := s.WriteDocuments(ctx, []messages.Write{secret, open}); err != nil {
		t.Fatal(err)
	}
	_, rev, err := s.LoadSession(ctx, testDevice)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	cfg := testConfig(dir)
	kek := func(b byte) persistence.KEK { return persistence.KEK(bytes.Repeat([]byte{b}, 32)) }
	cfg.Sealer = persistence.NewSealer(kek(2), kek(1))
	s = mustOpen(t, cfg)
	if s.reseals != 2 {
		t.Errorf("%d records to seal again, want 2", s.reseals)
	}
	if err := s.resealAll(ctx); err != nil { // the background does it too: both must get along
		t.Fatal(err)
	}
	closeStore(t, s)

	cfg.Sealer = testSealer(2)
	s = mustOpen(t, cfg)
	session, got, err := s.LoadSession(ctx, testDevice)
	if err != nil || string(session) != "1" || got != rev {
		t.Errorf("session %q at %d, %v", session, got, err)
	}
	if d, err := s.GetDocument(ctx, messages.KindDevice, "a.b"); err != nil || string(d.Value) != "root key" {
		t.Errorf("document %q, %v", d.Value, err)
	}
}

// A record under a key that was not given stops the start, even if the check record is under the right one.
func TestHalfRotatedStoreNeedsBothKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, testConfig(dir))
	put(t, s, 1)
	s.commitMu.Lock()
	s.cfg.Sealer = testSealer(2)
	err := s.writeDirectly(s.writeCheck)
	s.commitMu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	cfg := testConfig(dir)
	cfg.Sealer = testSealer(2)
	refused(t, cfg, "wrong_kek")
}

func TestSecretsAreNotOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, testConfig(dir))
	secret := []byte("a key that nobody may read")
	if _, err := s.Commit(t.Context(), messages.Commit{Device: testDevice, Session: secret}); err != nil {
		t.Fatal(err)
	}
	var writes []messages.Write
	for _, kind := range []messages.Kind{messages.KindDevice, messages.KindWebhook, messages.KindPubSub, messages.KindAPIKey, messages.KindLink, messages.KindServer} {
		writes = append(writes, messages.Write{Kind: kind, ID: "x", Value: secret})
	}
	writes = append(writes, messages.Write{Kind: messages.KindApplication, ID: "x", Value: []byte("this one is not secret")})
	if err := s.WriteDocuments(t.Context(), writes); err != nil {
		t.Fatal(err)
	}
	found := false
	for name, content := range readFiles(t, dir) {
		if bytes.Contains(content, secret) {
			t.Errorf("%s holds the secret", name)
		}
		found = found || bytes.Contains(content, []byte("this one is not secret"))
	}
	if !found {
		t.Error("the test does not see what is on disk")
	}
}

func readFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for _, pattern := range []string{"*", "badger/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || info.IsDir() {
				continue
			}
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[name[len(dir)+1:]] = b
		}
	}
	return files
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.MinFreeBytes = 1 << 62 // more than any disk has
	s := mustOpen(t, cfg)
	ctx := t.Context()
	_, err := s.Commit(ctx, messages.Commit{Device: testDevice, Session: []byte("x")})
	var e *messages.Error
	if !errors.As(err, &e) || e.Name != "disk_full" || e.Code != messages.CodeUnavailable || !strings.Contains(e.Message, cfg.Dir) {
		t.Fatalf("commit: %v", err)
	}
	for name, err := range map[string]error{
		"write":  s.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindLink, ID: "x", Value: []byte("x")}}),
		"cursor": s.SaveCursor(ctx, "app/x", 1),
	} {
		if messages.CodeOf(err) != messages.CodeUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := s.LoadSession(ctx, testDevice); err != nil {
		t.Errorf("reading must go on: %v", err)
	}
	if err := s.DeleteApplication(ctx, "app"); err != nil {
		t.Errorf("what makes room must go on: %v", err)
	}
}

func TestDiskFullRecoversAndGuardsOpen(t *testing.T) {
	t.Parallel()
	var free atomic.Uint64
	free.Store(10 << 30)
	cfg := testConfig(t.TempDir())
	cfg.MinFreeBytes = 0
	cfg.diskSpace = func(string) (uint64, uint64, error) { return free.Load(), 100 << 30, nil }
	s := mustOpen(t, cfg)
	put(t, s, 1)
	free.Store(1<<30 - 1)
	s.checkDisk()
	if err := s.SaveCursor(t.Context(), "app/x", 1); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("below 1 GiB: %v", err)
	}
	free.Store(1<<30 + 1)
	s.checkDisk()
	if s.full.Load() == nil {
		t.Error("it switches back at once")
	}
	free.Store(2 << 30)
	s.checkDisk()
	put(t, s, 2)
	closeStore(t, s)

	free.Store(100 << 20)
	refused(t, cfg, "disk_full")
	free.Store(300 << 20) // enough to open, not to write
	s = mustOpen(t, cfg)
	if err := s.SaveCursor(t.Context(), "app/x", 1); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("with 300 MiB: %v", err)
	}
}

func TestMinFree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ configured, total, want uint64 }{
		{0, 1 << 30, 256 << 20}, {0, 10 << 30, 512 << 20}, {0, 1 << 40, 1 << 30}, {7, 1 << 40, 7},
	} {
		if got := minFree(c.configured, c.total); got != c.want {
			t.Errorf("minFree(%d, %d) is %d, want %d", c.configured, c.total, got, c.want)
		}
	}
}

// An older copy of the database under the newer high-water file must not go unnoticed.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, testConfig(dir))
	for n := range 5 {
		put(t, s, n)
	}
	closeStore(t, s)
	old := copyStore(t, dir)
	s = mustOpen(t, testConfig(dir))
	put(t, s, 5)
	_, newest, err := s.LoadSession(t.Context(), testDevice)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if err := os.RemoveAll(filepath.Join(dir, databaseFolder)); err != nil {
		t.Fatal(err)
	}
	if err := refused(t, testConfig(dir), "store_incomplete"); !strings.Contains(err.Error(), "empty") {
		t.Errorf("without a database: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, databaseFolder)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, databaseFolder), os.DirFS(filepath.Join(old, databaseFolder))); err != nil {
		t.Fatal(err)
	}
	if err := refused(t, testConfig(dir), "store_incomplete"); !strings.Contains(err.Error(), "restore") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	cfg := testConfig(dir)
	cfg.AcceptLoss = true
	s = mustOpen(t, cfg)
	if session, _, err := s.LoadSession(t.Context(), testDevice); err != nil || string(session) != "4" {
		t.Errorf("session %q, %v", session, err)
	}
	put(t, s, 6)
	if _, rev, err := s.LoadSession(t.Context(), testDevice); err != nil || rev <= newest {
		t.Errorf("revision %d was given before (%d), %v", rev, newest, err)
	}
	closeStore(t, s)
	s = mustOpen(t, testConfig(dir)) // whole again
	if entries, err := s.ReadLog(t.Context(), "app", 0, 10); err != nil || len(entries) != 6 || entries[5].ID != "6" {
		t.Errorf("log has %d entries, %v", len(entries), err)
	}
}

func TestHighWaterFileOfAnotherStore(t *testing.T) {
	t.Parallel()
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		s := mustOpen(t, testConfig(dir))
		put(t, s, 1)
		closeStore(t, s)
	}
	mark, err := os.ReadFile(filepath.Join(b, markName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a, markName), mark, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(a), "store_incomplete")
	if err := os.Remove(filepath.Join(a, markName)); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(a), "store_incomplete")
}

func TestRetention(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := testConfig(dir)
	var now atomic.Int64
	cfg.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	cfg.Retention = 1000 * time.Second
	s := mustOpen(t, cfg)
	ctx := t.Context()
	const n = 3000
	for from := 1; from <= n; from += 100 { // event i is of second i
		var events []messages.Event
		for i := range 100 {
			events = append(events, testEvent(from+i))
		}
		if _, err := s.Commit(ctx, messages.Commit{Device: testDevice, Events: events}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(first uint64) {
		t.Helper()
		if f, l, err := s.LogRange(ctx, "app"); err != nil || f != first || l != n {
			t.Fatalf("log is %d to %d, %v; want %d to %d", f, l, err, first, n)
		}
		entries, err := s.ReadLog(ctx, "app", 0, 5)
		if err != nil || first <= n && (len(entries) != min(5, n-int(first)+1) || entries[0].Seq != first || entries[0].ID != fmt.Sprint(first)) || first > n && len(entries) != 0 {
			t.Fatalf("log begins with %+v, %v", entries, err)
		}
		stored := 0
		if err := s.walkLog(ctx, "app", 0, func(*bdb.Item, uint64) error { stored++; return nil }); err != nil || stored != n-int(first)+1 {
			t.Fatalf("%d entries in the database, want %d; %v", stored, n-int(first)+1, err)
		}
	}
	trim := func() {
		t.Helper()
		if err := s.trimAll(ctx); err != nil {
			t.Fatal(err)
		}
	}
	now.Store(1000)
	trim()
	check(1)
	now.Store(2500)
	trim()
	check(1500)
	closeStore(t, s)
	s = mustOpen(t, cfg)
	check(1500)
	now.Store(1)
	trim()
	check(1500)
	m := s.appLog("app", false).view()
	s.cfg.RetentionBytes = m.bytes / 3
	trim()
	if after := s.appLog("app", false).view(); after.bytes > m.bytes/3 || after.bytes < m.bytes/3-500 {
		t.Errorf("%d bytes are kept of %d", after.bytes, m.bytes)
	}
	check(s.appLog("app", false).view().first)
	if err := s.DeleteApplication(ctx, "app"); err != nil {
		t.Fatal(err)
	}
	trim()
	check(n + 1)
	closeStore(t, s)
	s = mustOpen(t, cfg)
	check(n + 1)
	if m := s.appLog("app", false).view(); m.bytes != 0 {
		t.Errorf("%d bytes in an empty log", m.bytes)
	}
}

func TestScrubOfAWholeStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, testConfig(dir))
	put(t, s, 1)
	closeStore(t, s)
	s = mustOpen(t, testConfig(dir))
	if err := s.scrub(); err != nil {
		t.Error(err)
	}
}
