package jetstream

import (
	"slices"
	"testing"
	"time"

	"lorikeet/messages"
)

// An application may have less kept than the store keeps, but an integration still gets everything within that.
func TestRetentionOfAnApplication(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	s := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Journals: 1, Now: func() time.Time { return now }})
	ctx := t.Context()
	for n := range 10 { // event n is 100-n seconds old
		commit(t, s, messages.Commit{Device: testDevice, Events: []messages.Event{testEvent(n)}})
	}
	all := readAll(t, s, "app")
	entries, err := s.ReadLog(ctx, "app", 0, 10)
	if err != nil || len(entries) != 10 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	kept := func(why string, from int) {
		t.Helper()
		if err := s.shortenLogs(ctx); err != nil {
			t.Fatal(err)
		}
		waitFor(t, why, func() bool { return slices.Equal(readAll(t, s, "app"), all[from:]) })
		page, err := s.ReadHistory(ctx, messages.HistoryQuery{ApplicationID: "app"})
		if err != nil || len(page.Entries) != 10-from {
			t.Errorf("%s: history has %d entries, %v", why, len(page.Entries), err)
		}
	}
	kept("no wish", 0)
	if err := s.SaveCursor(ctx, "app/webhook/slow", entries[2].Seq); err != nil {
		t.Fatal(err)
	}
	s.SetRetention("app", messages.Retention{MaxAge: 95 * time.Second})
	s.SetRetention("nobody", messages.Retention{MaxEvents: 1})
	kept("an integration is behind", 3)
	if err := s.SaveCursor(ctx, "app/webhook/slow", entries[9].Seq); err != nil {
		t.Fatal(err)
	}
	kept("by age", 5)
	s.SetRetention("app", messages.Retention{MaxEvents: 2})
	kept("by number", 8)
	s.SetRetention("app", messages.Retention{})
	kept("no wish any more", 8)
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited a minute in vain", what)
		}
	}
}
