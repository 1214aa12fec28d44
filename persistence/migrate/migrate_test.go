package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	"lorikeet/persistence"
	"lorikeet/persistence/badger"
	"lorikeet/persistence/jetstream"
	"lorikeet/persistence/jetstream/natsserver"
	"lorikeet/persistence/memory"
	"lorikeet/persistence/migrate"
	"lorikeet/persistence/persistencetest"
)

func options() migrate.Options {
	return migrate.Options{
		From: "badger:old", Now: func() time.Time { return time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) },
		Cursor: func(kind messages.Kind, app, id string) string { return app + "/" + string(kind) + "/" + id },
	}
}

func device(app, id string) messages.DeviceID {
	return messages.DeviceID{ApplicationID: app, DeviceID: id}
}

func event(id messages.DeviceID, n int) messages.Event {
	return messages.Event{
		ID: fmt.Sprintf("%s-%d", id.UID(), n), Device: id, DevEUI: messages.EUI64{byte(n)}, DevAddr: messages.DevAddr{1, 2, 3, byte(n)}, Type: messages.EventUplink,
		Time: time.Now().Add(-time.Hour).Truncate(time.Second).UTC(), JSON: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, name string) {
	t.Helper()
	var e *messages.Error
	if !errors.As(err, &e) || e.Name != name {
		t.Errorf("got %v, want %s", err, name)
	}
}

const appEvents = 450 // of application "app", of which the log does not begin with 1

// fill puts some of everything into a store.
func fill(t testing.TB, s persistencetest.Store) {
	t.Helper()
	ctx := t.Context()
	writes := []messages.Write{
		{Kind: messages.KindServer, ID: "api-key-pepper", Value: []byte("pepper")}, {Kind: messages.KindApplication, ID: "app", Value: []byte("{}")},
		{Kind: messages.KindApplication, ID: "empty", Value: []byte("{}")}, {Kind: messages.KindLink, ID: "app", Value: []byte("{}")},
		{Kind: messages.KindAPIKey, ID: "KEY", Value: []byte("{}")}, {Kind: messages.KindRadioGateway, ID: "gtw", Value: []byte{}},
		{Kind: messages.KindGatewayEUI, ID: "0000000000000001", Value: []byte("gtw")}, {Kind: messages.KindPubSub, ID: "app.beyond", Value: []byte("{}")},
		{Kind: messages.KindMQTTSession, ID: "app.session", Value: []byte("{}")},
	}
	for _, id := range []string{"new", "behind", "early", "middle", "last", "none", "deleted"} {
		writes = append(writes, messages.Write{Kind: messages.KindWebhook, ID: "app." + id, Value: []byte(id)})
	}
	check(t, s.WriteDocuments(ctx, writes))
	for i := range 250 {
		id := device("app", fmt.Sprintf("dev-%d", i))
		check(t, s.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindDevice, ID: id.UID(), Value: make([]byte, 6_000)}, {Kind: messages.KindDeviceEUI, ID: fmt.Sprint(i), Value: []byte(id.UID())}}))
		if i%2 == 0 {
			_, err := s.Commit(ctx, messages.Commit{Device: id, Session: fmt.Appendf(nil, "session %d", i)})
			check(t, err)
		}
	}
	// The log of "app" does not begin with 1; "gone" has a log and a session, but is registered no more.
	for i := range 10 {
		_, err := s.Commit(ctx, messages.Commit{Device: device("app", "dev-1"), Events: []messages.Event{event(device("app", "dev-1"), i)}})
		check(t, err)
	}
	check(t, s.DeleteApplication(ctx, "app"))
	var events []messages.Event
	for i := range appEvents {
		events = append(events, event(device("app", fmt.Sprintf("dev-%d", i%7)), i))
	}
	events[300].JSON = make([]byte, persistence.MaxRecord)
	_, err := s.Commit(ctx, messages.Commit{Device: device("app", "dev-1"), Events: events})
	check(t, err)
	_, err = s.Commit(ctx, messages.Commit{Device: device("gone", "dev"), Session: []byte("x"), Events: []messages.Event{event(device("gone", "dev"), 1)}})
	check(t, err)
	entries, err := s.ReadLog(ctx, "app", 0, 5000)
	check(t, err)
	if len(entries) != appEvents || entries[0].Seq < 11 {
		t.Fatalf("%d events from %d on", len(entries), entries[0].Seq)
	}
	for name, seq := range map[string]uint64{
		"webhook/behind": 3, "webhook/early": entries[0].Seq - 1, "webhook/middle": entries[189].Seq, "webhook/last": entries[appEvents-1].Seq, "mqtt/session": entries[77].Seq,
		"webhook/deleted": math.MaxInt64, "pubsub/beyond": entries[appEvents-1].Seq + 1<<40,
	} {
		check(t, s.SaveCursor(ctx, "app/"+name, seq))
	}
}

