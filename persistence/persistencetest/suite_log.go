package persistencetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func testDocuments(t *testing.T, s Store) {
	ctx := t.Context()
	for _, kind := range []messages.Kind{messages.KindDevice, messages.KindApplication} {
		if _, err := s.GetDocument(ctx, kind, "x"); !errors.Is(err, messages.ErrNotFound) {
			t.Errorf("no document: %v", err)
		}
		write := func(value []byte, expect bool, rev messages.Revision) error {
			return s.WriteDocuments(ctx, []messages.Write{{Kind: kind, ID: "x", Value: value, Expect: expect, Revision: rev}})
		}
		if err := write([]byte("one"), true, 0); err != nil {
			t.Fatal(err)
		}
		one := must[messages.Document](t)(s.GetDocument(ctx, kind, "x"))
		if one.Kind != kind || one.ID != "x" || string(one.Value) != "one" || one.Revision == 0 {
			t.Errorf("document is %+v", one)
		}
		if err := write([]byte("no"), true, 0); !errors.Is(err, messages.ErrConflict) {
			t.Errorf("create twice: %v", err)
		}
		if err := write([]byte{}, false, 0); err != nil {
			t.Fatal(err)
		}
		two := must[messages.Document](t)(s.GetDocument(ctx, kind, "x"))
		if two.Value == nil || len(two.Value) != 0 || two.Revision <= one.Revision {
			t.Errorf("document is %+v", two)
		}
		if err := write(nil, true, one.Revision); !errors.Is(err, messages.ErrConflict) {
			t.Errorf("delete at a stale revision: %v", err)
		}
		if err := errors.Join(write(nil, true, two.Revision), write(nil, false, 0), write(nil, true, 0)); err != nil {
			t.Errorf("delete: %v", err)
		}
		if _, err := s.GetDocument(ctx, kind, "x"); !errors.Is(err, messages.ErrNotFound) {
			t.Errorf("deleted document: %v", err)
		}
	}
	if err := s.WriteDocuments(ctx, nil); err != nil {
		t.Errorf("no writes: %v", err)
	}
}

func testListDocuments(t *testing.T, s Store) {
	ctx := t.Context()
	var writes []messages.Write
	for _, id := range []string{"a.1", "a.2", "a.3", "a-b.1", "b.1"} {
		writes = append(writes, messages.Write{Kind: messages.KindDevice, ID: id, Value: []byte(id)})
	}
	writes = append(writes, messages.Write{Kind: "de", ID: "v", Value: []byte("other kind")}, messages.Write{Kind: "devs", ID: "a.1", Value: []byte("other kind")})
	if err := s.WriteDocuments(ctx, writes); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 0, []string{"a-b.1", "a.1", "a.2", "a.3", "b.1"}},
		{"", "", 2, []string{"a-b.1", "a.1"}},
		{"a.", "", 0, []string{"a.1", "a.2", "a.3"}},
		{"a.", "a.1", 1, []string{"a.2"}},
		{"a.", "a.3", 0, nil},
		{"a.", "a.1x", 0, []string{"a.2", "a.3"}},
		{"a.", "a", 0, []string{"a.1", "a.2", "a.3"}},
		{"a.", "b", 0, nil},
		{"b.1", "", 0, []string{"b.1"}},
		{"b.1", "b.1", 0, nil},
		{"", "a.2", 0, []string{"a.3", "b.1"}},
		{"c", "", 0, nil},
	} {
		var got []string
		for _, d := range must[[]messages.Document](t)(s.ListDocuments(ctx, messages.KindDevice, c.prefix, c.after, c.limit)) {
			if d.Kind != messages.KindDevice || string(d.Value) != d.ID || d.Revision == 0 {
				t.Errorf("list gives %+v", d)
			}
			got = append(got, d.ID)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("prefix %q after %q limit %d: %s", c.prefix, c.after, c.limit, d)
		}
	}
	var scanned []string
	if err := s.ScanDocuments(ctx, messages.KindDevice, func(d messages.Document) error {
		again := must[messages.Document](t)(s.GetDocument(ctx, d.Kind, d.ID)) // a scan may call the store
		scanned = append(scanned, string(again.Value))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a-b.1", "a.1", "a.2", "a.3", "b.1"}, scanned); d != "" {
		t.Error(d)
	}
	boom := errors.New("boom")
	if err := s.ScanDocuments(ctx, messages.KindDevice, func(messages.Document) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("scan gives %v", err)
	}
}

