// Package persistencetest checks that a store keeps the contract of package persistence, and gives a store that fails on demand.
package persistencetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// Store is the whole method set of a store. Callers declare the part of it that they need.
type Store interface {
	LoadSession(context.Context, messages.DeviceID) ([]byte, messages.Revision, error)
	Commit(context.Context, messages.Commit) (messages.Revision, error)
	DeleteSession(context.Context, messages.DeviceID) error
	ScanSessions(context.Context, func(messages.DeviceID, []byte, messages.Revision) error) error
	GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error)
	ListDocuments(ctx context.Context, kind messages.Kind, prefix, after string, limit int) ([]messages.Document, error)
	ScanDocuments(context.Context, messages.Kind, func(messages.Document) error) error
	WriteDocuments(context.Context, []messages.Write) error
	ReadLog(ctx context.Context, applicationID string, after uint64, max int) ([]messages.LogEntry, error)
	LogRange(ctx context.Context, applicationID string) (first, last uint64, err error)
	CountLog(ctx context.Context, applicationID string, after, upTo uint64) (uint64, error)
	ReadHistory(context.Context, messages.HistoryQuery) (messages.HistoryPage, error)
	CountHistory(context.Context, messages.HistoryQuery) (map[string]uint64, error)
	WatchLog(applicationID string) (changed <-chan struct{}, cancel func())
	LoadCursor(ctx context.Context, name string) (uint64, bool, error)
	SaveCursor(ctx context.Context, name string, seq uint64) error
	DeleteCursor(ctx context.Context, name string) error
	DeleteApplication(ctx context.Context, applicationID string) error
	Close() error
}

// Options say which of the stronger promises a store makes.
type Options struct {
	// Dense: Seqs of a log are 1, 2, 3 … without gaps, LogRange is exact, and the signal of WatchLog is there when Commit returns and never without a reason.
	// Otherwise Seqs only grow, LogRange gives bounds, and a signal may come a moment later or once too often.
	Dense bool
}

// Run checks every rule of the contract. open gives a new empty store, which the test closes.
func Run(t *testing.T, o Options, open func(t *testing.T) Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Store)
	}{
		{"Sessions", testSessions},
		{"RevisionsAreNotRepeated", testRevisionsAreNotRepeated},
		{"CommitIsAllOrNothing", testCommitIsAllOrNothing},
		{"CommitWithoutSession", o.testCommitWithoutSession},
		{"ConcurrentCommits", o.testConcurrentCommits},
		{"OneWinnerPerRevision", o.testOneWinnerPerRevision},
		{"ScanSessions", testScanSessions},
		{"Documents", testDocuments},
		{"ListDocuments", testListDocuments},
		{"WriteDocumentsIsAtomic", testWriteDocumentsIsAtomic},
		{"EventsComeBackWhole", o.testEventsComeBackWhole},
		{"ReadLog", o.testReadLog},
		{"CountLog", testCountLog},
		{"History", testHistory},
		{"HistoryOfDevices", testHistoryOfDevices},
		{"HistoryWhileEventsArrive", testHistoryWhileEventsArrive},
		{"HistoryAfterDeletion", testHistoryAfterDeletion},
		{"WatchLog", o.testWatchLog},
		{"Cursors", testCursors},
		{"DeleteApplication", o.testDeleteApplication},
		{"Limits", testLimits},
		{"CancelledContext", testCancelledContext},
		{"Close", testClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			c.test(t, s)
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func device(app, id string) messages.DeviceID {
	return messages.DeviceID{ApplicationID: app, DeviceID: id}
}

func event(d messages.DeviceID, n int) messages.Event {
	return messages.Event{
		ID: fmt.Sprintf("%s-%d", d.UID(), n), Device: d, Type: messages.EventUplink,
		Time: time.Unix(1_700_000_000, int64(n)).UTC(), JSON: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantSession(t *testing.T, s Store, d messages.DeviceID, session []byte, rev messages.Revision) {
	t.Helper()
	got, gotRev, err := s.LoadSession(t.Context(), d)
	if err != nil || gotRev != rev || string(got) != string(session) || (got == nil) != (session == nil) {
		t.Fatalf("session of %s is %q at %d (%v), want %q at %d", d, got, gotRev, err, session, rev)
	}
}

func testSessions(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	wantSession(t, s, d, nil, 0)
	r1 := must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Session: []byte("one")}))
	wantSession(t, s, d, []byte("one"), r1)
	r2 := must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Expected: r1, Session: []byte{}}))
	if r1 == 0 || r2 <= r1 {
		t.Fatalf("revisions %d, %d do not grow", r1, r2)
	}
	wantSession(t, s, d, []byte{}, r2)
	for _, stale := range []messages.Revision{0, r1, r2 + 1, math.MaxUint64} {
		if _, err := s.Commit(ctx, messages.Commit{Device: d, Expected: stale, Session: []byte("no")}); !errors.Is(err, messages.ErrConflict) {
			t.Errorf("commit at revision %d: %v, want a conflict", stale, err)
		}
	}
	wantSession(t, s, d, []byte{}, r2)
	wantSession(t, s, device("app", "de"), nil, 0)
	wantSession(t, s, device("app", "dev2"), nil, 0)
	if err := errors.Join(s.DeleteSession(ctx, d), s.DeleteSession(ctx, d)); err != nil {
		t.Fatal(err)
	}
	wantSession(t, s, d, nil, 0)
}