// contents is all that a store holds, without revisions; of a cursor how many events of the kept log are settled.
func contents(t testing.TB, s persistencetest.Store) map[string]string {
	t.Helper()
	ctx := t.Context()
	out := map[string]string{}
	for _, kind := range messages.Kinds {
		check(t, s.ScanDocuments(ctx, kind, func(d messages.Document) error { out[string(kind)+" "+d.ID] = string(d.Value); return nil }))
	}
	check(t, s.ScanSessions(ctx, func(id messages.DeviceID, b []byte, _ messages.Revision) error {
		out["session "+id.UID()] = string(b)
		return nil
	}))
	for _, app := range []string{"app", "empty", "gone"} {
		entries, err := s.ReadLog(ctx, app, 0, 5000)
		check(t, err)
		for i, e := range entries {
			json := string(e.JSON)
			e.JSON = nil
			out[fmt.Sprintf("log %s %d", app, i+1)] = fmt.Sprintf("%+v", e.Event) + json
		}
		_, last, err := s.LogRange(ctx, app)
		check(t, err)
		for _, name := range []string{"webhook/new", "webhook/behind", "webhook/early", "webhook/middle", "webhook/last", "webhook/none", "webhook/deleted", "pubsub/beyond", "mqtt/session"} {
			seq, ok, err := s.LoadCursor(ctx, app+"/"+name)
			check(t, err)
			switch settled := slices.IndexFunc(entries, func(e messages.LogEntry) bool { return e.Seq > seq }); {
			case !ok:
			case seq > last:
				out["cursor "+app+" "+name] = "beyond the end"
			case settled < 0:
				out["cursor "+app+" "+name] = "all settled"
			default:
				out["cursor "+app+" "+name] = fmt.Sprint(settled)
			}
		}
	}
	return out
}

// expected is what a migration makes of contents: a place beyond the end of a log is none.
func expected(source map[string]string) map[string]string {
	want := maps.Clone(source)
	delete(want, "cursor app webhook/deleted")
	delete(want, "cursor app pubsub/beyond")
	return want
}

func openBadger(t testing.TB, dir string) *badger.Store {
	t.Helper()
	s, err := badger.Open(badger.Config{Dir: dir, Sealer: persistence.NewSealer(persistence.KEK{1}), Retention: -1, MinFreeBytes: 1})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func openJetStream(t testing.TB) persistencetest.Store {
	t.Helper()
	server, err := natsserver.Start(t.Context(), natsserver.Config{StoreDir: t.TempDir(), NoSync: true})
	check(t, err)
	t.Cleanup(server.Close)
	nc, err := jetstream.Connect(jetstream.Options{InProcess: server.ClientOptions()})
	check(t, err)
	t.Cleanup(nc.Close)
	s, err := jetstream.Open(t.Context(), jetstream.Config{Conn: nc, Sealer: persistence.NewSealer(persistence.KEK{1}), Retention: -1, Journals: 2})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func TestEverythingIsCopied(t *testing.T) {
	t.Parallel()
	stores := map[string]func(testing.TB) persistencetest.Store{
		"memory":    func(testing.TB) persistencetest.Store { return memory.New() },
		"badger":    func(t testing.TB) persistencetest.Store { return openBadger(t, t.TempDir()) },
		"jetstream": func(t testing.TB) persistencetest.Store { return openJetStream(t) },
	}
	for from, openFrom := range stores {
		for to, openTo := range stores {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				source, target := openFrom(t), openTo(t)
				fill(t, source)
				before := contents(t, source)
				documents, progress := 0, map[string]int{}
				var told atomic.Int32
				o := options()
				o.Session = func(_ context.Context, id messages.DeviceID, b []byte) error {
					if string(b) == before["session "+id.UID()] {
						told.Add(1)
					}
					return nil
				}
				o.Progress = func(part string, done int) { progress[part] = done }
				report, err := migrate.Run(t.Context(), source, target, o)
				check(t, err)
				if diff := cmp.Diff(before, contents(t, source)); diff != "" {
					t.Errorf("the source has changed: %.2000s", diff)
				}
				if diff := cmp.Diff(expected(before), contents(t, target)); diff != "" {
					t.Errorf("the target is not the source (-want +got): %.2000s", diff)
				}
				for _, n := range report.Documents {
					documents += n
				}
				if report.Sessions != 126 || report.Events != appEvents+1 || report.Cursors != 5 || report.Documents[messages.KindWebhook] != 7 || report.Anew || told.Load() != 126 {
					t.Errorf("report %+v, %d sessions told", report, told.Load())
				}
				if diff := cmp.Diff(map[string]int{"documents": documents, "sessions": 126, "events": appEvents + 1, "cursors": 5}, progress); diff != "" {
					t.Errorf("progress: %s", diff)
				}
				check(t, migrate.Check(t.Context(), target))
				_, err = migrate.Run(t.Context(), source, target, options())
				wantError(t, err, "target_not_empty")
			})
		}
	}
}