func testWriteDocumentsIsAtomic(t *testing.T, s Store) {
	ctx := t.Context()
	write := func(id, value string, expect bool) messages.Write {
		return messages.Write{Kind: messages.KindDeviceEUI, ID: id, Value: []byte(value), Expect: expect}
	}
	if err := s.WriteDocuments(ctx, []messages.Write{write("1", "a", true), write("2", "b", true)}); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteDocuments(ctx, []messages.Write{write("3", "c", true), write("1", "no", false), write("2", "no", true)}); !errors.Is(err, messages.ErrConflict) {
		t.Fatalf("one expectation is wrong: %v", err)
	}
	docs := must[[]messages.Document](t)(s.ListDocuments(ctx, messages.KindDeviceEUI, "", "", 0))
	if len(docs) != 2 || string(docs[0].Value) != "a" || string(docs[1].Value) != "b" || docs[0].Revision == 0 {
		t.Errorf("after a refused change: %+v", docs)
	}
	// Expectations are about the state before the call, and the later of two writes wins.
	if err := s.WriteDocuments(ctx, []messages.Write{write("4", "first", true), write("4", "second", true)}); err != nil {
		t.Fatal(err)
	}
	if d := must[messages.Document](t)(s.GetDocument(ctx, messages.KindDeviceEUI, "4")); string(d.Value) != "second" {
		t.Errorf("document is %q", d.Value)
	}
}

func (o Options) testEventsComeBackWhole(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	full := messages.Event{
		ID: "id/1:é", Device: d, DevEUI: messages.EUI64{1, 2, 3, 4, 5, 6, 7, 8}, JoinEUI: messages.EUI64{8, 7, 6, 5, 4, 3, 2, 1},
		DevAddr: messages.DevAddr{0xfe, 0xed, 0xbe, 0xef}, Type: messages.EventDownFailed,
		Time: time.Date(2026, 2, 3, 4, 5, 6, 789, time.FixedZone("", 3600)), JSON: []byte(`{"a":"\u0000"}`),
	}
	events := []messages.Event{full, {Device: d}, event(d, 3)}
	must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Events: events}))
	got := must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", 0, 10))
	for i, e := range got {
		if o.Dense && e.Seq != uint64(i+1) {
			t.Errorf("entry %d has Seq %d", i, e.Seq)
		}
		if i < len(events) && !sameEvent(events[i], e.Event) {
			t.Errorf("event %d: %s", i, cmp.Diff(events[i], e.Event))
		}
	}
	if len(got) != len(events) {
		t.Errorf("got %d entries", len(got))
	}
}

func sameEvent(a, b messages.Event) bool {
	return a.ID == b.ID && a.Device == b.Device && a.DevEUI == b.DevEUI && a.JoinEUI == b.JoinEUI && a.DevAddr == b.DevAddr &&
		a.Type == b.Type && a.Time.Equal(b.Time) && bytes.Equal(a.JSON, b.JSON)
}

func (o Options) testReadLog(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	if first, last, err := s.LogRange(ctx, "app"); err != nil || first != last+1 || o.Dense && first != 1 {
		t.Errorf("range of an empty log is %d to %d, %v", first, last, err)
	}
	const n = 1500
	for from := 0; from < n; from += 100 {
		var events []messages.Event
		for i := range 100 {
			events = append(events, event(d, from+i+1))
		}
		must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Events: events}))
	}
	must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: device("app2", "dev"), Events: []messages.Event{event(device("app2", "dev"), 1)}}))
	must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: device("ap", "dev"), Events: []messages.Event{event(device("ap", "dev"), 1)}}))
	all := o.wholeLog(t, s, "app")
	if len(all) != n {
		t.Fatalf("%d entries, want %d", len(all), n)
	}
	seq := func(i int) uint64 { // of the i-th entry, from 1
		if i == 0 {
			return 0
		}
		return all[i-1].Seq
	}
	for _, c := range []struct {
		after uint64
		max   int
		first int // entry
		count int
	}{{0, 1, 1, 1}, {0, 10, 1, 10}, {0, 0, 1, 1000}, {seq(499), 3, 500, 3}, {seq(1490), 100, 1491, 10}, {seq(1499), 1, 1500, 1}, {seq(1500), 1, 0, 0}, {seq(1500) * 9, 1, 0, 0}, {math.MaxUint64, 5, 0, 0}, {0, 5000, 1, 1500}} {
		got := must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", c.after, c.max))
		if len(got) != c.count {
			t.Errorf("after %d max %d: %d entries, want %d", c.after, c.max, len(got), c.count)
			continue
		}
		for i, e := range got {
			if e.Seq != seq(c.first+i) || !sameEvent(e.Event, event(d, c.first+i)) {
				t.Fatalf("after %d max %d: entry %d is %d %s", c.after, c.max, i, e.Seq, e.ID)
			}
		}
	}
	if got := must[[]messages.LogEntry](t)(s.ReadLog(ctx, "nobody", 0, 10)); len(got) != 0 {
		t.Errorf("log of nobody has %d entries", len(got))
	}
	if first, last, err := s.LogRange(ctx, "app"); err != nil || first > seq(1) || last < seq(n) || o.Dense && (first != 1 || last != n) {
		t.Errorf("range is %d to %d, %v", first, last, err)
	}
}

