package jetstream

import (
	"fmt"
	"math"
	"testing"
	"time"

	"lorikeet/messages"
)

var testDevice = messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}

func testEvent(n int) messages.Event {
	return messages.Event{ID: fmt.Sprint(n), Device: testDevice, Type: messages.EventUplink, Time: time.Unix(int64(n), 0).UTC(), JSON: fmt.Appendf(nil, `{"n":%d}`, n)}
}

func commit(t testing.TB, s *Store, c messages.Commit) messages.Revision {
	t.Helper()
	rev, err := s.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func wantSession(t testing.TB, s *Store, id messages.DeviceID, session string, rev messages.Revision) {
	t.Helper()
	got, at, err := s.LoadSession(t.Context(), id)
	if err != nil || string(got) != session || at != rev {
		t.Errorf("session of %s is %q at %d, %v; want %q at %d", id, got, at, err, session, rev)
	}
}

func readAll(t testing.TB, s *Store, app string) (ids []string) {
	t.Helper()
	after := uint64(0)
	for {
		entries, err := s.ReadLog(t.Context(), app, after, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return ids
		}
		for _, e := range entries {
			if e.Seq <= after {
				t.Fatalf("Seq %d follows %d", e.Seq, after)
			}
			after = e.Seq
			ids = append(ids, e.ID)
		}
	}
}

// The log loses what is old, silent devices keep their records at their revisions, and what leaves a log is marked.
func TestTrimKeepsRecords(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(time.Hour)
	s := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Journals: 1, Retention: time.Hour, Now: func() time.Time { return now }})
	ctx := t.Context()
	silent, deleted, quiet := messages.DeviceID{ApplicationID: "app", DeviceID: "silent"}, messages.DeviceID{ApplicationID: "app", DeviceID: "deleted"}, messages.DeviceID{ApplicationID: "quiet", DeviceID: "dev"}
	silentRev := commit(t, s, messages.Commit{Device: silent, Session: []byte("silent"), Events: []messages.Event{testEvent(1), testEvent(2)}})
	quietRev := commit(t, s, messages.Commit{Device: quiet, Session: []byte("quiet")})
	commit(t, s, messages.Commit{Device: deleted, Session: []byte("x")})
	if err := s.DeleteSession(ctx, deleted); err != nil {
		t.Fatal(err)
	}
	rev := commit(t, s, messages.Commit{Device: testDevice, Session: []byte("busy"), Events: []messages.Event{testEvent(3)}})
	commit(t, s, messages.Commit{Device: silent, Events: []messages.Event{testEvent(4)}})
	last, err := s.last(ctx, s.names.journal(0), ">")
	if err != nil {
		t.Fatal(err)
	}
	now = last.time.Add(time.Hour + time.Nanosecond) // all of that is old
	rev = commit(t, s, messages.Commit{Device: testDevice, Expected: rev, Session: []byte("busy 2"), Events: []messages.Event{testEvent(5)}})

	for range 2 { // again does nothing, also after a crash before the purge
		if err := s.trim(ctx, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	wantSession(t, s, silent, "silent", silentRev)
	wantSession(t, s, quiet, "quiet", quietRev)
	wantSession(t, s, deleted, "", 0)
	wantSession(t, s, testDevice, "busy 2", rev)
	if got := readAll(t, s, "app"); fmt.Sprint(got) != "[5]" {
		t.Errorf("the log holds %v", got)
	}
	st, err := s.state(ctx, s.names.journal(0))
	if err != nil || st.FirstSeq != uint64(rev) || st.Messages != 4 { // busy, silent, quiet, a cut
		t.Errorf("the journal is %+v, %v", st, err)
	}
	first, end, err := s.LogRange(ctx, "app")
	if err != nil || first != firstSeq(last.seq)+1 || end < firstSeq(uint64(rev)) {
		t.Errorf("range %d to %d, %v: the cut is not behind message %d", first, end, err, last.seq)
	}
	if first, end, err = s.LogRange(ctx, "quiet"); err != nil || first > 1 && first != end+1 {
		t.Errorf("range of a log that never lost anything: %d to %d, %v", first, end, err)
	}
	if n, err := s.CountLog(ctx, "app", 0, math.MaxUint64); err != nil || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
	// The activation that holds the old revision goes on, also after a second trim.
	if rev := commit(t, s, messages.Commit{Device: silent, Expected: silentRev, Session: []byte("back")}); rev <= silentRev {
		t.Errorf("revision %d", rev)
	}
	now = now.Add(2 * time.Hour)
	commit(t, s, messages.Commit{Device: testDevice, Expected: rev, Session: []byte("busy 3")})
	if err := s.trim(ctx, 0, 0); err != nil {
		t.Fatal(err)
	}
	wantSession(t, s, quiet, "quiet", quietRev)
	wantSession(t, s, testDevice, "busy 3", messages.Revision(mustLast(t, s, testDevice)))
	if first, _, err := s.LogRange(ctx, "app"); err != nil || first != firstSeq(uint64(rev))+1 {
		t.Errorf("the cut was forgotten: first is %d, %v", first, err)
	}
}

func mustLast(t testing.TB, s *Store, id messages.DeviceID) uint64 {
	t.Helper()
	m, err := s.last(t.Context(), s.names.journal(s.names.shard(id.ApplicationID)), s.names.device(id))
	if err != nil || m == nil {
		t.Fatal(m, err)
	}
	rev, _, err := revisionOf(m)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(rev)
}