// A stale activation must not be let in because the record was deleted and made again.
func testRevisionsAreNotRepeated(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	seen := make(map[messages.Revision]bool)
	for range 3 {
		rev := must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Session: []byte("x")}))
		if seen[rev] {
			t.Fatalf("revision %d came twice", rev)
		}
		seen[rev] = true
		if err := s.DeleteSession(ctx, d); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(ctx, messages.Commit{Device: d, Expected: rev, Session: []byte("y")}); !errors.Is(err, messages.ErrConflict) {
			t.Fatalf("commit on a deleted session: %v", err)
		}
	}
	docs := make(map[messages.Revision]bool)
	for range 3 {
		if err := s.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindDevice, ID: "a.b", Value: []byte("x"), Expect: true}}); err != nil {
			t.Fatal(err)
		}
		doc := must[messages.Document](t)(s.GetDocument(ctx, messages.KindDevice, "a.b"))
		if docs[doc.Revision] {
			t.Fatalf("revision %d came twice", doc.Revision)
		}
		docs[doc.Revision] = true
		if err := s.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindDevice, ID: "a.b", Expect: true, Revision: doc.Revision}}); err != nil {
			t.Fatal(err)
		}
	}
}

func testCommitIsAllOrNothing(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	c := messages.Commit{Device: d, Session: []byte("x"), Events: []messages.Event{event(d, 1), event(d, 2)}}
	rev := must[messages.Revision](t)(s.Commit(ctx, c))
	if _, err := s.Commit(ctx, c); !errors.Is(err, messages.ErrConflict) {
		t.Fatalf("stale commit: %v", err)
	}
	if n := len(must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", 0, 10))); n != 2 {
		t.Errorf("log has %d entries after a refused commit, want 2", n)
	}
	wantSession(t, s, d, []byte("x"), rev)
}

func (o Options) testCommitWithoutSession(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	rev := must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Session: []byte("x")}))
	for _, expected := range []messages.Revision{rev, rev + 7} {
		got := must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Expected: expected, Events: []messages.Event{event(d, 1)}}))
		if got != expected {
			t.Errorf("commit without session gives revision %d, want Expected %d", got, expected)
		}
	}
	wantSession(t, s, d, []byte("x"), rev)
	if _, err := s.Commit(ctx, messages.Commit{Device: d}); err != nil {
		t.Errorf("empty commit: %v", err)
	}
	if n := len(o.wholeLog(t, s, "app")); n != 2 {
		t.Errorf("the log has %d entries", n)
	}
}