func TestTargetThatHoldsAnythingIsRefused(t *testing.T) {
	t.Parallel()
	source := memory.New()
	fill(t, source)
	for name, put := range map[string]func(persistencetest.Store) error{
		"document": func(s persistencetest.Store) error {
			return s.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindServer, ID: "api-key-pepper", Value: []byte("x")}})
		},
		"session": func(s persistencetest.Store) error {
			_, err := s.Commit(t.Context(), messages.Commit{Device: device("x", "y"), Session: []byte("x")})
			return err
		},
		"log": func(s persistencetest.Store) error {
			_, err := s.Commit(t.Context(), messages.Commit{Device: device("app", "y"), Events: []messages.Event{event(device("app", "y"), 1)}})
			return err
		},
	} {
		target := memory.New()
		check(t, put(target))
		before := contents(t, target)
		_, err := migrate.Run(t.Context(), source, target, options())
		wantError(t, err, "target_not_empty")
		if diff := cmp.Diff(before, contents(t, target)); diff != "" {
			t.Errorf("%s: the target has changed: %s", name, diff)
		}
	}
	_, err := migrate.Run(t.Context(), memory.New(), memory.New(), options())
	wantError(t, err, "source_empty")
}

// A migration that ends at any call of the target, with or without its effect, is known as unfinished and can be run again.
func TestInterruptedMigrationBeginsAnew(t *testing.T) {
	t.Parallel()
	source := memory.New()
	fill(t, source)
	want := expected(contents(t, source))
	for _, after := range []bool{false, true} {
		for n := 1; ; n += 1 + n/4 {
			target, beside, o := memory.New(), &beside{}, options()
			o.Session = beside.session
			failing := persistencetest.NewFailing(target, n, after)
			_, err := migrate.Run(t.Context(), source, failing, o)
			if !failing.Failed() {
				check(t, err)
				break
			}
			if !errors.Is(err, persistencetest.ErrInjected) {
				t.Fatalf("call %d after=%v: got %v", n, after, err)
			}
			unfinished := migrate.Check(t.Context(), target)
			if unfinished != nil {
				wantError(t, unfinished, "migration_unfinished")
			}
			if unfinished == nil && len(contents(t, target)) > 0 { // only the answer to the last step was lost
				if diff := cmp.Diff(want, contents(t, target)); diff != "" {
					t.Fatalf("call %d after=%v: a store without a mark is not whole: %.2000s", n, after, diff)
				}
				continue
			}
			if unfinished != nil { // what is gone from the source meanwhile is gone from the target as well
				check(t, target.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindLink, ID: "old", Value: []byte("x")}}))
				_, err := target.Commit(t.Context(), messages.Commit{Device: device("app", "old"), Session: []byte("x")})
				check(t, err, beside.session(t.Context(), device("app", "old"), []byte("x")))
			}
			report, err := migrate.Run(t.Context(), source, target, o)
			check(t, err)
			if len(beside.sessions) != report.Sessions {
				t.Errorf("call %d after=%v: %d sessions are known beside the target, which has %d", n, after, len(beside.sessions), report.Sessions)
			}
			if report.Anew != (unfinished != nil) {
				t.Errorf("call %d after=%v: anew is %v after %v", n, after, report.Anew, unfinished)
			}
			if diff := cmp.Diff(want, contents(t, target)); diff != "" {
				t.Fatalf("call %d after=%v: %.2000s", n, after, diff)
			}
		}
	}
}

// beside is what a target keeps beside sessions.
type beside struct {
	mu       sync.Mutex
	sessions map[messages.DeviceID]bool
}

func (b *beside) session(_ context.Context, id messages.DeviceID, record []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions == nil {
		b.sessions = map[messages.DeviceID]bool{}
	}
	b.sessions[id] = true
	if record == nil {
		delete(b.sessions, id)
	}
	return nil
}

