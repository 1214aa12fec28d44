package badger

import (
	"testing"
	"time"

	"lorikeet/messages"
)

// firstKept trims and gives the first Seq of the log of "app".
func firstKept(t *testing.T, s *Store) uint64 {
	t.Helper()
	if err := s.trimAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, _, err := s.LogRange(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// An application may have less kept than the store keeps, but an integration still gets everything within that.
func TestRetentionOfAnApplication(t *testing.T) {
	t.Parallel()
	now := time.Now()
	cfg := testConfig(t.TempDir())
	cfg.Now, cfg.Retention = func() time.Time { return now }, 90*time.Minute
	s := mustOpen(t, cfg)
	ctx := t.Context()
	commitEvents(t, s, 100, now.Add(-100*time.Minute)) // entry n is 101-n minutes old
	if err := s.SaveCursor(ctx, "app/webhook/slow", 30); err != nil {
		t.Fatal(err)
	}
	s.SetRetention("app", messages.Retention{MaxAge: time.Hour})
	s.SetRetention("other", messages.Retention{MaxEvents: 1})
	if got := firstKept(t, s); got != 31 {
		t.Errorf("with an integration that is behind the log begins at %d, want 31", got)
	}
	if err := s.SaveCursor(ctx, "app/webhook/slow", 100); err != nil {
		t.Fatal(err)
	}
	if got := firstKept(t, s); got != 41 {
		t.Errorf("by age the log begins at %d, want 41", got)
	}
	s.SetRetention("app", messages.Retention{MaxAge: time.Hour, MaxEvents: 10})
	if got := firstKept(t, s); got != 91 {
		t.Errorf("by number the log begins at %d, want 91", got)
	}
	// What the store keeps of all is the limit of what anyone waits for.
	if err := s.SaveCursor(ctx, "app/webhook/slow", 1); err != nil {
		t.Fatal(err)
	}
	s.SetRetention("app", messages.Retention{})
	now = now.Add(88 * time.Minute)
	if got := firstKept(t, s); got != 99 {
		t.Errorf("by the store's own retention the log begins at %d, want 99", got)
	}
}