// wholeLog reads a log in small steps, checks that its Seqs are as promised, and compares it with LogRange.
func (o Options) wholeLog(t *testing.T, s Store, app string) []messages.LogEntry {
	t.Helper()
	var all []messages.LogEntry
	first, last, err := s.LogRange(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	seq := first - 1
	for {
		entries := must[[]messages.LogEntry](t)(s.ReadLog(t.Context(), app, seq, 50))
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if e.Seq <= seq || o.Dense && e.Seq != seq+1 {
				t.Fatalf("entry %d follows %d", e.Seq, seq)
			}
			seq = e.Seq
		}
		all = append(all, entries...)
	}
	if seq > last || o.Dense && seq != last {
		t.Errorf("the log ends at %d, its range at %d", seq, last)
	}
	return all
}

// Many devices commit at once; per device in order, and the log has everything once, in the order in which it was committed.
func (o Options) testConcurrentCommits(t *testing.T, s Store) {
	const devices, commits = 32, 20
	var wg sync.WaitGroup
	for i := range devices {
		wg.Go(func() {
			d := device("app", fmt.Sprintf("dev-%d", i))
			var rev messages.Revision
			for n := range commits {
				var err error
				rev, err = s.Commit(t.Context(), messages.Commit{Device: d, Expected: rev, Session: fmt.Append(nil, n), Events: []messages.Event{event(d, n)}})
				if err != nil {
					t.Errorf("%s commit %d: %v", d, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	next := make(map[string]int)
	entries := o.wholeLog(t, s, "app")
	for _, e := range entries {
		if want := event(e.Device, next[e.Device.DeviceID]).ID; e.ID != want {
			t.Fatalf("entry %d is event %s, want %s", e.Seq, e.ID, want)
		}
		next[e.Device.DeviceID]++
	}
	if len(entries) != devices*commits {
		t.Fatalf("the log has %d entries, want %d", len(entries), devices*commits)
	}
}

func (o Options) testOneWinnerPerRevision(t *testing.T, s Store) {
	const rounds, rivals = 20, 8
	d := device("app", "dev")
	var rev messages.Revision
	for round := range rounds {
		results := make([]messages.Revision, rivals)
		var wg sync.WaitGroup
		for i := range rivals {
			wg.Go(func() {
				got, err := s.Commit(t.Context(), messages.Commit{Device: d, Expected: rev, Session: fmt.Append(nil, round, i), Events: []messages.Event{event(d, round)}})
				switch {
				case err == nil:
					results[i] = got
				case !errors.Is(err, messages.ErrConflict):
					t.Errorf("rival %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		winners := 0
		for i, r := range results {
			if r != 0 {
				winners++
				rev = r
				wantSession(t, s, d, fmt.Append(nil, round, i), r)
			}
		}
		if winners != 1 {
			t.Fatalf("round %d has %d winners", round, winners)
		}
	}
	if n := len(o.wholeLog(t, s, "app")); n != rounds {
		t.Fatalf("the log has %d entries, want %d", n, rounds)
	}
}

func testScanSessions(t *testing.T, s Store) {
	ctx := t.Context()
	want := []string{"a-b.x", "a.x", "a.y", "a2.x", "b.x"} // in byte order
	for _, i := range []int{3, 0, 4, 2, 1} {
		d, err := messages.ParseUID(want[i])
		if err != nil {
			t.Fatal(err)
		}
		must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Session: []byte(want[i])}))
	}
	var got []string
	if err := s.ScanSessions(ctx, func(d messages.DeviceID, session []byte, rev messages.Revision) error {
		wantSession(t, s, d, session, rev) // a scan may call the store
		got = append(got, string(session))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	boom, n := errors.New("boom"), 0
	if err := s.ScanSessions(ctx, func(messages.DeviceID, []byte, messages.Revision) error { n++; return boom }); !errors.Is(err, boom) || n != 1 {
		t.Errorf("scan gives %v after %d calls", err, n)
	}
}

func testCancelledContext(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := device("app", "dev")
	for name, err := range calls(ctx, s, d) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantSession(t, s, d, nil, 0)
}

func testClose(t *testing.T, s Store) {
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	for name, err := range calls(t.Context(), s, device("app", "dev")) {
		if messages.CodeOf(err) != messages.CodeUnavailable {
			t.Errorf("%s on a closed store: %v", name, err)
		}
	}
	_, cancel := s.WatchLog("app")
	cancel()
}

// calls makes every call that can fail once.
func calls(ctx context.Context, s Store, d messages.DeviceID) map[string]error {
	errs := make(map[string]error)
	_, _, errs["LoadSession"] = s.LoadSession(ctx, d)
	_, errs["Commit"] = s.Commit(ctx, messages.Commit{Device: d, Session: []byte("x")})
	errs["DeleteSession"] = s.DeleteSession(ctx, d)
	errs["ScanSessions"] = s.ScanSessions(ctx, func(messages.DeviceID, []byte, messages.Revision) error { return nil })
	_, errs["GetDocument"] = s.GetDocument(ctx, messages.KindLink, "app")
	_, errs["ListDocuments"] = s.ListDocuments(ctx, messages.KindLink, "", "", 0)
	errs["ScanDocuments"] = s.ScanDocuments(ctx, messages.KindLink, func(messages.Document) error { return nil })
	errs["WriteDocuments"] = s.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindLink, ID: "app", Value: []byte("x")}})
	_, errs["ReadLog"] = s.ReadLog(ctx, "app", 0, 1)
	_, _, errs["LogRange"] = s.LogRange(ctx, "app")
	_, errs["CountLog"] = s.CountLog(ctx, "app", 0, math.MaxUint64)
	_, _, errs["LoadCursor"] = s.LoadCursor(ctx, "app/x")
	errs["SaveCursor"] = s.SaveCursor(ctx, "app/x", 1)
	errs["DeleteCursor"] = s.DeleteCursor(ctx, "app/x")
	errs["DeleteApplication"] = s.DeleteApplication(ctx, "app")
	return errs
}

func testLimits(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	big := make([]byte, persistence.MaxRecord)
	large := event(d, 1)
	large.JSON = big
	rev := must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Session: big, Events: []messages.Event{large}}))
	wantSession(t, s, d, big, rev)
	entries := must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", 0, 10))
	if len(entries) != 1 || string(entries[0].JSON) != string(big) {
		t.Error("a large event does not come back")
	}
	tooBig := append(big, 0)
	tooBigEvent := large
	tooBigEvent.JSON = tooBig
	many := make([]messages.Event, persistence.MaxWrites+1)
	for i := range many {
		many[i] = event(d, i)
	}
	longID := event(d, 1)
	longID.ID = strings.Repeat("x", persistence.MaxName+1)
	for name, c := range map[string]messages.Commit{
		"session": {Device: d, Expected: rev, Session: tooBig}, "event": {Device: d, Events: []messages.Event{tooBigEvent}},
		"sum": {Device: d, Events: []messages.Event{large, large, large, large}}, "count": {Device: d, Events: many},
		"event id": {Device: d, Events: []messages.Event{longID}}, "no device": {Session: []byte("x")},
		"dot": {Device: device("a.b", "c"), Session: []byte("x")}, "zero byte": {Device: device("a", "b\x00"), Session: []byte("x")},
	} {
		if _, err := s.Commit(ctx, c); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("commit with too large %s: %v", name, err)
		}
	}
	many = many[:persistence.MaxWrites]
	must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Events: many}))
	for name, w := range map[string]messages.Write{
		"value": {Kind: messages.KindLink, ID: "x", Value: tooBig}, "no kind": {ID: "x"}, "no id": {Kind: messages.KindLink},
		"id": {Kind: messages.KindLink, ID: strings.Repeat("x", persistence.MaxName+1)},
	} {
		if err := s.WriteDocuments(ctx, []messages.Write{w}); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("write with bad %s: %v", name, err)
		}
	}
	for _, name := range []string{"", "app", "app/", "/x", strings.Repeat("x", persistence.MaxName) + "/x"} {
		if err := s.SaveCursor(ctx, name, 1); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("cursor %.10q: %v", name, err)
		}
	}
}