// Commits without events do not count.
func testCountLog(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	var rev messages.Revision
	for i := range 20 {
		rev = must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Expected: rev, Session: []byte("x"), Events: []messages.Event{event(d, i), event(d, i+100)}}))
		rev = must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Expected: rev, Session: []byte("y")}))
	}
	all := must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", 0, 100))
	if len(all) != 40 {
		t.Fatalf("%d entries", len(all))
	}
	for _, c := range []struct{ after, upTo, want uint64 }{
		{0, math.MaxUint64, 40}, {all[4].Seq, math.MaxUint64, 35}, {all[4].Seq, all[9].Seq, 5}, {all[9].Seq, all[9].Seq, 0},
		{all[9].Seq, all[4].Seq, 0}, {all[39].Seq, math.MaxUint64, 0}, {math.MaxUint64, math.MaxUint64, 0}, {0, 0, 0},
	} {
		if n, err := s.CountLog(ctx, "app", c.after, c.upTo); err != nil || n != c.want {
			t.Errorf("between %d and %d: %d, %v, want %d", c.after, c.upTo, n, err, c.want)
		}
	}
	if n, err := s.CountLog(ctx, "nobody", 0, math.MaxUint64); err != nil || n != 0 {
		t.Errorf("log of nobody has %d entries, %v", n, err)
	}
}

func (o Options) testWatchLog(t *testing.T, s Store) {
	ctx, d := t.Context(), device("app", "dev")
	changed, cancel := s.WatchLog("app")
	other, cancelOther := s.WatchLog("app")
	cancelOther()
	foreign, cancelForeign := s.WatchLog("foreign")
	defer cancelForeign()
	commit := func() {
		t.Helper()
		must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Events: []messages.Event{event(d, 1)}}))
	}
	commit()
	commit() // nobody takes the first signal: the committer must not wait
	if o.Dense && len(changed) == 0 {
		t.Fatal("no signal after a commit had returned")
	}
	<-changed
	select {
	case <-o.strict(changed):
		t.Error("two signals for what one takes")
	case <-other:
		t.Error("signal after cancel")
	case <-o.strict(foreign):
		t.Error("signal for another application")
	default:
	}
	commit()
	<-changed
	if n := len(must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", 0, 10))); n != 3 {
		t.Errorf("%d entries after the signal", n)
	}
	must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Session: []byte("x")}))
	select {
	case <-o.strict(changed):
		t.Error("signal without events")
	default:
	}
	cancel()
	cancel()
	select {
	case <-changed:
	default:
	}
	commit()
	if n := len(must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", 0, 10))); n != 4 {
		t.Errorf("%d entries at the end", n)
	}
	select {
	case <-changed:
		t.Error("signal after cancel")
	default:
	}
}

// strict gives the channel only where a spurious signal is not allowed.
func (o Options) strict(changed <-chan struct{}) <-chan struct{} {
	if o.Dense {
		return changed
	}
	return nil
}

func testCursors(t *testing.T, s Store) {
	ctx := t.Context()
	want := func(name string, seq uint64, ok bool) {
		t.Helper()
		if got, gotOK, err := s.LoadCursor(ctx, name); err != nil || got != seq || gotOK != ok {
			t.Errorf("cursor %s is %d, %v, %v; want %d, %v", name, got, gotOK, err, seq, ok)
		}
	}
	want("app/x", 0, false)
	for i, seq := range []uint64{0, 7, 3, math.MaxUint64, 3} {
		if err := s.SaveCursor(ctx, "app/x", seq); err != nil {
			t.Fatalf("save %d: %v", i, err)
		}
		want("app/x", seq, true)
	}
	want("app/xy", 0, false)
	if err := errors.Join(s.DeleteCursor(ctx, "app/x"), s.DeleteCursor(ctx, "app/x")); err != nil {
		t.Fatal(err)
	}
	want("app/x", 0, false)
}

func (o Options) testDeleteApplication(t *testing.T, s Store) {
	ctx, d, other := t.Context(), device("app", "dev"), device("app-2", "dev")
	for i := range 10 {
		must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Events: []messages.Event{event(d, i)}}))
		must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: other, Events: []messages.Event{event(other, i)}}))
	}
	for _, name := range []string{"app/a", "app/b", "app-2/a"} {
		if err := s.SaveCursor(ctx, name, 4); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.DeleteApplication(ctx, "app"), s.DeleteApplication(ctx, "app"), s.DeleteApplication(ctx, "nobody")); err != nil {
		t.Fatal(err)
	}
	first, last, err := s.LogRange(ctx, "app")
	if err != nil || first != last+1 {
		t.Errorf("range after deletion is %d to %d, %v", first, last, err)
	}
	if n := len(must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", 0, 100))); n != 0 {
		t.Errorf("%d entries after deletion", n)
	}
	if n := len(must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app-2", 0, 100))); n != 10 {
		t.Errorf("%d entries of another application are left", n)
	}
	for name, kept := range map[string]bool{"app/a": false, "app/b": false, "app-2/a": true} {
		if _, ok, err := s.LoadCursor(ctx, name); err != nil || ok != kept {
			t.Errorf("cursor %s: %v, %v", name, ok, err)
		}
	}
	must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Events: []messages.Event{event(d, 77)}}))
	got := must[[]messages.LogEntry](t)(s.ReadLog(ctx, "app", last, 100))
	if len(got) != 1 || got[0].Seq <= last || o.Dense && got[0].Seq != last+1 || got[0].ID != fmt.Sprintf("%s-77", d.UID()) {
		t.Errorf("a log that is written again gives %+v", got)
	}
}