func TestUnfinishedMigrationOfAnotherServerIsRefused(t *testing.T) {
	t.Parallel()
	source, other, target := memory.New(), memory.New(), memory.New()
	fill(t, source)
	fill(t, other)
	check(t, other.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindServer, ID: "api-key-pepper", Value: []byte("other")}}))
	ctx, cancel := context.WithCancel(t.Context())
	o := options()
	o.Progress = func(string, int) { cancel() }
	if _, err := migrate.Run(ctx, source, target, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	_, err := migrate.Run(t.Context(), other, target, options())
	wantError(t, err, "target_of_another")
	_, err = migrate.Run(t.Context(), target, memory.New(), options())
	wantError(t, err, "migration_unfinished")
}

func TestStoreThatIsWrittenMeanwhileIsNoticed(t *testing.T) {
	t.Parallel()
	add := func(s persistencetest.Store) func() error {
		return func() error {
			return s.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindWebhook, ID: "app.extra", Value: []byte("x")}})
		}
	}
	for name, c := range map[string]struct {
		write func(source, target persistencetest.Store) func() error
		want  string
	}{
		"source": {func(source, _ persistencetest.Store) func() error { return add(source) }, "copy_differs"},
		"target": {func(_, target persistencetest.Store) func() error { return add(target) }, "copy_differs"},
		"target's session": {func(_, target persistencetest.Store) func() error {
			return func() error {
				_, err := target.Commit(t.Context(), messages.Commit{Device: device("gone", "dev"), Session: []byte("y")})
				return err
			}
		}, "target_in_use"},
		"target's log": {func(_, target persistencetest.Store) func() error {
			return func() error {
				_, err := target.Commit(t.Context(), messages.Commit{Device: device("app", "dev"), Events: []messages.Event{event(device("app", "dev"), 9999)}})
				return err
			}
		}, "log_differs"},
	} {
		source, target := memory.New(), memory.New()
		fill(t, source)
		write, done := c.write(source, target), false
		o := options()
		o.Progress = func(part string, n int) {
			if last := 8 + 7 + 500; part == "documents" && n == last && !done {
				done = true
				check(t, write())
			}
		}
		_, err := migrate.Run(t.Context(), source, target, o)
		wantError(t, err, c.want)
		if !done {
			t.Errorf("%s: nothing was written meanwhile", name)
		}
	}
}

// once is a store that leaves out an event whose id it has seen.
type once struct {
	persistencetest.Store
	seen map[string]bool
}

func (o once) Commit(ctx context.Context, c messages.Commit) (messages.Revision, error) {
	var events []messages.Event
	for _, e := range c.Events {
		if !o.seen[e.ID] {
			events = append(events, e)
		}
		o.seen[e.ID] = true
	}
	c.Events = events
	return o.Store.Commit(ctx, c)
}

func TestEventThatIsTwiceInTheLogMayBeThereOnce(t *testing.T) {
	t.Parallel()
	ctx, id := t.Context(), device("app", "dev")
	source := memory.New()
	check(t, source.WriteDocuments(ctx, []messages.Write{
		{Kind: messages.KindServer, ID: "api-key-pepper", Value: []byte("pepper")}, {Kind: messages.KindApplication, ID: "app", Value: []byte("{}")},
		{Kind: messages.KindWebhook, ID: "app.a", Value: []byte("{}")}, {Kind: messages.KindWebhook, ID: "app.b", Value: []byte("{}")},
	}))
	_, err := source.Commit(ctx, messages.Commit{Device: id, Events: []messages.Event{event(id, 1), event(id, 2), event(id, 1), event(id, 3), event(id, 3)}})
	check(t, err, source.SaveCursor(ctx, "app/webhook/a", 3), source.SaveCursor(ctx, "app/webhook/b", 4))
	target := memory.New()
	report, err := migrate.Run(ctx, source, once{target, map[string]bool{}}, options())
	check(t, err)
	for name, want := range map[string]uint64{"app/webhook/a": 2, "app/webhook/b": 3} {
		if seq, ok, err := target.LoadCursor(ctx, name); seq != want || !ok || err != nil {
			t.Errorf("cursor %s is %d, %v, %v; want %d", name, seq, ok, err, want)
		}
	}
	if entries, err := target.ReadLog(ctx, "app", 0, 10); err != nil || len(entries) != 3 {
		t.Errorf("%d entries, %v; report %+v", len(entries), err, report)
	}
}
