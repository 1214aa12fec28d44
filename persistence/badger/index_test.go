package badger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	bdb "github.com/dgraph-io/badger/v4"

	"lorikeet/messages"
)

// commitEvents appends n events of three devices in turn, one minute apart, and gives the ids of each device's.
func commitEvents(t *testing.T, s *Store, n int, start time.Time) map[string][]string {
	t.Helper()
	ids := make(map[string][]string)
	var events []messages.Event
	for i := range n {
		d := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("dev-%d", i%3)}
		e := messages.Event{ID: fmt.Sprint(i), Device: d, Type: messages.EventUplink, Time: start.Add(time.Duration(i) * time.Minute), JSON: []byte(`{}`)}
		events = append(events, e)
		ids[d.DeviceID] = append(ids[d.DeviceID], e.ID)
		if len(events) < 100 && i < n-1 {
			continue
		}
		if _, err := s.Commit(t.Context(), messages.Commit{Device: d, Events: events}); err != nil {
			t.Fatal(err)
		}
		events = nil
	}
	return ids
}

func historyOf(t *testing.T, s *Store, device string, newestFirst bool) (ids []string) {
	t.Helper()
	q := messages.HistoryQuery{ApplicationID: "app", DeviceID: device, NewestFirst: newestFirst, Max: 4}
	for {
		page, err := s.ReadHistory(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			ids = append(ids, e.ID)
		}
		if q.From = page.Next; q.From == 0 {
			return ids
		}
	}
}

func indexSize(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.db.View(func(txn *bdb.Txn) error {
		it := txn.NewIterator(bdb.IteratorOptions{Prefix: []byte{familyIndex}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A log that has keys in the index from somewhere on only is read as if it had all of them.
func TestHistoryOfAPartlyIndexedLog(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, testConfig(t.TempDir()))
	want := commitEvents(t, s, 30, time.Unix(1_700_000_000, 0))
	a := s.appLog("app", false)
	for _, indexed := range []uint64{1, 2, 15, 30, 31} {
		a.mu.Lock()
		a.meta.indexed = indexed
		a.mu.Unlock()
		for device, ids := range want {
			if got := historyOf(t, s, device, false); !slices.Equal(got, ids) {
				t.Errorf("indexed from %d: %s has %v, want %v", indexed, device, got, ids)
			}
			back := slices.Clone(ids)
			slices.Reverse(back)
			if got := historyOf(t, s, device, true); !slices.Equal(got, back) {
				t.Errorf("indexed from %d: %s newest first has %v, want %v", indexed, device, got, back)
			}
			counts, err := s.CountHistory(t.Context(), messages.HistoryQuery{ApplicationID: "app", DeviceID: device})
			if err != nil || counts[device] != uint64(len(ids)) || len(counts) != 1 {
				t.Errorf("indexed from %d: %s counts %v, %v", indexed, device, counts, err)
			}
		}
	}
}

// A store that was written before there was an index gets one when it is opened.
func TestOldStoreGetsItsIndex(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const n = 2*trimChunk + 300
	want := commitEvents(t, s, n, time.Now().Add(-time.Hour))
	key := nameKey(familyApp, "app")
	_, number, err := s.fetch(key)
	if err != nil {
		t.Fatal(err)
	}
	m := s.appLog("app", false).view()
	// What the version before has written: no keys, and a meta record that ends with bytes.
	record := encodeMeta(m)
	record = record[:len(record)-1] // indexed is 1
	finishRecord(key, record, number)
	if err := s.db.DropPrefix([]byte{familyIndex}); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Update(func(txn *bdb.Txn) error { return txn.Set(key, record) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, cfg)
	if got := historyOf(t, s, "dev-1", false); !slices.Equal(got, want["dev-1"]) {
		t.Errorf("while there is no index yet: %d entries, want %d", len(got), len(want["dev-1"]))
	}
	waitUntil(t, func() bool { return s.appLog("app", false).view().indexed == 1 })
	if got := indexSize(t, s); got != n {
		t.Errorf("the index has %d keys, want %d", got, n)
	}
	if got := historyOf(t, s, "dev-1", false); !slices.Equal(got, want["dev-1"]) {
		t.Errorf("with an index: %d entries, want %d", len(got), len(want["dev-1"]))
	}
}

func waitUntil(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited a minute in vain")
		}
	}
}

// What leaves the log leaves the index.
func TestIndexIsTrimmedWithTheLog(t *testing.T) {
	t.Parallel()
	now := time.Now()
	cfg := testConfig(t.TempDir())
	cfg.Now, cfg.Retention = func() time.Time { return now }, time.Hour
	s := mustOpen(t, cfg)
	want := commitEvents(t, s, 100, now.Add(-100*time.Minute)) // the first 40 are too old
	if err := s.trimAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := indexSize(t, s); got != 60 {
		t.Errorf("the index has %d keys, want 60", got)
	}
	for device, ids := range want {
		got := historyOf(t, s, device, false)
		if !slices.Equal(got, ids[len(ids)-20:]) {
			t.Errorf("%s has %v", device, got)
		}
	}
	if err := s.DeleteApplication(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if err := s.trimAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := indexSize(t, s); got != 0 {
		t.Errorf("the index of a deleted application has %d keys", got)
	}
}
